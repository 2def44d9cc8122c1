/* SPDX-License-Identifier: MIT */
/*
 * Closing descriptors that may not close at once.
 *
 * The last close of an eventfd takes the lock of every epoll that watches it.
 * The bell of a channel's end is such an epoll, and its receiver holds it: one
 * that sleeps in epoll_wait() on a page which its own FUSE server never
 * delivers holds that lock as long as it likes.  So these descriptors are
 * closed by a thread that does nothing else and shares nothing but a pipe.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "hv/hv.h"

static void *
closer(void *arg)
{
    const int in = (int)(intptr_t)arg;
    int fd;

    while (read(in, &fd, sizeof(fd)) == sizeof(fd))
        close(fd);
    return NULL;
}

int
fh_hv_closer_start(struct fh_hv *hv)
{
    pthread_t thread;
    int fds[2], r;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return -errno;
    if (fcntl(fds[1], F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    hv->closer = fds[1];
    r = pthread_create(&thread, NULL, closer, (void *)(intptr_t)fds[0]);
    if (!r)
        r = pthread_detach(thread);
    return -r;
}

void
fh_hv_close_later(struct fh_hv *hv, int fd)
{
    /* A full pipe: thousands wait behind one that hangs.  Better to lose a
     * descriptor than to wait for who did that. */
    if (fd >= 0 && write(hv->closer, &fd, sizeof(fd)) != sizeof(fd))
        hv->n_lost_fds++;
}
