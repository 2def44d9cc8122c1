/* SPDX-License-Identifier: MIT */
/*
 * The wire: <xen/io/xs_wire.h> decoded, executed, answered.
 *
 * A request is a header and up to 4096 bytes.  A longer one is the only
 * violation that ends a connection; everything else is answered, by the
 * request's own type or by XS_ERROR with the name of an error.  The payload is
 * followed by a NUL of ours while a request runs (conn->in has room), so that
 * no string function can leave it.
 */
#include <errno.h> /* before xs_wire.h: it tests for EINVAL */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#include "hv/xs/xs_internal.h"

#define DOMID_SELF_TEXT "32752" /* who asks is there */

/* One request: what the client sent, checked only in its length. */
struct request {
    struct fh_xs_conn *conn;
    struct xsd_sockmsg header;
    char payload[XENSTORE_PAYLOAD_MAX + 1];
    const char *strings[3]; /* into payload */
};

static void
answer(const struct request *rq, const void *data, size_t n)
{
    fh_xs_conn_reply(rq->conn, rq->header.type, rq->header.req_id,
                     rq->header.tx_id, data, n);
}

static void
answer_error(const struct request *rq, int error)
{
    const char *name = "EINVAL";

    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++)
        if (xsd_errors[i].errnum == -error)
            name = xsd_errors[i].errstring;
    fh_xs_conn_reply(rq->conn, XS_ERROR, rq->header.req_id, rq->header.tx_id,
                     name, strlen(name) + 1);
}

static int
answer_ok(const struct request *rq, int r)
{
    if (r == 0)
        answer(rq, "OK", sizeof("OK"));
    return r;
}

/* Splits a payload that must be @n strings, each with its NUL. */
static int
want_strings(struct request *rq, unsigned n)
{
    size_t at = 0;

    for (unsigned i = 0; i < n; i++) {
        if (at >= rq->header.len)
            return FH_EINVAL;
        rq->strings[i] = rq->payload + at;
        at += strlen(rq->payload + at) + 1;
    }
    /* "at" is one too far if the last string had no NUL of its own. */
    return at == rq->header.len ? 0 : FH_EINVAL;
}

/* The first string, which must have its NUL; *@n: bytes that follow it. */
static int
want_string_and_rest(struct request *rq, const char **rest, size_t *n)
{
    const size_t n_first = strlen(rq->payload) + 1;

    if (n_first > rq->header.len)
        return FH_EINVAL;
    rq->strings[0] = rq->payload;
    *rest = rq->payload + n_first;
    *n = rq->header.len - n_first;
    return 0;
}

static int
want_domid(struct request *rq, unsigned n_strings, uint16_t *domid)
{
    int r = want_strings(rq, n_strings);

    return r ? r : fh_xs_parse_domid(rq->strings[0], domid);
}

/* The node that the only string names, readable. */
static int
want_readable(struct request *rq, struct fh_xs_node **node)
{
    int r = want_strings(rq, 1);

    return r ? r
             : fh_xs_op_node(rq->conn, rq->header.tx_id, rq->strings[0],
                             FH_XS_READ, node);
}

/* ---- the handlers: 0 when answered, else the error to answer ---------- */

static int
do_control(struct request *rq)
{
    static const char help[] = "commands: help\n";

    if (rq->header.len == 0 || rq->payload[rq->header.len - 1] != '\0' ||
        strcmp(rq->payload, "help") != 0)
        return FH_EINVAL;
    answer(rq, help, sizeof(help));
    return 0;
}

static int
do_directory(struct request *rq)
{
    struct fh_xs_node *node;
    int r = want_readable(rq, &node);

    if (r)
        return r;
    if (node->n_children > XENSTORE_PAYLOAD_MAX)
        return FH_E2BIG; /* the client goes on with XS_DIRECTORY_PART */
    answer(rq, node->children, node->n_children);
    return 0;
}

/* Bytes of whole names from @at on that fit into @max. */
static uint32_t
names_that_fit(const struct fh_xs_node *node, uint32_t at, uint32_t max)
{
    uint32_t n = 0;

    while (at + n < node->n_children) {
        const uint32_t n_name = (uint32_t)strlen(node->children + at + n) + 1;

        if (n + n_name > max)
            break;
        n += n_name;
    }
    return n;
}

static int
parse_offset(const char *text, uint32_t *out)
{
    uint32_t v = 0;

    if (!*text)
        return FH_EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text > '9' || v > UINT32_MAX / 10 - 1)
            return FH_EINVAL;
        v = v * 10 + (uint32_t)(*text - '0');
    }
    *out = v;
    return 0;
}

