/* SPDX-License-Identifier: MIT */
/*
 * The backend device against a xenstore in memory: what it publishes, whom it
 * believes, and what it does when the frontend or xenstore misbehaves.
 */
#include <stdlib.h>
#include "base/arith.h"
#include "device_fixture.h"

static struct rig g;

static void
device__publishes_all_features_with_init_wait(void **state)
{
    static const struct {
        const char *key, *value;
    } features[] = {
        { BACK "/feature-flush-cache", "1" },
        { BACK "/feature-barrier", "0" },
        { BACK "/feature-discard", "0" },
        { BACK "/feature-persistent", "1" },
        { BACK "/feature-max-indirect-segments", "256" },
        { BACK "/max-ring-page-order", "4" },
        { BACK "/max-ring-pages", "16" },
    };

    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "2"), "InitWait");
    for (size_t i = 0; i < FH_ARRAY_SIZE(features); i++)
        EXPECT(rig_value_is(&g, features[i].key, features[i].value), "%s",
               features[i].key);
    EXPECT(!mock_xs_get(&g.xs, BACK "/sectors"), "no properties yet");
}

static void
device__publishes_properties_with_connected(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    EXPECT(rig_value_is(&g, BACK "/sectors", "2048"), "sectors");
    EXPECT(rig_value_is(&g, BACK "/sector-size", "512"), "sector-size");
    EXPECT(rig_value_is(&g, BACK "/physical-sector-size", "4096"), "physical");
    EXPECT(rig_value_is(&g, BACK "/info", "0"), "info");
    EXPECT_EQ(g.queue.domid, 7, "domid");
    EXPECT_EQ(g.queue.ring_refs[0], 8, "ring-ref");
    EXPECT_EQ(g.queue.port, 3, "event-channel");
    EXPECT_EQ(g.queue.grants, FH_WK_GRANTS_COPY, "not negotiated");
    EXPECT_EQ(g.queue.max_indirect, 256, "indirect");
}

static void
device__says_read_only(void **state)
{
    struct fh_device_params p = rig_params;

    rig_make(&g);
    p.read_only = true;
    EXPECT_EQ(rig_init(&g, &p), 0, "init");
    rig_connected(&g);
    EXPECT(rig_value_is(&g, BACK "/info", "4"), "VDISK_READONLY");
}

/* --- the frontend's directory is hostile --- */

enum { ANY = -1 };

