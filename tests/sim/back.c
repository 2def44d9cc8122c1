/* SPDX-License-Identifier: MIT */
/* The supervisor's side of back.h; the worker's is in worker.c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "back_int.h"

/* ---- messages ---- */

void
sim_inbox_put(struct sim_inbox *in, uint64_t m)
{
    if (in->n == SIM_INBOX)
        abort();
    in->message[in->n++] = m;
}

bool
sim_inbox_take(struct sim_inbox *in, uint64_t *m)
{
    if (!in->n)
        return false;
    *m = in->message[0];
    memmove(in->message, in->message + 1, --in->n * sizeof(*m));
    return true;
}

static void
deliver_to_supervisor(void *arg, uint64_t m)
{
    struct sim_worker *w = arg;
    struct sim_back *b = w->b;

    if (w != b->worker || !b->sup)
        return;
    sim_inbox_put(&b->inbox, m);
    sim_wake(b->sup, 0);
}

void
sim_tell_supervisor(struct sim_worker *w, enum sim_msg type, uint32_t disk,
                    int rc)
{
    struct sim *s = w->b->s;
    uint64_t at = s->now_ns + sim_random(s, 20000);

    if (type == SIM_MSG_DIED)
        at = s->now_ns;
    else if (at <= w->told_ns)
        at = w->told_ns + 1;
    w->told_ns = at;
    sim_after(s, at - s->now_ns, deliver_to_supervisor, w,
              SIM_MSG(type, disk, rc));
}

static void
deliver_to_worker(void *arg, uint64_t m)
{
    struct sim_worker *w = arg;

    if (!w->party->alive)
        return;
    sim_inbox_put(&w->inbox, m);
    sim_wake(w->party, 0);
}

static void
ask(struct sim_disk *d, enum sim_msg type)
{
    struct sim_worker *w = d->b->worker;

    d->asked = type == SIM_MSG_CONNECT ? SIM_ASK_CONNECT : SIM_ASK_DISCONNECT;
    sim_after(d->b->s, sim_random(d->b->s, 20000), deliver_to_worker, w,
              SIM_MSG(type, d->index, d->resume));
}

/* ---- links, as in blkback/supervisor_link.c ---- */

static void
finish(struct sim_disk *d)
{
    d->resume = false;
    d->resume_ns = 0;
    d->resume_tries = 0;
    fh_device_disconnected(&d->dev, 0);
}

static void
advance(struct sim_disk *d)
{
    if (d->b->state != SIM_READY || d->asked)
        return;
    if (d->want && !d->up && d->resume_ns > d->b->s->now_ns)
        return;
    if (d->want && !d->up)
        ask(d, SIM_MSG_CONNECT);
    else if (!d->want && d->up)
        ask(d, SIM_MSG_DISCONNECT);
    else if (!d->want)
        finish(d);
}

static int
op_connect(struct fh_device *dev, const struct fh_device_queue *q)
{
    struct sim_disk *d = dev->p.user;

    d->ring = *q;
    d->want = true;
    d->resume = false;
    if (!d->b->p.keeps_old_state)
        d->rec->queue[0].active = 0;
    if (d->b->state == SIM_NONE)
        sim_worker_start(d->b, 0);
    advance(d);
    return 0;
}

static int
op_disconnect(struct fh_device *dev)
{
    struct sim_disk *d = dev->p.user;

    d->want = false;
    if (d->b->state == SIM_NONE)
        finish(d);
    else
        advance(d);
    return 0;
}

static void
op_removed(struct fh_device *dev)
{
    ((struct sim_disk *)dev->p.user)->removed = true;
}

static void
op_log(struct fh_device *dev, const char *text)
{
    struct sim_disk *d = dev->p.user;

    sim_say(d->b->s, "disk %u: %s", d->index, text);
}

static const struct fh_device_ops device_ops = {
    .connect = op_connect,
    .disconnect = op_disconnect,
    .removed = op_removed,
    .log = op_log,
};

/* Want of resources passes. */
static bool
try_again(struct sim_disk *d)
{
    if (d->resume_tries >= SIM_RESUME_TRIES)
        return false;
    d->resume_ns = d->b->s->now_ns + (SIM_RESUME_NS << d->resume_tries++);
    return true;
}

static void
connected(struct sim_disk *d, int rc)
{
    d->asked = SIM_ASK_NOTHING;
    if (!rc) {
        d->up = true;
        d->resume = true;
        d->resume_tries = 0;
        if (d->dev.phase == FH_DEVICE_CONNECTING)
            fh_device_connected(&d->dev, 0);
    } else if (d->dev.phase == FH_DEVICE_CONNECTING) {
        d->want = false;
        d->resume = false;
        fh_device_connected(&d->dev, rc);
    } else if (rc > 0 || !try_again(d)) {
        fh_device_fault(&d->dev, rc);
    }
    if (!rc || !d->want)
        advance(d);
}

static void
disconnected(struct sim_disk *d)
{
    d->asked = SIM_ASK_NOTHING;
    d->up = false;
    d->resume = false;
    advance(d);
}

