/* SPDX-License-Identifier: MIT */
/*
 * mmu-curve: processors interrupted per I/O, by processors and guests, on the
 * software MMU of tests/mmu (mail 001: 24 CPUs fall over with 10 guests).
 *
 * usage: mmu-curve [I/OS-PER-GUEST [PAGES-PER-I/O]]
 *
 * A backend domain runs on all processors and serves one guest per thread: it
 * maps the pages of an I/O, a device fills them, it unmaps them.  A flush takes
 * as long as one I/O of everybody else; every processor switches away from the
 * backend once in 16 I/Os of its own, which flushes it.  The ways:
 *
 *   upstream    as Xen: entries are installed accessed; a flush of all dirty
 *               processors for each 32 unmaps
 *   untouched   libgrant, pages that only devices touched
 *   touched     libgrant, every page was read by the processor
 *   touched256  ... and unmaps are collected to 256 a call
 *   persistent  no unmap
 *
 * Counts only, the same at every run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "mmu/mmu.h"

enum {
    MAX_GUESTS = 15,
    MAPPER = 16,
    MAX_PAGES = 32,
    COLLECT = 256,
    SLOTS_EACH = COLLECT + MAX_PAGES,
    STACK = 64 << 10,
    SWITCH_EVERY = 16,
    XEN_BATCH = 32,
};

enum way { UPSTREAM, UNTOUCHED, TOUCHED, TOUCHED256, PERSISTENT, N_WAYS };
static const char *const way_names[] = { "upstream", "untouched", "touched",
                                         "touched256", "persistent" };

static struct mmu m;
static enum way way;
static uint32_t n_ios = 96, n_pages = 8, n_cpus, n_guests;
static ucontext_t main_ctx, ctx[MAX_GUESTS];
static uint8_t stacks[MAX_GUESTS][STACK] __attribute__((aligned(64)));
static bool done[MAX_GUESTS];
static uint32_t running, n_running, round_no;

/* ------------------------------------------------------------- scheduling -- */

/* A round is over: the processors serve what was asked of them meanwhile. */
static void
end_round(void)
{
    round_no++;
    for (uint32_t i = 0; i < n_cpus; i++) {
        if (m.cpu[i].ipi)
            mmu_serve(&m, i);
        if ((round_no + i) % SWITCH_EVERY == 0) {
            mmu_leave_begin(&m, i);
            mmu_leave(&m, i);
            mmu_enter(&m, i, &m.dom[MAPPER]);
        }
    }
}

/* The next guest's turn. */
static void
yield(void)
{
    const uint32_t me = running;

    do {
        if (++running == n_guests) {
            running = 0;
            end_round();
        }
    } while (done[running]);
    if (running != me)
        swapcontext(&ctx[me], &ctx[running]);
}

static void
at_wait(struct mmu *machine)
{
    yield();
}

/* What tests/sched/points.h makes of the engine's shared accesses, and of its
 * spinning. */
void
sched_point(const FH_SHARED void *p, bool is_write);
void
sched_wait(void);

void
sched_point(const FH_SHARED void *p, bool is_write)
{
}

void
sched_wait(void)
{
    yield();
}

/* ------------------------------------------------------------------ a guest -- */

struct guest {
    struct fh_gnt_ctx ctx;
    struct gnttab_map_grant_ref maps[SLOTS_EACH];
    struct gnttab_unmap_grant_ref unmaps[SLOTS_EACH];
    uint32_t n_mapped;
};

static struct guest guests[MAX_GUESTS];

static void
must(bool holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "mmu-curve: %s\n", what);
        exit(1);
    }
}

static void
map_io(struct guest *g, uint32_t index)
{
    struct gnttab_map_grant_ref *ops = &g->maps[g->n_mapped];
    uint32_t n;

    for (uint32_t i = 0; i < n_pages; i++)
        ops[i] = (struct gnttab_map_grant_ref){
            .host_addr = mmu_addr(index * SLOTS_EACH + g->n_mapped + i),
            .flags = GNTMAP_host_map,
            .ref = 8 + g->n_mapped + i,
            .dom = (uint16_t)(1 + index),
        };
    must(!fh_gnt_op_map(&g->ctx, &m.dom[MAPPER].gnt, ops, n_pages, &n) &&
             !ops[n_pages - 1].status, "a map failed");
    if (way == TOUCHED || way == TOUCHED256) {
        for (uint32_t i = 0; i < n_pages; i++)
            mmu_fill(&m, g->ctx.cpu, index * SLOTS_EACH + g->n_mapped + i);
    }
    g->n_mapped += n_pages;
}

