# SPDX-License-Identifier: MIT
# A PVH guest on a Freehold disk.
# by name only: now and then the emulated SVM runs such a guest at an address of
# Xen's own, and it triple-faults (xl dmesg: "RIP ... CONTEXT: hvm guest")
# limit: 240
# clock: leaps forward under emulation while such a guest runs

truncate -s 64M /tmp/p.img
check "the daemon starts" start_daemon
guest p1 "$(disk /tmp/p.img)" "do=fio,fs,sum loglevel=7" 'type = "pvh"'
check "xl create" create p1 || return
check "the guest ends" wait_until 4000 ended_or_bad p1
check_guest p1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/p.img p1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/p.img
