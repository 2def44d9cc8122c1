/* SPDX-License-Identifier: MIT */
/*
 * The hypercall protocol itself, spoken by clients that are greedy, broken or
 * hostile: other domains are served meanwhile, nothing is left afterwards.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include <xengnttab.h>

#include "world.h"
#include "xenlibs/hvconn.h"

static struct world world;
static struct fh_hvctl_domain zero, front, other;

static double
now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

static int
order(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

enum { MILLION = 1000000, PROBES = 200, CROWD = 100 };

/* Hypercalls of a million elements each, back to back, until killed. */
static void
greedy(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const bool copies = arg != NULL;
    struct fh_hvc c;
    struct fh_hv_req req = { .count = MILLION };

    CHECK(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 64 << 20, false) == 0);
    if (copies) { /* a page of its own area onto another, at the end */
        struct gnttab_copy *op = (struct gnttab_copy *)c.area;

        for (uint32_t i = 0; i < MILLION; i++) {
            op[i].source.domid = op[i].dest.domid = DOMID_SELF;
            op[i].source.u.gmfn = 12000;
            op[i].dest.u.gmfn = 12001;
            op[i].len = 4096;
        }
        req.op = FH_HV_GNT_COPY;
    } else {
        req.op = FH_HV_GNT_MAP;
        req.out = (uint64_t)MILLION * sizeof(struct gnttab_map_grant_ref);
    }
    tell(out, "g", 1);
    for (;;)
        CHECK(fh_hvc_call(&c, &req, -1, NULL) == 0);
}

/* The same work over many connections, all busy at once. */
static void
greedy_crowd(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    struct fh_hv_req req = { .op = FH_HV_GNT_COPY, .count = 10000 };
    struct fh_hvc c[CROWD];
    char answer[256];

    for (int i = 0; i < CROWD; i++) {
        CHECK(fh_hvc_open(&c[i], FH_HV_KIND_GNTTAB, 1 << 20, false) == 0);
        struct gnttab_copy *op = (struct gnttab_copy *)c[i].area;

        for (uint32_t k = 0; k < req.count; k++) {
            op[k].source.domid = op[k].dest.domid = DOMID_SELF;
            op[k].source.u.gmfn = 200;
            op[k].dest.u.gmfn = 201;
            op[k].len = 4096;
        }
    }
    tell(out, "g", 1);
    for (;;) {
        for (int i = 0; i < CROWD; i++)
            CHECK(send(c[i].sock, &req, sizeof(req), 0) > 0);
        for (int i = 0; i < CROWD; i++)
            CHECK(recv(c[i].sock, answer, sizeof(answer), 0) > 0);
    }
}

static void
others_are_served(struct fh_hvc *c, const char *name, process_body *body,
                  void *arg)
{
    const struct fh_hv_req req = { .op = FH_HV_GNT_FILE };
    double ms[PROBES];
    struct process p;
    char byte;

    process_start(&p, &front, body, arg);
    hear(p.from, &byte, 1);
    usleep(20000);
    for (int i = 0; i < PROBES; i++) {
        const double t = now_ms();

        EXPECT_EQ(fh_hvc_call(c, &req, -1, NULL), -ENOENT);
        ms[i] = now_ms() - t;
    }
    process_kill(&p);
    EXPECT(world_settles(&world, front.domid, "connections", 0));
    qsort(ms, PROBES, sizeof(ms[0]), order);
    printf("%s: median %.3f ms, 95 %% %.3f ms, longest %.3f ms\n", name,
           ms[PROBES / 2], ms[PROBES * 95 / 100], ms[PROBES - 1]);
    /* The longest may be the scheduler's doing on a busy machine. */
    EXPECT(ms[PROBES * 95 / 100] < 10, "%s", name);
}

static void
batch_of_a_million__delays_nobody(void **state)
{
    static int yes = 1;
    struct fh_hvc c;

    world_enter(&other);
    EXPECT_EQ(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 0, false), 0);
    others_are_served(&c, "a million maps", greedy, NULL);
    others_are_served(&c, "a million copies", greedy, &yes);
    others_are_served(&c, "a hundred connections", greedy_crowd, NULL);
    fh_hvc_close(&c);
}

