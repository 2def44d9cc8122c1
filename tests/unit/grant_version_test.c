/* SPDX-License-Identifier: MIT */
/*
 * The switch between the versions of a table, and what guests ask about tables:
 * every status as on Xen, and the advisories that concern them.
 */
#include "grant/three.h"

/* ------------------------------------------------------------ set_version -- */

static void
set_version__halves_the_table_and_clears_it(void **state)
{
    uint32_t h;

    fh_gnt_v1_grant(f.a->table, 300, 2, 0x1000, false);
    fh_gnt_v1_grant(f.a->table, 2, 2, 0x1001, false);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(fh_gnt_version(&f.a->gnt), 2);
    EXPECT_EQ(fh_gnt_status_frames(&f.a->gnt), 1);
    EXPECT_EQ(map(255, RO, 0, NULL), GNTST_general_error, "not granted");
    EXPECT_EQ(map(256, RO, 0, NULL), GNTST_bad_gntref, "not there");
    EXPECT_EQ(map(2, RO, 0, &h), 0, "reserved entries survive");
    EXPECT_EQ(set_version(f.a, 1), 0, "and may be pinned");
    EXPECT_EQ(f.a->table[2].flags, GTF_permit_access | GTF_reading);
    EXPECT_EQ(f.a->table[2].frame, 0x1001);
    EXPECT_EQ(fh_gnt_status_frames(&f.a->gnt), 0);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(f.a->status[2], GTF_reading);
    EXPECT_EQ(f.a->table2[2].hdr.flags, GTF_permit_access);
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(f.a->status[2], 0, "in the version that it is now");
    EXPECT_EQ(set_version(f.a, 1), 0);
    EXPECT_EQ(map(300, RO, 0, NULL), GNTST_general_error, "cleared");
    EXPECT_EQ(map(512, RO, 0, NULL), GNTST_bad_gntref);
}

static void
set_version__refuses_what_it_cannot_do(void **state)
{
    uint32_t h;

    EXPECT_EQ(set_version(f.a, 0), FH_EINVAL);
    EXPECT_EQ(set_version(f.a, 3), FH_EINVAL);
    EXPECT_EQ(set_version(f.a, 1), 0, "as it is");
    fh_gnt_v1_grant(f.a->table, REF, 2, 0x1000, false);
    EXPECT_EQ(map(REF, RO, 0, &h), 0);
    EXPECT_EQ(set_version(f.a, 2), FH_EBUSY);
    EXPECT_EQ(fh_gnt_version(&f.a->gnt), 1);
    EXPECT_EQ(f.a->table[REF].frame, 0x1000, "and nothing changed");
    EXPECT_EQ(set_version(f.a, 1), 0, "as it is, pinned or not");
    EXPECT_EQ(unmap(h, 0), 0);
    f.a->refuses_to_grow = true;
    EXPECT_EQ(set_version(f.a, 2), FH_ENOMEM, "no status frames");
    EXPECT_EQ(f.a->table[REF].frame, 0x1000);
    EXPECT_EQ(map(REF, RO, 0, &h), 0, "and the table works");
    EXPECT_EQ(unmap(h, 0), 0);
    f.a->refuses_to_grow = false;
    EXPECT_EQ(set_version(f.a, 2), 0);
}

static void
set_version__sees_a_pin_far_down_the_table(void **state)
{
    uint32_t h;

    while (!world_grow(f.a))
        ;
    fh_gnt_v1_grant(f.a->table, 8000, 2, 0x1000, false);
    EXPECT_EQ(map(8000, RO, 0, &h), 0);
    EXPECT_EQ(set_version(f.a, 2), FH_EBUSY);
    EXPECT_EQ(f.a->table[8000].frame, 0x1000);
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(fh_gnt_status_frames(&f.a->gnt), 2);
    EXPECT_EQ(f.a->table[8000].frame, 0);
    EXPECT_EQ(map(4095, RO, 0, NULL), GNTST_general_error);
    EXPECT_EQ(map(4096, RO, 0, NULL), GNTST_bad_gntref);
}

