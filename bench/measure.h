/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the small programs of bench/ share: a clock, a random sequence that is
 * the same in every run, and the way to time a loop.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    FH_MEASURE_ROUNDS = 5, /* of which the best counts */
};

static inline uint64_t
measure_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Marsaglia's xorshift: good enough to choose a block, and cheap. */
static inline uint64_t
measure_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/*
 * measure_best_ns - nanoseconds that one call of @step takes
 *
 * Calls it in FH_MEASURE_ROUNDS rounds of about @ms milliseconds together and
 * gives the best round's mean: what disturbs a round is not the step's.
 */
static inline double
measure_best_ns(void (*step)(void *), void *arg, unsigned ms)
{
    const uint64_t round_ns = (uint64_t)ms * 1000000 / FH_MEASURE_ROUNDS;
    double best = 0;

    for (int i = 0; i < FH_MEASURE_ROUNDS; i++) {
        const uint64_t start = measure_now_ns();
        uint64_t n = 0, spent;
        double mean;

        do {
            for (int k = 0; k < 16; k++)
                step(arg);
            n += 16;
            spent = measure_now_ns() - start;
        } while (spent < round_ns);
        mean = (double)spent / (double)n;
        if (i == 0 || mean < best)
            best = mean;
    }
    return best;
}

/* The number in @text, 1 .. @max, or the end of the program. */
static inline uint32_t
measure_number(const char *text, uint32_t max)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);

    if (*end || n < 1 || n > max) {
        fprintf(stderr, "'%s' is not a number of 1 to %u\n", text, max);
        exit(2);
    }
    return (uint32_t)n;
}
