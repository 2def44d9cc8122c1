/* SPDX-License-Identifier: MIT */
/* See hvconn.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "xenlibs/hvconn.h"
#include "xenplat/tally.h"

static int
sock_connect(bool inherits)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    const char *path = getenv(FH_HV_ENV_HYPERCALL);

    if (!path || !*path)
        return FH_ENOENT;
    if (strlen(path) >= sizeof(addr.sun_path))
        return -ENAMETOOLONG;
    strcpy(addr.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | (inherits ? 0 : SOCK_CLOEXEC), 0);

    if (fd < 0)
        return -errno;
    while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        if (errno == EINTR)
            continue;
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

static int
message_send(const struct fh_hvc *c, const struct fh_hv_req *req, int tx_fd)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { (void *)(uintptr_t)req, sizeof(*req) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (tx_fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *h = CMSG_FIRSTHDR(&msg);

        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(h), &tx_fd, sizeof(int));
    }
    fh_tally_syscall();
    while (sendmsg(c->sock, &msg, MSG_NOSIGNAL) < 0) {
        if (errno == EPIPE)
            return 0; /* the last message may say why */
        if (errno != EINTR)
            return -errno;
    }
    return 0;
}

static void
answer_fds(struct fh_hvc_answer *a, struct msghdr *msg)
{
    a->n_fds = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(msg); h; h = CMSG_NXTHDR(msg, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        if (n > FH_HV_REPLY_FDS)
            n = FH_HV_REPLY_FDS; /* there is no room for more */
        memcpy(a->fds, CMSG_DATA(h), n * sizeof(int));
        a->n_fds = (unsigned)n;
    }
}

static void
answer_drop(struct fh_hvc_answer *a)
{
    for (unsigned i = 0; i < a->n_fds; i++)
        close(a->fds[i]);
    a->n_fds = 0;
}

static int
message_receive(const struct fh_hvc *c, struct fh_hvc_answer *a)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FH_HV_REPLY_FDS)];
    } control;
    struct iovec iov = { &a->rsp, sizeof(a->rsp) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;
    int resets = 0;

    fh_tally_syscall();
    /* A reset comes before what was sent, and only once. */
    do
        n = recvmsg(c->sock, &msg, MSG_CMSG_CLOEXEC);
    while (n < 0 && (errno == EINTR || (errno == ECONNRESET && !resets++)));
    if (n < 0)
        return -errno;
    if (n == 0)
        return FH_EPIPE; /* the hypervisor or the domain is gone */
    answer_fds(a, &msg);
    if (n == sizeof(a->rsp) && !(msg.msg_flags & MSG_CTRUNC))
        return 0;
    answer_drop(a);
    /* Truncated descriptors: our own limit is reached. */
    return msg.msg_flags & MSG_CTRUNC ? FH_EMFILE : FH_EPROTO;
}

int
fh_hvc_call(struct fh_hvc *c, const struct fh_hv_req *req, int tx_fd,
            struct fh_hvc_answer *answer)
{
    struct fh_hvc_answer own, *a = answer ? answer : &own;
    int r;

    fh_tally_syscall();
    if (c->pid != getpid())
        return FH_EBADF; /* not ours: inherited over a fork */
    r = message_send(c, req, tx_fd);
    if (r)
        return r;
    r = message_receive(c, a);
    if (r)
        return r;
    if (a->rsp.rc || !answer)
        answer_drop(a);
    return a->rsp.rc;
}

static int
hello(struct fh_hvc *c, enum fh_hv_kind kind, uint64_t area_bytes)
{
    const struct fh_hv_req req = {
        .op = FH_HV_HELLO,
        .count = FH_HV_ABI_VERSION,
        .arg = { area_bytes, kind },
    };
    struct fh_hvc_answer a;
    int r = fh_hvc_call(c, &req, -1, &a);

    if (r)
        return r;
    c->domid = (uint16_t)a.rsp.arg[0];
    if (!area_bytes)
        return 0;
    if (a.n_fds != 1)
        return FH_EPROTO;
    void *mem = mmap(NULL, area_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
                     a.fds[0], 0);
    r = mem == MAP_FAILED ? -errno : 0;
    answer_drop(&a);
    if (r)
        return r;
    c->area = mem;
    c->area_bytes = area_bytes;
    return 0;
}

int
fh_hvc_open(struct fh_hvc *c, enum fh_hv_kind kind, uint64_t area_bytes,
            bool inherits)
{
    int r;

    fh_tally_begin();
    *c = (struct fh_hvc){ .pid = getpid() };
    c->sock = sock_connect(inherits);
    if (c->sock < 0)
        return c->sock;
    r = hello(c, kind, area_bytes);
    if (r)
        close(c->sock);
    return r;
}

void
fh_hvc_close(struct fh_hvc *c)
{
    const struct fh_hv_req req = { .op = FH_HV_CLOSE };

    /* A failure means that there is nobody left who could hold anything. */
    if (c->pid == getpid() && fh_hvc_call(c, &req, -1, NULL))
        c->domid = 0;
    if (c->area)
        munmap(c->area, c->area_bytes);
    close(c->sock);
    c->sock = -1;
}
