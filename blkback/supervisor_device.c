/* SPDX-License-Identifier: MIT */
/*
 * A device of the supervisor: its names, its storage, and the nodes of those
 * that the control socket asks for.  For these we are the toolstack: both
 * directories and their permissions in one transaction, and their end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <fcntl.h>
#include <errno.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/supervisor_state.h"
#include "blkback/uring.h"


enum {
    VALUE_BYTES = 64,
    XVD_MAJOR = 202,
    XVD_STEP = 16,         /* partitions of a short-numbered disk */
    XVD_SHORT = 16,        /* xvda .. xvdp have short numbers */
    XVD_EXT = 1 << 28,     /* the others */
    XVD_EXT_STEP = 256,
    XVD_LETTERS = 26,
};

int
fh_sup_vdev_parse(const char *text, uint32_t *devid)
{
    uint32_t n;

    if (!fh_xenbus_parse_u32(text, strlen(text), INT32_MAX, devid))
        return 0;
    if (strncmp(text, "xvd", 3) || text[3] < 'a' || text[3] > 'z')
        return FH_EINVAL;
    n = (uint32_t)(text[3] - 'a');
    if (text[4]) {
        if (text[4] < 'a' || text[4] > 'z' || text[5])
            return FH_EINVAL;
        n = (n + 1) * XVD_LETTERS + (uint32_t)(text[4] - 'a');
    }
    *devid = n < XVD_SHORT ? XVD_MAJOR << 8 | n * XVD_STEP
                           : XVD_EXT | n * XVD_EXT_STEP;
    return 0;
}

void
fh_sup_vdev_name(uint32_t devid, char *text, size_t size)
{
    const uint32_t base = XVD_MAJOR << 8;
    uint32_t n;

    if (devid >= base && devid < base + XVD_SHORT * XVD_STEP &&
        devid % XVD_STEP == 0)
        n = (devid - base) / XVD_STEP;
    else if (devid >= XVD_EXT && devid % XVD_EXT_STEP == 0 &&
             (devid - XVD_EXT) / XVD_EXT_STEP < XVD_LETTERS * 27)
        n = (devid - XVD_EXT) / XVD_EXT_STEP;
    else {
        snprintf(text, size, "%u", devid);
        return;
    }
    if (n < XVD_LETTERS)
        snprintf(text, size, "xvd%c", 'a' + n);
    else
        snprintf(text, size, "xvd%c%c", 'a' + n / XVD_LETTERS - 1,
                 'a' + n % XVD_LETTERS);
}

struct fh_sup_device *
fh_sup_find(struct fh_sup *s, uint32_t domid, uint32_t devid)
{
    struct fh_sup_device *d = s->devices;

    while (d && (d->dev.p.domid != domid || d->dev.p.devid != devid))
        d = d->next;
    return d;
}

static bool
exists(struct fh_sup *s, const char *path)
{
    struct fh_plat *pl = &s->xen.plat;
    char value[VALUE_BYTES];
    size_t len;
    int r = pl->ops->xs_read(pl, 0, path, value, sizeof(value), &len);

    return r == 0 || r == FH_ERANGE;
}

static void
front_path_of(char *path, size_t size, uint32_t domid, uint32_t devid)
{
    snprintf(path, size, "/local/domain/%u/device/vbd/%u", domid, devid);
}

int
fh_sup_vdev_free(struct fh_sup *s, uint32_t domid, uint32_t *devid)
{
    char path[64];

    for (uint32_t n = 0; n < FH_SUP_MAX_PER_DOMAIN; n++) {
        uint32_t id = n < XVD_SHORT ? (uint32_t)XVD_MAJOR << 8 | n * XVD_STEP
                                    : XVD_EXT | n * XVD_EXT_STEP;

        front_path_of(path, sizeof(path), domid, id);
        if (fh_sup_find(s, domid, id) || exists(s, path))
            continue;
        *devid = id;
        return 0;
    }
    return FH_ENOSPC;
}

static uint32_t
count_of(struct fh_sup *s, uint32_t domid)
{
    uint32_t n = 0;

    for (struct fh_sup_device *d = s->devices; d; d = d->next)
        n += d->dev.p.domid == domid;
    return n;
}

