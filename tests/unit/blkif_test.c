/* SPDX-License-Identifier: MIT */
/*
 * lib/blkif.  Slots are built here byte by byte from the numbers of the
 * protocol, not with the encoder, so that an error made twice shows.  Each
 * refusal of the decoder has a row that passes when the refusal is deleted.
 */
#include <stdbool.h>
#include <string.h>
#include <freehold/blkif.h>
#include "base/arith.h"
#include "expect.h"

enum {
    READ = 0,
    WRITE = 1,
    BARRIER = 2,
    FLUSH = 3,
    PACKET = 4,
    DISCARD = 5,
    INDIRECT = 6,
};

enum {
    DISK = 1024, /* sectors */
    MAX_INDIRECT = 256,
    POISON = 0x5a,
};

static const enum fh_blkif_abi abis[] = {
    FH_BLKIF_NATIVE,
    FH_BLKIF_X86_32,
    FH_BLKIF_X86_64,
};

/* Conditions other than a writable disk that offers everything. */
enum {
    RO = 1,
    NO_FLUSH = 2,
    NO_BARRIER = 4,
    NO_DISCARD = 8,
    NO_INDIRECT = 16,
    TINY = 32, /* a disk of no sectors */
    HUGE_INDIRECT = 64,
};

struct row {
    const char *name;
    int want;
    unsigned how;
    uint8_t op;
    uint8_t b1;  /* nr_segments, discard's flag, or inner operation */
    uint16_t w2; /* handle, or an indirect request's nr_segments */
    uint64_t sector;
    uint64_t n;                          /* sectors of a discard */
    uint8_t seg[FH_BLKIF_MAX_DIRECT][2]; /* first, last */
};

static struct fh_blkif_limits
limits_of(unsigned how)
{
    return (struct fh_blkif_limits){
        .n_sectors = how & TINY ? 0 : DISK,
        .max_indirect = how & NO_INDIRECT     ? 0
                        : how & HUGE_INDIRECT ? 4096
                                              : MAX_INDIRECT,
        .read_only = how & RO,
        .flush = !(how & NO_FLUSH),
        .barrier = !(how & NO_BARRIER),
        .discard = !(how & NO_DISCARD),
    };
}

static void
put(uint8_t *at, uint64_t v, size_t bytes)
{
    memcpy(at, &v, bytes); /* little-endian, as every test machine is */
}

static const uint64_t an_id = 0x0123456789abcdefull;

/* The slot of @row; @id_at is where the ABI keeps the id. */
static void
build(enum fh_blkif_abi abi, const struct row *row, uint8_t *slot)
{
    const size_t id_at = abi == FH_BLKIF_X86_32 ? 4 : 8;

    memset(slot, 0xee, FH_BLKIF_MAX_SLOT_BYTES);
    slot[0] = row->op;
    slot[1] = row->b1;
    put(slot + 2, row->w2, 2);
    put(slot + id_at, an_id, 8);
    put(slot + id_at + 8, row->sector, 8);
    if (row->op == DISCARD) {
        put(slot + id_at + 16, row->n, 8);
    } else if (row->op == INDIRECT) {
        put(slot + id_at + 16, 0x7788, 2);
        for (uint32_t i = 0; i < 8; i++)
            put(slot + id_at + 20 + i * 4, 100 + i, 4);
    } else {
        for (uint32_t i = 0; i < FH_BLKIF_MAX_DIRECT; i++) {
            put(slot + id_at + 16 + i * 8, 100 + i, 4);
            slot[id_at + 16 + i * 8 + 4] = row->seg[i][0];
            slot[id_at + 16 + i * 8 + 5] = row->seg[i][1];
        }
    }
}

/* Every row is tried with each ABI. */
/* clang-format off */
#define ELEVEN                                                             \
    {{0, 7}, {0, 7}, {0, 7}, {0, 7}, {0, 7}, {0, 7}, {0, 7}, {0, 7},       \
     {0, 7}, {0, 7}, {0, 7}}

