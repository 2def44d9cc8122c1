/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The recovery state of a disk: what a worker's successor needs to go on where
 * the dead one stopped (DESIGN.md, decision 11).
 *
 * A sealed memfd (or a file on tmpfs) that the supervisor holds and the worker
 * maps, one per disk, sized for FH_REC_MAX_QUEUES queues and sparse.  The
 * format is final: a successor may be a newer binary.
 *
 * Per queue there is one commit point, the 64-bit word @commit: req_cons in
 * the high half, rsp_prod in the low half.  Rules:
 *
 *  R1  A request is copied from its slot straight into a free entry (the entry
 *      is the private copy that everything is decoded from): first @req_idx,
 *      then @answer = 0 and @n_segs = 0, then the slot's bytes.
 *  R2  @commit is stored with the new req_cons after the entries and before
 *      any response slot is written: a response may overwrite the slot of a
 *      request that only then counts as taken.
 *  R3  A response is written to its slot, then the entry's @answer says at
 *      which index, then @commit is stored with the new rsp_prod, then the
 *      shared rsp_prod.  The entry may be used again after @commit.
 *  R4  An entry is outstanding iff it has been taken and not answered.  Taken:
 *      req_idx is not one of the n_slots indices from the committed req_cons
 *      on (an entry that is being filled has one of these).  Answered: at an
 *      index below the committed rsp_prod, compared in a window of 2^31.  There
 *      are req_cons - rsp_prod outstanding ones, or the state is corrupt and
 *      the queue is refused.  A free entry is one that was answered; those that
 *      stay free have their answer renewed now and then, or the window would
 *      pass over them.  (A request may stay outstanding while any number of
 *      later ones come and go, so req_idx may be far below req_cons.)
 *      A successor first withdraws answers of outstanding entries, which were
 *      put but not committed, and renews those of free ones.
 *  R5  Outstanding entries are replayed in the order of req_idx, behind the
 *      I/O fence; requests that overlap a write in flight are held back while
 *      it is, so replay never puts an older write over a newer answered one.
 *
 * A worker can be killed between any two stores; stores reach the file in
 * program order (one CPU's stores, kept by the compiler barrier in
 * fh_rec_store*).  Every store goes through those accessors, which count them
 * for the test that kills a worker after the k-th.  The successor validates
 * everything as if a hostile peer had written it.
 *
 * Threads: the worker's one; the supervisor only reads after the worker died.
 */
#include <stdint.h>
#include "base/shared.h"

#define FH_REC_MAGIC 0x3130434552484648ull /* "HFHREC01" */

enum {
    FH_REC_VERSION = 1,
    FH_REC_MAX_QUEUES = 16,
    FH_REC_MAX_SLOTS = 512,    /* ring order 4 */
    FH_REC_MAX_SEGMENTS = 512, /* of an indirect request */
    FH_REC_SLOT_BYTES = 112,   /* the largest slot of any ABI */
    FH_REC_PAGE = 4096,
};

/* The first page of the file. */
struct fh_rec_header {
    uint64_t magic;
    uint32_t version;
    uint32_t n_queues;      /* areas in the file: FH_REC_MAX_QUEUES */
    uint64_t disk_sectors;  /* of the disk that it belongs to */
    uint32_t domid;         /* the frontend's */
    uint32_t devid;
    uint64_t connection;    /* number of the connection, never reused */
    uint32_t sticky_error;  /* nonzero: a flush failed; the disk stays failed */
    uint32_t reserved[1];
    uint8_t pad[FH_REC_PAGE - 48];
};

/* One request that has been taken: 128 bytes. */
struct fh_rec_entry {
    uint32_t req_idx; /* free-running index of its slot */
    uint32_t n_segs;  /* descriptors saved in segs[][]; 0: not yet */
    uint64_t answer;  /* 0, or FH_REC_ANSWERED | response index */
    uint8_t slot[FH_REC_SLOT_BYTES]; /* as on the ring, in its ABI */
};

#define FH_REC_ANSWERED (1ull << 32)

/* One segment descriptor of an indirect request, as on the wire. */
struct fh_rec_seg {
    uint32_t gref;
    uint8_t first;
    uint8_t last;
    uint16_t reserved;
};

struct fh_rec_queue {
    uint32_t active;     /* 1 while the queue is connected */
    uint32_t abi;        /* enum fh_blkif_abi */
    uint32_t n_slots;
    uint32_t incarnation; /* counts the workers that served it */
    uint8_t pad0[48];
    uint64_t commit;     /* req_cons << 32 | rsp_prod; a cache line alone */
    uint8_t pad1[FH_REC_PAGE - 72];
    struct fh_rec_entry entry[FH_REC_MAX_SLOTS];
    struct fh_rec_seg segs[FH_REC_MAX_SLOTS][FH_REC_MAX_SEGMENTS];
};

struct fh_rec_file {
    struct fh_rec_header header;
    struct fh_rec_queue queue[FH_REC_MAX_QUEUES];
};

_Static_assert(sizeof(struct fh_rec_header) == FH_REC_PAGE, "one page");
_Static_assert(sizeof(struct fh_rec_entry) == 128, "two cache lines");
_Static_assert(sizeof(struct fh_rec_seg) == 8, "as on the wire");
_Static_assert(__builtin_offsetof(struct fh_rec_queue, commit) == 64,
               "the commit word has a cache line of its own");
_Static_assert(__builtin_offsetof(struct fh_rec_queue, entry) == FH_REC_PAGE,
               "entries begin at a page");
