/* SPDX-License-Identifier: MIT */
/*
 * A device and its worker.  The device says what it wants (@want), the worker
 * has what it has (@link); fh_sup_link_advance() sends the one message that
 * leads from here to there, and every answer calls it again:
 *
 *      DISK_OPEN        QUEUE_CONNECT
 * DOWN ---------> DISK --------------> QUEUE
 *      <---------      <--------------
 *      DISK_CLOSE       QUEUE_DISCONNECT
 *
 * A death puts every link DOWN; who wants its queue goes the same way again
 * with its successor, but resumes.  xenstore does not notice.
 *
 * Invariants: at most one request per device is out; `resume` is set from the
 * moment that a worker was told to connect until one said that the queue is
 * disconnected, or the device's last worker is dead and fenced.
 */
#include <stddef.h>
#include <string.h>
#include <unistd.h>
#include "base/shared.h"
#include "blkback/recovery.h"
#include "blkback/supervisor_state.h"
#include "blkback/token.h"

uint64_t
fh_sup_answer_ns(const struct fh_sup *s)
{
    uint64_t ms = s->p.answer_ms ? s->p.answer_ms : FH_SUP_ANSWER_MS;

    return ms * 1000000;
}

uint64_t
fh_sup_link_deadline(const struct fh_sup_device *d)
{
    if (d->seq)
        return d->answer_due_ns;
    return d->resume_ns ? d->resume_ns : UINT64_MAX;
}

void
fh_sup_link_overdue(struct fh_sup_device *d)
{
    if (d->resume_ns && fh_sup_now() >= d->resume_ns) {
        d->resume_ns = 0;
        fh_sup_link_advance(d);
    }
    if (!d->seq || fh_sup_now() < d->answer_due_ns)
        return;
    d->answer_due_ns = UINT64_MAX; /* its death resets it */
    fh_sup_worker_kill(d->worker, "it does not answer");
}

static void
request(struct fh_sup_device *d, struct fh_wk_msg *m, enum fh_wk_type type,
        const int *fds, unsigned n_fds)
{
    m->type = type;
    m->seq = ++d->worker->seq;
    m->disk = d->number;
    m->queue = 0;
    d->seq = m->seq;
    d->seq_type = type;
    d->answer_due_ns = fh_sup_now() + fh_sup_answer_ns(d->sup);
    fh_sup_worker_send(d->worker, m, fds, n_fds);
}

static void
finish(struct fh_sup_device *d)
{
    struct fh_sup_worker *w = d->worker;

    d->worker = NULL;
    d->resume = false;
    d->resume_ns = 0;
    d->resume_tries = 0;
    if (w)
        fh_sup_worker_release(w);
    fh_device_disconnected(&d->dev, 0);
    if (!d->fate)
        fh_sup_state_save(d); /* an older one leads here again */
}

/* A ring whose guest has requests in it is not given up for want of resources
 * in this moment.  False: it was tried often enough. */
static bool
try_again(struct fh_sup_device *d)
{
    uint64_t pause = (uint64_t)FH_SUP_RESUME_MS * 1000000;

    if (d->resume_tries >= FH_SUP_RESUME_TRIES)
        return false;
    d->resume_ns = fh_sup_now() + (pause << d->resume_tries++);
    return true;
}

/* The worker could not do it: a new ring hears of it, once; one that a dead
 * worker had waits, unless it is the frontend's doing (a verdict). */
static void
failed(struct fh_sup_device *d, int rc)
{
    if (d->dev.phase == FH_DEVICE_CONNECTING) {
        if (rc < 0)
            fh_sup_log(d->sup, "domain %u %s: cannot connect: %s",
                       d->dev.p.domid, d->vdev, strerror(-rc));
        d->want = false;
        d->resume = false;
        fh_device_connected(&d->dev, rc);
    } else if (rc > 0 || !try_again(d)) {
        fh_device_fault(&d->dev, rc);
    } else {
        fh_sup_log(d->sup, "domain %u %s: cannot resume yet: %s",
                   d->dev.p.domid, d->vdev, strerror(-rc));
    }
}

