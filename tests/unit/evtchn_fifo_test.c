/* SPDX-License-Identifier: MIT */
/*
 * The FIFO ABI, storms, death, and what each advisory about event channels was
 * about.
 */
#include "evtchn/rules.h"

/* ------------------------------------------------------------------- FIFO -- */

static void
evtchn__init_control_checks_its_arguments(void **state)
{
    EXPECT_EQ(expand(a, 1), FH_EOPNOTSUPP, "not FIFO yet");
    EXPECT_EQ(set_priority(a, ev_alloc(a, 2), 3), FH_ENOSYS);
    EXPECT_EQ(init_control(a, 1, 0, EV_VCPUS), FH_ENOENT);
    EXPECT_EQ(init_control(a, 1, 4096 - 64, 0), FH_EINVAL, "crosses the page");
    EXPECT_EQ(init_control(a, 1, UINT32_MAX & ~7u, 0), FH_EINVAL);
    EXPECT_EQ(init_control(a, 1, 4, 0), FH_EINVAL, "not aligned");
    EXPECT_EQ(init_control(a, 99, 0, 0), FH_EINVAL, "no such page");
    EXPECT_EQ(a->d.form, FH_FORM_2L, "nothing has changed");
    EXPECT_EQ(init_control(a, 1, 4096 - 72, 0), 0);
    EXPECT_EQ(a->d.form, FH_FORM_FIFO);
    EXPECT_EQ(init_control(a, 2, 0, 0), FH_EINVAL, "has one");
    EXPECT(!a->page_used[2]);
    EXPECT_EQ(init_control(a, 2, 0, 1), 0);
}

static void
evtchn__expand_array_adds_pages_up_to_the_last(void **state)
{
    EXPECT_EQ(init_control(a, 8, 0, 0), 0);
    EXPECT_EQ(expand(a, 70), FH_EINVAL);
    EXPECT_EQ(expand(a, 8), FH_EINVAL, "in use");
    for (uint64_t i = 1; i <= 7; i++)
        EXPECT_EQ(expand(a, i), 0);
    a->d.n_pages = FH_EVTCHN_PAGES_MAX;
    EXPECT_EQ(expand(a, 7), FH_ENOSPC);
    a->d.n_pages = 7;
}

