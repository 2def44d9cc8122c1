/* SPDX-License-Identifier: MIT */
/*
 * A worker and its broker, without Xen: a device of our own stands in for
 * gntdev (a file whose page REF is what domain GUEST grants as REF), and the
 * two processes, their page and their sandbox are the real ones.
 *
 *   broker_test [bench PIECES SPIN_US]     bench: microseconds of a copy call
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/arith.h"
#include "blkback/broker.h"
#include "blkback/broker_page.h"
#include "blkback/sandbox.h"
#include "blkback/token.h"
#include "expect.h"

enum {
    GUEST = 7,
    OTHER = 8,
    N_REFS = 64,
    FAR = 90, /* a reference whose mapping lies outside the window */
};

/* ---- the device ---- */

/* In memory that both processes have, so that the test sees what was asked. */
static struct asked {
    uint32_t maps, unmaps, copies;
} *asked;

struct fh_gntdev_calls
fh_gntdev_calls(void)
{
    return (struct fh_gntdev_calls){ .map = 1, .unmap = 2, .copy = 3 };
}

bool
fh_gntdev_is_here(void)
{
    return true;
}

int
fh_gntdev_open(void)
{
    int fd = memfd_create("gntdev", MFD_CLOEXEC);

    if (fd >= 0 && ftruncate(fd, N_REFS * FH_PAGE_BYTES))
        abort();
    return fd;
}

/* Offsets are what references are: one page each. */
int
fh_gntdev_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t n,
              uint64_t *offset)
{
    asked->maps++;
    if (domid != GUEST)
        abort();
    *offset = (uint64_t)refs[0] * FH_PAGE_BYTES;
    if (refs[0] == FAR)
        *offset = (uint64_t)FH_BROKER_WINDOW_PAGES * FH_PAGE_BYTES;
    return 0;
}

int
fh_gntdev_unmap(int fd, uint64_t offset, uint32_t n)
{
    asked->unmaps++;
    return 0;
}

int
fh_gntdev_copy(int fd, uint16_t domid, struct fh_gntdev_piece *pieces,
               uint32_t n)
{
    static uint8_t *grants; /* the broker's own view of the device */

    asked->copies++;
    if (domid != GUEST)
        abort();
    if (!grants)
        grants = mmap(NULL, N_REFS * FH_PAGE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, 0);
    for (uint32_t i = 0; i < n; i++) {
        struct fh_gntdev_piece *p = &pieces[i];
        uint8_t *at = grants + p->gref * FH_PAGE_BYTES + p->offset;

        p->status = p->gref < N_REFS ? 0 : -3;
        if (p->status)
            continue;
        memcpy(p->to_grant ? at : p->local, p->to_grant ? p->local : at,
               p->bytes);
    }
    return 0;
}

/* ---- the pair ---- */

struct pair {
    struct fh_plat_ops base;
    struct fh_plat plat;
    struct fh_broker b;
    uint8_t *grants; /* the guest's view of its pages */
};

static uint64_t
now_ns(struct fh_plat *p)
{
    static uint64_t now;

    return now += 1000000000; /* whether CPUs are idle is asked each time */
}

static void
pair_start(struct pair *t)
{
    /* The stand-in maps its file when it copies first: no sandbox. */
    const struct fh_broker_params p = { .fence_fd = -1, .spin_ns = 20000 };
    int token = fh_token_make(GUEST);

    *asked = (struct asked){ 0 };
    memset(t, 0, sizeof(*t));
    t->base.now_ns = now_ns;
    t->plat.ops = &t->base;
    EXPECT_EQ(fh_broker_start(&t->b, &p), 0, "start");
    EXPECT_EQ(fh_broker_admit(&t->b, token), 0, "the guest is vouched for");
    close(token);
    fh_broker_attach(&t->b, &t->plat);
    t->grants = mmap(NULL, N_REFS * FH_PAGE_BYTES, PROT_READ | PROT_WRITE,
                     MAP_SHARED, t->b.fd, 0);
    EXPECT(t->grants != MAP_FAILED, "the guest's pages");
}

static void
pair_stop(struct pair *t)
{
    fh_broker_stop(&t->b);
    munmap(t->grants, N_REFS * FH_PAGE_BYTES);
}

