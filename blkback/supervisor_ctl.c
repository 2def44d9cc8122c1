/* SPDX-License-Identifier: MIT */
/*
 * The control socket: one JSON object per line and direction (ctl.h has the
 * words).  Only our own uid and root can open it, so its clients are trusted;
 * still every field is checked, because a wrong figure must be named, not
 * guessed.
 *
 * A client that does not read its answers is buffered, one that sends more
 * than a line without an end is dropped.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <json-c/json.h>
#include "base/arith.h"
#include "blkback/supervisor_int.h"

struct json_object *
fh_sup_ctl_error(const char *text)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "ok", json_object_new_boolean(false));
    json_object_object_add(o, "error", json_object_new_string(text));
    return o;
}

static struct json_object *
reply_ok(void)
{
    struct json_object *o = json_object_new_object();

    json_object_object_add(o, "ok", json_object_new_boolean(true));
    return o;
}

static void
flush(struct fh_sup_client *c)
{
    struct epoll_event ev = { .data.ptr = &c->src };

    while (c->out_done < c->out_len) {
        ssize_t n = send(c->src.fd, c->out + c->out_done,
                         c->out_len - c->out_done, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            c->dead = true;
        if (n < 0)
            break;
        c->out_done += (size_t)n;
    }
    if (c->out_done == c->out_len) {
        c->out_done = c->out_len = 0;
        c->dead |= c->closing;
    }
    ev.events = EPOLLIN | (c->out_len ? EPOLLOUT : 0);
    epoll_ctl(c->sup->epoll_fd, EPOLL_CTL_MOD, c->src.fd, &ev);
}

/* Takes @reply. */
static void
queue_reply(struct fh_sup_client *c, struct json_object *reply)
{
    const char *text =
        json_object_to_json_string_ext(reply, JSON_C_TO_STRING_PLAIN);
    size_t n = text ? strlen(text) : 0;
    char *out = n ? realloc(c->out, c->out_len + n + 1) : NULL;

    if (out) {
        memcpy(out + c->out_len, text, n);
        out[c->out_len + n] = '\n';
        c->out = out;
        c->out_len += n + 1;
    } else {
        c->dead = true;
    }
    json_object_put(reply);
    if (!c->dead)
        flush(c);
}

void
fh_sup_ctl_reply(struct fh_sup *s, uint64_t id, struct json_object *reply)
{
    struct fh_sup_client *c = s->clients;

    while (c && (c->id != id || c->dead))
        c = c->next;
    if (c && id)
        queue_reply(c, reply);
    else
        json_object_put(reply);
}

/* --- fields of a request: absent, right, or named in @why --- */

static const char *
text_of(struct json_object *req, const char *key)
{
    struct json_object *o;

    if (!json_object_object_get_ex(req, key, &o) ||
        !json_object_is_type(o, json_type_string))
        return NULL;
    return json_object_get_string(o);
}

static bool
bool_of(struct json_object *req, const char *key)
{
    struct json_object *o;

    return json_object_object_get_ex(req, key, &o) &&
           json_object_get_boolean(o);
}

static bool
number_of(struct json_object *req, const char *key, uint32_t max,
          uint32_t *out, char *why)
{
    struct json_object *o;
    int64_t n;

    if (!json_object_object_get_ex(req, key, &o))
        return true;
    n = json_object_get_int64(o);
    if (!json_object_is_type(o, json_type_int) || n < 0 || n > max) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "\"%s\" must be a number, 0 to %u",
                 key, max);
        return false;
    }
    *out = (uint32_t)n;
    return true;
}

static bool
domid_of(struct json_object *req, uint32_t *domid, char *why)
{
    if (!json_object_object_get_ex(req, "domid", NULL)) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "\"domid\" is missing");
        return false;
    }
    return number_of(req, "domid", 0x7fef, domid, why);
}

/* A name ("xvdb") or a number, as a string or not. */
static bool
vdev_of(struct json_object *req, uint32_t *devid, bool *given, char *why)
{
    struct json_object *o;
    const char *text;

    *given = json_object_object_get_ex(req, "vdev", &o) && o;
    if (!*given)
        return true;
    text = json_object_get_string(o);
    if (!fh_sup_vdev_parse(text, devid))
        return true;
    snprintf(why, FH_IMAGE_TEXT_MAX, "\"vdev\" must be xvda, xvdb, ... or a "
             "device number, not \"%.40s\"", text);
    return false;
}

