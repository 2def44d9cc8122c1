/* SPDX-License-Identifier: MIT */
#pragma once
/* What fhv tells about itself, as JSON; the caller owns what it gets. */
#include "hv/hv.h"

struct json_object;

struct json_object *
fh_hv_status(const struct fh_hv *hv);
struct json_object *
fh_hv_status_domain(const struct fh_hv_domain *dom);

/* Counters of one domain, for `freehold stats`; looks at its whole table. */
struct json_object *
fh_hv_stats(const struct fh_hv_domain *dom);

/* Adds @b to @a.  Other threads go on counting. */
void
fh_hv_counts_add(struct fh_hv_counts *a, const struct fh_hv_counts *b);
/* Live mappings. */
uint64_t
fh_hv_domain_maps(const struct fh_hv_domain *dom);
