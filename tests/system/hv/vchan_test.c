/* SPDX-License-Identifier: MIT */
/*
 * A program that nobody here wrote: the system's libxenvchan, a byte stream
 * over grants, event channels and xenstore, between two domains.  It waits in
 * xenevtchn_pending() and learns of its peer's death by notification on unmap.
 */
#include <errno.h>
#include <stdio.h>

#include <libxenvchan.h>

#include "world.h"

enum { BYTES = 4 << 20, RING = 8192 };

static struct world world;
static struct fh_hvctl_domain zero, front;

static uint8_t
pattern(uint32_t i)
{
    return (uint8_t)(i * 31 + (i >> 8) * 7);
}

/* Serves one client: sends back what it gets, one more in each byte. */
static void
server(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    static uint8_t buf[5000];
    char path[64];

    snprintf(path, sizeof(path), "/local/domain/%u/data/vchan", dom->domid);
    struct libxenvchan *v =
        libxenvchan_server_init(NULL, 0, path, RING, RING);

    CHECK(v);
    v->blocking = 1;
    tell(out, "s", 1);
    for (uint32_t done = 0; done < BYTES;) {
        int n = libxenvchan_read(v, buf, sizeof(buf));

        CHECK(n > 0);
        for (int i = 0; i < n; i++)
            buf[i]++;
        CHECK(libxenvchan_send(v, buf, (size_t)n) == n);
        done += (uint32_t)n;
    }
    /* Waits until the other side is gone. */
    while (libxenvchan_is_open(v) == 1)
        CHECK(libxenvchan_wait(v) == 0);
    libxenvchan_close(v);
}

static void
sender(const struct fh_hvctl_domain *dom, int in, int out, void *arg)
{
    static uint8_t buf[3001], back[3001];
    char path[64], byte;

    snprintf(path, sizeof(path), "/local/domain/%u/data/vchan", front.domid);
    struct libxenvchan *v = libxenvchan_client_init(NULL, front.domid, path);

    CHECK(v);
    v->blocking = 1;
    for (uint32_t done = 0; done < BYTES;) {
        const uint32_t left = BYTES - done;
        const int n = left < sizeof(buf) ? (int)left : (int)sizeof(buf);

        for (int i = 0; i < n; i++)
            buf[i] = pattern(done + (uint32_t)i);
        CHECK(libxenvchan_send(v, buf, (size_t)n) == n);
        CHECK(libxenvchan_recv(v, back, (size_t)n) == n);
        for (int i = 0; i < n; i++)
            CHECK(back[i] == (uint8_t)(buf[i] + 1));
        done += (uint32_t)n;
    }
    tell(out, "d", 1);
    hear(in, &byte, 1); /* to be killed here, or told to close */
    libxenvchan_close(v);
}

static void
stream__carries_data_and_ends(void **state)
{
    for (int dies = 0; dies < 2; dies++) {
        struct process s, c;
        char byte;

        process_start(&s, &front, server, NULL);
        hear(s.from, &byte, 1);
        process_start(&c, &zero, sender, NULL);
        hear(c.from, &byte, 1);
        if (dies) {
            process_kill(&c);
        } else {
            tell(c.to, "e", 1);
            process_end(&c);
        }
        process_end(&s);
        EXPECT(world_settles(&world, -1, "maps", 0));
        EXPECT(world_settles(&world, -1, "shared_pages", 0));
        EXPECT(world_settles(&world, -1, "channels", 0));
    }
}

static int
setup(void **state)
{
    world_start(&world);
    EXPECT_EQ(fh_hvctl_find(world.dir, "0", &zero), 0);
    world_domain(&world, "front", &front);
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
        cmocka_unit_test(stream__carries_data_and_ends),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
