/* SPDX-License-Identifier: MIT */
/* hv: the local hypervisor and its domains. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/hvtalk.h"
#include "cli/opt.h"
#include "cli/place.h"
#include "hv/limits.h"
#include "hv/main.h"

enum {
    MAX_WORDS = 16,
    MAX_UID_BASE = 0x7fff0000, /* room for the domain ids above it */
};

struct hv_options {
    const char *run_dir;
    const char *lib_dir;
    uint32_t uid_base;
    uint32_t ready_fd;
    uint32_t threads;
    bool foreground;
    bool json;
};

#define AT(member) offsetof(struct hv_options, member)

#define OPT_RUN_DIR                                                            \
    { .name = "run-dir", .kind = FH_OPT_STRING, .offset = AT(run_dir),         \
      .arg = "DIR", .help = FH_PLACE_RUN_DIR_HELP }
#define OPT_JSON                                                               \
    { .name = "json", .kind = FH_OPT_FLAG, .offset = AT(json),                 \
      .help = "print JSON" }

/* Parses and finds the hypervisor's directory. */
static int
begin(const struct fh_opt_cmd *c, struct hv_options *o, int *argc,
      char ***argv, char hv_dir[FH_PLACE_PATH])
{
    char run_dir[FH_PLACE_PATH];
    int r;

    r = fh_opt_parse(c, o, argc, argv);
    if (r != FH_OPT_GO)
        return r;
    if (fh_place_run_dir(run_dir, o->run_dir, c->name))
        return FH_EXIT_FAILURE;
    fh_place_hv_dir(hv_dir, run_dir);
    return FH_OPT_GO;
}

/* --- start, stop --------------------------------------------------------- */

static const struct fh_opt start_options[] = {
    { .name = "foreground", .letter = 'f', .kind = FH_OPT_FLAG,
      .offset = AT(foreground), .help = "stay in the foreground" },
    { .name = "uid-base", .kind = FH_OPT_NUMBER, .offset = AT(uid_base),
      .arg = "UID", .min = 1, .max = MAX_UID_BASE,
      .help = "as root: domain N runs as uid UID + N\n"
              "(default: a block that no other hypervisor has)" },
    { .name = "threads", .kind = FH_OPT_NUMBER, .offset = AT(threads),
      .arg = "N", .max = FH_HV_THREADS_MAX,
      .help = "serve grant hypercalls by N threads; 0 or 1: by the\n"
              "one that does everything else (default: one for each\n"
              "CPU, at most 4)" },
    { .name = "lib-dir", .kind = FH_OPT_STRING, .offset = AT(lib_dir),
      .arg = "DIR",
      .help = "where libxengnttab.so.1 and libxenevtchn.so.1 of\n"
              "the local hypervisor are (default: found)" },
    { .name = "ready-fd", .kind = FH_OPT_NUMBER, .offset = AT(ready_fd),
      .arg = "FD", .max = 1 << 20,
      .help = "write a byte there when domains may come" },
    OPT_RUN_DIR,
};

static const struct fh_opt_cmd start_cmd = {
    .name = "hv start",
    .args = "",
    .text =
        "Starts the local hypervisor in the background and returns when "
        "it answers. Its\n"
        "domains are sets of ordinary processes that share pages by "
        "Xen's grants,\n"
        "notify each other by Xen's event channels, and see a xenstore. "
        "As root every\n"
        "domain has a uid of its own; otherwise all are the caller, and "
        "nothing keeps\n"
        "them apart.\n"
        "\n"
        "  freehold hv start\n"
        "  freehold exec -d 1 --create -- xenstore-ls /local/domain/1\n",
    .options = start_options,
    .n_options = FH_ARRAY_SIZE(start_options),
};

/* The command line of fh_hv_main(). */
struct words {
    char *word[MAX_WORDS];
    int n;
    char number[3][16];
};

static void
add_word(struct words *w, const char *option, const char *value)
{
    w->word[w->n++] = (char *)option;
    if (value)
        w->word[w->n++] = (char *)value;
}

