/* SPDX-License-Identifier: MIT */
/*
 * Replays what Xen's own code answered (a trace of single operations with the
 * state after each) and compares: status, machine address, shared entries,
 * pins, page tables, references on frames, their contents.
 *
 * usage: grant_replay_test TRACE
 *
 * Only version 1 tables exist here yet.  Operations on a table that the trace
 * switched to version 2, and operations that the engine does not have, are not
 * run: the state that they left is taken over from the trace, and they are
 * counted and printed.  Known differences (lib/grant/README.md) are translated:
 * Xen's references per mapping are computed from the live handles.
 */
#include "grant/world.h"

#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define MAX_OPS   4096
#define MAX_REFS  600 /* as many entries as the trace shows */
#define BAD_HANDLE 0xffffffffu

/* An entry as the trace last showed it. */
struct seen_entry {
    uint32_t flags, pin;
    uint16_t domid;
    uint64_t w1;
};

struct replay {
    struct world w;
    struct fh_gnt_ctx ctx;
    unsigned seed, op;
    /* per operation of this sequence: the handle of its map */
    uint32_t handle[MAX_OPS];
    uint64_t bus[MAX_OPS];
    /* as the trace says */
    struct seen_entry entry[WORLD_DOMAINS][MAX_REFS];
    unsigned version[WORLD_DOMAINS];
    bool out[WORLD_DOMAINS]; /* the table is not ours to follow now */
    uint32_t frame_c[WORLD_FRAMES], frame_t[WORLD_FRAMES], sum[WORLD_FRAMES];
    int32_t extra_c[WORLD_FRAMES], extra_t[WORLD_FRAMES];
    bool other_bytes[WORLD_FRAMES]; /* written by an operation not run */
    struct {
        uint64_t mfn;
        int rw;
    } pte[WORLD_DOMAINS][256];
    /* the operation at hand */
    char line[256];
    bool ran;
    int16_t status;
    uint64_t got_bus;
    /* totals */
    unsigned n_run, n_skipped, n_sequences;
};

static struct replay r;

/* The value of "key=" in the current line, in base @base. */
static uint64_t
field(const char *line, const char *key, int base)
{
    char pattern[24];
    const char *at;

    snprintf(pattern, sizeof(pattern), " %s=", key);
    at = strstr(line, pattern);
    if (!at)
        return 0;
    at += strlen(pattern);
    return *at == '-' ? (uint64_t)strtoll(at, NULL, base)
                      : strtoull(at, NULL, base);
}

#define DEC(key) field(r.line, key, 10)
#define HEX(key) field(line, key, 16)

/* The trace's sum: FNV-1a over 64-bit words, folded to 32 bits. */
static uint32_t
fnv(const uint8_t *p)
{
    const uint64_t *words = (const uint64_t *)p;
    uint64_t h = 14695981039346656037ull;

    for (uint32_t i = 0; i < FH_PAGE_BYTES / 8; i++)
        h = (h ^ words[i]) * 1099511628211ull;
    return (uint32_t)(h ^ h >> 32);
}

/* ---------------------------------------------------------------- worlds -- */

static void
begin_domain(const char *line)
{
    const uint16_t dom = (uint16_t)field(line, "dom", 10);
    const uint64_t first = HEX("first");
    const uint32_t n = (uint32_t)field(line, "frames", 10);

    world_add(&r.w, dom, first, n, (uint32_t)field(line, "maxgframes", 10),
              (uint32_t)field(line, "maxmtframes", 10) * 256,
              (uint32_t)field(line, "slots", 10), 0);
    r.w.dom[dom].guest_lies = true;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *words = (uint64_t *)world_frame(&r.w, first + i)->bytes;

        for (uint32_t k = 0; k < FH_PAGE_BYTES / 8; k++)
            words[k] = (first + i) * 1000003 + k;
    }
}

static void
begin_sequence(const char *line)
{
    const unsigned run = r.n_run, skipped = r.n_skipped, n = r.n_sequences;

    r = (struct replay){ .n_run = run, .n_skipped = skipped,
                         .n_sequences = n + 1,
                         .seed = (unsigned)field(line, "seed", 10) };
    world_init(&r.w);
    fh_gnt_ctx_init(&r.ctx, &r.w.ops, &r.w, 0);
}

