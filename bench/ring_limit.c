/* SPDX-License-Identifier: MIT */
/*
 * ring-limit: what a shared ring between two processes can do at most on this
 * machine, right now.
 *
 * N pairs of processes; in each, one puts 4 KiB read requests on a bare ring
 * (lib/ring, both halves, as production uses them), the other copies the block
 * from its memory to the requester's page and answers.  Nothing else: no
 * grants, no decoding, no journal, no hypervisor.  Waiting is that of the real
 * thing (lib/base/poller.h, then eventfd), as are depth, working set and
 * placement (none: the scheduler's).  Every figure of `freehold bench` is
 * printed beside this one, taken in the same run.
 *
 * Each process counts in its own cache line; the parent samples the counters
 * at both ends of the window, so start and end of the processes do not count.
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/poller.h"
#include "base/shared.h"
#include "ring/ring.h"
#include "xenplat/xenplat.h"

enum {
    MAX_PAIRS = 256,
    MAX_DEPTH = 512,
    SLOT_BYTES = 112, /* blkif's stride */
    BLOCK = FH_PAGE_BYTES,
};

struct options {
    unsigned pairs;
    unsigned depth;
    double seconds;
    uint64_t size; /* bytes of store per pair */
    bool polling;
    bool json;
};

/* What the processes of all pairs share with the parent. */
struct counter {
    fh_word64 value;
    uint8_t pad[56];
} __attribute__((aligned(64)));

struct control {
    struct counter ready; /* processes that may start */
    struct counter stop;
    struct counter done[MAX_PAIRS];   /* requests */
    struct counter sleeps[MAX_PAIRS]; /* of both sides */
};

/* What the two processes of a pair share. */
struct pair {
    struct fh_ring_shared *ring;
    uint8_t *pages; /* MAX_DEPTH blocks: what would be granted */
    int to_back;
    int to_front;
    uint32_t n_slots;
};

/* The least that a request and a response must say. */
struct request {
    uint64_t id;
    uint64_t block;
    uint32_t page;
};

struct response {
    uint64_t id;
};

struct waiter {
    struct fh_poller poller;
    struct fh_xenplat x; /* no part of Xen: the clock and the run queue */
    struct counter *sleeps;
    int fd;
};

static struct control *ctl;

static void
die(const char *what)
{
    fprintf(stderr, "ring-limit: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *
shared_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        die("mmap");
    return p;
}

static bool
stopped(void)
{
    return fh_load_relaxed64(&ctl->stop.value) != 0;
}

static void
add(struct counter *c, uint64_t n)
{
    fh_store_relaxed64(&c->value, fh_load_relaxed64(&c->value) + n);
}

static uint64_t
now_ns(struct fh_xenplat *x)
{
    return x->plat.ops->now_ns(&x->plat);
}

static void
waiter_init(struct waiter *w, const struct options *o, int fd,
            struct counter *sleeps)
{
    if (fh_xenplat_open(&w->x, 0))
        die("the platform's clock");
    fh_poller_init(&w->poller, o->polling ? FH_POLLER_MAX_NS_DEFAULT : 0,
                   FH_POLLER_BUDGET_FULL, now_ns(&w->x));
    w->sleeps = sleeps;
    w->fd = fd;
}

static void
waiter_sleep(struct waiter *w)
{
    struct pollfd p = { .fd = w->fd, .events = POLLIN };
    const uint64_t start = now_ns(&w->x);
    uint64_t n;

    fh_fetch_add64(&w->sleeps->value, 1);
    if (poll(&p, 1, 100) == 1 && read(w->fd, &n, sizeof(n)) < 0)
        die("read of an eventfd");
    fh_poller_slept(&w->poller, now_ns(&w->x) - start);
}

static void
kick(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) < 0)
        die("write to an eventfd");
}

typedef int pending_fn(const void *ring, uint32_t *n);
typedef int arm_fn(void *ring);

