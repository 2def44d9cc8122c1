# SPDX-License-Identifier: MIT
# xl's verbs on disks of ours: create, block-list, block-attach, block-detach,
# reboot, shutdown, destroy; and `freehold attach` beside them.
# limit: 600

truncate -s 8M /tmp/t1.img /tmp/t2.img /tmp/t3.img
check "the daemon starts" start_daemon
guest t1 "$(disk /tmp/t1.img)" "do=second,stay"
check "xl create" create t1 || return
check "xl block-attach" xl block-attach t1 "$(disk /tmp/t2.img xvdb | tr -d "'")"
check "the guest uses both" wait_until 120 grep_log t1 '^GUEST stays'
check_guest t1 second
check "xl block-list shows both" [ "$(xl block-list t1 | grep -c /vbd/)" = 2 ]
check "a second writer of an image is refused" \
    refused xl block-attach t1 "$(disk /tmp/t2.img xvdc | tr -d "'")"
check "and says why" grep -q 'in use elsewhere' /tmp/refused /var/log/xen/*.log
check "xl block-detach of what was refused" xl block-detach t1 xvdc
check "xl block-detach" xl block-detach t1 xvdb
check "it is gone from the list" [ "$(xl block-list t1 | grep -c /vbd/)" = 1 ]
check "freehold attach" \
    freehold attach --write --vdev xvdd "$(id_of t1)" /tmp/t3.img
check "freehold detach" freehold detach "$(id_of t1)" xvdd
first=$(id_of t1)
check "xl reboot" xl reboot t1
check "it comes back as another domain" wait_until 120 rebooted t1 "$first"
check "its disk serves again" wait_until 120 served t1
check "xl shutdown" xl shutdown t1
check "it ends" wait_until 60 gone t1
check "no disk is left" wait_until 10 no_disks
guest t2 "$(disk /tmp/t1.img)" "do=stay"
check "xl create again" create t2 || return
wait_until 120 grep_log t2 '^GUEST stays'
check "xl destroy" xl destroy t2
check "no disk is left after destroy" wait_until 15 no_disks

stop_daemon
began=$(now)
export XENBUS_PATH=backend/vbd/1/51712
check "without a daemon the script refuses" refused \
    /etc/xen/scripts/block-freehold add
took=$(($(now) - began))
check "in seconds, not in libxl's ten ($took)" [ $took -le 5 ]
check "and says why" grep -q 'freehold serve' /tmp/refused
xenstore-rm backend/vbd/1
