/* SPDX-License-Identifier: MIT */
/*
 * copy: every status, in the order that Xen gives them; claims that are kept
 * from element to element; overlap; faults; preemption.
 */
#include "grant/world.h"

#include <string.h>

#include "expect.h"
#include "grant/internal.h"

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *a, *b, *c;
};

/* Domain 1 (a) and 3 (c) grant to domain 2 (b), which copies. */
static int
setup(void **state)
{
    static struct fixture f;

    world_init(&f.w);
    f.a = world_add(&f.w, 1, 0x1000, 32, 1, 8, 8, 0);
    f.b = world_add(&f.w, 2, 0x1020, 32, 1, 8, 8, 0);
    f.c = world_add(&f.w, 3, 0x1040, 32, 1, 8, 8, 0);
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    for (uint32_t i = 0; i < 16; i++) {
        fh_gnt_v1_grant(f.a->table, 8 + i, 2, 0x1000 + i, false);
        fh_gnt_v1_grant(f.c->table, 8 + i, 2, 0x1040 + i, false);
    }
    fh_gnt_v1_grant(f.a->table, 40, 2, 0x1000, true);
    fh_gnt_v1_grant(f.a->table, 41, 3, 0x1000, false);
    fh_gnt_v1_grant(f.a->table, 42, 2, 0x1020, false);
    fh_gnt_v1_grant(f.b->table, 43, 2, 0x1021, false);
    f.a->table[44] = (grant_entry_v1_t){
        .flags = GTF_permit_access | GTF_sub_page, .domid = 2, .frame = 0x1003
    };
    for (uint32_t i = 0; i < WORLD_FRAMES; i++) {
        for (uint32_t k = 0; k < FH_PAGE_BYTES; k++)
            f.w.frames[i].bytes[k] = (uint8_t)(i * 31 + k * 7 + (k >> 8));
    }
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    world_fini(&((struct fixture *)*state)->w);
    return 0;
}

#define SRC_REF GNTCOPY_source_gref
#define DST_REF GNTCOPY_dest_gref

/* Numbers are references or frames by @flags. */
static struct gnttab_copy
copy_op(unsigned flags, uint16_t sdom, uint64_t s, uint16_t soff, uint16_t ddom,
        uint64_t d, uint16_t doff, uint16_t len)
{
    struct gnttab_copy op = {
        .flags = (uint16_t)flags,
        .source = { .domid = sdom, .offset = soff },
        .dest = { .domid = ddom, .offset = doff },
        .len = len,
        .status = 77,
    };

    op.source.u.gmfn = s;
    op.dest.u.gmfn = d;
    return op;
}

