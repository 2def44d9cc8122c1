/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's life: run directory and its lock, the epoll loop, stopping.
 *
 * A turn of the loop: one event, then all of xenstore's events, then every
 * device and worker that has something to do.  Devices are cheap to ask when
 * nothing happened to them.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <json-c/json.h>
#include "blkback/supervisor_state.h"

#define RUN_DIR "/run/freehold"

enum { MS = 1000000, LOCK_TRIES = 200, LOCK_PAUSE_MS = 10 };

uint64_t
fh_sup_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void
fh_sup_log(const struct fh_sup *s, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    if (s->p.verbose)
        fprintf(stderr, "freehold: %s\n", line);
}

/* What ends the program is said in any case. */
static int __attribute__((format(printf, 1, 2)))
fatal(const char *fmt, ...)
{
    va_list ap;

    fputs("freehold: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return FH_EINVAL;
}

int
fh_sup_source_add(struct fh_sup *s, struct fh_sup_source *src, int fd,
                  uint32_t events,
                  void (*ready)(struct fh_sup_source *src, uint32_t events),
                  void *owner)
{
    struct epoll_event ev = { .events = events, .data.ptr = src };

    src->ready = ready;
    src->owner = owner;
    src->fd = -1;
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &ev))
        return -errno;
    src->fd = fd;
    return 0;
}

void
fh_sup_source_close(struct fh_sup *s, struct fh_sup_source *src)
{
    if (src->fd < 0)
        return;
    /* Before close(): others may hold the description. */
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, src->fd, NULL);
    close(src->fd);
    src->fd = -1;
}

/* --- start --- */

/* Whose lock it is, as its file says. */
static void
read_owner(int fd, char *pid, size_t size)
{
    ssize_t n = pread(fd, pid, size - 1, 0);

    pid[n > 0 ? n : 0] = '\0';
    pid[strcspn(pid, "\n")] = '\0';
}

/* A supervisor that was killed while it started a worker holds its lock until
 * that child has executed its program. */
static bool
take_lock(int fd, char *pid, size_t size)
{
    const struct timespec pause = { .tv_nsec = LOCK_PAUSE_MS * MS };

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (!flock(fd, LOCK_EX | LOCK_NB))
            return true;
        read_owner(fd, pid, size);
        if (atoi(pid) <= 0 || !kill(atoi(pid), 0) || errno != ESRCH)
            return false;
        nanosleep(&pause, NULL);
    }
    return false;
}

static int
lock_run_dir(struct fh_sup *s)
{
    char path[FH_DEVICE_PATH_MAX + 8], pid[16] = "?";

    snprintf(s->run_dir, sizeof(s->run_dir), "%s",
             s->p.run_dir ? s->p.run_dir : RUN_DIR);
    if (mkdir(s->run_dir, 0755) && errno != EEXIST)
        return fatal("%s: %s", s->run_dir, strerror(errno));
    snprintf(path, sizeof(path), "%s/lock", s->run_dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (s->lock_fd < 0)
        return fatal("%s: %s", path, strerror(errno));
    if (!take_lock(s->lock_fd, pid, sizeof(pid))) {
        close(s->lock_fd);
        s->lock_fd = -1;
        return fatal("%s belongs to a running supervisor (pid %s)", s->run_dir,
                     pid);
    }
    snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
    if (ftruncate(s->lock_fd, 0) ||
        pwrite(s->lock_fd, pid, strlen(pid), 0) < 0)
        return fatal("%s: %s", path, strerror(errno));
    return 0;
}

static void
signals_ready(struct fh_sup_source *src, uint32_t events)
{
    struct signalfd_siginfo si;

    struct fh_sup *s = src->owner;

    if (read(src->fd, &si, sizeof(si)) != sizeof(si))
        return;
    if (s->p.keep_workers && !s->stop)
        s->is_leaving = true;
    else
        fh_sup_stop(s, 0);
}

/* Before libxenstore makes its thread: that must not take our signals. */
static int
start_signals(struct fh_sup *s)
{
    sigset_t set;
    int fd, r;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    r = fh_sup_source_add(s, &s->signals, fd, EPOLLIN, signals_ready, s);
    if (r)
        close(fd);
    return r;
}

static void
xs_ready(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup *s = src->owner;

    if (events & (EPOLLHUP | EPOLLERR))
        s->lost = true;
}

static int
start_xenstore(struct fh_sup *s)
{
    int r = fh_xenplat_open(&s->xen, FH_XENPLAT_XENSTORE);
    int fd;

    if (r)
        return fatal("cannot open xenstore: %s (is the hypervisor running?)",
                     strerror(-r));
    r = fh_sup_xs_start(s);
    if (r)
        return fatal("xenstore does not let us work: %s", strerror(-r));
    fd = fh_xenplat_xs_fd(&s->xen);
    r = fh_sup_source_add(s, &s->xs, fd, EPOLLIN, xs_ready, s);
    return r ? fatal("cannot watch xenstore: %s", strerror(-r)) : 0;
}

static int
start(struct fh_sup *s)
{
    int r;

    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0)
        return fatal("epoll: %s", strerror(errno));
    r = start_signals(s);
    if (r)
        return fatal("signals: %s", strerror(-r));
    r = lock_run_dir(s);
    if (r)
        return r;
    r = fh_sup_state_open(s);
    if (r)
        return fatal("%s/state: %s", s->run_dir, strerror(-r));
    r = start_xenstore(s);
    if (r)
        return r;
    fh_sup_adopt_all(s);
    r = fh_sup_ctl_start(s);
    return r ? fatal("%s/control: %s", s->run_dir, strerror(-r)) : 0;
}

