#!/bin/bash
# SPDX-License-Identifier: MIT
# usage: tools.sh XS_STUB_SERVER
# The system's own xenstore tools against the server, through XENSTORED_PATH,
# as domain 0 and as two unprivileged domains.
set -u
server=$1
for tool in write read ls list rm chmod watch exists; do
    if ! command -v xenstore-$tool >/dev/null; then
        echo "skipped: no xenstore-$tool (package xenstore-utils)"
        exit 77
    fi
done

dir=$(mktemp -d)
coproc STUB { exec "$server" "$dir" 0 1 2; }
stub_pid=$STUB_PID
stub_in=${STUB[1]}
finish() {
    exec {stub_in}>&-
    wait "$stub_pid" 2>/dev/null
    rm -rf "$dir"
}
trap finish EXIT
read -r line <&"${STUB[0]}"
[ "$line" = ready ] || { echo "the server did not start"; exit 1; }

failures=0
# as DOMID WANT_STATUS WANT_OUTPUT COMMAND...
as() {
    local domid=$1 want_status=$2 want=$3 got status
    shift 3
    got=$(XENSTORED_PATH="$dir/$domid" timeout 10 "$@" 2>&1)
    status=$?
    if [ $status != "$want_status" ] || [ "$got" != "$want" ]; then
        echo "FAILED as domain $domid: $*"
        echo "  status $status, wanted $want_status"
        echo "  got:    $got"
        echo "  wanted: $want"
        failures=$((failures + 1))
    fi
}

as 0 0 '' xenstore-write /t/a one /t/b 'two words'
as 0 0 one xenstore-read /t/a
as 0 0 $'/t/a: one\n/t/b: two words' xenstore-read -p /t/a /t/b
as 0 0 $'a\nb' xenstore-list /t
as 0 0 $'/t/a\n/t/b' xenstore-list -p /t
as 0 0 '' xenstore-exists /t/a
as 0 1 '' xenstore-exists /t/none
as 0 1 "xenstore-read: couldn't read path /t/none" xenstore-read /t/none
as 0 0 '' xenstore-chmod -r /t n0 r1
as 0 0 $'/t = ""   (n0,r1)\n/t/a = "one"   (n0,r1)\n/t/b = "two words"   (n0,r1)' \
    bash -c 'xenstore-ls -fp / | grep "^/t\>" | grep -v tool'
as 1 0 one xenstore-read /t/a
as 1 1 'xenstore-write: could not write path /t/a' xenstore-write /t/a no
as 1 1 'xenstore-rm: could not remove path /t/a' xenstore-rm /t/a
as 2 1 "xenstore-read: couldn't read path /t/a" xenstore-read /t/a
as 2 1 "xenstore-ls: xs_directory (/local/domain/1): Permission denied" \
    xenstore-ls /local/domain/1
as 1 0 local-1 xenstore-read name
as 1 0 '' xenstore-write data/x/y mine
as 0 0 mine xenstore-read /local/domain/1/data/x/y
as 1 0 '' xenstore-chmod -r data/x n1 r2
as 2 0 'y = "mine"' xenstore-ls -s /local/domain/1/data/x
as 1 1 "xenstore-chmod: Error occurred setting permissions on \
'/local/domain/1': Permission denied" xenstore-chmod /local/domain/1 n1
as 0 0 '' xenstore-rm /t
as 0 1 'xenstore-ls: xs_directory (/t): No such file or directory' \
    xenstore-ls /t

# A watch: once at registration, then for the change below it.
XENSTORED_PATH="$dir/0" timeout 10 xenstore-watch -n 2 /w >"$dir/w.out" &
watcher=$!
for i in $(seq 100); do
    kill -0 $watcher 2>/dev/null || break
    [ -s "$dir/w.out" ] && XENSTORED_PATH="$dir/0" xenstore-write /w/x "$i"
    sleep 0.05
done
wait $watcher || failures=$((failures + 1))
[ "$(cat "$dir/w.out")" = $'/w\n/w/x' ] ||
    { echo "FAILED: xenstore-watch said $(cat "$dir/w.out")"
      failures=$((failures + 1)); }

# A directory too long for one answer.
args=()
for i in $(seq 500); do
    args+=("/big/a-rather-long-name-$i" x)
done
as 0 0 '' xenstore-write "${args[@]}"
as 0 0 500 bash -c 'xenstore-list /big | sort -u | wc -l'

# Many clients at a time, each in its own directory.
for k in $(seq 20); do
    XENSTORED_PATH="$dir/1" xenstore-write data/many/$k $k &
    pids[k]=$!
done
for k in $(seq 20); do
    wait ${pids[k]} || failures=$((failures + 1))
done
as 1 0 20 bash -c 'xenstore-list data/many | wc -l'

[ $failures = 0 ] && echo "all as expected"
exit $((failures != 0))
