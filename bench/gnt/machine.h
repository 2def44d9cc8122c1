/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The machine that all engines of gnt-bench run on: frames with references,
 * domains with a grant table and one page-table slot per address, flushes that
 * are counted and take as long as one is told.
 *
 * What is here is the hypervisor around a grant-table engine, the same for all
 * of them: an engine of the comparison calls it directly, ours through its
 * struct of operations, which costs ours an indirect call each time.  A frame's
 * references are counted as Xen counts them, by compare-and-swap.
 *
 * Threads: one CPU number each; everything shared is changed atomically.
 */
#include <stdlib.h>

#include <freehold/grant.h>

#include "base/arith.h"
#include "base/shared.h"

enum {
    BENCH_MAPPER = 1,        /* domid */
    BENCH_GRANTER = 2,       /* and the ones after it, one per thread */
    BENCH_MAX_CPUS = 64,
    BENCH_DOMAINS = 2 + BENCH_MAX_CPUS,
    BENCH_FIRST_REF = 8,     /* Xen keeps the ones below */
    BENCH_PAGE_BYTES = 4096,
};
#define BENCH_FIRST_MFN 0x100000ull

/* Frame references, as a hypervisor counts them. */
struct bench_frame {
    fh_word64 count; /* general references */
    fh_word64 type;  /* writable ones; bit 63: of another type */
    fh_word64 iommu; /* the engine's count, if it keeps one here */
    uint16_t owner;
    uint8_t io_perm; /* what devices may: 0, 1 read, 3 write too */
};
_Static_assert(sizeof(struct bench_frame) == 32, "as large as Xen's");

/* A page-table slot: mfn << 12 and these. */
enum { BENCH_PRESENT = 1, BENCH_RW = 1 << 1, BENCH_ACCESSED = 0x20 };

struct bench_domain {
    struct fh_gnt_domain gnt; /* first: ours finds the domain by it */
    struct bench_domain *next; /* of the same hash */
    uint16_t domid;
    fh_word32 refs;
    grant_entry_v1_t *table;
    uint32_t n_entries;
    uint64_t first_mfn; /* of one frame per entry */
    fh_word64 *ptes;
    uint32_t n_ptes; /* and one before them */
    void *engine; /* what another engine keeps for it */
};

/* Counters with one writer each, a cache line or more per CPU. */
struct bench_cpu {
    uint64_t flushes, iotlb_flushes, interrupted;
    uint64_t spins; /* turns of a wait for a lock, or swaps that lost */
    uint64_t filler[4];
} __attribute__((aligned(64)));

struct bench_machine {
    struct bench_domain *hash[64];
    struct bench_domain domains[BENCH_DOMAINS];
    struct bench_frame *frames;
    uint64_t n_frames;
    uint8_t *bytes; /* contents, of the frames below n_bytes_frames */
    uint32_t n_bytes_frames;
    uint32_t n_threads;
    uint32_t n_cpus; /* that a flush may have to interrupt */
    uint32_t n_granters;
    uint64_t flush_ns;
    uint32_t max_handles;
    bool iommu;
    fh_word32 want_stop; /* a hypercall is to be preempted; never here */
    struct bench_cpu cpu[BENCH_MAX_CPUS];
};

/* Zeroed memory, of which only what is used gets touched; or the end. */
void *
bench_zeroed(size_t bytes);

/* @n_entries: entries of every granter's table; @n_ptes: the mapper's slots. */
void
bench_machine_init(struct bench_machine *m, uint32_t n_entries,
                   uint32_t n_ptes);

/* One flush of @caller's translations: takes its time, is counted. */
void
bench_flush(struct bench_machine *m, unsigned cpu);

static inline struct bench_domain *
bench_domain_find(struct bench_machine *m, uint16_t domid)
{
    struct bench_domain *d = m->hash[domid % FH_ARRAY_SIZE(m->hash)];

    while (d && d->domid != domid)
        d = d->next;
    return d;
}

