/* SPDX-License-Identifier: MIT */
/*
 * Version 2's mark in lib/grant/version.h under relacy.
 *
 *   grant_v2_model        holds: the engine uses a page only between the
 *                         granter's grant and his withdrawal, and reads the
 *                         entry that belongs to the header
 *   grant_v2_model LABEL  G2 .. G7: that ordering is taken away and relacy must
 *                         notice
 *
 * The granter's frame number and his page are plain variables: every use that
 * he does not know to be over is a race.
 */
#include "fh_model.h"
#include "grant/version.h"

enum { GRANTER, ENGINE, N_THREADS, ROUNDS = 2, TRIES = 3,
       ITERATIONS = 300000 };
enum { GRANTED = 0x20001, MARKS = 0x18 };

static const char *const labels[] = {"G2", "G3", "G4", "G5", "G6", "G7"};
static const char *rmw_is[N_THREADS], *load_is[N_THREADS];

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    const unsigned i = rl::thread_index();

    if (i >= N_THREADS)
        return false;
    if (what == FH_MODEL_RMW)
        return is_mutant(rmw_is[i]);
    if (what == FH_MODEL_LOAD_ORDERED)
        return is_mutant(load_is[i]);
    return what == FH_MODEL_STORE_RELEASE && is_mutant("G7");
}

struct grant_v2_suite : rl::test_suite<grant_v2_suite, N_THREADS> {
    fh_word32 header;
    fh_word16 status;
    rl::var<unsigned> frame, page;

    void
    before()
    {
        header.store(0, rl::mo_relaxed, $);
        status.store(0, rl::mo_relaxed, $);
        frame($) = 0;
        page($) = 0;
        for (unsigned i = 0; i < N_THREADS; i++)
            rmw_is[i] = load_is[i] = "-";
    }

    static void
    at(const char *rmw, const char *load)
    {
        rmw_is[rl::thread_index()] = rmw;
        load_is[rl::thread_index()] = load;
    }

    /* False: somebody is there still, and the page is not the granter's. */
    bool
    withdraw()
    {
        for (unsigned i = 0; i < TRIES; i++) {
            at("G4", "G6");
            const uint16_t marks = fh_v2_withdraw(&header, &status);
            at("-", "-");

            if (!marks)
                return true;
            fh_cpu_relax();
        }
        return false;
    }

    void
    granter()
    {
        for (unsigned i = 1; i <= ROUNDS; i++) {
            frame($) = i;
            page($) = i;
            fh_v2_publish(&header, GRANTED);
            if (!withdraw())
                return;
        }
        frame($) = 0;
        page($) = 0; /* his own again */
    }

    void
    engine()
    {
        if (fh_load_relaxed32(&header) != GRANTED)
            return;
        at("G2", "G3");
        const uint32_t word = fh_v2_mark(&header, &status, MARKS);

        at("-", "-");
        if (word == GRANTED) {
            const unsigned which = frame($);

            RL_ASSERT(which != 0);
            RL_ASSERT(page($) == which);
        }
        at("G5", "-");
        fh_v2_unmark(&status, MARKS);
        at("-", "-");
    }

    void
    thread(unsigned index)
    {
        if (index == GRANTER) {
            granter();
            return;
        }
        for (unsigned i = 0; i < ROUNDS; i++)
            engine();
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<grant_v2_suite>(argc, argv, labels, ITERATIONS);
}
