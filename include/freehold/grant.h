/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * libgrant: the grant-table engine of a hypervisor, freestanding.
 *
 * The embedder owns domains, memory, page tables and the processors; the
 * engine owns grant tables, map tracking and the rules.  Objects and lives:
 *
 *   fh_hv_ops       what the embedder does for the engine, one for all
 *   fh_gnt_ctx      one per thread (physical CPU) that calls the engine
 *   fh_gnt_domain   one per domain, inside the embedder's own struct:
 *       fh_gnt_domain_init()
 *       fh_gnt_table_init(), fh_gnt_table_grow(), fh_gnt_status_grow()
 *                                                  so that it can grant
 *       fh_gnt_maptrack_init()                     so that it can map
 *       fh_gnt_op_map(), _unmap(), _copy(), ...    what its guest asks for
 *       fh_gnt_domain_kill()                       no new maps of its pages
 *       fh_gnt_release_maps()                      ends its own maps
 *   The struct and its memory may go when the engine holds no reference to the
 *   domain any more (fh_hv_ops.domain_put was called for every domain_hold and
 *   domain_get) and no call that names it is running.
 *
 * Memory comes from the caller, zeroed, and stays his.  The engine allocates
 * nothing, logs nothing, starts no thread and takes no lock; any number of
 * threads may call anything for any domains at once, except where a function
 * says otherwise.  Semantics and status codes are those of
 * <xen/grant_table.h>; what differs from Xen is listed in lib/grant/README.md.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/grant_table.h>

#include <freehold/err.h>
#include <freehold/tlb.h>

#ifndef FH_SHARED /* as in base/shared.h: memory that a peer may be writing */
#if defined(__clang__)
#define FH_SHARED __attribute__((noderef))
#else
#define FH_SHARED
#endif
#endif

struct fh_gnt_domain;
struct fh_gnt_table_frame;
struct fh_gnt_status_frame;
struct fh_gnt_slot;

/* ---------------------------------------------------------------- limits -- */

/* Entries of one shared 4 KiB frame of a table, and status words of one status
 * frame, which only version 2 has. */
#define FH_GNT_V1_PER_FRAME     512u
#define FH_GNT_V2_PER_FRAME     256u
#define FH_GNT_STATUS_PER_FRAME 2048u
/* Pins of one entry, for reading and for writing apart: each live handle and
 * each running copy is one.  One more is GNTST_general_error. */
#define FH_GNT_PIN_MAX 262143u
/* Handles of one domain: leaves 7 bits to the generation. */
#define FH_GNT_HANDLES_MAX (1u << 24)
/* Unmaps that share one TLB flush, and the longest step of an unmap between
 * two preemption checks. */
#define FH_GNT_UNMAP_BATCH 256u

/* ------------------------------------------------ what the embedder does -- */

/* A frame that frame_get() found. */
struct fh_gnt_frame {
    uint64_t mfn; /* machine frame; dev_bus_addr is mfn << 12 */
};

/* Verdicts of fh_hv_ops.frame_get() beside 0. */
enum {
    FH_GNT_E_BAD_PAGE = 1, /* no such gfn, not RAM of its own: bad_page */
    FH_GNT_E_AGAIN,        /* paged out, or no memory to un-share: eagain */
    FH_GNT_E_REFUSED,      /* no reference to be had: general_error */
    FH_GNT_E_TOO_BIG,      /* page_offer(): no page that low: address_too_big */
};

/* What fh_hv_ops.pt_remove() found in the entry that it took out. */
enum {
    FH_GNT_PT_UNTOUCHED = 0, /* never used: no TLB can hold it */
    FH_GNT_PT_ACCESSED = 1,  /* may be cached: flush before the page goes */
    FH_GNT_PT_IOTLB = 2,     /* or'ed in: devices walk the same table, and set
                              * no accessed bit: flush the IOTLB as well */
};

/*
 * What pt_install() may answer beside 0: its accessed bit will not tell whether
 * a TLB holds it, so always flush.  For tables that are walked without setting
 * it, processors that do not set it in one step with the check that the entry
 * is present, guests that may write the bit.
 */
#define FH_GNT_PT_ALWAYS_FLUSH 1

/*
 * One host mapping of a grant, as the page-table operations see it.
 * @host_addr: from the guest; means what the embedder and its guests agree on.
 * @flags:     GNTMAP_host_map, _readonly, _application_map, _contains_pte and
 *             the guest-available bits, as the guest gave them at map
 */
struct fh_gnt_pte {
    uint64_t host_addr;
    uint64_t mfn;
    uint32_t flags;
    uint32_t handle;
};

