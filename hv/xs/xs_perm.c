/* SPDX-License-Identifier: MIT */
/*
 * Permissions: their text ("r5"), and what they let a domain do.
 *
 * The first entry names the owner, who may do everything, and what domains may
 * do that no later entry names.  Domain 0 may do everything.
 */
#include <stdio.h>
#include <string.h>

#include "hv/xs/xs_internal.h"

static const char letters[] = "nrwb"; /* by FH_XS_READ | FH_XS_WRITE */

int
fh_xs_perm_parse(const char *text, struct fh_xs_perm *out)
{
    const char *at = text[0] ? strchr(letters, text[0]) : NULL;

    if (!at)
        return FH_EINVAL;
    out->rights = (uint8_t)(at - letters);
    return fh_xs_parse_domid(text + 1, &out->domid);
}

size_t
fh_xs_perm_format(const struct fh_xs_perm *perm, char out[8])
{
    return (size_t)snprintf(out, 8, "%c%u",
                            letters[perm->rights & (FH_XS_READ | FH_XS_WRITE)],
                            perm->domid) + 1;
}

unsigned
fh_xs_perms_of(const struct fh_xs_perms *perms, uint16_t domid)
{
    if (domid == 0 || perms->p[0].domid == domid)
        return FH_XS_READ | FH_XS_WRITE | FH_XS_OWN;
    for (uint32_t i = 1; i < perms->n; i++)
        if (perms->p[i].domid == domid)
            return perms->p[i].rights;
    return perms->p[0].rights;
}

int
fh_xs_perms_copy(struct fh_xs *xs, const struct fh_xs_perms *from,
                 struct fh_xs_perms *out)
{
    out->p = fh_xs_mem_new(xs, from->n * sizeof(from->p[0]));
    if (!out->p)
        return FH_ENOMEM;
    memcpy(out->p, from->p, from->n * sizeof(from->p[0]));
    out->n = from->n;
    return 0;
}

void
fh_xs_perms_fini(struct fh_xs *xs, struct fh_xs_perms *perms)
{
    fh_xs_mem_del(xs, perms->p);
    *perms = (struct fh_xs_perms){ 0 };
}
