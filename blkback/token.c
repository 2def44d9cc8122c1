/* SPDX-License-Identifier: MIT */
/* See token.h. */
#include "blkback/token.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

/* "freehold" and the domain; longer or shorter is none. */
struct token {
    uint8_t name[8];
    uint32_t domid;
};

static const struct token blank = {
    .name = { 'f', 'r', 'e', 'e', 'h', 'o', 'l', 'd' },
};

static const int seals =
    F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

int
fh_token_make(uint16_t domid)
{
    int fd = memfd_create("freehold-token", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    struct token t = blank;
    int r;

    if (fd < 0)
        return -errno;
    t.domid = domid;
    if (write(fd, &t, sizeof(t)) == sizeof(t) &&
        !fcntl(fd, F_ADD_SEALS, seals))
        return fd;
    r = errno ? -errno : FH_EIO;
    close(fd);
    return r;
}

int
fh_token_read(int fd, uint16_t *domid)
{
    struct {
        struct token t;
        uint8_t more;
    } in;

    if (fcntl(fd, F_GET_SEALS) != seals ||
        pread(fd, &in, sizeof(in), 0) != sizeof(in.t) ||
        in.t.domid > UINT16_MAX)
        return FH_EPERM;
    for (unsigned i = 0; i < sizeof(in.t.name); i++)
        if (in.t.name[i] != blank.name[i])
            return FH_EPERM;
    *domid = (uint16_t)in.t.domid;
    return 0;
}
