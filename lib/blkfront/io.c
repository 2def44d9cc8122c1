/* SPDX-License-Identifier: MIT */
/*
 * Requests and responses.
 *
 * A request's slot index is the low half of its id, a use count the high half:
 * an answer that comes twice, late or to nothing is told apart by one compare.
 * Slots and descriptor pages are LIFO lists, so a request costs no search and
 * no division.  A slot is taken last, after every check (decode, then act).
 *
 * The ring has as many slots as the table: a free slot means ring room.
 */
#include "base/arith.h"
#include "blkfront/internal.h"

enum { SECTORS_PER_PAGE = FH_PAGE_BYTES / FH_SECTOR_BYTES };

/* Where a request's data goes or comes from. */
struct piece {
    uint32_t page; /* of the pool */
    uint32_t n_pages;
    uint32_t offset; /* bytes, in the first page */
    bool bounced;
    bool in_place; /* pages of the caller's, granted one by one */
};

static bool
in_pool(const struct fh_blkfront *bf, const void *data)
{
    return (uintptr_t)data - (uintptr_t)bf->pool_addr <
           (size_t)bf->pool.n_pages * FH_PAGE_BYTES;
}

static bool
changes_disk(enum fh_blkif_op op)
{
    return op == FH_BLKIF_WRITE || op == FH_BLKIF_BARRIER ||
           op == FH_BLKIF_DISCARD;
}

static bool
is_offered(const struct fh_blkfront *bf, enum fh_blkif_op op)
{
    switch (op) {
    case FH_BLKIF_READ:
    case FH_BLKIF_WRITE:
        return true;
    case FH_BLKIF_BARRIER:
        return bf->info.barrier;
    case FH_BLKIF_FLUSH:
        return bf->info.flush;
    case FH_BLKIF_DISCARD:
        return bf->info.discard;
    }
    return false;
}

/* All that can be wrong with a request itself. */
static int
check(const struct fh_blkfront *bf, const struct fh_blkfront_io *io)
{
    const bool has_data = io->op <= FH_BLKIF_BARRIER && io->n_sectors;

    if (bf->fault)
        return FH_BLKFRONT_E_BROKEN;
    if (bf->state != FH_BLKFRONT_CONNECTED)
        return FH_BLKFRONT_E_CLOSED;
    if (!is_offered(bf, io->op))
        return FH_EOPNOTSUPP;
    if (changes_disk(io->op) && bf->info.read_only)
        return FH_EROFS;
    if (!io->n_sectors)
        return io->op == FH_BLKIF_FLUSH || io->op == FH_BLKIF_BARRIER
                   ? 0
                   : FH_EINVAL;
    if (io->op == FH_BLKIF_FLUSH || has_data != (io->data != NULL))
        return FH_EINVAL;
    if ((io->sector | io->n_sectors) & bf->sector_mask)
        return FH_EINVAL;
    if (!fh_range_inside(io->sector, io->n_sectors, bf->info.n_sectors))
        return FH_ERANGE;
    return has_data && io->n_sectors > bf->info.max_sectors ? FH_EINVAL : 0;
}

/* Decides how the data travels and takes pool pages where it is bounced. */
static int
place(struct fh_blkfront *bf, const struct fh_blkfront_io *io, struct piece *at)
{
    const uint32_t bytes = io->n_sectors << FH_SECTOR_SHIFT;
    const uintptr_t data = (uintptr_t)io->data;
    const uint32_t offset = data & (FH_PAGE_BYTES - 1);

    *at = (struct piece){.offset = 0};
    if (!bytes || io->op == FH_BLKIF_DISCARD)
        return 0;
    at->n_pages = (bytes + FH_PAGE_BYTES - 1) >> FH_PAGE_SHIFT;
    if (in_pool(bf, io->data)) {
        size_t from = data - (uintptr_t)bf->pool_addr;

        at->offset = offset;
        at->page = (uint32_t)(from >> FH_PAGE_SHIFT);
        at->n_pages = (offset + bytes + FH_PAGE_BYTES - 1) >> FH_PAGE_SHIFT;
        return offset % FH_SECTOR_BYTES ||
                       at->n_pages > bf->info.max_segments ||
                       at->n_pages > bf->pool.n_pages - at->page
                   ? FH_EINVAL
                   : 0;
    }
    /* Whole pages only: a granted page shows all of itself (XSA-403). */
    at->in_place = bf->queue.grants && !offset && !(bytes % FH_PAGE_BYTES);
    at->bounced = !at->in_place;
    if (at->in_place)
        return 0;
    at->page = fh_blkfront_pool_take(&bf->pool, at->n_pages);
    return at->page == FH_BLKFRONT_NO_PAGE ? FH_BLKFRONT_E_FULL : 0;
}

