/* SPDX-License-Identifier: MIT */
/*
 * Domains: what is charged to each, their coming and their going.
 *
 * When a domain goes, nothing of its id's rights may stay for the next domain
 * that gets the same id: the nodes that it owned are removed and the entries
 * that name it are taken out of all permissions.
 */
#include <stdio.h>
#include <string.h>

#include "hv/xs/xs_internal.h"

struct fh_xs_dom *
fh_xs_dom_find(const struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_dom *dom = xs->doms[domid % FH_XS_DOM_BUCKETS];

    while (dom && dom->domid != domid)
        dom = dom->next;
    return dom;
}

struct fh_xs_dom *
fh_xs_dom_get(struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_dom **bucket = &xs->doms[domid % FH_XS_DOM_BUCKETS];
    struct fh_xs_dom *dom = fh_xs_dom_find(xs, domid);

    if (dom)
        return dom;
    dom = fh_xs_mem_new(xs, sizeof(*dom));
    if (!dom)
        return NULL;
    dom->domid = domid;
    LIST_INIT(&dom->conns);
    dom->next = *bucket;
    *bucket = dom;
    return dom;
}

void
fh_xs_dom_put(struct fh_xs *xs, struct fh_xs_dom *dom)
{
    struct fh_xs_dom **at = &xs->doms[dom->domid % FH_XS_DOM_BUCKETS];

    if (dom->introduced || dom->n_conns || dom->n_nodes || dom->n_caused)
        return;
    while (*at != dom)
        at = &(*at)->next;
    *at = dom->next;
    fh_xs_mem_del(xs, dom);
}

void
fh_xs_doms_fini(struct fh_xs *xs)
{
    for (int i = 0; i < FH_XS_DOM_BUCKETS; i++) {
        while (xs->doms[i]) {
            struct fh_xs_dom *dom = xs->doms[i];

            xs->doms[i] = dom->next;
            fh_xs_mem_del(xs, dom);
        }
    }
}

bool
fh_xs_domain_is_introduced(const struct fh_xs *xs, uint16_t domid)
{
    const struct fh_xs_dom *dom = fh_xs_dom_find(xs, domid);

    return dom && dom->introduced;
}

int
fh_xs_domain_introduce(struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_dom *dom;

    if (domid >= FH_XS_DOMID_END)
        return FH_EINVAL;
    dom = fh_xs_dom_get(xs, domid);
    if (!dom)
        return FH_ENOMEM;
    if (dom->introduced)
        return 0;
    dom->introduced = true;
    fh_xs_special_fire(xs, FH_XS_INTRODUCE_DOMAIN);
    return 0;
}

static bool
names(const struct fh_xs_perms *perms, uint16_t domid)
{
    for (uint32_t i = 0; i < perms->n; i++)
        if (perms->p[i].domid == domid)
            return true;
    return false;
}

/* Takes @domid's entries out; what it owned becomes domain 0's. */
static void
forget_rights(struct fh_xs_perms *perms, uint16_t domid)
{
    uint32_t to = 1;

    if (perms->p[0].domid == domid)
        perms->p[0] = (struct fh_xs_perm){ 0 };
    for (uint32_t i = 1; i < perms->n; i++)
        if (perms->p[i].domid != domid)
            perms->p[to++] = perms->p[i];
    perms->n = to;
}

/* A node of the tree that @domid owns or has rights to; NULL: none left. */
static struct fh_xs_node *
find_named(const struct fh_xs *xs, uint16_t domid, size_t *bucket)
{
    for (; *bucket < xs->nodes.n_buckets; ++*bucket) {
        for (struct fh_xs_link *l = xs->nodes.buckets[*bucket]; l;
             l = l->next) {
            struct fh_xs_node *node = FH_XS_OF(l, struct fh_xs_node);

            if (names(&node->perms, domid))
                return node;
        }
    }
    return NULL;
}

static void
disown(struct fh_xs_view *view, struct fh_xs_node *node, uint16_t domid)
{
    struct fh_xs_dom *from =
        fh_xs_dom_find(view->xs, node->perms.p[0].domid);
    struct fh_xs_dom *to;

    from->n_nodes--;
    from->bytes -= fh_xs_node_charge(node);
    forget_rights(&node->perms, domid);
    to = fh_xs_dom_find(view->xs, node->perms.p[0].domid);
    to->n_nodes++;
    to->bytes += fh_xs_node_charge(node);
    node->gen = ++view->xs->gen;
}

