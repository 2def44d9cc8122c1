/* SPDX-License-Identifier: MIT */
/*
 * The images of `freehold run`: an ext4 image with real files in it, and what
 * other people's tools say about the images that came out.  Nothing is ever
 * mounted: mke2fs puts the files in, debugfs takes them out.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/opt.h"
#include "cli/run.h"

enum {
    MADE_MIB = 64,        /* size of the image that is made */
    TOOL_TIMEOUT_MS = 60000,
    SCRIPT_BYTES = 4096,
    LOG_LINES = 10,       /* of a failed tool's output that are shown */
    OWN_MAX = 64 << 20,   /* bytes that the writer writes */
};

/* Real files of this machine, up to 36 MiB, and some odd ones; then the list of
 * their checksums.  $1: the tree, $2: the list. */
static const char make_tree[] =
    "set -e; mkdir -p \"$1\"; cd /\n"
    "find usr/bin usr/share/common-licenses usr/include/xen etc "
    "-type f -readable -size -4096k -printf '%s %p\\n' 2>/dev/null |\n"
    "  LC_ALL=C sort -k2 |\n"
    "  awk 'BEGIN { left = 36 * 1048576 }\n"
    "    $1 <= left { left -= $1 + 4096; sub(/^[0-9]+ /, \"\"); print }' |\n"
    "  xargs -d '\\n' cp --parents --no-preserve=ownership -t \"$1\" --\n"
    "cd \"$1\"; chmod -R u+rwX .\n"
    ": > empty; printf x > 'one byte'; printf '\\303\\274' > umlaut-$(printf "
    "'\\303\\274')\n"
    "dd if=/dev/urandom of=sparse bs=4k seek=1000 count=3 status=none\n"
    "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum > "
    "\"$2\"\n";

/* $1: an image, $2: a directory for its files, $3: the list.  Every file of the
 * list must be there and right, and no other. */
static const char check_tree[] =
    "set -e; mkdir \"$2\"\n"
    "debugfs -R \"rdump / \\\"$2\\\"\" \"$1\" 2>/dev/null\n"
    "cd \"$2\"; sha256sum --quiet -c \"$3\"\n"
    "test $(find . -type f | wc -l) = $(wc -l < \"$3\")\n";

int
run_tool(struct run *r, const char *const *argv, bool quiet)
{
    struct fh_env_proc p = { .program = argv[0], .argv = argv };
    char path[RUN_PATH], line[512];
    int log, status = -1;
    pid_t pid;
    FILE *f;

    snprintf(path, sizeof(path), "%s/tool.log", r->env->work_dir);
    log = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (log < 0)
        return -1;
    p.out = p.err = log;
    if (!fh_env_run(r->env, &p, &pid) &&
        fh_env_wait(pid, TOOL_TIMEOUT_MS, &status))
        fh_opt_fail("run", "%s takes too long", argv[0]);
    if (status && !quiet && !lseek(log, 0, SEEK_SET) &&
        (f = fdopen(dup(log), "r"))) {
        for (int n = 0; n < LOG_LINES && fgets(line, sizeof(line), f); n++)
            fprintf(stderr, "  %s", line);
        fclose(f);
    }
    close(log);
    return status;
}

static int
run_script(struct run *r, const char *script, const char *a, const char *b,
           const char *c)
{
    const char *const argv[] = { "sh", "-c", script, "sh", a, b, c, NULL };

    return run_tool(r, argv, false);
}

static void
list_path(const struct run *r, char *out)
{
    snprintf(out, RUN_PATH, "%s/files.sha256", r->env->work_dir);
}

static uint64_t
count_lines(const char *path)
{
    FILE *f = fopen(path, "re");
    uint64_t n = 0;
    int c;

    while (f && (c = getc(f)) != EOF)
        n += c == '\n';
    if (f)
        fclose(f);
    return n;
}

