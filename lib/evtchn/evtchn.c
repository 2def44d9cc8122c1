/* SPDX-License-Identifier: MIT */
/*
 * The port state machines: alloc, bind, close, send, status.
 *
 * Invariants: both ends of an interdomain channel name each other, and change
 * together under both domains' locks, taken in the order of the uids.  Each
 * end holds a reference on the other's domain.  No event is raised under a
 * lock.  A port that is not open has no pending bit.  A port that waits names
 * the one domain that may bind it by an id that is never reused, as soon as
 * there has been such a domain.
 */
#include "evtchn/internal.h"

/* ---------------------------------------------------------------- locks -- */

/* @a and @b may be one domain. */
static void
lock_two(struct fh_evtchn_domain *a, struct fh_evtchn_domain *b)
{
    fh_ev_lock(a->uid < b->uid ? a : b);
    if (a != b)
        fh_ev_lock(a->uid < b->uid ? b : a);
}

static void
unlock_two(struct fh_evtchn_domain *a, struct fh_evtchn_domain *b)
{
    fh_ev_unlock(a);
    if (a != b)
        fh_ev_unlock(b);
}

/* ---------------------------------------------------------------- ports -- */

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

/* Lets a frozen port wait for the domain @domid, which has @uid. */
static void
port_wait(struct fh_evtchn_port *p, uint16_t domid, uint64_t uid)
{
    p->uid = uid;
    fh_link_set(&p->link, fh_link(EVTCHNSTAT_unbound, domid, 0));
}

/* ----------------------------------------------------------- open ports -- */

int
fh_port_open(struct fh_evtchn_domain *d, const struct fh_port_is *is,
             uint32_t *port)
{
    struct fh_evtchn_port *p;
    uint32_t n;

    if (d->is_dying)
        return FH_EINVAL;
    n = fh_ports_take(d);
    if (!n)
        return FH_ENOSPC;
    p = &d->ports[n];
    if (d->form == FH_FORM_FIFO)
        (void)fh_ev_held_take(d, n); /* the guest wrote it before FIFO */
    p->bound_to = is->bound_to;
    fh_store_relaxed32(&p->notify, is->notify);
    if (fh_link_state(is->link) == EVTCHNSTAT_unbound)
        port_wait(p, fh_link_domid(is->link), is->uid);
    else
        port_set(p, is->link, is->peer);
    *port = n;
    return 0;
}

/* The id of the domain that is called @domid now, or 0. */
static uint64_t
uid_of(struct fh_evtchn_domain *d, uint16_t domid)
{
    struct fh_evtchn_domain *r;
    uint64_t uid = 0;

    if (domid == d->domid)
        return d->uid;
    r = domid < DOMID_FIRST_RESERVED ? d->ops->domain_get(d->hv, domid) : NULL;
    if (r) {
        uid = r->uid;
        d->ops->domain_put(d->hv, r);
    }
    return uid;
}

void
fh_port_unbound(struct fh_evtchn_domain *d, uint16_t remote,
                struct fh_port_is *is)
{
    const uint16_t domid = remote == DOMID_SELF ? d->domid : remote;

    *is = (struct fh_port_is){
        .link = fh_link(EVTCHNSTAT_unbound, domid, 0),
        .uid = uid_of(d, domid),
        .notify = FH_NOTIFY_DEFAULT,
    };
}

int
fh_evtchn_alloc_unbound(struct fh_evtchn_domain *d, uint16_t remote,
                        uint32_t *port)
{
    struct fh_port_is is;
    int r;

    fh_port_unbound(d, remote, &is);
    fh_ev_lock(d);
    r = fh_port_open(d, &is, port);
    fh_ev_unlock(d);
    return r;
}

/* Whether locked @r's @rp waits for @d. */
static bool
waits_for(const struct fh_evtchn_port *rp, const struct fh_evtchn_domain *d)
{
    return link_of(rp) == fh_link(EVTCHNSTAT_unbound, d->domid, 0) &&
           (!rp->uid || rp->uid == d->uid);
}

/* The other end, both domains locked; takes over the reference on @r. */
static int
bind_locked(struct fh_evtchn_domain *d, struct fh_evtchn_domain *r,
            uint32_t remote_port, uint32_t *port)
{
    struct fh_evtchn_port *rp = fh_port_at(r, remote_port);
    const struct fh_port_is is = {
        .link = fh_link(EVTCHNSTAT_interdomain, r->domid, remote_port),
        .peer = r,
        .notify = FH_NOTIFY_DEFAULT,
    };
    uint32_t n;
    int ret;

    if (!rp || r->is_dying || !waits_for(rp, d))
        return FH_EINVAL;
    ret = fh_port_open(d, &is, &n);
    if (ret)
        return ret;
    d->ops->domain_hold(d->hv, d);
    fh_link_freeze(&rp->link, FH_LINK_BUSY);
    port_set(rp, fh_link(EVTCHNSTAT_interdomain, d->domid, n), d);
    *port = n;
    return 0;
}