static int
map(struct pair *t, uint16_t domid, uint32_t ref, uint32_t n, void **at)
{
    uint32_t refs[FH_GNTDEV_MAX + 1];

    for (uint32_t i = 0; i < FH_ARRAY_SIZE(refs); i++)
        refs[i] = ref + i;
    return t->plat.ops->gnt_map(&t->plat, domid, refs, n, FH_PLAT_PROT_RW, at);
}

/* ---- what it does ---- */

static void
map__shows_the_guests_pages_until_unmap(void **state)
{
    struct pair t;
    void *at[2] = { NULL, NULL };

    pair_start(&t);
    EXPECT_EQ(map(&t, GUEST, 5, 3, &at[0]), 0, "map");
    EXPECT_EQ(map(&t, GUEST, 9, 1, &at[1]), 0, "another");
    strcpy((char *)t.grants + 6 * FH_PAGE_BYTES, "six");
    EXPECT_EQ(strcmp((char *)at[0] + FH_PAGE_BYTES, "six"), 0, "read");
    strcpy(at[1], "nine");
    EXPECT_EQ(strcmp((char *)t.grants + 9 * FH_PAGE_BYTES, "nine"), 0, "write");
    EXPECT_EQ(t.plat.ops->gnt_unmap(&t.plat, at[0], 3), 0, "unmap");
    EXPECT_EQ(asked->unmaps, 1, "told the device");
    EXPECT(msync(at[0], FH_PAGE_BYTES, MS_ASYNC) == 0, "address kept");
    EXPECT_EQ(map(&t, GUEST, 5, 3, &at[0]), 0, "mapped again");
    EXPECT_EQ(strcmp((char *)at[0] + FH_PAGE_BYTES, "six"), 0, "same page");
    pair_stop(&t);
}

static void
copy__moves_data_in_the_arena_and_elsewhere(void **state)
{
    struct pair t;
    char *part, own[2 * FH_PAGE_BYTES] = "own";
    struct fh_plat_copy c[4];

    pair_start(&t);
    part = fh_broker_part(&t.b);
    strcpy(part, "part");
    strcpy((char *)t.grants + 3 * FH_PAGE_BYTES + 100, "grant");
    c[0] = (struct fh_plat_copy){ 1, GUEST, 10, 5, true, 1, part };
    c[1] = (struct fh_plat_copy){ 2, GUEST, 0, 4, true, 1, own };
    c[2] = (struct fh_plat_copy){ 3, GUEST, 100, 6, false, 1, part + 4093 };
    c[3] = (struct fh_plat_copy){ 3, GUEST, 100, 6, false, 1, own + 4093 };
    EXPECT_EQ(t.plat.ops->gnt_copy(&t.plat, c, 4), 0, "copy");
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(c[i].status, 0, "piece %d", i);
    EXPECT_EQ(asked->copies, 1, "one call");
    EXPECT_EQ(strcmp((char *)t.grants + FH_PAGE_BYTES + 10, "part"), 0, "out");
    EXPECT_EQ(strcmp((char *)t.grants + 2 * FH_PAGE_BYTES, "own"), 0, "out");
    EXPECT_EQ(strcmp(part + 4093, "grant"), 0, "in");
    EXPECT_EQ(strcmp(own + 4093, "grant"), 0, "in");
    c[0] = (struct fh_plat_copy){ N_REFS, GUEST, 0, 5, false, 1, part };
    EXPECT_EQ(t.plat.ops->gnt_copy(&t.plat, c, 2), 0, "with a bad one");
    EXPECT_EQ(c[0].status, -3, "it fails alone");
    EXPECT_EQ(c[1].status, 0, "the other does not");
    fh_broker_part_free(&t.b, part);
    pair_stop(&t);
}

static void
copy__splits_what_is_too_much_for_one_call(void **state)
{
    enum { N = FH_GNTDEV_MAX + 100 };
    static struct fh_plat_copy c[N];
    struct pair t;
    uint8_t *part;

    pair_start(&t);
    part = fh_broker_part(&t.b);
    for (uint32_t i = 0; i < N; i++)
        c[i] = (struct fh_plat_copy){ i % N_REFS, GUEST, 0, 1, true, 1,
                                      part + i };
    EXPECT_EQ(t.plat.ops->gnt_copy(&t.plat, c, N), 0, "copy");
    EXPECT_EQ(asked->copies, 2, "calls");
    pair_stop(&t);
}

