# SPDX-License-Identifier: MIT
"""The rows of `make bench`: one for each measurable sentence.

A row is a function that gets a Lab (bench/run) and fills in a Row.  It says
what was claimed, measures the old way and ours in one go, and judges.  Times
are never a gate; counts are.
"""
import json
import os
import shutil
import statistics
import subprocess
import tempfile

import plot

ROWS = []
SIZES = ("1", "2", "4", "8", "11", "16", "32", "64", "128", "256")
SHOWN = ("1", "11", "32", "256")  # of them, where all would be too many


class Failed(Exception):
    """A command did not do what was asked of it."""


def row(key, source, claim):
    """Registers a function as the row @key."""
    def register(function):
        ROWS.append((key, source, claim, function))
        return function
    return register


def si(value, unit):
    return f"{plot.figure(value)} {unit}"


def disk_bench(lab, guests, grants, *more):
    """One run of `freehold bench`; its JSON."""
    return lab.json("cli/freehold", "bench", "--guests", guests, "--depth",
                    32, "--bs", "4k", "--rw", "randread", "--size", "8m",
                    "--store", "mem", "--grants", grants, "--seconds",
                    lab.seconds, *more, "--json")


@row("guests", "mail 001", "with persistent grants throughput scales with "
     "the guests: every further guest costs no more than the machine does")
def guests(lab, r):
    shares, limits, ours = [], [], []
    for n in lab.guests:
        try:
            j = disk_bench(lab, n, "persistent", "--ring-limit")
        except Failed as e:
            r.fail(str(e))
            continue
        share = j["of_ring_limit"]
        shares.append((n, share))
        ours.append((n, j["iops"]))
        limits.append((n, j["ring_limit_iops"]))
        r.note(f"{n} guests: {si(j['iops'], 'IOPS')}, as many bare rings "
               f"{si(limits[-1][1], '/s')} (before "
               f"{si(j['ring_limit_before'], '/s')}, after "
               f"{si(j['ring_limit_after'], '/s')}): {share:.3f}")
        if 2 * abs(j["ring_limit_before"] - j["ring_limit_after"]) > \
                limits[-1][1]:
            r.note(f"{n} guests: the two runs of the bare rings differ by "
                   "more than half: something else was running")
    at5 = dict(shares).get(5)
    if at5 is None:
        raise Failed("nothing to compare with: no figure at 5 guests")
    worst = min(share for _, share in shares)
    r.old = "bare rings: " + ", ".join(f"{n}: {plot.figure(v)}"
                                       for n, v in limits)
    r.ours = ", ".join(f"{n}: {plot.figure(v)}" for n, v in ours)
    r.ratio = ", ".join(f"{n}: {v:.2f}" for n, v in shares)
    r.judge(worst >= 0.9 * at5,
            f"lowest share {worst:.3f}, at 5 guests {at5:.3f}; wanted 90 %")
    r.plot = plot.lines(r.claim, "guests", "requests per second",
                        {"bare rings": limits, "persistent": ours})


@row("fall", "mail 001", "without persistent grants throughput falls from 5 "
     "to 10 guests (650k to 400k on 24 CPUs); with them it does not")
def fall(lab, r):
    series = {}
    for way in ("map", "persistent"):
        series[way] = [(n, disk_bench(lab, n, way)["iops"]) for n in (5, 10)]
    kept = {way: points[1][1] / points[0][1]
            for way, points in series.items()}
    r.old = "map: " + ", ".join(f"{n}: {plot.figure(v)}"
                                for n, v in series["map"])
    r.ours = ", ".join(f"{n}: {plot.figure(v)}"
                       for n, v in series["persistent"])
    r.ratio = f"kept {kept['map']:.2f} : {kept['persistent']:.2f}"
    r.judge(kept["persistent"] >= 0.9,
            "wanted: at 10 guests at least 90 % of the throughput at 5. What "
            "fell in 2012 was the TLB flushes between 24 CPUs; here it is a "
            "socket")
    r.plot = plot.lines(r.claim, "guests", "requests per second", series,
                        log=True)


def three_ways(lab):
    """The three ways at 15 guests, each measured once for all rows."""
    if not lab.ways:
        lab.ways = {way: disk_bench(lab, lab.many, way)
                    for way in ("persistent", "copy", "map")}
        lab.ways_commands = list(lab.commands)
    lab.commands = list(lab.ways_commands)
    return lab.ways


