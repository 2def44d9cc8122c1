/* SPDX-License-Identifier: MIT */
/*
 * Event channels as a guest sees them: every rule of the public header and of
 * upstream's behaviour that is not about FIFO alone.
 */
#include "evtchn/rules.h"

/* --------------------------------------------------- ports and their ends -- */

static void
evtchn__alloc_takes_the_lowest_port_and_reserves_port_0(void **state)
{
    uint32_t p;

    for (uint32_t i = 1; i < 100; i++)
        EXPECT_EQ(ev_alloc(a, 2), i);
    EXPECT_EQ(ev_close(a, 70), 0);
    EXPECT_EQ(ev_close(a, 7), 0);
    p = ev_alloc(a, 3);
    EXPECT_EQ(p, 7);
    EXPECT_EQ(ev_status(a, p, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(st.u.unbound.dom, 3);
    EXPECT_EQ(ev_close(a, 0), FH_EINVAL);
    EXPECT_EQ(ev_status(a, 0, &st), FH_EINVAL);
}

static void
evtchn__alloc_may_name_self_and_connects_in_a_loop(void **state)
{
    uint32_t p = ev_alloc(a, DOMID_SELF), q;

    EXPECT_EQ(ev_status(a, p, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(st.u.unbound.dom, 1);
    EXPECT_EQ(bind_to(a, DOMID_SELF, p, &q), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[q], 1);
    EXPECT_EQ(ev_send(a, q), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[p], 1);
    EXPECT_EQ(ev_close(a, p), 0);
    EXPECT_EQ(ev_status(a, q, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(a->refs, 0);
}

static void
evtchn__alloc_for_another_domain_needs_a_privilege(void **state)
{
    struct evtchn_alloc_unbound x = { 2, 3, 0 };

    EXPECT_EQ(ev_call(a, EVTCHNOP_alloc_unbound, &x), FH_EPERM);
    x.dom = 77;
    EXPECT_EQ(ev_call(a, EVTCHNOP_alloc_unbound, &x), FH_ESRCH);
    ev.may_control = true;
    x = (struct evtchn_alloc_unbound){ 2, DOMID_SELF, 0 };
    EXPECT_EQ(ev_call(a, EVTCHNOP_alloc_unbound, &x), 0);
    EXPECT_EQ(ev_status(b, x.port, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(st.u.unbound.dom, 1, "self is the caller");
    EXPECT_EQ(b->refs, 0);
}

static void
evtchn__bind_refuses_all_but_a_port_that_waits_for_the_caller(void **state)
{
    const uint32_t pa = ev_alloc(a, 2), taken = ev_alloc(a, 2);
    uint32_t virq, pb, p = 0;

    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 0, &virq), 0);
    EXPECT_EQ(bind_to(b, 1, taken, &pb), 0);
    const struct {
        const char *name;
        struct ev_guest *caller;
        unsigned remote;
        uint32_t port;
        long want;
    } cases[] = {
        { "waits for somebody else", c, 1, pa, FH_EINVAL },
        { "no such domain", b, 9, pa, FH_ESRCH },
        { "a reserved domid", b, DOMID_IO, pa, FH_ESRCH },
        { "port 0", b, 1, 0, FH_EINVAL },
        { "beyond the table", b, 1, N_PORTS, FH_EINVAL },
        { "far beyond", b, 1, UINT32_MAX, FH_EINVAL },
        { "closed", b, 1, 50, FH_EINVAL },
        { "a virq", b, 1, virq, FH_EINVAL },
        { "bound already", b, 1, taken, FH_EINVAL },
    };
    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++)
        EXPECT_EQ(bind_to(cases[i].caller, cases[i].remote, cases[i].port, &p),
                  cases[i].want, "%s", cases[i].name);
    EXPECT_EQ(a->refs, 1);
    EXPECT_EQ(c->refs, 0);
    EXPECT_EQ(c->d.n_open, 0, "nothing stays open");
}

static void
evtchn__bind_makes_both_ends_interdomain_and_the_local_one_pending(void **state)
{
    uint32_t pa, pb;

    ev_connect(a, &pa, b, &pb);
    EXPECT_EQ(ev_status(a, pa, &st), EVTCHNSTAT_interdomain);
    EXPECT_EQ(st.u.interdomain.dom, 2);
    EXPECT_EQ(st.u.interdomain.port, pb);
    EXPECT_EQ(ev_status(b, pb, &st), EVTCHNSTAT_interdomain);
    EXPECT_EQ(st.u.interdomain.dom, 1);
    EXPECT_EQ(st.u.interdomain.port, pa);
    EXPECT(is_pending(b, pb));
    EXPECT(!is_pending(a, pa));
    EXPECT_EQ(b->n_kicks[0], 1);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
}

static void
evtchn__close_leaves_the_peer_waiting_for_the_same_domain(void **state)
{
    uint32_t pa, pb, p;

    connect_quiet(&pa, &pb);
    EXPECT_EQ(ev_bind_vcpu(b, pb, 2), 0);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(ev_close(b, pb), 0);
    EXPECT(!is_pending(b, pb), "cleared");
    EXPECT_EQ(ev_status(b, pb, &st), EVTCHNSTAT_closed);
    EXPECT_EQ(ev_status(a, pa, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(st.u.unbound.dom, 2);
    EXPECT_EQ(a->n_unbound, 1);
    EXPECT_EQ(ev_send(a, pa), 0, "swallowed");
    EXPECT_EQ(bind_to(c, 1, pa, &p), FH_EINVAL);
    ev_settle(b); /* a FIFO port is not free before */
    EXPECT_EQ(bind_to(b, 1, pa, &p), 0);
    EXPECT_EQ(p, pb);
    EXPECT_EQ(ev_status(b, p, &st), EVTCHNSTAT_interdomain);
    EXPECT_EQ(st.vcpu, 0, "the vCPU is not inherited");
    EXPECT(is_pending(b, p));
    EXPECT_EQ(ev_close(b, p), 0);
    EXPECT_EQ(ev_close(b, p), FH_EINVAL);
    EXPECT_EQ(ev_close(b, N_PORTS), FH_EINVAL);
    EXPECT_EQ(a->refs + b->refs, 0);
}

static void
evtchn__a_port_that_waits_is_not_for_a_later_domain_of_that_number(void **state)
{
    uint32_t pa = ev_alloc(a, 2), p, cursor = 0;

    EXPECT_EQ(fh_evtchn_close_all(&b->d, 100, &cursor), 0);
    ev_reborn(2, 500);
    EXPECT_EQ(bind_to(b, 1, pa, &p), FH_EINVAL);
    /* One that was bound and closed waits for its last peer. */
    uint32_t qa, qb;

    ev_connect(a, &qa, b, &qb);
    cursor = 0;
    EXPECT_EQ(fh_evtchn_close_all(&b->d, 100, &cursor), 0);
    EXPECT_EQ(ev_status(a, qa, &st), EVTCHNSTAT_unbound);
    ev_reborn(2, 501);
    EXPECT_EQ(bind_to(b, 1, qa, &p), FH_EINVAL);
    /* Where there was none, the first with the number is meant. */
    ev.is_absent[3] = true;
    pa = ev_alloc(a, 3);
    ev.is_absent[3] = false;
    EXPECT_EQ(bind_to(c, 1, pa, &p), 0);
    EXPECT_EQ(b->refs, 0);
}

static void
evtchn__2_level_has_4096_ports(void **state)
{
    uint32_t p = 0, n = 0;

    while (!bind_ipi(a, 0, &p))
        n++;
    EXPECT_EQ(n, 4095);
    EXPECT_EQ(bind_ipi(a, 0, &p), FH_ENOSPC);
    EXPECT_EQ(ev_send(a, 4095), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[4095], 1);
    EXPECT_EQ(ev_unmask(a, 4096), 0, "no bit, no harm");
    EXPECT_EQ(bind_to(a, 2, ev_alloc(b, 1), &p), FH_ENOSPC);
    EXPECT_EQ(b->refs, 0);
}

static void
evtchn__2_level_of_32_bit_guests_has_1024_ports(void **state)
{
    uint32_t p = 0, n = 0;

    while (!bind_ipi(a, 0, &p))
        n++;
    EXPECT_EQ(n, 1023);
    for (p = 1; p < 1024; p += 31) {
        EXPECT_EQ(ev_send(a, p), 0);
        EXPECT_EQ(a->shared_info[2048 + p / 8], 1u << p % 8);
        EXPECT_EQ(a->shared_info[4 + p / 32 / 8], 1u << p / 32 % 8,
                  "the selector of a 32-bit vcpu_info");
        ev_settle(a);
        EXPECT_EQ(a->handled[p], 1, "%u", p);
    }
    a->shared_info[2176 + 1] = 1; /* mask of port 8 */
    EXPECT_EQ(ev_send(a, 8), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[8], 0);
    EXPECT_EQ(ev_unmask(a, 8), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[8], 1);
}

static void
evtchn__2_level_writes_where_the_header_says(void **state)
{
    struct shared_info *s = (struct shared_info *)(void *)a->shared_info;
    uint32_t p = 0;

    while (p < 200)
        EXPECT_EQ(bind_ipi(a, p == 198 ? 2 : 0, &p), 0);
    EXPECT_EQ(ev_send(a, 199), 0);
    EXPECT_EQ(s->evtchn_pending[199 / 64], 1ull << 199 % 64);
    EXPECT_EQ(s->vcpu_info[2].evtchn_pending_sel, 1ull << 199 / 64);
    EXPECT_EQ(s->vcpu_info[2].evtchn_upcall_pending, 1);
    EXPECT_EQ(s->vcpu_info[0].evtchn_upcall_pending, 0);
    EXPECT_EQ(a->n_kicks[2], 1);
    s->evtchn_mask[1] = 1ull << 36;
    EXPECT_EQ(ev_send(a, 100), 0);
    EXPECT_EQ(s->evtchn_pending[1], 1ull << 36);
    EXPECT_EQ(s->vcpu_info[0].evtchn_pending_sel, 0, "masked");
    EXPECT_EQ(ev_unmask(a, 100), 0);
    EXPECT_EQ(s->evtchn_mask[1], 0);
    EXPECT_EQ(s->vcpu_info[0].evtchn_pending_sel, 2);
}

/* ------------------------------------------------------------ send, unmask -- */

static void
evtchn__sends_until_consumption_are_one_upcall(void **state)
{
    uint32_t pa, pb;

    connect_quiet(&pa, &pb);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[0], 1);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
    EXPECT_EQ(ev_send(a, pa), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 2);
    EXPECT_EQ(b->n_kicks[0], 2);
}

static void
evtchn__a_masked_port_waits_for_its_unmask(void **state)
{
    uint32_t pa, pb;

    connect_quiet(&pa, &pb);
    ev_mask(b, pb);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[0], 0);
    EXPECT(is_pending(b, pb));
    EXPECT_EQ(ev_unmask(b, pb), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
    ev_mask(b, pb);
    EXPECT_EQ(ev_unmask(b, pb), 0);
    EXPECT_EQ(b->n_kicks[0], 1, "nothing was pending");
    EXPECT_EQ(ev_unmask(b, 4000), 0, "a closed port: nothing");
    EXPECT_EQ(ev_unmask(b, N_PORTS), FH_EINVAL);
    EXPECT_EQ(ev_unmask(b, 0), FH_EINVAL);
}

static void
evtchn__send_is_for_channels_and_ipis_only(void **state)
{
    uint32_t virq, ipi;

    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 1, &virq), 0);
    EXPECT_EQ(bind_ipi(a, 2, &ipi), 0);
    EXPECT_EQ(ev_send(a, 0), FH_EINVAL);
    EXPECT_EQ(ev_send(a, 60), FH_EINVAL, "closed");
    EXPECT_EQ(ev_send(a, N_PORTS), FH_EINVAL);
    EXPECT_EQ(ev_send(a, UINT32_MAX), FH_EINVAL);
    EXPECT_EQ(ev_send(a, virq), FH_EINVAL);
    EXPECT_EQ(ev_send(a, ev_alloc(a, 2)), 0, "unbound: swallowed");
    EXPECT_EQ(ev_send(a, ipi), 0);
    EXPECT_EQ(a->n_kicks[2], 1);
    EXPECT_EQ(a->n_kicks[0] + a->n_kicks[1], 0);
}

static void
evtchn__what_the_hypervisor_consumes_refuses_guests(void **state)
{
    uint32_t pa, pb, p;

    EXPECT_EQ(fh_evtchn_consumer_open(&a->d, 1, 2, &pa), 0);
    EXPECT_EQ(ev_send(a, pa), FH_EINVAL);
    EXPECT_EQ(ev_close(a, pa), FH_EINVAL);
    EXPECT_EQ(ev_bind_vcpu(a, pa, 0), FH_EINVAL);
    EXPECT_EQ(ev_status(a, pa, &st), FH_EACCES);
    EXPECT_EQ(ev_unmask(a, pa), 0);
    EXPECT_EQ(bind_to(b, 1, pa, &pb), 0);
    ev_settle(b);
    EXPECT_EQ(ev_send(b, pb), 0);
    EXPECT_EQ(a->n_consumed, 1);
    EXPECT_EQ(a->consumed_port, pa);
    EXPECT_EQ(a->n_kicks[1], 0, "not the guest's");
    EXPECT_EQ(fh_evtchn_consumer_send(&a->d, pa), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 2);
    EXPECT_EQ(fh_evtchn_consumer_send(&b->d, pb), FH_EINVAL);
    EXPECT_EQ(ev_send(a, pa), FH_EINVAL);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
    EXPECT_EQ(ev_status(b, pb, &st), EVTCHNSTAT_interdomain, "reset spares it");
    EXPECT_EQ(fh_evtchn_consumer_close(&b->d, pb), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_consumer_close(&a->d, pa), 0);
    EXPECT_EQ(ev_status(b, pb, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    EXPECT_EQ(p, pa);
    EXPECT_EQ(ev_send(a, p), 0, "a guest's port like any other now");
}

static void
evtchn__a_poller_is_woken_by_any_new_event(void **state)
{
    uint32_t pa, pb;
    bool ready;

    connect_quiet(&pa, &pb);
    ev_mask(b, pb);
    EXPECT_EQ(fh_evtchn_poll(&b->d, &pb, 1, &ready), 0);
    EXPECT(!ready);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_wakes, 1, "though it is masked");
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_wakes, 1, "not new");
    fh_evtchn_poll_end(&b->d);
    EXPECT_EQ(fh_evtchn_poll(&b->d, &pb, 1, &ready), 0);
    EXPECT(ready, "pending already");
    EXPECT_EQ(b->d.n_pollers, 0);
}

/* ------------------------------------------------------- virq, ipi, vcpu -- */

static void
evtchn__bind_virq_checks_number_vcpu_and_uniqueness(void **state)
{
    uint32_t p, q, dom_exc;

    EXPECT_EQ(bind_virq(a, NR_VIRQS, 0, &p), FH_EINVAL);
    EXPECT_EQ(bind_virq(a, UINT32_MAX, 0, &p), FH_EINVAL);
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 1, &p), FH_EINVAL, "a global one");
    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, EV_VCPUS, &p), FH_ENOENT);
    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 1, &p), 0);
    EXPECT_EQ(ev_status(a, p, &st), EVTCHNSTAT_virq);
    EXPECT_EQ(st.u.virq, VIRQ_TIMER);
    EXPECT_EQ(st.vcpu, 1);
    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 1, &q), FH_EEXIST);
    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 2, &q), 0, "another vCPU's");
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &dom_exc), 0);
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &q), FH_EEXIST);
    fh_evtchn_raise_virq(&a->d, 1, VIRQ_TIMER);
    EXPECT_EQ(a->n_kicks[1], 1);
    ev_settle(a);
    EXPECT_EQ(a->handled[p], 1);
    EXPECT_EQ(ev_close(a, p), 0);
    fh_evtchn_raise_virq(&a->d, 1, VIRQ_TIMER);
    fh_evtchn_raise_virq(&a->d, 1, VIRQ_DEBUG);
    fh_evtchn_raise_virq(&a->d, 9, VIRQ_DEBUG);
    EXPECT_EQ(a->n_kicks[1], 1, "bound to nothing");
    EXPECT_EQ(bind_virq(a, VIRQ_TIMER, 1, &p), 0);
    EXPECT_EQ(ev_bind_vcpu(a, dom_exc, 2), 0);
    a->n_kicks[2] = 0;
    fh_evtchn_raise_virq(&a->d, 0, VIRQ_DOM_EXC);
    EXPECT_EQ(a->n_kicks[2], 1, "a global one moves");
    EXPECT_EQ(ev_close(a, dom_exc), 0);
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &p), 0);
}

