/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The simulator: domains, grants, event channels, xenstore and time in one
 * process and one thread.
 *
 * A *party* is a process of a domain: a struct fh_plat of its own, with its
 * mappings, ports, shares and one connection to xenstore; production code runs
 * on it unchanged.  Everything that happens is an event in a queue ordered by
 * (virtual time, a random tie-break); every random choice comes from the seed,
 * so the same seed is the same story, to the byte of its trace hash.
 *
 * Parties interleave where real ones can be seen to: between two runs of a
 * party, and inside its platform calls, where other parties may run first
 * (sim_enter()).  A party never runs inside itself.
 *
 * A violation of any rule is noted once (sim_fail()) and ends the story; memory
 * is protected by the MMU, as a mapping is a mapping: a touch after unmap is a
 * SIGSEGV, which names the seed too.
 *
 * Life: sim_new > parties, events, sim_run > sim_free.  One thread.
 */
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/plat.h>
#include "hv/xs/xs.h"

enum {
    SIM_MAX_PARTIES = 256, /* all that ever lived */
    SIM_DOMAINS = 8,
    SIM_FRAMES = 8192,
    SIM_REFS = 4096,  /* grant entries of a domain */
    SIM_PORTS = 64,   /* of a domain */
    SIM_MAPS = 8192,  /* live mappings of all parties */
    SIM_SHARES = 256, /* live shares of all parties */
    SIM_FIRST_REF = 8,
    SIM_NEST = 3, /* deepest run of others inside a platform call */
};

/* Platform calls, for the trace and the fault plan. */
enum sim_call {
    SIM_NOW,
    SIM_WAIT,
    SIM_GNT_MAP,
    SIM_GNT_UNMAP,
    SIM_GNT_COPY,
    SIM_GNT_SHARE,
    SIM_GNT_UNSHARE,
    SIM_EV_ALLOC,
    SIM_EV_BIND,
    SIM_EV_UNBIND,
    SIM_EV_NOTIFY,
    SIM_EV_NEXT,
    SIM_EV_UNMASK,
    SIM_XS_BEGIN,
    SIM_XS_END,
    SIM_XS_READ,
    SIM_XS_WRITE,
    SIM_XS_MKDIR,
    SIM_XS_RM,
    SIM_XS_LIST,
    SIM_XS_SET_PERMS,
    SIM_XS_WATCH,
    SIM_XS_UNWATCH,
    SIM_XS_NEXT,
    SIM_HOOK, /* no platform call: a store to the recovery state */
    SIM_N_CALLS,
};

struct sim;

struct sim_party {
    struct fh_plat plat; /* first */
    struct sim *s;
    const char *name;
    uint32_t number;
    uint16_t domid;
    bool alive;
    bool running;
    bool faulty;  /* the fault plan counts its calls */
    bool doomed;  /* dies at its next platform call or end of run */
    void (*run)(void *actor); /* one step */
    void *actor;
    uint64_t due_ns; /* of the next run; UINT64_MAX: asleep */
    jmp_buf *death;  /* where a death inside of run() leads */
    void (*died)(void *actor);
    struct fh_xs_conn *xs;
    bool xs_news;
    uint64_t xs_at_ns; /* when they can be seen */
    uint32_t n_failed_releases; /* injected: leaks that are not its fault */
};

struct sim_event {
    uint64_t at_ns;
    uint64_t seq;
    uint32_t tie;
    uint32_t b;
    struct sim_party *party; /* whose step this is, or NULL */
    void (*fn)(void *arg, uint64_t a);
    void *arg;
    uint64_t a;
};

struct sim_entry {
    bool used;
    bool writable;
    bool withdrawn; /* unshared while mapped: no new maps */
    uint16_t grantee;
    uint32_t frame;
    uint32_t n_maps;
};

struct sim_port {
    enum { SIM_PORT_FREE, SIM_PORT_UNBOUND, SIM_PORT_BOUND } state;
    bool pending;
    bool masked;
    uint16_t remote_domid;
    uint32_t remote_port;
    struct sim_party *owner;
};

struct sim_domain {
    struct sim_entry entry[SIM_REFS];
    uint32_t free_ref[SIM_REFS];
    uint32_t n_free_refs;
    struct sim_port port[SIM_PORTS];
};

/* A live mapping or share; party NULL: free. */
struct sim_area {
    struct sim_party *party;
    void *addr;
    uint32_t n;
    uint16_t domid; /* the granter */
    uint32_t *refs; /* [n] */
};

struct sim {
    uint64_t seed;
    const char *scenario;
    uint64_t random;
    uint64_t now_ns;
    uint64_t tick; /* orders what happens, finer than time */
    uint64_t hash;
    uint64_t n_calls;
    bool verbose;
    bool failed;
    char failure[400];

    struct sim_event *heap;
    uint32_t n_heap;
    uint32_t max_heap;
    uint64_t n_events;
    uint32_t depth;

