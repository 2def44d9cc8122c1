#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a worker may still do that its guest has taken over.

usage: sandbox_test.py FREEHOLD SUP_GUEST INTRUDER

The intruder makes a running worker carry out system calls.  One that is not on
the list kills it, the guest sees a pause and no error, and the operator is told
why.  With the sandbox off the same calls succeed: that is what it is for.
"""
import os
import signal
import subprocess
import sys
import time

from world import Guest, World, claim, failures, wait_for

INTRUDER = os.path.abspath(sys.argv[3])
FORBIDDEN = ["open", "socket", "exec", "fork", "kill", "ptrace", "code",
             "uring"]
HARMLESS_WITHOUT = ["open", "socket", "code", "kill"]


def intrude(pid, deed, *more):
    p = subprocess.run([INTRUDER, str(pid), deed, *map(str, more)],
                       check=False, text=True, capture_output=True)
    return p.stdout.strip() or "failed: " + p.stderr.strip()


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return {k: v.strip() for k, _, v in
                (line.partition(":") for line in f)}


def workers(w):
    return w.ctl("status")["workers"]


def check_rights(w, pid):
    s = status_of(pid)
    claim(s["Seccomp"] == "2", "a filter of system calls is on")
    claim(s["NoNewPrivs"] == "1", "no exec brings rights back")
    claim(int(s["CapEff"], 16) == 0 and int(s["CapPrm"], 16) == 0,
          f"no capabilities: {s['CapEff']} {s['CapPrm']}")
    if os.geteuid() == 0:
        claim(int(s["CapBnd"], 16) == 0, f"nor may it get any: {s['CapBnd']}")
    with open(f"/proc/{pid}/limits", encoding="ascii") as f:
        core = [l.split() for l in f if l.startswith("Max core")][0]
    claim(core[4:6] == ["0", "0"], "it dumps no core")
    claim(os.readlink(f"/proc/{pid}/fd/0") == "/dev/null" and
          os.readlink(f"/proc/{pid}/fd/1") == "/dev/null",
          "nobody's terminal is its own")
    files = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        link = os.readlink(f"/proc/{pid}/fd/{name}")
        if link.startswith("/") and not link.startswith(("/dev/null",
                                                         "/memfd:", w.dir)):
            files.append(link)
    claim(not [f for f in files if not f.startswith("/proc/")],
          f"its files: {files}")


def takeover(w, domid, image):
    """Each forbidden call, under load."""
    w.ctl("attach", domid=domid, target=image, mode="w")
    g = Guest(w, domid)
    g.ask("connect")
    check_rights(w, w.worker_pid(domid))
    claim(workers(w)[0]["sandboxed"], "status says so")
    g.send(f"load {len(FORBIDDEN) * 1000}")
    for deed in FORBIDDEN:
        pid = wait_for(lambda: w.worker_pid(domid))
        time.sleep(0.5)  # an early death would be delayed more and more
        answer = intrude(pid, deed)
        claim(answer == f"killed by signal {signal.SIGSYS.value}",
              f"{deed}: {answer}")
        claim(wait_for(lambda: w.worker_pid(domid) not in (0, pid)),
              f"{deed}: a successor")
    answer = g.answer()
    claim(answer[0] == "ok" and answer[2:4] == ["0", "0"],
          f"the guest: {' '.join(answer)}")
    claim("SIGSYS: a system call that its sandbox forbids" in w.read_log(),
          "the operator is told why")
    pid = w.worker_pid(domid)
    claim(intrude(pid, "getpid") == f"returned {pid}",
          "a call that is allowed returns")
    claim(g.ask("write 1 500")[:2] == ["ok", "0"], "and the disk goes on")
    g.ask("close")
    g.end()


def main():
    with World() as w:
        image = os.path.join(w.dir, "disk.img")
        os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 16 << 20)
        takeover(w, w.domain(), image)
    with World("--sandbox", "off") as w:
        d = w.domain()
        w.ctl("attach", domid=d, target="mem:16m", mode="w")
        g = Guest(w, d)
        g.ask("connect")
        claim(not workers(w)[0]["sandboxed"], "off: status says so")
        for deed in HARMLESS_WITHOUT:
            answer = intrude(w.worker_pid(d), deed)
            claim(answer.startswith("returned"), f"off: {deed}: {answer}")
        claim(g.ask("write 1 500")[:2] == ["ok", "0"], "off: the disk goes on")
        p = subprocess.run(w.command("serve", "--broker", "on"), check=False,
                           stdin=subprocess.DEVNULL, text=True,
                           capture_output=True)
        claim(p.returncode == 1 and "brokers are for real Xen" in p.stderr,
              f"a broker is refused here: {p.stderr.strip()}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
