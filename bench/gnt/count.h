/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Counts what the processor executes: inside count_add() the calling thread
 * runs one instruction at a time (the trap flag), and the signal handler
 * decodes each: is it locked, a fence, which cache lines does it touch.  Exact
 * and the same in every run; tens of microseconds a step.
 *
 * A repeated string move is one instruction here, as it is to a processor's
 * counters; lines of the thread's stack are not counted, nor those that only
 * code is in.  x86-64 only: elsewhere count_available() is false.
 *
 * Threads: one at a time.
 */
#include <stdbool.h>
#include <stdint.h>

struct counted {
    uint64_t instructions;
    uint64_t locked;  /* lock prefix, or an exchange with memory */
    uint64_t fences;  /* lfence, mfence, sfence */
    uint64_t lines;   /* different ones of 64 bytes */
    uint64_t unknown; /* memory operands that were not understood */
};

bool
count_available(void);

/* Forgets what was counted. */
void
count_reset(void);

/* Runs @step(@arg), adding what it takes. */
void
count_add(void (*step)(void *), void *arg);

/* What was counted since count_reset(). */
struct counted
count_result(void);