/*
 * The embedder's operations.  All are called with @hv as given to
 * fh_gnt_ctx_init(), from the thread that called the engine, never with
 * anything locked; none may call back into the engine for the same entry.
 * Those marked (optional) may be NULL.  Negative returns are the embedder's own
 * trouble and become GNTST_general_error for the element at hand.
 */
struct fh_hv_ops {
    /*
     * The domain that is called @domid now, with a reference on it, or NULL.
     * A dying domain may be found.  DOMID_SELF never arrives here.
     */
    struct fh_gnt_domain *(*domain_get)(void *hv, uint16_t domid);
    /* One more reference on @d, which the engine already holds.  One per
     * pinned entry of @d: a granter stays until its last page is unmapped. */
    void (*domain_hold)(void *hv, struct fh_gnt_domain *d);
    void (*domain_put)(void *hv, struct fh_gnt_domain *d);

    /* (optional) May @caller do GNTTABOP_@op with @peer?  False:
     * GNTST_permission_denied. */
    bool (*may)(void *hv, struct fh_gnt_domain *caller,
                struct fh_gnt_domain *peer, unsigned op);

    /*
     * Looks up @gfn of @owner and takes a general reference on the frame.
     * @for_write: a shared (deduplicated) page must be made private first.
     * Returns 0, a negative error or FH_GNT_E_*.
     */
    int (*frame_get)(void *hv, struct fh_gnt_domain *owner, uint64_t gfn,
                     bool for_write, struct fh_gnt_frame *out);
    void (*frame_put)(void *hv, struct fh_gnt_domain *owner, uint64_t mfn);
    /* (optional, both or none) The writable-type reference, beside the
     * general one: taken once for all writers of an entry.  An embedder that
     * types no pages of @owner (auto-translated) accepts and counts nothing.
     * Nonzero: refused, GNTST_general_error. */
    int (*frame_get_writable)(void *hv, struct fh_gnt_domain *owner,
                              uint64_t mfn);
    void (*frame_put_writable)(void *hv, struct fh_gnt_domain *owner,
                               uint64_t mfn);
    /* The contents of a frame that the engine holds a reference on, for a
     * copy; NULL makes the copy fail.  Writing may fault no one: the
     * page stays where it is until frame_unmap(). */
    void *(*frame_map)(void *hv, struct fh_gnt_domain *owner, uint64_t mfn,
                       bool for_write);
    void (*frame_unmap)(void *hv, struct fh_gnt_domain *owner, uint64_t mfn,
                        void *addr, bool for_write);

    /*
     * Puts a mapping at pte->host_addr of @mapper, accessed and dirty bits
     * clear.  *@old gets the entry that was there.  Returns 0 or
     * FH_GNT_PT_ALWAYS_FLUSH; anything else: refused, GNTST_general_error;
     * nothing was changed.
     */
    int (*pt_install)(void *hv, struct fh_gnt_domain *mapper,
                      const struct fh_gnt_pte *pte, uint64_t *old);
    /*
     * Takes the mapping at @host_addr (which may differ from the one at map:
     * the guest chooses) out by one atomic exchange, if it maps pte->mfn with
     * exactly this access, and gives the entry taken in *@old.
     * Returns FH_GNT_PT_UNTOUCHED or what else of FH_GNT_PT_* is due, or
     * negative: no such mapping, nothing changed, GNTST_general_error.
     *
     * UNTOUCHED is for an entry of the table that the processors walk, whose
     * accessed bit was clear in the value that the exchange gave back, and was
     * never cleared by anybody since pt_install() (else: fh_gnt_taint()).  When
     * in doubt, say accessed.
     */
    int (*pt_remove)(void *hv, struct fh_gnt_domain *mapper,
                     const struct fh_gnt_pte *pte, uint64_t *old);
    /*
     * (optional) May @mapper take a handle of its reserve to map entry @ref of
     * @granter?  Asked only when no other is left.  NULL: nobody may.
     */
    bool (*may_use_reserve)(void *hv, struct fh_gnt_domain *mapper,
                            struct fh_gnt_domain *granter, uint32_t ref);
    /*
     * (optional) A zeroed word of the embedder's for each address that
     * pt_install() takes, in which the engine says which mapping is there, for
     * fh_gnt_map_at(); NULL for an address that needs none.  It lives as long
     * as the mapping.  With it, an unmap must name the address of its map.
     */
    uint32_t *(*map_word)(void *hv, struct fh_gnt_domain *mapper,
                          uint64_t host_addr);
    /*
     * (optional) As pt_remove(), and what @mapper has mapped at linear address
     * @new_addr takes the place, in the same exchange; it goes from there
     * (@duplicate: it stays there too, with a reference more).  Refused if
     * nothing is mapped at @new_addr, or a granted page.  The answer is for
     * both addresses: accessed if a TLB may hold either.  NULL:
     * unmap_and_replace and unmap_and_duplicate answer general_error.
     */
    int (*pt_replace)(void *hv, struct fh_gnt_domain *mapper,
                      const struct fh_gnt_pte *pte, uint64_t new_addr,
                      bool duplicate, uint64_t *old);
    /* No CPU holds a translation that pt_remove() took from @mapper when this
     * returns.  For a mapper without a struct fh_tlb; else it may be NULL. */
    void (*tlb_flush)(void *hv, struct fh_gnt_domain *mapper);
    /* For a mapper with one: adds to @cpus (zeroed, FH_TLB_WORDS words) all
     * processors that may hold translations of @mapper.  One enters
     * itself there, then a full fence, before it first walks @mapper's tables;
     * it leaves after a flush. */
    void (*tlb_cpus)(void *hv, struct fh_gnt_domain *mapper, uint64_t *cpus);
    /* Returns when each of @cpus has flushed all its translations, of any
     * domain, that were there when this was called.  Whoever calls the engine
     * must be able to serve such a flush while it waits for one. */
    void (*tlb_flush_cpus)(void *hv, const uint64_t *cpus);

