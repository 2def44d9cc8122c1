/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Runs up to three threads of the engine on an MMU, as coroutines, and lets the
 * processors, the devices and the other threads take a step at any shared
 * access of the engine and at any step of the embedder.
 *
 * Exhaustive: every run in which at most `budget` such steps are not forced.
 * Random: as many as one likes, by seeds.  mmu_check() is asked after each.
 */
#include "mmu.h"

#define EXPLORE_THREADS 3

/* What sched/points.h calls before the engine's accesses, and while it spins. */
void
sched_point(const FH_SHARED void *p, bool is_write);
void
sched_wait(void);

struct explore {
    const char *name;
    struct mmu *m;
    void (*reset)(void);
    void (*thread[EXPLORE_THREADS])(void);
    uint32_t mapper;  /* domid: whose slots and I/O pages are touched */
    uint32_t slots;   /* slots 0 .. are filled by any processor */
    uint32_t io_keys; /* I/O pages 0 .. are used by devices */
    bool half_walks;  /* a walk may be between reading and filling */
    bool switches;    /* the last processor comes and goes */
    unsigned budget;
    uint32_t seeds; /* random runs */
    uint64_t runs;  /* out */
};

/* NULL, or what was seen, and how to see it again, in a static buffer.
 * Stops at the first. */
const char *
explore(struct explore *e);
