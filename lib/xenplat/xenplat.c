/* SPDX-License-Identifier: MIT */
/* The production platform: its life, its clock, its sleep. */
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>
#include "xenplat/tally.h"
#include "xenplat/internal.h"

enum { FD_EVTCHN, FD_XS, FD_FIRST_OWN };

static const struct fh_plat_ops ops = {
    .now_ns = fh_xenplat_now_ns,
    .coarse_ns = fh_xenplat_coarse_ns,
    .wait = fh_xenplat_wait,
    .cpu_wanted = fh_xenplat_cpu_wanted,
    .gnt_map = fh_xenplat_gnt_map,
    .gnt_unmap = fh_xenplat_gnt_unmap,
    .gnt_copy = fh_xenplat_gnt_copy,
    .gnt_share = fh_xenplat_gnt_share,
    .gnt_unshare = fh_xenplat_gnt_unshare,
    .ev_alloc = fh_xenplat_ev_alloc,
    .ev_bind = fh_xenplat_ev_bind,
    .ev_unbind = fh_xenplat_ev_unbind,
    .ev_notify = fh_xenplat_ev_notify,
    .ev_next = fh_xenplat_ev_next,
    .ev_unmask = fh_xenplat_ev_unmask,
    .xs_begin = fh_xenplat_xs_begin,
    .xs_end = fh_xenplat_xs_end,
    .xs_read = fh_xenplat_xs_read,
    .xs_write = fh_xenplat_xs_write,
    .xs_mkdir = fh_xenplat_xs_mkdir,
    .xs_rm = fh_xenplat_xs_rm,
    .xs_list = fh_xenplat_xs_list,
    .xs_set_perms = fh_xenplat_xs_set_perms,
    .xs_watch = fh_xenplat_xs_watch,
    .xs_unwatch = fh_xenplat_xs_unwatch,
    .xs_next = fh_xenplat_xs_next,
};

