/* SPDX-License-Identifier: MIT */
/*
 * See uring.h.  user_data is the address of a struct fh_store_io, which is
 * aligned, or a watched place with the lowest bit set.
 *
 * Completions are worked off in this thread only and only when it asks
 * (DEFER_TASKRUN); a flag in the shared ring tells without a system call that
 * asking is worth it.
 */
#include "blkback/uring.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/shared.h"

enum { TAG_WATCH = 1, WATCH_ALARM = FH_URING_WATCHES };

#define NEEDS_ENTER (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)

static int
init_ring(struct fh_uring *u)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                 IORING_SETUP_R_DISABLED,
        .cq_entries = FH_URING_CQES,
    };

    return io_uring_queue_init_params(FH_URING_SQES, &u->ring, &p);
}

/* The library has functions for these two, but Debian 12's does not let
 * programs link with them. */
static int
ring_register(struct fh_uring *u, unsigned what, void *arg, uint32_t n)
{
    return syscall(SYS_io_uring_register, u->ring.ring_fd, what, arg, n) < 0
               ? -errno
               : 0;
}

/*
 * A ring makes system calls that no filter sees: it does I/O on what is open,
 * and waits, and nothing else from now on.
 */
static int
restrict_ring(struct fh_uring *u)
{
    static const uint8_t ops[] = {
        IORING_OP_READ,       IORING_OP_WRITE, IORING_OP_READ_FIXED,
        IORING_OP_WRITE_FIXED, IORING_OP_FSYNC, IORING_OP_POLL_ADD,
        IORING_OP_TIMEOUT,
    };
    static const uint8_t registers[] = {
        IORING_REGISTER_FILES_UPDATE,
        IORING_REGISTER_BUFFERS_UPDATE,
        IORING_REGISTER_ENABLE_RINGS,
    };
    struct io_uring_restriction r[FH_ARRAY_SIZE(ops) +
                                  FH_ARRAY_SIZE(registers) + 1] = { 0 };
    uint32_t n = 0;
    int rc;

    for (uint32_t i = 0; i < FH_ARRAY_SIZE(ops); i++, n++) {
        r[n].opcode = IORING_RESTRICTION_SQE_OP;
        r[n].sqe_op = ops[i];
    }
    for (uint32_t i = 0; i < FH_ARRAY_SIZE(registers); i++, n++) {
        r[n].opcode = IORING_RESTRICTION_REGISTER_OP;
        r[n].register_op = registers[i];
    }
    r[n].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
    r[n++].sqe_flags = IOSQE_FIXED_FILE;
    rc = ring_register(u, IORING_REGISTER_RESTRICTIONS, r, n);
    return rc ? rc : ring_register(u, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static void
drop_fence(struct fh_uring *u)
{
    if (u->fence_fd >= 0)
        close(u->fence_fd);
    u->fence_fd = -1;
}

/* Before the first I/O to a file can be: from now on the fence falls with the
 * ring, not with the process. */
static int
take_fence(struct fh_uring *u)
{
    int r;

    if (u->fence_fd < 0)
        return 0;
    r = io_uring_register_files_update(&u->ring, FH_URING_FENCE, &u->fence_fd,
                                       1);
    if (r < 0)
        return r;
    drop_fence(u);
    return 0;
}

int
fh_uring_open(struct fh_uring *u, int fence_fd, uint64_t locked_bytes)
{
    int r;

    memset(u, 0, sizeof(*u));
    u->fence_fd = fence_fd;
    for (uint32_t i = 0; i < FH_URING_WATCHES; i++)
        u->watch[i].fd = -1;
    r = init_ring(u);
    if (!r) {
        u->open = true;
        r = io_uring_register_files_sparse(&u->ring, FH_URING_FILES);
    }
    u->locked_bytes_left = locked_bytes;
    if (!r && io_uring_register_buffers_sparse(&u->ring, FH_URING_BUFFERS))
        u->locked_bytes_left = 0;
    if (!r)
        r = restrict_ring(u);
    if (r < 0)
        fh_uring_close(u);
    return r < 0 ? r : 0;
}

void
fh_uring_close(struct fh_uring *u)
{
    if (u->open)
        io_uring_queue_exit(&u->ring);
    u->open = false;
    drop_fence(u);
}

void
fh_uring_watch(struct fh_uring *u, uint32_t i, int fd)
{
    u->watch[i].fd = fd;
}

int
fh_uring_add_file(struct fh_uring *u, int fd)
{
    int place, r;

    if (!~u->files_used)
        return FH_ENOSPC;
    r = take_fence(u);
    if (r)
        return r;
    place = 1 + __builtin_ctzll(~u->files_used);
    r = io_uring_register_files_update(&u->ring, (unsigned)place, &fd, 1);
    if (r < 0)
        return r;
    u->files_used |= 1ull << (place - 1);
    return place;
}

void
fh_uring_remove_file(struct fh_uring *u, int place)
{
    int none = -1;

    (void)io_uring_register_files_update(&u->ring, (unsigned)place, &none, 1);
    u->files_used &= ~(1ull << (place - 1));
}

static int
set_buffer(struct fh_uring *u, uint32_t index, void *base, size_t bytes)
{
    const struct iovec iov = { base, bytes };
    const __u64 tag = 0;
    int r = io_uring_register_buffers_update_tag(&u->ring, index, &iov, &tag,
                                                 1);

    return r < 0 ? r : 0;
}

int32_t
fh_uring_add_buffer(struct fh_uring *u, void *base, size_t bytes)
{
    uint32_t index;

    if (bytes > u->locked_bytes_left || !~u->buffers_used)
        return -1;
    index = (uint32_t)__builtin_ctzll(~u->buffers_used);
    if (set_buffer(u, index, base, bytes))
        return -1;
    u->locked_bytes_left -= bytes;
    u->buffers_used |= 1ull << index;
    return (int32_t)index;
}

void
fh_uring_remove_buffer(struct fh_uring *u, int32_t index, size_t bytes)
{
    if (index < 0)
        return;
    (void)set_buffer(u, (uint32_t)index, NULL, 0);
    u->locked_bytes_left += bytes;
    u->buffers_used &= ~(1ull << index);
}

struct io_uring_sqe *
fh_uring_sqe(struct fh_uring *u)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);

    if (sqe)
        return sqe;
    (void)fh_uring_kick(u);
    return io_uring_get_sqe(&u->ring);
}

