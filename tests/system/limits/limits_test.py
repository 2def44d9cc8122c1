# SPDX-License-Identifier: MIT
"""Full at its limits: descriptors, mappings, locked memory, no io_uring, no
space, no memory.  Each is met by a clear error, leaves nothing half-done, and
is over when there is room again.

limits_test.py FREEHOLD SUP_GUEST CASE LIMITS_MAPS
"""
import contextlib
import ctypes
import errno
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time

from world import FREEHOLD, Guest, World, claim, failures, wait_for

MAPS_MAX = 262144  # FH_HV_MAPS_MAX
IO_URING_SETUP = 425  # on every architecture but alpha
DISK = "mem:4m"


class Limited(World):
    """A world whose hypervisor or backend is started by another program."""

    def __init__(self, verb, *prefix):
        self.verb = verb
        self.prefix = list(prefix)
        super().__init__()

    def command(self, *args):
        words = super().command(*args)
        return self.prefix + words if args[0] == self.verb else words


def ask(world, *words, seconds=10):
    """Status and stderr of a command, "hangs" when it does not end."""
    try:
        p = subprocess.run(world.command(*words), check=False, text=True,
                           stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=seconds)
    except subprocess.TimeoutExpired:
        return "hangs", ""
    return p.returncode, p.stderr.strip()


def soft_limit(pid, n):
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(n, hard), hard))


def cpu(pid):
    """Seconds of CPU time."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def n_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def nodes(world, domid):
    return (world.xs("ls", f"/local/domain/0/backend/vbd/{domid}"),
            world.xs("ls", f"/local/domain/{domid}/device/vbd"))


def status(world, domid):
    out = subprocess.run(world.command("hv", "status", "--json"), check=True,
                         text=True, stdout=subprocess.PIPE).stdout
    for d in json.loads(out)["domains"]:
        if d["domid"] == domid:
            return d
    return {}


def attached_guest(world, target=DISK):
    d = world.domain("early" + target.strip(":/").replace("/", "."))
    world.ctl("attach", domid=d, target=target, mode="w")
    g = Guest(world, d)
    claim(g.ask("connect")[0] == "ok", "an earlier disk")
    return d, g


def case_backend_descriptors():
    """At each number of free descriptors: works, or changes nothing."""
    with World() as w:
        pid = w.serve_process.pid
        _, g = attached_guest(w)
        d = w.domain()
        time.sleep(0.5) # our last question's connection is still being closed
        used, before = n_fds(pid), nodes(w, d)
        said = set()
        for free in range(12):
            soft_limit(pid, used + free)
            code, text = ask(w, "attach", str(d), DISK)
            if code == 0:
                break
            said.add(text)
            claim(code == 1 and os.strerror(errno.EMFILE) in text,
                  f"{free} descriptors: {code} {text}")
            claim(nodes(w, d) == before, "no node is left")
            claim(n_fds(pid) == used, "no descriptor is")
            if free:
                claim(len(w.ctl("list")["devices"]) == 1, "nor a disk")
        claim(len(said) > 1, "descriptors ran out in several places")
        claim(w.ctl("detach", domid=d, vdev="xvda")["ok"], "detach")
        soft_limit(pid, used)
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as s:
            s.connect(os.path.join(w.run_dir, "control"))
            start = cpu(pid)
            time.sleep(1)
            claim(cpu(pid) - start < 0.3, "the backend does not spin")
        claim(g.ask("write 1 100") == ["ok", "0", "0"], "I/O goes on")
        soft_limit(pid, 1 << 20)
        claim(ask(w, "attach", str(d), DISK)[0] == 0, "attach works again")
        g2 = Guest(w, d)
        claim(g2.ask("connect")[0] == "ok", "and so does the disk")


def case_hypervisor_descriptors():
    """fhv without a descriptor neither spins nor forgets who waits."""
    with World() as w:
        pid = w.hv_pid()
        d, g = attached_guest(w)
        used = n_fds(pid)
        soft_limit(pid, used + 1)  # for the control connection
        code, text = ask(w, "hv", "create", "more")
        claim(code == 1 and "descriptor" in text, f"hv create: {text}")
        claim(not os.path.exists(f"{w.run_dir}/hv/dom{d + 1}"),
              "no half of a domain")
        soft_limit(pid, used)
        p = subprocess.Popen(w.inside(d, "xenstore-read", "domid"), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        w.processes.append(p)
        start = cpu(pid)
        time.sleep(1)
        claim(cpu(pid) - start < 0.3, "fhv does not spin")
        claim(g.ask("write 1 100") == ["ok", "0", "0"], "I/O goes on")
        soft_limit(pid, 1 << 20)
        claim(p.communicate(timeout=5)[0] == f"{d}\n",
              "who waited is served when there is one again")
        claim(w.domain("more") > d, "and domains can be made")


class OnlyHypervisor(Limited):
    def serve(self, *options):
        pass


def case_small_hypervisor():
    """An fhv that was started with few descriptors says so."""
    script = 'ulimit -n "$0" && exec "$@"'
    for n in 64, 140, 400:
        try:
            w = OnlyHypervisor("hv", "sh", "-c", script, str(n))
        except subprocess.CalledProcessError:
            claim(n < 256, f"limit {n}: it does not start")
            continue
        with w:
            code, text, i = 0, "", 0
            while not code and i < 200:
                code, text = ask(w, "hv", "create", f"d{i}")
                i += 1
            claim(code == 1 and "descriptor" in text,
                  f"limit {n}: {i - 1} domains, then {text}")
            claim(n >= 256 and i > 20, "enough for some")
            claim(ask(w, "hv", "status")[0] == 0, "it still answers")


def helper(world, domid, *words):
    """LIMITS_MAPS inside a domain, up to its last line."""
    p = subprocess.Popen(world.inside(domid, os.path.abspath(sys.argv[4]),
                                      *words),
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                         text=True)
    world.processes.append(p)
    lines = []
    while not lines or not lines[-1].startswith("done"):
        line = p.stdout.readline()
        if not line:
            break
        lines.append(line.strip())
    for line in lines:
        print("  " + line)
    claim(lines and lines[-1] == "done 0", f"{words[0]} in the domain")
    return p


def finish(p):
    p.communicate("\n", timeout=20)


def case_handles():
    with World() as w:
        d = w.domain()
        before = n_fds(w.hv_pid())
        p = helper(w, d, "handles")
        claim(wait_for(lambda: n_fds(w.hv_pid()) <= before),
              "the hypervisor has closed its ends")
        finish(p)


def case_mappings():
    """A domain's quota of mappings, to the last page."""
    with World() as w:
        d = w.domain()
        p = helper(w, d, "quota", str(MAPS_MAX))
        claim(status(w, d)["maps"] == 0, "no mapping is left")
        finish(p)


