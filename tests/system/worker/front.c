/* SPDX-License-Identifier: MIT */
/*
 * The frontend process: a ring and data pages granted once, a fixed number of
 * requests in flight, each on pages and a block of its own.  With verification
 * every page carries {block, generation}, so a lost, stale or misplaced write
 * shows, also across a worker's death.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <freehold/blkif.h>

#include "base/arith.h"
#include "base/poller.h"
#include "front.h"
#include "ring/ring.h"
#include "xenplat/xenplat.h"

enum { MAX_DEPTH = 512, PAGE_SECTORS = 8 };

struct slot {
    uint32_t first_page; /* of the data */
    uint32_t block;
    uint32_t generation; /* written, or expected */
    bool write;
    bool flush;
    bool busy;
};

struct front {
    int sock;
    struct fh_xenplat x;
    struct rig_ring ring;
    void *ring_mem;
    uint8_t *data;
    uint32_t *refs;     /* of the data */
    uint8_t *desc;      /* a descriptor page for each slot */
    uint32_t desc_refs[MAX_DEPTH];
    struct fh_fring fring;
    struct fh_poller poller;
    /* of a load */
    struct rig_load load;
    struct rig_result res;
    struct slot slot[MAX_DEPTH];
    uint32_t *generation; /* of every block */
    uint8_t *in_flight;   /* blocks */
    uint32_t n_blocks;
    uint32_t n_busy;
    uint64_t n_put;
    uint64_t started_ns;
    uint64_t last_ns;
    uint64_t seed;
};

static uint32_t
rnd(struct front *f, uint32_t below)
{
    f->seed = f->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(((f->seed >> 32) * below) >> 32);
}

/* ---- ring ---- */

static void
setup(struct front *f, struct rig_ring *ring)
{
    struct fh_plat *p = &f->x.plat;
    const uint32_t n_ring = 1u << ring->order;
    void *at;

    f->ring = *ring;
    if (p->ops->gnt_share(p, 0, n_ring, true, f->ring.refs, &f->ring_mem))
        rig_die("cannot share the ring");
    f->refs = calloc(ring->n_pages, sizeof(*f->refs));
    if (p->ops->gnt_share(p, 0, ring->n_pages, true, f->refs, &at))
        rig_die("cannot share the data pages");
    f->data = at;
    if (p->ops->gnt_share(p, 0, MAX_DEPTH, true, f->desc_refs, &at))
        rig_die("cannot share the descriptors");
    f->desc = at;
    if (p->ops->ev_alloc(p, 0, &f->ring.port))
        rig_die("cannot make a port");
    fh_fring_init(&f->fring, f->ring_mem,
                  fh_blkif_ring_slots(FH_BLKIF_NATIVE, ring->order),
                  fh_blkif_slot_bytes(FH_BLKIF_NATIVE));
    *ring = f->ring;
}

static void
teardown(struct front *f)
{
    struct fh_plat *p = &f->x.plat;

    if (p->ops->ev_unbind(p, f->ring.port) ||
        p->ops->gnt_unshare(p, f->ring_mem, 1u << f->ring.order) ||
        p->ops->gnt_unshare(p, f->data, f->ring.n_pages) ||
        p->ops->gnt_unshare(p, f->desc, MAX_DEPTH))
        rig_die("cannot end the grants");
    free(f->refs);
    f->refs = NULL;
}

/* ---- requests ---- */

static uint32_t
choose_block(struct front *f)
{
    uint32_t b;

    do
        b = rnd(f, f->n_blocks);
    while (f->in_flight[b]);
    f->in_flight[b] = 1;
    return b;
}

static uint8_t *
slot_page(struct front *f, const struct slot *s, uint32_t i)
{
    return f->data + (size_t)(s->first_page + i) * FH_PAGE_BYTES;
}

static void
stamp(struct front *f, const struct slot *s)
{
    for (uint32_t i = 0; i < f->load.pages_each; i++) {
        uint32_t *words = (uint32_t *)slot_page(f, s, i);

        for (uint32_t at = 0; at < 1024; at += 128) { /* each sector */
            words[at] = s->block;
            words[at + 127] = s->generation;
        }
    }
}

