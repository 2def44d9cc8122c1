/* SPDX-License-Identifier: MIT */
/*
 * The frontend's side of the handshake.
 *
 * Level-triggered: each step reads the backend's state afresh and does the one
 * thing that our own state (bf->state, mirrored in xenstore) makes of it; so no
 * order of watch events matters, and a step too many changes nothing.
 *
 *   RESETTING  we wrote Closed over an earlier life; backend Closed: WAITING
 *   WAITING    backend InitWait: publish the ring with Initialised
 *   OFFERED    backend Connected: read its properties, Connected
 *   CONNECTED  Connected again: the size may be new; Closing, Closed: DRAINING
 *   DRAINING   nothing in flight any more: Closing
 *   CLOSING    backend Closing or Closed: Closed; backend Closed: ring away
 *   CLOSED     the end
 *
 * All numbers of the backend's are hostile: parsed strictly, bounded, or
 * ignored; senseless properties break the disk.
 */
#include <stdio.h>
#include <string.h>
#include <freehold/xenbus.h>
#include <xen/io/blkif.h>
#include "base/arith.h"
#include "blkfront/internal.h"

static int
join(struct fh_blkfront *bf, const char *dir, const char *key)
{
    int n = snprintf(bf->path, sizeof(bf->path), "%s/%s", dir, key);

    return n < 0 || (size_t)n >= sizeof(bf->path) ? FH_E2BIG : 0;
}

/* Reads dir/key into bf->value. */
static int
read_text(struct fh_blkfront *bf, const char *dir, const char *key, size_t *len)
{
    struct fh_plat *p = bf->params.plat;
    int r = join(bf, dir, key);

    if (r)
        return r;
    return p->ops->xs_read(p, 0, bf->path, bf->value, sizeof(bf->value), len);
}

/* Nothing that we could read there, now or later. */
static bool
is_missing(int r)
{
    return r == FH_PLAT_E_NONE || r == FH_EACCES || r == FH_ERANGE;
}

/* A number of the backend's; @missing when there is none, or no sensible one.
 * A failure of the platform is noted in bf->read_error: nobody may take it for
 * a feature that is not offered. */
static uint64_t
read_number(struct fh_blkfront *bf, const char *key, uint64_t max,
            uint64_t missing)
{
    size_t len;
    uint64_t v;
    int r = read_text(bf, bf->backend, key, &len);

    if (r && !is_missing(r))
        bf->read_error = r < 0 ? r : FH_EIO;
    if (r)
        return missing;
    if (fh_xenbus_parse_u64(bf->value, len, UINT64_MAX, &v))
        return missing;
    return v < max ? v : max;
}

static bool
read_flag(struct fh_blkfront *bf, const char *key)
{
    return read_number(bf, key, 2, 0) == 1;
}

/* The state in @dir; UNKNOWN also for a directory that is gone or closed to us.
 * Negative: the platform failed. */
static int
read_state(struct fh_blkfront *bf, const char *dir, enum fh_xenbus_state *state)
{
    size_t len;
    int r = read_text(bf, dir, "state", &len);

    *state = FH_XENBUS_UNKNOWN;
    if (is_missing(r))
        return 0;
    if (r)
        return r < 0 ? r : FH_EIO;
    *state = fh_xenbus_state_parse(bf->value, len);
    return 0;
}

static int
write_text(struct fh_blkfront *bf, uint32_t txn, const char *key,
           const char *value)
{
    struct fh_plat *p = bf->params.plat;
    int r = join(bf, bf->frontend, key);

    return r ? r : p->ops->xs_write(p, txn, bf->path, value);
}

static int
write_number(struct fh_blkfront *bf, uint32_t txn, const char *key, uint64_t v)
{
    char text[24];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
    return write_text(bf, txn, key, text);
}

static int
write_state(struct fh_blkfront *bf, uint32_t txn, enum fh_xenbus_state s)
{
    return write_number(bf, txn, "state", s);
}

/* 0 also when there is no such key. */
static int
remove_key(struct fh_blkfront *bf, uint32_t txn, const char *key)
{
    struct fh_plat *p = bf->params.plat;
    int r = join(bf, bf->frontend, key);

    if (!r)
        r = p->ops->xs_rm(p, txn, bf->path);
    return r == FH_PLAT_E_NONE ? 0 : r;
}

