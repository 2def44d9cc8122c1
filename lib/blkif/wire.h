/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Numbers in a slot's private copy, which need not be aligned.  The wire has
 * the byte order of the machine.  Also the choice of the layout.
 *
 * The builtin by name: freestanding code has no memcpy() that a compiler knows,
 * and would call one for two bytes.
 */
#include <stdint.h>
#include <freehold/blkif.h>
#include "layout.h"

static inline uint16_t
load16(const uint8_t *at)
{
    uint16_t v;

    __builtin_memcpy(&v, at, sizeof(v));
    return v;
}

static inline uint64_t
load64(const uint8_t *at)
{
    uint64_t v;

    __builtin_memcpy(&v, at, sizeof(v));
    return v;
}

static inline void
store16(uint8_t *at, uint16_t v)
{
    __builtin_memcpy(at, &v, sizeof(v));
}

static inline void
store32(uint8_t *at, uint32_t v)
{
    __builtin_memcpy(at, &v, sizeof(v));
}

static inline void
store64(uint8_t *at, uint64_t v)
{
    __builtin_memcpy(at, &v, sizeof(v));
}

static inline const struct fh_blkif_layout *
fh_blkif_layout_of(enum fh_blkif_abi abi)
{
    return abi == FH_BLKIF_X86_32 ? &fh_blkif_layout_x86_32
                                  : &fh_blkif_layout_64;
}
