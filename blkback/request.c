/* SPDX-License-Identifier: MIT */
/*
 * One request from its decoded form to its answer.
 *
 *   start: judge > [fetch descriptors > judge them] > go
 *   go, synchronous store:  map, one copy straight between page and store
 *   go, read:   buffer > store > data to the guest > answer
 *   go, write:  buffer > data from the guest > order > store > answer
 *
 * Data moves by mappings (persistent ones, or one for this moment) with one
 * memcpy, or by grant copies that are collected and done together; a mapping
 * that the cache has no room for becomes a copy.  Nothing is refused after the
 * first effect, except what only the effect can show: a grant that is not
 * there, or a store that fails.
 */
#include "blkback/request.h"

#include "base/arith.h"
#include "base/shared.h"

/* Verdict of rq_map(): no mapping, copy instead. */
enum { MAP_COPY = 100 };

_Static_assert(sizeof(struct fh_rec_seg) == sizeof(struct fh_blkif_seg),
               "descriptors are the same on the wire, in the file and here");

static struct fh_rec_seg *
rq_saved_segs(const struct fh_rq *rq)
{
    return rq->q->rec.q->segs[rq->entry];
}

static const struct fh_blkif_seg *
rq_segs(const struct fh_rq *rq)
{
    return rq->req.indirect ? (const void *)rq_saved_segs(rq) : rq->req.segs;
}

static uint32_t
seg_bytes(const struct fh_blkif_seg *s)
{
    return (s->last - s->first + 1u) << FH_SECTOR_SHIFT;
}

static uint32_t
rq_bytes(const struct fh_rq *rq)
{
    return (uint32_t)rq->req.n_sectors << FH_SECTOR_SHIFT;
}

/* ---- mappings ---- */

static int
map_now(struct fh_queue *q, const uint32_t *refs, uint32_t n, int prot)
{
    struct fh_plat *p = q->back->plat;
    void *base;
    int r = p->ops->gnt_map(p, q->domid, refs, n, prot, &base);

    if (r)
        return r;
    for (uint32_t i = 0; i < n; i++)
        q->back->addr[i] = (uint8_t *)base + i * FH_PAGE_BYTES;
    return 0;
}

/* Addresses of @n granted pages in back->addr, until rq_unmap().  0, MAP_COPY,
 * or anything else: the request fails. */
static int
rq_map(struct fh_rq *rq, const uint32_t *refs, uint32_t n, int prot)
{
    struct fh_queue *q = rq->q;
    int r;

    switch (q->grants) {
    case FH_WK_GRANTS_PERSISTENT:
        r = fh_pgrant_get(&q->pgrant, refs, n, q->back->now_ns, q->back->addr);
        return r == FH_PGRANT_E_QUOTA || r == FH_PGRANT_E_NOCACHE ? MAP_COPY
                                                                  : r;
    case FH_WK_GRANTS_MAP:
        return map_now(q, refs, n, prot);
    case FH_WK_GRANTS_COPY:
        break;
    }
    return MAP_COPY;
}

static void
rq_unmap(struct fh_rq *rq, const uint32_t *refs, uint32_t n)
{
    struct fh_queue *q = rq->q;
    struct fh_plat *p = q->back->plat;

    switch (q->grants) {
    case FH_WK_GRANTS_PERSISTENT:
        fh_pgrant_put(&q->pgrant, refs, n, q->back->now_ns);
        return;
    case FH_WK_GRANTS_MAP:
        p->ops->gnt_unmap(p, q->back->addr[0], n);
        return;
    case FH_WK_GRANTS_COPY:
        return;
    }
}

/* Maps the pages of all segments; back->ref and back->addr describe them. */
static int
rq_map_segs(struct fh_rq *rq)
{
    const struct fh_blkif_seg *segs = rq_segs(rq);
    struct fh_back *b = rq->q->back;

    if (rq->copy)
        return MAP_COPY;
    for (uint32_t i = 0; i < rq->req.n_segs; i++)
        b->ref[i] = segs[i].gref;
    return rq_map(rq, b->ref, rq->req.n_segs,
                  rq->req.op == FH_BLKIF_READ ? FH_PLAT_PROT_RW
                                              : FH_PLAT_PROT_READ);
}

static void
rq_unmap_segs(struct fh_rq *rq)
{
    rq_unmap(rq, rq->q->back->ref, rq->req.n_segs);
}

