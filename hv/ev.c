/* SPDX-License-Identifier: MIT */
/*
 * Event channels: fhv sets them up and takes them down; notifications go from
 * library to library.
 *
 * lib/evtchn keeps the states of the ports.  A channel object holds what the
 * two libraries need, for both ends from the first moment, and lives as long
 * as one end is open: when a holder dies, its peer's descriptors stay valid,
 * and whoever binds next gets the same ones.
 *
 * The receiver of an end never gets the eventfd that its peer writes, only an
 * epoll descriptor that watches it: else it could fill the counter, make it
 * blocking, and so hang its peer in write().  For the same reason fhv writes
 * to an eventfd of its own (kick), never to one that a domain holds.
 */
#include <errno.h>
#include <linux/kcmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "evtchn/evslot.h"
#include "hv/hv.h"

/* A memfd of slots that one pair of domains shares. */
struct fh_hv_slotfile {
    LIST_ENTRY(fh_hv_slotfile) link;
    uint64_t uid[2];
    uint64_t id;
    int fd;
    FH_SHARED struct fh_evslot *slots;
    uint32_t n_used;
    uint64_t used[FH_HV_SLOTS_PER_FILE / 64];
};

struct fh_hv_chan {
    struct fh_hv_slotfile *file;
    struct fh_hv_domain *payer; /* of the descriptors; counted */
    struct fh_hv_end end[2];
    uint64_t uid[2];
    bool is_open[2];
    uint32_t holds; /* of notifications on unmap */
};

enum { FDS_PER_CHAN = 6 };

/* ------------------------------------------------- what lib/evtchn calls -- */

static struct fh_hv_domain *
dom_of(struct fh_evtchn_domain *d)
{
    return (struct fh_hv_domain *)((char *)d -
                                   offsetof(struct fh_hv_domain, ev));
}

static struct fh_evtchn_domain *
op_domain_get(void *hv, uint16_t domid)
{
    struct fh_hv_domain *dom = fh_hv_domain_find(hv, domid);

    if (!dom)
        return NULL;
    fh_hv_domain_hold(dom);
    return &dom->ev;
}

static void
op_domain_hold(void *hv, struct fh_evtchn_domain *d)
{
    fh_hv_domain_hold(dom_of(d));
}

static void
op_domain_put(void *hv, struct fh_evtchn_domain *d)
{
    fh_hv_domain_put(dom_of(d));
}

/* Libraries tell each other. */
static void
op_deliver(void *hv, struct fh_evtchn_domain *d, uint32_t port)
{
}

const struct fh_evtchn_ops fh_hv_ev_ops = {
    .domain_get = op_domain_get,
    .domain_hold = op_domain_hold,
    .domain_put = op_domain_put,
    .deliver = op_deliver,
};

/* ----------------------------------------------------------------- slots -- */

static void
slotfile_free(struct fh_hv *hv, struct fh_hv_slotfile *f)
{
    LIST_REMOVE(f, link);
    munmap((void *)(uintptr_t)f->slots, FH_HV_SLOTS_PER_FILE * FH_EVSLOT_BYTES);
    close(f->fd);
    free(f);
    hv->n_slotfiles--;
}

static struct fh_hv_slotfile *
slotfile_new(struct fh_hv *hv, uint64_t a, uint64_t b)
{
    const size_t bytes = (size_t)FH_HV_SLOTS_PER_FILE * FH_EVSLOT_BYTES;
    struct fh_hv_slotfile *f = calloc(1, sizeof(*f));
    void *mem;

    if (!f)
        return NULL;
    f->fd = fh_hv_memfd("freehold-events", bytes, 0600);
    if (f->fd < 0)
        goto fail;
    mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    if (mem == MAP_FAILED) {
        close(f->fd);
        goto fail;
    }
    f->slots = (FH_SHARED struct fh_evslot *)(uintptr_t)mem;
    f->uid[0] = a;
    f->uid[1] = b;
    f->id = ++hv->next_file;
    LIST_INSERT_HEAD(&hv->slotfiles, f, link);
    hv->n_slotfiles++;
    return f;

fail:
    free(f);
    return NULL;
}

static bool
slotfile_of(const struct fh_hv_slotfile *f, uint64_t a, uint64_t b)
{
    return (f->uid[0] == a && f->uid[1] == b) ||
           (f->uid[0] == b && f->uid[1] == a);
}

static uint32_t
slot_take(struct fh_hv_slotfile *f)
{
    uint32_t i = 0;

    while (f->used[i] == UINT64_MAX)
        i++;
    const uint32_t bit = (uint32_t)__builtin_ctzll(~f->used[i]);

    f->used[i] |= 1ull << bit;
    f->n_used++;
    return i * 64 + bit;
}

