/* SPDX-License-Identifier: MIT */
/*
 * Grants: frames of one memfd, entries per domain, mappings by the MMU.
 *
 * A reference that was given back is the next one given out, so whoever holds
 * an old one meets somebody else's page.  As on Linux, a page that is unshared
 * while it is mapped stays until the last unmap, but is granted no more.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xen/xen.h>
#include <xen/grant_table.h>
#include "internal.h"

enum { PAGE = 4096 };

/* One memfd serves every story; frames are zeroed when they are shared. */
static int frames_fd = -1;
static uint8_t *frames;

void
sim_grants_init(struct sim *s)
{
    if (frames_fd < 0) {
        frames_fd = memfd_create("sim-frames", MFD_CLOEXEC);
        if (frames_fd < 0 || ftruncate(frames_fd, (off_t)SIM_FRAMES * PAGE))
            abort();
        frames = mmap(NULL, (size_t)SIM_FRAMES * PAGE, PROT_READ | PROT_WRITE,
                      MAP_SHARED, frames_fd, 0);
        if (frames == MAP_FAILED)
            abort();
    }
    s->frames_fd = frames_fd;
    s->frames = frames;
    for (uint32_t d = 0; d < SIM_DOMAINS; d++) {
        struct sim_domain *dom = &s->domain[d];

        for (uint32_t ref = SIM_REFS; ref-- > SIM_FIRST_REF;)
            dom->free_ref[dom->n_free_refs++] = ref;
    }
}

static struct sim_area *
area_take(struct sim_area *a, uint32_t n_areas, struct sim_party *p,
          uint16_t domid, uint32_t n)
{
    for (uint32_t i = 0; i < n_areas; i++) {
        if (a[i].party)
            continue;
        a[i] = (struct sim_area){
            .party = p, .n = n, .domid = domid,
            .refs = malloc(n * sizeof(uint32_t)),
        };
        return &a[i];
    }
    abort();
}

static struct sim_area *
area_find(struct sim_area *a, uint32_t n_areas, struct sim_party *p, void *addr)
{
    for (uint32_t i = 0; i < n_areas; i++)
        if (a[i].party == p && a[i].addr == addr)
            return &a[i];
    return NULL;
}

static void
area_drop(struct sim_area *a)
{
    munmap(a->addr, (size_t)a->n * PAGE);
    free(a->refs);
    *a = (struct sim_area){ .n = 0 };
}

/* The entry that @p may use by this reference, or NULL. */
static struct sim_entry *
entry_of(struct sim_party *p, uint16_t domid, uint32_t ref, bool write)
{
    struct sim_entry *e;

    if (domid >= SIM_DOMAINS || ref >= SIM_REFS)
        return NULL;
    e = &p->s->domain[domid].entry[ref];
    if (!e->used || e->withdrawn || e->grantee != p->domid ||
        (write && !e->writable))
        return NULL;
    return e;
}

static void
entry_free(struct sim *s, uint16_t domid, uint32_t ref)
{
    struct sim_domain *dom = &s->domain[domid];
    struct sim_entry *e = &dom->entry[ref];

    s->frame_used[e->frame] = 0;
    *e = (struct sim_entry){ .used = false };
    dom->free_ref[dom->n_free_refs++] = ref;
}

/* ---- mapping ---- */

/* Neighbouring frames are mapped together. */
static void *
map_frames(struct sim *s, const uint32_t *frame, uint32_t n, int prot)
{
    uint8_t *at = mmap(NULL, (size_t)n * PAGE, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        abort();
    for (uint32_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && frame[k] == frame[k - 1] + 1;)
            k++;
        if (mmap(at + (size_t)i * PAGE, (size_t)(k - i) * PAGE, prot,
                 MAP_SHARED | MAP_FIXED, s->frames_fd,
                 (off_t)frame[i] * PAGE) == MAP_FAILED)
            abort();
    }
    return at;
}

int
sim_gnt_map(struct fh_plat *plat, uint16_t domid, const uint32_t *refs,
            uint32_t n, int prot, void **addr)
{
    struct sim_party *p = sim_party_of(plat);
    const bool write = prot == FH_PLAT_PROT_RW;
    int r = sim_enter(plat, SIM_GNT_MAP, n);
    struct sim_area *a;
    uint32_t frame[512];

    SIM_CHECK(p->s, n && n <= 512, "%s maps %u pages", p->name, n);
    if (r || p->s->failed)
        return r ? r : FH_EIO;
    for (uint32_t i = 0; i < n; i++) {
        const struct sim_entry *e = entry_of(p, domid, refs[i], write);

        if (!e)
            return FH_PLAT_E_REFUSED;
        frame[i] = e->frame;
    }
    a = area_take(p->s->map, SIM_MAPS, p, domid, n);
    a->addr = map_frames(p->s, frame, n,
                         write ? PROT_READ | PROT_WRITE : PROT_READ);
    for (uint32_t i = 0; i < n; i++) {
        a->refs[i] = refs[i];
        p->s->domain[domid].entry[refs[i]].n_maps++;
    }
    *addr = a->addr;
    return 0;
}

