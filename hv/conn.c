/* SPDX-License-Identifier: MIT */
/*
 * Hypercall connections.
 *
 * A connection lives on one thread at a time, which alone touches it: it begins
 * on the control thread, and one that maps grants moves to a hypercall thread
 * when it has said what it is for.  When the domain dies, the control thread
 * shuts the socket down, and the connection's thread ends it.
 *
 * One call runs per connection.  While it does, the socket is not read: a
 * client that sends more waits in its own socket buffer.  A call that has
 * elements left after a slice goes on in the loop's work list.  A client that
 * does not take its reply is cut off; fhv waits for nobody.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arith.h"
#include "hv/hv.h"

static const struct {
    enum fh_hv_kind kind;
    fh_hv_call *call;
} calls[FH_HV_OPS] = {
    [FH_HV_GNT_MAP] = { FH_HV_KIND_GNTTAB, fh_hv_gnt_map },
    [FH_HV_GNT_UNMAP] = { FH_HV_KIND_GNTTAB, fh_hv_gnt_unmap },
    [FH_HV_GNT_COPY] = { FH_HV_KIND_GNTTAB, fh_hv_gnt_copy },
    [FH_HV_GNT_FILE] = { FH_HV_KIND_GNTTAB, fh_hv_gnt_file },
    [FH_HV_GNT_NOTIFY] = { FH_HV_KIND_GNTTAB, fh_hv_gnt_notify },
    [FH_HV_SHR_SHARE] = { FH_HV_KIND_GNTSHR, fh_hv_shr_share },
    [FH_HV_SHR_UNSHARE] = { FH_HV_KIND_GNTSHR, fh_hv_shr_unshare },
    [FH_HV_SHR_NOTIFY] = { FH_HV_KIND_GNTSHR, fh_hv_shr_notify },
    [FH_HV_EV_OPEN] = { FH_HV_KIND_EVTCHN, fh_hv_ev_open },
    [FH_HV_EV_ADOPT] = { FH_HV_KIND_EVTCHN, fh_hv_ev_adopt },
    [FH_HV_EV_ALLOC] = { FH_HV_KIND_EVTCHN, fh_hv_ev_alloc },
    [FH_HV_EV_BIND] = { FH_HV_KIND_EVTCHN, fh_hv_ev_bind },
    [FH_HV_EV_UNBIND] = { FH_HV_KIND_EVTCHN, fh_hv_ev_unbind },
    [FH_HV_EV_RESTRICT] = { FH_HV_KIND_EVTCHN, fh_hv_ev_restrict },
    [FH_HV_EV_PORT] = { FH_HV_KIND_EVTCHN, fh_hv_ev_port },
    [FH_HV_EV_VIRQ] = { FH_HV_KIND_EVTCHN, fh_hv_ev_virq },
};

bool
fh_hv_area_holds(const struct fh_hv_conn *conn, uint64_t offset,
                 uint32_t count, uint32_t bytes)
{
    return offset % 8 == 0 &&
           fh_range_inside(offset, (uint64_t)count * bytes, conn->area_bytes);
}

void
fh_hv_reply_fd(struct fh_hv_reply *reply, int fd, bool close_after)
{
    reply->fds[reply->n_fds] = fd;
    reply->close_fds[reply->n_fds++] = close_after;
}

void
fh_hv_spend(struct fh_hv_thread *th, struct fh_hv_domain *dom, uint32_t n)
{
    struct fh_hv_tally *tally = &dom->tally[th->index];

    if (tally->turn != th->turn) {
        tally->turn = th->turn;
        tally->spent = 0;
    }
    tally->spent += n;
}

bool
fh_hv_may_spend(const struct fh_hv_thread *th, const struct fh_hv_domain *dom)
{
    const struct fh_hv_tally *tally = &dom->tally[th->index];

    return tally->turn != th->turn || tally->spent < FH_HV_TURN;
}

void
fh_hv_count_elements(struct fh_hv_conn *conn, enum fh_hv_op op, uint32_t n)
{
    struct fh_hv_thread *th = conn->src.th;

    fh_hv_count(&th->tally.counts.elements[op], n);
    fh_hv_count(&conn->dom->tally[th->index].counts.elements[op], n);
}

/* ------------------------------------------------------------- life, death */

