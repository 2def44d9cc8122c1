/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The local hypervisor's objects.  docs/adr/0090 has the threads: the control
 * thread does everything but maps, unmaps and copies of grants, which run where
 * their connection lives, on one of a few hypercall threads.
 *
 *   fh_hv            the process: threads, domains, numbering of frames
 *   fh_hv_thread     an epoll loop with its work and its dead
 *   fh_hv_domain     domain: sockets, grant table, map track, event ports
 *   fh_hv_conn       one hypercall connection = one open library handle
 *   fh_hv_file       a sealed memfd of pages that one pair of domains shares
 *   fh_hv_chan       an event channel between two domains
 *   fh_hv_evh        an event-channel handle; outlives its connection when
 *                    another one adopted it
 *
 * Lives: a domain is counted (refs): by its connections, its files, its
 * channels and by libgrant for pinned entries, so a dead granter stays as long
 * as somebody maps its pages.  Sources that die while a loop hands out events
 * are freed at the end of the turn; domains and files when no thread can be
 * looking at them any more (quiesce.h).
 *
 * Whose is what:
 *   lock      (fh_hv_lock) everything that is not named below.  The control
 *             thread has it all through its turns; others take it for what
 *             they need seldom: the end of a connection, notifications, the end
 *             of a grant.  Never inside an operation that libgrant calls.
 *   thread    the fields of a connection, of the thread that it lives on;
 *             tallies, one per thread, read by all
 *   atomic    by_domid, groups, refs, frames' words, fh_hv_file.mem and
 *             n_mapped, fh_hv_map.conn
 *   constant  ids, names, a file's geometry and parties
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/types.h>

#include <freehold/err.h>
#include <freehold/evtchn.h>
#include <freehold/grant.h>

#include "base/shared.h"
#include "hv/abi.h"
#include "hv/frame.h"
#include "hv/limits.h"

struct fh_hv;
struct fh_hv_conn;
struct fh_hv_domain;
struct fh_hv_file;
struct fh_hv_chan;
struct fh_xs;

/* ------------------------------------------------------------------ loop -- */

/* A descriptor that the loop watches. */
struct fh_hv_src {
    int fd;
    bool is_dead;
    struct fh_hv_thread *th; /* whose loop */
    void (*ready)(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events);
    void (*free)(struct fh_hv_src *src); /* at the end of the turn */
    SLIST_ENTRY(fh_hv_src) dead_link;
};

enum fh_hv_step {
    FH_HV_STEP_DONE,
    FH_HV_STEP_AGAIN,
    FH_HV_STEP_SKIPPED, /* not in this turn: before the others in the next */
};

/* Something unfinished that gets one slice per turn of the loop. */
struct fh_hv_work {
    bool is_queued;
    enum fh_hv_step (*step)(struct fh_hv *hv, struct fh_hv_work *work);
    TAILQ_ENTRY(fh_hv_work) link;
};

SLIST_HEAD(fh_hv_src_list, fh_hv_src);
TAILQ_HEAD(fh_hv_work_list, fh_hv_work);

struct fh_hv_counts {
    uint64_t calls[FH_HV_OPS];    /* hypercalls by operation */
    uint64_t elements[FH_HV_OPS]; /* array elements */
    uint64_t slices;              /* hypercalls that needed another slice */
};

/* What one thread did for one domain, or at all.  That thread writes it. */
struct fh_hv_tally {
    uint64_t turn;   /* in which it spent */
    uint32_t spent;  /* elements */
    uint64_t n_maps; /* made minus ended, so it may be "negative" */
    struct fh_hv_counts counts;
} __attribute__((aligned(64)));

static inline void
fh_hv_count(uint64_t *counter, uint64_t n)
{
    fh_store_relaxed64(counter, fh_load_relaxed64(counter) + n);
}

/* Frames whose grant may have to end; linked by fh_hv_frame.next. */
struct fh_hv_chain {
    uint32_t head; /* frame number plus one, 0: empty */
};

