/* SPDX-License-Identifier: MIT */
/*
 * freehold bench: starts a private world, drives it, measures, cleans up.
 *
 * The window: when every guest is ready (connected, every buffer used once,
 * the disk filled if contents are verified) and has kept still meanwhile, the
 * load begins; a moment later all counters are read, and after --seconds they
 * are read again while the load still runs.  Only then the guests drain and leave.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/bench.h"
#include "cli/bench_world.h"
#include "cli/cli.h"
#include "cli/env.h"
#include "cli/opt.h"

enum {
    READY_MS = 120000, /* connect and, with --verify, fill */
    DRAIN_MS = 60000,
    SETTLE_MS = 300, /* caches and pollers */
    TICK_MS = 5,
};

static const char *const rw_names[] = { "read",      "write",  "randread",
                                        "randwrite", "randrw", NULL };
static const char *const grants_names[] = { "persistent", "copy", "map",
                                            NULL };
static const char *const switch_names[] = { "on", "off", NULL };

#define OPT(member) offsetof(struct fh_bench_options, member)

static const struct fh_opt options[] = {
    { .name = "guests", .kind = FH_OPT_NUMBER, .offset = OPT(guests),
      .arg = "N",
      .help = "guests: processes in domains of their own, each\n"
              "with a disk of its own (1)",
      .min = 1, .max = FH_BENCH_MAX_GUESTS },
    { .name = "depth", .kind = FH_OPT_NUMBER, .offset = OPT(depth),
      .arg = "N", .help = "requests in flight per guest (32)",
      .min = 1, .max = FH_BENCH_MAX_DEPTH },
    { .name = "bs", .kind = FH_OPT_SIZE, .offset = OPT(block_bytes),
      .arg = "SIZE", .help = "bytes per request, a multiple of 512 (4k)",
      .min = 512, .max = 1 << 20 },
    { .name = "rw", .kind = FH_OPT_CHOICE, .offset = OPT(rw), .arg = "MODE",
      .choices = rw_names,
      .help = "read, write, randread, randwrite or randrw\n"
              "(randread)" },
    { .name = "seconds", .kind = FH_OPT_SECONDS, .offset = OPT(seconds),
      .arg = "N", .help = "length of the measurement (3)",
      .min = 100, .max = 86400000 },
    { .name = "size", .kind = FH_OPT_SIZE, .offset = OPT(size), .arg = "SIZE",
      .help = "size of each disk (64m)", .min = 4096, .max = 1ull << 44 },
    { .name = "store", .kind = FH_OPT_STRING, .offset = OPT(store),
      .arg = "STORE",
      .help = "mem: memory; null: no data at all; file:PATH: a file\n"
              "per guest in the directory PATH (mem)" },
    { .name = "grants", .kind = FH_OPT_CHOICE, .offset = OPT(grants),
      .arg = "WAY", .choices = grants_names,
      .help = "how the backend reaches the guests' pages:\n"
              "persistent, copy or map (persistent)" },
    { .name = "polling", .kind = FH_OPT_CHOICE, .offset = OPT(polling),
      .arg = "on|off", .help = "both ends spin adaptively before they sleep "
                               "(on)",
      .choices = switch_names },
    { .name = "workers", .kind = FH_OPT_STRING, .offset = OPT(workers_text),
      .arg = "WHICH", .help = "per-guest, or a number of workers for all "
                              "(per-guest)" },
    { .name = "verify", .kind = FH_OPT_FLAG, .offset = OPT(verify),
      .help = "write guest, sector and generation into every\n"
              "sector, check every read, and read the whole store\n"
              "again at the end, not through the ring" },
    { .name = "kill-worker-every", .kind = FH_OPT_SECONDS,
      .offset = OPT(kill_every), .arg = "SECONDS",
      .help = "SIGKILL a worker that often, each guest's in turn",
      .min = 100, .max = 86400000 },
    { .name = "ring-limit", .kind = FH_OPT_FLAG, .offset = OPT(ring_limit),
      .help = "also measure bare rings, as many pairs, right\n"
              "before and right after, and say what share of their\n"
              "mean was reached" },
    { .name = "json", .kind = FH_OPT_FLAG, .offset = OPT(json),
      .help = "print one JSON object" },
};

static const struct fh_opt_cmd bench_cmd = {
    .name = "bench",
    .args = "",
    .text =
        "Measures the whole path: starts a local hypervisor, a backend and "
        "guests,\neach in processes and domains of their own, loads them, "
        "prints what came of\nit and leaves nothing behind.\n\n"
        "  freehold bench --guests 4 --depth 32\n"
        "  freehold bench --rw randrw --verify --kill-worker-every 2 "
        "--seconds 20\n"
        "  freehold bench --store file:/var/tmp --rw randwrite --json\n",
    .options = options,
    .n_options = FH_ARRAY_SIZE(options),
};

