/* SPDX-License-Identifier: MIT */
/*
 * Version 2 entries: pages, windows of pages, transitive ones; every status as
 * on Xen, and the advisories that concern them.
 */
#include "grant/three.h"

/* ------------------------------------------------------------- full pages -- */

static void
v2__maps_and_shows_the_use_in_the_status_word(void **state)
{
    uint32_t ro, rw;

    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant(f.a->table2, REF, 2, 0x1003, false);
    EXPECT_EQ(map(REF, RO, 0, &ro), 0);
    EXPECT_EQ(f.a->status[REF], GTF_reading);
    EXPECT_EQ(map(REF, RW, 1, &rw), 0);
    EXPECT_EQ(f.a->status[REF], GTF_reading | GTF_writing);
    EXPECT_EQ(f.a->table2[REF].hdr.flags, GTF_permit_access, "not the header");
    EXPECT_EQ(fh_gnt_v2_revoke(f.a->table2, f.a->status, REF),
              FH_GNT_E_IN_USE);
    EXPECT_EQ(unmap(rw, 1), 0);
    EXPECT_EQ(f.a->status[REF], GTF_reading);
    EXPECT_EQ(map(REF, RW, 1, &rw), 0, "the readonly bit alone is looked at");
    EXPECT_EQ(unmap(rw, 1), 0);
    EXPECT_EQ(unmap(ro, 0), 0);
    EXPECT_EQ(f.a->status[REF], 0);
    EXPECT_EQ(fh_gnt_v2_revoke(f.a->table2, f.a->status, REF), 0);
    EXPECT_EQ(map(REF, RO, 0, &ro), GNTST_general_error);
}

static void
v2__names_frames_beyond_32_bits(void **state)
{
    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant(f.a->table2, REF, 2, 0x100001003, false);
    EXPECT_EQ(map(REF, RO, 0, NULL), GNTST_bad_page, "not frame 0x1003");
    EXPECT_EQ(f.a->status[REF], 0);
}

/* ---------------------------------------------------------------- windows -- */

static void
window__limits_copies_and_refuses_maps(void **state)
{
    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant_window(f.a->table2, REF, 2, 0x1001, 256, 512, false);
    memset(world_frame(&f.w, 0x1001)->bytes + 256, 0x5a, 512);
    EXPECT_EQ(map(REF, RO, 0, NULL), GNTST_general_error);
    EXPECT_EQ(f.a->status[REF], 0);
    EXPECT_EQ(copy_in(f.b, 1, REF, 256, 512), 0);
    EXPECT_EQ(world_frame(&f.w, 0x1020)->bytes[511], 0x5a);
    EXPECT_EQ(copy_in(f.b, 1, REF, 255, 1), GNTST_general_error);
    EXPECT_EQ(copy_in(f.b, 1, REF, 256, 513), GNTST_general_error);
    EXPECT_EQ(copy_in(f.b, 1, REF, 767, 1), 0);
    EXPECT_EQ(copy_in(f.b, 1, REF, 768, 1), GNTST_general_error);
    EXPECT_EQ(copy_in(f.b, 1, REF, 4000, 97), GNTST_bad_copy_arg);
    EXPECT_EQ(copy_out(f.b, 1, REF, 300, 8), 0);
    EXPECT_EQ(copy_out(f.b, 1, REF, 300, 800), GNTST_general_error);
    fh_gnt_v2_grant_window(f.a->table2, REF, 2, 0x1001, 4000, 60000, true);
    EXPECT_EQ(copy_in(f.b, 1, REF, 4000, 96), 0, "what is on the page");
    EXPECT_EQ(copy_in(f.b, 1, REF, 4000, 97), GNTST_bad_copy_arg);
    EXPECT_EQ(copy_out(f.b, 1, REF, 4000, 1), GNTST_general_error, "readonly");
    fh_gnt_v2_grant_window(f.a->table2, REF, 2, 0x1001, 65535, 65535, true);
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 4096), GNTST_general_error);
    EXPECT_EQ(f.a->status[REF], 0);
}

/* An entry that is mapped as a page stays one, whatever the granter writes. */
static void
window__made_of_a_mapped_page_takes_effect_later_xsa_500(void **state)
{
    uint32_t h;

    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v2_grant(f.a->table2, REF, 2, 0x1001, false);
    EXPECT_EQ(map(REF, RO, 0, &h), 0);
    fh_gnt_v2_grant_window(f.a->table2, REF, 2, 0x1002, 0, 4, false);
    world_frame(&f.w, 0x1001)->bytes[9] = 1;
    world_frame(&f.w, 0x1002)->bytes[9] = 2;
    EXPECT_EQ(copy_in(f.b, 1, REF, 9, 1), 0);
    EXPECT_EQ(world_frame(&f.w, 0x1020)->bytes[0], 1, "the page at the pin");
    EXPECT_EQ(unmap(h, 0), 0);
    EXPECT_EQ(copy_in(f.b, 1, REF, 9, 1), GNTST_general_error);
}