/* ------------------------------------------------ state lines of a trace -- */

static void
see_table(const char *line)
{
    const uint16_t dom = (uint16_t)field(line, "dom", 10);
    const uint32_t frames = (uint32_t)field(line, "gframes", 10);

    r.version[dom] = (unsigned)field(line, "ver", 10);
    while (fh_gnt_table_frames(&r.w.dom[dom].gnt) < frames)
        EXPECT_EQ(world_grow(&r.w.dom[dom]), 0);
    if (r.version[dom] != 1)
        r.out[dom] = true;
}

static void
see_entry(const char *line)
{
    const uint64_t ref = field(line, "ref", 10);

    if (ref < MAX_REFS)
        r.entry[field(line, "dom", 10)][ref] = (struct seen_entry){
            .flags = (uint32_t)HEX("fl"),
            .domid = (uint16_t)field(line, "did", 10),
            .w1 = HEX("w1"),
            .pin = (uint32_t)HEX("pin"),
        };
}

static void
see_pte(const char *line)
{
    const uint64_t dom = field(line, "dom", 10), slot = field(line, "slot", 10);

    r.pte[dom][slot].mfn = HEX("mfn");
    r.pte[dom][slot].rw = (int)field(line, "rw", 10);
}

static void
see_frame(const char *line)
{
    const uint32_t i = (uint32_t)(HEX("mfn") - WORLD_MFN0);
    const uint32_t sum = (uint32_t)HEX("sum");

    if (!r.ran && sum != r.sum[i])
        r.other_bytes[i] = true;
    r.frame_c[i] = (uint32_t)field(line, "c", 10);
    r.frame_t[i] = (uint32_t)field(line, "t", 10);
    r.sum[i] = sum;
}

static void
see(const char *line)
{
    switch (line[0]) {
    case 'g':
        see_table(line);
        break;
    case 'e':
        see_entry(line);
        break;
    case 'p':
        see_pte(line);
        break;
    case 'f':
        see_frame(line);
        break;
    }
}

/* ------------------------------------------------------------ operations -- */

static void
op_poke(uint16_t dom)
{
    const uint64_t ref = DEC("ref");
    grant_entry_v1_t *table = r.w.dom[dom].table;

    if (ref >= r.w.dom[dom].gnt.n_frames * FH_GNT_V1_PER_FRAME)
        return;
    table[ref] = (grant_entry_v1_t){ .flags = (uint16_t)DEC("fl"),
                                     .domid = (domid_t)DEC("did"),
                                     .frame = (uint32_t)DEC("fr") };
}

static void
op_flag(uint16_t dom)
{
    const uint64_t ref = DEC("ref");
    grant_entry_v1_t *table = r.w.dom[dom].table;

    if (ref < r.w.dom[dom].gnt.n_frames * FH_GNT_V1_PER_FRAME)
        table[ref].flags =
            (uint16_t)((table[ref].flags & DEC("and")) | DEC("or"));
}

static void
op_map(uint16_t dom)
{
    struct gnttab_map_grant_ref op = { .dom = 0 };

    op.dom = (domid_t)field(strstr(r.line, " map"), "dom", 10);
    op.ref = (grant_ref_t)DEC("ref");
    op.flags = (uint32_t)DEC("fl");
    op.host_addr = world_addr((uint32_t)DEC("slot"));
    r.status = fh_gnt_map_one(&r.ctx, &r.w.dom[dom].gnt, &op);
    r.got_bus = op.dev_bus_addr;
    if (r.status)
        return;
    r.handle[r.op] = op.handle;
    r.bus[r.op] = op.dev_bus_addr;
}

static void
op_unmap(uint16_t dom)
{
    const int64_t h = (int64_t)DEC("h"), slot = (int64_t)DEC("slot");
    struct gnttab_unmap_grant_ref op = { .handle = BAD_HANDLE };

    if (h >= 0) {
        op.handle = r.handle[h];
        if (DEC("bus"))
            op.dev_bus_addr = r.bus[h] + (DEC("bus") == 2 ? 4096 : 0);
    }
    if (slot >= 0)
        op.host_addr = world_addr((uint32_t)slot);
    r.status = fh_gnt_unmap_one(&r.ctx, &r.w.dom[dom].gnt, &op);
}

