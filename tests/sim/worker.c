/* SPDX-License-Identifier: MIT */
/*
 * A worker's process: the loop of worker.h (blkback) around its turn, messages,
 * death and the fence.
 *
 * Death comes after a store to the recovery state, or at any platform call:
 * control leaves production code there and never returns (sim_party_doom()).
 * Mappings and ports go with the process; I/O that the store has goes on.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include "back_int.h"

/* ---- death ---- */

static void
one_fenced(void *arg)
{
    struct sim_worker *w = arg;

    if (!--w->n_unfenced && !w->b->p.no_fence)
        sim_tell_supervisor(w, SIM_MSG_FENCED, 0, 0);
}

static void
worker_died(void *actor)
{
    struct sim_worker *w = actor;
    struct sim_back *b = w->b;

    b->n_deaths++;
    b->n_stores += w->worker.log.n_stores;
    sim_tell_supervisor(w, SIM_MSG_DIED, 0, 0);
    w->n_unfenced = 1;
    for (uint32_t i = 0; i < SIM_DISKS; i++) {
        if (!w->seat[i].taken)
            continue;
        w->n_unfenced++;
        sim_opening_orphan(&w->seat[i].opening, one_fenced, w);
    }
    one_fenced(w);
    if (b->p.no_fence)
        sim_tell_supervisor(w, SIM_MSG_FENCED, 0, 0);
}

static void
death_is_due(void *arg, uint64_t a)
{
    struct sim_worker *w = arg;

    (void)a;
    sim_party_doom(w->party);
}

/* Before this store the commit was what it was after the last one: answers that
 * are visible already would be given again after a death just now (R3). */
static void
check_commit(struct sim_worker *w, uint32_t i)
{
    const struct sim_seat *seat = &w->seat[i];
    const struct fh_queue *q = &seat->queue;
    uint64_t *last = &w->commit[i];

    if (seat->serving && q->rec.q->active)
        SIM_CHECK(w->b->s,
                  (int32_t)(fh_load_relaxed32(&q->ring.shared->rsp_prod) -
                            (uint32_t)*last) <= 0,
                  "answers are visible before they are committed");
    *last = w->b->disk[i].rec ? w->b->disk[i].rec->queue[0].commit : 0;
}

/* After a store to the recovery state. */
static void
stored(struct fh_rec_log *log)
{
    struct sim_worker *w = log->arg;

    log->hook_at = log->n_stores + 1;
    for (uint32_t i = 0; i < w->b->n_disks; i++)
        check_commit(w, i);
    if (log->n_stores == w->dies_at)
        w->party->doomed = true;
    if (w->party->doomed ||
        (w->b->p.yield_in_hook && sim_random(w->b->s, 8) == 0))
        (void)sim_enter(&w->party->plat, SIM_HOOK, log->n_stores);
}

/* Dies after the @n-th store from now. */
static void
plan_store(struct sim_worker *w, uint32_t n)
{
    w->dies_at = w->worker.log.n_stores + n;
}

/* A store from the start on, a moment, or soon after a queue is connected. */
static void
plan_death(struct sim_worker *w)
{
    struct sim_back *b = w->b;

    w->worker.log.hook = stored;
    w->worker.log.arg = w;
    w->worker.log.hook_at = 1;
    if (!b->kills_left)
        return;
    b->kills_left--;
    switch (sim_random(b->s, 4)) {
    case 0:
        plan_store(w, 1 + sim_random(b->s, sim_random(b->s, 2) ? 60 : 600));
        return;
    case 1:
        sim_after(b->s, sim_random(b->s, 3000000), death_is_due, w, 0);
        return;
    }
    w->dies_connected = true;
}

static void
plan_death_connected(struct sim_worker *w)
{
    if (!w->dies_connected)
        return;
    w->dies_connected = false;
    plan_store(w, 1 + sim_random(w->b->s, sim_random(w->b->s, 2) ? 30 : 300));
}

void
sim_back_kill_worker(struct sim_back *b)
{
    if (b->worker && b->worker->party)
        sim_party_doom(b->worker->party);
}

/* ---- messages ---- */

static int
open_disk(struct sim_worker *w, uint32_t i, bool replay)
{
    struct sim_seat *seat = &w->seat[i];
    struct sim_disk *d = &w->b->disk[i];
    const struct fh_disk_params p = {
        .id = i,
        .store = &seat->opening.store,
        .rec = d->rec,
        .log = &w->worker.log,
        .buffers = seat->buffers,
        .buffer_bytes = FH_POOL_MIN_BYTES,
        .buffer_index = -1,
    };
    int r;

    sim_medium_open(&d->medium, w->party, &seat->opening);
    r = fh_disk_init(&seat->disk, &p);
    if (r)
        return r;
    seat->taken = true;
    /* Replay starts with fsync on the witness, which reports an error that the
     * dead worker may have been told. */
    if (replay && d->medium.error_unseen) {
        d->medium.error_unseen = false;
        fh_disk_fail(&seat->disk);
    }
    return fh_worker_add_disk(&w->worker, &seat->disk);
}

static void
close_disk(struct sim_worker *w, uint32_t i)
{
    struct sim_seat *seat = &w->seat[i];

    fh_worker_remove_disk(&w->worker, &seat->disk);
    fh_disk_fini(&seat->disk);
    seat->opening.store.ops->close(&seat->opening.store);
    seat->taken = false;
}