static void
part__is_zeroed_for_whoever_gets_it_next(void **state)
{
    struct pair t;
    uint8_t *part[64];

    pair_start(&t);
    for (int i = 0; i < 64; i++) {
        part[i] = fh_broker_part(&t.b);
        EXPECT(part[i], "part %d", i);
        part[i][FH_BROKER_PART_BYTES - 1] = 1;
    }
    EXPECT(!fh_broker_part(&t.b), "no more");
    fh_broker_part_free(&t.b, part[3]);
    EXPECT(fh_broker_part(&t.b) == part[3], "given again");
    EXPECT_EQ(part[3][FH_BROKER_PART_BYTES - 1], 0, "zeroed");
    pair_stop(&t);
}

/* ---- what it refuses ---- */

static void
other_domain__is_refused_before_the_device_hears_of_it(void **state)
{
    struct fh_plat_copy c = { 1, OTHER, 0, 8, false, 1, NULL };
    struct pair t;
    void *at = NULL;
    char buf[8];

    pair_start(&t);
    c.local = buf;
    EXPECT_EQ(map(&t, OTHER, 1, 1, &at), FH_EPERM, "map");
    EXPECT_EQ(t.plat.ops->gnt_copy(&t.plat, &c, 1), FH_EPERM, "copy");
    EXPECT_EQ(asked->maps + asked->copies, 0, "nothing was asked");
    EXPECT_EQ(map(&t, GUEST, 1, 1, &at), 0, "its own guest still works");
    pair_stop(&t);
}

/* What a worker that was taken over may write on the page. */
static const struct {
    const char *name;
    struct fh_broker_call call;
    struct fh_broker_piece piece;
    int want;
} hostile[] = {
    { "no operation", { 0, GUEST, 1, 0, 0 }, { 0 }, FH_EINVAL },
    { "operation 99", { 99, GUEST, 1, 0, 0 }, { 0 }, FH_EINVAL },
    { "no reference", { FH_BROKER_MAP, GUEST, 0, 0, 0 }, { 0 }, FH_EINVAL },
    { "too many", { FH_BROKER_MAP, GUEST, FH_GNTDEV_MAX + 1, 0, 0 }, { 0 },
      FH_EINVAL },
    { "2^32-1 pieces", { FH_BROKER_COPY, GUEST, ~0u, 0, 0 }, { 0 },
      FH_EINVAL },
    { "domain 2^16+7", { FH_BROKER_MAP, 65536 + GUEST, 1, 0, 0 }, { 0 },
      FH_EPERM },
    { "domain 2^32-1", { FH_BROKER_MAP, ~0u, 1, 0, 0 }, { 0 }, FH_EPERM },
    { "no token", { FH_BROKER_ADMIT, OTHER, 1, 0, 0 }, { 0 }, FH_EPERM },
    { "beyond the arena", { FH_BROKER_COPY, GUEST, 1, 0, 0 },
      { 1, FH_BROKER_PARTS * (uint32_t)FH_BROKER_PART_BYTES, 0, 1, 1, 0 },
      FH_EFAULT },
    { "across its end", { FH_BROKER_COPY, GUEST, 1, 0, 0 },
      { 1, FH_BROKER_PARTS * (uint32_t)FH_BROKER_PART_BYTES - 1, 0, 2, 1, 0 },
      FH_EFAULT },
    { "local wraps", { FH_BROKER_COPY, GUEST, 1, 0, 0 },
      { 1, ~0u, 0, 2, 1, 0 }, FH_EFAULT },
    { "across the page", { FH_BROKER_COPY, GUEST, 1, 0, 0 },
      { 1, 0, 4095, 2, 1, 0 }, FH_EFAULT },
    { "offset wraps", { FH_BROKER_COPY, GUEST, 1, 0, 0 },
      { 1, 0, 65535, 65535, 1, 0 }, FH_EFAULT },
};

static int
call_raw(struct pair *t, const struct fh_broker_call *c)
{
    struct fh_broker_page *page = t->b.page;
    uint32_t done;

    page->call = *c;
    fh_store_release32(&page->turn, ++t->b.seq);
    fh_broker_wake(&page->turn);
    while ((done = fh_load_acquire32(&page->done)) != t->b.seq)
        fh_broker_wait(&page->done, done, 0);
    return page->result;
}

