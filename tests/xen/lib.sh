# SPDX-License-Identifier: MIT
# What every scenario in dom0 uses.  Results go out on ttyS1.

# What makes dom0's kernel quicker does so for its guests.
quick=$(grep -o 'mitigations=off pci=noearly' /proc/cmdline)

say() {
    echo "$*" >/dev/ttyS1
    read -r up _ </proc/uptime
    echo "[$up] $*"
}

ok() {
    say "ok $scenario: $*"
}

not_ok() {
    failed=1
    say "not ok $scenario: $*"
}

# check TEXT COMMAND...: the command succeeds; its status.
check() {
    text=$1
    shift
    if "$@"; then
        ok "$text"
    else
        not_ok "$text"
        return 1
    fi
}

send_file() {
    {
        echo "file $scenario.$2"
        gzip -c "$1" | base64
        echo end
    } >/dev/ttyS1
}

# scenario_run NAME: as a session of its own, and not for ever.
scenario_run() {
    scenario=$1
    limit=$(sed -n 's/^# limit: *\([0-9]*\).*/\1/p' "/scenarios/$1.sh")
    limit=${limit:-300}
    ! grep -q '^# clock:' "/scenarios/$1.sh" || limit=$((limit * 20))
    rm -rf /tmp/* /var/log/xen/guest-*.log
    dmesg -c >/dev/null
    setsid sh -c ". /scenarios/lib.sh; scenario=$1; failed=0
        . /scenarios/$1.sh; scenario_end" &
    session=$!
    if ! wait_until "$limit" ended $session; then
        kill -9 -$session
        not_ok "it did not end in $limit s"
        scenario_end
    elif ! wait $session; then
        not_ok "its shell did not end well"
        scenario_end
    fi
}

# What a scenario leaves behind is cleared away; what it should not leave
# behind fails it: a BUG or an oops of dom0's kernel, a core file.
scenario_end() {
    end_guests
    stop_daemon
    dmesg >/tmp/dmesg
    if grep -E 'BUG|Oops|Bad page|I/O error|Call Trace' /tmp/dmesg >/tmp/bad
    then
        not_ok "dom0's kernel log is clean ($(head -1 /tmp/bad))"
    fi
    for f in /tmp/core.*; do
        [ ! -e "$f" ] || not_ok "a program crashed: $f"
    done
    [ $failed = 0 ] || send_logs
    rm -f /tmp/core.*
    say "done $scenario"
}

send_logs() {
    send_file /tmp/dmesg dmesg
    xenstore-ls -f >/tmp/xs 2>&1
    send_file /tmp/xs xenstore
    xl dmesg >/tmp/xl-dmesg 2>&1
    send_file /tmp/xl-dmesg xen
    for f in /tmp/*.log /var/log/xen/*.log; do
        [ ! -f "$f" ] || send_file "$f" "$(basename "$f")"
    done
}

# Every guest that is still there.  One that stays after that has grants that
# somebody still has mapped.
end_guests() {
    for id in $(xenstore-list /local/domain 2>/dev/null); do
        [ "$id" = 0 ] || xl destroy "$id" >>/tmp/destroy.log 2>&1
    done
    wait_until 15 no_guests || not_ok "a guest stays a zombie: $(xl list)"
}

no_guests() {
    [ "$(xl list | wc -l)" -le 2 ]
}

# Grants of a guest that are mapped, by Xen's own listing; its console's and
# its xenstore's are two.
mapped_grants() {
    id=$(id_of "$1")
    xl debug-keys g
    sleep 0.3
    xl dmesg -c | tr -d '\r' | awk -v d="d$id" '
        /grant-table for remote/ { mine = $0 ~ d " " }
        mine && /\[0x/ { n++ }
        END { print n + 0 }'
}

only_its_own_grants() {
    n_mapped=$(mapped_grants "$1")
    [ "$n_mapped" -le 2 ]
}

start_daemon() {
    freehold serve --verbose "$@" >>/tmp/daemon.log 2>&1 &
    echo $! >/tmp/daemon.pid
    wait_until 20 freehold list >/dev/null 2>&1
}

ended() {
    ! kill -0 "$1" 2>/dev/null
}

daemon() {
    cat /tmp/daemon.pid 2>/dev/null
}

stop_daemon() {
    pid=$(daemon)
    [ -n "$pid" ] || return 0
    kill "$pid" 2>/dev/null
    wait_until 20 ended "$pid" || kill -9 "$pid"
    rm -f /tmp/daemon.pid
}

now() {
    cut -d. -f1 /proc/uptime
}

# wait_until SECONDS COMMAND...: what it asks, it asks again and again beside
# the guest, on two emulated processors at most, and to start a program costs
# more than most: less and less often.
wait_until() {
    local due up nap=2
    read -r up _ </proc/uptime
    due=$((${up%.*} + $1))
    shift
    until "$@"; do
        read -r up _ </proc/uptime
        [ "${up%.*}" -lt $due ] || return 1
        sleep 0.$nap
        [ $nap = 9 ] || nap=$((nap + 1))
    done
}

# disk IMAGE [VDEV]: a disk of ours, as xl.cfg's list has it.
disk() {
    echo "'format=raw,vdev=${2:-xvda},access=rw,script=block-freehold,target=$1'"
}

# guest NAME DISK EXTRA [MORE]: configuration of a PV guest; MORE are lines of
# xl.cfg that replace or add to it.
guest() {
    cat >/tmp/defaults <<EOF
name = "$1"
kernel = "/guest/vmlinux"
ramdisk = "/guest/guest.cpio"
memory = 384
vcpus = 1
on_poweroff = "destroy"
on_reboot = "restart"
on_crash = "destroy"
disk = [ $2 ]
extra = "console=hvc0 quiet $quick $3"
EOF
    echo "$4" >"/tmp/$1.cfg"
    while read -r line; do
        grep -q "^${line%%=*}=" "/tmp/$1.cfg" || echo "$line"
    done </tmp/defaults >>"/tmp/$1.cfg"
}

# note_id GUEST, id_of GUEST: its domain since it was created or came back.
note_id() {
    xl domid "$1" >"/tmp/$1.id" 2>/dev/null
}

id_of() {
    cat "/tmp/$1.id"
}

gone() {
    ! xenstore-exists "/local/domain/$(id_of "$1")"
}

log_of() {
    tr -d '\r' <"/var/log/xen/guest-$1.log"
}

# check_guest NAME WORD...: each of its jobs said ok, and no I/O error.
check_guest() {
    name=$1
    shift
    for w in "$@"; do
        check "$name: $w" grep_log "$name" "^GUEST ok $w"
    done
    check "$name: no I/O error in its log" no_error "$name"
}

grep_log() {
    grep -qaE "$2" "/var/log/xen/guest-$1.log" 2>/dev/null
}

no_error() {
    ! grep_log "$1" 'I/O error|blk_update_request|Oops|BUG'
}

no_disks() {
    [ "$(freehold list --json | jq '.devices | length')" = 0 ]
}

# same_sum IMAGE GUEST [DISK]: the image has what its guest saw last.
same_sum() {
    [ "$(/bin/sha256sum <"$1" | cut -d' ' -f1)" = \
        "$(log_of "$2" | sed -n "s/^GUEST sum ${3:-xvda} //p")" ]
}

# create GUEST [OPTION...]
create() {
    local name=$1
    shift
    if ! xl create -q "$@" "/tmp/$name.cfg" >"/tmp/create.$name" 2>&1; then
        cat "/tmp/create.$name"
        return 1
    fi
    note_id "$name"
}

# about_disks GUEST FILTER: what the daemon says of each; the filter is jq's.
about_disks() {
    freehold status --json 2>/dev/null | jq -r --argjson id "$(id_of "$1")" \
        ".devices[] | select(.domid == \$id) | $2"
}

# disk_of GUEST FIELD [DISK]
disk_of() {
    about_disks "$1" "select(.vdev == \"${3:-xvda}\") | .$2 // empty"
}

worker() {
    disk_of "$1" worker_pid
}

# kill_workers GUEST N: kills N workers of it, each when it has served all its
# disks for a moment; how many in $killed.
kill_workers() {
    local name=$1 n=$2 last=0 give_up=$(($(now) + 120))
    killed=0
    while [ $killed -lt "$n" ] && [ "$(now)" -lt $give_up ]; do
        set -- $(about_disks "$name" '"\(.worker_pid) \(.state)"' | sort -u)
        if [ $# = 2 ] && [ "$2" = connected ] && [ "$1" != "$last" ]; then
            last=$1
            sleep 1
            kill -9 "$last" && killed=$((killed + 1))
        fi
        sleep 0.2
    done
}

# ask_to_end GUEST: it ends its loop, adds up what the disk has, and stays.
ask_to_end() {
    xl shutdown "$1" >/tmp/shutdown.log 2>&1
    wait_until 120 ended_or_at "$1" '^GUEST (stays|end)'
}

ended_or_at() {
    gone "$1" || grep_log "$1" "$2"
}

# refused COMMAND...: it fails; what it said is in /tmp/refused.
refused() {
    ! "$@" >/tmp/refused 2>&1
}

# rebooted GUEST ID: it is another domain now.
rebooted() {
    note_id "$1" && [ "$(id_of "$1")" != "$2" ]
}

# Every disk of the guest is.
served() {
    [ "$(about_disks "$1" .state | sort -u)" = connected ]
}

# Of all processes of ours only the daemon is left.
one_daemon() {
    [ "$(pidof freehold)" = "$(daemon)" ] && no_broker
}

no_broker() {
    [ -z "$(pidof freehold-broker)" ]
}

# ended_or_bad GUEST: it is gone, or will never be.
ended_or_bad() {
    gone "$1" || grep_log "$1" 'disabled for further use|Kernel panic'
}

# emulator_lost GUEST: before its first job was done, QEMU's SVM let it run at
# an address of Xen's own, in Xen's code segment, where it triple-faults.  No
# guest can get there.
emulator_lost() {
    ! grep_log "$1" '^GUEST (ok|FAILED)' &&
        xl dmesg | grep -A 5 "d$(id_of "$1")v0 Triple fault" |
        tr -d '\r\n' | grep -q 'e008:\[<ffff82d0[0-9a-f]*>\].*: hvm guest'
}

# run_in_hardware GUEST SECONDS: is created and ends, and once more if the
# emulator lost it.
run_in_hardware() {
    create "$1" && wait_until "$2" ended_or_bad "$1" || return
    emulator_lost "$1" || return 0
    say "# $scenario: the emulator lost $1 (xl dmesg says so): once more"
    xl dmesg -c >/dev/null
    create "$1" && wait_until "$2" ended_or_bad "$1"
}
