/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * I/O buffers: page runs of one contiguous region, handed out by the buddy
 * method, so that every request's data is contiguous in one registered buffer.
 *
 * Runs are 2^k pages, k up to 9 (the largest request, 2 MiB).  A free list for
 * each k; the state of a run in one byte per page.  O(1) in practice: at most
 * ten steps.
 *
 * Single pages, which most requests want, are kept aside when they come back, a
 * few of them and the last first: splitting and joining runs for each would
 * cost more than all else here.  They go back when a longer run is not to be had.
 *
 * Life: init > alloc/free; no deinit; the region is the caller's and is not
 * touched.  One thread.
 */
#include <stdint.h>
#include <stddef.h>
#include <freehold/err.h>

enum {
    FH_POOL_MAX_ORDER = 9, /* 512 pages: FH_BLKIF_MAX_SEGMENTS */
    FH_POOL_MIN_BYTES = 4096 << FH_POOL_MAX_ORDER,
    FH_POOL_MAX_PAGES = 4096, /* 16 MiB; bounds the tables below */
    FH_POOL_NONE = 0xffff,
    FH_POOL_KEPT = 32, /* single pages: a ring of order 0 */
};

struct fh_pool {
    uint8_t *base;
    uint32_t n_pages; /* whole runs of the largest order */
    uint32_t n_used;
    uint32_t n_kept;
    uint16_t kept[FH_POOL_KEPT]; /* single pages that are free, a stack */
    uint16_t head[FH_POOL_MAX_ORDER + 1]; /* free runs, FH_POOL_NONE: none */
    uint16_t next[FH_POOL_MAX_PAGES];     /* of free runs, by first page */
    uint16_t prev[FH_POOL_MAX_PAGES];
    uint8_t state[FH_POOL_MAX_PAGES]; /* order | FH_POOL_FREE, first pages */
};

/* @base: page-aligned.  FH_EINVAL below FH_POOL_MIN_BYTES; what exceeds
 * FH_POOL_MAX_PAGES is left alone. */
FH_MUST_CHECK int
fh_pool_init(struct fh_pool *p, void *base, size_t bytes);

/* A run for @bytes (1 .. FH_POOL_MIN_BYTES), or NULL: none is free now. */
void *
fh_pool_alloc(struct fh_pool *p, uint32_t bytes);

void
fh_pool_free(struct fh_pool *p, void *run);
