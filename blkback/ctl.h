/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * The supervisor's control socket, <run-dir>/control: one JSON object per line
 * in each direction, answered in order.
 *
 *   {"cmd":"attach","domid":N,"target":T,["vdev":"xvda"],["mode":"r"|"w"],
 *    ["name":S],["grants":"auto"|"persistent"|"copy"|"map"],["order":0..4],
 *    ["shared":bool],["latency_ns":N]}
 *       T is a path, "mem:SIZE" or "null:SIZE" (SIZE: 64m, 1g, 512k, bytes).
 *       vdev: xvda.., a number, or left out: the next free one
 *   {"cmd":"detach","domid":N,"vdev":V,["force":bool]}  answered when the nodes
 *                                                       are gone
 *   {"cmd":"list"}    {"ok":true,"devices":[...]}
 *   {"cmd":"status"}  the same and "workers":[...], "supervisor":{...}
 *   {"cmd":"stop"}    answered when all devices are closed; then it exits
 *
 * Every answer has "ok"; a refusal has "error", a sentence for a human.
 */
#include <stddef.h>
#include <freehold/err.h>

struct json_object;

#define FH_CTL_RUN_DIR "/run/freehold"

/*
 * fh_ctl_call - ask the supervisor one thing and wait for the answer
 *
 * @run_dir:    of the supervisor; NULL: FH_CTL_RUN_DIR
 * @req:        stays the caller's
 * @timeout_ms: for the whole exchange; -1: no limit
 * @reply:      written on success only: the whole answer; the caller puts it
 * @err:        written on failure: a sentence for a human
 *
 * Returns 0 when the supervisor answered "ok":true, FH_CTL_E_REFUSED when it
 *   answered with an error (@err has its text), or a negative error: no
 *   supervisor (FH_ENOENT), FH_ETIMEDOUT, FH_EPROTO...
 *
 * Threads: any.  Blocks.  Logs never.
 */
enum { FH_CTL_E_REFUSED = 1 };

FH_MUST_CHECK int
fh_ctl_call(const char *run_dir, struct json_object *req, int timeout_ms,
            struct json_object **reply, char *err, size_t err_size);
