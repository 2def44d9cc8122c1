/* SPDX-License-Identifier: MIT */
/*
 * The loops that are measured.  Arrays of the ABI are filled once; the only
 * work between a map and its unmap that is not the engine's is to carry the
 * handles over (and, if asked for, to touch the pages).
 *
 * Invariant: every status of every round is looked at: nothing that failed is
 * counted.
 */
#include "bench/gnt/work.h"

#include <pthread.h>
#include <stdio.h>

#include "bench/measure.h"

enum { WARM_UP = 3, FILL = 128 };

const char *const work_case_names[WORK_N_CASES] = {
    "fresh", "pinned", "copy", "copy-pinned", "death"
};
const char *const work_share_names[WORK_N_SHARES] = {
    "disjoint", "lines", "same", "granters"
};

/* One thread's arrays. */
struct hand {
    const struct work_params *p;
    struct bench_machine *m;
    unsigned cpu;
    uint64_t first_slot; /* page-table slots of its own */
    struct gnttab_map_grant_ref *maps;
    struct gnttab_unmap_grant_ref *unmaps;
    struct gnttab_copy *copies;
    pthread_barrier_t *start;
    uint64_t cpu_ns, wall_ns, pairs; /* of the round at hand */
} __attribute__((aligned(64)));

static void
die(const char *what, int status)
{
    fprintf(stderr, "gnt-bench: %s: status %d\n", what, status);
    exit(1);
}

static bool
is_copy(const struct work_params *p)
{
    return p->what == WORK_COPY || p->what == WORK_COPY_PINNED;
}

static bool
is_pinned(const struct work_params *p)
{
    return p->what == WORK_PINNED || p->what == WORK_COPY_PINNED;
}

/* ------------------------------------------------------------- the world -- */

/* The granter that thread @cpu works with. */
static uint16_t
granter_of(const struct work_params *p, unsigned cpu)
{
    return (uint16_t)(BENCH_GRANTER + (p->share == WORK_GRANTERS ? cpu : 0));
}

/* The @i-th reference of thread @cpu.  8 entries make a line. */
static uint32_t
ref_of(const struct work_params *p, unsigned cpu, uint32_t i)
{
    const uint32_t range = (uint32_t)fh_round_up(p->batch, 8);

    switch (p->share) {
    case WORK_DISJOINT:
        return BENCH_FIRST_REF + cpu * range + i;
    case WORK_LINES:
        return BENCH_FIRST_REF + i * p->n_threads + cpu;
    case WORK_SAME:
    case WORK_GRANTERS:
    case WORK_N_SHARES:
        break;
    }
    return BENCH_FIRST_REF + i;
}

/* The first reference that no thread works on. */
static uint32_t
first_other(const struct work_params *p)
{
    return BENCH_FIRST_REF +
           (uint32_t)fh_round_up(p->batch, 8) * p->n_threads;
}

static void
grant_all(struct bench_machine *m, const struct work_params *p)
{
    for (uint32_t g = 0; g < m->n_granters; g++) {
        struct bench_domain *d = &m->domains[BENCH_GRANTER + g];

        for (uint32_t ref = BENCH_FIRST_REF; ref < d->n_entries; ref++)
            fh_gnt_v1_grant(d->table, ref, BENCH_MAPPER,
                            (uint32_t)(d->first_mfn + ref),
                            is_copy(p) || p->readonly);
    }
}

static uint32_t
map_flags(const struct work_params *p)
{
    return GNTMAP_host_map | (p->readonly || is_copy(p) ? GNTMAP_readonly : 0);
}

/* Maps that stay: @n of them, the @i-th of reference @ref(i). */
static void
map_some(struct bench_machine *m, const struct work_params *p,
         const struct gnttab_map_grant_ref *wanted, uint32_t n)
{
    struct gnttab_map_grant_ref ops[FILL];

    memcpy(ops, wanted, n * sizeof(*ops));
    p->engine->map(m, 0, &m->domains[BENCH_MAPPER], ops, n);
    for (uint32_t i = 0; i < n; i++)
        if (ops[i].status)
            die("a mapping that is to stay", ops[i].status);
}

