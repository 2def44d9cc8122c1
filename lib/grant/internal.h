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
#include "grant/version.h"

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
    struct fh_gnt_entry *inner; /* what a transitive entry stands for */
    uint64_t reserved[2];
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct fh_gnt_entry) == 64, "one cache line");

struct fh_gnt_table_frame {
    FH_SHARED void *shared;
    struct fh_gnt_entry *active; /* of both versions, by ref alone */
    uint64_t gfn;
    uint64_t reserved; /* a power of two: indexed on the fast path */
};

struct fh_gnt_status_frame {
    FH_SHARED grant_status_t *shared;
    uint64_t gfn;
};

/* A version 1 entry is read and changed as single words, never as a whole: the
 * granter writes its other half. */
_Static_assert(sizeof(grant_entry_v1_t) == 8, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, flags) == 0, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, domid) == 2, "ABI");
_Static_assert(offsetof(grant_entry_v1_t, frame) == 4, "ABI");
_Static_assert(sizeof(grant_entry_v2_t) == 16, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, hdr.flags) == 0, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, hdr.domid) == 2, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, full_page.frame) == 8, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, sub_page.page_off) == 4, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, sub_page.length) == 6, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, transitive.trans_domid) == 4, "ABI");
_Static_assert(offsetof(grant_entry_v2_t, transitive.gref) == 8, "ABI");
_Static_assert(sizeof(grant_status_t) == 2, "ABI");
_Static_assert(sizeof(struct gnttab_map_grant_ref) == 32, "ABI");
_Static_assert(sizeof(struct gnttab_unmap_grant_ref) == 24, "ABI");
_Static_assert(sizeof(struct gnttab_copy) == 40, "ABI");
_Static_assert(sizeof(struct gnttab_setup_table) == 24, "ABI");
_Static_assert(sizeof(struct gnttab_query_size) == 16, "ABI");
_Static_assert(sizeof(struct gnttab_set_version) == 4, "ABI");
_Static_assert(sizeof(struct gnttab_get_version) == 8, "ABI");
_Static_assert(sizeof(struct gnttab_get_status_frames) == 16, "ABI");
_Static_assert(sizeof(struct gnttab_swap_grant_ref) == 12, "ABI");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "flags come first");

/* Tries on a word that the granter may keep changing (XSA-295). */
#define FH_GNT_SHARED_TRIES 5
/* Handles that one call holds in advance: as many as make the free list's cost
 * vanish, few enough that a quota is not blocked by a call that fails. */
#define FH_GNT_SLOTS_AHEAD 32u
/* Entries of every table that a version switch keeps, pinned or not. */
#define FH_GNT_N_RESERVED 8u
/* Looks at an entry that another CPU is moving, where waiting is not allowed:
 * moves are short. */
#define FH_GNT_BUSY_TRIES 64

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

enum fh_gnt_use {
    FH_GNT_USE_MAP,
    FH_GNT_USE_COPY,
    FH_GNT_USE_INNER, /* a copy, on behalf of a transitive entry */
};

/* What flags of an entry refuse this use. */
static inline uint64_t
fh_gnt_forbidden(enum fh_gnt_use use)
{
    return FH_ENTRY_CLOSED |
           (use == FH_GNT_USE_COPY ? 0 : FH_ENTRY_TRANSITIVE) |
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
    if (__builtin_expect(!fh_entry_try_unpin(&e->word, is_write), 0))
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
    if (__builtin_expect(!fh_entry_try_pin(&e->word, caller->domid, is_write,
                                           fh_gnt_forbidden(use)), 0))
        return fh_gnt_pin_slowly(ctx, e, caller, is_write, use);
    return fh_gnt_pin_whose(ctx, e, caller, is_write);
}

/* Somebody's wish for a pin, on the slow path. */
struct fh_gnt_pin_req {
    struct fh_gnt_ctx *ctx;
    struct fh_gnt_domain *caller;  /* whose statistics count */
    struct fh_gnt_domain *grantee; /* in whose name; not always the caller */
    bool is_write;
    enum fh_gnt_use use;
};

/* For who may not wait: another CPU moves the entry, nothing happened. */
#define FH_GNT_PIN_BUSY 1

/* Pins @e, which is no transitive entry, without waiting: GNTST_* or
 * FH_GNT_PIN_BUSY. */
int16_t
fh_gnt_pin_plain(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e);

/* Unpins an entry that is not transitive. */
void
fh_gnt_unpin_plain(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                   struct fh_gnt_entry *e, bool is_write);

/* GNTST_* for a verdict of frame_get(). */
int16_t
fh_gnt_frame_status(int verdict);

/* The owner of the frame of a pinned entry. */
static inline struct fh_gnt_domain *
fh_gnt_frame_owner(const struct fh_gnt_entry *e)
{
    return fh_load_relaxed64(&e->word) & FH_ENTRY_TRANSITIVE
               ? e->inner->granter
               : e->granter;
}

/* ---------------------------------- the granter's entry (v1.c, v2.c, ...) -- */

/* What the granter's entry says, in private memory. */
struct fh_gnt_claim {
    uint64_t kind; /* 0, FH_ENTRY_SUB_PAGE or FH_ENTRY_TRANSITIVE */
    uint64_t gfn;
    uint16_t start, length;
    uint16_t trans_domid;
    uint32_t trans_ref;
};

