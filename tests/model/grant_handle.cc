/* SPDX-License-Identifier: MIT */
/*
 * lib/grant/handle.h and handle.c under relacy.
 *
 *   grant_handle_model        holds: a slot is in one place at a time, a handle
 *                             ends once, and who claims it sees its record
 *   grant_handle_model LABEL  L1, L2, H1, H2 or H3: that ordering is taken away
 *                             and relacy must notice
 *
 * Three CPUs share four slots, one of them a reserve.  Each takes some, makes one live and tells its
 * handle to everybody, gives the rest back, claims any handle that it heard of
 * (its own, another's, a stale one) and either changes the record or ends the
 * mapping.  Whose a slot is, and its record, are plain variables.
 */
#include "fh_model.h"

#define GNTMAP_device_map      1
#define GNTMAP_host_map        2
#define GNTMAP_readonly        4
#define GNTMAP_application_map 8
#define GNTMAP_contains_pte    16

struct fh_gnt_slot;
struct fh_gnt_domain {
    struct fh_gnt_slot *slots;
    uint32_t n_slots, index_bits, n_reserved;
    fh_word64 free_slots, free_reserve;
    fh_word32 fresh_slots, fresh_reserve;
};

#include "grant/handle.h"
#include "grant/handle.c"

enum { N_CPUS = 3, N_SLOTS = 4, N_RESERVED = 1, ROUNDS = 3, ITERATIONS = 200000 };

static const char *const labels[] = {"L1", "L2", "H1", "H2", "H3"};
static const char *step_of[N_CPUS];

/* L1 is the acquire of the first look at the free list; the swaps below it
 * keep theirs. */
static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    if (is_mutant("L1"))
        return what == FH_MODEL_LOAD_ACQUIRE;
    return is_mutant(step_of[rl::thread_index()]);
}

struct grant_handle_suite : rl::test_suite<grant_handle_suite, N_CPUS> {
    struct fh_gnt_slot slots[N_SLOTS];
    struct fh_gnt_domain d;
    rl::var<unsigned> taken[N_SLOTS];
    rl::var<unsigned> record[N_SLOTS];
    fh_word32 heard; /* a handle + 1 */

    void
    before()
    {
        for (unsigned i = 0; i < N_CPUS; i++)
            step_of[i] = "-";
        d.slots = slots;
        d.n_slots = N_SLOTS;
        d.index_bits = 2;
        d.n_reserved = N_RESERVED;
        fh_store_relaxed64(&d.free_slots, 0);
        fh_store_relaxed64(&d.free_reserve, 0);
        fh_store_relaxed32(&d.fresh_slots, N_RESERVED);
        fh_store_relaxed32(&d.fresh_reserve, 0);
        fh_store_relaxed32(&heard, 0);
        for (unsigned i = 0; i < N_SLOTS; i++) {
            fh_store_relaxed64(&slots[i].word, 0);
            fh_store_relaxed32(&slots[i].next, 0);
            taken[i]($) = 0;
            record[i]($) = 0;
        }
    }

    uint32_t
    length(const fh_word64 *list, bool is_reserve)
    {
        uint32_t i = (uint32_t)fh_load_relaxed64(list), n = 0;

        while (i) {
            RL_ASSERT(++n <= N_SLOTS);
            RL_ASSERT(taken[i - 1]($) == 0);
            RL_ASSERT((i - 1 < N_RESERVED) == is_reserve);
            i = fh_load_relaxed32(&slots[i - 1].next);
        }
        return n;
    }

    /* I5: live, free and fresh are all there is. */
    void
    after()
    {
        uint32_t n = length(&d.free_slots, false) +
                     length(&d.free_reserve, true);

        for (uint32_t i = 0; i < N_SLOTS; i++)
            n += !!(fh_load_relaxed64(&slots[i].word) & FH_SLOT_LIVE);
        RL_ASSERT(n == fh_load_relaxed32(&d.fresh_slots) - N_RESERVED +
                           fh_load_relaxed32(&d.fresh_reserve));
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    void
    give(struct fh_slot_chain *chain)
    {
        uint64_t lost = 0;

        at("L2");
        fh_slots_give(&d, chain, &lost);
        at("-");
    }

    void
    make_live(struct fh_gnt_slot *slot)
    {
        const uint64_t word = fh_load_relaxed64(&slot->word);
        const uint32_t index = fh_slot_index(&d, slot);

        record[index]($) = fh_slot_handle(&d, index, word);
        at("H1");
        fh_slot_publish(slot, word, GNTMAP_host_map);
        at("-");
        fh_store_relaxed32(&heard, fh_slot_handle(&d, index, word) + 1);
    }

    void
    take_some()
    {
        struct fh_slot_chain chain = {0, 0, 0}, back = {0, 0, 0};
        struct fh_gnt_slot *slot;
        uint64_t lost = 0;
        bool made = false;

        if (rl::rand(3))
            fh_slots_take(&d, 1 + rl::rand(2), &chain, &lost);
        else
            fh_slots_take_reserved(&d, &chain, &lost);
        while ((slot = fh_chain_pop(&d, &chain))) {
            const uint32_t index = fh_slot_index(&d, slot);

            RL_ASSERT(taken[index]($) == 0);
            taken[index]($) = 1;
            if (!made) {
                make_live(slot);
                made = true;
            } else {
                taken[index]($) = 0;
                fh_chain_push(&d, &back, slot);
            }
        }
        give(&back);
    }

    void
    end(struct fh_gnt_slot *slot, uint64_t word)
    {
        struct fh_slot_chain back = {0, 0, 0};

        fh_slot_unclaim(slot, word & ~FH_SLOT_LIVE);
        taken[fh_slot_index(&d, slot)]($) = 0;
        fh_slot_retire(slot, word);
        fh_chain_push(&d, &back, slot);
        give(&back);
    }

    void
    claim_one()
    {
        const uint32_t h = fh_load_relaxed32(&heard);
        uint64_t word = 0, lost = 0;
        struct fh_gnt_slot *slot;

        if (!h)
            return;
        at("H2");
        slot = fh_slot_claim(&d, h - 1, &word, &lost);
        at("-");
        if (!slot)
            return;
        const uint32_t index = fh_slot_index(&d, slot);

        RL_ASSERT(taken[index]($) == 1);
        RL_ASSERT(record[index]($) % 100 == h - 1);
        if (rl::rand(2)) {
            end(slot, word);
        } else {
            record[index]($) = record[index]($) + 100; /* a part is unmapped */
            at("H3");
            fh_slot_unclaim(slot, word);
            at("-");
        }
    }

    void
    thread(unsigned index)
    {
        for (unsigned i = 0; i < ROUNDS; i++) {
            if (rl::rand(2))
                take_some();
            else
                claim_one();
        }
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<grant_handle_suite>(argc, argv, labels, ITERATIONS);
}
