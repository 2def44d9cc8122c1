/* SPDX-License-Identifier: MIT */
/*
 * The server's predicate: what holds between any two calls.  For tests and
 * fuzzing; slow.
 */
#include <string.h>

#include "hv/xs/xs_internal.h"

/* How often @node lists @name. */
static unsigned
count_child(const struct fh_xs_node *node, const char *name, uint32_t n_name)
{
    unsigned n = 0;

    for (uint32_t at = 0; at < node->n_children;
         at += (uint32_t)strlen(node->children + at) + 1)
        n += strlen(node->children + at) == n_name &&
             memcmp(node->children + at, name, n_name) == 0;
    return n;
}

/* @path is that of @node. */
static const char *
check_children(struct fh_xs *xs, const struct fh_xs_node *node,
               struct fh_xs_path *path)
{
    uint32_t at = 0;

    while (at < node->n_children) {
        const char *name = node->children + at;
        bool exists;

        fh_xs_path_push(xs, path, name);
        exists = fh_xs_tree_find(xs, path, path->n_parts) != NULL;
        fh_xs_path_pop(path);
        if (!exists)
            return "a listed child exists";
        at += (uint32_t)strlen(name) + 1;
    }
    return at == node->n_children ? NULL : "the list of children ends in a NUL";
}

static const char *
check_node(struct fh_xs *xs, const struct fh_xs_node *node)
{
    struct fh_xs_path *path = &xs->path2;
    const struct fh_xs_node *parent;
    const char *name;
    uint32_t n_name;

    if (node->t || node->gen == 0 || node->gen > xs->gen || !node->perms.n)
        return "a node is the tree's, of a known generation, owned";
    if (!fh_xs_dom_find(xs, node->perms.p[0].domid))
        return "an owner has a record";
    fh_xs_path_load(xs, node->path, node->n_path, path);
    if (path->hash[path->n_parts] != node->link.hash)
        return "a node is filed under its path's hash";
    if (path->n_parts) {
        parent = fh_xs_tree_find(xs, path, path->n_parts - 1);
        name = fh_xs_path_part(path, path->n_parts, &n_name);
        if (!parent || count_child(parent, name, n_name) != 1)
            return "a node is listed once by its parent";
    }
    return check_children(xs, node, path);
}

static const char *
check_conn(const struct fh_xs_conn *conn)
{
    const struct fh_xs_msg *msg;
    uint32_t n_events = 0;
    uint32_t n_replies = 0;
    uint64_t reply_bytes = 0;

    STAILQ_FOREACH(msg, &conn->out, entry) {
        n_events += msg->watch_id != 0;
        n_replies += msg->watch_id == 0;
        reply_bytes += msg->watch_id ? 0 : msg->n;
    }
    if (n_events != conn->n_events || n_replies != conn->n_replies ||
        reply_bytes != conn->reply_bytes)
        return "a connection counts its messages";
    if (n_events > (conn->dom->domid ? conn->xs->limits.n_events
                                     : conn->xs->limits.n_events_priv))
        return "untaken events are bounded";
    return NULL;
}

/* What @conn adds to its domain's account and, by its events, to @dom's. */
static void
add_conn(const struct fh_xs_conn *conn, const struct fh_xs_dom *dom,
         struct fh_xs_dom *sum)
{
    const struct fh_xs_watch *watch;
    const struct fh_xs_txn *txn;
    const struct fh_xs_msg *msg;
    const bool is_own = conn->dom == dom;

    STAILQ_FOREACH(msg, &conn->out, entry) {
        sum->n_caused += msg->cause == dom;
        sum->bytes += is_own && msg->watch_id ? msg->n : 0;
    }
    if (!is_own)
        return;
    sum->n_conns++;
    TAILQ_FOREACH(watch, &conn->watches, entry) {
        sum->n_watches++;
        sum->bytes += sizeof(*watch) + watch->n_path + watch->n_token + 2;
    }
    LIST_FOREACH(txn, &conn->txns, entry) {
        sum->n_txns++;
        sum->bytes += txn->bytes;
    }
}

static void
add_nodes(const struct fh_xs *xs, const struct fh_xs_dom *dom,
          struct fh_xs_dom *sum)
{
    for (size_t i = 0; i < xs->nodes.n_buckets; i++) {
        for (struct fh_xs_link *l = xs->nodes.buckets[i]; l; l = l->next) {
            const struct fh_xs_node *node = FH_XS_OF(l, struct fh_xs_node);

            if (node->perms.p[0].domid != dom->domid)
                continue;
            sum->n_nodes++;
            sum->bytes += fh_xs_node_charge(node);
        }
    }
}

static const char *
check_dom(const struct fh_xs *xs, const struct fh_xs_dom *dom)
{
    struct fh_xs_dom sum = { 0 };
    const struct fh_xs_conn *conn;

    add_nodes(xs, dom, &sum);
    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++)
        for (const struct fh_xs_dom *d = xs->doms[i]; d; d = d->next)
            LIST_FOREACH(conn, &d->conns, entry)
                add_conn(conn, dom, &sum);
    if (sum.n_nodes != dom->n_nodes || sum.n_watches != dom->n_watches ||
        sum.n_txns != dom->n_txns || sum.n_conns != dom->n_conns ||
        sum.n_caused != dom->n_caused || sum.bytes != dom->bytes)
        return "a domain's account is what it owns";
    return NULL;
}

static const char *
check_nodes(struct fh_xs *xs)
{
    size_t n = 0;

    for (size_t i = 0; i < xs->nodes.n_buckets; i++) {
        for (struct fh_xs_link *l = xs->nodes.buckets[i]; l; l = l->next) {
            const char *broken = check_node(xs, FH_XS_OF(l, struct fh_xs_node));

            if (broken)
                return broken;
            n++;
        }
    }
    return n == xs->nodes.n ? NULL : "the map counts its nodes";
}

const char *
fh_xs_broken(struct fh_xs *xs)
{
    const struct fh_xs_conn *conn;
    const char *broken = check_nodes(xs);

    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++) {
        for (const struct fh_xs_dom *d = xs->doms[i]; d; d = d->next) {
            broken = broken ? broken : check_dom(xs, d);
            LIST_FOREACH(conn, &d->conns, entry)
                broken = broken ? broken : check_conn(conn);
        }
    }
    return broken;
}
