/* SPDX-License-Identifier: MIT */
/*
 * Event channels against a plain model: random operations of three guests, all
 * of them, with any operation of the embedder failing and any step preempted.
 * After each: the answers, all states, the references, and that both ends of a
 * channel name each other (I13); now and then the guests' kernels run, and each
 * must have handled exactly what was sent and may be seen.
 *
 * usage: evtchn_model_test [SEED [N_OPS]]
 */
#include "evtchn/guest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/arith.h"
#include "evtchn/fifo.h"
#include "evtchn/internal.h"
#include "evtchn/limits.h"
#include "expect.h"

#define N_PORTS 40u

struct mport {
    uint32_t state, rdom, rport, vcpu, virq;
    uint64_t ruid;
    bool is_pending;
};

static struct mport m[EV_DOMS + 1][N_PORTS];
static uint64_t rng;
static unsigned n_op;
static uint64_t seed;

static uint32_t
rnd(uint32_t n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)(rng >> 20) % n;
}

#define CHECK(cond, ...)                                                       \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "seed %llu, op %u: %s; ",                          \
                    (unsigned long long)seed, n_op, #cond);                    \
            fprintf(stderr, "" __VA_ARGS__);                                   \
            fputc('\n', stderr);                                               \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

/* -------------------------------------------------------------- the model -- */

static struct mport *
m_at(unsigned d, uint32_t port)
{
    return port && port < N_PORTS ? &m[d][port] : NULL;
}

static uint32_t
m_lowest(unsigned d)
{
    for (uint32_t p = 1; p < N_PORTS; p++) {
        if (!m[d][p].state)
            return p;
    }
    return 0;
}

/* The port that was given, against what could be. */
static void
m_given(unsigned d, uint32_t port)
{
    CHECK(m_at(d, port) && !m[d][port].state, "%u", port);
    if (!ev.g[d].d.n_busy)
        CHECK(port <= m_lowest(d), "%u", port);
    m[d][port] = (struct mport){ 0 };
}

/* Whether "no port" is right. */
static bool
m_is_full(unsigned d)
{
    return !m_lowest(d) || ev.g[d].d.n_busy;
}

static void
m_close(unsigned d, uint32_t port)
{
    struct mport *p = &m[d][port];

    if (p->state == EVTCHNSTAT_interdomain) {
        struct mport *r = &m[p->rdom][p->rport];

        r->state = EVTCHNSTAT_unbound;
        r->rdom = d;
        r->ruid = ev.g[d].d.uid;
    }
    *p = (struct mport){ 0 };
}

static bool
virq_is_own(uint32_t virq)
{
    return virq == VIRQ_TIMER || virq == VIRQ_DEBUG || virq == VIRQ_XENOPROF ||
           virq == VIRQ_XENPMU;
}

/* ------------------------------------------------------------- operations -- */

/* True: an injected fault may explain the answer @r. */
static bool
faulted(long r)
{
    return ev.fail_at && ev.n_ops >= ev.fail_at && r;
}

static void
do_alloc(unsigned d)
{
    const unsigned remote = 1 + rnd(EV_DOMS + 1);
    struct evtchn_alloc_unbound a = { DOMID_SELF, (domid_t)remote, 0 };
    long r = ev_call(&ev.g[d], EVTCHNOP_alloc_unbound, &a);

    if (r) {
        CHECK(faulted(r) || (r == FH_ENOSPC && m_is_full(d)), "%ld", r);
        return;
    }
    m_given(d, a.port);
    m[d][a.port] = (struct mport){
        .state = EVTCHNSTAT_unbound, .rdom = remote,
        .ruid = ev.g[d].d.ports[a.port].uid,
    };
}

static void
do_bind(unsigned d)
{
    const unsigned remote = 1 + rnd(EV_DOMS + 1);
    const uint32_t rport = rnd(N_PORTS + 2);
    struct evtchn_bind_interdomain b = { (domid_t)remote, rport, 0 };
    struct mport *rp = remote <= EV_DOMS ? m_at(remote, rport) : NULL;
    const bool fits = rp && rp->state == EVTCHNSTAT_unbound && rp->rdom == d;
    long r = ev_call(&ev.g[d], EVTCHNOP_bind_interdomain, &b);

    if (r) {
        if (faulted(r))
            return;
        if (remote > EV_DOMS)
            CHECK(r == FH_ESRCH, "%ld", r);
        else if (!fits)
            CHECK(r == FH_EINVAL, "%ld", r);
        else
            CHECK(r == FH_ENOSPC && m_is_full(d), "%ld", r);
        return;
    }
    CHECK(fits, "%u:%u", remote, rport);
    m_given(d, b.local_port);
    m[d][b.local_port] = (struct mport){
        .state = EVTCHNSTAT_interdomain, .rdom = remote, .rport = rport,
        .is_pending = true,
    };
    rp->state = EVTCHNSTAT_interdomain;
    rp->rport = b.local_port;
}

