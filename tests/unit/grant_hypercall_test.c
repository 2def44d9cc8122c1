/* SPDX-License-Identifier: MIT */
/*
 * grant_table_op as a guest makes it: which calls are refused as a whole, the
 * kin of unmap, what a granter may ask for, and that a call cut short at any
 * element comes to the same as one that was not.
 */
#include "grant/world.h"

#include <string.h>
#include <sys/mman.h>

#include <freehold/grant_ext.h>

#include "expect.h"
#include "grant/internal.h"

/* Domain 1 grants frames 0x1000.. to domain 2, which maps; 3 is translated. */
struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *granter, *mapper, *hvm;
};

#define N_HANDLES 64
#define N_PTES    64

static int
setup(void **state)
{
    static struct fixture f;

    world_init(&f.w);
    f.granter = world_add(&f.w, 1, 0x1000, 32, 2, N_HANDLES, N_PTES, 0);
    f.mapper = world_add(&f.w, 2, 0x1020, 32, 1, N_HANDLES, N_PTES, 0);
    f.hvm = world_add(&f.w, 3, 0x1040, 32, 1, N_HANDLES, N_PTES,
                      FH_GNT_DOM_TRANSLATED);
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    for (uint32_t ref = 8; ref < 40; ref++)
        fh_gnt_v1_grant(f.granter->table, ref, 2, 0x1000 + ref - 8, false);
    fh_gnt_v1_grant(f.granter->table, 41, 3, 0x1001, false);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    world_fini(&f->w);
    return 0;
}

/* Calls until it is done; every cut must have moved on. */
static long
call(struct fixture *f, struct world_domain *d, uint32_t cmd, void *arg,
     uint32_t count)
{
    struct fh_gnt_call c = { .cmd = cmd, .arg = arg, .count = count };
    uint32_t cuts = 0;
    long r;

    for (;;) {
        const uint32_t before = c.count;

        r = fh_gnt_hypercall(&f->ctx, &d->gnt, &c);
        EXPECT(r <= 0 || r == FH_GNT_E_PREEMPTED, "nothing else is positive");
        if (r != FH_GNT_E_PREEMPTED)
            break;
        EXPECT(c.count < before, "progress");
        EXPECT(c.count > 0, "something is left");
        EXPECT_EQ(c.cmd, cmd);
        cuts++;
    }
    EXPECT(r || !c.count, "success means that nothing is left (XSA-318)");
    if (f->w.preempt_every == 1)
        EXPECT_EQ(cuts, count ? count - 1 : 0, "a cut at every element");
    return r;
}

static struct gnttab_map_grant_ref
map(struct fixture *f, struct world_domain *d, uint32_t ref, uint32_t flags,
    uint32_t slot)
{
    struct gnttab_map_grant_ref op = { .dom = 1,
                                       .ref = ref,
                                       .flags = flags,
                                       .host_addr = world_addr(slot) };

    EXPECT_EQ(call(f, d, GNTTABOP_map_grant_ref, &op, 1), 0);
    EXPECT_EQ(op.status, 0);
    return op;
}

static int16_t
unmap(struct fixture *f, struct world_domain *d, uint32_t handle,
      uint32_t slot, uint64_t bus)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot),
                                         .dev_bus_addr = bus };

    EXPECT_EQ(call(f, d, GNTTABOP_unmap_grant_ref, &op, 1), 0);
    return op.status;
}