static void
evtchn__bind_vcpu_moves_what_may_move(void **state)
{
    uint32_t pa, pb, ipi, virq;

    connect_quiet(&pa, &pb);
    EXPECT_EQ(bind_ipi(b, 1, &ipi), 0);
    EXPECT_EQ(bind_ipi(b, EV_VCPUS, &virq), FH_ENOENT);
    EXPECT_EQ(bind_virq(b, VIRQ_DEBUG, 0, &virq), 0);
    EXPECT_EQ(ev_bind_vcpu(b, pb, EV_VCPUS), FH_ENOENT);
    EXPECT_EQ(ev_bind_vcpu(b, ipi, 0), FH_EINVAL);
    EXPECT_EQ(ev_bind_vcpu(b, virq, 0), FH_EINVAL);
    EXPECT_EQ(ev_bind_vcpu(b, 99, 0), FH_EINVAL, "closed");
    EXPECT_EQ(ev_bind_vcpu(b, N_PORTS, 0), FH_EINVAL);
    EXPECT_EQ(ev_bind_vcpu(b, pb, 2), 0);
    EXPECT_EQ(ev_status(b, pb, &st), EVTCHNSTAT_interdomain);
    EXPECT_EQ(st.vcpu, 2);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[2], 1);
    ev_settle(b);
    EXPECT_EQ(b->handled_on[pb], 2);
}

