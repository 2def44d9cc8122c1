/* SPDX-License-Identifier: MIT */
/*
 * map_grant_ref and unmap_grant_ref: every status that version 1 tables can
 * give, what the granter sees, what is undone when something fails, preemption
 * at every element.
 */
#include "grant/world.h"

#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"

/* Domain 1 grants frames 0x1000.. to domain 2, which maps; 3 is translated. */
struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *granter, *mapper, *hvm;
};

#define N_HANDLES 40
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
    fh_gnt_v1_grant(f.granter->table, 40, 2, 0x1000, true);
    fh_gnt_v1_grant(f.granter->table, 41, 3, 0x1001, false);
    fh_gnt_v1_grant(f.granter->table, 42, 2, 0x1020, false); /* not its own */
    fh_gnt_v1_grant(f.granter->table, 43, 2, 0xffffffff, false);
    fh_gnt_v1_grant(f.granter->table, 44, 1, 0x1002, false);
    f.granter->table[45] = (grant_entry_v1_t){
        .flags = GTF_permit_access | GTF_sub_page, .domid = 2, .frame = 0x1003
    };
    f.granter->table[46] = (grant_entry_v1_t){
        .flags = GTF_accept_transfer, .domid = 2, .frame = 0x1003
    };
    f.granter->table[47] = (grant_entry_v1_t){
        .flags = GTF_transitive, .domid = 2, .frame = 0x1003
    };
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

static struct gnttab_map_grant_ref
map_op(uint16_t dom, uint32_t ref, uint32_t flags, uint32_t slot)
{
    return (struct gnttab_map_grant_ref){ .dom = dom,
                                          .ref = ref,
                                          .flags = flags,
                                          .host_addr = world_addr(slot),
                                          .status = 77,
                                          .handle = 0x5a5a5a5a };
}

static int16_t
unmap(struct fixture *f, struct world_domain *d, uint32_t handle, uint32_t slot,
      uint64_t bus)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot),
                                         .dev_bus_addr = bus };

    if (slot == UINT32_MAX)
        op.host_addr = 0;
    return fh_gnt_unmap_one(&f->ctx, &d->gnt, &op);
}

static const struct {
    const char *name;
    uint16_t caller, dom;
    uint32_t ref, flags, slot;
    int16_t want;
} map_cases[] = {
    { "read-write", 2, 1, 8, GNTMAP_host_map, 0, GNTST_okay },
    { "read-only", 2, 1, 8, GNTMAP_host_map | GNTMAP_readonly, 0, GNTST_okay },
    { "for devices", 2, 1, 8, GNTMAP_device_map, 0, GNTST_okay },
    { "for both", 2, 1, 8, GNTMAP_device_map | GNTMAP_host_map, 0, GNTST_okay },
    { "by pte", 2, 1, 8, GNTMAP_host_map | GNTMAP_contains_pte, 0, GNTST_okay },
    { "application", 2, 1, 8, GNTMAP_host_map | GNTMAP_application_map, 0,
      GNTST_okay },
    { "read-only of read-only", 2, 1, 40, GNTMAP_host_map | GNTMAP_readonly, 0,
      GNTST_okay },
    { "own grant", 1, 1, 44, GNTMAP_host_map, 0, GNTST_okay },
    { "translated", 3, 1, 41, GNTMAP_host_map, 0, GNTST_okay },
    { "neither host nor device", 2, 1, 8, 0, 0, GNTST_bad_gntref },
    { "application alone", 2, 1, 8, GNTMAP_application_map, 0,
      GNTST_bad_gntref },
    { "translated, device", 3, 1, 41, GNTMAP_device_map | GNTMAP_host_map, 0,
      GNTST_general_error },
    { "translated, pte", 3, 1, 41, GNTMAP_host_map | GNTMAP_contains_pte, 0,
      GNTST_general_error },
    { "translated, application", 3, 1, 41,
      GNTMAP_host_map | GNTMAP_application_map, 0, GNTST_general_error },
    { "no such domain", 2, 5, 8, GNTMAP_host_map, 0, GNTST_bad_domain },
    { "self by name", 2, DOMID_SELF, 8, GNTMAP_host_map, 0, GNTST_bad_domain },
    { "last reference", 2, 1, 511, GNTMAP_host_map, 0, GNTST_general_error },
    { "beyond the table", 2, 1, 512, GNTMAP_host_map, 0, GNTST_bad_gntref },
    { "far beyond", 2, 1, 0xffffffff, GNTMAP_host_map, 0, GNTST_bad_gntref },
    { "write to read-only", 2, 1, 40, GNTMAP_host_map, 0, GNTST_general_error },
    { "granted to another", 2, 1, 41, GNTMAP_host_map, 0, GNTST_general_error },
    { "never granted", 2, 1, 60, GNTMAP_host_map, 0, GNTST_general_error },
    { "frame of another", 2, 1, 42, GNTMAP_host_map, 0, GNTST_bad_page },
    { "no such frame", 2, 1, 43, GNTMAP_host_map, 0, GNTST_bad_page },
    { "part of a page", 2, 1, 45, GNTMAP_host_map, 0, GNTST_general_error },
    { "transfer", 2, 1, 46, GNTMAP_host_map, 0, GNTST_general_error },
    { "transitive", 2, 1, 47, GNTMAP_host_map, 0, GNTST_general_error },
    { "no page table there", 2, 1, 8, GNTMAP_host_map, N_PTES,
      GNTST_general_error },
};

