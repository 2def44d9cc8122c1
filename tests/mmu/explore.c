/* SPDX-License-Identifier: MIT */
/*
 * Schedules of mmu/explore.h: a run is a list of choices; 0 is to go on.
 */
#include "mmu/explore.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { MAX_CHOICES = 4000, STACK = 64 << 10, MAX_WAITS = 20000 };

static struct explore *ex;
static ucontext_t main_ctx, ctx[EXPLORE_THREADS];
static uint8_t stacks[EXPLORE_THREADS][STACK] __attribute__((aligned(64)));
static bool done[EXPLORE_THREADS];
static int running = -1;
static const char *failure;
static uint32_t waits;

/* The choices of this run, and of how many each was one. */
static struct {
    uint8_t choice[MAX_CHOICES], of[MAX_CHOICES];
    uint32_t n, at, used;
    uint64_t rng; /* 0: exhaustive */
} run;

static uint32_t
rnd(uint32_t below)
{
    run.rng ^= run.rng << 13;
    run.rng ^= run.rng >> 7;
    run.rng ^= run.rng << 17;
    return (uint32_t)(run.rng >> 20) % below;
}

/* One of 0 .. @of - 1. */
static uint32_t
choose(uint32_t of)
{
    uint32_t c = 0;

    if (run.rng)
        return of < 2 || rnd(2) ? 0 : rnd(of);
    if (run.used >= ex->budget || of < 2 || run.at == MAX_CHOICES)
        return 0;
    if (run.at < run.n)
        c = run.choice[run.at];
    else
        run.n = run.at + 1;
    run.choice[run.at] = (uint8_t)c;
    run.of[run.at++] = (uint8_t)of;
    run.used += c != 0;
    return c;
}

/* The next run of an exhaustive search; false: that was all. */
static bool
next_run(void)
{
    while (run.n && run.choice[run.n - 1] + 1 >= run.of[run.n - 1])
        run.n--;
    if (!run.n)
        return false;
    run.choice[run.n - 1]++;
    return true;
}

static void
stop(const char *why)
{
    failure = why;
    running = -1;
    setcontext(&main_ctx);
}

/* ------------------------------------------------- what others may do now -- */

enum what { GO_ON, TO_THREAD, SERVE, FILL, WALK, WALK_END, DMA, COME, GO, GONE };

struct option {
    enum what what;
    uint32_t who, arg;
};

static struct {
    struct option o[128];
    uint32_t n;
} can;

static void
may(enum what what, uint32_t who, uint32_t arg)
{
    if (can.n < 128)
        can.o[can.n++] = (struct option){ what, who, arg };
}

static void
list_cpu(uint32_t i)
{
    const struct mmu_cpu *c = &ex->m->cpu[i];
    const bool last = i == ex->m->n_cpus - 1;

    if (ex->switches && last && !c->runs)
        may(COME, i, 0);
    if (!c->runs)
        return;
    for (uint32_t s = 0; s < ex->slots; s++) {
        if (!(c->runs->pt[s] & MMU_P))
            continue;
        if (!c->tlb[s])
            may(FILL, i, s);
        if (ex->half_walks && !c->walk.active)
            may(WALK, i, s);
    }
    if (c->walk.active)
        may(WALK_END, i, 0);
    if (ex->switches && last)
        may(c->leaving ? GONE : GO, i, 0);
}

static void
list_all(bool must_wait)
{
    const struct mmu *m = ex->m;

    can.n = 0;
    if (!must_wait)
        may(GO_ON, 0, 0);
    for (uint32_t i = 0; i < m->n_cpus; i++) {
        if (m->cpu[i].ipi)
            may(SERVE, i, 0);
    }
    for (uint32_t t = 1; t < EXPLORE_THREADS; t++) {
        const uint32_t other = ((uint32_t)running + t) % EXPLORE_THREADS;

        if (!done[other])
            may(TO_THREAD, other, 0);
    }
    for (uint32_t i = 0; i < m->n_cpus; i++)
        list_cpu(i);
    for (uint32_t k = 0; k < ex->io_keys; k++)
        may(DMA, ex->mapper, k);
}

static void
switch_to(uint32_t t)
{
    const int old = running;

    running = (int)t;
    swapcontext(&ctx[old], &ctx[t]);
}

