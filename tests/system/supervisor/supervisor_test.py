#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The supervisor on the local hypervisor, with real workers and frontends.

usage: supervisor_test.py FREEHOLD SUP_GUEST CASE

Exit status: 0 passed, 1 failed, 77 skipped (with the reason).
"""
import fcntl
import os
import random
import resource
import signal
import stat
import subprocess
import sys
import time

from world import Guest, World, claim, counts, run_case, wait_for

MEM = "mem:16m"


def refused(world, text, name, **fields):
    r = world.ctl("attach", **fields)
    claim(not r["ok"] and text in r["error"], f"{name}: {r.get('error')}")


def case_refusals():
    """What cannot be attached is named, and leaves nothing behind."""
    with World() as w:
        d = w.domain()
        path = os.path.join(w.dir, "x")
        os.mkfifo(path + ".fifo")
        open(path + ".empty", "wb").close()
        with open(path + ".small", "wb") as f:
            f.write(b"x" * 511)
        with open(path + ".odd", "wb") as f:
            f.write(b"x" * 1025)
        for name, target, text in [
                ("missing", path, "No such file"),
                ("directory", w.dir, "is a directory"),
                ("fifo", path + ".fifo", "is a fifo"),
                ("character device", "/dev/null", "is a character device"),
                ("empty", path + ".empty", "is empty"),
                ("less than a sector", path + ".small", "is empty"),
                ("relative", "disk.img", "must be absolute"),
                ("no size", "mem:", "must be a multiple"),
                ("size 0", "mem:0", "must be a multiple"),
                ("odd size", "mem:1000", "must be a multiple"),
                ("size with junk", "null:1mb", "must be a multiple"),
                ("enormous", "mem:99999999t", "must be a multiple")]:
            refused(w, text, name, domid=d, target=target)
        refused(w, "no domain 77", "no such domain", domid=77, target=MEM)
        refused(w, '"domid"', "domain -1", domid=-1, target=MEM)
        refused(w, '"domid"', "domain x", domid="x", target=MEM)
        refused(w, '"target" is missing', "no target", domid=d)
        refused(w, '"vdev"', "vdev sda", domid=d, target=MEM, vdev="sda")
        refused(w, '"mode"', "mode x", domid=d, target=MEM, mode="x")
        refused(w, '"grants"', "grants x", domid=d, target=MEM, grants="x")
        refused(w, '"order"', "order 5", domid=d, target=MEM, order=5)
        for line in ["", "x", "[]", "{", "{}", '{"cmd":"fly"}', '{"cmd":1}',
                     '{"cmd":"detach"}', '{"cmd":"detach","domid":1}',
                     '{"cmd":"detach","domid":1,"vdev":"xvda"}']:
            claim(not w.raw(line)["ok"], f"refused: {line!r}")
        claim(not w.ctl("list")["devices"], "nothing is attached")
        claim(w.xs("list", "/local/domain/0/backend/vbd") in ("", None),
              "no node is left")
        r = w.ctl("attach", domid=d, target=path + ".odd", mode="w")
        claim(r["ok"] and r["device"]["sectors"] == 2,
              "an odd size is rounded down")
        claim("no whole sector" in w.read_log(), "with a warning")
        refused(w, "has a disk xvda", "taken name", domid=d, target=MEM,
                vdev="xvda")
        r = w.ctl("attach", domid=d, target=MEM)
        claim(r["ok"] and r["device"]["vdev"] == "xvdb", "the next free name")


def case_locks():
    """A second writer of one image is refused, whoever it is."""
    with World() as w, World() as other:
        d, e = w.domain(), other.domain()
        image = os.path.join(w.dir, "disk.img")
        os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 1 << 20)
        link = image + ".link"
        os.link(image, link)
        claim(w.ctl("attach", domid=d, target=image, mode="w")["ok"], "first")
        for mode in "wr":
            refused(w, "in use elsewhere" if mode == "w" else "attached for",
                    f"again, mode {mode}", domid=d, target=image, mode=mode)
            refused(w, "", f"by another name, mode {mode}", domid=d,
                    target=link, mode=mode)
            refused(other, "", f"by another daemon, mode {mode}", domid=e,
                    target=image, mode=mode)
        refused(w, "", "shared with one that is not", domid=d, target=image,
                mode="w", shared=True)
        claim(w.ctl("detach", domid=d, vdev="xvda")["ok"], "detach")
        for world, domid in ((w, d), (w, d), (other, e)):
            claim(world.ctl("attach", domid=domid, target=image,
                            mode="r")["ok"], "readers share")
        refused(w, "in use elsewhere", "a writer beside readers", domid=d,
                target=image, mode="w")
        for vdev in ("xvda", "xvdb"):
            w.ctl("detach", domid=d, vdev=vdev)
        other.ctl("detach", domid=e, vdev="xvda")
        for world, domid in ((w, d), (other, e)):
            claim(world.ctl("attach", domid=domid, target=image, mode="w",
                            shared=True)["ok"], "writers that asked for it")
        fd = os.open(image, os.O_RDWR)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            claim(False, "another program's lock is refused")
        except OSError:
            claim(True, "another program's lock is refused")


def case_block_device():
    """A block device is served, and never beside somebody who claims it."""
    image = os.path.join(os.environ.get("TMPDIR", "/tmp"),
                         f"freehold-loop.{os.getpid()}")
    os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 8 << 20)
    made = subprocess.run(["losetup", "-f", "--show", image], check=False,
                          text=True, capture_output=True)
    if made.returncode:
        os.unlink(image)
        print("skipped: losetup:", made.stderr.strip())
        sys.exit(77)
    loop = made.stdout.strip()
    node = image + ".node"
    try:
        with World() as w:
            d = w.domain()
            rdev = os.stat(loop).st_rdev
            os.mknod(node, stat.S_IFBLK | 0o600, rdev)
            fd = os.open(loop, os.O_RDONLY | os.O_EXCL) # as mount(2) does
            refused(w, "is mounted, or in use", "a claimed device", domid=d,
                    target=loop, mode="w")
            os.close(fd)
            r = w.ctl("attach", domid=d, target=loop, mode="w")
            claim(r["ok"] and r["device"]["sectors"] == 16384, "attach")
            for mode in "rw":
                refused(w, "", f"by another node, mode {mode}", domid=d,
                        target=node, mode=mode)
            try:
                os.open(loop, os.O_RDONLY | os.O_EXCL)
                claim(False, "nobody can mount it now")
            except OSError:
                claim(True, "nobody can mount it now")
            g = Guest(w, d)
            g.ask("connect")
            claim(g.ask("write 4 500") == ["ok", "0", "0"], "write")
            os.kill(w.worker_pid(d), signal.SIGKILL)
            claim(g.ask("verify 4 500") == ["ok", "0", "0"],
                  "verify, across a worker's death")
    finally:
        for path in (image, node):
            if os.path.exists(path):
                os.unlink(path)
        subprocess.run(["losetup", "-d", loop], check=False)


def case_one_supervisor():
    """A run directory has one supervisor; it leaves it clean."""
    with World() as w:
        second = subprocess.run(w.command("serve"), check=False, text=True,
                                stdin=subprocess.DEVNULL, capture_output=True)
        claim(second.returncode == 1, "the second one is refused")
        claim("belongs to a running supervisor" in second.stderr and
              str(w.serve_process.pid) in second.stderr, second.stderr.strip())
        mode = os.stat(os.path.join(w.run_dir, "control")).st_mode
        claim(stat.S_IMODE(mode) == 0o600, "the socket is its owner's")
        claim(w.ctl("stop")["ok"], "stop is answered")
        claim(w.serve_process.wait(10) == 0, "and it exits with 0")
        claim(set(os.listdir(w.run_dir)) <= {"hv"}, "its files are gone")
        w.serve()
        w.serve_process.kill()
        w.serve_process.wait()
        w.serve()
        claim(w.ctl("list")["ok"], "a killed one's files are no obstacle")


def case_life():
    """Attach, I/O, reconnect, detach; and what is said meanwhile."""
    with World() as w:
        d = w.domain()
        image = os.path.join(w.dir, "disk.img")
        os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 16 << 20)
        for target, store in ((image, "file"), (MEM, "mem")):
            for persistent in (1, 0):
                r = w.ctl("attach", domid=d, target=target, mode="w",
                          name="disk")
                claim(r["ok"], f"attach {store}")
                g = Guest(w, d, persistent=persistent)
                claim(g.ask("connect") == ["ok", "32768", "0"], "connect")
                claim(g.ask("write 7 3000") == ["ok", "0", "0"], "write")
                claim(g.ask("verify 7 3000") == ["ok", "0", "0"], "verify")
                claim(g.ask("cycle 5") == ["ok"], "reconnect")
                claim(g.ask("verify 7 3000") == ["ok", "0", "0"],
                      "verify after it")
                dev = w.device(d)
                claim(dev["grants"] == ("persistent" if persistent else
                                        "copy"), dev["grants"])
                claim(dev["requests"] >= 9000 and dev["writes"] >= 3000,
                      f"{dev['requests']} requests counted")
                claim(dev["state"] == "connected" and dev["store"] == store,
                      "list")
                claim(g.ask("close") == ["ok"], "close")
                g.end()
                claim(w.ctl("detach", domid=d, vdev="xvda")["ok"], "detach")
                claim(w.device(d) is None, "gone from the list")
                claim(w.xs("read", w.back(d, "state")) is None,
                      "gone from xenstore")
                claim(wait_for(lambda: not w.ctl("status")["workers"]),
                      "its worker is gone")


def case_read_only():
    """A read-only disk cannot be written, whatever the guest sends."""
    with World() as w:
        d = w.domain()
        image = os.path.join(w.dir, "disk.img")
        with open(image, "wb") as f:
            f.write(b"\0" * (1 << 20))
        claim(w.ctl("attach", domid=d, target=image)["ok"],
              "read-only is the default of the protocol's users")
        w.ctl("detach", domid=d, vdev="xvda")
        claim(w.ctl("attach", domid=d, target=image, mode="r")["ok"], "attach")
        g = Guest(w, d)
        claim(g.ask("connect") == ["ok", "2048", "1"], "the guest knows")
        claim(g.ask("write 7 10") == ["ok", "10", "0"], "writes are refused")
        pid = w.worker_pid(d)
        modes = set()
        for fd in os.listdir(f"/proc/{pid}/fd"):
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith(image):
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
                    flags = [l for l in f if l.startswith("flags")][0]
                modes.add(int(flags.split()[1], 8) & os.O_ACCMODE)
        claim(modes <= {os.O_RDONLY}, "and its descriptor is O_RDONLY")


def case_resume():
    """A killed worker is a pause: no error, no wrong byte, no state change."""
    with World() as w:
        d = w.domain()
        image = os.path.join(w.dir, "disk.img")
        os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 16 << 20)
        for target in (image, MEM):
            w.ctl("attach", domid=d, target=target, mode="w")
            g = Guest(w, d)
            g.ask("connect")
            watch = subprocess.Popen(
                w.inside(0, "xenstore-watch", w.back(d)), text=True,
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            w.processes.append(watch)
            watch.stdout.readline()
            g.send("load 3000")
            pids = []
            for _ in range(5):
                time.sleep(0.4)
                pids.append(wait_for(lambda: w.worker_pid(d)))
                if not pids[-1]:
                    claim(False, f"a worker: {w.device(d)} {w.read_log()}")
                    return
                os.kill(pids[-1], signal.SIGKILL)
                wait_for(lambda: w.worker_pid(d) not in (0, pids[-1]))
            answer = g.answer()
            claim(answer[0] == "ok" and answer[2:4] == ["0", "0"],
                  f"{target}: {' '.join(answer)}")
            # A file waits for the disk's own flush and old I/O as well; the
            # guest for a CPU, beside other tests.
            limit = 1000 if target == MEM else 4000
            claim(float(answer[4]) < 4000, f"longest pause {answer[4]} ms")
            claim(len(set(pids)) == 5, "five workers died")
            dev = wait_for(lambda: w.device(d)) or {}
            claim(dev["restarts"] == 5, f"{dev['restarts']} restarts counted")
            claim(0 < dev["longest_pause_ms"] < limit,
                  f"{dev['longest_pause_ms']} ms by our own count")
            watch.kill()
            events = watch.stdout.read()
            claim(events == "", f"xenstore stayed untouched {events!r}")
            claim(g.ask("close") == ["ok"], "close")
            g.end()
            w.ctl("detach", domid=d, vdev="xvda")


def case_crash_loop():
    """A disk whose workers always die is parked, and can be freed."""
    with World() as w:
        d, e = w.domain("a"), w.domain("b")
        for domid in (d, e):
            w.ctl("attach", domid=domid, target=MEM, mode="w")
        g, h = Guest(w, d), Guest(w, e)
        g.ask("connect"), h.ask("connect")
        end = time.monotonic() + 60
        dev = w.device(d)
        while dev["state"] != "parked" and time.monotonic() < end:
            if dev.get("worker_pid"):
                try:
                    os.kill(dev["worker_pid"], signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.005)
            dev = w.device(d)
        claim(dev["state"] == "parked" and "parked" in dev.get("reason", ""),
              f"{dev['state']}: {dev.get('reason')}")
        claim(w.xs("read", w.back(d, "state")) == "4", "the guest waits")
        claim(h.ask("write 1 1000") == ["ok", "0", "0"],
              "the neighbour does not notice")
        r = w.ctl("detach", domid=d, vdev="xvda", force=True)
        claim(r["ok"], "a parked disk can be detached")
        g.kill()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok", "and attached again")
        claim(g.ask("write 1 1000") == ["ok", "0", "0"], "and served")


def case_detach():
    """The guest has to agree, unless forced; or it is gone."""
    with World() as w:
        d = w.domain()
        for force in (False, True):
            w.ctl("attach", domid=d, target=MEM, mode="w")
            g = Guest(w, d)
            g.ask("connect")
            if force: # it does not look
                r = w.ctl("detach", domid=d, vdev="xvda", force=True)
                claim(r["ok"], "forced")
                g.kill()
            else:
                g.send("pace")
                claim(w.ctl("detach", domid=d, vdev="xvda")["ok"], "asked")
                claim(g.answer() == ["ok"], "the guest closed")
                g.end()
            claim(w.xs("list", f"/local/domain/{d}/device/vbd") == "",
                  "the frontend's nodes are gone")
        for destroy in (False, True):
            w.ctl("attach", domid=d, target=MEM, mode="w")
            g = Guest(w, d)
            g.ask("connect")
            g.ask("write 1 100")
            g.kill()
            if destroy:
                w.run("hv", "destroy", str(d))
            else:
                w.xs("rm", f"/local/domain/{d}/device/vbd/51712")
            claim(wait_for(lambda: w.device(d) is None),
                  f"{'domain' if destroy else 'frontend'} gone, disk gone")
            claim(wait_for(lambda: not w.ctl("status")["workers"]),
                  "and its worker")


def write_nodes(w, d, **keys):
    """What a toolstack would."""
    back, front = w.back(d), f"/local/domain/{d}/device/vbd/51712"
    nodes = {"frontend": front, "frontend-id": str(d), "online": "1",
             "mode": "w", "dev": "xvda", "type": "phy", **keys}
    words = []
    for key, value in nodes.items():
        words += [f"{back}/{key}", value]
    words += [f"{front}/backend", back, f"{front}/backend-id", "0",
              f"{front}/virtual-device", "51712", f"{front}/state", "1"]
    w.xs("write", *words)
    w.xs("chmod", "-r", front, f"n{d}", "r0")
    w.xs("chmod", "-r", back, "n0", f"r{d}")
    w.xs("write", f"{back}/state", "1")


def case_toolstack():
    """Devices that somebody else wrote: ours are served, others are not."""
    with World() as w:
        d = w.domain()
        write_nodes(w, d, params="/dev/sda")
        time.sleep(0.3)
        claim(w.device(d) is None and w.xs("read", w.back(d, "state")) == "1",
              "another backend's device is left alone")
        w.xs("rm", w.back(d))
        w.xs("rm", f"/local/domain/{d}/device/vbd/51712")

        write_nodes(w, d, params="freehold:" + MEM)
        claim(wait_for(lambda: w.xs("read", w.back(d, "state")) == "2"),
              "ours is offered")
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok", "and served")
        claim(g.ask("write 3 100") == ["ok", "0", "0"], "I/O")
        g.send("pace")
        w.xs("write", w.back(d, "online"), "0", w.back(d, "state"), "5")
        claim(g.answer() == ["ok"], "unplugged: the guest closed")
        claim(wait_for(lambda: w.xs("read", w.back(d, "state")) == "6"),
              "the backend is Closed")
        claim(wait_for(lambda: w.device(d) is None), "and let go")
        claim(w.xs("read", w.back(d, "params")) is not None,
              "the nodes are the toolstack's to remove")
        w.xs("rm", w.back(d))
        w.xs("rm", f"/local/domain/{d}/device/vbd/51712")
        g.end()

        write_nodes(w, d, params=MEM, script="/etc/xen/scripts/block-freehold")
        wait_for(lambda: w.xs("read", w.back(d, "state")) == "2")
        g = Guest(w, d)
        g.send("connect")
        time.sleep(0.3)
        claim(w.xs("read", w.back(d, "state")) == "2",
              "with a script it waits in InitWait")
        w.xs("write", w.back(d, "hotplug-status"), "connected")
        claim(g.answer()[0] == "ok", "until the script has said connected")
        g.kill()
        w.xs("rm", w.back(d))
        claim(wait_for(lambda: w.device(d) is None),
              "nodes that vanish are no trouble")
        w.xs("rm", f"/local/domain/{d}/device/vbd/51712")

        write_nodes(w, d, params="freehold:/no/such/image")
        dev = wait_for(lambda: w.device(d)) or {}
        claim(dev.get("state") == "refused" and
              "No such file" in dev.get("reason", ""), "a bad image is told")
        w.xs("rm", w.back(d))
        claim(wait_for(lambda: w.device(d) is None), "until it is removed")


def case_cycles():
    """100 lives of a disk leave nothing behind."""
    with World() as w:
        d = w.domain()

        def lives(n):
            for _ in range(n):
                w.ctl("attach", domid=d, target=MEM, mode="w")
                g = Guest(w, d)
                ok = g.ask("connect")[0] == "ok"
                ok = ok and g.ask("write 1 20") == ["ok", "0", "0"]
                ok = ok and g.ask("close") == ["ok"]
                g.end()
                w.ctl("detach", domid=d, vdev="xvda")
                if not ok:
                    return claim(False, "a life")
            return wait_for(lambda: not w.ctl("status")["workers"])

        lives(10)
        pid = w.serve_process.pid
        time.sleep(1) # our last question's connection is still being closed
        before = counts(pid)
        nodes = len((w.xs("ls", "-f", "/") or "").splitlines())
        lives(100)
        wait_for(lambda: counts(pid)[:2] == before[:2], 3)
        after = counts(pid)
        claim(after[0] == before[0], f"descriptors {before[0]} {after[0]}")
        claim(after[1] == before[1], f"mappings {before[1]} {after[1]}")
        claim(after[2] - before[2] <= 256, f"KiB {before[2]} {after[2]}")
        claim(len((w.xs("ls", "-f", "/") or "").splitlines()) == nodes,
              "xenstore nodes")


def case_reconnects():
    """1,000 connections of one disk leave no more behind than 100, anywhere."""
    for persistent in (1, 0):
        with World() as w:
            d = w.domain()
            w.ctl("attach", domid=d, target=MEM, mode="w")
            g = Guest(w, d, persistent=persistent)
            g.ask("connect")
            pids = {"supervisor": w.serve_process.pid,
                    "hypervisor": w.hv_pid(), "guest": g.process.pid}

            def cycle(n):
                claim(g.ask(f"cycle {n}", 100) == ["ok"], f"{n} connections")
                pids["worker"] = w.worker_pid(d)
                w.xs("ls", "/")
                time.sleep(0.3)
                return ({k: counts(v) for k, v in pids.items()},
                        len((w.xs("ls", "-f", "/") or "").splitlines()))

            before, nodes = cycle(100)
            after, nodes_after = cycle(900)
            for who, was in before.items():
                now = after[who]
                claim(now[:2] == was[:2] and now[2] - was[2] <= 256,
                      f"{who}: descriptors, mappings, KiB {was} {now}")
            claim(nodes == nodes_after, f"nodes {nodes} {nodes_after}")
            claim(g.ask("write 1 1000") == ["ok", "0", "0"], "and it serves")


def case_flood():
    """A guest that writes its state without end costs its neighbour nothing."""
    with World() as w:
        d, e = w.domain("a"), w.domain("b")
        for domid in (d, e):
            w.ctl("attach", domid=domid, target=MEM, mode="w")
        g = Guest(w, e)
        g.ask("connect")
        before = counts(w.serve_process.pid)
        script = ("i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
                  "xenstore-write device/vbd/51712/state $((i % 9)); done")
        flood = [subprocess.Popen(w.inside(d, "sh", "-c", script),
                                  stdin=subprocess.DEVNULL) for _ in range(3)]
        w.processes += flood
        answer = g.ask("load 2000")
        claim(answer[0] == "ok" and answer[2:4] == ["0", "0"] and
              float(answer[4]) < 2000, f"the neighbour: {' '.join(answer)}")
        for f in flood:
            f.wait()
        claim(w.ctl("list")["ok"], "the supervisor answers")
        after = counts(w.serve_process.pid)
        claim(after[2] - before[2] <= 512, f"KiB {before[2]} {after[2]}")
        claim(len(w.read_log().splitlines()) < 100, "the log stays short")
        w.xs("write", "device/vbd/51712/state", "6", domid=d)
        w.xs("write", "device/vbd/51712/state", "1", domid=d)
        h = Guest(w, d)
        claim(h.ask("connect")[0] == "ok", "and the guest may come back")


def case_placement():
    """A worker per guest under a uid of its own, or a fixed pool."""
    uid_base = 62000
    for options, want in (((), 4), (("--workers", "2"), 2)):
        with World(*options) as w:
            guests = []
            for i in range(4):
                d = w.domain(f"g{i}")
                for _ in range(2):
                    w.ctl("attach", domid=d, target="mem:1m", mode="w")
                for vdev in (51712, 51728):
                    guests.append(Guest(w, d, vdev))
                    guests[-1].ask("connect")
            pids = {dev["worker_pid"] for dev in w.ctl("list")["devices"]}
            claim(len(pids) == want, f"{len(pids)} workers for 4 guests")
            uids = set()
            for pid in pids:
                with open(f"/proc/{pid}/status", encoding="ascii") as f:
                    uids |= {l.split()[1] for l in f if l.startswith("Uid")}
            if os.geteuid() == 0:
                claim(len(uids) == want and
                      all(int(u) > uid_base for u in uids), f"uids {uids}")
            for pid in list(pids)[:1]:
                os.kill(pid, signal.SIGKILL)
            for g in guests:
                claim(g.ask("write 5 200") == ["ok", "0", "0"], "I/O")


def case_stop():
    """SIGTERM with guests connected: one that agrees, one that does not."""
    with World() as w:
        d, e = w.domain("a"), w.domain("b")
        for domid in (d, e):
            w.ctl("attach", domid=domid, target=MEM, mode="w")
        g, h = Guest(w, d), Guest(w, e)
        g.ask("connect"), h.ask("connect")
        g.send("pace")
        start = time.monotonic()
        claim(w.stop() == 0, "exit status 0")
        claim(time.monotonic() - start < 10, "in bounded time")
        claim(g.answer() == ["ok"], "the guest that looked was asked")
        claim(set(os.listdir(w.run_dir)) <= {"hv"}, "its files are gone")
        claim(w.xs("list", "/local/domain/0/backend/vbd") in ("", None),
              "its nodes are gone")
        w.serve()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        g.kill()
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok", "and it starts again")


def publish(w, d):
    """A frontend's words without a frontend."""
    front = "device/vbd/51712"
    w.xs("write", f"{front}/ring-ref", "8", f"{front}/event-channel", "3",
         f"{front}/state", "3", domid=d)


