/* SPDX-License-Identifier: MIT */
/* See medium.h. */
#include "medium.h"

#include <stdlib.h>
#include <string.h>

enum { SECTOR = 512 };

void
sim_medium_init(struct sim_medium *m, struct sim *s, uint32_t n_sectors)
{
    *m = (struct sim_medium){
        .s = s,
        .n_sectors = n_sectors,
        .visible = calloc(n_sectors, SECTOR),
        .durable = calloc(n_sectors, SECTOR),
        .dirty = calloc(n_sectors, sizeof(bool)),
        .latency_ns = 20000,
        .room = SIM_MEDIUM_IOS,
    };
    if (!m->visible || !m->durable || !m->dirty)
        abort();
}

void
sim_medium_free(struct sim_medium *m)
{
    free(m->visible);
    free(m->durable);
    free(m->dirty);
}

static void
make_durable(struct sim_medium *m, uint64_t sector)
{
    memcpy(m->durable + sector * SECTOR, m->visible + sector * SECTOR, SECTOR);
    m->dirty[sector] = false;
}

void
sim_medium_cut(struct sim_medium *m)
{
    /* All, none, or each for itself. */
    const uint32_t keep = sim_random(m->s, 3);

    for (uint32_t i = 0; i < m->n_sectors; i++) {
        if (m->dirty[i] && (keep == 2 || (keep && sim_random(m->s, 2))))
            make_durable(m, i);
        m->dirty[i] = false;
    }
    memcpy(m->visible, m->durable, (size_t)m->n_sectors * SECTOR);
}

/* Moves sector @i of an I/O at offset @at of its data. */
static void
move_sector(struct sim_medium *m, enum fh_store_op op, uint64_t sector,
            uint8_t *data)
{
    uint8_t *here = m->visible + sector * SECTOR;

    if (op == FH_STORE_READ) {
        memcpy(data, here, SECTOR);
        return;
    }
    /* The drive may have written back what is overwritten here. */
    if (m->dirty[sector] && sim_random(m->s, 2))
        make_durable(m, sector);
    memcpy(here, data, SECTOR);
    m->dirty[sector] = true;
}

static void
flush_all(struct sim_medium *m)
{
    for (uint32_t i = 0; i < m->n_sectors; i++)
        if (m->dirty[i])
            make_durable(m, i);
    m->n_flushes++;
}

/* As fsync() fails: what could not be written counts as clean from now on. */
static void
fail_flush(struct sim_medium *m)
{
    for (uint32_t i = 0; i < m->n_sectors; i++)
        if (m->dirty[i] && sim_random(m->s, 2))
            m->dirty[i] = false;
    m->error_unseen = true;
}

/* ---- the life of an I/O ---- */

static uint32_t
io_sectors(const struct sim_io *x)
{
    return x->vec.bytes / SECTOR;
}

/* Each sector that has not moved does, now or, unless @all, perhaps. */
static void
move_some(struct sim_io *x, bool all)
{
    struct sim_medium *m = x->o->m;

    for (uint32_t i = 0; i < io_sectors(x); i++) {
        if (x->moved[i] || (!all && sim_random(m->s, 2)))
            continue;
        x->moved[i] = 1;
        move_sector(m, x->op, x->sector + i,
                    (uint8_t *)x->vec.base + (size_t)i * SECTOR);
    }
}

static void
io_free(struct sim_io *x)
{
    x->o->n_io--;
    *x = (struct sim_io){ .used = false };
}

static void
check_fence(struct sim_opening *o)
{
    void (*fence)(void *arg) = o->fence;

    if (!o->dead || o->n_io || !fence)
        return;
    o->fence = NULL;
    fence(o->fence_arg);
}

static void
io_end(void *arg, uint64_t a)
{
    struct sim_io *x = arg;
    struct sim_opening *o = x->o;
    struct sim_medium *m = o->m;

    (void)a;
    if (x->result) {
        m->n_errors++;
        if (x->op == FH_STORE_FLUSH)
            fail_flush(m);
    } else if (x->op == FH_STORE_FLUSH) {
        flush_all(m);
    } else {
        move_some(x, true);
    }
    sim_trace(m->s, 2000 + x->op, x->sector, (uint64_t)x->result);
    if (o->dead) {
        io_free(x);
        check_fence(o);
        return;
    }
    x->done = true;
    sim_wake(o->owner, sim_random(m->s, 3000));
}

static void
io_half(void *arg, uint64_t a)
{
    struct sim_io *x = arg;
    struct sim_medium *m = x->o->m;

    if (x->op != FH_STORE_FLUSH)
        move_some(x, false);
    else if (!x->result && sim_random(m->s, 2))
        flush_all(m);
    sim_after(m->s, a, io_end, x, 0);
}

static void
io_start(struct sim_io *x)
{
    struct sim_medium *m = x->o->m;
    /* Most are quick; a few take their time. */
    const uint64_t most =
        sim_random(m->s, 16) ? m->latency_ns : 20 * m->latency_ns;

    x->kicked = true;
    if (sim_chance(m->s, m->p_error, 65536))
        x->result = FH_EIO;
    sim_after(m->s, sim_between(m->s, 0, most), io_half, x,
              sim_between(m->s, 0, most));
}

