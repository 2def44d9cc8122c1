/* SPDX-License-Identifier: MIT */
/* Transactions: isolation, conflicts, all or nothing. */
#include "tests/unit/xs/xs_help.h"

static uint32_t
begin(struct fh_xs_conn *conn)
{
    uint32_t tx = 0;

    EXPECT_EQ(fh_xs_transaction_start(conn, &tx), 0);
    EXPECT(tx != 0);
    return tx;
}

static void
txn__shows_its_changes_to_nobody_until_it_commits(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct fh_xs_conn *b;
    char names[64];
    uint32_t tx;
    size_t n;

    EXPECT_EQ(fh_xs_conn_new(w.xs, 0, NULL, &b), 0);
    EXPECT_EQ(put(a, 0, "/t/old", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t/gone/below", "1"), 0);
    tx = begin(a);
    EXPECT_EQ(put(a, tx, "/t/old", "2"), 0);
    EXPECT_EQ(put(a, tx, "/t/new/deep", "3"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/gone"), 0);
    EXPECT_EQ(fh_xs_mkdir(a, tx, "/t/dir"), 0);

    EXPECT_NODE(a, tx, "/t/old", "2");
    EXPECT_NODE(a, tx, "/t/new/deep", "3");
    EXPECT_NO_NODE(a, tx, "/t/gone/below", FH_ENOENT);
    EXPECT_EQ(fh_xs_directory(a, tx, "/t", names, sizeof(names), &n), 0);
    EXPECT(n == 12 && memcmp(names, "old\0new\0dir\0", 12) == 0);
    for (int i = 0; i < 2; i++) {
        struct fh_xs_conn *other = i ? a : b;

        EXPECT_NODE(other, 0, "/t/old", "1");
        EXPECT_NODE(other, 0, "/t/gone/below", "1");
        EXPECT_NO_NODE(other, 0, "/t/new", FH_ENOENT);
    }
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), 0);
    EXPECT_NODE(b, 0, "/t/old", "2");
    EXPECT_NODE(b, 0, "/t/new/deep", "3");
    EXPECT_NO_NODE(b, 0, "/t/gone", FH_ENOENT);
    EXPECT_EQ(fh_xs_directory(b, 0, "/t", names, sizeof(names), &n), 0);
    EXPECT(n == 12 && memcmp(names, "old\0new\0dir\0", 12) == 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), FH_ENOENT);
    world_free(&w);
}

static void
txn__aborted_changes_nothing(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct fh_xs_stats before;
    struct fh_xs_stats after;
    uint32_t tx;

    EXPECT_EQ(put(a, 0, "/t/x", "1"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t", "w"), 0);
    EXPECT_EVENT(a, "/t", "w");
    fh_xs_stats(w.xs, -1, &before);
    tx = begin(a);
    EXPECT_EQ(put(a, tx, "/t/x", "2"), 0);
    EXPECT_EQ(put(a, tx, "/t/y", "2"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, false), 0);
    EXPECT_NODE(a, 0, "/t/x", "1");
    EXPECT_NO_EVENT(a);
    fh_xs_stats(w.xs, -1, &after);
    before.n_allocs--; /* the event that the first call had shown */
    EXPECT(memcmp(&before, &after, sizeof(after)) == 0);
    world_free(&w);
}

/* What the transaction does, what somebody else does, who wins. */
static const struct {
    const char *name;
    const char *mine;   /* op and path: r w d(irectory) x(remove) p(erms) */
    const char *theirs;
    int want;
} conflict_rows[] = {
    { "nothing moved", "w/t/a", "w/t/b", 0 },
    { "read, others write it", "r/t/a", "w/t/a", FH_EAGAIN },
    { "write, others write it", "w/t/a", "w/t/a", FH_EAGAIN },
    { "read, others remove it", "r/t/a", "x/t/a", FH_EAGAIN },
    { "read, others change rights", "r/t/a", "p/t/a", FH_EAGAIN },
    { "read absence, others create", "r/t/new", "w/t/new", FH_EAGAIN },
    { "list, others create in it", "d/t", "w/t/new", FH_EAGAIN },
    { "list, others write below", "d/t", "w/t/a", 0 },
    { "create, others create beside", "w/t/n1", "w/t/n2", FH_EAGAIN },
    { "create, others remove the parent", "w/t/n1", "x/t", FH_EAGAIN },
    { "remove, others write below", "x/t", "w/t/a", FH_EAGAIN },
    { "remove, others create below", "x/t", "w/t/sub/n", FH_EAGAIN },
    { "write, others list", "w/t/a", "d/t", 0 },
    { "change rights, others write", "p/t/a", "w/t/a", FH_EAGAIN },
    { "elsewhere", "w/t/a", "w/u/a", 0 },
};

static int
act(struct fh_xs_conn *conn, uint32_t tx, const char *what)
{
    static const char *const perms[] = { "n0", "r3" };
    char buf[256];
    size_t n;

    switch (what[0]) {
    case 'r':
        (void)!fh_xs_read(conn, tx, what + 1, buf, sizeof(buf), &n);
        return 0;
    case 'w':
        return put(conn, tx, what + 1, "changed");
    case 'd':
        return fh_xs_directory(conn, tx, what + 1, buf, sizeof(buf), &n);
    case 'x':
        return fh_xs_rm(conn, tx, what + 1);
    default:
        return fh_xs_set_perms(conn, tx, what + 1, perms, 2);
    }
}

static void
txn__conflicts_with_what_changed_under_it(void **state)
{
    const size_t n = sizeof(conflict_rows) / sizeof(conflict_rows[0]);

    for (size_t i = 0; i < n; i++) {
        struct world w = world_new(NULL);
        struct fh_xs_conn *a = w.dom[0];
        const char *name = conflict_rows[i].name;
        uint32_t tx;

        EXPECT_EQ(put(a, 0, "/t/a", "1"), 0);
        EXPECT_EQ(put(a, 0, "/t/b", "1"), 0);
        EXPECT_EQ(put(a, 0, "/t/sub/c", "1"), 0);
        EXPECT_EQ(put(a, 0, "/u/a", "1"), 0);
        tx = begin(a);
        EXPECT_EQ(act(a, tx, conflict_rows[i].mine), 0, "%s", name);
        EXPECT_EQ(act(a, 0, conflict_rows[i].theirs), 0, "%s", name);
        EXPECT_EQ(fh_xs_transaction_end(a, tx, true), conflict_rows[i].want,
                  "%s", name);
        world_free(&w);
    }
}

/* The same pairs as two transactions: exactly the first to end wins. */
static void
txn__of_two_in_conflict_the_first_wins(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    uint32_t one;
    uint32_t two;

    EXPECT_EQ(put(a, 0, "/t/a", "0"), 0);
    one = begin(a);
    two = begin(a);
    EXPECT_EQ(put(a, one, "/t/a", "1"), 0);
    EXPECT_EQ(put(a, two, "/t/a", "2"), 0);
    EXPECT_EQ(put(a, two, "/t/only-two", "2"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, one, true), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, two, true), FH_EAGAIN);
    EXPECT_NODE(a, 0, "/t/a", "1");
    EXPECT_NO_NODE(a, 0, "/t/only-two", FH_ENOENT);
    world_free(&w);
}

static void
txn__reads_what_it_has_read(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    uint32_t tx;

    EXPECT_EQ(put(a, 0, "/t/a", "0"), 0);
    tx = begin(a);
    EXPECT_NODE(a, tx, "/t/a", "0");
    EXPECT_EQ(put(a, 0, "/t/a", "1"), 0);
    EXPECT_NODE(a, tx, "/t/a", "0");
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), FH_EAGAIN);
    world_free(&w);
}

