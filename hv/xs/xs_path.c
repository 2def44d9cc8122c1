/* SPDX-License-Identifier: MIT */
/*
 * Paths: what a client may name, made absolute and hashed.
 *
 * A path has parts of letters, digits, '-', '_', '@', one '/' before each, and
 * none at the end but in "/" itself.  One that does not begin with '/' is
 * relative to /local/domain/<domid>/ of the client.  xenstored 4.17 limits
 * the part of a path that follows /local/domain/<n>/, or the whole of any
 * other; so do we.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "hv/xs/xs_internal.h"

static bool
is_path_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '@';
}

int
fh_xs_parse_domid(const char *text, uint16_t *out)
{
    uint32_t v = 0;
    size_t n = 0;

    for (; text[n]; n++) {
        if (text[n] < '0' || text[n] > '9' || n >= 5)
            return FH_EINVAL;
        v = v * 10 + (uint32_t)(text[n] - '0');
    }
    if (n == 0 || v >= FH_XS_DOMID_END)
        return FH_EINVAL;
    *out = (uint16_t)v;
    return 0;
}

/* Bytes of "/local/domain/<n>/" at the start of @text, or 0. */
static size_t
domain_prefix(const char *text)
{
    static const char dir[] = "/local/domain/";
    size_t at = sizeof(dir) - 1;
    size_t digits = 0;

    if (strncmp(text, dir, at) != 0)
        return 0;
    while (digits < 5 && text[at] >= '0' && text[at] <= '9') {
        at++;
        digits++;
    }
    return digits && text[at] == '/' ? at + 1 : 0;
}

static int
add_part(const struct fh_xs *xs, struct fh_xs_path *path, uint32_t start,
         uint32_t end)
{
    const uint32_t i = path->n_parts + 1;

    if (start == end || i >= FH_XS_PATH_PARTS)
        return FH_EINVAL;
    path->hash[i] = fh_xs_hash(xs, path->hash[i - 1], path->text + start,
                               end - start);
    path->end[i] = end;
    path->n_parts = i;
    return 0;
}

static void
start_at_root(struct fh_xs_path *path)
{
    path->n_parts = 0;
    path->end[0] = 1;
    path->hash[0] = 0;
}

/* Splits path->text, which begins with '/' and has @n bytes. */
static int
split(const struct fh_xs *xs, struct fh_xs_path *path, uint32_t n)
{
    uint32_t start = 1;
    int r;

    start_at_root(path);
    if (n == 1)
        return 0;
    for (uint32_t i = 1; i < n; i++) {
        if (path->text[i] == '/') {
            r = add_part(xs, path, start, i);
            if (r)
                return r;
            start = i + 1;
        } else if (!is_path_char(path->text[i])) {
            return FH_EINVAL;
        }
    }
    return add_part(xs, path, start, n);
}

int
fh_xs_path_parse(const struct fh_xs_conn *conn, const char *text, size_t n,
                 struct fh_xs_path *out)
{
    const struct fh_xs_limits *limits = &conn->xs->limits;
    size_t at = 0;

    out->is_special = false;
    out->is_relative = n == 0 || text[0] != '/';
    if (out->is_relative)
        at = (size_t)snprintf(out->text, sizeof(out->text),
                              "/local/domain/%u/", conn->dom->domid);
    if (at + n > limits->path_abs_bytes || at + n > FH_XS_PATH_BYTES)
        return FH_EINVAL;
    memcpy(out->text + at, text, n);
    out->text[at + n] = '\0';
    if (at + n - domain_prefix(out->text) > limits->path_rel_bytes)
        return FH_EINVAL;
    return split(conn->xs, out, (uint32_t)(at + n));
}

int
fh_xs_path_parse_watched(const struct fh_xs_conn *conn, const char *text,
                         size_t n, struct fh_xs_path *out)
{
    if (n == 0 || text[0] != '@')
        return fh_xs_path_parse(conn, text, n, out);
    if (n > conn->xs->limits.path_rel_bytes)
        return FH_EINVAL;
    out->is_special = true;
    out->is_relative = false;
    out->n_parts = 0;
    memcpy(out->text, text, n);
    out->text[n] = '\0';
    out->end[0] = (uint32_t)n;
    out->hash[0] = fh_xs_hash(conn->xs, 0, text, n);
    return 0;
}

void
fh_xs_path_load(const struct fh_xs *xs, const char *text, uint32_t n,
                struct fh_xs_path *out)
{
    int r;

    out->is_special = false;
    out->is_relative = false;
    memcpy(out->text, text, n);
    out->text[n] = '\0';
    r = split(xs, out, n);
    assert(r == 0); /* it was a valid path when its node was made */
    (void)r;
}

void
fh_xs_path_push(const struct fh_xs *xs, struct fh_xs_path *path,
                const char *name)
{
    const uint32_t n_name = (uint32_t)strlen(name);
    uint32_t at = path->end[path->n_parts];

    if (path->n_parts)
        path->text[at++] = '/';
    memcpy(path->text + at, name, n_name + 1);
    path->n_parts++;
    path->hash[path->n_parts] =
        fh_xs_hash(xs, path->hash[path->n_parts - 1], name, n_name);
    path->end[path->n_parts] = at + n_name;
}

void
fh_xs_path_pop(struct fh_xs_path *path)
{
    path->n_parts--;
    path->text[path->end[path->n_parts]] = '\0';
}

const char *
fh_xs_path_part(const struct fh_xs_path *path, uint32_t i, uint32_t *n)
{
    const uint32_t start = i == 1 ? 1 : path->end[i - 1] + 1;

    *n = path->end[i] - start;
    return path->text + start;
}
