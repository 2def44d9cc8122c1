/* SPDX-License-Identifier: MIT */
#pragma once
/* What fhv tells about itself, as JSON; the caller owns what it gets. */
#include "hv/hv.h"

struct json_object;

struct json_object *
fh_hv_status(const struct fh_hv *hv);
struct json_object *
fh_hv_status_domain(const struct fh_hv_domain *dom);
