#!/bin/sh
# SPDX-License-Identifier: MIT
# The freestanding libraries, compiled as an embedder would and linked together,
# may need four functions of the C library and nothing else.
#
# usage: freestanding_check.sh SOURCE_ROOT COMPILER...
set -eu

root=$1
shift
libs="grant evtchn ring blkif"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

for cc in "$@"; do
    if ! command -v "$cc" >"$tmp/which"; then
        echo "$cc: skipped, not installed"
        continue
    fi
    for lib in $libs; do
        n=0
        rm -f "$tmp"/*.o
        for src in "$root/lib/$lib"/*.c; do
            [ -e "$src" ] || continue
            n=$((n + 1))
            "$cc" -std=gnu11 -O2 -ffreestanding -Wall -Wextra -Werror \
                -Wno-unused-parameter -D__XEN_INTERFACE_VERSION__=0x00040e00 \
                -I"$root/include" -I"$root/lib" -I"$root" \
                -c "$src" -o "$tmp/$n.o"
        done
        if [ "$n" = 0 ]; then # headers only: emit what they define
            for h in "$root/lib/$lib"/*.h; do
                echo "#include \"$h\""
            done >"$tmp/headers.c"
            "$cc" -std=gnu11 -O2 -ffreestanding -fkeep-inline-functions \
                -D__XEN_INTERFACE_VERSION__=0x00040e00 \
                -I"$root/include" -I"$root/lib" -I"$root" \
                -c "$tmp/headers.c" -o "$tmp/headers.o" 2>"$tmp/err" ||
                { cat "$tmp/err"; exit 1; }
        fi
        ld -r -o "$tmp/all.rel" "$tmp"/*.o
        wants=$(nm -u "$tmp/all.rel" | awk '{ print $2 }' |
            grep -vxE 'memcpy|memmove|memset|memcmp|_GLOBAL_OFFSET_TABLE_' ||
            true)
        if [ -n "$wants" ]; then
            echo "$cc lib/$lib needs more than mem*:" $wants
            exit 1
        fi
        echo "$cc lib/$lib: $n files, nothing undefined but mem*"
    done
done