static const struct row rows[] = {
    /* name, verdict, how, op, b1, w2, sector, n, segments */
    { "read a page", 0, 0, READ, 1, 0, 0, 0, {{0, 7}} },
    { "read one sector", 0, 0, READ, 1, 0, 1023, 0, {{7, 7}} },
    { "read 11 pages", 0, 0, READ, 11, 0, 0, 0, ELEVEN },
    { "read to the end", 0, 0, READ, 1, 0, 1016, 0, {{0, 7}} },
    { "read, read-only", 0, RO, READ, 1, 0, 0, 0, {{0, 7}} },
    { "write", 0, 0, WRITE, 2, 0, 0, 0, {{0, 7}, {3, 4}} },
    { "barrier with data", 0, 0, BARRIER, 1, 0, 0, 0, {{0, 7}} },
    { "barrier without", 0, 0, BARRIER, 0, 0, 0, 0, {{0}} },
    { "empty barrier anywhere", 0, 0, BARRIER, 0, 0, ~0ull, 0, {{0}} },
    { "empty barrier, read-only", 0, RO, BARRIER, 0, 0, 0, 0, {{0}} },
    { "flush", 0, 0, FLUSH, 0, 0, 0, 0, {{0}} },
    { "flush anywhere", 0, 0, FLUSH, 0, 0, ~0ull, 0, {{0}} },
    { "flush, read-only", 0, RO, FLUSH, 0, 0, 0, 0, {{0}} },
    { "flush of no disk", 0, TINY, FLUSH, 0, 0, 0, 0, {{0}} },
    { "discard", 0, 0, DISCARD, 0, 0, 8, 100, {{0}} },
    { "discard all", 0, 0, DISCARD, 0, 0, 0, DISK, {{0}} },
    { "discard, secure", 0, 0, DISCARD, 1, 0, 0, 1, {{0}} },
    { "indirect read", 0, 0, INDIRECT, READ, 1, 0, 0, {{0}} },
    { "indirect write", 0, 0, INDIRECT, WRITE, MAX_INDIRECT, 0, 0, {{0}} },
    { "indirect read, read-only", 0, RO, INDIRECT, READ, 32, 0, 0, {{0}} },
    { "indirect, 512", 0, HUGE_INDIRECT, INDIRECT, READ, 512, 0, 0, {{0}} },

    { "packet command", FH_BLKIF_E_OP, 0, PACKET, 1, 0, 0, 0, {{0, 7}} },
    { "operation 7", FH_BLKIF_E_OP, 0, 7, 1, 0, 0, 0, {{0, 7}} },
    { "operation 255", FH_BLKIF_E_OP, 0, 255, 1, 0, 0, 0, {{0, 7}} },
    { "flush not offered", FH_BLKIF_E_OP, NO_FLUSH, FLUSH, 0, 0, 0, 0, {{0}} },
    { "barrier not offered", FH_BLKIF_E_OP, NO_BARRIER, BARRIER, 1, 0, 0, 0,
      {{0, 7}} },
    { "discard not offered", FH_BLKIF_E_OP, NO_DISCARD, DISCARD, 0, 0, 0, 8,
      {{0}} },
    { "indirect not offered", FH_BLKIF_E_OP, NO_INDIRECT, INDIRECT, READ, 1, 0,
      0, {{0}} },

    { "read of 0 segments", FH_BLKIF_E_SEGMENTS, 0, READ, 0, 0, 0, 0, {{0}} },
    { "write of 0", FH_BLKIF_E_SEGMENTS, 0, WRITE, 0, 0, 0, 0, {{0}} },
    { "read of 12", FH_BLKIF_E_SEGMENTS, 0, READ, 12, 0, 0, 0, ELEVEN },
    { "write of 255", FH_BLKIF_E_SEGMENTS, 0, WRITE, 255, 0, 0, 0, ELEVEN },
    { "barrier of 12", FH_BLKIF_E_SEGMENTS, 0, BARRIER, 12, 0, 0, 0, ELEVEN },
    { "flush with data", FH_BLKIF_E_SEGMENTS, 0, FLUSH, 1, 0, 0, 0, {{0, 7}} },
    { "last is 8", FH_BLKIF_E_SEGMENTS, 0, READ, 1, 0, 0, 0, {{0, 8}} },
    { "last is 255", FH_BLKIF_E_SEGMENTS, 0, WRITE, 1, 0, 0, 0, {{0, 255}} },
    { "both are 8", FH_BLKIF_E_SEGMENTS, 0, READ, 1, 0, 0, 0, {{8, 8}} },
    { "first after last", FH_BLKIF_E_SEGMENTS, 0, READ, 1, 0, 0, 0, {{4, 3}} },
    { "first is 255", FH_BLKIF_E_SEGMENTS, 0, READ, 1, 0, 0, 0, {{255, 7}} },
    { "second segment", FH_BLKIF_E_SEGMENTS, 0, READ, 2, 0, 0, 0,
      {{0, 7}, {1, 0}} },

    { "one past the end", FH_BLKIF_E_RANGE, 0, READ, 1, 0, 1017, 0, {{0, 7}} },
    { "at the end", FH_BLKIF_E_RANGE, 0, READ, 1, 0, DISK, 0, {{0, 0}} },
    { "sum past the end", FH_BLKIF_E_RANGE, 0, READ, 2, 0, 1016, 0,
      {{0, 3}, {0, 4}} },
    { "wraps 2^64", FH_BLKIF_E_RANGE, 0, WRITE, 1, 0, ~0ull, 0, {{0, 7}} },
    { "wraps to 0", FH_BLKIF_E_RANGE, 0, WRITE, 1, 0, ~7ull, 0, {{0, 7}} },
    { "barrier past the end", FH_BLKIF_E_RANGE, 0, BARRIER, 1, 0, DISK, 0,
      {{0, 7}} },
    { "read of no disk", FH_BLKIF_E_RANGE, TINY, READ, 1, 0, 0, 0, {{0, 0}} },
    { "discard of nothing", FH_BLKIF_E_RANGE, 0, DISCARD, 0, 0, 0, 0, {{0}} },
    { "discard past the end", FH_BLKIF_E_RANGE, 0, DISCARD, 0, 0, 1, DISK,
      {{0}} },
    { "discard wraps", FH_BLKIF_E_RANGE, 0, DISCARD, 0, 0, 8, ~0ull - 7,
      {{0}} },
    { "indirect at the end", FH_BLKIF_E_RANGE, 0, INDIRECT, READ, 1, DISK, 0,
      {{0}} },
    { "indirect, too many", FH_BLKIF_E_RANGE, 0, INDIRECT, READ, 9, 1016, 0,
      {{0}} },
    { "indirect wraps", FH_BLKIF_E_RANGE, 0, INDIRECT, READ, 2, ~0ull, 0,
      {{0}} },

    { "write, read-only", FH_BLKIF_E_READONLY, RO, WRITE, 1, 0, 0, 0,
      {{0, 7}} },
    { "barrier with data, read-only", FH_BLKIF_E_READONLY, RO, BARRIER, 1, 0, 0,
      0, {{0, 7}} },
    { "discard, read-only", FH_BLKIF_E_READONLY, RO, DISCARD, 0, 0, 0, 8,
      {{0}} },
    { "indirect write, read-only", FH_BLKIF_E_READONLY, RO, INDIRECT, WRITE, 1,
      0, 0, {{0}} },

    { "indirect of 0", FH_BLKIF_E_INDIRECT, 0, INDIRECT, READ, 0, 0, 0, {{0}} },
    { "indirect, one too many", FH_BLKIF_E_INDIRECT, 0, INDIRECT, READ,
      MAX_INDIRECT + 1, 0, 0, {{0}} },
    { "indirect, 65535", FH_BLKIF_E_INDIRECT, 0, INDIRECT, READ, 65535, 0, 0,
      {{0}} },
    { "indirect, 513", FH_BLKIF_E_INDIRECT, HUGE_INDIRECT, INDIRECT, READ, 513,
      0, 0, {{0}} },
    { "indirect barrier", FH_BLKIF_E_INDIRECT, 0, INDIRECT, BARRIER, 1, 0, 0,
      {{0}} },
    { "indirect flush", FH_BLKIF_E_INDIRECT, 0, INDIRECT, FLUSH, 1, 0, 0,
      {{0}} },
    { "indirect discard", FH_BLKIF_E_INDIRECT, 0, INDIRECT, DISCARD, 1, 0, 0,
      {{0}} },
    { "indirect indirect", FH_BLKIF_E_INDIRECT, 0, INDIRECT, INDIRECT, 1, 0, 0,
      {{0}} },
    { "indirect 255", FH_BLKIF_E_INDIRECT, 0, INDIRECT, 255, 1, 0, 0, {{0}} },
};
/* clang-format on */

