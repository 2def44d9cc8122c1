/* SPDX-License-Identifier: MIT */
/*
 * lib/evtchn/fifo.h under relacy.
 *
 *   evtchn_fifo_model         holds: the guest sees what was sent before it
 *                             sleeps for the last time
 *   evtchn_fifo_model LABEL   W1 or W4, K1 or K2: that ordering is taken away;
 *                             LINK: the link is a load and a store; CLEAN: the
 *                             link is left in a consumed tail; relacy must
 *                             notice
 *
 * Three senders, two of them on one port, and one queue.  The guest consumes as
 * a kernel does, and masks a port while it handles its event and unmasks it by
 * hypercall.  What senders do under the queue's lock is as in fifo.c.
 */
#include "fh_model.h"
#include "evtchn/fifo.h"
#include "evtchn/link.h"

enum {
    N_SENDERS = 3,
    GUEST = N_SENDERS,
    N_THREADS,
    N_EACH = 2,
    ITERATIONS = 200000,
};

static const char *const labels[] = {"W1", "W4", "K1", "K2", "LINK", "CLEAN"};


static const char *step_of[N_THREADS];

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    const unsigned me = rl::thread_index();

    if (what == FH_MODEL_STORE_RELEASE)
        return is_mutant("K2");
    return what == FH_MODEL_RMW && is_mutant(step_of[me]);
}

struct fifo_suite : rl::test_suite<fifo_suite, N_THREADS> {
    fh_word32 word[3], head, ready, lock;
    fh_word8 upcall;
    rl::var<uint32_t> tail;
    rl::atomic<unsigned> sent[N_SENDERS];
    struct fh_model_event kick;
    uint32_t next; /* the guest's */

    void
    before()
    {
        kick.open();
        for (unsigned i = 0; i < 3; i++)
            fh_store_relaxed32(&word[i], 0);
        for (unsigned i = 0; i < N_SENDERS; i++)
            sent[i].store(0, rl::mo_relaxed, $);
        for (unsigned i = 0; i < N_THREADS; i++)
            step_of[i] = "-";
        fh_store_relaxed32(&head, 0);
        fh_store_relaxed32(&ready, 0);
        fh_store_relaxed32(&lock, 0);
        fh_store_relaxed8(&upcall, 0);
        tail($) = 0;
        next = 0;
    }

    void
    after()
    {
        kick.close();
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    bool
    append(uint32_t t, uint32_t port)
    {
        fh_word32 *const w = t ? &word[t] : NULL;

        if (w && is_mutant("LINK")) {
            const uint32_t old = fh_load_acquire32(w);

            if (old & FH_FIFO_LINKED) {
                fh_store_relaxed32(w, old | port);
                return true;
            }
        } else if (w && is_mutant("CLEAN")) {
            if (fh_fetch_or32(w, port) & FH_FIFO_LINKED)
                return true;
        } else {
            return fh_fifo_append(w, &head, port);
        }
        fh_store_relaxed32(&head, port);
        return false;
    }

    bool
    claim(uint32_t port)
    {
        if (is_mutant("CLEAN")) /* which would otherwise do it, too */
            return !(fh_fetch_or32(&word[port], FH_FIFO_LINKED) &
                     FH_FIFO_LINKED);
        return fh_fifo_claim(&word[port]);
    }

    void
    deliver(uint32_t port)
    {
        bool is_linked = true;

        at("K1");
        fh_port_lock(&lock);
        at("-");
        if (claim(port)) {
            uint32_t t = tail($);

            if (t == port)
                t = 0;
            is_linked = append(t, port);
            tail($) = port;
        }
        fh_port_unlock(&lock);
        at("W4");
        if (!is_linked && fh_fifo_announce(&ready, 0, &upcall))
            kick.set();
        at("-");
    }

    void
    run_sender(unsigned me)
    {
        const uint32_t port = me == 2 ? 2 : 1;

        for (unsigned i = 1; i <= N_EACH; i++) {
            uint32_t old;

            sent[me].store(i, rl::mo_relaxed, $);
            at("W1");
            old = fh_fifo_pend(&word[port]);
            at("-");
            if (fh_fifo_wants_link(old))
                deliver(port);
        }
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
    handle(uint32_t port, unsigned *seen)
    {
        (void)fh_fetch_or32(&word[port], FH_FIFO_MASKED);
        (void)fh_fetch_and32(&word[port], ~FH_FIFO_PENDING);
        *seen = look();
        if (fh_fifo_unmask(&word[port]))
            deliver(port);
    }

    /* One event; true: there is another. */
    bool
    consume(unsigned *seen)
    {
        const uint32_t port = next ? next : fh_load_acquire32(&head);
        uint32_t old;

        RL_ASSERT(port <= 2);
        if (!port)
            return false;
        old = fh_fetch_and32(&word[port], ~(FH_FIFO_LINKED | FH_FIFO_LINK));
        next = old & FH_FIFO_LINK;
        if (fh_load_acquire32(&word[port]) & FH_FIFO_PENDING)
            handle(port, seen);
        return next != 0;
    }

    void
    run_guest()
    {
        unsigned seen = 0;

        while (seen < N_SENDERS * N_EACH) {
            uint32_t r;

            kick.wait();
            (void)fh_exchange8(&upcall, 0);
            r = fh_exchange32(&ready, 0);
            while (r) {
                if (!consume(&seen))
                    r = 0;
                r |= fh_exchange32(&ready, 0);
            }
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
    return fh_model_main<fifo_suite>(argc, argv, labels, ITERATIONS);
}
