/* SPDX-License-Identifier: MIT */
/* What mapping and granting have in common: see gnt.h. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/arith.h"
#include "xenlibs/gnt.h"

int
fh_gntlib_fail(int error)
{
    errno = -error;
    return -1;
}

xengnttab_handle *
fh_gntlib_open(enum fh_hv_kind kind, uint64_t area_bytes, const char *who)
{
    xengnttab_handle *h = calloc(1, sizeof(*h));
    int r;

    if (!h)
        return NULL;
    r = fh_hvc_open(&h->hvc, kind, area_bytes, false);
    if (r) {
        fprintf(stderr, "%s: local hypervisor: %s\n", who,
                r == FH_ENOENT && !getenv(FH_HV_ENV_HYPERCALL)
                    ? FH_HV_ENV_HYPERCALL " is not set (freehold exec sets it)"
                    : strerror(-r));
        free(h);
        errno = -r;
        return NULL;
    }
    h->kind = kind;
    pthread_mutex_init(&h->lock, NULL);
    return h;
}

static struct fh_gntlib_range **
bucket_of(xengnttab_handle *h, const void *addr)
{
    const uintptr_t page = (uintptr_t)addr >> FH_PAGE_SHIFT;

    return &h->ranges[(page ^ page >> 8 ^ page >> 16) % FH_GNTLIB_BUCKETS];
}

void
fh_gntlib_add(xengnttab_handle *h, struct fh_gntlib_range *r)
{
    struct fh_gntlib_range **b = bucket_of(h, r->addr);

    r->next = *b;
    *b = r;
}

struct fh_gntlib_range *
fh_gntlib_take(xengnttab_handle *h, const void *addr, uint32_t count)
{
    struct fh_gntlib_range **at = bucket_of(h, addr), *r;

    for (; *at; at = &(*at)->next) {
        r = *at;
        if (r->addr != addr || r->count != count)
            continue;
        *at = r->next;
        return r;
    }
    return NULL;
}

int
fh_gntlib_close(xengnttab_handle *h)
{
    struct fh_gntlib_range *r;
    struct fh_gntlib_file *f;
    const bool is_ours = h->hvc.pid == getpid();

    for (unsigned i = 0; i < FH_GNTLIB_BUCKETS; i++) {
        while ((r = h->ranges[i])) {
            h->ranges[i] = r->next;
            /* A child has no grant mappings; something else may be there. */
            if (is_ours || h->kind == FH_HV_KIND_GNTSHR)
                munmap(r->addr, (size_t)r->count * FH_PAGE_BYTES);
            free(r);
        }
    }
    while ((f = h->files)) {
        h->files = f->next;
        close(f->fd);
        free(f);
    }
    fh_hvc_close(&h->hvc);
    pthread_mutex_destroy(&h->lock);
    free(h);
    return 0;
}
