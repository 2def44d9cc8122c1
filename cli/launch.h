/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Starting a program inside a local domain: the library path that leads to
 * fhv's libraries, the domain's sockets, its uid.
 *
 * A program may lie where the domain's uid cannot go (a checkout in a private
 * home directory, built under a tight umask), so it is opened before the drop
 * and executed through its descriptor when its name does not work afterwards.
 *
 * fh_launch_find() and fh_launch_open() run in the parent and explain their
 * failures; fh_launch_exec() runs in the process that becomes the program.
 * Threads: one.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <freehold/err.h>

enum { FH_LAUNCH_PATH = 512 };

/* How to become a domain. */
struct fh_launch {
    uint32_t domid;
    bool drops;  /* becomes uid and gid, gives up every privilege */
    uid_t uid;
    gid_t gid;
    char lib_dir[FH_LAUNCH_PATH];
    char hypercall[FH_LAUNCH_PATH]; /* sockets of the domain */
    char xenstore[FH_LAUNCH_PATH];
};

/* A program that was opened; fd -1: none. */
struct fh_program {
    char path[4096];
    int fd;
};

#define FH_PROGRAM_NULL { .fd = -1 }

struct fh_hvctl_domain;

/* From what the hypervisor in @hv_dir said about a domain. */
void
fh_launch_domain(struct fh_launch *l, const char *hv_dir,
                 const struct fh_hvctl_domain *d);

/*
 * fh_launch_find - ask the hypervisor in @hv_dir about domain @domid
 *
 * @who: the command, for the message
 *
 * Returns 0 or a negative error, explained; FH_ENOENT: no such domain.
 */
FH_MUST_CHECK int
fh_launch_find(struct fh_launch *l, const char *hv_dir, uint32_t domid,
               const char *who);

/* Finds @name as execvp would and opens it; explains a failure. */
FH_MUST_CHECK int
fh_program_open(struct fh_program *p, const char *name, const char *who);

/* Opens the running executable. */
FH_MUST_CHECK int
fh_program_open_self(struct fh_program *p, const char *who);

void
fh_program_close(struct fh_program *p);

/*
 * fh_launch_exec - become @p inside the domain
 *
 * Sets the environment, drops to the domain's identity and executes; @l NULL:
 * stays outside all domains.  With
 * @dies_with_parent the process is killed when its parent dies.
 *
 * Returns only on failure: the exit status, 127 (not found) or 126, explained.
 */
int
fh_launch_exec(const struct fh_launch *l, const struct fh_program *p,
               char *const argv[], bool dies_with_parent, const char *who);
