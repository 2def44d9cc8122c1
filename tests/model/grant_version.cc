/* SPDX-License-Identifier: MIT */
/*
 * A version switch against pins, lib/grant/version.h under relacy.
 *
 *   grant_version_model        holds: nobody looks at the granter's entry by
 *                              one version while it is made ready for another
 *   grant_version_model LABEL  E1, E4, E6 or V1 .. V6: that ordering is taken
 *                              away and relacy must notice
 *
 * Two CPUs pin, upgrade and unpin an ordinary and a reserved entry; two others
 * switch the version, one going on with what the other began.  What the
 * granter's entries look like and how far the switch is are plain variables:
 * every look that is not ordered is a race, and every wrong one an assertion.
 */
#include "fh_model.h"
#include "grant/version.h"

enum { N_PINNERS = 2, N_SWITCHERS = 2, N_THREADS = N_PINNERS + N_SWITCHERS };
enum { ORDINARY, RESERVED, N_ENTRIES };
enum { ROUNDS = 2, TRIES = 2, WHO = 5, ITERATIONS = 200000 };

static const char *const labels[] = {"E1", "E4", "E6", "V1", "V2",
                                     "V3", "V4", "V5", "V6"};
static const char *step_of[N_THREADS];

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return is_mutant(step_of[rl::thread_index()]);
}

struct grant_version_suite : rl::test_suite<grant_version_suite, N_THREADS> {
    fh_word32 version;
    fh_word64 word[N_ENTRIES];
    rl::var<uint32_t> looks_like[N_ENTRIES]; /* the version of its layout */
    rl::var<unsigned> scanned;               /* how far the switch is */

    void
    before()
    {
        version.store(1, rl::mo_relaxed, $);
        scanned($) = 0;
        for (unsigned i = 0; i < N_ENTRIES; i++) {
            word[i].store(0, rl::mo_relaxed, $);
            looks_like[i]($) = 1;
        }
        for (unsigned i = 0; i < N_THREADS; i++)
            step_of[i] = "-";
    }

    void
    after()
    {
        const uint32_t v = version.load(rl::mo_relaxed, $);

        RL_ASSERT(looks_like[RESERVED]($) == (v & FH_VERSION_MASK));
        for (unsigned i = 0; i < N_ENTRIES; i++)
            RL_ASSERT(word[i].load(rl::mo_relaxed, $) == 0);
        if (!(v & FH_VERSION_SWITCHING))
            RL_ASSERT(looks_like[ORDINARY]($) == v);
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    /* ------------------------------------------------------------- pins -- */

    /* BUSY is ours: may we use the granter's entry? */
    bool
    may_use(unsigned e)
    {
        at("V1");
        const uint32_t v = fh_version_held(&version);
        at("-");

        if (v & FH_VERSION_SWITCHING)
            return false;
        RL_ASSERT(looks_like[e]($) == v);
        return true;
    }

    /* BUSY of an entry that was pinned until now. */
    void
    use_kept(unsigned e)
    {
        RL_ASSERT(looks_like[e]($) == fh_version_kept(&version));
    }

    bool
    pin(unsigned e, bool is_write)
    {
        uint64_t lost = 0;

        at("E1");
        const enum fh_entry_step step =
            fh_entry_pin(&word[e], WHO, is_write, 0, &lost);
        at("-");

        if (step == FH_ENTRY_BEGIN) {
            if (may_use(e)) {
                fh_entry_publish_first(&word[e], is_write, 0);
                return true;
            }
            at("E4");
            fh_entry_settle_free(&word[e]);
            at("-");
            return false;
        }
        if (step == FH_ENTRY_UPGRADE) {
            if (may_use(e)) {
                fh_entry_publish_writer(&word[e]);
                return true;
            }
            fh_entry_settle_pinned(&word[e]);
            return false;
        }
        return step == FH_ENTRY_DONE;
    }

    void
    unpin(unsigned e, bool is_write)
    {
        uint64_t lost = 0;
        const enum fh_entry_step step =
            fh_entry_unpin(&word[e], is_write, &lost);

        if (step == FH_ENTRY_DONE)
            return;
        use_kept(e);
        if (step == FH_ENTRY_LAST) {
            at("E4");
            fh_entry_settle_free(&word[e]);
            at("-");
        } else {
            fh_entry_settle_pinned(&word[e]);
        }
    }

    void
    pinner()
    {
        for (unsigned i = 0; i < ROUNDS; i++) {
            const unsigned e = rl::rand(N_ENTRIES);
            const bool is_write = rl::rand(2);

            if (!pin(e, is_write))
                continue;
            if (rl::rand(2) && pin(e, !is_write))
                unpin(e, !is_write);
            unpin(e, is_write);
        }
    }

    /* ----------------------------------------------------------- switch -- */

    void
    end(uint32_t now)
    {
        at("V4");
        fh_version_end(&version, now);
        at("-");
    }

    /* True if no pin is there, and none comes. */
    bool
    is_quiet()
    {
        for (unsigned i = 0; i < TRIES; i++) {
            at("V3");
            const enum fh_entry_look look = fh_version_look(&word[ORDINARY]);
            at("-");

            if (look != FH_ENTRY_IS_BUSY)
                return look == FH_ENTRY_IS_FREE;
            fh_cpu_relax();
        }
        return false;
    }

    /* False: the reserved entry is moving. */
    bool
    commit(uint32_t target)
    {
        at("E6");
        const enum fh_entry_look look = fh_entry_try_busy(&word[RESERVED]);
        at("-");

        if (look == FH_ENTRY_IS_BUSY)
            return false;
        looks_like[RESERVED]($) = target;
        end(target);
        at("E4");
        fh_entry_end_busy(&word[RESERVED], look);
        at("-");
        return true;
    }

    void
    run(uint32_t target)
    {
        if (!scanned($)) {
            if (!is_quiet()) {
                end(fh_version_kept(&version));
                return;
            }
            looks_like[ORDINARY]($) = target;
            scanned($) = 1;
        }
        if (rl::rand(2) && commit(target))
            return;
        at("V5");
        fh_version_pause(&version);
        at("-");
    }

    void
    switcher()
    {
        const uint32_t old = fh_load_relaxed32(&version);
        bool ours;

        if (!(old & FH_VERSION_SWITCHING)) {
            at("V2");
            ours = fh_version_begin(&version, old, 3 - old);
            at("-");
            if (!ours)
                return;
            scanned($) = 0;
            run(3 - old);
            return;
        }
        if (old & FH_VERSION_ACTIVE)
            return;
        at("V6");
        ours = fh_version_resume(&version, old);
        at("-");
        if (ours)
            run(fh_version_target(old));
    }

    void
    thread(unsigned index)
    {
        if (index < N_PINNERS) {
            pinner();
            return;
        }
        for (unsigned i = 0; i < ROUNDS; i++)
            switcher();
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<grant_version_suite>(argc, argv, labels, ITERATIONS);
}
