/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where one ABI keeps the fields of the block interface: offsets and sizes in
 * bytes.  <xen/io/blkif.h> describes only the ABI that it is compiled for, so
 * each ABI has a file that compiles that header its way and takes the numbers
 * from it.
 *
 * Constant data; any thread.
 */
#include <stdint.h>

struct fh_blkif_layout {
    uint8_t slot;        /* bytes of a ring slot */
    uint8_t response;    /* bytes of a response */
    uint8_t ring_header; /* bytes before the first slot */
    /* Every request: operation at 0, id and sector at the same place. */
    uint8_t id;
    uint8_t sector;
    /* Read, write, barrier, flush: nr_segments at 1, handle at 2. */
    uint8_t segs;
    /* Discard: flag at 1, handle at 2. */
    uint8_t discard_n;
    /* Indirect: the inner operation at 1, nr_segments at 2. */
    uint8_t indirect_handle;
    uint8_t indirect_grefs;
    /* Response: id at 0. */
    uint8_t response_op;
    uint8_t response_status;
};

extern const struct fh_blkif_layout fh_blkif_layout_64;
extern const struct fh_blkif_layout fh_blkif_layout_x86_32;

/* The numbers of the ABI that the including file has compiled the header
 * for. */
#define FH_BLKIF_LAYOUT                                                        \
    {                                                                          \
        .slot = sizeof(union blkif_sring_entry),                               \
        .response = sizeof(struct blkif_response),                             \
        .ring_header = offsetof(struct blkif_sring, ring),                     \
        .id = offsetof(struct blkif_request, id),                              \
        .sector = offsetof(struct blkif_request, sector_number),               \
        .segs = offsetof(struct blkif_request, seg),                           \
        .discard_n = offsetof(struct blkif_request_discard, nr_sectors),       \
        .indirect_handle = offsetof(struct blkif_request_indirect, handle),    \
        .indirect_grefs =                                                      \
            offsetof(struct blkif_request_indirect, indirect_grefs),           \
        .response_op = offsetof(struct blkif_response, operation),             \
        .response_status = offsetof(struct blkif_response, status),            \
    }

#define FH_BLKIF_AT_(type, field, at)                                          \
    _Static_assert(offsetof(struct type, field) == (at), #type "." #field)

/* The wire, in numbers.  @id: the offset of id; everything behind it keeps its
 * distance.  @slot, @response: sizes. */
#define FH_BLKIF_ASSERT_WIRE(id_at, slot_bytes, response_bytes)                \
    _Static_assert(sizeof(union blkif_sring_entry) == (slot_bytes), "slot");   \
    _Static_assert(sizeof(struct blkif_request) == (slot_bytes), "request");   \
    _Static_assert(sizeof(struct blkif_response) == (response_bytes),          \
                   "response");                                                \
    _Static_assert(sizeof(struct blkif_request_segment) == 8, "segment");      \
    FH_BLKIF_AT_(blkif_request_segment, gref, 0);                              \
    FH_BLKIF_AT_(blkif_request_segment, first_sect, 4);                        \
    FH_BLKIF_AT_(blkif_request_segment, last_sect, 5);                         \
    FH_BLKIF_AT_(blkif_request, operation, 0);                                 \
    FH_BLKIF_AT_(blkif_request, nr_segments, 1);                               \
    FH_BLKIF_AT_(blkif_request, handle, 2);                                    \
    FH_BLKIF_AT_(blkif_request, id, (id_at));                                  \
    FH_BLKIF_AT_(blkif_request, sector_number, (id_at) + 8);                   \
    FH_BLKIF_AT_(blkif_request, seg, (id_at) + 16);                            \
    FH_BLKIF_AT_(blkif_request_discard, operation, 0);                         \
    FH_BLKIF_AT_(blkif_request_discard, flag, 1);                              \
    FH_BLKIF_AT_(blkif_request_discard, handle, 2);                            \
    FH_BLKIF_AT_(blkif_request_discard, id, (id_at));                          \
    FH_BLKIF_AT_(blkif_request_discard, sector_number, (id_at) + 8);           \
    FH_BLKIF_AT_(blkif_request_discard, nr_sectors, (id_at) + 16);             \
    FH_BLKIF_AT_(blkif_request_indirect, operation, 0);                        \
    FH_BLKIF_AT_(blkif_request_indirect, indirect_op, 1);                      \
    FH_BLKIF_AT_(blkif_request_indirect, nr_segments, 2);                      \
    FH_BLKIF_AT_(blkif_request_indirect, id, (id_at));                         \
    FH_BLKIF_AT_(blkif_request_indirect, sector_number, (id_at) + 8);          \
    FH_BLKIF_AT_(blkif_request_indirect, handle, (id_at) + 16);                \
    FH_BLKIF_AT_(blkif_request_indirect, indirect_grefs, (id_at) + 20);        \
    FH_BLKIF_AT_(blkif_response, id, 0);                                       \
    FH_BLKIF_AT_(blkif_response, operation, 8);                                \
    FH_BLKIF_AT_(blkif_response, status, 10);                                  \
    FH_BLKIF_AT_(blkif_sring, req_prod, 0);                                    \
    FH_BLKIF_AT_(blkif_sring, req_event, 4);                                   \
    FH_BLKIF_AT_(blkif_sring, rsp_prod, 8);                                    \
    FH_BLKIF_AT_(blkif_sring, rsp_event, 12);                                  \
    FH_BLKIF_AT_(blkif_sring, ring, 64)
