/* SPDX-License-Identifier: MIT */
/*
 * lib/pgrant against a platform that keeps books: what is mapped, what each
 * address stands for, which call is to fail.  Single claims first, the random
 * comparison with a naive model is in pgrant_model_test.c.
 */
#include <stdlib.h>
#include <string.h>
#include <freehold/pgrant.h>
#include "base/arith.h"
#include "fake_gnt.h"
#include "expect.h"

enum {
    SOME = 8,
};

struct fixture {
    struct fake_gnt gnt;
    struct fh_pgrant cache;
    void *mem;
    void *addrs[64];
};

/* A cache with the given cap, chunk and leaves, and idle_ns 100. */
static void
setup(struct fixture *f, uint32_t max_pages, uint32_t max_chunk,
      uint32_t max_leaves)
{
    memset(f, 0, sizeof(*f));
    fake_gnt_init(&f->gnt);
    const struct fh_pgrant_params params = {
        .plat = &f->gnt.plat,
        .domid = FAKE_GNT_DOMID,
        .max_pages = max_pages,
        .max_chunk = max_chunk,
        .max_leaves = max_leaves,
        .idle_ns = 100,
    };
    const size_t bytes = fh_pgrant_bytes(&params);

    EXPECT(bytes > 0, "parameters");
    f->mem = malloc(bytes);
    memset(f->mem, 0xa5, bytes);
    EXPECT_EQ(fh_pgrant_init(&f->cache, f->mem, &params), 0, "init");
}

static void
teardown(struct fixture *f)
{
    EXPECT_EQ(fh_pgrant_fini(&f->cache), 0, "all was put back");
    EXPECT_EQ(f->gnt.n_mapped, 0, "nothing stays mapped");
    free(f->mem);
}

/* Gets @n references and checks that each address is that reference's page. */
static int
get(struct fixture *f, const uint32_t *refs, uint32_t n, uint64_t now)
{
    int r = fh_pgrant_get(&f->cache, refs, n, now, f->addrs);

    for (uint32_t i = 0; !r && i < n; i++)
        EXPECT_EQ(fake_gnt_ref_at(&f->gnt, f->addrs[i]), refs[i], "[%u]", i);
    return r;
}

/* Gets one page and puts it back. */
static int
touch(struct fixture *f, uint32_t ref, uint64_t now)
{
    int r = get(f, &ref, 1, now);

    if (!r)
        fh_pgrant_put(&f->cache, &ref, 1, now);
    return r;
}

static void
init__refuses_parameters_out_of_bounds(void **state)
{
    static const struct {
        const char *name;
        struct fh_pgrant_params params;
        bool ok;
    } rows[] = {
        {"all defaults", {.max_pages = 1}, true},
        {"no page", {.max_pages = 0}, false},
        {"most pages", {.max_pages = FH_PGRANT_MAX_PAGES}, true},
        {"a page too many", {.max_pages = FH_PGRANT_MAX_PAGES + 1}, false},
        {"chunk", {.max_pages = 1, .max_chunk = FH_PGRANT_MAX_CHUNK}, true},
        {"chunk too large",
         {.max_pages = 1, .max_chunk = FH_PGRANT_MAX_CHUNK + 1},
         false},
        {"leaves", {.max_pages = 1, .max_leaves = FH_PGRANT_ROOT_LEAVES}, true},
        {"leaves beyond the root",
         {.max_pages = 1, .max_leaves = FH_PGRANT_ROOT_LEAVES + 1},
         false},
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
        struct fh_pgrant cache;
        size_t bytes = fh_pgrant_bytes(&rows[i].params);

        EXPECT_EQ(bytes > 0, rows[i].ok, "%s", rows[i].name);
        void *mem = malloc(bytes + 1);
        int r = fh_pgrant_init(&cache, mem, &rows[i].params);

        EXPECT_EQ(r, rows[i].ok ? 0 : FH_EINVAL, "%s", rows[i].name);
        free(mem);
    }
}

