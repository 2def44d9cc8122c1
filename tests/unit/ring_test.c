/* SPDX-License-Identifier: MIT */
/*
 * lib/ring: indices, honest and hostile, hold-off, and taking up a ring in the
 * middle.  Every index is tried where the 32 bits wrap as well.
 */
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "ring/ring.h"
#include "expect.h"

enum {
    SLOTS = 8,
    SLOT_BYTES = 16,
    RING_BYTES = FH_RING_HEADER_BYTES + SLOTS * SLOT_BYTES,
};

struct fixture {
    _Alignas(64) uint8_t mem[RING_BYTES];
    FH_SHARED struct fh_ring_shared *shared;
    struct fh_bring back;
    struct fh_fring front;
};

/* Both halves of an empty ring whose indices stand at @at. */
static void
setup(struct fixture *f, uint32_t at)
{
    memset(f->mem, 0, sizeof(f->mem));
    f->shared = (FH_SHARED struct fh_ring_shared *)(void *)f->mem;
    fh_fring_init(&f->front, f->shared, SLOTS, SLOT_BYTES);
    f->front.req_prod = f->front.req_published = f->front.rsp_cons = at;
    fh_store_relaxed32(&f->shared->req_prod, at);
    fh_store_relaxed32(&f->shared->rsp_prod, at);
    fh_store_relaxed32(&f->shared->req_event, at + 1);
    fh_store_relaxed32(&f->shared->rsp_event, at + 1);
    fh_bring_init(&f->back, f->shared, SLOTS, SLOT_BYTES, at, at);
}

/* Where free-running indices start in the tests below. */
static const uint32_t starts[] = {0, 3, 0x7ffffffe, 0xfffffffc, 0xffffffff};

static void
slots__are_the_largest_power_of_two_that_fits(void **state)
{
    static const struct {
        uint32_t ring_bytes, slot_bytes, want;
    } rows[] = {
        {4096, 112, 32},    {4096, 108, 32},    {65536, 112, 512},
        {64 + 111, 112, 0}, {64 + 112, 112, 1}, {64 + 335, 112, 2},
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++)
        EXPECT_EQ(fh_ring_slots(rows[i].ring_bytes, rows[i].slot_bytes),
                  rows[i].want, "row %zu", i);
}

static void
back_pending__believes_only_possible_indices(void **state)
{
    /* Distances from the start: taken, answered, what the frontend claims. */
    static const struct {
        const char *name;
        uint32_t cons, rsp, claim;
        int want;
        uint32_t n;
    } rows[] = {
        {"nothing", 0, 0, 0, 0, 0},
        {"one", 0, 0, 1, 0, 1},
        {"full", 0, 0, SLOTS, 0, SLOTS},
        {"one too many", 0, 0, SLOTS + 1, FH_RING_E_BROKEN, 0},
        {"jump by 2^31", 0, 0, 1u << 31, FH_RING_E_BROKEN, 0},
        {"one back", 0, 0, ~0u, FH_RING_E_BROKEN, 0},
        {"all taken", 5, 0, 5, 0, 0},
        {"behind what was taken", 5, 0, 4, FH_RING_E_BROKEN, 0},
        {"behind what was answered", 5, 5, 0, FH_RING_E_BROKEN, 0},
        {"full with unanswered", 5, 0, SLOTS, 0, SLOTS - 5},
        {"unanswered slots again", 5, 0, SLOTS + 1, FH_RING_E_BROKEN, 0},
        {"answered slots again", 5, 2, SLOTS + 2, 0, SLOTS - 3},
        {"and one more", 5, 2, SLOTS + 3, FH_RING_E_BROKEN, 0},
    };

    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
            struct fixture f;
            uint32_t n = 77;

            setup(&f, starts[s]);
            f.back.req_cons += rows[i].cons;
            f.back.rsp_prod += rows[i].rsp;
            fh_store_relaxed32(&f.shared->req_prod, starts[s] + rows[i].claim);
            EXPECT_EQ(fh_bring_pending(&f.back, &n), rows[i].want, "%s",
                      rows[i].name);
            EXPECT_EQ(n, rows[i].want ? 77 : rows[i].n, "%s", rows[i].name);
        }
    }
}

