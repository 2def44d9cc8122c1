/* SPDX-License-Identifier: MIT */
#pragma once
/* What the xenstore tests share: a server with domains, and a wire client. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#include "hv/xs/xs.h"
#include "tests/unit/expect.h"

struct world {
    struct fh_xs *xs;
    struct fh_xs_conn *dom[4]; /* one client of each of domains 0 to 3 */
};

/* Domains 0 to 3 as a toolstack makes them.  @limits NULL: the defaults. */
static inline struct world
world_new(const struct fh_xs_limits *limits)
{
    struct world w = { .xs = fh_xs_new(limits, NULL) };

    assert_non_null(w.xs);
    for (uint16_t i = 0; i < 4; i++) {
        EXPECT_EQ(fh_xs_domain_populate(w.xs, i, "d"), 0, "domain %u", i);
        EXPECT_EQ(fh_xs_domain_introduce(w.xs, i), 0, "domain %u", i);
        EXPECT_EQ(fh_xs_conn_new(w.xs, i, NULL, &w.dom[i]), 0, "conn %u", i);
    }
    return w;
}

static inline void
world_free(struct world *w)
{
    fh_xs_free(w->xs);
}

static inline int
put(struct fh_xs_conn *conn, uint32_t tx, const char *path, const char *text)
{
    return fh_xs_write(conn, tx, path, text, strlen(text));
}

/* The data of a node as a string; "" and *r < 0 when refused. */
static inline const char *
get(struct fh_xs_conn *conn, uint32_t tx, const char *path, int *r)
{
    static char buf[4][8192];
    static unsigned turn;
    char *at = buf[turn++ % 4];
    size_t n = 0;

    *r = fh_xs_read(conn, tx, path, at, sizeof(buf[0]) - 1, &n);
    at[*r ? 0 : n] = '\0';
    return at;
}

#define EXPECT_NODE(conn, tx, path, want)                                      \
    do {                                                                       \
        int err_;                                                              \
        const char *text_ = get(conn, tx, path, &err_);                        \
        EXPECT_EQ(err_, 0, "read of %s", path);                                \
        EXPECT(strcmp(text_, want) == 0, "%s holds \"%s\", not \"%s\"", path,  \
               text_, want);                                                   \
    } while (0)

#define EXPECT_NO_NODE(conn, tx, path, error)                                  \
    do {                                                                       \
        int err_;                                                              \
        (void)get(conn, tx, path, &err_);                                      \
        EXPECT_EQ(err_, error, "read of %s", path);                            \
    } while (0)

/* The next event is this one. */
#define EXPECT_EVENT(conn, want_path, want_token)                              \
    do {                                                                       \
        const char *p_ = "", *t_ = "";                                         \
        EXPECT(fh_xs_next_event(conn, &p_, &t_), "event for %s", want_path);   \
        EXPECT(strcmp(p_, want_path) == 0 && strcmp(t_, want_token) == 0,      \
               "event %s %s, not %s %s", p_, t_, want_path, want_token);       \
    } while (0)

#define EXPECT_NO_EVENT(conn)                                                  \
    do {                                                                       \
        const char *p_ = "", *t_ = "";                                         \
        EXPECT(!fh_xs_next_event(conn, &p_, &t_), "no event, got %s %s", p_,   \
               t_);                                                            \
    } while (0)

static inline int
chmod1(struct fh_xs_conn *conn, const char *path, const char *p0,
       const char *p1)
{
    const char *perms[2] = { p0, p1 };

    return fh_xs_set_perms(conn, 0, path, perms, p1 ? 2 : 1);
}

/* ---- a client on the wire -------------------------------------------- */

struct answer {
    struct xsd_sockmsg header;
    char payload[XENSTORE_PAYLOAD_MAX + 1]; /* with a NUL after it */
};

static inline size_t
make_request(char *out, uint32_t type, uint32_t req_id, uint32_t tx_id,
             const void *payload, size_t n)
{
    const struct xsd_sockmsg header = {
        .type = type, .req_id = req_id, .tx_id = tx_id, .len = (uint32_t)n
    };

    memcpy(out, &header, sizeof(header));
    if (n)
        memcpy(out + sizeof(header), payload, n);
    return sizeof(header) + n;
}

/* Takes one message; false when there is none. */
static inline bool
take_answer(struct fh_xs_conn *conn, struct answer *out)
{
    struct iovec iov;

    if (!fh_xs_conn_peek(conn, &iov, 1))
        return false;
    EXPECT(iov.iov_len >= sizeof(out->header), "a whole message");
    memcpy(&out->header, iov.iov_base, sizeof(out->header));
    EXPECT_EQ(iov.iov_len, sizeof(out->header) + out->header.len, "length");
    EXPECT(out->header.len <= XENSTORE_PAYLOAD_MAX, "payload");
    memcpy(out->payload, (char *)iov.iov_base + sizeof(out->header),
           out->header.len);
    out->payload[out->header.len] = '\0';
    fh_xs_conn_consume(conn, iov.iov_len);
    return true;
}

/* One request in one piece, and its answer. */
static inline struct answer
ask(struct fh_xs_conn *conn, uint32_t type, uint32_t tx_id,
    const void *payload, size_t n)
{
    char bytes[sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX];
    struct answer a = { 0 };

    EXPECT_EQ(fh_xs_conn_input(conn, bytes,
                               make_request(bytes, type, 77, tx_id, payload,
                                            n)),
              0, "request %u", type);
    EXPECT(take_answer(conn, &a), "an answer to %u", type);
    EXPECT_EQ(a.header.req_id, 77, "request id");
    EXPECT_EQ(a.header.tx_id, tx_id, "transaction id");
    return a;
}

#define ASK(conn, type, tx, literal)                                           \
    ask(conn, type, tx, literal, sizeof(literal) - 1)
