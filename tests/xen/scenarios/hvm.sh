# SPDX-License-Identifier: MIT
# An HVM guest, with its device model, on a Freehold disk.
# by name only: its firmware fetches kernel and image byte by byte, each byte a
# trip through the device model, which takes many minutes under emulation.
# limit: 1500
# clock: leaps forward under emulation while such a guest runs

truncate -s 64M /tmp/h.img
check "the daemon starts" start_daemon
guest h1 "$(disk /tmp/h.img)" "" 'type = "hvm"
bios = "seabios"
kernel = "/guest/vmlinuz"
ramdisk = "/guest/guest.cpio.xz"
extra = "console=ttyS0 quiet do=fio,fs,sum"
serial = "file:/var/log/xen/guest-h1.log"
nographic = 1
vnc = 0
sdl = 0'
check "xl create" create h1 || return
check "the guest ends" wait_until 5000 ended_or_bad h1
check_guest h1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/h.img h1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/h.img