    struct sim_party party[SIM_MAX_PARTIES];
    uint32_t n_parties;

    int frames_fd;
    uint8_t *frames;
    uint8_t frame_used[SIM_FRAMES];
    struct sim_domain domain[SIM_DOMAINS];
    struct sim_area map[SIM_MAPS];
    struct sim_area share[SIM_SHARES];
    uint32_t n_busy_unshares; /* of pages that were still mapped */
    struct fh_xs *xs;

    /* The fault plan. */
    uint64_t n_faulty;   /* calls that could fail */
    uint64_t fail_at;    /* the k-th fails; 0: none */
    uint32_t p_fail;     /* of 65536 */
    uint32_t p_conflict; /* of a transaction's end, of 65536 */
    uint32_t p_yield;    /* others run inside a platform call, of 256 */
};

/* ---- core (sim.c) ---- */

struct sim *
sim_new(const char *scenario, uint64_t seed);
void
sim_free(struct sim *s);

uint32_t
sim_random(struct sim *s, uint32_t below);
/* True with probability @p / @of. */
bool
sim_chance(struct sim *s, uint32_t p, uint32_t of);
/* Between @low and @high, both included. */
uint64_t
sim_between(struct sim *s, uint64_t low, uint64_t high);

void
sim_trace(struct sim *s, uint64_t what, uint64_t a, uint64_t b);
__attribute__((format(printf, 2, 3))) void
sim_say(struct sim *s, const char *fmt, ...);

/* Notes the first violation; the story ends. */
__attribute__((format(printf, 2, 3))) void
sim_fail(struct sim *s, const char *fmt, ...);

#define SIM_CHECK(s, cond, ...)                                                \
    do {                                                                       \
        if (!(cond))                                                           \
            sim_fail(s, __VA_ARGS__);                                          \
    } while (0)

/* Calls @fn(arg, a) after @delay_ns. */
void
sim_after(struct sim *s, uint64_t delay_ns, void (*fn)(void *arg, uint64_t a),
          void *arg, uint64_t a);

/* Runs events until @done says so, nothing is left (a failure), virtual time
 * @limit_ns has passed (one too), or something failed. */
void
sim_run(struct sim *s, bool (*done)(void *arg), void *arg, uint64_t limit_ns);

/* ---- parties (party.c) ---- */

/* A new process of @domid; @run is its step.  It sleeps until sim_wake(). */
struct sim_party *
sim_party_new(struct sim *s, uint16_t domid, const char *name,
              void (*run)(void *actor), void *actor);

/* Its run() is called after @delay_ns, or sooner. */
void
sim_wake(struct sim_party *p, uint64_t delay_ns);

/* True when an event or a watch could be taken now. */
bool
sim_has_news(struct sim_party *p);

/* The process is gone: mappings, ports, shares and the connection with it, as
 * the kernel does it.  Not from inside its own run(): sim_party_doom(). */
void
sim_party_kill(struct sim_party *p);

/* It dies at its next platform call, or now when it is not running. */
void
sim_party_doom(struct sim_party *p);

/* Every platform call begins here: time passes, others may run, the process may
 * die.  Returns 0 or the error that the fault plan wants. */
int
sim_enter(struct fh_plat *plat, enum sim_call call, uint64_t detail);

/* What a party still has; a failure each. */
void
sim_check_leaks(struct sim *s);

static inline struct sim_party *
sim_party_of(struct fh_plat *p)
{
    return (struct sim_party *)p;
}

extern const struct fh_plat_ops sim_plat_ops;

/* ---- grants (grants.c) ---- */

int
sim_gnt_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs, uint32_t n,
            int prot, void **addr);
int
sim_gnt_unmap(struct fh_plat *p, void *addr, uint32_t n);
int
sim_gnt_copy(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n);
int
sim_gnt_share(struct fh_plat *p, uint16_t domid, uint32_t n, bool writable,
              uint32_t *refs, void **addr);
int
sim_gnt_unshare(struct fh_plat *p, void *addr, uint32_t n);
void
sim_grants_init(struct sim *s);
void
sim_grants_drop(struct sim_party *p);

/* ---- event channels (events.c) ---- */

int
sim_ev_alloc(struct fh_plat *p, uint16_t domid, uint32_t *port);
int
sim_ev_bind(struct fh_plat *p, uint16_t domid, uint32_t remote, uint32_t *port);
int
sim_ev_unbind(struct fh_plat *p, uint32_t port);
int
sim_ev_notify(struct fh_plat *p, uint32_t port);
int
sim_ev_next(struct fh_plat *p, uint32_t *port);
int
sim_ev_unmask(struct fh_plat *p, uint32_t port);
bool
sim_ev_ready(const struct sim_party *p);
void
sim_events_drop(struct sim_party *p);

/* ---- xenstore (store_xs.c) ---- */

void
sim_xs_init(struct sim *s);
void
sim_xs_connect(struct sim_party *p);