static bool
grants_of(struct json_object *req, enum fh_device_grants *g, char *why)
{
    static const struct {
        const char *name;
        enum fh_device_grants g;
    } names[] = {
        { "auto", FH_DEVICE_GRANTS_AUTO },
        { "persistent", FH_DEVICE_GRANTS_AUTO },
        { "copy", FH_DEVICE_GRANTS_COPY },
        { "map", FH_DEVICE_GRANTS_MAP },
    };
    const char *text = text_of(req, "grants");

    if (!text)
        return true;
    for (size_t i = 0; i < FH_ARRAY_SIZE(names); i++)
        if (!strcmp(text, names[i].name)) {
            *g = names[i].g;
            return true;
        }
    snprintf(why, FH_IMAGE_TEXT_MAX, "\"grants\" must be auto, persistent, "
             "copy or map, not \"%.40s\"", text);
    return false;
}

static bool
mode_of(struct json_object *req, bool *read_only, char *why)
{
    const char *text = text_of(req, "mode");

    if (!text || !strcmp(text, "w") || !strcmp(text, "r")) {
        *read_only = text && text[0] == 'r';
        return true;
    }
    snprintf(why, FH_IMAGE_TEXT_MAX, "\"mode\" must be r or w, not \"%.40s\"",
             text);
    return false;
}

static bool
attach_of(struct fh_sup *s, struct json_object *req, struct fh_sup_attach *a,
          char *why)
{
    bool given;

    *a = (struct fh_sup_attach){
        .target = text_of(req, "target"),
        .name = text_of(req, "name"),
        .grants = s->p.grants,
        .max_order = s->p.max_order,
        .shared = bool_of(req, "shared"),
    };
    if (!domid_of(req, &a->domid, why) ||
        !vdev_of(req, &a->devid, &given, why) ||
        !grants_of(req, &a->grants, why) ||
        !mode_of(req, &a->read_only, why) ||
        !number_of(req, "order", FH_DEVICE_MAX_ORDER, &a->max_order, why) ||
        !number_of(req, "latency_ns", UINT32_MAX, &a->latency_ns, why))
        return false;
    if (!a->target) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "\"target\" is missing");
        return false;
    }
    if (!given && fh_sup_vdev_free(s, a->domid, &a->devid)) {
        snprintf(why, FH_IMAGE_TEXT_MAX, "domain %u has no free disk name",
                 a->domid);
        return false;
    }
    fh_sup_vdev_name(a->devid, a->vdev, sizeof(a->vdev));
    return true;
}

static struct json_object *
do_attach(struct fh_sup *s, struct json_object *req)
{
    char why[FH_IMAGE_TEXT_MAX] = "";
    struct fh_sup_attach a;
    struct fh_sup_device *d;
    struct json_object *o;

    if (s->stop)
        return fh_sup_ctl_error("the supervisor is stopping");
    if (!attach_of(s, req, &a, why) || fh_sup_attach(s, &a, &d, why))
        return fh_sup_ctl_error(why);
    o = reply_ok();
    json_object_object_add(o, "device", fh_sup_list_device(d));
    return o;
}

/* NULL: the answer comes when the nodes are gone. */
static struct json_object *
do_detach(struct fh_sup_client *c, struct json_object *req)
{
    struct fh_sup *s = c->sup;
    char why[FH_IMAGE_TEXT_MAX] = "";
    struct fh_sup_device *d;
    uint32_t domid, devid;
    char name[16];
    bool given;
    int r;

    if (!domid_of(req, &domid, why) || !vdev_of(req, &devid, &given, why))
        return fh_sup_ctl_error(why);
    if (!given)
        return fh_sup_ctl_error("\"vdev\" is missing");
    d = fh_sup_find(s, domid, devid);
    if (!d) {
        fh_sup_vdev_name(devid, name, sizeof(name));
        snprintf(why, sizeof(why), "domain %u has no disk %s of ours", domid,
                 name);
        return fh_sup_ctl_error(why);
    }
    r = !fh_sup_has_handshake(d) ? 0 : fh_device_unplug(&d->dev, bool_of(req, "force"));
    if (r && r != FH_ENOENT) {
        snprintf(why, sizeof(why), "cannot write its nodes: %s", strerror(-r));
        return fh_sup_ctl_error(why);
    }
    d->owned = true; /* whoever made the nodes, we end them now */
    d->over |= d->refused;
    fh_sup_ctl_reply(s, d->detacher,
                     fh_sup_ctl_error("another detach took this one over"));
    d->detacher = c->id;
    return NULL;
}

static struct json_object *
dispatch(struct fh_sup_client *c, struct json_object *req)
{
    const char *cmd = text_of(req, "cmd");

    if (!cmd)
        return fh_sup_ctl_error("\"cmd\" is missing");
    if (!strcmp(cmd, "attach"))
        return do_attach(c->sup, req);
    if (!strcmp(cmd, "detach"))
        return do_detach(c, req);
    if (!strcmp(cmd, "list"))
        return fh_sup_list(c->sup, false);
    if (!strcmp(cmd, "status"))
        return fh_sup_list(c->sup, true);
    if (!strcmp(cmd, "stop")) {
        fh_sup_stop(c->sup, c->id);
        return NULL;
    }
    return fh_sup_ctl_error("unknown \"cmd\": attach, detach, list, status or "
                            "stop");
}

