/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The persistent-grant cache: pages of one peer that stay mapped between
 * requests.  It knows nothing of disks; one cache serves one ring.
 *
 * Looking up a reference is two array accesses: a root of leaves, a leaf of
 * page numbers, one leaf for each 512 references (a frame of the granter's
 * table).  The number of leaves is bounded, so whatever references the peer
 * invents, the memory stays what it was at init: a reference that finds no
 * leaf is not cacheable, and the caller copies instead.
 *
 * Pages that one fh_pgrant_get() had to map, at most max_chunk of them, form a
 * chunk: mapped by one platform call and later unmapped by one.  Use is counted
 * by chunk; a chunk in use is never unmapped.  Idle chunks stand in the order
 * of their last use and leave from the old end: when the cap is reached, when
 * idle for too long, or under pressure.  Whoever stays idle must be unmapped
 * some time, because the guest cannot take the memory back before.
 *
 * The peer may revoke or change anything: a mapped frame stays mapped until we
 * unmap it (Xen holds a reference), so a stale page is the peer's own damage.
 *
 * Life: init > get/put/expire/shrink > fini.  The tables live in memory of the
 * caller's, fh_pgrant_bytes() long; nothing is allocated.  One thread per
 * cache.  Blocks only as long as the platform's gnt_map and gnt_unmap do.
 * Never logs.
 */
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>
#include <freehold/plat.h>

enum {
    FH_PGRANT_LEAF_REFS = 512,     /* v1 entries in a frame of the table */
    FH_PGRANT_ROOT_LEAVES = 2048,  /* references of 2^20 and up: no cache */
    FH_PGRANT_LEAVES_DEFAULT = 64, /* Xen's default of 64 frames a guest */
    FH_PGRANT_CHUNK_DEFAULT = 32,  /* what Linux puts into one request */
    FH_PGRANT_MAX_PAGES = 65534,   /* page numbers are 16 bits, 0 is none */
    FH_PGRANT_MAX_CHUNK = 512,     /* pages of one map call */
    FH_PGRANT_EXPIRE_CHUNKS = 64,  /* most unmaps of one fh_pgrant_expire() */
};

/* Verdicts of fh_pgrant_get().  After the last two, copy: nothing is wrong. */
enum {
    FH_PGRANT_E_REFUSED = 1, /* the peer granted one of the pages not, or not
                                for writing */
    FH_PGRANT_E_QUOTA,       /* the cap is reached and too much is in use */
    FH_PGRANT_E_NOCACHE,     /* a reference beyond what the table can index */
};

struct fh_pgrant_params {
    struct fh_plat *plat; /* gnt_map and gnt_unmap are used, nothing else */
    uint16_t domid;       /* the granter */
    uint32_t max_pages;   /* the cap: 1 .. FH_PGRANT_MAX_PAGES; the protocol's
                             ideal is slots * 11, or the indirect maximum */
    uint32_t max_chunk;   /* 1 .. FH_PGRANT_MAX_CHUNK; 0: the default */
    uint32_t max_leaves;  /* 1 .. FH_PGRANT_ROOT_LEAVES; 0: the default */
    uint64_t idle_ns;     /* unused for so long: fh_pgrant_expire() unmaps */
};

/* Counters since init; they only grow. */
struct fh_pgrant_stats {
    uint64_t hits;           /* references found mapped */
    uint64_t misses;         /* references looked up in vain */
    uint64_t maps;           /* platform calls that mapped a chunk */
    uint64_t unmaps;         /* platform calls that unmapped one */
    uint64_t mapped_pages;   /* pages mapped by them */
    uint64_t unmapped_pages; /* and unmapped */
    uint64_t evict_cap;      /* chunks unmapped to make room, */
    uint64_t evict_idle;     /* after idle_ns, */
    uint64_t evict_pressure; /* by fh_pgrant_shrink() and fh_pgrant_fini() */
    uint64_t refused;        /* gets answered FH_PGRANT_E_REFUSED, */
    uint64_t quota;          /* FH_PGRANT_E_QUOTA, */
    uint64_t nocache;        /* FH_PGRANT_E_NOCACHE, */
    uint64_t errors;         /* platform calls that failed (negative) */
};

/* One mapped page, and one chunk: private to the module. */
struct fh_pgrant_page;
struct fh_pgrant_chunk;

