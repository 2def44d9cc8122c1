/* SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "mock_xs.h"

static struct mock_xs *
mock_of(struct fh_plat *p)
{
    return (struct mock_xs *)p;
}

/* Every call of the code under test passes here first. */
static int
enter(struct mock_xs *m)
{
    m->n_calls++;
    if (m->hook)
        m->hook(m);
    if (m->n_calls == m->fail_at ||
        (m->fail_from && m->n_calls >= m->fail_from))
        return m->fail_error;
    return 0;
}

static bool
is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

static struct mock_node *
find(struct mock_node *nodes, const char *path)
{
    for (int i = 0; i < MOCK_NODES; i++)
        if (!strcmp(nodes[i].path, path))
            return &nodes[i];
    return NULL;
}

static void
store(struct mock_node *nodes, const char *path, const void *value, size_t len)
{
    struct mock_node *n = find(nodes, path);

    if (!n)
        n = find(nodes, "");
    if (!n || len >= MOCK_VALUE || strlen(path) >= MOCK_PATH)
        abort(); /* the test's own limits */
    strcpy(n->path, path);
    memcpy(n->value, value, len);
    n->value[len] = '\0';
    n->len = len;
}

static bool
drop(struct mock_node *nodes, const char *path)
{
    bool any = false;

    for (int i = 0; i < MOCK_NODES; i++)
        if (nodes[i].path[0] && is_below(nodes[i].path, path)) {
            nodes[i].path[0] = '\0';
            any = true;
        }
    return any;
}

static void
queue_event(struct mock_xs *m, const char *path, const char *token)
{
    for (uint32_t i = 0; i < m->n_events; i++)
        if (!strcmp(m->event[i].path, path) &&
            !strcmp(m->event[i].token, token))
            return;
    if (m->n_events == MOCK_EVENTS)
        return; /* the others say it already: level-triggered */
    strcpy(m->event[m->n_events].path, path);
    strcpy(m->event[m->n_events++].token, token);
}

/* A change of @path, or of everything below it when it was removed. */
static void
fire(struct mock_xs *m, const char *path, bool removed)
{
    m->generation++;
    for (int i = 0; i < MOCK_WATCHES; i++) {
        const char *w = m->watch[i].path;

        if (!m->watch[i].token[0])
            continue;
        if (is_below(path, w))
            queue_event(m, path, m->watch[i].token);
        else if (removed && is_below(w, path))
            queue_event(m, w, m->watch[i].token);
    }
}

void
mock_xs_put_bytes(struct mock_xs *m, const char *path, const void *value,
                  size_t len)
{
    store(m->node, path, value, len);
    fire(m, path, false);
}

void
mock_xs_put(struct mock_xs *m, const char *path, const char *value)
{
    mock_xs_put_bytes(m, path, value, strlen(value));
}

void
mock_xs_del(struct mock_xs *m, const char *path)
{
    if (drop(m->node, path))
        fire(m, path, true);
}

const char *
mock_xs_get(struct mock_xs *m, const char *path)
{
    struct mock_node *n = find(m->node, path);

    return n ? n->value : NULL;
}

uint32_t
mock_xs_watches(const struct mock_xs *m)
{
    uint32_t n = 0;

    for (int i = 0; i < MOCK_WATCHES; i++)
        n += m->watch[i].token[0] != '\0';
    return n;
}

static struct mock_node *
view(struct mock_xs *m, uint32_t txn)
{
    return txn ? m->txn_node : m->node;
}

static uint64_t
op_now(struct fh_plat *p)
{
    return mock_of(p)->now_ns;
}

static int
op_begin(struct fh_plat *p, uint32_t *txn)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);

    if (r)
        return r;
    if (m->in_txn)
        abort(); /* a transaction was left open */
    m->in_txn = true;
    m->txn_generation = m->generation;
    memcpy(m->txn_node, m->node, sizeof(m->node));
    *txn = 1;
    return 0;
}

/* Fires for what the transaction changed. */
static void
publish(struct mock_xs *m)
{
    static struct mock_node old[MOCK_NODES];

    memcpy(old, m->node, sizeof(old));
    memcpy(m->node, m->txn_node, sizeof(m->node));
    for (int i = 0; i < MOCK_NODES; i++) {
        struct mock_node *was = find(old, m->node[i].path);

        if (m->node[i].path[0] &&
            (!was || was->len != m->node[i].len ||
             memcmp(was->value, m->node[i].value, was->len)))
            fire(m, m->node[i].path, false);
        if (old[i].path[0] && !find(m->node, old[i].path))
            fire(m, old[i].path, true);
    }
}

static int
op_end(struct fh_plat *p, uint32_t txn, bool discard)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);

    m->in_txn = false; /* a broken connection ends it as well */
    if (r || discard)
        return r;
    if (m->conflicts || m->generation != m->txn_generation) {
        m->conflicts -= m->conflicts > 0;
        return FH_PLAT_E_CONFLICT;
    }
    publish(m);
    return 0;
}

static int
op_read(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
        size_t size, size_t *len)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);
    struct mock_node *n;

    if (r)
        return r;
    n = find(view(m, txn), path);
    if (!n)
        return FH_PLAT_E_NONE;
    if (n->len >= size)
        return FH_ERANGE;
    memcpy(buf, n->value, n->len + 1);
    *len = n->len;
    return 0;
}

static int
op_write(struct fh_plat *p, uint32_t txn, const char *path, const char *value)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);

    if (r)
        return r;
    store(view(m, txn), path, value, strlen(value));
    if (!txn)
        fire(m, path, false);
    return 0;
}

static int
op_rm(struct fh_plat *p, uint32_t txn, const char *path)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);

    if (r)
        return r;
    if (!drop(view(m, txn), path))
        return FH_PLAT_E_NONE;
    if (!txn)
        fire(m, path, true);
    return 0;
}

static int
op_watch(struct fh_plat *p, const char *path, const char *token)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);
    int i = 0;

    if (r)
        return r;
    while (i < MOCK_WATCHES && m->watch[i].token[0])
        i++;
    if (i == MOCK_WATCHES)
        return FH_E2BIG;
    strcpy(m->watch[i].path, path);
    strcpy(m->watch[i].token, token);
    queue_event(m, path, token);
    return 0;
}

static int
op_unwatch(struct fh_plat *p, const char *path, const char *token)
{
    struct mock_xs *m = mock_of(p);
    int r = enter(m);

    for (int i = 0; i < MOCK_WATCHES; i++)
        if (!strcmp(m->watch[i].path, path) &&
            !strcmp(m->watch[i].token, token)) {
            m->watch[i].token[0] = '\0';
            return r;
        }
    return r ? r : FH_PLAT_E_NONE;
}

static int
op_next(struct fh_plat *p, char *path, char *token)
{
    struct mock_xs *m = mock_of(p);

    if (!m->n_events)
        return FH_PLAT_E_NONE;
    m->n_events--;
    strcpy(path, m->event[m->n_events].path);
    strcpy(token, m->event[m->n_events].token);
    return 0;
}

static const struct fh_plat_ops ops = {
    .now_ns = op_now,
    .xs_begin = op_begin,
    .xs_end = op_end,
    .xs_read = op_read,
    .xs_write = op_write,
    .xs_rm = op_rm,
    .xs_watch = op_watch,
    .xs_unwatch = op_unwatch,
    .xs_next = op_next,
};

void
mock_xs_init(struct mock_xs *m)
{
    memset(m, 0, sizeof(*m));
    m->plat.ops = &ops;
    m->now_ns = 1;
    m->fail_error = FH_EIO;
}
