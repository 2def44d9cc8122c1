/* SPDX-License-Identifier: MIT */
/*
 * Notification on unmap: when a mapping or a share ends, by call or by death,
 * a byte of its page is cleared and an event is sent, as Linux's gntdev and
 * gntalloc do.
 */
#include <stdlib.h>

#include "base/arith.h"
#include "hv/hv.h"

/* Ports and channels are the control thread's. */
static int
hold(struct fh_hv_conn *conn, uint64_t port, struct fh_hv_notify *n)
{
    struct fh_hv_thread *th = conn->src.th;
    const bool locked = fh_hv_lock(th);
    int r = fh_hv_ev_hold(conn->dom, port, &n->chan, &n->end);

    fh_hv_unlock(th, locked);
    return r;
}

int
fh_hv_notify_set(struct fh_hv_conn *conn, uint32_t key, uint32_t mfn)
{
    const uint64_t offset = conn->req.arg[1], port = conn->req.arg[2];
    struct fh_hv_notify *n;
    int r = 0;

    if (offset != FH_HV_NO_NOTIFY && offset >= FH_PAGE_BYTES)
        return FH_EINVAL;
    if (conn->n_notifies == FH_HV_NOTIFIES_MAX)
        return FH_ENOSPC;
    n = malloc(sizeof(*n));
    if (!n)
        return FH_ENOMEM;
    *n = (struct fh_hv_notify){
        .key = key, .mfn = mfn, .offset = (uint32_t)offset,
    };
    if (port != FH_HV_NO_NOTIFY)
        r = hold(conn, port, n);
    if (r) {
        free(n);
        return r;
    }
    LIST_INSERT_HEAD(&conn->notifies, n, link);
    conn->n_notifies++;
    return 0;
}

static void
fire(struct fh_hv_conn *conn, const struct fh_hv_notify *n)
{
    if (n->offset != FH_HV_NO_NOTIFY) {
        uint8_t *page = fh_hv_frame_addr(conn->hv, n->mfn);

        if (page)
            fh_store_release8(page + n->offset, 0);
    }
    if (!n->chan)
        return;
    const bool locked = fh_hv_lock(conn->src.th);

    fh_hv_ev_send(n->chan, n->end);
    fh_hv_ev_release(conn->hv, n->chan);
    fh_hv_unlock(conn->src.th, locked);
}

void
fh_hv_notify_fire(struct fh_hv_conn *conn, uint32_t key)
{
    struct fh_hv_notify *n, *next;

    for (n = LIST_FIRST(&conn->notifies); n; n = next) {
        next = LIST_NEXT(n, link);
        if (n->key != key)
            continue;
        fire(conn, n);
        LIST_REMOVE(n, link);
        conn->n_notifies--;
        free(n);
    }
}
