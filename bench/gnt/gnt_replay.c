/* SPDX-License-Identifier: MIT */
/*
 * gnt-replay: runs a trace of grant-table operations on the engine and writes
 * the same records with the engine's own answers and state.
 *
 *   gnt-replay TRACE            what the engine did, to be compared with TRACE
 *                               by diff
 *   gnt-replay --explain TRACE  what differs from TRACE, and which deliberate
 *                               difference of docs/SPEC.md each line comes from
 *
 * The format is that of the traces made with Xen's own code: T, S and D begin a
 * sequence; O is an operation, R its answer; g, e, p and f are the state lines
 * that it changed: a table, an entry, a page-table slot, a frame.  The engine
 * counts references per entry, Xen per mapping: what e says of pins and f of
 * references is added up from the engine's live handles, as Xen would.
 *
 * The world is that of the tests (tests/unit/grant/world.h), which also checks
 * the engine's invariants after every operation.
 *
 * Exit status: 0; with --explain 1 when a difference has no explanation; 2 for
 * bad usage or a trace that cannot be read.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/gnt/replay_explain.h"
#include "grant/internal.h"
#include "grant/world.h"

enum {
    MAX_OPS = 65536,
    MAX_REFS = 600, /* as many entries as a trace shows */
    MAX_SLOTS = 4096,
    LINE = 256,
    XEN_MAX_PINS = 128, /* per class */
};
#define BAD_HANDLE 0xffffffffu

/* What was written of each object last; a line comes when it changed. */
struct seen {
    unsigned ver, gframes, sframes;
    struct {
        uint32_t fl, did, st, pin, by;
        uint64_t w1, w2;
    } e[MAX_REFS];
    struct {
        uint64_t mfn;
        unsigned rw;
    } p[MAX_SLOTS];
};
struct seen_frame {
    uint32_t c, t, sum;
};

/* What Xen would count for the live handles. */
struct tally {
    uint32_t count[WORLD_DOMAINS][MAX_REFS][4]; /* hostw hostr devw devr */
    uint16_t by[WORLD_DOMAINS][MAX_REFS];
    uint32_t c[WORLD_FRAMES], t[WORLD_FRAMES];
};

static struct {
    struct world w;
    struct fh_gnt_ctx ctx;
    unsigned op;
    const char *line; /* the operation's record */
    uint32_t handle[MAX_OPS];
    uint64_t bus[MAX_OPS];
    struct seen seen[WORLD_DOMAINS];
    struct seen_frame frame[WORLD_FRAMES];
    bool broken; /* an invariant of the engine did not hold */
} r;

static struct tally tally;

static void
die(const char *what, const char *which)
{
    fprintf(stderr, "gnt-replay: %s: %s\n", what, which);
    exit(2);
}

/* ---------------------------------------------------------------- fields -- */

/* The value of "key=" in @line, in base @base; 0 if there is none. */
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

/* Of the operation at hand; the caller's own "dom" comes before its kind. */
static uint64_t
arg(const char *key)
{
    const char *kind = strchr(r.line, '=');

    kind = kind ? strchr(kind, ' ') : NULL;
    return kind ? field(kind, key, 10) : 0;
}

static void __attribute__((format(printf, 1, 2)))
say(const char *format, ...)
{
    char line[LINE];
    va_list args;

    va_start(args, format);
    vsnprintf(line, sizeof(line), format, args);
    va_end(args);
    explain_ours(line);
}

/* ----------------------------------------------------------------- state -- */

/* A frame's sum: FNV-1a over 64-bit words, folded. */
static uint32_t
sum_of(const uint8_t *bytes)
{
    const uint64_t *words = (const uint64_t *)bytes;
    uint64_t h = 14695981039346656037ull;

    for (uint32_t i = 0; i < FH_PAGE_BYTES / 8; i++)
        h = (h ^ words[i]) * 1099511628211ull;
    return (uint32_t)(h ^ h >> 32);
}

static void
tally_slot(uint16_t mapper, const struct fh_gnt_slot *s)
{
    const struct fh_gnt_entry *e = s->entry;
    const uint16_t granter = e->granter->domid;
    const uint32_t frame = (uint32_t)(e->mfn - WORLD_MFN0);
    const bool readonly = s->word & GNTMAP_readonly;
    const bool host = s->word & GNTMAP_host_map;
    const bool device = s->word & GNTMAP_device_map;

    tally.c[frame] += host + device;
    tally.t[frame] += readonly ? 0 : host + device;
    if (e->ref >= MAX_REFS)
        return;
    tally.count[granter][e->ref][readonly] += host;
    tally.count[granter][e->ref][2 + readonly] += device;
    tally.by[granter][e->ref] = mapper;
}