def case_process_mappings():
    """A process at vm.max_map_count."""
    with open("/proc/sys/vm/max_map_count", encoding="ascii") as f:
        if int(f.read()) > 200000:
            print("skipped: vm.max_map_count is too large to be reached")
            sys.exit(77)
    with World() as w:
        d = w.domain()
        p = helper(w, d, "vmas")
        claim(status(w, d)["maps"] == 0, "no mapping is left")
        finish(p)


def registered_buffers(pid):
    """How many buffers its io_uring has, or None."""
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            if "io_uring" not in os.readlink(f"/proc/{pid}/fd/{fd}"):
                continue
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as f:
                return len(re.findall(r"^ *\d+: 0x[0-9a-f]+/[1-9]\d*$",
                                      f.read().split("UserBufs")[1]
                                      .split("PollList")[0], re.M))
    return None


def case_memlock():
    """Little locked memory: unregistered buffers.  None: a clear error."""
    if os.geteuid() or not shutil.which("setpriv"):
        print("skipped: needs root and setpriv")
        sys.exit(77)
    script = 'ulimit -l "$0" && exec setpriv --bounding-set ' \
             '-sys_resource,-ipc_lock "$@"'
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as image:
        image.truncate(4 << 20)
        hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
        most = 65536 if hard == resource.RLIM_INFINITY else hard >> 10
        for kib in min(most, 65536), 2048:
            with Limited("serve", "bash", "-c", script, str(kib)) as w:
                d, g = attached_guest(w, image.name)
                n = registered_buffers(w.worker_pid(d))
                claim(g.ask("write 7 500") == ["ok", "0", "0"], "write")
                claim(g.ask("verify 7 500") == ["ok", "0", "0"], "read")
                claim(n == 0 if kib == 2048 else n or kib < 8192,
                      f"{kib} KiB of locked memory: {n} buffers registered")
    with Limited("serve", "bash", "-c", script, "0") as w:
        d = w.domain()
        before = nodes(w, d)
        code, text = ask(w, "attach", str(d), DISK)
        # Linux 6.1 does not count the rings: it works there.
        claim(not code or "ulimit -l" in text, f"none: {code} {text}")
        claim(not code or nodes(w, d) == before, "no node is left")


