/* SPDX-License-Identifier: MIT */
/*
 * The production platform on the local hypervisor: what struct fh_plat_ops
 * promises, seen from two domains.  One process plays both: each platform is
 * opened with its domain's sockets in the environment.
 */
#include <poll.h>
#include "base/arith.h"
#include "../hv/world.h"
#include "xenplat/xenplat.h"

enum {
    ALL = FH_XENPLAT_GRANTEE | FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
          FH_XENPLAT_XENSTORE,
    SECOND = 1000 * 1000 * 1000,
};

static struct world w;
static struct fh_hvctl_domain dom0, guest;
static struct fh_xenplat x0, x1;
static struct fh_plat *p0 = &x0.plat, *p1 = &x1.plat;

static int
set_up(void **state)
{
    world_start(&w);
    EXPECT_EQ(fh_hvctl_find(w.dir, "0", &dom0), 0);
    world_domain(&w, "guest", &guest);
    world_enter(&dom0);
    EXPECT_EQ(fh_xenplat_open(&x0, ALL), 0);
    world_enter(&guest);
    EXPECT_EQ(fh_xenplat_open(&x1, ALL), 0);
    return 0;
}

static int
tear_down(void **state)
{
    fh_xenplat_close(&x1);
    fh_xenplat_close(&x0);
    world_stop(&w);
    return 0;
}

static void
grants__map_what_was_granted_and_nothing_else(void **state)
{
    uint32_t refs[3], bad[2];
    void *own, *map;

    EXPECT_EQ(p1->ops->gnt_share(p1, 0, 3, true, refs, &own), 0);
    for (size_t i = 0; i < 3 * FH_PAGE_BYTES; i++)
        EXPECT_EQ(((uint8_t *)own)[i], 0, "fresh pages are zero");
    EXPECT_EQ(p0->ops->gnt_map(p0, guest.domid, refs, 3, FH_PLAT_PROT_RW, &map),
              0);
    strcpy((char *)own + 2 * FH_PAGE_BYTES, "over here");
    EXPECT(!strcmp((char *)map + 2 * FH_PAGE_BYTES, "over here"));
    EXPECT_EQ(p0->ops->gnt_unmap(p0, map, 3), 0);

    bad[0] = refs[0];
    bad[1] = 4000;
    map = NULL;
    EXPECT_EQ(p0->ops->gnt_map(p0, guest.domid, bad, 2, FH_PLAT_PROT_RW, &map),
              FH_PLAT_E_REFUSED, "one of them is not granted");
    EXPECT(!map, "untouched");
    EXPECT_EQ(p1->ops->gnt_unshare(p1, own, 3), 0);
    EXPECT_EQ(p0->ops->gnt_map(p0, guest.domid, refs, 1, FH_PLAT_PROT_RW, &map),
              FH_PLAT_E_REFUSED, "not any more");
}

static void
grants__for_reading_are_not_for_writing(void **state)
{
    uint32_t ref;
    void *own, *map;

    EXPECT_EQ(p1->ops->gnt_share(p1, 0, 1, false, &ref, &own), 0);
    EXPECT_EQ(p0->ops->gnt_map(p0, guest.domid, &ref, 1, FH_PLAT_PROT_RW, &map),
              FH_PLAT_E_REFUSED);
    EXPECT_EQ(
        p0->ops->gnt_map(p0, guest.domid, &ref, 1, FH_PLAT_PROT_READ, &map), 0);
    EXPECT_EQ(p0->ops->gnt_unmap(p0, map, 1), 0);
    EXPECT_EQ(p1->ops->gnt_unshare(p1, own, 1), 0);
}

/* More pieces than one library call takes, one of them bad. */
static void
grants__copies_have_a_status_each(void **state)
{
    enum { PIECES = 300, BAD = 200 };
    static struct fh_plat_copy pieces[PIECES];
    static uint8_t bytes[PIECES][8];
    uint32_t ref;
    void *own;

    EXPECT_EQ(p1->ops->gnt_share(p1, 0, 1, true, &ref, &own), 0);
    for (uint32_t i = 0; i < PIECES; i++) {
        memset(bytes[i], (int)i, 8);
        pieces[i] = (struct fh_plat_copy){ .gref = i == BAD ? 4000 : ref,
                                           .domid = guest.domid,
                                           .offset = (uint16_t)(i * 8),
                                           .bytes = 8,
                                           .to_grant = true,
                                           .status = 99,
                                           .local = bytes[i] };
    }
    EXPECT_EQ(p0->ops->gnt_copy(p0, pieces, PIECES), 0);
    for (uint32_t i = 0; i < PIECES; i++) {
        bool there = ((uint8_t *)own)[i * 8] == (uint8_t)i;

        EXPECT_EQ(pieces[i].status != 0, i == BAD, "piece %u", i);
        EXPECT_EQ(there, i != BAD, "piece %u", i);
    }
    pieces[0].to_grant = false;
    memset(own, 0x42, 8);
    EXPECT_EQ(p0->ops->gnt_copy(p0, pieces, 1), 0);
    EXPECT_EQ(bytes[0][7], 0x42, "and back");
    EXPECT_EQ(p1->ops->gnt_unshare(p1, own, 1), 0);
}

