/* SPDX-License-Identifier: MIT */
/*
 * What can a worker do that its guest has taken over?  This program, root's,
 * takes over a real one: it makes a running process carry out one system call,
 * as an exploit would, or writes into the page that it shares with its broker.
 *
 *   intruder PID open|socket|exec|fork|kill|ptrace|code|uring
 *   intruder PID ioctl DOMID REF    gntdev's MAP, on the worker's descriptor
 *   intruder PID peek DOMID REF     gntdev's COPY, likewise: 8 bytes of a page
 *   intruder PID bind DOMID PORT    an event channel of that domain
 *   intruder PID map DOMID REF      by the broker
 *   intruder PID copy DOMID REF     by the broker: 8 bytes out of the page
 *
 * Prints "returned N", "killed by signal N", or, of the broker, "answered N".
 * After map and copy the worker is of no use any more: kill it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xen/xen.h>
#include <xen/grant_table.h>
#include <xen/evtchn.h>
#include <xen/gntdev.h>

#include "base/arith.h"
#include "blkback/broker.h"
#include "blkback/broker_page.h"

enum {
    BELOW_STACK = 4096, /* where our data goes: nobody uses it now */
    SEGMENT_AT = 64, /* in it */
    COPIED_AT = 128,
    ANSWER_MS = 2000,
};

static pid_t victim;
static struct user_regs_struct regs; /* as they were */

__attribute__((noreturn)) static void
die(const char *what)
{
    fprintf(stderr, "intruder: %s: %s\n", what, strerror(errno));
    exit(2);
}

static void
write_memory(uint64_t at, const void *data, size_t n)
{
    struct iovec ours = { (void *)(uintptr_t)data, n };
    struct iovec theirs = { (void *)(uintptr_t)at, n };

    if (process_vm_writev(victim, &ours, 1, &theirs, 1, 0) != (ssize_t)n)
        die("write to its memory");
}

static void
read_memory(uint64_t at, void *data, size_t n)
{
    struct iovec ours = { data, n };
    struct iovec theirs = { (void *)(uintptr_t)at, n };

    if (process_vm_readv(victim, &ours, 1, &theirs, 1, 0) != (ssize_t)n)
        die("read its memory");
}

/* ---- a system call ---- */

static void
take_over(void)
{
    int status;

    if (ptrace(PTRACE_ATTACH, victim, NULL, NULL) ||
        waitpid(victim, &status, __WALL) != victim)
        die("attach");
    if (ptrace(PTRACE_GETREGS, victim, NULL, &regs))
        die("registers");
}

static uint64_t
data_at(void)
{
    return (regs.rsp - BELOW_STACK) & ~15ull;
}

/* Carries out a system call; what it returned.  Does not return when it kills
 * the process. */
static long
make_call(long nr, const uint64_t *arg)
{
    struct user_regs_struct r = regs;
    const long word = ptrace(PTRACE_PEEKTEXT, victim, regs.rip, NULL);
    const long code = (word & ~0xffffffl) | 0xcc050f; /* syscall; int3 */
    int status;

    r.orig_rax = ~0ull; /* nothing to restart */
    r.rax = (uint64_t)nr;
    r.rdi = arg[0];
    r.rsi = arg[1];
    r.rdx = arg[2];
    r.r10 = arg[3];
    r.r8 = arg[4];
    r.r9 = arg[5];
    if (ptrace(PTRACE_POKETEXT, victim, regs.rip, code) ||
        ptrace(PTRACE_SETREGS, victim, NULL, &r) ||
        ptrace(PTRACE_CONT, victim, NULL, NULL) ||
        waitpid(victim, &status, __WALL) != victim)
        die("system call");
    if (WIFSIGNALED(status)) {
        printf("killed by signal %d\n", WTERMSIG(status));
        exit(0);
    }
    if (ptrace(PTRACE_GETREGS, victim, NULL, &r) ||
        ptrace(PTRACE_POKETEXT, victim, regs.rip, word) ||
        ptrace(PTRACE_SETREGS, victim, NULL, &regs))
        die("give back");
    return (long)r.rax;
}

