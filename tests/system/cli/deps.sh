#!/bin/bash
# SPDX-License-Identifier: MIT
# scripts/deps installs what is missing as root, otherwise prints the command;
# against a dpkg-query, an apt-get and an id of our own.  $1: the source tree.
. "$(dirname "$0")/lib.sh"
top=$1
mkdir "$work/bin"

fake()
{
    printf '#!/bin/sh\n%s\n' "$2" >"$work/bin/$1"
    chmod +x "$work/bin/$1"
}

deps()
{
    PATH=$work/bin:$PATH "$top/scripts/deps" "$@" >"$work/out" 2>"$work/err"
}

want="apt-get install -y --no-install-recommends e2fsprogs nbdkit libnbd-bin"
fake dpkg-query 'exit 1'
fake apt-get 'echo "apt-get $*" >>'"$work/calls"
fake id 'echo 1000'
deps run
[ $? = 1 ] && grep -qx "    sudo $want" "$work/err"
claim $? "without root: the exact command, status 1"
[ ! -e "$work/calls" ]
claim $? "without root: nothing is installed"

fake id 'echo 0'
deps --check run
[ $? = 1 ] && grep -q "$want" "$work/err" && [ ! -e "$work/calls" ]
claim $? "--check as root: only the command"
deps run
[ $? = 0 ] && grep -q "^$want" "$work/calls"
claim $? "as root: installed"
fake apt-get 'exit 100'
deps run
[ $? = 100 ]
claim $? "a failing apt-get is a failure"

fake dpkg-query 'echo installed'
deps build run test
[ $? = 0 ] && [ ! -s "$work/out" ] && [ ! -s "$work/err" ]
claim $? "nothing missing: silent"
deps nope
[ $? = 2 ] && grep -q "no profile 'nope'" "$work/err"
claim $? "an unknown profile"
deps
[ $? = 2 ]
claim $? "no profile"
finish
