/* SPDX-License-Identifier: MIT */
/*
 * transfer: every status, what becomes of the page at each, what the target
 * sees and when, and a target that changes its mind, or its version, meanwhile.
 */
#include "grant/world.h"

#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define REF  9
#define PAGE 0x1005 /* of domain 1, which gives */

/* Domain 1 gives to domain 2; 3 is translated. */
struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *from, *to, *hvm;
};

static const grant_entry_v1_t accept = { .flags = GTF_accept_transfer,
                                         .domid = 1 };

static int
setup(void **state)
{
    static struct fixture f;

    world_init(&f.w);
    f.from = world_add(&f.w, 1, 0x1000, 32, 1, 16, 16, 0);
    f.to = world_add(&f.w, 2, 0x1020, 32, 1, 16, 16, 0);
    f.hvm = world_add(&f.w, 3, 0x1040, 32, 1, 16, 16, FH_GNT_DOM_TRANSLATED);
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    f.to->table[REF] = accept;
    f.hvm->table[REF] = accept;
    /* the bits that mean "in use" mean something else in these entries */
    f.to->guest_lies = true;
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(f->w.n_offered, 0, "room kept for nothing");
    EXPECT_EQ(f->w.n_stolen, 0, "a page that is nobody's");
    world_fini(&f->w);
    return 0;
}

static int16_t
transfer(struct fixture *f, struct world_domain *d, uint64_t mfn,
         uint16_t domid, uint32_t ref)
{
    struct gnttab_transfer op = { .mfn = mfn, .domid = domid, .ref = ref,
                                  .status = 99 };
    struct fh_gnt_call c = { .cmd = GNTTABOP_transfer, .count = 1,
                             .arg = &op };

    EXPECT_EQ(fh_gnt_hypercall(&f->ctx, &d->gnt, &c), 0);
    EXPECT_EQ(c.count, 0);
    return op.status;
}

static void
transfer__is_refused_without_the_embedder(void **state)
{
    struct fixture *f = *state;
    struct gnttab_transfer op = { .mfn = PAGE, .domid = 2, .ref = REF };
    struct fh_gnt_call c = { .cmd = GNTTABOP_transfer, .count = 1,
                             .arg = &op };

    f->w.ops.page_steal = NULL;
    EXPECT_EQ(fh_gnt_hypercall(&f->ctx, &f->from->gnt, &c), FH_EOPNOTSUPP);
    c.is_32bit = true;
    EXPECT_EQ(fh_gnt_hypercall(&f->ctx, &f->from->gnt, &c), FH_EOPNOTSUPP);
    EXPECT_EQ(c.count, 1);
    EXPECT_EQ(world_frame(&f->w, PAGE)->owner, 1);
}

/* What becomes of the page. */
enum fate { KEPT, FREED, GIVEN };

static const struct {
    const char *name;
    uint16_t caller, domid;
    uint32_t ref;
    uint64_t mfn;
    grant_entry_v1_t entry;
    int16_t want;
    enum fate fate;
} cases[] = {
    { "accepted", 1, 2, REF, PAGE, { GTF_accept_transfer, 1, 0 }, 0, GIVEN },
    { "what the target's frame says means nothing", 1, 2, REF, PAGE,
      { GTF_accept_transfer, 1, 0xffffffff }, 0, GIVEN },
    { "not the caller's page", 1, 2, REF, 0x1020, { 0 }, GNTST_bad_page, KEPT },
    { "no page", 1, 2, REF, UINT64_MAX, { 0 }, GNTST_bad_page, KEPT },
    { "not for translated callers (XSA-217, XSA-222)", 3, 2, REF, 0x1041, { 0 },
      GNTST_bad_page, KEPT },
    { "nor to them (XSA-287)", 1, 3, REF, PAGE, { GTF_accept_transfer, 1, 0 },
      GNTST_general_error, FREED },
    { "no such domain", 1, 5, REF, PAGE, { 0 }, GNTST_bad_domain, FREED },
    { "oneself by name", 1, DOMID_SELF, REF, PAGE, { 0 }, GNTST_bad_domain,
      FREED },
    { "accepted from another", 1, 2, REF, PAGE, { GTF_accept_transfer, 3, 0 },
      GNTST_general_error, FREED },
    { "not accepted", 1, 2, REF, PAGE, { GTF_permit_access, 1, 0 },
      GNTST_general_error, FREED },
    { "nothing there", 1, 2, REF, PAGE, { 0 }, GNTST_general_error, FREED },
    { "committed already", 1, 2, REF, PAGE,
      { GTF_accept_transfer | GTF_transfer_committed, 1, 0 },
      GNTST_general_error, FREED },
    { "completed already", 1, 2, REF, PAGE,
      { GTF_accept_transfer | GTF_transfer_completed, 1, 0 },
      GNTST_general_error, FREED },
    { "another flag", 1, 2, REF, PAGE, { GTF_accept_transfer | GTF_PWT, 1, 0 },
      GNTST_general_error, FREED },
    { "beyond the table", 1, 2, 512, PAGE, { GTF_accept_transfer, 1, 0 },
      GNTST_general_error, FREED },
    { "far beyond", 1, 2, UINT32_MAX, PAGE, { GTF_accept_transfer, 1, 0 },
      GNTST_general_error, FREED },
};

