/* SPDX-License-Identifier: MIT */
#pragma once
/* One frontend in one world, shared by the tests of the frontend library. */
#include "../expect.h"
#include "world.h"

enum { SEC = 1000 * 1000 * 1000 };

extern struct world w;
extern void *mem;
extern struct fh_blkfront *bf;
extern uint8_t own_page[4096];

/* Order 1, 64 segments, 256 pages, persistent. */
struct fh_blkfront_params
usual(void);

int
open_front(const struct fh_blkfront_params *params);

/* A new world, a frontend in it, connected. */
void
start(const struct fh_blkfront_params *params);
void
start_usual(void);

/* Closes what start() opened; nothing may be left. */
void
stop(void);

/* One request; returns its status. */
int32_t
run_io(enum fh_blkif_op op, uint64_t sector, uint32_t n, void *data);
