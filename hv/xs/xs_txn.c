/* SPDX-License-Identifier: MIT */
/*
 * What a request sees: the tree itself, or the overlay of a transaction.
 *
 * A transaction keeps a private copy of every node that it has looked at,
 * with the tree's generation of that node at that time (0 for an absent one).
 * It commits if none of these generations has moved, and then all its changes
 * happen at once; else it answers EAGAIN and nothing happened.  A node's
 * generation covers its data, its rights and the list of its children, so
 * that two creations in one directory conflict, as in xenstored.
 *
 * The overlay is charged to the client's domain.  When it commits, the tree's
 * nodes are charged to their owners instead, which is never more.
 */
#include <assert.h>
#include <string.h>

#include "hv/xs/xs_internal.h"

static struct fh_xs_txn *
find_txn(const struct fh_xs_conn *conn, uint32_t tx)
{
    struct fh_xs_txn *txn;

    LIST_FOREACH(txn, &conn->txns, entry)
        if (txn->id == tx)
            return txn;
    return NULL;
}

int
fh_xs_view_init(struct fh_xs_view *view, struct fh_xs_conn *conn, uint32_t tx)
{
    *view = (struct fh_xs_view){ .xs = conn->xs, .conn = conn };
    if (conn->verdict)
        return FH_ENOTCONN;
    if (tx == 0)
        return 0;
    view->txn = find_txn(conn, tx);
    return view->txn ? 0 : FH_ENOENT;
}

static void
charge(struct fh_xs_txn *txn, int64_t bytes)
{
    txn->bytes += (uint64_t)bytes;
    txn->conn->dom->bytes += (uint64_t)bytes;
}

static struct fh_xs_tnode *
find_tnode(const struct fh_xs_txn *txn, const char *text, uint32_t n,
           uint64_t hash)
{
    for (struct fh_xs_link *l = fh_xs_map_first(&txn->nodes, hash); l;
         l = fh_xs_map_next(l)) {
        struct fh_xs_tnode *t = FH_XS_OF(l, struct fh_xs_tnode);

        if (t->n_path == n && memcmp(t->path, text, n) == 0)
            return t;
    }
    return NULL;
}

static void
free_tnode(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    fh_xs_node_free(xs, t->node);
    fh_xs_perms_fini(xs, &t->before);
    fh_xs_mem_del(xs, t);
}

static int
check_txn_quota(const struct fh_xs_view *view, uint64_t bytes)
{
    const struct fh_xs_limits *limits = &view->xs->limits;

    if (fh_xs_conn_is_privileged(view->conn))
        return 0;
    if (view->txn->nodes.n >= limits->n_txn_nodes)
        return FH_ENOSPC;
    if (view->conn->dom->bytes + bytes > limits->domain_bytes)
        return FH_ENOMEM;
    return 0;
}

/* Records the first look at a node of the tree, @base, or at its absence. */
static int
look(struct fh_xs_view *view, const struct fh_xs_path *path, uint32_t depth,
     const struct fh_xs_node *base, struct fh_xs_tnode **out)
{
    const uint32_t n = path->end[depth];
    const uint64_t bytes = sizeof(struct fh_xs_tnode) + n +
                           (base ? fh_xs_node_charge(base) : 0);
    struct fh_xs_tnode *t;
    int r = check_txn_quota(view, bytes);

    if (r)
        return r;
    t = fh_xs_mem_new(view->xs, sizeof(*t) + n + 1);
    if (!t)
        return FH_ENOMEM;
    if (base) {
        t->node = fh_xs_node_copy(view->xs, base);
        if (!t->node) {
            fh_xs_mem_del(view->xs, t);
            return FH_ENOMEM;
        }
        t->node->t = t;
        t->base_gen = base->gen;
    }
    memcpy(t->path, path->text, n);
    t->n_path = n;
    fh_xs_map_add(view->xs, &view->txn->nodes, &t->link, path->hash[depth]);
    charge(view->txn, (int64_t)bytes);
    *out = t;
    return 0;
}

int
fh_xs_view_get(struct fh_xs_view *view, const struct fh_xs_path *path,
               uint32_t depth, struct fh_xs_node **out)
{
    struct fh_xs_tnode *t;
    struct fh_xs_node *base;
    int r;

    if (!view->txn) {
        *out = fh_xs_tree_find(view->xs, path, depth);
        return 0;
    }
    t = find_tnode(view->txn, path->text, path->end[depth], path->hash[depth]);
    if (!t) {
        base = fh_xs_tree_find(view->xs, path, depth);
        r = look(view, path, depth, base, &t);
        if (r)
            return r;
    }
    *out = t->node;
    return 0;
}

void
fh_xs_view_changed(struct fh_xs_view *view, struct fh_xs_node *node,
                   uint64_t charge_before)
{
    const uint64_t bytes = fh_xs_node_charge(node) - charge_before;

    if (view->txn) {
        node->t->is_changed = true;
        node->gen = ++view->xs->gen;
        charge(view->txn, (int64_t)bytes);
        return;
    }
    node->gen = ++view->xs->gen;
    fh_xs_dom_find(view->xs, node->perms.p[0].domid)->bytes += bytes;
}

