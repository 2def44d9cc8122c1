/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A simulated disk drive with a volatile cache, and openings of it that
 * implement struct fh_store_ops.
 *
 * A write becomes visible sector by sector somewhere between its start and its
 * end, and durable at a flush, or before that as the drive likes.  A power cut
 * leaves for each unflushed sector what is durable or what is visible, as the
 * seed decides.  After a flush that failed, some of it will never be durable,
 * whatever later flushes say.  I/O takes a random time and ends in any order.  The I/O of an
 * opening goes on after its owner's death; the fence falls when the last has
 * ended.  Nothing starts before kick().
 *
 * Data goes to and from the buffers of the struct fh_store_io while the I/O is
 * under way, not before and not after: whoever frees or changes them early is
 * found out.  Short transfers are below this interface: a store answers for the
 * whole I/O.
 */
#include "blkback/store/store.h"
#include "sim.h"

enum {
    SIM_MEDIUM_IOS = 64,   /* under way at an opening, at most */
    SIM_IO_SECTORS = 4096, /* of one: 512 segments */
};

struct sim_medium {
    struct sim *s;
    uint32_t n_sectors;
    uint8_t *visible;
    uint8_t *durable;
    bool *dirty;         /* [n_sectors]: the two may differ */
    uint64_t latency_ns; /* of an I/O, at most */
    uint32_t room;       /* I/Os under way at an opening */
    uint32_t p_error;    /* of an I/O, of 65536 */
    bool synchronous;
    bool error_unseen;   /* what an fsync of the witness would tell */
    uint32_t n_flushes;
    uint32_t n_errors;
};

struct sim_io {
    struct sim_opening *o;
    struct fh_store_io *io; /* not looked at after the owner's death */
    enum fh_store_op op;
    uint64_t sector;
    struct fh_store_vec vec; /* one, or the I/O is synchronous */
    uint8_t moved[SIM_IO_SECTORS];
    int result;
    bool used;
    bool kicked;
    bool done;
};

struct sim_opening {
    struct fh_store store; /* first */
    struct sim_medium *m;
    struct sim_party *owner;
    struct sim_io io[SIM_MEDIUM_IOS];
    uint32_t n_io;
    bool dead;
    void (*fence)(void *arg); /* after a death: the last I/O has ended */
    void *fence_arg;
};

void
sim_medium_init(struct sim_medium *m, struct sim *s, uint32_t n_sectors);
void
sim_medium_free(struct sim_medium *m);

/* What a power cut leaves is visible afterwards. */
void
sim_medium_cut(struct sim_medium *m);

/* A new opening by @owner; close() frees nothing but itself: the memory is the
 * caller's and must live as long as I/O is under way. */
void
sim_medium_open(struct sim_medium *m, struct sim_party *owner,
                struct sim_opening *o);

/* The owner is dead: what was not kicked never happens, what was goes on;
 * @fence(@arg) is called when it has ended (at once when there is none). */
void
sim_opening_orphan(struct sim_opening *o, void (*fence)(void *arg), void *arg);
