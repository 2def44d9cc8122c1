/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The frontend library: one virtual disk of a backend, asynchronous.
 *
 * It stands on struct fh_plat only: no syscall, no thread, no allocation of its
 * own (the caller gives fh_blkfront_bytes() of memory), so the simulator and a
 * unikernel run the same code as a process on Xen or on fhv.
 *
 * Data lives in a pool of pages that are granted once and stay granted.  A
 * buffer from fh_blkfront_alloc() goes to the backend as it is: with persistent
 * grants nothing is copied on this side.  Any other memory is bounced through
 * the pool, or granted in place where the embedder can (struct
 * fh_blkfront_granter).  A granted page may be read and changed by the backend
 * at any time: whoever must not see data change under his feet copies it first.
 * Bounced reads are copied once, after their response.
 *
 * The backend is hostile: a response is read once and must answer a request in
 * flight with its operation.  Otherwise the disk is broken: every request in
 * flight completes with FH_EIO, nothing is sent any more, and
 * fh_blkfront_fault() tells why.
 *
 * Life: open > (step, or connect) > I/O > (shut and step, or close) > fini.
 * Threads: one per disk.  Only connect, wait, close and the pread family block.
 * Logs: never.
 *
 * A loop:
 *
 *   while (n = fh_blkfront_poll(bf, done, 64))
 *       use done[0 .. n-1], fh_blkfront_submit() more
 *   fh_blkfront_kick(bf);
 *   fh_blkfront_wait(bf, UINT64_MAX);
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/blkif.h>
#include <freehold/err.h>
#include <freehold/plat.h>

/* Verdicts. */
enum {
    FH_BLKFRONT_E_FULL = 1, /* no ring slot, or no pages: poll, then again */
    FH_BLKFRONT_E_CLOSED,   /* not connected (yet, or any more) */
    FH_BLKFRONT_E_BROKEN,   /* the backend broke the protocol */
};

enum fh_blkfront_state {
    FH_BLKFRONT_RESETTING, /* an earlier connection is being closed */
    FH_BLKFRONT_WAITING,   /* for the backend's features */
    FH_BLKFRONT_OFFERED,   /* ring published, backend not yet connected */
    FH_BLKFRONT_CONNECTED,
    FH_BLKFRONT_DRAINING,  /* no new requests; those in flight complete */
    FH_BLKFRONT_CLOSING,   /* we said Closing, the backend did not yet */
    FH_BLKFRONT_CLOSED,    /* Closed; the ring is gone, the pool is not */
};

/* Why a disk is broken. */
enum fh_blkfront_fault {
    FH_BLKFRONT_SOUND,
    FH_BLKFRONT_FAULT_INDEX, /* impossible response index */
    FH_BLKFRONT_FAULT_ID,    /* answer to a request that is not in flight */
    FH_BLKFRONT_FAULT_OP,    /* answer with another operation */
    FH_BLKFRONT_FAULT_GRANT, /* a page granted in place is still in use */
    FH_BLKFRONT_FAULT_STORE, /* senseless properties in xenstore */
};

/* Other people's manners, for tests of a backend. */
enum {
    FH_BLKFRONT_QUIRK_NO_WAIT = 1,      /* publish before InitWait (GRUB) */
    FH_BLKFRONT_QUIRK_TO_CONNECTED = 2, /* go from 1 to 4 (mini-os, OVMF) */
};

/*
 * Who grants pages.  share and unshare default to the platform's gnt_share and
 * gnt_unshare; @share returns zeroed pages.  A unikernel, whose whole memory it
 * may grant, sets grant and end as well: page-aligned memory of the caller's is
 * then granted in place, one page at a time, and not bounced.
 */
struct fh_blkfront_granter {
    int (*share)(void *ctx, uint16_t domid, uint32_t n, bool writable,
                 uint32_t *refs, void **addr);
    int (*unshare)(void *ctx, void *addr, uint32_t n);
    int (*grant)(void *ctx, uint16_t domid, void *page, bool writable,
                 uint32_t *ref);
    int (*end)(void *ctx, uint32_t ref); /* FH_EBUSY: still mapped over there */
    void *ctx;
};

struct fh_blkfront_params {
    struct fh_plat *plat;
    const char *frontend;   /* our directory in xenstore; copied */
    enum fh_blkif_abi abi;
    uint32_t order;         /* ring pages wanted: 2^order, 0 .. 4 */
    uint32_t max_indirect;  /* segments wanted per request, up to
                               FH_BLKIF_MAX_SEGMENTS; below 12: direct only */
    uint32_t pool_pages;    /* for data, 1 .. FH_BLKFRONT_MAX_POOL */
    uint32_t n_indirect;    /* indirect requests at a time; 0: as many as the
                               pool can have data for */
    bool persistent;        /* offer persistent grants */
    bool timestamps;        /* fill in fh_blkfront_done.start_ns */
    uint32_t poll_max_ns;   /* longest spin of wait(); 0: never spin */
    uint32_t poll_budget;   /* share of the CPU, of 256; 0: all of it */
    uint32_t wake_after;    /* sleep until so many responses have come; 0: 1 */
    uint32_t quirks;        /* FH_BLKFRONT_QUIRK_* */
    struct fh_blkfront_granter granter;
};

