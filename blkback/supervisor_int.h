/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the supervisor's files share.  Inside of blkback/supervisor*.c only.
 *
 * Objects: one struct fh_sup; a fh_sup_device for each disk of a guest (the
 * handshake, the image, the recovery file, the link to a worker); a
 * fh_sup_worker for each worker number, which outlives its processes; a
 * fh_sup_client for each connection to the control socket.
 *
 * Everything runs from one epoll loop.  It takes one event per turn, so no
 * handler can meet an object that an earlier event of the same batch freed.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "blkback/device.h"
#include "blkback/image.h"
#include "blkback/proto.h"
#include "blkback/recovery.h"
#include "blkback/supervisor.h"
#include "xenplat/xenplat.h"

struct json_object;

/* Bounds, with their reasons. */
enum {
    FH_SUP_MAX_DEVICES = 1024,
    FH_SUP_MAX_PER_DOMAIN = 64, /* disks: libxl's xvd names end far below */
    FH_SUP_MAX_WORKERS = 1024,
    FH_SUP_MAX_CLIENTS = 64,
    FH_SUP_LINE_MAX = 65536,    /* a request on the control socket */
    FH_SUP_XS_EVENTS = 1024,    /* watch events taken in one turn */
    FH_SUP_MEMLOCK_PAGES = 16384, /* 64 MiB of registered buffers: four disks */
    FH_SUP_CHECK_MS = 3000,     /* is xenstore still there? */
    FH_SUP_READY_MS = 10000,    /* from spawn to READY */
    FH_SUP_ANSWER_MS = 120000,  /* to a request; draining a slow store counts */
    FH_SUP_FENCE_MS = 120000,   /* after that a worker is parked */
    FH_SUP_EARLY_MS = 200,      /* a worker that dies sooner died at once, */
    FH_SUP_EARLY_MAX = 8,       /* and so often in a row it may */
    FH_SUP_EARLY_SPLIT = 4,     /* then its disks are separated */
    FH_SUP_EARLY_FREE = 2,      /* so often it costs no delay, */
    FH_SUP_BACKOFF_MS = 25,     /* then this one, doubling */
    FH_SUP_RESUME_TRIES = 10,   /* of a resume that lacks resources, */
    FH_SUP_RESUME_MS = 20,      /* after this, doubling: 20 s in all */
    FH_SUP_STOP_MS = 3000,      /* guests may close by themselves, */
    FH_SUP_STOP_FORCED_MS = 5000, /* then drain, */
    FH_SUP_STOP_EXIT_MS = 2000,   /* then workers exit */
};

struct fh_sup;

/* Something in the epoll set: first member or embedded. */
struct fh_sup_source {
    int fd; /* -1: not in the set */
    void (*ready)(struct fh_sup_source *s, uint32_t events);
    void *owner;
};

enum fh_sup_worker_state {
    FH_SUP_NONE,     /* no process */
    FH_SUP_STARTING, /* until READY */
    FH_SUP_READY,
    FH_SUP_ADOPTING, /* an earlier supervisor's: until it has told what it has */
    FH_SUP_FOREIGN,  /* such a one that does not speak our version: @reason */
    FH_SUP_ENDING,   /* asked to exit */
    FH_SUP_FENCED,   /* dead; the kernel finishes its old I/O */
    FH_SUP_WAITING,  /* dead and gone; the next is started at @due_ns */
    FH_SUP_PARKED,   /* given up: @reason */
};

struct fh_sup_worker {
    struct fh_sup *sup;
    struct fh_sup_worker *next;
    uint32_t number;
    int domid; /* serves this guest only; -1: anybody */
    bool is_killed; /* by us: @reason says why */
    bool is_child;    /* of ours: we are told how it died */
    bool has_greeted; /* while ADOPTING */
    uint32_t uid;     /* that it runs as */
    bool is_split; /* made for one disk, which may be the one that kills */
    enum fh_sup_worker_state state;
    pid_t pid;
    uint32_t broker_pid;  /* as it says; 0: none */
    bool sandboxed;       /* as it says */
    struct fh_sup_source pidfd;
    struct fh_sup_source sock;
    struct fh_sup_source fence; /* read end; EOF: nothing of the last process's
                                   I/O is left */
    struct fh_wk_stats *stats;  /* of the present process, mapped; or NULL */
    uint32_t seq;
    uint32_t n_devices;         /* that are assigned to it */
    uint64_t due_ns;            /* the present state's deadline */
    uint64_t born_ns;
    uint64_t died_ns;           /* 0: nobody waits for the successor */
    uint32_t incarnations;
    uint32_t restarts;          /* successors that resumed */
    uint32_t early_deaths;      /* in a row */
    uint64_t longest_pause_ns;
    uint64_t longest_fence_ns;
    char reason[FH_DEVICE_TEXT_MAX];
};

