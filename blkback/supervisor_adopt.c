/* SPDX-License-Identifier: MIT */
/*
 * A supervisor that was not the first: the disks of the dead one are taken up
 * from their state files, each with the handshake's phase and ring that it had,
 * and then its workers:
 *
 *   listens, our version      ADOPTING -> READY: links are as it says
 *   listens, another version  FOREIGN: goes on alone; its death is waited for
 *   does not listen           FENCED: as if it had died just now
 *
 * From there on the ordinary ways go: a link that is not what its device wants
 * is advanced, a handshake that stood still looks at xenstore.
 *
 * Invariant: no worker is started while the fence of its number is held.  A
 * worker is known by the socket in our own directory and by the credentials
 * that it listens under, never by a number in a file.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/supervisor_state.h"

/* --- disks --- */

static bool
wants_queue(uint32_t phase)
{
    return phase == FH_DEVICE_CONNECTING || phase == FH_DEVICE_SERVING;
}

static void
fill_disk(struct fh_sup_device *d, const struct fh_sup_state *st)
{
    struct fh_sup *s = d->sup;

    d->number = st->number;
    if (s->next_disk <= st->number)
        s->next_disk = st->number + 1;
    d->image = st->image;
    d->image.fd = d->image.lock_fd = -1;
    d->image_is_away = true;
    d->base = st->base;
    d->restarts = st->restarts;
    d->longest_pause_ns = st->longest_pause_ns;
    d->was_served = st->was_served;
    d->was_restored = true;
    d->queue = st->queue;
    d->want = d->resume = wants_queue(st->phase);
    d->saved_phase = (enum fh_device_phase)st->phase;
    d->saved_seen_4 = st->front_seen_4;
}

static void
find_worker(struct fh_sup_device *d, const struct fh_sup_state *st)
{
    struct fh_sup_worker *w;

    if (!st->head.worker)
        return;
    w = fh_sup_worker_insert(d->sup, st->head.worker, st->worker_domid);
    if (!w || w->domid != st->worker_domid)
        return;
    d->worker = w;
    w->is_split |= st->worker_split;
    w->uid = st->worker_uid;
    w->n_devices++;
}

/* A disk that no worker had may be opened at once. */
static void
open_idle(struct fh_sup_device *d)
{
    char why[FH_IMAGE_TEXT_MAX] = "";
    int r = fh_sup_bring_back(d, why);

    if (!r && d->rec_fd < 0)
        r = fh_sup_recovery_make(d);
    if (r)
        fh_sup_refuse(d, r, why[0] ? why : strerror(-r));
}

static void
start_again(struct fh_sup_device *d, const struct fh_sup_attach *a,
            const struct fh_sup_state *st)
{
    const bool lacks_worker = st->head.worker && !d->worker;

    if (!fh_sup_xs_names(d) || lacks_worker || fh_sup_start_device(d, a, st)) {
        d->dev.p.plat = NULL;
        d->fate = FH_SUP_FATE_GONE;
        d->want = false;
    } else if (!d->worker) {
        open_idle(d);
    }
}

static void
restore_disk(struct fh_sup *s, const struct fh_sup_state *st)
{
    struct fh_sup_attach a = {
        .domid = st->head.domid,
        .devid = st->head.devid,
        .target = st->image.target,
        .name = st->name,
        .read_only = st->image.read_only,
        .shared = st->image.shared,
        .grants = (enum fh_device_grants)st->grants,
        .max_order = st->max_order,
        .latency_ns = st->latency_ns,
    };
    char why[FH_IMAGE_TEXT_MAX];
    struct fh_sup_device *d;

    fh_sup_vdev_name(a.devid, a.vdev, sizeof(a.vdev));
    d = fh_sup_device_new(s, &a, why);
    if (!d) {
        fh_sup_log(s, "domain %u %s: %s", a.domid, a.vdev, why);
        return;
    }
    fill_disk(d, st);
    find_worker(d, st);
    if (fh_sup_recovery_find(d))
        fh_sup_log(s, "domain %u %s: no recovery file", a.domid, a.vdev);
    start_again(d, &a, st);
}

/* Whoever serves it goes on; we hold its number, until it has ended. */
static void
leave_alone(struct fh_sup *s, const struct fh_sup_state_head *h)
{
    struct fh_sup_worker *w = NULL;

    if (h->worker)
        w = fh_sup_worker_insert(s, h->worker, -1);
    if (!w || w->n_devices)
        return;
    w->is_split = true; /* to be freed when it is over */
    w->state = FH_SUP_FOREIGN;
    snprintf(w->reason, sizeof(w->reason), "worker of another version, with "
             "disks that only that version knows");
}