static void
init__allows_the_largest_cache_to_be_filled(void **state)
{
    struct fixture f;
    static uint32_t refs[FH_PGRANT_MAX_PAGES];
    static void *addrs[FH_PGRANT_MAX_PAGES];
    uint32_t more = FH_PGRANT_MAX_PAGES;

    setup(&f, FH_PGRANT_MAX_PAGES, 1, 128);
    for (uint32_t i = 0; i < FH_PGRANT_MAX_PAGES; i++)
        refs[i] = i;
    EXPECT_EQ(fh_pgrant_get(&f.cache, refs, more, 0, addrs), 0, "fill");
    EXPECT_EQ(get(&f, &more, 1, 0), FH_PGRANT_E_QUOTA, "full");
    fh_pgrant_put(&f.cache, refs, more, 1);
    EXPECT_EQ(touch(&f, more, 2), 0, "one made room");
    EXPECT_EQ(f.cache.n_pages, FH_PGRANT_MAX_PAGES, "still full");
    teardown(&f);
}

static void
get__maps_the_misses_of_a_request_in_one_call(void **state)
{
    struct fixture f;
    const uint32_t refs[] = {9, 8, 700, 10};

    setup(&f, 64, 32, 4);
    EXPECT_EQ(touch(&f, 700, 0), 0, "first");
    EXPECT_EQ(get(&f, refs, 4, 1), 0, "second");
    EXPECT_EQ(f.gnt.n_maps, 2, "one call each");
    EXPECT_EQ(f.cache.stats.hits, 1, "700");
    EXPECT_EQ(f.cache.stats.misses, 4, "700 at first, then three");
    fh_pgrant_put(&f.cache, refs, 4, 2);

    EXPECT_EQ(get(&f, refs, 4, 3), 0, "third");
    EXPECT_EQ(f.gnt.n_maps, 2, "no call");
    EXPECT_EQ(f.cache.stats.hits, 5, "all");
    fh_pgrant_put(&f.cache, refs, 4, 4);
    teardown(&f);
}

static void
get__splits_misses_at_the_chunk_size(void **state)
{
    struct fixture f;
    uint32_t refs[10];

    setup(&f, 64, 4, 4);
    for (uint32_t i = 0; i < 10; i++)
        refs[i] = i / 2 * 7; /* each twice: five pages */
    EXPECT_EQ(get(&f, refs, 10, 0), 0, "pairs");
    EXPECT_EQ(f.gnt.n_maps, 2, "four pages and one");
    EXPECT_EQ(f.cache.n_pages, 5, "once each");
    EXPECT_EQ(f.cache.n_chunks, 2, "two chunks");
    fh_pgrant_put(&f.cache, refs, 10, 0);
    teardown(&f);
}

static void
get__accepts_a_reference_that_repeats(void **state)
{
    struct fixture f;
    const uint32_t refs[] = {5, 6, 5, 5};

    setup(&f, 4, 32, 4);
    EXPECT_EQ(get(&f, refs, 4, 0), 0, "one request");
    EXPECT(f.addrs[0] == f.addrs[2] && f.addrs[0] == f.addrs[3], "one page");
    EXPECT_EQ(get(&f, refs, 1, 0), 0, "another at the same time");
    EXPECT_EQ(f.cache.n_pages, 2, "mapped once");

    fh_pgrant_put(&f.cache, refs, 4, 1);
    EXPECT_EQ(fh_pgrant_shrink(&f.cache, 0), 0, "shrink");
    EXPECT_EQ(f.cache.n_pages, 2, "the second request holds its chunk");
    EXPECT_EQ(fh_pgrant_fini(&f.cache), FH_EBUSY, "in use");
    fh_pgrant_put(&f.cache, refs, 1, 1);
    teardown(&f);
}

static void
get__of_nothing_does_nothing(void **state)
{
    struct fixture f;

    setup(&f, 4, 32, 4);
    EXPECT_EQ(fh_pgrant_get(&f.cache, NULL, 0, 0, NULL), 0, "none");
    fh_pgrant_put(&f.cache, NULL, 0, 0);
    EXPECT_EQ(f.gnt.n_maps, 0, "no call");
    teardown(&f);
}

static void
get__reports_references_that_it_cannot_index(void **state)
{
    static const struct {
        const char *name;
        uint32_t ref;
        int want;
    } rows[] = {
        {"zero", 0, 0},
        {"last indexed", FH_PGRANT_ROOT_LEAVES * 512 - 1, 0},
        {"first not indexed", FH_PGRANT_ROOT_LEAVES * 512, FH_PGRANT_E_NOCACHE},
        {"2^31", 1u << 31, FH_PGRANT_E_NOCACHE},
        {"all ones", UINT32_MAX, FH_PGRANT_E_NOCACHE},
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
        struct fixture f;
        const uint32_t refs[] = {3, rows[i].ref, 4};

        setup(&f, 16, 32, 4);
        EXPECT_EQ(touch(&f, 3, 0), 0, "%s", rows[i].name);
        EXPECT_EQ(get(&f, refs, 3, 0), rows[i].want, "%s", rows[i].name);
        if (rows[i].want) {
            EXPECT_EQ(f.cache.stats.nocache, 1, "%s", rows[i].name);
            EXPECT_EQ(f.gnt.n_maps, 1, "%s: no call", rows[i].name);
            EXPECT_EQ(f.cache.n_idle_pages, 1, "%s: no use", rows[i].name);
        } else {
            fh_pgrant_put(&f.cache, refs, 3, 0);
        }
        teardown(&f);
    }
}