static void
tell_ready(struct fh_sup *s)
{
    fh_sup_log(s, "domain %u serves; control socket %s/control",
               (unsigned)s->domid, s->run_dir);
    if (s->p.ready_fd < 0)
        return;
    if (write(s->p.ready_fd, "", 1) != 1)
        fh_sup_log(s, "nobody waits for us to be ready");
    close(s->p.ready_fd);
    s->p.ready_fd = -1;
}

/* --- the loop --- */

static void
device_over(struct fh_sup_device *d)
{
    struct fh_sup *s = d->sup;
    struct json_object *o;

    /* Unplugged while nobody was here to answer: the toolstack has given up,
     * and has taken the frontend's half with it. */
    if (d->owned ||
        (d->was_restored && d->dev.front_gone && !d->dev.online))
        fh_sup_remove_nodes(d);
    if (d->detacher) {
        o = json_object_new_object();
        json_object_object_add(o, "ok", json_object_new_boolean(true));
        fh_sup_ctl_reply(s, d->detacher, o);
    }
    fh_sup_log(s, "domain %u %s: removed", d->dev.p.domid, d->vdev);
    fh_sup_device_free(d);
}

/* What nobody has to know before it is done. */
static void
save_if_changed(struct fh_sup_device *d)
{
    if (!fh_sup_has_handshake(d) || d->over ||
        (d->saved_phase == d->dev.phase &&
         d->saved_seen_4 == d->dev.front_seen_4))
        return;
    fh_sup_state_save(d);
}

static void
run_devices(struct fh_sup *s)
{
    struct fh_sup_device *d = s->devices;

    while (d) {
        struct fh_sup_device *next = d->next;

        if (d->fate)
            fh_sup_fate(d);
        else if (d->refused)
            fh_sup_xs_retry(d);
        else
            fh_device_run(&d->dev);
        fh_sup_link_overdue(d);
        save_if_changed(d);
        if (d->over)
            device_over(d);
        d = next;
    }
}

static uint64_t
deadline(const struct fh_sup *s)
{
    uint64_t due = fh_sup_workers_deadline(s);

    for (const struct fh_sup_device *d = s->devices; d; d = d->next) {
        uint64_t at = fh_device_deadline_ns(&d->dev);

        if (!fh_sup_has_handshake(d))
            at = d->refused ? d->retry_ns : UINT64_MAX;

        if (fh_sup_link_deadline(d) < at)
            at = fh_sup_link_deadline(d);
        if (at < due)
            due = at;
    }
    if (s->check_ns < due)
        due = s->check_ns;
    if (s->stop && s->stop_ns < due)
        due = s->stop_ns;
    if (s->scan && !s->stop)
        due = 0;
    return due;
}

static int
timeout_ms(const struct fh_sup *s)
{
    uint64_t due = deadline(s), now;

    if (due == UINT64_MAX)
        return -1;
    now = fh_sup_now();
    if (due <= now)
        return 0;
    due = (due - now + MS - 1) / MS;
    return due > 60000 ? 60000 : (int)due;
}

/*
 * libxenstore does not tell when its connection ends, only the next question
 * finds out; a device that waits asks none.
 */
static void
check_xenstore(struct fh_sup *s)
{
    struct fh_plat *pl = &s->xen.plat;
    const uint64_t now = fh_sup_now();
    char value[16];
    size_t len;
    int r;

    if (now < s->check_ns)
        return;
    s->check_ns = now + (uint64_t)FH_SUP_CHECK_MS * MS;
    r = pl->ops->xs_read(pl, 0, "domid", value, sizeof(value), &len);
    if (r < 0 && r != FH_EACCES && r != FH_ERANGE)
        s->lost = true;
}

static void
wait_one(struct fh_sup *s)
{
    struct epoll_event ev;
    struct fh_sup_source *src;

    if (epoll_wait(s->epoll_fd, &ev, 1, timeout_ms(s)) != 1)
        return;
    src = ev.data.ptr;
    src->ready(src, ev.events);
}

