/* SPDX-License-Identifier: MIT */
/* See story.h. */
#include "story.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ull

enum { FIRST_DOMID = 1 };

static void
pick_back(struct sim *s, struct sim_back_params *p)
{
    *p = (struct sim_back_params){
        .grants = (enum fh_device_grants)sim_random(s, 3),
        .max_order = sim_random(s, 5),
        .max_indirect = sim_random(s, 4) ? 256 : 32,
        .n_sectors = SIM_SECTORS,
        .room = 1 + sim_random(s, sim_random(s, 2) ? 4 : SIM_MEDIUM_IOS),
        .latency_ns = 1000u << sim_random(s, 8),
        .synchronous = sim_random(s, 4) == 0,
        .yield_in_hook = sim_random(s, 2),
    };
    if (sim_random(s, 2))
        p->grants = FH_DEVICE_GRANTS_AUTO;
}

static void
pick_guest(struct sim *s, struct sim_guest_params *p)
{
    static const enum fh_blkif_abi abis[] = {
        FH_BLKIF_NATIVE, FH_BLKIF_X86_32, FH_BLKIF_X86_64,
    };

    *p = (struct sim_guest_params){
        .abi = abis[sim_random(s, 3)],
        .order = sim_random(s, 5),
        .max_indirect = sim_random(s, 2) ? 256 : 0,
        .persistent = sim_random(s, 3),
        .depth = 1 + sim_random(s, SIM_GUEST_REQS),
        .n_requests = 40 + sim_random(s, 120),
        .poll_max_ns = sim_random(s, 2) ? 5000 : 0,
        .quirks = sim_random(s, 4) ? 0 : sim_random(s, 4),
    };
}

void
sim_story_new(struct sim_story *t, const char *scenario, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    t->s = sim_new(scenario, seed);
    t->n_guests = SIM_GUESTS;
    pick_back(t->s, &t->bp);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        pick_guest(t->s, &t->gp[i]);
        t->gp[i].domid = (uint16_t)(FIRST_DOMID + i);
        sim_oracle_init(&t->oracle[i], t->s, i, SIM_SECTORS);
    }
    t->s->p_conflict = sim_random(t->s, 2) ? 4000 : 0;
    t->s->p_yield = 1u << sim_random(t->s, 7);
}

void
sim_story_begin(struct sim_story *t)
{
    sim_back_init(&t->back, t->s, &t->bp);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        sim_guest_domain(t->s, t->gp[i].domid);
        sim_back_attach(&t->back, t->gp[i].domid);
    }
    for (uint32_t i = 0; i < t->n_guests; i++)
        sim_guest_init(&t->guest[i], t->s, &t->gp[i], &t->oracle[i]);
    /* A scenario may want fewer guests than it was dealt. */
    for (uint32_t i = t->n_guests; i < SIM_GUESTS; i++)
        sim_oracle_free(&t->oracle[i]);
}

/* It began too late: its disk is not there any more. */
static bool
is_left_alone(const struct sim_story *t, uint32_t i)
{
    const struct sim_guest *g = &t->guest[i];

    return g->p.may_lose_disk && t->back.disk[i].removed &&
           (!g->bf || fh_blkfront_state(g->bf) < FH_BLKFRONT_OFFERED);
}

static bool
all_done(void *arg)
{
    const struct sim_story *t = arg;

    for (uint32_t i = 0; i < t->n_guests; i++)
        if (!t->guest[i].done && !is_left_alone(t, i))
            return false;
    return true;
}

static bool
all_removed(void *arg)
{
    const struct sim_story *t = arg;

    return sim_back_removed(&t->back);
}

struct timer {
    struct sim_story *t;
    uint64_t end_ns;
};

static bool
is_time(void *arg)
{
    const struct timer *at = arg;

    return at->t->s->now_ns >= at->end_ns || all_done(at->t);
}

static void
nothing(void *arg, uint64_t a)
{
    (void)arg;
    (void)a;
}