/* The next event within a second, or 0. */
static uint32_t
next_event(struct fh_plat *p)
{
    uint32_t port = 0;

    for (int i = 0; i < 100; i++) {
        if (!p->ops->ev_next(p, &port))
            return port;
        EXPECT_EQ(p->ops->wait(p, SECOND / 100), 0);
    }
    return 0;
}

static void
events__are_born_pending_and_masked_until_unmasked(void **state)
{
    uint32_t port1, port0, got;
    uint64_t reads;

    EXPECT_EQ(p0->ops->ev_next(p0, &got), FH_PLAT_E_NONE, "does not block");
    EXPECT_EQ(p1->ops->ev_alloc(p1, 0, &port1), 0);
    EXPECT_EQ(p0->ops->ev_bind(p0, guest.domid, port1 + 100, &port0),
              FH_PLAT_E_REFUSED);
    EXPECT_EQ(p0->ops->ev_bind(p0, guest.domid, port1, &port0), 0);
    EXPECT_EQ(next_event(p0), port0, "pending at bind");
    reads = x0.counts.ev_reads;
    EXPECT_EQ(p1->ops->ev_notify(p1, port1), 0);
    EXPECT_EQ(p0->ops->ev_next(p0, &got), FH_PLAT_E_NONE, "masked");
    EXPECT_EQ(x0.counts.ev_reads, reads, "all masked: nothing is read");
    EXPECT_EQ(p0->ops->ev_unmask(p0, port0), 0);
    EXPECT_EQ(next_event(p0), port0, "kept until unmasked");
    EXPECT_EQ(p0->ops->ev_unmask(p0, port0), 0);
    EXPECT_EQ(p0->ops->wait(p0, 0), 0);
    EXPECT_EQ(p0->ops->ev_next(p0, &got), FH_PLAT_E_NONE, "only once");

    EXPECT_EQ(p0->ops->ev_notify(p0, port0), 0);
    EXPECT_EQ(next_event(p1), port1, "the other way");
    EXPECT_EQ(p0->ops->ev_unbind(p0, port0), 0);
    EXPECT_EQ(p1->ops->ev_unbind(p1, port1), 0);
}

static void
wait__ends_with_an_event(void **state)
{
    uint32_t port1, port0;
    uint64_t start;

    EXPECT_EQ(p1->ops->ev_alloc(p1, 0, &port1), 0);
    EXPECT_EQ(p0->ops->ev_bind(p0, guest.domid, port1, &port0), 0);
    EXPECT_EQ(next_event(p0), port0);
    EXPECT_EQ(p0->ops->ev_unmask(p0, port0), 0);
    EXPECT_EQ(p1->ops->ev_notify(p1, port1), 0);
    start = p0->ops->now_ns(p0);
    EXPECT_EQ(p0->ops->wait(p0, 5ull * SECOND), 0);
    EXPECT(p0->ops->now_ns(p0) - start < SECOND, "woken");
    EXPECT_EQ(next_event(p0), port0);
    EXPECT_EQ(p0->ops->ev_unbind(p0, port0), 0);
    EXPECT_EQ(p1->ops->ev_unbind(p1, port1), 0);
}

