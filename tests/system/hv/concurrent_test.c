/* SPDX-License-Identifier: MIT */
/*
 * Many domains at once: granters that share pages and take them back while they
 * are mapped, mappers (two of them in domain 0, so that two hypercall threads
 * work on the same entries) that map, copy, notify and unmap, and somebody who
 * kills processes and destroys domains among them.
 *
 * Whatever page a mapper gets belongs to it and to the granter that it named,
 * and holds what these two wrote, or nothing.  In the end nothing is left, and
 * every mapping that began has ended.
 *
 * A page has a region for each process that maps it, so that no two write the
 * same bytes: a head that the granter fills, and a body for copies.
 */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "base/shared.h"
#include "world.h"

enum {
    GRANTERS = 3,
    DOM0_MAPPERS = 2,
    MAPPERS = DOM0_MAPPERS + 3,
    PAGES = 8,
    REGION = 512,
    BODY = 256, /* offset of a region's body, and its length */
    RUN_MS = 3000,
};

/* Written by processes, read by others; a stale offer is refused, not wrong. */
struct offer {
    uint32_t domid, port;
    uint32_t refs[PAGES];
};

struct shared {
    struct offer offer[GRANTERS][MAPPERS];
    uint32_t mapper_domid[MAPPERS];
    uint64_t n_maps, n_copies, n_refused, n_shares;
    uint32_t is_over;
};

/* At the start of each region. */
struct head {
    uint32_t granter, mapper, page, region;
};

struct actor {
    struct fh_hvctl_domain dom;
    struct process process;
    unsigned index;
};

static struct world world;
static struct shared *shared;
static struct fh_hvctl_domain zero;
static struct actor granters[GRANTERS], mappers[MAPPERS];

static uint32_t
rnd(uint32_t below)
{
    static uint64_t s;

    if (!s)
        s = ((uint64_t)getpid() << 20 | 1) * 0x9e3779b97f4a7c15ull;
    s ^= s << 13;
    s ^= s >> 7;
    s ^= s << 17;
    return (uint32_t)(s >> 33) % below;
}

static bool
is_over(void)
{
    return fh_load_relaxed32(&shared->is_over);
}

/* ----------------------------------------------------------- a granter -- */

struct share {
    uint8_t *pages;
    int port;
};

static void
pages_fill(uint8_t *pages, uint32_t granter, uint32_t mapper)
{
    for (uint32_t i = 0; i < PAGES; i++) {
        for (uint32_t r = 0; r < MAPPERS; r++) {
            struct head *head = (void *)(pages + i * 4096 + r * REGION);

            head->mapper = mapper;
            head->page = i;
            head->region = r;
            fh_store_release32(&head->granter, granter);
        }
    }
}

static void
offer_make(const struct fh_hvctl_domain *dom, struct offer *o, uint32_t mapper,
           xengntshr_handle *shr, xenevtchn_handle *ev, struct share *share)
{
    uint32_t refs[PAGES];

    share->pages = xengntshr_share_pages(shr, mapper, PAGES, refs, 1);
    if (!share->pages)
        return; /* the mapper's domain is gone */
    pages_fill(share->pages, dom->domid, mapper);
    share->port = xenevtchn_bind_unbound_port(ev, mapper);
    for (int i = 0; i < PAGES; i++)
        fh_store_relaxed32(&o->refs[i], refs[i]);
    fh_store_relaxed32(&o->port, share->port > 0 ? (uint32_t)share->port : 0);
    fh_store_release32(&o->domid, dom->domid);
    fh_fetch_add64(&shared->n_shares, 1);
}

static void
granter(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    const unsigned me = *(unsigned *)arg;
    struct share shares[MAPPERS] = { { 0 } };
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);

    if (!shr || !ev) /* the domain was destroyed meanwhile */
        return;
    while (!is_over()) {
        const uint32_t m = rnd(MAPPERS);
        struct share *share = &shares[m];

        if (share->pages)
            xengntshr_unshare(shr, share->pages, PAGES);
        if (share->pages && share->port > 0)
            xenevtchn_unbind(ev, (evtchn_port_t)share->port);
        *share = (struct share){ 0 };
        offer_make(dom, &shared->offer[me][m],
                   fh_load_relaxed32(&shared->mapper_domid[m]), shr, ev, share);
        usleep(rnd(3000));
    }
    xenevtchn_close(ev);
    xengntshr_close(shr);
}

/* ------------------------------------------------------------ a mapper -- */

struct mapper {
    unsigned index;
    uint32_t domid;
    xengnttab_handle *gnt;
    xenevtchn_handle *ev;
};

