/* SPDX-License-Identifier: MIT */
/* attach, detach, list, status: one question each to the supervisor. */
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <freehold/err.h>

#include "base/arith.h"
#include "blkback/ctl.h"
#include "cli/cli.h"
#include "cli/opt.h"
#include "cli/place.h"

enum {
    CTL_TIMEOUT_MS = 30000,
    MAX_DOMID = 0x7fef, /* DOMID_FIRST_RESERVED - 1 */
};

struct disk_options {
    const char *run_dir;
    bool json;
    bool force;
    bool write;
    bool shared;
    const char *vdev;
    const char *name;
    int grants;
    uint32_t order;
    uint32_t latency_us;
};

#define AT(member) offsetof(struct disk_options, member)

#define OPT_RUN_DIR                                                            \
    { .name = "run-dir", .kind = FH_OPT_STRING, .offset = AT(run_dir),         \
      .arg = "DIR", .help = FH_PLACE_RUN_DIR_HELP }
#define OPT_JSON                                                               \
    { .name = "json", .kind = FH_OPT_FLAG, .offset = AT(json),                 \
      .help = "print the backend's answer as JSON" }

/* Asks and explains; FH_EXIT_OK with @reply, or an exit status. */
static int
ask(const char *who, const struct disk_options *o, struct json_object *request,
    struct json_object **reply)
{
    char dir[FH_PLACE_PATH], err[256] = "";
    int r;

    if (fh_place_run_dir(dir, o->run_dir, who))
        return FH_EXIT_FAILURE;
    r = fh_ctl_call(dir, request, CTL_TIMEOUT_MS, reply, err, sizeof(err));
    if (!r)
        return FH_EXIT_OK;
    if (r == FH_ENOENT)
        return fh_opt_fail(who, "no backend serves in %s; start one with "
                                "`freehold serve`",
                           dir);
    return fh_opt_fail(who, "%s", *err ? err : strerror(-r));
}

static struct json_object *
request_new(const char *cmd)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "cmd", json_object_new_string(cmd));
    return o;
}

static void
add_string(struct json_object *o, const char *key, const char *value)
{
    if (value)
        json_object_object_add(o, key, json_object_new_string(value));
}

static const char *
get_string(struct json_object *o, const char *key)
{
    struct json_object *v;

    if (!json_object_object_get_ex(o, key, &v) || !v)
        return "-";
    return json_object_get_string(v);
}

static int64_t
get_number(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v)
                                                 : 0;
}

/* The answer to attach describes the device. */
static struct json_object *
device_of(struct json_object *reply)
{
    struct json_object *v;

    return json_object_object_get_ex(reply, "device", &v) ? v : reply;
}

static int
parse_domid(const struct fh_opt_cmd *c, const char *text, uint64_t *domid)
{
    if (!fh_opt_number(text, MAX_DOMID, domid))
        return fh_opt_usage(c, "'%s' is not a domain id; a number from 0 to "
                               "%d",
                            text, MAX_DOMID);
    return FH_OPT_GO;
}

/* --- attach -------------------------------------------------------------- */

static const char *const grant_names[] = { "auto", "copy", "map", NULL };

static const struct fh_opt attach_options[] = {
    { .name = "write", .letter = 'w', .kind = FH_OPT_FLAG,
      .offset = AT(write),
      .help = "let the guest write (otherwise read-only)" },
    { .name = "vdev", .kind = FH_OPT_STRING, .offset = AT(vdev),
      .arg = "NAME", .help = "xvda, xvdb, ... (default: the next free one)" },
    { .name = "grants", .kind = FH_OPT_CHOICE, .offset = AT(grants),
      .arg = "HOW", .choices = grant_names,
      .help = "auto: persistent where the guest can, else copy;\n"
              "copy; map: one mapping per request, to measure" },
    { .name = "order", .kind = FH_OPT_NUMBER, .offset = AT(order),
      .arg = "N", .max = 4,
      .help = "ring pages offered, as a power of two (default 4)" },
    { .name = "name", .kind = FH_OPT_STRING, .offset = AT(name),
      .arg = "TEXT", .help = "a name for `freehold list`" },
    { .name = "shared", .kind = FH_OPT_FLAG, .offset = AT(shared),
      .help = "allow other writers of the same image: only for\n"
              "guests that coordinate among themselves" },
    { .name = "latency-us", .kind = FH_OPT_NUMBER, .offset = AT(latency_us),
      .arg = "N", .max = 4000000,
      .help = "null:SIZE only: answer after so many microseconds" },
    OPT_JSON,
    OPT_RUN_DIR,
};

