/* SPDX-License-Identifier: MIT */
/* See world.h. */
#include <errno.h>
#include <grp.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "hv/abi.h"
#include "world.h"

static void
hypervisor_start(struct world *w)
{
    const char *fhv = getenv("FREEHOLD_FHV"), *libs = getenv("FREEHOLD_LIBS");
    const char *threads = getenv("FREEHOLD_FHV_THREADS");
    int fds[2];
    char byte, number[16];

    EXPECT(fhv && libs, "FREEHOLD_FHV and FREEHOLD_LIBS name what is tested");
    EXPECT(pipe(fds) == 0);
    fflush(NULL);
    w->hv = fork();
    if (w->hv == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        snprintf(number, sizeof(number), "%d", fds[1]);
        execl(fhv, fhv, "--foreground", "--run-dir", w->dir, "--lib-dir", libs,
              "--ready-fd", number, threads ? "--threads" : NULL, threads,
              NULL);
        _exit(127);
    }
    close(fds[1]);
    EXPECT_EQ(read(fds[0], &byte, 1), 1, "the hypervisor starts");
    close(fds[0]);
}

void
world_start(struct world *w)
{
    strcpy(w->dir, "/tmp/fh-test-XXXXXX");
    EXPECT(mkdtemp(w->dir));
    EXPECT(chmod(w->dir, 0755) == 0);
    hypervisor_start(w);
}

void
world_restart(struct world *w)
{
    EXPECT(kill(w->hv, SIGKILL) == 0);
    EXPECT_EQ(waitpid(w->hv, NULL, 0), w->hv);
    hypervisor_start(w);
}

void
world_stop(struct world *w)
{
    int status;

    EXPECT(kill(w->hv, SIGTERM) == 0);
    EXPECT_EQ(waitpid(w->hv, &status, 0), w->hv);
    EXPECT_EQ(status, 0, "the hypervisor's exit status");
    EXPECT(rmdir(w->dir) == 0, "nothing is left in %s", w->dir);
}

void
world_domain(struct world *w, const char *name, struct fh_hvctl_domain *out)
{
    EXPECT_EQ(fh_hvctl_create(w->dir, -1, name, out), 0, "%s",
              fh_hvctl_error());
}

static struct json_object *
domain_in(struct json_object *status, int domid)
{
    struct json_object *doms, *v;

    json_object_object_get_ex(status, "domains", &doms);
    for (size_t i = 0; i < json_object_array_length(doms); i++) {
        struct json_object *o = json_object_array_get_idx(doms, i);

        json_object_object_get_ex(o, "domid", &v);
        if (json_object_get_int(v) == domid)
            return o;
    }
    return NULL;
}

int64_t
world_count(struct world *w, int domid, const char *key)
{
    struct json_object *status, *v = NULL;
    int64_t n = -1;

    EXPECT_EQ(fh_hvctl_status(w->dir, &status), 0, "%s", fh_hvctl_error());
    struct json_object *o = domid < 0 ? status : domain_in(status, domid);

    if (o && json_object_object_get_ex(o, key, &v))
        n = json_object_get_int64(v);
    json_object_put(status);
    return n;
}

bool
world_settles(struct world *w, int domid, const char *key, int64_t want)
{
    for (int i = 0; i < 100; i++) {
        if (world_count(w, domid, key) == want)
            return true;
        usleep(10000);
    }
    fprintf(stderr, "%s is %lld, not %lld\n", key,
            (long long)world_count(w, domid, key), (long long)want);
    return false;
}

void
world_enter(const struct fh_hvctl_domain *dom)
{
    setenv(FH_HV_ENV_HYPERCALL, dom->hypercall, 1);
    setenv("XENSTORED_PATH", dom->xenstore, 1);
}

static void
become(const struct fh_hvctl_domain *dom)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    world_enter(dom);
    if (geteuid() || !dom->domid)
        return;
    CHECK(setgroups(0, NULL) == 0);
    CHECK(setresgid(dom->uid, dom->uid, dom->uid) == 0);
    CHECK(setresuid(dom->uid, dom->uid, dom->uid) == 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
}

void
process_start(struct process *p, const struct fh_hvctl_domain *dom,
              process_body *body, void *arg)
{
    int to[2], from[2];

    EXPECT(pipe(to) == 0);
    EXPECT(pipe(from) == 0);
    fflush(NULL);
    p->pid = fork();
    if (p->pid == 0) {
        close(to[1]);
        close(from[0]);
        become(dom);
        body(dom, to[0], from[1], arg);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    p->to = to[1];
    p->from = from[0];
}

void
process_end(struct process *p)
{
    int status;

    close(p->to);
    EXPECT_EQ(waitpid(p->pid, &status, 0), p->pid);
    close(p->from);
    EXPECT_EQ(status, 0, "a process in a domain");
}

void
process_kill(struct process *p)
{
    EXPECT(kill(p->pid, SIGKILL) == 0);
    EXPECT_EQ(waitpid(p->pid, NULL, 0), p->pid);
    close(p->to);
    close(p->from);
}

void
tell(int fd, const void *data, size_t n)
{
    CHECK(write(fd, data, n) == (ssize_t)n);
}

void
hear(int fd, void *data, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t r = read(fd, (char *)data + done, n - done);

        CHECK(r > 0 || (r < 0 && errno == EINTR));
        done += r > 0 ? (size_t)r : 0;
    }
}
