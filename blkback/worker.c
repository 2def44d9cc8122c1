/* SPDX-License-Identifier: MIT */
/*
 * The turn.  Its order matters: what the stores finished comes first, so that
 * buffers and entries are free for what is taken next; grant copies run after
 * every queue has collected its own; events are unmasked after the work that
 * they asked for (late EOI: a flood of events costs its sender, not us).
 */
#include "blkback/worker.h"

/* Idle grants are looked at no more often than this. */
#define EXPIRE_MIN_NS 1000000000ull

void
fh_worker_init(struct fh_worker *w, struct fh_plat *plat)
{
    fh_back_init(&w->back, plat);
    w->log = (struct fh_rec_log){ .n_stores = 0 };
    w->n_queues = 0;
    w->n_disks = 0;
    w->first = 0;
    w->n_turns = 0;
    w->expire_ns = UINT64_MAX;
    w->fault = NULL;
    w->arg = NULL;
}

int
fh_worker_add_disk(struct fh_worker *w, struct fh_disk *d)
{
    if (w->n_disks == FH_WORKER_MAX_DISKS)
        return FH_ENOSPC;
    w->disk[w->n_disks++] = d;
    return 0;
}

int
fh_worker_add_queue(struct fh_worker *w, struct fh_queue *q)
{
    if (w->n_queues == FH_WORKER_MAX_QUEUES)
        return FH_ENOSPC;
    w->queue[w->n_queues++] = q;
    return 0;
}

void
fh_worker_remove_disk(struct fh_worker *w, struct fh_disk *d)
{
    for (uint32_t i = 0; i < w->n_disks; i++)
        if (w->disk[i] == d) {
            w->disk[i] = w->disk[--w->n_disks];
            return;
        }
}

void
fh_worker_remove_queue(struct fh_worker *w, struct fh_queue *q)
{
    for (uint32_t i = 0; i < w->n_queues; i++)
        if (w->queue[i] == q) {
            w->queue[i] = w->queue[--w->n_queues];
            w->first = 0;
            return;
        }
}

static void
event(struct fh_worker *w, uint32_t port)
{
    for (uint32_t i = 0; i < w->n_queues; i++) {
        struct fh_queue *q = w->queue[i];

        if (q->port != port)
            continue;
        q->unmask_due = true;
        fh_store_relaxed64(&q->stats->wakeups, q->stats->wakeups + 1);
        return;
    }
}

static uint32_t
take_events(struct fh_worker *w)
{
    struct fh_plat *p = w->back.plat;
    uint32_t n = 0;
    uint32_t port;

    while (n < FH_WORKER_EVENTS && p->ops->ev_next(p, &port) == 0) {
        event(w, port);
        n++;
    }
    return n;
}

static uint32_t
reap(struct fh_worker *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->n_disks; i++) {
        struct fh_store *s = w->disk[i]->store;

        n += s->ops->reap(s);
    }
    return n;
}

/* Takes from every queue, beginning with another one each turn. */
static uint32_t
take(struct fh_worker *w)
{
    uint32_t n = 0;
    uint32_t at = w->first;

    for (uint32_t i = 0; i < w->n_queues; i++) {
        if (at >= w->n_queues)
            at = 0;
        n += fh_queue_take(w->queue[at++]);
    }
    w->first = w->first + 1 < w->n_queues ? w->first + 1 : 0;
    return n;
}

static void
run_collected(struct fh_worker *w)
{
    fh_back_run_copies(&w->back);
    for (uint32_t i = 0; i < w->n_disks; i++)
        if (w->disk[i]->ready)
            fh_disk_run_ready(w->disk[i]);
}

static void
tell_fault(struct fh_worker *w, struct fh_queue *q)
{
    if (q->fault_told)
        return;
    q->fault_told = true;
    if (w->fault)
        w->fault(w, q);
}

/* A broken queue's port stays masked: nothing of it is of interest. */
static void
unmask(struct fh_worker *w, struct fh_queue *q)
{
    struct fh_plat *p = w->back.plat;

    q->unmask_due = false;
    if (!q->broken)
        p->ops->ev_unmask(p, q->port);
}

static uint32_t
finish(struct fh_worker *w)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < w->n_queues; i++) {
        struct fh_queue *q = w->queue[i];

        n += fh_queue_publish(q);
        if (q->unmask_due)
            unmask(w, q);
        if (q->broken)
            tell_fault(w, q);
    }
    return n;
}

uint32_t
fh_worker_turn(struct fh_worker *w)
{
    uint32_t n;

    w->n_turns++;
    w->back.now_ns = fh_plat_coarse_ns(w->back.plat);
    n = reap(w);
    n += take_events(w);
    n += take(w);
    run_collected(w);
    return n + finish(w);
}

int
fh_worker_kick(struct fh_worker *w)
{
    int first = 0;

    for (uint32_t i = 0; i < w->n_disks; i++) {
        struct fh_store *s = w->disk[i]->store;
        int r = s->ops->kick(s);

        first = first ? first : r;
    }
    return first;
}

/* Unmaps grants that have been idle for long, and finds out when to look
 * again. */
static void
expire(struct fh_worker *w, uint64_t now)
{
    uint64_t due = UINT64_MAX;

    for (uint32_t i = 0; i < w->n_queues; i++) {
        struct fh_queue *q = w->queue[i];
        uint64_t next;

        if (!q->has_pgrant)
            continue;
        (void)fh_pgrant_expire(&q->pgrant, now, &next);
        (void)fh_queue_publish(q); /* tells how many are left */
        if (next != UINT64_MAX && next < now + EXPIRE_MIN_NS)
            next = now + EXPIRE_MIN_NS;
        due = next < due ? next : due;
    }
    w->expire_ns = due;
}

bool
fh_worker_arm(struct fh_worker *w)
{
    bool idle = true;

    for (uint32_t i = 0; i < w->n_queues; i++)
        idle &= fh_queue_arm(w->queue[i]);
    if (!idle)
        return false;
    if (w->back.now_ns >= w->expire_ns || w->expire_ns == UINT64_MAX)
        expire(w, w->back.now_ns);
    return true;
}

uint64_t
fh_worker_due(const struct fh_worker *w)
{
    return w->expire_ns;
}