@row("ways", "mail 002", "persistent grants give about 450 % of mapping per "
     "request at 15 guests")
def ways(lab, r):
    iops = {way: j["iops"] for way, j in three_ways(lab).items()}
    ratio = iops["persistent"] / iops["map"]
    r.old = (f"map {si(iops['map'], 'IOPS')}, copy "
             f"{si(iops['copy'], 'IOPS')}")
    r.ours = f"persistent {si(iops['persistent'], 'IOPS')}"
    r.ratio = (f"map 1 : {ratio:.1f}, copy 1 : "
               f"{iops['persistent'] / iops['copy']:.1f}")
    r.judge(ratio >= 4.5, f"wanted 4.5; see row map-price for what a map "
            "costs on this machine")
    r.note(f"{lab.many} guests, depth 32, 4 KiB random reads")
    r.plot = plot.bars(r.claim, "requests per second", iops, log=True)


@row("counts", "mails 001, 002", "persistent grants take the hypervisor out "
     "of the data path (gate: counts)")
def counts(lab, r):
    r.times = False
    per_io = {way: j["per_io"] for way, j in three_ways(lab).items()}
    hypercalls = {way: p["grant_hypercalls"] for way, p in per_io.items()}
    for way, p in per_io.items():
        r.note(f"{way}, per I/O: {p['grant_hypercalls']:.4f} grant "
               f"hypercalls, {p['notifications']:.4f} notifications, "
               f"{p['wakeups']:.4f} wake-ups, {p['syscalls']:.4f} syscalls "
               "(data path)")
    exact = lab.ways["persistent"]["grant_hypercalls"]
    r.old = (f"grant hypercalls per I/O: map {hypercalls['map']:.2f}, copy "
             f"{hypercalls['copy']:.3f}")
    r.ours = f"{exact} in {lab.ways['persistent']['requests']} I/Os"
    r.ratio = "-"
    r.gate(exact == 0, "persistent: no grant hypercall in the window")
    r.gate(hypercalls["copy"] <= 1, "copy: batched, at most one per I/O")
    # Two, but for what is under way at the ends of the window.
    r.gate(hypercalls["map"] >= 1.5, "map: maps and unmaps every I/O")
    r.gate(per_io["persistent"]["notifications"] <= 2,
           "persistent: at most a notification each way per I/O")
    r.gate(all(j["errors"] == 0 for j in lab.ways.values()), "no errors")
    r.plot = plot.bars(r.claim, "per I/O, persistent / copy / map", {
        f"{name} {way[0]}": p[key]
        for name, key in (("hyperc.", "grant_hypercalls"),
                          ("notify", "notifications"), ("wake", "wakeups"))
        for way, p in per_io.items()})


@row("map-price", "context", "what one mapping costs here is a process "
     "switch, not our code: a hypercall of fhv is a socket round trip")
def map_price(lab, r):
    bare = lab.json("bench/host-cost", lab.ms)
    ours = lab.grants()["map"]["1"]
    least = 3 * bare["socket_ns"] + bare["map_touched_ns"]
    r.note(f"bare: socket round trip {bare['socket_ns']:.0f} ns; mmap+munmap "
           f"of a memfd page {bare['map_ns']:.0f} ns untouched, "
           f"{bare['map_touched_ns']:.0f} ns touched; beside a second thread "
           f"{bare['map_threaded_ns']:.0f} and "
           f"{bare['map_touched_threaded_ns']:.0f} ns; memcpy of 4 KiB "
           f"{bare['memcpy_ns']:.0f} ns")
    r.note("map, touch, unmap through libxengnttab on fhv is three round "
           "trips (map, descriptor, unmap), an mmap and a munmap")
    r.old = f"bare parts {least:.0f} ns"
    r.ours = f"map+touch+unmap {ours:.0f} ns"
    r.ratio = f"{least / ours:.2f} of it are the bare parts"
    r.judge(least / ours >= 0.5, "wanted: at least half")
    r.plot = plot.bars(r.claim, "nanoseconds", {
        "memcpy": bare["memcpy_ns"], "mmap": bare["map_ns"],
        "+touch": bare["map_touched_ns"], "socket": bare["socket_ns"],
        "fhv map": ours}, log=True)


