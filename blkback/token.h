/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A supervisor's word that a worker may use a domain's grants, in a form that
 * the worker can pass on to its broker but not make: a memfd with the domain's
 * number, sealed against every change.  A worker's sandbox lets it neither make
 * a memfd nor seal one.
 *
 * Any thread.  Never logs.
 */
#include <stdint.h>
#include <freehold/err.h>

/* A descriptor of the caller's, close-on-exec, or a negative error. */
int
fh_token_make(uint16_t domid);

/* What domain @fd is for.  0, or FH_EPERM: no token. */
FH_MUST_CHECK int
fh_token_read(int fd, uint16_t *domid);
