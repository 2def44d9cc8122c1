/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Errors of every Freehold library.
 *
 * 0 is success.  A negative value is an error of the environment or a misuse
 * of ours; it equals the Linux errno of the same name with its sign turned and
 * is forwarded unchanged.  A positive value is a verdict that the function
 * documents: a peer's doing, or its quota; the caller handles it and never
 * forwards it.  The names live here so that the freestanding libraries need no
 * <errno.h>.
 */

#define FH_MUST_CHECK __attribute__((warn_unused_result))

enum {
    FH_EPERM = -1,
    FH_ENOENT = -2,
    FH_ESRCH = -3,
    FH_EINTR = -4,
    FH_EIO = -5,
    FH_E2BIG = -7,
    FH_EBADF = -9,
    FH_EAGAIN = -11,
    FH_ENOMEM = -12,
    FH_EACCES = -13,
    FH_EFAULT = -14,
    FH_EBUSY = -16,
    FH_EEXIST = -17,
    FH_ENODEV = -19,
    FH_EINVAL = -22,
    FH_ENFILE = -23,
    FH_EMFILE = -24,
    FH_ENOSPC = -28,
    FH_EROFS = -30,
    FH_EPIPE = -32,
    FH_ERANGE = -34,
    FH_ENOSYS = -38,
    FH_EPROTO = -71,
    FH_EOVERFLOW = -75,
    FH_EOPNOTSUPP = -95,
    FH_ENOTCONN = -107,
    FH_ETIMEDOUT = -110,
    FH_ECANCELED = -125,
};
