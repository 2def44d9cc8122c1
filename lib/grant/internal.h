/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of lib/grant share: the active entry, the table's frame, and
 * the batch that a hypercall carries from element to element.
 */
#include <freehold/grant.h>

#include "base/arith.h"
#include "base/shared.h"
#include "grant/entry.h"
#include "grant/handle.h"

/*
 * One active entry, a cache line of its own: neighbours in the table belong to
 * different CPUs.  @granter and @ref never change; the payload follows rule 1
 * of entry.h.
 */
struct fh_gnt_entry {
    fh_word64 word;
    struct fh_gnt_domain *granter;
    uint32_t ref;
    /* payload */
    uint16_t start, length; /* the granted window in bytes; a page: 0, 4096 */
    uint64_t mfn;
    uint64_t grantee_uid;
    uint64_t reserved[3]; /* the source of a transitive entry */
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fh_gnt_entry) == 64, "one cache line");

struct fh_gnt_table_frame {
    FH_SHARED grant_entry_v1_t *shared;
    struct fh_gnt_entry *active;
};

/* A version 1 entry is read and changed as single words, never as a whole: the
 * granter writes its other half. */
_Static_assert(sizeof(grant_entry_v1_t) == 8, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, flags) == 0, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, domid) == 2, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, frame) == 4, "ABI");
_Static_assert(sizeof(struct gnttab_map_grant_ref) == 32, "ABI");
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == 24, "ABI");
_Static_assert(sizeof(struct gnttab_copy) == 40, "ABI");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "flags come first");

/* Tries on a word that the granter may keep changing (XSA-295). */
#define FH_GNT_SHARED_TRIES 5
/* Handles that one call holds in advance: as many as make the free list's cost
 * vanish, few enough that a quota is not blocked by a call that fails. */
#define FH_GNT_SLOTS_AHEAD 32u

/* ------------------------------------------------------------ statistics -- */

/* Counters have one writer, the CPU of the context, and many readers. */
static inline void
fh_gnt_count(uint64_t *counter, uint64_t n)
{
    fh_store_relaxed64(counter, fh_load_relaxed64(counter) + n);
}

/* Those of @d that @ctx may write. */
static inline struct fh_gnt_stats *
fh_gnt_my_stats(const struct fh_gnt_ctx *ctx, struct fh_gnt_domain *d)
{
    return &d->stats[ctx->cpu];
}

static inline bool
fh_gnt_may(const struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
           struct fh_gnt_domain *peer, unsigned op)
{
    return !ctx->ops->may || ctx->ops->may(ctx->hv, caller, peer, op);
}

static inline bool
fh_gnt_must_stop(const struct fh_gnt_ctx *ctx)
{
    return ctx->ops->preempt && ctx->ops->preempt(ctx->hv);
}

/* ---------------------------------------------------------- pins (pin.c) -- */

enum fh_gnt_use { FH_GNT_USE_MAP, FH_GNT_USE_COPY };

/* What flags of an entry refuse this use. */
static inline uint64_t
fh_gnt_forbidden(enum fh_gnt_use use)
{
    return FH_ENTRY_CLOSED | FH_ENTRY_TRANSITIVE |
           (use == FH_GNT_USE_MAP ? FH_ENTRY_SUB_PAGE : 0);
}

/* The entry, or NULL for a @ref outside the table. */
static inline struct fh_gnt_entry *
fh_gnt_entry_at(const struct fh_gnt_domain *granter, uint32_t ref)
{
    const uint32_t i = ref / FH_GNT_V1_PER_FRAME;

    if (i >= fh_table_count(&granter->n_frames))
        return NULL;
    return &granter->frames[i].active[ref % FH_GNT_V1_PER_FRAME];
}

/* The steps that change an entry's state, and what lost a race. */
int16_t
fh_gnt_pin_slowly(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
                  struct fh_gnt_domain *caller, bool is_write,
                  enum fh_gnt_use use);
void
fh_gnt_unpin_slowly(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                    struct fh_gnt_entry *e, bool is_write);

/* Gives a pin back.  @caller is whose statistics count. */
static inline void
fh_gnt_unpin(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
             struct fh_gnt_entry *e, bool is_write)
{
    if (!fh_entry_try_unpin(&e->word, is_write))
        fh_gnt_unpin_slowly(ctx, caller, e, is_write);
}

/* The pin that @caller just took is his, unless a domain that died called
 * itself as he does now and its mappings are not all gone. */
static inline int16_t
fh_gnt_pin_whose(struct fh_gnt_ctx *ctx, struct fh_gnt_entry *e,
                 struct fh_gnt_domain *caller, bool is_write)
{
    if (e->grantee_uid == caller->uid)
        return GNTST_okay;
    fh_gnt_unpin(ctx, caller, e, is_write);
    return GNTST_general_error;
}

/*
 * Pins entry @ref of @granter for @caller.  GNTST_okay: *@out is pinned and its
 * payload may be read; else the status, and nothing happened.
 */
static inline int16_t
fh_gnt_pin(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *granter, uint32_t ref,
           struct fh_gnt_domain *caller, bool is_write, enum fh_gnt_use use,
           struct fh_gnt_entry **out)
{
    struct fh_gnt_entry *e;

    if (fh_load_acquire32(&granter->is_dying))
        return GNTST_bad_domain;
    e = fh_gnt_entry_at(granter, ref);
    if (!e)
        return GNTST_bad_gntref;
    *out = e;
    if (fh_entry_try_pin(&e->word, caller->domid, is_write,
                         fh_gnt_forbidden(use)))
        return fh_gnt_pin_whose(ctx, e, caller, is_write);
    return fh_gnt_pin_slowly(ctx, e, caller, is_write, use);
}

/* GNTST_* for a verdict of frame_get(). */
int16_t
fh_gnt_frame_status(int verdict);

/* ------------------------------------------------------- IOMMU (iommu.c) -- */

/* Lets devices of @mapper reach @mfn.  GNTST_okay or general_error. */
int16_t
fh_gnt_iommu_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 uint64_t mfn, bool readonly);

/* Takes that back.  True: an IOTLB flush is due before the pin goes. */
bool
fh_gnt_iommu_sub(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 uint64_t mfn, bool readonly);

/* ---------------------------------- whole calls (hypercall.c, compat.c) -- */

/* Element size of operation @cmd; 0: there is none. */
uint32_t
fh_gnt_op_bytes(uint32_t cmd);

/* Operation @cmd on an array in the layouts of a 64-bit caller. */
long
fh_gnt_op_run(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              uint32_t cmd, FH_SHARED void *arg, uint32_t count,
              uint32_t *done);

/* The same for 32-bit callers. */
uint32_t
fh_gnt_compat_bytes(uint32_t cmd);
long
fh_gnt_compat_run(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                  uint32_t cmd, FH_SHARED void *arg, uint32_t count,
                  uint32_t *done);
