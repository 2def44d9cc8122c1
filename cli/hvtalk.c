/* SPDX-License-Identifier: MIT */
/* Questions to a local hypervisor, failures explained. */
#include "cli/hvtalk.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "cli/launch.h"
#include "cli/opt.h"
#include "hv/client.h"

static int
explain(const char *who, const char *hv_dir, int r)
{
    if (r == -ECONNREFUSED || (r == FH_ENOENT && hv_dir))
        fh_opt_fail(who, "no local hypervisor runs in %s; start one with "
                         "`freehold hv start`",
                    hv_dir);
    else
        fh_opt_fail(who, "hypervisor: %s", fh_hvctl_error());
    return r;
}

/* True when the failure says that nobody answers there. */
static bool
is_absent(const char *hv_dir)
{
    struct json_object *status;

    if (fh_hvctl_status(hv_dir, &status))
        return true;
    json_object_put(status);
    return false;
}

int
fh_hvtalk_find(const char *hv_dir, const char *domain,
               struct fh_hvctl_domain *out, const char *who)
{
    int r = fh_hvctl_find(hv_dir, domain, out);

    if (r == FH_ENOENT && !is_absent(hv_dir))
        fh_opt_fail(who, "there is no domain '%s'; `freehold hv status` lists "
                         "them, `freehold hv create` makes one",
                    domain);
    else if (r)
        explain(who, hv_dir, r);
    return r;
}

int
fh_hvtalk_create(const char *hv_dir, int domid, const char *name,
                 struct fh_hvctl_domain *out, const char *who)
{
    int r = fh_hvctl_create(hv_dir, domid, name, out);

    return r ? explain(who, r == FH_ENOENT ? hv_dir : NULL, r) : 0;
}

int
fh_hvtalk_ensure(const char *hv_dir, const char *domain,
                 struct fh_hvctl_domain *out, const char *who)
{
    uint64_t domid;
    int r = fh_hvctl_find(hv_dir, domain, out);

    if (r != FH_ENOENT || is_absent(hv_dir))
        return r ? explain(who, hv_dir, r) : 0;
    if (fh_opt_number(domain, UINT16_MAX, &domid))
        return fh_hvtalk_create(hv_dir, (int)domid, NULL, out, who);
    return fh_hvtalk_create(hv_dir, -1, domain, out, who);
}

int
fh_hvtalk_destroy(const char *hv_dir, const char *domain, const char *who)
{
    int r = fh_hvctl_destroy(hv_dir, domain);

    return r ? explain(who, r == FH_ENOENT ? NULL : hv_dir, r) : 0;
}

int
fh_hvtalk_status(const char *hv_dir, struct json_object **status,
                 const char *who)
{
    int r = fh_hvctl_status(hv_dir, status);

    return r ? explain(who, hv_dir, r) : 0;
}

int
fh_hvtalk_stats(const char *hv_dir, const char *domain,
                struct json_object **stats, const char *who)
{
    int r = fh_hvctl_stats(hv_dir, domain, stats);

    return r ? explain(who, r == FH_ENOENT ? NULL : hv_dir, r) : 0;
}

int
fh_hvtalk_stop(const char *hv_dir, const char *who)
{
    int r = fh_hvctl_stop(hv_dir);

    return r ? explain(who, hv_dir, r) : 0;
}
