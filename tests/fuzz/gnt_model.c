/* SPDX-License-Identifier: MIT */
/*
 * The plain model of gnt_model.h.  Order of checks as in the reference: flags,
 * domain, permission, handle, reference, entry, frame, effects.
 */
#include "fuzz/gnt_model.h"

#include <string.h>

static bool
owns(uint16_t dom, uint64_t mfn)
{
    return mfn >= m_first_mfn(dom) && mfn < m_first_mfn(dom) + M_FRAMES;
}

struct m_pins
m_pins_of(const struct m_world *m, uint16_t granter, uint32_t ref)
{
    struct m_pins p = { 0 };

    for (size_t i = 0; i < M_MAPS; i++) {
        const struct m_map *x = &m->maps[i];

        if (!x->live || x->granter != granter || x->ref != ref)
            continue;
        p.grantee = x->mapper;
        p.mfn = x->mfn;
        if (x->flags & GNTMAP_readonly)
            p.readers++;
        else
            p.writers++;
    }
    return p;
}

static uint32_t
live_of(const struct m_world *m, uint16_t mapper)
{
    uint32_t n = 0;

    for (size_t i = 0; i < M_MAPS; i++)
        n += m->maps[i].live && m->maps[i].mapper == mapper;
    return n;
}

/* May @caller use @ref so?  *@mfn is the page. */
static int16_t
use(const struct m_world *m, uint16_t caller, uint16_t granter, uint32_t ref,
    bool is_write, bool is_map, uint64_t *mfn)
{
    const grant_entry_v1_t *e;
    const struct m_pins p = m_pins_of(m, granter, ref);
    const uint32_t mask = GTF_type_mask | (is_map ? GTF_sub_page : 0);

    if (m->dom[granter].dying)
        return GNTST_bad_domain;
    if (ref >= FH_GNT_V1_PER_FRAME)
        return GNTST_bad_gntref;
    if (m->dom[granter].entry[ref].closed)
        return GNTST_general_error;
    e = &m->w->dom[granter].table[ref];
    *mfn = p.mfn;
    if (p.readers + p.writers) {
        if (p.grantee != caller)
            return GNTST_general_error;
        return is_write && !p.writers && (e->flags & GTF_readonly)
                   ? GNTST_general_error
                   : GNTST_okay;
    }
    if ((e->flags & mask) != GTF_permit_access || e->domid != caller ||
        (is_write && (e->flags & GTF_readonly)))
        return GNTST_general_error;
    *mfn = e->frame;
    return owns(granter, e->frame) ? GNTST_okay : GNTST_bad_page;
}

/* ------------------------------------------------------------------- map -- */

int16_t
m_map(const struct m_world *m, uint16_t caller,
      const struct gnttab_map_grant_ref *op, uint64_t *mfn)
{
    int16_t r;

    if (!(op->flags & (GNTMAP_host_map | GNTMAP_device_map)))
        return GNTST_bad_gntref;
    if (op->dom >= M_DOMS)
        return GNTST_bad_domain;
    if (live_of(m, caller) == M_QUOTA)
        return GNTST_no_space;
    r = use(m, caller, op->dom, op->ref, !(op->flags & GNTMAP_readonly), true,
            mfn);
    if (r)
        return r;
    return (op->flags & GNTMAP_host_map) && m_slot_of(op->host_addr) >= M_SLOTS
               ? GNTST_general_error
               : GNTST_okay;
}

static const struct m_map *
find(const struct m_world *m, uint16_t mapper, uint32_t handle)
{
    for (size_t i = 0; i < M_MAPS; i++) {
        const struct m_map *x = &m->maps[i];

        if (x->live && x->mapper == mapper && x->handle == handle)
            return x;
    }
    return NULL;
}