static void
end_grants(struct fh_blkfront *bf, struct fh_blkfront_slot *s)
{
    const struct fh_blkfront_granter *g = &bf->params.granter;
    const uint32_t index = (uint16_t)s->id;
    const uint32_t *refs =
        bf->queue.grants + (size_t)index * bf->info.max_segments;

    for (uint32_t i = 0; i < s->n_grants; i++) {
        if (g->end(g->ctx, refs[i]))
            fh_blkfront_break(bf, FH_BLKFRONT_FAULT_GRANT);
    }
    s->n_grants = 0;
}

/* Grants the caller's pages for slot @s; all or nothing. */
static int
grant_pages(struct fh_blkfront *bf, struct fh_blkfront_slot *s,
            const struct fh_blkfront_io *io, uint32_t n_pages)
{
    const struct fh_blkfront_granter *g = &bf->params.granter;
    const bool writable = io->op == FH_BLKIF_READ;
    const uint32_t index = (uint16_t)s->id;
    uint32_t *refs = bf->queue.grants + (size_t)index * bf->info.max_segments;

    for (uint32_t i = 0; i < n_pages; i++) {
        void *page = (uint8_t *)io->data + (size_t)i * FH_PAGE_BYTES;
        int r = g->grant(g->ctx, bf->domid, page, writable, &refs[i]);

        if (r) {
            end_grants(bf, s);
            return r;
        }
        s->n_grants = (uint16_t)(i + 1);
    }
    return 0;
}

/* One segment per page, from @offset bytes into the first one. */
static void
fill_segs(const uint32_t *refs, uint32_t n_pages, uint32_t offset,
          uint32_t bytes, struct fh_blkif_seg *segs)
{
    uint32_t first = offset >> FH_SECTOR_SHIFT;
    uint32_t left = bytes >> FH_SECTOR_SHIFT;

    for (uint32_t i = 0; i < n_pages; i++) {
        uint32_t n = SECTORS_PER_PAGE - first;

        n = n < left ? n : left;
        segs[i] = (struct fh_blkif_seg){
            .gref = refs[i],
            .first = (uint8_t)first,
            .last = (uint8_t)(first + n - 1),
        };
        left -= n;
        first = 0;
    }
}

/* Writes the segments into the request, or into a descriptor page. */
static void
describe(struct fh_blkfront *bf, const struct fh_blkfront_slot *s,
         const struct piece *at, struct fh_blkif_req *req)
{
    const uint32_t bytes = (uint32_t)req->n_sectors << FH_SECTOR_SHIFT;
    const uint32_t *refs = bf->refs + at->page;
    struct fh_blkif_seg *segs = s->desc ? bf->segs : req->segs;

    if (at->in_place)
        refs =
            bf->queue.grants + (size_t)(uint16_t)s->id * bf->info.max_segments;
    fill_segs(refs, at->n_pages, at->offset, bytes, segs);
    req->n_segs = (uint16_t)at->n_pages;
    if (s->desc) {
        const uint32_t page = bf->pool.n_pages + s->desc - 1;

        req->indirect = true;
        req->n_pages = 1;
        req->pages[0] = bf->refs[page];
        fh_copy_out(
            (FH_SHARED void *)(bf->pool_addr + (size_t)page * FH_PAGE_BYTES),
            segs, at->n_pages * sizeof(*segs));
    }
}

/* Bytes of the slot that this request uses, in the wider layout; what lies
 * behind is old.  Every byte less is a cache line that need not travel. */
static uint32_t
slot_used(const struct fh_blkfront_queue *q, const struct fh_blkif_req *req)
{
    const uint32_t n = req->indirect ? 64 : 24 + 8u * req->n_segs;

    return n < 32 ? 32 : n < q->slot_bytes ? n : q->slot_bytes;
}

