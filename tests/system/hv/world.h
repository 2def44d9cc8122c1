/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A hypervisor of its own for a test, and processes in its domains.
 *
 * world_start() runs the fhv named by FREEHOLD_FHV in a new directory below
 * /tmp, with the libraries of FREEHOLD_LIBS and as many hypercall threads as
 * FREEHOLD_FHV_THREADS says (if set); world_stop() ends it and expects the
 * directory empty.  A process in a domain is a fork that has the domain's sockets in its environment and, when
 * the test runs as root, its uid; it reports by its exit status, and it talks
 * with the test over two pipes.  Expectations fail the process that makes them.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include "../../unit/expect.h"
#include "hv/client.h"

struct world {
    char dir[64];
    pid_t hv;
};

struct process {
    pid_t pid;
    int to, from; /* pipes */
};

void
world_start(struct world *w);
/* kill -9, and another one in the same directory. */
void
world_restart(struct world *w);
void
world_stop(struct world *w);

void
world_domain(struct world *w, const char *name, struct fh_hvctl_domain *out);

/* A number of the hypervisor's status: "maps", or of domain @domid when that
 * is not negative: "ports". */
int64_t
world_count(struct world *w, int domid, const char *key);

/* Calls world_count() until it is @want, for a second at most. */
bool
world_settles(struct world *w, int domid, const char *key, int64_t want);

/* What runs in the domain.  @in and @out are its ends of the pipes. */
typedef void
process_body(const struct fh_hvctl_domain *dom, int in, int out, void *arg);

void
process_start(struct process *p, const struct fh_hvctl_domain *dom,
              process_body *body, void *arg);
/* Waits and expects exit status 0. */
void
process_end(struct process *p);
/* kill -9, and waits. */
void
process_kill(struct process *p);

/* Whole messages; a failure ends the test or the process. */
void
tell(int fd, const void *data, size_t n);
void
hear(int fd, void *data, size_t n);

/* In a process: fails with a message. */
#define CHECK(cond)                                                            \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: %s: %s (errno %m)\n", __FILE__, __LINE__,  \
                    __func__, #cond);                                          \
            _exit(1);                                                          \
        }                                                                      \
    } while (0)

/* Environment of domain @dom, for what the caller opens from now on. */
void
world_enter(const struct fh_hvctl_domain *dom);
