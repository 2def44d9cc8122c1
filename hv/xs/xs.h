/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The xenstore server: a tree of nodes with permissions, watches, transactions
 * and quotas, behind the standard wire protocol (<xen/io/xs_wire.h>) and
 * behind direct calls.  It owns no descriptor, no thread and no clock.
 *
 * Life: fh_xs_new -> connections, domains -> fh_xs_free.  A connection is one
 * client of one domain.  It is used either by the wire (fh_xs_conn_input,
 * fh_xs_conn_peek, fh_xs_conn_consume) or by direct calls (fh_xs_read ..
 * fh_xs_next_event); both kinds see the same tree, permissions and quotas.
 *
 * Domain 0 is privileged: no permission and no quota applies to it.  Whatever
 * an unprivileged domain makes grow is charged to it and bounded; a watch
 * event that it causes in a privileged client counts among its own requests
 * until that client has taken it.
 *
 * Watch events are level-triggered news, not a log.  An event equal to one
 * that the client has not taken yet is dropped.  When a client has too many
 * untaken events, further changes are reported once per watch, under the
 * watch's own path, as at registration: rescan all that is below it.
 *
 * Threads: one thread per server.  Nothing here blocks, logs or exits.
 * Memory: malloc.  A failed allocation refuses the request with ENOMEM.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <freehold/err.h>

struct fh_xs;
struct fh_xs_conn;

/* The first domain id that no domain can have (DOMID_FIRST_RESERVED). */
#define FH_XS_DOMID_END 0x7ff0u

/* Verdicts of a connection: the client's doing; close it. */
enum {
    FH_XS_E_PROTOCOL = 1, /* payload longer than the protocol allows */
    FH_XS_E_RELEASED,     /* its domain was released */
};

/*
 * Quotas.  All but the last two groups are those of xenstored 4.17, which
 * apply to every domain but domain 0; fh_xs_limits_default() fills them in.
 * xenstored lets two of them go one further (11 transactions, 129 watches).
 */
struct fh_xs_limits {
    uint32_t n_nodes;        /* nodes that a domain owns: 1000 */
    uint32_t n_watches;      /* watches per domain: 128 */
    uint32_t n_transactions; /* open at once per domain: 10 */
    uint32_t n_txn_nodes;    /* nodes touched by one transaction: 1024 */
    uint32_t n_perms;        /* permission entries per node: 5 */
    uint32_t n_outstanding;  /* requests with an untaken answer or event: 20 */
    uint32_t node_bytes;     /* one node: header, permissions, data, names of
                                children; must stay below 2048 */
    uint32_t domain_bytes;   /* nodes, watches, transactions, events: 2.5 MiB */
    uint32_t path_rel_bytes; /* path below /local/domain/N/, or any: 2048 */
    uint32_t path_abs_bytes; /* whole path: 3072 */

    /* Ours: a socket per client, where Xen has one ring per domain. */
    uint32_t n_conns;       /* connections per domain: 64 */
    uint32_t n_events;      /* untaken events per connection: 256 */
    uint32_t n_events_priv; /* the same of a client of domain 0: 16384 */

    uint64_t hash_seed; /* 0: from the kernel's random numbers */
};

struct fh_xs_limits
fh_xs_limits_default(void);

/*
 * What the embedder supplies.
 *
 * @wake: @conn has output, or takes input again, or has a verdict
 *        (fh_xs_conn_status).  May be called from within any function of this
 *        header, also for other connections than the caller's; it should only
 *        mark the connection and must not call back.  NULL: none.
 */
struct fh_xs_ops {
    void (*wake)(void *ctx, struct fh_xs_conn *conn, void *conn_priv);
    void *ctx;
};

/* What is alive; of one domain or of all. */
struct fh_xs_stats {
    uint64_t n_conns;
    uint64_t n_nodes;
    uint64_t n_watches;
    uint64_t n_transactions;
    uint64_t n_events;  /* untaken, at this domain's clients */
    uint64_t bytes;     /* charged against domain_bytes */
    uint64_t n_allocs;  /* live allocations; of all only */
    uint64_t n_domains; /* introduced; of all only */
};

/*
 * fh_xs_new - make a server whose tree is "/", "/tool", "/tool/xenstored"
 *
 * @limits: copied; NULL for the defaults
 * @ops:    copied; NULL for none
 *
 * Domain 0 counts as introduced.  Returns NULL when there is no memory.
 */
struct fh_xs *
fh_xs_new(const struct fh_xs_limits *limits, const struct fh_xs_ops *ops);

/* Frees the server and every connection that is left.  NULL is allowed. */
void
fh_xs_free(struct fh_xs *xs);

/* @domid -1: the sums over everything. */
void
fh_xs_stats(const struct fh_xs *xs, int32_t domid, struct fh_xs_stats *out);

/*
 * fh_xs_conn_new - a client of domain @domid
 *
 * @priv: handed to ops.wake, and back by fh_xs_conn_priv()
 *
 * The caller vouches for the domid: the transport has authenticated it.
 * Returns 0, or FH_EINVAL (no such domid), FH_ENOMEM, FH_EMFILE (n_conns).
 */
FH_MUST_CHECK int
fh_xs_conn_new(struct fh_xs *xs, uint16_t domid, void *priv,
               struct fh_xs_conn **out);

/* Drops its watches, transactions and untaken output.  NULL is allowed. */
void
fh_xs_conn_free(struct fh_xs_conn *conn);

