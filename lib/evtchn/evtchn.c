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
    fh_port_lock(&d->lock);
}

static void
unlock(struct fh_evtchn_domain *d)
{
    fh_port_unlock(&d->lock);
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
    return fh_link_look(&p->link);
}

/* Gives a frozen (or free) port its new state. */
static void
port_set(struct fh_evtchn_port *p, uint64_t link, struct fh_evtchn_domain *peer)
{
    p->peer = peer;
    fh_link_set(&p->link, link);
}

static uint64_t
bit_of(uint32_t port)
{
    return 1ull << port % 64;
}

/* Sets the pending bit.  True: deliver. */
static bool
set_pending(struct fh_evtchn_domain *d, uint32_t port)
{
    return fh_bit_raise(&d->pending[port / 64], &d->masked[port / 64],
                        bit_of(port));
}

static void
raise(struct fh_evtchn_domain *d, uint32_t port)
{
    if (set_pending(d, port))
        d->ops->deliver(d->hv, d, port);
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
    fh_link_freeze(&rp->link);
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

    fh_link_freeze(&p->link);
    port_set(p, fh_link(EVTCHNSTAT_closed, 0, 0), NULL);
    (void)fh_bit_consume(&d->pending[port / 64], bit_of(port));
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
        fh_link_freeze(&rp->link);
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

int
fh_evtchn_send(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = port_at(d, port);
    uint64_t link;
    int r = 0;

    if (!p)
        return FH_EINVAL;
    link = fh_link_enter(&p->link);
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
    fh_link_leave(&p->link);
    return r;
}

int
fh_evtchn_raise(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = port_at(d, port);
    uint32_t state;

    if (!p)
        return FH_EINVAL;
    state = fh_link_state(fh_link_enter(&p->link));
    if (state == EVTCHNSTAT_virq || state == EVTCHNSTAT_ipi ||
        state == EVTCHNSTAT_interdomain)
        raise(d, port);
    else
        state = EVTCHNSTAT_closed;
    fh_link_leave(&p->link);
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
    fh_fetch_or64(&d->masked[port / 64], bit_of(port));
    return 0;
}

int
fh_evtchn_unmask(struct fh_evtchn_domain *d, uint32_t port)
{
    if (!port_at(d, port))
        return FH_EINVAL;
    if (fh_bit_unmask(&d->pending[port / 64], &d->masked[port / 64],
                      bit_of(port)))
        d->ops->deliver(d->hv, d, port);
    return 0;
}

int
fh_evtchn_pending(struct fh_evtchn_domain *d, uint32_t port, bool consume,
                  bool *is_pending)
{
    uint64_t *word;

    if (!port_at(d, port))
        return FH_EINVAL;
    word = &d->pending[port / 64];
    *is_pending = consume ? fh_bit_consume(word, bit_of(port))
                          : (fh_load_acquire64(word) & bit_of(port)) != 0;
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
