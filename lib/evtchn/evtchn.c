/* SPDX-License-Identifier: MIT */
/*
 * The port state machines.
 *
 * Invariants: both ends of an interdomain channel name each other, and change
 * together under both domains' locks, taken in the order of the uids.  Each
 * end holds a reference on the other's domain.  No callback runs under a lock.
 * A port that is not open has no pending bit.
 */
#include "evtchn/internal.h"

/* ---------------------------------------------------------------- locks -- */

static void
lock(struct fh_evtchn_domain *d)
{
    uint32_t expected = 0;

    /* K1 acquire, pairs with K2. */
    while (!fh_cas32(&d->lock, &expected, 1)) {
        fh_cpu_relax();
        expected = 0;
    }
}

static void
unlock(struct fh_evtchn_domain *d)
{
    fh_store_release32(&d->lock, 0); /* K2 */
}

/* @a and @b may be one domain. */
static void
lock_two(struct fh_evtchn_domain *a, struct fh_evtchn_domain *b)
{
    lock(a->uid < b->uid ? a : b);
    if (a != b)
        lock(a->uid < b->uid ? b : a);
}

static void
unlock_two(struct fh_evtchn_domain *a, struct fh_evtchn_domain *b)
{
    unlock(a);
    if (a != b)
        unlock(b);
}

/* ---------------------------------------------------------------- ports -- */

/* The port, or NULL outside the table. */
static struct fh_evtchn_port *
port_at(struct fh_evtchn_domain *d, uint32_t port)
{
    return port && port < d->max_ports ? &d->ports[port] : NULL;
}

static uint64_t
link_of(const struct fh_evtchn_port *p)
{
    return fh_load_relaxed64(&p->link) & ~(FH_LINK_BUSY | FH_LINK_SENDERS);
}

/* Keeps senders out of @p and waits until those inside have left.  They do
 * nothing but set bits and call deliver, so the wait is short. */
static void
port_freeze(struct fh_evtchn_port *p)
{
    /* P1 acquire, pairs with P4: what senders did is done. */
    fh_fetch_or64(&p->link, FH_LINK_BUSY);
    while (fh_load_acquire64(&p->link) & FH_LINK_SENDERS)
        fh_cpu_relax();
}

/* Gives a frozen (or free) port its new state and lets senders in. */
static void
port_set(struct fh_evtchn_port *p, uint64_t link,
         struct fh_evtchn_domain *peer)
{
    uint64_t old = fh_load_relaxed64(&p->link);

    p->peer = peer;
    /* P2 release, pairs with P3: a sender that sees the link sees the peer.
     * The count of senders who come and find BUSY is theirs to take back. */
    while (!fh_cas64(&p->link, &old, link | (old & FH_LINK_SENDERS)))
        ;
}

/* Sets the pending bit.  True: deliver. */
static bool
set_pending(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint64_t bit = 1ull << port % 64;

    if (fh_fetch_or64(&d->pending[port / 64], bit) & bit)
        return false;
    /* M1 full fence, pairs with M2 in fh_evtchn_unmask: our pending bit before
     * our look at the mask; one of the two sides delivers. */
    fh_fence_full();
    return !(fh_load_relaxed64(&d->masked[port / 64]) & bit);
}

static void
raise(struct fh_evtchn_domain *d, uint32_t port)
{
    if (set_pending(d, port))
        d->ops->deliver(d->hv, d, port);
}

static void
clear_pending(struct fh_evtchn_domain *d, uint32_t port)
{
    fh_fetch_and64(&d->pending[port / 64], ~(1ull << port % 64));
}

/* ----------------------------------------------------------- open ports -- */

/* Opens the lowest free port of locked @d in state @link.
 * Returns 0, FH_EINVAL or FH_ENOSPC. */
static int
open_locked(struct fh_evtchn_domain *d, uint64_t link, uint32_t bound_to,
            struct fh_evtchn_domain *peer, uint32_t *port)
{
    uint32_t n;

    if (d->is_dying)
        return FH_EINVAL;
    n = fh_ports_take(d);
    if (!n)
        return FH_ENOSPC;
    d->ports[n].bound_to = bound_to;
    port_set(&d->ports[n], link, peer);
    *port = n;
    return 0;
}

static int
open_port(struct fh_evtchn_domain *d, uint64_t link, uint32_t bound_to,
          uint32_t *port)
{
    int r;

    lock(d);
    r = open_locked(d, link, bound_to, NULL, port);
    unlock(d);
    return r;
}

int
fh_evtchn_alloc_unbound(struct fh_evtchn_domain *d, uint16_t remote,
                        uint32_t *port)
{
    const uint16_t domid = remote == DOMID_SELF ? d->domid : remote;

    return open_port(d, fh_link(EVTCHNSTAT_unbound, domid, 0), 0, port);
}

int
fh_evtchn_bind_virq(struct fh_evtchn_domain *d, uint32_t virq, uint32_t *port)
{
    return open_port(d, fh_link(EVTCHNSTAT_virq, 0, 0), virq, port);
}

