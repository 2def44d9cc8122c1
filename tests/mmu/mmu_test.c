/* SPDX-License-Identifier: MIT */
/*
 * When a flush may be left out, and when not: each of the conditions A1 .. A13
 * (docs/adr/0081) is kept, and the machine of mmu.h finds nothing; then it is
 * taken away, and the machine must notice.
 */
#include "mmu/explore.h"

#include <stdio.h>
#include <string.h>

#include "expect.h"

enum { GRANTER = 1, MAPPER = 2, CPUS = 3, SLOTS = 6, FRAMES = 4 };

static struct mmu m;
/* What reset() makes, and what it breaks. */
static struct {
    uint32_t broken;
    bool no_accessed, late_accessed, shared_table, prefetches, iommu, own_iova;
    uint32_t cpus;
} kind;

static struct fh_gnt_ctx ctxs[CPUS];
static uint32_t shared_handle;
static uint64_t shared_bus;

static void
reset(void)
{
    mmu_fini(&m);
    shared_handle = 0;
    mmu_init(&m, kind.cpus, SLOTS, FRAMES);
    m.broken = kind.broken;
    m.no_accessed = kind.no_accessed;
    m.late_accessed = kind.late_accessed;
    m.shared_table = kind.shared_table;
    m.prefetches = kind.prefetches;
    m.iommu = kind.iommu;
    m.own_iova = kind.own_iova;
    mmu_add(&m, GRANTER, 0, FRAMES, MAPPER, 1);
    mmu_add(&m, MAPPER, 0, 0, 0, 8);
    for (uint32_t i = 0; i < kind.cpus; i++) {
        mmu_enter(&m, i, &m.dom[MAPPER]);
        fh_gnt_ctx_init(&ctxs[i], &m.ops, &m, i);
    }
}

static void
machine(uint32_t broken)
{
    memset(&kind, 0, sizeof(kind));
    kind.broken = broken;
    kind.cpus = CPUS;
}

static struct gnttab_map_grant_ref
map(uint32_t cpu, uint32_t frame, uint32_t slot, uint32_t flags)
{
    struct gnttab_map_grant_ref op = {
        .host_addr = mmu_addr(slot), .flags = flags, .ref = 8 + frame,
        .dom = GRANTER
    };

    fh_gnt_map_one(&ctxs[cpu], &m.dom[MAPPER].gnt, &op);
    return op;
}

static int16_t
unmap(uint32_t cpu, uint32_t handle, uint64_t addr, uint64_t bus)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle, .host_addr = addr,
                                         .dev_bus_addr = bus };

    return fh_gnt_unmap_one(&ctxs[cpu], &m.dom[MAPPER].gnt, &op);
}

/* ---------------------------------------------------------- the programs -- */

/* One mapping, and its end. */
static void
pair_on_0(void)
{
    const struct gnttab_map_grant_ref op = map(0, 0, 0, GNTMAP_host_map);

    unmap(0, op.handle, mmu_addr(0), 0);
}

static void
pair_on_1(void)
{
    const struct gnttab_map_grant_ref op = map(1, 1, 2, GNTMAP_host_map);

    unmap(1, op.handle, mmu_addr(2), 0);
}

/* The same frame for writing and for reading, the writer ends first. */
static void
upgrade_and_back(void)
{
    const struct gnttab_map_grant_ref
        ro = map(0, 0, 0, GNTMAP_host_map | GNTMAP_readonly),
        rw = map(0, 0, 2, GNTMAP_host_map);

    unmap(0, rw.handle, mmu_addr(2), 0);
    unmap(0, ro.handle, mmu_addr(0), 0);
}

static void
batch_of_two(void)
{
    const struct gnttab_map_grant_ref a = map(0, 0, 0, GNTMAP_host_map),
                                      b = map(0, 1, 2, GNTMAP_host_map);
    struct gnttab_unmap_grant_ref ops[2] = {
        { .host_addr = mmu_addr(0), .handle = a.handle },
        { .host_addr = mmu_addr(2), .handle = b.handle },
    };
    uint32_t done;

    (void)!fh_gnt_op_unmap(&ctxs[0], &m.dom[MAPPER].gnt, ops, 2, &done);
}

