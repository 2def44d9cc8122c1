/* SPDX-License-Identifier: MIT */
/*
 * The scenarios, each over many seeds.
 *
 *   sim_test [SCENARIO...]     all of them when none is named
 *   FH_SEEDS=n                 so many seeds of each (default 100)
 *   FH_SEED=n                  this one only
 *   FH_CALL=k                  with FH_SEED: only the k-th call fails
 *   FH_TRACE=1                 print what happens
 *
 * A failure prints the scenario, the seed and the command that repeats it.
 * Scenarios that are wrong on purpose must fail for some seed: they show that
 * the rule they break is needed, and that the oracle sees it.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "story.h"

enum {
    SEEDS = 100,
    MAX_BAD = 5, /* then a scenario ends */
    MORE = 10,   /* times as many seeds for what is wrong on purpose, */
    FEWER = 50,  /* times fewer where every seed is many stories */
    STORM_NS = 3000000,
};

/* Of an EVERY scenario: which call fails; 0 afterwards: there are not so many.
 */
static uint64_t kth;

/* ---- scenarios ---- */

static void
io(struct sim_story *t)
{
    sim_story_begin(t);
    sim_story_end(t);
}

static void
kill_worker(struct sim_story *t)
{
    t->bp.n_kills = 1 + sim_random(t->s, sim_random(t->s, 4) ? 8 : 40);
    sim_story_begin(t);
    sim_story_end(t);
}

/* Slow stores, synchronous ones aside: much is under way at a death. */
static void
no_fence(struct sim_story *t)
{
    t->bp.synchronous = false;
    t->bp.no_fence = true;
    t->bp.latency_ns = 1000000;
    t->bp.n_kills = 8;
    sim_story_begin(t);
    sim_story_end(t);
}

/* Power fails at random, @n times; each life has half as many requests. */
static void
with_cuts(struct sim_story *t, uint32_t n)
{
    for (uint32_t i = 0; i < t->n_guests; i++)
        t->gp[i].n_requests /= 2;
    sim_story_begin(t);
    while (n-- && !t->s->failed) {
        sim_story_run_for(t, sim_random(t->s, STORM_NS));
        sim_story_power_cut(t);
    }
    sim_story_end(t);
}

static void
power_cut(struct sim_story *t)
{
    t->bp.n_kills = sim_random(t->s, 3);
    with_cuts(t, 1 + sim_random(t->s, 3));
}

static void
come_and_go(struct sim_story *t)
{
    for (uint32_t i = 0; i < t->n_guests; i++) {
        t->gp[i].n_closes = sim_random(t->s, 4);
        if (sim_random(t->s, 2))
            t->gp[i].n_crashes = sim_random(t->s, 3);
        t->gp[i].vanishes = sim_random(t->s, 4) == 0;
    }
    t->bp.owned = sim_random(t->s, 2);
    t->bp.n_kills = sim_random(t->s, 2) ? sim_random(t->s, 6) : 0;
    sim_story_begin(t);
    sim_story_end(t);
}

/* The backend goes away, politely or not, while there is work. */
static void
taken_away(struct sim_story *t)
{
    for (uint32_t i = 0; i < t->n_guests; i++) {
        t->gp[i].errors = true;
        t->gp[i].may_lose_disk = true;
        t->gp[i].quirks &= ~(uint32_t)FH_BLKFRONT_QUIRK_NO_WAIT; /* cannot tell */
    }
    t->bp.n_kills = sim_random(t->s, 3);
    sim_story_begin(t);
    sim_story_run_for(t, sim_random(t->s, STORM_NS));
    sim_back_stop(&t->back, sim_random(t->s, 2));
    sim_story_end(t);
}

/* The new ring's worker dies before it has begun, and its successor finds the
 * state of the ring before. */
static void
old_state(struct sim_story *t)
{
    t->bp.keeps_old_state = true;
    for (uint32_t i = 0; i < t->n_guests; i++)
        t->gp[i].n_closes = 8;
    t->bp.n_kills = 100;
    sim_story_begin(t);
    sim_story_end(t);
}

static void
store_errors(struct sim_story *t)
{
    t->bp.p_error = 1u << sim_random(t->s, 14);
    t->bp.n_kills = sim_random(t->s, 3);
    for (uint32_t i = 0; i < t->n_guests; i++)
        t->gp[i].errors = true;
    with_cuts(t, sim_random(t->s, 3));
}

