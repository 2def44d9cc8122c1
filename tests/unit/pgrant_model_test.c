/* SPDX-License-Identifier: MIT */
/*
 * lib/pgrant against a model that does everything the slow way: chunks in an
 * array, linear search, no free lists.  Random scripts of gets, puts, expiries
 * and shrinks, with refusals and failing platform calls; after each step the
 * verdict, the pages mapped, the idle pages and the address of each page must
 * agree.  FH_SEED=n repeats one run.
 */
#include <stdlib.h>
#include <string.h>
#include <freehold/pgrant.h>
#include "base/arith.h"
#include "fake_gnt.h"
#include "expect.h"

enum {
    RUNS = 300,
    STEPS = 400,
    CHUNKS = 64,  /* in the model: more than any cap below */
    REFS = 12,    /* of one get */
    REQUESTS = 6, /* not yet put back */
    LEAF = FH_PGRANT_LEAF_REFS,
};

struct model_chunk {
    uint32_t refs[REFS];
    uint32_t n; /* 0: free */
    uint32_t pins;
    uint64_t idle_order; /* of its last use, while pins is 0 */
    uint64_t idle_since;
};

struct model {
    struct model_chunk chunks[CHUNKS];
    uint64_t order;
    uint32_t max_pages, max_chunk, max_leaves;
};

struct request {
    uint32_t refs[REFS];
    uint32_t n; /* 0: none */
};

struct run {
    struct fake_gnt gnt;
    struct fh_pgrant cache;
    struct model model;
    struct request requests[REQUESTS];
    uint64_t random;
    uint64_t now;
    unsigned seed;
};

static uint32_t
random_below(struct run *run, uint32_t n)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return (uint32_t)((run->random >> 20) % n);
}

static struct model_chunk *
model_find(struct model *m, uint32_t ref)
{
    for (uint32_t c = 0; c < CHUNKS; c++)
        for (uint32_t i = 0; i < m->chunks[c].n; i++)
            if (m->chunks[c].refs[i] == ref)
                return &m->chunks[c];
    return NULL;
}

static uint32_t
model_pages(const struct model *m, bool only_idle)
{
    uint32_t n = 0;

    for (uint32_t c = 0; c < CHUNKS; c++)
        if (!only_idle || !m->chunks[c].pins)
            n += m->chunks[c].n;
    return n;
}

static struct model_chunk *
model_oldest(struct model *m)
{
    struct model_chunk *oldest = NULL;

    for (uint32_t c = 0; c < CHUNKS; c++) {
        struct model_chunk *ch = &m->chunks[c];

        if (ch->n && !ch->pins &&
            (!oldest || ch->idle_order < oldest->idle_order))
            oldest = ch;
    }
    return oldest;
}

static void
model_idle(struct model *m, struct model_chunk *ch, uint64_t now)
{
    ch->idle_order = ++m->order;
    ch->idle_since = now;
}

static void
model_unpin(struct model *m, uint32_t ref, uint64_t now)
{
    struct model_chunk *ch = model_find(m, ref);

    EXPECT(ch && ch->pins, "the test itself: unpin of %u", ref);
    if (--ch->pins == 0)
        model_idle(m, ch, now);
}

/* Whether @ref's leaf exists or can be had. */
static bool
model_leaf_available(const struct model *m, uint32_t ref)
{
    uint32_t used[CHUNKS * REFS];
    uint32_t n = 0;

    for (uint32_t c = 0; c < CHUNKS; c++) {
        for (uint32_t i = 0; i < m->chunks[c].n; i++) {
            const uint32_t leaf = m->chunks[c].refs[i] / LEAF;
            uint32_t k = 0;

            if (leaf == ref / LEAF)
                return true;
            while (k < n && used[k] != leaf)
                k++;
            used[k] = leaf;
            n = k == n ? n + 1 : n;
        }
    }
    return n < m->max_leaves;
}

/* The next platform call of the model; @k counts them down to the one that
 * fails. */
static bool
model_fails(uint32_t *k)
{
    return *k && --*k == 0;
}

/* Maps what @refs misses, as chunks, pinning as it goes; @pinned[i] says which
 * were pinned before. */
