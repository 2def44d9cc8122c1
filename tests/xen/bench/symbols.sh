# SPDX-License-Identifier: MIT
# Where the functions of Xen, the kernel and the modules are: neither package
# says.  The same in every boot of the same images (norandmaps and no KASLR
# under Xen).
for m in null_blk xen-blkback; do
    insmod /mods/$m.ko
done
cat /proc/xen/xensyms >/tmp/xensyms
awk '$2 ~ /^[tT]$/ { print $1, $3 }' /proc/kallsyms >/tmp/kallsyms
send_file /tmp/xensyms xen
send_file /tmp/kallsyms kernel
ok "$(wc -l </tmp/kallsyms) symbols"
