/* SPDX-License-Identifier: MIT */
/*
 * The frontend's half of the codec, and what both halves need to know of an
 * ABI.  Slots are written whole, so nothing of ours leaks to a peer.
 */
#include <freehold/blkif.h>
#include <string.h>
#include <xen/io/blkif.h>
#include <xen/io/protocols.h>
#include "base/arith.h"
#include "layout.h"
#include "wire.h"

static bool
str_equal(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

uint32_t
fh_blkif_slot_bytes(enum fh_blkif_abi abi)
{
    return fh_blkif_layout_of(abi)->slot;
}

uint32_t
fh_blkif_response_bytes(enum fh_blkif_abi abi)
{
    return fh_blkif_layout_of(abi)->response;
}

uint32_t
fh_blkif_ring_slots(enum fh_blkif_abi abi, unsigned order)
{
    const struct fh_blkif_layout *at = fh_blkif_layout_of(abi);
    uint32_t n = 1;

    if (order > FH_BLKIF_MAX_RING_ORDER)
        return 0;
    const uint32_t fit =
        ((FH_PAGE_BYTES << order) - at->ring_header) / at->slot;

    while (n * 2 <= fit)
        n *= 2;
    return n;
}

int
fh_blkif_abi_parse(const char *protocol, enum fh_blkif_abi *abi)
{
    if (!protocol)
        *abi = FH_BLKIF_NATIVE;
    else if (str_equal(protocol, XEN_IO_PROTO_ABI_X86_32))
        *abi = FH_BLKIF_X86_32;
    else if (str_equal(protocol, XEN_IO_PROTO_ABI_X86_64))
        *abi = FH_BLKIF_X86_64;
    else if (str_equal(protocol, XEN_IO_PROTO_ABI_NATIVE))
        *abi = FH_BLKIF_NATIVE;
    else
        return FH_EINVAL;
    return 0;
}

const char *
fh_blkif_abi_name(enum fh_blkif_abi abi)
{
    switch (abi) {
    case FH_BLKIF_NATIVE:
        return XEN_IO_PROTO_ABI_NATIVE;
    case FH_BLKIF_X86_32:
        return XEN_IO_PROTO_ABI_X86_32;
    case FH_BLKIF_X86_64:
        return XEN_IO_PROTO_ABI_X86_64;
    }
    return NULL;
}

uint8_t
fh_blkif_wire_op(enum fh_blkif_op op)
{
    switch (op) {
    case FH_BLKIF_READ:
        return BLKIF_OP_READ;
    case FH_BLKIF_WRITE:
        return BLKIF_OP_WRITE;
    case FH_BLKIF_BARRIER:
        return BLKIF_OP_WRITE_BARRIER;
    case FH_BLKIF_FLUSH:
        return BLKIF_OP_FLUSH_DISKCACHE;
    case FH_BLKIF_DISCARD:
        return BLKIF_OP_DISCARD;
    }
    return BLKIF_OP_RESERVED_1;
}

static void
encode_direct(const struct fh_blkif_layout *at, const struct fh_blkif_req *req,
              uint8_t *wire)
{
    wire[0] = fh_blkif_wire_op(req->op);
    wire[1] = (uint8_t)req->n_segs;
    store16(wire + 2, req->handle);
    for (uint32_t i = 0; i < req->n_segs && i < FH_BLKIF_MAX_DIRECT; i++) {
        const struct fh_blkif_seg seg = {.gref = req->segs[i].gref,
                                         .first = req->segs[i].first,
                                         .last = req->segs[i].last};

        __builtin_memcpy(wire + at->segs + i * sizeof(seg), &seg, sizeof(seg));
    }
}

static void
encode_discard(const struct fh_blkif_layout *at, const struct fh_blkif_req *req,
               uint8_t *wire)
{
    wire[0] = BLKIF_OP_DISCARD;
    wire[1] = req->flag;
    store16(wire + 2, req->handle);
    store64(wire + at->discard_n, req->n_sectors);
}

static void
encode_indirect(const struct fh_blkif_layout *at,
                const struct fh_blkif_req *req, uint8_t *wire)
{
    wire[0] = BLKIF_OP_INDIRECT;
    wire[1] = fh_blkif_wire_op(req->op);
    store16(wire + 2, req->n_segs);
    store16(wire + at->indirect_handle, req->handle);
    for (uint32_t i = 0; i < req->n_pages && i < FH_BLKIF_MAX_INDIRECT_PAGES;
         i++)
        memcpy(wire + at->indirect_grefs + i * sizeof(req->pages[i]),
               &req->pages[i], sizeof(req->pages[i]));
}

void
fh_blkif_encode(enum fh_blkif_abi abi, const struct fh_blkif_req *req,
                void *buf)
{
    const struct fh_blkif_layout *at = fh_blkif_layout_of(abi);
    uint8_t *wire = buf;

    memset(wire, 0, at->slot);
    store64(wire + at->id, req->id);
    store64(wire + at->sector, req->sector);
    if (req->indirect)
        encode_indirect(at, req, wire);
    else if (req->op == FH_BLKIF_DISCARD)
        encode_discard(at, req, wire);
    else
        encode_direct(at, req, wire);
}

void
fh_blkif_decode_response(enum fh_blkif_abi abi, const void *buf, uint64_t *id,
                         uint8_t *wire_op, int16_t *status)
{
    const struct fh_blkif_layout *at = fh_blkif_layout_of(abi);
    const uint8_t *wire = buf;

    *id = load64(wire);
    *wire_op = wire[at->response_op];
    *status = (int16_t)load16(wire + at->response_status);
}