/* Calls @fn for every row and ABI. */
static void
for_each(void (*fn)(const struct row *row, enum fh_blkif_abi abi,
                    const uint8_t *slot))
{
    uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES];

    for (size_t a = 0; a < FH_ARRAY_SIZE(abis); a++) {
        for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
            build(abis[a], &rows[i], slot);
            fn(&rows[i], abis[a], slot);
        }
    }
}

static bool
all_poison(const void *p, size_t n)
{
    const uint8_t *b = p;

    while (n && b[n - 1] == POISON)
        n--;
    return n == 0;
}

static void
check_verdict(const struct row *row, enum fh_blkif_abi abi, const uint8_t *slot)
{
    const struct fh_blkif_limits limits = limits_of(row->how);
    struct fh_blkif_req req;
    int r;

    memset(&req, POISON, sizeof(req));
    r = fh_blkif_decode(abi, slot, &limits, &req);
    EXPECT_EQ(r, row->want, "%s, ABI %d", row->name, abi);
    EXPECT(!r || all_poison(&req, sizeof(req)), "%s: untouched", row->name);
}

static void
decode__judges_and_leaves_out_untouched_when_it_refuses(void **state)
{
    for_each(check_verdict);
}

static void
check_head(const struct row *row, enum fh_blkif_abi abi, const uint8_t *slot)
{
    uint64_t id = 0;
    uint8_t op = POISON;

    fh_blkif_decode_head(abi, slot, &id, &op);
    EXPECT(id == an_id, "%s: all 64 bits", row->name);
    EXPECT_EQ(op, row->op == INDIRECT ? row->b1 : row->op, "%s", row->name);
}

