/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Runs of pages out of the granted pool: one bit per page, first fit.
 *
 * Lowest addresses first, so that a light load keeps to few pages, warm in the
 * caches of both sides, and the backend maps few grants.  A single page costs
 * one look at one word in the common case; the search starts at the lowest page
 * that may be free.
 *
 * The bits are ours alone; nothing here touches a granted page.
 */
#include <stdbool.h>
#include <stdint.h>

struct fh_blkfront_pool {
    uint64_t *used; /* one bit per page; bits past the end are set */
    uint32_t n_pages;
    uint32_t low; /* no page below is free */
    uint32_t n_free;
};

enum { FH_BLKFRONT_NO_PAGE = UINT32_MAX };

static inline uint32_t
fh_blkfront_pool_words(uint32_t n_pages)
{
    return (n_pages + 63) / 64;
}

void
fh_blkfront_pool_init(struct fh_blkfront_pool *p, uint64_t *words,
                      uint32_t n_pages);

/* First page of a run of @n, or FH_BLKFRONT_NO_PAGE. */
uint32_t
fh_blkfront_pool_take(struct fh_blkfront_pool *p, uint32_t n);

void
fh_blkfront_pool_give(struct fh_blkfront_pool *p, uint32_t first, uint32_t n);
