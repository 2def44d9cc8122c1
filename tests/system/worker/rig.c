/* SPDX-License-Identifier: MIT */
/* See rig.h. */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blkback/record.h"
#include "blkback/worker_main.h"
#include "front.h"
#include "hv/abi.h"

static struct {
    const char *program;
    pid_t fhv;
    char dir[64];
    char libs[80];
    struct fh_hvctl_domain dom0;
} rig;

void
rig_die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    fprintf(stderr, "worker rig: ");
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "\n");
    va_end(ap);
    exit(1);
}

uint64_t
rig_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* ---- hypervisor ---- */

static void
start_fhv(int ready_fd)
{
    char ready[16], uid_base[16];

    snprintf(ready, sizeof(ready), "%d", ready_fd);
    /* Uids of its own: other worlds may be running. */
    snprintf(uid_base, sizeof(uid_base), "%d",
             1000000 + (int)getpid() % 10000 * 64);
    rig.fhv = fork();
    if (rig.fhv)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    execl(getenv("RIG_FHV"), "fhv", "--run-dir", rig.dir, "--lib-dir",
          getenv("RIG_LIBS"), "--uid-base", uid_base, "--foreground",
          "--ready-fd", ready, (char *)NULL);
    _exit(127);
}

void
rig_start(const char *program)
{
    int ready[2];
    char c;

    rig.program = program;
    if (!getenv("RIG_FHV") || !getenv("RIG_LIBS"))
        rig_die("RIG_FHV and RIG_LIBS name the hypervisor and its libraries");
    strcpy(rig.dir, "/tmp/fh-rig-XXXXXX");
    if (!mkdtemp(rig.dir) || pipe(ready))
        rig_die("no directory");
    start_fhv(ready[1]);
    close(ready[1]);
    if (read(ready[0], &c, 1) != 1)
        rig_die("fhv does not start");
    close(ready[0]);
    snprintf(rig.libs, sizeof(rig.libs), "%s/lib", rig.dir);
    if (fh_hvctl_find(rig.dir, "0", &rig.dom0))
        rig_die("no domain 0: %s", fh_hvctl_error());
}

void
rig_stop(void)
{
    char lock[80];

    if (fh_hvctl_stop(rig.dir))
        rig_die("fhv does not stop: %s", fh_hvctl_error());
    waitpid(rig.fhv, NULL, 0);
    /* Its lock stays, by design: a file that is locked cannot be replaced. */
    snprintf(lock, sizeof(lock), "%s/lock", rig.dir);
    (void)unlink(lock);
    if (rmdir(rig.dir))
        rig_die("%s: %s", rig.dir, strerror(errno));
}

int
rig_role(int argc, char **argv)
{
    if (argc != 3)
        return -1;
    if (!strcmp(argv[1], "worker"))
        return fh_worker_main(atoi(argv[2]));
    if (!strcmp(argv[1], "front"))
        rig_front_main(atoi(argv[2]));
    return -1;
}

/* Runs this program again, in @dom, in @role with @fd as descriptor 3. */
static pid_t
run_role(const char *role, const struct fh_hvctl_domain *dom, int fd)
{
    pid_t pid = fork();

    if (pid)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setenv(FH_HV_ENV_HYPERCALL, dom->hypercall, 1);
    setenv("LD_LIBRARY_PATH", rig.libs, 1);
    if (fd == 3)
        fcntl(3, F_SETFD, 0);
    else
        dup2(fd, 3);
    execl(rig.program, rig.program, role, "3", (char *)NULL);
    _exit(127);
}

/* ---- worker ---- */

