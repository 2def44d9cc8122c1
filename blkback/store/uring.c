/* SPDX-License-Identifier: MIT */
/*
 * A disk in a file or on a block device, through the worker's io_uring.
 *
 * The supervisor opened it; with O_DIRECT only where single sectors of 512
 * bytes may be written directly.  A store whose unit is larger (4Kn) is opened
 * without: then the page cache does the read-modify-write, in order, and
 * flushes are as good.  fh_store_uring_open() refuses the combination.
 *
 * Short transfers are continued, whatever their cause; a transfer that does
 * not advance is the end of the file, an error.
 */
#include <errno.h>
#include <fcntl.h>

#include "base/arith.h"
#include "blkback/store/stores.h"
#include "blkback/uring.h"

/* Transfers that the kernel asks to have repeated, of one I/O. */
enum { MAX_RETRIES = 64 };

/* io->priv: [0] uring.h's, [1] the store, [2] bytes done, [3] retries. */

static int
submit_rest(struct fh_store_uring *s, struct fh_store_io *io);

static void
finish(struct fh_store_io *io, int32_t result)
{
    io->result = result;
    io->done(io);
}

static uint64_t
total_bytes(const struct fh_store_io *io)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < io->n_vecs; i++)
        bytes += io->vec[i].bytes;
    return bytes;
}

/* What a transfer of @res bytes, or an error, means: true when more is to be
 * done, else *@result is the end. */
static bool
transfer_goes_on(struct fh_store_io *io, int32_t res, int32_t *result)
{
    if (res == -EINTR || res == -EAGAIN) {
        *result = res;
        return io->priv[3]++ < MAX_RETRIES;
    }
    if (res <= 0) {
        *result = res ? res : FH_EIO;
        return false;
    }
    io->priv[2] += (uint64_t)res;
    *result = 0;
    return io->priv[2] < total_bytes(io);
}

static void
transfer_done(struct fh_store_io *io, int32_t res)
{
    struct fh_store_uring *s = (void *)(uintptr_t)io->priv[1];
    int32_t result;

    if (transfer_goes_on(io, res, &result)) {
        int r = submit_rest(s, io);

        if (!r)
            return;
        result = r;
    }
    finish(io, result);
}

static void
flush_done(struct fh_store_io *io, int32_t res)
{
    finish(io, res < 0 ? res : 0);
}

static void
prepare(struct io_uring_sqe *sqe, const struct fh_store_uring *s,
        const struct fh_store_io *io, void *base, uint32_t bytes)
{
    const uint64_t offset = io->offset + io->priv[2];
    const bool fixed = io->buffer >= 0;

    if (io->op == FH_STORE_READ && fixed)
        io_uring_prep_read_fixed(sqe, s->place, base, bytes, offset,
                                 io->buffer);
    else if (io->op == FH_STORE_READ)
        io_uring_prep_read(sqe, s->place, base, bytes, offset);
    else if (fixed)
        io_uring_prep_write_fixed(sqe, s->place, base, bytes, offset,
                                  io->buffer);
    else
        io_uring_prep_write(sqe, s->place, base, bytes, offset);
}

/* The first piece that is not done yet. */
static int
submit_rest(struct fh_store_uring *s, struct fh_store_io *io)
{
    uint64_t skip = io->priv[2];
    struct io_uring_sqe *sqe = fh_uring_sqe(s->u);
    uint32_t i = 0;

    if (!sqe)
        return FH_EAGAIN;
    while (skip >= io->vec[i].bytes)
        skip -= io->vec[i++].bytes;
    prepare(sqe, s, io, (uint8_t *)io->vec[i].base + skip,
            io->vec[i].bytes - (uint32_t)skip);
    sqe->flags |= IOSQE_FIXED_FILE;
    fh_uring_bind(sqe, io, transfer_done);
    return 0;
}

