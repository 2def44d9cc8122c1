/* SPDX-License-Identifier: MIT */
/*
 * A real worker process against a real frontend process on the local
 * hypervisor.  Without arguments: the tests.  "bench": figures.  "worker" and
 * "front" are the roles that the rig starts.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arith.h"
#include "rig.h"
#include "../../unit/expect.h"

static const char *const grants_names[] = {
    [FH_WK_GRANTS_PERSISTENT] = "persistent",
    [FH_WK_GRANTS_COPY] = "copy",
    [FH_WK_GRANTS_MAP] = "map",
};

/* One worker, one disk, one frontend, connected. */
struct scene {
    struct rig_worker w;
    struct rig_front f;
    struct rig_ring ring;
    enum fh_wk_grants grants;
    enum fh_wk_store store;
    int store_fd;
    int rec_fd;
    char path[64]; /* of a file store */
};

static struct fh_wk_msg
hello(uint32_t spin_ns, uint32_t kill_after)
{
    struct fh_wk_msg m = { 0 };

    m.u.hello.worker = 1;
    m.u.hello.polling = spin_ns != 0;
    m.u.hello.poll_max_ns = spin_ns;
    m.u.hello.kill_after = kill_after;
    m.u.hello.uid = geteuid() == 0 ? 70001 : 0;
    /* Some workers may register their buffers, some may not. */
    m.u.hello.memlock_pages = spin_ns ? 2048 : 0;
    return m;
}

static void
open_store(struct scene *s)
{
    s->store_fd = -1;
    if (s->store == FH_WK_STORE_MEM)
        s->store_fd = rig_memory(RIG_SECTORS);
    if (s->store != FH_WK_STORE_FILE)
        return;
    strcpy(s->path, "/tmp/fh-rig-disk-XXXXXX");
    s->store_fd = mkostemp(s->path, O_CLOEXEC);
    if (s->store_fd < 0 || ftruncate(s->store_fd, RIG_SECTORS * 512))
        rig_die("no disk");
    unlink(s->path);
}

static int
bring_up(struct scene *s, const struct fh_wk_msg *h, bool resume)
{
    int r;

    rig_worker_start(&s->w, h);
    r = rig_disk_open(&s->w, s->store, s->store_fd, s->rec_fd, resume);
    if (!r)
        r = rig_queue_connect(&s->w, &s->f, &s->ring, s->grants, resume);
    return r;
}

static void
set_up(struct scene *s, enum fh_wk_store store, enum fh_wk_grants grants,
       uint32_t order, uint32_t n_pages, uint32_t spin_ns)
{
    const struct fh_wk_msg h = hello(spin_ns, 0);

    memset(s, 0, sizeof(*s));
    s->store = store;
    s->grants = grants;
    open_store(s);
    s->rec_fd = rig_recovery_file(RIG_SECTORS);
    rig_front_start(&s->f);
    s->ring = (struct rig_ring){ .order = order, .n_pages = n_pages };
    rig_front_setup(&s->f, &s->ring);
    EXPECT_EQ(bring_up(s, &h, false), 0);
}

static void
tear_down(struct scene *s)
{
    EXPECT_EQ(rig_queue_disconnect(&s->w), 0);
    EXPECT_EQ(rig_disk_close(&s->w), 0);
    EXPECT_EQ(rig_worker_end(&s->w), 0);
    rig_front_teardown(&s->f);
    rig_front_end(&s->f);
    if (s->store_fd >= 0)
        close(s->store_fd);
    close(s->rec_fd);
}

static struct rig_result
run(struct scene *s, struct rig_load load)
{
    struct rig_result res;

    rig_front_load(&s->f, &load);
    rig_front_result(&s->f, &res);
    return res;
}

static void
expect_good(const struct rig_result *r, const char *name)
{
    EXPECT_EQ(r->errors, 0, "%s", name);
    EXPECT_EQ(r->mismatches, 0, "%s", name);
}

