/* SPDX-License-Identifier: MIT */
/*
 * The scheduler.  A run is decided by its choices: at each point where more
 * than one thread could go on, the number of the one that does, counted from
 * the one that runs.  The search is depth first: after a run, the last choice
 * that has an alternative left is changed and all later ones start at 0 again.
 *
 * Who waits (fh_cpu_relax) is not runnable until another thread has written
 * since it looked, or until all wait: some wait for a while only.  A run of
 * more than MAX_STEPS is a deadlock or a livelock.
 */
#include "sched/sched.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "base/arith.h"
#include "sched/points.h"

#define MAX_CHOICES  4000
#define MAX_STEPS    20000
#define MAX_RESULTS  24
#define MAX_ALLOWED  512
#define OUTCOME      192
#define STACK_BYTES  (256u << 10)

struct thread {
    ucontext_t at;
    bool is_done, is_waiting;
    unsigned seen; /* writes before its last access */
    int result[MAX_RESULTS];
    unsigned n_results;
};

struct choice {
    uint8_t taken, n;
};

bool (*sched_is_private)(const void *p);

static const struct sched_program *program;
static struct thread threads[SCHED_THREADS];
static char stacks[SCHED_THREADS][STACK_BYTES] __attribute__((aligned(16)));
static ucontext_t main_at;
static unsigned running, n_threads, unforced_left, n_steps, n_writes;
static struct choice choices[MAX_CHOICES];
static unsigned n_choices, at_choice;
static unsigned less_unforced, more_unforced; /* SCHED_LESS, SCHED_MORE */
static bool in_run, whole_operations, has_written;
static const char *wrong;
static char allowed[MAX_ALLOWED][OUTCOME];
static unsigned n_allowed;
static char message[1024 + OUTCOME];

/* ---------------------------------------------------------- one decision -- */

static bool
runnable(unsigned t)
{
    return !threads[t].is_done && !threads[t].is_waiting;
}

/* Who goes on, with @n possibilities: as planned, or the first. */
static unsigned
choose(unsigned n)
{
    struct choice *c;

    if (n == 1)
        return 0;
    if (at_choice == MAX_CHOICES) {
        wrong = "more choices than MAX_CHOICES";
        return 0;
    }
    c = &choices[at_choice++];
    if (at_choice > n_choices) {
        *c = (struct choice){ 0, (uint8_t)n };
        n_choices = at_choice;
    } else if (!c->n) {
        c->n = (uint8_t)n; /* a replay */
    } else if (c->n != n || c->taken >= n) {
        wrong = "the same choices led elsewhere: the program is not "
                "deterministic";
        return 0;
    }
    return c->taken;
}

/* The thread that runs next, or SCHED_THREADS when none can. */
static unsigned
next_thread(void)
{
    unsigned can[SCHED_THREADS], n = 0;
    const bool forced = !runnable(running);

    for (unsigned i = 0; i < n_threads; i++) {
        const unsigned t = (running + i) % n_threads;

        if (runnable(t))
            can[n++] = t;
    }
    if (!n)
        return SCHED_THREADS;
    if (!forced && !unforced_left && !whole_operations)
        return running;
    n = choose(n);
    if (!forced && n && !whole_operations)
        unforced_left--;
    return can[n];
}

static void
leave(void)
{
    const unsigned self = running;

    swapcontext(&threads[self].at, &main_at);
}

/* Lets somebody (perhaps this thread) take the next step. */
static void
step(void)
{
    const unsigned self = running;
    unsigned next;

    if (!wrong && ++n_steps > MAX_STEPS)
        wrong = "no end in sight: a deadlock, or a livelock";
    if (wrong)
        leave();
    next = next_thread();
    if (next == SCHED_THREADS) { /* who waits for a while only gives up now */
        for (unsigned t = 0; t < n_threads; t++)
            threads[t].is_waiting = false;
        next = next_thread();
    }
    if (next == self && !wrong)
        return;
    if (!wrong)
        running = next;
    swapcontext(&threads[self].at, wrong ? &main_at : &threads[next].at);
}

/* After a write: who waited may look again, something may have changed. */
static void
wake_others(void)
{
    if (!has_written)
        return;
    has_written = false;
    for (unsigned t = 0; t < n_threads; t++) {
        if (t != running)
            threads[t].is_waiting = false;
    }
}

void
sched_point(const FH_SHARED void *p, bool is_write)
{
    if (!in_run || whole_operations)
        return;
    if (sched_is_private && sched_is_private((const void *)(uintptr_t)p))
        return;
    wake_others(); /* the write before this one is done */
    step();
    has_written = is_write;
    n_writes += is_write;
    threads[running].seen = n_writes;
}

void
sched_wait(void)
{
    if (!in_run)
        return;
    if (whole_operations) { /* whoever is waited for is not in the middle */
        wrong = "an operation waits for nobody";
        leave();
    }
    wake_others();
    threads[running].is_waiting = threads[running].seen == n_writes;
    step();
}

void
sched_between(void)
{
    if (whole_operations)
        step();
}

void
sched_result(int value)
{
    struct thread *t = &threads[running];

    if (t->n_results < MAX_RESULTS)
        t->result[t->n_results++] = value;
}

