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
 * usage: grant_sched_test [PROGRAM | --until-bad]
 *
 * SCHED_REPLAY=CHOICES: that run alone; SCHED_MORE=N, SCHED_LESS=N: so many
 * unforced switches more or less.
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

/* ---------------------------------------------- memory that is restored -- */

struct arena {
    uint8_t bytes[ARENA];
    size_t used;
};

static struct arena arena __attribute__((aligned(4096)));
static struct world w;
/* Two worlds as they were built: tables of version 1, and of version 2. */
static struct start {
    struct world w;
    struct arena arena;
} start_v1, start_v2;
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

/* One of the many that no program touches: who scans them meets nobody. */
static bool
is_idle_entry(const void *p)
{
    for (unsigned i = 0; i < WORLD_DOMAINS; i++) {
        const struct fh_gnt_entry *e;

        if (!w.dom[i].exists)
            continue;
        e = w.dom[i].gnt.frames[0].active;
        if ((const uint8_t *)p > (const uint8_t *)&e[REF + 1] &&
            (const uint8_t *)p < (const uint8_t *)&e[FH_GNT_V1_PER_FRAME])
            return true;
        if ((const uint8_t *)p >= (const uint8_t *)&e[1] &&
            (const uint8_t *)p < (const uint8_t *)&e[REF])
            return true;
    }
    return false;
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
        if (p == &w.dom[i].refs || p == &w.dom[i].gnt.n_frames ||
            p == &w.dom[i].gnt.n_status) /* no program lets a table grow */
            return true;
    }
    return is_idle_entry(p);
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
keep(struct start *start)
{
    start->w = w;
    start->arena.used = arena.used;
    memcpy(start->arena.bytes, arena.bytes, arena.used);
}

static void
back_to(const struct start *start)
{
    w = start->w;
    arena.used = start->arena.used;
    memcpy(arena.bytes, start->arena.bytes, arena.used);
}

static int
switch_to(unsigned cpu, uint16_t dom, uint32_t version)
{
    struct gnttab_set_version op = { .version = version };
    uint32_t done;
    long r;

    do {
        r = fh_gnt_op_set_version(&ctx[cpu], &w.dom[dom].gnt, &op, 1, &done);
        if (r == FH_GNT_E_PREEMPTED)
            fh_cpu_relax(); /* it waits for somebody */
    } while (r == FH_GNT_E_PREEMPTED);
    return (int)r;
}

static void
build_v1(void)
{
    world_init(&w);
    for (uint16_t d = GRANTER; d <= OTHER; d++)
        world_add(&w, d, WORLD_MFN0 + (d - 1u) * 2, 2, 1, 3, 4,
                  FH_GNT_DOM_TRANSITIVE);
    for (unsigned i = 0; i < SCHED_THREADS; i++)
        fh_gnt_ctx_init(&ctx[i], &w.ops, &w, i);
    grant(GRANTER, REF, MAPPER, FRAME, GTF_permit_access);
    grant(GRANTER, REF + 1, MAPPER, FRAME + 1, GTF_permit_access);
    w.hook = hook;
    keep(&start_v1);
}

/* REF of each of two granters is transitive and names the other's REF; REF + 1
 * are pages. */
static void
build_v2(void)
{
    back_to(&start_v1);
    for (uint16_t d = GRANTER; d <= OTHER; d++) {
        if (switch_to(0, d, 2))
            abort();
    }
    fh_gnt_v2_grant_transitive(w.dom[GRANTER].table2, REF, MAPPER, OTHER,
                               REF + 1, false);
    fh_gnt_v2_grant(w.dom[GRANTER].table2, REF + 1, MAPPER, FRAME + 1, false);
    fh_gnt_v2_grant_transitive(w.dom[OTHER].table2, REF, GRANTER, GRANTER,
                               REF, false);
    fh_gnt_v2_grant(w.dom[OTHER].table2, REF + 1, GRANTER, FRAME + 4, false);
    keep(&start_v2);
}

static void
reset(void)
{
    back_to(&start_v1);
}

static void
reset_v2(void)
{
    back_to(&start_v2);
}

static void
reset_with_iommu(void)
{
    reset();
    w.iommu = true;
}

