/* SPDX-License-Identifier: MIT */
/*
 * The FIFO ABI: control blocks, the event array, and a vCPU's queues.
 *
 * The tail of each queue is the engine's own and under the vCPU's lock.  A port
 * that is put into a queue of another vCPU than last time needs both locks: it
 * may still be the tail there, and what comes next must not be linked behind
 * it.  Such moves are one at a time in a domain (move_lock), so the last queue
 * of a port holds still for who holds that lock, and for who holds the lock of
 * the vCPU that it names.
 *
 * An event that has no event word yet, or whose vCPU has no control block yet,
 * waits in the private pending bits until the missing page is there.  Whoever
 * sets such a bit looks for the page again, whoever brings the page looks at
 * the bits afterwards (G1, G2).
 *
 * Pages and control blocks go away in fh_fifo_leave() only, when no port is
 * open that could lead here.
 */
#include "evtchn/fifo.h"

#include "base/arith.h"
#include "evtchn/internal.h"
#include "evtchn/limits.h"

enum { PAGE_BYTES = FH_PAGE_BYTES };

FH_SHARED uint32_t *
fh_fifo_word(struct fh_evtchn_domain *d, uint32_t port)
{
    /* A1 acquire, pairs with A2. */
    const uint64_t page =
        fh_load_acquire64(&d->pages[port / FH_FIFO_WORDS_PER_PAGE]);

    if (!page)
        return NULL;
    return (FH_SHARED uint32_t *)(uintptr_t)page +
           port % FH_FIFO_WORDS_PER_PAGE;
}

static FH_SHARED uint8_t *
control_of(struct fh_evtchn_domain *d, uint32_t vcpu)
{
    /* B1 acquire, pairs with B2. */
    return (FH_SHARED uint8_t *)(uintptr_t)fh_load_acquire64(
        &d->vcpus[vcpu].control);
}

/* ---------------------------------------------------------------- queues -- */

static void
lock_moved(struct fh_evtchn_domain *d, uint32_t a, uint32_t b)
{
    fh_port_lock(&d->vcpus[a < b ? a : b].lock);
    if (a != b)
        fh_port_lock(&d->vcpus[a < b ? b : a].lock);
}

/* Locks the queues of @vcpu and those that @p was in last, which is returned;
 * *@is_move: with the lock of moves as well. */
static uint32_t
lock_queues(struct fh_evtchn_domain *d, struct fh_evtchn_port *p,
            uint32_t vcpu, bool *is_move)
{
    uint32_t last = fh_load_relaxed32(&p->last);

    *is_move = false;
    if (fh_notify_vcpu(last) == vcpu) {
        fh_port_lock(&d->vcpus[vcpu].lock);
        last = fh_load_relaxed32(&p->last);
        if (fh_notify_vcpu(last) == vcpu)
            return last;
        fh_port_unlock(&d->vcpus[vcpu].lock);
    }
    *is_move = true;
    fh_port_lock(&d->move_lock);
    last = fh_load_relaxed32(&p->last);
    lock_moved(d, vcpu, fh_notify_vcpu(last));
    return last;
}

static void
unlock_queues(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t last,
              bool is_move)
{
    fh_port_unlock(&d->vcpus[vcpu].lock);
    if (!is_move)
        return;
    if (fh_notify_vcpu(last) != vcpu)
        fh_port_unlock(&d->vcpus[fh_notify_vcpu(last)].lock);
    fh_port_unlock(&d->move_lock);
}

/* Puts claimed @port into its queue, both queues locked.  True: it is behind
 * another one, and the guest comes by. */
static bool
append(struct fh_evtchn_domain *d, uint32_t port, uint32_t notify,
       uint32_t last, FH_SHARED uint8_t *control)
{
    struct fh_evtchn_vcpu *old = &d->vcpus[fh_notify_vcpu(last)];
    struct fh_evtchn_vcpu *v = &d->vcpus[fh_notify_vcpu(notify)];
    const uint32_t priority = fh_notify_priority(notify);
    const size_t head = offsetof(struct evtchn_fifo_control_block, head);
    FH_SHARED uint32_t *tail = NULL;
    bool is_linked;

    fh_store_relaxed64(&v->n_linked, v->n_linked + 1);
    if (old != v)
        fh_store_relaxed64(&v->n_moved, v->n_moved + 1);
    if (old->tail[fh_notify_priority(last)] == port)
        old->tail[fh_notify_priority(last)] = 0;
    fh_store_relaxed32(&d->ports[port].last, notify);
    if (v->tail[priority])
        tail = fh_fifo_word(d, v->tail[priority]);
    is_linked = fh_fifo_append(
        tail, (FH_SHARED uint32_t *)(control + head) + priority, port);
    v->tail[priority] = port;
    return is_linked;
}

