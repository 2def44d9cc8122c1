/* SPDX-License-Identifier: MIT */
/*
 * The option parser: one walk over argv, driven by the command's table.
 *
 * Long options take their value behind "=" or in the next word, letters in the
 * same or the next word; "--" ends the options.  Nothing is written to the
 * command's struct by an option whose value was refused.
 */
#include "cli/opt.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arith.h"

enum {
    FH_OPT_COLUMN = 26, /* where the help's explanations begin */
};

int
fh_opt_usage(const struct fh_opt_cmd *c, const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fprintf(stderr, "freehold %s: ", c->name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\n`freehold %s --help` explains it.\n", c->name);
    return FH_EXIT_USAGE;
}

int
fh_opt_fail(const char *name, const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    fprintf(stderr, "freehold %s: ", name);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return FH_EXIT_FAILURE;
}

bool
fh_opt_number(const char *text, uint64_t max, uint64_t *value)
{
    unsigned long long v;
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno || *end || v > max)
        return false;
    *value = v;
    return true;
}

bool
fh_opt_size(const char *text, uint64_t *bytes)
{
    static const char units[] = "kmgt";
    unsigned long long v;
    uint64_t scaled;
    unsigned shift = 0;
    char *end;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    v = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (*end) {
        const char *unit = strchr(units, *end | 0x20);

        if (!unit || end[1])
            return false;
        shift = 10 * (unsigned)(unit - units + 1);
    }
    if (__builtin_mul_overflow((uint64_t)v, 1ull << shift, &scaled))
        return false;
    *bytes = scaled;
    return true;
}

/* A number of bytes as people write it: 4k, 64m. */
static const char *
size_text(uint64_t bytes, char *buf, size_t n)
{
    static const char units[] = "kmgt";
    int unit = -1;

    while (unit < 3 && bytes && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    snprintf(buf, n, "%llu%.*s", (unsigned long long)bytes, unit >= 0,
             unit >= 0 ? &units[unit] : "");
    return buf;
}

static uint64_t
opt_max(const struct fh_opt *o)
{
    if (o->max)
        return o->max;
    return o->kind == FH_OPT_NUMBER ? UINT32_MAX : UINT64_MAX;
}

static int
parse_number(const struct fh_opt_cmd *c, const struct fh_opt *o,
             const char *text, void *out)
{
    uint64_t v;

    if (!fh_opt_number(text, opt_max(o), &v) || v < o->min)
        return fh_opt_usage(c, "--%s: '%s' is not a whole number from %llu "
                               "to %llu",
                            o->name, text, (unsigned long long)o->min,
                            (unsigned long long)opt_max(o));
    *(uint32_t *)out = (uint32_t)v;
    return FH_OPT_GO;
}

static int
parse_size(const struct fh_opt_cmd *c, const struct fh_opt *o,
           const char *text, void *out)
{
    char low[32], high[32];
    uint64_t v;

    if (!fh_opt_size(text, &v))
        return fh_opt_usage(c, "--%s: '%s' is not a size; write bytes, or a "
                               "number with k, m, g or t, as in 64m",
                            o->name, text);
    if (v < o->min || v > opt_max(o))
        return fh_opt_usage(c, "--%s: %s is out of range; %s to %s", o->name,
                            text, size_text(o->min, low, sizeof(low)),
                            size_text(opt_max(o), high, sizeof(high)));
    *(uint64_t *)out = v;
    return FH_OPT_GO;
}

static int
parse_seconds(const struct fh_opt_cmd *c, const struct fh_opt *o,
              const char *text, void *out)
{
    const double low = (double)o->min / 1e3, high = (double)opt_max(o) / 1e3;
    char *end;
    double v;

    errno = 0;
    v = strtod(text, &end);
    if (errno || end == text || *end || !(v >= low && v <= high))
        return fh_opt_usage(c, "--%s: '%s' is not a number of seconds from "
                               "%g to %g",
                            o->name, text, low, high);
    *(double *)out = v;
    return FH_OPT_GO;
}

static int
parse_choice(const struct fh_opt_cmd *c, const struct fh_opt *o,
             const char *text, void *out)
{
    char list[256] = "";

    for (int i = 0; o->choices[i]; i++) {
        if (!strcmp(o->choices[i], text)) {
            *(int *)out = i;
            return FH_OPT_GO;
        }
        snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s",
                 i ? (o->choices[i + 1] ? ", " : " or ") : "", o->choices[i]);
    }
    return fh_opt_usage(c, "--%s: '%s' is not one of its values; %s", o->name,
                        text, list);
}

static int
parse_value(const struct fh_opt_cmd *c, const struct fh_opt *o,
            const char *text, void *values)
{
    void *out = (char *)values + o->offset;

    switch (o->kind) {
    case FH_OPT_FLAG:
        *(bool *)out = true;
        return FH_OPT_GO;
    case FH_OPT_STRING:
        if (!*text)
            return fh_opt_usage(c, "--%s: the value is empty; give %s",
                                o->name, o->arg);
        *(const char **)out = text;
        return FH_OPT_GO;
    case FH_OPT_NUMBER:
        return parse_number(c, o, text, out);
    case FH_OPT_SIZE:
        return parse_size(c, o, text, out);
    case FH_OPT_SECONDS:
        return parse_seconds(c, o, text, out);
    case FH_OPT_CHOICE:
        return parse_choice(c, o, text, out);
    }
    return FH_OPT_GO;
}

