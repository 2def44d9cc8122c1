/* SPDX-License-Identifier: MIT */
/*
 * The private world's parts: hypervisor, backend, domains, disks, processes.
 * How it ends is the guard's business (guard.c).
 */
#include "cli/env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "blkback/ctl.h"
#include "cli/hvtalk.h"
#include "cli/launch.h"
#include "cli/opt.h"
#include "cli/place.h"

enum {
    FIRST_FD = 3,      /* of the descriptors handed to a child */
    PARKED_FD = 100,   /* where they wait for it, out of each other's way */
    LOG_TAIL = 4096,   /* bytes of a log that are shown */
    MAX_WORDS = 32,    /* of a command line of ours */
};

/* --- starting processes -------------------------------------------------- */

/* In the child: moves @fds out of the way of those that they will become. */
static int
park_fds(const int *fds, int n, int *parked)
{
    for (int i = 0; i < n; i++) {
        parked[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, PARKED_FD);
        if (parked[i] < 0)
            return -errno;
    }
    return 0;
}

static int
place_stdio(int out, int err)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || dup2(null, 0) < 0)
        return -errno;
    if (out > 0 && dup2(out, 1) < 0)
        return -errno;
    if (err > 0 && dup2(err, 2) < 0)
        return -errno;
    return 0;
}

/* The descriptors that the program gets: 0 to 2 and those of @p as 3, 4, ...;
 * whatever else is open closes when it is executed. */
static int
place_fds(const struct fh_env_proc *p)
{
    int parked[FH_ENV_FDS];
    int r;

    r = park_fds(p->fds, p->n_fds, parked);
    if (!r)
        r = place_stdio(p->out, p->err);
    if (!r && close_range(FIRST_FD, ~0u, CLOSE_RANGE_CLOEXEC))
        r = -errno;
    for (int i = 0; !r && i < p->n_fds; i++)
        if (dup2(parked[i], FIRST_FD + i) < 0)
            r = -errno;
    return r;
}

/* The child's whole life before it is another program, whose descriptor is
 * moved out of the way as well. */
static int
become(const struct fh_env *env, const struct fh_env_proc *p,
       const struct fh_launch *l, struct fh_program *program)
{
    program->fd = fcntl(program->fd, F_DUPFD_CLOEXEC, PARKED_FD);
    if (program->fd < 0 || place_fds(p)) {
        fh_opt_fail(env->name, "cannot arrange descriptors: %s",
                    strerror(errno));
        return 126;
    }
    return fh_launch_exec(l, program, (char *const *)p->argv, true,
                          env->name);
}

/* Starts @p as domain @l, or outside all domains when @l is NULL. */
static int
start_process(struct fh_env *env, const struct fh_env_proc *p,
              const struct fh_launch *l, pid_t *pid)
{
    struct fh_program program = FH_PROGRAM_NULL;
    pid_t child;
    int r;

    r = p->program ? fh_program_open(&program, p->program, env->name)
                   : fh_program_open_self(&program, env->name);
    if (r)
        return r;
    fflush(NULL);
    child = fork();
    if (child == 0)
        _exit(become(env, p, l, &program));
    r = child < 0 ? -errno : 0;
    fh_program_close(&program);
    if (r) {
        fh_opt_fail(env->name, "cannot start a process: %s", strerror(-r));
        return r;
    }
    *pid = child;
    return 0;
}

int
fh_env_spawn(struct fh_env *env, const struct fh_env_proc *p, pid_t *pid)
{
    struct fh_launch l;
    int r;

    r = fh_launch_find(&l, env->hv_dir, p->domid, env->name);
    return r ? r : start_process(env, p, &l, pid);
}

int
fh_env_run(struct fh_env *env, const struct fh_env_proc *p, pid_t *pid)
{
    return start_process(env, p, NULL, pid);
}

static uint64_t
now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

int
fh_env_wait(pid_t pid, int timeout_ms, int *status)
{
    const int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct pollfd p = { .fd = fd, .events = POLLIN };
    const uint64_t end = now_ms() + (uint64_t)timeout_ms;
    int r, raw;

    if (fd < 0)
        return -errno;
    do
        r = poll(&p, 1, timeout_ms < 0 ? -1 : timeout_ms);
    while (r < 0 && errno == EINTR && (timeout_ms < 0 || now_ms() < end));
    close(fd);
    if (r <= 0)
        return FH_ETIMEDOUT;
    if (waitpid(pid, &raw, 0) != pid)
        return -errno;
    *status = WIFSIGNALED(raw) ? 128 + WTERMSIG(raw) : WEXITSTATUS(raw);
    return 0;
}

