/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The locks of the engines that have locks: a fair spinlock (tickets: one
 * locked instruction to take it, a store to let go) and a reader-writer lock
 * whose readers only note in a word of their CPU which lock they are in.
 *
 * BENCH_FENCE() stands where upstream stops speculation by default (after every
 * lock taken, after every bound checked); it is an instruction only in the
 * engine that is built so.
 */
#include "bench/gnt/machine.h"

#ifdef BENCH_WITH_LFENCE
#define BENCH_FENCE() __builtin_ia32_lfence()
#else
#define BENCH_FENCE() ((void)0)
#endif

/* ---------------------------------------------------------------- ticket -- */

/* The low half is whose turn it is, the high half the next ticket. */
struct ticket {
    uint16_t serving, next;
};
_Static_assert(sizeof(struct ticket) == 4, "taken by one 32-bit addition");

static inline void
ticket_lock(struct ticket *l, struct bench_cpu *cpu)
{
    const uint32_t was = fh_fetch_add32(l, 1u << 16);
    const uint16_t mine = (uint16_t)(was >> 16);

    if ((uint16_t)was != mine) {
        while (fh_load_acquire16(&l->serving) != mine) {
            cpu->spins++;
            fh_cpu_relax();
        }
    }
    BENCH_FENCE();
}

static inline void
ticket_unlock(struct ticket *l)
{
    const uint16_t turn = fh_load_relaxed16(&l->serving);

    fh_store_release16(&l->serving, (uint16_t)(turn + 1));
}

/* -------------------------------------------------------- reader, writer -- */

/* Which lock the CPU reads under, a line for each. */
struct reader {
    fh_word64 in;
} __attribute__((aligned(64)));

struct rwlock {
    fh_word32 word; /* readers of the slow way; RW_WRITER */
    fh_word32 writer_comes;
};
enum { RW_WRITER = 1 << 30 };

static inline void
rw_read_slowly(struct rwlock *l, struct reader *r, struct bench_cpu *cpu)
{
    fh_store_release64(&r->in, 0);
    while (fh_fetch_add32(&l->word, 1) & RW_WRITER) {
        fh_fetch_add32(&l->word, UINT32_MAX);
        while (fh_load_acquire32(&l->word) & RW_WRITER) {
            cpu->spins++;
            fh_cpu_relax();
        }
    }
    fh_store_relaxed64(&r->in, (uintptr_t)l);
    fh_fetch_add32(&l->word, UINT32_MAX);
}

/* Enters: the CPU's word says where it is, unless a writer asks it to wait. */
static inline void
rw_read(struct rwlock *l, struct reader *r, struct bench_cpu *cpu)
{
    fh_store_relaxed64(&r->in, (uintptr_t)l);
    fh_fence_full();
    if (fh_load_relaxed32(&l->writer_comes))
        rw_read_slowly(l, r, cpu);
    BENCH_FENCE();
}

static inline void
rw_read_done(struct rwlock *l, struct reader *r)
{
    fh_store_release64(&r->in, 0);
}

/* Alone: no other writer, then no CPU that reads. */
static inline void
rw_write(struct rwlock *l, struct reader *readers, uint32_t n_cpus,
         struct bench_cpu *cpu)
{
    uint32_t free = 0;

    while (!fh_cas32(&l->word, &free, RW_WRITER)) {
        free = 0;
        cpu->spins++;
        fh_cpu_relax();
    }
    fh_store_relaxed32(&l->writer_comes, 1);
    fh_fence_full();
    for (uint32_t i = 0; i < n_cpus; i++) {
        while (fh_load_acquire64(&readers[i].in) == (uintptr_t)l) {
            cpu->spins++;
            fh_cpu_relax();
        }
    }
    BENCH_FENCE();
}

static inline void
rw_write_done(struct rwlock *l)
{
    fh_store_release32(&l->writer_comes, 0);
    fh_fetch_and32(&l->word, ~(uint32_t)RW_WRITER);
}
