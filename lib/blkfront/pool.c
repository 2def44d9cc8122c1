/* SPDX-License-Identifier: MIT */
/* The pool's bitmap; see pool.h. */
#include <string.h>
#include "blkfront/pool.h"

void
fh_blkfront_pool_init(struct fh_blkfront_pool *p, uint64_t *words,
                      uint32_t n_pages)
{
    uint32_t n_words = fh_blkfront_pool_words(n_pages);

    memset(words, 0, n_words * sizeof(*words));
    if (n_pages % 64)
        words[n_words - 1] = ~0ull << (n_pages % 64);
    *p = (struct fh_blkfront_pool){
        .used = words, .n_pages = n_pages, .n_free = n_pages};
}

/* First page from @from on, below @end, whose bit is not @used; or @end. */
static uint32_t
find(const struct fh_blkfront_pool *p, uint32_t from, uint32_t end, bool used)
{
    const uint64_t flip = used ? 0 : ~0ull;

    while (from < end) {
        uint64_t word = (p->used[from / 64] ^ flip) & (~0ull << (from % 64));

        if (word) {
            from = (from & ~63u) + (uint32_t)__builtin_ctzll(word);
            return from < end ? from : end;
        }
        from = (from | 63) + 1;
    }
    return end;
}

/* The bits of word @w that belong to pages @first .. @end - 1. */
static uint64_t
mask(uint32_t w, uint32_t first, uint32_t end)
{
    uint64_t m = ~0ull;

    if (first > w * 64)
        m &= ~0ull << (first - w * 64);
    if (end < w * 64 + 64)
        m &= ~(~0ull << (end - w * 64));
    return m;
}

uint32_t
fh_blkfront_pool_take(struct fh_blkfront_pool *p, uint32_t n)
{
    uint32_t first = p->low;
    bool lowest = true;

    if (!n || n > p->n_free)
        return FH_BLKFRONT_NO_PAGE;
    for (;;) {
        uint32_t next;

        first = find(p, first, p->n_pages, false);
        if (lowest)
            p->low = first;
        lowest = false;
        if (n > p->n_pages - first)
            return FH_BLKFRONT_NO_PAGE;
        next = n == 1 ? first + 1 : find(p, first, first + n, true);
        if (next == first + n)
            break;
        first = next;
    }
    for (uint32_t w = first / 64; w * 64 < first + n; w++)
        p->used[w] |= mask(w, first, first + n);
    if (p->low == first)
        p->low = first + n;
    p->n_free -= n;
    return first;
}

void
fh_blkfront_pool_give(struct fh_blkfront_pool *p, uint32_t first, uint32_t n)
{
    for (uint32_t w = first / 64; w * 64 < first + n; w++)
        p->used[w] &= ~mask(w, first, first + n);
    if (first < p->low)
        p->low = first;
    p->n_free += n;
}
