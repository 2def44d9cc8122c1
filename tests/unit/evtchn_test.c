/* SPDX-License-Identifier: MIT */
/*
 * Event channels: the state machine of a port, who is told and when, table
 * limits, and the slot that two processes share (evslot.h).
 */
#include <freehold/evtchn.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/shared.h"
#include "evtchn/evslot.h"
#include "expect.h"

#define N_DOMS  3
#define N_PORTS 100

struct dom {
    struct fh_evtchn_domain ev;
    uint32_t refs, delivered, last, unbound;
    void *mem;
};

static struct dom doms[N_DOMS + 1]; /* by domid, from 1 */

static struct fh_evtchn_domain *
get(void *hv, uint16_t domid)
{
    if (!domid || domid > N_DOMS)
        return NULL;
    fh_fetch_add32(&doms[domid].refs, 1);
    return &doms[domid].ev;
}

static void
hold(void *hv, struct fh_evtchn_domain *d)
{
    fh_fetch_add32(&((struct dom *)d)->refs, 1);
}

static void
put(void *hv, struct fh_evtchn_domain *d)
{
    if (!fh_fetch_add32(&((struct dom *)d)->refs, UINT32_MAX))
        abort();
}

static void
deliver(void *hv, struct fh_evtchn_domain *d, uint32_t port)
{
    fh_fetch_add32(&((struct dom *)d)->delivered, 1);
    fh_store_relaxed32(&((struct dom *)d)->last, port);
}

static void
unbound(void *hv, struct fh_evtchn_domain *d, uint32_t port)
{
    fh_store_relaxed32(&((struct dom *)d)->unbound, port);
}

static const struct fh_evtchn_ops ops = {
    .domain_get = get,
    .domain_hold = hold,
    .domain_put = put,
    .deliver = deliver,
    .unbound = unbound,
};

static int
setup(void **state)
{
    for (uint16_t i = 1; i <= N_DOMS; i++) {
        const size_t bytes = fh_evtchn_bytes(N_PORTS);

        doms[i] = (struct dom){ .mem = aligned_alloc(64,
                                                     fh_round_up(bytes, 64)) };
        memset(doms[i].mem, 0, bytes);
        fh_evtchn_init(&doms[i].ev, &ops, NULL, 100 - i, i, N_PORTS,
                       doms[i].mem);
    }
    return 0;
}

static int
teardown(void **state)
{
    for (uint16_t i = 1; i <= N_DOMS; i++)
        free(doms[i].mem);
    return 0;
}

/* A channel between @a's *@pa and @b's *@pb. */
static void
connect_two(struct dom *a, uint32_t *pa, struct dom *b, uint32_t *pb)
{
    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, b->ev.domid, pa), 0);
    EXPECT_EQ(fh_evtchn_bind_interdomain(&b->ev, a->ev.domid, *pa, pb), 0);
}

static bool
consume(struct dom *d, uint32_t port)
{
    bool is_pending = false;

    EXPECT_EQ(fh_evtchn_pending(&d->ev, port, true, &is_pending), 0);
    return is_pending;
}

static uint32_t
status_of(struct dom *d, uint32_t port, struct evtchn_status *s)
{
    EXPECT_EQ(fh_evtchn_status(&d->ev, port, s), 0);
    return s->status;
}

