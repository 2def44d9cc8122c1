/* SPDX-License-Identifier: MIT */
/*
 * The back half of the codec: requests in, responses out.
 *
 * Each decoder is a flat list of refusals and then the result.  A request is
 * built in a local and copied out at the end, so a refused one leaves nothing.
 * Rules of the protocol that are easily missed:
 *   - 512-byte sectors everywhere; a segment is 1 to 8 of them in one page;
 *   - a disk is protected by what a request does, not by its operation: an
 *     empty barrier changes nothing (CVE-2013-2140 was the other way round);
 *   - sums cannot wrap: n_sectors of a request is at most 512 * 8.
 */
#include <freehold/blkif.h>
#include <string.h>
#include <xen/io/blkif.h>
#include "base/arith.h"
#include "layout.h"
#include "wire.h"

_Static_assert(sizeof(struct fh_blkif_seg) ==
                   sizeof(struct blkif_request_segment),
               "a descriptor is copied as it stands");
_Static_assert(offsetof(struct fh_blkif_seg, gref) ==
                   offsetof(struct blkif_request_segment, gref),
               "gref");
_Static_assert(offsetof(struct fh_blkif_seg, first) ==
                   offsetof(struct blkif_request_segment, first_sect),
               "first");
_Static_assert(offsetof(struct fh_blkif_seg, last) ==
                   offsetof(struct blkif_request_segment, last_sect),
               "last");
_Static_assert(FH_BLKIF_MAX_DIRECT == BLKIF_MAX_SEGMENTS_PER_REQUEST,
               "segments in a slot");
_Static_assert(FH_BLKIF_MAX_INDIRECT_PAGES ==
                   BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST,
               "grefs in an indirect slot");
_Static_assert(FH_BLKIF_OKAY == BLKIF_RSP_OKAY &&
                   FH_BLKIF_ERROR == BLKIF_RSP_ERROR &&
                   FH_BLKIF_NOTSUPP == BLKIF_RSP_EOPNOTSUPP,
               "status of a response");

enum {
    SECTORS_PER_PAGE = FH_PAGE_BYTES / FH_SECTOR_BYTES,
};

/* Sums up @n segments.  Returns 0 or FH_BLKIF_E_SEGMENTS. */
static int
count_sectors(const struct fh_blkif_seg *segs, uint32_t n, uint64_t *n_sectors)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (segs[i].last >= SECTORS_PER_PAGE)
            return FH_BLKIF_E_SEGMENTS;
        if (segs[i].first > segs[i].last)
            return FH_BLKIF_E_SEGMENTS;
        sum += segs[i].last - segs[i].first + 1u;
    }
    *n_sectors = sum;
    return 0;
}

/* Whether the slot may hold @n segments for @op. */
static bool
segment_count_valid(enum fh_blkif_op op, uint8_t n)
{
    switch (op) {
    case FH_BLKIF_READ:
    case FH_BLKIF_WRITE:
        return n >= 1 && n <= FH_BLKIF_MAX_DIRECT;
    case FH_BLKIF_BARRIER:
        return n <= FH_BLKIF_MAX_DIRECT;
    case FH_BLKIF_FLUSH:
        return n == 0;
    case FH_BLKIF_DISCARD:
        break;
    }
    return false;
}

static int
decode_direct(const struct fh_blkif_layout *at, const uint8_t *slot,
              const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    const uint8_t n = slot[1];
    int r;

    if (!segment_count_valid(req->op, n))
        return FH_BLKIF_E_SEGMENTS;
    if (limits->read_only && n && req->op != FH_BLKIF_READ)
        return FH_BLKIF_E_READONLY;

    memcpy(req->segs, slot + at->segs, n * sizeof(req->segs[0]));
    for (uint8_t i = 0; i < n; i++)
        req->segs[i].reserved = 0; /* the peer's padding */
    r = count_sectors(req->segs, n, &req->n_sectors);
    if (r)
        return r;
    if (n && !fh_range_inside(req->sector, req->n_sectors, limits->n_sectors))
        return FH_BLKIF_E_RANGE;

    req->n_segs = n;
    req->handle = load16(slot + 2);
    return 0;
}

static int
decode_discard(const struct fh_blkif_layout *at, const uint8_t *slot,
               const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    req->flag = slot[1];
    req->handle = load16(slot + 2);
    req->n_sectors = load64(slot + at->discard_n);

    if (limits->read_only)
        return FH_BLKIF_E_READONLY;
    if (!req->n_sectors)
        return FH_BLKIF_E_RANGE;
    if (!fh_range_inside(req->sector, req->n_sectors, limits->n_sectors))
        return FH_BLKIF_E_RANGE;
    return 0;
}