static void
add_live(struct bench_machine *m, const struct work_params *p, uint64_t slot,
         uint32_t n, bool working)
{
    const uint32_t first = is_pinned(p) ? BENCH_FIRST_REF : first_other(p);
    const uint32_t n_others = m->domains[BENCH_GRANTER].n_entries - first;
    struct gnttab_map_grant_ref ops[FILL];
    uint32_t fill = 0;

    for (uint32_t i = 0; i < n; i++) {
        ops[fill++] = (struct gnttab_map_grant_ref){
            .host_addr = bench_addr(slot + i),
            .flags = map_flags(p),
            .ref = working ? ref_of(p, i / p->batch, i % p->batch)
                           : first + i % n_others,
            .dom = working ? granter_of(p, i / p->batch) : BENCH_GRANTER,
        };
        if (fill == FILL || i + 1 == n) {
            map_some(m, p, ops, fill);
            fill = 0;
        }
    }
}

static struct bench_machine *
make_machine(const struct work_params *p)
{
    struct bench_machine *m = bench_zeroed(sizeof(*m));
    const uint32_t working = p->batch * p->n_threads;
    const uint32_t n_entries = p->frames * FH_GNT_V1_PER_FRAME;

    m->n_threads = p->n_threads;
    m->n_cpus = p->cpus;
    m->n_granters = p->share == WORK_GRANTERS ? p->n_threads : 1;
    m->flush_ns = p->flush_us * 1000ull;
    m->iommu = p->iommu;
    m->max_handles = p->live + 2 * working + 64 * p->n_threads;
    if (first_other(p) >= n_entries) {
        fprintf(stderr, "gnt-bench: --frames %u is too few\n", p->frames);
        exit(2);
    }
    bench_machine_init(m, n_entries, p->live + 2 * working);
    p->engine->init(m);
    grant_all(m, p);
    add_live(m, p, 2ull * working, p->live, false);
    if (is_pinned(p))
        add_live(m, p, working, working, true);
    return m;
}

/* ----------------------------------------------------------- one thread -- */

static void
make_hand(struct hand *h, const struct work_params *p, struct bench_machine *m,
          unsigned cpu)
{
    const uint64_t own = m->domains[BENCH_MAPPER].first_mfn;

    *h = (struct hand){ .p = p, .m = m, .cpu = cpu,
                        .first_slot = (uint64_t)cpu * p->batch };
    h->maps = bench_zeroed(p->batch * sizeof(*h->maps));
    h->unmaps = bench_zeroed(p->batch * sizeof(*h->unmaps));
    h->copies = bench_zeroed(p->batch * sizeof(*h->copies));
    for (uint32_t i = 0; i < p->batch; i++) {
        const uint32_t ref = ref_of(p, cpu, i);

        h->maps[i] = (struct gnttab_map_grant_ref){
            .host_addr = bench_addr(h->first_slot + i),
            .flags = map_flags(p),
            .ref = ref,
            .dom = granter_of(p, cpu),
        };
        h->unmaps[i].host_addr = h->maps[i].host_addr;
        h->copies[i] = (struct gnttab_copy){
            .source = { .u.ref = ref, .domid = granter_of(p, cpu) },
            .dest = { .u.gmfn = own + ref, .domid = DOMID_SELF },
            .len = BENCH_PAGE_BYTES,
            .flags = GNTCOPY_source_gref,
        };
    }
}

/* Not inlined: valgrind --tool=callgrind --toggle-collect=do_map finds it. */
static __attribute__((noinline)) void
do_map(void *arg)
{
    struct hand *h = arg;

    h->p->engine->map(h->m, h->cpu, &h->m->domains[BENCH_MAPPER], h->maps,
                      h->p->batch);
}