static int
model_fill(struct model *m, const uint32_t *refs, uint32_t n, bool *pinned,
           uint64_t now, uint32_t refused, uint32_t *fail)
{
    uint32_t i = 0;

    while (i < n) {
        struct model_chunk *ch = m->chunks;
        const uint32_t first = i;
        int r = 0;

        while (ch->n)
            ch++;
        ch->pins = 1; /* cannot be evicted while it is built */
        for (; i < n && ch->n < m->max_chunk && !r; i++) {
            if (pinned[i] || model_find(m, refs[i]))
                continue;
            if (model_pages(m, false) == m->max_pages) {
                struct model_chunk *old = model_oldest(m);

                if (model_fails(fail)) {
                    model_idle(m, old, now);
                    r = FH_EIO;
                    break;
                }
                old->n = 0;
            }
            if (!model_leaf_available(m, refs[i]))
                r = FH_PGRANT_E_NOCACHE;
            else
                ch->refs[ch->n++] = refs[i];
        }
        if (!r && ch->n && model_fails(fail))
            r = FH_ENOMEM;
        for (uint32_t k = 0; !r && k < ch->n; k++)
            if (ch->refs[k] == refused)
                r = FH_PGRANT_E_REFUSED;
        ch->pins = 0;
        if (r) {
            ch->n = 0;
            return r;
        }
        for (uint32_t k = first; k < i; k++) {
            if (pinned[k])
                continue;
            model_find(m, refs[k])->pins++;
            pinned[k] = true;
        }
    }
    return 0;
}

static int
model_get(struct model *m, const uint32_t *refs, uint32_t n, uint64_t now,
          uint32_t refused, uint32_t fail)
{
    bool pinned[REFS] = {false};
    bool indexable = true;
    uint32_t n_miss = 0;
    int r = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct model_chunk *ch = model_find(m, refs[i]);

        pinned[i] = ch;
        if (ch)
            ch->pins++;
        else
            n_miss++;
        indexable &= refs[i] < FH_PGRANT_ROOT_LEAVES * LEAF;
    }
    if (!n_miss)
        return 0;
    const uint32_t room =
        m->max_pages - model_pages(m, false) + model_pages(m, true);

    if (!indexable)
        r = FH_PGRANT_E_NOCACHE;
    else if (n_miss > room)
        r = FH_PGRANT_E_QUOTA;
    else
        r = model_fill(m, refs, n, pinned, now, refused, &fail);
    for (uint32_t i = 0; r && i < n; i++)
        if (pinned[i])
            model_unpin(m, refs[i], now);
    return r;
}

/* The cache's @n_pages and n_idle_pages, and each page of the model. */
static void
compare(struct run *run)
{
    EXPECT_EQ(run->cache.n_pages, model_pages(&run->model, false), "seed %u",
              run->seed);
    EXPECT_EQ(run->cache.n_idle_pages, model_pages(&run->model, true),
              "seed %u", run->seed);
    EXPECT_EQ(run->gnt.n_mapped, run->cache.n_pages, "seed %u", run->seed);
    for (uint32_t c = 0; c < CHUNKS; c++)
        for (uint32_t i = 0; i < run->model.chunks[c].n; i++)
            EXPECT(fake_gnt_maps(&run->gnt, run->model.chunks[c].refs[i]),
                   "seed %u: %u is mapped", run->seed,
                   run->model.chunks[c].refs[i]);
}

/* References from few leaves, now and then one that is hostile. */
static uint32_t
random_ref(struct run *run)
{
    static const uint32_t odd[] = {FH_PGRANT_ROOT_LEAVES * LEAF, UINT32_MAX,
                                   FH_PGRANT_ROOT_LEAVES * LEAF - 1};

    if (random_below(run, 60) == 0)
        return odd[random_below(run, FH_ARRAY_SIZE(odd))];
    return random_below(run, 4) * LEAF + random_below(run, 10);
}

