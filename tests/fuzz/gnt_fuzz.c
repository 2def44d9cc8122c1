/* SPDX-License-Identifier: MIT */
/*
 * Fuzz target for fh_gnt_hypercall() and everything under it: arrays of
 * operations, well-formed and not, against the plain model of gnt_model.h.  The
 * input also says which call to the embedder fails, after how many elements the
 * hypercall is cut short, and what granters write into their tables meanwhile.
 *
 * A step is: operation, caller, fault, preemption, count, then the elements.
 */
#include "fuzz/fuzz.h"

#include <freehold/grant_ext.h>

#include "fuzz/gnt_model.h"

#define N_REFS    6u
#define FIRST_REF 8u
#define MAX_ELEMENTS 5
#define MAX_STEPS    400

static struct world w;
static struct m_world m;
static struct fh_gnt_ctx ctx;
static struct fuzz_input in;
static unsigned step;

#define CLAIM(cond)                                                            \
    do {                                                                       \
        if (!(cond)) {                                                         \
            fprintf(stderr, "step %u: ", step);                                \
            CHECK(cond);                                                       \
        }                                                                      \
    } while (0)

#define CLAIM_EQ(a, b)                                                         \
    do {                                                                       \
        const long long a_ = (a), b_ = (b);                                    \
                                                                               \
        if (a_ != b_) {                                                        \
            fprintf(stderr, "step %u, %s:%d: %s is %lld, not %lld\n", step,    \
                    __FILE__, __LINE__, #a, a_, b_);                           \
            abort();                                                           \
        }                                                                      \
    } while (0)

static uint32_t
pick(uint32_t n)
{
    return fuzz_byte(&in) % n;
}

/* ------------------------------------------------------- one hypercall -- */

/* What a failed call of the embedder makes of the element at hand. */
static int16_t
fault_status(void)
{
    if (w.failed == W_DOMAIN_GET)
        return GNTST_bad_domain;
    if (w.failed == W_MAY)
        return GNTST_permission_denied;
    if (w.failed == W_FRAME_GET)
        return w.frame_verdict == FH_GNT_E_AGAIN ? GNTST_eagain
                                                 : GNTST_bad_page;
    return GNTST_general_error;
}

/* Calls with the faults and preemptions that the input asks for. */
static void
hypercall(uint16_t caller, uint32_t cmd, void *arg, uint32_t count)
{
    struct fh_gnt_call call = { .cmd = cmd, .arg = arg, .count = count };
    const uint8_t fault = fuzz_byte(&in);
    unsigned turns = 0;
    long r;

    w.did_fail = false;
    w.calls = 0;
    w.fail_at = fault & 1 ? fault >> 2 : UINT64_MAX;
    w.frame_verdict = fault & 2 ? FH_GNT_E_AGAIN : FH_GNT_E_BAD_PAGE;
    w.preempt_every = pick(4);
    do {
        const uint32_t before = call.count;

        r = fh_gnt_hypercall(&ctx, &w.dom[caller].gnt, &call);
        CLAIM(r != FH_GNT_E_PREEMPTED || call.count < before);
        CLAIM(++turns <= count + 1);
    } while (r == FH_GNT_E_PREEMPTED);
    CLAIM_EQ(r, 0);
    CLAIM_EQ(call.count, 0);
    w.fail_at = UINT64_MAX;
}

/*
 * Was this status right?  The model's, or once per call what the embedder's
 * failure makes of it.  True: the element was done.
 */
static bool
judge(int16_t got, int16_t want)
{
    CLAIM(got <= 0 && got >= GNTST_no_space); /* I12 */
    if (got != want) {
        if (!w.did_fail)
            fprintf(stderr, "status %d, not %d\n", got, want);
        CLAIM(w.did_fail);
        /* Behind a transitive entry a missing domain is a general error. */
        if (got != GNTST_general_error)
            CLAIM_EQ(got, fault_status());
        w.did_fail = false;
    }
    return !got;
}

/* ------------------------------------------------------------ operations -- */

static uint32_t
any_ref(void)
{
    const uint8_t b = fuzz_byte(&in);

    return b == 255 ? 512 : b == 254 ? UINT32_MAX : FIRST_REF + b % N_REFS;
}

/* Bytes in a page, mostly few of them. */
static uint16_t
any_bytes(void)
{
    const uint32_t b = pick(64);

    return (uint16_t)(b < 48 ? b * 8 : b * 67);
}

/* Mostly one that there is. */
static domid_t
any_dom(void)
{
    return (domid_t)(pick(M_DOMS * 5 + 1) % (M_DOMS + 1));
}

static uint64_t
any_addr(void)
{
    const uint8_t b = fuzz_byte(&in);

    return b == 255 ? 0 : world_addr(b % (M_SLOTS + 1));
}

static void
do_map(uint16_t caller, uint32_t n)
{
    struct gnttab_map_grant_ref ops[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) { /* in this order */
        ops[i] = (struct gnttab_map_grant_ref){ .status = 77 };
        ops[i].dom = any_dom();
        ops[i].ref = any_ref();
        ops[i].flags = pick(16);
        ops[i].flags |= pick(8) ? GNTMAP_host_map : 0;
        ops[i].host_addr = any_addr();
    }
    hypercall(caller, GNTTABOP_map_grant_ref, ops, n);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t mfn = 0;
        const int16_t want = m_map(&m, caller, &ops[i], &mfn);

        if (!want && ops[i].status && w.failed == W_IOMMU_MAP &&
            (ops[i].flags & GNTMAP_host_map)) /* undone: not what was before */
            m.dom[caller].pte[m_slot_of(ops[i].host_addr)] =
                (struct m_pte){ 0 };
        if (!judge(ops[i].status, want))
            continue;
        CLAIM_EQ(ops[i].dev_bus_addr, mfn << 12);
        CLAIM(!(ops[i].handle >> 31));
        CLAIM(m_map_did(&m, caller, &ops[i], mfn));
    }
}

