# SPDX-License-Identifier: MIT
# A PVH guest on a Freehold disk.
# limit: 600
# clock: may leap forward under emulation while such a guest runs

truncate -s 16M /tmp/p.img
check "the daemon starts" start_daemon
guest p1 "$(disk /tmp/p.img)" "do=fio,fs,sum fio=3m piece=8k" 'type = "pvh"
on_reboot = "destroy"'
check "the guest is created and ends" run_in_hardware p1 4000
check_guest p1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/p.img p1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/p.img
