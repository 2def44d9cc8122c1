/* SPDX-License-Identifier: MIT */
/* The data path of the worker against an orderly and a disorderly frontend. */
#include "world.h"

#include <string.h>
#include "base/arith.h"
#include "../expect.h"

static const struct {
    const char *name;
    struct w_setup setup;
} ways[] = {
    {"persistent, memory",
     {.grants = FH_WK_GRANTS_PERSISTENT, .max_indirect = 256}},
    {"copy, memory", {.grants = FH_WK_GRANTS_COPY, .max_indirect = 256}},
    {"map, memory", {.grants = FH_WK_GRANTS_MAP, .max_indirect = 256}},
    {"persistent, async",
     {.grants = FH_WK_GRANTS_PERSISTENT, .mock = true, .max_indirect = 256}},
    {"copy, async",
     {.grants = FH_WK_GRANTS_COPY, .mock = true, .max_indirect = 256}},
    {"map, async",
     {.grants = FH_WK_GRANTS_MAP, .mock = true, .max_indirect = 256}},
    {"persistent, order 4, 32 bits",
     {.grants = FH_WK_GRANTS_PERSISTENT,
      .order = 4,
      .abi = FH_BLKIF_X86_32,
      .max_indirect = 512}},
    {"copy, order 4, async, 32 bits",
     {.grants = FH_WK_GRANTS_COPY,
      .order = 4,
      .abi = FH_BLKIF_X86_32,
      .mock = true,
      .max_indirect = 512}},
    {"map, order 2",
     {.grants = FH_WK_GRANTS_MAP, .order = 2, .max_indirect = 512}},
};

static void
run_all(struct world *w)
{
    w_publish(w);
    w_run(w);
    w_mock_finish_all(w);
}

static void
put_and_run(struct world *w, struct fh_blkif_req req)
{
    w_put(w, &req);
    run_all(w);
}

static void
expect_answer(struct world *w, uint64_t id, int status, const char *name)
{
    EXPECT_EQ(w->answer[id].n, 1, "%s: id %llu", name, (unsigned long long)id);
    EXPECT_EQ(w->answer[id].status, status, "%s: id %llu", name,
              (unsigned long long)id);
}

static void
fill(uint8_t *at, uint32_t bytes, uint32_t seed)
{
    for (uint32_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

/* Writes from pages, reads back into others. */
static void
data__arrives_both_ways_in_every_mode(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct world *w = w_new(&ways[i].setup);
        uint8_t *from = w_page(w, W_DATA);
        uint8_t *to = w_page(w, W_DATA + 300);

        fill(from, 11 * 4096, (uint32_t)i);
        put_and_run(w, w_rw(FH_BLKIF_WRITE, 1, 80, 0, 11));
        expect_answer(w, 1, FH_BLKIF_OKAY, ways[i].name);
        EXPECT_EQ(memcmp(w->disk_mem + 80 * 512, from, 11 * 4096), 0, "%s",
                  ways[i].name);
        put_and_run(w, w_rw(FH_BLKIF_READ, 2, 80, 300, 11));
        expect_answer(w, 2, FH_BLKIF_OKAY, ways[i].name);
        EXPECT_EQ(memcmp(to, from, 11 * 4096), 0, "%s", ways[i].name);
        put_and_run(w, (struct fh_blkif_req){.op = FH_BLKIF_FLUSH, .id = 3});
        expect_answer(w, 3, FH_BLKIF_OKAY, ways[i].name);
        w_free(w);
    }
}

static void
data__of_indirect_requests_arrives(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct world *w = w_new(&ways[i].setup);
        const uint32_t n = 200;
        struct fh_blkif_req req;

        fill(w_page(w, W_DATA), n * 4096, (uint32_t)i + 5);
        req = w_indirect(w, FH_BLKIF_WRITE, 1, 16, 0, n, 1900);
        put_and_run(w, req);
        expect_answer(w, 1, FH_BLKIF_OKAY, ways[i].name);
        EXPECT_EQ(w->answer[1].op, fh_blkif_wire_op(FH_BLKIF_WRITE));
        req = w_indirect(w, FH_BLKIF_READ, 2, 16, 500, n, 1901);
        put_and_run(w, req);
        expect_answer(w, 2, FH_BLKIF_OKAY, ways[i].name);
        EXPECT_EQ(memcmp(w_page(w, W_DATA), w_page(w, W_DATA + 500), n * 4096),
                  0, "%s", ways[i].name);
        w_free(w);
    }
}