enum { FH_BLKFRONT_MAX_POOL = 65536 };

/* What the backend offers and how we use it; valid while connected and after.
 */
struct fh_blkfront_info {
    uint64_t n_sectors;       /* of 512 bytes; may change at any step */
    uint32_t sector_bytes;    /* alignment and granularity of requests */
    uint32_t physical_bytes;
    uint32_t order;           /* of the ring in use */
    uint32_t depth;           /* ring slots: requests in flight at most */
    uint32_t max_segments;    /* pages that one request touches at most */
    uint32_t max_sectors;     /* of a request on page-aligned data */
    uint32_t discard_granularity; /* bytes */
    uint32_t discard_alignment;
    bool read_only;
    bool cdrom;
    bool removable;
    bool persistent; /* both sides want it */
    bool flush;
    bool barrier;
    bool discard;
};

struct fh_blkfront_io {
    enum fh_blkif_op op;
    uint32_t n_sectors; /* of 512 bytes; 0 for a flush */
    uint64_t sector;
    void *data;         /* NULL for flush and discard; must stay valid until
                           completion */
    uint64_t cookie;    /* comes back */
};

struct fh_blkfront_done {
    uint64_t cookie;
    uint64_t start_ns; /* when submitted, with params.timestamps; else 0 */
    int32_t status;    /* 0, FH_EIO, FH_EOPNOTSUPP */
    uint32_t reserved;
};

struct fh_blkfront_counts {
    uint64_t requests;  /* submitted */
    uint64_t indirect;  /* of them */
    uint64_t bounced;   /* of them */
    uint64_t responses;
    uint64_t errors;    /* responses other than OKAY */
    uint64_t notifies;  /* sent */
    uint64_t events;    /* taken */
    uint64_t spurious;  /* of them, with no response behind */
    uint64_t spins;     /* tries to find work by spinning */
    uint64_t spun;      /* of them successful */
    uint64_t sleeps;
};

struct fh_blkfront;

/* Bytes that fh_blkfront_open() needs, or 0 when a parameter is out of its
 * bounds. */
size_t
fh_blkfront_bytes(const struct fh_blkfront_params *params);

/*
 * fh_blkfront_open - take up the device behind a frontend directory
 *
 * @mem: fh_blkfront_bytes(@params) bytes, aligned as malloc() aligns; *@out
 *       points into it; the caller frees it after fh_blkfront_fini()
 *
 * Reads `backend` and `backend-id` and watches the backend's state.  Sends
 * nothing yet: fh_blkfront_step() or fh_blkfront_connect() goes on.
 *
 * Returns 0; FH_EINVAL for bad parameters; FH_ENODEV when the directory names
 *   no backend; an error of the platform.  After a failure there is nothing to
 *   clean up.
 */
FH_MUST_CHECK int
fh_blkfront_open(void *mem, const struct fh_blkfront_params *params,
                 struct fh_blkfront **out);

/*
 * fh_blkfront_step - take the handshake as far as the backend allows
 *
 * Level-triggered: looks at both states afresh; harmless at any time.  To be
 * called when a watch fired; wait() does it by itself.
 *
 * Returns 0 or a negative error of the platform.
 */
int
fh_blkfront_step(struct fh_blkfront *bf);

/*
 * fh_blkfront_connect - step and wait until connected
 *
 * Returns 0, FH_ETIMEDOUT, an error of the platform, FH_BLKFRONT_E_CLOSED when
 *   the backend refused, FH_BLKFRONT_E_BROKEN.
 */
FH_MUST_CHECK int
fh_blkfront_connect(struct fh_blkfront *bf, uint64_t timeout_ns);

/*
 * fh_blkfront_shut - begin to close: no new requests
 *
 * Those in flight go on; steps lead to FH_BLKFRONT_CLOSED afterwards.
 */
void
fh_blkfront_shut(struct fh_blkfront *bf);

/*
 * fh_blkfront_close - shut, wait for the backend, tear the ring down
 *
 * Completions that nobody polled are lost.  Closed afterwards in any case.
 *
 * Returns 0, or FH_ETIMEDOUT when the backend did not come along.
 */
int
fh_blkfront_close(struct fh_blkfront *bf, uint64_t timeout_ns);

/* Gives back everything, connected or not: the ring, the port, the pool and its
 * buffers, the watch.  Tolerates NULL. */
