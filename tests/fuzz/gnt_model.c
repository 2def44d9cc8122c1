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

bool
m_in_table(const struct m_world *m, uint16_t dom, uint32_t ref)
{
    return ref < (m->dom[dom].version == 1 ? FH_GNT_V1_PER_FRAME
                                           : FH_GNT_V2_PER_FRAME);
}

/* What the granter wrote. */
struct entry {
    uint16_t flags, domid;
    uint64_t frame;
    uint32_t start, length;
    uint16_t trans_domid;
    uint32_t trans_ref;
};

static struct entry
entry_v1(const struct world_domain *d, uint32_t ref)
{
    const grant_entry_v1_t *e = &d->table[ref];

    return (struct entry){ .flags = e->flags, .domid = e->domid,
                           .frame = e->frame, .length = FH_PAGE_BYTES };
}

static struct entry
entry_v2(const struct world_domain *d, uint32_t ref)
{
    const grant_entry_v2_t *e = &d->table2[ref];
    struct entry out = { .flags = e->hdr.flags, .domid = e->hdr.domid,
                         .frame = e->full_page.frame,
                         .length = FH_PAGE_BYTES };

    if ((out.flags & GTF_type_mask) == GTF_transitive) {
        out.trans_domid = e->transitive.trans_domid;
        out.trans_ref = e->transitive.gref;
    } else if (out.flags & GTF_sub_page) {
        out.start = e->sub_page.page_off;
        out.length = e->sub_page.length;
    }
    return out;
}

static struct entry
entry_of(const struct m_world *m, uint16_t dom, uint32_t ref)
{
    return m->dom[dom].version == 1 ? entry_v1(&m->w->dom[dom], ref)
                                    : entry_v2(&m->w->dom[dom], ref);
}

enum use { USE_MAP, USE_COPY, USE_INNER };

/* May an entry that nobody uses be used so?  Not for transitive ones. */
static int16_t
use_page(uint16_t granter, const struct entry *e, enum use use,
         struct m_page *out)
{
    if ((e->flags & GTF_type_mask) != GTF_permit_access ||
        ((e->flags & GTF_sub_page) && use == USE_MAP))
        return GNTST_general_error;
    *out = (struct m_page){ e->frame, e->start, e->length };
    return owns(granter, e->frame) ? GNTST_okay : GNTST_bad_page;
}

/* An entry that is in use says what it said when the use began. */
static int16_t
use_pinned(const struct m_pins *p, const struct entry *e, uint16_t caller,
           bool is_write, struct m_page *out)
{
    *out = (struct m_page){ p->mfn, 0, FH_PAGE_BYTES };
    if (p->grantee != caller)
        return GNTST_general_error;
    return is_write && !p->writers && (e->flags & GTF_readonly)
               ? GNTST_general_error
               : GNTST_okay;
}

/* An entry that is not transitive, or not to be followed. */
static int16_t
use_plain(const struct m_world *m, uint16_t caller, uint16_t granter,
          uint32_t ref, bool is_write, enum use use, struct m_page *out)
{
    const struct m_pins p = m_pins_of(m, granter, ref);
    struct entry e;

    if (m->dom[granter].dying)
        return GNTST_bad_domain;
    if (!m_in_table(m, granter, ref))
        return GNTST_bad_gntref;
    if (m->dom[granter].entry[ref].closed)
        return GNTST_general_error;
    e = entry_of(m, granter, ref);
    if (p.readers + p.writers)
        return use_pinned(&p, &e, caller, is_write, out);
    if (e.domid != caller || (is_write && (e.flags & GTF_readonly)))
        return GNTST_general_error;
    return use_page(granter, &e, use, out);
}

static bool
is_transitive(const struct m_world *m, uint16_t granter, uint32_t ref)
{
    const struct m_pins p = m_pins_of(m, granter, ref);

    return m->dom[granter].version == 2 && !p.readers && !p.writers &&
           (entry_of(m, granter, ref).flags & GTF_type_mask) == GTF_transitive;
}

