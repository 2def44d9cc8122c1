/* SPDX-License-Identifier: MIT */
/*
 * Rules of grants: see rules.h.  The domain grants pages to itself, which Xen
 * allows and Linux's gntalloc does.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xengnttab.h>

#include "rules.h"

enum {
    PAGES = 4,
    PAGE = 4096,
    NOBODYS_REF = 30000, /* beyond any table of this domain */
    NO_DOMAIN = 999,
    BYTE = 8, /* that a notification clears */
};

struct grants {
    xengntshr_handle *shr;
    xengnttab_handle *tab;
    uint8_t *pages; /* the granter's */
    uint32_t refs[PAGES];
};

static void
grants_open(struct grants *g, int writable)
{
    g->shr = xengntshr_open(NULL, 0);
    g->tab = xengnttab_open(NULL, 0);
    MUST(g->shr && g->tab);
    g->pages = xengntshr_share_pages(g->shr, self_domid, PAGES, g->refs,
                                     writable);
    MUST(g->pages);
    for (int i = 0; i < PAGES; i++)
        memset(g->pages + i * PAGE, i + 1, PAGE);
}

static void
grants_close(struct grants *g)
{
    MUST_BE(xengntshr_unshare(g->shr, g->pages, PAGES), 0);
    MUST_BE(xengntshr_close(g->shr), 0);
    MUST_BE(xengnttab_close(g->tab), 0);
}

static uint8_t *
map(struct grants *g, int prot)
{
    return xengnttab_map_domain_grant_refs(g->tab, PAGES, self_domid, g->refs,
                                           prot);
}

/* ---------------------------------------------------------- map and unmap */

static void
mapped_pages__are_the_granters(void)
{
    struct grants g;

    grants_open(&g, 1);
    uint8_t *m = map(&g, PROT_READ | PROT_WRITE);

    MUST(m);
    for (int i = 0; i < PAGES; i++)
        MUST_BE(m[i * PAGE], i + 1);
    m[PAGE + 7] = 77;
    MUST_BE(g.pages[PAGE + 7], 77);
    g.pages[7] = 78;
    MUST_BE(m[7], 78);
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    grants_close(&g);
}

static void
part_of_a_mapping__is_not_unmapped(void)
{
    struct grants g;

    grants_open(&g, 1);
    uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    MUST_REFUSE(xengnttab_unmap(g.tab, m, PAGES - 1), EINVAL);
    MUST_REFUSE(xengnttab_unmap(g.tab, m, 1), EINVAL);
    MUST_REFUSE(xengnttab_unmap(g.tab, m + PAGE, PAGES - 1), EINVAL);
    MUST_BE(m[(PAGES - 1) * PAGE], PAGES); /* all is there still */
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    grants_close(&g);
}

static void
doubled_unmap__is_refused(void)
{
    struct grants g;

    grants_open(&g, 1);
    uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    MUST_REFUSE(xengnttab_unmap(g.tab, m, PAGES), EINVAL);
    grants_close(&g);
}

static void
bad_reference__fails_the_whole_map(void)
{
    struct grants g;
    uint32_t domids[PAGES];

    grants_open(&g, 1);
    const uint32_t good = g.refs[2];

    g.refs[2] = NOBODYS_REF;
    errno = 0;
    MUST(!map(&g, PROT_READ));
    MUST_BE(errno, EINVAL);
    g.refs[2] = good;
    for (int i = 0; i < PAGES; i++)
        domids[i] = self_domid;
    domids[1] = NO_DOMAIN;
    errno = 0;
    MUST(!xengnttab_map_grant_refs(g.tab, PAGES, domids, g.refs, PROT_READ));
    MUST_BE(errno, EINVAL);
    uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    grants_close(&g);
}

static void
read_only_grant__is_not_mapped_for_writing(void)
{
    struct grants g;

    grants_open(&g, 0);
    errno = 0;
    MUST(!map(&g, PROT_READ | PROT_WRITE));
    MUST_BE(errno, EINVAL);
    uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    MUST_BE(m[PAGE], 2);
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    grants_close(&g);
}

