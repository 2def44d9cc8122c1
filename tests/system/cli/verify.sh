#!/bin/bash
# SPDX-License-Identifier: MIT
# Mixed verified I/O through every process boundary while workers are killed, in
# a few seconds; the sanitizer builds run it, too.
. "$(dirname "$0")/lib.sh"

for grants in persistent copy map; do
    "$freehold" bench --guests 2 --depth 16 --rw randrw --verify --seconds 3 \
        --size 8m --grants $grants --kill-worker-every 1 --json \
        >"$work/out" 2>"$work/err" </dev/null
    claim $? "bench --grants $grants --verify --kill-worker-every 1"
    jq -e '.errors == 0 and .mismatches == 0 and .requests > 0 and
        .worker_restarts > 0' "$work/out" >/dev/null
    claim $? "$grants: requests answered, no error, no mismatch, restarts" ||
        cat "$work/out" "$work/err"
done
nothing_left
claim $? "no process is left"
finish
