/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * One device between a mock xenstore and a recorded data path, for the
 * device's tests.  The data path checks that its calls alternate: a connect
 * while connected, or two at once, fails the test.
 */
#include <stdio.h>
#include <string.h>
#include "blkback/device.h"
#include "expect.h"
#include "mock_xs.h"

#define BACK  "/local/domain/0/backend/vbd/7/51712"
#define FRONT "/local/domain/7/device/vbd/51712"
#define ERROR "/local/domain/0/error/backend/vbd/7/51712/error"

struct rig {
    struct mock_xs xs;
    struct fh_device dev;
    struct fh_device_queue queue;
    bool deferred;    /* answers wait for rig_answer() */
    int connect_rc;   /* what the data path answers */
    bool up;
    bool asked_up, asked_down;
    bool removed;
    uint32_t n_connects, n_disconnects, n_logs;
    char last_log[320];
};

static inline struct rig *
rig_of(struct fh_device *d)
{
    return d->p.user;
}

static inline void
rig_answer(struct rig *g)
{
    if (g->asked_up) {
        g->asked_up = false;
        g->up = g->connect_rc == 0;
        fh_device_connected(&g->dev, g->connect_rc);
    } else if (g->asked_down) {
        g->asked_down = false;
        g->up = false;
        fh_device_disconnected(&g->dev, 0);
    }
}

static inline int
rig_connect(struct fh_device *d, const struct fh_device_queue *q)
{
    struct rig *g = rig_of(d);

    EXPECT(!g->up && !g->asked_up && !g->asked_down, "connect out of turn");
    g->queue = *q;
    g->n_connects++;
    g->asked_up = true;
    if (!g->deferred)
        rig_answer(g);
    return 0;
}

static inline int
rig_disconnect(struct fh_device *d)
{
    struct rig *g = rig_of(d);

    EXPECT(g->up && !g->asked_up && !g->asked_down, "disconnect out of turn");
    g->n_disconnects++;
    g->asked_down = true;
    if (!g->deferred)
        rig_answer(g);
    return 0;
}

static inline void
rig_removed(struct fh_device *d)
{
    struct rig *g = rig_of(d);

    EXPECT(!g->up && !g->removed, "removed out of turn");
    g->removed = true;
}

static inline void
rig_log(struct fh_device *d, const char *text)
{
    struct rig *g = rig_of(d);

    g->n_logs++;
    snprintf(g->last_log, sizeof(g->last_log), "%s", text);
}

static const struct fh_device_ops rig_ops = {
    .connect = rig_connect,
    .disconnect = rig_disconnect,
    .removed = rig_removed,
    .log = rig_log,
};

static const struct fh_device_params rig_params = {
    .ops = &rig_ops,
    .path = BACK,
    .own_domid = 0,
    .domid = 7,
    .devid = 51712,
    .max_order = 4,
    .n_sectors = 2048,
    .physical_sector_bytes = 4096,
};

/* What a toolstack writes. */
static inline void
rig_toolstack(struct rig *g)
{
    mock_xs_put(&g->xs, BACK "/frontend", FRONT);
    mock_xs_put(&g->xs, BACK "/frontend-id", "7");
    mock_xs_put(&g->xs, BACK "/online", "1");
    mock_xs_put(&g->xs, BACK "/state", "1");
    mock_xs_put(&g->xs, FRONT "/backend", BACK);
    mock_xs_put(&g->xs, FRONT "/backend-id", "0");
    mock_xs_put(&g->xs, FRONT "/state", "1");
}

static inline int
rig_init(struct rig *g, const struct fh_device_params *p)
{
    struct fh_device_params q = *p;

    q.plat = &g->xs.plat;
    q.user = g;
    return fh_device_init(&g->dev, &q);
}

static inline void
rig_make(struct rig *g)
{
    memset(g, 0, sizeof(*g));
    mock_xs_init(&g->xs);
    rig_toolstack(g);
    EXPECT_EQ(rig_init(g, &rig_params), 0, "init");
}

/* Delivers events and runs until nothing moves; bounded. */
static inline void
rig_settle(struct rig *g)
{
    static char path[FH_XS_PATH_MAX + 1], token[FH_XS_PATH_MAX + 1];

    for (int i = 0; i < 200; i++) {
        bool any = false;

        while (g->xs.plat.ops->xs_next(&g->xs.plat, path, token) == 0)
            any |= fh_device_event(&g->dev, token);
        if (!any && fh_device_deadline_ns(&g->dev) > g->xs.now_ns)
            return;
        fh_device_run(&g->dev);
    }
    EXPECT(false, "the device does not come to rest");
}

/* Lets time pass as long as the device waits for a moment. */
static inline void
rig_settle_in_time(struct rig *g)
{
    for (int i = 0; i < 100; i++) {
        uint64_t due;

        rig_settle(g);
        due = fh_device_deadline_ns(&g->dev);
        if (due == UINT64_MAX)
            return;
        g->xs.now_ns = due;
    }
    EXPECT(false, "the device retries for ever");
}

static inline void
rig_front(struct rig *g, const char *state)
{
    mock_xs_put(&g->xs, FRONT "/state", state);
}

/* A ring of one page. */
static inline void
rig_publish(struct rig *g, const char *ref, const char *port)
{
    mock_xs_put(&g->xs, FRONT "/ring-ref", ref);
    mock_xs_put(&g->xs, FRONT "/event-channel", port);
    mock_xs_put(&g->xs, FRONT "/protocol", "x86_64-abi");
}

static inline bool
rig_state_is(struct rig *g, const char *state)
{
    const char *now = mock_xs_get(&g->xs, BACK "/state");

    return now && !strcmp(now, state);
}

static inline bool
rig_value_is(struct rig *g, const char *path, const char *value)
{
    const char *now = mock_xs_get(&g->xs, path);

    return now && !strcmp(now, value);
}

/* As far as Connected. */
static inline void
rig_connected(struct rig *g)
{
    EXPECT_EQ(fh_device_start(&g->dev), 0, "start");
    rig_settle(g);
    rig_publish(g, "8", "3");
    rig_front(g, "3");
    rig_settle(g);
    EXPECT(rig_state_is(g, "4") && g->up, "connected");
    rig_front(g, "4");
    rig_settle(g);
}

/* Nothing is left behind, and nothing open. */
static inline void
rig_expect_clean(struct rig *g, const char *name)
{
    EXPECT(!g->up, "%s: the ring is still up", name);
    EXPECT_EQ(mock_xs_watches(&g->xs), 0, "%s: watches", name);
    EXPECT(!g->xs.in_txn, "%s: a transaction", name);
}