/* XSA-268: version 2 where it is not supported. */
static void
set_version__is_gated_for_domains_without_version_2_xsa_268(void **state)
{
    struct world_domain *d =
        world_add(&f.w, 4, 0x1060, 4, 1, 8, 8, FH_GNT_DOM_V1_ONLY);

    EXPECT_EQ(set_version(d, 2), FH_ENOSYS);
    EXPECT_EQ(fh_gnt_version(&d->gnt), 1);
    EXPECT_EQ(set_version(d, 1), 0);
}

static const struct {
    const char *name;
    grant_entry_v2_t entry;
    long want;
} reserved_cases[] = {
    { "a page", { .full_page = { .hdr = { GTF_permit_access, 2 },
                                 .frame = 0x1000 } }, 0 },
    { "a high page", { .full_page = { .hdr = { GTF_permit_access, 2 },
                                      .frame = 1ull << 32 } }, FH_ERANGE },
    { "a window", { .sub_page = { .hdr = { GTF_permit_access | GTF_sub_page,
                                           2 }, .length = 9 } }, FH_ERANGE },
    { "transitive", { .transitive = { .hdr = { GTF_transitive, 2 } } },
      FH_ERANGE },
    { "nothing", { .full_page = { .hdr = { 0, 2 }, .frame = ~0ull } }, 0 },
};

static void
set_version__refuses_reserved_entries_that_v1_cannot_say(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(reserved_cases); i++) {
        EXPECT_EQ(set_version(f.a, 2), 0);
        f.a->table2[7] = reserved_cases[i].entry;
        fh_gnt_v2_grant(f.a->table2, REF, 2, 0x1000, false);
        EXPECT_EQ(set_version(f.a, 1), reserved_cases[i].want, "%s",
                  reserved_cases[i].name);
        if (reserved_cases[i].want)
            EXPECT_EQ(f.a->table2[REF].full_page.frame, 0x1000,
                      "%s: nothing changed", reserved_cases[i].name);
        f.a->table2[7] = (grant_entry_v2_t){ 0 };
        EXPECT_EQ(set_version(f.a, 1), 0);
    }
}

/* Stopped after every step; meanwhile pins have to wait, and it ends. */
static void
set_version__goes_on_where_it_stopped(void **state)
{
    uint32_t n = 0, h;
    long r;

    while (!world_grow(f.a))
        ;
    fh_gnt_v1_grant(f.a->table, 3, 2, 0x1000, false);
    fh_gnt_v1_grant(f.a->table, REF, 2, 0x1001, false);
    EXPECT_EQ(map(3, RO, 0, &h), 0);
    f.w.preempt_every = 1;
    while ((r = set_version(f.a, 2)) == FH_GNT_E_PREEMPTED) {
        n++;
        EXPECT_EQ(fh_gnt_version(&f.a->gnt), 1);
        EXPECT_EQ(map(REF, RO, 1, NULL), GNTST_eagain);
        EXPECT_EQ(map(3, RW, 1, NULL), GNTST_eagain, "an upgrade");
        EXPECT_EQ(set_version(f.a, 1), FH_EAGAIN, "one at a time");
    }
    EXPECT_EQ(r, 0);
    EXPECT(n > 80, "steps: %u", n);
    EXPECT_EQ(map(REF, RO, 1, NULL), GNTST_general_error, "cleared");
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(f.a->status[3], 0);
}

/* A pin that was given up while the table was switched. */
static void
set_version__gives_up_and_the_table_works_as_before(void **state)
{
    uint32_t h, h2;

    while (!world_grow(f.a))
        ;
    fh_gnt_v1_grant(f.a->table, 8000, 2, 0x1000, false);
    fh_gnt_v1_grant(f.a->table, REF, 2, 0x1001, false);
    EXPECT_EQ(map(8000, RO, 0, &h), 0);
    f.w.preempt_every = 1;
    EXPECT_EQ(set_version(f.a, 2), FH_GNT_E_PREEMPTED);
    EXPECT_EQ(map(8000, RO, 1, &h2), 0, "pinned: nobody looks at the version");
    EXPECT_EQ(unmap(h2, 1), 0);
    f.w.preempt_every = 0;
    EXPECT_EQ(set_version(f.a, 2), FH_EBUSY);
    EXPECT_EQ(map(REF, RW, 1, &h2), 0);
    EXPECT_EQ(f.a->table[REF].flags,
              GTF_permit_access | GTF_reading | GTF_writing);
    EXPECT_EQ(unmap(h2, 1), 0);
    EXPECT_EQ(unmap(h, 0), 0);
}

