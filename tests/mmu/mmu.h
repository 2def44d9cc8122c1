/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A software MMU: processors with TLBs that fill by speculation, page tables
 * with accessed and dirty bits, an IOMMU with an IOTLB; an embedder of libgrant
 * that can be told to break one of the conditions under which a flush may be
 * left out (A1 .. A13, docs/adr/0081).
 *
 * What must hold, always: once the granter sees the grant free (GTF_reading
 * clear) no processor and no device can reach the frame; once it sees it free
 * of writers (GTF_writing clear) none can write it.  mmu_check() says so, and
 * is asked after every step of anything.
 *
 * Everything is one real thread; what a processor does by itself is a function
 * here that the tests call between any two steps of the engine.
 */
#include <freehold/grant.h>

#include "base/arith.h"
#include "base/shared.h"

#define MMU_MFN0  0x1000u
#define MMU_CPUS  24
#define MMU_DOMS  17
#define MMU_IOVA  (1ull << 40) /* own I/O addresses of grants start there */

/* Conditions that are taken away, and other mistakes of an embedder. */
enum mmu_broken {
    MMU_A1 = 1 << 1,   /* entries are installed with the accessed bit set */
    MMU_A2 = 1 << 2,   /* ageing clears the bit and flushes after, no taint */
    MMU_A3 = 1 << 3,   /* the guest clears the bit and nobody notices */
    MMU_A4 = 1 << 4,   /* removal reads the entry, then writes it */
    MMU_A5 = 1 << 5,   /* processors that set the bit late are trusted */
    MMU_A6 = 1 << 6,   /* the IOTLB is left alone */
    MMU_A7 = 1 << 7,   /* tables without accessed bits, or shared with the
                        * IOMMU, are treated as others */
    MMU_A8 = 1 << 8,   /* the bit is read in the guest's copy of the table */
    MMU_A9 = 1 << 9,   /* the hypervisor's own mapping outlives the pin */
    MMU_A12 = 1 << 12, /* grants are mapped next to each other */
    MMU_A13 = 1 << 13, /* the flush returns before it has happened */
    MMU_STAMP = 1 << 14, /* a processor stamps its flush after making it */
};

enum {
    MMU_P = 1, /* present */
    MMU_W = 2,
    MMU_A = 4,
    MMU_D = 8,
    MMU_FLAGS = 0xff, /* mfn << 8 above */
};

/* A page walk between reading the entry and using it. */
struct mmu_walk {
    bool active;
    uint32_t slot;
    uint64_t seen;
};

struct mmu_domain;

struct mmu_cpu {
    struct mmu_domain *runs; /* NULL: nobody, and its TLB stays empty */
    uint64_t *tlb;           /* by page-table slot */
    struct mmu_walk walk;
    bool ipi;
    bool leaving; /* between the stamp and the flush of a switch */
    uint64_t stamp;
};

struct mmu_domain {
    struct fh_gnt_domain gnt; /* first */
    bool exists;
    grant_entry_v1_t *table;
    uint32_t n_refs; /* refs 8 .. are watched; ref r grants frame r - 8 of it */
    uint64_t mfn;
    uint64_t *pt;       /* what processors walk */
    uint64_t *guest_pt; /* the guest's copy of it (shadow paging) */
    uint32_t *handles;  /* + 1, by slot */
    uint64_t *io, *iotlb; /* by I/O page: frame, or n_frames + handle's index */
    uint64_t *io_count;   /* by frame */
    uint64_t cpus[FH_TLB_WORDS];
    struct fh_gnt_stats stats[MMU_CPUS];
};

struct mmu {
    struct fh_hv_ops ops;
    struct fh_tlb tlb;
    struct fh_tlb_cpu tlb_cpus[MMU_CPUS];
    struct mmu_cpu cpu[MMU_CPUS];
    struct mmu_domain dom[MMU_DOMS];
    uint32_t n_cpus, n_slots, n_frames;
    uint8_t *direct; /* by frame: the hypervisor itself has it mapped */
    uint32_t broken; /* enum mmu_broken */
    /* the machine's kind */
    bool no_accessed;  /* walks set no accessed bit */
    bool late_accessed; /* ... set it without looking at the entry again */
    bool shared_table; /* devices walk the page table */
    bool prefetches;   /* walks fill the next slot as well */
    bool iommu;
    bool own_iova; /* mail 004's other way */
    /* what happened */
    uint64_t ipis, io_maps, io_unmaps, io_flushes;
    /* called before and after each step of the embedder, and to let others
     * run; NULL: nobody else is there */
    void (*point)(struct mmu *m);
    void (*wait)(struct mmu *m);
    void *mem[256];
    uint32_t n_mem;
};

/* A machine of @n_cpus, page tables of @n_slots, @n_frames machine frames.
 * Nobody runs yet. */
void
mmu_init(struct mmu *m, uint32_t n_cpus, uint32_t n_slots, uint32_t n_frames);
void
mmu_fini(struct mmu *m);

/* Domain @domid: owns frames [@first, @first + @n) and grants them, frame i by
 * reference 8 + i, to @grantee; may hold @n_handles mappings. */
struct mmu_domain *
mmu_add(struct mmu *m, uint16_t domid, uint32_t first, uint32_t n,
        uint16_t grantee, uint32_t n_handles);

/* @cpu takes up @d, whatever it did before. */
void
mmu_enter(struct mmu *m, uint32_t cpu, struct mmu_domain *d);
/* @cpu is about to flush by itself and to run nobody; and does so. */
void
mmu_leave_begin(struct mmu *m, uint32_t cpu);
void
mmu_leave(struct mmu *m, uint32_t cpu);

/* A walk on @cpu reads the entry of @slot; it ends later, or never. */
void
mmu_walk_begin(struct mmu *m, uint32_t cpu, uint32_t slot);
void
mmu_walk_end(struct mmu *m, uint32_t cpu);
/* Both at once: @cpu uses the mapping, or speculates that it will. */
void
mmu_fill(struct mmu *m, uint32_t cpu, uint32_t slot);
/* @cpu serves a flush that was asked of it. */
void
mmu_serve(struct mmu *m, uint32_t cpu);
/* All of @d's processors flush; returns when they have. */
void
mmu_flush_all(struct mmu *m, struct mmu_domain *d);
/* A device of @d uses I/O page @key. */
void
mmu_dma(struct mmu *m, struct mmu_domain *d, uint32_t key);

static inline uint64_t
mmu_addr(uint32_t slot)
{
    return ((uint64_t)slot + 1) << 12;
}

/* NULL, or who reaches what. */
const char *
mmu_check(const struct mmu *m);
