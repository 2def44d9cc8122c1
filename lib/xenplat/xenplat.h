/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The production platform: struct fh_plat_ops on libxengnttab, libxenevtchn and
 * libxenstore, whichever world those libraries stand for (real Xen or fhv; the
 * library path decides).
 *
 * A process opens only the parts that it needs: a worker has no xenstore, a
 * supervisor no grants.  Operations of a part that was not opened return
 * FH_ENOSYS.
 *
 * Life: open > the operations in x.plat.ops > close.  The struct is the
 * caller's and must not move in between.  Grants still mapped or shared at
 * close are lost with the handles; close unmaps nothing by itself.
 * Threads: one thread per struct fh_xenplat; libxenstore starts a reader thread
 * of its own at the first watch, which never touches this struct.
 * Blocking: wait() only, and xenstore operations for one round trip.
 * After fork() a child may call nothing but fh_xenplat_close().
 * Logs: never.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <freehold/plat.h>

enum {
    FH_XENPLAT_GRANTEE = 1,  /* gnt_map, gnt_unmap, gnt_copy */
    FH_XENPLAT_GRANTER = 2,  /* gnt_share, gnt_unshare */
    FH_XENPLAT_EVENTS = 4,   /* ev_* */
    FH_XENPLAT_XENSTORE = 8, /* xs_* */
};

enum {
    FH_XENPLAT_MAX_FDS = 8, /* the embedder's, beside our two */
};

/* System calls and hypercalls asked for by this object, for bench and tests;
 * they only grow. */
struct fh_xenplat_counts {
    uint64_t notifies; /* ev_notify */
    uint64_t ev_reads; /* ev_next that went to the kernel */
    uint64_t unmasks;  /* ev_unmask */
    uint64_t waits;    /* wait: one poll(2) each */
    uint64_t maps;     /* gnt_map, gnt_unmap, gnt_copy, gnt_share and */
    uint64_t unmaps;   /* gnt_unshare: calls of the grant library */
    uint64_t copies;
    uint64_t shares;
    uint64_t unshares;
    uint64_t xs_calls;   /* round trips to xenstored */
    uint64_t cpu_checks; /* samples of the run queue */
    uint64_t cpu_calls;  /* system calls that those took */
};

struct fh_xenplat {
    struct fh_plat plat; /* first: this is what logic gets */
    struct fh_xenplat_counts counts;

    /* The module's own. */
    void *gnttab; /* xengnttab_handle * and so on; NULL: not opened */
    void *gntshr;
    void *evtchn;
    void *xs;
    struct pollfd fds[2 + FH_XENPLAT_MAX_FDS]; /* evtchn, xenstore, embedder */
    uint32_t n_fds;
    bool ev_nonblock; /* reading the event descriptor cannot block */
    bool ev_maybe;    /* there may be an event: worth a read */
    uint32_t n_bound; /* ports, and those delivered and not yet unmasked */
    uint32_t n_masked;
    struct {
        int loadavg_fd;      /* -1: not available */
        uint32_t n_cpus;     /* online and in our affinity mask */
        uint64_t next_ns;    /* when to look again */
        uint64_t switch_ns;  /* when the context switches were counted, */
        uint64_t n_switches; /* and how many there were */
        uint64_t looked_ns;  /* when the run queue was looked at, */
        bool crowded;        /* and what it was like */
        bool wanted;
    } cpu;
};

/*
 * fh_xenplat_open - connect to the libraries
 *
 * @x:     written in any case; after a failure nothing is open
 * @parts: FH_XENPLAT_* or'ed
 *
 * Returns 0, or the error of the part that could not be opened (FH_ENOENT or
 *   FH_EACCES: not a Xen domain, or not allowed).
 */
FH_MUST_CHECK int
fh_xenplat_open(struct fh_xenplat *x, unsigned parts);

/* Opens further @parts of an open object.  After a failure nothing of it is
 * open. */
FH_MUST_CHECK int
fh_xenplat_open_more(struct fh_xenplat *x, unsigned parts);

/* From now on, and for good, event channels lead to @domid only.  FH_EINVAL for
 * domain 0 on fhv. */
FH_MUST_CHECK int
fh_xenplat_restrict(struct fh_xenplat *x, uint16_t domid);

/* True in the local world, false on real Xen; known when anything but the
 * xenstore part has been opened. */
bool
fh_xenplat_is_local(void);

/* Closes what is open; tolerates a half-built or closed object. */
void
fh_xenplat_close(struct fh_xenplat *x);

/*
 * System calls made for this process so far, wait()'s included: exact on fhv,
 * whose libraries count theirs (tally.h); elsewhere one for each call
 * of a library.  For a process with one struct fh_xenplat.
 */
uint64_t
fh_xenplat_syscalls(const struct fh_xenplat *x);

/* Descriptors for an embedder's own poll loop, readable when ev_next() or
 * xs_next() has something; -1 when that part is not open. */
int
fh_xenplat_evtchn_fd(const struct fh_xenplat *x);
int
fh_xenplat_xs_fd(const struct fh_xenplat *x);
int
fh_xenplat_gnttab_fd(const struct fh_xenplat *x);

/*
 * To be called by an embedder that polls the event descriptor itself (io_uring,
 * epoll) and saw it readable: wait() does it by itself.
 */
static inline void
fh_xenplat_ev_ready(struct fh_xenplat *x)
{
    x->ev_maybe = true;
}

/*
 * fh_xenplat_add_fd - wait() also returns when @fd is ready for @events
 *
 * @events: as in poll(2)
 *
 * Returns 0 or FH_ENOSPC after FH_XENPLAT_MAX_FDS.
 */
FH_MUST_CHECK int
fh_xenplat_add_fd(struct fh_xenplat *x, int fd, short events);

/* What the last wait() saw on a descriptor that was added: poll(2)'s revents.
 * 0 when @fd is unknown. */
short
fh_xenplat_fd_events(const struct fh_xenplat *x, int fd);

void
fh_xenplat_remove_fd(struct fh_xenplat *x, int fd);
