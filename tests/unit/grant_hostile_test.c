/* SPDX-License-Identifier: MIT */
/*
 * A granter and a caller that rewrite what they share with the engine between
 * any two of its accesses.  The engine is compiled with grant/hook.h here.
 */
#include "grant/world.h"

#include <string.h>

#include <freehold/grant_ext.h>

#include "expect.h"
#include "grant/hook.h"
#include "grant/internal.h"

#define REF 8

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *granter, *mapper, *inner;
};

static struct fixture f;

/* What the hook does: before the access number @at to the entry, write @to. */
static struct {
    bool armed;
    uint32_t accesses, at;
    grant_entry_v1_t to;
    bool always_flip; /* make every compare-and-swap lose */
    uint32_t reads_of_word, reads_of_frame, swaps, wide;
    /* the same for a version 2 table, or for the entry behind a transitive one */
    enum { HOOK_V1, HOOK_V2, HOOK_INNER } target;
    grant_entry_v2_t to2;
    uint16_t status;
    uint32_t reads_of_window, marks;
    /* the caller's array */
    uint8_t *array;
    size_t array_bytes;
    const void *scribble_from; /* seen once copied: garbage from then on */
    size_t scribble_bytes;
} hook;

static void
hook_on_entry(enum grant_access what, const uint8_t *p)
{
    grant_entry_v1_t *e = &f.granter->table[REF];

    if (hook.accesses++ == hook.at)
        *e = hook.to;
    if (hook.always_flip && what == GRANT_RMW)
        e->flags ^= GTF_PWT;
    if (what == GRANT_RMW)
        hook.swaps++;
    else if (what == GRANT_READ && p == (uint8_t *)e)
        hook.reads_of_word++;
    else if (what == GRANT_READ && p == (uint8_t *)&e->frame)
        hook.reads_of_frame++;
    else
        hook.wide++; /* anything else has no business here */
}

/* Any access of the engine to a version 2 entry or its status word. */
static void
hook_on_v2(enum grant_access what, const uint8_t *p)
{
    grant_entry_v2_t *e = &f.granter->table2[REF];

    if (hook.accesses++ == hook.at) {
        *e = hook.to2;
        f.granter->status[REF] = hook.status;
    }
    if (hook.always_flip && what == GRANT_RMW)
        e->hdr.domid ^= 1;
    if (p == (uint8_t *)&f.granter->status[REF])
        hook.marks++;
    else if (what != GRANT_READ)
        hook.wide++; /* the entry itself is the granter's alone */
    else if (p == (uint8_t *)e)
        hook.reads_of_word++;
    else if (p == (uint8_t *)&e->full_page.frame)
        hook.reads_of_frame++;
    else
        hook.reads_of_window++;
}

/* The caller makes garbage of an element as soon as it was read. */
static void
hook_on_array(enum grant_access what, const uint8_t *p)
{
    if (hook.scribble_from)
        memset((void *)(uintptr_t)hook.scribble_from, 0xa5,
               hook.scribble_bytes);
    hook.scribble_from = what == GRANT_COPY_IN ? p : NULL;
}

void
grant_hook(enum grant_access what, const void *p)
{
    const uint8_t *e = (uint8_t *)&f.granter->table[REF], *at = p;
    const bool in_array =
        hook.array && at >= hook.array && at < hook.array + hook.array_bytes;

    const uint8_t *e2 = (uint8_t *)&f.granter->table2[REF];

    if (hook.armed && hook.target == HOOK_V1 && at >= e &&
        at < e + sizeof(grant_entry_v1_t))
        hook_on_entry(what, at);
    if (hook.armed && hook.target == HOOK_V2 &&
        ((at >= e2 && at < e2 + sizeof(grant_entry_v2_t)) ||
         at == (uint8_t *)&f.granter->status[REF]))
        hook_on_v2(what, at);
    if (hook.armed && hook.target == HOOK_INNER &&
        at >= (uint8_t *)&f.inner->table[REF] &&
        at < (uint8_t *)&f.inner->table[REF + 1] &&
        hook.accesses++ == hook.at)
        f.inner->table[REF] = hook.to;
    if (in_array || (hook.array && hook.scribble_from))
        hook_on_array(what, at);
}