static void
map__answers_as_the_table_says(void **state)
{
    struct fixture *f = *state;

    for (size_t i = 0; i < FH_ARRAY_SIZE(map_cases); i++) {
        const char *name = map_cases[i].name;
        struct world_domain *d = &f->w.dom[map_cases[i].caller];
        struct gnttab_map_grant_ref op =
            map_op(map_cases[i].dom, map_cases[i].ref, map_cases[i].flags,
                   map_cases[i].slot);
        const int16_t r = fh_gnt_map_one(&f->ctx, &d->gnt, &op);

        EXPECT_EQ(r, map_cases[i].want, "%s", name);
        EXPECT_EQ(op.status, r, "%s", name);
        EXPECT(!world_check(&f->w), "%s: %s", name, world_check(&f->w));
        if (r) {
            EXPECT_EQ(op.handle, 0x5a5a5a5a, "%s: untouched", name);
            continue;
        }
        EXPECT(!(op.handle >> 31), "%s: sign bit", name);
        EXPECT_EQ(unmap(f, d, op.handle, 0, op.dev_bus_addr), 0, "%s", name);
        EXPECT(!world_check(&f->w), "%s: %s", name, world_check(&f->w));
        EXPECT_EQ(f->granter->refs, 0, "%s", name);
        EXPECT_EQ(unmap(f, d, op.handle, 0, 0), GNTST_bad_handle, "%s", name);
    }
}

static void
map__shows_the_granter_what_is_in_use(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref ro =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 0);
    struct gnttab_map_grant_ref rw = map_op(1, 8, GNTMAP_host_map, 1);
    const uint16_t *flags = &f->granter->table[8].flags;

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &ro), 0);
    EXPECT_EQ(*flags, GTF_permit_access | GTF_reading);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &rw), 0);
    EXPECT_EQ(*flags, GTF_permit_access | GTF_reading | GTF_writing);
    EXPECT_EQ(fh_gnt_v1_revoke(f->granter->table, 8), FH_GNT_E_IN_USE);
    EXPECT_EQ(unmap(f, f->mapper, rw.handle, 1, 0), 0);
    EXPECT_EQ(*flags, GTF_permit_access | GTF_reading);
    EXPECT_EQ(unmap(f, f->mapper, ro.handle, 0, 0), 0);
    EXPECT_EQ(*flags, GTF_permit_access);
    EXPECT_EQ(fh_gnt_v1_revoke(f->granter->table, 8), 0);
    EXPECT_EQ(*flags, 0);
}

