/* SPDX-License-Identifier: MIT */
/*
 * serve: the supervisor as a process, and the hidden entry of its workers.
 *
 * In the local world it must run on fhv's libraries, so it executes itself
 * once more as a program of domain 0; FREEHOLD_DOMID tells it that this has
 * happened.
 */
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <freehold/err.h>

#include "base/arith.h"
#include "blkback/supervisor.h"
#include "blkback/worker_main.h"
#include "cli/cli.h"
#include "cli/hvtalk.h"
#include "cli/launch.h"
#include "cli/opt.h"
#include "cli/place.h"
#include "hv/abi.h"
#include "hv/limits.h"

enum { WORLD_AUTO, WORLD_LOCAL, WORLD_XEN };
enum { POLLING_ON, POLLING_OFF };
enum { BROKER_AUTO, BROKER_ON, BROKER_OFF };

static const char *const worlds[] = { "auto", "local", "xen", NULL };
static const char *const on_off[] = { "on", "off", NULL };
static const char *const broker_names[] = { "auto", "on", "off", NULL };
static const char *const grant_names[] = { "auto", "copy", "map", NULL };

struct serve_options {
    const char *run_dir;
    const char *workers;
    int world;
    int polling;
    uint32_t poll_max_us;
    int grants;
    int broker;
    int sandbox;
    uint32_t max_order;
    uint32_t max_indirect;
    uint32_t uid_base;
    uint32_t memlock_mib;
    uint32_t ready_fd;
    uint32_t kill_after;
    uint32_t lonely_s;
    bool no_fence;
    bool keep_workers;
    bool last;
    bool verbose;
};

#define AT(member) offsetof(struct serve_options, member)

static const struct fh_opt serve_opts[] = {
    { .name = "workers", .kind = FH_OPT_STRING, .offset = AT(workers),
      .arg = "HOW", .help = "per-guest (default: guests are apart), or a\n"
                            "number: so many processes for all guests" },
    { .name = "polling", .kind = FH_OPT_CHOICE, .offset = AT(polling),
      .arg = "on|off", .choices = on_off,
      .help = "spin for a moment before sleeping, while nobody\n"
              "else wants the CPU (default on)" },
    { .name = "poll-max-us", .kind = FH_OPT_NUMBER, .offset = AT(poll_max_us),
      .arg = "N", .max = 10000, .help = "the longest such spin" },
    { .name = "grants", .kind = FH_OPT_CHOICE, .offset = AT(grants),
      .arg = "HOW", .choices = grant_names,
      .help = "for disks that do not say: auto, copy or map" },
    { .name = "broker", .kind = FH_OPT_CHOICE, .offset = AT(broker),
      .arg = "auto|on|off", .choices = broker_names,
      .help = "a process beside each worker that alone may map and\n"
              "copy grants (default auto: on real Xen)" },
    { .name = "sandbox", .kind = FH_OPT_CHOICE, .offset = AT(sandbox),
      .arg = "on|off", .choices = on_off,
      .help = "workers may make few system calls (default on)" },
    { .name = "max-order", .kind = FH_OPT_NUMBER, .offset = AT(max_order),
      .arg = "N", .max = 4, .help = "ring pages, as a power of two" },
    { .name = "max-indirect", .kind = FH_OPT_NUMBER,
      .offset = AT(max_indirect), .arg = "N", .max = 512,
      .help = "segments of an indirect request (default 256)" },
    { .name = "memlock", .kind = FH_OPT_NUMBER, .offset = AT(memlock_mib),
      .arg = "MIB", .max = 4096,
      .help = "registered buffers of a worker at most" },
    { .name = "uid-base", .kind = FH_OPT_NUMBER, .offset = AT(uid_base),
      .arg = "UID",
      .help = "as root: worker K runs as uid UID + K (default: in\n"
              "the upper half of the local hypervisor's block, on\n"
              "Xen 62000; 0: workers stay root)" },
    { .name = "hypervisor", .kind = FH_OPT_CHOICE, .offset = AT(world),
      .arg = "WHICH", .choices = worlds,
      .help = "local, xen, or auto: local if one runs in the run\n"
              "directory, else Xen" },
    { .name = "keep-workers", .kind = FH_OPT_FLAG, .offset = AT(keep_workers),
      .help = "a signal ends the supervisor alone: workers serve on\n"
              "until the next one takes them over" },
    { .name = "verbose", .letter = 'v', .kind = FH_OPT_FLAG,
      .offset = AT(verbose), .help = "say what happens to each disk" },
    { .name = "run-dir", .kind = FH_OPT_STRING, .offset = AT(run_dir),
      .arg = "DIR", .help = FH_PLACE_RUN_DIR_HELP },
    { .name = "ready-fd", .kind = FH_OPT_NUMBER, .offset = AT(ready_fd),
      .arg = "FD", .max = 1 << 20,
      .help = "write a byte there when disks can be attached" },
    { .name = "kill-after", .kind = FH_OPT_NUMBER, .offset = AT(kill_after),
      .arg = "N", .hidden = true },
    { .name = "lonely", .kind = FH_OPT_NUMBER, .offset = AT(lonely_s),
      .arg = "S", .hidden = true },
    { .name = "last", .kind = FH_OPT_FLAG, .offset = AT(last),
      .hidden = true }, /* of private worlds */
    { .name = "no-fence", .kind = FH_OPT_FLAG, .offset = AT(no_fence),
      .hidden = true },
};