void
fh_xs_view_insert(struct fh_xs_view *view, struct fh_xs_node *node,
                  uint64_t hash)
{
    struct fh_xs_tnode *t;

    if (!view->txn) {
        fh_xs_tree_link(view->xs, node, hash);
        return;
    }
    t = find_tnode(view->txn, node->path, node->n_path, hash);
    assert(t && !t->node);
    t->node = node;
    t->is_changed = true;
    node->t = t;
    node->gen = ++view->xs->gen;
    if (node->perms.p[0].domid == view->conn->dom->domid)
        view->txn->n_created++;
    charge(view->txn, (int64_t)fh_xs_node_charge(node));
}

void
fh_xs_view_remove(struct fh_xs_view *view, struct fh_xs_node *node)
{
    struct fh_xs_tnode *t = node->t;

    if (!view->txn) {
        fh_xs_tree_unlink(view->xs, node);
        return;
    }
    charge(view->txn, -(int64_t)fh_xs_node_charge(node));
    if (node->perms.p[0].domid == view->conn->dom->domid)
        view->txn->n_created--;
    if (!t->before.p) {
        t->before = node->perms;
        node->perms = (struct fh_xs_perms){ 0 };
    }
    fh_xs_node_free(view->xs, node);
    t->node = NULL;
    t->is_changed = true;
}

/* Moves a node of the tree from its owner's account to that of @perms. */
static void
swap_perms(struct fh_xs *xs, struct fh_xs_node *node, struct fh_xs_perms *perms)
{
    struct fh_xs_dom *from = fh_xs_dom_find(xs, node->perms.p[0].domid);
    struct fh_xs_dom *to = fh_xs_dom_find(xs, perms->p[0].domid);
    const struct fh_xs_perms old = node->perms;

    from->n_nodes--;
    from->bytes -= fh_xs_node_charge(node);
    node->perms = *perms;
    *perms = old;
    to->n_nodes++;
    to->bytes += fh_xs_node_charge(node);
}

void
fh_xs_view_set_perms(struct fh_xs_view *view, struct fh_xs_node *node,
                     struct fh_xs_perms *perms)
{
    const uint64_t charge_before = fh_xs_node_charge(node);
    const struct fh_xs_perms old = node->perms;

    if (!view->txn) {
        swap_perms(view->xs, node, perms);
        node->gen = ++view->xs->gen;
        return;
    }
    node->perms = *perms;
    *perms = old;
    fh_xs_view_changed(view, node, charge_before);
    if (!node->t->before.p) {
        node->t->before = old;
        *perms = (struct fh_xs_perms){ 0 };
    }
}

int
fh_xs_view_check_quota(const struct fh_xs_view *view, uint16_t owner,
                       uint64_t n_nodes, uint64_t bytes)
{
    const struct fh_xs_limits *limits = &view->xs->limits;
    const struct fh_xs_dom *dom = view->conn->dom;
    const struct fh_xs_dom *payer = dom;
    int64_t own = dom->n_nodes + (int64_t)n_nodes;

    if (fh_xs_conn_is_privileged(view->conn))
        return 0;
    if (view->txn)
        own += view->txn->n_created;
    else if (owner != dom->domid)
        payer = fh_xs_dom_find(view->xs, owner);
    if (n_nodes && own > (int64_t)limits->n_nodes)
        return FH_ENOSPC;
    if (payer && payer->domid && payer->bytes + bytes > limits->domain_bytes)
        return FH_ENOMEM;
    return 0;
}

void
fh_xs_view_fire(struct fh_xs_view *view, const struct fh_xs_path *path,
                bool exact, const struct fh_xs_perms *before)
{
    const bool privileged = fh_xs_conn_is_privileged(view->conn);
    struct fh_xs_tnode *t;

    if (!view->txn) {
        fh_xs_watches_fire(view->xs, privileged ? NULL : view->conn->dom, path,
                           exact, before);
        return;
    }
    t = find_tnode(view->txn, path->text, fh_xs_path_bytes(path),
                   path->hash[path->n_parts]);
    assert(t);
    if (!t->fires)
        STAILQ_INSERT_TAIL(&view->txn->fires, t, fire_entry);
    t->fires_exact = t->fires ? t->fires_exact && exact : exact;
    t->fires = true;
}

void
fh_xs_view_spoil(struct fh_xs_view *view, int why)
{
    if (view->txn)
        view->txn->failed = why;
}

/* ---- the end of a transaction ---------------------------------------- */

/* Visits the nodes of a transaction until @visit returns nonzero. */
static int
for_each(struct fh_xs_txn *txn,
         int (*visit)(struct fh_xs *xs, struct fh_xs_tnode *t))
{
    struct fh_xs *xs = txn->conn->xs;

    for (size_t i = 0; i < txn->nodes.n_buckets; i++) {
        struct fh_xs_link *next;

        for (struct fh_xs_link *l = txn->nodes.buckets[i]; l; l = next) {
            int r;

            next = l->next;
            r = visit(xs, FH_XS_OF(l, struct fh_xs_tnode));
            if (r)
                return r;
        }
    }
    return 0;
}