static void
send(struct fh_blkfront *bf, const struct fh_blkfront_slot *s,
     const struct fh_blkfront_io *io, const struct piece *at)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_blkif_req req;
    uint64_t wire[(FH_BLKIF_MAX_SLOT_BYTES + 7) / 8];

    req.op = io->op;
    req.indirect = false;
    req.flag = 0;
    req.handle = 0;
    req.n_segs = 0;
    req.n_pages = 0;
    req.id = s->id;
    req.sector = io->sector;
    req.n_sectors = io->n_sectors;
    if (at->n_pages)
        describe(bf, s, at, &req);
    fh_blkif_encode(bf->params.abi, &req, wire);
    fh_fring_put(&q->ring, wire, slot_used(q, &req));
}

static void
copy_to_pool(struct fh_blkfront *bf, const struct piece *at, const void *data,
             uint32_t bytes)
{
    fh_copy_out(
        (FH_SHARED void *)(bf->pool_addr + (size_t)at->page * FH_PAGE_BYTES),
        data, bytes);
}

/* Fills in slot @s, except for what needs taking; false: no descriptor page. */
static bool
prepare(struct fh_blkfront *bf, struct fh_blkfront_slot *s,
        const struct fh_blkfront_io *io, const struct piece *at)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_plat *p = bf->params.plat;

    s->desc = 0;
    if (at->n_pages > FH_BLKIF_MAX_DIRECT) {
        if (!q->n_free_desc)
            return false;
        s->desc = (uint16_t)(q->free_desc[--q->n_free_desc] + 1);
    }
    s->cookie = io->cookie;
    s->start_ns = bf->params.timestamps ? p->ops->now_ns(p) : 0;
    s->op = (uint8_t)io->op;
    s->wire_op = fh_blkif_wire_op(io->op);
    s->n_grants = 0;
    s->n_pages = 0;
    s->copy_to = NULL;
    if (at->bounced) {
        s->page = at->page;
        s->n_pages = (uint16_t)at->n_pages;
        s->n_bytes = io->n_sectors << FH_SECTOR_SHIFT;
        s->copy_to = io->op == FH_BLKIF_READ ? io->data : NULL;
    }
    return true;
}

/* Gives back what the request held. */
static void
release(struct fh_blkfront *bf, struct fh_blkfront_slot *s)
{
    struct fh_blkfront_queue *q = &bf->queue;

    if (s->n_grants)
        end_grants(bf, s);
    if (s->desc)
        q->free_desc[q->n_free_desc++] = (uint16_t)(s->desc - 1);
    if (s->n_pages)
        fh_blkfront_pool_give(&bf->pool, s->page, s->n_pages);
    s->desc = 0;
    s->n_pages = 0;
}

static void
count(struct fh_blkfront *bf, const struct fh_blkfront_slot *s)
{
    bf->counts.requests++;
    bf->counts.indirect += s->desc != 0;
    bf->counts.bounced += s->n_pages != 0;
}

int
fh_blkfront_submit(struct fh_blkfront *bf, const struct fh_blkfront_io *io)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_blkfront_slot *s;
    struct piece at;
    int r = check(bf, io);

    if (r)
        return r;
    if (q->free_slot == FH_BLKFRONT_NO_SLOT)
        return FH_BLKFRONT_E_FULL;
    s = &q->slots[q->free_slot];
    r = place(bf, io, &at);
    if (r)
        return r;
    if (!prepare(bf, s, io, &at)) {
        if (at.bounced)
            fh_blkfront_pool_give(&bf->pool, at.page, at.n_pages);
        return FH_BLKFRONT_E_FULL;
    }
    if (at.in_place) {
        r = grant_pages(bf, s, io, at.n_pages);
        if (r) {
            release(bf, s);
            return r < 0 ? r : FH_BLKFRONT_E_FULL;
        }
    }
    if (at.bounced && changes_disk(io->op))
        copy_to_pool(bf, &at, io->data, s->n_bytes);

    q->free_slot = s->next;
    q->n_live++;
    s->live = true;
    count(bf, s);
    send(bf, s, io, &at);
    return 0;
}

int
fh_blkfront_kick(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_plat *p = bf->params.plat;
    int r;

    if (!q->ring_addr || q->ring.req_prod == q->ring.req_published)
        return 0;
    if (!fh_fring_publish(&q->ring))
        return 0;
    bf->counts.notifies++;
    r = p->ops->ev_notify(p, q->port);
    return r <= 0 ? r : FH_EIO;
}