static const struct {
    const char *name;
    enum fh_wk_store store;
    enum fh_wk_grants grants;
    uint32_t order;
    uint32_t pages_each;
    uint32_t depth;
} ways[] = {
    { "memory, persistent", FH_WK_STORE_MEM, FH_WK_GRANTS_PERSISTENT, 0, 1,
      32 },
    { "memory, copy", FH_WK_STORE_MEM, FH_WK_GRANTS_COPY, 2, 11, 32 },
    { "memory, map", FH_WK_STORE_MEM, FH_WK_GRANTS_MAP, 0, 2, 16 },
    { "memory, persistent, indirect", FH_WK_STORE_MEM, FH_WK_GRANTS_PERSISTENT,
      4, 32, 64 },
    { "file, persistent", FH_WK_STORE_FILE, FH_WK_GRANTS_PERSISTENT, 0, 1,
      32 },
    { "file, copy, indirect", FH_WK_STORE_FILE, FH_WK_GRANTS_COPY, 4, 64,
      32 },
    { "file, map", FH_WK_STORE_FILE, FH_WK_GRANTS_MAP, 1, 3, 20 },
};

static void
data__is_right_in_every_mode(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        struct scene s;
        struct rig_result res;

        set_up(&s, ways[i].store, ways[i].grants, ways[i].order, 2048, 0);
        res = run(&s, (struct rig_load){
                          .depth = ways[i].depth,
                          .pages_each = ways[i].pages_each,
                          .write_percent = 50,
                          .flush_every = 100,
                          .verify = true,
                          .n_requests = 4000,
                      });
        EXPECT_EQ(res.n, 4000, "%s", ways[i].name);
        expect_good(&res, ways[i].name);
        tear_down(&s);
    }
}

/* True when the worker died before the frontend's load ended. */
static bool
wait_load(struct scene *s)
{
    struct pollfd fds[] = { { .fd = s->w.sock, .events = POLLIN },
                            { .fd = s->f.sock, .events = POLLIN } };

    if (poll(fds, 2, 60000) < 1)
        rig_die("neither a death nor an end");
    return !fds[1].revents;
}

/*
 * A fixed load on a worker that dies at its k-th store to the recovery state;
 * a successor goes on.  Returns false when there were fewer stores.
 */
static bool
survives_death_at(struct scene *s, uint32_t k, uint32_t pages_each)
{
    const struct fh_wk_msg doomed = hello(0, k), next = hello(0, 0);
    const struct rig_load load = { .depth = 8, .pages_each = pages_each,
                                   .write_percent = 60, .flush_every = 7,
                                   .verify = true, .n_requests = 30,
                                   .n_blocks = 12 };
    struct rig_result res;
    bool died;

    rig_front_setup(&s->f, &s->ring);
    died = bring_up(s, &doomed, false) != 0;
    rig_front_load(&s->f, &load);
    if (!died)
        died = wait_load(s);
    if (died) {
        (void)rig_worker_bury(&s->w);
        EXPECT_EQ(bring_up(s, &next, true), 0, "death at store %u", k);
    }
    rig_front_result(&s->f, &res);
    EXPECT_EQ(res.n, 30, "death at store %u", k);
    expect_good(&res, "death at a store");
    if (rig_queue_disconnect(&s->w)) { /* its last store is there */
        EXPECT(!died);
        died = true;
        (void)rig_worker_bury(&s->w);
    } else {
        EXPECT_EQ(rig_worker_end(&s->w), 0);
    }
    rig_front_teardown(&s->f);
    return died;
}

static void
prepare_deaths(struct scene *s, enum fh_wk_store store,
               enum fh_wk_grants grants)
{
    memset(s, 0, sizeof(*s));
    s->store = store;
    s->grants = grants;
    open_store(s);
    s->rec_fd = rig_recovery_file(RIG_SECTORS);
    s->ring.n_pages = 128;
    rig_front_start(&s->f);
}

