/* SPDX-License-Identifier: MIT */
/* See world.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/arith.h"
#include "world.h"

static struct world *
of(struct fh_plat *p)
{
    return (struct world *)p;
}

/* True: this call is the one that fails. */
static bool
fails(struct world *w)
{
    return ++w->calls == w->fail_at;
}

/* The store. */

static struct world_node *
find_node(struct world *w, const char *path)
{
    for (int i = 0; i < WORLD_NODES; i++) {
        if (w->nodes[i].used && !strcmp(w->nodes[i].path, path))
            return &w->nodes[i];
    }
    return NULL;
}

static void
fire(struct world *w, const char *path)
{
    if (w->watch_path[0] && !strcmp(path, w->watch_path))
        w->n_fired++;
}

static void
put_node(struct world *w, const char *path, const char *value)
{
    struct world_node *n = find_node(w, path);

    for (int i = 0; !n && i < WORLD_NODES; i++) {
        if (!w->nodes[i].used)
            n = &w->nodes[i];
    }
    if (!n)
        abort();
    n->used = true;
    snprintf(n->path, sizeof(n->path), "%s", path);
    snprintf(n->value, sizeof(n->value), "%s", value);
    fire(w, path);
}

void
world_set(struct world *w, const char *dir, const char *key, const char *value)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/%s", dir, key);
    put_node(w, path, value);
}

const char *
world_get(struct world *w, const char *dir, const char *key)
{
    char path[128];
    struct world_node *n;

    snprintf(path, sizeof(path), "%s/%s", dir, key);
    n = find_node(w, path);
    return n ? n->value : NULL;
}

void
world_unset(struct world *w, const char *dir, const char *key)
{
    char path[128];
    struct world_node *n;

    snprintf(path, sizeof(path), "%s/%s", dir, key);
    n = find_node(w, path);
    if (n)
        n->used = false;
    fire(w, path);
}

static int
xs_begin(struct fh_plat *p, uint32_t *txn)
{
    struct world *w = of(p);

    if (fails(w))
        return FH_EIO;
    *txn = 1;
    memcpy(w->before, w->nodes, sizeof(w->nodes));
    memcpy(w->states_before, w->states, sizeof(w->states));
    return 0;
}

static int
xs_end(struct fh_plat *p, uint32_t txn, bool abort)
{
    struct world *w = of(p);

    const bool failed = fails(w);
    const bool met = !failed && !abort && w->conflicts;

    if (failed || abort || met) {
        memcpy(w->nodes, w->before, sizeof(w->nodes));
        memcpy(w->states, w->states_before, sizeof(w->states));
    }
    if (failed)
        return FH_EIO;
    w->conflicts -= met;
    return met ? FH_PLAT_E_CONFLICT : 0;
}

static int
xs_read(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
        size_t size, size_t *len)
{
    struct world *w = of(p);
    struct world_node *n = find_node(w, path);

    if (fails(w))
        return FH_EIO;
    if (!n)
        return FH_PLAT_E_NONE;
    *len = strlen(n->value);
    memcpy(buf, n->value, *len + 1);
    return 0;
}

static int
xs_write(struct fh_plat *p, uint32_t txn, const char *path, const char *value)
{
    struct world *w = of(p);

    if (fails(w))
        return FH_EIO;
    put_node(w, path, value);
    if (!strcmp(path, FRONT "/state"))
        strncat(w->states, value, sizeof(w->states) - strlen(w->states) - 1);
    return 0;
}

static int
xs_rm(struct fh_plat *p, uint32_t txn, const char *path)
{
    struct world *w = of(p);
    struct world_node *n = find_node(w, path);

    if (fails(w))
        return FH_EIO;
    if (!n)
        return FH_PLAT_E_NONE;
    n->used = false;
    return 0;
}

static int
xs_watch(struct fh_plat *p, const char *path, const char *token)
{
    struct world *w = of(p);

    if (fails(w))
        return FH_EIO;
    snprintf(w->watch_path, sizeof(w->watch_path), "%s", path);
    snprintf(w->watch_token, sizeof(w->watch_token), "%s", token);
    w->n_fired = 1;
    return 0;
}

