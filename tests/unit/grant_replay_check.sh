#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs a trace of what Xen's own code answered on the engine: every answer and
# all state after every operation must be the trace's.
#
# usage: grant_replay_check.sh GNT_REPLAY TRACE
set -eu

"$1" "$2" | diff "$2" - >/dev/null || {
    "$1" --explain "$2" || true
    echo "the engine differs from the trace"
    exit 1
}
echo "$(grep -c '^O ' "$2") operations, no difference"
