/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A worker process on the local hypervisor without a supervisor and without
 * xenstore: the test speaks proto.h to it, and tells a frontend process, in a
 * domain of its own, which ring to make and what to do on it.
 *
 *   test (this process) --- proto.h ---> worker, domain 0
 *                       --- front.c ---> frontend, domain 1 ..
 *
 * Everything that fails ends the test.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "blkback/proto.h"
#include "blkback/recovery.h"
#include "hv/client.h"

enum {
    RIG_DISK = 1,
    RIG_SECTORS = 131072, /* 64 MiB */
};

struct rig_worker {
    pid_t pid;
    int sock;
    int fence; /* read end */
    uint32_t seq;
    struct fh_wk_stats *stats;
};

struct rig_front {
    pid_t pid;
    int sock;
    uint16_t domid;
};

/* What the frontend is to make, and what it made. */
struct rig_ring {
    uint32_t order;
    uint32_t n_pages; /* of data */
    uint32_t refs[FH_WK_MAX_RING_PAGES];
    uint32_t port;
};

/* A load, and how it went. */
struct rig_load {
    uint32_t depth;
    uint32_t pages_each;   /* of a request; above 11: indirect */
    uint32_t write_percent;
    uint32_t flush_every;  /* requests; 0: never */
    uint32_t spin_ns;      /* before a sleep; 0: none */
    uint32_t n_blocks;     /* of pages_each pages; 0: all of the disk */
    bool verify;           /* every block has a generation */
    uint64_t n_requests;   /* either so many */
    uint64_t run_ns;       /* or so long */
};

struct rig_result {
    uint64_t n;
    uint64_t errors;
    uint64_t mismatches;
    uint64_t ns;
    uint64_t longest_gap_ns; /* without an answer */
    uint64_t notifies;
    uint64_t sleeps;
};

/* The hypervisor, in a directory of its own; @program is this executable. */
void
rig_start(const char *program);
void
rig_stop(void);

/* @hello: type and seq are filled in. */
void
rig_worker_start(struct rig_worker *w, const struct fh_wk_msg *hello);
/* Sends a request with @n_fds descriptors and waits: DONE's rc. */
int
rig_ask(struct rig_worker *w, struct fh_wk_msg *m, const int *fds, int n_fds);
void
rig_send(struct rig_worker *w, struct fh_wk_msg *m, const int *fds, int n_fds);
/* The next message; false: the worker is gone. */
bool
rig_next(struct rig_worker *w, struct fh_wk_msg *m);
/* Closes the socket, waits; the exit status as of waitpid(2). */
int
rig_worker_end(struct rig_worker *w);
/* Waits for a death, and for the fence: how long that took, in ns. */
uint64_t
rig_worker_bury(struct rig_worker *w);

/* A recovery file and a memory store. */
int
rig_recovery_file(uint64_t n_sectors);
int
rig_memory(uint64_t n_sectors);

int
rig_disk_open(struct rig_worker *w, enum fh_wk_store store, int store_fd,
              int rec_fd, bool replay);
int
rig_queue_connect(struct rig_worker *w, const struct rig_front *f,
                  const struct rig_ring *r, enum fh_wk_grants grants,
                  bool resume);
int
rig_queue_disconnect(struct rig_worker *w);
int
rig_disk_close(struct rig_worker *w);

void
rig_front_start(struct rig_front *f);
void
rig_front_end(struct rig_front *f);
void
rig_front_setup(struct rig_front *f, struct rig_ring *ring);
void
rig_front_teardown(struct rig_front *f);
/* Writes an impossible index into the ring. */
void
rig_front_break(struct rig_front *f);
/* Starts a load; rig_front_result() waits for its end. */
void
rig_front_load(struct rig_front *f, const struct rig_load *load);
void
rig_front_result(struct rig_front *f, struct rig_result *res);

/* Open descriptors, mappings and resident bytes of a process. */
struct rig_usage {
    uint32_t n_fds;
    uint32_t n_maps;
    uint64_t resident;
    uint64_t cpu_ticks;
};
void
rig_usage(pid_t pid, struct rig_usage *u);

uint64_t
rig_now(void);
void __attribute__((noreturn, format(printf, 1, 2)))
rig_die(const char *fmt, ...);

/* When this process is one that the rig started: plays its role and returns
 * the exit status; else -1. */
int
rig_role(int argc, char **argv);

/* The frontend's side of @sock; never returns. */
void __attribute__((noreturn))
rig_front_main(int sock);
