/* SPDX-License-Identifier: MIT */
/* Run directories and libraries: the only file that knows default paths. */
#include "cli/place.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <freehold/err.h>

#include "base/arith.h"
#include "cli/opt.h"

#ifndef FH_PRIVATE_LIBDIR
#define FH_PRIVATE_LIBDIR "/usr/local/lib/freehold"
#endif

#ifndef FH_PLUGIN_DIR
#define FH_PLUGIN_DIR "/usr/local/lib/nbdkit/plugins"
#endif

static void
default_run_dir(char out[FH_PLACE_PATH])
{
    const char *xdg = getenv("XDG_RUNTIME_DIR");

    if (!geteuid())
        snprintf(out, FH_PLACE_PATH, "/run/freehold");
    else if (xdg && *xdg == '/')
        snprintf(out, FH_PLACE_PATH, "%.200s/freehold", xdg);
    else
        snprintf(out, FH_PLACE_PATH, "/tmp/freehold-%u", geteuid());
}

/* A directory below /tmp may have been put there by somebody else. */
static int
check_owner(const char *dir, const char *who)
{
    struct stat st;

    if (stat(dir, &st)) {
        fh_opt_fail(who, "run directory %s: %s", dir, strerror(errno));
        return FH_ENOENT;
    }
    if (!S_ISDIR(st.st_mode) || (st.st_uid != geteuid() && geteuid())) {
        fh_opt_fail(who, "run directory %s is not a directory of yours", dir);
        return FH_EACCES;
    }
    return 0;
}

static int
name_run_dir(char out[FH_PLACE_PATH], const char *given, const char *who)
{
    if (!given) {
        default_run_dir(out);
    } else if (snprintf(out, FH_PLACE_PATH, "%s", given) >= 64) {
        fh_opt_fail(who, "--run-dir: the path is too long for a socket below "
                         "it; at most 63 bytes");
        return FH_EINVAL;
    }
    return 0;
}

int
fh_place_run_dir(char out[FH_PLACE_PATH], const char *given, const char *who)
{
    int r = name_run_dir(out, given, who);

    if (r || (access(out, F_OK) && errno == ENOENT))
        return r; /* nobody serves there, which the caller will find */
    return check_owner(out, who);
}

int
fh_place_make_run_dir(char out[FH_PLACE_PATH], const char *given,
                      const char *who)
{
    /* Domains of other uids pass through it to their own sockets. */
    const mode_t mode = 0711;
    int r = name_run_dir(out, given, who);

    if (r)
        return r;
    if (mkdir(out, mode) && errno != EEXIST) {
        fh_opt_fail(who, "cannot make run directory %s: %s", out,
                    strerror(errno));
        return FH_EACCES;
    }
    return check_owner(out, who);
}

void
fh_place_hv_dir(char out[FH_PLACE_PATH], const char *run_dir)
{
    snprintf(out, FH_PLACE_PATH, "%.240s/hv", run_dir);
}

/* The directory two levels above the executable: a build directory, if it is
 * one. */
static void
build_dir(char out[FH_PLACE_PATH])
{
    ssize_t n = readlink("/proc/self/exe", out, FH_PLACE_PATH - 1);
    char *slash;

    out[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 2; up++)
        if ((slash = strrchr(out, '/')))
            *slash = 0;
}

int
fh_place_libs(char out[FH_PLACE_PATH], const char *who)
{
    char build[FH_PLACE_PATH], probe[FH_PLACE_PATH + 32];

    build_dir(build);
    snprintf(out, FH_PLACE_PATH, "%.240s/xenlibs", build);
    snprintf(probe, sizeof(probe), "%s/libxengnttab.so.1", out);
    if (!access(probe, R_OK))
        return 0;
    snprintf(out, FH_PLACE_PATH, "%s", FH_PRIVATE_LIBDIR);
    snprintf(probe, sizeof(probe), "%s/libxengnttab.so.1", out);
    if (!access(probe, R_OK))
        return 0;
    fh_opt_fail(who, "the local hypervisor's libraries are neither beside "
                     "this executable nor in %s",
                FH_PRIVATE_LIBDIR);
    return FH_ENOENT;
}

int
fh_place_plugin(char out[FH_PLACE_PATH], const char *who)
{
    char build[FH_PLACE_PATH];

    build_dir(build);
    snprintf(out, FH_PLACE_PATH, "%.200s/plugins/nbdkit/%s", build,
             "nbdkit-xenblk-plugin.so");
    if (!access(out, R_OK))
        return 0;
    snprintf(out, FH_PLACE_PATH, "%s/%s", FH_PLUGIN_DIR,
             "nbdkit-xenblk-plugin.so");
    if (!access(out, R_OK))
        return 0;
    fh_opt_fail(who, "nbdkit-xenblk-plugin.so is neither beside this "
                     "executable nor in %s",
                FH_PLUGIN_DIR);
    return FH_ENOENT;
}

uint32_t
fh_place_uids(uint32_t want, uint32_t n)
{
    FILE *f = fopen("/proc/self/uid_map", "re");
    uint64_t first, outside, count, other = 0;

    while (f && fscanf(f, "%" SCNu64 " %" SCNu64 " %" SCNu64, &first,
                       &outside, &count) == 3) {
        if (want >= first && want - first + (uint64_t)n <= count) {
            other = 0;
            break;
        }
        if (count >= n)
            other = first + count - n;
    }
    if (f)
        fclose(f);
    return (uint32_t)other;
}

int
fh_place_print_json(struct json_object *o)
{
    puts(json_object_to_json_string_ext(
        o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
               JSON_C_TO_STRING_NOSLASHESCAPE));
    return fflush(stdout) || ferror(stdout) ? FH_EXIT_FAILURE : FH_EXIT_OK;
}