static void
one_page__can_be_mapped_twice(void)
{
    struct grants g;
    uint32_t twice[2], domids[2] = { self_domid, self_domid };

    grants_open(&g, 1);
    twice[0] = twice[1] = g.refs[1];
    volatile uint8_t *m = xengnttab_map_grant_refs(g.tab, 2, domids, twice,
                                                   PROT_READ | PROT_WRITE);
    MUST(m);
    m[5] = 91;
    MUST_BE(m[PAGE + 5], 91);
    MUST_BE(xengnttab_unmap(g.tab, (void *)m, 2), 0);
    grants_close(&g);
}

static void
unshared_page__stays_while_it_is_mapped(void)
{
    struct grants g;

    grants_open(&g, 1);
    uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    MUST_BE(xengntshr_unshare(g.shr, g.pages, PAGES), 0);
    for (int i = 0; i < PAGES; i++)
        MUST_BE(m[i * PAGE], i + 1);
    MUST_BE(xengnttab_unmap(g.tab, m, PAGES), 0);
    MUST_BE(xengntshr_close(g.shr), 0);
    MUST_BE(xengnttab_close(g.tab), 0);
}

static void
revoked_reference__is_refused(void)
{
    struct grants g;

    grants_open(&g, 1);
    MUST_BE(xengntshr_unshare(g.shr, g.pages, PAGES), 0);
    errno = 0;
    MUST(!map(&g, PROT_READ));
    MUST_BE(errno, EINVAL);
    MUST_BE(xengntshr_close(g.shr), 0);
    MUST_BE(xengnttab_close(g.tab), 0);
}

/* ---------------------------------------------------------------- process */

/* What another process works with. */
struct notified {
    uint32_t ref, port;
    bool unmaps; /* and does not just die */
};

enum { STEPS = 3000 };

/* Counts up in a page and sends an event after each step. */
static void
counter(int fd, void *arg)
{
    const struct notified *n = arg;
    xengnttab_handle *tab = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? bind_soon(ev, n->port) : -1;
    volatile uint32_t *count = tab && port > 0
                                   ? xengnttab_map_grant_ref(
                                         tab, self_domid, n->ref,
                                         PROT_READ | PROT_WRITE)
                                   : NULL;

    MUST(count);
    for (uint32_t i = 1; i <= STEPS; i++) {
        *count = i;
        MUST_BE(xenevtchn_notify(ev, (uint32_t)port), 0);
        for (volatile uint32_t k = i * 2654435761u >> 22; i % 3 && k; k--)
            continue;
    }
    say(fd, 1, -1);
    (void)hear(fd, NULL);
}

/* Whoever looks only when told sees the last step. */
static void
last_event__is_not_lost(void)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;
    struct notified n = { .port = (uint32_t)port };
    struct grants g;
    struct party p;

    MUST(port > 0);
    grants_open(&g, 1);
    volatile uint32_t *count = (void *)g.pages;

    *count = 0;
    n.ref = g.refs[0];
    party_start(&p, counter, &n);
    while (*count != STEPS) {
        takes(ev, port);
        MUST_BE(xenevtchn_unmask(ev, (uint32_t)port), 0);
    }
    MUST_BE(hear(p.fd, NULL), 1);
    party_kill(&p);
    grants_close(&g);
    MUST_BE(xenevtchn_close(ev), 0);
}