/* Another CPU switches while this one moves an entry: at the third call to the
 * embedder, which looks for the frame, its BUSY is set. */
struct switching {
    uint32_t calls;
    long result;
};

static void
switch_at_third_call(struct world *w, void *arg)
{
    struct switching *s = arg;

    if (++s->calls == 3)
        s->result = set_version(f.a, 2);
}

static void
set_version__does_not_wait_for_an_entry_that_moves(void **state)
{
    struct switching s = { 0 };
    uint32_t h, h3;

    fh_gnt_v1_grant(f.a->table, REF, 2, 0x1000, false);
    fh_gnt_v1_grant(f.a->table, 3, 2, 0x1001, false);
    f.w.hook = switch_at_third_call;
    f.w.hook_arg = &s;
    EXPECT_EQ(map(REF, RO, 0, &h), 0);
    EXPECT_EQ(s.result, FH_EAGAIN);
    EXPECT_EQ(unmap(h, 0), 0);
    s.calls = 0;
    EXPECT_EQ(map(3, RO, 0, &h3), 0);
    EXPECT_EQ(s.result, FH_GNT_E_PREEMPTED, "all but the commit is done");
    EXPECT_EQ(f.a->table[3].flags, GTF_permit_access | GTF_reading);
    f.w.hook = NULL;
    EXPECT_EQ(map(REF, RO, 0, &h), GNTST_eagain);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(f.a->status[3], GTF_reading);
    EXPECT_EQ(unmap(h3, 0), 0);
}

/* The granter rewrites a reserved entry after it was found representable. */
static void
set_version__looks_at_reserved_entries_again_when_it_commits(void **state)
{
    f.w.preempt_every = 1;
    EXPECT_EQ(set_version(f.c, 2), FH_GNT_E_PREEMPTED);
    f.w.preempt_every = 0;
    EXPECT_EQ(set_version(f.c, 2), 0);
    f.w.preempt_every = 1;
    for (int i = 0; i < 6; i++)
        EXPECT_EQ(set_version(f.c, 1), FH_GNT_E_PREEMPTED, "%d", i);
    f.c->table2[7].hdr.flags = GTF_transitive;
    f.w.preempt_every = 0;
    EXPECT_EQ(set_version(f.c, 1), FH_ERANGE);
    EXPECT_EQ(fh_gnt_version(&f.c->gnt), 2);
    f.c->table2[7].hdr.flags = 0;
    EXPECT_EQ(set_version(f.c, 1), 0);
}

/* ------------------------------------------------------- what guests ask -- */

static int16_t
setup_table(struct world_domain *d, uint16_t dom, uint32_t n, xen_pfn_t *list)
{
    struct gnttab_setup_table op = { .dom = dom, .nr_frames = n,
                                     .frame_list.p = list };
    uint32_t done;

    EXPECT_EQ(fh_gnt_op_setup_table(&f.ctx, &d->gnt, &op, 1, &done), 0);
    EXPECT_EQ(done, 1);
    return op.status;
}

static int16_t
status_frames(struct world_domain *d, uint16_t dom, uint32_t n, uint64_t *list)
{
    struct gnttab_get_status_frames op = { .dom = dom, .nr_frames = n,
                                           .frame_list.p = list };
    uint32_t done;

    EXPECT_EQ(fh_gnt_op_get_status_frames(&f.ctx, &d->gnt, &op, 1, &done), 0);
    return op.status;
}

