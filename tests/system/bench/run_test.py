#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A small part of `make bench`: the table is complete, the gates hold.

usage: run_test.py BENCH_RUN BUILD

Judges no time.  Exit status: 0 passed, 1 failed.
"""
import json
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

RUN, BUILD = sys.argv[1:]
WANTED = ["ways", "counts", "copy-batch", "lookup", "pool"]


def fail(words):
    print("FAILED:", words)
    sys.exit(1)


def run(*args):
    return subprocess.run([sys.executable, "-B", RUN, "--build", BUILD, *args],
                          capture_output=True, text=True, timeout=200,
                          check=False)


def check_row(row, out):
    key = row["key"]
    for field in ("claim", "source", "old", "ours", "ratio"):
        if not row[field]:
            fail(f"row {key} has no {field}")
    if row["held"] not in ("yes", "no"):
        fail(f"row {key}: {row['held']}: {row['reason']}")
    if not row["commands"]:
        fail(f"row {key} names no command line")
    root = xml.etree.ElementTree.parse(out / f"{key}.svg").getroot()
    if not root.tag.endswith("svg") or len(root) < 10:
        fail(f"the plot of {key} is empty")


def complete():
    with tempfile.TemporaryDirectory() as out:
        out = pathlib.Path(out)
        done = run("--quick", "--rows", ",".join(WANTED), "--out", str(out))
        if done.returncode:
            fail(f"status {done.returncode}\n{done.stdout}{done.stderr}")
        rows = json.loads((out / "results.json").read_text())["rows"]
        if [r["key"] for r in rows] != WANTED:
            fail(f"rows {[r['key'] for r in rows]}, wanted {WANTED}")
        for row in rows:
            check_row(row, out)
            for command in row["commands"]:
                if command not in done.stdout:
                    fail(f"{command} was not printed")
        if not any(row["gates"] for row in rows):
            fail("no gate among the rows")


def refused():
    """Bad usage is named and measures nothing."""
    done = run("--rows", "ways,none")
    if done.returncode != 2 or "no row 'none'" not in done.stderr:
        fail(f"status {done.returncode}: {done.stderr}")


refused()
complete()