/* One memcpy per segment between the mapped pages and the buffer. */
static void
rq_copy_mapped(struct fh_rq *rq)
{
    const struct fh_blkif_seg *segs = rq_segs(rq);
    const bool to_guest = rq->req.op == FH_BLKIF_READ;
    uint8_t *buf = rq->buf;

    for (uint32_t i = 0; i < rq->req.n_segs; i++) {
        uint8_t *page = rq->q->back->addr[i];
        uint8_t *data = page + (segs[i].first << FH_SECTOR_SHIFT);
        const uint32_t n = seg_bytes(&segs[i]);

        if (to_guest)
            fh_copy_data(data, buf, n);
        else
            fh_copy_data(buf, data, n);
        buf += n;
    }
}

/* ---- grant copies ---- */

/* Room for @n pieces of @rq, which is entered in the batch. */
static struct fh_plat_copy *
batch_add(struct fh_copy_batch *batch, struct fh_rq *rq, uint32_t n)
{
    struct fh_plat_copy *piece;

    if (batch->n + n > FH_COPY_PIECES)
        fh_copy_run(rq->q->back, batch);
    piece = &batch->piece[batch->n];
    rq->first_piece = batch->n;
    rq->n_pieces = (uint16_t)n;
    rq->next = NULL;
    if (batch->last)
        batch->last->next = rq;
    else
        batch->first = rq;
    batch->last = rq;
    batch->n += n;
    return piece;
}

static void
rq_collect_data(struct fh_rq *rq, struct fh_copy_batch *batch, bool to_guest)
{
    const struct fh_blkif_seg *segs = rq_segs(rq);
    struct fh_plat_copy *piece = batch_add(batch, rq, rq->req.n_segs);
    uint8_t *buf = rq->buf;

    for (uint32_t i = 0; i < rq->req.n_segs; i++) {
        piece[i] = (struct fh_plat_copy){
            .gref = segs[i].gref,
            .domid = rq->q->domid,
            .offset = (uint16_t)(segs[i].first << FH_SECTOR_SHIFT),
            .bytes = (uint16_t)seg_bytes(&segs[i]),
            .to_grant = to_guest,
            .local = buf,
        };
        buf += piece[i].bytes;
    }
}

static uint32_t
desc_page_segs(const struct fh_rq *rq, uint32_t page)
{
    const uint32_t left = rq->req.n_segs - page * FH_BLKIF_SEGS_PER_PAGE;

    return left < FH_BLKIF_SEGS_PER_PAGE ? left : FH_BLKIF_SEGS_PER_PAGE;
}

static void
rq_collect_descs(struct fh_rq *rq)
{
    struct fh_rec_seg *segs = rq_saved_segs(rq);
    struct fh_plat_copy *piece =
        batch_add(&rq->q->back->descs, rq, rq->req.n_pages);

    for (uint32_t i = 0; i < rq->req.n_pages; i++)
        piece[i] = (struct fh_plat_copy){
            .gref = rq->req.pages[i],
            .domid = rq->q->domid,
            .bytes = (uint16_t)(desc_page_segs(rq, i) * sizeof(*segs)),
            .local = segs + i * FH_BLKIF_SEGS_PER_PAGE,
        };
    rq->state = FH_RQ_DESCS;
}

/* ---- store ---- */

static void
rq_io_done(struct fh_store_io *io);

static void
rq_fill_io(struct fh_rq *rq, const struct fh_store_vec *vec, uint32_t n_vecs,
           int32_t buffer)
{
    struct fh_store_io *io = &rq->io;

    io->op = rq->req.op == FH_BLKIF_READ    ? FH_STORE_READ
             : rq->req.op == FH_BLKIF_WRITE ? FH_STORE_WRITE
                                            : FH_STORE_FLUSH;
    io->offset = rq->req.sector << FH_SECTOR_SHIFT;
    io->vec = vec;
    io->n_vecs = n_vecs;
    io->buffer = buffer;
    io->done = rq_io_done;
}

static void
rq_fail(struct fh_rq *rq)
{
    fh_queue_answer(rq, FH_BLKIF_ERROR);
}

/*
 * Moves the data between buffer and guest.  True: moved.  False: collected for
 * a grant copy, with the request in state @copying; or the request has failed.
 */
static bool
rq_move_data(struct fh_rq *rq, struct fh_copy_batch *batch,
             enum fh_rq_state copying)
{
    int r = rq_map_segs(rq);

    if (r == MAP_COPY) {
        rq->copy = true;
        rq->state = copying;
        rq_collect_data(rq, batch, copying == FH_RQ_OUT);
        return false;
    }
    if (r) {
        rq_fail(rq);
        return false;
    }
    rq_copy_mapped(rq);
    rq_unmap_segs(rq);
    return true;
}