static int
xs_unwatch(struct fh_plat *p, const char *path, const char *token)
{
    of(p)->watch_path[0] = '\0';
    of(p)->n_fired = 0;
    return 0;
}

static int
xs_next(struct fh_plat *p, char *path, char *token)
{
    struct world *w = of(p);

    if (!w->n_fired)
        return FH_PLAT_E_NONE;
    w->n_fired--;
    strcpy(path, w->watch_path);
    strcpy(token, w->watch_token);
    return 0;
}

/* Grants and events. */

static int
gnt_share(struct fh_plat *p, uint16_t domid, uint32_t n, bool writable,
          uint32_t *refs, void **addr)
{
    struct world *w = of(p);
    int slot = 0;

    if (fails(w))
        return FH_ENOSPC;
    while (w->shares[slot])
        slot++;
    w->shares[slot] = aligned_alloc(FH_PAGE_BYTES, (size_t)n * FH_PAGE_BYTES);
    memset(w->shares[slot], 0, (size_t)n * FH_PAGE_BYTES);
    w->share_pages[slot] = n;
    w->n_shared += n;
    for (uint32_t i = 0; i < n; i++) {
        refs[i] = w->next_ref++;
        w->ref_page[refs[i]] =
            (uint8_t *)w->shares[slot] + (size_t)i * FH_PAGE_BYTES;
    }
    *addr = w->shares[slot];
    return 0;
}

static int
gnt_unshare(struct fh_plat *p, void *addr, uint32_t n)
{
    struct world *w = of(p);

    for (int i = 0; i < WORLD_SHARES; i++) {
        if (w->shares[i] != addr)
            continue;
        if (w->share_pages[i] != n)
            abort();
        for (uint32_t ref = 0; ref < WORLD_REFS; ref++) {
            uint8_t *page = w->ref_page[ref];

            if (page && page >= (uint8_t *)addr &&
                page < (uint8_t *)addr + (size_t)n * FH_PAGE_BYTES)
                w->ref_page[ref] = NULL;
        }
        if (w->ring.shared == addr)
            w->connected = false; /* a real backend would keep its mapping */
        free(addr);
        w->shares[i] = NULL;
        w->n_shared -= n;
        return 0;
    }
    abort();
}

static int
ev_alloc(struct fh_plat *p, uint16_t domid, uint32_t *port)
{
    struct world *w = of(p);

    if (fails(w))
        return FH_ENOSPC;
    w->bound = true;
    *port = WORLD_PORT;
    return 0;
}

static int
ev_unbind(struct fh_plat *p, uint32_t port)
{
    of(p)->bound = false;
    of(p)->pending = false;
    of(p)->masked = false;
    return 0;
}

static int
ev_notify(struct fh_plat *p, uint32_t port)
{
    of(p)->n_notified++;
    return fails(of(p)) ? FH_EIO : 0;
}

static int
ev_next(struct fh_plat *p, uint32_t *port)
{
    struct world *w = of(p);

    if (!w->bound || !w->pending || w->masked)
        return FH_PLAT_E_NONE;
    w->pending = false;
    w->masked = true;
    *port = WORLD_PORT;
    return 0;
}

static int
ev_unmask(struct fh_plat *p, uint32_t port)
{
    of(p)->masked = false;
    of(p)->n_unmasked++;
    return 0;
}

static uint64_t
now_ns(struct fh_plat *p)
{
    return of(p)->now += 100;
}

/* Lets the backend work; time stands still only when nothing is to come. */
static int
wait_for(struct fh_plat *p, uint64_t timeout_ns)
{
    struct world *w = of(p);

    w->n_waits++;
    if (fails(w))
        return FH_EIO;
    w->now += timeout_ns < 20000 ? timeout_ns : 20000;
    world_serve(w);
    if (w->storm)
        w->pending = true;
    if (!w->n_fired && (!w->pending || w->masked) && timeout_ns != UINT64_MAX)
        w->now += timeout_ns;
    return 0;
}

