/* SPDX-License-Identifier: MIT */
/* Starting programs inside a local domain. */
#include "cli/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/hvtalk.h"
#include "cli/opt.h"
#include "hv/abi.h"

extern char **environ;

/* --- the program --------------------------------------------------------- */

static int
open_at_path(struct fh_program *p, const char *path)
{
    struct stat st;
    int fd;

    if (strlen(path) >= sizeof(p->path))
        return FH_ENOENT;
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) ||
        faccessat(AT_FDCWD, path, X_OK, AT_EACCESS)) {
        close(fd);
        return FH_EACCES;
    }
    strcpy(p->path, path);
    p->fd = fd;
    return 0;
}

static int
search_path(struct fh_program *p, const char *name)
{
    const char *dirs = getenv("PATH");
    char path[sizeof(p->path)];
    int r = FH_ENOENT;

    if (!dirs)
        dirs = "/usr/local/bin:/usr/bin:/bin";
    while (*dirs) {
        size_t n = strcspn(dirs, ":");
        int one;

        if (snprintf(path, sizeof(path), "%.*s/%s", (int)n, dirs, name) <
            (int)sizeof(path)) {
            one = open_at_path(p, path);
            if (!one)
                return 0;
            if (one == FH_EACCES)
                r = one;
        }
        dirs += n + (dirs[n] == ':');
    }
    return r;
}

int
fh_program_open(struct fh_program *p, const char *name, const char *who)
{
    int r;

    p->fd = -1;
    r = strchr(name, '/') ? open_at_path(p, name) : search_path(p, name);
    if (r == FH_ENOENT && !strchr(name, '/'))
        fh_opt_fail(who, "'%s' is not found in PATH", name);
    else if (r)
        fh_opt_fail(who, "cannot execute '%s': %s", name, strerror(-r));
    return r;
}

int
fh_program_open_self(struct fh_program *p, const char *who)
{
    ssize_t n;

    p->fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    n = readlink("/proc/self/exe", p->path, sizeof(p->path) - 1);
    if (p->fd < 0 || n < 0) {
        fh_opt_fail(who, "cannot open /proc/self/exe: %s; is /proc mounted?",
                    strerror(errno));
        return FH_ENOENT;
    }
    p->path[n] = 0;
    return 0;
}

void
fh_program_close(struct fh_program *p)
{
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
}

