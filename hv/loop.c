/* SPDX-License-Identifier: MIT */
/*
 * The loop of a thread: descriptors that are ready, one slice of every
 * unfinished piece of work, the burial of what died meanwhile; again.  No piece
 * of work is long and none waits for a client, so every domain is served within
 * a turn.
 *
 * The control thread has hv->lock in its turns; the others have an epoch.
 *
 * A listener that runs into the limit of descriptors rests for a while instead
 * of being woken at once again by the connection that waits.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/quiesce.h"

int
fh_hv_watch(struct fh_hv_thread *th, struct fh_hv_src *src, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = src };

    src->is_dead = false;
    src->th = th;
    if (epoll_ctl(th->epfd, EPOLL_CTL_ADD, src->fd, &ev) < 0)
        return -errno;
    return 0;
}

void
fh_hv_rewatch(struct fh_hv_src *src, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = src };

    /* Cannot fail: the descriptor is ours and registered. */
    (void)epoll_ctl(src->th->epfd, EPOLL_CTL_MOD, src->fd, &ev);
}

void
fh_hv_bury(struct fh_hv_src *src)
{
    if (src->is_dead)
        return;
    src->is_dead = true;
    /* By hand: a client may hold a duplicate of the descriptor. */
    (void)epoll_ctl(src->th->epfd, EPOLL_CTL_DEL, src->fd, NULL);
    close(src->fd);
    src->fd = -1;
    if (src->free)
        SLIST_INSERT_HEAD(&src->th->dead, src, dead_link);
}

void
fh_hv_enqueue(struct fh_hv_thread *th, struct fh_hv_work *work)
{
    if (work->is_queued)
        return;
    work->is_queued = true;
    TAILQ_INSERT_TAIL(&th->work, work, link);
}

static void
reap(struct fh_hv_thread *th)
{
    struct fh_hv_src *src;

    while ((src = SLIST_FIRST(&th->dead))) {
        SLIST_REMOVE_HEAD(&th->dead, dead_link);
        src->free(src);
    }
}

/* One slice of everything that was queued when we began. */
static void
work_slice(struct fh_hv_thread *th)
{
    struct fh_hv_work_list list = TAILQ_HEAD_INITIALIZER(list);
    struct fh_hv_work_list skipped = TAILQ_HEAD_INITIALIZER(skipped);
    struct fh_hv_work *work;

    TAILQ_CONCAT(&list, &th->work, link);
    while ((work = TAILQ_FIRST(&list))) {
        TAILQ_REMOVE(&list, work, link);
        work->is_queued = false;
        switch (work->step(th->hv, work)) {
        case FH_HV_STEP_DONE:
            break;
        case FH_HV_STEP_AGAIN:
            fh_hv_enqueue(th, work);
            break;
        case FH_HV_STEP_SKIPPED:
            work->is_queued = true;
            TAILQ_INSERT_TAIL(&skipped, work, link);
            break;
        }
    }
    TAILQ_CONCAT(&skipped, &th->work, link);
    TAILQ_CONCAT(&th->work, &skipped, link);
}

static uint64_t
now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static void
accept_pause(struct fh_hv *hv, bool pause)
{
    struct fh_hv_listener *l;

    hv->is_accept_paused = pause;
    hv->accept_again_ms = now_ms() + FH_HV_ACCEPT_PAUSE_MS;
    LIST_FOREACH(l, &hv->listeners, link)
        fh_hv_rewatch(&l->src, pause ? 0 : EPOLLIN);
}

/* What the control thread does after everything else in its turn. */
static void
control_finish(struct fh_hv *hv)
{
    if (hv->is_accept_paused && now_ms() >= hv->accept_again_ms)
        accept_pause(hv, false);
    fh_hv_xs_flush(hv);
    fh_hv_ending_retry(hv);
    fh_hv_files_reap(hv);
    fh_hv_domains_reap(hv);
}

/* How long @th may sleep. */
static int
wait_ms(const struct fh_hv_thread *th)
{
    const struct fh_hv *hv = th->hv;

    if (!TAILQ_EMPTY(&th->work))
        return 0;
    if (th->index)
        return -1;
    if (hv->retry.head || hv->n_doomed || !STAILQ_EMPTY(&hv->dead_files))
        return FH_HV_GRACE_MS;
    return hv->is_accept_paused ? FH_HV_ACCEPT_PAUSE_MS : -1;
}

static void
turn(struct fh_hv_thread *th, const struct epoll_event *evs, int n)
{
    const bool is_control = th->index == 0;
    const bool locked = is_control && fh_hv_lock(th);

    fh_hv_epoch_enter(&th->epoch);
    th->turn++;
    for (int i = 0; i < n; i++) {
        struct fh_hv_src *src = evs[i].data.ptr;

        if (!src->is_dead)
            src->ready(th->hv, src, evs[i].events);
    }
    work_slice(th);
    if (is_control)
        control_finish(th->hv);
    reap(th);
    fh_hv_epoch_leave(&th->epoch);
    th->wait_ms = wait_ms(th);
    fh_hv_unlock(th, locked);
}

int
fh_hv_loop(struct fh_hv_thread *th)
{
    struct epoll_event evs[FH_HV_EVENTS_PER_TURN];

    th->wait_ms = wait_ms(th);
    while (!fh_load_acquire32(&th->hv->is_stopping)) {
        int n = epoll_wait(th->epfd, evs, FH_HV_EVENTS_PER_TURN, th->wait_ms);

        if (n < 0 && errno != EINTR)
            return -errno;
        turn(th, evs, n);
    }
    return 0;
}

static void
listener_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    struct fh_hv_listener *l = (struct fh_hv_listener *)src;
    int fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd >= 0)
        l->accepted(hv, l, fd);
    else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
             errno == ENOMEM)
        accept_pause(hv, true);
}

int
fh_hv_listen(struct fh_hv *hv, struct fh_hv_listener *l, const char *path,
             int type, uid_t uid)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int r;

    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    unlink(path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(path, 0600) < 0 ||
        (uid != hv->uid && chown(path, uid, (gid_t)-1) < 0) ||
        listen(fd, 128) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    l->src = (struct fh_hv_src){ .fd = fd, .ready = listener_ready };
    r = fh_hv_watch(fh_hv_control(hv), &l->src, EPOLLIN);
    if (r) {
        close(fd);
        return r;
    }
    LIST_INSERT_HEAD(&hv->listeners, l, link);
    return 0;
}

void
fh_hv_unlisten(struct fh_hv *hv, struct fh_hv_listener *l)
{
    if (!l->src.ready || l->src.is_dead)
        return;
    LIST_REMOVE(l, link);
    fh_hv_bury(&l->src);
}

bool
fh_hv_peer_allowed(const struct fh_hv *hv, const struct fh_hv_domain *dom,
                   int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
        return false;
    return cred.uid == hv->uid || cred.uid == 0 ||
           (dom && cred.uid == dom->user);
}

int
fh_hv_fds_take(struct fh_hv_domain *dom, uint32_t n)
{
    struct fh_hv *hv = dom->hv;

    if (hv->n_fds + n + FH_HV_FDS_RESERVED > hv->fd_limit)
        return FH_EMFILE;
    /* Domain 0 serves the others; one of those gets a quarter at most. */
    if (dom->domid && dom->n_fds + n > hv->fd_limit / 4)
        return FH_EMFILE;
    dom->n_fds += n;
    hv->n_fds += n;
    return 0;
}

void
fh_hv_fds_drop(struct fh_hv_domain *dom, uint32_t n)
{
    dom->n_fds -= n;
    dom->hv->n_fds -= n;
}
