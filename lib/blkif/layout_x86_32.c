/* SPDX-License-Identifier: MIT */
/*
 * The block interface as 32-bit x86 guests see it: 64-bit numbers at multiples
 * of four.  Packing to four is what the i386 ABI does to these structures.
 */
#include <stddef.h>
#include <stdint.h>
#pragma pack(push, 4)
#include <xen/io/blkif.h>
#pragma pack(pop)
#include "layout.h"

FH_BLKIF_ASSERT_WIRE(4, 108, 12);

const struct fh_blkif_layout fh_blkif_layout_x86_32 = FH_BLKIF_LAYOUT;
