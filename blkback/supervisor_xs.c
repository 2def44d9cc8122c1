/* SPDX-License-Identifier: MIT */
/*
 * Devices that stand in xenstore, written by a toolstack, or by a supervisor
 * before us.
 *
 * Ours is a directory under backend/vbd whose `params` begin with "freehold:"
 * or whose `script` is block-freehold; everything else there belongs to other
 * backends and is left alone.
 *
 * One watch covers the whole of backend/vbd; only our own domain and the
 * toolstack can write there.  Each device watches its frontend's state itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "blkback/supervisor_state.h"

#define SCRIPT     "block-freehold"
#define BASE_TOKEN "fhsup"
#define GONE_TOKEN "fhgone"

enum {
    VALUE_BYTES = 64,
    LIST_BYTES = 32768, /* names of one directory */
    RETRY_MS = 500,     /* of an image that somebody else still has */
    BUSY_MS = 2500,     /* before the toolstack hears of it: a disk's last user
                           may be on its way out, as in a reboot */
    REFUSE_TRIES = 8,   /* of a transaction that met others */
    MS = 1000000,
};

static bool
read_key_in(struct fh_sup *s, uint32_t txn, const char *dir, const char *key,
            char *buf, size_t size)
{
    struct fh_plat *pl = &s->xen.plat;
    char path[FH_DEVICE_PATH_MAX];
    size_t len;

    snprintf(path, sizeof(path), "%s/%s", dir, key);
    if (!pl->ops->xs_read(pl, txn, path, buf, size, &len) && strlen(buf) == len)
        return true;
    buf[0] = '\0';
    return false;
}

static bool
read_key(struct fh_sup *s, const char *dir, const char *key, char *buf,
         size_t size)
{
    return read_key_in(s, 0, dir, key, buf, size);
}

static bool
has_script(struct fh_sup *s, const char *dir)
{
    char script[FH_DEVICE_PATH_MAX];

    return read_key(s, dir, "script", script, sizeof(script)) && script[0];
}

/* The toolstack was told that this disk cannot be had: it is not to appear
 * later, when it could. */
static bool
has_failed(struct fh_sup *s, const char *dir)
{
    char status[16];

    return read_key(s, dir, "hotplug-status", status, sizeof(status)) &&
           !strcmp(status, "error");
}

/* What is to be served, or NULL: not ours. */
static const char *
target_of(struct fh_sup *s, const char *dir, char *params, size_t size)
{
    char script[FH_DEVICE_PATH_MAX];
    const char *base;

    if (!read_key(s, dir, "params", params, size))
        return NULL;
    if (!strncmp(params, FH_SUP_PREFIX, strlen(FH_SUP_PREFIX)))
        return params + strlen(FH_SUP_PREFIX);
    if (!read_key(s, dir, "script", script, sizeof(script)))
        return NULL;
    base = strrchr(script, '/');
    return strcmp(base ? base + 1 : script, SCRIPT) ? NULL : params;
}

/*
 * A directory that a dead supervisor wrote as the toolstack: we are its
 * successor, also in that.  What it kept in memory went with it; serving zeros
 * instead would be a lie.
 */
static bool
was_ours(struct fh_sup *s, const char *dir)
{
    char type[16];

    return read_key(s, dir, "type", type, sizeof(type)) &&
           !strcmp(type, FH_SUP_TYPE);
}

static bool
was_connected(struct fh_sup *s, const char *dir)
{
    char state[8];

    return read_key(s, dir, "state", state, sizeof(state)) && state[0] > '2';
}

/* Unplugged and closed: only its toolstack has something to do there. */
static bool
is_over(struct fh_sup *s, const char *dir)
{
    char online[8], state[8];

    read_key(s, dir, "online", online, sizeof(online));
    read_key(s, dir, "state", state, sizeof(state));
    return !state[0] || (!strcmp(online, "0") && !strcmp(state, "6"));
}

