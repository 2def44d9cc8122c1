/* SPDX-License-Identifier: MIT */
/* The tree and who may do what in it, by direct calls. */
#include "tests/unit/xs/xs_help.h"

static void
write__makes_parents_with_inherited_rights(void **state)
{
    struct world w = world_new(NULL);
    char perms[64];
    size_t n;

    EXPECT_EQ(put(w.dom[0], 0, "/a", ""), 0);
    EXPECT_EQ(chmod1(w.dom[0], "/a", "r2", "w1"), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/b/c", "x"), 0);
    EXPECT_NODE(w.dom[0], 0, "/a/b", "");
    EXPECT_NODE(w.dom[0], 0, "/a/b/c", "x");
    /* Domain 0's creations belong to the parent's owner. */
    EXPECT_EQ(fh_xs_get_perms(w.dom[0], 0, "/a/b", perms, sizeof(perms), &n),
              0);
    EXPECT(n == 6 && memcmp(perms, "r2\0w1\0", 6) == 0, "%s", perms);
    EXPECT_EQ(fh_xs_get_perms(w.dom[0], 0, "/a/b", perms, 5, &n), FH_ERANGE);
    EXPECT_EQ(n, 6);
    memset(perms, 0, sizeof(perms));
    EXPECT_EQ(fh_xs_get_perms(w.dom[0], 0, "/a/b", perms, 6, &n), 0);
    EXPECT(memcmp(perms, "r2\0w1\0", 6) == 0, "%s", perms);
    /* Others' are their own, with the rest inherited. */
    EXPECT_EQ(put(w.dom[1], 0, "/a/d", "y"), 0);
    EXPECT_EQ(fh_xs_get_perms(w.dom[1], 0, "/a/d", perms, sizeof(perms), &n),
              0);
    EXPECT(n == 6 && memcmp(perms, "r1\0w1\0", 6) == 0, "%s", perms);
    world_free(&w);
}

static void
directory__lists_in_order_of_creation(void **state)
{
    struct world w = world_new(NULL);
    char names[64];
    size_t n;

    EXPECT_EQ(put(w.dom[0], 0, "/a/z", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/m", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/b/c", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/zz", ""), 0);
    EXPECT_EQ(fh_xs_rm(w.dom[0], 0, "/a/m"), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/z", "again"), 0);
    EXPECT_EQ(fh_xs_directory(w.dom[0], 0, "/a", names, sizeof(names), &n), 0);
    EXPECT(n == 7 && memcmp(names, "z\0b\0zz\0", 7) == 0, "%s", names);
    EXPECT_EQ(fh_xs_directory(w.dom[0], 0, "/a", names, 7, &n), 0);
    EXPECT_EQ(fh_xs_directory(w.dom[0], 0, "/a", names, 6, &n), FH_ERANGE);
    EXPECT_EQ(n, 7);
    EXPECT_EQ(fh_xs_directory(w.dom[0], 0, "/a", NULL, 0, &n), FH_ERANGE);
    world_free(&w);
}

static void
rm__takes_all_below_and_nothing_beside(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats before;
    struct fh_xs_stats after;

    EXPECT_EQ(put(w.dom[0], 0, "/ab", "stays"), 0);
    fh_xs_stats(w.xs, -1, &before);
    EXPECT_EQ(put(w.dom[0], 0, "/a/b/c/d", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/b/e", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/b/c/f/g/h", ""), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/a/i", ""), 0);
    EXPECT_EQ(fh_xs_rm(w.dom[0], 0, "/a"), 0);
    EXPECT_NO_NODE(w.dom[0], 0, "/a", FH_ENOENT);
    EXPECT_NO_NODE(w.dom[0], 0, "/a/b/c/f/g", FH_ENOENT);
    EXPECT_NODE(w.dom[0], 0, "/ab", "stays");
    fh_xs_stats(w.xs, -1, &after);
    EXPECT_EQ(after.n_nodes, before.n_nodes);
    EXPECT_EQ(after.n_allocs, before.n_allocs);
    EXPECT_EQ(after.bytes, before.bytes);
    world_free(&w);
}

/* The deepest path that fits, and everything that walks it. */
static void
tree__is_as_deep_as_a_path_is_long(void **state)
{
    struct world w = world_new(NULL);
    char path[2049] = "";
    struct fh_xs_stats stats;

    for (size_t i = 0; i < 2048; i += 2)
        memcpy(path + i, "/a", 3);
    EXPECT_EQ(put(w.dom[0], 0, path, "deep"), 0);
    EXPECT_NODE(w.dom[0], 0, path, "deep");
    EXPECT_EQ(fh_xs_watch(w.dom[0], "/a", "t"), 0);
    EXPECT_EVENT(w.dom[0], "/a", "t");
    EXPECT_EQ(put(w.dom[0], 0, path, "changed"), 0);
    EXPECT_EVENT(w.dom[0], path, "t");
    EXPECT_EQ(fh_xs_rm(w.dom[0], 0, "/a"), 0);
    EXPECT_NO_NODE(w.dom[0], 0, "/a", FH_ENOENT);
    fh_xs_stats(w.xs, 0, &stats);
    EXPECT(stats.n_nodes < 60, "%d left", (int)stats.n_nodes);
    world_free(&w);
}

/* A node with rights "@first, @second", and what domain 1 may do. */
static const struct {
    const char *name;
    const char *first;
    const char *second; /* NULL: none */
    int read;
    int write;
    int chmod;
} rights_rows[] = {
    { "owner", "n1", NULL, 0, 0, 0 },
    { "owner named again", "n1", "n1", 0, 0, 0 },
    { "others may not", "n0", NULL, FH_EACCES, FH_EACCES, FH_EACCES },
    { "others may read", "r0", NULL, 0, FH_EACCES, FH_EACCES },
    { "others may write", "w0", NULL, FH_EACCES, 0, FH_EACCES },
    { "others may both", "b0", NULL, 0, 0, FH_EACCES },
    { "named may read", "n0", "r1", 0, FH_EACCES, FH_EACCES },
    { "named may write", "n0", "w1", FH_EACCES, 0, FH_EACCES },
    { "named may both", "n0", "b1", 0, 0, FH_EACCES },
    { "named may not", "b0", "n1", FH_EACCES, FH_EACCES, FH_EACCES },
    { "another is named", "n0", "b2", FH_EACCES, FH_EACCES, FH_EACCES },
    { "owner is another domain", "n2", "r3", FH_EACCES, FH_EACCES,
      FH_EACCES },
};

static void
rights__are_what_the_entries_say(void **state)
{
    for (size_t i = 0; i < sizeof(rights_rows) / sizeof(rights_rows[0]); i++) {
        struct world w = world_new(NULL);
        const char *name = rights_rows[i].name;
        int r;

        EXPECT_EQ(put(w.dom[0], 0, "/n", "x"), 0, "%s", name);
        EXPECT_EQ(chmod1(w.dom[0], "/n", rights_rows[i].first,
                         rights_rows[i].second),
                  0, "%s", name);
        (void)get(w.dom[1], 0, "/n", &r);
        EXPECT_EQ(r, rights_rows[i].read, "%s: read", name);
        EXPECT_EQ(put(w.dom[1], 0, "/n", "y"), rights_rows[i].write,
                  "%s: write", name);
        EXPECT_EQ(put(w.dom[1], 0, "/n/new", "y"), rights_rows[i].write,
                  "%s: create", name);
        EXPECT_EQ(chmod1(w.dom[1], "/n", rights_rows[i].first, NULL),
                  rights_rows[i].chmod, "%s: chmod", name);
        EXPECT_EQ(fh_xs_rm(w.dom[1], 0, "/n"), rights_rows[i].write,
                  "%s: remove", name);
        world_free(&w);
    }
}

/* A readable child of an unreadable parent is readable; absence below an
 * unreadable parent is not told. */
static void
rights__of_the_parent_hide_absence_only(void **state)
{
    struct world w = world_new(NULL);

    EXPECT_EQ(put(w.dom[0], 0, "/p/open", "x"), 0);
    EXPECT_EQ(chmod1(w.dom[0], "/p/open", "n0", "r1"), 0);
    EXPECT_NODE(w.dom[1], 0, "/p/open", "x");
    EXPECT_NO_NODE(w.dom[1], 0, "/p/none", FH_EACCES);
    EXPECT_NO_NODE(w.dom[1], 0, "/p/none/deeper", FH_EACCES);
    EXPECT_NO_NODE(w.dom[1], 0, "/p/open/none", FH_ENOENT);
    EXPECT_NO_NODE(w.dom[1], 0, "/p/open/none/deeper", FH_ENOENT);
    EXPECT_EQ(put(w.dom[1], 0, "/p/open/none", ""), FH_EACCES);
    EXPECT_EQ(fh_xs_rm(w.dom[1], 0, "/p/open/none"), FH_EACCES);
    world_free(&w);
}

static void
relative__paths_are_the_domains_own(void **state)
{
    struct world w = world_new(NULL);

    EXPECT_EQ(put(w.dom[1], 0, "data/x", "mine"), 0);
    EXPECT_NODE(w.dom[0], 0, "/local/domain/1/data/x", "mine");
    EXPECT_EQ(put(w.dom[0], 0, "x", "zero"), 0);
    EXPECT_NODE(w.dom[0], 0, "/local/domain/0/x", "zero");
    EXPECT_NO_NODE(w.dom[2], 0, "/local/domain/1/data/x", FH_EACCES);
    EXPECT_NO_NODE(w.dom[1], 0, "", FH_EINVAL);
    world_free(&w);
}

static void
release__leaves_no_rights_for_the_next_domain(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *next;
    struct fh_xs_stats stats;

    EXPECT_EQ(put(w.dom[1], 0, "data/x/y", "1"), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/shared/a", "1"), 0);
    EXPECT_EQ(chmod1(w.dom[0], "/shared/a", "n0", "b1"), 0);
    EXPECT_EQ(chmod1(w.dom[0], "@releaseDomain", "n0", "r1"), 0);
    fh_xs_conn_free(w.dom[1]);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 1), 0);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 1), FH_ENOENT);
    EXPECT(!fh_xs_domain_is_introduced(w.xs, 1));
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, 0);
    EXPECT_EQ(stats.bytes, 0);
    EXPECT_NO_NODE(w.dom[0], 0, "/local/domain/1/data", FH_ENOENT);
    EXPECT_NODE(w.dom[0], 0, "/local/domain/1/name", "d");

    EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &next), 0);
    EXPECT_NO_NODE(next, 0, "/shared/a", FH_EACCES);
    EXPECT_NO_NODE(next, 0, "name", FH_EACCES);
    EXPECT_EQ(fh_xs_domain_remove(w.xs, 1), 0);
    EXPECT_EQ(fh_xs_domain_remove(w.xs, 1), FH_ENOENT);
    EXPECT_NO_NODE(w.dom[0], 0, "/local/domain/1", FH_ENOENT);
    world_free(&w);
}

