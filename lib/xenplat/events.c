/* SPDX-License-Identifier: MIT */
/*
 * Event channels of the production platform: libxenevtchn.
 *
 * A read of the event descriptor is a system call, so it is made only when
 * there may be something to read (x->ev_maybe): after poll(2) said so, or after
 * a bind (a port is born pending).  What came while a port was masked makes the
 * descriptor readable when it is unmasked.  Every bound port that was
 * delivered is masked; once all are, no read can find anything.
 */
#include <poll.h>
#include <xenevtchn.h>
#include "xenplat/internal.h"

static int
adopt_port(struct fh_xenplat *x, int got, uint32_t *port)
{
    if (got < 0)
        return fh_xenplat_errno();
    x->n_bound++;
    x->ev_maybe = true;
    *port = (uint32_t)got;
    return 0;
}

int
fh_xenplat_ev_alloc(struct fh_plat *p, uint16_t domid, uint32_t *port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->evtchn)
        return FH_ENOSYS;
    return adopt_port(x, xenevtchn_bind_unbound_port(x->evtchn, domid), port);
}

int
fh_xenplat_ev_bind(struct fh_plat *p, uint16_t domid, uint32_t remote_port,
                   uint32_t *port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    int r;

    if (!x->evtchn)
        return FH_ENOSYS;
    r = adopt_port(x, xenevtchn_bind_interdomain(x->evtchn, domid, remote_port),
                   port);
    return r == FH_EINVAL ? FH_PLAT_E_REFUSED : r;
}

int
fh_xenplat_ev_unbind(struct fh_plat *p, uint32_t port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->evtchn)
        return FH_ENOSYS;
    if (xenevtchn_unbind(x->evtchn, port))
        return fh_xenplat_errno();
    x->n_bound--;
    x->n_masked = 0; /* unknown: counting too few costs a read, no more */
    return 0;
}

int
fh_xenplat_ev_notify(struct fh_plat *p, uint32_t port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->evtchn)
        return FH_ENOSYS;
    x->counts.notifies++;
    return xenevtchn_notify(x->evtchn, port) ? fh_xenplat_errno() : 0;
}

static bool
may_read(struct fh_xenplat *x)
{
    struct pollfd fd = {.fd = xenevtchn_fd(x->evtchn), .events = POLLIN};

    if (x->n_bound && x->n_masked >= x->n_bound)
        x->ev_maybe = false;
    if (!x->ev_maybe || x->ev_nonblock)
        return x->ev_maybe;
    x->counts.ev_reads++;
    return poll(&fd, 1, 0) == 1;
}

int
fh_xenplat_ev_next(struct fh_plat *p, uint32_t *port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    int got;

    if (!x->evtchn)
        return FH_ENOSYS;
    if (!may_read(x)) {
        x->ev_maybe = false;
        return FH_PLAT_E_NONE;
    }
    x->counts.ev_reads++;
    got = xenevtchn_pending(x->evtchn);
    if (got >= 0) {
        x->n_masked++;
        *port = (uint32_t)got;
        return 0;
    }
    x->ev_maybe = false;
    return errno == EAGAIN || errno == EINTR ? FH_PLAT_E_NONE
                                             : fh_xenplat_errno();
}

int
fh_xenplat_ev_unmask(struct fh_plat *p, uint32_t port)
{
    struct fh_xenplat *x = fh_xenplat_of(p);

    if (!x->evtchn)
        return FH_ENOSYS;
    x->counts.unmasks++;
    if (x->n_masked)
        x->n_masked--;
    return xenevtchn_unmask(x->evtchn, port) ? fh_xenplat_errno() : 0;
}