bool
m_map_did(struct m_world *m, uint16_t caller,
          const struct gnttab_map_grant_ref *op, uint64_t mfn)
{
    if (find(m, caller, op->handle))
        return false;
    if (op->flags & GNTMAP_host_map)
        m->dom[caller].pte[m_slot_of(op->host_addr)] =
            (struct m_pte){ mfn, !(op->flags & GNTMAP_readonly), false };
    for (size_t i = 0; i < M_MAPS; i++) {
        if (m->maps[i].live)
            continue;
        m->maps[i] = (struct m_map){ true, caller, op->dom, op->ref,
                                     op->flags & 7, mfn, op->handle };
        return true;
    }
    return false;
}

/* ----------------------------------------------------------------- unmap -- */

static bool
maps_this(const struct m_pte *p, const struct m_map *x)
{
    return p->mfn == x->mfn && !p->own &&
           p->rw == !(x->flags & GNTMAP_readonly);
}

/* Can the page at @addr take the place of a granted one? */
static bool
can_replace(const struct m_domain *d, uint64_t addr)
{
    const uint64_t slot = m_slot_of(addr);

    return slot < M_SLOTS && d->pte[slot].own;
}

int16_t
m_unmap(const struct m_world *m, uint16_t caller, const struct m_unmap *op)
{
    const struct m_map *x = find(m, caller, op->handle);
    const struct m_domain *d = &m->dom[caller];
    const uint64_t slot = m_slot_of(op->host_addr);

    if (!x)
        return GNTST_bad_handle;
    if (op->by_ref && x->granter != op->dom)
        return GNTST_bad_domain;
    if (op->by_ref && x->ref != op->ref)
        return GNTST_bad_gntref;
    if (op->dev_bus_addr && (x->flags & GNTMAP_device_map) &&
        op->dev_bus_addr != x->mfn << 12)
        return GNTST_bad_dev_addr;
    if (!op->host_addr || !(x->flags & GNTMAP_host_map))
        return GNTST_okay;
    if (slot >= M_SLOTS || !maps_this(&d->pte[slot], x) ||
        (op->new_addr && !can_replace(d, op->new_addr)))
        return GNTST_general_error;
    return GNTST_okay;
}

/* The granter's last use is over. */
static void
last_unpin(struct m_world *m, uint16_t granter, uint32_t ref)
{
    const struct m_pins p = m_pins_of(m, granter, ref);

    if (!(p.readers + p.writers) && m->dom[granter].entry[ref].notify)
        m->dom[granter].kicks++;
}

static void
remove_host(struct m_domain *d, struct m_map *x, const struct m_unmap *op)
{
    struct m_pte *p = &d->pte[m_slot_of(op->host_addr)];

    x->flags &= ~(uint32_t)GNTMAP_host_map;
    *p = (struct m_pte){ 0 };
    if (!op->new_addr)
        return;
    *p = d->pte[m_slot_of(op->new_addr)];
    if (!op->duplicate)
        d->pte[m_slot_of(op->new_addr)] = (struct m_pte){ 0 };
}

void
m_unmap_did(struct m_world *m, uint16_t caller, const struct m_unmap *op)
{
    struct m_map *x = (struct m_map *)(uintptr_t)find(m, caller, op->handle);

    if (op->host_addr && (x->flags & GNTMAP_host_map))
        remove_host(&m->dom[caller], x, op);
    if (op->dev_bus_addr)
        x->flags &= ~(uint32_t)GNTMAP_device_map;
    x->live = x->flags & (GNTMAP_host_map | GNTMAP_device_map);
    if (!x->live)
        last_unpin(m, x->granter, x->ref);
}

void
m_release(struct m_world *m, uint16_t mapper)
{
    memset(m->dom[mapper].pte, 0, sizeof(m->dom[mapper].pte));
    for (size_t i = 0; i < M_MAPS; i++) {
        struct m_map *x = &m->maps[i];

        if (!x->live || x->mapper != mapper)
            continue;
        x->live = false;
        last_unpin(m, x->granter, x->ref);
    }
}

/* ------------------------------------------------------------------ copy -- */