static int
back_pending(const void *ring, uint32_t *n)
{
    return fh_bring_pending(ring, n);
}

static int
back_arm(void *ring)
{
    return fh_bring_arm(ring);
}

static int
front_pending(const void *ring, uint32_t *n)
{
    return fh_fring_pending(ring, n);
}

static int
front_arm(void *ring)
{
    return fh_fring_arm(ring, 1);
}

/* Looks for work for as long as the poller allows; true when it came. */
static inline __attribute__((always_inline)) bool
spin(struct waiter *w, const void *ring, pending_fn *pending)
{
    const uint64_t start = now_ns(&w->x);
    const uint64_t limit = fh_poller_plan(
        &w->poller, start, w->x.plat.ops->cpu_wanted(&w->x.plat));
    uint64_t spun = 0;
    uint32_t n = 0;

    if (!limit)
        return false;
    do {
        for (int i = 0; i < 64; i++) {
            fh_cpu_relax();
            if (pending(ring, &n))
                die("impossible index");
            if (n) {
                fh_poller_found(&w->poller, spun);
                return true;
            }
        }
        spun = now_ns(&w->x) - start;
    } while (spun < limit);
    fh_poller_missed(&w->poller, spun);
    return false;
}

static inline __attribute__((always_inline)) void
wait_for_work(struct waiter *w, void *ring, pending_fn *pending, arm_fn *arm)
{
    if (fh_poller_ready(&w->poller) && spin(w, ring, pending))
        return;
    if (!arm(ring))
        waiter_sleep(w);
}

static void
serve(struct pair *p, const struct options *o, unsigned index)
{
    uint8_t *store = shared_memory(o->size);
    struct waiter w;
    struct fh_bring r;

    memset(store, 0x5a, o->size);
    waiter_init(&w, o, p->to_back, &ctl->sleeps[index]);
    fh_bring_init(&r, p->ring, p->n_slots, SLOT_BYTES, 0, 0);
    fh_fetch_add64(&ctl->ready.value, 1);
    while (!stopped()) {
        uint32_t n = 0;

        if (fh_bring_pending(&r, &n))
            die("impossible index");
        if (!n) {
            wait_for_work(&w, &r, back_pending, back_arm);
            continue;
        }
        for (; n; n--) {
            struct request req;
            struct response rsp;

            fh_copy_in(&req,
                       fh_ring_slot(r.shared, r.req_cons, r.n_slots,
                                    SLOT_BYTES),
                       sizeof(req));
            r.req_cons++;
            memcpy(p->pages + (size_t)req.page * BLOCK,
                   store + req.block * BLOCK, BLOCK);
            rsp.id = req.id;
            fh_bring_put(&r, &rsp, sizeof(rsp));
        }
        if (fh_bring_publish(&r))
            kick(p->to_front);
    }
}

static uint64_t
next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void
request(struct pair *p, const struct options *o, unsigned index)
{
    const uint64_t blocks = o->size / BLOCK;
    uint64_t seed = 88172645463325252ull + index;
    uint32_t free_pages[MAX_DEPTH], n_free = o->depth;
    struct waiter w;
    struct fh_fring r;

    for (uint32_t i = 0; i < o->depth; i++)
        free_pages[i] = i;
    waiter_init(&w, o, p->to_front, &ctl->sleeps[index]);
    fh_fring_init(&r, p->ring, p->n_slots, SLOT_BYTES);
    fh_fetch_add64(&ctl->ready.value, 1);
    while (!stopped()) {
        uint32_t n = 0;

        while (n_free) {
            struct request req = { .page = free_pages[--n_free] };

            req.id = req.page;
            req.block = (uint64_t)(((unsigned __int128)next_random(&seed) *
                                    blocks) >> 64);
            fh_fring_put(&r, &req, sizeof(req));
        }
        if (r.req_prod != r.req_published && fh_fring_publish(&r))
            kick(p->to_back);
        if (fh_fring_pending(&r, &n))
            die("impossible index");
        if (!n) {
            wait_for_work(&w, &r, front_pending, front_arm);
            continue;
        }
        add(&ctl->done[index], n);
        for (; n; n--) {
            struct response rsp;

            fh_fring_take(&r, &rsp, sizeof(rsp));
            free_pages[n_free++] = (uint32_t)rsp.id;
        }
    }
}

