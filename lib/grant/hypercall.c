/* SPDX-License-Identifier: MIT */
/*
 * grant_table_op: one entry for all operations.
 *
 * Invariants: the array is the only state of a call that is cut short (and, for
 * set_version, the caller's table), so it can be continued by anybody, on
 * another CPU; what is returned to the guest is 0 or negative, and 0 only when
 * nothing is left (XSA-316, XSA-318).
 */
#include <freehold/grant_ext.h>

#include "grant/internal.h"

#define CMD_BITS 12 /* the rest is continuation; frozen ABI */
#define CMD_MASK ((1u << CMD_BITS) - 1)

uint32_t
fh_gnt_op_bytes(uint32_t cmd)
{
    switch (cmd) {
    case GNTTABOP_map_grant_ref:
        return sizeof(struct gnttab_map_grant_ref);
    case GNTTABOP_unmap_grant_ref:
        return sizeof(struct gnttab_unmap_grant_ref);
    case GNTTABOP_copy:
        return sizeof(struct gnttab_copy);
    case GNTTABOP_unmap_and_replace:
        return sizeof(struct gnttab_unmap_and_replace);
    case GNTTABOP_cache_flush:
        return sizeof(struct gnttab_cache_flush);
    case FH_GNTTABOP_unmap_and_duplicate:
        return sizeof(struct fh_gnttab_unmap_and_duplicate);
    case FH_GNTTABOP_unmap_ref:
        return sizeof(struct fh_gnttab_unmap_ref);
    case FH_GNTTABOP_entry_flags:
        return sizeof(struct fh_gnttab_entry_flags);
    }
    return 0;
}

long
fh_gnt_op_run(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              uint32_t cmd, FH_SHARED void *arg, uint32_t count, uint32_t *done)
{
    switch (cmd) {
    case GNTTABOP_map_grant_ref:
        return fh_gnt_op_map(ctx, caller, arg, count, done);
    case GNTTABOP_unmap_grant_ref:
        return fh_gnt_op_unmap(ctx, caller, arg, count, done);
    case GNTTABOP_copy:
        return fh_gnt_op_copy(ctx, caller, arg, count, done);
    case GNTTABOP_unmap_and_replace:
        return fh_gnt_op_unmap_and_replace(ctx, caller, arg, count, done);
    case GNTTABOP_cache_flush:
        return fh_gnt_op_cache_flush(ctx, caller, arg, count, done);
    case FH_GNTTABOP_unmap_and_duplicate:
        return fh_gnt_op_unmap_and_duplicate(ctx, caller, arg, count, done);
    case FH_GNTTABOP_unmap_ref:
        return fh_gnt_op_unmap_ref(ctx, caller, arg, count, done);
    case FH_GNTTABOP_entry_flags:
        return fh_gnt_op_entry_flags(ctx, caller, arg, count, done);
    }
    *done = 0;
    return FH_ENOSYS;
}

/* Why the call is refused before any element is looked at, or 0. */
static int
check_call(const struct fh_gnt_call *call)
{
    const uint32_t cmd = call->cmd & CMD_MASK;

    if (call->count > INT32_MAX)
        return FH_EINVAL;
    if (call->cmd != cmd && cmd != GNTTABOP_cache_flush)
        return FH_EINVAL;
    return fh_gnt_op_bytes(cmd) ? 0 : FH_ENOSYS;
}

long
fh_gnt_hypercall(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 struct fh_gnt_call *call)
{
    const uint32_t cmd = call->cmd & CMD_MASK;
    uint32_t done = 0;
    long r = check_call(call);

    if (r)
        return r;
    if (call->is_32bit)
        r = fh_gnt_compat_run(ctx, caller, cmd, call->arg, call->count, &done);
    else
        r = fh_gnt_op_run(ctx, caller, cmd, call->arg, call->count, &done);
    call->arg = (FH_SHARED uint8_t *)call->arg +
                (size_t)done * (call->is_32bit ? fh_gnt_compat_bytes(cmd)
                                               : fh_gnt_op_bytes(cmd));
    call->count -= done;
    if (r < 0)
        return r;
    return call->count ? FH_GNT_E_PREEMPTED : 0;
}