static const struct {
    const char *name;
    uint32_t cmd, count;
    long want;
} call_cases[] = {
    { "nothing to map", GNTTABOP_map_grant_ref, 0, 0 },
    { "nothing to unmap", GNTTABOP_unmap_grant_ref, 0, 0 },
    { "nothing to copy", GNTTABOP_copy, 0, 0 },
    { "an extension is there", FH_GNTTABOP_unmap_and_duplicate, 0, 0 },
    { "another", FH_GNTTABOP_unmap_ref, 0, 0 },
    { "the third", FH_GNTTABOP_entry_flags, 0, 0 },
    { "no fourth", FH_GNTTABOP_entry_flags + 1, 0, FH_ENOSYS },
    { "dump_table", GNTTABOP_dump_table, 1, FH_ENOSYS },
    { "beyond Xen's", 13, 1, FH_ENOSYS },
    { "the last number", 0xfff, 1, FH_ENOSYS },
    { "negative count", GNTTABOP_map_grant_ref, 1u << 31, FH_EINVAL },
    { "count -1", GNTTABOP_copy, UINT32_MAX, FH_EINVAL },
    { "negative count of nothing known", 13, UINT32_MAX, FH_EINVAL },
    { "continuation bits", GNTTABOP_map_grant_ref | 1 << 12, 0, FH_EINVAL },
    { "the highest of them", GNTTABOP_copy | 1u << 31, 0, FH_EINVAL },
    { "bits on nothing known", 13 | 1 << 12, 0, FH_EINVAL },
    { "two tables to set up", GNTTABOP_setup_table, 2, FH_EINVAL },
    { "none", GNTTABOP_setup_table, 0, FH_EINVAL },
    { "two sizes", GNTTABOP_query_size, 2, FH_EINVAL },
    { "two lists", GNTTABOP_get_status_frames, 2, FH_EINVAL },
    { "no version to set", GNTTABOP_set_version, 0, FH_EINVAL },
    { "none to get", GNTTABOP_get_version, 0, FH_EINVAL },
    { "nothing to swap", GNTTABOP_swap_grant_ref, 0, 0 },
    { "nothing to transfer", GNTTABOP_transfer, 0, 0 },
    { "nothing to flush", GNTTABOP_cache_flush, 0, 0 },
};

static void
hypercall__refuses_whole_calls_as_the_table_says(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < FH_ARRAY_SIZE(call_cases); i++) {
        struct fh_gnt_call c = { .cmd = call_cases[i].cmd,
                                 .count = call_cases[i].count };
        const long r = fh_gnt_hypercall(&f->ctx, &f->mapper->gnt, &c);

        EXPECT_EQ(r, call_cases[i].want, "%s", call_cases[i].name);
        EXPECT_EQ(c.count, call_cases[i].count, "%s: untouched",
                  call_cases[i].name);
    }
}

/* As on Xen: what has one element looks at the first. */
static void
hypercall__looks_at_the_first_version_only(void **state)
{
    struct fixture *f = *state;
    struct gnttab_get_version ops[2] = { { .dom = DOMID_SELF },
                                         { .dom = 5, .version = 77 } };
    struct gnttab_set_version set[2] = { { 2 }, { 77 } };
    struct fh_gnt_call c = { .cmd = GNTTABOP_set_version, .count = 2,
                             .arg = set };
    uint32_t turns = 0;
    long r;

    EXPECT_EQ(call(f, f->mapper, GNTTABOP_get_version, ops, 2), 0);
    EXPECT_EQ(ops[0].version, 1);
    EXPECT_EQ(ops[1].version, 77);
    f->w.preempt_every = 2;
    while ((r = fh_gnt_hypercall(&f->ctx, &f->mapper->gnt, &c)) ==
           FH_GNT_E_PREEMPTED) {
        EXPECT(c.arg == set && c.count == 2, "the table knows how far it is");
        turns++;
    }
    f->w.preempt_every = 0;
    EXPECT_EQ(r, 0);
    EXPECT(turns > 1, "%u", turns);
    EXPECT_EQ(fh_gnt_version(&f->mapper->gnt), 2);
    EXPECT_EQ(set[1].version, 77);
    ops[0].dom = 5;
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_get_version, ops, 1), FH_ESRCH);
}

/* ---------------------------------------------- lists of 32-bit callers -- */

struct setup32 {
    uint16_t dom, pad0;
    uint32_t nr_frames;
    int16_t status;
    uint16_t pad1;
    uint32_t frame_list;
};

struct status32 {
    uint32_t nr_frames;
    uint16_t dom;
    int16_t status;
    uint32_t frame_list;
};

static long
call32(struct fixture *f, uint32_t cmd, void *arg)
{
    struct fh_gnt_call c = { .cmd = cmd, .arg = arg, .count = 1,
                             .is_32bit = true };
    const long r = fh_gnt_hypercall(&f->ctx, &f->mapper->gnt, &c);

    EXPECT(r == FH_GNT_E_PREEMPTED || !c.count,
           "every turn finishes an element (XSA-24)");
    return r;
}