/* The request is over with @status; its slot is free again. */
static void
complete(struct fh_blkfront *bf, struct fh_blkfront_slot *s, int32_t status,
         struct fh_blkfront_done *done)
{
    struct fh_blkfront_queue *q = &bf->queue;

    if (s->n_grants)
        end_grants(bf, s);
    if (bf->fault)
        status = FH_EIO;
    if (s->copy_to && !status)
        fh_copy_in(
            s->copy_to,
            (FH_SHARED void *)(bf->pool_addr + (size_t)s->page * FH_PAGE_BYTES),
            s->n_bytes);
    *done = (struct fh_blkfront_done){
        .cookie = s->cookie, .start_ns = s->start_ns, .status = status};
    release(bf, s);
    s->live = false;
    s->id += 1ull << 32;
    s->next = q->free_slot;
    q->free_slot = (uint16_t)s->id;
    q->n_live--;
    /* Closing waits for the last of them, and no watch will fire. */
    if (!q->n_live && bf->state == FH_BLKFRONT_DRAINING)
        bf->dirty = true;
}

/* What a backend refuses for good it does not offer any more. */
static void
withdraw(struct fh_blkfront *bf, uint8_t op)
{
    if (op == FH_BLKIF_FLUSH)
        bf->info.flush = false;
    if (op == FH_BLKIF_BARRIER)
        bf->info.barrier = false;
    if (op == FH_BLKIF_DISCARD)
        bf->info.discard = false;
}

/* Statuses other than the three count as errors. */
static int32_t
judge(struct fh_blkfront *bf, const struct fh_blkfront_slot *s, int16_t status)
{
    if (status == FH_BLKIF_OKAY)
        return 0;
    bf->counts.errors++;
    if (status != FH_BLKIF_NOTSUPP)
        return FH_EIO;
    withdraw(bf, s->op);
    return FH_EOPNOTSUPP;
}

/* Takes one response; false: it broke the protocol and nothing was completed.
 */
static bool
take(struct fh_blkfront *bf, struct fh_blkfront_done *done)
{
    struct fh_blkfront_queue *q = &bf->queue;
    uint64_t wire[(FH_BLKIF_MAX_RESPONSE_BYTES + 7) / 8];
    struct fh_blkfront_slot *s;
    uint64_t id;
    uint8_t wire_op;
    int16_t status;

    fh_fring_take(&q->ring, wire, q->rsp_bytes);
    fh_blkif_decode_response(bf->params.abi, wire, &id, &wire_op, &status);
    bf->counts.responses++;
    s = &q->slots[(uint16_t)id & (q->n_slots - 1)];
    if (s->id != id || !s->live) {
        fh_blkfront_break(bf, FH_BLKFRONT_FAULT_ID);
        return false;
    }
    if (s->wire_op != wire_op) {
        fh_blkfront_break(bf, FH_BLKFRONT_FAULT_OP);
        return false;
    }
    complete(bf, s, judge(bf, s, status), done);
    return true;
}

/* The disk is broken or gone: everything in flight fails. */
static uint32_t
fail_all(struct fh_blkfront *bf, struct fh_blkfront_done *done, uint32_t max)
{
    struct fh_blkfront_queue *q = &bf->queue;
    uint32_t n = 0;

    for (uint32_t i = 0; i < q->n_slots && q->n_live && n < max; i++) {
        if (q->slots[i].live)
            complete(bf, &q->slots[i], FH_EIO, &done[n++]);
    }
    return n;
}

uint32_t
fh_blkfront_poll(struct fh_blkfront *bf, struct fh_blkfront_done *done,
                 uint32_t max)
{
    struct fh_blkfront_queue *q = &bf->queue;
    uint32_t n = 0, pending = 0;

    if (++bf->n_polls % FH_BLKFRONT_WATCH_POLLS == 0)
        (void)fh_blkfront_take_watches(bf);
    if (bf->fault || bf->gone || !q->ring_addr)
        return fail_all(bf, done, max);
    if (fh_fring_pending(&q->ring, &pending)) {
        fh_blkfront_break(bf, FH_BLKFRONT_FAULT_INDEX);
        return fail_all(bf, done, max);
    }
    while (n < pending && n < max) {
        if (!take(bf, &done[n]))
            return n + fail_all(bf, done + n, max - n);
        n++;
    }
    q->worked |= n > 0;
    return n;
}
