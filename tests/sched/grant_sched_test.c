/* SPDX-License-Identifier: MIT */
/*
 * libgrant, the real C, under the deterministic scheduler: two or three CPUs
 * (one of them may be the granter's guest, which rewrites its entry) in every
 * order of their accesses to shared memory, up to a bound of unforced switches.
 *
 * Checked at the end of each run: the invariants of world_check(), and that the
 * statuses and the state are those of some order of whole operations.  Checked
 * on the way: a page that its granter took back is reached by nobody.
 *
 * usage: grant_sched_test [PROGRAM | --until-bad]   (SCHED_REPLAY=CHOICES: that run alone;
 *                                    SCHED_MORE=N, SCHED_LESS=N: so many unforced
 *                                    switches more or less)
 */
#include "grant/world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"
#include "sched/points.h"
#include "sched/sched.h"

#define REF     8
#define GRANTER 1
#define MAPPER  2
#define OTHER   3
#define FRAME   WORLD_MFN0
#define ARENA   (1u << 20)

/* ------------------------------------------------- memory that is restored -- */

static struct {
    uint8_t bytes[ARENA];
    size_t used;
} arena __attribute__((aligned(4096))), arena_start;

static struct world w, w_start;
static struct fh_gnt_ctx ctx[SCHED_THREADS];

void *
sched_aligned_alloc(size_t align, size_t bytes);
void *
sched_calloc(size_t n, size_t bytes);
void
sched_free(void *p);

void *
sched_aligned_alloc(size_t align, size_t bytes)
{
    const size_t at = fh_round_up(arena.used, align);

    if (at + bytes > ARENA)
        abort();
    arena.used = at + bytes;
    memset(arena.bytes + at, 0, bytes);
    return arena.bytes + at;
}

void *
sched_calloc(size_t n, size_t bytes)
{
    return sched_aligned_alloc(64, n * bytes);
}

/* All at once, by the next reset. */
void
sched_free(void *p)
{
}

static bool
is_private(const void *p)
{
    const uint8_t *at = p;
    const uint8_t *frames = (const uint8_t *)w.frames;

    if (at >= frames && at < frames + WORLD_FRAMES * sizeof(*w.frames))
        return true; /* the machine's own counters */
    for (unsigned i = 0; i < WORLD_DOMAINS; i++) {
        const uint8_t *s = (const uint8_t *)w.dom[i].stats;

        if (at >= s && at < s + sizeof(w.dom[i].stats))
            return true;
        if (p == &w.dom[i].refs)
            return true;
    }
    return false;
}

static void
hook(struct world *world, void *arg)
{
    sched_point(world, true);
}

static void
grant(uint16_t granter, uint32_t ref, uint16_t to, uint64_t mfn, uint16_t flags)
{
    grant_entry_v1_t *e = &w.dom[granter].table[ref];

    e->domid = to;
    e->frame = (uint32_t)mfn;
    e->flags = flags;
}

static void
build(void)
{
    world_init(&w);
    for (uint16_t d = GRANTER; d <= OTHER; d++)
        world_add(&w, d, WORLD_MFN0 + (d - 1u) * 2, 2, 1, 3, 4, 0);
    for (unsigned i = 0; i < SCHED_THREADS; i++)
        fh_gnt_ctx_init(&ctx[i], &w.ops, &w, i);
    grant(GRANTER, REF, MAPPER, FRAME, GTF_permit_access);
    grant(GRANTER, REF + 1, MAPPER, FRAME + 1, GTF_permit_access);
    w.hook = hook;
    w_start = w;
    arena_start.used = arena.used;
    memcpy(arena_start.bytes, arena.bytes, arena.used);
}

static void
reset(void)
{
    w = w_start;
    arena.used = arena_start.used;
    memcpy(arena.bytes, arena_start.bytes, arena.used);
}

static void
reset_with_iommu(void)
{
    reset();
    w.iommu = true;
}

/* -------------------------------------------------------- what threads do -- */

static uint32_t
map_by(unsigned cpu, uint16_t caller, uint32_t ref, uint32_t flags,
       uint32_t slot)
{
    struct gnttab_map_grant_ref op = {
        .dom = GRANTER, .ref = ref, .flags = flags | GNTMAP_host_map,
        .host_addr = world_addr(slot)
    };

    sched_between();
    sched_result(fh_gnt_map_one(&ctx[cpu], &w.dom[caller].gnt, &op));
    return op.status ? UINT32_MAX : op.handle;
}

static void
unmap_by(unsigned cpu, uint16_t caller, uint32_t handle, uint32_t slot)
{
    struct gnttab_unmap_grant_ref op = { .handle = handle,
                                         .host_addr = world_addr(slot) };

    sched_between();
    if (handle == UINT32_MAX)
        sched_result(1);
    else
        sched_result(fh_gnt_unmap_one(&ctx[cpu], &w.dom[caller].gnt, &op));
}