static const struct fh_opt_cmd serve_cmd = {
    .name = "serve",
    .args = "",
    .text =
        "Runs the backend until SIGTERM or SIGINT: a supervisor that speaks "
        "xenstore, and\nworkers that move the data.  Disks are given to guests "
        "with `freehold attach`.\n\n"
        "  freehold hv start && freehold serve       (without Xen)\n"
        "  freehold serve                            (in dom0 or a driver "
        "domain)\n",
    .options = serve_opts,
    .n_options = FH_ARRAY_SIZE(serve_opts),
};

static int
parse_workers(const char *text, uint32_t *n)
{
    uint64_t v;

    *n = 0;
    if (!text || !strcmp(text, "per-guest"))
        return FH_OPT_GO;
    if (!fh_opt_number(text, 1024, &v) || !v)
        return fh_opt_usage(&serve_cmd, "--workers: '%s' is neither per-guest "
                                        "nor a number from 1 to 1024",
                            text);
    *n = (uint32_t)v;
    return FH_OPT_GO;
}

static bool
hv_is_there(const char *hv_dir)
{
    char path[FH_PLACE_PATH + 16];

    snprintf(path, sizeof(path), "%s/control", hv_dir);
    return !access(path, F_OK);
}

/* Workers' uids in the local world: in the hypervisor's block, which nobody
 * else on the machine has, above the domains'.  0: not isolated. */
static uint32_t
local_uids(const char *hv_dir)
{
    struct json_object *status, *base, *isolation;
    uint32_t uids = 0;

    if (fh_hvtalk_status(hv_dir, &status, "serve"))
        return 0;
    if (json_object_object_get_ex(status, "isolation", &isolation) &&
        !strcmp(json_object_get_string(isolation), "on") &&
        json_object_object_get_ex(status, "uid_base", &base))
        uids = (uint32_t)json_object_get_int64(base) + FH_HV_UID_BLOCK / 2;
    json_object_put(status);
    return uids;
}

/* Executes itself as domain 0, with @words ("freehold serve ...") as before and
 * the workers' uids. */
static int
become_domain0(const struct serve_options *o, const char *hv_dir, char **words)
{
    static char option[] = "--uid-base";
    struct fh_program self = FH_PROGRAM_NULL;
    struct fh_launch domain0;
    char uids[16];
    size_t n = 0;

    if (fh_launch_find(&domain0, hv_dir, 0, "serve") ||
        fh_program_open_self(&self, "serve"))
        return FH_EXIT_FAILURE;
    while (words[n])
        n++;
    if (o->uid_base == UINT32_MAX) {
        snprintf(uids, sizeof(uids), "%u", local_uids(hv_dir));
        memmove(words + 4, words + 2, (n - 1) * sizeof(*words));
        words[2] = option;
        words[3] = uids;
    }
    return fh_launch_exec(&domain0, &self, words, false, "serve");
}

/* In the local world becomes domain 0; returns FH_OPT_GO if that is not
 * needed, or an exit status. */
static int
enter_world(const struct serve_options *o, const char *run_dir, char **words)
{
    char hv_dir[FH_PLACE_PATH];

    if (getenv(FH_HV_ENV_DOMID) || o->world == WORLD_XEN)
        return FH_OPT_GO;
    fh_place_hv_dir(hv_dir, run_dir);
    if (!hv_is_there(hv_dir)) {
        if (o->world == WORLD_LOCAL)
            return fh_opt_fail("serve", "no local hypervisor runs in %s; "
                                        "start one with `freehold hv start`",
                               hv_dir);
        if (!access("/dev/xen/evtchn", F_OK))
            return FH_OPT_GO;
        return fh_opt_fail("serve", "neither a local hypervisor (%s) nor Xen "
                                    "(/dev/xen/evtchn) is here; start one "
                                    "with `freehold hv start`",
                           hv_dir);
    }
    return become_domain0(o, hv_dir, words);
}

