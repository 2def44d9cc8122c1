/* SPDX-License-Identifier: MIT */
/* See front.h. */
#include "front.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, PAGE = 4096, RETRY_NS = 500000 };

/* ---- requests ---- */

static void
req_free(struct sim_guest *g, struct sim_req *q)
{
    if (q->n_pages && g->bf)
        fh_blkfront_free(g->bf, q->mem, q->n_pages);
    else if (!q->n_pages)
        free(q->mem);
    free(q->since);
    *q = (struct sim_req){ .used = false };
    g->n_flying--;
}

/* Whether an error is nobody's fault: injected, or the connection is gone. */
static bool
error_is_fine(const struct sim_guest *g)
{
    return g->p.errors;
}

static void
req_answered(struct sim_guest *g, struct sim_req *q, int status)
{
    const bool ok = status == 0;

    sim_trace(g->s, 3000 + q->op, q->sector, (uint64_t)status);
    SIM_CHECK(g->s, ok || error_is_fine(g),
              "%s: request of sector %u, op %d, failed with %d", g->party->name,
              q->sector, q->op, status);
    g->n_failed += !ok;
    g->n_answered++;
    switch (q->op) {
    case FH_BLKIF_READ:
        g->n_read_sectors += q->n;
        if (ok) {
            sim_oracle_seen(&g->oracle, q->sector, q->n, q->buf, q->since);
            q->since = NULL;
        }
        break;
    case FH_BLKIF_WRITE:
        /* Where the ring is gone nobody knows when the write ends. */
        if (ok || fh_blkfront_state(g->bf) == FH_BLKFRONT_CONNECTED)
            sim_oracle_written(&g->oracle, q->number, ok);
        break;
    case FH_BLKIF_FLUSH:
        sim_oracle_flushed(&g->oracle, q->since, ok);
        q->since = NULL;
        break;
    case FH_BLKIF_BARRIER:
    case FH_BLKIF_DISCARD:
        break;
    }
    req_free(g, q);
}

static void
pick_what(struct sim_guest *g, struct sim_req *q)
{
    const struct fh_blkfront_info *info = fh_blkfront_info(g->bf);
    const uint32_t total = g->oracle.n_sectors;
    const uint32_t what = sim_random(g->s, 16);
    uint32_t most = sim_random(g->s, 4) ? 16 : 120;

    q->op = what < 7    ? FH_BLKIF_WRITE
            : what < 14 ? FH_BLKIF_READ
                        : FH_BLKIF_FLUSH;
    if (q->op == FH_BLKIF_FLUSH)
        return;
    if (sim_random(g->s, 32) == 0)
        most = 1024;
    most = most < info->max_sectors ? most : info->max_sectors;
    q->n = 1 + sim_random(g->s, most);
    /* Most go to a small part: they overlap. */
    q->sector = sim_random(g->s, sim_random(g->s, 4) ? total / 16 : total);
    if (q->n > total - q->sector)
        q->n = total - q->sector;
}

/* Memory of the pool, at any sector of its first page, or own memory. */
static bool
pick_memory(struct sim_guest *g, struct sim_req *q)
{
    const struct fh_blkfront_info *info = fh_blkfront_info(g->bf);
    const uint32_t bytes = q->n * SECTOR;
    uint32_t offset = sim_random(g->s, 2) ? 0 : sim_random(g->s, 8) * SECTOR;

    if (q->op == FH_BLKIF_FLUSH)
        return true;
    if (sim_random(g->s, 3)) {
        if ((offset + bytes + PAGE - 1) / PAGE > info->max_segments)
            offset = 0;
        q->n_pages = (offset + bytes + PAGE - 1) / PAGE;
        q->mem = fh_blkfront_alloc(g->bf, q->n_pages);
        q->buf = (uint8_t *)q->mem + offset;
        return q->mem;
    }
    offset = sim_random(g->s, 32) * 8;
    q->mem = malloc(bytes + offset);
    q->buf = (uint8_t *)q->mem + offset;
    return q->mem;
}

static void
note_begin(struct sim_guest *g, struct sim_req *q)
{
    switch (q->op) {
    case FH_BLKIF_READ:
        q->since = sim_oracle_read(&g->oracle, q->sector, q->n);
        return;
    case FH_BLKIF_WRITE:
        q->number = sim_oracle_write(&g->oracle, q->sector, q->n, q->buf);
        return;
    case FH_BLKIF_FLUSH:
        q->since = sim_oracle_flush(&g->oracle);
        return;
    case FH_BLKIF_BARRIER:
    case FH_BLKIF_DISCARD:
        return;
    }
}

/* A write that was never sent has no effect. */
static void
take_back(struct sim_guest *g, struct sim_req *q)
{
    if (q->number)
        sim_oracle_written(&g->oracle, q->number, false);
    req_free(g, q);
}