/* The frame that one side of a copy means, for following its contents. */
static struct world_frame *
side_frame(uint16_t caller, uint16_t dom, uint64_t id, bool is_ref)
{
    struct fh_gnt_entry_info info;

    if (dom == DOMID_SELF)
        dom = caller;
    if (!is_ref)
        return world_frame(&r.w, id);
    if (fh_gnt_entry_info(&r.w.dom[dom].gnt, (uint32_t)id, &info))
        return NULL;
    return world_frame(&r.w, info.readers + info.writers
                                 ? info.mfn
                                 : r.w.dom[dom].table[id].frame);
}

static void
op_copy(uint16_t dom)
{
    struct gnttab_copy op = { .flags = (uint16_t)DEC("fl") };
    struct world_frame *from, *to;

    op.source.domid = (domid_t)DEC("sdom");
    op.source.u.gmfn = DEC("s");
    op.source.offset = (uint16_t)DEC("soff");
    op.dest.domid = (domid_t)DEC("ddom");
    op.dest.u.gmfn = DEC("d");
    op.dest.offset = (uint16_t)DEC("doff");
    op.len = (uint16_t)DEC("len");
    r.status = fh_gnt_copy_one(&r.ctx, &r.w.dom[dom].gnt, &op);
    if (r.status || !op.len)
        return;
    from = side_frame(dom, op.source.domid, op.source.u.gmfn, op.flags & 1);
    to = side_frame(dom, op.dest.domid, op.dest.u.gmfn, op.flags & 2);
    if (r.other_bytes[from - r.w.frames])
        r.other_bytes[to - r.w.frames] = true;
}

/* True if the operation needs a table that is not followed now. */
static bool
is_out(uint16_t dom, const char *kind)
{
    if (!strcmp(kind, "poke") || !strcmp(kind, "flag"))
        return r.out[dom];
    if (!strcmp(kind, "map")) {
        const uint64_t g = field(strstr(r.line, " map"), "dom", 10);

        return g < WORLD_DOMAINS && r.out[g];
    }
    if (!strcmp(kind, "unmap")) {
        const int64_t h = (int64_t)DEC("h");

        return h >= 0 && r.handle[h] == BAD_HANDLE;
    }
    if (!strcmp(kind, "copy")) {
        const unsigned fl = (unsigned)DEC("fl");
        uint64_t s = DEC("sdom"), d = DEC("ddom");

        s = s == DOMID_SELF ? dom : s;
        d = d == DOMID_SELF ? dom : d;
        return ((fl & 1) && s < WORLD_DOMAINS && r.out[s]) ||
               ((fl & 2) && d < WORLD_DOMAINS && r.out[d]);
    }
    return true; /* setver, getver, query, setup, swap */
}

static const struct {
    const char *kind;
    void (*run)(uint16_t dom);
    bool has_status;
} kinds[] = {
    { "poke", op_poke, false }, { "flag", op_flag, false },
    { "map", op_map, true },    { "unmap", op_unmap, true },
    { "copy", op_copy, true },
};

static bool
run_op(void)
{
    char kind[16] = "";
    unsigned dom = 0;

    EXPECT_EQ(sscanf(r.line, "O %u dom=%u %15s", &r.op, &dom, kind), 3);
    r.handle[r.op] = BAD_HANDLE;
    r.ran = !is_out((uint16_t)dom, kind);
    if (!r.ran) {
        r.n_skipped++;
        return false;
    }
    r.n_run++;
    for (size_t i = 0; i < FH_ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].kind, kind))
            continue;
        kinds[i].run((uint16_t)dom);
        return kinds[i].has_status;
    }
    return false;
}

/* --------------------------------------------------------------- compare -- */

/* What Xen would count for the live handles. */
struct tally {
    uint32_t pin[WORLD_DOMAINS][MAX_REFS]; /* four byte counters, as in Xen */
    uint32_t c[WORLD_FRAMES], t[WORLD_FRAMES];
};

