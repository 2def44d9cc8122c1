/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/evslot.h under relacy.
 *
 *   evslot_model          holds: the receiver sees everything that was sent
 *                         before it sleeps for the last time
 *   evslot_model LABEL    S1 or T1: that ordering is taken away; U1: unmask is
 *                         a load and a store instead of one step; relacy must
 *                         notice
 *
 * Two senders count up a word each, without any ordering, and notify.  The
 * receiver sleeps on an event that remembers one kick, takes the slot, and
 * either looks and then unmasks (as a backend of a ring does) or unmasks and
 * then looks (as users of libxenevtchn do).  A notification that is lost, or
 * that does not bring along what was written before it, leaves the receiver
 * asleep for ever.
 */
#include "fh_model.h"
#include "evtchn/evslot.h"

enum {
    N_SENDERS = 2,
    N_VALUES = 2, /* of each sender */
    RECEIVER = N_SENDERS,
    ITERATIONS = 400000,
};

static const char *const labels[] = {"S1", "T1", "U1"};

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    if (what != FH_MODEL_RMW)
        return false;
    return is_mutant(rl::thread_index() == RECEIVER ? "T1" : "S1");
}

struct evslot_suite : rl::test_suite<evslot_suite, N_SENDERS + 1> {
    struct fh_evslot slot;
    struct fh_model_event kick;
    rl::atomic<unsigned> sent[N_SENDERS];

    void
    before()
    {
        kick.open();
        fh_evslot_init(&slot, false);
        for (unsigned i = 0; i < N_SENDERS; i++)
            sent[i].store(0, rl::mo_relaxed, $);
    }

    void
    after()
    {
        kick.close();
    }

    void
    thread(unsigned index)
    {
        if (index == RECEIVER)
            run_receiver();
        else
            run_sender(index);
    }

    void
    run_sender(unsigned me)
    {
        for (unsigned i = 1; i <= N_VALUES; i++) {
            sent[me].store(i, rl::mo_relaxed, $);
            if (fh_evslot_send(&slot))
                kick.set();
        }
    }

    bool
    unmask()
    {
        if (!is_mutant("U1"))
            return fh_evslot_unmask(&slot);
        const uint32_t old = fh_load_acquire32(&slot.state);

        fh_store_release32(&slot.state, old & ~FH_EVSLOT_MASKED);
        return old & FH_EVSLOT_PENDING;
    }

    unsigned
    look()
    {
        unsigned n = 0;

        for (unsigned i = 0; i < N_SENDERS; i++)
            n += sent[i].load(rl::mo_relaxed, $);
        return n;
    }

    void
    run_receiver()
    {
        const bool look_first = rl::rand(2);
        unsigned seen = 0;

        while (seen < N_SENDERS * N_VALUES) {
            bool again = true;

            kick.wait();
            while (again && fh_evslot_take(&slot)) {
                if (look_first)
                    seen = look();
                again = unmask();
                if (!look_first)
                    seen = look();
            }
        }
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<evslot_suite>(argc, argv, labels, ITERATIONS);
}
