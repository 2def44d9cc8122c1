/* SPDX-License-Identifier: MIT */
/*
 * run: the whole thing for somebody who has just cloned it.  A private world,
 * an image, four guests, killed workers, other people's tools as judges, three
 * measurements, a verdict.  run.h says which file does what.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/place.h"
#include "cli/run.h"

#define AT(member) offsetof(struct run_options, member)

static const struct fh_opt options[] = {
    { .name = "rw", .kind = FH_OPT_FLAG, .offset = AT(writable),
      .help = "let one guest write to IMAGE.  It writes back what it\n"
              "read, so the contents stay the same" },
    { .name = "seconds", .kind = FH_OPT_SECONDS, .offset = AT(seconds),
      .arg = "N", .min = 1000, .max = 3600000,
      .help = "of load, while workers are killed (default 5)" },
    { .name = "bench-seconds", .kind = FH_OPT_SECONDS,
      .offset = AT(bench_seconds), .arg = "N", .min = 1000, .max = 600000,
      .help = "of each of the three measurements (default 3)" },
    { .name = "no-bench", .kind = FH_OPT_FLAG, .offset = AT(no_bench),
      .help = "leave the measurements out" },
    { .name = "json", .kind = FH_OPT_FLAG, .offset = AT(json),
      .help = "print the result as JSON on stdout" },
};

static const struct fh_opt_cmd run_cmd = {
    .name = "run",
    .args = "[IMAGE]",
    .text =
        "Shows the whole thing: starts a private local hypervisor and "
        "backend, serves\n"
        "an image to four guests, kills workers under them, checks every "
        "byte and file\n"
        "that came out, and measures persistent grants against grant "
        "copy and plain\n"
        "mapping. Nothing is left behind, also after Ctrl-C.\n"
        "\n"
        "Without IMAGE an ext4 image with real files is made. An IMAGE "
        "of your own, of\n"
        "any content, is only read unless --rw is given.\n"
        "\n"
        "  freehold run\n"
        "  freehold run debian.img\n",
    .options = options,
    .n_options = FH_ARRAY_SIZE(options),
    .max_args = 1,
};

static int
start_world(struct run *r)
{
    const struct fh_env_backend backend = FH_ENV_BACKEND;

    if (fh_env_start_hv(r->env) || fh_env_start_backend(r->env, &backend))
        return FH_EXIT_FAILURE;
    run_say("started a local hypervisor and the backend; isolation of domains "
            "is %s",
            r->env->isolated ? "on: each has a uid of its own"
                             : "off: that needs root");
    return 0;
}

static double
seconds_since(const struct timespec *began)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - began->tv_sec) +
           (double)(now.tv_nsec - began->tv_nsec) / 1e9;
}

static int
verdict(struct run *r, const struct timespec *began)
{
    const double seconds = seconds_since(began);
    struct json_object *o;
    int status = r->failed ? FH_EXIT_FAILURE : FH_EXIT_OK;

    run_say("%s, in %.0f s", r->failed ? "FAILED" : "all of it held", seconds);
    if (!r->o->json)
        return status;
    o = json_object_new_object();
    json_object_object_add(o, "ok", json_object_new_boolean(!r->failed));
    json_object_object_add(o, "seconds", json_object_new_double(seconds));
    json_object_object_add(o, "isolation",
                           json_object_new_boolean(r->env->isolated));
    json_object_object_add(o, "checks", json_object_get(r->checks));
    json_object_object_add(o, "bench", json_object_get(r->bench));
    if (fh_place_print_json(o))
        status = FH_EXIT_FAILURE;
    json_object_put(o);
    return status;
}

/* What the tools that it calls must find; sbin is not in everybody's PATH. */
static void
set_environment(const struct fh_env *env)
{
    const char *path = getenv("PATH");
    char longer[4096];

    snprintf(longer, sizeof(longer), "%.3900s:/usr/local/sbin:/usr/sbin:/sbin",
             path ? path : "/usr/local/bin:/usr/bin:/bin");
    setenv("PATH", longer, 1);
    setenv(FH_ENV_PARENT, env->dir, 1);
    setenv(FH_ENV_WORK_PARENT, env->work_dir, 1);
}

static int
body(struct fh_env *env, void *arg)
{
    struct run r = { .o = arg, .env = env, .tty = isatty(STDERR_FILENO),
                     .checks = json_object_new_object() };
    struct timespec began;

    clock_gettime(CLOCK_MONOTONIC, &began);
    set_environment(env);
    if (run_image_prepare(&r) || run_image_own(&r) || start_world(&r) ||
        run_load_start(&r) || run_load_watch(&r) || run_load_end(&r) ||
        run_image_check(&r))
        return FH_EXIT_FAILURE;
    if (!r.o->no_bench && run_bench(&r))
        return FH_EXIT_FAILURE;
    return verdict(&r, &began);
}

int
cmd_run(int argc, char **argv)
{
    struct run_options o = { .seconds = 5, .bench_seconds = 3 };
    int r;

    r = fh_opt_parse(&run_cmd, &o, &argc, &argv);
    if (r != FH_OPT_GO)
        return r;
    o.image = argc ? argv[0] : NULL;
    if (o.writable && !o.image)
        return fh_opt_usage(&run_cmd, "--rw is for an IMAGE of yours; the one "
                                      "that is made is served read-only");
    return fh_env_guard("run", body, &o);
}
