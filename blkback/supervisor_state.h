/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a supervisor leaves for the next one: <run-dir>/state, which only its
 * owner may enter.
 *
 *   d-F-N        a disk (struct fh_sup_state): device N of domain F
 *   d-F-N.rec    its recovery file (recovery.h)
 *   w-K          worker K's listening socket (proto.h)
 *   w-K.fence    its fence, a fifo: whoever opens it for reading has EOF when
 *                the process and the last of its I/O are gone
 *
 * A file of a disk is replaced as a whole, before its worker hears of a change.
 * The fence decides whether there is a worker: while anybody holds its write
 * end, nobody starts another one.  The head of a disk's file stays as it is for
 * ever, the rest has a version.
 *
 * Life: open, once the run directory is locked -> files -> close.
 * Threads: the supervisor's one.  Never blocks.  Logs what it cannot save.
 */
#include "blkback/supervisor_int.h"

#define FH_SUP_STATE_MAGIC 0x3145544154534846ull /* "FHSTATE1" */

enum { FH_SUP_STATE_VERSION = 1, FH_SUP_BOOT_MAX = 40 };

struct fh_sup_state_head {
    uint64_t magic;
    uint32_t version;
    uint32_t bytes;  /* of the whole */
    uint32_t domid;
    uint32_t devid;
    uint32_t worker; /* number; 0: none */
    uint32_t reserved;
    char boot[FH_SUP_BOOT_MAX]; /* the host's boot id: pages, ports and domains
                                   of another boot are nothing to us */
};

struct fh_sup_state {
    struct fh_sup_state_head head;
    uint32_t number;       /* of the disk */
    int32_t worker_domid;  /* as in struct fh_sup_worker */
    uint32_t worker_split;
    uint32_t worker_uid;   /* UINT32_MAX: ours */
    uint32_t phase;        /* enum fh_device_phase */
    uint32_t has_queue;
    uint32_t front_seen_4;
    uint32_t was_served;   /* its memory may have been written */
    uint32_t grants;       /* enum fh_device_grants */
    uint32_t max_order;
    uint32_t latency_ns;
    uint32_t restarts;
    uint64_t longest_pause_ns;
    struct fh_device_queue queue;
    struct fh_wk_queue_stats base;
    struct fh_image image; /* without its descriptors */
    char name[64];
};

enum {
    FH_SUP_STATE_E_OTHER = 1, /* of another version: only the head is there */
    FH_SUP_STATE_E_JUNK,      /* not ours, or of another boot */
};

FH_MUST_CHECK int
fh_sup_state_open(struct fh_sup *s);
/* @remove: nothing is left for anybody. */
void
fh_sup_state_close(struct fh_sup *s, bool remove);

/* --- disks --- */

/* Writes what a successor needs of @d; a failure is logged. */
int
fh_sup_state_save(struct fh_sup_device *d);
/* Removes all files of @d, unless we are leaving them to another supervisor. */
void
fh_sup_state_forget(struct fh_sup_device *d);
/*
 * fh_sup_state_load - read the file @name of the directory
 *
 * Returns 0, a verdict, or a negative error.  What it returns as whole has been
 * written by this version; its numbers are within their limits.
 */
FH_MUST_CHECK int
fh_sup_state_load(struct fh_sup *s, const char *name, struct fh_sup_state *st);
/* Calls @each for every name in the directory. */
void
fh_sup_state_each(struct fh_sup *s,
                  void (*each)(struct fh_sup *s, const char *name));
/* Removes the files of a disk that nobody has. */
void
fh_sup_state_remove(struct fh_sup *s, uint32_t domid, uint32_t devid);
/* FH_EBUSY, with a reason, when a worker of another version has this disk. */
FH_MUST_CHECK int
fh_sup_state_check(struct fh_sup *s, uint32_t domid, uint32_t devid,
                   char *why);

/* A new recovery file: in the directory, or where that is no place for it in
 * memory, which only the worker will have beside us. */
FH_MUST_CHECK int
fh_sup_recovery_make(struct fh_sup_device *d);
/* The one that is there; a negative error: none, or not of @d. */
FH_MUST_CHECK int
fh_sup_recovery_find(struct fh_sup_device *d);

/* --- workers --- */

/* Both ends of worker @number's fence, the read end without blocking. */
FH_MUST_CHECK int
fh_sup_fence_make(struct fh_sup *s, uint32_t number, int ends[2]);
/* The read end, or a negative error: there is none. */
int
fh_sup_fence_find(struct fh_sup *s, uint32_t number);
/* True when the other end of @fd, a read end, is held by somebody. */
bool
fh_sup_fence_is_held(int fd);

/* Worker @number's socket, bound, and its name's descriptor: for HELLO. */
FH_MUST_CHECK int
fh_sup_socket_make(struct fh_sup *s, uint32_t number, int fds[2]);
/* Connected to the worker that listens there, or a negative error. */
int
fh_sup_socket_find(struct fh_sup *s, uint32_t number);
void
fh_sup_worker_forget(struct fh_sup *s, uint32_t number);
