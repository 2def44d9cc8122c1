/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What `freehold bench --verify` writes into every sector: whose it is, which
 * one, and which generation, in every 8-byte word of it, so that a sector that
 * is another guest's, another sector's, stale or torn is told from a right one.
 */
#include <stdint.h>
#include <string.h>

enum fh_pattern_verdict {
    FH_PATTERN_RIGHT,
    FH_PATTERN_STALE,   /* an older generation, whole */
    FH_PATTERN_TORN,    /* parts of two contents */
    FH_PATTERN_FOREIGN, /* not this guest's, or not this sector */
};

enum { FH_PATTERN_WORDS = 512 / 8 };

struct fh_pattern {
    uint32_t magic;
    uint32_t guest;
    uint64_t sector;
    uint64_t generation;
    uint64_t fill[FH_PATTERN_WORDS - 3];
};

#define FH_PATTERN_MAGIC 0x46484253u

static inline uint64_t
fh_pattern_word_(uint32_t guest, uint64_t sector, uint64_t generation)
{
    return (generation * 0x9e3779b97f4a7c15ull) ^ (sector << 17) ^
           ((uint64_t)guest << 48);
}

static inline void
fh_pattern_fill(void *at, uint32_t guest, uint64_t sector, uint64_t generation)
{
    struct fh_pattern *p = at;
    const uint64_t word = fh_pattern_word_(guest, sector, generation);

    p->magic = FH_PATTERN_MAGIC;
    p->guest = guest;
    p->sector = sector;
    p->generation = generation;
    for (unsigned i = 0; i < FH_PATTERN_WORDS - 3; i++)
        p->fill[i] = word + i;
}

static inline enum fh_pattern_verdict
fh_pattern_check(const void *at, uint32_t guest, uint64_t sector,
                 uint64_t generation)
{
    const struct fh_pattern *p = at;
    uint64_t word, wrong = 0;

    /* Generation 0 was never written: zeros. */
    if (!generation) {
        const uint64_t *w = at;

        for (unsigned i = 0; i < FH_PATTERN_WORDS; i++)
            wrong |= w[i];
        return wrong ? FH_PATTERN_FOREIGN : FH_PATTERN_RIGHT;
    }
    if (p->magic != FH_PATTERN_MAGIC || p->guest != guest ||
        p->sector != sector)
        return FH_PATTERN_FOREIGN;
    word = fh_pattern_word_(guest, sector, p->generation);
    for (unsigned i = 0; i < FH_PATTERN_WORDS - 3; i++)
        wrong |= p->fill[i] ^ (word + i);
    if (wrong)
        return FH_PATTERN_TORN;
    return p->generation == generation ? FH_PATTERN_RIGHT : FH_PATTERN_STALE;
}
