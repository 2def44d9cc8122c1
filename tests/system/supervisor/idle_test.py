#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""An idle attached disk costs nothing.

usage: idle_test.py FREEHOLD SUP_GUEST

One connected disk with every page mapped, nothing to do: worker, supervisor,
hypervisor and frontend together use less than 0.1 % of a CPU.  Measured over
FREEHOLD_IDLE_SECONDS (10), by the scheduler's own accounting.
"""
import os
import sys
import time

from world import Guest, World, claim, failures


def ran_ns(pid):
    """Nanoseconds that all threads of a process have run."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{t}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total


def main():
    seconds = float(os.environ.get("FREEHOLD_IDLE_SECONDS", "10"))
    with World() as w:
        d = w.domain()
        w.ctl("attach", domid=d, target="mem:16m", mode="w")
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok", "connect")
        claim(g.ask("write 1 3000")[0] == "ok", "some I/O")
        with open(os.path.join(w.run_dir, "hv", "lock"),
                  encoding="ascii") as f:
            fhv = int(f.read())
        pids = {"worker": w.worker_pid(d), "supervisor": w.serve_process.pid,
                "hypervisor": fhv, "frontend": g.process.pid}
        time.sleep(1)
        before = {k: ran_ns(p) for k, p in pids.items()}
        start = time.monotonic()
        time.sleep(seconds)
        spent = {k: ran_ns(p) - before[k] for k, p in pids.items()}
        elapsed = (time.monotonic() - start) * 1e9
        share = sum(spent.values()) / elapsed
        claim(share < 0.001, f"{share * 100:.4f} % of a CPU over {seconds:g} "
              f"s, in ns: {spent}")
        claim(g.ask("verify 1 3000")[0] == "ok", "it still works")
    return 1 if failures else 0


sys.exit(main())
