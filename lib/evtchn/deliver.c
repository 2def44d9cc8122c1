/* SPDX-License-Identifier: MIT */
/*
 * An event's way to its receiver, in each of the three forms.
 *
 * A guest may turn from 2-level to FIFO while events come in.  Whoever set a
 * 2-level bit looks at the form again and, if it changed, raises the event once
 * more; whoever changes the form collects the bits afterwards (F1, F2).  So an
 * event is never left where nobody looks.
 *
 * The memory of a guest is written here only for a port that is open and that
 * somebody holds: by its own link or by the link of its peer.
 */
#include "evtchn/internal.h"

#include "evtchn/fifo.h"
#include "evtchn/kick.h"
#include "evtchn/limits.h"
#include "evtchn/two_level.h"

/* ------------------------------------------------------------- the vCPU -- */

void
fh_ev_kick(struct fh_evtchn_domain *d, uint32_t vcpu)
{
    if (!fh_kick_now(&d->budget, &d->vcpus[vcpu].owed)) {
        (void)fh_fetch_add64(&d->vcpus[vcpu].n_held, 1);
        return;
    }
    (void)fh_fetch_add64(&d->vcpus[vcpu].n_kicks, 1);
    if (d->ops->kick)
        d->ops->kick(d->hv, d, vcpu);
}

uint32_t
fh_evtchn_refill(struct fh_evtchn_domain *d, uint32_t n_kicks)
{
    uint32_t n = 0;

    fh_kick_refill(&d->budget, n_kicks);
    for (uint32_t i = 0; n_kicks && i < d->n_vcpus; i++) {
        if (!fh_kick_pay(&d->vcpus[i].owed))
            continue;
        n++;
        (void)fh_fetch_add64(&d->vcpus[i].n_kicks, 1);
        if (d->ops->kick)
            d->ops->kick(d->hv, d, i);
    }
    return n;
}

void
fh_evtchn_counts(const struct fh_evtchn_domain *d, struct fh_evtchn_counts *out)
{
    *out = (struct fh_evtchn_counts){
        .replayed = fh_load_relaxed64(&d->n_replayed),
    };
    for (uint32_t i = 0; i < d->n_vcpus; i++) {
        const struct fh_evtchn_vcpu *v = &d->vcpus[i];

        out->kicks += fh_load_relaxed64(&v->n_kicks);
        out->held += fh_load_relaxed64(&v->n_held);
        out->linked += fh_load_relaxed64(&v->n_linked);
        out->moved += fh_load_relaxed64(&v->n_moved);
    }
}

FH_SHARED uint8_t *
fh_ev_info(struct fh_evtchn_domain *d, uint32_t vcpu)
{
    /* V1 acquire, pairs with V2. */
    return (FH_SHARED uint8_t *)(uintptr_t)fh_load_acquire64(
        &d->vcpus[vcpu].info);
}

void
fh_ev_upcall(struct fh_evtchn_domain *d, uint32_t vcpu)
{
    FH_SHARED uint8_t *info = fh_ev_info(d, vcpu);

    if (!info || !fh_exchange8(info + FH_UPCALL_OFFSET, 1))
        fh_ev_kick(d, vcpu);
}

int
fh_evtchn_vcpu_info(struct fh_evtchn_domain *d, uint32_t vcpu,
                    FH_SHARED void *info)
{
    FH_SHARED uint8_t *p = info;

    if (vcpu >= d->n_vcpus)
        return FH_ENOENT;
    fh_store_release64(&d->vcpus[vcpu].info, (uintptr_t)info); /* V2 */
    /* V3 full fence, pairs with V4: the new place is known before all is
     * marked there; a sender who used the old one marks again. */
    fh_fence_full();
    if (d->is_32bit) {
        (void)fh_exchange32(p + FH_SEL_OFFSET_32, UINT32_MAX);
    } else {
        (void)fh_exchange32(p + FH_SEL_OFFSET_64, UINT32_MAX);
        (void)fh_exchange32(p + FH_SEL_OFFSET_64 + 4, UINT32_MAX);
    }
    (void)fh_exchange8(p + FH_UPCALL_OFFSET, 1);
    fh_ev_kick(d, vcpu);
    return 0;
}

/* --------------------------------------------------------------- 2-level -- */

/* Where the bits of @port are, for an event of @vcpu, whose vcpu_info is at
 * @info.  False: 2-level has no such port. */
static bool
bits_at(struct fh_evtchn_domain *d, uint32_t port, FH_SHARED uint8_t *info,
        struct fh_2l *b)
{
    const uint32_t n_ports = d->is_32bit ? FH_2L_PORTS_32 : FH_2L_PORTS_64;
    const uint32_t sel = port / (d->is_32bit ? 32 : 64);
    FH_SHARED uint8_t *pending = d->shared_info + FH_PENDING_OFFSET;
    FH_SHARED uint8_t *mask =
        d->shared_info + (d->is_32bit ? FH_MASK_OFFSET_32 : FH_MASK_OFFSET_64);

