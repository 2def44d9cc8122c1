/* SPDX-License-Identifier: MIT */
/*
 * Memory, hashing and maps of the xenstore server.
 *
 * Paths are chosen by guests, so the hash is keyed: without the key nobody can
 * aim many paths at one bucket.  The mixing is SipHash's, one round per byte
 * (paths are short), three to finish.  A path's hash derives from its
 * parent's, so that a path with all its prefixes is hashed once.
 */
#include <stdlib.h>
#include <string.h>

#include "hv/xs/xs_internal.h"

enum { N_BUCKETS_MIN = 16 };

void *
fh_xs_mem_new(struct fh_xs *xs, size_t n)
{
    void *p;

    if (xs->fail_alloc_in && --xs->fail_alloc_in == 0)
        return NULL;
    p = calloc(1, n ? n : 1);
    if (p)
        xs->n_allocs++;
    return p;
}

void
fh_xs_mem_del(struct fh_xs *xs, void *p)
{
    if (p)
        xs->n_allocs--;
    free(p);
}

char *
fh_xs_mem_dup(struct fh_xs *xs, const void *from, size_t n)
{
    char *p = fh_xs_mem_new(xs, n + 1);

    if (p && n)
        memcpy(p, from, n);
    return p;
}

static inline uint64_t
rotate(uint64_t v, unsigned by)
{
    return v << by | v >> (64 - by);
}

static inline void
mix(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] = rotate(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] = rotate(v[2], 32);
}

uint64_t
fh_xs_hash(const struct fh_xs *xs, uint64_t parent, const char *name, size_t n)
{
    uint64_t v[4] = { xs->key[0], xs->key[1], ~xs->key[0], parent };

    mix(v);
    for (size_t i = 0; i < n; i++) {
        v[3] ^= (unsigned char)name[i];
        mix(v);
        v[0] ^= (unsigned char)name[i];
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        mix(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

int
fh_xs_map_init(struct fh_xs *xs, struct fh_xs_map *map)
{
    struct fh_xs_link **buckets =
        fh_xs_mem_new(xs, N_BUCKETS_MIN * sizeof(buckets[0]));

    if (!buckets)
        return FH_ENOMEM;
    *map = (struct fh_xs_map){ .buckets = buckets,
                               .n_buckets = N_BUCKETS_MIN };
    return 0;
}

void
fh_xs_map_fini(struct fh_xs *xs, struct fh_xs_map *map)
{
    fh_xs_mem_del(xs, map->buckets);
    *map = (struct fh_xs_map){ 0 };
}

static void
append(struct fh_xs_map *map, struct fh_xs_link *link)
{
    struct fh_xs_link **at = &map->buckets[link->hash & (map->n_buckets - 1)];

    while (*at)
        at = &(*at)->next;
    link->next = NULL;
    *at = link;
}

/* Without memory the map stays as it is: slower, not wrong. */
static void
grow(struct fh_xs *xs, struct fh_xs_map *map)
{
    struct fh_xs_map to = { .n_buckets = map->n_buckets * 2, .n = map->n };

    to.buckets = fh_xs_mem_new(xs, to.n_buckets * sizeof(to.buckets[0]));
    if (!to.buckets)
        return;
    for (size_t i = 0; i < map->n_buckets; i++) {
        struct fh_xs_link *next;

        for (struct fh_xs_link *l = map->buckets[i]; l; l = next) {
            next = l->next;
            append(&to, l);
        }
    }
    fh_xs_mem_del(xs, map->buckets);
    *map = to;
}

void
fh_xs_map_add(struct fh_xs *xs, struct fh_xs_map *map, struct fh_xs_link *link,
              uint64_t hash)
{
    if (map->n >= map->n_buckets)
        grow(xs, map);
    link->hash = hash;
    append(map, link);
    map->n++;
}

void
fh_xs_map_del(struct fh_xs_map *map, struct fh_xs_link *link)
{
    struct fh_xs_link **at = &map->buckets[link->hash & (map->n_buckets - 1)];

    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    map->n--;
}

struct fh_xs_link *
fh_xs_map_first(const struct fh_xs_map *map, uint64_t hash)
{
    struct fh_xs_link *l = map->buckets[hash & (map->n_buckets - 1)];

    while (l && l->hash != hash)
        l = l->next;
    return l;
}

struct fh_xs_link *
fh_xs_map_next(const struct fh_xs_link *link)
{
    struct fh_xs_link *l = link->next;

    while (l && l->hash != link->hash)
        l = l->next;
    return l;
}
