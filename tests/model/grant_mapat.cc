/* SPDX-License-Identifier: MIT */
/*
 * From an address to its mapping (lib/grant/handle.h) under relacy.
 *
 *   grant_mapat_model        holds: who follows an address's word finds the
 *                            mapping that was put there, whole, or none
 *   grant_mapat_model LABEL  M1, M2 or H1: that ordering is taken away and
 *                            relacy must notice
 *
 * One slot, one address.  A CPU maps, tells the address, and in some rounds
 * unmaps and maps again; two others ask what is at the address.  The record of
 * the n-th mapping is n in each of its fields.
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

enum { N_CPUS = 3, ROUNDS = 3, ITERATIONS = 100000 };

static const char *const labels[] = {"M1", "M2", "H1"};
static const char *step_of[N_CPUS];

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return is_mutant(step_of[rl::thread_index()]);
}

struct grant_mapat_suite : rl::test_suite<grant_mapat_suite, N_CPUS> {
    struct fh_gnt_slot slots[1];
    struct fh_gnt_domain d;
    fh_word32 address;   /* the embedder's word */
    fh_word32 n_mapped, n_unmapped; /* maps complete, unmaps begun */

    void
    before()
    {
        for (unsigned i = 0; i < N_CPUS; i++)
            step_of[i] = "-";
        d.slots = slots;
        d.n_slots = 1;
        d.index_bits = 0;
        d.n_reserved = 0;
        fh_store_relaxed64(&slots[0].word, 0);
        fh_store_relaxed64(&slots[0].entry, 0);
        fh_store_relaxed64(&slots[0].host_addr, 0);
        fh_store_relaxed32(&slots[0].avail, 0);
        fh_store_relaxed32(&address, 0);
        fh_store_relaxed32(&n_mapped, 0);
        fh_store_relaxed32(&n_unmapped, 0);
    }

    static void
    at(const char *label)
    {
        step_of[rl::thread_index()] = label;
    }

    uint32_t
    map(uint32_t n)
    {
        const uint64_t word = fh_load_relaxed64(&slots[0].word);
        const uint32_t handle = fh_slot_handle(&d, 0, word);

        fh_map_word_set(&address, handle);
        at("M1");
        fh_slot_fill(&slots[0], n, n, n);
        at("H1");
        fh_slot_publish(&slots[0], word, GNTMAP_host_map);
        at("-");
        fh_fetch_add32(&n_mapped, 1);
        return handle;
    }

    void
    unmap(uint32_t handle)
    {
        uint64_t word = 0, lost = 0;

        fh_store_release32(&n_unmapped, fh_load_relaxed32(&n_unmapped) + 1);
        RL_ASSERT(fh_slot_claim(&d, handle, &word, &lost));
        fh_map_word_clear(&address, handle);
        fh_slot_unclaim(&slots[0], word & ~FH_SLOT_LIVE);
        fh_slot_retire(&slots[0], word);
    }

    void
    ask()
    {
        struct fh_slot_record r;
        uint32_t handle;
        uint32_t complete = fh_fetch_add32(&n_mapped, 0);
        bool found;

        if (!fh_map_word_get(&address, &handle))
            return;
        at("M2");
        found = fh_slot_read(&d, &slots[0], handle, &r) &&
                fh_slot_is_still(&slots[0], &r);
        at("-");
        if (!found) {
            /* Handle n is complete with map n + 1 and taken away by unmap
             * n + 1; the swaps read the newest numbers. */
            RL_ASSERT(complete <= handle ||
                      fh_fetch_add32(&n_unmapped, 0) > handle);
            return;
        }
        RL_ASSERT(r.entry == handle + 1);
        RL_ASSERT(r.host_addr == handle + 1);
        RL_ASSERT(r.avail == handle + 1);
    }

    void
    thread(unsigned index)
    {
        for (unsigned i = 0; i < ROUNDS; i++) {
            if (index)
                ask();
            else
                unmap(map(i + 1));
        }
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<grant_mapat_suite>(argc, argv, labels, ITERATIONS);
}
