#!/bin/bash
# SPDX-License-Identifier: MIT
# scripts/block-freehold as libxl runs it, in domain 0 of a local hypervisor,
# with Debian's xenstore tools: what it says with no daemon, with one, and of a
# disk that the daemon refuses; and that it says so soon.
. "$(dirname "$0")/lib.sh"
script=$(realpath "$(dirname "$0")/../../../scripts/block-freehold")
freehold=$(realpath "$freehold")
run="--run-dir $work/r"
back=/local/domain/0/backend/vbd/1/51712
front=/local/domain/1/device/vbd/51712

cleanup()
{
    [ -z "${serve:-}" ] || kill "$serve" 2>/dev/null
    # shellcheck disable=SC2086
    "$freehold" hv stop $run 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# The script calls freehold by its name and without options.
mkdir "$work/bin"
printf '#!/bin/sh\nexec "%s" "$@" %s\n' "$freehold" "$run" \
    >"$work/bin/freehold"
chmod +x "$work/bin/freehold"

xs()
{
    # shellcheck disable=SC2086
    "$freehold" exec $run -d 0 -- "$@"
}

# What libxl writes, in one transaction there.
nodes()
{
    xs xenstore-write $front/backend $back $front/backend-id 0 \
        $front/state 1 $front/virtual-device 51712 $back/frontend $front \
        $back/frontend-id 1 $back/params "$1" $back/dev xvda $back/mode w \
        $back/script /etc/xen/scripts/block-freehold $back/online 1 \
        $back/type phy $back/device-type disk $back/state 1
}

no_nodes()
{
    xs xenstore-rm $back
    xs xenstore-rm $front
}

# hotplug ACTION [PATH]: its status, milliseconds in $took, words in $work/err.
hotplug()
{
    local from
    from=$(date +%s%3N)
    PATH=$work/bin:$PATH XENBUS_PATH=${2-backend/vbd/1/51712} \
        xs sh "$script" "$1" 2>"$work/err"
    set -- $?
    took=$(($(date +%s%3N) - from))
    return "$1"
}

soon()
{
    # Well under a second on a machine that does nothing else; libxl waits ten.
    [ "$took" -lt 5000 ]
    claim $? "... soon ($took ms)"
}

is()
{
    [ "$(xs xenstore-read "$back/$1" 2>/dev/null)" = "$2" ]
}

until_is()
{
    for _ in $(seq 100); do
        is "$@" && return
        sleep 0.1
    done
    return 1
}

# shellcheck disable=SC2086 # $run is two words
{
    "$freehold" hv start $run && "$freehold" exec $run -d 1 --create -- true
    claim $? "a hypervisor with one guest"

    nodes "$work/disk.img"
    hotplug add
    [ $? = 1 ] && grep -q "start it with 'freehold serve'" "$work/err"
    claim $? "add without a daemon fails and says what to do"
    soon
    is hotplug-status error
    claim $? "... in hotplug-status"
    xs xenstore-read $back/hotplug-error | grep -q 'no freehold daemon'
    claim $? "... and in hotplug-error"
    hotplug remove && ! xs xenstore-read $back/hotplug-status 2>/dev/null
    claim $? "remove works without a daemon"
    no_nodes

    truncate -s 1m "$work/disk.img"
    "$freehold" serve $run --ready-fd 3 3>"$work/ready" 2>"$work/serve.log" &
    serve=$!
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
    nodes "$work/disk.img"
    until_is state 2
    claim $? "a daemon takes the disk"
    hotplug add && is hotplug-status connected
    claim $? "add says connected"
    soon
    hotplug remove && ! xs xenstore-read $back/hotplug-status 2>/dev/null
    claim $? "remove takes hotplug-status away"
    no_nodes

    nodes "$work/none.img"
    hotplug add
    [ $? = 1 ] && grep -q 'none.img: No such file' "$work/err"
    claim $? "add of an image that is not there fails with the daemon's reason"
    soon
    xs xenstore-read $back/hotplug-error | grep -q 'none.img: No such file'
    claim $? "... in hotplug-error"
    no_nodes

    hotplug add backend/vbd/1/51728
    [ $? = 1 ] && grep -q 'does not see this disk' "$work/err"
    claim $? "add of a disk that nobody made fails"
    soon
    xs xenstore-rm /local/domain/0/backend/vbd/1/51728
    hotplug add ""
    [ $? = 1 ] && grep -q 'XENBUS_PATH' "$work/err"
    claim $? "add without XENBUS_PATH fails and writes nothing"
    hotplug change
    [ $? = 1 ]
    claim $? "another action is refused"
    xs xenstore-rm $back

    kill "$serve"
    wait "$serve"
    serve=
    "$freehold" hv stop $run
    claim $? "all ends in order"
}
nothing_left
claim $? "no process is left"
trap - EXIT
finish