def case_false_worker():
    """A worker that a guest took over harms nobody but its own disk."""
    for fake, said in [("exit", "exited with status 7"),
                       ("short", "wrong size"),
                       ("unable", "could not start"),
                       ("twice", "READY twice"),
                       ("liar", "nobody asked"),
                       ("order", "may not send"),
                       ("strange", "may not send")]:
        with World(fake=fake) as w:
            d = w.domain()
            w.ctl("attach", domid=d, target=MEM, mode="w")
            publish(w, d)
            claim(wait_for(lambda: w.xs("read", w.back(d, "state")) == "5",
                           20), f"{fake}: the guest is told")
            claim(said in w.read_log(), f"{fake}: so is the operator")
            error = w.xs("read", "/local/domain/0/error/backend/vbd/"
                         f"{d}/51712/error")
            claim(error and "resources" in error, f"{fake}: {error}")
            starts = len(w.fake_starts())
            claim(1 <= starts <= 10, f"{fake}: {starts} tries, then parked")
            claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
                  f"{fake}: detach")
    with World(fake="mute") as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        publish(w, d)
        wait_for(lambda: w.device(d)["state"] == "connected")
        claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
              "mute: detach")
        claim("does not answer" in w.read_log(), "mute: by force")
    for fake, reason in [("slander", "parked"), ("babble", "")]:
        with World(fake=fake) as w:
            d = w.domain()
            w.ctl("attach", domid=d, target=MEM, mode="w")
            publish(w, d)
            claim(wait_for(lambda: "no ring of its own" in w.read_log()),
                  f"{fake}: killed")
            claim(wait_for(lambda: w.device(d)["state"] in
                           ("parked", "closing"), 20), f"{fake}: ended")
            claim(reason in w.device(d).get("reason", ""), f"{fake}: told")
    for fake, state in [("refuse", "5"), ("fault", "5")]:
        with World(fake=fake) as w:
            d = w.domain()
            w.ctl("attach", domid=d, target=MEM, mode="w")
            publish(w, d)
            claim(wait_for(lambda: w.xs("read", w.back(d, "state")) == state),
                  f"{fake}: state {state}")
            claim(len(w.fake_starts()) == 1, f"{fake}: one worker")


