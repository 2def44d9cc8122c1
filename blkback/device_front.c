/* SPDX-License-Identifier: MIT */
/*
 * Reading a frontend's directory.  Everything in it was written by the guest
 * (even `backend`, which the toolstack put there): each value is a whole
 * decimal number within its limit, or a known word, or the ring is refused
 * with a text that names the key.  Nothing is mapped or bound before all of it
 * passed.
 */
#include <stdio.h>
#include <string.h>
#include <freehold/blkif.h>
#include "blkback/device_io.h"

enum {
    MAX_PORT = (1 << 17) - 1, /* FIFO event channels have no more */
    MAX_GREF = UINT32_MAX - 1,
};

int
fh_device_read(struct fh_device *d, uint32_t txn, const char *dir,
               const char *key, char *buf, size_t size, size_t *len)
{
    char path[FH_DEVICE_PATH_MAX + FH_DEVICE_VALUE_MAX];
    struct fh_plat *pl = d->p.plat;
    int r;

    snprintf(path, sizeof(path), "%s/%s", dir, key);
    r = pl->ops->xs_read(pl, txn, path, buf, size, len);
    if (r == FH_ENOENT || r == FH_EACCES || r == FH_ERANGE)
        return FH_PLAT_E_NONE;
    return r;
}

int
fh_device_read_state(struct fh_device *d, uint32_t txn, const char *dir,
                     enum fh_xenbus_state *s, bool *gone)
{
    char buf[FH_DEVICE_VALUE_MAX];
    size_t len;
    int r = fh_device_read(d, txn, dir, "state", buf, sizeof(buf), &len);

    if (r < 0)
        return r;
    *gone = r != 0;
    *s = r ? FH_XENBUS_UNKNOWN : fh_xenbus_state_parse(buf, len);
    return 0;
}

static int
refuse(char *why, const char *key, const char *what)
{
    snprintf(why, FH_DEVICE_TEXT_MAX, "%s %s", key, what);
    return FH_DEVICE_E_FRONT;
}

/* A number of the frontend's; FH_PLAT_E_NONE when the key is missing. */
static int
front_number(struct fh_device *d, const char *key, uint32_t max, uint32_t *out,
             char *why)
{
    char buf[FH_DEVICE_VALUE_MAX];
    size_t len;
    int r = fh_device_read(d, 0, d->front, key, buf, sizeof(buf), &len);

    if (r)
        return r < 0 ? r : FH_PLAT_E_NONE;
    r = fh_xenbus_parse_u32(buf, len, max, out);
    if (r == FH_ERANGE)
        return refuse(why, key, "is out of range");
    if (r)
        return refuse(why, key, "is not a decimal number");
    return 0;
}

/* As front_number(), but the key must be there. */
static int
front_needs(struct fh_device *d, const char *key, uint32_t max, uint32_t *out,
            char *why)
{
    int r = front_number(d, key, max, out, why);

    return r == FH_PLAT_E_NONE ? refuse(why, key, "is missing") : r;
}

static int
read_back_pointer(struct fh_device *d, char *why)
{
    char buf[FH_DEVICE_PATH_MAX];
    uint32_t domid;
    size_t len;
    int r = fh_device_read(d, 0, d->front, "backend", buf, sizeof(buf), &len);

    if (r < 0)
        return r;
    if (r || len != strlen(d->path) || memcmp(buf, d->path, len))
        return refuse(why, "backend", "does not point here");
    r = front_needs(d, "backend-id", UINT16_MAX, &domid, why);
    if (r)
        return r;
    return domid == d->p.own_domid
               ? 0
               : refuse(why, "backend-id", "is another domain");
}

static int
read_queues(struct fh_device *d, char *why)
{
    uint32_t n = 1;
    int r = front_number(d, "multi-queue-num-queues", UINT32_MAX, &n, why);

    if (r && r != FH_PLAT_E_NONE)
        return r;
    return n == 1 ? 0 : refuse(why, "multi-queue-num-queues", "is not 1");
}

