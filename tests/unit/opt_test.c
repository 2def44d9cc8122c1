/* SPDX-License-Identifier: MIT */
/* The option parser: every kind of value, every way to be wrong. */
#include "expect.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/arith.h"
#include "cli/opt.h"

struct values {
    bool flag;
    const char *text;
    uint32_t number;
    uint64_t size;
    double seconds;
    int choice;
};

static const char *const colours[] = { "red", "green", "blue", NULL };

#define AT(m) offsetof(struct values, m)

static const struct fh_opt options[] = {
    { .name = "flag", .letter = 'f', .kind = FH_OPT_FLAG, .offset = AT(flag),
      .help = "a flag" },
    { .name = "text", .letter = 't', .kind = FH_OPT_STRING,
      .offset = AT(text), .arg = "TEXT", .help = "some text" },
    { .name = "number", .letter = 'n', .kind = FH_OPT_NUMBER,
      .offset = AT(number), .arg = "N", .help = "a number", .min = 2,
      .max = 64 },
    { .name = "any", .kind = FH_OPT_NUMBER, .offset = AT(number), .arg = "N",
      .help = "any number" },
    { .name = "size", .kind = FH_OPT_SIZE, .offset = AT(size), .arg = "SIZE",
      .help = "a size", .min = 512, .max = 1 << 30 },
    { .name = "seconds", .kind = FH_OPT_SECONDS, .offset = AT(seconds),
      .arg = "S", .help = "seconds", .min = 100, .max = 60000 },
    { .name = "colour", .kind = FH_OPT_CHOICE, .offset = AT(choice),
      .arg = "C", .help = "a colour", .choices = colours },
};

static const struct fh_opt_cmd cmd = {
    .name = "test", .args = "[A [B]]", .text = "A test.\n",
    .options = options, .n_options = FH_ARRAY_SIZE(options), .max_args = 2,
};

static const struct fh_opt_cmd exec_like = {
    .name = "exec", .args = "CMD...", .text = "A test.\n",
    .options = options, .n_options = FH_ARRAY_SIZE(options), .min_args = 1,
    .max_args = -1, .stop_at_arg = true,
};

enum { MAX_WORDS = 8 };

static int
parse(const struct fh_opt_cmd *c, const char *const *words, struct values *v,
      int *argc, char **argv)
{
    char **at = argv;

    argv[0] = (char *)"test"; /* words are moved, never written to */
    for (*argc = 1; words[*argc - 1]; (*argc)++)
        argv[*argc] = (char *)words[*argc - 1];
    argv[*argc] = NULL;
    return fh_opt_parse(c, v, argc, &at);
}

