/* SPDX-License-Identifier: MIT */
/*
 * What a device writes: features, properties, states, errors.
 *
 * Every change of our state is one transaction that re-reads the state first
 * (invariant: never over a 5 that the toolstack wrote meanwhile).  Features
 * come with InitWait and properties with Connected, in the same transaction,
 * because frontends read them the moment they see the state.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/blkif.h>
#include "base/arith.h"
#include "blkback/device_io.h"

typedef int (*txn_body)(struct fh_device *d, uint32_t txn, const char *arg);

static int
write_text(struct fh_device *d, uint32_t txn, const char *key,
           const char *value)
{
    char path[FH_DEVICE_PATH_MAX + FH_DEVICE_VALUE_MAX];
    struct fh_plat *pl = d->p.plat;

    snprintf(path, sizeof(path), "%s/%s", d->path, key);
    return pl->ops->xs_write(pl, txn, path, value);
}

static int
write_number(struct fh_device *d, uint32_t txn, const char *key, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%" PRIu64, v);
    return write_text(d, txn, key, text);
}

/* One attempt: 0, MOVED, FH_PLAT_E_CONFLICT or a negative error. */
static int
attempt(struct fh_device *d, txn_body body, const char *arg)
{
    struct fh_plat *pl = d->p.plat;
    enum fh_xenbus_state now;
    uint32_t txn;
    bool gone;
    int r = pl->ops->xs_begin(pl, &txn);
    int e;

    if (r)
        return r;
    r = fh_device_read_state(d, txn, d->path, &now, &gone);
    if (!r && now != d->state)
        r = FH_DEVICE_E_MOVED;
    if (!r)
        r = body(d, txn, arg);
    e = pl->ops->xs_end(pl, txn, r != 0);
    return r ? r : e;
}

static int
transact(struct fh_device *d, txn_body body, const char *arg)
{
    for (int i = 0; i < FH_DEVICE_TXN_TRIES; i++) {
        int r = attempt(d, body, arg);

        if (r != FH_PLAT_E_CONFLICT)
            return r == FH_PLAT_E_NONE || r == FH_PLAT_E_REFUSED ? FH_EIO : r;
    }
    snprintf(d->reason, sizeof(d->reason),
             "xenstore: %d transactions in a row met others",
             FH_DEVICE_TXN_TRIES);
    return FH_EAGAIN;
}

static int
write_state(struct fh_device *d, uint32_t txn, enum fh_xenbus_state s)
{
    return write_number(d, txn, "state", s);
}

struct number {
    const char *key;
    uint64_t value;
};

static int
write_numbers(struct fh_device *d, uint32_t txn, const struct number *v,
              size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int r = write_number(d, txn, v[i].key, v[i].value);

        if (r)
            return r;
    }
    return 0;
}

static int
offer_body(struct fh_device *d, uint32_t txn, const char *arg)
{
    const struct number features[] = {
        { "feature-flush-cache", 1 },
        { "feature-barrier", 0 },
        { "feature-discard", 0 },
        { "feature-persistent", d->p.grants == FH_DEVICE_GRANTS_AUTO },
        { "feature-max-indirect-segments", d->p.max_indirect },
        { "max-ring-page-order", d->p.max_order },
        { "max-ring-pages", 1u << d->p.max_order },
        { "multi-queue-max-queues", 1 },
    };
    int r = write_numbers(d, txn, features, FH_ARRAY_SIZE(features));

    return r ? r : write_state(d, txn, FH_XENBUS_INIT_WAIT);
}

int
fh_device_write_offer(struct fh_device *d)
{
    return transact(d, offer_body, NULL);
}

