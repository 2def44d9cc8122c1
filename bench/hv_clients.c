/* SPDX-License-Identifier: MIT */
/*
 * hv-clients: what a local hypervisor does for several clients at once.
 *
 *   hv-clients RUN_DIR CLIENTS MS
 *
 * In the hypervisor that runs in RUN_DIR it makes domains that grant pages to
 * domain 0.  As many processes of domain 0 copy them, each those of one domain
 * (as a backend's workers do), BATCH pages of 4 KiB per hypercall, for MS
 * milliseconds together; then one of them makes hypercalls of 8 bytes.  Prints one JSON object: pages per second of all
 * together, and nanoseconds of a small hypercall.
 */
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xengnttab.h>

#include "base/arith.h"
#include "base/shared.h"
#include "bench/measure.h"
#include "hv/abi.h"
#include "hv/client.h"

enum { MAX_CLIENTS = 16, BATCH = 64, SMALL_BYTES = 8 };

struct board {
    fh_word32 n_ready, is_on, is_over;
    uint64_t pages[MAX_CLIENTS];
    double small_ns;
};

struct client {
    xengnttab_handle *gnt;
    xengnttab_grant_copy_segment_t segs[BATCH];
    uint8_t *local;
};

static struct board *board;
static uint32_t refs[MAX_CLIENTS][BATCH];
static struct fh_hvctl_domain granters[MAX_CLIENTS];

static void
die(const char *what)
{
    fprintf(stderr, "hv-clients: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
copy(struct client *c, uint32_t n, uint16_t len)
{
    for (uint32_t i = 0; i < n; i++) {
        c->segs[i].len = len;
        c->segs[i].status = -1;
    }
    if (xengnttab_grant_copy(c->gnt, n, c->segs) || c->segs[n - 1].status)
        die("xengnttab_grant_copy");
}

static void
step_small(void *arg)
{
    copy(arg, 1, SMALL_BYTES);
}

static void
client_open(struct client *c, uint32_t domid, const uint32_t *own_refs)
{
    c->gnt = xengnttab_open(NULL, 0);
    c->local = aligned_alloc(FH_PAGE_BYTES, BATCH * FH_PAGE_BYTES);
    if (!c->gnt || !c->local)
        die("xengnttab_open");
    memset(c->local, 0, BATCH * FH_PAGE_BYTES);
    for (uint32_t i = 0; i < BATCH; i++) {
        c->segs[i].flags = GNTCOPY_source_gref;
        c->segs[i].source.foreign.ref = own_refs[i];
        c->segs[i].source.foreign.domid = (uint16_t)domid;
        c->segs[i].dest.virt = c->local + i * FH_PAGE_BYTES;
    }
    copy(c, BATCH, FH_PAGE_BYTES);
}

static void
client_run(unsigned index, uint32_t domid, unsigned ms)
{
    static struct client c;

    client_open(&c, domid, refs[index]);
    fh_fetch_add32(&board->n_ready, 1);
    while (!fh_load_acquire32(&board->is_on))
        usleep(100);
    while (!fh_load_relaxed32(&board->is_over)) {
        copy(&c, BATCH, FH_PAGE_BYTES);
        board->pages[index] += BATCH;
    }
    if (fh_fetch_add32(&board->n_ready, UINT32_MAX) == 1) /* the last one */
        board->small_ns = measure_best_ns(step_small, &c, ms);
    xengnttab_close(c.gnt);
}

static void
enter(const struct fh_hvctl_domain *dom)
{
    setenv(FH_HV_ENV_HYPERCALL, dom->hypercall, 1);
}

static void
fail(void)
{
    fprintf(stderr, "hv-clients: %s\n", fh_hvctl_error());
    exit(1);
}

static void
pages_grant(const char *run_dir, unsigned i)
{
    char name[32];

    snprintf(name, sizeof(name), "bench-granter-%u", i);
    if (fh_hvctl_create(run_dir, -1, name, &granters[i]))
        fail();
    enter(&granters[i]);
    xengntshr_handle *shr = xengntshr_open(NULL, 0); /* stays open */
    uint8_t *pages =
        shr ? xengntshr_share_pages(shr, 0, BATCH, refs[i], 0) : NULL;

    if (!pages)
        die("xengntshr_share_pages");
    memset(pages, 1, BATCH * FH_PAGE_BYTES);
}

/* Pages per second of all clients together. */
static double
clients_time(unsigned n, unsigned ms)
{
    uint64_t pages = 0;

    while (fh_load_acquire32(&board->n_ready) < n)
        usleep(100);
    const uint64_t start = measure_now_ns();

    fh_store_release32(&board->is_on, 1);
    usleep(ms * 1000);
    fh_store_release32(&board->is_over, 1);
    const uint64_t spent = measure_now_ns() - start;

    for (unsigned i = 0; i < n; i++)
        pages += fh_load_relaxed64(&board->pages[i]);
    return (double)pages * 1e9 / (double)spent;
}

static unsigned
number(const char *s, unsigned most)
{
    char *end;
    unsigned long v = strtoul(s, &end, 10);

    if (!*s || *end || !v || v > most) {
        fprintf(stderr, "hv-clients: '%s' is not a number from 1 to %u\n", s,
                most);
        exit(2);
    }
    return (unsigned)v;
}

int
main(int argc, char **argv)
{
    struct fh_hvctl_domain zero;
    int status, failed = 0;

    if (argc != 4) {
        fprintf(stderr, "usage: hv-clients RUN_DIR CLIENTS MS\n");
        return 2;
    }
    const unsigned n = number(argv[2], MAX_CLIENTS);
    const unsigned ms = number(argv[3], 60000);

    board = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (board == MAP_FAILED)
        die("mmap");
    for (unsigned i = 0; i < n; i++)
        pages_grant(argv[1], i);
    if (fh_hvctl_find(argv[1], "0", &zero))
        fail();
    enter(&zero);
    for (unsigned i = 0; i < n; i++) {
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            client_run(i, granters[i].domid, ms);
            _exit(0);
        }
    }
    const double pages_per_s = clients_time(n, ms);

    while (wait(&status) > 0)
        failed |= status;
    if (failed)
        die("a client");
    for (unsigned i = 0; i < n; i++) {
        if (fh_hvctl_destroy(argv[1], granters[i].name))
            fail();
    }
    printf("{\"clients\": %u, \"batch\": %d, \"pages_per_s\": %.0f, "
           "\"small_ns\": %.0f}\n",
           n, BATCH, pages_per_s, board->small_ns);
    return 0;
}
