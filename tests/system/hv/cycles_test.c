/* SPDX-License-Identifier: MIT */
/*
 * Connecting and disconnecting again and again costs nothing that stays: equal
 * counts of descriptors, mappings, files and memory, here and in the
 * hypervisor.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>

#include <xenevtchn.h>
#include <xengnttab.h>

#include "world.h"

enum { RING = 1, DATA = 40 };

static struct world world;
static struct fh_hvctl_domain zero, front;

struct counts {
    long fds, maps, hv_fds, hv_maps, rss_kib;
    int64_t files, descriptors;
};

static long
entries(const char *path)
{
    DIR *d = opendir(path);
    long n = 0;

    EXPECT(d, "%s", path);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static long
lines(const char *path)
{
    FILE *f = fopen(path, "r");
    long n = 0;

    EXPECT(f, "%s", path);
    for (int c; (c = fgetc(f)) != EOF;)
        n += c == '\n';
    fclose(f);
    return n;
}

/* Under a sanitizer, memory grows for reasons of its own. */
#if defined(__SANITIZE_ADDRESS__)
enum { IS_SANITIZED = 1 };
#else
enum { IS_SANITIZED = 0 };
#endif

static long
rss_kib(pid_t pid)
{
    char path[64];
    long pages = 0;

    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "r");

    EXPECT(f && fscanf(f, "%*d %ld", &pages) == 1);
    fclose(f);
    return pages * 4;
}

/* Some descriptors are closed by another thread, late on a busy machine. */
static void
descriptors_settle(void)
{
    char path[64];
    long before, now = -1;
    int n_same = 0;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)world.hv);
    for (int i = 0; i < 100 && n_same < 3; i++) {
        before = now;
        usleep(100000);
        now = entries(path);
        n_same = now == before ? n_same + 1 : 0;
    }
}

static struct counts
count(void)
{
    descriptors_settle();
    struct counts c = { .rss_kib = rss_kib(world.hv) };
    char path[64];

    c.fds = entries("/proc/self/fd");
    c.maps = lines("/proc/self/maps");
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)world.hv);
    c.hv_fds = entries(path);
    snprintf(path, sizeof(path), "/proc/%d/maps", (int)world.hv);
    c.hv_maps = lines(path);
    c.files = world_count(&world, -1, "shared_files");
    c.descriptors = world_count(&world, -1, "descriptors");
    return c;
}

/* A device's life: ring and data pages granted, mapped, copied, a channel. */
static void
cycle(void)
{
    uint32_t ring, data[DATA];

    world_enter(&front);
    xengntshr_handle *shr = xengntshr_open(NULL, 0);
    xenevtchn_handle *f = xenevtchn_open(NULL, 0);
    void *r = xengntshr_share_pages(shr, 0, RING, &ring, 1);
    void *d = xengntshr_share_pages(shr, 0, DATA, data, 0);
    int fp = xenevtchn_bind_unbound_port(f, 0);

    world_enter(&zero);
    xengnttab_handle *gnt = xengnttab_open(NULL, 0);
    xenevtchn_handle *b = xenevtchn_open(NULL, 0);
    int bp = xenevtchn_bind_interdomain(b, front.domid, (evtchn_port_t)fp);

    EXPECT(r && d && fp > 0 && bp > 0);
    void *mr = xengnttab_map_grant_ref(gnt, front.domid, ring,
                                       PROT_READ | PROT_WRITE);
    void *md = xengnttab_map_domain_grant_refs(gnt, DATA, front.domid, data,
                                               PROT_READ);
    char local[100];
    xengnttab_grant_copy_segment_t s = { .len = 100,
                                         .flags = GNTCOPY_source_gref };

    s.source.foreign.ref = data[0];
    s.source.foreign.domid = front.domid;
    s.dest.virt = local;
    EXPECT(mr && md);
    EXPECT(xengnttab_grant_copy(gnt, 1, &s) == 0 && s.status == 0);
    memset(r, 1, 4096);
    EXPECT_EQ(xenevtchn_notify(b, (evtchn_port_t)bp), 0);
    EXPECT_EQ(xenevtchn_pending(f), fp);
    EXPECT_EQ(xengnttab_unmap(gnt, md, DATA), 0);
    EXPECT_EQ(xengntshr_unshare(shr, r, RING), 0); /* still mapped */
    EXPECT_EQ(xengnttab_unmap(gnt, mr, RING), 0);
    /* The rest goes with the handles. */
    xenevtchn_close(b);
    xengnttab_close(gnt);
    xenevtchn_close(f);
    xengntshr_close(shr);
}