static int
announce_body(struct fh_device *d, uint32_t txn, const char *arg)
{
    const struct number properties[] = {
        /* Again: Linux reads it now, as xen-blkback writes it now, and what
         * was offered may have been another driver's. */
        { "feature-persistent", d->p.grants == FH_DEVICE_GRANTS_AUTO },
        { "sectors", d->p.n_sectors },
        { "sector-size", FH_SECTOR_BYTES },
        { "info", (d->p.read_only ? VDISK_READONLY : 0) |
                      (d->p.cdrom ? VDISK_CDROM : 0) },
        { "physical-sector-size", d->p.physical_sector_bytes },
    };
    size_t n = FH_ARRAY_SIZE(properties) - !d->p.physical_sector_bytes;
    int r = write_numbers(d, txn, properties, n);

    return r ? r : write_state(d, txn, FH_XENBUS_CONNECTED);
}

int
fh_device_write_announce(struct fh_device *d)
{
    return transact(d, announce_body, NULL);
}

static int
closing_body(struct fh_device *d, uint32_t txn, const char *arg)
{
    return write_state(d, txn, FH_XENBUS_CLOSING);
}

int
fh_device_write_closing(struct fh_device *d)
{
    return transact(d, closing_body, NULL);
}

static int
remove_key(struct fh_device *d, uint32_t txn, const char *key)
{
    char path[FH_DEVICE_PATH_MAX + FH_DEVICE_VALUE_MAX];
    struct fh_plat *pl = d->p.plat;
    int r;

    snprintf(path, sizeof(path), "%s/%s", d->path, key);
    r = pl->ops->xs_rm(pl, txn, path);
    return r == FH_PLAT_E_NONE || r == FH_ENOENT ? 0 : r;
}

/* Closed takes the connection's properties with it. */
static int
closed_body(struct fh_device *d, uint32_t txn, const char *arg)
{
    static const char *const keys[] = { "sectors", "sector-size", "info",
                                        "physical-sector-size" };

    for (size_t i = 0; i < FH_ARRAY_SIZE(keys); i++) {
        int r = remove_key(d, txn, keys[i]);

        if (r)
            return r;
    }
    return write_state(d, txn, FH_XENBUS_CLOSED);
}

int
fh_device_write_closed(struct fh_device *d)
{
    return transact(d, closed_body, NULL);
}

/* /local/domain/D/error/backend/vbd/F/N; false when we are elsewhere. */
static bool
error_path(const struct fh_device *d, char *path, size_t size)
{
    char home[32];
    int n = snprintf(home, sizeof(home), "/local/domain/%u/",
                     (unsigned)d->p.own_domid);

    if (strncmp(d->path, home, (size_t)n))
        return false;
    snprintf(path, size, "%serror/%s", home, d->path + n);
    return true;
}

static int
error_body(struct fh_device *d, uint32_t txn, const char *text)
{
    char path[FH_DEVICE_PATH_MAX + 32];
    char line[FH_DEVICE_TEXT_MAX + 8];
    struct fh_plat *pl = d->p.plat;
    int r = 0;

    if (error_path(d, path, sizeof(path) - 8)) {
        strcat(path, "/error");
        /* As the others write it: a number of errno, then the text. */
        snprintf(line, sizeof(line), "%d %s", -FH_EINVAL, text);
        r = pl->ops->xs_write(pl, txn, path, line);
    }
    return r ? r : write_state(d, txn, FH_XENBUS_CLOSING);
}

int
fh_device_write_error(struct fh_device *d, const char *text)
{
    return transact(d, error_body, text);
}

void
fh_device_clear_error(struct fh_device *d)
{
    char path[FH_DEVICE_PATH_MAX + 32];
    struct fh_plat *pl = d->p.plat;

    if (error_path(d, path, sizeof(path)))
        (void)pl->ops->xs_rm(pl, 0, path);
}

static int
unplug_body(struct fh_device *d, uint32_t txn, const char *arg)
{
    int r = write_number(d, txn, "online", 0);

    if (r || d->state == FH_XENBUS_CLOSED)
        return r;
    return write_state(d, txn, FH_XENBUS_CLOSING);
}

int
fh_device_write_unplug(struct fh_device *d)
{
    return transact(d, unplug_body, NULL);
}
