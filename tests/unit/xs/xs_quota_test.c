/* SPDX-License-Identifier: MIT */
/*
 * Each of xenstored's quotas at its default value: the last that is allowed,
 * the first that is not, that domain 0 is exempt and that others do not feel
 * it.  Then what bounds a client that does not read.
 */
#include "tests/unit/xs/xs_help.h"

static void
nodes__1000_per_domain(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats stats;
    char path[64];

    for (int i = 0; fh_xs_stats(w.xs, 1, &stats), stats.n_nodes < 999; i++) {
        (void)snprintf(path, sizeof(path), "data/%d", i / 50);
        if (i % 50)
            (void)snprintf(path, sizeof(path), "data/%d/%d", i / 50, i % 50);
        EXPECT_EQ(fh_xs_mkdir(w.dom[1], 0, path), 0, "%s", path);
    }
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, 999);
    EXPECT_EQ(fh_xs_mkdir(w.dom[1], 0, "feature/two/nodes"), FH_ENOSPC);
    EXPECT_EQ(fh_xs_mkdir(w.dom[1], 0, "feature/one"), 0);
    EXPECT_EQ(put(w.dom[1], 0, "feature/more", "x"), FH_ENOSPC);
    EXPECT_EQ(put(w.dom[1], 0, "feature/one", "x"), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/local/domain/1/feature/more", "x"), 0);
    EXPECT_EQ(put(w.dom[2], 0, "feature/more", "x"), 0);
    EXPECT_EQ(fh_xs_rm(w.dom[1], 0, "feature/more"), 0);
    EXPECT_EQ(fh_xs_rm(w.dom[1], 0, "feature/one"), 0);
    EXPECT_EQ(put(w.dom[1], 0, "feature/more", "x"), 0);
    world_free(&w);
}

static void
nodes__count_within_and_across_transactions(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w;
    struct fh_xs_stats stats;
    uint32_t tx[2];

    limits.n_nodes = 12;
    w = world_new(&limits);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, 7);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx[i]), 0);
    EXPECT_EQ(put(w.dom[1], tx[0], "data/a/b/c", "x"), 0);
    EXPECT_EQ(put(w.dom[1], tx[0], "data/d/e/f", "x"), FH_ENOSPC);
    EXPECT_EQ(put(w.dom[1], tx[1], "error/a/b/c", "x"), 0);
    EXPECT_EQ(fh_xs_rm(w.dom[1], tx[1], "error/a/b/c"), 0);
    EXPECT_EQ(put(w.dom[1], tx[1], "error/a/b/d", "x"), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx[0], true), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx[1], true), FH_ENOSPC);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_nodes, 10);
    EXPECT_NO_NODE(w.dom[1], 0, "error/a", FH_ENOENT);
    world_free(&w);
}

static void
watches__128_per_domain(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *more;
    char token[16];

    for (int i = 0; i < 128; i++) {
        (void)snprintf(token, sizeof(token), "%d", i);
        EXPECT_EQ(fh_xs_watch(w.dom[1], "data", token), 0);
    }
    EXPECT_EQ(fh_xs_watch(w.dom[1], "data", "more"), FH_E2BIG);
    EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &more), 0);
    EXPECT_EQ(fh_xs_watch(more, "data", "more"), FH_E2BIG);
    EXPECT_EQ(fh_xs_watch(w.dom[2], "data", "more"), 0);
    EXPECT_EQ(fh_xs_unwatch(w.dom[1], "data", "0"), 0);
    EXPECT_EQ(fh_xs_watch(more, "data", "more"), 0);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(token, sizeof(token), "%d", i);
        EXPECT_EQ(fh_xs_watch(w.dom[0], "data", token), 0);
    }
    world_free(&w);
}

static void
transactions__10_per_domain(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *more;
    uint32_t tx = 0;

    for (int i = 0; i < 10; i++)
        EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx), 0);
    EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &more), 0);
    EXPECT_EQ(fh_xs_transaction_start(more, &tx), FH_ENOSPC);
    EXPECT_EQ(fh_xs_transaction_start(w.dom[2], &(uint32_t){ 0 }), 0);
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx, true), 0);
    EXPECT_EQ(fh_xs_transaction_start(more, &tx), 0);
    for (int i = 0; i < 50; i++)
        EXPECT_EQ(fh_xs_transaction_start(w.dom[0], &tx), 0);
    world_free(&w);
}

