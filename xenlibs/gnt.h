/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A handle of libxengnttab: for mapping (gnttab) or for granting (gntshr).
 *
 * Pages are found by the address that the caller got: a hash table of areas.
 * Threads: a lock per handle.
 */
#include <pthread.h>
#include <stddef.h>
#include <sys/types.h>

#include <xengnttab.h>

#include "xenlibs/hvconn.h"

enum {
    FH_GNTLIB_AREA_BYTES = 2 << 20,
    FH_GNTLIB_SHR_AREA_BYTES = 128 << 10, /* 32768 references */
    FH_GNTLIB_BUCKETS = 256,
};

/* A shared-memory file with at least one live mapping. */
struct fh_gntlib_file {
    struct fh_gntlib_file *next;
    uint64_t id;
    int fd;
    uint32_t n_pages; /* mapped from it */
};

struct fh_gntlib_page {
    uint32_t handle;
    uint32_t page; /* in the file */
    uint64_t file_id;
    struct fh_gntlib_file *file; /* NULL: not held yet */
};

/* What one call mapped or shared. */
struct fh_gntlib_range {
    struct fh_gntlib_range *next;
    uint8_t *addr;
    uint32_t count;
    uint32_t share;               /* gntshr */
    struct fh_gntlib_page pages[]; /* gnttab: count of them */
};

struct xengntdev_handle {
    struct fh_hvc hvc;
    enum fh_hv_kind kind;
    pthread_mutex_t lock;
    struct fh_gntlib_range *ranges[FH_GNTLIB_BUCKETS];
    struct fh_gntlib_file *files;
};

xengnttab_handle *
fh_gntlib_open(enum fh_hv_kind kind, uint64_t area_bytes, const char *who);
/* Unmaps and frees all ranges, gives everything back. */
int
fh_gntlib_close(xengnttab_handle *h);
void
fh_gntlib_add(xengnttab_handle *h, struct fh_gntlib_range *r);
/* The range that starts at @addr and has @count pages, taken out, or NULL. */
struct fh_gntlib_range *
fh_gntlib_take(xengnttab_handle *h, const void *addr, uint32_t count);
/* errno from a negative error; returns -1. */
int
fh_gntlib_fail(int error);