/* Our region of a page: the pair's, or still empty. */
static void
head_check(const struct mapper *m, uint32_t granter_domid, const void *region)
{
    const struct head *head = region;
    const uint32_t who = fh_load_acquire32(&head->granter);

    if (!who)
        return;
    CHECK(who == granter_domid);
    CHECK(head->mapper == m->domid);
    CHECK(head->page < PAGES && head->region == m->index);
}

static int
copy(const struct mapper *m, uint32_t domid, uint32_t ref, uint32_t offset,
     void *local, uint16_t len, bool to_page)
{
    xengnttab_grant_copy_segment_t s = {
        .len = len,
        .flags = to_page ? GNTCOPY_dest_gref : GNTCOPY_source_gref,
    };
    union xengnttab_copy_ptr *page = to_page ? &s.dest : &s.source;

    page->foreign.ref = ref;
    page->foreign.domid = (uint16_t)domid;
    page->foreign.offset = (uint16_t)offset;
    (to_page ? &s.source : &s.dest)->virt = local;
    if (xengnttab_grant_copy(m->gnt, 1, &s) || s.status) {
        fh_fetch_add64(&shared->n_refused, 1);
        return -1;
    }
    fh_fetch_add64(&shared->n_copies, 1);
    return 0;
}

/* A page that nobody keeps mapped for us. */
static void
copy_only(const struct mapper *m, uint32_t domid, uint32_t ref)
{
    _Alignas(16) uint8_t region[REGION];

    if (!copy(m, domid, ref, m->index * REGION, region, BODY, false))
        head_check(m, domid, region);
}

/* What is copied to a mapped page is there, and comes back. */
static void
copies_check(const struct mapper *m, uint32_t domid, uint32_t ref,
             const uint8_t *page)
{
    const uint32_t at = m->index * REGION + BODY;
    uint8_t there[BODY], back[BODY];

    for (int i = 0; i < BODY; i++)
        there[i] = (uint8_t)rnd(256);
    if (copy(m, domid, ref, at, there, BODY, true))
        return; /* the granter dies */
    CHECK(!memcmp(page + at, there, BODY));
    if (!copy(m, domid, ref, at, back, BODY, false))
        CHECK(!memcmp(back, there, BODY));
}

/* The byte after the head is cleared at unmap; the port rings there. */
static void *
map_one(const struct mapper *m, uint32_t domid, uint32_t ref, int port)
{
    if (port > 0)
        return xengnttab_map_grant_ref_notify(
            m->gnt, domid, ref, PROT_READ | PROT_WRITE,
            m->index * REGION + sizeof(struct head), (evtchn_port_t)port);
    return xengnttab_map_grant_ref(m->gnt, domid, ref,
                                   rnd(2) ? PROT_READ : PROT_READ | PROT_WRITE);
}

static void
map_some(const struct mapper *m, const struct offer *o, uint32_t domid)
{
    uint8_t *pages[PAGES] = { NULL };
    const uint32_t n = 1 + rnd(PAGES), remote = fh_load_relaxed32(&o->port);
    const int port =
        remote && rnd(4) == 0
            ? xenevtchn_bind_interdomain(m->ev, domid, remote)
            : -1;

    for (uint32_t i = 0; i < n; i++) {
        const uint32_t ref = fh_load_relaxed32(&o->refs[i]);

        pages[i] = map_one(m, domid, ref, port);
        fh_fetch_add64(pages[i] ? &shared->n_maps : &shared->n_refused, 1);
        if (!pages[i])
            continue;
        head_check(m, domid, pages[i] + m->index * REGION);
        copies_check(m, domid, ref, pages[i]);
    }
    if (port > 0)
        xenevtchn_notify(m->ev, (evtchn_port_t)port);
    for (uint32_t i = 0; i < n; i++) {
        if (pages[i]) /* unless our domain was destroyed */
            CHECK(!xengnttab_unmap(m->gnt, pages[i], 1) || errno == EPIPE);
    }
    if (port > 0)
        xenevtchn_unbind(m->ev, (evtchn_port_t)port);
}

static void
mapper(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    struct mapper m = { .index = *(unsigned *)arg, .domid = dom->domid };

    m.gnt = xengnttab_open(NULL, 0);
    m.ev = xenevtchn_open(NULL, 0);
    if (!m.gnt || !m.ev)
        return;
    while (!is_over()) {
        const struct offer *o = &shared->offer[rnd(GRANTERS)][m.index];
        const uint32_t domid = fh_load_acquire32(&o->domid);

        if (!domid)
            usleep(1000);
        else if (rnd(3))
            map_some(&m, o, domid);
        else
            copy_only(&m, domid, fh_load_relaxed32(&o->refs[rnd(PAGES)]));
    }
    xenevtchn_close(m.ev);
    xengnttab_close(m.gnt);
}

/* ------------------------------------------------------- life and death -- */

static void
actor_start(struct actor *a, process_body *body)
{
    process_start(&a->process, &a->dom, body, &a->index);
}

