/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A store: where a disk's sectors live.  One small table of operations;
 * uring, mem and null implement it, the simulator brings one of its own, and
 * filters (later) wrap another one.
 *
 * Life: an open function of the store's own file makes one (sized, with its
 * info filled), close() ends it; no I/O may be outstanding then.
 * Threads: the worker's one thread.  Only drain() may block.
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/err.h>

/* submit() finished the I/O itself; io->result is set, done() is not called. */
enum { FH_STORE_DONE = 1 };

enum fh_store_op {
    FH_STORE_READ,
    FH_STORE_WRITE,
    FH_STORE_FLUSH, /* everything completed before is on stable storage after */
};

struct fh_store_vec {
    void *base;
    uint32_t bytes; /* multiple of 512 */
};

/* One I/O.  The caller's memory, unchanged and alive until it is done. */
struct fh_store_io {
    enum fh_store_op op;
    uint64_t offset;                /* bytes, multiple of 512 */
    const struct fh_store_vec *vec; /* contents, in order */
    uint32_t n_vecs;
    int32_t buffer;   /* index of the registered buffer that holds all of vec,
                         or -1 */
    int32_t result;   /* written: 0, or a negative error */
    void (*done)(struct fh_store_io *io);
    uint64_t priv[4]; /* the store's own */
};

struct fh_store_info {
    uint64_t n_sectors;             /* 512-byte units */
    uint32_t physical_sector_bytes; /* hint for the guest */
    uint32_t alignment; /* bytes that offset, length and memory of an I/O must
                           be multiples of; 512 where anything goes */
    bool read_only;
    bool synchronous;   /* submit() always answers FH_STORE_DONE: memory; data
                           may come straight from and go straight to granted
                           pages */
};

struct fh_store;

struct fh_store_ops {
    /* Starts @io.  Returns 0: done() comes later, from reap(); FH_STORE_DONE;
     * or a negative error: nothing was started.  FH_EAGAIN: too many. */
    int (*submit)(struct fh_store *s, struct fh_store_io *io);
    /* Hands everything submitted to the kernel, in one call. */
    int (*kick)(struct fh_store *s);
    /* Calls done() for what has finished; how many that were. */
    uint32_t (*reap)(struct fh_store *s);
    void (*close)(struct fh_store *s);
};

struct fh_store {
    const struct fh_store_ops *ops;
    struct fh_store_info info;
};