struct fh_hv_thread {
    struct fh_hv *hv;
    uint32_t index; /* 0: the control thread */
    int epfd;
    bool is_locked;    /* this thread has hv->lock */
    int wait_ms;       /* how long it may sleep */
    uint64_t turn;     /* of the loop */
    fh_word64 epoch;   /* quiesce.h */
    uint32_t n_conns;  /* lock */
    pthread_t id;
    struct fh_hv_src_list dead;
    struct fh_hv_work_list work;
    struct fh_gnt_ctx gnt;
    struct fh_hv_conn *caller; /* whose call is running */
    struct fh_hv_chain ending; /* frames that this call let go */
    struct fh_hv_src wake;     /* an eventfd */
    struct fh_hv_tally tally;
};

/* Watches @src in the loop of @th. */
FH_MUST_CHECK int
fh_hv_watch(struct fh_hv_thread *th, struct fh_hv_src *src, uint32_t events);
void
fh_hv_rewatch(struct fh_hv_src *src, uint32_t events);
/* Stops watching, closes the descriptor and calls src->free, if there is one,
 * at the end of the turn.  By the thread of @src. */
void
fh_hv_bury(struct fh_hv_src *src);
/* By the thread itself, or by who has the lock for the control thread. */
void
fh_hv_enqueue(struct fh_hv_thread *th, struct fh_hv_work *work);
/* Runs until hv->is_stopping.  Returns 0 or a negative error. */
FH_MUST_CHECK int
fh_hv_loop(struct fh_hv_thread *th);

/* --------------------------------------------------------------- threads -- */

/* Makes the loops, none of which runs yet. */
FH_MUST_CHECK int
fh_hv_threads_init(struct fh_hv *hv);
/* Starts the hypercall threads. */
FH_MUST_CHECK int
fh_hv_threads_start(struct fh_hv *hv);
/* Ends them, and waits. */
void
fh_hv_threads_stop(struct fh_hv *hv);
/* The hypercall thread for another connection of @dom, or NULL: there is none.
 * A domain has one, so that it can flood no other; domain 0, which serves all
 * others, has them all. */
struct fh_hv_thread *
fh_hv_thread_pick(struct fh_hv_domain *dom);
/* Makes the loop of @th turn. */
void
fh_hv_wake(struct fh_hv_thread *th);

/* Waits in line.  Nothing to do for the control thread in its turn; true: the
 * caller has to unlock. */
bool
fh_hv_lock(struct fh_hv_thread *th);
void
fh_hv_unlock(struct fh_hv_thread *th, bool locked);

/* How far the hypercall threads were when something left its table. */
struct fh_hv_grace {
    uint64_t seen[FH_HV_THREADS_MAX];
};

void
fh_hv_grace_start(struct fh_hv *hv, struct fh_hv_grace *grace);
/* True when none can be looking at it any more. */
bool
fh_hv_grace_over(const struct fh_hv *hv, const struct fh_hv_grace *grace);

/* Closes what a domain may hold the lock of: see closer.c. */
FH_MUST_CHECK int
fh_hv_closer_start(struct fh_hv *hv);
void
fh_hv_close_later(struct fh_hv *hv, int fd);

/* A listening socket.  @accepted gets a descriptor to keep or to close. */
struct fh_hv_listener {
    struct fh_hv_src src;
    struct fh_hv_domain *dom; /* NULL: the control socket */
    void (*accepted)(struct fh_hv *hv, struct fh_hv_listener *l, int fd);
    LIST_ENTRY(fh_hv_listener) link;
};

LIST_HEAD(fh_hv_listener_list, fh_hv_listener);

/*
 * fh_hv_listen - listen at @path
 *
 * @type:  SOCK_SEQPACKET or SOCK_STREAM
 * @uid:   the socket file's owner
 *
 * Returns 0 or a negative error.
 */
FH_MUST_CHECK int
fh_hv_listen(struct fh_hv *hv, struct fh_hv_listener *l, const char *path,
             int type, uid_t uid);
void
fh_hv_unlisten(struct fh_hv *hv, struct fh_hv_listener *l);
/* True when the process at the other end of @fd may speak for @dom. */
bool
fh_hv_peer_allowed(const struct fh_hv *hv, const struct fh_hv_domain *dom,
                   int fd);

/* ---------------------------------------------------------------- domain -- */

