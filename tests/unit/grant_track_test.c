/* SPDX-License-Identifier: MIT */
/*
 * Map tracking beside the fast path: the reserve of handles, and the way from
 * an address to its mapping.
 */
#include "grant/world.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define N_HANDLES  16
#define N_RESERVED 4
#define N_PTES     64
#define DISK       30 /* references from here on are the disk's */

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *granter, *mapper;
};

static int
setup(void **state)
{
    static struct fixture f;

    world_init(&f.w);
    f.granter = world_add(&f.w, 1, 0x1000, 32, 2, N_HANDLES, N_PTES, 0);
    f.mapper = world_add(&f.w, 2, 0x1020, 32, 1, N_HANDLES, N_PTES, 0);
    fh_gnt_maptrack_reserve(&f.mapper->gnt, N_RESERVED);
    world_add_map_words(f.mapper);
    f.w.reserve_from_ref = DISK;
    fh_gnt_ctx_init(&f.ctx, &f.w.ops, &f.w, 0);
    for (uint32_t ref = 8; ref < 40; ref++)
        fh_gnt_v1_grant(f.granter->table, ref, 2, 0x1000 + ref - 8, false);
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    world_fini(&f->w);
    return 0;
}

static struct gnttab_map_grant_ref
map_op(uint32_t ref, uint32_t slot)
{
    return (struct gnttab_map_grant_ref){ .dom = 1, .ref = ref,
                                          .flags = GNTMAP_host_map,
                                          .host_addr = world_addr(slot) };
}

static int16_t
map(struct fixture *f, uint32_t ref, uint32_t slot, uint32_t *handle)
{
    struct gnttab_map_grant_ref op = map_op(ref, slot);
    const int16_t r = fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op);

    *handle = r ? UINT32_MAX : op.handle;
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    return r;
}

static int16_t
unmap(struct fixture *f, uint32_t handle, uint32_t slot)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot) };
    const int16_t r = fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &op);

    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    return r;
}

/* ----------------------------------------------------------- the reserve -- */

/* XSA-228 is the scar: who takes what from whose list. */
static void
reserve__is_kept_for_what_the_embedder_names(void **state)
{
    struct fixture *f = *state;
    const uint32_t n = N_HANDLES - N_RESERVED;
    uint32_t h[N_HANDLES], more;

    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < n; i++)
            EXPECT_EQ(map(f, 8 + i, i, &h[i]), 0, "%u", i);
        EXPECT_EQ(map(f, 8, 20, &more), GNTST_no_space, "the network's");
        for (uint32_t i = n; i < N_HANDLES; i++)
            EXPECT_EQ(map(f, DISK, i, &h[i]), 0, "the disk's: %u", i);
        EXPECT_EQ(map(f, DISK, 20, &more), GNTST_no_space, "all is spent");
        EXPECT_EQ(unmap(f, h[n], n), 0);
        EXPECT_EQ(map(f, 8, 20, &more), GNTST_no_space,
                  "a slot goes back where it belongs");
        EXPECT_EQ(map(f, DISK, n, &h[n]), 0);
        for (uint32_t i = 0; i < N_HANDLES; i++)
            EXPECT_EQ(unmap(f, h[i], i), 0, "%u", i);
    }
}

static void
reserve__is_the_last_thing_that_is_taken(void **state)
{
    struct fixture *f = *state;
    uint32_t h;

    EXPECT_EQ(map(f, DISK, 0, &h), 0);
    EXPECT_EQ(f->mapper->gnt.fresh_reserve, 0, "others are left");
    EXPECT_EQ(unmap(f, h, 0), 0);
}

/* One call that may use the reserve for some of its elements only, and whose
 * maps fail in between. */
static void
reserve__does_not_leak_to_the_next_element(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref ops[6];
    uint32_t h[N_HANDLES], done;

    for (uint32_t i = 0; i < N_HANDLES - N_RESERVED; i++)
        EXPECT_EQ(map(f, 8 + i, i, &h[i]), 0, "%u", i);
    ops[0] = map_op(8, 20);
    ops[1] = map_op(600, 20);     /* the disk's, but no such reference */
    ops[2] = map_op(9, 21);       /* not the disk's */
    ops[3] = map_op(DISK, 22);
    ops[4] = map_op(DISK, N_PTES); /* no page table there */
    ops[5] = map_op(10, 23);
    EXPECT_EQ(fh_gnt_op_map(&f->ctx, &f->mapper->gnt, ops, 6, &done), 0);
    EXPECT_EQ(ops[0].status, GNTST_no_space);
    EXPECT_EQ(ops[1].status, GNTST_bad_gntref);
    EXPECT_EQ(ops[2].status, GNTST_no_space);
    EXPECT_EQ(ops[3].status, 0);
    EXPECT_EQ(ops[4].status, GNTST_general_error);
    EXPECT_EQ(ops[5].status, GNTST_no_space);
    EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(unmap(f, ops[3].handle, 22), 0);
}