static const struct {
    const char *name;
    const char *key;
    const char *value; /* NULL: removed */
    size_t len;        /* 0: strlen */
    const char *error; /* NULL: accepted */
    int order;         /* then; ANY: not looked at */
} hostile[] = {
    { "nothing wrong", "x", "1", 0, NULL, 0 },
    { "no ring-ref", "ring-ref", NULL, 0, "ring-ref is missing", ANY },
    { "empty ring-ref", "ring-ref", "", 0, "ring-ref is not", ANY },
    { "negative ring-ref", "ring-ref", "-8", 0, "ring-ref is not", ANY },
    { "hexadecimal ring-ref", "ring-ref", "0x8", 0, "ring-ref is not", ANY },
    { "leading space", "ring-ref", " 8", 0, "ring-ref is not", ANY },
    { "trailing newline", "ring-ref", "8\n", 0, "ring-ref is not", ANY },
    { "trailing NUL", "ring-ref", "8\0", 2, "ring-ref is not", ANY },
    { "huge ring-ref", "ring-ref", "4294967296", 0, "ring-ref is out", ANY },
    { "no number fits", "ring-ref", "99999999999999999999999", 0,
      "ring-ref is not", ANY },
    { "order 0 said", "ring-page-order", "0", 0, NULL, 0 },
    { "order 5", "ring-page-order", "5", 0, "ring-page-order is out", ANY },
    { "order 32", "ring-page-order", "32", 0, "ring-page-order is out", ANY },
    { "order 2^31", "ring-page-order", "2147483648", 0,
      "ring-page-order is out", ANY },
    { "order text", "ring-page-order", "two", 0, "ring-page-order is not",
      ANY },
    { "order 2 without its pages", "ring-page-order", "2", 0,
      "ring-ref0 is missing", ANY },
    { "0 ring pages", "num-ring-pages", "0", 0, "num-ring-pages is not", ANY },
    { "3 ring pages", "num-ring-pages", "3", 0, "num-ring-pages is not", ANY },
    { "32 ring pages", "num-ring-pages", "32", 0, "num-ring-pages is out",
      ANY },
    { "1 ring page", "num-ring-pages", "1", 0, NULL, 0 },
    { "no event channel", "event-channel", NULL, 0,
      "event-channel is missing", ANY },
    { "event channel 0", "event-channel", "0", 0, "event-channel is out",
      ANY },
    { "event channel beyond all", "event-channel", "131072", 0,
      "event-channel is out", ANY },
    { "event channel -1", "event-channel", "-1", 0, "event-channel is not",
      ANY },
    { "0 queues", "multi-queue-num-queues", "0", 0, "multi-queue", ANY },
    { "1 queue", "multi-queue-num-queues", "1", 0, NULL, 0 },
    { "2 queues", "multi-queue-num-queues", "2", 0, "multi-queue", ANY },
    { "2^32 queues", "multi-queue-num-queues", "4294967296", 0, "multi-queue",
      ANY },
    { "no protocol", "protocol", NULL, 0, NULL, 0 },
    { "32-bit protocol", "protocol", "x86_32-abi", 0, NULL, 0 },
    { "strange protocol", "protocol", "vax-abi", 0, "protocol is unknown",
      ANY },
    { "protocol with a tail", "protocol", "x86_64-abi\0!", 12,
      "protocol is unknown", ANY },
    { "backend elsewhere", "backend", "/local/domain/0/backend/vbd/8/51712", 0,
      "backend does not point here", ANY },
    { "backend longer", "backend", BACK "/x", 0, "backend does not point here",
      ANY },
    { "no backend", "backend", NULL, 0, "backend does not point here", ANY },
    { "backend of another domain", "backend-id", "3", 0,
      "backend-id is another domain", ANY },
    { "no backend-id", "backend-id", NULL, 0, "backend-id is missing", ANY },
    { "persistent is junk", "feature-persistent", "yes", 0, NULL, 0 },
};

static void
front_put(const char *key, const char *value, size_t len)
{
    char path[MOCK_PATH];

    snprintf(path, sizeof(path), FRONT "/%s", key);
    if (value)
        mock_xs_put_bytes(&g.xs, path, value, len ? len : strlen(value));
    else
        mock_xs_del(&g.xs, path);
}

static void
device__believes_no_frontend(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(hostile); i++) {
        const char *name = hostile[i].name;
        const char *error;

        rig_make(&g);
        EXPECT_EQ(fh_device_start(&g.dev), 0, "%s", name);
        rig_publish(&g, "8", "3");
        front_put(hostile[i].key, hostile[i].value, hostile[i].len);
        rig_front(&g, "3");
        rig_settle(&g);
        error = mock_xs_get(&g.xs, ERROR);
        if (hostile[i].error) {
            EXPECT(rig_state_is(&g, "5"), "%s", name);
            EXPECT(error && strstr(error, hostile[i].error), "%s: \"%s\"",
                   name, error ? error : "no error node");
            EXPECT_EQ(g.n_connects, 0, "%s", name);
        } else {
            EXPECT(rig_state_is(&g, "4") && g.up, "%s", name);
            EXPECT(!error, "%s: %s", name, error ? error : "");
            EXPECT_EQ(g.queue.order, hostile[i].order, "%s", name);
        }
    }
}

static void
device__recovers_after_a_refused_frontend(void **state)
{
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    rig_front(&g, "3"); /* without a ring */
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "5"), "refused");
    rig_front(&g, "6");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "6"), "closed");
    rig_front(&g, "1");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "2"), "offered again");
    EXPECT(!mock_xs_get(&g.xs, ERROR), "the old error is gone");
    rig_publish(&g, "8", "3");
    rig_front(&g, "3");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "4") && g.up, "connected");
}

