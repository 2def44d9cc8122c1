/* SPDX-License-Identifier: MIT */
/*
 * The mapper's side of grant tables: libgrant decides, fhv only supplies
 * frames.
 *
 * What the engine calls the page table is, here, the mapper's own address
 * space: the library maps the file's pages after the engine agreed and takes
 * them out before it asks for the unmap.  fhv cannot see a process keep a
 * mapping that it should have dropped; what such a process can still read is
 * limited to the pair's own files (SECURITY.md).
 *
 * An element is copied out of the argument area once, executed on the copy,
 * and its results are written back; nothing is decided by what the area says
 * later.
 *
 * All of this runs on the connection's thread, without fhv's lock.  A granted
 * page stays where it is, and its file with it, because the engine has marked
 * the granter's entry before it asks for the page and until after it put it
 * back: the granter's side cannot withdraw the grant meanwhile (frame.h).
 */
#include <errno.h>
#include <string.h>

#include "base/arith.h"
#include "hv/hv.h"

/* Frames of the caller's argument area: above every frame that a v1 entry can
 * name. */
#define AREA_GFN (1ull << 32)

/* ------------------------------------------------ what libgrant calls us -- */

static struct fh_hv_domain *
dom_of(struct fh_gnt_domain *d)
{
    return (struct fh_hv_domain *)((char *)d -
                                   offsetof(struct fh_hv_domain, gnt));
}

static struct fh_gnt_domain *
op_domain_get(void *ctx, uint16_t domid)
{
    const struct fh_hv_thread *th = ctx;
    struct fh_hv_domain *dom = fh_hv_domain_find(th->hv, domid);

    if (!dom)
        return NULL;
    fh_hv_domain_hold(dom);
    return &dom->gnt;
}

static void
op_domain_hold(void *ctx, struct fh_gnt_domain *d)
{
    fh_hv_domain_hold(dom_of(d));
}

static void
op_domain_put(void *ctx, struct fh_gnt_domain *d)
{
    fh_hv_domain_put(dom_of(d));
}

static int
area_frame_get(const struct fh_hv_conn *caller, uint64_t gfn,
               struct fh_gnt_frame *out)
{
    if ((gfn - AREA_GFN) >= caller->area_bytes / FH_PAGE_BYTES)
        return FH_GNT_E_BAD_PAGE;
    out->mfn = gfn;
    return 0;
}

/* A page serves one pair: the entry's domid may have been given to another
 * domain since, the unique id not. */
static int
op_frame_get(void *ctx, struct fh_gnt_domain *owner, uint64_t gfn,
             bool for_write, struct fh_gnt_frame *out)
{
    struct fh_hv_thread *th = ctx;

    if (gfn >= AREA_GFN)
        return area_frame_get(th->caller, gfn, out);
    struct fh_hv_file *file = fh_hv_file_of(th->hv, gfn);

    if (!file || file->granter != dom_of(owner) ||
        file->grantee != th->caller->dom->uid ||
        (for_write && !file->is_writable) ||
        !fh_hv_frame_ref(&fh_hv_frame_in(file, gfn)->word))
        return FH_GNT_E_BAD_PAGE;
    out->mfn = gfn;
    return 0;
}

static void
op_frame_put(void *ctx, struct fh_gnt_domain *owner, uint64_t mfn)
{
    struct fh_hv_thread *th = ctx;

    if (mfn >= AREA_GFN)
        return;
    struct fh_hv_frame *frame =
        fh_hv_frame_in(fh_hv_file_of(th->hv, mfn), mfn);

    if (fh_hv_frame_unref(&frame->word))
        fh_hv_ending_add(&th->ending, (uint32_t)mfn, frame);
}

static void *
op_frame_map(void *ctx, struct fh_gnt_domain *owner, uint64_t mfn,
             bool for_write)
{
    const struct fh_hv_thread *th = ctx;

    if (mfn >= AREA_GFN)
        return th->caller->area + (mfn - AREA_GFN) * FH_PAGE_BYTES;
    return fh_hv_frame_addr(th->hv, mfn);
}

