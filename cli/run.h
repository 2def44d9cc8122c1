/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The parts of `freehold run`: the show for a newcomer.
 *
 *   run.c        options, the order of things, the verdict
 *   run_image.c  images: made, taken apart and compared by e2fsprogs
 *   run_load.c   the guests' processes and their killed workers
 *   run_guest.c  what such a process does (hidden command --run-guest)
 *   run_table.c  the live table, the summary
 *   run_bench.c  three runs of `freehold bench`, side by side
 *
 * Threads: one in each process.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/shared.h"
#include "cli/env.h"

enum {
    RUN_GUESTS = 4,
    RUN_COPIER = 0,  /* domain 1: nbdkit, for nbdcopy */
    RUN_WRITER = 3,  /* domain 4: writes its own image */
    RUN_PATH = 128,
};

/* A guest's page in the shared file; written by it, read by the table. */
struct run_stats {
    fh_word64 requests;
    fh_word64 bytes;
    fh_word64 compared;   /* bytes that were compared */
    fh_word64 mismatches; /* requests whose data were wrong */
    fh_word64 errors;     /* requests answered with an error */
    fh_word64 pause_ns;   /* longest time without an answer, requests being in
                             flight */
    fh_word64 passes;     /* times that the whole image was written */
    fh_word32 stop;       /* set by run: come to an end */
    fh_word32 connected;
    uint8_t pad[4096 - 64];
};

_Static_assert(sizeof(struct run_stats) == 4096, "a page per guest");

struct run_options {
    const char *image; /* NULL: one is made */
    bool writable;     /* the user's image may be written */
    bool no_bench;
    bool json;
    double seconds;    /* of load */
    double bench_seconds;
};

struct run_guest {
    const char *does; /* for the table */
    uint32_t domid;
    uint32_t vdev;
    pid_t pid;        /* 0: none */
    pid_t killed;     /* the worker that was killed; 0: none so far */
    uint32_t kills;
};

struct run {
    const struct run_options *o;
    struct fh_env *env;
    bool made;                 /* the image is ours: files are compared */
    char image[4096];          /* served */
    char tree[RUN_PATH];       /* what was put into it */
    char copy[RUN_PATH];       /* what nbdcopy got */
    char own[RUN_PATH];        /* the writer's image */
    uint64_t image_bytes;
    uint64_t own_bytes;
    uint64_t n_files;
    struct run_guest guest[RUN_GUESTS];
    struct run_stats *stats;   /* RUN_GUESTS pages */
    int stats_fd;
    pid_t nbdkit, nbdcopy;
    double load_seconds;
    double copy_began;
    double copy_seconds;       /* 0: not finished */
    bool copy_failed;
    bool tty;                  /* the table is drawn over itself */
    bool drawn;
    bool failed;               /* some claim did not hold */
    struct json_object *bench; /* three results, or NULL */
    struct json_object *checks; /* claim: bool */
};

/* All return 0, or nonzero after explaining a failure. */

/* run_image.c */
int
run_image_prepare(struct run *r);
int
run_image_own(struct run *r);
/* Checks what came out; notes each claim with run_claim(). */
int
run_image_check(struct run *r);

/* run_load.c */
int
run_load_start(struct run *r);
/* Load, copying, killing, the live table, for the time that was asked for. */
int
run_load_watch(struct run *r);
int
run_load_end(struct run *r);

/* run_table.c */
void
run_say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Notes whether a claim held, and says so. */
void
run_claim(struct run *r, bool holds, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Draws the table; @last: leaves it standing. */
void
run_table_draw(struct run *r, double seconds, bool last);

/* run_bench.c */
int
run_bench(struct run *r);

/* run_image.c: runs a program outside all domains, its output in a log that is
 * shown on failure unless @quiet.  Returns its exit status, or -1. */
int
run_tool(struct run *r, const char *const *argv, bool quiet);
