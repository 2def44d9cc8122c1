/* SPDX-License-Identifier: MIT */
/*
 * All ports of a domain at once: its death, and a guest's reset.  Both go by
 * the set of open ports and can stop after any of them.
 *
 * Invariant: a guest's pages are put back only when no port is open but such as
 * the hypervisor consumes.  Whoever writes them is inside the link of a port of
 * this domain or of its peer; closing a port waits for these.
 */
#include "evtchn/internal.h"

/* The guest's pages, if there are no users left.  0 or FH_EAGAIN. */
static int
leave_locked(struct fh_evtchn_domain *d)
{
    if (d->n_open > d->n_consumed)
        return FH_EAGAIN;
    if (d->form == FH_FORM_FIFO)
        fh_fifo_leave(d);
    return 0;
}

int
fh_evtchn_close_all(struct fh_evtchn_domain *d, uint32_t budget,
                    uint32_t *cursor)
{
    uint32_t port = *cursor;

    fh_ev_lock(d);
    d->is_dying = 1; /* no port is opened any more */
    port = fh_ports_next_open(d, port);
    fh_ev_unlock(d);
    for (; port && budget; budget--) {
        (void)!fh_port_close(d, port, FH_CLOSE_ANY); /* or somebody else did */
        fh_ev_lock(d);
        port = fh_ports_next_open(d, port + 1);
        fh_ev_unlock(d);
    }
    *cursor = port;
    if (port)
        return FH_EVTCHN_E_PREEMPTED;
    fh_ev_lock(d);
    (void)!leave_locked(d);
    fh_ev_unlock(d);
    return 0;
}

/* Starts a reset, or goes on with one.  The first port to look at; 0: busy. */
static uint32_t
reset_start(struct fh_evtchn_domain *d, bool is_resumed)
{
    uint32_t port;

    fh_ev_lock(d);
    port = is_resumed ? d->reset_next : !d->reset_next;
    if (port)
        d->reset_next = port;
    fh_ev_unlock(d);
    return port;
}

/* The next open port, or 0 with the reset's end. */
static uint32_t
reset_next(struct fh_evtchn_domain *d, uint32_t from, int *r)
{
    uint32_t port;

    fh_ev_lock(d);
    port = fh_ports_next_open(d, from);
    if (port) {
        d->reset_next = port;
    } else {
        d->reset_next = 0;
        *r = leave_locked(d);
    }
    fh_ev_unlock(d);
    return port;
}

int
fh_evtchn_reset(struct fh_evtchn_domain *d, bool is_resumed)
{
    uint32_t port = reset_start(d, is_resumed), n = 0;
    int r = 0;

    if (!port)
        return FH_EBUSY;
    while ((port = reset_next(d, port, &r))) {
        if (n && n % FH_EVTCHN_RESET_STEP == 0 && d->ops->preempt &&
            d->ops->preempt(d->hv))
            return FH_EVTCHN_E_PREEMPTED;
        (void)!fh_evtchn_close(d, port); /* consumed ones stay */
        port++;
        n++;
    }
    return r;
}