static void
op_frame_unmap(void *ctx, struct fh_gnt_domain *owner, uint64_t mfn,
               void *addr, bool for_write)
{
}

static int
op_pt_install(void *ctx, struct fh_gnt_domain *mapper,
              const struct fh_gnt_pte *pte, uint64_t *old)
{
    *old = 0;
    return 0;
}

/* The library unmapped before it called: no translation is left. */
static int
op_pt_remove(void *ctx, struct fh_gnt_domain *mapper,
             const struct fh_gnt_pte *pte, uint64_t *old)
{
    *old = 0;
    return FH_GNT_PT_UNTOUCHED;
}

static void
op_tlb_flush(void *ctx, struct fh_gnt_domain *mapper)
{
}

const struct fh_hv_ops fh_hv_gnt_ops = {
    .domain_get = op_domain_get,
    .domain_hold = op_domain_hold,
    .domain_put = op_domain_put,
    .frame_get = op_frame_get,
    .frame_put = op_frame_put,
    .frame_map = op_frame_map,
    .frame_unmap = op_frame_unmap,
    .pt_install = op_pt_install,
    .pt_remove = op_pt_remove,
    .tlb_flush = op_tlb_flush,
};

/* --------------------------------------------------- a domain's mappings -- */

static uint32_t
handle_index(const struct fh_hv_domain *dom, uint32_t handle)
{
    return handle & ((1u << dom->gnt.index_bits) - 1);
}

/* The connection's own live mapping with @handle, or NULL.  A guest may name
 * one that another of its connections, on another thread, is making or ending:
 * only who finds himself in it looks at the rest. */
static struct fh_hv_map *
map_find(struct fh_hv_conn *conn, uint32_t handle)
{
    const uint32_t index = handle_index(conn->dom, handle);
    struct fh_hv_map *map;

    if (index >= FH_HV_MAPS_MAX)
        return NULL;
    map = &conn->dom->maps[index];
    return fh_load_relaxed64(&map->conn) == (uintptr_t)conn &&
                   map->handle == handle
               ? map
               : NULL;
}

static void
count_map(struct fh_hv_conn *conn, uint32_t mfn, uint64_t n)
{
    struct fh_hv_thread *th = conn->src.th;

    fh_fetch_add32(&fh_hv_file_of(conn->hv, mfn)->n_mapped, (uint32_t)n);
    fh_hv_count(&th->tally.n_maps, n);
    fh_hv_count(&conn->dom->tally[th->index].n_maps, n);
}

/* The index is ours from the engine's giving the handle out until we give it
 * back. */
static void
map_add(struct fh_hv_conn *conn, uint32_t handle, uint32_t mfn)
{
    struct fh_hv_map *maps = conn->dom->maps;
    const uint32_t index = handle_index(conn->dom, handle);
    struct fh_hv_map *map = &maps[index];

    map->mfn = mfn;
    map->handle = handle;
    map->next = conn->maps;
    map->prev = 0;
    if (conn->maps)
        maps[conn->maps - 1].prev = index + 1;
    conn->maps = index + 1;
    fh_store_relaxed64(&map->conn, (uintptr_t)conn);
    count_map(conn, mfn, 1);
}

static void
map_del(struct fh_hv_conn *conn, struct fh_hv_map *map)
{
    struct fh_hv_map *maps = conn->dom->maps;

    if (map->next)
        maps[map->next - 1].prev = map->prev;
    if (map->prev)
        maps[map->prev - 1].next = map->next;
    else
        conn->maps = map->next;
    fh_store_relaxed64(&map->conn, 0);
    count_map(conn, map->mfn, UINT64_MAX);
}

static int16_t
map_one(struct fh_hv_conn *conn, struct gnttab_map_grant_ref *op,
        struct fh_hv_map_place *place)
{
    int16_t status;