static void
sleep_ms(unsigned ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

/* Waits until every guest is in @state; explains and fails otherwise. */
static int
await(struct fh_bench_world *w, uint32_t state, unsigned limit_ms)
{
    for (unsigned waited = 0; waited < limit_ms; waited += TICK_MS) {
        uint32_t n = 0;

        for (uint32_t i = 0; i < w->opt->guests; i++) {
            const uint32_t s = fh_load_acquire32(&w->guest[i].area->state);
            int status;

            if (s == FH_BENCH_FAILED)
                return fh_opt_fail("bench", "guest %u: %s", i + 1,
                                   w->guest[i].area->error);
            if (s != state && s != FH_BENCH_DONE &&
                !fh_env_wait(w->guest[i].pid, 0, &status))
                return fh_opt_fail("bench", "guest %u ended early, status %d",
                                   i + 1, status);
            n += s == state;
        }
        if (n == w->opt->guests)
            return 0;
        sleep_ms(TICK_MS);
    }
    return fh_opt_fail("bench", "the guests were not %s within %u s",
                       state == FH_BENCH_READY ? "ready" : "done",
                       limit_ms / 1000);
}

static void
set_phase(struct fh_bench_world *w, uint32_t phase)
{
    for (uint32_t i = 0; i < w->opt->guests; i++)
        fh_store_release32(&w->guest[i].area->phase, phase);
}

/* Lets the load run for the window, killing workers if that was asked. */
static int
run_window(struct fh_bench_world *w)
{
    const uint64_t end =
        fh_bench_now_ns() + (uint64_t)(w->opt->seconds * 1e9);
    const uint64_t every = (uint64_t)(w->opt->kill_every * 1e9);
    uint64_t next_kill = every ? fh_bench_now_ns() + every : UINT64_MAX;
    uint32_t victim = 0;

    for (uint64_t now = fh_bench_now_ns(); now < end;
         now = fh_bench_now_ns()) {
        uint64_t until = end < next_kill ? end : next_kill;

        if (now >= next_kill) {
            fh_bench_kill_worker(w, victim++ % w->opt->guests);
            next_kill += every;
            continue;
        }
        if (until - now > 50000000)
            until = now + 50000000;
        sleep_ms((unsigned)((until - now) / 1000000) + 1);
        for (uint32_t i = 0; i < w->opt->guests; i++)
            if (fh_load_relaxed32(&w->guest[i].area->state) ==
                FH_BENCH_FAILED)
                return fh_opt_fail("bench", "guest %u: %s", i + 1,
                                   w->guest[i].area->error);
    }
    return 0;
}

static int
measure(struct fh_bench_world *w)
{
    struct fh_bench_sample *from = &w->sample[0], *to = &w->sample[1];

    if (await(w, FH_BENCH_READY, READY_MS))
        return FH_EXIT_FAILURE;
    set_phase(w, FH_BENCH_RUN);
    sleep_ms(SETTLE_MS);
    if (fh_bench_sample(w, from))
        return FH_EXIT_FAILURE;
    set_phase(w, FH_BENCH_MEASURE);
    if (run_window(w) || fh_bench_sample(w, to))
        return FH_EXIT_FAILURE;
    set_phase(w, FH_BENCH_STOP);
    if (await(w, FH_BENCH_DONE, DRAIN_MS))
        return FH_EXIT_FAILURE;
    return w->opt->verify ? fh_bench_verify_stores(w) : FH_EXIT_OK;
}

static int
bench_body(struct fh_env *env, void *arg)
{
    static struct fh_bench_world world;
    struct fh_bench_world *w = &world;

    w->opt = arg;
    w->env = env;
    if (w->opt->ring_limit && fh_bench_ring_limit(w, &w->ring_limit[0]))
        return FH_EXIT_FAILURE;
    if (fh_bench_world_start(w) || measure(w) || fh_bench_world_stop(w))
        return FH_EXIT_FAILURE;
    if (w->opt->ring_limit && fh_bench_ring_limit(w, &w->ring_limit[1]))
        return FH_EXIT_FAILURE;
    return fh_bench_report(w);
}

/* What the table cannot check. */
static int
check_options(struct fh_bench_options *o)
{
    uint64_t n = 0;

    if (o->block_bytes % FH_SECTOR_BYTES)
        return fh_opt_usage(&bench_cmd,
                            "--bs: %llu is not a multiple of 512",
                            (unsigned long long)o->block_bytes);
    if (o->size < o->block_bytes * (o->verify ? o->depth : 1))
        return fh_opt_usage(&bench_cmd,
                            "--size: %llu bytes are too few for %s blocks of "
                            "%llu",
                            (unsigned long long)o->size,
                            o->verify ? "--depth times" : "",
                            (unsigned long long)o->block_bytes);
    if (strcmp(o->workers_text, "per-guest")) {
        if (!fh_opt_number(o->workers_text, 64, &n) || !n)
            return fh_opt_usage(&bench_cmd,
                                "--workers: '%s' is neither per-guest nor a "
                                "number from 1 to 64",
                                o->workers_text);
        o->workers = (uint32_t)n;
    }
    if (o->verify && !strcmp(o->store, "null"))
        return fh_opt_usage(&bench_cmd, "--verify: a null store keeps "
                                        "nothing; use mem or file:PATH");
    return fh_bench_check_store(&bench_cmd, o);
}

int
cmd_bench(int argc, char **argv)
{
    struct fh_bench_options o = {
        .guests = 1,
        .depth = 32,
        .block_bytes = 4096,
        .rw = FH_BENCH_RANDREAD,
        .seconds = 3,
        .size = 64 << 20,
        .store = "mem",
        .workers_text = "per-guest",
    };
    int r = fh_opt_parse(&bench_cmd, &o, &argc, &argv);

    if (r != FH_OPT_GO)
        return r;
    r = check_options(&o);
    if (r)
        return r;
    return fh_env_guard("bench", bench_body, &o);
}
