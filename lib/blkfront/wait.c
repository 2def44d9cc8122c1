/* SPDX-License-Identifier: MIT */
/*
 * Waiting for responses: spin while that pays, then arm, then sleep.
 *
 * A delivered event masks its port.  It is unmasked only before the next sleep,
 * after the work (late EOI): a backend that notifies for nothing costs one turn
 * of our loop per event, and after FH_BLKFRONT_SPURIOUS of them in a row we do
 * not listen for FH_BLKFRONT_CALM_NS (XSA-391).
 */
#include <string.h>
#include "blkfront/internal.h"

enum { SPIN_BATCH = 16 }; /* looks at the ring between looks at the clock */

/* Something to poll for: responses, or a disk that is broken or gone. */
static bool
has_work(struct fh_blkfront *bf)
{
    uint32_t n;

    if (bf->fault || bf->gone)
        return bf->queue.n_live > 0;
    if (!bf->queue.ring_addr)
        return false;
    return fh_fring_pending(&bf->queue.ring, &n) || n;
}

/* Spins as the poller says; true: there is work. */
static bool
spin(struct fh_blkfront *bf)
{
    struct fh_plat *p = bf->params.plat;
    uint64_t start, limit, spun = 0;
    bool found = false;

    if (!bf->queue.n_live || !fh_poller_ready(&bf->poller))
        return false;
    start = p->ops->now_ns(p);
    if (fh_poller_paused(&bf->poller, start))
        return false;
    limit = fh_poller_plan(&bf->poller, start, fh_plat_cpu_wanted(p));
    if (!limit)
        return false;
    bf->counts.spins++;
    while (!found && spun < limit) {
        for (int i = 0; i < SPIN_BATCH && !found; i++) {
            fh_cpu_relax();
            found = has_work(bf);
        }
        spun = p->ops->now_ns(p) - start;
    }
    bf->counts.spun += found;
    if (found)
        fh_poller_found(&bf->poller, spun);
    else
        fh_poller_missed(&bf->poller, spun);
    return found;
}

static void
unmask(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;
    struct fh_plat *p = bf->params.plat;

    if (q->masked && q->has_port)
        (void)p->ops->ev_unmask(p, q->port);
    q->masked = false;
}

/* Judges the last event: did it bring anything? */
static void
judge_event(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;

    if (!q->masked)
        return;
    if (q->worked) {
        q->n_spurious = 0;
    } else {
        q->n_spurious++;
        bf->counts.spurious++;
    }
    q->worked = false;
}

static bool
arm_ring(struct fh_blkfront *bf)
{
    struct fh_blkfront_queue *q = &bf->queue;
    uint32_t ahead = bf->params.wake_after;
    uint32_t visible;

    if (bf->fault || bf->gone || !q->ring_addr)
        return has_work(bf);
    /* More than the backend can see it will never answer. */
    visible = q->ring.req_published - q->ring.rsp_cons;
    ahead = ahead < visible ? ahead : visible;
    return fh_fring_arm(&q->ring, ahead ? ahead : 1);
}

bool
fh_blkfront_arm(struct fh_blkfront *bf)
{
    judge_event(bf);
    unmask(bf);
    return arm_ring(bf) || bf->dirty;
}

bool
fh_blkfront_on_event(struct fh_blkfront *bf, uint32_t port)
{
    struct fh_blkfront_queue *q = &bf->queue;

    if (!q->has_port || q->port != port)
        return false;
    bf->counts.events++;
    q->masked = true;
    return true;
}

bool
fh_blkfront_on_watch(struct fh_blkfront *bf, const char *token)
{
    if (strcmp(token, bf->frontend))
        return false;
    bf->dirty = true;
    return true;
}

int
fh_blkfront_take_watches(struct fh_blkfront *bf)
{
    struct fh_plat *p = bf->params.plat;
    int r;

    while (!(r = p->ops->xs_next(p, bf->path, bf->token)))
        (void)fh_blkfront_on_watch(bf, bf->token);
    return r == FH_PLAT_E_NONE ? 0 : r;
}

/* A port of an earlier life may still be delivered: it is let go. */
int
fh_blkfront_take_events(struct fh_blkfront *bf)
{
    struct fh_plat *p = bf->params.plat;
    uint32_t port;
    int r;

    while (!(r = p->ops->ev_next(p, &port))) {
        if (!fh_blkfront_on_event(bf, port))
            (void)p->ops->ev_unmask(p, port);
    }
    return r == FH_PLAT_E_NONE ? 0 : r;
}

static int
sleep_once(struct fh_blkfront *bf, uint64_t timeout_ns)
{
    struct fh_plat *p = bf->params.plat;
    const uint64_t before = p->ops->now_ns(p);
    int r;

    bf->counts.sleeps++;
    r = p->ops->wait(p, timeout_ns);
    fh_poller_slept(&bf->poller, p->ops->now_ns(p) - before);
    if (!r)
        r = fh_blkfront_take_events(bf);
    if (!r)
        r = fh_blkfront_take_watches(bf);
    return r <= 0 ? r : FH_EIO;
}

int
fh_blkfront_wait(struct fh_blkfront *bf, uint64_t timeout_ns)
{
    struct fh_blkfront_queue *q = &bf->queue;
    int r = 0;

    if (!bf->dirty && !has_work(bf) && !(timeout_ns && spin(bf))) {
        judge_event(bf);
        if (q->n_spurious < FH_BLKFRONT_SPURIOUS) {
            unmask(bf);
        } else {
            q->n_spurious = 0;
            if (timeout_ns > FH_BLKFRONT_CALM_NS)
                timeout_ns = FH_BLKFRONT_CALM_NS;
        }
        if (!arm_ring(bf))
            r = sleep_once(bf, timeout_ns);
    }
    if (!r && bf->dirty)
        r = fh_blkfront_step(bf);
    return r == FH_EAGAIN ? 0 : r; /* conflicts: the next wait goes on */
}
