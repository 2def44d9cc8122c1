/* SPDX-License-Identifier: MIT */
/* A disk that answers at once and does nothing, to measure everything else. */
#include "base/arith.h"
#include "blkback/store/stores.h"

static int
null_submit(struct fh_store *s, struct fh_store_io *io)
{
    if (io->op == FH_STORE_WRITE && s->info.read_only)
        return FH_EROFS;
    io->result = 0;
    return FH_STORE_DONE;
}

static int
null_kick(struct fh_store *s)
{
    (void)s;
    return 0;
}

static uint32_t
null_reap(struct fh_store *s)
{
    (void)s;
    return 0;
}

static void
null_close(struct fh_store *s)
{
    (void)s;
}

static const struct fh_store_ops null_ops = {
    .submit = null_submit,
    .kick = null_kick,
    .reap = null_reap,
    .close = null_close,
};

void
fh_store_null_open(struct fh_store_null *s, uint64_t n_sectors, bool read_only)
{
    s->store.ops = &null_ops;
    s->store.info = (struct fh_store_info){
        .n_sectors = n_sectors,
        .physical_sector_bytes = FH_SECTOR_BYTES,
        .alignment = FH_SECTOR_BYTES,
        .read_only = read_only,
        .synchronous = true,
    };
}