/* A short life, connected twice: the k-th call that can fail does. */
static void
short_life(struct sim_story *t)
{
    t->n_guests = 1;
    t->gp[0].n_requests = 12;
    t->gp[0].n_closes = 1;
    t->gp[0].errors = true;
    t->s->fail_at = kth;
    sim_story_begin(t);
    sim_story_end(t);
    kth = t->s->n_faulty < kth ? 0 : kth;
}

static void
failing_backend(struct sim_story *t)
{
    t->bp.faulty = true;
    short_life(t);
}

static void
failing_frontend(struct sim_story *t)
{
    t->gp[0].faulty = true;
    short_life(t);
}

/* Everything at once. */
static void
all_weather(struct sim_story *t)
{
    t->s->p_fail = sim_random(t->s, 2) ? 1u << sim_random(t->s, 10) : 0;
    t->bp.p_error = sim_random(t->s, 2) ? 1u << sim_random(t->s, 12) : 0;
    t->bp.n_kills = sim_random(t->s, 6);
    t->bp.faulty = sim_random(t->s, 2);
    t->bp.owned = sim_random(t->s, 2);
    for (uint32_t i = 0; i < t->n_guests; i++) {
        t->gp[i].errors = true;
        t->gp[i].faulty = sim_random(t->s, 2);
        t->gp[i].n_closes = sim_random(t->s, 3);
        t->gp[i].n_crashes = sim_random(t->s, 3);
        t->gp[i].vanishes = sim_random(t->s, 8) == 0;
    }
    sim_story_begin(t);
    sim_story_end(t);
}

enum kind {
    SOUND,
    WRONG, /* must fail for some seed */
    EVERY, /* for each k: the k-th call fails; few seeds */
};

static const struct {
    const char *name;
    void (*tell)(struct sim_story *t);
    enum kind kind;
} scenarios[] = {
    { "io", io, SOUND },
    { "kill", kill_worker, SOUND },
    { "power", power_cut, SOUND },
    { "come-and-go", come_and_go, SOUND },
    { "taken-away", taken_away, SOUND },
    { "store-errors", store_errors, SOUND },
    { "all-weather", all_weather, SOUND },
    { "backend-fails", failing_backend, EVERY },
    { "frontend-fails", failing_frontend, EVERY },
    { "no-fence", no_fence, WRONG },
    { "old-state", old_state, WRONG },
};

enum { N_SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]) };

/* Stories that once ended badly, told every time. */
static const struct {
    const char *scenario;
    uint64_t seed;
} regressions[] = {
    { "all-weather", 1341 }, /* a successor that could not bind at once */
};

/* ---- running them ---- */

static const char *program;
static const char *now_scenario;
static uint64_t now_seed;

static void
print_repeat(FILE *f)
{
    fprintf(f, "  repeat: FH_SEED=%" PRIu64, now_seed);
    if (kth)
        fprintf(f, " FH_CALL=%" PRIu64, kth);
    fprintf(f, " %s %s\n", program, now_scenario);
}

/* A touch of memory that is not mapped any more. */
static void
crashed(int sig)
{
    fprintf(stderr, "sim: scenario %s, seed %" PRIu64 ": signal %d\n",
            now_scenario, now_seed, sig);
    print_repeat(stderr);
    signal(sig, SIG_DFL);
    raise(sig);
}

static uint64_t
tell(uint32_t i, uint64_t seed, struct sim_sums *sums, char *failure,
     size_t size)
{
    struct sim_story t;

    now_scenario = scenarios[i].name;
    now_seed = seed;
    sim_story_new(&t, scenarios[i].name, seed);
    scenarios[i].tell(&t);
    return sim_story_free(&t, sums, failure, size);
}

static void
print_sums(uint32_t i, uint64_t n, const struct sim_sums *m, double seconds)
{
    printf("%-14s %4" PRIu64 " seeds, %.1f s: %" PRIu64 " requests, %" PRIu64
           " failed, %" PRIu64 " connects, %" PRIu64 " deaths, %" PRIu64
           " flushes, %" PRIu64 " I/O errors, %" PRIu64
           " platform calls, %.1f s of virtual time\n",
           scenarios[i].name, n, seconds, m->n_requests, m->n_failed,
           m->n_connects, m->n_deaths, m->n_flushes, m->n_errors, m->n_calls,
           (double)m->virtual_ns / 1e9);
}

