/* SPDX-License-Identifier: MIT */
/*
 * A guest of `freehold bench`: a process in a domain of its own that drives
 * one disk through libblkfront and keeps `depth` requests in flight.
 *
 * With verification every sector that it writes says whose it is, which one
 * and which generation; a block has at most one request in flight, so what a
 * read must find is known exactly.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <freehold/blkfront.h>
#include "base/arith.h"
#include "base/poller.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/pattern.h"
#include "xenplat/xenplat.h"

enum {
    BATCH = 64,
    PICK_TRIES = 64, /* for a block that has no request in flight */
    STILL_US = 5000,
};

#define CONNECT_NS (20ull * 1000 * 1000 * 1000)
#define WAIT_NS    (100ull * 1000 * 1000)

/* One of the requests that are kept in flight. */
struct slot {
    void *data;
    uint64_t block;
    uint64_t start_ns;
    uint32_t generation; /* that a write brings */
    bool write;
};

struct guest {
    struct fh_bench_area *area;
    struct fh_xenplat x;
    struct fh_blkfront *bf;
    struct slot slots[FH_BENCH_MAX_DEPTH];
    uint16_t idle[FH_BENCH_MAX_DEPTH];
    uint32_t n_idle;
    uint8_t *busy; /* by block, with verification */
    uint64_t n_blocks;
    uint64_t next_block; /* sequential modes and the filling */
    uint64_t seed;
    uint64_t last_done_ns;
    bool filling;
    bool measuring;
};

static int
give_up(struct guest *g, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(g->area->error, sizeof(g->area->error), fmt, ap);
    va_end(ap);
    fh_store_release32(&g->area->state, FH_BENCH_FAILED);
    return FH_EXIT_FAILURE;
}

static uint64_t
now_ns(struct guest *g)
{
    return g->x.plat.ops->now_ns(&g->x.plat);
}

static uint64_t
next_random(struct guest *g)
{
    g->seed ^= g->seed << 13;
    g->seed ^= g->seed >> 7;
    g->seed ^= g->seed << 17;
    return g->seed;
}

static uint64_t
random_block(struct guest *g)
{
    return (uint64_t)(((unsigned __int128)next_random(g) * g->n_blocks) >> 64);
}

static bool
is_sequential(const struct guest *g)
{
    return g->filling || g->area->config.rw == FH_BENCH_READ ||
           g->area->config.rw == FH_BENCH_WRITE;
}

/* The block of the next request; n_blocks when there is none now. */
static uint64_t
pick_block(struct guest *g)
{
    for (unsigned i = 0; i < PICK_TRIES; i++) {
        uint64_t b;

        if (is_sequential(g)) {
            if (g->next_block == g->n_blocks) {
                if (g->filling)
                    return g->n_blocks;
                g->next_block = 0;
            }
            b = g->next_block++;
        } else {
            b = random_block(g);
        }
        if (!g->busy || !g->busy[b])
            return b;
    }
    return g->n_blocks;
}

static bool
pick_write(struct guest *g)
{
    switch ((enum fh_bench_rw)g->area->config.rw) {
    case FH_BENCH_READ:
    case FH_BENCH_RANDREAD:
        return g->filling;
    case FH_BENCH_WRITE:
    case FH_BENCH_RANDWRITE:
        return true;
    case FH_BENCH_RANDRW:
        return g->filling || (next_random(g) >> 40 & 1);
    }
    return false;
}

static uint32_t
sectors(const struct guest *g)
{
    return g->area->config.block_bytes / FH_SECTOR_BYTES;
}

static void
fill(struct guest *g, const struct slot *s)
{
    for (uint32_t i = 0; i < sectors(g); i++)
        fh_pattern_fill((char *)s->data + (size_t)i * FH_SECTOR_BYTES,
                        g->area->config.guest, s->block * sectors(g) + i,
                        s->generation);
}

static void
check(struct guest *g, const struct slot *s)
{
    const uint32_t generation = g->area->generation[s->block];

    if (generation & FH_BENCH_UNSURE)
        return;
    for (uint32_t i = 0; i < sectors(g); i++) {
        const uint64_t sector = s->block * sectors(g) + i;

        if (fh_pattern_check((char *)s->data + (size_t)i * FH_SECTOR_BYTES,
                             g->area->config.guest, sector, generation) ==
            FH_PATTERN_RIGHT)
            continue;
        if (!g->area->counts.mismatches++)
            g->area->first_bad_sector = sector;
    }
}

