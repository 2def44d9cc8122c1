#!/bin/bash
# SPDX-License-Identifier: MIT
# A guest's disk through the nbdkit plugin, judged by other people's tools:
# copies in and out, parts of sectors, read-only, a plugin killed and started
# again, workers killed on the way.
# $1 freehold, $2 the plugin.
. "$(dirname "$0")/../cli/lib.sh"
plugin=$work/plugin.so
cp "$2" "$plugin" && chmod 755 "$plugin" # domains cannot enter a private build
run="--run-dir $work/r"
# A domain's own place for sockets.
sock=$work/s
mkdir -m 1777 "$sock"

for tool in nbdkit nbdcopy nbdinfo qemu-img qemu-io jq; do
    command -v "$tool" >/dev/null || skip "$tool is not installed"
done

cleanup()
{
    [ -z "${nbd:-}" ] || kill "$nbd" 2>/dev/null
    [ -z "${serve:-}" ] || kill "$serve" 2>/dev/null
    # shellcheck disable=SC2086
    "$freehold" hv stop $run 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# start NAME ARGS...: nbdkit inside domain 1, with its socket in $uri and its
# pid in $nbd.
start()
{
    local name=$1 i
    shift
    rm -f "$sock/$name"
    uri="nbd+unix:///?socket=$sock/$name"
    # shellcheck disable=SC2086
    "$freehold" exec $run -d 1 -- nbdkit -f -U "$sock/$name" "$plugin" "$@" \
        2>"$work/$name.log" &
    nbd=$!
    for i in $(seq 100); do
        [ -S "$sock/$name" ] && nbdinfo --size "$uri" >/dev/null 2>&1 &&
            return 0
        kill -0 "$nbd" 2>/dev/null || return 1
        sleep 0.1
    done
    return 1
}

stop()
{
    kill "$nbd"
    wait "$nbd"
    nbd=
}

worker_pid()
{
    # shellcheck disable=SC2086
    "$freehold" status $run --json | jq '.workers[0].pid'
}

head -c 32m /dev/urandom >"$work/in"
truncate -s 32m "$work/disk"
# shellcheck disable=SC2086
{
    "$freehold" hv start $run &&
        [ "$("$freehold" hv create $run)" = 1 ]
    claim $? "hypervisor and domain"
    "$freehold" serve $run --ready-fd 3 3>"$work/ready" 2>"$work/serve.log" &
    serve=$!
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
    "$freehold" attach $run 1 "$work/disk" -w --vdev xvda >/dev/null
    claim $? "a writable disk"
    head -c 8m "$work/in" >"$work/ro.img"
    "$freehold" attach $run 1 "$work/ro.img" --vdev xvdb >/dev/null
    claim $? "a read-only disk"
}

start a device=xvda
claim $? "nbdkit connects"
nbdcopy "$work/in" "$uri" && nbdcopy "$uri" "$work/out" &&
    cmp "$work/in" "$work/out"
claim $? "what nbdcopy copied in comes out again"
qemu-img compare -f raw -F raw "$uri" "$work/in" >/dev/null
claim $? "qemu-img compare agrees"
nbdinfo --json "$uri" |
    jq -e '.exports[0] | .can_flush and (.is_read_only | not)' >/dev/null
claim $? "flush is offered, writing as well"

odd=0
for at in 1 511 512 1000 4095 70000 33554430; do
    qemu-io -f raw -c "write -P 0x$((at % 90 + 10)) $at 2" \
        -c "read -P 0x$((at % 90 + 10)) $at 2" "$uri" >"$work/io" 2>&1 &&
        ! grep -qi 'fail\|error' "$work/io" || { odd=1; cat "$work/io"; }
done
qemu-io -f raw -c "write -P 0x77 99 70001" -c "read -P 0x77 99 70001" \
    -c flush "$uri" >"$work/io" 2>&1 && ! grep -qi 'fail\|error' "$work/io" ||
    odd=1
claim $odd "parts of sectors"

nbdcopy "$work/in" "$uri"
killed=0
for i in 1 2 3; do
    nbdcopy "$uri" "$work/out" &
    copy=$!
    sleep "0.0$i"
    kill -9 "$(worker_pid)"
    wait "$copy" && cmp "$work/in" "$work/out" || killed=1
done
claim $killed "killed workers are not noticed"
stop
# shellcheck disable=SC2086
[ "$("$freehold" exec $run -d 1 -- xenstore-read device/vbd/51712/state)" = 6 ]
claim $? "the plugin closes the device"

start b device=51712 order=0 indirect=0 pool=16 persistent=false
claim $? "nbdkit connects with the least of everything"
rm "$work/out"
nbdcopy "$uri" "$work/out" && cmp "$work/in" "$work/out"
claim $? "and copies out"
kill -9 "$nbd"
wait "$nbd" 2>/dev/null
start c device=xvda
claim $? "a killed plugin's disk can be connected again"
stop

start d device=xvdb
claim $? "nbdkit connects a read-only disk"
nbdinfo --json "$uri" | jq -e '.exports[0].is_read_only' >/dev/null
claim $? "which says so"
rm "$work/out"
nbdcopy "$uri" "$work/out" && cmp "$work/ro.img" "$work/out"
claim $? "and can be read"
stop

! start e device=xvdq && grep -q "device" "$work/e.log"
claim $? "a bad name is refused"
! start f device=xvdc && grep -q "no such device" "$work/f.log"
claim $? "a missing disk is refused"
! start g && grep -q "which disk" "$work/g.log"
claim $? "no disk is refused"
nbd=
exit $status