/* ------------------------------------------------------------- transitive -- */

/* Domain 3 grants a page to 1, which passes it on to 2 as REF. */
static void
transitive_world(bool readonly)
{
    f.a->gnt.flags |= FH_GNT_DOM_TRANSITIVE;
    EXPECT_EQ(set_version(f.a, 2), 0);
    fh_gnt_v1_grant(f.c->table, 20, 1, 0x1041, readonly);
    fh_gnt_v2_grant_transitive(f.a->table2, REF, 2, 3, 20, false);
}

static void
transitive__copies_what_another_domain_granted(void **state)
{
    transitive_world(false);
    memset(world_frame(&f.w, 0x1041)->bytes, 0x77, FH_PAGE_BYTES);
    EXPECT_EQ(copy_in(f.b, 1, REF, 100, 50), 0);
    EXPECT_EQ(world_frame(&f.w, 0x1020)->bytes[49], 0x77);
    world_frame(&f.w, 0x1020)->bytes[0] = 0x33;
    EXPECT_EQ(copy_out(f.b, 1, REF, 7, 1), 0);
    EXPECT_EQ(world_frame(&f.w, 0x1041)->bytes[7], 0x33);
    EXPECT_EQ(map(REF, RO, 0, NULL), GNTST_general_error, "never maps");
    EXPECT_EQ(f.a->status[REF], 0);
    EXPECT_EQ(f.c->table[20].flags, GTF_permit_access);
    fh_gnt_v1_grant(f.c->table, 20, 1, 0x1041, true);
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), 0);
    EXPECT_EQ(copy_out(f.b, 1, REF, 0, 1), GNTST_general_error);
}

static void
transitive__is_off_unless_asked_for(void **state)
{
    transitive_world(false);
    f.a->gnt.flags &= ~FH_GNT_DOM_TRANSITIVE;
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), GNTST_general_error);
    EXPECT_EQ(f.c->table[20].flags, GTF_permit_access);
}

static void
transitive__keeps_the_inner_window(void **state)
{
    transitive_world(false);
    EXPECT_EQ(set_version(f.c, 2), 0);
    fh_gnt_v2_grant_window(f.c->table2, 20, 1, 0x1041, 64, 64, false);
    EXPECT_EQ(copy_in(f.b, 1, REF, 64, 64), 0);
    EXPECT_EQ(copy_in(f.b, 1, REF, 64, 65), GNTST_general_error);
    EXPECT_EQ(copy_in(f.b, 1, REF, 63, 1), GNTST_general_error);
    EXPECT_EQ(f.c->status[20], 0);
}

static const struct {
    const char *name;
    uint16_t dom;
    uint32_t ref;
    int16_t want;
} inner_cases[] = {
    { "the granter itself", 1, 20, GNTST_general_error },
    { "a domain that is not", 5, 20, GNTST_general_error },
    { "DOMID_SELF", DOMID_SELF, 20, GNTST_general_error },
    { "a reference beyond the table", 3, 512, GNTST_bad_gntref },
    { "somebody else's grant", 3, 21, GNTST_general_error },
    { "nothing granted", 3, 22, GNTST_general_error },
    { "a page that is not there", 3, 23, GNTST_bad_page },
};

static void
transitive__answers_as_the_inner_entry_does(void **state)
{
    transitive_world(false);
    fh_gnt_v1_grant(f.c->table, 21, 2, 0x1041, false);
    fh_gnt_v1_grant(f.c->table, 23, 1, 0x10ff, false);
    for (size_t i = 0; i < FH_ARRAY_SIZE(inner_cases); i++) {
        fh_gnt_v2_grant_transitive(f.a->table2, REF, 2, inner_cases[i].dom,
                                   inner_cases[i].ref, false);
        EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), inner_cases[i].want, "%s",
                  inner_cases[i].name);
        EXPECT_EQ(copy_out(f.b, 1, REF, 0, 1), inner_cases[i].want, "%s",
                  inner_cases[i].name);
        EXPECT_EQ(f.a->status[REF], 0, "%s", inner_cases[i].name);
        EXPECT(!world_check(&f.w), "%s: %s", inner_cases[i].name,
               world_check(&f.w));
    }
}

/* XSA-226: a chain of transitive entries, once without bound. */
static void
transitive__ends_after_one_step_xsa_226(void **state)
{
    struct world_domain *d = world_add(&f.w, 4, 0x1060, 4, 1, 8, 8,
                                       FH_GNT_DOM_TRANSITIVE);

    transitive_world(false);
    f.c->gnt.flags |= FH_GNT_DOM_TRANSITIVE;
    EXPECT_EQ(set_version(f.c, 2), 0);
    fh_gnt_v1_grant(d->table, 30, 3, 0x1061, false);
    fh_gnt_v2_grant_transitive(f.c->table2, 20, 1, 4, 30, false);
    EXPECT_EQ(copy_in(f.a, 3, 20, 0, 1), 0, "by itself it is fine");
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), GNTST_general_error);
    fh_gnt_v2_grant_transitive(f.c->table2, 20, 1, 1, REF, false);
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), GNTST_general_error, "a circle");
    EXPECT_EQ(f.a->status[REF], 0);
    EXPECT_EQ(f.c->status[20], 0);
}