static void
area_free(struct fh_hv_conn *conn)
{
    if (conn->area)
        munmap(conn->area, conn->area_bytes);
    if (conn->area_fd >= 0)
        close(conn->area_fd);
    conn->dom->area_bytes -= conn->area_bytes;
    conn->area = NULL;
    conn->area_fd = -1;
    conn->area_bytes = 0;
}

static void
conn_free(struct fh_hv_src *src)
{
    struct fh_hv_conn *conn = (struct fh_hv_conn *)src;

    free(conn->shares);
    free(conn);
}

/* Everything that the connection held is gone; now itself. */
static void
conn_end(struct fh_hv_conn *conn)
{
    struct fh_hv_domain *dom = conn->dom;
    const bool locked = fh_hv_lock(conn->src.th);

    area_free(conn);
    if (conn->rx_fd >= 0)
        close(conn->rx_fd);
    LIST_REMOVE(conn, link);
    dom->n_conns--;
    conn->hv->n_conns--;
    conn->src.th->n_conns--;
    fh_hv_fds_drop(dom, 2);
    fh_hv_domain_conn_gone(conn->src.th, dom);
    SLIST_INSERT_HEAD(&conn->src.th->dead, &conn->src, dead_link);
    fh_hv_unlock(conn->src.th, locked);
}

/* Gives up a slice of what the connection holds.  True: there is more. */
static bool
conn_release(struct fh_hv_conn *conn)
{
    switch (conn->kind) {
    case FH_HV_KIND_GNTTAB:
        return fh_hv_gnt_close(conn, FH_HV_SLICE);
    case FH_HV_KIND_GNTSHR:
        return fh_hv_shr_close(conn, FH_HV_SLICE);
    case FH_HV_KIND_EVTCHN:
        return fh_hv_ev_close(conn, FH_HV_SLICE);
    case FH_HV_KIND_NONE:
        break;
    }
    return false;
}

static bool
conn_close_slice(struct fh_hv_conn *conn)
{
    if (conn->is_ended)
        return false;
    if (conn_release(conn))
        return true;
    conn->is_ended = true;
    conn_end(conn);
    return false;
}

void
fh_hv_conn_close(struct fh_hv_conn *conn)
{
    if (conn->is_closing)
        return;
    conn->is_closing = true;
    const bool locked = fh_hv_lock(conn->src.th);

    fh_hv_bury(&conn->src); /* src.free is NULL until conn_end() */
    fh_hv_unlock(conn->src.th, locked);
    conn->src.free = conn_free;
    fh_hv_enqueue(conn->src.th, &conn->work);
}

void
fh_hv_conn_cut(struct fh_hv_conn *conn)
{
    if (conn->src.th->index == 0)
        fh_hv_conn_close(conn);
    else if (conn->src.fd >= 0) /* its thread sees it hang up */
        shutdown(conn->src.fd, SHUT_RDWR);
}

/* Moves the connection to the thread that will serve it. */
static void
conn_place(struct fh_hv_conn *conn)
{
    struct fh_hv_thread *from = conn->src.th;
    struct fh_hv_thread *th;

    if (conn->kind != FH_HV_KIND_GNTTAB || from->index)
        return;
    th = fh_hv_thread_pick(conn->dom);
    if (!th)
        return;
    (void)epoll_ctl(from->epfd, EPOLL_CTL_DEL, conn->src.fd, NULL);
    from->n_conns--;
    th->n_conns++;
    /* From here on it is that thread's, unless that fails. */
    if (!fh_hv_watch(th, &conn->src, EPOLLIN))
        return;
    th->n_conns--;
    from->n_conns++;
    if (fh_hv_watch(from, &conn->src, EPOLLIN))
        fh_hv_conn_close(conn);
}

/* ------------------------------------------------------------------- calls */

