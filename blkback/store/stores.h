/* SPDX-License-Identifier: MIT */
#pragma once
/* The stores' open functions.  store.h says what a store is. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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
