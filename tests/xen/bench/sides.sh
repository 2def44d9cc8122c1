# SPDX-License-Identifier: MIT
# limit: 7200
# The same I/O of the same guests by one backend after the other, in one boot.
# bench.conf says which: sides, guests, cells, window_ms, ramp_ms.
#
# A side is a backend, or a way of freehold's with grants, and what it is served
# with: "copy+nobroker", "persistent+nosandbox", "persistent+base" (another
# build, to compare with).
. /scenarios/bench.conf

region=64m
seq=0
warming=0
path=$PATH

# The hotplug script of a phy disk, as much of it as a test needs.
cat >/etc/xen/scripts/block <<'EOF'
#!/bin/sh
export PATH=/bin:/sbin:/usr/bin
if [ "$1" = add ]; then
    dev=$(xenstore-read "$XENBUS_PATH/params")
    xenstore-write "$XENBUS_PATH/physical-device" "$(stat -c %t:%T "$dev")" \
        "$XENBUS_PATH/hotplug-status" connected
fi
EOF
chmod +x /etc/xen/scripts/block

# One memory-backed device for each guest; what is measured was written before.
make_devices() {
    insmod /mods/null_blk.ko nr_devices=4 gb=1 memory_backed=1
    for i in 0 1 2 3; do
        dd if=/dev/zero of=/dev/nullb$i bs=1M count=64 oflag=direct 2>/dev/null
    done
}

# Every guest has a disk of qdisk's from the beginning: libxl starts QEMU with
# the domain or not at all.
make_guest() {
    cat >/tmp/g$1.cfg <<EOF
name = "g$1"
kernel = "/guest/vmlinux"
ramdisk = "/guest/bench.cpio"
memory = 256
vcpus = 1
on_crash = "destroy"
disk = [ 'format=raw,vdev=xvda,access=rw,backendtype=qdisk,target=/dev/nullb$(($1 - 1))' ]
extra = "console=hvc0 quiet norandmaps"
EOF
    create g$1 || return 1
    eval "dom$1=\$(xl domid g$1)"
    wait_until 90 has_answered $1 0 || return 1
    say "guest $1 is up at $(cut -d' ' -f1 /proc/uptime)"
}

