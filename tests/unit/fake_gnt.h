/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A platform with nothing but gnt_map and gnt_unmap, which keeps books.
 *
 * Addresses are made up and never repeat; nobody may dereference them.  It
 * fails the test at an unmap that does not name a former map exactly.
 */
#include <stdbool.h>
#include <string.h>
#include <freehold/plat.h>
#include "expect.h"

enum {
    FAKE_GNT_DOMID = 7,
    FAKE_GNT_PAGES = 1 << 17, /* that can ever be mapped */
    FAKE_GNT_BASE = 1 << 24,  /* first address */
    FAKE_GNT_PAGE = 4096,
};

struct fake_gnt {
    struct fh_plat plat; /* first: the ops cast back */
    uint32_t refs[FAKE_GNT_PAGES];
    uint16_t length[FAKE_GNT_PAGES]; /* of the map that begins here, or 0 */
    uint32_t n_given;                /* pages */
    uint32_t n_mapped;
    uint32_t n_maps;
    uint32_t n_unmaps;
    uint32_t n_calls;
    uint32_t n_failed;
    uint32_t fail_at; /* this call fails: 1 is the first, 0 none */
    bool fail_all_unmaps;
    uint32_t refused; /* a reference that the peer did not grant */
};

static inline bool
fake_gnt_fails(struct fake_gnt *f)
{
    if (++f->n_calls != f->fail_at)
        return false;
    f->n_failed++;
    return true;
}

static inline int
fake_gnt_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs,
             uint32_t n, int prot, void **addr)
{
    struct fake_gnt *f = (struct fake_gnt *)p;

    EXPECT_EQ(domid, FAKE_GNT_DOMID, "map");
    EXPECT_EQ(prot, FH_PLAT_PROT_RW, "map");
    EXPECT(n > 0 && f->n_given + n <= FAKE_GNT_PAGES, "map of %u", n);
    if (fake_gnt_fails(f))
        return FH_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        if (refs[i] == f->refused)
            return FH_PLAT_E_REFUSED;

    memcpy(&f->refs[f->n_given], refs, n * sizeof(*refs));
    f->length[f->n_given] = (uint16_t)n;
    *addr = (void *)(FAKE_GNT_BASE + (uintptr_t)f->n_given * FAKE_GNT_PAGE);
    f->n_given += n;
    f->n_mapped += n;
    f->n_maps++;
    return 0;
}

static inline uint32_t
fake_gnt_index(const struct fake_gnt *f, const void *addr)
{
    uintptr_t at = (uintptr_t)addr - FAKE_GNT_BASE;

    EXPECT(at % FAKE_GNT_PAGE == 0 && at / FAKE_GNT_PAGE < f->n_given,
           "address %p", addr);
    return (uint32_t)(at / FAKE_GNT_PAGE);
}

static inline int
fake_gnt_unmap(struct fh_plat *p, void *addr, uint32_t n)
{
    struct fake_gnt *f = (struct fake_gnt *)p;
    uint32_t i = fake_gnt_index(f, addr);

    EXPECT_EQ(n, f->length[i], "unmap of what was mapped");
    if (fake_gnt_fails(f))
        return FH_EIO;
    if (f->fail_all_unmaps) {
        f->n_failed++;
        return FH_EIO;
    }
    f->length[i] = 0;
    f->n_mapped -= n;
    f->n_unmaps++;
    return 0;
}

static inline void
fake_gnt_init(struct fake_gnt *f)
{
    static const struct fh_plat_ops ops = {
        .gnt_map = fake_gnt_map,
        .gnt_unmap = fake_gnt_unmap,
    };

    memset(f, 0, sizeof(*f));
    f->plat.ops = &ops;
    f->refused = UINT32_MAX;
}

/* The reference whose page is at @addr; fails when nothing is mapped there. */
static inline uint32_t
fake_gnt_ref_at(const struct fake_gnt *f, const void *addr)
{
    uint32_t i = fake_gnt_index(f, addr);
    uint32_t k = i;

    while (!f->length[k] && k)
        k--;
    EXPECT(i - k < f->length[k], "%p is not mapped", addr);
    return f->refs[i];
}

/* True while a page of @ref is mapped. */
static inline bool
fake_gnt_maps(const struct fake_gnt *f, uint32_t ref)
{
    for (uint32_t i = 0; i < f->n_given; i++)
        for (uint32_t k = 0; k < f->length[i]; k++)
            if (f->refs[i + k] == ref)
                return true;
    return false;
}
