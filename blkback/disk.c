/* SPDX-License-Identifier: MIT */
/*
 * Disks.  The order of writes is one list, oldest first, of those under way and
 * those held back; each held one counts the older ones that it overlaps.  What
 * it costs is a walk over the writes under way for each write that starts, and,
 * only when something is held back, for each that ends.  Synchronous stores
 * enter nothing here.
 */
#include "blkback/disk.h"

#include "blkback/queue.h"

int
fh_disk_init(struct fh_disk *d, const struct fh_disk_params *p)
{
    int r;

    d->id = p->id;
    d->store = p->store;
    d->rec = p->rec;
    d->log = p->log;
    d->buffer_index = p->buffer_index;
    d->failed = false;
    d->n_queues = 0;
    d->n_held = 0;
    d->writes = NULL;
    d->writes_last = NULL;
    d->flush = NULL;
    d->flush_same = NULL;
    d->flush_next = NULL;
    d->ready = NULL;
    d->ready_last = NULL;
    r = fh_pool_init(&d->pool, p->buffers, p->buffer_bytes);
    if (r)
        return r;
    r = fh_rec_check(p->rec, p->store->info.n_sectors);
    if (r)
        return r;
    d->failed = p->rec->header.sticky_error != 0;
    return 0;
}

void
fh_disk_fini(struct fh_disk *d)
{
    d->store = NULL;
    d->rec = NULL;
}

void
fh_disk_fail(struct fh_disk *d)
{
    if (d->failed)
        return;
    d->failed = true;
    fh_rec_store32(d->log, &d->rec->header.sticky_error, 1);
}

static bool
overlap(const struct fh_rq *a, const struct fh_rq *b)
{
    return a->req.sector < b->req.sector + b->req.n_sectors &&
           b->req.sector < a->req.sector + a->req.n_sectors;
}

bool
fh_disk_write_begin(struct fh_disk *d, struct fh_rq *rq)
{
    rq->n_blockers = 0;
    for (const struct fh_rq *w = d->writes; w; w = w->write_next)
        rq->n_blockers += overlap(w, rq);
    rq->in_order = true;
    rq->write_next = NULL;
    rq->write_prev = d->writes_last;
    if (d->writes_last)
        d->writes_last->write_next = rq;
    else
        d->writes = rq;
    d->writes_last = rq;
    d->n_held += rq->n_blockers != 0;
    return rq->n_blockers == 0;
}

void
fh_disk_make_ready(struct fh_disk *d, struct fh_rq *rq)
{
    rq->next = NULL;
    if (d->ready_last)
        d->ready_last->next = rq;
    else
        d->ready = rq;
    d->ready_last = rq;
}

/* One blocker less for every newer write that @rq overlapped. */
static void
unblock(struct fh_disk *d, const struct fh_rq *rq)
{
    for (struct fh_rq *w = rq->write_next; w && d->n_held; w = w->write_next) {
        if (!w->n_blockers || !overlap(w, rq))
            continue;
        if (--w->n_blockers)
            continue;
        d->n_held--;
        fh_disk_make_ready(d, w);
    }
}

void
fh_disk_write_end(struct fh_disk *d, struct fh_rq *rq)
{
    unblock(d, rq);
    if (rq->write_prev)
        rq->write_prev->write_next = rq->write_next;
    else
        d->writes = rq->write_next;
    if (rq->write_next)
        rq->write_next->write_prev = rq->write_prev;
    else
        d->writes_last = rq->write_prev;
    rq->in_order = false;
}

bool
fh_disk_flush_begin(struct fh_disk *d, struct fh_rq *rq)
{
    if (!d->flush) {
        d->flush = rq;
        return true;
    }
    rq->next = d->flush_next;
    d->flush_next = rq;
    return false;
}

struct fh_rq *
fh_disk_flush_end(struct fh_disk *d)
{
    struct fh_rq *same = d->flush_same;

    d->flush = d->flush_next;
    d->flush_same = NULL;
    d->flush_next = NULL;
    if (d->flush) {
        d->flush_same = d->flush->next;
        fh_disk_make_ready(d, d->flush);
    }
    return same;
}

struct fh_rq *
fh_disk_next_ready(struct fh_disk *d)
{
    struct fh_rq *rq = d->ready;

    if (!rq)
        return NULL;
    d->ready = rq->next;
    if (!d->ready)
        d->ready_last = NULL;
    return rq;
}
