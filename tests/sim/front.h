/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A frontend domain: one process with the production frontend library, a
 * workload, and the oracle of its disk.
 *
 * It connects, keeps a random number of random requests in flight, and on the
 * way closes and opens the disk again, dies and comes back as another process
 * (the domain lives on), or ends with its domain, as the parameters and the
 * seed say.  Every request must be answered once; with success, unless an error
 * was injected somewhere.
 */
#include <freehold/blkfront.h>
#include "oracle.h"
#include "sim.h"

enum {
    SIM_GUEST_REQS = 64, /* in flight at most */
    SIM_GUEST_PAGES = 256, /* of its pool */
};

struct sim_guest_params {
    uint16_t domid;
    enum fh_blkif_abi abi;
    uint32_t order;
    uint32_t max_indirect;
    bool persistent;
    uint32_t quirks;
    uint32_t poll_max_ns;
    uint32_t depth;      /* requests in flight at most */
    uint32_t n_requests; /* to be answered in all */
    uint32_t n_closes;   /* times that it closes and opens again */
    uint32_t n_crashes;  /* times that its process dies */
    bool vanishes;       /* the domain is destroyed on the way */
    bool faulty;         /* the fault plan is for the frontend */
    bool errors;         /* requests may fail */
    bool may_lose_disk;  /* the backend may give it up: done then */
};

struct sim_req {
    bool used;
    enum fh_blkif_op op;
    uint32_t sector;
    uint32_t n;
    uint32_t number;   /* of a write */
    uint64_t *since;   /* of a read or a flush */
    uint8_t *buf;      /* where the data begins */
    uint32_t n_pages;  /* of the pool; 0: own memory */
    void *mem;         /* what to free */
};

struct sim_guest {
    struct sim *s;
    struct sim_guest_params p;
    struct sim_party *party;
    struct sim_oracle oracle;
    struct fh_blkfront *bf;
    void *mem;
    struct sim_req req[SIM_GUEST_REQS];
    uint32_t n_flying;
    uint32_t n_answered; /* since the start */
    uint32_t n_until;    /* answers until the next close */
    uint32_t closes_left;
    uint32_t crashes_left;
    uint32_t n_connects;
    uint32_t n_failed;   /* requests answered with an error */
    uint64_t n_read_sectors;
    bool connected;
    bool dirty;
    bool shut;
    bool done;
};

/* Makes the domain and its process; the disk must be attached already. */
void
sim_guest_init(struct sim_guest *g, struct sim *s,
               const struct sim_guest_params *p, struct sim_oracle *keep);
void
sim_guest_free(struct sim_guest *g);
/* The domain exists from now on, with its part of xenstore. */
void
sim_guest_domain(struct sim *s, uint16_t domid);
