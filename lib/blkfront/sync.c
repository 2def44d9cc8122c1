/* SPDX-License-Identifier: MIT */
/*
 * Any range of bytes, blocking, on top of the asynchronous requests.
 *
 * The middle, whole sectors, goes out as many requests as the ring and the pool
 * hold at a time.  An edge that is a part of a sector is read, and for a write
 * patched and written back.
 */
#include <string.h>
#include "base/arith.h"
#include "blkfront/internal.h"

enum {
    DONE_BATCH = 64,
    DISCARD_SECTORS = 1 << 22, /* of one request: 2 GiB */
    SECTORS_PER_PAGE = FH_PAGE_BYTES / FH_SECTOR_BYTES,
};

/* A span of whole sectors on its way. */
struct span {
    enum fh_blkif_op op;
    uint8_t *data; /* NULL: a discard */
    uint64_t sector;
    uint64_t n_sectors; /* not submitted yet */
    uint32_t chunk;     /* sectors of a request */
    int status;         /* the first error */
};

/* Half the pool per request at most, so that two are in flight. */
static uint32_t
chunk_sectors(const struct fh_blkfront *bf, const struct span *s)
{
    uint32_t n = bf->info.max_sectors;
    uint32_t half = bf->pool.n_pages / 2 * SECTORS_PER_PAGE;

    if (s->op == FH_BLKIF_DISCARD)
        return DISCARD_SECTORS;
    /* Pool memory that does not begin at a page touches one page more. */
    if ((uintptr_t)s->data % FH_PAGE_BYTES)
        n -= SECTORS_PER_PAGE;
    if (half >= SECTORS_PER_PAGE && n > half)
        n = half;
    return n;
}

static int
submit_next(struct fh_blkfront *bf, struct span *s)
{
    const uint32_t n =
        s->n_sectors < s->chunk ? (uint32_t)s->n_sectors : s->chunk;
    const struct fh_blkfront_io io = {
        .op = s->op,
        .sector = s->sector,
        .n_sectors = n,
        .data = s->data,
    };
    int r = fh_blkfront_submit(bf, &io);

    if (r)
        return r;
    s->sector += n;
    s->n_sectors -= n;
    if (s->data)
        s->data += (size_t)n << FH_SECTOR_SHIFT;
    return 0;
}

static void
note(struct span *s, int status)
{
    if (!s->status)
        s->status = status;
}

/* Submits until everything is on its way, or the ring or pool is full. */
static void
submit_more(struct fh_blkfront *bf, struct span *s)
{
    int r = 0;

    while (s->n_sectors && !s->status && !r)
        r = submit_next(bf, s);
    if (r == FH_BLKFRONT_E_FULL) {
        /* With nothing in flight only smaller pieces can help. */
        if (!bf->queue.n_live && s->chunk <= SECTORS_PER_PAGE)
            note(s, FH_ENOMEM);
        else if (!bf->queue.n_live)
            s->chunk = (s->chunk / 2 + SECTORS_PER_PAGE - 1) /
                       SECTORS_PER_PAGE * SECTORS_PER_PAGE;
    } else if (r) {
        note(s, r < 0 ? r : FH_ENOTCONN);
    }
}

static void
take_done(struct fh_blkfront *bf, struct span *s)
{
    struct fh_blkfront_done done[DONE_BATCH];
    uint32_t n = fh_blkfront_poll(bf, done, DONE_BATCH);
    const bool dead = bf->fault || bf->gone;
    int r;

    for (uint32_t i = 0; i < n; i++) {
        if (done[i].status)
            note(s, dead ? FH_ENOTCONN : done[i].status);
    }
    if (n || !bf->queue.n_live)
        return;
    r = fh_blkfront_wait(bf, UINT64_MAX);
    if (r) {
        /* The platform fails: the requests are lost, and so is the disk. */
        note(s, r);
        bf->gone = true;
    }
}

/* Until everything is submitted and answered. */
static int
run_out(struct fh_blkfront *bf, struct span *s)
{
    int r;

    while ((s->n_sectors && !s->status) || bf->queue.n_live) {
        submit_more(bf, s);
        r = fh_blkfront_kick(bf);
        if (r)
            note(s, r);
        take_done(bf, s);
    }
    return s->status;
}