/* Puts @port, which is pending, into its queue, unless it is in one. */
static void
enqueue(struct fh_evtchn_domain *d, uint32_t port, uint32_t notify,
        FH_SHARED uint32_t *word, FH_SHARED uint8_t *control)
{
    const uint32_t vcpu = fh_notify_vcpu(notify);
    FH_SHARED uint8_t *info;
    bool is_move, is_claimed, is_linked = true;
    const uint32_t last = lock_queues(d, &d->ports[port], vcpu, &is_move);

    is_claimed = fh_fifo_claim(word);
    if (is_claimed)
        is_linked = append(d, port, notify, last, control);
    unlock_queues(d, vcpu, last, is_move);
    if (is_linked)
        return;
    info = fh_ev_info(d, vcpu);
    if (fh_fifo_announce((FH_SHARED uint32_t *)control,
                         fh_notify_priority(notify),
                         info ? info + FH_UPCALL_OFFSET : NULL))
        fh_ev_kick(d, vcpu);
    fh_fence_full(); /* V4, as in deliver.c */
    if (fh_ev_info(d, vcpu) != info)
        fh_ev_upcall(d, vcpu);
}

/* The port's notify word, without the bits that are not a queue's. */
static uint32_t
queue_of(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint32_t notify = fh_load_relaxed32(&d->ports[port].notify);

    return FH_NOTIFY(fh_notify_vcpu(notify), fh_notify_priority(notify));
}

/* Lets the event wait in the private bits.  Then the caller looks again for
 * what was missing, and takes the event back if it is there. */
static bool
hold(struct fh_evtchn_domain *d, uint32_t port)
{
    const uint64_t old =
        fh_fetch_or64(&d->pending[port / 64], fh_port_bit(port));

    /* G1 full fence, pairs with G2: our bit before our second look. */
    fh_fence_full();
    return !(old & fh_port_bit(port));
}

/* Puts pending @port into a queue, or lets it wait for a control block. */
static void
deliver(struct fh_evtchn_domain *d, uint32_t port, FH_SHARED uint32_t *word)
{
    uint32_t notify = queue_of(d, port);
    FH_SHARED uint8_t *control = control_of(d, fh_notify_vcpu(notify));

    if (!control) {
        (void)hold(d, port);
        notify = queue_of(d, port);
        control = control_of(d, fh_notify_vcpu(notify));
        if (!control || !fh_ev_held_take(d, port))
            return;
    }
    enqueue(d, port, notify, word, control);
}

bool
fh_fifo_raise(struct fh_evtchn_domain *d, uint32_t port)
{
    FH_SHARED uint32_t *word = fh_fifo_word(d, port);
    bool is_new = false;
    uint32_t old;

    if (!word) {
        is_new = hold(d, port);
        word = fh_fifo_word(d, port);
        if (!word || !fh_ev_held_take(d, port))
            return is_new;
    }
    old = fh_fifo_pend(word);
    if (fh_fifo_wants_link(old))
        deliver(d, port, word);
    return is_new || !(old & FH_FIFO_PENDING);
}

void
fh_fifo_unmask_port(struct fh_evtchn_domain *d, uint32_t port)
{
    FH_SHARED uint32_t *word = fh_fifo_word(d, port);

    if (word && fh_fifo_unmask(word))
        deliver(d, port, word);
}

/* ---------------------------------------------------------------- replay -- */

void
fh_fifo_replay_port(struct fh_evtchn_domain *d, uint32_t port)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);

    if (!p)
        return;
    if (fh_link_state(fh_link_enter(&p->link)) != EVTCHNSTAT_closed &&
        !fh_port_is_consumed(p) && fh_ev_held_take(d, port)) {
        (void)fh_fetch_add64(&d->n_replayed, 1);
        (void)fh_fifo_raise(d, port);
    }
    fh_link_leave(&p->link);
}

/* The waiting ones among the 64 ports from @first on; only those of @vcpu,
 * unless that is UINT32_MAX. */
static void
replay_word(struct fh_evtchn_domain *d, uint32_t first, uint32_t vcpu)
{
    uint64_t bits = fh_load_acquire64(&d->pending[first / 64]);

    for (; bits; bits &= bits - 1) {
        const uint32_t port = first + (uint32_t)__builtin_ctzll(bits);

        if (vcpu == UINT32_MAX || (fh_port_at(d, port) &&
                                   fh_notify_vcpu(queue_of(d, port)) == vcpu))
            fh_fifo_replay_port(d, port);
    }
}

int
fh_fifo_replay(struct fh_evtchn_domain *d, uint32_t vcpu)
{
    struct fh_evtchn_vcpu *v = &d->vcpus[vcpu];
    uint32_t port = fh_load_relaxed32(&v->replay);

    while (port < d->max_ports &&
           port / FH_FIFO_WORDS_PER_PAGE < fh_load_relaxed32(&d->n_pages)) {
        replay_word(d, port, vcpu);
        port += 64;
        if (d->ops->preempt && d->ops->preempt(d->hv)) {
            fh_store_relaxed32(&v->replay, port);
            return FH_EVTCHN_E_PREEMPTED;
        }
    }
    fh_store_relaxed32(&v->replay, 0);
    return 0;
}

/* ---------------------------------------------- control blocks and array -- */

/* The first control block: @d locked.  Events that are pending now wait for
 * their event words. */
