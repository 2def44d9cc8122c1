/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A small machine for tests of libgrant: frames, domains, page tables, an
 * IOMMU, and every operation of struct fh_hv_ops, each of which can be made to
 * fail.  Frames are referred to by machine frame number; a domain's gfn is its
 * mfn, as for a PV guest.
 *
 * Thread-safe where the engine is: counts are atomic, page tables are one slot
 * per mapping.  Faults and hooks are for single-threaded tests.
 */
#include <freehold/grant.h>

#include "base/arith.h"
#include "base/shared.h"

#define WORLD_DOMAINS 6
#ifndef WORLD_FRAMES
#define WORLD_FRAMES 512 /* machine frames 0x1000 .. */
#endif
#define WORLD_MFN0    0x1000u
#define WORLD_NO_MFN  UINT64_MAX

/* What a failed call was.  One bit per fallible operation. */
enum world_op {
    W_DOMAIN_GET,
    W_MAY,
    W_FRAME_GET,
    W_FRAME_GET_WRITABLE,
    W_FRAME_MAP,
    W_PT_INSTALL,
    W_PT_REMOVE,
    W_PT_REPLACE,
    W_IOMMU_MAP,
    W_FRAME_OWNER,
    W_CACHE_FLUSH,
    W_PAGE_STEAL,
    W_PAGE_OFFER,
    W_TABLE_GROW,
    W_GUEST_WRITE,
    W_N_OPS
};

struct world_frame {
    uint16_t owner; /* domid */
    uint32_t refs, writable_refs;
    uint32_t n_maps; /* host page-table entries that point here */
    uint64_t iommu[WORLD_DOMAINS];
    uint8_t io_perm[WORLD_DOMAINS]; /* 0 none, 1 read, 3 read and write */
    uint8_t bytes[FH_PAGE_BYTES] __attribute__((aligned(8)));
};

struct world_pte {
    uint64_t word; /* mfn << 8 | W_PTE_* */
};
/* OWN: the guest's, of a page of its own. */
enum { W_PTE_PRESENT = 1, W_PTE_RW = 2, W_PTE_ACCESSED = 4, W_PTE_OWN = 8 };

struct world_domain {
    struct fh_gnt_domain gnt;
    bool exists;
    uint32_t refs; /* the engine's */
    uint32_t kicks, kicked_ref;
    grant_entry_v1_t *table;
    grant_entry_v2_t *table2; /* the same memory in version 2 */
    grant_status_t *status;
    bool refuses_to_grow;
    uint32_t n_ptes;
    struct world_pte *ptes;
    uint32_t *map_words; /* one per slot; NULL: the world has none */
    uint64_t flushes, io_flushes;
    void *mem[80];
    uint32_t n_mem;
    bool guest_lies; /* the guest writes GTF_reading and _writing itself */
    struct fh_gnt_stats stats[8];
};

struct world {
    struct fh_hv_ops ops;
    struct world_frame *frames;
    struct world_domain dom[WORLD_DOMAINS];
    uint64_t next_uid;
    /* faults: the call number @fail_at (from 0) of any fallible op fails */
    uint64_t calls, fail_at;
    enum world_op failed;
    bool did_fail;
    int frame_verdict; /* what a failing frame_get answers */
    /* preempt after every @preempt_every asks; 0 never */
    uint32_t preempt_every, preempt_asks;
    bool iommu;
    /* pages on their way, given away and freed by transfer; what page_offer
     * hands out for a page that is too high; the highest that was allowed */
    uint32_t n_stolen, n_offered, n_assigned, n_freed;
    uint64_t low_mfn, max_mfn;
    /* who may use reserves: maps of references from here on; 0 nobody */
    uint32_t reserve_from_ref;
    /* the last cache_flush */
    struct {
        uint32_t calls, offset, n, op;
        uint64_t mfn;
    } cache;
    /* called before each operation of the embedder */
    void (*hook)(struct world *w, void *arg);
    void *hook_arg;
};

void
world_init(struct world *w);
void
world_fini(struct world *w);

/* Makes domain @domid with @n_frames frames of machine memory from @mfn on, a
 * table of @max_frames grant frames (one there already), room for @n_handles
 * and @n_ptes page-table slots. */
struct world_domain *
world_add(struct world *w, uint16_t domid, uint64_t mfn, uint32_t n_frames,
          uint32_t max_frames, uint32_t n_handles, uint32_t n_ptes,
          uint32_t flags);

/* Appends a grant frame. */
int
world_grow(struct world_domain *d);

/* Numbers of the frames of a table, and of its status frames. */
#define WORLD_GRANT_GFN(domid, i)  (0x100000u + (domid) * 0x1000u + (i))
#define WORLD_STATUS_GFN(domid, i) (0x200000u + (domid) * 0x1000u + (i))

struct world_frame *
world_frame(struct world *w, uint64_t mfn);

static inline uint64_t
world_addr(uint32_t slot)
{
    return ((uint64_t)slot + 1) << 12;
}

/* A CPU uses the mapping in @slot. */
void
world_touch(struct world_domain *d, uint32_t slot);

/* Lets mappings of @d be found by their address. */
void
world_add_map_words(struct world_domain *d);

/* The guest of @d maps its own frame @mfn in @slot. */
void
world_map_own(struct world_domain *d, uint32_t slot, uint64_t mfn);

/* Checks I1, I2, I3, I5 and I6 of the reference over everything; the world must
 * be quiescent.  NULL, or what is wrong. */
const char *
world_check(struct world *w);