static void
end_deaths(struct scene *s)
{
    rig_front_end(&s->f);
    close(s->store_fd);
    close(s->rec_fd);
}

static void
killed_after_every_store__no_guest_notices(void **state)
{
    struct scene s;
    uint32_t k;

    (void)state;
    prepare_deaths(&s, FH_WK_STORE_FILE, FH_WK_GRANTS_PERSISTENT);
    for (k = 1; survives_death_at(&s, k, 2); k++)
        ;
    EXPECT(k > 150, "only %u stores", k);
    end_deaths(&s);
    /* Indirect requests; the stores that make the area have been seen. */
    prepare_deaths(&s, FH_WK_STORE_FILE, FH_WK_GRANTS_PERSISTENT);
    for (k = 38; survives_death_at(&s, k, 12); k++)
        ;
    EXPECT(k > 180, "only %u stores", k);
    end_deaths(&s);
}

static void
killed_at_any_time__no_guest_notices(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        const struct fh_wk_msg next = hello(0, 0);
        uint64_t fence_ns = 0;
        struct rig_result res;
        struct scene s;

        set_up(&s, ways[i].store, ways[i].grants, ways[i].order, 2048, 0);
        rig_front_load(&s.f, &(struct rig_load){
                                 .depth = ways[i].depth,
                                 .pages_each = ways[i].pages_each,
                                 .write_percent = 50,
                                 .verify = true,
                                 .run_ns = 1200000000 });
        for (int n = 0; n < 3; n++) {
            usleep(250000);
            kill(s.w.pid, SIGKILL);
            fence_ns += rig_worker_bury(&s.w);
            EXPECT_EQ(bring_up(&s, &next, true), 0, "%s", ways[i].name);
        }
        rig_front_result(&s.f, &res);
        expect_good(&res, ways[i].name);
        /* How fast the kernel ends a ring is not ours to say. */
        EXPECT(res.longest_gap_ns < 1000000000 + fence_ns,
               "%s: a pause of %llu ms, %llu of it the fence", ways[i].name,
               (unsigned long long)res.longest_gap_ns / 1000000,
               (unsigned long long)fence_ns / 1000000);
        tear_down(&s);
    }
}

static void
cycle(struct scene *s, enum fh_wk_grants grants)
{
    const struct rig_load load = { .depth = 4, .pages_each = 1,
                                   .n_requests = 8 };
    struct rig_result res;

    rig_front_setup(&s->f, &s->ring);
    EXPECT_EQ(rig_disk_open(&s->w, s->store, s->store_fd, s->rec_fd, false),
              0);
    EXPECT_EQ(rig_queue_connect(&s->w, &s->f, &s->ring, grants, false), 0);
    res = run(s, load);
    EXPECT_EQ(res.n, 8);
    EXPECT_EQ(rig_queue_disconnect(&s->w), 0);
    EXPECT_EQ(rig_disk_close(&s->w), 0);
    rig_front_teardown(&s->f);
}

static void
thousand_cycles__leave_nothing_behind(void **state)
{
    const struct fh_wk_msg h = hello(0, 0);
    struct rig_usage before, after;
    struct scene s;

    (void)state;
    prepare_deaths(&s, FH_WK_STORE_FILE, FH_WK_GRANTS_PERSISTENT);
    rig_worker_start(&s.w, &h);
    for (uint32_t i = 0; i < 1000; i++) {
        cycle(&s, i % 3);
        if (i == 99)
            rig_usage(s.w.pid, &before);
    }
    rig_usage(s.w.pid, &after);
    EXPECT_EQ(after.n_fds, before.n_fds);
    EXPECT_EQ(after.n_maps, before.n_maps);
    EXPECT(after.resident <= before.resident + 256 * 1024, "%llu to %llu",
           (unsigned long long)before.resident,
           (unsigned long long)after.resident);
    EXPECT_EQ(rig_worker_end(&s.w), 0);
    end_deaths(&s);
}

