/* SPDX-License-Identifier: MIT */
/*
 * A fixed load for counting instructions: cost N serves N reads of a page, 32
 * in flight, from a memory store over persistent grants, and prints how many
 * were answered.
 */
#include <stdio.h>
#include <stdlib.h>
#include "world.h"

enum { DEPTH = 32 };

int
main(int argc, char **argv)
{
    const struct w_setup setup = { .grants = FH_WK_GRANTS_PERSISTENT,
                                   .order = 4,
                                   .max_indirect = 64 };
    const uint32_t want = argc > 1 ? (uint32_t)atoi(argv[1]) : 1000;
    struct world *w = w_new(&setup);
    uint32_t n = 0;

    while (n < want) {
        for (uint32_t i = 0; i < DEPTH; i++) {
            const struct fh_blkif_req req =
                w_rw(FH_BLKIF_READ, i, i * 8, i, 1);

            w_put(w, &req);
        }
        w_publish(w);
        w_run(w);
        for (uint32_t i = 0; i < DEPTH; i++)
            if (w->answer[i].status)
                return 1;
        n += DEPTH;
    }
    printf("%u\n", n);
    w_free(w);
    return 0;
}