/* As failed(), before anything was sent: there is no answer to go on from. */
static void
failed_here(struct fh_sup_device *d, int rc)
{
    failed(d, rc);
    if (!d->want && d->link == FH_SUP_LINK_DOWN)
        finish(d);
}

/* The witness that a worker was given counts until it has answered: one that
 * could not open its disk has not asked it. */
static void
end_opening(struct fh_sup_device *d, bool opened)
{
    if (d->opening_fd < 0)
        return;
    if (opened)
        close(d->opening_fd);
    else
        fh_image_give_back(&d->image, d->opening_fd);
    d->opening_fd = -1;
}

/* After an earlier supervisor; false: not, and what follows is decided. */
static bool
bring_back(struct fh_sup_device *d)
{
    char why[FH_IMAGE_TEXT_MAX] = "";
    int r;

    r = fh_sup_bring_back(d, why);
    if (!r && d->rec_fd >= 0)
        return true;
    if (!r) { /* its requests are not known: the ring is lost */
        r = fh_sup_recovery_make(d);
        failed_here(d, r ? r : FH_WK_E_RECOVERY);
        return false;
    }
    fh_sup_log(d->sup, "domain %u %s: %s", d->dev.p.domid, d->vdev, why);
    if (d->image.store != FH_WK_STORE_MEM) {
        failed_here(d, r);
        return false;
    }
    d->fate = FH_SUP_FATE_LOST;
    d->want = false;
    finish(d);
    return false;
}

/* Which descriptors go with DISK_OPEN, and which of them a supervisor after us
 * will want to have. */
static unsigned
choose_fds(const struct fh_sup_device *d, int store, struct fh_wk_msg *m,
           int *fds)
{
    const struct fh_image *img = &d->image;
    const int all[FH_WK_N_FDS] = {
        [FH_WK_FD_STORE] = store,
        [FH_WK_FD_RECOVERY] = d->rec_fd,
        [FH_WK_FD_WITNESS] = img->store == FH_WK_STORE_FILE ? img->fd : -1,
        [FH_WK_FD_LOCK] = img->lock_fd,
    };
    unsigned n = 0;

    for (unsigned i = 0; i < FH_WK_N_FDS; i++) {
        if (all[i] < 0)
            continue;
        m->u.disk.fds |= FH_WK_FD_BIT(i);
        fds[n++] = all[i];
    }
    m->u.disk.keep = FH_WK_FD_BIT(FH_WK_FD_WITNESS) |
                     FH_WK_FD_BIT(FH_WK_FD_LOCK);
    if (img->store == FH_WK_STORE_MEM)
        m->u.disk.keep |= FH_WK_FD_BIT(FH_WK_FD_STORE);
    if (!d->rec_is_named)
        m->u.disk.keep |= FH_WK_FD_BIT(FH_WK_FD_RECOVERY);
    m->u.disk.keep &= m->u.disk.fds;
    return n;
}

static void
open_disk(struct fh_sup_device *d)
{
    const bool null = d->image.store == FH_WK_STORE_NULL;
    struct fh_wk_msg m = { 0 };
    int fds[FH_WK_N_FDS];
    int store = -1;
    unsigned n;

    if ((d->image_is_away || d->rec_fd < 0) && !bring_back(d))
        return;
    if (!null)
        store = fh_image_worker_fd(&d->image);
    if (!null && store < 0) {
        failed_here(d, store);
        return;
    }
    m.u.disk.store = d->image.store;
    m.u.disk.read_only = d->image.read_only;
    m.u.disk.n_sectors = d->image.n_sectors;
    m.u.disk.direct = d->image.direct;
    m.u.disk.alignment = d->image.alignment;
    m.u.disk.latency_ns = d->latency_ns;
    m.u.disk.replay = d->resume;
    n = choose_fds(d, store, &m, fds);
    request(d, &m, FH_WK_DISK_OPEN, fds, n);
    d->opening_fd = store;
}