/* What of a device its worker has. */
enum fh_sup_link {
    FH_SUP_LINK_DOWN,
    FH_SUP_LINK_DISK,  /* disk open, no queue */
    FH_SUP_LINK_QUEUE, /* serving */
};

/* What becomes of a disk that an earlier supervisor left, when its worker has
 * let go of it. */
enum fh_sup_fate {
    FH_SUP_FATE_NONE, /* it is served on */
    FH_SUP_FATE_GONE, /* its nodes are not there any more: there is no handshake */
    FH_SUP_FATE_LOST, /* its memory is not: refused */
};

struct fh_sup_device {
    struct fh_device dev;
    struct fh_sup *sup;
    struct fh_sup_device *next;
    uint32_t number; /* of the disk, never reused */
    bool owned;      /* attached through the control socket */
    bool refused;    /* its image could not be opened: @refusal, no disk */
    bool over;       /* removed: to be freed */
    char refusal[FH_IMAGE_TEXT_MAX];
    uint64_t refused_ns; /* when it was first */
    uint64_t retry_ns; /* of a refused one: when to try again */
    char name[64];
    char vdev[16];
    char front_path[64];
    struct fh_image image;
    uint32_t latency_ns;
    int rec_fd;      /* recovery file */
    bool rec_is_named;  /* ... which a supervisor after us will find */
    bool image_is_away; /* open in a worker that an earlier one started, if at
                           all */
    bool was_served;    /* to any ring, ever */
    bool was_restored;
    enum fh_sup_fate fate;
    enum fh_device_phase saved_phase; /* as in its state file */
    bool saved_seen_4;
    int opening_fd;  /* of the image, with a worker that has not answered; -1 */
    struct fh_sup_worker *worker;
    enum fh_sup_link link;
    bool want;       /* the queue is to be up */
    bool resume;     /* a dead worker had the queue */
    uint32_t resume_tries; /* that failed for want of resources, in a row */
    uint64_t resume_ns;    /* when to try again; 0: at once */
    uint32_t seq;    /* of the request that is out; 0: none */
    uint32_t seq_type;
    uint64_t answer_due_ns;
    bool faulted;    /* the worker reported this connection's ring broken */
    struct fh_device_queue queue;
    uint32_t restarts;
    uint64_t longest_pause_ns;
    struct fh_wk_queue_stats base; /* sums of dead workers */
    uint64_t detacher; /* client that waits for the end; 0: nobody */
};

struct fh_sup_client {
    struct fh_sup_source src;
    struct fh_sup *sup;
    struct fh_sup_client *next;
    uint64_t id;
    bool closing; /* when everything is sent */
    bool dead;
    size_t n_in;
    char *out;
    size_t out_len, out_done;
    char in[FH_SUP_LINE_MAX];
};

enum fh_sup_stop {
    FH_SUP_STOP_NO,
    FH_SUP_STOP_ASKED,  /* frontends may close by themselves */
    FH_SUP_STOP_FORCED, /* rings are drained without them */
    FH_SUP_STOP_EXIT,   /* no device is left: workers exit */
};

struct fh_sup {
    struct fh_supervisor_params p;
    struct fh_xenplat xen;
    uint16_t domid;
    char run_dir[FH_DEVICE_PATH_MAX];
    char base[64]; /* /local/domain/N/backend/vbd */
    int epoll_fd;
    int lock_fd;
    int state_fd;   /* supervisor_state.h's directory */
    char boot[40];  /* the host's boot id */
    bool is_leaving; /* ends, and leaves everything to the next one */
    struct fh_sup_source signals;
    struct fh_sup_source xs;
    struct fh_sup_source listener;
    int spare_fd; /* given up for a moment to refuse a client */
    struct fh_sup_device *devices;
    struct fh_sup_worker *workers;
    struct fh_sup_client *clients;
    uint32_t n_devices;
    uint32_t next_disk;
    uint64_t next_client;
    bool scan;      /* the backend directory changed */
    bool scan_front; /* a domain went: look at every frontend */
    bool lost;      /* xenstore is gone */
    uint64_t check_ns; /* when to see whether it is */
    enum fh_sup_stop stop;
    uint64_t stop_ns; /* this stage's deadline */
    uint64_t stopper; /* client that waits for it */
    uint64_t started_ns;
};

