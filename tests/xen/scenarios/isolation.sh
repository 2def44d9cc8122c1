# SPDX-License-Identifier: MIT
# A worker that its guest has taken over: what it can do to another guest.
# The intruder makes g1's worker reach for a page that g2 granted to dom0: its
# xenstore ring, reference 1.
# limit: 600

# field NAME: of the only worker, or nothing.
field() {
    freehold status --json | jq -r ".workers[0].$1 | values"
}

# serving PID: a worker serves that is not PID.
serving() {
    case $(freehold status --json | jq -r '.workers[0] |
        "\(.state) \(.pid)"') in
    "running $1") return 1 ;;
    "running "*) return 0 ;;
    esac
    return 1
}

# expect TEXT ANSWER DEED...: what the intruder makes of the worker.  A dead
# worker, or one whose broker was asked in its name, is followed by another.
expect() {
    text=$1
    want=$2
    shift 2
    wait_until 60 serving 0 || not_ok "a worker serves ($(field reason))"
    p=$(field pid)
    got=$(intruder "$p" "$@" 2>&1)
    check "$text ($got)" [ "$got" = "$want" ]
    case $1 in
    map | copy) kill -9 "$p" ;;
    esac
    case $1:$got in
    map:* | copy:* | *:killed*) wait_until 60 serving "$p" ;;
    esac
}

# It need not run for that.
guest g2 "" ""
check "xl create g2" create g2 -p || return
g2=$(id_of g2)

truncate -s 8M /tmp/i.img
check "the daemon starts" start_daemon
guest g1 "$(disk /tmp/i.img)" "do=loop,stay pace=2"
check "xl create g1" create g1 || return
check "its disk is served" wait_until 60 serving 0
check "it is written to" wait_until 60 grep_log g1 '^GUEST round 1'
g1=$(id_of g1)
check "status: the worker has a broker" [ "$(field broker)" = true ]
check "status: and a sandbox" [ "$(field sandboxed)" = true ]
p=$(field pid)
check "a filter is on" grep -q '^Seccomp:.*2' "/proc/$p/status"
check "no capabilities" grep -q '^CapEff:.*0000000000000000' "/proc/$p/status"
check "the broker's filter is on" \
    grep -q '^Seccomp:.*2' "/proc/$(field broker_pid)/status"

expect "opening a device: killed" "killed by signal 31" open
expect "gntdev's MAP: killed" "killed by signal 31" ioctl "$g2" 1
expect "gntdev's COPY: killed" "killed by signal 31" peek "$g2" 1
expect "an event channel of the other guest: refused" "returned -13" \
    bind "$g2" 1
expect "a map of the other guest's page: refused" "answered -1" map "$g2" 1
expect "a copy of it: refused" "answered -1" copy "$g2" 1
expect "a copy of its own guest's: done" "answered 0, status 0" copy "$g1" 1

# The broker's death is the worker's, and nobody else's.
wait_until 60 serving 0
p=$(field pid)
kill -9 "$(field broker_pid)"
check "the broker dies: a new worker" wait_until 60 serving "$p"
check "and the operator is told" grep -q 'its broker died' /tmp/daemon.log
check "of the sandbox, too" grep -q 'its sandbox forbids' /tmp/daemon.log

# Without the broker the same reach succeeds: that is what it is for.  The guest
# goes on with a daemon that has none.
kill -9 "$(daemon)" "$(field pid)"
check "its broker goes with a worker" wait_until 20 no_broker
check "the daemon starts without a broker" start_daemon --broker off
expect "without a broker: the other guest's page is read" \
    "returned 0, status 0" peek "$g2" 1
check "status says that there is none" [ "$(field broker)" = false ]
check "it ends its work" ask_to_end g1
check_guest g1 loop
xl destroy g1
check "its disk goes" wait_until 20 no_disks
check "no process of it is left but the daemon" one_daemon
