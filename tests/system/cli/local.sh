#!/bin/bash
# SPDX-License-Identifier: MIT
# Hypervisor, backend and disks by the command, one after the other: what is
# said, what the exit status is, that JSON is JSON, that all goes away again.
. "$(dirname "$0")/lib.sh"
run="--run-dir $work/r"
image=$work/disk.img

cleanup()
{
    [ -z "${serve:-}" ] || kill "$serve" 2>/dev/null
    # shellcheck disable=SC2086
    "$freehold" hv stop $run 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT

truncate -s 1m "$image"
# shellcheck disable=SC2086 # $run is two words
{
    left=0
    for command in "attach $run 1 mem:1m" "detach $run 1 xvda" "list $run" \
        "status $run" "hv status $run" "hv stop $run" \
        "exec $run -d 1 -- true"; do
        "$freehold" $command 2>"$work/err"
        [ $? = 1 ] && grep -q 'freehold hv start\|freehold serve' "$work/err" &&
            [ ! -e "$work/r" ] || left=1
    done
    claim $left "with nobody there each command says so and leaves nothing"
    "$freehold" hv start $run
    claim $? "hv start"
    "$freehold" hv start $run 2>"$work/err"
    [ $? = 1 ] && grep -q 'another hypervisor runs' "$work/err"
    claim $? "a second hv start is refused"

    [ "$("$freehold" hv create $run guest1)" = 1 ]
    claim $? "hv create prints the number"
    "$freehold" hv create $run guest1 2>"$work/err"
    [ $? = 1 ] && grep -q 'name or number exists' "$work/err"
    claim $? "hv create refuses a name that is taken"
    "$freehold" hv create $run --json | jq -e '.domid == 2' >/dev/null
    claim $? "hv create --json"
    "$freehold" hv status $run --json | jq -e '.domains | length == 3' \
        >/dev/null
    claim $? "hv status --json"
    "$freehold" hv status $run | grep -q guest1
    claim $? "hv status"

    "$freehold" exec $run -d guest1 -- sh -c 'exit 7'
    [ $? = 7 ]
    claim $? "exec passes the exit status on"
    "$freehold" exec $run -d 9 --create -- true
    claim $? "exec --create"
    "$freehold" exec $run -d 10 -- true 2>"$work/err"
    [ $? = 1 ] && grep -q "no domain '10'" "$work/err"
    claim $? "exec in a domain that is not there"
    "$freehold" exec $run -d 1 -- no-such-program 2>/dev/null
    [ $? = 127 ]
    claim $? "exec of a program that is not there"
    [ "$("$freehold" exec $run -d 1 -- xenstore-read domid)" = 1 ]
    claim $? "exec: the domain's own xenstore"
    "$freehold" exec $run -d 0 -- sh -c '[ $(id -u) = '"$(id -u)"' ]'
    claim $? "exec in domain 0 is the caller"
    if [ "$(id -u)" = 0 ]; then
        chmod 700 "$work/r"
        "$freehold" exec $run -d 1 -- true 2>"$work/err"
        [ $? = 126 ] && grep -q 'cannot reach .*chmod 711' "$work/err"
        claim $? "exec is refused where the domain's user cannot pass"
        chmod 711 "$work/r"
    fi
    printf '#!/bin/sh\necho "$FREEHOLD_DOMID"\n' >"$work/script"
    chmod 700 "$work/script"
    [ "$("$freehold" exec $run -d 1 -- "$work/script")" = 1 ]
    claim $? "exec of a script that only its owner may enter and execute"

    "$freehold" serve $run --ready-fd 3 3>"$work/ready" 2>"$work/serve.log" &
    serve=$!
    for _ in $(seq 100); do [ -s "$work/ready" ] && break; sleep 0.1; done
    [ -s "$work/ready" ]
    claim $? "serve gets ready"
    "$freehold" attach $run 1 "$image" -w | grep -q 'xvda is .*writable'
    claim $? "attach"
    "$freehold" attach $run 2 "$image" -w 2>"$work/err"
    [ $? = 1 ] && grep -q 'in use' "$work/err"
    claim $? "a second writer is refused"
    "$freehold" attach $run 1 "$work/none.img" 2>"$work/err"
    [ $? = 1 ] && grep -q 'No such file' "$work/err"
    claim $? "attach of a file that is not there"
    "$freehold" attach $run 2 mem:1m --json |
        jq -e '.device.devid == 51712' >/dev/null
    claim $? "attach --json"
    "$freehold" list $run | grep -q "$image"
    claim $? "list"
    "$freehold" list $run --json | jq -e '.devices | length == 2' >/dev/null
    claim $? "list --json"
    "$freehold" status $run --json | jq -e '.workers | type == "array"' \
        >/dev/null
    claim $? "status --json"
    "$freehold" status $run | grep -q WORKER
    claim $? "status"
    "$freehold" detach $run 1 xvda
    claim $? "detach"
    "$freehold" detach $run 1 xvda 2>"$work/err"
    [ $? = 1 ] && grep -q 'no disk' "$work/err"
    claim $? "detach of a disk that is not there"
    kill "$serve"
    wait "$serve"
    claim $? "serve ends in order at SIGTERM"
    serve=
    "$freehold" hv destroy $run guest1
    claim $? "hv destroy"
    "$freehold" hv stop $run
    claim $? "hv stop"
}
nothing_left
claim $? "no process is left"
[ "$status" = 0 ] || cat "$work/serve.log"
trap - EXIT
finish