/* A handle that is, was or never was. */
static const struct m_map *
any_map(void)
{
    return &m.maps[pick(M_MAPS)];
}

/* Mostly where the mapping is. */
static uint64_t
place_of(const struct m_map *x)
{
    const uint8_t b = fuzz_byte(&in);

    for (uint32_t i = 0; i < M_SLOTS && b < 200; i++) {
        const struct m_pte *p = &m.dom[x->mapper].pte[(i + b) % M_SLOTS];

        if (p->mfn == x->mfn && !p->own)
            return world_addr((i + b) % M_SLOTS);
    }
    return b < 230 ? 0 : world_addr(b % M_SLOTS);
}

static struct m_unmap
any_unmap(void)
{
    const struct m_map *x = any_map();
    struct m_unmap u = { .handle = x->handle, .dom = x->granter,
                         .ref = x->ref };
    const uint8_t b = fuzz_byte(&in);

    u.host_addr = place_of(x);
    u.dev_bus_addr = b & 1 ? x->mfn << 12 : 0;
    if (b >= 240)
        u.dev_bus_addr += b;
    return u;
}

/* Unmaps of one kind, which @u says again: @ops are @n elements of @bytes, each
 * with its status at @status_at. */
static void
unmap_all(uint16_t caller, uint32_t cmd, void *ops, size_t bytes,
          size_t status_at, const struct m_unmap *u, uint32_t n)
{
    hypercall(caller, cmd, ops, n);
    for (uint32_t i = 0; i < n; i++) {
        int16_t status;

        memcpy(&status, (uint8_t *)ops + i * bytes + status_at,
               sizeof(status));
        if (judge(status, m_unmap(&m, caller, &u[i])))
            m_unmap_did(&m, caller, &u[i]);
    }
}

#define UNMAP_ALL(caller, cmd, ops, u, n)                                      \
    unmap_all((caller), (cmd), (ops), sizeof(*(ops)),                          \
              offsetof(typeof(*(ops)), status), (u), (n))

static void
do_unmap(uint16_t caller, uint32_t n)
{
    struct gnttab_unmap_grant_ref ops[MAX_ELEMENTS];
    struct m_unmap u[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        u[i] = any_unmap();
        ops[i] = (struct gnttab_unmap_grant_ref){
            .host_addr = u[i].host_addr,
            .dev_bus_addr = u[i].dev_bus_addr,
            .handle = u[i].handle,
            .status = 77,
        };
    }
    UNMAP_ALL(caller, GNTTABOP_unmap_grant_ref, ops, u, n);
}

static void
do_replace(uint16_t caller, uint32_t n)
{
    struct gnttab_unmap_and_replace ops[MAX_ELEMENTS];
    struct m_unmap u[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        u[i] = any_unmap();
        u[i].dev_bus_addr = 0;
        u[i].new_addr = any_addr();
        ops[i] = (struct gnttab_unmap_and_replace){
            .host_addr = u[i].host_addr,
            .new_addr = u[i].new_addr,
            .handle = u[i].handle,
            .status = 77,
        };
    }
    UNMAP_ALL(caller, GNTTABOP_unmap_and_replace, ops, u, n);
}