static void
get__bounds_the_leaves(void **state)
{
    struct fixture f;
    const uint32_t three[] = {0, 512, 1024};

    setup(&f, 16, 32, 2);
    EXPECT_EQ(get(&f, three, 3, 0), FH_PGRANT_E_NOCACHE, "three frames");
    EXPECT_EQ(f.cache.n_pages, 0, "nothing half-done");
    EXPECT_EQ(touch(&f, 0, 0), 0, "first leaf");
    EXPECT_EQ(touch(&f, 513, 0), 0, "second leaf");
    EXPECT_EQ(touch(&f, 1024, 0), FH_PGRANT_E_NOCACHE, "no third");
    EXPECT_EQ(touch(&f, 511, 0), 0, "a leaf's last entry");
    EXPECT_EQ(fh_pgrant_shrink(&f.cache, 0), 0, "empties the leaves");
    EXPECT_EQ(get(&f, three + 1, 2, 0), 0, "both leaves are free again");
    fh_pgrant_put(&f.cache, three + 1, 2, 0);
    teardown(&f);
}

static void
get__makes_room_in_the_order_of_last_use(void **state)
{
    struct fixture f;
    const uint32_t refs[] = {1, 2, 3, 4, 5, 6};

    setup(&f, 4, 1, 4);
    for (uint32_t i = 0; i < 4; i++)
        EXPECT_EQ(touch(&f, refs[i], i), 0, "fill");
    EXPECT_EQ(touch(&f, 1, 10), 0, "1 is the newest now");
    EXPECT_EQ(get(&f, refs + 1, 1, 11), 0, "2 is in use");

    EXPECT_EQ(touch(&f, 5, 12), 0, "3 must go");
    EXPECT(!fake_gnt_maps(&f.gnt, 3), "3 went");
    EXPECT_EQ(touch(&f, 6, 13), 0, "4 must go");
    EXPECT(!fake_gnt_maps(&f.gnt, 4), "4 went");
    EXPECT(fake_gnt_maps(&f.gnt, 1) && fake_gnt_maps(&f.gnt, 2), "these stay");
    EXPECT_EQ(f.cache.stats.evict_cap, 2, "counted");
    fh_pgrant_put(&f.cache, refs + 1, 1, 14);
    teardown(&f);
}

static void
get__evicts_whole_chunks(void **state)
{
    struct fixture f;
    const uint32_t old[] = {1, 2, 3};

    setup(&f, 4, 32, 4);
    EXPECT_EQ(get(&f, old, 3, 0), 0, "a chunk of three");
    fh_pgrant_put(&f.cache, old, 3, 0);
    EXPECT_EQ(touch(&f, 10, 1), 0, "full");
    EXPECT_EQ(touch(&f, 11, 2), 0, "one more");
    EXPECT_EQ(f.cache.n_pages, 2, "all three went");
    EXPECT_EQ(f.gnt.n_unmaps, 1, "in one call");
    teardown(&f);
}

static void
get__over_the_cap_is_refused_and_evicts_nothing(void **state)
{
    struct fixture f;
    const uint32_t refs[] = {1, 2, 3, 4, 5};

    setup(&f, 4, 1, 4);
    EXPECT_EQ(get(&f, refs, 5, 0), FH_PGRANT_E_QUOTA, "five in four");
    EXPECT_EQ(get(&f, refs, 2, 0), 0, "two in use");
    EXPECT_EQ(touch(&f, 9, 0), 0, "one idle");
    EXPECT_EQ(get(&f, refs, 5, 1), FH_PGRANT_E_QUOTA, "three more, room 2");
    EXPECT(fake_gnt_maps(&f.gnt, 9), "9 stays");
    EXPECT_EQ(f.cache.stats.quota, 2, "counted");
    EXPECT_EQ(get(&f, refs, 4, 2), 0, "two more fit");
    fh_pgrant_put(&f.cache, refs, 2, 3);
    fh_pgrant_put(&f.cache, refs, 4, 3);
    teardown(&f);
}

