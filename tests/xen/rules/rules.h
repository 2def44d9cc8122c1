/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Rules of event channels and grants that hold on real Xen and on the local
 * hypervisor alike: one program, linked against the system's libxen*, run in
 * either world, that asserts the same in both.
 *
 * Each rule runs in a process of its own, so whatever it leaves ends with it;
 * the processes that it starts (struct party) die with it.  The first MUST()
 * that fails, in any of them, ends the rule and says why.  Both ends of every
 * channel and every grant are this one domain: what needs a second domain is
 * not here.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <xenevtchn.h>

struct rule {
    const char *name;
    void (*body)(void);
};

extern const struct rule event_rules[], grant_rules[]; /* end with a NULL */

/* The domain that this is, and another number, of a domain that need not
 * exist on Xen but must on the local hypervisor. */
extern uint32_t self_domid, other_domid;

/* Ends the rule: "FILE:LINE: WORDS". */
__attribute__((noreturn, format(printf, 3, 4))) void
rule_fail(const char *file, int line, const char *format, ...);

#define MUST(cond)                                                             \
    do {                                                                       \
        if (!(cond))                                                           \
            rule_fail(__FILE__, __LINE__, "%s (errno %d)", #cond, errno);      \
    } while (0)

#define MUST_BE(value, want)                                                   \
    do {                                                                       \
        const long long is_ = (long long)(value), want_ = (long long)(want);   \
                                                                               \
        if (is_ != want_)                                                      \
            rule_fail(__FILE__, __LINE__, "%s is %lld, not %lld (errno %d)",   \
                      #value, is_, want_, errno);                              \
    } while (0)

/* The call is refused with this error. */
#define MUST_REFUSE(call, error)                                               \
    do {                                                                       \
        errno = 0;                                                             \
        MUST_BE(call, -1);                                                     \
        MUST_BE(errno, error);                                                 \
    } while (0)

/* Another process of the rule, and a socket between the two. */
struct party {
    pid_t pid;
    int fd;
};

/* Runs @body(fd, arg) in a child, which ends with status 0 if it returns. */
void
party_start(struct party *p, void (*body)(int fd, void *arg), void *arg);
/* kill -9, and waits until it is dead. */
void
party_kill(struct party *p);
/* Waits for a child that ends by itself, and expects status 0. */
void
party_end(struct party *p);

/* A number, and a descriptor beside it unless @passed is -1 (or NULL). */
void
say(int fd, uint32_t number, int passed);
uint32_t
hear(int fd, int *passed);

/* An event is there within @ms. */
bool
is_ready_in(xenevtchn_handle *ev, int ms);

enum {
    SOON_MS = 10000, /* what must happen happens in this time */
    QUIET_MS = 30,  /* what must not happen has had this time */
};

/* The next event is of @port, and is taken (the port is masked then). */
void
takes(xenevtchn_handle *ev, int port);

/* No event is there, and none comes. */
#define MUST_BE_QUIET(ev) MUST(!is_ready_in(ev, QUIET_MS))

/* Binds to a port of this domain whose last holder has just died: the local
 * hypervisor hears of a death a moment later. */
int
bind_soon(xenevtchn_handle *ev, uint32_t remote_port);

/* A channel: @a waits at port @ap, @b bound to it and took its first event. */
struct channel {
    xenevtchn_handle *a, *b;
    int ap, bp;
};

void
channel_open(struct channel *c);
void
channel_close(struct channel *c);

/* Becomes a new program, which goes on with the handle of descriptor @handle:
 * "rules --adopt HANDLE PORT SOCKET WHY" calls adopt_after_exec(). */
void
adopt_by_exec(int handle, int port, int fd);
void
adopt_after_exec(int handle, int port, int fd);
