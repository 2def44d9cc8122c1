/* SPDX-License-Identifier: MIT */
/*
 * The wire: every operation's answer byte for byte, every refusal, requests
 * cut at every byte, and input that no honest client sends.
 */
#include "tests/unit/xs/xs_help.h"

/* A payload is the literal without the compiler's NUL: write each "\0". */
#define P(literal) literal, sizeof(literal) - 1
#define ERR(name)  XS_ERROR, P(name "\0")
#define OK(type)   type, P("OK\0")

struct row {
    const char *name;
    uint16_t domid;
    uint32_t type;
    uint32_t tx;
    const char *payload;
    size_t n;
    uint32_t want_type;
    const char *want;
    size_t n_want;
};

static const struct row rows[] = {
    /* DIRECTORY */
    { "directory", 0, XS_DIRECTORY, 0, P("/t\0"), XS_DIRECTORY, P("a\0b\0") },
    { "directory of a leaf", 0, XS_DIRECTORY, 0, P("/t/a\0"), XS_DIRECTORY,
      P("") },
    { "directory of nothing", 0, XS_DIRECTORY, 0, P("/n\0"), ERR("ENOENT") },
    { "directory refused", 1, XS_DIRECTORY, 0, P("/\0"), ERR("EACCES") },
    { "directory part", 0, XS_DIRECTORY_PART, 0, P("/n\0" "0\0"),
      ERR("ENOENT") },
    { "directory part bad offset", 0, XS_DIRECTORY_PART, 0, P("/t\0" "-1\0"),
      ERR("EINVAL") },
    { "directory part empty offset", 0, XS_DIRECTORY_PART, 0, P("/t\0\0"),
      ERR("EINVAL") },
    { "directory part no offset", 0, XS_DIRECTORY_PART, 0, P("/t\0"),
      ERR("EINVAL") },
    /* READ */
    { "read", 0, XS_READ, 0, P("/t/a\0"), XS_READ, P("one") },
    { "read empty", 0, XS_READ, 0, P("/t\0"), XS_READ, P("") },
    { "read relative", 1, XS_READ, 0, P("name\0"), XS_READ, P("d") },
    { "read nothing", 0, XS_READ, 0, P("/t/c\0"), ERR("ENOENT") },
    { "read refused", 1, XS_READ, 0, P("/t/a\0"), ERR("EACCES") },
    { "read hidden absence", 1, XS_READ, 0, P("/t/c\0"), ERR("EACCES") },
    { "read no NUL", 0, XS_READ, 0, P("/t/a"), ERR("EINVAL") },
    { "read no payload", 0, XS_READ, 0, P(""), ERR("EINVAL") },
    { "read only NUL", 0, XS_READ, 0, P("\0"), ERR("EINVAL") },
    { "read embedded NUL", 0, XS_READ, 0, P("/t\0a\0"), ERR("EINVAL") },
    { "read bytes after NUL", 0, XS_READ, 0, P("/t\0a"), ERR("EINVAL") },
    { "read trailing slash", 0, XS_READ, 0, P("/t/\0"), ERR("EINVAL") },
    { "read double slash", 0, XS_READ, 0, P("/t//a\0"), ERR("EINVAL") },
    { "read leading double slash", 0, XS_READ, 0, P("//t\0"), ERR("EINVAL") },
    { "read two slashes", 0, XS_READ, 0, P("//\0"), ERR("EINVAL") },
    { "read dot", 0, XS_READ, 0, P("/t/.\0"), ERR("EINVAL") },
    { "read space", 0, XS_READ, 0, P("/t /a\0"), ERR("EINVAL") },
    { "read high bit", 0, XS_READ, 0, P("/t/\xe4\0"), ERR("EINVAL") },
    { "read newline", 0, XS_READ, 0, P("/t/a\n\0"), ERR("EINVAL") },
    { "read all legal", 0, XS_READ, 0, P("/azAZ09-_@\0"), ERR("ENOENT") },
    { "read unknown tid", 0, XS_READ, 9, P("/t/a\0"), ERR("ENOENT") },
    /* WRITE */
    { "write", 0, XS_WRITE, 0, P("/t/a\0two"), OK(XS_WRITE) },
    { "write binary", 0, XS_WRITE, 0, P("/t/a\0\0\1\0"), OK(XS_WRITE) },
    { "write nothing", 0, XS_WRITE, 0, P("/t/a\0"), OK(XS_WRITE) },
    { "write no NUL", 0, XS_WRITE, 0, P("/t/a"), ERR("EINVAL") },
    { "write empty", 0, XS_WRITE, 0, P(""), ERR("EINVAL") },
    { "write refused", 1, XS_WRITE, 0, P("/t/a\0two"), ERR("EACCES") },
    { "write new refused", 1, XS_WRITE, 0, P("/t/c\0two"), ERR("EACCES") },
    { "write own", 1, XS_WRITE, 0, P("data/x\0two"), OK(XS_WRITE) },
    { "write unknown tid", 1, XS_WRITE, 3, P("data/x\0two"), ERR("ENOENT") },
    /* MKDIR, RM */
    { "mkdir", 0, XS_MKDIR, 0, P("/p/q/r\0"), OK(XS_MKDIR) },
    { "mkdir existing", 0, XS_MKDIR, 0, P("/t\0"), OK(XS_MKDIR) },
    { "mkdir refused", 1, XS_MKDIR, 0, P("/t\0"), ERR("EACCES") },
    { "mkdir two strings", 0, XS_MKDIR, 0, P("/t\0/u\0"), ERR("EINVAL") },
    { "rm", 0, XS_RM, 0, P("/t\0"), OK(XS_RM) },
    { "rm root", 0, XS_RM, 0, P("/\0"), ERR("EINVAL") },
    { "rm nothing", 0, XS_RM, 0, P("/t/c\0"), OK(XS_RM) },
    { "rm below nothing", 0, XS_RM, 0, P("/n/c\0"), ERR("ENOENT") },
    { "rm refused", 1, XS_RM, 0, P("/t\0"), ERR("EACCES") },
    { "rm own home", 1, XS_RM, 0, P("/local/domain/1\0"), ERR("EACCES") },
    /* permissions */
    { "get perms", 0, XS_GET_PERMS, 0, P("/local/domain/1\0"), XS_GET_PERMS,
      P("n0\0r1\0") },
    { "get perms refused", 2, XS_GET_PERMS, 0, P("/local/domain/1\0"),
      ERR("EACCES") },
    { "set perms", 0, XS_SET_PERMS, 0, P("/t\0n1\0b2\0w3\0"),
      OK(XS_SET_PERMS) },
    { "set perms none", 0, XS_SET_PERMS, 0, P("/t\0"), ERR("EINVAL") },
    { "set perms no NUL", 0, XS_SET_PERMS, 0, P("/t\0n1"), ERR("EINVAL") },
    { "set perms bad letter", 0, XS_SET_PERMS, 0, P("/t\0x1\0"),
      ERR("EINVAL") },
    { "set perms no letter", 0, XS_SET_PERMS, 0, P("/t\0\0"), ERR("EINVAL") },
    { "set perms no domid", 0, XS_SET_PERMS, 0, P("/t\0r\0"), ERR("EINVAL") },
    { "set perms bad domid", 0, XS_SET_PERMS, 0, P("/t\0r1x\0"),
      ERR("EINVAL") },
    { "set perms reserved domid", 0, XS_SET_PERMS, 0, P("/t\0r32752\0"),
      ERR("EINVAL") },
    { "set perms huge domid", 0, XS_SET_PERMS, 0, P("/t\0r4294967297\0"),
      ERR("EINVAL") },
    { "set perms not owner", 1, XS_SET_PERMS, 0, P("/local/domain/1\0n1\0"),
      ERR("EACCES") },
    { "give away", 1, XS_SET_PERMS, 0, P("data\0n2\0"), ERR("EPERM") },
    { "set perms special", 0, XS_SET_PERMS, 0, P("@releaseDomain\0n0\0r1\0"),
      OK(XS_SET_PERMS) },
    { "set perms other special", 0, XS_SET_PERMS, 0,
      P("@introduceDomain\0n0\0r1\0"), OK(XS_SET_PERMS) },
    { "set perms special refused", 1, XS_SET_PERMS, 0,
      P("@releaseDomain\0n1\0"), ERR("EACCES") },
    { "set perms unknown special", 0, XS_SET_PERMS, 0, P("@other\0n1\0"),
      ERR("EINVAL") },
    /* watches */
    { "watch no token", 0, XS_WATCH, 0, P("/t\0"), ERR("EINVAL") },
    { "watch bad path", 0, XS_WATCH, 0, P("/t/\0x\0"), ERR("EINVAL") },
    { "watch no NUL", 0, XS_WATCH, 0, P("/t\0x"), ERR("EINVAL") },
    { "unwatch unknown", 0, XS_UNWATCH, 0, P("/t\0x\0"), ERR("ENOENT") },
    { "unwatch no token", 0, XS_UNWATCH, 0, P("/t\0"), ERR("EINVAL") },
    { "reset watches", 1, XS_RESET_WATCHES, 0, P("\0"),
      OK(XS_RESET_WATCHES) },
    { "reset watches empty", 1, XS_RESET_WATCHES, 0, P(""),
      OK(XS_RESET_WATCHES) },
    /* transactions */
    { "start", 1, XS_TRANSACTION_START, 0, P("\0"), XS_TRANSACTION_START,
      P("1\0") },
    { "start within unknown", 1, XS_TRANSACTION_START, 4, P("\0"),
      ERR("ENOENT") },
    { "end without", 1, XS_TRANSACTION_END, 0, P("T\0"), ERR("ENOENT") },
    { "end unknown", 1, XS_TRANSACTION_END, 5, P("T\0"), ERR("ENOENT") },
    { "end bad word", 1, XS_TRANSACTION_END, 0, P("X\0"), ERR("EINVAL") },
    { "end two words", 1, XS_TRANSACTION_END, 0, P("T\0F\0"), ERR("EINVAL") },
    /* domains */
    { "domain path", 1, XS_GET_DOMAIN_PATH, 0, P("7\0"), XS_GET_DOMAIN_PATH,
      P("/local/domain/7\0") },
    { "domain path bad", 1, XS_GET_DOMAIN_PATH, 0, P("-7\0"), ERR("EINVAL") },
    { "domain path no NUL", 1, XS_GET_DOMAIN_PATH, 0, P("7"), ERR("EINVAL") },
    { "is introduced", 1, XS_IS_DOMAIN_INTRODUCED, 0, P("1\0"),
      XS_IS_DOMAIN_INTRODUCED, P("T\0") },
    { "is not introduced", 1, XS_IS_DOMAIN_INTRODUCED, 0, P("9\0"),
      XS_IS_DOMAIN_INTRODUCED, P("F\0") },
    { "is introduced oneself", 1, XS_IS_DOMAIN_INTRODUCED, 0, P("32752\0"),
      XS_IS_DOMAIN_INTRODUCED, P("T\0") },
    { "is introduced reserved", 1, XS_IS_DOMAIN_INTRODUCED, 0, P("32753\0"),
      ERR("EINVAL") },
    { "is introduced two", 1, XS_IS_DOMAIN_INTRODUCED, 0, P("1\0" "2\0"),
      ERR("EINVAL") },
    { "introduce", 0, XS_INTRODUCE, 0, P("9\0" "1\0" "2\0"),
      OK(XS_INTRODUCE) },
    { "introduce two words", 0, XS_INTRODUCE, 0, P("9\0" "1\0"),
      ERR("EINVAL") },
    { "introduce refused", 1, XS_INTRODUCE, 0, P("9\0" "1\0" "2\0"),
      ERR("EACCES") },
    { "release", 0, XS_RELEASE, 0, P("3\0"), OK(XS_RELEASE) },
    { "release unknown", 0, XS_RELEASE, 0, P("9\0"), ERR("ENOENT") },
    { "release domain 0", 0, XS_RELEASE, 0, P("0\0"), ERR("EINVAL") },
    { "release refused", 1, XS_RELEASE, 0, P("2\0"), ERR("EACCES") },
    { "resume", 0, XS_RESUME, 0, P("1\0"), OK(XS_RESUME) },
    { "resume unknown", 0, XS_RESUME, 0, P("9\0"), ERR("ENOENT") },
    { "resume refused", 1, XS_RESUME, 0, P("1\0"), ERR("EACCES") },
    /* the rest */
    { "control", 0, XS_CONTROL, 0, P("help\0"), XS_CONTROL,
      P("commands: help\n\0") },
    { "control unknown", 0, XS_CONTROL, 0, P("quota\0"), ERR("EINVAL") },
    { "control empty", 0, XS_CONTROL, 0, P(""), ERR("EINVAL") },
    { "control no NUL", 0, XS_CONTROL, 0, P("help"), ERR("EINVAL") },
    { "control refused", 1, XS_CONTROL, 0, P("help\0"), ERR("EACCES") },
    { "set target", 0, XS_SET_TARGET, 0, P("1\0" "2\0"), ERR("ENOSYS") },
    { "type of a hole", 0, XS_SET_TARGET + 1, 0, P("1\0"), ERR("ENOSYS") },
    { "type past the end", 0, XS_TYPE_COUNT, 0, P(""), ERR("ENOSYS") },
    { "type invalid", 0, XS_INVALID, 0, P(""), ERR("ENOSYS") },
    { "type of all ones", 0, UINT32_MAX, 0, P(""), ERR("ENOSYS") },
    { "an event from a client", 0, XS_WATCH_EVENT, 0, P("/t\0x\0"),
      ERR("ENOSYS") },
    { "an error from a client", 0, XS_ERROR, 0, P("EIO\0"), ERR("ENOSYS") },
};

