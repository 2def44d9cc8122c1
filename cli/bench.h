/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the parts of `freehold bench` share: the options, and the area of
 * memory between the command and each of its guests.
 *
 * A guest is a process in a domain of its own.  It gets one descriptor: a
 * memfd with a struct fh_bench_area and, behind it, the generation of every
 * block.  The command writes config and phase, the guest everything else.
 */
#include <stdbool.h>
#include <stdint.h>
#include "base/shared.h"
#include "cli/hist.h"

enum {
    FH_BENCH_MAX_GUESTS = 256,
    FH_BENCH_MAX_DEPTH = 512,
    FH_BENCH_AREA_FD = 3, /* in the guest */
};

enum fh_bench_rw {
    FH_BENCH_READ,
    FH_BENCH_WRITE,
    FH_BENCH_RANDREAD,
    FH_BENCH_RANDWRITE,
    FH_BENCH_RANDRW,
};

enum fh_bench_grants {
    FH_BENCH_PERSISTENT,
    FH_BENCH_COPY,
    FH_BENCH_MAP,
};

struct fh_bench_options {
    uint32_t guests;
    uint32_t depth;
    uint64_t block_bytes;
    int rw;     /* enum fh_bench_rw */
    double seconds;
    uint64_t size;
    const char *store;
    int grants; /* enum fh_bench_grants */
    int polling; /* index of {"on", "off"} */
    const char *workers_text;
    uint32_t workers; /* 0: per guest */
    bool verify;
    double kill_every;
    bool ring_limit;
    bool json;
};

enum fh_bench_phase {
    FH_BENCH_WARM,    /* connect, touch every buffer, fill for verification,
                         then keep still: others still connect */
    FH_BENCH_RUN,     /* load, not measured yet */
    FH_BENCH_MEASURE,
    FH_BENCH_STOP,    /* drain and leave */
};

enum fh_bench_state {
    FH_BENCH_STARTING,
    FH_BENCH_READY,
    FH_BENCH_DONE,
    FH_BENCH_FAILED, /* see error */
};

struct fh_bench_config {
    uint32_t guest;
    uint32_t vdev;
    uint32_t domid;
    uint32_t depth;
    uint32_t block_bytes;
    uint32_t rw;
    uint32_t polling;
    uint32_t persistent;
    uint32_t verify;
    uint32_t reserved;
    uint64_t size; /* bytes of the disk that are used */
};

/* Counters only grow. */
struct fh_bench_counts {
    uint64_t requests; /* completed */
    uint64_t errors;
    uint64_t mismatches;
    uint64_t notifies; /* sent to the backend */
    uint64_t syscalls; /* of the data path */
    uint64_t sleeps;
};

struct fh_bench_area {
    struct fh_bench_config config;
    fh_word32 phase; /* enum fh_bench_phase */
    fh_word32 state; /* enum fh_bench_state */
    char error[256];
    struct fh_bench_counts counts;
    uint64_t longest_gap_ns; /* between completions with requests in flight */
    struct fh_hist latency;  /* of the measured phase */
    uint64_t first_bad_sector; /* of a mismatch */
    uint32_t generation[];   /* of each block; its top bit: a write failed */
};

#define FH_BENCH_UNSURE 0x80000000u

static inline uint64_t
fh_bench_blocks(const struct fh_bench_config *c)
{
    return c->size / c->block_bytes;
}

static inline uint64_t
fh_bench_area_bytes(const struct fh_bench_config *c)
{
    return sizeof(struct fh_bench_area) +
           fh_bench_blocks(c) * sizeof(uint32_t);
}
