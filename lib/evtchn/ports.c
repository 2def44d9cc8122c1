/* SPDX-License-Identifier: MIT */
/*
 * A domain's table of ports: its memory, and which ports are free.
 *
 * Sets of ports are bitmaps with two summaries above them, 64 to 1 each, so the
 * lowest member from a port on is a few bit scans away however many there are.
 * Invariant: a bit of a summary is set if and only if the word below it is not
 * 0.  A port but 0 is free, busy or open, and in exactly that set.
 *
 * Busy: closed, but its FIFO event word is still LINKED: an event of its next
 * user would be found in the old queue, of another vCPU perhaps, or of one that
 * is offline.  It becomes free once the guest has consumed it, which each take
 * looks for at a bounded number of them.
 */
#include "evtchn/internal.h"

#include "base/arith.h"
#include "evtchn/fifo.h"
#include "evtchn/limits.h"

static uint32_t
words_for(uint32_t bits)
{
    return (bits + 63) / 64;
}

/* ------------------------------------------------------------------ sets -- */

static void
set_add(struct fh_evtchn_set *set, uint32_t port)
{
    set->level[0][port / 64] |= 1ull << port % 64;
    set->level[1][port / 64 / 64] |= 1ull << port / 64 % 64;
    *set->level[2] |= 1ull << port / 64 / 64;
}

static void
set_drop(struct fh_evtchn_set *set, uint32_t port)
{
    const uint32_t w0 = port / 64, w1 = w0 / 64;

    set->level[0][w0] &= ~(1ull << port % 64);
    if (!set->level[0][w0])
        set->level[1][w1] &= ~(1ull << w0 % 64);
    if (!set->level[1][w1])
        *set->level[2] &= ~(1ull << w1);
}

/* The lowest bit of @word from @from (0 .. 64) on, or 64. */
static uint32_t
bit_from(uint64_t word, uint32_t from)
{
    const uint64_t rest = from < 64 ? word >> from << from : 0;

    return rest ? (uint32_t)__builtin_ctzll(rest) : 64;
}

/* The lowest member from @from on, or 0. */
static uint32_t
set_next(const struct fh_evtchn_set *set, uint32_t from)
{
    uint32_t w1, w0 = from / 64, bit = bit_from(set->level[0][w0], from % 64);

    if (bit < 64)
        return w0 * 64 + bit;
    w1 = w0 / 64;
    bit = bit_from(set->level[1][w1], w0 % 64 + 1);
    if (bit == 64) {
        w1 = bit_from(*set->level[2], w1 + 1);
        if (w1 == 64)
            return 0;
        bit = (uint32_t)__builtin_ctzll(set->level[1][w1]);
    }
    w0 = w1 * 64 + bit;
    return w0 * 64 + (uint32_t)__builtin_ctzll(set->level[0][w0]);
}

/* ---------------------------------------------------------------- memory -- */

/* Words of one set. */
static uint32_t
set_words(uint32_t max_ports)
{
    const uint32_t n0 = words_for(max_ports);

    return n0 + words_for(n0) + 1;
}

static uint64_t *
set_init(struct fh_evtchn_set *set, uint64_t *mem, uint32_t max_ports)
{
    const uint32_t n0 = words_for(max_ports), n1 = words_for(n0);

    set->level[0] = mem;
    set->level[1] = mem + n0;
    set->level[2] = mem + n0 + n1;
    return mem + n0 + n1 + 1;
}

size_t
fh_evtchn_bytes(uint32_t max_ports)
{
    if (max_ports < 2 || max_ports > FH_EVTCHN_PORTS_MAX)
        return 0;
    return (size_t)max_ports * sizeof(struct fh_evtchn_port) +
           (3 * (size_t)set_words(max_ports) +
            2 * (size_t)words_for(max_ports) + FH_EVTCHN_PAGES_MAX) *
               sizeof(uint64_t);
}

