/* SPDX-License-Identifier: MIT */
/*
 * The server as a whole: its birth with the first nodes, its end, its counts.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "hv/xs/xs_internal.h"

struct fh_xs_limits
fh_xs_limits_default(void)
{
    return (struct fh_xs_limits){
        .n_nodes = 1000,
        .n_watches = 128,
        .n_transactions = 10,
        .n_txn_nodes = 1024,
        .n_perms = 5,
        .n_outstanding = 20,
        .node_bytes = 2048,
        .domain_bytes = 2560 * 1024,
        .path_rel_bytes = 2048,
        .path_abs_bytes = 3072,
        .n_conns = 64,
        .n_events = 256,
        .n_events_priv = 16384,
    };
}

static int
seed(struct fh_xs *xs)
{
    if (xs->limits.hash_seed) {
        xs->key[0] = xs->limits.hash_seed;
        xs->key[1] = xs->limits.hash_seed * 0x9e3779b97f4a7c15ull;
        return 0;
    }
    return getrandom(xs->key, sizeof(xs->key), 0) == sizeof(xs->key)
               ? 0
               : FH_EIO;
}

/* "/" is the one node that nothing creates. */
static int
make_root(struct fh_xs *xs)
{
    struct fh_xs_node *root;

    fh_xs_path_load(xs, "/", 1, &xs->path);
    root = fh_xs_node_new(xs, &xs->path, 0);
    if (!root)
        return FH_ENOMEM;
    root->data = fh_xs_mem_dup(xs, "", 0);
    root->perms.p = fh_xs_mem_new(xs, sizeof(root->perms.p[0]));
    if (!root->data || !root->perms.p) {
        fh_xs_node_free(xs, root);
        return FH_ENOMEM;
    }
    root->perms.n = 1;
    fh_xs_tree_link(xs, root, xs->path.hash[0]);
    return fh_xs_mkdir(xs->self, 0, "/tool/xenstored");
}

static int
init(struct fh_xs *xs)
{
    int r;

    r = seed(xs);
    if (r)
        return r;
    if (fh_xs_map_init(xs, &xs->nodes) || fh_xs_map_init(xs, &xs->watches) ||
        fh_xs_map_init(xs, &xs->events))
        return FH_ENOMEM;
    r = fh_xs_specials_init(xs);
    if (r)
        return r;
    r = fh_xs_conn_new(xs, 0, NULL, &xs->self);
    if (r)
        return r;
    xs->self->is_internal = true;
    xs->self->dom->introduced = true;
    return make_root(xs);
}

struct fh_xs *
fh_xs_new(const struct fh_xs_limits *limits, const struct fh_xs_ops *ops)
{
    return fh_xs_new_failing(limits, ops, 0);
}

struct fh_xs *
fh_xs_new_failing(const struct fh_xs_limits *limits,
                  const struct fh_xs_ops *ops, uint64_t fail_alloc_in)
{
    struct fh_xs *xs = calloc(1, sizeof(*xs));

    if (!xs)
        return NULL;
    xs->fail_alloc_in = fail_alloc_in;
    TAILQ_INIT(&xs->run_queue);
    xs->limits = limits ? *limits : fh_xs_limits_default();
    if (init(xs)) {
        fh_xs_free(xs);
        return NULL;
    }
    if (ops)
        xs->ops = *ops;
    return xs;
}

/* No request runs any more, whatever waits. */
static void
kill_conns(struct fh_xs *xs)
{
    struct fh_xs_conn *conn;

    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++)
        for (struct fh_xs_dom *dom = xs->doms[i]; dom; dom = dom->next)
            LIST_FOREACH(conn, &dom->conns, entry)
                fh_xs_conn_kill(conn, FH_ENOTCONN);
}

static void
free_conns(struct fh_xs *xs)
{
    kill_conns(xs);
    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++) {
        struct fh_xs_dom *next;

        for (struct fh_xs_dom *dom = xs->doms[i]; dom; dom = next) {
            struct fh_xs_conn *conn;

            next = dom->next;
            dom->introduced = true; /* stays until it has no connection */
            while ((conn = LIST_FIRST(&dom->conns)))
                fh_xs_conn_free(conn);
        }
    }
}

void
fh_xs_free(struct fh_xs *xs)
{
    if (!xs)
        return;
    xs->ops = (struct fh_xs_ops){ 0 };
    free_conns(xs);
    fh_xs_tree_fini(xs);
    fh_xs_map_fini(xs, &xs->watches);
    fh_xs_map_fini(xs, &xs->events);
    for (int i = 0; i < FH_XS_N_SPECIALS; i++)
        fh_xs_perms_fini(xs, &xs->specials[i].perms);
    fh_xs_doms_fini(xs);
    assert(xs->n_allocs == 0);
    free(xs);
}

static void
add_domain(const struct fh_xs_dom *dom, struct fh_xs_stats *out)
{
    const struct fh_xs_conn *conn;

    LIST_FOREACH(conn, &dom->conns, entry) {
        out->n_conns += !conn->is_internal;
        out->n_events += conn->n_events;
    }
    out->n_nodes += dom->n_nodes;
    out->n_watches += dom->n_watches;
    out->n_transactions += dom->n_txns;
    out->bytes += dom->bytes;
}

void
fh_xs_stats(const struct fh_xs *xs, int32_t domid, struct fh_xs_stats *out)
{
    *out = (struct fh_xs_stats){ 0 };
    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++) {
        for (const struct fh_xs_dom *dom = xs->doms[i]; dom; dom = dom->next) {
            if (domid == -1 || dom->domid == domid)
                add_domain(dom, out);
            if (domid == -1)
                out->n_domains += dom->introduced;
        }
    }
    if (domid == -1)
        out->n_allocs = xs->n_allocs;
}
