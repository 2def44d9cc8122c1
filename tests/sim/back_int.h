/* SPDX-License-Identifier: MIT */
#pragma once
/* What back.c and worker.c share: the messages between the two processes. */
#include "back.h"

#define SIM_BACK_PATH  "/local/domain/0/backend/vbd/%u/51712"
#define SIM_FRONT_PATH "/local/domain/%u/device/vbd/51712"

enum sim_msg {
    SIM_MSG_CONNECT,    /* to a worker, rc: resume; and its answer */
    SIM_MSG_DISCONNECT, /* the same */
    SIM_MSG_FAULT,
    SIM_MSG_READY,
    SIM_MSG_DIED,       /* from the kernel, to the supervisor */
    SIM_MSG_FENCED,
    SIM_MSG_UNPLUG,     /* from the toolstack */
    SIM_MSG_STOP,       /* the same; rc: force */
};

#define SIM_MSG(type, disk, rc)                                                \
    ((uint64_t)(type) | (uint64_t)(disk) << 8 |                                \
     (uint64_t)(uint32_t)(int32_t)(rc) << 32)
#define SIM_MSG_TYPE(m) ((uint32_t)((m) & 0xff))
#define SIM_MSG_DISK(m) ((uint32_t)((m) >> 8 & 0xff))
#define SIM_MSG_RC(m)   ((int32_t)((m) >> 32))

void
sim_inbox_put(struct sim_inbox *in, uint64_t m);
bool
sim_inbox_take(struct sim_inbox *in, uint64_t *m);

/* In order; DIED overtakes the others, which are lost then. */
void
sim_tell_supervisor(struct sim_worker *w, enum sim_msg type, uint32_t disk,
                    int rc);

/* A successor, or the first one. */
void
sim_worker_start(struct sim_back *b, uint64_t delay_ns);
void
sim_worker_free(struct sim_worker *w);