static void
front_pending__believes_only_possible_indices(void **state)
{
    static const struct {
        const char *name;
        uint32_t sent, taken, claim;
        int want;
        uint32_t n;
    } rows[] = {
        {"nothing asked", 0, 0, 0, 0, 0},
        {"an answer to nothing", 0, 0, 1, FH_RING_E_BROKEN, 0},
        {"none yet", 4, 0, 0, 0, 0},
        {"all", 4, 0, 4, 0, 4},
        {"one too many", 4, 0, 5, FH_RING_E_BROKEN, 0},
        {"some taken", 4, 2, 4, 0, 2},
        {"backwards", 4, 2, 1, FH_RING_E_BROKEN, 0},
        {"jump by 2^31", 4, 2, 1u << 31, FH_RING_E_BROKEN, 0},
    };

    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
            struct fixture f;
            uint32_t n = 77;

            setup(&f, starts[s]);
            f.front.req_prod += rows[i].sent + 1; /* one not published */
            f.front.req_published += rows[i].sent;
            f.front.rsp_cons += rows[i].taken;
            fh_store_relaxed32(&f.shared->rsp_prod, starts[s] + rows[i].claim);
            EXPECT_EQ(fh_fring_pending(&f.front, &n), rows[i].want, "%s",
                      rows[i].name);
            EXPECT_EQ(n, rows[i].want ? 77 : rows[i].n, "%s", rows[i].name);
        }
    }
}

static void
publish__notifies_when_the_event_lies_in_the_batch(void **state)
{
    /* Distances from the start: published before, event, published now. */
    static const struct {
        const char *name;
        uint32_t before, event, now;
        bool want;
    } rows[] = {
        {"nothing new", 0, 1, 0, false},
        {"just asked for", 0, 1, 1, true},
        {"first of a batch", 0, 1, 4, true},
        {"last of a batch", 0, 4, 4, true},
        {"in a batch", 2, 3, 6, true},
        {"beyond the batch", 0, 5, 4, false},
        {"before the batch", 2, 2, 4, false},
        {"long ago", 5, 1, 6, false},
        {"a poller's: far away", 0, 1u << 31, 4, false},
    };

    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
            const uint32_t at = starts[s];
            struct fixture f;

            setup(&f, at);
            f.back.rsp_published = at + rows[i].before;
            f.back.rsp_prod = at + rows[i].now;
            f.front.req_published = at + rows[i].before;
            f.front.req_prod = at + rows[i].now;
            fh_store_relaxed32(&f.shared->rsp_event, at + rows[i].event);
            fh_store_relaxed32(&f.shared->req_event, at + rows[i].event);
            EXPECT_EQ(fh_bring_publish(&f.back), rows[i].want, "back: %s",
                      rows[i].name);
            EXPECT_EQ(fh_fring_publish(&f.front), rows[i].want, "front: %s",
                      rows[i].name);
            EXPECT_EQ(fh_load_relaxed32(&f.shared->rsp_prod), at + rows[i].now,
                      "%s", rows[i].name);
            EXPECT_EQ(fh_load_relaxed32(&f.shared->req_prod), at + rows[i].now,
                      "%s", rows[i].name);
        }
    }
}

static void
publish__does_not_read_back_its_own_index(void **state)
{
    struct fixture f;

    setup(&f, 0);
    f.back.rsp_prod = 2;
    f.front.req_prod = 2;
    fh_store_relaxed32(&f.shared->rsp_prod, 1000); /* the peer scribbles */
    fh_store_relaxed32(&f.shared->req_prod, 1000);
    EXPECT(fh_bring_publish(&f.back), "as if nothing had happened");
    EXPECT(fh_fring_publish(&f.front), "as if nothing had happened");
    EXPECT_EQ(fh_load_relaxed32(&f.shared->rsp_prod), 2, "ours again");
    EXPECT_EQ(fh_load_relaxed32(&f.shared->req_prod), 2, "ours again");
}

static void
arm__tells_of_work_that_came_meanwhile(void **state)
{
    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        const uint32_t at = starts[s];
        struct fixture f;

        setup(&f, at);
        fh_store_relaxed32(&f.shared->req_event, 0);
        EXPECT_EQ(fh_bring_arm(&f.back), 0, "empty: may sleep");
        EXPECT_EQ(fh_load_relaxed32(&f.shared->req_event), at + 1, "armed");
        f.front.req_prod++;
        EXPECT(fh_fring_publish(&f.front), "wakes");
        EXPECT_EQ(fh_bring_arm(&f.back), 1, "work");
        fh_store_relaxed32(&f.shared->req_prod, at - 1);
        EXPECT_EQ(fh_bring_arm(&f.back), 1, "broken is work");
    }
}

static void
front_arm__can_wait_for_several(void **state)
{
    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        const uint32_t at = starts[s];
        struct fixture f;

        setup(&f, at);
        f.front.req_prod += 4;
        (void)fh_fring_publish(&f.front);
        EXPECT_EQ(fh_fring_arm(&f.front, 3), 0, "may sleep");
        f.back.rsp_prod += 2;
        EXPECT(!fh_bring_publish(&f.back), "two are too few");
        EXPECT_EQ(fh_fring_arm(&f.front, 3), 0, "still");
        f.back.rsp_prod += 1;
        EXPECT(fh_bring_publish(&f.back), "three");
        EXPECT_EQ(fh_fring_arm(&f.front, 3), 1, "there they are");
        EXPECT_EQ(fh_fring_arm(&f.front, 1), 1, "more than one");
    }
}