static void
let_go(void)
{
    if (ptrace(PTRACE_DETACH, victim, NULL, NULL))
        die("detach");
}

/* ---- deeds ---- */

static int
find_fd(const char *device)
{
    char path[64], link[64];
    struct dirent *e;
    DIR *dir;
    int found = -1;

    snprintf(path, sizeof(path), "/proc/%d/fd", (int)victim);
    dir = opendir(path);
    if (!dir)
        die(path);
    while ((e = readdir(dir))) {
        ssize_t n = readlinkat(dirfd(dir), e->d_name, link, sizeof(link) - 1);

        if (n <= 0)
            continue;
        link[n] = '\0';
        if (!strcmp(link, device))
            found = atoi(e->d_name);
    }
    closedir(dir);
    if (found < 0)
        die(device);
    return found;
}

static void
return_of(long nr, const uint64_t *arg)
{
    const long r = make_call(nr, arg);

    let_go();
    printf("returned %ld\n", r);
}

static void
do_ioctl(const char *device, unsigned long call, const void *data, size_t n)
{
    const uint64_t arg[6] = { (uint64_t)find_fd(device), call, data_at() };

    write_memory(arg[2], data, n);
    return_of(SYS_ioctl, arg);
}

static void
deed_ioctl(uint32_t domid, uint32_t ref)
{
    const struct ioctl_gntdev_map_grant_ref m = {
        .count = 1, .refs = { { .domid = domid, .ref = ref } },
    };

    do_ioctl("/dev/xen/gntdev", IOCTL_GNTDEV_MAP_GRANT_REF, &m, sizeof(m));
}

static void
deed_peek(uint32_t domid, uint32_t ref)
{
    const uint64_t at = data_at(), segment = at + SEGMENT_AT;
    const uint64_t arg[6] = { (uint64_t)find_fd("/dev/xen/gntdev"),
                              IOCTL_GNTDEV_GRANT_COPY, at };
    struct ioctl_gntdev_grant_copy c = {
        .count = 1, .segments = (void *)(uintptr_t)segment,
    };
    struct gntdev_grant_copy_segment s = {
        .source.foreign = { .ref = ref, .domid = (domid_t)domid },
        .dest.virt = (void *)(uintptr_t)(at + COPIED_AT),
        .len = 8,
        .flags = GNTCOPY_source_gref,
    };
    long r;

    write_memory(at, &c, sizeof(c));
    write_memory(segment, &s, sizeof(s));
    r = make_call(SYS_ioctl, arg);
    read_memory(segment, &s, sizeof(s));
    let_go();
    printf("returned %ld, status %d\n", r, s.status);
}

static void
deed_bind(uint32_t domid, uint32_t port)
{
    const struct ioctl_evtchn_bind_interdomain b = { .remote_domain = domid,
                                                     .remote_port = port };

    do_ioctl("/dev/xen/evtchn", IOCTL_EVTCHN_BIND_INTERDOMAIN, &b, sizeof(b));
}

/* The page that it shares with its broker: nothing else that is shared and has
 * no name is of this size. */
static uint64_t
find_page(void)
{
    const uint64_t bytes =
        fh_round_up(sizeof(struct fh_broker_page), FH_PAGE_BYTES);
    char path[64], line[512], mode[8];
    uint64_t from, to, found = 0;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/maps", (int)victim);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %7s", &from, &to, mode) ==
                3 && to - from == bytes && !strcmp(mode, "rw-s") &&
            strstr(line, "/dev/zero"))
            found = from;
    if (!found)
        die("no page that it shares with a broker");
    fclose(f);
    return found;
}

#define PAGE_OF(member) (page + offsetof(struct fh_broker_page, member))