static int
hv_start(int argc, char **argv)
{
    /* 0: fhv takes a block that no other hypervisor has. */
    struct hv_options o = {
        .uid_base = fh_place_uids(FH_HV_UID_BASE_DEFAULT, FH_HV_UID_BLOCK),
        .ready_fd = UINT32_MAX,
        .threads = UINT32_MAX,
    };
    char hv_dir[FH_PLACE_PATH], run_dir[FH_PLACE_PATH], libs[FH_PLACE_PATH];
    struct words w = { .n = 0 };
    int r;

    r = begin(&start_cmd, &o, &argc, &argv, hv_dir);
    if (r != FH_OPT_GO)
        return r;
    if (!o.lib_dir && fh_place_libs(libs, "hv start"))
        return FH_EXIT_FAILURE;
    if (fh_place_make_run_dir(run_dir, o.run_dir, "hv start"))
        return FH_EXIT_FAILURE;
    snprintf(w.number[0], sizeof(w.number[0]), "%u", o.uid_base);
    snprintf(w.number[1], sizeof(w.number[1]), "%u", o.ready_fd);
    add_word(&w, "freehold hv start", NULL);
    add_word(&w, "--run-dir", hv_dir);
    add_word(&w, "--lib-dir", o.lib_dir ? o.lib_dir : libs);
    if (o.uid_base)
        add_word(&w, "--uid-base", w.number[0]);
    if (o.ready_fd != UINT32_MAX)
        add_word(&w, "--ready-fd", w.number[1]);
    snprintf(w.number[2], sizeof(w.number[2]), "%u", o.threads);
    if (o.threads != UINT32_MAX)
        add_word(&w, "--threads", w.number[2]);
    if (o.foreground)
        add_word(&w, "--foreground", NULL);
    prctl(PR_SET_NAME, "fhv");
    return fh_hv_main(w.n, w.word);
}

static const struct fh_opt stop_options[] = { OPT_RUN_DIR };

static const struct fh_opt_cmd stop_cmd = {
    .name = "hv stop",
    .args = "",
    .text = "Stops the local hypervisor: every domain ends, what it shared is "
            "gone.\n",
    .options = stop_options,
    .n_options = FH_ARRAY_SIZE(stop_options),
};

static int
hv_stop(int argc, char **argv)
{
    struct hv_options o = { .json = false };
    char hv_dir[FH_PLACE_PATH];
    int r = begin(&stop_cmd, &o, &argc, &argv, hv_dir);

    if (r != FH_OPT_GO)
        return r;
    return fh_hvtalk_stop(hv_dir, "hv stop") ? FH_EXIT_FAILURE : FH_EXIT_OK;
}

/* --- status -------------------------------------------------------------- */

static const struct fh_opt status_options[] = { OPT_JSON, OPT_RUN_DIR };

static const struct fh_opt_cmd status_cmd = {
    .name = "hv status",
    .args = "",
    .text =
        "Says whether the local hypervisor runs, whether domains are "
        "isolated, and what\n"
        "each has: open library handles, pages granted, pages mapped, "
        "event channels,\n"
        "hypercalls.\n",
    .options = status_options,
    .n_options = FH_ARRAY_SIZE(status_options),
};

static int64_t
number_of(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v)
                                                 : 0;
}

static const char *
string_of(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v)
                                                 : "-";
}

static void
print_status(struct json_object *s)
{
    struct json_object *domains, *calls;
    const bool isolated = !strcmp(string_of(s, "isolation"), "on");

    printf("local hypervisor in %s, pid %" PRId64 "\nisolation is %s\n\n",
           string_of(s, "run_dir"), number_of(s, "pid"),
           isolated ? "on: every domain has a uid of its own"
                    : "off: all domains share your uid (root is needed)");
    printf("%6s  %-16s %11s %8s %8s %8s %8s %12s\n", "DOMAIN", "NAME", "UID",
           "HANDLES", "GRANTED", "MAPPED", "PORTS", "GRANT CALLS");
    if (!json_object_object_get_ex(s, "domains", &domains))
        return;
    for (size_t i = 0; i < json_object_array_length(domains); i++) {
        struct json_object *d = json_object_array_get_idx(domains, i);

        if (!json_object_object_get_ex(d, "hypercalls", &calls))
            calls = NULL;
        printf("%6" PRId64 "  %-16s %11" PRId64 " %8" PRId64 " %8" PRId64
               " %8" PRId64 " %8" PRId64 " %12" PRId64 "\n",
               number_of(d, "domid"), string_of(d, "name"),
               number_of(d, "uid"), number_of(d, "connections"),
               number_of(d, "shared_pages"), number_of(d, "maps"),
               number_of(d, "ports"),
               calls ? number_of(calls, "grant_hypercalls") : 0);
    }
}

