/* SPDX-License-Identifier: MIT */
/*
 * Event channels, the real C, under the deterministic scheduler: senders, a
 * guest's kernel, and whoever changes a port, in every order of their accesses
 * to shared memory up to a bound of unforced switches.
 *
 * Checked at the end of each run (I13): the kernel, which looks only when it
 * was kicked, has handled an event after the last send to each port that stayed
 * open; both ends of a channel name each other; no reference is left over.
 *
 * A hostile kernel is one of the threads, too: it may lose what it is sent, but
 * nobody may hang or break (the scheduler finds who waits for ever).
 *
 * usage: evtchn_sched_test [PROGRAM | --until-bad]
 *
 * SCHED_REPLAY=CHOICES: that run alone; SCHED_MORE=N: N more switches.
 */
#include "evtchn/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "evtchn/fifo.h"
#include "evtchn/internal.h"
#include "sched/points.h"
#include "sched/sched.h"

#define N_PORTS 70

static uint32_t pa, pb, qa, qb; /* two channels from guest 1 to guest 2 */
static bool expects_event;     /* at the end, of guest 2's pb */
static bool is_hostile;

#define A (&ev.g[1])
#define B (&ev.g[2])

/* ------------------------------------------------------------- the start -- */

/* The 2-level bits of ports that there are not: no other thread's business. */
static bool
is_private(const void *p)
{
    const uint8_t *at = p, *pending = B->shared_info + 2048;

    return at >= pending + (N_PORTS + 31) / 32 * 4 && at < pending + 512;
}

static void
connect_both(void)
{
    ev_connect(A, &pa, B, &pb);
    ev_connect(A, &qa, B, &qb);
    ev_settle(B);
    memset(B->handled, 0, sizeof(B->handled));
}

static void
reset_2l(void)
{
    ev_reset(N_PORTS, false);
    connect_both();
    expects_event = true;
    is_hostile = false;
}

static void
reset_fifo(void)
{
    ev_reset(N_PORTS, false);
    ev_go_fifo(B, 1);
    connect_both();
    expects_event = true;
    is_hostile = false;
}

static void
reset_fifo_hostile(void)
{
    reset_fifo();
    is_hostile = true;
}

static void
reset_2l_masked(void)
{
    reset_2l();
    ev_mask(B, pb);
}

static void
reset_fifo_masked(void)
{
    reset_fifo();
    ev_mask(B, pb);
}

/* pb was in vCPU 0's queue last, and is its tail; now it is vCPU 1's. */
static void
reset_fifo_moved(void)
{
    reset_fifo();
    (void)ev_send(A, pa);
    ev_settle(B);
    (void)ev_bind_vcpu(B, pb, 1);
}

static void
reset_no_budget(void)
{
    reset_2l();
    (void)fh_evtchn_refill(&B->d, 0);
}

/* FIFO without a page for the words. */
static void
reset_fifo_no_page(void)
{
    struct evtchn_init_control c = { 6, 80, 0, 0, { 0 } };

    reset_2l();
    (void)ev_call(B, EVTCHNOP_init_control, &c);
}

/* ------------------------------------------------------- what threads do -- */

static void
send_p(void)
{
    sched_between();
    (void)!fh_evtchn_send(&A->d, pa);
}

static void
send_q(void)
{
    sched_between();
    (void)!fh_evtchn_send(&A->d, qa);
}

static void
send_p_twice(void)
{
    send_p();
    send_p();
}

/* The kernel: a look whenever it was kicked. */
static void
kernel(void)
{
    for (int i = 0; i < 2; i++) {
        sched_between();
        for (uint32_t v = 0; v < EV_VCPUS; v++) {
            if (B->is_kicked[v])
                ev_upcall(B, v);
        }
    }
}

static void
unmask(void)
{
    sched_between();
    (void)!fh_evtchn_unmask(&B->d, pb);
}

static void
move(void)
{
    sched_between();
    (void)!fh_evtchn_bind_vcpu(&B->d, pb, 1);
}

static void
move_back(void)
{
    sched_between();
    (void)!fh_evtchn_bind_vcpu(&B->d, pb, 0);
}

static void
refill(void)
{
    sched_between();
    (void)fh_evtchn_refill(&B->d, 5);
}

static void
to_fifo(void)
{
    sched_between();
    (void)!fh_evtchn_init_control(&B->d, 0, 6, 80);
    sched_between();
    (void)!fh_evtchn_expand_array(&B->d, 1);
}

static void
expand(void)
{
    sched_between();
    (void)!fh_evtchn_expand_array(&B->d, 1);
}

/* B closes and binds again; an event that A sent meanwhile is not lost. */
static void
rebind(void)
{
    sched_between();
    (void)!fh_evtchn_close(&B->d, pb);
    sched_between();
    (void)!fh_evtchn_bind_interdomain(&B->d, 1, pa, &pb);
}

static void
close_a(void)
{
    sched_between();
    (void)!fh_evtchn_close(&A->d, pa);
}

static void
close_b(void)
{
    sched_between();
    (void)!fh_evtchn_close(&B->d, pb);
    expects_event = false;
}

static void
reset_b(void)
{
    sched_between();
    (void)!fh_evtchn_reset(&B->d, false);
    expects_event = false;
}

static void
die_b(void)
{
    uint32_t cursor = 0;

    expects_event = false;
    do
        sched_between();
    while (fh_evtchn_close_all(&B->d, 1, &cursor));
}