/* Entries of @d's table in @version that can be used. */
static inline bool
fh_gnt_ref_in(const struct fh_gnt_domain *d, uint32_t ref, uint32_t version)
{
    if (version == 1)
        return ref / FH_GNT_V1_PER_FRAME < fh_table_count(&d->n_frames);
    return ref / FH_GNT_V2_PER_FRAME < fh_table_count(&d->n_frames) &&
           ref / FH_GNT_STATUS_PER_FRAME < fh_table_count(&d->n_status);
}

static inline FH_SHARED grant_entry_v1_t *
fh_gnt_v1_at(const struct fh_gnt_domain *d, uint32_t ref)
{
    return (FH_SHARED grant_entry_v1_t *)
               d->frames[ref / FH_GNT_V1_PER_FRAME].shared +
           ref % FH_GNT_V1_PER_FRAME;
}

static inline FH_SHARED grant_entry_v2_t *
fh_gnt_v2_at(const struct fh_gnt_domain *d, uint32_t ref)
{
    return (FH_SHARED grant_entry_v2_t *)
               d->frames[ref / FH_GNT_V2_PER_FRAME].shared +
           ref % FH_GNT_V2_PER_FRAME;
}

static inline FH_SHARED grant_status_t *
fh_gnt_status_at(const struct fh_gnt_domain *d, uint32_t ref)
{
    return d->status[ref / FH_GNT_STATUS_PER_FRAME].shared +
           ref % FH_GNT_STATUS_PER_FRAME;
}

/* What a pin shows the granter. */
static inline uint16_t
fh_gnt_marks(bool is_write)
{
    return is_write ? GTF_reading | GTF_writing : GTF_reading;
}

/*
 * For the holder of @e's BUSY, its table in version 1 or 2: checks the
 * granter's word and marks it as in use.  While the entry is pinned only its
 * readonly bit matters: type and grantee are those of the moment it was pinned.
 * GNTST_okay: *@out is what it grants (if it was not pinned); general_error:
 * not marked.
 */
int16_t
fh_gnt_v1_mark(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e,
               bool is_pinned, struct fh_gnt_claim *out);
int16_t
fh_gnt_v2_mark(const struct fh_gnt_pin_req *q, const struct fh_gnt_entry *e,
               bool is_pinned, struct fh_gnt_claim *out);

/* Withdraws @marks of an entry that BUSY or a pin keeps in its version. */
void
fh_gnt_unmark(const struct fh_gnt_entry *e, uint16_t marks);

/* Takes what a transitive entry stands for: an inner read pin, and a write pin
 * for the first writer; fills @e->inner.  GNTST_* or FH_GNT_PIN_BUSY. */
int16_t
fh_gnt_inner_take(const struct fh_gnt_pin_req *q, struct fh_gnt_entry *e,
                  const struct fh_gnt_claim *claim);

/* For the first writer of a transitive entry that has readers. */
int16_t
fh_gnt_inner_take_writer(const struct fh_gnt_pin_req *q,
                         const struct fh_gnt_entry *e);

/* ------------------------------------------------------- IOMMU (iommu.c) -- */

/* Asked before the two below: does the machine have one, and is it this
 * mapping's business? */
static inline bool
fh_gnt_has_iommu(const struct fh_gnt_ctx *ctx,
                 const struct fh_gnt_domain *mapper,
                 const struct fh_gnt_domain *granter)
{
    return ctx->ops->iommu_count && mapper != granter;
}

/* What dev_bus_addr is for the mapping with this @handle and @flags, of a frame
 * at @machine_addr.  Of a handle, here and below, the index matters. */
uint64_t
fh_gnt_bus_addr(const struct fh_gnt_domain *mapper,
                const struct fh_gnt_domain *granter, uint64_t machine_addr,
                uint32_t handle, uint32_t flags);

/* Lets devices of @mapper reach the frame of @e.  GNTST_okay or
 * general_error. */
int16_t
fh_gnt_iommu_add(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 const struct fh_gnt_entry *e, uint32_t handle, uint32_t flags);

/* The device part of a mapping ends, and the mapping itself; @flags are those
 * that it has still.  True: an IOTLB flush is due before the pin goes. */
bool
fh_gnt_iommu_sub_part(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                      const struct fh_gnt_entry *e, uint32_t handle);
bool
fh_gnt_iommu_sub(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                 const struct fh_gnt_entry *e, uint32_t handle, uint32_t flags);

/* ------------------------------------------- entries as such (swap.c) -- */

/* Takes BUSY of a free entry, waiting only a moment; false: it is pinned, or
 * keeps moving. */
bool
fh_gnt_take_free(struct fh_gnt_entry *e);

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

/* ---------------------------------------- one element of ours (setup.c) -- */

/* setup_table; its list has numbers of @number_bytes, 8 or 4 (then
 * GNTST_address_too_big is one more answer).  Returns the status. */
int16_t
fh_gnt_setup_table_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                       const struct gnttab_setup_table *op,
                       uint32_t number_bytes);

/* get_status_frames; the list has 64-bit numbers.  Returns the status. */
int16_t
fh_gnt_status_frames_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                         const struct gnttab_get_status_frames *op);
