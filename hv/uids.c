/* SPDX-License-Identifier: MIT */
/* See uids.h. */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/limits.h"
#include "hv/uids.h"

bool
fh_hv_uids_run(uint32_t first, uint32_t n)
{
    DIR *dir = opendir("/proc");
    struct dirent *e;
    struct stat st;
    bool found = false;

    while (dir && !found && (e = readdir(dir))) {
        if (e->d_name[strspn(e->d_name, "0123456789")])
            continue;
        found = !fstatat(dirfd(dir), e->d_name, &st, 0) &&
                st.st_uid - first < n;
    }
    if (dir)
        closedir(dir);
    return found;
}

/* A name in the abstract namespace is a lock that leaves nothing behind. */
static int
block_lock(uint32_t block)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int n = snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
                     "freehold-uids-%u", block);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&addr,
             (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
                         (size_t)n)) < 0) {
        int r = -errno;

        close(fd);
        return r;
    }
    return fd;
}

int
fh_hv_uids_claim(uint32_t *base)
{
    for (uint32_t block = 0; block < FH_HV_UID_BLOCKS; block++) {
        const uint32_t first =
            FH_HV_UID_BASE_DEFAULT + block * FH_HV_UID_BLOCK;
        int fd = block_lock(block); /* stays open as long as we live */

        if (fd == -EADDRINUSE)
            continue;
        if (fd < 0)
            return fd;
        if (!fh_hv_uids_run(first, FH_HV_UID_BLOCK)) {
            *base = first;
            return 0;
        }
        close(fd);
    }
    return FH_ENOSPC;
}
