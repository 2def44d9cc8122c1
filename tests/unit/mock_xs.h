/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A xenstore in memory behind struct fh_plat, for tests of logic: values,
 * watches, transactions with conflicts, a clock that the test turns, and any
 * call failing that the test names.  Small enough to be obviously right; no
 * permissions, no quotas (tests/unit/xs has the real server).
 */
#include <stdbool.h>
#include <stdint.h>
#include <freehold/plat.h>

enum {
    MOCK_NODES = 64,
    MOCK_PATH = 128,
    MOCK_VALUE = 320,
    MOCK_WATCHES = 8,
    MOCK_EVENTS = 64,
};

struct mock_node {
    char path[MOCK_PATH]; /* "" free */
    char value[MOCK_VALUE];
    size_t len;
};

struct mock_xs {
    struct fh_plat plat;
    uint64_t now_ns;
    struct mock_node node[MOCK_NODES];
    struct mock_node txn_node[MOCK_NODES];
    uint64_t generation;
    uint64_t txn_generation;
    bool in_txn;
    struct {
        char path[MOCK_PATH];
        char token[32]; /* "" free */
    } watch[MOCK_WATCHES];
    struct {
        char path[MOCK_PATH];
        char token[32];
    } event[MOCK_EVENTS]; /* a second one for the same is merged */
    uint32_t n_events;
    /* What goes wrong. */
    uint64_t n_calls;
    uint64_t fail_at;   /* this call fails, */
    uint64_t fail_from; /* or all from this one on; 0: none */
    int fail_error;
    uint32_t conflicts; /* so many transactions meet another one */
    void (*hook)(struct mock_xs *m); /* before each call of the code */
    void *arg;
};

void
mock_xs_init(struct mock_xs *m);

/* The test's own hand: like another domain; fires watches. */
void
mock_xs_put(struct mock_xs *m, const char *path, const char *value);
void
mock_xs_put_bytes(struct mock_xs *m, const char *path, const void *value,
                  size_t len);
/* With everything below it. */
void
mock_xs_del(struct mock_xs *m, const char *path);
/* NULL when it is not there. */
const char *
mock_xs_get(struct mock_xs *m, const char *path);
uint32_t
mock_xs_watches(const struct mock_xs *m);