/* The frame that @owner calls @gfn, or NULL. */
static inline struct bench_frame *
bench_frame_find(struct bench_machine *m, uint16_t owner, uint64_t gfn)
{
    struct bench_frame *f;

    if (gfn < BENCH_FIRST_MFN || gfn - BENCH_FIRST_MFN >= m->n_frames)
        return NULL;
    f = &m->frames[gfn - BENCH_FIRST_MFN];
    return f->owner == owner ? f : NULL;
}

static inline struct bench_frame *
bench_frame_of(struct bench_machine *m, uint64_t mfn)
{
    return &m->frames[mfn - BENCH_FIRST_MFN];
}

/* A general reference, unless the frame belongs to somebody else. */
static inline bool
bench_page_get(struct bench_frame *f, uint16_t owner)
{
    uint64_t old = fh_load_relaxed64(&f->count);

    do {
        if (old + 1 == 0 || f->owner != owner)
            return false;
    } while (!fh_cas64(&f->count, &old, old + 1));
    return true;
}

static inline void
bench_page_put(struct bench_frame *f)
{
    uint64_t old = fh_load_relaxed64(&f->count);

    while (!fh_cas64(&f->count, &old, old - 1))
        ;
}

/* A reference that keeps the frame of the type that may be written. */
static inline bool
bench_type_get(struct bench_frame *f)
{
    uint64_t old = fh_load_relaxed64(&f->type);

    do {
        if (old >> 63)
            return false;
    } while (!fh_cas64(&f->type, &old, old + 1));
    return true;
}

static inline void
bench_type_put(struct bench_frame *f)
{
    uint64_t old = fh_load_relaxed64(&f->type);

    while (!fh_cas64(&f->type, &old, old - 1))
        ;
}

static inline fh_word64 *
bench_pte_at(struct bench_domain *d, uint64_t host_addr)
{
    const uint64_t page = host_addr >> FH_PAGE_SHIFT;

    return page <= d->n_ptes ? &d->ptes[page] : NULL;
}

/* Slot 0 is for nobody: address 0 is none. */
static inline uint64_t
bench_addr(uint64_t slot)
{
    return (slot + 1) << FH_PAGE_SHIFT;
}

static inline uint64_t
bench_pte_word(uint64_t mfn, bool readonly)
{
    return mfn << FH_PAGE_SHIFT | BENCH_PRESENT | (uint64_t)!readonly << 1;
}

/*
 * Installs a mapping.  An empty slot is not in the hardware's hands, so a store
 * does; what was there already has to be exchanged.
 */
static inline bool
bench_pte_install(struct bench_domain *d, uint64_t host_addr, uint64_t mfn,
                  bool readonly, uint64_t *old)
{
    fh_word64 *p = bench_pte_at(d, host_addr);
    const uint64_t word = bench_pte_word(mfn, readonly);

    if (!p)
        return false;
    *old = fh_load_relaxed64(p);
    if (*old)
        *old = fh_exchange64(p, word);
    else
        fh_store_release64(p, word); /* the payload is checked before */
    return true;
}

/* Takes the mapping out if it is this one. */
static inline bool
bench_pte_remove(struct bench_domain *d, uint64_t host_addr, uint64_t mfn,
                 bool readonly, uint64_t *old)
{
    fh_word64 *p = bench_pte_at(d, host_addr);

    if (!p || (fh_load_relaxed64(p) & ~(uint64_t)BENCH_ACCESSED) !=
                  bench_pte_word(mfn, readonly))
        return false;
    *old = fh_exchange64(p, 0);
    return true;
}

/* Whether a hypercall has to stop after the element at hand. */
static inline bool
bench_must_stop(struct bench_machine *m)
{
    return fh_load_relaxed32(&m->want_stop);
}

/* The contents of a frame, for copies.  Many frames share them, but not those
 * of two domains that a copy goes between. */
static inline uint8_t *
bench_bytes(struct bench_machine *m, uint64_t mfn)
{
    const uint64_t i = mfn - BENCH_FIRST_MFN;

    return &m->bytes[(i + i / 512 * 7) % m->n_bytes_frames * BENCH_PAGE_BYTES];
}