static struct world
standard_world(void)
{
    struct world w = world_new(NULL);

    EXPECT_EQ(put(w.dom[0], 0, "/t/a", "one"), 0);
    EXPECT_EQ(put(w.dom[0], 0, "/t/b", "two"), 0);
    return w;
}

/* Feeds one row, in two pieces cut at @cut, and compares the answer. */
static void
run_row(const struct row *row, size_t cut)
{
    struct world w = standard_world();
    struct fh_xs_conn *conn = w.dom[row->domid];
    char bytes[256];
    struct answer a;
    size_t n = make_request(bytes, row->type, 5, row->tx, row->payload, row->n);

    if (cut > n)
        cut = n;
    EXPECT_EQ(fh_xs_conn_input(conn, bytes, cut), 0, "%s", row->name);
    if (cut < n) {
        EXPECT(!take_answer(conn, &a), "%s: answered early", row->name);
        EXPECT_EQ(fh_xs_conn_input(conn, bytes + cut, n - cut), 0, "%s",
                  row->name);
    }
    EXPECT(take_answer(conn, &a), "%s: no answer", row->name);
    EXPECT_EQ(a.header.type, row->want_type, "%s: %s", row->name, a.payload);
    EXPECT_EQ(a.header.req_id, 5, "%s", row->name);
    EXPECT_EQ(a.header.tx_id, row->tx, "%s", row->name);
    EXPECT_EQ(a.header.len, row->n_want, "%s: %s", row->name, a.payload);
    EXPECT(memcmp(a.payload, row->want, row->n_want) == 0, "%s: got %s",
           row->name, a.payload);
    EXPECT(!take_answer(conn, &a), "%s: answered twice", row->name);
    world_free(&w);
}