static void
get__refused_by_the_peer_leaves_nothing_in_use(void **state)
{
    struct fixture f;
    const uint32_t refs[] = {1, 2, 50, 3};

    for (uint32_t chunk = 1; chunk <= 4; chunk++) {
        setup(&f, 16, chunk, 4);
        EXPECT_EQ(touch(&f, 1, 0), 0, "a hit to be");
        f.gnt.refused = 50;
        EXPECT_EQ(get(&f, refs, 4, 0), FH_PGRANT_E_REFUSED, "chunk %u", chunk);
        EXPECT_EQ(f.cache.n_idle_pages, f.cache.n_pages, "chunk %u", chunk);
        EXPECT_EQ(f.cache.stats.refused, 1, "chunk %u", chunk);
        f.gnt.refused = UINT32_MAX;
        EXPECT_EQ(get(&f, refs, 4, 0), 0, "granted after all");
        fh_pgrant_put(&f.cache, refs, 4, 0);
        teardown(&f);
    }
}

static void
expire__unmaps_only_what_has_been_idle_long_enough(void **state)
{
    struct fixture f;
    uint64_t next;
    const uint32_t held = 7;

    setup(&f, 16, 1, 4);
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 0, &next), 0, "empty");
    EXPECT(next == UINT64_MAX, "nothing to wait for");
    EXPECT_EQ(get(&f, &held, 1, 0), 0, "in use all the time");
    EXPECT_EQ(touch(&f, 1, 10), 0, "idle since 10");
    EXPECT_EQ(touch(&f, 2, 60), 0, "idle since 60");

    EXPECT_EQ(fh_pgrant_expire(&f.cache, 109, &next), 0, "too early");
    EXPECT_EQ(next, 110, "when");
    EXPECT_EQ(f.cache.n_pages, 3, "all there");
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 110, &next), 0, "now");
    EXPECT(!fake_gnt_maps(&f.gnt, 1), "1 went");
    EXPECT_EQ(next, 160, "2 is next");
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 9999, NULL), 0, "much later");
    EXPECT_EQ(f.cache.n_pages, 1, "the one in use stays");
    EXPECT_EQ(f.cache.stats.evict_idle, 2, "counted");
    fh_pgrant_put(&f.cache, &held, 1, 10000);
    teardown(&f);
}

static void
expire__does_a_bounded_amount_of_work(void **state)
{
    struct fixture f;
    uint64_t next;

    setup(&f, 2 * FH_PGRANT_EXPIRE_CHUNKS, 1, 4);
    for (uint32_t i = 0; i < FH_PGRANT_EXPIRE_CHUNKS + 1; i++)
        EXPECT_EQ(touch(&f, i, 0), 0, "%u", i);
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 500, &next), 0, "first");
    EXPECT_EQ(f.cache.n_pages, 1, "one is left");
    EXPECT(next <= 500, "due at once");
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 500, &next), 0, "second");
    EXPECT_EQ(f.cache.n_pages, 0, "none");
    teardown(&f);
}

static void
expire__never_when_idle_ns_is_endless(void **state)
{
    struct fixture f;
    uint64_t next;

    setup(&f, 4, 1, 4);
    f.cache.params.idle_ns = UINT64_MAX;
    EXPECT_EQ(touch(&f, 1, 5), 0, "touch");
    EXPECT_EQ(fh_pgrant_expire(&f.cache, UINT64_MAX - 1, &next), 0, "late");
    EXPECT_EQ(f.cache.n_pages, 1, "stays");
    EXPECT(next == UINT64_MAX, "no wrap");
    teardown(&f);
}

static void
shrink__takes_the_oldest_and_stops_at_the_limit(void **state)
{
    struct fixture f;

    setup(&f, 16, 1, 4);
    for (uint32_t i = 0; i < SOME; i++)
        EXPECT_EQ(touch(&f, i, i), 0, "%u", i);
    EXPECT_EQ(fh_pgrant_shrink(&f.cache, 3), 0, "shrink");
    EXPECT_EQ(f.cache.n_pages, 3, "three");
    for (uint32_t i = 0; i < SOME; i++)
        EXPECT_EQ(fake_gnt_maps(&f.gnt, i), i >= SOME - 3, "%u", i);
    EXPECT_EQ(f.cache.stats.evict_pressure, SOME - 3, "counted");
    teardown(&f);
}