/* XSA-26: frames are told to the guest when all of them are there. */
static void
setup_table__grows_then_tells_xsa_26(void **state)
{
    xen_pfn_t list[17];

    memset(list, 0x11, sizeof(list));
    f.a->refuses_to_grow = true;
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 3, list), GNTST_general_error);
    EXPECT_EQ(fh_gnt_table_frames(&f.a->gnt), 1, "size unchanged");
    EXPECT_EQ(list[0], 0x1111111111111111, "and nothing told");
    f.a->refuses_to_grow = false;
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 3, list), 0);
    EXPECT_EQ(fh_gnt_table_frames(&f.a->gnt), 3);
    for (uint32_t i = 0; i < 3; i++)
        EXPECT_EQ(list[i], WORLD_GRANT_GFN(1, i));
    EXPECT_EQ(list[3], 0x1111111111111111);
    EXPECT_EQ(setup_table(f.a, 1, 1, list), 0, "by its own name");
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 0, NULL), 0, "nothing to tell");
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 17, list), GNTST_general_error);
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 16, NULL), GNTST_bad_virt_addr);
    EXPECT_EQ(setup_table(f.a, 5, 1, list), GNTST_bad_domain);
    EXPECT_EQ(setup_table(f.a, DOMID_IO, 1, list), GNTST_bad_domain);
    f.w.calls = 0;
    f.w.fail_at = 0;
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 1, list), GNTST_permission_denied);
    f.w.fail_at = UINT64_MAX;
}

static void
setup_table__grows_the_status_frames_first_in_version_2(void **state)
{
    xen_pfn_t list[16];
    uint64_t status[2];
    uint32_t h;

    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 9, list), 0);
    EXPECT_EQ(fh_gnt_status_frames(&f.a->gnt), 2);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 2, status), 0);
    EXPECT_EQ(status[1], WORLD_STATUS_GFN(1, 1));
    fh_gnt_v2_grant(f.a->table2, 2048 + 255, 2, 0x1000, false);
    EXPECT_EQ(map(2048 + 255, RO, 0, &h), 0);
    EXPECT_EQ(f.a->status[2048 + 255], GTF_reading);
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(world_grow(f.a), 0);
    EXPECT_EQ(map(2048 + 256, RO, 0, NULL), GNTST_general_error);
}

/* An embedder that adds frames by itself: no status word, no entry. */
static void
table__in_version_2_ends_where_its_status_frames_do(void **state)
{
    xen_pfn_t list[16];

    EXPECT_EQ(set_version(f.a, 2), 0);
    while (fh_gnt_table_frames(&f.a->gnt) < 9)
        EXPECT_EQ(world_grow(f.a), 0);
    EXPECT_EQ(fh_gnt_status_frames(&f.a->gnt), 1);
    EXPECT_EQ(map(2047, RO, 0, NULL), GNTST_general_error);
    EXPECT_EQ(map(2048, RO, 0, NULL), GNTST_bad_gntref);
    EXPECT_EQ(setup_table(f.a, DOMID_SELF, 9, list), 0, "and adds them");
    EXPECT_EQ(map(2048, RO, 0, NULL), GNTST_general_error);
}

/* XSA-382: the length of this list is counted in status frames. */
static void
status_frames__are_counted_in_their_own_unit_xsa_382(void **state)
{
    uint64_t list[3] = { 7, 7, 7 };

    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 1, list), GNTST_general_error,
              "none in version 1");
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 0, list), 0);
    while (!world_grow(f.a))
        ;
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 3, list), GNTST_general_error);
    EXPECT_EQ(list[0], 7);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 2, list), 0);
    EXPECT_EQ(list[0], WORLD_STATUS_GFN(1, 0));
    EXPECT_EQ(list[1], WORLD_STATUS_GFN(1, 1));
    EXPECT_EQ(list[2], 7);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, UINT32_MAX, list),
              GNTST_general_error);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 1, NULL), GNTST_bad_virt_addr);
    EXPECT_EQ(status_frames(f.a, 5, 1, list), GNTST_bad_domain);
    f.w.calls = 0;
    f.w.fail_at = 0;
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 1, list),
              GNTST_permission_denied);
    f.w.fail_at = UINT64_MAX;
}

/* XSA-255, XSA-379, XSA-384, XSA-486: a status frame that a guest has mapped
 * stays what it is, however often the version changes. */
static void
status_frames__are_never_freed_xsa_255_379_384_486(void **state)
{
    uint64_t before, after;

    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(status_frames(f.a, DOMID_SELF, 1, &before), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(set_version(f.a, 1), 0);
        EXPECT_EQ(f.a->gnt.n_status, 1, "kept");
        f.a->status[100] = 0xffff;
        EXPECT_EQ(set_version(f.a, 2), 0);
        EXPECT_EQ(f.a->status[100], 0, "but clean");
        EXPECT_EQ(status_frames(f.a, DOMID_SELF, 1, &after), 0);
        EXPECT_EQ(after, before);
    }
}

