/* SPDX-License-Identifier: MIT */
/* See slowfs.h.  A thread for each write that is to be slow; everything else is
 * answered at once. */
#include "slowfs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    MAX_WRITE = 128 * 1024,
    BUF_BYTES = MAX_WRITE + 8192,
    NODE_DISK = 2,
};

struct server {
    int fd;
    uint8_t *data;
    struct slowfs_shared *shared;
};

/* A write on its way. */
struct slow_write {
    struct server *s;
    uint64_t unique;
    uint64_t offset;
    uint32_t bytes;
    uint32_t delay_ms;
    uint8_t data[];
};

static void
reply(struct server *s, uint64_t unique, int error, const void *body,
      size_t bytes)
{
    struct fuse_out_header h = {
        .len = (uint32_t)(sizeof(h) + bytes),
        .error = -error,
        .unique = unique,
    };
    const struct iovec iov[] = { { &h, sizeof(h) },
                                 { (void *)(uintptr_t)body, bytes } };

    /* The asker may be dead: then nobody wants it. */
    if (writev(s->fd, iov, bytes ? 2 : 1) < 0)
        return;
}

static void
fill_attr(struct fuse_attr *a, uint64_t node)
{
    const bool file = node == NODE_DISK;

    *a = (struct fuse_attr){
        .ino = node,
        .size = file ? SLOWFS_BYTES : 0,
        .blocks = file ? SLOWFS_BYTES / 512 : 0,
        .mode = file ? S_IFREG | 0666 : S_IFDIR | 0777,
        .nlink = 1,
        .blksize = 4096,
    };
}

static void
on_init(struct server *s, uint64_t unique, const struct fuse_init_in *in)
{
    const struct fuse_init_out out = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_readahead = in->max_readahead,
        .flags = in->flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES |
                              FUSE_ASYNC_DIO),
        .max_background = 64,
        .congestion_threshold = 48,
        .max_write = MAX_WRITE,
        .time_gran = 1,
    };

    reply(s, unique, 0, &out, sizeof(out));
}

static void
on_lookup(struct server *s, uint64_t unique, const char *name)
{
    struct fuse_entry_out out = { .nodeid = NODE_DISK, .entry_valid = 3600,
                                  .attr_valid = 3600 };

    if (strcmp(name, "disk")) {
        reply(s, unique, ENOENT, NULL, 0);
        return;
    }
    fill_attr(&out.attr, NODE_DISK);
    reply(s, unique, 0, &out, sizeof(out));
}

static void
on_getattr(struct server *s, uint64_t unique, uint64_t node)
{
    struct fuse_attr_out out = { .attr_valid = 3600 };

    fill_attr(&out.attr, node);
    reply(s, unique, 0, &out, sizeof(out));
}

static void
land(struct slow_write *w)
{
    const struct fuse_write_out out = { .size = w->bytes };

    if (w->delay_ms)
        usleep(w->delay_ms * 1000);
    memcpy(w->s->data + w->offset, w->data, w->bytes);
    fh_fetch_add32(&w->s->shared->n_landed, 1);
    reply(w->s, w->unique, 0, &out, sizeof(out));
    free(w);
}

static void *
land_later(void *arg)
{
    land(arg);
    return NULL;
}

static void
on_write(struct server *s, uint64_t unique, const struct fuse_write_in *in)
{
    struct slow_write *w = malloc(sizeof(*w) + in->size);
    pthread_t thread;

    *w = (struct slow_write){ .s = s, .unique = unique, .offset = in->offset,
                              .bytes = in->size };
    memcpy(w->data, in + 1, in->size);
    w->delay_ms = fh_load_acquire32(&s->shared->delay_ms);
    fh_fetch_add32(&s->shared->n_writes, 1);
    if (!w->delay_ms)
        land(w);
    else if (!pthread_create(&thread, NULL, land_later, w))
        pthread_detach(thread);
}

static void
on_read(struct server *s, uint64_t unique, const struct fuse_read_in *in)
{
    uint64_t bytes = in->size;

    if (in->offset >= SLOWFS_BYTES)
        bytes = 0;
    else if (in->offset + bytes > SLOWFS_BYTES)
        bytes = SLOWFS_BYTES - in->offset;
    reply(s, unique, 0, s->data + in->offset, bytes);
}

static void
serve_one(struct server *s, const struct fuse_in_header *h, const void *arg)
{
    const struct fuse_open_out opened = { .open_flags = FOPEN_DIRECT_IO };

    switch (h->opcode) {
    case FUSE_INIT:
        on_init(s, h->unique, arg);
        return;
    case FUSE_LOOKUP:
        on_lookup(s, h->unique, arg);
        return;
    case FUSE_GETATTR:
        on_getattr(s, h->unique, h->nodeid);
        return;
    case FUSE_OPEN:
        reply(s, h->unique, 0, &opened, sizeof(opened));
        return;
    case FUSE_READ:
        on_read(s, h->unique, arg);
        return;
    case FUSE_WRITE:
        on_write(s, h->unique, arg);
        return;
    case FUSE_FSYNC:
    case FUSE_FLUSH:
    case FUSE_RELEASE:
        reply(s, h->unique, 0, NULL, 0);
        return;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        return; /* no answer wanted */
    default:
        reply(s, h->unique, ENOSYS, NULL, 0);
        return;
    }
}

static void __attribute__((noreturn))
serve(struct server *s)
{
    uint8_t *buf = malloc(BUF_BYTES);

    for (;;) {
        ssize_t n = read(s->fd, buf, BUF_BYTES);

        if (n < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
            continue;
        if (n < (ssize_t)sizeof(struct fuse_in_header))
            _exit(0); /* unmounted */
        serve_one(s, (void *)buf, buf + sizeof(struct fuse_in_header));
    }
}

bool
slowfs_start(struct slowfs *fs)
{
    struct server s = { .fd = open("/dev/fuse", O_RDWR | O_CLOEXEC) };
    char options[96];

    strcpy(fs->dir, "/tmp/fh-slowfs-XXXXXX");
    if (s.fd < 0 || !mkdtemp(fs->dir))
        return false;
    snprintf(options, sizeof(options),
             "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", s.fd);
    if (mount("slowfs", fs->dir, "fuse", MS_NOSUID | MS_NODEV, options)) {
        rmdir(fs->dir);
        close(s.fd);
        return false;
    }
    snprintf(fs->path, sizeof(fs->path), "%s/disk", fs->dir);
    fs->data = mmap(NULL, SLOWFS_BYTES, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fs->shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    s.data = fs->data;
    s.shared = fs->shared;
    fs->pid = fork();
    if (fs->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        serve(&s);
    }
    close(s.fd);
    return true;
}

void
slowfs_stop(struct slowfs *fs)
{
    if (umount2(fs->dir, 0))
        umount2(fs->dir, MNT_DETACH);
    kill(fs->pid, SIGKILL);
    waitpid(fs->pid, NULL, 0);
    rmdir(fs->dir);
    munmap(fs->data, SLOWFS_BYTES);
    munmap(fs->shared, 4096);
}