static void
wire__every_operation_answers_as_specified(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        run_row(&rows[i], SIZE_MAX);
}

static void
wire__a_request_may_be_cut_anywhere(void **state)
{
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        for (size_t cut = 0; cut < 16 + rows[i].n; cut++)
            run_row(&rows[i], cut);
}

static void
wire__requests_in_one_piece_are_answered_in_order(void **state)
{
    struct world w = standard_world();
    char bytes[1024];
    size_t n = 0;
    struct answer a;

    for (uint32_t i = 0; i < 10; i++)
        n += make_request(bytes + n, i % 2 ? XS_READ : XS_DIRECTORY, i, 0,
                          "/t/a", 5);
    /* Byte by byte, all in a row. */
    for (size_t i = 0; i < n; i++)
        EXPECT_EQ(fh_xs_conn_input(w.dom[0], bytes + i, 1), 0);
    for (uint32_t i = 0; i < 10; i++) {
        EXPECT(take_answer(w.dom[0], &a), "answer %u", i);
        EXPECT_EQ(a.header.req_id, i);
        EXPECT_EQ(a.header.type, i % 2 ? XS_READ : XS_DIRECTORY);
    }
    EXPECT(!take_answer(w.dom[0], &a));
    world_free(&w);
}

static void
wire__output_may_be_taken_byte_by_byte(void **state)
{
    struct world w = standard_world();
    char bytes[64];
    char got[64];
    struct iovec iov;
    size_t n = 0;

    EXPECT_EQ(fh_xs_conn_input(w.dom[0], bytes,
                               make_request(bytes, XS_READ, 1, 0, "/t/a", 5)),
              0);
    while (fh_xs_conn_peek(w.dom[0], &iov, 1)) {
        got[n++] = *(char *)iov.iov_base;
        fh_xs_conn_consume(w.dom[0], 1);
    }
    EXPECT_EQ(n, 16 + 3);
    EXPECT(memcmp(got + 16, "one", 3) == 0);
    world_free(&w);
}