static int
run(struct fh_blkfront *bf, struct span *s)
{
    if (bf->queue.n_live)
        return FH_EBUSY;
    s->chunk = chunk_sectors(bf, s);
    return run_out(bf, s);
}

static int
whole(struct fh_blkfront *bf, enum fh_blkif_op op, void *data, size_t bytes,
      uint64_t offset)
{
    struct span s = {
        .op = op,
        .data = data,
        .sector = offset >> FH_SECTOR_SHIFT,
        .n_sectors = bytes >> FH_SECTOR_SHIFT,
    };

    return bytes ? run(bf, &s) : 0;
}

/* @bytes at @offset lie inside one sector (of the disk's size). */
static int
edge(struct fh_blkfront *bf, enum fh_blkif_op op, uint8_t *data, size_t bytes,
     uint64_t offset)
{
    const uint32_t sector_bytes = bf->info.sector_bytes;
    const uint32_t inside = (uint32_t)(offset & (sector_bytes - 1));
    uint8_t sector[FH_PAGE_BYTES];
    int r;

    r = whole(bf, FH_BLKIF_READ, sector, sector_bytes, offset - inside);
    if (r)
        return r;
    if (op == FH_BLKIF_READ) {
        memcpy(data, sector + inside, bytes);
        return 0;
    }
    memcpy(sector + inside, data, bytes);
    return whole(bf, op, sector, sector_bytes, offset - inside);
}

static int
transfer(struct fh_blkfront *bf, enum fh_blkif_op op, uint8_t *data,
         size_t bytes, uint64_t offset)
{
    const size_t mask = bf->info.sector_bytes - 1;
    size_t n;
    int r;

    if (bf->state != FH_BLKFRONT_CONNECTED || bf->fault)
        return FH_ENOTCONN;
    if (!fh_range_inside(offset, bytes, bf->info.n_sectors << FH_SECTOR_SHIFT))
        return FH_ERANGE;
    if (bytes && (offset & mask)) {
        n = mask + 1 - (offset & mask);
        n = n < bytes ? n : bytes;
        r = edge(bf, op, data, n, offset);
        if (r)
            return r;
        data += n;
        offset += n;
        bytes -= n;
    }
    n = bytes & ~mask;
    r = whole(bf, op, data, n, offset);
    if (!r && bytes > n)
        r = edge(bf, op, data + n, bytes - n, offset + n);
    return r;
}

int
fh_blkfront_pread(struct fh_blkfront *bf, void *buf, size_t bytes,
                  uint64_t offset)
{
    return transfer(bf, FH_BLKIF_READ, buf, bytes, offset);
}

int
fh_blkfront_pwrite(struct fh_blkfront *bf, const void *buf, size_t bytes,
                   uint64_t offset)
{
    if (bf->info.read_only)
        return FH_EROFS;
    /* A write only reads its data. */
    return transfer(bf, FH_BLKIF_WRITE, (uint8_t *)(uintptr_t)buf, bytes,
                    offset);
}

int
fh_blkfront_flush(struct fh_blkfront *bf)
{
    const struct fh_blkfront_io io = {
        .op = bf->info.flush ? FH_BLKIF_FLUSH : FH_BLKIF_BARRIER,
    };
    struct span s = {.op = io.op};
    int r;

    if (bf->queue.n_live)
        return FH_EBUSY;
    r = fh_blkfront_submit(bf, &io);
    if (r)
        return r < 0 ? r : FH_ENOTCONN;
    return run_out(bf, &s);
}

int
fh_blkfront_discard(struct fh_blkfront *bf, uint64_t bytes, uint64_t offset)
{
    const uint64_t size = bf->info.n_sectors << FH_SECTOR_SHIFT;
    const uint64_t mask = bf->info.sector_bytes - 1;
    struct span s = {.op = FH_BLKIF_DISCARD};
    uint64_t first, end;

    if (!fh_range_inside(offset, bytes, size))
        return FH_ERANGE;
    first = (offset + mask) & ~mask;
    end = (offset + bytes) & ~mask;
    if (first >= end)
        return 0;
    s.sector = first >> FH_SECTOR_SHIFT;
    s.n_sectors = (end - first) >> FH_SECTOR_SHIFT;
    return run(bf, &s);
}