static const struct {
    const char *name;
    const char *words[MAX_WORDS];
    int want;
    struct values values;
    int n_args;
} rows[] = {
    { "nothing", { NULL }, FH_OPT_GO, { .number = 7 }, 0 },
    { "flag", { "--flag" }, FH_OPT_GO, { .flag = true, .number = 7 }, 0 },
    { "letter", { "-f" }, FH_OPT_GO, { .flag = true, .number = 7 }, 0 },
    { "value in the next word", { "--number", "64" }, FH_OPT_GO,
      { .number = 64 }, 0 },
    { "value behind =", { "--number=2" }, FH_OPT_GO, { .number = 2 }, 0 },
    { "value behind a letter", { "-n3" }, FH_OPT_GO, { .number = 3 }, 0 },
    { "value after a letter", { "-n", "3" }, FH_OPT_GO, { .number = 3 }, 0 },
    { "no limit means the type's", { "--any=4294967295" }, FH_OPT_GO,
      { .number = UINT32_MAX }, 0 },
    { "size in bytes", { "--size=512" }, FH_OPT_GO,
      { .number = 7, .size = 512 }, 0 },
    { "size in k", { "--size=4k" }, FH_OPT_GO,
      { .number = 7, .size = 4096 }, 0 },
    { "size in M", { "--size=64M" }, FH_OPT_GO,
      { .number = 7, .size = 64 << 20 }, 0 },
    { "seconds", { "--seconds=0.5" }, FH_OPT_GO,
      { .number = 7, .seconds = 0.5 }, 0 },
    { "choice", { "--colour", "blue" }, FH_OPT_GO,
      { .number = 7, .choice = 2 }, 0 },
    { "arguments between options", { "a", "-f", "b" }, FH_OPT_GO,
      { .flag = true, .number = 7 }, 2 },
    { "double dash", { "--", "-f", "--x" }, FH_OPT_GO, { .number = 7 }, 2 },
    { "a dash is an argument", { "-" }, FH_OPT_GO, { .number = 7 }, 1 },
    { "help", { "--help" }, FH_EXIT_OK, { .number = 7 }, -1 },

    { "unknown", { "--nope" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "unknown letter", { "-z" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "part of a name", { "--num=3" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "flag with a value", { "--flag=1" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "letters joined to a flag", { "-fx" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "value missing", { "--number" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "below", { "--number=1" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "above", { "--number=65" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "negative", { "--number=-3" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "blank before", { "--number= 3" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "rubbish behind", { "--number=3x" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "empty number", { "--number=" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "number wraps", { "--any=18446744073709551617" }, FH_EXIT_USAGE,
      { .number = 7 }, -1 },
    { "size wraps", { "--size=18446744073709551615k" }, FH_EXIT_USAGE,
      { .number = 7 }, -1 },
    { "size unit", { "--size=4q" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "size two units", { "--size=4kk" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "size too small", { "--size=511" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "seconds not a number", { "--seconds=nan" }, FH_EXIT_USAGE,
      { .number = 7 }, -1 },
    { "seconds too long", { "--seconds=61" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "no such choice", { "--colour=pink" }, FH_EXIT_USAGE, { .number = 7 },
      -1 },
    { "empty text", { "--text=" }, FH_EXIT_USAGE, { .number = 7 }, -1 },
    { "too many arguments", { "a", "b", "c" }, FH_EXIT_USAGE,
      { .number = 7 }, -1 },
};

static void
parse__takes_what_is_right_and_refuses_the_rest(void **state)
{
    for (size_t i = 0; i < FH_ARRAY_SIZE(rows); i++) {
        struct values v = { .number = 7 };
        const struct values *want = &rows[i].values;
        char *argv[MAX_WORDS + 2];
        int argc, r;

        r = parse(&cmd, rows[i].words, &v, &argc, argv);
        EXPECT_EQ(r, rows[i].want, "%s", rows[i].name);
        EXPECT_EQ(v.flag, want->flag, "%s", rows[i].name);
        EXPECT_EQ(v.number, want->number, "%s", rows[i].name);
        EXPECT_EQ(v.size, want->size, "%s", rows[i].name);
        EXPECT_EQ(v.choice, want->choice, "%s", rows[i].name);
        EXPECT(v.seconds == want->seconds, "%s", rows[i].name);
        EXPECT(!v.text, "%s", rows[i].name);
        if (r == FH_OPT_GO)
            EXPECT_EQ(argc, rows[i].n_args, "%s", rows[i].name);
    }
}

static void
parse__leaves_a_program_its_own_options(void **state)
{
    static const char *const words[] = { "-f", "ls", "-n", "--flag", "--",
                                         "x", NULL };
    struct values v = { .number = 7 };
    char *argv[MAX_WORDS + 2];
    int argc;

    EXPECT_EQ(parse(&exec_like, words, &v, &argc, argv), FH_OPT_GO);
    EXPECT(v.flag && v.number == 7);
    EXPECT_EQ(argc, 5);
    assert_string_equal(argv[0], "ls");
    assert_string_equal(argv[1], "-n");
    assert_string_equal(argv[4], "x");
    EXPECT(!argv[5]);
}

static void
parse__wants_its_arguments(void **state)
{
    static const char *const words[] = { "-f", NULL };
    struct values v = { 0 };
    char *argv[MAX_WORDS + 2];
    int argc;

    EXPECT_EQ(parse(&exec_like, words, &v, &argc, argv), FH_EXIT_USAGE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__takes_what_is_right_and_refuses_the_rest),
        cmocka_unit_test(parse__leaves_a_program_its_own_options),
        cmocka_unit_test(parse__wants_its_arguments),
    };
    const int nowhere = open("/dev/null", O_WRONLY);

    dup2(nowhere, 1); /* help texts; a failure is told on stderr */
    close(nowhere);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