static const uint32_t bad_lengths[] = { XENSTORE_PAYLOAD_MAX + 1, 0x7fffffff,
                                        0x80000000, UINT32_MAX };

static void
wire__an_overlong_payload_ends_only_that_connection(void **state)
{
    for (size_t i = 0; i < sizeof(bad_lengths) / sizeof(bad_lengths[0]); i++) {
        struct world w = standard_world();
        const struct xsd_sockmsg header = { .type = XS_READ,
                                            .len = bad_lengths[i] };
        struct answer a;

        EXPECT_EQ(fh_xs_conn_input(w.dom[1], &header, sizeof(header)),
                  FH_XS_E_PROTOCOL, "length %u", bad_lengths[i]);
        EXPECT_EQ(fh_xs_conn_status(w.dom[1]), FH_XS_E_PROTOCOL);
        EXPECT_EQ(fh_xs_conn_room(w.dom[1]), 0);
        EXPECT_EQ(fh_xs_conn_input(w.dom[1], "x", 1), FH_XS_E_PROTOCOL);
        EXPECT(!take_answer(w.dom[1], &a));
        a = ASK(w.dom[2], XS_READ, 0, "name\0");
        EXPECT_EQ(a.header.type, XS_READ);
        world_free(&w);
    }
}

static void
wire__the_longest_payload_is_taken(void **state)
{
    struct world w = standard_world();
    char payload[XENSTORE_PAYLOAD_MAX];
    struct answer a;

    memset(payload, 'x', sizeof(payload));
    memcpy(payload, "/t/a", 5);
    a = ask(w.dom[0], XS_WRITE, 0, payload, sizeof(payload));
    EXPECT_EQ(a.header.type, XS_WRITE);
    a = ASK(w.dom[0], XS_READ, 0, "/t/a\0");
    EXPECT_EQ(a.header.len, sizeof(payload) - 5);
    /* No NUL in 4096 bytes of anything. */
    memset(payload, '/', sizeof(payload));
    for (uint32_t type = 0; type < XS_TYPE_COUNT + 2; type++) {
        if (type == XS_TRANSACTION_START || type == XS_RESET_WATCHES)
            continue; /* their payload does not matter */
        a = ask(w.dom[0], type, 0, payload, sizeof(payload));
        EXPECT_EQ(a.header.type, XS_ERROR, "type %u", type);
    }
    world_free(&w);
}