static void
tally_all(void)
{
    memset(&tally, 0, sizeof(tally));
    for (uint16_t m = 0; m < WORLD_DOMAINS; m++) {
        const struct fh_gnt_domain *d = &r.w.dom[m].gnt;

        for (uint32_t i = 0; i < d->fresh_slots; i++)
            if (d->slots[i].word & FH_SLOT_LIVE)
                tally_slot(m, &d->slots[i]);
    }
}

static void
show_table(uint16_t dom)
{
    const struct fh_gnt_domain *d = &r.w.dom[dom].gnt;
    struct seen *s = &r.seen[dom];
    const unsigned ver = fh_gnt_version(d), g = fh_gnt_table_frames(d);
    const unsigned st = fh_gnt_status_frames(d);

    if (s->ver == ver && s->gframes == g && s->sframes == st)
        return;
    s->ver = ver;
    s->gframes = g;
    s->sframes = st;
    say("g dom=%u ver=%u gframes=%u sframes=%u", dom, ver, g, st);
}

/* Four byte counters, as Xen has them; ours may be larger than a byte. */
static uint32_t
pin_word(uint16_t dom, uint32_t ref)
{
    const uint32_t *n = tally.count[dom][ref];

    return (n[0] & 0xff) | (n[1] & 0xff) << 8 | (n[2] & 0xff) << 16 |
           (n[3] & 0xff) << 24;
}

/* Nothing: what is shown of a reference outside the table. */
static const uint8_t no_entry[16];

static void
show_entry(uint16_t dom, uint32_t ref, bool v2, bool exists)
{
    const struct world_domain *d = &r.w.dom[dom];
    const uint8_t *at = !exists ? no_entry
                        : v2    ? (const uint8_t *)&d->table2[ref]
                                : (const uint8_t *)&d->table[ref];
    uint32_t head, w1, pin = pin_word(dom, ref);
    uint64_t w2 = 0;
    const uint32_t st = v2 && exists ? d->status[ref] : 0;
    const uint32_t by = pin ? tally.by[dom][ref] : 0;

    memcpy(&head, at, 4);
    memcpy(&w1, at + 4, 4);
    if (v2)
        memcpy(&w2, at + 8, 8);
    if (r.seen[dom].e[ref].fl == (head & 0xffff) &&
        r.seen[dom].e[ref].did == head >> 16 &&
        r.seen[dom].e[ref].w1 == w1 && r.seen[dom].e[ref].w2 == w2 &&
        r.seen[dom].e[ref].st == st && r.seen[dom].e[ref].pin == pin &&
        r.seen[dom].e[ref].by == by)
        return;
    r.seen[dom].e[ref].fl = head & 0xffff;
    r.seen[dom].e[ref].did = head >> 16;
    r.seen[dom].e[ref].w1 = w1;
    r.seen[dom].e[ref].w2 = w2;
    r.seen[dom].e[ref].st = st;
    r.seen[dom].e[ref].pin = pin;
    r.seen[dom].e[ref].by = by;
    say("e dom=%u ref=%u fl=%04x did=%u w1=%x w2=%" PRIx64
        " st=%x pin=%08x by=%u",
        dom, ref, head & 0xffff, head >> 16, w1, w2, st, pin, by);
}

static void
show_entries(uint16_t dom)
{
    const struct fh_gnt_domain *d = &r.w.dom[dom].gnt;
    const bool v2 = fh_gnt_version(d) == 2;
    const uint32_t n = fh_gnt_table_frames(d) *
                       (v2 ? FH_GNT_V2_PER_FRAME : FH_GNT_V1_PER_FRAME);

    for (uint32_t ref = 0; ref < MAX_REFS; ref++)
        show_entry(dom, ref, v2, ref < n);
}

static void
show_slots(uint16_t dom)
{
    for (uint32_t i = 0; i < r.w.dom[dom].n_ptes && i < MAX_SLOTS; i++) {
        const uint64_t word = r.w.dom[dom].ptes[i].word;
        const uint64_t mfn = word >> 8;
        const unsigned rw = !!(word & W_PTE_RW);

        if (r.seen[dom].p[i].mfn == mfn && r.seen[dom].p[i].rw == rw)
            continue;
        r.seen[dom].p[i].mfn = mfn;
        r.seen[dom].p[i].rw = rw;
        say("p dom=%u slot=%u mfn=%" PRIx64 " rw=%u", dom, i, mfn, rw);
    }
}

