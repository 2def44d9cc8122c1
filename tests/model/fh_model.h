/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The accessors of lib/base/shared.h for relacy: a model includes this first
 * and then the production header or source, compiled with FH_MODEL, so that
 * what is checked is the code that runs.
 *
 * relacy explores interleavings, and for each load the stores that it may
 * see, under C++11's memory model; it reports data races on rl::var, deadlocks
 * (lost wake-ups) and failed RL_ASSERTs.
 *
 * A mutant is one ordering taken away at run time: each model defines
 * fh_model_weakened(), which says whether this access is the chosen one.  A
 * model is trusted only if it catches every mutant; fh_model_main() turns that
 * into an exit status, so that a mutant's test passes for relacy's verdict and
 * for nothing else, neither a crash nor a failure to compile.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <relacy/relacy.hpp>
#undef rl_CreateEvent

#define FH_SHARED

typedef rl::atomic<uint8_t> fh_word8;
typedef rl::atomic<uint16_t> fh_word16;
typedef rl::atomic<uint32_t> fh_word32;
typedef rl::atomic<uint64_t> fh_word64;

enum fh_model_access {
    FH_MODEL_LOAD_ACQUIRE,
    FH_MODEL_LOAD_ORDERED,
    FH_MODEL_STORE_RELEASE,
    FH_MODEL_STORE_RELAXED, /* weakening it means nothing; for bookkeeping */
    FH_MODEL_RMW,
    FH_MODEL_FENCE, /* no address */
};

/* Defined by the model: true when this access of the running thread is to lose
 * its ordering. */
static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p);

#define FH_MODEL_ORDER_(what, p, order)                                        \
    (fh_model_weakened((what), (p)) ? rl::mo_relaxed : (order))

#define FH_MODEL_ACCESSORS_(bits)                                              \
    static inline uint##bits##_t fh_load_relaxed##bits(                        \
        const rl::atomic<uint##bits##_t> *p)                                   \
    {                                                                          \
        return p->load(rl::mo_relaxed, $);                                     \
    }                                                                          \
    static inline uint##bits##_t fh_load_acquire##bits(                        \
        const rl::atomic<uint##bits##_t> *p)                                   \
    {                                                                          \
        return p->load(                                                        \
            FH_MODEL_ORDER_(FH_MODEL_LOAD_ACQUIRE, p, rl::mo_acquire), $);     \
    }                                                                          \
    static inline uint##bits##_t fh_load_ordered##bits(                        \
        const rl::atomic<uint##bits##_t> *p)                                   \
    {                                                                          \
        return p->load(                                                        \
            FH_MODEL_ORDER_(FH_MODEL_LOAD_ORDERED, p, rl::mo_seq_cst), $);     \
    }                                                                          \
    static inline void fh_store_relaxed##bits(rl::atomic<uint##bits##_t> *p,   \
                                              uint##bits##_t v)                \
    {                                                                          \
        (void)fh_model_weakened(FH_MODEL_STORE_RELAXED, p);                    \
        p->store(v, rl::mo_relaxed, $);                                        \
    }                                                                          \
    static inline void fh_store_release##bits(rl::atomic<uint##bits##_t> *p,   \
                                              uint##bits##_t v)                \
    {                                                                          \
        p->store(                                                              \
            v, FH_MODEL_ORDER_(FH_MODEL_STORE_RELEASE, p, rl::mo_release), $); \
    }                                                                          \
    static inline uint##bits##_t fh_fetch_or##bits(                            \
        rl::atomic<uint##bits##_t> *p, uint##bits##_t v)                       \
    {                                                                          \
        return p->fetch_or(                                                    \
            v, FH_MODEL_ORDER_(FH_MODEL_RMW, p, rl::mo_seq_cst), $);           \
    }                                                                          \
    static inline uint##bits##_t fh_fetch_and##bits(                           \
        rl::atomic<uint##bits##_t> *p, uint##bits##_t v)                       \
    {                                                                          \
        return p->fetch_and(                                                   \
            v, FH_MODEL_ORDER_(FH_MODEL_RMW, p, rl::mo_seq_cst), $);           \
    }                                                                          \
    static inline uint##bits##_t fh_fetch_add##bits(                           \
        rl::atomic<uint##bits##_t> *p, uint##bits##_t v)                       \
    {                                                                          \
        return p->fetch_add(                                                   \
            v, FH_MODEL_ORDER_(FH_MODEL_RMW, p, rl::mo_seq_cst), $);           \
    }                                                                          \
    static inline uint##bits##_t fh_exchange##bits(                            \
        rl::atomic<uint##bits##_t> *p, uint##bits##_t v)                       \
    {                                                                          \
        return p->exchange(                                                    \
            v, FH_MODEL_ORDER_(FH_MODEL_RMW, p, rl::mo_seq_cst), $);           \
    }                                                                          \
    static inline bool fh_cas##bits(rl::atomic<uint##bits##_t> *p,             \
                                    uint##bits##_t *expected,                  \
                                    uint##bits##_t v)                          \
    {                                                                          \
        const bool weak = fh_model_weakened(FH_MODEL_RMW, p);                  \
                                                                               \
        return p->compare_exchange(rl::bool_t<false>(), *expected, v,          \
                                   weak ? rl::mo_relaxed : rl::mo_seq_cst,     \
                                   weak ? rl::mo_relaxed : rl::mo_acquire, $); \
    }

