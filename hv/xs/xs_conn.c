/* SPDX-License-Identifier: MIT */
/*
 * Connections: the two queues of a client and what bounds them.
 *
 * Input waits, unread by us, while the client has too many answers untaken, or
 * has caused too many events that privileged clients have not taken; so a
 * request is never refused for that.  Events are bounded by dropping those
 * that say nothing new and, beyond a limit, by one last event per watch under
 * the watch's own path: nobody misses that something changed.
 *
 * A request runs from the run queue, never from within another request.
 */
#include <stdint.h>
#include <string.h>
#include <xen/io/xs_wire.h>

#include "hv/xs/xs_internal.h"

_Static_assert(sizeof(struct xsd_sockmsg) == 16, "the wire's header");
_Static_assert(FH_XS_INPUT_BYTES >=
                   2 * (sizeof(struct xsd_sockmsg) + XENSTORE_PAYLOAD_MAX),
               "input holds two whole requests");

static void
wake(struct fh_xs_conn *conn)
{
    if (conn->xs->ops.wake && !conn->is_internal)
        conn->xs->ops.wake(conn->xs->ops.ctx, conn, conn->priv);
}

static bool
is_paused(const struct fh_xs_conn *conn)
{
    if (conn->reply_bytes >= FH_XS_REPLY_BYTES)
        return true;
    return !fh_xs_conn_is_privileged(conn) &&
           conn->n_replies + conn->dom->n_caused >=
               conn->xs->limits.n_outstanding;
}

/* Its input may be worth a look. */
static void
queue_run(struct fh_xs_conn *conn)
{
    if (conn->is_queued || conn->verdict || is_paused(conn))
        return;
    conn->is_queued = true;
    TAILQ_INSERT_TAIL(&conn->xs->run_queue, conn, run_entry);
}

static void
unqueue_run(struct fh_xs_conn *conn)
{
    if (conn->is_queued)
        TAILQ_REMOVE(&conn->xs->run_queue, conn, run_entry);
    conn->is_queued = false;
}

/* Runs what can run.  Ends: each turn eats input, and none comes in. */
static void
run_queued(struct fh_xs *xs)
{
    struct fh_xs_conn *conn;

    while ((conn = TAILQ_FIRST(&xs->run_queue))) {
        unqueue_run(conn);
        while (!conn->verdict && !is_paused(conn) && fh_xs_proto_run_one(conn))
            continue;
    }
}

/* ---- messages -------------------------------------------------------- */

static uint64_t
event_hash(uint64_t watch_id, uint64_t path_hash)
{
    return path_hash ^ (watch_id * 0x9e3779b97f4a7c15ull);
}

/* The domain has one event less that others have not taken. */
static void
uncharge_cause(struct fh_xs *xs, struct fh_xs_dom *dom)
{
    struct fh_xs_conn *conn;

    dom->n_caused--;
    LIST_FOREACH(conn, &dom->conns, entry) {
        if (conn->n_replies + dom->n_caused + 1 != xs->limits.n_outstanding)
            continue;
        queue_run(conn);
        wake(conn);
    }
    fh_xs_dom_put(xs, dom);
}

/* The client has begun to take the event: an equal one says something new. */
static void
forget_event(struct fh_xs *xs, struct fh_xs_msg *msg)
{
    if (msg->in_map)
        fh_xs_map_del(&xs->events, &msg->link);
    msg->in_map = false;
}

/* Takes @msg off the books of @conn; it is off the queue already. */
static void
settle_msg(struct fh_xs_conn *conn, struct fh_xs_msg *msg)
{
    struct fh_xs *xs = conn->xs;

    if (msg->watch_id) {
        forget_event(xs, msg);
        conn->n_events--;
        conn->dom->bytes -= msg->n;
        if (msg->cause)
            uncharge_cause(xs, msg->cause);
        msg->cause = NULL;
    } else {
        conn->n_replies--;
        conn->reply_bytes -= msg->n;
    }
}

static struct fh_xs_msg *
new_msg(struct fh_xs *xs, const struct xsd_sockmsg *header)
{
    const uint32_t n = (uint32_t)sizeof(*header) + header->len;
    struct fh_xs_msg *msg = fh_xs_mem_new(xs, sizeof(*msg) + n);

    if (!msg)
        return NULL;
    memcpy(msg->bytes, header, sizeof(*header));
    msg->n = n;
    return msg;
}

static void
enqueue(struct fh_xs_conn *conn, struct fh_xs_msg *msg)
{
    const bool was_empty = STAILQ_EMPTY(&conn->out);

    STAILQ_INSERT_TAIL(&conn->out, msg, entry);
    if (was_empty)
        wake(conn);
}

void
fh_xs_conn_reply(struct fh_xs_conn *conn, uint32_t type, uint32_t req_id,
                 uint32_t tx_id, const void *data, size_t n)
{
    const struct xsd_sockmsg header = {
        .type = type,
        .req_id = req_id,
        .tx_id = tx_id,
        .len = (uint32_t)n,
    };
    struct fh_xs_msg *msg = new_msg(conn->xs, &header);

    if (!msg) {
        fh_xs_conn_kill(conn, FH_ENOMEM);
        return;
    }
    if (n)
        memcpy(msg->bytes + sizeof(header), data, n);
    conn->n_replies++;
    conn->reply_bytes += msg->n;
    enqueue(conn, msg);
}