static void
idle_disk__costs_nothing(void **state)
{
    struct rig_usage before, after;
    struct scene s;
    uint64_t turns;

    (void)state;
    set_up(&s, FH_WK_STORE_MEM, FH_WK_GRANTS_PERSISTENT, 0, 64, 50000);
    (void)run(&s, (struct rig_load){ .depth = 32, .pages_each = 1,
                                     .n_requests = 1000 });
    usleep(100000);
    rig_usage(s.w.pid, &before);
    turns = s.w.stats->turns;
    sleep(3);
    rig_usage(s.w.pid, &after);
    EXPECT(after.cpu_ticks <= before.cpu_ticks + 1);
    EXPECT(s.w.stats->turns <= turns + 2);
    tear_down(&s);
}

static bool
message_waits(struct scene *s, int timeout_ms)
{
    struct pollfd p = { .fd = s->w.sock, .events = POLLIN };

    return poll(&p, 1, timeout_ms) == 1;
}

/* And the other queues of the worker do not notice: here, its messages. */
static void
broken_ring__is_told_once(void **state)
{
    struct fh_wk_msg m;
    struct scene s;

    (void)state;
    set_up(&s, FH_WK_STORE_MEM, FH_WK_GRANTS_PERSISTENT, 0, 64, 0);
    rig_front_break(&s.f);
    EXPECT(message_waits(&s, 5000));
    EXPECT(rig_next(&s.w, &m));
    EXPECT_EQ(m.type, FH_WK_QUEUE_FAULT);
    EXPECT_EQ(m.rc, FH_WK_E_BROKEN);
    EXPECT_EQ(m.disk, RIG_DISK);
    rig_front_break(&s.f);
    EXPECT(!message_waits(&s, 200));
    tear_down(&s);
}

/* The supervisor's end closes under load: what was taken is answered, and the
 * worker ends as it should. */
static void
closed_socket__drains_and_ends(void **state)
{
    static const enum fh_wk_store stores[] = { FH_WK_STORE_MEM,
                                               FH_WK_STORE_FILE };

    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(stores); i++) {
        const struct rig_load load = { .depth = 32, .pages_each = 1,
                                       .write_percent = 50,
                                       .run_ns = 20000000000 };
        struct scene s;

        set_up(&s, stores[i], FH_WK_GRANTS_PERSISTENT, 0, 64, 0);
        rig_front_load(&s.f, &load);
        usleep(100000);
        EXPECT_EQ(rig_worker_end(&s.w), 0);
        kill(s.f.pid, SIGKILL);
        rig_front_end(&s.f);
        close(s.store_fd);
        close(s.rec_fd);
    }
}

static void
refused_requests__leave_the_worker_whole(void **state)
{
    struct fh_wk_msg m = { .type = FH_WK_DISK_OPEN, .disk = 9 };
    const struct rig_ring nothing = { .refs = { 77 }, .port = 55 };
    struct scene s;

    (void)state;
    set_up(&s, FH_WK_STORE_MEM, FH_WK_GRANTS_PERSISTENT, 0, 64, 0);
    EXPECT(rig_ask(&s.w, &m, NULL, 0), "no descriptors");
    m.u.disk.n_sectors = RIG_SECTORS * 2;
    EXPECT(rig_ask(&s.w, &m, (int[]){ s.store_fd, s.rec_fd }, 2),
           "another size than the recovery file's");
    EXPECT_EQ(rig_disk_open(&s.w, s.store, s.store_fd, s.rec_fd, false),
              FH_EEXIST);
    EXPECT_EQ(rig_queue_connect(&s.w, &s.f, &s.ring, s.grants, false),
              FH_EEXIST);
    EXPECT_EQ(rig_disk_close(&s.w), FH_EBUSY);
    EXPECT_EQ(rig_queue_disconnect(&s.w), 0);
    EXPECT_EQ(rig_queue_connect(&s.w, &s.f, &nothing, s.grants, false),
              FH_WK_E_RING);
    EXPECT_EQ(rig_queue_connect(&s.w, &s.f, &s.ring, s.grants, false), 0);
    tear_down(&s);
}

