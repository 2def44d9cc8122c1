/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/link.h under relacy.
 *
 *   evtchn_model          holds: a sender uses a port only as its link says,
 *                         and no event is lost between send and unmask
 *   evtchn_model LABEL    P1 .. P4, M1 .. M4, K1 or K2: that ordering is taken
 *                         away and relacy must notice
 *
 * Two senders send through one port, while two CPUs of its owner close it and
 * bind it to other peers (what the link stands for is a plain variable).  A
 * receiver masks, unmasks and consumes, and sleeps until it is delivered to;
 * what was sent is a word without ordering of its own.
 */
#include "fh_model.h"
#include "evtchn/link.h"

enum {
    SENDER_A,
    SENDER_B,
    OWNER_A,
    OWNER_B,
    RECEIVER,
    N_THREADS,
    ITERATIONS = 150000,
};

static const char *const labels[] = {"P1", "P2", "P3", "P4", "M1",
                                     "M2", "M3", "M4", "K1", "K2"};
static const char *step_of[N_THREADS];

/* step_of names the step by its read-modify-writes; the others are apart. */
static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    const unsigned me = rl::thread_index();

    switch (what) {
    case FH_MODEL_LOAD_ACQUIRE:
        return is_mutant("P1");
    case FH_MODEL_FENCE:
        return is_mutant(me == RECEIVER ? "M2" : "M1");
    case FH_MODEL_RMW:
        return is_mutant(step_of[me]);
    case FH_MODEL_STORE_RELEASE:
        return is_mutant("K2");
    case FH_MODEL_STORE_RELAXED:
        break;
    }
    return false;
}

struct evtchn_suite : rl::test_suite<evtchn_suite, N_THREADS> {
    fh_word64 link, pending, masked;
    fh_word32 lock;
    rl::var<unsigned> peer; /* what the link stands for */
    rl::var<unsigned> n_changes; /* what only the lock protects */
    rl::atomic<unsigned> sent[2];
    struct fh_model_event delivered;

    void
    before()
    {
        delivered.open();
        for (unsigned i = 0; i < N_THREADS; i++)
            step_of[i] = "-";
        for (unsigned i = 0; i < 2; i++)
            sent[i].store(0, rl::mo_relaxed, $);
        fh_store_relaxed64(&pending, 0);
        fh_store_relaxed64(&masked, 1);
        fh_store_relaxed32(&lock, 0);
        peer($) = 1;
        n_changes($) = 0;
        fh_store_relaxed64(&link, fh_link(2, 1, 1));
    }

    void
    after()
    {
        delivered.close();
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    void
    run_sender(unsigned me)
    {
        uint64_t l;

        at("P3");
        l = fh_link_enter(&link);
        RL_ASSERT(peer($) == fh_link_port(l));
        at("P4");
        fh_link_leave(&link);

        sent[me].store(1, rl::mo_relaxed, $);
        at("M3");
        if (fh_bit_raise(&pending, &masked, 1))
            delivered.set();
        at("-");
    }

    void
    run_owner(unsigned me)
    {
        at("K1");
        fh_port_lock(&lock);
        at("-");
        n_changes($) = n_changes($) + 1;
        fh_link_freeze(&link, FH_LINK_BUSY);
        peer($) = 2 + me;
        at("P2");
        fh_link_set(&link, fh_link(2, 1, 2 + me));
        at("-");
        fh_port_unlock(&lock);
    }

    /* As a guest does: masked while it looks, unmasked before it sleeps. */
    void
    run_receiver()
    {
        unsigned seen = 0;

        while (seen < 2) {
            if (fh_bit_unmask(&pending, &masked, 1))
                delivered.set();
            delivered.wait();
            fh_fetch_or64(&masked, 1);
            at("M4");
            (void)fh_bit_consume(&pending, 1);
            at("-");
            seen = sent[0].load(rl::mo_relaxed, $) +
                   sent[1].load(rl::mo_relaxed, $);
        }
    }

    void
    thread(unsigned index)
    {
        if (index == OWNER_A || index == OWNER_B)
            run_owner(index);
        else if (index == RECEIVER)
            run_receiver();
        else
            run_sender(index);
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<evtchn_suite>(argc, argv, labels, ITERATIONS);
}