static void
unmap_failure__keeps_the_chunk_and_ends_every_loop(void **state)
{
    struct fixture f;
    uint64_t next;

    setup(&f, 4, 1, 4);
    for (uint32_t i = 0; i < 4; i++)
        EXPECT_EQ(touch(&f, i, 0), 0, "%u", i);
    f.gnt.fail_all_unmaps = true;
    EXPECT_EQ(touch(&f, 9, 1), FH_EIO, "no room can be made");
    EXPECT_EQ(fh_pgrant_expire(&f.cache, 500, &next), FH_EIO, "expire");
    EXPECT_EQ(next, 600, "tried again later");
    EXPECT_EQ(fh_pgrant_shrink(&f.cache, 0), FH_EIO, "shrink");
    EXPECT_EQ(fh_pgrant_fini(&f.cache), FH_EIO, "fini");
    EXPECT_EQ(f.cache.n_pages, 4, "all are still there");
    EXPECT_EQ(touch(&f, 2, 1), 0, "and work");
    EXPECT_EQ(f.gnt.n_maps, 4, "as hits");
    f.gnt.fail_all_unmaps = false;
    teardown(&f);
}

/* One fixed script of gets and evictions, with platform call @k failing. */
static uint32_t
run_script(uint32_t k)
{
    struct fixture f;
    const uint32_t a[] = {1, 2, 3, 600, 2};
    const uint32_t b[] = {3, 4, 5, 6};
    const uint32_t d[] = {1300, 1301, 1302, 1303, 1304};
    uint32_t calls;

    setup(&f, 10, 2, 4);
    f.gnt.fail_at = k;
    int ra = get(&f, a, 5, 0);
    int rb = get(&f, b, 4, 1);

    if (!ra)
        fh_pgrant_put(&f.cache, a, 5, 2);
    int rd = get(&f, d, 5, 3);

    if (!rb)
        fh_pgrant_put(&f.cache, b, 4, 4);
    (void)fh_pgrant_expire(&f.cache, 103, NULL);
    if (!rd)
        fh_pgrant_put(&f.cache, d, 5, 105);
    (void)fh_pgrant_shrink(&f.cache, 2);
    EXPECT_EQ(f.cache.n_idle_pages, f.cache.n_pages, "call %u: no pin", k);
    EXPECT_EQ(f.cache.stats.errors, f.gnt.n_failed, "call %u", k);
    calls = f.gnt.n_calls;
    if (fh_pgrant_fini(&f.cache))
        EXPECT_EQ(f.gnt.n_failed, 1, "call %u: only a failure stops it", k);
    teardown(&f);
    return calls;
}

static void
every_platform_call__may_fail_and_nothing_leaks(void **state)
{
    const uint32_t n = run_script(0);

    EXPECT(n > 8, "the script makes %u calls", n);
    for (uint32_t k = 1; k <= n + 4; k++)
        (void)run_script(k);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(init__refuses_parameters_out_of_bounds),
        cmocka_unit_test(init__allows_the_largest_cache_to_be_filled),
        cmocka_unit_test(get__maps_the_misses_of_a_request_in_one_call),
        cmocka_unit_test(get__splits_misses_at_the_chunk_size),
        cmocka_unit_test(get__accepts_a_reference_that_repeats),
        cmocka_unit_test(get__of_nothing_does_nothing),
        cmocka_unit_test(get__reports_references_that_it_cannot_index),
        cmocka_unit_test(get__bounds_the_leaves),
        cmocka_unit_test(get__makes_room_in_the_order_of_last_use),
        cmocka_unit_test(get__evicts_whole_chunks),
        cmocka_unit_test(get__over_the_cap_is_refused_and_evicts_nothing),
        cmocka_unit_test(get__refused_by_the_peer_leaves_nothing_in_use),
        cmocka_unit_test(expire__unmaps_only_what_has_been_idle_long_enough),
        cmocka_unit_test(expire__does_a_bounded_amount_of_work),
        cmocka_unit_test(expire__never_when_idle_ns_is_endless),
        cmocka_unit_test(shrink__takes_the_oldest_and_stops_at_the_limit),
        cmocka_unit_test(unmap_failure__keeps_the_chunk_and_ends_every_loop),
        cmocka_unit_test(every_platform_call__may_fail_and_nothing_leaks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