static void
reserve__is_nobodys_if_the_embedder_says_nothing(void **state)
{
    struct fixture *f = *state;
    uint32_t h;

    f->w.ops.may_use_reserve = NULL;
    for (uint32_t i = 0; i < N_HANDLES - N_RESERVED; i++)
        EXPECT_EQ(map(f, 8 + i, i, &h), 0, "%u", i);
    EXPECT_EQ(map(f, DISK, 20, &h), GNTST_no_space);
}

static void
reserve__is_released_at_death(void **state)
{
    struct fixture *f = *state;
    uint32_t h, cursor = 0;

    for (uint32_t i = 0; i < N_HANDLES; i++)
        EXPECT_EQ(map(f, DISK, i, &h), 0, "%u", i);
    memset(f->mapper->ptes, 0, N_PTES * sizeof(*f->mapper->ptes));
    memset(f->mapper->map_words, 0, N_PTES * sizeof(uint32_t));
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        f->w.frames[i].n_maps = 0;
    while (fh_gnt_release_maps(&f->ctx, &f->mapper->gnt, 5, &cursor))
        EXPECT(!world_check(&f->w), "%s", world_check(&f->w));
    EXPECT_EQ(f->granter->refs, 0);
}

/* ------------------------------------------------- by address (mail 000) -- */

static void
map_at__finds_what_is_mapped_there(void **state)
{
    struct fixture *f = *state;
    struct fh_gnt_map_info info;
    uint32_t a, b;

    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(3), &info),
              FH_ENOENT, "nothing yet");
    EXPECT_EQ(map(f, 8, 3, &a), 0);
    EXPECT_EQ(map(f, 9, 4, &b), 0);
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(3), &info), 0);
    EXPECT_EQ(info.ref, 8);
    EXPECT_EQ(info.mfn, 0x1000);
    EXPECT_EQ(info.host_addr, world_addr(3));
    EXPECT(info.granter == &f->granter->gnt);
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(4), &info), 0);
    EXPECT_EQ(info.ref, 9);
    EXPECT_EQ(unmap(f, a, 3), 0);
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(3), &info),
              FH_ENOENT, "no more");
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(N_PTES),
                            &info), FH_ENOENT, "an address of none");
    EXPECT_EQ(unmap(f, b, 4), 0);
}

/* Different from Xen on purpose, for embedders with map_word: two mappings of
 * one page with one access are not exchanged for each other. */
static void
map_at__wants_unmap_to_name_the_address_of_its_map(void **state)
{
    struct fixture *f = *state;
    uint32_t a, b;

    EXPECT_EQ(map(f, 8, 3, &a), 0);
    EXPECT_EQ(map(f, 8, 4, &b), 0);
    EXPECT_EQ(unmap(f, a, 4), GNTST_general_error);
    EXPECT_EQ(unmap(f, a, 3), 0);
    EXPECT_EQ(unmap(f, b, 4), 0);

    f->w.ops.map_word = NULL;
    f->mapper->map_words = NULL;
    EXPECT_EQ(map(f, 8, 3, &a), 0);
    EXPECT_EQ(map(f, 8, 4, &b), 0);
    EXPECT_EQ(unmap(f, a, 4), 0, "as on Xen");
    EXPECT_EQ(unmap(f, b, 3), 0);
}

/* What a later map put in the place is not taken for the earlier one. */
static void
map_at__of_an_address_that_was_mapped_over(void **state)
{
    struct fixture *f = *state;
    struct fh_gnt_map_info info;
    uint32_t a, b;

    EXPECT_EQ(map(f, 8, 3, &a), 0);
    EXPECT_EQ(map(f, 8, 3, &b), 0, "Xen's PV guests may");
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(3), &info), 0);
    EXPECT_EQ(unmap(f, a, 3), GNTST_general_error, "its page is not there");
    EXPECT_EQ(unmap(f, b, 3), 0);
    EXPECT_EQ(unmap(f, a, 3), GNTST_general_error, "until its mapper dies");
}

