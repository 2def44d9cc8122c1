/* SPDX-License-Identifier: MIT */
/*
 * The counters of `freehold bench`: hypercalls from fhv, requests and answers
 * from the backend's statistics, sleeps and CPU time from the kernel.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/shared.h"
#include "cli/bench_world.h"

enum { PATH_BYTES = 4200, LINE_BYTES = 512 };

static uint64_t
number(struct json_object *o, const char *key)
{
    struct json_object *v = NULL;

    return json_object_object_get_ex(o, key, &v)
               ? (uint64_t)json_object_get_int64(v)
               : 0;
}

/* Voluntary context switches of a process: how often it slept. */
static uint64_t
sleeps_of(pid_t pid)
{
    static const char key[] = "voluntary_ctxt_switches:";
    char path[64], line[256];
    unsigned long long n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    while (fgets(line, sizeof(line), f))
        if (!strncmp(line, key, sizeof(key) - 1))
            n = strtoull(line + sizeof(key) - 1, NULL, 10);
    fclose(f);
    return n;
}

/* Nanoseconds that a process has run. */
static uint64_t
cpu_of(pid_t pid)
{
    char path[64];
    unsigned long long ns = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu", &ns) != 1)
        ns = 0;
    fclose(f);
    return ns;
}

static int
ask_backend(struct fh_bench_world *w, struct json_object **reply)
{
    struct json_object *request = json_object_new_object();
    int r;

    json_object_object_add(request, "cmd", json_object_new_string("status"));
    r = fh_env_ctl(w->env, request, reply);
    json_object_put(request);
    return r;
}

static void
at_least(uint64_t *max, uint64_t v)
{
    if (v > *max)
        *max = v;
}

static void
sample_workers(struct fh_bench_world *w, struct json_object *status,
               struct fh_bench_sample *s)
{
    struct json_object *workers = NULL;

    json_object_object_get_ex(status, "workers", &workers);
    for (size_t i = 0; workers && i < json_object_array_length(workers); i++) {
        struct json_object *o = json_object_array_get_idx(workers, i);
        const pid_t pid = (pid_t)number(o, "pid");

        at_least(&w->longest_fence_ms, number(o, "longest_fence_ms"));
        s->back_syscalls += number(o, "syscalls");
        s->restarts += number(o, "restarts");
        if (pid > 0) {
            s->wakeups += sleeps_of(pid);
            s->worker_cpu_ns += cpu_of(pid);
        }
    }
}

static void
sample_devices(struct fh_bench_world *w, struct json_object *status,
               struct fh_bench_sample *s)
{
    struct json_object *devices = NULL;

    json_object_object_get_ex(status, "devices", &devices);
    for (size_t i = 0; devices && i < json_object_array_length(devices); i++) {
        struct json_object *o = json_object_array_get_idx(devices, i);

        s->back_notifies += number(o, "notifies");
        at_least(&w->longest_pause_ms, number(o, "longest_pause_ms"));
    }
}

static int
sample_hv(struct fh_bench_world *w, struct fh_bench_sample *s)
{
    struct json_object *status;

    if (fh_env_hv_status(w->env, &status))
        return 1;
    s->hypercalls = number(json_object_object_get(status, "hypercalls"),
                           "grant_hypercalls");
    json_object_put(status);
    return 0;
}

static double
wall_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int
fh_bench_sample(struct fh_bench_world *w, struct fh_bench_sample *s)
{
    struct json_object *status;

    memset(s, 0, sizeof(*s));
    if (sample_hv(w, s) || ask_backend(w, &status))
        return 1;
    sample_workers(w, status, s);
    sample_devices(w, status, s);
    json_object_put(status);
    for (uint32_t i = 0; i < w->opt->guests; i++) {
        struct fh_bench_counts *c = &w->guest[i].area->counts;

        s->requests += fh_load_relaxed64(&c->requests);
        s->errors += fh_load_relaxed64(&c->errors);
        s->front_notifies += fh_load_relaxed64(&c->notifies);
        s->front_syscalls += fh_load_relaxed64(&c->syscalls);
        s->wakeups += sleeps_of(w->guest[i].pid);
    }
    s->at_ns = fh_bench_now_ns();
    s->at_s = wall_clock();
    return 0;
}

int
fh_bench_ring_limit(struct fh_bench_world *w, double *iops)
{
    const struct fh_bench_options *o = w->opt;
    char exe[PATH_BYTES - 300], cmd[PATH_BYTES], line[LINE_BYTES] = "";
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    struct json_object *result;
    FILE *f;

    if (n < 0)
        return fh_opt_fail("bench", "no /proc/self/exe: %s", strerror(errno));
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    snprintf(cmd, sizeof(cmd),
             "exec '%s/../bench/ring-limit' --pairs %u --depth %u --size %llu "
             "--seconds %d --polling %s --json",
             exe, o->guests, o->depth, (unsigned long long)o->size,
             o->seconds < 2 ? 1 : 2,
             o->polling ? "off" : "on");
    f = popen(cmd, "re");
    if (!f || !fgets(line, sizeof(line), f))
        line[0] = 0;
    if ((f && pclose(f)) || !line[0])
        return fh_opt_fail("bench", "ring-limit failed: %s", cmd + 5);
    result = json_tokener_parse(line);
    *iops = json_object_get_double(json_object_object_get(result, "iops"));
    json_object_put(result);
    return 0;
}