static void
transactions__touch_1024_nodes(void **state)
{
    struct world w = world_new(NULL);
    uint32_t tx;
    char path[64];
    int r = 0;
    int n = 0;

    EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx), 0);
    for (int i = 0; i < 2000 && r != FH_ENOSPC; i++, n++) {
        (void)snprintf(path, sizeof(path), "data/none-%d", i);
        (void)get(w.dom[1], tx, path, &r);
    }
    EXPECT_EQ(n, 1024); /* with "data" itself */
    EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx, true), 0);
    world_free(&w);
}

/* 24 bytes of header, 8 per permission, data, names: below 2048. */
static void
node__holds_less_than_2048_bytes(void **state)
{
    struct world w = world_new(NULL);
    static char data[4096];
    const char *perms[] = { "n1", "r2" };
    uint32_t tx;

    memset(data, 'x', sizeof(data));
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2048 - 32), FH_ENOSPC);
    EXPECT_NO_NODE(w.dom[1], 0, "data/a", FH_ENOENT);
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2047 - 32), 0);
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2048 - 32), FH_ENOSPC);
    EXPECT_EQ(put(w.dom[1], 0, "data/a/b", ""), FH_ENOSPC);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data/a", perms, 2), FH_ENOSPC);
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2047 - 40), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data/a", perms, 2), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data/a", perms, 1), 0);
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2048 - 40), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data/a", perms, 2), FH_ENOSPC);
    EXPECT_EQ(fh_xs_write(w.dom[1], 0, "data/a", data, 2047 - 32), 0);
    EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx), 0);
    EXPECT_EQ(fh_xs_write(w.dom[1], tx, "data/a", data, 2048 - 32), FH_ENOSPC);
    EXPECT_EQ(put(w.dom[1], tx, "data/a/b", ""), FH_ENOSPC);
    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/local/domain/1/data/a", data, 4000),
              0);
    world_free(&w);
}

static void
node__lists_names_below_2048_bytes(void **state)
{
    struct world w = world_new(NULL);
    char path[64];
    int n = 0;
    int r = 0;

    for (; r == 0; n++) {
        (void)snprintf(path, sizeof(path), "data/name-of-17-%06d", n);
        r = put(w.dom[1], 0, path, "");
    }
    EXPECT_EQ(r, FH_ENOSPC);
    EXPECT_EQ(n - 1, (2047 - 32) / 18);
    world_free(&w);
}

static void
perms__5_per_node(void **state)
{
    struct world w = world_new(NULL);
    const char *perms[] = { "n1", "r2", "r3", "r4", "r5", "r6" };
    const char *zero[] = { "n0", "r2", "r3", "r4", "r5", "r6" };

    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data", perms, 6), FH_ENOSPC);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data", perms, 5), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data", perms, 0), FH_EINVAL);
    EXPECT_EQ(put(w.dom[0], 0, "/t", ""), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], 0, "/t", zero, 6), 0);
    world_free(&w);
}

static void
path__of_2048_below_the_domain_3072_in_all(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w = world_new(NULL);
    static char path[4096];

    /* 2048 bytes, relative and below /local/domain/N/. */
    memset(path, 'p', sizeof(path));
    path[2048] = '\0';
    EXPECT_NO_NODE(w.dom[1], 0, path, FH_ENOENT);
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_ENOENT);
    EXPECT_EQ(fh_xs_watch(w.dom[1], path, "t"), 0);
    path[2048] = 'p';
    path[2049] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_EINVAL);
    EXPECT_EQ(fh_xs_watch(w.dom[1], path, "t"), FH_EINVAL);
    memcpy(path, "/local/domain/12345/", 20);
    memset(path + 20, 'p', 2048);
    path[20 + 2048] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_ENOENT);
    path[20 + 2048] = 'p';
    path[20 + 2049] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_EINVAL);
    path[1] = 'x'; /* no domain's */
    path[2048] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_ENOENT);
    path[2048] = 'p';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_EINVAL);
    path[0] = '@';
    path[2049] = '\0';
    EXPECT_EQ(fh_xs_watch(w.dom[0], path, "t"), FH_EINVAL);
    world_free(&w);

    limits.path_rel_bytes = 4000;
    w = world_new(&limits);
    memset(path, 'p', sizeof(path));
    path[0] = '/';
    path[3072] = '\0';
    EXPECT_EQ(put(w.dom[0], 0, path, "x"), 0);
    EXPECT_NODE(w.dom[0], 0, path, "x");
    path[3072] = 'p';
    path[3073] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_EINVAL);
    path[0] = 'p'; /* relative: "/local/domain/0/" comes before it */
    path[3072 - 16] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_ENOENT);
    path[3072 - 16] = 'p';
    path[3073 - 16] = '\0';
    EXPECT_NO_NODE(w.dom[0], 0, path, FH_EINVAL);
    world_free(&w);
}

