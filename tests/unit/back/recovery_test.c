/* SPDX-License-Identifier: MIT */
/*
 * A worker dies after the k-th store to the recovery state, for every k of a
 * mixed script; its successor goes on.  Every request is answered exactly
 * once, and the disk is one that some order of the requests explains.
 */
#include "world.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "../expect.h"

enum {
    N_REQUESTS = 80,
    N_BLOCKS = 24, /* of 4 KiB: few, so that requests overlap */
    PAGES_EACH = 12,
    DESCS = 1900,
};

/* One request of the script, and when what happened to it. */
struct step {
    enum fh_blkif_op op;
    bool bad;
    bool indirect;
    uint32_t block;
    uint32_t n;
    uint64_t put_at; /* 0: not yet */
    uint64_t answered_at;
};

struct story {
    struct world *w;
    struct step step[N_REQUESTS];
    uint32_t n_put;
    uint64_t clock;
    uint32_t kills_left;
    uint32_t n_kills;
    jmp_buf death;
};

static const struct {
    const char *name;
    struct w_setup setup;
} ways[] = {
    { "persistent, async",
      { .grants = FH_WK_GRANTS_PERSISTENT, .mock = true,
        .max_indirect = 64 } },
    { "copy, async",
      { .grants = FH_WK_GRANTS_COPY, .mock = true, .max_indirect = 64 } },
    { "persistent, memory",
      { .grants = FH_WK_GRANTS_PERSISTENT, .max_indirect = 64 } },
};

static uint32_t
page_of(uint32_t id, uint32_t i)
{
    return W_DATA + id * PAGES_EACH + i;
}

static void
write_script(struct story *s)
{
    for (uint32_t id = 0; id < N_REQUESTS; id++) {
        struct step *st = &s->step[id];
        const uint32_t what = w_random(s->w, 16);

        st->op = what < 7    ? FH_BLKIF_WRITE
                 : what < 13 ? FH_BLKIF_READ
                             : FH_BLKIF_FLUSH;
        st->bad = what == 15;
        st->indirect = st->op != FH_BLKIF_FLUSH && w_random(s->w, 3) == 0;
        st->n = 1 + w_random(s->w, 4);
        st->block = w_random(s->w, N_BLOCKS - 4);
    }
}

/* Each page of a write carries the number of its request, plus one. */
static void
put_step(struct story *s, uint32_t id)
{
    struct step *st = &s->step[id];
    struct fh_blkif_req req = { .op = FH_BLKIF_FLUSH, .id = id };

    for (uint32_t i = 0; i < st->n && st->op == FH_BLKIF_WRITE; i++)
        *(uint64_t *)w_page(s->w, page_of(id, i)) = id + 1;
    if (st->op != FH_BLKIF_FLUSH && st->indirect)
        req = w_indirect(s->w, st->op, id, st->block * 8, id * PAGES_EACH,
                         st->n, DESCS + id);
    else if (st->op != FH_BLKIF_FLUSH)
        req = w_rw(st->op, id, st->block * 8, id * PAGES_EACH, st->n);
    else if (st->bad)
        req.op = FH_BLKIF_DISCARD;
    w_put(s->w, &req);
    st->put_at = ++s->clock;
}

static void
take_answers(struct story *s)
{
    (void)w_take_answers(s->w);
    s->clock++;
    for (uint32_t id = 0; id < N_REQUESTS; id++) {
        EXPECT(s->w->answer[id].n <= 1, "%u answered twice", id);
        if (s->w->answer[id].n && !s->step[id].answered_at)
            s->step[id].answered_at = s->clock;
    }
}

static bool
touches(const struct step *st, uint32_t block)
{
    return block >= st->block && block < st->block + st->n;
}

/* True when a write that began after @w had been answered was itself answered
 * before @until began: @w's data cannot be there any more. */
static bool
is_superseded(const struct story *s, const struct step *w, uint32_t block,
              uint64_t until)
{
    for (uint32_t id = 0; id < N_REQUESTS; id++) {
        const struct step *o = &s->step[id];

        if (o->op == FH_BLKIF_WRITE && touches(o, block) &&
            o->put_at > w->answered_at && o->answered_at < until)
            return true;
    }
    return false;
}

