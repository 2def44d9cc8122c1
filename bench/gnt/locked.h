/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the engines with locks have in common: an active entry with four
 * 8-bit pin counters, references on the frame per mapping, handles that index
 * records, an unmap in two phases with one flush per 32 under one lock of the
 * machine.  Where they differ (which lock covers what, how a handle becomes a
 * record) each of them says in the functions declared in locked_flow.inc.
 *
 * Statuses and the order of checks are upstream's; version 1 entries, host
 * mappings and copies are all there is.
 */
#include "bench/gnt/engine.h"
#include "bench/gnt/lock.h"

/* Pin counters, a byte each. */
#define PIN_HSTW  0x00000001u
#define PIN_HSTR  0x00000100u
#define PIN_DEVW  0x00010000u
#define PIN_DEVR  0x01000000u
#define PIN_FULL(one) ((one) << 7)
#define PIN_HSTW_MASK (PIN_HSTW * 0xff)
#define PIN_W_MASK    (PIN_HSTW_MASK | PIN_DEVW * 0xff)

enum { UNMAP_BATCH = 32, SHARED_TRIES = 5, RECORDS_PER_PAGE = 256 };

/* A live mapping, as upstream keeps it; 16 bytes. */
struct record {
    uint32_t ref; /* free: the next free handle */
    uint16_t flags;
    uint16_t domid;
    uint32_t cpu;   /* whose free list it belongs to */
    uint32_t spare;
};

/* An active entry. */
struct active {
    struct ticket lock;
    uint32_t pin;
    uint16_t domid;
    uint16_t start, length;
    uint16_t spare;
    uint64_t gfn, mfn;
};
_Static_assert(sizeof(struct active) == 32, "as upstream's: two to a line");

/* An unmap between its phases. */
struct undone {
    struct bench_domain *granter; /* NULL: nothing to complete */
    uint32_t ref;
    bool readonly, removed;
    uint64_t mfn;
};

/* A call of one CPU. */
struct call {
    struct bench_machine *m;
    struct bench_cpu *counters;
    struct bench_domain *caller;
    unsigned cpu;
};

/* The lock that every flush of the machine takes. */
extern struct ticket locked_flush_lock;

static inline uint32_t
pin_of(bool readonly)
{
    return readonly ? PIN_HSTR : PIN_HSTW;
}

/* Marks the granter's word in use, if it allows the access. */
static inline int16_t
shared_take(grant_entry_v1_t *shared, uint16_t mapper, bool readonly,
            bool pinned, bool is_map)
{
    const uint32_t mask = GTF_type_mask | (is_map ? GTF_sub_page : 0);
    uint32_t word = fh_load_relaxed32(shared);

    for (int i = 0; i < SHARED_TRIES; i++) {
        uint32_t marked = word | GTF_reading;

        if (!pinned && ((word & mask) != GTF_permit_access ||
                        word >> 16 != mapper))
            return GNTST_general_error;
        BENCH_FENCE();
        if (!readonly) {
            if (word & GTF_readonly)
                return GNTST_general_error;
            marked |= GTF_writing;
        }
        if (fh_cas32(shared, &word, marked))
            return GNTST_okay;
    }
    return GNTST_general_error;
}

static inline void
shared_drop(grant_entry_v1_t *shared, uint32_t marks)
{
    fh_fetch_and16(&shared->flags, (uint16_t)~marks);
}

/* The first pin of an entry: what it stands for from now on. */
static inline int16_t
active_fill(struct call *c, struct active *a, struct bench_domain *granter,
            uint32_t ref)
{
    const uint64_t gfn = fh_load_relaxed32(&granter->table[ref].frame);
    const struct bench_frame *f =
        bench_frame_find(c->m, granter->domid, gfn);

    if (!f)
        return GNTST_bad_page;
    BENCH_FENCE();
    a->domid = c->caller->domid;
    a->start = 0;
    a->length = BENCH_PAGE_BYTES;
    a->gfn = gfn;
    a->mfn = gfn; /* a PV granter */
    return GNTST_okay;
}

/* One pin more, under the entry's lock. */
static inline int16_t
active_pin(struct call *c, struct active *a, struct bench_domain *granter,
           uint32_t ref, bool readonly, bool is_map)
{
    grant_entry_v1_t *shared = &granter->table[ref];
    const uint32_t one = pin_of(readonly);
    int16_t status;

    if (a->pin && (a->domid != c->caller->domid || (a->pin & PIN_FULL(one))))
        return GNTST_general_error;
    BENCH_FENCE();
    if (!a->pin || (!readonly && !(a->pin & PIN_W_MASK))) {
        status = shared_take(shared, c->caller->domid, readonly, a->pin,
                             is_map);
        if (status)
            return status;
        if (!a->pin)
            status = active_fill(c, a, granter, ref);
        if (status) {
            shared_drop(shared, GTF_reading | GTF_writing);
            return status;
        }
    }
    a->pin += one;
    return GNTST_okay;
}

/* One pin less, under the entry's lock; the granter is told. */
static inline void
active_unpin(struct active *a, struct bench_domain *granter, uint32_t ref,
             bool readonly)
{
    uint32_t marks = 0;

    a->pin -= pin_of(readonly);
    if (!(a->pin & PIN_W_MASK) && !readonly)
        marks |= GTF_writing;
    if (!a->pin)
        marks |= GTF_reading;
    if (marks)
        shared_drop(&granter->table[ref], marks);
}

/* The references of one mapping of @mfn. */
static inline bool
refs_get(struct call *c, uint64_t mfn, uint16_t owner, bool readonly)
{
    struct bench_frame *f = bench_frame_of(c->m, mfn);

    if (!bench_page_get(f, owner))
        return false;
    BENCH_FENCE();
    if (readonly || bench_type_get(f))
        return true;
    bench_page_put(f);
    return false;
}

static inline void
refs_put(struct call *c, uint64_t mfn, bool readonly)
{
    struct bench_frame *f = bench_frame_of(c->m, mfn);

    if (!readonly)
        bench_type_put(f);
    bench_page_put(f);
}

/* Every flush of the machine waits for every other. */
static inline void
flush_locked(struct call *c)
{
    ticket_lock(&locked_flush_lock, c->counters);
    bench_flush(c->m, c->cpu);
    ticket_unlock(&locked_flush_lock);
}