static void
publish_many(uint32_t n, const char *count_key, const char *count,
             uint32_t repeat_last)
{
    char key[32], ref[16];

    for (uint32_t i = 0; i < n; i++) {
        snprintf(key, sizeof(key), "ring-ref%u", i);
        snprintf(ref, sizeof(ref), "%u",
                 i + 1 == n && repeat_last ? 100 : 100 + i);
        front_put(key, ref, 0);
    }
    front_put(count_key, count, 0);
    front_put("event-channel", "3", 0);
}

static void
device__takes_rings_of_many_pages(void **state)
{
    static const struct {
        const char *name, *key, *value;
        uint32_t n, order;
        bool repeats;
        const char *error;
    } rows[] = {
        { "order 4", "ring-page-order", "4", 16, 4, false, NULL },
        { "order 1", "ring-page-order", "1", 2, 1, false, NULL },
        { "8 pages the old way", "num-ring-pages", "8", 8, 3, false, NULL },
        { "order 0 with a number", "ring-page-order", "0", 1, 0, false, NULL },
        { "a page twice", "ring-page-order", "2", 4, 0, true,
          "ring-ref3 repeats" },
        { "a page short", "ring-page-order", "2", 3, 0, false,
          "ring-ref3 is missing" },
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
        const char *error;

        rig_make(&g);
        EXPECT_EQ(fh_device_start(&g.dev), 0, "%s", rows[i].name);
        publish_many(rows[i].n, rows[i].key, rows[i].value, rows[i].repeats);
        rig_front(&g, "3");
        rig_settle(&g);
        error = mock_xs_get(&g.xs, ERROR);
        if (rows[i].error) {
            EXPECT(error && strstr(error, rows[i].error), "%s", rows[i].name);
            continue;
        }
        EXPECT(g.up, "%s", rows[i].name);
        EXPECT_EQ(g.queue.order, rows[i].order, "%s", rows[i].name);
        EXPECT_EQ(g.queue.ring_refs[rows[i].n - 1], 99 + rows[i].n, "%s",
                  rows[i].name);
    }
}

static void
device__refuses_two_counts_that_differ(void **state)
{
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    publish_many(4, "ring-page-order", "2", 0);
    front_put("num-ring-pages", "2", 0);
    rig_front(&g, "3");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "5"), "contradiction");
}

static void
device__negotiates_grants(void **state)
{
    static const struct {
        enum fh_device_grants policy;
        const char *front; /* feature-persistent */
        const char *ours;
        uint32_t want;
    } rows[] = {
        { FH_DEVICE_GRANTS_AUTO, "1", "1", FH_WK_GRANTS_PERSISTENT },
        { FH_DEVICE_GRANTS_AUTO, "0", "1", FH_WK_GRANTS_COPY },
        { FH_DEVICE_GRANTS_AUTO, "2", "1", FH_WK_GRANTS_COPY },
        { FH_DEVICE_GRANTS_AUTO, NULL, "1", FH_WK_GRANTS_COPY },
        { FH_DEVICE_GRANTS_COPY, "1", "0", FH_WK_GRANTS_COPY },
        { FH_DEVICE_GRANTS_MAP, "1", "0", FH_WK_GRANTS_MAP },
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
        struct fh_device_params p = rig_params;

        rig_make(&g);
        p.grants = rows[i].policy;
        EXPECT_EQ(rig_init(&g, &p), 0, "row %zu", i);
        front_put("feature-persistent", rows[i].front, 0);
        rig_connected(&g);
        EXPECT_EQ(g.queue.grants, rows[i].want, "row %zu", i);
        EXPECT(rig_value_is(&g, BACK "/feature-persistent", rows[i].ours),
               "row %zu", i);
    }
}

/* --- the toolstack --- */

static void
device__waits_for_its_script(void **state)
{
    static const char *const values[] = { "busy", "error", "connected " };

    rig_make(&g);
    mock_xs_put(&g.xs, BACK "/script", "/etc/xen/scripts/block-freehold");
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    rig_publish(&g, "8", "3");
    rig_front(&g, "4");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "2") && !g.up, "libxl has to see 2");
    for (size_t i = 0; i < FH_ARRAY_SIZE(values); i++) {
        mock_xs_put(&g.xs, BACK "/hotplug-status", values[i]);
        rig_settle(&g);
        EXPECT(rig_state_is(&g, "2") && !g.up, "%s", values[i]);
    }
    mock_xs_put(&g.xs, BACK "/hotplug-status", "connected");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "4") && g.up, "connected");
}

