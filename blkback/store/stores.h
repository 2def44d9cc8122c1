/* SPDX-License-Identifier: MIT */
#pragma once
/* The stores' open functions.  store.h says what a store is. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/time_types.h>
#include "blkback/store/store.h"

struct fh_uring;

/* A disk in memory: @mem, of the caller's, @n_sectors * 512 bytes. */
struct fh_store_mem {
    struct fh_store store;
    uint8_t *mem;
};

void
fh_store_mem_open(struct fh_store_mem *s, void *mem, uint64_t n_sectors,
                  bool read_only);

/* A disk that answers and does nothing: reads leave memory as it is. */
struct fh_store_null {
    struct fh_store store;
};

void
fh_store_null_open(struct fh_store_null *s, uint64_t n_sectors, bool read_only);

/* A file or block device through the worker's io_uring. */
struct fh_store_uring {
    struct fh_store store;
    struct fh_uring *u;
    int place; /* in the ring's table of files; 0: closed */
};

/*
 * fh_store_uring_open - make a store of an open file
 *
 * @fd:     may be closed afterwards: the ring keeps the file
 * @info:   size, alignment, read_only; copied
 * @direct: @fd is O_DIRECT; refused (FH_EINVAL) for an alignment above 512
 *
 * Returns 0 or a negative error.
 */
FH_MUST_CHECK int
fh_store_uring_open(struct fh_store_uring *s, struct fh_uring *u, int fd,
                    const struct fh_store_info *info, bool direct);

/* The null store that answers after @latency_ns. */
struct fh_store_delay {
    struct fh_store store;
    struct fh_uring *u;
    struct __kernel_timespec latency;
};

void
fh_store_delay_open(struct fh_store_delay *s, struct fh_uring *u,
                    uint64_t n_sectors, uint32_t latency_ns, bool read_only);
