# SPDX-License-Identifier: MIT
"""A local hypervisor with a backend, for the supervisor's tests.

Everything lives in one directory and ends with the World, whatever happens.
"""
import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

FREEHOLD = os.path.abspath(sys.argv[1])
GUEST = os.path.abspath(sys.argv[2])
FAKE = os.path.join(os.path.dirname(GUEST), "sup_fake")
failures = []
n_worlds = 0


def run_case(names):
    """The case_NAME() of a test program that its third argument names."""
    cases = {k[5:]: v for k, v in names.items() if k.startswith("case_")}
    name = sys.argv[3] if len(sys.argv) > 3 else ""
    if name not in cases:
        print(f"usage: {os.path.basename(sys.argv[0])} FREEHOLD SUP_GUEST "
              "CASE;", *cases)
        return 2
    if not os.path.exists(FREEHOLD):
        print("skipped: no freehold")
        return 77
    cases[name]()
    return 1 if failures else 0


def claim(ok, text):
    print("ok:" if ok else "FAILED:", text, flush=True)
    if not ok:
        failures.append(text)
    return ok


def wait_for(what, seconds=10, every=0.02):
    """The first true answer of @what, or its last one."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer or time.monotonic() > end:
            return answer
        time.sleep(every)


class Guest:
    """A frontend process inside a domain, driven line by line."""

    def __init__(self, world, domid, vdev=51712, order=1, persistent=1):
        self.process = subprocess.Popen(
            world.inside(domid, GUEST, str(vdev), str(order), str(persistent)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        world.processes.append(self.process)

    def send(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self, seconds=40):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return ["no answer"]
        return self.process.stdout.readline().split()

    def answered(self):
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def ask(self, line, seconds=40):
        self.send(line)
        return self.answer(seconds)

    def end(self):
        self.process.stdin.close()
        self.process.wait(10)

    def kill(self):
        self.process.kill()
        self.process.wait()


class World:
    def __init__(self, *serve_options, fake=None, fence=True, parent=None):
        self.dir = tempfile.mkdtemp(prefix="freehold-sup.", dir=parent)
        os.chmod(self.dir, 0o711)
        self.run_dir = os.path.join(self.dir, "r")
        self.processes = []
        self.serve_process = None
        self.log = os.path.join(self.dir, "serve.log")
        try:
            self.run("hv", "start", "--uid-base", str(self.uid_base()))
            if fake:
                self.serve_fake(fake, fence)
            else:
                self.serve(*serve_options)
        except BaseException:
            self.__exit__()
            raise

    @staticmethod
    def uid_base():
        """Worlds that run at the same time need uids of their own."""
        global n_worlds
        n_worlds += 1
        # A block each: workers' uids are 16384 above those of domains.
        return 1300000000 + (os.getpid() * 8 + n_worlds) % 23000 * 32768

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
            p.wait()
        self.stop()
        subprocess.run([FREEHOLD, "hv", "stop", "--run-dir", self.run_dir],
                       check=False, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.dir, ignore_errors=True)

    def command(self, *args):
        return [FREEHOLD, *args, "--run-dir", self.run_dir]

    def run(self, *args):
        # Not captured: a daemon would keep a pipe open.
        subprocess.run(self.command(*args), check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def inside(self, domid, *words):
        return [FREEHOLD, "exec", "--run-dir", self.run_dir, "-d", str(domid),
                "--", *words]

    def xs(self, tool, *words, domid=0):
        """An xenstore tool's output as a domain, or None when it failed."""
        p = subprocess.run(self.inside(domid, f"xenstore-{tool}", *words),
                           check=False, text=True, stdin=subprocess.DEVNULL,
                           capture_output=True)
        return None if p.returncode else p.stdout.rstrip("\n")

    def serve(self, *options):
        with open(self.log, "ab") as log:
            ready, theirs = os.pipe()
            self.serve_process = subprocess.Popen(
                self.command("serve", "-v", "--ready-fd", str(theirs),
                             *options),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=[theirs])
            os.close(theirs)
        if not select.select([ready], [], [], 10)[0] or not os.read(ready, 1):
            raise RuntimeError("serve does not start: " + self.read_log())
        os.close(ready)

    def serve_fake(self, fake, fence):
        """The supervisor with workers that misbehave."""
        env = dict(os.environ, SUP_FAKE=fake,
                   SUP_FAKE_LOG=os.path.join(self.dir, "fake.log"))
        if not fence:
            env["SUP_FAKE_NO_FENCE"] = "1"
        with open(self.log, "ab") as log:
            self.serve_process = subprocess.Popen(
                self.inside(0, FAKE, "serve", self.run_dir), env=env,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if not wait_for(lambda: os.path.exists(self.run_dir + "/control")):
            raise RuntimeError("no supervisor: " + self.read_log())

    def fake_again(self, fake, fence=True):
        self.serve_process.kill()
        self.serve_process.wait()
        os.unlink(self.run_dir + "/control")
        self.serve_fake(fake, fence)

    def fake_starts(self):
        """When the false workers started, in ms."""
        try:
            with open(os.path.join(self.dir, "fake.log"),
                      encoding="ascii") as f:
                return [int(line.split()[0]) for line in f]
        except OSError:
            return []

    def read_log(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def stop(self, seconds=15):
        """SIGTERM; the exit status."""
        p = self.serve_process
        if p is None:
            return None
        self.serve_process = None
        if p.poll() is None:
            p.send_signal(signal.SIGTERM)
        try:
            return p.wait(seconds)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            return "killed"

    def domain(self, name="g"):
        out = subprocess.run(self.command("hv", "create", name), check=True,
                             text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout
        return int(out)

    def raw(self, line, seconds=20):
        """One line to the control socket, the answer parsed."""
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.settimeout(seconds)
            s.connect(os.path.join(self.run_dir, "control"))
            s.sendall(line.encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                more = s.recv(65536)
                if not more:
                    return {"ok": False, "error": "the connection ended"}
                data += more
        return json.loads(data)

    def ctl(self, cmd, seconds=20, **fields):
        return self.raw(json.dumps({"cmd": cmd, **fields}), seconds)

    def device(self, domid, devid=51712):
        for d in self.ctl("list")["devices"]:
            if d["domid"] == domid and d["devid"] == devid:
                return d
        return None

    def hv_pid(self):
        out = subprocess.run(self.command("hv", "status", "--json"),
                             check=True, text=True, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE).stdout
        return json.loads(out)["pid"]

    def worker_pid(self, domid, devid=51712):
        d = self.device(domid, devid) or {}
        return d.get("worker_pid", 0)

    def back(self, domid, key="", devid=51712):
        return f"/local/domain/0/backend/vbd/{domid}/{devid}" + (
            "/" + key if key else "")


def counts(pid):
    """What must not grow: descriptors, mappings, memory in KiB."""
    with open(f"/proc/{pid}/maps", encoding="ascii") as f:
        maps = sum(1 for _ in f)
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        rss = [int(l.split()[1]) for l in f if l.startswith("VmRSS")][0]
    return len(os.listdir(f"/proc/{pid}/fd")), maps, rss
