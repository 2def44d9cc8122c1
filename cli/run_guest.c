/* SPDX-License-Identifier: MIT */
/*
 * What a guest of `freehold run` does: block I/O through libblkfront, every
 * byte compared with a reference image whose descriptor it was given.
 *
 *   freehold --run-guest read|write|rewrite DOMID VDEV INDEX
 *
 * Descriptor 3 is the shared statistics, 4 the reference.
 *
 *   read     random blocks, compared with the reference
 *   write    writes the reference to the disk, blocks in scattered order, each
 *            read back and compared; whole passes, at least one
 *   rewrite  reads random blocks and writes the same bytes back: for a disk
 *            whose contents matter
 *
 * It ends when its statistics page says stop, and after a flush.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

#include <freehold/blkfront.h>
#include <freehold/err.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/run.h"
#include "xenplat/xenplat.h"

enum {
    STATS_FD = 3,
    REFERENCE_FD = 4,
    DEPTH = 16,
    BLOCK_PAGES = 8,
    BLOCK_BYTES = BLOCK_PAGES * 4096,
    CONNECT_S = 15,
    WAIT_NS = 50000000,
};

enum job { JOB_READ, JOB_WRITE, JOB_REWRITE };

/* One buffer and what it is doing. */
struct slot {
    void *buf;
    uint64_t offset; /* bytes, on the disk */
    uint32_t bytes;
    enum { SLOT_FREE, SLOT_READING, SLOT_WRITING } state;
};

struct guest {
    struct fh_xenplat plat;
    struct fh_blkfront *bf;
    void *mem;
    enum job job;
    const uint8_t *reference;
    uint64_t bytes;    /* compared part of the disk */
    uint64_t n_blocks;
    uint64_t next;     /* block of this pass (write) */
    uint64_t stride;   /* scatters the blocks: prime to n_blocks */
    uint64_t random;
    uint64_t last_ns;  /* of an answer, or of the first request */
    struct slot slot[DEPTH];
    struct run_stats *stats;
};

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Only this process writes its page. */
static void
count(fh_word64 *word, uint64_t n)
{
    fh_store_relaxed64(word, fh_load_relaxed64(word) + n);
}

/* xorshift64 */
static uint64_t
next_random(struct guest *g)
{
    g->random ^= g->random << 13;
    g->random ^= g->random >> 7;
    g->random ^= g->random << 17;
    return g->random;
}

static bool
must_stop(const struct guest *g)
{
    return fh_load_relaxed32(&g->stats->stop);
}

/* --- one request --------------------------------------------------------- */

static int
submit(struct guest *g, struct slot *s)
{
    const struct fh_blkfront_io io = {
        .op = s->state == SLOT_WRITING ? FH_BLKIF_WRITE : FH_BLKIF_READ,
        .n_sectors = s->bytes >> FH_SECTOR_SHIFT,
        .sector = s->offset >> FH_SECTOR_SHIFT,
        .data = s->buf,
        .cookie = (uint64_t)(s - g->slot),
    };

    return fh_blkfront_submit(g->bf, &io);
}

/* Chooses the next block for a free slot; false: nothing more to do. */
static bool
choose(struct guest *g, struct slot *s)
{
    uint64_t block;

    if (g->job == JOB_WRITE) {
        /* Passes are finished: half a file system is of no use. */
        if (g->next == g->n_blocks && fh_blkfront_in_flight(g->bf))
            return false;
        if (g->next == g->n_blocks) {
            count(&g->stats->passes, 1);
            g->next = 0;
        }
        if (g->next == 0 && must_stop(g) &&
            fh_load_relaxed64(&g->stats->passes))
            return false;
        block = g->next++ * g->stride % g->n_blocks;
    } else {
        if (must_stop(g))
            return false;
        block = next_random(g) % g->n_blocks;
    }
    s->offset = block * BLOCK_BYTES;
    s->bytes = g->bytes - s->offset < BLOCK_BYTES
                   ? (uint32_t)(g->bytes - s->offset)
                   : BLOCK_BYTES;
    s->state = SLOT_READING;
    if (g->job == JOB_WRITE) {
        memcpy(s->buf, g->reference + s->offset, s->bytes);
        s->state = SLOT_WRITING;
    }
    return true;
}