    /* The mapper has no devices and no page tables of Xen's. */
    if ((op->flags & ~GNTMAP_readonly) != GNTMAP_host_map)
        return GNTST_general_error;
    status = fh_gnt_map_one(&conn->src.th->gnt, &conn->dom->gnt, op);
    if (status != GNTST_okay)
        return status;
    const uint32_t mfn = (uint32_t)(op->dev_bus_addr >> FH_PAGE_SHIFT);
    const struct fh_hv_file *file = fh_hv_file_of(conn->hv, mfn);

    map_add(conn, op->handle, mfn);
    *place = (struct fh_hv_map_place){
        .file = file->id,
        .page = mfn - fh_hv_mfn(file, 0),
        .handle = op->handle,
    };
    return GNTST_okay;
}

static int16_t
unmap_one(struct fh_hv_conn *conn, uint32_t handle)
{
    struct fh_hv_map *map = map_find(conn, handle);
    struct gnttab_unmap_grant_ref op = {
        .host_addr = FH_PAGE_BYTES, /* any but 0: the host's mapping */
        .handle = handle,
    };
    int16_t status;

    if (!map)
        return GNTST_bad_handle;
    const uint32_t mfn = map->mfn;

    fh_hv_notify_fire(conn, handle);
    /* First: once the engine ended it, the index may be another thread's. */
    map_del(conn, map);
    status = fh_gnt_unmap_one(&conn->src.th->gnt, &conn->dom->gnt, &op);
    if (status != GNTST_okay)
        map_add(conn, handle, mfn);
    return status;
}

/* ------------------------------------------------------------ hypercalls -- */

/* The part of the array that this slice does: [conn->done, end). */
static uint32_t
slice_end(struct fh_hv_conn *conn, enum fh_hv_op op)
{
    const uint32_t left = conn->req.count - conn->done;
    const uint32_t n = left < FH_HV_SLICE ? left : FH_HV_SLICE;

    fh_hv_count_elements(conn, op, n);
    fh_hv_spend(conn->src.th, conn->dom, n);
    return conn->done + n;
}

/* What fh_gnt_map_one() may have changed, never the whole element: the area
 * is the guest's. */
static void
map_answer(uint8_t *wire, const struct gnttab_map_grant_ref *op)
{
    struct gnttab_map_grant_ref FH_SHARED *out =
        (struct gnttab_map_grant_ref FH_SHARED *)(uintptr_t)wire;

    fh_copy_out(&out->status, &op->status, sizeof(op->status));
    fh_copy_out(&out->handle, &op->handle, sizeof(op->handle));
}

int
fh_hv_gnt_map(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const struct fh_hv_req *req = &conn->req;

    if (!fh_hv_area_holds(conn, req->offset, req->count,
                          sizeof(struct gnttab_map_grant_ref)) ||
        !fh_hv_area_holds(conn, req->out, req->count,
                          sizeof(struct fh_hv_map_place)))
        return FH_EINVAL;
    const uint32_t end = slice_end(conn, FH_HV_GNT_MAP);

    for (; conn->done < end; conn->done++) {
        struct gnttab_map_grant_ref op;
        struct fh_hv_map_place place = { 0 };
        uint8_t *wire = conn->area + req->offset + conn->done * sizeof(op);

        fh_copy_in(&op, wire, sizeof(op));
        op.status = map_one(conn, &op, &place);
        fh_copy_out(conn->area + req->out + conn->done * sizeof(place), &place,
                    sizeof(place));
        map_answer(wire, &op);
    }
    return end < req->count ? FH_HV_MORE : 0;
}

int
fh_hv_gnt_unmap(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const struct fh_hv_req *req = &conn->req;

    if (!fh_hv_area_holds(conn, req->offset, req->count,
                          sizeof(struct gnttab_unmap_grant_ref)))
        return FH_EINVAL;
    const uint32_t end = slice_end(conn, FH_HV_GNT_UNMAP);

    for (; conn->done < end; conn->done++) {
        struct gnttab_unmap_grant_ref op;
        uint8_t *wire = conn->area + req->offset + conn->done * sizeof(op);

        fh_copy_in(&op, wire, sizeof(op));
        op.status = unmap_one(conn, op.handle);
        fh_copy_out(wire + offsetof(struct gnttab_unmap_grant_ref, status),
                    &op.status, sizeof(op.status));
    }
    return end < req->count ? FH_HV_MORE : 0;
}

