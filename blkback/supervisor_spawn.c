/* SPDX-License-Identifier: MIT */
/*
 * The start of a worker's process, and all that it is given: its socket, its
 * fence, its statistics page, and where the next supervisor will look for it.
 * What follows is supervisor_worker.c's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/supervisor_state.h"

extern char **environ;

enum { WORKER_FD = 3 }; /* where the child finds its socket */

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
    /* Our terminal is no business of a process that guests talk to. */
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
    posix_spawn_file_actions_adddup2(&files, 0, 1);
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

/* What a worker is given at its start. */
struct gift {
    int sock[2]; /* ours, its */
    int fence[2];
    int stats;
    int listener[2]; /* the socket, its name */
};

static void
send_hello(struct fh_sup_worker *w, const struct gift *g)
{
    const struct fh_supervisor_params *p = &w->sup->p;
    struct fh_wk_msg m = { .type = FH_WK_HELLO, .seq = ++w->seq };
    const int fds[] = { g->fence[1], g->stats, g->listener[0],
                        g->listener[1] };
    const bool listens = g->listener[1] >= 0;

    m.u.hello.worker = w->number;
    m.u.hello.polling = p->polling;
    m.u.hello.poll_max_ns = p->poll_max_ns;
    m.u.hello.uid = w->uid == geteuid() ? 0 : w->uid;
    m.u.hello.kill_after = w->incarnations == 1 ? p->kill_after : 0;
    m.u.hello.no_fence = p->no_fence;
    m.u.hello.memlock_pages = memlock_pages(p);
    m.u.hello.domid = w->domid > 0 ? (uint32_t)w->domid : 0;
    m.u.hello.broker = p->broker;
    m.u.hello.no_sandbox = p->no_sandbox;
    m.u.hello.listens = listens;
    m.u.hello.lonely_s = p->lonely_s;
    fh_sup_worker_send(w, &m, fds, listens ? 4 : 2);
}

static void
close_fd(int fd)
{
    if (fd >= 0)
        close(fd);
}

static void
close_gift(struct gift *g)
{
    int *const fds = (int *)g;

    for (size_t i = 0; i < sizeof(*g) / sizeof(int); i++)
        close_fd(fds[i]);
}

/* Where the run directory cannot be used any more, a worker is one that no
 * other supervisor finds. */
static int
make_gift(struct fh_sup_worker *w, struct gift *g)
{
    struct fh_sup *s = w->sup;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, g->sock))
        return -errno;
    if (fh_sup_fence_make(s, w->number, g->fence)) {
        fh_sup_log(s, "worker %u: no fence in the run directory: %s",
                   w->number, strerror(errno));
        close_fd(g->fence[0]);
        if (pipe2(g->fence, O_CLOEXEC | O_NONBLOCK))
            return -errno;
    } else if (!s->p.is_last && fh_sup_socket_make(s, w->number, g->listener)) {
        fh_sup_log(s, "worker %u: no socket in the run directory: %s",
                   w->number, strerror(errno));
    }
    return make_stats(w, &g->stats);
}

/* Everything around the process; half-built things are closed by the caller. */
static int
spawn(struct fh_sup_worker *w, struct gift *g)
{
    int pidfd;
    int r = make_gift(w, g);

    if (!r)
        r = exec_worker(g->sock[1], &w->pid);
    if (r) {
        w->pid = 0;
        return r;
    }
    w->is_child = true;
    pidfd = (int)syscall(SYS_pidfd_open, w->pid, 0);
    r = pidfd < 0 ? -errno : fh_sup_worker_watch(w, w->pid, pidfd);
    if (!r)
        r = fh_sup_worker_talk(w, g->sock[0]);
    if (!r)
        g->sock[0] = -1;
    return r;
}

int
fh_sup_spawn(struct fh_sup_worker *w)
{
    struct gift g = { { -1, -1 }, { -1, -1 }, -1, { -1, -1 } };
    int r = spawn(w, &g);

    if (!r) {
        w->fence.fd = g.fence[0]; /* looked at after a death only */
        g.fence[0] = -1;
        send_hello(w, &g);
    }
    close_gift(&g); /* from here on only the worker has it */
    return r;
}
