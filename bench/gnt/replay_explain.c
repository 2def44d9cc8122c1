/* SPDX-License-Identifier: MIT */
/* Compares the records of an operation; see the header. */
#include "bench/gnt/replay_explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE = 256, MAX_GROUP = 4096, MAX_TOUCHED = 8, MAX_TAINTED = 65536 };

/* Records of one side of a group. */
struct records {
    char line[MAX_GROUP][LINE];
    bool matched[MAX_GROUP];
    unsigned n;
};

/* An object that differs because of an explained difference. */
struct tainted {
    char key[48];
    const char *why;
    char since[LINE]; /* the operation that did it */
};

static struct records ours, theirs;
static struct tainted *tainted;
static unsigned n_tainted;
static char operation[LINE];
static char touched[MAX_TOUCHED][48];
static unsigned n_touched;
static const char *because;
static bool explaining;
static unsigned n_differences, n_unexplained;

void
explain_init(bool explain)
{
    explaining = explain;
    if (explain)
        tainted = calloc(MAX_TAINTED, sizeof(*tainted));
    if (explain && !tainted)
        abort();
}

static void
add(struct records *to, const char *line)
{
    if (to->n == MAX_GROUP)
        return;
    snprintf(to->line[to->n], LINE, "%s", line);
    to->matched[to->n++] = false;
}

/* What a state line is about: its first words. */
static void
key_of(const char *line, char key[48])
{
    const unsigned n_words = line[0] == 'e' || line[0] == 'p' ? 3 : 2;
    unsigned words = 0;
    size_t i;

    for (i = 0; line[i] && i < 47; i++) {
        if (line[i] == ' ' && ++words == n_words)
            break;
        key[i] = line[i];
    }
    key[i] = '\0';
}

static const struct tainted *
tainted_by(const char *key)
{
    for (unsigned i = 0; i < n_tainted; i++)
        if (!strcmp(tainted[i].key, key))
            return &tainted[i];
    return NULL;
}

static void
taint(const char *key, const char *why)
{
    if (n_tainted == MAX_TAINTED || tainted_by(key))
        return;
    snprintf(tainted[n_tainted].key, sizeof(tainted->key), "%s", key);
    snprintf(tainted[n_tainted].since, LINE, "%s", operation);
    tainted[n_tainted++].why = why;
}

/* Marks what both sides have. */
static unsigned
match(void)
{
    unsigned n = ours.n + theirs.n;

    for (unsigned i = 0; i < ours.n; i++) {
        for (unsigned k = 0; k < theirs.n; k++) {
            if (theirs.matched[k] || strcmp(ours.line[i], theirs.line[k]))
                continue;
            ours.matched[i] = theirs.matched[k] = true;
            n -= 2;
            break;
        }
    }
    return n;
}

/* An object of this group that differed before, or NULL. */
static const struct tainted *
older_reason(void)
{
    const struct tainted *t = NULL;
    char key[48];

    for (unsigned i = 0; i < n_touched && !t; i++)
        t = tainted_by(touched[i]);
    for (unsigned i = 0; i < ours.n && !t; i++) {
        key_of(ours.line[i], key);
        t = ours.matched[i] ? NULL : tainted_by(key);
    }
    for (unsigned i = 0; i < theirs.n && !t; i++) {
        key_of(theirs.line[i], key);
        t = theirs.matched[i] ? NULL : tainted_by(key);
    }
    return t;
}

static void
show(const struct records *r, char side, const char *why)
{
    char key[48];

    for (unsigned i = 0; i < r->n; i++) {
        if (r->matched[i])
            continue;
        printf("  %c %s\n", side, r->line[i]);
        key_of(r->line[i], key);
        if (why && r->line[i][0] != 'R')
            taint(key, why);
    }
}

static void
report(void)
{
    const struct tainted *older = because ? NULL : older_reason();
    const char *why = because ? because : older ? older->why : NULL;
    unsigned number;
    char handle[48];

    n_differences++;
    printf("%s\n", operation);
    show(&theirs, '-', why);
    show(&ours, '+', why);
    if (because)
        printf("  docs/SPEC.md: %s\n", why);
    else if (older)
        printf("  follows from: %s (docs/SPEC.md: %s)\n", older->since, why);
    else
        printf("  NOT EXPLAINED\n");
    n_unexplained += !why;
    if (why && sscanf(operation, "O %u", &number) == 1) {
        snprintf(handle, sizeof(handle), "h=%u", number);
        taint(handle, why);
    }
}

static void
end_group(void)
{
    if (explaining && match())
        report();
    ours.n = theirs.n = n_touched = 0;
    because = NULL;
}

void
explain_given(const char *line)
{
    end_group();
    if (line[0] == 'S')
        n_tainted = 0; /* a fresh world */
    if (!explaining)
        puts(line);
    snprintf(operation, sizeof(operation), "%s", line);
}

void
explain_ours(const char *line)
{
    if (explaining)
        add(&ours, line);
    else
        puts(line);
}

void
explain_theirs(const char *line)
{
    if (explaining)
        add(&theirs, line);
}

void
explain_because(const char *why)
{
    because = why;
}

void
explain_touches(const char *format, ...)
{
    va_list args;

    if (n_touched == MAX_TOUCHED)
        return;
    va_start(args, format);
    vsnprintf(touched[n_touched++], sizeof(touched[0]), format, args);
    va_end(args);
}

int
explain_end(void)
{
    end_group();
    if (!explaining)
        return 0;
    printf("%u operations differ, %u of them without an explanation\n",
           n_differences, n_unexplained);
    return n_unexplained ? 1 : 0;
}