void
fh_evtchn_init(struct fh_evtchn_domain *d, const struct fh_evtchn_ops *ops,
               void *hv, uint64_t uid, uint16_t domid, uint32_t max_ports,
               void *mem)
{
    struct fh_evtchn_port *ports = mem;
    uint64_t *bits = (uint64_t *)(ports + max_ports);

    *d = (struct fh_evtchn_domain){
        .ops = ops,
        .hv = hv,
        .uid = uid,
        .domid = domid,
        .form = FH_FORM_PLAIN,
        .max_ports = max_ports,
        .ports = ports,
        .budget = FH_EVTCHN_UNLIMITED,
    };
    bits = set_init(&d->free, bits, max_ports);
    bits = set_init(&d->busy, bits, max_ports);
    bits = set_init(&d->open, bits, max_ports);
    d->pending = bits;
    d->masked = bits + words_for(max_ports);
    d->pages = d->masked + words_for(max_ports);
    for (uint32_t port = 1; port < max_ports; port++)
        set_add(&d->free, port);
}

void
fh_evtchn_init_guest(struct fh_evtchn_domain *d,
                     const struct fh_evtchn_guest *guest)
{
    FH_SHARED uint8_t *info = guest->shared_info;

    fh_evtchn_init(d, guest->ops, guest->hv, guest->uid, guest->domid,
                   guest->max_ports, guest->mem);
    d->form = FH_FORM_2L;
    d->is_32bit = guest->is_32bit;
    d->shared_info = info;
    d->n_vcpus = guest->n_vcpus;
    d->vcpus = guest->vcpus;
    for (uint32_t i = 0; i < d->n_vcpus && i < FH_LEGACY_VCPUS; i++)
        d->vcpus[i].info = (uintptr_t)(info + i * FH_VCPU_INFO_BYTES);
}

/* ----------------------------------------------------------- free, busy -- */

/* The guest has still to consume what @port was. */
static bool
is_linked(struct fh_evtchn_domain *d, uint32_t port)
{
    FH_SHARED uint32_t *word;

    if (d->form != FH_FORM_FIFO)
        return false;
    word = fh_fifo_word(d, port);
    return word && (fh_load_relaxed32(word) & FH_FIFO_LINKED);
}

/* Looks at some of the busy ports, in turn. */
static void
look_at_busy(struct fh_evtchn_domain *d)
{
    uint32_t port;

    for (uint32_t i = 0; i < FH_BUSY_LOOKS && d->n_busy; i++) {
        port = set_next(&d->busy, d->busy_look);
        if (!port)
            port = set_next(&d->busy, 0);
        d->busy_look = port + 1 < d->max_ports ? port + 1 : 0;
        if (is_linked(d, port))
            continue;
        set_drop(&d->busy, port);
        d->n_busy--;
        set_add(&d->free, port);
    }
}

static void
make_busy(struct fh_evtchn_domain *d, uint32_t port)
{
    set_add(&d->busy, port);
    d->n_busy++;
}

/* Ports that the form can address. */
static uint32_t
port_limit(const struct fh_evtchn_domain *d)
{
    const uint32_t n = d->is_32bit ? FH_2L_PORTS_32 : FH_2L_PORTS_64;

    return d->form == FH_FORM_2L && n < d->max_ports ? n : d->max_ports;
}

uint32_t
fh_ports_take(struct fh_evtchn_domain *d)
{
    uint32_t port;

    look_at_busy(d);
    for (uint32_t i = 0; i < FH_BUSY_TRIES; i++) {
        port = set_next(&d->free, 0);
        if (!port || port >= port_limit(d))
            return 0;
        set_drop(&d->free, port);
        if (!is_linked(d, port)) {
            set_add(&d->open, port);
            d->n_open++;
            return port;
        }
        make_busy(d, port); /* the guest wrote it */
    }
    return 0;
}

void
fh_ports_give(struct fh_evtchn_domain *d, uint32_t port)
{
    set_drop(&d->open, port);
    d->n_open--;
    if (is_linked(d, port))
        make_busy(d, port);
    else
        set_add(&d->free, port);
}

uint32_t
fh_ports_next_open(struct fh_evtchn_domain *d, uint32_t from)
{
    return from < d->max_ports ? set_next(&d->open, from) : 0;
}

void
fh_ports_unbusy(struct fh_evtchn_domain *d)
{
    uint32_t port;

    while ((port = set_next(&d->busy, 0))) {
        set_drop(&d->busy, port);
        set_add(&d->free, port);
    }
    d->n_busy = 0;
}
