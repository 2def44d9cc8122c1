/* SPDX-License-Identifier: MIT */
/*
 * The scenarios, each over many seeds.
 *
 *   sim_test [SCENARIO...]     all of them when none is named
 *   FH_SEEDS=n                 so many seeds of each (default 200)
 *   FH_SEED=n                  this one only
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

enum { SEEDS = 200, STORM_NS = 3000000 };

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
    t->bp.n_kills = 1 + sim_random(t->s, 8);
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

static void
power_cut(struct sim_story *t)
{
    uint32_t n = 1 + sim_random(t->s, 3);

    t->bp.n_kills = sim_random(t->s, 3);
    for (uint32_t i = 0; i < t->n_guests; i++)
        t->gp[i].n_requests /= 2; /* of each life */
    sim_story_begin(t);
    while (n-- && !t->s->failed) {
        sim_story_run_for(t, sim_random(t->s, STORM_NS));
        sim_story_power_cut(t);
    }
    sim_story_end(t);
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
    sim_story_begin(t);
    sim_story_end(t);
}

static const struct {
    const char *name;
    void (*tell)(struct sim_story *t);
    bool is_wrong; /* must fail for some seed */
} scenarios[] = {
    { "io", io, false },
    { "kill", kill_worker, false },
    { "power", power_cut, false },
    { "come-and-go", come_and_go, false },
    { "store-errors", store_errors, false },
    { "no-fence", no_fence, true },
    { "old-state", old_state, true },
};

enum { N_SCENARIOS = sizeof(scenarios) / sizeof(scenarios[0]) };

/* ---- running them ---- */

static const char *program;
static const char *now_scenario;
static uint64_t now_seed;

static void
print_repeat(FILE *f)
{
    fprintf(f, "  repeat: FH_SEED=%" PRIu64 " %s %s\n", now_seed, program,
            now_scenario);
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

/* Returns how many seeds failed; a wrong scenario ends at the first. */
static int
run(uint32_t i, uint64_t first, uint64_t n)
{
    struct sim_sums sums = { 0 };
    clock_t start = clock();
    char failure[400];
    int n_bad = 0;

    for (uint64_t seed = first; seed < first + n; seed++) {
        (void)tell(i, seed, &sums, failure, sizeof(failure));
        if (!failure[0])
            continue;
        n_bad++;
        if (scenarios[i].is_wrong) {
            printf("%-14s found at seed %" PRIu64 ": %s\n", scenarios[i].name,
                   seed, failure);
            return 0;
        }
        fprintf(stderr, "sim: scenario %s, seed %" PRIu64 ": %s\n",
                scenarios[i].name, seed, failure);
        print_repeat(stderr);
        if (n_bad == 5)
            break;
    }
    print_sums(i, n, &sums, (double)(clock() - start) / CLOCKS_PER_SEC);
    if (scenarios[i].is_wrong && n > 1) {
        fprintf(stderr, "sim: %s is wrong, and no seed of %" PRIu64 " found it\n",
                scenarios[i].name, n);
        return 1;
    }
    return n_bad;
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

static uint64_t
number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text && *text ? strtoull(text, NULL, 10) : otherwise;
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
        bad += run(i, one ? one : 1, n);
        for (uint64_t seed = 1; seed <= 5 && !one; seed++)
            bad += check_same(i, seed);
    }
    return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
