/* SPDX-License-Identifier: MIT */
/*
 * libxenevtchn on the local hypervisor.
 *
 * fhv sets ports up and takes them down; a notification is a bit in a slot
 * that both ends share and, when the receiver sleeps, one write to an eventfd.
 * The handle's descriptor is an epoll that watches the bell of every port
 * (hv/abi.h), edge-triggered: nothing is ever read to make it silent again.
 *
 * As with Linux's /dev/xen/evtchn: a port that xenevtchn_pending() returned is
 * masked until it is unmasked; a freshly bound one is pending; notifying a port
 * of somebody else is ENOTCONN; unmasking one does nothing.
 *
 * The peer writes to our slots.  It can lose its events or ring for nothing.
 * Whether a port is masked is in the slot and nowhere else: the handle may be
 * open in several processes, and who takes an event need not be who unmasks.
 *
 * Threads: any, a lock per handle; it is never held while waiting.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include <xenevtchn.h>

#include "evtchn/evslot.h"
#include "xenlibs/hvconn.h"
#include "xenplat/tally.h"

enum {
    PORTS_MAX = 4096,
    SLOTS_BYTES = FH_HV_SLOTS_PER_FILE * FH_EVSLOT_BYTES,
    LOCAL = 0, /* the mark of our own eventfd; port 0 does not exist */
};

/* A slot file that at least one port uses. */
struct slotmap {
    LIST_ENTRY(slotmap) link;
    uint64_t id;
    uint32_t refs;
    FH_SHARED struct fh_evslot *slots;
};

struct port {
    uint32_t number;
    int bell; /* -1: registered by whoever had the handle before us */
    int tx;
    bool is_queued;
    struct slotmap *map;
    FH_SHARED struct fh_evslot *own, *peer;
    TAILQ_ENTRY(port) queue_link;
};

struct xenevtchn_handle {
    struct fh_hvc hvc;
    LIST_ENTRY(xenevtchn_handle) link;
    pthread_mutex_t lock;
    int epfd;
    int local; /* eventfd: something is in the queue */
    bool is_adopted;
    LIST_HEAD(, slotmap) maps;
    TAILQ_HEAD(, port) queue; /* pending at unmask: nobody else rings */
    struct port *ports[PORTS_MAX];
};

/* Handles of this process, to tell a socket of ours from an inherited one. */
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, xenevtchn_handle) handles;

static int
fail(int error)
{
    errno = -error;
    return -1;
}

/* ------------------------------------------------------------------ slots */

