/* SPDX-License-Identifier: MIT */
/*
 * Shared pages: sealed memfds, one set per (granter, grantee, access).
 *
 * A descriptor exposes its whole file, so a file only ever holds pages that
 * one granter shares with one grantee in one way.  Seals: nobody truncates or
 * grows it (a reader would get SIGBUS), nor seals it further.  What is granted
 * read-only lives in a file of mode 0400 that belongs to fhv's own uid: the
 * grantee's read-only descriptor cannot be opened again for writing through
 * /proc.  A page is a hole when it is free, so the next one starts as zeros.
 *
 * Frame numbers are the file's group of FH_HV_FILE_PAGES, then the page; a
 * domain's gfn is the mfn, as for a PV guest, and only the owner is found by
 * it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arith.h"
#include "hv/hv.h"

int
fh_hv_memfd(const char *name, uint64_t bytes, mode_t mode)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int r;

    if (fd < 0)
        return -errno;
    if (ftruncate(fd, (off_t)bytes) < 0 || fchmod(fd, mode) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        r = -errno;
        close(fd);
        return r;
    }
    return fd;
}

/* ------------------------------------------------------------- the files -- */

static bool
groups_free_at(const struct fh_hv *hv, uint32_t at, uint32_t n)
{
    if (at + n > FH_HV_GROUPS_MAX)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (fh_load_relaxed64(&hv->groups[at + i]))
            return false;
    }
    return true;
}

static int
groups_find(struct fh_hv *hv, uint32_t n, uint32_t *group)
{
    for (uint32_t i = 0; i < FH_HV_GROUPS_MAX; i++) {
        uint32_t at = (hv->group_hint + i) % FH_HV_GROUPS_MAX;

        if (groups_free_at(hv, at, n)) {
            hv->group_hint = at + n;
            *group = at;
            return 0;
        }
    }
    return FH_ENOSPC;
}

static void
file_free(struct fh_hv_file *file)
{
    void *mem = (void *)(uintptr_t)fh_load_acquire64(&file->mem);

    if (mem)
        munmap(mem, (size_t)file->n_pages * FH_PAGE_BYTES);
    if (file->fd >= 0)
        close(file->fd);
    free(file->used);
    free(file->frames);
    free(file);
}

static int
file_memory(struct fh_hv_file *file, uint32_t n_pages, bool is_writable)
{
    file->fd = -1;
    file->n_pages = n_pages;
    file->used = calloc(n_pages / 64, sizeof(*file->used));
    file->frames = calloc(n_pages, sizeof(*file->frames));
    if (!file->used || !file->frames)
        return FH_ENOMEM;
    file->fd = fh_hv_memfd("freehold-pages", (uint64_t)n_pages * FH_PAGE_BYTES,
                           is_writable ? 0600 : 0400);
    return file->fd < 0 ? file->fd : 0;
}

/* The file's groups lead to @addr. */
static void
groups_set(struct fh_hv_file *file, uintptr_t addr)
{
    struct fh_hv *hv = file->granter->hv;

    /* D3 release, pairs with D4: whoever finds the file sees it whole. */
    for (uint32_t i = 0; i < file->n_groups; i++)
        fh_store_release64(&hv->groups[file->group + i], addr);
}

static int
file_new(struct fh_hv_domain *granter, const struct fh_hv_domain *grantee,
         bool is_writable, uint32_t n_pages, struct fh_hv_file **out)
{
    struct fh_hv *hv = granter->hv;
    const uint32_t n_groups =
        (uint32_t)(fh_round_up(n_pages, FH_HV_FILE_PAGES) / FH_HV_FILE_PAGES);
    struct fh_hv_file *file = calloc(1, sizeof(*file));
    int r;

    if (!file)
        return FH_ENOMEM;
    r = file_memory(file, n_groups * FH_HV_FILE_PAGES, is_writable);
    if (r)
        goto fail;
    r = fh_hv_fds_take(granter, 1);
    if (r)
        goto fail;
    r = groups_find(hv, n_groups, &file->group);
    if (r) {
        fh_hv_fds_drop(granter, 1);
        goto fail;
    }
    file->n_groups = n_groups;
    file->id = ++hv->next_file * FH_HV_GROUPS_MAX + file->group;
    file->granter = granter;
    file->grantee = grantee->uid;
    file->is_writable = is_writable;
    fh_hv_domain_hold(granter);
    LIST_INSERT_HEAD(&granter->files, file, link);
    hv->n_files++;
    groups_set(file, (uintptr_t)file);
    *out = file;
    return 0;

fail:
    file_free(file);
    return r;
}

