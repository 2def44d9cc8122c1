/* SPDX-License-Identifier: MIT */
/*
 * Domains: their directories and sockets, the memory of their tables, their
 * end.
 *
 * Domain N has <run>/domN/, which only its group may pass through, with the
 * sockets "hypercall" and "xenstore", which only its uid may connect to.  It
 * ends in slices: sockets go first, then each connection with all that it
 * holds, then what libgrant and the event channels still know.  The struct
 * stays as long as another domain maps one of its pages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/uids.h"

enum {
    TABLE_BYTES = FH_HV_GRANT_FRAMES * 4096,
    REFS_BYTES = FH_HV_GRANTS_MAX * sizeof(uint32_t),
    MAPS_BYTES = FH_HV_MAPS_MAX * sizeof(struct fh_hv_map),
    PORTS_BYTES = FH_HV_PORTS_MAX * sizeof(struct fh_hv_port),
};

/* Zeroed memory of which only the touched pages cost anything. */
static void *
lazy_alloc(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    return p == MAP_FAILED ? NULL : p;
}

static void
lazy_free(void *p, size_t bytes)
{
    if (p)
        munmap(p, bytes);
}

static void
domain_free(struct fh_hv_domain *dom)
{
    lazy_free(dom->table, TABLE_BYTES);
    lazy_free(dom->table_mem, fh_gnt_table_bytes(FH_HV_GRANT_FRAMES));
    lazy_free(dom->active, FH_HV_GRANT_FRAMES * fh_gnt_frame_bytes());
    lazy_free(dom->free_refs, REFS_BYTES);
    lazy_free(dom->maptrack, fh_gnt_maptrack_bytes(FH_HV_MAPS_MAX));
    lazy_free(dom->maps, MAPS_BYTES);
    lazy_free(dom->ports_mem, fh_evtchn_bytes(FH_HV_PORTS_MAX));
    lazy_free(dom->ports, PORTS_BYTES);
    free(dom);
}

static int
tables_init(struct fh_hv_domain *dom)
{
    const struct fh_gnt_domain_params params = {
        .uid = dom->uid,
        .domid = dom->domid,
        .flags = FH_GNT_DOM_TRANSLATED,
        .n_cpus = FH_HV_THREADS_MAX + 1,
        .stats = dom->gnt_stats,
    };

    dom->table = lazy_alloc(TABLE_BYTES);
    dom->table_mem = lazy_alloc(fh_gnt_table_bytes(FH_HV_GRANT_FRAMES));
    dom->active = lazy_alloc(FH_HV_GRANT_FRAMES * fh_gnt_frame_bytes());
    dom->free_refs = lazy_alloc(REFS_BYTES);
    dom->maptrack = lazy_alloc(fh_gnt_maptrack_bytes(FH_HV_MAPS_MAX));
    dom->maps = lazy_alloc(MAPS_BYTES);
    dom->ports_mem = lazy_alloc(fh_evtchn_bytes(FH_HV_PORTS_MAX));
    dom->ports = lazy_alloc(PORTS_BYTES);
    if (!dom->table || !dom->table_mem || !dom->active || !dom->free_refs ||
        !dom->maptrack || !dom->maps || !dom->ports_mem || !dom->ports)
        return FH_ENOMEM;
    fh_gnt_domain_init(&dom->gnt, &params);
    fh_gnt_table_init(&dom->gnt, FH_HV_GRANT_FRAMES, dom->table_mem);
    fh_gnt_maptrack_init(&dom->gnt, FH_HV_MAPS_MAX, dom->maptrack);
    fh_evtchn_init(&dom->ev, &fh_hv_ev_ops, dom->hv, dom->uid, dom->domid,
                   FH_HV_PORTS_MAX, dom->ports_mem);
    dom->fresh_ref = FH_HV_GRANT_FIRST;
    return 0;
}

static void
dir_path(const struct fh_hv_domain *dom, const char *name, char *buf,
         size_t size)
{
    snprintf(buf, size, "%s/dom%u%s%s", dom->hv->run_dir, dom->domid,
             *name ? "/" : "", name);
}

static void
dir_remove(const struct fh_hv_domain *dom)
{
    static const char *const names[] = { "hypercall", "xenstore" };
    char path[640];

    for (unsigned i = 0; i < 2; i++) {
        dir_path(dom, names[i], path, sizeof(path));
        unlink(path);
    }
    dir_path(dom, "", path, sizeof(path));
    rmdir(path);
}

/* The directory is ours: the domain passes through it by its group, and cannot
 * put anything else in its sockets' place. */
static int
dir_open_up(const struct fh_hv_domain *dom)
{
    char path[640];

    if (dom->user == dom->hv->uid)
        return 0;
    dir_path(dom, "", path, sizeof(path));
    if (chown(path, (uid_t)-1, dom->user) < 0 || chmod(path, 0710) < 0)
        return -errno;
    return 0;
}

