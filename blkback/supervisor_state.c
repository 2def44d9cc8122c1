/* SPDX-License-Identifier: MIT */
/* See supervisor_state.h. */
#include "blkback/supervisor_state.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <unistd.h>
#include "base/arith.h"

enum {
    NAME = 48,
    /* Other programs live in /run as well: so much stays free. */
    ROOM_BYTES = 16 << 20,
};

/* What a recovery file of one queue will ever fill: claimed at once, because a
 * page that is missing later would kill the worker. */
#define CLAIM_BYTES offsetof(struct fh_rec_file, queue[1])

static void
disk_name(char *name, uint32_t domid, uint32_t devid, const char *tail)
{
    snprintf(name, NAME, "d-%u-%u%s", domid, devid, tail);
}

static void
worker_name(char *name, uint32_t number, const char *tail)
{
    snprintf(name, NAME, "w-%u%s", number, tail);
}

static void
read_boot_id(char *boot)
{
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

    memset(boot, 0, FH_SUP_BOOT_MAX);
    if (fd < 0)
        return;
    if (read(fd, boot, FH_SUP_BOOT_MAX - 1) < 0)
        memset(boot, 0, FH_SUP_BOOT_MAX);
    close(fd);
}

int
fh_sup_state_open(struct fh_sup *s)
{
    char path[FH_DEVICE_PATH_MAX + 8];
    struct stat st;

    read_boot_id(s->boot);
    snprintf(path, sizeof(path), "%s/state", s->run_dir);
    if (mkdir(path, 0700) && errno != EEXIST)
        return -errno;
    s->state_fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (s->state_fd < 0)
        return -errno;
    /* Somebody else's directory would be somebody else's workers. */
    if (fstat(s->state_fd, &st) || st.st_uid != geteuid())
        return FH_EACCES;
    return fchmod(s->state_fd, 0700) ? -errno : 0;
}

void
fh_sup_state_close(struct fh_sup *s, bool remove)
{
    char path[FH_DEVICE_PATH_MAX + 8];

    if (s->state_fd < 0)
        return;
    close(s->state_fd);
    s->state_fd = -1;
    snprintf(path, sizeof(path), "%s/state", s->run_dir);
    if (remove)
        rmdir(path);
}