static void
txn__fires_watches_when_it_commits(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    uint32_t tx;

    EXPECT_EQ(put(a, 0, "/t/gone/below", "0"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t", "w"), 0);
    EXPECT_EVENT(a, "/t", "w");
    EXPECT_EQ(fh_xs_watch(a, "/t/gone/below", "x"), 0);
    EXPECT_EVENT(a, "/t/gone/below", "x");
    tx = begin(a);
    EXPECT_EQ(put(a, tx, "/t/one", "1"), 0);
    EXPECT_EQ(put(a, tx, "/t/two/deep", "1"), 0);
    EXPECT_EQ(put(a, tx, "/t/one", "2"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/gone"), 0);
    EXPECT_NO_EVENT(a);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), 0);
    EXPECT_EVENT(a, "/t/one", "w");
    EXPECT_EVENT(a, "/t/two/deep", "w");
    EXPECT_EVENT(a, "/t/gone", "w");
    EXPECT_EVENT(a, "/t/gone/below", "x");
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

static void
txn__that_conflicts_fires_nothing(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    uint32_t tx;

    EXPECT_EQ(put(a, 0, "/t/a", "0"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t/b", "w"), 0);
    EXPECT_EVENT(a, "/t/b", "w");
    tx = begin(a);
    EXPECT_NODE(a, tx, "/t/a", "0");
    EXPECT_EQ(put(a, tx, "/t/b", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t/a", "1"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), FH_EAGAIN);
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

static void
txn__removes_and_makes_again(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    char names[64];
    uint32_t tx;
    size_t n;

    EXPECT_EQ(put(a, 0, "/t/a/b", "0"), 0);
    tx = begin(a);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/a"), 0);
    EXPECT_EQ(put(a, tx, "/t/a/c", "1"), 0);
    EXPECT_EQ(put(a, tx, "/t/x/y", "1"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/x"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), 0);
    EXPECT_NO_NODE(a, 0, "/t/a/b", FH_ENOENT);
    EXPECT_NODE(a, 0, "/t/a/c", "1");
    EXPECT_NO_NODE(a, 0, "/t/x", FH_ENOENT);
    EXPECT_EQ(fh_xs_directory(a, 0, "/t", names, sizeof(names), &n), 0);
    EXPECT(n == 2 && strcmp(names, "a") == 0, "%s", names);
    world_free(&w);
}

/* A subtree that shrinks while a transaction walks it: it ends in EAGAIN. */
static void
txn__survives_a_tree_that_changes_under_its_removal(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    char names[64];
    uint32_t tx;
    size_t n;

    EXPECT_EQ(put(a, 0, "/t/a/b", "0"), 0);
    EXPECT_EQ(put(a, 0, "/t/a/c", "0"), 0);
    tx = begin(a);
    EXPECT_EQ(fh_xs_directory(a, tx, "/t/a", names, sizeof(names), &n), 0);
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/a/b"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/a"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), FH_EAGAIN);
    tx = begin(a);
    EXPECT_NODE(a, tx, "/t/a/c", "0");
    EXPECT_EQ(fh_xs_rm(a, 0, "/t"), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/a/c"), FH_ENOENT);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), FH_EAGAIN);
    world_free(&w);
}

/* A removal that runs into a quota half-way: the rest cannot be committed. */
static void
txn__left_half_done_never_commits(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w;
    uint32_t tx;
    char path[32];

    limits.n_txn_nodes = 10;
    w = world_new(&limits);
    for (int i = 0; i < 20; i++) {
        (void)snprintf(path, sizeof(path), "data/a/%d", i);
        EXPECT_EQ(put(w.dom[1], 0, path, "x"), 0);
    }
    tx = begin(w.dom[1]);
    EXPECT_EQ(fh_xs_rm(w.dom[1], tx, "data/a"), FH_ENOSPC);
    EXPECT_EQ(put(w.dom[1], tx, "data/a", "y"), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx, true), FH_ENOSPC);
    EXPECT_NODE(w.dom[1], 0, "data/a/19", "x");
    EXPECT_NODE(w.dom[1], 0, "data/a", "");
    EXPECT_EQ(fh_xs_rm(w.dom[1], 0, "data/a"), 0);
    world_free(&w);
}

static void
txn__keeps_rights_and_owners(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats before;
    struct fh_xs_stats stats;
    const char *perms[] = { "n1", "r2" };
    uint32_t tx = begin(w.dom[0]);

    fh_xs_stats(w.xs, 1, &before);
    EXPECT_EQ(put(w.dom[0], tx, "/g/one", "1"), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], tx, "/g/one", perms, 2), 0);
    EXPECT_EQ(put(w.dom[1], 0, "/g/one", "1"), FH_EACCES);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[0], tx, true), 0);
    EXPECT_NODE(w.dom[2], 0, "/g/one", "1");
    EXPECT_EQ(put(w.dom[1], 0, "/g/one", "2"), 0);
    EXPECT_EQ(put(w.dom[2], 0, "/g/one", "2"), FH_EACCES);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, before.n_nodes + 1);
    tx = begin(w.dom[1]);
    EXPECT_EQ(put(w.dom[1], tx, "/g/two", "1"), FH_EACCES);
    EXPECT_EQ(fh_xs_rm(w.dom[1], tx, "/g/one"), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx, true), 0);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, before.n_nodes);
    EXPECT_EQ(stats.bytes, before.bytes);
    world_free(&w);
}

static void
txn__belongs_to_its_connection(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *b;
    uint32_t tx = begin(w.dom[0]);

    EXPECT_EQ(fh_xs_conn_new(w.xs, 0, NULL, &b), 0);
    EXPECT_NO_NODE(b, tx, "/tool", FH_ENOENT);
    EXPECT_EQ(put(b, tx, "/t", ""), FH_ENOENT);
    EXPECT_EQ(fh_xs_rm(b, tx, "/tool"), FH_ENOENT);
    EXPECT_EQ(fh_xs_transaction_end(b, tx, true), FH_ENOENT);
    EXPECT_EQ(fh_xs_transaction_end(b, 0, true), FH_ENOENT);
    EXPECT_NODE(w.dom[0], tx, "/tool", "");
    world_free(&w);
}

/* Random transactions against a plain model: two counters whose sum stays. */
static void
txn__keeps_an_invariant_under_contention(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    unsigned seed = 12345;
    unsigned committed = 0;

    EXPECT_EQ(put(a, 0, "/c/0", "500"), 0);
    EXPECT_EQ(put(a, 0, "/c/1", "500"), 0);
    for (int i = 0; i < 2000; i++) {
        uint32_t tx[3];
        int r;

        for (int k = 0; k < 3; k++)
            tx[k] = begin(a);
        for (int step = 0; step < 6; step++) {
            const int k = step % 3;
            const int by = rand_r(&seed) % 10;
            char path[2][8] = { "/c/0", "/c/1" };
            const int from = rand_r(&seed) % 2;
            char text[32];
            int x = atoi(get(a, tx[k], path[from], &r));
            int y = atoi(get(a, tx[k], path[!from], &r));

            (void)snprintf(text, sizeof(text), "%d", x - by);
            EXPECT_EQ(put(a, tx[k], path[from], text), 0);
            (void)snprintf(text, sizeof(text), "%d", y + by);
            EXPECT_EQ(put(a, tx[k], path[!from], text), 0);
        }
        for (int k = 0; k < 3; k++) {
            r = fh_xs_transaction_end(a, tx[k], rand_r(&seed) % 4 != 0);
            committed += r == 0;
            EXPECT(r == 0 || r == FH_EAGAIN);
        }
        EXPECT_EQ(atoi(get(a, 0, "/c/0", &r)) + atoi(get(a, 0, "/c/1", &r)),
                  1000, "round %d", i);
    }
    EXPECT(committed > 1000);
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(txn__shows_its_changes_to_nobody_until_it_commits),
        cmocka_unit_test(txn__aborted_changes_nothing),
        cmocka_unit_test(txn__conflicts_with_what_changed_under_it),
        cmocka_unit_test(txn__of_two_in_conflict_the_first_wins),
        cmocka_unit_test(txn__reads_what_it_has_read),
        cmocka_unit_test(txn__fires_watches_when_it_commits),
        cmocka_unit_test(txn__that_conflicts_fires_nothing),
        cmocka_unit_test(txn__removes_and_makes_again),
        cmocka_unit_test(txn__survives_a_tree_that_changes_under_its_removal),
        cmocka_unit_test(txn__left_half_done_never_commits),
        cmocka_unit_test(txn__keeps_rights_and_owners),
        cmocka_unit_test(txn__belongs_to_its_connection),
        cmocka_unit_test(txn__keeps_an_invariant_under_contention),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