/* Nodes that it owned go with all below them, as in xenstored 4.17. */
static void
forget_domain(struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_view view = { .xs = xs, .conn = xs->self };
    struct fh_xs_node *node;
    size_t bucket = 0;

    while ((node = find_named(xs, domid, &bucket))) {
        if (node->perms.p[0].domid != domid || node->n_path == 1) {
            disown(&view, node, domid);
            continue;
        }
        fh_xs_path_load(xs, node->path, node->n_path, &xs->path);
        /* Cannot fail outside of a transaction. */
        (void)!fh_xs_tree_remove(&view, &xs->path, node);
    }
    for (int i = 0; i < FH_XS_N_SPECIALS; i++)
        forget_rights(&xs->specials[i].perms, domid);
}

int
fh_xs_domain_release(struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_dom *dom;
    struct fh_xs_conn *conn;

    if (domid == 0 || domid >= FH_XS_DOMID_END)
        return FH_EINVAL;
    dom = fh_xs_dom_find(xs, domid);
    if (!dom || !dom->introduced)
        return FH_ENOENT;
    dom->introduced = false;
    LIST_FOREACH(conn, &dom->conns, entry) {
        fh_xs_conn_drop_watches(conn);
        fh_xs_conn_drop_txns(conn);
        fh_xs_conn_kill(conn, FH_XS_E_RELEASED);
    }
    forget_domain(xs, domid);
    fh_xs_special_fire(xs, FH_XS_RELEASE_DOMAIN);
    fh_xs_dom_put(xs, dom);
    return 0;
}

/* ---- what a toolstack does ------------------------------------------- */

/* The rows of /local/domain/N, as libxl makes them. */
static const struct {
    const char *name;
    bool is_own; /* the domain's; else domain 0's, readable by it */
} home[] = {
    { "", false },
    { "/control", false },
    { "/control/shutdown", true },
    { "/device", false },
    { "/backend", true },
    { "/data", true },
    { "/error", true },
    { "/drivers", true },
    { "/feature", true },
    { "/attr", true },
};

static int
make_dir(struct fh_xs *xs, uint32_t tx, uint16_t domid, size_t row)
{
    char path[64];
    char words[2][8];
    const char *perms[2] = { words[0], words[1] };
    int r;

    (void)snprintf(path, sizeof(path), "/local/domain/%u%s", domid,
                   home[row].name);
    (void)snprintf(words[0], sizeof(words[0]), "n%u",
                   home[row].is_own ? domid : 0);
    (void)snprintf(words[1], sizeof(words[1]), "r%u", domid);
    r = fh_xs_mkdir(xs->self, tx, path);
    if (r)
        return r;
    return fh_xs_set_perms(xs->self, tx, path, perms, home[row].is_own ? 1 : 2);
}

static int
populate(struct fh_xs *xs, uint32_t tx, uint16_t domid, const char *name)
{
    char path[64];
    char id[8];
    int r;

    for (size_t i = 0; i < sizeof(home) / sizeof(home[0]); i++) {
        r = make_dir(xs, tx, domid, i);
        if (r)
            return r;
    }
    (void)snprintf(path, sizeof(path), "/local/domain/%u/name", domid);
    r = fh_xs_write(xs->self, tx, path, name, strlen(name));
    if (r)
        return r;
    (void)snprintf(path, sizeof(path), "/local/domain/%u/domid", domid);
    (void)snprintf(id, sizeof(id), "%u", domid);
    return fh_xs_write(xs->self, tx, path, id, strlen(id));
}

int
fh_xs_domain_populate(struct fh_xs *xs, uint16_t domid, const char *name)
{
    uint32_t tx;
    int r;

    if (domid >= FH_XS_DOMID_END)
        return FH_EINVAL;
    r = fh_xs_transaction_start(xs->self, &tx);
    if (r)
        return r;
    r = populate(xs, tx, domid, name);
    if (r) {
        (void)!fh_xs_transaction_end(xs->self, tx, false);
        return r;
    }
    return fh_xs_transaction_end(xs->self, tx, true);
}

int
fh_xs_domain_remove(struct fh_xs *xs, uint16_t domid)
{
    struct fh_xs_node *node;
    char path[64];
    int r;

    if (domid >= FH_XS_DOMID_END)
        return FH_EINVAL;
    (void)snprintf(path, sizeof(path), "/local/domain/%u", domid);
    r = fh_xs_op_node(xs->self, 0, path, 0, &node);
    return r ? r : fh_xs_rm(xs->self, 0, path);
}