static void
bind__connects_both_ends_and_is_pending_at_once(void **state)
{
    struct dom *a = &doms[1], *b = &doms[2];
    struct evtchn_status s;
    uint32_t pa, pb;

    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &pa), 0);
    EXPECT_EQ(pa, 1, "the lowest port that is not reserved");
    EXPECT_EQ(status_of(a, pa, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(s.u.unbound.dom, 2);
    EXPECT_EQ(fh_evtchn_send(&a->ev, pa), 0, "nobody there: swallowed");
    EXPECT_EQ(fh_evtchn_bind_interdomain(&b->ev, 1, pa, &pb), 0);
    EXPECT_EQ(status_of(a, pa, &s), EVTCHNSTAT_interdomain);
    EXPECT_EQ(s.u.interdomain.dom, 2);
    EXPECT_EQ(s.u.interdomain.port, pb);
    EXPECT_EQ(status_of(b, pb, &s), EVTCHNSTAT_interdomain);
    EXPECT_EQ(s.u.interdomain.dom, 1);
    EXPECT_EQ(s.u.interdomain.port, pa);
    EXPECT_EQ(b->delivered, 1, "pending at bind");
    EXPECT_EQ(b->last, pb);
    EXPECT_EQ(fh_evtchn_next(&b->ev), pb);
    EXPECT(consume(b, pb));
    EXPECT(!consume(b, pb));
    EXPECT(!consume(a, pa));
    EXPECT_EQ(fh_evtchn_next(&b->ev), 0);
    EXPECT_EQ(a->refs, 1);
    EXPECT_EQ(b->refs, 1);
}

static void
bind__refuses_all_but_a_port_that_waits_for_the_caller(void **state)
{
    struct dom *a = &doms[1];
    uint32_t pa, pb, virq, none = 77;

    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &pa), 0);
    EXPECT_EQ(fh_evtchn_bind_virq(&a->ev, 3, 0, &virq), 0);
    const struct {
        const char *name;
        uint16_t caller, remote;
        uint32_t port;
        int want;
    } cases[] = {
        { "waits for somebody else", 3, 1, pa, FH_EINVAL },
        { "no such domain", 2, 9, pa, FH_ESRCH },
        { "reserved domain", 2, DOMID_IO, pa, FH_ESRCH },
        { "port 0", 2, 1, 0, FH_EINVAL },
        { "beyond the table", 2, 1, N_PORTS, FH_EINVAL },
        { "far beyond", 2, 1, 0xffffffff, FH_EINVAL },
        { "closed", 2, 1, 50, FH_EINVAL },
        { "virq", 2, 1, virq, FH_EINVAL },
    };
    for (size_t i = 0; i < FH_ARRAY_SIZE(cases); i++) {
        EXPECT_EQ(fh_evtchn_bind_interdomain(&doms[cases[i].caller].ev,
                                             cases[i].remote, cases[i].port,
                                             &none),
                  cases[i].want, "%s", cases[i].name);
        EXPECT_EQ(none, 77, "%s: untouched", cases[i].name);
    }
    EXPECT_EQ(fh_evtchn_bind_interdomain(&doms[2].ev, 1, pa, &pb), 0);
    EXPECT_EQ(fh_evtchn_bind_interdomain(&doms[2].ev, 1, pa, &none), FH_EINVAL,
              "already bound");
    EXPECT_EQ(doms[1].refs, 1, "refusals keep no reference");
}

static void
send__coalesces_until_consumed_and_respects_the_mask(void **state)
{
    struct dom *a = &doms[1], *b = &doms[2];
    uint32_t pa, pb;

    connect_two(a, &pa, b, &pb);
    EXPECT(consume(b, pb));
    b->delivered = 0;
    for (int i = 0; i < 5; i++)
        EXPECT_EQ(fh_evtchn_send(&a->ev, pa), 0);
    EXPECT_EQ(b->delivered, 1);
    EXPECT(consume(b, pb));
    EXPECT_EQ(fh_evtchn_send(&a->ev, pa), 0);
    EXPECT_EQ(b->delivered, 2);
    EXPECT(consume(b, pb));

    EXPECT_EQ(fh_evtchn_mask(&b->ev, pb), 0);
    EXPECT_EQ(fh_evtchn_send(&a->ev, pa), 0);
    EXPECT_EQ(b->delivered, 2, "masked");
    EXPECT_EQ(fh_evtchn_next(&b->ev), 0);
    EXPECT_EQ(fh_evtchn_unmask(&b->ev, pb), 0);
    EXPECT_EQ(b->delivered, 3, "unmasked while pending");
    EXPECT(consume(b, pb));
    EXPECT_EQ(fh_evtchn_unmask(&b->ev, pb), 0);
    EXPECT_EQ(b->delivered, 3);
    EXPECT_EQ(fh_evtchn_send(&b->ev, pb), 0, "and the other way");
    EXPECT_EQ(a->delivered, 1);
}

