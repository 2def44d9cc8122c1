# SPDX-License-Identifier: MIT
# One guest, a disk attached and detached for each set of features: ring orders
# 0 to 4, persistent grants and grant copy, direct and indirect requests.
# limit: 600

steps=0:1:11+1:0:32+2:1:64+3:0:11+4:1:32
check "the daemon starts" start_daemon
guest f1 "" "nodisk=1 do=steps steps=$steps"
check "xl create" create f1 || return
n=0
for step in $(echo $steps | tr + ' '); do
    order=${step%%:*}
    truncate -s 8M "/tmp/f$n.img"
    wait_until 120 grep_log f1 "^GUEST attach $n" || not_ok "step $n begins"
    check "order $n: xl block-attach" \
        xl block-attach f1 "$(disk "/tmp/f$n.img" xvdb | tr -d "'")"
    wait_until 120 grep_log f1 "^GUEST (detach $n|FAILED)"
    want=copy
    [ "$(echo $step | cut -d: -f2)" = 0 ] || want=persistent
    check "order $n: $((1 << order)) pages of ring, grants are $want" \
        [ "$(about_disks f1 '"\(.ring_order) \(.grants)"')" = "$order $want" ]
    check "order $n: xl block-detach" xl block-detach f1 xvdb
    n=$((n + 1))
done
check "the guest ends" wait_until 60 gone f1
check_guest f1 steps
check "no disk is left" no_disks
