/* SPDX-License-Identifier: MIT */
/* exec: any program inside a local domain. */
#include <stdio.h>
#include <string.h>

#include "base/arith.h"
#include "cli/cli.h"
#include "cli/hvtalk.h"
#include "cli/launch.h"
#include "cli/opt.h"
#include "cli/place.h"

struct exec_options {
    const char *run_dir;
    const char *domain;
    bool create;
};

#define AT(member) offsetof(struct exec_options, member)

static const struct fh_opt exec_opts[] = {
    { .name = "domain", .letter = 'd', .kind = FH_OPT_STRING,
      .offset = AT(domain), .arg = "DOMAIN",
      .help = "the domain to be in, number or name (required)" },
    { .name = "create", .kind = FH_OPT_FLAG, .offset = AT(create),
      .help = "make the domain first, unless it is there" },
    { .name = "run-dir", .kind = FH_OPT_STRING, .offset = AT(run_dir),
      .arg = "DIR", .help = FH_PLACE_RUN_DIR_HELP },
};

static const struct fh_opt_cmd exec_cmd = {
    .name = "exec",
    .args = "-- COMMAND...",
    .text =
        "Runs a program inside a domain of the local hypervisor: the "
        "library path leads\n"
        "to its libxengnttab and libxenevtchn, XENSTORED_PATH to the "
        "domain's xenstore,\n"
        "and where hypervisor and caller are root, the program runs "
        "under the domain's\n"
        "own uid without any privilege. In domain 0 it runs as the "
        "caller. The exit\n"
        "status is the program's; 126 or 127 when it could not be "
        "executed.\n"
        "\n"
        "  freehold exec -d 1 -- xenstore-ls /local/domain/1\n"
        "  freehold exec -d guest1 --create -- ./my-frontend\n",
    .options = exec_opts,
    .n_options = FH_ARRAY_SIZE(exec_opts),
    .min_args = 1,
    .max_args = -1,
    .stop_at_arg = true,
};

int
cmd_exec(int argc, char **argv)
{
    struct exec_options o = { .domain = NULL };
    struct fh_program program = FH_PROGRAM_NULL;
    char run_dir[FH_PLACE_PATH], hv_dir[FH_PLACE_PATH];
    struct fh_hvctl_domain d;
    struct fh_launch l;
    int r;

    r = fh_opt_parse(&exec_cmd, &o, &argc, &argv);
    if (r != FH_OPT_GO)
        return r;
    if (!o.domain)
        return fh_opt_usage(&exec_cmd, "which domain? give -d DOMAIN");
    if (fh_place_run_dir(run_dir, o.run_dir, "exec"))
        return FH_EXIT_FAILURE;
    fh_place_hv_dir(hv_dir, run_dir);
    r = o.create ? fh_hvtalk_ensure(hv_dir, o.domain, &d, "exec")
                 : fh_hvtalk_find(hv_dir, o.domain, &d, "exec");
    if (r)
        return FH_EXIT_FAILURE;
    fh_launch_domain(&l, hv_dir, &d);
    if (fh_program_open(&program, argv[0], "exec"))
        return 127;
    return fh_launch_exec(&l, &program, argv, false, "exec");
}
