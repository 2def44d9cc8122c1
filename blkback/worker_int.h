/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The parts of a worker process, for worker_main.c (its life and its loop) and
 * worker_ctl.c (what the supervisor asks for).
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/poller.h"
#include "blkback/broker.h"
#include "blkback/proto.h"
#include "blkback/store/stores.h"
#include "blkback/uring.h"
#include "blkback/worker.h"
#include "xenplat/xenplat.h"

enum {
    FH_WK_MAX_FDS = FH_WK_N_FDS, /* with one message */
    FH_WK_HELLO_FENCE = 0, /* with HELLO, in this order */
    FH_WK_HELLO_STATS,
    FH_WK_HELLO_LISTEN,
    FH_WK_HELLO_NAME,
    /* Of each disk: 32 requests of 128 KiB, or two of the largest. */
    FH_WK_BUFFER_BYTES = 4 << 20,
    FH_WK_WATCH_EVENTS = 0, /* places in the ring's watches */
    FH_WK_WATCH_CTL = 1,
};

/* Cached grants that nobody used for so long go back to the guest, as in
 * Linux. */
#define FH_WK_PGRANT_IDLE_NS (60ull * 1000000000)

struct fh_wk_disk {
    struct fh_disk disk;
    union {
        struct fh_store any; /* each begins with it */
        struct fh_store_mem mem;
        struct fh_store_null null;
        struct fh_store_uring uring;
        struct fh_store_delay delay;
    } store;
    bool is_open; /* the store */
    void *mem;    /* mapping of a memory store */
    size_t mem_bytes;
    struct fh_rec_file *rec;
    int kept[FH_WK_N_FDS]; /* for a later supervisor; -1: not */
    void *buffers;
    int32_t buffer_index;
};

struct fh_wk_queue {
    struct fh_queue queue;
    void *mem;
    size_t mem_bytes;
    struct fh_wk_disk *disk;
    uint32_t stats_slot;
    bool leaving;      /* disconnects as soon as it is idle, then */
    bool answer_due;   /* DONE with this sequence number */
    uint32_t leave_seq;
};

struct fh_wk {
    int ctl_fd;     /* -1: no supervisor */
    bool is_ending; /* drain, then exit */
    bool is_broken; /* a message made no sense: exit at once */
    uint32_t number;
    const char *step; /* of its life, for messages */
    bool is_sandboxed;
    struct fh_broker broker; /* of grants, on real Xen */
    struct fh_xenplat x;
    struct fh_uring u;
    struct fh_poller poller;
    uint64_t alarm_ns; /* when the ring's alarm goes off, if it has one */
    struct fh_worker worker;
    struct fh_wk_disk *disk[FH_WORKER_MAX_DISKS];
    struct fh_wk_queue *queue[FH_WORKER_MAX_QUEUES];
    bool has_leaving; /* one of them at least */
    struct fh_wk_stats *stats;
    uint64_t n_sleeps;
    uint64_t n_spins;
    uint64_t n_cpu_reads;
    uint64_t cpu_read_ns; /* when the CPU time was last asked for */
    /* worker_adopt.c's */
    int listen_fd;  /* -1: never adopted */
    int name_fd;    /* a file of the run directory: its links say whether
                       anybody can find us */
    int stats_fd;
    bool is_greeting; /* somebody connected who has not said a word yet */
    bool is_lonely;   /* without a supervisor */
    uint64_t lonely_ns;       /* so long at most */
    uint64_t lonely_since_ns; /* or since the last request */
    uint64_t lonely_requests;
    uint64_t look_ns; /* when to look at all this again */
};

/* worker_ctl.c */

/* Takes one message, if there is one, and does what it says. */
void
fh_wk_take_message(struct fh_wk *wk);
/* Disconnects the queues that are leaving and idle. */
void
fh_wk_finish_leaving(struct fh_wk *wk);
/* Every queue is to leave, unasked. */
void
fh_wk_leave_all(struct fh_wk *wk);
/* Every disk, when no queue is left. */
void
fh_wk_close_disks(struct fh_wk *wk);
/* QUEUE_FAULT. */
void
fh_wk_tell_fault(struct fh_worker *w, struct fh_queue *q);
void
fh_wk_send(struct fh_wk *wk, const struct fh_wk_msg *m);
void
fh_wk_send_fds(struct fh_wk *wk, const struct fh_wk_msg *m, const int *fds,
               unsigned n_fds);
void
fh_wk_answer(struct fh_wk *wk, enum fh_wk_type type, uint32_t seq, int rc);
/* Receives a message.  1: one came; 0: none; negative: the end.  At most
 * FH_WK_MAX_FDS descriptors, the caller's to close; the rest is -1. */
int
fh_wk_receive(int ctl_fd, struct fh_wk_msg *m, int *fds, bool wait);
void
fh_wk_close_fds(int *fds);

/* worker_main.c: READY; at an adoption (@seq 0) with the statistics page. */
void
fh_wk_tell_ready(struct fh_wk *wk, uint32_t seq, int rc);

/* worker_adopt.c */

/* Begins to listen for later supervisors, if HELLO says so; takes what it needs
 * of @fds.  To be called under the uid that these will see. */
void
fh_wk_listen(struct fh_wk *wk, const struct fh_wk_msg *hello, int *fds);
/* Takes what is to be kept of a disk out of @fds. */
void
fh_wk_keep(struct fh_wk_disk *d, const struct fh_wk_msg *m, int *fds);
void
fh_wk_unkeep(struct fh_wk_disk *d);
/* The supervisor's socket ended without END. */
void
fh_wk_abandoned(struct fh_wk *wk);
/* True when what is ready on the socket was somebody's coming, and is done. */
bool
fh_wk_adopt(struct fh_wk *wk);
/* What a lonely worker does from time to time; when, at the latest. */
void
fh_wk_look(struct fh_wk *wk);
uint64_t
fh_wk_look_due(const struct fh_wk *wk);
