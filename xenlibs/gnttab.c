/* SPDX-License-Identifier: MIT */
/*
 * libxengnttab, mapping: every map is a libgrant map in the hypervisor and an
 * mmap here, every unmap a munmap here and a libgrant unmap there.  Nothing
 * stays mapped, and no descriptor of a file stays open, that no live mapping
 * of the caller needs.
 *
 * As with Linux's gntdev: all or nothing per call; an unmap names exactly what
 * a map returned; a refused reference is EINVAL; a child process has none of
 * the mappings.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arith.h"
#include "xenlibs/gnt.h"
#include "xenplat/tally.h"

enum {
    MAP_MAX = 65536, /* pages of one call, as gntdev's limit */
    /* elements of one hypercall: a reference and its place each */
    MAP_CHUNK = FH_GNTLIB_AREA_BYTES / (sizeof(struct gnttab_map_grant_ref) +
                                        sizeof(struct fh_hv_map_place)) /
                8 * 8,
    UNMAP_CHUNK =
        FH_GNTLIB_AREA_BYTES / sizeof(struct gnttab_unmap_grant_ref),
};

xengnttab_handle *
xengnttab_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    return fh_gntlib_open(FH_HV_KIND_GNTTAB, FH_GNTLIB_AREA_BYTES,
                          "xengnttab");
}

int
xengnttab_close(xengnttab_handle *xgt)
{
    return xgt ? fh_gntlib_close(xgt) : 0;
}

int
xengnttab_fd(xengnttab_handle *xgt)
{
    return xgt->hvc.sock;
}

int
xengnttab_set_max_grants(xengnttab_handle *xgt, uint32_t nr_grants)
{
    return 0; /* a no-op on Linux too, for years */
}

/* ------------------------------------------------------------------- files */

/* One more page of file @id is mapped; its descriptor is fetched if need be. */
static int
file_hold(xengnttab_handle *h, uint64_t id, struct fh_gntlib_file **out)
{
    const struct fh_hv_req req = { .op = FH_HV_GNT_FILE, .arg = { id } };
    struct fh_hvc_answer a;
    struct fh_gntlib_file *f;

    for (f = h->files; f && f->id != id; f = f->next)
        continue;
    if (!f) {
        int r = fh_hvc_call(&h->hvc, &req, -1, &a);

        if (r)
            return r;
        f = calloc(1, sizeof(*f));
        if (!f || a.n_fds != 1) {
            free(f);
            while (a.n_fds)
                close(a.fds[--a.n_fds]);
            return FH_ENOMEM;
        }
        f->id = id;
        f->fd = a.fds[0];
        f->next = h->files;
        h->files = f;
    }
    f->n_pages++;
    *out = f;
    return 0;
}

static void
file_drop(xengnttab_handle *h, struct fh_gntlib_file *f)
{
    struct fh_gntlib_file **at = &h->files;

    if (--f->n_pages)
        return;
    while (*at != f)
        at = &(*at)->next;
    *at = f->next;
    close(f->fd);
    free(f);
}

/* -------------------------------------------------------------- hypercalls */

static int
unmap_chunk(xengnttab_handle *h, const struct fh_gntlib_page *pages, uint32_t n)
{
    struct gnttab_unmap_grant_ref *ops =
        (struct gnttab_unmap_grant_ref *)h->hvc.area;
    const struct fh_hv_req req = { .op = FH_HV_GNT_UNMAP, .count = n };
    int r;

    for (uint32_t i = 0; i < n; i++)
        ops[i] = (struct gnttab_unmap_grant_ref){ .handle = pages[i].handle };
    r = fh_hvc_call(&h->hvc, &req, -1, NULL);
    for (uint32_t i = 0; i < n && !r; i++)
        r = ops[i].status == GNTST_okay ? 0 : FH_EINVAL;
    return r;
}

/* Gives back @n pages: the files and the grants. */
static int
pages_release(xengnttab_handle *h, struct fh_gntlib_page *pages, uint32_t n)
{
    int r = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (pages[i].file)
            file_drop(h, pages[i].file);
        pages[i].file = NULL;
    }
    for (uint32_t at = 0; at < n; at += UNMAP_CHUNK) {
        const uint32_t left = n - at;
        int q = unmap_chunk(h, pages + at,
                            left < UNMAP_CHUNK ? left : UNMAP_CHUNK);

        r = r ? r : q;
    }
    return r;
}

/* What gntdev's callers see: the reference is bad, whatever its status was;
 * only a lack of room has an error of its own. */
static int
status_error(int16_t status)
{
    switch (status) {
    case GNTST_okay:
        return 0;
    case GNTST_eagain:
        return FH_EAGAIN;
    case GNTST_no_space:
        return FH_ENOSPC;
    }
    return FH_EINVAL;
}