typedef void side_fn(struct pair *, const struct options *, unsigned);

static pid_t
start(side_fn *side, struct pair *p, const struct options *o, unsigned index)
{
    const pid_t parent = getpid();
    const pid_t pid = fork();

    if (pid < 0)
        die("fork");
    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(1);
    side(p, o, index);
    _exit(0);
}

static void
pair_init(struct pair *p, const struct options *o)
{
    /* As many pages as blkif needs for the depth, as `freehold bench` does. */
    uint32_t bytes = FH_PAGE_BYTES;

    while (fh_ring_slots(bytes, SLOT_BYTES) < o->depth)
        bytes *= 2;
    p->n_slots = fh_ring_slots(bytes, SLOT_BYTES);
    p->ring = shared_memory(bytes);
    p->pages = shared_memory((size_t)o->depth * BLOCK);
    memset(p->pages, 1, (size_t)o->depth * BLOCK);
    p->to_back = eventfd(0, EFD_CLOEXEC);
    p->to_front = eventfd(0, EFD_CLOEXEC);
    if (p->to_back < 0 || p->to_front < 0)
        die("eventfd");
    p->ring->req_event = 1;
    p->ring->rsp_event = 1;
}

static uint64_t
total(struct counter *c, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += fh_load_relaxed64(&c[i].value);
    return sum;
}

static void
sleep_ns(uint64_t ns)
{
    struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

    while (nanosleep(&t, &t) && errno == EINTR)
        ;
}

static void
measure(const struct options *o)
{
    uint64_t t0, t1, d0, d1, s0, s1;
    struct fh_xenplat x;
    double seconds;

    if (fh_xenplat_open(&x, 0))
        die("the platform's clock");

    while (fh_load_relaxed64(&ctl->ready.value) < 2 * o->pairs)
        sleep_ns(1000000);
    sleep_ns(200000000); /* caches and pollers settle */
    t0 = now_ns(&x);
    d0 = total(ctl->done, o->pairs);
    s0 = total(ctl->sleeps, o->pairs);
    sleep_ns((uint64_t)(o->seconds * 1e9));
    t1 = now_ns(&x);
    d1 = total(ctl->done, o->pairs);
    s1 = total(ctl->sleeps, o->pairs);
    fh_store_relaxed64(&ctl->stop.value, 1);
    seconds = (double)(t1 - t0) / 1e9;
    if (o->json)
        printf("{\"pairs\": %u, \"depth\": %u, \"block_bytes\": %d, "
               "\"size_bytes\": %llu, \"polling\": %s, \"placement\": "
               "\"scheduler\", \"seconds\": %.3f, \"requests\": %llu, "
               "\"iops\": %.0f, \"sleeps_per_io\": %.4f}\n",
               o->pairs, o->depth, BLOCK, (unsigned long long)o->size,
               o->polling ? "true" : "false", seconds,
               (unsigned long long)(d1 - d0), (double)(d1 - d0) / seconds,
               d1 > d0 ? (double)(s1 - s0) / (double)(d1 - d0) : 0.0);
    else
        printf("%u pairs, depth %u, %llu MiB each, polling %s, placed by the "
               "scheduler: %.0f requests/s, %.3f sleeps per request\n",
               o->pairs, o->depth, (unsigned long long)(o->size >> 20),
               o->polling ? "on" : "off", (double)(d1 - d0) / seconds,
               d1 > d0 ? (double)(s1 - s0) / (double)(d1 - d0) : 0.0);
}

