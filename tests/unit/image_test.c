/* SPDX-License-Identifier: MIT */
/*
 * What stands behind a disk: sizes, refusals, locks, the witness.  Real files
 * in a temporary directory; block devices only where the machine has loop
 * devices (tests/system).
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/arith.h"
#include "blkback/image.h"
#include "expect.h"

static char dir[] = "/tmp/freehold-image.XXXXXX";
static char path[64];
static char why[FH_IMAGE_TEXT_MAX];

static const struct {
    const char *text;
    int want;
    uint64_t bytes;
} sizes[] = {
    { "512", 0, 512 },
    { "1k", 0, 1024 },
    { "64m", 0, 64u << 20 },
    { "64M", 0, 64u << 20 },
    { "2g", 0, 2ull << 30 },
    { "1t", 0, 1ull << 40 },
    { "0", FH_EINVAL, 0 },
    { "", FH_EINVAL, 0 },
    { "-1", FH_EINVAL, 0 },
    { " 512", FH_EINVAL, 0 },
    { "511", FH_EINVAL, 0 },
    { "64mb", FH_EINVAL, 0 },
    { "64x", FH_EINVAL, 0 },
    { "0x200", FH_EINVAL, 0 },
    { "8388608t", FH_ERANGE, 0 },
    { "18446744073709551616", FH_ERANGE, 0 },
};

static void
size__is_whole_sectors(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(sizes); i++) {
        uint64_t n = 7;

        EXPECT_EQ(fh_image_parse_size(sizes[i].text, &n), sizes[i].want,
                  "\"%s\"", sizes[i].text);
        EXPECT_EQ(n, sizes[i].want ? 7 : sizes[i].bytes, "\"%s\"",
                  sizes[i].text);
    }
}

static void
make_file(off_t bytes)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

    EXPECT(fd >= 0 && !ftruncate(fd, bytes), "%s", path);
    close(fd);
}

static void
image__of_a_file(void **state)
{
    struct fh_image img;

    make_file(8192 + 300);
    EXPECT_EQ(fh_image_open(&img, path, false, false, why), 0, "%s", why);
    EXPECT_EQ(img.n_sectors, 16, "rounded down");
    EXPECT_EQ(img.lost_bytes, 300, "and told");
    EXPECT_EQ(img.n_sectors * 512 % img.physical_sector_bytes, 0, "multiple");
    EXPECT_EQ(img.store, FH_WK_STORE_FILE, "store");
    EXPECT(img.alignment <= 512, "single sectors");
    fh_image_close(&img);
    fh_image_close(&img); /* tolerated */
}

static void
image__of_memory_is_sealed(void **state)
{
    struct fh_image img;
    struct stat st;
    int fd;

    EXPECT_EQ(fh_image_open(&img, "mem:1m", false, false, why), 0, "%s", why);
    EXPECT_EQ(img.n_sectors, 2048, "size");
    fd = fh_image_worker_fd(&img);
    EXPECT(fd >= 0 && !fstat(fd, &st) && st.st_size == 1 << 20, "memfd");
    EXPECT(ftruncate(fd, 0) != 0, "cannot shrink");
    EXPECT(ftruncate(fd, 2 << 20) != 0, "cannot grow");
    close(fd);
    fh_image_close(&img);
    EXPECT_EQ(fh_image_open(&img, "mem:1000t", false, false, why), FH_ENOMEM,
              "more than there is");
    EXPECT(strstr(why, "MiB of memory"), "%s", why);
}

static void
image__of_nothing(void **state)
{
    struct fh_image img;

    EXPECT_EQ(fh_image_open(&img, "null:1g", false, false, why), 0, "%s", why);
    EXPECT_EQ(fh_image_worker_fd(&img), -1, "no descriptor");
    fh_image_close(&img);
}

static void
image__read_only_is_o_rdonly(void **state)
{
    struct fh_image img;
    int fd;

    make_file(4096);
    EXPECT_EQ(fh_image_open(&img, path, true, false, why), 0, "%s", why);
    for (int i = 0; i < 2; i++) {
        fd = fh_image_worker_fd(&img);
        EXPECT_EQ(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY, "worker %d", i);
        close(fd);
    }
    fh_image_close(&img);
}