/* What cannot be removed with its owner becomes domain 0's. */
static void
release__of_the_owner_of_the_root(void **state)
{
    struct world w = world_new(NULL);
    char perms[64];
    size_t n;

    EXPECT_EQ(chmod1(w.dom[0], "/", "b1", "r2"), 0);
    EXPECT_EQ(chmod1(w.dom[0], "@releaseDomain", "r1", NULL), 0);
    EXPECT_EQ(put(w.dom[1], 0, "/mine", "x"), 0);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 1), 0);
    EXPECT_EQ(fh_xs_get_perms(w.dom[0], 0, "/", perms, sizeof(perms), &n), 0);
    EXPECT(n == 6 && memcmp(perms, "n0\0r2\0", 6) == 0, "%s", perms);
    EXPECT_NO_NODE(w.dom[0], 0, "/mine", FH_ENOENT);
    EXPECT_NODE(w.dom[0], 0, "/local/domain/2/name", "d");
    world_free(&w);
}

static void
calls__with_nonsense_are_refused(void **state)
{
    struct world w = world_new(NULL);
    static char big[70000];
    const char *perms[] = { big, "n0" };
    struct fh_xs_stats stats;
    uint32_t tx;
    size_t n;

    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/t", big, sizeof(big)), FH_EINVAL);
    EXPECT_EQ(fh_xs_domain_introduce(w.xs, 0x7ff0), FH_EINVAL);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 0x7ff0), FH_EINVAL);
    EXPECT_EQ(fh_xs_domain_populate(w.xs, 0x7ff0, "x"), FH_EINVAL);
    EXPECT_EQ(fh_xs_domain_remove(w.xs, 0x7ff0), FH_EINVAL);
    memset(big, '/', sizeof(big) - 1);
    EXPECT_EQ(put(w.dom[0], 0, big, ""), FH_EINVAL);
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], 0, "/tool", perms, 2), FH_EINVAL);
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], 0, "/tool", perms, 0), FH_EINVAL);
    EXPECT_EQ(fh_xs_watch(w.dom[0], "/t", big), FH_EINVAL);
    EXPECT_EQ(fh_xs_conn_domid(w.dom[2]), 2);
    EXPECT(fh_xs_conn_priv(w.dom[2]) == NULL);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 3), 0);
    EXPECT_EQ(put(w.dom[3], 0, "data", ""), FH_ENOTCONN);
    EXPECT_EQ(fh_xs_rm(w.dom[3], 0, "data"), FH_ENOTCONN);
    EXPECT_EQ(fh_xs_watch(w.dom[3], "data", ""), FH_ENOTCONN);
    EXPECT_EQ(fh_xs_unwatch(w.dom[3], "data", ""), FH_ENOTCONN);
    EXPECT_EQ(fh_xs_transaction_start(w.dom[3], &tx), FH_ENOTCONN);
    EXPECT_EQ(fh_xs_set_perms(w.dom[3], 0, "data", perms + 1, 1),
              FH_ENOTCONN);
    EXPECT_EQ(fh_xs_set_perms(w.dom[3], 0, "@releaseDomain", perms + 1, 1),
              FH_ENOTCONN);
    EXPECT_EQ(fh_xs_read(w.dom[3], 0, "data", big, 8, &n), FH_ENOTCONN);
    fh_xs_stats(w.xs, 3, &stats);
    EXPECT_EQ(stats.n_nodes, 0);
    world_free(&w);
}

