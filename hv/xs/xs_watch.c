/* SPDX-License-Identifier: MIT */
/*
 * Watches: who hears of which change.
 *
 * Watches are kept in a map by the path that they watch, so that a change is
 * matched by one lookup for each ancestor of the changed path, however many
 * watches there are.
 *
 * A client hears of a change if it may read the node, as it is or as it was
 * before the change, or may read the node's parent (xenstored 4.17's rule).
 * A registration is told to whoever asks.
 */
#include <string.h>

#include "hv/xs/xs_internal.h"

enum { PAYLOAD_MAX = 4096 }; /* XENSTORE_PAYLOAD_MAX */

static const char *const special_names[FH_XS_N_SPECIALS] = {
    [FH_XS_INTRODUCE_DOMAIN] = "@introduceDomain",
    [FH_XS_RELEASE_DOMAIN] = "@releaseDomain",
};

int
fh_xs_specials_init(struct fh_xs *xs)
{
    for (int i = 0; i < FH_XS_N_SPECIALS; i++) {
        struct fh_xs_special *s = &xs->specials[i];

        s->name = special_names[i];
        s->perms.p = fh_xs_mem_new(xs, sizeof(s->perms.p[0]));
        if (!s->perms.p)
            return FH_ENOMEM;
        s->perms.n = 1; /* domain 0's, nobody else's */
    }
    return 0;
}

int
fh_xs_special_find(const char *name)
{
    for (int i = 0; i < FH_XS_N_SPECIALS; i++)
        if (strcmp(name, special_names[i]) == 0)
            return i;
    return -1;
}

static bool
watches_path(const struct fh_xs_watch *watch, const struct fh_xs_path *path,
             uint32_t depth)
{
    return watch->n_path == path->end[depth] &&
           memcmp(watch->path, path->text, watch->n_path) == 0;
}

static struct fh_xs_watch *
find(const struct fh_xs_conn *conn, const struct fh_xs_path *path,
     const char *token)
{
    const struct fh_xs_map *map = &conn->xs->watches;

    for (struct fh_xs_link *l = fh_xs_map_first(map, path->hash[path->n_parts]);
         l; l = fh_xs_map_next(l)) {
        struct fh_xs_watch *w = FH_XS_OF(l, struct fh_xs_watch);

        if (w->conn == conn && watches_path(w, path, path->n_parts) &&
            strcmp(w->token, token) == 0)
            return w;
    }
    return NULL;
}

static uint64_t
charge_of(size_t n_path, size_t n_token)
{
    return sizeof(struct fh_xs_watch) + n_path + n_token + 2;
}

static int
check_quota(const struct fh_xs_conn *conn, uint64_t bytes)
{
    const struct fh_xs_limits *limits = &conn->xs->limits;

    if (fh_xs_conn_is_privileged(conn))
        return 0;
    if (conn->dom->n_watches >= limits->n_watches)
        return FH_E2BIG;
    if (conn->dom->bytes + bytes > limits->domain_bytes)
        return FH_ENOMEM;
    return 0;
}

static void
link_watch(struct fh_xs_watch *w, uint64_t hash)
{
    struct fh_xs_conn *conn = w->conn;

    fh_xs_map_add(conn->xs, &conn->xs->watches, &w->link, hash);
    TAILQ_INSERT_TAIL(&conn->watches, w, entry);
    conn->dom->n_watches++;
    conn->dom->bytes += charge_of(w->n_path, w->n_token);
}

int
fh_xs_watch_add(struct fh_xs_conn *conn, const char *path, const char *token,
                struct fh_xs_watch **out)
{
    struct fh_xs *xs = conn->xs;
    const size_t n_token = strlen(token);
    struct fh_xs_watch *w;
    size_t n_path;
    int r;

    r = fh_xs_path_parse_watched(conn, path, strlen(path), &xs->path);
    if (r)
        return r;
    n_path = fh_xs_path_bytes(&xs->path);
    if (n_token > PAYLOAD_MAX)
        return FH_EINVAL;
    if (find(conn, &xs->path, token))
        return FH_EEXIST;
    r = check_quota(conn, charge_of(n_path, n_token));
    if (r)
        return r;
    w = fh_xs_mem_new(xs, sizeof(*w) + n_path + n_token + 2);
    if (!w)
        return FH_ENOMEM;
    w->conn = conn;
    w->id = ++xs->next_watch_id;
    w->is_relative = xs->path.is_relative;
    w->n_path = (uint32_t)n_path;
    w->n_token = (uint32_t)n_token;
    memcpy(w->path, xs->path.text, n_path);
    memcpy(w->path + n_path + 1, token, n_token);
    w->token = w->path + n_path + 1;
    link_watch(w, xs->path.hash[xs->path.n_parts]);
    *out = w;
    return 0;
}