static void
tally_slot(struct tally *t, const struct fh_gnt_slot *s)
{
    const struct fh_gnt_entry *e = s->entry;
    const uint32_t i = (uint32_t)(e->mfn - WORLD_MFN0);
    const bool ro = s->word & GNTMAP_readonly;
    const uint32_t parts =
        !!(s->word & GNTMAP_host_map) + !!(s->word & GNTMAP_device_map);

    if (e->ref < MAX_REFS && (s->word & GNTMAP_host_map))
        t->pin[e->granter->domid][e->ref] += ro ? 0x100 : 1;
    if (e->ref < MAX_REFS && (s->word & GNTMAP_device_map))
        t->pin[e->granter->domid][e->ref] += ro ? 0x1000000 : 0x10000;
    t->c[i] += parts;
    if (!ro)
        t->t[i] += parts;
}

static void
tally_all(struct tally *t)
{
    memset(t, 0, sizeof(*t));
    for (unsigned m = 0; m < WORLD_DOMAINS; m++) {
        const struct fh_gnt_domain *d = &r.w.dom[m].gnt;

        for (uint32_t i = 0; i < d->fresh_slots; i++) {
            if (d->slots[i].word & FH_SLOT_LIVE)
                tally_slot(t, &d->slots[i]);
        }
    }
}

#define AT "seed %u operation %u", r.seed, r.op

static void
compare_entries(unsigned dom, const struct tally *t)
{
    for (uint32_t ref = 0; ref < MAX_REFS; ref++) {
        const struct seen_entry *e = &r.entry[dom][ref];
        const grant_entry_v1_t *v1 = &r.w.dom[dom].table[ref];

        if (ref >= r.w.dom[dom].gnt.n_frames * FH_GNT_V1_PER_FRAME)
            break;
        EXPECT_EQ(v1->flags, e->flags, AT);
        EXPECT_EQ(v1->domid, e->domid, AT);
        EXPECT_EQ(v1->frame, e->w1, AT);
        EXPECT_EQ(t->pin[dom][ref], e->pin, AT);
    }
}

static void
compare_ptes(unsigned dom)
{
    for (uint32_t i = 0; i < r.w.dom[dom].n_ptes; i++) {
        const uint64_t word = r.w.dom[dom].ptes[i].word;

        EXPECT_EQ(word >> 8, r.pte[dom][i].mfn, AT);
        EXPECT_EQ(!!(word & W_PTE_RW), r.pte[dom][i].rw, AT);
    }
}

static void
compare_frames(const struct tally *t)
{
    for (uint32_t i = 0; i < WORLD_FRAMES; i++) {
        if (!r.frame_c[i])
            continue; /* nobody's */
        EXPECT_EQ((int32_t)(2 + t->c[i]) + r.extra_c[i], r.frame_c[i], AT);
        EXPECT_EQ((int32_t)(1 + t->t[i]) + r.extra_t[i], r.frame_t[i], AT);
    }
}

/* Contents are compared where they changed: hashing all would take minutes. */
static void
compare_sum(const char *line)
{
    const uint32_t i = (uint32_t)(HEX("mfn") - WORLD_MFN0);

    if (!r.other_bytes[i])
        EXPECT_EQ(fnv(r.w.frames[i].bytes), HEX("sum"), AT);
}

static void
compare_state(void)
{
    static struct tally t;

    tally_all(&t);
    for (unsigned dom = 0; dom < WORLD_DOMAINS; dom++) {
        if (!r.w.dom[dom].exists)
            continue;
        if (!r.out[dom])
            compare_entries(dom, &t);
        compare_ptes(dom);
    }
    compare_frames(&t);
    EXPECT(!world_check(&r.w), "%s; seed %u operation %u", world_check(&r.w),
           r.seed, r.op);
}

/* ----------------------------------------------- operations not run here -- */

static bool
any_pin(unsigned dom, const struct tally *t)
{
    for (uint32_t ref = 0; ref < MAX_REFS; ref++) {
        if (r.entry[dom][ref].pin || t->pin[dom][ref])
            return true;
    }
    return false;
}