static void
evtchn__set_priority_checks_and_orders_the_queues(void **state)
{
    uint32_t p[3], q[3];

    for (int i = 0; i < 3; i++)
        connect_quiet(&p[i], &q[i]);
    EXPECT_EQ(set_priority(b, q[0], 16), FH_EINVAL);
    EXPECT_EQ(set_priority(b, 77, 3), FH_EACCES, "closed");
    EXPECT_EQ(set_priority(b, N_PORTS, 3), FH_EINVAL);
    EXPECT_EQ(set_priority(b, 0, 3), FH_EINVAL);
    EXPECT_EQ(set_priority(b, q[0], 15), 0);
    EXPECT_EQ(set_priority(b, q[2], 0), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(ev_send(a, p[i]), 0);
    ev_settle(b);
    EXPECT_EQ(b->n_order, 3);
    EXPECT_EQ(b->order[0], q[2]);
    EXPECT_EQ(b->order[1], q[1], "7 is the default");
    EXPECT_EQ(b->order[2], q[0]);
}

static void
evtchn__fifo_keeps_the_order_and_kicks_once(void **state)
{
    uint32_t p[20], q[20];

    for (int i = 0; i < 20; i++)
        connect_quiet(&p[i], &q[i]);
    for (int i = 19; i >= 0; i--)
        EXPECT_EQ(ev_send(a, p[i]), 0);
    EXPECT_EQ(b->n_kicks[0], 1);
    ev_settle(b);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT_EQ(b->order[i], q[19 - i]);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT_EQ(*(uint32_t *)(uintptr_t)ev_word(b, q[i]), 0);
}

static void
evtchn__fifo_addresses_every_port_of_its_table(void **state)
{
    uint32_t p, n = 0;

    while (!bind_ipi(a, 0, &p))
        n++;
    EXPECT_EQ(n, N_PORTS - 1);
    EXPECT_EQ(ev_send(a, N_PORTS - 1), 0);
    ev_settle(a);
    EXPECT_EQ(a->handled[N_PORTS - 1], 1);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
    EXPECT_EQ(ev_unmask(a, N_PORTS - 1), 0);
}

static void
evtchn__fifo_replays_what_was_pending_without_a_page(void **state)
{
    uint32_t pa, pb, q;

    ev_connect(a, &pa, b, &pb);
    EXPECT(is_pending(b, pb), "2-level");
    EXPECT_EQ(init_control(b, 8, 0, 0), 0);
    EXPECT(is_pending(b, pb), "kept");
    EXPECT_EQ(bind_ipi(b, 0, &q), 0);
    EXPECT_EQ(ev_send(b, q), 0);
    EXPECT(is_pending(b, q));
    ev_settle(b);
    EXPECT_EQ(b->handled[pb] + b->handled[q], 0);
    EXPECT_EQ(expand(b, 1), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
    EXPECT_EQ(b->handled[q], 1);
    struct fh_evtchn_counts counts;
    fh_evtchn_counts(&b->d, &counts);
    EXPECT_EQ(counts.replayed, 2);
}

static void
evtchn__fifo_replays_what_had_no_control_block(void **state)
{
    uint32_t pa, pb;

    EXPECT_EQ(init_control(b, 8, 0, 0), 0);
    EXPECT_EQ(expand(b, 1), 0);
    ev_connect(a, &pa, b, &pb);
    ev_settle(b);
    EXPECT_EQ(ev_bind_vcpu(b, pb, 1), 0);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[1], 0);
    ev.always_preempt = true;
    EXPECT_EQ(init_control(b, 8, 80, 1), FH_EINVAL, "page 8 is in use");
    EXPECT_EQ(init_control(b, 7, 80, 1), 0);
    EXPECT(ev.n_preempted > 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 2);
    EXPECT_EQ(b->handled_on[pb], 1);
}

static void
evtchn__fifo_moves_a_port_between_vcpus_without_mixing_queues(void **state)
{
    uint32_t p[3], q[3];
    struct fh_evtchn_counts counts;

    for (int i = 0; i < 3; i++)
        connect_quiet(&p[i], &q[i]);
    EXPECT_EQ(ev_send(a, p[0]), 0);
    ev_settle(b); /* q[0] is vCPU 0's tail, consumed */
    EXPECT_EQ(ev_bind_vcpu(b, q[0], 1), 0);
    EXPECT_EQ(ev_send(a, p[0]), 0); /* linked on vCPU 1 */
    EXPECT_EQ(ev_send(a, p[1]), 0); /* must not go behind q[0] */
    EXPECT(b->is_kicked[0] && b->is_kicked[1]);
    ev_upcall(b, 0);
    EXPECT_EQ(b->handled[q[1]], 1);
    EXPECT_EQ(b->handled_on[q[1]], 0);
    ev_upcall(b, 1);
    EXPECT_EQ(b->handled[q[0]], 2);
    EXPECT_EQ(b->handled_on[q[0]], 1);
    fh_evtchn_counts(&b->d, &counts);
    EXPECT_EQ(counts.moved, 1);
}

static void
evtchn__fifo_port_is_not_reused_while_linked(void **state)
{
    uint32_t pa, pb, p;

    connect_quiet(&pa, &pb);
    EXPECT_EQ(ev_bind_vcpu(b, pb, 2), 0);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(ev_close(b, pb), 0);
    EXPECT(*(uint32_t *)(uintptr_t)ev_word(b, pb) & FH_FIFO_LINKED);
    EXPECT_EQ(bind_ipi(b, 0, &p), 0);
    EXPECT(p != pb, "its next event would be in vCPU 2's queue");
    EXPECT_EQ(b->d.n_busy, 1);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 0, "closed: no longer pending");
    EXPECT_EQ(bind_ipi(b, 0, &p), 0);
    EXPECT_EQ(p, pb, "consumed: free again");
    EXPECT_EQ(b->d.n_busy, 0);
}

