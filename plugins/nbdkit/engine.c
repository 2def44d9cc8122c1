/* SPDX-License-Identifier: MIT */
/*
 * The engine's thread and its queue of jobs.
 *
 * `lock` guards the queue, the jobs' done flags and the copy of the disk's
 * properties; everything else is the thread's.  The thread says `asleep` under
 * the lock before it waits, so a caller rings the bell (an eventfd that wait()
 * polls too) only then.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include "base/arith.h"
#include "engine.h"
#include "xenplat/xenplat.h"

enum {
    DONE_BATCH = 64,
    DISCARD_SECTORS = 1 << 22, /* of one request: 2 GiB */
    MAX_SECTOR_BYTES = 4096,
    SECTORS_PER_PAGE = 8,
};

/* Whole sectors that a caller waits for; lies on the caller's stack. */
struct job {
    enum fh_blkif_op op;
    uint8_t *data;
    uint64_t sector;
    uint64_t n_sectors; /* not submitted yet */
    bool submitted;     /* all of it */
    bool done;
    uint32_t n_in_flight;
    int status; /* the first error */
    pthread_cond_t cond;
    struct job *next;
};

static struct {
    pthread_mutex_t lock;
    pthread_mutex_t edges; /* one read-modify-write at a time */
    pthread_t thread;
    bool running;
    bool asleep;
    bool stopping;
    int bell;
    struct job *head, *tail; /* not yet wholly submitted */
    struct fh_blkfront_info info;

    struct fh_xenplat x;
    struct fh_blkfront *bf;
    void *mem;
    uint64_t timeout_ns;
    uint32_t pool_pages;
} e = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .edges = PTHREAD_MUTEX_INITIALIZER,
    .bell = -1,
};

/* The thread. */

static void
finish(struct job *j)
{
    pthread_mutex_lock(&e.lock);
    j->done = true;
    pthread_cond_signal(&j->cond);
    pthread_mutex_unlock(&e.lock);
}

static void
note(struct job *j, int status)
{
    if (!j->status)
        j->status = status;
}

/* Half the pool at most, so that an empty ring always takes the next one. */
static uint32_t
next_chunk(const struct job *j)
{
    const uint32_t half = e.pool_pages / 2 * SECTORS_PER_PAGE;
    uint32_t n = fh_blkfront_info(e.bf)->max_sectors;

    if (n > half)
        n = half ? half : SECTORS_PER_PAGE;
    if (j->op == FH_BLKIF_DISCARD)
        n = DISCARD_SECTORS;
    return j->n_sectors < n ? (uint32_t)j->n_sectors : n;
}

/* Submits as much of @j as there is room for; false: no room any more. */
static bool
submit(struct job *j)
{
    while (!j->submitted) {
        const struct fh_blkfront_io io = {
            .op = j->op,
            .n_sectors = next_chunk(j),
            .sector = j->sector,
            .data = j->data,
            .cookie = (uintptr_t)j,
        };
        int r = fh_blkfront_submit(e.bf, &io);

        if (r == FH_BLKFRONT_E_FULL)
            return false;
        if (r)
            note(j, r < 0 ? r : FH_ENOTCONN);
        else
            j->n_in_flight++;
        j->sector += io.n_sectors;
        j->n_sectors -= io.n_sectors;
        if (j->data)
            j->data += (size_t)io.n_sectors << FH_SECTOR_SHIFT;
        j->submitted = r || !j->n_sectors;
    }
    return true;
}

static struct job *
first_job(void)
{
    struct job *j;

    pthread_mutex_lock(&e.lock);
    j = e.head;
    pthread_mutex_unlock(&e.lock);
    return j;
}

static void
drop_first_job(void)
{
    pthread_mutex_lock(&e.lock);
    e.head = e.head->next;
    if (!e.head)
        e.tail = NULL;
    pthread_mutex_unlock(&e.lock);
}

static void
submit_jobs(void)
{
    struct job *j;

    while ((j = first_job()) && submit(j)) {
        drop_first_job();
        if (!j->n_in_flight)
            finish(j);
    }
    (void)fh_blkfront_kick(e.bf);
}