void
sched_fail(const char *why)
{
    wrong = why;
    leave();
}

/* --------------------------------------------------------------- one run -- */

static void
body(void)
{
    program->thread[running]();
    threads[running].is_done = true;
    wake_others();
    for (unsigned t = 0; t < n_threads; t++) {
        if (!threads[t].is_done) {
            step();
            break;
        }
    }
    leave();
}

static void
prepare(void)
{
    in_run = false;
    program->reset();
    n_threads = 0;
    while (n_threads < SCHED_THREADS && program->thread[n_threads])
        n_threads++;
    for (unsigned t = 0; t < n_threads; t++) {
        threads[t].is_done = threads[t].is_waiting = false;
        threads[t].n_results = threads[t].seen = 0;
        getcontext(&threads[t].at);
        threads[t].at.uc_stack.ss_sp = stacks[t];
        threads[t].at.uc_stack.ss_size = STACK_BYTES;
        threads[t].at.uc_link = NULL;
        makecontext(&threads[t].at, body, 0);
    }
    has_written = false;
    at_choice = n_steps = n_writes = 0;
    unforced_left = program->unforced + more_unforced - less_unforced;
    wrong = NULL;
}

static void
outcome(char *buf, size_t size)
{
    size_t n = 0;

    for (unsigned t = 0; t < n_threads; t++) {
        n += (size_t)snprintf(buf + n, size - n, "%s", t ? "|" : "");
        for (unsigned i = 0; i < threads[t].n_results && n < size; i++)
            n += (size_t)snprintf(buf + n, size - n, "%d ",
                                  threads[t].result[i]);
    }
    if (n + 2 < size) {
        buf[n++] = ':';
        program->digest(buf + n, size - n);
    }
}

/* Runs the choices that are set.  NULL, or what is wrong. */
static const char *
run_once(void)
{
    prepare();
    running = 0;
    in_run = true;
    running = choose(n_threads); /* who begins costs nothing */
    if (!wrong)
        swapcontext(&main_at, &threads[running].at);
    in_run = false;
    return wrong ? wrong : program->judge();
}

/* The next choices, depth first.  False: all were made. */
static bool
advance(void)
{
    while (n_choices) {
        struct choice *c = &choices[n_choices - 1];

        if (++c->taken < c->n)
            return true;
        n_choices--;
    }
    return false;
}

static const char *
describe(const char *what, const char *came)
{
    size_t n = (size_t)snprintf(message, sizeof(message),
                                "%s: %s%s%s; choices ", program->name, what,
                                *came ? ": " : "", came);

    for (unsigned i = 0; i < at_choice && n + 2 < sizeof(message); i++)
        message[n++] = (char)('0' + choices[i].taken);
    message[n] = '\0';
    return message;
}

/* ----------------------------------------------------------- exploration -- */

static bool
is_allowed(const char *came)
{
    for (unsigned i = 0; i < n_allowed; i++) {
        if (!strcmp(allowed[i], came))
            return true;
    }
    return program->may_also && program->may_also(came);
}

static const char *
allow(const char *came)
{
    if (is_allowed(came))
        return NULL;
    if (n_allowed == MAX_ALLOWED)
        return "more outcomes than MAX_ALLOWED";
    snprintf(allowed[n_allowed++], OUTCOME, "%s", came);
    return NULL;
}

static const char *
explore(bool whole, struct sched_stats *stats)
{
    whole_operations = whole;
    n_choices = 0;
    do {
        char came[OUTCOME] = "";
        const char *bad = run_once();

        stats->runs++;
        stats->steps += n_steps;
        if (!bad) {
            outcome(came, sizeof(came));
            if (whole)
                bad = allow(came);
            else if (!is_allowed(came))
                bad = "an outcome of no order of whole operations";
        }
        if (bad)
            return describe(bad, came);
    } while (advance());
    return NULL;
}

static const char *
replay(const char *digits)
{
    char came[OUTCOME] = "";
    const char *bad;

    whole_operations = false;
    n_choices = 0;
    /* As many possibilities as threads: the run itself says how many. */
    for (; digits[n_choices] && n_choices < MAX_CHOICES; n_choices++)
        choices[n_choices] =
            (struct choice){ (uint8_t)(digits[n_choices] - '0'), 0 };
    bad = run_once();
    outcome(came, sizeof(came));
    return describe(bad ? bad : "ran", came);
}

static unsigned
number(const char *variable, unsigned most)
{
    const char *value = getenv(variable);
    const unsigned long n = value ? strtoul(value, NULL, 10) : 0;

    return n < most ? (unsigned)n : most;
}

const char *
sched_explore(const struct sched_program *p, struct sched_stats *stats)
{
    const char *choice = getenv("SCHED_REPLAY");
    const char *bad;

    program = p;
    more_unforced = number("SCHED_MORE", 9);
    less_unforced = number("SCHED_LESS", p->unforced - 1);
    n_allowed = 0;
    *stats = (struct sched_stats){ 0 };
    if (choice)
        return replay(choice);
    bad = explore(true, stats);
    stats->allowed = n_allowed;
    stats->runs = stats->steps = 0;
    return bad ? bad : explore(false, stats);
}