static void
died(struct sim_back *b)
{
    b->state = SIM_FENCED;
    for (uint32_t i = 0; i < b->n_disks; i++) {
        struct sim_disk *d = &b->disk[i];

        if (d->asked == SIM_ASK_CONNECT)
            d->resume = true;
        d->asked = SIM_ASK_NOTHING;
        d->up = false;
    }
}

static void
fenced(struct sim_back *b)
{
    bool needed = false;

    b->state = SIM_NONE;
    for (uint32_t i = 0; i < b->n_disks; i++) {
        if (!b->disk[i].want)
            finish(&b->disk[i]);
        needed |= b->disk[i].want;
    }
    if (needed)
        sim_worker_start(b, sim_random(b->s, 100000));
}

static void
unplug(struct sim_back *b, uint64_t m)
{
    for (uint32_t i = 0; i < b->n_disks; i++) {
        struct sim_disk *d = &b->disk[i];

        if (d->removed)
            continue;
        if (SIM_MSG_TYPE(m) == SIM_MSG_STOP)
            fh_device_stop(&d->dev, SIM_MSG_RC(m));
        else if (fh_device_unplug(&d->dev, false))
            sim_inbox_put(&b->inbox, m); /* again */
    }
}

static void
handle(struct sim_back *b, uint64_t m)
{
    struct sim_disk *d = &b->disk[SIM_MSG_DISK(m)];
    const uint32_t type = SIM_MSG_TYPE(m);

    /* What a dead worker had sent and nobody read is lost with its socket. */
    if (type <= SIM_MSG_FAULT && b->state != SIM_READY)
        return;
    switch ((enum sim_msg)type) {
    case SIM_MSG_CONNECT:
        connected(d, SIM_MSG_RC(m));
        return;
    case SIM_MSG_DISCONNECT:
        disconnected(d);
        return;
    case SIM_MSG_FAULT:
        fh_device_fault(&d->dev, FH_WK_E_BROKEN);
        return;
    case SIM_MSG_DIED:
        died(b);
        return;
    case SIM_MSG_FENCED:
        fenced(b);
        return;
    case SIM_MSG_READY:
        if (b->state != SIM_STARTING)
            return;
        b->state = SIM_READY;
        for (uint32_t i = 0; i < b->n_disks; i++)
            advance(&b->disk[i]);
        return;
    case SIM_MSG_UNPLUG:
    case SIM_MSG_STOP:
        unplug(b, m);
        return;
    }
}

/* ---- the process ---- */

static void
take_watches(struct sim_back *b)
{
    static char path[FH_XS_PATH_MAX + 1], token[FH_XS_PATH_MAX + 1];
    struct fh_plat *p = &b->sup->plat;

    while (p->ops->xs_next(p, path, token) == 0)
        for (uint32_t i = 0; i < b->n_disks; i++) {
            if (b->disk[i].removed)
                continue;
            (void)fh_device_event(&b->disk[i].dev, token);
            if (path[0] == '@')
                fh_device_kick(&b->disk[i].dev);
        }
}

static void
sup_run(void *actor)
{
    struct sim_back *b = actor;
    uint64_t due = UINT64_MAX;
    uint64_t m;

    take_watches(b);
    for (uint32_t n = b->inbox.n; n && sim_inbox_take(&b->inbox, &m); n--)
        handle(b, m);
    for (uint32_t i = 0; i < b->n_disks; i++) {
        struct sim_disk *d = &b->disk[i];

        if (d->removed)
            continue;
        fh_device_run(&d->dev);
        if (d->resume_ns && b->s->now_ns >= d->resume_ns) {
            d->resume_ns = 0;
            advance(d);
        }
        if (d->resume_ns && d->resume_ns < due)
            due = d->resume_ns;
        if (!d->removed && fh_device_deadline_ns(&d->dev) < due)
            due = fh_device_deadline_ns(&d->dev);
    }
    if (b->inbox.n || sim_has_news(b->sup))
        due = 0;
    if (due != UINT64_MAX)
        sim_wake(b->sup, due > b->s->now_ns ? due - b->s->now_ns : 1000);
}

/* ---- disks ---- */

struct node {
    const char *key;
    const char *value;
};

static void
write_dir(struct sim_back *b, const char *dir, uint16_t owner, uint16_t reader,
          const struct node *node, size_t n)
{
    struct fh_plat *p = &b->sup->plat;
    const struct fh_plat_perm perms[2] = {
        { .domid = owner }, { .domid = reader, .read = true },
    };
    char path[FH_DEVICE_PATH_MAX];
    int r = p->ops->xs_mkdir(p, 0, dir);

    if (!r)
        r = p->ops->xs_set_perms(p, 0, dir, perms, 2);
    for (size_t i = 0; i < n && !r; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, node[i].key);
        r = p->ops->xs_write(p, 0, path, node[i].value);
    }
    SIM_CHECK(b->s, !r, "the toolstack cannot write %s: %d", dir, r);
}