/* Whether a look at @block between @from and @to may have seen @tag. */
static bool
is_explained(const struct story *s, uint64_t tag, uint32_t block,
             uint64_t from, uint64_t to)
{
    static const struct step nothing_written = { .answered_at = 1 };
    const struct step *w = tag ? &s->step[tag - 1] : &nothing_written;

    if (tag > N_REQUESTS)
        return false;
    if (tag && (w->op != FH_BLKIF_WRITE || !touches(w, block) ||
                w->put_at > to))
        return false;
    return !is_superseded(s, w, block, from);
}

static void
check_read(const struct story *s, uint32_t id, const char *name)
{
    const struct step *st = &s->step[id];

    for (uint32_t i = 0; i < st->n; i++) {
        uint64_t tag = *(uint64_t *)w_page(s->w, page_of(id, i));

        EXPECT(is_explained(s, tag, st->block + i, st->put_at,
                            st->answered_at),
               "%s: read %u of block %u saw %llu", name, id, st->block + i,
               (unsigned long long)tag);
    }
}

static void
check_end(const struct story *s, const char *name)
{
    for (uint32_t id = 0; id < N_REQUESTS; id++) {
        const int want = s->step[id].bad ? FH_BLKIF_NOTSUPP : FH_BLKIF_OKAY;

        EXPECT_EQ(s->w->answer[id].n, 1, "%s: %u", name, id);
        EXPECT_EQ(s->w->answer[id].status, want, "%s: %u", name, id);
        if (s->step[id].op == FH_BLKIF_READ)
            check_read(s, id, name);
    }
    for (uint32_t b = 0; b < N_BLOCKS; b++) {
        uint64_t tag = *(uint64_t *)(s->w->disk_mem + b * 4096);

        EXPECT(is_explained(s, tag, b, UINT64_MAX, UINT64_MAX),
               "%s: block %u is %llu", name, b, (unsigned long long)tag);
    }
    EXPECT_EQ(s->w->mock.n_overlaps, 0, "%s", name);
}

static void
die(struct fh_rec_log *log)
{
    struct story *s = log->arg;

    longjmp(s->death, 1);
}

/* The next death comes soon, or never. */
static void
plan_death(struct story *s)
{
    struct fh_rec_log *log = &s->w->worker.log;

    log->hook_at = 0;
    if (!s->kills_left)
        return;
    s->kills_left--;
    log->hook_at = log->n_stores + 1 + w_random(s->w, 60);
}

/* Until all is answered.  Left by longjmp when the worker dies. */
static void
play(struct story *s)
{
    uint32_t turns = 0;

    while (s->w->n_answers < N_REQUESTS) {
        EXPECT(++turns < 100000, "%u answers are missing",
               N_REQUESTS - s->w->n_answers);
        while (s->n_put < N_REQUESTS && fh_fring_room(&s->w->fring) &&
               w_random(s->w, 6))
            put_step(s, s->n_put++);
        w_publish(s->w);
        (void)fh_worker_turn(&s->w->worker);
        take_answers(s);
        if (s->w->mock.n && w_random(s->w, 3))
            w_mock_finish(s->w, w_random(s->w, s->w->mock.n));
    }
}

static void
run_story(struct story *s)
{
    if (setjmp(s->death)) {
        s->n_kills++;
        w_kill(s->w);
        plan_death(s);
        EXPECT_EQ(w_connect(s->w, true), 0);
    }
    play(s);
}

/* Returns how many stores the story took. */
static uint64_t
tell(size_t way, uint64_t kill_at, uint32_t more_kills)
{
    struct story *s = calloc(1, sizeof(*s));
    struct fh_rec_log *log;
    uint64_t n;

    s->w = w_new(&ways[way].setup);
    s->w->seed = 7 + kill_at * 1000 + way;
    if (!kill_at)
        s->w->seed = 7;
    s->clock = 1;
    s->kills_left = more_kills;
    write_script(s);
    log = &s->w->worker.log;
    log->hook = die;
    log->arg = s;
    log->hook_at = kill_at ? log->n_stores + kill_at : 0;
    n = log->n_stores;
    run_story(s);
    /* A death that the story was too short for must not come later: the frame
     * that it would jump to is gone. */
    log->hook_at = 0;
    n = log->n_stores - n;
    check_end(s, ways[way].name);
    w_free(s->w);
    free(s);
    return n;
}