static void
do_virq(unsigned d)
{
    const uint32_t virq = rnd(NR_VIRQS + 2), vcpu = rnd(EV_VCPUS + 1);
    struct evtchn_bind_virq v = { virq, vcpu, 0 };
    bool is_bound = false;
    long r, want = 0;

    for (uint32_t p = 1; p < N_PORTS; p++)
        is_bound |= m[d][p].state == EVTCHNSTAT_virq && m[d][p].virq == virq &&
                    (!virq_is_own(virq) || m[d][p].vcpu == vcpu);
    if (virq >= NR_VIRQS || (vcpu && !virq_is_own(virq)))
        want = FH_EINVAL;
    else if (vcpu >= EV_VCPUS)
        want = FH_ENOENT;
    else if (is_bound)
        want = FH_EEXIST;
    r = ev_call(&ev.g[d], EVTCHNOP_bind_virq, &v);
    if (faulted(r))
        return;
    CHECK(r == want || (!want && r == FH_ENOSPC && m_is_full(d)), "%ld", r);
    if (r)
        return;
    m_given(d, v.port);
    m[d][v.port] = (struct mport){ .state = EVTCHNSTAT_virq, .virq = virq,
                                   .vcpu = vcpu };
}

static void
do_ipi(unsigned d)
{
    struct evtchn_bind_ipi i = { rnd(EV_VCPUS + 1), 0 };
    const uint32_t vcpu = i.vcpu;
    long r = ev_call(&ev.g[d], EVTCHNOP_bind_ipi, &i);

    if (faulted(r))
        return;
    if (vcpu >= EV_VCPUS) {
        CHECK(r == FH_ENOENT, "%ld", r);
    } else if (r) {
        CHECK(r == FH_ENOSPC && m_is_full(d), "%ld", r);
    } else {
        m_given(d, i.port);
        m[d][i.port] = (struct mport){ .state = EVTCHNSTAT_ipi, .vcpu = vcpu };
    }
}

static void
do_close(unsigned d)
{
    const uint32_t port = rnd(N_PORTS + 2);
    struct mport *p = m_at(d, port);
    long r = ev_close(&ev.g[d], port);

    if (faulted(r))
        return;
    CHECK(r == (p && p->state ? 0 : FH_EINVAL), "%ld", r);
    if (!r)
        m_close(d, port);
}

static void
do_send(unsigned d)
{
    const uint32_t port = rnd(N_PORTS + 2);
    struct mport *p = m_at(d, port);
    long r = ev_send(&ev.g[d], port);

    if (faulted(r))
        return;
    switch (p ? p->state : EVTCHNSTAT_closed) {
    case EVTCHNSTAT_interdomain:
        m[p->rdom][p->rport].is_pending = true;
        break;
    case EVTCHNSTAT_ipi:
        p->is_pending = true;
        break;
    case EVTCHNSTAT_unbound:
        break;
    default:
        CHECK(r == FH_EINVAL, "%ld", r);
        return;
    }
    CHECK(r == 0, "%ld", r);
}

static void
do_raise_virq(unsigned d)
{
    const uint32_t virq = rnd(NR_VIRQS), vcpu = rnd(EV_VCPUS);

    fh_evtchn_raise_virq(&ev.g[d].d, vcpu, virq);
    for (uint32_t p = 1; p < N_PORTS; p++) {
        if (m[d][p].state == EVTCHNSTAT_virq && m[d][p].virq == virq &&
            (!virq_is_own(virq) || m[d][p].vcpu == vcpu))
            m[d][p].is_pending = true;
    }
}

