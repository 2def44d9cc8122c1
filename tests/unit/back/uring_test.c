/* SPDX-License-Identifier: MIT */
/* The worker's io_uring and the stores on it, on real files. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/store/stores.h"
#include "blkback/uring.h"
#include "../expect.h"

enum {
    SECTORS = 8192,
    BUF_BYTES = 2 << 20,
    N_IOS = 1000, /* more than the ring has entries */
};

struct bench {
    struct fh_uring u;
    struct fh_store_uring s;
    int fd;
    uint8_t *buf;
    int32_t index;
    uint32_t n_done;
};

static struct bench *current;

static void
io_done(struct fh_store_io *io)
{
    (void)io;
    current->n_done++;
}

static int
temp_file(uint64_t bytes, int flags)
{
    char path[] = "/tmp/fh-uring-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC | flags);

    if (fd < 0)
        return -1;
    unlink(path);
    EXPECT_EQ(ftruncate(fd, (off_t)bytes), 0);
    return fd;
}

/* False: no such file here. */
static bool
set_up(struct bench *b, uint64_t file_bytes, int flags, bool registered,
       bool read_only)
{
    const struct fh_store_info info = { .n_sectors = SECTORS,
                                        .alignment = 512,
                                        .read_only = read_only };

    memset(b, 0, sizeof(*b));
    current = b;
    b->fd = temp_file(file_bytes, flags);
    if (b->fd < 0)
        return false;
    EXPECT_EQ(fh_uring_open(&b->u, -1, registered ? BUF_BYTES : 0), 0);
    b->buf = mmap(NULL, BUF_BYTES, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b->index = fh_uring_add_buffer(&b->u, b->buf, BUF_BYTES);
    EXPECT(registered || b->index < 0);
    EXPECT_EQ(fh_store_uring_open(&b->s, &b->u, b->fd, &info,
                                  (flags & O_DIRECT) != 0),
              0);
    return true;
}

static void
tear_down(struct bench *b)
{
    b->s.store.ops->close(&b->s.store);
    fh_uring_remove_buffer(&b->u, b->index, BUF_BYTES);
    EXPECT_EQ(b->u.files_used, 0);
    EXPECT_EQ(b->u.buffers_used, 0);
    fh_uring_close(&b->u);
    munmap(b->buf, BUF_BYTES);
    close(b->fd);
}

static void
until(struct bench *b, uint32_t n)
{
    while (b->n_done < n) {
        EXPECT_EQ(fh_uring_wait(&b->u, 5000000000ull), 0);
        EXPECT(b->s.store.ops->reap(&b->s.store), "nothing came in 5 s");
    }
}

static int
one(struct bench *b, enum fh_store_op op, uint64_t offset, void *base,
    uint32_t bytes)
{
    const struct fh_store_vec vec[] = {
        { base, bytes > 4096 ? 4096 : bytes },
        { bytes > 4096 ? (uint8_t *)base + 4096 : base, bytes - 4096 },
    };
    struct fh_store_io io = {
        .op = op,
        .offset = offset,
        .vec = vec,
        .n_vecs = op == FH_STORE_FLUSH ? 0 : 1 + (bytes > 4096),
        .buffer = b->index,
        .done = io_done,
    };
    const uint32_t n = b->n_done;
    int r = b->s.store.ops->submit(&b->s.store, &io);

    if (r)
        return r;
    until(b, n + 1);
    return io.result;
}

static const struct {
    const char *name;
    int flags;
    bool registered;
} kinds[] = {
    { "buffered", 0, false },
    { "buffered, registered", 0, true },
    { "direct", O_DIRECT, false },
    { "direct, registered", O_DIRECT, true },
};

static void
data__comes_back_from_a_file(void **state)
{
    (void)state;
    for (size_t i = 0; i < FH_ARRAY_SIZE(kinds); i++) {
        struct bench b;

        if (!set_up(&b, SECTORS * 512, kinds[i].flags, kinds[i].registered,
                    false))
            continue;
        for (uint32_t k = 0; k < 16384; k++)
            b.buf[k] = (uint8_t)(k * 13 + (k >> 8));
        EXPECT_EQ(one(&b, FH_STORE_WRITE, 4096, b.buf, 16384), 0, "%s",
                  kinds[i].name);
        EXPECT_EQ(one(&b, FH_STORE_FLUSH, 0, NULL, 0), 0, "%s", kinds[i].name);
        EXPECT_EQ(one(&b, FH_STORE_READ, 4096, b.buf + 65536, 16384), 0, "%s",
                  kinds[i].name);
        EXPECT_EQ(memcmp(b.buf, b.buf + 65536, 16384), 0, "%s", kinds[i].name);
        tear_down(&b);
    }
}

static void
more_than_the_ring_holds__all_finish(void **state)
{
    static struct fh_store_io io[N_IOS];
    static struct fh_store_vec vec[N_IOS];
    struct bench b;

    (void)state;
    EXPECT(set_up(&b, SECTORS * 512, 0, false, false));
    for (uint32_t i = 0; i < N_IOS; i++) {
        vec[i] = (struct fh_store_vec){ b.buf + i % 256 * 4096, 4096 };
        io[i] = (struct fh_store_io){ .op = FH_STORE_READ,
                                      .offset = i % 1024 * 4096,
                                      .vec = &vec[i], .n_vecs = 1,
                                      .buffer = -1, .done = io_done,
                                      .result = 1 };
        EXPECT_EQ(b.s.store.ops->submit(&b.s.store, &io[i]), 0);
    }
    until(&b, N_IOS);
    for (uint32_t i = 0; i < N_IOS; i++)
        EXPECT_EQ(io[i].result, 0);
    tear_down(&b);
}

static void
end_of_the_file__is_an_error(void **state)
{
    struct bench b;

    (void)state;
    EXPECT(set_up(&b, 6144, 0, false, false));
    EXPECT_EQ(one(&b, FH_STORE_READ, 0, b.buf, 4096), 0);
    EXPECT_EQ(one(&b, FH_STORE_READ, 4096, b.buf, 4096), FH_EIO, "half of it");
    EXPECT_EQ(one(&b, FH_STORE_READ, 8192, b.buf, 4096), FH_EIO, "all of it");
    tear_down(&b);
}

static void
refusals__start_nothing(void **state)
{
    const struct fh_store_info coarse = { .n_sectors = 8, .alignment = 4096 };
    struct fh_store_uring s;
    struct bench b;

    (void)state;
    EXPECT(set_up(&b, SECTORS * 512, 0, false, true));
    EXPECT_EQ(one(&b, FH_STORE_WRITE, 0, b.buf, 4096), FH_EROFS);
    EXPECT_EQ(one(&b, FH_STORE_READ, SECTORS * 512ull, b.buf, 512), FH_EINVAL);
    EXPECT_EQ(one(&b, FH_STORE_READ, ~511ull, b.buf, 4096), FH_EINVAL);
    EXPECT_EQ(fh_store_uring_open(&s, &b.u, b.fd, &coarse, true), FH_EINVAL);
    tear_down(&b);
}

static void
files__up_to_the_table(void **state)
{
    struct bench b;
    int place[FH_URING_BUFFERS];

    (void)state;
    EXPECT(set_up(&b, SECTORS * 512, 0, false, false));
    for (uint32_t i = 1; i < FH_URING_BUFFERS; i++) {
        place[i] = fh_uring_add_file(&b.u, b.fd);
        EXPECT(place[i] > 0);
    }
    EXPECT_EQ(fh_uring_add_file(&b.u, b.fd), FH_ENOSPC);
    for (uint32_t i = 1; i < FH_URING_BUFFERS; i++)
        fh_uring_remove_file(&b.u, place[i]);
    tear_down(&b);
}

static void
watch__ends_a_sleep(void **state)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    uint64_t one_more = 1;
    struct fh_uring u;

    (void)state;
    EXPECT_EQ(fh_uring_open(&u, -1, 0), 0);
    fh_uring_watch(&u, 1, fd);
    EXPECT_EQ(fh_uring_wait(&u, 1000000), 0);
    EXPECT_EQ(fh_uring_reap(&u), 0);
    EXPECT(!u.watch[1].ready);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(write(fd, &one_more, 8), 8);
        EXPECT_EQ(fh_uring_wait(&u, 5000000000ull), 0);
        EXPECT_EQ(fh_uring_reap(&u), 0);
        EXPECT(u.watch[1].ready);
        u.watch[1].ready = false;
        EXPECT_EQ(read(fd, &one_more, 8), 8);
    }
    fh_uring_close(&u);
    close(fd);
}

