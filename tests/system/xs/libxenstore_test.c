/* SPDX-License-Identifier: MIT */
/*
 * The system's own libxenstore against the server, by XENSTORED_PATH: what
 * backends, frontends and tools do with it, with several clients at a time.
 *
 * usage: libxenstore_test XS_STUB_SERVER
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xenstore.h>

#include "tests/unit/expect.h"

static const char *server;
static char dir[] = "/tmp/fh-xs-XXXXXX";
static pid_t server_pid;
static int server_in;

static int
start_server(void **state)
{
    int in[2];
    int out[2];
    char ready[8];

    if (!mkdtemp(dir) || pipe(in) || pipe(out))
        return -1;
    server_pid = fork();
    if (server_pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[1]);
        execl(server, server, dir, "0", "1", "2", (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_in = in[1];
    return read(out[0], ready, sizeof(ready)) > 0 ? 0 : -1;
}

/* Its exit status is part of the test: no leak, no assertion. */
static int
stop_server(void **state)
{
    char path[64];
    int status = -1;

    close(server_in);
    if (waitpid(server_pid, &status, 0) != server_pid)
        return -1;
    for (int i = 0; i < 3; i++) {
        (void)snprintf(path, sizeof(path), "%s/%d", dir, i);
        (void)unlink(path);
    }
    (void)rmdir(dir);
    return status == 0 ? 0 : -1;
}

static struct xs_handle *
client_of(unsigned domid)
{
    char path[64];
    struct xs_handle *xs;

    (void)snprintf(path, sizeof(path), "%s/%u", dir, domid);
    setenv("XENSTORED_PATH", path, 1);
    xs = xs_open(0);
    assert_non_null(xs);
    return xs;
}

static bool
put(struct xs_handle *xs, xs_transaction_t t, const char *path,
    const char *text)
{
    return xs_write(xs, t, path, text, (unsigned)strlen(text));
}

static void
expect_text(struct xs_handle *xs, xs_transaction_t t, const char *path,
            const char *want)
{
    unsigned n = 0;
    char *got = xs_read(xs, t, path, &n);

    EXPECT(got, "%s: %s", path, strerror(errno));
    EXPECT_EQ(n, strlen(want), "%s", path);
    EXPECT(memcmp(got, want, n) == 0, "%s", path);
    free(got);
}

static void
libxenstore__reads_writes_lists_and_removes(void **state)
{
    struct xs_handle *xs = client_of(0);
    char **names;
    unsigned n;
    char path[64];

    EXPECT(put(xs, XBT_NULL, "/t/a", "one"));
    expect_text(xs, XBT_NULL, "/t/a", "one");
    EXPECT(xs_mkdir(xs, XBT_NULL, "/t/dir"));
    names = xs_directory(xs, XBT_NULL, "/t", &n);
    EXPECT_EQ(n, 2);
    EXPECT(strcmp(names[0], "a") == 0 && strcmp(names[1], "dir") == 0);
    free(names);
    for (int i = 0; i < 1000; i++) {
        (void)snprintf(path, sizeof(path), "/t/big/some-name-%d", i);
        EXPECT(put(xs, XBT_NULL, path, "x"));
    }
    names = xs_directory(xs, XBT_NULL, "/t/big", &n);
    EXPECT_EQ(n, 1000);
    EXPECT(strcmp(names[999], "some-name-999") == 0);
    free(names);
    EXPECT(xs_rm(xs, XBT_NULL, "/t"));
    EXPECT(!xs_read(xs, XBT_NULL, "/t/a", &n));
    EXPECT_EQ(errno, ENOENT);
    EXPECT(!xs_rm(xs, XBT_NULL, "/t/a/b"));
    EXPECT_EQ(errno, ENOENT);
    xs_close(xs);
}

static void
libxenstore__permissions_and_domains(void **state)
{
    struct xs_handle *zero = client_of(0);
    struct xs_handle *one = client_of(1);
    struct xs_permissions perms[2] = { { 0, XS_PERM_NONE },
                                       { 1, XS_PERM_READ } };
    struct xs_permissions *got;
    char *path;
    unsigned n;

    EXPECT(put(zero, XBT_NULL, "/p/a", "one"));
    EXPECT(!xs_read(one, XBT_NULL, "/p/a", &n));
    EXPECT_EQ(errno, EACCES);
    EXPECT(xs_set_permissions(zero, XBT_NULL, "/p/a", perms, 2));
    expect_text(one, XBT_NULL, "/p/a", "one");
    EXPECT(!put(one, XBT_NULL, "/p/a", "two"));
    EXPECT_EQ(errno, EACCES);
    got = xs_get_permissions(one, XBT_NULL, "/p/a", &n);
    EXPECT_EQ(n, 2);
    EXPECT_EQ(got[1].id, 1);
    EXPECT_EQ(got[1].perms, XS_PERM_READ);
    free(got);
    path = xs_get_domain_path(one, 1);
    EXPECT(strcmp(path, "/local/domain/1") == 0);
    free(path);
    EXPECT(xs_is_domain_introduced(one, 1));
    EXPECT(!xs_is_domain_introduced(one, 77));
    EXPECT(xs_introduce_domain(zero, 77, 1, 1));
    EXPECT(xs_is_domain_introduced(one, 77));
    EXPECT(xs_resume_domain(zero, 77));
    EXPECT(xs_release_domain(zero, 77));
    EXPECT(!xs_is_domain_introduced(one, 77));
    EXPECT(!xs_introduce_domain(one, 78, 1, 1));
    EXPECT_EQ(errno, EACCES);
    EXPECT(!xs_set_target(zero, 1, 2));
    EXPECT_EQ(errno, ENOSYS);
    xs_close(zero);
    xs_close(one);
}