void
rig_send(struct rig_worker *w, struct fh_wk_msg *m, const int *fds, int n_fds)
{
    union {
        char buf[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } ctl = { 0 };
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
    const size_t bytes = (size_t)n_fds * sizeof(int);

    m->seq = ++w->seq;
    if (n_fds) {
        struct cmsghdr *c;

        mh.msg_control = ctl.buf;
        mh.msg_controllen = CMSG_SPACE(bytes);
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(bytes);
        memcpy(CMSG_DATA(c), fds, bytes);
    }
    (void)sendmsg(w->sock, &mh, MSG_NOSIGNAL);
}

bool
rig_next(struct rig_worker *w, struct fh_wk_msg *m)
{
    return recv(w->sock, m, sizeof(*m), 0) == (ssize_t)sizeof(*m);
}

int
rig_ask(struct rig_worker *w, struct fh_wk_msg *m, const int *fds, int n_fds)
{
    struct fh_wk_msg a;

    rig_send(w, m, fds, n_fds);
    do {
        if (!rig_next(w, &a))
            return FH_EPIPE;
    } while (a.type == FH_WK_QUEUE_FAULT);
    if (a.seq != m->seq)
        rig_die("answer %u to request %u", a.seq, m->seq);
    return a.rc;
}

void
rig_worker_start(struct rig_worker *w, const struct fh_wk_msg *hello)
{
    struct fh_wk_msg m = *hello;
    int sock[2], fence[2], stats, r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) ||
        pipe2(fence, O_CLOEXEC))
        rig_die("no sockets");
    stats = memfd_create("stats", MFD_CLOEXEC);
    if (ftruncate(stats, sizeof(struct fh_wk_stats)))
        rig_die("no memory");
    w->stats = mmap(NULL, sizeof(struct fh_wk_stats), PROT_READ, MAP_SHARED,
                    stats, 0);
    w->pid = run_role("worker", &rig.dom0, sock[1]);
    w->sock = sock[0];
    w->fence = fence[0];
    w->seq = 0;
    close(sock[1]);
    m.type = FH_WK_HELLO;
    r = rig_ask(w, &m, (int[]){ fence[1], stats }, 2);
    if (r)
        rig_die("the worker does not start: %d", r);
    close(fence[1]);
    close(stats);
}

static int
forget_worker(struct rig_worker *w)
{
    int status;

    waitpid(w->pid, &status, 0);
    close(w->sock);
    munmap(w->stats, sizeof(struct fh_wk_stats));
    return status;
}

int
rig_worker_end(struct rig_worker *w)
{
    struct fh_wk_msg m = { .type = FH_WK_END };
    int status;

    rig_send(w, &m, NULL, 0);
    shutdown(w->sock, SHUT_WR);
    status = forget_worker(w);
    close(w->fence);
    return status;
}

uint64_t
rig_worker_bury(struct rig_worker *w)
{
    uint64_t since;
    char c;

    forget_worker(w);
    since = rig_now();
    if (read(w->fence, &c, 1) != 0)
        rig_die("something in the fence");
    close(w->fence);
    return rig_now() - since;
}

/* ---- disks and queues ---- */

static int
new_memfd(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC);

    if (fd < 0 || ftruncate(fd, (off_t)bytes))
        rig_die("no memory");
    return fd;
}

int
rig_recovery_file(uint64_t n_sectors)
{
    int fd = new_memfd("recovery", sizeof(struct fh_rec_file));
    struct fh_rec_file *f = mmap(NULL, sizeof(*f), PROT_READ | PROT_WRITE,
                                 MAP_SHARED, fd, 0);

    fh_rec_format(f, n_sectors, 1, 0, 1);
    munmap(f, sizeof(*f));
    return fd;
}

int
rig_memory(uint64_t n_sectors)
{
    return new_memfd("disk", n_sectors * 512);
}

int
rig_disk_open(struct rig_worker *w, enum fh_wk_store store, int store_fd,
              int rec_fd, bool replay)
{
    struct fh_wk_msg m = { .type = FH_WK_DISK_OPEN, .disk = RIG_DISK };
    const bool null = store == FH_WK_STORE_NULL;

    m.u.disk.store = store;
    m.u.disk.n_sectors = RIG_SECTORS;
    m.u.disk.replay = replay;
    m.u.disk.fds = FH_WK_FD_BIT(FH_WK_FD_RECOVERY);
    if (!null)
        m.u.disk.fds |= FH_WK_FD_BIT(FH_WK_FD_STORE);
    return rig_ask(w, &m, null ? (int[]){ rec_fd, -1 }
                               : (int[]){ store_fd, rec_fd },
                   null ? 1 : 2);
}

