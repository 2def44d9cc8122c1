# SPDX-License-Identifier: MIT
# An unmodified Linux PV guest lives on a Freehold disk: filesystem, files,
# fio with verification; what dom0 finds in the image is what the guest saw.
# limit: 600

truncate -s 24M /tmp/disk.img
check "the daemon starts" start_daemon
guest g1 "$(disk /tmp/disk.img)" "do=fio,fs,sum"
check "xl create" create g1 || return
check "the guest ends" wait_until 360 gone g1
check_guest g1 fio fs sum
check "it had a few hundred files" grep_log g1 '^GUEST files 3[0-9][0-9]'
check "persistent grants are on" grep_log g1 'persistent grants: enabled'
check "sha256 of the image is the guest's" same_sum /tmp/disk.img g1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/disk.img
check "no disk is left" no_disks
check "no process of it is left but the daemon" one_daemon
