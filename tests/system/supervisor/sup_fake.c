/* SPDX-License-Identifier: MIT */
/*
 * The real supervisor with a false worker: what may a worker do that a guest
 * has taken over, or that is plainly broken?
 *
 *   sup_fake serve RUN_DIR     the supervisor
 *   sup_fake --worker FD       (by the supervisor) misbehaves as SUP_FAKE says
 *
 * Each worker adds a line to SUP_FAKE_LOG: the time, in ms, and its pid.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "blkback/proto.h"
#include "blkback/supervisor.h"

enum { HOLD_S = 2 };

static uint32_t disk;

static void
note_start(int *count)
{
    const char *path = getenv("SUP_FAKE_LOG");
    char line[64], all[65536];
    struct timespec t;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND, 0600);
    ssize_t n = read(fd, all, sizeof(all));

    *count = 0;
    for (ssize_t i = 0; i < n; i++)
        *count += all[i] == '\n';
    clock_gettime(CLOCK_MONOTONIC, &t);
    snprintf(line, sizeof(line), "%lld %d\n",
             (long long)t.tv_sec * 1000 + t.tv_nsec / 1000000, (int)getpid());
    if (write(fd, line, strlen(line)) < 0)
        exit(3);
    close(fd);
}

/* One message; the first descriptor that came with it, or -1. */
static int
receive(int sock, struct fh_wk_msg *m)
{
    union {
        char buf[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } ctl;
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf) };
    struct cmsghdr *c;
    int fd = -1;

    if (recvmsg(sock, &mh, 0) <= 0)
        exit(0);
    c = CMSG_FIRSTHDR(&mh);
    if (c)
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

static void
tell(int sock, uint32_t type, uint32_t seq, int rc, uint32_t of_disk)
{
    struct fh_wk_msg m = { .type = type, .seq = seq, .rc = rc,
                           .disk = of_disk };

    send(sock, &m, sizeof(m), MSG_NOSIGNAL);
}

static bool
is(const char *what)
{
    return !strcmp(getenv("SUP_FAKE"), what);
}

/* At the start. */
static void
misbehave_early(int sock, uint32_t seq)
{
    if (is("exit"))
        exit(7);
    if (is("short"))
        send(sock, "hello", 5, MSG_NOSIGNAL);
    if (is("unable"))
        tell(sock, FH_WK_READY, seq, FH_ENOSYS, 0);
    tell(sock, FH_WK_READY, seq, 0, 0);
    if (is("twice"))
        tell(sock, FH_WK_READY, seq, 0, 0);
    if (is("liar"))
        tell(sock, FH_WK_DONE, 12345, 0, 0);
    if (is("order"))
        tell(sock, FH_WK_DISK_OPEN, 1, 0, 0);
    if (is("strange"))
        tell(sock, 4711, 1, 0, 0);
}

/* Once the queue is up. */
static void
misbehave_late(int sock, int count)
{
    if (is("slander"))
        tell(sock, FH_WK_QUEUE_FAULT, 0, FH_WK_E_BROKEN, disk + 1000);
    while (is("babble"))
        tell(sock, FH_WK_QUEUE_FAULT, 0, FH_WK_E_BROKEN, disk);
    if (is("killer") && disk == 1)
        raise(SIGSEGV);
    if (is("fault"))
        tell(sock, FH_WK_QUEUE_FAULT, 0, FH_WK_E_BROKEN, disk);
    if (is("hold") && count == 0) {
        if (fork() == 0) { /* keeps the fence's write end, as a ring would */
            close(sock);
            sleep(HOLD_S);
            _exit(0);
        }
        usleep(100000);
        raise(SIGKILL);
    }
}

static void __attribute__((noreturn))
fake_worker(int sock)
{
    struct fh_wk_msg m;
    int count;

    note_start(&count);
    receive(sock, &m);
    misbehave_early(sock, m.seq);
    for (;;) {
        receive(sock, &m);
        disk = m.disk;
        if (is("mute") && m.type == FH_WK_QUEUE_DISCONNECT)
            continue;
        tell(sock, FH_WK_DONE, m.seq,
             is("refuse") && m.type == FH_WK_QUEUE_CONNECT ? FH_WK_E_RING : 0,
             m.disk);
        if (m.type == FH_WK_QUEUE_CONNECT)
            misbehave_late(sock, count);
    }
}

int
main(int argc, char **argv)
{
    struct fh_supervisor_params p = FH_SUPERVISOR_DEFAULTS;

    if (argc == 3 && !strcmp(argv[1], "--worker"))
        fake_worker(atoi(argv[2]));
    if (argc < 3)
        return 2;
    p.run_dir = argv[2];
    p.verbose = true;
    p.no_fence = getenv("SUP_FAKE_NO_FENCE") != NULL;
    p.answer_ms = 1000;
    return fh_supervisor_main(&p);
}