void
fh_sup_state_each(struct fh_sup *s,
                  void (*each)(struct fh_sup *s, const char *name))
{
    int fd = openat(s->state_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    while (dir && (e = readdir(dir)))
        if (strlen(e->d_name) < NAME)
            each(s, e->d_name);
    if (dir)
        closedir(dir);
    else if (fd >= 0)
        close(fd);
}

/* --- disks --- */

static void
fill_state(const struct fh_sup_device *d, struct fh_sup_state *st)
{
    const struct fh_sup_worker *w = d->worker;

    memset(st, 0, sizeof(*st)); /* padding too: it is compared */
    st->head.magic = FH_SUP_STATE_MAGIC;
    st->head.version = FH_SUP_STATE_VERSION;
    st->head.bytes = sizeof(*st);
    st->head.domid = d->dev.p.domid;
    st->head.devid = d->dev.p.devid;
    memcpy(st->head.boot, d->sup->boot, sizeof(st->head.boot));
    if (w) {
        st->head.worker = w->number;
        st->worker_domid = w->domid;
        st->worker_split = w->is_split;
        st->worker_uid = w->uid;
    }
    st->number = d->number;
    st->phase = d->dev.phase;
    st->has_queue = d->dev.has_queue;
    st->front_seen_4 = d->dev.front_seen_4;
    st->was_served = d->was_served;
    st->grants = d->dev.p.grants;
    st->max_order = d->dev.p.max_order;
    st->latency_ns = d->latency_ns;
    st->restarts = d->restarts;
    st->longest_pause_ns = d->longest_pause_ns;
    st->queue = d->dev.queue;
    st->base = d->base;
    st->image = d->image;
    st->image.fd = st->image.lock_fd = -1;
    memcpy(st->name, d->name, sizeof(st->name));
}

/* The file is there as a whole, old or new, whenever we die. */
static int
replace_file(struct fh_sup *s, const char *name, const void *data, size_t n)
{
    int fd = openat(s->state_fd, "new",
                    O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int r = 0;

    if (fd < 0)
        return -errno;
    errno = ENOSPC;
    if (write(fd, data, n) != (ssize_t)n ||
        renameat(s->state_fd, "new", s->state_fd, name))
        r = -errno;
    close(fd);
    return r;
}

int
fh_sup_state_save(struct fh_sup_device *d)
{
    struct fh_sup_state st;
    char name[NAME];
    int r;

    fill_state(d, &st);
    disk_name(name, d->dev.p.domid, d->dev.p.devid, "");
    r = replace_file(d->sup, name, &st, sizeof(st));
    if (r)
        fh_sup_log(d->sup, "domain %u %s: cannot save its state: %s",
                   d->dev.p.domid, d->vdev, strerror(-r));
    d->saved_phase = d->dev.phase;
    d->saved_seen_4 = d->dev.front_seen_4;
    return r;
}

void
fh_sup_state_remove(struct fh_sup *s, uint32_t domid, uint32_t devid)
{
    char name[NAME];

    disk_name(name, domid, devid, ".rec");
    unlinkat(s->state_fd, name, 0);
    disk_name(name, domid, devid, "");
    unlinkat(s->state_fd, name, 0);
}

void
fh_sup_state_forget(struct fh_sup_device *d)
{
    if (!d->sup->is_leaving)
        fh_sup_state_remove(d->sup, d->dev.p.domid, d->dev.p.devid);
}

static bool
is_ours(const struct fh_sup *s, const struct fh_sup_state_head *h,
        const char *name)
{
    char want[NAME];

    disk_name(want, h->domid, h->devid, "");
    return h->magic == FH_SUP_STATE_MAGIC && !strcmp(want, name) &&
           !memcmp(h->boot, s->boot, sizeof(h->boot));
}

static bool
state_valid(const struct fh_sup_state *st)
{
    const struct fh_image *img = &st->image;

    return st->head.domid <= UINT16_MAX &&
           st->head.worker <= FH_SUP_MAX_WORKERS &&
           st->phase < FH_DEVICE_OVER &&
           st->grants <= FH_DEVICE_GRANTS_MAP &&
           st->max_order <= FH_DEVICE_MAX_ORDER &&
           st->queue.order <= FH_DEVICE_MAX_ORDER &&
           img->store <= FH_WK_STORE_NULL &&
           memchr(img->target, 0, sizeof(img->target)) &&
           memchr(st->name, 0, sizeof(st->name));
}

int
fh_sup_state_load(struct fh_sup *s, const char *name, struct fh_sup_state *st)
{
    int fd = openat(s->state_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, st, sizeof(*st));
    int r = n < 0 ? -errno : 0;

    if (fd >= 0)
        close(fd);
    if (r)
        return r;
    if (n < (ssize_t)sizeof(st->head) || !is_ours(s, &st->head, name))
        return FH_SUP_STATE_E_JUNK;
    if (st->head.version != FH_SUP_STATE_VERSION ||
        st->head.bytes != sizeof(*st) || n != (ssize_t)sizeof(*st))
        return FH_SUP_STATE_E_OTHER;
    return state_valid(st) ? 0 : FH_SUP_STATE_E_JUNK;
}

int
fh_sup_state_check(struct fh_sup *s, uint32_t domid, uint32_t devid, char *why)
{
    struct fh_sup_state st;
    char name[NAME];
    bool held;
    int fd;

    disk_name(name, domid, devid, "");
    if (fh_sup_state_load(s, name, &st) != FH_SUP_STATE_E_OTHER)
        return 0;
    fd = fh_sup_fence_find(s, st.head.worker);
    held = fd >= 0 && fh_sup_fence_is_held(fd);
    if (fd >= 0)
        close(fd);
    if (!held)
        return 0;
    snprintf(why, FH_IMAGE_TEXT_MAX, "worker %u of another version of freehold "
             "serves it, and goes on; it is ours when that worker has ended",
             st.head.worker);
    return FH_EBUSY;
}

/* --- recovery files --- */

/* Memory that has a name: on a disk, every store to it could wait for that. */
static bool
is_place_for_recovery(const struct fh_sup *s)
{
    struct statfs fs;

    return !fstatfs(s->state_fd, &fs) && fs.f_type == TMPFS_MAGIC &&
           (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize >
               CLAIM_BYTES + ROOM_BYTES;
}

/* In the directory; -1: not. */
static int
recovery_in_dir(struct fh_sup_device *d)
{
    char name[NAME];
    int fd;

    if (!is_place_for_recovery(d->sup))
        return -1;
    disk_name(name, d->dev.p.domid, d->dev.p.devid, ".rec");
    unlinkat(d->sup->state_fd, name, 0);
    fd = openat(d->sup->state_fd, name,
                O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (!fallocate(fd, 0, 0, (off_t)CLAIM_BYTES) &&
        !ftruncate(fd, (off_t)sizeof(struct fh_rec_file)))
        return fd;
    unlinkat(d->sup->state_fd, name, 0);
    close(fd);
    return -1;
}

static int
recovery_in_memory(void)
{
    int fd = memfd_create("freehold-recovery", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    if (fd >= 0 && (ftruncate(fd, (off_t)sizeof(struct fh_rec_file)) ||
                    fcntl(fd, F_ADD_SEALS, seals))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static void
fill_header(const struct fh_sup_device *d, struct fh_rec_header *h)
{
    *h = (struct fh_rec_header){
        .magic = FH_REC_MAGIC,
        .version = FH_REC_VERSION,
        .n_queues = FH_REC_MAX_QUEUES,
        .disk_sectors = d->image.n_sectors,
        .domid = d->dev.p.domid,
        .devid = d->dev.p.devid,
        .connection = d->number,
    };
}

int
fh_sup_recovery_make(struct fh_sup_device *d)
{
    struct fh_rec_header h;

    if (d->rec_fd >= 0)
        close(d->rec_fd);
    fill_header(d, &h);
    d->rec_fd = recovery_in_dir(d);
    d->rec_is_named = d->rec_fd >= 0;
    if (d->rec_fd < 0)
        d->rec_fd = recovery_in_memory();
    if (d->rec_fd < 0 || pwrite(d->rec_fd, &h, sizeof(h), 0) != sizeof(h))
        return -errno;
    return 0;
}

int
fh_sup_recovery_find(struct fh_sup_device *d)
{
    struct fh_rec_header want, h;
    char name[NAME];
    struct stat st;

    disk_name(name, d->dev.p.domid, d->dev.p.devid, ".rec");
    d->rec_fd = openat(d->sup->state_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (d->rec_fd < 0)
        return -errno;
    fill_header(d, &want);
    if (!fstat(d->rec_fd, &st) &&
        st.st_size == (off_t)sizeof(struct fh_rec_file) &&
        pread(d->rec_fd, &h, sizeof(h), 0) == sizeof(h)) {
        want.sticky_error = h.sticky_error;
        d->rec_is_named = !memcmp(&h, &want, offsetof(struct fh_rec_header,
                                                      pad));
    }
    if (d->rec_is_named)
        return 0;
    close(d->rec_fd);
    d->rec_fd = -1;
    return FH_EINVAL;
}

/* --- workers --- */

int
fh_sup_fence_find(struct fh_sup *s, uint32_t number)
{
    char name[NAME];
    struct stat st;
    int fd;

    worker_name(name, number, ".fence");
    fd = openat(s->state_fd, name,
                O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (!fstat(fd, &st) && S_ISFIFO(st.st_mode))
        return fd;
    close(fd);
    return FH_EINVAL;
}

bool
fh_sup_fence_is_held(int fd)
{
    char byte;

    /* What a worker wrote there means nothing, only the end does. */
    return read(fd, &byte, 1) != 0;
}

int
fh_sup_fence_make(struct fh_sup *s, uint32_t number, int ends[2])
{
    char name[NAME];

    worker_name(name, number, ".fence");
    if (mkfifoat(s->state_fd, name, 0600) && errno != EEXIST)
        return -errno;
    ends[0] = fh_sup_fence_find(s, number);
    if (ends[0] < 0)
        return ends[0];
    ends[1] = openat(s->state_fd, name, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return ends[1] < 0 ? -errno : 0;
}

/* By the directory's descriptor: a run directory's path may be long. */
static void
socket_address(const struct fh_sup *s, uint32_t number, struct sockaddr_un *sa)
{
    char name[NAME];

    worker_name(name, number, "");
    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(sa->sun_path, sizeof(sa->sun_path), "/proc/self/fd/%d/%s",
             s->state_fd, name);
}

int
fh_sup_socket_make(struct fh_sup *s, uint32_t number, int fds[2])
{
    struct sockaddr_un sa;
    char name[NAME];

    worker_name(name, number, "");
    unlinkat(s->state_fd, name, 0);
    socket_address(s, number, &sa);
    fds[0] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fds[0] < 0 || bind(fds[0], (struct sockaddr *)&sa, sizeof(sa)))
        return -errno;
    fds[1] = openat(s->state_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    return fds[1] < 0 ? -errno : 0;
}

int
fh_sup_socket_find(struct fh_sup *s, uint32_t number)
{
    struct sockaddr_un sa;
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    socket_address(s, number, &sa);
    if (fd < 0 || !connect(fd, (struct sockaddr *)&sa, sizeof(sa)))
        return fd < 0 ? -errno : fd;
    r = -errno;
    close(fd);
    return r;
}

void
fh_sup_worker_forget(struct fh_sup *s, uint32_t number)
{
    char name[NAME];

    if (s->is_leaving)
        return;
    worker_name(name, number, "");
    unlinkat(s->state_fd, name, 0);
    worker_name(name, number, ".fence");
    unlinkat(s->state_fd, name, 0);
}
