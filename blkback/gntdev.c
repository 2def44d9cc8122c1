/* SPDX-License-Identifier: MIT */
/* See gntdev.h.  The only file that speaks to a Xen device by itself. */
#include "blkback/gntdev.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/gntdev.h>

static const char device[] = "/dev/xen/gntdev";

_Static_assert(sizeof(struct ioctl_gntdev_map_grant_ref) == 24,
               "the first reference begins at 16");
_Static_assert(sizeof(struct ioctl_gntdev_unmap_grant_ref) == 16, "ABI");
_Static_assert(sizeof(struct ioctl_gntdev_grant_copy) == 16, "ABI");

struct fh_gntdev_calls
fh_gntdev_calls(void)
{
    return (struct fh_gntdev_calls){
        .map = IOCTL_GNTDEV_MAP_GRANT_REF,
        .unmap = IOCTL_GNTDEV_UNMAP_GRANT_REF,
        .copy = IOCTL_GNTDEV_GRANT_COPY,
    };
}

bool
fh_gntdev_is_here(void)
{
    return !access(device, F_OK);
}

int
fh_gntdev_open(void)
{
    int fd = open(device, O_RDWR | O_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

int
fh_gntdev_map(int fd, uint16_t domid, const uint32_t *refs, uint32_t n,
              uint64_t *offset)
{
    static struct {
        struct ioctl_gntdev_map_grant_ref head;
        struct ioctl_gntdev_grant_ref more[FH_GNTDEV_MAX - 1];
    } call;
    struct ioctl_gntdev_grant_ref *at = call.head.refs;

    if (!n || n > FH_GNTDEV_MAX)
        return FH_EINVAL;
    call.head.count = n;
    for (uint32_t i = 0; i < n; i++)
        at[i] = (struct ioctl_gntdev_grant_ref){ .domid = domid,
                                                 .ref = refs[i] };
    if (ioctl(fd, IOCTL_GNTDEV_MAP_GRANT_REF, &call))
        return -errno;
    *offset = call.head.index;
    return 0;
}

int
fh_gntdev_unmap(int fd, uint64_t offset, uint32_t n)
{
    struct ioctl_gntdev_unmap_grant_ref call = { .index = offset, .count = n };

    return ioctl(fd, IOCTL_GNTDEV_UNMAP_GRANT_REF, &call) ? -errno : 0;
}

static void
fill_segment(struct gntdev_grant_copy_segment *seg, uint16_t domid,
             const struct fh_gntdev_piece *p)
{
    memset(seg, 0, sizeof(*seg));
    seg->len = p->bytes;
    if (p->to_grant) {
        seg->flags = GNTCOPY_dest_gref;
        seg->source.virt = p->local;
        seg->dest.foreign.ref = p->gref;
        seg->dest.foreign.offset = p->offset;
        seg->dest.foreign.domid = domid;
    } else {
        seg->flags = GNTCOPY_source_gref;
        seg->source.foreign.ref = p->gref;
        seg->source.foreign.offset = p->offset;
        seg->source.foreign.domid = domid;
        seg->dest.virt = p->local;
    }
}

int
fh_gntdev_copy(int fd, uint16_t domid, struct fh_gntdev_piece *pieces,
               uint32_t n)
{
    static struct gntdev_grant_copy_segment segs[FH_GNTDEV_MAX];
    struct ioctl_gntdev_grant_copy call = { .count = n, .segments = segs };

    if (!n || n > FH_GNTDEV_MAX)
        return FH_EINVAL;
    for (uint32_t i = 0; i < n; i++)
        fill_segment(&segs[i], domid, &pieces[i]);
    if (ioctl(fd, IOCTL_GNTDEV_GRANT_COPY, &call))
        return -errno;
    for (uint32_t i = 0; i < n; i++)
        pieces[i].status = segs[i].status;
    return 0;
}