static int
setup(void **state)
{
    memset(&hook, 0, sizeof(hook));
    world_init(&f.w);
    f.granter = world_add(&f.w, 1, 0x1000, 16, 1, 8, 8, 0);
    f.mapper = world_add(&f.w, 2, 0x1020, 16, 1, 16, 16, 0);
    f.inner = world_add(&f.w, 3, 0x1040, 16, 1, 8, 8, 0);
    f.granter->guest_lies = true;
    f.inner->guest_lies = true;
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    return 0;
}

static int
teardown(void **state)
{
    world_fini(&f.w);
    return 0;
}

static const grant_entry_v1_t variants[] = {
    { .flags = 0 },
    { .flags = GTF_permit_access, .domid = 2, .frame = 0x1001 },
    { .flags = GTF_permit_access | GTF_readonly, .domid = 2, .frame = 0x1000 },
    { .flags = GTF_permit_access, .domid = 3, .frame = 0x1000 },
    { .flags = GTF_permit_access, .domid = 2, .frame = 0x1020 },
    { .flags = GTF_permit_access, .domid = 2, .frame = 0xffffffff },
    { .flags = GTF_permit_access | GTF_sub_page, .domid = 2, .frame = 0x1000 },
    { .flags = GTF_accept_transfer, .domid = 2, .frame = 0x1000 },
    { .flags = GTF_transitive, .domid = 2, .frame = 0x1000 },
    { .flags = GTF_permit_access | GTF_reading | GTF_writing, .domid = 2,
      .frame = 0x1002 },
    { .flags = 0xffff, .domid = 0xffff, .frame = 0xffffffff },
};

static int16_t
map(uint32_t flags, uint32_t slot, uint32_t *handle)
{
    struct gnttab_map_grant_ref op = { .dom = 1, .ref = REF, .flags = flags,
                                       .host_addr = world_addr(slot) };
    const int16_t r = fh_gnt_map_one(&f.ctx, &f.mapper->gnt, &op);

    *handle = r ? UINT32_MAX : op.handle;
    EXPECT(r <= 0 && r >= GNTST_no_space, "I12");
    return r;
}

static int16_t
copy(bool in)
{
    struct gnttab_copy op = { .len = 64 };
    struct gnttab_copy_ptr grant = { .domid = 1, .u.ref = REF };
    struct gnttab_copy_ptr own = { .domid = DOMID_SELF, .u.gmfn = 0x1020 };

    op.flags = in ? GNTCOPY_source_gref : GNTCOPY_dest_gref;
    op.source = in ? grant : own;
    op.dest = in ? own : grant;
    return fh_gnt_copy_one(&f.ctx, &f.mapper->gnt, &op);
}

static void
unmap(uint32_t handle, uint32_t slot)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot) };

    if (handle != UINT32_MAX)
        EXPECT_EQ(fh_gnt_unmap_one(&f.ctx, &f.mapper->gnt, &op), 0);
}

/* Every transition of an entry, once. */
static void
script(size_t variant)
{
    uint32_t ro, rw, again;

    (void)map(GNTMAP_host_map | GNTMAP_readonly, 0, &ro);
    EXPECT(!world_check(&f.w), "%zu/%u: %s", variant, hook.at,
           world_check(&f.w));
    (void)map(GNTMAP_host_map, 1, &rw); /* upgrade */
    EXPECT(!world_check(&f.w), "%zu/%u: %s", variant, hook.at,
           world_check(&f.w));
    (void)copy(true);
    (void)copy(false);
    unmap(rw, 1);
    EXPECT(!world_check(&f.w), "%zu/%u: %s", variant, hook.at,
           world_check(&f.w));
    unmap(ro, 0);
    (void)copy(false);
    (void)map(GNTMAP_host_map, 2, &again);
    unmap(again, 2);
    EXPECT(!world_check(&f.w), "%zu/%u: %s", variant, hook.at,
           world_check(&f.w));
    EXPECT_EQ(f.granter->refs, 0, "%zu/%u", variant, hook.at);
}

