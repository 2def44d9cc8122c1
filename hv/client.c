/* SPDX-License-Identifier: MIT */
/* See client.h. */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "hv/client.h"

static _Thread_local char error_text[256];

const char *
fh_hvctl_error(void)
{
    return error_text;
}

static int
fail(int error, const char *what, const char *detail)
{
    snprintf(error_text, sizeof(error_text), "%s%s%s", what,
             detail ? ": " : "", detail ? detail : "");
    return error;
}

int
fh_hvctl_run_dir(char *buf, size_t size)
{
    const char *set = getenv("FREEHOLD_RUN_DIR");
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    int n;

    if (set && *set)
        n = snprintf(buf, size, "%s", set);
    else if (geteuid() == 0)
        n = snprintf(buf, size, "/run/freehold/hv");
    else if (xdg && *xdg)
        n = snprintf(buf, size, "%s/freehold/hv", xdg);
    else
        n = snprintf(buf, size, "/tmp/freehold-%u/hv", (unsigned)geteuid());
    if (n < 0 || (size_t)n >= size)
        return fail(FH_ERANGE, "the run directory's name is too long", NULL);
    return 0;
}

static int
ctl_connect(const char *run_dir, int *out)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    char dir[512];

    if (!run_dir) {
        int r = fh_hvctl_run_dir(dir, sizeof(dir));

        if (r)
            return r;
        run_dir = dir;
    }
    if ((size_t)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/control",
                         run_dir) >= sizeof(addr.sun_path))
        return fail(FH_ERANGE, "the run directory's name is too long", NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return fail(-errno, "socket", strerror(errno));
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        int r = fail(-errno, addr.sun_path, strerror(errno));

        close(fd);
        return r;
    }
    *out = fd;
    return 0;
}

/* Reads until a newline; the text without it, to be freed, or NULL. */
static char *
line_read(int fd)
{
    size_t size = 65536, n = 0;
    char *buf = malloc(size);

    while (buf) {
        ssize_t r = read(fd, buf + n, size - n);

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            break;
        n += (size_t)r;
        if (buf[n - 1] == '\n') {
            buf[n - 1] = '\0';
            return buf;
        }
        if (n < size)
            continue;
        size *= 2;
        char *more = realloc(buf, size);

        if (!more)
            break;
        buf = more;
    }
    free(buf);
    return NULL;
}

static int
answer_judge(struct json_object *answer)
{
    struct json_object *v;
    int error = EPROTO;

    if (json_object_object_get_ex(answer, "ok", &v) &&
        json_object_get_boolean(v))
        return 0;
    if (json_object_object_get_ex(answer, "errno", &v))
        error = json_object_get_int(v);
    if (json_object_object_get_ex(answer, "error", &v))
        return fail(-error, json_object_get_string(v), NULL);
    return fail(-error, "not an answer of fhv", NULL);
}

/* Sends @req (taken over) on @fd and reads the answer. */
static int
ctl_ask(int fd, struct json_object *req, struct json_object **out)
{
    const char *text =
        json_object_to_json_string_ext(req, JSON_C_TO_STRING_PLAIN);
    struct json_object *answer;
    int r;

    r = send(fd, text, strlen(text), MSG_NOSIGNAL) < 0 ||
        send(fd, "\n", 1, MSG_NOSIGNAL) < 0;
    json_object_put(req);
    char *line = r ? NULL : line_read(fd);

    if (!line)
        return fail(FH_EPIPE, "fhv went away", NULL);
    answer = json_tokener_parse(line);
    free(line);
    r = answer_judge(answer);
    if (r)
        json_object_put(answer);
    else
        *out = answer;
    return r;
}

/* Asks @op with the arguments in @req, which is taken over. */
static int
ctl_call(const char *run_dir, const char *op, struct json_object *req,
         struct json_object **out)
{
    int fd, r;