static bool
submit_one(struct sim_guest *g)
{
    struct sim_req *q = g->req;
    struct fh_blkfront_io io = { .cookie = 0 };
    int r;

    while (q->used)
        q++;
    *q = (struct sim_req){ .used = true };
    g->n_flying++;
    pick_what(g, q);
    if (!pick_memory(g, q)) {
        q->n_pages = 0;
        req_free(g, q);
        return false;
    }
    note_begin(g, q);
    io.op = q->op;
    io.sector = q->sector;
    io.n_sectors = q->n;
    io.data = q->buf;
    io.cookie = (uint64_t)(q - g->req);
    r = fh_blkfront_submit(g->bf, &io);
    SIM_CHECK(g->s, r == 0 || r == FH_BLKFRONT_E_FULL,
              "%s: submit says %d (%u sectors at %u)", g->party->name, r, q->n,
              q->sector);
    if (r)
        take_back(g, q);
    return r == 0;
}

static void
submit(struct sim_guest *g)
{
    uint32_t n = sim_random(g->s, 9);

    if (fh_blkfront_state(g->bf) != FH_BLKFRONT_CONNECTED || g->shut ||
        fh_blkfront_fault(g->bf))
        return;
    while (n-- && g->n_flying < g->p.depth &&
           g->n_answered + g->n_flying < g->p.n_requests)
        if (!submit_one(g))
            break;
    if (sim_random(g->s, 4) || !g->n_flying)
        (void)fh_blkfront_kick(g->bf);
}

static void
poll(struct sim_guest *g)
{
    struct fh_blkfront_done done[16];
    uint32_t n;

    while ((n = fh_blkfront_poll(g->bf, done, 16)))
        for (uint32_t i = 0; i < n; i++) {
            struct sim_req *q = &g->req[done[i].cookie];

            if (done[i].cookie >= SIM_GUEST_REQS || !q->used) {
                sim_fail(g->s, "%s: an answer to no request", g->party->name);
                return;
            }
            req_answered(g, q, done[i].status);
        }
}

/* ---- life ---- */

static void
open_disk(struct sim_guest *g)
{
    char path[64];
    const struct fh_blkfront_params p = {
        .plat = &g->party->plat,
        .frontend = path,
        .abi = g->p.abi,
        .order = g->p.order,
        .max_indirect = g->p.max_indirect,
        .pool_pages = SIM_GUEST_PAGES,
        .n_indirect = 8,
        .persistent = g->p.persistent,
        .poll_max_ns = g->p.poll_max_ns,
        .quirks = g->p.quirks,
    };
    int r;

    snprintf(path, sizeof(path), "/local/domain/%u/device/vbd/51712",
             g->p.domid);
    g->mem = malloc(fh_blkfront_bytes(&p));
    r = fh_blkfront_open(g->mem, &p, &g->bf);
    if (r) {
        free(g->mem);
        g->mem = NULL;
        g->bf = NULL;
        SIM_CHECK(g->s, g->p.faulty, "%s: open says %d", g->party->name, r);
        sim_wake(g->party, RETRY_NS);
        return;
    }
    g->shut = g->connected = false;
    g->dirty = true;
    g->n_until = UINT32_MAX;
    if (g->closes_left) {
        g->closes_left--;
        g->n_until =
            g->n_answered + sim_random(g->s, g->p.n_requests - g->n_answered +
                                                 1);
    }
}

static void
close_disk(struct sim_guest *g)
{
    SIM_CHECK(g->s, !g->n_flying, "%s: closed with %u requests unanswered",
              g->party->name, g->n_flying);
    if (!fh_blkfront_fault(g->bf))
        sim_oracle_settle(&g->oracle);
    fh_blkfront_fini(g->bf);
    free(g->mem);
    g->bf = NULL;
    g->mem = NULL;
    if (g->n_answered >= g->p.n_requests || (g->p.may_lose_disk && !g->shut)) {
        sim_say(g->s, "%s is done", g->party->name);
        g->done = true;
    }
}

static void
note_connected(struct sim_guest *g)
{
    if (g->connected || fh_blkfront_state(g->bf) != FH_BLKFRONT_CONNECTED)
        return;
    g->connected = true;
    g->n_connects++;
    /* The backend has let go of the last ring before it took this one. */
    sim_oracle_settle(&g->oracle);
}

static void
take_news(struct sim_guest *g)
{
    static char path[FH_XS_PATH_MAX + 1], token[FH_XS_PATH_MAX + 1];
    struct fh_plat *p = &g->party->plat;
    uint32_t port;

    while (p->ops->ev_next(p, &port) == 0)
        if (!fh_blkfront_on_event(g->bf, port))
            (void)p->ops->ev_unmask(p, port);
    while (p->ops->xs_next(p, path, token) == 0)
        g->dirty |= fh_blkfront_on_watch(g->bf, token);
}

