/* SPDX-License-Identifier: MIT */
/*
 * The handshake's table: the orders that real frontends use, as scripts that
 * play both sides' writes; then every combination of the view, for the rules
 * that hold everywhere.
 */
#include <string.h>
#include <freehold/xenbus.h>
#include "base/arith.h"
#include "expect.h"

enum { MAX_STEPS = 12 };

/* One event and where the backend must have come to rest after it. */
struct step {
    const char *event; /* one write of the other side, see apply() */
    const char *path;  /* actions taken, one letter each */
    int ours;          /* state then */
};

struct order {
    const char *name;
    struct step steps[MAX_STEPS];
};

static const struct order orders[] = {
    { "Linux: waits for InitWait, Initialised, Connected",
      { { "start", "o", 2 },
        { "front 3", "ca", 4 },
        { "front 4", "", 4 },
        { "unplug", "", 5 },
        { "front 5", "d", 5 },
        { "front 6", "6r", 6 } } },
    { "1: mini-os, OVMF, Mirage: straight to Connected",
      { { "start", "o", 2 }, { "front 4", "ca", 4 } } },
    { "1: already Connected when we look first",
      { { "front 4 quietly", "", 1 }, { "start", "oca", 4 } } },
    { "2: the frontend stays Initialised while we are Connected",
      { { "start", "o", 2 }, { "front 3", "ca", 4 }, { "again", "", 4 } } },
    { "3: GRUB: Initialised without a look, Closed, then the kernel",
      { { "front 3 quietly", "", 1 },
        { "start", "oca", 4 },
        { "front 6", "d56", 6 },
        { "front 1", "o", 2 },
        { "front 3", "ca", 4 },
        { "front 4", "", 4 } } },
    { "4: OVMF: 4, 5, 6 one by one, then Initialising",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "front 5", "d5", 5 },
        { "again", "", 5 },
        { "front 6", "6", 6 },
        { "front 1", "o", 2 },
        { "front 4", "ca", 4 } } },
    { "4: mini-os: closing before it connected",
      { { "start", "o", 2 }, { "front 5", "5", 5 }, { "front 6", "6", 6 } } },
    { "5: xencrsh: Initialising while connected",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "front 1", "do", 2 },
        { "front 3", "ca", 4 } } },
    { "5: xencrsh: Initialised again with a new ring",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "new ring", "", 4 },
        { "front 3", "doca", 4 } } },
    { "5: Connected again with a new ring",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "new ring", "", 4 },
        { "front 4", "doca", 4 } } },
    { "6: Linux after restore: a new backend, the frontend from the start",
      { { "front 6 quietly", "", 1 },
        { "start", "56", 6 },
        { "front 1", "o", 2 },
        { "front 3", "ca", 4 } } },
    { "7: SLES reads features early: they are published before InitWait",
      { { "start", "o", 2 }, { "front 2", "", 2 }, { "front 3", "ca", 4 } } },
    { "8: Closed while online keeps the device",
      { { "start", "o", 2 },
        { "front 3", "ca", 4 },
        { "front 5", "d5", 5 },
        { "front 6", "6", 6 },
        { "front 1", "o", 2 } } },
    { "8: the frontend's directory vanishes",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "front 0", "d56", 6 },
        { "again", "", 6 },
        { "unplug", "r", 6 } } },
    { "8: our own directory vanishes",
      { { "start", "o", 2 }, { "front 4", "ca", 4 }, { "rm", "dr", 0 } } },
    { "9: the toolstack writes 5 and the frontend agrees",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "unplug", "", 5 },
        { "front 6", "d6r", 6 } } },
    { "9: the frontend refuses, then is forced",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "unplug", "", 5 },
        { "again", "", 5 },
        { "force", "d6r", 6 } } },
    { "9: unplugged before any frontend came",
      { { "start", "o", 2 }, { "unplug", "6r", 6 } } },
    { "9: online=0 alone asks the frontend to close",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "offline", "5", 5 },
        { "front 6", "d6r", 6 } } },
    { "10: resize repeats Connected",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "resize", "a", 4 },
        { "again", "", 4 } } },
    { "a script must report before we connect",
      { { "hotplug quietly", "", 1 },
        { "start", "o", 2 },
        { "front 4", "", 2 },
        { "again", "", 2 },
        { "hotplug done", "ca", 4 } } },
    { "another driver's offer is replaced until the script has reported",
      { { "hotplug pending quietly", "", 1 },
        { "foreign offer quietly", "", 2 },
        { "start", "o", 2 },
        { "again", "", 2 },
        { "front 3", "", 2 },
        { "hotplug done", "ca", 4 } } },
    { "a frontend that acts on another driver's offer keeps it",
      { { "hotplug pending quietly", "", 1 },
        { "foreign offer quietly", "", 2 },
        { "front 3 quietly", "", 2 },
        { "start", "", 2 },
        { "hotplug done", "ca", 4 } } },
    { "an error is reported, Closing, and the frontend may try again",
      { { "start", "o", 2 },
        { "bad ring quietly", "", 2 },
        { "front 3", "ce", 5 },
        { "again", "", 5 },
        { "front 6", "6", 6 },
        { "good ring quietly", "", 6 },
        { "front 1", "o", 2 },
        { "front 3", "ca", 4 } } },
    { "a broken ring is stopped",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "fault", "de", 5 },
        { "front 6", "6", 6 } } },
    { "Connected of a backend that is no more cannot be resumed",
      { { "front 4 quietly", "", 1 },
        { "ours 4 quietly", "", 4 },
        { "start", "5", 5 },
        { "front 6", "6", 6 } } },
    { "5, 6, 1, 4 before we looked once",
      { { "start", "o", 2 },
        { "front 4", "ca", 4 },
        { "front 5", "d5", 5 },
        { "new ring", "6oca", 4 } } },
};

