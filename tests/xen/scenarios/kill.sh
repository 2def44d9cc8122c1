# SPDX-License-Identifier: MIT
# Workers are killed under a guest's verified writes on three disks at once:
# persistent grants on a file and on a slow device, grant copy on a file.  The
# guest sees a pause, no error, and the right bytes; and no grant of it stays
# mapped.
# limit: 600

insmod /mods/brd.ko rd_nr=1 rd_size=8192
insmod /mods/dm-mod.ko
insmod /mods/dm-delay.ko
DM_DISABLE_UDEV=1 dmsetup create slow --table "0 16384 delay /dev/ram0 0 30"
check "a slow device" [ -b /dev/mapper/slow ]
truncate -s 8M /tmp/file.img /tmp/copy.img

check "the daemon starts" start_daemon
guest k1 "$(disk /tmp/file.img), $(disk /dev/mapper/slow xvdb)" \
    "do=loop3,sum,stay persistent=1"
check "xl create" create k1 || return
wait_until 120 grep_log k1 '^GUEST wants xvdc' || not_ok "it starts"
check "xl block-attach" \
    xl block-attach k1 "$(disk /tmp/copy.img xvdc | tr -d "'")"
for d in a b c; do
    check "xvd$d is written to" wait_until 60 grep_log k1 "^GUEST round 1 xvd$d"
done
check "persistent grants on the file and the slow device, else copy" \
    [ "$(about_disks k1 '"\(.vdev) \(.grants)"' | sort | tr '\n' ' ')" = \
    "xvda persistent xvdb persistent xvdc copy " ]

kill_workers k1 3
check "the last is followed by another" wait_until 30 served k1
check "workers were killed ($killed, pauses in ms: $(about_disks k1 \
    .longest_pause_ms | tr '\n' ' '))" [ "$killed" = 3 ]
check "it ends its work" ask_to_end k1
check_guest k1 loop3 sum
check "the file has what it wrote" same_sum /tmp/file.img k1
check "the slow device has" same_sum /dev/mapper/slow k1 xvdb
check "the other file has" same_sum /tmp/copy.img k1 xvdc
for d in xvda xvdb xvdc; do
    check "xl block-detach of $d" xl block-detach k1 $d
done
check "no grant of it is mapped" only_its_own_grants k1
