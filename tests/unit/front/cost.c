/* SPDX-License-Identifier: MIT */
/*
 * A fixed load for counting instructions: cost N sends N reads of a page at
 * depth 32, from the pool, and prints how many were answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include "world.h"

enum { DEPTH = 32, BATCH = 64 };

static struct world w;
static struct fh_blkfront *bf;
static void *buffers[DEPTH];

static int
send_read(uint64_t index)
{
    const struct fh_blkfront_io io = { .op = FH_BLKIF_READ,
                                       .n_sectors = 8,
                                       .sector = index * 8,
                                       .data = buffers[index],
                                       .cookie = index };

    return fh_blkfront_submit(bf, &io);
}

static uint32_t
answer_and_resend(void)
{
    struct fh_blkfront_done done[BATCH];
    uint32_t n = fh_blkfront_poll(bf, done, BATCH);

    for (uint32_t i = 0; i < n; i++) {
        if (done[i].status || send_read(done[i].cookie))
            exit(1);
    }
    return n;
}

int
main(int argc, char **argv)
{
    const struct fh_blkfront_params params = {
        .plat = &w.plat,
        .frontend = FRONT,
        .order = 4,
        .max_indirect = 64,
        .pool_pages = 2 * DEPTH,
        .persistent = true,
    };
    uint32_t n = 0, want = argc > 1 ? (uint32_t)atoi(argv[1]) : 1000;

    world_init(&w);
    world_offer(&w);
    if (fh_blkfront_open(malloc(fh_blkfront_bytes(&params)), &params, &bf) ||
        fh_blkfront_connect(bf, UINT64_MAX))
        return 1;
    for (uint64_t i = 0; i < DEPTH; i++) {
        buffers[i] = fh_blkfront_alloc(bf, 1);
        if (send_read(i))
            return 1;
    }
    while (n < want) {
        if (fh_blkfront_kick(bf) || fh_blkfront_wait(bf, UINT64_MAX))
            return 1;
        n += answer_and_resend();
    }
    printf("%u\n", n);
    return 0;
}
