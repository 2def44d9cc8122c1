/* SPDX-License-Identifier: MIT */
/*
 * Workers as processes: spawn, death, fence, successor.
 *
 *   NONE -> STARTING -> READY -> (death) FENCED -> WAITING -> STARTING ...
 *                         `-> ENDING --^   |
 *                                   |-> NONE when nobody needs it
 *                                   `-> PARKED
 *
 * Invariant: no successor is started, and no device learns that its ring is
 * down, before the fence's EOF: until then the kernel may still carry out
 * writes of the dead process, up to seconds after waitpid(2).
 *
 * A worker is ours but may have been taken over by a guest: an answer that was
 * not asked for, or a message of a wrong size, ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/broker.h"
#include "blkback/supervisor_int.h"

extern char **environ;

enum {
    WORKER_FD = 3, /* where the child finds its socket */
    MAX_FDS = 2,
    MS = 1000000,
};

/*
 * The one place that knows how a worker is started: our own program again,
 * whatever its path is and whoever may enter its directory (it runs as we do
 * until it gives up its uid).  posix_spawn, because libxenstore has a thread.
 */
static int
exec_worker(int fd, pid_t *pid)
{
    char *argv[] = { "freehold", "--worker", "3", NULL };
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    int r;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setsigmask(&attr, &none);
    posix_spawnattr_setsigdefault(&attr, &all);
    posix_spawnattr_setpgroup(&attr, 0); /* Ctrl-C is for the supervisor */
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK |
                                        POSIX_SPAWN_SETSIGDEF |
                                        POSIX_SPAWN_SETPGROUP);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fd, WORKER_FD);
    r = posix_spawn(pid, "/proc/self/exe", &files, &attr, argv, environ);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attr);
    return -r;
}

/* Fresh counters for a fresh process; the old ones have been added up. */
static int
make_stats(struct fh_sup_worker *w, int *fd)
{
    const size_t size = fh_round_up(sizeof(*w->stats), FH_PAGE_BYTES);
    void *map = MAP_FAILED;

    if (w->stats)
        munmap(w->stats, size);
    w->stats = NULL;
    *fd = memfd_create("freehold-stats", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd >= 0 && !ftruncate(*fd, (off_t)size) &&
        !fcntl(*fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        map = mmap(NULL, size, PROT_READ, MAP_SHARED, *fd, 0);
    if (map == MAP_FAILED)
        return -errno;
    w->stats = map;
    return 0;
}

static uint32_t
memlock_pages(const struct fh_supervisor_params *p)
{
    if (p->memlock_pages == UINT32_MAX)
        return 0;
    return p->memlock_pages ? p->memlock_pages : FH_SUP_MEMLOCK_PAGES;
}

static void
send_hello(struct fh_sup_worker *w, int fence_fd, int stats_fd)
{
    const struct fh_supervisor_params *p = &w->sup->p;
    const bool root = geteuid() == 0;
    struct fh_wk_msg m = { .type = FH_WK_HELLO, .seq = ++w->seq };
    const int fds[] = { fence_fd, stats_fd };

    m.u.hello.worker = w->number;
    m.u.hello.polling = p->polling;
    m.u.hello.poll_max_ns = p->poll_max_ns;
    m.u.hello.uid = root && p->uid_base ? p->uid_base + w->number : 0;
    m.u.hello.kill_after = w->incarnations == 1 ? p->kill_after : 0;
    m.u.hello.no_fence = p->no_fence;
    m.u.hello.memlock_pages = memlock_pages(p);
    m.u.hello.domid = w->domid > 0 ? (uint32_t)w->domid : 0;
    m.u.hello.broker = p->broker;
    m.u.hello.no_sandbox = p->no_sandbox;
    fh_sup_worker_send(w, &m, fds, 2);
}

static void
worker_socket(struct fh_sup_source *src, uint32_t events);
static void
worker_died(struct fh_sup_source *src, uint32_t events);
static void
fence_ended(struct fh_sup_source *src, uint32_t events);

/* Everything around the process; half-built things are closed by the caller. */
static int
spawn(struct fh_sup_worker *w, int sock[2], int fence[2], int *stats_fd)
{
    struct fh_sup *s = w->sup;
    int pidfd, r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) ||
        pipe2(fence, O_CLOEXEC | O_NONBLOCK))
        return -errno;
    r = make_stats(w, stats_fd);
    if (!r)
        r = exec_worker(sock[1], &w->pid);
    if (r) {
        w->pid = 0;
        return r;
    }
    pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
    r = pidfd < 0 ? -errno : 0;
    if (!r)
        r = fh_sup_source_add(s, &w->pidfd, pidfd, EPOLLIN, worker_died, w);
    if (!r)
        r = fh_sup_source_add(s, &w->sock, sock[0], EPOLLIN, worker_socket, w);
    if (!r)
        sock[0] = -1;
    return r;
}

