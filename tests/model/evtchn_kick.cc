/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/kick.h under relacy.
 *
 *   evtchn_kick_model         holds: a kick that was put off is made by the
 *                             refill, or by the one who put it off
 *   evtchn_kick_model LABEL   Q1 or Q2: that fence is taken away and relacy
 *                             must notice
 *
 * Two senders find one kick in the budget, while it is refilled.  The guest
 * waits until it was kicked for the last event.
 */
#include "fh_model.h"
#include "evtchn/kick.h"

enum {
    SENDER_A,
    SENDER_B,
    REFILLER,
    GUEST,
    N_THREADS,
    ITERATIONS = 200000,
};

static const char *const labels[] = {"Q1", "Q2"};


static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    const char *const label = rl::thread_index() == REFILLER ? "Q2" : "Q1";

    /* The read-modify-writes beside the fences are full barriers in our
     * accessors; a fence must do without them. */
    return (what == FH_MODEL_FENCE || what == FH_MODEL_RMW) &&
           is_mutant(label);
}

struct kick_suite : rl::test_suite<kick_suite, N_THREADS> {
    fh_word32 budget, owed;
    rl::atomic<unsigned> events;
    struct fh_model_event kick;

    void
    before()
    {
        kick.open();
        fh_store_relaxed32(&budget, 1);
        fh_store_relaxed32(&owed, 0);
        events.store(0, rl::mo_relaxed, $);
    }

    void
    after()
    {
        kick.close();
    }

    void
    run_sender()
    {
        events.fetch_add(1, rl::mo_seq_cst, $);
        if (fh_kick_now(&budget, &owed))
            kick.set();
    }

    void
    run_refiller()
    {
        fh_kick_refill(&budget, 2);
        if (fh_kick_pay(&owed))
            kick.set();
    }

    void
    run_guest()
    {
        while (events.load(rl::mo_seq_cst, $) < 2)
            kick.wait();
    }

    void
    thread(unsigned index)
    {
        if (index == REFILLER)
            run_refiller();
        else if (index == GUEST)
            run_guest();
        else
            run_sender();
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<kick_suite>(argc, argv, labels, ITERATIONS);
}
