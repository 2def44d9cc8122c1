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

/* What there is to say about a guest beside the numbers. */
static const char *
note(const struct run *r, int i, double seconds, char *buf, size_t size)
{
    const struct run_guest *g = &r->guest[i];

    if (g->kills)
        snprintf(buf, size, "%s; its worker was killed%s", g->does,
                 g->kills > 1 ? " again" : "");
    else
        snprintf(buf, size, "%s", g->does);
    return buf;
}

static void
draw_row(const struct run *r, int i, double seconds)
{
    const struct run_stats *s = &r->stats[i];
    const uint64_t requests = fh_load_relaxed64(&s->requests);
    const double mib = (double)fh_load_relaxed64(&s->bytes) / (1 << 20);
    char buf[96];

    if (i == RUN_COPIER)
        fprintf(stderr, "  %5d  %10s %9s %9.0f %10s %6s %9s  %s\n", i + 1, "",
                "", mib, "", "", "", note(r, i, seconds, buf, sizeof(buf)));
    else
        fprintf(stderr,
                "  %5d  %10" PRIu64 " %9.0f %9.0f %10" PRIu64 " %6" PRIu64
                " %9.1f  %s\n",
                i + 1, requests, seconds > 0 ? (double)requests / seconds : 0,
                mib, fh_load_relaxed64(&s->mismatches),
                fh_load_relaxed64(&s->errors),
                (double)fh_load_relaxed64(&s->pause_ns) / 1e6,
                note(r, i, seconds, buf, sizeof(buf)));
}

void
run_table_draw(struct run *r, double seconds, bool last)
{
    if (!r->tty && !last)
        return;
    if (r->tty && r->drawn)
        fprintf(stderr, "\033[%dA\033[J", TABLE_LINES);
    fprintf(stderr, "\n  %5s  %10s %9s %9s %10s %6s %9s\n", "guest",
            "requests", "IOPS", "MiB", "mismatches", "errors", "pause ms");
    for (int i = 0; i < RUN_GUESTS; i++)
        draw_row(r, i, seconds);
    r->drawn = true;
}