/* Two requests on one block at a time would be answered in any order. */
static bool
is_busy(const struct guest *g, const struct slot *s)
{
    for (int i = 0; i < DEPTH; i++)
        if (&g->slot[i] != s && g->slot[i].state != SLOT_FREE &&
            g->slot[i].offset == s->offset)
            return true;
    return false;
}

static int
fill(struct guest *g)
{
    for (int i = 0; i < DEPTH; i++) {
        struct slot *s = &g->slot[i];
        int r;

        if (s->state != SLOT_FREE)
            continue;
        if (!choose(g, s))
            break;
        if (g->job == JOB_REWRITE && is_busy(g, s)) {
            s->state = SLOT_FREE;
            continue;
        }
        if (!fh_blkfront_in_flight(g->bf))
            g->last_ns = now_ns();
        r = submit(g, s);
        if (r)
            return r;
    }
    return 0;
}

/* A read came back: compare; afterwards the rewriter writes it. */
static int
finish_read(struct guest *g, struct slot *s)
{
    count(&g->stats->compared, s->bytes);
    if (memcmp(s->buf, g->reference + s->offset, s->bytes))
        count(&g->stats->mismatches, 1);
    s->state = SLOT_FREE;
    if (g->job != JOB_REWRITE)
        return 0;
    s->state = SLOT_WRITING;
    return submit(g, s);
}

/* A write came back: the writer reads the block again, into a buffer that does
 * not hold the answer already. */
static int
finish_write(struct guest *g, struct slot *s)
{
    s->state = SLOT_FREE;
    if (g->job != JOB_WRITE)
        return 0;
    memset(s->buf, 0xa5, s->bytes);
    s->state = SLOT_READING;
    return submit(g, s);
}

static int
finish(struct guest *g, const struct fh_blkfront_done *done)
{
    struct slot *s = &g->slot[done->cookie];

    count(&g->stats->requests, 1);
    count(&g->stats->bytes, s->bytes);
    if (done->status) {
        count(&g->stats->errors, 1);
        s->state = SLOT_FREE;
        return 0;
    }
    return s->state == SLOT_READING ? finish_read(g, s) : finish_write(g, s);
}

static void
note_pause(struct guest *g, uint64_t now)
{
    const uint64_t pause = now - g->last_ns;

    if (pause > fh_load_relaxed64(&g->stats->pause_ns))
        fh_store_relaxed64(&g->stats->pause_ns, pause);
    g->last_ns = now;
}

static int
reap(struct guest *g)
{
    struct fh_blkfront_done done[DEPTH];
    uint32_t n = fh_blkfront_poll(g->bf, done, DEPTH);
    int r = 0;

    if (n)
        note_pause(g, now_ns());
    for (uint32_t i = 0; i < n && !r; i++)
        r = finish(g, &done[i]);
    return r;
}

/* --- life ---------------------------------------------------------------- */

static int
work(struct guest *g)
{
    int r;

    for (;;) {
        r = fill(g);
        if (!r && !fh_blkfront_in_flight(g->bf))
            return g->job == JOB_READ ? 0 : fh_blkfront_flush(g->bf);
        if (!r)
            r = fh_blkfront_kick(g->bf);
        if (!r)
            r = fh_blkfront_wait(g->bf, WAIT_NS);
        if (!r)
            r = reap(g);
        if (r)
            return r;
    }
}

static int
open_disk(struct guest *g, const char *path)
{
    const struct fh_blkfront_params p = {
        .plat = &g->plat.plat,
        .frontend = path,
        .abi = FH_BLKIF_NATIVE,
        .order = 2,
        .max_indirect = 32,
        .pool_pages = DEPTH * BLOCK_PAGES,
        .persistent = true,
        .poll_max_ns = 20000,
    };
    size_t bytes = fh_blkfront_bytes(&p);
    int r;

    g->mem = bytes ? malloc(bytes) : NULL;
    if (!g->mem)
        return FH_ENOMEM;
    r = fh_xenplat_open(&g->plat, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
                                      FH_XENPLAT_XENSTORE);
    if (!r)
        r = fh_blkfront_open(g->mem, &p, &g->bf);
    if (!r)
        r = fh_blkfront_connect(g->bf, CONNECT_S * 1000000000ull);
    for (int i = 0; i < DEPTH && !r; i++) {
        g->slot[i].buf = fh_blkfront_alloc(g->bf, BLOCK_PAGES);
        if (!g->slot[i].buf)
            r = FH_ENOMEM;
    }
    return r;
}