static void
query_size__answers_for_whom_one_may_ask(void **state)
{
    struct gnttab_query_size op = { .dom = DOMID_SELF };
    uint32_t done;

    EXPECT_EQ(fh_gnt_op_query_size(&f.ctx, &f.a->gnt, &op, 1, &done), 0);
    EXPECT_EQ(op.status, 0);
    EXPECT_EQ(op.nr_frames, 1);
    EXPECT_EQ(op.max_nr_frames, 16);
    op = (struct gnttab_query_size){ .dom = 9, .nr_frames = 5 };
    EXPECT_EQ(fh_gnt_op_query_size(&f.ctx, &f.a->gnt, &op, 1, &done), 0);
    EXPECT_EQ(op.status, GNTST_bad_domain);
    EXPECT_EQ(op.nr_frames, 5, "untouched");
    op.dom = 2;
    f.w.calls = 0;
    f.w.fail_at = 1;
    EXPECT_EQ(fh_gnt_op_query_size(&f.ctx, &f.a->gnt, &op, 1, &done), 0);
    f.w.fail_at = UINT64_MAX;
    EXPECT_EQ(op.status, GNTST_permission_denied);
}

static void
get_version__answers_by_errno(void **state)
{
    struct gnttab_get_version op = { .dom = 1, .version = 9 };
    uint32_t done;

    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(fh_gnt_op_get_version(&f.ctx, &f.b->gnt, &op, 1, &done), 0);
    EXPECT_EQ(op.version, 2);
    op.dom = 9;
    EXPECT_EQ(fh_gnt_op_get_version(&f.ctx, &f.b->gnt, &op, 1, &done),
              FH_ESRCH);
    op.dom = DOMID_SELF;
    f.w.calls = 0;
    f.w.fail_at = 0;
    EXPECT_EQ(fh_gnt_op_get_version(&f.ctx, &f.b->gnt, &op, 1, &done),
              FH_EPERM);
    f.w.fail_at = UINT64_MAX;
    EXPECT_EQ(op.version, 2, "untouched");
}

static void
questions__are_asked_one_at_a_time(void **state)
{
    struct gnttab_query_size q[2] = { { .dom = 1 }, { .dom = 1 } };
    struct gnttab_setup_table s[2] = { { .dom = 1 }, { .dom = 1 } };
    struct gnttab_get_status_frames g[2] = { { .dom = 1 }, { .dom = 1 } };
    static const uint32_t counts[] = { 0, 2 };
    uint32_t done;

    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(fh_gnt_op_query_size(&f.ctx, &f.a->gnt, q, counts[i], &done),
                  FH_EINVAL);
        EXPECT_EQ(fh_gnt_op_setup_table(&f.ctx, &f.a->gnt, s, counts[i],
                                        &done), FH_EINVAL);
        EXPECT_EQ(fh_gnt_op_get_status_frames(&f.ctx, &f.a->gnt, g, counts[i],
                                              &done), FH_EINVAL);
        EXPECT_EQ(done, 0);
    }
}

/* ------------------------------------------------------------------- swap -- */

static int16_t
swap(uint32_t a, uint32_t b)
{
    struct gnttab_swap_grant_ref op = { .ref_a = a, .ref_b = b };
    uint32_t done;

    EXPECT_EQ(fh_gnt_op_swap(&f.ctx, &f.a->gnt, &op, 1, &done), 0);
    EXPECT_EQ(done, 1);
    return op.status;
}

/* XSA-18: both references, against the version that the table has. */
static void
swap__checks_both_references_xsa_18(void **state)
{
    EXPECT_EQ(swap(8, 511), 0);
    EXPECT_EQ(swap(8, 512), GNTST_bad_gntref);
    EXPECT_EQ(swap(512, 8), GNTST_bad_gntref);
    EXPECT_EQ(swap(512, 512), GNTST_bad_gntref);
    EXPECT_EQ(swap(UINT32_MAX, 8), GNTST_bad_gntref);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(swap(8, 255), 0);
    EXPECT_EQ(swap(8, 256), GNTST_bad_gntref);
    EXPECT_EQ(swap(300, 300), GNTST_bad_gntref);
}

