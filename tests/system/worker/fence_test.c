/* SPDX-License-Identifier: MIT */
/*
 * A write that the kernel still carries out seconds after its worker is dead
 * must not land on a newer one that was acknowledged.  With the fence it
 * cannot; without it, it does: the same story, told both ways.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "rig.h"
#include "slowfs.h"
#include "../../unit/expect.h"

enum {
    DELAY_MS = 4000,
    SKIPPED = 77, /* what meson takes for it */
};

struct scene {
    struct slowfs fs;
    struct rig_worker w;
    struct rig_front f;
    struct rig_ring ring;
    int disk;
    int rec;
    bool fenced;
};

static void
bring_up(struct scene *s, bool resume)
{
    struct fh_wk_msg hello = { 0 };

    hello.u.hello.uid = 70001;
    hello.u.hello.memlock_pages = 2048;
    hello.u.hello.no_fence = !s->fenced;
    rig_worker_start(&s->w, &hello);
    EXPECT_EQ(rig_disk_open(&s->w, FH_WK_STORE_FILE, s->disk, s->rec, resume),
              0);
    EXPECT_EQ(rig_queue_connect(&s->w, &s->f, &s->ring,
                                FH_WK_GRANTS_PERSISTENT, resume),
              0);
}

static struct rig_load
one_request(uint32_t write_percent)
{
    return (struct rig_load){ .depth = 1, .pages_each = 1,
                              .write_percent = write_percent, .verify = true,
                              .n_requests = 1, .n_blocks = 1 };
}

static struct rig_result
run(struct scene *s, uint32_t write_percent)
{
    const struct rig_load load = one_request(write_percent);
    struct rig_result res;

    rig_front_load(&s->f, &load);
    rig_front_result(&s->f, &res);
    EXPECT_EQ(res.errors, 0);
    return res;
}

static void
until_landed(struct scene *s)
{
    for (int i = 0; i < 100; i++) {
        if (fh_load_acquire32(&s->fs.shared->n_landed) ==
            fh_load_acquire32(&s->fs.shared->n_writes))
            return;
        usleep(100000);
    }
    rig_die("a write never landed");
}

/* Writes once, slowly; the worker dies meanwhile. */
static void
die_in_a_slow_write(struct scene *s)
{
    const struct rig_load load = one_request(100);

    fh_store_release32(&s->fs.shared->delay_ms, DELAY_MS);
    rig_front_load(&s->f, &load);
    while (!fh_load_acquire32(&s->fs.shared->n_writes))
        usleep(1000);
    fh_store_release32(&s->fs.shared->delay_ms, 0);
    kill(s->w.pid, SIGKILL);
}

static void
set_up(struct scene *s, bool fenced)
{
    memset(s, 0, sizeof(*s));
    s->fenced = fenced;
    if (!slowfs_start(&s->fs))
        rig_die("no FUSE");
    s->disk = open(s->fs.path, O_RDWR | O_DIRECT | O_CLOEXEC);
    if (s->disk < 0)
        rig_die("cannot open %s", s->fs.path);
    s->rec = rig_recovery_file(RIG_SECTORS);
    rig_front_start(&s->f);
    s->ring.n_pages = 8;
    rig_front_setup(&s->f, &s->ring);
    bring_up(s, false);
}

static void
tear_down(struct scene *s)
{
    EXPECT_EQ(rig_queue_disconnect(&s->w), 0);
    EXPECT_EQ(rig_worker_end(&s->w), 0);
    rig_front_teardown(&s->f);
    rig_front_end(&s->f);
    close(s->disk);
    close(s->rec);
    slowfs_stop(&s->fs);
}

/* Returns how many stale generations the guest read at the end. */
static uint64_t
tell(bool fenced, uint64_t *fence_ns)
{
    struct rig_result res;
    struct scene s;
    uint64_t stale;

    set_up(&s, fenced);
    die_in_a_slow_write(&s);
    *fence_ns = rig_worker_bury(&s.w);
    bring_up(&s, true);
    rig_front_result(&s.f, &res); /* the replayed write is answered */
    EXPECT_EQ(res.errors, 0);
    (void)run(&s, 100); /* a newer one is, too */
    until_landed(&s);
    stale = run(&s, 0).mismatches;
    tear_down(&s);
    return stale;
}

static void
old_write__never_lands_on_a_newer_one(void **state)
{
    uint64_t fence_ns;

    (void)state;
    EXPECT_EQ(tell(true, &fence_ns), 0);
    EXPECT(fence_ns > 2000000000, "the fence fell after %llu ms",
           (unsigned long long)fence_ns / 1000000);
}

static void
without_the_fence__it_does(void **state)
{
    uint64_t fence_ns;

    (void)state;
    EXPECT_EQ(tell(false, &fence_ns), 1);
    EXPECT(fence_ns < 1000000000);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_write__never_lands_on_a_newer_one),
        cmocka_unit_test(without_the_fence__it_does),
    };
    int r = rig_role(argc, argv);

    if (r >= 0)
        return r;
    if (geteuid() || access("/dev/fuse", R_OK | W_OK)) {
        printf("skipped: needs root and /dev/fuse\n");
        return SKIPPED;
    }
    rig_start("/proc/self/exe");
    r = cmocka_run_group_tests(tests, NULL, NULL);
    rig_stop();
    return r;
}
