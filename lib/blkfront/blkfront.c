/* SPDX-License-Identifier: MIT */
/*
 * The frontend's memory and life.
 *
 * All of it lies in one piece of the caller's memory, carved up by carve() in
 * one order; what is granted comes from the granter, in two pieces: the ring,
 * and the pool with the descriptor pages of indirect requests behind it.
 */
#include <string.h>
#include "base/arith.h"
#include "blkfront/internal.h"

/* Cuts pieces off the caller's memory; with a NULL base only counts. */
struct knife {
    uint8_t *base;
    size_t used;
};

static void *
cut(struct knife *k, size_t bytes)
{
    void *piece = k->base ? k->base + k->used : NULL;

    k->used += (bytes + 15) & ~(size_t)15;
    return piece;
}

static bool
grants_in_place(const struct fh_blkfront_params *p)
{
    return p->granter.grant && p->granter.end;
}

static uint32_t
max_segments(const struct fh_blkfront_params *p)
{
    return p->max_indirect > FH_BLKIF_MAX_DIRECT ? p->max_indirect
                                                 : FH_BLKIF_MAX_DIRECT;
}

/* How many descriptor pages: an indirect request has 12 pages of data or more,
 * so the pool bounds them. */
static uint32_t
n_desc_pages(const struct fh_blkfront_params *p, uint32_t n_slots)
{
    uint32_t n = p->pool_pages / (FH_BLKIF_MAX_DIRECT + 1) + 1;

    if (p->max_indirect <= FH_BLKIF_MAX_DIRECT)
        return 0;
    if (p->n_indirect || grants_in_place(p))
        n = p->n_indirect ? p->n_indirect : n_slots;
    return n < n_slots ? n : n_slots;
}

static bool
params_valid(const struct fh_blkfront_params *p)
{
    bool hook_whole = !p->granter.share == !p->granter.unshare &&
                      !p->granter.grant == !p->granter.end;

    return p->plat && p->frontend && strlen(p->frontend) <= FH_XS_PATH_MAX &&
           p->order <= FH_RING_MAX_ORDER &&
           p->max_indirect <= FH_BLKIF_MAX_SEGMENTS && p->pool_pages &&
           p->pool_pages <= FH_BLKFRONT_MAX_POOL && hook_whole;
}

static size_t
carve(struct knife *k, struct fh_blkfront *bf,
      const struct fh_blkfront_params *p)
{
    const uint32_t n_slots = fh_blkif_ring_slots(p->abi, p->order);
    const uint32_t n_desc = n_desc_pages(p, n_slots);
    const size_t n_grants =
        grants_in_place(p) ? (size_t)n_slots * max_segments(p) : 0;
    void *slots = cut(k, n_slots * sizeof(struct fh_blkfront_slot));
    void *segs = cut(k, FH_BLKIF_MAX_SEGMENTS * sizeof(struct fh_blkif_seg));
    void *words = cut(k, fh_blkfront_pool_words(p->pool_pages) * 8);
    void *refs = cut(k, (p->pool_pages + n_desc) * sizeof(uint32_t));
    void *free_desc = cut(k, n_desc * sizeof(uint16_t));
    void *grants = cut(k, n_grants * sizeof(uint32_t));

    if (bf) {
        bf->queue.slots = slots;
        bf->queue.free_desc = free_desc;
        bf->queue.grants = n_grants ? grants : NULL;
        bf->segs = segs;
        bf->refs = refs;
        bf->n_desc = n_desc;
        fh_blkfront_pool_init(&bf->pool, words, p->pool_pages);
    }
    return k->used;
}

size_t
fh_blkfront_bytes(const struct fh_blkfront_params *params)
{
    struct knife k = {.base = NULL};

    if (!params_valid(params))
        return 0;
    cut(&k, sizeof(struct fh_blkfront));
    return carve(&k, NULL, params);
}

int
fh_blkfront_open(void *mem, const struct fh_blkfront_params *params,
                 struct fh_blkfront **out)
{
    struct fh_blkfront *bf = mem;
    struct knife k = {.base = mem};
    int r;

    if (!params_valid(params))
        return FH_EINVAL;
    memset(bf, 0, sizeof(*bf));
    cut(&k, sizeof(*bf));
    carve(&k, bf, params);
    bf->params = *params;
    strcpy(bf->frontend, params->frontend);
    bf->params.frontend = bf->frontend;
    fh_poller_init(&bf->poller, params->poll_max_ns,
                   params->poll_budget ? params->poll_budget
                                       : FH_POLLER_BUDGET_FULL,
                   params->plat->ops->now_ns(params->plat));

    r = fh_blkfront_find_backend(bf);
    if (!r)
        *out = bf;
    return r;
}

void
fh_blkfront_break(struct fh_blkfront *bf, enum fh_blkfront_fault f)
{
    if (bf->fault == FH_BLKFRONT_SOUND)
        bf->fault = f;
}

static int
share_pages(struct fh_blkfront *bf, uint32_t n, uint32_t *refs, void **addr)
{
    const struct fh_blkfront_granter *g = &bf->params.granter;
    struct fh_plat *p = bf->params.plat;

    if (g->share)
        return g->share(g->ctx, bf->domid, n, true, refs, addr);
    return p->ops->gnt_share(p, bf->domid, n, true, refs, addr);
}

/* A failure is not ours to mend: what the backend still maps the platform frees
 * when it lets go. */