static void
do_duplicate(uint16_t caller, uint32_t n)
{
    struct fh_gnttab_unmap_and_duplicate ops[MAX_ELEMENTS];
    struct m_unmap u[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        u[i] = any_unmap();
        u[i].duplicate = true;
        u[i].new_addr = any_addr();
        ops[i] = (struct fh_gnttab_unmap_and_duplicate){
            .host_addr = u[i].host_addr,
            .dev_bus_addr = u[i].dev_bus_addr,
            .new_addr = u[i].new_addr,
            .handle = u[i].handle,
            .status = 77,
        };
    }
    UNMAP_ALL(caller, FH_GNTTABOP_unmap_and_duplicate, ops, u, n);
}

static void
do_unmap_ref(uint16_t caller, uint32_t n)
{
    struct fh_gnttab_unmap_ref ops[MAX_ELEMENTS];
    struct m_unmap u[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        u[i] = any_unmap();
        u[i].by_ref = true;
        if (!pick(6))
            u[i].dom++;
        if (!pick(6))
            u[i].ref++;
        ops[i] = (struct fh_gnttab_unmap_ref){
            .host_addr = u[i].host_addr,
            .dev_bus_addr = u[i].dev_bus_addr,
            .handle = u[i].handle,
            .dom = u[i].dom,
            .ref = u[i].ref,
            .status = 77,
        };
    }
    UNMAP_ALL(caller, FH_GNTTABOP_unmap_ref, ops, u, n);
}

static struct gnttab_copy_ptr
any_side(uint16_t caller, bool is_ref)
{
    struct gnttab_copy_ptr p = { .offset = any_bytes() };

    p.domid = any_dom();
    if (!is_ref && pick(8))
        p.domid = DOMID_SELF;
    if (is_ref)
        p.u.gmfn = any_ref();
    else
        p.u.gmfn = m_first_mfn(caller) + pick(M_FRAMES + 1);
    return p;
}

static void
do_copy(uint16_t caller, uint32_t n)
{
    struct gnttab_copy ops[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        struct gnttab_copy *op = &ops[i];
        const uint8_t b = fuzz_byte(&in);

        *op = (struct gnttab_copy){ .flags = b & 3, .status = 77 };
        op->len = any_bytes();
        op->source = any_side(caller, op->flags & 1);
        op->dest = any_side(caller, op->flags & 2);
        if (i && b & 4) /* the claim of the element before serves again */
            op->source = ops[i - 1].source;
        if (i && b & 8)
            op->dest = ops[i - 1].dest;
    }
    hypercall(caller, GNTTABOP_copy, ops, n);
    for (uint32_t i = 0; i < n; i++) {
        struct m_copy c = { 0 };
        const int16_t want = m_copy(&m, caller, &ops[i], &c);

        if (judge(ops[i].status, want))
            m_copy_did(&m, &ops[i], &c);
    }
}

static void
do_flags(uint16_t caller, uint32_t n)
{
    struct fh_gnttab_entry_flags ops[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        ops[i] = (struct fh_gnttab_entry_flags){ .status = 77 };
        ops[i].ref = any_ref();
        ops[i].flags = pick(5);
    }
    hypercall(caller, FH_GNTTABOP_entry_flags, ops, n);
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t ref = ops[i].ref;
        const struct m_pins p = m_pins_of(&m, caller, ref);

        if (!judge(ops[i].status, ops[i].flags > 3   ? GNTST_general_error
                                  : ref >= FH_GNT_V1_PER_FRAME
                                      ? GNTST_bad_gntref
                                      : GNTST_okay))
            continue;
        CLAIM_EQ(ops[i].in_use, p.readers + p.writers > 0);
        m.dom[caller].entry[ref].closed = ops[i].flags & FH_GNT_ENTRY_CLOSED;
        m.dom[caller].entry[ref].notify = ops[i].flags & FH_GNT_ENTRY_NOTIFY;
    }
}

/* A granter rewrites an entry, in use or not; the marks stay the engine's. */
static void
do_poke_v2(uint16_t dom)
{
    static const uint16_t kinds[] = {
        GTF_permit_access, GTF_permit_access | GTF_readonly,
        GTF_permit_access | GTF_sub_page, GTF_permit_access | GTF_sub_page,
        GTF_permit_access | GTF_sub_page, GTF_transitive, GTF_transitive,
        GTF_permit_access | GTF_sub_page | GTF_readonly,
        GTF_transitive | GTF_readonly, GTF_accept_transfer, 0,
    };
    grant_entry_v2_t *e = &w.dom[dom].table2[FIRST_REF + pick(N_REFS)];

    e->hdr.flags = kinds[pick(FH_ARRAY_SIZE(kinds))];
    e->hdr.domid = (domid_t)pick(M_DOMS);
    e->full_page.frame = m_first_mfn(dom) + pick(M_FRAMES + 1);
    if ((e->hdr.flags & GTF_type_mask) == GTF_transitive) {
        e->transitive.trans_domid = any_dom();
        e->transitive.gref = any_ref();
    } else {
        e->sub_page.page_off = any_bytes();
        e->sub_page.length = any_bytes();
    }
}

