/* SPDX-License-Identifier: MIT */
/*
 * The guard of a private world (cli/env.h): makes its directories, runs the
 * body in a child, and when that is over, however it ended, kills everything
 * below and removes the directories.
 *
 * All of the tear-down of `run` and `bench` is here.  It does not depend on
 * what the body did: as a child subreaper the guard becomes the parent of
 * every orphan, so "kill all children until there are none" reaches whatever
 * was started, daemons included.  What a guard that is itself killed leaves,
 * the next one removes: directories that nobody holds a lock on.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/env.h"
#include "cli/opt.h"

enum {
    GUARD_FTW_FDS = 16,
    STALE_S = 60, /* a younger directory may not be locked yet */
};

/* --- directories --------------------------------------------------------- */

/* Libraries are mapped from the run directory, so code must be allowed there:
 * Debian mounts /run without it. */
static bool
is_usable(const char *dir)
{
    struct statvfs fs;

    return !access(dir, W_OK | X_OK) && !statvfs(dir, &fs) &&
           !(fs.f_flag & (ST_NOEXEC | ST_RDONLY));
}

static int
remove_entry(const char *path, const struct stat *st, int type,
             struct FTW *where)
{
    remove(path);
    return 0;
}

static void
remove_tree(const char *dir)
{
    nftw(dir, remove_entry, GUARD_FTW_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* True when @dir is ours, has been there for a while, and nobody holds its
 * lock: its guard was killed. */
static bool
is_stale(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    bool stale;

    if (fd < 0)
        return false;
    stale = !fstat(fd, &st) && st.st_uid == geteuid() &&
            time(NULL) - st.st_ctime > STALE_S &&
            !flock(fd, LOCK_EX | LOCK_NB);
    close(fd);
    return stale;
}

/* Removes what guards that were themselves killed could not. */
static void
sweep(const char *parent, const char *name)
{
    char path[FH_ENV_PATH + NAME_MAX];
    DIR *dir = opendir(parent);
    struct dirent *e;

    while (dir && (e = readdir(dir))) {
        if (strncmp(e->d_name, name, strlen(name)) ||
            snprintf(path, sizeof(path), "%s/%s", parent, e->d_name) >=
                (int)sizeof(path))
            continue;
        if (is_stale(path))
            remove_tree(path);
    }
    if (dir)
        closedir(dir);
}

/* Makes a directory and locks it: the descriptor stays open in guard and body,
 * so the lock goes when both are gone. */
static int
make_dir(char *out, const char *parent, const char *name, mode_t mode)
{
    int fd;

    if (!parent || !is_usable(parent) ||
        snprintf(out, FH_ENV_PATH, "%s/%s-XXXXXX", parent, name) >=
            FH_ENV_PATH ||
        !mkdtemp(out) || chmod(out, mode)) {
        out[0] = 0;
        return FH_ENOENT;
    }
    fd = open(out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0)
        flock(fd, LOCK_EX);
    sweep(parent, name);
    return 0;
}

static int
make_dirs(struct fh_env *env)
{
    char name[32];
    const char *const run_parents[] = {
        getenv(FH_ENV_PARENT), geteuid() ? getenv("XDG_RUNTIME_DIR") : "/run", "/tmp", "/dev/shm",
        "/var/tmp",
    };
    const char *const work_parents[] = { getenv(FH_ENV_WORK_PARENT),
                                         getenv("TMPDIR"), "/var/tmp",
                                         "/tmp" };

    /* The others may pass through the run directory to their own sockets. */
    snprintf(name, sizeof(name), "freehold-%.16s", env->name);
    for (size_t i = 0; i < FH_ARRAY_SIZE(run_parents); i++)
        if (!make_dir(env->dir, run_parents[i], name, 0711))
            break;
    for (size_t i = 0; i < FH_ARRAY_SIZE(work_parents); i++)
        if (!make_dir(env->work_dir, work_parents[i], name, 0700))
            break;
    if (!env->dir[0] || !env->work_dir[0]) {
        fh_opt_fail(env->name, "no place for temporary files: /run, /tmp and "
                               "/var/tmp are missing, full or mounted noexec");
        return FH_ENOENT;
    }
    snprintf(env->hv_dir, sizeof(env->hv_dir), "%s/hv", env->dir);
    return 0;
}

static void
remove_dirs(const struct fh_env *env)
{
    if (env->dir[0])
        remove_tree(env->dir);
    if (env->work_dir[0])
        remove_tree(env->work_dir);
}

/* --- processes ----------------------------------------------------------- */

/* The parent of @pid, or -1. */
static pid_t
parent_of(const char *pid)
{
    char path[64], line[512];
    const char *end;
    pid_t parent = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%.20s/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return -1;
    /* The name, in parentheses, may contain anything. */
    if (fgets(line, sizeof(line), f) && (end = strrchr(line, ')')))
        sscanf(end, ") %*c %d", &parent);
    fclose(f);
    return parent;
}

static void
kill_children(void)
{
    const pid_t self = getpid();
    struct dirent *e;
    DIR *proc;

    proc = opendir("/proc");
    if (!proc)
        return;
    while ((e = readdir(proc)))
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' &&
            parent_of(e->d_name) == self)
            kill(atoi(e->d_name), SIGKILL);
    closedir(proc);
}

/* Each death turns grandchildren into children; ends when there are none. */
static void
kill_all(void)
{
    do
        kill_children();
    while (waitpid(-1, NULL, 0) > 0);
}

/* Waits for the body's end or a signal that ends it all, which is returned. */
static int
watch(pid_t body, const sigset_t *signals, int *status)
{
    pid_t pid;
    int r, sig;

    for (;;) {
        sig = sigwaitinfo(signals, NULL);
        if (sig > 0 && sig != SIGCHLD)
            return sig;
        while ((pid = waitpid(-1, &r, WNOHANG)) > 0) {
            if (pid != body)
                continue;
            *status = WIFEXITED(r) ? WEXITSTATUS(r) : FH_EXIT_FAILURE;
            return 0;
        }
    }
}

/* The child.  Out of the terminal's foreground group, so that Ctrl-C reaches
 * the guard alone and nobody below dies first and complains. */
static int
run_body(struct fh_env *env, int (*body)(struct fh_env *, void *), void *arg,
         pid_t guard, const sigset_t *old)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != guard)
        return FH_EXIT_FAILURE;
    setpgid(0, 0);
    signal(SIGTTOU, SIG_IGN);
    sigprocmask(SIG_SETMASK, old, NULL);
    return body(env, arg);
}

static void
set_signals(sigset_t *signals)
{
    sigemptyset(signals);
    sigaddset(signals, SIGINT);
    sigaddset(signals, SIGTERM);
    sigaddset(signals, SIGHUP);
    sigaddset(signals, SIGCHLD);
}

int
fh_env_guard(const char *name, int (*body)(struct fh_env *env, void *arg),
             void *arg)
{
    struct fh_env env = { .name = name };
    const pid_t self = getpid();
    int status = FH_EXIT_FAILURE, sig = 0;
    sigset_t signals, old;
    pid_t child;

    fflush(NULL);
    set_signals(&signals);
    sigprocmask(SIG_BLOCK, &signals, &old);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    child = make_dirs(&env) ? -1 : fork();
    if (child == 0)
        exit(run_body(&env, body, arg, self, &old));
    if (child > 0)
        sig = watch(child, &signals, &status);
    kill_all();
    remove_dirs(&env);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    if (sig) {
        signal(sig, SIG_DFL);
        raise(sig); /* delivered when unblocked */
    }
    sigprocmask(SIG_SETMASK, &old, NULL);
    return status;
}
