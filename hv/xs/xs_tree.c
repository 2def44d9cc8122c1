/* SPDX-License-Identifier: MIT */
/*
 * Making and removing nodes, in the tree or in a transaction.
 *
 * All that can fail comes first: a creation allocates the whole chain of
 * missing ancestors before it links the first.  A removal works through its
 * subtree from the last leaf, always cutting the end of its parent's list of
 * names, so that it needs neither recursion nor memory.  In a transaction
 * looking at a node may fail in the middle; that spoils the transaction.
 */
#include <string.h>

#include "hv/xs/xs_internal.h"

struct fh_xs_node *
fh_xs_tree_find_text(const struct fh_xs *xs, const char *text, uint32_t n,
                     uint64_t hash)
{
    for (struct fh_xs_link *l = fh_xs_map_first(&xs->nodes, hash); l;
         l = fh_xs_map_next(l)) {
        struct fh_xs_node *node = FH_XS_OF(l, struct fh_xs_node);

        if (node->n_path == n && memcmp(node->path, text, n) == 0)
            return node;
    }
    return NULL;
}

struct fh_xs_node *
fh_xs_tree_find(const struct fh_xs *xs, const struct fh_xs_path *path,
                uint32_t depth)
{
    return fh_xs_tree_find_text(xs, path->text, path->end[depth],
                                path->hash[depth]);
}

void
fh_xs_tree_link(struct fh_xs *xs, struct fh_xs_node *node, uint64_t hash)
{
    struct fh_xs_dom *owner = fh_xs_dom_find(xs, node->perms.p[0].domid);

    node->t = NULL;
    node->gen = ++xs->gen;
    owner->n_nodes++;
    owner->bytes += fh_xs_node_charge(node);
    fh_xs_map_add(xs, &xs->nodes, &node->link, hash);
}

void
fh_xs_tree_unlink(struct fh_xs *xs, struct fh_xs_node *node)
{
    struct fh_xs_dom *owner = fh_xs_dom_find(xs, node->perms.p[0].domid);

    xs->gen++;
    owner->n_nodes--;
    owner->bytes -= fh_xs_node_charge(node);
    fh_xs_map_del(&xs->nodes, &node->link);
    fh_xs_node_free(xs, node);
}

void
fh_xs_tree_fini(struct fh_xs *xs)
{
    for (size_t i = 0; i < xs->nodes.n_buckets; i++) {
        struct fh_xs_link *next;

        for (struct fh_xs_link *l = xs->nodes.buckets[i]; l; l = next) {
            next = l->next;
            fh_xs_node_free(xs, FH_XS_OF(l, struct fh_xs_node));
        }
    }
    fh_xs_map_fini(xs, &xs->nodes);
}

/* A creation in the making: new nodes by their link, the deepest first. */
struct chain {
    struct fh_xs_node *ancestor;
    uint32_t depth; /* of the ancestor */
    uint16_t owner;
    uint64_t bytes;
    struct fh_xs_link *head;
};

static void
chain_free(struct fh_xs *xs, struct chain *chain)
{
    while (chain->head) {
        struct fh_xs_link *l = chain->head;

        chain->head = l->next;
        fh_xs_node_free(xs, FH_XS_OF(l, struct fh_xs_node));
    }
}

static int
find_ancestor(struct fh_xs_view *view, const struct fh_xs_path *path,
              struct chain *chain)
{
    chain->depth = path->n_parts;
    do {
        int r = fh_xs_view_get(view, path, --chain->depth, &chain->ancestor);

        if (r)
            return r;
    } while (!chain->ancestor); /* "/" always exists */
    return 0;
}

/* The contents of the new node at @depth: the data, or one child's name. */
static int
fill(struct fh_xs *xs, struct fh_xs_node *node, const struct fh_xs_path *path,
     uint32_t depth, const void *data, size_t n)
{
    uint32_t n_name = 0;
    const char *name;
    int r;

    node->data = fh_xs_mem_dup(xs, data, depth == path->n_parts ? n : 0);
    if (!node->data)
        return FH_ENOMEM;
    if (depth == path->n_parts) {
        node->n_data = (uint32_t)n;
        return 0;
    }
    name = fh_xs_path_part(path, depth + 1, &n_name);
    r = fh_xs_node_reserve_child(xs, node, n_name);
    if (r)
        return r;
    fh_xs_node_add_child(node, name, n_name);
    return 0;
}

static int
chain_add(struct fh_xs_view *view, struct chain *chain,
          const struct fh_xs_path *path, uint32_t depth, const void *data,
          size_t n)
{
    struct fh_xs *xs = view->xs;
    struct fh_xs_node *node = fh_xs_node_new(xs, path, depth);
    int r;

    if (!node)
        return FH_ENOMEM;
    node->link.next = chain->head;
    node->link.hash = path->hash[depth];
    chain->head = &node->link;
    r = fh_xs_perms_copy(xs, &chain->ancestor->perms, &node->perms);
    if (r)
        return r;
    node->perms.p[0].domid = chain->owner;
    r = fill(xs, node, path, depth, data, n);
    if (r)
        return r;
    chain->bytes += fh_xs_node_charge(node);
    if (!fh_xs_conn_is_privileged(view->conn) &&
        fh_xs_node_size(node) >= xs->limits.node_bytes)
        return FH_ENOSPC;
    return 0;
}