/* Grants of @n references, into @pages.  On failure @*n_done are held. */
static int
map_chunk(xengnttab_handle *h, const uint32_t *domids, uint32_t stride,
          const uint32_t *refs, uint32_t n, int prot,
          struct fh_gntlib_page *pages)
{
    struct gnttab_map_grant_ref *ops =
        (struct gnttab_map_grant_ref *)h->hvc.area;
    struct fh_hv_map_place *places = (struct fh_hv_map_place *)(ops + n);
    const struct fh_hv_req req = {
        .op = FH_HV_GNT_MAP, .count = n, .out = n * sizeof(*ops),
    };
    uint32_t n_good = 0;
    int r;

    for (uint32_t i = 0; i < n; i++)
        ops[i] = (struct gnttab_map_grant_ref){
            .host_addr = FH_PAGE_BYTES,
            .flags = GNTMAP_host_map |
                     (prot & PROT_WRITE ? 0 : GNTMAP_readonly),
            .ref = refs[i],
            .dom = (domid_t)domids[i * stride],
        };
    r = fh_hvc_call(&h->hvc, &req, -1, NULL);
    if (r)
        return r;
    for (uint32_t i = 0; i < n; i++) {
        if (ops[i].status != GNTST_okay) {
            r = r ? r : status_error(ops[i].status);
            continue;
        }
        pages[n_good++] = (struct fh_gntlib_page){
            .handle = places[i].handle,
            .page = places[i].page,
            .file_id = places[i].file,
        };
    }
    if (r && pages_release(h, pages, n_good))
        return FH_EIO;
    return r;
}

/* All or nothing. */
static int
grants_map(xengnttab_handle *h, const uint32_t *domids, uint32_t stride,
           const uint32_t *refs, int prot, struct fh_gntlib_range *range)
{
    for (uint32_t at = 0; at < range->count;) {
        const uint32_t left = range->count - at;
        const uint32_t n = left < MAP_CHUNK ? left : MAP_CHUNK;
        int r = map_chunk(h, domids + (stride ? at : 0), stride, refs + at, n,
                          prot, range->pages + at);

        if (r) {
            int q = pages_release(h, range->pages, at);

            return q ? q : r;
        }
        at += n;
    }
    return 0;
}

/* ------------------------------------------------------------------- pages */

/* Pages from @at on that follow each other in one file. */
static uint32_t
run_length(const struct fh_gntlib_range *range, uint32_t at)
{
    const struct fh_gntlib_page *p = range->pages;
    uint32_t n = 1;

    while (at + n < range->count && p[at + n].file == p[at].file &&
           p[at + n].page == p[at].page + n)
        n++;
    return n;
}

