/* SPDX-License-Identifier: MIT */
/*
 * The operations, as direct calls; the wire's requests end here too.
 *
 * A caller without the right to a node is told EACCES.  That a node does not
 * exist is told only to those who have the right in question to the nearest
 * ancestor that does: nobody can probe a tree that he may not read.
 */
#include <string.h>

#include "hv/xs/xs_internal.h"

static bool
is_allowed(const struct fh_xs_view *view, const struct fh_xs_node *node,
           unsigned rights)
{
    const unsigned has = fh_xs_perms_of(&node->perms, view->conn->dom->domid);

    return (has & rights) == rights;
}

/* What to tell about a node that is absent or not allowed. */
static int
refusal(struct fh_xs_view *view, const struct fh_xs_path *path,
        unsigned rights, int why)
{
    struct fh_xs_node *ancestor = NULL;
    uint32_t depth = path->n_parts;

    while (depth > 0 && !ancestor) {
        int r = fh_xs_view_get(view, path, --depth, &ancestor);

        if (r)
            return r;
    }
    return ancestor && is_allowed(view, ancestor, rights) ? why : FH_EACCES;
}

static int
get_allowed(struct fh_xs_view *view, const struct fh_xs_path *path,
            unsigned rights, struct fh_xs_node **out)
{
    struct fh_xs_node *node;
    int r = fh_xs_view_get(view, path, path->n_parts, &node);

    if (r)
        return r;
    if (!node)
        return refusal(view, path, rights, FH_ENOENT);
    if (!is_allowed(view, node, rights))
        return refusal(view, path, rights, FH_EACCES);
    *out = node;
    return 0;
}

/* What every operation on a node starts with. */
static int
begin(struct fh_xs_view *view, struct fh_xs_conn *conn, uint32_t tx,
      const char *path)
{
    int r = fh_xs_view_init(view, conn, tx);

    if (r)
        return r;
    return fh_xs_path_parse(conn, path, strlen(path), &conn->xs->path);
}

int
fh_xs_op_node(struct fh_xs_conn *conn, uint32_t tx, const char *path,
              unsigned rights, struct fh_xs_node **out)
{
    struct fh_xs_view view;
    int r = begin(&view, conn, tx, path);

    return r ? r : get_allowed(&view, &conn->xs->path, rights, out);
}

static int
copy_out(const void *from, size_t n_from, void *buf, size_t size, size_t *n)
{
    *n = n_from;
    if (!buf || size < n_from)
        return FH_ERANGE;
    memcpy(buf, from, n_from);
    return 0;
}

int
fh_xs_read(struct fh_xs_conn *conn, uint32_t tx, const char *path, void *buf,
           size_t size, size_t *n)
{
    struct fh_xs_node *node;
    int r = fh_xs_op_node(conn, tx, path, FH_XS_READ, &node);

    return r ? r : copy_out(node->data, node->n_data, buf, size, n);
}

int
fh_xs_directory(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                char *buf, size_t size, size_t *n)
{
    struct fh_xs_node *node;
    int r = fh_xs_op_node(conn, tx, path, FH_XS_READ, &node);

    return r ? r : copy_out(node->children, node->n_children, buf, size, n);
}

int
fh_xs_op_format_perms(const struct fh_xs_perms *perms, char *buf, size_t size,
                      size_t *n)
{
    size_t at = 0;

    for (uint32_t i = 0; i < perms->n; i++) {
        char word[8];
        const size_t n_word = fh_xs_perm_format(&perms->p[i], word);

        if (buf && at + n_word <= size)
            memcpy(buf + at, word, n_word);
        at += n_word;
    }
    *n = at;
    return buf && at <= size ? 0 : FH_ERANGE;
}

int
fh_xs_get_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                char *buf, size_t size, size_t *n)
{
    struct fh_xs_node *node;
    int r = fh_xs_op_node(conn, tx, path, FH_XS_READ, &node);

    return r ? r : fh_xs_op_format_perms(&node->perms, buf, size, n);
}

/* Gives an existing node new data. */
static int
overwrite(struct fh_xs_view *view, struct fh_xs_node *node, const void *data,
          size_t n)
{
    struct fh_xs *xs = view->xs;
    const uint64_t charge = fh_xs_node_charge(node);
    const uint64_t growth = n > node->n_data ? n - node->n_data : 0;
    char *copy;
    int r;

    if (!fh_xs_conn_is_privileged(view->conn) &&
        fh_xs_node_size(node) - node->n_data + n >= xs->limits.node_bytes)
        return FH_ENOSPC;
    r = growth ? fh_xs_view_check_quota(view, node->perms.p[0].domid, 0, growth)
               : 0;
    if (r)
        return r;
    copy = fh_xs_mem_dup(xs, data, n);
    if (!copy)
        return FH_ENOMEM;
    fh_xs_mem_del(xs, node->data);
    node->data = copy;
    node->n_data = (uint32_t)n;
    fh_xs_view_changed(view, node, charge);
    return 0;
}

int
fh_xs_write(struct fh_xs_conn *conn, uint32_t tx, const char *path,
            const void *data, size_t n)
{
    struct fh_xs_path *parsed = &conn->xs->path;
    struct fh_xs_view view;
    struct fh_xs_node *node;
    int r;

    r = begin(&view, conn, tx, path);
    if (r)
        return r;
    if (n > UINT16_MAX)
        return FH_EINVAL;
    r = get_allowed(&view, parsed, FH_XS_WRITE, &node);
    if (r == FH_ENOENT)
        r = fh_xs_tree_create(&view, parsed, data, n);
    else if (r == 0)
        r = overwrite(&view, node, data, n);
    if (r)
        return r;
    fh_xs_view_fire(&view, parsed, false, NULL);
    return 0;
}

