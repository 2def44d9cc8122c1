/* SPDX-License-Identifier: MIT */
/*
 * The broker's own loop: see broker.h.
 *
 * The page belongs to a worker that a guest may have taken over.  Each call is
 * copied once, judged on the copy, and only then carried out; a call about a
 * domain that nobody vouched for, or about memory outside the arena, has no
 * effect.
 */
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "blkback/broker.h"
#include "blkback/broker_page.h"
#include "blkback/token.h"

enum { LOOKS = 16 }; /* between two looks at the clock */

static uint64_t
now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* True: *@word has changed. */
static bool
look(FH_SHARED fh_word32 *word, uint32_t seen, uint32_t spin_ns)
{
    const uint64_t since = now_ns();

    do {
        for (int i = 0; i < LOOKS; i++) {
            if (fh_load_relaxed32(word) != seen)
                return true;
            fh_cpu_relax();
        }
    } while (now_ns() - since < spin_ns);
    return false;
}

void
fh_broker_wait(FH_SHARED fh_word32 *word, uint32_t seen, uint32_t spin_ns)
{
    if (spin_ns > FH_BROKER_SPIN_NS)
        spin_ns = FH_BROKER_SPIN_NS;
    if (!spin_ns || !look(word, seen, spin_ns))
        syscall(SYS_futex, (uintptr_t)word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

void
fh_broker_wake(FH_SHARED fh_word32 *word)
{
    syscall(SYS_futex, (uintptr_t)word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* Bit D: domain D's grants may be used. */
static uint64_t admitted[(UINT16_MAX + 1) / 64];

static bool
is_admitted(uint32_t domid)
{
    return domid <= UINT16_MAX && admitted[domid / 64] >> domid % 64 & 1;
}

/* The descriptor that came, or -1. */
static int
take_descriptor(int sock)
{
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } ctl;
    char byte;
    struct iovec iov = { &byte, 1 };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf) };
    struct cmsghdr *c;
    int fd = -1;

    if (recvmsg(sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
        return -1;
    c = CMSG_FIRSTHDR(&mh);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int)))
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
    return fd;
}

static int
do_admit(const struct fh_broker_serve *s)
{
    const int fd = take_descriptor(s->sock);
    uint16_t domid;
    int r;

    if (fd < 0)
        return FH_EPERM;
    r = fh_token_read(fd, &domid);
    close(fd);
    if (r)
        return r;
    admitted[domid / 64] |= 1ull << domid % 64;
    return 0;
}

static int
do_map(const struct fh_broker_serve *s, const struct fh_broker_call *c)
{
    static uint32_t refs[FH_GNTDEV_MAX];
    uint64_t offset;
    int r;

    fh_copy_in(refs, s->page->u.refs, c->n * sizeof(refs[0]));
    r = fh_gntdev_map(s->fd, (uint16_t)c->domid, refs, c->n, &offset);
    if (r)
        return r;
    /* Offsets are given from the lowest free one up: this bounds what a worker
     * can have entered at once. */
    if (!fh_range_inside(offset >> FH_PAGE_SHIFT, c->n,
                         FH_BROKER_WINDOW_PAGES)) {
        r = fh_gntdev_unmap(s->fd, offset, c->n);
        return r ? r : FH_ENOSPC;
    }
    fh_store_relaxed64(&s->page->offset, offset);
    return 0;
}

/* False: the piece reaches outside the arena, or outside the granted page. */
static bool
take_piece(const struct fh_broker_serve *s, const struct fh_broker_piece *from,
           struct fh_gntdev_piece *to)
{
    if (!fh_range_inside(from->local, from->bytes, s->arena_bytes) ||
        !fh_range_inside(from->offset, from->bytes, FH_PAGE_BYTES))
        return false;
    *to = (struct fh_gntdev_piece){
        .local = s->arena + from->local,
        .gref = from->gref,
        .offset = from->offset,
        .bytes = from->bytes,
        .to_grant = from->to_grant,
    };
    return true;
}

static int
do_copy(const struct fh_broker_serve *s, const struct fh_broker_call *c)
{
    static struct fh_broker_piece wire[FH_GNTDEV_MAX];
    static struct fh_gntdev_piece pieces[FH_GNTDEV_MAX];
    int r;

    fh_copy_in(wire, s->page->u.pieces, c->n * sizeof(wire[0]));
    for (uint32_t i = 0; i < c->n; i++)
        if (!take_piece(s, &wire[i], &pieces[i]))
            return FH_EFAULT;
    r = fh_gntdev_copy(s->fd, (uint16_t)c->domid, pieces, c->n);
    for (uint32_t i = 0; i < c->n && !r; i++)
        fh_store_relaxed16(&s->page->u.pieces[i].status,
                           (uint16_t)pieces[i].status);
    return r;
}

static int
carry_out(const struct fh_broker_serve *s)
{
    struct fh_broker_call c;

    fh_copy_in(&c, &s->page->call, sizeof(c));
    if (c.op == FH_BROKER_ADMIT)
        return do_admit(s);
    if (!c.n || c.n > FH_GNTDEV_MAX)
        return FH_EINVAL;
    /* Of what the worker has itself: whose it is does not matter. */
    if (c.op == FH_BROKER_UNMAP)
        return fh_gntdev_unmap(s->fd, c.offset, c.n);
    if (!is_admitted(c.domid))
        return FH_EPERM;
    if (c.op == FH_BROKER_MAP)
        return do_map(s, &c);
    return c.op == FH_BROKER_COPY ? do_copy(s, &c) : FH_EINVAL;
}

void
fh_broker_answer(FH_SHARED struct fh_broker_page *page, uint32_t turn,
                 int result)
{
    fh_store_relaxed32(&page->result, (uint32_t)result);
    /* K3 release, pairs with K4 in broker.c: who sees it done sees the
     * answer. */
    fh_store_release32(&page->done, turn);
    fh_broker_wake(&page->done);
}

void
fh_broker_serve(const struct fh_broker_serve *s)
{
    FH_SHARED struct fh_broker_page *page = s->page;
    uint32_t seen = 1;

    for (;;) {
        uint32_t turn;

        /* K1 acquire, pairs with K2 in broker.c: who sees the turn sees the
         * call. */
        while ((turn = fh_load_acquire32(&page->turn)) == seen)
            fh_broker_wait(&page->turn, seen,
                           fh_load_relaxed32(&page->spin_ns));
        seen = turn;
        fh_broker_answer(page, turn, carry_out(s));
    }
}
