/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What the files of the xenstore server share.  Not for embedders.
 *
 * Layers, bottom up: xs_map (memory, hashing), xs_path, xs_perm, xs_node (one
 * node), xs_txn (a node as a request sees it: in the tree, or in a
 * transaction's overlay), xs_tree (create and remove), xs_watch, xs_conn
 * (queues), xs_ops (the operations), xs_proto (the wire), xs_domain.
 *
 * The tree is a map from full path to node; each node holds the names of its
 * children.  Every function with a path takes it parsed (struct fh_xs_path),
 * with the hash of each of its prefixes, so that walking up costs one map
 * lookup per level.
 *
 * Errors are 0 or negative, and name what the wire will say.
 */
#include <sys/queue.h>

#include "hv/xs/xs.h"

enum {
    /* Of xenstored: what a node's quota counts beside its contents. */
    FH_XS_NODE_HEADER_BYTES = 24,
    FH_XS_NODE_PERM_BYTES = 8,
    /* Room for two whole requests, so that one read can end in the next. */
    FH_XS_INPUT_BYTES = 8192 + 2 * 16,
    /* Answers that a client, also of domain 0, may leave unread. */
    FH_XS_REPLY_BYTES = 128 * 1024,
    /* No path has more parts than "/a/a/a.." of 3072 bytes, and the root. */
    FH_XS_PATH_PARTS = 3072 / 2 + 1,
    FH_XS_PATH_BYTES = 3072,
    FH_XS_DOM_BUCKETS = 64,
};

/* ---- xs_map.c: memory, hashing, maps -------------------------------- */

struct fh_xs_link {
    struct fh_xs_link *next;
    uint64_t hash;
};

/* Chained, grows by doubling, never shrinks.  Entries of one hash keep the
 * order in which they were added. */
struct fh_xs_map {
    struct fh_xs_link **buckets;
    size_t n_buckets; /* a power of two */
    size_t n;
};

#define FH_XS_OF(link, type) ((type *)(void *)(link))

/* Zeroed memory, or NULL. */
void *
fh_xs_mem_new(struct fh_xs *xs, size_t n);
void
fh_xs_mem_del(struct fh_xs *xs, void *p);
/* A copy of @n bytes and a NUL. */
char *
fh_xs_mem_dup(struct fh_xs *xs, const void *from, size_t n);

/* The hash of a path, from that of its parent and its last part. */
uint64_t
fh_xs_hash(const struct fh_xs *xs, uint64_t parent, const char *name, size_t n);

FH_MUST_CHECK int
fh_xs_map_init(struct fh_xs *xs, struct fh_xs_map *map);
void
fh_xs_map_fini(struct fh_xs *xs, struct fh_xs_map *map);
void
fh_xs_map_add(struct fh_xs *xs, struct fh_xs_map *map, struct fh_xs_link *link,
              uint64_t hash);
void
fh_xs_map_del(struct fh_xs_map *map, struct fh_xs_link *link);
struct fh_xs_link *
fh_xs_map_first(const struct fh_xs_map *map, uint64_t hash);
struct fh_xs_link *
fh_xs_map_next(const struct fh_xs_link *link);

/* ---- xs_path.c ------------------------------------------------------- */

/*
 * A valid absolute path.  Prefix i is its first i parts; prefix 0 is "/".
 * Special names ("@introduceDomain") are not paths of the tree: n_parts 0,
 * is_special, hash[0] the hash of the name.
 */
struct fh_xs_path {
    uint32_t n_parts;
    bool is_special;
    bool is_relative; /* as the client wrote it */
    uint32_t end[FH_XS_PATH_PARTS];
    uint64_t hash[FH_XS_PATH_PARTS];
    char text[FH_XS_PATH_BYTES + 1]; /* with a NUL after the last part */
};

/* FH_EINVAL: not a path that @conn may name.  @n: bytes of @text. */
FH_MUST_CHECK int
fh_xs_path_parse(const struct fh_xs_conn *conn, const char *text, size_t n,
                 struct fh_xs_path *out);
/* The same for a path that may be watched: also special names. */
FH_MUST_CHECK int
fh_xs_path_parse_watched(const struct fh_xs_conn *conn, const char *text,
                         size_t n, struct fh_xs_path *out);
/* The path of a node that exists; @text is "/" or ends in no '/'. */
void
fh_xs_path_load(const struct fh_xs *xs, const char *text, uint32_t n,
                struct fh_xs_path *out);
/* Goes down to a child that exists (its path is known to fit), and up. */
void
fh_xs_path_push(const struct fh_xs *xs, struct fh_xs_path *path,
                const char *name);
void
fh_xs_path_pop(struct fh_xs_path *path);
/* Start and length of part @i, 1 .. n_parts. */
const char *
fh_xs_path_part(const struct fh_xs_path *path, uint32_t i, uint32_t *n);
/* A decimal domain id, the whole of @text; FH_EINVAL. */
FH_MUST_CHECK int
fh_xs_parse_domid(const char *text, uint16_t *out);

static inline uint32_t
fh_xs_path_bytes(const struct fh_xs_path *path)
{
    return path->end[path->n_parts];
}

/* ---- xs_perm.c ------------------------------------------------------- */

enum { FH_XS_READ = 1, FH_XS_WRITE = 2, FH_XS_OWN = 4 };

struct fh_xs_perm {
    uint16_t domid;
    uint8_t rights;
};

/* The first entry names the owner and the rights of everybody else. */
struct fh_xs_perms {
    struct fh_xs_perm *p;
    uint32_t n;
};

FH_MUST_CHECK int
fh_xs_perm_parse(const char *text, struct fh_xs_perm *out);
/* At most 7 bytes with the NUL; returns them. */
size_t
fh_xs_perm_format(const struct fh_xs_perm *perm, char out[8]);
unsigned
fh_xs_perms_of(const struct fh_xs_perms *perms, uint16_t domid);
FH_MUST_CHECK int
fh_xs_perms_copy(struct fh_xs *xs, const struct fh_xs_perms *from,
                 struct fh_xs_perms *out);
void
fh_xs_perms_fini(struct fh_xs *xs, struct fh_xs_perms *perms);

/* ---- xs_node.c ------------------------------------------------------- */

struct fh_xs_tnode;

struct fh_xs_node {
    struct fh_xs_link link; /* of the tree; first */
    uint64_t gen;           /* of the last change to what follows */
    struct fh_xs_tnode *t;  /* the transaction's, NULL in the tree */
    struct fh_xs_perms perms;
    char *data;
    uint32_t n_data;
    uint32_t n_children; /* bytes of names, each with its NUL */
    uint32_t children_cap;
    char *children;
    uint32_t n_path;
    char path[]; /* with a NUL */
};

struct fh_xs_node *
fh_xs_node_new(struct fh_xs *xs, const struct fh_xs_path *path, uint32_t depth);
struct fh_xs_node *
fh_xs_node_copy(struct fh_xs *xs, const struct fh_xs_node *from);
void
fh_xs_node_free(struct fh_xs *xs, struct fh_xs_node *node);
/* What it is charged with, and what node_bytes limits. */
uint64_t
fh_xs_node_charge(const struct fh_xs_node *node);
uint64_t
fh_xs_node_size(const struct fh_xs_node *node);
/* Makes room for one more name, so that adding it cannot fail. */
FH_MUST_CHECK int
fh_xs_node_reserve_child(struct fh_xs *xs, struct fh_xs_node *node,
                         uint32_t n_name);
void
fh_xs_node_add_child(struct fh_xs_node *node, const char *name,
                     uint32_t n_name);
void
fh_xs_node_del_child(struct fh_xs_node *node, const char *name,
                     uint32_t n_name);
/* The name of the last child; there is one. */
const char *
fh_xs_node_last_child(const struct fh_xs_node *node);

/* ---- domains --------------------------------------------------------- */

/* What is known about a domain id.  Made when something refers to it; freed
 * when its last connection closes or it is released and nothing is left. */
struct fh_xs_dom {
    struct fh_xs_dom *next; /* of its bucket */
    LIST_HEAD(, fh_xs_conn) conns;
    uint64_t bytes;
    uint32_t n_nodes;
    uint32_t n_watches;
    uint32_t n_txns;
    uint32_t n_conns;
    uint32_t n_caused; /* events at privileged clients that it caused */
    uint16_t domid;
    bool introduced;
};

/* Makes the record if there is none; NULL without memory. */
struct fh_xs_dom *
fh_xs_dom_get(struct fh_xs *xs, uint16_t domid);
struct fh_xs_dom *
fh_xs_dom_find(const struct fh_xs *xs, uint16_t domid);
/* Frees the record if nothing needs it. */
void
fh_xs_dom_put(struct fh_xs *xs, struct fh_xs_dom *dom);
void
fh_xs_doms_fini(struct fh_xs *xs);
FH_MUST_CHECK int
fh_xs_specials_init(struct fh_xs *xs);

/* ---- transactions: xs_txn.c ------------------------------------------ */

/* A node that a transaction has looked at. */
struct fh_xs_tnode {
    struct fh_xs_link link; /* of the transaction's map; first */
    STAILQ_ENTRY(fh_xs_tnode) fire_entry;
    struct fh_xs_node *node;   /* a private copy; NULL: absent */
    struct fh_xs_perms before; /* rights before a removal or change of them */
    uint64_t base_gen;         /* of the tree's node at that time; 0: absent */
    bool is_changed;
    bool fires;       /* on fire list */
    bool fires_exact; /* only watches of this very path */
    uint32_t n_path;
    char path[];
};

struct fh_xs_txn {
    LIST_ENTRY(fh_xs_txn) entry;
    struct fh_xs_conn *conn;
    struct fh_xs_map nodes;
    STAILQ_HEAD(, fh_xs_tnode) fires; /* in the order of the changes */
    uint64_t bytes;                   /* charged to the connection's domain */
    int64_t n_created;                /* own nodes made less own removed */
    uint32_t id;
    int failed; /* an error that left it half-done: never commits */
};

/* Who asks, and what they see. */
struct fh_xs_view {
    struct fh_xs *xs;
    struct fh_xs_conn *conn;
    struct fh_xs_txn *txn; /* NULL: the tree itself */
};

/* FH_ENOENT: no such transaction of @conn. */
FH_MUST_CHECK int
fh_xs_view_init(struct fh_xs_view *view, struct fh_xs_conn *conn, uint32_t tx);

/* The node of prefix @depth, NULL when absent.  In a transaction the access
 * is recorded and the node is a private copy. */
FH_MUST_CHECK int
fh_xs_view_get(struct fh_xs_view *view, const struct fh_xs_path *path,
               uint32_t depth, struct fh_xs_node **out);
/* The caller has changed @node, whose charge was @charge_before. */
void
fh_xs_view_changed(struct fh_xs_view *view, struct fh_xs_node *node,
                   uint64_t charge_before);
/* A new node for a path that fh_xs_view_get() found absent. */
void
fh_xs_view_insert(struct fh_xs_view *view, struct fh_xs_node *node,
                  uint64_t hash);
void
fh_xs_view_remove(struct fh_xs_view *view, struct fh_xs_node *node);
/* Gives @perms to @node, whose owner may change with them; takes back in
 * @perms what the caller now owns (the old ones, or none).  The new owner's
 * record must exist. */
void
fh_xs_view_set_perms(struct fh_xs_view *view, struct fh_xs_node *node,
                     struct fh_xs_perms *perms);
/* May the caller's domain own @n_nodes more, and the one that pays for a node
 * of @owner be charged @bytes more?  FH_ENOSPC, FH_ENOMEM. */
FH_MUST_CHECK int
fh_xs_view_check_quota(const struct fh_xs_view *view, uint16_t owner,
                       uint64_t n_nodes, uint64_t bytes);
/* Tells the watches, now or when the transaction commits. */
void
fh_xs_view_fire(struct fh_xs_view *view, const struct fh_xs_path *path,
                bool exact, const struct fh_xs_perms *before);
/* The transaction cannot commit any more. */
void
fh_xs_view_spoil(struct fh_xs_view *view, int why);
void
fh_xs_txn_free(struct fh_xs_txn *txn);

/* ---- tree: xs_tree.c ------------------------------------------------- */

/* The tree's own node; NULL when absent. */
struct fh_xs_node *
fh_xs_tree_find_text(const struct fh_xs *xs, const char *text, uint32_t n,
                     uint64_t hash);
struct fh_xs_node *
fh_xs_tree_find(const struct fh_xs *xs, const struct fh_xs_path *path,
                uint32_t depth);
void
fh_xs_tree_link(struct fh_xs *xs, struct fh_xs_node *node, uint64_t hash);
void
fh_xs_tree_unlink(struct fh_xs *xs, struct fh_xs_node *node);
/* Makes an absent node and its absent ancestors. */
FH_MUST_CHECK int
fh_xs_tree_create(struct fh_xs_view *view, const struct fh_xs_path *path,
                  const void *data, size_t n);
/* Removes the node of @path, which exists and is not "/", and all below. */
FH_MUST_CHECK int
fh_xs_tree_remove(struct fh_xs_view *view, struct fh_xs_path *path,
                  struct fh_xs_node *node);
void
fh_xs_tree_fini(struct fh_xs *xs);

/* ---- watches: xs_watch.c --------------------------------------------- */

struct fh_xs_watch {
    struct fh_xs_link link; /* by path; first */
    TAILQ_ENTRY(fh_xs_watch) entry;
    TAILQ_ENTRY(fh_xs_watch) overflow_entry;
    struct fh_xs_conn *conn;
    uint64_t id; /* never used twice */
    bool is_relative;
    bool overflowed; /* owes its client one event under its own path */
    uint32_t n_path;
    uint32_t n_token;
    const char *token;
    char path[]; /* with a NUL; the token follows */
};

FH_MUST_CHECK int
fh_xs_watch_add(struct fh_xs_conn *conn, const char *path, const char *token,
                struct fh_xs_watch **out);
void
fh_xs_watch_free(struct fh_xs_watch *watch);
/* Tells one watch: of its registration, or instead of too many events. */
void
fh_xs_watch_fire_own(struct fh_xs_watch *watch);
/* Tells whoever may know.  @before: rights as they were, NULL if unchanged. */
void
fh_xs_watches_fire(struct fh_xs *xs, struct fh_xs_dom *cause,
                   const struct fh_xs_path *path, bool exact,
                   const struct fh_xs_perms *before);

/* ---- connections: xs_conn.c ------------------------------------------ */

/* One message to a client: struct xsd_sockmsg and its payload. */
struct fh_xs_msg {
    struct fh_xs_link link; /* of the untaken events; first */
    STAILQ_ENTRY(fh_xs_msg) entry;
    struct fh_xs_dom *cause; /* charged until it is taken; NULL: nobody */
    uint64_t watch_id;       /* 0: an answer */
    bool in_map;
    uint32_t n; /* bytes */
    uint32_t n_taken;
    uint32_t n_path; /* of an event */
    char bytes[];
};

struct fh_xs_conn {
    struct fh_xs *xs;
    struct fh_xs_dom *dom;
    LIST_ENTRY(fh_xs_conn) entry;     /* of the domain */
    TAILQ_ENTRY(fh_xs_conn) run_entry; /* of those with input to look at */
    void *priv;
    STAILQ_HEAD(, fh_xs_msg) out;
    TAILQ_HEAD(, fh_xs_watch) watches;
    TAILQ_HEAD(, fh_xs_watch) overflows;
    LIST_HEAD(, fh_xs_txn) txns;
    struct fh_xs_msg *shown; /* the event that fh_xs_next_event() gave */
    uint64_t reply_bytes;
    uint32_t n_replies;
    uint32_t n_events;
    uint32_t next_tx;
    int verdict;
    bool is_queued; /* on the run queue */
    bool is_internal;
    size_t n_in;
    char in[FH_XS_INPUT_BYTES];
};

static inline bool
fh_xs_conn_is_privileged(const struct fh_xs_conn *conn)
{
    return conn->dom->domid == 0;
}

void
fh_xs_conn_reply(struct fh_xs_conn *conn, uint32_t type, uint32_t req_id,
                 uint32_t tx_id, const void *data, size_t n);
void
fh_xs_conn_event(struct fh_xs_watch *watch, struct fh_xs_dom *cause,
                 const char *path, uint32_t n_path, uint64_t hash);
void
fh_xs_conn_kill(struct fh_xs_conn *conn, int verdict);
void
fh_xs_conn_drop_watches(struct fh_xs_conn *conn);
void
fh_xs_conn_drop_txns(struct fh_xs_conn *conn);

/* ---- operations: xs_ops.c -------------------------------------------- */

/* The node of @path if the caller has @rights; else the error to show. */
FH_MUST_CHECK int
fh_xs_op_node(struct fh_xs_conn *conn, uint32_t tx, const char *path,
              unsigned rights, struct fh_xs_node **out);
FH_MUST_CHECK int
fh_xs_op_format_perms(const struct fh_xs_perms *perms, char *buf, size_t size,
                      size_t *n);

/* @words: @n bytes of strings, each with its NUL, at least one. */
FH_MUST_CHECK int
fh_xs_op_set_perms(struct fh_xs_conn *conn, uint32_t tx, const char *path,
                   const char *words, size_t n);

/* ---- wire: xs_proto.c ------------------------------------------------ */

/* Executes the first request in conn->in, or sets the verdict; false when
 * there is none that is complete. */
bool
fh_xs_proto_run_one(struct fh_xs_conn *conn);

/* ---- the server ------------------------------------------------------ */

enum { FH_XS_INTRODUCE_DOMAIN, FH_XS_RELEASE_DOMAIN, FH_XS_N_SPECIALS };

struct fh_xs_special {
    const char *name;
    struct fh_xs_perms perms;
};

struct fh_xs {
    struct fh_xs_limits limits;
    struct fh_xs_ops ops;
    uint64_t key[2]; /* of the hash */
    uint64_t gen;    /* of the last change to any node */
    uint64_t next_watch_id;
    uint64_t n_allocs;
    uint64_t fail_alloc_in; /* tests: the k-th allocation from now fails */
    struct fh_xs_map nodes;
    struct fh_xs_map watches;
    struct fh_xs_map events; /* untaken, by watch and path */
    struct fh_xs_dom *doms[FH_XS_DOM_BUCKETS];
    struct fh_xs_special specials[FH_XS_N_SPECIALS];
    TAILQ_HEAD(, fh_xs_conn) run_queue;
    struct fh_xs_conn *self; /* the server's own, as domain 0 */
    struct fh_xs_path path;  /* of the request that runs */
    struct fh_xs_path path2; /* of the event that is fired */
    char scratch[4096];      /* of an answer that is built */
};

/* NULL when all is consistent, else the claim that does not hold. */
const char *
fh_xs_broken(struct fh_xs *xs);
/* fh_xs_new() with fail_alloc_in set from the start: for tests. */
struct fh_xs *
fh_xs_new_failing(const struct fh_xs_limits *limits,
                  const struct fh_xs_ops *ops, uint64_t fail_alloc_in);
/* The special name, or -1. */
int
fh_xs_special_find(const char *name);
void
fh_xs_special_fire(struct fh_xs *xs, int special);