static void
page__is_judged_before_anything_is_done(void **state)
{
    struct pair t;

    pair_start(&t);
    for (size_t i = 0; i < FH_ARRAY_SIZE(hostile); i++) {
        t.b.page->u.pieces[0] = hostile[i].piece;
        EXPECT_EQ(call_raw(&t, &hostile[i].call), hostile[i].want, "%s",
                  hostile[i].name);
        EXPECT_EQ(asked->maps + asked->copies + asked->unmaps, 0, "%s: asked",
                  hostile[i].name);
    }
    pair_stop(&t);
}

static void
map__outside_the_window_is_undone(void **state)
{
    struct pair t;
    void *at = NULL;

    pair_start(&t);
    EXPECT_EQ(map(&t, GUEST, FAR, 1, &at), FH_ENOSPC, "map");
    EXPECT_EQ(asked->unmaps, 1, "undone");
    EXPECT(!at, "untouched");
    pair_stop(&t);
}

static void
mmap__that_fails_leaves_the_window_whole(void **state)
{
    struct pair t;
    void *at = NULL, *again = NULL;
    unsigned char resident;

    pair_start(&t);
    close(t.b.fd); /* mmap says EBADF now */
    EXPECT_EQ(map(&t, GUEST, 4, 1, &at), FH_EBADF, "map");
    EXPECT_EQ(asked->unmaps, 1, "undone");
    again = t.b.window + 4 * FH_PAGE_BYTES;
    EXPECT_EQ(mincore(again, FH_PAGE_BYTES, &resident), 0, "still reserved");
    t.b.fd = -1;
    pair_stop(&t);
}

/* A memfd of @bytes bytes of @data, sealed as @seals say. */
static int
forge(const void *data, size_t bytes, int seals)
{
    int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (write(fd, data, bytes) != (ssize_t)bytes ||
        fcntl(fd, F_ADD_SEALS, seals))
        abort();
    return fd;
}

static void
token__is_what_the_supervisor_sealed_and_nothing_else(void **state)
{
    const int all = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    const struct {
        char name[8];
        uint32_t domid[2];
    } data = { "freehol", { OTHER } };
    char right[16] = "freehold";
    struct pair t;
    int fd[6];
    void *at;

    right[8] = OTHER;
    fd[0] = forge(right, 12, all & ~F_SEAL_WRITE); /* as a disk's memory is */
    fd[1] = forge(right, 12, all & ~F_SEAL_SEAL);
    fd[2] = forge(right, 13, all);
    fd[3] = forge(right, 11, all);
    fd[4] = forge(&data, 12, all);
    fd[5] = open("/dev/null", O_RDONLY);
    pair_start(&t);
    for (int i = 0; i < 6; i++) {
        EXPECT_EQ(fh_broker_admit(&t.b, fd[i]), FH_EPERM, "forgery %d", i);
        EXPECT_EQ(map(&t, OTHER, 1, 1, &at), FH_EPERM, "map after %d", i);
        close(fd[i]);
    }
    fd[0] = fh_token_make(OTHER);
    EXPECT_EQ(fh_broker_admit(&t.b, fd[0]), 0, "the real one");
    close(fd[0]);
    pair_stop(&t);
}

/* ---- their ends ---- */

static void
broker_death__ends_the_worker(void **state)
{
    pid_t pid = fork();
    int status;

    if (!pid) {
        struct pair t;
        void *at;

        pair_start(&t);
        kill(t.b.pid, SIGKILL);
        (void)map(&t, GUEST, 1, 1, &at);
        _exit(0);
    }
    EXPECT_EQ(waitpid(pid, &status, 0), pid, "wait");
    EXPECT(WIFEXITED(status), "exited");
    EXPECT_EQ(WEXITSTATUS(status), FH_BROKER_DIED, "status");
}