/* --- help ---------------------------------------------------------------- */

static void
help_option(const struct fh_opt *o)
{
    const char letter[] = { '-', o->letter, ',', 0 };
    const char *text = o->help;
    char left[64];
    int n;

    n = snprintf(left, sizeof(left), "  %-3s --%s%s%s",
                 o->letter ? letter : "", o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
    printf("%-*s", FH_OPT_COLUMN, left);
    if (n >= FH_OPT_COLUMN)
        printf("\n%*s", FH_OPT_COLUMN, "");
    while (*text) {
        size_t line = strcspn(text, "\n");

        printf("%.*s\n", (int)line, text);
        text += line;
        if (*text == '\n' && *++text)
            printf("%*s", FH_OPT_COLUMN, "");
    }
}

static int
help(const struct fh_opt_cmd *c)
{
    printf("usage: freehold %s [OPTIONS]%s%s\n\n%s\n", c->name,
           *c->args ? " " : "", c->args, c->text);
    printf("options:\n");
    for (size_t i = 0; i < c->n_options; i++)
        if (!c->options[i].hidden)
            help_option(&c->options[i]);
    printf("  -h, --help              this text\n");
    return FH_EXIT_OK;
}

/* --- the walk ------------------------------------------------------------ */

static const struct fh_opt *
find_long(const struct fh_opt_cmd *c, const char *name, size_t n)
{
    for (size_t i = 0; i < c->n_options; i++)
        if (strlen(c->options[i].name) == n &&
            !strncmp(c->options[i].name, name, n))
            return &c->options[i];
    return NULL;
}

static const struct fh_opt *
find_letter(const struct fh_opt_cmd *c, char letter)
{
    for (size_t i = 0; i < c->n_options; i++)
        if (c->options[i].letter == letter)
            return &c->options[i];
    return NULL;
}

/* The words that are left, and what one of them turned out to be. */
struct walk {
    const struct fh_opt_cmd *c;
    char **argv;
    int argc;
    int at;
    const struct fh_opt *opt;
    const char *value; /* in the same word; NULL: none */
};

/* Finds the option that the current word names. */
static int
walk_option(struct walk *w)
{
    const char *word = w->argv[w->at];
    const char *name = word + 2;
    size_t n = strcspn(name, "=");

    if (word[1] == '-') {
        w->opt = find_long(w->c, name, n);
        w->value = name[n] ? name + n + 1 : NULL;
    } else {
        w->opt = find_letter(w->c, word[1]);
        w->value = word[2] ? word + 2 : NULL;
    }
    if (!w->opt)
        return fh_opt_usage(w->c, "there is no option '%.*s'",
                            word[1] == '-' ? (int)n + 2 : 2, word);
    return FH_OPT_GO;
}

static int
walk_value(struct walk *w, void *values)
{
    const struct fh_opt *o = w->opt;

    if (o->kind == FH_OPT_FLAG && w->value)
        return fh_opt_usage(w->c, "--%s takes no value, '%s' was given",
                            o->name, w->value);
    if (o->kind != FH_OPT_FLAG && !w->value) {
        if (w->at + 1 >= w->argc)
            return fh_opt_usage(w->c, "--%s needs a value: --%s %s", o->name,
                                o->name, o->arg);
        w->value = w->argv[++w->at];
    }
    return parse_value(w->c, o, w->value, values);
}

static int
check_count(const struct fh_opt_cmd *c, int n, char **args)
{
    if (n < c->min_args)
        return fh_opt_usage(c, "something is missing: it takes %s", c->args);
    if (c->max_args >= 0 && n > c->max_args)
        return fh_opt_usage(c, "'%s' is one argument too many",
                            args[c->max_args]);
    return FH_OPT_GO;
}

int
fh_opt_parse(const struct fh_opt_cmd *c, void *values, int *argc,
             char ***argv)
{
    struct walk w = { .c = c, .argv = *argv, .argc = *argc, .at = 1 };
    int n_args = 0;
    int r;

    for (; w.at < w.argc; w.at++) {
        char *word = w.argv[w.at];

        if (!strcmp(word, "--")) {
            w.at++;
            break;
        }
        if (word[0] != '-' || !word[1]) {
            if (c->stop_at_arg)
                break;
            w.argv[n_args++] = word;
            continue;
        }
        if (!strcmp(word, "-h") || !strcmp(word, "--help"))
            return help(c);
        r = walk_option(&w);
        if (r == FH_OPT_GO)
            r = walk_value(&w, values);
        if (r != FH_OPT_GO)
            return r;
    }
    while (w.at < w.argc)
        w.argv[n_args++] = w.argv[w.at++];
    if (n_args < w.argc)
        w.argv[n_args] = NULL;
    *argc = n_args;
    return check_count(c, n_args, w.argv);
}
