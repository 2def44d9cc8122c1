/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One disk as the frontend's domain sees it: the backend's directory in
 * xenstore, the handshake, the frontend's ring parameters.
 *
 * The logic stands on struct fh_plat (its xenstore and clock) and on a small
 * table of operations that start and stop the data path: the supervisor
 * implements it by messages to a worker, the simulator by direct calls.  All
 * that the frontend wrote is hostile until it was parsed here; what passes to
 * connect() is numbers within their limits.
 *
 * Life: init -> start -> any number of event/run -> over (removed() was
 *   called) -> fini.  fini is legal at any time after init.
 * Threads: one.  Never blocks beyond its xenstore calls.  No allocation.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/plat.h>
#include <freehold/xenbus.h>
#include "blkback/proto.h"

/* Every loop of a device has one of these bounds. */
enum {
    FH_DEVICE_MAX_ORDER = 4,       /* ring pages: 2^4, FH_WK_MAX_RING_PAGES */
    FH_DEVICE_TXN_TRIES = 8,       /* of one transaction that meets others */
    FH_DEVICE_STEPS = 16,          /* of the handshake in one run() */
    FH_DEVICE_RETRIES = 6,         /* of a failing xenstore, 100 ms doubling */
    FH_DEVICE_OFFERS = 200,        /* a second: a frontend that toggles waits */
    FH_DEVICE_LOG_LINES = 10,      /* a minute; the rest is only counted */
    FH_DEVICE_PATH_MAX = 256,      /* of a directory that we serve */
    FH_DEVICE_TEXT_MAX = 160,      /* of an error or reason */
};

enum fh_device_grants {
    FH_DEVICE_GRANTS_AUTO, /* persistent if the frontend can, else copy */
    FH_DEVICE_GRANTS_COPY,
    FH_DEVICE_GRANTS_MAP,  /* for measurement */
};

/* A frontend's ring, parsed and within limits. */
struct fh_device_queue {
    uint16_t domid;
    uint32_t abi; /* enum fh_blkif_abi */
    uint32_t order;
    uint32_t port;
    uint32_t grants; /* enum fh_wk_grants */
    uint32_t max_indirect;
    uint32_t ring_refs[FH_WK_MAX_RING_PAGES];
};

struct fh_device;

struct fh_device_ops {
    /* Starts serving @q.  Answered by fh_device_connected(), which may be
     * called before this returns.  A negative return is an answer too. */
    int (*connect)(struct fh_device *d, const struct fh_device_queue *q);
    /* Drains, unmaps, unbinds.  Answered by fh_device_disconnected(), likewise.
     * Called only when connected. */
    int (*disconnect)(struct fh_device *d);
    /* The device went through Closed and was unplugged, or its directory is
     * gone.  Called once; nothing is called after it.  @d may be freed when
     * fh_device_run() has returned. */
    void (*removed)(struct fh_device *d);
    /* One line for the log; NULL: none wanted.  Rate-limited here. */
    void (*log)(struct fh_device *d, const char *text);
};

struct fh_device_params {
    struct fh_plat *plat;
    const struct fh_device_ops *ops;
    void *user;       /* the embedder's */
    const char *path; /* backend directory, absolute; copied */
    uint16_t own_domid;
    uint16_t domid;   /* the frontend's, from the path */
    uint32_t devid;   /* from the path */
    enum fh_device_grants grants;
    uint32_t max_indirect; /* 0: FH_DEVICE_INDIRECT_DEFAULT */
    uint32_t max_order;    /* 0 .. FH_DEVICE_MAX_ORDER */
    bool owned;       /* we are the toolstack: a frontend that is gone means
                         unplugged */
    bool watched;     /* the embedder watches @path and calls kick(): no watch
                         of ours on it */
    bool read_only;
    bool cdrom;
    uint64_t n_sectors;             /* 512-byte units */
    uint32_t physical_sector_bytes; /* 0: not published */
};

enum { FH_DEVICE_INDIRECT_DEFAULT = 256 };

enum fh_device_phase {
    FH_DEVICE_IDLE,          /* no ring */
    FH_DEVICE_CONNECTING,    /* connect() has not been answered */
    FH_DEVICE_SERVING,
    FH_DEVICE_DISCONNECTING,
    FH_DEVICE_OVER,
};

/* At most so many in a stretch of time. */
struct fh_device_window {
    uint64_t start_ns;
    uint32_t n;
};

