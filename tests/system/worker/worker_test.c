/* SPDX-License-Identifier: MIT */
/*
 * A real worker process against a real frontend process on the local
 * hypervisor.  Without arguments: the tests.  "bench": figures.  "worker" and
 * "front" are the roles that the rig starts.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/worker_main.h"
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
    m.u.hello.memlock_pages = 2048;
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

/* Kills the worker at the k-th store of a fixed load and lets a successor go
 * on.  Returns false when the load needs fewer stores. */
static bool
killed_at(struct scene *s, uint32_t k)
{
    const struct fh_wk_msg h = hello(0, k);
    const struct fh_wk_msg next = hello(0, 0);
    const struct rig_load load = { .depth = 8, .pages_each = 2,
                                   .write_percent = 60, .flush_every = 7,
                                   .verify = true, .n_requests = 30,
                                   .n_blocks = 12 };
    struct rig_result res;
    bool died;
    int r;

    rig_front_setup(&s->f, &s->ring);
    r = bring_up(s, &h, false);
    rig_front_load(&s->f, &load);
    if (!r) { /* the frontend ends, or waits for the dead */
        struct fh_wk_msg m = { .type = FH_WK_QUEUE_DISCONNECT };

        rig_front_result(&s->f, &res);
        m.disk = RIG_DISK;
        r = rig_ask(&s->w, &m, NULL, 0);
    }
    died = r != 0;
    (void)next;
    return died;
}

int
main(int argc, char **argv)
{
    (void)killed_at;
    (void)grants_names;
    if (argc == 3 && !strcmp(argv[1], "worker"))
        return fh_worker_main(atoi(argv[2]));
    if (argc == 3 && !strcmp(argv[1], "front"))
        rig_front_main(atoi(argv[2]));
    rig_start("/proc/self/exe");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data__is_right_in_every_mode),
    };
    int r = cmocka_run_group_tests(tests, NULL, NULL);
    rig_stop();
    return r;
}
