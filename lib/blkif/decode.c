/* SPDX-License-Identifier: MIT */
/*
 * The back half of the codec: requests in, responses out.
 *
 * Each decoder is a flat list of refusals and then the result: nothing is
 * written before the last check, nothing is refused after it.
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

/* Sums up @n descriptors as they stand on the wire.  Returns 0 or
 * FH_BLKIF_E_SEGMENTS. */
static int
count_sectors(const uint8_t *segs, uint32_t n, uint64_t *n_sectors)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < n; i++, segs += sizeof(struct fh_blkif_seg)) {
        const uint8_t first = segs[offsetof(struct fh_blkif_seg, first)];
        const uint8_t last = segs[offsetof(struct fh_blkif_seg, last)];

        if (last >= SECTORS_PER_PAGE)
            return FH_BLKIF_E_SEGMENTS;
        if (first > last)
            return FH_BLKIF_E_SEGMENTS;
        sum += last - first + 1u;
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

/* What all requests have in common, once one has passed. */
static void
fill(const struct fh_blkif_layout *at, const uint8_t *slot, enum fh_blkif_op op,
     uint64_t n_sectors, struct fh_blkif_req *req)
{
    req->op = op;
    req->indirect = false;
    req->wire_op = slot[0];
    req->flag = 0;
    req->handle = load16(slot + 2);
    req->n_segs = 0;
    req->n_pages = 0;
    req->id = load64(slot + at->id);
    req->sector = load64(slot + at->sector);
    req->n_sectors = n_sectors;
}

static int
decode_direct(const struct fh_blkif_layout *at, const uint8_t *slot,
              const struct fh_blkif_limits *limits, enum fh_blkif_op op,
              struct fh_blkif_req *req)
{
    const uint8_t *segs = slot + at->segs;
    const uint64_t sector = load64(slot + at->sector);
    const uint8_t n = slot[1];
    uint64_t n_sectors;
    int r;

    if (!segment_count_valid(op, n))
        return FH_BLKIF_E_SEGMENTS;
    if (limits->read_only && n && op != FH_BLKIF_READ)
        return FH_BLKIF_E_READONLY;
    r = count_sectors(segs, n, &n_sectors);
    if (r)
        return r;
    if (n && !fh_range_inside(sector, n_sectors, limits->n_sectors))
        return FH_BLKIF_E_RANGE;

    fill(at, slot, op, n_sectors, req);
    req->n_segs = n;
    for (uint8_t i = 0; i < n; i++) {
        __builtin_memcpy(&req->segs[i], segs + i * sizeof(req->segs[i]),
                         sizeof(req->segs[i]));
        req->segs[i].reserved = 0; /* the peer's padding */
    }
    return 0;
}

static int
decode_discard(const struct fh_blkif_layout *at, const uint8_t *slot,
               const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    const uint64_t sector = load64(slot + at->sector);
    const uint64_t n_sectors = load64(slot + at->discard_n);

    if (limits->read_only)
        return FH_BLKIF_E_READONLY;
    if (!n_sectors)
        return FH_BLKIF_E_RANGE;
    if (!fh_range_inside(sector, n_sectors, limits->n_sectors))
        return FH_BLKIF_E_RANGE;

    fill(at, slot, FH_BLKIF_DISCARD, n_sectors, req);
    req->flag = slot[1];
    return 0;
}

static int
decode_indirect(const struct fh_blkif_layout *at, const uint8_t *slot,
                const struct fh_blkif_limits *limits, struct fh_blkif_req *req)
{
    const uint64_t sector = load64(slot + at->sector);
    const uint8_t inner = slot[1];
    const uint16_t n = load16(slot + 2);

    if (inner != BLKIF_OP_READ && inner != BLKIF_OP_WRITE)
        return FH_BLKIF_E_INDIRECT;
    if (n < 1 || n > limits->max_indirect || n > FH_BLKIF_MAX_SEGMENTS)
        return FH_BLKIF_E_INDIRECT;
    if (limits->read_only && inner == BLKIF_OP_WRITE)
        return FH_BLKIF_E_READONLY;
    /* Every segment is a sector at least: do not fetch what cannot fit. */
    if (!fh_range_inside(sector, n, limits->n_sectors))
        return FH_BLKIF_E_RANGE;

    fill(at, slot, inner == BLKIF_OP_READ ? FH_BLKIF_READ : FH_BLKIF_WRITE, 0,
         req);
    req->indirect = true;
    req->wire_op = inner;
    req->handle = load16(slot + at->indirect_handle);
    req->n_segs = n;
    req->n_pages =
        (uint16_t)((n + FH_BLKIF_SEGS_PER_PAGE - 1u) / FH_BLKIF_SEGS_PER_PAGE);
    /* What lies behind the pages in use is garbage. */
    memcpy(req->pages, slot + at->indirect_grefs,
           req->n_pages * sizeof(req->pages[0]));
    return 0;
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

    switch (wire[0]) {
    case BLKIF_OP_READ:
        return decode_direct(at, wire, limits, FH_BLKIF_READ, req);
    case BLKIF_OP_WRITE:
        return decode_direct(at, wire, limits, FH_BLKIF_WRITE, req);
    case BLKIF_OP_WRITE_BARRIER:
        if (!limits->barrier)
            return FH_BLKIF_E_OP;
        return decode_direct(at, wire, limits, FH_BLKIF_BARRIER, req);
    case BLKIF_OP_FLUSH_DISKCACHE:
        if (!limits->flush)
            return FH_BLKIF_E_OP;
        return decode_direct(at, wire, limits, FH_BLKIF_FLUSH, req);
    case BLKIF_OP_DISCARD:
        if (!limits->discard)
            return FH_BLKIF_E_OP;
        return decode_discard(at, wire, limits, req);
    case BLKIF_OP_INDIRECT:
        if (!limits->max_indirect)
            return FH_BLKIF_E_OP;
        return decode_indirect(at, wire, limits, req);
    default: /* a peer's byte, not an enum of ours */
        return FH_BLKIF_E_OP;
    }
}

int
fh_blkif_decode_segs(const struct fh_blkif_limits *limits,
                     const struct fh_blkif_seg *segs, struct fh_blkif_req *req)
{
    uint64_t n_sectors;
    int r;

    r = count_sectors((const uint8_t *)segs, req->n_segs, &n_sectors);
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

    store64(wire, id);
    /* XSA-216: padding too. */
    for (uint32_t i = sizeof(id); i < at->response; i += 4)
        store32(wire + i, 0);
    wire[at->response_op] = wire_op;
    store16(wire + at->response_status, (uint16_t)status);
}
