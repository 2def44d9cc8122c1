/* SPDX-License-Identifier: MIT */
/*
 * window - run a load and count the disk's I/O in a window of it
 *
 * usage: window DISK START_MS LENGTH_MS RAMP_MS LOUD PROGRAM [ARGUMENT...]
 *
 * The program begins RAMP_MS before START_MS (of the Unix epoch, so that several
 * guests share a window) and is killed after the window.  Printed is one line:
 * reads, writes, sectors read, sectors written, microseconds.
 *
 * With LOUD 1 the window's ends are marked for the emulator's counter by an
 * instruction that does nothing else (count.c knows it).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MIN_BEFORE = 8 }; /* I/Os that are done when the window is near */

struct sample {
    unsigned long long reads, writes, read_sectors, write_sectors;
    int64_t ns;
};

/* nopl with an address that nobody else uses. */
#define MARK(n) __asm__ volatile("nopl 0x46480000+" #n "(%%rax)" ::: "memory")

static int64_t
now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return ts.tv_sec * 1000000000ll + ts.tv_nsec;
}

static void
sleep_until_ms(long long ms)
{
    const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

    while (clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

static int
take_sample(int fd, struct sample *s)
{
    char text[512];
    const ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

    s->ns = now_ns(CLOCK_MONOTONIC);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    return sscanf(text, "%llu %*u %llu %*u %llu %*u %llu", &s->reads,
                  &s->read_sectors, &s->writes, &s->write_sectors) == 4 ? 0
                                                                        : -1;
}

static pid_t
start(char **argv)
{
    const pid_t pid = fork();
    const int null = pid ? -1 : open("/dev/null", O_WRONLY);

    if (pid)
        return pid;
    dup2(null, 1);
    execvp(argv[0], argv);
    _exit(127);
}

static int
complain(pid_t pid, const char *why)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    fprintf(stderr, "%s\n", why);
    return 1;
}

int
main(int argc, char **argv)
{
    struct sample a, b;
    char path[64];
    long long from, length;
    int fd, failed, status;
    pid_t pid;

    if (argc < 7)
        return 2;
    snprintf(path, sizeof(path), "/sys/block/%s/stat", argv[1]);
    from = atoll(argv[2]);
    length = atoll(argv[3]);
    fd = open(path, O_RDONLY);
    sleep_until_ms(from - atoll(argv[4]));
    failed = take_sample(fd, &b);
    pid = start(argv + 6);
    sleep_until_ms(from - atoll(argv[4]) / 4);
    failed |= take_sample(fd, &a);
    if (a.reads + a.writes < b.reads + b.writes + MIN_BEFORE)
        return complain(pid, "the load had not begun: a longer ramp");
    sleep_until_ms(from);
    failed |= take_sample(fd, &a);
    if (argv[5][0] == '1')
        MARK(1);
    sleep_until_ms(from + length);
    if (argv[5][0] == '1')
        MARK(2);
    failed |= take_sample(fd, &b);
    failed |= waitpid(pid, &status, WNOHANG) != 0; /* the load ended early */
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    if (failed)
        return 1;
    printf("%llu %llu %llu %llu %lld\n", b.reads - a.reads,
           b.writes - a.writes, b.read_sectors - a.read_sectors,
           b.write_sectors - a.write_sectors, (long long)(b.ns - a.ns) / 1000);
    return 0;
}
