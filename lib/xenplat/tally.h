/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * System calls of these libraries, for a program that wants to know: it exports
 * a variable `fh_xenlib_tally` (lib/xenplat does), and they count into it.
 * Debian's libraries know nothing of it, so is_counting stays 0 there.
 *
 * Plain counts of one process; exact while one thread uses the libraries.
 */
#include <stdint.h>

struct fh_xenlib_tally {
    uint64_t is_counting; /* set when a handle is opened */
    uint64_t n_syscalls;  /* on the data path: events, hypercalls */
};

extern struct fh_xenlib_tally fh_xenlib_tally __attribute__((weak));

static inline void
fh_tally_begin(void)
{
    if (&fh_xenlib_tally)
        fh_xenlib_tally.is_counting = 1;
}

static inline void
fh_tally_syscall(void)
{
    if (&fh_xenlib_tally)
        fh_xenlib_tally.n_syscalls++;
}
