/* SPDX-License-Identifier: MIT */
/*
 * A disk's device in xenstore: asks lib/xenbus's table what to do and does it,
 * one step at a time, each from freshly read values.
 *
 * Invariants:
 *  - Between connect() and its answer, and between disconnect() and its answer,
 *    nothing is evaluated: steps of one device never overlap (XSA-350).
 *  - Events only set a flag.  However fast a frontend writes its state, a run
 *    looks once and does a bounded number of steps.
 *  - Failures of xenstore leave the device where it was: the step is decided
 *    again, later, from what is there then.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "blkback/device_io.h"

enum {
    SECOND_NS = 1000000000,
    RETRY_NS = 100000000, /* doubles with each failure */
    LOG_SECONDS = 60,
};

static uint64_t
now_ns(const struct fh_device *d)
{
    return d->p.plat->ops->now_ns(d->p.plat);
}

/* Counts one more; false when @max were counted in this window already. */
static bool
window_take(struct fh_device_window *w, uint64_t now, uint64_t length_ns,
            uint32_t max)
{
    if (w->n == 0 || now - w->start_ns >= length_ns) {
        w->start_ns = now;
        w->n = 0;
    }
    if (w->n >= max)
        return false;
    w->n++;
    return true;
}

static void __attribute__((format(printf, 2, 3)))
say(struct fh_device *d, const char *fmt, ...)
{
    char line[FH_DEVICE_TEXT_MAX * 2];
    va_list ap;

    if (!d->p.ops->log)
        return;
    if (!window_take(&d->log, now_ns(d), (uint64_t)LOG_SECONDS * SECOND_NS,
                     FH_DEVICE_LOG_LINES)) {
        d->log_dropped++;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    d->p.ops->log(d, line);
}

static bool
is_busy(const struct fh_device *d)
{
    return d->phase == FH_DEVICE_CONNECTING ||
           d->phase == FH_DEVICE_DISCONNECTING;
}

int
fh_device_init(struct fh_device *d, const struct fh_device_params *p)
{
    if (strlen(p->path) >= FH_DEVICE_PATH_MAX ||
        p->max_order > FH_DEVICE_MAX_ORDER)
        return FH_EINVAL;
    *d = (struct fh_device){ .p = *p, .retry_at_ns = UINT64_MAX };
    strcpy(d->path, p->path);
    d->p.path = d->path;
    if (!d->p.max_indirect)
        d->p.max_indirect = FH_DEVICE_INDIRECT_DEFAULT;
    snprintf(d->token, sizeof(d->token), "fhdev-%u-%u", p->domid, p->devid);
    return 0;
}

/* Where the frontend is: our own directory says it, and only the toolstack can
 * write there; still it must be a directory of that domain. */
static int
read_frontend_path(struct fh_device *d)
{
    char home[32];
    size_t len;
    int r = fh_device_read(d, 0, d->path, "frontend", d->front,
                           sizeof(d->front), &len);

    if (r)
        return r < 0 ? r : FH_ENOENT;
    snprintf(home, sizeof(home), "/local/domain/%u/", (unsigned)d->p.domid);
    if (strlen(d->front) != len || strncmp(d->front, home, strlen(home)))
        return FH_ENOENT;
    return 0;
}

void
fh_device_restore(struct fh_device *d, enum fh_device_phase phase,
                  const struct fh_device_queue *q, bool front_seen_4)
{
    d->phase = phase;
    d->has_queue = q != NULL;
    if (q)
        d->queue = *q;
    d->front_seen_4 = front_seen_4;
}

static int
read_script(struct fh_device *d)
{
    char buf[FH_DEVICE_PATH_MAX];
    size_t len;
    int r = fh_device_read(d, 0, d->path, "script", buf, sizeof(buf), &len);

    if (r < 0)
        return r;
    d->has_script = r == 0 && len > 0;
    return 0;
}

static int
watch(struct fh_device *d, const char *dir, const char *key, bool *watching)
{
    char path[FH_DEVICE_PATH_MAX + 8];
    struct fh_plat *pl = d->p.plat;
    int r;

    snprintf(path, sizeof(path), "%s%s", dir, key);
    r = pl->ops->xs_watch(pl, path, d->token);
    *watching = r == 0;
    return r > 0 ? FH_EIO : r;
}

static void
unwatch(struct fh_device *d, const char *dir, const char *key, bool *watching)
{
    char path[FH_DEVICE_PATH_MAX + 8];
    struct fh_plat *pl = d->p.plat;

    if (!*watching)
        return;
    snprintf(path, sizeof(path), "%s%s", dir, key);
    (void)pl->ops->xs_unwatch(pl, path, d->token);
    *watching = false;
}

int
fh_device_start(struct fh_device *d)
{
    int r = read_frontend_path(d);

    if (!r)
        r = read_script(d);
    if (!r && !d->p.watched)
        r = watch(d, d->path, "", &d->watching_own);
    if (!r)
        r = watch(d, d->front, "/state", &d->watching_front);
    if (r)
        fh_device_fini(d);
    else
        d->dirty = true;
    return r;
}

void
fh_device_fini(struct fh_device *d)
{
    unwatch(d, d->path, "", &d->watching_own);
    unwatch(d, d->front, "/state", &d->watching_front);
    d->phase = FH_DEVICE_OVER;
}

bool
fh_device_event(struct fh_device *d, const char *token)
{
    if (strcmp(token, d->token))
        return false;
    d->dirty = true;
    return true;
}

void
fh_device_kick(struct fh_device *d)
{
    d->dirty = true;
}

static int
read_online(struct fh_device *d)
{
    char buf[FH_DEVICE_VALUE_MAX];
    size_t len;
    int r = fh_device_read(d, 0, d->path, "online", buf, sizeof(buf), &len);

    if (r < 0)
        return r;
    /* Whoever wrote the directory by hand and left it out wants it kept. */
    d->online = r || len != 1 || buf[0] != '0';
    if (d->stopping || (d->p.owned && d->front_gone))
        d->online = false;
    return 0;
}

static int
read_hotplug(struct fh_device *d, bool *pending)
{
    char buf[FH_DEVICE_VALUE_MAX];
    size_t len;
    int r;

    *pending = false;
    if (!d->has_script || d->state != FH_XENBUS_INIT_WAIT)
        return 0;
    r = fh_device_read(d, 0, d->path, "hotplug-status", buf, sizeof(buf), &len);
    if (r < 0)
        return r;
    *pending = r || strcmp(buf, "connected");
    return 0;
}

/*
 * Did the frontend start again without our noticing?  Either it went back from
 * Connected to Initialised, or the ring that it names is another one than ours
 * (or than the one we tried last).
 */
static int
read_renewed(struct fh_device *d)
{
    const bool has_ring = d->front_state == FH_XENBUS_INITIALISED ||
                          d->front_state == FH_XENBUS_CONNECTED;
    const bool serving = d->phase == FH_DEVICE_SERVING;
    char why[FH_DEVICE_TEXT_MAX];
    struct fh_device_queue q;
    int r;

    if (!has_ring) {
        d->renewed = false;
        return 0;
    }
    if (serving && d->front_state == FH_XENBUS_CONNECTED)
        d->front_seen_4 = true;
    else if (serving && d->front_seen_4)
        d->renewed = true;
    if (!d->has_queue || (!serving && d->state < FH_XENBUS_CONNECTED))
        return 0;
    r = fh_device_read_queue(d, &q, why);
    if (r < 0)
        return r;
    if (r == 0 && !fh_device_same_ring(&q, &d->queue))
        d->renewed = true;
    return 0;
}

static int
look(struct fh_device *d, struct fh_xenbus_view *v)
{
    bool pending = false, gone;
    int r = fh_device_read_state(d, 0, d->path, &d->state, &gone);

    if (!r)
        r = fh_device_read_state(d, 0, d->front, &d->front_state,
                                 &d->front_gone);
    if (!r)
        r = read_online(d);
    if (!r)
        r = read_hotplug(d, &pending);
    if (!r)
        r = read_renewed(d);
    *v = (struct fh_xenbus_view){
        .ours = d->state,
        .front = d->front_state,
        .online = d->online,
        .connected = d->phase == FH_DEVICE_SERVING,
        .hotplug_pending = pending,
        .foreign = !d->has_offered,
        .renewed = d->renewed,
        .changed = d->resized,
        .failed = d->error[0] != '\0',
        .force = d->force,
    };
    return r;
}

static void
note_error(struct fh_device *d, const char *text)
{
    snprintf(d->error, sizeof(d->error), "%s", text);
    snprintf(d->reason, sizeof(d->reason), "%s", text);
}

static int
do_offer(struct fh_device *d)
{
    uint64_t now = now_ns(d);
    int r;

    if (!window_take(&d->offers, now, SECOND_NS, FH_DEVICE_OFFERS)) {
        d->retry_at_ns = d->offers.start_ns + SECOND_NS;
        return 0;
    }
    fh_device_clear_error(d);
    r = fh_device_write_offer(d);
    if (!r) {
        d->has_offered = true;
        d->renewed = false;
        d->has_queue = false;
    }
    return r;
}

static int
do_connect(struct fh_device *d)
{
    char why[FH_DEVICE_TEXT_MAX];
    int r = fh_device_read_queue(d, &d->queue, why);

    if (r == FH_DEVICE_E_FRONT) {
        note_error(d, why);
        return 0;
    }
    if (r)
        return r;
    d->has_queue = true;
    d->front_seen_4 = false;
    d->renewed = false;
    d->phase = FH_DEVICE_CONNECTING;
    r = d->p.ops->connect(d, &d->queue);
    if (r < 0)
        fh_device_connected(d, r);
    return 0;
}

static int
do_announce(struct fh_device *d)
{
    int r = fh_device_write_announce(d);

    if (!r) {
        d->resized = false;
        d->reason[0] = '\0';
    }
    return r;
}

static int
do_disconnect(struct fh_device *d)
{
    int r;

    d->phase = FH_DEVICE_DISCONNECTING;
    r = d->p.ops->disconnect(d);
    if (r < 0)
        fh_device_disconnected(d, r);
    return 0;
}

static int
do_error(struct fh_device *d)
{
    int r = fh_device_write_error(d, d->error);

    if (!r) {
        say(d, "error: %s", d->error);
        d->error[0] = '\0';
    }
    return r;
}

static int
do_remove(struct fh_device *d)
{
    fh_device_clear_error(d);
    fh_device_fini(d);
    d->p.ops->removed(d);
    return 0;
}

static int
act(struct fh_device *d, enum fh_xenbus_action a)
{
    switch (a) {
    case FH_XENBUS_DO_NOTHING:
        return 0;
    case FH_XENBUS_DO_OFFER:
        return do_offer(d);
    case FH_XENBUS_DO_CONNECT:
        return do_connect(d);
    case FH_XENBUS_DO_ANNOUNCE:
        return do_announce(d);
    case FH_XENBUS_DO_DISCONNECT:
        return do_disconnect(d);
    case FH_XENBUS_DO_ERROR:
        return do_error(d);
    case FH_XENBUS_DO_CLOSING:
        return fh_device_write_closing(d);
    case FH_XENBUS_DO_CLOSED:
        /* Errors belong to the connection that ends here. */
        d->error[0] = '\0';
        return fh_device_write_closed(d);
    case FH_XENBUS_DO_REMOVE:
        return do_remove(d);
    }
    return FH_EINVAL;
}

static void
xenstore_failed(struct fh_device *d, int r)
{
    d->failures++;
    if (d->failures > FH_DEVICE_RETRIES) {
        say(d, "xenstore failed %u times in a row (error %d): waiting for "
            "the next event", d->failures, -r);
        snprintf(d->reason, sizeof(d->reason),
                 "xenstore failed %u times in a row (error %d)", d->failures,
                 -r);
        return;
    }
    d->retry_at_ns = now_ns(d) + ((uint64_t)RETRY_NS << (d->failures - 1));
}

/* One look and one step; true when there is more to do at once. */
static bool
step(struct fh_device *d)
{
    struct fh_xenbus_view v;
    enum fh_xenbus_action a;
    int r = look(d, &v);

    if (r < 0) {
        xenstore_failed(d, r);
        return false;
    }
    a = fh_xenbus_next(&v);
    if (a == FH_XENBUS_DO_NOTHING) {
        d->failures = 0;
        return false;
    }
    r = act(d, a);
    if (r < 0) {
        xenstore_failed(d, r);
        return false;
    }
    return d->phase != FH_DEVICE_OVER && !is_busy(d) &&
           d->retry_at_ns == UINT64_MAX;
}

void
fh_device_run(struct fh_device *d)
{
    if (d->phase == FH_DEVICE_OVER || is_busy(d))
        return;
    if (!d->dirty &&
        (d->retry_at_ns == UINT64_MAX || now_ns(d) < d->retry_at_ns))
        return;
    d->dirty = false;
    d->retry_at_ns = UINT64_MAX;
    for (int i = 0; i < FH_DEVICE_STEPS; i++)
        if (!step(d))
            return;
    d->dirty = true; /* the others write as fast as we do: go on next turn */
}

uint64_t
fh_device_deadline_ns(const struct fh_device *d)
{
    if (d->phase == FH_DEVICE_OVER || is_busy(d))
        return UINT64_MAX;
    return d->dirty ? 0 : d->retry_at_ns;
}

static const char *
verdict_text(int rc)
{
    switch (rc) {
    case FH_WK_E_RING:
        return "the ring's pages or its event channel are not granted to us";
    case FH_WK_E_BROKEN:
        return "the ring's indices are impossible";
    case FH_WK_E_RECOVERY:
        return "the recovery state is corrupt";
    case FH_WK_E_SYNC:
        return "the store failed to flush: the disk is failed";
    }
    return "the backend has no resources for this ring";
}

void
fh_device_connected(struct fh_device *d, int rc)
{
    if (d->phase != FH_DEVICE_CONNECTING)
        return;
    d->phase = rc ? FH_DEVICE_IDLE : FH_DEVICE_SERVING;
    if (rc)
        note_error(d, verdict_text(rc));
    d->dirty = true;
}

void
fh_device_disconnected(struct fh_device *d, int rc)
{
    if (d->phase != FH_DEVICE_DISCONNECTING)
        return;
    if (rc)
        say(d, "disconnecting was not clean (%d)", rc);
    d->phase = FH_DEVICE_IDLE;
    d->dirty = true;
}

void
fh_device_fault(struct fh_device *d, int rc)
{
    if (d->phase != FH_DEVICE_SERVING)
        return;
    note_error(d, verdict_text(rc));
    d->dirty = true;
}

int
fh_device_unplug(struct fh_device *d, bool force)
{
    bool gone;
    int r = fh_device_read_state(d, 0, d->path, &d->state, &gone);

    if (!r && gone)
        r = FH_ENOENT;
    if (!r)
        r = fh_device_write_unplug(d);
    if (r)
        return r < 0 ? r : FH_EAGAIN;
    d->force = force;
    d->dirty = true;
    return 0;
}

void
fh_device_stop(struct fh_device *d, bool force)
{
    d->stopping = true;
    d->force |= force;
    d->dirty = true;
}

void
fh_device_resize(struct fh_device *d, uint64_t n_sectors)
{
    d->p.n_sectors = n_sectors;
    d->resized = true;
    d->dirty = true;
}

const char *
fh_device_phase_name(enum fh_device_phase p)
{
    switch (p) {
    case FH_DEVICE_IDLE:
        return "idle";
    case FH_DEVICE_CONNECTING:
        return "connecting";
    case FH_DEVICE_SERVING:
        return "serving";
    case FH_DEVICE_DISCONNECTING:
        return "disconnecting";
    case FH_DEVICE_OVER:
        return "over";
    }
    return "?";
}
