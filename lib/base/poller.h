/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * How long to spin before a sleep: the policy that both ends of a ring share
 * (DESIGN.md, decision 10).  It decides and counts; the caller spins, sleeps
 * and tells what came of it:
 *
 *   spin_ns = fh_poller_plan(&pl, now, fh_plat_cpu_wanted(p));
 *   if (spin_ns)
 *       look for work until spin_ns have passed, then
 *       fh_poller_found(&pl, spun_ns) or fh_poller_missed(&pl, spun_ns);
 *   if (no work) {
 *       arm the event index, sleep;
 *       fh_poller_slept(&pl, slept_ns);
 *   }
 *
 * The rules:
 *   - A spin lasts at most max_ns, about the cost of the wake-up it saves.
 *   - Fruitless spins double the number of sleeps before the next try, up to
 *     FH_POLLER_MAX_SKIP; a fruitful spin resets that.  A short sleep does not:
 *     where both ends share one CPU, as two domains may, work comes as soon as
 *     we sleep and never while we spin, and no domain sees the other's need.
 *   - After a sleep that was no short one, work comes sparsely: no spin at all
 *     until sleeps get short again.  So an idle end costs nothing.
 *   - Where another process wants the CPU, nobody spins, for a pause that
 *     doubles with each such sighting and halves with each fruitful spin.
 *   - All spinning, fruitful or not, is paid from a budget: a share of the CPU,
 *     saved up for FH_POLLER_BURST_NS at most.
 *
 * Pure: no clock, no memory but the struct.  One thread per struct.
 */
#include <stdbool.h>
#include <stdint.h>

enum {
    FH_POLLER_MAX_NS_DEFAULT = 50 * 1000, /* two wake-ups of a slow machine */
    FH_POLLER_MAX_SKIP = 255,             /* sleeps between two tries */
    /* A sleep is short, so that events come densely, below max_ns plus this:
     * the wake-ups of both ends are in it. */
    FH_POLLER_WAKEUP_NS = 150 * 1000,
    FH_POLLER_PAUSE_MIN_NS = 500 * 1000, /* after the CPU was wanted */
    FH_POLLER_PAUSE_MAX_NS = 32 * 1000 * 1000,
    FH_POLLER_BURST_NS = 10 * 1000 * 1000,
    FH_POLLER_BUDGET_FULL = 256, /* all of a CPU */
    FH_POLLER_TIME_EVERY = 16, /* long sleeps, and one is measured */
};

struct fh_poller {
    uint64_t max_ns;   /* longest spin; 0: never spin */
    uint32_t budget;   /* share of a CPU, of FH_POLLER_BUDGET_FULL */
    uint32_t skip;     /* sleeps to come before the next try */
    uint32_t backoff;  /* what skip becomes at the next fruitless spin */
    bool sparse;       /* the last sleep was a long one */
    uint32_t n_untimed; /* long sleeps since one was measured */
    uint64_t pause_ns; /* length of the next pause */
    uint64_t pause_until_ns;
    uint64_t credit_ns; /* of the budget */
    uint64_t credit_at_ns;
};

/*
 * fh_poller_init - start with the readiness to spin
 *
 * @max_ns: longest spin; 0 switches polling off
 * @budget: 1 .. FH_POLLER_BUDGET_FULL; more counts as full
 */
static inline void
fh_poller_init(struct fh_poller *pl, uint64_t max_ns, uint32_t budget,
               uint64_t now_ns)
{
    *pl = (struct fh_poller){
        .max_ns = max_ns,
        .budget = budget,
        .pause_ns = FH_POLLER_PAUSE_MIN_NS,
        .credit_ns = FH_POLLER_BURST_NS,
        .credit_at_ns = now_ns,
    };
}

