#!/bin/bash
# SPDX-License-Identifier: MIT
# The rules of tests/xen/rules, in domain 0 of a local hypervisor.
. "$(dirname "$0")/../../system/cli/lib.sh"
rules=$2
run=(--run-dir "$work/r")
trap '"$freehold" hv stop "${run[@]}" 2>/dev/null; rm -rf "$work"' EXIT

"$freehold" hv start "${run[@]}"
claim $? "hv start"
"$freehold" exec "${run[@]}" -d 1 --create -- true
claim $? "another domain"
"$freehold" exec "${run[@]}" -d 0 -- "$rules" 0 1
claim $? "every rule holds"
"$freehold" hv status "${run[@]}" --json >"$work/status"
jq -e '.maps == 0 and .shared_pages == 0 and .channels == 0' <"$work/status" \
    >/dev/null
claim $? "nothing is left in the hypervisor"
"$freehold" hv stop "${run[@]}"
claim $? "hv stop"
nothing_left
claim $? "no process is left"
trap - EXIT
finish
