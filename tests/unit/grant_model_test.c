/* SPDX-License-Identifier: MIT */
/*
 * libgrant against a plain sequential model of the same rules, on random
 * operations: statuses, what the granter sees, pins, page tables and contents
 * must be equal, and the invariants hold.
 *
 * usage: grant_model_test [SEED [ROUNDS]]   (a failure prints its seed)
 *
 * The model keeps lists and recomputes everything; it knows nothing of control
 * words, generations or free lists.
 */
#include "grant/world.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "expect.h"
#include "grant/internal.h"

#define N_DOMS    3
#define FRAMES    16 /* of each domain */
#define N_REFS    12
#define FIRST_REF 4
#define QUOTA     20
#define SLOTS     24
#define ROUNDS    60
#define STEPS     400

/* A live mapping. */
struct m_map {
    bool live;
    uint16_t mapper, granter;
    uint32_t ref, flags; /* host, device: what is still there */
    uint64_t mfn;
    uint32_t handle;
};

static struct world w;
static struct fh_gnt_ctx ctx;
static struct m_map maps[N_DOMS * QUOTA];
static struct {
    uint64_t mfn; /* 0: empty */
    bool rw;
} m_pte[N_DOMS][SLOTS];
static bool m_dying[N_DOMS];
static uint8_t m_bytes[N_DOMS * FRAMES][FH_PAGE_BYTES];
static uint64_t rng, seed;
static uint32_t step;

static uint32_t
rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 11) % below;
}

static bool
one_in(uint32_t n)
{
    return rnd(n) == 0;
}

static uint64_t
first_mfn(uint16_t dom)
{
    return 0x1000 + dom * FRAMES;
}

static bool
owns(uint16_t dom, uint64_t mfn)
{
    return mfn >= first_mfn(dom) && mfn < first_mfn(dom) + FRAMES;
}

/* ----------------------------------------------------- the model's rules -- */

struct m_pins {
    uint32_t readers, writers;
    uint16_t grantee;
    uint64_t mfn;
};

static struct m_pins
m_pins_of(uint16_t granter, uint32_t ref)
{
    struct m_pins p = { 0 };

    for (size_t i = 0; i < FH_ARRAY_SIZE(maps); i++) {
        const struct m_map *m = &maps[i];

        if (!m->live || m->granter != granter || m->ref != ref)
            continue;
        p.grantee = m->mapper;
        p.mfn = m->mfn;
        if (m->flags & GNTMAP_readonly)
            p.readers++;
        else
            p.writers++;
    }
    return p;
}

static uint32_t
m_live(uint16_t mapper)
{
    uint32_t n = 0;

    for (size_t i = 0; i < FH_ARRAY_SIZE(maps); i++)
        n += maps[i].live && maps[i].mapper == mapper;
    return n;
}

/* May @caller use @ref so?  Sets *@mfn on success. */
static int16_t
m_use(uint16_t caller, uint16_t granter, uint32_t ref, bool is_write,
      bool is_map, uint64_t *mfn)
{
    const grant_entry_v1_t *e = &w.dom[granter].table[ref];
    const struct m_pins p = m_pins_of(granter, ref);
    const uint32_t mask = GTF_type_mask | (is_map ? GTF_sub_page : 0);

    if (m_dying[granter])
        return GNTST_bad_domain;
    if (ref >= FH_GNT_V1_PER_FRAME)
        return GNTST_bad_gntref;
    *mfn = p.mfn;
    if (p.readers + p.writers) {
        if (p.grantee != caller)
            return GNTST_general_error;
        return is_write && !p.writers && (e->flags & GTF_readonly)
                   ? GNTST_general_error
                   : GNTST_okay;
    }
    if ((e->flags & mask) != GTF_permit_access || e->domid != caller ||
        (is_write && (e->flags & GTF_readonly)))
        return GNTST_general_error;
    *mfn = e->frame;
    return owns(granter, e->frame) ? GNTST_okay : GNTST_bad_page;
}

static int16_t
m_map(uint16_t caller, const struct gnttab_map_grant_ref *op, uint64_t *mfn)
{
    const uint64_t slot = (op->host_addr >> 12) - 1;
    int16_t r;

    if (!(op->flags & (GNTMAP_host_map | GNTMAP_device_map)))
        return GNTST_bad_gntref;
    if (op->dom >= N_DOMS)
        return GNTST_bad_domain;
    if (m_live(caller) == QUOTA)
        return GNTST_no_space;
    r = m_use(caller, op->dom, op->ref, !(op->flags & GNTMAP_readonly), true,
              mfn);
    if (r)
        return r;
    return (op->flags & GNTMAP_host_map) && slot >= SLOTS ? GNTST_general_error
                                                          : GNTST_okay;
}