static bool
at_end(int fd, int timeout_ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, timeout_ms) == 1 && (p.revents & POLLHUP);
}

static void
fence__ends_with_the_ring(void **state)
{
    struct fh_uring u;
    int fence[2];

    (void)state;
    EXPECT_EQ(pipe2(fence, O_CLOEXEC), 0);
    EXPECT_EQ(fh_uring_open(&u, fence[1], 0), 0);
    EXPECT(!at_end(fence[0], 50));
    fh_uring_close(&u);
    EXPECT(at_end(fence[0], 5000));
    close(fence[0]);
}

static uint64_t
now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void
delay__answers_later(void **state)
{
    struct fh_store_delay s;
    struct fh_store_io io = { .op = FH_STORE_READ, .done = io_done,
                              .result = 1 };
    struct bench b = { 0 };
    uint64_t since;

    (void)state;
    current = &b;
    EXPECT_EQ(fh_uring_open(&b.u, -1, 0), 0);
    fh_store_delay_open(&s, &b.u, SECTORS, 20000000, false);
    since = now_ns();
    EXPECT_EQ(s.store.ops->submit(&s.store, &io), 0);
    while (!b.n_done) {
        EXPECT_EQ(fh_uring_wait(&b.u, 5000000000ull), 0);
        (void)s.store.ops->reap(&s.store);
    }
    EXPECT_EQ(io.result, 0);
    EXPECT(now_ns() - since >= 20000000);
    fh_uring_close(&b.u);
}