/* The world around the table, small enough to be obviously right. */
struct world {
    struct fh_xenbus_view v;
    bool started;
    bool bad_ring;
    int after_ring; /* the frontend's state when it gets a new ring */
};

static bool
apply(struct world *w, const char *ev)
{
    const char *quiet = strstr(ev, " quietly");

    if (!strncmp(ev, "front ", 6))
        w->v.front = (enum fh_xenbus_state)(ev[6] - '0');
    else if (!strncmp(ev, "ours ", 5))
        w->v.ours = (enum fh_xenbus_state)(ev[5] - '0');
    else if (!strcmp(ev, "start"))
        w->started = true;
    else if (!strcmp(ev, "unplug"))
        w->v.online = false, w->v.ours = w->v.ours == 6 ? 6 : 5;
    else if (!strcmp(ev, "offline"))
        w->v.online = false;
    else if (!strncmp(ev, "foreign", 7))
        w->v.foreign = true, w->v.ours = 2;
    else if (!strcmp(ev, "force"))
        w->v.force = true;
    else if (!strcmp(ev, "rm"))
        w->v.ours = 0;
    else if (!strcmp(ev, "resize"))
        w->v.changed = true;
    else if (!strcmp(ev, "fault"))
        w->v.failed = true;
    else if (!strncmp(ev, "hotplug", 7))
        w->v.hotplug_pending = quiet != NULL;
    else if (!strncmp(ev, "bad ring", 8))
        w->bad_ring = true;
    else if (!strncmp(ev, "good ring", 9))
        w->bad_ring = false;
    else if (!strcmp(ev, "new ring")) {
        w->v.renewed = true;
        if (w->v.ours == 4)
            return false; /* noticed with the next state write */
        w->v.front = 4;
    }
    return w->started && !quiet;
}

