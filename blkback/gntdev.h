/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * /dev/xen/gntdev of real Xen, by the kernel's own header: what the broker
 * (broker.h) needs, and no more.
 *
 * Maps belong to the open file; a process may make them and another one mmap
 * them.  Whoever may call these ioctls reaches every grant that was made to
 * this domain by anybody: only the broker does.
 *
 * One thread of a process at a time.  Never logs.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>

enum { FH_GNTDEV_MAX = 1024 }; /* references, or pieces, of one call */

/* One piece of a grant copy.  @offset + @bytes <= 4096, or the kernel refuses
 * the whole call. */
struct fh_gntdev_piece {
    void *local;
    uint32_t gref;
    uint16_t offset;
    uint16_t bytes;
    bool to_grant;
    int16_t status; /* written: GNTST_* */
};

/* The ioctls there are, for a filter of system calls. */
struct fh_gntdev_calls {
    unsigned map, unmap, copy;
};

struct fh_gntdev_calls
fh_gntdev_calls(void);

/* True where the device is: in a domain of real Xen. */
bool
fh_gntdev_is_here(void);

/* A fresh open file, close-on-exec, or a negative error. */
int
fh_gntdev_open(void);

/*
 * fh_gntdev_map - enter grants of one domain, to be mapped by mmap
 *
 * @n:      1 .. FH_GNTDEV_MAX
 * @offset: written on success: where to mmap; multiple of the page size
 *
 * A reference that is not granted shows in mmap (EINVAL), not here.
 */
FH_MUST_CHECK int
fh_gntdev_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t n,
              uint64_t *offset);

/* Forgets what fh_gntdev_map() entered with this offset and count.  What is
 * still mapped goes when it is unmapped. */
FH_MUST_CHECK int
fh_gntdev_unmap(int fd, uint64_t offset, uint32_t n);

/* Copies @n pieces, 1 .. FH_GNTDEV_MAX.  Negative: nothing was copied. */
FH_MUST_CHECK int
fh_gntdev_copy(int fd, uint16_t domid, struct fh_gntdev_piece *pieces,
               uint32_t n);
