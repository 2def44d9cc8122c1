/* SPDX-License-Identifier: MIT */
/*
 * Random and failing input against fh_xs_conn_input() and the direct calls:
 * byte streams of half-sensible requests, cut anywhere, from clients of four
 * domains that come, go and stop reading; and every script with its k-th
 * allocation failing.  After each step the server's books must balance.
 *
 * XS_FUZZ_SEED and XS_FUZZ_ROUNDS in the environment repeat or lengthen a run.
 */
#include "hv/xs/xs_internal.h"
#include "tests/unit/xs/xs_help.h"

static void
check_books(struct fh_xs *xs)
{
    const char *broken = fh_xs_broken(xs);

    EXPECT(!broken, "broken: %s", broken);
}

/* ---- random streams -------------------------------------------------- */

static uint64_t rng;

static uint32_t
random_below(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 16) % n);
}

static const char *const paths[] = {
    "/",          "/t",          "/t/a",        "/t/a/b",
    "/t/a/b/c/d", "/t/x",        "/local",      "/local/domain/1/data",
    "data",       "data/a",      "data/a/b",    "data/b",
    "error",      "name",        ".",           "",
    "//",         "/t/",         "data//a",     "@releaseDomain",
    "@nothing",   "/local/domain/2/data/x",     "/local/domain/3",
    "/u/v/w",     "/local/domain/1", "/local/domain/2/feature",
};

static const char *const words[] = { "T",  "F",  "0",  "1",  "2",    "3",
                                     "n1", "r2", "b0", "w3", "help", "",
                                     "tok", "7", "-1", "99999999999" };

static size_t
add_word(char *at, const char *word)
{
    const size_t n = strlen(word) + 1;

    memcpy(at, word, n);
    return n;
}

static size_t
random_payload(char *out)
{
    const uint32_t n_words = random_below(4);
    size_t n = 0;

    if (random_below(8))
        n += add_word(out + n,
                      paths[random_below(sizeof(paths) / sizeof(paths[0]))]);
    for (uint32_t i = 0; i < n_words; i++)
        n += add_word(out + n,
                      words[random_below(sizeof(words) / sizeof(words[0]))]);
    if (random_below(6) == 0 && n)
        n--; /* no NUL at the end */
    if (random_below(40) == 0) {
        const size_t more = random_below(4096 - (uint32_t)n);

        memset(out + n, random_below(2) ? 'a' : '/', more);
        n += more;
    }
    if (random_below(30) == 0 && n)
        out[random_below((uint32_t)n)] = (char)random_below(256);
    return n;
}

static size_t
random_request(char *out)
{
    char payload[XENSTORE_PAYLOAD_MAX];
    uint32_t type = random_below(XS_TYPE_COUNT + 1);
    const uint32_t tx = random_below(3) ? 0 : random_below(5);
    size_t n;

    if (random_below(3) == 0) /* more of what changes things */
        type = (const uint32_t[]){ XS_WRITE, XS_RM, XS_MKDIR, XS_SET_PERMS,
                                   XS_WATCH,
                                   XS_TRANSACTION_END }[random_below(6)];
    if (type == XS_RELEASE && random_below(4))
        type = XS_READ;
    n = make_request(out, type, random_below(9), tx, payload,
                     random_payload(payload));
    memcpy(out + sizeof(struct xsd_sockmsg), payload,
           n - sizeof(struct xsd_sockmsg));
    if (random_below(400) == 0)
        out[random_below((uint32_t)n)] ^= (char)(1 << random_below(8));
    return n;
}

enum { N_CLIENTS = 6, STREAM_MAX = 16384 };

/* A client and what it has still to send. */
struct client {
    struct fh_xs_conn *conn;
    char stream[STREAM_MAX];
    size_t n;
};

static void
step_send(struct client *c)
{
    size_t n;

    while (c->n < STREAM_MAX / 2 - 4200)
        c->n += random_request(c->stream + c->n);
    n = random_below(random_below(2) ? 40 : 5000);
    if (n > c->n)
        n = c->n;
    if (n > fh_xs_conn_room(c->conn))
        n = fh_xs_conn_room(c->conn);
    (void)!fh_xs_conn_input(c->conn, c->stream, n);
    c->n -= n;
    memmove(c->stream, c->stream + n, c->n);
}

static void
step_take(struct client *c)
{
    struct iovec iov[8];
    const unsigned n = fh_xs_conn_peek(c->conn, iov, 8);
    size_t bytes = 0;

    for (unsigned i = 0; i < n; i++) {
        EXPECT(iov[i].iov_len > 0);
        bytes += iov[i].iov_len;
    }
    if (bytes)
        fh_xs_conn_consume(c->conn,
                           random_below(3) ? bytes
                                           : random_below((uint32_t)bytes) +
                                                 1);
}

