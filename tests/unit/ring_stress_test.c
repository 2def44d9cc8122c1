/* SPDX-License-Identifier: MIT */
/*
 * Both halves of a ring in two threads, as fast as they can, sleeping by arm
 * and publish: every request arrives whole, is answered once, in order, and
 * nobody sleeps for ever.  Meant for TSan above all, which sees every slot's
 * bytes as plain memory.
 */
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "ring/ring.h"
#include "expect.h"

enum {
    SLOTS = 8,
    SLOT_BYTES = 112,
    REQUESTS = 150000,
    PATIENCE_MS = 20000, /* for a wake-up: then it is lost */
};

struct slot {
    uint64_t serial;
    uint64_t filler[13];
};

_Static_assert(sizeof(struct slot) == SLOT_BYTES, "fills a slot");

struct ring {
    _Alignas(64) uint8_t mem[FH_RING_HEADER_BYTES + SLOTS * SLOT_BYTES];
    int kick_front, kick_back; /* eventfds: the event channel's two ends */
    const char *failure;       /* the back thread's, or NULL */
    uint32_t n_sleeps;         /* of the front */
};

static void
kick(int fd)
{
    const uint64_t one = 1;

    if (write(fd, &one, sizeof(one)) != sizeof(one))
        abort();
}

/* False when nobody kicked within the time. */
static bool
sleep_for_kick(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    uint64_t n;

    return poll(&p, 1, PATIENCE_MS) == 1 && read(fd, &n, sizeof(n)) > 0;
}

static FH_SHARED struct fh_ring_shared *
shared_of(struct ring *ring)
{
    return (FH_SHARED struct fh_ring_shared *)(void *)ring->mem;
}

static bool
slot_is(const struct slot *s, uint64_t serial)
{
    for (size_t i = 0; i < 13; i++)
        if (s->filler[i] != serial * 3)
            return false;
    return s->serial == serial;
}

static struct slot
slot_of(uint64_t serial)
{
    struct slot s = {.serial = serial};

    for (size_t i = 0; i < 13; i++)
        s.filler[i] = serial * 3;
    return s;
}

/* Takes and answers @n requests; false when one is not what was sent. */
static bool
answer(struct fh_bring *back, uint32_t n, uint64_t *serial)
{
    for (uint32_t i = 0; i < n; i++) {
        struct slot s;

        fh_bring_take(back, &s);
        if (!slot_is(&s, *serial))
            return false;
        s = slot_of(~*serial);
        fh_bring_put(back, &s, SLOT_BYTES);
        ++*serial;
    }
    return true;
}

static void *
run_back(void *arg)
{
    struct ring *ring = arg;
    struct fh_bring back;
    uint64_t serial = 0;

    fh_bring_init(&back, shared_of(ring), SLOTS, SLOT_BYTES, 0, 0);
    while (serial < REQUESTS) {
        uint32_t n = 0;

        if (fh_bring_pending(&back, &n)) {
            ring->failure = "the request index is broken";
        } else if (n) {
            /* Half at a time now and then, so that batches differ. */
            if (!answer(&back, serial % 3 ? n : (n + 1) / 2, &serial))
                ring->failure = "a request is not whole";
            if (fh_bring_publish(&back))
                kick(ring->kick_front);
        } else if (fh_bring_arm(&back) == 0) {
            if (!sleep_for_kick(ring->kick_back))
                ring->failure = "the backend's wake-up is lost";
        }
        if (ring->failure)
            break;
    }
    return NULL;
}

static void
send(struct ring *ring, struct fh_fring *front, uint64_t *sent)
{
    /* One to SLOTS at a time. */
    uint32_t n = 1 + (uint32_t)(*sent * 7 % SLOTS);

    for (; n && *sent < REQUESTS && fh_fring_room(front); n--) {
        const struct slot s = slot_of((*sent)++);

        fh_fring_put(front, &s, SLOT_BYTES);
    }
    if (fh_fring_publish(front))
        kick(ring->kick_back);
}

static void
run_front(struct ring *ring)
{
    struct fh_fring front;
    uint64_t sent = 0, taken = 0;

    fh_fring_init(&front, shared_of(ring), SLOTS, SLOT_BYTES);
    while (taken < REQUESTS) {
        uint32_t n = 0;

        send(ring, &front, &sent);
        EXPECT_EQ(fh_fring_pending(&front, &n), 0, "after %u", (unsigned)taken);
        for (; n; n--) {
            struct slot s;

            fh_fring_take(&front, &s, SLOT_BYTES);
            EXPECT(slot_is(&s, ~taken), "response %u", (unsigned)taken);
            taken++;
        }
        const uint32_t in_flight = (uint32_t)(sent - taken);

        if (!in_flight || fh_fring_arm(&front, 1 + (uint32_t)taken % in_flight))
            continue;
        ring->n_sleeps++;
        EXPECT(sleep_for_kick(ring->kick_front), "a wake-up is lost");
    }
}

static void
two_threads__lose_nothing(void **state)
{
    struct ring *ring = aligned_alloc(64, sizeof(*ring));
    pthread_t back;

    memset(ring, 0, sizeof(*ring));
    /* The back starts on a zeroed ring; the front's init follows.  Both hold
     * until the first request is published. */
    ring->kick_front = eventfd(0, 0);
    ring->kick_back = eventfd(0, 0);
    EXPECT_EQ(pthread_create(&back, NULL, run_back, ring), 0, "thread");
    run_front(ring);
    EXPECT_EQ(pthread_join(back, NULL), 0, "thread");
    EXPECT(!ring->failure, "%s", ring->failure);
    printf("%u requests, the front slept %u times\n", REQUESTS, ring->n_sleeps);
    close(ring->kick_front);
    close(ring->kick_back);
    free(ring);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads__lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
