/* SPDX-License-Identifier: MIT */
/* Rules of event channels: see rules.h. */
#include <fcntl.h>
#include <unistd.h>

#include "rules.h"

static void
send_from(xenevtchn_handle *ev, int port)
{
    MUST_BE(xenevtchn_notify(ev, (uint32_t)port), 0);
}

static void
unmask(xenevtchn_handle *ev, int port)
{
    MUST_BE(xenevtchn_unmask(ev, (uint32_t)port), 0);
}

/* --------------------------------------------------------------- masking */

static void
bound_port__is_pending_once(void)
{
    struct channel c;

    channel_open(&c); /* takes the event */
    MUST_BE_QUIET(c.b);
    MUST_BE_QUIET(c.a); /* who waited is not told */
    channel_close(&c);
}

/* Many are one, or two on Xen, whose kernel masks the port when the first one
 * reaches it, not when it is taken. */
static void
events__coalesce(void)
{
    struct channel c;
    int n = 0;

    channel_open(&c);
    for (int i = 0; i < 100; i++)
        send_from(c.b, c.bp);
    do {
        takes(c.a, c.ap);
        unmask(c.a, c.ap);
        n++;
    } while (is_ready_in(c.a, QUIET_MS));
    MUST(n == 1 || n == 2);
    channel_close(&c);
}

static void
taken_port__stays_masked_until_unmasked(void)
{
    struct channel c;

    channel_open(&c);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    send_from(c.b, c.bp);
    MUST_BE_QUIET(c.a);
    unmask(c.a, c.ap);
    takes(c.a, c.ap);
    unmask(c.a, c.ap);
    MUST_BE_QUIET(c.a);
    channel_close(&c);
}

static void
unmasking_an_unmasked_port__is_harmless(void)
{
    struct channel c;

    channel_open(&c);
    for (int i = 0; i < 3; i++)
        unmask(c.a, c.ap);
    MUST_BE_QUIET(c.a);
    send_from(c.b, c.bp);
    unmask(c.a, c.ap); /* what is pending stays */
    takes(c.a, c.ap);
    unmask(c.a, c.ap);
    unmask(c.a, c.ap);
    MUST_BE_QUIET(c.a);
    channel_close(&c);
}

static void
nonblocking_handle__says_again(void)
{
    struct channel c;

    channel_open(&c);
    MUST(!fcntl(xenevtchn_fd(c.a), F_SETFL, O_NONBLOCK));
    MUST_REFUSE(xenevtchn_pending(c.a), EAGAIN);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    MUST_REFUSE(xenevtchn_pending(c.a), EAGAIN);
    channel_close(&c);
}

/* -------------------------------------------------------------- refusals */

static void
bind__is_refused(void)
{
    struct channel c;
    int port;

    channel_open(&c);
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, self_domid, (uint32_t)c.ap),
                EINVAL); /* still bound */
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, self_domid, 1000), EINVAL);
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, 999, 1), ESRCH);
    port = xenevtchn_bind_unbound_port(c.a, other_domid);
    MUST(port > 0);
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, self_domid, (uint32_t)port),
                EINVAL); /* it waits for another domain */
    channel_close(&c);
}

static void
port_of_another_handle__is_not_connected(void)
{
    struct channel c;

    channel_open(&c);
    MUST_REFUSE(xenevtchn_notify(c.b, (uint32_t)c.ap), ENOTCONN);
    MUST_REFUSE(xenevtchn_unbind(c.b, (uint32_t)c.ap), ENOTCONN);
    MUST_BE(xenevtchn_unbind(c.b, (uint32_t)c.bp), 0);
    MUST_REFUSE(xenevtchn_unbind(c.b, (uint32_t)c.bp), ENOTCONN);
    MUST_REFUSE(xenevtchn_notify(c.b, (uint32_t)c.bp), ENOTCONN);
    channel_close(&c);
}

