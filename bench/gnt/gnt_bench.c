/* SPDX-License-Identifier: MIT */
/*
 * gnt-bench: what a map and its unmap cost, for five engines on one machine.
 *
 *   gnt-bench --engine freehold|one-lock|percpu|buckets|fast-entry
 *             --case fresh|pinned|copy|copy-pinned|death
 *             [--live N] [--threads N] [--batch N] [--flush-us N] [--iommu]
 *             [--frames N] [--readonly] [--touched] [--lfence]
 *             [--share disjoint|lines|same|granters] [--cpus N] [--budget N]
 *             [--ms N] [--counts] [--times] [--json]
 *
 * --live     mappings that exist beside (death: that die)
 * --frames   grant frames of each granter, 512 entries each
 * --lfence   the engine's branches hardened as upstream's are (percpu only)
 * --cpus     processors that a flush may have to interrupt
 * --budget   mappings that one step of a teardown may end
 * --counts   only what is counted, --times only what is timed; else both
 *
 * Instructions, locked ones and cache lines are of one batch in a single
 * thread, executed step by step; times are the CPU time of the threads, the
 * best of five rounds.  Exit status: 0, 1 failed, 2 bad usage.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#include "bench/gnt/work.h"
#include "bench/measure.h"

static const struct bench_engine *const engines[] = {
    &engine_freehold, &engine_one_lock,   &engine_percpu,
    &engine_buckets,  &engine_fast_entry,
};

static void
usage(void)
{
    fprintf(stderr, "usage: gnt-bench --engine NAME --case NAME [--live N] "
                    "[--threads N] [--batch N]\n  [--flush-us N] [--iommu] "
                    "[--frames N] [--readonly] [--touched] [--lfence]\n  "
                    "[--share NAME] [--cpus N] [--budget N] [--ms N] "
                    "[--counts] [--times] [--json]\n");
    exit(2);
}

static const struct bench_engine *
engine_named(const char *name)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(engines); i++)
        if (!strcmp(engines[i]->name, name))
            return engines[i];
    fprintf(stderr, "gnt-bench: no engine '%s'\n", name);
    exit(2);
}

static unsigned
one_of(const char *name, const char *const *names, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (!strcmp(names[i], name))
            return i;
    fprintf(stderr, "gnt-bench: '%s' is not known\n", name);
    exit(2);
}

/* As measure_number(), but 0 is fine. */
static uint32_t
number(const char *text, uint32_t max)
{
    return strcmp(text, "0") ? measure_number(text, max) : 0;
}

static const struct option options[] = {
    { "engine", required_argument, NULL, 'e' },
    { "case", required_argument, NULL, 'c' },
    { "live", required_argument, NULL, 'l' },
    { "threads", required_argument, NULL, 't' },
    { "batch", required_argument, NULL, 'b' },
    { "flush-us", required_argument, NULL, 'f' },
    { "frames", required_argument, NULL, 'F' },
    { "share", required_argument, NULL, 's' },
    { "cpus", required_argument, NULL, 'p' },
    { "budget", required_argument, NULL, 'B' },
    { "ms", required_argument, NULL, 'm' },
    { "iommu", no_argument, NULL, 'i' },
    { "readonly", no_argument, NULL, 'r' },
    { "touched", no_argument, NULL, 'T' },
    { "lfence", no_argument, NULL, 'L' },
    { "counts", no_argument, NULL, 'C' },
    { "times", no_argument, NULL, 'M' },
    { "json", no_argument, NULL, 'j' },
    { 0 },
};

static void
take_number(struct work_params *p, int c)
{
    switch (c) {
    case 'l':
        p->live = number(optarg, 16000000);
        break;
    case 't':
        p->n_threads = measure_number(optarg, BENCH_MAX_CPUS);
        break;
    case 'b':
        p->batch = measure_number(optarg, 4096);
        break;
    case 'f':
        p->flush_us = number(optarg, 1000000);
        break;
    case 'F':
        p->frames = measure_number(optarg, 1024);
        break;
    case 'p':
        p->cpus = measure_number(optarg, 4096);
        break;
    case 'B':
        p->budget = measure_number(optarg, UINT32_MAX);
        break;
    case 'm':
        p->ms = measure_number(optarg, 60000);
        break;
    default:
        usage();
    }
}