static void
map__of_a_pinned_entry_ignores_what_the_granter_writes(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref a = map_op(1, 8, GNTMAP_host_map, 0);
    struct gnttab_map_grant_ref b = map_op(1, 8, GNTMAP_host_map, 1);

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &a), 0);
    f->granter->table[8] = (grant_entry_v1_t){ .domid = 3, .frame = 0x1010 };
    f->granter->guest_lies = true;
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &b), 0);
    EXPECT_EQ(b.dev_bus_addr, a.dev_bus_addr, "snapshot of the first pin");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(unmap(f, f->mapper, a.handle, 0, 0), 0);
    EXPECT_EQ(unmap(f, f->mapper, b.handle, 1, 0), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &a),
              GNTST_general_error, "the edit counts once nothing is pinned");
}

static void
map__upgrade_looks_at_the_readonly_bit_again(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref ro =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 0);
    struct gnttab_map_grant_ref rw = map_op(1, 8, GNTMAP_host_map, 1);

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &ro), 0);
    f->granter->table[8].flags |= GTF_readonly;
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &rw),
              GNTST_general_error);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    f->granter->table[8].flags &= (uint16_t)~GTF_readonly;
    f->granter->table[8].domid = 3; /* type, domid, frame: not looked at */
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &rw), 0);
    EXPECT_EQ(unmap(f, f->mapper, ro.handle, 0, 0), 0);
    EXPECT(f->granter->table[8].flags & GTF_reading, "the writer reads too");
    EXPECT_EQ(unmap(f, f->mapper, rw.handle, 1, 0), 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
map__quota_is_the_table_and_nothing_is_stranded(void **state)
{
    struct fixture *f = *state;
    uint32_t handles[N_HANDLES];

    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < N_HANDLES; i++) {
            struct gnttab_map_grant_ref op =
                map_op(1, 8 + i % 32, GNTMAP_host_map, i);

            f->ctx.cpu = i % 8;
            EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0, "%u",
                      i);
            handles[i] = op.handle;
        }
        struct gnttab_map_grant_ref more = map_op(1, 8, GNTMAP_host_map, 50);
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &more),
                  GNTST_no_space);
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
        for (uint32_t i = 0; i < N_HANDLES; i++) {
            f->ctx.cpu = (i + 3) % 8;
            EXPECT_EQ(unmap(f, f->mapper, handles[i], i, 0), 0, "%u", i);
        }
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    }
    f->ctx.cpu = 0;
}

static void
unmap__refuses_handles_that_are_not_the_callers(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op = map_op(1, 8, GNTMAP_host_map, 0);
    uint32_t h, index_bits = f->mapper->gnt.index_bits;

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    h = op.handle;
    EXPECT_EQ(unmap(f, f->granter, h, 0, 0), GNTST_bad_handle, "foreign");
    EXPECT_EQ(unmap(f, f->mapper, 0xffffffff, 0, 0), GNTST_bad_handle, "~0");
    EXPECT_EQ(unmap(f, f->mapper, h | 1u << 31, 0, 0), GNTST_bad_handle,
              "bit 31");
    EXPECT_EQ(unmap(f, f->mapper, (1u << index_bits) - 1, 0, 0),
              GNTST_bad_handle, "index beyond the table");
    EXPECT_EQ(unmap(f, f->mapper, h + (1u << index_bits), 0, 0),
              GNTST_bad_handle, "next generation");
    EXPECT_EQ(unmap(f, f->mapper, h, 0, 0), 0);
    EXPECT_EQ(unmap(f, f->mapper, h, 0, 0), GNTST_bad_handle, "doubled");

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    EXPECT(op.handle != h, "a new generation");
    EXPECT_EQ(op.handle & ((1u << index_bits) - 1),
              h & ((1u << index_bits) - 1), "of the same slot");
    EXPECT_EQ(unmap(f, f->mapper, h, 0, 0), GNTST_bad_handle, "stale");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, 0), 0);
}