/* Sends one request from the slot on top of the idle ones; false: not now. */
static bool
send_one(struct guest *g, uint64_t now)
{
    const uint16_t index = g->idle[g->n_idle - 1];
    struct slot *s = &g->slots[index];
    struct fh_blkfront_io io = { .n_sectors = sectors(g),
                                 .data = s->data,
                                 .cookie = index };

    s->block = pick_block(g);
    if (s->block == g->n_blocks)
        return false;
    s->write = pick_write(g);
    s->start_ns = now;
    if (s->write && g->busy) {
        s->generation =
            (g->area->generation[s->block] & ~FH_BENCH_UNSURE) + 1;
        fill(g, s);
    }
    io.op = s->write ? FH_BLKIF_WRITE : FH_BLKIF_READ;
    io.sector = s->block * sectors(g);
    if (fh_blkfront_submit(g->bf, &io))
        return false;
    if (g->busy)
        g->busy[s->block] = 1;
    g->n_idle--;
    return true;
}

static void
complete(struct guest *g, const struct fh_blkfront_done *d)
{
    struct slot *s = &g->slots[d->cookie];

    g->idle[g->n_idle++] = (uint16_t)d->cookie;
    if (d->status)
        g->area->counts.errors++;
    if (!g->busy)
        return;
    g->busy[s->block] = 0;
    if (s->write)
        g->area->generation[s->block] =
            d->status ? s->generation | FH_BENCH_UNSURE : s->generation;
    else if (!d->status)
        check(g, s);
}

/* Takes what has completed; the time now, or 0 when nothing had. */
static uint64_t
take(struct guest *g)
{
    struct fh_blkfront_done done[BATCH];
    const uint32_t n = fh_blkfront_poll(g->bf, done, BATCH);
    uint64_t now;

    if (!n)
        return 0;
    now = now_ns(g);
    for (uint32_t i = 0; i < n; i++) {
        if (g->measuring)
            fh_hist_add(&g->area->latency,
                        now - g->slots[done[i].cookie].start_ns, 1);
        complete(g, &done[i]);
    }
    if (g->measuring && now - g->last_done_ns > g->area->longest_gap_ns)
        g->area->longest_gap_ns = now - g->last_done_ns;
    g->last_done_ns = now;
    fh_store_relaxed64(&g->area->counts.requests,
                       g->area->counts.requests + n);
    return now;
}

static void
publish_counts(struct guest *g)
{
    const struct fh_xenplat_counts *c = &g->x.counts;
    struct fh_bench_counts *a = &g->area->counts;

    fh_store_relaxed64(&a->notifies, c->notifies);
    fh_store_relaxed64(&a->sleeps, c->waits);
    fh_store_relaxed64(&a->syscalls, fh_xenplat_syscalls(&g->x));
}

/* True once the phase says that no more requests are to be sent. */
static bool
follow_phase(struct guest *g)
{
    const uint32_t phase = fh_load_acquire32(&g->area->phase);

    if (phase == FH_BENCH_MEASURE && !g->measuring) {
        g->measuring = true;
        g->last_done_ns = now_ns(g);
    }
    return phase == FH_BENCH_STOP;
}

/* One turn; false when the disk is gone. */
static bool
turn(struct guest *g, bool may_send)
{
    uint64_t now = take(g);
    bool sent = false;

    if (may_send && g->n_idle) {
        if (!now)
            now = now_ns(g);
        while (g->n_idle && send_one(g, now))
            sent = true;
    }
    if (sent && fh_blkfront_kick(g->bf))
        return false;
    publish_counts(g);
    if (!sent && !now && fh_blkfront_in_flight(g->bf) &&
        fh_blkfront_wait(g->bf, WAIT_NS))
        return false;
    return fh_blkfront_state(g->bf) == FH_BLKFRONT_CONNECTED &&
           fh_blkfront_fault(g->bf) == FH_BLKFRONT_SOUND;
}

static bool
drain(struct guest *g)
{
    while (fh_blkfront_in_flight(g->bf))
        if (!turn(g, false))
            return false;
    return true;
}

/* Writes the whole disk once, so that every read has something to find. */
static bool
fill_disk(struct guest *g)
{
    g->filling = true;
    while (g->next_block < g->n_blocks || fh_blkfront_in_flight(g->bf))
        if (!turn(g, true))
            return false;
    g->filling = false;
    g->next_block = 0;
    return true;
}

/* Uses every buffer at least once, all of them at the same time. */
static bool
warm_up(struct guest *g)
{
    const uint64_t until = g->area->counts.requests + 4 * g->area->config.depth;

    while (g->area->counts.requests < until)
        if (!turn(g, true))
            return false;
    return true;
}

/* Until every guest is ready: a load now would only keep others from that. */
static void
keep_still(struct guest *g)
{
    while (fh_load_acquire32(&g->area->phase) == FH_BENCH_WARM)
        usleep(STILL_US);
}

static int
load(struct guest *g)
{
    if ((g->busy && !fill_disk(g)) || !warm_up(g) || !drain(g))
        return give_up(g, "the disk went away during warm-up (%s)",
                       fh_blkfront_fault_name(fh_blkfront_fault(g->bf)));
    fh_store_release32(&g->area->state, FH_BENCH_READY);
    keep_still(g);
    while (!follow_phase(g))
        if (!turn(g, true))
            return give_up(g, "the disk went away (%s)",
                           fh_blkfront_fault_name(fh_blkfront_fault(g->bf)));
    if (!drain(g))
        return give_up(g, "requests stayed unanswered at the end");
    publish_counts(g);
    fh_store_release32(&g->area->state, FH_BENCH_DONE);
    return FH_EXIT_OK;
}