static uint64_t
greatest_divisor(uint64_t a, uint64_t b)
{
    while (b) {
        uint64_t rest = a % b;

        a = b;
        b = rest;
    }
    return a;
}

/* What of the disk is used: as much as the reference has, in sectors. */
static int
measure(struct guest *g)
{
    const uint64_t disk = fh_blkfront_info(g->bf)->n_sectors * FH_SECTOR_BYTES;
    struct stat st;
    void *mem;

    if (fstat(REFERENCE_FD, &st))
        return FH_EBADF;
    g->bytes = (uint64_t)st.st_size < disk ? (uint64_t)st.st_size : disk;
    if (S_ISBLK(st.st_mode))
        g->bytes = disk;
    g->bytes -= g->bytes % FH_SECTOR_BYTES;
    if (!g->bytes)
        return FH_ENOSPC;
    mem = mmap(NULL, g->bytes, PROT_READ, MAP_SHARED, REFERENCE_FD, 0);
    if (mem == MAP_FAILED)
        return FH_ENOMEM;
    g->reference = mem;
    g->n_blocks = (g->bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    g->stride = g->n_blocks / 3 + 1;
    while (greatest_divisor(g->stride, g->n_blocks) != 1)
        g->stride++;
    return 0;
}

static int
parse(int argc, char **argv, struct guest *g, char *path, size_t size)
{
    static const char *const jobs[] = { "read", "write", "rewrite" };
    uint64_t domid, vdev, index;
    void *mem;

    if (argc != 5 || !fh_opt_number(argv[2], UINT16_MAX, &domid) ||
        !fh_opt_number(argv[3], UINT32_MAX, &vdev) ||
        !fh_opt_number(argv[4], RUN_GUESTS - 1, &index))
        return FH_EINVAL;
    for (size_t i = 0; i < FH_ARRAY_SIZE(jobs); i++)
        if (!strcmp(argv[1], jobs[i]))
            g->job = (enum job)i;
    snprintf(path, size, "/local/domain/%llu/device/vbd/%llu",
             (unsigned long long)domid, (unsigned long long)vdev);
    mem = mmap(NULL, sizeof(struct run_stats), PROT_READ | PROT_WRITE,
               MAP_SHARED, STATS_FD,
               (off_t)(index * sizeof(struct run_stats)));
    if (mem == MAP_FAILED)
        return FH_EBADF;
    g->stats = mem;
    g->random = 0x9e3779b97f4a7c15ull * (index + 1);
    return 0;
}

int
cmd_run_guest(int argc, char **argv)
{
    static struct guest g;
    char path[64];
    int r;

    prctl(PR_SET_NAME, "freehold-guest");
    r = parse(argc, argv, &g, path, sizeof(path));
    if (r)
        return fh_opt_fail("--run-guest", "for `freehold run` only");
    r = open_disk(&g, path);
    if (!r)
        r = measure(&g);
    if (!r) {
        fh_store_release32(&g.stats->connected, 1); /* informs only */
        r = work(&g);
    }
    if (r)
        fh_opt_fail("run", "guest at %s: %s", path,
                    r < 0 ? strerror(-r) : "the disk closed or broke");
    if (g.bf) {
        if (fh_blkfront_close(g.bf, CONNECT_S * 1000000000ull) && !r)
            r = FH_ETIMEDOUT;
        fh_blkfront_fini(g.bf);
    }
    fh_xenplat_close(&g.plat);
    free(g.mem);
    return r ? FH_EXIT_FAILURE : FH_EXIT_OK;
}
