/* SPDX-License-Identifier: MIT */
/*
 * A worker without a supervisor, and with its next one.
 *
 * A supervisor's death is not a guest's: whoever has a queue goes on, listens,
 * and hands the next supervisor what the dead one had.  A lonely worker ends
 * when its last queue is gone; when nobody can find it (its name is gone from
 * the run directory); or when neither a supervisor came nor a request for
 * lonely_ns: its frontend may be dead, which nobody tells it.  The last two are
 * like a crash: the recovery state stays active, so that a guest that was only
 * idle goes on when a supervisor is back.
 *
 * Who connects is not asked: the socket's directory is the supervisor's alone.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/worker_int.h"

/* Looks so often whether its name is still there. */
#define LOOK_NS 2000000000ull
#define SECOND_NS 1000000000ull

void
fh_wk_listen(struct fh_wk *wk, const struct fh_wk_msg *hello, int *fds)
{
    const uint32_t s = hello->u.hello.lonely_s;

    if (!hello->u.hello.listens || listen(fds[FH_WK_HELLO_LISTEN], 1))
        return;
    wk->lonely_ns = (s ? s : FH_WK_LONELY_S) * SECOND_NS;
    wk->listen_fd = fds[FH_WK_HELLO_LISTEN];
    wk->name_fd = fds[FH_WK_HELLO_NAME];
    wk->stats_fd = fds[FH_WK_HELLO_STATS];
    fds[FH_WK_HELLO_LISTEN] = fds[FH_WK_HELLO_NAME] = -1;
    fds[FH_WK_HELLO_STATS] = -1;
}

/* ---- what is kept ---- */

void
fh_wk_keep(struct fh_wk_disk *d, const struct fh_wk_msg *m, int *fds)
{
    for (unsigned i = 0; i < FH_WK_N_FDS; i++) {
        d->kept[i] = -1;
        if (!(m->u.disk.keep & FH_WK_FD_BIT(i)))
            continue;
        d->kept[i] = fds[i];
        fds[i] = -1;
    }
}

void
fh_wk_unkeep(struct fh_wk_disk *d)
{
    fh_wk_close_fds(d->kept);
}

/* ---- alone ---- */

static uint64_t
count_requests(const struct fh_wk *wk)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (wk->queue[i])
            n += wk->queue[i]->queue.ring.req_cons;
    return n;
}

/* Answers that the dead supervisor waited for are nobody's. */
static void
forget_questions(struct fh_wk *wk)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (wk->queue[i])
            wk->queue[i]->answer_due = false;
}

void
fh_wk_abandoned(struct fh_wk *wk)
{
    close(wk->ctl_fd);
    wk->ctl_fd = -1;
    fh_uring_watch(&wk->u, FH_WK_WATCH_CTL, wk->listen_fd);
    if (wk->listen_fd < 0) {
        wk->is_broken = true;
        return;
    }
    forget_questions(wk);
    wk->is_lonely = true;
    wk->lonely_since_ns = wk->worker.back.now_ns;
    wk->lonely_requests = count_requests(wk);
    wk->look_ns = wk->worker.back.now_ns + LOOK_NS;
}

static bool
has_name(const struct fh_wk *wk)
{
    struct stat st;

    return !fstat(wk->name_fd, &st) && st.st_nlink;
}

/* When it is due. */
static void
look(struct fh_wk *wk, uint64_t now)
{
    const uint64_t n = count_requests(wk);

    wk->look_ns = now + LOOK_NS;
    if (n != wk->lonely_requests) {
        wk->lonely_requests = n;
        wk->lonely_since_ns = now;
    }
    wk->is_broken |= now - wk->lonely_since_ns > wk->lonely_ns || !has_name(wk);
}

/* Every turn asks. */
void
fh_wk_look(struct fh_wk *wk)
{
    const uint64_t now = wk->worker.back.now_ns;

    if (!wk->is_lonely)
        return;
    if (!wk->worker.n_queues)
        wk->is_ending = true;
    if (now >= wk->look_ns)
        look(wk, now);
}

uint64_t
fh_wk_look_due(const struct fh_wk *wk)
{
    return wk->is_lonely ? wk->look_ns : UINT64_MAX;
}

/* ---- adopted ---- */

static const struct fh_wk_queue *
queue_of(const struct fh_wk *wk, const struct fh_wk_disk *d)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (wk->queue[i] && wk->queue[i]->disk == d)
            return wk->queue[i];
    return NULL;
}

static void
tell_disk(struct fh_wk *wk, const struct fh_wk_disk *d)
{
    const struct fh_wk_queue *q = queue_of(wk, d);
    struct fh_wk_msg m = { .type = FH_WK_HAVE, .disk = d->disk.id };
    int fds[FH_WK_N_FDS];
    unsigned n = 0;

    m.u.have.has_queue = q != NULL;
    m.u.have.faulted = q && q->queue.fault_told;
    for (unsigned i = 0; i < FH_WK_N_FDS; i++) {
        if (d->kept[i] < 0)
            continue;
        m.u.have.fds |= FH_WK_FD_BIT(i);
        fds[n++] = d->kept[i];
    }
    fh_wk_send_fds(wk, &m, fds, n);
}

static bool
exchange_greetings(struct fh_wk *wk)
{
    struct fh_wk_greeting g = { 0 };
    const ssize_t n = recv(wk->ctl_fd, &g, sizeof(g), MSG_DONTWAIT);
    const bool ours = n == (ssize_t)sizeof(g) && g.magic == FH_WK_MAGIC &&
                      g.version == FH_WK_VERSION;

    g = (struct fh_wk_greeting){
        .magic = FH_WK_MAGIC,
        .version = FH_WK_VERSION,
        .worker = wk->number,
        .n_disks = wk->worker.n_disks,
    };
    (void)send(wk->ctl_fd, &g, sizeof(g), MSG_NOSIGNAL | MSG_DONTWAIT);
    return ours;
}

/* The first message of a new supervisor is in. */
static void
greet(struct fh_wk *wk)
{
    wk->is_greeting = false;
    if (!exchange_greetings(wk)) {
        fh_wk_abandoned(wk);
        return;
    }
    wk->is_lonely = false;
    for (uint32_t i = 0; i < FH_WORKER_MAX_DISKS; i++)
        if (wk->disk[i])
            tell_disk(wk, wk->disk[i]);
    fh_wk_tell_ready(wk, 0, 0);
}

static void
take_supervisor(struct fh_wk *wk)
{
    const int fd = accept4(wk->listen_fd, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return;
    wk->ctl_fd = fd;
    wk->is_greeting = true;
    fh_uring_watch(&wk->u, FH_WK_WATCH_CTL, fd);
}

bool
fh_wk_adopt(struct fh_wk *wk)
{
    if (wk->ctl_fd < 0)
        take_supervisor(wk);
    else if (wk->is_greeting)
        greet(wk);
    else
        return false;
    return true;
}
