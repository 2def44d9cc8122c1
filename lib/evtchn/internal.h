/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The port behind an event channel.  It changes under its domain's lock (both
 * domains' for two ends); link.h has the part that needs no lock.
 */
#include <freehold/evtchn.h>

#include "base/shared.h"
#include "evtchn/link.h"

struct fh_evtchn_port {
    fh_word64 link;
    /* Interdomain: the other side, with a reference. */
    struct fh_evtchn_domain *peer;
    uint32_t bound_to; /* virq number, or vcpu of an ipi */
    uint32_t reserved;
    uint64_t reserved2;
};

_Static_assert(sizeof(struct fh_evtchn_port) == 32, "two ports per line");

/* ------------------------------------------ the free ports (ports.c) ------ */

/* Called with the domain's lock held.  Takes the lowest free port; 0: none. */
uint32_t
fh_ports_take(struct fh_evtchn_domain *d);
void
fh_ports_give(struct fh_evtchn_domain *d, uint32_t port);