static void
usage(FILE *f)
{
    fprintf(f,
            "usage: ring-limit [--pairs N] [--depth N] [--size BYTES] "
            "[--seconds S]\n"
            "                  [--polling on|off] [--json]\n\n"
            "Measures what N bare shared rings, one 4 KiB copy per request, do "
            "on this machine.\n"
            "  --pairs N       pairs of processes, 1 to %d (1)\n"
            "  --depth N       requests in flight per pair, 1 to %d (32)\n"
            "  --size BYTES    store per pair, suffixes k m g (64m)\n"
            "  --seconds S     length of the measurement (2)\n"
            "  --polling       spin adaptively before sleeping (on)\n",
            MAX_PAIRS, MAX_DEPTH);
}

static uint64_t
parse_number(const char *name, const char *s, uint64_t min, uint64_t max)
{
    char *end;
    unsigned long long v;

    errno = 0;
    v = strtoull(s, &end, 10);
    if (*end == 'k' || *end == 'K')
        v <<= 10, end++;
    else if (*end == 'm' || *end == 'M')
        v <<= 20, end++;
    else if (*end == 'g' || *end == 'G')
        v <<= 30, end++;
    if (errno || *end || s[0] < '0' || s[0] > '9' || v < min || v > max) {
        fprintf(stderr,
                "ring-limit: --%s: '%s' is not a number from %llu to %llu\n",
                name, s, (unsigned long long)min, (unsigned long long)max);
        exit(2);
    }
    return v;
}

static bool
parse_switch(const char *name, const char *s)
{
    if (!strcmp(s, "on"))
        return true;
    if (!strcmp(s, "off"))
        return false;
    fprintf(stderr, "ring-limit: --%s: '%s' is neither on nor off\n", name, s);
    exit(2);
}

static void
parse(int argc, char **argv, struct options *o)
{
    static const struct option long_options[] = {
        { "pairs", 1, NULL, 'p' },   { "depth", 1, NULL, 'd' },
        { "size", 1, NULL, 's' },    { "seconds", 1, NULL, 't' },
        { "polling", 1, NULL, 'l' }, { "json", 0, NULL, 'j' },
        { "help", 0, NULL, 'h' },    { NULL, 0, NULL, 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (c == 'p')
            o->pairs = (unsigned)parse_number("pairs", optarg, 1, MAX_PAIRS);
        else if (c == 'd')
            o->depth = (unsigned)parse_number("depth", optarg, 1, MAX_DEPTH);
        else if (c == 's')
            o->size = parse_number("size", optarg, BLOCK, 64ull << 30);
        else if (c == 't')
            o->seconds = (double)parse_number("seconds", optarg, 1, 3600);
        else if (c == 'l')
            o->polling = parse_switch("polling", optarg);
        else if (c == 'j')
            o->json = true;
        else
            usage(c == 'h' ? stdout : stderr), exit(c == 'h' ? 0 : 2);
    }
    if (optind < argc) {
        fprintf(stderr, "ring-limit: unexpected argument '%s'\n",
                argv[optind]);
        exit(2);
    }
}

int
main(int argc, char **argv)
{
    struct options o = { .pairs = 1, .depth = 32, .seconds = 2,
                         .size = 64 << 20, .polling = true };
    static struct pair pairs[MAX_PAIRS];
    static pid_t pids[2 * MAX_PAIRS];

    parse(argc, argv, &o);
    ctl = shared_memory(sizeof(*ctl));
    for (unsigned i = 0; i < o.pairs; i++) {
        pair_init(&pairs[i], &o);
        pids[2 * i] = start(serve, &pairs[i], &o, i);
        pids[2 * i + 1] = start(request, &pairs[i], &o, i);
    }
    measure(&o);
    for (unsigned i = 0; i < 2 * o.pairs; i++)
        waitpid(pids[i], NULL, 0);
    return 0;
}
