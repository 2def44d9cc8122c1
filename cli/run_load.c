/* SPDX-License-Identifier: MIT */
/*
 * The middle of `freehold run`: four guests at work, their workers killed one
 * after the other, and what they noticed of it.
 *
 * Guest 1 is nbdkit with our plugin: nbdcopy takes the whole disk out through
 * the ring.  Guests 2 and 3 read the same disk and compare; guest 4 writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/opt.h"
#include "cli/place.h"
#include "cli/run.h"

enum {
    TICK_MS = 100,
    CONNECT_MS = 20000,  /* a guest's handshake */
    FINISH_MS = 60000,   /* a guest's last pass */
    COPY_MAX_MS = 3600000, /* of a user's own image */
    PAUSE_LIMIT_MS = 10000, /* more is a hang; the figure itself is printed, and
                               on a busy machine it is mostly the machine's */
};

static double
now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void
pause_ms(int ms)
{
    poll(NULL, 0, ms);
}

/* --- start --------------------------------------------------------------- */

static int
make_stats(struct run *r)
{
    const size_t bytes = RUN_GUESTS * sizeof(struct run_stats);

    r->stats_fd = memfd_create("freehold-run", MFD_CLOEXEC);
    if (r->stats_fd < 0 || ftruncate(r->stats_fd, (off_t)bytes))
        return fh_opt_fail("run", "no memory for statistics: %s",
                           strerror(errno));
    r->stats = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                    r->stats_fd, 0);
    if (r->stats == MAP_FAILED)
        return fh_opt_fail("run", "no memory for statistics: %s",
                           strerror(errno));
    return 0;
}

/* Domains 1 to 4 and a disk for each. */
static int
make_guests(struct run *r)
{
    for (int i = 0; i < RUN_GUESTS; i++) {
        const bool writer = i == RUN_WRITER;
        struct fh_env_disk disk = {
            .domid = (uint32_t)i + 1,
            .target = writer && r->own[0] ? r->own : r->image,
            .writable = writer,
            .shared = r->o->writable,
            .order = -1,
        };

        r->guest[i].domid = disk.domid;
        if (fh_env_domain(r->env, disk.domid) ||
            fh_env_attach(r->env, &disk, &r->guest[i].vdev))
            return FH_EXIT_FAILURE;
    }
    r->guest[RUN_COPIER].does = "nbdkit, nbdcopy";
    r->guest[1].does = r->guest[2].does = "reads, compares";
    r->guest[RUN_WRITER].does = r->own[0] ? "writes its image" : "rewrites";
    return 0;
}

