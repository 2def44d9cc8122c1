/* SPDX-License-Identifier: MIT */
/*
 * One node: its contents and the list of its children's names.
 *
 * The names lie one after the other, each with its NUL, in the order of
 * creation: that is what the wire's directory is made of.  Only names that
 * the map of paths has lack of are added, so the list holds no name twice.
 */
#include <string.h>

#include "hv/xs/xs_internal.h"

struct fh_xs_node *
fh_xs_node_new(struct fh_xs *xs, const struct fh_xs_path *path, uint32_t depth)
{
    const uint32_t n = path->end[depth];
    struct fh_xs_node *node = fh_xs_mem_new(xs, sizeof(*node) + n + 1);

    if (!node)
        return NULL;
    memcpy(node->path, path->text, n);
    node->n_path = n;
    return node;
}

struct fh_xs_node *
fh_xs_node_copy(struct fh_xs *xs, const struct fh_xs_node *from)
{
    struct fh_xs_node *node =
        fh_xs_mem_new(xs, sizeof(*node) + from->n_path + 1);

    if (!node)
        return NULL;
    memcpy(node->path, from->path, from->n_path);
    node->n_path = from->n_path;
    node->gen = from->gen;
    node->data = fh_xs_mem_dup(xs, from->data, from->n_data);
    node->children = fh_xs_mem_dup(xs, from->children, from->n_children);
    if (fh_xs_perms_copy(xs, &from->perms, &node->perms) || !node->data ||
        !node->children) {
        fh_xs_node_free(xs, node);
        return NULL;
    }
    node->n_data = from->n_data;
    node->n_children = from->n_children;
    node->children_cap = from->n_children;
    return node;
}

void
fh_xs_node_free(struct fh_xs *xs, struct fh_xs_node *node)
{
    if (!node)
        return;
    fh_xs_perms_fini(xs, &node->perms);
    fh_xs_mem_del(xs, node->data);
    fh_xs_mem_del(xs, node->children);
    fh_xs_mem_del(xs, node);
}

uint64_t
fh_xs_node_charge(const struct fh_xs_node *node)
{
    return sizeof(*node) + node->n_path +
           node->perms.n * sizeof(struct fh_xs_perm) + node->n_data +
           node->n_children;
}

uint64_t
fh_xs_node_size(const struct fh_xs_node *node)
{
    return FH_XS_NODE_HEADER_BYTES +
           (uint64_t)node->perms.n * FH_XS_NODE_PERM_BYTES + node->n_data +
           node->n_children;
}

int
fh_xs_node_reserve_child(struct fh_xs *xs, struct fh_xs_node *node,
                         uint32_t n_name)
{
    const uint32_t need = node->n_children + n_name + 1;
    char *bigger;

    if (need <= node->children_cap)
        return 0;
    bigger = fh_xs_mem_new(xs, (size_t)need * 2);
    if (!bigger)
        return FH_ENOMEM;
    if (node->n_children)
        memcpy(bigger, node->children, node->n_children);
    fh_xs_mem_del(xs, node->children);
    node->children = bigger;
    node->children_cap = need * 2;
    return 0;
}

void
fh_xs_node_add_child(struct fh_xs_node *node, const char *name, uint32_t n_name)
{
    memcpy(node->children + node->n_children, name, n_name);
    node->children[node->n_children + n_name] = '\0';
    node->n_children += n_name + 1;
}

void
fh_xs_node_del_child(struct fh_xs_node *node, const char *name, uint32_t n_name)
{
    uint32_t at = 0;

    while (at < node->n_children) {
        const uint32_t n = (uint32_t)strlen(node->children + at);

        if (n == n_name && memcmp(node->children + at, name, n) == 0) {
            memmove(node->children + at, node->children + at + n + 1,
                    node->n_children - at - n - 1);
            node->n_children -= n + 1;
            return;
        }
        at += n + 1;
    }
}

const char *
fh_xs_node_last_child(const struct fh_xs_node *node)
{
    uint32_t at = node->n_children - 1;

    while (at > 0 && node->children[at - 1])
        at--;
    return node->children + at;
}
