/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Questions to a local hypervisor, with the failures explained for a user: a
 * thin layer over hv/client.h.  @hv_dir is the hypervisor's directory, @domain
 * a name or a number, @who the command.  All return 0 or a negative error.
 *
 * Threads: one.
 */
#include <stdint.h>
#include <freehold/err.h>
#include "hv/client.h"

struct json_object;

FH_MUST_CHECK int
fh_hvtalk_find(const char *hv_dir, const char *domain,
               struct fh_hvctl_domain *out, const char *who);

/* @domid -1: the next free one; @name NULL: fhv chooses. */
FH_MUST_CHECK int
fh_hvtalk_create(const char *hv_dir, int domid, const char *name,
                 struct fh_hvctl_domain *out, const char *who);

/* Finds the domain, or makes it. */
FH_MUST_CHECK int
fh_hvtalk_ensure(const char *hv_dir, const char *domain,
                 struct fh_hvctl_domain *out, const char *who);

/* Returns when the domain is gone. */
FH_MUST_CHECK int
fh_hvtalk_destroy(const char *hv_dir, const char *domain, const char *who);

/* All that the hypervisor tells about itself; the caller puts it. */
FH_MUST_CHECK int
fh_hvtalk_status(const char *hv_dir, struct json_object **status,
                 const char *who);

/* Counters of @domain; the caller puts them. */
FH_MUST_CHECK int
fh_hvtalk_stats(const char *hv_dir, const char *domain,
                struct json_object **stats, const char *who);

FH_MUST_CHECK int
fh_hvtalk_stop(const char *hv_dir, const char *who);
