/* SPDX-License-Identifier: MIT */
/* The frontend library's I/O against a scripted backend, honest and hostile. */
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "front.h"

/* Requests. */

static void
io__reads_and_writes_directly_indirectly_and_bounced(void **state)
{
    static uint8_t own[64 * 4096];
    uint8_t *pool;

    start_usual();
    pool = fh_blkfront_alloc(bf, 64);
    EXPECT_EQ(run_io(FH_BLKIF_READ, 100, 8, pool), 0);
    EXPECT(!memcmp(pool, w.disk[100], 4096), "direct");
    EXPECT_EQ(run_io(FH_BLKIF_READ, 100, 2, pool + 512 * 7), 0);
    EXPECT(!memcmp(pool + 512 * 7, w.disk[100], 1024), "across pages");
    EXPECT_EQ(run_io(FH_BLKIF_READ, 500, 512, pool), 0);
    EXPECT(!memcmp(pool, w.disk[500], sizeof(own)), "indirect");
    EXPECT_EQ(w.n_indirect, 1);
    EXPECT_EQ(run_io(FH_BLKIF_READ, 700, 500, own + 1), 0);
    EXPECT(!memcmp(own + 1, w.disk[700], 500 * 512), "bounced, unaligned");
    EXPECT_EQ(fh_blkfront_counts(bf)->bounced, 1);

    memset(pool, 0x11, 4096);
    memset(own, 0x22, sizeof(own));
    EXPECT_EQ(run_io(FH_BLKIF_WRITE, 9, 3, pool), 0);
    EXPECT(w.disk[9][0] == 0x11 && w.disk[11][511] == 0x11 &&
               w.disk[12][0] == (uint8_t)(12 * 7 + 1),
           "written, no sector more");
    EXPECT_EQ(run_io(FH_BLKIF_WRITE, 20, 512, own), 0);
    EXPECT(w.disk[20][0] == 0x22 && w.disk[531][511] == 0x22, "bounced");
    EXPECT_EQ(run_io(FH_BLKIF_FLUSH, 0, 0, NULL), 0);
    EXPECT_EQ(run_io(FH_BLKIF_DISCARD, 0, 16, NULL), 0);
    EXPECT_EQ(w.n_flushes, 1);
    EXPECT_EQ(w.n_discards, 1);
    fh_blkfront_free(bf, pool, 64);
    stop();
}

static const struct {
    const char *name;
    struct fh_blkfront_io io;
    int want;
} refused_cases[] = {
    {"no data", {FH_BLKIF_READ, 8, 0, NULL, 0}, FH_EINVAL},
    {"no sectors", {FH_BLKIF_READ, 0, 0, &w, 0}, FH_EINVAL},
    {"flush with data", {FH_BLKIF_FLUSH, 8, 0, &w, 0}, FH_EINVAL},
    {"discard with data", {FH_BLKIF_DISCARD, 8, 0, &w, 0}, FH_EINVAL},
    {"513 sectors", {FH_BLKIF_READ, 513, 0, &w, 0}, FH_EINVAL},
    {"one past the end", {FH_BLKIF_READ, 8, 4089, &w, 0}, FH_ERANGE},
    {"wraps", {FH_BLKIF_READ, 8, ~0ull - 3, &w, 0}, FH_ERANGE},
    {"discard past the end", {FH_BLKIF_DISCARD, 4097, 0, NULL, 0}, FH_ERANGE},
    {"2^32-1 sectors", {FH_BLKIF_READ, ~0u, 0, &w, 0}, FH_ERANGE},
    {"unknown operation", {(enum fh_blkif_op)9, 8, 0, &w, 0}, FH_EOPNOTSUPP},
};

static void
io__refuses_before_it_takes_anything(void **state)
{
    start_usual();
    for (size_t i = 0; i < FH_ARRAY_SIZE(refused_cases); i++)
        EXPECT_EQ(fh_blkfront_submit(bf, &refused_cases[i].io),
                  refused_cases[i].want, "%s", refused_cases[i].name);
    EXPECT_EQ(fh_blkfront_in_flight(bf), 0);
    EXPECT(fh_blkfront_alloc(bf, 256) != NULL, "whole pool is free");
    stop();
}

static void
io__respects_read_only_and_large_sectors(void **state)
{
    const struct fh_blkfront_params params = usual();
    struct fh_blkfront_io io = {FH_BLKIF_WRITE, 8, 0, &w, 0};

    world_init(&w);
    world_offer(&w);
    world_set(&w, BACK, "info", "4");
    world_set(&w, BACK, "sector-size", "4096");
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_EROFS);
    io.op = FH_BLKIF_READ;
    io.sector = 4;
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_EINVAL, "unaligned start");
    io.sector = 8;
    io.n_sectors = 4;
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_EINVAL, "unaligned length");
    stop();
}