static void
evtchn__fifo_guest_that_links_all_its_words_runs_out_of_ports(void **state)
{
    uint32_t p, n = 0;

    for (uint32_t i = 1; i < N_PORTS; i++)
        *(uint32_t *)(uintptr_t)ev_word(b, i) = UINT32_MAX;
    EXPECT_EQ(bind_ipi(b, 0, &p), FH_ENOSPC);
    EXPECT_EQ(b->d.n_busy, FH_BUSY_TRIES, "a bounded look");
    for (uint32_t i = 1; i < N_PORTS; i++)
        *(uint32_t *)(uintptr_t)ev_word(b, i) = 0;
    while (!bind_ipi(b, 0, &p))
        n++;
    EXPECT_EQ(n, N_PORTS - 1, "none is lost");
}

static void
evtchn__fifo_pending_and_link_race_loses_nothing(void **state)
{
    uint32_t pa, pb;

    /* An event between the guest's taking LINKED away and its look at PENDING
     * is linked anew; one while it is LINKED is found. */
    connect_quiet(&pa, &pb);
    FH_SHARED uint32_t *word = ev_word(b, pb);

    EXPECT_EQ(ev_send(a, pa), 0);
    (void)fh_fetch_and32(word, ~(FH_FIFO_LINKED | FH_FIFO_LINK));
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT(fh_load_relaxed32(word) & FH_FIFO_LINKED);
    (void)fh_fetch_and32(word, ~FH_FIFO_PENDING);
    EXPECT_EQ(ev_send(a, pa), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
}

static void
evtchn__fifo_of_a_hostile_guest_costs_a_bounded_number_of_steps(void **state)
{
    uint32_t p[3], q[3];

    for (int i = 0; i < 3; i++)
        connect_quiet(&p[i], &q[i]);
    for (uint32_t seed = 1; seed < 3000; seed++) {
        uint32_t x = seed * 2654435761u;

        for (int i = 0; i < 3; i++) {
            *(uint32_t *)(uintptr_t)ev_word(b, q[i]) = x;
            x = x * 1664525 + 1013904223;
        }
        memset(b->page[6] + 80, (int)(x >> 24), 72);
        EXPECT_EQ(ev_send(a, p[x >> 16 & 1]), 0);
        EXPECT_EQ(ev_unmask(b, q[x >> 8 & 1]), 0);
        EXPECT_EQ(ev_send(a, p[2]), 0);
    }
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(ev_status(b, q[i], &st), EVTCHNSTAT_interdomain);
        EXPECT_EQ(ev_close(b, q[i]), 0);
    }
    EXPECT_EQ(reset(b, DOMID_SELF), 0, "and no port is lost");
    EXPECT_EQ(b->d.n_busy, 0);
}

/* ------------------------------------------------- storms, vCPUs, death -- */

static void
evtchn__a_storm_costs_the_receiver_its_budget_and_loses_nothing(void **state)
{
    uint32_t pa, pb;
    struct fh_evtchn_counts counts;

    connect_quiet(&pa, &pb);
    EXPECT_EQ(fh_evtchn_refill(&b->d, 3), 0);
    for (uint32_t i = 0; i < 1000; i++) {
        EXPECT_EQ(ev_send(a, pa), 0);
        ev_settle(b);
    }
    EXPECT_EQ(b->n_kicks[0], 3);
    EXPECT(is_pending(b, pb));
    EXPECT_EQ(fh_evtchn_refill(&b->d, 2), 1, "what was put off");
    ev_settle(b);
    EXPECT_EQ(b->n_kicks[0], 4);
    EXPECT_EQ(b->handled[pb], 4);
    EXPECT_EQ(fh_evtchn_refill(&b->d, 0), 0);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[0], 4);
    EXPECT_EQ(fh_evtchn_refill(&b->d, FH_EVTCHN_UNLIMITED), 1);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 5);
    fh_evtchn_counts(&b->d, &counts);
    EXPECT_EQ(counts.held, 2);
}