/* What a filter of system calls would not see.  Flags, too: a linked or
 * asynchronous entry is none of ours. */
static const struct {
    const char *name;
    uint8_t op, flags;
    int want;
} entries[] = {
    { "open", IORING_OP_OPENAT, 0, FH_EACCES },
    { "socket", IORING_OP_SOCKET, 0, FH_EACCES },
    { "connect", IORING_OP_CONNECT, 0, FH_EACCES },
    { "accept", IORING_OP_ACCEPT, 0, FH_EACCES },
    { "send message", IORING_OP_SENDMSG, 0, FH_EACCES },
    { "rename", IORING_OP_RENAMEAT, 0, FH_EACCES },
    { "unlink", IORING_OP_UNLINKAT, 0, FH_EACCES },
    { "command", IORING_OP_URING_CMD, 0, FH_EACCES },
    { "asynchronous read", IORING_OP_READ, IOSQE_ASYNC, FH_EACCES },
    { "read of a bad descriptor", IORING_OP_READ, 0, FH_EBADF },
};

static void
ring__does_nothing_but_io_on_what_is_open(void **state)
{
    struct io_uring_cqe *cqe;
    struct fh_uring u;

    (void)state;
    EXPECT_EQ(fh_uring_open(&u, -1, 0), 0);
    for (size_t i = 0; i < FH_ARRAY_SIZE(entries); i++) {
        struct io_uring_sqe *sqe = fh_uring_sqe(&u);

        io_uring_prep_rw(entries[i].op, sqe, -1, NULL, 0, 0);
        sqe->flags = entries[i].flags;
        EXPECT_EQ(io_uring_submit_and_wait(&u.ring, 1), 1, "%s",
                  entries[i].name);
        EXPECT_EQ(io_uring_peek_cqe(&u.ring, &cqe), 0, "%s", entries[i].name);
        EXPECT_EQ(cqe->res, entries[i].want, "%s", entries[i].name);
        io_uring_cqe_seen(&u.ring, cqe);
    }
    EXPECT_EQ(io_uring_register_personality(&u.ring), FH_EACCES,
              "credentials");
    EXPECT_EQ(io_uring_unregister_files(&u.ring), FH_EACCES, "fence");
    fh_uring_close(&u);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(data__comes_back_from_a_file),
        cmocka_unit_test(more_than_the_ring_holds__all_finish),
        cmocka_unit_test(end_of_the_file__is_an_error),
        cmocka_unit_test(refusals__start_nothing),
        cmocka_unit_test(files__up_to_the_table),
        cmocka_unit_test(watch__ends_a_sleep),
        cmocka_unit_test(fence__ends_with_the_ring),
        cmocka_unit_test(delay__answers_later),
        cmocka_unit_test(ring__does_nothing_but_io_on_what_is_open),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