/* A mapping whose two parts end on two processors. */
static void
map_both_parts(void)
{
    const struct gnttab_map_grant_ref op =
        map(0, 0, 0, GNTMAP_host_map | GNTMAP_device_map);

    shared_bus = op.dev_bus_addr;
    fh_store_release32(&shared_handle, op.handle + 1);
    unmap(0, op.handle, mmu_addr(0), 0);
}

static void
end_device_part(void)
{
    const uint32_t h = fh_load_acquire32(&shared_handle);

    if (h)
        unmap(1, h - 1, 0, shared_bus);
}

static void
both_parts_then_rest(void)
{
    map_both_parts();
    unmap(0, shared_handle - 1, 0, shared_bus);
}

static void
copying(void)
{
    struct gnttab_copy op = {
        .source = { .u.ref = 8, .domid = GRANTER },
        .dest = { .u.ref = 9, .domid = GRANTER },
        .len = 16, .flags = GNTCOPY_source_gref | GNTCOPY_dest_gref,
    };

    fh_gnt_copy_one(&ctxs[0], &m.dom[MAPPER].gnt, &op);
}

/* Page ageing: clears the accessed bit of slot 0, and flushes. */
static void
age(bool taints, bool flushes)
{
    struct mmu_domain *d = &m.dom[MAPPER];
    const uint32_t h = d->handles[0];

    if (!h || (taints && fh_gnt_taint(&d->gnt, h - 1)))
        return;
    m.point(&m);
    d->pt[0] &= ~(uint64_t)MMU_A;
    m.point(&m);
    if (flushes)
        mmu_flush_all(&m, d);
}

static void
ageing(void)
{
    age(!(kind.broken & MMU_A2), true);
}

/* The guest edits its own table. */
static void
editing(void)
{
    age(!(kind.broken & MMU_A3), false);
}

/* ------------------------------------------------------------- the tests -- */

static struct explore base = {
    .m = &m, .reset = reset, .mapper = MAPPER, .slots = 3,
};

static struct explore
program(const char *name, void (*a)(void), void (*b)(void), unsigned budget,
        uint32_t seeds)
{
    struct explore e = base;

    e.name = name;
    e.thread[0] = a;
    e.thread[1] = b;
    e.budget = budget;
    e.seeds = seeds;
    return e;
}

/* Kept, nothing is found; broken, something is. */
static void
holds_and_breaks(struct explore *e, uint32_t broken)
{
    const char *bad = explore(e);

    EXPECT(!bad, "%s", bad);
    printf("%s: %llu runs hold\n", e->name, (unsigned long long)e->runs);
    if (!broken)
        return;
    kind.broken = broken;
    e->seeds = 20000;
    bad = explore(e);
    EXPECT(bad, "%s: nobody noticed in %llu runs", e->name,
           (unsigned long long)e->runs);
    printf("  taken away: %s\n", bad ? bad : "-");
}

/* Elided flushes of @n pairs, each followed by a use of the next slot. */
static uint64_t
elided(uint32_t n, uint32_t stride)
{
    struct fh_gnt_stats s;

    reset();
    for (uint32_t i = 0; i < n; i++) {
        const struct gnttab_map_grant_ref
            used = map(0, 0, 0, GNTMAP_host_map),
            idle = map(0, 1, stride, GNTMAP_host_map);

        mmu_fill(&m, 0, 0);
        unmap(0, idle.handle, mmu_addr(stride), 0);
        unmap(0, used.handle, mmu_addr(0), 0);
    }
    fh_gnt_stats_read(&m.dom[MAPPER].gnt, &s);
    EXPECT_EQ(s.flushes_asked + s.flushes_elided, 2 * n);
    return s.flushes_elided;
}

