/* SPDX-License-Identifier: MIT */
/*
 * lib/ring/ring.h, both halves, under relacy.
 *
 *   ring_model           holds: every request arrives whole, is answered once,
 *                        and nobody sleeps for ever
 *   ring_model LABEL     the ordering LABEL (F1 .. F4, B1 .. B4) is taken away
 *                        and relacy must notice
 *
 * A ring of two slots and four requests: indices pass the end of the ring, a
 * batch may have one or two requests, and a slot is used for a request, its
 * response, and the next request.  What each half may choose, relacy chooses:
 * how many requests are answered together, after how many responses the
 * frontend wants to be woken.
 */
#include "fh_model.h"
#include "ring/ring.h"

enum {
    N_SLOTS = 2,
    N_REQUESTS = 4,
    ITERATIONS = 200000,
    FRONT = 0, /* threads */
    BACK = 1,
};

static const char *const labels[] = {"F1", "F2", "F3", "F4",
                                     "B1", "B2", "B3", "B4"};

static const struct fh_ring_shared *the_ring; /* to tell the fields apart */
static bool published[2]; /* a thread's last store was an index, no event */

/* Which label an access has, as ring.h numbers them. */
static const char *
label_of(enum fh_model_access what, const volatile void *p)
{
    const unsigned me = rl::thread_index();

    switch (what) {
    case FH_MODEL_STORE_RELEASE:
        published[me] = true;
        return p == &the_ring->req_prod ? "F1" : "B2";
    case FH_MODEL_LOAD_ACQUIRE:
        return p == &the_ring->req_prod ? "B1" : "F2";
    case FH_MODEL_STORE_RELAXED:
        published[me] = false;
        return "-";
    case FH_MODEL_FENCE:
        if (me == FRONT)
            return published[me] ? "F3" : "F4";
        return published[me] ? "B3" : "B4";
    case FH_MODEL_RMW:
        break;
    }
    return "-";
}

static bool
fh_model_weakened(enum fh_model_access what, const volatile void *p)
{
    return is_mutant(label_of(what, p));
}

struct ring_suite : rl::test_suite<ring_suite, 2> {
    struct fh_ring_shared shared;
    rl::var<unsigned> slots[N_SLOTS];
    struct fh_model_event kick_front, kick_back;
    struct fh_fring front;
    struct fh_bring back;

    void
    before()
    {
        the_ring = &shared;
        published[FRONT] = published[BACK] = false;
        kick_front.open();
        kick_back.open();
        fh_fring_init(&front, &shared, N_SLOTS, 1);
        fh_bring_init(&back, &shared, N_SLOTS, 1, 0, 0);
    }

    void
    after()
    {
        kick_front.close();
        kick_back.close();
    }

    void
    thread(unsigned index)
    {
        if (index == FRONT)
            run_front();
        else
            run_back();
    }

    rl::var<unsigned> &
    slot(uint32_t i)
    {
        return slots[i & (N_SLOTS - 1)];
    }

    void
    send()
    {
        while (front.req_prod < N_REQUESTS && fh_fring_room(&front)) {
            slot(front.req_prod)($) = 100 + front.req_prod;
            front.req_prod++;
        }
        if (fh_fring_publish(&front))
            kick_back.set();
    }

    /* 1 .. the number in flight, which is not 0 while there is no room. */
    uint32_t
    ahead()
    {
        return 1 + rl::rand(front.req_prod - front.rsp_cons);
    }

    void
    run_front()
    {
        while (front.rsp_cons < N_REQUESTS) {
            uint32_t n = 0;

            send();
            RL_ASSERT(fh_fring_pending(&front, &n) == 0);
            for (uint32_t i = 0; i < n; i++) {
                const unsigned v = slot(front.rsp_cons)($);

                RL_ASSERT(v == 200 + front.rsp_cons);
                front.rsp_cons++;
            }
            if (!n && fh_fring_arm(&front, ahead()) == 0)
                kick_front.wait();
        }
    }

    void
    answer(uint32_t n)
    {
        for (uint32_t i = 0; i < n; i++) {
            const unsigned v = slot(back.req_cons)($);

            RL_ASSERT(v == 100 + back.req_cons);
            back.req_cons++;
            slot(back.rsp_prod)($) = v + 100;
            back.rsp_prod++;
        }
        if (fh_bring_publish(&back))
            kick_front.set();
    }

    void
    run_back()
    {
        while (back.rsp_prod < N_REQUESTS) {
            uint32_t n = 0;

            RL_ASSERT(fh_bring_pending(&back, &n) == 0);
            if (n)
                answer(1 + rl::rand(n));
            else if (fh_bring_arm(&back) == 0)
                kick_back.wait();
        }
    }
};

int
main(int argc, char **argv)
{
    return fh_model_main<ring_suite>(argc, argv, labels, ITERATIONS);
}
