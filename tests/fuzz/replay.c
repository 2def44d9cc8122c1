/* SPDX-License-Identifier: MIT */
/*
 * Gives every file of the named folders to the fuzz target that it is linked
 * with: the corpus as an ordinary test, for any compiler and sanitizer.  A
 * crash is preceded by the file's name.
 *
 * usage: NAME_replay FOLDER...
 */
#include <dirent.h>
#include <limits.h>
#include "fuzz.h"

enum {
    INPUT_BYTES = 65536,
};

static void
replay_file(const char *path)
{
    static uint8_t input[INPUT_BYTES];
    FILE *f = fopen(path, "rb");

    if (!f) {
        perror(path);
        exit(1);
    }
    const size_t n = fread(input, 1, sizeof(input), f);

    fclose(f);
    /* Of its own and exactly as long, so that ASan sees one byte too many. */
    uint8_t *copy = malloc(n + !n);

    memcpy(copy, input, n);
    printf("%s\n", path);
    fflush(stdout);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static unsigned
replay_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    unsigned n = 0;

    if (!dir) {
        perror(folder);
        exit(1);
    }
    while ((entry = readdir(dir))) {
        char path[PATH_MAX];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name);
        replay_file(path);
        n++;
    }
    closedir(dir);
    return n;
}

int
main(int argc, char **argv)
{
    unsigned n = 0;

    for (int i = 1; i < argc; i++)
        n += replay_folder(argv[i]);
    printf("%u inputs\n", n);
    return n ? 0 : 1; /* an empty corpus tests nothing */
}
