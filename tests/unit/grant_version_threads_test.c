/* SPDX-License-Identifier: MIT */
/*
 * A granter that changes the version of its table again and again, and swaps
 * its entries, while two domains map, upgrade, copy and unmap them on CPUs of
 * their own.  At the end the invariants hold and nothing is left.
 *
 * Meant for ThreadSanitizer as well:
 *   CC=clang meson setup DIR -Db_sanitize=thread
 */
#include "grant/world.h"

#include <pthread.h>
#include <time.h>

#include "expect.h"
#include "grant/internal.h"

enum { N_MAPPERS = 2, N_TURNS = 20000, N_REFS = 4, FIRST_REF = 8,
       RESERVED_REF = 2 };

static struct world w;
static uint32_t running;
static uint32_t n_flips, n_busy, n_swaps;

struct mapper {
    struct fh_gnt_ctx ctx;
    struct world_domain *d;
    uint64_t rng;
    uint32_t ok, waited; /* pins, and GNTST_eagain */
};

static struct mapper mappers[N_MAPPERS];

static uint32_t
rnd(uint64_t *s, uint32_t below)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (uint32_t)(*s >> 11) % below;
}

/* Some reference that this mapper may have been granted. */
static uint32_t
some_ref(struct mapper *m)
{
    return rnd(&m->rng, 8) ? FIRST_REF + rnd(&m->rng, 2 * N_REFS)
                           : RESERVED_REF;
}

static bool
count_answer(struct mapper *m, int16_t status)
{
    m->ok += !status;
    m->waited += status == GNTST_eagain;
    EXPECT(status == 0 || status == GNTST_eagain ||
               status == GNTST_general_error,
           "status %d", status);
    return !status;
}

static void
map_twice(struct mapper *m)
{
    const uint32_t ref = some_ref(m), first = rnd(&m->rng, 2);
    uint32_t handle[2];
    bool live[2];

    for (uint32_t i = 0; i < 2; i++) {
        struct gnttab_map_grant_ref op = {
            .ref = ref, .host_addr = world_addr(i),
            .flags = GNTMAP_host_map |
                     (rnd(&m->rng, 2) ? GNTMAP_readonly : 0)
        };

        live[i] = count_answer(m, fh_gnt_map_one(&m->ctx, &m->d->gnt, &op));
        handle[i] = op.handle;
    }
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t which = i ^ first;
        struct gnttab_unmap_grant_ref op = { .handle = handle[which],
                                             .host_addr = world_addr(which) };

        if (live[which])
            EXPECT_EQ(fh_gnt_unmap_one(&m->ctx, &m->d->gnt, &op), 0);
    }
}

static void
copy(struct mapper *m)
{
    const uint64_t own = 0x1020 + m->d->gnt.domid * 16u;
    struct gnttab_copy op = {
        .source = { .u.ref = some_ref(m) },
        .dest = { .domid = DOMID_SELF, .u.gmfn = own },
        .len = 16, .flags = GNTCOPY_source_gref
    };

    count_answer(m, fh_gnt_copy_one(&m->ctx, &m->d->gnt, &op));
}

/* On a busy machine the granter may come to nothing for a while. */
static bool
is_enough(uint32_t turns)
{
    return turns >= N_TURNS &&
           (fh_load_relaxed32(&n_flips) > 2 || turns >= 100 * N_TURNS);
}

static void *
mapper_main(void *arg)
{
    struct mapper *m = arg;

    for (uint32_t i = 0; !is_enough(i); i++) {
        /* Nothing is mapped: the granter's turn, however few CPUs there are. */
        if (i % 32 == 0)
            nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
        if (rnd(&m->rng, 4))
            map_twice(m);
        else
            copy(m);
    }
    fh_fetch_add32(&running, UINT32_MAX);
    return NULL;
}

/* What the granter does once the other version is there: nothing is pinned. */
static void
grant_all(struct world_domain *d)
{
    for (uint32_t i = 0; i < 2 * N_REFS; i++) {
        const uint32_t ref = FIRST_REF + i;
        const uint16_t whose = 1 + i % N_MAPPERS;

        if (fh_gnt_version(&d->gnt) == 1)
            fh_gnt_v1_grant(d->table, ref, whose, 0x1000 + i, i % 4 == 3);
        else
            fh_gnt_v2_grant(d->table2, ref, whose, 0x1000 + i, i % 4 == 3);
    }
}

static void
swap_two(struct world_domain *d, struct fh_gnt_ctx *ctx, uint64_t *rng)
{
    struct gnttab_swap_grant_ref op = {
        .ref_a = FIRST_REF + rnd(rng, 2 * N_REFS),
        .ref_b = FIRST_REF + rnd(rng, 2 * N_REFS)
    };
    uint32_t done;

    EXPECT_EQ(fh_gnt_op_swap(ctx, &d->gnt, &op, 1, &done), 0);
    EXPECT(op.status == 0 || op.status == GNTST_eagain, "%d", op.status);
    n_swaps += !op.status;
}

static void *
granter_main(void *arg)
{
    struct world_domain *d = arg;
    struct fh_gnt_ctx ctx;
    uint64_t rng = 77;

    fh_gnt_ctx_init(&ctx, &w.ops, &w, N_MAPPERS);
    while (fh_load_acquire32(&running)) {
        struct gnttab_set_version op = {
            .version = 3 - fh_gnt_version(&d->gnt)
        };
        uint32_t done;
        long r;

        swap_two(d, &ctx, &rng);
        do
            r = fh_gnt_op_set_version(&ctx, &d->gnt, &op, 1, &done);
        while (r == FH_GNT_E_PREEMPTED);
        EXPECT(r == 0 || r == FH_EBUSY || r == FH_EAGAIN, "%ld", r);
        fh_fetch_add32(&n_flips, !r);
        n_busy += !!r;
        if (!r)
            grant_all(d);
    }
    return NULL;
}

static void
table__changes_its_version_under_maps_xsa_501(void **state)
{
    pthread_t g, t[N_MAPPERS];
    struct world_domain *d;

    world_init(&w);
    d = world_add(&w, 0, 0x1000, 16, 1, 8, 8, 0);
    fh_gnt_v1_grant(d->table, RESERVED_REF, 1, 0x100f, false);
    grant_all(d);
    running = N_MAPPERS;
    for (uint16_t i = 0; i < N_MAPPERS; i++) {
        mappers[i] = (struct mapper){ .rng = 99 + i * 7919u };
        mappers[i].d = world_add(&w, 1 + i, 0x1030 + i * 16u, 16, 1, 64, 8, 0);
        fh_gnt_ctx_init(&mappers[i].ctx, &w.ops, &w, i);
    }
    pthread_create(&g, NULL, granter_main, d);
    for (uint16_t i = 0; i < N_MAPPERS; i++)
        pthread_create(&t[i], NULL, mapper_main, &mappers[i]);
    for (uint16_t i = 0; i < N_MAPPERS; i++)
        pthread_join(t[i], NULL);
    pthread_join(g, NULL);
    EXPECT(!world_check(&w), "%s", world_check(&w));
    EXPECT_EQ(d->refs, 0);
    EXPECT_EQ(fh_gnt_entry_at(&d->gnt, RESERVED_REF)->word, 0);
    printf("%u pins, %u told to wait; %u switches, %u refused; %u swaps\n",
           mappers[0].ok + mappers[1].ok,
           mappers[0].waited + mappers[1].waited, n_flips, n_busy, n_swaps);
    EXPECT(n_flips > 2, "switches: %u", n_flips);
    world_fini(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table__changes_its_version_under_maps_xsa_501),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
