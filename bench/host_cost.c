/* SPDX-License-Identifier: MIT */
/*
 * host-cost: the bare prices of what the local hypervisor is made of, so that
 * a reader of "map" sees how much of it is Linux and how much is ours.
 *
 *   socket_ns      a round trip over a SOCK_SEQPACKET unix socket to another
 *                  process that blocks: the least that a hypercall of fhv costs
 *   map_ns         mmap and munmap of one page of a memfd, never touched
 *   map_touched_ns the same, one byte read in between
 *   ..._threaded   the same while another thread of the process runs: the TLB
 *                  of its CPU may have to be told
 *   memcpy_ns      4 KiB from one page to another, both warm
 *
 * Prints one JSON object; each figure is the best of several rounds.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/arith.h"
#include "base/shared.h"
#include "bench/measure.h"

enum {
    CALL_BYTES = 64, /* about what a hypercall's request and answer take */
};

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static void
answer_forever(int fd)
{
    char buf[CALL_BYTES];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (recv(fd, buf, sizeof(buf), 0) > 0)
        if (send(fd, buf, sizeof(buf), 0) < 0)
            break;
    _exit(0);
}

static void
round_trip(void *arg)
{
    const int fd = *(int *)arg;
    char buf[CALL_BYTES] = { 0 };

    if (send(fd, buf, sizeof(buf), 0) < 0 || recv(fd, buf, sizeof(buf), 0) <= 0)
        die("socket");
}

static double
socket_ns(unsigned ms)
{
    int fds[2];
    double ns;
    pid_t pid;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds))
        die("socketpair");
    pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        close(fds[0]);
        answer_forever(fds[1]);
    }
    close(fds[1]);
    ns = measure_best_ns(round_trip, &fds[0], ms);
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return ns;
}

struct mapping {
    int fd;
    bool touch;
};

static void
map_and_unmap(void *arg)
{
    const struct mapping *m = arg;
    volatile char *p = mmap(NULL, FH_PAGE_BYTES, PROT_READ | PROT_WRITE,
                            MAP_SHARED, m->fd, 0);

    if (p == MAP_FAILED)
        die("mmap");
    if (m->touch)
        (void)*p;
    munmap((void *)p, FH_PAGE_BYTES);
}

static fh_word64 stop;

static void *
run_beside(void *arg)
{
    while (!fh_load_relaxed64(&stop))
        fh_cpu_relax();
    return arg;
}

static void
print_maps(const char *suffix, int fd, unsigned ms)
{
    struct mapping m = { .fd = fd };

    printf("\"map%s_ns\": %.1f, ", suffix,
           measure_best_ns(map_and_unmap, &m, ms));
    m.touch = true;
    printf("\"map_touched%s_ns\": %.1f, ", suffix,
           measure_best_ns(map_and_unmap, &m, ms));
}

static void
copy_page(void *arg)
{
    char *pages = arg;

    memcpy(pages, pages + FH_PAGE_BYTES, FH_PAGE_BYTES);
    __asm__ volatile("" ::: "memory");
}

int
main(int argc, char **argv)
{
    const unsigned ms = argc > 1 ? measure_number(argv[1], 10000) : 200;
    const int fd = memfd_create("host-cost", MFD_CLOEXEC);
    char *pages = aligned_alloc(FH_PAGE_BYTES, 2 * FH_PAGE_BYTES);
    pthread_t thread;

    if (fd < 0 || ftruncate(fd, FH_PAGE_BYTES) || !pages)
        die("memory");
    memset(pages, 1, 2 * FH_PAGE_BYTES);
    printf("{");
    printf("\"socket_ns\": %.1f, ", socket_ns(ms));
    fflush(stdout);
    print_maps("", fd, ms);
    if (pthread_create(&thread, NULL, run_beside, NULL))
        die("pthread_create");
    print_maps("_threaded", fd, ms);
    fh_store_relaxed64(&stop, 1);
    pthread_join(thread, NULL);
    printf("\"memcpy_ns\": %.1f}\n", measure_best_ns(copy_page, pages, ms));
    return 0;
}
