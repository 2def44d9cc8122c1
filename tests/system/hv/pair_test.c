/* SPDX-License-Identifier: MIT */
/*
 * Two processes in two domains, written against the system's headers only:
 * pages are shared, mapped and copied, events go both ways, and what a death
 * leaves behind is nothing.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "world.h"

enum { PAGES = 5 };

struct offer {
    uint32_t domid;
    uint32_t refs[PAGES];   /* writable */
    uint32_t ro[PAGES];     /* read-only */
    uint32_t port;
};

static struct world world;
static struct fh_hvctl_domain front, back;

/* Shares pages, offers an event channel, answers one event, waits. */
static void
granter(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct offer offer = { .domid = dom->domid };
    char byte;

    CHECK(shr && ev);
    uint8_t *rw = xengntshr_share_pages(shr, back.domid, PAGES, offer.refs, 1);
    uint8_t *ro = xengntshr_share_pages(shr, back.domid, PAGES, offer.ro, 0);

    CHECK(rw && ro);
    for (int i = 0; i < PAGES * 4096; i++)
        CHECK(rw[i] == 0 && ro[i] == 0);
    for (int i = 0; i < PAGES; i++)
        rw[i * 4096] = ro[i * 4096] = (uint8_t)(i + 1);
    int port = xenevtchn_bind_unbound_port(ev, back.domid);

    CHECK(port > 0);
    offer.port = (uint32_t)port;
    tell(out, &offer, sizeof(offer));
    /* The other side maps, writes and rings. */
    CHECK(xenevtchn_pending(ev) == port);
    CHECK(rw[0] == 0x55);
    CHECK(xenevtchn_unmask(ev, offer.port) == 0);
    CHECK(xenevtchn_notify(ev, offer.port) == 0);
    if (read(in, &byte, 1) == 1) /* "unshare": else die as you are */
        CHECK(xengntshr_unshare(shr, rw, PAGES) == 0 &&
              xengntshr_unshare(shr, ro, PAGES) == 0 &&
              xenevtchn_close(ev) == 0 && xengntshr_close(shr) == 0);
    tell(out, "x", 1);
    while (read(in, &byte, 1) == 1)
        continue;
}

static void
offer_get(struct process *p, struct offer *offer)
{
    process_start(p, &front, granter, NULL);
    hear(p->from, offer, sizeof(*offer));
}

static void
ring_once(xenevtchn_handle *ev, const struct offer *offer)
{
    struct pollfd pfd = { .fd = xenevtchn_fd(ev), .events = POLLIN };
    int port =
        xenevtchn_bind_interdomain(ev, offer->domid, offer->port);

    EXPECT(port > 0, "bind: %d", errno);
    EXPECT_EQ(poll(&pfd, 1, 0), 1, "a fresh port is pending");
    EXPECT_EQ(xenevtchn_pending(ev), port);
    EXPECT_EQ(poll(&pfd, 1, 0), 0, "once");
    EXPECT_EQ(xenevtchn_unmask(ev, (evtchn_port_t)port), 0);
    EXPECT_EQ(poll(&pfd, 1, 0), 0, "nothing came meanwhile");
    EXPECT_EQ(xenevtchn_notify(ev, (evtchn_port_t)port), 0);
    EXPECT_EQ(poll(&pfd, 1, 5000), 1, "the answer comes");
    EXPECT_EQ(xenevtchn_pending(ev), port);
    EXPECT_EQ(xenevtchn_notify(ev, (evtchn_port_t)port + 1), -1);
    EXPECT_EQ(errno, ENOTCONN, "a port of nobody");
}

static void
pages__are_shared_mapped_and_seen(void **state)
{
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct process p;
    struct offer o;
    char byte;

    EXPECT(gnt && ev);
    offer_get(&p, &o);
    uint8_t *rw = xengnttab_map_domain_grant_refs(
        gnt, PAGES, o.domid, o.refs, PROT_READ | PROT_WRITE);
    EXPECT(rw, "map: %d", errno);
    for (int i = 0; i < PAGES; i++)
        EXPECT_EQ(rw[i * 4096], i + 1);
    /* Read-only, and scattered in reverse order. */
    uint32_t back_refs[PAGES], domids[PAGES];

    for (int i = 0; i < PAGES; i++) {
        back_refs[i] = o.ro[PAGES - 1 - i];
        domids[i] = o.domid;
    }
    uint8_t *ro = xengnttab_map_grant_refs(gnt, PAGES, domids, back_refs,
                                           PROT_READ);
    EXPECT(ro, "map: %d", errno);
    for (int i = 0; i < PAGES; i++)
        EXPECT_EQ(ro[i * 4096], PAGES - i);
    EXPECT_EQ(world_count(&world, 0, "maps"), 2 * PAGES);
    rw[0] = 0x55;
    ring_once(ev, &o);
    EXPECT_EQ(xengnttab_unmap(gnt, rw, PAGES), 0);
    /* Unshared while mapped: the page stays until the unmap. */
    tell(p.to, "u", 1);
    hear(p.from, &byte, 1);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), PAGES);
    EXPECT_EQ(ro[0], PAGES);
    EXPECT_EQ(xengnttab_unmap(gnt, ro, PAGES), 0);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
    process_end(&p);
    EXPECT_EQ(xengnttab_close(gnt), 0);
    EXPECT_EQ(xenevtchn_close(ev), 0);
    EXPECT_EQ(world_count(&world, -1, "maps"), 0);
    EXPECT_EQ(world_count(&world, -1, "channels"), 0);
}