static void
slot_drop(struct fh_hv_slotfile *f, uint32_t slot)
{
    f->used[slot / 64] &= ~(1ull << (slot % 64));
    f->n_used--;
}

/* A file of the pair with two free slots. */
static struct fh_hv_slotfile *
slotfile_get(struct fh_hv *hv, uint64_t a, uint64_t b)
{
    struct fh_hv_slotfile *f;

    LIST_FOREACH(f, &hv->slotfiles, link) {
        if (slotfile_of(f, a, b) && f->n_used + 2 <= FH_HV_SLOTS_PER_FILE)
            return f;
    }
    return slotfile_new(hv, a, b);
}

void
fh_hv_slotfiles_sweep(struct fh_hv *hv, uint64_t uid)
{
    struct fh_hv_slotfile *f, *next;

    for (f = LIST_FIRST(&hv->slotfiles); f; f = next) {
        next = LIST_NEXT(f, link);
        if ((f->uid[0] == uid || f->uid[1] == uid) && !f->n_used)
            slotfile_free(hv, f);
    }
}

/* -------------------------------------------------------------- channels -- */

static int
end_open(struct fh_hv_end *end)
{
    struct epoll_event ev = { .events = EPOLLIN | EPOLLET };

    end->tx = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    end->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    end->bell = epoll_create1(EPOLL_CLOEXEC);
    if (end->tx < 0 || end->kick < 0 || end->bell < 0)
        return -errno;
    if (epoll_ctl(end->bell, EPOLL_CTL_ADD, end->tx, &ev) < 0 ||
        epoll_ctl(end->bell, EPOLL_CTL_ADD, end->kick, &ev) < 0)
        return -errno;
    return 0;
}

static void
end_close(struct fh_hv *hv, struct fh_hv_end *end)
{
    if (end->bell >= 0)
        close(end->bell);
    fh_hv_close_later(hv, end->tx);
    fh_hv_close_later(hv, end->kick);
}

static int
chan_new(struct fh_hv_domain *dom, const struct fh_hv_domain *remote,
         struct fh_hv_chan **out)
{
    struct fh_hv_chan *chan = calloc(1, sizeof(*chan));
    int r;

    if (!chan)
        return FH_ENOMEM;
    for (unsigned i = 0; i < 2; i++)
        chan->end[i].tx = chan->end[i].kick = chan->end[i].bell = -1;
    r = fh_hv_fds_take(dom, FDS_PER_CHAN);
    if (r) {
        free(chan);
        return r;
    }
    r = end_open(&chan->end[0]);
    if (r)
        goto fail;
    r = end_open(&chan->end[1]);
    if (r)
        goto fail;
    r = FH_ENOMEM;
    chan->file = slotfile_get(dom->hv, dom->uid, remote->uid);
    if (!chan->file)
        goto fail;
    chan->payer = dom;
    fh_hv_domain_hold(dom);
    chan->uid[0] = dom->uid;
    chan->uid[1] = remote->uid;
    for (unsigned i = 0; i < 2; i++) {
        chan->end[i].slot = slot_take(chan->file);
        fh_evslot_init(&chan->file->slots[chan->end[i].slot], false);
    }
    dom->hv->n_chans++;
    *out = chan;
    return 0;

fail:
    end_close(dom->hv, &chan->end[0]);
    end_close(dom->hv, &chan->end[1]);
    fh_hv_fds_drop(dom, FDS_PER_CHAN);
    free(chan);
    return r;
}

static void
chan_free(struct fh_hv *hv, struct fh_hv_chan *chan)
{
    struct fh_hv_slotfile *f = chan->file;

    for (unsigned i = 0; i < 2; i++) {
        end_close(hv, &chan->end[i]);
        slot_drop(f, chan->end[i].slot);
    }
    if (!f->n_used)
        slotfile_free(hv, f);
    fh_hv_fds_drop(chan->payer, FDS_PER_CHAN);
    fh_hv_domain_put(chan->payer);
    free(chan);
    hv->n_chans--;
}

/* Frees the channel unless an end is open or somebody holds it. */
static void
chan_drop(struct fh_hv *hv, struct fh_hv_chan *chan)
{
    if (!chan->is_open[0] && !chan->is_open[1] && !chan->holds)
        chan_free(hv, chan);
}

static void
port_open(struct fh_hv_conn *conn, uint32_t port, struct fh_hv_chan *chan,
          unsigned end)
{
    struct fh_hv_port *p = &conn->dom->ports[port];

    *p = (struct fh_hv_port){
        .chan = chan, .end = (uint8_t)end, .evh = conn->evh,
    };
    chan->is_open[end] = true;
    LIST_INSERT_HEAD(&conn->evh->ports, p, link);
    conn->dom->n_ports++;
}