static void
step_get(struct run *run)
{
    struct request *req = &run->requests[random_below(run, REQUESTS)];
    void *addrs[REFS];
    uint32_t fail = 0;
    int want, r;

    if (req->n)
        return;
    req->n = 1 + random_below(run, REFS);
    for (uint32_t i = 0; i < req->n; i++)
        req->refs[i] = random_ref(run);
    run->gnt.refused = random_below(run, 4) ? UINT32_MAX : random_ref(run);
    if (random_below(run, 8) == 0)
        fail = 1 + random_below(run, 4);
    run->gnt.fail_at = fail ? run->gnt.n_calls + fail : 0;

    want = model_get(&run->model, req->refs, req->n, run->now, run->gnt.refused,
                     fail);
    r = fh_pgrant_get(&run->cache, req->refs, req->n, run->now, addrs);
    EXPECT_EQ(r, want, "seed %u", run->seed);
    run->gnt.fail_at = 0;
    for (uint32_t i = 0; !r && i < req->n; i++)
        EXPECT_EQ(fake_gnt_ref_at(&run->gnt, addrs[i]), req->refs[i],
                  "seed %u: the page of [%u]", run->seed, i);
    if (r)
        req->n = 0;
}

static void
step_put(struct run *run)
{
    struct request *req = &run->requests[random_below(run, REQUESTS)];

    for (uint32_t i = 0; i < req->n; i++)
        model_unpin(&run->model, req->refs[i], run->now);
    fh_pgrant_put(&run->cache, req->refs, req->n, run->now);
    req->n = 0;
}

static void
step_expire(struct run *run)
{
    const uint64_t idle_ns = run->cache.params.idle_ns;
    struct model_chunk *ch;
    uint64_t next;

    while ((ch = model_oldest(&run->model)) &&
           run->now - ch->idle_since >= idle_ns)
        ch->n = 0;
    EXPECT_EQ(fh_pgrant_expire(&run->cache, run->now, &next), 0, "seed %u",
              run->seed);
    EXPECT(next == (ch ? ch->idle_since + idle_ns : UINT64_MAX), "seed %u",
           run->seed);
}

static void
step_shrink(struct run *run)
{
    const uint32_t to = random_below(run, run->model.max_pages);
    struct model_chunk *ch;

    while (model_pages(&run->model, false) > to &&
           (ch = model_oldest(&run->model)))
        ch->n = 0;
    EXPECT_EQ(fh_pgrant_shrink(&run->cache, to), 0, "seed %u", run->seed);
}

static void
one_step(struct run *run)
{
    const uint32_t what = random_below(run, 20);

    run->now += random_below(run, 10);
    if (what < 9)
        step_get(run);
    else if (what < 18)
        step_put(run);
    else if (what == 18)
        step_expire(run);
    else
        step_shrink(run);
    compare(run);
}

static void
one_run(unsigned seed)
{
    static struct run run; /* large */

    memset(&run, 0, sizeof(run));
    run.seed = seed;
    run.random = 0x9e3779b97f4a7c15ull * (seed + 1);
    fake_gnt_init(&run.gnt);
    run.model.max_pages = 1 + random_below(&run, 40);
    run.model.max_chunk = 1 + random_below(&run, REFS);
    run.model.max_leaves = 1 + random_below(&run, 6);
    const struct fh_pgrant_params params = {
        .plat = &run.gnt.plat,
        .domid = FAKE_GNT_DOMID,
        .max_pages = run.model.max_pages,
        .max_chunk = run.model.max_chunk,
        .max_leaves = run.model.max_leaves,
        .idle_ns = random_below(&run, 100),
    };
    void *mem = malloc(fh_pgrant_bytes(&params));

    EXPECT_EQ(fh_pgrant_init(&run.cache, mem, &params), 0, "seed %u", seed);
    for (unsigned i = 0; i < STEPS; i++)
        one_step(&run);
    for (unsigned i = 0; i < REQUESTS; i++)
        fh_pgrant_put(&run.cache, run.requests[i].refs, run.requests[i].n,
                      run.now);
    EXPECT_EQ(fh_pgrant_fini(&run.cache), 0, "seed %u", seed);
    EXPECT_EQ(run.gnt.n_mapped, 0, "seed %u: nothing leaks", seed);
    free(mem);
}

static void
random_scripts__agree_with_the_model(void **state)
{
    const char *seed = getenv("FH_SEED");

    if (seed) {
        one_run((unsigned)strtoul(seed, NULL, 0));
        return;
    }
    for (unsigned s = 0; s < RUNS; s++)
        one_run(s);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_scripts__agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
