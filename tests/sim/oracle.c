/* SPDX-License-Identifier: MIT */
/* See oracle.h. */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512, WORDS = SECTOR / 8 };

#define MAGIC 0x46724f7261636c65ull

static void *
must(void *p)
{
    if (!p)
        abort();
    return p;
}

void
sim_oracle_init(struct sim_oracle *o, struct sim *s, uint32_t disk,
                uint32_t n_sectors)
{
    *o = (struct sim_oracle){
        .s = s,
        .disk = disk,
        .n_sectors = n_sectors,
        .write = must(calloc(SIM_ORACLE_WRITES, sizeof(struct sim_write))),
        .answered = must(calloc(n_sectors, sizeof(uint64_t))),
        .durable = must(calloc(n_sectors, sizeof(uint64_t))),
        .base = must(calloc(n_sectors, sizeof(uint32_t))),
    };
}

void
sim_oracle_free(struct sim_oracle *o)
{
    free(o->write);
    free(o->answered);
    free(o->durable);
    free(o->base);
}

static uint64_t
word(const struct sim_oracle *o, uint32_t sector, uint32_t number, uint32_t i)
{
    switch (i) {
    case 0:
        return MAGIC + o->disk;
    case 1:
        return sector;
    case 2:
        return number;
    }
    return ((uint64_t)number << 32 | sector) * 0x9e3779b97f4a7c15ull + i;
}

uint32_t
sim_oracle_write(struct sim_oracle *o, uint32_t sector, uint32_t n, void *buf)
{
    const uint32_t number = ++o->n_writes;
    uint64_t *at = buf;

    if (number > SIM_ORACLE_WRITES)
        abort();
    o->write[number - 1] = (struct sim_write){
        .start = ++o->s->tick, .end = UINT64_MAX, .sector = sector, .n = n,
    };
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < WORDS; i++)
            *at++ = word(o, sector + k, number, i);
    return number;
}

void
sim_oracle_written(struct sim_oracle *o, uint32_t number, bool ok)
{
    struct sim_write *w = &o->write[number - 1];

    w->end = ++o->s->tick;
    if (!ok)
        return;
    for (uint32_t i = w->sector; i < w->sector + w->n; i++)
        if (o->answered[i] < w->start)
            o->answered[i] = w->start;
}

void
sim_oracle_settle(struct sim_oracle *o)
{
    const uint64_t now = ++o->s->tick;

    for (uint32_t i = 0; i < o->n_writes; i++)
        if (o->write[i].end == UINT64_MAX)
            o->write[i].end = now;
}

/* Number of the write that @data is from; UINT32_MAX: of none of this sector's.
 */
static uint32_t
number_of(const struct sim_oracle *o, uint32_t sector, const uint64_t *data)
{
    const uint32_t number = (uint32_t)data[2];
    const struct sim_write *w;
    uint64_t any = 0;

    for (uint32_t i = 0; i < WORDS; i++)
        any |= data[i];
    if (!any)
        return 0;
    for (uint32_t i = 0; i < WORDS; i++)
        if (data[i] != word(o, sector, number, i))
            return UINT32_MAX;
    if (!number || number > o->n_writes)
        return UINT32_MAX;
    w = &o->write[number - 1];
    return sector >= w->sector && sector - w->sector < w->n ? number
                                                            : UINT32_MAX;
}

/* Judges one sector; @since: latest start of a write that was over before. */
static void
judge(struct sim_oracle *o, uint32_t sector, const void *data, uint64_t since,
      const char *how)
{
    const uint32_t number = number_of(o, sector, data);
    const uint64_t *words = data;
    uint64_t end = o->base_tick;

    if (number == UINT32_MAX) {
        sim_fail(o->s,
                 "disk %u: %s of sector %u is garbage: %llx %llx %llx",
                 o->disk, how, sector, (unsigned long long)words[0],
                 (unsigned long long)words[1], (unsigned long long)words[2]);
        return;
    }
    if (number != o->base[sector]) {
        const struct sim_write none = { .start = 0 };
        const struct sim_write *w = number ? &o->write[number - 1] : &none;

        SIM_CHECK(o->s, w->start > o->base_tick,
                  "disk %u: %s of sector %u brings write %u back", o->disk, how,
                  sector, number);
        end = w->end;
    }
    SIM_CHECK(o->s, end >= since,
              "disk %u: %s of sector %u has write %u, which is out of date",
              o->disk, how, sector, number);
}

static uint64_t *
snapshot(const uint64_t *from, uint32_t n)
{
    uint64_t *to = must(malloc(n * sizeof(*to)));

    memcpy(to, from, n * sizeof(*to));
    return to;
}

uint64_t *
sim_oracle_read(struct sim_oracle *o, uint32_t sector, uint32_t n)
{
    return snapshot(o->answered + sector, n);
}

void
sim_oracle_seen(struct sim_oracle *o, uint32_t sector, uint32_t n,
                const void *buf, uint64_t *since)
{
    for (uint32_t i = 0; i < n; i++)
        judge(o, sector + i, (const uint8_t *)buf + (size_t)i * SECTOR,
              since[i], "a read");
    free(since);
}

uint64_t *
sim_oracle_flush(struct sim_oracle *o)
{
    return snapshot(o->answered, o->n_sectors);
}

void
sim_oracle_flushed(struct sim_oracle *o, uint64_t *since, bool ok)
{
    for (uint32_t i = 0; i < o->n_sectors && ok; i++)
        if (o->durable[i] < since[i])
            o->durable[i] = since[i];
    free(since);
}

void
sim_oracle_check(struct sim_oracle *o, const struct sim_medium *m)
{
    for (uint32_t i = 0; i < o->n_sectors; i++)
        judge(o, i, m->visible + (size_t)i * SECTOR, o->answered[i],
              "the disk's copy");
}

void
sim_oracle_cut(struct sim_oracle *o, const struct sim_medium *m)
{
    sim_oracle_settle(o);
    for (uint32_t i = 0; i < o->n_sectors; i++)
        judge(o, i, m->visible + (size_t)i * SECTOR, o->durable[i],
              "after a power cut the copy");
    o->base_tick = ++o->s->tick;
    for (uint32_t i = 0; i < o->n_sectors; i++) {
        o->base[i] =
            (uint32_t)((const uint64_t *)m->visible)[(size_t)i * WORDS + 2];
        o->answered[i] = o->durable[i] = 0;
    }
}
