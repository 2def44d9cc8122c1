/* SPDX-License-Identifier: MIT */
/*
 * Event channels with Xen's rules: a bound port is pending at once on the side
 * that binds; a port that ev_next() returned is masked until ev_unmask(); a
 * notification of a masked port is kept, one of an unbound port is lost; when
 * one end closes, the other is unbound and may be bound again.
 */
#include <stdlib.h>
#include "internal.h"

enum { WAKE_NS = 3000 }; /* about: from a notification to the other's run */

static struct sim_port *
port_of(struct sim_party *p, uint32_t port)
{
    struct sim_port *at;

    if (port >= SIM_PORTS)
        return NULL;
    at = &p->s->domain[p->domid].port[port];
    return at->state != SIM_PORT_FREE && at->owner == p ? at : NULL;
}

static uint32_t
port_new(struct sim_party *p)
{
    for (uint32_t i = 1; i < SIM_PORTS; i++) {
        struct sim_port *at = &p->s->domain[p->domid].port[i];

        if (at->state != SIM_PORT_FREE)
            continue;
        *at = (struct sim_port){ .owner = p };
        return i;
    }
    abort();
}

static void
raise_port(struct sim *s, struct sim_port *at)
{
    at->pending = true;
    if (!at->masked && at->owner->alive)
        sim_wake(at->owner, sim_random(s, WAKE_NS));
}

int
sim_ev_alloc(struct fh_plat *plat, uint16_t domid, uint32_t *port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_ALLOC, domid);
    struct sim_port *at;

    if (r)
        return r;
    *port = port_new(p);
    at = &p->s->domain[p->domid].port[*port];
    at->state = SIM_PORT_UNBOUND;
    at->remote_domid = domid;
    return 0;
}

int
sim_ev_bind(struct fh_plat *plat, uint16_t domid, uint32_t remote,
            uint32_t *port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_BIND, remote);
    struct sim_port *far, *at;

    if (r)
        return r;
    if (domid >= SIM_DOMAINS || remote >= SIM_PORTS)
        return FH_PLAT_E_REFUSED;
    far = &p->s->domain[domid].port[remote];
    if (far->state != SIM_PORT_UNBOUND || far->remote_domid != p->domid)
        return FH_PLAT_E_REFUSED;
    *port = port_new(p);
    at = &p->s->domain[p->domid].port[*port];
    at->state = far->state = SIM_PORT_BOUND;
    at->remote_domid = domid;
    at->remote_port = remote;
    far->remote_port = *port;
    raise_port(p->s, at);
    return 0;
}

static void
port_close(struct sim *s, struct sim_port *at)
{
    if (at->state == SIM_PORT_BOUND) {
        struct sim_port *far =
            &s->domain[at->remote_domid].port[at->remote_port];

        far->state = SIM_PORT_UNBOUND;
    }
    *at = (struct sim_port){ .state = SIM_PORT_FREE };
}

int
sim_ev_unbind(struct fh_plat *plat, uint32_t port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_UNBIND, port);
    struct sim_port *at = port_of(p, port);

    if (r)
        return r;
    if (!at) {
        sim_fail(p->s, "%s closes port %u, which it has not", p->name, port);
        return FH_EINVAL;
    }
    port_close(p->s, at);
    return 0;
}

int
sim_ev_notify(struct fh_plat *plat, uint32_t port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_NOTIFY, port);
    struct sim_port *at = port_of(p, port);

    if (r)
        return r;
    if (!at) {
        sim_fail(p->s, "%s notifies port %u, which it has not", p->name, port);
        return FH_EINVAL;
    }
    if (at->state == SIM_PORT_BOUND)
        raise_port(p->s, &p->s->domain[at->remote_domid].port[at->remote_port]);
    return 0;
}

/* The @k-th port of @p that would be delivered; NULL: so many there are not. */
static struct sim_port *
deliverable(const struct sim_party *p, uint32_t k, uint32_t *port)
{
    for (uint32_t i = 1; i < SIM_PORTS; i++) {
        struct sim_port *at = &p->s->domain[p->domid].port[i];

        if (at->state == SIM_PORT_FREE || at->owner != p || !at->pending ||
            at->masked || k--)
            continue;
        *port = i;
        return at;
    }
    return NULL;
}

bool
sim_ev_ready(const struct sim_party *p)
{
    uint32_t port;

    return deliverable(p, 0, &port) != NULL;
}

int
sim_ev_next(struct fh_plat *plat, uint32_t *port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_NEXT, 0);
    struct sim_port *at;

    if (r)
        return r;
    at = deliverable(p, sim_random(p->s, 3), port);
    if (!at)
        at = deliverable(p, 0, port);
    if (!at)
        return FH_PLAT_E_NONE;
    at->pending = false;
    at->masked = true;
    return 0;
}

int
sim_ev_unmask(struct fh_plat *plat, uint32_t port)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_EV_UNMASK, port);
    struct sim_port *at = port_of(p, port);

    if (r)
        return r;
    if (!at) {
        sim_fail(p->s, "%s unmasks port %u, which it has not", p->name, port);
        return FH_EINVAL;
    }
    at->masked = false;
    if (at->pending)
        raise_port(p->s, at);
    return 0;
}

void
sim_events_drop(struct sim_party *p)
{
    for (uint32_t i = 1; i < SIM_PORTS; i++) {
        struct sim_port *at = &p->s->domain[p->domid].port[i];

        if (at->state != SIM_PORT_FREE && at->owner == p)
            port_close(p->s, at);
    }
}