/* May @caller use @ref so?  *@out is the page. */
static int16_t
use(const struct m_world *m, uint16_t caller, uint16_t granter, uint32_t ref,
    bool is_write, bool is_map, struct m_page *out)
{
    struct entry e;

    if (is_map || m->dom[granter].dying || !m_in_table(m, granter, ref) ||
        m->dom[granter].entry[ref].closed || !is_transitive(m, granter, ref))
        return use_plain(m, caller, granter, ref, is_write,
                         is_map ? USE_MAP : USE_COPY, out);
    e = entry_of(m, granter, ref);
    if (e.domid != caller || (is_write && (e.flags & GTF_readonly)) ||
        !m->dom[granter].transitive || e.trans_domid == granter ||
        e.trans_domid >= M_DOMS)
        return GNTST_general_error;
    return use_plain(m, granter, e.trans_domid, e.trans_ref, is_write,
                     USE_INNER, out);
}

/* ------------------------------------------------------------ the table -- */

int
m_set_version(const struct m_world *m, uint16_t dom, uint32_t version)
{
    if (version != 1 && version != 2)
        return FH_EINVAL;
    if (version == m->dom[dom].version)
        return 0;
    for (size_t i = 0; i < M_MAPS; i++) {
        if (m->maps[i].live && m->maps[i].granter == dom &&
            m->maps[i].ref >= GNTTAB_NR_RESERVED_ENTRIES)
            return FH_EBUSY;
    }
    return 0;
}

int16_t
m_swap(const struct m_world *m, uint16_t dom, uint32_t a, uint32_t b)
{
    const struct m_pins pa = m_pins_of(m, dom, a), pb = m_pins_of(m, dom, b);

    if (!m_in_table(m, dom, a) || !m_in_table(m, dom, b))
        return GNTST_bad_gntref;
    if (a == b)
        return GNTST_okay;
    return pa.readers + pa.writers + pb.readers + pb.writers ? GNTST_eagain
                                                             : GNTST_okay;
}

/* ------------------------------------------------------------------- map -- */

int16_t
m_map(const struct m_world *m, uint16_t caller,
      const struct gnttab_map_grant_ref *op, uint64_t *mfn)
{
    struct m_page page = { 0 };
    int16_t r;

    if (!(op->flags & (GNTMAP_host_map | GNTMAP_device_map)))
        return GNTST_bad_gntref;
    if (op->dom >= M_DOMS)
        return GNTST_bad_domain;
    if (live_of(m, caller) == M_QUOTA)
        return GNTST_no_space;
    r = use(m, caller, op->dom, op->ref, !(op->flags & GNTMAP_readonly), true,
            &page);
    *mfn = page.mfn;
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
          struct m_page *out)
{
    const uint16_t dom = p->domid == DOMID_SELF ? caller : p->domid;

    if (is_ref)
        return use(m, caller, dom, p->u.ref, is_write, false, out);
    *out = (struct m_page){ p->u.gmfn, 0, FH_PAGE_BYTES };
    return owns(caller, p->u.gmfn) ? GNTST_okay : GNTST_bad_page;
}

static bool
inside(const struct m_page *p, uint32_t offset, uint32_t n)
{
    return offset >= p->start && offset + n <= p->start + p->length;
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
    if (!r && (!inside(&out->from, op->source.offset, op->len) ||
               !inside(&out->to, op->dest.offset, op->len)))
        r = GNTST_general_error;
    return r;
}

void
m_copy_did(struct m_world *m, const struct gnttab_copy *op,
           const struct m_copy *c)
{
    if (!op->len)
        return; /* of no page */
    memmove(m->bytes[c->to.mfn - WORLD_MFN0] + op->dest.offset,
            m->bytes[c->from.mfn - WORLD_MFN0] + op->source.offset, op->len);
}

/* ------------------------------------------------------------ comparison -- */

static const char *
compare_entry(const struct m_world *m, uint16_t dom, uint32_t ref)
{
    const struct m_pins p = m_pins_of(m, dom, ref);
    const uint16_t flags = m->dom[dom].version == 1
                               ? m->w->dom[dom].table[ref].flags
                               : m->w->dom[dom].status[ref];
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
        if (!bad && fh_gnt_version(&m->w->dom[dom].gnt) != m->dom[dom].version)
            bad = "the version";
        if (!bad && m->w->dom[dom].kicks < m->dom[dom].kicks)
            bad = "a notification of the last unpin is missing";
        if (bad)
            return bad;
    }
    return world_check(m->w);
}