/* The k-th worker gets what was the witness of the one before, so nobody has
 * asked it for errors since before that one's first write. */
static void
image__hands_the_witness_on(void **state)
{
    struct fh_image img;
    int fd, was;

    make_file(4096);
    EXPECT_EQ(fh_image_open(&img, path, false, false, why), 0, "%s", why);
    for (int i = 0; i < 3; i++) {
        was = img.fd;
        fd = fh_image_worker_fd(&img);
        EXPECT_EQ(fd, was, "the witness");
        EXPECT(img.fd >= 0 && img.fd != fd, "a new one, opened before");
        close(fd);
    }
    unlink(path); /* a moved or removed image stays the same image */
    fd = fh_image_worker_fd(&img);
    EXPECT(fd >= 0, "without a name");
    close(fd);
    fh_image_close(&img);
}

static const struct {
    const char *name;
    bool ro_a, shared_a, ro_b, shared_b;
    bool want; /* b is refused */
} locks[] = {
    { "two writers", false, false, false, false, true },
    { "writer, then reader", false, false, true, false, true },
    { "reader, then writer", true, false, false, false, true },
    { "two readers", true, false, true, false, false },
    { "two writers that share", false, true, false, true, false },
    { "a writer that shares, one that does not", false, true, false, false,
      true },
    { "a writer that does not share, one that does", false, false, false, true,
      true },
};

static void
image__is_locked(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(locks); i++) {
        struct fh_image a, b;
        int r;

        make_file(4096);
        EXPECT_EQ(fh_image_open(&a, path, locks[i].ro_a, locks[i].shared_a,
                                why), 0, "%s: %s", locks[i].name, why);
        r = fh_image_open(&b, path, locks[i].ro_b, locks[i].shared_b, why);
        EXPECT_EQ(r, locks[i].want ? FH_EBUSY : 0, "%s", locks[i].name);
        EXPECT(!r || b.fd < 0, "%s: nothing is open", locks[i].name);
        fh_image_close(&b);
        fh_image_close(&a);
        EXPECT_EQ(fh_image_open(&b, path, false, false, why), 0,
                  "%s: free again: %s", locks[i].name, why);
        fh_image_close(&b);
    }
}

/* A backend that died with a worker still writing: the description that the
 * worker (or, after it, the kernel) holds keeps the next writer out. */
static void
image__is_locked_by_a_stray_worker(void **state)
{
    struct fh_image a, b;
    int fd;

    make_file(4096);
    EXPECT_EQ(fh_image_open(&a, path, false, false, why), 0, "%s", why);
    fd = fh_image_worker_fd(&a);
    fh_image_close(&a);
    EXPECT_EQ(fh_image_open(&b, path, false, false, why), FH_EBUSY, "stray");
    EXPECT(strstr(why, "still writes"), "%s", why);
    close(fd);
    EXPECT_EQ(fh_image_open(&b, path, false, false, why), 0, "%s", why);
    fh_image_close(&b);
}

/* What an earlier supervisor's state says, without descriptors. */
static struct fh_image
remembered(const char *target, bool read_only)
{
    struct fh_image img;

    EXPECT_EQ(fh_image_open(&img, target, read_only, false, why), 0, "%s",
              why);
    fh_image_close(&img);
    return img;
}

static void
image__comes_back_only_as_itself(void **state)
{
    struct fh_image img;
    char other[80];

    make_file(8192);
    img = remembered(path, false);
    make_file(16384);
    EXPECT_EQ(fh_image_reopen(&img, why), 0, "%s", why);
    EXPECT_EQ(img.n_sectors, 16, "as large as the guest was told");
    EXPECT(img.fd >= 0 && img.lock_fd >= 0, "open and locked");
    fh_image_close(&img);
    make_file(4096);
    EXPECT_EQ(fh_image_reopen(&img, why), FH_EBADF, "shorter");
    snprintf(other, sizeof(other), "%s.other", path);
    EXPECT_EQ(rename(path, other), 0, "%s", other);
    EXPECT_EQ(fh_image_reopen(&img, why), FH_ENOENT, "gone");
    make_file(8192);
    EXPECT_EQ(fh_image_reopen(&img, why), FH_EBADF, "another one: %s", why);
    EXPECT_EQ(img.fd, -1, "nothing is open");
    unlink(other);
}