static void
port_close(struct fh_hv_domain *dom, uint32_t port)
{
    struct fh_hv_port *p = &dom->ports[port];
    struct fh_hv_chan *chan = p->chan;

    /* Ours mirrors the engine's: it knows the port. */
    if (fh_evtchn_close(&dom->ev, port))
        return;
    LIST_REMOVE(p, link);
    p->chan = NULL;
    dom->n_ports--;
    chan->is_open[p->end] = false;
    chan_drop(dom->hv, chan);
}

/* What a library needs for one of its ports. */
static void
port_reply(struct fh_hv_domain *dom, uint32_t port, struct fh_hv_reply *reply)
{
    const struct fh_hv_port *p = &dom->ports[port];
    const struct fh_hv_end *own = &p->chan->end[p->end];
    const struct fh_hv_end *peer = &p->chan->end[1 - p->end];

    reply->rsp.arg[0] = port;
    reply->rsp.arg[1] = p->chan->file->id;
    reply->rsp.arg[2] = own->slot | (uint64_t)peer->slot << 32;
    fh_hv_reply_fd(reply, own->bell, false);
    fh_hv_reply_fd(reply, peer->tx, false);
    fh_hv_reply_fd(reply, p->chan->file->fd, false);
}

/* Our own eventfd: never full, never blocking. */
static void
bell_ring(const struct fh_hv_end *end)
{
    const uint64_t one = 1;

    if (write(end->kick, &one, sizeof(one)) < 0)
        return; /* cannot be */
}

int
fh_hv_ev_hold(struct fh_hv_domain *dom, uint64_t port,
              struct fh_hv_chan **chan, unsigned *end)
{
    if (port >= FH_HV_PORTS_MAX || !dom->ports[port].chan)
        return FH_EINVAL;
    *chan = dom->ports[port].chan;
    *end = dom->ports[port].end;
    (*chan)->holds++;
    return 0;
}

uint32_t
fh_hv_ev_connected(const struct fh_hv_domain *dom)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < FH_HV_PORTS_MAX; i++) {
        const struct fh_hv_port *p = &dom->ports[i];

        n += p->chan && p->chan->is_open[1 - p->end];
    }
    return n;
}

void
fh_hv_ev_send(struct fh_hv_chan *chan, unsigned end)
{
    const struct fh_hv_end *peer = &chan->end[1 - end];

    if (fh_evslot_send(&chan->file->slots[peer->slot]))
        bell_ring(peer);
}

void
fh_hv_ev_release(struct fh_hv *hv, struct fh_hv_chan *chan)
{
    chan->holds--;
    chan_drop(hv, chan);
}

/* --------------------------------------------------------------- handles -- */

/* Whatever else we kept open could keep the client's own end of its
 * connection, which then would never end. */