static uint32_t
take_done(void)
{
    struct fh_blkfront_done done[DONE_BATCH];
    uint32_t n = fh_blkfront_poll(e.bf, done, DONE_BATCH);

    for (uint32_t i = 0; i < n; i++) {
        struct job *j = (struct job *)(uintptr_t)done[i].cookie;

        if (done[i].status)
            note(j, done[i].status);
        if (!--j->n_in_flight && j->submitted)
            finish(j);
    }
    return n;
}

static void
publish_info(void)
{
    pthread_mutex_lock(&e.lock);
    e.info = *fh_blkfront_info(e.bf);
    pthread_mutex_unlock(&e.lock);
}

/* Sleeps unless a job came; one that waits for room in the ring waits for an
 * answer like everybody else. */
static void
rest(bool full)
{
    uint64_t count;
    bool sleep;

    pthread_mutex_lock(&e.lock);
    sleep = full || (!e.head && !e.stopping);
    e.asleep = sleep;
    pthread_mutex_unlock(&e.lock);
    if (!sleep)
        return;
    if (fh_blkfront_wait(e.bf, UINT64_MAX))
        usleep(1000); /* the platform fails; stay alive to say so */
    pthread_mutex_lock(&e.lock);
    e.asleep = false;
    pthread_mutex_unlock(&e.lock);
    if (read(e.bell, &count, sizeof(count)) < 0)
        return; /* nobody rang */
}

static bool
is_stopping(void)
{
    bool stopping;

    pthread_mutex_lock(&e.lock);
    stopping = e.stopping && !e.head;
    pthread_mutex_unlock(&e.lock);
    return stopping;
}

static void *
engine_main(void *arg)
{
    while (!is_stopping() || fh_blkfront_in_flight(e.bf)) {
        submit_jobs();
        if (!take_done())
            rest(first_job() && fh_blkfront_in_flight(e.bf));
        publish_info();
    }
    (void)fh_blkfront_close(e.bf, e.timeout_ns);
    return NULL;
}

/* The callers. */

static void
ring_bell(void)
{
    const uint64_t one = 1;

    if (write(e.bell, &one, sizeof(one)) < 0)
        return; /* it rings already */
}

static int
run_whole(enum fh_blkif_op op, void *data, uint64_t n_sectors, uint64_t sector)
{
    struct job j = {
        .op = op, .data = data, .sector = sector, .n_sectors = n_sectors};

    pthread_cond_init(&j.cond, NULL);
    pthread_mutex_lock(&e.lock);
    if (e.tail)
        e.tail->next = &j;
    else
        e.head = &j;
    e.tail = &j;
    if (e.asleep)
        ring_bell();
    while (!j.done)
        pthread_cond_wait(&j.cond, &e.lock);
    pthread_mutex_unlock(&e.lock);
    pthread_cond_destroy(&j.cond);
    return j.status;
}

/* @bytes inside one sector of @size. */
static int
run_edge(enum fh_blkif_op op, uint8_t *data, size_t bytes, uint64_t offset,
         uint32_t size)
{
    const uint32_t inside = (uint32_t)(offset & (size - 1));
    const uint64_t first = (offset - inside) >> FH_SECTOR_SHIFT;
    uint8_t sector[MAX_SECTOR_BYTES];
    int r;

    if (op == FH_BLKIF_WRITE)
        pthread_mutex_lock(&e.edges);
    r = run_whole(FH_BLKIF_READ, sector, size >> FH_SECTOR_SHIFT, first);
    if (!r && op == FH_BLKIF_READ)
        memcpy(data, sector + inside, bytes);
    if (!r && op == FH_BLKIF_WRITE) {
        memcpy(sector + inside, data, bytes);
        r = run_whole(op, sector, size >> FH_SECTOR_SHIFT, first);
    }
    if (op == FH_BLKIF_WRITE)
        pthread_mutex_unlock(&e.edges);
    return r;
}