int
fh_xs_mkdir(struct fh_xs_conn *conn, uint32_t tx, const char *path)
{
    struct fh_xs_path *parsed = &conn->xs->path;
    struct fh_xs_view view;
    struct fh_xs_node *node;
    int r;

    r = begin(&view, conn, tx, path);
    if (r)
        return r;
    r = get_allowed(&view, parsed, FH_XS_WRITE, &node);
    if (r != FH_ENOENT)
        return r; /* one that exists is fine, and no news */
    r = fh_xs_tree_create(&view, parsed, "", 0);
    if (r)
        return r;
    fh_xs_view_fire(&view, parsed, false, NULL);
    return 0;
}

int
fh_xs_rm(struct fh_xs_conn *conn, uint32_t tx, const char *path)
{
    struct fh_xs_path *parsed = &conn->xs->path;
    struct fh_xs_view view;
    struct fh_xs_node *node;
    int r;

    r = begin(&view, conn, tx, path);
    if (r)
        return r;
    r = get_allowed(&view, parsed, FH_XS_WRITE, &node);
    if (r == FH_ENOENT) {
        /* Removed already is fine, if its parent is there. */
        r = fh_xs_view_get(&view, parsed, parsed->n_parts - 1, &node);
        return r ? r : node ? 0 : FH_ENOENT;
    }
    if (r)
        return r;
    if (parsed->n_parts == 0)
        return FH_EINVAL;
    return fh_xs_tree_remove(&view, parsed, node);
}

/* ---- permissions ----------------------------------------------------- */

/* @words: @n bytes of strings, each with its NUL, at least one. */
static int
parse_perms(struct fh_xs *xs, const char *words, size_t n,
            struct fh_xs_perms *out)
{
    uint32_t n_words = 0;
    uint32_t i = 0;

    for (size_t at = 0; at < n; at++)
        n_words += words[at] == '\0';
    out->p = fh_xs_mem_new(xs, n_words * sizeof(out->p[0]));
    if (!out->p)
        return FH_ENOMEM;
    out->n = n_words;
    for (size_t at = 0; at < n; at += strlen(words + at) + 1) {
        int r = fh_xs_perm_parse(words + at, &out->p[i++]);

        if (r) {
            fh_xs_perms_fini(xs, out);
            return r;
        }
    }
    return 0;
}

static int
set_special_perms(struct fh_xs_conn *conn, const char *name,
                  struct fh_xs_perms *perms)
{
    const int which = fh_xs_special_find(name);
    struct fh_xs_special *special;
    struct fh_xs_perms old;

    if (which < 0)
        return FH_EINVAL;
    special = &conn->xs->specials[which];
    if (!(fh_xs_perms_of(&special->perms, conn->dom->domid) & FH_XS_OWN))
        return FH_EACCES;
    old = special->perms;
    special->perms = *perms;
    *perms = old;
    return 0;
}

static int
check_new_perms(const struct fh_xs_view *view, const struct fh_xs_node *node,
                const struct fh_xs_perms *perms)
{
    const int64_t growth = (int64_t)perms->n - (int64_t)node->perms.n;
    const int64_t size = (int64_t)fh_xs_node_size(node) +
                         growth * FH_XS_NODE_PERM_BYTES;

    if (fh_xs_conn_is_privileged(view->conn))
        return 0;
    if (perms->p[0].domid != node->perms.p[0].domid)
        return FH_EPERM; /* giving away would be a way around quotas */
    if (size >= (int64_t)view->xs->limits.node_bytes)
        return FH_ENOSPC;
    if (growth <= 0)
        return 0;
    return fh_xs_view_check_quota(view, node->perms.p[0].domid, 0,
                                  (uint64_t)growth *
                                      sizeof(struct fh_xs_perm));
}

static int
set_node_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
               struct fh_xs_perms *perms)
{
    struct fh_xs_path *parsed = &conn->xs->path;
    struct fh_xs_view view;
    struct fh_xs_node *node;
    int r;

    r = begin(&view, conn, tx, path);
    if (r)
        return r;
    r = get_allowed(&view, parsed, FH_XS_WRITE | FH_XS_OWN, &node);
    if (r)
        return r;
    r = check_new_perms(&view, node, perms);
    if (r)
        return r;
    if (!fh_xs_dom_get(conn->xs, perms->p[0].domid))
        return FH_ENOMEM;
    fh_xs_view_set_perms(&view, node, perms);
    fh_xs_view_fire(&view, parsed, false, perms->p ? perms : NULL);
    return 0;
}

int
fh_xs_op_set_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                   const char *words, size_t n)
{
    struct fh_xs *xs = conn->xs;
    struct fh_xs_perms perms;
    int r;

    if (conn->verdict)
        return FH_ENOTCONN;
    r = parse_perms(xs, words, n, &perms);
    if (r)
        return r;
    if (!fh_xs_conn_is_privileged(conn) && perms.n > xs->limits.n_perms)
        r = FH_ENOSPC;
    else if (path[0] == '@')
        r = set_special_perms(conn, path, &perms);
    else
        r = set_node_perms(conn, tx, path, &perms);
    fh_xs_perms_fini(xs, &perms);
    return r;
}

int
fh_xs_set_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                const char *const *perms, unsigned n)
{
    struct fh_xs *xs = conn->xs;
    size_t at = 0;

    for (unsigned i = 0; i < n; i++) {
        const size_t n_word = strlen(perms[i]) + 1;

        if (n_word > sizeof(xs->scratch) - at)
            return FH_EINVAL;
        memcpy(xs->scratch + at, perms[i], n_word);
        at += n_word;
    }
    return at ? fh_xs_op_set_perms(conn, tx, path, xs->scratch, at)
              : FH_EINVAL;
}