static void
head__is_there_for_every_slot(void **state)
{
    for_each(check_head);
}

static void
check_fields(const struct row *row, enum fh_blkif_abi abi, const uint8_t *slot)
{
    const struct fh_blkif_limits limits = limits_of(row->how);
    struct fh_blkif_req req = {.op = FH_BLKIF_READ};
    uint64_t sum = 0;

    if (fh_blkif_decode(abi, slot, &limits, &req))
        return;
    EXPECT(req.id == an_id, "%s: id", row->name);
    EXPECT(req.sector == row->sector, "%s: sector", row->name);
    EXPECT_EQ(req.indirect, row->op == INDIRECT, "%s", row->name);
    EXPECT_EQ(fh_blkif_wire_op(req.op), req.wire_op, "%s", row->name);
    EXPECT_EQ(req.handle, req.indirect ? 0x7788 : row->w2, "%s", row->name);
    if (row->op == DISCARD) {
        EXPECT(req.n_sectors == row->n, "%s: length", row->name);
        EXPECT_EQ(req.flag, row->b1, "%s: flag", row->name);
        return;
    }
    EXPECT_EQ(req.n_segs, req.indirect ? row->w2 : row->b1, "%s", row->name);
    EXPECT_EQ(req.n_pages, req.indirect, "%s", row->name);
    EXPECT_EQ(req.pages[0], req.indirect ? 100 : 0, "%s", row->name);
    EXPECT_EQ(req.pages[1], 0, "%s: garbage stays out", row->name);
    for (uint32_t i = 0; !req.indirect && i < req.n_segs; i++) {
        EXPECT_EQ(req.segs[i].gref, 100 + i, "%s", row->name);
        EXPECT_EQ(req.segs[i].first, row->seg[i][0], "%s", row->name);
        EXPECT_EQ(req.segs[i].last, row->seg[i][1], "%s", row->name);
        EXPECT_EQ(req.segs[i].reserved, 0, "%s: padding", row->name);
        sum += req.segs[i].last - req.segs[i].first + 1u;
    }
    EXPECT_EQ(req.n_sectors, sum, "%s", row->name);
}

static void
decode__finds_each_field_in_each_abi(void **state)
{
    for_each(check_fields);
}

