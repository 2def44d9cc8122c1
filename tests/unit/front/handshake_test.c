/* SPDX-License-Identifier: MIT */
/* The frontend's handshake against a scripted backend, honest and hostile. */
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "front.h"

static int
grant_never(void *ctx, uint16_t domid, void *page, bool writable, uint32_t *ref)
{
    return FH_ENOSYS;
}

static void
params__out_of_bounds_are_refused(void **state)
{
    struct fh_blkfront_params params = usual();

    EXPECT(fh_blkfront_bytes(&params) > 0);
    params.order = 5;
    EXPECT_EQ(fh_blkfront_bytes(&params), 0);
    params = usual();
    params.pool_pages = 0;
    EXPECT_EQ(fh_blkfront_bytes(&params), 0);
    params = usual();
    params.max_indirect = 513;
    EXPECT_EQ(fh_blkfront_bytes(&params), 0);
    params = usual();
    params.granter.grant = grant_never;
    EXPECT_EQ(fh_blkfront_bytes(&params), 0, "half a hook");
}

static void
connect__negotiates_and_closes_in_order(void **state)
{
    const struct fh_blkfront_info *info;

    start_usual();
    info = fh_blkfront_info(bf);
    EXPECT_EQ(info->n_sectors, WORLD_SECTORS);
    EXPECT_EQ(info->order, 1);
    EXPECT_EQ(info->depth, 64);
    EXPECT_EQ(info->max_segments, 64);
    EXPECT_EQ(info->max_sectors, 512);
    EXPECT(info->persistent && info->flush && info->discard &&
           !info->read_only);
    EXPECT(world_get(&w, FRONT, "ring-ref0") != NULL);
    EXPECT(world_get(&w, FRONT, "ring-ref") == NULL);
    EXPECT(!strcmp(world_get(&w, FRONT, "protocol"), "x86_64-abi"));
    EXPECT_EQ(fh_blkfront_close(bf, SEC), 0);
    EXPECT(!strcmp(w.states, "3456"), "states were %s", w.states);
    EXPECT(world_get(&w, FRONT, "ring-ref0") == NULL, "key left");
    EXPECT(world_get(&w, FRONT, "event-channel") == NULL, "key left");
    EXPECT(world_get(&w, FRONT, "ring-page-order") == NULL, "key left");
    stop();
}

static const struct {
    const char *name;
    const char *key, *value; /* in the backend's directory */
    uint32_t order, segments;
} feature_cases[] = {
    {"all as offered", "x", "y", 4, 256},
    {"order 31", "max-ring-page-order", "31", 4, 256},
    {"order 2", "max-ring-page-order", "2", 2, 256},
    {"order junk", "max-ring-page-order", "2x", 0, 256},
    {"order negative", "max-ring-page-order", "-1", 0, 256},
    {"order empty", "max-ring-page-order", "", 0, 256},
    {"indirect 2^32-1", "feature-max-indirect-segments", "4294967295", 4, 512},
    {"indirect 2^64", "feature-max-indirect-segments", "18446744073709551616",
     4, 11},
    {"indirect 11", "feature-max-indirect-segments", "11", 4, 11},
    {"indirect 12", "feature-max-indirect-segments", "12", 4, 12},
    {"indirect 0", "feature-max-indirect-segments", "0", 4, 11},
    {"sector-size 4096", "sector-size", "4096", 4, 256},
    {"physical junk", "physical-sector-size", "3", 4, 256},
    {"granularity 0", "discard-granularity", "0", 4, 256},
};

static void
connect__bounds_every_feature(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(feature_cases); i++) {
        struct fh_blkfront_params params = usual();

        params.order = 4;
        params.max_indirect = 512;
        world_init(&w);
        world_offer(&w);
        world_set(&w, BACK, feature_cases[i].key, feature_cases[i].value);
        EXPECT_EQ(open_front(&params), 0);
        EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0, "%s", feature_cases[i].name);
        EXPECT_EQ(fh_blkfront_info(bf)->order, feature_cases[i].order, "%s",
                  feature_cases[i].name);
        EXPECT_EQ(fh_blkfront_info(bf)->max_segments, feature_cases[i].segments,
                  "%s", feature_cases[i].name);
        stop();
    }
}

static const struct {
    const char *name, *key, *value;
} junk_cases[] = {
    {"no sectors", "sectors", NULL},
    {"sectors junk", "sectors", "12 "},
    {"sectors 2^56", "sectors", "72057594037927936"},
    {"sector-size 0", "sector-size", "0"},
    {"sector-size 513", "sector-size", "513"},
    {"sector-size 256", "sector-size", "256"},
    {"sector-size 8192", "sector-size", "8192"},
    {"sector-size 2^32", "sector-size", "4294967296"},
};