static struct m_map *
m_find(uint16_t mapper, uint32_t handle)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(maps); i++) {
        if (maps[i].live && maps[i].mapper == mapper &&
            maps[i].handle == handle)
            return &maps[i];
    }
    return NULL;
}

static int16_t
m_unmap(uint16_t caller, const struct gnttab_unmap_grant_ref *op)
{
    struct m_map *m = m_find(caller, op->handle);
    const uint64_t slot = (op->host_addr >> 12) - 1;
    bool dev, host;

    if (!m)
        return GNTST_bad_handle;
    dev = op->dev_bus_addr && (m->flags & GNTMAP_device_map);
    host = op->host_addr && (m->flags & GNTMAP_host_map);
    if (dev && op->dev_bus_addr != m->mfn << 12)
        return GNTST_bad_dev_addr;
    if (host) {
        if (slot >= SLOTS || m_pte[caller][slot].mfn != m->mfn ||
            m_pte[caller][slot].rw == !!(m->flags & GNTMAP_readonly))
            return GNTST_general_error;
        m_pte[caller][slot].mfn = 0;
        m->flags &= ~(uint32_t)GNTMAP_host_map;
    }
    if (dev)
        m->flags &= ~(uint32_t)GNTMAP_device_map;
    m->live = m->flags & (GNTMAP_host_map | GNTMAP_device_map);
    return GNTST_okay;
}

static int16_t
m_copy_side(uint16_t caller, const struct gnttab_copy_ptr *p, bool is_ref,
            bool is_write, uint64_t *mfn)
{
    const uint16_t dom = p->domid == DOMID_SELF ? caller : p->domid;

    if (is_ref)
        return m_use(caller, dom, p->u.ref, is_write, false, mfn);
    *mfn = p->u.gmfn;
    return owns(caller, p->u.gmfn) ? GNTST_okay : GNTST_bad_page;
}

static int16_t
m_copy_domain(const struct gnttab_copy_ptr *p, bool is_ref)
{
    if (!is_ref && p->domid != DOMID_SELF)
        return GNTST_permission_denied;
    return p->domid >= N_DOMS && p->domid != DOMID_SELF ? GNTST_bad_domain
                                                        : GNTST_okay;
}

/* The source is pinned while the destination is looked at. */
static int16_t
m_copy(uint16_t caller, const struct gnttab_copy *op, uint64_t *s, uint64_t *d)
{
    const bool src_ref = op->flags & GNTCOPY_source_gref;
    const bool dst_ref = op->flags & GNTCOPY_dest_gref;
    int16_t r;

    if (!op->len)
        return GNTST_okay;
    r = m_copy_domain(&op->source, src_ref);
    if (!r)
        r = m_copy_domain(&op->dest, dst_ref);
    if (!r)
        r = m_copy_side(caller, &op->source, src_ref, false, s);
    if (!r)
        r = m_copy_side(caller, &op->dest, dst_ref, true, d);
    if (!r && (op->source.offset + op->len > 4096 ||
               op->dest.offset + op->len > 4096))
        r = GNTST_bad_copy_arg;
    return r;
}

/* ------------------------------------------------------------ operations -- */

#define AT "seed %llu step %u", (unsigned long long)seed, step

static void
do_map(uint16_t caller)
{
    static const uint32_t kinds[] = { 2, 2, 2, 6, 6, 3, 7, 1, 5, 0, 8, 10, 18 };
    struct gnttab_map_grant_ref op = {
        .dom = (domid_t)(one_in(20) ? 7 : rnd(N_DOMS)),
        .ref = one_in(30) ? 512 + rnd(3) : FIRST_REF + rnd(N_REFS),
        .flags = kinds[rnd(FH_ARRAY_SIZE(kinds))],
        .host_addr = world_addr(rnd(SLOTS + 1)),
    };
    const uint64_t slot = (op.host_addr >> 12) - 1;
    uint64_t mfn = 0;
    const int16_t want = m_map(caller, &op, &mfn);

    EXPECT_EQ(fh_gnt_map_one(&ctx, &w.dom[caller].gnt, &op), want, AT);
    if (want)
        return;
    EXPECT_EQ(op.dev_bus_addr, mfn << 12, AT);
    EXPECT(!m_find(caller, op.handle), "handle twice; " AT);
    if (op.flags & GNTMAP_host_map) {
        m_pte[caller][slot].mfn = mfn;
        m_pte[caller][slot].rw = !(op.flags & GNTMAP_readonly);
    }
    for (size_t i = 0; i < FH_ARRAY_SIZE(maps); i++) {
        if (maps[i].live)
            continue;
        maps[i] = (struct m_map){ true, caller, op.dom, op.ref,
                                  op.flags & 7, mfn, op.handle };
        return;
    }
    EXPECT(false, "quota; " AT);
}