/* The node's generation, names from an offset, and an empty one at the end. */
static int
do_directory_part(struct request *rq)
{
    char *buf = rq->conn->xs->scratch;
    struct fh_xs_node *node;
    uint32_t at;
    uint32_t n;
    uint32_t n_names;
    int r;

    r = want_strings(rq, 2);
    if (!r)
        r = parse_offset(rq->strings[1], &at);
    if (!r)
        r = fh_xs_op_node(rq->conn, rq->header.tx_id, rq->strings[0],
                          FH_XS_READ, &node);
    if (r)
        return r;
    n = (uint32_t)snprintf(buf, XENSTORE_PAYLOAD_MAX, "%llu",
                           (unsigned long long)node->gen) + 1;
    if (at > node->n_children)
        at = node->n_children;
    n_names = names_that_fit(node, at, XENSTORE_PAYLOAD_MAX - n - 1);
    if (n_names)
        memcpy(buf + n, node->children + at, n_names);
    n += n_names;
    if (at + n_names == node->n_children)
        buf[n++] = '\0';
    answer(rq, buf, n);
    return 0;
}

static int
do_read(struct request *rq)
{
    struct fh_xs_node *node;
    int r = want_readable(rq, &node);

    if (r)
        return r;
    if (node->n_data > XENSTORE_PAYLOAD_MAX)
        return FH_E2BIG; /* written by a direct call */
    answer(rq, node->data, node->n_data);
    return 0;
}

static int
do_get_perms(struct request *rq)
{
    char *buf = rq->conn->xs->scratch;
    struct fh_xs_node *node;
    size_t n;
    int r = want_readable(rq, &node);

    if (r)
        return r;
    if (fh_xs_op_format_perms(&node->perms, buf, XENSTORE_PAYLOAD_MAX, &n))
        return FH_E2BIG;
    answer(rq, buf, n);
    return 0;
}

static int
do_watch(struct request *rq)
{
    struct fh_xs_watch *watch;
    int r = want_strings(rq, 2);

    if (!r)
        r = fh_xs_watch_add(rq->conn, rq->strings[0], rq->strings[1], &watch);
    if (r)
        return r;
    answer(rq, "OK", sizeof("OK"));
    fh_xs_watch_fire_own(watch); /* after the answer, as xenstored does */
    return 0;
}

static int
do_unwatch(struct request *rq)
{
    int r = want_strings(rq, 2);

    if (r)
        return r;
    return answer_ok(rq, fh_xs_unwatch(rq->conn, rq->strings[0],
                                       rq->strings[1]));
}

static int
do_reset_watches(struct request *rq)
{
    fh_xs_conn_drop_watches(rq->conn);
    fh_xs_conn_drop_txns(rq->conn);
    return answer_ok(rq, 0);
}

static int
do_transaction_start(struct request *rq)
{
    char id[16];
    uint32_t tx;
    int r;

    if (rq->header.tx_id)
        return FH_EBUSY; /* no transaction within a transaction */
    r = fh_xs_transaction_start(rq->conn, &tx);
    if (r)
        return r;
    answer(rq, id, (size_t)snprintf(id, sizeof(id), "%u", tx) + 1);
    return 0;
}

static int
do_transaction_end(struct request *rq)
{
    int r = want_strings(rq, 1);

    if (r)
        return r;
    if (strcmp(rq->strings[0], "T") != 0 && strcmp(rq->strings[0], "F") != 0)
        return FH_EINVAL;
    return answer_ok(rq, fh_xs_transaction_end(rq->conn, rq->header.tx_id,
                                               rq->strings[0][0] == 'T'));
}

static int
do_write(struct request *rq)
{
    const char *data;
    size_t n;
    int r = want_string_and_rest(rq, &data, &n);

    if (r)
        return r;
    return answer_ok(rq, fh_xs_write(rq->conn, rq->header.tx_id,
                                     rq->strings[0], data, n));
}

static int
do_mkdir(struct request *rq)
{
    int r = want_strings(rq, 1);

    return r ? r
             : answer_ok(rq, fh_xs_mkdir(rq->conn, rq->header.tx_id,
                                         rq->strings[0]));
}

static int
do_rm(struct request *rq)
{
    int r = want_strings(rq, 1);

    return r ? r
             : answer_ok(rq, fh_xs_rm(rq->conn, rq->header.tx_id,
                                      rq->strings[0]));
}

static int
do_set_perms(struct request *rq)
{
    const char *words;
    size_t n;
    int r = want_string_and_rest(rq, &words, &n);

    if (r)
        return r;
    if (n == 0 || words[n - 1] != '\0')
        return FH_EINVAL;
    return answer_ok(rq, fh_xs_op_set_perms(rq->conn, rq->header.tx_id,
                                            rq->strings[0], words, n));
}