static void
unmap__checks_addresses_and_ends_with_the_last_part(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_device_map, 0);
    struct gnttab_map_grant_ref ro =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 1);
    struct fh_gnt_map_info info;
    const uint32_t none = UINT32_MAX;

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &ro), 0);
    EXPECT_EQ(op.dev_bus_addr, 0x1000000);
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, op.dev_bus_addr + 1),
              GNTST_bad_dev_addr, "low bits count");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 2, op.dev_bus_addr),
              GNTST_general_error, "nothing is mapped there");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 1, 0), GNTST_general_error,
              "the mapping there has another access (XSA-234)");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, none, 0), 0, "nothing to do");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, 0), 0, "host part");
    EXPECT_EQ(fh_gnt_map_info(&f->mapper->gnt, op.handle, &info), 0);
    EXPECT_EQ(info.flags, GNTMAP_device_map);
    EXPECT_EQ(info.ref, 8);
    EXPECT(info.granter == &f->granter->gnt);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 5, 0), 0, "host part is gone");
    EXPECT_EQ(unmap(f, f->mapper, op.handle, none, op.dev_bus_addr), 0);
    EXPECT_EQ(unmap(f, f->mapper, op.handle, none, op.dev_bus_addr),
              GNTST_bad_handle);
    EXPECT_EQ(fh_gnt_map_info(&f->mapper->gnt, op.handle, &info), FH_ENOENT);
    EXPECT_EQ(unmap(f, f->mapper, ro.handle, 1, 12345), 0,
              "a device address means nothing without a device map");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(f->granter->refs, 0);
}

static void
unmap__flushes_once_and_only_if_something_was_used(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref maps[32];
    struct gnttab_unmap_grant_ref ops[32];
    struct fh_gnt_stats stats;
    uint32_t done;

    for (int used = 0; used < 2; used++) {
        for (uint32_t i = 0; i < 32; i++)
            maps[i] = map_op(1, 8 + i, GNTMAP_host_map, i);
        EXPECT_EQ(fh_gnt_op_map(&f->ctx, &f->mapper->gnt, maps, 32, &done), 0);
        EXPECT_EQ(done, 32);
        if (used)
            world_touch(f->mapper, 17);
        for (uint32_t i = 0; i < 32; i++)
            ops[i] = (struct gnttab_unmap_grant_ref){
                .handle = maps[i].handle, .host_addr = world_addr(i)
            };
        EXPECT_EQ(fh_gnt_op_unmap(&f->ctx, &f->mapper->gnt, ops, 32, &done), 0);
        EXPECT_EQ(done, 32);
        for (uint32_t i = 0; i < 32; i++)
            EXPECT_EQ(ops[i].status, 0, "%u", i);
        EXPECT_EQ(f->mapper->flushes, used);
    }
    fh_gnt_stats_read(&f->mapper->gnt, &stats);
    EXPECT_EQ(stats.flushes, 1);
    EXPECT_EQ(stats.flushes_elided, 1);
    EXPECT_EQ(stats.maps, 64);
    EXPECT_EQ(stats.unmaps, 64);
    EXPECT_EQ(stats.elements, 128);
}

/* Counts and overflow: 4,095 is the least that is promised. */
static void
map__counts_far_and_never_wraps(void **state)
{
    struct fixture *f = *state;
    const uint32_t n = 5000;
    struct world_domain *d =
        world_add(&f->w, 4, 0x1060, 1, 1, 2 * n, 2 * n, 0);
    uint32_t *handles = d->mem[d->n_mem++] =
        malloc(2 * n * sizeof(*handles));
    struct fh_gnt_entry *e = fh_gnt_entry_at(&f->granter->gnt, 100);
    struct fh_gnt_entry_info info;
    struct gnttab_map_grant_ref op;

    fh_gnt_v1_grant(f->granter->table, 100, 4, 0x1000, false);
    for (uint32_t i = 0; i < 2 * n; i++) {
        op = map_op(1, 100, GNTMAP_host_map | (i & 1 ? GNTMAP_readonly : 0), i);
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &d->gnt, &op), 0, "%u", i);
        handles[i] = op.handle;
    }
    EXPECT_EQ(fh_gnt_entry_info(&f->granter->gnt, 100, &info), 0);
    EXPECT_EQ(info.readers, n);
    EXPECT_EQ(info.writers, n);
    EXPECT_EQ(info.grantee, 4);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(world_frame(&f->w, 0x1000)->refs, 1, "one for all of them");
    for (uint32_t i = 0; i < 2 * n; i++)
        EXPECT_EQ(unmap(f, d, handles[i], i, 0), 0, "%u", i);
    EXPECT_EQ(e->word, 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));

    /* at the end of the counter, by hand */
    for (int w = 0; w < 2; w++) {
        op = map_op(1, 100, GNTMAP_host_map | (w ? 0 : GNTMAP_readonly), 0);
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &d->gnt, &op), 0);
        handles[0] = op.handle;
        e->word += (FH_GNT_PIN_MAX - 1) * fh_entry_one(w);
        const uint64_t full = e->word;
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &d->gnt, &op), GNTST_general_error);
        EXPECT_EQ(e->word, full);
        e->word -= (FH_GNT_PIN_MAX - 1) * fh_entry_one(w);
        EXPECT_EQ(unmap(f, d, handles[0], 0, 0), 0);
    }
}

