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
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "blkback/proto.h"
#include "blkback/recovery.h"
#include "blkback/supervisor.h"

enum { HOLD_S = 2 };

static uint32_t disk;
static int given[FH_WK_N_FDS];
static uint32_t given_mask;

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

/* One message and its descriptors (-1: no more); false: the end. */
static bool
receive(int sock, struct fh_wk_msg *m, int *fds)
{
    union {
        char buf[CMSG_SPACE(FH_WK_N_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl;
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf) };
    struct cmsghdr *c;

    for (int i = 0; i < FH_WK_N_FDS; i++)
        fds[i] = -1;
    if (recvmsg(sock, &mh, 0) <= 0)
        return false;
    c = CMSG_FIRSTHDR(&mh);
    if (c)
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return true;
}

static void
send_fds(int sock, const struct fh_wk_msg *m, const int *fds, size_t n)
{
    union {
        char buf[CMSG_SPACE(FH_WK_N_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl = { 0 };
    struct iovec iov = { (void *)(uintptr_t)m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

    ctl.align.cmsg_level = SOL_SOCKET;
    ctl.align.cmsg_type = SCM_RIGHTS;
    ctl.align.cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(&ctl.align), fds, n * sizeof(int));
    sendmsg(sock, &mh, MSG_NOSIGNAL);
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

/* The ring is in use: a successor has something to resume. */
static void
activate(int rec_fd)
{
    const uint32_t active = 1;

    if (pwrite(rec_fd, &active, sizeof(active),
               offsetof(struct fh_rec_file, queue[0].active)) < 0)
        exit(3);
}

static void
answer(int sock, const struct fh_wk_msg *m)
{
    tell(sock, FH_WK_DONE, m->seq,
         is("refuse") && m->type == FH_WK_QUEUE_CONNECT ? FH_WK_E_RING : 0,
         m->disk);
}

/* Until the supervisor is gone. */
static void
serve(int sock, int count)
{
    int fds[FH_WK_N_FDS];
    struct fh_wk_msg m;

    while (receive(sock, &m, fds)) {
        if (m.type == FH_WK_END)
            exit(0);
        disk = m.disk;
        if (is("mute") && m.type == FH_WK_QUEUE_DISCONNECT)
            continue;
        if (m.type == FH_WK_DISK_OPEN) {
            memcpy(given, fds, sizeof(given));
            given_mask = m.u.disk.fds;
            activate(given[!!(given_mask & 1)]);
        }
        answer(sock, &m);
        if (m.type == FH_WK_QUEUE_CONNECT)
            misbehave_late(sock, count);
    }
}

/* What it says that it has to the next supervisor. */
static void
hand_over(int sock, int stats)
{
    struct fh_wk_msg m = { .type = FH_WK_HAVE, .disk = disk };
    const int junk[] = { stats, stats, stats, stats };

    m.u.have.has_queue = 1;
    m.u.have.fds = is("poor") ? 0 : given_mask;
    if (is("stranger"))
        m.disk += 1000;
    if (is("poor"))
        send(sock, &m, sizeof(m), MSG_NOSIGNAL);
    else
        send_fds(sock, &m, is("thief") ? junk : given,
                 (size_t)__builtin_popcount(given_mask));
    m = (struct fh_wk_msg){ .type = is("orders") ? FH_WK_END : FH_WK_READY };
    send_fds(sock, &m, is("blind") ? given : &stats, 1);
}

static void
next_supervisor(int listener, int stats)
{
    struct fh_wk_greeting g = { 0 };
    struct pollfd p = { .fd = listener, .events = POLLIN };
    int sock = poll(&p, 1, -1) == 1 ? accept(listener, NULL, NULL) : -1;

    if (sock < 0 || recv(sock, &g, sizeof(g), 0) != sizeof(g))
        exit(4);
    while (is("sleepy"))
        pause();
    g.version += is("foreign");
    g.magic += is("rude");
    g.worker = 1;
    send(sock, &g, sizeof(g), MSG_NOSIGNAL);
    if (!is("foreign")) {
        hand_over(sock, stats);
        serve(sock, 1);
    }
    close(sock);
}

static void __attribute__((noreturn))
fake_worker(int sock)
{
    int fds[FH_WK_N_FDS];
    struct fh_wk_msg m;
    int count;

    note_start(&count);
    if (!receive(sock, &m, fds))
        exit(0);
    if (m.u.hello.uid && setresuid(m.u.hello.uid, m.u.hello.uid,
                                   m.u.hello.uid))
        exit(5);
    if (m.u.hello.listens)
        listen(fds[2], 1);
    misbehave_early(sock, m.seq);
    serve(sock, count);
    close(sock);
    while (m.u.hello.listens)
        next_supervisor(fds[2], fds[1]);
    exit(0);
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
