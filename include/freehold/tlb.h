/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * TLB flushes of a machine, shared between everybody who asks for one.
 *
 * struct fh_tlb stands for the machine's processors: one for all domains, in
 * the embedder's memory, for ever.  The domains that it is given to
 * (fh_gnt_domain_params.tlb) flush through fh_hv_ops.tlb_cpus and
 * tlb_flush_cpus, and
 *
 *   - processors that flushed by themselves since the mapping was taken out are
 *     left alone (the generation filter),
 *   - requests that arrive while a flush is running wait for one flush that
 *     serves all of them, instead of queueing for one each.
 *
 * Time is a counter that goes up with every request.  A processor that flushes
 * all its translations for a reason of its own, a context switch for instance,
 * says so:
 *
 *     stamp = fh_tlb_begin(tlb);          before
 *     ... flush ...
 *     fh_tlb_flushed(tlb, cpu, stamp);    after
 *
 * What it may not do is say so with a stamp taken during the flush or after:
 * a request made meanwhile would not be served by it.
 *
 * Threads: any.  Nothing here blocks.
 */
#include <stdint.h>

/* Processors of one machine. */
#define FH_TLB_CPUS_MAX 1024u
/* A set of processors: bit c % 64 of word c / 64. */
#define FH_TLB_WORDS (FH_TLB_CPUS_MAX / 64)

/* One processor.  The stamp of the last flush that it is known to have made. */
struct fh_tlb_cpu {
    uint64_t flushed;
} __attribute__((aligned(64)));

/* All fields are the engine's. */
struct fh_tlb {
    uint64_t clock; /* the last request's time */
    uint32_t n_cpus;
    struct fh_tlb_cpu *cpus;
    uint32_t led __attribute__((aligned(64))); /* 1: somebody is flushing */
    uint64_t wanted[FH_TLB_WORDS]; /* who has to flush at the next turn */
};

/* @cpus: @n_cpus of them (1 .. FH_TLB_CPUS_MAX), zeroed, for as long as @tlb */
void
fh_tlb_init(struct fh_tlb *tlb, uint32_t n_cpus, struct fh_tlb_cpu *cpus);

/* The stamp of a flush that begins after this returned. */
uint64_t
fh_tlb_begin(const struct fh_tlb *tlb);

/* Processor @cpu holds no translation any more that was taken out before
 * fh_tlb_begin() gave @stamp. */
void
fh_tlb_flushed(struct fh_tlb *tlb, uint32_t cpu, uint64_t stamp);