static void
swap__exchanges_free_entries(void **state)
{
    const grant_entry_v1_t x = { GTF_permit_access, 2, 0x1000 };
    const grant_entry_v1_t y = { GTF_permit_access | GTF_readonly, 3, 0x1001 };
    uint32_t h;

    f.a->table[9] = x;
    f.a->table[10] = y;
    EXPECT_EQ(swap(9, 10), 0);
    assert_memory_equal(&f.a->table[9], &y, sizeof(y));
    assert_memory_equal(&f.a->table[10], &x, sizeof(x));
    EXPECT_EQ(map(10, RW, 0, &h), 0);
    EXPECT_EQ(swap(9, 10), GNTST_eagain);
    EXPECT_EQ(swap(10, 9), GNTST_eagain);
    EXPECT_EQ(swap(10, 10), 0, "with itself");
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(swap(10, 9), 0);
    assert_memory_equal(&f.a->table[9], &x, sizeof(x));
}

static void
swap__of_version_2_takes_the_status_along(void **state)
{
    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant(f.a->table2, 9, 2, 0x1000, false);
    fh_gnt_v2_grant_window(f.a->table2, 10, 3, 0x100000001, 8, 16, true);
    f.a->status[9] = 0x8000; /* the guest's own scribbling */
    EXPECT_EQ(swap(9, 10), 0);
    EXPECT_EQ(f.a->table2[9].sub_page.frame, 0x100000001);
    EXPECT_EQ(f.a->table2[9].sub_page.length, 16);
    EXPECT_EQ(f.a->table2[10].hdr.domid, 2);
    EXPECT_EQ(f.a->status[9], 0);
    EXPECT_EQ(f.a->status[10], 0x8000);
}

/* XSA-134: there is no time at which a table has no version. */
static void
swap__needs_no_set_version_before_xsa_134(void **state)
{
    EXPECT_EQ(fh_gnt_version(&f.c->gnt), 1);
    EXPECT_EQ(swap(8, 9), 0);
}

static void
swap__stops_between_elements(void **state)
{
    struct gnttab_swap_grant_ref ops[3] = { { .ref_a = 8, .ref_b = 9 },
                                            { .ref_a = 600, .ref_b = 9 },
                                            { .ref_a = 9, .ref_b = 10 } };
    uint32_t done, at = 0;

    f.a->table[8].frame = 5;
    f.w.preempt_every = 1;
    for (; at < 3; at += done) {
        const long r = fh_gnt_op_swap(&f.ctx, &f.a->gnt, ops + at, 3 - at,
                                      &done);

        EXPECT_EQ(done, 1);
        EXPECT_EQ(r, at < 2 ? FH_GNT_E_PREEMPTED : 0);
    }
    EXPECT_EQ(ops[1].status, GNTST_bad_gntref);
    EXPECT_EQ(f.a->table[10].frame, 5);
}

static void
swap__waits_for_nobody(void **state)
{
    struct fh_gnt_entry *e = fh_gnt_entry_at(&f.a->gnt, 9);

    e->word |= FH_ENTRY_BUSY; /* another CPU */
    EXPECT_EQ(swap(8, 9), GNTST_eagain);
    EXPECT_EQ(swap(9, 10), GNTST_eagain);
    EXPECT_EQ(fh_gnt_entry_at(&f.a->gnt, 8)->word, 0);
    e->word = 0;
    EXPECT_EQ(swap(8, 9), 0);
    f.w.preempt_every = 1;
    EXPECT_EQ(set_version(f.a, 2), FH_GNT_E_PREEMPTED);
    EXPECT_EQ(swap(8, 9), GNTST_eagain, "being switched");
    f.w.preempt_every = 0;
    EXPECT_EQ(set_version(f.a, 2), 0);
}