/* Only the process that mapped them has the pages. */
static void
child__has_no_mapping(void)
{
    struct grants g;
    int status;

    grants_open(&g, 1);
    volatile uint8_t *m = map(&g, PROT_READ);

    MUST(m);
    const pid_t pid = fork();

    if (pid == 0) {
        signal(SIGSEGV, SIG_DFL);
        prctl(PR_SET_DUMPABLE, 0); /* it is no crash to be found */
        _exit(m[0]);
    }
    MUST_BE(waitpid(pid, &status, 0), pid);
    MUST(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
    MUST_BE(m[0], 1);
    MUST_BE(xengnttab_unmap(g.tab, (void *)m, PAGES), 0);
    grants_close(&g);
}

/* Maps with a notification; says so; unmaps when told, or is killed. */
static void
mapper(int fd, void *arg)
{
    const struct notified *n = arg;
    xengnttab_handle *tab = xengnttab_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? bind_soon(ev, n->port) : -1;

    MUST(tab && port > 0);
    errno = 0;
    MUST(!xengnttab_map_grant_ref_notify(tab, self_domid, n->ref, PROT_READ,
                                         BYTE, (uint32_t)port));
    MUST_BE(errno, EINVAL); /* who may not write may not clear */
    uint8_t *m = xengnttab_map_grant_ref_notify(
        tab, self_domid, n->ref, PROT_READ | PROT_WRITE, BYTE, (uint32_t)port);

    MUST(m);
    m[BYTE - 1] = m[BYTE] = m[BYTE + 1] = 0xaa;
    say(fd, 1, -1);
    (void)hear(fd, NULL);
    MUST(n->unmaps);
    MUST_BE(xengnttab_unmap(tab, m, 1), 0);
    say(fd, 2, -1);
    (void)hear(fd, NULL);
}

/* The page's owner is told when the page is unmapped, and how it came to be. */
static void
is_told_of_the_unmap(bool unmaps)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;
    struct notified n = { .port = (uint32_t)port, .unmaps = unmaps };
    struct grants g;
    struct party p;

    MUST(port > 0);
    grants_open(&g, 1);
    n.ref = g.refs[0];
    party_start(&p, mapper, &n);
    MUST_BE(hear(p.fd, NULL), 1);
    MUST_BE(g.pages[BYTE], 0xaa);
    MUST_BE_QUIET(ev);
    if (unmaps) {
        say(p.fd, 1, -1);
        MUST_BE(hear(p.fd, NULL), 2);
    } else {
        party_kill(&p);
    }
    takes(ev, port);
    MUST_BE(g.pages[BYTE], 0);
    MUST_BE(g.pages[BYTE - 1], 0xaa);
    MUST_BE(g.pages[BYTE + 1], 0xaa);
    if (unmaps)
        party_kill(&p);
    grants_close(&g);
    MUST_BE(xenevtchn_close(ev), 0);
}

static void
unmap__tells_the_granter(void)
{
    is_told_of_the_unmap(true);
}

static void
mapping__dies_with_its_process(void)
{
    is_told_of_the_unmap(false);
}

/* Grants a page with a notification; unshares when told, or is killed. */
static void
notifying_granter(int fd, void *arg)
{
    const struct notified *n = arg;
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    int port = ev ? bind_soon(ev, n->port) : -1;
    uint32_t ref;

    MUST(shr && port > 0);
    uint8_t *page = xengntshr_share_page_notify(shr, self_domid, &ref, 1, BYTE,
                                                (uint32_t)port);

    MUST(page);
    page[BYTE - 1] = page[BYTE] = page[BYTE + 1] = 0xaa;
    say(fd, ref, -1);
    (void)hear(fd, NULL);
    MUST(n->unmaps);
    MUST_BE(xengntshr_unshare(shr, page, 1), 0);
    say(fd, 2, -1);
    (void)hear(fd, NULL);
}

static void
is_told_of_the_unsharing(bool unshares)
{
    xenevtchn_handle *ev = xenevtchn_open(NULL, 0);
    xengnttab_handle *tab = xengnttab_open(NULL, 0);
    int port = ev ? xenevtchn_bind_unbound_port(ev, self_domid) : -1;
    struct notified n = { .port = (uint32_t)port, .unmaps = unshares };
    struct party p;

    MUST(tab && port > 0);
    party_start(&p, notifying_granter, &n);
    volatile uint8_t *m = xengnttab_map_grant_ref(
        tab, self_domid, hear(p.fd, NULL), PROT_READ);

    MUST(m);
    MUST_BE(m[BYTE], 0xaa);
    MUST_BE_QUIET(ev);
    if (unshares) {
        say(p.fd, 1, -1);
        MUST_BE(hear(p.fd, NULL), 2);
    } else {
        party_kill(&p);
    }
    takes(ev, port);
    MUST_BE(m[BYTE], 0);
    MUST_BE(m[BYTE - 1], 0xaa);
    MUST_BE(m[BYTE + 1], 0xaa);
    MUST_BE(xengnttab_unmap(tab, (void *)m, 1), 0);
    if (unshares)
        party_kill(&p);
    MUST_BE(xenevtchn_close(ev), 0);
    MUST_BE(xengnttab_close(tab), 0);
}