static void
io__fills_the_ring_and_no_more(void **state)
{
    struct fh_blkfront_done done[64];
    struct fh_blkfront_io io = {.op = FH_BLKIF_READ, .n_sectors = 8};
    uint64_t seen = 0;

    start_usual();
    w.reverse = true;
    io.data = fh_blkfront_alloc(bf, 1);
    for (io.cookie = 0; io.cookie < 64; io.cookie++)
        EXPECT_EQ(fh_blkfront_submit(bf, &io), 0);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_BLKFRONT_E_FULL);
    EXPECT_EQ(w.n_notified, 0, "nothing is sent before the kick");
    EXPECT_EQ(fh_blkfront_kick(bf), 0);
    EXPECT_EQ(w.n_notified, 1, "one notification for all");
    EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    EXPECT_EQ(fh_blkfront_poll(bf, done, 60), 60);
    EXPECT_EQ(fh_blkfront_poll(bf, done + 60, 60), 4);
    for (int i = 0; i < 64; i++)
        seen |= 1ull << done[i].cookie;
    EXPECT(seen == ~0ull, "each completed once");
    stop();
}

/* Descriptor pages and pool pages run out, and come back. */
static void
io__runs_out_of_pages_gently(void **state)
{
    struct fh_blkfront_params params = usual();
    static uint8_t own[32 * 4096];
    struct fh_blkfront_io io = {
        .op = FH_BLKIF_READ, .n_sectors = 256, .data = own};

    params.pool_pages = 70;
    params.n_indirect = 1;
    start(&params);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), 0);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_BLKFRONT_E_FULL, "descriptors");
    io.n_sectors = 88;
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(fh_blkfront_submit(bf, &io), 0, "bounce %d", i);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_BLKFRONT_E_FULL, "pool");
    EXPECT_EQ(fh_blkfront_close(bf, SEC), 0);
    EXPECT(fh_blkfront_alloc(bf, 70) != NULL, "everything came back");
    stop();
}

/* Hostile answers. */

static const struct {
    const char *name;
    enum twist twist;
    enum fh_blkfront_fault fault;
    int status; /* when there is no fault */
} twist_cases[] = {
    {"unknown id", TWIST_UNKNOWN_ID, FH_BLKFRONT_FAULT_ID, 0},
    {"id with another high half", TWIST_ID_BEYOND, FH_BLKFRONT_FAULT_ID, 0},
    {"answered twice", TWIST_TWICE, FH_BLKFRONT_FAULT_ID, 0},
    {"old answer again", TWIST_LATE, FH_BLKFRONT_FAULT_ID, 0},
    {"another operation", TWIST_WRONG_OP, FH_BLKFRONT_FAULT_OP, 0},
    {"operation 6", TWIST_INDIRECT_OP, FH_BLKFRONT_FAULT_OP, 0},
    {"index ahead", TWIST_INDEX_AHEAD, FH_BLKFRONT_FAULT_INDEX, 0},
    {"index back", TWIST_INDEX_BACK, FH_BLKFRONT_FAULT_INDEX, 0},
    {"status 77", TWIST_STATUS_ODD, FH_BLKFRONT_SOUND, FH_EIO},
    {"error", TWIST_STATUS_ERROR, FH_BLKFRONT_SOUND, FH_EIO},
    {"not supported", TWIST_STATUS_NOTSUPP, FH_BLKFRONT_SOUND, FH_EOPNOTSUPP},
};

/* Rounds of four requests; returns completions, sums bad statuses. */
static uint32_t
rounds(uint32_t n_rounds, uint32_t *n_bad, int *last_bad)
{
    struct fh_blkfront_done done[8];
    struct fh_blkfront_io io = {.op = FH_BLKIF_READ, .n_sectors = 8};
    uint32_t n_done = 0, n_sent = 0;

    io.data = fh_blkfront_alloc(bf, 1);
    for (uint32_t i = 0; i < n_rounds; i++) {
        for (int k = 0; k < 4; k++)
            n_sent += fh_blkfront_submit(bf, &io) == 0;
        EXPECT_EQ(fh_blkfront_kick(bf), 0);
        for (int tries = 0; n_done < n_sent && tries < 100; tries++) {
            uint32_t n = fh_blkfront_poll(bf, done, 8);

            for (uint32_t k = 0; k < n; k++) {
                if (done[k].status) {
                    ++*n_bad;
                    *last_bad = done[k].status;
                }
            }
            n_done += n;
            if (!n)
                EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
        }
    }
    EXPECT_EQ(n_done, n_sent, "every request completes once");
    return n_done;
}

