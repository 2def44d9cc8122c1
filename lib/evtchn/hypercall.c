/* SPDX-License-Identifier: MIT */
/*
 * HYPERVISOR_event_channel_op: the argument is copied once, the op runs on the
 * copy, and what it has to say is copied back.  The structs are alike for
 * 32-bit and 64-bit callers.
 *
 * An op whose answer cannot be written is undone: nobody would know the port.
 */
#include "evtchn/internal.h"

#include "evtchn/limits.h"

union arg {
    struct evtchn_alloc_unbound alloc_unbound;
    struct evtchn_bind_interdomain bind_interdomain;
    struct evtchn_bind_virq bind_virq;
    struct evtchn_bind_ipi bind_ipi;
    struct evtchn_close close;
    struct evtchn_send send;
    struct evtchn_status status;
    struct evtchn_bind_vcpu bind_vcpu;
    struct evtchn_unmask unmask;
    struct evtchn_reset reset;
    struct evtchn_init_control init_control;
    struct evtchn_expand_array expand_array;
    struct evtchn_set_priority set_priority;
};

/* What there is to know about an op; n_bytes 0: there is none. */
struct op {
    uint8_t n_bytes;
    uint8_t is_out;
    int (*run)(struct fh_evtchn_domain *d, union arg *a);
    /* The port to close when the answer cannot be written. */
    uint32_t (*made)(const union arg *a);
};

/*
 * The domain that an op is for, with a reference; @d's own only, unless the
 * embedder allows more.  0, FH_ESRCH or what the embedder says.
 */
static int
target_get(struct fh_evtchn_domain *d, uint16_t domid, uint32_t cmd,
           struct fh_evtchn_domain **out)
{
    struct fh_evtchn_domain *t;
    int r;

    if (domid == DOMID_SELF || domid == d->domid) {
        d->ops->domain_hold(d->hv, d);
        *out = d;
        return 0;
    }
    t = domid < DOMID_FIRST_RESERVED ? d->ops->domain_get(d->hv, domid) : NULL;
    if (!t)
        return FH_ESRCH;
    r = d->ops->may ? d->ops->may(d->hv, d, t, cmd) : FH_EPERM;
    if (r) {
        d->ops->domain_put(d->hv, t);
        return r;
    }
    *out = t;
    return 0;
}

static int
op_alloc_unbound(struct fh_evtchn_domain *d, union arg *a)
{
    const uint16_t remote = a->alloc_unbound.remote_dom;
    struct fh_evtchn_domain *t;
    uint32_t port = 0;
    int r = target_get(d, a->alloc_unbound.dom, EVTCHNOP_alloc_unbound, &t);

    if (r)
        return r;
    /* "Self" is the caller, whose domain the port is for or not. */
    r = fh_evtchn_alloc_unbound(t, remote == DOMID_SELF ? d->domid : remote,
                                &port);
    d->ops->domain_put(d->hv, t);
    if (!r)
        a->alloc_unbound.port = port;
    return r;
}

static int
op_bind_interdomain(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_bind_interdomain(d, a->bind_interdomain.remote_dom,
                                      a->bind_interdomain.remote_port,
                                      &a->bind_interdomain.local_port);
}

static uint32_t
made_bind_interdomain(const union arg *a)
{
    return a->bind_interdomain.local_port;
}

static int
op_bind_virq(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_bind_virq(d, a->bind_virq.virq, a->bind_virq.vcpu,
                               &a->bind_virq.port);
}

static uint32_t
made_bind_virq(const union arg *a)
{
    return a->bind_virq.port;
}

static int
op_bind_ipi(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_bind_ipi(d, a->bind_ipi.vcpu, &a->bind_ipi.port);
}

static uint32_t
made_bind_ipi(const union arg *a)
{
    return a->bind_ipi.port;
}

static int
op_close(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_close(d, a->close.port);
}

static int
op_send(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_send(d, a->send.port);
}

static int
op_status(struct fh_evtchn_domain *d, union arg *a)
{
    struct fh_evtchn_domain *t;
    int r = target_get(d, a->status.dom, EVTCHNOP_status, &t);

    if (r)
        return r;
    r = fh_evtchn_status(t, a->status.port, &a->status);
    d->ops->domain_put(d->hv, t);
    return r;
}

static int
op_bind_vcpu(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_bind_vcpu(d, a->bind_vcpu.port, a->bind_vcpu.vcpu);
}

static int
op_unmask(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_unmask(d, a->unmask.port);
}

static int
reset(struct fh_evtchn_domain *d, union arg *a, bool is_resumed)
{
    struct fh_evtchn_domain *t;
    int r = target_get(d, a->reset.dom, EVTCHNOP_reset, &t);

    if (r)
        return r;
    r = fh_evtchn_reset(t, is_resumed);
    d->ops->domain_put(d->hv, t);
    return r;
}

static int
op_reset(struct fh_evtchn_domain *d, union arg *a)
{
    return reset(d, a, false);
}

static int
op_reset_cont(struct fh_evtchn_domain *d, union arg *a)
{
    return reset(d, a, true);
}

