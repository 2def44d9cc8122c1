/* SPDX-License-Identifier: MIT */
/*
 * The hypercall threads, the lock between them and the control thread, and how
 * one knows that the others look at something no more (quiesce.h).
 *
 * The lock is first come, first served: the control thread has it in every turn,
 * and one that took it again at once would starve the others.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/quiesce.h"

/* ---------------------------------------------------------------- the lock */

struct fh_hv_line {
    pthread_mutex_t mutex;
    pthread_cond_t moved;
    uint64_t next, serving;
};

static struct fh_hv_line *
line_new(void)
{
    struct fh_hv_line *line = calloc(1, sizeof(*line));

    if (!line)
        return NULL;
    if (pthread_mutex_init(&line->mutex, NULL) ||
        pthread_cond_init(&line->moved, NULL)) {
        free(line);
        return NULL;
    }
    return line;
}

bool
fh_hv_lock(struct fh_hv_thread *th)
{
    struct fh_hv_line *line = th->hv->line;

    if (th->is_locked || !th->hv->n_threads)
        return false;
    pthread_mutex_lock(&line->mutex);
    const uint64_t own = line->next++;

    while (line->serving != own)
        pthread_cond_wait(&line->moved, &line->mutex);
    pthread_mutex_unlock(&line->mutex);
    th->is_locked = true;
    return true;
}

void
fh_hv_unlock(struct fh_hv_thread *th, bool locked)
{
    struct fh_hv_line *line = th->hv->line;

    if (!locked)
        return;
    th->is_locked = false;
    pthread_mutex_lock(&line->mutex);
    line->serving++;
    pthread_cond_broadcast(&line->moved);
    pthread_mutex_unlock(&line->mutex);
}

/* ------------------------------------------------------------- quiescence */

void
fh_hv_grace_start(struct fh_hv *hv, struct fh_hv_grace *grace)
{
    fh_hv_epoch_barrier();
    for (uint32_t i = 0; i < hv->n_threads; i++)
        grace->seen[i] = fh_hv_epoch_read(&hv->threads[i + 1].epoch);
}

bool
fh_hv_grace_over(const struct fh_hv *hv, const struct fh_hv_grace *grace)
{
    for (uint32_t i = 0; i < hv->n_threads; i++) {
        if (!fh_hv_epoch_over(&hv->threads[i + 1].epoch, grace->seen[i]))
            return false;
    }
    return true;
}

/* ----------------------------------------------------------- the threads */

static void
wake_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    uint64_t n;

    if (read(src->fd, &n, sizeof(n)) < 0)
        return; /* another turn is all that was wanted */
}

void
fh_hv_wake(struct fh_hv_thread *th)
{
    const uint64_t one = 1;

    if (write(th->wake.fd, &one, sizeof(one)) < 0)
        return; /* full: it will wake */
}

static int
thread_init(struct fh_hv *hv, uint32_t index)
{
    struct fh_hv_thread *th = &hv->threads[index];

    th->hv = hv;
    th->index = index;
    TAILQ_INIT(&th->work);
    fh_gnt_ctx_init(&th->gnt, &fh_hv_gnt_ops, th, index);
    th->epfd = epoll_create1(EPOLL_CLOEXEC);
    th->wake.ready = wake_ready;
    th->wake.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (th->epfd < 0 || th->wake.fd < 0)
        return -errno;
    return fh_hv_watch(th, &th->wake, EPOLLIN);
}

int
fh_hv_threads_init(struct fh_hv *hv)
{
    hv->line = line_new();
    if (!hv->line)
        return FH_ENOMEM;
    for (uint32_t i = 0; i <= hv->n_threads; i++) {
        int r = thread_init(hv, i);

        if (r)
            return r;
    }
    return 0;
}

/* A loop that fails leaves nobody to serve its connections. */
static void *
thread_main(void *arg)
{
    struct fh_hv_thread *th = arg;

    if (fh_hv_loop(th))
        abort();
    return NULL;
}

int
fh_hv_threads_start(struct fh_hv *hv)
{
    for (uint32_t i = 1; i <= hv->n_threads; i++) {
        struct fh_hv_thread *th = &hv->threads[i];
        int r = pthread_create(&th->id, NULL, thread_main, th);

        if (r)
            return -r;
    }
    return 0;
}

void
fh_hv_threads_stop(struct fh_hv *hv)
{
    fh_store_release32(&hv->is_stopping, 1);
    for (uint32_t i = 1; i <= hv->n_threads; i++) {
        if (!hv->threads[i].id)
            continue;
        fh_hv_wake(&hv->threads[i]);
        pthread_join(hv->threads[i].id, NULL);
    }
}

static struct fh_hv_thread *
idlest(struct fh_hv *hv)
{
    struct fh_hv_thread *best = NULL;

    for (uint32_t i = 1; i <= hv->n_threads; i++) {
        if (!best || hv->threads[i].n_conns < best->n_conns)
            best = &hv->threads[i];
    }
    return best;
}

struct fh_hv_thread *
fh_hv_thread_pick(struct fh_hv_domain *dom)
{
    if (!dom->domid)
        return idlest(dom->hv);
    if (!dom->home)
        dom->home = idlest(dom->hv);
    return dom->home;
}
