/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The state word of a shared page, and the steps on it.
 *
 *   bits  0..23  refs     libgrant's references: mappings and running copies
 *   bit   29     GRANTED  an entry of the granter's table names the page
 *   bit   30     ENDING   the granter let it go
 *   bit   31     TAKEN    somebody is about to withdraw the grant
 *
 * Zero is a free page.  The granter's side ends a grant while the other side
 * may be mapping it at the same time; so the last of the two withdraws it, and
 * only one does: whoever sets TAKEN, in the same step that drops the last
 * reference or sets ENDING without one.  The holder of TAKEN withdraws the
 * entry, which fails while somebody has it marked as in use.  Then either there
 * is a reference, and TAKEN goes back so that its last holder takes it; or there
 * is none (a map that is being refused), and the holder tries again later.
 *
 * One word, so each sees what the others did; what the page holds is ordered by
 * the entry's mark (G1 in lib/grant/pin.c), which is cleared after the last use
 * and looked at before the page is free.
 *
 * Model: tests/model/hv_frame.cc compiles this file.
 */
#include "base/shared.h"

#define FH_HV_FRAME_REFS    0xffffffu
#define FH_HV_FRAME_GRANTED (1u << 29)
#define FH_HV_FRAME_ENDING  (1u << 30)
#define FH_HV_FRAME_TAKEN   (1u << 31)

/* One more reference; false: the page is free.  The caller has marked the
 * entry that names the page, so it does not become free meanwhile. */
static inline bool
fh_hv_frame_ref(fh_word32 *w)
{
    uint32_t old = fh_load_relaxed32(w);

    do {
        if (!old)
            return false;
    } while (!fh_cas32(w, &old, old + 1));
    return true;
}

/* One less.  True: the caller has TAKEN. */
static inline bool
fh_hv_frame_unref(fh_word32 *w)
{
    uint32_t old = fh_load_relaxed32(w), now;

    do {
        now = old - 1;
        if ((now & (FH_HV_FRAME_REFS | FH_HV_FRAME_ENDING |
                    FH_HV_FRAME_TAKEN)) == FH_HV_FRAME_ENDING)
            now |= FH_HV_FRAME_TAKEN;
    } while (!fh_cas32(w, &old, now));
    return (old ^ now) & FH_HV_FRAME_TAKEN;
}

/* The granter lets the page go.  True: the caller has TAKEN. */
static inline bool
fh_hv_frame_end(fh_word32 *w)
{
    uint32_t old = fh_load_relaxed32(w), now;

    do {
        now = old | FH_HV_FRAME_ENDING;
        if (!(old & FH_HV_FRAME_REFS))
            now |= FH_HV_FRAME_TAKEN;
    } while (!fh_cas32(w, &old, now));
    return now & FH_HV_FRAME_TAKEN;
}

/* The entry is in use.  True: TAKEN went back, its user's last reference
 * withdraws the grant; false: there is none, try again. */
static inline bool
fh_hv_frame_untake(fh_word32 *w)
{
    uint32_t old = fh_load_relaxed32(w);

    do {
        if (!(old & FH_HV_FRAME_REFS))
            return false;
    } while (!fh_cas32(w, &old, old & ~FH_HV_FRAME_TAKEN));
    return true;
}