static void
killed_after_every_store__answers_everything_once(void **state)
{
    (void)state;
    for (size_t way = 0; way < FH_ARRAY_SIZE(ways); way++) {
        const uint64_t n = tell(way, 0, 0);

        EXPECT(n > 3 * N_REQUESTS);
        for (uint64_t k = 1; k <= n; k++)
            (void)tell(way, k, 0);
    }
}

static void
killed_again_and_again__answers_everything_once(void **state)
{
    (void)state;
    for (size_t way = 0; way < FH_ARRAY_SIZE(ways); way++)
        for (uint64_t k = 1; k <= 100; k++)
            (void)tell(way, k, 20);
}

/* Killed inside fh_rec_start(): the area is not active, the ring untouched. */
static void
killed_while_starting__starts_fresh(void **state)
{
    const struct w_setup *setup = &ways[0].setup;

    (void)state;
    for (volatile uint64_t k = 1; k < 32 + 6; k++) {
        struct story *s = calloc(1, sizeof(*s));
        struct world *w = w_new(setup);

        s->w = w;
        w_kill(w);
        w->rec->queue[0].active = 0; /* the supervisor: a new connection */
        w->worker.log.hook = die;
        w->worker.log.arg = s;
        w->worker.log.hook_at = w->worker.log.n_stores + k;
        if (!setjmp(s->death)) {
            EXPECT_EQ(w_connect(w, true), 0);
            EXPECT(false, "store %u was not reached", (unsigned)k);
        }
        w_kill(w);
        w->worker.log.hook_at = 0;
        EXPECT_EQ(w_connect(w, true), 0);
        EXPECT_EQ(w->queue.ring.req_cons, 0);
        w_free(w);
        free(s);
    }
}

/* A state with requests in flight, then bytes of it overwritten. */
static void
corrupt_state__is_refused_or_harmless(void **state)
{
    uint32_t n_refused = 0;

    (void)state;
    for (uint32_t round = 0; round < 600; round++) {
        struct world *w = w_new(&ways[round % 2].setup);
        uint8_t *area = (uint8_t *)&w->rec->queue[0];

        w->seed = round;
        for (uint32_t i = 0; i < 20; i++) {
            struct fh_blkif_req req =
                w_rw(FH_BLKIF_WRITE, i, 8 * i, 12 * i, 1 + i % 11);

            w_put(w, &req);
        }
        w_publish(w);
        w_run(w);
        w_mock_finish(w, w_random(w, w->mock.n));
        w_run(w);
        w_kill(w);
        for (uint32_t i = 0; i <= round % 5; i++)
            area[w_random(w, 3) ? 4096 + w_random(w, 32 * 128)
                                : w_random(w, 72)] = (uint8_t)w_random(w, 256);
        if (w_connect(w, true)) {
            n_refused++;
        } else {
            (void)fh_worker_turn(&w->worker);
            while (w->mock.n) {
                w_mock_finish(w, 0);
                (void)fh_worker_turn(&w->worker);
            }
            EXPECT(fh_queue_idle(&w->queue), "round %u", round);
            /* Whatever ids were answered: nobody looks. */
            EXPECT_EQ(fh_queue_disconnect(&w->queue), 0);
            w->connected = false;
        }
        w_free(w);
    }
    EXPECT(n_refused > 40);
    EXPECT(n_refused < 560);
}

static void
other_disks_state__is_refused(void **state)
{
    struct world *w = w_new(&ways[0].setup);

    (void)state;
    EXPECT_EQ(fh_rec_check(w->rec, W_SECTORS), 0);
    EXPECT_EQ(fh_rec_check(w->rec, W_SECTORS + 1), FH_REC_E_CORRUPT);
    w->rec->header.version++;
    EXPECT_EQ(fh_rec_check(w->rec, W_SECTORS), FH_REC_E_CORRUPT);
    w_free(w);
}