struct fh_device {
    struct fh_device_params p; /* p.path points to path */
    char path[FH_DEVICE_PATH_MAX];
    char front[FH_DEVICE_PATH_MAX]; /* the frontend's directory */
    char token[24];                 /* of both watches */
    enum fh_device_phase phase;
    bool watching_own;
    bool watching_front;
    bool dirty;          /* something happened: run() has work */
    bool has_offered;    /* our features, at least once */
    bool has_script;     /* a hotplug script must report before we connect */
    bool front_seen_4;   /* since the ring was connected */
    bool front_gone;     /* no state there: the directory was removed */
    bool renewed;        /* the frontend began anew: holds until the offer */
    bool stopping;       /* fh_device_stop() was called */
    bool force;
    bool resized;
    bool has_queue;      /* queue holds the ring connected last, or tried */
    struct fh_device_queue queue;
    enum fh_xenbus_state state;       /* ours, as read or written last */
    enum fh_xenbus_state front_state; /* as read last */
    bool online;
    char error[FH_DEVICE_TEXT_MAX];   /* to be reported; "" none */
    char reason[FH_DEVICE_TEXT_MAX];  /* the last error, for `list` */
    uint32_t failures;     /* xenstore failures in a row */
    uint64_t retry_at_ns;  /* UINT64_MAX: none */
    struct fh_device_window offers;
    struct fh_device_window log;
    uint64_t log_dropped;
};

/*
 * fh_device_init - describe a device; touches nothing yet
 *
 * Returns 0 or FH_EINVAL (a path too long, a limit exceeded).
 */
FH_MUST_CHECK int
fh_device_init(struct fh_device *d, const struct fh_device_params *p);

/*
 * fh_device_restore - go on where another process was, between init and start
 *
 * @phase: CONNECTING and DISCONNECTING wait for the data path's answer
 * @q:     the ring that was connected or tried last; NULL: none was
 */
void
fh_device_restore(struct fh_device *d, enum fh_device_phase phase,
                  const struct fh_device_queue *q, bool front_seen_4);

/*
 * fh_device_start - begin: read where the frontend is, watch both sides
 *
 * Returns 0, or a negative error: no watch is left behind and init is undone.
 *   FH_ENOENT  the directory is not there, or names no frontend of its domain
 */
FH_MUST_CHECK int
fh_device_start(struct fh_device *d);

/* Ends the watches; writes nothing.  Never fails; the data path must be down
 * or abandoned by the embedder. */
void
fh_device_fini(struct fh_device *d);

/* Notes a watch event; true when it was this device's. */
bool
fh_device_event(struct fh_device *d, const char *token);

/* Something may have changed: look again at the next run (@releaseDomain). */
void
fh_device_kick(struct fh_device *d);

/*
 * fh_device_run - do what the handshake asks for, as far as it goes now
 *
 * Cheap when nothing happened.  Failures of xenstore are retried later, a
 * bounded number of times (FH_DEVICE_RETRIES), then wait for the next event.
 */
void
fh_device_run(struct fh_device *d);

/* When run() wants to be called at the latest, on the platform's clock;
 * UINT64_MAX: not before an event. */
uint64_t
fh_device_deadline_ns(const struct fh_device *d);

/* Answers of the data path.  @rc: 0, a negative error, or FH_WK_E_*.  A failed
 * connect leaves nothing behind.  A failed disconnect counts as done. */
void
fh_device_connected(struct fh_device *d, int rc);
void
fh_device_disconnected(struct fh_device *d, int rc);

/* The data path stopped the ring for good (FH_WK_QUEUE_FAULT). */
void
fh_device_fault(struct fh_device *d, int rc);

/*
 * fh_device_unplug - what a toolstack does: online=0, state=5 in one
 * transaction
 *
 * @force: do not wait for the frontend
 *
 * Returns 0 or a negative error, with nothing written.
 */
FH_MUST_CHECK int
fh_device_unplug(struct fh_device *d, bool force);

/*
 * fh_device_stop - end the device although the toolstack keeps it: the backend
 * goes away
 *
 * The frontend is asked to close (Closing, Closed), then removed() is called;
 * `online` stays what it is.
 *
 * @force: do not wait for the frontend
 */
void
fh_device_stop(struct fh_device *d, bool force);

/* Gives the disk another size; the frontend is told by a repeated Connected. */
void
fh_device_resize(struct fh_device *d, uint64_t n_sectors);

const char *
fh_device_phase_name(enum fh_device_phase p);
