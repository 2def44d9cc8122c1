/* SPDX-License-Identifier: MIT */
/*
 * The granter's side: what the gntalloc driver of a guest kernel does.  fhv
 * allocates pages and references, writes the entries of the granter's table
 * and takes them back.
 *
 * A page that is unshared while somebody maps it keeps its entry until the
 * mapping goes (Linux defers likewise); the page is free only then.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"
#include "hv/hv.h"

static FH_SHARED grant_entry_v1_t *
table_of(struct fh_hv_domain *dom)
{
    return (FH_SHARED grant_entry_v1_t *)(uintptr_t)dom->table;
}

/* ------------------------------------------------------------ references -- */

static int
table_grow(struct fh_hv_domain *dom)
{
    const uint32_t n = fh_gnt_table_frames(&dom->gnt);

    return fh_gnt_table_grow(&dom->gnt, dom->table + n * FH_PAGE_BYTES,
                             dom->active + n * fh_gnt_frame_bytes(), 0);
}

/* Makes sure that @n references can be taken without failing. */
static int
refs_reserve(struct fh_hv_domain *dom, uint32_t n)
{
    if (dom->n_free_refs + (FH_HV_GRANTS_MAX - dom->fresh_ref) < n)
        return FH_ENOSPC;
    const uint32_t fresh = n > dom->n_free_refs ? n - dom->n_free_refs : 0;
    const uint32_t need = dom->fresh_ref + fresh;

    while (fh_gnt_table_frames(&dom->gnt) * FH_GNT_V1_PER_FRAME < need) {
        int r = table_grow(dom);

        if (r)
            return r;
    }
    return 0;
}

static uint32_t
ref_take(struct fh_hv_domain *dom)
{
    dom->n_refs++;
    return dom->n_free_refs ? dom->free_refs[--dom->n_free_refs]
                            : dom->fresh_ref++;
}

static void
ref_drop(struct fh_hv_domain *dom, uint32_t ref)
{
    dom->n_refs--;
    dom->free_refs[dom->n_free_refs++] = ref;
}

/* ---------------------------------------------------------------- ending -- */

void
fh_hv_ending_add(struct fh_hv_chain *chain, uint32_t mfn,
                 struct fh_hv_frame *frame)
{
    frame->next = chain->head;
    chain->head = mfn + 1;
}

/* Withdraws the grant of a frame that is TAKEN by the caller, who has the
 * lock. */
static void
frame_withdraw(struct fh_hv *hv, uint32_t mfn)
{
    struct fh_hv_file *file = fh_hv_file_of(hv, mfn);
    struct fh_hv_frame *frame = fh_hv_frame_in(file, mfn);
    struct fh_hv_domain *granter = file->granter;

    if (!fh_gnt_v1_revoke(table_of(granter), frame->gref)) {
        ref_drop(granter, frame->gref);
        fh_hv_pages_free(file, mfn - fh_hv_mfn(file, 0), 1);
    } else if (!fh_hv_frame_untake(&frame->word)) {
        fh_hv_ending_add(&hv->retry, mfn, frame);
    }
}

static void
chain_run(struct fh_hv *hv, struct fh_hv_chain *chain)
{
    uint32_t head = chain->head;

    chain->head = 0;
    while (head) {
        const uint32_t mfn = head - 1;

        head = fh_hv_frame_in(fh_hv_file_of(hv, mfn), mfn)->next;
        frame_withdraw(hv, mfn);
    }
}

void
fh_hv_ending_run(struct fh_hv_thread *th)
{
    if (!th->ending.head)
        return;
    const bool locked = fh_hv_lock(th);

    chain_run(th->hv, &th->ending);
    if (th->hv->retry.head && th->index)
        fh_hv_wake(fh_hv_control(th->hv));
    fh_hv_unlock(th, locked);
}

void
fh_hv_ending_retry(struct fh_hv *hv)
{
    chain_run(hv, &hv->retry);
}

/* Ends the grant of one frame now, or when its last mapping goes. */
static void
frame_end(struct fh_hv *hv, uint32_t mfn)
{
    struct fh_hv_file *file = fh_hv_file_of(hv, mfn);

    if (fh_hv_frame_end(&fh_hv_frame_in(file, mfn)->word))
        frame_withdraw(hv, mfn);
}

/* ------------------------------------------------------------ hypercalls -- */

/* A free number in the connection's table of shares. */
static int
share_new(struct fh_hv_conn *conn, uint32_t *id)
{
    for (uint32_t i = conn->share_hint; i < conn->n_shares; i++) {
        if (!conn->shares[i].file) {
            *id = conn->share_hint = i;
            return 0;
        }
    }
    const uint32_t n = conn->n_shares ? conn->n_shares * 2 : 8;
    struct fh_hv_share *p = realloc(conn->shares, n * sizeof(*p));

    if (!p)
        return FH_ENOMEM;
    memset(p + conn->n_shares, 0, (n - conn->n_shares) * sizeof(*p));
    *id = conn->share_hint = conn->n_shares;
    conn->shares = p;
    conn->n_shares = n;
    return 0;
}

