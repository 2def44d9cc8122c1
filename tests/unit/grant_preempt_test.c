/* SPDX-License-Identifier: MIT */
/*
 * Every operation, by 64-bit and 32-bit callers, cut short after every element:
 * it must come to what it comes to in one piece, and never claim success while
 * something is left.
 */
#include "grant/world.h"

#include <stdlib.h>
#include <string.h>

#include <freehold/grant_ext.h>

#include "expect.h"

#define N     40 /* more than what is translated at once */
#define SLOTS 64

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *granter, *mapper;
    struct gnttab_map_grant_ref maps[N]; /* made before an unmap */
};

/* As 32-bit callers lay it out; see lib/grant/compat.c. */
struct copy32 {
    struct {
        uint32_t id;
        uint16_t domid, offset;
    } source, dest;
    uint16_t len, flags;
    int16_t status;
    uint16_t pad;
};

/* The array of a call, at a place that only a 32-bit caller would choose, or
 * 4 bytes further. */
struct array {
    uint64_t pad;
    uint8_t bytes[N * 40 + 8];
} __attribute__((aligned(8)));

static void
world_up(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    world_init(&f->w);
    f->w.iommu = true;
    f->granter = world_add(&f->w, 1, 0x1000, 64, 2, 64, SLOTS, 0);
    f->mapper = world_add(&f->w, 2, 0x1060, 64, 2, 64, SLOTS, 0);
    fh_gnt_ctx_init(&f->ctx, &f->w.ops, &f->w, 0);
    for (uint32_t ref = 8; ref < 8 + N; ref++)
        fh_gnt_v1_grant(f->granter->table, ref, 2, 0x1000 + ref, ref % 5 == 0);
    for (uint32_t i = 0; i < 64; i++)
        memset(world_frame(&f->w, 0x1000 + i)->bytes, (int)i, FH_PAGE_BYTES);
    for (uint32_t i = 0; i < SLOTS; i += 2)
        world_map_own(f->mapper, i, 0x1060 + i);
}

/* Mappings for those who unmap: in odd slots. */
static void
make_maps(struct fixture *f)
{
    uint32_t done;

    for (uint32_t i = 0; i < N; i++)
        f->maps[i] = (struct gnttab_map_grant_ref){
            .dom = 1, .ref = 8 + i / 2, .flags = GNTMAP_host_map |
                (i / 2 % 5 == 2 || i % 3 == 0 ? GNTMAP_readonly : 0),
            .host_addr = world_addr(i / 2 * 2 + 1),
        };
    EXPECT_EQ(fh_gnt_op_map(&f->ctx, &f->mapper->gnt, f->maps, N, &done), 0);
}

/* ----------------------------------------------- what the calls ask for -- */

static void
ask_map(struct fixture *f, void *at)
{
    struct gnttab_map_grant_ref *ops = at;

    for (uint32_t i = 0; i < N; i++) {
        const struct gnttab_map_grant_ref op = {
            .dom = i % 11 == 3 ? 5 : 1,
            .ref = i % 7 == 6 ? 4000 : 8 + i % 9,
            .flags = GNTMAP_host_map | (i & 1 ? GNTMAP_readonly : 0),
            .host_addr = world_addr(i),
            .status = 99,
        };
        memcpy(&ops[i], &op, sizeof(op)); /* perhaps not aligned */
    }
}

static void
ask_unmap(struct fixture *f, void *at)
{
    struct gnttab_unmap_grant_ref *ops = at;

    make_maps(f);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct gnttab_unmap_grant_ref){
            .handle = i % 7 == 6 ? f->maps[i - 1].handle : f->maps[i].handle,
            .host_addr = i % 5 == 4 ? 0 : f->maps[i].host_addr,
            .status = 99,
        };
}

static void
ask_replace(struct fixture *f, void *at)
{
    struct gnttab_unmap_and_replace *ops = at;

    make_maps(f);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct gnttab_unmap_and_replace){
            .handle = f->maps[i].handle,
            .host_addr = f->maps[i].host_addr,
            .new_addr = world_addr(i / 2 * 2),
            .status = 99,
        };
}