/* A read changes nothing outside its sectors. */
static void
read__of_part_of_a_page_leaves_the_rest(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct world *w = w_new(&ways[i].setup);
        struct fh_blkif_req req = w_rw(FH_BLKIF_READ, 1, 5, 0, 1);
        uint8_t *page = w_page(w, W_DATA);

        fill(w->disk_mem, 65536, 9);
        memset(page, 0xee, 4096);
        req.segs[0].first = 2;
        req.segs[0].last = 4;
        put_and_run(w, req);
        EXPECT_EQ(memcmp(page + 1024, w->disk_mem + 5 * 512, 3 * 512), 0);
        EXPECT_EQ(page[1023], 0xee, "%s", ways[i].name);
        EXPECT_EQ(page[1024 + 3 * 512], 0xee, "%s", ways[i].name);
        w_free(w);
    }
}

/* More turns of the ring than it has slots, all in flight at once. */
static void
ring__many_requests_are_each_answered_once(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct world *w = w_new(&ways[i].setup);
        uint64_t id = 0;

        while (id < 2000) {
            while (fh_fring_room(&w->fring) && id < 2000) {
                enum fh_blkif_op op =
                    w_random(w, 2) ? FH_BLKIF_READ : FH_BLKIF_WRITE;
                struct fh_blkif_req req =
                    w_rw(op, id, w_random(w, W_SECTORS - 88), w_random(w, 500),
                         1 + w_random(w, 11));

                w_put(w, &req);
                id++;
            }
            w_publish(w);
            w_run(w);
            while (w->mock.n && w_random(w, 4)) {
                w_mock_finish(w, w_random(w, w->mock.n));
                w_run(w);
            }
        }
        w_mock_finish_all(w);
        for (id = 0; id < 2000; id++)
            expect_answer(w, id, FH_BLKIF_OKAY, ways[i].name);
        EXPECT_EQ(w->mock.n_overlaps, 0);
        w_free(w);
    }
}

struct bad {
    const char *name;
    struct fh_blkif_req req;
    int want;
};

