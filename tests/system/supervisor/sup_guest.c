/* SPDX-License-Identifier: MIT */
/*
 * A guest for the supervisor's tests: one disk through libblkfront, driven by
 * lines on stdin, one answer line each.
 *
 *   sup_guest VDEV [ORDER [PERSISTENT]]
 *
 *   connect           "ok SECTORS READONLY", or "closed CODE"
 *   cycle N           closes and connects N times: "ok"
 *   write SEED N      N blocks of 4 KiB, scattered: "ok ERRORS"
 *   verify SEED N     reads them back: "ok ERRORS WRONG"
 *   load MS           writes and reads back for so long:
 *                     "ok REQUESTS ERRORS WRONG LONGEST_MS"
 *   pace              answers a closing backend by closing: "ok"
 *   close             "ok", or "timeout"
 *
 * It exits at the end of stdin, without closing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <freehold/blkfront.h>
#include "xenplat/xenplat.h"

enum {
    BLOCK = 4096,
    SECTORS = BLOCK / 512,
    DEPTH = 32,
    SECOND = 1000000000,
    PATIENCE = 20,
};

struct slot {
    uint64_t *data;
    uint64_t block;
    uint64_t stamp;
    uint64_t start_ns;
    enum { FREE, WRITING, READING } busy;
};

struct guest {
    struct fh_xenplat x;
    struct fh_blkfront_params params;
    void *mem;
    struct fh_blkfront *bf;
    struct slot slot[DEPTH];
    uint64_t n_blocks;
    uint64_t requests, errors, wrong, longest_ns;
    uint64_t rnd;
};

static uint64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

/* Which block is the i-th of a series: each once, far apart. */
static uint64_t
scatter(const struct guest *g, uint64_t i)
{
    return i * 7919 % g->n_blocks;
}

static void
fill(uint64_t *data, uint64_t block, uint64_t stamp)
{
    for (int i = 0; i < BLOCK / 8; i += 2) {
        data[i] = block;
        data[i + 1] = stamp;
    }
}

static bool
is_right(const uint64_t *data, uint64_t block, uint64_t stamp)
{
    for (int i = 0; i < BLOCK / 8; i += 2)
        if (data[i] != block || data[i + 1] != stamp)
            return false;
    return true;
}

static void
start(struct guest *g, struct slot *s, bool write)
{
    struct fh_blkfront_io io = {
        .op = write ? FH_BLKIF_WRITE : FH_BLKIF_READ,
        .n_sectors = SECTORS,
        .sector = s->block * SECTORS,
        .data = s->data,
        .cookie = (uint64_t)(s - g->slot),
    };

    if (write)
        fill(s->data, s->block, s->stamp);
    s->busy = write ? WRITING : READING;
    s->start_ns = now_ns();
    g->requests++;
    if (fh_blkfront_submit(g->bf, &io)) {
        g->errors++;
        s->busy = FREE;
    }
}

/* Takes one completion; its slot, or NULL after a long silence. */
static struct slot *
finish_one(struct guest *g)
{
    uint64_t until = now_ns() + (uint64_t)PATIENCE * SECOND;
    struct fh_blkfront_done done;
    struct slot *s;
    uint64_t took;

    while (!fh_blkfront_poll(g->bf, &done, 1)) {
        if (now_ns() > until)
            return NULL;
        fh_blkfront_kick(g->bf);
        fh_blkfront_wait(g->bf, SECOND / 10);
    }
    s = &g->slot[done.cookie];
    took = now_ns() - s->start_ns;
    if (took > g->longest_ns)
        g->longest_ns = took;
    g->errors += done.status != 0;
    if (s->busy == READING && !done.status)
        g->wrong += !is_right(s->data, s->block, s->stamp);
    return s;
}

static bool
drain(struct guest *g)
{
    while (fh_blkfront_in_flight(g->bf))
        if (!finish_one(g))
            return false;
    for (int i = 0; i < DEPTH; i++)
        g->slot[i].busy = FREE;
    return true;
}

static struct slot *
free_slot(struct guest *g)
{
    struct slot *s;

    for (int i = 0; i < DEPTH; i++)
        if (g->slot[i].busy == FREE)
            return &g->slot[i];
    s = finish_one(g);
    if (s)
        s->busy = FREE;
    return s;
}

/* One pass over a series of blocks. */
static bool
series(struct guest *g, bool write, uint64_t stamp, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        struct slot *s = free_slot(g);

        if (!s)
            return false;
        s->block = scatter(g, i);
        s->stamp = stamp;
        start(g, s, write);
        fh_blkfront_kick(g->bf);
    }
    return drain(g);
}