int
rig_queue_connect(struct rig_worker *w, const struct rig_front *f,
                  const struct rig_ring *r, enum fh_wk_grants grants,
                  bool resume)
{
    struct fh_wk_msg m = { .type = FH_WK_QUEUE_CONNECT, .disk = RIG_DISK };

    m.u.queue_connect.domid = f->domid;
    m.u.queue_connect.order = r->order;
    m.u.queue_connect.port = r->port;
    m.u.queue_connect.grants = grants;
    m.u.queue_connect.max_indirect = 256;
    m.u.queue_connect.resume = resume;
    memcpy(m.u.queue_connect.ring_refs, r->refs, sizeof(r->refs));
    return rig_ask(w, &m, NULL, 0);
}

int
rig_queue_disconnect(struct rig_worker *w)
{
    struct fh_wk_msg m = { .type = FH_WK_QUEUE_DISCONNECT, .disk = RIG_DISK };

    return rig_ask(w, &m, NULL, 0);
}

int
rig_disk_close(struct rig_worker *w)
{
    struct fh_wk_msg m = { .type = FH_WK_DISK_CLOSE, .disk = RIG_DISK };

    return rig_ask(w, &m, NULL, 0);
}

/* ---- frontends ---- */

void
rig_front_start(struct rig_front *f)
{
    struct fh_hvctl_domain dom;
    int sock[2];

    if (fh_hvctl_create(rig.dir, -1, NULL, &dom))
        rig_die("no domain: %s", fh_hvctl_error());
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock))
        rig_die("no sockets");
    f->domid = dom.domid;
    f->pid = run_role("front", &dom, sock[1]);
    f->sock = sock[0];
    close(sock[1]);
}

void
rig_front_end(struct rig_front *f)
{
    char name[16];

    close(f->sock);
    waitpid(f->pid, NULL, 0);
    snprintf(name, sizeof(name), "%u", f->domid);
    if (fh_hvctl_destroy(rig.dir, name))
        rig_die("domain %s stays: %s", name, fh_hvctl_error());
}

static void
front_send(struct rig_front *f, const struct front_msg *m)
{
    if (send(f->sock, m, sizeof(*m), MSG_NOSIGNAL) < 0)
        rig_die("the frontend is gone");
}

static void
front_receive(struct rig_front *f, struct front_msg *m)
{
    if (recv(f->sock, m, sizeof(*m), 0) != (ssize_t)sizeof(*m))
        rig_die("the frontend is gone");
}

void
rig_front_setup(struct rig_front *f, struct rig_ring *ring)
{
    struct front_msg m = { .op = FRONT_SETUP, .u.ring = *ring };

    front_send(f, &m);
    front_receive(f, &m);
    *ring = m.u.ring;
}

void
rig_front_teardown(struct rig_front *f)
{
    struct front_msg m = { .op = FRONT_TEARDOWN };

    front_send(f, &m);
    front_receive(f, &m);
}

void
rig_front_break(struct rig_front *f)
{
    struct front_msg m = { .op = FRONT_BREAK };

    front_send(f, &m);
    front_receive(f, &m);
}

void
rig_front_load(struct rig_front *f, const struct rig_load *load)
{
    const struct front_msg m = { .op = FRONT_LOAD, .u.load = *load };

    front_send(f, &m);
}

void
rig_front_result(struct rig_front *f, struct rig_result *res)
{
    struct front_msg m;

    front_receive(f, &m);
    *res = m.u.result;
}

/* ---- usage ---- */

static uint32_t
count_entries(pid_t pid, const char *what)
{
    char path[64];
    uint32_t n = 0;
    DIR *d;

    snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
    d = opendir(path);
    if (!d)
        rig_die("%s: %s", path, strerror(errno));
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void
read_stat(pid_t pid, struct rig_usage *u)
{
    char path[64], text[1024];
    unsigned long user, system, resident;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    f = fopen(path, "r");
    if (!f || !fgets(text, sizeof(text), f) ||
        sscanf(strrchr(text, ')') + 2,
               "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu "
               "%*d %*d %*d %*d %*d %*d %*u %*u %lu",
               &user, &system, &resident) != 3)
        rig_die("cannot read %s", path);
    fclose(f);
    u->cpu_ticks = user + system;
    u->resident = resident * 4096;
}

static uint32_t
count_lines(pid_t pid)
{
    char path[64], line[512];
    uint32_t n = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        n++;
    if (f)
        fclose(f);
    return n;
}

void
rig_usage(pid_t pid, struct rig_usage *u)
{
    read_stat(pid, u);
    u->n_fds = count_entries(pid, "fd");
    u->n_maps = count_lines(pid);
}