/* Whoever grants in the other version begins anew. */
static void
do_version(uint16_t dom)
{
    struct gnttab_set_version op = {
        .version = pick(8) ? 1 + pick(2) : pick(9)
    };
    struct fh_gnt_call call = { .cmd = GNTTABOP_set_version, .arg = &op,
                                .count = 1 };
    const uint32_t version = op.version;
    const int want = m_set_version(&m, dom, version);
    unsigned turns = 0;
    long r;

    w.did_fail = false;
    w.calls = 0;
    w.fail_at = pick(2) ? UINT64_MAX : 0;
    w.preempt_every = pick(4);
    do
        r = fh_gnt_hypercall(&ctx, &w.dom[dom].gnt, &call);
    while (r == FH_GNT_E_PREEMPTED && ++turns < 100);
    w.fail_at = UINT64_MAX;
    CLAIM(turns < 100);
    CLAIM_EQ(r, w.did_fail ? FH_ENOMEM : want);
    if (!r)
        m.dom[dom].version = version;
    CLAIM_EQ(op.version, m.dom[dom].version);
}

static void
do_swap(uint16_t caller, uint32_t n)
{
    struct gnttab_swap_grant_ref ops[MAX_ELEMENTS];
    int16_t want[MAX_ELEMENTS];

    for (uint32_t i = 0; i < n; i++) {
        ops[i] = (struct gnttab_swap_grant_ref){ .status = 77 };
        ops[i].ref_a = any_ref();
        ops[i].ref_b = any_ref();
        want[i] = m_swap(&m, caller, ops[i].ref_a, ops[i].ref_b);
    }
    /* What is exchanged is the guest's memory, which the model reads itself. */
    hypercall(caller, GNTTABOP_swap_grant_ref, ops, n);
    for (uint32_t i = 0; i < n; i++)
        judge(ops[i].status, want[i]);
}

static void
do_poke(uint16_t dom)
{
    static const uint16_t kinds[] = {
        GTF_permit_access, GTF_permit_access, GTF_permit_access,
        GTF_permit_access | GTF_readonly, GTF_permit_access | GTF_sub_page,
        GTF_accept_transfer, GTF_transitive, 0,
    };
    grant_entry_v1_t *e = &w.dom[dom].table[FIRST_REF + pick(N_REFS)];

    e->flags = (uint16_t)((e->flags & (GTF_reading | GTF_writing)) |
                          kinds[pick(FH_ARRAY_SIZE(kinds))]);
    e->domid = (domid_t)pick(M_DOMS);
    e->frame = (uint32_t)(m_first_mfn(dom) + pick(M_FRAMES + 1));
}

/* The guest maps a page of its own, or uses what is mapped. */
static void
do_own(uint16_t dom)
{
    const uint32_t slot = pick(M_SLOTS);
    const uint64_t mfn = m_first_mfn(dom) + pick(M_FRAMES);

    if (m.dom[dom].pte[slot].mfn) {
        world_touch(&w.dom[dom], slot);
        return;
    }
    world_map_own(&w.dom[dom], slot, mfn);
    m.dom[dom].pte[slot] = (struct m_pte){ mfn, true, true };
}

/* What no guest gets anything for. */
static void
do_nonsense(uint16_t caller)
{
    struct fh_gnt_call call = { .cmd = fuzz_byte(&in), .arg = &m };

    call.count = 0x80000000u + fuzz_byte(&in);
    CLAIM_EQ(fh_gnt_hypercall(&ctx, &w.dom[caller].gnt, &call), FH_EINVAL);
    call = (struct fh_gnt_call){ .cmd = 100 + call.cmd, .arg = &m, .count = 1 };
    CLAIM_EQ(fh_gnt_hypercall(&ctx, &w.dom[caller].gnt, &call), FH_ENOSYS);
    call = (struct fh_gnt_call){ .cmd = GNTTABOP_copy | 1u << 12, .arg = &m,
                                 .count = 1 };
    CLAIM_EQ(fh_gnt_hypercall(&ctx, &w.dom[caller].gnt, &call), FH_EINVAL);
}

/* ------------------------------------------------------------------- run -- */

