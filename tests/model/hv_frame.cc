/* SPDX-License-Identifier: MIT */
/*
 * hv/frame.h under relacy.
 *
 *   hv_frame_model          holds: a page that its granter lets go while others
 *                           map and unmap it is freed once, and not while
 *                           somebody uses it
 *   hv_frame_model LABEL    W1: the last reference does not take the page;
 *                           W2: letting go does not take it; W3: TAKEN goes
 *                           back though nobody has a reference; relacy must
 *                           notice
 *
 * Two mappers do what libgrant does with the entry and the page: mark the
 * entry, take the page (or be refused), use it, give it back, clear the mark;
 * the engine lets one of them at a time cross these states.  The ender lets the
 * page go.  Whoever has TAKEN withdraws the grant, or tries again.
 */
#include "fh_model.h"
#include "hv/frame.h"

enum {
    N_MAPPERS = 2,
    ENDER = N_MAPPERS,
    GRANTED = 1, /* of the entry */
    MARKED = 2,
    ITERATIONS = 150000,
};

static const char *const labels[] = {"W1", "W2", "W3"};

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return false; /* the mutants are other steps */
}

struct frame_suite : rl::test_suite<frame_suite, N_MAPPERS + 1> {
    fh_word32 word, entry, busy, lock;
    rl::var<unsigned> page;    /* 1: alive */
    rl::var<unsigned> n_freed; /* under the lock */

    void
    before()
    {
        fh_store_relaxed32(&word, FH_HV_FRAME_GRANTED);
        fh_store_relaxed32(&entry, GRANTED);
        fh_store_relaxed32(&busy, 0);
        fh_store_relaxed32(&lock, 0);
        page($) = 1;
        n_freed($) = 0;
    }

    void
    after()
    {
        RL_ASSERT(n_freed($) == 1);
    }

    static void
    acquire(fh_word32 *w)
    {
        uint32_t free = 0;

        while (!fh_cas32(w, &free, 1)) {
            free = 0;
            fh_cpu_relax();
        }
    }

    static void
    release(fh_word32 *w)
    {
        fh_store_release32(w, 0);
    }

    /* True: the page is ours.  @refuse: as if it were not for us. */
    bool
    take(bool refuse)
    {
        uint32_t granted = GRANTED;
        bool ok;

        acquire(&busy);
        ok = fh_cas32(&entry, &granted, GRANTED | MARKED);
        if (ok && refuse) {
            fh_fetch_and32(&entry, ~(uint32_t)MARKED);
            ok = false;
        }
        if (ok)
            RL_ASSERT(fh_hv_frame_ref(&word));
        return ok || (release(&busy), false);
    }

    bool
    unref()
    {
        if (!is_mutant("W1"))
            return fh_hv_frame_unref(&word);
        fh_fetch_add32(&word, UINT32_MAX);
        return false;
    }

    void
    run_mapper()
    {
        bool taken;

        if (!take(rl::rand(2)))
            return;
        release(&busy);
        RL_ASSERT(page($) == 1);
        acquire(&busy);
        taken = unref();
        fh_fetch_and32(&entry, ~(uint32_t)MARKED);
        release(&busy);
        if (taken)
            withdraw();
    }

    bool
    untake()
    {
        if (!is_mutant("W3"))
            return fh_hv_frame_untake(&word);
        fh_fetch_and32(&word, ~FH_HV_FRAME_TAKEN);
        return true;
    }

    void
    withdraw()
    {
        for (;;) {
            uint32_t granted = GRANTED;

            acquire(&lock);
            if (fh_cas32(&entry, &granted, 0)) {
                fh_store_relaxed32(&word, 0);
                page($) = 0;
                n_freed($) = n_freed($) + 1;
                release(&lock);
                return;
            }
            /* W2's second one finds the grant withdrawn already. */
            RL_ASSERT(granted & GRANTED);
            const bool is_back = untake();

            release(&lock);
            if (is_back)
                return;
            fh_cpu_relax();
        }
    }

    void
    run_ender()
    {
        if (is_mutant("W2")) {
            if (!(fh_fetch_or32(&word, FH_HV_FRAME_ENDING) &
                  FH_HV_FRAME_REFS))
                withdraw();
        } else if (fh_hv_frame_end(&word)) {
            withdraw();
        }
    }

    void
    thread(unsigned index)
    {
        if (index == ENDER)
            run_ender();
        else
            run_mapper();
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<frame_suite>(argc, argv, labels, ITERATIONS);
}