static char
act(struct world *w, enum fh_xenbus_action a)
{
    switch (a) {
    case FH_XENBUS_DO_NOTHING:
        return 0;
    case FH_XENBUS_DO_OFFER:
        w->v.ours = 2;
        w->v.foreign = false;
        return 'o';
    case FH_XENBUS_DO_CONNECT:
        w->v.connected = !w->bad_ring;
        w->v.failed = w->bad_ring;
        w->v.renewed = false;
        return 'c';
    case FH_XENBUS_DO_ANNOUNCE:
        w->v.ours = 4;
        w->v.changed = false;
        return 'a';
    case FH_XENBUS_DO_DISCONNECT:
        w->v.connected = false;
        return 'd';
    case FH_XENBUS_DO_ERROR:
        w->v.failed = false;
        w->v.ours = 5;
        return 'e';
    case FH_XENBUS_DO_CLOSING:
        w->v.ours = 5;
        return '5';
    case FH_XENBUS_DO_CLOSED:
        w->v.ours = 6;
        return '6';
    case FH_XENBUS_DO_REMOVE:
        return 'r';
    }
    return '?';
}

/* Lets the backend act until it waits; the letters of what it did. */
static void
settle(struct world *w, char *path, size_t size)
{
    size_t n = 0;

    while (n + 1 < size) {
        char c = act(w, fh_xenbus_next(&w->v));

        if (!c)
            break;
        path[n++] = c;
        if (c == 'r')
            break;
    }
    path[n] = '\0';
}

static void
xenbus__real_orders_reach_their_end(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(orders); i++) {
        struct world w = { .v = { .ours = 1, .front = 1, .online = true } };

        for (size_t s = 0; s < MAX_STEPS && orders[i].steps[s].event; s++) {
            const struct step *st = &orders[i].steps[s];
            char path[16] = "";

            if (apply(&w, st->event))
                settle(&w, path, sizeof(path));
            EXPECT(!strcmp(path, st->path), "%s, \"%s\": went %s, not %s",
                   orders[i].name, st->event, path, st->path);
            EXPECT_EQ(w.v.ours, st->ours, "%s, \"%s\"", orders[i].name,
                      st->event);
        }
    }
}

/* Every view there is: 9 * 9 states and 8 booleans. */
static struct fh_xenbus_view
view_number(unsigned n)
{
    struct fh_xenbus_view v = { 0 };

    v.ours = (enum fh_xenbus_state)(n % 9);
    v.front = (enum fh_xenbus_state)(n / 9 % 9);
    n /= 81;
    v.online = n & 1;
    v.connected = n & 2;
    v.hotplug_pending = n & 4;
    v.renewed = n & 8;
    v.changed = n & 16;
    v.failed = n & 32;
    v.force = n & 64;
    v.foreign = n & 128;
    return v;
}

enum { N_VIEWS = 81 * 256 };

static void
xenbus__every_view_keeps_the_rules(void **state)
{
    for (unsigned n = 0; n < N_VIEWS; n++) {
        struct fh_xenbus_view v = view_number(n);
        enum fh_xenbus_action a = fh_xenbus_next(&v);
        bool conn = v.connected;

        EXPECT(a != FH_XENBUS_DO_DISCONNECT || conn, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_CONNECT || !conn, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_CONNECT || v.online, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_CONNECT || !v.hotplug_pending, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_OFFER || (v.online && !conn), "view %u", n);
        EXPECT(a != FH_XENBUS_DO_ANNOUNCE || conn, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_CLOSED || !conn, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_CLOSED || v.ours == 5, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_REMOVE || !conn, "view %u", n);
        EXPECT(a != FH_XENBUS_DO_REMOVE || v.ours == 0 || v.ours == 6,
               "view %u", n);
        EXPECT(a != FH_XENBUS_DO_ERROR || !conn, "view %u", n);
    }
}

