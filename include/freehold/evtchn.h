/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Event channels: the port state machines of a hypervisor, freestanding.
 *
 * One fh_evtchn_domain per domain, inside the embedder's own struct, with a
 * table of ports in the embedder's memory.  Port 0 is reserved.  Life:
 * fh_evtchn_init() or fh_evtchn_init_guest(), then ports are allocated, bound,
 * used and closed, then fh_evtchn_close_all() when the domain dies.  Semantics
 * and errors as in <xen/event_channel.h>: sends coalesce until the receiver
 * consumes them, a masked port delivers nothing, a port is pending at once
 * after bind.
 *
 * Who is told, and where the pending bits are, is the domain's form:
 *
 *   PLAIN     bits of the engine's own; fh_evtchn_ops.deliver is called when a
 *             port becomes pending and is not masked, or is unmasked while
 *             pending
 *   2-level   bits in the shared_info page, selector and upcall flag in the
 *             vcpu_info; fh_evtchn_ops.kick is called for the vCPU
 *   FIFO      event words and control blocks in the guest's pages; kick too
 *
 * A guest's domain starts 2-level and turns to FIFO by EVTCHNOP_init_control;
 * EVTCHNOP_reset turns it back.  What the guest writes there is never a basis
 * of anything but whether that guest is told.
 *
 * Memory is the caller's.  No allocation, no thread, nothing logged.
 *
 * Threads: any number may call for any domains at once.  Changing a port takes
 * the locks of the domains concerned for a bounded time; send takes none and
 * waits for nobody (but for the queue of a FIFO vCPU, when it appends to it).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>

#include <freehold/err.h>

#ifndef FH_SHARED /* as in base/shared.h: memory that a peer may be writing */
#if defined(__clang__)
#define FH_SHARED __attribute__((noderef))
#else
#define FH_SHARED
#endif
#endif

struct fh_evtchn_domain;
struct fh_evtchn_port;

/* Ports of one domain, port 0 included: what the FIFO ABI can address. */
#define FH_EVTCHN_PORTS_MAX 131072u
/* vCPUs of one domain. */
#define FH_EVTCHN_VCPUS_MAX 4096u
/* Pages of a FIFO event array. */
#define FH_EVTCHN_PAGES_MAX 128u
/* Kicks without a bound: fh_evtchn_refill(). */
#define FH_EVTCHN_UNLIMITED UINT32_MAX
/* Not done yet: call again. */
#define FH_EVTCHN_E_PREEMPTED 1

/*
 * The embedder's operations, called with @hv as given at init, with none of
 * the engine's locks held but where it says so.  Those that are marked
 * optional may be NULL.
 */
struct fh_evtchn_ops {
    /* The domain that is called @domid now, with a reference, or NULL.  Not
     * DOMID_SELF. */
    struct fh_evtchn_domain *(*domain_get)(void *hv, uint16_t domid);
    /* One more reference on @d: one per end of a bound channel, on its peer.
     * A lock may be held. */
    void (*domain_hold)(void *hv, struct fh_evtchn_domain *d);
    void (*domain_put)(void *hv, struct fh_evtchn_domain *d);
    /* (PLAIN) @port of @d wants attention; may come twice for one event.  Must
     * not block, nor open, bind or close a port. */
    void (*deliver)(void *hv, struct fh_evtchn_domain *d, uint32_t port);
    /* (optional) The peer of @port closed: it is unbound now.  Called before
     * the peer's references are dropped. */
    void (*unbound)(void *hv, struct fh_evtchn_domain *d, uint32_t port);

