#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the first files of corpus/xs: short scripts of xenstore requests.

usage: make_xs_corpus.py FOLDER
"""
import pathlib
import sys

(CONTROL, DIRECTORY, READ, GET_PERMS, WATCH, UNWATCH, START, END, INTRODUCE,
 RELEASE, DOMAIN_PATH, WRITE, MKDIR, RM, SET_PERMS) = range(15)
INTRODUCED, RESUME, RESET, PART = 17, 18, 20 + 1, 22
ABORT, COMMIT = "F\n", "T\n"


def ask(domid, kind, payload="", tx=0):
    return bytes([domid | 0x08, kind, tx]) + payload.encode() + b"\xff"


def take(domid, how=0):
    return bytes([domid, how])


def renew(domid):
    return bytes([domid | 0x04])


scripts = {
    "empty": [],
    "write-read": [ask(1, WRITE, "data/a\nx"), ask(1, READ, "data/a\n")],
    "watch-hears": [ask(0, WATCH, "/local\nt\n"), ask(1, WRITE, "data/a\nx"),
                    take(0), take(0), take(0)],
    "commit": [ask(1, START, "\n"), ask(1, WRITE, "data/a/b\nx", 1),
               ask(1, RM, "data/a\n", 1), ask(1, END, COMMIT, 1)],
    "abort": [ask(1, START, "\n"), ask(1, WRITE, "data/a\nx", 1),
              ask(1, END, ABORT, 1)],
    "conflict": [ask(1, START, "\n"), ask(1, READ, "data\n", 1),
                 ask(1, WRITE, "data/a\nx"), ask(1, END, COMMIT, 1)],
    "give-away": [ask(1, SET_PERMS, "data\nn2\n")],
    "chown": [ask(0, SET_PERMS, "/local/domain/1/data\nn2\nr1\n"),
              ask(2, WRITE, "/local/domain/1/data/x\ny")],
    "release": [ask(1, WATCH, "data\nt\n"), ask(1, START, "\n"),
                ask(0, RELEASE, "1\n"), renew(1), ask(1, READ, "name\n")],
    "introduce": [ask(0, WATCH, "@introduceDomain\nt\n"),
                  ask(0, INTRODUCE, "9\n1\n1\n"), ask(0, RESUME, "9\n")],
    "directory-part": [ask(0, PART, "/local/domain/1\n0\n"),
                       ask(0, PART, "/local/domain/1\n7\n")],
    "reset": [ask(1, WATCH, "data\nt\n"), ask(1, RESET, "\n")],
    "does-not-read": [ask(0, WATCH, "/\nt\n")] +
                     [ask(1, WRITE, f"data/{i}\nx") for i in range(12)],
    "half-taken": [ask(0, WATCH, "/\nt\n"), take(0, 201),
                   ask(0, WRITE, "/a\nx"), take(0), take(0)],
    "no-nul": [ask(1, READ, "data"), ask(1, WRITE, "data")],
    "overlong": [ask(1, WRITE, "data/" + "a" * 4100), ask(1, READ, "name\n")],
    "deep": [ask(0, WRITE, "/a" * 1000 + "\nx"), ask(0, RM, "/a\n")],
    "control": [ask(0, CONTROL, "help\n"), ask(1, CONTROL, "help\n")],
}

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
for name, steps in scripts.items():
    (folder / name).write_bytes(b"".join(steps))