    /*
     * (optional, all or none) Strict IOMMU of a mapper with identity I/O
     * addresses: the counter of @mfn for @mapper, a zeroed 64-bit word of the
     * embedder's that lives as long as the frame does, or NULL when @mapper
     * has no such IOMMU.  The engine counts in it and calls iommu_map when the
     * permission that the count asks for appears or grows, iommu_unmap
     * when it shrinks (@readonly: to read-only) or goes.
     */
    uint64_t *(*iommu_count)(void *hv, struct fh_gnt_domain *mapper,
                             uint64_t mfn);
    int (*iommu_map)(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn,
                     bool readonly);
    int (*iommu_unmap)(void *hv, struct fh_gnt_domain *mapper, uint64_t mfn,
                       bool to_readonly);
    void (*iommu_flush)(void *hv, struct fh_gnt_domain *mapper);
    /* For FH_GNT_DOM_OWN_IOVA, in place of counting: @iova of @mapper reaches
     * @mfn, or nothing.  No two calls for one address at a time. */
    int (*iommu_map_at)(void *hv, struct fh_gnt_domain *mapper, uint64_t iova,
                        uint64_t mfn, bool readonly);
    void (*iommu_unmap_at)(void *hv, struct fh_gnt_domain *mapper,
                           uint64_t iova);

    /*
     * (optional, all or none: transfer answers FH_EOPNOTSUPP)
     * page_steal(): takes frame @mfn away from @from, if it is @from's and
     * nobody uses it any more, not even @from's page tables; nonzero: bad_page,
     * nothing changed.  The page is nobody's then, until one of these:
     * page_offer(): makes sure that @to lives and has room for it, and keeps
     * the room; @frame may become another one with the same contents, and has
     * to if it is above @max_mfn (or FH_GNT_E_TOO_BIG: address_too_big).
     * Nonzero: the page is nobody's still.
     * page_assign(): after page_offer(): it is @to's (or, if that began to die
     * meanwhile, free).  page_retract(): gives the room back; it is nobody's.
     * page_free(): it is free.
     */
    int (*page_steal)(void *hv, struct fh_gnt_domain *from, uint64_t mfn);
    int (*page_offer)(void *hv, struct fh_gnt_domain *to, uint64_t max_mfn,
                      struct fh_gnt_frame *frame);
    void (*page_assign)(void *hv, struct fh_gnt_domain *to,
                        const struct fh_gnt_frame *frame);
    void (*page_retract)(void *hv, struct fh_gnt_domain *to,
                         const struct fh_gnt_frame *frame);
    void (*page_free)(void *hv, const struct fh_gnt_frame *frame);

    /*
     * (optional, both or none: cache_flush answers FH_ENOSYS) frame_owner():
     * the domain that machine frame @mfn belongs to, with a reference on it and
     * one on the frame (given back by domain_put and frame_put), or NULL: not
     * RAM, or nobody's.  cache_flush(): cleans (GNTTAB_CACHE_CLEAN) and
     * invalidates (_INVAL) @n bytes at @offset of it, all within the page.
     * Who may: the owner, and a mapper whose iommu_count() word of the frame is
     * not 0, be there an IOMMU or not.
     */
    struct fh_gnt_domain *(*frame_owner)(void *hv, uint64_t mfn);
    int (*cache_flush)(void *hv, uint64_t mfn, uint32_t offset, uint32_t n,
                       uint32_t op);