/* A transaction must not bring back what a release took away. */
static void
release__conflicts_with_open_transactions(void **state)
{
    struct world w = world_new(NULL);
    const char *perms[] = { "n0", "b1" };
    uint32_t tx;

    EXPECT_EQ(put(w.dom[0], 0, "/s/a", "1"), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], 0, "/s/a", perms, 2), 0);
    EXPECT_EQ(fh_xs_transaction_start(w.dom[0], &tx), 0);
    EXPECT_EQ(put(w.dom[0], tx, "/s/a", "2"), 0);
    EXPECT_EQ(put(w.dom[0], tx, "/s/a/below", "2"), 0);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 1), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[0], tx, true), FH_EAGAIN);
    world_free(&w);
}

/* 200 lives of a domain: nothing is left behind. */
static void
domain__life_leaks_nothing(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats first = { 0 };
    struct fh_xs_stats now;

    for (int i = 0; i < 200; i++) {
        struct fh_xs_conn *conn;
        uint32_t tx;

        EXPECT_EQ(fh_xs_domain_populate(w.xs, 9, "nine"), 0);
        EXPECT_EQ(fh_xs_domain_introduce(w.xs, 9), 0);
        EXPECT_EQ(fh_xs_conn_new(w.xs, 9, NULL, &conn), 0);
        EXPECT_EQ(fh_xs_watch(conn, "data", "t"), 0);
        EXPECT_EQ(put(conn, 0, "data/a/b", "x"), 0);
        EXPECT_EQ(fh_xs_transaction_start(conn, &tx), 0);
        EXPECT_EQ(put(conn, tx, "data/a/c", "x"), 0);
        EXPECT_EQ(fh_xs_domain_release(w.xs, 9), 0);
        EXPECT_EQ(put(conn, 0, "data/a/b", "x"), FH_ENOTCONN);
        fh_xs_conn_free(conn);
        EXPECT_EQ(fh_xs_domain_remove(w.xs, 9), 0);
        fh_xs_stats(w.xs, -1, &now);
        if (i == 0)
            first = now;
        EXPECT(memcmp(&first, &now, sizeof(now)) == 0, "life %d", i);
    }
    world_free(&w);
}

