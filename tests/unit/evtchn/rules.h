/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the tests of event channels' rules have in common: three guests a, b
 * and c, set up 2-level or FIFO, and their hypercalls.
 */
#include "tests/unit/evtchn/guest.h"

#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "evtchn/fifo.h"
#include "evtchn/internal.h"
#include "evtchn/limits.h"
#include "tests/unit/expect.h"

#define N_PORTS 5000

static struct ev_guest *const a = &ev.g[1], *const b = &ev.g[2],
                             *const c = &ev.g[3];
static struct evtchn_status st;

static inline int
setup(void **state)
{
    ev_reset(N_PORTS, false);
    return 0;
}

static inline int
setup_32(void **state)
{
    ev_reset(N_PORTS, true);
    return 0;
}

static inline int
setup_fifo(void **state)
{
    ev_reset(N_PORTS, false);
    for (unsigned i = 1; i <= EV_DOMS; i++)
        ev_go_fifo(&ev.g[i], 5);
    return 0;
}

/* A channel whose events have all been handled. */
static inline void
connect_quiet(uint32_t *pa, uint32_t *pb)
{
    ev_connect(a, pa, b, pb);
    ev_settle(b);
    memset(b->n_kicks, 0, sizeof(b->n_kicks));
    memset(b->handled, 0, sizeof(b->handled));
    b->n_order = 0;
}

static inline long
bind_virq(struct ev_guest *g, uint32_t virq, uint32_t vcpu, uint32_t *port)
{
    struct evtchn_bind_virq v = { virq, vcpu, 0 };
    long r = ev_call(g, EVTCHNOP_bind_virq, &v);

    *port = v.port;
    return r;
}

static inline long
bind_ipi(struct ev_guest *g, uint32_t vcpu, uint32_t *port)
{
    struct evtchn_bind_ipi i = { vcpu, 0 };
    long r = ev_call(g, EVTCHNOP_bind_ipi, &i);

    *port = i.port;
    return r;
}

static inline long
bind_to(struct ev_guest *g, unsigned remote, uint32_t remote_port,
        uint32_t *port)
{
    struct evtchn_bind_interdomain i = { (domid_t)remote, remote_port, 0 };
    long r = ev_call(g, EVTCHNOP_bind_interdomain, &i);

    *port = i.local_port;
    return r;
}

static inline long
set_priority(struct ev_guest *g, uint32_t port, uint32_t priority)
{
    struct evtchn_set_priority s = { port, priority };

    return ev_call(g, EVTCHNOP_set_priority, &s);
}

static inline long
expand(struct ev_guest *g, uint64_t gfn)
{
    return ev_call(g, EVTCHNOP_expand_array,
                   &(struct evtchn_expand_array){ gfn });
}

static inline long
init_control(struct ev_guest *g, uint64_t gfn, uint32_t offset, uint32_t vcpu)
{
    struct evtchn_init_control i = { gfn, offset, vcpu, 0, { 0 } };
    long r = ev_call(g, EVTCHNOP_init_control, &i);

    if (!r)
        EXPECT_EQ(i.link_bits, 17);
    return r;
}

static inline long
reset(struct ev_guest *g, unsigned dom)
{
    return ev_call(g, EVTCHNOP_reset, &(struct evtchn_reset){ (domid_t)dom });
}

static inline bool
is_pending(struct ev_guest *g, uint32_t port)
{
    bool p = false;

    EXPECT_EQ(fh_evtchn_pending(&g->d, port, false, &p), 0);
    return p;
}

#define T(f) cmocka_unit_test_setup(f, setup)
#define F(f) cmocka_unit_test_setup(f, setup_fifo)
/* In either form. */
#define BOTH(f)                                                                \
    { #f, f, setup, NULL, NULL },                                              \
    {                                                                          \
        #f "/fifo", f, setup_fifo, NULL, NULL                                  \
    }