int
fh_blkfront_find_backend(struct fh_blkfront *bf)
{
    struct fh_plat *p = bf->params.plat;
    enum fh_xenbus_state ours;
    uint32_t domid;
    size_t len;
    int r;

    if (read_text(bf, bf->frontend, "backend-id", &len) ||
        fh_xenbus_parse_u32(bf->value, len, 0x7fef, &domid))
        return FH_ENODEV;
    if (read_text(bf, bf->frontend, "backend", &len) ||
        len != strlen(bf->value) ||
        len + sizeof("/state") > sizeof(bf->backend))
        return FH_ENODEV;
    bf->domid = (uint16_t)domid;
    memcpy(bf->backend, bf->value, len + 1);

    r = read_state(bf, bf->frontend, &ours);
    if (r)
        return r;
    bf->state = FH_BLKFRONT_WAITING;
    if (ours != FH_XENBUS_INITIALISING && ours != FH_XENBUS_UNKNOWN) {
        bf->state = FH_BLKFRONT_RESETTING;
        r = write_state(bf, 0, FH_XENBUS_CLOSED);
    }
    if (!r)
        r = join(bf, bf->backend, "state");
    if (!r)
        r = p->ops->xs_watch(p, bf->path, bf->frontend);
    bf->watching = !r;
    bf->dirty = true;
    return r <= 0 ? r : FH_EIO;
}

void
fh_blkfront_unwatch(struct fh_blkfront *bf)
{
    struct fh_plat *p = bf->params.plat;

    if (bf->watching && !join(bf, bf->backend, "state"))
        (void)p->ops->xs_unwatch(p, bf->path, bf->frontend);
    bf->watching = false;
}

/* What both sides' features come to.  Nothing of it changes later. */
static void
negotiate(struct fh_blkfront *bf)
{
    const struct fh_blkfront_params *params = &bf->params;
    struct fh_blkfront_info *info = &bf->info;
    uint64_t order =
        read_number(bf, "max-ring-page-order", FH_RING_MAX_ORDER, 0);
    uint64_t indirect = read_number(bf, "feature-max-indirect-segments",
                                    FH_BLKIF_MAX_SEGMENTS, 0);

    info->order = order < params->order ? (uint32_t)order : params->order;
    info->depth = fh_blkif_ring_slots(params->abi, info->order);
    if (indirect > params->max_indirect)
        indirect = params->max_indirect;
    info->max_segments = indirect > FH_BLKIF_MAX_DIRECT ? (uint32_t)indirect
                                                        : FH_BLKIF_MAX_DIRECT;
    info->max_sectors = info->max_segments << (FH_PAGE_SHIFT - FH_SECTOR_SHIFT);
    info->persistent =
        params->persistent && read_flag(bf, "feature-persistent");
}

/* One page has one key, several have others; an earlier life may have left the
 * wrong ones. */
static int
write_ring(struct fh_blkfront *bf, uint32_t txn, const uint32_t *refs)
{
    const uint32_t n = bf->queue.ring_pages;
    int r;

    if (n == 1) {
        r = remove_key(bf, txn, "ring-page-order");
        if (!r)
            r = remove_key(bf, txn, "num-ring-pages");
        return r ? r : write_number(bf, txn, "ring-ref", refs[0]);
    }
    r = remove_key(bf, txn, "ring-ref");
    if (!r)
        r = write_number(bf, txn, "ring-page-order", bf->info.order);
    if (!r)
        r = write_number(bf, txn, "num-ring-pages", n);
    for (uint32_t i = 0; i < n && !r; i++) {
        char key[24];

        snprintf(key, sizeof(key), "ring-ref%u", (unsigned)i);
        r = write_number(bf, txn, key, refs[i]);
    }
    return r;
}

