/* SPDX-License-Identifier: MIT */
/*
 * The two ends of a request's life, taking and answering, and the life of a
 * queue.  Rules R1 to R4 of recovery.h are kept here: entries, commit, start;
 * slot, answer, commit, publish.
 */
#include "blkback/queue.h"

#include <string.h>

#include "base/arith.h"
#include "blkback/request.h"

/* A request that is older than this stops the queue until it is answered:
 * beyond 2^32 its index would come round again (recovery.h, R4). */
#define TOO_OLD (1u << 31)

/* Whether CPUs are short costs two system calls to find out: no more often, and
 * only who wants to know. */
#define CROWD_NS 5000000ull

static void
count(uint64_t *counter, uint64_t n)
{
    fh_store_relaxed64(counter, *counter + n);
}

void
fh_queue_count_copied(struct fh_queue *q, uint32_t n)
{
    count(&q->stats->copied_pieces, n);
}

void
fh_back_init(struct fh_back *b, struct fh_plat *plat)
{
    b->plat = plat;
    b->now_ns = 0;
    b->is_crowded = false;
    b->crowd_ns = 0;
    b->n_copy_calls = 0;
    b->descs = (struct fh_copy_batch){ .n = 0 };
    b->in = (struct fh_copy_batch){ .n = 0 };
    b->out = (struct fh_copy_batch){ .n = 0 };
}

/* ---- answering ---- */

static void
count_answer(struct fh_queue *q, const struct fh_blkif_req *req, int status)
{
    struct fh_wk_queue_stats *s = q->stats;

    count(&s->requests, 1);
    if (status == FH_BLKIF_ERROR) {
        count(&s->errors, 1);
        return;
    }
    if (status == FH_BLKIF_NOTSUPP) {
        count(&s->notsupp, 1);
        return;
    }
    switch (req->op) {
    case FH_BLKIF_READ:
        count(&s->reads, 1);
        count(&s->read_sectors, req->n_sectors);
        return;
    case FH_BLKIF_WRITE:
        count(&s->writes, 1);
        count(&s->write_sectors, req->n_sectors);
        return;
    case FH_BLKIF_FLUSH:
        count(&s->flushes, 1);
        return;
    case FH_BLKIF_BARRIER:
    case FH_BLKIF_DISCARD:
        return;
    }
}

static void
release(struct fh_rq *rq)
{
    struct fh_queue *q = rq->q;

    if (rq->in_order)
        fh_disk_write_end(q->disk, rq);
    if (rq->buf) {
        fh_pool_free(&q->disk->pool, rq->buf);
        rq->buf = NULL;
    }
    rq->state = FH_RQ_FREE;
    q->free[q->n_free++] = rq->entry;
}

/* R3, all but the commit: that comes once for many, before the entry is used
 * again and before the shared index. */
void
fh_queue_answer(struct fh_rq *rq, int16_t status)
{
    struct fh_queue *q = rq->q;
    const uint32_t rsp_idx = q->ring.rsp_prod;
    uint8_t image[FH_BLKIF_MAX_RESPONSE_BYTES];
    uint64_t id;
    uint8_t wire_op;

    fh_blkif_decode_head(q->abi, q->rec.q->entry[rq->entry].slot, &id,
                         &wire_op);
    fh_blkif_encode_response(q->abi, id, wire_op, status, image);
    fh_bring_put(&q->ring, image, q->response_bytes);
    fh_rec_answer(&q->rec, rq->entry, rsp_idx);
    count_answer(q, &rq->req, status);
    release(rq);
}

static void
commit_answers(struct fh_queue *q)
{
    if (q->rec.rsp_prod != q->ring.rsp_prod)
        fh_rec_commit(&q->rec, q->ring.req_cons, q->ring.rsp_prod);
}

/* Makes the answers visible; what the frontend asked for is remembered.  After
 * a resume the index is stored even so: the dead worker may not have. */
static uint32_t
show_answers(struct fh_queue *q)
{
    const uint32_t n = q->ring.rsp_prod - q->ring.rsp_published;

    if ((!n && !q->notify_due) || q->broken)
        return 0;
    commit_answers(q);
    q->notify_due |= fh_bring_publish(&q->ring);
    return n;
}

static void
notify(struct fh_queue *q)
{
    struct fh_plat *p = q->back->plat;

    q->notify_due = false;
    p->ops->ev_notify(p, q->port);
    count(&q->stats->notifies, 1);
}

