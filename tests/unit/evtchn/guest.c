/* SPDX-License-Identifier: MIT */
/*
 * Three guests.  What their kernels do follows the public header's description
 * of the two ABIs: the flag before the selector before the bits; a FIFO's word
 * gives up LINKED and the link in one step.
 */
#include "evtchn/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "evtchn/fifo.h"
#include "evtchn/internal.h"
#include "evtchn/limits.h"

struct ev_world ev;

/* -------------------------------------------------------------- embedder -- */

static bool
op_fails(void)
{
    return ++ev.n_ops == ev.fail_at;
}

static struct fh_evtchn_domain *
op_domain_get(void *hv, uint16_t domid)
{
    if (!domid || domid > EV_DOMS || ev.is_absent[domid] || op_fails())
        return NULL;
    ev.g[domid].refs++;
    return &ev.g[domid].d;
}

static void
op_domain_hold(void *hv, struct fh_evtchn_domain *d)
{
    ((struct ev_guest *)d)->refs++;
}

static void
op_domain_put(void *hv, struct fh_evtchn_domain *d)
{
    if (!((struct ev_guest *)d)->refs--)
        abort();
}

static void
op_unbound(void *hv, struct fh_evtchn_domain *d, uint32_t port)
{
    ((struct ev_guest *)d)->n_unbound++;
}

static void
op_kick(void *hv, struct fh_evtchn_domain *d, uint32_t vcpu)
{
    struct ev_guest *g = (struct ev_guest *)d;

    g->n_kicks[vcpu]++;
    g->is_kicked[vcpu] = true;
}

static void
op_poll_wake(void *hv, struct fh_evtchn_domain *d, uint32_t port)
{
    ((struct ev_guest *)d)->n_wakes++;
}

static void
op_consume(void *hv, struct fh_evtchn_domain *d, uint32_t vcpu, uint32_t port)
{
    ((struct ev_guest *)d)->n_consumed++;
    ((struct ev_guest *)d)->consumed_port = port;
}

static FH_SHARED void *
op_page_get(void *hv, struct fh_evtchn_domain *d, uint64_t gfn)
{
    struct ev_guest *g = (struct ev_guest *)d;

    if (!gfn || gfn > EV_PAGES || g->page_used[gfn] || op_fails())
        return NULL;
    g->page_used[gfn] = true;
    return (FH_SHARED void *)(uintptr_t)g->page[gfn];
}

static void
op_page_put(void *hv, struct fh_evtchn_domain *d, FH_SHARED void *page)
{
    struct ev_guest *g = (struct ev_guest *)d;
    const size_t gfn = ((uintptr_t)page - (uintptr_t)g->page) / 4096;

    if (!gfn || gfn > EV_PAGES || !g->page_used[gfn])
        abort();
    g->page_used[gfn] = false;
}

static int
op_may(void *hv, struct fh_evtchn_domain *d, struct fh_evtchn_domain *target,
       uint32_t cmd)
{
    return ev.may_control ? 0 : FH_EPERM;
}

static int
op_may_virq(void *hv, struct fh_evtchn_domain *d, uint32_t virq)
{
    return op_fails() ? FH_EBUSY : ev.virq_answer;
}

static bool
op_preempt(void *hv)
{
    return ev.always_preempt;
}

static int
op_arg_read(void *hv, struct fh_evtchn_domain *d, void *dst,
            const FH_SHARED void *src, size_t n)
{
    if (op_fails())
        return 1;
    fh_copy_in(dst, src, n);
    return 0;
}

static int
op_arg_write(void *hv, struct fh_evtchn_domain *d, FH_SHARED void *dst,
             const void *src, size_t n)
{
    if (op_fails())
        return 1;
    fh_copy_out(dst, src, n);
    return 0;
}

const struct fh_evtchn_ops ev_ops = {
    .domain_get = op_domain_get,
    .domain_hold = op_domain_hold,
    .domain_put = op_domain_put,
    .unbound = op_unbound,
    .kick = op_kick,
    .poll_wake = op_poll_wake,
    .consume = op_consume,
    .page_get = op_page_get,
    .page_put = op_page_put,
    .may = op_may,
    .may_virq = op_may_virq,
    .preempt = op_preempt,
    .arg_read = op_arg_read,
    .arg_write = op_arg_write,
};

