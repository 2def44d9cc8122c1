/* SPDX-License-Identifier: MIT */
/*
 * The block interface as 64-bit x86 and Arm guests see it, which is our own
 * ABI too: 64-bit numbers at multiples of eight.
 */
#include <stddef.h>
#include <stdint.h>
#include <xen/io/blkif.h>
#include "layout.h"

FH_BLKIF_ASSERT_WIRE(8, 112, 16);

const struct fh_blkif_layout fh_blkif_layout_64 = FH_BLKIF_LAYOUT;