static void
perform(const struct option *o)
{
    struct mmu *m = ex->m;

    switch (o->what) {
    case GO_ON:
        break;
    case TO_THREAD:
        switch_to(o->who);
        break;
    case SERVE:
        mmu_serve(m, o->who);
        break;
    case FILL:
        mmu_fill(m, o->who, o->arg);
        break;
    case WALK:
        mmu_walk_begin(m, o->who, o->arg);
        break;
    case WALK_END:
        mmu_walk_end(m, o->who);
        break;
    case DMA:
        mmu_dma(m, &m->dom[o->who], o->arg);
        break;
    case COME:
        mmu_enter(m, o->who, &m->dom[ex->mapper]);
        break;
    case GO:
        mmu_leave_begin(m, o->who);
        break;
    case GONE:
        mmu_leave(m, o->who);
        break;
    }
}

/* Others take steps, as many as are chosen.  @must_wait: at least one. */
static void
turn(bool must_wait)
{
    const int me = running;

    if (me < 0)
        return;
    if (must_wait && ++waits > MAX_WAITS)
        stop("it waits for ever");
    for (;;) {
        const char *bad = mmu_check(ex->m);
        uint32_t c;

        if (bad)
            stop(bad);
        list_all(must_wait);
        if (!can.n)
            stop("it waits for nobody");
        c = choose(can.n);
        if (can.o[c].what == GO_ON)
            return;
        const struct option o = can.o[c];

        perform(&o);
        bad = mmu_check(ex->m);
        if (bad)
            stop(bad);
        if (must_wait || o.what == TO_THREAD)
            return;
    }
}

static void
at_point(struct mmu *m)
{
    turn(false);
}

static void
at_wait(struct mmu *m)
{
    turn(true);
}

/* Of the engine's accesses, those that others' steps can matter to. */
void
sched_point(const FH_SHARED void *p, bool is_write)
{
    const uint8_t *at = (const uint8_t *)(uintptr_t)p;
    const struct mmu *m = ex->m;
    const uint8_t *from = (const uint8_t *)&m->tlb;
    const struct mmu_domain *d = &m->dom[ex->mapper];
    const uint8_t *slots = (const uint8_t *)d->gnt.slots;

    if (running < 0)
        return;
    if (at >= from && at < (const uint8_t *)m->cpu)
        turn(false);
    else if (at >= slots && at < slots + d->gnt.n_slots * 32 && is_write)
        turn(false);
    else if (at >= (const uint8_t *)m->dom[1].table &&
             at < (const uint8_t *)m->dom[1].table + FH_PAGE_BYTES)
        turn(false);
}

void
sched_wait(void)
{
    turn(true);
}

/* ------------------------------------------------------------------ a run -- */

static void
body(void)
{
    const int me = running;

    ex->thread[me]();
    done[me] = true;
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        if (!done[t]) {
            running = t;
            setcontext(&ctx[t]);
        }
    }
    running = -1;
    setcontext(&main_ctx);
}

static void
one_run(void)
{
    volatile bool started = false;

    ex->reset();
    ex->m->point = at_point;
    ex->m->wait = at_wait;
    run.at = run.used = 0;
    failure = NULL;
    waits = 0;
    ex->runs++;
    for (int t = 0; t < EXPLORE_THREADS; t++) {
        done[t] = !ex->thread[t];
        getcontext(&ctx[t]);
        ctx[t].uc_stack.ss_sp = stacks[t];
        ctx[t].uc_stack.ss_size = STACK;
        ctx[t].uc_link = NULL;
        makecontext(&ctx[t], body, 0);
    }
    getcontext(&main_ctx); /* everybody comes back to here */
    if (!started) {
        started = true;
        running = 0;
        setcontext(&ctx[0]);
    }
    if (!failure)
        failure = mmu_check(ex->m);
}

static const char *
said(const char *how, uint64_t which)
{
    static char buf[200];

    snprintf(buf, sizeof(buf), "%s: %s (%s %llu)", ex->name, failure, how,
             (unsigned long long)which);
    return buf;
}

const char *
explore(struct explore *e)
{
    ex = e;
    e->runs = 0;
    memset(&run, 0, sizeof(run));
    if (e->budget) {
        do {
            one_run();
            if (failure)
                return said("exhaustive, run", e->runs);
        } while (next_run());
    }
    for (uint32_t seed = 1; seed <= e->seeds; seed++) {
        run.rng = seed * 0x9e3779b97f4a7c15ull;
        one_run();
        if (failure)
            return said("seed", seed);
    }
    return NULL;
}
