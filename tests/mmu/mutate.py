#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes a source of the engine with one mistake in it.

  mutate.py SOURCE OUT OLD NEW [HEADER NAME]

OLD must be there exactly once; several, and their NEWs, are separated by @@.
With HEADER the mistake is in it, and its text
takes the place of the line that includes it as NAME.
"""
import pathlib
import sys


def main(source, out, old, new, header=None, name=None):
    text = pathlib.Path(source).read_text(encoding="utf-8")
    where = pathlib.Path(header).read_text(encoding="utf-8") if header else text
    for was, now in zip(old.split("@@"), new.split("@@")):
        if where.count(was) != 1:
            sys.exit(f"mutate.py: {header or source}: {was!r} is there "
                     f"{where.count(was)} times; let the mutant follow it")
        where = where.replace(was, now)
    if header:
        line = f'#include "{name}"\n'
        if line not in text:
            sys.exit(f"mutate.py: {source} does not include {name}")
        where = text.replace(line, where.replace("#pragma once\n", ""))
    pathlib.Path(out).write_text(where, encoding="utf-8")


main(*sys.argv[1:])
