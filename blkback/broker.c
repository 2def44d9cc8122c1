/* SPDX-License-Identifier: MIT */
/*
 * The worker's side of its broker: see broker.h.
 *
 * The window is address space that nothing else uses: a mapping appears at the
 * window's start plus its offset in the device, so that the address alone says
 * what to unmap.
 */
#include "blkback/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/shared.h"
#include "blkback/broker_page.h"
#include "blkback/sandbox.h"

enum {
    STDERR = 2,
    /* A granted page may be paged out: Xen's library tries as long. */
    MAP_RETRIES = 1000,
    MAP_RETRY_NS = 1000000,
    GENERAL_ERROR = -1, /* GNTST_general_error */
    LOOK_NS = 5000000,  /* how often to ask whether CPUs are idle */
    KEPT = 3,           /* descriptors of the broker, beside stderr */
    HIGH = 64,          /* above them, for a moment */
};

static const size_t window_bytes =
    (size_t)FH_BROKER_WINDOW_PAGES * FH_PAGE_BYTES;
static const size_t arena_bytes =
    (size_t)FH_BROKER_PARTS * FH_BROKER_PART_BYTES;

/* ---- calls ---- */

/* Sleeps until the broker has answered call number b->seq. */
static int
wait_answer(struct fh_broker *b)
{
    struct fh_broker_page *page = b->page;
    uint32_t done;

    /* K4 acquire, pairs with K3 in broker_serve.c. */
    while ((done = fh_load_acquire32(&page->done)) != b->seq)
        fh_broker_wait(&page->done, done, page->spin_ns);
    return page->result;
}

/* Spinning is for idle CPUs; whether they are costs two system calls to find
 * out. */
static void
choose_spin(struct fh_broker *b)
{
    struct fh_plat *p = b->plat;
    uint64_t now;

    if (!b->spin_ns || !p)
        return;
    now = p->ops->now_ns(p);
    if (now < b->look_ns)
        return;
    b->look_ns = now + LOOK_NS;
    b->page->spin_ns = fh_plat_cpu_wanted(p) ? 0 : b->spin_ns;
}

/* Makes the call that stands on the page; returns its result. */
static int
make_call(struct fh_broker *b)
{
    b->n_calls++;
    choose_spin(b);
    /* K2 release, pairs with K1 in broker_serve.c. */
    fh_store_release32(&b->page->turn, ++b->seq);
    fh_broker_wake(&b->page->turn);
    return wait_answer(b);
}

/* Address space that mappings are put into, and leave behind. */
static int
reserve(void *at, size_t bytes)
{
    void *p = mmap(at, bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
                   -1, 0);

    return p == MAP_FAILED ? -errno : 0;
}

static int
forget(struct fh_broker *b, uint64_t offset, uint32_t n)
{
    b->page->call = (struct fh_broker_call){ .op = FH_BROKER_UNMAP,
                                             .n = n,
                                             .offset = offset };
    return make_call(b);
}

static int
mmap_grants(struct fh_broker *b, uint64_t offset, uint32_t n, int prot)
{
    const struct timespec pause = { .tv_nsec = MAP_RETRY_NS };
    const int flags = PROT_READ | (prot == FH_PLAT_PROT_RW ? PROT_WRITE : 0);
    void *at = MAP_FAILED;
    int r = FH_EAGAIN;

    for (uint32_t i = 0; r == FH_EAGAIN && i < MAP_RETRIES; i++) {
        if (i)
            nanosleep(&pause, NULL);
        at = mmap(b->window + offset, (size_t)n * FH_PAGE_BYTES, flags,
                  MAP_SHARED | MAP_FIXED, b->fd, (off_t)offset);
        r = at == MAP_FAILED ? -errno : 0;
    }
    return r;
}

static struct fh_broker *
broker_of(struct fh_plat *p)
{
    return (struct fh_broker *)(uintptr_t)p->ops; /* ops is the first member */
}

static int
broker_map(struct fh_plat *p, uint16_t domid, const uint32_t *refs, uint32_t n,
           int prot, void **addr)
{
    struct fh_broker *b = broker_of(p);
    uint64_t offset;
    int r, q;

    if (!n || n > FH_GNTDEV_MAX)
        return FH_EINVAL;
    memcpy(b->page->u.refs, refs, n * sizeof(*refs));
    b->page->call = (struct fh_broker_call){ .op = FH_BROKER_MAP,
                                             .domid = domid, .n = n };
    r = make_call(b);
    if (r)
        return r;
    offset = b->page->offset;
    r = mmap_grants(b, offset, n, prot);
    if (!r) {
        *addr = b->window + offset;
        return 0;
    }
    /* The failed attempt has removed what was there before. */
    q = reserve(b->window + offset, (size_t)n * FH_PAGE_BYTES);
    q = q ? q : forget(b, offset, n);
    if (q)
        return q;
    return r == FH_EINVAL ? FH_PLAT_E_REFUSED : r;
}

