/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The wire formats of Xen's block interface: pure functions between ring slots
 * and our own request.
 *
 * Decoding judges a private copy of a slot, never shared memory, and is total:
 * every refusal of the protocol is made here, before the first effect, and
 * nothing that passed is refused later for its form (DESIGN.md, decision 17).
 * Sectors are 512 bytes everywhere, whatever the store's sector size is
 * (<xen/io/blkif.h>, notes on sector-size).
 *
 * Threads: any; no state, no allocation, no logging.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>

enum fh_blkif_abi {
    FH_BLKIF_NATIVE,
    FH_BLKIF_X86_32,
    FH_BLKIF_X86_64,
};

enum {
    FH_BLKIF_MAX_DIRECT = 11,        /* segments in a slot */
    FH_BLKIF_SEGS_PER_PAGE = 512,    /* descriptors in an indirect page */
    FH_BLKIF_MAX_INDIRECT_PAGES = 8, /* in a slot, by the ABI */
    FH_BLKIF_MAX_SEGMENTS = 512,     /* the most that we ever advertise */
    FH_BLKIF_MAX_RING_ORDER = 4,
    FH_BLKIF_MAX_SLOT_BYTES = 112,
    FH_BLKIF_MAX_RESPONSE_BYTES = 16,
};

/* What a request does; values are ours.  BLKIF_OP_INDIRECT does not appear: an
 * indirect read is a read. */
enum fh_blkif_op {
    FH_BLKIF_READ,
    FH_BLKIF_WRITE,
    FH_BLKIF_BARRIER,
    FH_BLKIF_FLUSH,
    FH_BLKIF_DISCARD,
};

/* Status of a response, BLKIF_RSP_*. */
enum {
    FH_BLKIF_OKAY = 0,
    FH_BLKIF_ERROR = -1,
    FH_BLKIF_NOTSUPP = -2,
};

/* Verdicts of the decoders: the frontend's fault, all of them.
 * fh_blkif_refusal() is the status to answer. */
enum {
    FH_BLKIF_E_OP = 1,   /* unknown or not offered: answer NOTSUPP */
    FH_BLKIF_E_SEGMENTS, /* count, or first/last sector: answer ERROR */
    FH_BLKIF_E_RANGE,    /* outside the disk, or wraps: ERROR */
    FH_BLKIF_E_READONLY, /* would change a read-only disk: ERROR */
    FH_BLKIF_E_INDIRECT, /* count or operation of an indirect request: ERROR */
};

/* One segment: @first and @last sector (0 .. 7) of the page that @gref
 * grants. */
struct fh_blkif_seg {
    uint32_t gref;
    uint8_t first;
    uint8_t last;
    uint16_t reserved;
};

struct fh_blkif_req {
    enum fh_blkif_op op;
    bool indirect;
    uint8_t wire_op; /* to be echoed in the response (indirect_op if
                        indirect) */
    uint8_t flag;    /* of a discard */
    uint16_t handle;
    uint16_t n_segs;    /* 0 .. FH_BLKIF_MAX_SEGMENTS */
    uint16_t n_pages;   /* indirect descriptor pages in use: 0 .. 8 */
    uint64_t id;        /* echoed bit for bit */
    uint64_t sector;    /* first sector */
    uint64_t n_sectors; /* sum over the segments; 0 before
                           fh_blkif_decode_segs() of an indirect request */
    struct fh_blkif_seg segs[FH_BLKIF_MAX_DIRECT]; /* direct requests */
    uint32_t pages[FH_BLKIF_MAX_INDIRECT_PAGES];   /* grefs */
};

/* What the decoder judges against. */
struct fh_blkif_limits {
    uint64_t n_sectors;    /* size of the disk */
    uint32_t max_indirect; /* as advertised; 0: indirect not offered */
    bool read_only;
    bool flush; /* offered */
    bool barrier;
    bool discard;
};

/* Bytes of a ring slot and of a response of @abi. */
uint32_t
fh_blkif_slot_bytes(enum fh_blkif_abi abi);
uint32_t
fh_blkif_response_bytes(enum fh_blkif_abi abi);

