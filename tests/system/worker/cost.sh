#!/bin/bash
# SPDX-License-Identifier: MIT
# How many instructions a request of one page costs the worker, in all of its
# turns, without those of copying: which of its variants of memcpy the C library
# takes is the machine's affair, and fh_copy_data()'s one instruction counts once
# for each of a page's 512 words.  A gate, since a count repeats exactly where a
# time does not.
# $1 the load, $2 the most instructions per request.
set -eu
command -v valgrind >/dev/null || {
    echo "skipped: valgrind is not installed"
    exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/freehold-test.XXXXXX")
trap 'rm -rf "$work"' EXIT

n=$(valgrind -q --tool=callgrind --callgrind-out-file="$work/out" \
    --toggle-collect=fh_worker_turn "$1" 32000 2>"$work/err") || {
    cat "$work/err"
    exit 1
}
total=$(awk '/^summary:/ { print $2 }' "$work/out")
copies=$(callgrind_annotate --auto=no --threshold=100 "$work/out" |
    awk '/:_*(memcpy|memmove)/ { gsub(",", "", $1); sum += $1 }
         END { print sum + 0 }')
each=$(((total - copies) / n - 512))
echo "$total instructions, $copies in memcpy, $n pages, $n requests: $each each," \
    "$2 allowed"
[ "$copies" -gt 0 ] && [ "$each" -gt 100 ] && [ "$each" -le "$2" ]