static void
wire__more_input_than_room_is_refused(void **state)
{
    struct world w = standard_world();
    char bytes[16384] = { 0 };
    size_t room = fh_xs_conn_room(w.dom[1]);

    EXPECT(room < sizeof(bytes));
    EXPECT_EQ(fh_xs_conn_input(w.dom[1], bytes, room + 1), FH_EINVAL);
    EXPECT_EQ(fh_xs_conn_status(w.dom[1]), 0);
    world_free(&w);
}

/* Reads a directory by parts, as libxenstore does. */
static size_t
read_by_parts(struct fh_xs_conn *conn, const char *path, char *out,
              const char **gen)
{
    static char first_gen[32];
    size_t at = 0;

    for (;;) {
        char payload[128];
        struct answer a;
        size_t n_gen;
        int n = snprintf(payload, sizeof(payload), "%s%c%zu", path, 0, at);

        a = ask(conn, XS_DIRECTORY_PART, 0, payload, (size_t)n + 1);
        EXPECT_EQ(a.header.type, XS_DIRECTORY_PART);
        n_gen = strlen(a.payload) + 1;
        if (at == 0)
            strcpy(first_gen, a.payload);
        EXPECT(strcmp(first_gen, a.payload) == 0, "same generation");
        memcpy(out + at, a.payload + n_gen, a.header.len - n_gen);
        at += a.header.len - n_gen;
        if (a.payload[a.header.len - 1] == '\0' &&
            (a.header.len - n_gen < 2 || !a.payload[a.header.len - 2]))
            break;
    }
    *gen = first_gen;
    return at - 1;
}