static void
do_bind_vcpu(unsigned d)
{
    const uint32_t port = rnd(N_PORTS + 2), vcpu = rnd(EV_VCPUS + 1);
    struct mport *p = m_at(d, port);
    const bool moves = p && (p->state == EVTCHNSTAT_unbound ||
                             p->state == EVTCHNSTAT_interdomain ||
                             (p->state == EVTCHNSTAT_virq &&
                              !virq_is_own(p->virq)));
    long r = ev_bind_vcpu(&ev.g[d], port, vcpu);

    if (faulted(r))
        return;
    CHECK(r == (vcpu >= EV_VCPUS ? FH_ENOENT : moves ? 0 : FH_EINVAL), "%ld",
          r);
    if (!r)
        p->vcpu = vcpu;
}

static void
do_mask(unsigned d)
{
    const uint32_t port = 1 + rnd(N_PORTS - 1);
    long r;

    if (ev.g[d].d.form == FH_FORM_FIFO && !ev_word(&ev.g[d], port))
        return;
    if (rnd(2)) {
        ev_mask(&ev.g[d], port);
        return;
    }
    r = ev_unmask(&ev.g[d], port);
    CHECK(!r || faulted(r), "%ld", r);
}

static void
do_reset(unsigned d)
{
    struct evtchn_reset e = { DOMID_SELF };
    long r;

    if (rnd(20))
        return;
    ev.fail_at = 0;
    r = ev_call(&ev.g[d], EVTCHNOP_reset, &e);
    CHECK(r == 0, "%ld", r);
    for (uint32_t p = 1; p < N_PORTS; p++) {
        if (m[d][p].state)
            m_close(d, p);
    }
    memset(ev.g[d].head, 0, sizeof(ev.g[d].head));
}

static void
do_fifo(unsigned d)
{
    struct ev_guest *g = &ev.g[d];
    const uint32_t vcpu = rnd(EV_VCPUS + 1), gfn = 1 + rnd(EV_PAGES);
    const bool had = vcpu < EV_VCPUS && g->vcpus[vcpu].control;
    const bool is_fifo = g->d.form == FH_FORM_FIFO, used = g->page_used[gfn];
    long r;

    if (rnd(4))
        return;
    if (!used)
        memset(g->page[gfn], 0, sizeof(g->page[gfn]));
    if (rnd(2)) {
        struct evtchn_init_control i = { gfn, 8 * rnd(503), vcpu, 0, { 0 } };

        if (!had && vcpu < EV_VCPUS)
            memset(g->head[vcpu], 0, sizeof(g->head[vcpu]));
        r = ev_call(g, EVTCHNOP_init_control, &i);
        if (!faulted(r))
            CHECK(r == (vcpu >= EV_VCPUS ? FH_ENOENT
                        : had || used    ? FH_EINVAL
                                         : 0), "%ld", r);
    } else {
        struct evtchn_expand_array x = { gfn };

        r = ev_call(g, EVTCHNOP_expand_array, &x);
        if (!faulted(r))
            CHECK(r == (!is_fifo ? FH_EOPNOTSUPP : used ? FH_EINVAL : 0),
                  "%ld", r);
    }
}

static void
do_priority(unsigned d)
{
    struct evtchn_set_priority s = { rnd(N_PORTS + 2), rnd(18) };
    struct mport *p = m_at(d, s.port);
    long r = ev_call(&ev.g[d], EVTCHNOP_set_priority, &s);

    if (faulted(r))
        return;
    CHECK(r == (!p                                 ? FH_EINVAL
                : ev.g[d].d.form != FH_FORM_FIFO ? FH_ENOSYS
                : !p->state                      ? FH_EACCES
                : s.priority > 15                ? FH_EINVAL
                                                 : 0), "%ld", r);
}

/* ----------------------------------------------------------------- checks -- */

static bool
is_masked(struct ev_guest *g, uint32_t port)
{
    const size_t at = g->d.is_32bit ? FH_MASK_OFFSET_32 : FH_MASK_OFFSET_64;

    if (g->d.form == FH_FORM_FIFO)
        return *(uint32_t *)(uintptr_t)ev_word(g, port) & FH_FIFO_MASKED;
    return g->shared_info[at + port / 8] >> port % 8 & 1;
}

/* Whether the kernel can come to know of an event of @port. */
static bool
is_reachable(struct ev_guest *g, unsigned d, uint32_t port)
{
    if (g->d.form == FH_FORM_FIFO &&
        (!ev_word(g, port) || !g->vcpus[m[d][port].vcpu].control))
        return false;
    return !is_masked(g, port);
}

