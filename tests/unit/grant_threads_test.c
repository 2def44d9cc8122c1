/* SPDX-License-Identifier: MIT */
/*
 * libgrant under threads: several CPUs act for several mappers on the entries
 * of one or many granters, while the granters keep changing their tables; then
 * a mapper and a granter die while the others go on.  At every pause the
 * invariants hold; at the end nothing is left.
 *
 * Meant for ThreadSanitizer as well:
 *   CC=clang meson setup DIR -Db_sanitize=thread
 */
#include "grant/world.h"

#include <pthread.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define N_CPUS    4
#define N_PAUSES  4
#define N_TURNS   3000 /* per CPU between two pauses */
#define BATCH     8
#define KEEP      64 /* live handles that one CPU remembers */
#define N_REFS    12
#define FIRST_REF 8

struct held {
    uint32_t handle;
    uint32_t slot;
    uint16_t mapper;
    uint16_t flags;
    uint64_t bus;
};

struct cpu {
    struct fh_gnt_ctx ctx;
    unsigned index;
    uint64_t rng;
    struct held held[KEEP];
    uint32_t n_held;
    uint64_t slots_used; /* of its KEEP page-table slots */
    uint64_t ok, refused;
};

static struct world w;
static struct cpu cpus[N_CPUS];
static unsigned n_granters; /* domains 0 .. */
static uint32_t stop;
static bool one_is_dead; /* mapper 4 */
/* a handle that some CPU may or may not still hold: for stale unmaps */
static uint32_t rumour;

static uint32_t
rnd(uint64_t *s, uint32_t below)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (uint32_t)(*s >> 11) % below;
}

/* Mappers are domains 4 and 5; a CPU has page-table slots of its own. */
static uint16_t
any_mapper(struct cpu *c)
{
    return one_is_dead ? 5 : (uint16_t)(4 + rnd(&c->rng, 2));
}

static uint32_t
any_ref(struct cpu *c)
{
    return FIRST_REF + rnd(&c->rng, N_REFS);
}

static uint32_t
take_slot(struct cpu *c)
{
    const uint32_t bit = (uint32_t)__builtin_ctzll(~c->slots_used);

    c->slots_used |= 1ull << bit;
    return c->index * KEEP + bit;
}

static void
give_slot(struct cpu *c, uint32_t slot)
{
    c->slots_used &= ~(1ull << slot % KEEP);
}

static void
do_maps(struct cpu *c)
{
    static const uint32_t kinds[] = {
        GNTMAP_host_map, GNTMAP_host_map | GNTMAP_readonly,
        GNTMAP_host_map | GNTMAP_device_map, GNTMAP_device_map,
    };
    struct gnttab_map_grant_ref ops[BATCH];
    const uint16_t mapper = any_mapper(c);
    uint32_t done, n = BATCH;

    if (n > KEEP - c->n_held)
        n = KEEP - c->n_held;
    for (uint32_t i = 0; i < n; i++)
        ops[i] = (struct gnttab_map_grant_ref){
            .dom = (domid_t)rnd(&c->rng, n_granters),
            .ref = any_ref(c),
            .flags = kinds[rnd(&c->rng, FH_ARRAY_SIZE(kinds))],
            .host_addr = world_addr(take_slot(c)),
        };
    EXPECT_EQ(fh_gnt_op_map(&c->ctx, &w.dom[mapper].gnt, ops, n, &done), 0);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t slot = (uint32_t)(ops[i].host_addr >> 12) - 1;

        if (ops[i].status) {
            give_slot(c, slot);
            c->refused++;
            continue;
        }
        c->ok++;
        fh_store_relaxed32(&rumour, ops[i].handle);
        c->held[c->n_held++] = (struct held){
            .handle = ops[i].handle,
            .slot = slot,
            .mapper = mapper,
            .flags = (uint16_t)ops[i].flags,
            .bus = ops[i].dev_bus_addr,
        };
    }
}

/* Unmaps everything held. */
static void
do_unmaps(struct cpu *c)
{
    while (c->n_held) {
        struct held *h = &c->held[--c->n_held];
        struct gnttab_unmap_grant_ref op = { .handle = h->handle,
                                             .dev_bus_addr = h->bus };

        if (h->flags & GNTMAP_host_map)
            op.host_addr = world_addr(h->slot);
        if (rnd(&c->rng, 3) == 0 && (h->flags & GNTMAP_host_map))
            world_touch(&w.dom[h->mapper], h->slot);
        EXPECT_EQ(fh_gnt_unmap_one(&c->ctx, &w.dom[h->mapper].gnt, &op), 0);
        give_slot(c, h->slot);
    }
}

