#!/bin/bash
# SPDX-License-Identifier: MIT
# freehold run: twice in a row, on a terminal, with an image of the user's own,
# out of a private directory, without root; and it leaves nothing behind, also
# after Ctrl-C at any moment.
. "$(dirname "$0")/lib.sh"
command -v script >/dev/null || skip "script(1) is missing"

mkdir -m 755 "$work/dirs" "$work/tmp"
chmod 1777 "$work/dirs" "$work/tmp"
export FREEHOLD_PARENT_DIR=$work/dirs TMPDIR=$work/tmp
quick="run --no-bench --seconds 1.5"

good_run()
{
    local name=$1
    shift
    if "$@" >"$work/out" 2>&1 </dev/null; then
        claim 0 "$name"
    else
        cat "$work/out"
        claim 1 "$name"
    fi
    nothing_left "$work/dirs" "$work/tmp"
    claim $? "$name: nothing is left"
}

# shellcheck disable=SC2086 # $quick is several words
{
    good_run "run" "$freehold" $quick
    good_run "run again" "$freehold" $quick
    good_run "run on a terminal" script -qec "$freehold $quick" /dev/null
    "$freehold" $quick --json 2>/dev/null |
        jq -e '.ok and (.checks | length >= 8)' >/dev/null
    claim $? "run --json"

    head -c 3000001 /dev/urandom >"$work/own.img"
    sum=$(sha256sum "$work/own.img")
    good_run "run IMAGE of odd size" "$freehold" $quick "$work/own.img"
    good_run "run --rw IMAGE" "$freehold" $quick --rw "$work/own.img"
    [ "$sum" = "$(sha256sum "$work/own.img")" ]
    claim $? "the image has not changed"
}

# A build that only its owner may enter, made under umask 077.
top=$(dirname "$(dirname "$freehold")")
mkdir -m 700 "$work/private"
for part in cli/freehold xenlibs/libxengnttab.so.1 xenlibs/libxenevtchn.so.1 \
    plugins/nbdkit/nbdkit-xenblk-plugin.so; do
    mkdir -p -m 700 "$work/private/$(dirname "$part")"
    cp -L "$top/$part" "$work/private/$part"
done
chmod -R go-rwx "$work/private"
# shellcheck disable=SC2086
good_run "run out of a private directory" "$work/private/cli/freehold" $quick

if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 "$work/private"
    # shellcheck disable=SC2086
    good_run "run without root" setpriv --reuid=65534 --regid=65534 \
        --clear-groups env -u XDG_RUNTIME_DIR HOME=/nonexistent \
        "$work/private/cli/freehold" $quick
    grep -q 'isolation of domains is off' "$work/out"
    claim $? "it says that isolation is off"
fi

# Ctrl-C through the terminal, at moments all over its life.
mkfifo "$work/keys"
exec 9<>"$work/keys"
for moment in 0.02 0.3 0.6 0.9 1.2 1.5 2.0 3.0; do
    script -qec "$freehold run --seconds 30" /dev/null \
        <"$work/keys" >"$work/out" 2>&1 &
    pid=$!
    # From the moment on that it exists: this machine may be slow.
    for _ in $(seq 200); do
        [ -z "$(our_processes)" ] || break
        sleep 0.02
    done
    sleep "$moment"
    printf '\003' >&9
    for _ in $(seq 300); do
        kill -0 $pid 2>/dev/null || break
        sleep 0.1
    done
    ! kill -0 $pid 2>/dev/null
    claim $? "Ctrl-C after $moment s ends it"
    nothing_left "$work/dirs" "$work/tmp"
    claim $? "Ctrl-C after $moment s: nothing is left"
    kill $pid 2>/dev/null
    wait $pid 2>/dev/null
done
exec 9>&-

# SIGTERM from somewhere else, without a terminal.
"$freehold" run --seconds 30 >"$work/out" 2>&1 </dev/null &
pid=$!
for _ in $(seq 150); do
    [ "$(our_processes | wc -l)" -lt 6 ] || break
    sleep 0.1
done
[ "$(our_processes | wc -l)" -ge 6 ]
claim $? "this test sees the processes of a run" # or the rest proves nothing
kill -TERM $pid
wait $pid
[ $? = 143 ]
claim $? "SIGTERM: the status says so"
nothing_left "$work/dirs" "$work/tmp"
claim $? "SIGTERM: nothing is left"

# A guard that is killed takes everybody with it; its directories go when the
# next one starts, if that is a minute later.
"$freehold" run --seconds 30 >"$work/out" 2>&1 </dev/null &
pid=$!
for _ in $(seq 150); do
    [ "$(our_processes | wc -l)" -lt 6 ] || break
    sleep 0.1
done
kill -KILL $pid
wait $pid
for _ in $(seq 50); do
    [ -n "$(our_processes)" ] || break
    sleep 0.1
done
[ -z "$(our_processes)" ]
claim $? "SIGKILL: no process is left"

finish
