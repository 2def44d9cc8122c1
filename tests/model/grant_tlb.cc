/* SPDX-License-Identifier: MIT */
/*
 * lib/grant/tlb.h under relacy.
 *
 *   grant_tlb_model          holds: whoever was told that a processor flushed
 *                            may reuse the page
 *   grant_tlb_model LABEL    F1, F3 .. F5, F8, F9: that ordering is taken away
 *                            and relacy must notice
 *
 * Two requesters take a mapping each out of the page table, ask for a flush of
 * the one processor, and write to their page when they have it.  The processor
 * walks, keeps what it found, uses it, flushes for others when it is
 * interrupted and for itself now and then.  A use of a page beside its reuse is
 * a race.
 *
 * F2 is doubled by F1; F6 and F7 save a flush, no more: who is not served by
 * one leads the next.
 */
#include "fh_model.h"

enum { FH_TLB_WORDS = 1 };

struct fh_tlb_cpu {
    fh_word64 flushed;
};

struct fh_tlb {
    fh_word64 clock;
    uint32_t n_cpus;
    struct fh_tlb_cpu *cpus;
    fh_word32 led;
    fh_word64 wanted[FH_TLB_WORDS];
};

#include "grant/tlb.h"

enum {
    N_REQUESTERS = 2,
    PROCESSOR = N_REQUESTERS,
    TURNS = 3,
    ITERATIONS = 200000,
};

static const char *const labels[] = {"F1", "F3", "F4", "F5", "F8", "F9"};
static const volatile void *clock_word, *led_word, *flushed_word;

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    switch (what) {
    case FH_MODEL_FENCE:
        return is_mutant("F1");
    case FH_MODEL_LOAD_ACQUIRE:
        return is_mutant(p == clock_word ? "F3" : "F5");
    case FH_MODEL_STORE_RELEASE:
        return is_mutant("F9");
    case FH_MODEL_RMW:
        return (p == led_word && is_mutant("F8")) ||
               (p == flushed_word && is_mutant("F4"));
    case FH_MODEL_LOAD_ORDERED:
    case FH_MODEL_STORE_RELAXED:
        break;
    }
    return false;
}

struct tlb_suite : rl::test_suite<tlb_suite, N_REQUESTERS + 1> {
    struct fh_tlb tlb;
    struct fh_tlb_cpu cpu;
    /* The machine's own, which keeps what it promises. */
    rl::atomic<uint32_t> pte[N_REQUESTERS]; /* 1: the page is mapped */
    rl::atomic<uint32_t> may_hold;          /* the processor may hold some */
    rl::atomic<uint32_t> interrupt, done, is_over;
    rl::var<unsigned> page[N_REQUESTERS], in_flush;
    bool holds[N_REQUESTERS]; /* the processor's TLB */

    void
    before()
    {
        clock_word = &tlb.clock;
        led_word = &tlb.led;
        flushed_word = &cpu.flushed;
        tlb.n_cpus = 1;
        tlb.cpus = &cpu;
        fh_store_relaxed64(&tlb.clock, 0);
        fh_store_relaxed64(&cpu.flushed, 0);
        fh_store_relaxed32(&tlb.led, 0);
        fh_store_relaxed64(&tlb.wanted[0], 0);
        for (unsigned i = 0; i < N_REQUESTERS; i++) {
            pte[i].store(1, rl::mo_relaxed, $);
            page[i]($) = 0;
            holds[i] = false;
        }
        may_hold.store(0, rl::mo_relaxed, $);
        interrupt.store(0, rl::mo_relaxed, $);
        done.store(0, rl::mo_relaxed, $);
        is_over.store(0, rl::mo_relaxed, $);
        in_flush($) = 0;
    }

    /* fh_hv_ops.tlb_flush_cpus: asks the processor and waits for it. */
    static void
    flush(void *arg, const uint64_t *cpus)
    {
        tlb_suite *s = (tlb_suite *)arg;
        const uint32_t n = s->interrupt.load(rl::mo_relaxed, $) + 1;

        s->in_flush($) = (unsigned)s->in_flush($) + 1;
        s->interrupt.store(n, rl::mo_release, $);
        while (s->done.load(rl::mo_acquire, $) != n)
            fh_cpu_relax();
    }

    void
    request(unsigned me)
    {
        uint64_t time, cpus[FH_TLB_WORDS];

        pte[me].store(0, rl::mo_relaxed, $);
        time = fh_tlb_ask(&tlb);
        cpus[0] = may_hold.load(rl::mo_relaxed, $);
        if (fh_tlb_left(&tlb, time, cpus))
            fh_tlb_wait(&tlb, time, cpus, flush, this);
        page[me]($) = 1;
        is_over.fetch_add(1, rl::mo_relaxed, $);
    }

    void
    use()
    {
        const unsigned i = rl::rand(N_REQUESTERS);

        if (!holds[i])
            holds[i] = pte[i].load(rl::mo_relaxed, $);
        if (holds[i])
            RL_ASSERT(page[i]($) == 0);
    }

    void
    drop_all()
    {
        for (unsigned i = 0; i < N_REQUESTERS; i++)
            holds[i] = false;
    }

    void
    serve()
    {
        const uint32_t n = interrupt.load(rl::mo_acquire, $);

        if (n == done.load(rl::mo_relaxed, $))
            return;
        drop_all();
        done.store(n, rl::mo_release, $);
    }

    void
    flush_for_itself()
    {
        const uint64_t stamp = fh_tlb_now(&tlb);

        drop_all();
        fh_tlb_stamp(&tlb, 0, stamp);
    }

    void
    process()
    {
        may_hold.store(1, rl::mo_relaxed, $);
        rl::atomic_thread_fence(rl::mo_seq_cst, $); /* pairs with F1 */
        for (unsigned turn = 0; turn < TURNS; turn++) {
            use();
            if (rl::rand(2))
                flush_for_itself();
            serve();
        }
        while (is_over.load(rl::mo_relaxed, $) != N_REQUESTERS) {
            serve();
            fh_cpu_relax();
        }
    }

    void
    thread(unsigned index)
    {
        if (index == PROCESSOR)
            process();
        else
            request(index);
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<tlb_suite>(argc, argv, labels, ITERATIONS);
}