    /* (guests) @vcpu of @d has its upcall flag set and must look: interrupt
     * it if it runs, wake it if it sleeps.  As deliver. */
    void (*kick)(void *hv, struct fh_evtchn_domain *d, uint32_t vcpu);
    /* (optional) @port became pending while somebody polls: wake them.  As
     * deliver. */
    void (*poll_wake)(void *hv, struct fh_evtchn_domain *d, uint32_t port);
    /* (optional) An event for a port that the hypervisor itself consumes.  As
     * deliver. */
    void (*consume)(void *hv, struct fh_evtchn_domain *d, uint32_t vcpu,
                    uint32_t port);
    /* (FIFO) A writable page of @d's own, 4096 bytes, that stays until
     * page_put(); NULL: there is none such.  page_put() is called when nobody
     * uses the page any more; a lock may be held. */
    FH_SHARED void *(*page_get)(void *hv, struct fh_evtchn_domain *d,
                                uint64_t gfn);
    void (*page_put)(void *hv, struct fh_evtchn_domain *d,
                     FH_SHARED void *page);
    /* (optional) May @d do EVTCHNOP_@cmd to @target, which is another domain?
     * 0 or an error for the guest.  NULL: FH_EPERM. */
    int (*may)(void *hv, struct fh_evtchn_domain *d,
               struct fh_evtchn_domain *target, uint32_t cmd);
    /* (optional) May @d bind @virq?  0 or an error for the guest.  NULL: 0. */
    int (*may_virq)(void *hv, struct fh_evtchn_domain *d, uint32_t virq);
    /* (optional) True: stop here, the rest another time. */
    bool (*preempt)(void *hv);
    /* (optional) Copy a hypercall's argument; nonzero is a fault.  NULL: it is
     * plain memory. */
    int (*arg_read)(void *hv, struct fh_evtchn_domain *d, void *dst,
                    const FH_SHARED void *src, size_t n);
    int (*arg_write)(void *hv, struct fh_evtchn_domain *d, FH_SHARED void *dst,
                     const void *src, size_t n);
};

/* The engine's state of one vCPU, in the embedder's memory. */
struct fh_evtchn_vcpu {
    uint64_t info;    /* vcpu_info in shared memory; 0: not registered */
    uint64_t control; /* FIFO control block; 0: none */
    FH_SHARED void *control_page;
    uint32_t lock; /* protects tail[], and the last queue of ports in it */
    uint32_t owed; /* a kick that was held back */
    uint32_t replay; /* first port that init_control has still to look at */
    uint32_t reserved;
    uint32_t tail[EVTCHN_FIFO_MAX_QUEUES];
    uint32_t virq_port[NR_VIRQS];
    uint64_t n_kicks, n_held;   /* as in struct fh_evtchn_counts */
    uint64_t n_linked, n_moved; /* under the lock */
};

/* A set of ports; [1] and [2] are summaries, 64 to 1 each. */
struct fh_evtchn_set {
    uint64_t *level[3];
};

/* Counts of a domain since init. */
struct fh_evtchn_counts {
    uint64_t kicks;    /* of vCPUs */
    uint64_t held;     /* kicks put off because the budget was spent */
    uint64_t replayed; /* events that waited for a page or a control block */
    uint64_t linked;   /* events put into a FIFO queue */
    uint64_t moved;    /* of these, into another vCPU's than before */
};

/* Embed it.  All fields are the engine's; read uid and domid freely. */
struct fh_evtchn_domain {
    const struct fh_evtchn_ops *ops;
    void *hv;
    uint64_t uid;
    uint16_t domid;
    bool is_32bit;
    uint32_t form; /* FH_FORM_* */
    uint32_t lock;
    uint32_t max_ports;
    uint32_t is_dying;
    uint32_t n_open, n_consumed, n_busy;
    uint32_t busy_look; /* where the next look at busy ports starts */
    uint32_t reset_next; /* first port to close; 0: no reset under way */
    struct fh_evtchn_port *ports;
    struct fh_evtchn_set free, busy, open;
    uint64_t *pending, *masked; /* PLAIN; FIFO: pending without a place */
    /* What only guests have. */
    struct fh_evtchn_vcpu *vcpus;
    uint32_t n_vcpus;
    uint32_t n_pages;   /* of the event array */
    uint32_t n_pollers;
    uint32_t budget;    /* kicks until the next refill */
    uint32_t move_lock; /* of ports between vCPUs' queues */
    FH_SHARED uint8_t *shared_info;
    uint64_t *pages; /* FH_EVTCHN_PAGES_MAX addresses */
    uint64_t n_replayed;
};

/* A guest's domain.  All memory is the caller's, zeroed. */
struct fh_evtchn_guest {
    const struct fh_evtchn_ops *ops;
    void *hv;
    uint64_t uid; /* never reused by any domain */
    uint16_t domid;
    bool is_32bit; /* layout of shared_info and vcpu_info */
    uint32_t max_ports;
    void *mem; /* fh_evtchn_bytes(max_ports) */
    uint32_t n_vcpus;
    struct fh_evtchn_vcpu *vcpus;
    FH_SHARED void *shared_info; /* struct shared_info, at least 3072 bytes */
};

/* Bytes for a table of @max_ports ports (2 .. FH_EVTCHN_PORTS_MAX), zeroed by
 * the caller, aligned to 64.  0: out of range. */
size_t
fh_evtchn_bytes(uint32_t max_ports);