static void
overflow(struct fh_xs_watch *watch)
{
    if (watch->overflowed)
        return;
    watch->overflowed = true;
    TAILQ_INSERT_TAIL(&watch->conn->overflows, watch, overflow_entry);
    wake(watch->conn);
}

/* No untaken event of @watch says the same. */
static bool
is_news(const struct fh_xs *xs, const struct fh_xs_watch *watch,
        const char *path, uint32_t n_path, uint64_t hash)
{
    for (struct fh_xs_link *l = fh_xs_map_first(&xs->events, hash); l;
         l = fh_xs_map_next(l)) {
        const struct fh_xs_msg *msg = FH_XS_OF(l, struct fh_xs_msg);

        if (msg->watch_id == watch->id && msg->n_path == n_path &&
            memcmp(msg->bytes + sizeof(struct xsd_sockmsg), path, n_path) == 0)
            return false;
    }
    return true;
}

/* One event is always let through, so that no client waits for ever. */
static bool
has_room(const struct fh_xs_conn *conn, uint64_t bytes)
{
    const struct fh_xs_limits *limits = &conn->xs->limits;

    if (conn->n_events == 0)
        return true;
    if (fh_xs_conn_is_privileged(conn))
        return conn->n_events < limits->n_events_priv;
    return conn->n_events < limits->n_events &&
           conn->dom->bytes + bytes <= limits->domain_bytes;
}

/* The path as the client that asked with a relative one knows it. */
static const char *
shown_path(const struct fh_xs_watch *watch, const char *path, uint32_t *n_path)
{
    const char *at = path;

    if (!watch->is_relative)
        return path;
    for (int slashes = 0; slashes < 4; at++) /* "/local/domain/N/" */
        slashes += *at == '/';
    *n_path -= (uint32_t)(at - path);
    return at;
}

static struct fh_xs_msg *
new_event(struct fh_xs_watch *watch, const char *path, uint32_t n_path)
{
    const struct xsd_sockmsg header = {
        .type = XS_WATCH_EVENT,
        .len = n_path + 1 + watch->n_token + 1,
    };
    struct fh_xs_msg *msg = new_msg(watch->conn->xs, &header);
    char *at;

    if (!msg)
        return NULL;
    at = msg->bytes + sizeof(header);
    memcpy(at, path, n_path);
    memcpy(at + n_path + 1, watch->token, watch->n_token);
    msg->n_path = n_path;
    msg->watch_id = watch->id;
    return msg;
}

void
fh_xs_conn_event(struct fh_xs_watch *watch, struct fh_xs_dom *cause,
                 const char *path, uint32_t n_path, uint64_t hash)
{
    struct fh_xs_conn *conn = watch->conn;
    struct fh_xs *xs = conn->xs;
    const char *shown = shown_path(watch, path, &n_path);
    struct fh_xs_msg *msg;

    hash = event_hash(watch->id, hash);
    /* xenstored does not send what does not fit either. */
    if (n_path + watch->n_token + 2 > XENSTORE_PAYLOAD_MAX)
        return;
    if (conn->verdict || watch->overflowed ||
        !is_news(xs, watch, shown, n_path, hash))
        return;
    msg = has_room(conn, sizeof(*msg) + XENSTORE_PAYLOAD_MAX)
              ? new_event(watch, shown, n_path)
              : NULL;
    if (!msg) {
        overflow(watch);
        return;
    }
    /* A privileged client is trusted to read; whoever fills its queue waits
     * for that.  Others pay for their own queue. */
    if (cause && fh_xs_conn_is_privileged(conn)) {
        msg->cause = cause;
        cause->n_caused++;
    }
    fh_xs_map_add(xs, &xs->events, &msg->link, hash);
    msg->in_map = true;
    conn->n_events++;
    conn->dom->bytes += msg->n;
    enqueue(conn, msg);
}

/* Sends what was held back for lack of room. */
static void
refill(struct fh_xs_conn *conn)
{
    struct fh_xs_watch *watch;

    while ((watch = TAILQ_FIRST(&conn->overflows)) &&
           has_room(conn, XENSTORE_PAYLOAD_MAX)) {
        TAILQ_REMOVE(&conn->overflows, watch, overflow_entry);
        watch->overflowed = false;
        fh_xs_watch_fire_own(watch);
        if (watch->overflowed) /* no memory: later */
            return;
    }
}

static void
drop_output(struct fh_xs_conn *conn)
{
    struct fh_xs_msg *msg;

    while ((msg = STAILQ_FIRST(&conn->out))) {
        STAILQ_REMOVE_HEAD(&conn->out, entry);
        settle_msg(conn, msg);
        fh_xs_mem_del(conn->xs, msg);
    }
    fh_xs_mem_del(conn->xs, conn->shown);
    conn->shown = NULL;
}

/* ---- life ------------------------------------------------------------ */

