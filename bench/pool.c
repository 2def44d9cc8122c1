/* SPDX-License-Identifier: MIT */
/*
 * pool: one cache of persistent grants for each ring, or one for all behind a
 * lock.  The question was James Harper's (mail 001).
 *
 *   pool ring|mutex|spin THREADS MS COPY
 *
 * Each thread serves one ring of RING_REFS references: it gets one, copies
 * COPY bytes (0 to 4096) as the request's data, and puts it back.  The lock is
 * held for the get and for the put, never for the copy.  Prints one JSON
 * object: operations per second, all threads together.
 */
#include <pthread.h>
#include <stdbool.h>

#include "base/shared.h"
#include "bench/cache.h"
#include "bench/measure.h"

enum {
    MAX_THREADS = 64,
    BURST = 64, /* operations between two looks at the clock's flag */
};

enum way { RING, MUTEX, SPIN };

struct worker {
    struct fh_pgrant own;
    struct fh_pgrant *cache;
    fh_word64 done;
    uint32_t first; /* of its references */
    uint32_t copy;
    enum way way;
    pthread_t thread;
    uint8_t data[2][FH_PAGE_BYTES];
} __attribute__((aligned(64)));

static struct worker workers[MAX_THREADS];
static struct fh_pgrant shared;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_spinlock_t spin;
static fh_word64 stop;

static inline void
lock(enum way way)
{
    if (way == MUTEX)
        pthread_mutex_lock(&mutex);
    else if (way == SPIN)
        pthread_spin_lock(&spin);
}

static inline void
unlock(enum way way)
{
    if (way == MUTEX)
        pthread_mutex_unlock(&mutex);
    else if (way == SPIN)
        pthread_spin_unlock(&spin);
}

static inline void
operation(struct worker *w, uint32_t ref)
{
    void *addr;

    lock(w->way);
    if (fh_pgrant_get(w->cache, &ref, 1, 0, &addr))
        abort();
    unlock(w->way);
    memcpy(w->data[0], w->data[1], w->copy);
    __asm__ volatile("" ::: "memory");
    lock(w->way);
    fh_pgrant_put(w->cache, &ref, 1, 0);
    unlock(w->way);
}

static void *
work(void *arg)
{
    struct worker *w = arg;
    uint64_t seed = 88172645463325252ull + w->first;

    while (!fh_load_relaxed64(&stop)) {
        for (int i = 0; i < BURST; i++)
            operation(w, w->first + (uint32_t)(measure_random(&seed) %
                                               RING_REFS));
        fh_store_relaxed64(&w->done, fh_load_relaxed64(&w->done) + BURST);
    }
    return NULL;
}

static void
start(uint32_t i, enum way way, uint32_t copy)
{
    struct worker *w = &workers[i];

    w->way = way;
    w->copy = copy;
    w->first = FIRST_REF + (way == RING ? 0 : i * RING_REFS);
    w->cache = way == RING ? &w->own : &shared;
    if (way == RING)
        cache_fill(&w->own, RING_REFS);
    if (pthread_create(&w->thread, NULL, work, w))
        abort();
}

static uint64_t
total(uint32_t threads)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < threads; i++)
        sum += fh_load_relaxed64(&workers[i].done);
    return sum;
}

int
main(int argc, char **argv)
{
    static const char *const ways[] = { "ring", "mutex", "spin" };
    unsigned way = 0;

    while (argc == 5 && way < 3 && strcmp(argv[1], ways[way]))
        way++;
    if (argc != 5 || way == 3) {
        fprintf(stderr, "usage: pool ring|mutex|spin THREADS MS COPY\n");
        return 2;
    }
    const uint32_t threads = measure_number(argv[2], MAX_THREADS);
    const uint32_t ms = measure_number(argv[3], 60000);
    const uint32_t copy =
        strcmp(argv[4], "0") ? measure_number(argv[4], FH_PAGE_BYTES) : 0;
    const struct timespec t = { ms / 1000, ms % 1000 * 1000000l };

    pthread_spin_init(&spin, PTHREAD_PROCESS_PRIVATE);
    if (way != RING)
        cache_fill(&shared, threads * RING_REFS);
    for (uint32_t i = 0; i < threads; i++)
        start(i, (enum way)way, copy);

    const uint64_t before = total(threads), t0 = measure_now_ns();

    nanosleep(&t, NULL);

    const uint64_t after = total(threads), t1 = measure_now_ns();

    fh_store_relaxed64(&stop, 1);
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(workers[i].thread, NULL);
    printf("{\"way\": \"%s\", \"threads\": %u, \"copy_bytes\": %u, "
           "\"operations_per_s\": %.0f}\n",
           ways[way], threads, copy,
           (double)(after - before) * 1e9 / (double)(t1 - t0));
    return 0;
}