static void
evtchn__a_registered_vcpu_info_is_used_and_all_is_marked(void **state)
{
    struct vcpu_info *v = (struct vcpu_info *)(void *)b->vcpu_info[0];
    uint32_t pa, pb;

    ev_connect(a, &pa, b, &pb);
    EXPECT_EQ(fh_evtchn_vcpu_info(&b->d, EV_VCPUS, b->vcpu_info[0]),
              FH_ENOENT);
    EXPECT_EQ(fh_evtchn_vcpu_info(&b->d, 0,
                                  (FH_SHARED void *)b->vcpu_info[0]), 0);
    EXPECT_EQ(v->evtchn_upcall_pending, 1);
    EXPECT_EQ(v->evtchn_pending_sel, UINT64_MAX);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(v->evtchn_pending_sel, 1);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 2);
    /* A vCPU that has none yet is kicked each time. */
    b->vcpus[2].info = 0;
    EXPECT_EQ(ev_bind_vcpu(b, pb, 2), 0);
    EXPECT_EQ(ev_send(a, pa), 0);
    EXPECT_EQ(b->n_kicks[2], 1);
    EXPECT_EQ(fh_evtchn_vcpu_info(&b->d, 2,
                                  (FH_SHARED void *)b->vcpu_info[2]), 0);
    ev_settle(b);
    EXPECT_EQ(b->handled_on[pb], 2);
}

static void
evtchn__death_is_preemptible_and_gives_everything_back(void **state)
{
    uint32_t pa, pb, cursor = 0, steps = 1, p;

    for (int i = 0; i < 500; i++)
        ev_connect(a, &pa, b, &pb);
    EXPECT_EQ(bind_virq(b, VIRQ_TIMER, 0, &p), 0);
    EXPECT_EQ(fh_evtchn_consumer_open(&b->d, 0, 1, &p), 0);
    EXPECT_EQ(bind_to(a, 2, p, &pa), 0);
    while (fh_evtchn_close_all(&b->d, 10, &cursor)) {
        steps++;
        EXPECT_EQ(bind_ipi(b, 0, &p), FH_EINVAL, "dying");
        EXPECT_EQ(bind_to(a, 2, 502, &p), FH_EINVAL);
        EXPECT_EQ(ev_send(a, pa), 0);
    }
    EXPECT_EQ(steps, 51, "10 at a time");
    EXPECT_EQ(b->d.n_open + b->d.n_consumed, 0);
    EXPECT_EQ(a->refs + b->refs, 0);
    for (unsigned i = 1; i <= EV_PAGES; i++)
        EXPECT(!b->page_used[i]);
    EXPECT_EQ(init_control(b, 1, 0, 0), FH_EINVAL, "no page after death");
    EXPECT_EQ(ev_status(a, 1, &st), EVTCHNSTAT_unbound);
}

/* -------------------------------------------------------------- advisories -- */

static void
evtchn__xsa_107_vcpu_without_control_block(void **state)
{
    uint32_t pa, pb;

    /* A guest that gives only vCPU 0 one, and sends to the others. */
    EXPECT_EQ(init_control(b, 8, 0, 0), 0);
    EXPECT_EQ(expand(b, 1), 0);
    ev_connect(a, &pa, b, &pb);
    for (uint32_t v = 0; v < EV_VCPUS; v++) {
        EXPECT_EQ(ev_bind_vcpu(b, pb, v), 0);
        EXPECT_EQ(ev_send(a, pa), 0);
        EXPECT_EQ(ev_unmask(b, pb), 0);
    }
    EXPECT_EQ(ev_close(b, pb), 0);
}

static void
evtchn__xsa_188_failed_init_leaves_no_dangling_control_block(void **state)
{
    uint32_t pa, pb;

    EXPECT_EQ(init_control(b, 99, 0, 0), FH_EINVAL);
    EXPECT_EQ(b->vcpus[0].control, 0);
    EXPECT_EQ(b->d.form, FH_FORM_2L);
    ev_connect(a, &pa, b, &pb);
    ev_settle(b);
    EXPECT_EQ(b->handled[pb], 1);
    ev_go_fifo(b, 5);
    EXPECT_EQ(reset(b, DOMID_SELF), 0);
    for (uint32_t v = 0; v < EV_VCPUS; v++)
        EXPECT_EQ(b->vcpus[v].control, 0);
    EXPECT_EQ(init_control(b, 99, 0, 1), FH_EINVAL);
}

