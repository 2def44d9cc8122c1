/* SPDX-License-Identifier: MIT */
/*
 * Opening what stands behind a disk.  Order: open without side effects, look
 * at what it is, size it, lock it; only then is it used.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/image.h"

enum {
    PROBE_BYTES = 4096,
    MAX_ALIGNMENT = 512, /* of direct I/O: guests send single sectors */
    READER_BYTES = 64,   /* a reader locks the first bytes only: other programs
                            keep locks of their own further up */
};

/* Every description that a writing worker gets holds a read lock here; a writer
 * excludes everybody below.  The mark goes only when the kernel has let go of
 * the worker's last I/O: it outlives worker and supervisor. */
#define WORKER_BYTE (1ll << 62)

static int __attribute__((format(printf, 3, 4)))
refuse(int error, char *why, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(why, FH_IMAGE_TEXT_MAX, fmt, ap);
    va_end(ap);
    return error;
}

int
fh_image_parse_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "kmgt";
    unsigned shift = 0;
    const char *u;
    char *end;
    uint64_t n;

    if (*text < '0' || *text > '9')
        return FH_EINVAL;
    errno = 0;
    n = strtoull(text, &end, 10);
    if (errno)
        return FH_ERANGE;
    if (*end) {
        u = strchr(units, *end | 0x20);
        if (!u || end[1])
            return FH_EINVAL;
        shift = 10 * (unsigned)(u - units + 1);
    }
    if (n > (uint64_t)INT64_MAX >> shift)
        return FH_ERANGE;
    n <<= shift;
    if (n == 0 || n % FH_SECTOR_BYTES)
        return FH_EINVAL;
    *bytes = n;
    return 0;
}

/* MemAvailable, in bytes; UINT64_MAX when it is not told. */
static uint64_t
memory_available(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    uint64_t kib, n = UINT64_MAX;

    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "MemAvailable: %" SCNu64, &kib) == 1)
            n = kib << 10;
    if (f)
        fclose(f);
    return n;
}

