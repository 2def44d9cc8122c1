#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The supervisor dies, alone or with its workers, and is started again.

usage: restart_test.py FREEHOLD SUP_GUEST CASE

Exit status: 0 passed, 1 failed, 77 skipped (with the reason).
"""
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time

from world import Guest, World, claim, failures, run_case, wait_for

MEM = "mem:16m"


class Restarted(World):
    """On tmpfs, as /run is: recovery files are found again."""

    def __init__(self, *options):
        super().__init__(*options, parent="/dev/shm")
        self.options = options

    def __exit__(self, *error):
        if failures or any(error):
            print("".join(self.read_log().splitlines(True)[-40:]))
            try:
                print(json.dumps(self.ctl("status", 5), indent=1))
            except (OSError, ValueError) as e:
                print("no supervisor:", e)
        super().__exit__(*error)

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

    @staticmethod
    def says(answer):
        return answer["ok"], answer.get("error", "attached")

    def maps(self):
        out = subprocess.run(self.command("hv", "status", "--json"),
                             check=True, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout
        return json.loads(out)["maps"]

    def refused_second(self):
        return subprocess.run(self.command("serve"), check=False, text=True,
                              stdin=subprocess.DEVNULL,
                              capture_output=True).stderr

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


def is_locked(path):
    with open(path, "r+b") as f:
        try:
            fcntl.lockf(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def all_right(answer, what):
    claim(answer[0] == "ok" and answer[2:4] == ["0", "0"],
          f"{what}: {' '.join(answer)}")


def publish(w, d):
    """A frontend's words without a frontend."""
    front = "device/vbd/51712"
    w.xs("write", f"{front}/ring-ref", "8", f"{front}/event-channel", "3",
         f"{front}/state", "3", domid=d)


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


def case_closed_meanwhile():
    """Frontends that close, vanish or come back while nobody is there."""
    with Restarted() as w:
        d = w.domain()
        image = w.image()
        for act in ("close", "unplug", "kill", "nodes", "destroy", "reconnect"):
            w.ctl("attach", domid=d, target=image, mode="w")
            g = Guest(w, d)
            g.ask("connect")
            g.ask("write 1 50")
            g.send("pace" if act == "unplug" else
                   "close" if act == "close" else
                   "cycle 1" if act == "reconnect" else "load 300")
            w.kill()
            time.sleep(0.5)
            if act == "unplug": # xl block-detach, which gives up
                w.xs("write", w.back(d, "online"), "0", w.back(d, "state"),
                     "5")
                w.xs("rm", w.back(d, "type"))
            elif act in ("kill", "nodes"):
                g.kill()
            if act == "nodes":
                w.xs("rm", f"/local/domain/{d}/device/vbd/51712")
                w.xs("rm", w.back(d))
            if act == "destroy":
                w.run("hv", "destroy", str(d))
            w.serve()
            if act in ("close", "unplug", "reconnect"):
                claim(g.answer() == ["ok"], f"{act}: the guest is answered")
            if act == "reconnect":
                claim(g.ask("verify 1 50") == ["ok", "0", "0"], "and served")
            if act in ("close", "unplug"):
                claim(wait_for(lambda: w.xs("read", w.back(d, "state")) in
                               ("6", None)), f"{act}: Closed")
            if act in ("unplug", "nodes", "destroy"):
                claim(wait_for(lambda: not w.ctl("list")["devices"]),
                      f"{act}: the disk is let go")
                claim(wait_for(lambda: not w.alive()), f"{act}: no worker")
                claim(wait_for(lambda: not os.listdir(w.run_dir + "/state")),
                      f"no state: {os.listdir(w.run_dir + '/state')}")
            if act == "unplug":
                w.xs("rm", w.back(d))
                w.xs("rm", f"/local/domain/{d}/device/vbd/51712")
            elif act == "destroy":
                claim(w.xs("read", w.back(d, "state")) is None, "no nodes")
                d = w.domain()
            elif act != "nodes":
                claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
                      f"{act}: detach")
            g.kill()
            claim(wait_for(lambda: not w.alive()), f"{act}: no worker is left")
        claim(w.stop() == 0 and set(os.listdir(w.run_dir)) <= {"hv"},
              "nothing is left")