static void
copy_by(unsigned cpu, uint16_t caller, uint32_t ref, bool in)
{
    struct gnttab_copy op = { .len = 8 };
    struct gnttab_copy_ptr from = { .domid = GRANTER, .u.ref = ref };
    struct gnttab_copy_ptr own = { .domid = DOMID_SELF,
                                   .u.gmfn = FRAME + (caller - 1u) * 2 };

    op.flags = in ? GNTCOPY_source_gref : GNTCOPY_dest_gref;
    op.source = in ? from : own;
    op.dest = in ? own : from;
    sched_between();
    sched_result(fh_gnt_copy_one(&ctx[cpu], &w.dom[caller].gnt, &op));
}

/* The page is the granter's alone again: whoever reaches it is caught. */
static void
expect_unreachable(uint64_t mfn)
{
    const struct world_frame *f = world_frame(&w, mfn);

    if (f->refs || f->writable_refs || f->n_maps)
        sched_fail("a page that was taken back is in use");
    for (unsigned d = 0; d < WORLD_DOMAINS; d++) {
        if (f->io_perm[d])
            sched_fail("a device reaches a page that was taken back");
    }
}

static bool
revoke(uint32_t ref, uint64_t mfn)
{
    int r;

    sched_between();
    r = fh_gnt_v1_revoke(w.dom[GRANTER].table, ref);
    sched_result(r);
    if (!r)
        expect_unreachable(mfn);
    return !r;
}

static void
map_unmap_0(void)
{
    unmap_by(0, MAPPER, map_by(0, MAPPER, REF, 0, 0), 0);
}

static void
map_unmap_1(void)
{
    unmap_by(1, MAPPER, map_by(1, MAPPER, REF, 0, 1), 1);
}

static void
map_unmap_ro_1(void)
{
    unmap_by(1, MAPPER, map_by(1, MAPPER, REF, GNTMAP_readonly, 1), 1);
}

static void
map_unmap_ro_2(void)
{
    unmap_by(2, MAPPER, map_by(2, MAPPER, REF, GNTMAP_readonly, 2), 2);
}

static void
other_maps_1(void)
{
    unmap_by(1, OTHER, map_by(1, OTHER, REF, 0, 0), 0);
}

static void
copy_in_1(void)
{
    copy_by(1, MAPPER, REF, true);
}

static void
copy_out_2(void)
{
    copy_by(2, MAPPER, REF, false);
}

static void
revoke_and_reuse(void)
{
    if (revoke(REF, FRAME))
        expect_unreachable(FRAME);
    sched_between();
    expect_unreachable(FRAME + 1); /* never granted with this reference */
}

/* Takes the page back and grants another to somebody else. */
static void
revoke_and_grant_anew(void)
{
    if (!revoke(REF, FRAME))
        return;
    sched_between();
    fh_gnt_v1_grant(w.dom[GRANTER].table, REF, OTHER, FRAME + 1, false);
}

static void
make_readonly(void)
{
    FH_SHARED uint16_t *flags = &w.dom[GRANTER].table[REF].flags;
    uint16_t old;

    sched_between();
    old = fh_load_relaxed16(flags);
    if (old & GTF_writing)
        return;
    sched_between();
    sched_result(fh_cas16(flags, &old, (uint16_t)(old | GTF_readonly)));
}

static void
kill_granter(void)
{
    sched_between();
    fh_gnt_domain_kill(&w.dom[GRANTER].gnt);
}

static void
close_entry(void)
{
    sched_between();
    sched_result(fh_gnt_entry_set(&w.dom[GRANTER].gnt, REF,
                                  FH_GNT_ENTRY_CLOSED | FH_GNT_ENTRY_NOTIFY));
}

/* Three handles in all: the fourth map of a moment finds none. */
static void
map_three(unsigned cpu, uint32_t first_slot)
{
    const uint32_t a = map_by(cpu, MAPPER, REF, 0, first_slot);
    const uint32_t b = map_by(cpu, MAPPER, REF + 1, 0, first_slot + 1);

    unmap_by(cpu, MAPPER, a, first_slot);
    unmap_by(cpu, MAPPER, b, first_slot + 1);
}

static void
map_two_0(void)
{
    map_three(0, 0);
}

static void
map_two_1(void)
{
    map_three(1, 2);
}

/* One mapping that two CPUs want to end. */
static uint32_t shared_handle;

static void
reset_with(uint32_t flags)
{
    struct gnttab_map_grant_ref op = { .dom = GRANTER, .ref = REF,
                                       .flags = GNTMAP_host_map | flags,
                                       .host_addr = world_addr(0) };

    reset();
    if (fh_gnt_map_one(&ctx[0], &w.dom[MAPPER].gnt, &op))
        abort();
    shared_handle = op.handle;
}

static void
reset_with_mapping(void)
{
    reset_with(0);
}

static void
reset_with_reader(void)
{
    reset_with(GNTMAP_readonly);
}

