#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Our libraries have the soname, symbols and version nodes of the system's."""
import re
import subprocess
import sys


def run(*args):
    return subprocess.run(args, check=True, capture_output=True,
                          text=True).stdout


def symbols(path):
    lines = run('nm', '-D', '--defined-only', path).splitlines()
    return {tuple(line.split()[1:]) for line in lines}


def soname(path):
    return re.search(r'\(SONAME\).*\[(.*)\]', run('readelf', '-d', path))[1]


def system(name):
    for line in run('ldconfig', '-p').splitlines():
        if line.split()[:1] == [name]:
            return line.split()[-1]
    print(f'no {name} on this system: skipped')
    sys.exit(77)


failed = False
for ours in sys.argv[1:]:
    name = soname(ours)
    theirs = system(name)
    for symbol in sorted(symbols(ours) ^ symbols(theirs)):
        print(f'{name}: only in one of the two: {symbol}')
        failed = True
    if soname(theirs) != name:
        failed = True
sys.exit(failed)