void
ev_reborn(unsigned domid, uint64_t uid)
{
    struct ev_guest *g = &ev.g[domid];

    if (fh_evtchn_bytes(ev.max_ports) > sizeof(g->mem))
        abort();
    memset(g, 0, sizeof(*g));
    fh_evtchn_init_guest(&g->d, &(struct fh_evtchn_guest){
        .ops = &ev_ops,
        .uid = uid,
        .domid = (uint16_t)domid,
        .is_32bit = ev.is_32bit,
        .max_ports = ev.max_ports,
        .mem = g->mem,
        .n_vcpus = EV_VCPUS,
        .vcpus = g->vcpus,
        .shared_info = (FH_SHARED void *)(uintptr_t)g->shared_info,
    });
}

void
ev_reset(uint32_t max_ports, bool is_32bit)
{
    memset(&ev.is_absent, 0, sizeof(ev) - offsetof(struct ev_world, is_absent));
    ev.max_ports = max_ports;
    ev.is_32bit = is_32bit;
    for (unsigned i = 1; i <= EV_DOMS; i++)
        ev_reborn(i, 100 - i);
}

/* ------------------------------------------------------------ hypercalls -- */

long
ev_call(struct ev_guest *g, uint32_t cmd, void *arg)
{
    long r;

    while ((r = fh_evtchn_hypercall(&g->d, &cmd,
                                    (FH_SHARED void *)(uintptr_t)arg)) > 0)
        ev.n_preempted++;
    return r;
}

uint32_t
ev_alloc(struct ev_guest *g, unsigned remote)
{
    struct evtchn_alloc_unbound a = { DOMID_SELF, (domid_t)remote, 0 };

    return ev_call(g, EVTCHNOP_alloc_unbound, &a) ? 0 : a.port;
}

void
ev_connect(struct ev_guest *a, uint32_t *pa, struct ev_guest *b, uint32_t *pb)
{
    struct evtchn_bind_interdomain bind = { .remote_dom = a->d.domid };

    *pa = ev_alloc(a, b->d.domid);
    bind.remote_port = *pa;
    if (!*pa || ev_call(b, EVTCHNOP_bind_interdomain, &bind))
        abort();
    *pb = bind.local_port;
}

long
ev_send(struct ev_guest *g, uint32_t port)
{
    return ev_call(g, EVTCHNOP_send, &(struct evtchn_send){ port });
}

long
ev_unmask(struct ev_guest *g, uint32_t port)
{
    return ev_call(g, EVTCHNOP_unmask, &(struct evtchn_unmask){ port });
}

long
ev_close(struct ev_guest *g, uint32_t port)
{
    return ev_call(g, EVTCHNOP_close, &(struct evtchn_close){ port });
}

long
ev_bind_vcpu(struct ev_guest *g, uint32_t port, uint32_t vcpu)
{
    struct evtchn_bind_vcpu a = { port, vcpu };

    return ev_call(g, EVTCHNOP_bind_vcpu, &a);
}

long
ev_status(struct ev_guest *g, uint32_t port, struct evtchn_status *s)
{
    long r;

    *s = (struct evtchn_status){ .dom = DOMID_SELF, .port = port };
    r = ev_call(g, EVTCHNOP_status, s);
    return r ? r : (long)s->status;
}

void
ev_go_fifo(struct ev_guest *g, unsigned n_pages)
{
    for (uint32_t i = 0; i < EV_VCPUS; i++) {
        struct evtchn_init_control c = { i + 6, 80, i, 0, { 0 } };

        if (ev_call(g, EVTCHNOP_init_control, &c))
            abort();
    }
    for (unsigned i = 0; i < n_pages; i++) {
        struct evtchn_expand_array a = { 1 + i };

        if (ev_call(g, EVTCHNOP_expand_array, &a))
            abort();
    }
}

/* ------------------------------------------------------------ the kernel -- */

FH_SHARED uint32_t *
ev_word(struct ev_guest *g, uint32_t port)
{
    return fh_fifo_word(&g->d, port);
}

static void
handle(struct ev_guest *g, uint32_t port, uint32_t vcpu)
{
    if (port >= EV_PORTS_MAX)
        return;
    g->handled[port]++;
    g->handled_on[port] = vcpu;
    if (g->n_order < FH_ARRAY_SIZE(g->order))
        g->order[g->n_order++] = port;
}