static void
restore_named(struct fh_sup *s, const char *name)
{
    struct fh_sup_state st;
    uint32_t domid, devid;
    int end = 0;

    if (sscanf(name, "d-%u-%u%n", &domid, &devid, &end) != 2 || name[end])
        return;
    switch (fh_sup_state_load(s, name, &st)) {
    case 0:
        restore_disk(s, &st);
        return;
    case FH_SUP_STATE_E_JUNK:
        fh_sup_log(s, "state of domain %u, device %u: of another boot, or "
                   "none of ours; removed", domid, devid);
        fh_sup_state_remove(s, domid, devid);
        return;
    case FH_SUP_STATE_E_OTHER:
        fh_sup_log(s, "state of domain %u, device %u: of another version of "
                   "freehold", domid, devid);
        leave_alone(s, &st.head);
        return;
    }
}

int
fh_sup_bring_back(struct fh_sup_device *d, char *why)
{
    int r;

    if (!d->image_is_away)
        return 0;
    if (d->image.store == FH_WK_STORE_MEM && d->was_served) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "its memory went with an earlier "
                 "backend");
        return FH_ENOENT;
    }
    r = fh_image_reopen(&d->image, why);
    d->image_is_away = r != 0;
    return r;
}

void
fh_sup_fate(struct fh_sup_device *d)
{
    if (d->worker)
        return;
    switch (d->fate) {
    case FH_SUP_FATE_NONE:
        return;
    case FH_SUP_FATE_GONE:
        d->over = true;
        d->sup->scan = true; /* another may have its place */
        return;
    case FH_SUP_FATE_LOST:
        d->fate = FH_SUP_FATE_NONE;
        fh_sup_refuse(d, FH_ENOENT, "its memory went with an earlier backend");
        return;
    }
}

/* --- a worker's answers --- */

static void
close_fds(int *fds)
{
    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

/* A message and its descriptors, in the order in which they came. */
static ssize_t
receive(int sock, struct fh_wk_msg *m, int *fds)
{
    union {
        char buf[CMSG_SPACE(FH_WK_N_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl;
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf) };
    ssize_t n = recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC | MSG_TRUNC);
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&mh) : NULL;

    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        fds[i] = -1;
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
    return n;
}

static void
spread(uint32_t mask, int *fds)
{
    int in[FH_WK_N_FDS];
    unsigned n = 0;

    memcpy(in, fds, sizeof(in));
    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        fds[i] = -1;
    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        if (mask & FH_WK_FD_BIT(i))
            fds[i] = in[n++];
    while (n < FH_WK_N_FDS) /* more than it says */
        if (in[n++] >= 0)
            close(in[n - 1]);
}

/* Memory that cannot shrink under us, of a size that is known. */
static bool
is_sealed(int fd, uint64_t bytes)
{
    const int seals = fcntl(fd, F_GET_SEALS);
    struct stat st;

    return seals >= 0 && (seals & F_SEAL_SHRINK) && !fstat(fd, &st) &&
           (uint64_t)st.st_size >= bytes;
}

/* What came with HAVE, judged; what is taken is taken out of @fds. */
static bool
take_fds(struct fh_sup_device *d, int *fds)
{
    if (d->image_is_away && fh_image_take(&d->image, fds))
        return false;
    d->image_is_away = false;
    if (d->rec_is_named)
        return true;
    if (fds[FH_WK_FD_RECOVERY] < 0 ||
        !is_sealed(fds[FH_WK_FD_RECOVERY], sizeof(struct fh_rec_file)))
        return false;
    d->rec_fd = fds[FH_WK_FD_RECOVERY];
    fds[FH_WK_FD_RECOVERY] = -1;
    return true;
}

static void
on_have(struct fh_sup_worker *w, const struct fh_wk_msg *m, int *fds)
{
    struct fh_sup_device *d = w->sup->devices;

    spread(m->u.have.fds, fds);
    while (d && (d->worker != w || d->number != m->disk))
        d = d->next;
    if (!d || d->link != FH_SUP_LINK_DOWN)
        fh_sup_worker_kill(w, "it has a disk that nobody gave it");
    else if (!take_fds(d, fds))
        fh_sup_worker_kill(w, "it does not give back what it was given");
    else {
        d->link = m->u.have.has_queue ? FH_SUP_LINK_QUEUE : FH_SUP_LINK_DISK;
        d->faulted = m->u.have.faulted;
    }
    close_fds(fds);
}

static bool
take_stats(struct fh_sup_worker *w, int fd)
{
    const size_t size = fh_round_up(sizeof(*w->stats), FH_PAGE_BYTES);
    void *map;

    if (fd < 0 || !is_sealed(fd, size))
        return false;
    map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return false;
    w->stats = map;
    return true;
}

static void
on_adopted(struct fh_sup_worker *w, const struct fh_wk_msg *m, int *fds)
{
    if (m->rc || !take_stats(w, fds[0])) {
        fh_sup_worker_kill(w, "it has no statistics page");
    } else {
        fh_sup_log(w->sup, "worker %u (pid %d): taken over, with %u disks",
                   w->number, (int)w->pid, w->n_devices);
        w->died_ns = 0;
        fh_sup_worker_adopted(w, m);
    }
    close_fds(fds);
}