void
fh_sup_stop(struct fh_sup *s, uint64_t client)
{
    if (client && !s->stopper)
        s->stopper = client;
    if (s->stop)
        return;
    fh_sup_log(s, "stopping");
    s->stop = FH_SUP_STOP_ASKED;
    s->stop_ns = fh_sup_now() + (uint64_t)FH_SUP_STOP_MS * MS;
    for (struct fh_sup_device *d = s->devices; d; d = d->next)
        if (d->refused)
            d->over = true;
        else if (!d->fate)
            fh_device_stop(&d->dev, false);
}

static void
stop_next_stage(struct fh_sup *s)
{
    const uint64_t now = fh_sup_now();

    switch (s->stop) {
    case FH_SUP_STOP_NO:
    case FH_SUP_STOP_EXIT:
        return;
    case FH_SUP_STOP_ASKED:
        s->stop = FH_SUP_STOP_FORCED;
        s->stop_ns = now + (uint64_t)FH_SUP_STOP_FORCED_MS * MS;
        for (struct fh_sup_device *d = s->devices; d; d = d->next)
            if (fh_sup_has_handshake(d))
                fh_device_stop(&d->dev, true);
        return;
    case FH_SUP_STOP_FORCED:
        fh_sup_log(s, "%u devices did not close in time", s->n_devices);
        break;
    }
    s->stop = FH_SUP_STOP_EXIT;
    s->stop_ns = now + (uint64_t)FH_SUP_STOP_EXIT_MS * MS;
    fh_sup_workers_end(s);
}

/* False when all is over. */
static bool
run_stop(struct fh_sup *s)
{
    if (!s->stop)
        return true;
    if (s->stop != FH_SUP_STOP_EXIT && s->n_devices == 0) {
        s->stop = FH_SUP_STOP_EXIT;
        s->stop_ns = fh_sup_now() + (uint64_t)FH_SUP_STOP_EXIT_MS * MS;
        fh_sup_workers_end(s);
    }
    if (s->stop == FH_SUP_STOP_EXIT)
        return fh_sup_workers_alive(s) && fh_sup_now() < s->stop_ns;
    if (fh_sup_now() >= s->stop_ns)
        stop_next_stage(s);
    return true;
}

static void
loop(struct fh_sup *s)
{
    while (!s->lost) {
        check_xenstore(s);
        fh_sup_xs_drain(s);
        fh_sup_xs_scan(s);
        run_devices(s);
        fh_sup_workers_run(s);
        fh_sup_ctl_reap(s);
        if (!run_stop(s) || s->is_leaving)
            return;
        if (!s->lost)
            wait_one(s);
    }
    fatal("xenstore is gone; ending");
}

/* --- end --- */

static void
answer_stopper(struct fh_sup *s)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "ok", json_object_new_boolean(true));
    fh_sup_ctl_reply(s, s->stopper, o);
}

static void
remove_lock(struct fh_sup *s)
{
    char path[FH_DEVICE_PATH_MAX + 8];

    if (s->lock_fd < 0)
        return;
    snprintf(path, sizeof(path), "%s/lock", s->run_dir);
    unlink(path);
    close(s->lock_fd);
    rmdir(s->run_dir); /* succeeds if nobody else uses it */
}

static void
finish(struct fh_sup *s)
{
    if (s->is_leaving) {
        fh_sup_log(s, "ending; the workers go on");
    } else {
        fh_sup_workers_end(s);
        fh_sup_workers_kill(s);
    }
    while (s->devices)
        fh_sup_device_free(s->devices);
    fh_sup_workers_free(s);
    fh_sup_state_close(s, !s->is_leaving);
    answer_stopper(s);
    fh_sup_ctl_end(s);
    /* The descriptor is libxenstore's to close. */
    fh_xenplat_close(&s->xen);
    fh_sup_source_close(s, &s->signals);
    if (s->epoll_fd >= 0)
        close(s->epoll_fd);
    remove_lock(s);
}

int
fh_supervisor_main(const struct fh_supervisor_params *p)
{
    struct fh_sup *s = calloc(1, sizeof(*s));
    int status = 1;

    if (!s) {
        fatal("out of memory");
        return 1;
    }
    s->p = *p;
    s->epoll_fd = s->lock_fd = s->spare_fd = s->state_fd = -1;
    s->signals.fd = s->xs.fd = s->listener.fd = -1;
    s->next_disk = 1;
    s->started_ns = fh_sup_now();
    if (!start(s)) {
        tell_ready(s);
        loop(s);
        status = s->lost ? 1 : 0;
    }
    finish(s);
    free(s);
    return status;
}