static int
hv_status(int argc, char **argv)
{
    struct hv_options o = { .json = false };
    char hv_dir[FH_PLACE_PATH];
    struct json_object *status;
    int r = begin(&status_cmd, &o, &argc, &argv, hv_dir);

    if (r != FH_OPT_GO)
        return r;
    if (fh_hvtalk_status(hv_dir, &status, "hv status"))
        return FH_EXIT_FAILURE;
    r = FH_EXIT_OK;
    if (o.json)
        r = fh_place_print_json(status);
    else
        print_status(status);
    json_object_put(status);
    return r;
}

/* --- create, destroy ----------------------------------------------------- */

static const struct fh_opt create_options[] = { OPT_JSON, OPT_RUN_DIR };

static const struct fh_opt_cmd create_cmd = {
    .name = "hv create",
    .args = "[NAME]",
    .text = "Makes a domain and prints its number.\n\n"
            "  freehold hv create guest1\n",
    .options = create_options,
    .n_options = FH_ARRAY_SIZE(create_options),
    .max_args = 1,
};

static int
print_domain(const struct fh_hvctl_domain *d, bool json)
{
    struct json_object *o;
    int r;

    if (!json) {
        printf("%u\n", d->domid);
        return FH_EXIT_OK;
    }
    o = json_object_new_object();
    json_object_object_add(o, "domid", json_object_new_int(d->domid));
    json_object_object_add(o, "name", json_object_new_string(d->name));
    json_object_object_add(o, "uid", json_object_new_int64(d->uid));
    json_object_object_add(o, "hypercall",
                           json_object_new_string(d->hypercall));
    json_object_object_add(o, "xenstore", json_object_new_string(d->xenstore));
    r = fh_place_print_json(o);
    json_object_put(o);
    return r;
}

static int
hv_create(int argc, char **argv)
{
    struct hv_options o = { .json = false };
    char hv_dir[FH_PLACE_PATH];
    struct fh_hvctl_domain d;
    int r = begin(&create_cmd, &o, &argc, &argv, hv_dir);

    if (r != FH_OPT_GO)
        return r;
    if (fh_hvtalk_create(hv_dir, -1, argc ? argv[0] : NULL, &d, "hv create"))
        return FH_EXIT_FAILURE;
    return print_domain(&d, o.json);
}

static const struct fh_opt destroy_options[] = { OPT_RUN_DIR };

static const struct fh_opt_cmd destroy_cmd = {
    .name = "hv destroy",
    .args = "DOMAIN",
    .text = "Ends a domain, given by number or name, and returns when it is "
            "gone.  Pages that\nanother domain still maps go when it unmaps "
            "them.\n",
    .options = destroy_options,
    .n_options = FH_ARRAY_SIZE(destroy_options),
    .min_args = 1,
    .max_args = 1,
};

static int
hv_destroy(int argc, char **argv)
{
    struct hv_options o = { .json = false };
    char hv_dir[FH_PLACE_PATH];
    int r = begin(&destroy_cmd, &o, &argc, &argv, hv_dir);

    if (r != FH_OPT_GO)
        return r;
    return fh_hvtalk_destroy(hv_dir, argv[0], "hv destroy") ? FH_EXIT_FAILURE
                                                            : FH_EXIT_OK;
}

/* --- the table ----------------------------------------------------------- */

static const struct fh_cli_command verbs[] = {
    { "start", "start it in the background", hv_start },
    { "stop", "stop it; every domain ends", hv_stop },
    { "status", "whether it runs, and its domains", hv_status },
    { "create", "make a domain", hv_create },
    { "destroy", "end a domain", hv_destroy },
};

static void
print_verbs(FILE *f)
{
    fprintf(f, "usage: freehold hv VERB [OPTIONS] ...\n\nThe local hypervisor: "
               "Xen's grants, event channels and xenstore for ordinary\n"
               "processes, without Xen.\n\n");
    for (size_t i = 0; i < FH_ARRAY_SIZE(verbs); i++)
        fprintf(f, "  %-8s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(f, "\n`freehold hv VERB --help` explains one of them.\n");
}

int
cmd_hv(int argc, char **argv)
{
    if (argc < 2) {
        print_verbs(stderr);
        return FH_EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_verbs(stdout);
        return FH_EXIT_OK;
    }
    for (size_t i = 0; i < FH_ARRAY_SIZE(verbs); i++)
        if (!strcmp(argv[1], verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    fprintf(stderr, "freehold hv: there is no verb '%s'; the verbs are start, "
                    "stop, status, create, destroy\n",
            argv[1]);
    return FH_EXIT_USAGE;
}
