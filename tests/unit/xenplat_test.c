/* SPDX-License-Identifier: MIT */
/* What the production platform does without any hypervisor. */
#include <poll.h>
#include <unistd.h>
#include "expect.h"
#include "xenplat/xenplat.h"

static void
xenplat__a_part_not_opened_is_refused(void **state)
{
    struct fh_xenplat x;
    struct fh_plat *p = &x.plat;
    uint32_t port, refs[1];
    void *addr;

    EXPECT_EQ(fh_xenplat_open(&x, 0), 0);
    EXPECT_EQ(p->ops->gnt_map(p, 0, refs, 1, FH_PLAT_PROT_RW, &addr),
              FH_ENOSYS);
    EXPECT_EQ(p->ops->gnt_share(p, 0, 1, true, refs, &addr), FH_ENOSYS);
    EXPECT_EQ(p->ops->ev_next(p, &port), FH_ENOSYS);
    EXPECT_EQ(p->ops->xs_mkdir(p, 0, "/x"), FH_ENOSYS);
    EXPECT_EQ(fh_xenplat_evtchn_fd(&x), -1);
    EXPECT_EQ(fh_xenplat_xs_fd(&x), -1);
    fh_xenplat_close(&x);
}

static void
xenplat__wait_ends_with_time_or_a_descriptor(void **state)
{
    struct fh_xenplat x;
    struct fh_plat *p = &x.plat;
    int ends[2];
    uint64_t start;

    EXPECT_EQ(fh_xenplat_open(&x, 0), 0);
    EXPECT_EQ(pipe(ends), 0);
    EXPECT_EQ(fh_xenplat_add_fd(&x, ends[0], POLLIN), 0);
    start = p->ops->now_ns(p);
    EXPECT_EQ(p->ops->wait(p, 2000000), 0);
    EXPECT(p->ops->now_ns(p) - start >= 2000000, "slept for its time");
    EXPECT_EQ(fh_xenplat_fd_events(&x, ends[0]), 0);

    EXPECT_EQ(write(ends[1], "x", 1), 1);
    EXPECT_EQ(p->ops->wait(p, UINT64_MAX), 0);
    EXPECT_EQ(fh_xenplat_fd_events(&x, ends[0]), POLLIN);
    EXPECT_EQ(x.counts.waits, 2);

    fh_xenplat_remove_fd(&x, ends[0]);
    EXPECT_EQ(fh_xenplat_fd_events(&x, ends[0]), 0, "removed");
    for (int i = 0; i < FH_XENPLAT_MAX_FDS; i++)
        EXPECT_EQ(fh_xenplat_add_fd(&x, ends[0], POLLIN), 0, "fd %d", i);
    EXPECT_EQ(fh_xenplat_add_fd(&x, ends[0], POLLIN), FH_ENOSPC);
    close(ends[0]);
    close(ends[1]);
    fh_xenplat_close(&x);
    fh_xenplat_close(&x);
}

static void
xenplat__cpu_is_sampled_not_watched(void **state)
{
    struct fh_xenplat x;

    EXPECT_EQ(fh_xenplat_open(&x, 0), 0);
    for (int i = 0; i < 1000; i++)
        (void)fh_plat_cpu_wanted(&x.plat);
    EXPECT(x.counts.cpu_checks >= 1 && x.counts.cpu_checks < 500,
           "%llu samples", (unsigned long long)x.counts.cpu_checks);
    fh_xenplat_close(&x);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xenplat__a_part_not_opened_is_refused),
        cmocka_unit_test(xenplat__wait_ends_with_time_or_a_descriptor),
        cmocka_unit_test(xenplat__cpu_is_sampled_not_watched),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