/* Nobody finds the file any more; it goes when nobody looks at it, and is
 * charged for until then. */
static void
file_destroy(struct fh_hv_file *file)
{
    struct fh_hv *hv = file->granter->hv;

    groups_set(file, 0);
    LIST_REMOVE(file, link);
    hv->n_files--;
    fh_hv_grace_start(hv, &file->grace);
    STAILQ_INSERT_TAIL(&hv->dead_files, file, dead_link);
}

void
fh_hv_files_reap(struct fh_hv *hv)
{
    struct fh_hv_file *file;

    while ((file = STAILQ_FIRST(&hv->dead_files)) &&
           fh_hv_grace_over(hv, &file->grace)) {
        struct fh_hv_domain *granter = file->granter;

        STAILQ_REMOVE_HEAD(&hv->dead_files, dead_link);
        file_free(file);
        fh_hv_fds_drop(granter, 1);
        fh_hv_domain_put(granter);
    }
}

static bool
uid_alive(struct fh_hv *hv, uint64_t uid)
{
    struct fh_hv_domain *dom;

    LIST_FOREACH(dom, &hv->domains, link) {
        if (dom->uid == uid)
            return true;
    }
    return false;
}

static bool
file_is_spare(const struct fh_hv_file *file, const struct fh_hv_file *other)
{
    return other != file && other->n_used == 0 &&
           other->grantee == file->grantee &&
           other->is_writable == file->is_writable;
}

/* An empty file is kept when it is the only one of its pair and of the common
 * size: the next share of a reconnecting device finds it. */
static bool
file_is_wanted(struct fh_hv_file *file)
{
    struct fh_hv_file *other;

    if (file->n_used)
        return true;
    if (file->n_groups > 1 || file->granter->is_dying ||
        !uid_alive(file->granter->hv, file->grantee))
        return false;
    LIST_FOREACH(other, &file->granter->files, link) {
        if (file_is_spare(file, other))
            return false;
    }
    return true;
}

void
fh_hv_files_sweep(struct fh_hv_domain *granter)
{
    struct fh_hv_file *file, *next;

    for (file = LIST_FIRST(&granter->files); file; file = next) {
        next = LIST_NEXT(file, link);
        if (!file_is_wanted(file))
            file_destroy(file);
    }
}

/* ------------------------------------------------------------- the pages -- */

static bool
page_used(const struct fh_hv_file *file, uint32_t page)
{
    return file->used[page / 64] >> (page % 64) & 1;
}

/* First of @n consecutive free pages in [from, to), or @to. */
static uint32_t
run_find(const struct fh_hv_file *file, uint32_t from, uint32_t to, uint32_t n)
{
    uint32_t run = 0;

    for (uint32_t page = from; page < to; page++) {
        if (page % 64 == 0 && file->used[page / 64] == UINT64_MAX) {
            run = 0;
            page += 63;
            continue;
        }
        run = page_used(file, page) ? 0 : run + 1;
        if (run == n)
            return page + 1 - n;
    }
    return to;
}

static bool
file_take(struct fh_hv_file *file, uint32_t n, uint32_t *page)
{
    if (file->n_pages - file->n_used < n)
        return false;
    uint32_t at = run_find(file, file->hint, file->n_pages, n);

    if (at == file->n_pages)
        at = run_find(file, 0, file->n_pages, n);
    if (at == file->n_pages)
        return false;
    for (uint32_t i = at; i < at + n; i++)
        file->used[i / 64] |= 1ull << (i % 64);
    file->n_used += n;
    file->hint = at + n == file->n_pages ? 0 : at + n;
    *page = at;
    return true;
}