/* Somebody unmaps a handle that is not his to know.  Addresses are 0, so it
 * must change nothing, whatever it is answered. */
static void
do_stale(struct cpu *c)
{
    struct gnttab_unmap_grant_ref op = {
        .handle = fh_load_relaxed32(&rumour) + rnd(&c->rng, 3)
    };
    const int16_t r =
        fh_gnt_unmap_one(&c->ctx, &w.dom[any_mapper(c)].gnt, &op);

    EXPECT(r == 0 || r == GNTST_bad_handle);
}

/* From a granted page into a page that only this CPU writes. */
static void
do_copies(struct cpu *c)
{
    const uint16_t caller = any_mapper(c);
    struct gnttab_copy ops[BATCH];
    uint32_t done;

    for (uint32_t i = 0; i < BATCH; i++) {
        ops[i] = (struct gnttab_copy){
            .source.domid = (domid_t)rnd(&c->rng, n_granters),
            .source.u.ref = any_ref(c),
            .dest.domid = DOMID_SELF,
            .dest.u.gmfn = 0x1100 + caller * 16u + c->index,
            .len = (uint16_t)(1 + rnd(&c->rng, 4096)),
            .flags = GNTCOPY_source_gref,
        };
        if (i && rnd(&c->rng, 2)) {
            ops[i].source = ops[i - 1].source;
            ops[i].len = 64;
        }
    }
    EXPECT_EQ(fh_gnt_op_copy(&c->ctx, &w.dom[caller].gnt, ops, BATCH, &done),
              0);
    for (uint32_t i = 0; i < BATCH; i++) {
        if (ops[i].status)
            c->refused++;
        else
            c->ok++;
    }
}

static void *
cpu_main(void *arg)
{
    struct cpu *c = arg;

    for (uint32_t i = 0; i < N_TURNS; i++) {
        switch (rnd(&c->rng, 5)) {
        case 0:
        case 1:
            do_maps(c);
            break;
        case 2:
            do_unmaps(c);
            break;
        case 3:
            do_copies(c);
            break;
        case 4:
            do_stale(c);
            break;
        }
    }
    return NULL;
}

/* A granter that flips bits of its own entries, as fast as it can.  It never
 * touches the marks, so that they can be checked. */
static void *
granter_main(void *arg)
{
    uint64_t rng = 99;

    while (!fh_load_acquire32(&stop)) {
        const uint32_t d = rnd(&rng, n_granters), ref = rnd(&rng, N_REFS);
        grant_entry_v1_t *e = &w.dom[d].table[FIRST_REF + ref];

        /* mostly sane, so that the mappers have something to map */
        switch (rnd(&rng, 8)) {
        case 0:
            fh_fetch_or16(&e->flags, GTF_readonly);
            break;
        case 1:
            fh_store_relaxed32(&e->frame, 0x1000 + rnd(&rng, 0x100));
            break;
        case 2:
            fh_store_relaxed16(&e->domid, (uint16_t)(4 + rnd(&rng, 2)));
            break;
        default:
            fh_fetch_and16(&e->flags, (uint16_t)~GTF_readonly);
            fh_store_relaxed32(&e->frame, 0x1000 + d * 0x40 + ref);
            fh_store_relaxed16(&e->domid, (uint16_t)(4 + ref % 2));
            break;
        }
    }
    return NULL;
}

/* The last CPU number: ends the dead mapper, and the first granter's grants. */
static void *
undertaker_main(void *arg)
{
    struct fh_gnt_ctx ctx;
    uint32_t cursor = 0;

    fh_gnt_ctx_init(&ctx, &w.ops, &w, N_CPUS);
    fh_gnt_domain_kill(&w.dom[0].gnt);
    while (fh_gnt_release_maps(&ctx, &w.dom[4].gnt, 3, &cursor))
        fh_cpu_relax();
    return NULL;
}