static int
range_mmap(struct fh_gntlib_range *range, int prot)
{
    const size_t bytes = (size_t)range->count * FH_PAGE_BYTES;
    uint32_t n = run_length(range, 0);
    void *addr;

    fh_tally_syscall();
    if (n == range->count) { /* the common case takes one call */
        addr = mmap(NULL, bytes, prot, MAP_SHARED, range->pages[0].file->fd,
                    (off_t)range->pages[0].page * FH_PAGE_BYTES);
        range->addr = addr;
        return addr == MAP_FAILED ? -errno : 0;
    }
    addr = mmap(NULL, bytes, PROT_NONE,
                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    range->addr = addr;
    if (addr == MAP_FAILED)
        return -errno;
    for (uint32_t at = 0; at < range->count; at += n) {
        const struct fh_gntlib_page *p = &range->pages[at];

        n = run_length(range, at);
        fh_tally_syscall();
        if (mmap(range->addr + (size_t)at * FH_PAGE_BYTES,
                 (size_t)n * FH_PAGE_BYTES, prot, MAP_SHARED | MAP_FIXED,
                 p->file->fd, (off_t)p->page * FH_PAGE_BYTES) == MAP_FAILED) {
            int r = -errno;

            munmap(range->addr, bytes);
            return r;
        }
    }
    return 0;
}

static int
range_map(xengnttab_handle *h, struct fh_gntlib_range *range, int prot)
{
    int r = 0;

    for (uint32_t i = 0; i < range->count && !r; i++)
        r = file_hold(h, range->pages[i].file_id, &range->pages[i].file);
    if (!r)
        r = range_mmap(range, prot);
    if (r)
        return r;
    /* As gntdev's mappings: a child has none. */
    fh_tally_syscall();
    if (madvise(range->addr, (size_t)range->count * FH_PAGE_BYTES,
                MADV_DONTFORK) < 0) {
        r = -errno;
        munmap(range->addr, (size_t)range->count * FH_PAGE_BYTES);
    }
    return r;
}

static int
notify_set(xengnttab_handle *h, const struct fh_gntlib_range *range,
           uint32_t offset, evtchn_port_t port)
{
    const struct fh_hv_req req = {
        .op = FH_HV_GNT_NOTIFY,
        .arg = { range->pages[0].handle, offset, port },
    };

    if (offset == FH_HV_NO_NOTIFY && port == FH_HV_NO_NOTIFY)
        return 0;
    return fh_hvc_call(&h->hvc, &req, -1, NULL);
}

/* @stride 1: a domid per reference; 0: one for all. */
static void *
map_locked(xengnttab_handle *h, uint32_t count, const uint32_t *domids,
           uint32_t stride, const uint32_t *refs, int prot, uint32_t offset,
           evtchn_port_t port)
{
    struct fh_gntlib_range *range =
        calloc(1, sizeof(*range) + count * sizeof(range->pages[0]));
    int r, q;

    if (!range) {
        errno = ENOMEM;
        return NULL;
    }
    range->count = count;
    r = grants_map(h, domids, stride, refs, prot, range);
    if (r)
        goto fail;
    /* Before the page is there: unmapping would already notify. */
    r = range_map(h, range, prot);
    if (r)
        goto fail_grants;
    r = notify_set(h, range, offset, port);
    if (r)
        goto fail_pages;
    fh_gntlib_add(h, range);
    return range->addr;

fail_pages:
    munmap(range->addr, (size_t)count * FH_PAGE_BYTES);
fail_grants:
    q = pages_release(h, range->pages, count);
    r = q ? q : r;
fail:
    free(range);
    errno = -r;
    return NULL;
}

static void *
map_pages(xengnttab_handle *h, uint32_t count, const uint32_t *domids,
          uint32_t stride, const uint32_t *refs, int prot, uint32_t offset,
          evtchn_port_t port)
{
    void *addr;

    if (!count || count > MAP_MAX || !(prot & (PROT_READ | PROT_WRITE)) ||
        prot & ~(PROT_READ | PROT_WRITE)) {
        errno = EINVAL;
        return NULL;
    }
    pthread_mutex_lock(&h->lock);
    addr = map_locked(h, count, domids, stride, refs, prot, offset, port);
    pthread_mutex_unlock(&h->lock);
    return addr;
}

void *
xengnttab_map_grant_ref(xengnttab_handle *xgt, uint32_t domid, uint32_t ref,
                        int prot)
{
    return map_pages(xgt, 1, &domid, 0, &ref, prot, FH_HV_NO_NOTIFY,
                     FH_HV_NO_NOTIFY);
}

void *
xengnttab_map_grant_refs(xengnttab_handle *xgt, uint32_t count,
                         uint32_t *domids, uint32_t *refs, int prot)
{
    return map_pages(xgt, count, domids, 1, refs, prot, FH_HV_NO_NOTIFY,
                     FH_HV_NO_NOTIFY);
}

void *
xengnttab_map_domain_grant_refs(xengnttab_handle *xgt, uint32_t count,
                                uint32_t domid, uint32_t *refs, int prot)
{
    return map_pages(xgt, count, &domid, 0, refs, prot, FH_HV_NO_NOTIFY,
                     FH_HV_NO_NOTIFY);
}

void *
xengnttab_map_grant_ref_notify(xengnttab_handle *xgt, uint32_t domid,
                               uint32_t ref, int prot, uint32_t notify_offset,
                               evtchn_port_t notify_port)
{
    return map_pages(xgt, 1, &domid, 0, &ref, prot, notify_offset,
                     notify_port);
}

int
xengnttab_unmap(xengnttab_handle *xgt, void *start_address, uint32_t count)
{
    struct fh_gntlib_range *range;
    int r;

    pthread_mutex_lock(&xgt->lock);
    range = fh_gntlib_take(xgt, start_address, count);
    if (!range) {
        r = FH_EINVAL;
        goto out;
    }
    fh_tally_syscall();
    if (munmap(range->addr, (size_t)count * FH_PAGE_BYTES) < 0) {
        /* No room to split a mapping: the pages stay the caller's. */
        r = -errno;
        fh_gntlib_add(xgt, range);
        goto out;
    }
    r = pages_release(xgt, range->pages, count);
    free(range);
out:
    pthread_mutex_unlock(&xgt->lock);
    return r ? fh_gntlib_fail(r) : 0;
}

/* ------------------------------------------------- no device memory here -- */

int
xengnttab_dmabuf_exp_from_refs(xengnttab_handle *xgt, uint32_t domid,
                               uint32_t flags, uint32_t count,
                               const uint32_t *refs, uint32_t *fd)
{
    return fh_gntlib_fail(FH_ENOSYS);
}

int
xengnttab_dmabuf_exp_wait_released(xengnttab_handle *xgt, uint32_t fd,
                                   uint32_t wait_to_ms)
{
    return fh_gntlib_fail(FH_ENOSYS);
}

int
xengnttab_dmabuf_imp_to_refs(xengnttab_handle *xgt, uint32_t domid,
                             uint32_t fd, uint32_t count, uint32_t *refs)
{
    return fh_gntlib_fail(FH_ENOSYS);
}

int
xengnttab_dmabuf_imp_release(xengnttab_handle *xgt, uint32_t fd)
{
    return fh_gntlib_fail(FH_ENOSYS);
}
