/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/link.h under relacy: a send that meets a bind.
 *
 *   evtchn_send_model         holds: what was written before a send that was
 *                             swallowed is seen by the one who binds
 *   evtchn_send_model P5      the send's read-modify-writes without an order:
 *                             relacy must notice
 *
 * A domain sends on its waiting port, while another binds to that port, and
 * then raises its own end.  Its guest sleeps until it is told, and must see
 * what was sent, whichever way the event went.
 */
#include "fh_model.h"
#include "evtchn/link.h"

enum {
    SENDER,
    BINDER,
    GUEST,
    N_THREADS,
    ITERATIONS = 150000,
};

static const char *const labels[] = {"P5"};


static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return what == FH_MODEL_RMW && rl::thread_index() == SENDER &&
           is_mutant("P5");
}

struct send_suite : rl::test_suite<send_suite, N_THREADS> {
    fh_word64 link, pending, masked;
    rl::atomic<unsigned> data;
    struct fh_model_event kick;

    void
    before()
    {
        kick.open();
        fh_store_relaxed64(&link, fh_link(1, 2, 0));
        fh_store_relaxed64(&pending, 0);
        fh_store_relaxed64(&masked, 0);
        data.store(0, rl::mo_relaxed, $);
    }

    void
    after()
    {
        kick.close();
    }

    void
    raise()
    {
        if (fh_bit_raise(&pending, &masked, 1))
            kick.set();
    }

    void
    run_sender()
    {
        uint64_t l;

        data.store(1, rl::mo_relaxed, $);
        l = fh_link_try(&link);
        if (l & FH_LINK_BUSY)
            return;
        if (fh_link_state(l) == 2)
            raise();
        fh_link_leave(&link);
    }

    void
    run_binder()
    {
        fh_link_freeze(&link, FH_LINK_BUSY);
        fh_link_set(&link, fh_link(2, 2, 1));
        raise();
    }

    void
    run_guest()
    {
        unsigned seen = 0;

        while (!seen) {
            kick.wait();
            (void)fh_bit_consume(&pending, 1);
            seen = data.load(rl::mo_relaxed, $);
        }
    }

    void
    thread(unsigned index)
    {
        if (index == SENDER)
            run_sender();
        else if (index == BINDER)
            run_binder();
        else
            run_guest();
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<send_suite>(argc, argv, labels, ITERATIONS);
}