/* Puts both ends of an idle ring at @index, as after as many requests. */
static void
wind_forward(struct world *w, uint32_t index)
{
    w->fring.req_prod = w->fring.req_published = w->fring.rsp_cons = index;
    fh_store_relaxed32(&w->fring.shared->req_prod, index);
    fh_store_relaxed32(&w->fring.shared->rsp_prod, index);
    w->queue.ring.req_cons = w->queue.ring.rsp_prod = index;
    w->queue.ring.rsp_published = index;
    fh_rec_commit(&w->queue.rec, index, index);
    fh_rec_scrub(&w->queue.rec, w->queue.free, w->queue.n_free);
}

static void
one_by_one(struct world *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct fh_blkif_req req = w_rw(FH_BLKIF_READ, i, 0, 0, 1);

        memset(w->answer, 0, sizeof(w->answer));
        w_put(w, &req);
        w_publish(w);
        w_run(w);
        if (w->mock.n) {
            w_mock_finish(w, w->mock.n - 1);
            w_run(w);
        }
        EXPECT_EQ(w->answer[i].n, 1);
    }
}

static void
indices__may_wrap(void **state)
{
    static const uint32_t starts[] = { 0u - 40, (1u << 28) - 40,
                                       (1u << 31) - 40 };

    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(starts); i++) {
        struct world *w = w_new(&ways[2].setup);

        wind_forward(w, starts[i]);
        one_by_one(w, 100);
        w_kill(w);
        EXPECT_EQ(w_connect(w, true), 0);
        one_by_one(w, 100);
        w_free(w);
    }
}

/* One entry serves 2^32 requests while the others stay free: without the
 * renewal of their answers a successor would find them outstanding. */
static void
free_entries__do_not_come_back_after_a_wrap(void **state)
{
    struct world *w = w_new(&ways[2].setup);

    (void)state;
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t next = (i + 1) << FH_QUEUE_SCRUB_BITS;

        w->fring.req_prod = w->fring.req_published = w->fring.rsp_cons =
            next - 2;
        fh_store_relaxed32(&w->fring.shared->req_prod, next - 2);
        w->queue.ring.req_cons = w->queue.ring.rsp_prod = next - 2;
        w->queue.ring.rsp_published = next - 2;
        fh_rec_commit(&w->queue.rec, next - 2, next - 2);
        one_by_one(w, 4);
        w_kill(w);
        EXPECT_EQ(w_connect(w, true), 0, "round %u", i);
        one_by_one(w, 1);
    }
    w_free(w);
}

static void
very_old_request__stops_the_queue_until_answered(void **state)
{
    struct world *w = w_new(&ways[0].setup);
    struct fh_blkif_req req = w_rw(FH_BLKIF_READ, 50, 0, 0, 1);
    uint32_t taken;

    (void)state;
    wind_forward(w, (1u << 28) - 2);
    w_put(w, &req);
    w_publish(w);
    w_run(w);
    EXPECT_EQ(w->mock.n, 1);
    for (uint32_t e = 0; e < 32; e++)
        if (w->queue.rqs[e].state == FH_RQ_STORE)
            w->rec->queue[0].entry[e].req_idx -= (1u << 31) + 10;
    one_by_one(w, 1);
    EXPECT(w->queue.stalled);
    taken = w->queue.ring.req_cons;
    w_put(w, &req);
    w_publish(w);
    w_run(w);
    EXPECT_EQ(w->queue.ring.req_cons, taken);
    w_mock_finish(w, 0);
    w_run(w);
    EXPECT_EQ(w->queue.ring.req_cons, taken + 1);
    w_mock_finish_all(w);
    w_free(w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(killed_after_every_store__answers_everything_once),
        cmocka_unit_test(killed_again_and_again__answers_everything_once),
        cmocka_unit_test(killed_while_starting__starts_fresh),
        cmocka_unit_test(corrupt_state__is_refused_or_harmless),
        cmocka_unit_test(other_disks_state__is_refused),
        cmocka_unit_test(indices__may_wrap),
        cmocka_unit_test(free_entries__do_not_come_back_after_a_wrap),
        cmocka_unit_test(very_old_request__stops_the_queue_until_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