def case_keep():
    """--keep-workers: a signal ends the supervisor alone; stop ends all."""
    with Restarted("--keep-workers") as w:
        d = w.domain()
        image = w.image()
        w.ctl("attach", domid=d, target=image, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        g.send("load 2000")
        pid = w.worker_pid(d)
        for _ in range(3):
            time.sleep(0.2)
            claim(w.stop() == 0, "ended by a signal")
            claim(w.alive() == {pid}, "the worker goes on")
            claim(is_locked(image), "and holds the image's lock")
            claim(not os.path.exists(w.run_dir + "/control"), "no socket")
            w.serve("--keep-workers")
            claim(w.served(d) == pid, "and is taken over")
        all_right(g.answer(), "the load")
        g.send("pace")
        claim(w.ctl("stop")["ok"], "stop")
        claim(g.answer() == ["ok"], "closes the disk")
        claim(w.serve_process.wait(10) == 0, "exit status 0")
        claim(wait_for(lambda: not w.alive()), "no worker")
        claim(set(os.listdir(w.run_dir)) <= {"hv"}, "its files are gone")


def case_lonely():
    """What ends a worker that nobody comes for."""
    with Restarted("--lonely", "3") as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=w.image(), mode="w")
        g = Guest(w, d)
        g.ask("connect")
        pid = w.worker_pid(d)
        g.send("load 6000")
        w.kill()
        time.sleep(5)
        claim(w.alive() == {pid}, "not while requests come")
        all_right(g.answer(), "which are served")
        claim(wait_for(lambda: not w.alive(), 12), "but then")
        g.send("write 1 100")
        time.sleep(0.3)
        w.serve()
        claim(g.answer() == ["ok", "0", "0"], "the idle guest is served again")
        w.kill()
        claim(wait_for(lambda: w.alive() and True), "a worker")
        os.rename(w.run_dir + "/state", w.run_dir + "/gone")
        for name in os.listdir(w.run_dir + "/gone"):
            os.unlink(w.run_dir + "/gone/" + name)
        claim(wait_for(lambda: not w.alive(), 10), "or when it has no name")
    with Restarted() as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=MEM, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        w.kill()
        w.run("hv", "stop")
        pid = next(iter(w.alive()), 0)
        time.sleep(1)
        used = cpu(pid)
        time.sleep(1)
        claim(cpu(pid) - used < 30, "without a hypervisor it does not spin")