static void
granter__that_rewrites_its_entry_before_any_access(void **state)
{
    for (size_t v = 0; v < FH_ARRAY_SIZE(variants); v++) {
        uint32_t at = 0;

        do {
            fh_gnt_v1_grant(f.granter->table, REF, 2, 0x1000, false);
            hook.armed = true;
            hook.accesses = 0;
            hook.at = at++;
            hook.to = variants[v];
            script(v);
            hook.armed = false;
        } while (hook.accesses > hook.at);
        EXPECT(at > 10, "the script touches the entry: %u", at);
    }
    EXPECT_EQ(hook.wide, 0, "16 and 32 bits only");
}

/* R1, I9: one read of each word decides. */
static void
granter__is_read_once_per_decision(void **state)
{
    uint32_t h, h2;

    fh_gnt_v1_grant(f.granter->table, REF, 2, 0x1000, false);
    hook.armed = true;
    hook.at = UINT32_MAX;
    EXPECT_EQ(map(GNTMAP_host_map | GNTMAP_readonly, 0, &h), 0);
    EXPECT_EQ(hook.reads_of_word, 1);
    EXPECT_EQ(hook.reads_of_frame, 1);
    EXPECT_EQ(hook.swaps, 1);
    EXPECT_EQ(map(GNTMAP_host_map | GNTMAP_readonly, 1, &h2), 0);
    EXPECT_EQ(hook.accesses, 3, "pinned: the entry is not looked at");
    EXPECT_EQ(copy(true), 0);
    EXPECT_EQ(hook.accesses, 3, "nor by a copy");
    unmap(h2, 1);
    EXPECT_EQ(hook.accesses, 3);
    EXPECT_EQ(map(GNTMAP_host_map, 1, &h2), 0);
    EXPECT_EQ(hook.reads_of_word, 2, "for the first writer, flags again");
    EXPECT_EQ(hook.reads_of_frame, 1, "and never the frame");
    unmap(h2, 1);
    unmap(h, 0);
    EXPECT_EQ(hook.swaps, 4, "writing, then reading cleared");
}

/* XSA-295. */
static void
granter__that_never_stops_changing_gets_an_error(void **state)
{
    uint32_t h;

    fh_gnt_v1_grant(f.granter->table, REF, 2, 0x1000, false);
    hook.armed = true;
    hook.at = UINT32_MAX;
    hook.always_flip = true;
    EXPECT_EQ(map(GNTMAP_host_map, 0, &h), GNTST_general_error);
    EXPECT_EQ(hook.swaps, FH_GNT_SHARED_TRIES);
    hook.always_flip = false;
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    EXPECT_EQ(map(GNTMAP_host_map, 0, &h), 0);
    unmap(h, 0);
}

/* ------------------------------------------------------------- version 2 -- */

