/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The port behind an event channel, and what the files of this module have
 * from one another.  A port changes under its domain's lock (both domains' for
 * two ends); link.h has the part that needs no lock.
 *
 * Order of locks: domains by uid; then (FIFO) move_lock; then vCPUs by number.
 * Nobody holds a vCPU's lock while he takes a domain's.
 */
#include <freehold/evtchn.h>

#include "base/shared.h"
#include "evtchn/link.h"

enum {
    FH_FORM_PLAIN,
    FH_FORM_2L,
    FH_FORM_FIFO,
};

struct fh_evtchn_port {
    fh_word64 link;
    union {
        struct fh_evtchn_domain *peer; /* interdomain, with a reference */
        uint64_t uid; /* unbound: who may bind; 0: the first with the domid */
    };
    uint32_t bound_to; /* virq number */
    fh_word32 notify;  /* FH_NOTIFY(): what senders to this port need */
    fh_word32 last;    /* FIFO: the queue that it was in last, likewise */
    uint32_t reserved;
};

_Static_assert(sizeof(struct fh_evtchn_port) == 32, "two ports per line");

/* Whom an event of the port is for. */
#define FH_NOTIFY(vcpu, priority) ((uint32_t)(vcpu) << 8 | (priority))
#define FH_NOTIFY_DEFAULT         FH_NOTIFY(0, EVTCHN_FIFO_PRIORITY_DEFAULT)
#define FH_NOTIFY_CONSUMED        0x80u /* the hypervisor itself */

static inline uint32_t
fh_notify_vcpu(uint32_t notify)
{
    return notify >> 8;
}

static inline uint32_t
fh_notify_priority(uint32_t notify)
{
    return notify & 0xf;
}

/* The port, or NULL outside the table. */
static inline struct fh_evtchn_port *
fh_port_at(struct fh_evtchn_domain *d, uint32_t port)
{
    return port && port < d->max_ports ? &d->ports[port] : NULL;
}

static inline bool
fh_port_is_consumed(const struct fh_evtchn_port *p)
{
    return fh_load_relaxed32(&p->notify) & FH_NOTIFY_CONSUMED;
}

static inline uint64_t
fh_port_bit(uint32_t port)
{
    return 1ull << port % 64;
}

static inline void
fh_ev_lock(struct fh_evtchn_domain *d)
{
    fh_port_lock(&d->lock);
}

static inline void
fh_ev_unlock(struct fh_evtchn_domain *d)
{
    fh_port_unlock(&d->lock);
}

/* PLAIN domains have no vCPUs and take any number. */
static inline bool
fh_ev_has_vcpu(const struct fh_evtchn_domain *d, uint32_t vcpu)
{
    return d->n_vcpus ? vcpu < d->n_vcpus : vcpu < FH_EVTCHN_VCPUS_MAX;
}

/* ------------------------------------------------- the ports (ports.c) ---- */

/* Called with the domain's lock held.  Takes the lowest free port; 0: none. */
uint32_t
fh_ports_take(struct fh_evtchn_domain *d);
void
fh_ports_give(struct fh_evtchn_domain *d, uint32_t port);
/* The lowest open port from @from on, or 0. */
uint32_t
fh_ports_next_open(struct fh_evtchn_domain *d, uint32_t from);
/* Makes the busy ports free ones. */
void
fh_ports_unbusy(struct fh_evtchn_domain *d);

/* -------------------------------------------- opening, closing (evtchn.c) -- */

/* What an opened port becomes. */
struct fh_port_is {
    uint64_t link;
    struct fh_evtchn_domain *peer;
    uint64_t uid;
    uint32_t bound_to, notify;
};

/* Opens the lowest free port of locked @d.  0, FH_EINVAL or FH_ENOSPC. */
int
fh_port_open(struct fh_evtchn_domain *d, const struct fh_port_is *is,
             uint32_t *port);
/* The link and uid of a port of @d that waits for @remote. */
void
fh_port_unbound(struct fh_evtchn_domain *d, uint16_t remote,
                struct fh_port_is *is);
/* Closes @port; @consumed: of the hypervisor's own, or one of the guest's.  In
 * a close by death any. */
enum fh_close_what { FH_CLOSE_GUESTS, FH_CLOSE_CONSUMED, FH_CLOSE_ANY };
int
fh_port_close(struct fh_evtchn_domain *d, uint32_t port,
              enum fh_close_what what);
/* Forgets the virq of a port that closes; @d locked (bind.c). */
void
fh_virq_forget(struct fh_evtchn_domain *d, uint32_t port);

/* --------------------------------------------- delivery (deliver.c) ------- */

/* An event for @port, which the caller keeps from changing (it is inside a
 * link that leads here). */
void
fh_ev_raise(struct fh_evtchn_domain *d, uint32_t port);
/* As fh_ev_raise(), for who is not. */
void
fh_ev_raise_own(struct fh_evtchn_domain *d, uint32_t port);
/* Clears the pending bit of a frozen port; @d locked. */
void
fh_ev_clear(struct fh_evtchn_domain *d, uint32_t port);
/* Takes the private pending bit. */
bool
fh_ev_held_take(struct fh_evtchn_domain *d, uint32_t port);
void
fh_ev_kick(struct fh_evtchn_domain *d, uint32_t vcpu);
/* Sets the upcall flag of @vcpu, and kicks. */
void
fh_ev_upcall(struct fh_evtchn_domain *d, uint32_t vcpu);
FH_SHARED uint8_t *
fh_ev_info(struct fh_evtchn_domain *d, uint32_t vcpu);
/* The 2-level pending bits go where FIFO keeps what has no word yet. */
void
fh_ev_2l_to_held(struct fh_evtchn_domain *d);
/* No port is open that a guest can use: the bits and selectors that events left
 * there while the domain was FIFO would hide the next ones. */
void
fh_ev_2l_clear(struct fh_evtchn_domain *d);

/* --------------------------------------------------- FIFO (fifo.c) -------- */

/* The event word of @port, or NULL. */
FH_SHARED uint32_t *
fh_fifo_word(struct fh_evtchn_domain *d, uint32_t port);
/* True: it was not pending before. */
bool
fh_fifo_raise(struct fh_evtchn_domain *d, uint32_t port);
void
fh_fifo_unmask_port(struct fh_evtchn_domain *d, uint32_t port);
/* Raises @port again if its event waits for a page or a control block. */
void
fh_fifo_replay_port(struct fh_evtchn_domain *d, uint32_t port);
/* Looks again at the events that waited, on from where @vcpu's init_control
 * was preempted.  0 or FH_EVTCHN_E_PREEMPTED. */
int
fh_fifo_replay(struct fh_evtchn_domain *d, uint32_t vcpu);
/* Back to 2-level, with the pages put back; @d locked, and no port open but
 * consumed ones. */
void
fh_fifo_leave(struct fh_evtchn_domain *d);