static int
broker_unmap(struct fh_plat *p, void *addr, uint32_t n)
{
    struct fh_broker *b = broker_of(p);
    const uint64_t offset = (uint64_t)((uint8_t *)addr - b->window);
    int r = reserve(addr, (size_t)n * FH_PAGE_BYTES);

    return r ? r : forget(b, offset, n);
}

/* ---- copies ---- */

static bool
in_arena(const struct fh_broker *b, const struct fh_plat_copy *c)
{
    const uint8_t *at = c->local;

    return at >= b->arena &&
           fh_range_inside((uint64_t)(at - b->arena), c->bytes, arena_bytes);
}

/* Where the data of piece @i lies for the broker: a page of the arena's first
 * part stands in for memory that is not shared. */
static uint8_t *
shared_place(struct fh_broker *b, const struct fh_plat_copy *c, uint32_t i)
{
    return in_arena(b, c) ? c->local : b->arena + i * FH_PAGE_BYTES;
}

_Static_assert((uint64_t)FH_GNTDEV_MAX * FH_PAGE_BYTES <= FH_BROKER_PART_BYTES,
               "a page for each piece");

static void
fill_piece(struct fh_broker *b, const struct fh_plat_copy *c, uint32_t i)
{
    uint8_t *at = shared_place(b, c, i);

    if (c->to_grant && at != c->local)
        fh_copy_data(at, c->local, c->bytes);
    b->page->u.pieces[i] = (struct fh_broker_piece){
        .gref = c->gref,
        .local = (uint32_t)(at - b->arena),
        .offset = c->offset,
        .bytes = c->bytes,
        .to_grant = c->to_grant,
    };
}

static void
take_status(struct fh_broker *b, struct fh_plat_copy *c, uint32_t i)
{
    const uint8_t *at = shared_place(b, c, i);

    c->status = b->page->u.pieces[i].status;
    if (!c->status && !c->to_grant && at != c->local)
        fh_copy_data(c->local, at, c->bytes);
}

static int
copy_batch(struct fh_broker *b, struct fh_plat_copy *pieces, uint32_t n)
{
    int r;

    for (uint32_t i = 0; i < n; i++)
        fill_piece(b, &pieces[i], i);
    b->page->call = (struct fh_broker_call){ .op = FH_BROKER_COPY,
                                             .domid = pieces[0].domid,
                                             .n = n };
    r = make_call(b);
    for (uint32_t i = 0; i < n && !r; i++)
        take_status(b, &pieces[i], i);
    return r;
}

/* Pieces from @at on that go into one call: of one domain. */
static uint32_t
batch_length(const struct fh_plat_copy *pieces, uint32_t n)
{
    uint32_t i = 1;

    while (i < n && i < FH_GNTDEV_MAX && pieces[i].domid == pieces[0].domid)
        i++;
    return i;
}

static int
broker_copy(struct fh_plat *p, struct fh_plat_copy *pieces, uint32_t n)
{
    struct fh_broker *b = broker_of(p);
    uint32_t batch;

    for (uint32_t done = 0; done < n; done += batch) {
        int r;

        batch = batch_length(pieces + done, n - done);
        r = copy_batch(b, pieces + done, batch);
        if (r && !done)
            return r;
        /* Part of the work is done: the pieces themselves must say which. */
        for (uint32_t i = 0; r && i < batch; i++)
            pieces[done + i].status = GENERAL_ERROR;
    }
    return 0;
}

void
fh_broker_attach(struct fh_broker *b, struct fh_plat *p)
{
    b->ops = *p->ops;
    b->ops.gnt_map = broker_map;
    b->ops.gnt_unmap = broker_unmap;
    b->ops.gnt_copy = broker_copy;
    p->ops = &b->ops;
    b->plat = p;
}

/* ---- memory ---- */

void *
fh_broker_part(struct fh_broker *b)
{
    uint32_t i;

    if (!b->pid || !~b->parts_used)
        return NULL;
    i = (uint32_t)__builtin_ctzll(~b->parts_used);
    b->parts_used |= 1ull << i;
    return b->arena + (size_t)(i + 1) * FH_BROKER_PART_BYTES;
}

void
fh_broker_part_free(struct fh_broker *b, void *part)
{
    const size_t at = (size_t)((uint8_t *)part - b->arena);

    /* The pages go back; whoever gets the part next finds zeroes. */
    (void)madvise(part, FH_BROKER_PART_BYTES, MADV_REMOVE);
    b->parts_used &= ~(1ull << (at / FH_BROKER_PART_BYTES - 1));
}

static void *
map_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    (void)madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

