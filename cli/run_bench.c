/* SPDX-License-Identifier: MIT */
/*
 * The figures of `freehold run`: the same load three times, with persistent
 * grants, grant copy and plain mapping, by `freehold bench --json`.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/opt.h"
#include "cli/run.h"

enum {
    BENCH_TIMEOUT_MS = 60000,
    RESULT_BYTES = 65536,
};

static const char *const modes[] = { "persistent", "copy", "map" };

static struct json_object *
read_result(const char *path)
{
    static char text[RESULT_BYTES];
    FILE *f = fopen(path, "re");
    size_t n = 0;

    if (f) {
        n = fread(text, 1, sizeof(text) - 1, f);
        fclose(f);
    }
    text[n] = 0;
    return n ? json_tokener_parse(text) : NULL;
}

static struct json_object *
run_one(struct run *r, const char *mode)
{
    char path[RUN_PATH], seconds[16];
    const char *const argv[] = {
        "freehold", "bench", "--guests", "4", "--depth", "32", "--bs", "4k",
        "--rw", "randread", "--size", "64m", "--store", "mem", "--grants",
        mode, "--seconds", seconds, "--json", NULL,
    };
    struct fh_env_proc p = { .argv = argv };
    struct json_object *result = NULL;
    int status = -1;
    FILE *out;
    pid_t pid;

    snprintf(seconds, sizeof(seconds), "%g", r->o->bench_seconds);
    snprintf(path, sizeof(path), "%s/bench-%s.json", r->env->work_dir, mode);
    out = fopen(path, "we");
    if (!out)
        return NULL;
    p.out = fileno(out);
    if (!fh_env_run(r->env, &p, &pid) &&
        !fh_env_wait(pid, BENCH_TIMEOUT_MS, &status) && !status)
        result = read_result(path);
    fclose(out);
    return result;
}

/* A member by path, "latency_us.p50"; 0 if there is none. */
static double
value(struct json_object *o, const char *path)
{
    char key[32];

    while (o && *path) {
        size_t n = strcspn(path, ".");

        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        if (!json_object_object_get_ex(o, key, &o))
            return 0;
        path += n + (path[n] == '.');
    }
    return json_object_get_double(o);
}

static void
print_row(struct json_object *results, const char *name, const char *path,
          double scale, int digits)
{
    fprintf(stderr, "  %-34s", name);
    for (size_t i = 0; i < FH_ARRAY_SIZE(modes); i++) {
        struct json_object *one;

        if (!json_object_object_get_ex(results, modes[i], &one) || !one)
            fprintf(stderr, " %14s", "-");
        else
            fprintf(stderr, " %14.*f", digits, value(one, path) * scale);
    }
    fputc('\n', stderr);
}

static void
print_table(struct json_object *results)
{
    fprintf(stderr, "\n  %-34s %14s %14s %14s\n",
            "4 guests, random 4 KiB reads", "persistent", "copy", "map");
    print_row(results, "IOPS, all guests", "iops", 1, 0);
    print_row(results, "latency p50, us", "latency_us.p50", 1, 1);
    print_row(results, "latency p99, us", "latency_us.p99", 1, 1);
    print_row(results, "latency p99.9, us", "latency_us.p999", 1, 1);
    print_row(results, "grant hypercalls per I/O", "per_io.grant_hypercalls",
              1, 4);
    print_row(results, "notifications per I/O", "per_io.notifications", 1, 4);
    print_row(results, "wake-ups per I/O", "per_io.wakeups", 1, 4);
    print_row(results, "system calls per I/O", "per_io.syscalls", 1, 4);
    fprintf(stderr, "\n  (each: freehold bench --guests 4 --depth 32 --bs 4k "
                    "--rw randread --size 64m --store mem)\n");
}

int
run_bench(struct run *r)
{
    r->bench = json_object_new_object();
    for (size_t i = 0; i < FH_ARRAY_SIZE(modes); i++) {
        struct json_object *one = run_one(r, modes[i]);

        if (!one) {
            r->failed = true;
            fh_opt_fail("run", "the measurement with --grants %s failed",
                        modes[i]);
        }
        json_object_object_add(r->bench, modes[i], one);
    }
    print_table(r->bench);
    return 0;
}
