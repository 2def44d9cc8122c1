/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Bounds of the event channels' loops, and the layout of what the guest shares
 * with them where the public headers know only the builder's own width.
 */
#include <stddef.h>
#include <stdint.h>

#include <xen/xen.h>
#include <xen/event_channel.h>

/* Of the ports that are closed but still in a guest's FIFO queue, how many are
 * looked at when a port is taken: more than an honest guest ever has. */
#define FH_BUSY_LOOKS 64u
/* Free ports that turn out to be linked, which only a guest that writes it
 * into its words brings about, before it is told that there is no port. */
#define FH_BUSY_TRIES 16u

/* 2-level ports: the bits of a word, squared. */
#define FH_2L_PORTS_64 4096u
#define FH_2L_PORTS_32 1024u

/* shared_info and vcpu_info. */
#define FH_LEGACY_VCPUS     32u
#define FH_VCPU_INFO_BYTES  64u
#define FH_UPCALL_OFFSET    0u
#define FH_SEL_OFFSET_64    8u
#define FH_SEL_OFFSET_32    4u
#define FH_PENDING_OFFSET   2048u
#define FH_MASK_OFFSET_64   2560u
#define FH_MASK_OFFSET_32   2176u

_Static_assert(XEN_LEGACY_MAX_VCPUS == FH_LEGACY_VCPUS, "public layout");
_Static_assert(sizeof(struct vcpu_info) == FH_VCPU_INFO_BYTES, "public layout");
_Static_assert(offsetof(struct vcpu_info, evtchn_upcall_pending) ==
                   FH_UPCALL_OFFSET,
               "public layout");
_Static_assert(offsetof(struct shared_info, evtchn_pending) ==
                   FH_PENDING_OFFSET,
               "public layout");
#ifdef __LP64__
_Static_assert(offsetof(struct vcpu_info, evtchn_pending_sel) ==
                   FH_SEL_OFFSET_64,
               "public layout");
_Static_assert(offsetof(struct shared_info, evtchn_mask) == FH_MASK_OFFSET_64,
               "public layout");
_Static_assert(EVTCHN_2L_NR_CHANNELS == FH_2L_PORTS_64, "public layout");
#endif

/* FIFO. */
#define FH_FIFO_WORDS_PER_PAGE 1024u
_Static_assert(sizeof(struct evtchn_fifo_control_block) == 72, "public layout");
_Static_assert(offsetof(struct evtchn_fifo_control_block, head) == 8,
               "public layout");

_Static_assert(sizeof(struct evtchn_alloc_unbound) == 8, "public layout");
_Static_assert(sizeof(struct evtchn_bind_interdomain) == 12, "public layout");
_Static_assert(sizeof(struct evtchn_bind_virq) == 12, "public layout");
_Static_assert(sizeof(struct evtchn_bind_ipi) == 8, "public layout");
_Static_assert(sizeof(struct evtchn_close) == 4, "public layout");
_Static_assert(sizeof(struct evtchn_send) == 4, "public layout");
_Static_assert(sizeof(struct evtchn_status) == 24, "public layout");
_Static_assert(sizeof(struct evtchn_bind_vcpu) == 8, "public layout");
_Static_assert(sizeof(struct evtchn_unmask) == 4, "public layout");
_Static_assert(sizeof(struct evtchn_reset) == 2, "public layout");
_Static_assert(sizeof(struct evtchn_init_control) == 24, "public layout");
_Static_assert(sizeof(struct evtchn_expand_array) == 8, "public layout");
_Static_assert(sizeof(struct evtchn_set_priority) == 8, "public layout");
