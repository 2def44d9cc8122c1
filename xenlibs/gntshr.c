/* SPDX-License-Identifier: MIT */
/*
 * libxengnttab, granting: pages that the hypervisor allocates, as gntalloc
 * does in a kernel.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arith.h"
#include "xenlibs/gnt.h"

enum { SHARE_MAX = FH_GNTLIB_SHR_AREA_BYTES / sizeof(uint32_t) };

xengntshr_handle *
xengntshr_open(struct xentoollog_logger *logger, unsigned open_flags)
{
    return fh_gntlib_open(FH_HV_KIND_GNTSHR, FH_GNTLIB_SHR_AREA_BYTES,
                          "xengntshr");
}

int
xengntshr_close(xengntshr_handle *xgs)
{
    return xgs ? fh_gntlib_close(xgs) : 0;
}

int
xengntshr_fd(xengntshr_handle *xgs)
{
    return xgs->hvc.sock;
}

static int
share_end(xengntshr_handle *h, uint32_t share)
{
    const struct fh_hv_req req = { .op = FH_HV_SHR_UNSHARE, .arg = { share } };

    return fh_hvc_call(&h->hvc, &req, -1, NULL);
}

static int
notify_set(xengntshr_handle *h, uint32_t share, uint32_t offset,
           evtchn_port_t port)
{
    const struct fh_hv_req req = {
        .op = FH_HV_SHR_NOTIFY, .arg = { share, offset, port },
    };

    if (offset == FH_HV_NO_NOTIFY && port == FH_HV_NO_NOTIFY)
        return 0;
    return fh_hvc_call(&h->hvc, &req, -1, NULL);
}

/* Maps what the answer to a share brought. */
static int
share_mmap(struct fh_hvc_answer *a, struct fh_gntlib_range *range)
{
    int r = 0;

    range->share = (uint32_t)a->rsp.arg[0];
    if (a->n_fds != 1)
        return FH_EPROTO;
    void *addr = mmap(NULL, (size_t)range->count * FH_PAGE_BYTES,
                      PROT_READ | PROT_WRITE, MAP_SHARED, a->fds[0],
                      (off_t)a->rsp.arg[1] * FH_PAGE_BYTES);

    if (addr == MAP_FAILED)
        r = -errno;
    else
        range->addr = addr;
    close(a->fds[0]);
    return r;
}

static int
share_locked(xengntshr_handle *h, uint32_t domid, uint32_t *refs, int writable,
             uint32_t offset, evtchn_port_t port, struct fh_gntlib_range *range)
{
    const struct fh_hv_req req = {
        .op = FH_HV_SHR_SHARE,
        .count = range->count,
        .arg = { domid, writable != 0 },
    };
    struct fh_hvc_answer a;
    int r, q;

    r = fh_hvc_call(&h->hvc, &req, -1, &a);
    if (r)
        return r;
    memcpy(refs, h->hvc.area, range->count * sizeof(*refs));
    r = share_mmap(&a, range);
    if (r)
        goto fail;
    r = notify_set(h, range->share, offset, port);
    if (r)
        goto fail;
    fh_gntlib_add(h, range);
    return 0;

fail:
    if (range->addr)
        munmap(range->addr, (size_t)range->count * FH_PAGE_BYTES);
    q = share_end(h, range->share);
    return q ? q : r;
}

static void *
share_pages(xengntshr_handle *h, uint32_t domid, int count, uint32_t *refs,
            int writable, uint32_t offset, evtchn_port_t port)
{
    struct fh_gntlib_range *range;
    void *addr = NULL;
    int r;

    if (count <= 0 || count > SHARE_MAX) {
        errno = count > 0 ? ENOSPC : EINVAL;
        return NULL;
    }
    range = calloc(1, sizeof(*range));
    if (!range)
        return NULL;
    range->count = (uint32_t)count;
    pthread_mutex_lock(&h->lock);
    r = share_locked(h, domid, refs, writable, offset, port, range);
    if (!r)
        addr = range->addr;
    pthread_mutex_unlock(&h->lock);
    if (!r)
        return addr;
    free(range);
    errno = -r;
    return NULL;
}

void *
xengntshr_share_pages(xengntshr_handle *xgs, uint32_t domid, int count,
                      uint32_t *refs, int writable)
{
    return share_pages(xgs, domid, count, refs, writable, FH_HV_NO_NOTIFY,
                       FH_HV_NO_NOTIFY);
}

void *
xengntshr_share_page_notify(xengntshr_handle *xgs, uint32_t domid,
                            uint32_t *ref, int writable,
                            uint32_t notify_offset, evtchn_port_t notify_port)
{
    return share_pages(xgs, domid, 1, ref, writable, notify_offset,
                       notify_port);
}

int
xengntshr_unshare(xengntshr_handle *xgs, void *start_address, uint32_t count)
{
    struct fh_gntlib_range *range;
    int r = FH_EINVAL;

    pthread_mutex_lock(&xgs->lock);
    range = fh_gntlib_take(xgs, start_address, count);
    if (range) {
        munmap(range->addr, (size_t)count * FH_PAGE_BYTES);
        r = share_end(xgs, range->share);
        free(range);
    }
    pthread_mutex_unlock(&xgs->lock);
    return r ? fh_gntlib_fail(r) : 0;
}
