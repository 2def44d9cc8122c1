# SPDX-License-Identifier: MIT
# Workers are killed under a guest's verified writes, with persistent grants
# and with grant copy, on a file and on a slow device: the guest sees a pause,
# no error, and the right bytes; and no grant of it stays mapped.
# limit: 600

insmod /mods/brd.ko rd_nr=1 rd_size=32768
insmod /mods/dm-mod.ko
insmod /mods/dm-delay.ko
DM_DISABLE_UDEV=1 dmsetup create slow --table "0 65536 delay /dev/ram0 0 30"
check "a slow device" [ -b /dev/mapper/slow ]

# killed_under NAME IMAGE PERSISTENT
killed_under() {
    guest "$1" "$(disk "$2")" "do=loop,sum,stay persistent=$3"
    check "$1: xl create" create "$1" || return
    wait_until 180 grep_log "$1" '^GUEST round 1' || not_ok "$1: starts"
    kill_workers "$1" 3
    wait_until 30 served "$1"
    check "$1: workers were killed ($killed, pause $(disk_of "$1" \
        longest_pause_ms) ms)" [ "$killed" = 3 ]
    check "$1: it ends its work" ask_to_end "$1"
    check_guest "$1" loop sum
    check "$1: the image has what it wrote" same_sum "$2" "$1"
    check "$1: its disk is detached" xl block-detach "$1" xvda
    check "$1: no grant of it is mapped" only_its_own_grants "$1"
    xl destroy "$1"
}

check "the daemon starts" start_daemon
truncate -s 32M /tmp/file.img
killed_under persistent /tmp/file.img 1
killed_under copy /tmp/file.img 0
killed_under slow /dev/mapper/slow 1
