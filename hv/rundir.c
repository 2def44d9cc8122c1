/* SPDX-License-Identifier: MIT */
/* See rundir.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "hv/client.h"
#include "hv/rundir.h"

static const char *const lib_names[] = {
    "libxengnttab.so.1",
    "libxenevtchn.so.1",
};

/* Room for the longest name below: "/dom32751/hypercall" in sun_path. */
enum { RUN_DIR_MAX = 108 - 20 };

static int
complain(const char *name, const char *what)
{
    int r = -errno;

    fprintf(stderr, "%s: %s: %s\n", name, what, strerror(errno));
    return r;
}

/* mkdir -p, mode 0755. */
static int
parents_make(const char *path)
{
    char part[PATH_MAX];
    size_t n = strlen(path);

    if (n >= sizeof(part)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (size_t i = 1; i <= n; i++) {
        if (path[i] != '/' && path[i])
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0755) < 0 && errno != EEXIST)
            return -1;
    }
    return 0;
}

static void
dir_clean(const char *path, const char *name)
{
    static const char *const names[] = {
        "hypercall", "xenstore", "libxengnttab.so.1", "libxenevtchn.so.1",
    };
    char buf[PATH_MAX + 64], target[PATH_MAX];
    ssize_t n;

    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        snprintf(buf, sizeof(buf), "%s/%s/%s", path, name, names[i]);
        unlink(buf);
    }
    snprintf(buf, sizeof(buf), "%s/%s", path, name);
    n = readlink(buf, target, sizeof(target) - 1);
    if (n > 0) {
        target[n] = '\0';
        rmdir(target);
        unlink(buf);
    }
    rmdir(buf);
}

void
fh_hv_rundir_leave(const char *path)
{
    char lock[PATH_MAX];

    fh_hv_rundir_clean(path);
    snprintf(lock, sizeof(lock), "%s/lock", path);
    unlink(lock);
}

void
fh_hv_rundir_clean(const char *path)
{
    char control[PATH_MAX];
    DIR *dir = opendir(path);
    struct dirent *e;

    snprintf(control, sizeof(control), "%s/control", path);
    unlink(control);
    while (dir && (e = readdir(dir))) {
        if (!strncmp(e->d_name, "dom", 3) || !strcmp(e->d_name, "lib"))
            dir_clean(path, e->d_name);
    }
    if (dir)
        closedir(dir);
}

static int
file_copy(const char *from, const char *to)
{
    char buf[65536];
    ssize_t n = -1;
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);

    if (in >= 0 && out >= 0) {
        while ((n = read(in, buf, sizeof(buf))) > 0) {
            if (write(out, buf, (size_t)n) != n) {
                n = -1;
                break;
            }
        }
        if (n == 0 && fchmod(out, 0755) < 0)
            n = -1;
    }
    int saved = errno;

    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    errno = saved;
    return n == 0 ? 0 : -1;
}

/* Makes <run>/lib; where the run directory's file system does not allow code
 * to be mapped (Debian mounts /run so) it is a link to another place. */
static int
lib_dir_make(const char *path, const char *lib)
{
    char other[] = "/var/tmp/freehold-lib-XXXXXX";
    struct statvfs fs;

    if (statvfs(path, &fs) < 0)
        return -1;
    if (!(fs.f_flag & ST_NOEXEC))
        return mkdir(lib, 0755) < 0 || chmod(lib, 0755) < 0 ? -1 : 0;
    if (!mkdtemp(other) || chmod(other, 0755) < 0)
        return -1;
    return symlink(other, lib);
}

/* Programs of a domain run under its uid: they may not be able to enter the
 * directory that the libraries were built in. */
static int
libs_stage(const char *name, const char *lib_dir, const char *path)
{
    char from[PATH_MAX], to[PATH_MAX];

    snprintf(to, sizeof(to), "%s/lib", path);
    if (lib_dir_make(path, to) < 0)
        return complain(name, to);
    for (unsigned i = 0; i < 2; i++) {
        snprintf(from, sizeof(from), "%s/%s", lib_dir, lib_names[i]);
        snprintf(to, sizeof(to), "%s/lib/%s", path, lib_names[i]);
        if (file_copy(from, to) < 0)
            return complain(name, from);
    }
    return 0;
}

/* A directory that others could write to would let them plant sockets. */
static int
dir_check(const char *name, const char *path)
{
    struct stat st;

    if (stat(path, &st) < 0)
        return complain(name, path);
    if (st.st_uid != geteuid() || st.st_mode & 022) {
        fprintf(stderr,
                "%s: %s: belongs to somebody else, or others may write\n",
                name, path);
        return FH_EPERM;
    }
    return chmod(path, 0711) < 0 ? complain(name, path) : 0;
}

static int
lock_open(const char *name, const char *path, const char *file)
{
    char pid[32] = "";
    int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

    if (fd < 0)
        return complain(name, file);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    int n = (int)read(fd, pid, sizeof(pid) - 1);

    fprintf(stderr, "%s: another hypervisor runs in %s (pid %.*s)\n", name,
            path, n > 1 ? n - 1 : 1, n > 1 ? pid : "?");
    close(fd);
    return FH_EBUSY;
}

/* Whoever ends removes the file: what we locked may be one that is gone. */
static bool
lock_is_current(int fd, const char *file)
{
    struct stat mine, there;

    return !fstat(fd, &mine) && !stat(file, &there) &&
           mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

static int
lock_take(const char *name, const char *path, int *lock_fd)
{
    char file[PATH_MAX];

    snprintf(file, sizeof(file), "%s/lock", path);
    for (int tries = 0; tries < 100; tries++) {
        int fd = lock_open(name, path, file);

        if (fd < 0)
            return fd;
        if (lock_is_current(fd, file)) {
            if (ftruncate(fd, 0) < 0)
                return complain(name, file);
            *lock_fd = fd;
            return 0;
        }
        close(fd);
    }
    return FH_EBUSY;
}

int
fh_hv_rundir_open(const char *name, const char *dir, const char *lib_dir,
                  char *path, size_t size, int *lock_fd)
{
    char wanted[PATH_MAX], real[PATH_MAX];
    int r;

    if (dir) {
        snprintf(wanted, sizeof(wanted), "%s", dir);
    } else if (fh_hvctl_run_dir(wanted, sizeof(wanted))) {
        fprintf(stderr, "%s: %s\n", name, fh_hvctl_error());
        return FH_ERANGE;
    }
    if (parents_make(wanted) < 0 || !realpath(wanted, real))
        return complain(name, wanted);
    if (strlen(real) > RUN_DIR_MAX || strlen(real) >= size) {
        fprintf(stderr, "%s: %s: longer than %d bytes\n", name, real,
                RUN_DIR_MAX);
        return FH_ERANGE;
    }
    strcpy(path, real);
    r = dir_check(name, path);
    if (r)
        return r;
    r = lock_take(name, path, lock_fd);
    if (r)
        return r;
    fh_hv_rundir_clean(path);
    return lib_dir ? libs_stage(name, lib_dir, path) : 0;
}