    /*
     * (optional) The guest of @d wants a table of at least @n_frames frames and
     * @n_status status frames: calls fh_gnt_status_grow() and then
     * fh_gnt_table_grow() as often as needed.  Several threads may ask at once;
     * the embedder lets one at a time grow one table.  Nonzero or NULL:
     * refused; what was added stays.
     */
    int (*table_grow)(void *hv, struct fh_gnt_domain *d, uint32_t n_frames,
                      uint32_t n_status);
    /* (optional) Writes @n bytes at @guest_addr of @caller, for the lists that
     * setup_table and get_status_frames fill.  Nonzero or NULL: a fault,
     * GNTST_bad_virt_addr. */
    int (*guest_write)(void *hv, struct fh_gnt_domain *caller,
                       uint64_t guest_addr, const void *src, size_t n);

    /* (optional) Entry @ref of @d, for which fh_gnt_entry_set() asked so, lost
     * its last pin: tell the granter's guest. */
    void (*domain_kick)(void *hv, struct fh_gnt_domain *d, uint32_t ref);
    /* (optional) True: stop soon.  Asked before every element but the first. */
    bool (*preempt)(void *hv);
};

/* --------------------------------------------------------------- context -- */

/* One per thread that calls the engine.  Fields are the engine's. */
struct fh_gnt_ctx {
    const struct fh_hv_ops *ops;
    void *hv;
    unsigned cpu;
};

/*
 * fh_gnt_ctx_init - make @ctx usable by one thread
 *
 * @cpu: less than the n_cpus of every domain it will act for; no two threads
 *       may use one number at the same time; where there is a struct fh_tlb,
 *       the number of the processor in it
 */
void
fh_gnt_ctx_init(struct fh_gnt_ctx *ctx, const struct fh_hv_ops *ops, void *hv,
                unsigned cpu);

/* ---------------------------------------------------------------- domain -- */

/* What one domain did, as a mapper, plain counts since its birth. */
struct fh_gnt_stats {
    uint64_t maps;            /* map elements that succeeded */
    uint64_t unmaps;          /* handles that ended */
    uint64_t copies;          /* copy elements that succeeded */
    uint64_t elements;        /* elements of all operations, failed or not */
    uint64_t flushes;         /* TLB flushes that the embedder made for it */
    uint64_t flushes_asked;   /* batches that removed a used mapping: they led
                               * to one of those, or ... */
    uint64_t flushes_merged;  /* ... were served by others' */
    uint64_t flushes_elided;  /* batches that removed mappings, none used */
    uint64_t cpus_interrupted; /* other CPUs, in all those flushes */
    uint64_t cpus_skipped;    /* that a batch needed and that had flushed since,
                               * by themselves or for another */
    uint64_t iotlb_flushes;
    uint64_t map_slow;        /* pins that read the shared entry */
    uint64_t retries;         /* compare-and-swaps that lost, and waits */
    uint64_t filler[3]; /* two cache lines: CPUs' counters are neighbours */
};
_Static_assert(sizeof(struct fh_gnt_stats) == 128, "whole cache lines");

/* The domain's guest is auto-translated (HVM, PVH), not PV: no device,
 * application or pte maps. */
#define FH_GNT_DOM_TRANSLATED 1u
/* Its transitive grants (version 2) are honoured, by copies: one step, never
 * for maps.  Without it they are GNTST_general_error. */
#define FH_GNT_DOM_TRANSITIVE 2u
/* It has no version 2: set_version answers FH_ENOSYS. */
#define FH_GNT_DOM_V1_ONLY 4u
/* As a mapper, each of its device maps has an I/O address of its own, which
 * dev_bus_addr says: iova_base + (index of the handle << 12); other maps have
 * none.  Else devices reach the frame of every map at its machine address,
 * counted per frame (docs/adr/0080).  iommu_count is there, but not called. */
#define FH_GNT_DOM_OWN_IOVA 8u

struct fh_gnt_domain_params {
    uint64_t uid; /* never reused by any domain; not 0 */
    uint16_t domid;
    uint32_t flags;            /* FH_GNT_DOM_* */
    uint32_t n_cpus;           /* threads that may act for it, 1 .. */
    struct fh_gnt_stats *stats; /* n_cpus of them, zeroed; NULL if n_cpus 1 */
    struct fh_tlb *tlb; /* the machine's, or NULL: each flush for itself */
    uint64_t iova_base; /* of FH_GNT_DOM_OWN_IOVA, aligned, above all RAM */
};