#define SELF DOMID_SELF
static const struct {
    const char *name;
    unsigned flags;
    uint16_t sdom;
    uint64_t s;
    uint16_t soff, ddom;
    uint64_t d;
    uint16_t doff, len;
    int16_t want;
} copy_cases[] = {
    { "in", SRC_REF, 1, 8, 0, SELF, 0x1020, 0, 4096, GNTST_okay },
    { "out", DST_REF, SELF, 0x1020, 5, 1, 8, 9, 100, GNTST_okay },
    { "third party", SRC_REF | DST_REF, 1, 9, 0, 3, 9, 0, 4096, GNTST_okay },
    { "own frames", 0, SELF, 0x1020, 0, SELF, 0x1021, 0, 4096, GNTST_okay },
    { "from read-only", SRC_REF, 1, 40, 0, SELF, 0x1020, 0, 8, GNTST_okay },
    { "own reference", SRC_REF, SELF, 43, 0, SELF, 0x1020, 0, 8, GNTST_okay },
    { "last byte", SRC_REF, 1, 8, 4095, SELF, 0x1020, 4095, 1, GNTST_okay },
    { "one entry to itself", SRC_REF | DST_REF, 1, 8, 0, 1, 8, 2048, 64,
      GNTST_okay },
    { "sub-page flag means nothing in version 1", SRC_REF, 1, 44, 4000, SELF,
      0x1020, 0, 96, GNTST_okay },
    { "nothing, with nonsense beside it", 0, 9, 0, 9999, 9, 0, 9999, 0,
      GNTST_okay },
    { "foreign source frame", 0, 1, 0x1000, 0, SELF, 0x1020, 0, 8,
      GNTST_permission_denied },
    { "foreign destination frame", SRC_REF, 1, 8, 0, 1, 0x1000, 0, 8,
      GNTST_permission_denied },
    { "unknown source", SRC_REF, 5, 8, 0, SELF, 0x1020, 0, 8,
      GNTST_bad_domain },
    { "unknown destination", SRC_REF | DST_REF, 1, 8, 0, 5, 8, 0, 8,
      GNTST_bad_domain },
    { "reserved source", SRC_REF, DOMID_XEN, 8, 0, SELF, 0x1020, 0, 8,
      GNTST_bad_domain },
    { "unknown source before a foreign frame", SRC_REF, 5, 8, 0, 1, 8, 0, 8,
      GNTST_bad_domain },
    { "source beyond the table", SRC_REF, 1, 512, 0, SELF, 0x1020, 0, 8,
      GNTST_bad_gntref },
    { "destination beyond the table", DST_REF, SELF, 0x1020, 0, 1, 0xfffffff, 0,
      8, GNTST_bad_gntref },
    { "to read-only", DST_REF, SELF, 0x1020, 0, 1, 40, 0, 8,
      GNTST_general_error },
    { "granted to another", SRC_REF, 1, 41, 0, SELF, 0x1020, 0, 8,
      GNTST_general_error },
    { "never granted", SRC_REF, 1, 100, 0, SELF, 0x1020, 0, 8,
      GNTST_general_error },
    { "granted frame of another", SRC_REF, 1, 42, 0, SELF, 0x1020, 0, 8,
      GNTST_bad_page },
    { "source frame is not ours", 0, SELF, 0x1000, 0, SELF, 0x1020, 0, 8,
      GNTST_bad_page },
    { "no such destination frame", SRC_REF, 1, 8, 0, SELF, 1ull << 60, 0, 8,
      GNTST_bad_page },
    { "source offset and length", SRC_REF, 1, 8, 4000, SELF, 0x1020, 0, 97,
      GNTST_bad_copy_arg },
    { "destination offset and length", SRC_REF, 1, 8, 0, SELF, 0x1020, 4096, 1,
      GNTST_bad_copy_arg },
    { "more than a page", SRC_REF, 1, 8, 0, SELF, 0x1020, 0, 4097,
      GNTST_bad_copy_arg },
    { "offset wraps 16 bits", SRC_REF, 1, 8, 65535, SELF, 0x1020, 0, 65535,
      GNTST_bad_copy_arg },
    { "bad page before bad length", SRC_REF, 1, 42, 0, SELF, 0x1020, 0, 5000,
      GNTST_bad_page },
};

static struct gnttab_copy
case_op(size_t i)
{
    return copy_op(copy_cases[i].flags, copy_cases[i].sdom, copy_cases[i].s,
                   copy_cases[i].soff, copy_cases[i].ddom, copy_cases[i].d,
                   copy_cases[i].doff, copy_cases[i].len);
}

static void
copy__answers_as_the_table_says(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < FH_ARRAY_SIZE(copy_cases); i++) {
        struct gnttab_copy op = case_op(i);

        EXPECT_EQ(fh_gnt_copy_one(&f->ctx, &f->b->gnt, &op),
                  copy_cases[i].want, "%s", copy_cases[i].name);
        EXPECT_EQ(op.status, copy_cases[i].want, "%s", copy_cases[i].name);
        EXPECT(!world_check(&f->w), "%s: %s", copy_cases[i].name,
               world_check(&f->w));
        EXPECT_EQ(f->a->refs + f->b->refs + f->c->refs, 0, "%s",
                  copy_cases[i].name);
    }
}