static void
connect__refuses_senseless_properties(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(junk_cases); i++) {
        const struct fh_blkfront_params params = usual();

        world_init(&w);
        world_offer(&w);
        if (junk_cases[i].value)
            world_set(&w, BACK, junk_cases[i].key, junk_cases[i].value);
        else
            world_unset(&w, BACK, junk_cases[i].key);
        EXPECT_EQ(open_front(&params), 0);
        EXPECT_EQ(fh_blkfront_connect(bf, SEC), FH_BLKFRONT_E_BROKEN, "%s",
                  junk_cases[i].name);
        EXPECT_EQ(fh_blkfront_fault(bf), FH_BLKFRONT_FAULT_STORE, "%s",
                  junk_cases[i].name);
        stop();
    }
}

static void
connect__needs_a_backend(void **state)
{
    const struct fh_blkfront_params params = usual();

    world_init(&w);
    EXPECT_EQ(open_front(&params), FH_ENODEV);
    free(mem);
    world_set(&w, FRONT, "backend", BACK);
    world_set(&w, FRONT, "backend-id", "-3");
    EXPECT_EQ(open_front(&params), FH_ENODEV);
    free(mem);
    world_fini(&w);
}

static void
connect__gives_up_in_time(void **state)
{
    const struct fh_blkfront_params params = usual();

    world_init(&w);
    world_offer(&w);
    w.deaf = true;
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), FH_ETIMEDOUT);
    EXPECT_EQ(fh_blkfront_close(bf, SEC), FH_ETIMEDOUT);
    stop();
}

static void
connect__repeats_a_transaction_but_not_for_ever(void **state)
{
    const struct fh_blkfront_params params = usual();

    world_init(&w);
    world_offer(&w);
    w.conflicts = 20;
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0);
    stop();
    world_init(&w);
    world_offer(&w);
    w.conflicts = 1000000;
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), FH_ETIMEDOUT);
    EXPECT(w.conflicts > 900000, "%u conflicts left", w.conflicts);
    stop();
}

/* The last owner of the directory died without a word. */
static void
connect__resets_an_earlier_life(void **state)
{
    struct fh_blkfront_params params = usual();

    world_init(&w);
    world_offer(&w);
    world_set(&w, FRONT, "state", "4");
    world_set(&w, BACK, "state", "4");
    world_set(&w, FRONT, "ring-ref", "8");
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0);
    EXPECT(!strcmp(w.states, "6134"), "states were %s", w.states);
    EXPECT(!world_get(&w, FRONT, "ring-ref"), "a ring has one kind of key");
    stop();

    world_init(&w);
    world_offer(&w);
    world_set(&w, FRONT, "ring-page-order", "4");
    params.order = 0;
    EXPECT_EQ(open_front(&params), 0);
    EXPECT_EQ(fh_blkfront_connect(bf, SEC), 0);
    EXPECT(!world_get(&w, FRONT, "ring-page-order"), "nor the other one's");
    stop();
}

static void
connect__can_behave_like_others(void **state)
{
    struct fh_blkfront_params params = usual();

    params.order = 0;
    params.quirks = FH_BLKFRONT_QUIRK_TO_CONNECTED;
    params.abi = FH_BLKIF_X86_32;
    start(&params);
    EXPECT(!strcmp(w.states, "44"), "states were %s", w.states);
    EXPECT(world_get(&w, FRONT, "ring-ref") != NULL);
    EXPECT(world_get(&w, FRONT, "ring-page-order") == NULL);
    EXPECT(!strcmp(world_get(&w, FRONT, "protocol"), "x86_32-abi"));
    EXPECT_EQ(run_io(FH_BLKIF_READ, 3, 1, fh_blkfront_alloc(bf, 1)), 0);
    stop();
}

static void
backend__may_resize_and_leave(void **state)
{
    start_usual();
    world_set(&w, BACK, "sectors", "5000");
    world_set(&w, BACK, "state", "4");
    EXPECT_EQ(fh_blkfront_wait(bf, 0), 0);
    EXPECT_EQ(fh_blkfront_info(bf)->n_sectors, 5000);

    world_set(&w, BACK, "state", "5");
    EXPECT_EQ(fh_blkfront_wait(bf, 0), 0);
    for (int i = 0; i < 10 && fh_blkfront_state(bf) != FH_BLKFRONT_CLOSED; i++)
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    EXPECT_EQ(fh_blkfront_state(bf), FH_BLKFRONT_CLOSED);
    EXPECT(!strcmp(w.states, "3456"), "states were %s", w.states);
    stop();
}