static void
directory_part__gives_what_directory_cannot(void **state)
{
    struct world w = standard_world();
    static char got[32768];
    const char *gen;
    char old_gen[32];
    struct answer a;
    size_t n;
    size_t at = 0;

    for (int i = 0; i < 900; i++) {
        char path[64];

        (void)snprintf(path, sizeof(path), "/big/name-%04d", i);
        EXPECT_EQ(put(w.dom[0], 0, path, ""), 0);
    }
    a = ASK(w.dom[0], XS_DIRECTORY, 0, "/big\0");
    EXPECT(strcmp(a.payload, "E2BIG") == 0, "%s", a.payload);
    n = read_by_parts(w.dom[0], "/big", got, &gen);
    strcpy(old_gen, gen);
    EXPECT_EQ(n, 900 * 10);
    for (int i = 0; i < 900; i++, at += 10) {
        char name[24];

        (void)snprintf(name, sizeof(name), "name-%04d", i);
        EXPECT(strcmp(got + at, name) == 0, "%s is not %s", got + at, name);
    }
    EXPECT_EQ(put(w.dom[0], 0, "/big/one-more", ""), 0);
    (void)read_by_parts(w.dom[0], "/big", got, &gen);
    EXPECT(strcmp(old_gen, gen) != 0, "a new child changes the generation");
    world_free(&w);
}

static void
directory_part__ends_with_an_empty_name(void **state)
{
    struct world w = standard_world();
    struct answer a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/t\0" "0\0");
    size_t n_gen = strlen(a.payload) + 1;

    EXPECT_EQ(a.header.len, n_gen + 5);
    EXPECT(memcmp(a.payload + n_gen, "a\0b\0", 5) == 0);
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/t\0" "4\0");
    EXPECT_EQ(a.header.len, n_gen + 1);
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/t\0" "400000000\0");
    EXPECT_EQ(a.header.len, n_gen + 1);
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/t\0" "99999999999999999999\0");
    EXPECT(strcmp(a.payload, "EINVAL") == 0);
    world_free(&w);
}

/* Names that fill an answer to the byte, and one byte more. */
static void
directory__holds_4096_bytes_of_names(void **state)
{
    struct world w = standard_world();
    struct answer a;
    char path[64];
    size_t n_gen;

    for (int i = 0; i < 256; i++) {
        (void)snprintf(path, sizeof(path), "/full/fifteen-wit-%03d", i);
        EXPECT_EQ(put(w.dom[0], 0, path, ""), 0);
    }
    a = ASK(w.dom[0], XS_DIRECTORY, 0, "/full\0");
    EXPECT_EQ(a.header.type, XS_DIRECTORY);
    EXPECT_EQ(a.header.len, 4096);
    EXPECT_EQ(put(w.dom[0], 0, "/full/x", ""), 0);
    a = ASK(w.dom[0], XS_DIRECTORY, 0, "/full\0");
    EXPECT(strcmp(a.payload, "E2BIG") == 0, "%s", a.payload);
    /* A part: its generation, as many names as fit, no end. */
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/full\0" "0\0");
    n_gen = strlen(a.payload) + 1;
    EXPECT_EQ(a.header.len, n_gen + (4096 - n_gen - 1) / 16 * 16);
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/full\0" "4096\0");
    EXPECT_EQ(a.header.len, n_gen + 3);
    a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/full\0" "4098\0");
    EXPECT_EQ(a.header.len, n_gen + 1);
    world_free(&w);
}

