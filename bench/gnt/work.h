/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What gnt-bench measures: one mapper, granters, and the arrays that each
 * thread maps and unmaps again and again.
 */
#include "bench/gnt/count.h"
#include "bench/gnt/engine.h"

enum work_case {
    WORK_FRESH,       /* nobody else maps the entry */
    WORK_PINNED,      /* another mapping of the same access holds it */
    WORK_COPY,        /* 4 KiB from a fresh reference to an own frame */
    WORK_COPY_PINNED, /* ... from one that is mapped too */
    WORK_DEATH,       /* the mapper dies with --live mappings */
    WORK_N_CASES
};

/* Which entries the threads work on. */
enum work_share {
    WORK_DISJOINT, /* ranges of one granter that share no cache line */
    WORK_LINES,    /* every so-manieth entry of one granter */
    WORK_SAME,     /* the very same entries */
    WORK_GRANTERS, /* a granter for each thread */
    WORK_N_SHARES
};

extern const char *const work_case_names[WORK_N_CASES];
extern const char *const work_share_names[WORK_N_SHARES];

struct work_params {
    const struct bench_engine *engine;
    enum work_case what;
    enum work_share share;
    uint32_t live, n_threads, batch, frames, flush_us, cpus, budget, ms;
    bool iommu, readonly, touched, lfence, counts, times;
};

enum { WORK_BUCKETS = 40 };

/* What came out; a figure that was not taken is negative. */
struct work_result {
    double ns, wall_ns, instructions, locked, fences, lines;
    double map_instructions, map_locked; /* of them, the map's part */
    uint64_t unknown_operands;
    double flushes, iotlb_flushes, interrupted; /* per unmap */
    double retries;                             /* per operation */
    int64_t longest_units;
    uint64_t step_ns[WORK_BUCKETS]; /* steps of 2^i ns of CPU time or more */
    uint64_t n_steps, n_pairs;
};

/* Measures, or ends the program with a message. */
void
work_run(const struct work_params *p, struct work_result *r);