struct fh_sup_device *
fh_sup_device_new(struct fh_sup *s, const struct fh_sup_attach *a, char *why)
{
    struct fh_sup_device *d = NULL;

    if (s->n_devices >= FH_SUP_MAX_DEVICES ||
        count_of(s, a->domid) >= FH_SUP_MAX_PER_DOMAIN)
        snprintf(why, FH_IMAGE_TEXT_MAX,
                 "too many disks: at most %d, and %d for a domain",
                 FH_SUP_MAX_DEVICES, FH_SUP_MAX_PER_DOMAIN);
    else if (!(d = calloc(1, sizeof(*d))))
        snprintf(why, FH_IMAGE_TEXT_MAX, "out of memory");
    if (!d)
        return NULL;
    d->sup = s;
    d->number = s->next_disk++;
    d->rec_fd = d->opening_fd = -1;
    d->image.fd = d->image.lock_fd = -1;
    d->latency_ns = a->latency_ns;
    d->dev.p.domid = (uint16_t)a->domid;
    d->dev.p.devid = a->devid;
    snprintf(d->vdev, sizeof(d->vdev), "%s", a->vdev);
    snprintf(d->name, sizeof(d->name), "%s", a->name ? a->name : "");
    d->next = s->devices;
    s->devices = d;
    s->n_devices++;
    return d;
}

void
fh_sup_device_free(struct fh_sup_device *d)
{
    struct fh_sup_device **at = &d->sup->devices;

    while (*at != d)
        at = &(*at)->next;
    *at = d->next;
    d->sup->n_devices--;
    if (d->dev.p.plat)
        fh_device_fini(&d->dev);
    fh_sup_state_forget(d);
    fh_image_close(&d->image);
    if (d->opening_fd >= 0)
        close(d->opening_fd);
    if (d->rec_fd >= 0)
        close(d->rec_fd);
    free(d);
}

static int
check_conflicts(struct fh_sup_device *d, char *why)
{
    for (struct fh_sup_device *o = d->sup->devices; o; o = o->next)
        if (o != d && !o->refused && fh_image_conflicts(&o->image, &d->image)) {
            snprintf(why, FH_IMAGE_TEXT_MAX,
                     "%.150s is attached to domain %u as %s already",
                     d->image.target, o->dev.p.domid, o->vdev);
            return FH_EBUSY;
        }
    return 0;
}

int
fh_sup_open_storage(struct fh_sup_device *d, const struct fh_sup_attach *a,
                    char *why)
{
    int r = fh_image_open(&d->image, a->target, a->read_only, a->shared, why);

    if (!r)
        r = check_conflicts(d, why);
    if (r)
        return r;
    if (d->image.lost_bytes)
        fh_sup_log(d->sup, "%s: the last %u bytes are no whole sector and are "
                   "left out", a->target, (unsigned)d->image.lost_bytes);
    r = fh_sup_recovery_make(d);
    if (r)
        snprintf(why, FH_IMAGE_TEXT_MAX, "recovery state: %s", strerror(-r));
    return r;
}

int
fh_sup_start_device(struct fh_sup_device *d, const struct fh_sup_attach *a,
                    const struct fh_sup_state *st)
{
    char path[FH_DEVICE_PATH_MAX];
    struct fh_device_params p = {
        .plat = &d->sup->xen.plat,
        .ops = &fh_sup_device_ops,
        .user = d,
        .path = path,
        .own_domid = d->sup->domid,
        .domid = (uint16_t)a->domid,
        .devid = a->devid,
        .grants = a->grants,
        .max_order = a->max_order,
        .max_indirect = d->sup->p.max_indirect,
        .owned = d->owned,
        .watched = true,
        .read_only = d->image.read_only,
        .n_sectors = d->image.n_sectors,
        .physical_sector_bytes = d->image.physical_sector_bytes,
    };
    int r;

    snprintf(path, sizeof(path), "%s/%u/%u", d->sup->base, a->domid, a->devid);
    r = fh_device_init(&d->dev, &p);
    if (!r && st)
        fh_device_restore(&d->dev, (enum fh_device_phase)st->phase,
                          st->has_queue ? &st->queue : NULL, st->front_seen_4);
    if (!r)
        r = fh_device_start(&d->dev);
    if (!r && !st)
        fh_sup_state_save(d);
    return r;
}