static uint64_t
number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

static void
print_failure(const char *failure)
{
    fprintf(stderr, "sim: scenario %s, seed %" PRIu64 ": %s\n", now_scenario,
            now_seed, failure);
    print_repeat(stderr);
}

/* Every k of one seed.  Returns how many were bad. */
static int
run_every(uint32_t i, uint64_t seed, struct sim_sums *sums)
{
    const uint64_t only = number("FH_CALL", 0);
    uint64_t k = only ? only : 1;
    char failure[400];
    int n_bad = 0;

    do {
        kth = k++;
        (void)tell(i, seed, sums, failure, sizeof(failure));
        if (failure[0]) {
            print_failure(failure);
            n_bad++;
        }
    } while (kth && !only && n_bad < MAX_BAD);
    kth = 0;
    return n_bad;
}

/* Returns how many stories were bad. */
static int
run(uint32_t i, uint64_t first, uint64_t n)
{
    struct sim_sums sums = { 0 };
    clock_t start = clock();
    char failure[400];
    int n_bad = 0;

    if (scenarios[i].kind == EVERY && n > 1)
        n = (n + FEWER - 1) / FEWER;
    for (uint64_t seed = first; seed < first + n && n_bad < MAX_BAD; seed++) {
        if (scenarios[i].kind == EVERY) {
            n_bad += run_every(i, seed, &sums);
            continue;
        }
        (void)tell(i, seed, &sums, failure, sizeof(failure));
        if (!failure[0])
            continue;
        print_failure(failure);
        n_bad++;
    }
    print_sums(i, n, &sums, (double)(clock() - start) / CLOCKS_PER_SEC);
    return n_bad;
}

/* Ends at the first seed that finds it. */
static int
run_wrong(uint32_t i, uint64_t first, uint64_t n)
{
    struct sim_sums sums = { 0 };
    char failure[400];

    for (uint64_t seed = first; seed < first + n; seed++) {
        (void)tell(i, seed, &sums, failure, sizeof(failure));
        if (!failure[0])
            continue;
        printf("%-14s found at seed %" PRIu64 ": %s\n", now_scenario, seed,
               failure);
        return 0;
    }
    fprintf(stderr, "sim: %s is wrong, and none of %" PRIu64 " seeds found it\n",
            now_scenario, n);
    return n > 1;
}

/* The same seed is the same story. */
static int
check_same(uint32_t i, uint64_t seed)
{
    struct sim_sums sums = { 0 };
    char failure[400];
    const uint64_t a = tell(i, seed, &sums, failure, sizeof(failure));
    const uint64_t b = tell(i, seed, &sums, failure, sizeof(failure));

    if (a == b)
        return 0;
    fprintf(stderr, "sim: scenario %s, seed %" PRIu64
            ": two runs differ: %" PRIx64 " and %" PRIx64 "\n",
            scenarios[i].name, seed, a, b);
    print_repeat(stderr);
    return 1;
}

static int
run_regressions(uint32_t i)
{
    int n_bad = 0;

    for (size_t k = 0; k < sizeof(regressions) / sizeof(*regressions); k++)
        if (!strcmp(regressions[k].scenario, scenarios[i].name))
            n_bad += run(i, regressions[k].seed, 1);
    return n_bad;
}

static bool
is_named(int argc, char **argv, const char *name)
{
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], name))
            return true;
    return argc < 2;
}

int
main(int argc, char **argv)
{
    const uint64_t one = number("FH_SEED", 0);
    const uint64_t n = one ? 1 : number("FH_SEEDS", SEEDS);
    int bad = 0;

    program = argv[0];
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    signal(SIGABRT, crashed);
    for (uint32_t i = 0; i < N_SCENARIOS; i++) {
        if (!is_named(argc, argv, scenarios[i].name))
            continue;
        if (scenarios[i].kind == WRONG)
            bad += run_wrong(i, one ? one : 1, one ? 1 : MORE * n);
        else
            bad += run(i, one ? one : 1, n);
        bad += one ? 0 : run_regressions(i);
        for (uint64_t seed = 1; seed <= 5 && !one; seed++)
            bad += check_same(i, seed);
    }
    return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
