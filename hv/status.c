/* SPDX-License-Identifier: MIT */
/*
 * The status object: counts of what is alive and of what was asked.
 * "grant_hypercalls" are the hypercalls that a guest on Xen would make to map,
 * unmap and copy grants; what fhv does as a guest's kernel (allocating shared
 * pages) and for descriptors is counted apart.
 */
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

#include "hv/status.h"
#include "hv/xs/xs.h"

static const char *const op_names[FH_HV_OPS] = {
    [FH_HV_HELLO] = "hello",
    [FH_HV_CLOSE] = "close",
    [FH_HV_GNT_MAP] = "gnt_map",
    [FH_HV_GNT_UNMAP] = "gnt_unmap",
    [FH_HV_GNT_COPY] = "gnt_copy",
    [FH_HV_GNT_FILE] = "gnt_file",
    [FH_HV_GNT_NOTIFY] = "gnt_notify",
    [FH_HV_SHR_SHARE] = "shr_share",
    [FH_HV_SHR_UNSHARE] = "shr_unshare",
    [FH_HV_SHR_NOTIFY] = "shr_notify",
    [FH_HV_EV_OPEN] = "ev_open",
    [FH_HV_EV_ADOPT] = "ev_adopt",
    [FH_HV_EV_ALLOC] = "ev_alloc",
    [FH_HV_EV_BIND] = "ev_bind",
    [FH_HV_EV_UNBIND] = "ev_unbind",
    [FH_HV_EV_RESTRICT] = "ev_restrict",
    [FH_HV_EV_PORT] = "ev_port",
    [FH_HV_EV_VIRQ] = "ev_virq",
};

static void
put(struct json_object *o, const char *key, uint64_t v)
{
    json_object_object_add(o, key, json_object_new_int64((int64_t)v));
}

static void
put_string(struct json_object *o, const char *key, const char *v)
{
    json_object_object_add(o, key, json_object_new_string(v));
}

static struct json_object *
counts(const struct fh_hv_counts *c)
{
    struct json_object *o = json_object_new_object();
    struct json_object *calls = json_object_new_object();
    struct json_object *elements = json_object_new_object();

    for (unsigned op = 0; op < FH_HV_OPS; op++) {
        if (!op_names[op])
            continue;
        put(calls, op_names[op], c->calls[op]);
        if (c->elements[op])
            put(elements, op_names[op], c->elements[op]);
    }
    put(o, "grant_hypercalls", c->calls[FH_HV_GNT_MAP] +
                                   c->calls[FH_HV_GNT_UNMAP] +
                                   c->calls[FH_HV_GNT_COPY]);
    json_object_object_add(o, "calls", calls);
    json_object_object_add(o, "elements", elements);
    put(o, "continued", c->slices);
    return o;
}

void
fh_hv_counts_add(struct fh_hv_counts *a, const struct fh_hv_counts *b)
{
    for (unsigned op = 0; op < FH_HV_OPS; op++) {
        a->calls[op] += fh_load_relaxed64(&b->calls[op]);
        a->elements[op] += fh_load_relaxed64(&b->elements[op]);
    }
    a->slices += fh_load_relaxed64(&b->slices);
}

uint64_t
fh_hv_domain_maps(const struct fh_hv_domain *dom)
{
    uint64_t n = 0;

    for (unsigned i = 0; i <= FH_HV_THREADS_MAX; i++)
        n += fh_load_relaxed64(&dom->tally[i].n_maps);
    return n;
}

static struct json_object *
domain_counts(const struct fh_hv_domain *dom)
{
    struct fh_hv_counts c = { 0 };

    for (unsigned i = 0; i <= FH_HV_THREADS_MAX; i++)
        fh_hv_counts_add(&c, &dom->tally[i].counts);
    return counts(&c);
}

static struct json_object *
all_counts(const struct fh_hv *hv, uint64_t *n_maps)
{
    struct fh_hv_counts c = { 0 };

    *n_maps = 0;
    for (unsigned i = 0; i <= hv->n_threads; i++) {
        fh_hv_counts_add(&c, &hv->threads[i].tally.counts);
        *n_maps += fh_load_relaxed64(&hv->threads[i].tally.n_maps);
    }
    return counts(&c);
}

struct json_object *
fh_hv_status_domain(const struct fh_hv_domain *dom)
{
    struct json_object *o = json_object_new_object();
    struct fh_xs_stats xs = { 0 };
    char path[640];

    put(o, "domid", dom->domid);
    put_string(o, "name", dom->name);
    put(o, "id", dom->uid);
    put(o, "uid", dom->user);
    json_object_object_add(o, "dying", json_object_new_boolean(dom->is_dying));
    snprintf(path, sizeof(path), "%s/dom%u/hypercall", dom->hv->run_dir,
             dom->domid);
    put_string(o, "hypercall", path);
    snprintf(path, sizeof(path), "%s/dom%u/xenstore", dom->hv->run_dir,
             dom->domid);
    put_string(o, "xenstore", path);
    put(o, "connections", dom->n_conns);
    put(o, "descriptors", dom->n_fds);
    put(o, "grants", dom->n_refs);
    put(o, "shared_pages", dom->n_shared);
    put(o, "maps", fh_hv_domain_maps(dom));
    put(o, "ports", dom->n_ports);
    fh_xs_stats(dom->hv->xs, dom->domid, &xs);
    put(o, "xenstore_nodes", xs.n_nodes);
    put(o, "xenstore_watches", xs.n_watches);
    put(o, "xenstore_connections", xs.n_conns);
    json_object_object_add(o, "hypercalls", domain_counts(dom));
    return o;
}

struct json_object *
fh_hv_status(const struct fh_hv *hv)
{
    struct json_object *o = json_object_new_object();
    struct json_object *doms = json_object_new_array();
    const struct fh_hv_domain *dom;
    uint32_t n_zombies = 0;
    uint64_t n_maps;
    struct json_object *calls = all_counts(hv, &n_maps);

    LIST_FOREACH(dom, &hv->domains, link)
        json_object_array_add(doms, fh_hv_status_domain(dom));
    LIST_FOREACH(dom, &hv->zombies, link)
        n_zombies++;
    json_object_object_add(o, "ok", json_object_new_boolean(true));
    put(o, "pid", (uint64_t)getpid());
    put_string(o, "run_dir", hv->run_dir);
    put_string(o, "isolation", hv->is_isolated ? "on" : "off");
    put(o, "uid_base", hv->is_isolated ? hv->uid_base : hv->uid);
    put(o, "threads", hv->n_threads);
    put(o, "connections", hv->n_conns);
    put(o, "descriptors", hv->n_fds);
    put(o, "maps", n_maps);
    put(o, "shared_pages", hv->n_pages_used);
    put(o, "shared_files", hv->n_files);
    put(o, "slot_files", hv->n_slotfiles);
    put(o, "channels", hv->n_chans);
    put(o, "zombies", n_zombies);
    put(o, "lost_descriptors", hv->n_lost_fds);
    json_object_object_add(o, "hypercalls", calls);
    json_object_object_add(o, "domains", doms);
    return o;
}