static void
granter_death__leaves_mapped_pages(void **state)
{
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    struct process p;
    struct offer o;

    offer_get(&p, &o);
    uint8_t *rw = xengnttab_map_domain_grant_refs(
        gnt, PAGES, o.domid, o.refs, PROT_READ | PROT_WRITE);
    EXPECT(rw);
    process_kill(&p);
    EXPECT(world_settles(&world, front.domid, "connections", 0));
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), PAGES, "the mapped");
    EXPECT_EQ(rw[4096], 2, "still there");
    EXPECT_EQ(xengnttab_unmap(gnt, rw, PAGES), 0);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
    EXPECT(!xengnttab_map_domain_grant_refs(gnt, PAGES, o.domid, o.refs,
                                            PROT_READ | PROT_WRITE));
    EXPECT_EQ(errno, EINVAL, "a reference that is gone");
    xengnttab_close(gnt);
}

/* Maps, and dies without a word. */
static void
mapper(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const struct offer *o = arg;
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    uint32_t refs[PAGES];
    char byte;

    CHECK(gnt && ev);
    memcpy(refs, o->refs, sizeof(refs));
    CHECK(xengnttab_map_domain_grant_refs(gnt, PAGES, o->domid, refs,
                                          PROT_READ | PROT_WRITE));
    CHECK(xenevtchn_bind_interdomain(ev, o->domid, o->port) > 0);
    tell(out, "m", 1);
    hear(in, &byte, 1);
}

static void
mapper_death__leaves_no_map_and_a_port_to_bind_again(void **state)
{
    struct process p, q;
    struct offer o;
    char byte;

    offer_get(&p, &o);
    for (int i = 0; i < 3; i++) {
        struct fh_hvctl_domain zero;

        EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
        process_start(&q, &zero, mapper, &o);
        hear(q.from, &byte, 1);
        EXPECT_EQ(world_count(&world, -1, "maps"), PAGES, "round %d", i);
        process_kill(&q);
        EXPECT(world_settles(&world, -1, "maps", 0), "round %d", i);
        EXPECT(world_settles(&world, 0, "ports", 0), "round %d", i);
        EXPECT_EQ(world_count(&world, front.domid, "ports"), 1);
    }
    process_kill(&p);
    EXPECT(world_settles(&world, -1, "shared_pages", 0));
    EXPECT(world_settles(&world, -1, "channels", 0));
}

static void
segment(xengnttab_grant_copy_segment_t *s, const struct offer *o, uint32_t ref,
        bool to_grant, void *virt, uint16_t offset, uint16_t len)
{
    union xengnttab_copy_ptr *f = to_grant ? &s->dest : &s->source;

    *s = (xengnttab_grant_copy_segment_t){ .len = len, .status = 99 };
    s->flags = to_grant ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
    f->foreign.ref = ref;
    f->foreign.offset = offset;
    f->foreign.domid = (uint16_t)o->domid;
    if (to_grant)
        s->source.virt = virt;
    else
        s->dest.virt = virt;
}

enum { MANY = 3000 };

static void
copies__are_more_than_one_hypercall_holds(void **state)
{
    static uint8_t local[4096], pattern[MANY];
    xengnttab_grant_copy_segment_t *s = calloc(MANY, sizeof(*s));
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    struct process p;
    struct offer o;

    offer_get(&p, &o);
    for (int i = 0; i < MANY; i++)
        pattern[i] = (uint8_t)(i * 7);
    for (int i = 0; i < MANY; i++)
        segment(&s[i], &o, o.refs[2], true, &pattern[i], (uint16_t)i, 1);
    EXPECT_EQ(xengnttab_grant_copy(gnt, MANY, s), 0);
    segment(&s[0], &o, o.refs[2], false, local, 0, 4096);
    EXPECT_EQ(xengnttab_grant_copy(gnt, 1, s), 0);
    EXPECT(!memcmp(local, pattern, MANY));
    EXPECT_EQ(xengnttab_close(gnt), 0);
    process_kill(&p);
    EXPECT(world_settles(&world, -1, "shared_pages", 0));
    free(s);
}