static void
deed_broker(enum fh_broker_op op, uint32_t domid, uint32_t ref)
{
    const struct fh_broker_call call = { .op = op, .domid = domid, .n = 1 };
    const struct fh_broker_piece piece = { .gref = ref, .bytes = 8 };
    const uint64_t page = find_page();
    const uint64_t wake[6] = { PAGE_OF(turn), FUTEX_WAKE, 1 };
    struct fh_broker_page answer;
    uint32_t turn, done = 0;

    read_memory(PAGE_OF(turn), &turn, sizeof(turn));
    if (op == FH_BROKER_MAP)
        write_memory(PAGE_OF(u.refs), &ref, sizeof(ref));
    else
        write_memory(PAGE_OF(u.pieces), &piece, sizeof(piece));
    write_memory(PAGE_OF(call), &call, sizeof(call));
    turn++;
    write_memory(PAGE_OF(turn), &turn, sizeof(turn));
    (void)make_call(SYS_futex, wake);
    for (int i = 0; i < ANSWER_MS && done != turn; i++) {
        usleep(1000);
        read_memory(PAGE_OF(done), &done, sizeof(done));
    }
    read_memory(page, &answer, sizeof(answer));
    if (done != turn)
        printf("not answered\n");
    else if (answer.result || op == FH_BROKER_MAP)
        printf("answered %d\n", answer.result);
    else
        printf("answered %d, status %d\n", answer.result,
               answer.u.pieces[0].status);
    let_go();
}

static bool
deed_plain(const char *name)
{
    const uint64_t at = data_at();
    const struct {
        const char *name;
        long nr;
        uint64_t arg[6];
    } deeds[] = {
        { "open", SYS_openat, { (uint64_t)AT_FDCWD, at, O_RDONLY } },
        { "socket", SYS_socket, { 1, 1 } },
        { "exec", SYS_execve, { at } },
        { "fork", SYS_clone, { SIGCHLD } },
        { "kill", SYS_kill, { 1 } },
        { "ptrace", SYS_ptrace, { PTRACE_ATTACH, 1 } },
        { "code", SYS_mmap, { 0, 4096, PROT_READ | PROT_EXEC,
                              MAP_PRIVATE | MAP_ANONYMOUS, ~0ull } },
        { "uring", SYS_io_uring_setup, { 1, at } },
        { "getpid", SYS_getpid, { 0 } },
    };

    for (size_t i = 0; i < FH_ARRAY_SIZE(deeds); i++) {
        if (strcmp(deeds[i].name, name))
            continue;
        write_memory(at, "/dev/null", sizeof("/dev/null"));
        return_of(deeds[i].nr, deeds[i].arg);
        return true;
    }
    return false;
}

static bool
deed_with_domain(const char *name, uint32_t domid, uint32_t what)
{
    if (!strcmp(name, "ioctl"))
        deed_ioctl(domid, what);
    else if (!strcmp(name, "peek"))
        deed_peek(domid, what);
    else if (!strcmp(name, "bind"))
        deed_bind(domid, what);
    else if (!strcmp(name, "map"))
        deed_broker(FH_BROKER_MAP, domid, what);
    else if (!strcmp(name, "copy"))
        deed_broker(FH_BROKER_COPY, domid, what);
    else
        return false;
    return true;
}

int
main(int argc, char **argv)
{
    bool known;

    if (argc != 3 && argc != 5) {
        fprintf(stderr, "usage: intruder PID DEED [DOMID NUMBER]\n");
        return 2;
    }
    victim = (pid_t)atoi(argv[1]);
    take_over();
    known = argc == 3 ? deed_plain(argv[2])
                      : deed_with_domain(argv[2],
                                         (uint32_t)strtoul(argv[3], NULL, 10),
                                         (uint32_t)strtoul(argv[4], NULL, 10));
    if (!known)
        fprintf(stderr, "intruder: no deed '%s'\n", argv[2]);
    return known ? 0 : 2;
}