static void
step(struct sim_guest *g)
{
    enum fh_blkfront_state st = fh_blkfront_state(g->bf);
    int r;

    if (!g->dirty && st < FH_BLKFRONT_DRAINING)
        return;
    r = fh_blkfront_step(g->bf);
    g->dirty = r != 0;
    SIM_CHECK(g->s, !r || r == FH_EAGAIN || g->p.faulty, "%s: step says %d",
              g->party->name, r);
    if (r)
        sim_wake(g->party, RETRY_NS);
    note_connected(g);
}

static bool
wants_to_close(const struct sim_guest *g)
{
    return !g->shut && fh_blkfront_state(g->bf) == FH_BLKFRONT_CONNECTED &&
           (g->n_answered >= g->n_until ||
            g->n_answered >= g->p.n_requests || fh_blkfront_fault(g->bf));
}

static void
guest_run(void *actor)
{
    struct sim_guest *g = actor;
    struct sim *s = g->s;

    if (g->done)
        return;
    if (!g->bf)
        open_disk(g);
    if (!g->bf)
        return;
    take_news(g);
    poll(g); /* first: the last answer lets step() close */
    step(g);
    submit(g);
    if (wants_to_close(g)) {
        (void)fh_blkfront_kick(g->bf);
        fh_blkfront_shut(g->bf);
        g->shut = true;
        step(g);
    }
    if (fh_blkfront_state(g->bf) == FH_BLKFRONT_CLOSED) {
        close_disk(g);
        sim_wake(g->party, sim_random(s, 100000));
        return;
    }
    if (g->n_flying < g->p.depth && sim_random(s, 8) == 0) {
        sim_wake(g->party, sim_random(s, 5000));
        return;
    }
    (void)fh_blkfront_kick(g->bf);
    if (fh_blkfront_arm(g->bf) || sim_has_news(g->party))
        sim_wake(g->party, sim_random(s, 5000));
    else if (g->connected && !g->n_flying && !g->shut)
        sim_wake(g->party, sim_random(s, 50000)); /* thinks */
}

/* ---- death ---- */

static void
forget_process(struct sim_guest *g)
{
    for (uint32_t i = 0; i < SIM_GUEST_REQS; i++)
        if (g->req[i].used) {
            struct sim_req *q = &g->req[i];

            if (!q->n_pages)
                free(q->mem);
            free(q->since);
            *q = (struct sim_req){ .used = false };
        }
    g->n_flying = 0;
    free(g->mem);
    g->mem = NULL;
    g->bf = NULL;
}

static void
new_process(struct sim_guest *g, uint64_t delay_ns);

static void
guest_died(void *actor)
{
    struct sim_guest *g = actor;

    forget_process(g);
    if (!g->done && !g->p.vanishes && g->crashes_left) {
        g->crashes_left--;
        new_process(g, sim_random(g->s, 300000));
    }
}

static void
vanish(struct sim_guest *g)
{
    sim_say(g->s, "%s vanishes", g->party->name);
    g->done = true;
    sim_party_kill(g->party);
    SIM_CHECK(g->s,
              !fh_xs_domain_release(g->s->xs, g->p.domid) &&
                  !fh_xs_domain_remove(g->s->xs, g->p.domid),
              "%s cannot be released", g->party->name);
}

static void
end_comes(void *arg, uint64_t party)
{
    struct sim_guest *g = arg;

    if (!g->party || g->party->number != party || !g->party->alive || g->done)
        return;
    if (g->party->running) { /* in the middle of a call: later */
        sim_after(g->s, 100, end_comes, g, party);
        return;
    }
    if (g->p.vanishes)
        vanish(g);
    else
        sim_party_kill(g->party);
}

static void
make_process(void *arg, uint64_t a)
{
    struct sim_guest *g = arg;

    (void)a;
    g->party = sim_party_new(g->s, g->p.domid, "guest", guest_run, g);
    g->party->died = guest_died;
    g->party->faulty = g->p.faulty;
    sim_wake(g->party, sim_random(g->s, 100000));
    if (g->crashes_left || g->p.vanishes)
        sim_after(g->s, sim_random(g->s, 5000000), end_comes, g,
                  g->party->number);
}

static void
new_process(struct sim_guest *g, uint64_t delay_ns)
{
    sim_after(g->s, delay_ns, make_process, g, 0);
}

void
sim_guest_domain(struct sim *s, uint16_t domid)
{
    SIM_CHECK(s,
              !fh_xs_domain_populate(s->xs, domid, "guest") &&
                  !fh_xs_domain_introduce(s->xs, domid),
              "domain %u cannot be made", domid);
}

void
sim_guest_init(struct sim_guest *g, struct sim *s,
               const struct sim_guest_params *p, struct sim_oracle *keep)
{
    *g = (struct sim_guest){
        .s = s, .p = *p, .oracle = *keep,
        .closes_left = p->n_closes, .crashes_left = p->n_crashes,
    };
    new_process(g, 0);
}

void
sim_guest_free(struct sim_guest *g)
{
    forget_process(g);
}