static void
show_frames(uint16_t dom)
{
    for (uint32_t i = 0; i < WORLD_FRAMES; i++) {
        const struct seen_frame now = {
            2 + tally.c[i], 1 + tally.t[i], sum_of(r.w.frames[i].bytes)
        };

        if (r.w.frames[i].owner != dom ||
            !memcmp(&now, &r.frame[i], sizeof(now)))
            continue;
        r.frame[i] = now;
        say("f mfn=%x c=%u t=%u sum=%08x", WORLD_MFN0 + i, now.c, now.t,
            now.sum);
    }
}

/* Every state line that is not what it was. */
static void
show_state(void)
{
    tally_all();
    for (uint16_t dom = 0; dom < WORLD_DOMAINS; dom++) {
        if (!r.w.dom[dom].exists)
            continue;
        show_table(dom);
        show_entries(dom);
        show_slots(dom);
        show_frames(dom);
    }
    if (world_check(&r.w)) {
        r.broken = true;
        say("! operation %u: %s", r.op, world_check(&r.w));
    }
}

/* ---------------------------------------------------------------- worlds -- */

/* No domain is privileged: it may ask for its own table only. */
static bool
may(void *hv, struct fh_gnt_domain *caller, struct fh_gnt_domain *peer,
    unsigned op)
{
    switch (op) {
    case GNTTABOP_setup_table:
    case GNTTABOP_query_size:
    case GNTTABOP_get_status_frames:
    case GNTTABOP_get_version:
        return caller == peer;
    }
    return true;
}

static void
begin_sequence(void)
{
    world_fini(&r.w);
    memset(&r, 0, sizeof(r));
    world_init(&r.w);
    r.w.ops.may = may;
    fh_gnt_ctx_init(&r.ctx, &r.w.ops, &r.w, 0);
}

static void
begin_domain(const char *line)
{
    const uint16_t dom = (uint16_t)field(line, "dom", 10);
    const uint64_t first = field(line, "first", 16);
    const uint32_t n = (uint32_t)field(line, "frames", 10);
    const uint32_t slots = (uint32_t)field(line, "slots", 10);
    const bool v1_only = field(line, "maxver", 10) == 1;

    if (dom >= WORLD_DOMAINS || slots > MAX_SLOTS || first < WORLD_MFN0 ||
        first - WORLD_MFN0 + n > WORLD_FRAMES)
        die("a domain that has no room here", line);
    world_add(&r.w, dom, first, n, (uint32_t)field(line, "maxgframes", 10),
              (uint32_t)field(line, "maxmtframes", 10) * 256, slots,
              FH_GNT_DOM_TRANSITIVE | (v1_only ? FH_GNT_DOM_V1_ONLY : 0));
    r.w.dom[dom].guest_lies = true;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t *words = (uint64_t *)world_frame(&r.w, first + i)->bytes;

        for (uint32_t k = 0; k < FH_PAGE_BYTES / 8; k++)
            words[k] = (first + i) * 1000003 + k;
    }
}

/* ------------------------------------------------------------ operations -- */

static uint32_t
n_refs(const struct world_domain *d)
{
    const bool v2 = fh_gnt_version(&d->gnt) == 2;

    return fh_gnt_table_frames(&d->gnt) *
           (v2 ? FH_GNT_V2_PER_FRAME : FH_GNT_V1_PER_FRAME);
}

static void
poke_v2(grant_entry_v2_t *e)
{
    const uint16_t flags = (uint16_t)arg("fl");

    memset(e, 0, sizeof(*e));
    e->hdr.flags = flags;
    e->hdr.domid = (domid_t)arg("did");
    if ((flags & GTF_type_mask) == GTF_transitive) {
        e->transitive.trans_domid = (domid_t)arg("x");
        e->transitive.gref = (grant_ref_t)arg("y");
    } else if (flags & GTF_sub_page) {
        e->sub_page.page_off = (uint16_t)arg("x");
        e->sub_page.length = (uint16_t)arg("y");
        e->sub_page.frame = arg("fr");
    } else {
        e->full_page.frame = arg("fr");
    }
}

static void
op_poke(struct world_domain *d)
{
    const uint64_t ref = arg("ref");

    say("R %u", r.op);
    if (ref >= n_refs(d))
        return;
    if (fh_gnt_version(&d->gnt) == 2)
        poke_v2(&d->table2[ref]);
    else
        d->table[ref] = (grant_entry_v1_t){ .flags = (uint16_t)arg("fl"),
                                            .domid = (domid_t)arg("did"),
                                            .frame = (uint32_t)arg("fr") };
}

