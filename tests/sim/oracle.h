/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a disk's sectors may hold: judged from the guest's side only, by the
 * times at which its requests began and were answered.
 *
 * A sector may be seen with the data of a write unless that write is
 * *superseded*: another write of the sector began after its answer, and was
 * itself answered before the look began.  A write whose answer was an error, or
 * never came, may or may not be there, in any part.  After a power cut the
 * same holds with "a flush was answered that began after that other write's
 * answer" in the place of "before the look began".
 *
 * Each sector written names the disk, itself and the number of the write, and
 * all of its other words follow from these.
 */
#include "medium.h"
#include "sim.h"

enum { SIM_ORACLE_WRITES = 8192 };

struct sim_write {
    uint64_t start;
    uint64_t end; /* UINT64_MAX: not yet, or nobody knows */
    uint32_t sector;
    uint32_t n;
};

struct sim_oracle {
    struct sim *s;
    uint32_t disk;
    uint32_t n_sectors;
    uint32_t n_writes;
    struct sim_write *write; /* [SIM_ORACLE_WRITES]; its number is index + 1 */
    uint64_t *answered;      /* [sector]: latest start of an answered write */
    uint64_t *durable;       /* [sector]: the same, and flushed */
    uint32_t *base;          /* [sector]: number found after a power cut */
    uint64_t base_tick;
};

void
sim_oracle_init(struct sim_oracle *o, struct sim *s, uint32_t disk,
                uint32_t n_sectors);
void
sim_oracle_free(struct sim_oracle *o);

/* A write begins: fills @buf and returns its number. */
uint32_t
sim_oracle_write(struct sim_oracle *o, uint32_t sector, uint32_t n, void *buf);
void
sim_oracle_written(struct sim_oracle *o, uint32_t number, bool ok);

/* A read or flush begins; the result is for the functions below, which free
 * it. */
uint64_t *
sim_oracle_read(struct sim_oracle *o, uint32_t sector, uint32_t n);
void
sim_oracle_seen(struct sim_oracle *o, uint32_t sector, uint32_t n,
                const void *buf, uint64_t *since);
uint64_t *
sim_oracle_flush(struct sim_oracle *o);
void
sim_oracle_flushed(struct sim_oracle *o, uint64_t *since, bool ok);

/* Whatever was under way has landed or never will. */
void
sim_oracle_settle(struct sim_oracle *o);

/* Judges the disk itself, with nothing under way. */
void
sim_oracle_check(struct sim_oracle *o, const struct sim_medium *m);
/* The same after a power cut; what is found counts from now on. */
void
sim_oracle_cut(struct sim_oracle *o, const struct sim_medium *m);
