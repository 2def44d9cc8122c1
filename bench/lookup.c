/* SPDX-License-Identifier: MIT */
/*
 * lookup: what finding a persistent grant costs, by structure and size.
 *
 *   lookup STRUCTURE GRANTS LOOKUPS
 *
 *   none      the loop alone, to be subtracted
 *   pgrant    fh_pgrant_get() of one reference: a look-up in the two-level
 *             table, and counting the use, which the others do not do
 *   pgrant11  the same for the eleven references of one call, per reference
 *   request   fh_pgrant_get() and fh_pgrant_put(), as a request does
 *   redblack  tfind(3) of the C library: a red-black tree
 *   balanced  a perfectly balanced tree of nodes, comparison inlined: no
 *             red-black tree of as many nodes is shallower or walked faster
 *   array     binary search without branches in a sorted array
 *
 * References are dense, as a frontend's are, entered and looked up in random
 * order.  Prints one JSON object.  run_lookups() does nothing but the loop, so
 * that callgrind can count its instructions alone.
 */
#include <search.h>

#include "bench/cache.h"
#include "bench/measure.h"

enum {
    MAX_GRANTS = 32000,
    ORDER = 16384, /* look-ups before the order repeats */
    SEGMENTS = 11, /* references in a direct request */
};

struct node {
    uint32_t ref;
    uint32_t page;
    struct node *child[2];
};

static uint32_t order[ORDER + SEGMENTS]; /* references to look up */
static uint32_t sorted[MAX_GRANTS];
static struct node *nodes[MAX_GRANTS]; /* by reference */
static struct node *balanced;
static void *redblack;
static struct fh_pgrant cache;
static uint32_t n_grants;

typedef uint64_t lookup_fn(uint32_t ref);

static inline uint64_t
find_none(uint32_t ref)
{
    return ref;
}

static inline uint64_t
find_pgrant(uint32_t ref)
{
    void *addr;

    if (fh_pgrant_get(&cache, &ref, 1, 0, &addr))
        abort();
    return (uintptr_t)addr;
}

static inline uint64_t
find_request(uint32_t ref)
{
    const uint64_t addr = find_pgrant(ref);

    fh_pgrant_put(&cache, &ref, 1, 0);
    return addr;
}

static int
compare(const void *a, const void *b)
{
    const uint32_t x = ((const struct node *)a)->ref;
    const uint32_t y = ((const struct node *)b)->ref;

    return (x > y) - (x < y);
}

static inline uint64_t
find_redblack(uint32_t ref)
{
    const struct node key = { .ref = ref };

    return (*(struct node **)tfind(&key, &redblack, compare))->page;
}

static inline uint64_t
find_balanced(uint32_t ref)
{
    const struct node *n = balanced;

    while (n->ref != ref)
        n = n->child[ref > n->ref];
    return n->page;
}

static inline uint64_t
find_array(uint32_t ref)
{
    const uint32_t *base = sorted;

    for (size_t n = n_grants; n > 1;) {
        const size_t half = n / 2;

        base += half & -(size_t)(base[half - 1] < ref);
        n -= half;
    }
    return (uint64_t)(base - sorted);
}

static inline __attribute__((always_inline)) uint64_t
loop(lookup_fn *find, uint32_t n)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += find(order[i % ORDER]);
    return sum;
}

static uint64_t
loop_segments(uint32_t n)
{
    void *addrs[SEGMENTS];
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i += SEGMENTS) {
        if (fh_pgrant_get(&cache, &order[i % ORDER], SEGMENTS, 0, addrs))
            abort();
        sum += (uintptr_t)addrs[0];
    }
    return sum;
}

static const char *const names[] = { "none",     "pgrant",   "request",
                                     "redblack", "balanced", "array",
                                     "pgrant11", NULL };

/* One copy of the loop for each structure, each with its look-up inlined. */
static __attribute__((noinline)) uint64_t
run_lookups(unsigned structure, uint32_t n)
{
    switch (structure) {
    case 0:
        return loop(find_none, n);
    case 1:
        return loop(find_pgrant, n);
    case 2:
        return loop(find_request, n);
    case 3:
        return loop(find_redblack, n);
    case 4:
        return loop(find_balanced, n);
    case 5:
        return loop(find_array, n);
    case 6:
        return loop_segments(n);
    }
    abort();
}

/*
 * Links nodes[0 .. n-1] into a tree: level by level, each middle the root of
 * its range.
 */
static struct node *
balance(uint32_t n)
{
    struct {
        uint32_t from, to;
        struct node **link;
    } todo[64];
    struct node *root = NULL;
    uint32_t depth = 0;

    todo[depth++] = (__typeof__(todo[0])){ 0, n, &root };
    while (depth) {
        const __typeof__(todo[0]) t = todo[--depth];
        const uint32_t mid = t.from + (t.to - t.from) / 2;

        if (t.from == t.to)
            continue;
        *t.link = nodes[mid];
        todo[depth++] = (__typeof__(todo[0])){ t.from, mid,
                                               &nodes[mid]->child[0] };
        todo[depth++] = (__typeof__(todo[0])){ mid + 1, t.to,
                                               &nodes[mid]->child[1] };
    }
    return root;
}

/* The nodes come from malloc() in random order, as a cache's would. */
static void
fill(void)
{
    static uint32_t shuffled[MAX_GRANTS];
    uint64_t seed = 88172645463325252ull;

    for (uint32_t i = 0; i < n_grants; i++)
        shuffled[i] = i;
    for (uint32_t i = n_grants; i > 1; i--) {
        const uint32_t k = (uint32_t)(measure_random(&seed) % i);
        const uint32_t t = shuffled[i - 1];

        shuffled[i - 1] = shuffled[k];
        shuffled[k] = t;
    }
    for (uint32_t i = 0; i < n_grants; i++) {
        struct node *n = calloc(1, sizeof(*n));

        if (!n)
            abort();
        n->ref = FIRST_REF + shuffled[i];
        n->page = shuffled[i];
        nodes[shuffled[i]] = n;
        tsearch(n, &redblack, compare);
        sorted[i] = FIRST_REF + i;
    }
    balanced = balance(n_grants);
    cache_fill(&cache, n_grants);
    for (uint32_t i = 0; i < ORDER + SEGMENTS; i++)
        order[i] = FIRST_REF + (uint32_t)(measure_random(&seed) % n_grants);
}

int
main(int argc, char **argv)
{
    unsigned structure = 0;
    uint32_t lookups;
    double best = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: lookup none|pgrant|pgrant11|request|redblack|"
                        "balanced|array GRANTS LOOKUPS\n");
        return 2;
    }
    while (names[structure] && strcmp(argv[1], names[structure]))
        structure++;
    if (!names[structure]) {
        fprintf(stderr, "no structure '%s'\n", argv[1]);
        return 2;
    }
    n_grants = measure_number(argv[2], MAX_GRANTS);
    lookups = measure_number(argv[3], 1000000000);
    fill();
    for (int i = 0; i < FH_MEASURE_ROUNDS; i++) {
        const uint64_t start = measure_now_ns();
        volatile uint64_t sum = run_lookups(structure, lookups);
        const double ns =
            (double)(measure_now_ns() - start) / (double)lookups;

        (void)sum;
        if (i == 0 || ns < best)
            best = ns;
    }
    printf("{\"structure\": \"%s\", \"grants\": %u, \"lookups\": %u, "
           "\"rounds\": %d, \"ns\": %.3f}\n",
           argv[1], n_grants, lookups, FH_MEASURE_ROUNDS, best);
    return 0;
}