static int
write_offer(struct fh_blkfront *bf, uint32_t txn, const uint32_t *refs)
{
    bool leap = bf->params.quirks & FH_BLKFRONT_QUIRK_TO_CONNECTED;
    int r = write_ring(bf, txn, refs);

    if (!r)
        r = write_number(bf, txn, "event-channel", bf->queue.port);
    if (!r)
        r = write_text(bf, txn, "protocol", fh_blkif_abi_name(bf->params.abi));
    if (!r)
        r = write_number(bf, txn, "feature-persistent", bf->params.persistent);
    if (!r)
        r = write_state(bf, txn,
                        leap ? FH_XENBUS_CONNECTED : FH_XENBUS_INITIALISED);
    return r;
}

/* One transaction, repeated while others get in its way. */
static int
publish(struct fh_blkfront *bf, const uint32_t *refs)
{
    struct fh_plat *p = bf->params.plat;
    int r = FH_EAGAIN;

    for (int i = 0; i < FH_BLKFRONT_TXN_TRIES; i++) {
        uint32_t txn;

        r = p->ops->xs_begin(p, &txn);
        if (r)
            break;
        r = write_offer(bf, txn, refs);
        if (r) {
            (void)p->ops->xs_end(p, txn, true);
            break;
        }
        r = p->ops->xs_end(p, txn, false);
        if (r != FH_PLAT_E_CONFLICT)
            break;
        r = FH_EAGAIN;
    }
    return r <= 0 ? r : FH_EIO;
}

static int
offer(struct fh_blkfront *bf)
{
    uint32_t refs[1u << FH_RING_MAX_ORDER];
    int r;

    bf->read_error = 0;
    negotiate(bf);
    if (bf->read_error)
        return bf->read_error;
    r = fh_blkfront_share(bf, refs);
    if (r)
        return r;
    r = publish(bf, refs);
    if (r) {
        fh_blkfront_drop_ring(bf);
        return r;
    }
    bf->state = FH_BLKFRONT_OFFERED;
    return 0;
}

static bool
read_sectors(struct fh_blkfront *bf)
{
    const uint64_t max = UINT64_MAX >> FH_SECTOR_SHIFT;
    uint64_t n = read_number(bf, "sectors", UINT64_MAX, UINT64_MAX);

    if (n > max)
        return false;
    bf->info.n_sectors = n;
    return true;
}

static void
read_discard(struct fh_blkfront *bf)
{
    struct fh_blkfront_info *info = &bf->info;

    info->discard = read_flag(bf, "feature-discard");
    info->discard_granularity = (uint32_t)read_number(
        bf, "discard-granularity", UINT32_MAX, info->sector_bytes);
    info->discard_alignment =
        (uint32_t)read_number(bf, "discard-alignment", UINT32_MAX, 0);
    if (!info->discard_granularity ||
        info->discard_granularity % FH_SECTOR_BYTES)
        info->discard = false;
}

/* The backend's properties, which it published before or with Connected.  False
 * when they make no sense. */
static bool
read_properties(struct fh_blkfront *bf)
{
    struct fh_blkfront_info *info = &bf->info;
    const uint64_t bits = read_number(bf, "info", UINT32_MAX, 0);
    const uint64_t sector =
        read_number(bf, "sector-size", UINT32_MAX, FH_SECTOR_BYTES);
    const uint64_t physical =
        read_number(bf, "physical-sector-size", UINT32_MAX, sector);

    if (!fh_is_pow2(sector) || sector < FH_SECTOR_BYTES ||
        sector > FH_PAGE_BYTES || !read_sectors(bf))
        return false;
    info->sector_bytes = (uint32_t)sector;
    info->physical_bytes =
        (uint32_t)(physical < sector || !fh_is_pow2(physical) ? sector
                                                              : physical);
    bf->sector_mask = (uint32_t)(sector >> FH_SECTOR_SHIFT) - 1;
    info->read_only = bits & VDISK_READONLY;
    info->cdrom = bits & VDISK_CDROM;
    info->removable = bits & VDISK_REMOVABLE;
    info->flush = read_flag(bf, "feature-flush-cache");
    info->barrier = read_flag(bf, "feature-barrier");
    read_discard(bf);
    return true;
}