/* What the frontend encodes, the backend decodes to the same. */
static void
check_roundtrip(const struct row *row, enum fh_blkif_abi abi,
                const uint8_t *slot)
{
    const struct fh_blkif_limits limits = limits_of(row->how);
    uint8_t buf[FH_BLKIF_MAX_SLOT_BYTES + 1];
    struct fh_blkif_req in, out;

    memset(&in, POISON, sizeof(in));
    memset(&out, POISON, sizeof(out));

    if (fh_blkif_decode(abi, slot, &limits, &in))
        return;
    memset(buf, POISON, sizeof(buf));
    fh_blkif_encode(abi, &in, buf);
    EXPECT_EQ(buf[fh_blkif_slot_bytes(abi)], POISON, "%s: length", row->name);
    for (size_t i = 0; i < fh_blkif_slot_bytes(abi); i++)
        EXPECT(buf[i] != POISON || slot[i] == POISON, "%s: byte %zu is left",
               row->name, i);
    EXPECT_EQ(fh_blkif_decode(abi, buf, &limits, &out), 0, "%s", row->name);
    EXPECT(!memcmp(&in, &out, sizeof(in)), "%s: the same", row->name);
}

static void
encode__is_what_decode_reads(void **state)
{
    for_each(check_roundtrip);
}

static void
segments__of_indirect_requests_are_judged(void **state)
{
    static const struct {
        const char *name;
        uint64_t sector;
        uint16_t n;
        uint8_t seg[3][2];
        int want;
        uint64_t n_sectors;
    } cases[] = {
        {"a page", 0, 1, {{0, 7}}, 0, 8},
        {"three", 10, 3, {{0, 7}, {2, 2}, {6, 7}}, 0, 11},
        {"to the end", 1013, 3, {{0, 7}, {2, 2}, {6, 7}}, 0, 11},
        {"past the end",
         1014,
         3,
         {{0, 7}, {2, 2}, {6, 7}},
         FH_BLKIF_E_RANGE,
         0},
        {"last is 8", 0, 2, {{0, 7}, {0, 8}}, FH_BLKIF_E_SEGMENTS, 0},
        {"first after last", 0, 2, {{0, 7}, {3, 2}}, FH_BLKIF_E_SEGMENTS, 0},
        {"bad behind the count", 0, 1, {{0, 7}, {9, 2}}, 0, 8},
    };
    const struct fh_blkif_limits limits = limits_of(0);

    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        struct fh_blkif_req req = {
            .indirect = true, .sector = cases[i].sector, .n_segs = cases[i].n};
        struct fh_blkif_seg segs[3];

        for (size_t k = 0; k < 3; k++)
            segs[k] = (struct fh_blkif_seg){.gref = 1,
                                            .first = cases[i].seg[k][0],
                                            .last = cases[i].seg[k][1],
                                            .reserved = 0xffff};
        int r = fh_blkif_decode_segs(&limits, segs, &req);

        EXPECT_EQ(r, cases[i].want, "%s", cases[i].name);
        EXPECT_EQ(req.n_sectors, cases[i].n_sectors, "%s", cases[i].name);
    }
}

static void
pages__are_as_many_as_the_segments_need(void **state)
{
    static const struct {
        uint16_t n;
        uint16_t pages;
    } cases[] = {{1, 1}, {511, 1}, {512, 1}};
    const struct fh_blkif_limits limits = limits_of(HUGE_INDIRECT);

    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        const struct row row = {.op = INDIRECT, .w2 = cases[i].n};
        uint8_t slot[FH_BLKIF_MAX_SLOT_BYTES];
        struct fh_blkif_req req;

        build(FH_BLKIF_NATIVE, &row, slot);
        EXPECT_EQ(fh_blkif_decode(FH_BLKIF_NATIVE, slot, &limits, &req), 0,
                  "%u", cases[i].n);
        EXPECT_EQ(req.n_pages, cases[i].pages, "%u", cases[i].n);
    }
}