static void
step_renew(struct fh_xs *xs, struct client *c, uint16_t domid)
{
    fh_xs_conn_free(c->conn);
    c->n = 0;
    if (!fh_xs_domain_is_introduced(xs, domid)) {
        (void)!fh_xs_domain_populate(xs, domid, "again");
        EXPECT_EQ(fh_xs_domain_introduce(xs, domid), 0);
    }
    EXPECT_EQ(fh_xs_conn_new(xs, domid, NULL, &c->conn), 0);
}

static void
fuzz_round(uint64_t seed, unsigned n_steps)
{
    static struct client clients[N_CLIENTS];
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct fh_xs *xs;

    rng = seed * 0x9e3779b97f4a7c15ull + 1;
    limits.hash_seed = seed + 1;
    if (random_below(2)) { /* small limits are met more often */
        limits.n_nodes = 20;
        limits.n_events = 4;
        limits.n_events_priv = 8;
        limits.n_txn_nodes = 9;
        limits.domain_bytes = 6000;
    }
    xs = fh_xs_new(&limits, NULL);
    assert_non_null(xs);
    for (uint16_t i = 0; i < N_CLIENTS; i++) {
        clients[i].conn = NULL;
        step_renew(xs, &clients[i], i % 4);
    }
    for (unsigned i = 0; i < n_steps; i++) {
        const uint32_t k = random_below(N_CLIENTS);

        if (random_below(2))
            step_send(&clients[k]);
        else if (k != 1 || random_below(20) == 0) /* client 1 hardly reads */
            step_take(&clients[k]);
        if (fh_xs_conn_status(clients[k].conn) || random_below(500) == 0)
            step_renew(xs, &clients[k], (uint16_t)(k % 4));
        if (i % 16 == 0)
            check_books(xs);
    }
    fh_xs_free(xs);
}

static unsigned
number_from(const char *name, unsigned otherwise)
{
    const char *text = getenv(name);

    return text ? (unsigned)strtoul(text, NULL, 0) : otherwise;
}

static unsigned last_seed;

static void
input__random_streams_keep_the_books(void **state)
{
    const unsigned first = number_from("XS_FUZZ_SEED", 1);
    const unsigned n = number_from("XS_FUZZ_ROUNDS", 60);

    for (unsigned seed = first; seed < first + n; seed++) {
        last_seed = seed;
        fuzz_round(seed, 1500);
    }
}

/* Runs after a failure too: this is the seed that repeats it. */
static int
print_last_seed(void **state)
{
    print_message("last seed: XS_FUZZ_SEED=%u XS_FUZZ_ROUNDS=1\n", last_seed);
    return 0;
}

/* Bytes without any sense. */
static void
input__noise_ends_the_connection_only(void **state)
{
    struct world w = world_new(NULL);

    rng = 99;
    for (int i = 0; i < 2000; i++) {
        struct fh_xs_conn *conn;
        char noise[512];

        for (size_t k = 0; k < sizeof(noise); k++)
            noise[k] = (char)random_below(256);
        EXPECT_EQ(fh_xs_conn_new(w.xs, 1, NULL, &conn), 0);
        EXPECT_EQ(fh_xs_conn_input(conn, noise, sizeof(noise)),
                  FH_XS_E_PROTOCOL);
        fh_xs_conn_free(conn);
    }
    check_books(w.xs);
    world_free(&w);
}

/* ---- every allocation fails once ------------------------------------- */

/* Something of everything; errors are allowed, half-done work is not. */
static void
script(struct fh_xs *xs, struct fh_xs_conn *zero, struct fh_xs_conn *one)
{
    static const char *const perms[] = { "n1", "r2" };
    const char *path;
    const char *token;
    char buf[256];
    size_t n;
    uint32_t tx = 0;

    (void)!fh_xs_watch(zero, "/", "t");
    (void)!fh_xs_watch(one, "data", "t");
    (void)!put(one, 0, "data/a/b/c", "x");
    (void)!put(one, 0, "data/a/b/c", "longer than before");
    (void)!fh_xs_set_perms(one, 0, "data/a", perms, 2);
    if (fh_xs_transaction_start(one, &tx) == 0) {
        (void)!put(one, tx, "data/a/b/d", "x");
        (void)!put(one, tx, "data/n/m", "x");
        (void)!fh_xs_set_perms(one, tx, "data/a/b", perms, 2);
        (void)!fh_xs_rm(one, tx, "data/a/b/c");
        (void)!fh_xs_transaction_end(one, tx, true);
    }
    (void)!fh_xs_rm(one, 0, "data/a");
    (void)!fh_xs_directory(one, 0, "data", buf, sizeof(buf), &n);
    (void)!fh_xs_domain_populate(xs, 3, "three");
    (void)!fh_xs_domain_introduce(xs, 3);
    (void)!fh_xs_domain_release(xs, 3);
    while (fh_xs_next_event(zero, &path, &token))
        continue;
    while (fh_xs_next_event(one, &path, &token))
        continue;
}

