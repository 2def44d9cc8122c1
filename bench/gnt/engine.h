/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What gnt-bench asks of a grant-table engine.  All of them take the same
 * arrays of the ABI and the same machine; each keeps its own books.
 */
#include "bench/gnt/machine.h"

/* How many units of work, that is mappings, each step of a teardown does. */
struct bench_release {
    uint64_t cursor;
    uint32_t units; /* of the step that was made */
    bool done;
};

struct bench_engine {
    const char *name;
    bool no_iommu; /* it does not count I/O mappings */
    /* After the machine: for every domain of it. */
    void (*init)(struct bench_machine *m);
    void (*map)(struct bench_machine *m, unsigned cpu,
                struct bench_domain *caller, struct gnttab_map_grant_ref *ops,
                uint32_t n);
    void (*unmap)(struct bench_machine *m, unsigned cpu,
                  struct bench_domain *caller,
                  struct gnttab_unmap_grant_ref *ops, uint32_t n);
    /* NULL: not written */
    void (*copy)(struct bench_machine *m, unsigned cpu,
                 struct bench_domain *caller, struct gnttab_copy *ops,
                 uint32_t n);
    /* One step, as long as the engine does not let go; @budget in mappings,
     * for one that can be told. */
    void (*release)(struct bench_machine *m, struct bench_domain *mapper,
                    uint32_t budget, struct bench_release *r);
};

extern const struct bench_engine engine_freehold;
extern const struct bench_engine engine_one_lock;
extern const struct bench_engine engine_percpu;
extern const struct bench_engine engine_percpu_fenced;
extern const struct bench_engine engine_buckets;
extern const struct bench_engine engine_fast_entry;
