/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The platform table: everything that the backend's and the frontend's logic
 * asks of the world, except a disk's storage (blkback/store/store.h is a table
 * of the same kind).
 *
 * Two users from the first day: production (lib/xenplat: libxengnttab,
 * libxenevtchn, libxenstore, on real Xen or on fhv) and the simulator
 * (tests/sim: one process, one thread, virtual time, a seed).  Logic that
 * stands on this table has no other way out: no clock, no syscall, no thread.
 *
 * Life: whoever makes a struct fh_plat tears it down; the table is constant.
 * Threads: one thread per struct fh_plat.  Only wait() blocks.
 *
 * Results: 0, a negative error to forward (<freehold/err.h>), or a positive
 * verdict FH_PLAT_E_*.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>

enum {
    FH_PLAT_E_REFUSED = 1, /* the other domain did not grant, or offer, this */
    FH_PLAT_E_NONE,        /* nothing there (no event, no such node) */
    FH_PLAT_E_CONFLICT,    /* a transaction met another one: do it again */
};

enum {
    FH_PLAT_PROT_READ = 1,
    FH_PLAT_PROT_RW = 3,
};

enum {
    FH_XS_PATH_MAX = 3072,    /* absolute path, <xen/io/xs_wire.h> */
    FH_XS_PAYLOAD_MAX = 4096, /* value, or a directory's listing */
};

/* One piece of a grant copy, at most a page: @offset + @bytes <= 4096. */
struct fh_plat_copy {
    uint32_t gref;
    uint16_t domid;
    uint16_t offset; /* bytes, in the granted page */
    uint16_t bytes;
    bool to_grant;  /* local memory to granted page, or back */
    int16_t status; /* written: GNTST_*, 0 is success */
    void *local;    /* may cross pages */
};

/* Permissions of a xenstore node, as <xenstore.h>'s struct xs_permissions. */
struct fh_plat_perm {
    uint16_t domid;
    bool read;
    bool write;
};

struct fh_plat;

struct fh_plat_ops {
    /* Nanoseconds since some start; never goes back. */
    uint64_t (*now_ns)(struct fh_plat *p);

    /* The same, up to some milliseconds old and much cheaper: reading the
     * clock is a system call in a PV domain.  NULL: there is only one. */
    uint64_t (*coarse_ns)(struct fh_plat *p);

    /*
     * Sleeps until an event channel or a watch fires, something that the
     * embedder waits for as well happens, or @timeout_ns has passed (0: only
     * looks; UINT64_MAX: no limit).  Spurious returns are allowed.
     */
    int (*wait)(struct fh_plat *p, uint64_t timeout_ns);

    /*
     * True when another process seems to want this CPU: whoever spins (see
     * lib/base/poller.h) should sleep instead.  Cheap enough to be asked before
     * each spin: the answer may be some hundred microseconds old.  NULL: the
     * CPU is ours alone (fh_plat_cpu_wanted()).
     */
    bool (*cpu_wanted)(struct fh_plat *p);

    /*
     * Maps @n pages granted by @domid contiguously at *@addr.  All or
     * nothing; FH_PLAT_E_REFUSED when one of @refs is not granted.  What was
     * mapped by one call is unmapped by one call.
     */
    int (*gnt_map)(struct fh_plat *p, uint16_t domid, const uint32_t *refs,
                   uint32_t n, int prot, void **addr);
    int (*gnt_unmap)(struct fh_plat *p, void *addr, uint32_t n);

    /* Copies @n pieces; each has a status of its own.  Negative: nothing was
     * copied and no status written. */
    int (*gnt_copy)(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n);

    /*
     * Grants @n fresh zeroed pages to @domid; *@addr is their contiguous
     * address, @refs their references.  gnt_unshare() takes the same @n.
     */
    int (*gnt_share)(struct fh_plat *p, uint16_t domid, uint32_t n,
                     bool writable, uint32_t *refs, void **addr);
    int (*gnt_unshare)(struct fh_plat *p, void *addr, uint32_t n);

    /* Event channels.  A port that ev_next() returned is masked until
     * ev_unmask(); a freshly bound one is pending (Xen does that). */
    int (*ev_alloc)(struct fh_plat *p, uint16_t domid, uint32_t *port);
    int (*ev_bind)(struct fh_plat *p, uint16_t domid, uint32_t remote_port,
                   uint32_t *port);
    int (*ev_unbind)(struct fh_plat *p, uint32_t port);
    int (*ev_notify)(struct fh_plat *p, uint32_t port);
    int (*ev_next)(struct fh_plat *p, uint32_t *port); /* or E_NONE */
    int (*ev_unmask)(struct fh_plat *p, uint32_t port);

    /* Xenstore.  @txn 0 is "no transaction".  Values are bytes, here always
     * terminated by us with a NUL that is not counted in @len. */
    int (*xs_begin)(struct fh_plat *p, uint32_t *txn);
    int (*xs_end)(struct fh_plat *p, uint32_t txn, bool abort); /* E_CONFLICT */
    int (*xs_read)(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, size_t *len); /* E_NONE; FH_ERANGE if longer */
    int (*xs_write)(struct fh_plat *p, uint32_t txn, const char *path,
                    const char *value);
    int (*xs_mkdir)(struct fh_plat *p, uint32_t txn, const char *path);
    int (*xs_rm)(struct fh_plat *p, uint32_t txn, const char *path);
    /* Names, each terminated by NUL, one after the other; *@n of them. */
    int (*xs_list)(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, uint32_t *n);
    int (*xs_set_perms)(struct fh_plat *p, uint32_t txn, const char *path,
                        const struct fh_plat_perm *perms, uint32_t n);
    int (*xs_watch)(struct fh_plat *p, const char *path, const char *token);
    int (*xs_unwatch)(struct fh_plat *p, const char *path, const char *token);
    /* The next watch event, or E_NONE.  Buffers: FH_XS_PATH_MAX + 1 each. */
    int (*xs_next)(struct fh_plat *p, char *path, char *token);
};

/* Embedders put this first in a struct of their own. */
struct fh_plat {
    const struct fh_plat_ops *ops;
};

static inline uint64_t
fh_plat_coarse_ns(struct fh_plat *p)
{
    return p->ops->coarse_ns ? p->ops->coarse_ns(p) : p->ops->now_ns(p);
}

static inline bool
fh_plat_cpu_wanted(struct fh_plat *p)
{
    return p->ops->cpu_wanted && p->ops->cpu_wanted(p);
}
