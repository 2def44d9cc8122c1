/* SPDX-License-Identifier: MIT */
/* What `freehold bench` prints. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "cli/bench_world.h"

struct result {
    double seconds;
    uint64_t requests;
    double iops;
    uint64_t errors;
    uint64_t mismatches;
    uint64_t restarts;
    double longest_pause_ms;
    double hypercalls, notifies, wakeups, syscalls, cpu_ns; /* per I/O */
    struct fh_hist latency;
};

static double
per_io(uint64_t from, uint64_t to, uint64_t n)
{
    /* A worker that was replaced inside the window counts from 0 again. */
    return n && to > from ? (double)(to - from) / (double)n : 0;
}

static void
sum_up(struct fh_bench_world *w, struct result *r)
{
    const struct fh_bench_sample *a = &w->sample[0], *b = &w->sample[1];
    uint64_t gap = 0;

    memset(r, 0, sizeof(*r));
    r->seconds = (double)(b->at_ns - a->at_ns) / 1e9;
    r->requests = b->requests - a->requests;
    r->iops = (double)r->requests / r->seconds;
    r->mismatches = w->mismatches;
    for (uint32_t i = 0; i < w->opt->guests; i++) {
        const struct fh_bench_area *g = w->guest[i].area;

        r->errors += g->counts.errors;
        r->mismatches += g->counts.mismatches;
        fh_hist_merge(&r->latency, &g->latency);
        if (g->longest_gap_ns > gap)
            gap = g->longest_gap_ns;
    }
    r->restarts = b->restarts - a->restarts;
    r->longest_pause_ms = (double)gap / 1e6;
    r->hypercalls = per_io(a->hypercalls, b->hypercalls, r->requests);
    r->notifies = per_io(a->front_notifies + a->back_notifies,
                         b->front_notifies + b->back_notifies, r->requests);
    r->wakeups = per_io(a->wakeups, b->wakeups, r->requests);
    r->syscalls = per_io(a->front_syscalls + a->back_syscalls,
                         b->front_syscalls + b->back_syscalls, r->requests);
    r->cpu_ns = per_io(a->worker_cpu_ns, b->worker_cpu_ns, r->requests);
}

static const char *
grants_name(const struct fh_bench_options *o)
{
    static const char *const names[] = { "persistent", "copy", "map" };

    return names[o->grants];
}

static const char *
rw_name(const struct fh_bench_options *o)
{
    static const char *const names[] = { "read", "write", "randread",
                                         "randwrite", "randrw" };

    return names[o->rw];
}

static void
add_number(struct json_object *o, const char *key, double v)
{
    char text[40];

    snprintf(text, sizeof(text), "%.6g", v);
    json_object_object_add(o, key, json_object_new_double_s(v, text));
}

static void
add_count(struct json_object *o, const char *key, uint64_t v)
{
    json_object_object_add(o, key, json_object_new_int64((int64_t)v));
}

static void
add_text(struct json_object *o, const char *key, const char *v)
{
    json_object_object_add(o, key, json_object_new_string(v));
}

static struct json_object *
latency_json(const struct fh_hist *h)
{
    struct json_object *o = json_object_new_object();

    add_number(o, "p50", (double)fh_hist_percentile(h, 500) / 1e3);
    add_number(o, "p99", (double)fh_hist_percentile(h, 990) / 1e3);
    add_number(o, "p999", (double)fh_hist_percentile(h, 999) / 1e3);
    add_number(o, "max", (double)h->max_ns / 1e3);
    return o;
}

static struct json_object *
per_io_json(const struct result *r)
{
    struct json_object *o = json_object_new_object();

    add_number(o, "grant_hypercalls", r->hypercalls);
    add_number(o, "notifications", r->notifies);
    add_number(o, "wakeups", r->wakeups);
    add_number(o, "syscalls", r->syscalls);
    return o;
}

/* The window on the wall clock, and the system calls that were counted in it:
 * for whoever compares them with a trace. */
static void
add_window(struct json_object *o, const struct fh_bench_world *w)
{
    const struct fh_bench_sample *a = &w->sample[0], *b = &w->sample[1];
    struct json_object *win = json_object_new_object();
    char text[40];

    snprintf(text, sizeof(text), "%.6f", a->at_s);
    json_object_object_add(win, "from",
                           json_object_new_double_s(a->at_s, text));
    snprintf(text, sizeof(text), "%.6f", b->at_s);
    json_object_object_add(win, "to", json_object_new_double_s(b->at_s, text));
    add_count(win, "guest_syscalls", b->front_syscalls - a->front_syscalls);
    add_count(win, "worker_syscalls", b->back_syscalls - a->back_syscalls);
    json_object_object_add(o, "window", win);
}