static bool
stamped(struct front *f, const struct slot *s)
{
    for (uint32_t i = 0; i < f->load.pages_each; i++) {
        const uint32_t *words = (const uint32_t *)slot_page(f, s, i);

        for (uint32_t at = 0; at < 1024; at += 128)
            if (words[at + 127] != s->generation ||
                (s->generation && words[at] != s->block))
                return false;
    }
    return true;
}

static void
fill_segs(struct front *f, const struct slot *s, struct fh_blkif_seg *segs)
{
    for (uint32_t i = 0; i < f->load.pages_each; i++)
        segs[i] = (struct fh_blkif_seg){ .gref = f->refs[s->first_page + i],
                                         .last = PAGE_SECTORS - 1 };
}

static void
put(struct front *f, uint32_t i)
{
    struct slot *s = &f->slot[i];
    struct fh_blkif_req req = { .op = FH_BLKIF_FLUSH, .id = i };
    uint8_t wire[FH_BLKIF_MAX_SLOT_BYTES];

    s->busy = true;
    f->n_busy++;
    f->n_put++;
    s->flush = f->load.flush_every && f->n_put % f->load.flush_every == 0;
    if (!s->flush) {
        s->write = rnd(f, 100) < f->load.write_percent;
        s->block = choose_block(f);
        req.op = s->write ? FH_BLKIF_WRITE : FH_BLKIF_READ;
        req.sector = (uint64_t)s->block * f->load.pages_each * PAGE_SECTORS;
        req.n_segs = (uint16_t)f->load.pages_each;
        s->generation = f->generation[s->block] += s->write;
        if (s->write && f->load.verify)
            stamp(f, s);
        req.indirect = f->load.pages_each > FH_BLKIF_MAX_DIRECT;
        req.n_pages = req.indirect;
        req.pages[0] = f->desc_refs[i];
        fill_segs(f, s, req.indirect
                            ? (void *)(f->desc + (size_t)i * FH_PAGE_BYTES)
                            : req.segs);
    }
    fh_blkif_encode(FH_BLKIF_NATIVE, &req, wire);
    fh_fring_put(&f->fring, wire, f->fring.slot_bytes);
}

static void
done(struct front *f, uint64_t id, int16_t status)
{
    struct slot *s = &f->slot[id & (MAX_DEPTH - 1)];

    if (id >= MAX_DEPTH || !s->busy)
        rig_die("an answer to nothing");
    s->busy = false;
    f->n_busy--;
    f->res.n++;
    f->res.errors += status != FH_BLKIF_OKAY;
    if (s->flush)
        return;
    f->in_flight[s->block] = 0;
    if (f->load.verify && !s->write && !stamped(f, s))
        f->res.mismatches++;
}

static bool
goes_on(const struct front *f)
{
    return f->load.n_requests ? f->n_put < f->load.n_requests
                              : f->last_ns - f->started_ns < f->load.run_ns;
}

static uint32_t
take(struct front *f)
{
    uint32_t n = 0;

    if (fh_fring_pending(&f->fring, &n))
        rig_die("impossible response index");
    for (uint32_t i = 0; i < n; i++) {
        uint8_t buf[FH_BLKIF_MAX_RESPONSE_BYTES];
        uint64_t id;
        uint8_t op;
        int16_t status;

        fh_fring_take(&f->fring, buf, sizeof(buf));
        fh_blkif_decode_response(FH_BLKIF_NATIVE, buf, &id, &op, &status);
        done(f, id, status);
        if (goes_on(f))
            put(f, (uint32_t)id);
    }
    return n;
}

static void
publish(struct front *f)
{
    struct fh_plat *p = &f->x.plat;

    if (f->fring.req_prod == f->fring.req_published ||
        !fh_fring_publish(&f->fring))
        return;
    p->ops->ev_notify(p, f->ring.port);
    f->res.notifies++;
}

