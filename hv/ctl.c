/* SPDX-License-Identifier: MIT */
/*
 * The control socket: one JSON object per line, one answer per request.
 *
 *   {"op":"create","name":"guest1","domid":5}   (both may be left out)
 *   {"op":"destroy","domain":"guest1"}
 *   {"op":"stats","domain":"guest1"}
 *   {"op":"status"}                   {"op":"stop"}
 *
 * An answer has "ok"; when that is false, "error" says why in words and
 * "errno" in a number.  Only fhv's own uid and root get in.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "hv/hv.h"
#include "hv/status.h"

struct fh_hv_ctl {
    struct fh_hv_src src;
    LIST_ENTRY(fh_hv_ctl) link;
    struct fh_hv *hv;
    char line[FH_HV_CTL_LINE];
    size_t n_line;
    char *out;
    size_t n_out, out_done;
    bool is_waiting; /* for a domain's end */
};

static void
ctl_free(struct fh_hv_src *src)
{
    struct fh_hv_ctl *ctl = (struct fh_hv_ctl *)src;

    free(ctl->out);
    free(ctl);
}

static void
ctl_close(struct fh_hv_ctl *ctl)
{
    struct fh_hv_domain *dom;

    if (ctl->src.is_dead)
        return;
    LIST_FOREACH(dom, &ctl->hv->domains, link) {
        if (dom->destroyer == ctl)
            dom->destroyer = NULL;
    }
    ctl->hv->n_ctl--;
    LIST_REMOVE(ctl, link);
    fh_hv_bury(&ctl->src);
}

/* Writes what there is; false: the client is gone. */
static bool
ctl_flush(struct fh_hv_ctl *ctl)
{
    while (ctl->out_done < ctl->n_out) {
        ssize_t n = send(ctl->src.fd, ctl->out + ctl->out_done,
                         ctl->n_out - ctl->out_done,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            fh_hv_rewatch(&ctl->src, EPOLLOUT);
            return true;
        }
        if (n < 0)
            return false;
        ctl->out_done += (size_t)n;
    }
    free(ctl->out);
    ctl->out = NULL;
    ctl->n_out = ctl->out_done = 0;
    fh_hv_rewatch(&ctl->src, ctl->is_waiting ? 0 : EPOLLIN);
    return true;
}

/* Takes @answer over. */
static void
ctl_answer(struct fh_hv_ctl *ctl, struct json_object *answer)
{
    const char *text = json_object_to_json_string_ext(
        answer, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
    int n = asprintf(&ctl->out, "%s\n", text);

    json_object_put(answer);
    if (n < 0) {
        ctl->out = NULL;
        ctl_close(ctl);
        return;
    }
    ctl->n_out = (size_t)n;
    ctl->out_done = 0;
    if (!ctl_flush(ctl))
        ctl_close(ctl);
}

static void
ctl_refuse(struct fh_hv_ctl *ctl, int error, const char *what)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "ok", json_object_new_boolean(false));
    json_object_object_add(o, "errno", json_object_new_int(-error));
    json_object_object_add(o, "error", json_object_new_string(what));
    ctl_answer(ctl, o);
}

static const char *
string_of(struct json_object *o, const char *key)
{
    struct json_object *v;

    if (!json_object_object_get_ex(o, key, &v))
        return NULL;
    return json_object_get_string(v); /* of a number too */
}

/* ---------------------------------------------------------------- requests */

static const char *
create_error(int r, const char *name)
{
    if (r == FH_EINVAL && !name)
        return strerror(-r);
    switch (r) {
    case FH_EEXIST:
        return "a domain of this name or number exists";
    case FH_ERANGE:
        return "a domain's number is 1 to 32751";
    case FH_EINVAL:
        return "a name has 1 to 63 letters, digits, '-', '_', '.', ':' and is "
               "not a number";
    case FH_ENOSPC:
        return "too many domains";
    case FH_EBUSY:
        return "a process of an earlier domain of this number still runs under "
               "its uid";
    case FH_EMFILE:
        return "no file descriptor is left (its limit: ulimit -n)";
    }
    return strerror(-r);
}

/* The wanted domid, -1 if none is; out of range if it is no number. */
static int
domid_wanted(struct json_object *req)
{
    struct json_object *v;

    if (!json_object_object_get_ex(req, "domid", &v))
        return -1;
    const int domid = json_object_get_int(v);

    return json_object_is_type(v, json_type_int) && domid > 0
               ? domid
               : (int)DOMID_FIRST_RESERVED;
}

static void
ctl_create(struct fh_hv_ctl *ctl, struct json_object *req)
{
    struct fh_hv_domain *dom;
    int r = fh_hv_domain_create(ctl->hv, domid_wanted(req),
                                string_of(req, "name"), &dom);

    if (r) {
        ctl_refuse(ctl, r, create_error(r, string_of(req, "name")));
        return;
    }
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "ok", json_object_new_boolean(true));
    json_object_object_add(o, "domain", fh_hv_status_domain(dom));
    ctl_answer(ctl, o);
}

static struct fh_hv_domain *
domain_named(struct fh_hv *hv, const char *name)
{
    struct fh_hv_domain *dom;
    char domid[16];

    LIST_FOREACH(dom, &hv->domains, link) {
        snprintf(domid, sizeof(domid), "%u", dom->domid);
        if (!strcmp(name, domid) || !strcmp(name, dom->name))
            return dom;
    }
    return NULL;
}