/* A ring that was served has a state to go on from, or is not begun anew. */
static bool
is_resumable(const struct fh_sup_device *d)
{
    const off_t at = offsetof(struct fh_rec_file, queue[0].active);
    uint32_t active = 0;

    return !d->was_restored || d->dev.phase != FH_DEVICE_SERVING ||
           (pread(d->rec_fd, &active, sizeof(active), at) ==
                (ssize_t)sizeof(active) &&
            active);
}

static void
connect_queue(struct fh_sup_device *d)
{
    const bool broker = d->worker->broker_pid;
    struct fh_wk_msg m = { 0 };
    int token = -1;

    if (!is_resumable(d)) {
        failed_here(d, FH_WK_E_RECOVERY);
        return;
    }
    if (broker) {
        token = fh_token_make(d->queue.domid);
        if (token < 0) {
            failed_here(d, token);
            return;
        }
    }
    m.u.queue_connect.domid = d->queue.domid;
    m.u.queue_connect.abi = d->queue.abi;
    m.u.queue_connect.order = d->queue.order;
    m.u.queue_connect.port = d->queue.port;
    m.u.queue_connect.grants = d->queue.grants;
    m.u.queue_connect.max_indirect = d->queue.max_indirect;
    m.u.queue_connect.resume = d->resume;
    memcpy(m.u.queue_connect.ring_refs, d->queue.ring_refs,
           sizeof(m.u.queue_connect.ring_refs));
    request(d, &m, FH_WK_QUEUE_CONNECT, &token, broker);
    if (broker)
        close(token);
}

static void
go_up(struct fh_sup_device *d)
{
    switch (d->link) {
    case FH_SUP_LINK_DOWN:
        open_disk(d);
        return;
    case FH_SUP_LINK_DISK:
        connect_queue(d);
        return;
    case FH_SUP_LINK_QUEUE:
        return;
    }
}

static void
go_down(struct fh_sup_device *d)
{
    struct fh_wk_msg m = { 0 };

    switch (d->link) {
    case FH_SUP_LINK_QUEUE:
        request(d, &m, FH_WK_QUEUE_DISCONNECT, NULL, 0);
        return;
    case FH_SUP_LINK_DISK:
        request(d, &m, FH_WK_DISK_CLOSE, NULL, 0);
        return;
    case FH_SUP_LINK_DOWN:
        finish(d);
        return;
    }
}

void
fh_sup_link_advance(struct fh_sup_device *d)
{
    if (!d->worker || d->seq || d->worker->state != FH_SUP_READY)
        return;
    if (!d->want)
        go_down(d);
    else if (!d->resume_ns)
        go_up(d);
}

static bool
all_up(const struct fh_sup_worker *w)
{
    for (const struct fh_sup_device *d = w->sup->devices; d; d = d->next)
        if (d->worker == w && d->want && d->link != FH_SUP_LINK_QUEUE)
            return false;
    return true;
}

/* A queue is served again after a death: how long was the pause? */
static void
note_resumed(struct fh_sup_device *d)
{
    struct fh_sup_worker *w = d->worker;
    uint64_t pause = fh_sup_now() - w->died_ns;

    if (!w->died_ns)
        return;
    d->restarts++;
    if (pause > d->longest_pause_ns)
        d->longest_pause_ns = pause;
    if (pause > w->longest_pause_ns)
        w->longest_pause_ns = pause;
    if (!all_up(w))
        return;
    w->restarts++;
    w->died_ns = 0;
    fh_sup_log(w->sup, "worker %u: resumed after %.1f ms", w->number,
               (double)pause / 1e6);
}

static void
queue_up(struct fh_sup_device *d)
{
    d->link = FH_SUP_LINK_QUEUE;
    d->faulted = false;
    d->resume_tries = 0;
    d->was_served = true;
    if (d->resume)
        note_resumed(d);
    d->resume = true;
    if (d->dev.phase == FH_DEVICE_CONNECTING)
        fh_device_connected(&d->dev, 0);
}