static void
backend__may_vanish_with_requests_in_flight(void **state)
{
    struct fh_blkfront_done done[8];
    struct fh_blkfront_io io = {.op = FH_BLKIF_READ, .n_sectors = 8};

    start_usual();
    w.hold = w.deaf = true;
    io.data = fh_blkfront_alloc(bf, 1);
    for (io.cookie = 0; io.cookie < 5; io.cookie++)
        EXPECT_EQ(fh_blkfront_submit(bf, &io), 0);
    EXPECT_EQ(fh_blkfront_kick(bf), 0);
    world_unset(&w, BACK, "state");
    EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    EXPECT_EQ(fh_blkfront_poll(bf, done, 8), 5);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(done[i].status, FH_EIO);
    EXPECT_EQ(fh_blkfront_submit(bf, &io), FH_BLKFRONT_E_CLOSED);
    ((uint8_t *)io.data)[0] = 1; /* the pool outlives the connection */
    EXPECT_EQ(fh_blkfront_close(bf, SEC), 0);
    stop();
}

/* It says Closing, answers what it has, and waits for us. */
static void
backend__may_leave_with_requests_in_flight(void **state)
{
    struct fh_blkfront_done done[8];
    struct fh_blkfront_io io = { .op = FH_BLKIF_READ, .n_sectors = 8 };
    uint32_t n_done = 0;

    start_usual();
    w.hold = true;
    io.data = fh_blkfront_alloc(bf, 1);
    for (io.cookie = 0; io.cookie < 3; io.cookie++)
        EXPECT_EQ(fh_blkfront_submit(bf, &io), 0);
    EXPECT_EQ(fh_blkfront_kick(bf), 0);
    world_set(&w, BACK, "state", "5");
    EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    EXPECT_EQ(fh_blkfront_state(bf), FH_BLKFRONT_DRAINING);
    w.hold = false;
    for (int i = 0; i < 10 && fh_blkfront_state(bf) != FH_BLKFRONT_CLOSED;
         i++) {
        n_done += fh_blkfront_poll(bf, done, 8);
        EXPECT_EQ(fh_blkfront_wait(bf, SEC), 0);
    }
    EXPECT_EQ(n_done, 3);
    EXPECT_EQ(done[0].status, 0, "answered, not failed");
    EXPECT_EQ(fh_blkfront_state(bf), FH_BLKFRONT_CLOSED);
    stop();
}

/* Any states and answers in any order: no crash, no leak, no request twice. */
static void
backend__may_do_anything(void **state)
{
    const struct fh_blkfront_params params = usual();

    for (uint32_t seed = 1; seed <= 400; seed++) {
        struct fh_blkfront_done done[8];
        struct fh_blkfront_io io = { FH_BLKIF_READ, 8, 0, own_page, 0 };
        uint32_t r = seed, n_sent = 0, n_done = 0;

        world_init(&w);
        world_offer(&w);
        EXPECT_EQ(open_front(&params), 0);
        for (int step = 0; step < 60; step++) {
            char text[8];

            r = r * 1664525 + 1013904223;
            snprintf(text, sizeof(text), "%u", r >> 28);
            if (r >> 8 & 1)
                world_set(&w, BACK, "state", text);
            w.deaf = r >> 9 & 1;
            w.storm = r >> 10 & 1;
            if (!(r >> 11 & 31)) {
                w.twist = (enum twist)(r >> 20 & 7);
                w.twist_at = w.n_responses + 1;
            }
            n_sent += fh_blkfront_submit(bf, &io) == 0;
            (void)fh_blkfront_kick(bf);
            (void)fh_blkfront_wait(bf, 1000);
            n_done += fh_blkfront_poll(bf, done, 8);
            EXPECT_EQ(n_sent - n_done, fh_blkfront_in_flight(bf), "seed %u",
                      seed);
        }
        w.deaf = false;
        stop();
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(params__out_of_bounds_are_refused),
        cmocka_unit_test(connect__negotiates_and_closes_in_order),
        cmocka_unit_test(connect__bounds_every_feature),
        cmocka_unit_test(connect__refuses_senseless_properties),
        cmocka_unit_test(connect__needs_a_backend),
        cmocka_unit_test(connect__gives_up_in_time),
        cmocka_unit_test(connect__repeats_a_transaction_but_not_for_ever),
        cmocka_unit_test(connect__resets_an_earlier_life),
        cmocka_unit_test(connect__can_behave_like_others),
        cmocka_unit_test(backend__may_resize_and_leave),
        cmocka_unit_test(backend__may_vanish_with_requests_in_flight),
        cmocka_unit_test(backend__may_leave_with_requests_in_flight),
        cmocka_unit_test(backend__may_do_anything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