static const struct fh_plat_ops ops = {
    .now_ns = now_ns,
    .wait = wait_for,
    .gnt_share = gnt_share,
    .gnt_unshare = gnt_unshare,
    .ev_alloc = ev_alloc,
    .ev_unbind = ev_unbind,
    .ev_notify = ev_notify,
    .ev_next = ev_next,
    .ev_unmask = ev_unmask,
    .xs_begin = xs_begin,
    .xs_end = xs_end,
    .xs_read = xs_read,
    .xs_write = xs_write,
    .xs_rm = xs_rm,
    .xs_watch = xs_watch,
    .xs_unwatch = xs_unwatch,
    .xs_next = xs_next,
};

void
world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->plat.ops = &ops;
    w->next_ref = 8;
    w->limits = (struct fh_blkif_limits){
        .n_sectors = WORLD_SECTORS,
        .max_indirect = 256,
        .flush = true,
        .barrier = true,
        .discard = true,
    };
    for (uint32_t s = 0; s < WORLD_SECTORS; s++)
        memset(w->disk[s], (int)(s * 7 + 1), sizeof(w->disk[s]));
}

void
world_fini(struct world *w)
{
    for (int i = 0; i < WORLD_SHARES; i++)
        free(w->shares[i]);
}

void
world_offer(struct world *w)
{
    world_set(w, FRONT, "backend", BACK);
    world_set(w, FRONT, "backend-id", "3");
    world_set(w, FRONT, "state", "1");
    world_set(w, BACK, "feature-persistent", "1");
    world_set(w, BACK, "feature-max-indirect-segments", "256");
    world_set(w, BACK, "max-ring-page-order", "4");
    world_set(w, BACK, "state", "2");
    world_set(w, BACK, "feature-flush-cache", "1");
    world_set(w, BACK, "feature-barrier", "1");
    world_set(w, BACK, "feature-discard", "1");
    world_set(w, BACK, "sectors", "4096");
    world_set(w, BACK, "sector-size", "512");
    world_set(w, BACK, "info", "0");
}

/* The backend. */

static void
move_data(struct world *w, const struct fh_blkif_req *req,
          const struct fh_blkif_seg *segs)
{
    uint64_t sector = req->sector;

    for (uint32_t i = 0; i < req->n_segs; i++) {
        uint8_t *page =
            segs[i].gref < WORLD_REFS ? w->ref_page[segs[i].gref] : NULL;

        if (!page)
            abort();
        for (uint32_t s = segs[i].first; s <= segs[i].last; s++) {
            if (req->op == FH_BLKIF_READ)
                memcpy(page + s * 512, w->disk[sector++], 512);
            else
                memcpy(w->disk[sector++], page + s * 512, 512);
        }
    }
}

static int16_t
execute(struct world *w, struct fh_blkif_req *req)
{
    struct fh_blkif_seg table[FH_BLKIF_MAX_SEGMENTS];
    const struct fh_blkif_seg *segs = req->segs;

    w->n_flushes += req->op == FH_BLKIF_FLUSH;
    w->n_discards += req->op == FH_BLKIF_DISCARD;
    if (req->op == FH_BLKIF_FLUSH || req->op == FH_BLKIF_DISCARD)
        return FH_BLKIF_OKAY;
    if (req->indirect) {
        w->n_indirect++;
        memcpy(table, w->ref_page[req->pages[0]],
               req->n_segs * sizeof(table[0]));
        segs = table;
        if (fh_blkif_decode_segs(&w->limits, table, req))
            return FH_BLKIF_ERROR;
    }
    move_data(w, req, segs);
    return FH_BLKIF_OKAY;
}

static void
put_raw(struct world *w, uint64_t id, uint8_t op, int16_t status)
{
    uint8_t wire[16];

    fh_blkif_encode_response(w->abi, id, op, status, wire);
    fh_bring_put(&w->ring, wire, fh_blkif_response_bytes(w->abi));
}

