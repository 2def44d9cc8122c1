/* SPDX-License-Identifier: MIT */
/* See sandbox.h. */
#include "blkback/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <seccomp.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/evtchn.h>

#include "base/arith.h"
#include "blkback/gntdev.h"

/* ---- rights ---- */

/* Best effort: an ordinary user cannot, and has none to lose. */
static void
forgo_capabilities(void)
{
    for (unsigned long cap = 0; !prctl(PR_CAPBSET_DROP, cap, 0, 0, 0); cap++)
        ;
    (void)prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

static int
drop_capabilities(void)
{
    struct __user_cap_header_struct head = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {
        { 0 }
    };

    return syscall(SYS_capset, &head, none) ? -errno : 0;
}

int
fh_sandbox_drop_rights(uint32_t uid)
{
    const struct rlimit none = { 0, 0 };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
        setrlimit(RLIMIT_CORE, &none))
        return -errno;
    forgo_capabilities();
    if (uid && (setgroups(0, NULL) || setresgid(uid, uid, uid) ||
                setresuid(uid, uid, uid)))
        return -errno;
    /* Other processes of this uid could trace us otherwise; there should be
     * none but the pair. */
    if (uid && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        return -errno;
    return drop_capabilities();
}

/* ---- filters ---- */

#ifdef FH_NO_SANDBOX

bool
fh_sandbox_is_built(void)
{
    return false;
}

int
fh_sandbox_worker(int evtchn_fd, int gntdev_fd)
{
    return FH_ENOSYS;
}

int
fh_sandbox_broker(int gntdev_fd, int sock)
{
    return FH_ENOSYS;
}

#else

/* Whatever their arguments. */
static const int worker_calls[] = {
    /* what it has open */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev),
    SCMP_SYS(pread64), SCMP_SYS(close), SCMP_SYS(fstat), SCMP_SYS(fsync),
    SCMP_SYS(fdatasync), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl),
    /* the supervisor; accept: a later one */
    SCMP_SYS(sendmsg), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(recvfrom),
    SCMP_SYS(accept4),
    /* its ring, under restrictions */
    SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register),
    /* memory; mmap and mprotect are below */
    SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk),
    /* time, itself */
    SCMP_SYS(futex), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(sched_yield),
    SCMP_SYS(getrusage), SCMP_SYS(getpid), SCMP_SYS(gettid),
    SCMP_SYS(getrandom), SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(exit), SCMP_SYS(exit_group),
};

static const int broker_calls[] = {
    SCMP_SYS(futex), SCMP_SYS(write), SCMP_SYS(pause), SCMP_SYS(pread64),
    SCMP_SYS(close), SCMP_SYS(clock_gettime),
    SCMP_SYS(restart_syscall), SCMP_SYS(rt_sigreturn), SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

bool
fh_sandbox_is_built(void)
{
    return true;
}

/* Anything else is the end; what depends on arguments (event channels) is found
 * by a binary search, not after all others. */
static scmp_filter_ctx
new_filter(void)
{
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);

    if (f)
        (void)seccomp_attr_set(f, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    return f;
}

static int
allow_all(scmp_filter_ctx f, const int *calls, size_t n)
{
    int r = 0;

    for (size_t i = 0; i < n && !r; i++)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);
    return r;
}

static int
allow_ioctl(scmp_filter_ctx f, int fd, unsigned call)
{
    return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 2,
                            SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)fd, 0),
                            SCMP_A1(SCMP_CMP_EQ, call, 0));
}

static int
allow_events(scmp_filter_ctx f, int fd)
{
    static const unsigned calls[] = {
        (unsigned)IOCTL_EVTCHN_BIND_INTERDOMAIN,
        (unsigned)IOCTL_EVTCHN_UNBIND,
        (unsigned)IOCTL_EVTCHN_NOTIFY,
    };
    int r = 0;

    for (size_t i = 0; i < FH_ARRAY_SIZE(calls) && !r; i++)
        r = allow_ioctl(f, fd, calls[i]);
    return r;
}

/* No new code; the C library's fstat(); itself, dying. */
static int
allow_by_argument(scmp_filter_ctx f)
{
    int r;

    r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                         SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
                             SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
                             SCMP_A3(SCMP_CMP_EQ, AT_EMPTY_PATH, 0));
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_EQ, F_GETFL, 0));
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0));
    return r;
}

static int
fill_worker(scmp_filter_ctx f, int evtchn_fd, int gntdev_fd)
{
    int r = allow_all(f, worker_calls, FH_ARRAY_SIZE(worker_calls));

    if (!r)
        r = allow_by_argument(f);
    if (!r)
        r = allow_events(f, evtchn_fd);
    if (!r && gntdev_fd >= 0)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)gntdev_fd, 0));
    return r;
}

static int
fill_broker(scmp_filter_ctx f, int gntdev_fd, int sock)
{
    const struct fh_gntdev_calls c = fh_gntdev_calls();
    int r = allow_all(f, broker_calls, FH_ARRAY_SIZE(broker_calls));

    if (!r)
        r = allow_ioctl(f, gntdev_fd, c.map);
    if (!r)
        r = allow_ioctl(f, gntdev_fd, c.unmap);
    if (!r)
        r = allow_ioctl(f, gntdev_fd, c.copy);
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(recvmsg), 1,
                             SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)sock, 0));
    if (!r)
        r = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_EQ, F_GET_SEALS, 0));
    return r;
}

int
fh_sandbox_worker(int evtchn_fd, int gntdev_fd)
{
    scmp_filter_ctx f = new_filter();
    int r = f ? fill_worker(f, evtchn_fd, gntdev_fd) : FH_ENOMEM;

    if (!r)
        r = seccomp_load(f);
    seccomp_release(f);
    return r;
}

int
fh_sandbox_broker(int gntdev_fd, int sock)
{
    scmp_filter_ctx f = new_filter();
    int r = f ? fill_broker(f, gntdev_fd, sock) : FH_ENOMEM;

    if (!r)
        r = seccomp_load(f);
    seccomp_release(f);
    return r;
}

#endif /* FH_NO_SANDBOX */