static struct slotmap *
slotmap_get(xenevtchn_handle *xce, uint64_t id, int fd)
{
    struct slotmap *m;

    LIST_FOREACH(m, &xce->maps, link) {
        if (m->id == id) {
            m->refs++;
            return m;
        }
    }
    m = calloc(1, sizeof(*m));
    if (!m)
        return NULL;
    void *mem =
        mmap(NULL, SLOTS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (mem == MAP_FAILED) {
        free(m);
        return NULL;
    }
    m->id = id;
    m->refs = 1;
    m->slots = (FH_SHARED struct fh_evslot *)(uintptr_t)mem;
    LIST_INSERT_HEAD(&xce->maps, m, link);
    return m;
}

static void
slotmap_put(struct slotmap *m)
{
    if (--m->refs)
        return;
    LIST_REMOVE(m, link);
    munmap((void *)(uintptr_t)m->slots, SLOTS_BYTES);
    free(m);
}

/* ------------------------------------------------------------------ ports */

static void
port_free(xenevtchn_handle *xce, struct port *p)
{
    if (p->is_queued)
        TAILQ_REMOVE(&xce->queue, p, queue_link);
    xce->ports[p->number] = NULL;
    if (p->bell >= 0)
        close(p->bell);
    if (p->tx >= 0)
        close(p->tx);
    if (p->map)
        slotmap_put(p->map);
    free(p);
}

/* Takes the bell out of the epoll by hand: the hypervisor has it open too, so
 * that closing ours would not. */
static void
port_silence(xenevtchn_handle *xce, struct port *p)
{
    if (p->bell >= 0)
        (void)epoll_ctl(xce->epfd, EPOLL_CTL_DEL, p->bell, NULL);
}

static int
port_watch(xenevtchn_handle *xce, struct port *p)
{
    struct epoll_event ev = {
        .events = EPOLLIN | EPOLLET, .data.u64 = p->number,
    };

    return epoll_ctl(xce->epfd, EPOLL_CTL_ADD, p->bell, &ev) < 0 ? -errno : 0;
}

/* Makes a port of an answer; its descriptors are ours, whatever happens. */
static int
port_make(xenevtchn_handle *xce, struct fh_hvc_answer *a, struct port **out)
{
    const uint64_t slots = a->rsp.arg[2];
    struct port *p;

    if (a->n_fds != 3 || a->rsp.arg[0] >= PORTS_MAX ||
        (uint32_t)slots >= FH_HV_SLOTS_PER_FILE ||
        slots >> 32 >= FH_HV_SLOTS_PER_FILE)
        return FH_EPROTO; /* and the descriptors are lost: a broken fhv */
    p = calloc(1, sizeof(*p));
    if (!p) {
        for (unsigned i = 0; i < 3; i++)
            close(a->fds[i]);
        return FH_ENOMEM;
    }
    p->number = (uint32_t)a->rsp.arg[0];
    p->bell = a->fds[0];
    p->tx = a->fds[1];
    p->map = slotmap_get(xce, a->rsp.arg[1], a->fds[2]);
    close(a->fds[2]);
    xce->ports[p->number] = p;
    if (!p->map) {
        port_free(xce, p);
        return FH_ENOMEM;
    }
    p->own = &p->map->slots[(uint32_t)slots];
    p->peer = &p->map->slots[slots >> 32];
    *out = p;
    return 0;
}

/*
 * The port of this number, or NULL.  A handle that was passed on may have ports
 * that this process does not know yet: their bells ring in the epoll already,
 * and they count as masked until somebody unmasks them.
 */
static struct port *
port_get(xenevtchn_handle *xce, uint32_t number)
{
    const struct fh_hv_req req = { .op = FH_HV_EV_PORT, .arg = { number } };
    struct fh_hvc_answer a;
    struct port *p;

    if (number >= PORTS_MAX)
        return NULL;
    if (xce->ports[number] || !xce->is_adopted)
        return xce->ports[number];
    if (fh_hvc_call(&xce->hvc, &req, -1, &a) || port_make(xce, &a, &p))
        return NULL;
    close(p->bell);
    p->bell = -1;
    return p;
}

static int
port_unbind(xenevtchn_handle *xce, uint32_t number)
{
    const struct fh_hv_req req = { .op = FH_HV_EV_UNBIND, .arg = { number } };

    return fh_hvc_call(&xce->hvc, &req, -1, NULL);
}

static int
port_open(xenevtchn_handle *xce, enum fh_hv_op op, uint32_t domid,
          evtchn_port_t remote)
{
    const struct fh_hv_req req = { .op = op, .arg = { domid, remote } };
    struct fh_hvc_answer a;
    struct port *p = NULL;
    int r;

    r = fh_hvc_call(&xce->hvc, &req, -1, &a);
    if (r)
        return r;
    r = port_make(xce, &a, &p);
    if (!r)
        r = port_watch(xce, p);
    if (!r)
        return (int)p->number;
    if (p)
        port_free(xce, p);
    int q = port_unbind(xce, (uint32_t)a.rsp.arg[0]);

    return q ? q : r;
}

static xenevtchn_port_or_error_t
port_open_locked(xenevtchn_handle *xce, enum fh_hv_op op, uint32_t domid,
                 evtchn_port_t remote)
{
    int r;

    pthread_mutex_lock(&xce->lock);
    r = port_open(xce, op, domid, remote);
    pthread_mutex_unlock(&xce->lock);
    return r < 0 ? fail(r) : r;
}

/* ---------------------------------------------------------------- handles */

static void
handle_free(xenevtchn_handle *xce)
{
    if (xce->local >= 0)
        close(xce->local);
    if (xce->epfd >= 0)
        close(xce->epfd);
    pthread_mutex_destroy(&xce->lock);
    free(xce);
}

static xenevtchn_handle *
handle_new(void)
{
    xenevtchn_handle *xce = calloc(1, sizeof(*xce));

    if (!xce)
        return NULL;
    pthread_mutex_init(&xce->lock, NULL);
    TAILQ_INIT(&xce->queue);
    xce->epfd = -1;
    xce->local = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (xce->local >= 0)
        return xce;
    handle_free(xce);
    return NULL;
}

static int
local_watch(xenevtchn_handle *xce)
{
    struct epoll_event ev = {
        .events = EPOLLIN | EPOLLET, .data.u64 = LOCAL,
    };

    return epoll_ctl(xce->epfd, EPOLL_CTL_ADD, xce->local, &ev) < 0 ? -errno
                                                                    : 0;
}

static bool
socket_is_ours(int fd)
{
    xenevtchn_handle *other;
    bool found = false;

    pthread_mutex_lock(&handles_lock);
    LIST_FOREACH(other, &handles, link)
        found |= other->hvc.sock == fd;
    pthread_mutex_unlock(&handles_lock);
    return found;
}

/* After an exec, the old program's connection is still open under the number
 * that the hypervisor remembers; the handle would never end with it. */
static void
inherited_close(uint64_t number)
{
    const int fd = number < INT32_MAX ? (int)number : -1;
    int type = 0;
    socklen_t len = sizeof(type);

    if (fd < 0 || socket_is_ours(fd))
        return;
    if (!getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) &&
        type == SOCK_SEQPACKET)
        close(fd);
}