def case_guilty_disk():
    """Of several disks of a worker, only the one that kills it is given up."""
    with World(fake="killer") as w:
        d = w.domain()
        for vdev in ("51712", "51728"):
            w.ctl("attach", domid=d, target=MEM, mode="w", vdev=vdev)
        for vdev in ("51728", "51712"):
            front = f"device/vbd/{vdev}"
            w.xs("write", f"{front}/ring-ref", "8", f"{front}/event-channel",
                 "3", f"{front}/state", "3", domid=d)
        claim(wait_for(lambda: w.device(d)["state"] == "parked", 20),
              "the guilty one is parked")
        claim(wait_for(lambda: w.device(d, 51728)["state"] == "connected"),
              "the other one is served")
        claim("workers of their own" in w.read_log(), "after a separation")
        for vdev in ("xvda", "xvdb"):
            claim(w.ctl("detach", domid=d, vdev=vdev, force=True)["ok"],
                  f"detach {vdev}")
        claim(wait_for(lambda: not w.ctl("status")["workers"]),
              "no worker is left")


def case_chaos():
    """Everything at once, at random: it ends clean, and no byte is wrong."""
    seed = int(os.environ.get("SUP_SEED", "0")) or int(time.time())
    print("SUP_SEED =", seed)
    rnd = random.Random(seed)
    with World() as w:
        doms = [w.domain(f"g{i}") for i in range(3)]
        guests = {}
        base = counts(w.serve_process.pid)
        wrong = 0

        def attach(d):
            w.ctl("attach", domid=d, target=rnd.choice([MEM, "null:16m"]),
                  mode="w", vdev="xvda")

        def connect(d):
            if d not in guests and w.device(d):
                guests[d] = Guest(w, d, persistent=rnd.randrange(2))
                guests[d].send("connect")
                if rnd.randrange(2):
                    guests[d].answer(3)

        def kill_guest(d):
            if d in guests:
                guests.pop(d).kill()

        def kill_worker(d):
            pid = w.worker_pid(d)
            if pid:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

        def detach(d):
            w.ctl("detach", domid=d, vdev="xvda", force=True)
            kill_guest(d)

        def junk(d):
            w.xs("write", "device/vbd/51712/state", str(rnd.randrange(9)),
                 domid=d)

        end = time.monotonic() + 20
        while time.monotonic() < end:
            rnd.choice([attach, attach, connect, connect, connect, kill_guest,
                        kill_worker, kill_worker, detach, junk])(
                            rnd.choice(doms))
            time.sleep(rnd.choice([0, 0, 0.05]))
        for d in doms:
            detach(d)
        claim(wait_for(lambda: not w.ctl("list")["devices"]), "no device")
        claim(wait_for(lambda: not w.ctl("status")["workers"]), "no worker")
        claim(w.xs("list", "/local/domain/0/backend/vbd") in ("", None),
              "no node")
        wait_for(lambda: counts(w.serve_process.pid)[:2] == base[:2], 3)
        claim(counts(w.serve_process.pid)[:2] == base[:2],
              f"{base} {counts(w.serve_process.pid)}")
        for d in doms:
            w.ctl("attach", domid=d, target=MEM, mode="w")
            g = Guest(w, d)
            g.ask("connect")
            g.ask("write 9 500")
            kill_worker(d)
            answer = g.ask("verify 9 500")
            wrong += answer != ["ok", "0", "0"]
        claim(wrong == 0, "and it serves as before")