/* Reads events until one has this token; the path in @path. */
static void
await(struct xs_handle *xs, const char *token, char *path, size_t size)
{
    for (;;) {
        unsigned n;
        char **event = xs_read_watch(xs, &n);
        bool found;

        EXPECT(event && n == 2);
        found = strcmp(event[XS_WATCH_TOKEN], token) == 0;
        (void)snprintf(path, size, "%s", event[XS_WATCH_PATH]);
        free(event);
        if (found)
            return;
    }
}

static void
libxenstore__watches(void **state)
{
    struct xs_handle *zero = client_of(0);
    struct xs_handle *one = client_of(1);
    struct pollfd pfd = { .events = POLLIN };
    char path[128];

    EXPECT(xs_watch(one, "data", "rel"));
    EXPECT(xs_watch(zero, "/local/domain/1/data", "abs"));
    await(one, "rel", path, sizeof(path));
    EXPECT(strcmp(path, "data") == 0);
    await(zero, "abs", path, sizeof(path));
    EXPECT(put(one, XBT_NULL, "data/x", "1"));
    await(one, "rel", path, sizeof(path));
    EXPECT(strcmp(path, "data/x") == 0, "%s", path);
    await(zero, "abs", path, sizeof(path));
    EXPECT(strcmp(path, "/local/domain/1/data/x") == 0, "%s", path);
    pfd.fd = xs_fileno(zero);
    EXPECT(put(one, XBT_NULL, "data/y", "1"));
    EXPECT_EQ(poll(&pfd, 1, 5000), 1);
    EXPECT(xs_watch(zero, "@releaseDomain", "gone"));
    await(zero, "gone", path, sizeof(path));
    EXPECT(xs_introduce_domain(zero, 88, 1, 1));
    EXPECT(xs_release_domain(zero, 88));
    await(zero, "gone", path, sizeof(path));
    EXPECT(strcmp(path, "@releaseDomain") == 0);
    EXPECT(xs_unwatch(zero, "@releaseDomain", "gone"));
    EXPECT(xs_unwatch(one, "data", "rel"));
    EXPECT(!xs_unwatch(one, "data", "rel"));
    xs_close(zero);
    xs_close(one);
}

static void
libxenstore__transactions(void **state)
{
    struct xs_handle *a = client_of(0);
    struct xs_handle *b = client_of(0);
    xs_transaction_t t = xs_transaction_start(a);
    unsigned n;

    EXPECT(t != XBT_NULL);
    EXPECT(put(a, t, "/tx/a", "1"));
    EXPECT(!xs_read(b, XBT_NULL, "/tx/a", &n));
    EXPECT(xs_transaction_end(a, t, false));
    expect_text(b, XBT_NULL, "/tx/a", "1");
    t = xs_transaction_start(a);
    expect_text(a, t, "/tx/a", "1");
    EXPECT(put(b, XBT_NULL, "/tx/a", "2"));
    EXPECT(put(a, t, "/tx/b", "2"));
    EXPECT(!xs_transaction_end(a, t, false));
    EXPECT_EQ(errno, EAGAIN);
    EXPECT(!xs_read(b, XBT_NULL, "/tx/b", &n));
    t = xs_transaction_start(a);
    EXPECT(put(a, t, "/tx/b", "2"));
    EXPECT(xs_transaction_end(a, t, true)); /* abort */
    EXPECT(!xs_read(b, XBT_NULL, "/tx/b", &n));
    xs_close(a);
    xs_close(b);
}

enum { N_THREADS = 8, N_INCREMENTS = 50 };

static void *
increment(void *arg)
{
    struct xs_handle *xs = arg;

    for (int i = 0; i < N_INCREMENTS; i++) {
        for (;;) {
            xs_transaction_t t = xs_transaction_start(xs);
            char text[16];
            unsigned n;
            char *old = xs_read(xs, t, "/counter", &n);

            (void)snprintf(text, sizeof(text), "%d", (old ? atoi(old) : 0) + 1);
            free(old);
            (void)put(xs, t, "/counter", text);
            if (xs_transaction_end(xs, t, false))
                break;
        }
    }
    return NULL;
}

static void
libxenstore__concurrent_transactions_lose_nothing(void **state)
{
    struct xs_handle *xs[N_THREADS];
    pthread_t threads[N_THREADS];
    char want[16];

    for (int i = 0; i < N_THREADS; i++)
        xs[i] = client_of(0);
    EXPECT(put(xs[0], XBT_NULL, "/counter", "0"));
    for (int i = 0; i < N_THREADS; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, increment, xs[i]), 0);
    for (int i = 0; i < N_THREADS; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    (void)snprintf(want, sizeof(want), "%d", N_THREADS * N_INCREMENTS);
    expect_text(xs[0], XBT_NULL, "/counter", want);
    for (int i = 0; i < N_THREADS; i++)
        xs_close(xs[i]);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(libxenstore__reads_writes_lists_and_removes),
        cmocka_unit_test(libxenstore__permissions_and_domains),
        cmocka_unit_test(libxenstore__watches),
        cmocka_unit_test(libxenstore__transactions),
        cmocka_unit_test(libxenstore__concurrent_transactions_lose_nothing),
    };

    if (argc != 2) {
        fprintf(stderr, "usage: libxenstore_test XS_STUB_SERVER\n");
        return 2;
    }
    server = argv[1];
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