/* ---- struct fh_store_ops ---- */

static void
check_io(struct sim_opening *o, const struct fh_store_io *io)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < io->n_vecs; i++) {
        bytes += io->vec[i].bytes;
        SIM_CHECK(o->m->s, io->vec[i].bytes % SECTOR == 0, "odd length");
    }
    SIM_CHECK(o->m->s, io->offset % SECTOR == 0, "odd offset");
    SIM_CHECK(o->m->s,
              io->op == FH_STORE_FLUSH
                  ? !bytes
                  : bytes && io->offset / SECTOR + bytes / SECTOR <=
                                 o->m->n_sectors,
              "I/O outside of the disk");
    for (uint32_t i = 0; i < SIM_MEDIUM_IOS; i++) {
        const struct sim_io *x = &o->io[i];
        const bool write = io->op == FH_STORE_WRITE && x->used &&
                           x->op == FH_STORE_WRITE && !x->done;

        SIM_CHECK(o->m->s,
                  !write || x->sector + io_sectors(x) <= io->offset / SECTOR ||
                      io->offset / SECTOR + bytes / SECTOR <= x->sector,
                  "two writes that overlap are under way");
    }
}

static int
submit_now(struct sim_opening *o, struct fh_store_io *io)
{
    uint64_t sector = io->offset / SECTOR;

    io->result = 0;
    if (sim_chance(o->m->s, o->m->p_error, 65536)) {
        o->m->n_errors++;
        io->result = FH_EIO;
        if (io->op == FH_STORE_FLUSH)
            fail_flush(o->m);
        return FH_STORE_DONE;
    }
    if (io->op == FH_STORE_FLUSH)
        flush_all(o->m);
    for (uint32_t v = 0; v < io->n_vecs; v++)
        for (uint32_t i = 0; i < io->vec[v].bytes; i += SECTOR)
            move_sector(o->m, io->op, sector++, (uint8_t *)io->vec[v].base + i);
    return FH_STORE_DONE;
}

static int
submit(struct fh_store *st, struct fh_store_io *io)
{
    struct sim_opening *o = (struct sim_opening *)st;
    struct sim_io *x = o->io;

    SIM_CHECK(o->m->s, !o->dead, "I/O of a dead worker");
    check_io(o, io);
    if (o->m->s->failed)
        return FH_EIO;
    if (o->m->synchronous)
        return submit_now(o, io);
    if (o->n_io >= o->m->room)
        return FH_EAGAIN;
    SIM_CHECK(o->m->s, io->n_vecs <= 1, "asynchronous I/O to granted pages");
    while (x->used)
        x++;
    *x = (struct sim_io){
        .o = o, .io = io, .op = io->op, .sector = io->offset / SECTOR,
        .used = true,
    };
    if (io->n_vecs)
        x->vec = io->vec[0];
    SIM_CHECK(o->m->s, io_sectors(x) <= SIM_IO_SECTORS, "too long an I/O");
    o->n_io++;
    return 0;
}

static int
kick(struct fh_store *st)
{
    struct sim_opening *o = (struct sim_opening *)st;

    for (uint32_t i = 0; i < SIM_MEDIUM_IOS; i++)
        if (o->io[i].used && !o->io[i].kicked)
            io_start(&o->io[i]);
    return 0;
}

static uint32_t
reap(struct fh_store *st)
{
    struct sim_opening *o = (struct sim_opening *)st;
    uint32_t n = 0;

    for (uint32_t i = 0; i < SIM_MEDIUM_IOS; i++) {
        struct sim_io *x = &o->io[i];
        struct fh_store_io *io = x->io;

        if (!x->used || !x->done)
            continue;
        io->result = x->result;
        io_free(x);
        io->done(io);
        n++;
    }
    return n;
}

static void
close_store(struct fh_store *st)
{
    struct sim_opening *o = (struct sim_opening *)st;

    SIM_CHECK(o->m->s, !o->n_io, "store closed with I/O under way");
}

static const struct fh_store_ops ops = {
    .submit = submit,
    .kick = kick,
    .reap = reap,
    .close = close_store,
};

void
sim_medium_open(struct sim_medium *m, struct sim_party *owner,
                struct sim_opening *o)
{
    *o = (struct sim_opening){
        .store = {
            .ops = &ops,
            .info = {
                .n_sectors = m->n_sectors,
                .physical_sector_bytes = SECTOR,
                .alignment = SECTOR,
                .synchronous = m->synchronous,
            },
        },
        .m = m,
        .owner = owner,
    };
}

void
sim_opening_orphan(struct sim_opening *o, void (*fence)(void *arg), void *arg)
{
    o->dead = true;
    o->fence = fence;
    o->fence_arg = arg;
    for (uint32_t i = 0; i < SIM_MEDIUM_IOS; i++)
        if (o->io[i].used && (!o->io[i].kicked || o->io[i].done))
            io_free(&o->io[i]);
    check_fence(o);
}