/* One live mapping, found by the index in its handle. */
struct fh_hv_map {
    fh_word64 conn; /* its address; 0: no mapping */
    uint32_t mfn;
    uint32_t handle;
    uint32_t next, prev; /* indices in the connection's list, plus one */
};

LIST_HEAD(fh_hv_conn_list, fh_hv_conn);
LIST_HEAD(fh_hv_file_list, fh_hv_file);
LIST_HEAD(fh_hv_client_list, fh_hv_xs_client);

struct fh_hv_domain {
    struct fh_gnt_domain gnt;
    struct fh_evtchn_domain ev;
    struct fh_hv *hv;
    uint64_t uid; /* unique id, never reused */
    uint16_t domid;
    uid_t user;
    char name[64];
    fh_word32 refs;
    bool is_doomed;           /* without references: freed when .. */
    struct fh_hv_grace grace; /* .. this is over */
    bool is_dying;
    bool is_gone; /* not found by its domid any more */
    struct fh_hv_work work;
    struct fh_hv_ctl *destroyer; /* waits for the end */
    struct fh_hv_listener hypercall, xenstore;
    LIST_ENTRY(fh_hv_domain) link;

    struct fh_hv_conn_list conns;
    uint32_t n_conns, n_fds;
    struct fh_hv_thread *home; /* of its grant connections, or NULL */
    uint64_t area_bytes;
    struct fh_hv_client_list xs_clients;

    /* granter */
    uint8_t *table;          /* FH_HV_GRANT_FRAMES shared frames */
    uint8_t *table_mem;      /* libgrant's own */
    uint8_t *active;         /* its part of each frame */
    uint32_t *free_refs;     /* a stack of n_free_refs */
    uint32_t n_free_refs, fresh_ref, n_refs;
    struct fh_hv_file_list files;
    uint32_t n_shared; /* pages granted, pages of ended grants included that
                          are still mapped */

    /* mapper */
    uint8_t *maptrack;
    struct fh_hv_map *maps; /* FH_HV_MAPS_MAX */

    /* event channels */
    uint8_t *ports_mem;
    uint32_t ev_cursor; /* of the end's walk over the ports */
    struct fh_hv_port *ports; /* FH_HV_PORTS_MAX */
    uint32_t n_ports;

    /* by thread */
    struct fh_gnt_stats gnt_stats[FH_HV_THREADS_MAX + 1];
    struct fh_hv_tally tally[FH_HV_THREADS_MAX + 1];
};

LIST_HEAD(fh_hv_domain_list, fh_hv_domain);

/* Makes a domain.  @domid -1: the next free one. */
FH_MUST_CHECK int
fh_hv_domain_create(struct fh_hv *hv, int domid, const char *name,
                    struct fh_hv_domain **out);
/* Starts its end; it goes on in the loop. */
void
fh_hv_domain_destroy(struct fh_hv_domain *dom);
/* Valid in this turn of the caller's loop; longer with a reference, which may
 * be taken in this turn. */
struct fh_hv_domain *
fh_hv_domain_find(struct fh_hv *hv, uint32_t domid);
void
fh_hv_domain_hold(struct fh_hv_domain *dom);
void
fh_hv_domain_put(struct fh_hv_domain *dom);
/* @th, with the lock, ended a connection of @dom, and gives its reference up. */
void
fh_hv_domain_conn_gone(struct fh_hv_thread *th, struct fh_hv_domain *dom);
/* Frees those whose last reference went. */
void
fh_hv_domains_reap(struct fh_hv *hv);

/* --------------------------------------------------------- shared memory -- */

struct fh_hv_frame {
    fh_word32 word; /* frame.h */
    uint32_t gref;
    uint32_t next; /* of a chain, for the holder of TAKEN */
};

/* Frame numbers: group << 12 | page, so that a file's pages are consecutive. */
struct fh_hv_file {
    LIST_ENTRY(fh_hv_file) link; /* in granter->files */
    uint64_t id;
    struct fh_hv_domain *granter; /* counted */
    uint64_t grantee;             /* unique id */
    bool is_writable;             /* by the grantee */
    int fd;                       /* read and write */
    fh_word64 mem;                /* whole, or 0: not needed so far */
    fh_word32 n_mapped; /* mappings of its pages */
    uint32_t n_pages, n_used, hint;
    uint32_t group, n_groups;
    uint64_t *used; /* a bit per page */
    struct fh_hv_frame *frames;
    struct fh_hv_grace grace; /* once it is out of the groups */
    STAILQ_ENTRY(fh_hv_file) dead_link;
};