/* --- daemons ------------------------------------------------------------- */

static int
open_log(const struct fh_env *env, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s.log", env->dir, name);
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* The end of a daemon's log, for a failure's explanation. */
static void
show_log(const char *path)
{
    char buf[LOG_TAIL];
    struct stat st;
    ssize_t n;
    int fd;

    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (fstat(fd, &st))
        st.st_size = 0;
    n = pread(fd, buf, sizeof(buf),
              st.st_size > LOG_TAIL ? st.st_size - LOG_TAIL : 0);
    if (n > 0)
        fwrite(buf, 1, (size_t)n, stderr);
    close(fd);
}

/* Waits for the byte that says "ready". */
static int
await_ready(int fd, pid_t pid)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    char byte;
    int r, status;

    do
        r = poll(&p, 1, FH_ENV_START_MS);
    while (r < 0 && errno == EINTR);
    if (r == 1 && read(fd, &byte, 1) == 1)
        return 0;
    if (r == 0)
        return FH_ETIMEDOUT;
    return fh_env_wait(pid, FH_ENV_STOP_MS, &status) ? FH_ETIMEDOUT : FH_EIO;
}

/* Runs freehold with @words; it reports that it is ready on descriptor 3. */
static int
start_daemon(struct fh_env *env, const char *name, const char *const *words,
             pid_t *pid)
{
    struct fh_env_proc p = { .argv = words, .n_fds = 1 };
    char path[FH_ENV_PATH + 32];
    int ready[2], log, r;

    if (pipe2(ready, O_CLOEXEC))
        return -errno;
    log = open_log(env, name, path, sizeof(path));
    p.out = p.err = log;
    p.fds[0] = ready[1];
    r = log < 0 ? -errno : fh_env_run(env, &p, pid);
    close(ready[1]);
    if (log >= 0)
        close(log);
    if (!r)
        r = await_ready(ready[0], *pid);
    close(ready[0]);
    if (r) {
        fh_opt_fail(env->name, "the %s did not start%s; it said:", name,
                    r == FH_ETIMEDOUT ? " in time" : "");
        show_log(path);
    }
    return r;
}

static int
stop_daemon(struct fh_env *env, const char *name, pid_t *pid)
{
    int r, status = 0;

    if (!*pid)
        return 0;
    kill(*pid, SIGTERM);
    r = fh_env_wait(*pid, FH_ENV_STOP_MS, &status);
    if (!r)
        *pid = 0;
    if (!r && status)
        r = FH_EIO;
    if (r)
        fh_opt_fail(env->name, "the %s did not stop in order (%s %d)", name,
                    r == FH_EIO ? "status" : "error", r == FH_EIO ? status : r);
    return r;
}

int
fh_env_start_hv(struct fh_env *env)
{
    const char *const words[] = { "freehold", "hv", "start", "--foreground",
                                  "--ready-fd", "3", "--run-dir", env->dir,
                                  NULL };
    struct json_object *status, *isolated;
    int r;

    r = start_daemon(env, "hypervisor", words, &env->hv);
    if (!r)
        r = fh_env_hv_status(env, &status);
    if (r)
        return r;
    env->isolated =
        json_object_object_get_ex(status, "isolation", &isolated) &&
        !strcmp(json_object_get_string(isolated), "on");
    json_object_put(status);
    return 0;
}

int
fh_env_start_backend(struct fh_env *env, const struct fh_env_backend *b)
{
    char workers[16] = "per-guest", poll_us[16];
    const char *words[MAX_WORDS] = {
        "freehold", "serve", "--hypervisor", "local", "--ready-fd", "3",
        "--run-dir", env->dir, "--workers", workers, "--polling",
        b->polling ? "on" : "off", "--last",
    };
    int n = 13;

    if (b->workers)
        snprintf(workers, sizeof(workers), "%u", b->workers);
    if (b->poll_max_ns) {
        snprintf(poll_us, sizeof(poll_us), "%u", b->poll_max_ns / 1000);
        words[n++] = "--poll-max-us";
        words[n++] = poll_us;
    }
    if (b->no_fence)
        words[n++] = "--no-fence";
    return start_daemon(env, "backend", words, &env->backend);
}

int
fh_env_stop_backend(struct fh_env *env)
{
    return stop_daemon(env, "backend", &env->backend);
}

int
fh_env_stop(struct fh_env *env)
{
    int r = fh_env_stop_backend(env);

    return r ? r : stop_daemon(env, "hypervisor", &env->hv);
}

/* --- domains and disks --------------------------------------------------- */

