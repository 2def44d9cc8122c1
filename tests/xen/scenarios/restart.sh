# SPDX-License-Identifier: MIT
# The daemon is killed under a guest's verified writes, alone and together with
# its worker, and started again: the guest sees no error and the right bytes.
# limit: 600

truncate -s 8M /tmp/r.img
check "the daemon starts" start_daemon
guest r1 "$(disk /tmp/r.img)" "do=loop,sum,stay"
check "xl create" create r1 || return
wait_until 180 grep_log r1 '^GUEST round 1' || not_ok "it starts"
deaths=0
while [ $deaths -lt 4 ] && ! gone r1; do
    with=
    [ $((deaths % 2)) = 0 ] || with=$(worker r1)
    kill -9 "$(daemon)" $with
    deaths=$((deaths + 1))
    sleep 1
    start_daemon || not_ok "the daemon starts again"
    sleep 1
done
check "daemons were killed ($deaths)" [ $deaths = 4 ]
check "it ends its work" ask_to_end r1
check_guest r1 loop sum
check "the image has what it wrote" same_sum /tmp/r.img r1
kill -9 "$(daemon)"
xl block-detach r1 xvda >/tmp/detach.log 2>&1
start_daemon
check "a disk detached without a daemon goes when it is back" \
    wait_until 20 no_disks
check "no grant is mapped" only_its_own_grants r1
check "no process of it is left but the daemon" one_daemon