FH_MUST_CHECK int
fh_hv_memfd(const char *name, uint64_t bytes, mode_t mode);
/* Finds @n free consecutive pages for the pair, zeroed, in a file of theirs. */
FH_MUST_CHECK int
fh_hv_pages_alloc(struct fh_hv_domain *granter,
                  const struct fh_hv_domain *grantee, bool is_writable,
                  uint32_t n, struct fh_hv_file **file, uint32_t *page);
/* Gives @n pages back: their contents go at once. */
void
fh_hv_pages_free(struct fh_hv_file *file, uint32_t page, uint32_t n);
/* Valid in this turn of the caller's loop, or while a page of it is pinned. */
struct fh_hv_file *
fh_hv_file_of(const struct fh_hv *hv, uint64_t mfn);
struct fh_hv_file *
fh_hv_file_find(const struct fh_hv *hv, uint64_t id);
struct fh_hv_frame *
fh_hv_frame_in(const struct fh_hv_file *file, uint64_t mfn);
/* Address of a frame in our own mapping, or NULL. */
uint8_t *
fh_hv_frame_addr(const struct fh_hv *hv, uint64_t mfn);
/* A descriptor for the grantee, to be closed by the caller. */
FH_MUST_CHECK int
fh_hv_file_grantee_fd(const struct fh_hv_file *file);
static inline uint32_t
fh_hv_mfn(const struct fh_hv_file *file, uint32_t page)
{
    return file->group * FH_HV_FILE_PAGES + page;
}
/* Drops files that are empty and that nobody can use again. */
void
fh_hv_files_sweep(struct fh_hv_domain *granter);
/* Frees the dropped ones that no thread can be looking at. */
void
fh_hv_files_reap(struct fh_hv *hv);

/* ------------------------------------------------------------ connection -- */

struct fh_hv_notify {
    LIST_ENTRY(fh_hv_notify) link;
    uint32_t key;    /* handle of a mapping, or number of a share */
    uint32_t mfn;
    uint32_t offset; /* of the byte to clear, or FH_HV_NO_NOTIFY */
    struct fh_hv_chan *chan; /* held; to notify from this end, or NULL */
    unsigned end;
};

LIST_HEAD(fh_hv_notify_list, fh_hv_notify);

/* Pages shared by one call. */
struct fh_hv_share {
    struct fh_hv_file *file; /* NULL: a free number */
    uint32_t page, n;
    uint32_t done; /* pages already ended */
};

struct fh_hv_reply {
    struct fh_hv_rsp rsp;
    int fds[FH_HV_REPLY_FDS];
    bool close_fds[FH_HV_REPLY_FDS]; /* after sending */
    unsigned n_fds;
};

struct fh_hv_conn {
    struct fh_hv_src src;
    struct fh_hv *hv;
    struct fh_hv_domain *dom; /* counted */
    LIST_ENTRY(fh_hv_conn) link;
    struct fh_hv_work work;
    enum fh_hv_kind kind;
    pid_t pid;
    bool is_busy, is_closing, is_ended;

    int area_fd;
    uint8_t *area;
    uint64_t area_bytes;

    struct fh_hv_req req; /* the call that runs */
    uint32_t done;        /* its elements that are finished */
    int rx_fd;            /* descriptor that came with it, or -1 */

    uint32_t maps; /* gnttab: first of its list, plus one */
    struct fh_hv_notify_list notifies;
    uint32_t n_notifies;
    struct fh_hv_share *shares; /* gntshr */
    uint32_t n_shares, share_hint; /* no free number below the hint */
    struct fh_hv_evh *evh; /* evtchn */
};

#define FH_HV_MORE 1 /* a call has elements left */

/* A hypercall: works on conn->req from element conn->done on.  Returns 0, a
 * negative error or FH_HV_MORE. */
