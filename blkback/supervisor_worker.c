/* SPDX-License-Identifier: MIT */
/*
 * Workers as processes: start (supervisor_spawn.c), death, fence, successor.
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
#include <poll.h>
#include <signal.h>
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
#include "blkback/supervisor_state.h"

enum {
    MAX_FDS = FH_WK_N_FDS,
    MS = 1000000,
};

static void
worker_socket(struct fh_sup_source *src, uint32_t events);
static void
worker_died(struct fh_sup_source *src, uint32_t events);
static void
fence_ended(struct fh_sup_source *src, uint32_t events);

int
fh_sup_worker_watch(struct fh_sup_worker *w, pid_t pid, int pidfd)
{
    int r = fh_sup_source_add(w->sup, &w->pidfd, pidfd, EPOLLIN, worker_died,
                              w);

    if (r)
        close(pidfd);
    else
        w->pid = pid;
    return r;
}

int
fh_sup_worker_talk(struct fh_sup_worker *w, int sock)
{
    return fh_sup_source_add(w->sup, &w->sock, sock, EPOLLIN, worker_socket, w);
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
    int r;

    if (w->state != FH_SUP_NONE && w->state != FH_SUP_WAITING)
        return;
    w->incarnations++;
    w->is_killed = false;
    w->state = FH_SUP_STARTING;
    w->born_ns = fh_sup_now();
    w->due_ns = w->born_ns + (uint64_t)FH_SUP_READY_MS * MS;
    r = fh_sup_spawn(w);
    if (r)
        start_failed(w, r);
}

static uint32_t
uid_of(const struct fh_sup *s, uint32_t number)
{
    const uint32_t own = geteuid();

    return own == 0 && s->p.uid_base ? s->p.uid_base + number : own;
}

/* The list is in the order of the numbers. */
struct fh_sup_worker *
fh_sup_worker_insert(struct fh_sup *s, uint32_t number, int domid)
{
    struct fh_sup_worker **at = &s->workers;
    struct fh_sup_worker *w;

    while (*at && (*at)->number < number)
        at = &(*at)->next;
    if (*at && (*at)->number == number)
        return *at;
    if (number > FH_SUP_MAX_WORKERS)
        return NULL;
    w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->sup = s;
    w->number = number;
    w->domid = domid;
    w->uid = uid_of(s, number);
    w->pidfd.fd = w->sock.fd = w->fence.fd = -1;
    w->fence.owner = w;
    w->next = *at;
    *at = w;
    return w;
}

static struct fh_sup_worker *
worker_new(struct fh_sup *s, int domid)
{
    uint32_t number = 1;

    for (struct fh_sup_worker *w = s->workers; w && w->number == number;
         w = w->next)
        number++;
    return fh_sup_worker_insert(s, number, domid);
}