static void
unsharing__tells_the_mapper(void)
{
    is_told_of_the_unsharing(true);
}

static void
death_of_the_granter__tells_the_mapper(void)
{
    is_told_of_the_unsharing(false);
}

/* Grants a page and waits to be killed. */
static void
granter(int fd, void *arg)
{
    struct grants g;

    grants_open(&g, 1);
    say(fd, g.refs[1], -1);
    (void)hear(fd, NULL);
}

static void
page_of_a_dead_granter__stays_while_it_is_mapped(void)
{
    xengnttab_handle *tab = xengnttab_open(NULL, 0);
    struct party p;
    uint8_t *m, *again = NULL;

    MUST(tab);
    party_start(&p, granter, NULL);
    const uint32_t ref = hear(p.fd, NULL);

    m = xengnttab_map_grant_ref(tab, self_domid, ref, PROT_READ);
    MUST(m);
    party_kill(&p);
    usleep(QUIET_MS * 1000);
    MUST_BE(m[100], 2);
    MUST_BE(xengnttab_unmap(tab, m, 1), 0);
    for (int i = 0; i < SOON_MS / 10; i++) {
        again = xengnttab_map_grant_ref(tab, self_domid, ref, PROT_READ);
        if (!again)
            break;
        MUST_BE(xengnttab_unmap(tab, again, 1), 0);
        usleep(10000);
    }
    MUST(!again);
    MUST_BE(xengnttab_close(tab), 0);
}

/* ------------------------------------------------------------------- copy */

/* From the grant, or to it. */
static xengnttab_grant_copy_segment_t
segment(uint32_t ref, bool to_grant, void *virt, uint16_t offset, uint16_t len)
{
    xengnttab_grant_copy_segment_t s = { .len = len, .status = 99 };
    union xengnttab_copy_ptr *f = to_grant ? &s.dest : &s.source;
    union xengnttab_copy_ptr *l = to_grant ? &s.source : &s.dest;

    s.flags = to_grant ? GNTCOPY_dest_gref : GNTCOPY_source_gref;
    f->foreign.ref = ref;
    f->foreign.offset = offset;
    f->foreign.domid = (uint16_t)self_domid;
    l->virt = virt;
    return s;
}

static void
copy__goes_both_ways_and_across_pages(void)
{
    uint8_t *local = aligned_alloc(PAGE, 2 * PAGE);
    xengnttab_grant_copy_segment_t s[2];
    struct grants g;

    MUST(local);
    memset(local, 0x40, 2 * PAGE);
    grants_open(&g, 1);
    s[0] = segment(g.refs[0], true, local + PAGE - 10, 100, 50);
    s[1] = segment(g.refs[1], false, local + PAGE - 100, 0, PAGE);
    MUST_BE(xengnttab_grant_copy(g.tab, 2, s), 0);
    MUST_BE(s[0].status, GNTST_okay);
    MUST_BE(s[1].status, GNTST_okay);
    MUST_BE(g.pages[99], 1);
    MUST_BE(g.pages[100], 0x40);
    MUST_BE(g.pages[149], 0x40);
    MUST_BE(g.pages[150], 1);
    MUST_BE(local[PAGE - 101], 0x40);
    MUST_BE(local[PAGE - 100], 2);
    MUST_BE(local[2 * PAGE - 101], 2);
    MUST_BE(local[2 * PAGE - 100], 0x40);
    grants_close(&g);
    free(local);
}

