# SPDX-License-Identifier: MIT
# Workers are killed under a guest's verified writes, with persistent grants
# and with grant copy: the guest sees a pause, no error, and the right bytes.

# The pid of the worker of the only disk.
worker() {
    freehold status --json |
        sed -n 's/.*"worker_pid": *\([0-9]*\).*/\1/p' | head -1
}

kill_workers() {
    killed=0
    while ! gone "$1"; do
        sleep 3
        p=$(worker)
        [ -n "$p" ] && [ "$p" != 0 ] && kill -9 "$p" && killed=$((killed + 1))
    done
}

for persistent in 1 0; do
    name=k$persistent
    truncate -s 32M "/tmp/$name.img"
    check "the daemon starts" start_daemon
    guest $name "$(disk /tmp/$name.img)" \
        "do=loop,sum rounds=6 persistent=$persistent"
    check "xl create" create $name
    wait_until 90 grep_log $name '^GUEST round 1' || not_ok "$name: starts"
    kill_workers $name
    check "$name: workers were killed ($killed)" [ "$killed" -gt 0 ]
    check_guest $name loop
    sum=$(log_of $name | sed -n 's/^GUEST sum //p')
    check "$name: sha256 of the image is the guest's" \
        [ "$(sha256sum <"/tmp/$name.img" | cut -d' ' -f1)" = "$sum" ]
    stop_daemon
done