static uint64_t
rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Mostly small numbers, some huge ones. */
static uint64_t
rnd_field(uint64_t *s)
{
    const uint64_t v = rnd(s);

    switch (v % 8) {
    case 0:
        return v;
    case 1:
        return v >> 32;
    case 2:
        return (uint64_t)-(int64_t)(v >> 60);
    }
    return (v >> 8) % 64;
}

/* Random requests with random bytes in the area. */
static void
scribbler(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    uint64_t seed = *(uint64_t *)arg;

    for (int conn = 0; conn < 20; conn++) {
        const enum fh_hv_kind kind = 1 + conn % 3;
        struct fh_hvc c;
        struct fh_hvc_answer a;

        CHECK(fh_hvc_open(&c, kind, 1 << 16, false) == 0);
        for (int i = 0; i < 400; i++) {
            struct fh_hv_req req = { .op = (uint32_t)(rnd(&seed) % 40) };

            for (int k = 0; k < 200; k++)
                c.area[rnd(&seed) % 8192] = (uint8_t)rnd_field(&seed);
            req.count = (uint32_t)rnd_field(&seed);
            req.offset = rnd_field(&seed) * 8;
            req.out = rnd_field(&seed) * 8;
            for (int k = 0; k < 4; k++)
                req.arg[k] = rnd_field(&seed);
            int fd = i % 16 == 0 ? dup(c.sock) : -1;
            int r = fh_hvc_call(&c, &req, fd, &a);

            if (fd >= 0)
                close(fd);
            CHECK(r != -EPIPE);
            for (unsigned k = 0; !r && k < a.n_fds; k++)
                close(a.fds[k]);
        }
        close(c.sock);
        munmap(c.area, c.area_bytes);
    }
}

static void
random_requests__leave_nothing(void **state)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        uint64_t s = seed * 0x9e3779b97f4a7c15ull;
        struct process p;

        process_start(&p, &front, scribbler, &s);
        process_end(&p);
        EXPECT(world_settles(&world, -1, "connections", 0), "seed %u",
               (unsigned)seed);
        EXPECT_EQ(world_count(&world, -1, "maps"), 0);
        EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
        EXPECT_EQ(world_count(&world, -1, "channels"), 0);
        EXPECT_EQ(world_count(&world, -1, "descriptors"),
                  world_count(&world, -1, "shared_files"));
    }
}

static int
raw_connect(const char *path)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

static void
wrong_message__ends_the_connection(void **state)
{
    static const size_t sizes[] = { 1, 8, sizeof(struct fh_hv_req) - 1,
                                    sizeof(struct fh_hv_req) + 1, 4096 };
    char bytes[4096] = { 0 };

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int fd = raw_connect(front.hypercall);

        EXPECT(fd >= 0);
        EXPECT_EQ(send(fd, bytes, sizes[i], 0), sizes[i]);
        EXPECT_EQ(recv(fd, bytes, sizeof(bytes), 0), 0, "%zu bytes", sizes[i]);
        close(fd);
    }
    EXPECT(world_settles(&world, -1, "connections", 0));
}

/* Sends and sends, and never reads an answer. */
static void
deaf_client__is_cut_off(void **state)
{
    const struct fh_hv_req req = { .op = FH_HV_HELLO };
    int fd = raw_connect(front.hypercall), n = 0;

    EXPECT(fd >= 0);
    while (n < 100000 && send(fd, &req, sizeof(req), MSG_NOSIGNAL) > 0)
        n++;
    EXPECT(n < 100000, "fhv waits for nobody");
    close(fd);
    EXPECT(world_settles(&world, -1, "connections", 0));
}

static int
hypervisor_cpu_ms(void)
{
    char path[64], line[1024];
    unsigned long user = 0, sys = 0;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)world.hv);
    FILE *f = fopen(path, "r");

    EXPECT(f && fgets(line, sizeof(line), f));
    fclose(f);
    EXPECT_EQ(sscanf(strrchr(line, ')') + 2,
                     "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu",
                     &user, &sys),
              2);
    return (int)((user + sys) * 1000 / (unsigned long)sysconf(_SC_CLK_TCK));
}