static void
toolstack_unplugs(struct rig *r)
{
    mock_xs_put(&r->xs, BACK "/online", "0");
    mock_xs_put(&r->xs, BACK "/state", "5");
}

static void
device__is_unplugged_through_closing_and_closed(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    toolstack_unplugs(&g);
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "5") && g.up, "the frontend has to agree");
    rig_front(&g, "5");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "5") && !g.up, "drained");
    rig_front(&g, "6");
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "6") && g.removed, "over");
    EXPECT(!mock_xs_get(&g.xs, BACK "/sectors"), "properties are gone");
    rig_expect_clean(&g, "unplugged");
}

static void
device__is_forced(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    EXPECT_EQ(fh_device_unplug(&g.dev, false), 0, "unplug");
    rig_settle(&g);
    EXPECT(g.up && rig_state_is(&g, "5"), "the frontend refuses");
    EXPECT_EQ(fh_device_unplug(&g.dev, true), 0, "force");
    rig_settle(&g);
    EXPECT(g.removed && rig_state_is(&g, "6"), "over");
    rig_expect_clean(&g, "forced");
}

/* The toolstack writes 5 the moment before our transaction ends. */
static void
steal_state(struct mock_xs *m)
{
    if (m->in_txn && !m->arg) {
        m->arg = m;
        mock_xs_put(m, BACK "/online", "0");
        mock_xs_put(m, BACK "/state", "5");
    }
}

static void
device__never_overwrites_the_toolstacks_5(void **state)
{
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    g.xs.hook = steal_state;
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "6") && g.removed, "5 led to 6, never to 2");
    EXPECT(!mock_xs_get(&g.xs, BACK "/feature-barrier"), "nothing written");
}

static void
device__stops_with_its_backend_but_stays_online(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    fh_device_stop(&g.dev, false);
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "5") && g.up, "asked");
    fh_device_stop(&g.dev, true);
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "6") && g.removed, "stopped");
    EXPECT(rig_value_is(&g, BACK "/online", "1"), "the toolstack's");
    rig_expect_clean(&g, "stopped");
}

static void
device__of_ours_ends_with_its_domain(void **state)
{
    struct fh_device_params p = rig_params;

    rig_make(&g);
    p.owned = true;
    EXPECT_EQ(rig_init(&g, &p), 0, "init");
    rig_connected(&g);
    rig_front(&g, "0");
    rig_settle(&g);
    EXPECT(!g.removed && rig_state_is(&g, "6"), "junk unplugs nothing");
    rig_front(&g, "4");
    rig_settle(&g);
    EXPECT(g.up, "connected again");
    mock_xs_del(&g.xs, "/local/domain/7");
    rig_settle(&g);
    EXPECT(g.removed, "nobody else would unplug it");
    rig_expect_clean(&g, "owned");
}

static void
device__starts_only_on_a_directory_that_makes_sense(void **state)
{
    static const char *const fronts[] = {
        NULL, "", "/local/domain/8/device/vbd/51712", "device/vbd/51712",
        "/local/domain/7",
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(fronts); i++) {
        rig_make(&g);
        mock_xs_del(&g.xs, BACK "/frontend");
        if (fronts[i])
            mock_xs_put(&g.xs, BACK "/frontend", fronts[i]);
        EXPECT_EQ(fh_device_start(&g.dev), FH_ENOENT, "row %zu", i);
        rig_expect_clean(&g, "refused start");
    }
}

static void
device__resizes_by_a_repeated_connected(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    fh_device_resize(&g.dev, 4096);
    rig_settle(&g);
    EXPECT(rig_state_is(&g, "4") && g.up, "still connected");
    EXPECT(rig_value_is(&g, BACK "/sectors", "4096"), "the new size");
    EXPECT_EQ(g.n_connects, 1, "no reconnect");
}

/* --- the frontend's life --- */

