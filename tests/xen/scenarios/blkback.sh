# SPDX-License-Identifier: MIT
# xen-blkback is loaded as well, and answers first: the script takes our disks
# from it, its own go on in the same guest.
# limit: 600

insmod /mods/xen-blkback.ko
insmod /mods/brd.ko rd_nr=1 rd_size=8192 2>/dev/null
cat >/etc/xen/scripts/block <<'EOF'
#!/bin/sh
[ "$1" = add ] || exit 0
xenstore-write "$XENBUS_PATH/physical-device" 1:0 \
    "$XENBUS_PATH/hotplug-status" connected
EOF
chmod +x /etc/xen/scripts/block
truncate -s 16M /tmp/b.img
check "the daemon starts" start_daemon
guest b1 "$(disk /tmp/b.img), 'phy:/dev/ram0,xvdb,w'" "do=fio,second,sum,stay fio=4m" \
    "vcpus = 2"
check "xl create" create b1 || return
check "the guest has used both" wait_until 300 grep_log b1 '^GUEST (stays|end)'
check_guest b1 fio second sum
check "the image has what it wrote" same_sum /tmp/b.img b1
check "the kernel's disk, too" same_sum /dev/ram0 b1 xvdb
check "ours is ours" [ "$(disk_of b1 state)" = connected ]
check "the kernel's is the kernel's" \
    [ -e "/sys/bus/xen-backend/drivers/vbd/vbd-$(id_of b1)-51728" ]
stop_daemon
began=$(now)
check "without a daemon block-attach is refused" refused \
    xl block-attach b1 "$(disk /tmp/c.img xvdc | tr -d "'")"
took=$(($(now) - began))
check "and not after libxl's twice ten seconds ($took)" [ $took -le 17 ]
check "and says why" grep -q 'freehold serve' /tmp/refused