static void
restricted_handle__offers_no_port_and_binds_to_no_other(void)
{
    struct channel c;

    channel_open(&c);
    MUST_BE(xenevtchn_restrict(c.b, (domid_t)other_domid), 0);
    MUST_REFUSE(xenevtchn_bind_unbound_port(c.b, self_domid), EACCES);
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, self_domid, (uint32_t)c.ap),
                EACCES);
    MUST_REFUSE(xenevtchn_bind_virq(c.b, VIRQ_DEBUG), EACCES);
    MUST_REFUSE(xenevtchn_bind_unbound_port(c.b, other_domid), EACCES);
    channel_close(&c);
}

static void
restriction__is_final(void)
{
    struct channel c;

    channel_open(&c);
    MUST_BE(xenevtchn_restrict(c.b, (domid_t)other_domid), 0);
    MUST_BE(xenevtchn_restrict(c.b, (domid_t)(other_domid + 1)), -1);
    MUST_BE(xenevtchn_restrict(c.b, (domid_t)other_domid), -1);
    send_from(c.b, c.bp); /* what was bound before goes on */
    takes(c.a, c.ap);
    channel_close(&c);
}

/* ----------------------------------------------------------------- death */

/* Binds port @arg, serves one event, says so, and waits to be killed. */
static void
backend(int fd, void *arg)
{
    const uint32_t remote = *(uint32_t *)arg;
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);

    MUST(ev);
    const int port = bind_soon(ev, remote);

    takes(ev, port); /* pending at bind */
    unmask(ev, port);
    MUST_BE_QUIET(ev); /* once */
    send_from(ev, port);
    takes(ev, port); /* left masked */
    say(fd, 1, -1);
    (void)hear(fd, NULL);
}

static void
dead_backend__can_be_followed(void)
{
    xenevtchn_handle *front = xenevtchn_open(NULL, 0);
    int fp = front ? xenevtchn_bind_unbound_port(front, self_domid) : -1;
    uint32_t remote = (uint32_t)fp;
    struct party p;

    MUST(fp > 0);
    for (int round = 0; round < 4; round++) {
        party_start(&p, backend, &remote);
        takes(front, fp);
        unmask(front, fp);
        send_from(front, fp);
        MUST_BE(hear(p.fd, NULL), 1);
        party_kill(&p);
        MUST_BE_QUIET(front); /* no event tells of the death */
        send_from(front, fp); /* dropped: the next one finds one event only */
    }
    MUST_BE(xenevtchn_close(front), 0);
}

/* Offers a port, says which, waits to be killed. */
static void
frontend(int fd, void *arg)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;

    MUST(port > 0);
    say(fd, (uint32_t)port, -1);
    (void)hear(fd, NULL);
}

static void
dead_frontends_port__is_gone(void)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct party p;
    int r = 0;

    MUST(ev);
    party_start(&p, frontend, NULL);
    const uint32_t port = hear(p.fd, NULL);

    party_kill(&p);
    /* A bind between its death and the hypervisor's notice may succeed. */
    for (int i = 0; i < SOON_MS / 10 && r != -1; i++) {
        usleep(10000);
        r = xenevtchn_bind_interdomain(ev, self_domid, port);
        if (r > 0)
            MUST_BE(xenevtchn_unbind(ev, (uint32_t)r), 0);
    }
    MUST_BE(r, -1);
    MUST_BE(errno, EINVAL);
    MUST_BE(xenevtchn_close(ev), 0);
}

static void
survivor__waits_whichever_end_it_is(void)
{
    struct channel c;

    channel_open(&c);
    MUST_BE(xenevtchn_close(c.a), 0);
    send_from(c.b, c.bp); /* dropped */
    c.a = xenevtchn_open(NULL, 0);
    MUST(c.a);
    c.ap = xenevtchn_bind_interdomain(c.a, self_domid, (uint32_t)c.bp);
    MUST(c.ap > 0);
    takes(c.a, c.ap);
    unmask(c.a, c.ap);
    MUST_BE_QUIET(c.a);
    send_from(c.a, c.ap);
    takes(c.b, c.bp);
    channel_close(&c);
}