static int
chain_build(struct fh_xs_view *view, struct chain *chain,
            const struct fh_xs_path *path, const void *data, size_t n)
{
    struct fh_xs *xs = view->xs;
    const bool privileged = fh_xs_conn_is_privileged(view->conn);
    uint32_t n_name = 0;
    int r;

    for (uint32_t d = chain->depth + 1; d <= path->n_parts; d++) {
        r = chain_add(view, chain, path, d, data, n);
        if (r)
            return r;
    }
    (void)fh_xs_path_part(path, chain->depth + 1, &n_name);
    if (!privileged && fh_xs_node_size(chain->ancestor) + n_name + 1 >=
                           xs->limits.node_bytes)
        return FH_ENOSPC;
    r = fh_xs_view_check_quota(view, chain->owner,
                               path->n_parts - chain->depth, chain->bytes);
    if (r)
        return r;
    if (!fh_xs_dom_get(xs, chain->owner))
        return FH_ENOMEM;
    return fh_xs_node_reserve_child(xs, chain->ancestor, n_name);
}

int
fh_xs_tree_create(struct fh_xs_view *view, const struct fh_xs_path *path,
                  const void *data, size_t n)
{
    struct chain chain = { 0 };
    uint64_t charge;
    uint32_t n_name;
    const char *name;
    int r;

    r = find_ancestor(view, path, &chain);
    if (r)
        return r;
    /* What a domain makes is its own; what domain 0 makes, the parent's
     * owner's. */
    chain.owner = fh_xs_conn_is_privileged(view->conn)
                      ? chain.ancestor->perms.p[0].domid
                      : view->conn->dom->domid;
    r = chain_build(view, &chain, path, data, n);
    if (r) {
        chain_free(view->xs, &chain);
        return r;
    }
    while (chain.head) {
        struct fh_xs_link *l = chain.head;

        chain.head = l->next;
        fh_xs_view_insert(view, FH_XS_OF(l, struct fh_xs_node), l->hash);
    }
    charge = fh_xs_node_charge(chain.ancestor);
    name = fh_xs_path_part(path, chain.depth + 1, &n_name);
    fh_xs_node_add_child(chain.ancestor, name, n_name);
    fh_xs_view_changed(view, chain.ancestor, charge);
    return 0;
}

/* Cuts the last name, of @n bytes, off the list of the node at @path. */
static int
cut_last_child(struct fh_xs_view *view, const struct fh_xs_path *path,
               uint32_t n)
{
    struct fh_xs_node *node;
    uint64_t charge;
    int r = fh_xs_view_get(view, path, path->n_parts, &node);

    if (r)
        return r;
    charge = fh_xs_node_charge(node);
    node->n_children -= n + 1;
    fh_xs_view_changed(view, node, charge);
    return 0;
}

/* Removes the leaf at @path and goes up to its parent. */
static int
remove_leaf(struct fh_xs_view *view, struct fh_xs_path *path,
            struct fh_xs_node *node)
{
    uint32_t n_name;

    if (node) {
        fh_xs_view_fire(view, path, true, NULL);
        fh_xs_view_remove(view, node);
    }
    (void)fh_xs_path_part(path, path->n_parts, &n_name);
    fh_xs_path_pop(path);
    return cut_last_child(view, path, n_name);
}

/* Everything below @path, which stays. */
static int
remove_below(struct fh_xs_view *view, struct fh_xs_path *path)
{
    const uint32_t top = path->n_parts;

    for (;;) {
        struct fh_xs_node *node;
        int r = fh_xs_view_get(view, path, path->n_parts, &node);

        if (r)
            return r;
        if (node && node->n_children) {
            fh_xs_path_push(view->xs, path, fh_xs_node_last_child(node));
            continue;
        }
        if (path->n_parts == top)
            return 0;
        /* No node: a transaction sees its parent as of before somebody's
         * removal.  It will not commit; here the name is just dropped. */
        r = remove_leaf(view, path, node);
        if (r)
            return r;
    }
}

int
fh_xs_tree_remove(struct fh_xs_view *view, struct fh_xs_path *path,
                  struct fh_xs_node *node)
{
    struct fh_xs_node *parent;
    const char *name;
    uint64_t charge;
    uint32_t n_name;
    int r;

    r = fh_xs_view_get(view, path, path->n_parts - 1, &parent);
    if (r)
        return r;
    if (!parent) /* as above: only in a transaction that cannot commit */
        return FH_ENOENT;
    fh_xs_view_fire(view, path, false, NULL);
    r = remove_below(view, path);
    if (r) {
        fh_xs_view_spoil(view, r);
        return r;
    }
    fh_xs_view_remove(view, node);
    charge = fh_xs_node_charge(parent);
    name = fh_xs_path_part(path, path->n_parts, &n_name);
    fh_xs_node_del_child(parent, name, n_name);
    fh_xs_view_changed(view, parent, charge);
    return 0;
}