static int
make_slots(struct guest *g)
{
    const struct fh_bench_config *c = &g->area->config;
    const uint32_t pages =
        (c->block_bytes + FH_PAGE_BYTES - 1) / FH_PAGE_BYTES;

    g->n_blocks = fh_bench_blocks(c);
    g->seed = 88172645463325252ull + c->guest * 7919;
    if (c->verify) {
        g->busy = calloc(g->n_blocks, 1);
        if (!g->busy)
            return give_up(g, "no memory");
    }
    for (uint32_t i = 0; i < c->depth; i++) {
        g->slots[i].data = fh_blkfront_alloc(g->bf, pages);
        if (!g->slots[i].data)
            return give_up(g, "no room for %u buffers of %u pages", c->depth,
                           pages);
        g->idle[g->n_idle++] = (uint16_t)i;
    }
    return 0;
}

static int
suits(struct guest *g)
{
    const struct fh_bench_config *c = &g->area->config;
    const struct fh_blkfront_info *i = fh_blkfront_info(g->bf);

    if (sectors(g) > i->max_sectors)
        return give_up(g,
                       "blocks of %u bytes are more than one request may "
                       "have here: %u",
                       c->block_bytes, i->max_sectors * FH_SECTOR_BYTES);
    if (i->n_sectors < c->size / FH_SECTOR_BYTES)
        return give_up(g, "the disk has %llu bytes, not %llu",
                       (unsigned long long)i->n_sectors * FH_SECTOR_BYTES,
                       (unsigned long long)c->size);
    if (c->persistent != i->persistent)
        return give_up(g, "persistent grants are %s, not as asked for",
                       i->persistent ? "on" : "off");
    return 0;
}

/* The smallest ring that holds the depth. */
static uint32_t
order_for(uint32_t depth)
{
    uint32_t order = 0;

    while (order < 4 && fh_blkif_ring_slots(FH_BLKIF_NATIVE, order) < depth)
        order++;
    return order;
}

static int
connect_disk(struct guest *g, void **mem)
{
    const struct fh_bench_config *c = &g->area->config;
    const uint32_t pages =
        (c->block_bytes + FH_PAGE_BYTES - 1) / FH_PAGE_BYTES;
    char path[64];
    struct fh_blkfront_params p = {
        .plat = &g->x.plat,
        .frontend = path,
        .abi = FH_BLKIF_X86_64,
        .order = order_for(c->depth),
        .max_indirect = pages > FH_BLKIF_MAX_DIRECT ? pages : 0,
        .pool_pages = c->depth * pages,
        .persistent = c->persistent,
        .poll_max_ns = c->polling ? FH_POLLER_MAX_NS_DEFAULT : 0,
    };
    int r;

    snprintf(path, sizeof(path), "/local/domain/%u/device/vbd/%u", c->domid,
             c->vdev);
    r = fh_xenplat_open(&g->x, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
                                   FH_XENPLAT_XENSTORE);
    if (r)
        return give_up(g, "cannot reach the hypervisor: %s", strerror(-r));
    *mem = calloc(1, fh_blkfront_bytes(&p));
    if (!*mem)
        return give_up(g, "no memory");
    r = fh_blkfront_open(*mem, &p, &g->bf);
    if (!r)
        r = fh_blkfront_connect(g->bf, CONNECT_NS);
    if (r)
        return give_up(g, "cannot connect %s: %s", path,
                       r < 0 ? strerror(-r) : "refused by the backend");
    return 0;
}

static int
map_area(struct guest *g)
{
    struct stat st;

    if (fstat(FH_BENCH_AREA_FD, &st))
        return fh_opt_fail("--bench-guest", "no area: %s", strerror(errno));
    g->area = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
                   MAP_SHARED, FH_BENCH_AREA_FD, 0);
    if (g->area == MAP_FAILED)
        return fh_opt_fail("--bench-guest", "no area: %s", strerror(errno));
    return 0;
}

int
cmd_bench_guest(int argc, char **argv)
{
    static struct guest guest;
    struct guest *g = &guest;
    void *mem = NULL;
    int status;

    (void)argc;
    (void)argv;
    if (map_area(g))
        return FH_EXIT_FAILURE;
    status = connect_disk(g, &mem);
    if (!status)
        status = suits(g);
    if (!status)
        status = make_slots(g);
    if (!status)
        status = load(g);
    if (g->bf) {
        (void)fh_blkfront_close(g->bf, CONNECT_NS);
        fh_blkfront_fini(g->bf);
    }
    fh_xenplat_close(&g->x);
    free(mem);
    free(g->busy);
    return status;
}