static void
load_entries(unsigned dom)
{
    struct world_domain *d = &r.w.dom[dom];

    memset(d->table, 0, d->gnt.n_frames * (size_t)FH_PAGE_BYTES);
    for (uint32_t ref = 0; ref < MAX_REFS; ref++) {
        if (ref < d->gnt.n_frames * FH_GNT_V1_PER_FRAME)
            d->table[ref] = (grant_entry_v1_t){
                .flags = (uint16_t)r.entry[dom][ref].flags,
                .domid = r.entry[dom][ref].domid,
                .frame = (uint32_t)r.entry[dom][ref].w1,
            };
    }
}

/* Takes over what an operation that was not run left behind. */
static void
adopt(void)
{
    static struct tally t;

    tally_all(&t);
    for (unsigned dom = 0; dom < WORLD_DOMAINS; dom++) {
        struct world_domain *d = &r.w.dom[dom];

        if (!d->exists)
            continue;
        for (uint32_t i = 0; i < d->n_ptes; i++)
            d->ptes[i].word =
                r.pte[dom][i].mfn
                    ? r.pte[dom][i].mfn << 8 | W_PTE_PRESENT |
                          (r.pte[dom][i].rw ? W_PTE_RW : 0)
                    : 0;
        if (!r.out[dom])
            load_entries(dom); /* swap */
        /* back to version 1, and nobody holds what we have not seen */
        if (r.out[dom] && r.version[dom] == 1 && !any_pin(dom, &t)) {
            r.out[dom] = false;
            load_entries(dom);
        }
    }
    for (uint32_t i = 0; i < WORLD_FRAMES; i++) {
        r.w.frames[i].n_maps = 0;
        r.extra_c[i] = (int32_t)(r.frame_c[i] - 2 - t.c[i]);
        r.extra_t[i] = (int32_t)(r.frame_t[i] - 1 - t.t[i]);
    }
    for (unsigned dom = 0; dom < WORLD_DOMAINS; dom++) {
        for (uint32_t i = 0; i < r.w.dom[dom].n_ptes; i++) {
            struct world_frame *f =
                world_frame(&r.w, r.w.dom[dom].ptes[i].word >> 8);

            if (f && f->refs)
                f->n_maps++;
        }
    }
}

/* ---------------------------------------------------------------- driver -- */

/* The operation's answer. */
static void
check_answer(const char *line, bool has_status)
{
    if (!r.ran || !has_status)
        return;
    EXPECT_EQ(r.status, (int64_t)field(line, "st", 10), "seed %u, %s", r.seed,
              r.line);
    if (strstr(line, " bus="))
        EXPECT_EQ(r.got_bus, HEX("bus"), AT);
}

static const char *trace_path;

static void
replay__answers_as_xen_did(void **state)
{
    FILE *f = fopen(trace_path, "r");
    char line[256];
    bool started = false, has_status = false;

    EXPECT(f, "%s", trace_path);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (started && (line[0] == 'O' || line[0] == 'E')) {
            if (r.op != UINT32_MAX && !r.ran)
                adopt();
            if (r.op != UINT32_MAX)
                compare_state();
        }
        switch (line[0]) {
        case 'S':
            begin_sequence(line);
            r.op = UINT32_MAX;
            r.ran = true;
            break;
        case 'D':
            begin_domain(line);
            break;
        case '.':
            started = true;
            break;
        case 'O':
            strcpy(r.line, line);
            has_status = run_op();
            break;
        case 'R':
            check_answer(line, has_status);
            break;
        case 'E':
            started = false;
            world_fini(&r.w);
            break;
        default:
            see(line);
            if (line[0] == 'f' && r.ran)
                compare_sum(line);
            break;
        }
    }
    fclose(f);
    printf("%u sequences: %u operations run and compared, %u not run\n",
           r.n_sequences, r.n_run, r.n_skipped);
    EXPECT(r.n_run > 10 * r.n_sequences, "hardly anything was run");
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay__answers_as_xen_did),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: grant_replay_test TRACE\n");
        return 2;
    }
    trace_path = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