def case_fence():
    """No successor before the dead worker's last I/O; without it, at once."""
    for fence in (True, False):
        with World(fake="hold", fence=fence) as w:
            d = w.domain()
            w.ctl("attach", domid=d, target=MEM, mode="w")
            publish(w, d)
            wait_for(lambda: w.device(d)["state"] == "connected")
            said = wait_for(lambda: "old I/O" in w.device(d)["state"], 1.5)
            claim(wait_for(lambda: len(w.fake_starts()) == 2), "a successor")
            first, second = w.fake_starts()
            late = second - first > 1900
            claim(late == fence and said == fence,
                  f"fence {fence}: after {second - first} ms, told: {said}")
            claim(wait_for(lambda: w.device(d)["restarts"] == 1), "resumed")
            claim(w.xs("read", w.back(d, "state")) == "4", "state 4")


def case_limits():
    """Out of descriptors: a clear error, nothing half-done, service goes on."""
    with World() as w:
        pid = w.serve_process.pid
        d = w.domain()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        used = len(os.listdir(f"/proc/{pid}/fd"))
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 6, hard))
        answers = []
        for _ in range(8):
            answers.append(w.ctl("attach", domid=d, target="mem:1m", mode="w"))
        bad = [a["error"] for a in answers if not a["ok"]]
        claim(bad and all("Too many open files" in b for b in bad),
              f"{len(bad)} refused: {bad[:1]}")
        good = len(answers) - len(bad)
        claim(len(w.ctl("list")["devices"]) == 1 + good, "the others are not")
        claim(g.ask("write 1 100") == ["ok", "0", "0"], "I/O goes on")
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        claim(w.ctl("attach", domid=d, target="mem:1m", mode="w")["ok"],
              "and attaching, when there are some again")


