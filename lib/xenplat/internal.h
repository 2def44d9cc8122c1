/* SPDX-License-Identifier: MIT */
#pragma once
/* What the files of lib/xenplat share. */
#include <errno.h>
#include "xenplat/xenplat.h"

static inline struct fh_xenplat *
fh_xenplat_of(struct fh_plat *p)
{
    return (struct fh_xenplat *)p; /* plat is the first member */
}

/* The library call just failed: its errno as an error of ours.  A library that
 * sets none must not turn a failure into success. */
static inline int
fh_xenplat_errno(void)
{
    return errno > 0 ? -errno : FH_EIO;
}

/* grants.c */
int
fh_xenplat_gnt_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs,
                   uint32_t n, int prot, void **addr);
int
fh_xenplat_gnt_unmap(struct fh_plat *p, void *addr, uint32_t n);
int
fh_xenplat_gnt_copy(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n);
int
fh_xenplat_gnt_share(struct fh_plat *p, uint16_t domid, uint32_t n,
                     bool writable, uint32_t *refs, void **addr);
int
fh_xenplat_gnt_unshare(struct fh_plat *p, void *addr, uint32_t n);

/* events.c */
int
fh_xenplat_ev_alloc(struct fh_plat *p, uint16_t domid, uint32_t *port);
int
fh_xenplat_ev_bind(struct fh_plat *p, uint16_t domid, uint32_t remote_port,
                   uint32_t *port);
int
fh_xenplat_ev_unbind(struct fh_plat *p, uint32_t port);
int
fh_xenplat_ev_notify(struct fh_plat *p, uint32_t port);
int
fh_xenplat_ev_next(struct fh_plat *p, uint32_t *port);
int
fh_xenplat_ev_unmask(struct fh_plat *p, uint32_t port);

/* store.c */
int
fh_xenplat_xs_begin(struct fh_plat *p, uint32_t *txn);
int
fh_xenplat_xs_end(struct fh_plat *p, uint32_t txn, bool abort);
int
fh_xenplat_xs_read(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, size_t *len);
int
fh_xenplat_xs_write(struct fh_plat *p, uint32_t txn, const char *path,
                    const char *value);
int
fh_xenplat_xs_mkdir(struct fh_plat *p, uint32_t txn, const char *path);
int
fh_xenplat_xs_rm(struct fh_plat *p, uint32_t txn, const char *path);
int
fh_xenplat_xs_list(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
                   size_t size, uint32_t *n);
int
fh_xenplat_xs_set_perms(struct fh_plat *p, uint32_t txn, const char *path,
                        const struct fh_plat_perm *perms, uint32_t n);
int
fh_xenplat_xs_watch(struct fh_plat *p, const char *path, const char *token);
int
fh_xenplat_xs_unwatch(struct fh_plat *p, const char *path, const char *token);
int
fh_xenplat_xs_next(struct fh_plat *p, char *path, char *token);

/* cpu.c */
void
fh_xenplat_cpu_open(struct fh_xenplat *x);
void
fh_xenplat_cpu_close(struct fh_xenplat *x);
bool
fh_xenplat_cpu_wanted(struct fh_plat *p);

/* xenplat.c */
uint64_t
fh_xenplat_now_ns(struct fh_plat *p);
uint64_t
fh_xenplat_coarse_ns(struct fh_plat *p);
int
fh_xenplat_wait(struct fh_plat *p, uint64_t timeout_ns);