static bool
is_crowded(struct fh_back *b)
{
    if (b->now_ns >= b->crowd_ns) {
        b->crowd_ns = b->now_ns + CROWD_NS;
        b->is_crowded = fh_plat_cpu_wanted(b->plat);
    }
    return b->is_crowded;
}

/*
 * In the middle of a batch: the frontend may begin with the first answers.  It
 * is woken for them once, and not at all where CPUs are short: there it would
 * only take ours away, and every further wake-up would find less to do.
 */
static void
publish_early(struct fh_queue *q)
{
    (void)show_answers(q);
    if (!q->notify_due || q->notified_early || is_crowded(q->back))
        return;
    q->notified_early = true;
    notify(q);
}

uint32_t
fh_queue_publish(struct fh_queue *q)
{
    const uint32_t n = show_answers(q);

    if (q->notify_due && !q->broken)
        notify(q);
    q->notified_early = false;
    if (q->stats->pgrant_pages != q->pgrant.n_pages)
        fh_store_relaxed64(&q->stats->pgrant_pages, q->pgrant.n_pages);
    return n;
}

/* ---- taking ---- */

static void
todo_append(struct fh_queue *q, struct fh_rq *rq)
{
    rq->state = FH_RQ_TODO;
    rq->next = NULL;
    if (q->todo_last)
        q->todo_last->next = rq;
    else
        q->todo = rq;
    q->todo_last = rq;
}

static struct fh_rq *
todo_pop(struct fh_queue *q)
{
    struct fh_rq *rq = q->todo;

    q->todo = rq->next;
    if (!q->todo)
        q->todo_last = NULL;
    return rq;
}

static void
todo_push_front(struct fh_queue *q, struct fh_rq *rq)
{
    rq->next = q->todo;
    q->todo = rq;
    if (!q->todo_last)
        q->todo_last = rq;
}

void
fh_queue_park(struct fh_rq *rq)
{
    todo_append(rq->q, rq);
}

static void
todo_entry(struct fh_queue *q, uint32_t entry)
{
    struct fh_rq *rq = &q->rqs[entry];

    rq->copy = false;
    rq->judged = false;
    todo_append(q, rq);
}

/* Once in 2^28 requests: what lies in the window of R4 for too long. */
static void
scrub(struct fh_queue *q)
{
    fh_rec_scrub(&q->rec, q->free, q->n_free);
    for (uint32_t i = 0; i < q->ring.n_slots; i++)
        if (q->rqs[i].state != FH_RQ_FREE &&
            q->ring.req_cons - q->rec.q->entry[i].req_idx > TOO_OLD)
            q->stalled = true;
}

/* Copies @n requests into entries (R1) and commits them (R2). */
static void
take_batch(struct fh_queue *q, uint32_t n)
{
    const uint32_t old = q->ring.req_cons;

    /* An entry that was answered since may be used again only now. */
    commit_answers(q);
    for (uint32_t i = 0; i < n; i++) {
        const uint16_t e = q->free[--q->n_free];

        fh_rec_take(&q->rec, e, &q->ring);
        todo_entry(q, e);
    }
    fh_rec_commit(&q->rec, q->ring.req_cons, q->ring.rsp_prod);
    if ((old ^ q->ring.req_cons) >> FH_QUEUE_SCRUB_BITS)
        scrub(q);
}

static void
take_new(struct fh_queue *q)
{
    uint32_t n;

    if (q->stalled && fh_queue_idle(q))
        q->stalled = false;
    if (q->stopping || q->broken || q->stalled || q->todo)
        return;
    if (fh_bring_pending(&q->ring, &n)) {
        q->broken = true;
        return;
    }
    if (n)
        take_batch(q, n < FH_QUEUE_BATCH ? n : FH_QUEUE_BATCH);
}

/* Starts what has been taken, in order, until one needs a buffer that is not
 * there, or the queue has had its share of this turn. */
static uint32_t
start_todo(struct fh_queue *q, uint64_t *sectors)
{
    uint32_t n = 0;

    while (q->todo && *sectors < FH_QUEUE_TURN_SECTORS) {
        struct fh_rq *rq = todo_pop(q);

        if (!fh_rq_start(rq)) {
            todo_push_front(q, rq);
            break;
        }
        n++;
        if (rq->judged)
            *sectors += rq->req.n_sectors;
        if (q->ring.rsp_prod - q->ring.rsp_published >= FH_QUEUE_EARLY)
            publish_early(q);
    }
    return n;
}