/* False: there is nothing to say to the frontend. */
static inline bool
fh_sup_has_handshake(const struct fh_sup_device *d)
{
    return !d->refused && !d->fate;
}

/* supervisor.c */
uint64_t
fh_sup_now(void);
void __attribute__((format(printf, 2, 3)))
fh_sup_log(const struct fh_sup *s, const char *fmt, ...);
/* Adds @src to the loop, or returns a negative error. */
FH_MUST_CHECK int
fh_sup_source_add(struct fh_sup *s, struct fh_sup_source *src, int fd,
                  uint32_t events,
                  void (*ready)(struct fh_sup_source *src, uint32_t events),
                  void *owner);
/* Takes it out and closes the descriptor; tolerates one that is not in. */
void
fh_sup_source_close(struct fh_sup *s, struct fh_sup_source *src);
void
fh_sup_stop(struct fh_sup *s, uint64_t client);

/* supervisor_worker.c: processes. */

/* Worker @number, new or not; NULL: beyond the limit, or no memory. */
struct fh_sup_worker *
fh_sup_worker_insert(struct fh_sup *s, uint32_t number, int domid);
/* Watches over process @pid, which is not our child, by @pidfd; takes that. */
FH_MUST_CHECK int
fh_sup_worker_watch(struct fh_sup_worker *w, pid_t pid, int pidfd);
/* Hears what the process says on @sock; takes that on success. */
FH_MUST_CHECK int
fh_sup_worker_talk(struct fh_sup_worker *w, int sock);
/* It is dead: what follows does when its last I/O is over. */
void
fh_sup_worker_fence(struct fh_sup_worker *w);
/* It has told all that it has. */
void
fh_sup_worker_adopted(struct fh_sup_worker *w, const struct fh_wk_msg *ready);

/* A worker for a device of @domid, not necessarily running; NULL: at the
 * limit. */
struct fh_sup_worker *
fh_sup_worker_for(struct fh_sup *s, uint16_t domid);
/* Starts it unless it runs or waits. */
void
fh_sup_worker_start(struct fh_sup_worker *w);
/* The device leaves it; a worker of one guest ends with its last device. */
void
fh_sup_worker_release(struct fh_sup_worker *w);
/* Sends @m with @n_fds descriptors; a worker that does not take it is killed
 * (its death is handled by the loop). */
void
fh_sup_worker_send(struct fh_sup_worker *w, const struct fh_wk_msg *m,
                   const int *fds, unsigned n_fds);
void
fh_sup_worker_kill(struct fh_sup_worker *w, const char *why);
/* Deadlines: when the next one is, and acting on those that passed. */
uint64_t
fh_sup_workers_deadline(const struct fh_sup *s);
void
fh_sup_workers_run(struct fh_sup *s);
/* Asks all to exit; how many processes are left; kills these. */
void
fh_sup_workers_end(struct fh_sup *s);
uint32_t
fh_sup_workers_alive(const struct fh_sup *s);
void
fh_sup_workers_kill(struct fh_sup *s);
void
fh_sup_workers_free(struct fh_sup *s);
const char *
fh_sup_worker_state_name(enum fh_sup_worker_state st);

/* supervisor_spawn.c */

/* Makes the process, watched and greeted; after a failure w->pid may be one to
 * be killed. */
FH_MUST_CHECK int
fh_sup_spawn(struct fh_sup_worker *w);

/* supervisor_adopt.c: after an earlier supervisor. */
void
fh_sup_adopt_all(struct fh_sup *s);
/* Opens the image of a disk whose earlier worker is dead.  @why:
 * FH_IMAGE_TEXT_MAX bytes. */
FH_MUST_CHECK int
fh_sup_bring_back(struct fh_sup_device *d, char *why);
/* Carries out @d's fate, when it may be. */
void
fh_sup_fate(struct fh_sup_device *d);

