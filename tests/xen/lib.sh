# SPDX-License-Identifier: MIT
# What every scenario in dom0 uses.  Results go out on ttyS1.

say() {
    echo "$*" >/dev/ttyS1
    echo "[$(cut -d' ' -f1 /proc/uptime)] $*"
}

ok() {
    say "ok $scenario: $*"
}

not_ok() {
    failed=1
    say "not ok $scenario: $*"
}

# check TEXT COMMAND...: the command succeeds.
check() {
    text=$1
    shift
    if "$@"; then
        ok "$text"
    else
        not_ok "$text"
    fi
}

send_file() {
    {
        echo "file $scenario.$2"
        gzip -c "$1" | base64
        echo end
    } >/dev/ttyS1
}

scenario_begin() {
    scenario=$1
    failed=0
    dmesg -c >/dev/null
    rm -f /var/log/xen/guest-*.log
}

# A BUG or an oops of dom0's kernel fails the scenario that it happened in.
scenario_end() {
    stop_daemon
    dmesg >/tmp/dmesg
    if grep -qE 'BUG|Oops|Bad page|I/O error|Call Trace' /tmp/dmesg; then
        not_ok "dom0's kernel log is clean"
    fi
    if [ $failed = 1 ]; then
        send_file /tmp/dmesg dmesg
        xenstore-ls -f >/tmp/xs 2>&1
        send_file /tmp/xs xenstore
        [ -f /tmp/daemon.log ] && send_file /tmp/daemon.log daemon
        for f in /var/log/xen/guest-*.log; do
            [ -f "$f" ] && send_file "$f" "$(basename "$f")"
        done
    fi
    say "done $scenario"
}

start_daemon() {
    freehold serve --verbose "$@" >/tmp/daemon.log 2>&1 &
    daemon=$!
    wait_until 10 freehold list >/dev/null 2>&1
}

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill "$daemon" 2>/dev/null
    wait "$daemon" 2>/dev/null
    daemon=
}

# wait_until SECONDS COMMAND...
wait_until() {
    n=$(($1 * 10))
    shift
    while [ $n -gt 0 ]; do
        "$@" && return 0
        sleep 0.1
        n=$((n - 1))
    done
    return 1
}

# guest NAME DISK EXTRA: configuration of a PV guest.
guest() {
    cat >"/tmp/$1.cfg" <<EOF
name = "$1"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/guest.cpio.gz"
memory = 640
vcpus = 1
on_poweroff = "destroy"
on_crash = "destroy"
disk = [ $2 ]
extra = "console=hvc0 quiet $3"
EOF
}

gone() {
    ! xl list "$1" >/dev/null 2>&1
}

log_of() {
    cat "/var/log/xen/guest-$1.log" 2>/dev/null | tr -d '\r'
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
    log_of "$1" | grep -qE "$2"
}

no_error() {
    ! log_of "$1" | grep -qE 'I/O error|blk_update_request|Oops|BUG'
}

no_disks() {
    [ "$(freehold list --json | tr -d ' \n' | grep -c '"devices":\[\]')" = 1 ]
}

create() {
    xl create -q "/tmp/$1.cfg" >"/tmp/create.$1" 2>&1 && return
    cat "/tmp/create.$1"
    return 1
}
