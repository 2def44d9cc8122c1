/* SPDX-License-Identifier: MIT */
/* The machine's set-up, and its flushes. */
#include "bench/gnt/machine.h"

#include <stdio.h>
#include <sys/mman.h>

#include "bench/measure.h"

enum { BYTES_FRAMES = 1024 }; /* 4 MiB of contents stand for all frames */

void *
bench_zeroed(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED) {
        perror("gnt-bench: memory");
        exit(1);
    }
    return p;
}

static void
add_domain(struct bench_machine *m, uint16_t domid, uint32_t n_entries,
           uint32_t n_ptes)
{
    struct bench_domain *d = &m->domains[domid];
    struct bench_domain **head = &m->hash[domid % FH_ARRAY_SIZE(m->hash)];

    *d = (struct bench_domain){
        .next = *head,
        .domid = domid,
        .table = bench_zeroed((size_t)n_entries * sizeof(*d->table)),
        .n_entries = n_entries,
        .first_mfn = BENCH_FIRST_MFN + (uint64_t)domid * n_entries,
        .ptes = bench_zeroed(((size_t)n_ptes + 1) * sizeof(*d->ptes)),
        .n_ptes = n_ptes,
    };
    *head = d;
    for (uint32_t i = 0; i < n_entries; i++) {
        struct bench_frame *f = bench_frame_of(m, d->first_mfn + i);

        /* allocated, and mapped by the guest itself */
        *f = (struct bench_frame){ .count = 2, .type = 1, .owner = domid };
    }
}

void
bench_machine_init(struct bench_machine *m, uint32_t n_entries, uint32_t n_ptes)
{
    m->n_frames = (uint64_t)n_entries * (BENCH_GRANTER + m->n_granters);
    m->frames = bench_zeroed(m->n_frames * sizeof(*m->frames));
    m->n_bytes_frames = BYTES_FRAMES;
    m->bytes = bench_zeroed((size_t)BYTES_FRAMES * BENCH_PAGE_BYTES);
    memset(m->bytes, 0x5a, (size_t)BYTES_FRAMES * BENCH_PAGE_BYTES);
    add_domain(m, BENCH_MAPPER, n_entries, n_ptes);
    for (uint32_t i = 0; i < m->n_granters; i++)
        add_domain(m, (uint16_t)(BENCH_GRANTER + i), n_entries, 0);
}

void
bench_flush(struct bench_machine *m, unsigned cpu)
{
    struct bench_cpu *c = &m->cpu[cpu];

    c->flushes++;
    c->interrupted += m->n_cpus - 1;
    if (m->flush_ns) {
        const uint64_t until = measure_now_ns() + m->flush_ns;

        while (measure_now_ns() < until)
            fh_cpu_relax();
    }
}