static const grant_entry_v2_t variants2[] = {
    { .full_page = { .hdr = { 0, 0 } } },
    { .full_page = { .hdr = { GTF_permit_access, 2 }, .frame = 0x1001 } },
    { .full_page = { .hdr = { GTF_permit_access | GTF_readonly, 2 },
                     .frame = 0x1000 } },
    { .full_page = { .hdr = { GTF_permit_access, 3 }, .frame = 0x1000 } },
    { .full_page = { .hdr = { GTF_permit_access, 2 }, .frame = ~0ull } },
    { .full_page = { .hdr = { GTF_permit_access, 2 }, .frame = 0x1020 } },
    { .sub_page = { .hdr = { GTF_permit_access | GTF_sub_page, 2 },
                    .page_off = 8, .length = 100, .frame = 0x1002 } },
    { .sub_page = { .hdr = { GTF_permit_access | GTF_sub_page, 2 },
                    .page_off = 0xffff, .length = 0xffff, .frame = 0x1002 } },
    { .transitive = { .hdr = { GTF_transitive, 2 }, .trans_domid = 3,
                      .gref = REF } },
    { .transitive = { .hdr = { GTF_transitive, 2 }, .trans_domid = 1,
                      .gref = REF } },
    { .transitive = { .hdr = { GTF_transitive, 2 }, .trans_domid = 3,
                      .gref = ~0u } },
    { .full_page = { .hdr = { GTF_accept_transfer, 2 }, .frame = 0x1000 } },
    { .full_page = { .hdr = { 0xffff, 0xffff }, .frame = ~0ull } },
};

static void
begin_v2(void)
{
    struct gnttab_set_version op = { .version = 2 };
    uint32_t done;

    f.granter->gnt.flags |= FH_GNT_DOM_TRANSITIVE;
    EXPECT_EQ(fh_gnt_op_set_version(&f.ctx, &f.granter->gnt, &op, 1, &done),
              0);
    fh_gnt_v1_grant(f.inner->table, REF, 1, 0x1041, false);
}

/* From each kind of entry to each other one, before each access, with status
 * words that say nothing and everything. */
static void
granter_v2__that_rewrites_its_entry_before_any_access(void **state)
{
    const size_t n = FH_ARRAY_SIZE(variants2);

    begin_v2();
    hook.target = HOOK_V2;
    for (size_t v = 0; v < n * n; v++) {
        uint32_t at = 0;

        do {
            f.granter->table2[REF] = variants2[v / n];
            f.granter->status[REF] = 0;
            hook.armed = true;
            hook.accesses = 0;
            hook.at = at++;
            hook.to2 = variants2[v % n];
            hook.status = v % 2 ? 0 : 0xffff;
            script(v);
            hook.armed = false;
            EXPECT_EQ(f.inner->table[REF].flags, GTF_permit_access);
            EXPECT_EQ(f.inner->refs, 0);
        } while (hook.accesses > hook.at);
    }
    EXPECT_EQ(hook.wide, 0, "the entry is never written");
    EXPECT(hook.reads_of_window > 100 && hook.marks > 1000, "all was seen");
}

/* The same by the domain behind a transitive entry. */
static void
granter_v2__whose_inner_granter_rewrites_his_entry(void **state)
{
    begin_v2();
    hook.target = HOOK_INNER;
    fh_gnt_v2_grant_transitive(f.granter->table2, REF, 2, 3, REF, false);
    for (size_t v = 0; v < FH_ARRAY_SIZE(variants); v++) {
        uint32_t at = 0;

        do {
            fh_gnt_v1_grant(f.inner->table, REF, 1, 0x1041, false);
            hook.armed = true;
            hook.accesses = 0;
            hook.at = at++;
            hook.to = variants[v];
            hook.to.domid = v % 2 ? 1 : hook.to.domid;
            script(v);
            hook.armed = false;
            EXPECT_EQ(f.granter->status[REF], 0);
            EXPECT_EQ(f.inner->refs, 0);
        } while (hook.accesses > hook.at);
        EXPECT(at > 10, "the script touches the entry: %u", at);
    }
}

