/* SPDX-License-Identifier: MIT */
#pragma once
/*
 * Where gnt-replay's records go: to the output, or beside those of the trace,
 * so that every difference is named with its reason.
 *
 * Records come in groups: what the trace gives (an operation, the beginning or
 * end of a sequence), then the engine's records and the trace's, in any order,
 * until the next given one.  A difference is explained by what
 * explain_because() said of the operation, or by an object (an entry, a slot, a
 * frame, a handle) that an explained difference touched before.
 */
#include <stdbool.h>

/* @explain: false just writes what is given and what is ours. */
void
explain_init(bool explain);

/* A record that both have; ends the group before. */
void
explain_given(const char *line);

/* A record of the engine's and of the trace's. */
void
explain_ours(const char *line);
void
explain_theirs(const char *line);

/* Why the operation at hand may differ: a row of the table in docs/SPEC.md. */
void
explain_because(const char *why);

/* An object that its outcome depends on. */
void
explain_touches(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Ends the last group.  0, or 1 if a difference had no explanation. */
int
explain_end(void);