static int
start_guest(struct run *r, int i)
{
    struct run_guest *g = &r->guest[i];
    const char *job = "read";
    char domid[16], vdev[16], index[16];
    const char *const argv[] = { "freehold", "--run-guest", NULL, domid, vdev,
                                 index, NULL };
    const char *words[FH_ARRAY_SIZE(argv)];
    struct fh_env_proc p = { .domid = g->domid, .argv = words, .n_fds = 2 };
    int fd, bad;

    if (i == RUN_WRITER)
        job = r->own[0] ? "write" : "rewrite";
    snprintf(domid, sizeof(domid), "%u", g->domid);
    snprintf(vdev, sizeof(vdev), "%u", g->vdev);
    snprintf(index, sizeof(index), "%d", i);
    memcpy(words, argv, sizeof(words));
    words[2] = job;
    fd = open(r->image, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fh_opt_fail("run", "%s: %s", r->image, strerror(errno));
    p.fds[0] = r->stats_fd;
    p.fds[1] = fd;
    bad = fh_env_spawn(r->env, &p, &g->pid);
    close(fd);
    return bad;
}

/* The plugin where the domain's uid can read it. */
static int
stage_plugin(struct run *r, char *out)
{
    char from[FH_PLACE_PATH];
    const char *const cp[] = { "install", "-m", "644", from, out, NULL };

    snprintf(out, RUN_PATH, "%s/nbdkit-xenblk-plugin.so", r->env->dir);
    if (fh_place_plugin(from, "run"))
        return FH_EXIT_FAILURE;
    return run_tool(r, cp, false);
}

static void
socket_path(const struct run *r, const char *dir, char *out, size_t size)
{
    snprintf(out, size, "%s/nbd", dir);
}

static int
start_nbdkit(struct run *r, char *socket, size_t size)
{
    struct run_guest *g = &r->guest[RUN_COPIER];
    char plugin[RUN_PATH], vdev[32];
    const char *const argv[] = { "nbdkit", "-f", "--exit-with-parent", "-r",
                                 "-U", socket, plugin, vdev, NULL };
    struct fh_env_proc p = { .domid = g->domid, .program = "nbdkit",
                             .argv = argv };
    char *dir = fh_env_domain_dir(r->env, g->domid);
    int bad;

    if (!dir)
        return FH_EXIT_FAILURE;
    socket_path(r, dir, socket, size);
    free(dir);
    snprintf(vdev, sizeof(vdev), "device=%u", g->vdev);
    bad = stage_plugin(r, plugin);
    if (!bad)
        bad = fh_env_spawn(r->env, &p, &g->pid);
    for (int waited = 0; !bad && access(socket, F_OK); waited += TICK_MS) {
        int status;

        if (waited > CONNECT_MS || !fh_env_wait(g->pid, TICK_MS, &status))
            return fh_opt_fail("run", "nbdkit does not serve guest %u's disk",
                               g->domid);
    }
    r->nbdkit = g->pid;
    return bad;
}

static int
start_copy(struct run *r)
{
    char socket[RUN_PATH], uri[RUN_PATH + 32];
    const char *const to_file[] = { "nbdcopy", uri, r->copy, NULL };
    /* A user's image may be larger than the temporary directory. */
    const char *const compare[] = {
        "sh", "-c", "nbdcopy \"$1\" - | cmp -n \"$3\" - \"$2\"", "sh", uri,
        r->image, NULL, NULL
    };
    const char *words[FH_ARRAY_SIZE(compare)];
    struct fh_env_proc p = { .program = "nbdcopy", .argv = to_file };
    char bytes[24];

    if (start_nbdkit(r, socket, sizeof(socket)))
        return FH_EXIT_FAILURE;
    snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", socket);
    if (!r->made) {
        snprintf(bytes, sizeof(bytes), "%" PRIu64, r->image_bytes);
        memcpy(words, compare, sizeof(words));
        words[6] = bytes;
        p = (struct fh_env_proc){ .program = "sh", .argv = words };
    }
    r->copy_began = now_s();
    return fh_env_run(r->env, &p, &r->nbdcopy);
}

int
run_load_start(struct run *r)
{
    if (make_stats(r) || make_guests(r))
        return FH_EXIT_FAILURE;
    for (int i = RUN_COPIER + 1; i < RUN_GUESTS; i++)
        if (start_guest(r, i))
            return FH_EXIT_FAILURE;
    for (int i = RUN_COPIER + 1; i < RUN_GUESTS; i++) {
        for (int waited = 0; !fh_load_acquire32(&r->stats[i].connected);
             waited += TICK_MS) {
            int status;

            if (waited > CONNECT_MS ||
                !fh_env_wait(r->guest[i].pid, TICK_MS, &status))
                return fh_opt_fail("run", "guest %d did not get its disk",
                                   i + 1);
        }
    }
    return start_copy(r);
}

/* --- the time in between ------------------------------------------------- */

/* Kills the worker of guest @i, the way a crash would. */
static void
kill_worker(struct run *r, int i)
{
    struct run_guest *g = &r->guest[i];
    pid_t pid;

    if (fh_env_worker_pid(r->env, g->domid, g->vdev, &pid) || pid == g->killed)
        return;
    kill(pid, SIGKILL);
    g->killed = pid;
    g->kills++;
}

static void
look_at_copy(struct run *r)
{
    struct run_stats *s = &r->stats[RUN_COPIER];
    struct stat st;
    int status;

    if (!r->nbdcopy)
        return;
    if (r->made && !stat(r->copy, &st))
        fh_store_relaxed64(&s->bytes, (uint64_t)st.st_blocks * 512);
    if (fh_env_wait(r->nbdcopy, 0, &status))
        return;
    r->nbdcopy = 0;
    r->copy_failed = status != 0;
    r->copy_seconds = now_s() - r->copy_began;
    fh_store_relaxed64(&s->bytes, r->image_bytes);
    r->guest[RUN_COPIER].does = "nbdcopy: finished";
}

int
run_load_watch(struct run *r)
{
    /* The first during the copy, then the others one by one. */
    static const int victims[] = { RUN_COPIER, 1, RUN_WRITER, 2 };
    const double began = now_s();
    const double step = r->o->seconds / (FH_ARRAY_SIZE(victims) + 1);
    size_t n_killed = 0;

    pause_ms(20);
    for (;;) {
        const double at = now_s() - began;

        if (n_killed < FH_ARRAY_SIZE(victims) && at >= step * (double)n_killed)
            kill_worker(r, victims[n_killed++]);
        look_at_copy(r);
        run_table_draw(r, at, false);
        if (at >= r->o->seconds &&
            (!r->nbdcopy || at * 1000 > COPY_MAX_MS))
            break;
        pause_ms(TICK_MS);
    }
    r->load_seconds = now_s() - began;
    return 0;
}

/* --- end ----------------------------------------------------------------- */

static bool
guest_ended_well(struct run *r, int i)
{
    int status = -1;

    if (fh_env_wait(r->guest[i].pid, FINISH_MS, &status))
        return false;
    r->guest[i].pid = 0;
    return status == 0;
}

static uint64_t
total(const struct run *r, size_t offset)
{
    uint64_t n = 0;

    for (int i = 0; i < RUN_GUESTS; i++)
        n += fh_load_relaxed64((const uint8_t *)&r->stats[i] + offset);
    return n;
}

static double
longest_pause_ms(const struct run *r)
{
    uint64_t longest = 0;

    for (int i = 0; i < RUN_GUESTS; i++) {
        uint64_t one = fh_load_relaxed64(&r->stats[i].pause_ns);

        longest = one > longest ? one : longest;
    }
    return (double)longest / 1e6;
}

static void
claim_load(struct run *r, bool ended_well)
{
    const double pause = longest_pause_ms(r);
    uint32_t kills = 0;

    for (int i = 0; i < RUN_GUESTS; i++)
        kills += r->guest[i].kills;
    run_claim(r, !r->copy_failed && r->copy_seconds > 0,
              r->made ? "nbdcopy took the disk out through the ring"
                      : "nbdcopy read the disk out through the ring, and it "
                        "equals the image");
    run_claim(r, ended_well && !total(r, offsetof(struct run_stats, errors)),
              "no guest saw an error");
    run_claim(r, !total(r, offsetof(struct run_stats, mismatches)),
              "every one of %" PRIu64 " MiB compared was right",
              total(r, offsetof(struct run_stats, compared)) >> 20);
    run_claim(r, kills && pause < PAUSE_LIMIT_MS,
              "%u workers were killed; the longest pause a guest noticed was "
              "%.0f ms",
              kills, pause);
}

int
run_load_end(struct run *r)
{
    bool ended_well = true;

    for (int i = 0; i < RUN_GUESTS; i++)
        fh_store_relaxed32(&r->stats[i].stop, 1);
    for (int i = RUN_COPIER + 1; i < RUN_GUESTS; i++)
        ended_well &= guest_ended_well(r, i);
    run_table_draw(r, r->load_seconds, true);
    fputc('\n', stderr);
    claim_load(r, ended_well);
    if (r->nbdkit) {
        int status;

        kill(r->nbdkit, SIGTERM);
        if (fh_env_wait(r->nbdkit, CONNECT_MS, &status))
            kill(r->nbdkit, SIGKILL);
    }
    for (int i = 0; i < RUN_GUESTS; i++)
        if (fh_env_detach(r->env, r->guest[i].domid, r->guest[i].vdev))
            r->failed = true;
    if (fh_env_stop(r->env))
        r->failed = true;
    return 0;
}