static void
evtchn__bind_pirq_and_unknown_operations_are_refused(void **state)
{
    struct evtchn_bind_pirq p = { 1, 0, 0 };

    EXPECT_EQ(ev_call(a, EVTCHNOP_bind_pirq, &p), FH_EPERM);
    for (uint32_t cmd = 16; cmd < 4096; cmd += 17)
        EXPECT_EQ(ev_call(a, cmd, &p), FH_ENOSYS, "%u", cmd);
    EXPECT_EQ(ev_call(a, UINT32_MAX, &p), FH_ENOSYS);
}

static void
evtchn__status_of_another_domain_needs_a_privilege(void **state)
{
    struct evtchn_status s = { .dom = 2, .port = ev_alloc(b, 1) };

    EXPECT_EQ(ev_call(a, EVTCHNOP_status, &s), FH_EPERM);
    s.dom = 50;
    EXPECT_EQ(ev_call(a, EVTCHNOP_status, &s), FH_ESRCH);
    ev.may_control = true;
    s.dom = 2;
    EXPECT_EQ(ev_call(a, EVTCHNOP_status, &s), 0);
    EXPECT_EQ(s.status, EVTCHNSTAT_unbound);
    EXPECT_EQ(s.dom, 2);
    s.port = N_PORTS;
    EXPECT_EQ(ev_call(a, EVTCHNOP_status, &s), FH_EINVAL);
    s.port = 77;
    EXPECT_EQ(ev_call(a, EVTCHNOP_status, &s), 0);
    EXPECT_EQ(s.status, EVTCHNSTAT_closed);
    EXPECT_EQ(b->refs, 0);
}