uint32_t
fh_queue_take(struct fh_queue *q)
{
    uint64_t sectors = 0;
    uint32_t n = 0;

    if (q->todo)
        n = start_todo(q, &sectors);
    take_new(q);
    return n + start_todo(q, &sectors);
}

void
fh_back_run_copies(struct fh_back *b)
{
    fh_copy_run(b, &b->descs);
    fh_copy_run(b, &b->in);
    fh_copy_run(b, &b->out);
}

void
fh_disk_run_ready(struct fh_disk *d)
{
    struct fh_rq *rq;

    while ((rq = fh_disk_next_ready(d))) {
        if (fh_rq_submit(rq))
            continue;
        fh_disk_make_ready(d, rq);
        return;
    }
}

/* ---- life ---- */

struct layout {
    size_t rqs;
    size_t free;
    size_t pgrant; /* at the end */
    size_t bytes;
    uint32_t n_slots;
    struct fh_pgrant_params cache;
};

static bool
params_valid(const struct fh_queue_params *p)
{
    return p->index < FH_REC_MAX_QUEUES && p->order <= FH_RING_MAX_ORDER &&
           p->max_indirect <= FH_BLKIF_MAX_SEGMENTS &&
           (p->abi == FH_BLKIF_NATIVE || p->abi == FH_BLKIF_X86_32 ||
            p->abi == FH_BLKIF_X86_64) &&
           (p->grants == FH_WK_GRANTS_PERSISTENT ||
            p->grants == FH_WK_GRANTS_COPY || p->grants == FH_WK_GRANTS_MAP);
}

/* Room for every page that a full ring can name, within reason. */
static uint32_t
cache_pages(uint32_t n_slots, uint32_t max_indirect)
{
    const uint32_t segs = max_indirect > FH_BLKIF_MAX_DIRECT
                              ? max_indirect + 1
                              : FH_BLKIF_MAX_DIRECT;
    const uint32_t pages = n_slots * segs;

    return pages < FH_QUEUE_MAX_PGRANTS ? pages : FH_QUEUE_MAX_PGRANTS;
}

static bool
make_layout(struct layout *l, const struct fh_queue_params *p)
{
    size_t cache_bytes = 0;

    if (!params_valid(p))
        return false;
    l->n_slots = fh_blkif_ring_slots(p->abi, p->order);
    l->cache = (struct fh_pgrant_params){
        .domid = p->domid,
        .max_pages = cache_pages(l->n_slots, p->max_indirect),
        .idle_ns = p->pgrant_idle_ns,
    };
    if (p->grants == FH_WK_GRANTS_PERSISTENT) {
        cache_bytes = fh_pgrant_bytes(&l->cache);
        if (!cache_bytes)
            return false;
    }
    l->rqs = 0;
    l->free = l->rqs + fh_round_up(l->n_slots * sizeof(struct fh_rq), 64);
    l->pgrant = l->free + fh_round_up(l->n_slots * sizeof(uint16_t), 64);
    l->bytes = l->pgrant + cache_bytes;
    return true;
}

size_t
fh_queue_bytes(const struct fh_queue_params *p)
{
    struct layout l;

    return make_layout(&l, p) ? l.bytes : 0;
}

static void
init_fields(struct fh_queue *q, uint8_t *mem, const struct layout *l,
            const struct fh_queue_params *p)
{
    q->index = p->index;
    q->domid = p->domid;
    q->abi = p->abi;
    q->grants = p->grants;
    q->response_bytes = fh_blkif_response_bytes(p->abi);
    q->ring_pages = 1u << p->order;
    q->limits = (struct fh_blkif_limits){
        .n_sectors = q->disk->store->info.n_sectors,
        .max_indirect = p->max_indirect,
        .read_only = q->disk->store->info.read_only,
        .flush = true,
    };
    q->stats = p->stats ? p->stats : &q->own_stats;
    q->stats->disk = q->disk->id;
    q->stats->queue = p->index;
    q->rqs = (void *)(mem + l->rqs);
    q->free = (void *)(mem + l->free);
    for (uint32_t i = 0; i < l->n_slots; i++) {
        q->rqs[i].q = q;
        q->rqs[i].entry = (uint16_t)i;
    }
}

