/* SPDX-License-Identifier: MIT */
#pragma once
/* Checked arithmetic on numbers that a peer chose.  Pure, any thread. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FH_ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define FH_PAGE_SHIFT 12
#define FH_PAGE_BYTES 4096u
#define FH_SECTOR_SHIFT 9
#define FH_SECTOR_BYTES 512u

/* True when [start, start + n) lies inside [0, size), without wrapping. */
static inline bool
fh_range_inside(uint64_t start, uint64_t n, uint64_t size)
{
    return start <= size && n <= size - start;
}

static inline bool
fh_is_pow2(uint64_t v)
{
    return v && !(v & (v - 1));
}

static inline uint64_t
fh_round_up(uint64_t v, uint64_t to)
{
    return (v + to - 1) / to * to;
}