/* As many as fhv promises a domain, in batches, and one more. */
static void
map__holds_a_quarter_million_mappings(void **state)
{
    enum { N = 262144, BATCH = 1024 };
    struct fixture *f = *state;
    struct world_domain *d = world_add(&f->w, 4, 0x1060, 1, 1, N, 1, 0);
    static struct gnttab_map_grant_ref ops[BATCH];
    static uint32_t handles[N];
    struct fh_gnt_map_info info;
    uint32_t done, cursor = 0;

    fh_gnt_v1_grant(f->granter->table, 100, 4, 0x1000, false);
    fh_gnt_v1_grant(f->granter->table, 101, 4, 0x1001, true);
    for (uint32_t n = 0; n < N; n += BATCH) {
        for (uint32_t i = 0; i < BATCH; i++)
            ops[i] = map_op(1, 100 + i % 2,
                            GNTMAP_device_map | (i % 2 ? GNTMAP_readonly : 0),
                            0);
        EXPECT_EQ(fh_gnt_op_map(&f->ctx, &d->gnt, ops, BATCH, &done), 0);
        for (uint32_t i = 0; i < BATCH; i++) {
            EXPECT_EQ(ops[i].status, 0, "%u", n + i);
            handles[n + i] = ops[i].handle;
        }
    }
    ops[0] = map_op(1, 100, GNTMAP_device_map, 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &d->gnt, &ops[0]), GNTST_no_space);
    EXPECT_EQ(fh_gnt_map_info(&d->gnt, handles[N - 1], &info), 0);
    EXPECT_EQ(info.ref, 101);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    for (uint32_t i = 0; i < N; i += 2)
        EXPECT_EQ(unmap(f, d, handles[i], UINT32_MAX, 0x1000000), 0, "%u", i);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    while (fh_gnt_release_maps(&f->ctx, &d->gnt, 4096, &cursor))
        ;
    EXPECT_EQ(f->granter->refs, 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

/* A batch that does a bit of everything, for faults and preemption. */
static uint32_t
mixed_maps(struct gnttab_map_grant_ref *ops)
{
    uint32_t n = 0;

    ops[n++] = map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 0);
    ops[n++] = map_op(1, 8, GNTMAP_host_map, 1); /* upgrade */
    ops[n++] = map_op(1, 8, GNTMAP_host_map | GNTMAP_device_map, 2);
    ops[n++] = map_op(5, 8, GNTMAP_host_map, 3); /* no such domain */
    ops[n++] = map_op(1, 9, GNTMAP_host_map, 4);
    ops[n++] = map_op(1, 42, GNTMAP_host_map, 5); /* bad page */
    ops[n++] = map_op(1, 9, GNTMAP_host_map | GNTMAP_readonly, 6);
    ops[n++] = map_op(1, 600, GNTMAP_host_map, 7); /* no such reference */
    ops[n++] = map_op(1, 10, GNTMAP_device_map, 8);
    return n;
}

static void
run_maps(struct fixture *f, struct gnttab_map_grant_ref *ops, uint32_t n)
{
    uint32_t at = 0, done;

    while (at < n) {
        const long r =
            fh_gnt_op_map(&f->ctx, &f->mapper->gnt, ops + at, n - at, &done);

        EXPECT(done >= 1 && done <= n - at, "progress");
        at += done;
        EXPECT_EQ(r, at < n ? FH_GNT_E_PREEMPTED : 0);
    }
}

