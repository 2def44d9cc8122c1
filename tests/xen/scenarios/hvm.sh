# SPDX-License-Identifier: MIT
# An HVM guest, with its device model, on a Freehold disk.  It boots from an
# emulated one.  Each access to an emulated device costs milliseconds here: it
# has as few as can be, and virtio's, whose driver in the firmware asks memory
# and not a register whether it is done.
# limit: 600
# clock: may leap forward under emulation while such a guest runs

truncate -s 16M /tmp/h.img
check "the daemon starts" start_daemon
guest h1 "$(disk /tmp/h.img)" "" 'type = "hvm"
on_reboot = "destroy"
device_model_args_hvm = [ "-device", "virtio-blk-pci,drive=d", "-drive", "file=/guest/boot.disk,if=none,id=d,format=raw", "-boot", "menu=off" ]
vga = "none"
usb = 0
hpet = 0
nographic = 1
vnc = 0
sdl = 0'
# What the boot disk has.
sed -i '/^kernel = /d; /^ramdisk = /d; /^extra = /d' /tmp/h1.cfg
check "the guest is created and ends" run_in_hardware h1 8000
check_guest h1 fio fs sum
check "sha256 of the image is the guest's" same_sum /tmp/h.img h1
check "e2fsck finds it clean" /bin/e2fsck -fn /tmp/h.img
