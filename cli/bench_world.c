/* SPDX-License-Identifier: MIT */
/* The world of one `freehold bench`: start, stop, stores. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <json-c/json.h>

#include "base/arith.h"
#include "cli/bench_world.h"
#include "cli/pattern.h"

enum { END_MS = 20000 };

uint64_t
fh_bench_now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static bool
writes(const struct fh_bench_options *o)
{
    return o->verify ||
           (o->rw != FH_BENCH_READ && o->rw != FH_BENCH_RANDREAD);
}

/* The path in "file:PATH", or NULL for the other stores. */
static const char *
store_path(const struct fh_bench_options *o)
{
    return strncmp(o->store, "file:", 5) ? NULL : o->store + 5;
}

/* An existing image: one guest, reading, large enough. */
static int
check_existing(const struct fh_opt_cmd *c, const struct fh_bench_options *o,
               const struct stat *st)
{
    if (writes(o))
        return fh_opt_usage(c,
                            "--store: %s exists and would be overwritten; "
                            "name a directory or a new file",
                            store_path(o));
    if (o->guests > 1)
        return fh_opt_usage(c,
                            "--store: %s is one file; for %u guests name a "
                            "directory",
                            store_path(o), o->guests);
    if (S_ISREG(st->st_mode) && (uint64_t)st->st_size < o->size)
        return fh_opt_usage(c, "--store: %s has %lld bytes, --size is %llu",
                            store_path(o), (long long)st->st_size,
                            (unsigned long long)o->size);
    return 0;
}

int
fh_bench_check_store(const struct fh_opt_cmd *c,
                     const struct fh_bench_options *o)
{
    const char *path = store_path(o);
    struct stat st;

    if (!path) {
        if (!strcmp(o->store, "mem") || !strcmp(o->store, "null"))
            return 0;
        return fh_opt_usage(c, "--store: '%s' is none of mem, null, file:PATH",
                            o->store);
    }
    if (!*path)
        return fh_opt_usage(c, "--store: no path after 'file:'");
    if (!stat(path, &st))
        return S_ISDIR(st.st_mode) ? 0 : check_existing(c, o, &st);
    if (errno != ENOENT)
        return fh_opt_usage(c, "--store: %s: %s", path, strerror(errno));
    if (o->guests > 1)
        return fh_opt_usage(c,
                            "--store: %s is not a directory, and %u guests "
                            "need a file each",
                            path, o->guests);
    return 0;
}

/*
 * A file without a name, so that no accident leaves it behind; the backend
 * opens it through our descriptor.
 */
static int
open_nameless(const char *dir)
{
    char path[PATH_MAX];
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR))
        return fd;
    snprintf(path, sizeof(path), "%s/freehold-bench.XXXXXX", dir);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd >= 0)
        unlink(path);
    return fd;
}

static int
make_file(struct fh_bench_world *w, struct fh_bench_guest *g, const char *dir)
{
    const int fd = open_nameless(dir);
    int r;

    if (fd < 0)
        return fh_opt_fail("bench", "cannot make a file in %s: %s", dir,
                           strerror(errno));
    snprintf(g->path, sizeof(g->path), "/proc/%d/fd/%d", (int)getpid(), fd);
    r = posix_fallocate(fd, 0, (off_t)w->opt->size);
    if (r)
        return fh_opt_fail("bench", "cannot make a file of %llu bytes in %s: "
                                    "%s",
                           (unsigned long long)w->opt->size, dir, strerror(r));
    return 0;
}

/* The directory that the new file @path is to be in, in @dir. */
static const char *
directory_of(const char *path, char dir[PATH_MAX])
{
    snprintf(dir, PATH_MAX, "%s", path);
    return dirname(dir);
}

static int
choose_target(struct fh_bench_world *w, uint32_t i)
{
    struct fh_bench_guest *g = &w->guest[i];
    const char *path = store_path(w->opt);
    char dir[PATH_MAX];
    struct stat st;
    int r = 0;

    if (!path) {
        snprintf(g->target, sizeof(g->target), "%s:%llu", w->opt->store,
                 (unsigned long long)w->opt->size);
        return 0;
    }
    if (stat(path, &st))
        r = make_file(w, g, directory_of(path, dir));
    else if (S_ISDIR(st.st_mode))
        r = make_file(w, g, path);
    else if (!realpath(path, g->path))
        r = fh_opt_fail("bench", "%s: %s", path, strerror(errno));
    memcpy(g->target, g->path, sizeof(g->target));
    return r;
}

static const char *
attach_grants(const struct fh_bench_options *o)
{
    switch ((enum fh_bench_grants)o->grants) {
    case FH_BENCH_PERSISTENT:
        return "auto";
    case FH_BENCH_COPY:
        return "copy";
    case FH_BENCH_MAP:
        return "map";
    }
    return NULL;
}

static int
make_area(struct fh_bench_world *w, uint32_t i, int *fd)
{
    const struct fh_bench_options *o = w->opt;
    struct fh_bench_guest *g = &w->guest[i];
    const struct fh_bench_config c = {
        .guest = i + 1,
        .domid = g->domid,
        .vdev = g->vdev,
        .depth = o->depth,
        .block_bytes = (uint32_t)o->block_bytes,
        .rw = (uint32_t)o->rw,
        .polling = !o->polling,
        .persistent = o->grants == FH_BENCH_PERSISTENT,
        .verify = o->verify,
        .size = o->size / o->block_bytes * o->block_bytes,
    };
    const size_t bytes = fh_bench_area_bytes(&c);

    *fd = memfd_create("freehold-bench", MFD_CLOEXEC);
    if (*fd < 0 || ftruncate(*fd, (off_t)bytes))
        return fh_opt_fail("bench", "no memory for guest %u: %s", i + 1,
                           strerror(errno));
    g->area = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (g->area == MAP_FAILED)
        return fh_opt_fail("bench", "no memory for guest %u: %s", i + 1,
                           strerror(errno));
    g->area->config = c;
    return 0;
}