static void
unmap_all(struct fixture *f, struct gnttab_map_grant_ref *ops, uint32_t n)
{
    struct gnttab_unmap_grant_ref un[16];
    uint32_t m = 0, at = 0, done;

    for (uint32_t i = 0; i < n; i++) {
        if (!ops[i].status)
            un[m++] = (struct gnttab_unmap_grant_ref){
                .host_addr = ops[i].host_addr,
                .dev_bus_addr = ops[i].dev_bus_addr,
                .handle = ops[i].handle,
                .status = 77,
            };
    }
    while (at < m) {
        const long r =
            fh_gnt_op_unmap(&f->ctx, &f->mapper->gnt, un + at, m - at, &done);

        at += done;
        EXPECT_EQ(r, at < m ? FH_GNT_E_PREEMPTED : 0);
    }
    for (uint32_t i = 0; i < m; i++)
        EXPECT_EQ(un[i].status, 0, "unmap %u", i);
}

static void
map__undoes_everything_when_any_call_fails(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref ops[16], one;
    uint32_t n, seen = 0;

    for (int iommu = 0; iommu < 2; iommu++) {
        f->w.iommu = iommu;
        for (uint64_t k = 0; k < 1000; k++) {
            n = mixed_maps(ops);
            f->w.calls = 0;
            f->w.fail_at = k;
            f->w.did_fail = false;
            run_maps(f, ops, n);
            f->w.fail_at = UINT64_MAX;
            EXPECT(!world_check(&f->w), "fault %u: %s", (unsigned)k,
                   world_check(&f->w));
            unmap_all(f, ops, n);
            EXPECT(!world_check(&f->w), "fault %u: %s", (unsigned)k,
                   world_check(&f->w));
            EXPECT_EQ(f->granter->refs, 0, "fault %u", (unsigned)k);
            if (!f->w.did_fail)
                break;
            seen |= 1u << f->w.failed;
        }
        EXPECT(!f->w.did_fail, "the script has an end");
    }
    EXPECT_EQ(seen, 1u << W_DOMAIN_GET | 1u << W_MAY | 1u << W_FRAME_GET |
                        1u << W_FRAME_GET_WRITABLE | 1u << W_PT_INSTALL |
                        1u << W_IOMMU_MAP, "every call failed once");

    const struct { int verdict; int16_t status; } verdicts[] = {
        { FH_GNT_E_BAD_PAGE, GNTST_bad_page },
        { FH_GNT_E_AGAIN, GNTST_eagain },
        { FH_GNT_E_REFUSED, GNTST_general_error },
        { FH_ENOMEM, GNTST_general_error },
    };
    for (size_t i = 0; i < FH_ARRAY_SIZE(verdicts); i++) {
        one = map_op(1, 8, GNTMAP_host_map, 0);
        f->w.frame_verdict = verdicts[i].verdict;
        f->w.calls = 0;
        f->w.fail_at = 2; /* domain_get, may, frame_get */
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &one),
                  verdicts[i].status);
        f->w.fail_at = UINT64_MAX;
    }
    one = map_op(1, 8, GNTMAP_host_map, 0);
    f->w.calls = 0;
    f->w.fail_at = 1;
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &one),
              GNTST_permission_denied);
    f->w.fail_at = UINT64_MAX;
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
unmap__can_be_repeated_when_a_call_failed(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_device_map, 0);

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    for (unsigned k = 0; k < 2; k++) {
        f->w.calls = 0;
        f->w.fail_at = k; /* may, pt_remove */
        EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, op.dev_bus_addr),
                  k ? GNTST_general_error : GNTST_permission_denied);
        f->w.fail_at = UINT64_MAX;
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    }
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, op.dev_bus_addr), 0);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
preemption__changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref whole[16], ops[16];
    uint32_t n = mixed_maps(whole);

    run_maps(f, whole, n);
    unmap_all(f, whole, n);
    for (uint32_t every = 1; every < 4; every++) {
        mixed_maps(ops);
        f->w.preempt_every = every;
        run_maps(f, ops, n);
        for (uint32_t i = 0; i < n; i++) {
            EXPECT_EQ(ops[i].status, whole[i].status, "%u", i);
            EXPECT_EQ(ops[i].dev_bus_addr, whole[i].dev_bus_addr, "%u", i);
        }
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
        unmap_all(f, ops, n);
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    }
}

