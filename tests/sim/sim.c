/* SPDX-License-Identifier: MIT */
/*
 * Virtual time, chance, the queue of events and the trace.
 *
 * The queue is a binary heap ordered by (time, random tie-break, sequence): two
 * events of one moment happen in an order that only the seed decides.
 */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- chance ---- */

/* splitmix64 */
static uint64_t
next_random(struct sim *s)
{
    uint64_t z = s->random += 0x9e3779b97f4a7c15ull;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint32_t
sim_random(struct sim *s, uint32_t below)
{
    return (uint32_t)((next_random(s) >> 32) * below >> 32);
}

bool
sim_chance(struct sim *s, uint32_t p, uint32_t of)
{
    return sim_random(s, of) < p;
}

uint64_t
sim_between(struct sim *s, uint64_t low, uint64_t high)
{
    return low + next_random(s) % (high - low + 1);
}

/* ---- trace ---- */

static void
mix(struct sim *s, uint64_t v)
{
    s->hash = (s->hash ^ v) * 0x100000001b3ull;
    s->hash ^= s->hash >> 29;
}

void
sim_trace(struct sim *s, uint64_t what, uint64_t a, uint64_t b)
{
    mix(s, s->now_ns);
    mix(s, what);
    mix(s, a);
    mix(s, b);
}

void
sim_say(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (!s->verbose)
        return;
    fprintf(stderr, "%10.3f us  ", (double)s->now_ns / 1000);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void
sim_fail(struct sim *s, const char *fmt, ...)
{
    va_list ap;

    if (s->failed)
        return;
    s->failed = true;
    va_start(ap, fmt);
    vsnprintf(s->failure, sizeof(s->failure), fmt, ap);
    va_end(ap);
    sim_say(s, "FAILED: %s", s->failure);
}

/* ---- events ---- */

static bool
before(const struct sim_event *a, const struct sim_event *b)
{
    if (a->at_ns != b->at_ns)
        return a->at_ns < b->at_ns;
    if (a->tie != b->tie)
        return a->tie < b->tie;
    return a->seq < b->seq;
}

static void
swap(struct sim_event *a, struct sim_event *b)
{
    struct sim_event t = *a;

    *a = *b;
    *b = t;
}

static void
push(struct sim *s, const struct sim_event *e)
{
    uint32_t i = s->n_heap++;

    if (s->n_heap > s->max_heap) {
        s->max_heap = s->max_heap ? 2 * s->max_heap : 1024;
        s->heap = realloc(s->heap, s->max_heap * sizeof(*s->heap));
        if (!s->heap)
            abort();
    }
    s->heap[i] = *e;
    while (i && before(&s->heap[i], &s->heap[(i - 1) / 2])) {
        swap(&s->heap[i], &s->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

static struct sim_event
pop(struct sim *s)
{
    const struct sim_event first = s->heap[0];
    uint32_t i = 0;

    s->heap[0] = s->heap[--s->n_heap];
    for (;;) {
        uint32_t least = i;

        for (uint32_t c = 2 * i + 1; c <= 2 * i + 2 && c < s->n_heap; c++)
            if (before(&s->heap[c], &s->heap[least]))
                least = c;
        if (least == i)
            return first;
        swap(&s->heap[i], &s->heap[least]);
        i = least;
    }
}

static void
add_event(struct sim *s, uint64_t delay_ns, struct sim_event e)
{
    e.at_ns = s->now_ns + delay_ns;
    e.tie = sim_random(s, 1u << 16);
    e.seq = s->n_events++;
    push(s, &e);
}

void
sim_after(struct sim *s, uint64_t delay_ns, void (*fn)(void *arg, uint64_t a),
          void *arg, uint64_t a)
{
    add_event(s, delay_ns, (struct sim_event){ .fn = fn, .arg = arg, .a = a });
}

void
sim_wake(struct sim_party *p, uint64_t delay_ns)
{
    const uint64_t at = p->s->now_ns + delay_ns;

    if (!p->alive || p->due_ns <= at)
        return;
    p->due_ns = at;
    add_event(p->s, delay_ns, (struct sim_event){ .party = p, .a = at });
}

static void
run_party(struct sim_party *p, uint64_t due_ns)
{
    jmp_buf death;

    if (!p->alive || p->due_ns != due_ns)
        return; /* an older wish */
    p->due_ns = UINT64_MAX;
    p->running = true;
    p->death = &death;
    if (!setjmp(death))
        p->run(p->actor);
    p->running = false;
    p->death = NULL;
    if (p->doomed)
        sim_party_kill(p);
    else if (p->xs_news) /* that it could not see yet */
        sim_wake(p, p->xs_at_ns > p->s->now_ns ? p->xs_at_ns - p->s->now_ns
                                               : 1000);
}

static void
happen(struct sim *s, const struct sim_event *e)
{
    if (s->now_ns < e->at_ns)
        s->now_ns = e->at_ns;
    if (e->party)
        run_party(e->party, e->a);
    else
        e->fn(e->arg, e->a);
}

/* Lets a few things happen that are due, inside a platform call. */
void
sim_yield(struct sim *s)
{
    uint32_t n = 1 + sim_random(s, 3);

    if (s->depth >= SIM_NEST)
        return;
    s->depth++;
    while (n-- && s->n_heap && s->heap[0].at_ns <= s->now_ns && !s->failed) {
        struct sim_event e;

        if (s->heap[0].party && s->heap[0].party->running)
            break;
        e = pop(s);
        happen(s, &e);
    }
    s->depth--;
}

int
sim_wait_until(struct sim_party *p, uint64_t end_ns)
{
    struct sim *s = p->s;

    if (s->depth)
        return FH_EBUSY;
    s->depth++;
    while (!s->failed && !sim_has_news(p) && s->now_ns < end_ns) {
        struct sim_event e;

        if (!s->n_heap || s->heap[0].at_ns >= end_ns) {
            s->now_ns = end_ns;
            break;
        }
        e = pop(s);
        if (e.party != p)
            happen(s, &e);
        else if (p->due_ns == e.a)
            p->due_ns = UINT64_MAX;
    }
    s->depth--;
    return s->failed ? FH_EIO : 0;
}

void
sim_run(struct sim *s, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
    const uint64_t end = s->now_ns + limit_ns;

    while (!s->failed && !done(arg)) {
        struct sim_event e;

        if (!s->n_heap) {
            sim_fail(s, "everybody sleeps for ever");
            return;
        }
        e = pop(s);
        happen(s, &e);
        if (s->now_ns > end)
            sim_fail(s, "not done after %.0f ms of virtual time",
                     (double)limit_ns / 1e6);
    }
}

/* ---- life ---- */

struct sim *
sim_new(const char *scenario, uint64_t seed)
{
    struct sim *s = calloc(1, sizeof(*s));

    if (!s)
        abort();
    s->scenario = scenario;
    s->seed = seed;
    s->random = seed * 0x2545f4914f6cdd1dull + 12345;
    s->now_ns = 1000000;
    s->hash = 0xcbf29ce484222325ull;
    s->verbose = getenv("FH_TRACE") != NULL;
    s->p_yield = 16;
    sim_grants_init(s);
    sim_xs_init(s);
    return s;
}

void
sim_free(struct sim *s)
{
    for (uint32_t i = 0; i < s->n_parties; i++)
        if (s->party[i].alive)
            sim_party_kill(&s->party[i]);
    fh_xs_free(s->xs);
    free(s->heap);
    free(s);
}
