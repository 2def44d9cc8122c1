/* SPDX-License-Identifier: MIT */
/*
 * Event channels of the local hypervisor between two domains: nothing is lost,
 * who may bind what, a handle that is passed on.  One process plays both
 * domains, which fhv's own uid may.  What holds on Xen as well is in
 * tests/xen/rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "base/shared.h"
#include "world.h"

static struct world world;
static struct fh_hvctl_domain zero, front, other;

static xenevtchn_handle *
open_as(const struct fh_hvctl_domain *dom, unsigned flags)
{
    world_enter(dom);
    xenevtchn_handle *ev = xenevtchn_open(NULL, flags);

    EXPECT(ev, "xenevtchn_open: %d", errno);
    return ev;
}

static bool
is_ready(xenevtchn_handle *ev)
{
    struct pollfd pfd = { .fd = xenevtchn_fd(ev), .events = POLLIN };

    return poll(&pfd, 1, 0) == 1;
}

/* A bound pair: *@f waits in front, *@b was bound in domain 0. */
static void
pair_open(xenevtchn_handle **f, int *fp, xenevtchn_handle **b, int *bp)
{
    *f = open_as(&front, 0);
    *b = open_as(&zero, 0);
    *fp = xenevtchn_bind_unbound_port(*f, 0);
    EXPECT(*fp > 0);
    *bp = xenevtchn_bind_interdomain(*b, front.domid, (evtchn_port_t)*fp);
    EXPECT(*bp > 0, "bind: %d", errno);
    EXPECT_EQ(xenevtchn_pending(*b), *bp, "pending at bind");
    EXPECT_EQ(xenevtchn_unmask(*b, (evtchn_port_t)*bp), 0);
}

enum { SENT = 50000 };

/* Counts up in a page and rings after each step. */
static void
counter(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    uint32_t said[2];
    void *page = xengntshr_share_pages(shr, 0, 1, &said[0], 1);
    int port = xenevtchn_bind_unbound_port(ev, 0);
    char byte;

    CHECK(page && port > 0);
    said[1] = (uint32_t)port;
    tell(out, said, sizeof(said));
    hear(in, &byte, 1);
    for (uint32_t i = 1; i <= SENT; i++) {
        fh_store_release32(page, i);
        CHECK(xenevtchn_notify(ev, said[1]) == 0);
        for (uint32_t k = i * 2654435761u >> 23; i % 3 && k; k--)
            fh_cpu_relax();
    }
    hear(in, &byte, 1);
}

/* Whoever looks only when told sees the last step too. */
static void
last_event__is_never_lost(void **state)
{
    struct process p;
    uint32_t said[2], n_wakes = 0;

    process_start(&p, &front, counter, NULL);
    hear(p.from, said, sizeof(said));
    xenevtchn_handle *ev = open_as(&zero, 0);
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    void *page =
        xengnttab_map_grant_ref(gnt, front.domid, said[0], PROT_READ);
    int port = xenevtchn_bind_interdomain(ev, front.domid, said[1]);
    struct pollfd pfd = { .fd = xenevtchn_fd(ev), .events = POLLIN };

    EXPECT(page && port > 0);
    tell(p.to, "g", 1);
    for (uint32_t seen = 0; seen != SENT; n_wakes++) {
        EXPECT_EQ(poll(&pfd, 1, 10000), 1, "asleep at %u", seen);
        EXPECT_EQ(xenevtchn_pending(ev), port);
        EXPECT_EQ(xenevtchn_unmask(ev, (evtchn_port_t)port), 0);
        seen = fh_load_acquire32(page);
    }
    printf("%d events, %u wake-ups\n", SENT, n_wakes);
    tell(p.to, "e", 1);
    process_end(&p);
    EXPECT_EQ(xengnttab_unmap(gnt, page, 1), 0);
    xengnttab_close(gnt);
    xenevtchn_close(ev);
}

static void
many_ports__are_all_delivered(void **state)
{
    enum { N = 200 };
    xenevtchn_handle *f = open_as(&front, 0), *b = open_as(&zero, 0);
    int fp[N], bp[N];
    bool seen[4096] = { false };

    for (int i = 0; i < N; i++) {
        fp[i] = xenevtchn_bind_unbound_port(f, 0);
        bp[i] = xenevtchn_bind_interdomain(b, front.domid,
                                           (evtchn_port_t)fp[i]);
        EXPECT(fp[i] > 0 && bp[i] > 0, "%d: %d", i, errno);
    }
    for (int i = 0; i < N; i++)
        EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp[i]), 0);
    for (int i = 0; i < N; i++) {
        int port = xenevtchn_pending(f);

        EXPECT(port > 0 && !seen[port], "port %d", port);
        seen[port] = true;
    }
    EXPECT(!is_ready(f));
    /* All were sent again while masked. */
    for (int i = 0; i < N; i++)
        EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp[i]), 0);
    for (int i = 0; i < N; i++)
        EXPECT_EQ(xenevtchn_unmask(f, (evtchn_port_t)fp[i]), 0);
    for (int i = 0; i < N; i++) {
        EXPECT(is_ready(f), "%d", i);
        EXPECT(xenevtchn_pending(f) > 0);
    }
    EXPECT(!is_ready(f));
    xenevtchn_close(f);
    xenevtchn_close(b);
    EXPECT_EQ(world_count(&world, -1, "channels"), 0);
}