/* Frame numbers of the caller are pages of its area, see op_frame_get(). */
static void
copy_localise(struct gnttab_copy *op)
{
    if (!(op->flags & GNTCOPY_source_gref))
        op->source.u.gmfn = AREA_GFN + (uint32_t)op->source.u.gmfn;
    if (!(op->flags & GNTCOPY_dest_gref))
        op->dest.u.gmfn = AREA_GFN + (uint32_t)op->dest.u.gmfn;
}

/* Elements [conn->done, end), which are no more than a slice.  The engine looks
 * a domain up once for a run of elements that name it. */
static void
copy_slice(struct fh_hv_conn *conn, uint32_t end)
{
    struct gnttab_copy ops[FH_HV_SLICE];
    uint8_t *wire = conn->area + conn->req.offset +
                    (uint64_t)conn->done * sizeof(ops[0]);
    const uint32_t n = end - conn->done;

    fh_copy_in(ops, wire, n * sizeof(ops[0]));
    for (uint32_t i = 0; i < n; i++)
        copy_localise(&ops[i]);
    for (uint32_t i = 0, done; i < n; i += done) {
        if (!fh_gnt_op_copy(&conn->src.th->gnt, &conn->dom->gnt, ops + i,
                            n - i, &done))
            break; /* nobody asks it to stop before the end */
    }
    for (uint32_t i = 0; i < n; i++)
        fh_copy_out(wire + i * sizeof(ops[0]) +
                        offsetof(struct gnttab_copy, status),
                    &ops[i].status, sizeof(ops[i].status));
    conn->done = end;
}

int
fh_hv_gnt_copy(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const struct fh_hv_req *req = &conn->req;

    if (!fh_hv_area_holds(conn, req->offset, req->count,
                          sizeof(struct gnttab_copy)))
        return FH_EINVAL;
    const uint32_t end = slice_end(conn, FH_HV_GNT_COPY);

    copy_slice(conn, end);
    return end < req->count ? FH_HV_MORE : 0;
}

int
fh_hv_gnt_file(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    /* It may be dropped meanwhile, but is there until this turn ends. */
    const struct fh_hv_file *file =
        fh_hv_file_find(conn->hv, conn->req.arg[0]);

    if (!file || file->grantee != conn->dom->uid ||
        !fh_load_relaxed32(&file->n_mapped))
        return FH_ENOENT;
    int fd = fh_hv_file_grantee_fd(file);

    if (fd < 0)
        return fd;
    fh_hv_reply_fd(reply, fd, true);
    return 0;
}

int
fh_hv_gnt_notify(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint32_t handle = (uint32_t)conn->req.arg[0];
    const struct fh_hv_map *map = map_find(conn, handle);
    struct fh_gnt_map_info info;

    if (!map || fh_gnt_map_info(&conn->dom->gnt, handle, &info))
        return FH_ENOENT;
    /* As in Linux: whoever may not write cannot ask for a byte to change. */
    if (conn->req.arg[1] != FH_HV_NO_NOTIFY && info.flags & GNTMAP_readonly)
        return FH_EINVAL;
    return fh_hv_notify_set(conn, handle, map->mfn);
}

bool
fh_hv_gnt_close(struct fh_hv_conn *conn, uint32_t budget)
{
    for (; conn->maps && budget; budget--) {
        const uint32_t index = conn->maps - 1;

        /* The engine cannot refuse a live handle; the list must shrink
         * whatever it says. */
        if (unmap_one(conn, conn->dom->maps[index].handle) != GNTST_okay)
            map_del(conn, &conn->dom->maps[index]);
    }
    fh_hv_ending_run(conn->src.th);
    return conn->maps != 0;
}
