#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The supervisor dies, alone or with its workers, and is started again.

usage: restart_test.py FREEHOLD SUP_GUEST CASE

Exit status: 0 passed, 1 failed, 77 skipped (with the reason).
"""
import os
import random
import signal
import sys
import time

from world import FREEHOLD, Guest, World, claim, failures, wait_for

MEM = "mem:16m"


class Restarted(World):
    """On tmpfs, as /run is: recovery files are found again."""

    def __init__(self, *options):
        super().__init__(*options, parent="/dev/shm")
        self.options = options

    def kill(self):
        self.serve_process.kill()
        self.serve_process.wait()

    def again(self, *options):
        self.kill()
        self.serve(*(options or self.options))

    def image(self, name="disk.img", mib=16):
        path = os.path.join(self.dir, name)
        os.truncate(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), mib << 20)
        return path

    def workers(self):
        """Processes that are workers of this world, whoever knows them."""
        found = []
        for pid in os.listdir("/proc"):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    ours = self.run_dir.encode() in f.read()
                with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                    if ours and f.read() == "freehold-worker\n":
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def alive(self):
        return {p for p in self.workers() if not is_zombie(p)}

    def kill_workers(self):
        for pid in self.workers():
            kill(pid)

    def served(self, d, devid=51712):
        return wait_for(lambda: (self.device(d, devid) or {})
                        .get("state") == "connected" and
                        self.worker_pid(d, devid), 20)


def is_zombie(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except OSError:
        return True


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def all_right(answer, what):
    claim(answer[0] == "ok" and answer[2:4] == ["0", "0"],
          f"{what}: {' '.join(answer)}")


def case_alone():
    """Killed alone: the guest does not even see a pause."""
    with Restarted() as w:
        d = w.domain()
        image = w.image()
        for target in (image, MEM, "null:16m"):
            for persistent in (1, 0):
                w.ctl("attach", domid=d, target=target, mode="w")
                g = Guest(w, d, persistent=persistent)
                g.ask("connect")
                pid = w.worker_pid(d)
                g.send("load 2500")
                for _ in range(4):
                    time.sleep(0.3)
                    w.again()
                    claim(w.served(d) == pid, f"the same worker {pid}")
                    claim(w.alive() == {pid}, "and no other")
                answer = g.answer()
                if target != "null:16m": # it keeps nothing
                    all_right(answer, f"{target} {persistent}")
                else:
                    claim(answer[2] == "0", f"{target}: {' '.join(answer)}")
                dev = w.device(d)
                claim(dev["requests"] >= int(answer[1]),
                      f"{dev['requests']} requests are still counted")
                kill(pid)
                if target != "null:16m":
                    claim(g.ask("write 3 500") == ["ok", "0", "0"],
                          "its death is noticed, and a successor made")
                    claim(w.worker_pid(d) != pid, "by the new supervisor")
                    claim(g.ask("verify 3 500") == ["ok", "0", "0"], "verify")
                claim(g.ask("close") == ["ok"], "close")
                g.end()
                claim(w.ctl("detach", domid=d, vdev="xvda")["ok"], "detach")
                claim(wait_for(lambda: not w.alive()), "no worker is left")
        claim(w.stop() == 0, "stop")
        claim(set(os.listdir(w.run_dir)) <= {"hv"}, "nothing is left")


def case_both():
    """Killed with its workers: a pause, from the recovery file on."""
    with Restarted() as w:
        d = w.domain()
        image = w.image()
        for persistent in (1, 0):
            w.ctl("attach", domid=d, target=image, mode="w")
            g = Guest(w, d, persistent=persistent)
            g.ask("connect")
            g.send("load 4000")
            pids = [w.worker_pid(d)]
            for i in range(5):
                time.sleep(0.3)
                if i % 2:
                    w.kill_workers()
                    w.kill()
                else:
                    w.kill()
                    w.kill_workers()
                w.serve()
                pids.append(w.served(d))
            all_right(g.answer(), f"{pids}")
            claim(len(set(pids)) == 6, "a new worker each time")
            claim(g.ask("close") == ["ok"], "close")
            g.end()
            w.ctl("detach", domid=d, vdev="xvda")


def case_orphan_dies():
    """A worker that dies while there is no supervisor."""
    with Restarted() as w:
        d = w.domain()
        image = w.image()
        w.ctl("attach", domid=d, target=image, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        g.send("load 3000")
        pid = w.worker_pid(d)
        time.sleep(0.3)
        w.kill()
        time.sleep(0.3)
        kill(pid)
        time.sleep(0.5)
        w.serve()
        claim(w.served(d) not in (0, pid), "it has a successor")
        all_right(g.answer(), "the load")


def case_many():
    """Several guests and disks, a pool, a disk without a guest."""
    for options in ((), ("--workers", "2")):
        with Restarted(*options) as w:
            doms = [w.domain(f"g{i}") for i in range(4)]
            guests = {}
            for d in doms:
                for vdev in (51712, 51728):
                    w.ctl("attach", domid=d, vdev=str(vdev), mode="w",
                          target=w.image(f"{d}-{vdev}"))
                    guests[d, vdev] = Guest(w, d, vdev)
                    guests[d, vdev].ask("connect")
            idle = w.domain("idle")
            w.ctl("attach", domid=idle, target=w.image("idle"), mode="w",
                  grants="copy", order=1)
            before = w.alive()
            for g in guests.values():
                g.send("load 4000")
            for i in range(3):
                time.sleep(0.4)
                if i:
                    kill(next(iter(w.alive())))
                w.again()
                for d, vdev in guests:
                    w.served(d, vdev)
                claim(len(w.alive()) == len(before), f"{len(before)} workers")
            for (d, vdev), g in guests.items():
                all_right(g.answer(), f"{d} {vdev}")
            g = Guest(w, idle)
            claim(g.ask("connect")[0] == "ok", "the idle disk is there")
            claim(w.device(idle)["grants"] == "copy", "as it was attached")
            claim(g.ask("write 1 100") == ["ok", "0", "0"], "and works")


def main():
    cases = {k[5:]: v for k, v in globals().items() if k.startswith("case_")}
    name = sys.argv[3] if len(sys.argv) > 3 else ""
    if name not in cases:
        print("usage: restart_test.py FREEHOLD SUP_GUEST CASE;", *cases)
        return 2
    if not os.path.exists(FREEHOLD):
        print("skipped: no freehold")
        return 77
    cases[name]()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
