/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The backend domain: a supervisor's and a worker's process around the
 * production code (blkback/device.c, queue.c, worker.c, ...).
 *
 * What stands here instead of blkback/supervisor*.c and worker_main.c is what
 * those do with processes: messages, which take a random time; death; the
 * fence; a successor that resumes from the recovery memory.  The rules are
 * theirs (supervisor_link.c): a death takes all links down; whoever wants its
 * queue gets it from the successor, which starts after the fence; `resume` is
 * set from the moment that a worker was told to connect.
 */
#include "blkback/device.h"
#include "blkback/worker.h"
#include "medium.h"
#include "sim.h"

enum {
    SIM_DISKS = 4,
    SIM_INBOX = 64,
    SIM_BACK_DOMID = 0,
    SIM_RESUME_TRIES = 10, /* of a resume that lacks resources, */
};

#define SIM_RESUME_NS 50000ull /* after this, doubling */

struct sim_back;
struct sim_worker;

enum sim_ask { SIM_ASK_NOTHING, SIM_ASK_CONNECT, SIM_ASK_DISCONNECT };

/* A disk as the supervisor has it. */
struct sim_disk {
    struct sim_back *b;
    uint32_t index;
    struct fh_device dev;
    struct sim_medium medium;
    struct fh_rec_file *rec;
    struct fh_device_queue ring;
    bool want;
    bool resume;
    uint32_t resume_tries;
    uint64_t resume_ns; /* when to try again; 0: at once */
    bool up;
    enum sim_ask asked;
    bool removed;
};

/* A disk as a worker has it. */
struct sim_seat {
    struct fh_disk disk;
    struct fh_queue queue;
    struct sim_opening opening;
    void *queue_mem;
    void *buffers;
    bool taken;   /* the store is open */
    bool serving; /* the queue is connected */
    bool leaving;
};

struct sim_inbox {
    uint64_t message[SIM_INBOX];
    uint32_t n;
};

/* One incarnation; its memory lives as long as the story. */
struct sim_worker {
    struct sim_back *b;
    struct sim_party *party;
    struct fh_worker worker;
    struct sim_seat seat[SIM_DISKS];
    struct sim_inbox inbox;
    uint32_t n_unfenced;
    uint64_t dies_at; /* after so many stores to recovery states; 0: never */
    uint64_t commit[SIM_DISKS]; /* as of the last store to a recovery state */
    bool dies_connected; /* dies_at is set when a queue is connected */
    uint64_t told_ns; /* when its last message arrives */
    struct sim_worker *older;
};

struct sim_back_params {
    enum fh_device_grants grants;
    uint32_t max_order;
    uint32_t max_indirect;
    uint32_t n_sectors;
    uint32_t p_error; /* of the stores, of 65536 */
    uint32_t room;    /* I/Os under way at a store */
    uint64_t latency_ns;
    bool synchronous;
    bool owned;    /* the backend is the toolstack */
    bool no_fence; /* replay at once: to see that the oracle finds it */
    bool keeps_old_state; /* leave the last ring's recovery state in the file
                             when a new ring comes: to see that too */
    bool faulty;   /* the fault plan is for the backend */
    bool yield_in_hook; /* others run between stores to the recovery state */
    uint32_t n_kills; /* of workers, at moments of the seed's choice */
};

enum sim_worker_state { SIM_NONE, SIM_READY, SIM_FENCED, SIM_STARTING };

struct sim_back {
    struct sim *s;
    struct sim_back_params p;
    struct sim_party *sup;
    struct sim_inbox inbox;
    struct sim_disk disk[SIM_DISKS];
    uint32_t n_disks;
    struct sim_worker *worker; /* the latest */
    enum sim_worker_state state;
    uint32_t kills_left;
    uint32_t n_deaths;
    uint64_t n_stores; /* to recovery states, by dead workers */
};

void
sim_back_init(struct sim_back *b, struct sim *s,
              const struct sim_back_params *p);
void
sim_back_free(struct sim_back *b);

/* A disk for domain @domid: the toolstack's nodes, and the device. */
void
sim_back_attach(struct sim_back *b, uint16_t domid);

/* The toolstack's nodes, and the device's logic, for disk @index (again, after
 * a power cut). */
void
sim_back_plug(struct sim_back *b, uint32_t index, uint16_t domid);

/* Makes the processes (again, after a power cut). */
void
sim_back_start(struct sim_back *b);
/* The processes are gone, the disks stay. */
void
sim_back_power_off(struct sim_back *b);

/* A toolstack unplugs every disk; all are removed in the end. */
void
sim_back_unplug(struct sim_back *b);
bool
sim_back_removed(const struct sim_back *b);
/* The backend gives up every disk; @force: without the frontends' consent. */
void
sim_back_stop(struct sim_back *b, bool force);
/* The worker dies when its next chance comes. */
void
sim_back_kill_worker(struct sim_back *b);