/* A copy that anybody may execute, for a file that only its owner may. */
static int
copy_for_all(int fd)
{
    struct stat st;
    char path[32];
    off_t at = 0;
    int copy;

    copy = memfd_create("freehold-program", 0);
    if (copy < 0)
        return -1;
    if (fstat(fd, &st))
        goto fail;
    while (at < st.st_size)
        if (sendfile(copy, fd, &at, (size_t)(st.st_size - at)) <= 0)
            goto fail;
    if (fchmod(copy, 0555))
        goto fail;
    /* Writable descriptors refuse execution: reopen it for reading. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", copy);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    close(copy);
    return fd;

fail:
    close(copy);
    return -1;
}

static bool
is_script(int fd)
{
    char magic[2];

    return pread(fd, magic, 2, 0) == 2 && !memcmp(magic, "#!", 2);
}

/* The descriptor to execute when the name does not work: of a script it stays
 * open, since the interpreter reads it as /dev/fd/N. */
static int
descriptor_for_all(const struct fh_program *p)
{
    struct stat st;
    int fd = p->fd;

    if (!fstat(fd, &st) &&
        (st.st_mode & (S_IROTH | S_IXOTH)) != (S_IROTH | S_IXOTH))
        fd = copy_for_all(fd);
    if (fd >= 0 && is_script(fd))
        fcntl(fd, F_SETFD, 0);
    return fd;
}

/* --- the domain ---------------------------------------------------------- */

void
fh_launch_domain(struct fh_launch *l, const char *hv_dir,
                 const struct fh_hvctl_domain *d)
{
    *l = (struct fh_launch){ .domid = d->domid, .uid = d->uid, .gid = d->uid };
    /* Domain 0 is its caller, whoever that is. */
    l->drops = d->domid && d->uid != geteuid();
    snprintf(l->lib_dir, sizeof(l->lib_dir), "%s/lib", hv_dir);
    snprintf(l->hypercall, sizeof(l->hypercall), "%s", d->hypercall);
    snprintf(l->xenstore, sizeof(l->xenstore), "%s", d->xenstore);
}

int
fh_launch_find(struct fh_launch *l, const char *hv_dir, uint32_t domid,
               const char *who)
{
    struct fh_hvctl_domain d;
    char name[16];
    int r;

    snprintf(name, sizeof(name), "%u", domid);
    r = fh_hvtalk_find(hv_dir, name, &d, who);
    if (!r)
        fh_launch_domain(l, hv_dir, &d);
    return r;
}

/* --- the identity -------------------------------------------------------- */

/* What would lead a program of another uid to places that are not its own. */
static const char *const private_variables[] = {
    "USER", "LOGNAME", "MAIL", "TMPDIR", "OLDPWD", "SSH_AUTH_SOCK",
    "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME",
    "XDG_STATE_HOME", "DBUS_SESSION_BUS_ADDRESS", "SUDO_USER", "SUDO_UID",
    "SUDO_GID", "SUDO_COMMAND",
};

static int
set_environment(const struct fh_launch *l)
{
    const char *old = getenv("LD_LIBRARY_PATH");
    char path[4096], domid[16];
    int n;

    n = snprintf(path, sizeof(path), "%s%s%s", l->lib_dir,
                 old && *old ? ":" : "", old ? old : "");
    if (n >= (int)sizeof(path))
        return -E2BIG;
    snprintf(domid, sizeof(domid), "%u", l->domid);
    if (setenv("LD_LIBRARY_PATH", path, 1) ||
        setenv("XENSTORED_PATH", l->xenstore, 1) ||
        setenv(FH_HV_ENV_HYPERCALL, l->hypercall, 1) ||
        setenv(FH_HV_ENV_DOMID, domid, 1))
        return -errno;
    if (!l->drops)
        return 0;
    for (size_t i = 0; i < FH_ARRAY_SIZE(private_variables); i++)
        unsetenv(private_variables[i]);
    return setenv("HOME", "/", 1) ? -errno : 0;
}

static int
drop_identity(const struct fh_launch *l)
{
    if (!l->drops)
        return 0;
    if (setgroups(0, NULL) || setresgid(l->gid, l->gid, l->gid) ||
        setresuid(l->uid, l->uid, l->uid))
        return -errno;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        return -errno;
    if (access(".", X_OK) && chdir("/"))
        return -errno;
    return 0;
}

/* A domain's user that cannot enter the run directory would get the system's
 * libraries instead of the hypervisor's, without a word. */
static int
check_ways(const struct fh_launch *l, const char *who)
{
    const char *const ways[] = { l->lib_dir, l->hypercall };

    for (size_t i = 0; i < FH_ARRAY_SIZE(ways); i++) {
        if (!access(ways[i], R_OK))
            continue;
        fh_opt_fail(who, "domain %u (uid %u) cannot reach %s: %s; whoever "
                         "made the directories above it must let others pass "
                         "(chmod 711)",
                    l->domid, (unsigned)l->uid, ways[i], strerror(errno));
        return FH_EACCES;
    }
    return 0;
}

int
fh_launch_exec(const struct fh_launch *l, const struct fh_program *p,
               char *const argv[], bool dies_with_parent, const char *who)
{
    const pid_t parent = getppid();
    int fd = l && l->drops ? descriptor_for_all(p) : p->fd;
    int r = 0;

    if (l)
        r = set_environment(l);
    if (l && !r)
        r = drop_identity(l);
    if (r) {
        fh_opt_fail(who, "cannot become domain %u: %s", l->domid,
                    strerror(-r));
        return 126;
    }
    if (l && check_ways(l, who))
        return 126;
    /* After the drop, which would clear it. */
    if (dies_with_parent) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            return 126;
    }
    execve(p->path, argv, environ);
    if ((errno == EACCES || errno == ENOENT) && fd >= 0)
        fexecve(fd, argv, environ);
    r = errno;
    fh_opt_fail(who, "cannot execute '%s': %s", p->path, strerror(r));
    return r == ENOENT ? 127 : 126;
}
