/* SPDX-License-Identifier: MIT */
/*
 * The transport of xenstore: a stream socket per domain in front of the server
 * in hv/xs.  A client that leaves its answers unread is not read either; a
 * write takes what the socket takes and goes on when there is room.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/xs/xs.h"

struct fh_hv_xs_client {
    struct fh_hv_src src;
    struct fh_hv *hv;
    struct fh_hv_domain *dom; /* drops us before it goes */
    struct fh_xs_conn *conn;
    uint32_t events;
    bool is_woken;
    LIST_ENTRY(fh_hv_xs_client) link;
    SLIST_ENTRY(fh_hv_xs_client) woken_link;
};

enum {
    READ_BYTES = 4096, /* per turn and client */
    REQUEST_BYTES = 16, /* the smallest one: what a turn is charged by */
    WRITE_PIECES = 16,
    WRITES_PER_TURN = 16,
};

static void
client_wake(struct fh_hv_xs_client *c)
{
    if (c->is_woken || c->src.is_dead)
        return;
    c->is_woken = true;
    SLIST_INSERT_HEAD(&c->hv->xs_woken, c, woken_link);
}

static void
xs_wake(void *ctx, struct fh_xs_conn *conn, void *priv)
{
    struct fh_hv_xs_client *c = priv;

    if (c)
        client_wake(c);
}

static void
client_free(struct fh_hv_src *src)
{
    free(src);
}

static void
client_close(struct fh_hv_xs_client *c)
{
    if (c->src.is_dead)
        return;
    if (c->is_woken)
        SLIST_REMOVE(&c->hv->xs_woken, c, fh_hv_xs_client, woken_link);
    c->is_woken = false;
    LIST_REMOVE(c, link);
    fh_hv_fds_drop(c->dom, 1);
    fh_hv_bury(&c->src);
    fh_xs_conn_free(c->conn);
    c->conn = NULL;
}

/* Returns 0, 1 when the socket is full, or negative: the client is gone. */
static int
client_write(struct fh_hv_xs_client *c)
{
    for (unsigned i = 0; i < WRITES_PER_TURN; i++) {
        struct iovec iov[WRITE_PIECES];
        struct msghdr msg = { .msg_iov = iov };

        msg.msg_iovlen = fh_xs_conn_peek(c->conn, iov, WRITE_PIECES);
        if (!msg.msg_iovlen)
            return 0;
        ssize_t n = sendmsg(c->src.fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR ? 1 : -errno;
        fh_xs_conn_consume(c->conn, (size_t)n);
    }
    return 1;
}

static void
client_serve(struct fh_hv_xs_client *c)
{
    int r = client_write(c);

    if (r < 0 || fh_xs_conn_status(c->conn)) {
        client_close(c);
        return;
    }
    const uint32_t events =
        (r ? EPOLLOUT : 0) | (fh_xs_conn_room(c->conn) ? EPOLLIN : 0);

    if (events != c->events)
        fh_hv_rewatch(&c->src, events);
    c->events = events;
}

void
fh_hv_xs_flush(struct fh_hv *hv)
{
    struct fh_hv_xs_client *c;

    while ((c = SLIST_FIRST(&hv->xs_woken))) {
        SLIST_REMOVE_HEAD(&hv->xs_woken, woken_link);
        c->is_woken = false;
        client_serve(c);
    }
}

static void
client_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    struct fh_hv_xs_client *c = (struct fh_hv_xs_client *)src;
    static char buf[READ_BYTES];
    size_t room = fh_xs_conn_room(c->conn);

    if (!(events & EPOLLIN) && events & (EPOLLHUP | EPOLLERR)) {
        client_close(c);
        return;
    }
    client_wake(c);
    if (!(events & EPOLLIN) || !room || !fh_hv_may_spend(src->th, c->dom))
        return; /* what is left unread will be reported again */
    ssize_t n = recv(src->fd, buf, room < sizeof(buf) ? room : sizeof(buf),
                     MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0)
        fh_hv_spend(src->th, c->dom, (uint32_t)n / REQUEST_BYTES + 1);
    if (n <= 0 || fh_xs_conn_input(c->conn, buf, (size_t)n))
        client_close(c);
}

void
fh_hv_xs_accepted(struct fh_hv *hv, struct fh_hv_listener *l, int fd)
{
    struct fh_hv_domain *dom = l->dom;
    struct fh_hv_xs_client *c;

    if (!fh_hv_peer_allowed(hv, dom, fd) || fh_hv_fds_take(dom, 1)) {
        close(fd);
        return;
    }
    c = calloc(1, sizeof(*c));
    if (!c)
        goto fail;
    c->src = (struct fh_hv_src){
        .fd = fd, .ready = client_ready, .free = client_free,
    };
    c->hv = hv;
    c->dom = dom;
    c->events = EPOLLIN;
    if (fh_xs_conn_new(hv->xs, dom->domid, c, &c->conn))
        goto fail;
    if (fh_hv_watch(fh_hv_control(hv), &c->src, EPOLLIN))
        goto fail;
    LIST_INSERT_HEAD(&dom->xs_clients, c, link);
    return;

fail:
    if (c)
        fh_xs_conn_free(c->conn);
    free(c);
    close(fd);
    fh_hv_fds_drop(dom, 1);
}

int
fh_hv_xs_init(struct fh_hv *hv)
{
    const struct fh_xs_ops ops = { .wake = xs_wake, .ctx = hv };

    hv->xs = fh_xs_new(NULL, &ops);
    return hv->xs ? 0 : FH_ENOMEM;
}

void
fh_hv_xs_deinit(struct fh_hv *hv)
{
    fh_xs_free(hv->xs);
    hv->xs = NULL;
}

int
fh_hv_xs_domain_add(struct fh_hv_domain *dom)
{
    int r = fh_xs_domain_populate(dom->hv->xs, dom->domid, dom->name);

    if (r || !dom->domid)
        return r;
    r = fh_xs_domain_introduce(dom->hv->xs, dom->domid);
    if (r && fh_xs_domain_remove(dom->hv->xs, dom->domid))
        return r; /* the first failure says more */
    return r;
}

void
fh_hv_xs_domain_remove(struct fh_hv_domain *dom)
{
    struct fh_hv_xs_client *c;

    while ((c = LIST_FIRST(&dom->xs_clients)))
        client_close(c);
    /* Nothing to do about a failure: the nodes are all that would stay. */
    if (fh_xs_domain_release(dom->hv->xs, dom->domid) ||
        fh_xs_domain_remove(dom->hv->xs, dom->domid))
        return;
}
