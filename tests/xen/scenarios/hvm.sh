# SPDX-License-Identifier: MIT
# An HVM guest, with its device model, on a Freehold disk.
# limit: 300

truncate -s 64M /tmp/h.img
check "the daemon starts" start_daemon
guest h1 "$(disk /tmp/h.img)" "do=fio,fs,sum" 'type = "hvm"
kernel = "/guest/vmlinuz"
vga = "none"
device_model_override = "/usr/libexec/xen-qemu-system-i386"'
check "xl create" create h1
check "the guest ends" wait_until 260 gone h1
check_guest h1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/h.img h1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/h.img
