/* SPDX-License-Identifier: MIT */
/*
 * A worker process: its start, its loop, its sleep.
 *
 * Everything that needs a right is opened first (event channels, grants or the
 * broker of grants), then the process takes a uid of its own, makes the ring,
 * goes into its sandbox, and only then speaks of disks.  It does not ask to die
 * with its supervisor: a supervisor's death must not be a guest's.
 */
#include "blkback/worker_main.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/gntdev.h"
#include "blkback/sandbox.h"
#include "blkback/worker_int.h"

/* The CPU time costs a system call, so it is asked for no more often. */
#define CPU_TIME_NS 10000000ull

/* ---- start ---- */

static void
die(struct fh_rec_log *log)
{
    (void)log;
    raise(SIGKILL);
}

/* Best effort: where it is refused, buffers are not registered. */
static void
raise_memlock(uint64_t bytes)
{
    struct rlimit lim;

    if (getrlimit(RLIMIT_MEMLOCK, &lim) || lim.rlim_cur >= bytes)
        return;
    lim.rlim_cur = bytes;
    if (lim.rlim_max < bytes)
        lim.rlim_max = bytes;
    (void)setrlimit(RLIMIT_MEMLOCK, &lim);
}

static int
map_stats(struct fh_wk *wk, int fd)
{
    struct stat st;
    void *at;

    if (fd < 0 || fstat(fd, &st) ||
        st.st_size < (off_t)sizeof(struct fh_wk_stats))
        return FH_EBADF;
    at = mmap(NULL, sizeof(struct fh_wk_stats), PROT_READ | PROT_WRITE,
              MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    wk->stats = at;
    return 0;
}

/* Takes the fence out of @fds; -1: there is to be none. */
static int
take_fence(const struct fh_wk_msg *m, int *fds)
{
    int fence = fds[0];

    fds[0] = -1;
    if (!m->u.hello.no_fence || fence < 0)
        return fence;
    close(fence);
    return -1;
}

/* On real Xen, unless it is not wanted.  FH_ENODEV: wanted, and not Xen. */
static int
wants_broker(const struct fh_wk_msg *m, bool *yes)
{
    const bool is_xen = !fh_xenplat_is_local() && fh_gntdev_is_here();
    const uint32_t mode = m->u.hello.broker;

    *yes = is_xen && mode != FH_WK_BROKER_OFF;
    return mode == FH_WK_BROKER_ON && !is_xen ? FH_ENODEV : 0;
}

static int
open_broker(struct fh_wk *wk, const struct fh_wk_msg *m, int fence)
{
    const struct fh_broker_params p = {
        .uid = m->u.hello.uid,
        .fence_fd = fence,
        .sandbox = wk->is_sandboxed,
        .spin_ns = m->u.hello.polling && wk->x.cpu.n_cpus > 1
                       ? FH_BROKER_SPIN_NS : 0,
    };
    int r = fh_broker_start(&wk->broker, &p);

    if (!r)
        fh_broker_attach(&wk->broker, &wk->x.plat);
    return r;
}

/* Event channels first: they tell which world this is. */
static int
open_platform(struct fh_wk *wk, const struct fh_wk_msg *m, int fence,
              const char **step)
{
    bool broker;
    int r;

    *step = "event channels";
    r = fh_xenplat_open(&wk->x, FH_XENPLAT_EVENTS);
    if (!r && m->u.hello.domid)
        r = fh_xenplat_restrict(&wk->x, (uint16_t)m->u.hello.domid);
    *step = "grants";
    if (!r)
        r = wants_broker(m, &broker);
    if (!r && broker)
        r = open_broker(wk, m, fence);
    else if (!r)
        r = fh_xenplat_open_more(&wk->x, FH_XENPLAT_GRANTEE);
    return r;
}

static int
enter_sandbox(struct fh_wk *wk)
{
    const bool is_xen = !fh_xenplat_is_local();

    if (!wk->is_sandboxed)
        return 0;
    return fh_sandbox_worker(fh_xenplat_evtchn_fd(&wk->x),
                             is_xen ? fh_xenplat_gnttab_fd(&wk->x) : -1);
}

/* @fds: the fence, the statistics page; the fence is taken in any case.
 * @step: what is being tried, for people. */
static int
start(struct fh_wk *wk, const struct fh_wk_msg *m, int *fds, const char **step)
{
    const uint64_t locked = (uint64_t)m->u.hello.memlock_pages * FH_PAGE_BYTES;
    int fence = take_fence(m, fds);
    int r = open_platform(wk, m, fence, step);

    raise_memlock(locked);
    if (!r) {
        *step = "statistics page";
        r = map_stats(wk, fds[1]);
    }
    if (!r) {
        *step = "giving up rights";
        r = fh_sandbox_drop_rights(m->u.hello.uid);
    }
    if (!r)
        fh_wk_listen(wk, m, fds);
    if (r && fence >= 0)
        close(fence);
    if (!r) {
        *step = "io_uring";
        r = fh_uring_open(&wk->u, fence, locked);
    }
    if (!r) {
        *step = "sandbox";
        r = enter_sandbox(wk);
    }
    return r;
}

void
fh_wk_tell_ready(struct fh_wk *wk, uint32_t seq, int rc)
{
    const struct fh_wk_msg m = {
        .type = FH_WK_READY,
        .seq = seq,
        .rc = rc,
        .u.ready = { .broker_pid = (uint32_t)wk->broker.pid,
                     .sandboxed = wk->is_sandboxed },
    };

    fh_wk_send_fds(wk, &m, &wk->stats_fd, seq ? 0 : 1);
}

static void
init_loop(struct fh_wk *wk, const struct fh_wk_msg *m)
{
    struct fh_plat *p = &wk->x.plat;
    uint64_t spin = m->u.hello.poll_max_ns;

    fh_worker_init(&wk->worker, p);
    wk->worker.fault = fh_wk_tell_fault;
    wk->worker.arg = wk;
    if (m->u.hello.kill_after) {
        wk->worker.log.hook = die;
        wk->worker.log.hook_at = m->u.hello.kill_after;
    }
    if (!spin)
        spin = FH_POLLER_MAX_NS_DEFAULT;
    fh_poller_init(&wk->poller, m->u.hello.polling ? spin : 0,
                   FH_POLLER_BUDGET_FULL, p->ops->now_ns(p));
    fh_uring_watch(&wk->u, FH_WK_WATCH_EVENTS, fh_xenplat_evtchn_fd(&wk->x));
    fh_uring_watch(&wk->u, FH_WK_WATCH_CTL, wk->ctl_fd);
}

/* ---- loop ---- */

static void
publish_stats(struct fh_wk *wk)
{
    struct fh_wk_stats *s = wk->stats;

    fh_store_relaxed64(&s->turns, wk->worker.n_turns);
    fh_store_relaxed64(&s->sleeps, wk->n_sleeps);
    fh_store_relaxed64(&s->spins, wk->n_spins);
    fh_store_relaxed64(&s->stores, wk->worker.log.n_stores);
    fh_store_relaxed64(&s->syscalls,
                       wk->u.n_enters + wk->n_cpu_reads +
                           fh_xenplat_syscalls(&wk->x));
}

static void
publish_cpu_time(struct fh_wk *wk, uint64_t now)
{
    struct timespec ts;

    if (now - wk->cpu_read_ns < CPU_TIME_NS)
        return;
    wk->cpu_read_ns = now;
    wk->n_cpu_reads++;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    fh_store_relaxed64(&wk->stats->cpu_ns, (uint64_t)ts.tv_sec * 1000000000u +
                                               (uint64_t)ts.tv_nsec);
}

/* One turn and what surrounds it.  Returns how much was done. */
static uint32_t
turn(struct fh_wk *wk)
{
    uint32_t n = fh_uring_reap(&wk->u);

    if (wk->u.watch[FH_WK_WATCH_EVENTS].ready) {
        wk->u.watch[FH_WK_WATCH_EVENTS].ready = false;
        fh_xenplat_ev_ready(&wk->x);
    }
    n += fh_worker_turn(&wk->worker);
    if (wk->u.watch[FH_WK_WATCH_CTL].ready) {
        wk->u.watch[FH_WK_WATCH_CTL].ready = false;
        fh_wk_take_message(wk);
        n++;
    }
    fh_wk_finish_leaving(wk);
    fh_wk_look(wk);
    return n;
}

/* Looks for work for a while, as the poller allows; true: found some. */
static bool
spin(struct fh_wk *wk)
{
    struct fh_plat *p = &wk->x.plat;
    uint64_t since, now, limit;

    if (!fh_poller_ready(&wk->poller))
        return false;
    since = now = p->ops->now_ns(p);
    if (fh_poller_paused(&wk->poller, since))
        return false;
    limit = fh_poller_plan(&wk->poller, since, fh_plat_cpu_wanted(p));
    if (!limit)
        return false;
    (void)fh_worker_kick(&wk->worker);
    for (; now - since < limit; now = p->ops->now_ns(p)) {
        fh_cpu_relax();
        if (turn(wk)) {
            fh_poller_found(&wk->poller, p->ops->now_ns(p) - since);
            return true;
        }
        wk->n_spins++;
    }
    fh_poller_missed(&wk->poller, now - since);
    return false;
}

/* How long the coming sleep may last, beside the ring's alarm.  Times are
 * coarse here: what is due may come some milliseconds late. */
static uint64_t
sleep_limit(struct fh_wk *wk)
{
    const uint64_t now = wk->worker.back.now_ns;
    const uint64_t idle_due = fh_worker_due(&wk->worker);
    const uint64_t look_due = fh_wk_look_due(wk);
    const uint64_t due = idle_due < look_due ? idle_due : look_due;
    const uint64_t left = due > now ? due - now : 0;

    if (due == UINT64_MAX || (wk->u.has_alarm && wk->alarm_ns <= due))
        return UINT64_MAX;
    if (wk->u.has_alarm || !left)
        return left;
    fh_uring_alarm(&wk->u, left);
    wk->alarm_ns = due;
    return UINT64_MAX;
}

static int
sleep_until_work(struct fh_wk *wk)
{
    struct fh_plat *p = &wk->x.plat;
    const uint64_t limit = sleep_limit(wk);
    const bool timed = fh_poller_times(&wk->poller);
    const uint64_t since = timed ? p->ops->now_ns(p) : 0;
    int r;

    wk->n_sleeps++;
    publish_stats(wk);
    publish_cpu_time(wk, wk->worker.back.now_ns);
    r = fh_uring_wait(&wk->u, limit);
    if (timed)
        fh_poller_slept(&wk->poller, p->ops->now_ns(p) - since);
    else
        fh_poller_slept_untimed(&wk->poller);
    return r;
}

static bool
is_over(const struct fh_wk *wk)
{
    return wk->is_broken || (wk->is_ending && !wk->worker.n_queues);
}

static int
loop(struct fh_wk *wk)
{
    int r = 0;

    while (!r && !is_over(wk)) {
        if (turn(wk) || spin(wk)) {
            (void)fh_worker_kick(&wk->worker);
            /* A loop that never sleeps still tells how it does. */
            if (wk->worker.n_turns % 1024 == 0)
                publish_stats(wk);
            continue;
        }
        if (fh_worker_arm(&wk->worker))
            r = sleep_until_work(wk);
    }
    return r;
}

/* ---- main ---- */

static int
serve(struct fh_wk *wk)
{
    struct fh_wk_msg m;
    int fds[FH_WK_MAX_FDS];
    int r = fh_wk_receive(wk->ctl_fd, &m, fds, true);

    if (r <= 0)
        return r;
    if (m.type != FH_WK_HELLO) {
        fh_wk_close_fds(fds);
        return FH_EPROTO;
    }
    wk->number = m.u.hello.worker;
    wk->is_sandboxed = fh_sandbox_is_built() && !m.u.hello.no_sandbox;
    wk->listen_fd = wk->name_fd = wk->stats_fd = -1;
    r = start(wk, &m, fds, &wk->step);
    fh_wk_close_fds(fds);
    fh_wk_tell_ready(wk, m.seq, r);
    if (r)
        return r;
    wk->step = "loop";
    init_loop(wk, &m);
    return loop(wk);
}

/* Gives back what a worker that ended in order still has.  After a failure the
 * end of the process does it, and in any case it ends the broker. */
static void
close_all(struct fh_wk *wk)
{
    if (wk->worker.n_queues)
        return;
    fh_wk_close_disks(wk);
    if (wk->u.open)
        fh_uring_close(&wk->u);
    if (wk->x.plat.ops)
        fh_xenplat_close(&wk->x);
    free(wk);
}

int
fh_worker_main(int ctl_fd)
{
    struct fh_wk *wk = calloc(1, sizeof(*wk));
    int r;

    if (!wk)
        return 1;
    wk->broker = (struct fh_broker)FH_BROKER_NULL;
    signal(SIGPIPE, SIG_IGN);
    wk->ctl_fd = ctl_fd;
    wk->step = "first message";
    r = serve(wk);
    if (r)
        fprintf(stderr, "freehold: worker %u: %s: %s\n", wk->number, wk->step,
                strerror(-r));
    r = r || wk->is_broken;
    close_all(wk);
    return r;
}
