/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target for hv/xs: fh_xs_conn_input() with all that it reaches,
 * fh_xs_conn_peek(), fh_xs_conn_consume(), fh_xs_conn_free().
 *
 * Input: steps of four clients, of domains 0 to 3.  A step is a byte (two bits
 * of client, then what to do) and what that takes; a request is its type, its
 * transaction and a payload up to a byte 0xff, with '\n' for NUL, so that the
 * fuzzer can write it as a line.  After all steps the server must be
 * consistent, and leave no memory.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <xen/io/xs_wire.h>

#include "hv/xs/xs_internal.h"
#include "fuzz.h"

enum { N_CLIENTS = 4, PAYLOAD_MAX = 4200 };

struct clients {
    struct fh_xs *xs;
    struct fh_xs_conn *conn[N_CLIENTS];
};

/* Small limits, which short inputs can meet. */
static struct fh_xs_limits
small_limits(void)
{
    struct fh_xs_limits limits = fh_xs_limits_default();

    limits.hash_seed = 5;
    limits.n_nodes = 20;
    limits.n_events = 4;
    limits.n_events_priv = 8;
    limits.n_txn_nodes = 9;
    limits.n_outstanding = 6;
    limits.domain_bytes = 6000;
    return limits;
}

static void
renew(struct clients *c, uint16_t domid)
{
    fh_xs_conn_free(c->conn[domid]);
    if (!fh_xs_domain_is_introduced(c->xs, domid) || !c->conn[domid])
        (void)!fh_xs_domain_populate(c->xs, domid, "d");
    CHECK(fh_xs_domain_introduce(c->xs, domid) == 0);
    CHECK(fh_xs_conn_new(c->xs, domid, NULL, &c->conn[domid]) == 0);
}

static void
take(struct fh_xs_conn *conn, uint8_t how)
{
    struct iovec iov;

    if (fh_xs_conn_peek(conn, &iov, 1)) {
        CHECK(iov.iov_len > 0);
        fh_xs_conn_consume(conn,
                           how > 200 ? 1 + how % iov.iov_len : iov.iov_len);
    }
}

static size_t
read_payload(struct fuzz_input *in, char *out)
{
    size_t n = 0;

    while (in->left && n < PAYLOAD_MAX) {
        const uint8_t b = fuzz_byte(in);

        if (b == 0xff)
            break;
        out[n++] = b == '\n' ? '\0' : (char)b;
    }
    return n;
}

static void
send_request(struct fh_xs_conn *conn, struct fuzz_input *in)
{
    char bytes[sizeof(struct xsd_sockmsg) + PAYLOAD_MAX];
    struct xsd_sockmsg header = { .req_id = 1 };
    const uint8_t *sent = (const uint8_t *)bytes;
    size_t n;

    header.type = fuzz_byte(in) % (XS_TYPE_COUNT + 2);
    header.tx_id = fuzz_byte(in) % 4;
    header.len = (uint32_t)read_payload(in, bytes + sizeof(header));
    memcpy(bytes, &header, sizeof(header));
    n = sizeof(header) + header.len;
    if (n <= fh_xs_conn_room(conn))
        (void)!fh_xs_conn_input(conn, sent, n);
    else
        CHECK(fh_xs_conn_input(conn, sent, n) != 0);
}

static void
step(struct clients *c, struct fuzz_input *in)
{
    const uint8_t op = fuzz_byte(in);
    struct fh_xs_conn *conn = c->conn[op % N_CLIENTS];

    if ((op >> 2) % 4 == 0)
        take(conn, fuzz_byte(in));
    else if ((op >> 2) % 32 == 1)
        renew(c, op % N_CLIENTS);
    else
        send_request(conn, in);
    conn = c->conn[op % N_CLIENTS];
    if (fh_xs_conn_status(conn))
        renew(c, op % N_CLIENTS);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct fh_xs_limits limits = small_limits();
    struct fuzz_input in = { data, size };
    struct clients c = { .xs = fh_xs_new(&limits, NULL) };
    const char *broken;

    CHECK(c.xs);
    for (uint16_t i = 0; i < N_CLIENTS; i++)
        renew(&c, i);
    while (in.left)
        step(&c, &in);
    broken = fh_xs_broken(c.xs);
    if (broken)
        fprintf(stderr, "broken: %s\n", broken);
    CHECK(!broken);
    fh_xs_free(c.xs);
    return 0;
}