static void
do_unmap(uint16_t caller)
{
    const struct m_map *m = &maps[rnd(FH_ARRAY_SIZE(maps))];
    struct gnttab_unmap_grant_ref op = {
        .handle = m->handle, /* may be dead, or another's */
        .host_addr = world_addr(rnd(SLOTS + 1)),
        .dev_bus_addr = m->mfn << 12,
    };
    int16_t want;

    if (m->live && !one_in(10))
        caller = m->mapper;
    for (uint32_t i = 0; i < SLOTS; i++) { /* mostly the right place */
        if (m_pte[caller][i].mfn == m->mfn && !one_in(4))
            op.host_addr = world_addr(i);
    }
    if (one_in(5))
        op.host_addr = 0;
    if (one_in(5))
        op.dev_bus_addr = one_in(2) ? 0 : op.dev_bus_addr + 1 + rnd(9000);
    want = m_unmap(caller, &op);
    EXPECT_EQ(fh_gnt_unmap_one(&ctx, &w.dom[caller].gnt, &op), want, AT);
}

static struct gnttab_copy_ptr
any_side(uint16_t caller, bool is_ref)
{
    struct gnttab_copy_ptr p = { .offset = (uint16_t)rnd(4100) };

    if (one_in(2))
        p.offset = (uint16_t)rnd(100);
    p.domid = (domid_t)(one_in(20) ? 7 : rnd(N_DOMS));
    if (!is_ref && !one_in(10))
        p.domid = DOMID_SELF;
    if (is_ref)
        p.u.gmfn = one_in(30) ? 512 : FIRST_REF + rnd(N_REFS);
    else
        p.u.gmfn = first_mfn(one_in(10) ? 0 : caller) + rnd(FRAMES + 1);
    return p;
}

static void
do_copy(uint16_t caller)
{
    struct gnttab_copy ops[3];
    int16_t want[3];
    const uint32_t n = 1 + rnd(3);
    uint32_t done;

    for (uint32_t i = 0; i < n; i++) {
        struct gnttab_copy *op = &ops[i];
        uint64_t s = 0, d = 0;

        *op = (struct gnttab_copy){ .flags = (uint16_t)rnd(4),
                                    .len = (uint16_t)rnd(one_in(9) ? 5000
                                                                   : 500) };
        op->source = any_side(caller, op->flags & 1);
        op->dest = any_side(caller, op->flags & 2);
        if (i && one_in(2)) {
            op->source = ops[i - 1].source;
            op->flags = (uint16_t)((op->flags & 2) | (ops[i - 1].flags & 1));
        }
        want[i] = m_copy(caller, op, &s, &d);
        if (!want[i] && op->len)
            memmove(m_bytes[d - 0x1000] + op->dest.offset,
                    m_bytes[s - 0x1000] + op->source.offset, op->len);
    }
    EXPECT_EQ(fh_gnt_op_copy(&ctx, &w.dom[caller].gnt, ops, n, &done), 0, AT);
    for (uint32_t i = 0; i < n; i++)
        EXPECT_EQ(ops[i].status, want[i], AT);
}

/* A granter rewrites an entry, in use or not; the marks stay the engine's. */
static void
do_poke(uint16_t dom)
{
    static const uint16_t kinds[] = {
        GTF_permit_access, GTF_permit_access, GTF_permit_access,
        GTF_permit_access | GTF_readonly, GTF_permit_access | GTF_sub_page,
        GTF_accept_transfer, GTF_transitive, 0,
    };
    grant_entry_v1_t *e = &w.dom[dom].table[FIRST_REF + rnd(N_REFS)];

    e->flags = (uint16_t)((e->flags & (GTF_reading | GTF_writing)) |
                          kinds[rnd(FH_ARRAY_SIZE(kinds))]);
    e->domid = (domid_t)rnd(N_DOMS);
    e->frame = (uint32_t)(first_mfn(one_in(10) ? (uint16_t)rnd(N_DOMS) : dom) +
                          rnd(FRAMES));
}

/* --------------------------------------------------------------- compare -- */