/* The data of a read is in the buffer: to the guest with it. */
static void
rq_data_out(struct fh_rq *rq)
{
    if (rq_move_data(rq, &rq->q->back->out, FH_RQ_OUT))
        fh_queue_answer(rq, FH_BLKIF_OKAY);
}

static void
rq_flush_done(struct fh_rq *rq, bool ok)
{
    struct fh_disk *d = rq->q->disk;

    if (!ok)
        fh_disk_fail(d);
    rq->next = fh_disk_flush_end(d);
    while (rq) {
        struct fh_rq *next = rq->next;

        fh_queue_answer(rq, ok ? FH_BLKIF_OKAY : FH_BLKIF_ERROR);
        rq = next;
    }
}

static void
rq_io_done(struct fh_store_io *io)
{
    struct fh_rq *rq = (struct fh_rq *)io;

    if (io->op == FH_STORE_FLUSH) {
        rq_flush_done(rq, !io->result);
        return;
    }
    if (io->result) {
        rq_fail(rq);
        return;
    }
    if (io->op == FH_STORE_READ)
        rq_data_out(rq);
    else
        fh_queue_answer(rq, FH_BLKIF_OKAY);
}

bool
fh_rq_submit(struct fh_rq *rq)
{
    struct fh_store *s = rq->q->disk->store;
    int r;

    rq->state = FH_RQ_STORE;
    /* A flush that waited for one that failed. */
    if (rq->io.op == FH_STORE_FLUSH && rq->q->disk->failed)
        r = FH_EIO;
    else
        r = s->ops->submit(s, &rq->io);
    if (r == 0)
        return true;
    if (r == FH_EAGAIN)
        return false;
    if (r < 0)
        rq->io.result = r;
    rq_io_done(&rq->io);
    return true;
}

static void
rq_submit_or_wait(struct fh_rq *rq)
{
    if (!fh_rq_submit(rq))
        fh_disk_make_ready(rq->q->disk, rq);
}

/* ---- the ways through ---- */

/*
 * Straight between the granted pages and a store in memory.  Returns MAP_COPY,
 * or 0: answered.
 */
static int
rq_direct(struct fh_rq *rq)
{
    const struct fh_blkif_seg *segs = rq_segs(rq);
    struct fh_back *b = rq->q->back;
    struct fh_store *s = rq->q->disk->store;
    int r = rq_map_segs(rq);

    if (r == MAP_COPY)
        return MAP_COPY;
    if (r) {
        rq_fail(rq);
        return 0;
    }
    for (uint32_t i = 0; i < rq->req.n_segs; i++) {
        uint8_t *page = b->addr[i];

        b->vec[i].base = page + (segs[i].first << FH_SECTOR_SHIFT);
        b->vec[i].bytes = seg_bytes(&segs[i]);
    }
    rq_fill_io(rq, b->vec, rq->req.n_segs, -1);
    r = s->ops->submit(s, &rq->io);
    rq_unmap_segs(rq);
    if (r == FH_STORE_DONE && !rq->io.result)
        fh_queue_answer(rq, FH_BLKIF_OKAY);
    else
        rq_fail(rq);
    return 0;
}

/* The data of a write is in the buffer: to the store, in order. */
static void
rq_data_in(struct fh_rq *rq)
{
    if (fh_disk_write_begin(rq->q->disk, rq))
        rq_submit_or_wait(rq);
    else
        rq->state = FH_RQ_HELD;
}

static void
rq_write_buffered(struct fh_rq *rq)
{
    if (rq_move_data(rq, &rq->q->back->in, FH_RQ_IN))
        rq_data_in(rq);
}

static bool
rq_go_buffered(struct fh_rq *rq)
{
    struct fh_disk *d = rq->q->disk;

    rq->buf = fh_pool_alloc(&d->pool, rq_bytes(rq));
    if (!rq->buf)
        return false;
    rq->vec.base = rq->buf;
    rq->vec.bytes = rq_bytes(rq);
    rq_fill_io(rq, &rq->vec, 1, d->buffer_index);
    if (rq->req.op == FH_BLKIF_WRITE)
        rq_write_buffered(rq);
    else
        rq_submit_or_wait(rq);
    return true;
}

/* Starts a judged request.  A write goes straight only while no other is under
 * way that it might overlap. */