/* Sparse; but what could never be filled would kill its worker one day. */
static int
open_mem(struct fh_image *img, uint64_t bytes, char *why)
{
    uint64_t room = memory_available();
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

    if (bytes > room)
        return refuse(FH_ENOMEM, why, "%s: only %" PRIu64 " MiB of memory are "
                      "available", img->target, room >> 20);
    img->fd = memfd_create("freehold-disk", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (img->fd < 0 || ftruncate(img->fd, (off_t)bytes) ||
        fcntl(img->fd, F_ADD_SEALS, seals))
        return refuse(-errno, why, "%s: %s", img->target, strerror(errno));
    return 0;
}

/* "mem:SIZE" and "null:SIZE". */
static int
open_virtual(struct fh_image *img, const char *size, char *why)
{
    uint64_t bytes;

    if (fh_image_parse_size(size, &bytes))
        return refuse(FH_EINVAL, why,
                      "%s: the size must be a multiple of 512 bytes, such as "
                      "64m or 1g", img->target);
    img->n_sectors = bytes / FH_SECTOR_BYTES;
    img->physical_sector_bytes = FH_SECTOR_BYTES;
    img->alignment = FH_SECTOR_BYTES;
    return img->store == FH_WK_STORE_MEM ? open_mem(img, bytes, why) : 0;
}

static const char *
kind_name(mode_t mode)
{
    if (S_ISDIR(mode))
        return "is a directory";
    if (S_ISFIFO(mode))
        return "is a fifo";
    if (S_ISSOCK(mode))
        return "is a socket";
    if (S_ISCHR(mode))
        return "is a character device";
    return "is neither a file nor a block device";
}

/* Looks before opening: a fifo or a tape would be changed by being opened. */
static int
check_kind(struct fh_image *img, char *why)
{
    struct stat st;

    if (img->target[0] != '/')
        return refuse(FH_EINVAL, why,
                      "%s: the path must be absolute (or mem:SIZE, null:SIZE)",
                      img->target);
    if (stat(img->target, &st))
        return refuse(-errno, why, "%s: %s", img->target, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return refuse(FH_EINVAL, why, "%s %s, not a disk image", img->target,
                      kind_name(st.st_mode));
    img->is_block = S_ISBLK(st.st_mode);
    return 0;
}

/* O_EXCL on a block device: refused while it is mounted, or part of another
 * one, and nobody can mount it while we have it. */
static int
open_flags(const struct fh_image *img)
{
    const bool claim = img->is_block && !img->read_only && !img->shared;

    return (img->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK |
           O_NOCTTY | (claim ? O_EXCL : 0);
}

/* Is a worker still writing whose backend is gone? */
static bool
has_stray_writer(int fd)
{
    struct flock fl = {
        .l_type = F_WRLCK,
        .l_whence = SEEK_SET,
        .l_start = WORKER_BYTE,
        .l_len = 1,
    };

    /* A description that only reads may not ask for a write lock. */
    if ((fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDONLY)
        return false;
    return !fcntl(fd, F_OFD_GETLK, &fl) && fl.l_type != F_UNLCK;
}

static void
mark_worker(const struct fh_image *img, int fd)
{
    struct flock fl = {
        .l_type = F_RDLCK,
        .l_whence = SEEK_SET,
        .l_start = WORKER_BYTE,
        .l_len = 1,
    };

    if (!img->read_only)
        (void)fcntl(fd, F_OFD_SETLK, &fl);
}

static int
take_lock(struct fh_image *img, char *why)
{
    bool reader = img->read_only || img->shared;
    struct flock fl = {
        .l_type = reader ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
        .l_len = reader ? READER_BYTES : WORKER_BYTE,
    };

    if (fcntl(img->lock_fd, F_OFD_SETLK, &fl)) {
        if (errno != EAGAIN && errno != EACCES)
            return 0; /* a file system without locks */
        return refuse(FH_EBUSY, why,
                      img->read_only
                          ? "%s is attached for writing elsewhere"
                          : "%s is in use elsewhere (a writer has it alone, "
                            "unless every attach is --shared)",
                      img->target);
    }
    if (!img->shared && has_stray_writer(img->lock_fd))
        return refuse(FH_EBUSY, why,
                      "%s: a worker of a backend that ended still writes to "
                      "it; try again",
                      img->target);
    return 0;
}

static int
measure(struct fh_image *img, const struct stat *st, char *why)
{
    uint64_t bytes = (uint64_t)st->st_size;
    unsigned physical = FH_SECTOR_BYTES;

    if (img->is_block) {
        if (ioctl(img->lock_fd, BLKGETSIZE64, &bytes) ||
            ioctl(img->lock_fd, BLKPBSZGET, &physical))
            return refuse(-errno, why, "%s: %s", img->target, strerror(errno));
    } else if (st->st_blksize == 4096) {
        physical = 4096;
    }
    img->n_sectors = bytes / FH_SECTOR_BYTES;
    img->lost_bytes = bytes % FH_SECTOR_BYTES;
    img->physical_sector_bytes = physical;
    if (img->n_sectors == 0)
        return refuse(FH_EINVAL, why, "%s is empty: a disk has at least 512 "
                      "bytes", img->target);
    /* The size must be a multiple of what is published. */
    if (img->n_sectors * FH_SECTOR_BYTES % img->physical_sector_bytes)
        img->physical_sector_bytes = FH_SECTOR_BYTES;
    return 0;
}

/* The alignment of direct I/O on @fd, or 0: not possible. */
static uint32_t
direct_alignment(int fd)
{
    uint32_t align = 0;
    void *probe;

#ifdef STATX_DIOALIGN
    struct statx stx;

    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
        (stx.stx_mask & STATX_DIOALIGN))
        return stx.stx_dio_offset_align > stx.stx_dio_mem_align
                   ? stx.stx_dio_offset_align
                   : stx.stx_dio_mem_align;
#endif
    /* Not told: try the smallest read that a guest may ask for. */
    probe = aligned_alloc(PROBE_BYTES, PROBE_BYTES);
    if (probe && pread(fd, probe, FH_SECTOR_BYTES, 0) == FH_SECTOR_BYTES)
        align = FH_SECTOR_BYTES;
    free(probe);
    return align;
}

/* Another description of the same storage, never by its path: that may name
 * something else by now. */
static int
reopen(int fd, int flags)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    fd = open(path, flags);
    return fd < 0 ? -errno : fd;
}

static int
worker_flags(const struct fh_image *img)
{
    return (img->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC |
           (img->direct ? O_DIRECT : 0);
}

static int
choose_direct(struct fh_image *img, char *why)
{
    uint32_t align;
    int fd;

    img->direct = true;
    img->alignment = FH_SECTOR_BYTES;
    fd = reopen(img->lock_fd, worker_flags(img));
    align = fd < 0 ? 0 : direct_alignment(fd);
    if (align == 0 || align > MAX_ALIGNMENT) {
        img->direct = false;
        if (fd >= 0)
            close(fd);
        fd = reopen(img->lock_fd, worker_flags(img));
    }
    if (fd < 0)
        return refuse(fd, why, "%s: %s", img->target, strerror(-fd));
    mark_worker(img, fd);
    img->fd = fd;
    return 0;
}

static int
open_file(struct fh_image *img, char *why)
{
    struct stat st;
    int r = check_kind(img, why);

    if (r)
        return r;
    img->lock_fd = open(img->target, open_flags(img));
    if (img->lock_fd < 0 && errno == EBUSY)
        return refuse(FH_EBUSY, why, "%s is mounted, or in use elsewhere",
                      img->target);
    if (img->lock_fd < 0)
        return refuse(-errno, why, "%s: cannot open it for %s: %s",
                      img->target, img->read_only ? "reading" : "writing",
                      strerror(errno));
    if (fstat(img->lock_fd, &st))
        return refuse(-errno, why, "%s: %s", img->target, strerror(errno));
    if (img->is_block ? !S_ISBLK(st.st_mode) : !S_ISREG(st.st_mode))
        return refuse(FH_EINVAL, why, "%s changed its kind", img->target);
    img->dev = img->is_block ? st.st_rdev : st.st_dev;
    img->ino = img->is_block ? 0 : st.st_ino;
    r = take_lock(img, why);
    if (!r)
        r = measure(img, &st, why);
    return r ? r : choose_direct(img, why);
}

int
fh_image_open(struct fh_image *img, const char *target, bool read_only,
              bool shared, char *why)
{
    int r;

    *img = (struct fh_image){
        .store = FH_WK_STORE_FILE,
        .read_only = read_only,
        .shared = shared,
        .fd = -1,
        .lock_fd = -1,
    };
    if (strlen(target) >= sizeof(img->target))
        return refuse(FH_EINVAL, why, "the target's name is too long");
    strcpy(img->target, target);
    if (!strncmp(target, "mem:", 4))
        img->store = FH_WK_STORE_MEM;
    else if (!strncmp(target, "null:", 5))
        img->store = FH_WK_STORE_NULL;

    r = img->store == FH_WK_STORE_FILE
            ? open_file(img, why)
            : open_virtual(img, strchr(target, ':') + 1, why);
    if (r)
        fh_image_close(img);
    return r;
}

void
fh_image_close(struct fh_image *img)
{
    if (img->fd >= 0)
        close(img->fd);
    if (img->lock_fd >= 0)
        close(img->lock_fd);
    img->fd = -1;
    img->lock_fd = -1;
}

int
fh_image_worker_fd(struct fh_image *img)
{
    int fd = img->fd;
    int next;

    switch (img->store) {
    case FH_WK_STORE_NULL:
        return -1;
    case FH_WK_STORE_MEM:
        next = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return next < 0 ? -errno : next;
    case FH_WK_STORE_FILE:
        break;
    }
    next = reopen(fd, worker_flags(img));
    if (next < 0)
        return next;
    mark_worker(img, next);
    img->fd = next;
    return fd;
}

int
fh_image_reopen(struct fh_image *img, char *why)
{
    struct fh_image now;
    int r;

    if (img->store == FH_WK_STORE_NULL)
        return 0;
    r = fh_image_open(&now, img->target, img->read_only, img->shared, why);
    if (r)
        return r;
    if (img->store == FH_WK_STORE_FILE &&
        (now.dev != img->dev || now.ino != img->ino ||
         now.is_block != img->is_block || now.n_sectors < img->n_sectors)) {
        fh_image_close(&now);
        return refuse(FH_EBADF, why, "%s is another file now, or shorter",
                      img->target);
    }
    now.n_sectors = img->n_sectors; /* what the guest was told */
    now.physical_sector_bytes = img->physical_sector_bytes;
    *img = now;
    return 0;
}

/* Is @fd our image, open as it has to be? */
static bool
is_image(const struct fh_image *img, int fd)
{
    const int mode = img->read_only ? O_RDONLY : O_RDWR;
    const int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
    struct stat st;

    if (flags < 0 || (flags & O_ACCMODE) != mode || fstat(fd, &st))
        return false;
    if (img->is_block)
        return S_ISBLK(st.st_mode) && st.st_rdev == img->dev;
    return S_ISREG(st.st_mode) && st.st_dev == img->dev &&
           st.st_ino == img->ino;
}

static bool
is_memory(const struct fh_image *img, int fd)
{
    const int seals = fd < 0 ? -1 : fcntl(fd, F_GET_SEALS);
    struct stat st;

    return seals >= 0 && (seals & F_SEAL_SHRINK) && !fstat(fd, &st) &&
           (uint64_t)st.st_size == img->n_sectors * FH_SECTOR_BYTES;
}

int
fh_image_take(struct fh_image *img, int *fds)
{
    const int from = img->store == FH_WK_STORE_MEM ? FH_WK_FD_STORE
                                                   : FH_WK_FD_WITNESS;

    if (img->store == FH_WK_STORE_NULL)
        return 0;
    if (img->store == FH_WK_STORE_MEM) {
        if (!is_memory(img, fds[from]))
            return FH_EBADF;
    } else {
        if (!is_image(img, fds[from]) || !is_image(img, fds[FH_WK_FD_LOCK]))
            return FH_EBADF;
        img->lock_fd = fds[FH_WK_FD_LOCK];
        fds[FH_WK_FD_LOCK] = -1;
    }
    img->fd = fds[from];
    fds[from] = -1;
    return 0;
}

void
fh_image_give_back(struct fh_image *img, int fd)
{
    if (img->fd >= 0)
        close(img->fd);
    img->fd = fd;
}

bool
fh_image_conflicts(const struct fh_image *a, const struct fh_image *b)
{
    if (a->store != FH_WK_STORE_FILE || b->store != FH_WK_STORE_FILE)
        return false;
    if (a->is_block != b->is_block || a->dev != b->dev || a->ino != b->ino)
        return false;
    if (a->read_only && b->read_only)
        return false;
    return !(a->shared && b->shared);
}
