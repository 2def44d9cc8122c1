# SPDX-License-Identifier: MIT
# An unmodified Linux PV guest lives on a Freehold disk: filesystem, files,
# fio with verification; what dom0 finds in the image is what the guest saw.

truncate -s 64M /tmp/disk.img
check "the daemon starts" start_daemon
guest g1 "$(disk /tmp/disk.img)" \
    "do=fio,fs,sum"
check "xl create" create g1
check "the guest ends" wait_until 180 gone g1
check_guest g1 fio fs
check "persistent grants are on" grep_log g1 'persistent grants: enabled'
sum=$(log_of g1 | sed -n 's/^GUEST sum //p')
check "sha256 of the image is the guest's" \
    [ "$(sha256sum </tmp/disk.img | cut -d' ' -f1)" = "$sum" ]
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/disk.img
check "no disk is left" no_disks