static bool
rq_go(struct fh_rq *rq)
{
    const struct fh_disk *d = rq->q->disk;

    if (rq->req.op == FH_BLKIF_FLUSH) {
        rq_fill_io(rq, NULL, 0, -1);
        if (fh_disk_flush_begin(rq->q->disk, rq))
            rq_submit_or_wait(rq);
        else
            rq->state = FH_RQ_HELD;
        return true;
    }
    if (d->store->info.synchronous && !rq->copy &&
        rq->q->grants != FH_WK_GRANTS_COPY &&
        (rq->req.op == FH_BLKIF_READ || !d->writes)) {
        if (!rq_direct(rq))
            return true;
        rq->copy = true;
    }
    return rq_go_buffered(rq);
}

/* ---- judging ---- */

static void
rq_refuse(struct fh_rq *rq, int verdict)
{
    fh_queue_answer(rq, verdict == FH_BLKIF_E_OP ? FH_BLKIF_NOTSUPP
                                                 : FH_BLKIF_ERROR);
}

/* The descriptors are in the file.  False: no buffer. */
static bool
rq_judge_segs(struct fh_rq *rq)
{
    const void *segs = rq_saved_segs(rq);
    int v = fh_blkif_decode_segs(&rq->q->limits, segs, &rq->req);

    if (v) {
        rq_refuse(rq, v);
        return true;
    }
    rq->judged = true;
    return rq_go(rq);
}

static bool
rq_descs_arrived(struct fh_rq *rq)
{
    fh_rec_segs_saved(&rq->q->rec, rq->entry, rq->req.n_segs);
    return rq_judge_segs(rq);
}

static bool
rq_fetch_descs(struct fh_rq *rq)
{
    struct fh_rec_seg *segs = rq_saved_segs(rq);
    int r = rq_map(rq, rq->req.pages, rq->req.n_pages, FH_PLAT_PROT_READ);

    if (r == MAP_COPY) {
        rq_collect_descs(rq);
        return true;
    }
    if (r) {
        rq_fail(rq);
        return true;
    }
    for (uint32_t i = 0; i < rq->req.n_pages; i++)
        fh_copy_in(segs + i * FH_BLKIF_SEGS_PER_PAGE, rq->q->back->addr[i],
                   desc_page_segs(rq, i) * sizeof(*segs));
    rq_unmap(rq, rq->req.pages, rq->req.n_pages);
    return rq_descs_arrived(rq);
}

bool
fh_rq_start(struct fh_rq *rq)
{
    struct fh_queue *q = rq->q;
    const struct fh_rec_entry *e = &q->rec.q->entry[rq->entry];
    int v;

    if (rq->judged)
        return rq_go(rq);
    v = fh_blkif_decode(q->abi, e->slot, &q->limits, &rq->req);
    if (v) {
        rq_refuse(rq, v);
        return true;
    }
    if (q->disk->failed && rq->req.op != FH_BLKIF_READ) {
        rq_fail(rq);
        return true;
    }
    if (!rq->req.indirect) {
        rq->judged = true;
        return rq_go(rq);
    }
    /* Descriptors that a dead worker saved are the ones it worked by. */
    if (e->n_segs == rq->req.n_segs)
        return rq_judge_segs(rq);
    return rq_fetch_descs(rq);
}

/* ---- batches ---- */

/* Takes a request further whose pieces are copied, or were refused. */
static void
rq_copied(struct fh_rq *rq, bool ok)
{
    if (!ok) {
        rq_fail(rq);
        return;
    }
    switch (rq->state) {
    case FH_RQ_DESCS:
        if (!rq_descs_arrived(rq))
            fh_queue_park(rq);
        return;
    case FH_RQ_IN:
        rq_data_in(rq);
        return;
    case FH_RQ_OUT:
        fh_queue_answer(rq, FH_BLKIF_OKAY);
        return;
    case FH_RQ_FREE:
    case FH_RQ_TODO:
    case FH_RQ_HELD:
    case FH_RQ_STORE:
        return;
    }
}

static bool
pieces_okay(const struct fh_copy_batch *batch, const struct fh_rq *rq)
{
    for (uint32_t i = 0; i < rq->n_pieces; i++)
        if (batch->piece[rq->first_piece + i].status)
            return false;
    return true;
}

void
fh_copy_run(struct fh_back *b, struct fh_copy_batch *batch)
{
    struct fh_rq *rq = batch->first;
    int r;

    if (!rq)
        return;
    r = b->plat->ops->gnt_copy(b->plat, batch->piece, batch->n);
    b->n_copy_calls++;
    /* What follows collects into later batches only: descriptors, in, out. */
    while (rq) {
        struct fh_rq *next = rq->next;

        fh_queue_count_copied(rq->q, rq->n_pieces);
        rq_copied(rq, !r && pieces_okay(batch, rq));
        rq = next;
    }
    batch->n = 0;
    batch->first = NULL;
    batch->last = NULL;
}
