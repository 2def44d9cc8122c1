/* SPDX-License-Identifier: MIT */
/* See front.h. */
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "front.h"

struct world w;
void *mem;
struct fh_blkfront *bf;
uint8_t own_page[4096];

struct fh_blkfront_params
usual(void)
{
    return (struct fh_blkfront_params){
        .plat = &w.plat,
        .frontend = FRONT,
        .order = 1,
        .max_indirect = 64,
        .pool_pages = 256,
        .persistent = true,
    };
}

int
open_front(const struct fh_blkfront_params *params)
{
    size_t bytes = fh_blkfront_bytes(params);

    mem = malloc(bytes);
    memset(mem, 0xa5, bytes);
    return fh_blkfront_open(mem, params, &bf);
}

void
start(const struct fh_blkfront_params *params)
{
    world_init(&w);
    world_offer(&w);
    EXPECT_EQ(open_front(params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0);
}

void
stop(void)
{
    (void)fh_blkfront_close(bf, SEC);
    EXPECT_EQ(fh_blkfront_state(bf), FH_BLKFRONT_CLOSED);
    fh_blkfront_fini(bf);
    EXPECT_EQ(w.n_shared, 0, "pages left granted");
    EXPECT(!w.bound, "port left bound");
    EXPECT(!w.watch_path[0], "watch left");
    free(mem);
    world_fini(&w);
}

void
start_usual(void)
{
    const struct fh_blkfront_params params = usual();

    start(&params);
}

/* Waits for one completion. */
static int32_t
finish(uint64_t cookie)
{
    struct fh_blkfront_done done = {.cookie = ~cookie};

    EXPECT_EQ(fh_blkfront_kick(bf), 0);
    for (int i = 0; i < 10; i++) {
        if (fh_blkfront_poll(bf, &done, 1))
            break;
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    }
    EXPECT_EQ(done.cookie, cookie);
    return done.status;
}

int32_t
run_io(enum fh_blkif_op op, uint64_t sector, uint32_t n, void *data)
{
    const struct fh_blkfront_io io = {.op = op,
                                      .sector = sector,
                                      .n_sectors = n,
                                      .data = data,
                                      .cookie = sector ^ 0x5555};

    EXPECT_EQ(fh_blkfront_submit(bf, &io), 0, "submit");
    return finish(io.cookie);
}
