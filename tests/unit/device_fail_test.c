/* SPDX-License-Identifier: MIT */
/*
 * The backend device when xenstore fails: one life of a disk, with the k-th
 * call failing for every k, with all calls failing from the k-th on, and with
 * transactions that meet others.
 */
#include "base/arith.h"
#include "device_fixture.h"

static struct rig g;

/* Each event of a disk's life; the device comes to rest after each. */
static void
life(void)
{
    static const char *const states[] = { "3", "4", "5", "6", "1", "4", "5" };

    rig_settle_in_time(&g);
    rig_publish(&g, "8", "3");
    for (size_t i = 0; i < FH_ARRAY_SIZE(states); i++) {
        rig_front(&g, states[i]);
        rig_settle_in_time(&g);
    }
    mock_xs_put(&g.xs, BACK "/online", "0");
    mock_xs_put(&g.xs, BACK "/state", "5");
    rig_settle_in_time(&g);
    rig_front(&g, "6");
    rig_settle_in_time(&g);
}

static uint64_t
calls_of_a_life(void)
{
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    life();
    EXPECT(g.removed, "the life without failures");
    EXPECT_EQ(g.n_connects, 2, "the life without failures");
    return g.xs.n_calls;
}

static void
device__outlives_each_call_failing_once(void **state)
{
    const uint64_t n = calls_of_a_life();

    for (uint64_t k = 1; k <= n + 1; k++) {
        int r;

        rig_make(&g);
        g.xs.fail_at = k;
        r = fh_device_start(&g.dev);
        if (r) {
            EXPECT_EQ(r, FH_EIO, "call %llu", (unsigned long long)k);
            rig_expect_clean(&g, "failed start");
            continue;
        }
        life();
        EXPECT(g.removed, "call %llu of %llu", (unsigned long long)k,
               (unsigned long long)n);
        EXPECT_EQ(g.n_connects, 2, "call %llu", (unsigned long long)k);
        rig_expect_clean(&g, "life");
    }
}

static void
device__gives_up_and_comes_back(void **state)
{
    const uint64_t n = calls_of_a_life();

    for (uint64_t k = 1; k <= n; k++) {
        uint64_t before;

        rig_make(&g);
        if (fh_device_start(&g.dev))
            continue;
        g.xs.fail_from = g.xs.n_calls + k;
        life();
        /* Not a loop: once the tries are spent it waits for an event. */
        before = g.xs.n_calls;
        rig_settle_in_time(&g);
        EXPECT_EQ(g.xs.n_calls, before, "from call %llu",
                  (unsigned long long)k);
        if (k < n / 2)
            EXPECT(g.removed || g.dev.reason[0], "a reason, from call %llu",
                   (unsigned long long)k);
        g.xs.fail_from = 0;
        rig_front(&g, "6");
        rig_settle_in_time(&g);
        EXPECT(g.removed, "from call %llu", (unsigned long long)k);
        EXPECT(!g.up, "from call %llu", (unsigned long long)k);
    }
}

static void
device__repeats_transactions_within_a_bound(void **state)
{
    uint64_t before;

    rig_make(&g);
    g.xs.conflicts = FH_DEVICE_TXN_TRIES - 1;
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "2"), "the last try succeeds");

    rig_make(&g);
    g.xs.conflicts = 1000000;
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    rig_settle_in_time(&g);
    EXPECT(rig_state_is(&g, "1"), "never");
    EXPECT(g.n_logs > 0 && g.dev.reason[0], "and it says so");
    before = g.xs.n_calls;
    rig_settle_in_time(&g);
    EXPECT_EQ(g.xs.n_calls, before, "and rests");
    g.xs.conflicts = 0;
    fh_device_kick(&g.dev);
    rig_settle_in_time(&g);
    EXPECT(rig_state_is(&g, "2"), "the next event finds it well");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device__outlives_each_call_failing_once),
        cmocka_unit_test(device__gives_up_and_comes_back),
        cmocka_unit_test(device__repeats_transactions_within_a_bound),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
