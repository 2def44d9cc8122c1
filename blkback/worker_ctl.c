/* SPDX-License-Identifier: MIT */
/*
 * What the supervisor asks a worker for: disks and queues, made and unmade.
 * Each message is answered by one DONE; a queue that has requests in work is
 * answered later.  Nothing half-made stays after a failure.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/worker_int.h"

/* ---- messages ---- */

static void
take_fds(struct msghdr *mh, int *fds)
{
    uint32_t n = 0;

    for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
        const size_t bytes = c->cmsg_len - CMSG_LEN(0);
        int got[FH_WK_MAX_FDS];

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS ||
            bytes > sizeof(got))
            continue;
        memcpy(got, CMSG_DATA(c), bytes);
        for (uint32_t i = 0; i < bytes / sizeof(int); i++) {
            if (n < FH_WK_MAX_FDS)
                fds[n++] = got[i];
            else
                close(got[i]);
        }
    }
}

int
fh_wk_receive(int ctl_fd, struct fh_wk_msg *m, int *fds, bool wait)
{
    union {
        char buf[CMSG_SPACE(FH_WK_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl;
    struct iovec iov = { m, sizeof(*m) };
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = ctl.buf,
        .msg_controllen = sizeof(ctl.buf),
    };
    ssize_t n;

    for (uint32_t i = 0; i < FH_WK_MAX_FDS; i++)
        fds[i] = -1;
    do
        n = recvmsg(ctl_fd, &mh, MSG_CMSG_CLOEXEC | (wait ? 0 : MSG_DONTWAIT));
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EAGAIN ? 0 : -errno;
    if (n == 0)
        return FH_EPIPE;
    take_fds(&mh, fds);
    if (n == sizeof(*m))
        return 1;
    fh_wk_close_fds(fds);
    return FH_EPROTO;
}

void
fh_wk_close_fds(int *fds)
{
    for (uint32_t i = 0; i < FH_WK_MAX_FDS; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
        fds[i] = -1;
    }
}

/* The socket holds more messages than can be under way: this does not block
 * unless the supervisor is stuck, and then nothing better can be done. */
void
fh_wk_send(struct fh_wk *wk, const struct fh_wk_msg *m)
{
    fh_wk_send_fds(wk, m, NULL, 0);
}

void
fh_wk_send_fds(struct fh_wk *wk, const struct fh_wk_msg *m, const int *fds,
               unsigned n_fds)
{
    union {
        char buf[CMSG_SPACE(FH_WK_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } ctl = { 0 };
    struct iovec iov = { (void *)(uintptr_t)m, sizeof(*m) };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
    struct cmsghdr *c = &ctl.align;

    if (n_fds) {
        mh.msg_control = ctl.buf;
        mh.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    while (sendmsg(wk->ctl_fd, &mh, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

void
fh_wk_answer(struct fh_wk *wk, enum fh_wk_type type, uint32_t seq, int rc)
{
    const struct fh_wk_msg m = { .type = type, .seq = seq, .rc = rc };

    fh_wk_send(wk, &m);
}

void
fh_wk_tell_fault(struct fh_worker *w, struct fh_queue *q)
{
    const struct fh_wk_msg m = {
        .type = FH_WK_QUEUE_FAULT,
        .rc = FH_WK_E_BROKEN,
        .disk = q->disk->id,
        .queue = q->index,
    };

    fh_wk_send(w->arg, &m);
}

/* ---- disks ---- */

static struct fh_wk_disk **
find_disk(struct fh_wk *wk, uint32_t id)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_DISKS; i++)
        if (wk->disk[i] && wk->disk[i]->disk.id == id)
            return &wk->disk[i];
    return NULL;
}

static struct fh_wk_disk **
free_disk_place(struct fh_wk *wk)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_DISKS; i++)
        if (!wk->disk[i])
            return &wk->disk[i];
    return NULL;
}

/* Maps @bytes of @fd.  FH_EINVAL when the file is shorter: touching what is
 * not there would kill us. */
static int
map_file(int fd, size_t bytes, int prot, void **out)
{
    struct stat st;
    void *at;

    if (fd < 0 || fstat(fd, &st))
        return FH_EBADF;
    if (st.st_size < 0 || (uint64_t)st.st_size < bytes)
        return FH_EINVAL;
    at = mmap(NULL, bytes, prot, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return -errno;
    *out = at;
    return 0;
}

static int
open_memory(struct fh_wk_disk *d, const struct fh_wk_msg *m, int fd)
{
    const bool read_only = m->u.disk.read_only;
    int r;

    if (!m->u.disk.n_sectors ||
        m->u.disk.n_sectors > SIZE_MAX >> FH_SECTOR_SHIFT)
        return FH_EINVAL;
    d->mem_bytes = m->u.disk.n_sectors << FH_SECTOR_SHIFT;
    r = map_file(fd, d->mem_bytes,
                 read_only ? PROT_READ : PROT_READ | PROT_WRITE, &d->mem);
    if (r)
        return r;
    fh_store_mem_open(&d->store.mem, d->mem, m->u.disk.n_sectors, read_only);
    return 0;
}

static int
open_file(struct fh_wk *wk, struct fh_wk_disk *d, const struct fh_wk_msg *m,
          int fd)
{
    const struct fh_store_info info = {
        .n_sectors = m->u.disk.n_sectors,
        .physical_sector_bytes = FH_SECTOR_BYTES,
        .alignment = m->u.disk.direct ? m->u.disk.alignment : FH_SECTOR_BYTES,
        .read_only = m->u.disk.read_only,
    };

    if (fd < 0)
        return FH_EBADF;
    return fh_store_uring_open(&d->store.uring, &wk->u, fd, &info,
                               m->u.disk.direct);
}

static int
open_store(struct fh_wk *wk, struct fh_wk_disk *d, const struct fh_wk_msg *m,
           int fd)
{
    const bool read_only = m->u.disk.read_only;

    switch (m->u.disk.store) {
    case FH_WK_STORE_FILE:
        return open_file(wk, d, m, fd);
    case FH_WK_STORE_MEM:
        return open_memory(d, m, fd);
    case FH_WK_STORE_NULL:
        if (m->u.disk.latency_ns)
            fh_store_delay_open(&d->store.delay, &wk->u, m->u.disk.n_sectors,
                                m->u.disk.latency_ns, read_only);
        else
            fh_store_null_open(&d->store.null, m->u.disk.n_sectors, read_only);
        return 0;
    default: /* a number from the socket */
        return FH_EINVAL;
    }
}

_Static_assert((int)FH_WK_BUFFER_BYTES == (int)FH_BROKER_PART_BYTES,
               "a part of the broker's arena is a disk's buffers");

/* Memory that a broker can reach, if there is one. */
static void *
map_buffers(struct fh_wk *wk)
{
    void *at = fh_broker_part(&wk->broker);

    if (at)
        return at;
    at = mmap(NULL, FH_WK_BUFFER_BYTES, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    /* Small requests must not cost huge pages. */
    (void)madvise(at, FH_WK_BUFFER_BYTES, MADV_NOHUGEPAGE);
    return at;
}

static void
unmap_buffers(struct fh_wk *wk, void *buffers)
{
    if (wk->broker.pid)
        fh_broker_part_free(&wk->broker, buffers);
    else
        munmap(buffers, FH_WK_BUFFER_BYTES);
}

static int
make_buffers(struct fh_wk *wk, struct fh_wk_disk *d)
{
    void *at = map_buffers(wk);

    if (!at)
        return FH_ENOMEM;
    d->buffers = at;
    if (d->store.any.ops == NULL || d->store.any.info.synchronous)
        return 0;
    d->buffer_index = fh_uring_add_buffer(&wk->u, at, FH_WK_BUFFER_BYTES);
    return 0;
}

/* Tolerates a half-made disk. */
static void
free_disk(struct fh_wk *wk, struct fh_wk_disk *d)
{
    if (d->is_open)
        d->store.any.ops->close(&d->store.any);
    fh_uring_remove_buffer(&wk->u, d->buffer_index, FH_WK_BUFFER_BYTES);
    if (d->buffers)
        unmap_buffers(wk, d->buffers);
    if (d->mem)
        munmap(d->mem, d->mem_bytes);
    if (d->rec)
        munmap(d->rec, sizeof(*d->rec));
    fh_wk_unkeep(d);
    free(d);
}

static int
make_disk(struct fh_wk *wk, struct fh_wk_disk *d, const struct fh_wk_msg *m,
          int store_fd, int rec_fd)
{
    struct fh_disk_params p;
    void *rec;
    int r;

    r = map_file(rec_fd, sizeof(*d->rec), PROT_READ | PROT_WRITE, &rec);
    if (r)
        return r == FH_EINVAL ? FH_WK_E_RECOVERY : r;
    d->rec = rec;
    r = open_store(wk, d, m, store_fd);
    if (r)
        return r;
    d->is_open = true;
    r = make_buffers(wk, d);
    if (r)
        return r;
    p = (struct fh_disk_params){
        .id = m->disk,
        .store = &d->store.any,
        .rec = d->rec,
        .log = &wk->worker.log,
        .buffers = d->buffers,
        .buffer_bytes = FH_WK_BUFFER_BYTES,
        .buffer_index = d->buffer_index,
    };
    r = fh_disk_init(&d->disk, &p);
    return r > 0 ? FH_WK_E_RECOVERY : r;
}

/* The dead worker may have consumed an error of the store that its guest never
 * heard of; @fd has not been asked since before that worker's first write. */
static void
sync_before_replay(struct fh_wk_disk *d, const struct fh_wk_msg *m, int fd)
{
    if (m->u.disk.store != FH_WK_STORE_FILE || !m->u.disk.replay ||
        m->u.disk.read_only)
        return;
    if (fdatasync(fd))
        fh_disk_fail(&d->disk);
}

/* Puts the descriptors that came where @mask says that they belong. */
static void
spread_fds(uint32_t mask, int *fds)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        n += !!(mask & FH_WK_FD_BIT(i));
    for (unsigned i = FH_WK_N_FDS; i--;)
        fds[i] = mask & FH_WK_FD_BIT(i) ? fds[--n] : -1;
}

static int
disk_open(struct fh_wk *wk, const struct fh_wk_msg *m, int *fds)
{
    struct fh_wk_disk **place = free_disk_place(wk);
    struct fh_wk_disk *d;
    int r;

    if (find_disk(wk, m->disk))
        return FH_EEXIST;
    d = place ? calloc(1, sizeof(*d)) : NULL;
    if (!d)
        return place ? FH_ENOMEM : FH_ENOSPC;
    d->buffer_index = -1;
    for (unsigned i = 0; i < FH_WK_N_FDS; i++)
        d->kept[i] = -1;
    spread_fds(m->u.disk.fds, fds);
    r = make_disk(wk, d, m, fds[FH_WK_FD_STORE], fds[FH_WK_FD_RECOVERY]);
    if (!r)
        r = fh_worker_add_disk(&wk->worker, &d->disk);
    if (r) {
        free_disk(wk, d);
        return r;
    }
    sync_before_replay(d, m, fds[FH_WK_FD_STORE]);
    fh_wk_keep(d, m, fds);
    *place = d;
    return 0;
}

static void
forget_stats(struct fh_wk *wk, uint32_t disk)
{
    for (uint32_t i = 0; i < FH_WK_STATS_QUEUES; i++)
        if (wk->stats->queue[i].disk == disk)
            fh_store_relaxed32(&wk->stats->queue[i].disk, 0);
}

static void
close_disk(struct fh_wk *wk, struct fh_wk_disk **place)
{
    fh_worker_remove_disk(&wk->worker, &(*place)->disk);
    forget_stats(wk, (*place)->disk.id);
    fh_disk_fini(&(*place)->disk);
    free_disk(wk, *place);
    *place = NULL;
}

static int
disk_close(struct fh_wk *wk, const struct fh_wk_msg *m)
{
    struct fh_wk_disk **place = find_disk(wk, m->disk);

    if (!place)
        return FH_ENOENT;
    if ((*place)->disk.n_queues)
        return FH_EBUSY;
    close_disk(wk, place);
    return 0;
}

void
fh_wk_close_disks(struct fh_wk *wk)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_DISKS; i++)
        if (wk->disk[i])
            close_disk(wk, &wk->disk[i]);
}

/* ---- queues ---- */

static struct fh_wk_queue **
find_queue(struct fh_wk *wk, uint32_t disk, uint32_t queue)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++) {
        struct fh_wk_queue *q = wk->queue[i];

        if (q && q->disk->disk.id == disk && q->queue.index == queue)
            return &wk->queue[i];
    }
    return NULL;
}

static bool
slot_in_use(const struct fh_wk *wk, uint32_t slot)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (wk->queue[i] && wk->queue[i]->stats_slot == slot)
            return true;
    return false;
}

