/* SPDX-License-Identifier: MIT */
/*
 * Domains and their tables: set-up, growth, questions.
 *
 * Invariants: a table only grows; a frame's pointers are written before the
 * count that makes them valid, and never again.
 */
#include "grant/internal.h"

void
fh_gnt_ctx_init(struct fh_gnt_ctx *ctx, const struct fh_hv_ops *ops, void *hv,
                unsigned cpu)
{
    *ctx = (struct fh_gnt_ctx){ .ops = ops, .hv = hv, .cpu = cpu };
}

void
fh_gnt_domain_init(struct fh_gnt_domain *d,
                   const struct fh_gnt_domain_params *params)
{
    *d = (struct fh_gnt_domain){
        .uid = params->uid,
        .domid = params->domid,
        .flags = params->flags,
        .n_cpus = params->stats ? params->n_cpus : 1,
        .version = 1,
    };
    d->stats = params->stats ? params->stats : &d->own_stats;
    d->tlb = params->tlb;
    d->iova_base = params->iova_base;
}

size_t
fh_gnt_table_bytes(uint32_t max_frames)
{
    if (!max_frames || max_frames > UINT32_MAX / FH_GNT_V1_PER_FRAME)
        return 0;
    return max_frames * sizeof(struct fh_gnt_table_frame) +
           fh_gnt_status_needed(max_frames) *
               sizeof(struct fh_gnt_status_frame);
}

void
fh_gnt_table_init(struct fh_gnt_domain *d, uint32_t max_frames, void *mem)
{
    d->frames = mem;
    d->max_frames = max_frames;
    d->n_frames = 0;
    d->status = (struct fh_gnt_status_frame *)(d->frames + max_frames);
    d->n_status = 0;
}

size_t
fh_gnt_frame_bytes(void)
{
    return FH_GNT_V1_PER_FRAME * sizeof(struct fh_gnt_entry);
}

int
fh_gnt_table_grow(struct fh_gnt_domain *d, FH_SHARED void *shared, void *active,
                  uint64_t gfn)
{
    const uint32_t n = d->n_frames;
    struct fh_gnt_entry *entries = active;

    if (n >= d->max_frames)
        return FH_ENOSPC;
    for (uint32_t i = 0; i < FH_GNT_V1_PER_FRAME; i++) {
        entries[i].granter = d;
        entries[i].ref = n * FH_GNT_V1_PER_FRAME + i;
    }
    d->frames[n].shared = shared;
    d->frames[n].active = entries;
    d->frames[n].gfn = gfn;
    fh_table_publish(&d->n_frames, n + 1);
    return 0;
}

int
fh_gnt_status_grow(struct fh_gnt_domain *d, FH_SHARED void *shared,
                   uint64_t gfn)
{
    const uint32_t n = d->n_status;

    if (n >= fh_gnt_status_needed(d->max_frames))
        return FH_ENOSPC;
    d->status[n].shared = shared;
    d->status[n].gfn = gfn;
    fh_table_publish(&d->n_status, n + 1);
    return 0;
}

uint32_t
fh_gnt_status_frames(const struct fh_gnt_domain *d)
{
    const uint32_t needed =
        fh_gnt_status_needed(fh_table_count(&d->n_frames));
    const uint32_t n = fh_table_count(&d->n_status);

    if (fh_gnt_version(d) == 1)
        return 0;
    return n < needed ? n : needed;
}

uint32_t
fh_gnt_version(const struct fh_gnt_domain *d)
{
    return fh_load_acquire32(&d->version) & FH_VERSION_MASK;
}

uint32_t
fh_gnt_table_frames(const struct fh_gnt_domain *d)
{
    return fh_table_count(&d->n_frames);
}

uint32_t
fh_gnt_table_max_frames(const struct fh_gnt_domain *d)
{
    return d->max_frames;
}

size_t
fh_gnt_maptrack_bytes(uint32_t n_handles)
{
    if (!n_handles || n_handles > FH_GNT_HANDLES_MAX)
        return 0;
    return (size_t)n_handles * sizeof(struct fh_gnt_slot);
}

