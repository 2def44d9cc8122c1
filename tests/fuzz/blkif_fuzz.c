/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target for lib/blkif: fh_blkif_decode_head(), fh_blkif_decode(),
 * fh_blkif_decode_segs(), fh_blkif_encode(), fh_blkif_decode_response().
 *
 * Input: the ABI, the offers (a bit each), log2 of the disk's size, then a slot
 * and, for an indirect request, its descriptors; what is missing is zero.
 * The claims are those of the header: nothing passes that a disk could not do,
 * a refusal leaves the output alone, and encoding is the inverse.
 */
#include <stdbool.h>
#include <freehold/blkif.h>
#include "base/arith.h"
#include "fuzz.h"

enum {
    MAX_INDIRECT = 256,
    POISON = 0x5a,
};

/* Bits of the second byte. */
enum {
    READ_ONLY = 1,
    FLUSH = 2,
    BARRIER = 4,
    DISCARD = 8,
    INDIRECT = 16,
};

static void
check_segments(const struct fh_blkif_seg *segs, const struct fh_blkif_req *req)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < req->n_segs; i++) {
        CHECK(segs[i].first <= segs[i].last && segs[i].last < 8);
        sum += segs[i].last - segs[i].first + 1u;
    }
    CHECK(sum == req->n_sectors);
}

/* What passed changes a read-only disk in no way and lies inside the disk. */
static void
check_effect(const struct fh_blkif_limits *limits,
             const struct fh_blkif_req *req)
{
    const bool moves_data = req->n_segs || req->op == FH_BLKIF_DISCARD;

    if (limits->read_only && req->op != FH_BLKIF_READ)
        CHECK(!moves_data);
    if (moves_data)
        CHECK(fh_range_inside(req->sector, req->n_sectors, limits->n_sectors));
    if (moves_data && !req->indirect)
        CHECK(req->n_sectors);
    CHECK(req->op != FH_BLKIF_FLUSH || limits->flush);
    CHECK(req->op != FH_BLKIF_BARRIER || limits->barrier);
    CHECK(req->op != FH_BLKIF_DISCARD || limits->discard);
    CHECK(req->n_segs <= FH_BLKIF_MAX_SEGMENTS);
    if (!req->indirect) {
        CHECK(req->n_segs <= FH_BLKIF_MAX_DIRECT && !req->n_pages);
        return;
    }
    CHECK(req->n_segs >= 1 && req->n_segs <= limits->max_indirect);
    CHECK(req->op == FH_BLKIF_READ || req->op == FH_BLKIF_WRITE);
    CHECK(req->n_pages * FH_BLKIF_SEGS_PER_PAGE >= req->n_segs);
    CHECK((req->n_pages - 1u) * FH_BLKIF_SEGS_PER_PAGE < req->n_segs);
}

static void
check_inverse(enum fh_blkif_abi abi, const struct fh_blkif_limits *limits,
              const struct fh_blkif_req *req)
{
    uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES];
    struct fh_blkif_req again;

    fh_blkif_encode(abi, req, slot);
    memset(&again, POISON, sizeof(again));
    CHECK(fh_blkif_decode(abi, slot, limits, &again) == 0);
    CHECK(!memcmp(&again, req, sizeof(again)));
}

static void
decode_indirect(struct fuzz_input *in, const struct fh_blkif_limits *limits,
                struct fh_blkif_req *req)
{
    static struct fh_blkif_seg segs[FH_BLKIF_MAX_SEGMENTS];

    fuzz_bytes(in, segs, sizeof(segs));
    const int r = fh_blkif_decode_segs(limits, segs, req);

    CHECK(r == 0 || r == FH_BLKIF_E_SEGMENTS || r == FH_BLKIF_E_RANGE);
    if (r) {
        CHECK(req->n_sectors == 0);
        return;
    }
    check_segments(segs, req);
    check_effect(limits, req);
}

static void
check_response(enum fh_blkif_abi abi, const uint8_t *slot)
{
    uint8_t rsp[FH_BLKIF_MAX_RESPONSE_BYTES];
    uint64_t id, id2;
    uint8_t op, op2;
    int16_t status;

    fh_blkif_decode_head(abi, slot, &id, &op);
    fh_blkif_encode_response(abi, id, op, FH_BLKIF_ERROR, rsp);
    fh_blkif_decode_response(abi, rsp, &id2, &op2, &status);
    CHECK(id == id2 && op == op2 && status == FH_BLKIF_ERROR);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {.data = data, .left = size};
    const enum fh_blkif_abi abi = (enum fh_blkif_abi)(fuzz_byte(&in) % 3);
    const uint8_t how = fuzz_byte(&in);
    const struct fh_blkif_limits limits = {
        .n_sectors = (1ull << fuzz_byte(&in) % 64) - 1,
        .max_indirect = how & INDIRECT ? MAX_INDIRECT : 0,
        .read_only = how & READ_ONLY,
        .flush = how & FLUSH,
        .barrier = how & BARRIER,
        .discard = how & DISCARD,
    };
    uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES];
    struct fh_blkif_req req, poison;

    fuzz_bytes(&in, slot, fh_blkif_slot_bytes(abi));
    memset(&req, POISON, sizeof(req));
    memset(&poison, POISON, sizeof(poison));
    check_response(abi, slot);
    const int r = fh_blkif_decode(abi, slot, &limits, &req);

    CHECK(r >= 0 && r <= FH_BLKIF_E_INDIRECT);
    if (r) {
        CHECK(!memcmp(&req, &poison, sizeof(req)));
        return 0;
    }
    check_inverse(abi, &limits, &req);
    if (req.indirect) {
        decode_indirect(&in, &limits, &req);
    } else {
        check_effect(&limits, &req);
        if (req.op != FH_BLKIF_DISCARD)
            check_segments(req.segs, &req);
    }
    return 0;
}