def without_io_uring(error, words):
    """Executes @words with io_uring_setup(2) failing: seccomp by hand."""
    bpf = b"".join(
        code.to_bytes(2, "little") + bytes([yes, no]) + k.to_bytes(4, "little")
        for code, yes, no, k in (
            (0x20, 0, 0, 0),  # the number of the system call
            (0x15, 0, 1, IO_URING_SETUP),
            (0x06, 0, 0, 0x50000 | error),  # SECCOMP_RET_ERRNO
            (0x06, 0, 0, 0x7fff0000)))  # SECCOMP_RET_ALLOW
    code = ctypes.create_string_buffer(bpf, len(bpf))

    class Program(ctypes.Structure):
        _fields_ = [("n", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    program = Program(len(bpf) // 8, ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or \
            libc.prctl(22, 2, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "no seccomp here")
    os.execvp(words[0], words)


def case_no_io_uring():
    """As with kernel.io_uring_disabled, which would be for all the machine."""
    for error in errno.EPERM, errno.ENOSYS:
        with Limited("serve", sys.executable, __file__, FREEHOLD, sys.argv[2],
                     "--without-io-uring", str(error)) as w:
            d = w.domain()
            pid = w.serve_process.pid
            before, used = nodes(w, d), n_fds(pid)
            for target in DISK, "null:1m", "/etc/hostname":
                code, text = ask(w, "attach", str(d), target)
                claim(code == 1 and "io_uring is not available" in text and
                      os.strerror(error) in text, f"{target}: {text}")
            claim(nodes(w, d) == before, "no node is left")
            claim(n_fds(pid) == used, "no descriptor is")
            claim(w.ctl("list")["devices"] == [], "nor a disk")


@contextlib.contextmanager
def tmpfs(size):
    where = tempfile.mkdtemp(prefix="freehold-limits.")
    p = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none",
                        where], check=False)
    if p.returncode:
        os.rmdir(where)
        print("skipped: cannot mount a tmpfs")
        sys.exit(77)
    try:
        yield where
    finally:
        subprocess.run(["umount", "-l", where], check=False)
        os.rmdir(where)


def case_full_file_system():
    """Errors for what does not fit; all else is right; and it ends."""
    with tmpfs("1m") as where, World() as w:
        image = os.path.join(where, "disk.img")
        with open(image, "wb") as f:
            f.truncate(8 << 20)
        d, g = attached_guest(w, image)
        worker = w.worker_pid(d)
        claim(g.ask("write 1 100") == ["ok", "0", "0"], "what fits")
        answer = g.ask("write 2 2000")
        claim(answer[0] == "ok" and 1700 < int(answer[1]) < 2000,
              f"the rest has errors: {answer}")
        wrong = g.ask("verify 2 2000")
        claim(wrong == ["ok", "0", answer[1]],
              f"what was answered well is there: {wrong}")
        claim(w.worker_pid(d) == worker, "the worker lives")
        subprocess.run(["mount", "-o", "remount,size=16m", where], check=True)
        claim(g.ask("write 3 2000") == ["ok", "0", "0"], "with room it works")
        claim(g.ask("verify 3 2000") == ["ok", "0", "0"], "and is right")
        g.ask("close")
        w.ctl("detach", domid=d, vdev="xvda")


@contextlib.contextmanager
def memory_cgroup(limit):
    """The directory of a memory cgroup, or None."""
    where = f"/sys/fs/cgroup/memory/freehold-limits.{os.getpid()}"
    try:
        os.mkdir(where)
        with open(where + "/memory.limit_in_bytes", "w",
                  encoding="ascii") as f:
            f.write(str(limit))
    except OSError:
        yield None
        return
    try:
        yield where
    finally:
        wait_for(lambda: not open(where + "/cgroup.procs",
                                  encoding="ascii").read(), 5)
        with contextlib.suppress(OSError):
            os.rmdir(where)


def out_of_memory():
    """A disk in memory that grows over a cgroup's limit loses its worker, and
    nobody else's."""
    with memory_cgroup(64 << 20) as group, World() as w:
        if not group:
            print("not tried: no memory cgroup (version 1) can be made here")
            return
        _, other = attached_guest(w)
        d, g = attached_guest(w, "mem:128m")
        with open(group + "/cgroup.procs", "w", encoding="ascii") as f:
            f.write(str(w.worker_pid(d)))
        g.send("write 1 30000")
        parked = wait_for(lambda: "killed" in w.read_log().lower(), 20)
        claim(parked, "the kernel ends its worker")
        claim(w.ctl("list")["ok"], "the backend lives")
        claim(other.ask("write 1 100") == ["ok", "0", "0"],
              "and the other disk works")
        g.kill()
        claim(w.ctl("detach", domid=d, vdev="xvda", force=True)["ok"],
              "the disk can be taken away")


def case_memory():
    """Too large a disk in memory is refused; one that grows is its own."""
    with World() as w:
        d = w.domain()
        before, used = nodes(w, d), n_fds(w.serve_process.pid)
        code, text = ask(w, "attach", str(d), "mem:1000000g")
        claim(code == 1 and "memory" in text, text)
        claim(nodes(w, d) == before, "no node is left")
        claim(n_fds(w.serve_process.pid) == used, "no descriptor is")
        claim(ask(w, "attach", str(d), "mem:1m")[0] == 0, "a smaller one")
    out_of_memory()


def main():
    if sys.argv[3] == "--without-io-uring":
        without_io_uring(int(sys.argv[4]), sys.argv[5:])
    cases = {k[5:]: v for k, v in globals().items() if k.startswith("case_")}
    if sys.argv[3] not in cases:
        print("one of:", *cases)
        return 2
    cases[sys.argv[3]]()
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
