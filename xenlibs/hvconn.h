/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A connection to the local hypervisor, for both libraries.  Life:
 * fh_hvc_open, calls, fh_hvc_close.
 *
 * Threads: one at a time; each library's handle has a lock of its own.
 * All results are 0 or a negative error.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <freehold/err.h>

#include "hv/abi.h"

struct fh_hvc {
    int sock;
    pid_t pid; /* that opened it: nobody else may use it */
    uint16_t domid;
    uint8_t *area;
    uint64_t area_bytes;
};

/* What came back. */
struct fh_hvc_answer {
    struct fh_hv_rsp rsp;
    int fds[FH_HV_REPLY_FDS]; /* the caller's */
    unsigned n_fds;
};

/*
 * fh_hvc_open - connect to the hypercall socket of our domain
 *
 * @area_bytes: of the argument area, whole pages; 0: none
 * @inherits:   the socket survives an exec
 *
 * FH_ENOENT without FREEHOLD_HYPERCALL in the environment.
 */
FH_MUST_CHECK int
fh_hvc_open(struct fh_hvc *c, enum fh_hv_kind kind, uint64_t area_bytes,
            bool inherits);

/* Without a word when this is a child that inherited it; else the hypervisor
 * has let go of everything when this returns. */
void
fh_hvc_close(struct fh_hvc *c);

/* One hypercall.  @tx_fd goes along, -1: none.  @answer may be NULL.  Any
 * failure of the call leaves no descriptor in @answer. */
FH_MUST_CHECK int
fh_hvc_call(struct fh_hvc *c, const struct fh_hv_req *req, int tx_fd,
            struct fh_hvc_answer *answer);