/* XSA-226: pins of a pinned transitive entry, in every order; what the inner
 * entry shows follows. */
static void
transitive__counts_every_pin_xsa_226(void **state)
{
    struct fh_gnt_entry *e[3], *inner;

    transitive_world(false);
    inner = fh_gnt_entry_at(&f.c->gnt, 20);
    for (unsigned order = 0; order < 8; order++) {
        bool writes[3];

        for (unsigned i = 0; i < 3; i++) {
            writes[i] = order >> i & 1;
            EXPECT_EQ(fh_gnt_pin(&f.ctx, &f.a->gnt, REF, &f.b->gnt, writes[i],
                                 FH_GNT_USE_COPY, &e[i]), 0);
            EXPECT_EQ(fh_entry_readers(inner->word), 1);
            EXPECT_EQ(fh_entry_writers(inner->word),
                      writes[0] | (i && writes[1]) | (i > 1 && writes[2]));
            EXPECT_EQ(fh_entry_grantee(inner->word), 1, "the granter's name");
            EXPECT_EQ(fh_gnt_frame_owner(e[i]), &f.c->gnt);
        }
        EXPECT_EQ(set_version(f.c, 2), FH_EBUSY);
        EXPECT_EQ(set_version(f.a, 1), FH_EBUSY);
        for (unsigned i = 0; i < 3; i++) {
            fh_gnt_unpin(&f.ctx, &f.b->gnt, e[i], writes[i]);
            EXPECT_EQ(fh_entry_writers(inner->word),
                      (!i && writes[1]) | (i < 2 && writes[2]));
            EXPECT_EQ(fh_entry_readers(inner->word), i < 2);
        }
        EXPECT_EQ(f.c->table[20].flags, GTF_permit_access);
        EXPECT_EQ(f.a->status[REF], 0);
        EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    }
}

/* XSA-411: whoever holds the outer entry does not wait for the inner one. */
static void
transitive__gives_up_on_a_busy_inner_entry_xsa_411(void **state)
{
    struct fh_gnt_entry *inner;

    transitive_world(false);
    inner = fh_gnt_entry_at(&f.c->gnt, 20);
    inner->word |= FH_ENTRY_BUSY; /* another CPU */
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), GNTST_eagain);
    EXPECT_EQ(f.a->status[REF], 0);
    EXPECT_EQ(fh_gnt_entry_at(&f.a->gnt, REF)->word, 0);
    inner->word &= ~FH_ENTRY_BUSY;
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), 0);
}

/* Every call to the embedder fails once, on the way in and out. */
static void
transitive__undoes_what_failed(void **state)
{
    transitive_world(false);
    for (uint64_t at = 0; ; at++) {
        f.w.calls = 0;
        f.w.fail_at = at;
        f.w.did_fail = false;
        const int16_t r = copy_out(f.b, 1, REF, 0, 8);

        f.w.fail_at = UINT64_MAX;
        EXPECT_EQ(r == 0, !f.w.did_fail, "call %d", (int)at);
        EXPECT_EQ(f.a->status[REF], 0);
        EXPECT_EQ(f.c->table[20].flags, GTF_permit_access);
        EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
        if (!f.w.did_fail)
            break;
    }
}

static void
transitive__of_a_dying_inner_granter_is_refused(void **state)
{
    transitive_world(false);
    fh_gnt_domain_kill(&f.c->gnt);
    EXPECT_EQ(copy_in(f.b, 1, REF, 0, 1), GNTST_bad_domain);
    EXPECT_EQ(f.a->status[REF], 0);
}

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(v2__maps_and_shows_the_use_in_the_status_word),
        TEST(v2__names_frames_beyond_32_bits),
        TEST(window__limits_copies_and_refuses_maps),
        TEST(window__made_of_a_mapped_page_takes_effect_later_xsa_500),
        TEST(transitive__copies_what_another_domain_granted),
        TEST(transitive__is_off_unless_asked_for),
        TEST(transitive__keeps_the_inner_window),
        TEST(transitive__answers_as_the_inner_entry_does),
        TEST(transitive__ends_after_one_step_xsa_226),
        TEST(transitive__counts_every_pin_xsa_226),
        TEST(transitive__gives_up_on_a_busy_inner_entry_xsa_411),
        TEST(transitive__undoes_what_failed),
        TEST(transitive__of_a_dying_inner_granter_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