void
fh_xs_watch_free(struct fh_xs_watch *watch)
{
    struct fh_xs_conn *conn = watch->conn;

    if (watch->overflowed)
        TAILQ_REMOVE(&conn->overflows, watch, overflow_entry);
    fh_xs_map_del(&conn->xs->watches, &watch->link);
    TAILQ_REMOVE(&conn->watches, watch, entry);
    conn->dom->n_watches--;
    conn->dom->bytes -= charge_of(watch->n_path, watch->n_token);
    fh_xs_mem_del(conn->xs, watch);
}

void
fh_xs_watch_fire_own(struct fh_xs_watch *watch)
{
    fh_xs_conn_event(watch, NULL, watch->path, watch->n_path,
                     watch->link.hash);
}

int
fh_xs_watch(struct fh_xs_conn *conn, const char *path, const char *token)
{
    struct fh_xs_watch *w;
    int r;

    if (conn->verdict)
        return FH_ENOTCONN;
    r = fh_xs_watch_add(conn, path, token, &w);
    if (r)
        return r;
    fh_xs_watch_fire_own(w);
    return 0;
}

int
fh_xs_unwatch(struct fh_xs_conn *conn, const char *path, const char *token)
{
    struct fh_xs_path *parsed = &conn->xs->path;
    struct fh_xs_watch *w;
    int r;

    if (conn->verdict)
        return FH_ENOTCONN;
    r = fh_xs_path_parse_watched(conn, path, strlen(path), parsed);
    if (r)
        return r;
    w = find(conn, parsed, token);
    if (!w)
        return FH_ENOENT;
    fh_xs_watch_free(w);
    return 0;
}

/* What the permission to hear of one change is decided from. */
struct change {
    const struct fh_xs_perms *before;
    const struct fh_xs_node *node;
    const struct fh_xs_node *parent;
};

static bool
may_hear(const struct change *change, uint16_t domid)
{
    if (domid == 0)
        return true;
    if (change->before &&
        fh_xs_perms_of(change->before, domid) & FH_XS_READ)
        return true;
    if (change->node &&
        fh_xs_perms_of(&change->node->perms, domid) & FH_XS_READ)
        return true;
    return change->parent &&
           fh_xs_perms_of(&change->parent->perms, domid) & FH_XS_READ;
}

void
fh_xs_watches_fire(struct fh_xs *xs, struct fh_xs_dom *cause,
                   const struct fh_xs_path *path, bool exact,
                   const struct fh_xs_perms *before)
{
    const uint32_t last = path->n_parts;
    const struct change change = {
        .before = before,
        .node = fh_xs_tree_find(xs, path, last),
        .parent = last ? fh_xs_tree_find(xs, path, last - 1) : NULL,
    };

    for (uint32_t i = exact ? last : 0; i <= last; i++) {
        struct fh_xs_link *next;

        for (struct fh_xs_link *l = fh_xs_map_first(&xs->watches,
                                                    path->hash[i]);
             l; l = next) {
            struct fh_xs_watch *w = FH_XS_OF(l, struct fh_xs_watch);

            next = fh_xs_map_next(l);
            if (watches_path(w, path, i) &&
                may_hear(&change, w->conn->dom->domid))
                fh_xs_conn_event(w, cause, path->text, path->end[last],
                                 path->hash[last]);
        }
    }
}

void
fh_xs_special_fire(struct fh_xs *xs, int special)
{
    const struct fh_xs_special *s = &xs->specials[special];
    const uint32_t n = (uint32_t)strlen(s->name);
    const uint64_t hash = fh_xs_hash(xs, 0, s->name, n);
    struct fh_xs_link *next;

    for (struct fh_xs_link *l = fh_xs_map_first(&xs->watches, hash); l;
         l = next) {
        struct fh_xs_watch *w = FH_XS_OF(l, struct fh_xs_watch);

        next = fh_xs_map_next(l);
        if (strcmp(w->path, s->name) == 0 &&
            fh_xs_perms_of(&s->perms, w->conn->dom->domid) & FH_XS_READ)
            fh_xs_conn_event(w, NULL, s->name, n, hash);
    }
}
