/* SPDX-License-Identifier: MIT */
/*
 * hv/quiesce.h under relacy.
 *
 *   hv_quiesce_model          holds: an object is not freed while a thread that
 *                             found it in the table may be looking at it
 *   hv_quiesce_model LABEL    Q1 .. Q4: that ordering is taken away and relacy
 *                             must notice
 *
 * Two threads look the object up in one turn of their loops, use it, and may
 * take a reference that they use and give back in the next turn.  A third takes
 * the object out of its table and frees it as hv/domain.c does: no reference,
 * then the grace, then still no reference.
 */
#include "fh_model.h"
#include "hv/quiesce.h"

enum {
    N_READERS = 2,
    FREER = N_READERS,
    ITERATIONS = 200000,
};

static const char *const labels[] = {"Q1", "Q2", "Q3", "Q4"};
static const volatile void *table_word, *refs_word;

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    switch (what) {
    case FH_MODEL_FENCE:
        return is_mutant(rl::thread_index() == FREER ? "Q2" : "Q1");
    case FH_MODEL_STORE_RELEASE:
        return is_mutant("Q3");
    case FH_MODEL_LOAD_ACQUIRE:
        return p != table_word && p != refs_word && is_mutant("Q4");
    case FH_MODEL_RMW:
    case FH_MODEL_STORE_RELAXED:
        break;
    }
    return false;
}

struct quiesce_suite : rl::test_suite<quiesce_suite, N_READERS + 1> {
    fh_word64 table, epoch[N_READERS];
    fh_word32 refs;
    rl::var<unsigned> object; /* 1: alive */

    void
    before()
    {
        table_word = &table;
        refs_word = &refs;
        fh_store_relaxed64(&table, 1);
        fh_store_relaxed32(&refs, 0);
        for (unsigned i = 0; i < N_READERS; i++)
            fh_store_relaxed64(&epoch[i], 0);
        object($) = 1;
    }

    void
    run_reader(unsigned me)
    {
        bool kept = false;

        fh_hv_epoch_enter(&epoch[me]);
        if (fh_load_acquire64(&table)) {
            RL_ASSERT(object($) == 1);
            kept = rl::rand(2);
            if (kept)
                fh_fetch_add32(&refs, 1);
        }
        fh_hv_epoch_leave(&epoch[me]);
        if (!kept)
            return;
        fh_hv_epoch_enter(&epoch[me]);
        RL_ASSERT(object($) == 1);
        fh_fetch_add32(&refs, UINT32_MAX);
        fh_hv_epoch_leave(&epoch[me]);
    }

    void
    grace()
    {
        uint64_t seen[N_READERS];

        fh_hv_epoch_barrier();
        for (unsigned i = 0; i < N_READERS; i++)
            seen[i] = fh_hv_epoch_read(&epoch[i]);
        for (unsigned i = 0; i < N_READERS; i++) {
            while (!fh_hv_epoch_over(&epoch[i], seen[i]))
                fh_cpu_relax();
        }
    }

    void
    run_freer()
    {
        fh_store_relaxed64(&table, 0);
        do {
            while (fh_load_acquire32(&refs))
                fh_cpu_relax();
            grace();
        } while (fh_load_acquire32(&refs));
        object($) = 0;
    }

    void
    thread(unsigned index)
    {
        if (index == FREER)
            run_freer();
        else
            run_reader(index);
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<quiesce_suite>(argc, argv, labels, ITERATIONS);
}