/* A place on the statistics page: the one that this queue had before, or one
 * that names no disk, or any that nobody uses. */
static uint32_t
choose_slot(const struct fh_wk *wk, uint32_t disk, uint32_t queue)
{
    uint32_t best = 0;
    int best_rank = -1;

    for (uint32_t i = 0; i < FH_WK_STATS_QUEUES; i++) {
        const struct fh_wk_queue_stats *s = &wk->stats->queue[i];
        int rank = s->disk == 0;

        if (slot_in_use(wk, i))
            continue;
        if (s->disk == disk && s->queue == queue)
            rank = 2;
        if (rank > best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

static struct fh_wk_queue **
free_queue_place(struct fh_wk *wk)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (!wk->queue[i])
            return &wk->queue[i];
    return NULL;
}

static void
fill_params(struct fh_queue_params *p, const struct fh_wk_msg *m)
{
    *p = (struct fh_queue_params){
        .index = m->queue,
        .domid = (uint16_t)m->u.queue_connect.domid,
        .abi = m->u.queue_connect.abi,
        .order = m->u.queue_connect.order,
        .ring_refs = m->u.queue_connect.ring_refs,
        .port = m->u.queue_connect.port,
        .grants = m->u.queue_connect.grants,
        .max_indirect = m->u.queue_connect.max_indirect,
        .resume = m->u.queue_connect.resume,
        .pgrant_idle_ns = FH_WK_PGRANT_IDLE_NS,
    };
}

static void
free_queue(struct fh_wk_queue *q)
{
    if (q->mem)
        munmap(q->mem, q->mem_bytes);
    free(q);
}

/* The queue's memory comes straight from the kernel and goes straight back. */
static int
make_queue(struct fh_wk *wk, struct fh_wk_queue *q, const struct fh_wk_msg *m)
{
    struct fh_queue_params p;
    int r;

    fill_params(&p, m);
    q->mem_bytes = fh_queue_bytes(&p);
    if (!q->mem_bytes)
        return FH_EINVAL;
    q->mem = mmap(NULL, q->mem_bytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q->mem == MAP_FAILED) {
        q->mem = NULL;
        return FH_ENOMEM;
    }
    q->stats_slot = choose_slot(wk, m->disk, m->queue);
    p.stats = &wk->stats->queue[q->stats_slot];
    memset(p.stats, 0, sizeof(*p.stats));
    r = fh_queue_connect(&q->queue, q->mem, &wk->worker.back, &q->disk->disk,
                         &p);
    if (r)
        return r;
    r = fh_worker_add_queue(&wk->worker, &q->queue);
    if (r)
        (void)fh_queue_disconnect(&q->queue);
    return r;
}

static int
queue_connect(struct fh_wk *wk, const struct fh_wk_msg *m, int token)
{
    struct fh_wk_disk **disk = find_disk(wk, m->disk);
    struct fh_wk_queue **place = free_queue_place(wk);
    struct fh_wk_queue *q;
    int r;

    if (!disk)
        return FH_ENOENT;
    if (wk->broker.pid) {
        r = fh_broker_admit(&wk->broker, token);
        if (r)
            return r;
    }
    if (find_queue(wk, m->disk, m->queue))
        return FH_EEXIST;
    q = place ? calloc(1, sizeof(*q)) : NULL;
    if (!q)
        return place ? FH_ENOMEM : FH_ENOSPC;
    q->disk = *disk;
    r = make_queue(wk, q, m);
    if (r)
        free_queue(q);
    else
        *place = q;
    return r;
}

static void
leave(struct fh_wk *wk, struct fh_wk_queue *q)
{
    fh_queue_stop(&q->queue);
    q->leaving = true;
    wk->has_leaving = true;
}

void
fh_wk_leave_all(struct fh_wk *wk)
{
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++)
        if (wk->queue[i])
            leave(wk, wk->queue[i]);
}

static void
disconnect(struct fh_wk *wk, struct fh_wk_queue *q)
{
    int r;

    fh_worker_remove_queue(&wk->worker, &q->queue);
    r = fh_queue_disconnect(&q->queue);
    if (q->answer_due)
        fh_wk_answer(wk, FH_WK_DONE, q->leave_seq, r);
    free_queue(q);
}

void
fh_wk_finish_leaving(struct fh_wk *wk)
{
    bool is_left = false;

    if (!wk->has_leaving) /* every turn comes by here */
        return;
    for (uint32_t i = 0; i < FH_WORKER_MAX_QUEUES; i++) {
        struct fh_wk_queue *q = wk->queue[i];

        if (!q || !q->leaving)
            continue;
        if (!fh_queue_idle(&q->queue)) {
            is_left = true;
            continue;
        }
        disconnect(wk, q);
        wk->queue[i] = NULL;
    }
    wk->has_leaving = is_left;
}

/* Answered when it is done. */
static int
queue_disconnect(struct fh_wk *wk, const struct fh_wk_msg *m)
{
    struct fh_wk_queue **place = find_queue(wk, m->disk, m->queue);

    if (!place)
        return FH_ENOENT;
    if ((*place)->answer_due)
        return FH_EBUSY;
    leave(wk, *place);
    (*place)->answer_due = true;
    (*place)->leave_seq = m->seq;
    return 0;
}

/* ---- dispatch ---- */

static void
handle(struct fh_wk *wk, const struct fh_wk_msg *m, int *fds)
{
    int r;

    switch ((enum fh_wk_type)m->type) {
    case FH_WK_DISK_OPEN:
        r = disk_open(wk, m, fds);
        break;
    case FH_WK_DISK_CLOSE:
        r = disk_close(wk, m);
        break;
    case FH_WK_QUEUE_CONNECT:
        r = queue_connect(wk, m, fds[0]);
        break;
    case FH_WK_QUEUE_DISCONNECT:
        r = queue_disconnect(wk, m);
        if (!r)
            return;
        break;
    case FH_WK_END:
        wk->is_ending = true;
        fh_wk_leave_all(wk);
        return;
    case FH_WK_HELLO:
    case FH_WK_READY:
    case FH_WK_DONE:
    case FH_WK_QUEUE_FAULT:
    case FH_WK_HAVE:
    default: /* a number from the socket */
        wk->is_broken = true;
        return;
    }
    fh_wk_answer(wk, FH_WK_DONE, m->seq, r);
}

void
fh_wk_take_message(struct fh_wk *wk)
{
    struct fh_wk_msg m;
    int fds[FH_WK_MAX_FDS];
    int r;

    if (fh_wk_adopt(wk))
        return;
    r = fh_wk_receive(wk->ctl_fd, &m, fds, false);
    if (r == 0)
        return;
    if (r == FH_EPROTO) {
        wk->is_broken = true;
        return;
    }
    if (r < 0 && wk->is_ending) {
        fh_uring_watch(&wk->u, FH_WK_WATCH_CTL, -1);
        return;
    }
    if (r < 0) {
        fh_wk_abandoned(wk);
        return;
    }
    handle(wk, &m, fds);
    fh_wk_close_fds(fds);
}
