/* SPDX-License-Identifier: MIT */
/*
 * Gives random inputs to the fuzz target that it is linked with, for tests of
 * every build; where a failure came from is its last line.
 *
 * usage: NAME_random SEED ROUNDS BYTES   (SEED "time": another one each time)
 */
#include <time.h>

#include "fuzz.h"

static uint64_t state;

static uint8_t
next_byte(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint8_t)(state >> 24);
}

int
main(int argc, char **argv)
{
    uint64_t seed, rounds;
    size_t n;
    uint8_t *input;

    if (argc != 4) {
        fprintf(stderr, "usage: %s SEED|time ROUNDS BYTES\n", argv[0]);
        return 2;
    }
    seed = strcmp(argv[1], "time") ? strtoull(argv[1], NULL, 0)
                                   : (uint64_t)time(NULL);
    rounds = strtoull(argv[2], NULL, 0);
    n = strtoul(argv[3], NULL, 0);
    input = malloc(n + !n);
    if (!input)
        return 1;
    for (uint64_t i = 0; i < rounds; i++) {
        printf("seed %llu\n", (unsigned long long)(seed + i));
        fflush(stdout);
        state = (seed + i) * 0x9e3779b97f4a7c15ull + 1;
        for (size_t k = 0; k < n; k++)
            input[k] = next_byte();
        LLVMFuzzerTestOneInput(input, n);
    }
    free(input);
    return 0;
}
