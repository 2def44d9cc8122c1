/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A worker as a process: what the supervisor starts.
 *
 * One thread; owns everything it is given over the socket.  The process exits
 * when the supervisor's end is closed and what was in work is answered.
 */
#include <stdint.h>

/*
 * fh_worker_main - serve until the supervisor closes the socket
 *
 * @ctl_fd: our end of a SOCK_SEQPACKET pair; proto.h is spoken on it
 *
 * Returns the exit status: 0, or 1 after a failure at the start (READY told
 *   the supervisor) or a message that no supervisor of ours sends.
 *
 * Logs: to stderr, at most some lines in a life.
 */
int
fh_worker_main(int ctl_fd);
