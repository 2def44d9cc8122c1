/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The bounds of the local hypervisor.  Everything that a domain can make grow
 * is charged to it and ends here with an error of its own.
 */

enum {
    /* Domains at once, domain 0 and those that are still dying included. */
    FH_HV_DOMAINS_MAX = 1024,
    /* As Xen's defaults: 64 frames of a version 1 table are 32768 grants. */
    FH_HV_GRANT_FRAMES = 64,
    FH_HV_GRANTS_MAX = FH_HV_GRANT_FRAMES * 512,
    /* References 0 to 7 are reserved (console, xenstore). */
    FH_HV_GRANT_FIRST = 8,
    /* Live mappings of a domain: Xen's default of 1024 map-track frames. */
    FH_HV_MAPS_MAX = 262144,
    /* Event channels of a domain, port 0 included: Xen's two-level ABI. */
    FH_HV_PORTS_MAX = 4096,
    /* Connections of one domain; domain 0 serves all others. */
    FH_HV_CONNS_MAX = 256,
    FH_HV_CONNS_MAX_DOM0 = 8192,
    /* Argument areas of one domain, in MiB of (sparse) memory. */
    FH_HV_AREAS_MIB = 1024,
    FH_HV_AREAS_MIB_DOM0 = 16384,
    /* Notifications on unmap of one connection. */
    FH_HV_NOTIFIES_MAX = 256,
    /* Clients of the control socket. */
    FH_HV_CTL_MAX = 64,
    /* Bytes of one request on the control socket. */
    FH_HV_CTL_LINE = 4096,
    /* Frames of shared memory are numbered in groups of FH_HV_FILE_PAGES, one
     * group or more per file: as many groups as this. */
    FH_HV_GROUPS_MAX = 1 << 18,
    /* Descriptors that fhv keeps free of domains' doing, for itself. */
    FH_HV_FDS_RESERVED = 128,
    /* Elements of one hypercall between two looks at other connections: a
     * slice of copies takes about 0.1 ms, and a 10 ms promise leaves room for
     * a hundred such callers. */
    FH_HV_SLICE = 128,
    /* What one domain may cost in a turn of the loop, in elements, however many
     * connections it has; a call costs some by itself.  The rest waits for the
     * next turn. */
    FH_HV_TURN = 2 * FH_HV_SLICE,
    FH_HV_CALL_COST = 8,
    /* Hypercall threads, at most: beyond four, what they share (the engine's
     * cache lines, the memory) is the limit. */
    FH_HV_THREADS_MAX = 4,
    /* How soon the control thread looks again at what another thread keeps it
     * from freeing. */
    FH_HV_GRACE_MS = 1,
    /* Sources served between two slices of a long hypercall. */
    FH_HV_EVENTS_PER_TURN = 64,
    /* How long accepting stops when there is no descriptor left. */
    FH_HV_ACCEPT_PAUSE_MS = 100,
};

/*
 * The uid of domain N is the base plus N, when fhv runs as root.  Each
 * hypervisor on a machine takes a block of its own: from 0x46480000 on, far
 * above what distributions and container tools hand out.
 */
#define FH_HV_UID_BASE_DEFAULT 1179123712u
#define FH_HV_UID_BLOCK 32768u
#define FH_HV_UID_BLOCKS 256u