static void
new__has_what_xenstored_has(void **state)
{
    struct fh_xs *xs = fh_xs_new(NULL, NULL);
    struct fh_xs_conn *conn;
    struct fh_xs_stats stats;
    char buf[64];
    size_t n;

    EXPECT_EQ(fh_xs_conn_new(xs, 0, NULL, &conn), 0);
    EXPECT_EQ(fh_xs_directory(conn, 0, "/", buf, sizeof(buf), &n), 0);
    EXPECT(n == 5 && strcmp(buf, "tool") == 0);
    EXPECT_EQ(fh_xs_get_perms(conn, 0, "/", buf, sizeof(buf), &n), 0);
    EXPECT(n == 3 && strcmp(buf, "n0") == 0);
    EXPECT(fh_xs_domain_is_introduced(xs, 0));
    EXPECT_EQ(fh_xs_conn_new(xs, 0x7ff0, NULL, &conn), FH_EINVAL);
    EXPECT_EQ(fh_xs_domain_introduce(xs, 0xffff), FH_EINVAL);
    fh_xs_stats(xs, -1, &stats);
    EXPECT_EQ(stats.n_conns, 1);
    EXPECT_EQ(stats.n_domains, 1);
    EXPECT_EQ(stats.n_nodes, 3);
    fh_xs_free(xs);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write__makes_parents_with_inherited_rights),
        cmocka_unit_test(directory__lists_in_order_of_creation),
        cmocka_unit_test(rm__takes_all_below_and_nothing_beside),
        cmocka_unit_test(tree__is_as_deep_as_a_path_is_long),
        cmocka_unit_test(rights__are_what_the_entries_say),
        cmocka_unit_test(rights__of_the_parent_hide_absence_only),
        cmocka_unit_test(relative__paths_are_the_domains_own),
        cmocka_unit_test(release__leaves_no_rights_for_the_next_domain),
        cmocka_unit_test(release__of_the_owner_of_the_root),
        cmocka_unit_test(calls__with_nonsense_are_refused),
        cmocka_unit_test(release__conflicts_with_open_transactions),
        cmocka_unit_test(domain__life_leaks_nothing),
        cmocka_unit_test(new__has_what_xenstored_has),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