/*
 * A refused disk has no handshake, so the toolstack gets its answers here.  It
 * waits for InitWait before it runs the hotplug script, which asks us and says
 * why not: so it gets InitWait, at once.  And it waits for Closed when it takes
 * the disk away.
 */
static int
answer_refused(struct fh_sup *s, uint32_t txn, const char *dir, bool is_final)
{
    struct fh_plat *pl = &s->xen.plat;
    char path[FH_DEVICE_PATH_MAX + 8], state[8], online[8];
    const char *now = NULL;

    if (!read_key_in(s, txn, dir, "state", state, sizeof(state)))
        return FH_PLAT_E_NONE;
    read_key_in(s, txn, dir, "online", online, sizeof(online));
    if (!strcmp(state, "5") || (!strcmp(online, "0") && strcmp(state, "6")))
        now = "6";
    else if (!strcmp(state, "1") && is_final && has_script(s, dir))
        now = "2";
    snprintf(path, sizeof(path), "%s/state", dir);
    return now ? pl->ops->xs_write(pl, txn, path, now) : FH_PLAT_E_NONE;
}

static void
tell_refused(const struct fh_sup_device *d)
{
    struct fh_plat *pl = &d->sup->xen.plat;
    const bool is_final =
        d->retry_ns == UINT64_MAX ||
        fh_sup_now() - d->refused_ns > (uint64_t)BUSY_MS * MS;
    char dir[FH_DEVICE_PATH_MAX];
    uint32_t txn;
    int r = FH_PLAT_E_CONFLICT;

    snprintf(dir, sizeof(dir), "%s/%u/%u", d->sup->base, d->dev.p.domid,
             d->dev.p.devid);
    for (int i = 0; i < REFUSE_TRIES && r == FH_PLAT_E_CONFLICT; i++) {
        r = pl->ops->xs_begin(pl, &txn);
        if (r)
            return;
        r = answer_refused(d->sup, txn, dir, is_final);
        r = pl->ops->xs_end(pl, txn, r != 0);
    }
}

void
fh_sup_refuse(struct fh_sup_device *d, int error, const char *why)
{
    d->refused = true;
    if (!d->refused_ns)
        d->refused_ns = fh_sup_now();
    if (strcmp(d->refusal, why)) /* not at each try */
        fh_sup_log(d->sup, "domain %u %s: refused: %s", d->dev.p.domid,
                   d->vdev, why);
    snprintf(d->refusal, sizeof(d->refusal), "%s", why);
    if (d->dev.p.plat)
        fh_device_fini(&d->dev);
    d->dev.p.plat = NULL;
    fh_sup_state_forget(d);
    fh_image_close(&d->image);
    if (d->rec_fd >= 0)
        close(d->rec_fd);
    d->rec_fd = -1;
    d->over |= d->sup->stop != FH_SUP_STOP_NO;
    d->sup->scan = true; /* it may be unplugged already */
    d->retry_ns = UINT64_MAX;
    if (error == FH_EBUSY)
        d->retry_ns = fh_sup_now() + (uint64_t)RETRY_MS * MS;
    tell_refused(d);
}

/* The nodes of a device that is to be served by us. */
struct nodes {
    struct fh_sup_attach a;
    char dir[FH_DEVICE_PATH_MAX];
    char params[FH_IMAGE_TARGET_MAX];
    char name[64];
};

/* False: not ours, or over. */
static bool
read_nodes(struct fh_sup *s, uint32_t domid, uint32_t devid, struct nodes *n)
{
    char mode[8];

    n->a = (struct fh_sup_attach){
        .domid = domid,
        .devid = devid,
        .grants = s->p.grants,
        .max_order = s->p.max_order,
    };
    snprintf(n->dir, sizeof(n->dir), "%s/%u/%u", s->base, domid, devid);
    n->a.target = target_of(s, n->dir, n->params, sizeof(n->params));
    if (!n->a.target || is_over(s, n->dir))
        return false;
    if (read_key(s, n->dir, "name", n->name, sizeof(n->name)))
        n->a.name = n->name;
    read_key(s, n->dir, "mode", mode, sizeof(mode));
    n->a.read_only = mode[0] != 'w';
    n->a.shared = mode[0] == 'w' && mode[1] == '!';
    fh_sup_vdev_name(devid, n->a.vdev, sizeof(n->a.vdev));
    return true;
}