/* Slots of a ring of 2^order pages: 32 at order 0 .. 512 at order 4; 0 for any
 * larger order. */
uint32_t
fh_blkif_ring_slots(enum fh_blkif_abi abi, unsigned order);

/*
 * fh_blkif_abi_parse - read a frontend's "protocol" key
 *
 * @protocol: the key's value, or NULL when there is none: native
 * @abi:      written on success only
 *
 * Returns 0, or FH_EINVAL for a value that is neither of x86's two nor the name
 *   of our own ABI.
 */
FH_MUST_CHECK int
fh_blkif_abi_parse(const char *protocol, enum fh_blkif_abi *abi);

/* The value of the "protocol" key for @abi. */
const char *
fh_blkif_abi_name(enum fh_blkif_abi abi);

/*
 * fh_blkif_decode_head - what a response to this slot must echo
 *
 * Never fails: works on any bytes.  @wire_op is the operation byte, or the
 * inner operation of an indirect request.
 */
void
fh_blkif_decode_head(enum fh_blkif_abi abi, const void *slot, uint64_t *id,
                     uint8_t *wire_op);

/*
 * fh_blkif_decode - judge one request
 *
 * @slot: a private copy, fh_blkif_slot_bytes() long
 * @req:  written on success only; of segs and pages as many as it counts.  An
 *        indirect request still needs its segments: fh_blkif_decode_segs().
 *
 * Where the protocol's text leaves room:
 *   - a flush carries no segments: FH_BLKIF_E_SEGMENTS otherwise.  Linux's
 *     backend takes one with data for a write, but no frontend that we know
 *     sends it, and an error for it does not make Linux give up flushing;
 *   - a barrier may come without segments; its sector then means nothing, and
 *     a read-only disk accepts it;
 *   - a discard of 0 sectors is FH_BLKIF_E_RANGE; its flag is handed on: the
 *     secure bit is to be ignored while discard-secure is not offered;
 *   - @handle is not judged (no backend does).
 *
 * Returns 0 or one of FH_BLKIF_E_*.
 */
FH_MUST_CHECK int
fh_blkif_decode(enum fh_blkif_abi abi, const void *slot,
                const struct fh_blkif_limits *limits, struct fh_blkif_req *req);

/*
 * fh_blkif_decode_segs - judge the segments of an indirect request
 *
 * @segs: req->n_segs descriptors, a private copy of the granted pages' content
 *
 * Sets req->n_sectors on success only.  Returns 0 or FH_BLKIF_E_SEGMENTS,
 *   FH_BLKIF_E_RANGE.
 */
FH_MUST_CHECK int
fh_blkif_decode_segs(const struct fh_blkif_limits *limits,
                     const struct fh_blkif_seg *segs, struct fh_blkif_req *req);

/* The status that answers verdict @e, one of FH_BLKIF_E_*. */
static inline int16_t
fh_blkif_refusal(int e)
{
    return e == FH_BLKIF_E_OP ? FH_BLKIF_NOTSUPP : FH_BLKIF_ERROR;
}

/*
 * fh_blkif_encode_response - build the image of a response
 *
 * @buf: fh_blkif_response_bytes() long; every byte of it is written, padding
 *       with zero (XSA-216)
 */
void
fh_blkif_encode_response(enum fh_blkif_abi abi, uint64_t id, uint8_t wire_op,
                         int16_t status, void *buf);

/* The frontend's halves. */

/* Builds the image of @req (its wire_op is ignored, op and indirect decide);
 * @buf is fh_blkif_slot_bytes() long, wholly written.  n_segs is at most
 * FH_BLKIF_MAX_DIRECT unless indirect. */
void
fh_blkif_encode(enum fh_blkif_abi abi, const struct fh_blkif_req *req,
                void *buf);

/* Reads a response.  @buf: a private copy, fh_blkif_response_bytes() long. */
void
fh_blkif_decode_response(enum fh_blkif_abi abi, const void *buf, uint64_t *id,
                         uint8_t *wire_op, int16_t *status);

/* The operation byte of BLKIF_OP_* for @op. */
uint8_t
fh_blkif_wire_op(enum fh_blkif_op op);