    if (port >= n_ports)
        return false;
    *b = (struct fh_2l){
        .pending = (FH_SHARED uint32_t *)(pending + port / 32 * 4),
        .mask = (FH_SHARED uint32_t *)(mask + port / 32 * 4),
        .bit = 1u << port % 32,
        .sel_bit = 1u << sel % 32,
    };
    if (info) {
        info += d->is_32bit ? FH_SEL_OFFSET_32 : FH_SEL_OFFSET_64;
        b->sel = (FH_SHARED uint32_t *)(info + sel / 32 * 4);
        info -= d->is_32bit ? FH_SEL_OFFSET_32 : FH_SEL_OFFSET_64;
        b->upcall = info + FH_UPCALL_OFFSET;
    }
    return true;
}

/* Tells @vcpu what @what says, and once more if its vcpu_info moved. */
static void
tell_2l(struct fh_evtchn_domain *d, uint32_t port, uint32_t vcpu,
        FH_SHARED uint8_t *info, uint32_t what)
{
    FH_SHARED uint8_t *now;
    struct fh_2l b;

    for (;;) {
        if (what & FH_EV_KICK)
            fh_ev_kick(d, vcpu);
        /* V4 full fence, pairs with V3. */
        fh_fence_full();
        now = fh_ev_info(d, vcpu);
        if (now == info || !bits_at(d, port, now, &b))
            return;
        info = now;
        what = fh_2l_select(&b);
    }
}

/* True: it was not pending before. */
static bool
raise_2l(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint32_t vcpu = fh_notify_vcpu(
        fh_load_relaxed32(&d->ports[port].notify));
    FH_SHARED uint8_t *info = fh_ev_info(d, vcpu);
    struct fh_2l b;
    uint32_t what;

    if (!bits_at(d, port, info, &b))
        return false;
    what = fh_2l_raise(&b);
    tell_2l(d, port, vcpu, info, what);
    return what & FH_EV_NEW;
}

static void
unmask_2l(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint32_t vcpu = fh_notify_vcpu(
        fh_load_relaxed32(&d->ports[port].notify));
    FH_SHARED uint8_t *info = fh_ev_info(d, vcpu);
    struct fh_2l b;

    if (bits_at(d, port, info, &b))
        tell_2l(d, port, vcpu, info, fh_2l_unmask(&b));
}

static void
clear_2l(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_2l b;

    if (bits_at(d, port, NULL, &b))
        (void)fh_fetch_and32(b.pending, ~b.bit);
}

void
fh_ev_2l_to_held(struct fh_evtchn_domain *d)
{
    const uint32_t n_ports = d->is_32bit ? FH_2L_PORTS_32 : FH_2L_PORTS_64;
    FH_SHARED uint8_t *pending = d->shared_info + FH_PENDING_OFFSET;

    /* F2 full fence, pairs with F1: the form before the bits. */
    fh_fence_full();
    for (uint32_t port = 0; port < n_ports && port < d->max_ports; port += 32) {
        const uint64_t bits = fh_exchange32(pending + port / 8, 0);

        (void)fh_fetch_or64(&d->pending[port / 64], bits << port % 64);
    }
}

void
fh_ev_2l_clear(struct fh_evtchn_domain *d)
{
    const uint32_t sel = d->is_32bit ? FH_SEL_OFFSET_32 : FH_SEL_OFFSET_64;
    const uint32_t n_ports = d->is_32bit ? FH_2L_PORTS_32 : FH_2L_PORTS_64;
    FH_SHARED uint8_t *pending = d->shared_info + FH_PENDING_OFFSET, *info;

    for (uint32_t port = 0; port < n_ports; port += 32)
        fh_store_relaxed32(pending + port / 8, 0);
    for (uint32_t i = 0; i < d->n_vcpus; i++) {
        info = fh_ev_info(d, i);
        if (!info)
            continue;
        fh_store_relaxed32(info + sel, 0);
        if (!d->is_32bit)
            fh_store_relaxed32(info + sel + 4, 0);
    }
}

/* ------------------------------------------------------------- any form -- */

static void
raise_plain(struct fh_evtchn_domain *d, uint32_t port)
{
    if (fh_bit_raise(&d->pending[port / 64], &d->masked[port / 64],
                     fh_port_bit(port)))
        d->ops->deliver(d->hv, d, port);
}

/* A new event: somebody may be polling for it. */
static void
wake_pollers(struct fh_evtchn_domain *d, uint32_t port)
{
    if (!d->ops->poll_wake)
        return;
    /* L1 full fence, pairs with L2 in fh_evtchn_poll(): our pending bit before
     * our look for pollers. */
    fh_fence_full();
    if (fh_load_relaxed32(&d->n_pollers))
        d->ops->poll_wake(d->hv, d, port);
}

