/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the supervisor and a worker say to each other.
 *
 * One SOCK_SEQPACKET socket pair per worker; fixed-size messages, descriptors
 * beside them.  Both ends are ours, but a worker that a guest took over is
 * hostile: the supervisor judges every field that comes from it.
 *
 * A worker starts as a fork of the supervisor's own program (freehold
 * --worker, fh_worker_main()), opens its grant and event-channel handles while
 * it still may (on real Xen a broker has the grants: broker.h), then drops to a
 * uid of its own and into a sandbox (sandbox.h).  Its life:
 *
 *   S: HELLO (fence's write end, statistics page, listening
 *      socket, its name)                                     W: READY
 *   S: DISK_OPEN (store's descriptor, recovery file, what a
 *      later supervisor needs)                               W: DONE
 *   S: QUEUE_CONNECT (token.h's token, if it has a broker)   W: DONE
 *   ...                       W: QUEUE_FAULT at any time: the ring is broken
 *   S: QUEUE_DISCONNECT (drains, unmaps)                     W: DONE
 *   S: DISK_CLOSE                                            W: DONE
 *   S: END: the worker drains and exits.
 *
 * Before the first file's I/O the write end of the fence, a fifo, goes into the
 * io_uring's registered-file table and is closed: the supervisor reads EOF
 * only when the kernel has let go of the ring, which can be seconds after the
 * process died.  A worker of memory disks alone has no such I/O, and the fence
 * falls with the process.
 *
 * The socket closed without END: the supervisor died.  A worker with a queue
 * goes on and listens on the socket that HELLO brought, for the next one:
 *
 *   S: connects, struct fh_wk_greeting          W: struct fh_wk_greeting
 *   W: HAVE for each disk (what it kept for this), READY (statistics page)
 *
 * and all is as before.  Of another FH_WK_VERSION the worker says only its
 * greeting, closes, and goes on serving: it is adopted by nobody, and replaced,
 * over its recovery files, when it is dead.
 */
#include <stdint.h>

enum fh_wk_type {
    FH_WK_HELLO = 1,
    FH_WK_READY,
    FH_WK_DISK_OPEN,
    FH_WK_DISK_CLOSE,
    FH_WK_QUEUE_CONNECT,
    FH_WK_QUEUE_DISCONNECT,
    FH_WK_DONE,        /* answers a request: @seq, @rc */
    FH_WK_QUEUE_FAULT, /* unasked: @disk, @queue, @rc says what */
    FH_WK_END,
    FH_WK_HAVE,        /* to a new supervisor: @disk */
};

/* Of everything here but the greeting, which stays as it is for ever. */
enum { FH_WK_VERSION = 1 };

#define FH_WK_MAGIC 0x4b574846u /* "FHWK" */

struct fh_wk_greeting {
    uint32_t magic;
    uint32_t version; /* FH_WK_VERSION of the sender */
    uint32_t worker;  /* its number; 0 from a supervisor */
    uint32_t n_disks; /* that HAVE will tell of */
};

/* Descriptors of a disk, in the order in which they come with a message. */
enum fh_wk_fd {
    FH_WK_FD_STORE,    /* file, or memory */
    FH_WK_FD_RECOVERY,
    FH_WK_FD_WITNESS,  /* of the store: opened before this worker's first
                          write, asked for errors by the next worker */
    FH_WK_FD_LOCK,     /* its open file description holds the image's lock */
    FH_WK_N_FDS,
};

#define FH_WK_FD_BIT(fd) (1u << (fd))

enum fh_wk_store {
    FH_WK_STORE_FILE,  /* descriptor: file or block device, opened by the
                          supervisor with the right access mode */
    FH_WK_STORE_MEM,   /* descriptor: a memfd that the supervisor holds */
    FH_WK_STORE_NULL,
};

enum fh_wk_grants {
    FH_WK_GRANTS_PERSISTENT, /* map once, keep; only if negotiated */
    FH_WK_GRANTS_COPY,
    FH_WK_GRANTS_MAP,        /* map and unmap per request: for measurement */
};

enum fh_wk_broker {
    FH_WK_BROKER_AUTO, /* on real Xen */
    FH_WK_BROKER_ON,   /* or the worker does not start */
    FH_WK_BROKER_OFF,
};

enum {
    FH_WK_MAX_RING_PAGES = 16,
    FH_WK_LONELY_S = 3600,
};

struct fh_wk_msg {
    uint32_t type; /* enum fh_wk_type */
    uint32_t seq;  /* of the request; answers repeat it */
    int32_t rc;    /* answers: 0, negative error, or FH_WK_E_* */
    uint32_t disk; /* the supervisor's number of the disk, never reused */
    uint32_t queue;
    union {
        struct {
            uint32_t worker;       /* number, for messages */
            uint32_t polling;      /* bool */
            uint32_t poll_max_ns;  /* longest spin before a sleep */
            uint32_t uid;          /* to drop to; 0: stay */
            uint32_t kill_after;   /* tests: die at the k-th store to the
                                      recovery state; 0: never */
            uint32_t no_fence;     /* tests: leave the fence out */
            uint32_t memlock_pages; /* registered buffers at most; 0: none */
            uint32_t domid;      /* the only guest of this worker, for good; 0:
                                    any, it has several */
            uint32_t broker;     /* enum fh_wk_broker */
            uint32_t no_sandbox; /* bool */
            uint32_t listens; /* bool: the last two descriptors are there, and
                                 it outlives its supervisor */
            uint32_t lonely_s; /* without supervisor and request, then it ends;
                                  0: FH_WK_LONELY_S */
        } hello;
        struct {
            uint32_t broker_pid; /* 0: none */
            uint32_t sandboxed;  /* bool */
        } ready;
        struct {
            uint32_t store;     /* enum fh_wk_store */
            uint32_t read_only; /* bool */
            uint64_t n_sectors;
            uint32_t direct;    /* the descriptor is O_DIRECT: only where
                                   512-byte sectors can be written directly;
                                   the page cache of a descriptor without does
                                   the read-modify-write of a 4Kn store */
            uint32_t alignment; /* bytes, of direct I/O */
            uint32_t latency_ns; /* null store: answer after this; 0: at once */
            uint32_t replay;    /* the recovery file has a history: replay, and
                                   start with fsync */
            uint32_t fds;  /* FH_WK_FD_BIT of each descriptor that came */
            uint32_t keep; /* of those that a later supervisor will need */
        } disk;
        struct {
            uint32_t fds;
            uint32_t has_queue; /* bool */
            uint32_t faulted;   /* bool: it reported, or would, QUEUE_FAULT */
        } have;
        struct {
            uint32_t domid;
            uint32_t abi;    /* enum fh_blkif_abi */
            uint32_t order;  /* ring pages: 2^order, 0 .. 4 */
            uint32_t port;   /* the frontend's event channel */
            uint32_t grants; /* enum fh_wk_grants */
            uint32_t max_indirect;
            uint32_t resume; /* bool: continue from the recovery state if the
                                queue's area is active, else start it */
            uint32_t ring_refs[FH_WK_MAX_RING_PAGES];
        } queue_connect;
    } u;
};

/* Verdicts in @rc. */
enum {
    FH_WK_E_RING = 1,   /* the frontend does not grant its ring, or its port */
    FH_WK_E_BROKEN,     /* impossible ring index */
    FH_WK_E_RECOVERY,   /* recovery state is corrupt or of another disk */
    FH_WK_E_SYNC,       /* reserved: a disk whose fsync failed is open, its
                           writes and flushes fail, and the recovery header's
                           sticky_error says so */
};

/* Counters of one queue, on the worker's statistics page; written with relaxed
 * stores by the worker, read by the supervisor. */
struct fh_wk_queue_stats {
    uint32_t disk;
    uint32_t queue;
    uint64_t requests;
    uint64_t reads;
    uint64_t writes;
    uint64_t flushes;
    uint64_t read_sectors;
    uint64_t write_sectors;
    uint64_t errors;   /* answered with ERROR */
    uint64_t notsupp;
    uint64_t notifies; /* to the frontend */
    uint64_t wakeups;  /* events taken */
    uint64_t pgrant_pages;
    uint64_t copied_pieces;
    uint64_t reserved[3];
};

enum { FH_WK_STATS_QUEUES = 64 };

struct fh_wk_stats {
    uint64_t turns;      /* of the loop */
    uint64_t sleeps;
    uint64_t spins;      /* turns that found nothing while polling */
    uint64_t syscalls;   /* that the data path made, counted where they are
                            made; a test compares with strace */
    uint64_t cpu_ns;     /* of the process, updated at sleeps */
    uint64_t stores;     /* to the recovery state */
    uint64_t reserved[10];
    struct fh_wk_queue_stats queue[FH_WK_STATS_QUEUES];
};
