#!/bin/sh
# SPDX-License-Identifier: MIT
# A short, repeatable run of one fuzz target under libFuzzer and ASan, starting
# from the corpus of the tree.
#
# usage: fuzz_run.sh SOURCE_ROOT NAME RUNS SOURCE...
#
# New inputs go to a temporary folder; a crash is printed in base64, to be
# kept in the corpus.  Without clang it is skipped (77).
set -eu
root=$1 name=$2 runs=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! command -v clang >/dev/null; then
    echo "skipped: no clang"
    exit 77
fi
cd "$root"
clang -g -O1 -std=gnu11 -D_GNU_SOURCE -D__XEN_INTERFACE_VERSION__=0x00040e00 \
    -Iinclude -Ilib -I. -Itests -Itests/unit -fsanitize=fuzzer,address,undefined \
    -fno-sanitize-recover=undefined "tests/fuzz/${name}_fuzz.c" "$@" \
    -o "$work/fuzz"
mkdir "$work/new"
cd "$work"
if ! "$work/fuzz" -runs="$runs" -seed=1 -max_len=4500 -print_final_stats=1 \
    "$work/new" "$root/tests/fuzz/corpus/$name" >"$work/log" 2>&1; then
    tail -n 40 "$work/log"
    for crash in "$work"/crash-*; do
        [ ! -f "$crash" ] || base64 "$crash"
    done
    exit 1
fi
grep -E 'stat::|DONE' "$work/log"