def cpu(pid):
    """In ticks of 10 ms; 0: it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as f:
            return sum(int(n) for n in f.read().rsplit(")", 1)[1].split()[11:13])
    except OSError:
        return 0


def case_stale():
    """Files of another boot, of nobody, of others: nothing is believed."""
    with Restarted() as w:
        d = w.domain()
        image = w.image()
        state = w.run_dir + "/state/"
        name = f"d-{d}-51712"
        w.ctl("attach", domid=d, target=image, mode="w")
        g = Guest(w, d)
        g.ask("connect")
        g.ask("write 2 100")
        g.send("pace")
        w.kill()
        w.kill_workers()
        with open(state + name, "r+b") as f: # another boot's
            f.seek(32)
            f.write(b"00000000")
        w.serve()
        claim("another boot" in w.read_log(), "another boot's is removed")
        claim(g.answer() == ["ok"], "its guest starts anew")
        g.kill()
        g = Guest(w, d)
        claim(g.ask("connect")[0] == "ok" and
              g.ask("verify 2 100") == ["ok", "0", "0"], "and is served")
        w.kill()
        for junk, data in (("d-9-1", b"x" * 9000), ("d-9-2", b""), ("d-x", b""),
                           ("w-77", b""), ("w-78.fence", b""), ("new", b"")):
            with open(state + junk, "wb") as f:
                f.write(data)
        os.mkfifo(state + "w-79.fence") # nobody holds it
        with open(state + "w-80", "wb"):
            pass
        os.symlink("/etc/passwd", state + "d-9-3")
        w.serve()
        claim(w.served(d), "junk is no obstacle")
        claim(g.ask("verify 2 100") == ["ok", "0", "0"], "the guest is served")
        claim(wait_for(lambda: len(w.ctl("status")["workers"]) == 1),
              "no worker is made of it")
        claim(not os.path.exists(state + "d-9-1") and
              not os.path.exists(state + "w-79.fence"), "it is swept")
        second = w.refused_second()
        claim("belongs to a running supervisor" in second, second.strip())
        claim(w.served(d), "a second supervisor does not disturb")
        # Nodes that name another image by now.
        w.kill()
        w.xs("write", w.back(d, "params"), "freehold:" + w.image("other"))
        w.serve()
        claim(wait_for(lambda: (w.device(d) or {}).get("target", "")
                       .endswith("other")), "the nodes decide what is served")
        claim(wait_for(lambda: len(w.alive()) <= 1), "by no two workers")


def case_moments():
    """Killed at any moment of a handshake, by a guest that only reconnects."""
    seed = int(os.environ.get("SUP_SEED", "0")) or int(time.time())
    print("SUP_SEED =", seed)
    rnd = random.Random(seed)
    with Restarted() as w:
        d = w.domain()
        w.ctl("attach", domid=d, target=w.image(), mode="w")
        g = Guest(w, d)
        g.ask("connect")
        g.ask("write 6 300")
        g.send("cycle 150")
        n = 0
        while not g.answered() and n < 60:
            time.sleep(rnd.random() * 0.15)
            if rnd.randrange(3) == 0:
                w.kill_workers()
            w.kill()
            if rnd.randrange(3) == 0:
                w.kill_workers()
            w.serve()
            n += 1
        claim(g.answer(60) == ["ok"], f"150 connections across {n} deaths")
        claim(g.ask("verify 6 300") == ["ok", "0", "0"], "nothing is lost")
        claim(len(w.alive()) == 1, f"one worker: {w.alive()}")
        # The same for attach and detach.
        for i in range(12):
            done = []
            def ask(cmd, **fields):
                try:
                    done.append(w.ctl(cmd, domid=d, vdev="xvdb", **fields))
                except (OSError, ValueError):
                    pass
            t = threading.Thread(target=ask, args=(
                ("attach",) if i % 2 else ("detach",)), kwargs=(
                dict(target=MEM, mode="w") if i % 2 else dict(force=True)))
            t.start()
            time.sleep(rnd.random() * 0.01)
            w.again()
            t.join()
        if w.device(d, 51728):
            claim(w.ctl("detach", domid=d, vdev="xvdb", force=True)["ok"],
                  "the other disk can be detached")
        claim(wait_for(lambda: w.xs("read", w.back(d, "state", 51728)) is None),
              "and leaves no nodes")
        claim(w.ctl("attach", domid=d, vdev="xvdb", target=MEM,
                    mode="w")["ok"], "and can be attached")
        h = Guest(w, d, 51728)
        claim(h.ask("connect")[0] == "ok", "and be connected")
        claim(g.ask("verify 6 300") == ["ok", "0", "0"], "the first serves on")


def case_chaos():
    """Everything at once, at random: it ends clean, and no byte is wrong."""
    seed = int(os.environ.get("SUP_SEED", "0")) or int(time.time())
    print("SUP_SEED =", seed)
    rnd = random.Random(seed)
    modes = [(), ("--workers", "2")] # which may change
    with Restarted(*rnd.choice(modes)) as w:
        doms = [w.domain(f"g{i}") for i in range(3)]
        image = {d: w.image(f"{d}") for d in doms}
        guests = {}

        def attach(d):
            w.ctl("attach", domid=d, target=rnd.choice([image[d], image[d],
                                                        MEM]),
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

        def kill_worker(_):
            for pid in w.alive():
                if rnd.randrange(2):
                    kill(pid)

        def supervisor(d):
            if rnd.randrange(4) == 0:
                kill_worker(d)
            w.kill()
            if rnd.randrange(2):
                time.sleep(rnd.random() / 4)
            if rnd.randrange(4) == 0:
                kill_worker(d)
            if rnd.randrange(3) == 0:
                kill_guest(d)
            w.serve(*(w.options if rnd.randrange(4) else rnd.choice(modes)))

        def detach(d):
            w.ctl("detach", domid=d, vdev="xvda", force=True)
            kill_guest(d)

        def junk(d):
            w.xs("write", "device/vbd/51712/state", str(rnd.randrange(9)),
                 domid=d)

        end = time.monotonic() + 25
        while time.monotonic() < end:
            rnd.choice([attach, attach, connect, connect, connect, kill_guest,
                        kill_worker, supervisor, supervisor, detach, junk])(
                            rnd.choice(doms))
            time.sleep(rnd.choice([0, 0, 0.05]))
        for d in doms:
            detach(d)
        claim(wait_for(lambda: not w.ctl("list")["devices"]), "no device")
        w.again(*w.options)
        if not w.options:
            claim(wait_for(lambda: not w.alive()), f"no worker {w.alive()}")
            claim(wait_for(lambda: not os.listdir(w.run_dir + "/state")),
                  f"no state: {os.listdir(w.run_dir + '/state')}")
        claim(w.xs("list", "/local/domain/0/backend/vbd") in ("", None),
              "no node")
        claim(w.maps() == 0, f"no grant mapped: {w.maps()}")
        wrong = 0
        for d in doms:
            claim(*w.says(w.ctl("attach", domid=d, target=image[d], mode="w")))
            g = Guest(w, d)
            g.ask("connect")
            g.ask("write 9 500")
            kill_worker(d)
            w.again()
            wrong += g.ask("verify 9 500") != ["ok", "0", "0"]
        claim(wrong == 0, "and it serves as before")


def case_hostile():
    """A worker that waits for the next supervisor, and lies to it."""
    for fake, said in (("stay", "taken over"),
                       ("rude", "does not greet"),
                       ("stranger", "nobody gave it"),
                       ("thief", "does not give back"),
                       ("poor", "does not give back"),
                       ("blind", "no statistics page"),
                       ("orders", "something else"),
                       ("sleepy", "does not answer")):
        with World(fake=fake, parent="/dev/shm") as w:
            d = w.domain()
            image = os.path.join(w.dir, "disk.img")
            os.truncate(os.open(image, os.O_CREAT | os.O_RDWR, 0o600), 1 << 20)
            w.ctl("attach", domid=d, target=image, mode="w")
            publish(w, d)
            wait_for(lambda: w.device(d)["state"] == "connected")
            log = len(w.read_log())
            w.fake_again(fake)
            claim(wait_for(lambda: said in w.read_log()[log:]),
                  f"{fake}: {said}")
            starts = 1 if fake == "stay" else 2
            claim(wait_for(lambda: len(w.fake_starts()) == starts),
                  f"{fake}: {len(w.fake_starts())} workers started")
            claim(wait_for(lambda: w.device(d)["state"] == "connected"),
                  f"{fake}: the disk is served")
            claim(w.xs("read", w.back(d, "state")) == "4", f"{fake}: state 4")
            claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
                  f"{fake}: detach")
            claim(wait_for(lambda: not w.ctl("status")["workers"]),
                  f"{fake}: no worker is left")


def case_foreign():
    """A worker of another version is named, left alone, and replaced when it
    is dead; or when its disk is to be closed."""
    for end in ("kill", "detach"):
        with World(fake="foreign", parent="/dev/shm") as w:
            d = w.domain()
            w.ctl("attach", domid=d, target="null:1m", mode="w")
            publish(w, d)
            wait_for(lambda: w.device(d)["state"] == "connected")
            pid = w.worker_pid(d)
            w.fake_again("foreign")
            claim(wait_for(lambda: w.device(d)["state"] ==
                           "of another version"), "it is named")
            claim("speaks version 2" in w.read_log(), "and in the log")
            claim(w.worker_pid(d) == pid, "its process is shown")
            time.sleep(1.5)
            claim(len(w.fake_starts()) == 1 and not is_zombie(pid),
                  "it goes on alone")
            if end == "kill":
                kill(pid)
                claim(wait_for(lambda: w.device(d)["state"] == "connected"),
                      "dead, it is replaced")
                claim(len(w.fake_starts()) == 2, "by one")
            claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
                  "detach")
            claim(wait_for(lambda: is_zombie(pid)), "it is gone")
    with Restarted() as w: # the state file of another version
        d = w.domain()
        w.ctl("attach", domid=d, target=w.image(), mode="w")
        g = Guest(w, d)
        g.ask("connect")
        pid = w.worker_pid(d)
        w.kill()
        with open(f"{w.run_dir}/state/d-{d}-51712", "r+b") as f:
            f.seek(8)
            f.write(b"\x63")
        w.serve()
        dev = wait_for(lambda: w.device(d)) or {}
        claim(dev.get("state") == "refused" and "another version" in
              dev.get("reason", ""), dev.get("reason", ""))
        claim(w.alive() == {pid}, "its worker goes on")
        claim(g.ask("write 1 100") == ["ok", "0", "0"], "and serves")
        g.send("pace")
        kill(pid)
        claim(g.answer() == ["ok"], "dead, its ring is closed, and not taken")


def case_fence():
    """Old I/O of a worker that died with its supervisor is waited for."""
    with World(fake="hold", parent="/dev/shm") as w:
        d = w.domain()
        w.ctl("attach", domid=d, target="null:1m", mode="w")
        publish(w, d)
        wait_for(lambda: w.device(d)["state"] == "connected")
        time.sleep(0.3)
        w.fake_again("hold")
        said = wait_for(lambda: "old I/O" in w.device(d)["state"], 1)
        claim(said, "it is told")
        claim(wait_for(lambda: len(w.fake_starts()) == 2), "a successor")
        first, second = w.fake_starts()
        claim(second - first > 1900, f"after {second - first} ms")
        claim(wait_for(lambda: w.device(d)["state"] == "connected"), "resumed")


if __name__ == "__main__":
    sys.exit(run_case(globals()))
