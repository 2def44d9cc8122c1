/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The steps of one request, for queue.c and worker.c.  queue.h describes its
 * life; each step either takes it further, parks it where the next step will
 * find it, or answers it.
 */
#include <stdbool.h>
#include "blkback/queue.h"

/* Judges and starts a request that was taken.  False: it needs a buffer and
 * there is none; it goes back to where it came from. */
bool
fh_rq_start(struct fh_rq *rq);

/* Gives the request to the store.  False: the store is full. */
bool
fh_rq_submit(struct fh_rq *rq);

/* Does the collected copies of @batch and takes their requests further. */
void
fh_copy_run(struct fh_back *b, struct fh_copy_batch *batch);

/* In queue.c: puts the answer and frees the request. */
void
fh_queue_answer(struct fh_rq *rq, int16_t status);

/* In queue.c: a request that must wait for a buffer. */
void
fh_queue_park(struct fh_rq *rq);

/* In queue.c: @n pieces of a grant copy were for this queue. */
void
fh_queue_count_copied(struct fh_queue *q, uint32_t n);