static void
send__is_refused_where_there_is_no_channel(void **state)
{
    struct dom *a = &doms[1];
    uint32_t virq, ipi;

    EXPECT_EQ(fh_evtchn_bind_virq(&a->ev, 7, 0, &virq), 0);
    EXPECT_EQ(fh_evtchn_bind_ipi(&a->ev, 2, &ipi), 0);
    EXPECT_EQ(fh_evtchn_send(&a->ev, 0), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_send(&a->ev, 60), FH_EINVAL, "closed");
    EXPECT_EQ(fh_evtchn_send(&a->ev, N_PORTS), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_send(&a->ev, virq), FH_EINVAL);
    EXPECT_EQ(a->delivered, 0);
    EXPECT_EQ(fh_evtchn_send(&a->ev, ipi), 0);
    EXPECT_EQ(a->last, ipi);
    EXPECT_EQ(fh_evtchn_raise(&a->ev, virq), 0);
    EXPECT_EQ(a->last, virq);
    EXPECT_EQ(fh_evtchn_raise(&a->ev, 60), FH_EINVAL);
    struct evtchn_status s;
    EXPECT_EQ(status_of(a, virq, &s), EVTCHNSTAT_virq);
    EXPECT_EQ(s.u.virq, 7);
    EXPECT_EQ(status_of(a, ipi, &s), EVTCHNSTAT_ipi);
    EXPECT_EQ(s.vcpu, 2);
    EXPECT_EQ(status_of(a, 60, &s), EVTCHNSTAT_closed);
    EXPECT_EQ(fh_evtchn_status(&a->ev, N_PORTS, &s), FH_EINVAL);
    bool p;
    EXPECT_EQ(fh_evtchn_mask(&a->ev, 0), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_unmask(&a->ev, N_PORTS), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_pending(&a->ev, N_PORTS, false, &p), FH_EINVAL);
}

static void
close__leaves_the_peer_waiting_for_the_same_domain(void **state)
{
    struct dom *a = &doms[1], *b = &doms[2];
    struct evtchn_status s;
    uint32_t pa, pb, again;

    connect_two(a, &pa, b, &pb);
    EXPECT_EQ(fh_evtchn_close(&b->ev, pb), 0);
    EXPECT_EQ(status_of(b, pb, &s), EVTCHNSTAT_closed);
    EXPECT_EQ(status_of(a, pa, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(s.u.unbound.dom, 2);
    EXPECT_EQ(a->unbound, pa);
    EXPECT_EQ(a->refs + b->refs, 0);
    EXPECT(!consume(b, pb), "close clears what was pending");
    EXPECT_EQ(fh_evtchn_send(&a->ev, pa), 0, "swallowed meanwhile");
    EXPECT_EQ(fh_evtchn_bind_interdomain(&b->ev, 1, pa, &again), 0);
    EXPECT_EQ(again, pb, "lowest free port");
    EXPECT(consume(b, pb), "so that what was swallowed is noticed");
    EXPECT_EQ(fh_evtchn_close(&a->ev, pa), 0);
    EXPECT_EQ(status_of(b, pb, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(fh_evtchn_close(&b->ev, pb), 0);
    EXPECT_EQ(fh_evtchn_close(&b->ev, pb), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_close(&b->ev, 0), FH_EINVAL);
    EXPECT_EQ(a->refs + b->refs, 0);
}

static void
self__both_ends_in_one_domain(void **state)
{
    struct dom *a = &doms[1];
    struct evtchn_status s;
    uint32_t p, q;

    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, DOMID_SELF, &p), 0);
    EXPECT_EQ(fh_evtchn_bind_interdomain(&a->ev, DOMID_SELF, p, &q), 0);
    EXPECT(consume(a, q));
    EXPECT_EQ(fh_evtchn_send(&a->ev, q), 0);
    EXPECT(consume(a, p));
    EXPECT_EQ(a->refs, 2);
    EXPECT_EQ(fh_evtchn_close(&a->ev, q), 0);
    EXPECT_EQ(status_of(a, p, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(a->refs, 0);
}

static void
ports__lowest_free_first_up_to_the_last(void **state)
{
    struct dom *a = &doms[1];
    uint32_t port, pb;

    for (uint32_t i = 1; i < N_PORTS; i++) {
        EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &port), 0);
        EXPECT_EQ(port, i);
    }
    port = 77;
    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &port), FH_ENOSPC);
    EXPECT_EQ(port, 77, "untouched");
    EXPECT_EQ(fh_evtchn_alloc_unbound(&doms[2].ev, 1, &pb), 0);
    EXPECT_EQ(fh_evtchn_bind_interdomain(&a->ev, 2, pb, &port), FH_ENOSPC);
    EXPECT_EQ(doms[2].refs, 0);
    EXPECT_EQ(fh_evtchn_close(&a->ev, 97), 0);
    EXPECT_EQ(fh_evtchn_close(&a->ev, 33), 0);
    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &port), 0);
    EXPECT_EQ(port, 33);
    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &port), 0);
    EXPECT_EQ(port, 97);

    EXPECT_EQ(fh_evtchn_bytes(1), 0);
    EXPECT_EQ(fh_evtchn_bytes(FH_EVTCHN_PORTS_MAX + 1), 0);
}