/* Embed it.  All fields are the engine's; read uid, domid and flags freely. */
struct fh_gnt_domain {
    uint64_t uid;
    uint16_t domid;
    uint32_t flags;
    uint32_t is_dying;
    /* granter: frames[i] is valid for i < n_frames */
    struct fh_gnt_table_frame *frames;
    uint32_t n_frames, max_frames;
    struct fh_gnt_status_frame *status;
    uint32_t n_status;
    uint32_t version; /* lib/grant/version.h */
    uint32_t switch_phase, switch_cursor;
    /* mapper */
    struct fh_gnt_slot *slots;
    uint32_t n_slots, index_bits;
    uint32_t n_reserved, fresh_reserve; /* slots 0 .. n_reserved - 1 */
    uint64_t free_reserve;
    uint64_t free_slots;  /* head of the free list, tagged */
    uint32_t fresh_slots; /* slots below were used once */
    uint32_t n_cpus;
    struct fh_gnt_stats *stats;
    struct fh_tlb *tlb;
    uint64_t iova_base;
    struct fh_gnt_stats own_stats;
};

void
fh_gnt_domain_init(struct fh_gnt_domain *d,
                   const struct fh_gnt_domain_params *params);

/* Bytes of memory for a table of up to @max_frames shared frames; for
 * fh_gnt_table_init(), zeroed, aligned to 64.  0: out of range. */
size_t
fh_gnt_table_bytes(uint32_t max_frames);

/* Gives @d an empty table.  Before anybody can find @d. */
void
fh_gnt_table_init(struct fh_gnt_domain *d, uint32_t max_frames, void *mem);

/* Bytes for the engine's part of one frame (FH_GNT_V1_PER_FRAME entries). */
size_t
fh_gnt_frame_bytes(void);

/*
 * fh_gnt_table_grow - append one frame to the table
 *
 * @shared: 4 KiB that the guest may write, page aligned; zeroed by the caller
 * @active: fh_gnt_frame_bytes(), zeroed, aligned to 64; the guest must not
 *          reach it
 * @gfn:    what setup_table tells the guest of it
 *
 * Both stay until the domain is gone; a table never shrinks.  Entries of a
 * version 2 table can be used when their status frame is there, too.
 * Returns 0, or FH_ENOSPC at max_frames with nothing changed.
 * Threads: one grower per domain at a time, beside any other call.
 */
FH_MUST_CHECK int
fh_gnt_table_grow(struct fh_gnt_domain *d, FH_SHARED void *shared,
                  void *active, uint64_t gfn);

/*
 * fh_gnt_status_grow - append one status frame
 *
 * @shared: 4 KiB as above, for 2048 entries, which is 8 frames
 *
 * It stays until the domain is gone, in version 1 as well (XSA-379, XSA-384).
 * Returns 0, or FH_ENOSPC when there are enough for max_frames.
 * Threads: as fh_gnt_table_grow().
 */
FH_MUST_CHECK int
fh_gnt_status_grow(struct fh_gnt_domain *d, FH_SHARED void *shared,
                   uint64_t gfn);

/* Status frames for @n_frames frames. */
static inline uint32_t
fh_gnt_status_needed(uint32_t n_frames)
{
    const uint32_t per = FH_GNT_STATUS_PER_FRAME / FH_GNT_V2_PER_FRAME;

    return n_frames / per + !!(n_frames % per);
}

/* 1 or 2: the version of the table now. */
uint32_t
fh_gnt_version(const struct fh_gnt_domain *d);

/* Frames that the table has now, and at most; status frames that the guest
 * sees: none in version 1. */
uint32_t
fh_gnt_status_frames(const struct fh_gnt_domain *d);
uint32_t
fh_gnt_table_frames(const struct fh_gnt_domain *d);
uint32_t
fh_gnt_table_max_frames(const struct fh_gnt_domain *d);

/* Bytes for @n_handles live mappings (1 .. FH_GNT_HANDLES_MAX), zeroed,
 * aligned to 64; only what is used gets touched.  0: out of range. */
size_t
fh_gnt_maptrack_bytes(uint32_t n_handles);

/* Lets @d hold @n_handles mappings: its quota.  Before anybody calls for @d. */
void
fh_gnt_maptrack_init(struct fh_gnt_domain *d, uint32_t n_handles, void *mem);