static void
take_line(struct fh_sup_client *c, const char *line)
{
    struct json_object *req = json_tokener_parse(line);
    struct json_object *reply;

    if (json_object_is_type(req, json_type_object))
        reply = dispatch(c, req);
    else
        reply = fh_sup_ctl_error("not a JSON object");
    json_object_put(req);
    if (reply)
        queue_reply(c, reply);
}

static void
take_lines(struct fh_sup_client *c)
{
    char *start = c->in;
    char *end;

    while (!c->dead &&
           (end = memchr(start, '\n', c->n_in - (size_t)(start - c->in)))) {
        *end = '\0';
        take_line(c, start);
        start = end + 1;
    }
    c->n_in -= (size_t)(start - c->in);
    memmove(c->in, start, c->n_in);
    if (c->n_in == sizeof(c->in))
        c->dead = true;
}

static void
client_ready(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup_client *c = src->owner;
    ssize_t n;

    if (events & EPOLLOUT)
        flush(c);
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)) || c->dead)
        return;
    n = recv(src->fd, c->in + c->n_in, sizeof(c->in) - c->n_in, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        c->dead = true;
        return;
    }
    c->n_in += (size_t)n;
    take_lines(c);
}

static int
spare_fd(void)
{
    return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Tells a client why it is not served; takes @fd over. */
static void
turn_away(int fd, const char *why)
{
    struct json_object *o = fh_sup_ctl_error(why);
    char line[256];
    int n = snprintf(line, sizeof(line), "%s\n", json_object_to_json_string(o));

    json_object_put(o);
    (void)send(fd, line, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    close(fd);
}

/* Somebody waits and there is no descriptor for him: the spare one lets us say
 * so.  Otherwise the loop would turn for as long as he waits. */
static void
turn_away_one(struct fh_sup *s, int listener)
{
    char why[128];
    int error = errno, fd;

    if (error != EMFILE && error != ENFILE)
        return;
    snprintf(why, sizeof(why), "the backend has no descriptor for you: %s",
             strerror(error));
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        turn_away(fd, why);
    s->spare_fd = spare_fd();
}

static void
listener_ready(struct fh_sup_source *src, uint32_t events)
{
    struct fh_sup *s = src->owner;
    struct fh_sup_client *c;
    uint32_t n = 0;
    int fd = accept4(src->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        turn_away_one(s, src->fd);
        return;
    }
    for (c = s->clients; c; c = c->next)
        n++;
    c = n < FH_SUP_MAX_CLIENTS ? calloc(1, sizeof(*c)) : NULL;
    if (!c || fh_sup_source_add(s, &c->src, fd, EPOLLIN, client_ready, c)) {
        turn_away(fd, c ? "the backend cannot watch you"
                        : "the backend has too many clients");
        free(c);
        return;
    }
    c->sup = s;
    c->id = ++s->next_client;
    c->next = s->clients;
    s->clients = c;
}

void
fh_sup_ctl_reap(struct fh_sup *s)
{
    struct fh_sup_client **at = &s->clients;

    while (*at) {
        struct fh_sup_client *c = *at;

        if (!c->dead) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        fh_sup_source_close(s, &c->src);
        free(c->out);
        free(c);
    }
}

static void
socket_path(const struct fh_sup *s, struct sockaddr_un *sa)
{
    *sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(sa->sun_path, sizeof(sa->sun_path), "%.90s/control", s->run_dir);
}

int
fh_sup_ctl_start(struct fh_sup *s)
{
    struct sockaddr_un sa;
    mode_t mask;
    int fd, r;

    if (strlen(s->run_dir) + sizeof("/control") > sizeof(sa.sun_path))
        return FH_E2BIG;
    socket_path(s, &sa);
    unlink(sa.sun_path); /* we hold the lock: a dead supervisor's */
    s->spare_fd = spare_fd();
    if (s->spare_fd < 0)
        return -errno;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    mask = umask(0177);
    r = bind(fd, (struct sockaddr *)&sa, sizeof(sa)) || listen(fd, 16) ? -errno
                                                                       : 0;
    umask(mask);
    if (!r)
        r = fh_sup_source_add(s, &s->listener, fd, EPOLLIN, listener_ready, s);
    if (r)
        close(fd);
    return r;
}

void
fh_sup_ctl_end(struct fh_sup *s)
{
    struct sockaddr_un sa;

    if (s->listener.fd >= 0) {
        socket_path(s, &sa);
        unlink(sa.sun_path);
    }
    fh_sup_source_close(s, &s->listener);
    for (struct fh_sup_client *c = s->clients; c; c = c->next)
        c->dead = true;
    fh_sup_ctl_reap(s);
    if (s->spare_fd >= 0)
        close(s->spare_fd);
    s->spare_fd = -1;
}