/* Mapper 4 is gone: nobody remembers its handles, its page tables are empty. */
static void
bury_mapper(void)
{
    struct world_domain *d = &w.dom[4];

    one_is_dead = true;
    for (unsigned i = 0; i < N_CPUS; i++) {
        struct cpu *c = &cpus[i];
        uint32_t n = 0;

        for (uint32_t k = 0; k < c->n_held; k++) {
            if (c->held[k].mapper == 4)
                give_slot(c, c->held[k].slot);
            else
                c->held[n++] = c->held[k];
        }
        c->n_held = n;
    }
    for (uint32_t i = 0; i < d->n_ptes; i++) {
        if (d->ptes[i].word)
            world_frame(&w, d->ptes[i].word >> 8)->n_maps--;
        d->ptes[i].word = 0;
    }
}

static void
run_until_pause(void)
{
    pthread_t t[N_CPUS], g, u;

    fh_store_release32(&stop, 0);
    pthread_create(&g, NULL, granter_main, NULL);
    for (unsigned i = 0; i < N_CPUS; i++)
        pthread_create(&t[i], NULL, cpu_main, &cpus[i]);
    if (one_is_dead)
        pthread_create(&u, NULL, undertaker_main, NULL);
    for (unsigned i = 0; i < N_CPUS; i++)
        pthread_join(t[i], NULL);
    if (one_is_dead)
        pthread_join(u, NULL);
    fh_store_release32(&stop, 1);
    pthread_join(g, NULL);
}

static void
build(unsigned granters)
{
    world_init(&w);
    w.iommu = true;
    one_is_dead = false;
    n_granters = granters;
    for (uint16_t i = 0; i < granters; i++)
        world_add(&w, i, 0x1000 + i * 0x40u, 0x40, 1, 8, 8, 0);
    for (uint16_t i = 4; i < 6; i++)
        world_add(&w, i, 0x1100 + i * 16u, 16, 1, 200, N_CPUS * KEEP, 0);
    for (uint16_t i = 0; i < granters; i++) {
        for (uint32_t ref = 0; ref < N_REFS; ref++)
            fh_gnt_v1_grant(w.dom[i].table, FIRST_REF + ref,
                            (uint16_t)(4 + ref % 2), 0x1000 + i * 0x40u + ref,
                            false);
    }
    for (unsigned i = 0; i < N_CPUS; i++) {
        cpus[i] = (struct cpu){ .index = i, .rng = 1234567 + i * 7919 };
        fh_gnt_ctx_init(&cpus[i].ctx, &w.ops, &w, i);
    }
}

static void
storm(unsigned granters)
{
    struct fh_gnt_stats s[2];
    uint64_t ok = 0, refused = 0;

    build(granters);
    for (int i = 0; i < N_PAUSES; i++) {
        run_until_pause();
        EXPECT(!world_check(&w), "pause %d: %s", i, world_check(&w));
    }
    bury_mapper();
    run_until_pause();
    EXPECT(!world_check(&w), "after a death: %s", world_check(&w));
    fh_gnt_stats_read(&w.dom[4].gnt, &s[0]);
    EXPECT_EQ(s[0].maps, s[0].unmaps, "the dead hold nothing");
    for (unsigned i = 0; i < N_CPUS; i++) {
        do_unmaps(&cpus[i]);
        ok += cpus[i].ok;
        refused += cpus[i].refused;
    }
    EXPECT(!world_check(&w), "end: %s", world_check(&w));
    for (uint16_t i = 0; i < granters; i++)
        EXPECT_EQ(w.dom[i].refs, 0);
    fh_gnt_stats_read(&w.dom[4].gnt, &s[0]);
    fh_gnt_stats_read(&w.dom[5].gnt, &s[1]);
    EXPECT_EQ(s[0].maps + s[1].maps, s[0].unmaps + s[1].unmaps);
    EXPECT_EQ(s[0].maps + s[1].maps + s[0].copies + s[1].copies, ok,
              "statistics lose nothing");
    EXPECT(ok > 1000 && refused > 100, "a storm: %llu, %llu",
           (unsigned long long)ok, (unsigned long long)refused);
    printf("%u granters: %llu done, %llu refused, %llu lost swaps and waits\n",
           granters, (unsigned long long)ok, (unsigned long long)refused,
           (unsigned long long)(s[0].retries + s[1].retries));
    world_fini(&w);
}

static void
threads__on_one_granter(void **state)
{
    storm(1);
}

static void
threads__on_many_granters(void **state)
{
    storm(4);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads__on_one_granter),
        cmocka_unit_test(threads__on_many_granters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