static int
make_memory(struct fh_broker *b)
{
    void *window = mmap(NULL, window_bytes, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    b->window = window == MAP_FAILED ? NULL : window;
    b->page = map_shared(fh_round_up(sizeof(*b->page), FH_PAGE_BYTES));
    b->arena = map_shared(arena_bytes);
    return b->window && b->page && b->arena ? 0 : FH_ENOMEM;
}

static void
free_memory(struct fh_broker *b)
{
    if (b->window)
        munmap(b->window, window_bytes);
    if (b->page)
        munmap(b->page, fh_round_up(sizeof(*b->page), FH_PAGE_BYTES));
    if (b->arena)
        munmap(b->arena, arena_bytes);
    b->window = b->arena = NULL;
    b->page = NULL;
}

/* ---- life ---- */

/* Without its broker a worker can do nothing; its successor goes on. */
static void
broker_died(int signo, siginfo_t *si, void *context)
{
    static const char text[] = "freehold: worker: its broker died\n";

    (void)signo;
    (void)si;
    (void)context;
    if (write(STDERR, text, sizeof(text) - 1) < 0)
        _exit(FH_BROKER_DIED);
    _exit(FH_BROKER_DIED);
}

static void
watch_child(bool on)
{
    struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_NOCLDSTOP };

    if (on)
        sa.sa_sigaction = broker_died;
    else
        sa.sa_handler = SIG_DFL;
    sigaction(SIGCHLD, &sa, NULL);
}

/* The three that are kept move to 3, 4 and 5; of the rest only stderr stays. */
static void
keep_only(int *fds)
{
    int high[KEPT];

    for (int i = 0; i < KEPT; i++)
        high[i] = fds[i] < 0 ? -1 : fcntl(fds[i], F_DUPFD_CLOEXEC, HIGH);
    for (int i = 0; i < KEPT; i++) {
        if (high[i] >= 0)
            fds[i] = dup2(high[i], STDERR + 1 + i);
        else
            close(STDERR + 1 + i);
    }
    close(0);
    close(1);
    close_range(STDERR + 1 + KEPT, ~0u, 0);
}

static int
confine(const struct fh_broker_params *p, int gntdev, int sock, pid_t parent)
{
    int r = fh_sandbox_drop_rights(p->uid);

    if (r)
        return r;
    /* Only now: a change of uid would undo it. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        return FH_EPERM;
    return p->sandbox ? fh_sandbox_broker(gntdev, sock) : 0;
}

__attribute__((noreturn)) static void
broker_main(const struct fh_broker *b, int sock,
            const struct fh_broker_params *p, pid_t parent)
{
    int fds[KEPT] = { b->fd, sock, p->fence_fd };
    struct fh_broker_serve serve = {
        .page = (FH_SHARED struct fh_broker_page *)(uintptr_t)b->page,
        .arena = b->arena,
        .arena_bytes = arena_bytes,
    };
    int r;

    watch_child(false);
    prctl(PR_SET_NAME, "freehold-broker");
    keep_only(fds);
    serve.fd = fds[0];
    serve.sock = fds[1];
    r = confine(p, serve.fd, serve.sock, parent);
    fh_broker_answer(serve.page, 1, r);
    if (r)
        pause(); /* killed by whoever reads the answer */
    fh_broker_serve(&serve);
}

/* The memory and descriptors that both get. */
static int
make_shared(struct fh_broker *b, int *theirs)
{
    int pair[2], r = make_memory(b);

    if (r)
        return r;
    b->fd = fh_gntdev_open();
    if (b->fd < 0)
        return b->fd;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return -errno;
    b->sock = pair[0];
    *theirs = pair[1];
    return 0;
}

static int
start(struct fh_broker *b, const struct fh_broker_params *p)
{
    const pid_t self = getpid();
    int theirs = -1;
    int r = make_shared(b, &theirs);

    if (r)
        return r;
    b->page->turn = b->seq = 1;
    watch_child(true);
    b->pid = fork();
    if (!b->pid)
        broker_main(b, theirs, p, self);
    r = b->pid < 0 ? -errno : 0;
    close(theirs);
    return r ? r : wait_answer(b);
}

int
fh_broker_start(struct fh_broker *b, const struct fh_broker_params *p)
{
    int r;

    *b = (struct fh_broker)FH_BROKER_NULL;
    b->spin_ns = p->spin_ns;
    r = start(b, p);
    if (r)
        fh_broker_stop(b);
    return r;
}

int
fh_broker_admit(struct fh_broker *b, int token_fd)
{
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } ctl = { 0 };
    char byte = 0;
    struct iovec iov = { &byte, 1 };
    struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1,
                         .msg_control = ctl.buf,
                         .msg_controllen = sizeof(ctl.buf) };
    struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &token_fd, sizeof(int));
    if (sendmsg(b->sock, &mh, MSG_NOSIGNAL) < 0)
        return -errno;
    b->page->call = (struct fh_broker_call){ .op = FH_BROKER_ADMIT };
    return make_call(b);
}

void
fh_broker_stop(struct fh_broker *b)
{
    watch_child(false);
    if (b->pid > 0) {
        kill(b->pid, SIGKILL);
        waitpid(b->pid, NULL, 0);
    }
    b->pid = 0;
    if (b->fd >= 0)
        close(b->fd);
    if (b->sock >= 0)
        close(b->sock);
    b->fd = b->sock = -1;
    free_memory(b);
}
