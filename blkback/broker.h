/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The broker: a process beside each worker, on real Xen, that makes every call
 * of /dev/xen/gntdev for it.
 *
 * Whoever may call gntdev reaches every grant that any guest made to this
 * domain.  A worker talks to its guest and may be taken over by it; its broker
 * talks to the worker alone, through one page of numbers that it judges like a
 * hostile peer's, and touches the grants of those domains only that the
 * supervisor vouched for (token.h) when it gave the worker their rings.  The
 * worker holds the device's descriptor for mmap and nothing else:
 * its sandbox (sandbox.h) kills it at an ioctl.
 *
 *   worker                                    broker (its child)
 *   start > fork ------------------------->   sandboxed, waits
 *   admit:  the supervisor's token     --->   knows the domain from now on
 *   map:    references, ring the bell  --->   MAP; answers the offset
 *           mmap there
 *   unmap:  munmap, ring               --->   UNMAP
 *   copy:   pieces, ring               --->   COPY between grants and the
 *                                             arena, memory of both
 *
 * Life: the pair ends together.  The broker dies with the worker (the kernel
 * sends the signal) and holds the worker's I/O fence: no successor starts
 * before it is gone.  When the broker dies first, the worker exits at once with
 * FH_BROKER_DIED, as after any crash.  The supervisor's death touches neither.
 *
 * One thread, one call at a time.  A call sleeps until it is answered.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <freehold/err.h>
#include <freehold/plat.h>

enum {
    FH_BROKER_DIED = 3, /* exit status of a worker whose broker died */
    /* Memory that both have: buffers of 64 disks, and one for what lies
     * elsewhere. */
    FH_BROKER_PARTS = 65,
    FH_BROKER_PART_BYTES = 4 << 20,
    /* Pages that may be mapped at once: all that Xen tracks for a domain. */
    FH_BROKER_WINDOW_PAGES = 262144,
    FH_BROKER_SPIN_NS = 50000, /* at most, whoever asks for more */
};

struct fh_broker_page;

struct fh_broker {
    struct fh_plat_ops ops; /* the platform's, three of them ours */
    pid_t pid;              /* 0: not started */
    int fd;                 /* gntdev, for mmap only; -1: closed */
    struct fh_plat *plat;   /* whose grants they are; NULL: not attached */
    struct fh_broker_page *page; /* where the two talk */
    uint32_t seq;
    int sock;               /* tokens go there; -1: closed */
    uint8_t *window;        /* granted pages appear here, at their offset */
    uint8_t *arena;
    uint32_t spin_ns;
    uint64_t look_ns;       /* when to ask again whether CPUs are idle */
    uint64_t parts_used;    /* bit i: part i + 1 of the arena */
    uint64_t n_calls;
};

#define FH_BROKER_NULL { .fd = -1, .sock = -1 }

struct fh_broker_params {
    uint32_t uid; /* to run as; 0: stay */
    int fence_fd; /* kept open until the end; -1: none */
    bool sandbox;
    uint32_t spin_ns; /* both look for so long before they sleep, while CPUs are
                         idle; 0: never */
};

/*
 * fh_broker_start - open the device and fork the broker
 *
 * To be called while the process may still open devices, before it has a
 * thread, and before it gives up its uid.  Takes SIGCHLD.  The child closes
 * everything but the device, the fence, its end of a socket and stderr.
 *
 * Returns 0 or a negative error (FH_ENOENT: no device; FH_EPERM: the broker
 *   could not confine itself); nothing is left behind then.
 */
FH_MUST_CHECK int
fh_broker_start(struct fh_broker *b, const struct fh_broker_params *p);

/* Shows the broker a token, the caller's descriptor: its domain's grants may be
 * used from now on.  FH_EPERM: it is none. */
FH_MUST_CHECK int
fh_broker_admit(struct fh_broker *b, int token_fd);

/* Makes @p's grants go through @b: its table is replaced by b->ops. */
void
fh_broker_attach(struct fh_broker *b, struct fh_plat *p);

/* Ends the broker.  Tolerates one that was not started. */
void
fh_broker_stop(struct fh_broker *b);

/* A part of the arena: FH_BROKER_PART_BYTES of zeroed memory, or NULL.  Copies
 * from and to it need no step in between. */
void *
fh_broker_part(struct fh_broker *b);
void
fh_broker_part_free(struct fh_broker *b, void *part);