/* ids are given by the row's number. */
static const struct bad bad_requests[] = {
    {"no segment", {.op = FH_BLKIF_READ}, FH_BLKIF_ERROR},
    {"first beyond last",
     {.op = FH_BLKIF_READ,
      .n_segs = 1,
      .segs = {{.gref = W_DATA, .first = 3, .last = 2}}},
     FH_BLKIF_ERROR},
    {"last outside the page",
     {.op = FH_BLKIF_WRITE, .n_segs = 1, .segs = {{.gref = W_DATA, .last = 8}}},
     FH_BLKIF_ERROR},
    {"end of the disk",
     {.op = FH_BLKIF_READ,
      .n_segs = 1,
      .sector = W_SECTORS - 7,
      .segs = {{.gref = W_DATA, .last = 7}}},
     FH_BLKIF_ERROR},
    {"wrapping sector",
     {.op = FH_BLKIF_WRITE,
      .n_segs = 1,
      .sector = ~0ull,
      .segs = {{.gref = W_DATA, .last = 7}}},
     FH_BLKIF_ERROR},
    {"reference not granted",
     {.op = FH_BLKIF_READ, .n_segs = 1, .segs = {{.gref = 1999, .last = 7}}},
     FH_BLKIF_ERROR},
    {"huge reference",
     {.op = FH_BLKIF_WRITE, .n_segs = 1, .segs = {{.gref = ~0u, .last = 7}}},
     FH_BLKIF_ERROR},
    {"read into a page granted for reading",
     {.op = FH_BLKIF_READ, .n_segs = 1, .segs = {{.gref = 1998, .last = 7}}},
     FH_BLKIF_ERROR},
    {"discard", {.op = FH_BLKIF_DISCARD, .n_sectors = 8}, FH_BLKIF_NOTSUPP},
    {"barrier", {.op = FH_BLKIF_BARRIER}, FH_BLKIF_NOTSUPP},
    {"indirect without segments",
     {.op = FH_BLKIF_READ, .indirect = true},
     FH_BLKIF_ERROR},
    {"indirect, too many",
     {.op = FH_BLKIF_READ, .indirect = true, .n_segs = 513, .n_pages = 2},
     FH_BLKIF_ERROR},
    {"indirect flush",
     {.op = FH_BLKIF_FLUSH,
      .indirect = true,
      .n_segs = 1,
      .n_pages = 1,
      .pages = {1900}},
     FH_BLKIF_ERROR},
    {"indirect, descriptors not granted",
     {.op = FH_BLKIF_WRITE,
      .indirect = true,
      .n_segs = 5,
      .n_pages = 1,
      .pages = {1999}},
     FH_BLKIF_ERROR},
    {"indirect, descriptor out of bounds",
     {.op = FH_BLKIF_WRITE,
      .indirect = true,
      .n_segs = 5,
      .n_pages = 1,
      .pages = {1900}},
     FH_BLKIF_ERROR},
    {"indirect, data beyond the end",
     {.op = FH_BLKIF_WRITE,
      .indirect = true,
      .n_segs = 5,
      .n_pages = 1,
      .sector = W_SECTORS - 39,
      .pages = {1901}},
     FH_BLKIF_ERROR},
};

static void
plant_bad_pages(struct world *w)
{
    struct fh_blkif_seg *bad_segs = (void *)w_page(w, 1900);
    struct fh_blkif_seg *good_segs = (void *)w_page(w, 1901);

    w->granted[1999] = W_NOT_GRANTED;
    w->granted[1998] = W_READ_ONLY;
    for (uint32_t s = 0; s < 5; s++) {
        bad_segs[s] =
            (struct fh_blkif_seg){.gref = W_DATA, .first = 7, .last = 1};
        good_segs[s] = (struct fh_blkif_seg){.gref = W_DATA + s, .last = 7};
    }
}

static void
bad_request__is_answered_once_and_changes_nothing(void **state)
{
    static uint8_t zeros[W_SECTORS * 512];

    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct world *w = w_new(&ways[i].setup);

        plant_bad_pages(w);
        for (size_t k = 0; k < FH_ARRAY_SIZE(bad_requests); k++) {
            struct fh_blkif_req req = bad_requests[k].req;

            req.id = k;
            put_and_run(w, req);
            expect_answer(w, k, bad_requests[k].want, bad_requests[k].name);
        }
        EXPECT_EQ(memcmp(w->disk_mem, zeros, sizeof(zeros)), 0, "%s",
                  ways[i].name);
        put_and_run(w, w_rw(FH_BLKIF_READ, 100, 0, 0, 1));
        expect_answer(w, 100, FH_BLKIF_OKAY, "and goes on");
        w_free(w);
    }
}

static void
unknown_operation__is_notsupp(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_COPY};
    struct world *w = w_new(&s);

    (void)state;
    for (uint32_t op = 0; op < 256; op++) {
        uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES] = {0};

        slot[0] = (uint8_t)op;
        slot[8] = (uint8_t)op; /* id */
        fh_fring_put(&w->fring, slot, w->fring.slot_bytes);
        run_all(w);
        EXPECT_EQ(w->answer[op].n, 1, "operation %u", op);
        if (op > 6 || op == 4)
            EXPECT_EQ(w->answer[op].status, FH_BLKIF_NOTSUPP, "%u", op);
    }
    w_free(w);
}