static void
ask_duplicate(struct fixture *f, void *at)
{
    struct fh_gnttab_unmap_and_duplicate *ops = at;

    make_maps(f);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct fh_gnttab_unmap_and_duplicate){
            .handle = f->maps[i].handle,
            .host_addr = f->maps[i].host_addr,
            .new_addr = world_addr(i % 7 == 3 ? 1 : 0),
            .status = 99,
        };
}

static void
ask_unmap_ref(struct fixture *f, void *at)
{
    struct fh_gnttab_unmap_ref *ops = at;

    make_maps(f);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct fh_gnttab_unmap_ref){
            .handle = f->maps[i].handle,
            .host_addr = f->maps[i].host_addr,
            .dom = i % 7 == 6 ? 3 : 1,
            .ref = f->maps[i].ref + (i % 5 == 4),
            .status = 99,
        };
}

static void
ask_copy(struct fixture *f, void *at)
{
    struct gnttab_copy *ops = at;

    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct gnttab_copy){
            .source = { .u.ref = i % 7 == 6 ? 4000 : 8 + i / 3,
                        .domid = 1, .offset = (uint16_t)(i * 8) },
            .dest = { .u.gmfn = 0x1060 + i / 4, .domid = DOMID_SELF,
                      .offset = (uint16_t)(i * 64) },
            .len = i % 11 == 5 ? 4096 : 64,
            .flags = GNTCOPY_source_gref,
            .status = 99,
        };
}

static void
ask_copy32(struct fixture *f, void *at)
{
    struct gnttab_copy wide[N];
    struct copy32 *ops = at;

    ask_copy(f, wide);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct copy32){
            .source = { (uint32_t)wide[i].source.u.gmfn, wide[i].source.domid,
                        wide[i].source.offset },
            .dest = { (uint32_t)wide[i].dest.u.gmfn, wide[i].dest.domid,
                      wide[i].dest.offset },
            .len = wide[i].len, .flags = wide[i].flags, .status = 99,
        };
}

static void
ask_flags(struct fixture *f, void *at)
{
    struct fh_gnttab_entry_flags *ops = at;

    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct fh_gnttab_entry_flags){
            .ref = i % 7 == 6 ? 4000 : i, .flags = i % 6, .status = 99,
        };
}

static void
ask_swap(struct fixture *f, void *at)
{
    struct gnttab_swap_grant_ref *ops = at;

    make_maps(f);
    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct gnttab_swap_grant_ref){
            .ref_a = i % 7 == 6 ? 4000 : 20 + i, .ref_b = 40 + i % 9,
            .status = 99,
        };
}

static void
ask_transfer(struct fixture *f, void *at)
{
    struct gnttab_transfer *ops = at;

    for (uint32_t i = 0; i < N; i++) {
        f->granter->table[8 + i] = (grant_entry_v1_t){
            .flags = i % 5 == 4 ? 0 : GTF_accept_transfer, .domid = 2
        };
        ops[i] = (struct gnttab_transfer){
            .mfn = 0x1060 + (i % 7 == 6 ? 0 : i), .domid = 1, .ref = 8 + i,
            .status = 99,
        };
    }
    f->granter->guest_lies = true; /* "completed" is the bit of "reading" */
}

static void
ask_cache(struct fixture *f, void *at)
{
    struct gnttab_cache_flush *ops = at;

    for (uint32_t i = 0; i < N; i++)
        ops[i] = (struct gnttab_cache_flush){
            .a.dev_bus_addr = (0x1060ull + i) << 12, .length = 64, .op = 1,
        };
}

/* ------------------------------------------------------------ the calls -- */

