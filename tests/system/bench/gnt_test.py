#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The counts that the grant-table engine promises, by gnt-bench and gnt-replay.

usage: gnt_test.py GNT_BENCH GNT_REPLAY TRACE

No time is judged.  Exit status: 0 passed, 1 failed, 77 skipped (instructions
cannot be counted on this processor).
"""
import json
import subprocess
import sys
import tempfile

BENCH, REPLAY, TRACE = sys.argv[1:]
MILLION = "1000000"
failures = []


def expect(holds, words, more=""):
    print(("ok      " if holds else "FAILED  ") + words)
    if more and not holds:
        print(more)
    if not holds:
        failures.append(words)


def bench(engine, case, *more):
    done = subprocess.run([BENCH, "--engine", engine, "--case", case, *more,
                           "--counts", "--json"], capture_output=True,
                          text=True, check=True, timeout=100)
    return json.loads(done.stdout)


def pair():
    """A pair on a pinned entry; with I/O mappings counted."""
    ours = bench("freehold", "pinned", "--live", "1")
    if ours["instructions_per_pair"] is None:
        sys.exit(77)
    locked, insns = ours["locked_per_pair"], ours["instructions_per_pair"]
    expect(ours["unknown_operands"] == 0, "every instruction is understood")
    expect(locked <= 5, f"pinned pair: {locked} locked instructions, <= 5")
    expect(insns <= 400, f"pinned pair: {insns} instructions, <= 400")
    io = bench("freehold", "pinned", "--live", "1", "--iommu")
    more = (io["locked_per_pair"] - locked) / 2
    expect(more <= 1, f"IOMMU: {more} locked more per operation, <= 1")
    return ours, io


def flat(ours, io):
    """No cost depends on how much there is."""
    for name, base, args in (
            ("live mappings", ours, ("--live", MILLION)),
            ("I/O mappings", io, ("--live", MILLION, "--iommu")),
            ("grant frames", ours, ("--live", "1", "--frames", "1"))):
        j = bench("freehold", "pinned", *args)
        ratio = j["instructions_per_pair"] / base["instructions_per_pair"]
        lines = j["cache_lines_per_pair"] - base["cache_lines_per_pair"]
        expect(0.98 <= ratio <= 1.02, f"{name}: instructions times {ratio:.4f}")
        expect(abs(lines) < 0.2, f"{name}: {lines:+.3f} cache lines")


def flushes():
    batch = ("--batch", "256")
    untouched = bench("freehold", "pinned", *batch)["flushes_per_unmap"]
    touched = bench("freehold", "pinned", *batch, "--touched")
    per = touched["flushes_per_unmap"]
    expect(untouched == 0, f"untouched pages: {untouched} flushes")
    expect(0 < per <= 1 / 256, f"touched pages: {per} flushes each")


def baseline():
    """Upstream's locks are upstream's: 12 of Xen's own and the slot's."""
    for case, xen in (("pinned", 12), ("fresh", 14)):
        j = bench("percpu", case)
        ratio = j["locked_per_pair"] / xen
        expect(0.85 <= ratio <= 1.15,
               f"percpu, {case}: {ratio:.3f} of the locked ones of Xen")


def death():
    j = bench("freehold", "death", "--live", MILLION)
    expect(j["longest_step_units"] <= 256,
           f"death: {j['longest_step_units']} mappings in a step")


def replay(*args):
    return subprocess.run([REPLAY, *args], capture_output=True, text=True,
                          check=False, timeout=100)


def same_as_xen():
    done = replay(TRACE)
    with open(TRACE, encoding="ascii") as f:
        expect(done.returncode == 0 and done.stdout == f.read(),
               "gnt-replay writes the trace that it was given")


def many_pins():
    """Xen's limit of 128 mappings of an entry is not ours: named as such."""
    lines = ["T xengnt-trace 1", "S seed=1 ops=131"]
    for dom, first in ((1, 0x1000), (2, 0x1030)):
        lines.append(f"D dom={dom} first={first:x} frames=48 slots=200 "
                     "maxgframes=3 maxmtframes=2 maxver=2")
    lines.append(".")
    lines.append("O 0 dom=1 poke ref=9 fl=1 did=2 fr=4096 x=0 y=0")
    for op in range(1, 131):
        lines.append(f"O {op} dom=2 map dom=1 ref=9 fl=2 slot={op}")
    out, refused = [], False
    for line in replay_text(lines):
        if line[0] == "O":
            refused = line.startswith(("O 129 ", "O 130 "))
            out.append(line)
            if refused:
                out.append(f"R {line.split()[1]} rc=0 st=-1")
        elif not refused:
            out.append(line)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write("\n".join(out) + "\n")
        f.flush()
        done = replay("--explain", f.name)
    expect(done.returncode == 0 and "pins of one entry" in done.stdout and
           "O 129 " in done.stdout and "O 128 " not in done.stdout,
           "--explain names pins above Xen's limit", done.stdout[-1000:])


def replay_text(lines):
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as f:
        f.write("\n".join(lines) + "\n")
        f.flush()
        return replay(f.name).stdout.splitlines()


ours_, io_ = pair()
flat(ours_, io_)
flushes()
baseline()
death()
same_as_xen()
many_pins()
sys.exit(1 if failures else 0)