static const struct fh_opt_cmd attach_cmd = {
    .name = "attach",
    .args = "DOMID TARGET",
    .text = "Gives the guest DOMID a disk.  TARGET is an image file or a block "
            "device, or\nmem:SIZE (memory, empty at first) or null:SIZE (reads "
            "as zeros, forgets writes).\nAn image that some guest may write "
            "is locked: a second writer is refused.\n\n"
            "  freehold attach 1 debian.img\n"
            "  freehold attach 2 --write scratch.img\n"
            "  freehold attach 3 mem:64m\n",
    .options = attach_options,
    .n_options = FH_ARRAY_SIZE(attach_options),
    .min_args = 2,
    .max_args = 2,
};

static bool
is_path(const char *target)
{
    return strncmp(target, "mem:", 4) && strncmp(target, "null:", 5);
}

/* The supervisor's working directory is not ours. */
static int
add_target(struct json_object *o, const char *target)
{
    char *path;

    if (!is_path(target)) {
        uint64_t bytes;
        const char *size = strchr(target, ':') + 1;

        if (!fh_opt_size(size, &bytes))
            return fh_opt_usage(&attach_cmd, "'%s': '%s' is not a size; as in "
                                             "mem:64m",
                                target, size);
        add_string(o, "target", target);
        return FH_OPT_GO;
    }
    path = realpath(target, NULL);
    if (!path)
        return fh_opt_fail("attach", "%s: %s", target, strerror(errno));
    add_string(o, "target", path);
    free(path);
    return FH_OPT_GO;
}

static int
add_options(struct json_object *o, const struct disk_options *d)
{
    add_string(o, "mode", d->write ? "w" : "r");
    add_string(o, "vdev", d->vdev);
    add_string(o, "name", d->name);
    add_string(o, "grants", grant_names[d->grants]);
    if (d->order != UINT32_MAX)
        json_object_object_add(o, "order",
                               json_object_new_int((int)d->order));
    if (d->shared)
        json_object_object_add(o, "shared", json_object_new_boolean(1));
    if (d->latency_us)
        json_object_object_add(
            o, "latency_ns",
            json_object_new_int64((int64_t)d->latency_us * 1000));
    return FH_OPT_GO;
}

int
cmd_attach(int argc, char **argv)
{
    struct disk_options d = { .order = UINT32_MAX };
    struct json_object *request, *reply = NULL;
    uint64_t domid = 0;
    int r;

    r = fh_opt_parse(&attach_cmd, &d, &argc, &argv);
    if (r == FH_OPT_GO)
        r = parse_domid(&attach_cmd, argv[0], &domid);
    if (r != FH_OPT_GO)
        return r;
    request = request_new("attach");
    json_object_object_add(request, "domid",
                           json_object_new_int64((int64_t)domid));
    r = add_target(request, argv[1]);
    if (r == FH_OPT_GO)
        r = add_options(request, &d);
    if (r == FH_OPT_GO)
        r = ask("attach", &d, request, &reply);
    json_object_put(request);
    if (r != FH_EXIT_OK)
        return r;
    if (d.json)
        r = fh_place_print_json(reply);
    else
        printf("domain %" PRIu64 ": %s is %s, %s\n", domid,
               get_string(device_of(reply), "vdev"), argv[1],
               d.write ? "writable" : "read-only");
    json_object_put(reply);
    return r;
}

/* --- detach -------------------------------------------------------------- */

static const struct fh_opt detach_options[] = {
    { .name = "force", .letter = 'f', .kind = FH_OPT_FLAG,
      .offset = AT(force),
      .help = "do not wait for the guest; its requests in flight\n"
              "are finished, later ones are not" },
    OPT_JSON,
    OPT_RUN_DIR,
};

static const struct fh_opt_cmd detach_cmd = {
    .name = "detach",
    .args = "DOMID VDEV",
    .text = "Takes a disk away from a guest, in order: it is asked to let go, "
            "and the command\nreturns when the device is gone.\n\n"
            "  freehold detach 1 xvda\n",
    .options = detach_options,
    .n_options = FH_ARRAY_SIZE(detach_options),
    .min_args = 2,
    .max_args = 2,
};