/* XSA-501: the version changes between a pin and its undoing. */
static void
unpin__after_a_switch_marks_the_present_version_xsa_501(void **state)
{
    uint32_t ro, rw;

    fh_gnt_v1_grant(f.a->table, 5, 2, 0x1000, false);
    EXPECT_EQ(map(5, RO, 0, &ro), 0);
    EXPECT_EQ(map(5, RW, 1, &rw), 0);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(f.a->status[5], GTF_reading | GTF_writing);
    EXPECT_EQ(unmap(rw, 1), 0);
    EXPECT_EQ(f.a->status[5], GTF_reading);
    EXPECT_EQ(set_version(f.a, 1), 0);
    EXPECT_EQ(f.a->table[5].flags, GTF_permit_access | GTF_reading);
    EXPECT_EQ(unmap(ro, 0), 0);
    EXPECT_EQ(f.a->table[5].flags, GTF_permit_access);
}

/* XSA-501: a reference that the new version does not have. */
static void
map__of_a_reference_beyond_the_present_version_xsa_501(void **state)
{
    fh_gnt_v1_grant(f.a->table, 511, 2, 0x1000, false);
    EXPECT_EQ(set_version(f.a, 2), 0);
    EXPECT_EQ(map(511, RO, 0, NULL), GNTST_bad_gntref);
    EXPECT_EQ(copy_in(f.b, 1, 511, 0, 1), GNTST_bad_gntref);
    EXPECT_EQ(fh_gnt_entry_set(&f.a->gnt, 511, FH_GNT_ENTRY_CLOSED), 0);
    EXPECT_EQ(map(511, RO, 0, NULL), GNTST_bad_gntref, "closed or not");
    EXPECT_EQ(fh_gnt_entry_set(&f.a->gnt, 511, 0), 0);
}

/* R4: what the guest writes into status words decides nothing. */
static void
status_words__written_by_the_guest_decide_nothing(void **state)
{
    uint32_t h;

    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant(f.a->table2, 3, 2, 0x1000, false);
    f.a->status[3] = GTF_reading | GTF_writing;
    f.a->status[REF] = 0xffff;
    EXPECT_EQ(set_version(f.a, 1), 0, "nothing is pinned");
    EXPECT_EQ(f.a->table[3].flags, GTF_permit_access, "nor shown as pinned");
    EXPECT_EQ(map(3, RW, 0, &h), 0);
    EXPECT_EQ(set_version(f.a, 2), 0);
    f.a->status[3] = 0;
    EXPECT_EQ(set_version(f.a, 1), 0);
    EXPECT_EQ(f.a->table[3].flags,
              GTF_permit_access | GTF_reading | GTF_writing);
    EXPECT_EQ(unmap(h, 0), 0);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(set_version__halves_the_table_and_clears_it),
        TEST(set_version__refuses_what_it_cannot_do),
        TEST(set_version__sees_a_pin_far_down_the_table),
        TEST(set_version__is_gated_for_domains_without_version_2_xsa_268),
        TEST(set_version__refuses_reserved_entries_that_v1_cannot_say),
        TEST(set_version__goes_on_where_it_stopped),
        TEST(set_version__gives_up_and_the_table_works_as_before),
        TEST(set_version__does_not_wait_for_an_entry_that_moves),
        TEST(set_version__looks_at_reserved_entries_again_when_it_commits),
        TEST(setup_table__grows_then_tells_xsa_26),
        TEST(setup_table__grows_the_status_frames_first_in_version_2),
        TEST(table__in_version_2_ends_where_its_status_frames_do),
        TEST(status_frames__are_counted_in_their_own_unit_xsa_382),
        TEST(status_frames__are_never_freed_xsa_255_379_384_486),
        TEST(query_size__answers_for_whom_one_may_ask),
        TEST(get_version__answers_by_errno),
        TEST(questions__are_asked_one_at_a_time),
        TEST(swap__checks_both_references_xsa_18),
        TEST(swap__exchanges_free_entries),
        TEST(swap__of_version_2_takes_the_status_along),
        TEST(swap__needs_no_set_version_before_xsa_134),
        TEST(swap__stops_between_elements),
        TEST(swap__waits_for_nobody),
        TEST(unpin__after_a_switch_marks_the_present_version_xsa_501),
        TEST(map__of_a_reference_beyond_the_present_version_xsa_501),
        TEST(status_words__written_by_the_guest_decide_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
