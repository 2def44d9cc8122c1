/* SPDX-License-Identifier: MIT */
#pragma once
/* What the platform's files share among themselves. */
#include "sim.h"

/* Runs what is due, as if the caller had been preempted. */
void
sim_yield(struct sim *s);

/* Runs events until @p has news or @end_ns has come.  0, or FH_EBUSY inside of
 * another party's call. */
int
sim_wait_until(struct sim_party *p, uint64_t end_ns);

int
sim_xs_begin(struct fh_plat *p, uint32_t *txn);
int
sim_xs_end(struct fh_plat *p, uint32_t txn, bool abort);
int
sim_xs_read(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
            size_t size, size_t *len);
int
sim_xs_write(struct fh_plat *p, uint32_t txn, const char *path,
             const char *value);
int
sim_xs_mkdir(struct fh_plat *p, uint32_t txn, const char *path);
int
sim_xs_rm(struct fh_plat *p, uint32_t txn, const char *path);
int
sim_xs_list(struct fh_plat *p, uint32_t txn, const char *path, char *buf,
            size_t size, uint32_t *n);
int
sim_xs_set_perms(struct fh_plat *p, uint32_t txn, const char *path,
                 const struct fh_plat_perm *perms, uint32_t n);
int
sim_xs_watch(struct fh_plat *p, const char *path, const char *token);
int
sim_xs_unwatch(struct fh_plat *p, const char *path, const char *token);
int
sim_xs_next(struct fh_plat *p, char *path, char *token);