static void
read_only__is_enforced_by_effect(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct w_setup s = ways[i].setup;
        struct world *w;

        s.read_only = true;
        w = w_new(&s);
        put_and_run(w, w_rw(FH_BLKIF_WRITE, 1, 0, 0, 1));
        expect_answer(w, 1, FH_BLKIF_ERROR, ways[i].name);
        put_and_run(w, w_indirect(w, FH_BLKIF_WRITE, 2, 0, 0, 20, 1900));
        expect_answer(w, 2, FH_BLKIF_ERROR, ways[i].name);
        put_and_run(w, w_rw(FH_BLKIF_READ, 3, 0, 0, 1));
        expect_answer(w, 3, FH_BLKIF_OKAY, ways[i].name);
        w_free(w);
    }
}

static void
broken_index__stops_the_queue_for_good(void **state)
{
    static const uint32_t jumps[] = {33, 1u << 31, ~0u};

    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(jumps); i++) {
        const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
        struct world *w = w_new(&s);
        uint32_t answers;

        put_and_run(w, w_rw(FH_BLKIF_READ, 1, 0, 0, 1));
        answers = w->n_answers;
        fh_store_release32(&w->fring.shared->req_prod,
                           w->fring.req_prod + jumps[i]);
        w_run(w);
        EXPECT(w->queue.broken);
        EXPECT(w->queue.fault_told);
        fh_store_release32(&w->fring.shared->req_prod, w->fring.req_prod);
        put_and_run(w, w_rw(FH_BLKIF_READ, 2, 0, 0, 1));
        EXPECT_EQ(w->n_answers, answers);
        w_free(w);
    }
}

static void
scribbled_own_indices__do_not_matter(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
    struct world *w = w_new(&s);

    (void)state;
    for (uint32_t i = 0; i < 100; i++) {
        struct fh_blkif_req req = w_rw(FH_BLKIF_READ, i, 0, 0, 1);

        fh_store_relaxed32(&w->fring.shared->rsp_prod, w_random(w, ~0u));
        fh_store_relaxed32(&w->fring.shared->req_event, w_random(w, ~0u));
        fh_store_relaxed32(&w->fring.shared->rsp_event, w_random(w, ~0u));
        put_and_run(w, req);
        EXPECT_EQ(w->answer[i].n, 1);
    }
    w_free(w);
}

static void
overlapping_writes__are_held_back_in_order(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_COPY, .mock = true};
    struct world *w = w_new(&s);
    struct fh_blkif_req req;

    (void)state;
    for (uint32_t i = 0; i < 4; i++)
        memset(w_page(w, W_DATA + i), (int)i + 1, 4096);
    req = w_rw(FH_BLKIF_WRITE, 0, 0, 0, 1);
    w_put(w, &req);
    req = w_rw(FH_BLKIF_WRITE, 1, 4, 1, 1); /* overlaps 0 and 2 */
    w_put(w, &req);
    req = w_rw(FH_BLKIF_WRITE, 2, 8, 2, 1); /* overlaps 1 only */
    w_put(w, &req);
    req = w_rw(FH_BLKIF_WRITE, 3, 100, 3, 1);
    w_put(w, &req);
    w_publish(w);
    w_run(w);
    EXPECT_EQ(w->mock.n, 2, "0 and 3");
    EXPECT_EQ(w->disk.n_held, 2);
    w_mock_finish(w, 1);
    w_run(w);
    EXPECT_EQ(w->mock.n, 1, "0");
    w_mock_finish(w, 0);
    w_run(w);
    EXPECT_EQ(w->mock.n, 1, "1");
    w_mock_finish(w, 0);
    w_run(w);
    w_mock_finish(w, 0);
    w_run(w);
    for (uint32_t i = 0; i < 4; i++)
        expect_answer(w, i, FH_BLKIF_OKAY, "write");
    EXPECT_EQ(w->disk_mem[4 * 512], 2);
    EXPECT_EQ(w->disk_mem[8 * 512], 3);
    EXPECT_EQ(w->mock.n_overlaps, 0);
    w_free(w);
}