static const struct subject {
    const char *name;
    void (*ask)(struct fixture *f, void *at);
    uint32_t cmd, bytes, status_at; /* status_at = bytes: it has none */
    uint32_t shift; /* from 8-byte alignment */
    bool is_32bit;
} subjects[] = {
#define STATUS(t) sizeof(struct t), offsetof(struct t, status)
    { "map", ask_map, GNTTABOP_map_grant_ref, STATUS(gnttab_map_grant_ref), 0,
      false },
    { "map by 32 bits", ask_map, GNTTABOP_map_grant_ref,
      STATUS(gnttab_map_grant_ref), 0, true },
    { "map by 32 bits, not aligned", ask_map, GNTTABOP_map_grant_ref,
      STATUS(gnttab_map_grant_ref), 4, true },
    { "unmap", ask_unmap, GNTTABOP_unmap_grant_ref,
      STATUS(gnttab_unmap_grant_ref), 0, false },
    { "unmap by 32 bits", ask_unmap, GNTTABOP_unmap_grant_ref,
      STATUS(gnttab_unmap_grant_ref), 0, true },
    { "unmap_and_replace", ask_replace, GNTTABOP_unmap_and_replace,
      STATUS(gnttab_unmap_and_replace), 0, false },
    { "unmap_and_duplicate", ask_duplicate, FH_GNTTABOP_unmap_and_duplicate,
      STATUS(fh_gnttab_unmap_and_duplicate), 0, false },
    { "unmap_ref", ask_unmap_ref, FH_GNTTABOP_unmap_ref,
      STATUS(fh_gnttab_unmap_ref), 0, false },
    { "copy", ask_copy, GNTTABOP_copy, STATUS(gnttab_copy), 0, false },
    { "copy by 32 bits", ask_copy32, GNTTABOP_copy, STATUS(copy32), 4, true },
    { "entry_flags", ask_flags, FH_GNTTABOP_entry_flags,
      STATUS(fh_gnttab_entry_flags), 0, false },
    { "swap", ask_swap, GNTTABOP_swap_grant_ref, STATUS(gnttab_swap_grant_ref),
      0, false },
    { "transfer", ask_transfer, GNTTABOP_transfer, STATUS(gnttab_transfer), 0,
      false },
    { "cache_flush", ask_cache, GNTTABOP_cache_flush,
      sizeof(struct gnttab_cache_flush), sizeof(struct gnttab_cache_flush), 0,
      false },
};

static int16_t
status_of(const struct subject *s, const struct array *a, uint32_t i)
{
    int16_t status = 0;

    if (s->status_at < s->bytes)
        memcpy(&status, a->bytes + s->shift + i * s->bytes + s->status_at,
               sizeof(status));
    return status;
}

/* Runs the call to its end with a cut at every @every-th element. */
static void
run(struct fixture *f, const struct subject *s, struct array *a, uint32_t every)
{
    struct fh_gnt_call c = { .cmd = s->cmd, .arg = a->bytes + s->shift,
                             .count = N, .is_32bit = s->is_32bit };
    struct world_domain *d;
    uint32_t turns = 0;
    long r;

    world_up(f);
    d = s->cmd == FH_GNTTABOP_entry_flags || s->cmd == GNTTABOP_swap_grant_ref
            ? f->granter
            : f->mapper;
    memset(a, 0x5a, sizeof(*a));
    s->ask(f, a->bytes + s->shift);
    f->w.preempt_every = every;
    f->w.preempt_asks = 0;
    do {
        const uint32_t before = c.count;

        r = fh_gnt_hypercall(&f->ctx, &d->gnt, &c);
        EXPECT(r == 0 || r == FH_GNT_E_PREEMPTED, "%s: %ld", s->name, r);
        EXPECT(c.count < before, "%s: no progress", s->name);
        EXPECT((r == 0) == (c.count == 0), "%s: %u left", s->name, c.count);
        EXPECT(!world_check(&f->w), "%s: %s", s->name, world_check(&f->w));
        turns++;
    } while (r);
    EXPECT_EQ(turns, every == 1 ? N : turns, "%s", s->name);
    EXPECT(every || turns == 1, "%s: cut for nothing", s->name);
    f->w.preempt_every = 0;
}

/* I12: nothing positive, whatever happened (XSA-316). */
static void
check_statuses(const struct subject *s, const struct array *a)
{
    for (uint32_t i = 0; i < N; i++) {
        const int16_t status = status_of(s, a, i);

        EXPECT(status <= 0 && status >= GNTST_no_space, "%s: %u: %d", s->name,
               i, status);
    }
}

