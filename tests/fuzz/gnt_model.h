/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The rules of grant tables once more, as plainly as they can be said: lists
 * that are searched, counts that are counted anew each time, one thing after
 * the other.  It knows nothing of control words, generations, free lists or
 * batches.
 *
 * m_X() says what status operation X would have now, and what it would do;
 * m_X_did() does that to the model, after the engine said that it did.  What
 * granters wrote is read from the shared pages themselves.
 */
#include "tests/unit/grant/world.h"

#define M_DOMS   3
#define M_FRAMES 8  /* of each domain, from m_first_mfn() on */
#define M_QUOTA  12 /* live mappings of one domain */
#define M_SLOTS  16 /* page-table slots */
#define M_MAPS   (M_DOMS * M_QUOTA)

/* A live mapping. */
struct m_map {
    bool live;
    uint16_t mapper, granter;
    uint32_t ref, flags; /* host, device: what is still there */
    uint64_t mfn;
    uint32_t handle;
};

struct m_pte {
    uint64_t mfn; /* 0: empty */
    bool rw, own;
};

struct m_domain {
    struct m_pte pte[M_SLOTS];
    struct {
        bool closed, notify;
    } entry[FH_GNT_V1_PER_FRAME];
    uint32_t version;
    bool transitive; /* its transitive entries count */
    uint32_t kicks; /* at least: copies and failed maps unpin as well */
    bool dying;
};

struct m_world {
    struct world *w;
    struct m_domain dom[M_DOMS];
    struct m_map maps[M_MAPS];
    uint8_t bytes[M_DOMS * M_FRAMES][FH_PAGE_BYTES];
};

/* What one unmap of any kind asks for. */
struct m_unmap {
    uint32_t handle;
    uint64_t host_addr, dev_bus_addr, new_addr;
    bool duplicate, by_ref;
    uint16_t dom;
    uint32_t ref;
};

/* A page, or a window of one. */
struct m_page {
    uint64_t mfn;
    uint32_t start, length;
};

/* A copy's pages, if it may happen. */
struct m_copy {
    struct m_page from, to;
};

struct m_pins {
    uint32_t readers, writers;
    uint16_t grantee;
    uint64_t mfn;
};

static inline uint64_t
m_first_mfn(uint16_t dom)
{
    return WORLD_MFN0 + (uint64_t)dom * M_FRAMES;
}

static inline uint64_t
m_slot_of(uint64_t host_addr)
{
    return (host_addr >> 12) - 1;
}

struct m_pins
m_pins_of(const struct m_world *m, uint16_t granter, uint32_t ref);

int16_t
m_map(const struct m_world *m, uint16_t caller,
      const struct gnttab_map_grant_ref *op, uint64_t *mfn);
/* False: there is no room for it in the model, or its handle is taken. */
bool
m_map_did(struct m_world *m, uint16_t caller,
          const struct gnttab_map_grant_ref *op, uint64_t mfn);

int16_t
m_unmap(const struct m_world *m, uint16_t caller, const struct m_unmap *op);
void
m_unmap_did(struct m_world *m, uint16_t caller, const struct m_unmap *op);

int16_t
m_copy(const struct m_world *m, uint16_t caller, const struct gnttab_copy *op,
       struct m_copy *out);
void
m_copy_did(struct m_world *m, const struct gnttab_copy *op,
           const struct m_copy *c);

/* What set_version returns; it works on nobody but @dom. */
int
m_set_version(const struct m_world *m, uint16_t dom, uint32_t version);
int16_t
m_swap(const struct m_world *m, uint16_t dom, uint32_t a, uint32_t b);
/* True: @ref is in @dom's table. */
bool
m_in_table(const struct m_world *m, uint16_t dom, uint32_t ref);

/* All mappings of a dead domain are gone. */
void
m_release(struct m_world *m, uint16_t mapper);

/* The engine's state is the model's: pins, marks, page tables.  NULL, or what
 * is not. */
const char *
m_compare(const struct m_world *m);
