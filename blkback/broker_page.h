/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a worker and its broker say to each other: broker.c and broker_serve.c
 * only.  One page area in shared memory, one call at a time.
 *
 * The worker writes call and payload, then @turn; the broker writes answer and
 * statuses, then @done; each sleeps on the other's word, but looks at it for a
 * moment before, where CPUs are idle: the two wake-ups of a call are dearer than
 * most calls.
 */
#include <stdint.h>
#include "base/shared.h"
#include "blkback/broker.h"
#include "blkback/gntdev.h"

enum fh_broker_op {
    FH_BROKER_MAP = 1, /* refs in, offset out */
    FH_BROKER_UNMAP,   /* offset in */
    FH_BROKER_COPY,    /* pieces in, their statuses out */
    FH_BROKER_ADMIT,   /* a token is in the socket */
};

struct fh_broker_call {
    uint32_t op;
    uint32_t domid;
    uint32_t n;      /* references, pages or pieces */
    uint32_t unused;
    uint64_t offset; /* of UNMAP: in the device */
};

struct fh_broker_piece {
    uint32_t gref;
    uint32_t local; /* offset in the arena */
    uint16_t offset;
    uint16_t bytes;
    uint16_t to_grant;
    int16_t status; /* answered */
};

struct fh_broker_page {
    fh_word32 turn; /* calls made; a futex */
    fh_word32 done; /* calls answered; a futex */
    int32_t result;
    uint32_t spin_ns; /* how long both look before they sleep; 0: not at all */
    uint64_t offset; /* answer of MAP */
    struct fh_broker_call call;
    union {
        uint32_t refs[FH_GNTDEV_MAX];
        struct fh_broker_piece pieces[FH_GNTDEV_MAX];
    } u;
};

/* The broker's loop, from turn 2 on: the first is its start. */
struct fh_broker_serve {
    FH_SHARED struct fh_broker_page *page; /* the worker's as well */
    uint8_t *arena;
    size_t arena_bytes;
    int fd;   /* the device */
    int sock; /* tokens come from there */
};

__attribute__((noreturn)) void
fh_broker_serve(const struct fh_broker_serve *s);

/* Returns when *@word is not @seen any more, or for nothing: after @spin_ns of
 * looking it sleeps. */
void
fh_broker_wait(FH_SHARED fh_word32 *word, uint32_t seen, uint32_t spin_ns);
void
fh_broker_wake(FH_SHARED fh_word32 *word);
/* Broker: the call is answered. */
void
fh_broker_answer(FH_SHARED struct fh_broker_page *page, uint32_t turn,
                 int result);