static void
ctl_destroy(struct fh_hv_ctl *ctl, struct json_object *req)
{
    const char *name = string_of(req, "domain");
    struct fh_hv_domain *dom = name ? domain_named(ctl->hv, name) : NULL;

    if (!dom) {
        ctl_refuse(ctl, FH_ENOENT, "no such domain");
        return;
    }
    if (!dom->domid) {
        ctl_refuse(ctl, FH_EINVAL, "domain 0 ends with fhv: stop it");
        return;
    }
    if (dom->is_dying) {
        ctl_refuse(ctl, FH_EBUSY, "the domain is being destroyed already");
        return;
    }
    ctl->is_waiting = true;
    dom->destroyer = ctl;
    fh_hv_rewatch(&ctl->src, 0);
    fh_hv_domain_destroy(dom);
}

/* One domain at a time: its whole table is looked at. */
static void
ctl_stats(struct fh_hv_ctl *ctl, struct json_object *req)
{
    const char *name = string_of(req, "domain");
    const struct fh_hv_domain *dom =
        name ? domain_named(ctl->hv, name) : NULL;

    if (!dom) {
        ctl_refuse(ctl, FH_ENOENT, "no such domain");
        return;
    }
    struct json_object *o = fh_hv_stats(dom);

    json_object_object_add(o, "ok", json_object_new_boolean(true));
    ctl_answer(ctl, o);
}

void
fh_hv_ctl_destroyed(struct fh_hv_ctl *ctl, uint16_t domid)
{
    struct json_object *o = json_object_new_object();

    ctl->is_waiting = false;
    json_object_object_add(o, "ok", json_object_new_boolean(true));
    json_object_object_add(o, "domid", json_object_new_int(domid));
    ctl_answer(ctl, o);
}

static void
ctl_request(struct fh_hv_ctl *ctl, const char *line)
{
    struct json_object *req = json_tokener_parse(line), *o;
    const char *op = json_object_is_type(req, json_type_object)
                         ? string_of(req, "op")
                         : NULL;

    if (!op) {
        ctl_refuse(ctl, FH_EINVAL, "not a JSON object with an \"op\"");
    } else if (!strcmp(op, "create")) {
        ctl_create(ctl, req);
    } else if (!strcmp(op, "destroy")) {
        ctl_destroy(ctl, req);
    } else if (!strcmp(op, "stats")) {
        ctl_stats(ctl, req);
    } else if (!strcmp(op, "status")) {
        ctl_answer(ctl, fh_hv_status(ctl->hv));
    } else if (!strcmp(op, "stop")) {
        fh_store_release32(&ctl->hv->is_stopping, 1);
        o = json_object_new_object();
        json_object_object_add(o, "ok", json_object_new_boolean(true));
        ctl_answer(ctl, o);
    } else {
        ctl_refuse(ctl, FH_ENOSYS, "unknown \"op\"");
    }
    json_object_put(req);
}

/* ------------------------------------------------------------------ socket */

/* One request at a time: more input waits until the answer is out. */
static void
ctl_lines(struct fh_hv_ctl *ctl)
{
    char line[FH_HV_CTL_LINE];
    char *end = memchr(ctl->line, '\n', ctl->n_line);

    if (!end) {
        if (ctl->n_line == sizeof(ctl->line))
            ctl_close(ctl);
        return;
    }
    const size_t n = (size_t)(end - ctl->line);

    memcpy(line, ctl->line, n);
    line[n] = '\0';
    ctl->n_line -= n + 1;
    memmove(ctl->line, end + 1, ctl->n_line);
    ctl_request(ctl, line);
}

static void
ctl_ready(struct fh_hv *hv, struct fh_hv_src *src, uint32_t events)
{
    struct fh_hv_ctl *ctl = (struct fh_hv_ctl *)src;

    if (ctl->out) {
        if (!ctl_flush(ctl))
            ctl_close(ctl);
        return;
    }
    if (ctl->is_waiting) { /* only a hang-up comes through */
        ctl_close(ctl);
        return;
    }
    ssize_t n = recv(src->fd, ctl->line + ctl->n_line,
                     sizeof(ctl->line) - ctl->n_line, MSG_DONTWAIT);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        ctl_close(ctl);
        return;
    }
    ctl->n_line += (size_t)n;
    ctl_lines(ctl);
}

static void
ctl_accepted(struct fh_hv *hv, struct fh_hv_listener *l, int fd)
{
    struct fh_hv_ctl *ctl = NULL;

    if (!fh_hv_peer_allowed(hv, NULL, fd) || hv->n_ctl == FH_HV_CTL_MAX)
        goto fail;
    ctl = calloc(1, sizeof(*ctl));
    if (!ctl)
        goto fail;
    ctl->src = (struct fh_hv_src){
        .fd = fd, .ready = ctl_ready, .free = ctl_free,
    };
    ctl->hv = hv;
    if (fh_hv_watch(fh_hv_control(hv), &ctl->src, EPOLLIN))
        goto fail;
    LIST_INSERT_HEAD(&hv->ctls, ctl, link);
    hv->n_ctl++;
    return;

fail:
    free(ctl);
    close(fd);
}

int
fh_hv_ctl_init(struct fh_hv *hv)
{
    char path[640];

    snprintf(path, sizeof(path), "%s/control", hv->run_dir);
    hv->control.accepted = ctl_accepted;
    return fh_hv_listen(hv, &hv->control, path, SOCK_STREAM, hv->uid);
}
