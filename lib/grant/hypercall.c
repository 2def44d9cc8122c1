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
    case GNTTABOP_setup_table:
        return sizeof(struct gnttab_setup_table);
    case GNTTABOP_transfer:
        return sizeof(struct gnttab_transfer);
    case GNTTABOP_query_size:
        return sizeof(struct gnttab_query_size);
    case GNTTABOP_set_version:
        return sizeof(struct gnttab_set_version);
    case GNTTABOP_get_status_frames:
        return sizeof(struct gnttab_get_status_frames);
    case GNTTABOP_get_version:
        return sizeof(struct gnttab_get_version);
    case GNTTABOP_swap_grant_ref:
        return sizeof(struct gnttab_swap_grant_ref);
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
    case GNTTABOP_setup_table:
        return fh_gnt_op_setup_table(ctx, caller, arg, count, done);
    case GNTTABOP_query_size:
        return fh_gnt_op_query_size(ctx, caller, arg, count, done);
    case GNTTABOP_set_version:
        return fh_gnt_op_set_version(ctx, caller, arg, count, done);
    case GNTTABOP_get_status_frames:
        return fh_gnt_op_get_status_frames(ctx, caller, arg, count, done);
    case GNTTABOP_get_version:
        return fh_gnt_op_get_version(ctx, caller, arg, count, done);
    case GNTTABOP_transfer:
        return fh_gnt_op_transfer(ctx, caller, arg, count, done);
    case GNTTABOP_swap_grant_ref:
        return fh_gnt_op_swap(ctx, caller, arg, count, done);
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

/* Operations that take one element, never an array. */
static bool
is_single(uint32_t cmd)
{
    return cmd == GNTTABOP_setup_table || cmd == GNTTABOP_query_size ||
           cmd == GNTTABOP_get_status_frames;
}

/* Operations that look at the first element and at no other, as on Xen; which
 * has to be there. */
static bool
looks_at_first(uint32_t cmd)
{
    return cmd == GNTTABOP_set_version || cmd == GNTTABOP_get_version;
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
    if ((is_single(cmd) && call->count != 1) ||
        (looks_at_first(cmd) && !call->count))
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
    if (looks_at_first(cmd) && done)
        call->count = 0;
    if (r < 0)
        return r;
    return call->count ? FH_GNT_E_PREEMPTED : 0;
}
