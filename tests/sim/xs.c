/* SPDX-License-Identifier: MIT */
/*
 * Xenstore for the parties: the project's own server (hv/xs), by direct calls.
 *
 * Watch events become visible a random time after the server has them.  A
 * transaction's end may be told a conflict that did not happen; real ones
 * happen as well, as others run between its calls.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "internal.h"

enum {
    NEWS_NS = 200000, /* a watch event travels that long at most */
    MAX_PERMS = 8,
};

static void
wake(void *ctx, struct fh_xs_conn *conn, void *priv)
{
    struct sim *s = ctx;
    struct sim_party *p = priv;

    (void)conn;
    if (p->xs_news || !p->alive)
        return;
    p->xs_news = true;
    p->xs_at_ns = s->now_ns + sim_random(s, NEWS_NS);
    sim_wake(p, p->xs_at_ns - s->now_ns);
}

void
sim_xs_init(struct sim *s)
{
    const struct fh_xs_ops ops = { .wake = wake, .ctx = s };
    struct fh_xs_limits limits = fh_xs_limits_default();

    limits.hash_seed = 1 + s->seed;
    s->xs = fh_xs_new(&limits, &ops);
    if (!s->xs)
        abort();
}

void
sim_xs_connect(struct sim_party *p)
{
    if (fh_xs_conn_new(p->s->xs, p->domid, p, &p->xs))
        abort();
}

/* FH_ENOENT is a verdict on this side. */
static int
verdict(int r)
{
    return r == FH_ENOENT ? FH_PLAT_E_NONE : r;
}

static uint64_t
path_hash(const char *path)
{
    uint64_t h = 5381;

    while (*path)
        h = h * 33 + (uint8_t)*path++;
    return h;
}

static int
enter(struct fh_plat *plat, enum sim_call call, const char *path)
{
    struct sim_party *p = sim_party_of(plat);

    if (p->s->verbose)
        sim_say(p->s, "  %s: %s", p->name, path);
    return sim_enter(plat, call, path_hash(path));
}

int
sim_xs_begin(struct fh_plat *plat, uint32_t *txn)
{
    int r = sim_enter(plat, SIM_XS_BEGIN, 0);

    return r ? r : fh_xs_transaction_start(sim_party_of(plat)->xs, txn);
}

int
sim_xs_end(struct fh_plat *plat, uint32_t txn, bool abort_it)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_XS_END, abort_it);
    bool conflict = !abort_it && sim_chance(p->s, p->s->p_conflict, 65536);

    if (r || conflict) {
        /* The transaction is over in any case, as with libxenstore. */
        int e = fh_xs_transaction_end(p->xs, txn, false);

        return r ? r : e ? e : FH_PLAT_E_CONFLICT;
    }
    r = fh_xs_transaction_end(p->xs, txn, !abort_it);
    return r == FH_EAGAIN ? FH_PLAT_E_CONFLICT : r;
}

int
sim_xs_read(struct fh_plat *plat, uint32_t txn, const char *path, char *buf,
            size_t size, size_t *len)
{
    int r = enter(plat, SIM_XS_READ, path);
    size_t n;

    if (r)
        return r;
    if (!size)
        return FH_ERANGE;
    r = fh_xs_read(sim_party_of(plat)->xs, txn, path, buf, size - 1, &n);
    if (r)
        return verdict(r);
    buf[n] = '\0';
    if (len)
        *len = n;
    return 0;
}

int
sim_xs_write(struct fh_plat *plat, uint32_t txn, const char *path,
             const char *value)
{
    struct sim_party *p = sim_party_of(plat);
    int r = enter(plat, SIM_XS_WRITE, path);

    sim_say(p->s, "  %s: %s = %s", p->name, path, value);
    return r ? r
             : verdict(fh_xs_write(p->xs, txn, path, value, strlen(value)));
}

int
sim_xs_mkdir(struct fh_plat *plat, uint32_t txn, const char *path)
{
    int r = enter(plat, SIM_XS_MKDIR, path);

    return r ? r : verdict(fh_xs_mkdir(sim_party_of(plat)->xs, txn, path));
}

int
sim_xs_rm(struct fh_plat *plat, uint32_t txn, const char *path)
{
    int r = enter(plat, SIM_XS_RM, path);

    return r ? r : verdict(fh_xs_rm(sim_party_of(plat)->xs, txn, path));
}

int
sim_xs_list(struct fh_plat *plat, uint32_t txn, const char *path, char *buf,
            size_t size, uint32_t *n)
{
    int r = enter(plat, SIM_XS_LIST, path);
    size_t bytes;

    if (!r)
        r = fh_xs_directory(sim_party_of(plat)->xs, txn, path, buf, size,
                            &bytes);
    if (r)
        return verdict(r);
    *n = 0;
    for (size_t i = 0; i < bytes; i++)
        *n += !buf[i];
    return 0;
}

/* "n0", "r5" and so on. */
static char
perm_letter(const struct fh_plat_perm *perm)
{
    if (perm->read)
        return perm->write ? 'b' : 'r';
    return perm->write ? 'w' : 'n';
}

int
sim_xs_set_perms(struct fh_plat *plat, uint32_t txn, const char *path,
                 const struct fh_plat_perm *perms, uint32_t n)
{
    int r = enter(plat, SIM_XS_SET_PERMS, path);
    char text[MAX_PERMS][8];
    const char *words[MAX_PERMS];

    if (r)
        return r;
    if (n > MAX_PERMS)
        return FH_E2BIG;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text[i], sizeof(text[i]), "%c%u", perm_letter(&perms[i]),
                 perms[i].domid);
        words[i] = text[i];
    }
    return verdict(
        fh_xs_set_perms(sim_party_of(plat)->xs, txn, path, words, n));
}

int
sim_xs_watch(struct fh_plat *plat, const char *path, const char *token)
{
    int r = enter(plat, SIM_XS_WATCH, path);

    return r ? r : verdict(fh_xs_watch(sim_party_of(plat)->xs, path, token));
}

int
sim_xs_unwatch(struct fh_plat *plat, const char *path, const char *token)
{
    int r = enter(plat, SIM_XS_UNWATCH, path);

    return r ? r : verdict(fh_xs_unwatch(sim_party_of(plat)->xs, path, token));
}

int
sim_xs_next(struct fh_plat *plat, char *path, char *token)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_XS_NEXT, 0);
    const char *at, *tok;

    if (r)
        return r;
    if (!p->xs_news || p->s->now_ns < p->xs_at_ns)
        return FH_PLAT_E_NONE;
    if (!fh_xs_next_event(p->xs, &at, &tok)) {
        p->xs_news = false;
        return FH_PLAT_E_NONE;
    }
    strcpy(path, at);
    strcpy(token, tok);
    return 0;
}
