# SPDX-License-Identifier: MIT
# A backend that serves other bytes than were written: the guest notices.
# limit: 300
# must say: not ok broken: b1: loop

truncate -s 8M /tmp/b.img
check "the daemon starts" start_daemon
guest b1 "$(disk /tmp/b.img)" "do=loop"
check "xl create" create b1 || return
wait_until 120 grep_log b1 '^GUEST round 1'
while ! gone b1; do
    dd if=/dev/urandom of=/tmp/b.img bs=4k count=64 conv=notrunc 2>/dev/null
done
check_guest b1 loop