static void
op_flag(struct world_domain *d)
{
    const uint64_t ref = arg("ref");
    uint16_t *flags = fh_gnt_version(&d->gnt) == 2 ? &d->table2[ref].hdr.flags
                                                   : &d->table[ref].flags;

    say("R %u", r.op);
    if (ref < n_refs(d))
        *flags = (uint16_t)((*flags & arg("and")) | arg("or"));
}

/* The entry has as many pins of a class as Xen allows. */
static bool
beyond_xen(uint16_t granter, uint32_t ref)
{
    if (granter >= WORLD_DOMAINS || ref >= MAX_REFS)
        return false;
    tally_all();
    for (int i = 0; i < 4; i++)
        if (tally.count[granter][ref][i] >= XEN_MAX_PINS)
            return true;
    return false;
}

static void
op_map(struct world_domain *d)
{
    struct gnttab_map_grant_ref op = {
        .dom = (domid_t)arg("dom"),
        .ref = (grant_ref_t)arg("ref"),
        .flags = (uint32_t)arg("fl"),
        .host_addr = world_addr((uint32_t)arg("slot")),
    };

    explain_touches("e dom=%u ref=%u", op.dom, op.ref);
    if (beyond_xen(op.dom, op.ref))
        explain_because("pins of one entry");
    if (fh_gnt_map_one(&r.ctx, &d->gnt, &op)) {
        say("R %u rc=0 st=%d", r.op, op.status);
        return;
    }
    r.handle[r.op] = op.handle;
    r.bus[r.op] = op.dev_bus_addr;
    say("R %u rc=0 st=0 bus=%" PRIx64, r.op, (uint64_t)op.dev_bus_addr);
}

/* Xen may have given the number to another mapping since. */
static bool
is_stale(const struct world_domain *d, uint32_t handle)
{
    struct fh_gnt_map_info info;

    return handle != BAD_HANDLE && fh_gnt_map_info(&d->gnt, handle, &info);
}

static void
op_unmap(struct world_domain *d)
{
    const int64_t h = (int64_t)arg("h"), slot = (int64_t)arg("slot");
    struct gnttab_unmap_grant_ref op = { .handle = BAD_HANDLE };

    if (h >= 0 && h < MAX_OPS) {
        op.handle = r.handle[h];
        if (arg("bus"))
            op.dev_bus_addr = r.bus[h] + (arg("bus") == 2 ? 4096 : 0);
    }
    if (slot >= 0)
        op.host_addr = world_addr((uint32_t)slot);
    explain_touches("h=%d", (int)h);
    if (h >= 0 && is_stale(d, op.handle))
        explain_because("stale and doubled unmaps");
    fh_gnt_unmap_one(&r.ctx, &d->gnt, &op);
    say("R %u rc=0 st=%d", r.op, op.status);
}

/* The frame that one side of a copy means now; 0: hard to say. */
static uint64_t
side_frame(const struct world_domain *caller, uint16_t dom, uint64_t id,
           bool is_ref)
{
    const struct world_domain *d = caller;

    if (!is_ref)
        return id;
    if (dom != DOMID_SELF)
        d = dom < WORLD_DOMAINS ? &r.w.dom[dom] : NULL;
    if (!d || !d->exists || id >= n_refs(d))
        return 0;
    return fh_gnt_version(&d->gnt) == 2 ? d->table2[id].full_page.frame
                                        : d->table[id].frame;
}

static bool
overlaps(const struct world_domain *d, const struct gnttab_copy *op)
{
    const uint64_t from = side_frame(d, op->source.domid, op->source.u.gmfn,
                                     op->flags & GNTCOPY_source_gref);
    const uint64_t to = side_frame(d, op->dest.domid, op->dest.u.gmfn,
                                   op->flags & GNTCOPY_dest_gref);

    return from == to && op->source.offset < op->dest.offset + op->len &&
           op->dest.offset < op->source.offset + op->len;
}

static void
op_copy(struct world_domain *d)
{
    struct gnttab_copy op = { .flags = (uint16_t)arg("fl") };

    op.source.domid = (domid_t)arg("sdom");
    op.source.u.gmfn = arg("s");
    op.source.offset = (uint16_t)arg("soff");
    op.dest.domid = (domid_t)arg("ddom");
    op.dest.u.gmfn = arg("d");
    op.dest.offset = (uint16_t)arg("doff");
    op.len = (uint16_t)arg("len");
    if (overlaps(d, &op))
        explain_because("copies that overlap in one page");
    fh_gnt_copy_one(&r.ctx, &d->gnt, &op);
    say("R %u rc=0 st=%d", r.op, op.status);
}