/*
 * Keeps @n_reserved of those mappings, less than all, for what the embedder
 * names by may_use_reserve: a disk that must go on when a network device has
 * taken everything else.  After fh_gnt_maptrack_init(), before anybody calls
 * for @d.
 */
void
fh_gnt_maptrack_reserve(struct fh_gnt_domain *d, uint32_t n_reserved);

/* ------------------------------------------------------------ operations -- */

/* The call stopped because fh_hv_ops.preempt said so: call it again with the
 * array advanced by *@done. */
#define FH_GNT_E_PREEMPTED 1

/*
 * fh_gnt_op_map, _unmap, _copy - the hypercalls of these names
 *
 * @caller: the domain whose guest calls; the embedder keeps it alive
 * @ops:    @count elements in memory that the guest may change meanwhile; each
 *          is read once, its results are written field by field
 * @done:   out: how many elements are finished, their status written.  At least
 *          one if count > 0.
 *
 * Every element has a status of its own (GNTST_*); an unsuccessful one does not
 * end the batch.  On return, no CPU or device TLB holds a translation of an
 * unmapped element below *done.
 *
 * Returns 0 (all elements are finished) or FH_GNT_E_PREEMPTED.
 * Threads: any number, one @ctx each.  Never blocks; may spin while another
 * CPU moves an entry between pinned and free.
 */