static void
store__translates_results(void **state)
{
    char buf[16], names[64];
    size_t len;
    uint32_t n;

    EXPECT_EQ(p0->ops->xs_read(p0, 0, "/no/such", buf, sizeof(buf), &len),
              FH_PLAT_E_NONE);
    EXPECT_EQ(p0->ops->xs_write(p0, 0, "/t/a", "0123456789"), 0);
    EXPECT_EQ(p0->ops->xs_mkdir(p0, 0, "/t/b"), 0);
    EXPECT_EQ(p0->ops->xs_read(p0, 0, "/t/a", buf, sizeof(buf), &len), 0);
    EXPECT(len == 10 && !strcmp(buf, "0123456789"));
    EXPECT_EQ(p0->ops->xs_read(p0, 0, "/t/a", buf, 10, &len), FH_ERANGE,
              "no room for the NUL");
    EXPECT_EQ(p0->ops->xs_list(p0, 0, "/t", names, sizeof(names), &n), 0);
    EXPECT_EQ(n, 2);
    EXPECT_EQ(names[1] + names[3], 0, "each with a NUL");
    EXPECT_EQ(p0->ops->xs_list(p0, 0, "/t", names, 3, &n), FH_ERANGE);

    EXPECT_EQ(p1->ops->xs_read(p1, 0, "/t/a", buf, sizeof(buf), &len),
              FH_EACCES);
    const struct fh_plat_perm perms[] = { { 0, false, false },
                                          { guest.domid, true, false } };

    EXPECT_EQ(p0->ops->xs_set_perms(p0, 0, "/t/a", perms, 2), 0);
    EXPECT_EQ(p1->ops->xs_read(p1, 0, "/t/a", buf, sizeof(buf), &len), 0);
    EXPECT_EQ(p1->ops->xs_write(p1, 0, "/t/a", "x"), FH_EACCES);
    EXPECT_EQ(p0->ops->xs_rm(p0, 0, "/t"), 0);
    EXPECT_EQ(p0->ops->xs_rm(p0, 0, "/t/a/b"), FH_PLAT_E_NONE);
}

static void
store__tells_of_conflicts(void **state)
{
    char buf[16];
    size_t len;
    uint32_t txn;

    EXPECT_EQ(p0->ops->xs_write(p0, 0, "/t", "0"), 0);
    EXPECT_EQ(p0->ops->xs_begin(p0, &txn), 0);
    EXPECT_EQ(p0->ops->xs_read(p0, txn, "/t", buf, sizeof(buf), &len), 0);
    EXPECT_EQ(p0->ops->xs_write(p0, txn, "/t", "1"), 0);
    EXPECT_EQ(p0->ops->xs_write(p0, 0, "/t", "2"), 0);
    EXPECT_EQ(p0->ops->xs_end(p0, txn, false), FH_PLAT_E_CONFLICT);
    EXPECT_EQ(p0->ops->xs_read(p0, 0, "/t", buf, sizeof(buf), &len), 0);
    EXPECT_EQ(buf[0], '2');
    EXPECT_EQ(p0->ops->xs_begin(p0, &txn), 0);
    EXPECT_EQ(p0->ops->xs_end(p0, txn, true), 0, "abort");
    EXPECT_EQ(p0->ops->xs_rm(p0, 0, "/t"), 0);
}

/* The next watch event within a second. */
static int
next_watch(char *path, char *token)
{
    for (int i = 0; i < 100; i++) {
        if (!p1->ops->xs_next(p1, path, token))
            return 0;
        EXPECT_EQ(p1->ops->wait(p1, SECOND / 100), 0);
    }
    return FH_ETIMEDOUT;
}

static void
store__watches_wake_the_waiter(void **state)
{
    static char path[FH_XS_PATH_MAX + 1], token[FH_XS_PATH_MAX + 1];
    struct pollfd fd = { .fd = fh_xenplat_xs_fd(&x1), .events = POLLIN };

    EXPECT_EQ(p1->ops->xs_next(p1, path, token), FH_PLAT_E_NONE);
    EXPECT_EQ(p1->ops->xs_watch(p1, "data", "mine"), 0);
    EXPECT_EQ(next_watch(path, token), 0, "fires at once");
    EXPECT(!strcmp(token, "mine"));
    EXPECT_EQ(p1->ops->xs_next(p1, path, token), FH_PLAT_E_NONE);
    EXPECT_EQ(poll(&fd, 1, 0), 0, "descriptor is quiet again");
    EXPECT_EQ(p1->ops->xs_write(p1, 0, "data/x", "1"), 0);
    EXPECT_EQ(next_watch(path, token), 0);
    EXPECT(!strcmp(path, "data/x"), "path was %s", path);
    EXPECT_EQ(p1->ops->xs_unwatch(p1, "data", "mine"), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grants__map_what_was_granted_and_nothing_else),
        cmocka_unit_test(grants__for_reading_are_not_for_writing),
        cmocka_unit_test(grants__copies_have_a_status_each),
        cmocka_unit_test(events__are_born_pending_and_masked_until_unmasked),
        cmocka_unit_test(wait__ends_with_an_event),
        cmocka_unit_test(store__translates_results),
        cmocka_unit_test(store__tells_of_conflicts),
        cmocka_unit_test(store__watches_wake_the_waiter),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