static int
sockets_make(struct fh_hv_domain *dom)
{
    struct fh_hv *hv = dom->hv;
    char path[640];
    int r;

    dir_path(dom, "", path, sizeof(path));
    if (mkdir(path, 0700) < 0)
        return -errno;
    dom->hypercall.dom = dom->xenstore.dom = dom;
    dom->hypercall.accepted = fh_hv_conn_accepted;
    dom->xenstore.accepted = fh_hv_xs_accepted;
    dir_path(dom, "hypercall", path, sizeof(path));
    r = fh_hv_listen(hv, &dom->hypercall, path, SOCK_SEQPACKET, dom->user);
    if (r)
        return r;
    dir_path(dom, "xenstore", path, sizeof(path));
    r = fh_hv_listen(hv, &dom->xenstore, path, SOCK_STREAM, dom->user);
    return r ? r : dir_open_up(dom);
}

/* True when a domain has @domid, be it only a zombie. */
static bool
domid_taken(const struct fh_hv *hv, uint32_t domid)
{
    const struct fh_hv_domain *z;

    if (fh_load_relaxed64(&hv->by_domid[domid]))
        return true;
    LIST_FOREACH(z, &hv->zombies, link) {
        if (z->domid == domid)
            return true;
    }
    return false;
}

/* The next domid that nobody has; wraps at the reserved ones. */
static int
domid_next(struct fh_hv *hv)
{
    for (uint32_t n = 1; n < DOMID_FIRST_RESERVED; n++) {
        uint32_t domid = hv->next_domid++;

        if (hv->next_domid == DOMID_FIRST_RESERVED)
            hv->next_domid = 1;
        if (!domid_taken(hv, domid))
            return (int)domid;
    }
    return FH_ENOSPC;
}

static bool
name_valid(struct fh_hv *hv, const char *name)
{
    struct fh_hv_domain *dom;

    if (!*name || strlen(name) >= sizeof(dom->name))
        return false;
    if (name[strspn(name, "0123456789")] == '\0')
        return false; /* would be mistaken for a domid */
    return !name[strspn(name, "abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:")];
}

static int
name_taken(struct fh_hv *hv, const char *name)
{
    struct fh_hv_domain *dom;

    LIST_FOREACH(dom, &hv->domains, link) {
        if (!strcmp(dom->name, name))
            return FH_EEXIST;
    }
    return 0;
}

static enum fh_hv_step
domain_step(struct fh_hv *hv, struct fh_hv_work *work);

static struct fh_hv_domain *
domain_new(struct fh_hv *hv, uint16_t domid, const char *name)
{
    struct fh_hv_domain *dom =
        aligned_alloc(_Alignof(struct fh_hv_domain), sizeof(*dom));

    if (!dom)
        return NULL;
    memset(dom, 0, sizeof(*dom));
    dom->hv = hv;
    dom->refs = 1;
    dom->domid = domid;
    dom->uid = ++hv->next_uid;
    dom->user = hv->is_isolated && domid ? hv->uid_base + domid : hv->uid;
    dom->work.step = domain_step;
    if (name)
        strcpy(dom->name, name);
    else
        snprintf(dom->name, sizeof(dom->name), "dom%u", domid);
    return dom;
}

int
fh_hv_domain_create(struct fh_hv *hv, int domid, const char *name,
                    struct fh_hv_domain **out)
{
    struct fh_hv_domain *dom;
    int r;

    if (name && !name_valid(hv, name))
        return FH_EINVAL;
    if (hv->n_domains == FH_HV_DOMAINS_MAX)
        return FH_ENOSPC;
    r = name ? name_taken(hv, name) : 0;
    if (r)
        return r;
    if (domid >= (int)DOMID_FIRST_RESERVED)
        return FH_ERANGE;
    if (domid >= 0 && domid_taken(hv, (uint32_t)domid))
        return FH_EEXIST;
    if (domid < 0)
        domid = domid_next(hv);
    if (domid < 0)
        return domid;
    dom = domain_new(hv, (uint16_t)domid, name);
    if (!dom)
        return FH_ENOMEM;
    r = FH_EBUSY;
    /* A process that an earlier domain of this number left behind could trace
     * the new one's. */
    if (dom->user != hv->uid && fh_hv_uids_run(dom->user, 1))
        goto fail;
    r = tables_init(dom);
    if (r)
        goto fail;
    r = sockets_make(dom);
    if (r)
        goto fail;
    r = fh_hv_xs_domain_add(dom);
    if (r)
        goto fail;
    /* D1 release, pairs with D2. */
    fh_store_release64(&hv->by_domid[domid], (uintptr_t)dom);
    LIST_INSERT_HEAD(&hv->domains, dom, link);
    hv->n_domains++;
    *out = dom;
    return 0;

fail:
    fh_hv_unlisten(hv, &dom->hypercall);
    fh_hv_unlisten(hv, &dom->xenstore);
    dir_remove(dom);
    domain_free(dom);
    return r;
}

