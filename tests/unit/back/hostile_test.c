/* SPDX-License-Identifier: MIT */
/*
 * A frontend that rewrites its ring, its descriptors and its data from another
 * thread while the worker works on them (XSA-155), and one that asks for
 * nonsense.  Nothing is to be checked but that the worker stays whole: it comes
 * to rest, holds no buffer, writes only where it may.
 */
#include "world.h"

#include <pthread.h>
#include <string.h>
#include "base/arith.h"
#include "../expect.h"

enum { ROUNDS = 800, GUARD = 1700 };

struct mutator {
    struct world *w;
    fh_word32 stop;
    uint32_t seed;
    bool indices; /* break those as well */
};

static uint32_t
rnd(struct mutator *m)
{
    m->seed = m->seed * 1664525u + 1013904223u;
    return m->seed >> 8;
}

/* Small changes of what the worker is about to read. */
static void *
mutate(void *arg)
{
    struct mutator *m = arg;
    uint8_t *ring = w_page(m->w, W_RING);

    while (!fh_load_acquire32(&m->stop)) {
        const uint32_t slot = rnd(m) % 32;
        uint8_t *at = ring + 64 + slot * 112;

        switch (rnd(m) % 5) {
        case 0:
            fh_store_relaxed8(at + rnd(m) % 4, (uint8_t)(rnd(m) % 8));
            break;
        case 1:
            fh_store_relaxed8(at + 16 + rnd(m) % 96, (uint8_t)rnd(m));
            break;
        case 2: /* a descriptor */
            fh_store_relaxed8(w_page(m->w, 1900 + slot) + rnd(m) % 512,
                              (uint8_t)(rnd(m) % 16));
            break;
        case 3:
            fh_store_relaxed32(ring + 8, rnd(m)); /* rsp_prod */
            break;
        case 4:
            if (m->indices && rnd(m) % 1000 == 0)
                fh_store_relaxed32(ring, rnd(m));
            break;
        }
    }
    return NULL;
}

static void
put_some(struct world *w, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = w_random(w, 32);
        const enum fh_blkif_op op =
            w_random(w, 2) ? FH_BLKIF_READ : FH_BLKIF_WRITE;
        const uint32_t sector = w_random(w, W_SECTORS - 400);
        struct fh_blkif_req req =
            w_random(w, 2)
                ? w_indirect(w, op, id, sector, 12 * id, 1 + w_random(w, 40),
                             1900 + id)
                : w_rw(op, id, sector, 12 * id, 1 + w_random(w, 11));

        w_put(w, &req);
    }
}

/* The frontend forgets what it knew and believes the worker's private index:
 * its own is what the other thread destroys. */
static void
round_of_requests(struct world *w)
{
    const struct fh_queue *q = &w->queue;

    w->fring.rsp_cons = q->ring.rsp_prod;
    w->fring.req_prod = q->ring.req_cons;
    put_some(w, w_random(w, fh_fring_room(&w->fring) + 1));
    fh_store_release32(&w->fring.shared->req_prod, w->fring.req_prod);
    w->fring.req_published = w->fring.req_prod;
    (void)fh_worker_turn(&w->worker);
    while (w->mock.n && w_random(w, 4)) {
        w_mock_finish(w, w_random(w, w->mock.n));
        (void)fh_worker_turn(&w->worker);
    }
}

static void
come_to_rest(struct world *w)
{
    uint32_t turns = 0;

    fh_queue_stop(&w->queue);
    while (!fh_queue_idle(&w->queue)) {
        if (w->mock.n)
            w_mock_finish(w, 0);
        (void)fh_worker_turn(&w->worker);
        EXPECT(++turns < 10000);
    }
    EXPECT_EQ(fh_queue_disconnect(&w->queue), 0);
    w->connected = false;
}

