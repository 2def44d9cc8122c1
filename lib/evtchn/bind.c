/* SPDX-License-Identifier: MIT */
/*
 * Ports with one end only: virqs, IPIs, and the hypervisor's own; and which
 * vCPU a port is for.
 *
 * Invariant: a vCPU's virq_port[] names a port that is open and bound to that
 * virq, or is 0.  A global virq is in the table of vCPU 0, wherever it is
 * delivered.
 */
#include "evtchn/internal.h"

/* One per domain, not one per vCPU. */
static bool
virq_is_global(uint32_t virq)
{
    return virq != VIRQ_TIMER && virq != VIRQ_DEBUG && virq != VIRQ_XENOPROF &&
           virq != VIRQ_XENPMU;
}

/* Where the port of @virq is kept, or NULL: a PLAIN domain keeps none. */
static uint32_t *
virq_slot(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t virq)
{
    if (!d->n_vcpus)
        return NULL;
    return &d->vcpus[virq_is_global(virq) ? 0 : vcpu].virq_port[virq];
}

void
fh_virq_forget(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = &d->ports[port];
    uint32_t *slot;

    if (fh_link_state(fh_link_look(&p->link)) != EVTCHNSTAT_virq)
        return;
    slot = virq_slot(d, fh_notify_vcpu(p->notify), p->bound_to);
    if (slot && *slot == port)
        fh_store_release32(slot, 0);
}

static int
virq_may(struct fh_evtchn_domain *d, uint32_t virq, uint32_t vcpu)
{
    if (virq >= NR_VIRQS || (virq_is_global(virq) && vcpu))
        return FH_EINVAL;
    if (!fh_ev_has_vcpu(d, vcpu))
        return FH_ENOENT;
    return d->ops->may_virq ? d->ops->may_virq(d->hv, d, virq) : 0;
}

int
fh_evtchn_bind_virq(struct fh_evtchn_domain *d, uint32_t virq, uint32_t vcpu,
                    uint32_t *port)
{
    const struct fh_port_is is = {
        .link = fh_link(EVTCHNSTAT_virq, 0, 0),
        .bound_to = virq,
        .notify = FH_NOTIFY(vcpu, EVTCHN_FIFO_PRIORITY_DEFAULT),
    };
    uint32_t *slot;
    int r = virq_may(d, virq, vcpu);

    if (r)
        return r;
    slot = virq_slot(d, vcpu, virq);
    fh_ev_lock(d);
    r = slot && *slot ? FH_EEXIST : fh_port_open(d, &is, port);
    if (!r && slot)
        fh_store_release32(slot, *port);
    fh_ev_unlock(d);
    return r;
}

int
fh_evtchn_bind_ipi(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t *port)
{
    const struct fh_port_is is = {
        .link = fh_link(EVTCHNSTAT_ipi, 0, 0),
        .notify = FH_NOTIFY(vcpu, EVTCHN_FIFO_PRIORITY_DEFAULT),
    };
    int r;

    if (!fh_ev_has_vcpu(d, vcpu))
        return FH_ENOENT;
    fh_ev_lock(d);
    r = fh_port_open(d, &is, port);
    fh_ev_unlock(d);
    return r;
}

void
fh_evtchn_raise_virq(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t virq)
{
    struct fh_evtchn_port *p;
    uint32_t port;

    if (virq >= NR_VIRQS || vcpu >= d->n_vcpus)
        return;
    port = fh_load_acquire32(virq_slot(d, vcpu, virq));
    p = fh_port_at(d, port);
    if (!p)
        return;
    /* It may have been closed, and opened for something else, since. */
    if (fh_link_state(fh_link_enter(&p->link)) == EVTCHNSTAT_virq &&
        p->bound_to == virq &&
        (virq_is_global(virq) ||
         fh_notify_vcpu(fh_load_relaxed32(&p->notify)) == vcpu))
        fh_ev_raise(d, port);
    fh_link_leave(&p->link);
}

int
fh_evtchn_bind_vcpu(struct fh_evtchn_domain *d, uint32_t port, uint32_t vcpu)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    uint32_t state;
    bool is_free_to;

    if (!fh_ev_has_vcpu(d, vcpu))
        return FH_ENOENT;
    if (!p)
        return FH_EINVAL;
    fh_ev_lock(d);
    state = fh_link_state(fh_link_look(&p->link));
    is_free_to = state == EVTCHNSTAT_unbound ||
                 state == EVTCHNSTAT_interdomain ||
                 (state == EVTCHNSTAT_virq && virq_is_global(p->bound_to));
    is_free_to = is_free_to && !fh_port_is_consumed(p);
    if (is_free_to) /* the next event goes there, not one that is pending */
        fh_store_relaxed32(&p->notify,
                           FH_NOTIFY(vcpu, fh_notify_priority(p->notify)));
    fh_ev_unlock(d);
    if (!is_free_to)
        return FH_EINVAL;
    /* G2 full fence, pairs with G1 in fifo.c: an event that waits for the old
     * vCPU's control block need not, perhaps. */
    fh_fence_full();
    if (fh_load_relaxed32(&d->form) == FH_FORM_FIFO)
        fh_fifo_replay_port(d, port);
    return 0;
}

int
fh_evtchn_consumer_open(struct fh_evtchn_domain *d, uint32_t vcpu,
                        uint16_t remote, uint32_t *port)
{
    struct fh_port_is is;
    int r;

    if (!fh_ev_has_vcpu(d, vcpu))
        return FH_ENOENT;
    fh_port_unbound(d, remote, &is);
    is.notify = FH_NOTIFY(vcpu, FH_NOTIFY_CONSUMED);
    fh_ev_lock(d);
    r = fh_port_open(d, &is, port);
    if (!r)
        d->n_consumed++;
    fh_ev_unlock(d);
    return r;
}

int
fh_evtchn_consumer_close(struct fh_evtchn_domain *d, uint32_t port)
{
    return fh_port_close(d, port, FH_CLOSE_CONSUMED);
}