static void
unmap_all(struct guest *g)
{
    const uint32_t most = way == UPSTREAM ? XEN_BATCH : COLLECT;

    for (uint32_t i = 0; i < g->n_mapped; i++)
        g->unmaps[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = g->maps[i].host_addr, .handle = g->maps[i].handle,
        };
    for (uint32_t i = 0; i < g->n_mapped;) {
        const uint32_t n = g->n_mapped - i < most ? g->n_mapped - i : most;
        uint32_t did;

        must(!fh_gnt_op_unmap(&g->ctx, &m.dom[MAPPER].gnt, &g->unmaps[i], n,
                              &did) && !g->unmaps[i].status, "an unmap failed");
        i += n;
    }
    g->n_mapped = 0;
}

static void
serve_guest(void)
{
    const uint32_t index = running;
    struct guest *g = &guests[index];

    for (uint32_t i = 0; i < n_ios; i++) {
        if (way != PERSISTENT || !i)
            map_io(g, index);
        yield();
        if (way == PERSISTENT)
            continue;
        if (way != TOUCHED256 || g->n_mapped + n_pages > COLLECT ||
            i == n_ios - 1)
            unmap_all(g);
    }
    done[index] = true;
    if (--n_running)
        yield();
    setcontext(&main_ctx);
}

/* ------------------------------------------------------------------ a point -- */

static void
set_up(void)
{
    struct mmu_domain *d;

    mmu_init(&m, n_cpus, MAX_GUESTS * SLOTS_EACH, MAX_GUESTS * SLOTS_EACH);
    d = mmu_add(&m, MAPPER, 0, 0, 0, MAX_GUESTS * SLOTS_EACH);
    if (way == UPSTREAM) {
        m.broken = MMU_A1;
        d->gnt.tlb = NULL;
    }
    m.wait = at_wait;
    for (uint32_t i = 0; i < n_cpus; i++)
        mmu_enter(&m, i, d);
    for (uint32_t g = 0; g < n_guests; g++) {
        mmu_add(&m, (uint16_t)(1 + g), g * SLOTS_EACH, SLOTS_EACH, MAPPER, 1);
        guests[g].n_mapped = 0;
        fh_gnt_ctx_init(&guests[g].ctx, &m.ops, &m, g % n_cpus);
    }
}

static void
run(void)
{
    volatile bool started = false;

    running = round_no = 0;
    n_running = n_guests;
    for (uint32_t g = 0; g < n_guests; g++) {
        done[g] = false;
        getcontext(&ctx[g]);
        ctx[g].uc_stack.ss_sp = stacks[g];
        ctx[g].uc_stack.ss_size = STACK;
        makecontext(&ctx[g], serve_guest, 0);
    }
    getcontext(&main_ctx);
    if (!started) {
        started = true;
        setcontext(&ctx[0]);
    }
}

static void
print_way(bool last)
{
    const double ios = (double)n_ios * n_guests;
    struct fh_gnt_stats s;

    fh_gnt_stats_read(&m.dom[MAPPER].gnt, &s);
    if (way == UPSTREAM) /* each flush interrupts all but who asks */
        s.cpus_interrupted = m.ipis - s.flushes;
    printf("\"%s\": {\"interrupted_per_io\": %.4f, \"flushes\": %llu, "
           "\"asked\": %llu, \"merged\": %llu, \"elided\": %llu, "
           "\"skipped_per_io\": %.4f, \"flushes_per_page\": %.6f}%s",
           way_names[way], (double)s.cpus_interrupted / ios,
           (unsigned long long)s.flushes, (unsigned long long)s.flushes_asked,
           (unsigned long long)s.flushes_merged,
           (unsigned long long)s.flushes_elided, (double)s.cpus_skipped / ios,
           s.unmaps ? (double)s.flushes / (double)s.unmaps : 0.0,
           last ? "" : ", ");
}

int
main(int argc, char **argv)
{
    static const uint32_t cpus[] = { 1, 2, 4, 8, 12, 16, 20, 24 };
    static const uint32_t many[] = { 1, 2, 5, 10, 15 };

    if (argc > 1)
        n_ios = (uint32_t)atoi(argv[1]);
    if (argc > 2)
        n_pages = (uint32_t)atoi(argv[2]);
    if (argc > 3 || !n_ios || !n_pages || n_pages > MAX_PAGES) {
        fprintf(stderr, "usage: mmu-curve [I/OS-PER-GUEST [PAGES-PER-I/O]]\n");
        return 2;
    }
    printf("{\"ios_per_guest\": %u, \"pages_per_io\": %u, \"points\": [\n",
           n_ios, n_pages);
    for (size_t c = 0; c < FH_ARRAY_SIZE(cpus); c++) {
        for (size_t g = 0; g < FH_ARRAY_SIZE(many); g++) {
            n_cpus = cpus[c];
            n_guests = many[g];
            printf("%s{\"cpus\": %u, \"guests\": %u, ", c + g ? ",\n" : "",
                   n_cpus, n_guests);
            for (way = UPSTREAM; way < N_WAYS; way++) {
                set_up();
                run();
                print_way(way == N_WAYS - 1);
                mmu_fini(&m);
            }
            printf("}");
        }
    }
    printf("\n]}\n");
    return 0;
}
