/* SPDX-License-Identifier: MIT */
/* The buffer pool against a map of its pages. */
#include "blkback/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "../expect.h"

enum { PAGES = 1024, BYTES = PAGES * 4096, MAX_RUNS = 1024 };

struct run {
    uint8_t *at;
    uint32_t pages; /* asked for */
};

static uint64_t seed = 3;

static uint32_t
rnd(uint32_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % below;
}

static void
runs__never_overlap_and_all_comes_back(void **state)
{
    static uint8_t used[PAGES];
    static struct run run[MAX_RUNS];
    uint8_t *base = (uint8_t *)(uintptr_t)0x100000000ull; /* never touched */
    struct fh_pool p;
    uint32_t n = 0;

    (void)state;
    EXPECT_EQ(fh_pool_init(&p, base, BYTES), 0);
    for (uint32_t step = 0; step < 100000; step++) {
        if (n < MAX_RUNS && rnd(2)) {
            const uint32_t pages = 1 + rnd(rnd(4) ? 12 : 512);
            uint8_t *at = fh_pool_alloc(&p, pages * 4096 - rnd(8) * 512);

            if (!at)
                continue;
            for (uint32_t i = 0; i < pages; i++)
                EXPECT(!used[(at - base) / 4096 + i]++, "step %u", step);
            run[n++] = (struct run){ at, pages };
        } else if (n) {
            const uint32_t k = rnd(n);

            for (uint32_t i = 0; i < run[k].pages; i++)
                used[(run[k].at - base) / 4096 + i] = 0;
            fh_pool_free(&p, run[k].at);
            run[k] = run[--n];
        }
    }
    while (n)
        fh_pool_free(&p, run[--n].at);
    EXPECT_EQ(p.n_used, 0);
    EXPECT(fh_pool_alloc(&p, FH_POOL_MIN_BYTES), "whole again");
    EXPECT(fh_pool_alloc(&p, FH_POOL_MIN_BYTES), "both halves");
    EXPECT(!fh_pool_alloc(&p, 1), "and nothing else");
}

static void
sizes__that_cannot_be(void **state)
{
    struct fh_pool p;
    void *base = (void *)(uintptr_t)0x100000000ull;

    (void)state;
    EXPECT_EQ(fh_pool_init(&p, base, FH_POOL_MIN_BYTES - 1), FH_EINVAL);
    EXPECT_EQ(fh_pool_init(&p, base, 64 << 20), 0);
    EXPECT_EQ(p.n_pages, FH_POOL_MAX_PAGES);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs__never_overlap_and_all_comes_back),
        cmocka_unit_test(sizes__that_cannot_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