give_up() {
    not_ok "$@"
    for f in /var/log/xen/*.log /tmp/create.*; do
        send_file $f "$(basename $f)"
    done
    scenario_end
    exit 1
}

dom() {
    eval "echo \$dom$1"
}

answer() {
    xenstore-read "/local/domain/$(dom $1)/data/result" 2>/dev/null
}

has_answered() {
    case $(answer $1) in
    "$2 "*) return 0 ;;
    esac
    return 1
}

# What freehold counted so far, of all disks and workers.
counters() {
    freehold status --json 2>/dev/null | tr ',{}' '\n\n\n' | awk -F'"' '
        /"(requests|notifies|wakeups|sleeps|syscalls|turns|spins)":/ {
            n[$2] += substr($3, 2)
        }
        END { for (k in n) printf "%s=%d ", k, n[k] }'
}

# A memory store is sparse: what is measured was written before here, too.
warm_up() {
    case $1 in
    mem*) warming=1 cell "$@" write 1m 4 ;;
    esac
}

# cell SIDE DISK GUESTS RW BS DEPTH
cell() {
    before=$(counters)
    seq=$((seq + 1))
    start=$((($(date +%s) + 3) * 1000))
    g=0
    while [ $g -lt $3 ]; do
        g=$((g + 1))
        xenstore-write "/local/domain/$(dom $g)/data/cmd" "$seq $2 $start \
$window_ms $((ramp_ms * $3)) $((g == 1 && !warming)) fio --name=j --filename=/dev/$2 --direct=1 \
--ioengine=libaio --rw=$4 --bs=$5 --iodepth=$6 --size=$region --thread \
--time_based --runtime=100 --norandommap"
    done
    sleep $((3 + (window_ms + 999) / 1000))
    g=0
    while [ $g -lt $3 ]; do
        g=$((g + 1))
        wait_until 30 has_answered $g $seq ||
            not_ok "$1 $3 $4 $5 $6: guest $g answers"
        [ $warming = 1 ] || say "data $1 $3 $4 $5 $6 $g $(answer $g)"
    done
    [ -z "$before" ] || [ $warming = 1 ] || say "counts $1 $3 $4 $5 $6 $before - $(counters)"
}

# The disk's name in the guest.
disk_of() {
    case ${1%%+*} in
    qdisk) echo xvda ;;
    blkback) echo xvdb ;;
    persistent) echo xvdc ;;
    copy) echo xvdd ;;
    map) echo xvde ;;
    mem) echo xvdf ;;
    esac
}

line_of() {
    dev=/dev/nullb$(($2 - 1))
    case ${1%%+*} in
    blkback) echo "phy:$dev,xvdb,w" ;;
    mem) echo "format=raw,vdev=xvdf,access=rw,script=block-freehold,target=mem:64m" ;;
    *) echo "format=raw,vdev=$(disk_of $1),access=rw,script=block-freehold,target=$dev" ;;
    esac
}

is_connected() {
    [ "$(xenstore-read "/local/domain/$(dom $2)/device/vbd/$1/state" \
        2>/dev/null)" = 4 ]
}

number_of() {
    case $1 in
    xvdb) echo 51728 ;;
    xvdc) echo 51744 ;;
    xvdd) echo 51760 ;;
    xvde) echo 51776 ;;
    xvdf) echo 51792 ;;
    esac
}

serve() {
    args=$serve_args
    PATH=$path
    for with in $(echo ${1#${1%%+*}} | tr + ' '); do
        case $with in
        base) PATH=/base:$path ;;
        no*) args="$args --${with#no} off" ;;
        *) give_up "$1: what is $with?" ;;
        esac
    done
    case ${1%%+*} in
    persistent | mem) ;;
    *) args="$args --grants ${1%%+*}" ;;
    esac
    start_daemon $args
}

plug() {
    case $1 in
    qdisk) return ;;
    blkback) insmod /mods/xen-blkback.ko ;;
    *) serve $1 ;;
    esac
    for g in $(seq $2); do
        xl block-attach g$g "$(line_of $1 $g)" ||
            give_up "$1: attach to g$g"
        wait_until 20 is_connected "$(number_of "$(disk_of $1)")" $g ||
            give_up "$1: connects to g$g"
    done
}

# Where the code is, for a profile: modules, and the first guest's worker.
send_places() {
    grep '\[' /proc/kallsyms | awk '$2 ~ /^[tT]$/ { print $1, $3 }' \
        >/tmp/modules
    send_file /tmp/modules "modules.$1"
    pid=$(freehold status --json 2>/dev/null |
        sed -n 's/.*"worker_pid": *\([0-9]*\).*/\1/p' | head -1)
    [ -n "$pid" ] && cat "/proc/$pid/maps" >/tmp/maps &&
        send_file /tmp/maps "maps.$1"
}

unplug() {
    [ $1 = qdisk ] && return
    for g in $(seq $2); do
        xl block-detach g$g "$(disk_of $1)" || not_ok "$1: detach from g$g"
    done
    case $1 in
    blkback) rmmod xen-blkback ;;
    *) stop_daemon ;;
    esac
}

say "begins at $(cut -d' ' -f1 /proc/uptime)"
make_devices
say "devices at $(cut -d' ' -f1 /proc/uptime)"
made=0
for many in $guests; do
    while [ $made -lt $many ]; do
        made=$((made + 1))
        make_guest $made || give_up "guest $made starts"
    done
    for side in $sides; do
        plug $side $many
        warm_up $side "$(disk_of $side)" $many
        warming=0
        for c in $cells; do
            cell $side "$(disk_of $side)" $many $(echo $c | tr : ' ')
        done
        [ -n "$profile" ] && send_places $side
        unplug $side $many
    done
done
for g in $(seq $made); do
    xl destroy g$g
done
ok "measured"