static void
answered(struct fh_sup_device *d, uint32_t type, int rc)
{
    switch ((enum fh_wk_type)type) {
    case FH_WK_DISK_OPEN:
        end_opening(d, rc == 0);
        if (rc)
            failed(d, rc);
        else
            d->link = FH_SUP_LINK_DISK;
        break;
    case FH_WK_QUEUE_CONNECT:
        if (rc)
            failed(d, rc);
        else
            queue_up(d);
        break;
    case FH_WK_QUEUE_DISCONNECT:
        fh_sup_link_stats(d, &d->base);
        d->link = FH_SUP_LINK_DISK;
        d->resume = false;
        break;
    case FH_WK_DISK_CLOSE:
        d->link = FH_SUP_LINK_DOWN;
        break;
    case FH_WK_HELLO:
    case FH_WK_READY:
    case FH_WK_DONE:
    case FH_WK_QUEUE_FAULT:
    case FH_WK_END:
    case FH_WK_HAVE:
        return;
    }
    /* After a failure the handshake decides first. */
    if (!rc || !d->want)
        fh_sup_link_advance(d);
}

void
fh_sup_link_answer(struct fh_sup_worker *w, const struct fh_wk_msg *m)
{
    struct fh_sup_device *d = w->sup->devices;
    uint32_t type;

    while (d && (d->worker != w || !d->seq || d->seq != m->seq))
        d = d->next;
    if (!d) {
        fh_sup_worker_kill(w, "it answered what nobody asked");
        return;
    }
    type = d->seq_type;
    d->seq = 0;
    answered(d, type, m->rc);
}

void
fh_sup_link_fault(struct fh_sup_worker *w, const struct fh_wk_msg *m)
{
    struct fh_sup_device *d = w->sup->devices;

    while (d && (d->worker != w || d->number != m->disk))
        d = d->next;
    if (!d || d->faulted) { /* nobody's, or again: it would never end */
        fh_sup_worker_kill(w, "it reported a fault of no ring of its own");
        return;
    }
    d->faulted = true;
    fh_device_fault(&d->dev, m->rc ? m->rc : FH_WK_E_BROKEN);
}

void
fh_sup_link_died(struct fh_sup_worker *w)
{
    for (struct fh_sup_device *d = w->sup->devices; d; d = d->next) {
        if (d->worker != w)
            continue;
        if (d->seq && d->seq_type == FH_WK_QUEUE_CONNECT)
            d->resume = true;
        end_opening(d, false);
        if (d->link == FH_SUP_LINK_QUEUE)
            fh_sup_link_stats(d, &d->base);
        d->seq = 0;
        d->link = FH_SUP_LINK_DOWN;
    }
}

void
fh_sup_link_settled(struct fh_sup_worker *w)
{
    const bool parked = w->state == FH_SUP_PARKED;

    for (struct fh_sup_device *d = w->sup->devices; d; d = d->next) {
        if (d->worker != w)
            continue;
        if (parked && d->dev.phase == FH_DEVICE_CONNECTING)
            failed(d, FH_EIO);
        if (!d->want)
            finish(d);
    }
}

bool
fh_sup_link_needed(const struct fh_sup_worker *w)
{
    for (const struct fh_sup_device *d = w->sup->devices; d; d = d->next)
        if (d->worker == w && d->want)
            return true;
    return false;
}

static void
adopted(struct fh_sup_device *d)
{
    const bool faulted = d->faulted;

    queue_up(d);
    d->faulted = faulted;
    if (faulted)
        fh_device_fault(&d->dev, FH_WK_E_BROKEN);
}

void
fh_sup_link_ready(struct fh_sup_worker *w)
{
    for (struct fh_sup_device *d = w->sup->devices; d; d = d->next) {
        if (d->worker != w)
            continue;
        /* One that was adopted may be further than its device knew. */
        if (d->link == FH_SUP_LINK_QUEUE && d->want)
            adopted(d);
        fh_sup_link_advance(d);
    }
}