int
fh_evtchn_bind_ipi(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t *port)
{
    return open_port(d, fh_link(EVTCHNSTAT_ipi, 0, 0), vcpu, port);
}

/* The other end, both domains locked; takes over the reference on @r. */
static int
bind_locked(struct fh_evtchn_domain *d, struct fh_evtchn_domain *r,
            uint32_t remote_port, uint32_t *port, bool *deliver)
{
    struct fh_evtchn_port *rp = port_at(r, remote_port);
    uint32_t n;
    int ret;

    if (!rp || link_of(rp) != fh_link(EVTCHNSTAT_unbound, d->domid, 0))
        return FH_EINVAL;
    ret = open_locked(d, fh_link(EVTCHNSTAT_interdomain, r->domid, remote_port),
                      0, r, &n);
    if (ret)
        return ret;
    d->ops->domain_hold(d->hv, d);
    port_freeze(rp);
    port_set(rp, fh_link(EVTCHNSTAT_interdomain, d->domid, n), d);
    *deliver = set_pending(d, n);
    *port = n;
    return 0;
}

int
fh_evtchn_bind_interdomain(struct fh_evtchn_domain *d, uint16_t remote,
                           uint32_t remote_port, uint32_t *port)
{
    struct fh_evtchn_domain *r = NULL;
    uint32_t n = 0;
    bool deliver = false;
    int ret;

    if (remote == DOMID_SELF || remote == d->domid) {
        d->ops->domain_hold(d->hv, d);
        r = d;
    } else if (remote < DOMID_FIRST_RESERVED) {
        r = d->ops->domain_get(d->hv, remote);
    }
    if (!r)
        return FH_ENOENT;
    lock_two(d, r);
    ret = bind_locked(d, r, remote_port, &n, &deliver);
    unlock_two(d, r);
    if (ret) {
        d->ops->domain_put(d->hv, r);
        return ret;
    }
    *port = n;
    if (deliver)
        d->ops->deliver(d->hv, d, n);
    return 0;
}

/* ---------------------------------------------------------------- close -- */

/* Frees one port of locked @d. */
static void
free_locked(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = &d->ports[port];

    port_freeze(p);
    port_set(p, fh_link(EVTCHNSTAT_closed, 0, 0), NULL);
    clear_pending(d, port);
    fh_ports_give(d, port);
}

/*
 * Locks @d and, if @p is interdomain, its peer as well, which is returned with
 * a reference of ours.  The locks have an order, so the peer may have to be
 * locked first, and @p looked at again.
 */
static struct fh_evtchn_domain *
lock_ends(struct fh_evtchn_domain *d, const struct fh_evtchn_port *p)
{
    struct fh_evtchn_domain *peer;

    for (;;) {
        lock(d);
        peer = fh_link_state(link_of(p)) == EVTCHNSTAT_interdomain ? p->peer
                                                                   : NULL;
        if (peer)
            d->ops->domain_hold(d->hv, peer);
        if (!peer || peer == d)
            return peer;
        unlock(d);
        lock_two(d, peer);
        if (fh_link_state(link_of(p)) == EVTCHNSTAT_interdomain &&
            p->peer == peer)
            return peer;
        unlock_two(d, peer);
        d->ops->domain_put(d->hv, peer);
    }
}

/* Closes @port of @d, locked as by lock_ends(); the references that the
 * two ends held are the caller's to drop.  Returns the port left behind. */
static uint32_t
close_ends(struct fh_evtchn_domain *d, uint32_t port,
           struct fh_evtchn_domain *peer)
{
    struct fh_evtchn_port *p = &d->ports[port], *rp;
    const uint32_t remote_port = fh_link_port(link_of(p));

    if (peer) {
        rp = &peer->ports[remote_port];
        port_freeze(rp);
        port_set(rp, fh_link(EVTCHNSTAT_unbound, d->domid, 0), NULL);
    }
    free_locked(d, port);
    return remote_port;
}

int
fh_evtchn_close(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = port_at(d, port);
    struct fh_evtchn_domain *peer;
    uint32_t remote_port;

    if (!p)
        return FH_EINVAL;
    peer = lock_ends(d, p);
    if (fh_link_state(link_of(p)) == EVTCHNSTAT_closed) {
        unlock(d);
        return FH_EINVAL;
    }
    remote_port = close_ends(d, port, peer);
    unlock(d);
    if (!peer)
        return 0;
    if (peer != d)
        unlock(peer);
    if (d->ops->unbound)
        d->ops->unbound(d->hv, peer, remote_port);
    d->ops->domain_put(d->hv, peer); /* lock_ends() */
    d->ops->domain_put(d->hv, peer); /* our end's */
    d->ops->domain_put(d->hv, d);    /* the other end's */
    return 0;
}