static void
memory__2560_kib_per_domain(void **state)
{
    struct world w = world_new(NULL);
    static char data[1900];
    struct fh_xs_stats stats;
    char path[64];
    uint32_t tx[10];
    int r = 0;

    for (int i = 0; i < 900 && r == 0; i++) {
        (void)snprintf(path, sizeof(path), "data/%d/%d", i / 50, i);
        r = fh_xs_write(w.dom[1], 0, path, data, sizeof(data));
    }
    EXPECT_EQ(r, 0);
    for (int k = 0; k < 10; k++)
        EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx[k]), 0);
    for (int i = 0; i < 900 && r == 0; i++) {
        (void)snprintf(path, sizeof(path), "data/%d/%d", i / 50, i);
        (void)get(w.dom[1], tx[i % 10], path, &r);
    }
    EXPECT_EQ(r, FH_ENOMEM);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT(stats.bytes <= 2560 * 1024 && stats.bytes > 2500 * 1024);
    EXPECT_EQ(put(w.dom[2], 0, "data/x", "y"), 0);
    memset(data, 't', sizeof(data) - 1);
    for (int k = 0; k < 10 && r != 0; k++) /* until less than this is left */
        r = fh_xs_watch(w.dom[1], "data", data + k) == FH_ENOMEM ? 0 : r;
    EXPECT_EQ(r, 0);
    for (int k = 0; k < 10; k++)
        EXPECT_EQ(fh_xs_transaction_end(w.dom[1], tx[k], true), 0);
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT(stats.bytes < 2000 * 1024);
    world_free(&w);
}

/* The same without transactions; the owner of a node pays for its data. */
static void
memory__is_the_owners(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w;
    static char data[1900];
    const char *perms[] = { "n1", "w2" };
    int n = 0;

    limits.domain_bytes = 20000;
    w = world_new(&limits);
    EXPECT_EQ(put(w.dom[1], 0, "data/shared", ""), 0);
    EXPECT_EQ(fh_xs_set_perms(w.dom[1], 0, "data/shared", perms, 2), 0);
    for (int r = 0; r == 0; n++) {
        char path[32];

        (void)snprintf(path, sizeof(path), "data/%d", n);
        r = fh_xs_write(w.dom[1], 0, path, data, sizeof(data));
        EXPECT(r == 0 || r == FH_ENOMEM);
    }
    EXPECT(n >= 8 && n <= 11, "%d", n);
    EXPECT_EQ(fh_xs_write(w.dom[2], 0, "/local/domain/1/data/shared", data,
                          sizeof(data)),
              FH_ENOMEM);
    EXPECT_EQ(fh_xs_write(w.dom[2], 0, "data/own", data, sizeof(data)), 0);
    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/local/domain/1/data/shared", data,
                          sizeof(data)),
              0);
    EXPECT_EQ(put(w.dom[1], 0, "data/0", "smaller"), 0);
    world_free(&w);
}

static void
conns__64_per_domain(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *conn[64];

    for (int i = 0; i < 63; i++)
        EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &conn[i]), 0);
    EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &conn[63]), FH_EMFILE);
    EXPECT_EQ(fh_xs_conn_new(w.xs, 0, NULL, &conn[63]), 0);
    fh_xs_conn_free(conn[0]);
    EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &conn[0]), 0);
    world_free(&w);
}