/*
 * Makes @d a PLAIN domain without open ports.
 * @uid: never reused by any domain
 * @mem: fh_evtchn_bytes(max_ports)
 */
void
fh_evtchn_init(struct fh_evtchn_domain *d, const struct fh_evtchn_ops *ops,
               void *hv, uint64_t uid, uint16_t domid, uint32_t max_ports,
               void *mem);

/* Makes @d a 2-level domain without open ports, whose first 32 vCPUs have
 * their vcpu_info in the shared_info page. */
void
fh_evtchn_init_guest(struct fh_evtchn_domain *d,
                     const struct fh_evtchn_guest *guest);

/*
 * @vcpu of @d has its vcpu_info at @info from now on (VCPUOP_register_vcpu_
 * info).  Everything is marked as pending there, so that nothing is lost.  The
 * old place is not written again once sends in flight have returned.
 * Returns 0, or FH_ENOENT for no such vCPU.
 */
FH_MUST_CHECK int
fh_evtchn_vcpu_info(struct fh_evtchn_domain *d, uint32_t vcpu,
                    FH_SHARED void *info);

/*
 * fh_evtchn_hypercall - one event_channel_op of a guest
 *
 * @cmd: EVTCHNOP_*; changed when the call was preempted
 * @arg: the op's struct, in the guest's memory
 *
 * Returns what the guest gets: 0 or a negative errno (as Xen; FH_EPERM for
 * bind_pirq, there are none; FH_ENOSYS for an unknown op), or
 * FH_EVTCHN_E_PREEMPTED: calling again with the same @cmd and @arg goes on.
 * An output that cannot be written undoes the op: FH_EFAULT.
 */
FH_MUST_CHECK long
fh_evtchn_hypercall(struct fh_evtchn_domain *d, uint32_t *cmd,
                    FH_SHARED void *arg);

/* What *cmd may be after a preempted call, besides EVTCHNOP_*. */
#define FH_EVTCHNOP_RESET_CONT  14u /* the number that Xen keeps for it */
#define FH_EVTCHNOP_REPLAY_CONT 15u /* init_control */

/*
 * fh_evtchn_alloc_unbound - a new port of @d that @remote may bind
 *
 * @remote: domid; DOMID_SELF is @d itself.  If there is such a domain now, only
 *          that one may bind, not a later one of the same number; else the
 *          first to come.
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
 * Returns 0, FH_ESRCH (no domain @remote), FH_EINVAL (no such port, not
 * unbound, or waiting for somebody else; a domain is dying), FH_ENOSPC.
 */
FH_MUST_CHECK int
fh_evtchn_bind_interdomain(struct fh_evtchn_domain *d, uint16_t remote,
                           uint32_t remote_port, uint32_t *port);

/*
 * A port of @d for @virq of @vcpu, that fh_evtchn_raise_virq() fires.
 * Returns 0, FH_EINVAL (no such virq; a global one, and @vcpu is not 0),
 * FH_ENOENT (no such vCPU), FH_EEXIST (bound already), what may_virq says, or
 * FH_ENOSPC.  In a PLAIN domain any number of ports may have one virq.
 */
FH_MUST_CHECK int
fh_evtchn_bind_virq(struct fh_evtchn_domain *d, uint32_t virq, uint32_t vcpu,
                    uint32_t *port);
/* A port that notifies @vcpu of @d itself.  Returns 0, FH_ENOENT, FH_ENOSPC. */
FH_MUST_CHECK int
fh_evtchn_bind_ipi(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t *port);

/* @vcpu is notified of @port from now on.  Returns 0, FH_ENOENT (no such
 * vCPU), FH_EINVAL (no such port, an IPI, a vCPU's own virq, or consumed). */
FH_MUST_CHECK int
fh_evtchn_bind_vcpu(struct fh_evtchn_domain *d, uint32_t port, uint32_t vcpu);

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
/* The same by the number of the virq; one that is not bound is dropped. */
void
fh_evtchn_raise_virq(struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t virq);

/*
 * Closes @port.  Its peer becomes unbound, waiting for the same domain again.
 * The pending bit is cleared, the mask bit is the guest's and stays.
 * Returns 0, or FH_EINVAL for a port that is not open, or is consumed.
 */
FH_MUST_CHECK int
fh_evtchn_close(struct fh_evtchn_domain *d, uint32_t port);

/*
 * A port of guest @d whose events go to fh_evtchn_ops.consume: the hypervisor's
 * own end towards @remote.  The guest can neither close it nor use it, a reset
 * leaves it.  Send and close with these two.
 */
