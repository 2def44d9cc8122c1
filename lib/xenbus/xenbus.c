/* SPDX-License-Identifier: MIT */
/*
 * The backend's side of the xenbus handshake as one table.
 *
 * Rows are our own state, columns the frontend's, both as xenstore has them at
 * this moment; there is a table for each {online, a worker serves the ring}.
 * Nothing is remembered between two questions, so it does not matter which
 * events were merged or missed.  The orders that real frontends use are rows
 * of tests/unit/xenbus_test.c.
 *
 * Invariants:
 *  - Connected and Closed are only left or entered through their neighbours:
 *    4 -> 5 -> 6, never 4 -> 6 (OVMF waits for each step).
 *  - No state is written while a worker holds the ring of a frontend that is
 *    gone: first disconnect, then 5, then 6.  After Closed nothing of the
 *    frontend is mapped.
 *  - From Closing we go on only when the frontend did, or cannot.
 *  - The steps end: each leads to a row that is nearer to one that waits, and
 *    only the frontend or the toolstack can lead back.
 */
#include <freehold/xenbus.h>

/* Cells.  The conditional ones look at the rest of the view. */
enum cell {
    WAIT = '.',
    OFFER = 'o',
    RENEW = 'O',  /* nothing, unless the offer is another driver's: ours
                     replaces it while the frontend has not begun to act on it
                     and a script has not reported */
    CONN = 'c',   /* connect, unless a hotplug script must report first */
    ANN = 'a',    /* announce; a renewed ring is dropped instead */
    DISC = 'd',
    CLOSE = '5',
    CLOSED = '6',
    REMOVE = 'r',
    SERVE = '=',  /* nothing, unless renewed or resized */
    ORPHAN = 'n', /* Connected without a ring: renewed is offered again; a
                     ring of a backend that is no more cannot be resumed */
    CONSENT = 'w' /* the frontend has to go on first, unless forced or it
                     began anew */
};

static const char table[2][2][FH_XENBUS_N_STATES][FH_XENBUS_N_STATES + 1] = {
    /* frontend:  012345678 (0: unknown or gone) */
    [true][false] = {
        [0] = "rrrrrrrrr", /* our directory is gone */
        [1] = "5oooo55oo",
        [2] = "5O.cc55..",
        [3] = "5..cc55..",
        [4] = "5oonn5555",
        [5] = "666www6ww",
        [6] = ".oooo....",
        [7] = "5oonn5555",
        [8] = "5oonn5555",
    },
    [true][true] = {
        [0] = "ddddddddd",
        [1] = "ddddddddd",
        [2] = "dddaadddd",
        [3] = "dddaadddd",
        [4] = "ddd==dd==",
        [5] = "dddwwddww",
        [6] = "ddddddddd",
        [7] = "ddd==dd==",
        [8] = "ddd==dd==",
    },
    [false][false] = {
        [0] = "rrrrrrrrr",
        [1] = "555555555",
        [2] = "555555555",
        [3] = "555555555",
        [4] = "555555555",
        [5] = "66666w666",
        [6] = "rrrrrrrrr",
        [7] = "555555555",
        [8] = "555555555",
    },
    [false][true] = {
        [0] = "ddddddddd",
        [1] = "ddddddddd",
        [2] = "ddddddddd",
        [3] = "ddddddddd",
        [4] = "ddd55dd55",
        [5] = "dddwwddww",
        [6] = "ddddddddd",
        [7] = "ddd55dd55",
        [8] = "ddd55dd55",
    },
};

static bool
state_valid(enum fh_xenbus_state s)
{
    return (unsigned)s < FH_XENBUS_N_STATES;
}

static enum fh_xenbus_action
on_serve(const struct fh_xenbus_view *v)
{
    if (v->renewed)
        return FH_XENBUS_DO_DISCONNECT;
    return v->changed ? FH_XENBUS_DO_ANNOUNCE : FH_XENBUS_DO_NOTHING;
}

static enum fh_xenbus_action
on_consent(const struct fh_xenbus_view *v)
{
    bool forced = v->force && !v->online;

    if (!forced && !v->renewed)
        return FH_XENBUS_DO_NOTHING;
    return v->connected ? FH_XENBUS_DO_DISCONNECT : FH_XENBUS_DO_CLOSED;
}

static enum fh_xenbus_action
resolve(enum cell c, const struct fh_xenbus_view *v)
{
    switch (c) {
    case WAIT:
        return FH_XENBUS_DO_NOTHING;
    case OFFER:
        return FH_XENBUS_DO_OFFER;
    case RENEW:
        return v->foreign && v->hotplug_pending ? FH_XENBUS_DO_OFFER
                                                : FH_XENBUS_DO_NOTHING;
    case CONN:
        return v->hotplug_pending ? FH_XENBUS_DO_NOTHING
                                  : FH_XENBUS_DO_CONNECT;
    case ANN:
        return v->renewed ? FH_XENBUS_DO_DISCONNECT : FH_XENBUS_DO_ANNOUNCE;
    case DISC:
        return FH_XENBUS_DO_DISCONNECT;
    case CLOSE:
        return FH_XENBUS_DO_CLOSING;
    case CLOSED:
        return FH_XENBUS_DO_CLOSED;
    case REMOVE:
        return FH_XENBUS_DO_REMOVE;
    case SERVE:
        return on_serve(v);
    case ORPHAN:
        return v->renewed ? FH_XENBUS_DO_OFFER : FH_XENBUS_DO_CLOSING;
    case CONSENT:
        return on_consent(v);
    }
    return FH_XENBUS_DO_NOTHING;
}

enum fh_xenbus_action
fh_xenbus_next(const struct fh_xenbus_view *v)
{
    enum fh_xenbus_state ours = state_valid(v->ours) ? v->ours : 0;
    enum fh_xenbus_state front = state_valid(v->front) ? v->front : 0;
    bool open = ours != FH_XENBUS_UNKNOWN && ours != FH_XENBUS_CLOSING &&
                ours != FH_XENBUS_CLOSED;

    if (v->failed && v->connected)
        return FH_XENBUS_DO_DISCONNECT;
    if (v->failed && open)
        return FH_XENBUS_DO_ERROR;
    return resolve((enum cell)table[v->online][v->connected][ours][front], v);
}

static const char *const state_names[FH_XENBUS_N_STATES] = {
    "unknown", "initialising", "init-wait",     "initialised", "connected",
    "closing", "closed",       "reconfiguring", "reconfigured",
};

const char *
fh_xenbus_state_name(enum fh_xenbus_state s)
{
    return state_valid(s) ? state_names[s] : "?";
}

const char *
fh_xenbus_action_name(enum fh_xenbus_action a)
{
    switch (a) {
    case FH_XENBUS_DO_NOTHING:
        return "nothing";
    case FH_XENBUS_DO_OFFER:
        return "offer";
    case FH_XENBUS_DO_CONNECT:
        return "connect";
    case FH_XENBUS_DO_ANNOUNCE:
        return "announce";
    case FH_XENBUS_DO_DISCONNECT:
        return "disconnect";
    case FH_XENBUS_DO_ERROR:
        return "error";
    case FH_XENBUS_DO_CLOSING:
        return "closing";
    case FH_XENBUS_DO_CLOSED:
        return "closed";
    case FH_XENBUS_DO_REMOVE:
        return "remove";
    }
    return "?";
}
