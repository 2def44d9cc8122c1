/* SPDX-License-Identifier: MIT */
/*
 * Version 2 entries, the switch between the versions, and what guests ask about
 * tables: every status as on Xen, and the advisories that concern them.
 */
#include "grant/world.h"

#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define REF 8

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *a, *b, *c; /* domains 1, 2, 3; a grants to b */
};

static struct fixture f;

static int
setup(void **state)
{
    world_init(&f.w);
    f.a = world_add(&f.w, 1, 0x1000, 16, 16, 8, 8, 0);
    f.b = world_add(&f.w, 2, 0x1020, 16, 16, 64, 64, 0);
    f.c = world_add(&f.w, 3, 0x1040, 16, 16, 8, 8, 0);
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    world_fini(&f.w);
    return 0;
}

static long
set_version(struct world_domain *d, uint32_t version)
{
    struct gnttab_set_version op = { .version = version };
    uint32_t done;
    const long r = fh_gnt_op_set_version(&f.ctx, &d->gnt, &op, 1, &done);

    EXPECT_EQ(done, r != FH_GNT_E_PREEMPTED);
    EXPECT_EQ(op.version, done ? fh_gnt_version(&d->gnt) : version);
    return r;
}

static int16_t
map(uint32_t ref, uint32_t flags, uint32_t slot, uint32_t *handle)
{
    struct gnttab_map_grant_ref op = { .dom = 1, .ref = ref, .flags = flags,
                                       .host_addr = world_addr(slot) };
    const int16_t r = fh_gnt_map_one(&f.ctx, &f.b->gnt, &op);

    EXPECT(r <= 0 && r >= GNTST_no_space, "I12: %d", r);
    if (handle)
        *handle = op.handle;
    return r;
}

static int16_t
unmap(uint32_t handle, uint32_t slot)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot) };

    return fh_gnt_unmap_one(&f.ctx, &f.b->gnt, &op);
}

enum { RW = GNTMAP_host_map, RO = GNTMAP_host_map | GNTMAP_readonly };

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

int
main(void)
{
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(v2__maps_and_shows_the_use_in_the_status_word),
        TEST(v2__names_frames_beyond_32_bits),
        TEST(set_version__halves_the_table_and_clears_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