static int
submit_flush(struct fh_store_uring *s, struct fh_store_io *io)
{
    struct io_uring_sqe *sqe = fh_uring_sqe(s->u);

    if (!sqe)
        return FH_EAGAIN;
    io_uring_prep_fsync(sqe, s->place, IORING_FSYNC_DATASYNC);
    sqe->flags |= IOSQE_FIXED_FILE;
    fh_uring_bind(sqe, io, flush_done);
    return 0;
}

static int
uring_submit(struct fh_store *store, struct fh_store_io *io)
{
    struct fh_store_uring *s = (struct fh_store_uring *)store;

    if (io->op == FH_STORE_FLUSH)
        return submit_flush(s, io);
    if (io->op == FH_STORE_WRITE && store->info.read_only)
        return FH_EROFS;
    if (!fh_range_inside(io->offset, total_bytes(io),
                         store->info.n_sectors << FH_SECTOR_SHIFT))
        return FH_EINVAL;
    io->priv[1] = (uint64_t)(uintptr_t)s;
    io->priv[2] = 0;
    io->priv[3] = 0;
    return submit_rest(s, io);
}

static int
uring_kick(struct fh_store *store)
{
    return fh_uring_kick(((struct fh_store_uring *)store)->u);
}

static uint32_t
uring_reap(struct fh_store *store)
{
    return fh_uring_reap(((struct fh_store_uring *)store)->u);
}

static void
uring_close(struct fh_store *store)
{
    struct fh_store_uring *s = (struct fh_store_uring *)store;

    if (s->place > 0)
        fh_uring_remove_file(s->u, s->place);
    s->place = 0;
}

static const struct fh_store_ops uring_ops = {
    .submit = uring_submit,
    .kick = uring_kick,
    .reap = uring_reap,
    .close = uring_close,
};

int
fh_store_uring_open(struct fh_store_uring *s, struct fh_uring *u, int fd,
                    const struct fh_store_info *info, bool direct)
{
    int place;

    if (direct && info->alignment > FH_SECTOR_BYTES)
        return FH_EINVAL;
    place = fh_uring_add_file(u, fd);
    if (place < 0)
        return place;
    s->u = u;
    s->place = place;
    s->store.ops = &uring_ops;
    s->store.info = *info;
    s->store.info.synchronous = false;
    return 0;
}

/* ---- the delayed null store ---- */

static void
delay_done(struct fh_store_io *io, int32_t res)
{
    finish(io, res == -ETIME ? 0 : res);
}

static int
delay_submit(struct fh_store *store, struct fh_store_io *io)
{
    struct fh_store_delay *s = (struct fh_store_delay *)store;
    struct io_uring_sqe *sqe = fh_uring_sqe(s->u);

    if (!sqe)
        return FH_EAGAIN;
    io_uring_prep_timeout(sqe, &s->latency, 0, 0);
    fh_uring_bind(sqe, io, delay_done);
    return 0;
}

static int
delay_kick(struct fh_store *store)
{
    return fh_uring_kick(((struct fh_store_delay *)store)->u);
}

static uint32_t
delay_reap(struct fh_store *store)
{
    return fh_uring_reap(((struct fh_store_delay *)store)->u);
}

static void
delay_close(struct fh_store *store)
{
    (void)store;
}

static const struct fh_store_ops delay_ops = {
    .submit = delay_submit,
    .kick = delay_kick,
    .reap = delay_reap,
    .close = delay_close,
};

void
fh_store_delay_open(struct fh_store_delay *s, struct fh_uring *u,
                    uint64_t n_sectors, uint32_t latency_ns, bool read_only)
{
    s->u = u;
    s->latency.tv_sec = latency_ns / 1000000000u;
    s->latency.tv_nsec = latency_ns % 1000000000u;
    s->store.ops = &delay_ops;
    s->store.info = (struct fh_store_info){
        .n_sectors = n_sectors,
        .physical_sector_bytes = FH_SECTOR_BYTES,
        .alignment = FH_SECTOR_BYTES,
        .read_only = read_only,
    };
}