void
sim_story_run_for(struct sim_story *t, uint64_t ns)
{
    struct timer at = { .t = t, .end_ns = t->s->now_ns + ns };

    sim_after(t->s, ns, nothing, NULL, 0);
    sim_run(t->s, is_time, &at, 60 * SECOND_NS);
}

static void
add_sums(struct sim_story *t, struct sim_sums *sums)
{
    for (uint32_t i = 0; i < t->n_guests; i++) {
        sums->n_requests += t->guest[i].n_answered;
        sums->n_failed += t->guest[i].n_failed;
        sums->n_connects += t->guest[i].n_connects;
        sums->n_flushes += t->back.disk[i].medium.n_flushes;
        sums->n_errors += t->back.disk[i].medium.n_errors;
    }
    sums->n_deaths += t->back.n_deaths;
    sums->n_calls += t->s->n_calls;
    sums->n_events += t->s->n_events;
    sums->virtual_ns += t->s->now_ns;
}

/* Why nothing goes on any more. */
static void
describe(struct sim_story *t)
{
    for (uint32_t i = 0; i < t->n_guests && t->s->verbose; i++) {
        const struct sim_guest *g = &t->guest[i];
        const struct fh_device *d = &t->back.disk[i].dev;

        sim_say(t->s, "guest %u: state %d, %u flying, %u answered, %s", i,
                g->bf ? (int)fh_blkfront_state(g->bf) : -1, g->n_flying,
                g->n_answered, g->done ? "done" : "not done");
        sim_say(t->s, "disk %u: %s, states %d and %d, \"%s\"", i,
                fh_device_phase_name(d->phase), d->state, d->front_state,
                d->reason);
    }
}

void
sim_story_end(struct sim_story *t)
{
    struct sim *s = t->s;

    sim_run(s, all_done, t, 60 * SECOND_NS);
    if (!s->failed) {
        sim_back_unplug(&t->back);
        sim_run(s, all_removed, t, 60 * SECOND_NS);
    }
    if (s->failed) {
        describe(t);
        return;
    }
    sim_check_leaks(s);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        const struct sim_guest_params *p = &t->gp[i];

        sim_oracle_settle(&t->guest[i].oracle);
        sim_oracle_check(&t->guest[i].oracle, &t->back.disk[i].medium);
        SIM_CHECK(s,
                  !s->n_busy_unshares || p->faulty || t->bp.faulty,
                  "%u pages were taken back while mapped", s->n_busy_unshares);
    }
}

void
sim_story_power_cut(struct sim_story *t)
{
    struct sim *s = t->s;

    if (s->failed)
        return;
    sim_say(s, "power cut");
    sim_trace(s, 4000, 0, 0);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        t->guest[i].done = true;
        if (t->guest[i].party && t->guest[i].party->alive)
            sim_party_kill(t->guest[i].party);
    }
    sim_back_power_off(&t->back);
    sim_check_leaks(s);
    s->n_heap = 0;
    fh_xs_free(s->xs);
    sim_xs_init(s);
    sim_back_start(&t->back);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        struct sim_oracle keep = t->guest[i].oracle;

        sim_oracle_cut(&keep, &t->back.disk[i].medium);
        sim_guest_domain(s, t->gp[i].domid);
        sim_back_plug(&t->back, i, t->gp[i].domid);
        sim_guest_init(&t->guest[i], s, &t->gp[i], &keep);
    }
}

uint64_t
sim_story_free(struct sim_story *t, struct sim_sums *sums, char *failure,
               size_t size)
{
    const uint64_t hash = t->s->hash;

    add_sums(t, sums);
    snprintf(failure, size, "%s", t->s->failure);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        t->guest[i].done = true;
        if (t->guest[i].party && t->guest[i].party->alive)
            sim_party_kill(t->guest[i].party);
        sim_guest_free(&t->guest[i]);
        sim_oracle_free(&t->guest[i].oracle);
    }
    sim_free(t->s);
    sim_back_free(&t->back);
    return hash;
}