static int
start_guest(struct fh_bench_world *w, uint32_t i)
{
    static const char *const argv[] = { "freehold", "--bench-guest", NULL };
    struct fh_bench_guest *g = &w->guest[i];
    struct fh_env_disk disk = { .domid = i + 1,
                                .target = g->target,
                                .grants = attach_grants(w->opt),
                                .order = -1,
                                .writable = writes(w->opt) };
    struct fh_env_proc proc = { .domid = i + 1,
                                .argv = argv,
                                .n_fds = 1,
                                .out = -1,
                                .err = -1 };
    int fd, r;

    g->domid = i + 1;
    if (choose_target(w, i) || fh_env_domain(w->env, g->domid) ||
        fh_env_attach(w->env, &disk, &g->vdev))
        return 1;
    r = make_area(w, i, &fd);
    proc.fds[0] = fd;
    if (!r && fh_env_spawn(w->env, &proc, &g->pid))
        r = 1;
    if (fd >= 0)
        close(fd);
    return r;
}

int
fh_bench_world_start(struct fh_bench_world *w)
{
    struct fh_env_backend backend = FH_ENV_BACKEND;

    backend.workers = w->opt->workers;
    backend.polling = !w->opt->polling;
    if (fh_env_start_hv(w->env) || fh_env_start_backend(w->env, &backend))
        return 1;
    for (uint32_t i = 0; i < w->opt->guests; i++)
        if (start_guest(w, i))
            return 1;
    return 0;
}

int
fh_bench_world_stop(struct fh_bench_world *w)
{
    for (uint32_t i = 0; i < w->opt->guests; i++) {
        struct fh_bench_guest *g = &w->guest[i];
        int status;

        if (g->pid > 0 && fh_env_wait(g->pid, END_MS, &status))
            kill(g->pid, SIGKILL);
    }
    return fh_env_stop(w->env) ? 1 : 0;
}

void
fh_bench_kill_worker(struct fh_bench_world *w, uint32_t i)
{
    pid_t pid;

    if (!fh_env_worker_pid(w->env, w->guest[i].domid, w->guest[i].vdev, &pid))
        kill(pid, SIGKILL);
}

/* ----------------------------------------------------- the other path -- */

/* Opens what the guest's disk stores its sectors in. */
static int
open_store(struct fh_bench_world *w, const struct fh_bench_guest *g)
{
    struct json_object *request = json_object_new_object(), *reply, *devices;
    int fd = -1;

    if (g->path[0])
        return open(g->path, O_RDONLY | O_CLOEXEC);
    json_object_object_add(request, "cmd", json_object_new_string("list"));
    if (fh_env_ctl(w->env, request, &reply)) {
        json_object_put(request);
        return -1;
    }
    json_object_put(request);
    devices = json_object_object_get(reply, "devices");
    for (size_t i = 0; i < json_object_array_length(devices); i++) {
        struct json_object *d = json_object_array_get_idx(devices, i);

        if (json_object_get_int(json_object_object_get(d, "domid")) ==
            (int)g->domid)
            fd = open(json_object_get_string(
                          json_object_object_get(d, "store_path")),
                      O_RDONLY | O_CLOEXEC);
    }
    json_object_put(reply);
    return fd;
}

static void
verify_block(struct fh_bench_world *w, const struct fh_bench_guest *g,
             uint64_t block, const char *data)
{
    const struct fh_bench_config *c = &g->area->config;
    const uint32_t generation = g->area->generation[block];
    const uint32_t n = c->block_bytes / FH_SECTOR_BYTES;

    if (generation & FH_BENCH_UNSURE)
        return;
    for (uint32_t i = 0; i < n; i++)
        w->mismatches +=
            fh_pattern_check(data + (size_t)i * FH_SECTOR_BYTES, c->guest,
                             block * n + i, generation) != FH_PATTERN_RIGHT;
}

static int
verify_store(struct fh_bench_world *w, const struct fh_bench_guest *g)
{
    const struct fh_bench_config *c = &g->area->config;
    char *data = malloc(c->block_bytes);
    const int fd = open_store(w, g);
    int r = 0;

    if (fd < 0 || !data)
        r = fh_opt_fail("bench", "cannot read guest %u's store again: %s",
                        c->guest, strerror(errno));
    for (uint64_t b = 0; !r && b < fh_bench_blocks(c); b++) {
        if (pread(fd, data, c->block_bytes, (off_t)(b * c->block_bytes)) !=
            (ssize_t)c->block_bytes)
            r = fh_opt_fail("bench", "guest %u's store ends at block %llu",
                            c->guest, (unsigned long long)b);
        else
            verify_block(w, g, b, data);
    }
    if (fd >= 0)
        close(fd);
    free(data);
    return r;
}

int
fh_bench_verify_stores(struct fh_bench_world *w)
{
    for (uint32_t i = 0; i < w->opt->guests; i++)
        if (verify_store(w, &w->guest[i]))
            return 1;
    return 0;
}