typedef int
fh_hv_call(struct fh_hv_conn *conn, struct fh_hv_reply *reply);

void
fh_hv_conn_accepted(struct fh_hv *hv, struct fh_hv_listener *l, int fd);
/* By the connection's thread. */
void
fh_hv_conn_close(struct fh_hv_conn *conn);
/* By the control thread: the connection's closes it soon. */
void
fh_hv_conn_cut(struct fh_hv_conn *conn);
void
fh_hv_reply_fd(struct fh_hv_reply *reply, int fd, bool close_after);
/* Charges @n elements to @dom for this turn of the loop of @th. */
void
fh_hv_spend(struct fh_hv_thread *th, struct fh_hv_domain *dom, uint32_t n);
/* A domain with many connections gets no more of a turn than one with few. */
bool
fh_hv_may_spend(const struct fh_hv_thread *th, const struct fh_hv_domain *dom);
/* Counts @n elements of @op that @conn did. */
void
fh_hv_count_elements(struct fh_hv_conn *conn, enum fh_hv_op op, uint32_t n);
/* True when @count elements of @bytes lie in the area at @offset. */
bool
fh_hv_area_holds(const struct fh_hv_conn *conn, uint64_t offset,
                 uint32_t count, uint32_t bytes);

/* gnt.c */
extern const struct fh_hv_ops fh_hv_gnt_ops;
fh_hv_call fh_hv_gnt_map, fh_hv_gnt_unmap, fh_hv_gnt_copy, fh_hv_gnt_file,
    fh_hv_gnt_notify;
/* Unmaps up to @budget mappings of a closed connection; true: more. */
bool
fh_hv_gnt_close(struct fh_hv_conn *conn, uint32_t budget);

/* shr.c */
fh_hv_call fh_hv_shr_share, fh_hv_shr_unshare, fh_hv_shr_notify;
bool
fh_hv_shr_close(struct fh_hv_conn *conn, uint32_t budget);
/* Withdraws the grants of frames that @th, or @conn's call, let go. */
void
fh_hv_ending_run(struct fh_hv_thread *th);
/* Again for those that somebody had marked just then. */
void
fh_hv_ending_retry(struct fh_hv *hv);
/* The caller has TAKEN of @frame. */
void
fh_hv_ending_add(struct fh_hv_chain *chain, uint32_t mfn,
                 struct fh_hv_frame *frame);

/* notify.c */
FH_MUST_CHECK int
fh_hv_notify_set(struct fh_hv_conn *conn, uint32_t key, uint32_t mfn);
void
fh_hv_notify_fire(struct fh_hv_conn *conn, uint32_t key);

/* -------------------------------------------------------- event channels -- */

struct fh_hv_end {
    uint16_t domid;
    uint32_t slot;
    int tx;   /* eventfd, for the sender */
    int kick; /* eventfd, our own */
    int bell; /* epoll of both, for the receiver */
};

/* Port of a domain: one end of a channel. */
struct fh_hv_port {
    struct fh_hv_chan *chan; /* NULL: not open */
    uint8_t end;             /* 0 or 1 */
    struct fh_hv_evh *evh;
    LIST_ENTRY(fh_hv_port) link; /* in evh->ports */
};

LIST_HEAD(fh_hv_port_list, fh_hv_port);

struct fh_hv_evh {
    LIST_ENTRY(fh_hv_evh) link;
    struct fh_hv_domain *dom;
    int epfd; /* duplicate of the client's poll descriptor */
    uint32_t refs; /* connections */
    int restricted; /* domid, or -1 */
    pid_t pid;      /* of the opener, and its socket's number there */
    uint32_t sock;
    struct fh_hv_port_list ports;
};

LIST_HEAD(fh_hv_evh_list, fh_hv_evh);
LIST_HEAD(fh_hv_slotfile_list, fh_hv_slotfile);

extern const struct fh_evtchn_ops fh_hv_ev_ops;
fh_hv_call fh_hv_ev_open, fh_hv_ev_adopt, fh_hv_ev_alloc, fh_hv_ev_bind,
    fh_hv_ev_unbind, fh_hv_ev_restrict, fh_hv_ev_port, fh_hv_ev_virq;
