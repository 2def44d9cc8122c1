/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Event channels: the port state machines of a hypervisor, freestanding.
 *
 * One fh_evtchn_domain per domain, inside the embedder's own struct, with a
 * table of ports in the embedder's memory.  Port 0 is reserved.  Life:
 * fh_evtchn_init(), then ports are allocated, bound, used and closed, then
 * fh_evtchn_close_all() when the domain dies.  Semantics as in
 * <xen/event_channel.h>: sends coalesce until the receiver consumes them, a
 * masked port delivers nothing, a port is pending at once after bind.
 *
 * Who is told: when a port becomes pending and is not masked, or is unmasked
 * while pending, fh_evtchn_ops.deliver is called.
 *
 * Memory is the caller's.  No allocation, no thread, nothing logged.
 *
 * Threads: any number may call for any domains at once.  Changing a port takes
 * the locks of the domains concerned for a bounded time; send, mask, unmask
 * and consume take none.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>

#include <freehold/err.h>

struct fh_evtchn_domain;
struct fh_evtchn_port;

/* Ports of one domain, port 0 included: what the FIFO ABI can address. */
#define FH_EVTCHN_PORTS_MAX 131072u

/*
 * The embedder's operations, called with @hv as given to fh_evtchn_init().
 */
struct fh_evtchn_ops {
    /* The domain that is called @domid now, with a reference, or NULL.  Not
     * DOMID_SELF. */
    struct fh_evtchn_domain *(*domain_get)(void *hv, uint16_t domid);
    /* One more reference on @d: one per end of a bound channel, on its peer. */
    void (*domain_hold)(void *hv, struct fh_evtchn_domain *d);
    void (*domain_put)(void *hv, struct fh_evtchn_domain *d);
    /* @port of @d wants attention; may come twice for one event.  Must not
     * block, nor open, bind or close a port. */
    void (*deliver)(void *hv, struct fh_evtchn_domain *d, uint32_t port);
    /* (optional) The peer of @port closed: it is unbound now.  Called before
     * the peer's references are dropped, with no lock held. */
    void (*unbound)(void *hv, struct fh_evtchn_domain *d, uint32_t port);
};

/* Embed it.  All fields are the engine's; read uid and domid freely. */
struct fh_evtchn_domain {
    const struct fh_evtchn_ops *ops;
    void *hv;
    uint64_t uid;
    uint16_t domid;
    uint32_t lock;
    uint32_t max_ports;
    uint32_t is_dying;
    struct fh_evtchn_port *ports;
    uint64_t *free_bits[3]; /* a 1 is a free port; [2] is one word */
    uint64_t *pending, *masked;
};

/* Bytes for a table of @max_ports ports (2 .. FH_EVTCHN_PORTS_MAX), zeroed by
 * the caller, aligned to 64.  0: out of range. */
size_t
fh_evtchn_bytes(uint32_t max_ports);

/*
 * Makes @d a domain without open ports.
 * @uid: never reused by any domain
 * @mem: fh_evtchn_bytes(max_ports)
 */
void
fh_evtchn_init(struct fh_evtchn_domain *d, const struct fh_evtchn_ops *ops,
               void *hv, uint64_t uid, uint16_t domid, uint32_t max_ports,
               void *mem);

/*
 * fh_evtchn_alloc_unbound - a new port of @d that @remote may bind
 *
 * @remote: domid; DOMID_SELF is @d itself.  Need not exist yet.
 * @port:   written on success: the lowest free port
 *
 * Returns 0, FH_ENOSPC when all ports are taken, FH_EINVAL when @d is dying.
 */
FH_MUST_CHECK int
fh_evtchn_alloc_unbound(struct fh_evtchn_domain *d, uint16_t remote,
                        uint32_t *port);

/*
 * fh_evtchn_bind_interdomain - connect a new port of @d to a waiting one
 *
 * @remote, @remote_port: a port that alloc_unbound made for @d
 * @port: written on success: the lowest free port of @d.  It is pending at
 *        once: events sent before the bind would be lost otherwise.
 *
 * Returns 0, FH_ENOENT (no domain @remote; Xen: -ESRCH), FH_EINVAL (no such
 * port, not unbound, or waiting for somebody else), FH_ENOSPC.
 */
FH_MUST_CHECK int
fh_evtchn_bind_interdomain(struct fh_evtchn_domain *d, uint16_t remote,
                           uint32_t remote_port, uint32_t *port);

/* A port of @d for @virq, or for an IPI, that fh_evtchn_raise() fires.
 * Returns 0 or FH_ENOSPC. */
FH_MUST_CHECK int
fh_evtchn_bind_virq(struct fh_evtchn_domain *d, uint32_t virq, uint32_t *port);
FH_MUST_CHECK int
fh_evtchn_bind_ipi(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t *port);

/*
 * Notifies the other end of @port.  An unbound port swallows it; an IPI port
 * notifies @d itself.
 * Returns 0, or FH_EINVAL for a port of another state or out of range.
 */
FH_MUST_CHECK int
fh_evtchn_send(struct fh_evtchn_domain *d, uint32_t port);

/* The embedder itself makes @port of @d pending (virq).  Returns 0, or
 * FH_EINVAL for a port that is not bound. */
FH_MUST_CHECK int
fh_evtchn_raise(struct fh_evtchn_domain *d, uint32_t port);

/*
 * Closes @port.  Its peer becomes unbound, waiting for the same domain again.
 * The pending bit is cleared, the mask bit is the guest's and stays.
 * Returns 0, or FH_EINVAL for a port that is not open.
 */
FH_MUST_CHECK int
fh_evtchn_close(struct fh_evtchn_domain *d, uint32_t port);

/*
 * Closes the ports of a dying domain, looking at @budget of them (at least 1),
 * and refuses new ones.  @cursor is 0 at the first call; the caller keeps it.
 * Returns 0 when none is left, or FH_EVTCHN_E_PREEMPTED: call again.
 */
#define FH_EVTCHN_E_PREEMPTED 1
FH_MUST_CHECK int
fh_evtchn_close_all(struct fh_evtchn_domain *d, uint32_t budget,
                    uint32_t *cursor);

/* Fills out->status and out->u as EVTCHNOP_status does (a free port is
 * closed).  Returns 0, or FH_EINVAL for a port outside the table. */
FH_MUST_CHECK int
fh_evtchn_status(struct fh_evtchn_domain *d, uint32_t port,
                 struct evtchn_status *out);

/* Masks @port: it may become pending but is not delivered.  All three return
 * 0, or FH_EINVAL for a port outside the table. */
FH_MUST_CHECK int
fh_evtchn_mask(struct fh_evtchn_domain *d, uint32_t port);
/* Unmasks @port and delivers it if it is pending. */
FH_MUST_CHECK int
fh_evtchn_unmask(struct fh_evtchn_domain *d, uint32_t port);
/* Reads (and with @consume clears) the pending bit into *@is_pending. */
FH_MUST_CHECK int
fh_evtchn_pending(struct fh_evtchn_domain *d, uint32_t port, bool consume,
                  bool *is_pending);

/* The lowest port that is pending and not masked, or 0. */
uint32_t
fh_evtchn_next(struct fh_evtchn_domain *d);
