/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A deterministic scheduler: two or three threads of a program run as
 * coroutines, one at a time, and change places only at the points of points.h.
 * sched_explore() runs the program once for every order of their steps in which
 * no more than a given number of switches is unforced.
 *
 * First it runs the program with whole operations as steps: every order of
 * them.  What comes out there (the results of the operations and the state at
 * the end) are the outcomes that the specification allows; each outcome of the
 * finer runs must be one of these.
 *
 * One process, one real thread, no randomness: the same choices are the same
 * run.  A failure prints the choices; SCHED_REPLAY=CHOICES runs them alone.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHED_THREADS 3

struct sched_program {
    const char *name;
    void (*reset)(void); /* the state at the start, the same each time */
    void (*thread[SCHED_THREADS])(void);
    /* At the end: what is wrong, or NULL. */
    const char *(*judge)(void);
    /* The state at the end, in letters, for the comparison of outcomes. */
    void (*digest)(char *buf, size_t size);
    unsigned unforced; /* switches that nobody had to make, at most */
    /* An outcome that no order of whole operations has; NULL: none. */
    bool (*may_also)(const char *outcome);
};

struct sched_stats {
    uint64_t runs, steps;
    unsigned outcomes, allowed;
};

/* Runs @p in all orders.  NULL, or what went wrong and with what choices (in a
 * static buffer). */
const char *
sched_explore(const struct sched_program *p, struct sched_stats *stats);

/* For the threads: between two operations. */
void
sched_between(void);
/* What the operation that just ended came to. */
void
sched_result(int value);
/* Stops the run: something that must never be seen was. */
void
sched_fail(const char *why);
/* True: memory that is nobody else's business, no point before it. */
extern bool (*sched_is_private)(const void *p);