/* The longest name for which a part and its end just fit. */
static void
directory_part__fits_to_the_byte(void **state)
{
    struct fh_xs_limits limits = fh_xs_limits_default();
    struct world w;
    static char path[4096];

    limits.path_rel_bytes = 4000;
    w = world_new(&limits);
    for (size_t extra = 0; extra < 2; extra++) {
        struct answer a;
        size_t n_gen;

        EXPECT_EQ(fh_xs_mkdir(w.dom[0], 0, "/f"), 0);
        a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/f\0" "0\0");
        n_gen = strlen(a.payload) + 1; /* of as many digits below */
        memcpy(path, "/f/", 3);
        memset(path + 3, 'a', sizeof(path) - 3);
        path[3 + 3000] = '\0';
        EXPECT_EQ(put(w.dom[0], 0, path, ""), 0);
        path[3 + 4096 - n_gen - 1 - 3001 - 1 + extra] = '\0';
        EXPECT_EQ(put(w.dom[0], 0, path, ""), 0);
        a = ASK(w.dom[0], XS_DIRECTORY_PART, 0, "/f\0" "0\0");
        EXPECT_EQ(strlen(a.payload) + 1, n_gen);
        EXPECT_EQ(a.header.len, extra ? n_gen + 3001 : 4096);
        EXPECT_EQ(fh_xs_rm(w.dom[0], 0, "/f"), 0);
    }
    world_free(&w);
}

static void
directory_part__shows_a_transactions_own_generation(void **state)
{
    struct world w = standard_world();
    struct answer outside = ASK(w.dom[0], XS_DIRECTORY_PART, 0,
                                "/t\0" "0\0");
    struct answer inside;
    struct answer later;

    (void)ASK(w.dom[0], XS_TRANSACTION_START, 0, "\0");
    inside = ASK(w.dom[0], XS_DIRECTORY_PART, 1, "/t\0" "0\0");
    EXPECT(strcmp(outside.payload, inside.payload) == 0);
    EXPECT_EQ(put(w.dom[0], 1, "/t/new", ""), 0);
    later = ASK(w.dom[0], XS_DIRECTORY_PART, 1, "/t\0" "0\0");
    EXPECT(strcmp(later.payload, inside.payload) != 0);
    inside = ASK(w.dom[0], XS_DIRECTORY_PART, 1, "/t/new\0" "0\0");
    EXPECT(strcmp(inside.payload, "0") != 0);
    world_free(&w);
}

/* What a direct call can make and the wire cannot carry. */
static void
wire__too_much_for_an_answer_is_an_error(void **state)
{
    struct world w = standard_world();
    static char data[4097];
    static const char *perms[1200];
    struct answer a;

    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/t/a", data, 4096), 0);
    a = ASK(w.dom[0], XS_READ, 0, "/t/a\0");
    EXPECT_EQ(a.header.len, 4096);
    EXPECT_EQ(fh_xs_write(w.dom[0], 0, "/t/a", data, 4097), 0);
    a = ASK(w.dom[0], XS_READ, 0, "/t/a\0");
    EXPECT(strcmp(a.payload, "E2BIG") == 0, "%s", a.payload);
    for (size_t i = 0; i < 1200; i++)
        perms[i] = "n0";
    EXPECT_EQ(fh_xs_set_perms(w.dom[0], 0, "/t/a", perms, 1200), 0);
    a = ASK(w.dom[0], XS_GET_PERMS, 0, "/t/a\0");
    EXPECT_EQ(a.header.len, 3600);
    world_free(&w);
}