static void
domain_new(struct actor *a)
{
    static unsigned n;
    char name[32];

    snprintf(name, sizeof(name), "actor-%u", n++);
    world_domain(&world, name, &a->dom);
}

static void
mapper_enter(struct actor *a)
{
    fh_store_relaxed32(&shared->mapper_domid[a->index], a->dom.domid);
    actor_start(a, mapper);
}

static void
domain_end(struct actor *a)
{
    EXPECT_EQ(fh_hvctl_destroy(world.dir, a->dom.name), 0, "%s",
              fh_hvctl_error());
}

/* kill -9.  It runs, or ended in peace: no expectation of its own failed. */
static void
actor_kill(struct actor *a)
{
    struct process *p = &a->process;
    int status;

    EXPECT(kill(p->pid, SIGKILL) == 0);
    EXPECT_EQ(waitpid(p->pid, &status, 0), p->pid);
    EXPECT((WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) || !status,
           "status %#x", status);
    close(p->to);
    close(p->from);
}

/* A domain under a process that goes on, until it is killed. */
static void
domain_replace(struct actor *a)
{
    domain_end(a);
    actor_kill(a);
    domain_new(a);
}

static void
mapper_disturb(struct actor *a)
{
    if (a->index < DOM0_MAPPERS || rnd(2))
        actor_kill(a);
    else
        domain_replace(a);
    mapper_enter(a);
}

static void
granter_disturb(struct actor *a)
{
    if (rnd(2))
        actor_kill(a);
    else
        domain_replace(a);
    actor_start(a, granter);
}

static void
everybody_starts(void)
{
    for (unsigned i = 0; i < MAPPERS; i++) {
        mappers[i].index = i;
        mappers[i].dom = zero;
        if (i >= DOM0_MAPPERS)
            domain_new(&mappers[i]);
        mapper_enter(&mappers[i]);
    }
    for (unsigned i = 0; i < GRANTERS; i++) {
        granters[i].index = i;
        domain_new(&granters[i]);
        actor_start(&granters[i], granter);
    }
}

static void
everybody_ends(void)
{
    fh_store_relaxed32(&shared->is_over, 1);
    for (unsigned i = 0; i < MAPPERS; i++)
        process_end(&mappers[i].process);
    for (unsigned i = 0; i < GRANTERS; i++)
        process_end(&granters[i].process);
    for (unsigned i = DOM0_MAPPERS; i < MAPPERS; i++)
        domain_end(&mappers[i]);
    for (unsigned i = 0; i < GRANTERS; i++)
        domain_end(&granters[i]);
}

static int64_t
now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A counter of the engine's, of domain 0, which lived all the time. */
static int64_t
stat_of_zero(const char *key)
{
    struct json_object *o, *grant, *v;
    int64_t n = -1;

    EXPECT_EQ(fh_hvctl_stats(world.dir, "0", &o), 0, "%s", fh_hvctl_error());
    if (json_object_object_get_ex(o, "grant", &grant) &&
        json_object_object_get_ex(grant, key, &v))
        n = json_object_get_int64(v);
    json_object_put(o);
    return n;
}

static void
nothing_is_left(void)
{
    static const char *const keys[] = { "connections", "maps", "shared_pages",
                                        "channels",    "zombies",
                                        "shared_files", "descriptors" };

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        EXPECT(world_settles(&world, -1, keys[i], 0), "%s", keys[i]);
    EXPECT_EQ(world_count(&world, 0, "maps"), 0);
    EXPECT_EQ(world_count(&world, 0, "ports"), 0);
    EXPECT(stat_of_zero("maps") > 0);
    EXPECT_EQ(stat_of_zero("unmaps"), stat_of_zero("maps"));
}

static void
domains_in_parallel__see_their_own_pages_and_leave_nothing(void **state)
{
    int n_deaths = 0;

    everybody_starts();
    for (const int64_t end = now_ms() + RUN_MS; now_ms() < end; n_deaths++) {
        usleep(20000 + rnd(60000));
        if (rnd(2))
            mapper_disturb(&mappers[rnd(MAPPERS)]);
        else
            granter_disturb(&granters[rnd(GRANTERS)]);
    }
    everybody_ends();
    printf("%llu shares, %llu maps, %llu copies, %llu refused, %d deaths\n",
           (unsigned long long)shared->n_shares,
           (unsigned long long)shared->n_maps,
           (unsigned long long)shared->n_copies,
           (unsigned long long)shared->n_refused, n_deaths);
    EXPECT(shared->n_maps && shared->n_copies && shared->n_refused);
    nothing_is_left();
}

static int
setup(void **state)
{
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT(shared != MAP_FAILED);
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
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
        cmocka_unit_test(
            domains_in_parallel__see_their_own_pages_and_leave_nothing),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