/* The kernels run: each handles what was sent, once, and nothing else. */
static void
settle(unsigned d)
{
    struct ev_guest *g = &ev.g[d];

    memset(g->handled, 0, sizeof(g->handled[0]) * N_PORTS);
    ev_settle(g);
    for (uint32_t p = 1; p < N_PORTS; p++) {
        const bool may = m[d][p].is_pending && is_reachable(g, d, p);

        CHECK(g->handled[p] == may || (g->handled[p] && m[d][p].is_pending),
              "domain %u port %u: handled %u", d, p, g->handled[p]);
        if (g->handled[p])
            m[d][p].is_pending = false;
    }
}

static void
check_port(unsigned d, uint32_t port)
{
    const struct mport *p = &m[d][port];
    struct evtchn_status s = { 0 };
    bool is_pending = false;

    CHECK(!fh_evtchn_status(&ev.g[d].d, port, &s), "%u", port);
    CHECK(s.status == p->state, "%u: %u, not %u", port, s.status, p->state);
    CHECK(s.vcpu == p->vcpu, "%u", port);
    CHECK(!fh_evtchn_pending(&ev.g[d].d, port, false, &is_pending), "-");
    CHECK(is_pending == p->is_pending, "domain %u port %u is %d", d, port,
          is_pending);
    if (p->state == EVTCHNSTAT_unbound)
        CHECK(s.u.unbound.dom == p->rdom, "%u", port);
    if (p->state != EVTCHNSTAT_interdomain)
        return;
    CHECK(s.u.interdomain.dom == p->rdom && s.u.interdomain.port == p->rport,
          "%u", port);
    CHECK(m[p->rdom][p->rport].rdom == d && m[p->rdom][p->rport].rport == port,
          "both ends name each other: %u", port);
}

static void
check_all(void)
{
    uint32_t refs[EV_DOMS + 1] = { 0 };

    for (unsigned d = 1; d <= EV_DOMS; d++) {
        uint32_t n = 0;

        for (uint32_t p = 1; p < N_PORTS; p++) {
            check_port(d, p);
            n += m[d][p].state != 0;
            if (m[d][p].state == EVTCHNSTAT_interdomain)
                refs[m[d][p].rdom]++;
        }
        CHECK(ev.g[d].d.n_open == n, "%u", d);
    }
    for (unsigned d = 1; d <= EV_DOMS; d++)
        CHECK(ev.g[d].refs == refs[d], "domain %u: %u", d, ev.g[d].refs);
}

static void (*const operations[])(unsigned d) = {
    do_alloc, do_alloc, do_bind, do_bind, do_bind, do_bind, do_virq, do_ipi,
    do_close, do_send, do_send, do_send, do_send, do_raise_virq, do_bind_vcpu,
    do_mask, do_reset, do_fifo, do_priority, settle,
};

static void
run(unsigned n_ops)
{
    rng = seed * 0x9e3779b97f4a7c15ull + 1;
    ev_reset(N_PORTS, seed % 2);
    memset(m, 0, sizeof(m));
    for (n_op = 0; n_op < n_ops; n_op++) {
        const unsigned what = rnd(FH_ARRAY_SIZE(operations));

        ev.n_ops = 0;
        ev.fail_at = rnd(4) ? 0 : 1 + rnd(3);
        ev.always_preempt = rnd(2);
        operations[what](1 + rnd(EV_DOMS));
        ev.fail_at = 0;
        check_all();
    }
    for (unsigned d = 1; d <= EV_DOMS; d++) {
        uint32_t cursor = 0;

        while (fh_evtchn_close_all(&ev.g[d].d, 1 + rnd(3), &cursor))
            ;
    }
    for (unsigned d = 1; d <= EV_DOMS; d++) {
        CHECK(!ev.g[d].refs, "%u", d);
        for (unsigned i = 1; i <= EV_PAGES; i++)
            CHECK(!ev.g[d].page_used[i], "page %u of %u", i, d);
    }
}

int
main(int argc, char **argv)
{
    const uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10)
                                    : (uint64_t)time(NULL);
    const unsigned n_ops = argc > 2 ? (unsigned)atoi(argv[2]) : 1000;
    const unsigned n_runs = argc > 3 ? (unsigned)atoi(argv[3]) : 60;

    printf("seed %llu\n", (unsigned long long)first);
    for (seed = first; seed < first + n_runs; seed++)
        run(n_ops);
    return 0;
}
