/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Included before every source of libgrant in the tests under the scheduler:
 * each access to memory that threads share is a point at which another thread
 * may run.
 */
#include "base/shared.h"

/* A point before an access to @p. */
void
sched_point(const FH_SHARED void *p, bool is_write);
/* Only another thread can change what this one waits for. */
void
sched_wait(void);

/*
 * Mutants, to see that the schedules find what is broken: a read-modify-write
 * that is none.
 *   1  the control words' compare-and-swaps (64 bits)
 *   2  the granter's entry's and the fresh slots' (32 bits)
 *   3  the withdrawal of the marks (16 bits, and)
 *   4  the addition that publishes a writer (64 bits)
 *   5  the or (32 bits): of event channels' pending bits and words
 */
#ifndef SCHED_MUTANT
#define SCHED_MUTANT 0
#endif

#define SCHED_TORN_(bits)                                                      \
    static inline bool sched_torn_cas##bits(                                   \
        FH_SHARED void *p, uint##bits##_t *expected, uint##bits##_t v)         \
    {                                                                          \
        const uint##bits##_t was = fh_load_relaxed##bits(p);                   \
                                                                               \
        if (was != *expected) {                                                \
            *expected = was;                                                   \
            return false;                                                      \
        }                                                                      \
        sched_point(p, true);                                                  \
        fh_store_relaxed##bits(p, v);                                          \
        return true;                                                           \
    }

SCHED_TORN_(32)
SCHED_TORN_(64)

static inline uint16_t
sched_torn_and16(FH_SHARED void *p, uint16_t v)
{
    const uint16_t was = fh_load_relaxed16(p);

    sched_point(p, true);
    fh_store_relaxed16(p, was & v);
    return was;
}

static inline uint64_t
sched_torn_add64(FH_SHARED void *p, uint64_t v)
{
    const uint64_t was = fh_load_relaxed64(p);

    sched_point(p, true);
    fh_store_relaxed64(p, was + v);
    return was;
}

static inline uint32_t
sched_torn_or32(FH_SHARED void *p, uint32_t v)
{
    const uint32_t was = fh_load_relaxed32(p);

    sched_point(p, true);
    fh_store_relaxed32(p, was | v);
    return was;
}

/* A macro's own name is not expanded again. */
#define SCHED_R_(p, call) (sched_point(p, false), call)
#define SCHED_W_(p, call) (sched_point(p, true), call)

#define fh_load_relaxed16(p) SCHED_R_(p, fh_load_relaxed16(p))
#define fh_load_relaxed32(p) SCHED_R_(p, fh_load_relaxed32(p))
#define fh_load_relaxed64(p) SCHED_R_(p, fh_load_relaxed64(p))
#define fh_load_ordered16(p) SCHED_R_(p, fh_load_ordered16(p))
#define fh_load_ordered32(p) SCHED_R_(p, fh_load_ordered32(p))
#define fh_load_ordered64(p) SCHED_R_(p, fh_load_ordered64(p))
#define fh_load_acquire16(p) SCHED_R_(p, fh_load_acquire16(p))
#define fh_load_ordered16(p) SCHED_R_(p, fh_load_ordered16(p))
#define fh_load_acquire32(p) SCHED_R_(p, fh_load_acquire32(p))
#define fh_load_ordered32(p) SCHED_R_(p, fh_load_ordered32(p))
#define fh_load_acquire64(p) SCHED_R_(p, fh_load_acquire64(p))
#define fh_load_ordered64(p) SCHED_R_(p, fh_load_ordered64(p))
#define fh_store_relaxed16(p, v) SCHED_W_(p, fh_store_relaxed16(p, v))
#define fh_store_relaxed32(p, v) SCHED_W_(p, fh_store_relaxed32(p, v))
#define fh_store_relaxed64(p, v) SCHED_W_(p, fh_store_relaxed64(p, v))
#define fh_store_release16(p, v) SCHED_W_(p, fh_store_release16(p, v))
#define fh_store_release32(p, v) SCHED_W_(p, fh_store_release32(p, v))
#define fh_store_release64(p, v) SCHED_W_(p, fh_store_release64(p, v))
#define fh_fetch_or16(p, v) SCHED_W_(p, fh_fetch_or16(p, v))
#if SCHED_MUTANT == 5
#define fh_fetch_or32(p, v) SCHED_W_(p, sched_torn_or32(p, v))
#else
#define fh_fetch_or32(p, v) SCHED_W_(p, fh_fetch_or32(p, v))
#endif
#define fh_fetch_or64(p, v) SCHED_W_(p, fh_fetch_or64(p, v))
#define fh_fetch_and32(p, v) SCHED_W_(p, fh_fetch_and32(p, v))
#define fh_fetch_and64(p, v) SCHED_W_(p, fh_fetch_and64(p, v))
#define fh_fetch_add32(p, v) SCHED_W_(p, fh_fetch_add32(p, v))
#define fh_exchange8(p, v) SCHED_W_(p, fh_exchange8(p, v))
#define fh_exchange32(p, v) SCHED_W_(p, fh_exchange32(p, v))
#define fh_exchange64(p, v) SCHED_W_(p, fh_exchange64(p, v))
#define fh_cas16(p, e, v) SCHED_W_(p, fh_cas16(p, e, v))
#if SCHED_MUTANT == 1
#define fh_cas64(p, e, v) SCHED_W_(p, sched_torn_cas64(p, e, v))
#else
#define fh_cas64(p, e, v) SCHED_W_(p, fh_cas64(p, e, v))
#endif
#if SCHED_MUTANT == 2
#define fh_cas32(p, e, v) SCHED_W_(p, sched_torn_cas32(p, e, v))
#else
#define fh_cas32(p, e, v) SCHED_W_(p, fh_cas32(p, e, v))
#endif
#if SCHED_MUTANT == 3
#define fh_fetch_and16(p, v) SCHED_W_(p, sched_torn_and16(p, v))
#else
#define fh_fetch_and16(p, v) SCHED_W_(p, fh_fetch_and16(p, v))
#endif
#if SCHED_MUTANT == 4
#define fh_fetch_add64(p, v) SCHED_W_(p, sched_torn_add64(p, v))
#else
#define fh_fetch_add64(p, v) SCHED_W_(p, fh_fetch_add64(p, v))
#endif
#define fh_cpu_relax() sched_wait()