static void
evtchn__an_answer_that_cannot_be_written_undoes_the_op(void **state)
{
    const uint32_t waiting = ev_alloc(a, 2);
    struct {
        const char *name;
        uint32_t cmd;
        union {
            struct evtchn_alloc_unbound alloc;
            struct evtchn_bind_interdomain bind;
            struct evtchn_bind_virq virq;
            struct evtchn_bind_ipi ipi;
        } u;
    } cases[] = {
        { "alloc", EVTCHNOP_alloc_unbound, { .alloc = { DOMID_SELF, 9, 0 } } },
        { "bind", EVTCHNOP_bind_interdomain, { .bind = { 1, waiting, 0 } } },
        { "virq", EVTCHNOP_bind_virq, { .virq = { VIRQ_DEBUG, 1, 0 } } },
        { "ipi", EVTCHNOP_bind_ipi, { .ipi = { 1, 0 } } },
    };
    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        uint32_t n = 0;

        for (ev.fail_at = 1;; ev.fail_at++, n++) {
            ev.n_ops = 0;
            if (!ev_call(b, cases[i].cmd, &cases[i].u))
                break;
            EXPECT_EQ(b->d.n_open, 0, "%s, %u", cases[i].name, ev.fail_at);
            EXPECT_EQ(ev_status(a, waiting, &st), EVTCHNSTAT_unbound);
        }
        EXPECT(n >= 2, "%s", cases[i].name);
        ev.fail_at = 0;
        EXPECT_EQ(reset(b, DOMID_SELF), 0);
    }
    EXPECT_EQ(a->refs + b->refs, 0);
}