/* What tests/xen/rules cannot ask of Xen's dom0. */
static void
bind__is_refused(void **state)
{
    xenevtchn_handle *f, *b, *o = open_as(&other, 0);
    int fp, bp;

    pair_open(&f, &fp, &b, &bp);
    EXPECT_EQ(xenevtchn_unbind(b, (evtchn_port_t)bp), 0);
    EXPECT_EQ(xenevtchn_bind_interdomain(o, front.domid, (evtchn_port_t)fp),
              -1);
    EXPECT_EQ(errno, EINVAL, "it waits for somebody else");
    EXPECT_EQ(xenevtchn_bind_virq(b, 0), -1);
    EXPECT_EQ(errno, ENOSYS);
    EXPECT_EQ(xenevtchn_restrict(b, front.domid), 0);
    bp = xenevtchn_bind_interdomain(b, front.domid, (evtchn_port_t)fp);
    EXPECT(bp > 0, "the one it is restricted to: %d", errno);
    xenevtchn_close(f);
    xenevtchn_close(b);
    xenevtchn_close(o);
}

static void
other_descriptor__is_no_handle(void **state)
{
    world_enter(&front);
    EXPECT(!xenevtchn_fdopen(NULL, 0, 0));
    EXPECT(!xenevtchn_fdopen(NULL, 0, XENEVTCHN_NO_CLOEXEC));
    EXPECT_EQ(errno, EINVAL);
}

/* Opens a port, becomes a new program that goes on with it. */
static void
execer(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, XENEVTCHN_NO_CLOEXEC);
    char words[4][16], libs[sizeof(world.dir) + 4];
    int port = ev ? xenevtchn_bind_unbound_port(ev, 0) : -1;
    char byte;

    /* The build may be in a directory that only its owner may enter: after the
     * exec the loader, under this domain's uid, finds the staged libraries. */
    snprintf(libs, sizeof(libs), "%s/lib", world.dir);
    CHECK(!setenv("LD_LIBRARY_PATH", libs, 1));
    CHECK(port > 0);
    tell(out, &port, sizeof(port));
    hear(in, &byte, 1); /* an event came, and is masked now */
    CHECK(xenevtchn_pending(ev) == port);
    snprintf(words[0], sizeof(words[0]), "%d", xenevtchn_fd(ev));
    snprintf(words[1], sizeof(words[1]), "%d", port);
    snprintf(words[2], sizeof(words[2]), "%d", in);
    snprintf(words[3], sizeof(words[3]), "%d", out);
    execl("/proc/self/exe", "events_test", "--adopt", words[0], words[1],
          words[2], words[3], NULL);
    CHECK(!"exec");
}

static int
adopt(char **argv)
{
    const int fd = atoi(argv[0]), port = atoi(argv[1]), in = atoi(argv[2]);
    const int out = atoi(argv[3]);
    xenevtchn_handle *ev = xenevtchn_fdopen(NULL, fd, 0);
    char byte;

    CHECK(ev);
    CHECK(!is_ready(ev)); /* masked by who was here before */
    tell(out, "1", 1);
    hear(in, &byte, 1); /* another event came */
    CHECK(!is_ready(ev));
    CHECK(xenevtchn_unmask(ev, (evtchn_port_t)port) == 0);
    CHECK(xenevtchn_pending(ev) == port);
    CHECK(xenevtchn_unmask(ev, (evtchn_port_t)port) == 0);
    CHECK(xenevtchn_notify(ev, (evtchn_port_t)port) == 0);
    CHECK(xenevtchn_pending(ev) == port);
    CHECK(xenevtchn_close(ev) == 0);
    tell(out, "2", 1);
    hear(in, &byte, 1);
    return 0;
}

static void
handle__survives_an_exec(void **state)
{
    xenevtchn_handle *b = open_as(&zero, 0);
    struct process p;
    int port, bp;
    char byte;

    process_start(&p, &front, execer, NULL);
    hear(p.from, &port, sizeof(port));
    bp = xenevtchn_bind_interdomain(b, front.domid, (evtchn_port_t)port);
    EXPECT(bp > 0 && xenevtchn_pending(b) == bp);
    EXPECT_EQ(xenevtchn_unmask(b, (evtchn_port_t)bp), 0);
    EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp), 0);
    tell(p.to, "g", 1);
    hear(p.from, &byte, 1);
    EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp), 0);
    tell(p.to, "g", 1);
    EXPECT_EQ(xenevtchn_pending(b), bp);
    EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp), 0);
    hear(p.from, &byte, 1);
    EXPECT_EQ(world_count(&world, front.domid, "ports"), 0, "closed");
    EXPECT_EQ(world_count(&world, front.domid, "connections"), 0);
    tell(p.to, "g", 1);
    process_end(&p);
    xenevtchn_close(b);
}

static int
setup(void **state)
{
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "front", &front);
    world_domain(&world, "other", &other);
    return 0;
}

static int
teardown(void **state)
{
    EXPECT(world_settles(&world, -1, "channels", 0));
    EXPECT_EQ(world_count(&world, -1, "slot_files"), 0);
    EXPECT(world_settles(&world, -1, "connections", 0));
    world_stop(&world);
    return 0;
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(last_event__is_never_lost),
        cmocka_unit_test(many_ports__are_all_delivered),
        cmocka_unit_test(bind__is_refused),
        cmocka_unit_test(other_descriptor__is_no_handle),
        cmocka_unit_test(handle__survives_an_exec),
    };

    if (argc == 6 && !strcmp(argv[1], "--adopt"))
        return adopt(argv + 2);
    return cmocka_run_group_tests(tests, setup, teardown);
}