@row("batch", "mail 000", "mapping many pages by one call is far cheaper "
     "than one by one")
def batch(lab, r):
    costs = lab.grants()
    series = {name: sorted((int(n), v) for n, v in costs[name].items())
              for name in ("map_untouched", "map", "copy", "persistent")}
    one, many = costs["map"]["1"], costs["map"]["256"]
    r.old = f"1 page per call: {one:.0f} ns a page"
    r.ours = ", ".join(f"{n}: {costs['map'][n]:.0f}"
                       for n in SHOWN[1:]) + " ns"
    r.ratio = f"1 : {one / many:.1f} at 256"
    r.judge(one / many >= 4, "wanted: a quarter or less at 256")
    r.plot = plot.lines(r.claim, "pages per call", "nanoseconds per page",
                        series, log=True)


@row("copy-batch", "mail 002", "a memcpy through a persistent mapping beats "
     "a grant copy, and that a one-time mapping, at every batch size")
def copy_batch(lab, r):
    costs = lab.grants()
    wrong = [n for n in SIZES
             if not costs["persistent"][n] < costs["copy"][n]
             < costs["map"][n]]
    r.old = "; ".join(f"{n}: map {costs['map'][n]:.0f}, copy "
                      f"{costs['copy'][n]:.0f}" for n in SHOWN) + " ns"
    r.ours = ", ".join(f"{n}: {costs['persistent'][n]:.0f}"
                       for n in SHOWN) + " ns"
    r.ratio = ", ".join(
        f"{n}: {costs['map'][n] / costs['copy'][n]:.1f}x, "
        f"{costs['copy'][n] / costs['persistent'][n]:.0f}x" for n in SHOWN)
    r.judge(not wrong, "not at " + ", ".join(wrong) if wrong else
            "at every size")
    r.plot = plot.lines(r.claim, "pages per call", "nanoseconds per page",
                        {name: [(int(n), costs[name][n]) for n in SIZES]
                         for name in ("map", "copy", "persistent")},
                        log=True)


def cross(r, costs, unit):
    """Where a one-time mapping becomes cheaper than a copy, if it does."""
    def listed(way):
        return ", ".join(f"{n}: {costs[way][n]:.0f}" for n in SIZES) + unit

    ratios = {n: costs["map"][n] / costs["copy"][n] for n in SIZES}
    below = [n for n in SIZES if ratios[n] < 1]
    r.old = "map " + listed("map")
    r.ours = "copy " + listed("copy")
    r.ratio = "map : copy " + ", ".join(f"{n}: {v:.1f}"
                                        for n, v in ratios.items())
    r.judge(bool(below), f"a mapping is cheaper at {', '.join(below)} pages a "
            "call" if below else "no crossover up to 256 pages a call: a copy "
            "is always cheaper")
    r.note("memcpy through a mapping that stays: " + listed("persistent"))
    r.plot = plot.lines(r.claim, "pages per call", f"{unit.strip()} per page",
                        {name: [(int(n), costs[name][n]) for n in SIZES]
                         for name in ("map", "copy", "persistent")},
                        log=True)


@row("crossover", "mail 000", "mapping pages for one request overtakes "
     "copying them when enough go by one call")
def crossover(lab, r):
    costs = lab.grants()
    cross(r, costs, " ns")
    calls = costs["hypercalls"]
    r.note("hypercalls of fhv a page: map " +
           ", ".join(f"{n}: {calls['map'][n] / int(n):.3f}" for n in SHOWN) +
           "; copy " + ", ".join(f"{n}: {calls['copy'][n] / int(n):.3f}"
                                 for n in SHOWN) +
           ". Each map call ends in one munmap of touched pages, which is "
           "one TLB flush; a copy flushes nothing")
    r.gate(all(calls["copy"][n] <= 1 for n in SIZES),
           "copy: one hypercall, however many pages")
    r.gate(all(calls["map"][n] <= 3 for n in SIZES),
           "map: three (map, descriptor, unmap), however many pages")


@row("crossover-xen", "mail 000", "... in a dom0 of real Xen, by guest "
     "instructions (emulated, one vCPU)")