static uint64_t
read_clock(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t
fh_xenplat_now_ns(struct fh_plat *p)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* Of the last tick: never a system call. */
uint64_t
fh_xenplat_coarse_ns(struct fh_plat *p)
{
    return read_clock(CLOCK_MONOTONIC_COARSE);
}

int
fh_xenplat_wait(struct fh_plat *p, uint64_t timeout_ns)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    struct timespec ts = {
        .tv_sec = (time_t)(timeout_ns / 1000000000u),
        .tv_nsec = (long)(timeout_ns % 1000000000u),
    };
    int r;

    x->counts.waits++;
    r = ppoll(x->fds, x->n_fds, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
    if (r < 0)
        return errno == EINTR ? 0 : fh_xenplat_errno();
    if (x->fds[FD_EVTCHN].revents)
        x->ev_maybe = true;
    return 0;
}

static int
open_grants(struct fh_xenplat *x, unsigned parts)
{
    if (parts & FH_XENPLAT_GRANTEE) {
        x->gnttab = xengnttab_open(NULL, 0);
        if (!x->gnttab)
            return fh_xenplat_errno();
    }
    if (parts & FH_XENPLAT_GRANTER) {
        x->gntshr = xengntshr_open(NULL, 0);
        if (!x->gntshr)
            return fh_xenplat_errno();
    }
    return 0;
}

static int
open_events(struct fh_xenplat *x)
{
    int fd, flags;

    x->evtchn = xenevtchn_open(NULL, 0);
    if (!x->evtchn)
        return fh_xenplat_errno();
    fd = xenevtchn_fd(x->evtchn);
    flags = fcntl(fd, F_GETFL);
    x->ev_nonblock = flags >= 0 && !fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    x->fds[FD_EVTCHN].fd = fd;
    return 0;
}

/* xs_fileno() is asked for here, before any watch: the library then makes its
 * pipe at once, and every event shows in it. */
static int
open_store(struct fh_xenplat *x)
{
    x->xs = xs_open(XS_UNWATCH_FILTER);
    if (!x->xs)
        return fh_xenplat_errno();
    x->fds[FD_XS].fd = xs_fileno(x->xs);
    return x->fds[FD_XS].fd < 0 ? fh_xenplat_errno() : 0;
}

int
fh_xenplat_open_more(struct fh_xenplat *x, unsigned parts)
{
    int r = open_grants(x, parts);

    if (!r && (parts & FH_XENPLAT_EVENTS))
        r = open_events(x);
    if (!r && (parts & FH_XENPLAT_XENSTORE))
        r = open_store(x);
    if (r)
        fh_xenplat_close(x);
    return r;
}

int
fh_xenplat_open(struct fh_xenplat *x, unsigned parts)
{
    memset(x, 0, sizeof(*x));
    x->plat.ops = &ops;
    x->n_fds = FD_FIRST_OWN;
    for (size_t i = 0; i < FD_FIRST_OWN; i++)
        x->fds[i] = (struct pollfd){.fd = -1, .events = POLLIN};
    fh_xenplat_cpu_open(x);
    return fh_xenplat_open_more(x, parts);
}

int
fh_xenplat_restrict(struct fh_xenplat *x, uint16_t domid)
{
    if (!x->evtchn)
        return FH_ENOSYS;
    return xenevtchn_restrict(x->evtchn, domid) ? fh_xenplat_errno() : 0;
}

bool
fh_xenplat_is_local(void)
{
    return fh_xenlib_tally.is_counting;
}

void
fh_xenplat_close(struct fh_xenplat *x)
{
    if (x->xs)
        xs_close(x->xs);
    if (x->evtchn)
        xenevtchn_close(x->evtchn);
    if (x->gntshr)
        xengntshr_close(x->gntshr);
    if (x->gnttab)
        xengnttab_close(x->gnttab);
    x->xs = x->evtchn = x->gntshr = x->gnttab = NULL;
    fh_xenplat_cpu_close(x);
}

int
fh_xenplat_evtchn_fd(const struct fh_xenplat *x)
{
    return x->fds[FD_EVTCHN].fd;
}

int
fh_xenplat_xs_fd(const struct fh_xenplat *x)
{
    return x->fds[FD_XS].fd;
}

int
fh_xenplat_gnttab_fd(const struct fh_xenplat *x)
{
    return x->gnttab ? xengnttab_fd(x->gnttab) : -1;
}

int
fh_xenplat_add_fd(struct fh_xenplat *x, int fd, short events)
{
    if (x->n_fds == FD_FIRST_OWN + FH_XENPLAT_MAX_FDS)
        return FH_ENOSPC;
    x->fds[x->n_fds++] = (struct pollfd){.fd = fd, .events = events};
    return 0;
}

/* Index of an embedder's @fd in the table, or n_fds. */
static uint32_t
find_fd(const struct fh_xenplat *x, int fd)
{
    uint32_t i = FD_FIRST_OWN;

    while (i < x->n_fds && x->fds[i].fd != fd)
        i++;
    return i;
}

short
fh_xenplat_fd_events(const struct fh_xenplat *x, int fd)
{
    uint32_t i = find_fd(x, fd);

    return i < x->n_fds ? x->fds[i].revents : 0;
}

void
fh_xenplat_remove_fd(struct fh_xenplat *x, int fd)
{
    uint32_t i = find_fd(x, fd);

    if (i < x->n_fds)
        x->fds[i] = x->fds[--x->n_fds];
}

/* Found by fhv's libraries, by name, in the program that links us. */
struct fh_xenlib_tally fh_xenlib_tally;

uint64_t
fh_xenplat_syscalls(const struct fh_xenplat *x)
{
    const struct fh_xenplat_counts *c = &x->counts;
    const uint64_t own = c->waits + c->cpu_calls;

    if (fh_xenlib_tally.is_counting)
        return own + fh_xenlib_tally.n_syscalls;
    return own + c->notifies + c->ev_reads + c->unmasks + c->maps + c->unmaps +
           c->copies + c->shares + c->unshares;
}