static void
failed_flush__is_sticky_across_lives(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT, .mock = true};
    struct world *w = w_new(&s);

    (void)state;
    w->mock.result = FH_EIO;
    put_and_run(w, (struct fh_blkif_req){.op = FH_BLKIF_FLUSH, .id = 1});
    expect_answer(w, 1, FH_BLKIF_ERROR, "flush");
    w->mock.result = 0;
    put_and_run(w, (struct fh_blkif_req){.op = FH_BLKIF_FLUSH, .id = 2});
    expect_answer(w, 2, FH_BLKIF_ERROR, "next flush");
    put_and_run(w, w_rw(FH_BLKIF_WRITE, 3, 0, 0, 1));
    expect_answer(w, 3, FH_BLKIF_ERROR, "write");
    put_and_run(w, w_rw(FH_BLKIF_READ, 4, 0, 0, 1));
    expect_answer(w, 4, FH_BLKIF_OKAY, "read");
    w_kill(w);
    EXPECT_EQ(w_connect(w, true), 0);
    put_and_run(w, w_rw(FH_BLKIF_WRITE, 5, 0, 0, 1));
    expect_answer(w, 5, FH_BLKIF_ERROR, "in the next life");
    w_free(w);
}

static void
put_flushes(struct world *w, uint32_t first, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct fh_blkif_req req = {.op = FH_BLKIF_FLUSH, .id = first + i};

        w_put(w, &req);
    }
    w_publish(w);
    w_run(w);
}

/* Of two fsyncs that run together only one is told of a failure. */
static void
flushes__are_never_under_way_together(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT, .mock = true};
    struct world *w = w_new(&s);

    (void)state;
    put_flushes(w, 0, 3);
    EXPECT_EQ(w->mock.n, 1);
    w_mock_finish(w, 0);
    w_run(w);
    expect_answer(w, 0, FH_BLKIF_OKAY, "the first");
    EXPECT_EQ(w->answer[1].n + w->answer[2].n, 0);
    EXPECT_EQ(w->mock.n, 1, "one for both of the others");
    put_flushes(w, 3, 2);
    EXPECT_EQ(w->mock.n, 1);
    w->mock.result = FH_EIO;
    w_mock_finish(w, 0);
    w_run(w);
    w->mock.result = 0;
    for (uint32_t i = 1; i < 5; i++)
        expect_answer(w, i, FH_BLKIF_ERROR, "the others");
    EXPECT_EQ(w->mock.n, 0);
    EXPECT_EQ(w->mock.n_flushes, 2);
    w_free(w);
}

static void
failed_io__is_an_error_of_its_request_only(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT, .mock = true};
    struct world *w = w_new(&s);

    (void)state;
    w->mock.result = FH_ENOSPC;
    put_and_run(w, w_rw(FH_BLKIF_WRITE, 1, 0, 0, 1));
    expect_answer(w, 1, FH_BLKIF_ERROR, "write");
    w->mock.result = 0;
    put_and_run(w, w_rw(FH_BLKIF_WRITE, 2, 0, 0, 1));
    expect_answer(w, 2, FH_BLKIF_OKAY, "write");
    w_free(w);
}