static void
hundred_and_thousand_cycles__cost_the_same(void **state)
{
    for (int i = 0; i < 100; i++)
        cycle();
    const struct counts a = count();

    for (int i = 0; i < 900; i++)
        cycle();
    const struct counts b = count();

    EXPECT_EQ(b.fds, a.fds, "descriptors");
    EXPECT_EQ(b.maps, a.maps, "mappings");
    EXPECT_EQ(b.hv_fds, a.hv_fds, "the hypervisor's descriptors");
    EXPECT(IS_SANITIZED || b.hv_maps <= a.hv_maps + 2,
           "%ld, then %ld", a.hv_maps, b.hv_maps);
    EXPECT_EQ(b.files, a.files, "shared files");
    EXPECT_EQ(b.descriptors, a.descriptors, "descriptors as charged");
    EXPECT(IS_SANITIZED || b.rss_kib <= a.rss_kib + 256,
           "%ld KiB, then %ld KiB", a.rss_kib, b.rss_kib);
    EXPECT_EQ(world_count(&world, -1, "maps"), 0);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
    EXPECT_EQ(world_count(&world, -1, "channels"), 0);
    EXPECT_EQ(world_count(&world, -1, "connections"), 0);
}

static void
domains__come_and_go(void **state)
{
    struct counts a = { 0 };

    for (int i = 0; i < 200; i++) {
        world_domain(&world, "passing", &front);
        cycle();
        EXPECT_EQ(fh_hvctl_destroy(world.dir, "passing"), 0, "%s",
                  fh_hvctl_error());
        if (i == 50)
            a = count();
    }
    const struct counts b = count();

    EXPECT_EQ(b.hv_fds, a.hv_fds);
    /* Neighbours among anonymous mappings merge or not. */
    EXPECT(IS_SANITIZED || b.hv_maps <= a.hv_maps + 2,
           "%ld, then %ld", a.hv_maps, b.hv_maps);
    EXPECT_EQ(b.files, a.files);
    EXPECT(IS_SANITIZED || b.rss_kib <= a.rss_kib + 256,
           "%ld KiB, then %ld KiB", a.rss_kib, b.rss_kib);
    EXPECT_EQ(world_count(&world, -1, "zombies"), 0);
}

/* A grant table holds what Xen's does; then sharing fails, and works again. */
static void
grants__run_out_with_an_error(void **state)
{
    enum { MOST = 32768 - 8, STEP = 4000 };
    static uint32_t refs[STEP];
    void *pages[MOST / STEP + 1];
    const int64_t files = world_count(&world, -1, "shared_files");
    int n = 0;

    world_domain(&world, "greedy", &front);
    world_enter(&front);
    xengntshr_handle *shr = xengntshr_open(NULL, 0);

    while ((pages[n] = xengntshr_share_pages(shr, 0, STEP, refs, 1)))
        n++;
    EXPECT_EQ(errno, ENOSPC);
    EXPECT_EQ(n, MOST / STEP);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), n * STEP);
    EXPECT_EQ(xengntshr_unshare(shr, pages[0], STEP), 0);
    pages[0] = xengntshr_share_pages(shr, 0, STEP, refs, 1);
    EXPECT(pages[0]);
    xengntshr_close(shr);
    EXPECT_EQ(world_count(&world, -1, "shared_pages"), 0);
    EXPECT_EQ(fh_hvctl_destroy(world.dir, "greedy"), 0);
    EXPECT_EQ(world_count(&world, -1, "shared_files"), files);
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
        cmocka_unit_test(hundred_and_thousand_cycles__cost_the_same),
        cmocka_unit_test(domains__come_and_go),
        cmocka_unit_test(grants__run_out_with_an_error),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