static void
begin_v2(uint16_t dom)
{
    struct gnttab_set_version op = { .version = 2 };
    uint32_t done;

    CLAIM(!fh_gnt_op_set_version(&ctx, &w.dom[dom].gnt, &op, 1, &done));
    m.dom[dom].version = 2;
}

static void
begin(void)
{
    uint8_t options;

    memset(&m, 0, sizeof(m));
    m.w = &w;
    world_init(&w);
    options = fuzz_byte(&in);
    w.iommu = options & 1;
    for (uint16_t dom = 0; dom < M_DOMS; dom++) {
        m.dom[dom].version = 1;
        m.dom[dom].transitive = dom == 0;
        world_add(&w, dom, m_first_mfn(dom), M_FRAMES, 1, M_QUOTA, M_SLOTS,
                  dom == 0 ? FH_GNT_DOM_TRANSITIVE : 0);
    }
    for (uint32_t i = 0; i < M_DOMS * M_FRAMES; i++) {
        memset(m.bytes[i], (int)i + 1, FH_PAGE_BYTES);
        memset(w.frames[i].bytes, (int)i + 1, FH_PAGE_BYTES);
    }
    fh_gnt_ctx_init(&ctx, &w.ops, &w, 0);
    for (uint16_t dom = 0; dom < M_DOMS; dom++) {
        for (uint32_t i = 0; i < N_REFS; i++) {
            grant_entry_v1_t *e = &w.dom[dom].table[FIRST_REF + i];

            e->domid = (domid_t)((dom + i) % M_DOMS);
            e->frame = (uint32_t)(m_first_mfn(dom) + i);
            e->flags = GTF_permit_access;
        }
        if (options & 2u << dom)
            begin_v2(dom);
    }
}

static void
do_step(void)
{
    const uint8_t op = fuzz_byte(&in);
    const uint16_t dom = (uint16_t)(op >> 4) % M_DOMS;
    const uint32_t n = 1 + pick(MAX_ELEMENTS);

    switch (op & 15) {
    case 0:
    case 1:
    case 2:
        do_map(dom, n);
        break;
    case 3:
    case 4:
        do_unmap(dom, n);
        break;
    case 5:
        do_replace(dom, n);
        break;
    case 6:
        do_duplicate(dom, n);
        break;
    case 7:
        do_unmap_ref(dom, n);
        break;
    case 8:
    case 9:
        do_copy(dom, n);
        break;
    case 10:
        do_flags(dom, n);
        break;
    case 11:
    case 12:
        if (m.dom[dom].version == 1)
            do_poke(dom);
        else
            do_poke_v2(dom);
        break;
    case 13:
        do_own(dom);
        break;
    case 14:
        do_swap(dom, n);
        break;
    case 15:
        if (n < MAX_ELEMENTS - 1) {
            do_version(dom);
            break;
        }
        if (n < MAX_ELEMENTS) {
            do_nonsense(dom);
            break;
        }
        m.dom[dom].dying = true;
        fh_gnt_domain_kill(&w.dom[dom].gnt);
        break;
    }
}

/* All die as mappers; everything is given back. */
static void
end(void)
{
    const char *bad;

    for (uint16_t dom = 0; dom < M_DOMS; dom++) {
        uint32_t cursor = 0;

        memset(w.dom[dom].ptes, 0, M_SLOTS * sizeof(*w.dom[dom].ptes));
        while (fh_gnt_release_maps(&ctx, &w.dom[dom].gnt, 1 + dom, &cursor))
            ;
        m_release(&m, dom);
    }
    for (uint32_t i = 0; i < WORLD_FRAMES; i++)
        w.frames[i].n_maps = 0;
    bad = m_compare(&m);
    if (bad)
        fprintf(stderr, "at the end: %s\n", bad);
    CLAIM(!bad);
    for (uint32_t i = 0; i < M_DOMS * M_FRAMES; i++)
        CLAIM(!memcmp(w.frames[i].bytes, m.bytes[i], FH_PAGE_BYTES));
    for (uint16_t dom = 0; dom < M_DOMS; dom++)
        CLAIM_EQ(w.dom[dom].refs, 0);
    world_fini(&w);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    in = (struct fuzz_input){ data, size };
    begin();
    for (step = 0; in.left && step < MAX_STEPS; step++) {
        const char *bad;

        do_step();
        bad = m_compare(&m);
        if (bad)
            fprintf(stderr, "after step %u: %s\n", step, bad);
        CLAIM(!bad);
        for (uint16_t dom = 0; dom < M_DOMS; dom++)
            m.dom[dom].kicks = w.dom[dom].kicks;
    }
    end();
    return 0;
}