static void
grant_one(struct fh_hv_conn *conn, struct fh_hv_file *file, uint32_t page,
          uint16_t grantee, uint8_t *out)
{
    struct fh_hv_frame *frame = &file->frames[page];
    const uint32_t ref = ref_take(conn->dom);

    frame->gref = ref;
    fh_store_relaxed32(&frame->word, FH_HV_FRAME_GRANTED);
    fh_gnt_v1_grant(table_of(conn->dom), ref, grantee, fh_hv_mfn(file, page),
                    !file->is_writable);
    fh_copy_out(out, &ref, sizeof(ref));
}

static int
share_start(struct fh_hv_conn *conn, struct fh_hv_domain *grantee,
            uint32_t *id)
{
    const struct fh_hv_req *req = &conn->req;
    struct fh_hv_file *file;
    uint32_t page;
    int r;

    r = refs_reserve(conn->dom, req->count);
    if (r)
        return r;
    r = share_new(conn, id);
    if (r)
        return r;
    r = fh_hv_pages_alloc(conn->dom, grantee, req->arg[1] != 0, req->count,
                          &file, &page);
    if (r)
        return r;
    conn->shares[*id] = (struct fh_hv_share){
        .file = file, .page = page, .n = req->count,
    };
    return 0;
}

/* At most FH_HV_GRANTS_MAX pages, a store each: one slice. */
int
fh_hv_shr_share(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const struct fh_hv_req *req = &conn->req;
    struct fh_hv_domain *grantee;
    uint32_t id;
    int r;

    if (req->arg[0] == DOMID_SELF)
        grantee = conn->dom;
    else
        grantee = fh_hv_domain_find(conn->hv, (uint32_t)req->arg[0]);
    if (!req->count || req->count > FH_HV_GRANTS_MAX ||
        !fh_hv_area_holds(conn, req->out, req->count, sizeof(uint32_t)) ||
        !grantee || grantee->is_dying)
        return FH_EINVAL;
    r = share_start(conn, grantee, &id);
    if (r)
        return r;
    struct fh_hv_share *share = &conn->shares[id];

    for (uint32_t i = 0; i < share->n; i++)
        grant_one(conn, share->file, share->page + i, grantee->domid,
                  conn->area + req->out + i * sizeof(uint32_t));
    conn->done = share->n;
    fh_hv_count_elements(conn, FH_HV_SHR_SHARE, share->n);
    fh_hv_spend(conn->src.th, conn->dom, share->n / 8);
    reply->rsp.arg[0] = id;
    reply->rsp.arg[1] = share->page;
    fh_hv_reply_fd(reply, share->file->fd, false);
    return 0;
}

/* Ends up to *@budget pages.  True: some are left. */
static bool
share_end(struct fh_hv_conn *conn, uint32_t id, uint32_t *budget)
{
    struct fh_hv_share *share = &conn->shares[id];

    if (share->done == 0)
        fh_hv_notify_fire(conn, id);
    const uint32_t mfn = fh_hv_mfn(share->file, share->page);

    /* The file may go with its last page: not looked at after that. */
    for (; share->done < share->n && *budget; (*budget)--)
        frame_end(conn->hv, mfn + share->done++);
    if (share->done < share->n)
        return true;
    share->file = NULL;
    if (id < conn->share_hint)
        conn->share_hint = id;
    return false;
}

int
fh_hv_shr_unshare(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint64_t id = conn->req.arg[0];
    uint32_t budget = FH_HV_SLICE;

    if (id >= conn->n_shares || !conn->shares[id].file)
        return FH_EINVAL;
    const bool more = share_end(conn, (uint32_t)id, &budget);

    fh_hv_spend(conn->src.th, conn->dom, FH_HV_SLICE - budget);
    return more ? FH_HV_MORE : 0;
}

int
fh_hv_shr_notify(struct fh_hv_conn *conn, struct fh_hv_reply *reply)
{
    const uint64_t id = conn->req.arg[0];

    if (id >= conn->n_shares || !conn->shares[id].file)
        return FH_EINVAL;
    return fh_hv_notify_set(
        conn, (uint32_t)id,
        fh_hv_mfn(conn->shares[id].file, conn->shares[id].page));
}

bool
fh_hv_shr_close(struct fh_hv_conn *conn, uint32_t budget)
{
    for (; conn->n_shares; conn->n_shares--) {
        const uint32_t id = conn->n_shares - 1;

        if (conn->shares[id].file && share_end(conn, id, &budget))
            return true;
    }
    return false;
}