static void
take_switch(struct work_params *p, int c, const char **engine)
{
    switch (c) {
    case 'e':
        *engine = optarg;
        break;
    case 'c':
        p->what = one_of(optarg, work_case_names, WORK_N_CASES);
        break;
    case 's':
        p->share = one_of(optarg, work_share_names, WORK_N_SHARES);
        break;
    case 'i':
        p->iommu = true;
        break;
    case 'r':
        p->readonly = true;
        break;
    case 'T':
        p->touched = true;
        break;
    case 'L':
        p->lfence = true;
        break;
    case 'C':
        p->times = false;
        break;
    case 'M':
        p->counts = false;
        break;
    case 'j':
        break; /* there is no other form */
    default:
        take_number(p, c);
    }
}

static void
parse(struct work_params *p, int argc, char **argv)
{
    const char *engine = NULL;
    int c;

    *p = (struct work_params){ .what = WORK_N_CASES, .n_threads = 1,
                               .batch = 32, .frames = 64, .cpus = 24,
                               .budget = 256, .ms = 200, .counts = true,
                               .times = true };
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_switch(p, c, &engine);
    if (!engine || p->what == WORK_N_CASES || optind < argc)
        usage();
    p->engine = engine_named(engine);
    if (p->lfence && p->engine != &engine_percpu) {
        fprintf(stderr, "gnt-bench: --lfence is for percpu only\n");
        exit(2);
    }
    if (p->lfence)
        p->engine = &engine_percpu_fenced;
    if (p->iommu && p->engine->no_iommu) {
        fprintf(stderr, "gnt-bench: %s has no IOMMU accounting\n", engine);
        exit(2);
    }
    if (p->n_threads > 1)
        p->counts = false; /* of one thread only */
}

/* ------------------------------------------------------------------ JSON -- */

static void
print_figure(const char *name, double value)
{
    if (value < 0)
        printf("\"%s\": null, ", name);
    else
        printf("\"%s\": %.4f, ", name, value);
}

static void
print_params(const struct work_params *p)
{
    printf("{\"engine\": \"%s\", \"case\": \"%s\", \"live\": %u, "
           "\"threads\": %u, \"batch\": %u, \"flush_us\": %u, "
           "\"frames\": %u, \"share\": \"%s\", \"cpus\": %u, "
           "\"iommu\": %s, \"readonly\": %s, \"touched\": %s, "
           "\"lfence\": %s, ",
           p->engine->name, work_case_names[p->what], p->live, p->n_threads,
           p->batch, p->flush_us, p->frames, work_share_names[p->share],
           p->cpus, p->iommu ? "true" : "false", p->readonly ? "true" : "false",
           p->touched ? "true" : "false", p->lfence ? "true" : "false");
}

static void
print_histogram(const struct work_result *r)
{
    const char *between = "";

    printf("\"steps\": %" PRIu64 ", \"step_cpu_ns\": {", r->n_steps);
    for (unsigned i = 0; i < WORK_BUCKETS; i++) {
        if (!r->step_ns[i])
            continue;
        printf("%s\"%" PRIu64 "\": %" PRIu64, between, (uint64_t)1 << i,
               r->step_ns[i]);
        between = ", ";
    }
    printf("}, ");
}

static void
print_result(const struct work_result *r)
{
    print_figure("ns_per_pair", r->ns);
    print_figure("wall_ns_per_pair", r->wall_ns);
    print_figure("instructions_per_pair", r->instructions);
    print_figure("map_instructions", r->map_instructions);
    print_figure("locked_per_pair", r->locked);
    print_figure("map_locked", r->map_locked);
    print_figure("fences_per_pair", r->fences);
    print_figure("cache_lines_per_pair", r->lines);
    print_figure("flushes_per_unmap", r->flushes);
    print_figure("iotlb_flushes_per_unmap", r->iotlb_flushes);
    print_figure("cpus_interrupted_per_unmap", r->interrupted);
    print_figure("retries_per_op", r->retries);
    if (r->n_steps)
        print_histogram(r);
    print_figure("longest_step_units", (double)r->longest_units);
    printf("\"unknown_operands\": %" PRIu64 ", \"pairs\": %" PRIu64 "}\n",
           r->unknown_operands, r->n_pairs);
}

int
main(int argc, char **argv)
{
    struct work_params p;
    struct work_result r;

    parse(&p, argc, argv);
    work_run(&p, &r);
    print_params(&p);
    print_result(&r);
    return 0;
}