static void
reply_send(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * FH_HV_REPLY_FDS)];
    } control;
    struct iovec iov = { &reply->rsp, sizeof(reply->rsp) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (reply->n_fds) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * reply->n_fds);
        memset(&control, 0, sizeof(control));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int) * reply->n_fds);
        memcpy(CMSG_DATA(c), reply->fds, sizeof(int) * reply->n_fds);
    }
    ssize_t n = sendmsg(conn->src.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

    for (unsigned i = 0; i < reply->n_fds; i++) {
        if (reply->close_fds[i])
            close(reply->fds[i]);
    }
    if (n != sizeof(reply->rsp))
        fh_hv_conn_close(conn);
}

/* HELLO: version, the kind of handle, the argument area. */
static int
call_hello(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    struct fh_hv_domain *dom = conn->dom;
    const uint64_t bytes = conn->req.arg[0], kind = conn->req.arg[1];
    const uint64_t most = (uint64_t)(dom->domid ? FH_HV_AREAS_MIB
                                                : FH_HV_AREAS_MIB_DOM0) << 20;

    if (conn->kind != FH_HV_KIND_NONE || kind < FH_HV_KIND_GNTTAB ||
        kind > FH_HV_KIND_EVTCHN || bytes % FH_PAGE_BYTES ||
        bytes > FH_HV_AREA_BYTES_MAX)
        return FH_EINVAL;
    if (conn->req.count != FH_HV_ABI_VERSION)
        return FH_EPROTO;
    if (dom->area_bytes + bytes > most)
        return FH_ENOMEM;
    if (bytes) {
        int fd = fh_hv_memfd("freehold-area", bytes, 0600);

        if (fd < 0)
            return fd;
        conn->area_fd = fd;
        void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                         0);
        if (mem == MAP_FAILED)
            return -errno;
        conn->area = mem;
        conn->area_bytes = bytes;
        dom->area_bytes += bytes;
        fh_hv_reply_fd(reply, fd, false);
    }
    conn->kind = (enum fh_hv_kind)kind;
    reply->rsp.arg[0] = dom->domid;
    reply->rsp.arg[1] = bytes;
    reply->rsp.arg[2] = conn->hv->is_isolated;
    return 0;
}

static int
call_run(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint32_t op = conn->req.op;

    if (op == FH_HV_HELLO)
        return call_hello(conn, reply);
    if (op == FH_HV_CLOSE)
        return conn_release(conn) ? FH_HV_MORE : 0;
    if (op >= FH_HV_OPS || !calls[op].call)
        return FH_ENOSYS;
    if (calls[op].kind != conn->kind)
        return FH_EINVAL;
    return calls[op].call(conn, reply);
}

/* Runs one slice of the call, if its domain still may in this turn.  True: it
 * has another one. */
static bool
call_slice(struct fh_hv_conn *conn)
{
    struct fh_hv_thread *th = conn->src.th;
    struct fh_hv_reply reply = { .rsp.rc = 0 };

    if (!fh_hv_may_spend(th, conn->dom))
        return true;
    fh_hv_spend(th, conn->dom, FH_HV_CALL_COST);
    th->caller = conn;
    int r = call_run(conn, &reply);
    th->caller = NULL;
    fh_hv_ending_run(th);
    if (r == FH_HV_MORE)
        return true;
    reply.rsp.rc = r;
    if (r) /* what a failed call would have sent is nothing to keep */
        reply.n_fds = 0;
    reply.rsp.count = conn->done;
    if (conn->rx_fd >= 0)
        close(conn->rx_fd);
    conn->rx_fd = -1;
    reply_send(conn, &reply);
    return false;
}

static enum fh_hv_step
conn_step(struct fh_hv *hv, struct fh_hv_work *work)
{
    struct fh_hv_conn *conn =
        (struct fh_hv_conn *)((char *)work - offsetof(struct fh_hv_conn, work));

    if (conn->is_ended || (!conn->is_busy && !conn->is_closing))
        return FH_HV_STEP_DONE;
    if (!fh_hv_may_spend(conn->src.th, conn->dom))
        return FH_HV_STEP_SKIPPED;
    if (conn->is_closing) {
        fh_hv_spend(conn->src.th, conn->dom, FH_HV_SLICE);
        return conn_close_slice(conn) ? FH_HV_STEP_AGAIN : FH_HV_STEP_DONE;
    }
    if (call_slice(conn))
        return FH_HV_STEP_AGAIN;
    conn->is_busy = false;
    if (conn->is_closing)
        return FH_HV_STEP_AGAIN;
    fh_hv_rewatch(&conn->src, EPOLLIN);
    return FH_HV_STEP_DONE;
}