static void
answer__that_is_impossible_breaks_the_disk(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(twist_cases); i++) {
        const char *name = twist_cases[i].name;
        const bool breaks = twist_cases[i].fault != FH_BLKFRONT_SOUND;
        struct fh_blkfront_io io = {FH_BLKIF_READ, 8, 0, own_page, 0};
        uint32_t n_bad = 0;
        int bad = 0;

        start_usual();
        w.twist = twist_cases[i].twist;
        w.twist_at = 11;
        rounds(20, &n_bad, &bad);
        EXPECT_EQ(fh_blkfront_fault(bf), twist_cases[i].fault, "%s", name);
        EXPECT(breaks ? n_bad >= 1 && n_bad <= 4 : n_bad == 1, "%s: %u bad",
               name, n_bad);
        EXPECT_EQ(bad, breaks ? FH_EIO : twist_cases[i].status, "%s", name);
        EXPECT_EQ(fh_blkfront_submit(bf, &io),
                  breaks ? FH_BLKFRONT_E_BROKEN : 0, "%s", name);
        EXPECT(strcmp(fh_blkfront_fault_name(fh_blkfront_fault(bf)), "?"));
        stop();
    }
}

static void
answer__not_supported_withdraws_the_feature(void **state)
{
    struct fh_blkfront_io io = {.op = FH_BLKIF_FLUSH};

    start_usual();
    w.twist = TWIST_STATUS_NOTSUPP;
    w.twist_at = 1;
    EXPECT_EQ(run_io(FH_BLKIF_FLUSH, 0, 0, NULL), FH_EOPNOTSUPP);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_EOPNOTSUPP);
    EXPECT_EQ(fh_blkfront_fault(bf), FH_BLKFRONT_SOUND);
    stop();
}

static void
events__for_nothing_are_not_listened_to(void **state)
{
    uint64_t before;

    start_usual();
    w.storm = true;
    w.hold = true;
    before = w.now;
    for (int i = 0; i < 1000; i++)
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    EXPECT(fh_blkfront_counts(bf)->spurious >= 900, "counted");
    EXPECT((w.now - before) / 1000 > 50, "1000 events took %llu ns each",
           (unsigned long long)(w.now - before) / 1000);
    EXPECT(w.now - before > 50ull * FH_ARRAY_SIZE(twist_cases) * 1000,
           "the storm was slowed down");
    stop();
}

/* The sleep is skipped when an answer is there, and the port unmasked late. */
static void
wait__arms_unmasks_and_sleeps_once(void **state)
{
    struct fh_blkfront_done done;
    struct fh_blkfront_io io = {.op = FH_BLKIF_READ, .n_sectors = 8};

    start_usual();
    io.data = fh_blkfront_alloc(bf, 1);
    for (int i = 0; i < 10; i++) {
        uint32_t waits = w.n_waits, unmasked = w.n_unmasked;

        EXPECT_EQ(fh_blkfront_submit(bf, &io), 0);
        EXPECT_EQ(fh_blkfront_kick(bf), 0);
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
        EXPECT_EQ(w.n_waits, waits + 1);
        EXPECT_EQ(w.n_unmasked, unmasked + (i > 0), "round %d", i);
        EXPECT(w.masked, "masked while we work");
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
        EXPECT_EQ(w.n_waits, waits + 1, "there is work: no sleep");
        EXPECT_EQ(fh_blkfront_poll(bf, &done, 1), 1);
    }
    EXPECT_EQ(w.n_notified, 10);
    stop();
}

/* In place. */

static uint32_t n_granted, n_ended, end_refuses;

static int
grant_page(void *ctx, uint16_t domid, void *page, bool writable, uint32_t *ref)
{
    *ref = w.next_ref++;
    w.ref_page[*ref] = page;
    n_granted++;
    return 0;
}

static int
end_page(void *ctx, uint32_t ref)
{
    w.ref_page[ref] = NULL;
    n_ended++;
    return n_ended == end_refuses ? FH_EBUSY : 0;
}

static void
grants__in_place_take_whole_pages_only(void **state)
{
    static uint8_t own[20 * 4096] __attribute__((aligned(4096)));
    struct fh_blkfront_params params = usual();

    n_granted = n_ended = end_refuses = 0;
    params.granter.grant = grant_page;
    params.granter.end = end_page;
    start(&params);
    EXPECT_EQ(run_io(FH_BLKIF_READ, 40, 160, own), 0);
    EXPECT(!memcmp(own, w.disk[40], sizeof(own)));
    EXPECT_EQ(n_granted, 20);
    EXPECT_EQ(n_ended, 20);
    EXPECT_EQ(run_io(FH_BLKIF_READ, 0, 4, own), 0);
    EXPECT_EQ(n_granted, 20, "half a page is bounced");
    EXPECT_EQ(fh_blkfront_counts(bf)->bounced, 1);

    end_refuses = 25;
    EXPECT_EQ(run_io(FH_BLKIF_WRITE, 40, 160, own), FH_EIO);
    EXPECT_EQ(fh_blkfront_fault(bf), FH_BLKFRONT_FAULT_GRANT);
    stop();
}