static int
take_up(struct fh_sup_device *d, const struct nodes *n, char *why)
{
    struct fh_sup *s = d->sup;
    int r;

    d->owned = was_ours(s, n->dir);
    r = fh_sup_state_check(s, n->a.domid, n->a.devid, why);
    if (!r)
        r = fh_sup_open_storage(d, &n->a, why);
    if (!r && d->image.store == FH_WK_STORE_MEM && was_connected(s, n->dir)) {
        snprintf(why, FH_IMAGE_TEXT_MAX,
                 "its memory went with an earlier backend");
        return FH_ENOENT;
    }
    if (!r) {
        r = fh_sup_start_device(d, &n->a, NULL);
        if (r)
            snprintf(why, FH_IMAGE_TEXT_MAX, "%s", strerror(-r));
    }
    return r;
}

/* A worker of an earlier backend may still have its image: later again. */
static void
try_device(struct fh_sup_device *d, const struct nodes *n)
{
    char why[FH_IMAGE_TEXT_MAX];
    int r = take_up(d, n, why);

    if (r)
        fh_sup_refuse(d, r, why);
}

bool
fh_sup_xs_names(struct fh_sup_device *d)
{
    struct nodes n;
    const bool there = read_nodes(d->sup, d->dev.p.domid, d->dev.p.devid, &n) &&
                       !strcmp(n.a.target, d->image.target);

    /* Nodes of another disk at the same place are not ours to remove. */
    d->owned = (there || is_over(d->sup, n.dir)) && was_ours(d->sup, n.dir);
    return there;
}

static void
consider(struct fh_sup *s, uint32_t domid, uint32_t devid)
{
    char why[FH_IMAGE_TEXT_MAX];
    struct fh_sup_device *d;
    struct nodes n;

    if (!read_nodes(s, domid, devid, &n)) {
        /* A dead supervisor's last step. */
        if (is_over(s, n.dir) && was_ours(s, n.dir))
            fh_sup_remove_dirs(s, domid, devid);
        return;
    }
    d = fh_sup_device_new(s, &n.a, why);
    if (d)
        try_device(d, &n);
    else
        fh_sup_log(s, "domain %u %s: %s", domid, n.a.vdev, why);
}

void
fh_sup_xs_retry(struct fh_sup_device *d)
{
    struct nodes n;

    if (!d->refused || fh_sup_now() < d->retry_ns)
        return;
    if (!read_nodes(d->sup, d->dev.p.domid, d->dev.p.devid, &n)) {
        d->over = true;
        return;
    }
    if (has_failed(d->sup, n.dir)) {
        d->retry_ns = UINT64_MAX;
        return;
    }
    d->refused = false;
    try_device(d, &n);
}

/* Calls @each for every name in @dir that is a number. */
static void
for_numbers(struct fh_sup *s, const char *dir, uint32_t max, uint32_t domid,
            void (*each)(struct fh_sup *s, uint32_t domid, uint32_t n))
{
    struct fh_plat *pl = &s->xen.plat;
    char *names = malloc(LIST_BYTES);
    const char *at = names;
    uint32_t n = 0, value;

    if (names && pl->ops->xs_list(pl, 0, dir, names, LIST_BYTES, &n))
        n = 0;
    for (uint32_t i = 0; names && i < n; i++, at += strlen(at) + 1)
        if (!fh_xenbus_parse_u32(at, strlen(at), max, &value))
            each(s, domid, value);
    free(names);
}

static void
scan_device(struct fh_sup *s, uint32_t domid, uint32_t devid)
{
    if (!fh_sup_find(s, domid, devid))
        consider(s, domid, devid);
}