def case_too_many_disks():
    """A domain has its share of disks."""
    with World() as w:
        d = w.domain()
        answers = [w.ctl("attach", domid=d, target="null:1m")
                   for _ in range(66)]
        claim([a["ok"] for a in answers] == [True] * 64 + [False] * 2,
              answers[-1].get("error", ""))
        claim(w.ctl("stop", 30)["ok"], "stop")


def case_lost_xenstore():
    """When the hypervisor goes, the supervisor goes, and says why."""
    with World() as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        w.run("hv", "stop")
        claim(w.serve_process.wait(10) == 1, "exit status 1")
        claim("xenstore is gone" in w.read_log(), "and a reason")
        claim(not os.path.exists(w.run_dir + "/control"), "its files are gone")


def case_successor():
    """A supervisor that finds only the nodes of one that was killed."""
    with World() as w:
        d, e = w.domain("a"), w.domain("b")
        image = os.path.join(w.dir, "disk.img")
        os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 1 << 20)
        w.ctl("attach", domid=d, target=image, mode="w")
        w.ctl("attach", domid=e, target=MEM, mode="w")
        g, h = Guest(w, d), Guest(w, e)
        g.ask("connect"), h.ask("connect")
        g.ask("write 5 100")
        g.send("pace")
        pids = [w.worker_pid(d), w.worker_pid(e)]
        w.serve_process.kill()
        w.serve_process.wait()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for name in os.listdir(w.run_dir + "/state"):
            if name.endswith(".rec"):
                os.unlink(w.run_dir + "/state/" + name)
        w.serve()
        claim(g.answer() == ["ok"], "the guest of a file is asked to close")
        g.kill()
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok", "and may come back")
        claim(g.ask("verify 5 100") == ["ok", "0", "0"], "to its data")
        dev = wait_for(lambda: w.device(e)["state"] == "refused" and
                       w.device(e)) or {}
        claim("memory" in dev.get("reason", ""), dev.get("reason", ""))
        claim(w.ctl("detach", domid=e, vdev="xvda")["ok"],
              "lost memory can be detached")
        claim(w.xs("read", w.back(e, "state")) is None, "and is gone")
        claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
              "the other one as well")
        claim(w.xs("read", w.back(d, "state")) is None, "and is gone")


def case_orphans():
    """When the supervisor is killed, workers without a guest end."""
    with World() as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        pid = w.worker_pid(d)
        g.ask("close")
        w.serve_process.kill()
        w.serve_process.wait()
        claim(wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 5),
              "the worker is gone")


if __name__ == "__main__":
    sys.exit(run_case(globals()))