/* ------------------------------------------------------------------ reset -- */

static void
evtchn__reset_closes_all_and_goes_back_to_2_level(void **state)
{
    uint32_t pa, pb, p;

    ev_go_fifo(b, 5);
    ev_connect(a, &pa, b, &pb);
    EXPECT_EQ(bind_ipi(b, 0, &p), 0);
    EXPECT_EQ(reset(b, DOMID_SELF), 0);
    EXPECT_EQ(b->d.n_open, 0);
    EXPECT_EQ(b->d.form, FH_FORM_2L);
    for (unsigned i = 1; i <= EV_PAGES; i++)
        EXPECT(!b->page_used[i], "page %u is put back", i);
    EXPECT_EQ(ev_status(a, pa, &st), EVTCHNSTAT_unbound);
    EXPECT_EQ(bind_to(b, 1, pa, &pb), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1, "2-level");
    ev_go_fifo(b, 5);
    EXPECT_EQ(reset(b, DOMID_SELF), 0);
}

static void
evtchn__reset_is_preempted_and_goes_on(void **state)
{
    struct evtchn_reset r = { DOMID_SELF };
    uint32_t p, cmd = EVTCHNOP_reset, other = EVTCHNOP_reset, n = 0;

    for (int i = 0; i < 1000; i++)
        EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    other = FH_EVTCHNOP_RESET_CONT;
    EXPECT_EQ(fh_evtchn_hypercall(&a->d, &other, (void *)&r), FH_EBUSY,
              "nothing to resume");
    ev.always_preempt = true;
    while (fh_evtchn_hypercall(&a->d, &cmd, (void *)&r) > 0) {
        EXPECT_EQ(cmd, FH_EVTCHNOP_RESET_CONT);
        EXPECT(a->d.n_open >= 1000 - 64 * ++n, "64 at a time");
        other = EVTCHNOP_reset;
        EXPECT_EQ(fh_evtchn_hypercall(&a->d, &other, (void *)&r), FH_EBUSY,
                  "one at a time");
    }
    EXPECT_EQ(n, 1000 / 64);
    EXPECT_EQ(a->d.n_open, 0);
    other = FH_EVTCHNOP_RESET_CONT;
    EXPECT_EQ(fh_evtchn_hypercall(&a->d, &other, (void *)&r), FH_EBUSY);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
}

