/* SPDX-License-Identifier: MIT */
/*
 * Replays what Xen's own code answered (a trace of single operations with the
 * state after each) and compares: status, machine address, shared entries,
 * pins, page tables, references on frames, their contents.
 *
 * usage: grant_replay_test TRACE
 *
 * Every operation of the trace is run.  Known differences (lib/grant/README.md)
 * are translated: Xen's references per mapping are computed from the live
 * handles.
 */
#include "grant/world.h"

#include <stdlib.h>
#include <string.h>

#include "expect.h"
#include "grant/internal.h"

#define MAX_OPS   4096
#define MAX_REFS  600 /* as many entries as the trace shows */
#define BAD_HANDLE 0xffffffffu

/* An entry and a table as the trace last showed them. */
struct seen_entry {
    uint32_t flags, pin;
    uint16_t domid, status;
    uint64_t w1, w2;
};

struct seen_table {
    uint32_t version, frames, status_frames;
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
    struct seen_table table[WORLD_DOMAINS];
    uint32_t frame_c[WORLD_FRAMES], frame_t[WORLD_FRAMES];
    struct {
        uint64_t mfn;
        int rw;
    } pte[WORLD_DOMAINS][256];
    /* the operation at hand */
    char line[256];
    long rc;
    int16_t status;
    uint64_t bus_seen;
    uint32_t version_seen, n_frames_seen, max_frames_seen;
    /* totals */
    unsigned n_run, n_sequences;
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
              (uint32_t)field(line, "slots", 10), FH_GNT_DOM_TRANSITIVE);
    r.w.dom[dom].guest_lies = true;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *words = (uint64_t *)world_frame(&r.w, first + i)->bytes;

        for (uint32_t k = 0; k < FH_PAGE_BYTES / 8; k++)
            words[k] = (first + i) * 1000003 + k;
    }
}

/* Xen's default policy: an unprivileged domain may ask about itself. */
static bool
may(void *hv, struct fh_gnt_domain *caller, struct fh_gnt_domain *peer,
    unsigned op)
{
    return caller == peer || op == GNTTABOP_map_grant_ref ||
           op == GNTTABOP_unmap_grant_ref || op == GNTTABOP_copy;
}

static void
begin_sequence(const char *line)
{
    const unsigned run = r.n_run, n = r.n_sequences;

    r = (struct replay){ .n_run = run, .n_sequences = n + 1,
                         .seed = (unsigned)field(line, "seed", 10) };
    world_init(&r.w);
    r.w.ops.may = may;
    fh_gnt_ctx_init(&r.ctx, &r.w.ops, &r.w, 0);
}

/* ------------------------------------------------ state lines of a trace -- */