static void
response__is_written_whole_with_zero_padding(void **state)
{
    for (size_t a = 0; a < FH_ARRAY_SIZE(abis); a++) {
        const size_t bytes = fh_blkif_response_bytes(abis[a]);
        uint8_t buf[FH_BLKIF_MAX_RESPONSE_BYTES + 1];
        uint8_t want[FH_BLKIF_MAX_RESPONSE_BYTES] = {0};
        uint64_t id;
        uint8_t op;
        int16_t status;

        put(want, an_id, 8);
        want[8] = 201;
        put(want + 10, (uint16_t)FH_BLKIF_NOTSUPP, 2);
        memset(buf, POISON, sizeof(buf));
        fh_blkif_encode_response(abis[a], an_id, 201, FH_BLKIF_NOTSUPP, buf);
        EXPECT(!memcmp(buf, want, bytes), "ABI %d", abis[a]);
        EXPECT_EQ(buf[bytes], POISON, "ABI %d: not a byte more", abis[a]);

        fh_blkif_decode_response(abis[a], buf, &id, &op, &status);
        EXPECT(id == an_id && op == 201, "ABI %d", abis[a]);
        EXPECT_EQ(status, FH_BLKIF_NOTSUPP, "ABI %d", abis[a]);
    }
}

static void
sizes__are_those_of_the_protocol(void **state)
{
    static const uint32_t slots[] = {32, 64, 128, 256, 512, 0};

    for (size_t a = 0; a < FH_ARRAY_SIZE(abis); a++) {
        const bool small = abis[a] == FH_BLKIF_X86_32;

        EXPECT_EQ(fh_blkif_slot_bytes(abis[a]), small ? 108 : 112, "slot");
        EXPECT_EQ(fh_blkif_response_bytes(abis[a]), small ? 12 : 16, "rsp");
        for (unsigned o = 0; o < FH_ARRAY_SIZE(slots); o++)
            EXPECT_EQ(fh_blkif_ring_slots(abis[a], o), slots[o], "order %u", o);
        EXPECT_EQ(fh_blkif_ring_slots(abis[a], ~0u), 0, "absurd order");
    }
}

static void
protocol__is_parsed_whole(void **state)
{
    static const struct {
        const char *text;
        int want;
        enum fh_blkif_abi abi;
    } cases[] = {
        {NULL, 0, FH_BLKIF_NATIVE},         {"x86_32-abi", 0, FH_BLKIF_X86_32},
        {"x86_64-abi", 0, FH_BLKIF_X86_64}, {"", FH_EINVAL, 0},
        {"x86_64-ab", FH_EINVAL, 0},        {"x86_64-abi ", FH_EINVAL, 0},
        {"X86_64-ABI", FH_EINVAL, 0},       {"ia64-abi", FH_EINVAL, 0},
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        const char *text = cases[i].text ? cases[i].text : "none";
        enum fh_blkif_abi abi = (enum fh_blkif_abi)POISON;

        EXPECT_EQ(fh_blkif_abi_parse(cases[i].text, &abi), cases[i].want, "%s",
                  text);
        EXPECT_EQ(abi, cases[i].want ? POISON : cases[i].abi, "%s", text);
    }
    for (size_t a = 0; a < FH_ARRAY_SIZE(abis); a++) {
        enum fh_blkif_abi abi = (enum fh_blkif_abi)POISON;

        EXPECT_EQ(fh_blkif_abi_parse(fh_blkif_abi_name(abis[a]), &abi), 0,
                  "name");
        EXPECT_EQ(fh_blkif_slot_bytes(abi), fh_blkif_slot_bytes(abis[a]),
                  "same layout");
    }
}

static void
refusal__is_notsupp_for_operations_only(void **state)
{
    EXPECT_EQ(fh_blkif_refusal(FH_BLKIF_E_OP), FH_BLKIF_NOTSUPP, "op");
    for (int e = FH_BLKIF_E_SEGMENTS; e <= FH_BLKIF_E_INDIRECT; e++)
        EXPECT_EQ(fh_blkif_refusal(e), FH_BLKIF_ERROR, "%d", e);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            decode__judges_and_leaves_out_untouched_when_it_refuses),
        cmocka_unit_test(head__is_there_for_every_slot),
        cmocka_unit_test(decode__finds_each_field_in_each_abi),
        cmocka_unit_test(encode__is_what_decode_reads),
        cmocka_unit_test(segments__of_indirect_requests_are_judged),
        cmocka_unit_test(pages__are_as_many_as_the_segments_need),
        cmocka_unit_test(response__is_written_whole_with_zero_padding),
        cmocka_unit_test(sizes__are_those_of_the_protocol),
        cmocka_unit_test(protocol__is_parsed_whole),
        cmocka_unit_test(refusal__is_notsupp_for_operations_only),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