    r = ctl_connect(run_dir, &fd);
    if (r) {
        json_object_put(req);
        return r;
    }
    json_object_object_add(req, "op", json_object_new_string(op));
    r = ctl_ask(fd, req, out);
    close(fd);
    return r;
}

static const char *
get_string(struct json_object *o, const char *key)
{
    struct json_object *v;

    return json_object_object_get_ex(o, key, &v) ? json_object_get_string(v)
                                                 : "";
}

static void
domain_read(struct json_object *o, struct fh_hvctl_domain *out)
{
    *out = (struct fh_hvctl_domain){ 0 };
    out->domid = (uint16_t)atoi(get_string(o, "domid"));
    out->uid = (uid_t)strtoul(get_string(o, "uid"), NULL, 10);
    out->id = strtoull(get_string(o, "id"), NULL, 10);
    snprintf(out->name, sizeof(out->name), "%s", get_string(o, "name"));
    snprintf(out->hypercall, sizeof(out->hypercall), "%s",
             get_string(o, "hypercall"));
    snprintf(out->xenstore, sizeof(out->xenstore), "%s",
             get_string(o, "xenstore"));
}

int
fh_hvctl_create(const char *run_dir, int domid, const char *name,
                struct fh_hvctl_domain *out)
{
    struct json_object *req = json_object_new_object();
    struct json_object *answer, *dom;
    int r;

    if (domid >= 0)
        json_object_object_add(req, "domid", json_object_new_int(domid));
    if (name)
        json_object_object_add(req, "name", json_object_new_string(name));
    r = ctl_call(run_dir, "create", req, &answer);
    if (r)
        return r;
    if (json_object_object_get_ex(answer, "domain", &dom))
        domain_read(dom, out);
    else
        r = fail(FH_EPROTO, "not an answer of fhv", NULL);
    json_object_put(answer);
    return r;
}

int
fh_hvctl_destroy(const char *run_dir, const char *domain)
{
    struct json_object *req = json_object_new_object();
    struct json_object *answer;
    int r;

    json_object_object_add(req, "domain", json_object_new_string(domain));
    r = ctl_call(run_dir, "destroy", req, &answer);
    if (!r)
        json_object_put(answer);
    return r;
}

int
fh_hvctl_status(const char *run_dir, struct json_object **out)
{
    return ctl_call(run_dir, "status", json_object_new_object(), out);
}

int
fh_hvctl_stats(const char *run_dir, const char *domain,
               struct json_object **out)
{
    struct json_object *req = json_object_new_object();

    json_object_object_add(req, "domain", json_object_new_string(domain));
    return ctl_call(run_dir, "stats", req, out);
}

int
fh_hvctl_find(const char *run_dir, const char *domain,
              struct fh_hvctl_domain *out)
{
    struct json_object *answer, *doms;
    int r = fh_hvctl_status(run_dir, &answer);

    if (r)
        return r;
    r = FH_ENOENT;
    if (json_object_object_get_ex(answer, "domains", &doms)) {
        for (size_t i = 0; i < json_object_array_length(doms) && r; i++) {
            struct json_object *o = json_object_array_get_idx(doms, i);

            if (strcmp(get_string(o, "name"), domain) &&
                strcmp(get_string(o, "domid"), domain))
                continue;
            domain_read(o, out);
            r = 0;
        }
    }
    json_object_put(answer);
    return r ? fail(r, "no such domain", domain) : 0;
}

int
fh_hvctl_stop(const char *run_dir)
{
    struct json_object *answer, *req = NULL;
    char byte;
    int fd, r;

    r = ctl_connect(run_dir, &fd);
    if (r)
        return r;
    req = json_object_new_object();
    json_object_object_add(req, "op", json_object_new_string("stop"));
    r = ctl_ask(fd, req, &answer);
    if (!r) {
        json_object_put(answer);
        /* Its end is the end of the connection. */
        while (read(fd, &byte, 1) > 0)
            continue;
    }
    close(fd);
    return r;
}