static void
evtchn__reset_says_so_when_ports_were_opened_behind_it(void **state)
{
    struct evtchn_reset r = { DOMID_SELF };
    uint32_t p, cmd = EVTCHNOP_reset;

    ev_go_fifo(a, 5);
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    ev.always_preempt = true;
    EXPECT_EQ(fh_evtchn_hypercall(&a->d, &cmd, (void *)&r), 1);
    EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    EXPECT_EQ(p, 1);
    EXPECT_EQ(fh_evtchn_hypercall(&a->d, &cmd, (void *)&r), FH_EAGAIN);
    EXPECT_EQ(a->d.form, FH_FORM_FIFO, "its pages are in use");
    EXPECT(a->page_used[1]);
    EXPECT_EQ(ev_send(a, p), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[p], 1);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
    EXPECT_EQ(a->d.form, FH_FORM_2L);
}

static void
evtchn__reset_of_another_domain_needs_a_privilege(void **state)
{
    uint32_t p;

    EXPECT_EQ(bind_ipi(b, 0, &p), 0);
    EXPECT_EQ(reset(a, 2), FH_EPERM);
    EXPECT_EQ(reset(a, 60), FH_ESRCH);
    EXPECT_EQ(b->d.n_open, 1);
    ev.may_control = true;
    EXPECT_EQ(reset(a, 2), 0);
    EXPECT_EQ(b->d.n_open, 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(evtchn__alloc_takes_the_lowest_port_and_reserves_port_0),
        BOTH(evtchn__alloc_may_name_self_and_connects_in_a_loop),
        T(evtchn__alloc_for_another_domain_needs_a_privilege),
        BOTH(evtchn__bind_refuses_all_but_a_port_that_waits_for_the_caller),
        BOTH(evtchn__bind_makes_both_ends_interdomain_and_the_local_one_pending),
        BOTH(evtchn__close_leaves_the_peer_waiting_for_the_same_domain),
        T(evtchn__a_port_that_waits_is_not_for_a_later_domain_of_that_number),
        T(evtchn__2_level_has_4096_ports),
        cmocka_unit_test_setup(evtchn__2_level_of_32_bit_guests_has_1024_ports,
                               setup_32),
        T(evtchn__2_level_writes_where_the_header_says),
        BOTH(evtchn__sends_until_consumption_are_one_upcall),
        BOTH(evtchn__a_masked_port_waits_for_its_unmask),
        BOTH(evtchn__send_is_for_channels_and_ipis_only),
        BOTH(evtchn__what_the_hypervisor_consumes_refuses_guests),
        BOTH(evtchn__a_poller_is_woken_by_any_new_event),
        BOTH(evtchn__bind_virq_checks_number_vcpu_and_uniqueness),
        BOTH(evtchn__bind_vcpu_moves_what_may_move),
        T(evtchn__bind_pirq_and_unknown_operations_are_refused),
        T(evtchn__status_of_another_domain_needs_a_privilege),
        BOTH(evtchn__an_answer_that_cannot_be_written_undoes_the_op),
        T(evtchn__reset_closes_all_and_goes_back_to_2_level),
        BOTH(evtchn__reset_is_preempted_and_goes_on),
        T(evtchn__reset_says_so_when_ports_were_opened_behind_it),
        T(evtchn__reset_of_another_domain_needs_a_privilege),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