static void
device__notices_a_renewed_ring(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    rig_publish(&g, "9", "4");
    rig_front(&g, "4");
    rig_settle(&g);
    EXPECT_EQ(g.n_connects, 2, "connected again");
    EXPECT_EQ(g.queue.ring_refs[0], 9, "to the new ring");
    EXPECT(rig_state_is(&g, "4") && g.up, "connected");
}

static void
device__notices_a_frontend_that_went_back(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    rig_front(&g, "3"); /* same references, but from the start */
    rig_settle(&g);
    EXPECT_EQ(g.n_connects, 2, "connected again");
    EXPECT(rig_state_is(&g, "4") && g.up, "connected");
}

static void
device__survives_any_state_value(void **state)
{
    static const char *const values[] = {
        "0", "7", "8", "9", "99", "-1", "", "four", "4294967300", "4 ", "0x4",
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(values); i++) {
        rig_make(&g);
        rig_connected(&g);
        rig_front(&g, values[i]);
        rig_settle(&g);
        rig_front(&g, "6");
        rig_settle(&g);
        EXPECT(!g.up && rig_state_is(&g, "6"), "\"%s\"", values[i]);
        rig_front(&g, "1");
        rig_settle(&g);
        EXPECT(rig_state_is(&g, "2"), "\"%s\": offered again", values[i]);
    }
}

static void
device__survives_deletion_in_every_state(void **state)
{
    static const char *const fronts[] = { "1", "2", "3", "4", "5", "6" };
    static const char *const dirs[] = { FRONT, "/local/domain/7", BACK,
                                        FRONT "/state", BACK "/state" };

    for (size_t i = 0; i < FH_ARRAY_SIZE(fronts) * FH_ARRAY_SIZE(dirs); i++) {
        const char *dir = dirs[i % FH_ARRAY_SIZE(dirs)];

        rig_make(&g);
        EXPECT_EQ(fh_device_start(&g.dev), 0, "row %zu", i);
        rig_publish(&g, "8", "3");
        rig_front(&g, fronts[i / FH_ARRAY_SIZE(dirs)]);
        rig_settle(&g);
        mock_xs_del(&g.xs, dir);
        rig_settle(&g);
        EXPECT(!g.up, "%s deleted at %s", dir,
               fronts[i / FH_ARRAY_SIZE(dirs)]);
        mock_xs_del(&g.xs, BACK);
        rig_settle(&g);
        EXPECT(g.removed, "row %zu", i);
        rig_expect_clean(&g, dir);
    }
}

static void
device__survives_deletion_while_the_worker_is_busy(void **state)
{
    for (int busy_down = 0; busy_down < 2; busy_down++) {
        rig_make(&g);
        g.deferred = !busy_down;
        EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
        rig_publish(&g, "8", "3");
        rig_front(&g, "4");
        rig_settle(&g);
        if (busy_down) {
            g.deferred = true;
            rig_front(&g, "6");
            rig_settle(&g);
        }
        mock_xs_del(&g.xs, FRONT);
        mock_xs_del(&g.xs, BACK);
        for (int i = 0; i < 4; i++) {
            rig_settle(&g);
            rig_answer(&g);
        }
        rig_settle(&g);
        EXPECT(g.removed, "busy %s", busy_down ? "down" : "up");
        rig_expect_clean(&g, "busy");
    }
}

/* A frontend that writes states and rings at random, and a worker that answers
 * whenever it likes: whatever happens, connects and disconnects alternate (the
 * rig checks), and in the end all is clean. */
