/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * What a fuzz target has: the entry point that libFuzzer calls and replay.c
 * calls for each file of the corpus, CHECK for its claims, and a reader that
 * hands out the input and zeros after its end.
 *
 * A target is deterministic and keeps nothing between two inputs.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond)                                                            \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__,   \
                    #cond);                                                    \
            abort();                                                           \
        }                                                                      \
    } while (0)

struct fuzz_input {
    const uint8_t *data;
    size_t left;
};

static inline void
fuzz_bytes(struct fuzz_input *in, void *out, size_t n)
{
    const size_t have = n < in->left ? n : in->left;

    memset(out, 0, n);
    if (have)
        memcpy(out, in->data, have);
    in->data += have;
    in->left -= have;
}

static inline uint8_t
fuzz_byte(struct fuzz_input *in)
{
    uint8_t b;

    fuzz_bytes(in, &b, 1);
    return b;
}
