/* SPDX-License-Identifier: MIT */
/*
 * Connects, reads and closes a disk again and again, for cycles.sh.
 *
 *   cycles FRONTEND N...   after each N cycles in all, prints what this process
 *                          holds and waits for a line on stdin
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <freehold/blkfront.h>
#include "xenplat/xenplat.h"

enum { SECOND = 1000 * 1000 * 1000, SECTOR = 512, POOL = 64 };

static struct fh_xenplat x;

/* One life of a connection; every fourth one ends without a goodbye. */
static int
cycle(const char *frontend, unsigned n)
{
    const struct fh_blkfront_params params = {
        .plat = &x.plat,
        .frontend = frontend,
        .order = n % 5,
        .max_indirect = n % 2 ? 64 : 0,
        .pool_pages = POOL,
        .persistent = n % 3 != 0,
    };
    struct fh_blkfront *bf = NULL;
    void *mem = malloc(fh_blkfront_bytes(&params));
    uint8_t sector[SECTOR];
    int r = fh_blkfront_open(mem, &params, &bf);

    if (!r)
        r = fh_blkfront_connect(bf, 10ull * SECOND);
    if (!r)
        r = fh_blkfront_pread(bf, sector, sizeof(sector), n % 100 * SECTOR);
    if (!r && n % 4 != 3)
        r = fh_blkfront_close(bf, 10ull * SECOND);
    if (bf)
        fh_blkfront_fini(bf);
    free(mem);
    return r;
}

static unsigned
count_entries(const char *path)
{
    DIR *dir = opendir(path);
    unsigned n = 0;

    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static unsigned
count_lines(const char *path)
{
    FILE *f = fopen(path, "r");
    unsigned n = 0;
    int c;

    while (f && (c = fgetc(f)) != EOF)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

int
main(int argc, char **argv)
{
    unsigned n = 0;
    int r;

    r = fh_xenplat_open(&x, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
                                FH_XENPLAT_XENSTORE);
    if (r || argc < 3) {
        fprintf(stderr, "cycles: cannot start: %d\n", r);
        return 1;
    }
    for (int i = 2; i < argc; i++) {
        for (; n < (unsigned)atoi(argv[i]); n++) {
            r = cycle(argv[1], n);
            if (r) {
                fprintf(stderr, "cycles: %d in cycle %u\n", r, n);
                return 1;
            }
        }
        printf("descriptors %u mappings %u\n", count_entries("/proc/self/fd"),
               count_lines("/proc/self/maps"));
        fflush(stdout);
        if (getchar() == EOF)
            break;
    }
    fh_xenplat_close(&x);
    return 0;
}
