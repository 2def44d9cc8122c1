/* SPDX-License-Identifier: MIT */
/*
 * What one domain cannot do to another.  Needs root, as only root can give
 * each domain a uid of its own; what needs it is skipped otherwise.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <xenevtchn.h>
#include <xengnttab.h>
#include <xenstore.h>

#include "world.h"
#include "xenlibs/hvconn.h"

static struct world world;
static struct fh_hvctl_domain zero, granter, grantee, thief;

struct offer {
    uint32_t rw, ro, port;
    pid_t pid;
};

static void
sharer(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct offer o = { .pid = getpid() };
    char byte;

    CHECK(shr && ev);
    uint8_t *rw = xengntshr_share_pages(shr, grantee.domid, 1, &o.rw, 1);
    uint8_t *ro = xengntshr_share_pages(shr, grantee.domid, 1, &o.ro, 0);
    int port = xenevtchn_bind_unbound_port(ev, grantee.domid);

    CHECK(rw && ro && port > 0);
    rw[0] = 1;
    ro[0] = 2;
    o.port = (uint32_t)port;
    tell(out, &o, sizeof(o));
    hear(in, &byte, 1);
    CHECK(ro[0] == 2); /* whatever they tried */
}

/* Maps @ref by the protocol itself and gets the file's descriptor. */
static int
raw_map(struct fh_hvc *c, uint32_t ref, bool writable, uint64_t *file)
{
    struct gnttab_map_grant_ref *op = (struct gnttab_map_grant_ref *)c->area;
    struct fh_hv_map_place *place = (struct fh_hv_map_place *)(op + 1);
    struct fh_hv_req req = {
        .op = FH_HV_GNT_MAP, .count = 1, .out = sizeof(*op),
    };
    struct fh_hvc_answer a;

    *op = (struct gnttab_map_grant_ref){
        .host_addr = 4096,
        .flags = GNTMAP_host_map | (writable ? 0 : GNTMAP_readonly),
        .ref = ref,
        .dom = granter.domid,
    };
    CHECK(fh_hvc_call(c, &req, -1, NULL) == 0);
    CHECK(op->status == GNTST_okay);
    *file = place->file;
    req = (struct fh_hv_req){ .op = FH_HV_GNT_FILE, .arg = { *file } };
    CHECK(fh_hvc_call(c, &req, -1, &a) == 0 && a.n_fds == 1);
    return a.fds[0];
}

static void
readonly_fd_holds(int fd)
{
    char path[64];
    void *p;

    CHECK(pwrite(fd, "x", 1, 0) == -1);
    CHECK(ftruncate(fd, 0) == -1);
    CHECK(fchmod(fd, 0666) == -1);
    CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == -1);
    CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) ==
          -1);
    p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(p == MAP_FAILED);
    p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    CHECK(p != MAP_FAILED);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == -1);
    munmap(p, 4096);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK(open(path, O_RDWR) == -1 && errno == EACCES);
    CHECK(open(path, O_WRONLY) == -1 && errno == EACCES);
    CHECK(open(path, O_RDONLY | O_TRUNC) == -1);
    CHECK(truncate(path, 0) == -1);
}

static void
cheating_grantee(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const struct offer *o = arg;
    struct fh_hvc c;
    uint64_t ro_file, rw_file;

    CHECK(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 4096, false) == 0);
    int ro = raw_map(&c, o->ro, false, &ro_file);
    int rw = raw_map(&c, o->rw, true, &rw_file);

    CHECK(ro_file != rw_file);
    readonly_fd_holds(ro);
    CHECK(ftruncate(rw, 0) == -1);
    CHECK(ftruncate(rw, 1 << 30) == -1);
    CHECK(fcntl(rw, F_ADD_SEALS, F_SEAL_WRITE) == -1);
    CHECK(fchmod(rw, 0666) == -1);
    CHECK(pwrite(rw, "y", 1, 0) == 1);
    tell(out, &rw_file, sizeof(rw_file));
    char byte;

    hear(in, &byte, 1);
}

static void
connect_fails(const char *path, int type)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, type, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    CHECK(connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == -1);
    CHECK(errno == EACCES);
    close(fd);
}

struct loot {
    struct offer offer;
    uint64_t file;
};

static void
third_domain(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const struct loot *l = arg;
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct fh_hv_req req = { .op = FH_HV_GNT_FILE, .arg = { l->file } };
    struct fh_hvc c;
    char path[128];

    CHECK(gnt && ev);
    CHECK(!xengnttab_map_grant_ref(gnt, granter.domid, l->offer.rw, PROT_READ));
    CHECK(errno == EINVAL);
    CHECK(fh_hvc_open(&c, FH_HV_KIND_GNTTAB, 4096, false) == 0);
    CHECK(fh_hvc_call(&c, &req, -1, NULL) == -ENOENT);
    CHECK(xenevtchn_bind_interdomain(ev, granter.domid, l->offer.port) == -1);
    connect_fails(granter.hypercall, SOCK_SEQPACKET);
    connect_fails(granter.xenstore, SOCK_STREAM);
    connect_fails(zero.hypercall, SOCK_SEQPACKET);
    snprintf(path, sizeof(path), "%s/control", world.dir);
    connect_fails(path, SOCK_STREAM);
    snprintf(path, sizeof(path), "/proc/%d/fd/3", (int)l->offer.pid);
    CHECK(open(path, O_RDONLY) == -1 && errno == EACCES);
    snprintf(path, sizeof(path), "/proc/%d/mem", (int)l->offer.pid);
    CHECK(open(path, O_RDWR) == -1 && errno == EACCES);
    CHECK(ptrace(PTRACE_ATTACH, l->offer.pid, 0, 0) == -1 && errno == EPERM);
    CHECK(kill(l->offer.pid, 0) == -1 && errno == EPERM);
    snprintf(path, sizeof(path), "%s/lib/libxengnttab.so.1", world.dir);
    CHECK(access(path, R_OK | X_OK) == 0 && access(path, W_OK) == -1);
    snprintf(path, sizeof(path), "%s/dom%u", world.dir, dom->domid);
    CHECK(rename(path, "/tmp/fh-stolen") == -1);
    CHECK(unlink(dom->hypercall) == -1 && errno == EACCES);
}

