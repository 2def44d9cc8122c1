/* SPDX-License-Identifier: MIT */
/*
 * rules - asserts Xen's rules, one line each: "ok NAME" or "not ok NAME: why"
 *
 *   rules [DOMID [OTHER]]   in domain DOMID (0); OTHER (1) is another number
 *
 * Exit status 0 when all hold.  See rules.h.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rules.h"

enum { RULE_S = 60 }; /* a rule that hangs is one that does not hold */

uint32_t self_domid = 0, other_domid = 1;
static int why_fd;

void
rule_fail(const char *file, int line, const char *format, ...)
{
    const char *name = strrchr(file, '/');
    char text[400];
    va_list args;
    int n;

    n = snprintf(text, sizeof(text), "%s:%d: ", name ? name + 1 : file, line);
    va_start(args, format);
    vsnprintf(text + n, sizeof(text) - (size_t)n, format, args);
    va_end(args);
    if (write(why_fd, text, strlen(text)) < 0)
        perror(text);
    _exit(1);
}

/* --------------------------------------------------------------- processes */

void
party_start(struct party *p, void (*body)(int fd, void *arg), void *arg)
{
    int fds[2];

    MUST(!socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds));
    p->pid = fork();
    MUST(p->pid >= 0);
    if (p->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        body(fds[1], arg);
        _exit(0);
    }
    close(fds[1]);
    p->fd = fds[0];
}

void
party_kill(struct party *p)
{
    int status;

    MUST(!kill(p->pid, SIGKILL));
    MUST_BE(waitpid(p->pid, &status, 0), p->pid);
    MUST(WIFSIGNALED(status)); /* it had not failed by itself */
    close(p->fd);
}

void
party_end(struct party *p)
{
    int status;

    MUST_BE(waitpid(p->pid, &status, 0), p->pid);
    MUST_BE(status, 0);
    close(p->fd);
}

void
say(int fd, uint32_t number, int passed)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = { 0 };
    struct iovec iov = { .iov_base = &number, .iov_len = sizeof(number) };
    struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (passed >= 0) {
        m.msg_control = control.bytes;
        m.msg_controllen = sizeof(control.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &passed, sizeof(int));
    }
    MUST_BE(sendmsg(fd, &m, MSG_NOSIGNAL), sizeof(number));
}

uint32_t
hear(int fd, int *passed)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    uint32_t number = 0;
    struct iovec iov = { .iov_base = &number, .iov_len = sizeof(number) };
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };

    MUST_BE(recvmsg(fd, &m, MSG_CMSG_CLOEXEC), sizeof(number));
    if (passed) {
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);

        MUST(c && c->cmsg_type == SCM_RIGHTS);
        memcpy(passed, CMSG_DATA(c), sizeof(int));
    }
    return number;
}

void
adopt_by_exec(int handle, int port, int fd)
{
    char words[4][16];

    MUST(!fcntl(fd, F_SETFD, 0) && !fcntl(why_fd, F_SETFD, 0));
    snprintf(words[0], sizeof(words[0]), "%d", handle);
    snprintf(words[1], sizeof(words[1]), "%d", port);
    snprintf(words[2], sizeof(words[2]), "%d", fd);
    snprintf(words[3], sizeof(words[3]), "%d", why_fd);
    execl("/proc/self/exe", "rules", "--adopt", words[0], words[1], words[2],
          words[3], NULL);
    MUST(!"exec");
}

/* ---------------------------------------------------------------- channels */

bool
is_ready_in(xenevtchn_handle *ev, int ms)
{
    struct pollfd pfd = { .fd = xenevtchn_fd(ev), .events = POLLIN };

    return poll(&pfd, 1, ms) == 1;
}

void
takes(xenevtchn_handle *ev, int port)
{
    MUST(is_ready_in(ev, SOON_MS));
    MUST_BE(xenevtchn_pending(ev), port);
}

int
bind_soon(xenevtchn_handle *ev, uint32_t remote_port)
{
    int port = -1;

    for (int i = 0; i < SOON_MS / 10 && port < 0; i++) {
        port = xenevtchn_bind_interdomain(ev, self_domid, remote_port);
        if (port < 0)
            usleep(10000);
    }
    MUST(port > 0);
    return port;
}

void
channel_open(struct channel *c)
{
    c->a = xenevtchn_open(NULL, 0);
    c->b = xenevtchn_open(NULL, 0);
    MUST(c->a && c->b);
    c->ap = xenevtchn_bind_unbound_port(c->a, self_domid);
    MUST(c->ap > 0);
    c->bp = xenevtchn_bind_interdomain(c->b, self_domid, (uint32_t)c->ap);
    MUST(c->bp > 0);
    takes(c->b, c->bp);
    MUST_BE(xenevtchn_unmask(c->b, (uint32_t)c->bp), 0);
}

void
channel_close(struct channel *c)
{
    MUST_BE(xenevtchn_close(c->a), 0);
    MUST_BE(xenevtchn_close(c->b), 0);
}

/* ------------------------------------------------------------------- rules */

/* In a process of its own; what it says is read until the last of the
 * processes that it started is gone. */
static bool
rule_run(const struct rule *r)
{
    char why[400] = "";
    int fds[2], status;
    size_t n = 0;

    if (pipe2(fds, O_CLOEXEC))
        return false;
    fflush(stdout);
    const pid_t pid = fork();

    if (pid == 0) {
        alarm(RULE_S);
        why_fd = fds[1];
        r->body();
        _exit(0);
    }
    close(fds[1]);
    for (ssize_t got = 1; got > 0 && n < sizeof(why) - 1; n += (size_t)got) {
        got = read(fds[0], why + n, sizeof(why) - 1 - n);
        if (got < 0)
            break;
    }
    close(fds[0]);
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return false;
    if (!status && !*why) {
        printf("ok %s\n", r->name);
        return true;
    }
    if (!*why && WIFSIGNALED(status))
        snprintf(why, sizeof(why), "%s", strsignal(WTERMSIG(status)));
    printf("not ok %s: %s\n", r->name, why);
    return false;
}

static uint32_t
number(const char *text)
{
    char *end;
    const unsigned long n = strtoul(text, &end, 10);

    if (!*text || *end || n > INT32_MAX) {
        fprintf(stderr, "rules: '%s' is not a number\n", text);
        exit(2);
    }
    return (uint32_t)n;
}

int
main(int argc, char **argv)
{
    bool all = true;

    if (argc == 6 && !strcmp(argv[1], "--adopt")) {
        why_fd = (int)number(argv[5]);
        adopt_after_exec((int)number(argv[2]), (int)number(argv[3]),
                         (int)number(argv[4]));
        return 0;
    }
    if (argc > 3) {
        fprintf(stderr, "usage: rules [DOMID [OTHER]]\n");
        return 2;
    }
    if (argc > 1)
        self_domid = number(argv[1]);
    if (argc > 2)
        other_domid = number(argv[2]);
    for (const struct rule *r = event_rules; r->name; r++)
        all &= rule_run(r);
    for (const struct rule *r = grant_rules; r->name; r++)
        all &= rule_run(r);
    return all ? 0 : 1;
}