static void
unshare_pages(struct fh_blkfront *bf, void *addr, uint32_t n)
{
    const struct fh_blkfront_granter *g = &bf->params.granter;
    struct fh_plat *p = bf->params.plat;

    if (g->unshare)
        (void)g->unshare(g->ctx, addr, n);
    else
        (void)p->ops->gnt_unshare(p, addr, n);
}

static void
init_slots(struct fh_blkfront_queue *q, uint32_t n_slots)
{
    for (uint32_t i = 0; i < n_slots; i++) {
        q->slots[i] = (struct fh_blkfront_slot){
            .id = i,
            .next = (uint16_t)(i + 1 < n_slots ? i + 1 : FH_BLKFRONT_NO_SLOT),
        };
    }
    q->free_slot = 0;
    q->n_slots = n_slots;
    q->n_live = 0;
}

static int
share_ring(struct fh_blkfront *bf, uint32_t *refs)
{
    struct fh_blkfront_queue *q = &bf->queue;
    const enum fh_blkif_abi abi = bf->params.abi;
    void *addr;
    int r;

    q->ring_pages = 1u << bf->info.order;
    r = share_pages(bf, q->ring_pages, refs, &addr);
    if (r)
        return r;
    q->ring_addr = addr;
    q->slot_bytes = fh_blkif_slot_bytes(abi);
    q->rsp_bytes = fh_blkif_response_bytes(abi);
    init_slots(q, fh_blkif_ring_slots(abi, bf->info.order));
    fh_fring_init(&q->ring, (FH_SHARED struct fh_ring_shared *)q->ring_addr,
                  q->n_slots, q->slot_bytes);
    return 0;
}

static int
share_pool(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;
    void *addr;
    int r;

    if (bf->pool_addr)
        return 0;
    r = share_pages(bf, bf->pool.n_pages + bf->n_desc, bf->refs, &addr);
    if (r)
        return r;
    bf->pool_addr = addr;
    for (uint32_t i = 0; i < bf->n_desc; i++)
        q->free_desc[i] = (uint16_t)(bf->n_desc - 1 - i);
    q->n_free_desc = (uint16_t)bf->n_desc;
    return 0;
}

int
fh_blkfront_share(struct fh_blkfront *bf, uint32_t *ring_refs)
{
    struct fh_plat *p = bf->params.plat;
    int r = share_ring(bf, ring_refs);

    if (!r)
        r = share_pool(bf);
    if (!r)
        r = p->ops->ev_alloc(p, bf->domid, &bf->queue.port);
    if (r) {
        fh_blkfront_drop_ring(bf);
        return r < 0 ? r : FH_EPROTO;
    }
    bf->queue.has_port = true;
    return 0;
}

void
fh_blkfront_drop_ring(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_plat *p = bf->params.plat;

    if (q->has_port)
        (void)p->ops->ev_unbind(p, q->port);
    q->has_port = false;
    q->masked = false;
    if (q->ring_addr)
        unshare_pages(bf, q->ring_addr, q->ring_pages);
    q->ring_addr = NULL;
}

void
fh_blkfront_drop_pool(struct fh_blkfront *bf)
{
    if (bf->pool_addr)
        unshare_pages(bf, bf->pool_addr, bf->pool.n_pages + bf->n_desc);
    bf->pool_addr = NULL;
}

void
fh_blkfront_fini(struct fh_blkfront *bf)
{
    if (!bf)
        return;
    fh_blkfront_unwatch(bf);
    fh_blkfront_drop_ring(bf);
    fh_blkfront_drop_pool(bf);
    bf->state = FH_BLKFRONT_CLOSED;
}

void *
fh_blkfront_alloc(struct fh_blkfront *bf, uint32_t n_pages)
{
    uint32_t page;

    if (!bf->pool_addr)
        return NULL;
    page = fh_blkfront_pool_take(&bf->pool, n_pages);
    if (page == FH_BLKFRONT_NO_PAGE)
        return NULL;
    return bf->pool_addr + (size_t)page * FH_PAGE_BYTES;
}

void
fh_blkfront_free(struct fh_blkfront *bf, void *addr, uint32_t n_pages)
{
    size_t offset = (size_t)((uint8_t *)addr - bf->pool_addr);

    fh_blkfront_pool_give(&bf->pool, (uint32_t)(offset >> FH_PAGE_SHIFT),
                          n_pages);
}

enum fh_blkfront_state
fh_blkfront_state(const struct fh_blkfront *bf)
{
    return bf->state;
}

enum fh_blkfront_fault
fh_blkfront_fault(const struct fh_blkfront *bf)
{
    return bf->fault;
}

const char *
fh_blkfront_fault_name(enum fh_blkfront_fault f)
{
    switch (f) {
    case FH_BLKFRONT_SOUND:
        return "sound";
    case FH_BLKFRONT_FAULT_INDEX:
        return "impossible response index";
    case FH_BLKFRONT_FAULT_ID:
        return "response to no request in flight";
    case FH_BLKFRONT_FAULT_OP:
        return "response with another operation";
    case FH_BLKFRONT_FAULT_GRANT:
        return "page still mapped after the response";
    case FH_BLKFRONT_FAULT_STORE:
        return "senseless properties in xenstore";
    }
    return "?";
}

const struct fh_blkfront_info *
fh_blkfront_info(const struct fh_blkfront *bf)
{
    return &bf->info;
}

const struct fh_blkfront_counts *
fh_blkfront_counts(const struct fh_blkfront *bf)
{
    return &bf->counts;
}

uint32_t
fh_blkfront_in_flight(const struct fh_blkfront *bf)
{
    return bf->queue.n_live;
}