static void
pages_and_sockets__are_out_of_reach(void **state)
{
    struct process s, cheat, third;
    struct loot l;

    process_start(&s, &granter, sharer, NULL);
    hear(s.from, &l.offer, sizeof(l.offer));
    process_start(&cheat, &grantee, cheating_grantee, &l.offer);
    hear(cheat.from, &l.file, sizeof(l.file));
    process_start(&third, &thief, third_domain, &l);
    process_end(&third);
    tell(cheat.to, "e", 1);
    process_end(&cheat);
    tell(s.to, "e", 1);
    process_end(&s);
}

/* What a kill -9 of the mapper leaves in the hypervisor: nothing. */
static void
mapper_to_kill(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const struct offer *o = arg;
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    char byte;

    CHECK(xengnttab_map_grant_ref(gnt, granter.domid, o->ro, PROT_READ));
    CHECK(!xengnttab_map_grant_ref(gnt, granter.domid, o->ro,
                                   PROT_READ | PROT_WRITE));
    tell(out, "m", 1);
    hear(in, &byte, 1);
}

static void
killed_mapper__leaves_no_map(void **state)
{
    struct process s, m;
    struct offer o;
    char byte;

    process_start(&s, &granter, sharer, NULL);
    hear(s.from, &o, sizeof(o));
    process_start(&m, &grantee, mapper_to_kill, &o);
    hear(m.from, &byte, 1);
    EXPECT_EQ(world_count(&world, -1, "maps"), 1);
    process_kill(&m);
    EXPECT(world_settles(&world, -1, "maps", 0));
    tell(s.to, "e", 1);
    process_end(&s);
    EXPECT(world_settles(&world, -1, "shared_pages", 0));
}

/* Its pages are mapped and its process runs. */
static void
destroyed_granter__frees_when_unmapped(void **state)
{
    struct fh_hvctl_domain doomed, saved = granter;
    struct process s, m;
    struct offer o;
    char byte;

    world_domain(&world, "doomed", &doomed);
    process_start(&s, &doomed, sharer, NULL);
    hear(s.from, &o, sizeof(o));
    granter = doomed;
    process_start(&m, &grantee, mapper_to_kill, &o);
    hear(m.from, &byte, 1);
    granter = saved;
    EXPECT_EQ(fh_hvctl_destroy(world.dir, "doomed"), 0, "%s",
              fh_hvctl_error());
    EXPECT_EQ(world_count(&world, -1, "zombies"), 1);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 1, "the mapped one");
    process_kill(&m);
    EXPECT(world_settles(&world, -1, "zombies", 0));
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
    /* Its process still runs: nobody else gets its uid. */
    struct fh_hvctl_domain heir;

    EXPECT_EQ(fh_hvctl_create(world.dir, doomed.domid, NULL, &heir), -EBUSY);
    process_kill(&s);
    EXPECT_EQ(fh_hvctl_create(world.dir, doomed.domid, NULL, &heir), 0, "%s",
              fh_hvctl_error());
}

static void
xenstore__keeps_domains_apart(void **state)
{
    char path[64];
    unsigned len;

    world_enter(&thief);
    struct xs_handle *xs = xs_open(0);

    EXPECT(xs, "xs_open: %d", errno);
    snprintf(path, sizeof(path), "/local/domain/%u/device/x", granter.domid);
    EXPECT(!xs_write(xs, XBT_NULL, path, "1", 1));
    EXPECT_EQ(errno, EACCES);
    snprintf(path, sizeof(path), "/local/domain/%u/data/x", thief.domid);
    EXPECT(xs_write(xs, XBT_NULL, path, "1", 1), "%d", errno);
    char *name = xs_read(xs, XBT_NULL, "name", &len);

    EXPECT(name && !strcmp(name, "thief"));
    free(name);
    xs_close(xs);
    /* A domain's part of the store goes with it. */
    struct fh_hvctl_domain gone;

    world_domain(&world, "gone", &gone);
    snprintf(path, sizeof(path), "/local/domain/%u/name", gone.domid);
    world_enter(&zero);
    xs = xs_open(0);
    name = xs_read(xs, XBT_NULL, path, &len);
    EXPECT(name && !strcmp(name, "gone"));
    free(name);
    EXPECT_EQ(fh_hvctl_destroy(world.dir, "gone"), 0);
    EXPECT(!xs_read(xs, XBT_NULL, path, &len));
    EXPECT_EQ(errno, ENOENT);
    EXPECT(!xs_is_domain_introduced(xs, gone.domid));
    xs_close(xs);
}

static int
setup(void **state)
{
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "granter", &granter);
    world_domain(&world, "grantee", &grantee);
    world_domain(&world, "thief", &thief);
    return 0;
}

static int
teardown(void **state)
{
    world_stop(&world);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_and_sockets__are_out_of_reach),
        cmocka_unit_test(killed_mapper__leaves_no_map),
        cmocka_unit_test(destroyed_granter__frees_when_unmapped),
        cmocka_unit_test(xenstore__keeps_domains_apart),
    };

    if (geteuid()) {
        puts("skipped: a uid per domain needs root");
        return 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