/* It goes on, and nobody else may have its rings. */
static void
on_foreign(struct fh_sup_worker *w, uint32_t version)
{
    bool unwanted = w->n_devices == 0;

    fh_sup_source_close(w->sup, &w->sock);
    w->state = FH_SUP_FOREIGN;
    snprintf(w->reason, sizeof(w->reason), "worker speaks version %u of the "
             "protocol, we speak %u: it goes on alone; kill it, and its disks "
             "are resumed", version, (unsigned)FH_WK_VERSION);
    fprintf(stderr, "freehold: worker %u (pid %d): %s\n", w->number,
            (int)w->pid, w->reason);
    for (struct fh_sup_device *d = w->sup->devices; d; d = d->next)
        unwanted |= d->worker == w && !d->want;
    if (unwanted)
        fh_sup_worker_kill(w, "a disk of it is to be closed");
}

static void
on_greeting(struct fh_sup_worker *w, const struct fh_wk_greeting *g, ssize_t n)
{
    w->has_greeted = true;
    if (n != sizeof(*g) || g->magic != FH_WK_MAGIC || g->worker != w->number)
        fh_sup_worker_kill(w, "it does not greet");
    else if (g->version != FH_WK_VERSION)
        on_foreign(w, g->version);
}

static void
adopting_socket(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup_worker *w = src->owner;
    union {
        struct fh_wk_msg m;
        struct fh_wk_greeting greeting;
    } u;
    int fds[FH_WK_N_FDS];
    ssize_t n = receive(src->fd, &u.m, fds);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) { /* dead, or soon */
        fh_sup_source_close(w->sup, src);
        fh_sup_worker_kill(w, "it closed its socket");
    } else if (!w->has_greeted) {
        on_greeting(w, &u.greeting, n);
        close_fds(fds);
    } else if (n == sizeof(u.m) && u.m.type == FH_WK_HAVE) {
        on_have(w, &u.m, fds);
    } else if (n == sizeof(u.m) && u.m.type == FH_WK_READY) {
        on_adopted(w, &u.m, fds);
    } else if (n == sizeof(u.m) && u.m.type == FH_WK_QUEUE_FAULT) {
        ; /* between its greeting and HAVE, which says it too */
    } else {
        close_fds(fds);
        fh_sup_worker_kill(w, "it said something else than what it has");
    }
}

/* --- workers --- */

/* Whoever listens there: is it who we think?  Takes @sock. */
static int
take_process(struct fh_sup_worker *w, int sock)
{
    struct fh_sup *s = w->sup;
    const struct fh_wk_greeting g = { .magic = FH_WK_MAGIC,
                                      .version = FH_WK_VERSION };
    socklen_t len = sizeof(struct ucred);
    struct ucred peer;
    int pidfd, r;

    if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) ||
        (w->n_devices && peer.uid != w->uid))
        return FH_EACCES;
    /* The greeting that comes back is younger than this descriptor: it is that
     * process's, whatever its number is used for later. */
    pidfd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
    r = pidfd < 0 ? -errno : 0;
    if (!r)
        r = fh_sup_worker_watch(w, peer.pid, pidfd);
    if (!r)
        r = fh_sup_source_add(s, &w->sock, sock, EPOLLIN, adopting_socket, w);
    if (!r && send(sock, &g, sizeof(g), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        r = -errno;
    return r;
}

static void
adopt(struct fh_sup_worker *w)
{
    struct fh_sup *s = w->sup;
    int sock, r;

    w->fence.fd = fh_sup_fence_find(s, w->number);
    if (w->state == FH_SUP_FOREIGN) {
        fh_sup_worker_fence(w);
        return;
    }
    sock = fh_sup_socket_find(s, w->number);
    w->incarnations = 1;
    w->born_ns = w->died_ns = fh_sup_now();
    w->has_greeted = false;
    r = sock < 0 ? sock : take_process(w, sock);
    if (!r) {
        w->state = FH_SUP_ADOPTING;
        w->due_ns = w->born_ns + fh_sup_answer_ns(s);
        return;
    }
    if (sock >= 0 && w->sock.fd < 0)
        close(sock);
    snprintf(w->reason, sizeof(w->reason), "died with an earlier supervisor");
    fh_sup_log(s, "worker %u: %s", w->number, w->reason);
    fh_sup_worker_fence(w);
}

/* A worker that no disk names has to end. */
static void
find_stray(struct fh_sup *s, const char *name)
{
    struct fh_sup_worker *w;
    uint32_t number;

    if (sscanf(name, "w-%u", &number) != 1 || !number)
        return;
    w = fh_sup_worker_insert(s, number, -1);
    if (w && !w->n_devices)
        w->is_split = true; /* to be freed when it is over */
}

void
fh_sup_adopt_all(struct fh_sup *s)
{
    struct fh_sup_worker *next;

    fh_sup_state_each(s, restore_named);
    fh_sup_state_each(s, find_stray);
    for (struct fh_sup_worker *w = s->workers; w; w = next) {
        next = w->next;
        adopt(w);
    }
}
