/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The supervisor: owns xenstore, the handshake of every disk, the control
 * socket, the images and their locks, and the workers' lives.  It never
 * touches a ring.
 *
 * One process, one thread.  fh_supervisor_main() runs until SIGTERM, SIGINT,
 * SIGHUP or the control socket's stop, closes every device (bounded) and
 * returns the process's exit status.  When it dies otherwise (or keep_workers
 * is set, and a signal ends it) the workers go on, and the next supervisor of
 * the run directory takes up what it finds there.
 */
#include <stdbool.h>
#include <stdint.h>
#include "blkback/device.h"
#include "blkback/proto.h"

struct fh_supervisor_params {
    const char *run_dir;   /* NULL: /run/freehold; made if missing */
    int domid;             /* our own; -1: ask xenstore */
    uint32_t n_workers;    /* a fixed pool; 0: one worker per guest */
    uint32_t uid_base;     /* as root: worker k runs as uid_base + k;
                              0: workers stay what we are */
    enum fh_device_grants grants; /* for devices that do not say */
    uint32_t max_order;    /* of a ring, 0 .. 4 */
    uint32_t max_indirect; /* segments; 0: 256 */
    bool polling;
    uint32_t poll_max_ns;  /* 0: the worker's default */
    uint32_t memlock_pages; /* registered buffers per worker at most; 0: 64
                               MiB; UINT32_MAX: none */
    enum fh_wk_broker broker; /* of the workers' grants */
    bool no_sandbox;       /* workers stay without */
    bool keep_workers;     /* signals end us alone: workers wait for the next */
    uint32_t lonely_s;     /* so long, without a request; 0: an hour */
    bool is_last;          /* nobody comes after us: workers die with us */
    bool verbose;
    int ready_fd;          /* a byte is written when devices can be attached,
                              then it is closed; -1: none */
    /* For tests. */
    uint32_t answer_ms;    /* to a worker's answer; 0: two minutes */
    bool no_fence;
    uint32_t kill_after;   /* first incarnation of a worker dies at the k-th
                              store to the recovery state; 0: never */
};

#define FH_SUPERVISOR_DEFAULTS                                                 \
    {                                                                          \
        .domid = -1, .uid_base = 62000, .max_order = 4, .polling = true,       \
        .ready_fd = -1                                                         \
    }

int
fh_supervisor_main(const struct fh_supervisor_params *p);