static void
a1__an_entry_is_installed_unaccessed(void **state)
{
    machine(0);
    EXPECT_EQ(elided(10, 2), 10, "every untouched page");
    machine(MMU_A1); /* as Xen does */
    EXPECT_EQ(elided(10, 2), 0, "nothing to test");
}

static void
a2__nobody_clears_the_bit_without_taint(void **state)
{
    struct explore e = program("A2", pair_on_0, ageing, 3, 2000);

    machine(0);
    e.slots = 1;
    holds_and_breaks(&e, MMU_A2);
}

static void
a3__a_guests_edit_taints(void **state)
{
    struct explore e = program("A3", pair_on_0, editing, 3, 2000);

    machine(0);
    e.slots = 1;
    holds_and_breaks(&e, MMU_A3);
}

static void
a4__removal_is_one_exchange(void **state)
{
    struct explore e = program("A4", pair_on_0, NULL, 2, 2000);

    machine(0);
    e.half_walks = true;
    holds_and_breaks(&e, MMU_A4);
}

static void
a5__processors_that_set_the_bit_late_always_flush(void **state)
{
    struct explore e = program("A5", pair_on_0, NULL, 2, 2000);

    machine(0);
    kind.late_accessed = true;
    e.half_walks = true;
    holds_and_breaks(&e, MMU_A5);
}

static void
a6__the_iotlb_is_flushed_whatever_processors_did(void **state)
{
    struct explore e = program("A6", pair_on_0, NULL, 2, 2000);

    machine(0);
    kind.iommu = true;
    e.io_keys = 1;
    holds_and_breaks(&e, MMU_A6);
}

static void
a7__tables_without_accessed_bits_always_flush(void **state)
{
    struct explore e = program("A7", pair_on_0, NULL, 2, 2000);

    machine(0);
    kind.no_accessed = true;
    holds_and_breaks(&e, MMU_A7);
}

static void
a7__a_table_that_devices_walk_flushes_the_iotlb(void **state)
{
    struct explore e = program("A7, shared table", pair_on_0, NULL, 2, 2000);

    machine(0);
    kind.shared_table = true;
    e.io_keys = 1;
    holds_and_breaks(&e, MMU_A7);
}

static void
a8__the_bit_is_that_of_the_table_that_is_walked(void **state)
{
    struct explore e = program("A8", pair_on_0, NULL, 2, 2000);

    machine(0);
    holds_and_breaks(&e, MMU_A8);
}

static void
a9__the_hypervisors_own_access_holds_a_pin(void **state)
{
    struct explore e = program("A9", copying, NULL, 2, 2000);

    machine(0);
    holds_and_breaks(&e, MMU_A9);
}

/* No host mapping ever changes its access, so there is nothing to downgrade:
 * writer and reader have entries of their own.  The IOMMU's does change, and is
 * flushed. */
static struct explore
a10_program(void)
{
    struct explore e = program("A10", upgrade_and_back, NULL, 2, 2000);

    machine(0);
    kind.iommu = true;
    e.io_keys = 1;
    return e;
}

static struct explore
a11_program(void)
{
    machine(0);
    return program("A11", batch_of_two, NULL, 2, 2000);
}

static struct explore
a13_program(void)
{
    machine(0);
    return program("A13", pair_on_0, NULL, 2, 2000);
}

static struct explore
two_program(void)
{
    machine(0);
    kind.cpus = 2;
    return program("two unmappers", pair_on_0, pair_on_1, 2, 5000);
}

static struct explore
generations_program(void)
{
    struct explore e = program("generations", pair_on_0, NULL, 3, 5000);

    machine(0);
    kind.cpus = 2;
    e.slots = 1;
    e.switches = true;
    return e;
}

/* One processor takes the host part out, another ends the device part: who
 * comes second may not release before the first has flushed. */
static struct explore
parts_program(void)
{
    struct explore e =
        program("parts", both_parts_then_rest, end_device_part, 3, 5000);

    machine(0);
    kind.cpus = 2;
    e.slots = 1;
    return e;
}