static int
map_ring(struct fh_queue *q, const struct fh_queue_params *p, uint32_t n_slots)
{
    struct fh_plat *plat = q->back->plat;
    void *ring;
    int r = plat->ops->gnt_map(plat, q->domid, p->ring_refs, q->ring_pages,
                               FH_PLAT_PROT_RW, &ring);

    if (r)
        return r < 0 ? r : FH_WK_E_RING;
    fh_bring_init(&q->ring, ring, n_slots, fh_blkif_slot_bytes(q->abi), 0, 0);
    return 0;
}

static int
bind_port(struct fh_queue *q, uint32_t remote)
{
    struct fh_plat *p = q->back->plat;
    int r = p->ops->ev_bind(p, q->domid, remote, &q->port);

    if (r)
        return r < 0 ? r : FH_WK_E_RING;
    q->bound = true;
    return 0;
}

/* All entries but those in the todo list are free; low ones are used first. */
static void
fill_free(struct fh_queue *q)
{
    for (uint32_t i = q->ring.n_slots; i--;)
        if (q->rqs[i].state == FH_RQ_FREE)
            q->free[q->n_free++] = (uint16_t)i;
}

static int
start_or_resume(struct fh_queue *q, bool resume)
{
    struct fh_rec_queue *area = &q->disk->rec->queue[q->index];
    uint16_t todo[FH_REC_MAX_SLOTS];
    uint32_t n_todo = 0;
    int r = FH_ENOENT;

    if (resume)
        r = fh_rec_resume(&q->rec, q->disk->log, area, q->abi, q->ring.n_slots,
                          todo, &n_todo);
    if (r == FH_REC_E_CORRUPT)
        return FH_WK_E_RECOVERY;
    if (r)
        fh_rec_start(&q->rec, q->disk->log, area, q->abi, q->ring.n_slots);
    fh_bring_init(&q->ring, q->ring.shared, q->ring.n_slots,
                  q->ring.slot_bytes, q->rec.req_cons, q->rec.rsp_prod);
    for (uint32_t i = 0; i < n_todo; i++)
        todo_entry(q, todo[i]);
    fill_free(q);
    /* The dead worker may have committed answers that it did not publish, or
     * published some that it did not notify of. */
    q->notify_due = !r;
    return 0;
}

static int
init_cache(struct fh_queue *q, uint8_t *mem, struct layout *l)
{
    int r;

    if (q->grants != FH_WK_GRANTS_PERSISTENT)
        return 0;
    l->cache.plat = q->back->plat;
    r = fh_pgrant_init(&q->pgrant, mem + l->pgrant, &l->cache);
    q->has_pgrant = !r;
    return r;
}

int
fh_queue_connect(struct fh_queue *q, void *mem, struct fh_back *b,
                 struct fh_disk *d, const struct fh_queue_params *p)
{
    struct layout l;
    int r;

    memset(q, 0, sizeof(*q));
    if (!make_layout(&l, p))
        return FH_EINVAL;
    q->back = b;
    q->disk = d;
    d->n_queues++;
    init_fields(q, mem, &l, p);
    r = map_ring(q, p, l.n_slots);
    if (r)
        goto fail;
    r = bind_port(q, p->port);
    if (r)
        goto fail;
    r = init_cache(q, mem, &l);
    if (r)
        goto fail;
    r = start_or_resume(q, p->resume);
    if (r)
        goto fail;
    return 0;

fail:
    q->rec.q = NULL; /* the area stays as it is */
    (void)fh_queue_disconnect(q);
    return r;
}

bool
fh_queue_arm(struct fh_queue *q)
{
    if (q->stopping || q->broken || q->stalled || q->todo)
        return true;
    return !fh_bring_arm(&q->ring);
}

void
fh_queue_stop(struct fh_queue *q)
{
    q->stopping = true;
}

bool
fh_queue_idle(const struct fh_queue *q)
{
    return q->n_free == q->ring.n_slots;
}

int
fh_queue_disconnect(struct fh_queue *q)
{
    struct fh_plat *p;
    int first = 0;
    int r;

    if (!q->back)
        return 0;
    p = q->back->plat;
    fh_rec_stop(&q->rec);
    if (q->has_pgrant)
        first = fh_pgrant_fini(&q->pgrant);
    if (q->bound) {
        r = p->ops->ev_unbind(p, q->port);
        first = first ? first : r;
    }
    if (q->ring.shared) {
        r = p->ops->gnt_unmap(p, (void *)(uintptr_t)q->ring.shared,
                              q->ring_pages);
        first = first ? first : r;
    }
    q->disk->n_queues--;
    q->back = NULL;
    return first;
}