def crossover_xen(lab, r):
    r.times = False
    costs = lab.xen_grants()
    cross(r, costs, " instructions")
    r.gate(all(costs["persistent"][n] < costs["copy"][n] < costs["map"][n]
               for n in SIZES),
           "a memcpy through a mapping that stays costs less than a copy, that "
           "less than a mapping, at every size")


STRUCTURES = ("none", "redblack", "balanced", "array", "pgrant", "pgrant11",
              "request")


def cost_lookups(lab, cost):
    """What cost(STRUCTURE, N) says for each structure and size, less the
    loop's own."""
    of = {s: [] for s in STRUCTURES}
    for n in lab.tables:
        for s in STRUCTURES:
            of[s].append((n, cost(s, n)))
    none = of.pop("none")
    return {s: [(n, v - loop) for (n, v), (_, loop) in zip(of[s], none)]
            for s in of}


@row("lookup", "mail 001", "the references are kept in a red-black tree; our "
     "two-level table finds one faster, at every size")
def lookup(lab, r):
    compare_lookups(r, cost_lookups(lab, lambda s, n: lab.json(
        "bench/lookup", s, n, lab.lookups)["ns"]), "ns")
    r.note("times without the loop's; redblack: tsearch(3) of the C library; "
           "balanced: a perfectly balanced tree, comparison inlined; array: "
           "branchless binary search; pgrant, pgrant11: fh_pgrant_get() of 1 "
           "and of 11 references, per reference, which also counts the use; "
           "request: fh_pgrant_get() and fh_pgrant_put()")


@row("lookup-instructions", "mail 001", "... and in fewer instructions "
     "(callgrind)")
def lookup_instructions(lab, r):
    r.times = False
    compare_lookups(r, cost_lookups(lab, lab.instructions), "instructions")


def compare_lookups(r, values, unit):
    """Judges our table against the best of the others, at each size."""
    others = ("redblack", "balanced", "array")

    def listed(name):
        return name + " " + "/".join(f"{v:.0f}" for _, v in values[name])

    sizes = [n for n, _ in values["pgrant"]]
    best = [min(values[o][i][1] for o in others) for i in range(len(sizes))]
    ratios = [b / v for b, (_, v) in zip(best, values["pgrant"])]
    r.old = "; ".join(map(listed, others)) + f" {unit}"
    r.ours = "; ".join(map(listed, ("pgrant", "pgrant11", "request")))
    r.ratio = "1 : " + "/".join(f"{x:.1f}" for x in ratios) + \
        " (best other : pgrant)"
    r.judge(min(ratios) > 1, "sizes: " + "/".join(map(str, sizes)) +
            " grants; the best of the others at each")
    r.plot = plot.lines(r.claim, "grants", f"{unit} per look-up", values)


@row("pool", "mail 001", "one pool of grants for all rings would need a "
     "lock; a table for each ring scales (James Harper's question)")
def pool(lab, r):
    series = {"per ring": [], "shared, mutex": [], "shared, spin": []}
    for n in lab.threads:
        for name, way in zip(series, ("ring", "mutex", "spin")):
            j = lab.json("bench/pool", way, n, lab.ms * 2, 4096)
            series[name].append((n, j["operations_per_s"]))
    ratios = [own / max(mutex, spin) for (_, own), (_, mutex), (_, spin)
              in zip(*series.values())]
    last = len(ratios) - 1
    r.old = "; ".join(f"{name} " + "/".join(plot.figure(v) for _, v in points)
                      for name, points in list(series.items())[1:])
    r.ours = "/".join(plot.figure(v) for _, v in series["per ring"])
    r.ratio = "1 : " + "/".join(f"{x:.2f}" for x in ratios)
    r.judge(statistics.median(ratios) > 1,
            f"{'/'.join(map(str, lab.threads))} rings, a thread each, a 4 KiB "
            f"copy between get and put; the better lock each time; at "
            f"{lab.threads[last]} rings 1 : {ratios[last]:.2f}")
    r.plot = plot.lines(r.claim, "rings", "get+copy+put per second", series)


@row("mmu-curve", "mail 001", "with 24 CPUs what limits many guests is the "
     "processors that each unmap interrupts: none for pages that only devices "
     "touched, few when flushes are shared")
