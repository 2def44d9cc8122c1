/* SPDX-License-Identifier: MIT */
/*
 * The process: options, run directory, lock, background, end.
 *
 * The run directory belongs to fhv's uid alone and may be passed through by
 * anybody (0711): domains reach their own directories in it, and <run>/lib has
 * copies of the libraries for programs whose checkout is private.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/client.h"
#include "hv/hv.h"
#include "hv/main.h"
#include "hv/rundir.h"
#include "hv/uids.h"

struct options {
    const char *name, *run_dir, *lib_dir;
    uint32_t uid_base;
    uint32_t n_threads; /* UINT32_MAX: as many as there are CPUs */
    int ready_fd;
    bool is_foreground;
};

static void
usage(FILE *f, const char *name)
{
    fprintf(f,
            "usage: %s [--run-dir DIR] [--lib-dir DIR] [--uid-base N]\n"
            "       [--threads N] [--foreground] [--ready-fd N]\n\n"
            "Runs the local hypervisor: domains that share pages, event\n"
            "channels and a xenstore, as ordinary processes.\n\n"
            "  --run-dir DIR   sockets are made here (default:\n"
            "                  /run/freehold/hv, or the user's own)\n"
            "  --lib-dir DIR   where libxengnttab.so.1 and libxenevtchn.so.1\n"
            "                  are; copies go to DIR/lib of the run directory\n"
            "  --uid-base N    domain D runs under uid N+D (default: the first\n"
            "                  free block of %u from %u on; only as root, else\n"
            "                  all domains share one uid)\n"
            "  --threads N     serve grant hypercalls by N threads, 2 to %u;\n"
            "                  0 or 1: by the one that does everything else\n"
            "                  (default: as many as CPUs, at most %u)\n"
            "  --foreground    stay in the foreground\n"
            "  --ready-fd N    write a byte there when domains may come\n",
            name, FH_HV_UID_BLOCK, FH_HV_UID_BASE_DEFAULT, FH_HV_THREADS_MAX,
            FH_HV_THREADS_MAX);
}

/* Returns -1 to go on, or the exit status. */
static int
options_parse(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        { "run-dir", required_argument, NULL, 'r' },
        { "lib-dir", required_argument, NULL, 'l' },
        { "uid-base", required_argument, NULL, 'u' },
        { "threads", required_argument, NULL, 't' },
        { "ready-fd", required_argument, NULL, 'n' },
        { "foreground", no_argument, NULL, 'f' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    char *end = NULL;
    int c;

    optind = 1;
    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        if (c == 'r') {
            o->run_dir = optarg;
        } else if (c == 'l') {
            o->lib_dir = optarg;
        } else if (c == 'f') {
            o->is_foreground = true;
        } else if (c == 'h') {
            usage(stdout, o->name);
            return 0;
        } else if (c == 'u' || c == 'n' || c == 't') {
            unsigned long v = strtoul(optarg, &end, 10);

            if (!*optarg || *end || v > 0x7fffffff) {
                fprintf(stderr, "%s: not a number: '%s'\n", o->name, optarg);
                return 2;
            }
            if (c == 'u')
                o->uid_base = (uint32_t)v;
            else if (c == 't')
                o->n_threads = (uint32_t)v;
            else
                o->ready_fd = (int)v;
        } else {
            usage(stderr, o->name);
            return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "%s: unexpected argument '%s'\n", o->name,
                argv[optind]);
        return 2;
    }
    return -1;
}

static void
signals_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    fh_store_release32(&hv->is_stopping, 1);
}

static int
signals_init(struct fh_hv *hv)
{
    sigset_t set;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    hv->signals.ready = signals_ready;
    hv->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (hv->signals.fd < 0)
        return -errno;
    return fh_hv_watch(fh_hv_control(hv), &hv->signals, EPOLLIN);
}

/* As many descriptors as we may have. */
static uint32_t
fd_limit_raise(void)
{
    struct rlimit rl = { 0 };

    if (geteuid() == 0) {
        rl.rlim_cur = rl.rlim_max = 262144;
        if (setrlimit(RLIMIT_NOFILE, &rl) == 0)
            return 262144;
    }
    if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
        return 1024;
    rl.rlim_cur = rl.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &rl) < 0 && getrlimit(RLIMIT_NOFILE, &rl) < 0)
        return 1024;
    return rl.rlim_cur > 1u << 20 ? 1u << 20 : (uint32_t)rl.rlim_cur;
}

/* Root of a container may have no other uids than its own. */
static bool
uids_usable(const struct fh_hv *hv, const char *name)
{
    if (!fchown(hv->lock_fd, hv->uid_base + 1, (gid_t)-1) &&
        !fchown(hv->lock_fd, hv->uid, (gid_t)-1))
        return true;
    fprintf(stderr,
            "%s: no uids for domains (%u: %s): isolation is off\n", name,
            hv->uid_base + 1, strerror(errno));
    return false;
}