/* All cases as one batch, whole and in pieces: the claims that are kept from
 * one element to the next change no answer. */
static void
copy__in_a_batch_answers_the_same(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy ops[2 * FH_ARRAY_SIZE(copy_cases)];
    const uint32_t n = FH_ARRAY_SIZE(ops);

    for (uint32_t every = 0; every < 4; every++) {
        uint32_t at = 0, done = 0;

        for (size_t i = 0; i < n; i++)
            ops[i] = case_op(i % FH_ARRAY_SIZE(copy_cases));
        f->w.preempt_every = every;
        while (at < n) {
            const long r = fh_gnt_op_copy(&f->ctx, &f->b->gnt, ops + at,
                                          n - at, &done);

            EXPECT(done >= 1, "progress");
            at += done;
            EXPECT_EQ(r, at < n ? FH_GNT_E_PREEMPTED : 0);
            EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
        }
        for (size_t i = 0; i < n; i++)
            EXPECT_EQ(ops[i].status,
                      copy_cases[i % FH_ARRAY_SIZE(copy_cases)].want, "%s",
                      copy_cases[i % FH_ARRAY_SIZE(copy_cases)].name);
    }
}

static void
copy__moves_the_bytes_and_no_others(void **state)
{
    struct fixture *f = *state;
    static uint8_t want[FH_PAGE_BYTES];
    uint8_t *dst = world_frame(&f->w, 0x1020)->bytes;
    const uint8_t *src = world_frame(&f->w, 0x1001)->bytes;
    struct gnttab_copy op =
        copy_op(SRC_REF, 1, 9, 100, SELF, 0x1020, 1000, 333);

    memcpy(want, dst, sizeof(want));
    memcpy(want + 1000, src + 100, 333);
    EXPECT_EQ(fh_gnt_copy_one(&f->ctx, &f->b->gnt, &op), 0);
    EXPECT(!memcmp(dst, want, sizeof(want)));

    /* within one page, overlapping, both ways */
    for (int up = 0; up < 2; up++) {
        op = copy_op(SRC_REF | DST_REF, 1, 10, up ? 0 : 50, 1, 10, up ? 50 : 0,
                     3000);
        dst = world_frame(&f->w, 0x1002)->bytes;
        memcpy(want, dst, sizeof(want));
        memmove(want + (up ? 50 : 0), want + (up ? 0 : 50), 3000);
        EXPECT_EQ(fh_gnt_copy_one(&f->ctx, &f->b->gnt, &op), 0);
        EXPECT(!memcmp(dst, want, sizeof(want)), "overlap");
    }
}

/* Upstream's cached claim forgets whether 8 was a reference or a frame. */
static void
copy__a_reference_is_not_the_frame_of_that_number(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy ops[2];
    uint32_t done;

    fh_gnt_v1_grant(f->b->table, 0x22, 2, 0x1021, false);
    f->w.frames[0x22].owner = UINT16_MAX;
    ops[0] = copy_op(SRC_REF, SELF, 0x22, 0, SELF, 0x1023, 0, 64);
    ops[1] = copy_op(0, SELF, 0x22, 0, SELF, 0x1024, 0, 64);
    EXPECT_EQ(fh_gnt_op_copy(&f->ctx, &f->b->gnt, ops, 2, &done), 0);
    EXPECT_EQ(ops[0].status, 0);
    EXPECT_EQ(ops[1].status, GNTST_bad_page, "there is no frame 0x22");
}

