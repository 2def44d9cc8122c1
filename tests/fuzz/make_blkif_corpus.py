#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the corpus of blkif_fuzz: one small input for each rule of the codec.

usage: make_blkif_corpus.py FOLDER

The corpus lies in the tree (corpus/blkif); this is how its first files came
about.  What a fuzzer finds is added beside them, by hand, under a telling name.
"""
import pathlib
import struct
import sys

READ, WRITE, BARRIER, FLUSH, PACKET, DISCARD, INDIRECT = range(7)
RO, ALL = 1, 2 | 4 | 8 | 16
ABIS = {"native": 0, "x86_32": 1, "x86_64": 2}
PAGE = (0, 7)


def slot(abi, op, b1, w2, rest):
    pad = b"" if abi == 1 else b"\0" * 4
    return struct.pack("<BBH", op, b1, w2) + pad + rest


def direct(abi, op, segs, sector=0, n=None):
    body = struct.pack("<QQ", 0x0123456789ABCDEF, sector)
    for i, (first, last) in enumerate(segs):
        body += struct.pack("<IBBH", 100 + i, first, last, 0)
    return slot(abi, op, len(segs) if n is None else n, 0, body)


def discard(abi, sector, n, flag=0):
    return slot(abi, DISCARD, flag, 0, struct.pack("<QQQ", 1, sector, n))


def indirect(abi, inner, n, sector=0, segs=()):
    body = struct.pack("<QQH", 2, sector, 0) + b"\0\0"
    body += struct.pack("<8I", *range(1, 9))
    head = slot(abi, INDIRECT, inner, n, body)
    head = head.ljust(108 if abi == 1 else 112, b"\0")
    return head + b"".join(struct.pack("<IBBH", 9, a, b, 0) for a, b in segs)


def inputs():
    for name, abi in ABIS.items():
        yield f"read-{name}", abi, ALL, 20, direct(abi, READ, [PAGE])
        yield f"write-11-{name}", abi, ALL, 20, direct(abi, WRITE, [PAGE] * 11)
        yield f"flush-{name}", abi, ALL, 20, direct(abi, FLUSH, [])
        yield f"discard-{name}", abi, ALL, 20, discard(abi, 8, 100, 1)
        yield f"indirect-{name}", abi, ALL, 20, indirect(
            abi, WRITE, 32, 8, [PAGE] * 32)
    yield "empty", 0, 0, 0, b""
    yield "barrier-data", 0, ALL, 20, direct(0, BARRIER, [PAGE])
    yield "barrier-empty-ro", 0, ALL | RO, 20, direct(0, BARRIER, [], 2**64 - 1)
    yield "write-ro", 0, ALL | RO, 20, direct(0, WRITE, [PAGE])
    yield "discard-ro", 0, ALL | RO, 20, discard(0, 0, 8)
    yield "indirect-write-ro", 0, ALL | RO, 20, indirect(0, WRITE, 1, 0, [PAGE])
    yield "read-0-segments", 0, ALL, 20, direct(0, READ, [])
    yield "read-12-segments", 0, ALL, 20, direct(0, READ, [PAGE] * 11, 0, 12)
    yield "flush-with-data", 0, ALL, 20, direct(0, FLUSH, [PAGE])
    yield "last-8", 0, ALL, 20, direct(0, READ, [(0, 8)])
    yield "first-after-last", 0, ALL, 20, direct(0, READ, [(5, 4)])
    yield "sector-wraps", 0, ALL, 63, direct(0, READ, [PAGE], 2**64 - 4)
    yield "one-past-the-end", 0, ALL, 4, direct(0, READ, [PAGE], 8)
    yield "discard-wraps", 0, ALL, 63, discard(0, 16, 2**64 - 16)
    yield "discard-nothing", 0, ALL, 20, discard(0, 0, 0)
    yield "not-offered", 0, 0, 20, direct(0, FLUSH, [])
    yield "packet-command", 0, ALL, 20, direct(0, PACKET, [PAGE])
    yield "indirect-0", 0, ALL, 20, indirect(0, READ, 0)
    yield "indirect-257", 0, ALL, 20, indirect(0, READ, 257)
    yield "indirect-65535", 0, ALL, 20, indirect(0, READ, 65535)
    yield "indirect-barrier", 0, ALL, 20, indirect(0, BARRIER, 1, 0, [PAGE])
    yield "indirect-bad-segment", 0, ALL, 20, indirect(
        0, READ, 2, 0, [PAGE, (7, 6)])
    yield "indirect-segments-past-the-end", 0, ALL, 4, indirect(
        0, READ, 2, 0, [PAGE, PAGE])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, abi, how, log2_size, wire in inputs():
        (folder / name).write_bytes(bytes([abi, how, log2_size]) + wire)


main()