def mmu_curve(lab, r):
    r.times = False
    points = lab.json("bench/mmu-curve")["points"]
    ways = [w for w in points[0] if w not in ("cpus", "guests")]

    def per_io(way, cpus, guests):
        return next(p[way]["interrupted_per_io"] for p in points
                    if (p["cpus"], p["guests"]) == (cpus, guests))

    r.old = "upstream: " + ", ".join(
        f"{n} guests {per_io('upstream', 24, n):.0f}" for n in (1, 5, 15))
    r.ours = "; ".join(
        f"{w} " + "/".join(f"{per_io(w, 24, n):.2f}" for n in (1, 5, 15))
        for w in ways[1:])
    r.ratio = f"{per_io('upstream', 24, 15):.0f} : " + " : ".join(
        f"{per_io(w, 24, 15):.2f}" for w in ways[1:])
    r.note("interrupted processors per I/O of 8 pages, 24 processors, 1/5/15 "
           "guests, software MMU; upstream: a flush of all dirty processors "
           "per 32 unmaps or fewer; touched: every page was read by the "
           "processor; touched256: unmapped 256 a call")
    pages = [(w, p[w]["flushes_per_page"]) for p in points for w in ways]
    r.gate(all(v == 0 for w, v in pages if w in ("untouched", "persistent")),
           "untouched, persistent: no flush at all")
    r.gate(all(v <= 1 / 256 for w, v in pages if w == "touched256"),
           "touched, 256 a call: at most one flush in 256 pages")
    r.gate(all(p["touched"]["interrupted_per_io"] <=
               p["upstream"]["interrupted_per_io"] for p in points),
           "touched: never more interrupted than upstream")
    r.plot = plot.lines(r.claim, "processors (15 guests)",
                        "processors interrupted per I/O",
                        {w: [(p["cpus"], p[w]["interrupted_per_io"])
                             for p in points if p["guests"] == 15]
                         for w in ways})


def hv_clients(lab, threads, clients):
    """Copies of domain 0's processes against fhv with @threads; the JSON."""
    free = str(lab.build / "cli/freehold")
    run_dir = tempfile.mkdtemp(prefix="freehold-bench-")
    os.chmod(run_dir, 0o755)
    where = ["--run-dir", run_dir]
    said = len(lab.commands)
    try:
        lab.call([free, "hv", "start", *where, "--threads", threads],
                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            done = lab.call([free, "exec", *where, "-d", 0, "--",
                             str(lab.build / "bench/hv-clients"),
                             f"{run_dir}/hv", clients, lab.ms])
            return json.loads(done.stdout)
        finally:
            lab.call([free, "hv", "stop", *where])
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
        # The same words each time: say them once.
        new = " && ".join(lab.commands[said:]).replace(run_dir, "DIR")
        del lab.commands[said:]
        if new not in lab.commands:
            lab.commands.append(new)


@row("hv-threads", "decision 8", "the local hypervisor serves domains at the "
     "same time: two clients' copies by two threads, and a single client "
     "waits no longer for it")
def hv_threads(lab, r):
    pages, small = {1: [], 2: []}, {1: [], 2: []}
    for _ in range(3):
        for threads in (1, 2):
            pages[threads].append(
                hv_clients(lab, threads, 2)["pages_per_s"])
            small[threads].append(hv_clients(lab, threads, 1)["small_ns"])
    one, two = max(pages[1]), max(pages[2])
    r.old = f"1 thread {si(one, 'pages/s')}, {min(small[1]):.0f} ns"
    r.ours = f"2 threads {si(two, 'pages/s')}, {min(small[2]):.0f} ns"
    r.ratio = (f"1 : {two / one:.2f} pages, 1 : "
               f"{min(small[2]) / min(small[1]):.2f} waiting")
    r.judge(two >= one and min(small[2]) <= 1.25 * min(small[1]),
            "wanted: no fewer pages by two threads, and a small hypercall of "
            "a single client within a quarter")
    r.note("the best of three; two clients copy too (libxengnttab puts the "
           "pages where they were wanted), so two free CPUs cannot give "
           "twice as much, and on a busy machine two threads get twice the "
           "share; system calls of fhv per hypercall: 3 in both")
    r.plot = plot.bars(r.claim, "pages per second",
                       {"1 thread": one, "2 threads": two})