static int
make_image(struct run *r)
{
    char list[RUN_PATH], size[16];
    const char *const mke2fs[] = { "mke2fs", "-q", "-F", "-t", "ext4", "-d",
                                   r->tree, r->image, size, NULL };

    list_path(r, list);
    snprintf(r->tree, sizeof(r->tree), "%s/tree", r->env->work_dir);
    snprintf(r->image, sizeof(r->image), "%s/disk.img", r->env->work_dir);
    snprintf(size, sizeof(size), "%uM", MADE_MIB);
    if (run_script(r, make_tree, r->tree, list, ""))
        return fh_opt_fail("run", "cannot collect files for the image");
    if (run_tool(r, mke2fs, false))
        return fh_opt_fail("run", "mke2fs failed (package e2fsprogs)");
    r->made = true;
    r->n_files = count_lines(list);
    r->image_bytes = (uint64_t)MADE_MIB << 20;
    run_say("made an ext4 image of %u MiB with %" PRIu64 " files", MADE_MIB,
            r->n_files);
    return 0;
}

static int
take_image(struct run *r)
{
    const int flags = r->o->writable ? O_RDWR : O_RDONLY;
    struct stat st;
    int fd;

    if (!realpath(r->o->image, r->image))
        return fh_opt_fail("run", "%s: %s", r->o->image, strerror(errno));
    fd = open(r->image, flags | O_CLOEXEC);
    if (fd < 0)
        return fh_opt_fail("run", "%s: %s", r->o->image, strerror(errno));
    if (fstat(fd, &st))
        st.st_mode = 0;
    r->image_bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &r->image_bytes))
        r->image_bytes = 0;
    close(fd);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return fh_opt_fail("run", "%s is neither a file nor a block device",
                           r->o->image);
    r->image_bytes -= r->image_bytes % FH_SECTOR_BYTES;
    if (!r->image_bytes)
        return fh_opt_fail("run", "%s is smaller than a sector of 512 bytes",
                           r->o->image);
    run_say("%s: %" PRIu64 " bytes, %s", r->o->image, r->image_bytes,
            r->o->writable ? "writable for one guest" : "read-only");
    return 0;
}

int
run_image_prepare(struct run *r)
{
    snprintf(r->copy, sizeof(r->copy), "%s/copy.img", r->env->work_dir);
    return r->o->image ? take_image(r) : make_image(r);
}

int
run_image_own(struct run *r)
{
    int fd, bad;

    if (r->o->writable)
        return 0;
    r->own_bytes = r->image_bytes < OWN_MAX ? r->image_bytes : OWN_MAX;
    snprintf(r->own, sizeof(r->own), "%s/own.img", r->env->work_dir);
    fd = open(r->own, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bad = fd < 0 || ftruncate(fd, (off_t)r->own_bytes);
    if (fd >= 0)
        close(fd);
    return bad ? fh_opt_fail("run", "cannot make %s: %s", r->own,
                             strerror(errno))
               : 0;
}

/* --- afterwards ---------------------------------------------------------- */

static bool
files_equal(struct run *r, const char *image, const char *name)
{
    char list[RUN_PATH], out[RUN_PATH];

    list_path(r, list);
    snprintf(out, sizeof(out), "%s/%s", r->env->work_dir, name);
    return !run_script(r, check_tree, image, out, list);
}

static bool
bytes_equal(struct run *r, const char *a, const char *b, uint64_t n)
{
    char bytes[24];
    const char *const cmp[] = { "cmp", "-n", bytes, a, b, NULL };

    snprintf(bytes, sizeof(bytes), "%" PRIu64, n);
    return !run_tool(r, cmp, false);
}

static bool
is_clean(struct run *r, const char *image)
{
    const char *const fsck[] = { "e2fsck", "-fn", image, NULL };

    return !run_tool(r, fsck, false);
}

static void
check_made(struct run *r)
{
    run_claim(r, files_equal(r, r->copy, "from-copy"),
              "all %" PRIu64 " files taken out of the copy have the SHA-256 of "
              "the originals",
              r->n_files);
    run_claim(r, is_clean(r, r->own),
              "e2fsck finds the image that guest %d wrote clean",
              RUN_WRITER + 1);
    run_claim(r, files_equal(r, r->own, "from-own"),
              "all %" PRIu64 " files taken out of it are right as well",
              r->n_files);
}

int
run_image_check(struct run *r)
{
    if (r->made)
        run_claim(r, bytes_equal(r, r->image, r->copy, r->image_bytes),
                  "the copy has every byte of the image");
    if (r->own[0] && !r->made)
        run_claim(r, bytes_equal(r, r->image, r->own, r->own_bytes),
                  "guest %d's own image has the %" PRIu64 " bytes it wrote",
                  RUN_WRITER + 1, r->own_bytes);
    if (r->made)
        check_made(r);
    return 0;
}