static void
close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

/* Gives a start that failed the same way out as a death. */
static void
start_failed(struct fh_sup_worker *w, int r)
{
    struct fh_sup *s = w->sup;

    snprintf(w->reason, sizeof(w->reason), "cannot start a worker: %s",
             strerror(-r));
    fh_sup_log(s, "worker %u: %s", w->number, w->reason);
    if (w->pid > 0) {
        kill(w->pid, SIGKILL);
        waitpid(w->pid, NULL, 0);
    }
    w->pid = 0;
    fh_sup_source_close(s, &w->pidfd);
    fh_sup_source_close(s, &w->sock);
    w->state = FH_SUP_PARKED;
    fh_sup_link_settled(w);
}

void
fh_sup_worker_start(struct fh_sup_worker *w)
{
    int sock[2] = { -1, -1 }, fence[2] = { -1, -1 }, stats_fd = -1;
    int r;

    if (w->state != FH_SUP_NONE && w->state != FH_SUP_WAITING)
        return;
    w->incarnations++;
    w->is_killed = false;
    r = spawn(w, sock, fence, &stats_fd);
    if (!r) {
        w->state = FH_SUP_STARTING;
        w->born_ns = fh_sup_now();
        w->due_ns = w->born_ns + (uint64_t)FH_SUP_READY_MS * MS;
        w->fence.fd = fence[0]; /* looked at after a death only */
        fence[0] = -1;
        send_hello(w, fence[1], stats_fd);
    }
    close_fd(sock[0]);
    close_fd(sock[1]);
    close_fd(fence[0]);
    close_fd(fence[1]); /* from here on only the worker has it */
    close_fd(stats_fd);
    if (r)
        start_failed(w, r);
}

static struct fh_sup_worker *
worker_new(struct fh_sup *s, int domid)
{
    struct fh_sup_worker **at = &s->workers;
    struct fh_sup_worker *w;
    uint32_t number = 1;

    /* The list is in the order of the numbers: the first gap. */
    while (*at && (*at)->number == number) {
        at = &(*at)->next;
        number++;
    }
    if (number > FH_SUP_MAX_WORKERS)
        return NULL;
    w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->sup = s;
    w->number = number;
    w->domid = domid;
    w->pidfd.fd = w->sock.fd = w->fence.fd = -1;
    w->fence.owner = w;
    w->next = *at;
    *at = w;
    return w;
}

/* In a pool: the one with the fewest devices, or a new one. */
static struct fh_sup_worker *
pool_worker(struct fh_sup *s)
{
    struct fh_sup_worker *best = NULL;
    uint32_t n = 0;

    for (struct fh_sup_worker *w = s->workers; w; w = w->next) {
        if (w->is_split || w->state == FH_SUP_PARKED)
            continue;
        n++;
        if (!best || w->n_devices < best->n_devices)
            best = w;
    }
    if (n < s->p.n_workers && (!best || best->n_devices > 0))
        best = worker_new(s, -1);
    return best;
}

struct fh_sup_worker *
fh_sup_worker_for(struct fh_sup *s, uint16_t domid)
{
    struct fh_sup_worker *w = s->workers;

    if (s->p.n_workers) {
        w = pool_worker(s);
    } else {
        while (w && (w->domid != domid || w->is_split))
            w = w->next;
        if (!w)
            w = worker_new(s, domid);
    }
    if (!w || w->n_devices >= FH_WK_STATS_QUEUES)
        return NULL;
    w->n_devices++;
    return w;
}

