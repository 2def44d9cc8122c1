/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A client of fhv's control socket: for the freehold command and for tests.
 * Every function connects, asks, waits for the answer and disconnects.  All
 * return 0 or a negative error; FH_ENOENT or -ECONNREFUSED from any of them
 * means that no fhv runs there.  fh_hvctl_error() has the words.
 *
 * Threads: any; the error text is per thread.
 */
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <freehold/err.h>

struct json_object;

struct fh_hvctl_domain {
    uint16_t domid;
    uid_t uid;   /* to run its programs under */
    uint64_t id; /* never reused */
    char name[64];
    char hypercall[512]; /* for FREEHOLD_HYPERCALL */
    char xenstore[512];  /* for XENSTORED_PATH */
};

/* $FREEHOLD_RUN_DIR, /run/freehold/hv for root, else $XDG_RUNTIME_DIR or
 * /tmp/freehold-UID with /freehold/hv or /hv below.  FH_ERANGE if too long. */
FH_MUST_CHECK int
fh_hvctl_run_dir(char *buf, size_t size);

/* @run_dir NULL is the default one, everywhere.  @domid -1, @name NULL: fhv
 * chooses. */
FH_MUST_CHECK int
fh_hvctl_create(const char *run_dir, int domid, const char *name,
                struct fh_hvctl_domain *out);

/* Returns when the domain is gone.  @domain is a name or a number. */
FH_MUST_CHECK int
fh_hvctl_destroy(const char *run_dir, const char *domain);

/* FH_ENOENT also for an unknown domain. */
FH_MUST_CHECK int
fh_hvctl_find(const char *run_dir, const char *domain,
              struct fh_hvctl_domain *out);

/* @out: to be released by json_object_put(). */
FH_MUST_CHECK int
fh_hvctl_status(const char *run_dir, struct json_object **out);

/* Counters of one domain, by name or number. */
FH_MUST_CHECK int
fh_hvctl_stats(const char *run_dir, const char *domain,
               struct json_object **out);

/* Returns when fhv has removed its run directory's contents. */
FH_MUST_CHECK int
fh_hvctl_stop(const char *run_dir);

/* Why the last call of this thread failed. */
const char *
fh_hvctl_error(void);
