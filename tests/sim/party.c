/* SPDX-License-Identifier: MIT */
/*
 * Processes: their platform tables, what happens at a platform call, and their
 * deaths.
 *
 * The fault plan fails calls that may fail in a sound world: those that take
 * something.  A release that fails (unmap, unshare, unbind) has done nothing;
 * what it left is then not counted as a leak.  Notifying, unmasking and ending
 * a watch that is there never fail: nobody has a reason to refuse them.
 */
#include <stdlib.h>
#include <string.h>
#include "internal.h"

static const char *const call_names[SIM_N_CALLS] = {
    "now", "wait", "map", "unmap", "copy", "share", "unshare", "alloc",
    "bind", "unbind", "notify", "next", "unmask", "begin", "end", "read",
    "write", "mkdir", "rm", "list", "set_perms", "watch", "unwatch",
    "xs_next", "hook",
};

static bool
may_fail(enum sim_call call)
{
    switch (call) {
    case SIM_GNT_MAP:
    case SIM_GNT_UNMAP:
    case SIM_GNT_COPY:
    case SIM_GNT_SHARE:
    case SIM_GNT_UNSHARE:
    case SIM_EV_ALLOC:
    case SIM_EV_BIND:
    case SIM_EV_UNBIND:
    case SIM_XS_BEGIN:
    case SIM_XS_END:
    case SIM_XS_READ:
    case SIM_XS_WRITE:
    case SIM_XS_MKDIR:
    case SIM_XS_RM:
    case SIM_XS_LIST:
    case SIM_XS_SET_PERMS:
    case SIM_XS_WATCH:
        return true;
    case SIM_NOW:
    case SIM_WAIT:
    case SIM_EV_NOTIFY:
    case SIM_EV_NEXT:
    case SIM_EV_UNMASK:
    case SIM_XS_UNWATCH:
    case SIM_XS_NEXT:
    case SIM_HOOK:
    case SIM_N_CALLS:
        return false;
    }
    return false;
}

static bool
is_release(enum sim_call call)
{
    return call == SIM_GNT_UNMAP || call == SIM_GNT_UNSHARE ||
           call == SIM_EV_UNBIND;
}

static int
plan_fault(struct sim_party *p, enum sim_call call)
{
    struct sim *s = p->s;
    bool fails;

    if (!p->faulty || !may_fail(call))
        return 0;
    fails = ++s->n_faulty == s->fail_at;
    if (s->p_fail)
        fails |= sim_chance(s, s->p_fail, 65536);
    if (!fails)
        return 0;
    p->n_failed_releases += is_release(call);
    sim_say(s, "  %s: %s fails (call %llu)", p->name, call_names[call],
            (unsigned long long)s->n_faulty);
    return call >= SIM_XS_BEGIN ? FH_EIO : FH_ENOMEM;
}

static void
maybe_die(struct sim_party *p)
{
    if (p->doomed && p->death)
        longjmp(*p->death, 1);
}

int
sim_enter(struct fh_plat *plat, enum sim_call call, uint64_t detail)
{
    struct sim_party *p = sim_party_of(plat);
    struct sim *s = p->s;

    s->n_calls++;
    s->now_ns += 20 + sim_random(s, 180);
    sim_trace(s, call, p->number, detail);
    if (s->verbose && call != SIM_NOW && call < SIM_XS_READ)
        sim_say(s, "  %s: %s %llu", p->name, call_names[call],
                (unsigned long long)detail);
    SIM_CHECK(s, p->alive, "%s calls %s after its death", p->name,
              call_names[call]);
    maybe_die(p);
    if (p->running && sim_chance(s, s->p_yield, 256)) {
        sim_yield(s);
        maybe_die(p);
    }
    return plan_fault(p, call);
}

/* ---- life ---- */