static bool
is_epoll(int fd)
{
    static const char want[] = "anon_inode:[eventpoll]";
    char path[64], name[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(path, name, sizeof(name));

    return n == sizeof(want) - 1 && !memcmp(name, want, (size_t)n);
}

int
fh_hv_ev_open(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    struct fh_hv_evh *evh;
    int r;

    if (conn->evh || conn->rx_fd < 0 || !is_epoll(conn->rx_fd))
        return FH_EINVAL;
    r = fh_hv_fds_take(conn->dom, 1);
    if (r)
        return r;
    evh = calloc(1, sizeof(*evh));
    if (!evh) {
        fh_hv_fds_drop(conn->dom, 1);
        return FH_ENOMEM;
    }
    evh->dom = conn->dom;
    evh->epfd = conn->rx_fd;
    conn->rx_fd = -1;
    evh->refs = 1;
    evh->restricted = -1;
    evh->pid = conn->pid;
    evh->sock = (uint32_t)conn->req.arg[0];
    LIST_INSERT_HEAD(&conn->hv->evhs, evh, link);
    conn->evh = evh;
    return 0;
}

/* The same open file, whatever its number is where. */
static bool
same_file(int a, int b)
{
    const pid_t self = getpid();

    return syscall(SYS_kcmp, self, self, KCMP_FILE, a, b) == 0;
}

int
fh_hv_ev_adopt(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    struct fh_hv_evh *evh;

    if (conn->evh || conn->rx_fd < 0)
        return FH_EINVAL;
    LIST_FOREACH(evh, &conn->hv->evhs, link) {
        if (evh->dom == conn->dom && evh->refs &&
            same_file(evh->epfd, conn->rx_fd))
            break;
    }
    if (!evh)
        return FH_ENOENT;
    evh->refs++;
    conn->evh = evh;
    /* After an exec the opener's socket is still in the new program. */
    reply->rsp.arg[0] = evh->pid == conn->pid ? evh->sock : UINT32_MAX;
    return 0;
}

bool
fh_hv_ev_close(struct fh_hv_conn *conn, uint32_t budget)
{
    struct fh_hv_evh *evh = conn->evh;
    struct fh_hv_port *p;

    if (!evh)
        return false;
    if (evh->refs > 1) {
        evh->refs--;
        conn->evh = NULL;
        return false;
    }
    while ((p = LIST_FIRST(&evh->ports))) {
        if (!budget--)
            return true;
        port_close(conn->dom, (uint32_t)(p - conn->dom->ports));
    }
    LIST_REMOVE(evh, link);
    close(evh->epfd);
    free(evh);
    conn->evh = NULL;
    fh_hv_fds_drop(conn->dom, 1);
    return false;
}

/* ------------------------------------------------------------ hypercalls -- */

/* The domain that the caller names, if its handle may talk to it. */
static int
remote_find(struct fh_hv_conn *conn, struct fh_hv_domain **out)
{
    const uint64_t domid = conn->req.arg[0];

    if (!conn->evh)
        return FH_EINVAL;
    if (conn->evh->restricted >= 0 && domid != (uint64_t)conn->evh->restricted)
        return FH_EACCES;
    *out = domid == DOMID_SELF
               ? conn->dom
               : fh_hv_domain_find(conn->hv, (uint32_t)domid);
    return *out && !(*out)->is_dying ? 0 : -ESRCH;
}

int
fh_hv_ev_alloc(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    struct fh_hv_domain *remote;
    struct fh_hv_chan *chan;
    uint32_t port;
    int r;

    r = remote_find(conn, &remote);
    if (r)
        return r;
    if (conn->evh->restricted >= 0) /* as Linux: whoever is named */
        return FH_EACCES;
    r = chan_new(conn->dom, remote, &chan);
    if (r)
        return r;
    r = fh_evtchn_alloc_unbound(&conn->dom->ev, remote->domid, &port);
    if (r) {
        chan_free(conn->hv, chan);
        return r;
    }
    port_open(conn, port, chan, 0);
    port_reply(conn->dom, port, reply);
    return 0;
}

int
fh_hv_ev_bind(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint64_t remote_port = conn->req.arg[1];
    struct fh_hv_domain *remote;
    struct fh_hv_chan *chan;
    uint32_t port;
    int r;

    r = remote_find(conn, &remote);
    if (r)
        return r;
    if (remote_port >= FH_HV_PORTS_MAX || !remote->ports[remote_port].chan)
        return FH_EINVAL;
    chan = remote->ports[remote_port].chan;
    const unsigned end = 1u - remote->ports[remote_port].end;

    /* The domid may have been given to another domain since. */
    if (chan->uid[end] != conn->dom->uid || chan->is_open[end])
        return FH_EINVAL;
    r = fh_evtchn_bind_interdomain(&conn->dom->ev, remote->domid,
                                   (uint32_t)remote_port, &port);
    if (r)
        return r;
    port_open(conn, port, chan, end);
    fh_evslot_init(&chan->file->slots[chan->end[end].slot], true);
    bell_ring(&chan->end[end]);
    port_reply(conn->dom, port, reply);
    return 0;
}

/* True when @port is open through this connection's handle. */
static bool
port_is_ours(const struct fh_hv_conn *conn, uint64_t port)
{
    return conn->evh && port < FH_HV_PORTS_MAX &&
           conn->dom->ports[port].chan &&
           conn->dom->ports[port].evh == conn->evh;
}

int
fh_hv_ev_unbind(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    if (!port_is_ours(conn, conn->req.arg[0]))
        return FH_ENOTCONN;
    port_close(conn->dom, (uint32_t)conn->req.arg[0]);
    return 0;
}

int
fh_hv_ev_restrict(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint64_t domid = conn->req.arg[0];

    if (!conn->evh)
        return FH_EINVAL;
    if (conn->evh->restricted >= 0)
        return FH_EACCES;
    if (!domid || domid >= DOMID_FIRST_RESERVED)
        return FH_EINVAL;
    conn->evh->restricted = (int)domid;
    return 0;
}

/* There are none; but a handle that may have none is told that first. */
int
fh_hv_ev_virq(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    if (!conn->evh)
        return FH_EINVAL;
    return conn->evh->restricted >= 0 ? FH_EACCES : FH_ENOSYS;
}

int
fh_hv_ev_port(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    if (!port_is_ours(conn, conn->req.arg[0]))
        return FH_ENOTCONN;
    port_reply(conn->dom, (uint32_t)conn->req.arg[0], reply);
    return 0;
}