static void
a10__a_downgrade_is_flushed(void **state)
{
    struct explore e = a10_program();

    holds_and_breaks(&e, 0);
}

static void
a11__a_batch_flushes_if_any_member_was_used(void **state)
{
    struct explore e = a11_program();

    holds_and_breaks(&e, 0);
}

static void
a12__neighbours_cost_elisions_and_no_more(void **state)
{
    struct explore e = program("A12", batch_of_two, NULL, 2, 2000);

    machine(0);
    kind.prefetches = true;
    holds_and_breaks(&e, 0);
    EXPECT_EQ(elided(10, 2), 10, "a gap between grants");
    EXPECT_EQ(elided(10, 1), 0, "neighbours are fetched as well");
}

static void
a13__pages_are_released_after_the_flush(void **state)
{
    struct explore e = a13_program();

    holds_and_breaks(&e, MMU_A13);
}

static void
flush__two_unmappers_share(void **state)
{
    struct explore e = two_program();

    holds_and_breaks(&e, 0);
}

static void
flush__skips_who_flushed_since(void **state)
{
    struct explore e = generations_program();

    holds_and_breaks(&e, MMU_STAMP);
}

static void
unmap__parts_on_two_processors(void **state)
{
    struct explore e = parts_program();

    holds_and_breaks(&e, 0);
}

/* The gate: none for pages that nobody touched, one in 256 at most else. */
static void
flush__per_unmapped_page(void **state)
{
    enum { N = 256, TIMES = 4 };
    static struct gnttab_map_grant_ref maps[N];
    static struct gnttab_unmap_grant_ref unmaps[N];
    struct fh_gnt_domain *d = &m.dom[MAPPER].gnt;
    struct fh_gnt_stats s;
    uint32_t done;

    machine(0);
    for (int touched = 0; touched < 2; touched++) {
        mmu_fini(&m);
        mmu_init(&m, CPUS, N, N);
        mmu_add(&m, GRANTER, 0, N, MAPPER, 1);
        mmu_enter(&m, 0, mmu_add(&m, MAPPER, 0, 0, 0, N));
        fh_gnt_ctx_init(&ctxs[0], &m.ops, &m, 0);
        for (uint32_t k = 0; k < TIMES; k++) {
            for (uint32_t i = 0; i < N; i++)
                maps[i] = (struct gnttab_map_grant_ref){
                    .host_addr = mmu_addr(i), .flags = GNTMAP_host_map,
                    .ref = 8 + i, .dom = GRANTER };
            EXPECT_EQ(fh_gnt_op_map(&ctxs[0], d, maps, N, &done), 0);
            for (uint32_t i = 0; i < N; i++) {
                if (touched)
                    mmu_fill(&m, 0, i);
                unmaps[i] = (struct gnttab_unmap_grant_ref){
                    .host_addr = mmu_addr(i), .handle = maps[i].handle };
            }
            EXPECT_EQ(fh_gnt_op_unmap(&ctxs[0], d, unmaps, N, &done), 0);
            EXPECT(!mmu_check(&m), "%s", mmu_check(&m));
        }
        fh_gnt_stats_read(d, &s);
        EXPECT_EQ(s.unmaps, N * TIMES);
        EXPECT_EQ(s.flushes, touched ? TIMES : 0);
        EXPECT_EQ(s.flushes_elided, touched ? 0 : TIMES);
        EXPECT_EQ(s.cpus_interrupted, 0, "only its own processor");
    }
}

/* A device map with an address of its own: the device part ends on one
 * processor, the host part on another. */
static void
own_then_host(void)
{
    const struct gnttab_map_grant_ref op =
        map(0, 0, 0, GNTMAP_host_map | GNTMAP_device_map);

    shared_bus = op.dev_bus_addr;
    fh_store_release32(&shared_handle, op.handle + 1);
    unmap(0, op.handle, mmu_addr(0), 0);
    unmap(0, op.handle, 0, op.dev_bus_addr);
}