static void
compare_entry(uint16_t dom, uint32_t ref)
{
    const struct m_pins p = m_pins_of(dom, ref);
    const uint16_t flags = w.dom[dom].table[ref].flags;
    struct fh_gnt_entry_info info;

    EXPECT_EQ(fh_gnt_entry_info(&w.dom[dom].gnt, ref, &info), 0, AT);
    EXPECT_EQ(info.readers, p.readers, AT);
    EXPECT_EQ(info.writers, p.writers, AT);
    EXPECT_EQ(!!(flags & GTF_reading), p.readers + p.writers > 0, AT);
    EXPECT_EQ(!!(flags & GTF_writing), p.writers > 0, AT);
    if (p.readers + p.writers) {
        EXPECT_EQ(info.mfn, p.mfn, AT);
        EXPECT_EQ(info.grantee, p.grantee, AT);
    }
}

static void
compare(void)
{
    for (uint16_t dom = 0; dom < N_DOMS; dom++) {
        for (uint32_t ref = 0; ref < FIRST_REF + N_REFS; ref++)
            compare_entry(dom, ref);
        for (uint32_t i = 0; i < SLOTS; i++)
            EXPECT_EQ(w.dom[dom].ptes[i].word >> 8, m_pte[dom][i].mfn, AT);
    }
    EXPECT(!world_check(&w), "%s; seed %llu step %u", world_check(&w),
           (unsigned long long)seed, step);
}

static void
begin(void)
{
    memset(maps, 0, sizeof(maps));
    memset(m_pte, 0, sizeof(m_pte));
    memset(m_dying, 0, sizeof(m_dying));
    rng = seed * 0x9e3779b97f4a7c15ull + 1;
    world_init(&w);
    w.iommu = one_in(2);
    for (uint16_t dom = 0; dom < N_DOMS; dom++)
        world_add(&w, dom, first_mfn(dom), FRAMES, 1, QUOTA, SLOTS, 0);
    for (uint32_t i = 0; i < N_DOMS * FRAMES; i++) {
        memset(m_bytes[i], (int)i + 1, FH_PAGE_BYTES);
        memset(w.frames[i].bytes, (int)i + 1, FH_PAGE_BYTES);
    }
    fh_gnt_ctx_init(&ctx, &w.ops, &w, 0);
}

static void
do_step(void)
{
    const uint16_t dom = (uint16_t)rnd(N_DOMS);

    switch (rnd(8)) {
    case 0:
    case 1:
    case 2:
        do_map(dom);
        break;
    case 3:
    case 4:
        do_unmap(dom);
        break;
    case 5:
        do_copy(dom);
        break;
    case 6:
    case 7:
        do_poke(dom);
        break;
    }
    if (step == STEPS * 3 / 4 && one_in(2)) {
        m_dying[dom] = true;
        fh_gnt_domain_kill(&w.dom[dom].gnt);
    }
}

/* Two of three domains die as mappers; everything is given back. */
static void
end(void)
{
    for (uint16_t dom = 0; dom < N_DOMS; dom++) {
        uint32_t cursor = 0;

        memset(w.dom[dom].ptes, 0, SLOTS * sizeof(*w.dom[dom].ptes));
        while (fh_gnt_release_maps(&ctx, &w.dom[dom].gnt, 1 + rnd(9), &cursor))
            ;
    }
    memset(maps, 0, sizeof(maps));
    memset(m_pte, 0, sizeof(m_pte));
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        w.frames[i].n_maps = 0;
    compare();
    for (uint32_t i = 0; i < N_DOMS * FRAMES; i++)
        EXPECT(!memcmp(w.frames[i].bytes, m_bytes[i], FH_PAGE_BYTES),
               "contents of frame %u; seed %llu", i, (unsigned long long)seed);
    for (uint16_t dom = 0; dom < N_DOMS; dom++)
        EXPECT_EQ(w.dom[dom].refs, 0, AT);
    world_fini(&w);
}

static uint64_t first_seed;
static uint32_t n_rounds = ROUNDS;

static void
engine__does_what_the_model_does(void **state)
{
    printf("seeds from %llu, %u rounds\n", (unsigned long long)first_seed,
           n_rounds);
    for (uint32_t i = 0; i < n_rounds; i++) {
        seed = first_seed + i;
        begin();
        for (step = 0; step < STEPS; step++) {
            do_step();
            compare();
        }
        end();
    }
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(engine__does_what_the_model_does),
    };

    first_seed = argc > 1 ? strtoull(argv[1], NULL, 0) : (uint64_t)time(NULL);
    if (argc > 2)
        n_rounds = (uint32_t)strtoul(argv[2], NULL, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