/* The fence's write end is the broker's too: it falls last. */
static void
worker_death__ends_the_broker_before_the_fence_falls(void **state)
{
    int fence[2], go[2], status;
    pid_t pid, broker = 0;
    char c;

    EXPECT_EQ(pipe2(fence, O_CLOEXEC), 0, "pipe");
    EXPECT_EQ(pipe2(go, O_CLOEXEC), 0, "pipe");
    pid = fork();
    if (!pid) {
        const struct fh_broker_params p = {
            .fence_fd = fence[1],
            .sandbox = fh_sandbox_is_built(),
        };
        struct fh_broker b;

        if (fh_broker_start(&b, &p) ||
            write(go[1], &b.pid, sizeof(b.pid)) != sizeof(b.pid))
            _exit(1);
        close(fence[1]);
        for (;;)
            pause();
    }
    close(fence[1]);
    EXPECT_EQ(read(go[0], &broker, sizeof(broker)), (ssize_t)sizeof(broker),
              "the broker's pid");
    EXPECT_EQ(kill(broker, 0), 0, "it lives");
    kill(pid, SIGKILL);
    EXPECT_EQ(waitpid(pid, &status, 0), pid, "wait");
    EXPECT_EQ(read(fence[0], &c, 1), 0, "the fence falls");
    close(fence[0]);
    close(go[0]);
    close(go[1]);
}

/* ---- their sandbox ---- */

static void
broker__is_confined_and_has_few_descriptors(void **state)
{
    struct fh_broker_params p = { .fence_fd = -1 };
    char path[64], line[128];
    struct fh_broker b;
    bool filtered = false;
    int n_fds = 0, token;
    FILE *f;

    if (!fh_sandbox_is_built())
        skip();
    p.sandbox = true;
    EXPECT_EQ(fh_broker_start(&b, &p), 0, "start");
    snprintf(path, sizeof(path), "/proc/%d/status", (int)b.pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        filtered |= !strncmp(line, "Seccomp:\t2", 10);
    EXPECT(filtered, "a filter is on");
    fclose(f);
    for (int fd = 0; fd < 64; fd++) {
        snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)b.pid, fd);
        n_fds += readlink(path, line, sizeof(line)) >= 0;
    }
    EXPECT_EQ(n_fds, 3, "stderr, the device and the socket");
    token = fh_token_make(GUEST);
    EXPECT_EQ(fh_broker_admit(&b, token), 0, "it can still take a token");
    close(token);
    fh_broker_stop(&b);
}

static uint64_t
real_now_ns(struct fh_plat *p)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int
bench(uint32_t n, uint32_t spin_us)
{
    enum { CALLS = 20000 };
    struct fh_plat_copy c[N_REFS];
    struct pair t;
    uint64_t since;
    char *part;

    pair_start(&t);
    t.b.ops.now_ns = real_now_ns;
    t.b.look_ns = 0;
    t.b.page->spin_ns = t.b.spin_ns = spin_us * 1000;
    part = fh_broker_part(&t.b);
    n = n < N_REFS ? n : N_REFS;
    for (uint32_t i = 0; i < n; i++)
        c[i] = (struct fh_plat_copy){ i, GUEST, 0, FH_PAGE_BYTES, true, 1,
                                      part + i * FH_PAGE_BYTES };
    since = real_now_ns(NULL);
    for (int i = 0; i < CALLS; i++)
        if (t.plat.ops->gnt_copy(&t.plat, c, n))
            abort();
    printf("%u pieces, looking for %u us: %.2f us a call\n", n, spin_us,
           (double)(real_now_ns(NULL) - since) / 1e3 / CALLS);
    pair_stop(&t);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__shows_the_guests_pages_until_unmap),
        cmocka_unit_test(copy__moves_data_in_the_arena_and_elsewhere),
        cmocka_unit_test(copy__splits_what_is_too_much_for_one_call),
        cmocka_unit_test(part__is_zeroed_for_whoever_gets_it_next),
        cmocka_unit_test(other_domain__is_refused_before_the_device_hears_of_it),
        cmocka_unit_test(page__is_judged_before_anything_is_done),
        cmocka_unit_test(map__outside_the_window_is_undone),
        cmocka_unit_test(mmap__that_fails_leaves_the_window_whole),
        cmocka_unit_test(token__is_what_the_supervisor_sealed_and_nothing_else),
        cmocka_unit_test(broker_death__ends_the_worker),
        cmocka_unit_test(worker_death__ends_the_broker_before_the_fence_falls),
        cmocka_unit_test(broker__is_confined_and_has_few_descriptors),
    };

    asked = mmap(NULL, FH_PAGE_BYTES, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (argc == 4 && !strcmp(argv[1], "bench"))
        return bench((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