static int
run_data(enum fh_blkif_op op, uint8_t *data, size_t bytes, uint64_t offset,
         uint32_t size)
{
    const size_t mask = size - 1;
    size_t n;
    int r = 0;

    if (offset & mask) {
        n = size - (offset & mask);
        n = n < bytes ? n : bytes;
        r = run_edge(op, data, n, offset, size);
        data += n;
        offset += n;
        bytes -= n;
    }
    n = bytes & ~mask;
    if (!r && n)
        r = run_whole(op, data, n >> FH_SECTOR_SHIFT,
                      offset >> FH_SECTOR_SHIFT);
    if (!r && bytes > n)
        r = run_edge(op, data + n, bytes - n, offset + n, size);
    return r;
}

static int
run_discard(uint64_t bytes, uint64_t offset, uint32_t size)
{
    const uint64_t mask = size - 1;
    const uint64_t first = (offset + mask) & ~mask;
    const uint64_t end = (offset + bytes) & ~mask;

    if (first >= end)
        return 0;
    return run_whole(FH_BLKIF_DISCARD, NULL, (end - first) >> FH_SECTOR_SHIFT,
                     first >> FH_SECTOR_SHIFT);
}

int
engine_run(enum fh_blkif_op op, void *data, uint64_t bytes, uint64_t offset)
{
    const struct fh_blkfront_info info = engine_info();

    if (op == FH_BLKIF_FLUSH)
        return run_whole(op, NULL, 0, 0);
    if (!fh_range_inside(offset, bytes, info.n_sectors << FH_SECTOR_SHIFT))
        return FH_ERANGE;
    if (!bytes)
        return 0;
    if (op == FH_BLKIF_DISCARD)
        return run_discard(bytes, offset, info.sector_bytes);
    return run_data(op, data, bytes, offset, info.sector_bytes);
}

struct fh_blkfront_info
engine_info(void)
{
    struct fh_blkfront_info info;

    pthread_mutex_lock(&e.lock);
    info = e.info;
    pthread_mutex_unlock(&e.lock);
    return info;
}

/* Life. */

static void
tear_down(void)
{
    fh_blkfront_fini(e.bf);
    e.bf = NULL;
    free(e.mem);
    e.mem = NULL;
    fh_xenplat_close(&e.x);
    if (e.bell >= 0)
        close(e.bell);
    e.bell = -1;
}

static int
open_disk(const struct engine_config *c, const char **what)
{
    const struct fh_blkfront_params params = {
        .plat = &e.x.plat,
        .frontend = c->frontend,
        .order = c->order,
        .max_indirect = c->max_indirect,
        .pool_pages = c->pool_pages,
        .persistent = c->persistent,
        .poll_max_ns = c->poll_ns,
    };
    size_t bytes = fh_blkfront_bytes(&params);
    int r;

    *what = "parameters";
    if (!bytes)
        return FH_EINVAL;
    e.mem = malloc(bytes);
    if (!e.mem)
        return FH_ENOMEM;
    *what = "looking for the device in xenstore";
    r = fh_blkfront_open(e.mem, &params, &e.bf);
    if (r) {
        e.bf = NULL;
        return r;
    }
    *what = "connecting to the backend";
    return fh_blkfront_connect(e.bf, c->timeout_ns);
}

int
engine_start(const struct engine_config *c, const char **what)
{
    int r;

    e.timeout_ns = c->timeout_ns;
    e.pool_pages = c->pool_pages;
    *what = "opening Xen's interfaces";
    r = fh_xenplat_open(&e.x, FH_XENPLAT_GRANTER | FH_XENPLAT_EVENTS |
                                  FH_XENPLAT_XENSTORE);
    if (r)
        return r;
    e.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    r = e.bell < 0 ? FH_EMFILE : fh_xenplat_add_fd(&e.x, e.bell, POLLIN);
    if (!r)
        r = open_disk(c, what);
    if (!r) {
        publish_info();
        *what = "starting a thread";
        r = pthread_create(&e.thread, NULL, engine_main, NULL) ? FH_EAGAIN : 0;
    }
    if (r) {
        if (e.bf)
            (void)fh_blkfront_close(e.bf, c->timeout_ns);
        tear_down();
        return r;
    }
    e.running = true;
    return 0;
}

void
engine_stop(void)
{
    if (!e.running)
        return;
    pthread_mutex_lock(&e.lock);
    e.stopping = true;
    ring_bell();
    pthread_mutex_unlock(&e.lock);
    pthread_join(e.thread, NULL);
    e.running = false;
    tear_down();
}