int
fh_hv_pages_alloc(struct fh_hv_domain *granter,
                  const struct fh_hv_domain *grantee, bool is_writable,
                  uint32_t n, struct fh_hv_file **out, uint32_t *page)
{
    struct fh_hv_file *file;
    int r;

    LIST_FOREACH(file, &granter->files, link) {
        if (file->grantee == grantee->uid &&
            file->is_writable == is_writable && file_take(file, n, page))
            goto found;
    }
    r = file_new(granter, grantee, is_writable, n, &file);
    if (r)
        return r;
    if (!file_take(file, n, page))
        return FH_EIO; /* cannot be: it is empty and large enough */
found:
    granter->n_shared += n;
    granter->hv->n_pages_used += n;
    *out = file;
    return 0;
}

/* Memory goes back to the system; where it cannot, the bytes still go. */
static void
pages_clear(struct fh_hv_file *file, uint32_t page, uint32_t n)
{
    if (!fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                   (off_t)page * FH_PAGE_BYTES, (off_t)n * FH_PAGE_BYTES))
        return;
    uint8_t *addr = fh_hv_frame_addr(file->granter->hv, fh_hv_mfn(file, page));

    if (addr)
        memset(addr, 0, (size_t)n * FH_PAGE_BYTES);
}

void
fh_hv_pages_free(struct fh_hv_file *file, uint32_t page, uint32_t n)
{
    pages_clear(file, page, n);
    for (uint32_t i = page; i < page + n; i++) {
        file->used[i / 64] &= ~(1ull << (i % 64));
        fh_store_relaxed32(&file->frames[i].word, 0);
    }
    file->n_used -= n;
    file->granter->n_shared -= n;
    file->granter->hv->n_pages_used -= n;
    if (!file_is_wanted(file))
        file_destroy(file);
}

static struct fh_hv_file *
group_file(const struct fh_hv *hv, uint64_t group)
{
    /* D4 acquire, pairs with D3. */
    return (struct fh_hv_file *)(uintptr_t)fh_load_acquire64(
        &hv->groups[group]);
}

struct fh_hv_file *
fh_hv_file_of(const struct fh_hv *hv, uint64_t mfn)
{
    const uint64_t group = mfn / FH_HV_FILE_PAGES;

    return group < FH_HV_GROUPS_MAX ? group_file(hv, group) : NULL;
}

struct fh_hv_file *
fh_hv_file_find(const struct fh_hv *hv, uint64_t id)
{
    struct fh_hv_file *file = group_file(hv, id % FH_HV_GROUPS_MAX);

    return file && file->id == id ? file : NULL;
}

struct fh_hv_frame *
fh_hv_frame_in(const struct fh_hv_file *file, uint64_t mfn)
{
    return &file->frames[mfn - fh_hv_mfn(file, 0)];
}

/* Our own mapping of the file.  Two threads may both make it; one wins. */
static uint8_t *
file_mem(struct fh_hv_file *file)
{
    const size_t bytes = (size_t)file->n_pages * FH_PAGE_BYTES;
    uint64_t addr = fh_load_acquire64(&file->mem);

    if (addr)
        return (uint8_t *)(uintptr_t)addr;
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd,
                     0);

    if (mem == MAP_FAILED)
        return NULL;
    if (fh_cas64(&file->mem, &addr, (uintptr_t)mem))
        return mem;
    munmap(mem, bytes);
    return (uint8_t *)(uintptr_t)addr;
}

uint8_t *
fh_hv_frame_addr(const struct fh_hv *hv, uint64_t mfn)
{
    struct fh_hv_file *file = fh_hv_file_of(hv, mfn);
    uint8_t *mem = file ? file_mem(file) : NULL;

    return mem ? mem + (mfn - fh_hv_mfn(file, 0)) * FH_PAGE_BYTES : NULL;
}

int
fh_hv_file_grantee_fd(const struct fh_hv_file *file)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
    int fd = open(path, (file->is_writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}