/* What a worker hands back; it may have been taken over. */
static void
image__takes_back_only_itself(void **state)
{
    struct fh_image img, worker;
    int fds[FH_WK_N_FDS];
    int null = open("/dev/null", O_RDWR), reader;

    make_file(4096);
    reader = open(path, O_RDONLY);
    EXPECT_EQ(fh_image_open(&worker, path, false, false, why), 0, "%s", why);
    img = worker;
    img.fd = img.lock_fd = -1;
    for (int i = 0; i < 6; i++) {
        const int bad = i < 2 ? -1 : i < 4 ? null : reader;

        for (int f = 0; f < FH_WK_N_FDS; f++)
            fds[f] = -1;
        fds[FH_WK_FD_WITNESS] = i % 2 ? bad : worker.fd;
        fds[FH_WK_FD_LOCK] = i % 2 ? worker.lock_fd : bad;
        EXPECT_EQ(fh_image_take(&img, fds), FH_EBADF, "descriptor %d", bad);
        EXPECT(img.fd < 0 && img.lock_fd < 0, "none is taken");
    }
    fds[FH_WK_FD_WITNESS] = worker.fd;
    fds[FH_WK_FD_LOCK] = worker.lock_fd;
    EXPECT_EQ(fh_image_take(&img, fds), 0, "itself");
    EXPECT(fds[FH_WK_FD_WITNESS] < 0 && fds[FH_WK_FD_LOCK] < 0, "taken");
    fh_image_close(&img);
    close(reader);

    EXPECT_EQ(fh_image_open(&worker, "mem:1m", false, false, why), 0, "%s",
              why);
    img = worker;
    img.fd = -1;
    fds[FH_WK_FD_STORE] = null;
    EXPECT_EQ(fh_image_take(&img, fds), FH_EBADF, "no memory");
    fds[FH_WK_FD_STORE] = worker.fd;
    img.n_sectors++;
    EXPECT_EQ(fh_image_take(&img, fds), FH_EBADF, "too little memory");
    img.n_sectors--;
    EXPECT_EQ(fh_image_take(&img, fds), 0, "its memory");
    fh_image_close(&img);
    close(null);
}

static void
image__conflicts_by_identity(void **state)
{
    struct fh_image a = { .store = FH_WK_STORE_FILE, .dev = 1, .ino = 2 };
    struct fh_image b = a;

    EXPECT(fh_image_conflicts(&a, &b), "the same file");
    b.ino = 3;
    EXPECT(!fh_image_conflicts(&a, &b), "another file");
    b = a;
    a.read_only = b.read_only = true;
    EXPECT(!fh_image_conflicts(&a, &b), "readers");
    b.read_only = false;
    EXPECT(fh_image_conflicts(&a, &b), "reader and writer");
    a.is_block = b.is_block = true;
    EXPECT(fh_image_conflicts(&a, &b), "one device by two nodes");
    a.store = b.store = FH_WK_STORE_MEM;
    EXPECT(!fh_image_conflicts(&a, &b), "memory is nobody else's");
}

static int
setup(void **state)
{
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof(path), "%s/disk.img", dir);
    return 0;
}

static int
teardown(void **state)
{
    unlink(path);
    return rmdir(dir);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size__is_whole_sectors),
        cmocka_unit_test(image__of_a_file),
        cmocka_unit_test(image__of_memory_is_sealed),
        cmocka_unit_test(image__of_nothing),
        cmocka_unit_test(image__read_only_is_o_rdonly),
        cmocka_unit_test(image__hands_the_witness_on),
        cmocka_unit_test(image__is_locked),
        cmocka_unit_test(image__is_locked_by_a_stray_worker),
        cmocka_unit_test(image__comes_back_only_as_itself),
        cmocka_unit_test(image__takes_back_only_itself),
        cmocka_unit_test(image__conflicts_by_identity),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
