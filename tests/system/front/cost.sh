#!/bin/bash
# SPDX-License-Identifier: MIT
# How many instructions a request costs the frontend: submitting it, its share
# of publishing, taking its answer.  A gate, since a count repeats exactly where
# a time does not.
# $1 the load, $2 the most instructions per request.
set -eu
command -v valgrind >/dev/null || {
    echo "skipped: valgrind is not installed"
    exit 77
}
work=$(mktemp -d "${TMPDIR:-/tmp}/freehold-test.XXXXXX")
trap 'rm -rf "$work"' EXIT

n=$(valgrind -q --tool=callgrind --callgrind-out-file="$work/out" \
    --toggle-collect=fh_blkfront_submit --toggle-collect=fh_blkfront_kick \
    --toggle-collect=fh_blkfront_poll "$1" 32000 2>"$work/err") || {
    cat "$work/err"
    exit 1
}
total=$(awk '/^summary:/ { print $2 }' "$work/out")
each=$((total / n))
echo "$total instructions, $n requests: $each each, $2 allowed"
[ "$each" -gt 100 ] && [ "$each" -le "$2" ]