static int
do_get_domain_path(struct request *rq)
{
    char path[32];
    uint16_t domid;
    int r = want_domid(rq, 1, &domid);

    if (r)
        return r;
    answer(rq, path,
           (size_t)snprintf(path, sizeof(path), "/local/domain/%u", domid) +
               1);
    return 0;
}

static int
do_is_domain_introduced(struct request *rq)
{
    uint16_t domid;
    bool is_self;
    int r = want_strings(rq, 1);

    if (r)
        return r;
    is_self = strcmp(rq->strings[0], DOMID_SELF_TEXT) == 0;
    r = is_self ? 0 : fh_xs_parse_domid(rq->strings[0], &domid);
    if (r)
        return r;
    answer(rq,
           is_self || fh_xs_domain_is_introduced(rq->conn->xs, domid) ? "T"
                                                                      : "F",
           2);
    return 0;
}

/* The ring and port that it names mean nothing here: the domain's connections
 * come over the embedder's transport. */
static int
do_introduce(struct request *rq)
{
    uint16_t domid;
    int r = want_domid(rq, 3, &domid);

    return r ? r : answer_ok(rq, fh_xs_domain_introduce(rq->conn->xs, domid));
}

static int
do_release(struct request *rq)
{
    uint16_t domid;
    int r = want_domid(rq, 1, &domid);

    return r ? r : answer_ok(rq, fh_xs_domain_release(rq->conn->xs, domid));
}

static int
do_resume(struct request *rq)
{
    uint16_t domid;
    int r = want_domid(rq, 1, &domid);

    if (r)
        return r;
    return answer_ok(rq, fh_xs_domain_is_introduced(rq->conn->xs, domid)
                             ? 0
                             : FH_ENOENT);
}

/* ---- dispatch -------------------------------------------------------- */

static const struct {
    int (*handle)(struct request *rq);
    bool is_privileged;
    bool ignores_tx;
} handlers[XS_TYPE_COUNT] = {
    [XS_CONTROL] = { do_control, true, false },
    [XS_DIRECTORY] = { do_directory, false, false },
    [XS_READ] = { do_read, false, false },
    [XS_GET_PERMS] = { do_get_perms, false, false },
    [XS_WATCH] = { do_watch, false, true },
    [XS_UNWATCH] = { do_unwatch, false, true },
    [XS_TRANSACTION_START] = { do_transaction_start, false, false },
    [XS_TRANSACTION_END] = { do_transaction_end, false, false },
    [XS_INTRODUCE] = { do_introduce, true, false },
    [XS_RELEASE] = { do_release, true, false },
    [XS_GET_DOMAIN_PATH] = { do_get_domain_path, false, false },
    [XS_WRITE] = { do_write, false, false },
    [XS_MKDIR] = { do_mkdir, false, false },
    [XS_RM] = { do_rm, false, false },
    [XS_SET_PERMS] = { do_set_perms, false, false },
    [XS_IS_DOMAIN_INTRODUCED] = { do_is_domain_introduced, false, false },
    [XS_RESUME] = { do_resume, true, false },
    [XS_RESET_WATCHES] = { do_reset_watches, false, false },
    [XS_DIRECTORY_PART] = { do_directory_part, false, false },
};

static int
execute(struct request *rq)
{
    const uint32_t type = rq->header.type;
    struct fh_xs_view view;
    int r;

    if (type >= XS_TYPE_COUNT || !handlers[type].handle)
        return FH_ENOSYS;
    if (handlers[type].is_privileged && !fh_xs_conn_is_privileged(rq->conn))
        return FH_EACCES;
    if (!handlers[type].ignores_tx) {
        r = fh_xs_view_init(&view, rq->conn, rq->header.tx_id);
        if (r)
            return r;
    }
    return handlers[type].handle(rq);
}

/* Moves the first request out of the input; false when it is not whole. */
static bool
take(struct fh_xs_conn *conn, struct request *rq)
{
    const size_t n_header = sizeof(rq->header);
    size_t n;

    if (conn->n_in < n_header)
        return false;
    memcpy(&rq->header, conn->in, n_header);
    if (rq->header.len > XENSTORE_PAYLOAD_MAX) {
        fh_xs_conn_kill(conn, FH_XS_E_PROTOCOL);
        return false;
    }
    n = n_header + rq->header.len;
    if (conn->n_in < n)
        return false;
    memcpy(rq->payload, conn->in + n_header, rq->header.len);
    rq->payload[rq->header.len] = '\0';
    conn->n_in -= n;
    memmove(conn->in, conn->in + n, conn->n_in);
    return true;
}

bool
fh_xs_proto_run_one(struct fh_xs_conn *conn)
{
    struct request rq;
    int r;

    rq.conn = conn;
    if (!take(conn, &rq))
        return false;
    r = execute(&rq);
    if (r)
        answer_error(&rq, r);
    return true;
}
