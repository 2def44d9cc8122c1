# SPDX-License-Identifier: MIT
"""Where the instructions of a window went: count.c's blocks and symbols.

Places: guest user, guest kernel, Xen, dom0 kernel, freehold, other dom0 user.
"""
import bisect
import collections
import subprocess

XEN = 0xffff800000000000, 0xffff880000000000
USER_END = 0x800000000000
PROGRAM = 0x555555554000  # of a PIE, with norandmaps
PLACES = ["guest user", "guest kernel", "Xen", "dom0 kernel", "freehold",
          "other dom0 user"]


class Symbols:
    def __init__(self, pairs):
        pairs = sorted(pairs)
        self.addresses = [a for a, _ in pairs]
        self.names = [n for _, n in pairs]

    def name(self, address):
        i = bisect.bisect_right(self.addresses, address) - 1
        return self.names[i] if i >= 0 else hex(address)

    def address(self, name):
        return self.addresses[self.names.index(name)]


def xen_symbols(path):
    """/proc/xen/xensyms: "address type name"."""
    words = (line.split() for line in open(path))
    return Symbols([(int(w[0], 16), w[2].split("#")[-1]) for w in words
                    if len(w) >= 3])


def kernel_symbols(*paths):
    words = (line.split() for path in paths for line in open(path))
    return Symbols([(int(w[0], 16), w[1]) for w in words if len(w) >= 2])


def program_symbols(program):
    text = subprocess.run(["nm", program], check=True, text=True,
                          stdout=subprocess.PIPE).stdout
    words = (line.split() for line in text.splitlines())
    return Symbols([(PROGRAM + int(w[0], 16), w[2]) for w in words
                    if len(w) == 3 and w[1] in "tTwW"])


class Maps:
    """A process's /proc/PID/maps: which file is at an address."""

    def __init__(self, path):
        self.ranges = []
        for line in open(path):
            w = line.split()
            if len(w) < 6 or "x" not in w[1]:
                continue
            begin, end = (int(x, 16) for x in w[0].split("-"))
            self.ranges.append((begin, end, int(w[2], 16),
                                w[5].rsplit("/", 1)[-1]))

    def find(self, address):
        for begin, end, offset, name in self.ranges:
            if begin <= address < end:
                return name, address - begin + offset
        return "user", address


class Window:
    """One file of count.c."""

    def __init__(self, path, xen, kernel, program=None, maps=None):
        self.place = collections.Counter()
        self.function = collections.Counter()
        with open(path) as lines:
            for line in lines:
                w = line.split()
                address = int(w[0], 16)
                n = int(w[1]) * int(w[2])
                place, name = self.locate(address, w[3] == "dom0", xen, kernel,
                                          program, maps)
                self.place[place] += n
                self.function[place, name] += n

    @staticmethod
    def locate(address, is_dom0, xen, kernel, program, maps):
        domain = "dom0" if is_dom0 else "guest"
        if XEN[0] <= address < XEN[1]:
            return "Xen", xen.name(address)
        if address >= USER_END:
            return f"{domain} kernel", kernel.name(address)
        if not is_dom0:
            return "guest user", "user"
        if not maps:
            return "other dom0 user", "user"
        file, at = maps.find(address)
        if file == "freehold":
            return "freehold", program.name(address)
        # Its libraries are freehold's too: what it calls.
        return "freehold" if file != "user" else "other dom0 user", file