FH_MUST_CHECK long
fh_gnt_op_map(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
              FH_SHARED struct gnttab_map_grant_ref *ops, uint32_t count,
              uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_unmap(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                FH_SHARED struct gnttab_unmap_grant_ref *ops, uint32_t count,
                uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_copy(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               FH_SHARED struct gnttab_copy *ops, uint32_t count,
               uint32_t *done);

struct fh_gnttab_unmap_and_duplicate;
struct fh_gnttab_unmap_ref;
struct fh_gnttab_entry_flags;

/* As those above; the last three are <freehold/grant_ext.h>'s. */
FH_MUST_CHECK long
fh_gnt_op_unmap_and_replace(struct fh_gnt_ctx *ctx,
                            struct fh_gnt_domain *caller,
                            FH_SHARED struct gnttab_unmap_and_replace *ops,
                            uint32_t count, uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_unmap_and_duplicate(
    struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
    FH_SHARED struct fh_gnttab_unmap_and_duplicate *ops, uint32_t count,
    uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_unmap_ref(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                    FH_SHARED struct fh_gnttab_unmap_ref *ops, uint32_t count,
                    uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_entry_flags(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct fh_gnttab_entry_flags *ops,
                      uint32_t count, uint32_t *done);

/* FH_EOPNOTSUPP, *@done 0, if the embedder has no page_steal. */
FH_MUST_CHECK long
fh_gnt_op_transfer(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                   FH_SHARED struct gnttab_transfer *ops, uint32_t count,
                   uint32_t *done);

/* An element that fails ends the call with its error, *@done elements before
 * it: there is no status to write. */
FH_MUST_CHECK long
fh_gnt_op_cache_flush(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_cache_flush *ops, uint32_t count,
                      uint32_t *done);

/* A grant-table hypercall as a guest makes it. */
struct fh_gnt_call {
    uint32_t cmd; /* GNTTABOP_* or FH_GNTTABOP_*; continuation bits above 12 */
    uint32_t count;
    FH_SHARED void *arg; /* aligned to 4 at least */
    bool is_32bit;       /* the caller's layouts are those of 32-bit x86 */
};

/*
 * fh_gnt_hypercall - a whole grant_table_op of any kind
 *
 * @call: arg is an array of count elements that the embedder made addressable
 *        (it answers -EFAULT itself when it cannot); on FH_GNT_E_PREEMPTED the
 *        call is advanced, and made again as it stands it goes on
 *
 * Returns what the guest gets: 0 when every element was worked on, each with
 * its own status, or a negative error (FH_ENOSYS: no such operation; FH_EINVAL:
 * a negative count, a count that the operation does not take, or continuation
 * bits that it does not have; others by the operation's own rules);
 * or FH_GNT_E_PREEMPTED, which the embedder does not show to the guest.
 * Threads and blocking as fh_gnt_op_map().
 */
FH_MUST_CHECK long
fh_gnt_hypercall(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 struct fh_gnt_call *call);

/*
 * fh_gnt_op_swap and the five operations that take one element - as above
 *
 * What fails as a whole has nothing written and is returned: FH_EINVAL for a
 * @count that is not 1 (setup_table, query_size, get_status_frames); and
 *
 *   set_version   FH_EINVAL for a version other than 1 and 2, FH_ENOSYS,
 *                 FH_EBUSY while an entry above the reserved ones is pinned,
 *                 FH_ERANGE if a reserved entry cannot be said in version 1,
 *                 FH_ENOMEM if the status frames cannot be had, FH_EAGAIN if
 *                 the table is being switched by somebody else.  The version
 *                 is written in any case.  FH_GNT_E_PREEMPTED also when it has
 *                 to wait.  Until it is called again, and while it works, pins
 *                 that would read the granter's entry are GNTST_eagain.
 *   get_version   FH_ESRCH for no such domain, FH_EPERM
 */
FH_MUST_CHECK long
fh_gnt_op_swap(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               FH_SHARED struct gnttab_swap_grant_ref *ops, uint32_t count,
               uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_setup_table(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_setup_table *ops, uint32_t count,
                      uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_query_size(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                     FH_SHARED struct gnttab_query_size *ops, uint32_t count,
                     uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_get_status_frames(struct fh_gnt_ctx *ctx,
                            struct fh_gnt_domain *caller,
                            FH_SHARED struct gnttab_get_status_frames *ops,
                            uint32_t count, uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_set_version(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_set_version *ops, uint32_t count,
                      uint32_t *done);
FH_MUST_CHECK long
fh_gnt_op_get_version(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED struct gnttab_get_version *ops, uint32_t count,
                      uint32_t *done);

/*
 * The same for one element in memory of the embedder's own.  Results go to the
 * element's output fields, the status is returned as well.  An unmap flushes by
 * itself.
 */
int16_t
fh_gnt_map_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               struct gnttab_map_grant_ref *op);
int16_t
fh_gnt_unmap_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                 struct gnttab_unmap_grant_ref *op);
int16_t
fh_gnt_copy_one(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                struct gnttab_copy *op);

/*
 * fh_gnt_taint - let the end of a mapping flush, whatever its entry says
 *
 * Before, not after, somebody clears the accessed bit of a grant's entry, even
 * if he flushes then: another CPU's unmap may come between.
 *
 * Returns 0, or FH_ENOENT for a handle that is not live: its entry is gone.
 * Threads: any.
 */
int
fh_gnt_taint(struct fh_gnt_domain *mapper, uint32_t handle);

/* ----------------------------------------------------------------- death -- */

/*
 * Marks @d as dying: from now on its entries are pinned by nobody anew (map and
 * copy answer GNTST_bad_domain).  Mappings that exist keep their frames until
 * they are unmapped, and the domain with them.
 */
void
fh_gnt_domain_kill(struct fh_gnt_domain *d);

/*
 * fh_gnt_release_maps - end all mappings of a dead mapper
 *
 * @budget: handles to look at in this call, at least 1
 * @cursor: 0 at the first call; progress, the caller keeps it
 *
 * For when no vCPU and no device of @mapper runs any more and its page tables
 * and TLB entries are gone: pt_remove and tlb_flush are not called.  I/O
 * mappings are removed and flushed before anything is released.  Nobody else
 * may call for @mapper meanwhile.
 *
 * Returns 0 when all is released, or FH_GNT_E_PREEMPTED: call again.
 */
FH_MUST_CHECK int
fh_gnt_release_maps(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
                    uint32_t budget, uint32_t *cursor);

/* --------------------------------------------------------------- queries -- */

/* A live mapping.  @granter stays valid while the mapping lives. */
struct fh_gnt_map_info {
    struct fh_gnt_domain *granter;
    uint64_t host_addr; /* as given at map; 0 when unmapped already */
    uint64_t mfn;
    uint32_t ref;
    uint32_t flags; /* GNTMAP_host_map, _device_map still there; _readonly.. */
};

/* Returns 0, or FH_ENOENT for a handle that is not live.  For the thread that
 * would unmap it: a concurrent unmap makes the answer stale. */
FH_MUST_CHECK int
fh_gnt_map_info(const struct fh_gnt_domain *mapper, uint32_t handle,
                struct fh_gnt_map_info *out);

/*
 * fh_gnt_map_at - which mapping is at an address, by fh_hv_ops.map_word
 *
 * Takes nothing and waits for nobody, in constant time; any thread may ask,
 * beside any other call.  If the mapping is being unmapped meanwhile the answer
 * may be out of date; @out->granter is safe to use only if the embedder keeps
 * the memory of domains that die until no such question is running.
 *
 * Returns 0, or FH_ENOENT: no mapping there.
 */
FH_MUST_CHECK int
fh_gnt_map_at(const struct fh_gnt_ctx *ctx, struct fh_gnt_domain *mapper,
              uint64_t host_addr, struct fh_gnt_map_info *out);

/* What an entry is pinned with.  For tests, audits and dumps. */
struct fh_gnt_entry_info {
    uint64_t mfn;      /* valid while pinned */
    uint32_t readers;  /* handles and copies that may only read */
    uint32_t writers;  /* those that may write too */
    uint16_t grantee;  /* who pins it */
    bool is_busy;
};

/* Returns 0, or FH_ERANGE for a @ref outside the table. */
FH_MUST_CHECK int
fh_gnt_entry_info(const struct fh_gnt_domain *granter, uint32_t ref,
                  struct fh_gnt_entry_info *out);

/*
 * fh_gnt_entry_set - what the granter may ask for while an entry is in use
 *
 * @flags: any of FH_GNT_ENTRY_CLOSED (no new pins, by maps or copies:
 *         GNTST_general_error) and FH_GNT_ENTRY_NOTIFY (domain_kick when the
 *         last pin goes); replaces what was set before
 *
 * Returns 0, or FH_ERANGE for a @ref outside the table.
 */
#define FH_GNT_ENTRY_CLOSED 1u
#define FH_GNT_ENTRY_NOTIFY 2u
FH_MUST_CHECK int
fh_gnt_entry_set(struct fh_gnt_domain *granter, uint32_t ref, unsigned flags);

/*
 * How many entries of a table have how many pins: none, 1, 2, 3 to 4, 5 to 8
 * and so on; the last bucket has no upper end.  Tells how often two records
 * beside an entry would have been enough for all its mappings.
 */
#define FH_GNT_HISTOGRAM_BUCKETS 20
struct fh_gnt_histogram {
    uint64_t entries[FH_GNT_HISTOGRAM_BUCKETS];
};

/*
 * fh_gnt_histogram - add the entries of @granter's table to @out
 *
 * @budget: entries to look at in this call, at least 1
 * @cursor: 0 at the first call; progress, the caller keeps it
 *
 * Each entry is counted as it is when it is looked at, beside any other call.
 * Returns 0 when all were counted, or FH_GNT_E_PREEMPTED: call again.
 */
FH_MUST_CHECK int
fh_gnt_histogram(const struct fh_gnt_domain *granter, uint32_t budget,
                 uint32_t *cursor, struct fh_gnt_histogram *out);

/* Sums what all CPUs counted for @d. */
void
fh_gnt_stats_read(const struct fh_gnt_domain *d, struct fh_gnt_stats *out);

/* -------------------------------------------------------- granter's side -- */

/*
 * What a guest does to its own table, for embedders and unikernels that are the
 * granter.  @table is the shared frames, contiguous, from ref 0; @status the
 * status frames.
 */

/* Grants @gfn to @domid.  @ref must be unused. */
void
fh_gnt_v1_grant(FH_SHARED grant_entry_v1_t *table, uint32_t ref, uint16_t domid,
                uint32_t gfn, bool readonly);

/*
 * Takes the grant back.  Returns 0, or FH_GNT_E_IN_USE with nothing
 * changed while somebody holds the page; the frame belongs to nobody else once
 * this returned 0.
 */
#define FH_GNT_E_IN_USE 2
FH_MUST_CHECK int
fh_gnt_v1_revoke(FH_SHARED grant_entry_v1_t *table, uint32_t ref);

/* The same in version 2: a page, a window of one, or what @trans_domid granted
 * to this domain as @trans_ref. */
void
fh_gnt_v2_grant(FH_SHARED grant_entry_v2_t *table, uint32_t ref, uint16_t domid,
                uint64_t gfn, bool readonly);
void
fh_gnt_v2_grant_window(FH_SHARED grant_entry_v2_t *table, uint32_t ref,
                       uint16_t domid, uint64_t gfn, uint16_t start,
                       uint16_t length, bool readonly);
void
fh_gnt_v2_grant_transitive(FH_SHARED grant_entry_v2_t *table, uint32_t ref,
                           uint16_t domid, uint16_t trans_domid,
                           uint32_t trans_ref, bool readonly);

/* As fh_gnt_v1_revoke(), but FH_GNT_E_IN_USE leaves the entry without
 * grant: no new pins; call again until it returns 0. */
FH_MUST_CHECK int
fh_gnt_v2_revoke(FH_SHARED grant_entry_v2_t *table,
                 const FH_SHARED grant_status_t *status, uint32_t ref);
