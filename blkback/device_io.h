/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of the device share: typed reads of xenstore, the hostile
 * frontend's ring, and the transactions that change our own directory.
 * Inside of blkback/device*.c only.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "blkback/device.h"

enum { /* beside FH_PLAT_E_*, which pass through the same integers */
    /* Our state is not what the decision was made on: decide again. */
    FH_DEVICE_E_MOVED = 16,
    /* The frontend wrote nonsense; the text says what. */
    FH_DEVICE_E_FRONT,
};

enum { FH_DEVICE_VALUE_MAX = 64 }; /* no value that we take is longer */

/*
 * Reads dir/key.  Returns 0 with a terminated @buf, FH_PLAT_E_NONE when it is
 * missing, out of our reach or longer than @size, or a negative error of
 * xenstore itself.
 */
FH_MUST_CHECK int
fh_device_read(struct fh_device *d, uint32_t txn, const char *dir,
               const char *key, char *buf, size_t size, size_t *len);

/* As above; junk is FH_XENBUS_UNKNOWN, like a missing node; only the latter is
 * @gone. */
FH_MUST_CHECK int
fh_device_read_state(struct fh_device *d, uint32_t txn, const char *dir,
                     enum fh_xenbus_state *s, bool *gone);

/*
 * fh_device_read_queue - read and judge what the frontend published
 *
 * @q:   written on success only
 * @why: FH_DEVICE_TEXT_MAX bytes; written with FH_DEVICE_E_FRONT
 *
 * Returns 0, a negative error of xenstore, or FH_DEVICE_E_FRONT.
 */
FH_MUST_CHECK int
fh_device_read_queue(struct fh_device *d, struct fh_device_queue *q, char *why);

/* True when both name the same ring of the same frontend. */
bool
fh_device_same_ring(const struct fh_device_queue *a,
                    const struct fh_device_queue *b);

/*
 * The transactions.  Each re-reads our state first and does nothing unless it
 * is still d->state: the toolstack may have written 5 in between.  Each tries
 * FH_DEVICE_TXN_TRIES times when it meets another transaction.
 *
 * Return 0, FH_DEVICE_E_MOVED, or a negative error (FH_EAGAIN: tries spent).
 */
FH_MUST_CHECK int
fh_device_write_offer(struct fh_device *d);
FH_MUST_CHECK int
fh_device_write_announce(struct fh_device *d);
FH_MUST_CHECK int
fh_device_write_closing(struct fh_device *d);
FH_MUST_CHECK int
fh_device_write_closed(struct fh_device *d);
FH_MUST_CHECK int
fh_device_write_error(struct fh_device *d, const char *text);
FH_MUST_CHECK int
fh_device_write_unplug(struct fh_device *d);

/* Removes our error node; failure is of no consequence. */
void
fh_device_clear_error(struct fh_device *d);