static void
room__is_what_the_ring_has_left(void **state)
{
    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        struct fixture f;

        setup(&f, starts[s]);
        EXPECT_EQ(fh_fring_room(&f.front), SLOTS, "empty");
        f.front.req_prod += SLOTS;
        EXPECT_EQ(fh_fring_room(&f.front), 0, "full");
        f.front.rsp_cons += 3;
        EXPECT_EQ(fh_fring_room(&f.front), 3, "three taken");
    }
}

/* One request with every byte @v, and its response with every byte ~v. */
static void
round_trip(struct fixture *f, uint8_t v)
{
    uint8_t buf[SLOT_BYTES], want[SLOT_BYTES];

    memset(buf, v, sizeof(buf));
    fh_fring_put(&f->front, buf, SLOT_BYTES);
    (void)fh_fring_publish(&f->front);
    memset(want, v, sizeof(want));
    memset(buf, 0, sizeof(buf));
    fh_bring_take(&f->back, buf);
    EXPECT(!memcmp(buf, want, SLOT_BYTES), "request %u", v);

    memset(buf, ~v, sizeof(buf));
    fh_bring_put(&f->back, buf, SLOT_BYTES / 2);
    (void)fh_bring_publish(&f->back);
    memset(want, ~v, sizeof(want));
    memset(buf, 0, sizeof(buf));
    fh_fring_take(&f->front, buf, SLOT_BYTES / 2);
    EXPECT(!memcmp(buf, want, SLOT_BYTES / 2), "response %u", v);
    EXPECT_EQ(buf[SLOT_BYTES / 2], 0, "not a byte more");
}

static void
slots__carry_the_bytes_where_indices_wrap(void **state)
{
    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        struct fixture f;

        setup(&f, starts[s]);
        for (unsigned v = 0; v < 3 * SLOTS; v++)
            round_trip(&f, (uint8_t)v);
        for (size_t i = 16; i < FH_RING_HEADER_BYTES; i++)
            EXPECT_EQ(f.mem[i], 0, "header byte %zu is left alone", i);
    }
}

static void
back_init__takes_up_a_ring_in_the_middle(void **state)
{
    for (size_t s = 0; s < FH_ARRAY_SIZE(starts); s++) {
        const uint32_t at = starts[s];
        struct fixture f;
        struct fh_bring successor;
        uint8_t slot[SLOT_BYTES], rsp[SLOT_BYTES] = {0};
        uint32_t n = 0;

        setup(&f, at);
        for (uint8_t i = 0; i < 5; i++) {
            memset(slot, i, sizeof(slot));
            fh_fring_put(&f.front, slot, SLOT_BYTES);
        }
        (void)fh_fring_publish(&f.front);
        for (int i = 0; i < 3; i++)
            fh_bring_take(&f.back, slot);
        fh_bring_put(&f.back, rsp, SLOT_BYTES); /* dies before it publishes */

        fh_bring_init(&successor, f.shared, SLOTS, SLOT_BYTES, f.back.req_cons,
                      f.back.rsp_prod);
        EXPECT_EQ(fh_load_relaxed32(&f.shared->rsp_prod), at, "untouched");
        EXPECT_EQ(fh_bring_pending(&successor, &n), 0, "believes");
        EXPECT_EQ(n, 2, "the two that were not taken");
        fh_bring_take(&successor, slot);
        EXPECT_EQ(slot[0], 3, "the fourth");
        (void)fh_bring_publish(&successor);
        EXPECT_EQ(fh_fring_pending(&f.front, &n), 0, "the frontend believes");
        EXPECT_EQ(n, 1, "the response that its predecessor had put");
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slots__are_the_largest_power_of_two_that_fits),
        cmocka_unit_test(back_pending__believes_only_possible_indices),
        cmocka_unit_test(front_pending__believes_only_possible_indices),
        cmocka_unit_test(publish__notifies_when_the_event_lies_in_the_batch),
        cmocka_unit_test(publish__does_not_read_back_its_own_index),
        cmocka_unit_test(arm__tells_of_work_that_came_meanwhile),
        cmocka_unit_test(front_arm__can_wait_for_several),
        cmocka_unit_test(room__is_what_the_ring_has_left),
        cmocka_unit_test(slots__carry_the_bytes_where_indices_wrap),
        cmocka_unit_test(back_init__takes_up_a_ring_in_the_middle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
