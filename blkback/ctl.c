/* SPDX-License-Identifier: MIT */
/* The control socket's client: one connection, one line, one answer. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <json-c/json.h>
#include "blkback/ctl.h"

enum {
    CHUNK = 16384,
    REPLY_MAX = 64 << 20, /* no list is longer */
};

struct call {
    int fd;
    long long deadline_ms; /* -1: none */
    char *in;
    size_t n_in;
    char *err;
    size_t err_size;
};

static int __attribute__((format(printf, 3, 4)))
fail(struct call *c, int error, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(c->err, c->err_size, fmt, ap);
    va_end(ap);
    return error;
}

static long long
now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (long long)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int
wait_for(struct call *c, short events)
{
    struct pollfd p = { .fd = c->fd, .events = events };
    long long left = c->deadline_ms < 0 ? -1 : c->deadline_ms - now_ms();
    int r;

    if (c->deadline_ms >= 0 && left < 0)
        left = 0;
    do
        r = poll(&p, 1, (int)left);
    while (r < 0 && errno == EINTR);
    if (r == 0)
        return fail(c, FH_ETIMEDOUT, "the supervisor did not answer in time");
    return r < 0 ? fail(c, -errno, "poll: %s", strerror(errno)) : 0;
}

static int
connect_to(struct call *c, const char *run_dir)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/control", run_dir);

    if (n < 0 || (size_t)n >= sizeof(sa.sun_path))
        return fail(c, FH_E2BIG, "%s: the path is too long", run_dir);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return fail(c, -errno, "socket: %s", strerror(errno));
    if (!connect(c->fd, (struct sockaddr *)&sa, sizeof(sa)))
        return 0;
    if (errno == ENOENT || errno == ECONNREFUSED)
        return fail(c, FH_ENOENT, "no supervisor is running at %s", run_dir);
    return fail(c, -errno, "%s: %s", sa.sun_path, strerror(errno));
}

static int
send_line(struct call *c, struct json_object *req)
{
    const char *text =
        json_object_to_json_string_ext(req, JSON_C_TO_STRING_PLAIN);
    struct iovec iov[2] = {
        { (void *)(uintptr_t)text, strlen(text) },
        { "\n", 1 },
    };

    for (int i = 0; i < 2;) {
        ssize_t n = send(c->fd, iov[i].iov_base, iov[i].iov_len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail(c, -errno, "the supervisor went away: %s",
                        strerror(errno));
        iov[i].iov_base = (char *)iov[i].iov_base + n;
        iov[i].iov_len -= (size_t)n;
        if (iov[i].iov_len == 0)
            i++;
    }
    return 0;
}

static int
receive_line(struct call *c)
{
    for (;;) {
        char *in = realloc(c->in, c->n_in + CHUNK + 1);
        ssize_t n;
        int r;

        if (!in || c->n_in > REPLY_MAX)
            return fail(c, FH_ENOMEM, "the answer is too long");
        c->in = in;
        r = wait_for(c, POLLIN);
        if (r)
            return r;
        n = recv(c->fd, c->in + c->n_in, CHUNK, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return fail(c, FH_EPIPE, "the supervisor went away");
        c->n_in += (size_t)n;
        c->in[c->n_in] = '\0';
        if (c->in[c->n_in - 1] == '\n')
            return 0;
    }
}

/* Takes @reply unless it returns 0. */
static int
judge(struct call *c, struct json_object *reply)
{
    struct json_object *o;
    int r;

    if (json_object_object_get_ex(reply, "ok", &o) &&
        json_object_get_boolean(o))
        return 0;
    if (json_object_object_get_ex(reply, "error", &o))
        r = fail(c, FH_CTL_E_REFUSED, "%s", json_object_get_string(o));
    else
        r = fail(c, FH_EPROTO, "the supervisor's answer makes no sense");
    json_object_put(reply);
    return r;
}

int
fh_ctl_call(const char *run_dir, struct json_object *req, int timeout_ms,
            struct json_object **reply, char *err, size_t err_size)
{
    struct call c = {
        .fd = -1,
        .deadline_ms = timeout_ms < 0 ? -1 : now_ms() + timeout_ms,
        .err = err,
        .err_size = err_size,
    };
    struct json_object *o = NULL;
    int r = connect_to(&c, run_dir ? run_dir : FH_CTL_RUN_DIR);

    if (!r)
        r = send_line(&c, req);
    if (!r)
        r = receive_line(&c);
    if (!r) {
        o = json_tokener_parse(c.in);
        r = judge(&c, o);
    }
    if (!r)
        *reply = o;
    if (c.fd >= 0)
        close(c.fd);
    free(c.in);
    return r;
}