struct fh_hv_domain *
fh_hv_domain_find(struct fh_hv *hv, uint32_t domid)
{
    if (domid >= DOMID_FIRST_RESERVED)
        return NULL;
    /* D2 acquire, pairs with D1: its tables are there. */
    return (struct fh_hv_domain *)(uintptr_t)fh_load_acquire64(
        &hv->by_domid[domid]);
}

void
fh_hv_domain_hold(struct fh_hv_domain *dom)
{
    fh_fetch_add32(&dom->refs, 1);
}

/* The last reference goes when nobody finds the domain any more. */
void
fh_hv_domain_put(struct fh_hv_domain *dom)
{
    struct fh_hv *hv = dom->hv; /* @dom may be gone at once */

    if (fh_fetch_add32(&dom->refs, UINT32_MAX) == 1 && hv->n_threads)
        fh_hv_wake(fh_hv_control(hv));
}

void
fh_hv_domain_conn_gone(struct fh_hv_thread *th, struct fh_hv_domain *dom)
{
    struct fh_hv_thread *control = fh_hv_control(dom->hv);

    if (dom->is_dying && !dom->n_conns) {
        fh_hv_enqueue(control, &dom->work);
        if (th != control)
            fh_hv_wake(control);
    }
    fh_hv_domain_put(dom);
}

void
fh_hv_domain_destroy(struct fh_hv_domain *dom)
{
    struct fh_hv *hv = dom->hv;
    struct fh_hv_conn *conn, *next;

    if (dom->is_dying)
        return;
    dom->is_dying = true;
    fh_gnt_domain_kill(&dom->gnt);
    fh_hv_unlisten(hv, &dom->hypercall);
    fh_hv_unlisten(hv, &dom->xenstore);
    dir_remove(dom);
    fh_hv_xs_domain_remove(dom);
    for (conn = LIST_FIRST(&dom->conns); conn; conn = next) {
        next = LIST_NEXT(conn, link);
        fh_hv_conn_cut(conn);
    }
    fh_hv_enqueue(fh_hv_control(hv), &dom->work);
}

/* Nobody maps pages of a file for a grantee that is dead. */
static void
files_forget(struct fh_hv *hv)
{
    struct fh_hv_domain *dom;

    LIST_FOREACH(dom, &hv->domains, link)
        fh_hv_files_sweep(dom);
    LIST_FOREACH(dom, &hv->zombies, link)
        fh_hv_files_sweep(dom);
}

static void
domain_vanish(struct fh_hv_domain *dom)
{
    struct fh_hv *hv = dom->hv;

    dom->is_gone = true;
    fh_store_relaxed64(&hv->by_domid[dom->domid], 0);
    LIST_REMOVE(dom, link);
    LIST_INSERT_HEAD(&hv->zombies, dom, link);
    files_forget(hv);
    fh_hv_slotfiles_sweep(hv, dom->uid);
    if (dom->destroyer)
        fh_hv_ctl_destroyed(dom->destroyer, dom->domid);
    dom->destroyer = NULL;
    fh_hv_domain_put(dom);
}

/* The end of a domain, one slice: its connections have work of their own. */
static enum fh_hv_step
domain_step(struct fh_hv *hv, struct fh_hv_work *work)
{
    struct fh_hv_domain *dom =
        (struct fh_hv_domain *)((char *)work -
                                offsetof(struct fh_hv_domain, work));

    if (dom->is_gone)
        return FH_HV_STEP_DONE;
    if (dom->n_conns)
        return FH_HV_STEP_DONE; /* the last of them comes back to this */
    if (fh_evtchn_close_all(&dom->ev, FH_HV_SLICE, &dom->ev_cursor))
        return FH_HV_STEP_AGAIN;
    domain_vanish(dom);
    return FH_HV_STEP_DONE;
}

/* True: nobody refers to the zombie, and nobody can have begun to since. */
static bool
zombie_is_dead(struct fh_hv *hv, struct fh_hv_domain *dom)
{
    if (fh_load_acquire32(&dom->refs)) {
        hv->n_doomed -= dom->is_doomed;
        dom->is_doomed = false;
        return false;
    }
    if (!dom->is_doomed) {
        dom->is_doomed = true;
        hv->n_doomed++;
        fh_hv_grace_start(hv, &dom->grace);
    }
    if (!fh_hv_grace_over(hv, &dom->grace))
        return false;
    /* Whoever found it before took his reference by now. */
    return !fh_load_acquire32(&dom->refs);
}

void
fh_hv_domains_reap(struct fh_hv *hv)
{
    struct fh_hv_domain *dom, *next;

    for (dom = LIST_FIRST(&hv->zombies); dom; dom = next) {
        next = LIST_NEXT(dom, link);
        if (!zombie_is_dead(hv, dom))
            continue;
        LIST_REMOVE(dom, link);
        hv->n_doomed--;
        hv->n_domains--;
        domain_free(dom);
    }
}