/* -------------------------------------------------------- a handle's heir */

/*
 * What every heir of a handle finds whose port was taken and not unmasked by
 * who had it before: @mine is the heir's, @b the channel's other end.
 */
static void
inherits(xenevtchn_handle *mine, int port, xenevtchn_handle *b, int bp)
{
    MUST_BE_QUIET(mine);
    send_from(b, bp);
    MUST_BE_QUIET(mine); /* masked, as it was left */
    unmask(mine, port);
    takes(mine, port); /* not lost */
    unmask(mine, port);
    MUST_BE_QUIET(mine);
    send_from(mine, port);
    takes(b, bp);
    unmask(b, bp);
    send_from(b, bp);
    takes(mine, port);
}

/* Binds, passes the handle on, takes an event, and waits to be killed. */
static void
passer(int fd, void *arg)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;

    MUST(port > 0);
    say(fd, (uint32_t)port, xenevtchn_fd(ev));
    takes(ev, port);
    say(fd, 1, -1);
    (void)hear(fd, NULL);
}

static void
passed_handle__outlives_its_binder(void)
{
    xenevtchn_handle *b = xenevtchn_open(NULL, 0), *mine;
    struct party p;
    int fd = -1, bp;

    party_start(&p, passer, NULL);
    const int port = (int)hear(p.fd, &fd);

    mine = xenevtchn_fdopen(NULL, fd, 0);
    MUST(mine && b);
    bp = xenevtchn_bind_interdomain(b, self_domid, (uint32_t)port);
    MUST(bp > 0);
    takes(b, bp);
    unmask(b, bp);
    send_from(b, bp);
    MUST_BE(hear(p.fd, NULL), 1);
    party_kill(&p);
    inherits(mine, port, b, bp);
    MUST_BE(xenevtchn_close(mine), 0);
    MUST_BE(xenevtchn_close(b), 0);
}

static void
port__belongs_to_the_file_not_the_descriptor(void)
{
    struct channel c;
    int fd;

    channel_open(&c);
    fd = dup(xenevtchn_fd(c.a));
    xenevtchn_handle *again = fd < 0 ? NULL : xenevtchn_fdopen(NULL, fd, 0);

    MUST(again);
    MUST_BE(xenevtchn_close(c.a), 0);
    c.a = again;
    send_from(c.a, c.ap);
    takes(c.b, c.bp);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    MUST_REFUSE(xenevtchn_bind_interdomain(c.b, self_domid, (uint32_t)c.ap),
                EINVAL); /* bound still */
    channel_close(&c);
}

static void
child_takes(int fd, void *arg)
{
    const struct channel *c = arg;
    xenevtchn_handle *ev = xenevtchn_fdopen(NULL, xenevtchn_fd(c->a), 0);

    MUST(ev);
    say(fd, 1, -1);
    takes(ev, c->ap);
    say(fd, 2, -1);
    (void)hear(fd, NULL);
}

/* Its parent had the handle first and has it still. */
static void
port_taken_by_a_dead_child__is_the_parents_to_unmask(void)
{
    struct channel c;
    struct party p;

    channel_open(&c);
    party_start(&p, child_takes, &c);
    MUST_BE(hear(p.fd, NULL), 1);
    send_from(c.b, c.bp);
    MUST_BE(hear(p.fd, NULL), 2);
    party_kill(&p);
    inherits(c.a, c.ap, c.b, c.bp);
    channel_close(&c);
}

/* With the handle as it inherited it, where no new port is needed. */
static void
child_serves(int fd, void *arg)
{
    const struct channel *c = arg;

    takes(c->a, c->ap);
    unmask(c->a, c->ap);
    send_from(c->a, c->ap);
    say(fd, 1, -1);
    (void)hear(fd, NULL);
}