static int16_t
copy_domain(const struct gnttab_copy_ptr *p, bool is_ref)
{
    if (!is_ref && p->domid != DOMID_SELF)
        return GNTST_permission_denied;
    return p->domid >= M_DOMS && p->domid != DOMID_SELF ? GNTST_bad_domain
                                                        : GNTST_okay;
}

static int16_t
copy_page(const struct m_world *m, uint16_t caller,
          const struct gnttab_copy_ptr *p, bool is_ref, bool is_write,
          uint64_t *mfn)
{
    const uint16_t dom = p->domid == DOMID_SELF ? caller : p->domid;

    if (is_ref)
        return use(m, caller, dom, p->u.ref, is_write, false, mfn);
    *mfn = p->u.gmfn;
    return owns(caller, p->u.gmfn) ? GNTST_okay : GNTST_bad_page;
}

int16_t
m_copy(const struct m_world *m, uint16_t caller, const struct gnttab_copy *op,
       struct m_copy *out)
{
    const bool src_ref = op->flags & GNTCOPY_source_gref;
    const bool dst_ref = op->flags & GNTCOPY_dest_gref;
    int16_t r;

    if (!op->len)
        return GNTST_okay;
    r = copy_domain(&op->source, src_ref);
    if (!r)
        r = copy_domain(&op->dest, dst_ref);
    if (!r)
        r = copy_page(m, caller, &op->source, src_ref, false, &out->from);
    if (!r)
        r = copy_page(m, caller, &op->dest, dst_ref, true, &out->to);
    if (!r && (op->source.offset + op->len > FH_PAGE_BYTES ||
               op->dest.offset + op->len > FH_PAGE_BYTES))
        r = GNTST_bad_copy_arg;
    return r;
}

void
m_copy_did(struct m_world *m, const struct gnttab_copy *op,
           const struct m_copy *c)
{
    if (op->len)
        memmove(m->bytes[c->to - WORLD_MFN0] + op->dest.offset,
                m->bytes[c->from - WORLD_MFN0] + op->source.offset, op->len);
}

/* ------------------------------------------------------------ comparison -- */

static const char *
compare_entry(const struct m_world *m, uint16_t dom, uint32_t ref)
{
    const struct m_pins p = m_pins_of(m, dom, ref);
    const uint16_t flags = m->w->dom[dom].table[ref].flags;
    struct fh_gnt_entry_info info;

    if (fh_gnt_entry_info(&m->w->dom[dom].gnt, ref, &info))
        return "an entry is missing";
    if (info.readers != p.readers || info.writers != p.writers)
        return "pins";
    if (!(flags & GTF_reading) != !(p.readers + p.writers) ||
        !(flags & GTF_writing) != !p.writers)
        return "marks in the granter's entry";
    if (p.readers + p.writers &&
        (info.mfn != p.mfn || info.grantee != p.grantee))
        return "what is pinned, or by whom";
    return NULL;
}

static const char *
compare_ptes(const struct m_world *m, uint16_t dom)
{
    for (uint32_t i = 0; i < M_SLOTS; i++) {
        const uint64_t word = m->w->dom[dom].ptes[i].word;
        const struct m_pte *p = &m->dom[dom].pte[i];

        if (word >> 8 != p->mfn || !(word & W_PTE_RW) != !p->rw ||
            !(word & W_PTE_OWN) != !p->own)
            return "a page-table slot";
    }
    return NULL;
}

const char *
m_compare(const struct m_world *m)
{
    for (uint16_t dom = 0; dom < M_DOMS; dom++) {
        const char *bad = compare_ptes(m, dom);

        for (uint32_t ref = 0; ref < 32 && !bad; ref++)
            bad = compare_entry(m, dom, ref);
        if (!bad && m->w->dom[dom].kicks < m->dom[dom].kicks)
            bad = "a notification of the last unpin is missing";
        if (bad)
            return bad;
    }
    return world_check(m->w);
}