static void
iova__parts_on_two_processors(void **state)
{
    struct explore e =
        program("own I/O addresses", own_then_host, end_device_part, 2, 4000);

    machine(0);
    kind.iommu = kind.own_iova = true;
    kind.cpus = 2;
    e.slots = 1;
    e.mapper = MAPPER;
    e.io_keys = FRAMES + 1; /* the first handle's */
    holds_and_breaks(&e, MMU_A6);
}

/* The address is the handle's, is checked, and ends with the device part. */
static void
iova__is_the_handles_and_is_checked(void **state)
{
    const uint64_t machine_addr = (uint64_t)MMU_MFN0 << FH_PAGE_SHIFT;
    struct mmu_domain *d = &m.dom[MAPPER];
    struct gnttab_map_grant_ref a, b, host;

    machine(0);
    kind.iommu = kind.own_iova = true;
    reset();
    a = map(0, 0, 0, GNTMAP_host_map | GNTMAP_device_map);
    b = map(0, 0, 1, GNTMAP_device_map | GNTMAP_readonly);
    host = map(0, 0, 2, GNTMAP_host_map);
    EXPECT_EQ(a.dev_bus_addr, MMU_IOVA + ((uint64_t)(a.handle & 7) << 12));
    EXPECT_EQ(b.dev_bus_addr, MMU_IOVA + ((uint64_t)(b.handle & 7) << 12));
    EXPECT(a.dev_bus_addr != b.dev_bus_addr, "two maps of one frame");
    EXPECT_EQ(host.dev_bus_addr, 0, "nothing for devices");
    EXPECT_EQ(d->io[FRAMES + (b.handle & 7)],
              (uint64_t)MMU_MFN0 << 8 | MMU_P, "its own access");
    EXPECT_EQ(unmap(0, a.handle, 0, machine_addr), GNTST_bad_dev_addr);
    EXPECT_EQ(unmap(0, a.handle, 0, b.dev_bus_addr), GNTST_bad_dev_addr);
    EXPECT_EQ(unmap(0, a.handle, 0, a.dev_bus_addr), GNTST_okay);
    EXPECT_EQ(d->io[FRAMES + (a.handle & 7)], 0, "gone before the handle");
    EXPECT_EQ(unmap(0, a.handle, mmu_addr(0), 0), GNTST_okay);
    EXPECT_EQ(unmap(0, host.handle, mmu_addr(2), 0), GNTST_okay);

    /* the rest goes with its domain */
    uint32_t cursor = 0;

    EXPECT_EQ(fh_gnt_release_maps(&ctxs[0], &d->gnt, 8, &cursor), 0);
    EXPECT_EQ(d->io[FRAMES + (b.handle & 7)], 0);
    EXPECT(!mmu_check(&m), "%s", mmu_check(&m));
    EXPECT_EQ(m.dom[GRANTER].table[8].flags, GTF_permit_access);
}

/* What docs/adr/0080 weighs: IOMMU table writes and IOTLB flushes of @n maps of
 * @frames frames and their unmaps, 32 a call. */
