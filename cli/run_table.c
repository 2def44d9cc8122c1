/* SPDX-License-Identifier: MIT */
/*
 * What `freehold run` shows: on stderr, so that --json leaves stdout to the
 * result.  On a terminal the table is drawn over itself; elsewhere it appears
 * once, at the end.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/run.h"

enum {
    TABLE_LINES = RUN_GUESTS + 2,
    CLAIM_BYTES = 256,
};

void
run_say(const char *fmt, ...)
{
    va_list ap;

    fputs("  ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void
run_claim(struct run *r, bool holds, const char *fmt, ...)
{
    char text[CLAIM_BYTES];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!holds)
        r->failed = true;
    json_object_object_add(r->checks, text, json_object_new_boolean(holds));
    run_say("%s %s", holds ? "[ ok ]" : "[FAIL]", text);
}

static void
draw_row(const struct run *r, int i, double seconds)
{
    const struct run_stats *s = &r->stats[i];
    const uint64_t requests = fh_load_relaxed64(&s->requests);

    fprintf(stderr, "  %5d  %-17s", i + 1, r->guest[i].does);
    if (i == RUN_COPIER)
        fprintf(stderr, " %8s %7s", "", "");
    else
        fprintf(stderr, " %8" PRIu64 " %7.0f", requests,
                seconds > 0 ? (double)requests / seconds : 0);
    fprintf(stderr, " %6" PRIu64, fh_load_relaxed64(&s->bytes) >> 20);
    if (i == RUN_COPIER)
        fprintf(stderr, " %5s %6s %8s", "", "", "");
    else
        fprintf(stderr, " %5" PRIu64 " %6" PRIu64 " %8.1f",
                fh_load_relaxed64(&s->mismatches),
                fh_load_relaxed64(&s->errors),
                (double)fh_load_relaxed64(&s->pause_ns) / 1e6);
    fprintf(stderr, " %6u\n", r->guest[i].kills);
}

/* No line is wider than 79 columns: a wrapped one would spoil the redraw. */
void
run_table_draw(struct run *r, double seconds, bool last)
{
    if (!r->tty && !last)
        return;
    if (r->tty && r->drawn)
        fprintf(stderr, "\033[%dA\033[J", TABLE_LINES);
    fprintf(stderr, "\n  %5s  %-17s %8s %7s %6s %5s %6s %8s %6s\n", "guest",
            "", "requests", "IOPS", "MiB", "wrong", "errors", "pause ms",
            "killed");
    for (int i = 0; i < RUN_GUESTS; i++)
        draw_row(r, i, seconds);
    r->drawn = true;
}
