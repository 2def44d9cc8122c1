/* SPDX-License-Identifier: MIT */
/*
 * The recovery state as a whole: made, taken up after a death, ended.  The
 * stores of every request are in record.h; the format and its rules R1 to R5
 * in recovery.h.
 */
#include "blkback/record.h"

void
fh_rec_format(struct fh_rec_file *file, uint64_t disk_sectors, uint32_t domid,
              uint32_t devid, uint64_t connection)
{
    file->header = (struct fh_rec_header){
        .magic = FH_REC_MAGIC,
        .version = FH_REC_VERSION,
        .n_queues = FH_REC_MAX_QUEUES,
        .disk_sectors = disk_sectors,
        .domid = domid,
        .devid = devid,
        .connection = connection,
    };
    for (uint32_t i = 0; i < FH_REC_MAX_QUEUES; i++)
        file->queue[i].active = 0;
}

int
fh_rec_check(const struct fh_rec_file *file, uint64_t disk_sectors)
{
    const struct fh_rec_header *h = &file->header;

    if (h->magic != FH_REC_MAGIC || h->version != FH_REC_VERSION ||
        h->n_queues != FH_REC_MAX_QUEUES || h->disk_sectors != disk_sectors)
        return FH_REC_E_CORRUPT;
    return 0;
}

void
fh_rec_start(struct fh_rec *r, struct fh_rec_log *log, struct fh_rec_queue *q,
             uint32_t abi, uint32_t n_slots)
{
    *r = (struct fh_rec){ .log = log, .q = q, .n_slots = n_slots };
    fh_rec_store32(log, &q->active, 0);
    fh_rec_store32(log, &q->abi, abi);
    fh_rec_store32(log, &q->n_slots, n_slots);
    fh_rec_store32(log, &q->incarnation, 1);
    for (uint32_t i = 0; i < n_slots; i++)
        fh_rec_answer(r, i, UINT32_MAX); /* below rsp_prod, which is 0 */
    fh_rec_commit(r, 0, 0);
    fh_rec_store32(log, &q->active, 1);
}

/* R4. */
static bool
entry_taken(const struct fh_rec *r, const struct fh_rec_entry *e)
{
    return (uint32_t)(e->req_idx - r->req_cons) >= r->n_slots;
}

static bool
entry_answered(const struct fh_rec *r, const struct fh_rec_entry *e)
{
    return (e->answer & FH_REC_ANSWERED) &&
           (int32_t)((uint32_t)e->answer - r->rsp_prod) < 0;
}

/* Nothing that the accessors could have left there. */
static bool
entry_impossible(const struct fh_rec *r, const struct fh_rec_entry *e)
{
    const uint32_t ahead = (uint32_t)e->answer - r->rsp_prod;

    if (!e->answer || entry_answered(r, e))
        return e->answer >> 33;
    return e->answer >> 32 != 1 || ahead >= r->n_slots;
}

/* Age in requests: what was taken first is the oldest. */
static uint32_t
entry_age(const struct fh_rec *r, uint32_t i)
{
    return r->req_cons - r->q->entry[i].req_idx;
}

/* Puts entry @i into the list of @n, oldest first; false: there is one of that
 * index already. */
static bool
insert_by_age(const struct fh_rec *r, uint16_t *todo, uint32_t n, uint16_t i)
{
    const uint32_t age = entry_age(r, i);
    uint32_t at = n;

    while (at && entry_age(r, todo[at - 1]) < age) {
        todo[at] = todo[at - 1];
        at--;
    }
    todo[at] = i;
    return !at || entry_age(r, todo[at - 1]) != age;
}

static int
collect(const struct fh_rec *r, uint16_t *todo, uint32_t *n_todo)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->n_slots; i++) {
        const struct fh_rec_entry *e = &r->q->entry[i];

        if (entry_impossible(r, e))
            return FH_REC_E_CORRUPT;
        if (!entry_taken(r, e) || entry_answered(r, e))
            continue;
        if (!insert_by_age(r, todo, n, (uint16_t)i))
            return FH_REC_E_CORRUPT;
        n++;
    }
    if (n != r->req_cons - r->rsp_prod)
        return FH_REC_E_CORRUPT;
    *n_todo = n;
    return 0;
}

/*
 * Leaves two kinds of entries only: outstanding ones without an answer, and
 * free ones with an old one.  Else an entry that the dead worker had begun to
 * fill would look taken later, and an answer that it did not commit would look
 * committed once rsp_prod has passed its index.
 */
static void
tidy(struct fh_rec *r)
{
    for (uint32_t i = 0; i < r->n_slots; i++) {
        struct fh_rec_entry *e = &r->q->entry[i];

        if (!entry_taken(r, e) || entry_answered(r, e))
            fh_rec_answer(r, i, r->rsp_prod - 1);
        else if (e->answer)
            fh_rec_store64(r->log, &e->answer, 0);
    }
}

int
fh_rec_resume(struct fh_rec *r, struct fh_rec_log *log, struct fh_rec_queue *q,
              uint32_t abi, uint32_t n_slots, uint16_t *todo, uint32_t *n_todo)
{
    int err;

    *r = (struct fh_rec){ .log = log, .q = q, .n_slots = n_slots };
    if (q->active == 0)
        return FH_ENOENT;
    if (q->active != 1 || q->abi != abi || q->n_slots != n_slots)
        return FH_REC_E_CORRUPT;
    r->req_cons = (uint32_t)(q->commit >> 32);
    r->rsp_prod = (uint32_t)q->commit;
    err = collect(r, todo, n_todo);
    if (err)
        return err;
    tidy(r);
    fh_rec_store32(log, &q->incarnation, q->incarnation + 1);
    return 0;
}

void
fh_rec_stop(struct fh_rec *r)
{
    if (r->q)
        fh_rec_store32(r->log, &r->q->active, 0);
}

void
fh_rec_scrub(struct fh_rec *r, const uint16_t *free, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        fh_rec_answer(r, free[i], r->rsp_prod - 1);
}