static void
unmap_stats(struct fh_sup_worker *w)
{
    if (w->stats)
        munmap(w->stats, fh_round_up(sizeof(*w->stats), FH_PAGE_BYTES));
    w->stats = NULL;
}

static void
worker_free(struct fh_sup_worker *w)
{
    struct fh_sup_worker **at = &w->sup->workers;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    fh_sup_source_close(w->sup, &w->pidfd);
    fh_sup_source_close(w->sup, &w->sock);
    fh_sup_source_close(w->sup, &w->fence);
    unmap_stats(w);
    free(w);
}

void
fh_sup_worker_release(struct fh_sup_worker *w)
{
    w->n_devices--;
    if (w->n_devices || (w->domid < 0 && !w->is_split))
        return;
    if (w->pid == 0 && w->state != FH_SUP_FENCED) {
        w->state = FH_SUP_NONE;
        return; /* the loop frees it */
    }
    if (w->pid > 0) { /* it drains and exits */
        w->state = FH_SUP_ENDING;
        fh_sup_source_close(w->sup, &w->sock);
    }
}

void
fh_sup_worker_kill(struct fh_sup_worker *w, const char *why)
{
    if (w->pid <= 0)
        return;
    fh_sup_log(w->sup, "worker %u (pid %d): killed: %s", w->number,
               (int)w->pid, why);
    snprintf(w->reason, sizeof(w->reason), "worker killed: %s", why);
    w->is_killed = true;
    kill(w->pid, SIGKILL);
}