int
cmd_detach(int argc, char **argv)
{
    struct disk_options d = { .order = UINT32_MAX };
    struct json_object *request, *reply = NULL;
    uint64_t domid = 0;
    int r;

    r = fh_opt_parse(&detach_cmd, &d, &argc, &argv);
    if (r == FH_OPT_GO)
        r = parse_domid(&detach_cmd, argv[0], &domid);
    if (r != FH_OPT_GO)
        return r;
    request = request_new("detach");
    json_object_object_add(request, "domid",
                           json_object_new_int64((int64_t)domid));
    add_string(request, "vdev", argv[1]);
    json_object_object_add(request, "force", json_object_new_boolean(d.force));
    r = ask("detach", &d, request, &reply);
    json_object_put(request);
    if (r == FH_EXIT_OK && d.json)
        r = fh_place_print_json(reply);
    json_object_put(reply);
    return r;
}

/* --- list, status -------------------------------------------------------- */

static const struct fh_opt list_options[] = {
    OPT_JSON,
    OPT_RUN_DIR,
};

static const struct fh_opt_cmd list_cmd = {
    .name = "list",
    .args = "",
    .text = "Lists the disks that the backend serves.\n",
    .options = list_options,
    .n_options = FH_ARRAY_SIZE(list_options),
};

static const struct fh_opt_cmd status_cmd = {
    .name = "status",
    .args = "",
    .text = "Lists the disks that the backend serves, with their counters, and "
            "its workers.\n",
    .options = list_options,
    .n_options = FH_ARRAY_SIZE(list_options),
};

static struct json_object *
get_array(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) &&
                   json_object_is_type(v, json_type_array)
               ? v
               : NULL;
}

static void
print_devices(struct json_object *reply)
{
    struct json_object *a = get_array(reply, "devices");

    printf("%6s  %-6s %-11s %-10s %12s %12s  %s\n", "DOMAIN", "VDEV", "STATE",
           "GRANTS", "REQUESTS", "ERRORS", "TARGET");
    for (size_t i = 0; a && i < json_object_array_length(a); i++) {
        struct json_object *d = json_object_array_get_idx(a, i);

        printf("%6" PRId64 "  %-6s %-11s %-10s %12" PRId64 " %12" PRId64
               "  %s\n",
               get_number(d, "domid"), get_string(d, "vdev"),
               get_string(d, "state"), get_string(d, "grants"),
               get_number(d, "requests"), get_number(d, "errors"),
               get_string(d, "target"));
    }
}

/* What stands between a worker that was taken over and everybody else. */
static const char *
guards(struct json_object *worker)
{
    struct json_object *v;
    const bool sandbox =
        json_object_object_get_ex(worker, "sandboxed", &v) &&
        json_object_get_boolean(v);
    const bool broker = json_object_object_get_ex(worker, "broker", &v) &&
                        json_object_get_boolean(v);

    return sandbox && broker ? "both"
           : sandbox         ? "sandbox"
           : broker          ? "broker"
                             : "-";
}

static void
print_workers(struct json_object *reply)
{
    struct json_object *a = get_array(reply, "workers");

    printf("\n%6s  %8s %-9s %-8s %8s %9s %12s %12s\n", "WORKER", "PID",
           "STATE", "GUARDS", "DISKS", "RESTARTS", "SYSCALLS", "LONGEST MS");
    for (size_t i = 0; a && i < json_object_array_length(a); i++) {
        struct json_object *w = json_object_array_get_idx(a, i);

        printf("%6" PRId64 "  %8" PRId64 " %-9s %-8s %8" PRId64 " %9" PRId64
               " %12" PRId64 " %12" PRId64 "\n",
               get_number(w, "number"), get_number(w, "pid"),
               get_string(w, "state"), guards(w), get_number(w, "devices"),
               get_number(w, "restarts"), get_number(w, "syscalls"),
               get_number(w, "longest_pause_ms"));
    }
}

static int
show(const struct fh_opt_cmd *c, int argc, char **argv, bool workers)
{
    struct disk_options d = { .order = UINT32_MAX };
    struct json_object *request, *reply = NULL;
    int r;

    r = fh_opt_parse(c, &d, &argc, &argv);
    if (r != FH_OPT_GO)
        return r;
    request = request_new(c->name);
    r = ask(c->name, &d, request, &reply);
    json_object_put(request);
    if (r != FH_EXIT_OK)
        return r;
    if (d.json) {
        r = fh_place_print_json(reply);
    } else {
        print_devices(reply);
        if (workers)
            print_workers(reply);
    }
    json_object_put(reply);
    return r;
}

int
cmd_list(int argc, char **argv)
{
    return show(&list_cmd, argc, argv, false);
}

int
cmd_status(int argc, char **argv)
{
    return show(&status_cmd, argc, argv, true);
}