static void
put_twisted(struct world *w, uint64_t id, uint8_t op, int16_t status)
{
    uint8_t old_op;
    int16_t old_status;
    uint64_t old_id;

    switch (w->twist) {
    case TWIST_NONE:
        break;
    case TWIST_UNKNOWN_ID:
        id = 0xdeadbeefcafe;
        break;
    case TWIST_ID_BEYOND:
        id += 1ull << 32;
        break;
    case TWIST_TWICE: /* and its neighbour never */
        put_raw(w, id, op, status);
        w->skip = true;
        break;
    case TWIST_LATE:
        fh_blkif_decode_response(w->abi, w->last_rsp, &old_id, &old_op,
                                 &old_status);
        id = old_id;
        op = old_op;
        break;
    case TWIST_WRONG_OP:
        op ^= 1;
        break;
    case TWIST_INDIRECT_OP:
        op = 6;
        break;
    case TWIST_INDEX_AHEAD:
        w->ring.rsp_prod += 40;
        break;
    case TWIST_INDEX_BACK:
        w->ring.rsp_prod -= 5;
        break;
    case TWIST_STATUS_ODD:
        status = 77;
        break;
    case TWIST_STATUS_ERROR:
        status = FH_BLKIF_ERROR;
        break;
    case TWIST_STATUS_NOTSUPP:
        status = FH_BLKIF_NOTSUPP;
        break;
    case TWIST_SILENT:
        return;
    }
    put_raw(w, id, op, status);
}

static void
answer(struct world *w, const uint8_t *slot)
{
    struct fh_blkif_req req;
    uint8_t op;
    uint64_t id;
    int16_t status = FH_BLKIF_ERROR;
    int r = fh_blkif_decode(w->abi, slot, &w->limits, &req);

    fh_blkif_decode_head(w->abi, slot, &id, &op);
    if (!r)
        status = execute(w, &req);
    if (++w->n_responses == w->twist_at || w->twist == TWIST_SILENT)
        put_twisted(w, id, op, status);
    else if (w->skip)
        w->skip = false;
    else
        put_raw(w, id, op, status);
    fh_blkif_encode_response(w->abi, id, op, status, w->last_rsp);
}

static void
serve_ring(struct world *w)
{
    static uint8_t slots[512][FH_BLKIF_MAX_SLOT_BYTES];
    uint32_t n = 0;

    if (fh_bring_pending(&w->ring, &n)) {
        if (w->twist == TWIST_NONE)
            abort();
        return; /* it lied about its own index and cannot go on */
    }
    if (n > w->max_batch)
        w->max_batch = n;
    for (uint32_t i = 0; i < n; i++)
        fh_bring_take(&w->ring, slots[i]);
    for (uint32_t i = 0; i < n; i++)
        answer(w, slots[w->reverse ? n - 1 - i : i]);
    if (fh_bring_publish(&w->ring))
        w->pending = true;
    (void)fh_bring_arm(&w->ring);
}

static void
connect_ring(struct world *w)
{
    const char *one = world_get(w, FRONT, "ring-ref");
    const char *first = world_get(w, FRONT, "ring-ref0");
    const char *order = world_get(w, FRONT, "ring-page-order");
    uint32_t n_order = order ? (uint32_t)atoi(order) : 0;
    uint32_t ref = (uint32_t)atoi(one ? one : first);

    if (fh_blkif_abi_parse(world_get(w, FRONT, "protocol"), &w->abi))
        abort();
    fh_bring_init(&w->ring, (FH_SHARED struct fh_ring_shared *)w->ref_page[ref],
                  fh_blkif_ring_slots(w->abi, n_order),
                  fh_blkif_slot_bytes(w->abi), 0, 0);
    w->connected = true;
}

static void
serve_states(struct world *w)
{
    const int front = atoi(world_get(w, FRONT, "state"));
    const char *text = world_get(w, BACK, "state");
    const int back = text ? atoi(text) : 0;

    if (back == 2 && (front == 3 || front == 4)) {
        connect_ring(w);
        world_set(w, BACK, "state", "4");
    } else if (back == 4 && (front == 5 || front == 6)) {
        w->connected = false;
        world_set(w, BACK, "state", front == 5 ? "5" : "6");
    } else if (back == 5 && front == 6) {
        w->connected = false;
        world_set(w, BACK, "state", "6");
    } else if (back == 6 && front == 1) {
        world_set(w, BACK, "state", "2");
    }
}

void
world_serve(struct world *w)
{
    if (!w->deaf)
        serve_states(w);
    if (w->connected && !w->hold)
        serve_ring(w);
}