/* Each slot has blocks of its own: writes one, reads it back, the next. */
static bool
load(struct guest *g, uint64_t ms)
{
    const uint64_t until = now_ns() + ms * 1000000;
    const uint64_t share = g->n_blocks / DEPTH;

    for (int i = 0; i < DEPTH; i++) {
        g->slot[i].block = (uint64_t)i * share;
        g->slot[i].stamp = 1;
        start(g, &g->slot[i], true);
    }
    while (now_ns() < until) {
        struct slot *s = finish_one(g);

        if (!s)
            return false;
        if (s->busy == WRITING) {
            start(g, s, false);
        } else {
            g->rnd = g->rnd * 6364136223846793005u + 1442695040888963407u;
            s->block = (uint64_t)(s - g->slot) * share + (g->rnd >> 33) % share;
            s->stamp = g->rnd;
            start(g, s, true);
        }
    }
    return drain(g);
}

static int
open_disk(struct guest *g)
{
    for (int i = 0; i < DEPTH; i++)
        g->slot[i].data = NULL; /* it was the old pool's */
    return fh_blkfront_open(g->mem, &g->params, &g->bf);
}

static int
connect_disk(struct guest *g)
{
    int r = fh_blkfront_connect(g->bf, (uint64_t)PATIENCE * SECOND);
    const struct fh_blkfront_info *info = fh_blkfront_info(g->bf);

    if (r)
        return r;
    g->n_blocks = info->n_sectors / SECTORS;
    for (int i = 0; i < DEPTH; i++)
        if (!g->slot[i].data)
            g->slot[i].data = fh_blkfront_alloc(g->bf, 1);
    return 0;
}

static void
say_connected(struct guest *g, int r)
{
    const struct fh_blkfront_info *info = fh_blkfront_info(g->bf);

    if (r)
        printf("closed %d\n", r);
    else
        printf("ok %llu %d\n", (unsigned long long)info->n_sectors,
               info->read_only);
}

static void
pace(struct guest *g)
{
    uint64_t until = now_ns() + (uint64_t)PATIENCE * SECOND;

    while (fh_blkfront_state(g->bf) != FH_BLKFRONT_CLOSED && now_ns() < until)
        fh_blkfront_wait(g->bf, SECOND / 10);
    puts(fh_blkfront_state(g->bf) == FH_BLKFRONT_CLOSED ? "ok" : "timeout");
}

static void
cycle(struct guest *g, uint64_t n)
{
    int r = 0;

    for (uint64_t i = 0; i < n && !r; i++) {
        r = fh_blkfront_close(g->bf, (uint64_t)PATIENCE * SECOND);
        fh_blkfront_fini(g->bf);
        if (!r)
            r = open_disk(g);
        if (!r)
            r = connect_disk(g);
    }
    printf(r ? "failed %d\n" : "ok\n", r);
}

static void
command(struct guest *g, const char *line)
{
    unsigned long long a = 0, b = 0;
    char word[16] = "";
    bool ok;

    sscanf(line, "%15s %llu %llu", word, &a, &b);
    g->requests = g->errors = g->wrong = g->longest_ns = 0;
    if (!strcmp(word, "connect")) {
        say_connected(g, connect_disk(g));
    } else if (!strcmp(word, "write") || !strcmp(word, "verify")) {
        ok = series(g, word[0] == 'w', a, b);
        printf("%s %llu %llu\n", ok ? "ok" : "silence",
               (unsigned long long)g->errors, (unsigned long long)g->wrong);
    } else if (!strcmp(word, "load")) {
        ok = load(g, a);
        printf("%s %llu %llu %llu %.1f\n", ok ? "ok" : "silence",
               (unsigned long long)g->requests, (unsigned long long)g->errors,
               (unsigned long long)g->wrong, (double)g->longest_ns / 1e6);
    } else if (!strcmp(word, "cycle")) {
        cycle(g, a);
    } else if (!strcmp(word, "pace")) {
        pace(g);
    } else if (!strcmp(word, "close")) {
        puts(fh_blkfront_close(g->bf, (uint64_t)PATIENCE * SECOND) ? "timeout"
                                                                  : "ok");
    } else {
        puts("?");
    }
    fflush(stdout);
}

int
main(int argc, char **argv)
{
    static struct guest g = { .rnd = 1 };
    char dir[64], line[64];
    int r;

    g.params = (struct fh_blkfront_params){
        .plat = &g.x.plat,
        .abi = FH_BLKIF_X86_64,
        .order = argc > 2 ? (uint32_t)atoi(argv[2]) : 1,
        .max_indirect = 32,
        .pool_pages = 128,
        .persistent = argc > 3 ? atoi(argv[3]) : true,
    };
    if (argc < 2)
        return 2;
    snprintf(dir, sizeof(dir), "device/vbd/%s", argv[1]);
    g.params.frontend = dir;
    r = fh_xenplat_open(&g.x, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
                                  FH_XENPLAT_XENSTORE);
    g.mem = calloc(1, fh_blkfront_bytes(&g.params));
    if (!r)
        r = open_disk(&g);
    if (r) {
        printf("cannot open: %d\n", r);
        return 1;
    }
    while (fgets(line, sizeof(line), stdin))
        command(&g, line);
    return 0;
}
