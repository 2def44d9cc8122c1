/* SPDX-License-Identifier: MIT */
/*
 * What `freehold run` shows while it works.  On a terminal the table is drawn
 * over itself; elsewhere it is a line per guest now and then.
 */
#include <inttypes.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/run.h"

/* With --json, stdout carries the result alone. */
static FILE *
show_stream(void)
{
    return stderr;
}

void
run_say(const char *fmt, ...)
{
    va_list ap;

    fputs("  ", show_stream());
    va_start(ap, fmt);
    vfprintf(show_stream(), fmt, ap);
    va_end(ap);
    fputc('\n', show_stream());
    fflush(show_stream());
}

void
run_claim(struct run *r, bool holds, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (!holds)
        r->failed = true;
    json_object_object_add(r->checks, text, json_object_new_boolean(holds));
    run_say("%s %s", holds ? "[ ok ]" : "[FAIL]", text);
}