/* Keeps the first descriptor that came with a message, closes the rest. */
static void
rx_fds(struct fh_hv_conn *conn, struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (conn->rx_fd < 0)
                conn->rx_fd = fd;
            else
                close(fd);
        }
    }
}

static bool
call_receive(struct fh_hv_conn *conn)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int) * 4)];
    } control;
    struct iovec iov = { &conn->req, sizeof(conn->req) };
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control),
    };
    ssize_t n = recvmsg(conn->src.fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        rx_fds(conn, &msg);
    if (n != sizeof(conn->req) || msg.msg_flags & MSG_TRUNC) {
        fh_hv_conn_close(conn);
        return false;
    }
    return true;
}

static void
count_call(struct fh_hv_conn *conn)
{
    struct fh_hv_thread *th = conn->src.th;
    const uint32_t op = conn->req.op;

    if (op >= FH_HV_OPS)
        return;
    fh_hv_count(&th->tally.counts.calls[op], 1);
    fh_hv_count(&conn->dom->tally[th->index].counts.calls[op], 1);
}

static void
count_slice(struct fh_hv_conn *conn)
{
    struct fh_hv_thread *th = conn->src.th;

    fh_hv_count(&th->tally.counts.slices, 1);
    fh_hv_count(&conn->dom->tally[th->index].counts.slices, 1);
}

static void
conn_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    struct fh_hv_conn *conn = (struct fh_hv_conn *)src;

    if (conn->is_busy) { /* only a hang-up comes through */
        if (events & (EPOLLHUP | EPOLLERR))
            fh_hv_conn_close(conn);
        return;
    }
    if (!call_receive(conn)) {
        /* At once: a successor's call may be the next event of this turn. */
        if (conn->is_closing)
            conn_close_slice(conn);
        return;
    }
    conn->done = 0;
    count_call(conn);
    if (!call_slice(conn)) {
        if (conn->req.op == FH_HV_HELLO && !conn->is_closing)
            conn_place(conn);
        return; /* it may be another thread's, or gone */
    }
    conn->is_busy = true;
    count_slice(conn);
    fh_hv_rewatch(src, 0);
    fh_hv_enqueue(src->th, &conn->work);
}

/* The answer to a first call that we shall not read. */
static void
refuse(int fd, int error)
{
    const struct fh_hv_rsp rsp = { .rc = error };

    /* Whoever does not get it sees the connection end. */
    if (send(fd, &rsp, sizeof(rsp), MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        error = 0;
    close(fd);
}

void
fh_hv_conn_accepted(struct fh_hv *hv, struct fh_hv_listener *l, int fd)
{
    struct fh_hv_domain *dom = l->dom;
    const uint32_t most =
        dom->domid ? FH_HV_CONNS_MAX : FH_HV_CONNS_MAX_DOM0;
    struct ucred cred = { 0 };
    socklen_t len = sizeof(cred);
    struct fh_hv_conn *conn;

    if (!fh_hv_peer_allowed(hv, dom, fd)) {
        refuse(fd, FH_EACCES);
        return;
    }
    if (dom->n_conns >= most || fh_hv_fds_take(dom, 2)) {
        refuse(fd, FH_EMFILE);
        return;
    }
    conn = calloc(1, sizeof(*conn));
    if (!conn)
        goto fail;
    conn->src = (struct fh_hv_src){ .fd = fd, .ready = conn_ready };
    conn->hv = hv;
    conn->dom = dom;
    conn->work.step = conn_step;
    conn->area_fd = conn->rx_fd = -1;
    if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len))
        conn->pid = cred.pid;
    if (fh_hv_watch(fh_hv_control(hv), &conn->src, EPOLLIN))
        goto fail;
    conn->src.th->n_conns++;
    LIST_INSERT_HEAD(&dom->conns, conn, link);
    dom->n_conns++;
    hv->n_conns++;
    fh_hv_domain_hold(dom);
    return;

fail:
    free(conn);
    close(fd);
    fh_hv_fds_drop(dom, 2);
}
