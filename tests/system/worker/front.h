/* SPDX-License-Identifier: MIT */
#pragma once
/* What the test and its frontend process say to each other. */
#include <stdint.h>
#include "rig.h"

enum front_op { FRONT_SETUP = 1, FRONT_LOAD, FRONT_BREAK, FRONT_TEARDOWN };

struct front_msg {
    uint32_t op;
    union {
        struct rig_ring ring;
        struct rig_load load;
        struct rig_result result;
    } u;
};
