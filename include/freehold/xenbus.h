/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The handshake of a paravirtual device, seen by the backend, and parsers for
 * the numbers that it is made of.
 *
 * fh_xenbus_next() is a pure function: from what xenstore says now and what
 * the backend has now it answers the one next step.  It is asked again after
 * every step and on every event, always with freshly read values, so no order
 * of events matters (level-triggered: a frontend that is already in state 4
 * when we look for the first time is served like one that waited).  The whole
 * of it is one table in lib/xenbus/xenbus.c.
 *
 * Threads: any; no state, no allocation, no logging.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <freehold/err.h>

/* XenbusState, <xen/io/xenbus.h>; the values are the wire's. */
enum fh_xenbus_state {
    FH_XENBUS_UNKNOWN = 0, /* also: missing, unreadable, or no number */
    FH_XENBUS_INITIALISING = 1,
    FH_XENBUS_INIT_WAIT = 2,
    FH_XENBUS_INITIALISED = 3,
    FH_XENBUS_CONNECTED = 4,
    FH_XENBUS_CLOSING = 5,
    FH_XENBUS_CLOSED = 6,
    FH_XENBUS_RECONFIGURING = 7,
    FH_XENBUS_RECONFIGURED = 8,
};

enum { FH_XENBUS_N_STATES = 9 };

enum fh_xenbus_action {
    FH_XENBUS_DO_NOTHING,
    FH_XENBUS_DO_OFFER,      /* publish every feature and go to InitWait */
    FH_XENBUS_DO_CONNECT,    /* read the frontend's ring and start serving it */
    FH_XENBUS_DO_ANNOUNCE,   /* publish the properties and go to Connected, or
                                write Connected again after a resize */
    FH_XENBUS_DO_DISCONNECT, /* drain, unmap, unbind; writes no state */
    FH_XENBUS_DO_ERROR,      /* write the error node and go to Closing */
    FH_XENBUS_DO_CLOSING,
    FH_XENBUS_DO_CLOSED,
    FH_XENBUS_DO_REMOVE,     /* the device is over */
};

/* What the backend sees at one moment. */
struct fh_xenbus_view {
    enum fh_xenbus_state ours;  /* in our directory; the toolstack may have
                                   written it */
    enum fh_xenbus_state front; /* in the frontend's; UNKNOWN when gone */
    bool online;    /* false: being unplugged */
    bool connected; /* a worker serves the ring */
    bool hotplug_pending; /* a script must report first: stay in InitWait */
    bool foreign; /* what InitWait offers is another driver's: xen-blkback in
                     our own domain takes every vbd that appears, until the
                     toolstack's script takes the disk from it */
    bool renewed;   /* the frontend's ring is not the one that we have, or had
                       last: it started again without our noticing */
    bool changed;   /* the disk was resized since Connected was written */
    bool failed;    /* an error waits to be reported */
    bool force;     /* do not wait for the frontend's consent; counts only
                       when not online */
};

/*
 * fh_xenbus_next - the next step of the handshake
 *
 * Total: answers for every combination.  A device for which it answers
 * DO_NOTHING waits for an event.
 */
enum fh_xenbus_action
fh_xenbus_next(const struct fh_xenbus_view *v);

/* Text for messages; "?" for a value outside the enumeration. */
const char *
fh_xenbus_state_name(enum fh_xenbus_state s);
const char *
fh_xenbus_action_name(enum fh_xenbus_action a);

/* The state that a xenstore value of @len bytes names; UNKNOWN for junk. */
enum fh_xenbus_state
fh_xenbus_state_parse(const char *value, size_t len);

/*
 * fh_xenbus_parse_u32 - read a decimal number that a peer wrote
 *
 * @value: @len bytes, which may hold anything, NUL included
 * @max:   largest number that is taken
 * @out:   written on success only
 *
 * The whole value must be decimal digits, 1 to 20 of them: no sign, no space,
 * no "0x", nothing after it.  Leading zeros are accepted, as the others do.
 *
 * Returns 0, or FH_EINVAL for a value that is no number, or FH_ERANGE.
 */
FH_MUST_CHECK int
fh_xenbus_parse_u32(const char *value, size_t len, uint32_t max, uint32_t *out);
FH_MUST_CHECK int
fh_xenbus_parse_u64(const char *value, size_t len, uint64_t max, uint64_t *out);
