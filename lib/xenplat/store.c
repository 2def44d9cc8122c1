/* SPDX-License-Identifier: MIT */
/* Xenstore of the production platform: libxenstore. */
#include <stdlib.h>
#include <string.h>
#include <xenstore.h>
#include "xenplat/internal.h"

enum { MAX_PERMS = 16 };

/* Counts the round trip that is about to be made; NULL: part not open. */
static struct xs_handle *
store_of(struct fh_plat *p)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    x->counts.xs_calls++;
    return x->xs;
}

static int
result(bool ok)
{
    if (ok)
        return 0;
    return errno == ENOENT ? FH_PLAT_E_NONE : fh_xenplat_errno();
}

int
fh_xenplat_xs_begin(struct fh_plat *p, uint32_t *txn)
{
    struct xs_handle *xs = store_of(p);
    xs_transaction_t t;

    if (!xs)
        return FH_ENOSYS;
    t = xs_transaction_start(xs);
    if (t == XBT_NULL)
        return fh_xenplat_errno();
    *txn = t;
    return 0;
}

int
fh_xenplat_xs_end(struct fh_plat *p, uint32_t txn, bool abort)
{
    struct xs_handle *xs = store_of(p);

    if (!xs)
        return FH_ENOSYS;
    if (xs_transaction_end(xs, txn, abort))
        return 0;
    return errno == EAGAIN ? FH_PLAT_E_CONFLICT : fh_xenplat_errno();
}

int
fh_xenplat_xs_read(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, size_t *len)
{
    struct xs_handle *xs = store_of(p);
    unsigned int n = 0;
    char *value;
    int r = 0;

    if (!xs)
        return FH_ENOSYS;
    value = xs_read(xs, txn, path, &n);
    if (!value)
        return result(false);
    if (n < size) {
        memcpy(buf, value, n);
        buf[n] = '\0';
        if (len)
            *len = n;
    } else {
        r = FH_ERANGE;
    }
    free(value);
    return r;
}

int
fh_xenplat_xs_write(struct fh_plat *p, uint32_t txn, const char *path,
                    const char *value)
{
    struct xs_handle *xs = store_of(p);

    if (!xs)
        return FH_ENOSYS;
    return result(xs_write(xs, txn, path, value, (unsigned)strlen(value)));
}

int
fh_xenplat_xs_mkdir(struct fh_plat *p, uint32_t txn, const char *path)
{
    struct xs_handle *xs = store_of(p);

    return xs ? result(xs_mkdir(xs, txn, path)) : FH_ENOSYS;
}

int
fh_xenplat_xs_rm(struct fh_plat *p, uint32_t txn, const char *path)
{
    struct xs_handle *xs = store_of(p);

    return xs ? result(xs_rm(xs, txn, path)) : FH_ENOSYS;
}

int
fh_xenplat_xs_list(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, uint32_t *n)
{
    struct xs_handle *xs = store_of(p);
    unsigned int n_names = 0;
    size_t used = 0;
    char **names;
    int r = 0;

    if (!xs)
        return FH_ENOSYS;
    names = xs_directory(xs, txn, path, &n_names);
    if (!names)
        return result(false);
    for (unsigned int i = 0; i < n_names && !r; i++) {
        size_t bytes = strlen(names[i]) + 1;

        if (bytes > size - used) {
            r = FH_ERANGE;
            break;
        }
        memcpy(buf + used, names[i], bytes);
        used += bytes;
    }
    free(names);
    if (!r)
        *n = n_names;
    return r;
}

int
fh_xenplat_xs_set_perms(struct fh_plat *p, uint32_t txn, const char *path,
                        const struct fh_plat_perm *perms, uint32_t n)
{
    struct xs_handle *xs = store_of(p);
    struct xs_permissions wire[MAX_PERMS];

    if (!xs)
        return FH_ENOSYS;
    if (n > MAX_PERMS)
        return FH_E2BIG;
    for (uint32_t i = 0; i < n; i++) {
        wire[i] = (struct xs_permissions){.id = perms[i].domid};
        wire[i].perms = (perms[i].read ? XS_PERM_READ : XS_PERM_NONE) |
                        (perms[i].write ? XS_PERM_WRITE : XS_PERM_NONE);
    }
    return result(xs_set_permissions(xs, txn, path, wire, n));
}

int
fh_xenplat_xs_watch(struct fh_plat *p, const char *path, const char *token)
{
    struct xs_handle *xs = store_of(p);

    return xs ? result(xs_watch(xs, path, token)) : FH_ENOSYS;
}

int
fh_xenplat_xs_unwatch(struct fh_plat *p, const char *path, const char *token)
{
    struct xs_handle *xs = store_of(p);

    return xs ? result(xs_unwatch(xs, path, token)) : FH_ENOSYS;
}

/* The reader thread has queued the events already: no round trip. */
int
fh_xenplat_xs_next(struct fh_plat *p, char *path, char *token)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    char **event;
    int r = 0;

    if (!x->xs)
        return FH_ENOSYS;
    event = xs_check_watch(x->xs);
    if (!event)
        return errno == EAGAIN ? FH_PLAT_E_NONE : fh_xenplat_errno();
    if (strlen(event[XS_WATCH_PATH]) > FH_XS_PATH_MAX ||
        strlen(event[XS_WATCH_TOKEN]) > FH_XS_PATH_MAX) {
        r = FH_ERANGE;
    } else {
        strcpy(path, event[XS_WATCH_PATH]);
        strcpy(token, event[XS_WATCH_TOKEN]);
    }
    free(event);
    return r;
}