static void
evtchn__xsa_221_poll_of_a_port_that_was_never_there(void **state)
{
    const uint32_t ports[] = { 1, 3000, N_PORTS - 1 };
    uint32_t bad = N_PORTS;
    bool ready = true;

    EXPECT_EQ(fh_evtchn_poll(&a->d, ports, 3, &ready), 0);
    EXPECT(!ready);
    fh_evtchn_poll_end(&a->d);
    EXPECT_EQ(fh_evtchn_poll(&a->d, &bad, 1, &ready), FH_EINVAL);
    bad = 0;
    EXPECT_EQ(fh_evtchn_poll(&a->d, &bad, 1, &ready), FH_EINVAL);
    EXPECT_EQ(a->d.n_pollers, 0);
    EXPECT_EQ(init_control(a, 8, 0, 0), 0);
    EXPECT_EQ(fh_evtchn_poll(&a->d, ports, 3, &ready), 0, "no array page");
    EXPECT(!ready);
}

static void
evtchn__xsa_338_343_ports_stay_valid_over_fifo_and_reset(void **state)
{
    uint32_t p = 0, q;
    bool ready;

    /* Valid with FIFO, without a bit in 2-level. */
    ev_go_fifo(a, 5);
    while (p < 4500)
        EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    EXPECT_EQ(fh_evtchn_consumer_open(&a->d, 0, 2, &q), 0);
    EXPECT_EQ(bind_to(b, 1, q, &p), 0);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
    EXPECT_EQ(a->d.form, FH_FORM_2L);
    EXPECT_EQ(ev_status(a, 4500, &st), EVTCHNSTAT_closed, "still valid");
    EXPECT_EQ(ev_send(a, 4500), FH_EINVAL);
    EXPECT_EQ(ev_unmask(a, 4500), 0);
    EXPECT_EQ(ev_unmask(a, q), 0, "consumed, and beyond 2-level");
    EXPECT_EQ(fh_evtchn_poll(&a->d, &q, 1, &ready), 0);
    fh_evtchn_poll_end(&a->d);
    EXPECT_EQ(ev_send(b, p), 0);
    EXPECT_EQ(a->n_consumed, 1);
    EXPECT_EQ(fh_evtchn_consumer_close(&a->d, q), 0);
}

static void
evtchn__xsa_342_ports_beyond_the_form_are_not_given_out(void **state)
{
    uint32_t p = 0;

    while (!bind_ipi(a, 0, &p))
        ;
    EXPECT_EQ(a->d.n_open, 4095);
    ev_go_fifo(a, 5);
    EXPECT_EQ(bind_ipi(a, 0, &p), 0);
    EXPECT_EQ(p, 4096);
    EXPECT_EQ(reset(a, DOMID_SELF), 0);
    while (!bind_ipi(a, 0, &p))
        ;
    EXPECT_EQ(a->d.n_open, 4095, "2-level again");
}

/* 340, 358 and 359 are orderings: what a send must see once it sees the port.
 * tests/model has the pairs; here, that each step is in its place. */
static void
evtchn__xsa_340_358_359_a_port_is_visible_only_when_complete(void **state)
{
    uint32_t pa = ev_alloc(a, 2), pb;
    struct fh_evtchn_port *p = &a->d.ports[pa];

    /* While the port changes (BUSY), a send goes by what was before. */
    fh_link_freeze(&p->link, FH_LINK_BUSY);
    EXPECT_EQ(ev_send(a, pa), 0, "swallowed");
    fh_link_set(&p->link, fh_link(EVTCHNSTAT_unbound, 2, 0));
    fh_link_freeze(&p->link, FH_LINK_FROZEN);
    EXPECT_EQ(ev_send(a, pa), FH_EINVAL, "as after the close");
    fh_link_set(&p->link, fh_link(EVTCHNSTAT_unbound, 2, 0));
    EXPECT_EQ(bind_to(b, 1, pa, &pb), 0);
    EXPECT(is_pending(b, pb), "so what was swallowed is noticed");
    EXPECT_EQ(ev_close(b, pb), 0);
    EXPECT_EQ(ev_close(a, pa), 0);
}

static void
evtchn__xsa_344_closing_many_ports_is_in_bounded_steps(void **state)
{
    uint32_t p, cursor = 0, before;

    while (!bind_ipi(a, 0, &p))
        ;
    before = a->d.n_open;
    EXPECT_EQ(fh_evtchn_close_all(&a->d, 64, &cursor), FH_EVTCHN_E_PREEMPTED);
    EXPECT_EQ(a->d.n_open, before - 64);
    while (fh_evtchn_close_all(&a->d, 64, &cursor))
        ;
    EXPECT_EQ(a->d.n_open, 0);
}