static void
xenbus__comes_to_rest_when_the_others_stand_still(void **state)
{
    for (unsigned n = 0; n < N_VIEWS; n++) {
        for (int bad = 0; bad < 2; bad++) {
            struct world w = { .v = view_number(n), .bad_ring = bad };
            char path[10];

            settle(&w, path, sizeof(path));
            EXPECT(strlen(path) < sizeof(path) - 1, "view %u: %s", n, path);
        }
    }
}

static const struct {
    const char *name;
    const char *value;
    size_t len;
    uint64_t max;
    int want;
    uint64_t number;
} numbers[] = {
    { "zero", "0", 1, 10, 0, 0 },
    { "leading zeros", "007", 3, 10, 0, 7 },
    { "at the limit", "10", 2, 10, 0, 10 },
    { "above the limit", "11", 2, 10, FH_ERANGE, 0 },
    { "2^64 - 1", "18446744073709551615", 20, UINT64_MAX, 0, UINT64_MAX },
    { "2^64", "18446744073709551616", 20, UINT64_MAX, FH_ERANGE, 0 },
    { "twenty nines", "99999999999999999999", 20, UINT64_MAX, FH_ERANGE, 0 },
    { "21 digits", "000000000000000000001", 21, UINT64_MAX, FH_EINVAL, 0 },
    { "empty", "", 0, 10, FH_EINVAL, 0 },
    { "minus", "-1", 2, UINT64_MAX, FH_EINVAL, 0 },
    { "plus", "+1", 2, 10, FH_EINVAL, 0 },
    { "leading space", " 1", 2, 10, FH_EINVAL, 0 },
    { "trailing newline", "1\n", 2, 10, FH_EINVAL, 0 },
    { "trailing NUL", "1\0", 2, 10, FH_EINVAL, 0 },
    { "NUL inside", "1\0002", 3, 1000, FH_EINVAL, 0 },
    { "hexadecimal", "0x8", 3, 10, FH_EINVAL, 0 },
    { "letters", "four", 4, 10, FH_EINVAL, 0 },
    { "not ASCII", "\xd9\xa1", 2, 10, FH_EINVAL, 0 },
    { "exponent", "1e3", 3, 10000, FH_EINVAL, 0 },
};

static void
parse__takes_whole_decimal_numbers_only(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(numbers); i++) {
        uint64_t n = 0xdeadbeef;
        int r = fh_xenbus_parse_u64(numbers[i].value, numbers[i].len,
                                    numbers[i].max, &n);

        EXPECT_EQ(r, numbers[i].want, "%s", numbers[i].name);
        EXPECT_EQ(n, r ? 0xdeadbeef : numbers[i].number, "%s",
                  numbers[i].name);
    }
}

static const struct {
    const char *value;
    enum fh_xenbus_state want;
} states[] = {
    { "0", FH_XENBUS_UNKNOWN },        { "4", FH_XENBUS_CONNECTED },
    { "8", FH_XENBUS_RECONFIGURED },   { "9", FH_XENBUS_UNKNOWN },
    { "99", FH_XENBUS_UNKNOWN },       { "-1", FH_XENBUS_UNKNOWN },
    { "", FH_XENBUS_UNKNOWN },         { "4294967300", FH_XENBUS_UNKNOWN },
    { "connected", FH_XENBUS_UNKNOWN }, { "4 ", FH_XENBUS_UNKNOWN },
};

static void
parse__states_of_junk_are_unknown(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(states); i++)
        EXPECT_EQ(fh_xenbus_state_parse(states[i].value,
                                        strlen(states[i].value)),
                  states[i].want, "\"%s\"", states[i].value);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(xenbus__real_orders_reach_their_end),
        cmocka_unit_test(xenbus__every_view_keeps_the_rules),
        cmocka_unit_test(xenbus__comes_to_rest_when_the_others_stand_still),
        cmocka_unit_test(parse__takes_whole_decimal_numbers_only),
        cmocka_unit_test(parse__states_of_junk_are_unknown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
