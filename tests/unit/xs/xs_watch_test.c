/* SPDX-License-Identifier: MIT */
/* Watches: who hears of what, in which order, and what bounds it. */
#include "tests/unit/xs/xs_help.h"

static void
watch__fires_at_registration_even_for_nothing(void **state)
{
    struct world w = world_new(NULL);

    EXPECT_EQ(fh_xs_watch(w.dom[1], "/not/there", "tok en"), 0);
    EXPECT_EVENT(w.dom[1], "/not/there", "tok en");
    EXPECT_NO_EVENT(w.dom[1]);
    EXPECT_EQ(fh_xs_watch(w.dom[1], "/not/there", ""), 0);
    EXPECT_EVENT(w.dom[1], "/not/there", "");
    EXPECT_EQ(fh_xs_watch(w.dom[1], "/not/there", ""), FH_EEXIST);
    EXPECT_EQ(fh_xs_watch(w.dom[2], "/not/there", ""), 0);
    world_free(&w);
}

static void
watch__hears_of_its_node_and_all_below_in_order(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];

    EXPECT_EQ(fh_xs_watch(a, "/t", "w"), 0);
    EXPECT_EVENT(a, "/t", "w");
    EXPECT_EQ(put(a, 0, "/t/a/b", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t", "1"), 0);
    EXPECT_EQ(put(a, 0, "/tt", "1"), 0);
    EXPECT_EQ(fh_xs_mkdir(a, 0, "/t/d"), 0);
    EXPECT_EQ(fh_xs_mkdir(a, 0, "/t/d"), 0);
    EXPECT_EQ(chmod1(a, "/t/a", "n0", "r1"), 0);
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/a/b"), 0);
    EXPECT_EVENT(a, "/t/a/b", "w");
    EXPECT_EVENT(a, "/t", "w");
    EXPECT_EVENT(a, "/t/d", "w");
    EXPECT_EVENT(a, "/t/a", "w");
    EXPECT_NO_EVENT(a); /* the removal says what the write said: untaken */
    EXPECT_EQ(put(a, 0, "/t/a/b", "1"), 0);
    EXPECT_EVENT(a, "/t/a/b", "w");
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/a/b"), 0);
    EXPECT_EVENT(a, "/t/a/b", "w");
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/a/b"), 0);
    EXPECT_NO_EVENT(a);
    EXPECT_EQ(fh_xs_unwatch(a, "/t", "w"), 0);
    EXPECT_EQ(fh_xs_unwatch(a, "/t", "w"), FH_ENOENT);
    EXPECT_EQ(put(a, 0, "/t", "2"), 0);
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

/* A removed subtree: the removed node for those above, each for its own. */
static void
watch__below_a_removed_node_hears_of_its_own_only(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];

    EXPECT_EQ(put(a, 0, "/t/a/b/c", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t/a/d", "1"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t", "top"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t/a/b", "mid"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t/a/b/c", "leaf"), 0);
    EXPECT_EVENT(a, "/t", "top");
    EXPECT_EVENT(a, "/t/a/b", "mid");
    EXPECT_EVENT(a, "/t/a/b/c", "leaf");
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/a"), 0);
    EXPECT_EVENT(a, "/t/a", "top");
    EXPECT_EVENT(a, "/t/a/b/c", "leaf");
    EXPECT_EVENT(a, "/t/a/b", "mid");
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

static void
watch__on_the_root_hears_of_everything_but_specials(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];

    EXPECT_EQ(fh_xs_watch(a, "/", "w"), 0);
    EXPECT_EVENT(a, "/", "w");
    EXPECT_EQ(put(a, 0, "/x", "1"), 0);
    EXPECT_EVENT(a, "/x", "w");
    EXPECT_EQ(fh_xs_domain_introduce(w.xs, 9), 0);
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

static void
watch__relative_is_told_relative_paths(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *one = w.dom[1];

    EXPECT_EQ(fh_xs_watch(one, "data", "rel"), 0);
    EXPECT_EVENT(one, "data", "rel");
    EXPECT_EQ(fh_xs_watch(one, "/local/domain/1/data", "abs"), 0);
    EXPECT_EVENT(one, "/local/domain/1/data", "abs");
    EXPECT_EQ(put(one, 0, "data/a/b", "1"), 0);
    EXPECT_EVENT(one, "data/a/b", "rel");
    EXPECT_EVENT(one, "/local/domain/1/data/a/b", "abs");
    EXPECT_EQ(put(w.dom[0], 0, "/local/domain/1/data", "1"), 0);
    EXPECT_EVENT(one, "data", "rel");
    EXPECT_EVENT(one, "/local/domain/1/data", "abs");
    EXPECT_EQ(fh_xs_unwatch(one, "data", "rel"), 0);
    EXPECT_EQ(fh_xs_unwatch(one, "data", "abs"), 0);
    world_free(&w);
}

static void
watch__is_silent_about_what_one_may_not_read(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct fh_xs_conn *one = w.dom[1];

    EXPECT_EQ(put(a, 0, "/t/x", "1"), 0);
    EXPECT_EQ(fh_xs_watch(one, "/t", "w"), 0);
    EXPECT_EVENT(one, "/t", "w");
    EXPECT_EQ(put(a, 0, "/t/x", "2"), 0);
    EXPECT_EQ(put(a, 0, "/t/y", "2"), 0);
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/y"), 0);
    EXPECT_NO_EVENT(one);

    /* Gaining and losing the right is heard of. */
    EXPECT_EQ(chmod1(a, "/t/x", "n0", "r1"), 0);
    EXPECT_EVENT(one, "/t/x", "w");
    EXPECT_EQ(put(a, 0, "/t/x", "3"), 0);
    EXPECT_EVENT(one, "/t/x", "w");
    EXPECT_EQ(chmod1(a, "/t/x", "n0", NULL), 0);
    EXPECT_EVENT(one, "/t/x", "w");
    EXPECT_EQ(put(a, 0, "/t/x", "4"), 0);
    EXPECT_NO_EVENT(one);

    /* The removal of what one might read is heard of. */
    EXPECT_EQ(chmod1(a, "/t/x", "n0", "r1"), 0);
    EXPECT_EVENT(one, "/t/x", "w");
    EXPECT_EQ(fh_xs_rm(a, 0, "/t/x"), 0);
    EXPECT_EVENT(one, "/t/x", "w");

    /* One may see the parent, so one may see that a child comes and goes. */
    EXPECT_EQ(chmod1(a, "/t", "n0", "r1"), 0);
    EXPECT_EVENT(one, "/t", "w");
    EXPECT_EQ(put(a, 0, "/t/z", "1"), 0);
    EXPECT_EQ(chmod1(a, "/t/z", "n0", NULL), 0);
    EXPECT_EVENT(one, "/t/z", "w");
    world_free(&w);
}

/* The same through a transaction, where the rights changed and went with it. */
static void
watch__rights_hold_across_a_transaction(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct fh_xs_conn *one = w.dom[1];
    const char *none[] = { "n0" };
    uint32_t tx;

    EXPECT_EQ(put(a, 0, "/t/x", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t/y", "1"), 0);
    EXPECT_EQ(put(a, 0, "/t/z", "1"), 0);
    EXPECT_EQ(chmod1(a, "/t/x", "n0", "r1"), 0);
    EXPECT_EQ(chmod1(a, "/t/y", "n0", "r1"), 0);
    EXPECT_EQ(fh_xs_watch(one, "/t", "w"), 0);
    EXPECT_EVENT(one, "/t", "w");
    EXPECT_EQ(fh_xs_transaction_start(a, &tx), 0);
    EXPECT_EQ(fh_xs_rm(a, tx, "/t/x"), 0);
    EXPECT_EQ(fh_xs_set_perms(a, tx, "/t/y", none, 1), 0);
    EXPECT_EQ(put(a, tx, "/t/z", "2"), 0);
    EXPECT_EQ(fh_xs_transaction_end(a, tx, true), 0);
    EXPECT_EVENT(one, "/t/x", "w");
    EXPECT_EVENT(one, "/t/y", "w");
    EXPECT_NO_EVENT(one);
    world_free(&w);
}

static void
watch__specials_are_for_domain_0_unless_granted(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct fh_xs_conn *one = w.dom[1];

    EXPECT_EQ(fh_xs_watch(a, "@introduceDomain", "i"), 0);
    EXPECT_EQ(fh_xs_watch(a, "@releaseDomain", "r"), 0);
    EXPECT_EQ(fh_xs_watch(one, "@releaseDomain", "r"), 0);
    EXPECT_EVENT(a, "@introduceDomain", "i");
    EXPECT_EVENT(a, "@releaseDomain", "r");
    EXPECT_EVENT(one, "@releaseDomain", "r");
    EXPECT_EQ(fh_xs_domain_introduce(w.xs, 9), 0);
    EXPECT_EVENT(a, "@introduceDomain", "i");
    EXPECT_EQ(fh_xs_domain_introduce(w.xs, 9), 0);
    EXPECT_NO_EVENT(a);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 9), 0);
    EXPECT_EVENT(a, "@releaseDomain", "r");
    EXPECT_NO_EVENT(one);
    EXPECT_EQ(chmod1(a, "@releaseDomain", "n0", "r1"), 0);
    EXPECT_EQ(fh_xs_domain_introduce(w.xs, 9), 0);
    EXPECT_EQ(fh_xs_domain_release(w.xs, 9), 0);
    EXPECT_EVENT(one, "@releaseDomain", "r");
    EXPECT_EQ(fh_xs_unwatch(one, "@releaseDomain", "r"), 0);
    /* Names like these are no nodes. */
    EXPECT_EQ(put(a, 0, "/@releaseDomain", "x"), 0);
    EXPECT_EVENT(a, "@introduceDomain", "i");
    EXPECT_EVENT(a, "@releaseDomain", "r");
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

static void
watch__reset_drops_watches_and_transactions(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats stats;
    uint32_t tx;

    EXPECT_EQ(fh_xs_watch(w.dom[1], "data", "w"), 0);
    EXPECT_EQ(fh_xs_transaction_start(w.dom[1], &tx), 0);
    EXPECT_EVENT(w.dom[1], "data", "w");
    (void)ASK(w.dom[1], XS_RESET_WATCHES, 0, "\0");
    fh_xs_stats(w.xs, 1, &stats);
    EXPECT_EQ(stats.n_watches, 0);
    EXPECT_EQ(stats.n_transactions, 0);
    EXPECT_EQ(put(w.dom[0], 0, "/local/domain/1/data", "x"), 0);
    EXPECT_NO_EVENT(w.dom[1]);
    world_free(&w);
}

static void
event__already_waiting_is_not_repeated(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];

    EXPECT_EQ(fh_xs_watch(a, "/t", "w"), 0);
    EXPECT_EQ(fh_xs_watch(a, "/t", "v"), 0);
    EXPECT_EVENT(a, "/t", "w");
    EXPECT_EVENT(a, "/t", "v");
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(put(a, 0, "/t/a", "x"), 0);
        EXPECT_EQ(put(a, 0, "/t/b", "x"), 0);
    }
    EXPECT_EVENT(a, "/t/a", "w");
    EXPECT_EVENT(a, "/t/a", "v");
    EXPECT_EQ(put(a, 0, "/t/a", "x"), 0); /* news again */
    EXPECT_EVENT(a, "/t/b", "w");
    EXPECT_EVENT(a, "/t/b", "v");
    EXPECT_EVENT(a, "/t/a", "w");
    EXPECT_EVENT(a, "/t/a", "v");
    EXPECT_NO_EVENT(a);
    world_free(&w);
}

/* On the wire an event is taken when its first byte is. */
static void
event__half_taken_is_repeated(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    struct iovec iov[4];

    EXPECT_EQ(fh_xs_watch(a, "/t", "w"), 0);
    EXPECT_EQ(fh_xs_conn_peek(a, iov, 4), 1);
    EXPECT_EQ(put(a, 0, "/t", "x"), 0);
    EXPECT_EQ(fh_xs_conn_peek(a, iov, 4), 1);
    fh_xs_conn_consume(a, 1);
    EXPECT_EQ(put(a, 0, "/t", "x"), 0);
    EXPECT_EQ(fh_xs_conn_peek(a, iov, 4), 2);
    EXPECT_EQ(iov[0].iov_len + 1, iov[1].iov_len);
    world_free(&w);
}

/* Beyond the limit: each watch is told once, of itself, and nothing is lost. */
static void
event__overflow_tells_each_watch_once(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w;
    struct fh_xs_conn *one;
    char path[64];

    limits.n_events = 8;
    w = world_new(&limits);
    one = w.dom[1];
    EXPECT_EQ(fh_xs_watch(one, "data", "d"), 0);
    EXPECT_EQ(fh_xs_watch(one, "error", "e"), 0);
    for (int i = 0; i < 6; i++) {
        (void)snprintf(path, sizeof(path), "/local/domain/1/data/%d", i);
        EXPECT_EQ(put(w.dom[0], 0, path, "x"), 0);
        EXPECT_EQ(chmod1(w.dom[0], path, "n0", "r1"), 0);
    }
    for (int i = 6; i < 1000; i++) {
        (void)snprintf(path, sizeof(path), "/local/domain/1/data/%d", i);
        EXPECT_EQ(put(w.dom[0], 0, path, "x"), 0);
        EXPECT_EQ(chmod1(w.dom[0], path, "n0", "r1"), 0);
    }
    EXPECT_EQ(put(w.dom[0], 0, "/local/domain/1/error", "x"), 0);
    EXPECT_EVENT(one, "data", "d");
    EXPECT_EVENT(one, "error", "e");
    for (int i = 0; i < 6; i++) {
        (void)snprintf(path, sizeof(path), "data/%d", i);
        EXPECT_EVENT(one, path, "d");
    }
    EXPECT_EVENT(one, "data", "d");
    EXPECT_NO_EVENT(one); /* of "error" the first event had said it */
    EXPECT_EQ(put(w.dom[0], 0, "/local/domain/1/error", "x"), 0);
    EXPECT_EVENT(one, "error", "e");
    world_free(&w);
}

static void
event__too_long_for_the_wire_is_not_sent(void **state)
{
    struct world w = world_new(NULL);
    static char token[4096];

    memset(token, 't', 4090);
    EXPECT_EQ(fh_xs_watch(w.dom[0], "/t", token), 0);
    EXPECT_EVENT(w.dom[0], "/t", token);
    EXPECT_EQ(put(w.dom[0], 0, "/t/long", "x"), 0);
    EXPECT_NO_EVENT(w.dom[0]);
    world_free(&w);
}

/* 64 guests of 30 nodes, a watch per device: a write costs its ancestors. */
static void
watch__cost_does_not_grow_with_other_watches(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_conn *a = w.dom[0];
    char path[64];
    char token[16];

    for (int d = 0; d < 64; d++) {
        for (int i = 0; i < 30; i++) {
            (void)snprintf(path, sizeof(path), "/b/vbd/%d/768/key-%d", d, i);
            EXPECT_EQ(put(a, 0, path, "x"), 0);
        }
        (void)snprintf(path, sizeof(path), "/b/vbd/%d/768/key-0", d);
        (void)snprintf(token, sizeof(token), "%d", d);
        EXPECT_EQ(fh_xs_watch(a, path, token), 0);
        EXPECT_EVENT(a, path, token);
    }
    for (int round = 0; round < 100; round++) {
        for (int d = 0; d < 64; d++) {
            (void)snprintf(path, sizeof(path), "/b/vbd/%d/768/key-0", d);
            (void)snprintf(token, sizeof(token), "%d", d);
            EXPECT_EQ(put(a, 0, path, "y"), 0);
            EXPECT_EVENT(a, path, token);
            EXPECT_NO_EVENT(a);
        }
    }
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(watch__fires_at_registration_even_for_nothing),
        cmocka_unit_test(watch__hears_of_its_node_and_all_below_in_order),
        cmocka_unit_test(watch__below_a_removed_node_hears_of_its_own_only),
        cmocka_unit_test(watch__on_the_root_hears_of_everything_but_specials),
        cmocka_unit_test(watch__relative_is_told_relative_paths),
        cmocka_unit_test(watch__is_silent_about_what_one_may_not_read),
        cmocka_unit_test(watch__rights_hold_across_a_transaction),
        cmocka_unit_test(watch__specials_are_for_domain_0_unless_granted),
        cmocka_unit_test(watch__reset_drops_watches_and_transactions),
        cmocka_unit_test(event__already_waiting_is_not_repeated),
        cmocka_unit_test(event__half_taken_is_repeated),
        cmocka_unit_test(event__overflow_tells_each_watch_once),
        cmocka_unit_test(event__too_long_for_the_wire_is_not_sent),
        cmocka_unit_test(watch__cost_does_not_grow_with_other_watches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