/* Pays in what the budget earned since the last time. */
static inline void
fh_poller_earn_(struct fh_poller *pl, uint64_t now_ns)
{
    uint64_t earned = now_ns - pl->credit_at_ns;

    if (earned > FH_POLLER_BURST_NS * 256ull)
        earned = FH_POLLER_BURST_NS * 256ull;
    pl->credit_ns += (earned * pl->budget) >> 8;
    if (pl->credit_ns > FH_POLLER_BURST_NS)
        pl->credit_ns = FH_POLLER_BURST_NS;
    pl->credit_at_ns = now_ns;
}

/* Somebody else wants the CPU: a pause, longer each time. */
static inline void
fh_poller_yield_(struct fh_poller *pl, uint64_t now_ns)
{
    pl->pause_until_ns = now_ns + pl->pause_ns;
    if (pl->pause_ns < FH_POLLER_PAUSE_MAX_NS)
        pl->pause_ns *= 2;
}

/*
 * fh_poller_plan - there is no work now: how long to look for it
 *
 * @cpu_wanted: another process wants this CPU
 *
 * Returns 0 .. max_ns; 0: sleep at once.
 */
static inline uint64_t
fh_poller_plan(struct fh_poller *pl, uint64_t now_ns, bool cpu_wanted)
{
    if (!pl->max_ns || pl->sparse || pl->skip)
        return 0;
    if (now_ns < pl->pause_until_ns)
        return 0;
    if (cpu_wanted) {
        fh_poller_yield_(pl, now_ns);
        return 0;
    }
    if (pl->budget >= FH_POLLER_BUDGET_FULL)
        return pl->max_ns;
    fh_poller_earn_(pl, now_ns);
    return pl->credit_ns >= pl->max_ns ? pl->max_ns : 0;
}

/* True when fh_poller_plan() may return more than 0: worth asking for the time.
 */
static inline bool
fh_poller_ready(const struct fh_poller *pl)
{
    return pl->max_ns && !pl->sparse && !pl->skip;
}

/* True when fh_poller_plan() will return 0 whatever cpu_wanted says: not worth
 * asking for it. */
static inline bool
fh_poller_paused(const struct fh_poller *pl, uint64_t now_ns)
{
    return now_ns < pl->pause_until_ns;
}

static inline void
fh_poller_spend_(struct fh_poller *pl, uint64_t ns)
{
    pl->credit_ns = ns < pl->credit_ns ? pl->credit_ns - ns : 0;
}

/* The spin found work after @spun_ns. */
static inline void
fh_poller_found(struct fh_poller *pl, uint64_t spun_ns)
{
    fh_poller_spend_(pl, spun_ns);
    pl->backoff = 0;
    if (pl->pause_ns > FH_POLLER_PAUSE_MIN_NS)
        pl->pause_ns /= 2;
}

/* The spin ended after @spun_ns without work. */
static inline void
fh_poller_missed(struct fh_poller *pl, uint64_t spun_ns)
{
    fh_poller_spend_(pl, spun_ns);
    pl->skip = pl->backoff;
    pl->backoff = 2 * pl->backoff + 1;
    if (pl->backoff > FH_POLLER_MAX_SKIP)
        pl->backoff = FH_POLLER_MAX_SKIP;
}

/* A sleep of @slept_ns ended (with work, or by its time limit). */
static inline void
fh_poller_slept(struct fh_poller *pl, uint64_t slept_ns)
{
    pl->sparse = slept_ns > pl->max_ns + FH_POLLER_WAKEUP_NS;
    pl->n_untimed = 0;
    if (pl->skip)
        pl->skip--;
}

/* Is the coming sleep worth measuring?  Reading the clock is a system call in
 * a PV domain.  If not: fh_poller_slept_untimed() after it. */
static inline bool
fh_poller_times(const struct fh_poller *pl)
{
    return pl->max_ns && !pl->skip &&
           (!pl->sparse || pl->n_untimed + 1 >= FH_POLLER_TIME_EVERY);
}

static inline void
fh_poller_slept_untimed(struct fh_poller *pl)
{
    pl->n_untimed++;
    if (pl->skip)
        pl->skip--;
}