int
fh_evtchn_bind_interdomain(struct fh_evtchn_domain *d, uint16_t remote,
                           uint32_t remote_port, uint32_t *port)
{
    struct fh_evtchn_domain *r = NULL;
    uint32_t n = 0;
    int ret;

    if (remote == DOMID_SELF || remote == d->domid) {
        d->ops->domain_hold(d->hv, d);
        r = d;
    } else if (remote < DOMID_FIRST_RESERVED) {
        r = d->ops->domain_get(d->hv, remote);
    }
    if (!r)
        return FH_ESRCH;
    lock_two(d, r);
    ret = bind_locked(d, r, remote_port, &n);
    unlock_two(d, r);
    if (ret) {
        d->ops->domain_put(d->hv, r);
        return ret;
    }
    *port = n;
    /* What was sent before the bind was swallowed: look. */
    fh_ev_raise_own(d, n);
    return 0;
}

/* ---------------------------------------------------------------- close -- */

/* Frees one port of locked @d. */
static void
free_locked(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = &d->ports[port];

    fh_link_freeze(&p->link, FH_LINK_FROZEN);
    fh_virq_forget(d, port);
    if (fh_port_is_consumed(p))
        d->n_consumed--;
    else
        fh_ev_clear(d, port);
    fh_store_relaxed32(&p->notify, FH_NOTIFY_DEFAULT);
    port_set(p, fh_link(EVTCHNSTAT_closed, 0, 0), NULL);
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
        fh_ev_lock(d);
        peer = fh_link_state(link_of(p)) == EVTCHNSTAT_interdomain ? p->peer
                                                                   : NULL;
        if (peer)
            d->ops->domain_hold(d->hv, peer);
        if (!peer || peer == d)
            return peer;
        fh_ev_unlock(d);
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
        fh_link_freeze(&rp->link, FH_LINK_BUSY);
        port_wait(rp, d->domid, d->uid);
    }
    free_locked(d, port);
    return remote_port;
}

static bool
may_close(const struct fh_evtchn_port *p, enum fh_close_what what)
{
    if (fh_link_state(link_of(p)) == EVTCHNSTAT_closed)
        return false;
    return what == FH_CLOSE_ANY ||
           fh_port_is_consumed(p) == (what == FH_CLOSE_CONSUMED);
}

int
fh_port_close(struct fh_evtchn_domain *d, uint32_t port,
              enum fh_close_what what)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    struct fh_evtchn_domain *peer;
    uint32_t remote_port = 0;
    bool is_closed;

    if (!p)
        return FH_EINVAL;
    peer = lock_ends(d, p);
    is_closed = may_close(p, what);
    if (is_closed)
        remote_port = close_ends(d, port, peer);
    fh_ev_unlock(d);
    if (peer && peer != d)
        fh_ev_unlock(peer);
    if (peer && is_closed) {
        if (d->ops->unbound)
            d->ops->unbound(d->hv, peer, remote_port);
        d->ops->domain_put(d->hv, peer); /* our end's */
        d->ops->domain_put(d->hv, d);    /* the other end's */
    }
    if (peer)
        d->ops->domain_put(d->hv, peer); /* lock_ends() */
    return is_closed ? 0 : FH_EINVAL;
}

int
fh_evtchn_close(struct fh_evtchn_domain *d, uint32_t port)
{
    return fh_port_close(d, port, FH_CLOSE_GUESTS);
}

/* ----------------------------------------------------------------- send -- */

/* @is_consumer: by the hypervisor, whose port it then must be. */
static int
send(struct fh_evtchn_domain *d, uint32_t port, bool is_consumer)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    uint64_t link;
    int r = 0;

    if (!p)
        return FH_EINVAL;
    link = fh_link_try(&p->link);
    if (link & FH_LINK_BUSY)
        return link & FH_LINK_CLOSING ? FH_EINVAL : 0;
    switch (fh_link_state(link)) {
    case EVTCHNSTAT_interdomain:
        if (fh_port_is_consumed(p) == is_consumer)
            fh_ev_raise(p->peer, fh_link_port(link));
        else
            r = FH_EINVAL;
        break;
    case EVTCHNSTAT_ipi:
        fh_ev_raise(d, port);
        break;
    case EVTCHNSTAT_unbound:
        r = fh_port_is_consumed(p) == is_consumer ? 0 : FH_EINVAL;
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
fh_evtchn_send(struct fh_evtchn_domain *d, uint32_t port)
{
    return send(d, port, false);
}

int
fh_evtchn_consumer_send(struct fh_evtchn_domain *d, uint32_t port)
{
    return send(d, port, true);
}

int
fh_evtchn_raise(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    uint32_t state;

    if (!p)
        return FH_EINVAL;
    state = fh_link_state(fh_link_enter(&p->link));
    if (state == EVTCHNSTAT_virq || state == EVTCHNSTAT_ipi ||
        state == EVTCHNSTAT_interdomain)
        fh_ev_raise(d, port);
    else
        state = EVTCHNSTAT_closed;
    fh_link_leave(&p->link);
    return state == EVTCHNSTAT_closed ? FH_EINVAL : 0;
}

/* --------------------------------------------------------------- status -- */

static void
status_locked(const struct fh_evtchn_port *p, struct evtchn_status *out)
{
    const uint64_t link = link_of(p);

    out->status = fh_link_state(link);
    out->vcpu = fh_notify_vcpu(fh_load_relaxed32(&p->notify));
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
    }
}

int
fh_evtchn_status(struct fh_evtchn_domain *d, uint32_t port,
                 struct evtchn_status *out)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    int r = FH_EACCES;

    if (!p)
        return FH_EINVAL;
    fh_ev_lock(d);
    if (!fh_port_is_consumed(p)) {
        status_locked(p, out);
        r = 0;
    }
    fh_ev_unlock(d);
    return r;
}
