#!/bin/bash
# SPDX-License-Identifier: MIT
# Connecting and closing a disk many times leaves nothing behind: every process
# holds as much after the last cycle as after the first ones.
# $1 freehold, $2 the frontend program, then two numbers of cycles.
. "$(dirname "$0")/../cli/lib.sh"
front=$work/cycles
cp "$2" "$front" && chmod 755 "$front"
few=${3:-100} many=${4:-1000}
run="--run-dir $work/r"
command -v jq >/dev/null || skip "jq is not installed"

cleanup()
{
    exec 8>&- 9<&-
    [ -z "${serve:-}" ] || kill "$serve" 2>/dev/null
    # shellcheck disable=SC2086
    "$freehold" hv stop $run 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

# What a process holds: descriptors, of them memfds, and mappings.
held()
{
    echo "$(ls "/proc/$1/fd" | wc -l)" \
        "$(ls -l "/proc/$1/fd" | grep -c memfd)" \
        "$(wc -l <"/proc/$1/maps")"
}

rss_kib()
{
    awk '/^VmRSS/ { print $2 }' "/proc/$1/status"
}

# shellcheck disable=SC2086
nodes()
{
    "$freehold" exec $run -d 0 -- xenstore-ls -f | wc -l
}

# shellcheck disable=SC2086
pids()
{
    echo "supervisor $serve"
    echo "worker $("$freehold" status $run --json | jq '.workers[0].pid')"
    echo "fhv $(cat "$work"/r/hv/lock)"
}

# shellcheck disable=SC2086
{
    "$freehold" hv start $run &&
        [ "$("$freehold" hv create $run)" = 1 ] || exit 1
    "$freehold" serve $run --ready-fd 3 3>"$work/ready" 2>"$work/serve.log" &
    serve=$!
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
    "$freehold" attach $run 1 mem:1m --vdev xvda >/dev/null || exit 1
    mkfifo "$work/in" "$work/out"
    "$freehold" exec $run -d 1 -- "$front" device/vbd/51712 "$few" "$many" \
        <"$work/in" >"$work/out" 2>"$work/front.log" &
    exec 8>"$work/in" 9<"$work/out"
}

read -r front_few <&9
claim $? "$few cycles"
pids >"$work/pids"
while read -r name pid; do
    held "$pid" >"$work/$name.held"
    rss_kib "$pid" >"$work/$name.rss"
done <"$work/pids"
nodes_few=$(nodes)
echo >&8

read -r front_many <&9
claim $? "$many cycles"
cat "$work/front.log"
[ "$front_few" = "$front_many" ]
claim $? "frontend: $front_few, then $front_many"
[ "$nodes_few" = "$(nodes)" ]
claim $? "xenstore: $nodes_few nodes"
pids >"$work/pids" # a worker ends with its guest's last disk
while read -r name pid; do
    before=$(cat "$work/$name.held") after=$(held "$pid")
    [ "$before" = "$after" ]
    claim $? "$name: descriptors, memfds, mappings $before, then $after"
    grown=$(($(rss_kib "$pid") - $(cat "$work/$name.rss")))
    [ "$grown" -le 256 ]
    claim $? "$name: grew by $grown KiB"
done <"$work/pids"
echo >&8
exit $status
