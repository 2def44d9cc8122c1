/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Access to memory that somebody else may change at any time: another process,
 * another domain, another CPU.
 *
 * The only file of the project that may use __atomic builtins.  The memory
 * order is in the function's name.  A pointer to memory of a peer has the type
 * FH_SHARED *: clang refuses to dereference it outside these accessors, gcc
 * sees nothing.  Every use that orders something carries a label and names its
 * partner; the pairs are modelled in tests/model, which compiles the callers
 * with FH_MODEL defined and brings accessors of its own.
 *
 * Threads: any.  Nothing here blocks.
 */

#ifndef FH_MODEL

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define FH_SHARED          __attribute__((noderef))
#define FH_UNSHARED_(p, T) ((T *)(uintptr_t)(p))
#else
#define FH_SHARED
#define FH_UNSHARED_(p, T) ((T *)(uintptr_t)(p))
#endif

/* A word that two parties share; in models an rl::atomic. */
typedef uint8_t fh_word8;
typedef uint16_t fh_word16;
typedef uint32_t fh_word32;
typedef uint64_t fh_word64;

#define FH_DEFINE_ACCESSORS_(bits)                                             \
    static inline uint##bits##_t fh_load_relaxed##bits(                        \
        const FH_SHARED void *p)                                               \
    {                                                                          \
        return __atomic_load_n(FH_UNSHARED_(p, const uint##bits##_t),          \
                               __ATOMIC_RELAXED);                              \
    }                                                                          \
    static inline uint##bits##_t fh_load_acquire##bits(                        \
        const FH_SHARED void *p)                                               \
    {                                                                          \
        return __atomic_load_n(FH_UNSHARED_(p, const uint##bits##_t),          \
                               __ATOMIC_ACQUIRE);                              \
    }                                                                          \
    /* Ordered after every read-modify-write that this CPU did before. */      \
    static inline uint##bits##_t fh_load_ordered##bits(                        \
        const FH_SHARED void *p)                                               \
    {                                                                          \
        return __atomic_load_n(FH_UNSHARED_(p, const uint##bits##_t),          \
                               __ATOMIC_SEQ_CST);                              \
    }                                                                          \
    static inline void fh_store_relaxed##bits(FH_SHARED void *p,               \
                                              uint##bits##_t v)                \
    {                                                                          \
        __atomic_store_n(FH_UNSHARED_(p, uint##bits##_t), v,                   \
                         __ATOMIC_RELAXED);                                    \
    }                                                                          \
    static inline void fh_store_release##bits(FH_SHARED void *p,               \
                                              uint##bits##_t v)                \
    {                                                                          \
        __atomic_store_n(FH_UNSHARED_(p, uint##bits##_t), v,                   \
                         __ATOMIC_RELEASE);                                    \
    }                                                                          \
    /* All read-modify-writes are full barriers (on x86 they cost the same). */ \
    static inline uint##bits##_t fh_fetch_or##bits(FH_SHARED void *p,          \
                                                   uint##bits##_t v)           \
    {                                                                          \
        return __atomic_fetch_or(FH_UNSHARED_(p, uint##bits##_t), v,           \
                                 __ATOMIC_SEQ_CST);                            \
    }                                                                          \
    static inline uint##bits##_t fh_fetch_and##bits(FH_SHARED void *p,         \
                                                    uint##bits##_t v)          \
    {                                                                          \
        return __atomic_fetch_and(FH_UNSHARED_(p, uint##bits##_t), v,          \
                                  __ATOMIC_SEQ_CST);                           \
    }                                                                          \
    static inline uint##bits##_t fh_fetch_add##bits(FH_SHARED void *p,         \
                                                    uint##bits##_t v)          \
    {                                                                          \
        return __atomic_fetch_add(FH_UNSHARED_(p, uint##bits##_t), v,          \
                                  __ATOMIC_SEQ_CST);                           \
    }                                                                          \
    static inline uint##bits##_t fh_exchange##bits(FH_SHARED void *p,          \
                                                   uint##bits##_t v)           \
    {                                                                          \
        return __atomic_exchange_n(FH_UNSHARED_(p, uint##bits##_t), v,         \
                                   __ATOMIC_SEQ_CST);                          \
    }                                                                          \
    /* True when *p was *expected and is now @v; else *expected is updated. */ \
    static inline bool fh_cas##bits(FH_SHARED void *p,                         \
                                    uint##bits##_t *expected,                  \
                                    uint##bits##_t v)                          \
    {                                                                          \
        return __atomic_compare_exchange_n(FH_UNSHARED_(p, uint##bits##_t),    \
                                           expected, v, false,                 \
                                           __ATOMIC_SEQ_CST,                   \
                                           __ATOMIC_ACQUIRE);                  \
    }

FH_DEFINE_ACCESSORS_(8)
FH_DEFINE_ACCESSORS_(16)
FH_DEFINE_ACCESSORS_(32)
FH_DEFINE_ACCESSORS_(64)

/* Orders every earlier access before every later one, stores before loads
 * included. */
static inline void
fh_fence_full(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

/* Orders this thread's accesses against its own death only: what a kill -9
 * leaves in shared memory is a prefix of the program's stores. */
static inline void
fh_fence_kill(void)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/*
 * Copies @n bytes out of memory that a peer may be writing.  Each byte is read
 * at most once and never again after this returns (XSA-155): the barriers keep
 * the compiler from looking back at the source.
 */
static inline void
fh_copy_in(void *dst, const FH_SHARED void *src, size_t n)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    __builtin_memcpy(dst, FH_UNSHARED_(src, const void), n);
    __asm__ volatile("" : : "r"(dst) : "memory");
}

/* Copies @n bytes of ours into memory that a peer may read or write. */
static inline void
fh_copy_out(FH_SHARED void *dst, const void *src, size_t n)
{
    __builtin_memcpy(FH_UNSHARED_(dst, void), src, n);
    __asm__ volatile("" : : "r"(dst) : "memory");
}

/* Makes @n bytes zero that a peer may read or write. */
static inline void
fh_zero_out(FH_SHARED void *dst, size_t n)
{
    __builtin_memset(FH_UNSHARED_(dst, void), 0, n);
    __asm__ volatile("" : : "r"(dst) : "memory");
}

enum { FH_COPY_LONG_BYTES = 2048 };

/*
 * Copies @n bytes of a request's data, whole sectors, which a peer may be
 * reading or writing: nobody here looks at them.  Long copies are the one
 * instruction that a C library would use as well, in words and not in bytes:
 * processors take the same time for both, emulators and instruction counts an
 * eighth; and it leaves the vector registers alone, which a domain has to save.
 */
static inline void
fh_copy_data(void *dst, const void *src, size_t n)
{
#ifdef __x86_64__
    if (n >= FH_COPY_LONG_BYTES && n % 8 == 0) {
        size_t n_words = n / 8;

        __asm__ volatile("rep movsq"
                         : "+D"(dst), "+S"(src), "+c"(n_words)
                         :
                         : "memory");
        return;
    }
#endif
    __builtin_memcpy(dst, src, n);
}

/* Tells the CPU that this is a spin loop. */
static inline void
fh_cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield" ::: "memory");
#endif
}

#endif /* FH_MODEL */