/* ---- figures ---- */

static int
bench(int argc, char **argv)
{
    const char *names[] = { "file", "mem", "null" };
    struct rig_load load = { .depth = 32, .pages_each = 1,
                             .run_ns = 2000000000 };
    uint64_t calls, requests, sleeps, cpu;
    struct rig_usage u0, u1;
    struct rig_result res;
    struct scene s;
    uint32_t store, grants;

    if (argc < 6) {
        fprintf(stderr, "bench STORE GRANTS DEPTH SPIN_US PAGES [WRITE%%]\n");
        return 2;
    }
    for (store = 0; store < 2 && strcmp(names[store], argv[1]); store++)
        ;
    for (grants = 0; grants < 2 && strcmp(grants_names[grants], argv[2]);
         grants++)
        ;
    load.depth = (uint32_t)atoi(argv[3]);
    load.spin_ns = (uint32_t)atoi(argv[4]) * 1000;
    load.pages_each = (uint32_t)atoi(argv[5]);
    load.write_percent = argc > 6 ? (uint32_t)atoi(argv[6]) : 0;
    set_up(&s, store, grants, load.depth > 32 ? 4 : 0,
           load.depth * load.pages_each, load.spin_ns);
    (void)run(&s, (struct rig_load){ .depth = load.depth, .pages_each =
                                     load.pages_each, .n_requests = 2000 });
    calls = s.w.stats->syscalls;
    sleeps = s.w.stats->sleeps;
    requests = s.w.stats->queue[0].requests;
    rig_usage(s.w.pid, &u0);
    res = run(&s, load);
    rig_usage(s.w.pid, &u1);
    usleep(100000);
    requests = s.w.stats->queue[0].requests - requests;
    cpu = (u1.cpu_ticks - u0.cpu_ticks) * 10000000;
    printf("%s %s depth %u spin %u ns pages %u: %.0f/s, %llu errors, "
           "worker: %.3f syscalls, %.4f sleeps, %llu ns CPU each; frontend: "
           "%.4f sleeps\n",
           argv[1], argv[2], load.depth, load.spin_ns, load.pages_each,
           (double)res.n * 1e9 / (double)res.ns,
           (unsigned long long)res.errors,
           (double)(s.w.stats->syscalls - calls) / (double)requests,
           (double)(s.w.stats->sleeps - sleeps) / (double)requests,
           (unsigned long long)(cpu / requests),
           (double)res.sleeps / (double)res.n);
    tear_down(&s);
    return 0;
}

/* All tests, or those whose name fits the argument (with * and ?). */
int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data__is_right_in_every_mode),
        cmocka_unit_test(killed_after_every_store__no_guest_notices),
        cmocka_unit_test(killed_at_any_time__no_guest_notices),
        cmocka_unit_test(thousand_cycles__leave_nothing_behind),
        cmocka_unit_test(idle_disk__costs_nothing),
        cmocka_unit_test(broken_ring__is_told_once),
        cmocka_unit_test(closed_socket__drains_and_ends),
        cmocka_unit_test(refused_requests__leave_the_worker_whole),
    };
    int r;

    r = rig_role(argc, argv);
    if (r >= 0)
        return r;
    if (argc == 2)
        cmocka_set_test_filter(argv[1]);
    rig_start("/proc/self/exe");
    if (argc > 1 && !strcmp(argv[1], "bench"))
        r = bench(argc - 1, argv + 1);
    else
        r = cmocka_run_group_tests(tests, NULL, NULL);
    rig_stop();
    return r;
}