/* Tells the hypervisor which open file is the handle. */
static int
handle_register(xenevtchn_handle *xce, enum fh_hv_op op, bool inherits)
{
    const struct fh_hv_req req = {
        .op = op,
        .arg = { inherits ? (uint32_t)xce->hvc.sock : UINT32_MAX },
    };
    struct fh_hvc_answer a;
    int r = fh_hvc_call(&xce->hvc, &req, xce->epfd, &a);

    if (r)
        return r;
    if (op == FH_HV_EV_ADOPT)
        inherited_close(a.rsp.arg[0]);
    return local_watch(xce);
}

static xenevtchn_handle *
handle_open(int fd, enum fh_hv_op op, bool inherits)
{
    xenevtchn_handle *xce = handle_new();
    int r;

    if (!xce) {
        errno = ENOMEM;
        return NULL;
    }
    xce->is_adopted = op == FH_HV_EV_ADOPT;
    xce->epfd = xce->is_adopted
                    ? fd
                    : epoll_create1(inherits ? 0 : EPOLL_CLOEXEC);
    r = xce->epfd < 0 ? -errno
                      : fh_hvc_open(&xce->hvc, FH_HV_KIND_EVTCHN, 0, inherits);
    if (r)
        goto fail;
    r = handle_register(xce, op, inherits);
    if (r) {
        fh_hvc_close(&xce->hvc);
        goto fail;
    }
    pthread_mutex_lock(&handles_lock);
    LIST_INSERT_HEAD(&handles, xce, link);
    pthread_mutex_unlock(&handles_lock);
    return xce;

fail:
    if (xce->is_adopted)
        xce->epfd = -1; /* still the caller's */
    handle_free(xce);
    errno = -r;
    return NULL;
}

xenevtchn_handle *
xenevtchn_open(struct xentoollog_logger *logger, unsigned int flags)
{
    if (flags & ~XENEVTCHN_NO_CLOEXEC) {
        errno = EINVAL;
        return NULL;
    }
    return handle_open(-1, FH_HV_EV_OPEN, flags & XENEVTCHN_NO_CLOEXEC);
}

xenevtchn_handle *
xenevtchn_fdopen(struct xentoollog_logger *logger, int fd, unsigned open_flags)
{
    if (open_flags) {
        errno = EINVAL;
        return NULL;
    }
    return handle_open(fd, FH_HV_EV_ADOPT, false);
}

int
xenevtchn_close(xenevtchn_handle *xce)
{
    const bool is_ours = xce && xce->hvc.pid == getpid();

    if (!xce)
        return 0;
    pthread_mutex_lock(&handles_lock);
    LIST_REMOVE(xce, link);
    pthread_mutex_unlock(&handles_lock);
    /* The bells go on ringing: whoever else has the file has the ports. */
    for (uint32_t i = 0; i < PORTS_MAX; i++)
        if (xce->ports[i])
            port_free(xce, xce->ports[i]);
    if (is_ours) /* a child's epoll is its parent's as well */
        (void)epoll_ctl(xce->epfd, EPOLL_CTL_DEL, xce->local, NULL);
    fh_hvc_close(&xce->hvc);
    handle_free(xce);
    return 0;
}

int
xenevtchn_fd(xenevtchn_handle *xce)
{
    return xce->epfd;
}

int
xenevtchn_restrict(xenevtchn_handle *xce, domid_t domid)
{
    const struct fh_hv_req req = { .op = FH_HV_EV_RESTRICT, .arg = { domid } };
    int r;

    pthread_mutex_lock(&xce->lock);
    r = fh_hvc_call(&xce->hvc, &req, -1, NULL);
    pthread_mutex_unlock(&xce->lock);
    return r ? fail(r) : 0;
}

xenevtchn_port_or_error_t
xenevtchn_bind_unbound_port(xenevtchn_handle *xce, uint32_t domid)
{
    return port_open_locked(xce, FH_HV_EV_ALLOC, domid, 0);
}