void *
fh_xs_conn_priv(const struct fh_xs_conn *conn);

uint16_t
fh_xs_conn_domid(const struct fh_xs_conn *conn);

/* 0, or why the connection is dead (FH_XS_E_*, FH_ENOMEM): close it. */
int
fh_xs_conn_status(const struct fh_xs_conn *conn);

/*
 * Bytes that the connection takes now: poll for input only while it is not 0.
 * 0 while the client leaves its answers unread or has a dead connection.
 */
size_t
fh_xs_conn_room(const struct fh_xs_conn *conn);

/*
 * fh_xs_conn_input - bytes from the client, cut anywhere
 *
 * @n: at most fh_xs_conn_room(); more is FH_EINVAL
 *
 * Executes the complete requests in order; their answers are output.  Returns
 * fh_xs_conn_status().
 */
FH_MUST_CHECK int
fh_xs_conn_input(struct fh_xs_conn *conn, const void *bytes, size_t n);

/*
 * fh_xs_conn_peek - output that waits to be written
 *
 * @iov: filled with up to @n_iov pieces, valid until the next call on any
 *       connection of this server
 *
 * Returns the count of pieces; 0 when there is no output.
 */
unsigned
fh_xs_conn_peek(struct fh_xs_conn *conn, struct iovec *iov, unsigned n_iov);

/* The client took @n bytes of what fh_xs_conn_peek() showed.  Peek again then,
 * until there is nothing: held-back events and answers may follow. */
void
fh_xs_conn_consume(struct fh_xs_conn *conn, size_t n);

/*
 * Domain life.
 *
 * introduce: the domain may exist from now on; fires @introduceDomain, the
 *     first time only.  FH_EINVAL, FH_ENOMEM.
 * release: the domain is gone.  Its connections get FH_XS_E_RELEASED and lose
 *     watches and transactions, nodes that it owns are removed, permissions
 *     that name it are dropped, @releaseDomain fires.  FH_ENOENT when it is
 *     not introduced, FH_EINVAL for domain 0.
 * populate: what a toolstack makes for a new domain: /local/domain/N, readable
 *     by it, with name, domid and the directories that it may write to.
 *     One transaction's worth of events; nothing is done on failure.
 * remove: what a toolstack removes: /local/domain/N with all below it.
 *     FH_ENOENT when there is none.
 */
FH_MUST_CHECK int
fh_xs_domain_introduce(struct fh_xs *xs, uint16_t domid);
FH_MUST_CHECK int
fh_xs_domain_release(struct fh_xs *xs, uint16_t domid);
FH_MUST_CHECK int
fh_xs_domain_populate(struct fh_xs *xs, uint16_t domid, const char *name);
FH_MUST_CHECK int
fh_xs_domain_remove(struct fh_xs *xs, uint16_t domid);
bool
fh_xs_domain_is_introduced(const struct fh_xs *xs, uint16_t domid);

/*
 * Direct calls, with the meaning and the errors of the wire's operations.
 * All return 0 or the negative of the error that the wire would name
 * (FH_ENOENT, FH_EACCES, FH_EINVAL, FH_ENOSPC, ...), all act with the rights
 * of the connection's domain.
 *
 * @tx:   transaction id of this connection, 0 for none
 * @path: absolute, or relative to /local/domain/<domid>
 */

/* @buf NULL or too small: FH_ERANGE, with the size in *@n.  No NUL is added. */
FH_MUST_CHECK int
fh_xs_read(struct fh_xs_conn *conn, uint32_t tx, const char *path, void *buf,
           size_t size, size_t *n);

/* Parents are made as needed. */
FH_MUST_CHECK int
fh_xs_write(struct fh_xs_conn *conn, uint32_t tx, const char *path,
            const void *data, size_t n);

FH_MUST_CHECK int
fh_xs_mkdir(struct fh_xs_conn *conn, uint32_t tx, const char *path);

FH_MUST_CHECK int
fh_xs_rm(struct fh_xs_conn *conn, uint32_t tx, const char *path);

/* Names of the children, each with its NUL, in the order of creation. */
FH_MUST_CHECK int
fh_xs_directory(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                char *buf, size_t size, size_t *n);

/* @perms: "n0", "r5", ...: owner with everybody's rights first, @n of them. */
FH_MUST_CHECK int
fh_xs_set_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                const char *const *perms, unsigned n);

/* The same words, each with its NUL. */
FH_MUST_CHECK int
fh_xs_get_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                char *buf, size_t size, size_t *n);

FH_MUST_CHECK int
fh_xs_transaction_start(struct fh_xs_conn *conn, uint32_t *tx);

/* FH_EAGAIN: somebody changed what it had seen; nothing was done. */
FH_MUST_CHECK int
fh_xs_transaction_end(struct fh_xs_conn *conn, uint32_t tx, bool commit);

/* Fires once at registration.  @path may be "@introduceDomain" and so on. */
FH_MUST_CHECK int
fh_xs_watch(struct fh_xs_conn *conn, const char *path, const char *token);

FH_MUST_CHECK int
fh_xs_unwatch(struct fh_xs_conn *conn, const char *path, const char *token);

/*
 * fh_xs_next_event - take one watch event of a connection used directly
 *
 * @path, @token: valid until the next call on any connection of this server
 *
 * Returns true when there was one.
 */
bool
fh_xs_next_event(struct fh_xs_conn *conn, const char **path,
                 const char **token);
