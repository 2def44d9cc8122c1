/* SPDX-License-Identifier: MIT */
/*
 * nbdkit-xenblk-plugin: a guest's disk as an NBD export.
 *
 *   nbdkit ./nbdkit-xenblk-plugin.so device=xvda
 *   freehold exec -d guest1 -- nbdkit ./nbdkit-xenblk-plugin.so device=51712
 *
 * The process is the guest: it must run inside the domain whose disk it is.
 * One device per process, shared by all connections.
 */
#define NBDKIT_API_VERSION 2
#include <errno.h>
#include <inttypes.h>
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "engine.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
    XVD_MAJOR = 202,
    XVD_PARTITIONS = 16,
    SECONDS = 1000 * 1000 * 1000,
};

static char *frontend;
static struct engine_config config = {
    .order = 3,
    .max_indirect = 256,
    .pool_pages = 768, /* gntalloc allows 1024 in all unless told otherwise */
    .poll_ns = 50 * 1000,
    .timeout_ns = 10ull * SECONDS,
    .persistent = true,
};

static int
set_frontend(const char *path)
{
    if (frontend) {
        nbdkit_error("give frontend= or device=, and only once");
        return -1;
    }
    frontend = strdup(path);
    return frontend ? 0 : -1;
}

/* A number, or xvda to xvdp; relative to our own domain's directory. */
static int
set_device(const char *name)
{
    char path[64];
    unsigned number;

    if (!strncmp(name, "xvd", 3) && name[3] >= 'a' && name[3] <= 'p' &&
        !name[4]) {
        number = XVD_MAJOR << 8 | (unsigned)(name[3] - 'a') * XVD_PARTITIONS;
    } else if (nbdkit_parse_unsigned("device", name, &number) < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "device/vbd/%u", number);
    return set_frontend(path);
}

static int
set_number(const char *key, const char *value, uint32_t max, uint32_t *out)
{
    uint32_t v;

    if (nbdkit_parse_uint32_t(key, value, &v) < 0)
        return -1;
    if (v > max) {
        nbdkit_error("%s=%s: the most is %" PRIu32, key, value, max);
        return -1;
    }
    *out = v;
    return 0;
}

static int
set_persistent(const char *value)
{
    int r = nbdkit_parse_bool(value);

    config.persistent = r > 0;
    return r < 0 ? -1 : 0;
}