static __attribute__((noinline)) void
do_unmap(void *arg)
{
    struct hand *h = arg;

    h->p->engine->unmap(h->m, h->cpu, &h->m->domains[BENCH_MAPPER], h->unmaps,
                        h->p->batch);
}

static __attribute__((noinline)) void
do_copy(void *arg)
{
    struct hand *h = arg;

    h->p->engine->copy(h->m, h->cpu, &h->m->domains[BENCH_MAPPER], h->copies,
                       h->p->batch);
}

/* Between map and unmap: the handles, and what the guest does. */
static void
carry(struct hand *h)
{
    fh_word64 *ptes = h->m->domains[BENCH_MAPPER].ptes + 1 + h->first_slot;

    for (uint32_t i = 0; i < h->p->batch; i++) {
        if (h->maps[i].status)
            die("map", h->maps[i].status);
        h->unmaps[i].handle = h->maps[i].handle;
        if (h->p->touched)
            fh_store_relaxed64(&ptes[i], ptes[i] | BENCH_ACCESSED);
    }
}

static void
check_end(const struct hand *h)
{
    for (uint32_t i = 0; i < h->p->batch; i++) {
        const int status =
            is_copy(h->p) ? h->copies[i].status : h->unmaps[i].status;

        if (status)
            die(is_copy(h->p) ? "copy" : "unmap", status);
    }
}

static void
round_trip(struct hand *h)
{
    if (is_copy(h->p)) {
        do_copy(h);
    } else {
        do_map(h);
        carry(h);
        do_unmap(h);
    }
    check_end(h);
}

/* ------------------------------------------------------------- counting -- */

static void
count(struct hand *h, struct work_result *r)
{
    const double n = h->p->batch;
    struct counted c;

    count_reset();
    if (is_copy(h->p)) {
        count_add(do_copy, h);
    } else {
        count_add(do_map, h);
        c = count_result();
        r->map_instructions = (double)c.instructions / n;
        r->map_locked = (double)c.locked / n;
        carry(h);
        count_add(do_unmap, h);
    }
    check_end(h);
    c = count_result();
    r->instructions = (double)c.instructions / n;
    r->locked = (double)c.locked / n;
    r->fences = (double)c.fences / n;
    r->lines = (double)c.lines / n;
    r->unknown_operands = c.unknown;
}

/* --------------------------------------------------------------- timing -- */

static uint64_t
cpu_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void *
run_hand(void *arg)
{
    struct hand *h = arg;
    const uint32_t turns = h->p->batch < 256 ? 256 / h->p->batch : 1;
    uint64_t wall, cpu, until;

    pthread_barrier_wait(h->start);
    wall = measure_now_ns();
    cpu = cpu_now_ns();
    until = wall + h->p->ms * 1000000ull / FH_MEASURE_ROUNDS;
    h->pairs = 0;
    do {
        for (uint32_t i = 0; i < turns; i++)
            round_trip(h);
        h->pairs += (uint64_t)turns * h->p->batch;
    } while (measure_now_ns() < until);
    h->cpu_ns = cpu_now_ns() - cpu;
    h->wall_ns = measure_now_ns() - wall;
    return NULL;
}

/* All threads at once; adds to the totals, keeps the best time. */
static void
run_round(struct hand *hands, const struct work_params *p,
          struct work_result *r)
{
    pthread_barrier_t start;
    pthread_t threads[BENCH_MAX_CPUS];
    double ns = 0, wall = 0;

    pthread_barrier_init(&start, NULL, p->n_threads);
    for (uint32_t t = 0; t < p->n_threads; t++) {
        hands[t].start = &start;
        if (pthread_create(&threads[t], NULL, run_hand, &hands[t]))
            die("a thread", -1);
    }
    for (uint32_t t = 0; t < p->n_threads; t++) {
        pthread_join(threads[t], NULL);
        ns += (double)hands[t].cpu_ns / (double)hands[t].pairs / p->n_threads;
        wall += (double)hands[t].wall_ns / (double)hands[t].pairs /
                p->n_threads;
        r->n_pairs += hands[t].pairs;
    }
    pthread_barrier_destroy(&start);
    if (r->ns < 0 || ns < r->ns)
        r->ns = ns;
    if (r->wall_ns < 0 || wall < r->wall_ns)
        r->wall_ns = wall;
}

