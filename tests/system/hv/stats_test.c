/* SPDX-License-Identifier: MIT */
/*
 * What fhv counts for `freehold stats`: the engine's counters of a domain, what
 * is live against its quota, and how many maps its entries have.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <sys/mman.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "world.h"

enum { PAGES = 6 };

static struct world world;
static struct fh_hvctl_domain zero, front;

/* @key of section @part of the stats of @domain. */
static int64_t
stat_of(const char *domain, const char *part, const char *key)
{
    struct json_object *o, *section, *v;
    int64_t n = -1;

    EXPECT_EQ(fh_hvctl_stats(world.dir, domain, &o), 0, "%s",
              fh_hvctl_error());
    if (json_object_object_get_ex(o, part, &section) &&
        json_object_object_get_ex(section, key, &v))
        n = json_object_get_int64(v);
    json_object_put(o);
    return n;
}

static void
maps_per_entry__are_counted_when_asked(void **state)
{
    static const int maps_of[PAGES] = { 0, 1, 1, 2, 3, 7 };
    void *maps[16];
    uint32_t refs[PAGES];
    int n = 0;

    world_enter(&front);
    xengntshr_handle *shr = xengntshr_open(NULL, 0);

    EXPECT(xengntshr_share_pages(shr, 0, PAGES, refs, 1));
    world_enter(&zero);
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);

    for (int i = 0; i < PAGES; i++) {
        for (int k = 0; k < maps_of[i]; k++) {
            maps[n] = xengnttab_map_grant_ref(gnt, front.domid, refs[i],
                                              PROT_READ);
            EXPECT(maps[n++]);
        }
    }
    EXPECT_EQ(stat_of("front", "maps_per_entry", "0"), 1);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "1"), 2);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "2"), 1);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "3-4"), 1);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "5-8"), 1);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "9-16"), 0);
    EXPECT_EQ(stat_of("0", "maps_per_entry", "0"), 0, "it grants nothing");
    EXPECT_EQ(stat_of("front", "granted", "live"), PAGES);
    EXPECT_EQ(stat_of("front", "granted", "quota"), 32768 - 8);
    EXPECT_EQ(stat_of("0", "handles", "live"), n);
    EXPECT_EQ(stat_of("0", "grant", "maps"), n);
    EXPECT_EQ(stat_of("0", "grant", "unmaps"), 0);
    while (n)
        EXPECT_EQ(xengnttab_unmap(gnt, maps[--n], 1), 0);
    EXPECT_EQ(stat_of("front", "maps_per_entry", "0"), PAGES);
    EXPECT_EQ(stat_of("0", "handles", "live"), 0);
    EXPECT_EQ(stat_of("0", "grant", "unmaps"), stat_of("0", "grant", "maps"));
    xengnttab_close(gnt);
    xengntshr_close(shr);
}

static void
event_channels__are_counted(void **state)
{
    world_enter(&front);
    xenevtchn_handle *f = xenevtchn_open(NULL, 0);
    int fp = xenevtchn_bind_unbound_port(f, 0);

    EXPECT(fp > 0);
    EXPECT_EQ(stat_of("front", "events", "allocs"), 1);
    EXPECT_EQ(stat_of("front", "events", "connected"), 0);
    world_enter(&zero);
    xenevtchn_handle *b = xenevtchn_open(NULL, 0);

    EXPECT(xenevtchn_bind_interdomain(b, front.domid, (evtchn_port_t)fp) > 0);
    EXPECT_EQ(stat_of("0", "events", "binds"), 1);
    EXPECT_EQ(stat_of("0", "ports", "live"), 1);
    EXPECT_EQ(stat_of("0", "ports", "quota"), 4095);
    EXPECT_EQ(stat_of("front", "events", "connected"), 1);
    xenevtchn_close(b);
    EXPECT_EQ(stat_of("front", "events", "connected"), 0);
    xenevtchn_close(f);
    EXPECT_EQ(stat_of("front", "ports", "live"), 0);
}

/* Linux has no TLB or IOMMU of ours: nothing is invented. */
static void
flushes__read_zero(void **state)
{
    static const char *const keys[] = { "flushes", "flushes_asked",
                                        "flushes_merged", "flushes_elided",
                                        "cpus_interrupted", "cpus_skipped" };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        EXPECT_EQ(stat_of("0", "tlb", keys[i]), 0, "%s", keys[i]);
    EXPECT_EQ(stat_of("0", "iommu", "iotlb_flushes"), 0);
}

static void
unknown_domain__is_refused(void **state)
{
    struct json_object *o;

    EXPECT_EQ(fh_hvctl_stats(world.dir, "nobody", &o), -ENOENT);
}

static int
setup(void **state)
{
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "front", &front);
    return 0;
}

static int
teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(maps_per_entry__are_counted_when_asked),
        cmocka_unit_test(event_channels__are_counted),
        cmocka_unit_test(flushes__read_zero),
        cmocka_unit_test(unknown_domain__is_refused),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