static void
storm(const struct w_setup *setup, uint32_t seed, bool indices)
{
    struct world *w = w_new(setup);
    struct mutator m = { .w = w, .seed = seed, .indices = indices };
    pthread_t thread;

    w->seed = seed;
    w->granted[GUARD] = W_NOT_GRANTED;
    memset(w_page(w, GUARD), 0x5a, 4096);
    EXPECT_EQ(pthread_create(&thread, NULL, mutate, &m), 0);
    for (uint32_t i = 0; i < ROUNDS; i++)
        round_of_requests(w);
    fh_store_release32(&m.stop, 1);
    pthread_join(thread, NULL);
    come_to_rest(w);
    for (uint32_t i = 0; i < 4096; i++)
        EXPECT_EQ(w_page(w, GUARD)[i], 0x5a, "a page that was not granted");
    w_free(w);
}

static void
double_fetch__cannot_be_provoked(void **state)
{
    static const struct w_setup setups[] = {
        { .grants = FH_WK_GRANTS_PERSISTENT, .max_indirect = 64 },
        { .grants = FH_WK_GRANTS_COPY, .max_indirect = 64 },
        { .grants = FH_WK_GRANTS_PERSISTENT, .mock = true,
          .max_indirect = 64 },
        { .grants = FH_WK_GRANTS_COPY, .mock = true, .max_indirect = 64 },
        { .grants = FH_WK_GRANTS_MAP, .mock = true, .max_indirect = 64 },
    };

    (void)state;
    for (uint32_t i = 0; i < FH_ARRAY_SIZE(setups); i++) {
        storm(&setups[i], i + 1, false);
        storm(&setups[i], i + 1, true);
    }
}

/* Events without requests: a turn takes a bounded number and unmasks. */
static void
event_storm__is_bounded(void **state)
{
    const struct w_setup s = { .grants = FH_WK_GRANTS_PERSISTENT };
    struct world *w = w_new(&s);
    uint32_t unmasks;

    (void)state;
    w_run(w);
    unmasks = w->n_unmasks;
    for (uint32_t i = 0; i < 1000; i++) {
        w->event_pending = true;
        EXPECT(fh_worker_turn(&w->worker) <= FH_WORKER_EVENTS);
    }
    EXPECT_EQ(w->n_unmasks - unmasks, 1000);
    EXPECT_EQ(w->queue.stats->wakeups, 1001);
    w_free(w);
}

/* Descriptor page = data page: the data may be overwritten, the request goes
 * by what was read first. */
static void
descriptors_in_the_data_page__are_read_once(void **state)
{
    const struct w_setup s = { .grants = FH_WK_GRANTS_PERSISTENT,
                               .max_indirect = 64 };
    struct world *w = w_new(&s);
    struct fh_blkif_req req =
        w_indirect(w, FH_BLKIF_READ, 1, 0, 0, 20, W_DATA + 3);

    (void)state;
    memset(w->disk_mem, 0xff, 65536 * 2);
    w_put(w, &req);
    w_publish(w);
    w_run(w);
    EXPECT_EQ(w->answer[1].status, FH_BLKIF_OKAY);
    EXPECT_EQ(*w_page(w, W_DATA + 19), 0xff);
    w_free(w);
}

static void
same_page_many_times__is_fine(void **state)
{
    static const enum fh_wk_grants modes[] = {
        FH_WK_GRANTS_PERSISTENT, FH_WK_GRANTS_COPY, FH_WK_GRANTS_MAP
    };

    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(modes); i++) {
        const struct w_setup s = { .grants = modes[i] };
        struct world *w = w_new(&s);
        struct fh_blkif_req req = w_rw(FH_BLKIF_WRITE, 1, 0, 0, 11);

        for (uint32_t k = 0; k < 11; k++)
            req.segs[k].gref = W_DATA;
        w_put(w, &req);
        w_publish(w);
        w_run(w);
        EXPECT_EQ(w->answer[1].status, FH_BLKIF_OKAY);
        w_free(w);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(double_fetch__cannot_be_provoked),
        cmocka_unit_test(event_storm__is_bounded),
        cmocka_unit_test(descriptors_in_the_data_page__are_read_once),
        cmocka_unit_test(same_page_many_times__is_fine),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
