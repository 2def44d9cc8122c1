/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A histogram of times in nanoseconds: 32 buckets for each power of two, so
 * that a percentile is right to about 3 %.  Plain memory that may be shared:
 * one process counts, others read after it stopped.
 */
#include <stdint.h>

enum { FH_HIST_SUB_BITS = 5, FH_HIST_BUCKETS = 60 << FH_HIST_SUB_BITS };

struct fh_hist {
    uint64_t max_ns;
    uint64_t count[FH_HIST_BUCKETS];
};

static inline uint32_t
fh_hist_bucket_(uint64_t ns)
{
    unsigned exponent;

    if (ns < (1u << FH_HIST_SUB_BITS))
        return (uint32_t)ns;
    exponent = 63 - (unsigned)__builtin_clzll(ns);
    return ((exponent - FH_HIST_SUB_BITS + 1) << FH_HIST_SUB_BITS) |
           ((ns >> (exponent - FH_HIST_SUB_BITS)) &
            ((1u << FH_HIST_SUB_BITS) - 1));
}

/* The least time that falls into bucket @b. */
static inline uint64_t
fh_hist_floor_(uint32_t b)
{
    const uint32_t group = b >> FH_HIST_SUB_BITS;
    const uint64_t sub = b & ((1u << FH_HIST_SUB_BITS) - 1);

    return group ? (sub | (1u << FH_HIST_SUB_BITS)) << (group - 1) : sub;
}

static inline void
fh_hist_add(struct fh_hist *h, uint64_t ns, uint64_t n)
{
    h->count[fh_hist_bucket_(ns)] += n;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

static inline void
fh_hist_merge(struct fh_hist *to, const struct fh_hist *from)
{
    for (uint32_t i = 0; i < FH_HIST_BUCKETS; i++)
        to->count[i] += from->count[i];
    if (from->max_ns > to->max_ns)
        to->max_ns = from->max_ns;
}

/* The time that @permille of the samples do not exceed; 0 without samples. */
static inline uint64_t
fh_hist_percentile(const struct fh_hist *h, unsigned permille)
{
    uint64_t total = 0, seen = 0;

    for (uint32_t i = 0; i < FH_HIST_BUCKETS; i++)
        total += h->count[i];
    if (!total)
        return 0;
    for (uint32_t i = 0; i < FH_HIST_BUCKETS; i++) {
        seen += h->count[i];
        if (seen * 1000 >= total * permille) {
            const uint64_t top = fh_hist_floor_(i + 1) - 1;

            return top < h->max_ns ? top : h->max_ns;
        }
    }
    return h->max_ns;
}
