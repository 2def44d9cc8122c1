/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A private world for one command: a local hypervisor, a backend and domains
 * in a run directory of their own, and whatever happens, nothing of it left
 * afterwards.  `run` and `bench` live in one.
 *
 *     static int
 *     body(struct fh_env *env, void *arg)
 *     {
 *         fh_env_start_hv(env);
 *         fh_env_start_backend(env, &(struct fh_env_backend)FH_ENV_BACKEND);
 *         fh_env_domain(env, 1);
 *         fh_env_attach(env, &(struct fh_env_disk){ .domid = 1, ... }, &vdev);
 *         fh_env_spawn(env, &(struct fh_env_proc){ .domid = 1, ... }, &pid);
 *         ...
 *         return 0;
 *     }
 *     return fh_env_guard("bench", body, &arg);
 *
 * fh_env_guard() forks.  The child runs the body; the parent, the guard, keeps
 * the two directories, adopts every orphan below it (PR_SET_CHILD_SUBREAPER),
 * and when the body ends, dies, or the user presses Ctrl-C, kills all that is
 * left, waits for it and removes the directories.  So the body needs no
 * tear-down code of its own and may return, exit or crash anywhere.
 *
 * Every failure is explained on stderr where it happens; callers only pass it
 * on.  Functions return 0 or a negative error unless they say otherwise.
 *
 * Threads: one.  All of it blocks, within the time limits below.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <freehold/err.h>

struct json_object;

enum {
    FH_ENV_START_MS = 10000, /* hypervisor or backend until ready */
    FH_ENV_CTL_MS = 20000,   /* one question to the backend */
    FH_ENV_STOP_MS = 10000,  /* an orderly stop, before the guard kills */
    FH_ENV_FDS = 8,          /* handed to one process */
    FH_ENV_PATH = 80,        /* of the directories: a unix socket's path has
                                108 bytes */
};

/* Set by a world for the commands that it runs: a world within a world has its
 * directories within the outer one's, and goes with it. */
#define FH_ENV_PARENT "FREEHOLD_PARENT_DIR"
#define FH_ENV_WORK_PARENT "FREEHOLD_PARENT_WORK_DIR"

struct fh_env {
    const char *name;             /* of the command, for messages */
    char dir[FH_ENV_PATH];        /* run directory: sockets, staged files */
    char hv_dir[FH_ENV_PATH + 8]; /* the hypervisor's, below it */
    char work_dir[FH_ENV_PATH];   /* for large files, on a real file system;
                                     mode 0700, the caller's */
    pid_t hv;                     /* 0: not started */
    pid_t backend;
    bool isolated;                /* each domain has a uid of its own */
};

struct fh_env_backend {
    uint32_t workers;     /* a fixed pool; 0: one worker per guest */
    bool polling;         /* worker spins before it sleeps */
    uint32_t poll_max_ns; /* 0: the worker's default */
    bool no_fence;        /* tests only */
};

#define FH_ENV_BACKEND { .polling = true }

struct fh_env_disk {
    uint32_t domid;
    const char *target; /* path, "mem:SIZE", "null:SIZE" */
    const char *vdev;   /* NULL: the next free one */
    const char *grants; /* "auto", "copy", "map"; NULL: auto */
    int order;          /* of the ring; -1: the backend's default */
    bool writable;
    bool shared;         /* other writers and readers of the image allowed */
    uint32_t latency_ns; /* null store */
};

/* A process to start inside a domain. */
struct fh_env_proc {
    uint32_t domid;
    const char *program;     /* NULL: freehold itself; argv[1] is then a hidden
                                command of the table in main.c */
    const char *const *argv; /* NULL-terminated; argv[0] included */
    int fds[FH_ENV_FDS];     /* become descriptors 3, 4, ... there */
    int n_fds;
    int out;                 /* its stdout; 0: ours */
    int err;                 /* its stderr; 0: ours */
};

/*
 * fh_env_guard - run @body in a private world and leave nothing behind
 *
 * @name: of the command; part of the directories' names
 *
 * On SIGINT, SIGTERM or SIGHUP everything is killed and removed, and the
 * process then dies of that signal, as a shell expects.
 *
 * Returns the body's exit status; 1 when it was killed.
 */
int
fh_env_guard(const char *name, int (*body)(struct fh_env *env, void *arg),
             void *arg);

/* Starts the local hypervisor with domain 0, and waits until it answers. */
FH_MUST_CHECK int
fh_env_start_hv(struct fh_env *env);

/* Starts the supervisor as domain 0, and waits until disks can be attached. */
FH_MUST_CHECK int
fh_env_start_backend(struct fh_env *env, const struct fh_env_backend *p);

/* Stops the supervisor in order; what it left is removed.  May be followed by
 * another fh_env_start_backend(). */
FH_MUST_CHECK int
fh_env_stop_backend(struct fh_env *env);

/* Stops backend and hypervisor in order: for those who want to see that it
 * works.  The guard does not need it. */
FH_MUST_CHECK int
fh_env_stop(struct fh_env *env);

FH_MUST_CHECK int
fh_env_domain(struct fh_env *env, uint32_t domid);
FH_MUST_CHECK int
fh_env_domain_destroy(struct fh_env *env, uint32_t domid);

/*
 * fh_env_attach - give a domain a disk
 *
 * @vdev: written on success unless NULL: its number (xvda is 51712), which is
 *        what the frontend's directory device/vbd/N is called
 */
FH_MUST_CHECK int
fh_env_attach(struct fh_env *env, const struct fh_env_disk *d, uint32_t *vdev);
FH_MUST_CHECK int
fh_env_detach(struct fh_env *env, uint32_t domid, uint32_t vdev);

/* One question to the supervisor (blkback/ctl.h); the caller puts @reply. */
FH_MUST_CHECK int
fh_env_ctl(struct fh_env *env, struct json_object *request,
           struct json_object **reply);

/* What fhv counts, as one object; the caller puts it. */
FH_MUST_CHECK int
fh_env_hv_status(struct fh_env *env, struct json_object **status);

/* The pid of the worker that serves (@domid, @vdev) now, or a negative error:
 * for those who want to kill it. */
FH_MUST_CHECK int
fh_env_worker_pid(struct fh_env *env, uint32_t domid, uint32_t vdev,
                  pid_t *pid);

/*
 * fh_env_spawn - start a process inside a domain
 *
 * It runs under the domain's uid (isolation on), with the library path,
 * sockets and identity of the domain, stdin from /dev/null, and dies with us.
 * Descriptors other than those of @p are closed.
 */
FH_MUST_CHECK int
fh_env_spawn(struct fh_env *env, const struct fh_env_proc *p, pid_t *pid);

/* The same outside all domains, as the caller: @p->domid is not looked at. */
FH_MUST_CHECK int
fh_env_run(struct fh_env *env, const struct fh_env_proc *p, pid_t *pid);

/*
 * fh_env_wait - wait for a child
 *
 * @timeout_ms: then FH_ETIMEDOUT, the process goes on; -1: no limit
 * @status:     written on success: as a shell counts, 128 + signal if killed
 */
FH_MUST_CHECK int
fh_env_wait(pid_t pid, int timeout_ms, int *status);

/* A directory that only @domid's programs may write, removed with the rest;
 * NULL (explained) on failure, else the caller frees it. */
char *
fh_env_domain_dir(struct fh_env *env, uint32_t domid);