static void
ports__the_largest_table_works_to_its_end(void **state)
{
    const size_t bytes = fh_evtchn_bytes(FH_EVTCHN_PORTS_MAX);
    struct dom big = { .mem = aligned_alloc(64, fh_round_up(bytes, 64)) };
    uint32_t port = 0;

    memset(big.mem, 0, bytes);
    fh_evtchn_init(&big.ev, &ops, NULL, 500, 9, FH_EVTCHN_PORTS_MAX, big.mem);
    for (uint32_t i = 1; i < FH_EVTCHN_PORTS_MAX; i++)
        EXPECT_EQ(fh_evtchn_bind_ipi(&big.ev, 0, &port), 0, "%u", i);
    EXPECT_EQ(port, FH_EVTCHN_PORTS_MAX - 1);
    EXPECT_EQ(fh_evtchn_bind_ipi(&big.ev, 0, &port), FH_ENOSPC);
    EXPECT_EQ(fh_evtchn_send(&big.ev, FH_EVTCHN_PORTS_MAX - 1), 0);
    EXPECT_EQ(fh_evtchn_next(&big.ev), FH_EVTCHN_PORTS_MAX - 1);
    free(big.mem);
}

static void
death__closes_all_in_bounded_steps(void **state)
{
    struct dom *a = &doms[1], *b = &doms[2];
    uint32_t pa, pb, cursor = 0, steps = 1;
    struct evtchn_status s;

    for (int i = 0; i < 20; i++)
        connect_two(a, &pa, b, &pb);
    while (fh_evtchn_close_all(&a->ev, 7, &cursor))
        steps++;
    EXPECT_EQ(steps, (20 + 6) / 7, "only open ports count");
    for (uint32_t p = 1; p <= 20; p++)
        EXPECT_EQ(status_of(b, p, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(a->refs + b->refs, 0);
    EXPECT_EQ(fh_evtchn_alloc_unbound(&a->ev, 2, &pa), FH_EINVAL);
    EXPECT_EQ(fh_evtchn_bind_interdomain(&a->ev, 2, 1, &pa), FH_EINVAL);
}

/* ------------------------------------------------------------- threads -- */

/* Closing and binding race with sends from both sides: nothing is lost of the
 * structure; run under TSan as well. */
static uint32_t storm_port, storm_stop;

static void *
storm_sender(void *arg)
{
    while (!fh_load_acquire32(&storm_stop))
        (void)!fh_evtchn_send(&doms[1].ev, storm_port);
    return NULL;
}

static void *
storm_rebinder(void *arg)
{
    struct dom *b = &doms[2];

    for (int i = 0; i < 3000; i++) {
        uint32_t pb = 0;

        while (fh_evtchn_bind_interdomain(&b->ev, 1, storm_port, &pb))
            fh_cpu_relax();
        (void)!fh_evtchn_send(&b->ev, pb);
        EXPECT_EQ(fh_evtchn_close(&b->ev, pb), 0);
    }
    return NULL;
}

static void
threads__rebinding_under_a_storm_of_sends(void **state)
{
    pthread_t t[3];

    EXPECT_EQ(fh_evtchn_alloc_unbound(&doms[1].ev, 2, &storm_port), 0);
    storm_stop = 0;
    pthread_create(&t[0], NULL, storm_sender, NULL);
    pthread_create(&t[1], NULL, storm_rebinder, NULL);
    pthread_create(&t[2], NULL, storm_rebinder, NULL);
    pthread_join(t[1], NULL);
    pthread_join(t[2], NULL);
    fh_store_release32(&storm_stop, 1);
    pthread_join(t[0], NULL);
    struct evtchn_status s;
    EXPECT_EQ(status_of(&doms[1], storm_port, &s), EVTCHNSTAT_unbound);
    EXPECT_EQ(doms[1].refs, 0);
    EXPECT_EQ(doms[2].refs, 0);
}

/* ---------------------------------------------------------------- slots -- */

static const struct {
    const char *name;
    uint32_t before;
    bool kick, taken, again; /* what send, take, unmask answer */
    uint32_t sent, after_take, unmasked;
} slot_cases[] = {
    { "idle", 0, true, false, false, 1, 0, 0 },
    { "pending", 1, false, true, true, 1, 2, 1 },
    { "masked", 2, false, false, false, 3, 2, 0 },
    { "masked and pending", 3, false, false, true, 3, 3, 1 },
};

static void
slot__does_what_its_table_says(void **state)
{
    struct fh_evslot s;

    for (size_t i = 0; i < FH_ARRAY_SIZE(slot_cases); i++) {
        s.state = slot_cases[i].before;
        EXPECT_EQ(fh_evslot_send(&s), slot_cases[i].kick, "%s",
                  slot_cases[i].name);
        EXPECT_EQ(s.state, slot_cases[i].sent, "%s", slot_cases[i].name);
        s.state = slot_cases[i].before;
        EXPECT_EQ(fh_evslot_take(&s), slot_cases[i].taken, "%s",
                  slot_cases[i].name);
        EXPECT_EQ(s.state, slot_cases[i].after_take, "%s", slot_cases[i].name);
        s.state = slot_cases[i].before;
        EXPECT_EQ(fh_evslot_unmask(&s), slot_cases[i].again, "%s",
                  slot_cases[i].name);
        EXPECT_EQ(s.state, slot_cases[i].unmasked, "%s", slot_cases[i].name);
    }
    fh_evslot_init(&s, true);
    EXPECT(fh_evslot_take(&s), "born pending");
    EXPECT(!fh_evslot_unmask(&s));
    fh_evslot_mask(&s);
    EXPECT(!fh_evslot_send(&s), "masked by hand");
    EXPECT(fh_evslot_unmask(&s));
}

/* Two processes' worth of threads and a real eventfd: the receiver sleeps
 * whenever it may, and still sees everything. */
#define SLOT_SENDERS 2
#define SLOT_SENDS   40000

static struct fh_evslot storm_slot;
static int storm_fd;
static uint32_t storm_sent[SLOT_SENDERS];

static void
kick(void)
{
    const uint64_t one = 1;

    EXPECT_EQ(write(storm_fd, &one, sizeof(one)), sizeof(one));
}

static void *
slot_sender(void *arg)
{
    uint32_t *sent = arg;

    for (uint32_t i = 1; i <= SLOT_SENDS; i++) {
        fh_store_relaxed32(sent, i);
        if (fh_evslot_send(&storm_slot))
            kick();
    }
    return NULL;
}

static uint32_t
slot_look(void)
{
    uint32_t n = 0;

    for (unsigned i = 0; i < SLOT_SENDERS; i++)
        n += fh_load_relaxed32(&storm_sent[i]);
    return n;
}

static void
slot__loses_nothing_between_threads(void **state)
{
    pthread_t t[SLOT_SENDERS];
    uint32_t seen = 0;
    uint64_t count;

    storm_fd = eventfd(0, 0);
    fh_evslot_init(&storm_slot, false);
    for (unsigned i = 0; i < SLOT_SENDERS; i++) {
        storm_sent[i] = 0;
        pthread_create(&t[i], NULL, slot_sender, &storm_sent[i]);
    }
    while (seen < SLOT_SENDERS * SLOT_SENDS) {
        EXPECT_EQ(read(storm_fd, &count, sizeof(count)), sizeof(count));
        while (fh_evslot_take(&storm_slot)) {
            seen = slot_look();
            if (fh_evslot_unmask(&storm_slot))
                kick(); /* or go round once more */
        }
    }
    for (unsigned i = 0; i < SLOT_SENDERS; i++)
        pthread_join(t[i], NULL);
    close(storm_fd);
}

int
main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(bind__connects_both_ends_and_is_pending_at_once),
        TEST(bind__refuses_all_but_a_port_that_waits_for_the_caller),
        TEST(send__coalesces_until_consumed_and_respects_the_mask),
        TEST(send__is_refused_where_there_is_no_channel),
        TEST(close__leaves_the_peer_waiting_for_the_same_domain),
        TEST(self__both_ends_in_one_domain),
        TEST(ports__lowest_free_first_up_to_the_last),
        TEST(ports__the_largest_table_works_to_its_end),
        TEST(death__closes_all_in_bounded_steps),
        TEST(threads__rebinding_under_a_storm_of_sends),
        TEST(slot__does_what_its_table_says),
        TEST(slot__loses_nothing_between_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
