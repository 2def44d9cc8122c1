/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Three guests for the tests of event channels: their shared memory, what an
 * honest kernel does there when it is kicked, and an embedder that can be told
 * to fail its k-th operation.
 *
 * No threads of its own; under the scheduler of tests/sched the accesses of the
 * guests' code are points like the engine's.
 */
#include <freehold/evtchn.h>

#include "base/shared.h"

#define EV_DOMS  3
#define EV_VCPUS 3
#define EV_PAGES 8 /* gfn 1 .. 8 */
#ifndef EV_PORTS_MAX
#define EV_PORTS_MAX 6000
#endif

struct ev_guest {
    struct fh_evtchn_domain d; /* first: a domain is its guest */
    uint8_t shared_info[4096] __attribute__((aligned(4096)));
    uint8_t vcpu_info[EV_VCPUS][64] __attribute__((aligned(64)));
    uint8_t page[EV_PAGES + 1][4096] __attribute__((aligned(4096)));
    struct fh_evtchn_vcpu vcpus[EV_VCPUS];
    uint8_t mem[EV_PORTS_MAX * 40 + 2048] __attribute__((aligned(64)));
    bool page_used[EV_PAGES + 1];
    uint32_t refs;
    uint32_t n_kicks[EV_VCPUS], n_wakes, n_consumed, consumed_port, n_unbound;
    bool is_kicked[EV_VCPUS];
    /* What its kernel remembers. */
    uint32_t head[EV_VCPUS][16];
    uint32_t handled[EV_PORTS_MAX], handled_on[EV_PORTS_MAX];
    uint32_t order[64], n_order; /* the first ports handled */
};

struct ev_world {
    struct ev_guest g[EV_DOMS + 1]; /* by domid, from 1 */
    bool is_absent[EV_DOMS + 1];
    uint32_t fail_at; /* the operation that fails, from 1; 0: none */
    uint32_t n_ops;
    bool may_control; /* other domains */
    bool always_preempt;
    int virq_answer;
    uint32_t n_preempted;
    bool is_32bit;
    uint32_t max_ports;
};

extern struct ev_world ev;
extern const struct fh_evtchn_ops ev_ops;

/* All guests anew. */
void
ev_reset(uint32_t max_ports, bool is_32bit);
/* One guest anew, under the same number. */
void
ev_reborn(unsigned domid, uint64_t uid);

/* A hypercall of a guest, until it is done. */
long
ev_call(struct ev_guest *g, uint32_t cmd, void *arg);

/* alloc_unbound and bind_interdomain; both ends. */
void
ev_connect(struct ev_guest *a, uint32_t *pa, struct ev_guest *b, uint32_t *pb);
uint32_t
ev_alloc(struct ev_guest *g, unsigned remote);
long
ev_send(struct ev_guest *g, uint32_t port);
long
ev_unmask(struct ev_guest *g, uint32_t port);
long
ev_close(struct ev_guest *g, uint32_t port);
long
ev_bind_vcpu(struct ev_guest *g, uint32_t port, uint32_t vcpu);
/* EVTCHNSTAT_*, or the error. */
long
ev_status(struct ev_guest *g, uint32_t port, struct evtchn_status *s);
/* Control blocks of all vCPUs in page 1, the array in pages 2 to 1 + @n. */
void
ev_go_fifo(struct ev_guest *g, unsigned n_pages);

/* ------------------------------------------------- what a kernel does -- */

/* The upcall of @vcpu: handles all that is pending there. */
void
ev_upcall(struct ev_guest *g, uint32_t vcpu);
/* The upcalls of all vCPUs that were kicked, until none is. */
void
ev_settle(struct ev_guest *g);
/* The mask bit of @port. */
void
ev_mask(struct ev_guest *g, uint32_t port);
FH_SHARED uint32_t *
ev_word(struct ev_guest *g, uint32_t port);