static void
transfer__answers_as_the_table_says(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        const char *name = cases[i].name;
        struct world_domain *d = &f->w.dom[cases[i].caller];
        struct world_frame *page = world_frame(&f->w, cases[i].mfn);
        const uint16_t owner = page ? page->owner : 0;
        const uint64_t flushes = d->flushes;
        grant_entry_v1_t *entry = &f->to->table[REF];

        f->w.n_freed = 0;
        *entry = cases[i].entry;
        EXPECT_EQ(transfer(f, d, cases[i].mfn, cases[i].domid, cases[i].ref),
                  cases[i].want, "%s", name);
        EXPECT_EQ(f->w.n_freed, cases[i].fate == FREED, "%s", name);
        EXPECT_EQ(d->flushes - flushes, cases[i].fate != KEPT, "%s: flushed",
                  name);
        if (cases[i].fate == GIVEN) {
            EXPECT_EQ(page->owner, 2, "%s", name);
            EXPECT_EQ(entry->frame, cases[i].mfn, "%s", name);
            EXPECT_EQ(entry->flags, GTF_accept_transfer |
                      GTF_transfer_committed | GTF_transfer_completed, "%s",
                      name);
        } else {
            EXPECT(!memcmp(entry, &cases[i].entry, sizeof(*entry)),
                   "%s: the target's entry", name);
        }
        if (page)
            page->owner = owner;
        EXPECT(!world_check(&f->w), "%s: %s", name, world_check(&f->w));
    }
}

/* A page that somebody else holds, or maps, stays (XSA-284). */
static void
transfer__leaves_a_page_that_is_in_use(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref m = { .dom = 1, .ref = 8,
                                      .flags = GNTMAP_host_map,
                                      .host_addr = world_addr(0) };
    struct gnttab_unmap_grant_ref u = { .host_addr = world_addr(0) };

    fh_gnt_v1_grant(f->from->table, 8, 2, PAGE, false);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->to->gnt, &m), 0);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), GNTST_bad_page);
    EXPECT_EQ(f->from->flushes, 0);
    u.handle = m.handle;
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->to->gnt, &u), 0);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->to->gnt, &m), GNTST_bad_page,
              "the grant of a page that is no more one's own");
}

static void
transfer__ends_well_whatever_call_fails(void **state)
{
    struct fixture *f = *state;
    uint32_t seen = 0;

    for (uint64_t k = 0; k < 20; k++) {
        int16_t status;

        f->to->table[REF] = accept;
        f->w.calls = 0;
        f->w.fail_at = k;
        f->w.did_fail = false;
        status = transfer(f, f->from, PAGE, 2, REF);
        f->w.fail_at = UINT64_MAX;
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
        EXPECT_EQ(f->w.n_offered + f->w.n_stolen, 0, "fault %u", (unsigned)k);
        EXPECT_EQ(status == 0, !f->w.did_fail);
        world_frame(&f->w, PAGE)->owner = 1;
        if (!f->w.did_fail)
            break;
        seen |= 1u << f->w.failed;
        EXPECT(!memcmp(&f->to->table[REF], &accept, sizeof(accept)),
               "the target saw nothing");
    }
    EXPECT_EQ(seen, 1u << W_PAGE_STEAL | 1u << W_DOMAIN_GET | 1u << W_MAY |
                        1u << W_PAGE_OFFER);
}

static void
transfer__gives_a_lower_page_if_it_must(void **state)
{
    struct fixture *f = *state;

    memset(world_frame(&f->w, PAGE)->bytes, 0x77, FH_PAGE_BYTES);
    f->w.low_mfn = 0x1100;
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), 0);
    EXPECT_EQ(f->w.max_mfn, UINT32_MAX, "what a version 1 entry can say");
    EXPECT_EQ(f->to->table[REF].frame, 0x1100);
    EXPECT_EQ(world_frame(&f->w, 0x1100)->owner, 2);
    EXPECT_EQ(world_frame(&f->w, 0x1100)->bytes[4095], 0x77);

    f->to->table[REF] = accept;
    f->w.low_mfn = WORLD_NO_MFN;
    EXPECT_EQ(transfer(f, f->from, 0x1006, 2, REF), GNTST_address_too_big);
    EXPECT_EQ(f->w.n_freed, 1);
    f->w.low_mfn = 0;
}

static void
transfer__to_a_domain_that_dies(void **state)
{
    struct fixture *f = *state;

    fh_gnt_domain_kill(&f->to->gnt);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), GNTST_general_error);
    EXPECT_EQ(f->w.n_freed, 1);
}

/* ------------------------------------------ the target changes meanwhile -- */

/* Before the call number @at of the embedder's. */
static struct {
    uint32_t at, calls;
    void (*what)(struct fixture *f);
    struct fixture *f;
} meanwhile;

