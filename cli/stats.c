/* SPDX-License-Identifier: MIT */
/* stats: what local domains did with grants and event channels, in numbers. */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/hvtalk.h"
#include "cli/opt.h"
#include "cli/place.h"

struct stats_options {
    const char *run_dir;
    bool json;
};

#define AT(member) offsetof(struct stats_options, member)

static const struct fh_opt options[] = {
    { .name = "json", .kind = FH_OPT_FLAG, .offset = AT(json),
      .help = "print JSON" },
    { .name = "run-dir", .kind = FH_OPT_STRING, .offset = AT(run_dir),
      .arg = "DIR", .help = FH_PLACE_RUN_DIR_HELP },
};

static const struct fh_opt_cmd cmd = {
    .name = "stats",
    .args = "[DOMAIN]",
    .text =
        "Counts what the domains of the local hypervisor, or the one given "
        "by number or\n"
        "name, did since they began: grants mapped and copied, the handles "
        "and ports that\n"
        "are live and how many may be, and how many maps the pages have "
        "that the domain\n"
        "granted.  There are no TLBs and no IOMMU of its own to flush on "
        "Linux: those\n"
        "counters read 0.\n\n"
        "  freehold stats 0 --json\n",
    .options = options,
    .n_options = FH_ARRAY_SIZE(options),
    .max_args = 1,
};

/* @key of @part of @o, 0 if there is none. */
static int64_t
number_in(struct json_object *o, const char *part, const char *key)
{
    struct json_object *v;

    if (part && !json_object_object_get_ex(o, part, &o))
        return 0;
    return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v)
                                                 : 0;
}

static const char *
name_of(struct json_object *o)
{
    struct json_object *v;

    return json_object_object_get_ex(o, "name", &v) ? json_object_get_string(v)
                                                    : "-";
}

static void
print_live(struct json_object *o, const char *what, const char *part)
{
    printf("  %-15s %10" PRId64 " of %" PRId64 "\n", what,
           number_in(o, part, "live"), number_in(o, part, "quota"));
}

static void
print_counts(struct json_object *o, const char *what, const char *part,
             const char *const *keys, size_t n)
{
    printf("  %-15s", what);
    for (size_t i = 0; i < n; i++)
        printf(" %10" PRId64 " %s%s", number_in(o, part, keys[i]), keys[i],
               i + 1 < n ? "," : "\n");
}

/* Only what there is: the upper buckets are empty nearly always. */
static void
print_histogram(struct json_object *o)
{
    struct json_object *h;

    if (!json_object_object_get_ex(o, "maps_per_entry", &h))
        return;
    printf("  maps per entry ");
    json_object_object_foreach(h, maps, v) {
        if (json_object_get_int64(v))
            printf("  %s: %" PRId64, maps, json_object_get_int64(v));
    }
    printf("\n");
}

static void
print_domain(struct json_object *o)
{
    static const char *const grants[] = { "maps", "unmaps", "copies",
                                          "elements" };
    static const char *const work[] = { "slow_pins", "retries" };
    static const char *const events[] = { "allocs", "binds", "unbinds",
                                          "connected" };
    static const char *const tlb[] = { "flushes_asked", "flushes" };

    printf("domain %" PRId64 " (%s)\n", number_in(o, NULL, "domid"),
           name_of(o));
    print_counts(o, "grants", "grant", grants, FH_ARRAY_SIZE(grants));
    print_counts(o, "", "grant", work, FH_ARRAY_SIZE(work));
    print_counts(o, "TLB", "tlb", tlb, FH_ARRAY_SIZE(tlb));
    print_counts(o, "event channels", "events", events,
                 FH_ARRAY_SIZE(events));
    print_live(o, "handles", "handles");
    print_live(o, "pages granted", "granted");
    print_live(o, "ports", "ports");
    print_histogram(o);
}

/* Adds the stats of @domain to @all. */
static int
add_domain(const char *hv_dir, const char *domain, struct json_object *all)
{
    struct fh_hvctl_domain found;
    struct json_object *o;

    if (fh_hvtalk_find(hv_dir, domain, &found, "stats") ||
        fh_hvtalk_stats(hv_dir, domain, &o, "stats"))
        return FH_EXIT_FAILURE;
    json_object_object_del(o, "ok");
    json_object_array_add(all, o);
    return FH_EXIT_OK;
}

/* One query per domain: fhv looks at a whole table for each.  One that is
 * destroyed meanwhile is left out. */
static int
add_all(const char *hv_dir, struct json_object *all)
{
    struct json_object *status, *domains, *o, *v;

    if (fh_hvtalk_status(hv_dir, &status, "stats"))
        return FH_EXIT_FAILURE;
    if (!json_object_object_get_ex(status, "domains", &domains))
        domains = NULL;
    for (size_t i = domains ? json_object_array_length(domains) : 0; i--;) {
        if (!json_object_object_get_ex(json_object_array_get_idx(domains, i),
                                       "domid", &v) ||
            fh_hvctl_stats(hv_dir, json_object_get_string(v), &o))
            continue;
        json_object_object_del(o, "ok");
        json_object_array_add(all, o);
    }
    json_object_put(status);
    return FH_EXIT_OK;
}

int
cmd_stats(int argc, char **argv)
{
    struct stats_options o = { .json = false };
    char run_dir[FH_PLACE_PATH], hv_dir[FH_PLACE_PATH];
    struct json_object *all;
    int r = fh_opt_parse(&cmd, &o, &argc, &argv);

    if (r != FH_OPT_GO)
        return r;
    if (fh_place_run_dir(run_dir, o.run_dir, cmd.name))
        return FH_EXIT_FAILURE;
    fh_place_hv_dir(hv_dir, run_dir);
    all = json_object_new_array();
    r = argc ? add_domain(hv_dir, argv[0], all) : add_all(hv_dir, all);
    if (r == FH_EXIT_OK && o.json)
        r = fh_place_print_json(all);
    for (size_t i = 0; r == FH_EXIT_OK && !o.json &&
                       i < json_object_array_length(all); i++)
        print_domain(json_object_array_get_idx(all, i));
    json_object_put(all);
    return r;
}