/* ring-page-order, or the older num-ring-pages; neither: one page. */
static int
read_order(struct fh_device *d, uint32_t *order, char *why)
{
    uint32_t pages;
    bool told;
    int r = front_number(d, "ring-page-order", d->p.max_order, order, why);

    if (r && r != FH_PLAT_E_NONE)
        return r;
    told = r == 0;
    if (!told)
        *order = 0;
    r = front_number(d, "num-ring-pages", 1u << d->p.max_order, &pages, why);
    if (r == FH_PLAT_E_NONE)
        return 0;
    if (r)
        return r;
    if (pages == 0 || (pages & (pages - 1)))
        return refuse(why, "num-ring-pages", "is not a power of two");
    if (told && pages != 1u << *order)
        return refuse(why, "num-ring-pages", "contradicts ring-page-order");
    *order = (uint32_t)__builtin_ctz(pages);
    return 0;
}

static int
read_refs(struct fh_device *d, struct fh_device_queue *q, char *why)
{
    const uint32_t n = 1u << q->order;
    char key[FH_DEVICE_VALUE_MAX];
    int r;

    if (q->order == 0) {
        r = front_number(d, "ring-ref", MAX_GREF, &q->ring_refs[0], why);
        if (r != FH_PLAT_E_NONE)
            return r;
        /* Some write order 0 and number the only page. */
        r = front_number(d, "ring-ref0", MAX_GREF, &q->ring_refs[0], why);
        return r == FH_PLAT_E_NONE ? refuse(why, "ring-ref", "is missing") : r;
    }
    for (uint32_t i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "ring-ref%u", i);
        r = front_needs(d, key, MAX_GREF, &q->ring_refs[i], why);
        if (r)
            return r;
        for (uint32_t j = 0; j < i; j++)
            if (q->ring_refs[j] == q->ring_refs[i])
                return refuse(why, key, "repeats another page");
    }
    return 0;
}

static int
read_protocol(struct fh_device *d, uint32_t *abi, char *why)
{
    char buf[FH_DEVICE_VALUE_MAX];
    enum fh_blkif_abi a;
    size_t len;
    int r = fh_device_read(d, 0, d->front, "protocol", buf, sizeof(buf), &len);

    if (r < 0)
        return r;
    /* A NUL inside would hide what follows it. */
    if (r == 0 && strlen(buf) != len)
        return refuse(why, "protocol", "is unknown");
    if (fh_blkif_abi_parse(r ? NULL : buf, &a))
        return refuse(why, "protocol", "is unknown");
    *abi = a;
    return 0;
}

/* Persistent only if we would and the frontend will; junk is no.  That we would
 * is in our directory before it sees Connected (fh_device_write_announce()),
 * whoever offered what before. */
static int
read_grants(struct fh_device *d, uint32_t *grants)
{
    char why[FH_DEVICE_TEXT_MAX];
    uint32_t persistent = 0;
    int r = 0;

    switch (d->p.grants) {
    case FH_DEVICE_GRANTS_MAP:
        *grants = FH_WK_GRANTS_MAP;
        return 0;
    case FH_DEVICE_GRANTS_COPY:
        break;
    case FH_DEVICE_GRANTS_AUTO:
        r = front_number(d, "feature-persistent", 1, &persistent, why);
        break;
    }
    *grants = r == 0 && persistent ? FH_WK_GRANTS_PERSISTENT
                                   : FH_WK_GRANTS_COPY;
    return r < 0 ? r : 0;
}

int
fh_device_read_queue(struct fh_device *d, struct fh_device_queue *q, char *why)
{
    struct fh_device_queue n = {
        .domid = d->p.domid,
        .max_indirect = d->p.max_indirect,
    };
    int r = read_back_pointer(d, why);

    if (!r)
        r = read_queues(d, why);
    if (!r)
        r = read_order(d, &n.order, why);
    if (!r)
        r = read_refs(d, &n, why);
    if (!r)
        r = front_needs(d, "event-channel", MAX_PORT, &n.port, why);
    if (!r && n.port == 0)
        r = refuse(why, "event-channel", "is out of range");
    if (!r)
        r = read_protocol(d, &n.abi, why);
    if (!r)
        r = read_grants(d, &n.grants);
    if (!r)
        *q = n;
    return r;
}

bool
fh_device_same_ring(const struct fh_device_queue *a,
                    const struct fh_device_queue *b)
{
    return a->abi == b->abi && a->order == b->order && a->port == b->port &&
           !memcmp(a->ring_refs, b->ring_refs,
                   sizeof(a->ring_refs[0]) << a->order);
}
