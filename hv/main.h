/* SPDX-License-Identifier: MIT */
#pragma once
/* The hypervisor as a command: "fhv" and "freehold hv ...". */

/*
 * fh_hv_main - run the local hypervisor
 *
 * @argv: argv[0] is the name used in messages; options as in its --help
 *
 * Without --foreground it returns in the caller once the hypervisor runs in
 * the background.  Returns the exit status: 0, 1 failure, 2 usage.
 */
int
fh_hv_main(int argc, char **argv);