static int
on_connected(struct fh_blkfront *bf)
{
    const bool known = bf->state == FH_BLKFRONT_CONNECTED;
    bool sane;
    int r;

    bf->read_error = 0;
    sane = known ? read_sectors(bf) : read_properties(bf);
    if (bf->read_error)
        return bf->read_error;
    if (!sane) {
        fh_blkfront_break(bf, FH_BLKFRONT_FAULT_STORE);
        bf->state = FH_BLKFRONT_DRAINING;
        return 0;
    }
    if (known)
        return 0;
    r = write_state(bf, 0, FH_XENBUS_CONNECTED);
    if (!r)
        bf->state = FH_BLKFRONT_CONNECTED;
    return r;
}

/* A directory that is gone must not keep us from closing. */
static int
leave_state(struct fh_blkfront *bf, enum fh_xenbus_state s)
{
    int r = write_state(bf, 0, s);

    return is_missing(r) ? 0 : r;
}

static bool
is_over(enum fh_xenbus_state s)
{
    return s == FH_XENBUS_CLOSED || s == FH_XENBUS_UNKNOWN;
}

static int
reset_step(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    int r;

    if (!is_over(back) && back > FH_XENBUS_INIT_WAIT)
        return 0;
    r = write_state(bf, 0, FH_XENBUS_INITIALISING);
    if (!r)
        bf->state = FH_BLKFRONT_WAITING;
    return r;
}

static int
waiting_step(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    bool ready = back == FH_XENBUS_INIT_WAIT || back == FH_XENBUS_INITIALISED;

    if (ready || (bf->params.quirks & FH_BLKFRONT_QUIRK_NO_WAIT))
        return offer(bf);
    return 0;
}

static int
serving_step(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    /* Who does not wait for InitWait may still see his last Closed. */
    const bool early = bf->state == FH_BLKFRONT_OFFERED &&
                       (bf->params.quirks & FH_BLKFRONT_QUIRK_NO_WAIT);

    if (back == FH_XENBUS_CONNECTED)
        return on_connected(bf);
    if (early && back == FH_XENBUS_CLOSED)
        return 0;
    if (is_over(back))
        bf->gone = true;
    if (is_over(back) || back == FH_XENBUS_CLOSING)
        bf->state = FH_BLKFRONT_DRAINING;
    return 0;
}

static int
draining_step(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    int r;

    if (is_over(back))
        bf->gone = true;
    if (bf->queue.n_live)
        return 0;
    r = leave_state(bf, FH_XENBUS_CLOSING);
    if (!r)
        bf->state = FH_BLKFRONT_CLOSING;
    return r;
}

/* What the connection put into xenstore goes with it. */
static void
remove_keys(struct fh_blkfront *bf)
{
    static const char *const keys[] = { "ring-ref", "ring-page-order",
                                        "num-ring-pages", "event-channel" };

    for (size_t i = 0; i < FH_ARRAY_SIZE(keys); i++)
        (void)remove_key(bf, 0, keys[i]);
    for (unsigned i = 0; i < bf->queue.ring_pages && bf->info.order; i++) {
        char key[24];

        snprintf(key, sizeof(key), "ring-ref%u", i);
        (void)remove_key(bf, 0, key);
    }
}

static int
closing_step(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    if (!bf->said_closed && (is_over(back) || back == FH_XENBUS_CLOSING)) {
        int r = leave_state(bf, FH_XENBUS_CLOSED);

        if (r)
            return r;
        bf->said_closed = true;
    }
    if (!bf->said_closed || !(is_over(back) || back <= FH_XENBUS_INIT_WAIT))
        return 0;
    fh_blkfront_drop_ring(bf);
    remove_keys(bf);
    bf->state = FH_BLKFRONT_CLOSED;
    return 0;
}

/* One step by the backend's state @back. */
static int
step_once(struct fh_blkfront *bf, enum fh_xenbus_state back)
{
    switch (bf->state) {
    case FH_BLKFRONT_RESETTING:
        return reset_step(bf, back);
    case FH_BLKFRONT_WAITING:
        return waiting_step(bf, back);
    case FH_BLKFRONT_OFFERED:
    case FH_BLKFRONT_CONNECTED:
        return serving_step(bf, back);
    case FH_BLKFRONT_DRAINING:
        return draining_step(bf, back);
    case FH_BLKFRONT_CLOSING:
        return closing_step(bf, back);
    case FH_BLKFRONT_CLOSED:
        return 0;
    }
    return FH_EINVAL;
}