static void
write_nodes(struct sim_back *b, uint16_t domid)
{
    char back[64], front[64], id[8];
    const struct node theirs[] = {
        { "frontend", front }, { "frontend-id", id }, { "online", "1" },
        { "state", "1" },
    };
    const struct node ours[] = {
        { "backend", back }, { "backend-id", "0" }, { "state", "1" },
        { "virtual-device", "51712" },
    };

    snprintf(id, sizeof(id), "%u", domid);
    snprintf(back, sizeof(back), SIM_BACK_PATH, domid);
    snprintf(front, sizeof(front), SIM_FRONT_PATH, domid);
    write_dir(b, back, SIM_BACK_DOMID, domid, theirs, 4);
    write_dir(b, front, domid, SIM_BACK_DOMID, ours, 4);
}

/* The device's logic takes up what xenstore says. */
static void
start_device(struct sim_disk *d, uint16_t domid)
{
    struct sim_back *b = d->b;
    char path[64];
    const struct fh_device_params p = {
        .plat = &b->sup->plat,
        .ops = &device_ops,
        .user = d,
        .path = path,
        .own_domid = SIM_BACK_DOMID,
        .domid = domid,
        .devid = 51712,
        .grants = b->p.grants,
        .max_indirect = b->p.max_indirect,
        .max_order = b->p.max_order,
        .owned = b->p.owned,
        .n_sectors = b->p.n_sectors,
    };

    snprintf(path, sizeof(path), SIM_BACK_PATH, domid);
    SIM_CHECK(b->s, fh_device_init(&d->dev, &p) == 0 &&
                        fh_device_start(&d->dev) == 0,
              "disk %u does not start", d->index);
    sim_wake(b->sup, 0);
}

static void
init_medium(struct sim_disk *d)
{
    const struct sim_back_params *p = &d->b->p;

    sim_medium_init(&d->medium, d->b->s, p->n_sectors);
    d->medium.p_error = p->p_error;
    d->medium.room = p->room;
    d->medium.latency_ns = p->latency_ns;
    d->medium.synchronous = p->synchronous;
}

void
sim_back_attach(struct sim_back *b, uint16_t domid)
{
    struct sim_disk *d = &b->disk[b->n_disks];

    d->b = b;
    d->index = b->n_disks++;
    init_medium(d);
    d->rec = mmap(NULL, sizeof(*d->rec), PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (d->rec == MAP_FAILED)
        abort();
    sim_back_plug(b, d->index, domid);
}

void
sim_back_plug(struct sim_back *b, uint32_t index, uint16_t domid)
{
    struct sim_disk *d = &b->disk[index];
    const bool faulty = b->sup->faulty;

    madvise(d->rec, sizeof(*d->rec), MADV_DONTNEED);
    fh_rec_format(d->rec, b->p.n_sectors, domid, 51712, index + 1);
    d->want = d->resume = d->up = d->removed = false;
    d->resume_ns = 0;
    d->resume_tries = 0;
    d->asked = SIM_ASK_NOTHING;
    b->sup->faulty = false; /* the toolstack is not on trial */
    write_nodes(b, domid);
    start_device(d, domid);
    b->sup->faulty = faulty;
}

/* ---- life ---- */

void
sim_back_init(struct sim_back *b, struct sim *s,
              const struct sim_back_params *p)
{
    *b = (struct sim_back){ .s = s, .p = *p, .kills_left = p->n_kills };
    sim_back_start(b);
}

void
sim_back_start(struct sim_back *b)
{
    struct fh_plat *p;

    b->inbox.n = 0;
    b->state = SIM_NONE;
    b->sup = sim_party_new(b->s, SIM_BACK_DOMID, "supervisor", sup_run, b);
    p = &b->sup->plat;
    SIM_CHECK(b->s, !p->ops->xs_watch(p, "@releaseDomain", "gone"),
              "no watch of released domains");
    b->sup->faulty = b->p.faulty;
}

void
sim_back_power_off(struct sim_back *b)
{
    b->state = SIM_NONE;
    if (b->worker && b->worker->party && b->worker->party->alive)
        sim_party_kill(b->worker->party);
    sim_party_kill(b->sup);
    b->sup = NULL;
    for (uint32_t i = 0; i < b->n_disks; i++)
        sim_medium_cut(&b->disk[i].medium);
}

void
sim_back_free(struct sim_back *b)
{
    while (b->worker) {
        struct sim_worker *w = b->worker;

        b->worker = w->older;
        sim_worker_free(w);
    }
    for (uint32_t i = 0; i < b->n_disks; i++) {
        sim_medium_free(&b->disk[i].medium);
        munmap(b->disk[i].rec, sizeof(*b->disk[i].rec));
    }
}

void
sim_back_unplug(struct sim_back *b)
{
    sim_inbox_put(&b->inbox, SIM_MSG(SIM_MSG_UNPLUG, 0, 0));
    sim_wake(b->sup, 0);
}

void
sim_back_stop(struct sim_back *b, bool force)
{
    sim_inbox_put(&b->inbox, SIM_MSG(SIM_MSG_STOP, 0, force));
    sim_wake(b->sup, 0);
}

bool
sim_back_removed(const struct sim_back *b)
{
    for (uint32_t i = 0; i < b->n_disks; i++)
        if (!b->disk[i].removed)
            return false;
    return true;
}
