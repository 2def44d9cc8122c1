/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a worker, and its broker, may still do once they have what they need.
 *
 * Rights first (uid, capabilities, the way back to either), the filter last:
 * a system call that is not on the list ends the process with SIGSYS, which its
 * supervisor treats like any crash.  io_uring makes its calls without asking
 * the filter: the ring has restrictions of its own (uring.c).
 *
 * Builds with a sanitizer or with coverage have no filter: their runtimes open
 * files and start threads whenever they like.
 *
 * One thread, the process's only one.  Never logs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>

/* True unless this build has no filter. */
bool
fh_sandbox_is_built(void);

/*
 * fh_sandbox_drop_rights - give up root, and the way back to it
 *
 * @uid: to become, with the group of the same number; 0: stay
 *
 * No capabilities are left in any case, no exec brings any back, and nothing
 * dumps core.  Negative: part of it may have been done; exit.
 */
FH_MUST_CHECK int
fh_sandbox_drop_rights(uint32_t uid);

/*
 * fh_sandbox_worker - install the worker's filter
 *
 * @evtchn_fd: event channels: bind to a domain, unbind and notify are allowed
 * @gntdev_fd: every ioctl is allowed (no broker, on real Xen); -1: none is
 *
 * Left are: descriptors that it has, or is sent; memory that cannot be
 * executed; its ring, clock and end.  Returns 0 or a negative error; FH_ENOSYS
 * in a build without.
 */
FH_MUST_CHECK int
fh_sandbox_worker(int evtchn_fd, int gntdev_fd);

/* The broker's: three ioctls on @gntdev_fd, taking tokens out of @sock,
 * sleeping and waking, its end. */
FH_MUST_CHECK int
fh_sandbox_broker(int gntdev_fd, int sock);
