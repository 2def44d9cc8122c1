/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Three domains for tests of tables of both versions, and one-line operations
 * on them.
 */
#include "world.h"

#include <string.h>

#include "../expect.h"
#include "grant/internal.h"

#define REF 8

struct fixture {
    struct world w;
    struct fh_gnt_ctx ctx;
    struct world_domain *a, *b, *c; /* domains 1, 2, 3; a grants to b */
};

static struct fixture f;

static inline int
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

static inline int
teardown(void **state)
{
    EXPECT(!world_check(&f.w), "%s", world_check(&f.w));
    world_fini(&f.w);
    return 0;
}

static inline long
set_version(struct world_domain *d, uint32_t version)
{
    struct gnttab_set_version op = { .version = version };
    uint32_t done;
    const long r = fh_gnt_op_set_version(&f.ctx, &d->gnt, &op, 1, &done);

    EXPECT_EQ(done, r != FH_GNT_E_PREEMPTED);
    EXPECT_EQ(op.version, done ? fh_gnt_version(&d->gnt) : version);
    return r;
}

static inline int16_t
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

static inline int16_t
unmap(uint32_t handle, uint32_t slot)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot) };

    return fh_gnt_unmap_one(&f.ctx, &f.b->gnt, &op);
}

enum { RW = GNTMAP_host_map, RO = GNTMAP_host_map | GNTMAP_readonly };

/* Copies between a page of @d's own and reference @ref of @dom. */
static inline int16_t
copy_in(struct world_domain *d, uint16_t dom, uint32_t ref, uint16_t offset,
        uint16_t len)
{
    const uint64_t own = d == f.b ? 0x1020 : d == f.a ? 0x1000 : 0x1040;
    struct gnttab_copy op = {
        .source = { .domid = dom, .u.ref = ref, .offset = offset },
        .dest = { .domid = DOMID_SELF, .u.gmfn = own },
        .len = len, .flags = GNTCOPY_source_gref
    };

    return fh_gnt_copy_one(&f.ctx, &d->gnt, &op);
}

static inline int16_t
copy_out(struct world_domain *d, uint16_t dom, uint32_t ref, uint16_t offset,
         uint16_t len)
{
    const uint64_t own = d == f.b ? 0x1020 : d == f.a ? 0x1000 : 0x1040;
    struct gnttab_copy op = {
        .dest = { .domid = dom, .u.ref = ref, .offset = offset },
        .source = { .domid = DOMID_SELF, .u.gmfn = own },
        .len = len, .flags = GNTCOPY_dest_gref
    };

    return fh_gnt_copy_one(&f.ctx, &d->gnt, &op);
}
