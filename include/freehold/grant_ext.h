/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Operations of the grant-table hypercall that Xen does not have.
 *
 * They are called like the others, fh_gnt_hypercall() with an array of the
 * structure and a count, and have numbers far above Xen's, so that a later
 * Xen's own numbers will not meet them.  A guest finds out whether they exist
 * by calling one with a count of 0: 0, or -ENOSYS on another hypervisor.  The
 * layouts are the same for 32-bit callers; every status is one of GNTST_*.
 */
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/grant_table.h>

#define FH_GNTTABOP_unmap_and_duplicate 0xf00
#define FH_GNTTABOP_unmap_ref           0xf01
#define FH_GNTTABOP_entry_flags         0xf02

/*
 * unmap_and_duplicate: as unmap_grant_ref, but where the granted page was
 * mapped the caller finds, from one instruction to the next, another page of
 * its own: the one that is mapped at @new_addr, which stays mapped there as
 * well.  (unmap_and_replace takes it away from there, so that each unmap needs
 * a spare mapping of its own.)
 *
 * @new_addr: a linear address of the caller that maps a page which is not
 *            granted by anybody; 0: plain unmap
 *
 * Statuses of unmap_grant_ref; general_error as well when the caller is
 * translated, the mapping was made by GNTMAP_contains_pte, or nothing suitable
 * is mapped at @new_addr; nothing has changed then.
 */
struct fh_gnttab_unmap_and_duplicate {
    /* in */
    uint64_t host_addr;
    uint64_t dev_bus_addr;
    uint64_t new_addr;
    grant_handle_t handle;
    /* out */
    int16_t status;
    uint16_t pad; /* not looked at */
};

/*
 * unmap_ref: as unmap_grant_ref, for a caller that knows what it mapped: the
 * handle must stand for grant @ref of domain @dom, else nothing is unmapped.
 *
 * Statuses of unmap_grant_ref; bad_domain if the mapping is of another domain,
 * bad_gntref if it is of another reference.
 */
struct fh_gnttab_unmap_ref {
    /* in */
    uint64_t host_addr;
    uint64_t dev_bus_addr;
    grant_handle_t handle;
    grant_ref_t ref;
    domid_t dom; /* not DOMID_SELF */
    /* out */
    int16_t status;
    uint32_t pad; /* not looked at */
};

/*
 * entry_flags: what the caller, as a granter, asks for an entry of its own
 * table, be it in use or not.
 *
 * @flags: FH_GNT_ENTRY_CLOSED: nobody pins it anew (general_error), those who
 *         have it keep it; FH_GNT_ENTRY_NOTIFY: the embedder tells the caller's
 *         guest when the last user has gone.  Replaces what was set before, and
 *         stays until it is replaced
 * @in_use: 1 if somebody used it at the moment of the change: with NOTIFY, a
 *         notification will come; 0: nobody does, and none will
 *
 * Statuses: bad_gntref for a @ref outside the table, general_error for unknown
 * flags.
 */
struct fh_gnttab_entry_flags {
    /* in */
    grant_ref_t ref;
    uint32_t flags;
    /* out */
    int16_t status;
    uint16_t in_use;
};

_Static_assert(sizeof(struct fh_gnttab_unmap_and_duplicate) == 32, "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_and_duplicate, new_addr) == 16,
               "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_and_duplicate, handle) == 24,
               "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_and_duplicate, status) == 28,
               "ABI");
_Static_assert(sizeof(struct fh_gnttab_unmap_ref) == 32, "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_ref, handle) == 16, "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_ref, ref) == 20, "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_ref, dom) == 24, "ABI");
_Static_assert(offsetof(struct fh_gnttab_unmap_ref, status) == 26, "ABI");
_Static_assert(sizeof(struct fh_gnttab_entry_flags) == 12, "ABI");
_Static_assert(offsetof(struct fh_gnttab_entry_flags, status) == 8, "ABI");
_Static_assert(offsetof(struct fh_gnttab_entry_flags, in_use) == 10, "ABI");