static void
add_ring_limit(struct json_object *o, const struct fh_bench_world *w,
               const struct result *r)
{
    const double mean = (w->ring_limit[0] + w->ring_limit[1]) / 2;

    if (!w->opt->ring_limit)
        return;
    add_number(o, "ring_limit_iops", mean);
    add_number(o, "ring_limit_before", w->ring_limit[0]);
    add_number(o, "ring_limit_after", w->ring_limit[1]);
    add_number(o, "of_ring_limit", mean > 0 ? r->iops / mean : 0);
}

static void
print_json(const struct fh_bench_world *w, const struct result *r)
{
    const struct fh_bench_options *p = w->opt;
    struct json_object *o = json_object_new_object();

    add_count(o, "guests", p->guests);
    add_count(o, "depth", p->depth);
    add_count(o, "block_bytes", p->block_bytes);
    add_text(o, "rw", rw_name(p));
    add_text(o, "store", p->store);
    add_text(o, "grants", grants_name(p));
    add_text(o, "polling", p->polling ? "off" : "on");
    add_text(o, "workers", p->workers_text);
    add_count(o, "size_bytes", p->size);
    add_number(o, "seconds", r->seconds);
    add_count(o, "requests", r->requests);
    add_number(o, "iops", r->iops);
    add_number(o, "bytes_per_s", r->iops * (double)p->block_bytes);
    json_object_object_add(o, "latency_us", latency_json(&r->latency));
    json_object_object_add(o, "per_io", per_io_json(r));
    add_count(o, "grant_hypercalls",
              w->sample[1].hypercalls - w->sample[0].hypercalls);
    add_number(o, "worker_cpu_ns_per_io", r->cpu_ns);
    add_count(o, "errors", r->errors);
    add_count(o, "mismatches", r->mismatches);
    add_count(o, "worker_restarts", r->restarts);
    add_number(o, "longest_pause_ms", r->longest_pause_ms);
    add_number(o, "longest_takeover_ms", (double)w->longest_pause_ms);
    add_number(o, "longest_fence_ms", (double)w->longest_fence_ms);
    add_window(o, w);
    add_ring_limit(o, w, r);
    puts(json_object_to_json_string_ext(o, JSON_C_TO_STRING_SPACED));
    json_object_put(o);
}

static void
print_text(const struct fh_bench_world *w, const struct result *r)
{
    const struct fh_bench_options *o = w->opt;
    const struct fh_hist *h = &r->latency;

    printf("%u guest%s, depth %u, %" PRIu64 " bytes %s, store %s, grants %s, "
           "polling %s, workers %s, %.1f s\n",
           o->guests, o->guests > 1 ? "s" : "", o->depth, o->block_bytes,
           rw_name(o), o->store, grants_name(o), o->polling ? "off" : "on",
           o->workers_text, r->seconds);
    printf("  %.0f requests/s, %.1f MiB/s\n", r->iops,
           r->iops * (double)o->block_bytes / (1 << 20));
    printf("  latency us: p50 %.1f, p99 %.1f, p99.9 %.1f, max %.1f\n",
           (double)fh_hist_percentile(h, 500) / 1e3,
           (double)fh_hist_percentile(h, 990) / 1e3,
           (double)fh_hist_percentile(h, 999) / 1e3, (double)h->max_ns / 1e3);
    printf("  per request: %.4g grant hypercalls, %.4g notifications, %.4g "
           "wake-ups, %.4g system calls, %.0f ns of worker CPU\n",
           r->hypercalls, r->notifies, r->wakeups, r->syscalls, r->cpu_ns);
    if (o->kill_every > 0)
        printf("  workers restarted: %" PRIu64 ", longest pause %.1f ms\n",
               r->restarts, r->longest_pause_ms);
    if (o->ring_limit)
        printf("  bare rings: %.0f/s before, %.0f/s after: reached %.1f %%\n",
               w->ring_limit[0], w->ring_limit[1],
               200 * r->iops / (w->ring_limit[0] + w->ring_limit[1]));
    printf("  errors %" PRIu64 ", mismatches %" PRIu64 "%s\n", r->errors,
           r->mismatches, o->verify ? "" : " (contents not verified)");
}

int
fh_bench_report(struct fh_bench_world *w)
{
    static struct result r;

    sum_up(w, &r);
    if (w->opt->json)
        print_json(w, &r);
    else
        print_text(w, &r);
    return r.errors || r.mismatches ? FH_EXIT_FAILURE : FH_EXIT_OK;
}