static void
count_io(bool own, uint32_t frames, uint32_t flags, const char *what,
         uint64_t want_changes, uint64_t want_flushes)
{
    enum { N = 128, BATCH = 32 };
    static struct gnttab_map_grant_ref maps[N];
    static struct gnttab_unmap_grant_ref unmaps[N];
    struct fh_gnt_domain *d = &m.dom[MAPPER].gnt;
    uint32_t done;

    mmu_fini(&m);
    mmu_init(&m, 1, N, N);
    m.iommu = true;
    mmu_add(&m, GRANTER, 0, N, MAPPER, 1);
    m.own_iova = own;
    mmu_add(&m, MAPPER, 0, 0, 0, N);
    fh_gnt_ctx_init(&ctxs[0], &m.ops, &m, 0);
    for (uint32_t i = 0; i < N; i++)
        maps[i] = (struct gnttab_map_grant_ref){
            .host_addr = mmu_addr(i), .flags = flags, .ref = 8 + i % frames,
            .dom = GRANTER };
    for (uint32_t i = 0; i < N; i += BATCH)
        EXPECT_EQ(fh_gnt_op_map(&ctxs[0], d, &maps[i], BATCH, &done), 0);
    for (uint32_t i = 0; i < N; i++)
        unmaps[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = mmu_addr(i), .dev_bus_addr = maps[i].dev_bus_addr,
            .handle = maps[i].handle };
    for (uint32_t i = 0; i < N; i += BATCH)
        EXPECT_EQ(fh_gnt_op_unmap(&ctxs[0], d, &unmaps[i], BATCH, &done), 0);
    printf("%s, %s: %llu table changes, %llu IOTLB flushes in %u pairs\n",
           own ? "own addresses" : "counted", what,
           (unsigned long long)(m.io_maps + m.io_unmaps),
           (unsigned long long)m.io_flushes, N);
    EXPECT_EQ(m.io_maps + m.io_unmaps, want_changes, "%s", what);
    EXPECT_EQ(m.io_flushes, want_flushes, "%s", what);
}

static void
iommu__two_ways_by_counts(void **state)
{
    const uint32_t both = GNTMAP_host_map | GNTMAP_device_map;

    count_io(false, 128, both, "each frame once", 256, 4);
    count_io(true, 128, both, "each frame once", 256, 4);
    count_io(false, 4, both, "each frame 32 times", 8, 1);
    count_io(true, 4, both, "each frame 32 times", 256, 4);
    count_io(false, 128, GNTMAP_host_map, "for processors only", 256, 4);
    count_io(true, 128, GNTMAP_host_map, "for processors only", 0, 0);
}

/* The engine of this program has a mistake in it: @name must find it. */
static int
find_mistake(const char *name)
{
    static const struct {
        const char *name;
        struct explore (*make)(void);
    } programs[] = {
        { "A10", a10_program },
        { "A11", a11_program },
        { "A13", a13_program },
        { "two", two_program },
        { "generations", generations_program },
        { "parts", parts_program },
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(programs); i++) {
        if (strcmp(programs[i].name, name))
            continue;
        struct explore e = programs[i].make();
        const char *bad;

        e.seeds = 20000;
        bad = explore(&e);
        printf("%s\n", bad ? bad : "nobody noticed");
        return bad ? 0 : 1;
    }
    return 2;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a1__an_entry_is_installed_unaccessed),
        cmocka_unit_test(a2__nobody_clears_the_bit_without_taint),
        cmocka_unit_test(a3__a_guests_edit_taints),
        cmocka_unit_test(a4__removal_is_one_exchange),
        cmocka_unit_test(a5__processors_that_set_the_bit_late_always_flush),
        cmocka_unit_test(a6__the_iotlb_is_flushed_whatever_processors_did),
        cmocka_unit_test(a7__tables_without_accessed_bits_always_flush),
        cmocka_unit_test(a7__a_table_that_devices_walk_flushes_the_iotlb),
        cmocka_unit_test(a8__the_bit_is_that_of_the_table_that_is_walked),
        cmocka_unit_test(a9__the_hypervisors_own_access_holds_a_pin),
        cmocka_unit_test(a10__a_downgrade_is_flushed),
        cmocka_unit_test(a11__a_batch_flushes_if_any_member_was_used),
        cmocka_unit_test(a12__neighbours_cost_elisions_and_no_more),
        cmocka_unit_test(a13__pages_are_released_after_the_flush),
        cmocka_unit_test(flush__per_unmapped_page),
        cmocka_unit_test(flush__two_unmappers_share),
        cmocka_unit_test(flush__skips_who_flushed_since),
        cmocka_unit_test(unmap__parts_on_two_processors),
        cmocka_unit_test(iova__parts_on_two_processors),
        cmocka_unit_test(iova__is_the_handles_and_is_checked),
        cmocka_unit_test(iommu__two_ways_by_counts),
    };

    if (argc > 1)
        return find_mistake(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
