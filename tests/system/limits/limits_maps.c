/* SPDX-License-Identifier: MIT */
/*
 * Inside a domain: grants and maps pages of its own until there is no room.
 *
 *   limits_maps quota SIZE   until the hypervisor refuses: "STEPS ERRNO"
 *   limits_maps vmas         until the process has no mapping left
 *   limits_maps handles      until no further handle can be opened
 *
 * Each then tries something smaller, undoes what was refused, and tries again;
 * a line per claim that does not hold.  At the end everything is given back,
 * and it waits for a line, so that the hypervisor's counts can be read.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xengnttab.h>

enum {
    PAGES = 1000,
    STEPS = 300,     /* more than a domain's mappings need */
    VMAS = 1 << 18,  /* more than vm.max_map_count should be */
    HANDLES = 4096,
    PAGE = 4096,
};

static xengnttab_handle *gnt;
static uint32_t refs[PAGES];
static char *shared;
static int n_failures;

static void
claim(int ok, const char *text)
{
    if (ok)
        return;
    n_failures++;
    printf("FAILED: %s (errno %d)\n", text, errno);
}

static char *
map(uint32_t domid, uint32_t n)
{
    errno = 0;
    return xengnttab_map_domain_grant_refs(gnt, n, domid, refs,
                                           PROT_READ | PROT_WRITE);
}

static int
share(uint32_t domid)
{
    xengntshr_handle *shr = xengntshr_open(NULL, 0);

    gnt = xengnttab_open(NULL, 0);
    if (!shr || !gnt)
        return 1;
    shared = xengntshr_share_pages(shr, domid, PAGES, refs, 1);
    if (!shared)
        return 1;
    strcpy(shared, "here");
    return 0;
}

static void
quota(uint32_t domid, uint32_t limit)
{
    static char *at[STEPS];
    int n = 0;

    while (n < STEPS && (at[n] = map(domid, PAGES)))
        n++;
    claim(errno == ENOSPC, "too many mappings are ENOSPC");
    claim((uint32_t)n == limit / PAGES, "not before the quota is spent");
    claim(map(domid, PAGES) == NULL, "again");
    at[n] = map(domid, limit % PAGES);
    claim(at[n] != NULL, "what is left can be had, to the last page");
    claim(map(domid, 1) == NULL && errno == ENOSPC, "and then none");
    claim(!strcmp(at[n - 1], "here"), "the earlier ones are what they were");
    claim(!xengnttab_unmap(gnt, at[n], limit % PAGES), "unmap the rest");
    while (n--)
        claim(!xengnttab_unmap(gnt, at[n], PAGES), "unmap");
}

/* Single pages of alternating protection: none merges with its neighbour. */
static int
fill_vmas(char *space, int n)
{
    int i = 0;

    while (i < n && !mprotect(space + (size_t)i * 2 * PAGE, PAGE, PROT_READ))
        i++;
    return i;
}

static void
vmas(uint32_t domid)
{
    const size_t bytes = (size_t)VMAS * 2 * PAGE;
    char *space = mmap(NULL, bytes, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *early = map(domid, 8), *late;
    int n = fill_vmas(space, VMAS);

    claim(n < VMAS && errno == ENOMEM, "mappings ran out");
    /* What is left beside the halves that a failed split leaves. */
    while (mmap(NULL, PAGE, n++ & 1 ? PROT_READ : PROT_WRITE,
                MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED)
        continue;
    late = map(domid, 8);
    claim(!late && errno == ENOMEM, "no mapping left is ENOMEM");
    late = map(domid, 1);
    claim(!late && errno == ENOMEM, "for one page as well");
    claim(early && !strcmp(early, "here"), "the earlier one is there");
    munmap(space, bytes / 2);
    late = map(domid, 8);
    claim(late && !strcmp(late, "here"), "it works when there is room again");
    claim(late && !xengnttab_unmap(gnt, late, 8), "unmap");
    claim(early && !xengnttab_unmap(gnt, early, 8), "unmap the earlier one");
}

static void
handles(void)
{
    static xengnttab_handle *open_ones[HANDLES];
    int n = 0;

    while (n < HANDLES && (open_ones[n] = xengnttab_open(NULL, 0)))
        n++;
    claim(n < HANDLES && errno == EMFILE, "too many handles are EMFILE");
    claim(n > 0, "some can be had");
    if (n > 0)
        xengnttab_close(open_ones[--n]);
    open_ones[n] = xengnttab_open(NULL, 0);
    claim(open_ones[n] != NULL, "one closed, one opened");
    if (open_ones[n])
        n++;
    printf("handles %d\n", n);
    while (n--)
        xengnttab_close(open_ones[n]);
}

int
main(int argc, char **argv)
{
    const char *domid = getenv("FREEHOLD_DOMID");
    const char *what = argc > 1 ? argv[1] : "";
    uint32_t self = domid ? (uint32_t)atoi(domid) : 0;

    if (!strcmp(what, "handles")) {
        handles();
    } else if (share(self)) {
        perror("cannot share pages");
        return 1;
    } else if (!strcmp(what, "quota")) {
        quota(self, argc > 2 ? (uint32_t)atoi(argv[2]) : 0);
    } else {
        vmas(self);
    }
    printf("done %d\n", n_failures);
    fflush(stdout);
    (void)getchar();
    return n_failures != 0;
}