static void
scribble(void)
{
    static const uint32_t words[] = { 0x2001ffff, UINT32_MAX, 0, 0x20000001 };

    for (unsigned i = 0; i < FH_ARRAY_SIZE(words); i++) {
        sched_between();
        if (ev_word(B, pb))
            fh_store_relaxed32(ev_word(B, pb), words[i]);
        if (ev_word(B, qb))
            fh_store_relaxed32(ev_word(B, qb), ~words[i]);
    }
}

/* -------------------------------------------------------------- judging -- */

static const char *
judge_ends(void)
{
    uint32_t n_a = 0, n_b = 0;

    for (uint32_t p = 1; p < N_PORTS; p++) {
        const uint64_t link = A->d.ports[p].link;
        const uint32_t peer = fh_link_port(link);

        if (link & (FH_LINK_FROZEN | FH_LINK_SENDERS))
            return "a link is left frozen or entered";
        if (fh_link_state(link) == EVTCHNSTAT_interdomain) {
            n_b++;
            if (fh_link_port(B->d.ports[peer].link) != p)
                return "the ends do not name each other";
        }
        if (fh_link_state(B->d.ports[p].link) == EVTCHNSTAT_interdomain)
            n_a++;
    }
    if (n_a != n_b || A->refs != n_a || B->refs != n_b)
        return "references";
    return NULL;
}

static const char *
judge(void)
{
    const char *wrong = judge_ends();

    if (wrong || is_hostile || !expects_event)
        return wrong;
    (void)fh_evtchn_refill(&B->d, FH_EVTCHN_UNLIMITED);
    ev_settle(B);
    for (uint32_t p = 1; p < N_PORTS; p++) {
        bool is_pending = false;

        (void)!fh_evtchn_pending(&B->d, p, false, &is_pending);
        if (is_pending)
            return "pending, and the kernel was not told";
    }
    return B->handled[pb] ? NULL : "an event was never handled";
}

/* Orders of whole operations have no say here: what counts is judged. */
static void
digest(char *buf, size_t size)
{
    buf[0] = '\0';
}

#define COMMON .judge = judge, .digest = digest

static const struct sched_program programs[] = {
    { "2-level: two senders and the kernel", reset_2l,
      { send_p, send_p, kernel }, .unforced = 2, COMMON },
    { "2-level: two ports and the kernel", reset_2l,
      { send_p, send_q, kernel }, .unforced = 2, COMMON },
    { "2-level: a send meets an unmask", reset_2l_masked,
      { send_p, unmask, kernel }, .unforced = 2, COMMON },
    { "2-level: a send, and its port moves", reset_2l,
      { send_p, move, kernel }, .unforced = 2, COMMON },
    { "2-level: the budget is spent, and refilled", reset_no_budget,
      { send_p, refill, kernel }, .unforced = 2, COMMON },
    { "2-level: a send while its receiver binds anew", reset_2l,
      { send_p_twice, rebind, kernel }, .unforced = 2, COMMON },
    { "2-level: a send while the receiver closes", reset_2l,
      { send_p, close_b, kernel }, .unforced = 2, COMMON },
    { "2-level: both ends close, and a send", reset_2l,
      { close_a, close_b, send_p }, .unforced = 2, COMMON },
    { "2-level turns into FIFO under sends", reset_2l,
      { send_p, to_fifo, kernel }, .unforced = 2, COMMON },
    { "2-level: the receiver dies", reset_2l,
      { send_p, die_b, send_q }, .unforced = 2, COMMON },
    { "FIFO: two senders and the kernel", reset_fifo,
      { send_p, send_p, kernel }, .unforced = 2, COMMON },
    { "FIFO: two ports and the kernel", reset_fifo,
      { send_p_twice, send_q, kernel }, .unforced = 2, COMMON },
    { "FIFO: a send meets an unmask", reset_fifo_masked,
      { send_p, unmask, kernel }, .unforced = 2, COMMON },
    { "FIFO: a port that moved, and another behind its old tail",
      reset_fifo_moved, { send_p, send_q, kernel }, .unforced = 2, COMMON },
    { "FIFO: sends while the port moves back", reset_fifo_moved,
      { send_p, move_back, kernel }, .unforced = 2, COMMON },
    { "FIFO: two senders while the port moves back", reset_fifo_moved,
      { send_p, send_p, move_back }, .unforced = 2, COMMON },
    { "FIFO: a send while its page comes", reset_fifo_no_page,
      { send_p, expand, kernel }, .unforced = 2, COMMON },
    { "FIFO: a send while its receiver binds anew", reset_fifo,
      { send_p_twice, rebind, kernel }, .unforced = 2, COMMON },
    { "FIFO: a reset takes the pages away", reset_fifo,
      { send_p, reset_b, unmask }, .unforced = 2, COMMON },
    { "FIFO: a hostile kernel", reset_fifo_hostile,
      { send_p, send_q, scribble }, .unforced = 2, COMMON },
};

int
main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    const bool until_bad = only && !strcmp(only, "--until-bad");
    unsigned n_bad = 0;

    sched_is_private = is_private;
    for (size_t i = 0; i < FH_ARRAY_SIZE(programs); i++) {
        struct sched_stats stats;
        const char *bad;

        if ((only && !until_bad && strcmp(only, programs[i].name)) ||
            (until_bad && n_bad))
            continue;
        bad = sched_explore(&programs[i], &stats);
        printf("%s %s: %llu runs, %llu steps\n", bad ? "not ok" : "ok",
               programs[i].name, (unsigned long long)stats.runs,
               (unsigned long long)stats.steps);
        fflush(stdout);
        if (bad)
            printf("  %s\n", bad);
        n_bad += bad != NULL;
    }
    return n_bad ? 1 : 0;
}
