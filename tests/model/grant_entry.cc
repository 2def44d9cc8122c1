/* SPDX-License-Identifier: MIT */
/*
 * lib/grant/entry.h under relacy.
 *
 *   grant_entry_model        holds: who pins reads the payload of the first
 *                            pin; the entry's resources (the granter's marks,
 *                            references) are taken and withdrawn by one CPU at
 *                            a time, after the last use
 *   grant_entry_model LABEL  E1 .. E5, T1 or T2: that ordering is taken away
 *                            and relacy must notice
 *
 * A table grows; two CPUs of one grantee and one of another pin for reading
 * and for writing and unpin, in any order that relacy likes.  The payload, the
 * mark for any pin and the mark for writers are plain variables: every
 * unordered access to them is a race, and every wrong one an assertion.
 */
#include "fh_model.h"
#include "grant/entry.h"

enum { N_CPUS = 3, GROWER = N_CPUS, ROUNDS = 2, ITERATIONS = 400000 };

static const char *const labels[] = {"E1", "E2", "E3", "E4", "E5", "T1", "T2"};
/* Which step a thread is in: the word is the same, the ordering another. */
static const char *step_of[N_CPUS + 1];

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return is_mutant(step_of[rl::thread_index()]);
}

struct grant_entry_suite : rl::test_suite<grant_entry_suite, N_CPUS + 1> {
    fh_word32 n_frames;
    rl::var<unsigned> frame; /* the pointers of the table's second frame */
    fh_word64 word;
    rl::var<unsigned> payload; /* the grantee, while pinned */
    rl::var<unsigned> pinned;  /* GTF_reading and the references */
    rl::var<unsigned> writing; /* GTF_writing and the writable reference */

    void
    before()
    {
        fh_store_relaxed64(&word, FH_ENTRY_NOTIFY); /* a bit that stays */
        fh_store_relaxed32(&n_frames, 1);
        frame($) = 0;
        payload($) = 0;
        pinned($) = 0;
        writing($) = 0;
        for (unsigned i = 0; i <= GROWER; i++)
            step_of[i] = "-";
    }

    void
    after()
    {
        RL_ASSERT(fh_load_relaxed64(&word) == FH_ENTRY_NOTIFY);
        RL_ASSERT(pinned($) == 0 && writing($) == 0);
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    static uint16_t
    grantee(unsigned index)
    {
        return index == N_CPUS - 1 ? 7 : 5;
    }

    void
    take_writing()
    {
        RL_ASSERT(writing($) == 0);
        writing($) = 1;
    }

    void
    drop_writing()
    {
        RL_ASSERT(writing($) == 1);
        writing($) = 0;
    }

    bool
    pin(uint16_t who, bool is_write)
    {
        uint64_t lost = 0;

        at("E1");
        if (fh_entry_try_pin(&word, who, is_write, 0)) {
            at("-");
            return true;
        }
        const enum fh_entry_step step =
            fh_entry_pin(&word, who, is_write, 0, &lost);
        at("-");

        RL_ASSERT(step != FH_ENTRY_WAIT);
        if (step == FH_ENTRY_REFUSED)
            return false;
        if (step == FH_ENTRY_UPGRADE) {
            take_writing();
            fh_entry_publish_writer(&word);
        }
        if (step == FH_ENTRY_BEGIN)
            return first(who, is_write);
        return true;
    }

    /* True if the checks passed and the pin is ours. */
    bool
    first(uint16_t who, bool is_write)
    {
        const bool fails = rl::rand(4) == 0;

        RL_ASSERT(pinned($) == 0);
        pinned($) = 1;
        payload($) = who;
        if (is_write)
            take_writing();
        if (!fails) {
            at("E2");
            fh_entry_publish_first(&word, is_write, 0);
            at("-");
            return true;
        }
        if (is_write)
            drop_writing();
        pinned($) = 0;
        at("E4");
        fh_entry_settle_free(&word);
        at("-");
        return false;
    }

    void
    unpin(bool is_write)
    {
        uint64_t lost = 0;

        at("E3");
        if (fh_entry_try_unpin(&word, is_write)) {
            at("-");
            return;
        }
        const enum fh_entry_step step = fh_entry_unpin(&word, is_write, &lost);
        at("-");

        if (step == FH_ENTRY_LAST_WRITER) {
            drop_writing();
            at("E5");
            fh_entry_settle_pinned(&word);
        }
        if (step == FH_ENTRY_LAST) {
            if (is_write)
                drop_writing();
            RL_ASSERT(writing($) == 0);
            RL_ASSERT(pinned($) == 1);
            pinned($) = 0;
            at("E4");
            fh_entry_settle_free(&word);
        }
        at("-");
    }

    void
    grow()
    {
        frame($) = 1;
        at("T2");
        fh_table_publish(&n_frames, 2);
    }

    void
    look_at_table()
    {
        at("T1");
        if (fh_table_count(&n_frames) == 2)
            RL_ASSERT(frame($) == 1);
        at("-");
    }

    void
    thread(unsigned index)
    {
        const uint16_t who = grantee(index);

        if (index == GROWER) {
            grow();
            return;
        }
        look_at_table();
        for (unsigned i = 0; i < ROUNDS; i++) {
            const bool is_write = rl::rand(2);

            if (!pin(who, is_write))
                continue;
            RL_ASSERT(payload($) == who);
            if (rl::rand(2) && pin(who, !is_write)) {
                const bool first_back = rl::rand(2);

                RL_ASSERT(payload($) == who);
                unpin(first_back);
                unpin(!first_back);
                continue;
            }
            unpin(is_write);
        }
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<grant_entry_suite>(argc, argv, labels, ITERATIONS);
}