void
fh_gnt_maptrack_init(struct fh_gnt_domain *d, uint32_t n_handles, void *mem)
{
    d->slots = mem;
    d->n_slots = n_handles;
    d->index_bits = 0;
    while ((1u << d->index_bits) < n_handles)
        d->index_bits++;
    d->free_slots = 0;
    d->fresh_slots = 0;
    d->n_reserved = d->fresh_reserve = 0;
    d->free_reserve = 0;
}

void
fh_gnt_maptrack_reserve(struct fh_gnt_domain *d, uint32_t n_reserved)
{
    d->n_reserved = n_reserved;
    d->fresh_slots = n_reserved;
}

void
fh_gnt_domain_kill(struct fh_gnt_domain *d)
{
    fh_store_release32(&d->is_dying, 1);
}

int
fh_gnt_map_info(const struct fh_gnt_domain *mapper, uint32_t handle,
                struct fh_gnt_map_info *out)
{
    const struct fh_gnt_slot *slot = fh_slot_find(mapper, handle);
    const struct fh_gnt_entry *e;
    struct fh_gnt_map_info info;
    struct fh_slot_record record;

    if (!slot || !fh_slot_read(mapper, slot, handle, &record))
        return FH_ENOENT;
    e = (const struct fh_gnt_entry *)(uintptr_t)record.entry;
    info = (struct fh_gnt_map_info){
        .granter = e->granter,
        .host_addr = record.word & GNTMAP_host_map ? record.host_addr : 0,
        .mfn = fh_load_relaxed64(&e->mfn),
        .ref = e->ref,
        .flags = (uint32_t)(record.word & FH_SLOT_KEEP) | record.avail,
    };
    if (!fh_slot_is_still(slot, &record))
        return FH_ENOENT;
    *out = info;
    return 0;
}

int
fh_gnt_map_at(const struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
              uint64_t host_addr, struct fh_gnt_map_info *out)
{
    const uint32_t *word = NULL;
    uint32_t handle;

    if (ctx->ops->map_word)
        word = ctx->ops->map_word(ctx->hv, mapper, host_addr);
    if (!word || !fh_map_word_get(word, &handle))
        return FH_ENOENT;
    return fh_gnt_map_info(mapper, handle, out);
}

int
fh_gnt_entry_info(const struct fh_gnt_domain *granter, uint32_t ref,
                  struct fh_gnt_entry_info *out)
{
    const struct fh_gnt_entry *e = fh_gnt_entry_at(granter, ref);
    uint64_t word;

    if (!e)
        return FH_ERANGE;
    word = fh_load_acquire64(&e->word);
    *out = (struct fh_gnt_entry_info){
        .mfn = word & FH_ENTRY_PINS ? e->mfn : 0,
        .readers = fh_entry_readers(word),
        .writers = fh_entry_writers(word),
        .grantee = fh_entry_grantee(word),
        .is_busy = word & FH_ENTRY_BUSY,
    };
    return 0;
}

void
fh_gnt_stats_read(const struct fh_gnt_domain *d, struct fh_gnt_stats *out)
{
    *out = (struct fh_gnt_stats){ 0 };
    for (uint32_t i = 0; i < d->n_cpus; i++) {
        const struct fh_gnt_stats *s = &d->stats[i];

        out->maps += fh_load_relaxed64(&s->maps);
        out->unmaps += fh_load_relaxed64(&s->unmaps);
        out->copies += fh_load_relaxed64(&s->copies);
        out->elements += fh_load_relaxed64(&s->elements);
        out->flushes += fh_load_relaxed64(&s->flushes);
        out->flushes_asked += fh_load_relaxed64(&s->flushes_asked);
        out->flushes_merged += fh_load_relaxed64(&s->flushes_merged);
        out->flushes_elided += fh_load_relaxed64(&s->flushes_elided);
        out->cpus_interrupted += fh_load_relaxed64(&s->cpus_interrupted);
        out->cpus_skipped += fh_load_relaxed64(&s->cpus_skipped);
        out->iotlb_flushes += fh_load_relaxed64(&s->iotlb_flushes);
        out->map_slow += fh_load_relaxed64(&s->map_slow);
        out->retries += fh_load_relaxed64(&s->retries);
    }
}
