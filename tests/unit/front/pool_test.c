/* SPDX-License-Identifier: MIT */
/* The page pool against a plain array of flags. */
#include <string.h>
#include "blkfront/pool.h"
#include "../expect.h"

enum { PAGES = 331 };

static bool model[PAGES];

/* First fit, the slow way. */
static uint32_t
model_take(uint32_t n)
{
    for (uint32_t first = 0; first + n <= PAGES; first++) {
        uint32_t i = 0;

        while (i < n && !model[first + i])
            i++;
        if (i == n) {
            memset(model + first, true, n);
            return first;
        }
    }
    return FH_BLKFRONT_NO_PAGE;
}

static void
pool__is_first_fit(void **state)
{
    uint64_t words[(PAGES + 63) / 64];
    struct fh_blkfront_pool p;
    uint32_t seed = 7, first[64] = {0}, n[64] = {0};

    fh_blkfront_pool_init(&p, words, PAGES);
    for (int i = 0; i < 20000; i++) {
        uint32_t k = (seed = seed * 1664525 + 1013904223) >> 26;
        uint32_t want = (seed >> 8) % (i % 3 ? 3 : 140) + 1;

        if (n[k]) {
            fh_blkfront_pool_give(&p, first[k], n[k]);
            memset(model + first[k], false, n[k]);
            n[k] = 0;
            continue;
        }
        first[k] = fh_blkfront_pool_take(&p, want);
        EXPECT_EQ(first[k], model_take(want), "step %d: %u pages", i, want);
        n[k] = first[k] == FH_BLKFRONT_NO_PAGE ? 0 : want;
    }
}

static void
pool__has_an_end(void **state)
{
    uint64_t words[2];
    struct fh_blkfront_pool p;

    fh_blkfront_pool_init(&p, words, 65);
    EXPECT_EQ(fh_blkfront_pool_take(&p, 0), FH_BLKFRONT_NO_PAGE);
    EXPECT_EQ(fh_blkfront_pool_take(&p, 66), FH_BLKFRONT_NO_PAGE);
    EXPECT_EQ(fh_blkfront_pool_take(&p, 65), 0);
    EXPECT_EQ(fh_blkfront_pool_take(&p, 1), FH_BLKFRONT_NO_PAGE);
    fh_blkfront_pool_give(&p, 64, 1);
    EXPECT_EQ(fh_blkfront_pool_take(&p, 1), 64);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pool__is_first_fit),
        cmocka_unit_test(pool__has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