/* In a pool: the one with the fewest devices, or a new one. */
static struct fh_sup_worker *
pool_worker(struct fh_sup *s)
{
    struct fh_sup_worker *best = NULL;
    uint32_t n = 0;

    for (struct fh_sup_worker *w = s->workers; w; w = w->next) {
        if (w->is_split || w->domid >= 0 || w->state == FH_SUP_PARKED ||
            w->state == FH_SUP_FOREIGN)
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
        while (w && (w->domid != domid || w->is_split ||
                     w->state == FH_SUP_FOREIGN))
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
    fh_sup_worker_forget(w->sup, w->number);
    free(w);
}

/* It drains and exits.  Without END it would wait for the next supervisor. */
static void
end_worker(struct fh_sup_worker *w)
{
    const struct fh_wk_msg m = { .type = FH_WK_END };

    if (w->sock.fd < 0)
        return;
    fh_sup_worker_send(w, &m, NULL, 0);
    fh_sup_source_close(w->sup, &w->sock);
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
    if (w->pid > 0) {
        w->state = FH_SUP_ENDING;
        end_worker(w);
    }
}

/* By its descriptor: the number may be another's. */
static void
kill_process(struct fh_sup_worker *w)
{
    if (w->pidfd.fd >= 0)
        (void)syscall(SYS_pidfd_send_signal, w->pidfd.fd, SIGKILL, NULL, 0);
    else if (w->is_child)
        kill(w->pid, SIGKILL);
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
    kill_process(w);
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
note_ready(struct fh_sup_worker *w, const struct fh_wk_msg *m)
{
    w->state = FH_SUP_READY;
    w->broker_pid = m->u.ready.broker_pid;
    w->sandboxed = m->u.ready.sandboxed;
    w->reason[0] = '\0';
}

void
fh_sup_worker_adopted(struct fh_sup_worker *w, const struct fh_wk_msg *ready)
{
    w->sock.ready = worker_socket;
    note_ready(w, ready);
    if (w->n_devices) {
        fh_sup_link_ready(w);
        return;
    }
    w->state = FH_SUP_ENDING; /* nobody needs it */
    end_worker(w);
}

static void
on_ready(struct fh_sup_worker *w, const struct fh_wk_msg *m)
{
    if (w->state != FH_SUP_STARTING) {
        fh_sup_worker_kill(w, "it said READY twice");
        return;
    }
    note_ready(w, m);
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
            kill_process(w);
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
    case FH_WK_END:
    case FH_WK_HAVE:
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
    else if (!w->is_child)
        snprintf(w->reason, sizeof(w->reason), "worker died");
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

    /* A descriptor of a process is readable when that is over. */
    if (w->is_child && (waitid(P_PID, (id_t)w->pid, &si, WEXITED | WNOHANG) ||
                        !si.si_pid))
        return;
    describe_death(w, &si);
    count_death(w);
    fh_sup_link_died(w);
    w->pid = 0;
    w->broker_pid = 0;
    w->is_child = false;
    fh_sup_source_close(s, &w->pidfd);
    /* Unread messages hold descriptors: the fence's write end among them. */
    fh_sup_source_close(s, &w->sock);
    fh_sup_worker_fence(w);
}

void
fh_sup_worker_fence(struct fh_sup_worker *w)
{
    struct fh_sup *s = w->sup;
    const int fence = w->fence.fd;

    fh_sup_source_close(s, &w->pidfd);
    fh_sup_source_close(s, &w->sock);
    w->pid = 0;
    if (w->state != FH_SUP_FOREIGN || w->n_devices) /* else it may live */
        w->state = FH_SUP_FENCED;
    w->due_ns = fh_sup_now() + (uint64_t)FH_SUP_FENCE_MS * MS;
    w->fence.fd = -1;
    w->fence.owner = w;
    /* One that nobody has held since it was opened here would never wake us. */
    if (fence < 0 || s->p.no_fence || !fh_sup_fence_is_held(fence)) {
        if (fence >= 0)
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
        fh_sup_state_save(d);
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

static bool
is_timed(const struct fh_sup_worker *w)
{
    return w->state == FH_SUP_STARTING || w->state == FH_SUP_ADOPTING ||
           w->state == FH_SUP_FENCED || w->state == FH_SUP_WAITING;
}

uint64_t
fh_sup_workers_deadline(const struct fh_sup *s)
{
    uint64_t due = UINT64_MAX;

    for (const struct fh_sup_worker *w = s->workers; w; w = w->next) {
        const bool timed = is_timed(w);

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
    case FH_SUP_ADOPTING:
        w->due_ns = UINT64_MAX;
        fh_sup_worker_kill(w, "it does not answer");
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
    case FH_SUP_FOREIGN:
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
        const bool timed = is_timed(w);

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
        end_worker(w);
}

uint32_t
fh_sup_workers_alive(const struct fh_sup *s)
{
    uint32_t n = 0;

    for (const struct fh_sup_worker *w = s->workers; w; w = w->next)
        n += w->pid > 0;
    return n;
}

static void
wait_for_end(const struct fh_sup_worker *w)
{
    struct pollfd p = { .fd = w->pidfd.fd, .events = POLLIN };

    if (w->is_child)
        waitpid(w->pid, NULL, 0);
    else
        (void)poll(&p, 1, FH_SUP_STOP_EXIT_MS);
}

void
fh_sup_workers_kill(struct fh_sup *s)
{
    for (struct fh_sup_worker *w = s->workers; w; w = w->next)
        if (w->pid > 0) {
            kill_process(w);
            wait_for_end(w);
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
    case FH_SUP_ADOPTING:
        return "being taken over";
    case FH_SUP_FOREIGN:
        return "of another version";
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