/* With no descriptor left, fhv neither spins nor forgets who waits. */
static void
descriptors__run_out_without_spinning(void **state)
{
    struct rlimit rl, low;
    int fds[400], n = 0;

    EXPECT_EQ(prlimit(world.hv, RLIMIT_NOFILE, NULL, &rl), 0);
    low = rl;
    low.rlim_cur = 64; /* below what it counts with */
    EXPECT_EQ(prlimit(world.hv, RLIMIT_NOFILE, &low, NULL), 0);
    for (; n < 120; n++) {
        fds[n] = raw_connect(n % 2 ? front.hypercall : other.hypercall);
        EXPECT(fds[n] >= 0, "%d", n);
    }
    const int before = hypervisor_cpu_ms();

    usleep(500000);
    EXPECT(hypervisor_cpu_ms() - before < 100, "spins");
    EXPECT_EQ(prlimit(world.hv, RLIMIT_NOFILE, &rl, NULL), 0);
    while (n--)
        close(fds[n]);
    EXPECT(world_settles(&world, -1, "connections", 0));
    struct fh_hvc c;

    EXPECT_EQ(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 4096, false), 0);
    fh_hvc_close(&c);
}

/* A domain's share of connections is spent: it is refused, others are not. */
static void
connections__are_bounded_per_domain(void **state)
{
    enum { N = 300 };
    static int fds[N];
    struct fh_hvc c;
    int n = 0, r = 0;

    world_enter(&front);
    for (; n < N && !r; n++) {
        r = fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 0, false);
        fds[n] = c.sock;
    }
    EXPECT_EQ(n, 257, "256 of them");
    EXPECT_EQ(r, -EMFILE);
    world_enter(&other);
    EXPECT_EQ(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 4096, false), 0);
    fh_hvc_close(&c);
    for (int i = 0; i < 256; i++)
        close(fds[i]);
    EXPECT(world_settles(&world, -1, "connections", 0));
}

static void
second_hypervisor__is_refused(void **state)
{
    char line[256] = "";
    int fds[2], status;

    EXPECT_EQ(pipe(fds), 0);
    pid_t pid = fork();

    if (pid == 0) {
        dup2(fds[1], 2);
        execl(getenv("FREEHOLD_FHV"), "fhv", "--foreground", "--run-dir",
              world.dir, NULL);
        _exit(127);
    }
    close(fds[1]);
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT(read(fds[0], line, sizeof(line) - 1) > 0);
    close(fds[0]);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    EXPECT(strstr(line, "another hypervisor runs in"), "%s", line);
    EXPECT_EQ(world_count(&world, 0, "domid"), 0, "the first one runs on");
}

static void
argument_area__is_bounded_and_sealed(void **state)
{
    struct fh_hvc c;
    const struct fh_hv_req req = {
        .op = FH_HV_HELLO,
        .count = FH_HV_ABI_VERSION,
        .arg = { 4096, FH_HV_KIND_GNTTAB },
    };
    struct fh_hvc_answer a;

    world_enter(&front);
    EXPECT_EQ(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, (64 << 20) + 4096, false),
              -EINVAL);
    EXPECT_EQ(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 100, false), -EINVAL);
    c = (struct fh_hvc){ .sock = raw_connect(front.hypercall),
                         .pid = getpid() };
    EXPECT_EQ(fh_hvc_call(&c, &req, -1, &a), 0);
    EXPECT_EQ(a.n_fds, 1);
    EXPECT_EQ(ftruncate(a.fds[0], 0), -1);
    EXPECT_EQ(ftruncate(a.fds[0], 1 << 20), -1);
    EXPECT_EQ(fcntl(a.fds[0], F_ADD_SEALS, F_SEAL_WRITE), -1);
    close(a.fds[0]);
    EXPECT_EQ(fh_hvc_call(&c, &req, -1, &a), -EINVAL, "twice");
    close(c.sock);
}

static int
setup(void **state)
{
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "front", &front);
    world_domain(&world, "other", &other);
    return 0;
}

static int
teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_of_a_million__delays_nobody),
        cmocka_unit_test(random_requests__leave_nothing),
        cmocka_unit_test(wrong_message__ends_the_connection),
        cmocka_unit_test(deaf_client__is_cut_off),
        cmocka_unit_test(descriptors__run_out_without_spinning),
        cmocka_unit_test(connections__are_bounded_per_domain),
        cmocka_unit_test(second_hypervisor__is_refused),
        cmocka_unit_test(argument_area__is_bounded_and_sealed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
