/* SPDX-License-Identifier: MIT */
/* See world.h. */
#include "world.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <freehold/blkif.h>
#include "base/arith.h"
#include "../expect.h"

/* ---- platform ---- */

static struct world *
world_of(struct fh_plat *p)
{
    return (struct world *)p;
}

static uint64_t
w_now(struct fh_plat *p)
{
    return world_of(p)->now_ns += 1000;
}

static void
note_mapping(struct world *w, void *addr, uint32_t n)
{
    uint32_t i = 0;

    while (i < W_MAX_MAPPINGS && w->mapping[i].addr)
        i++;
    EXPECT(i < W_MAX_MAPPINGS);
    w->mapping[i].addr = addr;
    w->mapping[i].n = n;
    w->n_maps += n;
}

static void
drop_mapping(struct world *w, void *addr, uint32_t n)
{
    uint32_t i = 0;

    while (i < W_MAX_MAPPINGS && w->mapping[i].addr != addr)
        i++;
    EXPECT(i < W_MAX_MAPPINGS && w->mapping[i].n == n, "unmaps what it mapped");
    EXPECT_EQ(munmap(addr, n * 4096), 0);
    w->mapping[i].addr = NULL;
    w->n_maps -= n;
}

static int
w_gnt_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs, uint32_t n,
          int prot, void **addr)
{
    struct world *w = world_of(p);
    const bool write = prot == FH_PLAT_PROT_RW;
    uint8_t *at;

    EXPECT_EQ(domid, W_DOMID);
    w->n_map_calls++;
    for (uint32_t i = 0; i < n; i++)
        if (refs[i] >= W_PAGES || !w->granted[refs[i]] ||
            (write && w->granted[refs[i]] == W_READ_ONLY))
            return FH_PLAT_E_REFUSED;
    at = mmap(NULL, n * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(at != MAP_FAILED);
    for (uint32_t i = 0; i < n; i++)
        EXPECT(mmap(at + i * 4096, 4096,
                    write ? PROT_READ | PROT_WRITE : PROT_READ,
                    MAP_SHARED | MAP_FIXED, w->memfd,
                    (off_t)refs[i] * 4096) != MAP_FAILED);
    note_mapping(w, at, n);
    *addr = at;
    return 0;
}

static int
w_gnt_unmap(struct fh_plat *p, void *addr, uint32_t n)
{
    drop_mapping(world_of(p), addr, n);
    return 0;
}

static int16_t
copy_piece(struct world *w, const struct fh_plat_copy *c)
{
    uint8_t *page;

    EXPECT(c->offset + c->bytes <= 4096);
    if (c->domid != W_DOMID || c->gref >= W_PAGES || !w->granted[c->gref] ||
        (c->to_grant && w->granted[c->gref] == W_READ_ONLY))
        return -3;
    page = w_page(w, c->gref) + c->offset;
    if (c->to_grant)
        memcpy(page, c->local, c->bytes);
    else
        memcpy(c->local, page, c->bytes);
    return 0;
}

static int
w_gnt_copy(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n)
{
    struct world *w = world_of(p);

    w->n_copy_calls++;
    if (w->copy_fails)
        return FH_ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        pieces[i].status = copy_piece(w, &pieces[i]);
    return 0;
}

static int
w_ev_bind(struct fh_plat *p, uint16_t domid, uint32_t remote, uint32_t *port)
{
    struct world *w = world_of(p);

    (void)domid;
    w->n_bound++;
    w->event_pending = true;
    *port = remote + 100;
    return 0;
}

static int
w_ev_unbind(struct fh_plat *p, uint32_t port)
{
    (void)port;
    world_of(p)->n_bound--;
    return 0;
}

static int
w_ev_notify(struct fh_plat *p, uint32_t port)
{
    (void)port;
    world_of(p)->n_notifies++;
    return 0;
}

static int
w_ev_next(struct fh_plat *p, uint32_t *port)
{
    struct world *w = world_of(p);

    if (!w->event_pending)
        return FH_PLAT_E_NONE;
    w->event_pending = false;
    *port = w->queue.port;
    return 0;
}

static int
w_ev_unmask(struct fh_plat *p, uint32_t port)
{
    (void)port;
    world_of(p)->n_unmasks++;
    return 0;
}

static const struct fh_plat_ops plat_ops = {
    .now_ns = w_now,
    .gnt_map = w_gnt_map,
    .gnt_unmap = w_gnt_unmap,
    .gnt_copy = w_gnt_copy,
    .ev_bind = w_ev_bind,
    .ev_unbind = w_ev_unbind,
    .ev_notify = w_ev_notify,
    .ev_next = w_ev_next,
    .ev_unmask = w_ev_unmask,
};

/* ---- mock store ---- */

static bool
ios_overlap(const struct fh_store_io *a, const struct fh_store_io *b)
{
    return a->op == FH_STORE_WRITE && b->op == FH_STORE_WRITE &&
           a->offset < b->offset + b->vec[0].bytes &&
           b->offset < a->offset + a->vec[0].bytes;
}

static int
mock_submit(struct fh_store *s, struct fh_store_io *io)
{
    struct w_mock *m = (struct w_mock *)s;

    if (m->n >= m->n_room)
        return FH_EAGAIN;
    for (uint32_t i = 0; i < m->n; i++)
        m->n_overlaps += ios_overlap(m->io[i], io);
    io->priv[0] = 0; /* 1: finish it */
    m->io[m->n++] = io;
    m->n_flushes += io->op == FH_STORE_FLUSH;
    m->n_writes += io->op == FH_STORE_WRITE;
    return 0;
}

static int
mock_kick(struct fh_store *s)
{
    (void)s;
    return 0;
}

static void
mock_transfer(struct w_mock *m, struct fh_store_io *io)
{
    EXPECT(io->op == FH_STORE_FLUSH || io->n_vecs == 1);
    if (io->op == FH_STORE_WRITE)
        memcpy(m->mem + io->offset, io->vec[0].base, io->vec[0].bytes);
    if (io->op == FH_STORE_READ)
        memcpy(io->vec[0].base, m->mem + io->offset, io->vec[0].bytes);
}

static uint32_t
mock_reap(struct fh_store *s)
{
    struct w_mock *m = (struct w_mock *)s;
    uint32_t n = 0;

    for (uint32_t i = 0; i < m->n;) {
        struct fh_store_io *io = m->io[i];

        if (!io->priv[0]) {
            i++;
            continue;
        }
        m->n--;
        memmove(&m->io[i], &m->io[i + 1], (m->n - i) * sizeof(m->io[0]));
        io->result = m->result;
        if (!m->result)
            mock_transfer(m, io);
        io->done(io);
        n++;
    }
    m->n_done += n;
    return n;
}

static void
mock_close(struct fh_store *s)
{
    (void)s;
}

static const struct fh_store_ops mock_ops = {
    .submit = mock_submit,
    .kick = mock_kick,
    .reap = mock_reap,
    .close = mock_close,
};

void
w_mock_finish(struct world *w, uint32_t i)
{
    EXPECT(i < w->mock.n);
    w->mock.io[i]->priv[0] = 1;
}

void
w_mock_finish_all(struct world *w)
{
    while (w->mock.n) {
        w_mock_finish(w, w_random(w, w->mock.n));
        w_run(w);
    }
}

/* ---- world ---- */

static void
new_stores(struct world *w, const struct w_setup *s)
{
    w->disk_mem = calloc(W_SECTORS, 512);
    fh_store_mem_open(&w->mem, w->disk_mem, W_SECTORS, s->read_only);
    w->mock.store.ops = &mock_ops;
    w->mock.store.info = w->mem.store.info;
    w->mock.store.info.synchronous = false;
    w->mock.mem = w->disk_mem;
    w->mock.n_room = W_MOCK_IOS;
    w->store = s->mock ? &w->mock.store : &w->mem.store;
}

static void
new_ring(struct world *w, const struct w_setup *s)
{
    for (uint32_t i = 0; i < 16; i++)
        w->ring_refs[i] = W_RING + i;
    w->params = (struct fh_queue_params){
        .domid = W_DOMID,
        .abi = s->abi,
        .order = s->order,
        .ring_refs = w->ring_refs,
        .port = 3,
        .grants = s->grants,
        .max_indirect = s->max_indirect,
        .pgrant_idle_ns = 1000000000,
    };
    fh_fring_init(&w->fring, (void *)w_page(w, W_RING),
                  fh_blkif_ring_slots(s->abi, s->order),
                  fh_blkif_slot_bytes(s->abi));
}

struct world *
w_new(const struct w_setup *s)
{
    struct world *w = calloc(1, sizeof(*w));

    w->plat.ops = &plat_ops;
    w->seed = 1;
    w->memfd = memfd_create("frontend", MFD_CLOEXEC);
    EXPECT_EQ(ftruncate(w->memfd, W_PAGES * 4096), 0);
    w->pages = mmap(NULL, W_PAGES * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
                    w->memfd, 0);
    memset(w->granted, W_READ_WRITE, sizeof(w->granted));
    new_stores(w, s);
    w->rec = mmap(NULL, sizeof(*w->rec), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fh_rec_format(w->rec, W_SECTORS, W_DOMID, 0, 1);
    w->pool_mem = mmap(NULL, W_POOL_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    new_ring(w, s);
    EXPECT_EQ(w_connect(w, false), 0);
    return w;
}

int
w_connect(struct world *w, bool resume)
{
    const struct fh_disk_params dp = {
        .store = w->store,
        .rec = w->rec,
        .log = &w->worker.log,
        .buffers = w->pool_mem,
        .buffer_bytes = W_POOL_BYTES,
        .buffer_index = -1,
    };
    const struct fh_rec_log log = w->worker.log; /* with the test's hook */
    int r;

    fh_worker_init(&w->worker, &w->plat);
    w->worker.log = log;
    EXPECT_EQ(fh_disk_init(&w->disk, &dp), 0);
    EXPECT_EQ(fh_worker_add_disk(&w->worker, &w->disk), 0);
    w->params.resume = resume;
    free(w->queue_mem);
    w->queue_mem = calloc(1, fh_queue_bytes(&w->params));
    r = fh_queue_connect(&w->queue, w->queue_mem, &w->worker.back, &w->disk,
                         &w->params);
    w->connected = !r;
    if (!r)
        EXPECT_EQ(fh_worker_add_queue(&w->worker, &w->queue), 0);
    return r;
}

static void
forget(struct world *w)
{
    free(w->queue_mem);
    w->queue_mem = NULL;
    w->connected = false;
}

void
w_kill(struct world *w)
{
    for (uint32_t i = 0; i < W_MAX_MAPPINGS; i++)
        if (w->mapping[i].addr)
            drop_mapping(w, w->mapping[i].addr, w->mapping[i].n);
    for (uint32_t i = 0; i < w->mock.n; i++)
        if (w_random(w, 2))
            mock_transfer(&w->mock, w->mock.io[i]);
    w->mock.n = 0;
    w->n_bound = 0;
    forget(w);
}

void
w_free(struct world *w)
{
    if (w->connected) {
        fh_queue_stop(&w->queue);
        w_run(w);
        EXPECT(fh_queue_idle(&w->queue));
        EXPECT_EQ(fh_queue_disconnect(&w->queue), 0);
    }
    forget(w);
    EXPECT_EQ(w->n_maps, 0, "pages left mapped");
    EXPECT_EQ(w->n_bound, 0);
    EXPECT_EQ(w->disk.pool.n_used, 0);
    munmap(w->rec, sizeof(*w->rec));
    munmap(w->pool_mem, W_POOL_BYTES);
    munmap(w->pages, W_PAGES * 4096);
    close(w->memfd);
    free(w->disk_mem);
    free(w);
}

/* ---- frontend ---- */

void
w_put(struct world *w, const struct fh_blkif_req *req)
{
    uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES];

    fh_blkif_encode(w->params.abi, req, slot);
    fh_fring_put(&w->fring, slot, w->fring.slot_bytes);
}

struct fh_blkif_req
w_rw(enum fh_blkif_op op, uint64_t id, uint64_t sector, uint32_t page,
     uint32_t n)
{
    struct fh_blkif_req req = {
        .op = op, .id = id, .sector = sector, .n_segs = (uint16_t)n
    };

    for (uint32_t i = 0; i < n; i++)
        req.segs[i] = (struct fh_blkif_seg){ .gref = W_DATA + page + i,
                                             .last = 7 };
    return req;
}

struct fh_blkif_req
w_indirect(struct world *w, enum fh_blkif_op op, uint64_t id, uint64_t sector,
           uint32_t page, uint32_t n, uint32_t desc)
{
    struct fh_blkif_req req = {
        .op = op, .id = id, .sector = sector, .n_segs = (uint16_t)n,
        .indirect = true, .n_pages = 1, .pages = { desc },
    };
    struct fh_blkif_seg *segs = (void *)w_page(w, desc);

    for (uint32_t i = 0; i < n; i++)
        segs[i] = (struct fh_blkif_seg){ .gref = W_DATA + page + i,
                                         .last = 7 };
    return req;
}

void
w_publish(struct world *w)
{
    (void)fh_fring_publish(&w->fring);
}

uint32_t
w_take_answers(struct world *w)
{
    uint32_t n = 0;

    EXPECT_EQ(fh_fring_pending(&w->fring, &n), 0);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t buf[FH_BLKIF_MAX_RESPONSE_BYTES];
        uint64_t id;
        uint8_t op;
        int16_t status;

        fh_fring_take(&w->fring, buf, fh_blkif_response_bytes(w->params.abi));
        fh_blkif_decode_response(w->params.abi, buf, &id, &op, &status);
        EXPECT(id < W_MAX_IDS, "id %llu", (unsigned long long)id);
        w->answer[id].n++;
        w->answer[id].status = status;
        w->answer[id].op = op;
        w->n_answers++;
    }
    return n;
}

void
w_run(struct world *w)
{
    uint32_t turns = 0;

    while (fh_worker_turn(&w->worker))
        EXPECT(++turns < 10000, "the loop does not come to rest");
    (void)w_take_answers(w);
}

uint32_t
w_random(struct world *w, uint32_t below)
{
    w->seed = w->seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(w->seed >> 33) % below;
}