static void
child__serves_with_its_parents_handle(void)
{
    struct channel c;
    struct party p;

    channel_open(&c);
    party_start(&p, child_serves, &c);
    send_from(c.b, c.bp);
    MUST_BE(hear(p.fd, NULL), 1);
    takes(c.b, c.bp);
    party_kill(&p);
    unmask(c.b, c.bp);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    channel_close(&c);
}

static void
child_unmasks(int fd, void *arg)
{
    const struct channel *c = arg;
    xenevtchn_handle *ev = xenevtchn_fdopen(NULL, xenevtchn_fd(c->a), 0);

    MUST(ev);
    unmask(ev, c->ap);
    say(fd, 1, -1);
    (void)hear(fd, NULL);
}

static void
port_unmasked_by_a_child__is_the_parents_to_take(void)
{
    struct channel c;
    struct party p;

    channel_open(&c);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    party_start(&p, child_unmasks, &c);
    MUST_BE(hear(p.fd, NULL), 1);
    send_from(c.b, c.bp);
    takes(c.a, c.ap);
    party_kill(&p);
    channel_close(&c);
}

/* Takes an event, then becomes a new program that has the handle. */
static void
execer(int fd, void *arg)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, XENEVTCHN_NO_CLOEXEC);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;

    MUST(port > 0);
    say(fd, (uint32_t)port, -1);
    takes(ev, port);
    adopt_by_exec(xenevtchn_fd(ev), port, fd);
}

void
adopt_after_exec(int handle, int port, int fd)
{
    xenevtchn_handle *ev = xenevtchn_fdopen(NULL, handle, 0);

    MUST(ev);
    MUST_BE_QUIET(ev);
    say(fd, 1, -1);
    MUST_BE(hear(fd, NULL), 2); /* an event was sent meanwhile */
    MUST_BE_QUIET(ev);
    unmask(ev, port);
    takes(ev, port);
    send_from(ev, port);
    say(fd, 3, -1);
    MUST_BE(xenevtchn_close(ev), 0);
}

static void
handle__survives_an_exec(void)
{
    xenevtchn_handle *b = xenevtchn_open(NULL, 0);
    struct party p;
    int bp;

    MUST(b);
    party_start(&p, execer, NULL);
    bp = xenevtchn_bind_interdomain(b, self_domid, hear(p.fd, NULL));
    MUST(bp > 0);
    takes(b, bp);
    unmask(b, bp);
    send_from(b, bp);
    MUST_BE(hear(p.fd, NULL), 1);
    send_from(b, bp);
    say(p.fd, 2, -1);
    takes(b, bp);
    MUST_BE(hear(p.fd, NULL), 3);
    party_end(&p);
    MUST_BE(xenevtchn_close(b), 0);
}

#define RULE(name) { #name, name }

const struct rule event_rules[] = {
    RULE(bound_port__is_pending_once),
    RULE(events__coalesce),
    RULE(taken_port__stays_masked_until_unmasked),
    RULE(unmasking_an_unmasked_port__is_harmless),
    RULE(nonblocking_handle__says_again),
    RULE(bind__is_refused),
    RULE(port_of_another_handle__is_not_connected),
    RULE(restricted_handle__offers_no_port_and_binds_to_no_other),
    RULE(restriction__is_final),
    RULE(dead_backend__can_be_followed),
    RULE(dead_frontends_port__is_gone),
    RULE(survivor__waits_whichever_end_it_is),
    RULE(passed_handle__outlives_its_binder),
    RULE(port__belongs_to_the_file_not_the_descriptor),
    RULE(child__serves_with_its_parents_handle),
    RULE(port_taken_by_a_dead_child__is_the_parents_to_unmask),
    RULE(port_unmasked_by_a_child__is_the_parents_to_take),
    RULE(handle__survives_an_exec),
    { NULL, NULL },
};