struct fh_pgrant {
    struct fh_pgrant_params params; /* defaults filled in */
    struct fh_pgrant_stats stats;
    uint32_t n_pages;      /* mapped now */
    uint32_t n_idle_pages; /* of these, in chunks that nobody uses */
    uint32_t n_chunks;
    /* What follows is the module's own: indices into the caller's memory; 0 is
     * "none" everywhere. */
    uint16_t free_page; /* heads of the three free lists */
    uint16_t free_chunk;
    uint16_t free_leaf;
    uint16_t reserved;
    struct fh_pgrant_page *pages;   /* [max_pages + 1] */
    struct fh_pgrant_chunk *chunks; /* [max_pages + 2]; [0] heads the idle
                                       ones, oldest use first */
    uint16_t *root;                 /* [FH_PGRANT_ROOT_LEAVES]: leaf numbers */
    uint16_t *leaves;    /* [max_leaves + 1][FH_PGRANT_LEAF_REFS]: pages */
    uint16_t *leaf_used; /* [max_leaves + 1]: pages in the leaf */
    uint32_t *map_refs;  /* [max_chunk]: argument of gnt_map */
};

/* Bytes that a cache of @params needs, or 0 when a parameter is out of its
 * bounds. */
size_t
fh_pgrant_bytes(const struct fh_pgrant_params *params);

/*
 * fh_pgrant_init - make an empty cache
 *
 * @mem:    fh_pgrant_bytes(@params) bytes, aligned as malloc() aligns; @c
 *          borrows it until fh_pgrant_fini()
 * @params: copied
 *
 * Returns 0, or FH_EINVAL for parameters out of bounds.
 */
FH_MUST_CHECK int
fh_pgrant_init(struct fh_pgrant *c, void *mem,
               const struct fh_pgrant_params *params);

/*
 * fh_pgrant_fini - unmap everything
 *
 * Every page must have been put back: pages still in use stay mapped.  Returns
 * 0; FH_EBUSY when some are in use; or the first error of gnt_unmap (the
 * others are unmapped nevertheless).  May be called again after a failure, and
 * on a zeroed struct.
 */
int
fh_pgrant_fini(struct fh_pgrant *c);

/*
 * fh_pgrant_get - addresses of @n granted pages, mapped for reading and writing
 *
 * @refs:   @n references; the same one may stand there several times, and may
 *          be in use by other requests
 * @n:      any number; 0 is fine
 * @now_ns: the platform's clock
 * @addrs:  @n addresses, each of a page; undefined after a failure
 *
 * All or nothing: after a failure no page of this call is in use (some may
 * have been mapped and stay cached).  Pages that are missing are mapped with
 * one platform call for each max_chunk of them; when the cap is in the way, as
 * many idle chunks as needed go first, the longest unused before the others.
 *
 * Returns 0, a negative error of the platform to forward, or
 *   FH_PGRANT_E_REFUSED  the request is the peer's fault: answer ERROR
 *   FH_PGRANT_E_QUOTA    no room (counting repeated references as often as
 *                        they stand in @refs), nothing was unmapped: copy
 *   FH_PGRANT_E_NOCACHE  copy
 *
 * Ownership: each page belongs to the cache; the caller gives each use back
 *            with fh_pgrant_put().  The bytes belong to the peer as well and
 *            may change at any time.
 */
FH_MUST_CHECK int
fh_pgrant_get(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
              uint64_t now_ns, void **addrs);

/*
 * fh_pgrant_put - give back what one successful fh_pgrant_get() gave
 *
 * @refs, @n: the same references, or any part of them; each get of a reference
 *            is to be met by exactly one put
 */
void
fh_pgrant_put(struct fh_pgrant *c, const uint32_t *refs, uint32_t n,
              uint64_t now_ns);

/*
 * fh_pgrant_expire - unmap what has been idle for idle_ns or longer
 *
 * To be called from the owner's timer; unmaps at most FH_PGRANT_EXPIRE_CHUNKS
 * chunks at a time.
 *
 * @next_ns: written always: when the next call is due, maybe at once;
 *           UINT64_MAX: not before something has been put back.  May be NULL.
 *
 * Returns 0 or the first error of gnt_unmap; what failed stays cached, as if
 *   it had been used just now.
 */
int
fh_pgrant_expire(struct fh_pgrant *c, uint64_t now_ns, uint64_t *next_ns);

/*
 * fh_pgrant_shrink - unmap idle chunks until at most @max_pages are mapped
 *
 * Stops earlier when the rest is in use; see n_pages.  The cap itself does not
 * change.  Returns 0 or the first error of gnt_unmap.
 */
int
fh_pgrant_shrink(struct fh_pgrant *c, uint32_t max_pages);