int
fh_env_domain(struct fh_env *env, uint32_t domid)
{
    struct fh_hvctl_domain d;

    return fh_hvtalk_create(env->hv_dir, (int)domid, NULL, &d, env->name);
}

int
fh_env_domain_destroy(struct fh_env *env, uint32_t domid)
{
    char name[16];

    snprintf(name, sizeof(name), "%u", domid);
    return fh_hvtalk_destroy(env->hv_dir, name, env->name);
}

int
fh_env_hv_status(struct fh_env *env, struct json_object **status)
{
    return fh_hvtalk_status(env->hv_dir, status, env->name);
}

int
fh_env_ctl(struct fh_env *env, struct json_object *request,
           struct json_object **reply)
{
    char err[256] = "";
    int r;

    r = fh_ctl_call(env->dir, request, FH_ENV_CTL_MS, reply, err, sizeof(err));
    if (r)
        fh_opt_fail(env->name, "backend: %s",
                    *err ? err : r < 0 ? strerror(-r) : "refused");
    return r > 0 ? FH_EIO : r;
}

static void
add_string(struct json_object *o, const char *key, const char *value)
{
    if (value)
        json_object_object_add(o, key, json_object_new_string(value));
}

static void
add_number(struct json_object *o, const char *key, int64_t value)
{
    json_object_object_add(o, key, json_object_new_int64(value));
}

static struct json_object *
request_for(const char *cmd, uint32_t domid)
{
    struct json_object *o = json_object_new_object();

    add_string(o, "cmd", cmd);
    add_number(o, "domid", domid);
    return o;
}

int
fh_env_attach(struct fh_env *env, const struct fh_env_disk *d, uint32_t *vdev)
{
    struct json_object *request = request_for("attach", d->domid);
    struct json_object *reply, *device, *number;
    int r;

    add_string(request, "target", d->target);
    add_string(request, "vdev", d->vdev);
    add_string(request, "mode", d->writable ? "w" : "r");
    add_string(request, "grants", d->grants);
    if (d->order >= 0)
        add_number(request, "order", d->order);
    if (d->shared)
        json_object_object_add(request, "shared", json_object_new_boolean(1));
    if (d->latency_ns)
        add_number(request, "latency_ns", d->latency_ns);
    r = fh_env_ctl(env, request, &reply);
    json_object_put(request);
    if (r)
        return r;
    if (vdev && json_object_object_get_ex(reply, "device", &device) &&
        json_object_object_get_ex(device, "devid", &number))
        *vdev = (uint32_t)json_object_get_int64(number);
    json_object_put(reply);
    return 0;
}

int
fh_env_detach(struct fh_env *env, uint32_t domid, uint32_t vdev)
{
    struct json_object *request = request_for("detach", domid);
    struct json_object *reply;
    char number[16];
    int r;

    snprintf(number, sizeof(number), "%u", vdev);
    add_string(request, "vdev", number);
    r = fh_env_ctl(env, request, &reply);
    json_object_put(request);
    if (!r)
        json_object_put(reply);
    return r;
}

static int64_t
number_of(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) ? json_object_get_int64(v)
                                                 : -1;
}

int
fh_env_worker_pid(struct fh_env *env, uint32_t domid, uint32_t vdev,
                  pid_t *pid)
{
    struct json_object *request = request_for("list", domid);
    struct json_object *reply, *devices;
    int r = fh_env_ctl(env, request, &reply);

    json_object_put(request);
    if (r)
        return r;
    r = FH_ENOENT;
    if (!json_object_object_get_ex(reply, "devices", &devices))
        devices = NULL;
    for (size_t i = 0; devices && i < json_object_array_length(devices); i++) {
        struct json_object *d = json_object_array_get_idx(devices, i);

        if (number_of(d, "domid") != domid || number_of(d, "devid") != vdev ||
            number_of(d, "worker_pid") <= 0)
            continue;
        *pid = (pid_t)number_of(d, "worker_pid");
        r = 0;
    }
    json_object_put(reply);
    return r;
}

char *
fh_env_domain_dir(struct fh_env *env, uint32_t domid)
{
    struct fh_launch l;
    char *path = NULL;

    if (fh_launch_find(&l, env->hv_dir, domid, env->name))
        return NULL;
    if (asprintf(&path, "%s/scratch-%u", env->dir, domid) < 0)
        return NULL;
    if ((mkdir(path, 0700) && errno != EEXIST) ||
        (l.drops && chown(path, l.uid, l.gid))) {
        fh_opt_fail(env->name, "cannot make %s: %s", path, strerror(errno));
        free(path);
        return NULL;
    }
    return path;
}