int
fh_evtchn_close_all(struct fh_evtchn_domain *d, uint32_t budget,
                    uint32_t *cursor)
{
    uint32_t port = *cursor ? *cursor : 1;

    lock(d);
    d->is_dying = 1;
    unlock(d);
    for (; port < d->max_ports && budget; port++, budget--) {
        if (fh_link_state(link_of(&d->ports[port])) != EVTCHNSTAT_closed &&
            fh_evtchn_close(d, port))
            continue; /* somebody closed it first */
    }
    *cursor = port;
    return port < d->max_ports ? FH_EVTCHN_E_PREEMPTED : 0;
}

/* ----------------------------------------------------------------- send -- */

/* Counts the caller in as a sender of @p; the link holds still until
 * sender_leave(). */
static uint64_t
sender_enter(struct fh_evtchn_port *p)
{
    for (;;) {
        /* P3 acquire, pairs with P2. */
        const uint64_t link = fh_fetch_add64(&p->link, FH_LINK_SENDER);

        if (!(link & FH_LINK_BUSY))
            return link;
        fh_fetch_add64(&p->link, 0 - FH_LINK_SENDER);
        while (fh_load_relaxed64(&p->link) & FH_LINK_BUSY)
            fh_cpu_relax();
    }
}

static void
sender_leave(struct fh_evtchn_port *p)
{
    /* P4 release, pairs with P1. */
    fh_fetch_add64(&p->link, 0 - FH_LINK_SENDER);
}

int
fh_evtchn_send(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = port_at(d, port);
    uint64_t link;
    int r = 0;

    if (!p)
        return FH_EINVAL;
    link = sender_enter(p);
    switch (fh_link_state(link)) {
    case EVTCHNSTAT_interdomain:
        raise(p->peer, fh_link_port(link));
        break;
    case EVTCHNSTAT_ipi:
        raise(d, port);
        break;
    case EVTCHNSTAT_unbound:
        break;
    case EVTCHNSTAT_closed:
    case EVTCHNSTAT_pirq:
    case EVTCHNSTAT_virq:
        r = FH_EINVAL;
        break;
    }
    sender_leave(p);
    return r;
}

int
fh_evtchn_raise(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = port_at(d, port);
    uint32_t state;

    if (!p)
        return FH_EINVAL;
    state = fh_link_state(sender_enter(p));
    if (state == EVTCHNSTAT_virq || state == EVTCHNSTAT_ipi ||
        state == EVTCHNSTAT_interdomain)
        raise(d, port);
    else
        state = EVTCHNSTAT_closed;
    sender_leave(p);
    return state == EVTCHNSTAT_closed ? FH_EINVAL : 0;
}

/* ------------------------------------------------------ bits and status -- */

int
fh_evtchn_status(struct fh_evtchn_domain *d, uint32_t port,
                 struct evtchn_status *out)
{
    struct fh_evtchn_port *p = port_at(d, port);
    uint64_t link;

    if (!p)
        return FH_EINVAL;
    lock(d);
    link = link_of(p);
    out->status = fh_link_state(link);
    out->vcpu = 0;
    switch (out->status) {
    case EVTCHNSTAT_unbound:
        out->u.unbound.dom = fh_link_domid(link);
        break;
    case EVTCHNSTAT_interdomain:
        out->u.interdomain.dom = fh_link_domid(link);
        out->u.interdomain.port = fh_link_port(link);
        break;
    case EVTCHNSTAT_virq:
        out->u.virq = p->bound_to;
        break;
    case EVTCHNSTAT_ipi:
        out->vcpu = p->bound_to;
        break;
    }
    unlock(d);
    return 0;
}

int
fh_evtchn_mask(struct fh_evtchn_domain *d, uint32_t port)
{
    if (!port_at(d, port))
        return FH_EINVAL;
    fh_fetch_or64(&d->masked[port / 64], 1ull << port % 64);
    return 0;
}

int
fh_evtchn_unmask(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint64_t bit = 1ull << port % 64;

    if (!port_at(d, port))
        return FH_EINVAL;
    fh_fetch_and64(&d->masked[port / 64], ~bit);
    /* M2 full fence, pairs with M1 in set_pending. */
    fh_fence_full();
    if (fh_load_relaxed64(&d->pending[port / 64]) & bit)
        d->ops->deliver(d->hv, d, port);
    return 0;
}

int
fh_evtchn_pending(struct fh_evtchn_domain *d, uint32_t port, bool consume,
                  bool *is_pending)
{
    const uint64_t bit = 1ull << port % 64;
    uint64_t word;

    if (!port_at(d, port))
        return FH_EINVAL;
    word = consume ? fh_fetch_and64(&d->pending[port / 64], ~bit)
                   : fh_load_acquire64(&d->pending[port / 64]);
    *is_pending = word & bit;
    return 0;
}

uint32_t
fh_evtchn_next(struct fh_evtchn_domain *d)
{
    for (uint32_t i = 0; i * 64 < d->max_ports; i++) {
        const uint64_t ready = fh_load_acquire64(&d->pending[i]) &
                               ~fh_load_relaxed64(&d->masked[i]);

        if (ready)
            return i * 64 + (uint32_t)__builtin_ctzll(ready);
    }
    return 0;
}