int
fh_blkfront_step(struct fh_blkfront *bf)
{
    enum fh_blkfront_state before;
    enum fh_xenbus_state back;
    int r;

    bf->dirty = false;
    for (int i = 0; i < FH_BLKFRONT_STEPS; i++) {
        before = bf->state;
        r = read_state(bf, bf->backend, &back);
        if (!r)
            r = step_once(bf, back);
        if (r) {
            bf->dirty = true;
            return r < 0 ? r : FH_EIO;
        }
        if (bf->state == before)
            break;
    }
    return 0;
}

/* Sleeps for a watch; xenstore is all that a handshake waits for.  A step that
 * is still to be done, after too many conflicts, is tried again soon. */
static int
sleep_for_watch(struct fh_blkfront *bf, uint64_t deadline_ns)
{
    struct fh_plat *p = bf->params.plat;
    const bool again = bf->dirty;
    uint64_t left = fh_blkfront_left(p, deadline_ns);
    int r;

    if (!left)
        return FH_ETIMEDOUT;
    r = fh_blkfront_take_watches(bf);
    if (r || (bf->dirty && !again))
        return r;
    if (again && left > FH_BLKFRONT_CALM_NS)
        left = FH_BLKFRONT_CALM_NS;
    r = p->ops->wait(p, left);
    if (!r)
        r = fh_blkfront_take_events(bf);
    return r;
}

int
fh_blkfront_connect(struct fh_blkfront *bf, uint64_t timeout_ns)
{
    uint64_t deadline = fh_blkfront_deadline(bf->params.plat, timeout_ns);
    int r;

    for (;;) {
        r = fh_blkfront_step(bf);
        if (r && r != FH_EAGAIN)
            return r;
        if (bf->fault)
            return FH_BLKFRONT_E_BROKEN;
        if (bf->state == FH_BLKFRONT_CONNECTED)
            return 0;
        if (bf->state > FH_BLKFRONT_CONNECTED)
            return FH_BLKFRONT_E_CLOSED;
        r = sleep_for_watch(bf, deadline);
        if (r)
            return r;
    }
}

void
fh_blkfront_shut(struct fh_blkfront *bf)
{
    bf->dirty = true;
    if (bf->state < FH_BLKFRONT_OFFERED)
        bf->state = FH_BLKFRONT_CLOSED;
    if (bf->state < FH_BLKFRONT_DRAINING)
        bf->state = FH_BLKFRONT_DRAINING;
}

/* Takes completions that nobody wants any more. */
static void
discard_done(struct fh_blkfront *bf)
{
    struct fh_blkfront_done done[16];

    while (fh_blkfront_poll(bf, done, FH_ARRAY_SIZE(done)))
        continue;
}

static int
close_loop(struct fh_blkfront *bf, uint64_t deadline)
{
    int r;

    for (;;) {
        discard_done(bf);
        r = fh_blkfront_step(bf);
        if (r)
            return r;
        if (bf->state == FH_BLKFRONT_CLOSED)
            return 0;
        if (bf->queue.n_live && fh_blkfront_arm(bf))
            continue;
        r = sleep_for_watch(bf, deadline);
        if (r)
            return r;
    }
}

int
fh_blkfront_close(struct fh_blkfront *bf, uint64_t timeout_ns)
{
    uint64_t deadline = fh_blkfront_deadline(bf->params.plat, timeout_ns);
    int r;

    fh_blkfront_shut(bf);
    (void)fh_blkfront_kick(bf);
    r = close_loop(bf, deadline);
    if (r) {
        bf->gone = true;
        discard_done(bf);
        if (bf->state != FH_BLKFRONT_CLOSED)
            (void)leave_state(bf, FH_XENBUS_CLOSED);
        fh_blkfront_drop_ring(bf);
        remove_keys(bf);
        bf->state = FH_BLKFRONT_CLOSED;
    }
    return r;
}