static void
see_table(const char *line)
{
    r.table[field(line, "dom", 10)] = (struct seen_table){
        .version = (uint32_t)field(line, "ver", 10),
        .frames = (uint32_t)field(line, "gframes", 10),
        .status_frames = (uint32_t)field(line, "sframes", 10),
    };
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
            .w2 = HEX("w2"),
            .status = (uint16_t)HEX("st"),
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

    r.frame_c[i] = (uint32_t)field(line, "c", 10);
    r.frame_t[i] = (uint32_t)field(line, "t", 10);
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

static uint32_t
n_entries(uint16_t dom)
{
    const struct fh_gnt_domain *d = &r.w.dom[dom].gnt;

    return fh_gnt_table_frames(d) * (fh_gnt_version(d) == 1
                                         ? FH_GNT_V1_PER_FRAME
                                         : FH_GNT_V2_PER_FRAME);
}

static void
poke_v2(grant_entry_v2_t *e)
{
    const uint16_t flags = (uint16_t)DEC("fl");

    memset(e, 0, sizeof(*e));
    e->hdr.flags = flags;
    e->hdr.domid = (domid_t)DEC("did");
    if ((flags & GTF_type_mask) == GTF_transitive) {
        e->transitive.trans_domid = (domid_t)DEC("x");
        e->transitive.gref = (grant_ref_t)DEC("y");
        return;
    }
    e->full_page.frame = DEC("fr");
    if (flags & GTF_sub_page) {
        e->sub_page.page_off = (uint16_t)DEC("x");
        e->sub_page.length = (uint16_t)DEC("y");
    }
}

static void
op_poke(uint16_t dom)
{
    const struct world_domain *d = &r.w.dom[dom];
    const uint64_t ref = DEC("ref");

    if (ref >= n_entries(dom))
        return;
    if (fh_gnt_version(&d->gnt) == 2)
        poke_v2(&d->table2[ref]);
    else
        d->table[ref] = (grant_entry_v1_t){ .flags = (uint16_t)DEC("fl"),
                                            .domid = (domid_t)DEC("did"),
                                            .frame = (uint32_t)DEC("fr") };
}

static void
op_flag(uint16_t dom)
{
    const struct world_domain *d = &r.w.dom[dom];
    const uint64_t ref = DEC("ref");
    uint16_t *flags = fh_gnt_version(&d->gnt) == 1
                          ? &d->table[ref].flags
                          : &d->table2[ref].hdr.flags;

    if (ref < n_entries(dom))
        *flags = (uint16_t)((*flags & DEC("and")) | DEC("or"));
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
    r.bus_seen = op.dev_bus_addr;
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

static void
op_copy(uint16_t dom)
{
    struct gnttab_copy op = { .flags = (uint16_t)DEC("fl") };

    op.source.domid = (domid_t)DEC("sdom");
    op.source.u.gmfn = DEC("s");
    op.source.offset = (uint16_t)DEC("soff");
    op.dest.domid = (domid_t)DEC("ddom");
    op.dest.u.gmfn = DEC("d");
    op.dest.offset = (uint16_t)DEC("doff");
    op.len = (uint16_t)DEC("len");
    r.status = fh_gnt_copy_one(&r.ctx, &r.w.dom[dom].gnt, &op);
}

static void
op_setver(uint16_t dom)
{
    struct gnttab_set_version op = { .version = (uint32_t)DEC("v") };
    uint32_t done;

    r.rc = fh_gnt_op_set_version(&r.ctx, &r.w.dom[dom].gnt, &op, 1, &done);
    r.version_seen = op.version;
}

/* The operand that is called as the caller is. */
static uint64_t
second_dom(void)
{
    return field(strstr(r.line + 2, " dom=") + 1, "dom", 10);
}

static void
op_getver(uint16_t dom)
{
    struct gnttab_get_version op = { .dom = (domid_t)second_dom() };
    uint32_t done;

    r.rc = fh_gnt_op_get_version(&r.ctx, &r.w.dom[dom].gnt, &op, 1, &done);
    r.version_seen = op.version;
}

static void
op_query(uint16_t dom)
{
    struct gnttab_query_size op = { .dom = (domid_t)second_dom() };
    uint32_t done;

    r.rc = fh_gnt_op_query_size(&r.ctx, &r.w.dom[dom].gnt, &op, 1, &done);
    r.status = op.status;
    r.n_frames_seen = op.nr_frames;
    r.max_frames_seen = op.max_nr_frames;
}

static void
op_setup(uint16_t dom)
{
    xen_pfn_t list[64];
    struct gnttab_setup_table op = { .dom = (domid_t)second_dom(),
                                     .nr_frames = (uint32_t)DEC("nr"),
                                     .frame_list.p = list };
    uint32_t done;

    r.rc = fh_gnt_op_setup_table(&r.ctx, &r.w.dom[dom].gnt, &op, 1, &done);
    r.status = op.status;
}

static void
op_swap(uint16_t dom)
{
    struct gnttab_swap_grant_ref op = { .ref_a = (grant_ref_t)DEC("a"),
                                        .ref_b = (grant_ref_t)DEC("b") };
    uint32_t done;

    r.rc = fh_gnt_op_swap(&r.ctx, &r.w.dom[dom].gnt, &op, 1, &done);
    r.status = op.status;
}

static const struct {
    const char *kind;
    void (*run)(uint16_t dom);
} kinds[] = {
    { "poke", op_poke },     { "flag", op_flag },     { "map", op_map },
    { "unmap", op_unmap },   { "copy", op_copy },     { "setver", op_setver },
    { "getver", op_getver }, { "query", op_query },   { "setup", op_setup },
    { "swap", op_swap },
};

static void
run_op(void)
{
    char kind[16] = "";
    unsigned dom = 0;

    EXPECT_EQ(sscanf(r.line, "O %u dom=%u %15s", &r.op, &dom, kind), 3);
    r.handle[r.op] = BAD_HANDLE;
    r.rc = 0;
    r.n_run++;
    for (size_t i = 0; i < FH_ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].kind, kind))
            continue;
        kinds[i].run((uint16_t)dom);
        return;
    }
    EXPECT(false, "unknown operation: %s", r.line);
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
compare_table(unsigned dom)
{
    const struct fh_gnt_domain *d = &r.w.dom[dom].gnt;

    EXPECT_EQ(fh_gnt_version(d), r.table[dom].version, AT);
    EXPECT_EQ(fh_gnt_table_frames(d), r.table[dom].frames, AT);
    EXPECT_EQ(fh_gnt_status_frames(d), r.table[dom].status_frames, AT);
}