/* Sends READs of /tool-like nodes until there is no room; the count sent. */
static unsigned
flood(struct fh_xs_conn *conn, const char *path, unsigned max)
{
    char bytes[128];
    unsigned n = 0;
    const size_t n_bytes =
        make_request(bytes, XS_READ, 1, 0, path, strlen(path) + 1);

    while (n < max && fh_xs_conn_room(conn) >= n_bytes) {
        EXPECT_EQ(fh_xs_conn_input(conn, bytes, n_bytes), 0);
        n++;
    }
    return n;
}

static void
outstanding__20_untaken_answers_pause_the_input(void **state)
{
    struct world w = world_new(NULL);
    char bytes[8192];
    struct answer a;
    unsigned n = 0;
    size_t len = 0;

    EXPECT_EQ(flood(w.dom[1], "name", 1000), 20);
    EXPECT_EQ(fh_xs_conn_room(w.dom[1]), 0);
    EXPECT_EQ(fh_xs_conn_status(w.dom[1]), 0);
    EXPECT_EQ(flood(w.dom[2], "name", 1), 1);
    EXPECT(take_answer(w.dom[1], &a));
    EXPECT(fh_xs_conn_room(w.dom[1]) > 0);

    /* What came in one piece beyond the limit waits, and is not lost. */
    for (int i = 0; i < 100; i++)
        len += make_request(bytes + len, XS_READ, 1, 0, "name", 5);
    EXPECT_EQ(fh_xs_conn_input(w.dom[1], bytes, len), 0);
    EXPECT_EQ(fh_xs_conn_room(w.dom[1]), 0);
    while (take_answer(w.dom[1], &a))
        n++;
    EXPECT_EQ(n, 19 + 100);
    world_free(&w);
}

static void
outstanding__domain_0_is_paused_by_bytes(void **state)
{
    struct world w = world_new(NULL);
    static char data[4000];
    struct answer a;
    unsigned n;

    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/big", data, sizeof(data)), 0);
    n = flood(w.dom[0], "/big", 1000);
    EXPECT(n > 20 && n <= 128 * 1024 / 4000 + 1, "%u", n);
    EXPECT_EQ(fh_xs_conn_room(w.dom[0]), 0);
    while (take_answer(w.dom[0], &a))
        n--;
    EXPECT_EQ(n, 0);
    EXPECT(fh_xs_conn_room(w.dom[0]) > 0);
    world_free(&w);
}

static unsigned n_woken;

static void
count_wake(void *ctx, struct fh_xs_conn *conn, void *priv)
{
    n_woken += priv == ctx;
}

/* The embedder is told of output, of room, and of the end. */
static void
wake__tells_what_the_embedder_waits_for(void **state)
{
    const struct fh_xs_ops ops = { .wake = count_wake, .ctx = &n_woken };
    struct fh_xs *xs = fh_xs_new(NULL, &ops);
    struct fh_xs_conn *zero;
    struct fh_xs_conn *one;
    struct answer a;

    EXPECT_EQ(fh_xs_domain_introduce(xs, 1), 0);
    EXPECT_EQ(fh_xs_domain_populate(xs, 1, "one"), 0);
    EXPECT_EQ(fh_xs_conn_new(xs, 0, NULL, &zero), 0);
    EXPECT_EQ(fh_xs_conn_new(xs, 1, &n_woken, &one), 0);
    n_woken = 0;
    EXPECT_EQ(flood(one, "name", 3), 3);
    EXPECT_EQ(n_woken, 1); /* the rest is more of the same output */
    while (take_answer(one, &a))
        continue;
    EXPECT_EQ(fh_xs_watch(one, "data", "t"), 0);
    EXPECT_EQ(n_woken, 2);
    EXPECT_EVENT(one, "data", "t");

    /* Paused by events alone, with no input that waits. */
    EXPECT_EQ(fh_xs_watch(zero, "/local/domain/1/error", "t"), 0);
    EXPECT_EVENT(zero, "/local/domain/1/error", "t");
    for (int i = 0; i < 20; i++) {
        char path[32];

        (void)snprintf(path, sizeof(path), "error/%d", i);
        EXPECT_EQ(put(one, 0, path, "x"), 0);
    }
    EXPECT_EQ(fh_xs_conn_room(one), 0);
    n_woken = 0;
    EXPECT_EVENT(zero, "/local/domain/1/error/0", "t");
    EXPECT_EQ(n_woken, 1);
    EXPECT(fh_xs_conn_room(one) > 0);

    n_woken = 0;
    EXPECT_EQ(fh_xs_domain_release(xs, 1), 0);
    EXPECT_EQ(n_woken, 1);
    fh_xs_free(xs);
}

