/* SPDX-License-Identifier: MIT */
/*
 * A disk in memory that the supervisor holds: it outlives the worker.  Every
 * I/O is one memcpy for each piece, done at submit(); the pieces may be granted
 * pages, which is why nothing here looks at the bytes.
 */
#include "base/arith.h"
#include "base/shared.h"
#include "blkback/store/stores.h"

static bool
io_inside(const struct fh_store *s, const struct fh_store_io *io)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < io->n_vecs; i++)
        bytes += io->vec[i].bytes;
    return fh_range_inside(io->offset, bytes,
                           s->info.n_sectors << FH_SECTOR_SHIFT);
}

static int
mem_submit(struct fh_store *s, struct fh_store_io *io)
{
    const struct fh_store_mem *m = (struct fh_store_mem *)s;
    uint8_t *at;

    io->result = 0;
    if (io->op == FH_STORE_FLUSH)
        return FH_STORE_DONE;
    if (!io_inside(s, io))
        return FH_EINVAL;
    if (io->op == FH_STORE_WRITE && s->info.read_only)
        return FH_EROFS;
    at = m->mem + io->offset; /* a flush's offset may be anything */
    for (uint32_t i = 0; i < io->n_vecs; i++) {
        if (io->op == FH_STORE_WRITE)
            fh_copy_data(at, io->vec[i].base, io->vec[i].bytes);
        else
            fh_copy_data(io->vec[i].base, at, io->vec[i].bytes);
        at += io->vec[i].bytes;
    }
    return FH_STORE_DONE;
}

static int
mem_kick(struct fh_store *s)
{
    (void)s;
    return 0;
}

static uint32_t
mem_reap(struct fh_store *s)
{
    (void)s;
    return 0;
}

static void
mem_close(struct fh_store *s)
{
    ((struct fh_store_mem *)s)->mem = NULL;
}

static const struct fh_store_ops mem_ops = {
    .submit = mem_submit,
    .kick = mem_kick,
    .reap = mem_reap,
    .close = mem_close,
};

void
fh_store_mem_open(struct fh_store_mem *s, void *mem, uint64_t n_sectors,
                  bool read_only)
{
    s->mem = mem;
    s->store.ops = &mem_ops;
    s->store.info = (struct fh_store_info){
        .n_sectors = n_sectors,
        .physical_sector_bytes = FH_SECTOR_BYTES,
        .alignment = FH_SECTOR_BYTES,
        .read_only = read_only,
        .synchronous = true,
    };
}
