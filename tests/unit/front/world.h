/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A world of one frontend for unit tests: struct fh_plat over a small store, a
 * few grants and one event channel, with a backend behind it that is played by
 * the test inside wait().
 *
 * The backend (world_serve()) is honest unless `twist` says which rule it
 * breaks, and when.  The k-th call to the platform can be made to fail.
 */
#include <freehold/blkfront.h>
#include <freehold/blkif.h>
#include <freehold/xenbus.h>
#include "ring/ring.h"

enum {
    WORLD_NODES = 64,
    WORLD_EVENTS = 64,
    WORLD_SHARES = 8,
    WORLD_REFS = 4096,
    WORLD_SECTORS = 4096,
    WORLD_BACKEND_DOMID = 3,
    WORLD_PORT = 17,
};

#define FRONT "/local/domain/7/device/vbd/51712"
#define BACK  "/local/domain/3/backend/vbd/7/51712"

/* How the backend misbehaves, once, at its twist_at-th response. */
enum twist {
    TWIST_NONE,
    TWIST_UNKNOWN_ID,
    TWIST_ID_BEYOND, /* index right, high half wrong */
    TWIST_TWICE,     /* answers a request two times */
    TWIST_LATE,      /* repeats an answer of long ago */
    TWIST_WRONG_OP,
    TWIST_INDIRECT_OP, /* echoes 6 instead of the inner operation */
    TWIST_INDEX_AHEAD, /* rsp_prod beyond the requests */
    TWIST_INDEX_BACK,
    TWIST_STATUS_ODD, /* a status that does not exist */
    TWIST_STATUS_ERROR,
    TWIST_STATUS_NOTSUPP,
    TWIST_SILENT, /* never answers */
};

struct world_node {
    char path[128];
    char value[64];
    bool used;
};

struct world {
    struct fh_plat plat;
    uint64_t now;
    uint32_t calls, fail_at; /* the fail_at-th call fails; 0: none */

    struct world_node nodes[WORLD_NODES], before[WORLD_NODES];
    char watch_path[128], watch_token[128];
    uint32_t n_fired;   /* watch events not yet taken */
    uint32_t conflicts; /* transactions to refuse */
    char states[64];    /* what the frontend wrote into its state, in order */
    char states_before[64]; /* the transaction */

    void *shares[WORLD_SHARES];
    uint32_t share_pages[WORLD_SHARES];
    uint8_t *ref_page[WORLD_REFS]; /* reference to page; 0 is never given */
    uint32_t next_ref;
    uint32_t n_shared; /* pages */

    bool bound, pending, masked;
    bool storm; /* an event at each wait, for nothing */
    uint32_t n_notified, n_unmasked, n_waits;

    /* The backend. */
    bool deaf;    /* leaves xenstore alone */
    bool hold;    /* serves no requests */
    bool skip;    /* the next request is not answered */
    bool reverse; /* answers in the opposite order */
    enum twist twist;
    uint32_t twist_at, n_responses;
    uint8_t last_rsp[16];
    enum fh_blkif_abi abi;
    struct fh_bring ring;
    bool connected;
    struct fh_blkif_limits limits;
    uint8_t disk[WORLD_SECTORS][512];
    uint32_t n_flushes, n_discards, n_indirect, max_batch;
};

void
world_init(struct world *w);
void
world_fini(struct world *w);

/* Store access without counting or failing. */
void
world_set(struct world *w, const char *dir, const char *key, const char *value);
const char *
world_get(struct world *w, const char *dir, const char *key);
void
world_unset(struct world *w, const char *dir, const char *key);

/* The backend's states and properties as a toolstack and a backend leave them
 * before the frontend comes. */
void
world_offer(struct world *w);

/* One turn of the backend; wait() calls it too. */
void
world_serve(struct world *w);