void
ev_mask(struct ev_guest *g, uint32_t port)
{
    FH_SHARED uint8_t *page = (FH_SHARED uint8_t *)(uintptr_t)g->shared_info;
    const size_t at = g->d.is_32bit ? FH_MASK_OFFSET_32 : FH_MASK_OFFSET_64;

    if (g->d.form == FH_FORM_FIFO)
        (void)fh_fetch_or32(ev_word(g, port), FH_FIFO_MASKED);
    else
        (void)fh_fetch_or32(page + at + port / 32 * 4, 1u << port % 32);
}

/* The unmasked pending bits of 32 ports from @first on, one at a time. */
static void
upcall_2l_word(struct ev_guest *g, uint32_t first, uint32_t vcpu)
{
    FH_SHARED uint8_t *page = (FH_SHARED uint8_t *)(uintptr_t)g->shared_info;
    const size_t mask = g->d.is_32bit ? FH_MASK_OFFSET_32 : FH_MASK_OFFSET_64;
    FH_SHARED uint8_t *pending = page + FH_PENDING_OFFSET + first / 8;
    uint32_t bits = fh_load_acquire32(pending) &
                    ~fh_load_relaxed32(page + mask + first / 8);

    for (; bits; bits &= bits - 1) {
        const uint32_t bit = bits & -bits;

        if (fh_fetch_and32(pending, ~bit) & bit)
            handle(g, first + (uint32_t)__builtin_ctz(bit), vcpu);
    }
}

/* 2-level: the selector, then the words that it names. */
static void
upcall_2l(struct ev_guest *g, uint32_t vcpu, FH_SHARED uint8_t *info)
{
    const uint32_t n_bits = g->d.is_32bit ? 32 : 64;

    for (uint32_t half = 0; half < n_bits; half += 32) {
        FH_SHARED uint8_t *at =
            info + (g->d.is_32bit ? FH_SEL_OFFSET_32 : FH_SEL_OFFSET_64);
        uint32_t sel = fh_exchange32(at + half / 8, 0);

        for (; sel; sel &= sel - 1) {
            const uint32_t word = half + (uint32_t)__builtin_ctz(sel);

            for (uint32_t i = 0; i < n_bits; i += 32)
                upcall_2l_word(g, word * n_bits + i, vcpu);
        }
    }
}

/* FIFO: one event of a queue. True: there is another. */
static bool
upcall_one(struct ev_guest *g, uint32_t vcpu, uint32_t priority,
           FH_SHARED uint8_t *control)
{
    uint32_t *head = &g->head[vcpu][priority];
    FH_SHARED uint32_t *word;
    uint32_t port = *head, old;

    if (!port)
        port = fh_load_acquire32(control + 8 + priority * 4);
    word = ev_word(g, port);
    if (!port || !word)
        return false;
    old = fh_fetch_and32(word, ~(FH_FIFO_LINKED | FH_FIFO_LINK));
    *head = old & FH_FIFO_LINK;
    old = fh_load_acquire32(word);
    if ((old & FH_FIFO_PENDING) && !(old & FH_FIFO_MASKED)) {
        (void)fh_fetch_and32(word, ~FH_FIFO_PENDING);
        handle(g, port, vcpu);
    }
    return *head;
}

static void
upcall_fifo(struct ev_guest *g, uint32_t vcpu)
{
    FH_SHARED uint8_t *control =
        (FH_SHARED uint8_t *)(uintptr_t)g->vcpus[vcpu].control;
    uint32_t ready;

    if (!control)
        return;
    ready = fh_exchange32(control, 0);
    while (ready) {
        const uint32_t priority = (uint32_t)__builtin_ctz(ready);

        if (!upcall_one(g, vcpu, priority, control))
            ready &= ~(1u << priority);
        ready |= fh_exchange32(control, 0);
    }
}

void
ev_upcall(struct ev_guest *g, uint32_t vcpu)
{
    FH_SHARED uint8_t *info =
        (FH_SHARED uint8_t *)(uintptr_t)g->vcpus[vcpu].info;

    g->is_kicked[vcpu] = false;
    (void)fh_exchange8(info, 0);
    if (g->d.form == FH_FORM_FIFO)
        upcall_fifo(g, vcpu);
    else
        upcall_2l(g, vcpu, info);
}

void
ev_settle(struct ev_guest *g)
{
    bool again = true;

    while (again) {
        again = false;
        for (uint32_t i = 0; i < EV_VCPUS; i++) {
            if (!g->is_kicked[i])
                continue;
            ev_upcall(g, i);
            again = true;
        }
    }
}