bool
fh_hv_ev_close(struct fh_hv_conn *conn, uint32_t budget);
/* Keeps the channel of @port of @dom, though the port may be closed: its
 * process died, and what notifies of that comes later. */
FH_MUST_CHECK int
fh_hv_ev_hold(struct fh_hv_domain *dom, uint64_t port,
              struct fh_hv_chan **chan, unsigned *end);
/* Ports of @dom whose other end is open as well. */
uint32_t
fh_hv_ev_connected(const struct fh_hv_domain *dom);
/* Notifies the other end. */
void
fh_hv_ev_send(struct fh_hv_chan *chan, unsigned end);
void
fh_hv_ev_release(struct fh_hv *hv, struct fh_hv_chan *chan);
/* Drops slot files of a dead domain. */
void
fh_hv_slotfiles_sweep(struct fh_hv *hv, uint64_t uid);

/* -------------------------------------------------------------- xenstore -- */

FH_MUST_CHECK int
fh_hv_xs_init(struct fh_hv *hv);
void
fh_hv_xs_deinit(struct fh_hv *hv);
FH_MUST_CHECK int
fh_hv_xs_domain_add(struct fh_hv_domain *dom);
void
fh_hv_xs_domain_remove(struct fh_hv_domain *dom);
void
fh_hv_xs_accepted(struct fh_hv *hv, struct fh_hv_listener *l, int fd);
/* Writes what became writable in this turn. */
void
fh_hv_xs_flush(struct fh_hv *hv);
SLIST_HEAD(fh_hv_xs_woken, fh_hv_xs_client);

/* --------------------------------------------------------------- control -- */

FH_MUST_CHECK int
fh_hv_ctl_init(struct fh_hv *hv);
/* The domain that @ctl asked to destroy is gone. */
void
fh_hv_ctl_destroyed(struct fh_hv_ctl *ctl, uint16_t domid);

/* ------------------------------------------------------------ hypervisor -- */

struct fh_hv {
    bool is_accept_paused, is_isolated;
    fh_word32 is_stopping;
    uint64_t accept_again_ms;
    uid_t uid;
    uint32_t uid_base;
    uint32_t fd_limit, n_fds;
    char run_dir[512];
    int lock_fd;
    struct fh_hv_listener_list listeners;
    struct fh_hv_listener control;
    struct fh_hv_src signals;
    LIST_HEAD(, fh_hv_ctl) ctls;
    uint32_t n_ctl;
    int closer; /* pipe to the thread that closes */
    uint64_t n_lost_fds;

    struct fh_hv_thread threads[FH_HV_THREADS_MAX + 1]; /* 0: control */
    uint32_t n_threads; /* hypercall threads; 0: control does everything */
    struct fh_hv_line *line; /* the lock */

    struct fh_hv_domain_list domains; /* found by their domid */
    struct fh_hv_domain_list zombies; /* only referred to */
    fh_word64 by_domid[DOMID_FIRST_RESERVED]; /* addresses */
    uint32_t n_domains, next_domid;
    uint32_t n_doomed; /* zombies that wait for their grace */
    uint64_t next_uid, next_file;

    fh_word64 groups[FH_HV_GROUPS_MAX]; /* addresses of files */
    uint32_t group_hint;
    uint32_t n_files, n_pages_used, n_chans, n_slotfiles, n_conns;
    struct fh_hv_chain retry; /* frames whose grant could not end yet */
    STAILQ_HEAD(, fh_hv_file) dead_files;
    struct fh_hv_slotfile_list slotfiles;
    struct fh_hv_evh_list evhs;

    struct fh_xs *xs;
    struct fh_hv_xs_woken xs_woken;
};

static inline struct fh_hv_thread *
fh_hv_control(struct fh_hv *hv)
{
    return &hv->threads[0];
}

/* Charges @n descriptors to @dom: FH_EMFILE when its share, or fhv's own
 * limit, is spent. */
FH_MUST_CHECK int
fh_hv_fds_take(struct fh_hv_domain *dom, uint32_t n);
void
fh_hv_fds_drop(struct fh_hv_domain *dom, uint32_t n);