static void
iommu__follows_the_strongest_mapping(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref ro =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 0);
    struct gnttab_map_grant_ref rw = map_op(1, 8, GNTMAP_host_map, 1);
    const uint8_t *perm = &world_frame(&f->w, 0x1000)->io_perm[2];

    f->w.iommu = true;
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &ro), 0);
    EXPECT_EQ(*perm, 1);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &rw), 0);
    EXPECT_EQ(*perm, 3);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(unmap(f, f->mapper, rw.handle, 1, 0), 0);
    EXPECT_EQ(*perm, 1);
    EXPECT_EQ(f->mapper->io_flushes, 1);
    EXPECT_EQ(unmap(f, f->mapper, ro.handle, 0, 0), 0);
    EXPECT_EQ(*perm, 0);
    EXPECT_EQ(f->mapper->io_flushes, 2);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
}

static void
entry__closed_takes_no_new_pins_and_notify_tells_the_last(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op = map_op(1, 9, GNTMAP_host_map, 0);
    struct gnttab_map_grant_ref more = map_op(1, 9, GNTMAP_host_map, 1);

    EXPECT_EQ(fh_gnt_entry_set(&f->granter->gnt, 512, 0), FH_ERANGE);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    EXPECT_EQ(fh_gnt_entry_set(&f->granter->gnt, 9,
                               FH_GNT_ENTRY_CLOSED | FH_GNT_ENTRY_NOTIFY), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &more),
              GNTST_general_error);
    EXPECT_EQ(f->granter->kicks, 0);
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, 0), 0);
    EXPECT_EQ(f->granter->kicks, 1);
    EXPECT_EQ(f->granter->kicked_ref, 9);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &more),
              GNTST_general_error);
    EXPECT_EQ(fh_gnt_entry_set(&f->granter->gnt, 9, 0), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &more), 0);
    EXPECT_EQ(unmap(f, f->mapper, more.handle, 1, 0), 0);
    EXPECT_EQ(f->granter->kicks, 1);
}

static void
table__grows_to_its_end(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op = map_op(1, 512, GNTMAP_host_map, 0);

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), GNTST_bad_gntref);
    EXPECT_EQ(fh_gnt_table_frames(&f->granter->gnt), 1);
    EXPECT_EQ(fh_gnt_table_max_frames(&f->granter->gnt), 2);
    EXPECT_EQ(world_grow(f->granter), 0);
    fh_gnt_v1_grant(f->granter->table, 512, 2, 0x1000, false);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    EXPECT_EQ(fh_gnt_table_grow(&f->granter->gnt, NULL, NULL, 0), FH_ENOSPC);
    EXPECT_EQ(fh_gnt_table_frames(&f->granter->gnt), 2);
    EXPECT_EQ(unmap(f, f->mapper, op.handle, 0, 0), 0);
    EXPECT_EQ(fh_gnt_table_bytes(0), 0);
    EXPECT_EQ(fh_gnt_table_bytes(UINT32_MAX), 0);
    EXPECT_EQ(fh_gnt_maptrack_bytes(0), 0);
    EXPECT_EQ(fh_gnt_maptrack_bytes(FH_GNT_HANDLES_MAX + 1), 0);
    EXPECT_EQ(fh_gnt_maptrack_bytes(262144), 262144 * 32);
}