/* Who fills domain 0's queue waits until domain 0 reads. */
static void
outstanding__events_that_one_causes_count(void **state)
{
    const struct fh_xs_ops ops = { .wake = count_wake, .ctx = &n_woken };
    struct fh_xs *xs = fh_xs_new(NULL, &ops);
    struct fh_xs_conn *zero;
    struct fh_xs_conn *one;
    struct fh_xs_stats stats;
    char bytes[4096];
    struct answer a;
    size_t len = 0;
    unsigned n = 0;

    EXPECT_EQ(fh_xs_domain_populate(xs, 1, "one"), 0);
    EXPECT_EQ(fh_xs_conn_new(xs, 0, NULL, &zero), 0);
    EXPECT_EQ(fh_xs_conn_new(xs, 1, &n_woken, &one), 0);
    EXPECT_EQ(fh_xs_watch(zero, "/local", "t"), 0);
    EXPECT_EVENT(zero, "/local", "t");
    for (int i = 0; i < 40; i++) {
        char path[32];
        int n_path = snprintf(path, sizeof(path), "data/%d", i);

        len += make_request(bytes + len, XS_WRITE, 1, 0, path,
                            (size_t)n_path + 1);
    }
    EXPECT_EQ(fh_xs_conn_input(one, bytes, len), 0);
    while (take_answer(one, &a))
        n++;
    EXPECT_EQ(n, 20);
    EXPECT_EQ(fh_xs_conn_room(one), 0);
    fh_xs_stats(xs, 0, &stats);
    EXPECT_EQ(stats.n_events, 20);
    n_woken = 0;
    EXPECT_EVENT(zero, "/local/domain/1/data/0", "t");
    EXPECT(n_woken > 0);
    EXPECT(take_answer(one, &a)); /* the next request has run */
    fh_xs_conn_free(zero);
    while (take_answer(one, &a))
        n++;
    EXPECT_EQ(n, 20 + 19);
    EXPECT(fh_xs_conn_room(one) > 0);
    fh_xs_free(xs);
}

/* A client that never reads its events: bounded, and it alone pays. */
static void
events__of_a_client_that_never_reads_are_bounded(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats stats;
    char path[64];

    EXPECT_EQ(chmod1(w.dom[2], "data", "n2", "r1"), 0);
    EXPECT_EQ(fh_xs_watch(w.dom[1], "/local/domain/2/data", "t"), 0);
    for (int i = 0; i < 5000; i++) {
        (void)snprintf(path, sizeof(path), "data/%d", i);
        EXPECT_EQ(put(w.dom[2], 0, path, "x"), 0, "%d", i);
        EXPECT_EQ(fh_xs_rm(w.dom[2], 0, path), 0, "%d", i);
    }
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_events, 256);
    EXPECT(fh_xs_conn_room(w.dom[2]) > 0);
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nodes__1000_per_domain),
        cmocka_unit_test(nodes__count_within_and_across_transactions),
        cmocka_unit_test(watches__128_per_domain),
        cmocka_unit_test(transactions__10_per_domain),
        cmocka_unit_test(transactions__touch_1024_nodes),
        cmocka_unit_test(node__holds_less_than_2048_bytes),
        cmocka_unit_test(node__lists_names_below_2048_bytes),
        cmocka_unit_test(perms__5_per_node),
        cmocka_unit_test(path__of_2048_below_the_domain_3072_in_all),
        cmocka_unit_test(memory__2560_kib_per_domain),
        cmocka_unit_test(memory__is_the_owners),
        cmocka_unit_test(conns__64_per_domain),
        cmocka_unit_test(outstanding__20_untaken_answers_pause_the_input),
        cmocka_unit_test(outstanding__domain_0_is_paused_by_bytes),
        cmocka_unit_test(wake__tells_what_the_embedder_waits_for),
        cmocka_unit_test(outstanding__events_that_one_causes_count),
        cmocka_unit_test(events__of_a_client_that_never_reads_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