static void
bad_segment__fails_alone(void)
{
    static uint8_t local[4][PAGE];
    xengnttab_grant_copy_segment_t s[4];
    struct grants g, ro;

    grants_open(&g, 1);
    grants_open(&ro, 0);
    s[0] = segment(NOBODYS_REF, false, local[0], 0, PAGE);
    s[1] = segment(g.refs[1], false, local[1], 0, PAGE);
    s[1].source.foreign.domid = NO_DOMAIN;
    s[2] = segment(ro.refs[0], true, local[2], 0, PAGE);
    s[3] = segment(g.refs[3], false, local[3], 0, PAGE);
    MUST_BE(xengnttab_grant_copy(g.tab, 4, s), 0);
    MUST_BE(s[0].status, GNTST_bad_gntref);
    MUST_BE(s[1].status, GNTST_bad_domain);
    MUST_BE(s[2].status, GNTST_general_error); /* granted read-only */
    MUST_BE(s[3].status, GNTST_okay);
    MUST_BE(local[0][0], 0);
    MUST_BE(local[1][0], 0);
    MUST_BE(ro.pages[0], 1);
    MUST_BE(local[3][PAGE - 1], 4);
    grants_close(&ro);
    grants_close(&g);
}

static void
revoked_reference__fails_a_copy_otherwise(void)
{
    static uint8_t local[PAGE];
    xengnttab_grant_copy_segment_t s;
    struct grants g;

    grants_open(&g, 1);
    MUST_BE(xengntshr_unshare(g.shr, g.pages, PAGES), 0);
    s = segment(g.refs[1], false, local, 0, PAGE);
    MUST_BE(xengnttab_grant_copy(g.tab, 1, &s), 0);
    MUST_BE(s.status, GNTST_general_error); /* in the table, but not granted */
    MUST_BE(xengntshr_close(g.shr), 0);
    MUST_BE(xengnttab_close(g.tab), 0);
}

static void
segment_past_its_page__refuses_all(void)
{
    static uint8_t local[2][PAGE];
    xengnttab_grant_copy_segment_t s[2];
    struct grants g;

    grants_open(&g, 1);
    s[0] = segment(g.refs[0], false, local[0], 0, PAGE);
    s[1] = segment(g.refs[1], false, local[1], 4000, 97);
    MUST_REFUSE(xengnttab_grant_copy(g.tab, 2, s), EINVAL);
    MUST_BE(local[0][0], 0); /* nothing was done */
    grants_close(&g);
}

static void
segment_of_no_grant__refuses_all(void)
{
    static uint8_t local[2][PAGE];
    xengnttab_grant_copy_segment_t s[2];
    struct grants g;

    grants_open(&g, 1);
    s[0] = segment(g.refs[0], false, local[0], 0, PAGE);
    s[1] = segment(g.refs[1], false, local[1], 0, PAGE);
    s[1].flags = 0;
    s[1].source.virt = local[0];
    MUST_REFUSE(xengnttab_grant_copy(g.tab, 2, s), EINVAL);
    MUST_BE(local[0][0], 0);
    grants_close(&g);
}

#define RULE(name) { #name, name }

const struct rule grant_rules[] = {
    RULE(mapped_pages__are_the_granters),
    RULE(part_of_a_mapping__is_not_unmapped),
    RULE(doubled_unmap__is_refused),
    RULE(bad_reference__fails_the_whole_map),
    RULE(read_only_grant__is_not_mapped_for_writing),
    RULE(one_page__can_be_mapped_twice),
    RULE(unshared_page__stays_while_it_is_mapped),
    RULE(revoked_reference__is_refused),
    RULE(last_event__is_not_lost),
    RULE(child__has_no_mapping),
    RULE(unmap__tells_the_granter),
    RULE(mapping__dies_with_its_process),
    RULE(unsharing__tells_the_mapper),
    RULE(death_of_the_granter__tells_the_mapper),
    RULE(page_of_a_dead_granter__stays_while_it_is_mapped),
    RULE(copy__goes_both_ways_and_across_pages),
    RULE(bad_segment__fails_alone),
    RULE(revoked_reference__fails_a_copy_otherwise),
    RULE(segment_past_its_page__refuses_all),
    RULE(segment_of_no_grant__refuses_all),
    { NULL, NULL },
};
