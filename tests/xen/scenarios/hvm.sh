# SPDX-License-Identifier: MIT
# An HVM guest, with its device model, on a Freehold disk.  It boots from an
# emulated one.
# by name only: it takes several minutes of emulation
# limit: 900
# clock: leaps forward under emulation while such a guest runs

truncate -s 64M /tmp/h.img
check "the daemon starts" start_daemon
guest h1 "$(disk /tmp/h.img)" "" 'type = "hvm"
bios = "seabios"
kernel = ""
ramdisk = ""
extra = ""
device_model_args_hvm = [ "-device", "ich9-ahci,id=a", "-drive", "file=/guest/boot.disk,if=none,id=d,format=raw", "-device", "ide-hd,drive=d,bus=a.0" ]
serial = "file:/var/log/xen/guest-h1.log"
nographic = 1
vnc = 0
sdl = 0'
sed -i '/^kernel = ""/d; /^ramdisk = ""/d; /^extra = ""/d' /tmp/h1.cfg
check "xl create" create h1 || return
check "the guest ends" wait_until 5000 ended_or_bad h1
check_guest h1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/h.img h1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/h.img