static int
connect_queue(struct sim_worker *w, uint32_t i, bool resume)
{
    struct sim_seat *seat = &w->seat[i];
    const struct fh_device_queue *ring = &w->b->disk[i].ring;
    const struct fh_queue_params p = {
        .domid = ring->domid,
        .abi = (enum fh_blkif_abi)ring->abi,
        .order = ring->order,
        .ring_refs = ring->ring_refs,
        .port = ring->port,
        .grants = (enum fh_wk_grants)ring->grants,
        .max_indirect = ring->max_indirect,
        .resume = resume,
        .pgrant_idle_ns = 1000000,
    };
    int r;

    free(seat->queue_mem);
    seat->queue_mem = calloc(1, fh_queue_bytes(&p));
    r = fh_queue_connect(&seat->queue, seat->queue_mem, &w->worker.back,
                         &seat->disk, &p);
    if (r)
        return r;
    seat->serving = true;
    plan_death_connected(w);
    return fh_worker_add_queue(&w->worker, &seat->queue);
}

static void
do_connect(struct sim_worker *w, uint32_t i, bool resume)
{
    int r = 0;

    if (!w->seat[i].taken)
        r = open_disk(w, i, resume);
    if (!r)
        r = connect_queue(w, i, resume);
    if (r && w->seat[i].taken)
        close_disk(w, i);
    sim_tell_supervisor(w, SIM_MSG_CONNECT, i, r);
}

/* Deaths at the ends of a connection are rare by chance alone. */
static void
maybe_die_of_message(struct sim_worker *w)
{
    struct sim_back *b = w->b;

    if (!b->kills_left || sim_random(b->s, 4))
        return;
    b->kills_left--;
    sim_party_doom(w->party);
}

static void
take_messages(struct sim_worker *w)
{
    uint64_t m;

    while (sim_inbox_take(&w->inbox, &m)) {
        const uint32_t i = SIM_MSG_DISK(m);

        maybe_die_of_message(w);
        if (SIM_MSG_TYPE(m) == SIM_MSG_CONNECT) {
            do_connect(w, i, SIM_MSG_RC(m));
            continue;
        }
        w->seat[i].leaving = true;
        fh_queue_stop(&w->seat[i].queue);
    }
}

static void
finish_leaving(struct sim_worker *w)
{
    for (uint32_t i = 0; i < SIM_DISKS; i++) {
        struct sim_seat *seat = &w->seat[i];

        if (!seat->leaving || !fh_queue_idle(&seat->queue))
            continue;
        fh_worker_remove_queue(&w->worker, &seat->queue);
        seat->leaving = seat->serving = false;
        (void)fh_queue_disconnect(&seat->queue);
        close_disk(w, i);
        sim_tell_supervisor(w, SIM_MSG_DISCONNECT, i, 0);
    }
}

static void
broken_ring(struct fh_worker *worker, struct fh_queue *q)
{
    struct sim_worker *w = worker->arg;

    sim_tell_supervisor(w, SIM_MSG_FAULT, q->disk->id, 0);
}

/* ---- the loop ---- */

static void
worker_run(void *actor)
{
    struct sim_worker *w = actor;
    struct sim *s = w->b->s;
    uint32_t n = fh_worker_turn(&w->worker);
    uint64_t due;

    n += w->inbox.n;
    take_messages(w);
    finish_leaving(w);
    (void)fh_worker_kick(&w->worker);
    if (n || !fh_worker_arm(&w->worker) || sim_has_news(w->party)) {
        sim_wake(w->party, sim_random(s, 2000));
        return;
    }
    due = fh_worker_due(&w->worker);
    if (due != UINT64_MAX)
        sim_wake(w->party, due > s->now_ns ? due - s->now_ns : 1000);
}

static void
make_process(void *arg, uint64_t a)
{
    struct sim_worker *w = arg;
    struct sim_back *b = w->b;

    (void)a;
    if (b->worker != w || !b->sup)
        return;
    w->party =
        sim_party_new(b->s, SIM_BACK_DOMID, "worker", worker_run, w);
    w->party->died = worker_died;
    w->party->faulty = b->p.faulty;
    fh_worker_init(&w->worker, &w->party->plat);
    w->worker.fault = broken_ring;
    w->worker.arg = w;
    plan_death(w);
    sim_tell_supervisor(w, SIM_MSG_READY, 0, 0);
}

void
sim_worker_start(struct sim_back *b, uint64_t delay_ns)
{
    struct sim_worker *w = calloc(1, sizeof(*w));

    if (!w)
        abort();
    for (uint32_t i = 0; i < SIM_DISKS; i++) {
        w->seat[i].buffers =
            mmap(NULL, FH_POOL_MIN_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (w->seat[i].buffers == MAP_FAILED)
            abort();
    }
    w->b = b;
    w->older = b->worker;
    b->worker = w;
    b->state = SIM_STARTING;
    sim_after(b->s, delay_ns, make_process, w, 0);
}

void
sim_worker_free(struct sim_worker *w)
{
    for (uint32_t i = 0; i < SIM_DISKS; i++) {
        munmap(w->seat[i].buffers, FH_POOL_MIN_BYTES);
        free(w->seat[i].queue_mem);
    }
    free(w);
}
