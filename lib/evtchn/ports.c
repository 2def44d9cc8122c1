/* SPDX-License-Identifier: MIT */
/*
 * A domain's table of ports: its memory, and which ports are free.
 *
 * Free ports are a bitmap with two summaries above it, 64 to 1 each, so the
 * lowest free port is three bit scans away however many there are.
 * Invariant: a bit of a summary is set if and only if the word below it is not
 * 0.  Port 0 is never free.
 */
#include "evtchn/internal.h"

#include "base/arith.h"

static uint32_t
words_for(uint32_t bits)
{
    return (bits + 63) / 64;
}

size_t
fh_evtchn_bytes(uint32_t max_ports)
{
    const uint32_t n0 = words_for(max_ports), n1 = words_for(n0);

    if (max_ports < 2 || max_ports > FH_EVTCHN_PORTS_MAX)
        return 0;
    return (size_t)max_ports * sizeof(struct fh_evtchn_port) +
           (3 * (size_t)n0 + n1 + 1) * sizeof(uint64_t);
}

void
fh_evtchn_init(struct fh_evtchn_domain *d, const struct fh_evtchn_ops *ops,
               void *hv, uint64_t uid, uint16_t domid, uint32_t max_ports,
               void *mem)
{
    const uint32_t n0 = words_for(max_ports), n1 = words_for(n0);
    struct fh_evtchn_port *ports = mem;
    uint64_t *bits = (uint64_t *)(ports + max_ports);

    *d = (struct fh_evtchn_domain){
        .ops = ops,
        .hv = hv,
        .uid = uid,
        .domid = domid,
        .max_ports = max_ports,
        .ports = ports,
        .pending = bits,
        .masked = bits + n0,
        .free_bits = { bits + 2 * n0, bits + 3 * n0, bits + 3 * n0 + n1 },
    };
    for (uint32_t port = 1; port < max_ports; port++)
        fh_ports_give(d, port);
}

uint32_t
fh_ports_take(struct fh_evtchn_domain *d)
{
    uint32_t w1, w0, port;

    if (!*d->free_bits[2])
        return 0;
    w1 = (uint32_t)__builtin_ctzll(*d->free_bits[2]);
    w0 = w1 * 64 + (uint32_t)__builtin_ctzll(d->free_bits[1][w1]);
    port = w0 * 64 + (uint32_t)__builtin_ctzll(d->free_bits[0][w0]);

    d->free_bits[0][w0] &= d->free_bits[0][w0] - 1;
    if (!d->free_bits[0][w0])
        d->free_bits[1][w1] &= ~(1ull << w0 % 64);
    if (!d->free_bits[1][w1])
        *d->free_bits[2] &= ~(1ull << w1);
    return port;
}

void
fh_ports_give(struct fh_evtchn_domain *d, uint32_t port)
{
    d->free_bits[0][port / 64] |= 1ull << port % 64;
    d->free_bits[1][port / 64 / 64] |= 1ull << port / 64 % 64;
    *d->free_bits[2] |= 1ull << port / 64 / 64;
}
