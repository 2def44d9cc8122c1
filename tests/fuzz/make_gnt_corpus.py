#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes the first files of corpus/gnt: steps as gnt_fuzz.c reads them.

usage: make_gnt_corpus.py FOLDER
"""
import os
import random
import sys

MAP, UNMAP, LAST = 0, 3, 15


def step(op, dom, elements, fault=0, preempt=0):
    """One hypercall of len(elements) elements, each some bytes."""
    return (bytes([op | dom << 4, len(elements) - 1]) + b"".join(elements) +
            bytes([fault, preempt]))


def map_(granter, ref, flags=2, slot=0):
    return bytes([granter, ref, flags, 0, slot])


def unmap(i, place=0, dev=0):
    return bytes([i, dev, place])


def fail(call, again=False):
    """The fault byte: call number @call of the embedder fails."""
    return 1 | (2 if again else 0) | call << 2


# Reference i of domain d is granted to domain (d + i) % 3.
def files():
    three = [map_(0, 1, slot=i) for i in range(3)]
    gone = [unmap(i) for i in range(3)]
    yield "map-unmap", b"\0" + step(MAP, 1, three) + step(UNMAP, 1, gone)
    devices = [map_(0, 1, 3), map_(0, 1, 7)]
    yield "iommu-map-unmap", (b"\1" + step(MAP, 1, devices) +
                              step(UNMAP, 1, [unmap(0, 0, 1), unmap(1, 0, 1)]))
    yield "quota", b"\0" + b"".join(
        step(MAP, 1, [map_(0, 1, 2, i)] * 5) for i in range(4))
    for k in range(8):
        yield f"map-fault-{k}", b"\1" + step(MAP, 1, three, fail(k))
        yield f"unmap-fault-{k}", (b"\1" + step(MAP, 1, three) +
                                   step(UNMAP, 1, gone, fail(k)))
    for k in range(1, 4):
        yield f"preempt-{k}", (b"\0" + step(MAP, 1, three, 0, k) +
                               step(UNMAP, 1, gone, 0, k))
    yield "eagain", b"\0" + step(MAP, 1, three, fail(2, True))
    yield "nonsense", b"\0" + bytes([LAST, 3, 3, 9])
    to_v2 = bytes([LAST, 0, 1, 1, 1, 2])
    yield "version-2", b"\0" + to_v2
    yield "version-2-under-map", (b"\0" + step(MAP, 1, three) + to_v2 +
                                  step(UNMAP, 1, gone) + to_v2)
    rng = random.Random(2014)
    for i in range(16):
        yield f"random-{i}", bytes(rng.randrange(256) for _ in range(1500))


def main():
    if len(sys.argv) != 2:
        print(__doc__.strip().split("\n")[-1])
        return 2
    os.makedirs(sys.argv[1], exist_ok=True)
    for name, data in files():
        with open(os.path.join(sys.argv[1], name), "wb") as f:
            f.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