static void
on_call(struct world *w, void *arg)
{
    if (meanwhile.calls++ == meanwhile.at)
        meanwhile.what(meanwhile.f);
}

static void
when(struct fixture *f, uint32_t at, void (*what)(struct fixture *f))
{
    meanwhile.at = at;
    meanwhile.calls = 0;
    meanwhile.what = what;
    meanwhile.f = f;
    f->w.hook = on_call;
}

static void
accept_now(struct fixture *f)
{
    f->to->table[REF] = accept;
}

static void
withdraw_now(struct fixture *f)
{
    f->to->table[REF] = (grant_entry_v1_t){ 0 };
}

/* Calls: steal, domain_get, may, offer. */
static void
transfer__looks_at_the_target_only_after_the_page_was_taken(void **state)
{
    struct fixture *f = *state;

    f->to->table[REF] = (grant_entry_v1_t){ 0 };
    when(f, 3, accept_now);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), 0);
    world_frame(&f->w, PAGE)->owner = 1;

    f->to->table[REF] = accept;
    when(f, 3, withdraw_now);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), GNTST_general_error);
    EXPECT_EQ(f->w.n_freed, 1);
    f->w.hook = NULL;
}

static long
set_version(struct fixture *f, uint32_t version)
{
    struct gnttab_set_version op = { .version = version };
    struct fh_gnt_call c = { .cmd = GNTTABOP_set_version, .count = 1,
                             .arg = &op };
    long r;

    f->w.hook = NULL;
    do
        r = fh_gnt_hypercall(&f->ctx, &f->to->gnt, &c);
    while (r == FH_GNT_E_PREEMPTED);
    return r;
}

static void
to_version_2(struct fixture *f)
{
    EXPECT_EQ(set_version(f, 2), 0);
}

static void
to_version_2_and_accept(struct fixture *f)
{
    grant_entry_v2_t *table = (grant_entry_v2_t *)f->to->table;

    to_version_2(f);
    table[REF].full_page.hdr.domid = 1;
    table[REF].full_page.hdr.flags = GTF_accept_transfer;
}

/* XSA-501: what is written is of the version that was checked. */
static void
transfer__to_a_table_whose_version_changes(void **state)
{
    struct fixture *f = *state;
    grant_entry_v2_t *table = (grant_entry_v2_t *)f->to->table;
    grant_entry_v2_t zero = { 0 };

    when(f, 3, to_version_2);
    EXPECT_EQ(transfer(f, f->from, PAGE, 2, REF), GNTST_general_error);
    EXPECT_EQ(f->w.n_freed, 1);
    EXPECT(!memcmp(&table[REF], &zero, sizeof(zero)), "nothing was written");

    EXPECT_EQ(set_version(f, 1), 0);
    f->to->table[REF] = accept;
    when(f, 3, to_version_2_and_accept);
    EXPECT_EQ(transfer(f, f->from, 0x1006, 2, REF), 0);
    EXPECT_EQ(table[REF].full_page.hdr.flags, GTF_accept_transfer |
              GTF_transfer_committed | GTF_transfer_completed);
    EXPECT_EQ(table[REF].full_page.frame, 0x1006);
    EXPECT_EQ(transfer(f, f->from, 0x1007, 2, 256), GNTST_general_error,
              "half as many entries as before");
}

/* 32-bit callers, in one piece and cut at every element. */
static void
transfer__by_32_bits(void **state)
{
    struct fixture *f = *state;
    struct {
        uint32_t mfn;
        uint16_t domid, pad;
        uint32_t ref;
        int16_t status;
        uint16_t pad1;
    } ops[3] = { { PAGE, 2, 0, REF, 99, 0x5a5a },
                 { 0x1020, 2, 0, REF, 99, 0x5a5a },
                 { 0x1006, 2, 0, 10, 99, 0x5a5a } };
    struct fh_gnt_call c = { .cmd = GNTTABOP_transfer, .count = 3,
                             .arg = ops, .is_32bit = true };
    uint32_t turns = 0;

    f->to->table[10] = accept;
    f->w.preempt_every = 1;
    while (fh_gnt_hypercall(&f->ctx, &f->from->gnt, &c))
        turns++;
    EXPECT_EQ(turns, 2);
    EXPECT_EQ(ops[0].status, 0);
    EXPECT_EQ(ops[1].status, GNTST_bad_page);
    EXPECT_EQ(ops[2].status, 0);
    EXPECT_EQ(ops[2].pad1, 0x5a5a);
    EXPECT_EQ(f->to->table[10].frame, 0x1006);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(transfer__is_refused_without_the_embedder),
        TEST(transfer__answers_as_the_table_says),
        TEST(transfer__leaves_a_page_that_is_in_use),
        TEST(transfer__ends_well_whatever_call_fails),
        TEST(transfer__gives_a_lower_page_if_it_must),
        TEST(transfer__to_a_domain_that_dies),
        TEST(transfer__looks_at_the_target_only_after_the_page_was_taken),
        TEST(transfer__to_a_table_whose_version_changes),
        TEST(transfer__by_32_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