static int
op_init_control(struct fh_evtchn_domain *d, union arg *a)
{
    a->init_control.link_bits = EVTCHN_FIFO_LINK_BITS;
    return fh_evtchn_init_control(d, a->init_control.vcpu,
                                  a->init_control.control_gfn,
                                  a->init_control.offset);
}

static int
op_replay_cont(struct fh_evtchn_domain *d, union arg *a)
{
    if (a->init_control.vcpu >= d->n_vcpus)
        return FH_ENOENT;
    a->init_control.link_bits = EVTCHN_FIFO_LINK_BITS;
    return fh_fifo_replay(d, a->init_control.vcpu);
}

static int
op_expand_array(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_expand_array(d, a->expand_array.array_gfn);
}

static int
op_set_priority(struct fh_evtchn_domain *d, union arg *a)
{
    return fh_evtchn_set_priority(d, a->set_priority.port,
                                  a->set_priority.priority);
}

/* There is no interrupt that a domain may have. */
static int
op_bind_pirq(struct fh_evtchn_domain *d, union arg *a)
{
    return FH_EPERM;
}

#define IN(name)  { sizeof(struct evtchn_##name), 0, op_##name, NULL }
#define OUT(name) { sizeof(struct evtchn_##name), 1, op_##name, NULL }
#define MADE(name)                                                             \
    { sizeof(struct evtchn_##name), 1, op_##name, made_##name }

static const struct op ops[] = {
    [EVTCHNOP_bind_interdomain] = MADE(bind_interdomain),
    [EVTCHNOP_bind_virq] = MADE(bind_virq),
    [EVTCHNOP_bind_pirq] = { sizeof(struct evtchn_bind_virq), 0, op_bind_pirq,
                             NULL },
    [EVTCHNOP_close] = IN(close),
    [EVTCHNOP_send] = IN(send),
    [EVTCHNOP_status] = OUT(status),
    [EVTCHNOP_alloc_unbound] = OUT(alloc_unbound),
    [EVTCHNOP_bind_ipi] = MADE(bind_ipi),
    [EVTCHNOP_bind_vcpu] = IN(bind_vcpu),
    [EVTCHNOP_unmask] = IN(unmask),
    [EVTCHNOP_reset] = IN(reset),
    [EVTCHNOP_init_control] = OUT(init_control),
    [EVTCHNOP_expand_array] = IN(expand_array),
    [EVTCHNOP_set_priority] = IN(set_priority),
    [FH_EVTCHNOP_RESET_CONT] = { sizeof(struct evtchn_reset), 0, op_reset_cont,
                                 NULL },
    [FH_EVTCHNOP_REPLAY_CONT] = { sizeof(struct evtchn_init_control), 1,
                                  op_replay_cont, NULL },
};

static int
arg_read(struct fh_evtchn_domain *d, union arg *a, FH_SHARED void *arg,
         size_t n)
{
    if (d->ops->arg_read)
        return d->ops->arg_read(d->hv, d, a, arg, n);
    fh_copy_in(a, arg, n);
    return 0;
}

static int
arg_write(struct fh_evtchn_domain *d, FH_SHARED void *arg, const union arg *a,
          size_t n)
{
    if (d->ops->arg_write)
        return d->ops->arg_write(d->hv, d, arg, a, n);
    fh_copy_out(arg, a, n);
    return 0;
}

/* Takes back what @cmd made, which the guest was not told of. */
static void
undo(struct fh_evtchn_domain *d, uint32_t cmd, const union arg *a)
{
    struct fh_evtchn_domain *t;

    if (ops[cmd].made) {
        (void)!fh_evtchn_close(d, ops[cmd].made(a));
    } else if (cmd == EVTCHNOP_alloc_unbound &&
               !target_get(d, a->alloc_unbound.dom, cmd, &t)) {
        (void)!fh_evtchn_close(t, a->alloc_unbound.port);
        d->ops->domain_put(d->hv, t);
    }
}

/* What a preempted call is called when it goes on. */
static uint32_t
cmd_rest(uint32_t cmd)
{
    return cmd == EVTCHNOP_reset || cmd == FH_EVTCHNOP_RESET_CONT
               ? FH_EVTCHNOP_RESET_CONT
               : FH_EVTCHNOP_REPLAY_CONT;
}

long
fh_evtchn_hypercall(struct fh_evtchn_domain *d, uint32_t *cmd,
                    FH_SHARED void *arg)
{
    union arg a;
    const struct op *op;
    int r;

    if (*cmd >= sizeof(ops) / sizeof(ops[0]))
        return FH_ENOSYS;
    op = &ops[*cmd];
    if (arg_read(d, &a, arg, op->n_bytes))
        return FH_EFAULT;
    r = op->run(d, &a);
    if (r > 0)
        *cmd = cmd_rest(*cmd);
    if (r || !op->is_out)
        return r;
    if (!arg_write(d, arg, &a, op->n_bytes))
        return 0;
    undo(d, *cmd, &a);
    return FH_EFAULT;
}
