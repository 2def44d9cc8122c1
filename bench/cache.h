/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A pgrant cache without a hypervisor below it, filled with references, for
 * the programs that measure the cache alone.
 */
#include <freehold/pgrant.h>

#include "base/arith.h"
#include "bench/measure.h"

enum {
    FIRST_REF = 8,   /* Xen keeps the ones below */
    RING_REFS = 352, /* 32 slots of 11 segments: one ring's ideal */
};

/* Any address will do: nobody touches the pages. */
static inline int
cache_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs, uint32_t n,
          int prot, void **addr)
{
    *addr = (void *)((uintptr_t)1 << 32);
    return 0;
}

static inline int
cache_unmap(struct fh_plat *p, void *addr, uint32_t n)
{
    return 0;
}

static const struct fh_plat_ops cache_ops = { .gnt_map = cache_map,
                                              .gnt_unmap = cache_unmap };
static struct fh_plat cache_plat = { .ops = &cache_ops };

/* Makes @c hold the references FIRST_REF .. FIRST_REF + @n - 1, all idle. */
static inline void
cache_fill(struct fh_pgrant *c, uint32_t n)
{
    const struct fh_pgrant_params params = { .plat = &cache_plat,
                                             .domid = 1,
                                             .max_pages = n,
                                             .idle_ns = UINT64_MAX };
    const size_t bytes = fh_pgrant_bytes(&params);
    void *mem = bytes ? aligned_alloc(64, (bytes + 63) & ~(size_t)63) : NULL;

    if (!mem || fh_pgrant_init(c, mem, &params)) {
        fprintf(stderr, "no cache of %u pages\n", n);
        exit(1);
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t ref = FIRST_REF + i;
        void *addr;

        if (fh_pgrant_get(c, &ref, 1, 0, &addr)) {
            fprintf(stderr, "reference %u was not cached\n", ref);
            exit(1);
        }
        fh_pgrant_put(c, &ref, 1, 0);
    }
}