static void
random_life(unsigned seed)
{
    static const char *const values[] = { "0", "1", "2", "3", "4", "5", "6",
                                          "7", "8", "99", "x" };
    char ref[16];

    srand(seed);
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "seed %u", seed);
    for (int i = 0; i < 60; i++) {
        g.deferred = rand() % 2;
        g.connect_rc = rand() % 4 ? 0 : FH_WK_E_RING;
        snprintf(ref, sizeof(ref), "%d", rand() % 3 + 8);
        if (rand() % 3 == 0)
            rig_publish(&g, ref, "3");
        if (rand() % 20 == 0)
            mock_xs_del(&g.xs, FRONT "/ring-ref");
        if (rand() % 8 == 0)
            fh_device_fault(&g.dev, FH_WK_E_BROKEN);
        rig_front(&g, values[(size_t)rand() % FH_ARRAY_SIZE(values)]);
        if (rand() % 2)
            rig_settle(&g);
        if (rand() % 2)
            rig_answer(&g);
        g.xs.now_ns += 20000000;
    }
    mock_xs_del(&g.xs, FRONT);
    toolstack_unplugs(&g);
    for (int i = 0; i < 6; i++) {
        rig_settle_in_time(&g);
        rig_answer(&g);
    }
    rig_settle_in_time(&g);
    EXPECT(g.removed, "seed %u", seed);
    rig_expect_clean(&g, "random life");
}

static void
device__survives_a_random_frontend(void **state)
{
    for (unsigned seed = 1; seed <= 1000; seed++)
        random_life(seed);
}

static void
device__makes_a_toggling_frontend_wait(void **state)
{
    uint32_t n;

    rig_make(&g);
    rig_connected(&g);
    for (int i = 0; i < 2000; i++) {
        rig_front(&g, "6");
        rig_settle(&g);
        rig_front(&g, "4");
        rig_settle(&g);
    }
    EXPECT(g.n_connects <= FH_DEVICE_OFFERS + 1, "%u connects at one moment",
           g.n_connects);
    n = g.n_connects;
    g.xs.now_ns += 1000000000;
    rig_settle(&g);
    EXPECT_EQ(g.n_connects, n + 1, "later it may");
}

static void
device__logs_no_more_than_its_share(void **state)
{
    rig_make(&g);
    EXPECT_EQ(fh_device_start(&g.dev), 0, "start");
    for (int i = 0; i < 100; i++) {
        rig_front(&g, "3"); /* without a ring: an error each time */
        rig_settle(&g);
        rig_front(&g, "6");
        rig_settle(&g);
    }
    EXPECT(g.n_logs <= FH_DEVICE_LOG_LINES, "%u lines", g.n_logs);
    EXPECT(g.dev.log_dropped > 80, "the others are counted");
}

static void
device__reports_a_broken_ring(void **state)
{
    rig_make(&g);
    rig_connected(&g);
    fh_device_fault(&g.dev, FH_WK_E_BROKEN);
    rig_settle(&g);
    EXPECT(!g.up && rig_state_is(&g, "5"), "stopped");
    EXPECT(mock_xs_get(&g.xs, ERROR), "told");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(device__publishes_all_features_with_init_wait),
        cmocka_unit_test(device__publishes_properties_with_connected),
        cmocka_unit_test(device__says_read_only),
        cmocka_unit_test(device__believes_no_frontend),
        cmocka_unit_test(device__recovers_after_a_refused_frontend),
        cmocka_unit_test(device__takes_rings_of_many_pages),
        cmocka_unit_test(device__refuses_two_counts_that_differ),
        cmocka_unit_test(device__negotiates_grants),
        cmocka_unit_test(device__waits_for_its_script),
        cmocka_unit_test(device__is_unplugged_through_closing_and_closed),
        cmocka_unit_test(device__is_forced),
        cmocka_unit_test(device__never_overwrites_the_toolstacks_5),
        cmocka_unit_test(device__stops_with_its_backend_but_stays_online),
        cmocka_unit_test(device__of_ours_ends_with_its_domain),
        cmocka_unit_test(device__starts_only_on_a_directory_that_makes_sense),
        cmocka_unit_test(device__resizes_by_a_repeated_connected),
        cmocka_unit_test(device__notices_a_renewed_ring),
        cmocka_unit_test(device__notices_a_frontend_that_went_back),
        cmocka_unit_test(device__survives_any_state_value),
        cmocka_unit_test(device__survives_deletion_in_every_state),
        cmocka_unit_test(device__survives_deletion_while_the_worker_is_busy),
        cmocka_unit_test(device__survives_a_random_frontend),
        cmocka_unit_test(device__makes_a_toggling_frontend_wait),
        cmocka_unit_test(device__logs_no_more_than_its_share),
        cmocka_unit_test(device__reports_a_broken_ring),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
