/* SPDX-License-Identifier: MIT */
/*
 * Numbers in xenstore, strictly: the peer chose the bytes (XSA-175's family).
 * The whole value is digits or it is refused; nothing is skipped, nothing is
 * guessed, nothing wraps.
 */
#include <freehold/xenbus.h>

/* Longest accepted: 2^64 - 1 has 20 digits. */
enum { MAX_DIGITS = 20 };

int
fh_xenbus_parse_u64(const char *value, size_t len, uint64_t max, uint64_t *out)
{
    uint64_t n = 0;

    if (len == 0 || len > MAX_DIGITS)
        return FH_EINVAL;
    for (size_t i = 0; i < len; i++)
        if (value[i] < '0' || value[i] > '9')
            return FH_EINVAL;
    for (size_t i = 0; i < len; i++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(value[i] - '0'), &n))
            return FH_ERANGE;
    if (n > max)
        return FH_ERANGE;
    *out = n;
    return 0;
}

int
fh_xenbus_parse_u32(const char *value, size_t len, uint32_t max, uint32_t *out)
{
    uint64_t n;
    int r = fh_xenbus_parse_u64(value, len, max, &n);

    if (r)
        return r;
    *out = (uint32_t)n;
    return 0;
}

enum fh_xenbus_state
fh_xenbus_state_parse(const char *value, size_t len)
{
    uint32_t n;

    if (fh_xenbus_parse_u32(value, len, FH_XENBUS_N_STATES - 1, &n))
        return FH_XENBUS_UNKNOWN;
    return (enum fh_xenbus_state)n;
}