/* 2 MiB of buffers, 32 requests of 800 KiB each. */
static void
too_few_buffers__make_requests_wait_in_order(void **state)
{
    (void)state;
    for (int copy = 0; copy < 2; copy++) {
        const struct w_setup s = {.grants = copy ? FH_WK_GRANTS_COPY
                                                 : FH_WK_GRANTS_PERSISTENT,
                                  .mock = true,
                                  .max_indirect = 256};
        struct world *w = w_new(&s);

        for (uint32_t i = 0; i < 32; i++) {
            struct fh_blkif_req req =
                w_indirect(w, i & 1 ? FH_BLKIF_READ : FH_BLKIF_WRITE, i, 8 * i,
                           0, 200, 1900 + i);

            w_put(w, &req);
        }
        w_publish(w);
        w_run(w);
        EXPECT(w->mock.n <= 2);
        w_mock_finish_all(w);
        for (uint32_t i = 0; i < 32; i++)
            expect_answer(w, i, FH_BLKIF_OKAY, "big");
        w_free(w);
    }
}

/* Large requests of one queue do not keep the others waiting for long. */
static void
turn__moves_a_bounded_amount_of_data(void **state)
{
    const struct w_setup s = { .grants = FH_WK_GRANTS_PERSISTENT,
                               .max_indirect = 256 };
    struct world *w = w_new(&s);

    (void)state;
    for (uint32_t i = 0; i < 32; i++) {
        struct fh_blkif_req req =
            w_indirect(w, FH_BLKIF_READ, i, 8 * i, 0, 200, 1900 + i);

        w_put(w, &req);
    }
    w_publish(w);
    EXPECT(fh_worker_turn(&w->worker));
    EXPECT(w_take_answers(w) <= 2);
    w_run(w);
    for (uint32_t i = 0; i < 32; i++)
        expect_answer(w, i, FH_BLKIF_OKAY, "big");
    w_free(w);
}

static void
full_store__is_tried_again(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT, .mock = true};
    struct world *w = w_new(&s);

    (void)state;
    w->mock.n_room = 1;
    for (uint32_t i = 0; i < 10; i++) {
        struct fh_blkif_req req =
            w_rw(i & 1 ? FH_BLKIF_READ : FH_BLKIF_WRITE, i, 8 * i, i, 1);

        w_put(w, &req);
    }
    run_all(w);
    for (uint32_t i = 0; i < 10; i++)
        expect_answer(w, i, FH_BLKIF_OKAY, "in the end");
    w_free(w);
}

static void
copy_call_that_fails__fails_its_requests(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_COPY};
    struct world *w = w_new(&s);

    (void)state;
    w->copy_fails = true;
    put_and_run(w, w_rw(FH_BLKIF_WRITE, 1, 0, 0, 1));
    expect_answer(w, 1, FH_BLKIF_ERROR, "write");
    put_and_run(w, w_rw(FH_BLKIF_READ, 2, 0, 0, 1));
    expect_answer(w, 2, FH_BLKIF_ERROR, "read");
    w->copy_fails = false;
    put_and_run(w, w_rw(FH_BLKIF_READ, 3, 0, 0, 1));
    expect_answer(w, 3, FH_BLKIF_OKAY, "read");
    w_free(w);
}

static void
copies__of_a_turn_are_one_call_each_way(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_COPY};
    struct world *w = w_new(&s);

    (void)state;
    for (uint32_t i = 0; i < 32; i++) {
        struct fh_blkif_req req =
            w_rw(i & 1 ? FH_BLKIF_READ : FH_BLKIF_WRITE, i, 8 * i, i, 1);

        w_put(w, &req);
    }
    run_all(w);
    EXPECT_EQ(w->n_answers, 32);
    EXPECT_EQ(w->n_copy_calls, 2);
    w_free(w);
}

static void
persistent__maps_once_and_notifies_only_if_asked(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
    struct world *w = w_new(&s);
    uint32_t calls;

    (void)state;
    put_and_run(w, w_rw(FH_BLKIF_READ, 0, 0, 0, 11));
    calls = w->n_map_calls;
    w->n_notifies = 0;
    for (uint32_t i = 1; i < 100; i++) {
        put_and_run(w, w_rw(FH_BLKIF_WRITE, i, 0, 0, 11));
        expect_answer(w, i, FH_BLKIF_OKAY, "write");
    }
    EXPECT_EQ(w->n_map_calls, calls);
    EXPECT_EQ(w->n_notifies, 0, "rsp_event was never moved");
    (void)fh_fring_arm(&w->fring, 1);
    put_and_run(w, w_rw(FH_BLKIF_READ, 100, 0, 0, 1));
    EXPECT_EQ(w->n_notifies, 1);
    w_free(w);
}