int
fh_xs_conn_new(struct fh_xs *xs, uint16_t domid, void *priv,
               struct fh_xs_conn **out)
{
    struct fh_xs_dom *dom;
    struct fh_xs_conn *conn;

    if (domid >= FH_XS_DOMID_END)
        return FH_EINVAL;
    dom = fh_xs_dom_get(xs, domid);
    if (!dom)
        return FH_ENOMEM;
    if (domid && dom->n_conns >= xs->limits.n_conns)
        return FH_EMFILE;
    conn = fh_xs_mem_new(xs, sizeof(*conn));
    if (!conn) {
        fh_xs_dom_put(xs, dom);
        return FH_ENOMEM;
    }
    conn->xs = xs;
    conn->dom = dom;
    conn->priv = priv;
    STAILQ_INIT(&conn->out);
    TAILQ_INIT(&conn->watches);
    TAILQ_INIT(&conn->overflows);
    LIST_INIT(&conn->txns);
    LIST_INSERT_HEAD(&dom->conns, conn, entry);
    dom->n_conns++;
    *out = conn;
    return 0;
}

void
fh_xs_conn_drop_watches(struct fh_xs_conn *conn)
{
    struct fh_xs_watch *watch;

    while ((watch = TAILQ_FIRST(&conn->watches)))
        fh_xs_watch_free(watch);
}

void
fh_xs_conn_drop_txns(struct fh_xs_conn *conn)
{
    struct fh_xs_txn *txn;

    while ((txn = LIST_FIRST(&conn->txns)))
        fh_xs_txn_free(txn);
}

void
fh_xs_conn_kill(struct fh_xs_conn *conn, int verdict)
{
    if (conn->verdict)
        return;
    conn->verdict = verdict;
    conn->n_in = 0;
    unqueue_run(conn);
    wake(conn);
}

void
fh_xs_conn_free(struct fh_xs_conn *conn)
{
    struct fh_xs *xs;

    if (!conn)
        return;
    xs = conn->xs;
    unqueue_run(conn);
    fh_xs_conn_drop_watches(conn);
    fh_xs_conn_drop_txns(conn);
    LIST_REMOVE(conn, entry);
    conn->dom->n_conns--;
    drop_output(conn);
    fh_xs_dom_put(xs, conn->dom);
    fh_xs_mem_del(xs, conn);
    run_queued(xs);
}

void *
fh_xs_conn_priv(const struct fh_xs_conn *conn)
{
    return conn->priv;
}

uint16_t
fh_xs_conn_domid(const struct fh_xs_conn *conn)
{
    return conn->dom->domid;
}

int
fh_xs_conn_status(const struct fh_xs_conn *conn)
{
    return conn->verdict;
}

/* ---- the embedder's side of the queues ------------------------------- */

size_t
fh_xs_conn_room(const struct fh_xs_conn *conn)
{
    if (conn->verdict || is_paused(conn))
        return 0;
    return sizeof(conn->in) - conn->n_in;
}

int
fh_xs_conn_input(struct fh_xs_conn *conn, const void *bytes, size_t n)
{
    if (conn->verdict)
        return conn->verdict;
    if (n > fh_xs_conn_room(conn))
        return FH_EINVAL;
    memcpy(conn->in + conn->n_in, bytes, n);
    conn->n_in += n;
    queue_run(conn);
    run_queued(conn->xs);
    return conn->verdict;
}

unsigned
fh_xs_conn_peek(struct fh_xs_conn *conn, struct iovec *iov, unsigned n_iov)
{
    struct fh_xs_msg *msg;
    unsigned n = 0;

    refill(conn);
    STAILQ_FOREACH(msg, &conn->out, entry) {
        if (n == n_iov)
            break;
        iov[n].iov_base = msg->bytes + msg->n_taken;
        iov[n].iov_len = msg->n - msg->n_taken;
        n++;
    }
    return n;
}

void
fh_xs_conn_consume(struct fh_xs_conn *conn, size_t n)
{
    struct fh_xs_msg *msg;

    while (n && (msg = STAILQ_FIRST(&conn->out))) {
        const size_t left = msg->n - msg->n_taken;

        if (n < left) {
            forget_event(conn->xs, msg);
            msg->n_taken += (uint32_t)n;
            break;
        }
        n -= left;
        STAILQ_REMOVE_HEAD(&conn->out, entry);
        settle_msg(conn, msg);
        fh_xs_mem_del(conn->xs, msg);
    }
    queue_run(conn);
    run_queued(conn->xs);
}

bool
fh_xs_next_event(struct fh_xs_conn *conn, const char **path,
                 const char **token)
{
    struct fh_xs_msg *msg;

    refill(conn);
    fh_xs_mem_del(conn->xs, conn->shown);
    conn->shown = NULL;
    msg = STAILQ_FIRST(&conn->out);
    if (!msg)
        return false;
    STAILQ_REMOVE_HEAD(&conn->out, entry);
    settle_msg(conn, msg);
    conn->shown = msg;
    *path = msg->bytes + sizeof(struct xsd_sockmsg);
    *token = *path + msg->n_path + 1;
    run_queued(conn->xs);
    return true;
}