/* --- we are the toolstack --- */

struct node {
    const char *key;
    const char *value;
};

static int
write_dir(struct fh_plat *pl, uint32_t txn, const char *dir,
          const struct fh_plat_perm perms[2], const struct node *nodes,
          size_t n)
{
    char path[FH_DEVICE_PATH_MAX];
    int r = pl->ops->xs_mkdir(pl, txn, dir);

    if (!r) /* children inherit them */
        r = pl->ops->xs_set_perms(pl, txn, dir, perms, 2);
    for (size_t i = 0; i < n && !r; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, nodes[i].key);
        r = pl->ops->xs_write(pl, txn, path, nodes[i].value);
    }
    return r;
}

struct texts {
    char back[FH_DEVICE_PATH_MAX];
    char front[FH_DEVICE_PATH_MAX];
    char params[FH_IMAGE_TARGET_MAX + sizeof(FH_SUP_PREFIX)];
    char own[8], domid[8], devid[16];
};

static int
write_backend(struct fh_sup *s, uint32_t txn, const struct fh_sup_attach *a,
              const struct texts *t)
{
    const struct fh_plat_perm perms[2] = {
        { .domid = s->domid },
        { .domid = (uint16_t)a->domid, .read = true },
    };
    const struct node nodes[] = {
        { "frontend", t->front },   { "frontend-id", t->domid },
        { "online", "1" },          { "state", "1" },
        { "params", t->params },    { "type", FH_SUP_TYPE },
        { "dev", a->vdev },         { "mode", a->read_only ? "r" : "w" },
        { "device-type", "disk" },  { "removable", "0" },
        { "bootable", "1" },        { "name", a->name ? a->name : "" },
    };

    struct fh_plat *pl = &s->xen.plat;
    char path[FH_DEVICE_PATH_MAX + 8];
    int r = write_dir(pl, txn, t->back, perms, nodes,
                      FH_ARRAY_SIZE(nodes) - !a->name);

    /* Where the image is on this host is nothing for the guest to read. */
    snprintf(path, sizeof(path), "%s/params", t->back);
    return r ? r : pl->ops->xs_set_perms(pl, txn, path, perms, 1);
}

static int
write_frontend(struct fh_sup *s, uint32_t txn, const struct fh_sup_attach *a,
               const struct texts *t)
{
    const struct fh_plat_perm perms[2] = {
        { .domid = (uint16_t)a->domid },
        { .domid = s->domid, .read = true },
    };
    const struct node nodes[] = {
        { "backend", t->back },         { "backend-id", t->own },
        { "virtual-device", t->devid }, { "device-type", "disk" },
        { "state", "1" },
    };

    return write_dir(&s->xen.plat, txn, t->front, perms, nodes,
                     FH_ARRAY_SIZE(nodes));
}

/* One attempt at both directories. */
static int
write_nodes_once(struct fh_sup *s, const struct fh_sup_attach *a,
                 const struct texts *t)
{
    struct fh_plat *pl = &s->xen.plat;
    uint32_t txn;
    int r = pl->ops->xs_begin(pl, &txn);
    int e;

    if (r)
        return r;
    r = write_backend(s, txn, a, t);
    if (!r)
        r = write_frontend(s, txn, a, t);
    e = pl->ops->xs_end(pl, txn, r != 0);
    return r ? r : e;
}

static int
write_nodes(struct fh_sup *s, const struct fh_sup_attach *a, char *why)
{
    struct texts t;
    int r = FH_PLAT_E_CONFLICT;

    snprintf(t.back, sizeof(t.back), "%s/%u/%u", s->base, a->domid, a->devid);
    front_path_of(t.front, sizeof(t.front), a->domid, a->devid);
    snprintf(t.params, sizeof(t.params), FH_SUP_PREFIX "%s", a->target);
    snprintf(t.own, sizeof(t.own), "%u", (unsigned)s->domid);
    snprintf(t.domid, sizeof(t.domid), "%u", (unsigned)(uint16_t)a->domid);
    snprintf(t.devid, sizeof(t.devid), "%u", a->devid);
    for (int i = 0; i < FH_DEVICE_TXN_TRIES && r == FH_PLAT_E_CONFLICT; i++)
        r = write_nodes_once(s, a, &t);
    if (!r)
        return 0;
    snprintf(why, FH_IMAGE_TEXT_MAX, "cannot write the nodes of domain %u: %s",
             a->domid, r < 0 ? strerror(-r) : "xenstore is busy");
    return r < 0 ? r : FH_EBUSY;
}

