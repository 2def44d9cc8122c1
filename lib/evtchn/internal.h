/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The port behind an event channel, and its link word.
 *
 *   bits  0..3   state, EVTCHNSTAT_*
 *   bit   4      BUSY: the port is being changed, senders keep out
 *   bits  8..23  senders that are using the port right now
 *   bits 24..39  domid of the other side (unbound: who may bind)
 *   bits 40..63  port of the other side
 *
 * A port changes under its domain's lock (both domains' for two ends), after
 * BUSY is set and the senders have left.  A sender takes no lock: it counts
 * itself in, which keeps state, peer and remote port as they are, and out.
 */
#include <freehold/evtchn.h>

#include "base/shared.h"

#define FH_LINK_STATE      0xfull
#define FH_LINK_BUSY       (1ull << 4)
#define FH_LINK_SENDER     (1ull << 8)
#define FH_LINK_SENDERS    (0xffffull << 8)
#define FH_LINK_DOMID_BIT  24
#define FH_LINK_PORT_BIT   40

struct fh_evtchn_port {
    fh_word64 link;
    /* Interdomain: the other side, with a reference. */
    struct fh_evtchn_domain *peer;
    uint32_t bound_to; /* virq number, or vcpu of an ipi */
    uint32_t reserved;
    uint64_t reserved2;
};

_Static_assert(sizeof(struct fh_evtchn_port) == 32, "two ports per line");

static inline uint64_t
fh_link(uint32_t state, uint16_t domid, uint32_t port)
{
    return state | (uint64_t)domid << FH_LINK_DOMID_BIT |
           (uint64_t)port << FH_LINK_PORT_BIT;
}

static inline uint32_t
fh_link_state(uint64_t link)
{
    return (uint32_t)(link & FH_LINK_STATE);
}

static inline uint16_t
fh_link_domid(uint64_t link)
{
    return (uint16_t)(link >> FH_LINK_DOMID_BIT);
}

static inline uint32_t
fh_link_port(uint64_t link)
{
    return (uint32_t)(link >> FH_LINK_PORT_BIT);
}

/* ------------------------------------------- the free ports (ports.c) ------ */

/* Called with the domain's lock held.  Takes the lowest free port; 0: none. */
uint32_t
fh_ports_take(struct fh_evtchn_domain *d);
void
fh_ports_give(struct fh_evtchn_domain *d, uint32_t port);
