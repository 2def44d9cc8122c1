/* SPDX-License-Identifier: MIT */
/*
 * The buddy method over one region.  A run of order k begins at a multiple of
 * 2^k pages; its buddy is the other half of the run of order k + 1.  Only a
 * run's first page has a meaningful state.
 */
#include "blkback/pool.h"

#include <stdbool.h>
#include <string.h>

enum {
    PAGE_SHIFT = 12,
    STATE_FREE = 0x80,
};

static void
list_push(struct fh_pool *p, uint32_t order, uint32_t i)
{
    const uint16_t head = p->head[order];

    p->state[i] = (uint8_t)(order | STATE_FREE);
    p->next[i] = head;
    p->prev[i] = FH_POOL_NONE;
    if (head != FH_POOL_NONE)
        p->prev[head] = (uint16_t)i;
    p->head[order] = (uint16_t)i;
}

static void
list_remove(struct fh_pool *p, uint32_t order, uint32_t i)
{
    if (p->prev[i] != FH_POOL_NONE)
        p->next[p->prev[i]] = p->next[i];
    else
        p->head[order] = p->next[i];
    if (p->next[i] != FH_POOL_NONE)
        p->prev[p->next[i]] = p->prev[i];
    p->state[i] = (uint8_t)order;
}

int
fh_pool_init(struct fh_pool *p, void *base, size_t bytes)
{
    const uint32_t largest = 1u << FH_POOL_MAX_ORDER;
    size_t pages = bytes >> PAGE_SHIFT;

    if (bytes < FH_POOL_MIN_BYTES)
        return FH_EINVAL;
    if (pages > FH_POOL_MAX_PAGES)
        pages = FH_POOL_MAX_PAGES;
    p->base = base;
    p->n_pages = (uint32_t)pages & ~(largest - 1);
    p->n_used = 0;
    p->n_kept = 0;
    memset(p->state, 0, sizeof(p->state));
    for (uint32_t k = 0; k <= FH_POOL_MAX_ORDER; k++)
        p->head[k] = FH_POOL_NONE;
    for (uint32_t i = p->n_pages; i; i -= largest)
        list_push(p, FH_POOL_MAX_ORDER, i - largest);
    return 0;
}

static uint32_t
order_of(uint32_t bytes)
{
    const uint32_t last_page = (bytes - 1) >> PAGE_SHIFT;

    return last_page ? 32 - (uint32_t)__builtin_clz(last_page) : 0;
}

/* A run of 2^@order pages out of the lists: its first page, or FH_POOL_NONE. */
static uint32_t
take_run(struct fh_pool *p, uint32_t order)
{
    uint32_t k = order;
    uint32_t i;

    while (k <= FH_POOL_MAX_ORDER && p->head[k] == FH_POOL_NONE)
        k++;
    if (k > FH_POOL_MAX_ORDER)
        return FH_POOL_NONE;
    i = p->head[k];
    list_remove(p, k, i);
    while (k > order) {
        k--;
        list_push(p, k, i + (1u << k));
    }
    p->state[i] = (uint8_t)order;
    return i;
}

/* Puts run @i of 2^@k pages back, joined with its free buddies. */
static void
put_run(struct fh_pool *p, uint32_t i, uint32_t k)
{
    for (; k < FH_POOL_MAX_ORDER; k++) {
        const uint32_t buddy = i ^ (1u << k);

        if (p->state[buddy] != (k | STATE_FREE))
            break;
        list_remove(p, k, buddy);
        i &= ~(1u << k);
    }
    list_push(p, k, i);
}

static void
put_kept(struct fh_pool *p)
{
    while (p->n_kept)
        put_run(p, p->kept[--p->n_kept], 0);
}

void *
fh_pool_alloc(struct fh_pool *p, uint32_t bytes)
{
    const uint32_t order = order_of(bytes);
    uint32_t i;

    if (!order && p->n_kept) {
        i = p->kept[--p->n_kept];
    } else {
        i = take_run(p, order);
        if (i == FH_POOL_NONE && p->n_kept) {
            put_kept(p);
            i = take_run(p, order);
        }
        if (i == FH_POOL_NONE)
            return NULL;
    }
    p->n_used += 1u << order;
    return p->base + ((size_t)i << PAGE_SHIFT);
}

void
fh_pool_free(struct fh_pool *p, void *run)
{
    const uint32_t i = (uint32_t)(((uint8_t *)run - p->base) >> PAGE_SHIFT);
    const uint32_t k = p->state[i];

    p->n_used -= 1u << k;
    if (!k && p->n_kept < FH_POOL_KEPT)
        p->kept[p->n_kept++] = (uint16_t)i;
    else
        put_run(p, i, k);
}