/* Flushes and the like since @before, per operation. */
static void
take_counters(const struct bench_machine *m, const struct bench_cpu *before,
              uint64_t pairs, bool copies, struct work_result *r)
{
    struct bench_cpu sum = { 0 };

    for (uint32_t t = 0; t < m->n_threads; t++) {
        sum.flushes += m->cpu[t].flushes - before[t].flushes;
        sum.iotlb_flushes += m->cpu[t].iotlb_flushes - before[t].iotlb_flushes;
        sum.interrupted += m->cpu[t].interrupted - before[t].interrupted;
        sum.spins += m->cpu[t].spins - before[t].spins;
    }
    r->flushes = (double)sum.flushes / (double)pairs;
    r->iotlb_flushes = (double)sum.iotlb_flushes / (double)pairs;
    r->interrupted = (double)sum.interrupted / (double)pairs;
    r->retries = (double)sum.spins / (double)(copies ? pairs : 2 * pairs);
}

static void
measure_pairs(struct bench_machine *m, const struct work_params *p,
              struct work_result *r)
{
    struct hand *hands = bench_zeroed(p->n_threads * sizeof(*hands));
    struct bench_cpu before[BENCH_MAX_CPUS];
    uint64_t pairs = p->batch;

    for (uint32_t t = 0; t < p->n_threads; t++)
        make_hand(&hands[t], p, m, t);
    for (int i = 0; i < WARM_UP; i++)
        round_trip(&hands[0]);
    memcpy(before, m->cpu, sizeof(before));
    if (p->counts && count_available())
        count(&hands[0], r);
    else
        round_trip(&hands[0]);
    if (p->times) {
        memcpy(before, m->cpu, sizeof(before));
        for (int i = 0; i < FH_MEASURE_ROUNDS; i++)
            run_round(hands, p, r);
        pairs = r->n_pairs;
    }
    take_counters(m, before, pairs, is_copy(p), r);
}

/* ---------------------------------------------------------------- death -- */

static void
measure_death(struct bench_machine *m, const struct work_params *p,
              struct work_result *r)
{
    struct bench_release release = { 0 };
    uint64_t total = 0, before = m->cpu[0].flushes;

    while (!release.done) {
        const uint64_t start = cpu_now_ns();
        uint64_t spent;

        p->engine->release(m, &m->domains[BENCH_MAPPER], p->budget, &release);
        spent = cpu_now_ns() - start;
        total += spent;
        r->step_ns[spent ? 63 - __builtin_clzll(spent) : 0]++;
        r->n_steps++;
        if (release.units > r->longest_units)
            r->longest_units = release.units;
    }
    r->n_pairs = p->live;
    r->ns = p->live ? (double)total / p->live : 0;
    r->flushes = p->live ? (double)(m->cpu[0].flushes - before) / p->live : 0;
    for (uint32_t ref = BENCH_FIRST_REF; ref < p->frames * 512; ref++)
        if (m->domains[BENCH_GRANTER].table[ref].flags &
            (GTF_reading | GTF_writing))
            die("the mapper died and an entry is in use", (int)ref);
}

void
work_run(const struct work_params *p, struct work_result *r)
{
    struct bench_machine *m = make_machine(p);

    *r = (struct work_result){ .ns = -1, .wall_ns = -1, .instructions = -1,
                               .locked = -1, .fences = -1, .lines = -1,
                               .map_instructions = -1, .map_locked = -1,
                               .retries = -1, .longest_units = -1 };
    if (p->what == WORK_DEATH)
        measure_death(m, p, r);
    else
        measure_pairs(m, p, r);
}
