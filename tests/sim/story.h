/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * A story: one backend domain, a few guests, one seed; what the scenarios are
 * made of.
 */
#include "back.h"
#include "front.h"

enum { SIM_GUESTS = 2, SIM_SECTORS = 2048 };

/* What happened in many stories: that the scenarios do what they are for. */
struct sim_sums {
    uint64_t n_requests;
    uint64_t n_failed;
    uint64_t n_connects;
    uint64_t n_deaths;
    uint64_t n_flushes;
    uint64_t n_errors;
    uint64_t n_calls;
    uint64_t n_events;
    uint64_t virtual_ns;
};

struct sim_story {
    struct sim *s;
    struct sim_back back;
    struct sim_guest guest[SIM_GUESTS];
    struct sim_oracle oracle[SIM_GUESTS]; /* until a guest has it */
    uint32_t n_guests;
    struct sim_back_params bp;
    struct sim_guest_params gp[SIM_GUESTS];
};

/* A world with parameters of the seed's choice and nothing in it. */
void
sim_story_new(struct sim_story *t, const char *scenario, uint64_t seed);
/* Attaches a disk for every guest and starts them. */
void
sim_story_begin(struct sim_story *t);
/* Until every guest is done; then unplugs, and looks for what is left. */
void
sim_story_end(struct sim_story *t);
/* For a random time, or until the guests are done. */
void
sim_story_run_for(struct sim_story *t, uint64_t ns);
/* Everything loses power and starts again. */
void
sim_story_power_cut(struct sim_story *t);
/* Frees it; returns its trace's hash, and the failure, if there was one. */
uint64_t
sim_story_free(struct sim_story *t, struct sim_sums *sums, char *failure,
               size_t size);