static void
death__of_the_mapper_releases_in_bounded_steps(void **state)
{
    struct fixture *f = *state;

    for (uint32_t budget = 1; budget < 12; budget += 5) {
        struct gnttab_map_grant_ref ops[16];
        const uint32_t n = mixed_maps(ops);
        uint32_t cursor = 0, steps = 0;

        f->w.iommu = true;
        run_maps(f, ops, n);
        memset(f->mapper->ptes, 0, N_PTES * sizeof(*f->mapper->ptes));
        for (uint32_t i = 0; i < WORLD_FRAMES; i++)
            f->w.frames[i].n_maps = 0;
        while (fh_gnt_release_maps(&f->ctx, &f->mapper->gnt, budget, &cursor)) {
            EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
            steps++;
        }
        EXPECT_EQ(steps,
                  (f->mapper->gnt.fresh_slots + budget - 1) / budget - 1);
        EXPECT_EQ(f->granter->refs, 0);
        EXPECT_EQ(f->granter->table[8].flags, GTF_permit_access);
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    }
}

static void
death__of_the_granter_keeps_what_is_mapped(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref a = map_op(1, 8, GNTMAP_host_map, 0);
    struct gnttab_map_grant_ref b = map_op(1, 8, GNTMAP_host_map, 1);
    struct gnttab_copy copy = { .source = { .u.ref = 8, .domid = 1 },
                                .dest = { .u.gmfn = 0x1020,
                                          .domid = DOMID_SELF },
                                .len = 16,
                                .flags = GNTCOPY_source_gref };

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &a), 0);
    fh_gnt_domain_kill(&f->granter->gnt);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &b), GNTST_bad_domain);
    EXPECT_EQ(fh_gnt_copy_one(&f->ctx, &f->mapper->gnt, &copy),
              GNTST_bad_domain);
    EXPECT_EQ(f->granter->refs, 1, "the page keeps the domain");
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(unmap(f, f->mapper, a.handle, 0, 0), 0);
    EXPECT_EQ(f->granter->refs, 0);
}

static void
death__an_id_used_again_inherits_nothing(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref a =
        map_op(1, 8, GNTMAP_host_map | GNTMAP_readonly, 0);
    struct gnttab_map_grant_ref b = a, rw = map_op(1, 8, GNTMAP_host_map, 0);
    struct world_domain old;
    struct gnttab_unmap_grant_ref un;

    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &a), 0);
    old = *f->mapper; /* dead, but its mapping is not released yet */
    f->mapper->n_mem = 0;
    f->mapper = world_add(&f->w, 2, 0x1020, 32, 1, N_HANDLES, N_PTES, 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &b),
              GNTST_general_error, "pinned by the one before");
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &rw),
              GNTST_general_error, "nor the first writer");
    EXPECT_EQ(unmap(f, f->mapper, a.handle, 0, 0), GNTST_bad_handle);

    un = (struct gnttab_unmap_grant_ref){ .handle = a.handle,
                                          .host_addr = world_addr(0) };
    old.gnt.stats = old.stats;
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &old.gnt, &un), 0);
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &b), 0);
    EXPECT_EQ(unmap(f, f->mapper, b.handle, 0, 0), 0);
    while (old.n_mem)
        free(old.mem[--old.n_mem]);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(map__answers_as_the_table_says),
        TEST(map__shows_the_granter_what_is_in_use),
        TEST(map__of_a_pinned_entry_ignores_what_the_granter_writes),
        TEST(map__upgrade_looks_at_the_readonly_bit_again),
        TEST(map__quota_is_the_table_and_nothing_is_stranded),
        TEST(unmap__refuses_handles_that_are_not_the_callers),
        TEST(unmap__checks_addresses_and_ends_with_the_last_part),
        TEST(unmap__flushes_once_and_only_if_something_was_used),
        TEST(map__counts_far_and_never_wraps),
        TEST(map__holds_a_quarter_million_mappings),
        TEST(map__undoes_everything_when_any_call_fails),
        TEST(unmap__can_be_repeated_when_a_call_failed),
        TEST(preemption__changes_nothing),
        TEST(iommu__follows_the_strongest_mapping),
        TEST(entry__closed_takes_no_new_pins_and_notify_tells_the_last),
        TEST(table__grows_to_its_end),
        TEST(death__of_the_mapper_releases_in_bounded_steps),
        TEST(death__of_the_granter_keeps_what_is_mapped),
        TEST(death__an_id_used_again_inherits_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