static void
watch__is_acknowledged_before_it_fires(void **state)
{
    struct world w = standard_world();
    struct answer a = ASK(w.dom[0], XS_WATCH, 0, "/t\0token\0");

    EXPECT_EQ(a.header.type, XS_WATCH);
    EXPECT(take_answer(w.dom[0], &a));
    EXPECT_EQ(a.header.type, XS_WATCH_EVENT);
    EXPECT_EQ(a.header.req_id, 0);
    EXPECT_EQ(a.header.len, 9);
    EXPECT(memcmp(a.payload, "/t\0token", 9) == 0);
    a = ASK(w.dom[0], XS_WATCH, 0, "/t\0token\0");
    EXPECT(strcmp(a.payload, "EEXIST") == 0);
    a = ASK(w.dom[0], XS_UNWATCH, 0, "/t\0token\0");
    EXPECT_EQ(a.header.type, XS_UNWATCH);
    world_free(&w);
}

static void
release__closes_the_domains_connections(void **state)
{
    struct world w = standard_world();
    struct answer a = ASK(w.dom[0], XS_RELEASE, 0, "3\0");

    EXPECT_EQ(a.header.type, XS_RELEASE);
    EXPECT_EQ(fh_xs_conn_status(w.dom[3]), FH_XS_E_RELEASED);
    EXPECT_EQ(fh_xs_conn_room(w.dom[3]), 0);
    EXPECT_EQ(fh_xs_conn_status(w.dom[2]), 0);
    world_free(&w);
}

static void
start__is_refused_within_a_transaction(void **state)
{
    struct world w = standard_world();
    struct answer a = ASK(w.dom[1], XS_TRANSACTION_START, 0, "\0");

    EXPECT(strcmp(a.payload, "1") == 0);
    a = ASK(w.dom[1], XS_TRANSACTION_START, 1, "\0");
    EXPECT(strcmp(a.payload, "EBUSY") == 0, "%s", a.payload);
    /* A bad word does not end it. */
    a = ASK(w.dom[1], XS_TRANSACTION_END, 1, "X\0");
    EXPECT(strcmp(a.payload, "EINVAL") == 0, "%s", a.payload);
    a = ASK(w.dom[1], XS_TRANSACTION_END, 1, "T\0");
    EXPECT_EQ(a.header.type, XS_TRANSACTION_END);
    /* Somebody else's id is no id. */
    a = ASK(w.dom[1], XS_TRANSACTION_START, 0, "\0");
    EXPECT(strcmp(a.payload, "2") == 0, "%s", a.payload);
    a = ASK(w.dom[2], XS_TRANSACTION_END, 2, "T\0");
    EXPECT(strcmp(a.payload, "ENOENT") == 0, "%s", a.payload);
    world_free(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wire__every_operation_answers_as_specified),
        cmocka_unit_test(wire__a_request_may_be_cut_anywhere),
        cmocka_unit_test(wire__requests_in_one_piece_are_answered_in_order),
        cmocka_unit_test(wire__output_may_be_taken_byte_by_byte),
        cmocka_unit_test(wire__an_overlong_payload_ends_only_that_connection),
        cmocka_unit_test(wire__the_longest_payload_is_taken),
        cmocka_unit_test(wire__more_input_than_room_is_refused),
        cmocka_unit_test(directory_part__gives_what_directory_cannot),
        cmocka_unit_test(directory_part__ends_with_an_empty_name),
        cmocka_unit_test(directory__holds_4096_bytes_of_names),
        cmocka_unit_test(directory_part__fits_to_the_byte),
        cmocka_unit_test(directory_part__shows_a_transactions_own_generation),
        cmocka_unit_test(wire__too_much_for_an_answer_is_an_error),
        cmocka_unit_test(watch__is_acknowledged_before_it_fires),
        cmocka_unit_test(release__closes_the_domains_connections),
        cmocka_unit_test(start__is_refused_within_a_transaction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