void
fh_ev_raise(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint32_t notify = fh_load_relaxed32(&d->ports[port].notify);
    bool is_new = false;

    if (notify & FH_NOTIFY_CONSUMED) {
        if (d->ops->consume)
            d->ops->consume(d->hv, d, fh_notify_vcpu(notify), port);
        return;
    }
    switch (fh_load_acquire32(&d->form)) {
    case FH_FORM_PLAIN:
        raise_plain(d, port);
        return;
    case FH_FORM_2L:
        is_new = raise_2l(d, port);
        /* F1 full fence, pairs with F2: our bit before our second look at the
         * form. */
        fh_fence_full();
        if (fh_load_relaxed32(&d->form) != FH_FORM_FIFO)
            break;
        is_new |= fh_fifo_raise(d, port);
        break;
    case FH_FORM_FIFO:
        is_new = fh_fifo_raise(d, port);
        break;
    }
    if (is_new)
        wake_pollers(d, port);
}

void
fh_ev_raise_own(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = &d->ports[port];

    if (fh_link_state(fh_link_enter(&p->link)) != EVTCHNSTAT_closed)
        fh_ev_raise(d, port);
    fh_link_leave(&p->link);
}

void
fh_ev_clear(struct fh_evtchn_domain *d, uint32_t port)
{
    FH_SHARED uint32_t *word;

    (void)fh_bit_consume(&d->pending[port / 64], fh_port_bit(port));
    switch (d->form) {
    case FH_FORM_2L:
        clear_2l(d, port);
        break;
    case FH_FORM_FIFO:
        word = fh_fifo_word(d, port);
        if (word)
            (void)fh_fetch_and32(word, ~FH_FIFO_PENDING);
        break;
    }
}

bool
fh_ev_held_take(struct fh_evtchn_domain *d, uint32_t port)
{
    return fh_bit_consume(&d->pending[port / 64], fh_port_bit(port));
}

/* ------------------------------------------------- masks, looks, pollers -- */

int
fh_evtchn_mask(struct fh_evtchn_domain *d, uint32_t port)
{
    if (!fh_port_at(d, port))
        return FH_EINVAL;
    (void)fh_fetch_or64(&d->masked[port / 64], fh_port_bit(port));
    return 0;
}

static void
unmask_plain(struct fh_evtchn_domain *d, uint32_t port)
{
    if (fh_bit_unmask(&d->pending[port / 64], &d->masked[port / 64],
                      fh_port_bit(port)))
        d->ops->deliver(d->hv, d, port);
}

int
fh_evtchn_unmask(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    uint32_t form;

    if (!p)
        return FH_EINVAL;
    form = fh_load_acquire32(&d->form);
    if (form == FH_FORM_PLAIN) {
        unmask_plain(d, port);
        return 0;
    }
    /* The guest's memory is written only for a port that stays open. */
    if (fh_link_state(fh_link_enter(&p->link)) != EVTCHNSTAT_closed &&
        !fh_port_is_consumed(p)) {
        form = fh_load_acquire32(&d->form);
        if (form == FH_FORM_2L)
            unmask_2l(d, port);
        else
            fh_fifo_unmask_port(d, port);
    }
    fh_link_leave(&p->link);
    return 0;
}

/* The pending bit of an open port that somebody holds. */
static bool
is_pending_at(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint64_t held = fh_load_acquire64(&d->pending[port / 64]);
    FH_SHARED uint32_t *word;
    struct fh_2l b;

    switch (fh_load_acquire32(&d->form)) {
    case FH_FORM_2L:
        return bits_at(d, port, NULL, &b) &&
               (fh_load_acquire32(b.pending) & b.bit);
    case FH_FORM_FIFO:
        word = fh_fifo_word(d, port);
        if (word)
            return fh_load_acquire32(word) & FH_FIFO_PENDING;
        break;
    }
    return held & fh_port_bit(port);
}

static bool
is_pending_own(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = &d->ports[port];
    bool is_pending = false;

    if (fh_link_state(fh_link_enter(&p->link)) != EVTCHNSTAT_closed &&
        !fh_port_is_consumed(p))
        is_pending = is_pending_at(d, port);
    fh_link_leave(&p->link);
    return is_pending;
}

int
fh_evtchn_pending(struct fh_evtchn_domain *d, uint32_t port, bool consume,
                  bool *is_pending)
{
    if (!fh_port_at(d, port))
        return FH_EINVAL;
    if (consume && fh_load_relaxed32(&d->form) == FH_FORM_PLAIN)
        *is_pending = fh_ev_held_take(d, port);
    else
        *is_pending = is_pending_own(d, port);
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

int
fh_evtchn_poll(struct fh_evtchn_domain *d, const uint32_t *ports, uint32_t n,
               bool *is_ready)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!fh_port_at(d, ports[i]))
            return FH_EINVAL;
    }
    *is_ready = false;
    (void)fh_fetch_add32(&d->n_pollers, 1);
    /* L2 full fence, pairs with L1: we are announced before we look. */
    fh_fence_full();
    for (uint32_t i = 0; i < n && !*is_ready; i++)
        *is_ready = is_pending_own(d, ports[i]);
    if (*is_ready)
        fh_evtchn_poll_end(d);
    return 0;
}

void
fh_evtchn_poll_end(struct fh_evtchn_domain *d)
{
    (void)fh_fetch_add32(&d->n_pollers, UINT32_MAX);
}