static void
allocation__may_fail_at_every_step(void **state)
{
    bool failed = true;

    for (uint64_t k = 1; failed; k++) {
        struct world w = world_new(NULL);

        w.xs->fail_alloc_in = k;
        script(w.xs, w.dom[0], w.dom[1]);
        failed = w.xs->fail_alloc_in == 0;
        w.xs->fail_alloc_in = 0;
        check_books(w.xs);
        /* It serves as if nothing had been. */
        EXPECT_EQ(put(w.dom[1], 0, "data/z", "x"), 0, "step %d", (int)k);
        EXPECT_NODE(w.dom[1], 0, "data/z", "x");
        world_free(&w);
        EXPECT(k < 2000);
    }
}

static void
allocation__may_fail_at_every_step_of_birth(void **state)
{
    struct fh_xs *xs = NULL;

    for (uint64_t k = 1; !xs; k++) {
        xs = fh_xs_new_failing(NULL, NULL, k);
        EXPECT(k < 100);
    }
    check_books(xs);
    fh_xs_free(xs);
    fh_xs_free(NULL);
}

/* A failed operation changes nothing: data, names and charges are as before. */
static void
allocation__that_fails_leaves_no_trace(void **state)
{
    struct world w = world_new(NULL);
    struct fh_xs_stats before;
    struct fh_xs_stats after;
    int r = FH_ENOMEM;

    fh_xs_stats(w.xs, -1, &before);
    for (uint64_t k = 1; r; k++) {
        w.xs->fail_alloc_in = k;
        r = put(w.dom[1], 0, "data/one/two/three", "x");
        w.xs->fail_alloc_in = 0;
        fh_xs_stats(w.xs, -1, &after);
        /* Room for names may stay reserved. */
        EXPECT(r == 0 || (before.n_nodes == after.n_nodes &&
                          before.bytes == after.bytes),
               "step %d", (int)k);
    }
    EXPECT_NODE(w.dom[0], 0, "/local/domain/1/data/one/two/three", "x");
    world_free(&w);
}

/* The same on the wire, where a lost answer must end the connection. */
static void
allocation__of_an_answer_ends_the_connection(void **state)
{
    struct world w = world_new(NULL);
    char bytes[64];

    w.xs->fail_alloc_in = 1;
    EXPECT_EQ(fh_xs_conn_input(w.dom[1], bytes,
                               make_request(bytes, XS_READ, 1, 0, "name", 5)),
              FH_ENOMEM);
    EXPECT_EQ(fh_xs_conn_status(w.dom[1]), FH_ENOMEM);
    EXPECT_EQ(fh_xs_conn_status(w.dom[2]), 0);
    world_free(&w);
}

static unsigned n_woken;

static void
count_wake(void *ctx, struct fh_xs_conn *conn, void *priv)
{
    n_woken++;
}

/* An event without memory comes later, coarser, but comes. */
static void
allocation__of_an_event_only_delays_it(void **state)
{
    const struct fh_xs_ops ops = { .wake = count_wake };
    struct fh_xs *xs = fh_xs_new(NULL, &ops);
    struct fh_xs_conn *zero;

    EXPECT_EQ(fh_xs_conn_new(xs, 0, NULL, &zero), 0);
    EXPECT_EQ(put(zero, 0, "/t/a", "x"), 0);
    EXPECT_EQ(fh_xs_watch(zero, "/t", "w"), 0);
    EXPECT_EVENT(zero, "/t", "w");
    n_woken = 0;
    xs->fail_alloc_in = 2; /* the first is the data */
    EXPECT_EQ(put(zero, 0, "/t/a", "y"), 0);
    EXPECT_EQ(xs->fail_alloc_in, 0);
    EXPECT_EQ(n_woken, 1);
    EXPECT_EVENT(zero, "/t", "w");
    EXPECT_NO_EVENT(zero);
    fh_xs_free(xs);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(input__random_streams_keep_the_books,
                                  print_last_seed),
        cmocka_unit_test(input__noise_ends_the_connection_only),
        cmocka_unit_test(allocation__may_fail_at_every_step),
        cmocka_unit_test(allocation__may_fail_at_every_step_of_birth),
        cmocka_unit_test(allocation__that_fails_leaves_no_trace),
        cmocka_unit_test(allocation__of_an_answer_ends_the_connection),
        cmocka_unit_test(allocation__of_an_event_only_delays_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