static struct fh_supervisor_params
supervisor_params(const struct serve_options *o, const char *run_dir)
{
    static const enum fh_wk_broker broker[] = {
        FH_WK_BROKER_AUTO, FH_WK_BROKER_ON, FH_WK_BROKER_OFF
    };
    static const enum fh_device_grants how[] = { FH_DEVICE_GRANTS_AUTO,
                                                 FH_DEVICE_GRANTS_COPY,
                                                 FH_DEVICE_GRANTS_MAP };
    struct fh_supervisor_params p = FH_SUPERVISOR_DEFAULTS;

    p.run_dir = run_dir;
    p.domid = getenv(FH_HV_ENV_DOMID) ? atoi(getenv(FH_HV_ENV_DOMID)) : -1;
    if (o->uid_base != UINT32_MAX)
        p.uid_base = o->uid_base;
    p.grants = how[o->grants];
    p.broker = broker[o->broker];
    p.no_sandbox = o->sandbox != 0;
    p.max_order = o->max_order;
    p.max_indirect = o->max_indirect;
    p.polling = o->polling == POLLING_ON;
    p.poll_max_ns = o->poll_max_us * 1000;
    p.memlock_pages = o->memlock_mib << (20 - FH_PAGE_SHIFT);
    p.verbose = o->verbose;
    p.ready_fd = o->ready_fd == UINT32_MAX ? -1 : (int)o->ready_fd;
    p.no_fence = o->no_fence;
    p.keep_workers = o->keep_workers;
    p.lonely_s = o->lonely_s;
    p.is_last = o->last;
    p.kill_after = o->kill_after;
    return p;
}

/* The words for the second execution, with room for two more: parsing reorders
 * the first ones. */
static char **
keep_words(int argc, char **argv)
{
    static char program[] = "freehold";
    char **words = calloc((size_t)argc + 4, sizeof(*words));

    if (!words)
        return NULL;
    words[0] = program;
    memcpy(words + 1, argv, (size_t)argc * sizeof(*words));
    return words;
}

int
cmd_serve(int argc, char **argv)
{
    struct serve_options o = { .uid_base = UINT32_MAX, .max_order = 4,
                               .ready_fd = UINT32_MAX };
    char **words = keep_words(argc, argv);
    struct fh_supervisor_params p;
    char run_dir[FH_PLACE_PATH];
    uint32_t n_workers;
    int r;

    if (!words)
        return fh_opt_fail("serve", "out of memory");
    r = fh_opt_parse(&serve_cmd, &o, &argc, &argv);
    if (r == FH_OPT_GO)
        r = parse_workers(o.workers, &n_workers);
    if (r != FH_OPT_GO)
        goto out;
    r = FH_EXIT_FAILURE;
    if (fh_place_run_dir(run_dir, o.run_dir, "serve"))
        goto out;
    r = enter_world(&o, run_dir, words);
    if (r != FH_OPT_GO)
        goto out;
    r = FH_EXIT_FAILURE;
    if (fh_place_make_run_dir(run_dir, o.run_dir, "serve"))
        goto out;
    if (o.broker == BROKER_ON && getenv(FH_HV_ENV_DOMID)) {
        r = fh_opt_fail("serve", "--broker on: the local hypervisor has none; "
                                 "brokers are for real Xen");
        goto out;
    }
    prctl(PR_SET_NAME, "freehold-serve");
    p = supervisor_params(&o, run_dir);
    p.n_workers = n_workers;
    r = fh_supervisor_main(&p);
out:
    free(words);
    return r;
}

/* freehold --worker FD: a worker, started by a supervisor. */
int
cmd_worker(int argc, char **argv)
{
    uint64_t fd;

    if (argc != 2 || !fh_opt_number(argv[1], INT32_MAX, &fd)) {
        fprintf(stderr, "freehold --worker FD is for `freehold serve` only\n");
        return FH_EXIT_USAGE;
    }
    prctl(PR_SET_NAME, "freehold-worker");
    return fh_worker_main((int)fd);
}
