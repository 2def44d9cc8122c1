/* SPDX-License-Identifier: MIT */
/*
 * What `list` and `status` answer.  Reads only; the counters come from the
 * workers' statistics pages, which a worker writes and only ever numbers are
 * taken from.
 */
#include <stdio.h>
#include <unistd.h>
#include <json-c/json.h>
#include "base/arith.h"
#include "base/shared.h"
#include "blkback/supervisor_int.h"

static void
add_text(struct json_object *o, const char *key, const char *text)
{
    json_object_object_add(o, key, json_object_new_string(text));
}

static void
add_number(struct json_object *o, const char *key, uint64_t n)
{
    json_object_object_add(o, key, json_object_new_int64((int64_t)n));
}

static void
add_bool(struct json_object *o, const char *key, bool b)
{
    json_object_object_add(o, key, json_object_new_boolean(b));
}

static void
add_ms(struct json_object *o, const char *key, uint64_t ns)
{
    json_object_object_add(o, key,
                           json_object_new_double((double)(ns / 1000) / 1000));
}

static const char *
store_name(enum fh_wk_store s)
{
    switch (s) {
    case FH_WK_STORE_FILE:
        return "file";
    case FH_WK_STORE_MEM:
        return "mem";
    case FH_WK_STORE_NULL:
        return "null";
    }
    return "?";
}

static const char *
grants_name(uint32_t g)
{
    switch ((enum fh_wk_grants)g) {
    case FH_WK_GRANTS_PERSISTENT:
        return "persistent";
    case FH_WK_GRANTS_COPY:
        return "copy";
    case FH_WK_GRANTS_MAP:
        return "map";
    }
    return "?";
}

/* In one word, for a human: what is this disk doing? */
static const char *
device_state(const struct fh_sup_device *d)
{
    const struct fh_sup_worker *w = d->worker;

    if (d->refused)
        return "refused";
    if (w && d->want && d->link != FH_SUP_LINK_QUEUE &&
        d->dev.phase == FH_DEVICE_SERVING)
        return w->state == FH_SUP_READY ? "resuming"
                                        : fh_sup_worker_state_name(w->state);
    return fh_xenbus_state_name(d->dev.state);
}

static void
add_counters(struct json_object *o, const struct fh_sup_device *d)
{
    struct fh_wk_queue_stats st;

    fh_sup_link_stats(d, &st);
    add_number(o, "requests", st.requests);
    add_number(o, "reads", st.reads);
    add_number(o, "writes", st.writes);
    add_number(o, "flushes", st.flushes);
    add_number(o, "read_bytes", st.read_sectors * FH_SECTOR_BYTES);
    add_number(o, "write_bytes", st.write_sectors * FH_SECTOR_BYTES);
    add_number(o, "errors", st.errors);
    add_number(o, "notsupp", st.notsupp);
    add_number(o, "notifies", st.notifies);
    add_number(o, "wakeups", st.wakeups);
    add_number(o, "pgrant_pages", st.pgrant_pages);
    add_number(o, "copied_pieces", st.copied_pieces);
}

static void
add_ring(struct json_object *o, const struct fh_sup_device *d)
{
    if (d->dev.phase == FH_DEVICE_IDLE || d->dev.phase == FH_DEVICE_OVER)
        return;
    add_text(o, "grants", grants_name(d->queue.grants));
    add_number(o, "ring_order", d->queue.order);
    add_number(o, "abi", d->queue.abi);
    add_number(o, "port", d->queue.port);
    if (!d->worker)
        return;
    add_number(o, "worker", d->worker->number);
    add_number(o, "worker_pid", (uint64_t)d->worker->pid);
}

static const char *
reason_of(const struct fh_sup_device *d)
{
    if (d->refused)
        return d->refusal;
    if (d->worker && d->worker->state == FH_SUP_PARKED)
        return d->worker->reason;
    return d->dev.reason;
}

/* Where the store's bytes can be read without a ring: our own descriptor. */
static void
add_store_path(struct json_object *o, const struct fh_sup_device *d)
{
    char path[48];

    if (d->image.fd < 0)
        return;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), d->image.fd);
    add_text(o, "store_path", path);
}