/* Constant time is not measured here, but that the word alone leads there. */
static void
map_at__follows_a_stale_word_to_nothing(void **state)
{
    struct fixture *f = *state;
    struct fh_gnt_map_info info;
    uint32_t a, b;

    EXPECT_EQ(map(f, 8, 3, &a), 0);
    EXPECT_EQ(unmap(f, a, 3), 0);
    EXPECT_EQ(map(f, 9, 4, &b), 0);
    EXPECT_EQ(b & (N_HANDLES - 1), a & (N_HANDLES - 1), "the same slot");
    f->mapper->map_words[3] = a + 1;
    EXPECT_EQ(fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(3), &info),
              FH_ENOENT, "another generation");
    f->mapper->map_words[3] = 0;
    EXPECT_EQ(unmap(f, b, 4), 0);
}

enum { ROUNDS = 4000, ASKERS = 2 };

struct asker {
    pthread_t thread;
    struct fixture *f;
    uint32_t stop;
    uint64_t found;
};

static void *
ask(void *arg)
{
    struct asker *a = arg;
    struct fixture *f = a->f;

    while (!fh_load_acquire32(&a->stop)) {
        for (uint32_t slot = 0; slot < 8; slot++) {
            struct fh_gnt_map_info info;

            if (fh_gnt_map_at(&f->ctx, &f->mapper->gnt, world_addr(slot),
                              &info))
                continue;
            a->found++;
            if (info.host_addr != world_addr(slot) ||
                info.mfn != 0x1000 + info.ref - 8)
                abort();
        }
    }
    return NULL;
}

/* Whole answers only, while the mappings come and go. */
static void
map_at__beside_maps_and_unmaps(void **state)
{
    struct fixture *f = *state;
    struct asker askers[ASKERS] = { { 0 } };
    uint32_t h[8] = { 0 };

    for (int i = 0; i < ASKERS; i++) {
        askers[i].f = f;
        EXPECT_EQ(pthread_create(&askers[i].thread, NULL, ask, &askers[i]), 0);
    }
    for (uint32_t n = 0; n < ROUNDS; n++) {
        const uint32_t slot = n % 8;
        struct gnttab_map_grant_ref op = map_op(8 + n % 21, slot);
        struct gnttab_unmap_grant_ref u = { .handle = h[slot],
                                            .host_addr = op.host_addr };

        if (n >= 8)
            EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u), 0);
        EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
        h[slot] = op.handle;
    }
    for (int i = 0; i < ASKERS; i++) {
        fh_store_release32(&askers[i].stop, 1);
        pthread_join(askers[i].thread, NULL);
    }
}

/* --------------------------------------------------------- the I/O count -- */

/* XSA-394: it lives and dies with its handle, not with a part of it. */
static void
iommu__counts_once_per_handle(void **state)
{
    struct fixture *f = *state;
    struct gnttab_map_grant_ref op = map_op(8, 3);
    const uint64_t *count = &world_frame(&f->w, 0x1000)->iommu[2];
    struct gnttab_unmap_grant_ref u = { 0 };

    f->w.iommu = true;
    op.flags |= GNTMAP_device_map;
    EXPECT_EQ(fh_gnt_map_one(&f->ctx, &f->mapper->gnt, &op), 0);
    EXPECT_EQ(fh_entry_writers(*count), 1, "host and device are one handle");
    u.handle = op.handle;
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u), 0);
    EXPECT_EQ(fh_entry_writers(*count), 1, "nothing was unmapped");
    u.host_addr = op.host_addr;
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u), 0);
    EXPECT_EQ(fh_entry_writers(*count), 1, "the device part is there still");
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u), 0,
              "the host part once more");
    EXPECT_EQ(fh_entry_writers(*count), 1);
    u.host_addr = 0;
    u.dev_bus_addr = op.dev_bus_addr;
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u), 0);
    EXPECT_EQ(*count, 0);
    EXPECT_EQ(world_frame(&f->w, 0x1000)->io_perm[2], 0);
    EXPECT_EQ(fh_gnt_unmap_one(&f->ctx, &f->mapper->gnt, &u),
              GNTST_bad_handle);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(reserve__is_kept_for_what_the_embedder_names),
        TEST(reserve__is_the_last_thing_that_is_taken),
        TEST(reserve__does_not_leak_to_the_next_element),
        TEST(reserve__is_nobodys_if_the_embedder_says_nothing),
        TEST(reserve__is_released_at_death),
        TEST(map_at__finds_what_is_mapped_there),
        TEST(map_at__wants_unmap_to_name_the_address_of_its_map),
        TEST(map_at__of_an_address_that_was_mapped_over),
        TEST(map_at__follows_a_stale_word_to_nothing),
        TEST(map_at__beside_maps_and_unmaps),
        TEST(iommu__counts_once_per_handle),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
