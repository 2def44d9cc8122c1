/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The world of one `freehold bench`: its guests, its stores, and the counters
 * read at both ends of the measured window.  Counters come from where the
 * thing happens: hypercalls from fhv, sleeps and CPU time from the kernel,
 * requests from the guests.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include "cli/bench.h"
#include "cli/env.h"
#include "cli/opt.h"

struct fh_bench_guest {
    pid_t pid;
    uint32_t domid;
    uint32_t vdev;
    char target[4096];    /* of the attach */
    char path[4096];      /* of a file store, to be read again */
    struct fh_bench_area *area;
};

/* One reading of everything that is counted. */
struct fh_bench_sample {
    uint64_t at_ns;
    double at_s;               /* wall clock, to find it in a trace */
    uint64_t requests;
    uint64_t errors;
    uint64_t front_notifies;
    uint64_t front_syscalls;
    uint64_t back_notifies;
    uint64_t back_syscalls;
    uint64_t hypercalls;       /* of the grant tables, all domains, by fhv */
    uint64_t wakeups;          /* voluntary switches of guests and workers */
    uint64_t worker_cpu_ns;
    uint64_t restarts;
};

struct fh_bench_world {
    struct fh_bench_options *opt;
    struct fh_env *env;
    struct fh_bench_guest guest[FH_BENCH_MAX_GUESTS];
    struct fh_bench_sample sample[2];
    double ring_limit[2];      /* requests per second, before and after */
    uint64_t mismatches;       /* found in the stores at the end */
    uint64_t longest_pause_ms; /* that the supervisor saw at a restart, */
    uint64_t longest_fence_ms; /* of it, for the kernel to end old I/O */
};

uint64_t
fh_bench_now_ns(void);

/* Judges --store before anything is started: 0, or the exit status 2. */
int
fh_bench_check_store(const struct fh_opt_cmd *c,
                     const struct fh_bench_options *o);

/* Starts hypervisor, backend, domains, disks and guests; 0 or 1, explained. */
int
fh_bench_world_start(struct fh_bench_world *w);

/* Ends the guests, the backend and the hypervisor, in order; 0 or 1. */
FH_MUST_CHECK int
fh_bench_world_stop(struct fh_bench_world *w);

int
fh_bench_sample(struct fh_bench_world *w, struct fh_bench_sample *s);

/* Kills the worker that serves guest @i, if there is one right now. */
void
fh_bench_kill_worker(struct fh_bench_world *w, uint32_t i);

/* Reads every store again, not through the ring, and compares; counts in
 * w->mismatches.  0, or 1 when a store could not be read. */
int
fh_bench_verify_stores(struct fh_bench_world *w);

/* Runs bench/ring-limit with the options' pairs, depth, size and polling. */
int
fh_bench_ring_limit(struct fh_bench_world *w, double *iops);

/* Prints the result; the exit status: 1 after errors or mismatches. */
int
fh_bench_report(struct fh_bench_world *w);