static void
scan_domain(struct fh_sup *s, uint32_t unused, uint32_t domid)
{
    char dir[FH_DEVICE_PATH_MAX];

    snprintf(dir, sizeof(dir), "%s/%u", s->base, domid);
    for_numbers(s, dir, INT32_MAX, domid, scan_device);
}

void
fh_sup_xs_scan(struct fh_sup *s)
{
    if (!s->scan || s->stop)
        return;
    s->scan = false;
    for (struct fh_sup_device *d = s->devices; d; d = d->next) {
        char dir[FH_DEVICE_PATH_MAX];

        if (!d->refused)
            continue;
        tell_refused(d);
        snprintf(dir, sizeof(dir), "%s/%u/%u", s->base, d->dev.p.domid,
                 d->dev.p.devid);
        d->over |= is_over(s, dir);
    }
    for_numbers(s, s->base, UINT16_MAX, 0, scan_domain);
}

/* --- events --- */

/* BASE/F/N[/...]: which device; anything else is a reason to look at all. */
static void
base_event(struct fh_sup *s, const char *path)
{
    const size_t n = strlen(s->base);
    struct fh_sup_device *d;
    unsigned domid, devid;

    if (strncmp(path, s->base, n) || path[n] != '/' ||
        sscanf(path + n, "/%u/%u", &domid, &devid) != 2) {
        s->scan = true;
        return;
    }
    d = fh_sup_find(s, domid, devid);
    if (d && fh_sup_has_handshake(d))
        fh_device_kick(&d->dev);
    else
        s->scan = true;
}

static void
on_event(struct fh_sup *s, const char *path, const char *token)
{
    if (!strcmp(token, BASE_TOKEN)) {
        base_event(s, path);
        return;
    }
    for (struct fh_sup_device *d = s->devices; d; d = d->next) {
        if (!fh_sup_has_handshake(d))
            continue;
        if (!strcmp(token, GONE_TOKEN))
            fh_device_kick(&d->dev);
        else if (fh_device_event(&d->dev, token))
            return;
    }
}

void
fh_sup_xs_drain(struct fh_sup *s)
{
    static char path[FH_XS_PATH_MAX + 1], token[FH_XS_PATH_MAX + 1];
    struct fh_plat *pl = &s->xen.plat;

    for (int i = 0; i < FH_SUP_XS_EVENTS; i++) {
        int r = pl->ops->xs_next(pl, path, token);

        if (r == FH_PLAT_E_NONE)
            return;
        if (r == 0)
            on_event(s, path, token);
        else if (r != FH_ERANGE) {
            s->lost = true;
            return;
        }
    }
}

static int
own_domid(struct fh_sup *s)
{
    struct fh_plat *pl = &s->xen.plat;
    char value[VALUE_BYTES];
    uint32_t n;
    size_t len;
    int r;

    if (s->p.domid >= 0) {
        s->domid = (uint16_t)s->p.domid;
        return 0;
    }
    r = pl->ops->xs_read(pl, 0, "domid", value, sizeof(value), &len);
    if (!r)
        r = fh_xenbus_parse_u32(value, len, UINT16_MAX, &n);
    if (r)
        return r < 0 ? r : FH_ENOENT;
    s->domid = (uint16_t)n;
    return 0;
}

int
fh_sup_xs_start(struct fh_sup *s)
{
    struct fh_plat *pl = &s->xen.plat;
    int r = own_domid(s);

    if (r)
        return r;
    snprintf(s->base, sizeof(s->base), "/local/domain/%u/backend/vbd",
             (unsigned)s->domid);
    r = pl->ops->xs_watch(pl, s->base, BASE_TOKEN);
    if (!r)
        r = pl->ops->xs_watch(pl, "@releaseDomain", GONE_TOKEN);
    if (r == FH_EACCES) /* an unprivileged backend domain: watches of the
                           frontends' nodes have to do */
        r = 0;
    s->scan = true;
    return r > 0 ? FH_EIO : r;
}
