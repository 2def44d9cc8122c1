/* SPDX-License-Identifier: MIT */
/*
 * What `freehold stats` shows of one domain: the engine's counters, what is
 * live and how much may be, and how many maps its entries have.
 *
 * Where there is no page table and no IOMMU of ours, there is no TLB to flush
 * either: those counters read 0.  The engine counts an elided flush whenever
 * pt_remove() says that nobody used the entry; here there is no entry.
 */
#include <json-c/json.h>
#include <stdio.h>

#include "hv/status.h"

/* Entries that one query looks at: a whole table. */
enum { HISTOGRAM_BUDGET = FH_HV_GRANT_FRAMES * FH_GNT_V1_PER_FRAME };

static void
put(struct json_object *o, const char *key, uint64_t v)
{
    json_object_object_add(o, key, json_object_new_int64((int64_t)v));
}

static struct json_object *
section(struct json_object *parent, const char *key)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(parent, key, o);
    return o;
}

static void
put_engine(struct json_object *o, const struct fh_hv_domain *dom)
{
    struct fh_gnt_stats s = { 0 };
    struct json_object *part = section(o, "grant");

    fh_gnt_stats_read(&dom->gnt, &s);
    put(part, "maps", s.maps);
    put(part, "unmaps", s.unmaps);
    put(part, "copies", s.copies);
    put(part, "elements", s.elements);
    put(part, "slow_pins", s.map_slow);
    put(part, "retries", s.retries);
    part = section(o, "tlb");
    put(part, "flushes", s.flushes);
    put(part, "flushes_asked", s.flushes_asked);
    put(part, "flushes_merged", s.flushes_merged);
    put(part, "flushes_elided", 0);
    put(part, "cpus_interrupted", s.cpus_interrupted);
    put(part, "cpus_skipped", s.cpus_skipped);
    part = section(o, "iommu");
    put(part, "iotlb_flushes", s.iotlb_flushes);
}

static void
put_live(struct json_object *o, const char *key, uint64_t live, uint64_t quota)
{
    struct json_object *part = section(o, key);

    put(part, "live", live);
    put(part, "quota", quota);
}

static void
put_events(struct json_object *o, const struct fh_hv_domain *dom)
{
    struct fh_hv_counts c = { 0 };
    struct json_object *part = section(o, "events");

    for (unsigned i = 0; i <= FH_HV_THREADS_MAX; i++)
        fh_hv_counts_add(&c, &dom->tally[i].counts);
    put(part, "allocs", c.calls[FH_HV_EV_ALLOC]);
    put(part, "binds", c.calls[FH_HV_EV_BIND]);
    put(part, "unbinds", c.calls[FH_HV_EV_UNBIND]);
    put(part, "connected", fh_hv_ev_connected(dom));
}

/* "0", "1", "2", "3-4", "5-8" .. as fh_gnt_histogram() counts them. */
static void
bucket_name(unsigned i, char *buf, size_t size)
{
    if (i < 3)
        snprintf(buf, size, "%u", i);
    else if (i == FH_GNT_HISTOGRAM_BUCKETS - 1)
        snprintf(buf, size, "%u-", (1u << (i - 2)) + 1);
    else
        snprintf(buf, size, "%u-%u", (1u << (i - 2)) + 1, 1u << (i - 1));
}

static void
put_histogram(struct json_object *o, const struct fh_hv_domain *dom)
{
    struct fh_gnt_histogram h = { { 0 } };
    struct json_object *part = section(o, "maps_per_entry");
    uint32_t cursor = 0;
    uint64_t mapped = 0;
    char name[32];

    while (fh_gnt_histogram(&dom->gnt, HISTOGRAM_BUDGET, &cursor, &h))
        continue; /* once: a table has no more entries */
    for (unsigned i = 1; i < FH_GNT_HISTOGRAM_BUCKETS; i++)
        mapped += h.entries[i];
    /* Of the entries without a map, those that are granted. */
    h.entries[0] = dom->n_refs > mapped ? dom->n_refs - mapped : 0;
    for (unsigned i = 0; i < FH_GNT_HISTOGRAM_BUCKETS; i++) {
        bucket_name(i, name, sizeof(name));
        put(part, name, h.entries[i]);
    }
}

struct json_object *
fh_hv_stats(const struct fh_hv_domain *dom)
{
    struct json_object *o = json_object_new_object();

    put(o, "domid", dom->domid);
    json_object_object_add(o, "name", json_object_new_string(dom->name));
    put_engine(o, dom);
    put_live(o, "handles", fh_hv_domain_maps(dom), FH_HV_MAPS_MAX);
    put_live(o, "granted", dom->n_refs, FH_HV_GRANTS_MAX - FH_HV_GRANT_FIRST);
    put_live(o, "ports", dom->n_ports, FH_HV_PORTS_MAX - 1);
    put_events(o, dom);
    put_histogram(o, dom);
    return o;
}