/* supervisor_link.c: a device and its worker. */
uint64_t
fh_sup_answer_ns(const struct fh_sup *s);
extern const struct fh_device_ops fh_sup_device_ops;
/* Sends the next message that leads to what the device wants. */
void
fh_sup_link_advance(struct fh_sup_device *d);
void
fh_sup_link_answer(struct fh_sup_worker *w, const struct fh_wk_msg *m);
void
fh_sup_link_fault(struct fh_sup_worker *w, const struct fh_wk_msg *m);
/* The worker's process is dead: nothing is open there any more. */
void
fh_sup_link_died(struct fh_sup_worker *w);
/* ... and its last I/O over, or it is parked: who wanted the end has it. */
void
fh_sup_link_settled(struct fh_sup_worker *w);
/* True when a device of @w needs a process. */
bool
fh_sup_link_needed(const struct fh_sup_worker *w);
void
fh_sup_link_ready(struct fh_sup_worker *w);
/* When an answer is due (UINT64_MAX: none is), and what follows when it did
 * not come. */
uint64_t
fh_sup_link_deadline(const struct fh_sup_device *d);
void
fh_sup_link_overdue(struct fh_sup_device *d);
/* The queue's counters over all workers that it had. */
void
fh_sup_link_stats(const struct fh_sup_device *d, struct fh_wk_queue_stats *st);

/* supervisor_xs.c: devices in xenstore. */
FH_MUST_CHECK int
fh_sup_xs_start(struct fh_sup *s);
void
fh_sup_xs_drain(struct fh_sup *s);
void
fh_sup_xs_scan(struct fh_sup *s);
/* True while the nodes in xenstore are there and name @d's image; sets
 * `owned`. */
bool
fh_sup_xs_names(struct fh_sup_device *d);
/* Closes what @d has; it is listed with the reason.  FH_EBUSY is tried again. */
void
fh_sup_refuse(struct fh_sup_device *d, int error, const char *why);
/* Tries a refused device again, when it is due. */
void
fh_sup_xs_retry(struct fh_sup_device *d);

/* supervisor_device.c: one device. */

/* In `params`, before the target; and in `type`: we wrote the nodes. */
#define FH_SUP_PREFIX "freehold:"
#define FH_SUP_TYPE   "freehold"

struct fh_sup_attach {
    uint32_t domid;
    uint32_t devid;
    char vdev[16];
    const char *target;
    const char *name; /* or NULL */
    bool read_only;
    bool shared;
    enum fh_device_grants grants;
    uint32_t max_order;
    uint32_t latency_ns;
};

struct fh_sup_device *
fh_sup_find(struct fh_sup *s, uint32_t domid, uint32_t devid);
/* An empty device in the list; NULL: no memory, or at a limit (@why). */
struct fh_sup_device *
fh_sup_device_new(struct fh_sup *s, const struct fh_sup_attach *a, char *why);
/* Its image and its recovery file. */
FH_MUST_CHECK int
fh_sup_open_storage(struct fh_sup_device *d, const struct fh_sup_attach *a,
                    char *why);
/* Its handshake, from the beginning or (@st) from where it was. */
struct fh_sup_state;
FH_MUST_CHECK int
fh_sup_start_device(struct fh_sup_device *d, const struct fh_sup_attach *a,
                    const struct fh_sup_state *st);

/* As a toolstack: both directories, then the device.  @why: FH_IMAGE_TEXT_MAX
 * bytes. */
FH_MUST_CHECK int
fh_sup_attach(struct fh_sup *s, const struct fh_sup_attach *a,
              struct fh_sup_device **out, char *why);
/* Removes both directories of a disk. */
void
fh_sup_remove_dirs(struct fh_sup *s, uint32_t domid, uint32_t devid);
/* Removes the nodes of a device that is ours. */
void
fh_sup_remove_nodes(struct fh_sup_device *d);
void
fh_sup_device_free(struct fh_sup_device *d);
/* "xvda" and numbers. */
FH_MUST_CHECK int
fh_sup_vdev_parse(const char *text, uint32_t *devid);
void
fh_sup_vdev_name(uint32_t devid, char *text, size_t size);
/* The first number that nobody has in @domid. */
FH_MUST_CHECK int
fh_sup_vdev_free(struct fh_sup *s, uint32_t domid, uint32_t *devid);

/* supervisor_ctl.c: the control socket. */
FH_MUST_CHECK int
fh_sup_ctl_start(struct fh_sup *s);
void
fh_sup_ctl_end(struct fh_sup *s);
/* Answers client @id, if it is still there; takes @reply. */
void
fh_sup_ctl_reply(struct fh_sup *s, uint64_t id, struct json_object *reply);
void
fh_sup_ctl_reap(struct fh_sup *s);
struct json_object *
fh_sup_ctl_error(const char *text);

/* supervisor_list.c */
struct json_object *
fh_sup_list_device(const struct fh_sup_device *d);
struct json_object *
fh_sup_list(const struct fh_sup *s, bool status);
