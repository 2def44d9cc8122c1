/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Included before every source of libgrant in the tests of a hostile granter:
 * each access of the engine to memory that others share calls grant_hook()
 * first, so that a test can change the memory between any two of them.
 */
#include "base/shared.h"

enum grant_access { GRANT_READ, GRANT_RMW, GRANT_WRITE, GRANT_COPY_IN };

void
grant_hook(enum grant_access what, const FH_SHARED void *p);

/* A macro's own name is not expanded again. */
#define fh_load_relaxed16(p) (grant_hook(GRANT_READ, (p)), fh_load_relaxed16(p))
#define fh_load_relaxed32(p) (grant_hook(GRANT_READ, (p)), fh_load_relaxed32(p))
#define fh_load_ordered32(p) (grant_hook(GRANT_READ, (p)), fh_load_ordered32(p))
#define fh_load_acquire32(p) (grant_hook(GRANT_READ, (p)), fh_load_acquire32(p))
#define fh_load_relaxed64(p) (grant_hook(GRANT_READ, (p)), fh_load_relaxed64(p))
#define fh_cas32(p, e, v)                                                      \
    (grant_hook(GRANT_RMW, (p)), fh_cas32((p), (e), (v)))
#define fh_cas64(p, e, v)                                                      \
    (grant_hook(GRANT_RMW, (p)), fh_cas64((p), (e), (v)))
#define fh_fetch_or16(p, v)                                                    \
    (grant_hook(GRANT_RMW, (p)), fh_fetch_or16((p), (v)))
#define fh_fetch_and16(p, v)                                                   \
    (grant_hook(GRANT_RMW, (p)), fh_fetch_and16((p), (v)))
#define fh_store_relaxed16(p, v)                                               \
    (grant_hook(GRANT_WRITE, (p)), fh_store_relaxed16((p), (v)))
#define fh_store_relaxed32(p, v)                                               \
    (grant_hook(GRANT_WRITE, (p)), fh_store_relaxed32((p), (v)))
#define fh_store_relaxed64(p, v)                                               \
    (grant_hook(GRANT_WRITE, (p)), fh_store_relaxed64((p), (v)))
#define fh_copy_in(d, s, n)                                                    \
    (grant_hook(GRANT_COPY_IN, (s)), fh_copy_in((d), (s), (n)))
