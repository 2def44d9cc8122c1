/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One frontend, one disk and the worker's turn in one process: what the unit
 * tests of the data path stand on.
 *
 * Grant reference i is page i of the frontend's memory (pages[i]), granted as
 * granted[i] says.  Ring pages are references 1 .. 16, data pages begin at
 * W_DATA.  The frontend's half of the ring is fring; take_answers() counts what
 * comes back by id.  The store is memory, or a mock that finishes its I/O in
 * the order the test wants.
 */
#include <stdbool.h>
#include <stdint.h>
#include "blkback/queue.h"
#include "blkback/record.h"
#include "blkback/store/stores.h"
#include "blkback/worker.h"
#include "ring/ring.h"

enum {
    W_PAGES = 2048,
    W_RING = 1,
    W_DATA = 32,
    W_DOMID = 7,
    W_SECTORS = 4096,
    W_MAX_IDS = 4096,
    W_MOCK_IOS = 1024,
    W_POOL_BYTES = FH_POOL_MIN_BYTES,
    W_MAX_MAPPINGS = 4096,
};

enum w_grant { W_NOT_GRANTED, W_READ_ONLY, W_READ_WRITE };

/* A store that keeps what it is given until the test finishes it. */
struct w_mock {
    struct fh_store store;
    uint8_t *mem;
    struct fh_store_io *io[W_MOCK_IOS];
    uint32_t n;
    uint32_t n_room;     /* submit answers FH_EAGAIN beyond */
    int result;          /* of what is finished next */
    uint32_t n_flushes;
    uint32_t n_writes;   /* that overlapped another one: counted as a fault */
    uint32_t n_overlaps;
    uint32_t n_done;
};

struct w_answer {
    uint32_t n;
    int16_t status;
    uint8_t op;
};

struct world {
    struct fh_plat plat;
    int memfd;
    uint8_t *pages; /* the frontend's view */
    uint8_t granted[W_PAGES];
    uint32_t n_maps;     /* live, in pages */
    struct {
        void *addr;
        uint32_t n;
    } mapping[W_MAX_MAPPINGS]; /* live ones; addr NULL: free */
    uint32_t n_map_calls;
    uint32_t n_copy_calls;
    bool copy_fails;     /* the whole call */
    uint32_t n_notifies;
    uint32_t n_unmasks;
    uint32_t n_bound;
    bool event_pending;
    uint64_t now_ns;

    struct fh_store_mem mem;
    struct w_mock mock;
    struct fh_store *store;
    uint8_t *disk_mem;
    struct fh_rec_file *rec;
    void *pool_mem;
    struct fh_disk disk;
    struct fh_worker worker;
    struct fh_queue queue;
    void *queue_mem;
    struct fh_queue_params params;
    uint32_t ring_refs[16];
    bool connected;

    struct fh_fring fring;
    struct w_answer answer[W_MAX_IDS];
    uint32_t n_answers;
    uint64_t seed;
};

struct w_setup {
    enum fh_wk_grants grants;
    uint32_t order;
    enum fh_blkif_abi abi;
    bool mock;      /* asynchronous */
    bool read_only;
    uint32_t max_indirect;
};

/* The world lives on the heap; w_free() checks that nothing is left mapped. */
struct world *
w_new(const struct w_setup *s);
void
w_free(struct world *w);

/* Connects (again): the worker side only; the frontend's half stays. */
int
w_connect(struct world *w, bool resume);
/* The worker side is gone without a word, as if killed, and its I/O is over:
 * of the mock's, an arbitrary part has happened. */
void
w_kill(struct world *w);

/* Puts a request without publishing it. */
void
w_put(struct world *w, const struct fh_blkif_req *req);
/* A request on whole pages: @n pages from W_DATA + @page, at @sector. */
struct fh_blkif_req
w_rw(enum fh_blkif_op op, uint64_t id, uint64_t sector, uint32_t page,
     uint32_t n);
/* The same as an indirect request, its descriptors in page @desc. */
struct fh_blkif_req
w_indirect(struct world *w, enum fh_blkif_op op, uint64_t id, uint64_t sector,
           uint32_t page, uint32_t n, uint32_t desc);
void
w_publish(struct world *w);
uint32_t
w_take_answers(struct world *w);
/* Turns until there is nothing to do; takes the answers. */
void
w_run(struct world *w);

/* Finishes the mock's @i-th outstanding I/O at the next reap. */
void
w_mock_finish(struct world *w, uint32_t i);
/* Finishes all of it, in an order that the seed decides. */
void
w_mock_finish_all(struct world *w);

uint32_t
w_random(struct world *w, uint32_t below);

static inline uint8_t *
w_page(struct world *w, uint32_t ref)
{
    return w->pages + (size_t)ref * 4096;
}