static void
expect_same(const struct subject *s, const struct fixture *a,
            const struct array *as, const struct fixture *b,
            const struct array *bs, uint32_t every)
{
    for (uint32_t i = 0; i < N; i++)
        EXPECT_EQ(status_of(s, bs, i), status_of(s, as, i), "%s/%u: %u",
                  s->name, every, i);
    EXPECT(!memcmp(a->granter->table, b->granter->table, FH_PAGE_BYTES),
           "%s/%u: the granter sees the same", s->name, every);
    EXPECT(!memcmp(a->mapper->ptes, b->mapper->ptes,
                   SLOTS * sizeof(*a->mapper->ptes)),
           "%s/%u: the same is mapped", s->name, every);
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        EXPECT(!memcmp(&a->w.frames[i], &b->w.frames[i],
                       sizeof(a->w.frames[i])),
               "%s/%u: frame %u", s->name, every, i);
    EXPECT_EQ(b->w.cache.calls, a->w.cache.calls, "%s/%u", s->name, every);
}

static void
preemption__anywhere_comes_to_the_same(void **state)
{
    static struct fixture whole, cut;
    static struct array all, some;

    for (size_t i = 0; i < FH_ARRAY_SIZE(subjects); i++) {
        run(&whole, &subjects[i], &all, 0);
        check_statuses(&subjects[i], &all);
        for (uint32_t every = 1; every < 6; every++) {
            run(&cut, &subjects[i], &some, every);
            check_statuses(&subjects[i], &some);
            expect_same(&subjects[i], &whole, &all, &cut, &some, every);
            world_fini(&cut.w);
        }
        world_fini(&whole.w);
    }
}

/* The same calls by 32 bits and by 64 come to the same. */
static void
compat__is_the_same_operation(void **state)
{
    static struct fixture wide, narrow;
    static struct array a, b;

    for (size_t i = 0; i < FH_ARRAY_SIZE(subjects); i++) {
        if (!subjects[i].is_32bit)
            continue;
        for (size_t k = 0; k < i; k++) {
            if (subjects[k].is_32bit || subjects[k].cmd != subjects[i].cmd)
                continue;
            run(&wide, &subjects[k], &a, 0);
            run(&narrow, &subjects[i], &b, 0);
            for (uint32_t n = 0; n < N; n++)
                EXPECT_EQ(status_of(&subjects[i], &b, n),
                          status_of(&subjects[k], &a, n), "%s: %u",
                          subjects[i].name, n);
            EXPECT(!memcmp(wide.granter->table, narrow.granter->table,
                           FH_PAGE_BYTES), "%s", subjects[i].name);
            world_fini(&wide.w);
            world_fini(&narrow.w);
        }
    }
}

/* Results go where they belong and nowhere else. */
static void
results__are_all_that_is_written(void **state)
{
    static struct fixture f;
    static struct array before, after;

    for (size_t i = 0; i < FH_ARRAY_SIZE(subjects); i++) {
        const struct subject *s = &subjects[i];
        uint8_t *x = before.bytes + s->shift, *y = after.bytes + s->shift;

        world_up(&f);
        memset(&before, 0x5a, sizeof(before));
        s->ask(&f, x);
        world_fini(&f.w);
        run(&f, s, &after, 1);
        world_fini(&f.w);
        for (uint32_t k = 0; k < s->bytes * N; k++) {
            const uint32_t at = k % s->bytes;
            const bool is_out =
                (at >= s->status_at && at < s->status_at + 2) ||
                (s->cmd == GNTTABOP_map_grant_ref && at >= 20) ||
                (s->cmd == FH_GNTTABOP_entry_flags && at >= 10);

            EXPECT(is_out || x[k] == y[k], "%s: byte %u of element %u",
                   s->name, at, k / s->bytes);
        }
        EXPECT_EQ(y[s->bytes * N], 0x5a, "%s: beyond the array", s->name);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(preemption__anywhere_comes_to_the_same),
        cmocka_unit_test(compat__is_the_same_operation),
        cmocka_unit_test(results__are_all_that_is_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