struct sim_party *
sim_party_new(struct sim *s, uint16_t domid, const char *name,
              void (*run)(void *actor), void *actor)
{
    struct sim_party *p = &s->party[s->n_parties];

    if (s->n_parties == SIM_MAX_PARTIES)
        abort();
    *p = (struct sim_party){
        .plat = { .ops = &sim_plat_ops },
        .s = s,
        .name = name,
        .number = s->n_parties++,
        .domid = domid,
        .alive = true,
        .run = run,
        .actor = actor,
        .due_ns = UINT64_MAX,
    };
    sim_xs_connect(p);
    return p;
}

bool
sim_has_news(struct sim_party *p)
{
    return sim_ev_ready(p) || (p->xs_news && p->s->now_ns >= p->xs_at_ns);
}

void
sim_party_kill(struct sim_party *p)
{
    sim_trace(p->s, 1000, p->number, 0);
    sim_say(p->s, "%s is dead", p->name);
    p->alive = false;
    p->due_ns = UINT64_MAX;
    sim_grants_drop(p);
    sim_events_drop(p);
    fh_xs_conn_free(p->xs);
    p->xs = NULL;
    if (p->died)
        p->died(p->actor);
}

void
sim_party_doom(struct sim_party *p)
{
    if (!p->alive)
        return;
    p->doomed = true;
    if (!p->running)
        sim_party_kill(p);
}

static void
check_areas(struct sim *s, const struct sim_area *a, uint32_t n,
            const char *what)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].party && !a[i].party->n_failed_releases)
            sim_fail(s, "%s leaks %u %s pages", a[i].party->name, a[i].n,
                     what);
}

void
sim_check_leaks(struct sim *s)
{
    check_areas(s, s->map, SIM_MAPS, "mapped");
    check_areas(s, s->share, SIM_SHARES, "shared");
    for (uint32_t d = 0; d < SIM_DOMAINS; d++)
        for (uint32_t i = 0; i < SIM_PORTS; i++) {
            const struct sim_port *port = &s->domain[d].port[i];

            if (port->state != SIM_PORT_FREE &&
                !port->owner->n_failed_releases)
                sim_fail(s, "%s leaks port %u", port->owner->name, i);
        }
}

/* ---- clock ---- */

static uint64_t
sim_now(struct fh_plat *plat)
{
    struct sim_party *p = sim_party_of(plat);

    (void)sim_enter(plat, SIM_NOW, 0);
    return p->s->now_ns;
}

/* For blocking helpers of the frontend library: the world goes on below. */
static int
sim_wait(struct fh_plat *plat, uint64_t timeout_ns)
{
    struct sim_party *p = sim_party_of(plat);
    struct sim *s = p->s;
    uint64_t end = UINT64_MAX;

    (void)sim_enter(plat, SIM_WAIT, timeout_ns);
    if (timeout_ns < UINT64_MAX - s->now_ns)
        end = s->now_ns + timeout_ns;
    return sim_wait_until(p, end);
}

static bool
sim_cpu_wanted(struct fh_plat *plat)
{
    return sim_chance(sim_party_of(plat)->s, 1, 4);
}

const struct fh_plat_ops sim_plat_ops = {
    .now_ns = sim_now,
    .wait = sim_wait,
    .cpu_wanted = sim_cpu_wanted,
    .gnt_map = sim_gnt_map,
    .gnt_unmap = sim_gnt_unmap,
    .gnt_copy = sim_gnt_copy,
    .gnt_share = sim_gnt_share,
    .gnt_unshare = sim_gnt_unshare,
    .ev_alloc = sim_ev_alloc,
    .ev_bind = sim_ev_bind,
    .ev_unbind = sim_ev_unbind,
    .ev_notify = sim_ev_notify,
    .ev_next = sim_ev_next,
    .ev_unmask = sim_ev_unmask,
    .xs_begin = sim_xs_begin,
    .xs_end = sim_xs_end,
    .xs_read = sim_xs_read,
    .xs_write = sim_xs_write,
    .xs_mkdir = sim_xs_mkdir,
    .xs_rm = sim_xs_rm,
    .xs_list = sim_xs_list,
    .xs_set_perms = sim_xs_set_perms,
    .xs_watch = sim_xs_watch,
    .xs_unwatch = sim_xs_unwatch,
    .xs_next = sim_xs_next,
};