static void
compat__lists_have_the_callers_width(void **state)
{
    struct fixture *f = *state;
    uint32_t *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    struct setup32 setup = { .dom = DOMID_SELF, .nr_frames = 1, .status = 99,
                             .pad1 = 0x5a5a };
    struct gnttab_set_version v2 = { 2 };

    assert_ptr_not_equal(low, MAP_FAILED);
    setup.frame_list = (uint32_t)(uintptr_t)low;
    low[1] = 0x5a5a5a5a;
    EXPECT_EQ(call32(f, GNTTABOP_setup_table, &setup), 0);
    EXPECT_EQ(setup.status, 0);
    EXPECT_EQ(setup.pad1, 0x5a5a);
    EXPECT_EQ(low[1], 0x5a5a5a5a, "one number of 32 bits");
    EXPECT_EQ(low[0], (uint32_t)f->mapper->gnt.frames[0].gfn);
    f->mapper->gnt.frames[0].gfn = 1ull << 32;
    EXPECT_EQ(call32(f, GNTTABOP_setup_table, &setup), 0);
    EXPECT_EQ(setup.status, GNTST_address_too_big, "never cut off");
    f->mapper->gnt.frames[0].gfn = 7;
    setup.frame_list = 0;
    EXPECT_EQ(call32(f, GNTTABOP_setup_table, &setup), 0);
    EXPECT_EQ(setup.status, GNTST_bad_virt_addr);

    struct status32 status = { .dom = DOMID_SELF, .nr_frames = 1,
                               .status = 99,
                               .frame_list = (uint32_t)(uintptr_t)low };
    EXPECT_EQ(call32(f, GNTTABOP_get_status_frames, &status), 0);
    EXPECT_EQ(status.status, GNTST_general_error, "version 1 has none");
    EXPECT_EQ(call32(f, GNTTABOP_set_version, &v2), 0);
    EXPECT_EQ(call32(f, GNTTABOP_get_status_frames, &status), 0);
    EXPECT_EQ(status.status, 0);
    EXPECT_EQ(*(uint64_t *)low, f->mapper->gnt.status[0].gfn,
              "64 bits, for these callers too");
    status.frame_list = 0;
    EXPECT_EQ(call32(f, GNTTABOP_get_status_frames, &status), 0);
    EXPECT_EQ(status.status, GNTST_bad_virt_addr);
    munmap(low, 4096);
}

/* ---------------------------------------- unmap_and_replace, _duplicate -- */