static void
unmap(struct sim *s, struct sim_area *a)
{
    for (uint32_t i = 0; i < a->n; i++) {
        struct sim_entry *e = &s->domain[a->domid].entry[a->refs[i]];

        e->n_maps--;
        if (e->withdrawn && !e->n_maps)
            entry_free(s, a->domid, a->refs[i]);
    }
    area_drop(a);
}

int
sim_gnt_unmap(struct fh_plat *plat, void *addr, uint32_t n)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_GNT_UNMAP, n);
    struct sim_area *a;

    if (r)
        return r;
    a = area_find(p->s->map, SIM_MAPS, p, addr);
    if (!a || a->n != n) {
        sim_fail(p->s, "%s unmaps %u pages that it did not map so", p->name,
                 n);
        return FH_EINVAL;
    }
    unmap(p->s, a);
    return 0;
}

/* ---- copying ---- */

static int16_t
copy_piece(struct sim_party *p, const struct fh_plat_copy *c)
{
    const struct sim_entry *e = entry_of(p, c->domid, c->gref, c->to_grant);
    uint8_t *page;

    SIM_CHECK(p->s, c->offset + c->bytes <= PAGE, "%s copies across a page",
              p->name);
    if (!e)
        return GNTST_bad_gntref;
    page = p->s->frames + (size_t)e->frame * PAGE + c->offset;
    if (c->to_grant)
        memcpy(page, c->local, c->bytes);
    else
        memcpy(c->local, page, c->bytes);
    return GNTST_okay;
}

int
sim_gnt_copy(struct fh_plat *plat, struct fh_plat_copy *pieces, uint32_t n)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_GNT_COPY, n);

    for (uint32_t i = 0; i < n && !r; i++)
        pieces[i].status = copy_piece(p, &pieces[i]);
    return r;
}

/* ---- sharing ---- */

/* The first of @n neighbouring free frames. */
static uint32_t
find_frames(const struct sim *s, uint32_t n)
{
    uint32_t run = 0;

    for (uint32_t i = 0; i < SIM_FRAMES; i++) {
        run = s->frame_used[i] ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    abort(); /* the story is too large */
}

int
sim_gnt_share(struct fh_plat *plat, uint16_t domid, uint32_t n, bool writable,
              uint32_t *refs, void **addr)
{
    struct sim_party *p = sim_party_of(plat);
    struct sim_domain *dom = &p->s->domain[p->domid];
    int r = sim_enter(plat, SIM_GNT_SHARE, n);
    struct sim_area *a;
    uint32_t first;

    if (r)
        return r;
    if (!n || n > dom->n_free_refs)
        return FH_ENOSPC;
    first = find_frames(p->s, n);
    memset(p->s->frames + (size_t)first * PAGE, 0, (size_t)n * PAGE);
    a = area_take(p->s->share, SIM_SHARES, p, p->domid, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t ref = dom->free_ref[--dom->n_free_refs];

        p->s->frame_used[first + i] = 1;
        dom->entry[ref] = (struct sim_entry){
            .used = true, .writable = writable, .grantee = domid,
            .frame = first + i,
        };
        a->refs[i] = refs[i] = ref;
    }
    a->addr = mmap(NULL, (size_t)n * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
                   p->s->frames_fd, (off_t)first * PAGE);
    if (a->addr == MAP_FAILED)
        abort();
    *addr = a->addr;
    return 0;
}

static void
unshare(struct sim *s, struct sim_area *a, bool counts)
{
    for (uint32_t i = 0; i < a->n; i++) {
        struct sim_entry *e = &s->domain[a->domid].entry[a->refs[i]];

        if (!e->n_maps) {
            entry_free(s, a->domid, a->refs[i]);
            continue;
        }
        e->withdrawn = true;
        s->n_busy_unshares += counts;
    }
    area_drop(a);
}

int
sim_gnt_unshare(struct fh_plat *plat, void *addr, uint32_t n)
{
    struct sim_party *p = sim_party_of(plat);
    int r = sim_enter(plat, SIM_GNT_UNSHARE, n);
    struct sim_area *a;

    if (r)
        return r;
    a = area_find(p->s->share, SIM_SHARES, p, addr);
    if (!a || a->n != n) {
        sim_fail(p->s, "%s unshares %u pages that it did not share so", p->name,
                 n);
        return FH_EINVAL;
    }
    unshare(p->s, a, true);
    return 0;
}

void
sim_grants_drop(struct sim_party *p)
{
    for (uint32_t i = 0; i < SIM_MAPS; i++)
        if (p->s->map[i].party == p)
            unmap(p->s, &p->s->map[i]);
    for (uint32_t i = 0; i < SIM_SHARES; i++)
        if (p->s->share[i].party == p)
            unshare(p->s, &p->s->share[i], false);
}