static void
wait_answer(struct front *f)
{
    struct fh_plat *p = &f->x.plat;
    uint64_t now = p->ops->now_ns(p);
    const uint64_t since = now;
    uint64_t limit = fh_poller_plan(&f->poller, now, fh_plat_cpu_wanted(p));
    uint32_t port, n;

    while (limit && now - since < limit) {
        for (uint32_t i = 0; i < 16; i++) {
            if (fh_fring_pending(&f->fring, &n) || n) {
                fh_poller_found(&f->poller, now - since);
                return;
            }
            fh_cpu_relax();
        }
        now = p->ops->now_ns(p);
    }
    if (limit)
        fh_poller_missed(&f->poller, now - since);
    if (fh_fring_arm(&f->fring, 1))
        return;
    f->res.sleeps++;
    p->ops->wait(p, 5000000000ull);
    while (p->ops->ev_next(p, &port) == 0)
        p->ops->ev_unmask(p, port);
    fh_poller_slept(&f->poller, p->ops->now_ns(p) - since);
}

static void
note_progress(struct front *f)
{
    struct fh_plat *p = &f->x.plat;
    const uint64_t now = p->ops->now_ns(p);

    if (now - f->last_ns > f->res.longest_gap_ns)
        f->res.longest_gap_ns = now - f->last_ns;
    f->last_ns = now;
}

static void
begin_load(struct front *f, const struct rig_load *load)
{
    const uint32_t n = RIG_SECTORS / PAGE_SECTORS / load->pages_each;
    struct fh_plat *p = &f->x.plat;

    f->load = *load;
    memset(&f->res, 0, sizeof(f->res));
    f->n_blocks = load->n_blocks && load->n_blocks < n ? load->n_blocks : n;
    f->n_put = 0;
    f->started_ns = f->last_ns = p->ops->now_ns(p);
    fh_poller_init(&f->poller, load->spin_ns, 256, f->started_ns);
    if (load->depth * load->pages_each > f->ring.n_pages ||
        load->depth > fh_fring_room(&f->fring))
        rig_die("the load does not fit the ring");
    for (uint32_t i = 0; i < load->depth; i++)
        f->slot[i].first_page = i * load->pages_each;
}

static void
run_load(struct front *f, const struct rig_load *load)
{
    uint32_t n = 0;

    begin_load(f, load);
    for (uint32_t i = 0; i < load->depth && goes_on(f); i++)
        put(f, i);
    publish(f);
    while (f->n_busy) {
        if (take(f)) {
            publish(f);
            if (++n % 16 == 0 || load->verify)
                note_progress(f);
        } else {
            wait_answer(f);
            if (f->x.plat.ops->now_ns(&f->x.plat) - f->last_ns > 30000000000ull)
                rig_die("no answer for 30 s; %u in flight", f->n_busy);
        }
    }
    note_progress(f);
    f->res.ns = f->last_ns - f->started_ns;
}

/* An index that no honest frontend writes, and events to go with it. */
static void
break_ring(struct front *f)
{
    struct fh_plat *p = &f->x.plat;

    fh_store_release32(&f->fring.shared->req_prod, f->fring.req_prod + 5000);
    for (int i = 0; i < 100; i++)
        p->ops->ev_notify(p, f->ring.port);
}

void
rig_front_main(int sock)
{
    struct front *f = calloc(1, sizeof(*f));
    struct front_msg m;

    f->sock = sock;
    f->seed = (uint64_t)getpid();
    f->generation = calloc(RIG_SECTORS / PAGE_SECTORS, sizeof(uint32_t));
    f->in_flight = calloc(RIG_SECTORS / PAGE_SECTORS, 1);
    if (fh_xenplat_open(&f->x, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS))
        rig_die("no platform");
    while (recv(sock, &m, sizeof(m), 0) == (ssize_t)sizeof(m)) {
        switch ((enum front_op)m.op) {
        case FRONT_SETUP:
            setup(f, &m.u.ring);
            break;
        case FRONT_LOAD:
            run_load(f, &m.u.load);
            m.u.result = f->res;
            break;
        case FRONT_BREAK:
            break_ring(f);
            break;
        case FRONT_TEARDOWN:
            teardown(f);
            break;
        }
        if (send(sock, &m, sizeof(m), MSG_NOSIGNAL) < 0)
            break;
    }
    fh_xenplat_close(&f->x);
    free(f->generation);
    free(f->in_flight);
    free(f->refs);
    free(f);
    exit(0);
}