void
fh_sup_worker_send(struct fh_sup_worker *w, const struct fh_wk_msg *m,
                   const int *fds, unsigned n_fds)
{
    union {
        char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl = { 0 };
    struct iovec iov = { (void *)(uintptr_t)m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds) {
        struct cmsghdr *c;

        mh.msg_control = ctl.buf;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    if (sendmsg(w->sock.fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        errno != EPIPE && errno != ECONNRESET)
        fh_sup_worker_kill(w, "it does not take messages");
}

static void
on_ready(struct fh_sup_worker *w, const struct fh_wk_msg *m)
{
    if (w->state != FH_SUP_STARTING) {
        fh_sup_worker_kill(w, "it said READY twice");
        return;
    }
    w->state = FH_SUP_READY;
    w->broker_pid = m->u.ready.broker_pid;
    w->sandboxed = m->u.ready.sandboxed;
    w->reason[0] = '\0';
    fh_sup_link_ready(w);
}

/* The worker's own message says at which step. */
static void
could_not_start(struct fh_sup_worker *w, int32_t rc)
{
    char why[64];

    snprintf(why, sizeof(why), "it could not start: %s",
             rc < 0 && rc > -4096 ? strerror(-rc) : "?");
    fh_sup_worker_kill(w, why);
}

static void
worker_socket(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup_worker *w = src->owner;
    struct fh_wk_msg m;
    ssize_t n = recv(src->fd, &m, sizeof(m), MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* it is dead, or closed its end: the same to us */
        fh_sup_source_close(w->sup, src);
        if (w->n_devices && w->pid > 0)
            kill(w->pid, SIGKILL);
        return;
    }
    if (n != sizeof(m)) {
        fh_sup_worker_kill(w, "it sent a message of a wrong size");
        return;
    }
    switch ((enum fh_wk_type)m.type) {
    case FH_WK_READY:
        if (m.rc)
            could_not_start(w, m.rc);
        else
            on_ready(w, &m);
        return;
    case FH_WK_DONE:
        fh_sup_link_answer(w, &m);
        return;
    case FH_WK_QUEUE_FAULT:
        fh_sup_link_fault(w, &m);
        return;
    case FH_WK_HELLO:
    case FH_WK_DISK_OPEN:
    case FH_WK_DISK_CLOSE:
    case FH_WK_QUEUE_CONNECT:
    case FH_WK_QUEUE_DISCONNECT:
        break;
    }
    fh_sup_worker_kill(w, "it sent a message that it may not send");
}

static void
describe_death(struct fh_sup_worker *w, const siginfo_t *si)
{
    if (w->is_killed)
        ; /* by us, and we know why */
    else if (si->si_code == CLD_EXITED && si->si_status == FH_BROKER_DIED)
        snprintf(w->reason, sizeof(w->reason), "worker exited: its broker died");
    else if (si->si_code != CLD_EXITED && si->si_status == SIGSYS)
        snprintf(w->reason, sizeof(w->reason),
                 "worker died of SIGSYS: a system call that its sandbox "
                 "forbids");
    else if (si->si_code == CLD_EXITED)
        snprintf(w->reason, sizeof(w->reason), "worker exited with status %d",
                 si->si_status);
    else
        snprintf(w->reason, sizeof(w->reason), "worker died of signal %d (%s)",
                 si->si_status, strsignal(si->si_status));
    if (w->n_devices)
        fh_sup_log(w->sup, "worker %u (pid %d): %s", w->number, (int)w->pid,
                   w->reason);
}

static void
count_death(struct fh_sup_worker *w)
{
    uint64_t now = fh_sup_now();

    if (w->state == FH_SUP_ENDING)
        return;
    if (now - w->born_ns < (uint64_t)FH_SUP_EARLY_MS * MS)
        w->early_deaths++;
    else
        w->early_deaths = 0;
    if (!w->died_ns)
        w->died_ns = now;
}

static void
worker_died(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup_worker *w = src->owner;
    struct fh_sup *s = w->sup;
    siginfo_t si = { 0 };
    int fence;

    if (waitid(P_PID, (id_t)w->pid, &si, WEXITED | WNOHANG) || !si.si_pid)
        return;
    describe_death(w, &si);
    count_death(w);
    fh_sup_link_died(w);
    w->pid = 0;
    w->broker_pid = 0;
    fh_sup_source_close(s, &w->pidfd);
    /* Unread messages hold descriptors: the fence's write end among them. */
    fh_sup_source_close(s, &w->sock);
    w->state = FH_SUP_FENCED;
    w->due_ns = fh_sup_now() + (uint64_t)FH_SUP_FENCE_MS * MS;
    fence = w->fence.fd;
    w->fence.fd = -1;
    if (s->p.no_fence) {
        close(fence);
        fence_ended(&w->fence, 0);
    } else if (fh_sup_source_add(s, &w->fence, fence, EPOLLIN, fence_ended,
                                 w)) {
        close(fence);
        w->due_ns = 0;
    }
}

static void
park(struct fh_sup_worker *w, const char *why)
{
    char was[sizeof(w->reason)];

    memcpy(was, w->reason, sizeof(was));
    w->state = FH_SUP_PARKED;
    snprintf(w->reason, sizeof(w->reason), "parked: %s; last: %.80s", why, was);
    fh_sup_log(w->sup, "worker %u %s", w->number, w->reason);
    fh_sup_link_settled(w);
}

/*
 * Which of several disks kills the worker?  Each gets one of its own: the
 * guilty one parks alone, the others live on.  The I/O of all is over.
 */
static void
split(struct fh_sup_worker *w)
{
    fh_sup_log(w->sup, "worker %u: its %u disks get workers of their own",
               w->number, w->n_devices);
    for (struct fh_sup_device *d = w->sup->devices; d; d = d->next) {
        struct fh_sup_worker *own;

        if (d->worker != w || w->n_devices == 1)
            continue;
        own = worker_new(w->sup, w->domid);
        if (!own)
            return;
        own->n_devices = 1;
        own->state = FH_SUP_WAITING;
        own->due_ns = fh_sup_now();
        own->early_deaths = w->early_deaths;
        own->died_ns = w->died_ns;
        own->is_split = true;
        memcpy(own->reason, w->reason, sizeof(own->reason));
        d->worker = own;
        w->n_devices--;
    }
}

/* The old I/O is over: whoever waited for the end has it, and a successor is
 * started for the others. */
static void
fence_ended(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup_worker *w = src->owner;
    uint64_t now = fh_sup_now();
    char byte;

    /* Only the end counts; what a worker wrote there does not. */
    if (src->fd >= 0 && read(src->fd, &byte, 1) != 0)
        return;
    fh_sup_source_close(w->sup, src);
    if (w->died_ns && now - w->died_ns > w->longest_fence_ns)
        w->longest_fence_ns = now - w->died_ns;
    w->state = FH_SUP_NONE;
    if (w->early_deaths > FH_SUP_EARLY_MAX) {
        park(w, "it died at once too often");
        return;
    }
    fh_sup_link_settled(w);
    if (!fh_sup_link_needed(w)) {
        w->died_ns = 0;
        return;
    }
    if (w->early_deaths == FH_SUP_EARLY_SPLIT && w->n_devices > 1)
        split(w);
    w->state = FH_SUP_WAITING;
    w->due_ns = now;
    if (w->early_deaths > FH_SUP_EARLY_FREE)
        w->due_ns += ((uint64_t)FH_SUP_BACKOFF_MS * MS)
                     << (w->early_deaths - FH_SUP_EARLY_FREE - 1);
}

uint64_t
fh_sup_workers_deadline(const struct fh_sup *s)
{
    uint64_t due = UINT64_MAX;

    for (const struct fh_sup_worker *w = s->workers; w; w = w->next) {
        const bool timed = w->state == FH_SUP_STARTING ||
                           w->state == FH_SUP_FENCED ||
                           w->state == FH_SUP_WAITING;

        if (timed && w->due_ns < due)
            due = w->due_ns;
    }
    return due;
}

static void
worker_due(struct fh_sup_worker *w)
{
    switch (w->state) {
    case FH_SUP_STARTING:
        w->due_ns = UINT64_MAX;
        fh_sup_worker_kill(w, "it did not become ready");
        return;
    case FH_SUP_FENCED:
        fh_sup_source_close(w->sup, &w->fence);
        park(w, "the kernel did not finish its I/O");
        return;
    case FH_SUP_WAITING:
        fh_sup_worker_start(w);
        return;
    case FH_SUP_NONE:
    case FH_SUP_READY:
    case FH_SUP_ENDING:
    case FH_SUP_PARKED:
        return;
    }
}

void
fh_sup_workers_run(struct fh_sup *s)
{
    const uint64_t now = fh_sup_now();
    struct fh_sup_worker *w = s->workers;

    while (w) {
        struct fh_sup_worker *next = w->next;
        const bool timed = w->state == FH_SUP_STARTING ||
                           w->state == FH_SUP_FENCED ||
                           w->state == FH_SUP_WAITING;

        if (w->state == FH_SUP_NONE && w->n_devices == 0 &&
            (w->domid >= 0 || w->is_split))
            worker_free(w);
        else if (timed && now >= w->due_ns)
            worker_due(w);
        w = next;
    }
}

void
fh_sup_workers_end(struct fh_sup *s)
{
    for (struct fh_sup_worker *w = s->workers; w; w = w->next)
        fh_sup_source_close(s, &w->sock);
}

uint32_t
fh_sup_workers_alive(const struct fh_sup *s)
{
    uint32_t n = 0;

    for (const struct fh_sup_worker *w = s->workers; w; w = w->next)
        n += w->pid > 0;
    return n;
}

void
fh_sup_workers_kill(struct fh_sup *s)
{
    for (struct fh_sup_worker *w = s->workers; w; w = w->next)
        if (w->pid > 0) {
            kill(w->pid, SIGKILL);
            waitpid(w->pid, NULL, 0);
            w->pid = 0;
        }
}

void
fh_sup_workers_free(struct fh_sup *s)
{
    while (s->workers)
        worker_free(s->workers);
}

const char *
fh_sup_worker_state_name(enum fh_sup_worker_state st)
{
    switch (st) {
    case FH_SUP_NONE:
        return "none";
    case FH_SUP_STARTING:
        return "starting";
    case FH_SUP_READY:
        return "running";
    case FH_SUP_ENDING:
        return "ending";
    case FH_SUP_FENCED:
        return "waiting for the kernel to finish old I/O";
    case FH_SUP_WAITING:
        return "restarting";
    case FH_SUP_PARKED:
        return "parked";
    }
    return "?";
}
