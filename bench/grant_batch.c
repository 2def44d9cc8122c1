/* SPDX-License-Identifier: MIT */
/*
 * grant-batch: what a page costs when @n of them are mapped and unmapped, or
 * copied, by one call of libxengnttab.  Written against the system's header
 * only, so it measures whatever world it is run in.
 *
 *   grant-batch share DOMID   in the granting domain: grants PAGES pages to
 *                             DOMID, prints their references, and keeps them
 *                             until its input ends
 *   grant-batch map DOMID MS  in the other one: reads the references of DOMID
 *                             and prints one JSON object, nanoseconds per page
 *   grant-batch steps DOMID WAY N ROUNDS   only so many steps of N pages, for
 *                             somebody who counts what they cost
 *
 * One step of "map" maps, reads a byte of each page (or not: "untouched") and
 * unmaps; "copy" copies whole pages out; "persistent" is a memcpy of a page
 * that stays mapped.
 */
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include <xengnttab.h>

#include "base/arith.h"
#include "bench/measure.h"

enum { PAGES = 256, MAX_DOMID = 32751 };

static const uint32_t sizes[] = { 1, 2, 4, 8, 11, 16, 32, 64, 128, PAGES };
#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

struct work {
    xengnttab_handle *gnt;
    uint32_t domid;
    uint32_t n; /* pages per call */
    bool touch;
    uint32_t refs[PAGES];
    xengnttab_grant_copy_segment_t segs[PAGES];
    uint8_t *local;
    uint8_t *mapped;
};

static void
die(const char *what)
{
    fprintf(stderr, "grant-batch: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int
share(uint32_t domid)
{
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    uint32_t refs[PAGES];
    uint8_t *pages;

    if (!shr)
        die("xengntshr_open");
    pages = xengntshr_share_pages(shr, domid, PAGES, refs, 1);
    if (!pages)
        die("xengntshr_share_pages");
    memset(pages, 0x5a, PAGES * FH_PAGE_BYTES);
    for (int i = 0; i < PAGES; i++)
        printf("%u\n", refs[i]);
    fflush(stdout);
    while (getchar() != EOF)
        ;
    xengntshr_unshare(shr, pages, PAGES);
    return xengntshr_close(shr);
}

static void
map_step(void *arg)
{
    struct work *w = arg;
    volatile uint8_t *p = xengnttab_map_domain_grant_refs(
        w->gnt, w->n, w->domid, w->refs, PROT_READ | PROT_WRITE);

    if (!p)
        die("map");
    for (uint32_t i = 0; w->touch && i < w->n; i++)
        (void)p[(size_t)i * FH_PAGE_BYTES];
    if (xengnttab_unmap(w->gnt, (void *)p, w->n))
        die("unmap");
}

static void
copy_step(void *arg)
{
    struct work *w = arg;

    if (xengnttab_grant_copy(w->gnt, w->n, w->segs))
        die("copy");
    for (uint32_t i = 0; i < w->n; i++)
        if (w->segs[i].status)
            die("copy of a page");
}

static void
persistent_step(void *arg)
{
    struct work *w = arg;

    for (uint32_t i = 0; i < w->n; i++)
        memcpy(w->local + (size_t)i * FH_PAGE_BYTES,
               w->mapped + (size_t)i * FH_PAGE_BYTES, FH_PAGE_BYTES);
}

static void
print_sizes(struct work *w, const char *name, void (*step)(void *), unsigned ms)
{
    printf("\"%s\": {", name);
    for (size_t i = 0; i < N_SIZES; i++) {
        w->n = sizes[i];
        printf("%s\"%u\": %.1f", i ? ", " : "", w->n,
               measure_best_ns(step, w, ms) / w->n);
    }
    printf("}, ");
}

static void
init(struct work *w, uint32_t domid)
{
    w->domid = domid;
    w->gnt = xengnttab_open(NULL, 0);
    w->local = aligned_alloc(FH_PAGE_BYTES, PAGES * FH_PAGE_BYTES);
    if (!w->gnt || !w->local)
        die("xengnttab_open");
    memset(w->local, 0, PAGES * FH_PAGE_BYTES);
    for (uint32_t i = 0; i < PAGES; i++) {
        if (scanf("%u", &w->refs[i]) != 1)
            die("no references on the standard input");
        w->segs[i] = (xengnttab_grant_copy_segment_t){
            .source.foreign = { .ref = w->refs[i], .domid = (uint16_t)domid },
            .dest.virt = w->local + (size_t)i * FH_PAGE_BYTES,
            .len = FH_PAGE_BYTES,
            .flags = GNTCOPY_source_gref,
        };
    }
}

static int
map(uint32_t domid, unsigned ms)
{
    struct work w = { 0 };

    init(&w, domid);
    printf("{");
    print_sizes(&w, "map_untouched", map_step, ms);
    w.touch = true;
    print_sizes(&w, "map", map_step, ms);
    print_sizes(&w, "copy", copy_step, ms);
    w.mapped = xengnttab_map_domain_grant_refs(w.gnt, PAGES, domid, w.refs,
                                               PROT_READ | PROT_WRITE);
    if (!w.mapped)
        die("map");
    print_sizes(&w, "persistent", persistent_step, ms);
    printf("\"page_bytes\": %d}\n", FH_PAGE_BYTES);
    xengnttab_unmap(w.gnt, w.mapped, PAGES);
    free(w.local);
    return xengnttab_close(w.gnt);
}

static int
steps(uint32_t domid, const char *way, uint32_t n, uint32_t rounds)
{
    struct work w = { 0 };
    void (*step)(void *) = strcmp(way, "map") ? copy_step : map_step;

    init(&w, domid);
    w.touch = true;
    w.n = n;
    while (rounds--)
        step(&w);
    free(w.local);
    return xengnttab_close(w.gnt);
}

/* Domain 0 may grant to itself, where a second domain would be slow. */
static uint32_t
domid(const char *text)
{
    return strcmp(text, "0") ? measure_number(text, MAX_DOMID) : 0;
}

int
main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "share"))
        return share(domid(argv[2])) ? 1 : 0;
    if (argc == 4 && !strcmp(argv[1], "map"))
        return map(domid(argv[2]),
                   measure_number(argv[3], 10000))
                   ? 1
                   : 0;
    if (argc == 6 && !strcmp(argv[1], "steps"))
        return steps(domid(argv[2]), argv[3],
                     measure_number(argv[4], PAGES),
                     measure_number(argv[5], 1000000))
                   ? 1
                   : 0;
    fprintf(stderr, "usage: grant-batch share DOMID | map DOMID MS | "
                    "steps DOMID map|copy N ROUNDS\n");
    return 2;
}