FH_MUST_CHECK int
fh_evtchn_consumer_open(struct fh_evtchn_domain *d, uint32_t vcpu,
                        uint16_t remote, uint32_t *port);
FH_MUST_CHECK int
fh_evtchn_consumer_send(struct fh_evtchn_domain *d, uint32_t port);
FH_MUST_CHECK int
fh_evtchn_consumer_close(struct fh_evtchn_domain *d, uint32_t port);

/*
 * Closes the ports of a dying domain, @budget of them (at least 1), and refuses
 * new ones.  @cursor is 0 at the first call; the caller keeps it.
 * Returns 0 when none is left and the guest's pages are put back, or
 * FH_EVTCHN_E_PREEMPTED: call again.
 */
FH_MUST_CHECK int
fh_evtchn_close_all(struct fh_evtchn_domain *d, uint32_t budget,
                    uint32_t *cursor);

/*
 * fh_evtchn_reset - close all ports of a guest that lives on
 *
 * @is_resumed: goes on after FH_EVTCHN_E_PREEMPTED
 *
 * Back to 2-level; control blocks and event array are put back.  Looks at
 * fh_evtchn_ops.preempt every FH_EVTCHN_RESET_STEP ports.
 * Returns 0, FH_EVTCHN_E_PREEMPTED, FH_EBUSY (another reset is under way, or
 * nothing to resume), FH_EAGAIN (ports were opened meanwhile).
 */
#define FH_EVTCHN_RESET_STEP 64u
FH_MUST_CHECK int
fh_evtchn_reset(struct fh_evtchn_domain *d, bool is_resumed);

/* Fills all of *@out but dom and port as EVTCHNOP_status does (a free port is
 * closed).  Returns 0, or FH_EINVAL for a port outside the table, FH_EACCES
 * for one that the hypervisor consumes. */
FH_MUST_CHECK int
fh_evtchn_status(struct fh_evtchn_domain *d, uint32_t port,
                 struct evtchn_status *out);

/* The FIFO ABI, as EVTCHNOP_init_control, _expand_array and _set_priority. */
FH_MUST_CHECK int
fh_evtchn_init_control(struct fh_evtchn_domain *d, uint32_t vcpu, uint64_t gfn,
                       uint32_t offset);
FH_MUST_CHECK int
fh_evtchn_expand_array(struct fh_evtchn_domain *d, uint64_t gfn);
FH_MUST_CHECK int
fh_evtchn_set_priority(struct fh_evtchn_domain *d, uint32_t port,
                       uint32_t priority);

/* Masks @port of a PLAIN domain: it may become pending but is not delivered.
 * All three return 0, or FH_EINVAL for a port outside the table. */
FH_MUST_CHECK int
fh_evtchn_mask(struct fh_evtchn_domain *d, uint32_t port);
/* Unmasks @port and delivers it if it is pending.  Any form. */
FH_MUST_CHECK int
fh_evtchn_unmask(struct fh_evtchn_domain *d, uint32_t port);
/* Reads (and with @consume, in a PLAIN domain, clears) the pending bit into
 * *@is_pending. */
FH_MUST_CHECK int
fh_evtchn_pending(struct fh_evtchn_domain *d, uint32_t port, bool consume,
                  bool *is_pending);

/* The lowest port that is pending and not masked, or 0.  PLAIN. */
uint32_t
fh_evtchn_next(struct fh_evtchn_domain *d);

/*
 * SCHEDOP_poll: announces a poller of @ports, and looks.
 * Returns 0 with *@is_ready: one of them is pending already, do not sleep, and
 * nothing is announced; else sleep, and call fh_evtchn_poll_end() once awake.
 * FH_EINVAL for a port outside the table.
 */
FH_MUST_CHECK int
fh_evtchn_poll(struct fh_evtchn_domain *d, const uint32_t *ports, uint32_t n,
               bool *is_ready);
void
fh_evtchn_poll_end(struct fh_evtchn_domain *d);

/*
 * The receiver's budget against storms: from now until the next refill @d's
 * vCPUs are kicked @n_kicks times at most; what comes beyond that stays pending
 * and is kicked for by the next refill, with which nothing is lost.  At init
 * and after FH_EVTCHN_UNLIMITED there is no bound.
 * Returns how many kicks had been put off and were made now.
 */
uint32_t
fh_evtchn_refill(struct fh_evtchn_domain *d, uint32_t n_kicks);

/* What @d's vCPUs were put through until now. */
void
fh_evtchn_counts(const struct fh_evtchn_domain *d,
                 struct fh_evtchn_counts *out);