static void
remove_dir(struct fh_plat *pl, const char *dir)
{
    (void)pl->ops->xs_rm(pl, 0, dir);
}

/* A directory that is empty now goes as well. */
static void
remove_if_empty(struct fh_plat *pl, const char *dir)
{
    char names[64];
    uint32_t n;

    if (pl->ops->xs_list(pl, 0, dir, names, sizeof(names), &n) == 0 && n == 0)
        remove_dir(pl, dir);
}

void
fh_sup_remove_dirs(struct fh_sup *s, uint32_t domid, uint32_t devid)
{
    struct fh_plat *pl = &s->xen.plat;
    char path[FH_DEVICE_PATH_MAX];

    front_path_of(path, sizeof(path), domid, devid);
    remove_dir(pl, path);
    snprintf(path, sizeof(path), "%s/%u/%u", s->base, domid, devid);
    remove_dir(pl, path);
    snprintf(path, sizeof(path), "%s/%u", s->base, domid);
    remove_if_empty(pl, path);
}

void
fh_sup_remove_nodes(struct fh_sup_device *d)
{
    fh_sup_remove_dirs(d->sup, d->dev.p.domid, d->dev.p.devid);
}

static const char *
io_uring_advice(int r)
{
    switch (r) {
    case FH_EMFILE:
    case FH_ENFILE:
        return "ulimit -n";
    case FH_ENOMEM:
        return "its rings are locked memory: ulimit -l";
    }
    return "Linux 6.1 or newer, and kernel.io_uring_disabled = 0, are needed";
}

/* A worker sleeps in io_uring, whatever its disks are: without it the guest
 * would wait for a disk that never comes. */
static int
check_io_uring(char *why)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER |
                 IORING_SETUP_DEFER_TASKRUN,
        .cq_entries = FH_URING_CQES,
    };
    int fd = (int)syscall(SYS_io_uring_setup, FH_URING_SQES, &p);
    int r = fd < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    if (r)
        snprintf(why, FH_IMAGE_TEXT_MAX, "io_uring is not available: %s (%s)",
                 strerror(-r), io_uring_advice(r));
    return r;
}

static int
check_attach(struct fh_sup *s, const struct fh_sup_attach *a, char *why)
{
    char path[64];

    snprintf(path, sizeof(path), "/local/domain/%u", a->domid);
    if (!exists(s, path)) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "there is no domain %u; `freehold hv "
                 "create` makes one (on Xen: xl create)", a->domid);
        return FH_ENOENT;
    }
    front_path_of(path, sizeof(path), a->domid, a->devid);
    if (fh_sup_find(s, a->domid, a->devid) || exists(s, path)) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "domain %u has a disk %s already",
                 a->domid, a->vdev);
        return FH_EEXIST;
    }
    return check_io_uring(why);
}

int
fh_sup_attach(struct fh_sup *s, const struct fh_sup_attach *a,
              struct fh_sup_device **out, char *why)
{
    struct fh_sup_device *d;
    int r = check_attach(s, a, why);

    if (r)
        return r;
    d = fh_sup_device_new(s, a, why);
    if (!d)
        return FH_ENOSPC;
    d->owned = true;
    r = fh_sup_open_storage(d, a, why);
    if (!r) { /* first: whoever finds these nodes after our death asks for it */
        d->dev.p.grants = a->grants;
        d->dev.p.max_order = a->max_order;
        fh_sup_state_save(d);
        r = write_nodes(s, a, why);
    }
    if (!r) {
        r = fh_sup_start_device(d, a, NULL);
        if (r) {
            snprintf(why, FH_IMAGE_TEXT_MAX, "cannot watch the device: %s",
                     strerror(-r));
            fh_sup_remove_dirs(s, a->domid, a->devid);
        }
    }
    if (r)
        fh_sup_device_free(d);
    else
        *out = d;
    return r;
}
