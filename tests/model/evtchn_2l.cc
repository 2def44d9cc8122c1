/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/two_level.h under relacy.
 *
 *   evtchn_2l_model           holds: the guest sees what was sent before it
 *                             sleeps for the last time
 *   evtchn_2l_model LABEL     T1, T2 or T7: that ordering is taken away and
 *                             relacy must notice
 *
 * Two senders send on one port, which is masked at first.  The guest unmasks
 * it by hypercall, and does what a kernel does when it is kicked: the flag, the
 * selector, the pending word; it masks the port while it handles the event.
 *
 * (T3 and T5 are read-modify-writes after the fences T2 and T7 and of one
 * thread in a row; relacy runs these in their order in any case.)
 */
#include "fh_model.h"
#include "evtchn/two_level.h"

enum {
    SENDER_A,
    SENDER_B,
    GUEST,
    N_THREADS,
    ITERATIONS = 300000,
};

static const char *const labels[] = {"T1", "T2", "T7"};


static bool at_pending[N_THREADS]; /* the next RMW is the pending bit's */

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    const unsigned me = rl::thread_index();

    if (what == FH_MODEL_FENCE)
        return is_mutant(me == GUEST ? "T7" : "T2");
    if (what == FH_MODEL_RMW && me != GUEST && at_pending[me]) {
        at_pending[me] = false;
        return is_mutant("T1");
    }
    return false;
}

struct two_level_suite : rl::test_suite<two_level_suite, N_THREADS> {
    fh_word32 pending, mask, sel;
    fh_word8 upcall;
    struct fh_2l bits;
    rl::atomic<unsigned> sent[2];
    struct fh_model_event kick;

    void
    before()
    {
        kick.open();
        fh_store_relaxed32(&pending, 0);
        fh_store_relaxed32(&mask, 1);
        fh_store_relaxed32(&sel, 0);
        fh_store_relaxed8(&upcall, 0);
        for (unsigned i = 0; i < 2; i++)
            sent[i].store(0, rl::mo_relaxed, $);
        bits.pending = &pending;
        bits.mask = &mask;
        bits.bit = 1;
        bits.sel = &sel;
        bits.sel_bit = 1;
        bits.upcall = &upcall;
    }

    void
    after()
    {
        kick.close();
    }

    void
    run_sender(unsigned me)
    {
        sent[me].store(1, rl::mo_relaxed, $);
        at_pending[me] = true;
        if (fh_2l_raise(&bits) & FH_EV_KICK)
            kick.set();
    }

    unsigned
    look()
    {
        return sent[0].load(rl::mo_relaxed, $) +
               sent[1].load(rl::mo_relaxed, $);
    }

    void
    run_guest()
    {
        unsigned seen = 0;

        while (seen < 2) {
            if (fh_2l_unmask(&bits) & FH_EV_KICK)
                kick.set();
            kick.wait();
            (void)fh_exchange8(&upcall, 0);
            if (!fh_exchange32(&sel, 0) || !(fh_load_acquire32(&pending) & 1))
                continue;
            (void)fh_fetch_or32(&mask, 1);
            (void)fh_fetch_and32(&pending, ~1u);
            seen = look();
        }
    }

    void
    thread(unsigned index)
    {
        if (index == GUEST)
            run_guest();
        else
            run_sender(index);
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<two_level_suite>(argc, argv, labels, ITERATIONS);
}