static void
add_stats(struct fh_wk_queue_stats *to, const struct fh_wk_queue_stats *from)
{
    to->requests += fh_load_relaxed64(&from->requests);
    to->reads += fh_load_relaxed64(&from->reads);
    to->writes += fh_load_relaxed64(&from->writes);
    to->flushes += fh_load_relaxed64(&from->flushes);
    to->read_sectors += fh_load_relaxed64(&from->read_sectors);
    to->write_sectors += fh_load_relaxed64(&from->write_sectors);
    to->errors += fh_load_relaxed64(&from->errors);
    to->notsupp += fh_load_relaxed64(&from->notsupp);
    to->notifies += fh_load_relaxed64(&from->notifies);
    to->wakeups += fh_load_relaxed64(&from->wakeups);
    to->copied_pieces += fh_load_relaxed64(&from->copied_pieces);
    to->pgrant_pages = fh_load_relaxed64(&from->pgrant_pages);
}

void
fh_sup_link_stats(const struct fh_sup_device *d, struct fh_wk_queue_stats *st)
{
    const struct fh_wk_stats *page = d->worker ? d->worker->stats : NULL;

    if (st != &d->base)
        *st = d->base;
    if (!page || d->link != FH_SUP_LINK_QUEUE)
        return;
    for (unsigned i = 0; i < FH_WK_STATS_QUEUES; i++)
        if (fh_load_relaxed32(&page->queue[i].disk) == d->number) {
            add_stats(st, &page->queue[i]);
            return;
        }
}

static struct fh_sup_device *
device_of(struct fh_device *dev)
{
    return dev->p.user;
}

/* A worker that died may have left its ring's state, and nobody resumed it:
 * a successor of the next worker must not take it for the new ring's. */
static int
forget_old_ring(struct fh_sup_device *d)
{
    const uint32_t inactive = 0;
    const off_t at = offsetof(struct fh_rec_file, queue[0].active);

    return pwrite(d->rec_fd, &inactive, sizeof(inactive), at) ==
                   (ssize_t)sizeof(inactive)
               ? 0
               : FH_EIO;
}

static int
op_connect(struct fh_device *dev, const struct fh_device_queue *q)
{
    struct fh_sup_device *d = device_of(dev);

    if (forget_old_ring(d))
        return FH_EIO;
    if (!d->worker)
        d->worker = fh_sup_worker_for(d->sup, q->domid);
    if (!d->worker)
        return FH_ENOSPC;
    d->queue = *q;
    d->want = true;
    d->resume = false;
    if (d->worker->state == FH_SUP_PARKED) { /* a new ring, a new chance */
        d->worker->state = FH_SUP_NONE;
        d->worker->early_deaths = 0;
    }
    /* Before anybody serves the ring: a supervisor after us has to know who. */
    d->was_served = true;
    if (fh_sup_state_save(d))
        return FH_ENOSPC;
    fh_sup_worker_start(d->worker);
    fh_sup_link_advance(d);
    return 0;
}

static int
op_disconnect(struct fh_device *dev)
{
    struct fh_sup_device *d = device_of(dev);

    d->want = false;
    fh_sup_state_save(d); /* before the ring's state ends */
    if (!d->worker) {
        finish(d);
        return 0;
    }
    switch (d->worker->state) {
    case FH_SUP_NONE:
    case FH_SUP_WAITING:
    case FH_SUP_PARKED:
        finish(d); /* no process, and its I/O is over */
        return 0;
    case FH_SUP_FOREIGN:
        fh_sup_worker_kill(d->worker, "a disk of it is to be closed");
        return 0;
    case FH_SUP_STARTING:
    case FH_SUP_ADOPTING:
    case FH_SUP_READY:
    case FH_SUP_ENDING:
    case FH_SUP_FENCED:
        break;
    }
    fh_sup_link_advance(d);
    return 0;
}

static void
op_removed(struct fh_device *dev)
{
    device_of(dev)->over = true;
}

static void
op_log(struct fh_device *dev, const char *text)
{
    struct fh_sup_device *d = device_of(dev);

    fh_sup_log(d->sup, "domain %u %s: %s", d->dev.p.domid, d->vdev, text);
}

const struct fh_device_ops fh_sup_device_ops = {
    .connect = op_connect,
    .disconnect = op_disconnect,
    .removed = op_removed,
    .log = op_log,
};
