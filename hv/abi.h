/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The hypercall interface of fhv, between the hypervisor (hv/) and the
 * libraries that domains use (xenlibs/).  hv/README.md lists the arguments of
 * each hypercall.
 *
 * A domain reaches fhv through a SOCK_SEQPACKET unix socket of its own, named
 * by FREEHOLD_HYPERCALL in the environment; which socket was connected to says
 * which domain calls, never a field of a message.  One connection is one open
 * handle (xengnttab_open(), xengntshr_open(), xenevtchn_open()): what was
 * mapped, shared or bound through it ends with it, so a dead process leaves
 * nothing behind.
 *
 * A hypercall is one message there and one back.  Arrays do not travel in
 * messages: each connection has an argument area, a sealed memfd of
 * area_bytes that fhv made, mapped by both sides; messages name offsets in it.
 * fhv treats it as guest memory: every element is copied once, then judged.
 * Grant operations use Xen's own structures there (<xen/grant_table.h>), so
 * that libgrant serves them directly.  fhv works through an array in slices
 * and serves other connections between two slices.
 *
 * Memory that domains share lives in sealed memfds that fhv made, one set per
 * (granter, grantee, access): "files" with an id that is never reused.  A file
 * that is granted read-only reaches the grantee as a read-only descriptor of
 * an inode that its uid may not open again for writing.
 *
 * Event channels do not pass through fhv.  Each end of a channel has a slot
 * (evtchn/evslot.h) in a file that the two domains share, an eventfd that only
 * its sender holds, and a bell: an epoll descriptor, watching that eventfd,
 * that only its receiver holds.  So neither can fill the counter of, or change
 * the flags of, what the other one waits or writes on.
 */
#include <stdint.h>

#define FH_HV_ENV_HYPERCALL "FREEHOLD_HYPERCALL" /* socket path */
#define FH_HV_ENV_DOMID "FREEHOLD_DOMID"         /* decimal, for people */

enum {
    FH_HV_ABI_VERSION = 1,
    FH_HV_AREA_BYTES_DEFAULT = 8 << 20,
    FH_HV_AREA_BYTES_MAX = 64 << 20,
    FH_HV_FILE_PAGES = 4096,     /* pages of a shared-memory file (sparse) */
    FH_HV_SLOTS_PER_FILE = 4096, /* event slots of a slot file (sparse) */
    FH_HV_REPLY_FDS = 3,         /* descriptors beside a reply, at most */
};

/* What a connection is for; hypercalls of another kind are refused. */
enum fh_hv_kind {
    FH_HV_KIND_NONE,
    FH_HV_KIND_GNTTAB,
    FH_HV_KIND_GNTSHR,
    FH_HV_KIND_EVTCHN,
};

enum fh_hv_op {
    FH_HV_HELLO = 1,
    FH_HV_CLOSE,          /* gives up all that the handle holds, and waits */
    /* grant tables, mapper's side */
    FH_HV_GNT_MAP = 10,   /* gnttab_map_grant_ref[] -> fh_hv_map_place[] */
    FH_HV_GNT_UNMAP,      /* gnttab_unmap_grant_ref[] */
    FH_HV_GNT_COPY,       /* gnttab_copy[]; frames of DOMID_SELF are pages of
                             the caller's own argument area */
    FH_HV_GNT_FILE,       /* the descriptor of a file with a live mapping */
    FH_HV_GNT_NOTIFY,     /* notify on unmap: byte and/or event */
    /* grant tables, granter's side */
    FH_HV_SHR_SHARE = 20, /* allocate and grant pages -> refs[], one file */
    FH_HV_SHR_UNSHARE,
    FH_HV_SHR_NOTIFY,
    /* event channels */
    FH_HV_EV_OPEN = 30,   /* the caller's poll descriptor names a new handle */
    FH_HV_EV_ADOPT,       /* fdopen: the descriptor sent along is an open
                             handle's poll descriptor; take that handle up */
    FH_HV_EV_ALLOC,
    FH_HV_EV_BIND,
    FH_HV_EV_UNBIND,
    FH_HV_EV_RESTRICT,
    FH_HV_EV_PORT,        /* descriptors of a bound port, after ADOPT */
    FH_HV_EV_VIRQ,
    FH_HV_OPS,            /* one more than the last */
};

/* "None" as a byte offset or a port of a notification on unmap. */
#define FH_HV_NO_NOTIFY 0xffffffffu

/* Where a mapped page is. */
struct fh_hv_map_place {
    uint64_t file;   /* id for FH_HV_GNT_FILE */
    uint32_t page;   /* index in the file */
    uint32_t handle; /* of the grant mapping */
};

/* Request.  Fields that an operation does not use are zero. */
struct fh_hv_req {
    uint32_t op;     /* enum fh_hv_op */
    uint32_t count;  /* elements, or pages */
    uint64_t offset; /* of the array in the argument area; 8-byte aligned */
    uint64_t out;    /* of the output array there */
    uint64_t arg[4]; /* by operation; see hv/README.md */
};

/* Reply.  Descriptors travel beside it, in the order hv/README.md says. */
struct fh_hv_rsp {
    int32_t rc;      /* 0 or -errno */
    uint32_t count;  /* elements done */
    uint64_t arg[4];
};