struct json_object *
fh_sup_list_device(const struct fh_sup_device *d)
{
    struct json_object *o = json_object_new_object();

    add_number(o, "domid", d->dev.p.domid);
    add_number(o, "devid", d->dev.p.devid);
    add_text(o, "vdev", d->vdev);
    add_text(o, "name", d->name);
    add_text(o, "target", d->image.target);
    add_text(o, "store", store_name(d->image.store));
    add_text(o, "mode", d->image.read_only ? "r" : "w");
    add_store_path(o, d);
    add_bool(o, "direct", d->image.direct);
    add_bool(o, "owned", d->owned);
    add_text(o, "path", d->dev.path);
    add_number(o, "sectors", d->image.n_sectors);
    add_text(o, "state", device_state(d));
    add_number(o, "xenbus_state", d->dev.state);
    add_number(o, "frontend_state", d->dev.front_state);
    add_text(o, "phase", fh_device_phase_name(d->dev.phase));
    add_ring(o, d);
    add_counters(o, d);
    add_number(o, "restarts", d->restarts);
    add_ms(o, "longest_pause_ms", d->longest_pause_ns);
    if (reason_of(d)[0])
        add_text(o, "reason", reason_of(d));
    return o;
}

static void
add_loop(struct json_object *o, const struct fh_wk_stats *st)
{
    if (!st)
        return;
    add_number(o, "turns", fh_load_relaxed64(&st->turns));
    add_number(o, "sleeps", fh_load_relaxed64(&st->sleeps));
    add_number(o, "spins", fh_load_relaxed64(&st->spins));
    add_number(o, "syscalls", fh_load_relaxed64(&st->syscalls));
    add_number(o, "cpu_ns", fh_load_relaxed64(&st->cpu_ns));
    add_number(o, "recovery_stores", fh_load_relaxed64(&st->stores));
}

static struct json_object *
list_worker(const struct fh_sup_worker *w)
{
    struct json_object *o = json_object_new_object();

    add_number(o, "number", w->number);
    if (w->domid >= 0)
        add_number(o, "domid", (uint64_t)w->domid);
    add_text(o, "state", fh_sup_worker_state_name(w->state));
    add_number(o, "pid", (uint64_t)w->pid);
    if (w->state == FH_SUP_READY) {
        add_bool(o, "sandboxed", w->sandboxed);
        add_bool(o, "broker", w->broker_pid);
        add_number(o, "broker_pid", w->broker_pid);
    }
    add_number(o, "devices", w->n_devices);
    add_number(o, "incarnations", w->incarnations);
    add_number(o, "restarts", w->restarts);
    add_ms(o, "longest_pause_ms", w->longest_pause_ns);
    add_ms(o, "longest_fence_ms", w->longest_fence_ns);
    add_loop(o, w->stats);
    if (w->reason[0])
        add_text(o, "reason", w->reason);
    return o;
}

static struct json_object *
list_supervisor(const struct fh_sup *s)
{
    struct json_object *o = json_object_new_object();

    add_number(o, "pid", (uint64_t)getpid());
    add_number(o, "domid", s->domid);
    add_text(o, "run_dir", s->run_dir);
    add_number(o, "uptime_s", (fh_sup_now() - s->started_ns) / 1000000000);
    add_number(o, "devices", s->n_devices);
    add_number(o, "xenstore_calls", s->xen.counts.xs_calls);
    return o;
}

struct json_object *
fh_sup_list(const struct fh_sup *s, bool status)
{
    struct json_object *o = json_object_new_object();
    struct json_object *list = json_object_new_array();

    json_object_object_add(o, "ok", json_object_new_boolean(true));
    for (const struct fh_sup_device *d = s->devices; d; d = d->next)
        json_object_array_add(list, fh_sup_list_device(d));
    json_object_object_add(o, "devices", list);
    if (!status)
        return o;
    list = json_object_new_array();
    for (const struct fh_sup_worker *w = s->workers; w; w = w->next)
        json_object_array_add(list, list_worker(w));
    json_object_object_add(o, "workers", list);
    json_object_object_add(o, "supervisor", list_supervisor(s));
    return o;
}
