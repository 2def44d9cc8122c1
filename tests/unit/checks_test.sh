#!/bin/sh
# SPDX-License-Identifier: MIT
# The check scripts themselves: each violation, planted alone into a tree that
# is clean otherwise, must be found, and the clean tree must pass.
#
# usage: checks_test.sh SOURCE_ROOT
set -eu
scripts=$1/scripts
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
spdx='/* SPDX-License-Identifier: MIT */'
tried=0
failed=0

# put FILE LINE...: writes a source file, with its SPDX line.
put()
{
    mkdir -p "$tree/$(dirname "$1")"
    printf '%s\n' "$spdx" >"$tree/$1"
    file=$1
    shift
    [ $# = 0 ] || printf '%s\n' "$@" >>"$tree/$file"
}

clean_tree()
{
    rm -rf "${tree:?}"/*
    put lib/base/shared.h '#pragma once' 'int f(int *p);' \
        '/* __atomic_load_n(p, 0) may stand here */'
    put lib/grant/grant.c '#include <stdint.h>' '#include <xen/xen.h>' \
        '#include <freehold/grant.h>' '#include <freehold/err.h>' \
        '#include "base/shared.h"' '#include "internal.h"' \
        'struct s { int free; int errno_like; };' \
        '/* errno, malloc(), alloca() and __atomic_x in words only */' \
        'int allocation(int a);' \
        'const char *t = "malloc(1); errno; \" __sync_x";' \
        'int g(struct s *s) { return s->free ? 1 : 2; }'
    put include/freehold/err.h '#pragma once'
    put include/freehold/grant.h '#pragma once' '#include <freehold/err.h>'
    put lib/blkfront/f.c '#include <stdio.h>' '#include "ring/ring.h"' \
        '#include <freehold/xenbus.h>' 'int h(void) { return snprintf(0, 0, ""); }'
    put lib/xenplat/x.c '#include <errno.h>' '#include <xenstore.h>' \
        'int e(void) { return errno; }'
    put blkback/b.c '#include <stdlib.h>' '#include "base/shared.h"' \
        '#include "blkback/b.h"' 'void *m(void) { return malloc(1); }'
    put hv/h.c '#include "hv/abi.h"' '/* TODO is for lib/ only */'
    put xenlibs/x.c '#include "hv/abi.h"'
    put cli/c.c '#include "blkback/b.h"' '#include "hv/abi.h"'
}

# finds CHECK NAME: the check must fail on the tree as it is now.
finds()
{
    tried=$((tried + 1))
    if "$scripts/check-$1" "$tree" >/dev/null 2>&1; then
        echo "check-$1 does not find: $2"
        failed=1
    fi
    clean_tree
}

passes()
{
    tried=$((tried + 1))
    "$scripts/check-$1" "$tree" || {
        echo "check-$1 finds fault with the clean tree"
        failed=1
    }
}

# plant FILE LINE...: adds lines to a file of the clean tree.
plant()
{
    file=$1
    shift
    [ -e "$tree/$file" ] || put "$file"
    printf '%s\n' "$@" >>"$tree/$file"
}

clean_tree
passes layers
passes bans
passes headers

plant lib/base/shared.h '#include "ring/ring.h"'
finds layers "base on ring"
plant lib/ring/ring.h '#include "blkif/layout.h"'
finds layers "two modules of one level"
plant lib/grant/grant.c '#include <freehold/pgrant.h>'
finds layers "a public header of a higher level"
plant include/freehold/grant.h '#include <freehold/xenbus.h>'
finds layers "a public header on a higher one"
plant lib/grant/grant.c '#include <unistd.h>'
finds layers "a system header in a freestanding library"
plant lib/grant/grant.c '#  include   "hv/abi.h"'
finds layers "lib/ on hv/"
plant lib/grant/grant.c '#include "../ring/ring.h"'
finds layers "a way around by .."
plant lib/blkfront/f.c '#include "xenplat/xenplat.h"'
finds layers "blkfront on xenplat"
plant lib/novel/n.c '#include "base/shared.h"'
finds layers "a module without a level"
plant blkback/b.c '#include "hv/abi.h"'
finds layers "blkback/ on hv/"
plant hv/h.c '#include "blkback/b.h"'
finds layers "hv/ on blkback/"
plant xenlibs/x.c '#include "hv/hv.h"'
finds layers "xenlibs/ on hv/'s inside"
plant blkback/b.c '#include "cli/cli.h"'
finds layers "blkback/ on cli/"

plant lib/grant/grant.c 'int a(int *p) { return __atomic_load_n(p, 0); }'
finds bans "an atomic builtin"
plant hv/h.c 'int a(int *p) { return __sync_fetch_and_add(p, 1); }'
finds bans "an old atomic builtin"
plant blkback/b.c '#include <stdatomic.h>'
finds bans "C11 atomics"
plant blkback/b.c '_Atomic int counter;'
finds bans "an atomic type"
plant blkback/b.c 'void v(int n) { g(alloca(n)); }'
finds bans "alloca"
plant hv/h.c 'struct w { unsigned a : 3; };'
finds bans "a bit-field"
plant hv/h.c 'struct w {' '    uint32_t flag:1, other:2;' '};'
finds bans "a bit-field with a neighbour"
plant lib/grant/grant.c '/* TODO: later */'
finds bans "TODO"
plant lib/grant/grant.c '/* XXX */'
finds bans "XXX"
plant lib/grant/grant.c 'int x(void) { return errno; }'
finds bans "errno"
plant lib/grant/grant.c 'void *x(void) { return malloc(1); }'
finds bans "malloc"
plant lib/grant/grant.c 'void x(void *p) { free(p); }'
finds bans "free"
plant lib/grant/grant.c 'void x(int a) { assert(a); }'
finds bans "assert"
plant lib/grant/grant.c 'void x(void) { printf("x"); }'
finds bans "printf"
plant lib/grant/grant.c 'int x(char *p) { return snprintf(p, 1, "x"); }'
finds bans "snprintf in a freestanding library"
plant lib/blkfront/f.c 'void x(void) { printf("x"); }'
finds bans "printf in the frontend library"
put hv/long.c
yes ' ' 2>/dev/null | head -n 801 >>"$tree/hv/long.c"
finds bans "801 lines"
put hv/deep.c 'void' 'f(void)' '{'
yes '    g();' 2>/dev/null | head -n 60 >>"$tree/hv/deep.c"
echo '}' >>"$tree/hv/deep.c"
passes bans
put hv/deep.c 'void' 'f(void)' '{'
yes '    g();' 2>/dev/null | head -n 61 >>"$tree/hv/deep.c"
echo '}' >>"$tree/hv/deep.c"
finds bans "a function of 61 lines"
printf 'int x;\n' >"$tree/hv/bare.c"
finds bans "no SPDX line"
put hv/open.h 'int x;'
finds bans "no #pragma once"
mkdir "$tree/scripts"
printf '#!/bin/sh\nexit 0\n' >"$tree/scripts/bare"
finds bans "a script without SPDX line"
printf 'project()\n' >"$tree/meson.build"
finds bans "a meson.build without SPDX line"

put hv/alone.h '#pragma once' 'uint32_t x;'
finds headers "a header that needs another"

echo "$tried planted trees"
exit "$failed"