xenevtchn_port_or_error_t
xenevtchn_bind_interdomain(xenevtchn_handle *xce, uint32_t domid,
                           evtchn_port_t remote_port)
{
    return port_open_locked(xce, FH_HV_EV_BIND, domid, remote_port);
}

xenevtchn_port_or_error_t
xenevtchn_bind_virq(xenevtchn_handle *xce, unsigned int virq)
{
    const struct fh_hv_req req = { .op = FH_HV_EV_VIRQ, .arg = { virq } };
    int r;

    pthread_mutex_lock(&xce->lock);
    r = fh_hvc_call(&xce->hvc, &req, -1, NULL);
    pthread_mutex_unlock(&xce->lock);
    return fail(r ? r : FH_ENOSYS);
}

int
xenevtchn_unbind(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct port *p;
    int r = FH_ENOTCONN;

    pthread_mutex_lock(&xce->lock);
    p = port_get(xce, port);
    if (p) {
        port_silence(xce, p);
        port_free(xce, p);
        r = port_unbind(xce, port);
    }
    pthread_mutex_unlock(&xce->lock);
    return r ? fail(r) : 0;
}

/* ----------------------------------------------------------------- events */

int
xenevtchn_notify(xenevtchn_handle *xce, evtchn_port_t port)
{
    const uint64_t one = 1;
    struct port *p;
    int r = 0;

    pthread_mutex_lock(&xce->lock);
    p = port_get(xce, port);
    if (!p) {
        r = FH_ENOTCONN;
    } else if (fh_evslot_send(p->peer)) {
        fh_tally_syscall();
        /* The eventfd does not block; a full counter rings all the same. */
        if (write(p->tx, &one, sizeof(one)) < 0 && errno != EAGAIN)
            r = -errno;
    }
    pthread_mutex_unlock(&xce->lock);
    return r ? fail(r) : 0;
}

static void
local_ring(xenevtchn_handle *xce)
{
    const uint64_t one = 1;

    fh_tally_syscall();
    if (write(xce->local, &one, sizeof(one)) < 0)
        return; /* a counter cannot be full of ones */
}

int
xenevtchn_unmask(xenevtchn_handle *xce, evtchn_port_t port)
{
    struct port *p;

    pthread_mutex_lock(&xce->lock);
    p = port_get(xce, port);
    if (p && fh_evslot_is_masked(p->own) && fh_evslot_unmask(p->own) &&
        !p->is_queued) {
        p->is_queued = true;
        TAILQ_INSERT_TAIL(&xce->queue, p, queue_link);
        local_ring(xce);
    }
    pthread_mutex_unlock(&xce->lock);
    return 0;
}

/* The port that was pending longest at its unmask, or NULL. */
static struct port *
queue_pop(xenevtchn_handle *xce)
{
    struct port *p = TAILQ_FIRST(&xce->queue);

    if (!p)
        return NULL;
    TAILQ_REMOVE(&xce->queue, p, queue_link);
    p->is_queued = false;
    if (!TAILQ_EMPTY(&xce->queue))
        local_ring(xce);
    return p;
}

/* What event @mark of the epoll means: a port, or 0 for nothing. */
static uint32_t
event_take(xenevtchn_handle *xce, uint64_t mark)
{
    struct port *p;
    uint32_t number = 0;

    pthread_mutex_lock(&xce->lock);
    p = mark == LOCAL ? queue_pop(xce) : port_get(xce, (uint32_t)mark);
    if (p && fh_evslot_take(p->own))
        number = p->number;
    pthread_mutex_unlock(&xce->lock);
    return number;
}

/*
 * Whoever polled first must not be put to sleep by a peer that rings for
 * nothing, so an event that was there at once and meant nothing is EAGAIN;
 * whoever waits here goes on waiting.
 */
xenevtchn_port_or_error_t
xenevtchn_pending(xenevtchn_handle *xce)
{
    struct epoll_event ev;

    fh_tally_syscall();
    int n = epoll_wait(xce->epfd, &ev, 1, 0);
    const bool was_there = n > 0;

    for (;;) {
        if (n == 0)
            fh_tally_syscall();
        if (n == 0 && fcntl(xce->epfd, F_GETFL) & O_NONBLOCK)
            return fail(FH_EAGAIN);
        if (n == 0) {
            fh_tally_syscall();
            n = epoll_wait(xce->epfd, &ev, 1, -1);
        }
        if (n < 0)
            return -1;
        uint32_t port = n ? event_take(xce, ev.data.u64) : 0;

        if (port)
            return (int)port;
        if (was_there)
            return fail(FH_EAGAIN);
        n = 0;
    }
}