static void
replace__puts_another_page_in_the_place(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    struct gnttab_unmap_and_replace op = { .host_addr = world_addr(0),
                                           .new_addr = world_addr(9),
                                           .handle = m.handle };
    struct world_pte *ptes = f->mapper->ptes;

    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_general_error, "nothing is mapped there");
    EXPECT_EQ(ptes[0].word >> 8, 0x1000);
    world_map_own(f->mapper, 9, 0x1030);
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, 0);
    EXPECT_EQ(ptes[0].word >> 8, 0x1030);
    EXPECT_EQ(ptes[9].word, 0, "stolen");
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_bad_handle);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));

    m = map(f, f->mapper, 8, GNTMAP_host_map, 1);
    op = (struct gnttab_unmap_and_replace){ .host_addr = world_addr(1),
                                            .handle = m.handle };
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, 0, "new_addr 0 is a plain unmap");
    EXPECT_EQ(ptes[1].word, 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
duplicate__leaves_the_other_page_where_it_was(void **state)
{
    struct fixture *f = *state;
    const uint32_t both = GNTMAP_host_map | GNTMAP_device_map;
    struct gnttab_map_grant_ref a = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    struct gnttab_map_grant_ref b = map(f, f->mapper, 9, both, 1);
    struct fh_gnttab_unmap_and_duplicate ops[2] = {
        { .host_addr = world_addr(0), .new_addr = world_addr(9),
          .handle = a.handle },
        { .host_addr = world_addr(1), .new_addr = world_addr(9),
          .handle = b.handle, .dev_bus_addr = b.dev_bus_addr },
    };
    struct world_pte *ptes = f->mapper->ptes;

    world_map_own(f->mapper, 9, 0x1030);
    EXPECT_EQ(call(f, f->mapper, FH_GNTTABOP_unmap_and_duplicate, ops, 2), 0);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(ops[i].status, 0, "%d", i);
        EXPECT_EQ(ptes[i].word >> 8, 0x1030, "%d", i);
    }
    EXPECT_EQ(ptes[9].word >> 8, 0x1030);
    EXPECT_EQ(unmap(f, f->mapper, b.handle, 1, 0), GNTST_bad_handle,
              "the device part went with it");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* XSA-217, XSA-222: what only PV guests can do is refused to the others. */
static void
replace__is_for_pv_and_linear_addresses(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m = map(f, f->hvm, 41, GNTMAP_host_map, 0);
    struct gnttab_unmap_and_replace op = { .host_addr = world_addr(0),
                                           .new_addr = world_addr(9),
                                           .handle = m.handle };

    world_map_own(f->hvm, 9, 0x1050);
    EXPECT_EQ(call(f, f->hvm, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_general_error);
    op.new_addr = 0;
    EXPECT_EQ(call(f, f->hvm, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, 0);

    world_map_own(f->mapper, 9, 0x1030);
    m = map(f, f->mapper, 8, GNTMAP_host_map | GNTMAP_contains_pte, 0);
    op = (struct gnttab_unmap_and_replace){ .host_addr = world_addr(0),
                                            .new_addr = world_addr(9),
                                            .handle = m.handle };
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_general_error, "made by pte");
    EXPECT_EQ(unmap(f, f->mapper, m.handle, 0, 0), 0);

    m = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    op.handle = m.handle;
    f->w.ops.pt_replace = NULL;
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_general_error, "the embedder has it not");
    EXPECT_EQ(unmap(f, f->mapper, m.handle, 0, 0), 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* XSA-234, XSA-227: what is taken out is what was put in. */
static void
replace__takes_only_the_mapping_that_it_names(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref rw = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    struct gnttab_map_grant_ref ro =
        map(f, f->mapper, 8, GNTMAP_host_map | GNTMAP_readonly, 1);
    struct gnttab_unmap_and_replace op = { .host_addr = world_addr(1),
                                           .new_addr = world_addr(9),
                                           .handle = rw.handle };
    const uint64_t before = f->mapper->ptes[1].word;

    world_map_own(f->mapper, 9, 0x1030);
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
    EXPECT_EQ(op.status, GNTST_general_error, "another access");
    EXPECT_EQ(f->mapper->ptes[1].word, before);
    EXPECT_EQ(f->mapper->ptes[9].word >> 8, 0x1030, "not stolen either");
    EXPECT_EQ(unmap(f, f->mapper, rw.handle, 0, 0), 0);
    EXPECT_EQ(unmap(f, f->mapper, ro.handle, 1, 0), 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* XSA-224: one flush decision covers every element that was taken out. */
static void
replace__flushes_for_either_page(void **state)
{
    struct fixture *f = *state;

    for (uint32_t used = 0; used < 3; used++) {
        struct gnttab_map_grant_ref m =
            map(f, f->mapper, 8, GNTMAP_host_map, 0);
        struct gnttab_unmap_and_replace op = { .host_addr = world_addr(0),
                                               .new_addr = world_addr(9),
                                               .handle = m.handle };
        const uint64_t before = f->mapper->flushes;

        world_map_own(f->mapper, 9, 0x1030);
        if (used)
            world_touch(f->mapper, used == 1 ? 0 : 9);
        EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_and_replace, &op, 1), 0);
        EXPECT_EQ(op.status, 0);
        EXPECT_EQ(f->mapper->flushes - before, used > 0, "%u", used);
    }
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* ------------------------------------------------------------ unmap_ref -- */

static const struct {
    const char *name;
    uint32_t ref;
    uint16_t dom;
    int16_t want;
} ref_cases[] = {
    { "another reference", 9, 1, GNTST_bad_gntref },
    { "beyond the table", UINT32_MAX, 1, GNTST_bad_gntref },
    { "another domain", 8, 3, GNTST_bad_domain },
    { "no such domain", 8, 5, GNTST_bad_domain },
    { "oneself", 8, DOMID_SELF, GNTST_bad_domain },
    { "the domain is looked at first", 9, 3, GNTST_bad_domain },
    { "the one that was mapped", 8, 1, GNTST_okay },
    { "twice", 8, 1, GNTST_bad_handle },
};

static void
unmap_ref__wants_handle_and_grant_to_agree(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m = map(f, f->mapper, 8, GNTMAP_host_map, 0);

    for (size_t i = 0; i < FH_ARRAY_SIZE(ref_cases); i++) {
        struct fh_gnttab_unmap_ref op = { .host_addr = world_addr(0),
                                          .handle = m.handle,
                                          .ref = ref_cases[i].ref,
                                          .dom = ref_cases[i].dom };

        EXPECT_EQ(call(f, f->mapper, FH_GNTTABOP_unmap_ref, &op, 1), 0);
        EXPECT_EQ(op.status, ref_cases[i].want, "%s", ref_cases[i].name);
        EXPECT(!world_check(&f->w), "%s: %s", ref_cases[i].name,
               world_check(&f->w));
    }
    EXPECT_EQ(f->granter->refs, 0);
}

/* ---------------------------------------------------------- entry_flags -- */

static void
entry_flags__say_whether_a_notification_will_come(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    struct fh_gnttab_entry_flags ops[4] = {
        { .ref = 8, .flags = FH_GNT_ENTRY_CLOSED | FH_GNT_ENTRY_NOTIFY },
        { .ref = 9, .flags = FH_GNT_ENTRY_CLOSED, .in_use = 77 },
        { .ref = 10, .flags = 4, .in_use = 77 },
        { .ref = 512, .in_use = 77 },
    };
    struct gnttab_map_grant_ref more = { .dom = 1, .ref = 8,
                                         .flags = GNTMAP_host_map,
                                         .host_addr = world_addr(1) };

    EXPECT_EQ(call(f, f->granter, FH_GNTTABOP_entry_flags, ops, 4), 0);
    EXPECT_EQ(ops[0].status, 0);
    EXPECT_EQ(ops[0].in_use, 1);
    EXPECT_EQ(ops[1].status, 0);
    EXPECT_EQ(ops[1].in_use, 0);
    EXPECT_EQ(ops[2].status, GNTST_general_error, "no such flag");
    EXPECT_EQ(ops[2].in_use, 77);
    EXPECT_EQ(ops[3].status, GNTST_bad_gntref);
    EXPECT_EQ(ops[3].in_use, 77);

    EXPECT_EQ(call(f, f->mapper, GNTTABOP_map_grant_ref, &more, 1), 0);
    EXPECT_EQ(more.status, GNTST_general_error, "no new pins");
    EXPECT_EQ(f->granter->kicks, 0);
    EXPECT_EQ(unmap(f, f->mapper, m.handle, 0, 0), 0);
    EXPECT_EQ(f->granter->kicks, 1);
    EXPECT_EQ(f->granter->kicked_ref, 8);
    ops[0].flags = 0;
    EXPECT_EQ(call(f, f->granter, FH_GNTTABOP_entry_flags, ops, 1), 0);
    EXPECT_EQ(ops[0].in_use, 0);
    m = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    EXPECT_EQ(unmap(f, f->mapper, m.handle, 0, 0), 0);
    EXPECT_EQ(f->granter->kicks, 1, "asked for no more");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* ---------------------------------------------------------- cache_flush -- */

static const struct {
    const char *name;
    struct gnttab_cache_flush op;
    long want;
} cache_cases[] = {
    { "own page",
      { .a.dev_bus_addr = 0x1020000, .length = 4096, .op = 3 }, 0 },
    { "the last byte",
      { .a.dev_bus_addr = 0x1020000, .offset = 4095, .length = 1, .op = 1 },
      0 },
    { "bits below the page mean nothing",
      { .a.dev_bus_addr = 0x1020fff, .length = 1, .op = 1 }, 0 },
    { "nothing of it", { .a.dev_bus_addr = 0x1020000, .op = 1 }, 0 },
    { "nothing to do", { .a.dev_bus_addr = 0x1020000, .length = 1 }, 0 },
    { "beyond the end (XSA-447)",
      { .a.dev_bus_addr = 0x1020000, .offset = 1, .length = 4096, .op = 1 },
      FH_EINVAL },
    { "wraps 16 bits (XSA-447)",
      { .a.dev_bus_addr = 0x1020000, .offset = 0xfff, .length = 0xffff,
        .op = 1 }, FH_EINVAL },
    { "offset of another page",
      { .a.dev_bus_addr = 0x1020000, .offset = 4096, .op = 1 }, FH_EINVAL },
    { "no such operation",
      { .a.dev_bus_addr = 0x1020000, .length = 1, .op = 4 }, FH_EINVAL },
    { "by reference",
      { .length = 1, .op = 1 | GNTTAB_CACHE_SOURCE_GREF }, FH_EOPNOTSUPP },
    { "nobody's page (XSA-232)",
      { .a.dev_bus_addr = 0x1100000, .length = 1, .op = 1 }, FH_EPERM },
    { "no memory there",
      { .a.dev_bus_addr = ~0ull, .length = 1, .op = 1 }, FH_EPERM },
    { "a page that is not mapped",
      { .a.dev_bus_addr = 0x1000000, .length = 1, .op = 1 }, FH_EINVAL },
};

static void
cache_flush__answers_as_the_table_says(void **state)
{
    struct fixture *f = *state;

    f->w.iommu = true;
    for (size_t i = 0; i < FH_ARRAY_SIZE(cache_cases); i++) {
        struct gnttab_cache_flush op = cache_cases[i].op;
        const bool runs = !cache_cases[i].want && op.length && op.op;

        f->w.cache.calls = 0;
        EXPECT_EQ(call(f, f->mapper, GNTTABOP_cache_flush, &op, 1),
                  cache_cases[i].want, "%s", cache_cases[i].name);
        EXPECT_EQ(f->w.cache.calls, runs, "%s", cache_cases[i].name);
        EXPECT(!world_check(&f->w), "%s: %s", cache_cases[i].name,
               world_check(&f->w));
        if (runs)
            EXPECT(f->w.cache.mfn == 0x1020 &&
                       f->w.cache.offset == op.offset &&
                       f->w.cache.n == op.length && f->w.cache.op == op.op,
                   "%s", cache_cases[i].name);
    }
}

static void
cache_flush__of_a_mapped_page_while_it_is_mapped(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m;
    struct gnttab_cache_flush op = { .length = 64, .op = GNTTAB_CACHE_CLEAN };

    f->w.iommu = true;
    m = map(f, f->mapper, 8, GNTMAP_host_map, 0);
    op.a.dev_bus_addr = m.dev_bus_addr;
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_cache_flush, &op, 1), 0);
    EXPECT_EQ(f->w.cache.calls, 1);
    EXPECT_EQ(call(f, f->hvm, GNTTABOP_cache_flush, &op, 1), FH_EINVAL,
              "somebody else's mapping");
    EXPECT_EQ(call(f, f->granter, GNTTABOP_cache_flush, &op, 1), 0, "owner");
    EXPECT_EQ(unmap(f, f->mapper, m.handle, 0, 0), 0);
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_cache_flush, &op, 1), FH_EINVAL);
    for (uint64_t k = 0; k < 3; k++) {
        f->w.calls = 0;
        f->w.fail_at = k; /* frame_owner, may, cache_flush */
        EXPECT(call(f, f->granter, GNTTABOP_cache_flush, &op, 1) < 0);
        f->w.fail_at = UINT64_MAX;
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    }
    f->w.ops.cache_flush = NULL;
    EXPECT_EQ(call(f, f->granter, GNTTABOP_cache_flush, &op, 1), FH_ENOSYS,
              "as on x86");
}

/* Continuation bits are legal here, and say nothing: a flush is one step. */
static void
cache_flush__takes_continuation_bits_and_ends_at_an_error(void **state)
{
    struct fixture *f = *state;
    struct gnttab_cache_flush ops[3] = {
        { .a.dev_bus_addr = 0x1020000, .length = 1, .op = 1 },
        { .a.dev_bus_addr = 0x1020000, .length = 1, .op = 4 },
        { .a.dev_bus_addr = 0x1020000, .length = 1, .op = 1 },
    };
    struct fh_gnt_call c = { .cmd = GNTTABOP_cache_flush | 0xabcdeu << 12,
                             .arg = ops, .count = 3 };

    EXPECT_EQ(fh_gnt_hypercall(&f->ctx, &f->mapper->gnt, &c), FH_EINVAL);
    EXPECT_EQ(f->w.cache.calls, 1);
    EXPECT_EQ(c.count, 2, "where it stopped");
}

/* XSA-448 and what Xen hardened in 2024. */
static void
copy__of_nothing_looks_at_nothing(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy op;

    memset(&op, 0xff, sizeof(op));
    op.len = 0;
    EXPECT_EQ(call(f, f->mapper, GNTTABOP_copy, &op, 1), 0);
    EXPECT_EQ(op.status, 0);
}

/* XSA-224: what one element took out is released, whatever the next come to. */
static void
unmap__finishes_what_it_began_whatever_comes_next(void **state)
{
    struct fixture *f = *state;
    const uint32_t both = GNTMAP_host_map | GNTMAP_device_map;
    struct gnttab_map_grant_ref m = map(f, f->mapper, 8, both, 0);
    struct gnttab_map_grant_ref k = map(f, f->mapper, 9, both, 1);
    struct gnttab_unmap_grant_ref ops[3] = {
        { .handle = m.handle, .host_addr = world_addr(0),
          .dev_bus_addr = m.dev_bus_addr },
        { .handle = UINT32_MAX, .host_addr = world_addr(1) },
        { .handle = k.handle, .host_addr = world_addr(1),
          .dev_bus_addr = k.dev_bus_addr | 1 },
    };

    EXPECT_EQ(call(f, f->mapper, GNTTABOP_unmap_grant_ref, ops, 3), 0);
    EXPECT_EQ(ops[0].status, 0);
    EXPECT_EQ(ops[1].status, GNTST_bad_handle);
    EXPECT_EQ(ops[2].status, GNTST_bad_dev_addr, "all of its bits count");
    EXPECT(f->mapper->ptes[1].word, "refused before anything was taken out");
    EXPECT_EQ(f->granter->table[8].flags, GTF_permit_access);
    EXPECT_EQ(f->granter->refs, 1);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
histogram__counts_entries_by_their_pins(void **state)
{
    struct fixture *f = *state;
    const uint32_t pins[] = { 1, 2, 3, 4, 5, 8, 9 };
    const uint32_t bucket[] = { 1, 2, 3, 3, 4, 4, 5 };
    uint64_t want[FH_GNT_HISTOGRAM_BUCKETS] = { 0 };
    struct fh_gnt_histogram h = { 0 };
    uint32_t cursor = 0, steps = 0, slot = 0;

    want[0] = 512 - FH_ARRAY_SIZE(pins);
    for (size_t i = 0; i < FH_ARRAY_SIZE(pins); i++) {
        want[bucket[i]]++;
        for (uint32_t n = 0; n < pins[i]; n++, slot++)
            map(f, f->mapper, (uint32_t)(8 + i),
                GNTMAP_host_map | (n & 1 ? GNTMAP_readonly : 0), slot);
    }
    while (fh_gnt_histogram(&f->granter->gnt, 100, &cursor, &h))
        steps++;
    EXPECT_EQ(steps, 5);
    EXPECT(!memcmp(h.entries, want, sizeof(want)));
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(hypercall__refuses_whole_calls_as_the_table_says),
        TEST(hypercall__looks_at_the_first_version_only),
        TEST(compat__lists_have_the_callers_width),
        TEST(replace__puts_another_page_in_the_place),
        TEST(duplicate__leaves_the_other_page_where_it_was),
        TEST(replace__is_for_pv_and_linear_addresses),
        TEST(replace__takes_only_the_mapping_that_it_names),
        TEST(replace__flushes_for_either_page),
        TEST(unmap_ref__wants_handle_and_grant_to_agree),
        TEST(entry_flags__say_whether_a_notification_will_come),
        TEST(cache_flush__answers_as_the_table_says),
        TEST(cache_flush__of_a_mapped_page_while_it_is_mapped),
        TEST(cache_flush__takes_continuation_bits_and_ends_at_an_error),
        TEST(copy__of_nothing_looks_at_nothing),
        TEST(unmap__finishes_what_it_began_whatever_comes_next),
        TEST(histogram__counts_entries_by_their_pins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
