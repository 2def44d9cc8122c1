/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The version of a table while it may change, and version 2's mark.
 *
 * A domain's version word: bits 0..1 the version, bit 2 SWITCHING (somebody
 * wants another one), bit 3 ACTIVE (a CPU is at it now), bits 4..5 the version
 * that is wanted.
 *
 * Version 1 and version 2 entries share their memory, so nobody may look at the
 * granter's entry by one version while the frame is made ready for the other.
 * Two parties, no lock:
 *
 *   who moves an entry                 who switches
 *   sets BUSY in the entry's word      sets SWITCHING in the version word
 *   (E1, E6)                           (V2)
 *   then looks at the version (V1)     then looks at every entry's word (V3)
 *
 * Each sets first and looks afterwards, so at least one sees the other: whoever
 * holds BUSY and saw no SWITCHING may use the version that he saw until he
 * gives BUSY back, and as long as he holds the entry pinned (but for the
 * reserved entries, which are switched while pinned, BUSY held).
 *
 * Version 2's mark is of the same kind: the engine sets the status word (G2)
 * and looks at the header again (G3); the granter takes the header away (G4)
 * and looks at the status word.
 *
 * Models: tests/model/grant_version.cc and grant_v2.cc compile this file.
 */
#include "grant/entry.h"

#define FH_VERSION_MASK       3u
#define FH_VERSION_SWITCHING  4u
#define FH_VERSION_ACTIVE     8u
#define FH_VERSION_TARGET_BIT 4

/* The version, with FH_VERSION_SWITCHING if nobody may begin to use it now.
 * For the holder of an entry's BUSY. */
static inline uint32_t
fh_version_held(const fh_word32 *version)
{
    /* V1 full barrier after E1 or E6, pairs with V2; acquire, pairs with V4:
     * the entries are those of the version. */
    return fh_load_ordered32(version) &
           (FH_VERSION_MASK | FH_VERSION_SWITCHING);
}

/* The version that an entry was pinned by, or that BUSY keeps. */
static inline uint32_t
fh_version_kept(const fh_word32 *version)
{
    return fh_load_relaxed32(version) & FH_VERSION_MASK;
}

static inline uint32_t
fh_version_target(uint32_t word)
{
    return (word >> FH_VERSION_TARGET_BIT) & FH_VERSION_MASK;
}

/* Begins the switch of a table whose word is @old; false: it was not. */
static inline bool
fh_version_begin(fh_word32 *version, uint32_t old, uint32_t target)
{
    /* V2 full barrier before V3, pairs with V1. */
    return fh_cas32(version, &old,
                    old | FH_VERSION_SWITCHING | FH_VERSION_ACTIVE |
                        target << FH_VERSION_TARGET_BIT);
}

/* For who switches: an entry that is free now stays so. */
static inline enum fh_entry_look
fh_version_look(const fh_word64 *entry)
{
    /* V3 full barrier after V2, pairs with E1 and E6; acquire, pairs with E4:
     * whoever used the granter's entry is through. */
    const uint64_t word = fh_load_ordered64(entry);

    if (word & FH_ENTRY_BUSY)
        return FH_ENTRY_IS_BUSY;
    return word & FH_ENTRY_PINS ? FH_ENTRY_IS_PINNED : FH_ENTRY_IS_FREE;
}

/* Ends the switch, done or given up. */
static inline void
fh_version_end(fh_word32 *version, uint32_t now)
{
    /* V4 release, pairs with V1. */
    fh_store_release32(version, now);
}

/* Lets another CPU go on with the switch ... */
static inline void
fh_version_pause(fh_word32 *version)
{
    /* V5 release, pairs with V6: how far it is. */
    fh_store_release32(version,
                       fh_load_relaxed32(version) & ~FH_VERSION_ACTIVE);
}

/* ... which this one does, from @old.  False: somebody else was faster. */
static inline bool
fh_version_resume(fh_word32 *version, uint32_t old)
{
    /* V6 acquire, pairs with V5. */
    return fh_cas32(version, &old, old | FH_VERSION_ACTIVE);
}

/* ------------------------------------------------------ version 2's mark -- */

/* Sets @marks in the status word; returns the header that holds while they are
 * set: a granter who changes it later sees them. */
static inline uint32_t
fh_v2_mark(const FH_SHARED fh_word32 *header, FH_SHARED fh_word16 *status,
           uint16_t marks)
{
    fh_fetch_or16(status, marks); /* G2 full barrier, pairs with G4 */
    /* G3 full barrier after G2; acquire, pairs with the granter's release of
     * the header: the rest of the entry belongs to it. */
    return fh_load_ordered32(header);
}

/* 16 bits only: the neighbours belong to other entries. */
static inline void
fh_v2_unmark(FH_SHARED fh_word16 *status, uint16_t marks)
{
    /* G5 release, pairs with G6 in fh_v2_withdraw: our use is over. */
    fh_fetch_and16(status, (uint16_t)~marks);
}

/* The granter's side: the rest of the entry is written. */
static inline void
fh_v2_publish(FH_SHARED fh_word32 *header, uint32_t word)
{
    fh_store_release32(header, word); /* G7 release, pairs with G3 */
}

/* The granter's side: takes the header away; returns who is there still. */
static inline uint16_t
fh_v2_withdraw(FH_SHARED fh_word32 *header, const FH_SHARED fh_word16 *status)
{
    (void)fh_exchange32(header, 0); /* G4 full barrier, pairs with G2 and G3 */
    return fh_load_ordered16(status); /* G6 acquire, pairs with G5 */
}