/* R1, I9, but for the header, which is looked at once more after the mark. */
static void
granter_v2__is_read_once_per_decision_xsa_500(void **state)
{
    uint32_t h, h2;

    begin_v2();
    hook.target = HOOK_V2;
    fh_gnt_v2_grant(f.granter->table2, REF, 2, 0x1000, false);
    hook.armed = true;
    hook.at = UINT32_MAX;
    EXPECT_EQ(map(GNTMAP_host_map | GNTMAP_readonly, 0, &h), 0);
    EXPECT_EQ(hook.reads_of_word, 2);
    EXPECT_EQ(hook.reads_of_frame, 1);
    EXPECT_EQ(hook.marks, 1);
    EXPECT_EQ(map(GNTMAP_host_map | GNTMAP_readonly, 1, &h2), 0);
    EXPECT_EQ(copy(true), 0);
    unmap(h2, 1);
    EXPECT_EQ(hook.accesses, 4, "pinned: the entry is not looked at");
    EXPECT_EQ(map(GNTMAP_host_map, 1, &h2), 0);
    EXPECT_EQ(hook.reads_of_word, 4, "for the first writer, the header again");
    EXPECT_EQ(hook.reads_of_frame, 1, "and never the frame");
    unmap(h2, 1);
    unmap(h, 0);
    EXPECT_EQ(hook.marks, 4, "writing, then reading cleared");
    EXPECT_EQ(hook.reads_of_window, 0);
}

/* XSA-295: no loop, however fast the header changes. */
static void
granter_v2__that_never_stops_changing_costs_two_reads_xsa_295(void **state)
{
    uint32_t h;

    begin_v2();
    hook.target = HOOK_V2;
    fh_gnt_v2_grant(f.granter->table2, REF, 2, 0x1000, false);
    hook.armed = true;
    hook.at = UINT32_MAX;
    hook.always_flip = true;
    EXPECT_EQ(map(GNTMAP_host_map, 0, &h), GNTST_general_error);
    EXPECT_EQ(hook.reads_of_word, 2);
    EXPECT_EQ(hook.reads_of_frame, 0);
    hook.always_flip = false;
    EXPECT_EQ(f.granter->status[REF], 0, "unmarked");
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
}

/* A withdrawal between the first look and the mark: refused, and unmarked; one
 * after the mark is seen by the granter. */
static void
granter_v2__that_withdraws_while_it_is_pinned(void **state)
{
    uint32_t h;

    begin_v2();
    hook.target = HOOK_V2;
    for (uint32_t at = 0; at < 5; at++) {
        fh_gnt_v2_grant(f.granter->table2, REF, 2, 0x1000, false);
        hook.armed = true;
        hook.accesses = 0;
        hook.at = at;
        hook.to2 = (grant_entry_v2_t){ .full_page.frame = 0x1000 };
        hook.status = at > 1 ? GTF_reading | GTF_writing : 0;
        const int16_t r = map(GNTMAP_host_map, 0, &h);

        hook.armed = false;
        EXPECT_EQ(r, at > 2 ? 0 : GNTST_general_error, "%u", at);
        EXPECT_EQ(f.granter->status[REF],
                  at > 2 ? GTF_reading | GTF_writing : 0, "%u", at);
        unmap(h, 0);
        EXPECT_EQ(f.granter->status[REF], 0);
    }
}

#define ARRAY(a, element)                                                      \
    do {                                                                       \
        hook.array = (uint8_t *)(a);                                           \
        hook.array_bytes = sizeof(a);                                          \
        hook.scribble_bytes = (element);                                       \
    } while (0)

/* Elements turn to garbage as soon as they were copied in; all that may be
 * seen of it is that the status lands in the garbage. */