static void
become_fifo(struct fh_evtchn_domain *d)
{
    fh_store_release32(&d->form, FH_FORM_FIFO);
    fh_ev_2l_to_held(d);
}

/* 0, or FH_EINVAL: there is one already, or no need of one. */
static int
control_set(struct fh_evtchn_domain *d, uint32_t vcpu, FH_SHARED uint8_t *page,
            uint32_t offset)
{
    struct fh_evtchn_vcpu *v = &d->vcpus[vcpu];
    int r = FH_EINVAL;

    fh_ev_lock(d);
    if (!v->control && !d->is_dying) {
        if (d->form == FH_FORM_2L)
            become_fifo(d);
        v->control_page = page;
        fh_store_release64(&v->control, (uintptr_t)(page + offset)); /* B2 */
        r = 0;
    }
    fh_ev_unlock(d);
    return r;
}

int
fh_evtchn_init_control(struct fh_evtchn_domain *d, uint32_t vcpu, uint64_t gfn,
                       uint32_t offset)
{
    FH_SHARED void *page;
    int r;

    if (vcpu >= d->n_vcpus)
        return FH_ENOENT;
    if (offset > PAGE_BYTES - sizeof(struct evtchn_fifo_control_block) ||
        offset % 8)
        return FH_EINVAL;
    page = d->ops->page_get ? d->ops->page_get(d->hv, d, gfn) : NULL;
    if (!page)
        return FH_EINVAL;
    r = control_set(d, vcpu, page, offset);
    if (r) {
        d->ops->page_put(d->hv, d, page);
        return r;
    }
    /* G2 full fence, pairs with G1: the control block before the bits. */
    fh_fence_full();
    return fh_fifo_replay(d, vcpu);
}

static int
may_expand(const struct fh_evtchn_domain *d)
{
    if (fh_load_relaxed32(&d->form) != FH_FORM_FIFO)
        return FH_EOPNOTSUPP;
    if (d->is_dying)
        return FH_EINVAL;
    return d->n_pages < FH_EVTCHN_PAGES_MAX ? 0 : FH_ENOSPC;
}

int
fh_evtchn_expand_array(struct fh_evtchn_domain *d, uint64_t gfn)
{
    FH_SHARED void *page;
    uint32_t slot = 0, port;
    int r;

    fh_ev_lock(d);
    r = may_expand(d);
    fh_ev_unlock(d);
    if (r)
        return r;
    page = d->ops->page_get(d->hv, d, gfn);
    if (!page)
        return FH_EINVAL;
    fh_ev_lock(d);
    r = may_expand(d); /* a reset may have been faster */
    if (!r) {
        slot = d->n_pages;
        fh_store_release64(&d->pages[slot], (uintptr_t)page); /* A2 */
        fh_store_relaxed32(&d->n_pages, slot + 1);
    }
    fh_ev_unlock(d);
    if (r) {
        d->ops->page_put(d->hv, d, page);
        return r;
    }
    /* G2 full fence, pairs with G1: the page before the bits. */
    fh_fence_full();
    port = slot * FH_FIFO_WORDS_PER_PAGE;
    for (uint32_t i = 0; i < FH_FIFO_WORDS_PER_PAGE; i += 64) {
        if (port + i < d->max_ports)
            replay_word(d, port + i, UINT32_MAX);
    }
    return 0;
}

void
fh_fifo_leave(struct fh_evtchn_domain *d)
{
    for (uint32_t i = 0; i < d->n_pages; i++) {
        d->ops->page_put(d->hv, d,
                         (FH_SHARED void *)(uintptr_t)d->pages[i]);
        fh_store_release64(&d->pages[i], 0);
    }
    fh_store_relaxed32(&d->n_pages, 0);
    for (uint32_t i = 0; i < d->n_vcpus; i++) {
        struct fh_evtchn_vcpu *v = &d->vcpus[i];

        if (v->control)
            d->ops->page_put(d->hv, d, v->control_page);
        fh_store_release64(&v->control, 0);
        v->control_page = NULL;
        fh_store_relaxed32(&v->replay, 0);
        for (unsigned q = 0; q < EVTCHN_FIFO_MAX_QUEUES; q++)
            v->tail[q] = 0;
    }
    fh_ev_2l_clear(d);
    fh_store_release32(&d->form, FH_FORM_2L);
    fh_ports_unbusy(d);
}

int
fh_evtchn_set_priority(struct fh_evtchn_domain *d, uint32_t port,
                       uint32_t priority)
{
    struct fh_evtchn_port *p = fh_port_at(d, port);
    int r = 0;

    if (!p)
        return FH_EINVAL;
    fh_ev_lock(d);
    if (d->form != FH_FORM_FIFO)
        r = FH_ENOSYS;
    else if (fh_link_state(fh_link_look(&p->link)) == EVTCHNSTAT_closed)
        r = FH_EACCES;
    else if (priority > EVTCHN_FIFO_PRIORITY_MIN)
        r = FH_EINVAL;
    else /* an event that is in a queue stays there */
        fh_store_relaxed32(&p->notify, (p->notify & ~0xfu) | priority);
    fh_ev_unlock(d);
    return r;
}