/* Blocking. */

static void
sync__matches_a_model_disk(void **state)
{
    static uint8_t model[WORLD_SECTORS * 512], buf[300 * 1024];
    uint32_t seed = 12345;
    struct fh_blkfront_params params = usual();

    params.max_indirect = 0;
    params.pool_pages = 40;
    start(&params);
    memcpy(model, w.disk, sizeof(model));
    for (int i = 0; i < 300; i++) {
        uint32_t at = (seed = seed * 1664525 + 1013904223) % sizeof(model);
        uint32_t n = (seed = seed * 1664525 + 1013904223) >> 8;

        n %= i % 4 ? 3000 : sizeof(buf);
        n = n < sizeof(model) - at ? n : (uint32_t)sizeof(model) - at;
        if (i % 2) {
            memset(buf, i, n);
            memset(model + at, i, n);
            EXPECT_EQ(fh_blkfront_pwrite(bf, buf, n, at), 0, "step %d", i);
        } else {
            EXPECT_EQ(fh_blkfront_pread(bf, buf, n, at), 0, "step %d", i);
            EXPECT(!memcmp(buf, model + at, n), "step %d", i);
        }
    }
    EXPECT(!memcmp(model, w.disk, sizeof(model)), "disk as the model");
    EXPECT(w.max_batch >= 3, "requests go out together");
    EXPECT_EQ(fh_blkfront_flush(bf), 0);
    EXPECT_EQ(fh_blkfront_discard(bf, 5000, 100), 0);
    EXPECT_EQ(fh_blkfront_discard(bf, 100, 100), 0, "less than a sector");
    EXPECT_EQ(w.n_discards, 1);
    EXPECT_EQ(fh_blkfront_pread(bf, buf, 2, sizeof(model) - 1), FH_ERANGE);
    stop();
}

static void
sync__reports_errors_and_death(void **state)
{
    uint8_t byte;

    start_usual();
    w.twist = TWIST_STATUS_ERROR;
    w.twist_at = 1;
    EXPECT_EQ(fh_blkfront_pread(bf, &byte, 1, 0), FH_EIO);
    w.twist = TWIST_WRONG_OP;
    w.twist_at = 2;
    EXPECT_EQ(fh_blkfront_pread(bf, &byte, 1, 0), FH_ENOTCONN);
    EXPECT_EQ(fh_blkfront_pread(bf, &byte, 1, 0), FH_ENOTCONN);
    stop();
}

/* Connect, I/O and close with the k-th call to the platform failing. */
static void
failure__of_any_call_leaves_nothing(void **state)
{
    const struct fh_blkfront_params params = usual();
    uint32_t k = 1;

    for (;; k++) {
        uint8_t sector[512];
        bool reached;

        world_init(&w);
        world_offer(&w);
        w.fail_at = k;
        if (!open_front(&params)) {
            if (!fh_blkfront_connect(bf, SEC)) {
                int r = fh_blkfront_pread(bf, sector, 512, 0);

                if (!r)
                    r = fh_blkfront_pwrite(bf, sector, 512, 512);
                EXPECT(r <= 0, "call %u", k);
            }
            reached = w.calls >= k;
            stop();
        } else {
            reached = true;
            EXPECT_EQ(w.n_shared, 0, "call %u", k);
            free(mem);
            world_fini(&w);
        }
        if (!reached)
            break;
    }
    EXPECT(k > 30, "%u calls", k);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(io__reads_and_writes_directly_indirectly_and_bounced),
        cmocka_unit_test(io__refuses_before_it_takes_anything),
        cmocka_unit_test(io__respects_read_only_and_large_sectors),
        cmocka_unit_test(io__fills_the_ring_and_no_more),
        cmocka_unit_test(io__runs_out_of_pages_gently),
        cmocka_unit_test(answer__that_is_impossible_breaks_the_disk),
        cmocka_unit_test(answer__not_supported_withdraws_the_feature),
        cmocka_unit_test(events__for_nothing_are_not_listened_to),
        cmocka_unit_test(wait__arms_unmasks_and_sleeps_once),
        cmocka_unit_test(grants__in_place_take_whole_pages_only),
        cmocka_unit_test(sync__matches_a_model_disk),
        cmocka_unit_test(sync__reports_errors_and_death),
        cmocka_unit_test(failure__of_any_call_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