static void
copy__keeps_claims_for_a_run_of_elements(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy ops[16];
    struct fh_gnt_stats stats;
    uint32_t done;

    for (uint16_t i = 0; i < 16; i++)
        ops[i] = copy_op(SRC_REF, 1, 8, i * 64, SELF, 0x1020, i * 64, 64);
    EXPECT_EQ(fh_gnt_op_copy(&f->ctx, &f->b->gnt, ops, 16, &done), 0);
    fh_gnt_stats_read(&f->b->gnt, &stats);
    EXPECT_EQ(stats.copies, 16);
    EXPECT_EQ(stats.map_slow, 1, "pinned once for all");
    EXPECT_EQ(f->a->table[8].flags, GTF_permit_access);
}

/* While @arg's source is pinned, its granter rewrites the entry. */
static void
rewrite(struct world *w, void *arg)
{
    struct fixture *f = arg;

    if (f->a->table[8].flags & GTF_reading)
        f->a->table[8] = (grant_entry_v1_t){ .frame = 0x1005 };
}

static void
copy__uses_the_snapshot_of_the_first_pin(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy ops[2];
    uint32_t done;

    for (uint16_t i = 0; i < 2; i++)
        ops[i] = copy_op(SRC_REF, 1, 8, 0, SELF, 0x1020 + i, 0, 4096);
    f->a->guest_lies = true;
    f->w.hook = rewrite;
    f->w.hook_arg = f;
    EXPECT_EQ(fh_gnt_op_copy(&f->ctx, &f->b->gnt, ops, 2, &done), 0);
    f->w.hook = NULL;
    EXPECT_EQ(ops[0].status, 0);
    EXPECT_EQ(ops[1].status, 0, "still pinned from the element before");
    EXPECT(!memcmp(world_frame(&f->w, 0x1021)->bytes,
                   world_frame(&f->w, 0x1000)->bytes, 4096),
           "the frame that was checked");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
copy__undoes_everything_when_any_call_fails(void **state)
{
    struct fixture *f = *state;
    struct gnttab_copy ops[6];
    uint32_t done, seen = 0;

    for (uint64_t k = 0; k < 1000; k++) {
        ops[0] = copy_op(SRC_REF, 1, 8, 0, SELF, 0x1020, 0, 64);
        ops[1] = copy_op(SRC_REF, 1, 9, 0, SELF, 0x1020, 64, 64);
        ops[2] = copy_op(DST_REF, SELF, 0x1021, 0, 3, 9, 0, 64);
        ops[3] = copy_op(SRC_REF | DST_REF, 1, 8, 0, 1, 8, 64, 64);
        ops[4] = copy_op(SRC_REF, 1, 42, 0, SELF, 0x1020, 0, 64);
        ops[5] = copy_op(0, SELF, 0x1021, 0, SELF, 0x1021, 64, 64);
        f->w.calls = 0;
        f->w.fail_at = k;
        f->w.did_fail = false;
        EXPECT_EQ(fh_gnt_op_copy(&f->ctx, &f->b->gnt, ops, 6, &done), 0);
        f->w.fail_at = UINT64_MAX;
        EXPECT(!world_check(&f->w), "fault %u: %s", (unsigned)k,
               world_check(&f->w));
        EXPECT_EQ(f->a->refs + f->b->refs + f->c->refs, 0);
        if (!f->w.did_fail)
            break;
        seen |= 1u << f->w.failed;
    }
    EXPECT(!f->w.did_fail, "the script has an end");
    EXPECT_EQ(seen, 1u << W_DOMAIN_GET | 1u << W_MAY | 1u << W_FRAME_GET |
                        1u << W_FRAME_GET_WRITABLE | 1u << W_FRAME_MAP,
              "every call failed once");
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(copy__answers_as_the_table_says),
        TEST(copy__in_a_batch_answers_the_same),
        TEST(copy__moves_the_bytes_and_no_others),
        TEST(copy__a_reference_is_not_the_frame_of_that_number),
        TEST(copy__keeps_claims_for_a_run_of_elements),
        TEST(copy__uses_the_snapshot_of_the_first_pin),
        TEST(copy__undoes_everything_when_any_call_fails),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