static struct fh_xs_node *
base_of(const struct fh_xs *xs, const struct fh_xs_tnode *t)
{
    return fh_xs_tree_find_text(xs, t->path, t->n_path, t->link.hash);
}

static int
check_unmoved(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    const struct fh_xs_node *base = base_of(xs, t);

    return (base ? base->gen : 0) == t->base_gen ? 0 : FH_EAGAIN;
}

static int
prepare_owner(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    if (!t->is_changed || !t->node)
        return 0;
    return fh_xs_dom_get(xs, t->node->perms.p[0].domid) ? 0 : FH_ENOMEM;
}

static int
apply_change(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    struct fh_xs_node *base;

    if (!t->is_changed || !t->node)
        return 0;
    base = base_of(xs, t);
    fh_xs_tree_link(xs, t->node, t->link.hash);
    t->node = NULL;
    if (base)
        fh_xs_tree_unlink(xs, base);
    return 0;
}

static int
apply_removal(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    struct fh_xs_node *base = base_of(xs, t);

    /* A changed node without a copy was removed; or it was put into the tree
     * above, and then its generation is newer than the look at it. */
    if (t->is_changed && base && base->gen == t->base_gen)
        fh_xs_tree_unlink(xs, base);
    return 0;
}

static int
check_commit(struct fh_xs_txn *txn)
{
    const struct fh_xs_dom *dom = txn->conn->dom;
    int r;

    if (txn->failed)
        return txn->failed;
    r = for_each(txn, check_unmoved);
    if (r)
        return r;
    if (!fh_xs_conn_is_privileged(txn->conn) && txn->n_created > 0 &&
        dom->n_nodes + txn->n_created >
            (int64_t)txn->conn->xs->limits.n_nodes)
        return FH_ENOSPC;
    return for_each(txn, prepare_owner);
}

static void
fire_all(struct fh_xs_txn *txn)
{
    struct fh_xs_conn *conn = txn->conn;
    struct fh_xs *xs = conn->xs;
    struct fh_xs_dom *cause =
        fh_xs_conn_is_privileged(conn) ? NULL : conn->dom;
    struct fh_xs_tnode *t;

    STAILQ_FOREACH(t, &txn->fires, fire_entry) {
        fh_xs_path_load(xs, t->path, t->n_path, &xs->path2);
        fh_xs_watches_fire(xs, cause, &xs->path2, t->fires_exact,
                           t->before.p ? &t->before : NULL);
    }
}

static int
commit(struct fh_xs_txn *txn)
{
    int r = check_commit(txn);

    if (r)
        return r;
    (void)for_each(txn, apply_change);
    (void)for_each(txn, apply_removal);
    fire_all(txn);
    return 0;
}

static int
discard(struct fh_xs *xs, struct fh_xs_tnode *t)
{
    free_tnode(xs, t);
    return 0;
}

void
fh_xs_txn_free(struct fh_xs_txn *txn)
{
    struct fh_xs_conn *conn = txn->conn;

    (void)for_each(txn, discard);
    fh_xs_map_fini(conn->xs, &txn->nodes);
    conn->dom->bytes -= txn->bytes;
    conn->dom->n_txns--;
    LIST_REMOVE(txn, entry);
    fh_xs_mem_del(conn->xs, txn);
}

static uint32_t
next_id(struct fh_xs_conn *conn)
{
    do
        conn->next_tx++;
    while (conn->next_tx == 0 || find_txn(conn, conn->next_tx));
    return conn->next_tx;
}

int
fh_xs_transaction_start(struct fh_xs_conn *conn, uint32_t *tx)
{
    struct fh_xs_txn *txn;

    if (conn->verdict)
        return FH_ENOTCONN;
    if (!fh_xs_conn_is_privileged(conn) &&
        conn->dom->n_txns >= conn->xs->limits.n_transactions)
        return FH_ENOSPC;
    txn = fh_xs_mem_new(conn->xs, sizeof(*txn));
    if (!txn)
        return FH_ENOMEM;
    if (fh_xs_map_init(conn->xs, &txn->nodes)) {
        fh_xs_mem_del(conn->xs, txn);
        return FH_ENOMEM;
    }
    STAILQ_INIT(&txn->fires);
    txn->conn = conn;
    txn->id = next_id(conn);
    LIST_INSERT_HEAD(&conn->txns, txn, entry);
    conn->dom->n_txns++;
    *tx = txn->id;
    return 0;
}

int
fh_xs_transaction_end(struct fh_xs_conn *conn, uint32_t tx, bool do_commit)
{
    struct fh_xs_view view;
    int r = fh_xs_view_init(&view, conn, tx);

    if (r)
        return r;
    if (!view.txn)
        return FH_ENOENT;
    r = do_commit ? commit(view.txn) : 0;
    fh_xs_txn_free(view.txn);
    return r;
}