static int
decode_indirect(const struct fh_blkif_layout *at, const uint8_t *slot,
                const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    const uint16_t n = load16(slot + 2);

    if (slot[1] != BLKIF_OP_READ && slot[1] != BLKIF_OP_WRITE)
        return FH_BLKIF_E_INDIRECT;
    if (n < 1 || n > limits->max_indirect || n > FH_BLKIF_MAX_SEGMENTS)
        return FH_BLKIF_E_INDIRECT;
    if (limits->read_only && slot[1] == BLKIF_OP_WRITE)
        return FH_BLKIF_E_READONLY;
    /* Every segment is a sector at least: do not fetch what cannot fit. */
    if (!fh_range_inside(req->sector, n, limits->n_sectors))
        return FH_BLKIF_E_RANGE;

    req->op = slot[1] == BLKIF_OP_READ ? FH_BLKIF_READ : FH_BLKIF_WRITE;
    req->indirect = true;
    req->n_segs = n;
    req->n_pages = (uint16_t)(fh_round_up(n, FH_BLKIF_SEGS_PER_PAGE) /
                              FH_BLKIF_SEGS_PER_PAGE);
    req->handle = load16(slot + at->indirect_handle);
    /* What lies behind the pages in use is garbage. */
    memcpy(req->pages, slot + at->indirect_grefs,
           req->n_pages * sizeof(req->pages[0]));
    return 0;
}

/* Judges the operation byte of a slot and, by its kind, the rest of it. */
static int
decode_op(const struct fh_blkif_layout *at, const uint8_t *slot,
          const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    switch (slot[0]) {
    case BLKIF_OP_READ:
        req->op = FH_BLKIF_READ;
        return decode_direct(at, slot, limits, req);
    case BLKIF_OP_WRITE:
        req->op = FH_BLKIF_WRITE;
        return decode_direct(at, slot, limits, req);
    case BLKIF_OP_WRITE_BARRIER:
        if (!limits->barrier)
            return FH_BLKIF_E_OP;
        req->op = FH_BLKIF_BARRIER;
        return decode_direct(at, slot, limits, req);
    case BLKIF_OP_FLUSH_DISKCACHE:
        if (!limits->flush)
            return FH_BLKIF_E_OP;
        req->op = FH_BLKIF_FLUSH;
        return decode_direct(at, slot, limits, req);
    case BLKIF_OP_DISCARD:
        if (!limits->discard)
            return FH_BLKIF_E_OP;
        req->op = FH_BLKIF_DISCARD;
        return decode_discard(at, slot, limits, req);
    case BLKIF_OP_INDIRECT:
        if (!limits->max_indirect)
            return FH_BLKIF_E_OP;
        return decode_indirect(at, slot, limits, req);
    default: /* a peer's byte, not an enum of ours */
        return FH_BLKIF_E_OP;
    }
}

void
fh_blkif_decode_head(enum fh_blkif_abi abi, const void *slot, uint64_t *id,
                     uint8_t *wire_op)
{
    const uint8_t *wire = slot;

    *id = load64(wire + fh_blkif_layout_of(abi)->id);
    *wire_op = wire[0] == BLKIF_OP_INDIRECT ? wire[1] : wire[0];
}

int
fh_blkif_decode(enum fh_blkif_abi abi, const void *slot,
                const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    const struct fh_blkif_layout *at = fh_blkif_layout_of(abi);
    const uint8_t *wire = slot;
    struct fh_blkif_req out = {.sector = load64(wire + at->sector)};
    int r;

    fh_blkif_decode_head(abi, slot, &out.id, &out.wire_op);
    r = decode_op(at, wire, limits, &out);
    if (r)
        return r;
    *req = out;
    return 0;
}

int
fh_blkif_decode_segs(const struct fh_blkif_limits *limits,
                     const struct fh_blkif_seg *segs, struct fh_blkif_req *req)
{
    uint64_t n_sectors;
    int r;

    r = count_sectors(segs, req->n_segs, &n_sectors);
    if (r)
        return r;
    if (!fh_range_inside(req->sector, n_sectors, limits->n_sectors))
        return FH_BLKIF_E_RANGE;
    req->n_sectors = n_sectors;
    return 0;
}

void
fh_blkif_encode_response(enum fh_blkif_abi abi, uint64_t id, uint8_t wire_op,
                         int16_t status, void *buf)
{
    const struct fh_blkif_layout *at = fh_blkif_layout_of(abi);
    uint8_t *wire = buf;

    memset(wire, 0, at->response); /* XSA-216: padding too */
    store64(wire, id);
    wire[at->response_op] = wire_op;
    store16(wire + at->response_status, (uint16_t)status);
}