static int
xenblk_config(const char *key, const char *value)
{
    uint32_t seconds = 0;
    int r;

    if (!strcmp(key, "frontend"))
        return set_frontend(value);
    if (!strcmp(key, "device"))
        return set_device(value);
    if (!strcmp(key, "order"))
        return set_number(key, value, 4, &config.order);
    if (!strcmp(key, "indirect"))
        return set_number(key, value, FH_BLKIF_MAX_SEGMENTS,
                          &config.max_indirect);
    if (!strcmp(key, "pool"))
        return set_number(key, value, FH_BLKFRONT_MAX_POOL, &config.pool_pages);
    if (!strcmp(key, "poll-ns"))
        return set_number(key, value, 1000 * 1000, &config.poll_ns);
    if (!strcmp(key, "persistent"))
        return set_persistent(value);
    if (!strcmp(key, "timeout")) {
        r = set_number(key, value, 3600, &seconds);
        config.timeout_ns = (uint64_t)seconds * SECONDS;
        return r;
    }
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static int
xenblk_config_complete(void)
{
    if (frontend)
        return 0;
    nbdkit_error("which disk?  device=xvda, device=NUMBER or frontend=PATH");
    return -1;
}

static const char *
error_text(int r)
{
    switch (r) {
    case FH_BLKFRONT_E_CLOSED:
        return "the backend closed the device";
    case FH_BLKFRONT_E_BROKEN:
        return "the backend broke the protocol";
    case FH_ENODEV:
        return "no such device, or it has no backend";
    case FH_ETIMEDOUT:
        return "the backend did not connect in time";
    default:
        return strerror(r < 0 ? -r : EIO);
    }
}

/* After the fork into the background: Xen's handles do not survive one. */
static int
xenblk_after_fork(void)
{
    const char *what = "?";
    int r;

    config.frontend = frontend;
    r = engine_start(&config, &what);
    if (!r)
        return 0;
    nbdkit_error("%s: %s: %s", frontend, what, error_text(r));
    return -1;
}

static void
xenblk_unload(void)
{
    engine_stop();
    free(frontend);
}

static void *
xenblk_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t
xenblk_get_size(void *handle)
{
    return (int64_t)(engine_info().n_sectors * 512);
}

static int
xenblk_can_write(void *handle)
{
    return !engine_info().read_only;
}

static int
xenblk_can_flush(void *handle)
{
    return engine_info().flush;
}

static int
xenblk_can_trim(void *handle)
{
    const struct fh_blkfront_info info = engine_info();

    return info.discard && !info.read_only;
}

/* nbdkit flushes after the write. */
static int
xenblk_can_fua(void *handle)
{
    return engine_info().flush ? NBDKIT_FUA_EMULATE : NBDKIT_FUA_NONE;
}

/* All connections share one disk without a cache: a flush covers them all. */
static int
xenblk_can_multi_conn(void *handle)
{
    return 1;
}

static int
xenblk_block_size(void *handle, uint32_t *minimum, uint32_t *preferred,
                  uint32_t *maximum)
{
    *minimum = 1; /* parts of sectors are read and written back */
    *preferred = 4096;
    *maximum = 64 * 1024 * 1024;
    return 0;
}

static int
run(enum fh_blkif_op op, void *data, uint32_t bytes, uint64_t offset)
{
    int r = engine_run(op, data, bytes, offset);

    if (!r)
        return 0;
    nbdkit_error("%s", error_text(r));
    nbdkit_set_error(r < 0 ? -r : EIO);
    return -1;
}

static int
xenblk_pread(void *handle, void *buf, uint32_t count, uint64_t offset,
             uint32_t flags)
{
    return run(FH_BLKIF_READ, buf, count, offset);
}

static int
xenblk_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
              uint32_t flags)
{
    return run(FH_BLKIF_WRITE, (void *)(uintptr_t)buf, count, offset);
}

static int
xenblk_flush(void *handle, uint32_t flags)
{
    return run(FH_BLKIF_FLUSH, NULL, 0, 0);
}

static int
xenblk_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return run(FH_BLKIF_DISCARD, NULL, count, offset);
}

static struct nbdkit_plugin plugin = {
    .name = "xenblk",
    .longname = "Xen block device plugin",
    .description = "a disk of this Xen (or fhv) domain as an NBD export",
    .magic_config_key = "device",
    .config = xenblk_config,
    .config_complete = xenblk_config_complete,
    .config_help =
        "device=xvda|NUMBER  The disk, by its device number.\n"
        "frontend=PATH       The disk, by its directory in xenstore.\n"
        "order=0..4          Ring pages, 2^N (default 3).\n"
        "indirect=SEGMENTS   Pages of one request at most (default 256).\n"
        "pool=PAGES          Granted pages (default 768).\n"
        "persistent=BOOL     Offer persistent grants (default true).\n"
        "poll-ns=NS          Longest spin before a sleep (default 50000).\n"
        "timeout=SECONDS     For the backend to connect (default 10).",
    .after_fork = xenblk_after_fork,
    .unload = xenblk_unload,
    .open = xenblk_open,
    .get_size = xenblk_get_size,
    .can_write = xenblk_can_write,
    .can_flush = xenblk_can_flush,
    .can_trim = xenblk_can_trim,
    .can_fua = xenblk_can_fua,
    .can_multi_conn = xenblk_can_multi_conn,
    .block_size = xenblk_block_size,
    .pread = xenblk_pread,
    .pwrite = xenblk_pwrite,
    .flush = xenblk_flush,
    .trim = xenblk_trim,
};

/* The macro defines this and declares nothing. */
struct nbdkit_plugin *
plugin_init(void);

NBDKIT_REGISTER_PLUGIN(plugin)
