/* SPDX-License-Identifier: MIT */
/* The polling policy, in virtual time. */
#include "base/arith.h"
#include "base/poller.h"
#include "expect.h"

enum { US = 1000, MS = 1000 * 1000, MAX = 50 * US };

/*
 * One loop of an end of a ring: no work now, the next comes @gap_ns from now.
 * A wake-up takes @wake_ns.  Returns how long it spun.
 */
static uint64_t
idle_once(struct fh_poller *pl, uint64_t *now, uint64_t gap_ns,
          uint64_t wake_ns, bool wanted)
{
    const uint64_t spin = fh_poller_plan(pl, *now, wanted);

    if (spin && gap_ns <= spin) {
        *now += gap_ns;
        fh_poller_found(pl, gap_ns);
        return gap_ns;
    }
    if (spin)
        fh_poller_missed(pl, spin);
    const uint64_t slept = gap_ns - spin + wake_ns;

    fh_poller_slept(pl, slept);
    *now += spin + slept;
    return spin;
}

static const struct {
    const char *name;
    uint64_t gap_ns, wake_ns;
    uint32_t budget;
    bool wanted;
    uint64_t loops;
    uint64_t spun_min, spun_max; /* in permille of the time */
} steady_cases[] = {
    {"work every 2 us: always spins", 2 * US, 25 * US, 256, false, 10000, 990,
     1000},
    {"work every 40 us: always spins", 40 * US, 25 * US, 256, false, 10000, 990,
     1000},
    {"work every 120 us: tries rarely", 120 * US, 25 * US, 256, false, 10000, 0,
     5},
    {"work every ms: never", 1 * MS, 25 * US, 256, false, 10000, 0, 1},
    {"work every 100 ms: never", 100 * MS, 25 * US, 256, false, 100, 0, 1},
    {"CPU wanted: never", 2 * US, 25 * US, 256, true, 10000, 0, 0},
    {"a quarter of a CPU", 2 * US, 25 * US, 64, false, 1000000, 100, 260},
};

static void
poller__spends_only_where_it_pays(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(steady_cases); i++) {
        struct fh_poller pl;
        uint64_t now = 1 * MS, spun = 0;

        fh_poller_init(&pl, MAX, steady_cases[i].budget, now);
        for (uint64_t n = 0; n < steady_cases[i].loops; n++)
            spun += idle_once(&pl, &now, steady_cases[i].gap_ns,
                              steady_cases[i].wake_ns, steady_cases[i].wanted);
        uint64_t permille = spun * 1000 / (now - 1 * MS);

        EXPECT(permille >= steady_cases[i].spun_min &&
                   permille <= steady_cases[i].spun_max,
               "%s: spun %llu permille", steady_cases[i].name,
               (unsigned long long)permille);
    }
}

static void
poller__sleeps_after_one_fruitless_spin_when_idle(void **state)
{
    struct fh_poller pl;
    uint64_t now = 0;

    fh_poller_init(&pl, MAX, 256, now);
    EXPECT_EQ(idle_once(&pl, &now, 10 * MS, 0, false), MAX);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(idle_once(&pl, &now, 10 * MS, 0, false), 0, "sleep %d", i);
}

static void
poller__recovers_when_work_comes_densely_again(void **state)
{
    struct fh_poller pl;
    uint64_t now = 0;
    int n = 0;

    fh_poller_init(&pl, MAX, 256, now);
    for (int i = 0; i < 10000; i++)
        idle_once(&pl, &now, 150 * US, 20 * US, false);
    EXPECT(pl.backoff == FH_POLLER_MAX_SKIP, "backed off");
    /* Both ends sleep: 20 us of work apart, but 60 us for the wake-ups. */
    while (!idle_once(&pl, &now, 20 * US, 60 * US, false) && n < 1000)
        n++;
    EXPECT(n <= FH_POLLER_MAX_SKIP + 1, "needed %d sleeps", n);
    EXPECT_EQ(idle_once(&pl, &now, 20 * US, 60 * US, false), 20 * US);
    EXPECT_EQ(pl.backoff, 0);
}

/* The other end works while we sleep only. */
static void
poller__gives_way_on_a_shared_cpu(void **state)
{
    struct fh_poller pl;
    uint64_t spun = 0, slept = 0;

    fh_poller_init(&pl, MAX, 256, 0);
    for (int i = 0; i < 10000; i++) {
        const uint64_t spin = fh_poller_plan(&pl, spun + slept, false);

        if (spin)
            fh_poller_missed(&pl, spin);
        fh_poller_slept(&pl, 40 * US);
        spun += spin;
        slept += 40 * US;
    }
    EXPECT(spun < slept / 100, "spun %llu of %llu ns",
           (unsigned long long)spun, (unsigned long long)slept);
}

static void
poller__stays_off_a_wanted_cpu(void **state)
{
    struct fh_poller pl;
    uint64_t now = 0, asked = 0;

    fh_poller_init(&pl, MAX, 256, now);
    for (; now < 1000 * MS; now += 10 * US) {
        if (now >= pl.pause_until_ns)
            asked++;
        EXPECT_EQ(fh_poller_plan(&pl, now, true), 0);
    }
    EXPECT(asked < 50, "asked %llu times", (unsigned long long)asked);
    EXPECT_EQ(fh_poller_plan(&pl, now, false), 0, "still in the pause");
    now += FH_POLLER_PAUSE_MAX_NS;
    EXPECT_EQ(fh_poller_plan(&pl, now, false), MAX, "pause is over");
    for (int i = 0; i < 10; i++)
        fh_poller_found(&pl, 1);
    EXPECT_EQ(pl.pause_ns, FH_POLLER_PAUSE_MIN_NS, "trust again");
}

static void
poller__zero_is_off(void **state)
{
    struct fh_poller pl;

    fh_poller_init(&pl, 0, 256, 0);
    EXPECT(!fh_poller_ready(&pl));
    EXPECT_EQ(fh_poller_plan(&pl, 5, false), 0);
    fh_poller_slept(&pl, 1);
    EXPECT_EQ(fh_poller_plan(&pl, 5, false), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(poller__spends_only_where_it_pays),
        cmocka_unit_test(poller__sleeps_after_one_fruitless_spin_when_idle),
        cmocka_unit_test(poller__recovers_when_work_comes_densely_again),
        cmocka_unit_test(poller__gives_way_on_a_shared_cpu),
        cmocka_unit_test(poller__stays_off_a_wanted_cpu),
        cmocka_unit_test(poller__zero_is_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