void
fh_blkfront_fini(struct fh_blkfront *bf);

enum fh_blkfront_state
fh_blkfront_state(const struct fh_blkfront *bf);
enum fh_blkfront_fault
fh_blkfront_fault(const struct fh_blkfront *bf);
const char *
fh_blkfront_fault_name(enum fh_blkfront_fault f);
const struct fh_blkfront_info *
fh_blkfront_info(const struct fh_blkfront *bf);
const struct fh_blkfront_counts *
fh_blkfront_counts(const struct fh_blkfront *bf);

/* Requests submitted and not yet polled. */
uint32_t
fh_blkfront_in_flight(const struct fh_blkfront *bf);

/*
 * fh_blkfront_alloc - @n_pages of the pool, at contiguous addresses
 *
 * Zeroed at first, later as its last user left it.  The pool exists from
 * OFFERED on and until fini.  Returns NULL when there is no such run of pages.
 * fh_blkfront_free() takes the same @n_pages, after the last request on them
 * has completed.
 */
void *
fh_blkfront_alloc(struct fh_blkfront *bf, uint32_t n_pages);
void
fh_blkfront_free(struct fh_blkfront *bf, void *addr, uint32_t n_pages);

/*
 * fh_blkfront_submit - queue one request
 *
 * The backend sees it at the next fh_blkfront_kick().
 *
 * Returns 0 or
 *   FH_EINVAL     unaligned to sector_bytes, larger than max_sectors, no data
 *   FH_ERANGE     outside the disk
 *   FH_EROFS      would change a read-only disk
 *   FH_EOPNOTSUPP the backend does not offer this operation
 *   FH_BLKFRONT_E_FULL, FH_BLKFRONT_E_CLOSED, FH_BLKFRONT_E_BROKEN
 */
FH_MUST_CHECK int
fh_blkfront_submit(struct fh_blkfront *bf, const struct fh_blkfront_io *io);

/*
 * fh_blkfront_kick - publish what was submitted, notify if the backend asked
 *
 * Returns 0 or the platform's error of the notification: the requests are
 *   in flight even so.
 */
int
fh_blkfront_kick(struct fh_blkfront *bf);

/*
 * fh_blkfront_poll - take completions
 *
 * @done: room for @max
 *
 * Returns how many there were.  Never blocks, makes no system call.
 */
uint32_t
fh_blkfront_poll(struct fh_blkfront *bf, struct fh_blkfront_done *done,
                 uint32_t max);

/*
 * fh_blkfront_wait - until responses came, or the state changed, or so
 *
 * Spins first where that pays (lib/base/poller.h).  Takes the platform's events
 * and watches: for an embedder with a single user of the platform.  Others call
 * fh_blkfront_arm(), sleep in their own way, and hand out what comes by
 * fh_blkfront_on_event() and fh_blkfront_on_watch().
 *
 * Returns 0, also for nothing at all, or a negative error of the platform.
 */
int
fh_blkfront_wait(struct fh_blkfront *bf, uint64_t timeout_ns);

/* Asks for an event at the next response.  True: do not sleep: responses are
 * there already, or the disk is broken, or a step is due; so poll and step. */
bool
fh_blkfront_arm(struct fh_blkfront *bf);

/* True when @port, or the watch's @token, is this disk's; then poll, or step.
 */
bool
fh_blkfront_on_event(struct fh_blkfront *bf, uint32_t port);
bool
fh_blkfront_on_watch(struct fh_blkfront *bf, const char *token);

/*
 * fh_blkfront_pread, _pwrite - any range of bytes, in any memory; blocking
 *
 * Split into requests that are in flight together.  A range that does not
 * begin and end at sectors is completed by reading and, for a write, writing
 * the whole sectors back (not atomic against others).  Not to be mixed with
 * requests of fh_blkfront_submit() in flight: FH_EBUSY.
 *
 * Returns 0 or the first error: FH_EIO, FH_ERANGE, FH_EROFS, FH_ENOTCONN when
 *   the disk closed or broke, one of the platform.  After a failure any part
 *   may have been done.
 */
FH_MUST_CHECK int
fh_blkfront_pread(struct fh_blkfront *bf, void *buf, size_t bytes,
                  uint64_t offset);
FH_MUST_CHECK int
fh_blkfront_pwrite(struct fh_blkfront *bf, const void *buf, size_t bytes,
                   uint64_t offset);

/* Everything completed so far is on stable storage when this returns 0. */
FH_MUST_CHECK int
fh_blkfront_flush(struct fh_blkfront *bf);

/* Discards whole sectors inside the range; the rest of it stays as it is. */
FH_MUST_CHECK int
fh_blkfront_discard(struct fh_blkfront *bf, uint64_t bytes, uint64_t offset);
