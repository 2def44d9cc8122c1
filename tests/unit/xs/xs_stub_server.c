/* SPDX-License-Identifier: MIT */
/*
 * The xenstore server alone behind unix sockets, for the system's own tools:
 *
 *   xs_stub_server DIRECTORY DOMID...
 *
 * makes DIRECTORY/<domid> for each domid, populates and introduces the
 * domains, writes "ready" and a newline, and serves until standard input ends.
 * It is also the shortest example of an embedder's loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/xs/xs.h"

enum { N_FDS_MAX = 256 };

/* Standard input first, then a listener per domain, then the clients. */
struct stub {
    struct fh_xs *xs;
    struct pollfd fds[N_FDS_MAX];
    struct fh_xs_conn *conns[N_FDS_MAX]; /* NULL: a listener */
    uint16_t domids[N_FDS_MAX];
    unsigned n;
};

static int
listen_at(const char *dir, uint16_t domid)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    (void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/%u", dir, domid);
    (void)unlink(addr.sun_path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) || listen(fd, 64)) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static void
add(struct stub *s, int fd, uint16_t domid, struct fh_xs_conn *conn)
{
    s->fds[s->n] = (struct pollfd){ .fd = fd, .events = POLLIN };
    s->domids[s->n] = domid;
    s->conns[s->n] = conn;
    s->n++;
}

static void
drop(struct stub *s, unsigned i)
{
    fh_xs_conn_free(s->conns[i]);
    (void)close(s->fds[i].fd);
    s->n--;
    s->fds[i] = s->fds[s->n];
    s->domids[i] = s->domids[s->n];
    s->conns[i] = s->conns[s->n];
}

static void
accept_one(struct stub *s, unsigned i)
{
    struct fh_xs_conn *conn;
    int fd = accept4(s->fds[i].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0)
        return;
    if (s->n == N_FDS_MAX || fh_xs_conn_new(s->xs, s->domids[i], NULL, &conn))
        (void)close(fd);
    else
        add(s, fd, s->domids[i], conn);
}

static bool
read_some(struct fh_xs_conn *conn, int fd)
{
    char bytes[4096];
    size_t room = fh_xs_conn_room(conn);
    ssize_t n;

    if (room == 0)
        return true;
    n = read(fd, bytes, room < sizeof(bytes) ? room : sizeof(bytes));
    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    return n > 0 && fh_xs_conn_input(conn, bytes, (size_t)n) == 0;
}

static bool
write_some(struct fh_xs_conn *conn, int fd)
{
    struct iovec iov[16];
    unsigned n_iov;

    while ((n_iov = fh_xs_conn_peek(conn, iov, 16))) {
        ssize_t n = writev(fd, iov, (int)n_iov);

        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        fh_xs_conn_consume(conn, (size_t)n);
    }
    return true;
}

static bool
serve(struct fh_xs_conn *conn, int fd, short revents)
{
    if (fh_xs_conn_status(conn))
        return false;
    if (revents & (POLLIN | POLLHUP) && !read_some(conn, fd))
        return false;
    return write_some(conn, fd);
}

static void
turn(struct stub *s)
{
    struct iovec iov;

    for (unsigned i = 1; i < s->n; i++) {
        struct fh_xs_conn *conn = s->conns[i];

        if (!conn)
            continue;
        s->fds[i].events = 0;
        if (fh_xs_conn_room(conn))
            s->fds[i].events |= POLLIN;
        if (fh_xs_conn_status(conn) || fh_xs_conn_peek(conn, &iov, 1))
            s->fds[i].events |= POLLOUT;
    }
    if (poll(s->fds, s->n, -1) < 0)
        return;
    for (unsigned i = s->n; i-- > 1;) {
        if (!s->fds[i].revents)
            continue;
        if (!s->conns[i])
            accept_one(s, i);
        else if (!serve(s->conns[i], s->fds[i].fd, s->fds[i].revents))
            drop(s, i);
    }
}

static int
add_domain(struct stub *s, const char *dir, uint16_t domid)
{
    char name[16];
    int fd = listen_at(dir, domid);

    if (fd < 0)
        return -1;
    add(s, fd, domid, NULL);
    (void)snprintf(name, sizeof(name), "local-%u", domid);
    if (fh_xs_domain_populate(s->xs, domid, name) ||
        fh_xs_domain_introduce(s->xs, domid))
        return -1;
    return 0;
}

int
main(int argc, char **argv)
{
    static struct stub s;

    if (argc < 3 || argc > 64) {
        fprintf(stderr, "usage: xs_stub_server DIRECTORY DOMID...\n");
        return 2;
    }
    s.xs = fh_xs_new(NULL, NULL);
    if (!s.xs)
        return 1;
    add(&s, STDIN_FILENO, 0, NULL);
    for (int i = 2; i < argc; i++) {
        if (add_domain(&s, argv[1], (uint16_t)atoi(argv[i]))) {
            perror(argv[1]);
            return 1;
        }
    }
    puts("ready");
    (void)fflush(stdout);
    while (!s.fds[0].revents)
        turn(&s);
    fh_xs_free(s.xs);
    return 0;
}