static void
unmap_shared_0(void)
{
    unmap_by(0, MAPPER, shared_handle, 0);
}

static void
unmap_shared_1(void)
{
    unmap_by(1, MAPPER, shared_handle, 0);
}

static void
map_0(void)
{
    map_by(0, MAPPER, REF, 0, 2);
}

static void
map_ro_1(void)
{
    map_by(1, MAPPER, REF, GNTMAP_readonly, 1);
}

static void
map_1(void)
{
    map_by(1, MAPPER, REF, 0, 1);
}

/* --------------------------------------------------------- what came of it -- */

static const char *
judge(void)
{
    return world_check(&w);
}

static void
digest(char *buf, size_t size)
{
    size_t n = 0;

    for (unsigned i = 0; i < 2; i++) {
        const struct world_frame *f = &w.frames[i];
        const grant_entry_v1_t *e = &w.dom[GRANTER].table[REF + i];

        n += (size_t)snprintf(buf + n, size - n, " f%u,%u,%u,%x e%x,%u,%x",
                              f->refs, f->writable_refs, f->n_maps,
                              f->io_perm[MAPPER], e->flags, e->domid,
                              e->frame);
    }
    snprintf(buf + n, size - n, " k%u", w.dom[GRANTER].kicks);
}

/* A copy holds its page for a moment, so a granter may see it in use although
 * no mapping is left. */
static bool
found_in_use(const char *came)
{
    return !strncmp(came, "2 |", 3);
}

#define COMMON .judge = judge, .digest = digest

static const struct sched_program programs[] = {
    { "two map and unmap one entry", reset, { map_unmap_0, map_unmap_1 },
      .unforced = 2, COMMON },
    { "a writer and a reader", reset, { map_unmap_0, map_unmap_ro_1 },
      .unforced = 2, COMMON },
    { "a writer and two readers", reset,
      { map_unmap_0, map_unmap_ro_1, map_unmap_ro_2 }, .unforced = 2, COMMON },
    { "with devices: a writer and a reader", reset_with_iommu,
      { map_unmap_0, map_unmap_ro_1 }, .unforced = 2, COMMON },
    { "a mapper and another domain", reset, { map_unmap_0, other_maps_1 },
      .unforced = 2, COMMON },
    { "a mapper and copies", reset, { map_unmap_0, copy_in_1, copy_out_2 },
      .unforced = 2, COMMON },
    { "a mapper and its granter who takes back", reset,
      { map_unmap_0, revoke_and_reuse }, .unforced = 2, COMMON },
    { "with devices: a mapper and its granter who takes back",
      reset_with_iommu, { map_unmap_0, revoke_and_reuse }, .unforced = 2,
      COMMON },
    { "a copy and its granter who takes back", reset,
      { revoke_and_reuse, copy_in_1, copy_out_2 }, .unforced = 2,
      .may_also = found_in_use, COMMON },
    { "a mapper, its granter who grants anew, and the new grantee", reset,
      { map_unmap_0, other_maps_1, revoke_and_grant_anew }, .unforced = 2,
      COMMON },
    { "a reader becomes a writer while the granter forbids it", reset,
      { map_unmap_ro_1, map_unmap_0, make_readonly }, .unforced = 2, COMMON },
    { "a granter dies", reset, { map_unmap_0, kill_granter, copy_in_1 },
      .unforced = 2, COMMON },
    { "no new pins, and a note at the last unpin", reset,
      { map_unmap_0, close_entry, map_unmap_ro_1 }, .unforced = 2, COMMON },
    { "a reader comes while another becomes a writer", reset_with_reader,
      { map_0, map_ro_1 }, .unforced = 2, COMMON },
    { "three handles for four maps", reset, { map_two_0, map_two_1 },
      .unforced = 2, COMMON },
    { "one handle unmapped twice", reset_with_mapping,
      { unmap_shared_0, unmap_shared_1 }, .unforced = 3, COMMON },
    { "one handle unmapped twice while its slot is reused",
      reset_with_mapping, { unmap_shared_0, map_1, unmap_shared_1 },
      .unforced = 2, COMMON },
};

int
main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    const bool until_bad = only && !strcmp(only, "--until-bad");
    unsigned n_bad = 0;

    sched_is_private = is_private;
    build();
    for (size_t i = 0; i < FH_ARRAY_SIZE(programs); i++) {
        struct sched_stats stats;
        const char *bad;

        if ((only && !until_bad && strcmp(only, programs[i].name)) ||
            (until_bad && n_bad))
            continue;
        bad = sched_explore(&programs[i], &stats);
        printf("%s %s: %llu runs, %llu steps, %u outcomes allowed\n",
               bad ? "not ok" : "ok", programs[i].name,
               (unsigned long long)stats.runs, (unsigned long long)stats.steps,
               stats.allowed);
        if (bad)
            printf("  %s\n", bad);
        n_bad += bad != NULL;
    }
    return n_bad ? 1 : 0;
}