static void
caller__that_rewrites_its_arguments(void **state)
{
    struct gnttab_map_grant_ref maps[4];
    struct gnttab_unmap_grant_ref unmaps[4];
    struct gnttab_copy copies[4];
    uint32_t done;

    fh_gnt_v1_grant(f.granter->table, REF, 2, 0x1000, false);
    for (uint32_t i = 0; i < 4; i++) {
        maps[i] = (struct gnttab_map_grant_ref){
            .dom = 1, .ref = REF, .flags = GNTMAP_host_map,
            .host_addr = world_addr(i)
        };
        copies[i] = (struct gnttab_copy){
            .source = { .domid = 1, .u.ref = REF },
            .dest = { .domid = DOMID_SELF, .u.gmfn = 0x1020 },
            .len = 64, .flags = GNTCOPY_source_gref
        };
    }
    ARRAY(maps, sizeof(maps[0]));
    EXPECT_EQ(fh_gnt_op_map(&f.ctx, &f.mapper->gnt, maps, 4, &done), 0);
    hook.array = NULL;
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_EQ(maps[i].status, 0);
        EXPECT_EQ(maps[i].ref, 0xa5a5a5a5, "it was garbage, really");
        unmaps[i] = (struct gnttab_unmap_grant_ref){
            .handle = maps[i].handle, .host_addr = world_addr(i)
        };
    }
    hook.scribble_from = NULL;
    ARRAY(copies, sizeof(copies[0]));
    EXPECT_EQ(fh_gnt_op_copy(&f.ctx, &f.mapper->gnt, copies, 4, &done), 0);
    hook.array = NULL;
    hook.scribble_from = NULL;
    ARRAY(unmaps, sizeof(unmaps[0]));
    EXPECT_EQ(fh_gnt_op_unmap(&f.ctx, &f.mapper->gnt, unmaps, 4, &done), 0);
    hook.array = NULL;
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT_EQ(copies[i].status, 0);
        EXPECT_EQ(unmaps[i].status, 0);
    }
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    EXPECT_EQ(f.granter->refs, 0);
}

/* Every operation by the hypercall, in the layouts of 64 and of 32 bits, with
 * an array that turns to garbage once it was read.  The state stays whole. */
static void
caller__that_rewrites_any_array(void **state)
{
    static const uint32_t cmds[] = {
        GNTTABOP_map_grant_ref, GNTTABOP_unmap_grant_ref, GNTTABOP_transfer,
        GNTTABOP_copy, GNTTABOP_unmap_and_replace, GNTTABOP_swap_grant_ref,
        GNTTABOP_query_size, GNTTABOP_setup_table, GNTTABOP_get_status_frames,
        GNTTABOP_get_version, GNTTABOP_set_version, GNTTABOP_cache_flush,
        FH_GNTTABOP_unmap_and_duplicate, FH_GNTTABOP_unmap_ref,
        FH_GNTTABOP_entry_flags,
    };
    static uint64_t array[64];

    f.w.iommu = true;
    f.w.ops.guest_write = NULL; /* its lists would be anywhere */
    for (size_t i = 0; i < 2 * FH_ARRAY_SIZE(cmds); i++) {
        const uint32_t cmd = cmds[i / 2];

        for (int fill = 0; fill < 4; fill++) {
            struct fh_gnt_call c = { .cmd = cmd, .count = 1, .is_32bit = i & 1,
                                     .arg = (uint8_t *)array + 4 * (i & 1) };
            long r;

            memset(array, fill, sizeof(array));
            hook.array = (uint8_t *)array;
            hook.array_bytes = sizeof(array);
            hook.scribble_bytes = 16;
            do
                r = fh_gnt_hypercall(&f.ctx, &f.mapper->gnt, &c);
            while (r == FH_GNT_E_PREEMPTED);
            hook.array = NULL;
            hook.scribble_from = NULL;
            EXPECT(r <= 0, "%u: %ld", cmd, r);
            EXPECT(!world_check(&f.w), "%u: %s", cmd, world_check(&f.w));
        }
    }
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(granter__that_rewrites_its_entry_before_any_access),
        TEST(granter__is_read_once_per_decision),
        TEST(granter__that_never_stops_changing_gets_an_error),
        TEST(caller__that_rewrites_its_arguments),
        TEST(caller__that_rewrites_any_array),
        TEST(granter_v2__that_rewrites_its_entry_before_any_access),
        TEST(granter_v2__whose_inner_granter_rewrites_his_entry),
        TEST(granter_v2__is_read_once_per_decision_xsa_500),
        TEST(granter_v2__that_never_stops_changing_costs_two_reads_xsa_295),
        TEST(granter_v2__that_withdraws_while_it_is_pinned),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