void
fh_uring_bind(struct io_uring_sqe *sqe, struct fh_store_io *io,
              fh_uring_complete *complete)
{
    io->priv[0] = (uint64_t)(uintptr_t)complete;
    io_uring_sqe_set_data(sqe, io);
}

int
fh_uring_kick(struct fh_uring *u)
{
    int r;

    if (!io_uring_sq_ready(&u->ring))
        return 0;
    u->n_enters++;
    /* What is finished at once (a memory-backed device, the page cache) is
     * then there without another call. */
    r = io_uring_submit_and_get_events(&u->ring);
    return r < 0 ? r : 0;
}

static bool
complete(struct fh_uring *u, const struct io_uring_cqe *cqe)
{
    struct fh_store_io *io;

    if (cqe->user_data & TAG_WATCH) {
        const uint64_t i = cqe->user_data >> 1;

        if (i == WATCH_ALARM) {
            u->has_alarm = false;
            return false;
        }
        u->watch[i].armed = false;
        u->watch[i].ready = true;
        return false;
    }
    io = io_uring_cqe_get_data(cqe);
    ((fh_uring_complete *)(uintptr_t)io->priv[0])(io, cqe->res);
    return true;
}

/* Lets the kernel finish what it has for us, if it says that it has. */
static void
get_events(struct fh_uring *u)
{
    if (!(fh_load_relaxed32(u->ring.sq.kflags) & NEEDS_ENTER))
        return;
    u->n_enters++;
    (void)io_uring_get_events(&u->ring);
}

uint32_t
fh_uring_reap(struct fh_uring *u)
{
    uint32_t n = 0;
    unsigned ready;

    get_events(u);
    for (ready = io_uring_cq_ready(&u->ring); ready; ready--) {
        struct io_uring_cqe *at;
        struct io_uring_cqe cqe;

        if (io_uring_peek_cqe(&u->ring, &at))
            break;
        cqe = (struct io_uring_cqe){ .user_data = at->user_data,
                                     .res = at->res };
        /* Seen before it is acted upon: that may submit and reap space. */
        io_uring_cqe_seen(&u->ring, at);
        n += complete(u, &cqe);
    }
    return n;
}

static void
arm_watches(struct fh_uring *u)
{
    for (uint32_t i = 0; i < FH_URING_WATCHES; i++) {
        struct io_uring_sqe *sqe;

        if (u->watch[i].fd < 0 || u->watch[i].armed)
            continue;
        sqe = fh_uring_sqe(u);
        if (!sqe)
            return;
        io_uring_prep_poll_add(sqe, u->watch[i].fd, POLLIN);
        io_uring_sqe_set_data64(sqe, (uint64_t)i << 1 | TAG_WATCH);
        u->watch[i].armed = true;
    }
}

static struct __kernel_timespec
timespec_of(uint64_t ns)
{
    return (struct __kernel_timespec){
        .tv_sec = (long long)(ns / 1000000000u),
        .tv_nsec = (long long)(ns % 1000000000u),
    };
}

void
fh_uring_alarm(struct fh_uring *u, uint64_t timeout_ns)
{
    struct io_uring_sqe *sqe = u->has_alarm ? NULL : fh_uring_sqe(u);

    if (!sqe)
        return;
    u->alarm = timespec_of(timeout_ns);
    io_uring_prep_timeout(sqe, &u->alarm, 0, 0);
    io_uring_sqe_set_data64(sqe, (uint64_t)WATCH_ALARM << 1 | TAG_WATCH);
    u->has_alarm = true;
}

int
fh_uring_wait(struct fh_uring *u, uint64_t timeout_ns)
{
    struct __kernel_timespec ts = timespec_of(timeout_ns);
    struct io_uring_cqe *cqe;
    int r;

    arm_watches(u);
    if (io_uring_cq_ready(&u->ring))
        return fh_uring_kick(u);
    u->n_enters++;
    r = io_uring_submit_and_wait_timeout(
        &u->ring, &cqe, 1, timeout_ns == UINT64_MAX ? NULL : &ts, NULL);
    return r >= 0 || r == -ETIME || r == -EINTR ? 0 : r;
}
