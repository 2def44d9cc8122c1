#!/bin/sh
# SPDX-License-Identifier: MIT
# Every test that docs/SPEC.md names is there, and is run.
#
# usage: spec_check.sh SOURCE_ROOT
set -eu
cd "$1"
missing=0
for name in $(grep -o '`[a-z0-9_]*__[a-z0-9_]*`' docs/SPEC.md | tr -d '`' |
    sort -u); do
    # defined once, and named once more in its program's list
    n=$(grep -rhow "$name" tests --include='*.c' | wc -l)
    [ "$n" -ge 2 ] || { echo "docs/SPEC.md: no test $name"; missing=1; }
done
exit "$missing"