static void
evtchn__xsa_496_a_failed_bind_virq_leaves_nothing_behind(void **state)
{
    uint32_t p, q;

    ev.virq_answer = FH_EBUSY;
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &p), FH_EBUSY);
    EXPECT_EQ(a->d.n_open, 0);
    ev.virq_answer = 0;
    while (!bind_ipi(a, 0, &p))
        ;
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &q), FH_ENOSPC);
    EXPECT_EQ(a->vcpus[0].virq_port[VIRQ_DOM_EXC], 0);
    fh_evtchn_raise_virq(&a->d, 0, VIRQ_DOM_EXC);
    EXPECT_EQ(ev_close(a, 17), 0);
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &q), 0);
    EXPECT_EQ(q, 17);
    EXPECT_EQ(bind_virq(a, VIRQ_DOM_EXC, 0, &p), FH_EEXIST);
}

/* The page is looked up between two looks at the form: a reset there. */
static bool reset_in_page_get;

static FH_SHARED void *
page_get_resets(void *hv, struct fh_evtchn_domain *d, uint64_t gfn)
{
    FH_SHARED void *page = ev_ops.page_get(hv, d, gfn);

    if (reset_in_page_get) {
        reset_in_page_get = false;
        EXPECT_EQ(fh_evtchn_reset(d, false), 0);
    }
    return page;
}

static void
evtchn__xsa_505_expand_array_while_a_reset_ends(void **state)
{
    struct fh_evtchn_ops racing = ev_ops;

    racing.page_get = page_get_resets;
    EXPECT_EQ(init_control(a, 8, 0, 0), 0);
    a->d.ops = &racing;
    reset_in_page_get = true;
    EXPECT_EQ(expand(a, 1), FH_EOPNOTSUPP);
    EXPECT(!a->page_used[1], "put back");
    EXPECT_EQ(a->d.n_pages, 0);
    EXPECT_EQ(a->d.pages[0], 0);
    reset_in_page_get = true;
    EXPECT_EQ(init_control(a, 8, 0, 0), 0, "FIFO anew, after the reset");
    EXPECT_EQ(a->d.form, FH_FORM_FIFO);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        T(evtchn__init_control_checks_its_arguments),
        T(evtchn__expand_array_adds_pages_up_to_the_last),
        F(evtchn__set_priority_checks_and_orders_the_queues),
        F(evtchn__fifo_keeps_the_order_and_kicks_once),
        F(evtchn__fifo_addresses_every_port_of_its_table),
        T(evtchn__fifo_replays_what_was_pending_without_a_page),
        T(evtchn__fifo_replays_what_had_no_control_block),
        F(evtchn__fifo_moves_a_port_between_vcpus_without_mixing_queues),
        F(evtchn__fifo_port_is_not_reused_while_linked),
        F(evtchn__fifo_guest_that_links_all_its_words_runs_out_of_ports),
        F(evtchn__fifo_pending_and_link_race_loses_nothing),
        F(evtchn__fifo_of_a_hostile_guest_costs_a_bounded_number_of_steps),
        BOTH(evtchn__a_storm_costs_the_receiver_its_budget_and_loses_nothing),
        T(evtchn__a_registered_vcpu_info_is_used_and_all_is_marked),
        BOTH(evtchn__death_is_preemptible_and_gives_everything_back),
        T(evtchn__xsa_107_vcpu_without_control_block),
        T(evtchn__xsa_188_failed_init_leaves_no_dangling_control_block),
        T(evtchn__xsa_221_poll_of_a_port_that_was_never_there),
        T(evtchn__xsa_338_343_ports_stay_valid_over_fifo_and_reset),
        T(evtchn__xsa_342_ports_beyond_the_form_are_not_given_out),
        BOTH(evtchn__xsa_340_358_359_a_port_is_visible_only_when_complete),
        BOTH(evtchn__xsa_344_closing_many_ports_is_in_bounded_steps),
        T(evtchn__xsa_496_a_failed_bind_virq_leaves_nothing_behind),
        T(evtchn__xsa_505_expand_array_while_a_reset_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