static void
map__is_refused_whole(void **state)
{
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    struct process p;
    struct offer o;
    uint32_t fd;

    offer_get(&p, &o);
    uint32_t domids[] = { o.domid, o.domid, o.domid };
    uint32_t refs[] = { o.refs[0], 31000, o.refs[1] };

    EXPECT(!xengnttab_map_grant_refs(gnt, 3, domids, refs, PROT_READ));
    EXPECT_EQ(errno, EINVAL, "a bad reference in the middle");
    refs[1] = o.refs[2];
    domids[2] = 4000;
    EXPECT(!xengnttab_map_grant_refs(gnt, 3, domids, refs, PROT_READ));
    EXPECT_EQ(errno, EINVAL, "no such domain");
    EXPECT_EQ(world_count(&world, -1, "maps"), 0, "undone");
    domids[2] = o.domid;
    EXPECT(!xengnttab_map_grant_refs(gnt, 0, domids, refs, PROT_READ));
    EXPECT(!xengnttab_map_grant_refs(gnt, 3, domids, refs, PROT_NONE));
    EXPECT(!xengnttab_map_grant_refs(gnt, 3, domids, refs, PROT_EXEC));
    /* One reference twice is two mappings of one page. */
    refs[1] = refs[2] = refs[0];
    volatile uint8_t *page = xengnttab_map_grant_refs(
        gnt, 3, domids, refs, PROT_READ | PROT_WRITE);
    EXPECT(page);
    page[5] = 77;
    EXPECT_EQ(page[2 * 4096 + 5], 77);
    EXPECT_EQ(xengnttab_unmap(gnt, (void *)page, 3), 0);
    EXPECT_EQ(xengnttab_set_max_grants(gnt, 10), 0);
    EXPECT_EQ(xengnttab_dmabuf_exp_from_refs(gnt, 0, 0, 1, refs, &fd), -1);
    EXPECT_EQ(errno, ENOSYS);
    xengnttab_close(gnt);
    process_kill(&p);
    EXPECT(world_settles(&world, -1, "shared_pages", 0));
}

/* Only close() is for a child; the pages are not. */
static void
child__has_no_mapping_and_harms_none(void **state)
{
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct process p;
    struct offer o;
    int status;

    offer_get(&p, &o);
    volatile uint8_t *page = xengnttab_map_grant_ref(
        gnt, o.domid, o.refs[0], PROT_READ | PROT_WRITE);
    EXPECT(page);
    EXPECT(xenevtchn_bind_interdomain(ev, o.domid, o.port) > 0);
    fflush(NULL);
    pid_t pid = fork();

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(page[0]);
    }
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV, "%d", status);
    pid = fork();
    if (pid == 0)
        _exit(xengnttab_close(gnt) || xenevtchn_close(ev));
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(page[0], 1, "the parent's is as it was");
    EXPECT_EQ(world_count(&world, -1, "maps"), 1);
    EXPECT_EQ(world_count(&world, 0, "ports"), 1);
    EXPECT(xenevtchn_pending(ev) > 0);
    xengnttab_close(gnt);
    xenevtchn_close(ev);
    EXPECT_EQ(world_count(&world, -1, "maps"), 0);
    process_kill(&p);
    EXPECT(world_settles(&world, -1, "shared_pages", 0));
}

/* Without a hypervisor calls fail; what is mapped stays; a new one starts in
 * the same place. */
static void
hypervisor_death__fails_calls_and_can_be_followed(void **state)
{
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    struct process p;
    struct offer o;

    offer_get(&p, &o);
    uint8_t *page = xengnttab_map_grant_ref(gnt, o.domid, o.refs[0],
                                            PROT_READ | PROT_WRITE);
    int port = xenevtchn_bind_interdomain(ev, o.domid, o.port);

    EXPECT(page && port > 0);
    world_restart(&world);
    EXPECT_EQ(page[0], 1);
    EXPECT_EQ(xenevtchn_notify(ev, (evtchn_port_t)port), 0, "between them");
    EXPECT(!xengnttab_map_grant_ref(gnt, o.domid, o.refs[1], PROT_READ));
    EXPECT(errno == EPIPE || errno == ECONNRESET, "%d", errno);
    EXPECT_EQ(xenevtchn_unbind(ev, (evtchn_port_t)port), -1);
    EXPECT_EQ(xengnttab_unmap(gnt, page, 1), -1);
    xengnttab_close(gnt);
    xenevtchn_close(ev);
    process_kill(&p);
    gnt = xengnttab_open(NULL, 0);
    EXPECT(gnt, "the next one answers at the same place");
    xengnttab_close(gnt);
    world_domain(&world, "front", &front);
}

static int
setup(void **state)
{
    struct fh_hvctl_domain zero;

    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "front", &front);
    back = zero;
    world_enter(&zero);
    return 0;
}

static int
teardown(void **state)
{
    EXPECT_EQ(fh_hvctl_destroy(world.dir, "front"), 0, "%s", fh_hvctl_error());
    EXPECT_EQ(world_count(&world, -1, "shared_files"), 0);
    EXPECT_EQ(world_count(&world, -1, "slot_files"), 0);
    EXPECT_EQ(world_count(&world, -1, "zombies"), 0);
    world_stop(&world);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages__are_shared_mapped_and_seen),
        cmocka_unit_test(granter_death__leaves_mapped_pages),
        cmocka_unit_test(mapper_death__leaves_no_map_and_a_port_to_bind_again),
        cmocka_unit_test(copies__are_more_than_one_hypercall_holds),
        cmocka_unit_test(map__is_refused_whole),
        cmocka_unit_test(child__has_no_mapping_and_harms_none),
        cmocka_unit_test(hypervisor_death__fails_calls_and_can_be_followed),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