/* One thread that only serves hypercalls would be no faster than the control
 * thread doing that itself. */
static uint32_t
threads_wanted(const struct options *o)
{
    cpu_set_t cpus;
    uint32_t n = o->n_threads;

    if (n == UINT32_MAX)
        n = sched_getaffinity(0, sizeof(cpus), &cpus)
                ? 1
                : (uint32_t)CPU_COUNT(&cpus);
    if (n > FH_HV_THREADS_MAX)
        n = FH_HV_THREADS_MAX;
    return n < 2 ? 0 : n;
}

static int
hv_init(struct fh_hv *hv, const struct options *o)
{
    struct fh_hv_domain *dom0;
    int r;

    hv->uid = geteuid();
    hv->uid_base = o->uid_base;
    hv->is_isolated = hv->uid == 0;
    r = hv->is_isolated && !o->uid_base ? fh_hv_uids_claim(&hv->uid_base) : 0;
    if (r)
        return r;
    if (hv->is_isolated)
        hv->is_isolated = uids_usable(hv, o->name);
    hv->fd_limit = fd_limit_raise();
    if (hv->fd_limit < 2 * FH_HV_FDS_RESERVED) {
        fprintf(stderr, "%s: %u file descriptors are not enough: at least %u "
                        "(ulimit -n)\n",
                o->name, hv->fd_limit, 2 * FH_HV_FDS_RESERVED);
        return FH_EMFILE;
    }
    hv->next_domid = 1;
    STAILQ_INIT(&hv->dead_files);
    hv->n_threads = threads_wanted(o);
    r = fh_hv_threads_init(hv);
    if (r)
        return r;
    r = signals_init(hv); /* blocks them in the threads to come, too */
    if (r)
        return r;
    r = fh_hv_closer_start(hv);
    if (r)
        return r;
    r = fh_hv_xs_init(hv);
    if (r)
        return r;
    r = fh_hv_domain_create(hv, 0, "Domain-0", &dom0);
    if (r)
        return r;
    r = fh_hv_ctl_init(hv);
    return r ? r : fh_hv_threads_start(hv);
}

static void
ready_tell(int fd)
{
    if (fd >= 0 && write(fd, "1", 1) < 0)
        perror("fhv: --ready-fd");
    if (fd >= 0)
        close(fd);
}

/* A daemon that kept its caller's standard error would keep whoever reads from
 * it waiting, `x=$(freehold hv start 2>&1)` for one. */
static void
stderr_leave(void)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return;
    dup2(null, 2);
    close(null);
}

static int
hv_run(struct fh_hv *hv, const struct options *o)
{
    int r = hv_init(hv, o);

    /* For the message of whoever finds the lock taken. */
    if (dprintf(hv->lock_fd, "%d\n", (int)getpid()) < 0)
        perror("fhv: lock");
    if (r == 0) {
        if (!o->is_foreground)
            stderr_leave();
        ready_tell(o->ready_fd);
        r = fh_hv_loop(fh_hv_control(hv));
    }
    fh_hv_threads_stop(hv);
    if (r)
        fprintf(stderr, "%s: %s\n", o->name, strerror(-r));
    fh_hv_rundir_leave(hv->run_dir);
    return r ? 1 : 0;
}

/* Leaves the hypervisor to a child.  Returns -1 in the child, else the exit
 * status of the parent, who waits until it is ready. */
static int
background(struct options *o)
{
    int fds[2];
    char byte;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return 1;
    fflush(NULL);
    pid_t pid = fork();

    if (pid < 0)
        return 1;
    if (pid) {
        close(fds[1]);
        if (read(fds[0], &byte, 1) != 1)
            return 1; /* it said why */
        ready_tell(o->ready_fd);
        return 0;
    }
    close(fds[0]);
    o->ready_fd = fds[1];
    setsid();
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
    }
    return -1;
}

/* Standard error goes only when everything that can be said was said. */
int
fh_hv_main(int argc, char **argv)
{
    struct options o = {
        .name = argc ? argv[0] : "fhv",
        .ready_fd = -1,
        .n_threads = UINT32_MAX,
    };
    /* Everything hangs on it; the process's end takes it down. */
    static struct fh_hv the_hv;
    struct fh_hv *hv = &the_hv;
    int r = options_parse(&o, argc, argv);

    if (r >= 0)
        return r;
    if (fh_hv_rundir_open(o.name, o.run_dir, o.lib_dir, hv->run_dir,
                          sizeof(hv->run_dir), &hv->lock_fd))
        return 1;
    if (!o.is_foreground) {
        r = background(&o);
        if (r >= 0)
            return r;
    }
    umask(077);
    return hv_run(hv, &o);
}
