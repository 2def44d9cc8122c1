/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Uids for domains.  Processes of one uid can trace each other, so no two
 * domains that live at a time may share one, whichever hypervisor they are of.
 */
#include <stdbool.h>
#include <stdint.h>

#include <freehold/err.h>

/* True when a process runs under one of @n uids from @first on. */
bool
fh_hv_uids_run(uint32_t first, uint32_t n);

/*
 * fh_hv_uids_claim - take a block of uids that no other hypervisor has and
 * under which nothing runs
 *
 * @base: the first of FH_HV_UID_BLOCK
 *
 * The block is ours until the process ends.  Returns 0 or a negative error;
 * FH_ENOSPC when all are taken.
 */
FH_MUST_CHECK int
fh_hv_uids_claim(uint32_t *base);