FH_MODEL_ACCESSORS_(8)
FH_MODEL_ACCESSORS_(16)
FH_MODEL_ACCESSORS_(32)
FH_MODEL_ACCESSORS_(64)

static inline void
fh_fence_full(void)
{
    if (!fh_model_weakened(FH_MODEL_FENCE, NULL))
        rl::atomic_thread_fence(rl::mo_seq_cst, $);
}

static inline void
fh_cpu_relax(void)
{
    rl::yield(1, $);
}

/* An event channel: remembers one notification and not how many there were.
 * open() and close() belong into the suite's before() and after(). */
struct fh_model_event {
    rl::rl_HANDLE handle;

    void
    open()
    {
        handle = rl::rl_CreateEvent(0, 0, 0, 0, $);
    }
    void
    close()
    {
        rl::rl_CloseHandle(handle, $);
    }
    void
    set()
    {
        rl::rl_SetEvent(handle, $);
    }
    void
    wait()
    {
        rl::rl_WaitForSingleObject(handle, rl::rl_INFINITE, $);
    }
};

/* Runs suite @T for @iterations; returns relacy's verdict.  (relacy replaces
 * operator new; whatever libstdc++ allocates by itself, such as a
 * std::string of ours, must stay away from it.) */
template <typename T>
static rl::test_result_e
fh_model_run(unsigned iterations)
{
    rl::test_params params;

    params.iteration_count = iterations;
    params.search_type = rl::random_scheduler_type;
    rl::simulate<T>(params);
    return params.test_result;
}

/* The label that this run takes away; none when it is empty. */
static const char *fh_model_mutant = "";

static bool
is_mutant(const char *label)
{
    return !strcmp(fh_model_mutant, label);
}

/*
 * A model's main(): with no argument the suite must hold, with one of @labels
 * relacy must report a race, a deadlock or a failed assertion.  Returns the
 * exit status: 0 when what was expected happened, 2 for bad usage.
 */
template <typename T, size_t N>
static int
fh_model_main(int argc, char **argv, const char *const (&labels)[N],
              unsigned iterations)
{
    bool known = argc == 1;
    rl::test_result_e r;

    if (argc == 2) {
        fh_model_mutant = argv[1];
        for (size_t i = 0; i < N; i++)
            known |= is_mutant(labels[i]);
    }
    if (!known) {
        fprintf(stderr, "usage: %s [LABEL], one of:", argv[0]);
        for (size_t i = 0; i < N; i++)
            fprintf(stderr, " %s", labels[i]);
        fprintf(stderr, "\n");
        return 2;
    }
    r = fh_model_run<T>(iterations);
    std::cout << "verdict: " << rl::test_result_str(r) << std::endl;
    if (argc == 1)
        return r == rl::test_result_success ? 0 : 1;
    return r == rl::test_result_data_race || r == rl::test_result_deadlock ||
                   r == rl::test_result_user_assert_failed
               ? 0
               : 1;
}