static void
compare_v1(const struct world_domain *d, uint32_t ref,
           const struct seen_entry *e)
{
    EXPECT_EQ(d->table[ref].flags, e->flags, AT);
    EXPECT_EQ(d->table[ref].domid, e->domid, AT);
    EXPECT_EQ(d->table[ref].frame, e->w1, AT);
}

static void
compare_v2(const struct world_domain *d, uint32_t ref,
           const struct seen_entry *e)
{
    EXPECT_EQ(d->table2[ref].hdr.flags, e->flags, AT);
    EXPECT_EQ(d->table2[ref].hdr.domid, e->domid, AT);
    EXPECT_EQ(d->table2[ref].full_page.pad0, e->w1, AT);
    EXPECT_EQ(d->table2[ref].full_page.frame, e->w2, AT);
    EXPECT_EQ(d->status[ref], e->status, AT);
}

static void
compare_entries(unsigned dom, const struct tally *t)
{
    const struct world_domain *d = &r.w.dom[dom];

    for (uint32_t ref = 0; ref < MAX_REFS && ref < n_entries((uint16_t)dom);
         ref++) {
        if (fh_gnt_version(&d->gnt) == 1)
            compare_v1(d, ref, &r.entry[dom][ref]);
        else
            compare_v2(d, ref, &r.entry[dom][ref]);
        EXPECT_EQ(t->pin[dom][ref], r.entry[dom][ref].pin, AT);
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
        EXPECT_EQ(2 + t->c[i], r.frame_c[i], AT);
        EXPECT_EQ(1 + t->t[i], r.frame_t[i], AT);
    }
}

/* Contents are compared where they changed: hashing all would take minutes. */
static void
compare_sum(const char *line)
{
    const uint32_t i = (uint32_t)(HEX("mfn") - WORLD_MFN0);

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
        compare_table(dom);
        compare_entries(dom, &t);
        compare_ptes(dom);
    }
    compare_frames(&t);
    EXPECT(!world_check(&r.w), "%s; seed %u operation %u", world_check(&r.w),
           r.seed, r.op);
}

/* ---------------------------------------------------------------- driver -- */

/* Field @key of an answer, if it has one. */
static void
check_field(const char *line, const char *key, int base, uint64_t got)
{
    char pattern[24];

    snprintf(pattern, sizeof(pattern), " %s=", key);
    if (strstr(line, pattern))
        EXPECT_EQ(got, field(line, key, base), "%s of seed %u, %s", key,
                  r.seed, r.line);
}

static void
check_answer(const char *line)
{
    check_field(line, "rc", 10, (uint64_t)r.rc);
    check_field(line, "st", 10, (uint64_t)(int64_t)r.status);
    check_field(line, "bus", 16, r.bus_seen);
    check_field(line, "ver", 10, r.version_seen);
    check_field(line, "nr", 10, r.n_frames_seen);
    check_field(line, "max", 10, r.max_frames_seen);
}

static const char *trace_path;

static void
replay__answers_as_xen_did(void **state)
{
    FILE *f = fopen(trace_path, "r");
    char line[256];
    bool started = false;

    EXPECT(f, "%s", trace_path);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        if (started && (line[0] == 'O' || line[0] == 'E')) {
            if (r.op != UINT32_MAX)
                compare_state();
        }
        switch (line[0]) {
        case 'S':
            begin_sequence(line);
            r.op = UINT32_MAX;
            break;
        case 'D':
            begin_domain(line);
            break;
        case '.':
            started = true;
            break;
        case 'O':
            strcpy(r.line, line);
            run_op();
            break;
        case 'R':
            check_answer(line);
            break;
        case 'E':
            started = false;
            world_fini(&r.w);
            break;
        default:
            see(line);
            if (line[0] == 'f' && r.op != UINT32_MAX)
                compare_sum(line);
            break;
        }
    }
    fclose(f);
    printf("%u sequences: %u operations run and compared\n", r.n_sequences,
           r.n_run);
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