static void
idle_grants__are_unmapped_and_then_no_timer_is_left(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
    struct world *w = w_new(&s);
    uint32_t rounds = 0;

    (void)state;
    put_and_run(w, w_rw(FH_BLKIF_READ, 0, 0, 0, 11));
    EXPECT_EQ(w->n_maps, 1 + 11);
    EXPECT(fh_worker_arm(&w->worker));
    while (fh_worker_due(&w->worker) != UINT64_MAX) {
        EXPECT(++rounds < 10);
        w->now_ns = fh_worker_due(&w->worker);
        w_run(w);
        EXPECT(fh_worker_arm(&w->worker));
    }
    EXPECT_EQ(w->n_maps, 1, "the ring");
    w_free(w);
}

static void
arm__asks_for_the_next_request_and_sees_a_late_one(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
    struct world *w = w_new(&s);
    struct fh_blkif_req req = w_rw(FH_BLKIF_READ, 1, 0, 0, 1);

    (void)state;
    w_run(w);
    EXPECT(fh_worker_arm(&w->worker));
    w_put(w, &req);
    EXPECT(fh_fring_publish(&w->fring), "the frontend is asked to notify");
    EXPECT(!fh_worker_arm(&w->worker), "work is there");
    w_run(w);
    expect_answer(w, 1, FH_BLKIF_OKAY, "read");
    w_free(w);
}

static void
connect__refuses_what_is_not_granted(void **state)
{
    const struct w_setup s = {.grants = FH_WK_GRANTS_PERSISTENT};
    struct world *w = w_new(&s);

    (void)state;
    w_kill(w);
    w->granted[W_RING] = W_READ_ONLY;
    EXPECT_EQ(w_connect(w, false), FH_WK_E_RING);
    w->granted[W_RING] = W_READ_WRITE;
    w->params.order = 5;
    EXPECT_EQ(fh_queue_bytes(&w->params), 0);
    w_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data__arrives_both_ways_in_every_mode),
        cmocka_unit_test(data__of_indirect_requests_arrives),
        cmocka_unit_test(read__of_part_of_a_page_leaves_the_rest),
        cmocka_unit_test(ring__many_requests_are_each_answered_once),
        cmocka_unit_test(bad_request__is_answered_once_and_changes_nothing),
        cmocka_unit_test(unknown_operation__is_notsupp),
        cmocka_unit_test(read_only__is_enforced_by_effect),
        cmocka_unit_test(broken_index__stops_the_queue_for_good),
        cmocka_unit_test(scribbled_own_indices__do_not_matter),
        cmocka_unit_test(overlapping_writes__are_held_back_in_order),
        cmocka_unit_test(failed_flush__is_sticky_across_lives),
        cmocka_unit_test(flushes__are_never_under_way_together),
        cmocka_unit_test(failed_io__is_an_error_of_its_request_only),
        cmocka_unit_test(too_few_buffers__make_requests_wait_in_order),
        cmocka_unit_test(turn__moves_a_bounded_amount_of_data),
        cmocka_unit_test(full_store__is_tried_again),
        cmocka_unit_test(copy_call_that_fails__fails_its_requests),
        cmocka_unit_test(copies__of_a_turn_are_one_call_each_way),
        cmocka_unit_test(persistent__maps_once_and_notifies_only_if_asked),
        cmocka_unit_test(idle_grants__are_unmapped_and_then_no_timer_is_left),
        cmocka_unit_test(arm__asks_for_the_next_request_and_sees_a_late_one),
        cmocka_unit_test(connect__refuses_what_is_not_granted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