static void
op_setver(struct world_domain *d)
{
    struct gnttab_set_version op = { .version = (uint32_t)arg("v") };
    uint32_t done;
    long rc;

    do
        rc = fh_gnt_op_set_version(&r.ctx, &d->gnt, &op, 1, &done);
    while (rc == FH_GNT_E_PREEMPTED);
    say("R %u rc=%ld ver=%u", r.op, rc, op.version);
}

static void
op_getver(struct world_domain *d)
{
    struct gnttab_get_version op = { .dom = (domid_t)arg("dom") };
    uint32_t done;
    const long rc = fh_gnt_op_get_version(&r.ctx, &d->gnt, &op, 1, &done);

    say("R %u rc=%ld ver=%u", r.op, rc, op.version);
}

static void
op_query(struct world_domain *d)
{
    struct gnttab_query_size op = { .dom = (domid_t)arg("dom") };
    uint32_t done;
    const long rc = fh_gnt_op_query_size(&r.ctx, &d->gnt, &op, 1, &done);

    say("R %u rc=%ld st=%d nr=%u max=%u", r.op, rc, op.status, op.nr_frames,
        op.max_nr_frames);
}

static void
op_setup(struct world_domain *d)
{
    static xen_pfn_t list[4096];
    struct gnttab_setup_table op = { .dom = (domid_t)arg("dom"),
                                     .nr_frames = (uint32_t)arg("nr") };
    uint32_t done;
    long rc;

    set_xen_guest_handle(op.frame_list, list);
    rc = fh_gnt_op_setup_table(&r.ctx, &d->gnt, &op, 1, &done);
    say("R %u rc=%ld st=%d", r.op, rc, op.status);
}

static void
op_swap(struct world_domain *d)
{
    struct gnttab_swap_grant_ref op = { .ref_a = (grant_ref_t)arg("a"),
                                        .ref_b = (grant_ref_t)arg("b") };
    uint32_t done;
    const long rc = fh_gnt_op_swap(&r.ctx, &d->gnt, &op, 1, &done);

    say("R %u rc=%ld st=%d", r.op, rc, op.status);
}

static const struct {
    const char *kind;
    void (*run)(struct world_domain *d);
} kinds[] = {
    { "poke", op_poke },     { "flag", op_flag },     { "map", op_map },
    { "unmap", op_unmap },   { "copy", op_copy },     { "setver", op_setver },
    { "getver", op_getver }, { "query", op_query },   { "setup", op_setup },
    { "swap", op_swap },
};

static void
run_op(const char *line)
{
    char kind[16] = "";
    unsigned dom = 0;

    if (sscanf(line, "O %u dom=%u %15s", &r.op, &dom, kind) != 3 ||
        r.op >= MAX_OPS || dom >= WORLD_DOMAINS || !r.w.dom[dom].exists)
        die("not an operation", line);
    r.line = line;
    r.handle[r.op] = BAD_HANDLE;
    for (size_t i = 0; i < FH_ARRAY_SIZE(kinds); i++) {
        if (strcmp(kinds[i].kind, kind))
            continue;
        kinds[i].run(&r.w.dom[dom]);
        show_state();
        return;
    }
    die("not an operation", line);
}

/* ---------------------------------------------------------------- driver -- */

/* One record of the trace.  The engine's own take the place of what the trace
 * says of answers and state. */
static void
replay_line(const char *line)
{
    switch (line[0]) {
    case 'S':
        begin_sequence();
        break;
    case 'D':
        begin_domain(line);
        break;
    case '.':
        show_state();
        break;
    case 'R':
    case 'g':
    case 'e':
    case 'p':
    case 'f':
        explain_theirs(line);
        return;
    case 'O':
        explain_given(line);
        run_op(line);
        return;
    }
    explain_given(line);
}

int
main(int argc, char **argv)
{
    const bool explain = argc == 3 && !strcmp(argv[1], "--explain");
    char line[LINE];
    FILE *f;
    int status;

    if (argc != 2 && !explain) {
        fprintf(stderr, "usage: gnt-replay [--explain] TRACE\n");
        return 2;
    }
    f = fopen(argv[argc - 1], "r");
    if (!f)
        die("cannot be opened", argv[argc - 1]);
    explain_init(explain);
    while (fgets(line, sizeof(line), f)) {
        line[strcspn(line, "\n")] = '\0';
        replay_line(line);
        if (r.broken)
            break;
    }
    fclose(f);
    status = explain_end();
    return r.broken ? 1 : status;
}
