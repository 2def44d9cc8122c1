/* SPDX-License-Identifier: MIT */
/* The local hypervisor as a program of its own. */
#include "hv/main.h"

int
main(int argc, char **argv)
{
    return fh_hv_main(argc, argv);
}