/* ------------------------------------------------------ what threads do -- */

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
copy_in_0(void)
{
    copy_by(0, MAPPER, REF, true);
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
set_version_1(void)
{
    sched_between();
    sched_result(switch_to(1, GRANTER, 2));
}

static void
set_version_2(void)
{
    sched_between();
    sched_result(switch_to(2, GRANTER, 2));
}

static void
swap_by(unsigned cpu, uint32_t a, uint32_t b)
{
    struct gnttab_swap_grant_ref op = { .ref_a = a, .ref_b = b };
    uint32_t done;

    sched_between();
    if (fh_gnt_op_swap(&ctx[cpu], &w.dom[GRANTER].gnt, &op, 1, &done))
        sched_fail("a swap of one element was cut short");
    sched_result(op.status);
}

static void
swap_1(void)
{
    swap_by(1, REF, REF + 1);
}

static void
swap_back_2(void)
{
    swap_by(2, REF + 1, REF);
}

/* Through the transitive entry of one granter to the other's page. */
static void
copy_through_out_1(void)
{
    copy_by(1, MAPPER, REF, false);
}

/* A transitive entry that names a transitive one: refused, never waited for. */
static void
copy_round_2(void)
{
    struct gnttab_copy op = { .len = 8, .flags = GNTCOPY_source_gref };

    op.source = (struct gnttab_copy_ptr){ .domid = OTHER, .u.ref = REF };
    op.dest = (struct gnttab_copy_ptr){ .domid = DOMID_SELF, .u.gmfn = FRAME };
    sched_between();
    sched_result(fh_gnt_copy_one(&ctx[2], &w.dom[GRANTER].gnt, &op));
}

static void
map_inner_2(void)
{
    struct gnttab_map_grant_ref op = { .dom = OTHER, .ref = REF + 1,
                                       .flags = GNTMAP_host_map,
                                       .host_addr = world_addr(3) };

    sched_between();
    sched_result(fh_gnt_map_one(&ctx[2], &w.dom[GRANTER].gnt, &op));
    if (!op.status)
        unmap_by(2, GRANTER, op.handle, 3);
}

static void
revoke_v2(void)
{
    int r;

    sched_between();
    r = fh_gnt_v2_revoke(w.dom[GRANTER].table2, w.dom[GRANTER].status,
                         REF + 1);
    sched_result(r);
    if (!r)
        expect_unreachable(FRAME + 1);
}

static void
map_v2_1(void)
{
    unmap_by(1, MAPPER, map_by(1, MAPPER, REF + 1, 0, 1), 1);
}

static void
map_v2_2(void)
{
    unmap_by(2, MAPPER, map_by(2, MAPPER, REF + 1, GNTMAP_readonly, 2), 2);
}

static void
map_1(void)
{
    map_by(1, MAPPER, REF, 0, 1);
}

/* ------------------------------------------------------ what came of it -- */

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
    snprintf(buf + n, size - n, " k%u v%u", w.dom[GRANTER].kicks,
             fh_gnt_version(&w.dom[GRANTER].gnt));
}

/* A copy holds its page for a moment, so a granter may see it in use although
 * no mapping is left. */
static bool
found_in_use(const char *came)
{
    return !strncmp(came, "2 |", 3);
}

/* A table that is being switched, or an entry that another CPU moves while this
 * one may not wait for it: eagain, which the caller tries again. */
static bool
has_eagain(const char *came)
{
    char number[8];

    snprintf(number, sizeof(number), "%d ", GNTST_eagain);
    if (strstr(came, number))
        return true;
    snprintf(number, sizeof(number), "%d ", FH_EAGAIN);
    return strstr(came, number);
}

/* A copy pins its entry for a moment, so the version may be refused to change
 * although nothing stays pinned. */
static bool
has_eagain_or_busy(const char *came)
{
    char number[8];

    snprintf(number, sizeof(number), "%d ", FH_EBUSY);
    return strstr(came, number) || has_eagain(came);
}

/* As found_in_use(); what was granted before is gone all the same. */
static bool
saw_use(const char *came)
{
    return strstr(came, "|2 ") || !strncmp(came, "2 ", 2);
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
    { "a table changes its version under a mapper", reset,
      { map_unmap_0, set_version_1 }, .unforced = 2, .may_also = has_eagain,
      COMMON },
    { "a table changes its version twice, under a copy", reset,
      { copy_in_0, set_version_1, set_version_2 }, .unforced = 2,
      .may_also = has_eagain_or_busy, COMMON },
    { "a swap under a mapper", reset, { map_unmap_0, swap_1 }, .unforced = 3,
      .may_also = has_eagain, COMMON },
    { "two swaps and a mapper", reset, { map_unmap_0, swap_1, swap_back_2 },
      .unforced = 2, .may_also = has_eagain, COMMON },
    { "version 2: two mappers and a granter who takes back", reset_v2,
      { revoke_v2, map_v2_1, map_v2_2 }, .unforced = 2, .may_also = saw_use,
      COMMON },
    { "transitive: a reader and a writer", reset_v2,
      { copy_in_0, copy_through_out_1 }, .unforced = 2,
      .may_also = has_eagain, COMMON },
    { "transitive: a copy and a mapper of the inner entry", reset_v2,
      { copy_in_0, copy_through_out_1, map_inner_2 }, .unforced = 1,
      .may_also = has_eagain, COMMON },
    { "transitive: entries that name each other", reset_v2,
      { copy_in_0, copy_round_2 }, .unforced = 3, .may_also = has_eagain,
      COMMON },
};

int
main(int argc, char **argv)
{
    const char *only = argc > 1 ? argv[1] : NULL;
    const bool until_bad = only && !strcmp(only, "--until-bad");
    unsigned n_bad = 0;

    sched_is_private = is_private;
    build_v1();
    build_v2();
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
