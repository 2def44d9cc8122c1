/* SPDX-License-Identifier: MIT */
/*
 * Does another process want this CPU?  Nobody tells a process that directly, so
 * two signs are sampled, at most once in CPU_SAMPLE_NS:
 *
 *   - more runnable tasks in the system than CPUs that we may run on
 *     (/proc/loadavg, fourth field; the descriptor stays open), and that twice
 *     in a row if we looked just before: a kernel thread's blink is no rival;
 *   - this thread was preempted several times in the last CPU_WINDOW_NS.
 *
 * Either may err for a moment; lib/base/poller.h turns the signs into policy.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include "xenplat/internal.h"

enum {
    CPU_SAMPLE_NS = 200 * 1000,
    CPU_FRESH_NS = 1000 * 1000,
    CPU_WINDOW_NS = 4 * 1000 * 1000, /* about a time slice */
    CPU_MANY_SWITCHES = 2, /* in a window; one may be a kernel thread's */
};

void
fh_xenplat_cpu_open(struct fh_xenplat *x)
{
    cpu_set_t set;

    x->cpu.loadavg_fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    CPU_ZERO(&set);
    x->cpu.n_cpus = 1;
    if (!sched_getaffinity(0, sizeof(set), &set))
        x->cpu.n_cpus = (uint32_t)CPU_COUNT(&set);
}

void
fh_xenplat_cpu_close(struct fh_xenplat *x)
{
    if (x->cpu.loadavg_fd >= 0)
        close(x->cpu.loadavg_fd);
    x->cpu.loadavg_fd = -1;
}

/* Runnable tasks, us included; 0: unknown. */
static uint32_t
n_runnable(struct fh_xenplat *x)
{
    char text[64];
    const char *field = text;
    ssize_t n;

    if (x->cpu.loadavg_fd < 0)
        return 0;
    x->counts.cpu_calls++;
    n = pread(x->cpu.loadavg_fd, text, sizeof(text) - 1, 0);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    for (int i = 0; i < 3; i++) {
        field = strchr(field, ' ');
        if (!field)
            return 0;
        field++;
    }
    return (uint32_t)strtoul(field, NULL, 10);
}

/* Closes a window of counting preemptions when it is due. */
static bool
is_preempted_often(struct fh_xenplat *x, uint64_t now_ns)
{
    struct rusage ru;
    int64_t grown; /* negative: asked by another thread than last time */

    x->counts.cpu_calls++;
    if (getrusage(RUSAGE_THREAD, &ru))
        return false;
    grown = (int64_t)((uint64_t)ru.ru_nivcsw - x->cpu.n_switches);
    if (now_ns - x->cpu.switch_ns >= CPU_WINDOW_NS) {
        /* A window that was left open over a long sleep says nothing. */
        if (now_ns - x->cpu.switch_ns >= 2 * CPU_WINDOW_NS)
            grown = 0;
        x->cpu.switch_ns = now_ns;
        x->cpu.n_switches = (uint64_t)ru.ru_nivcsw;
    }
    return grown >= CPU_MANY_SWITCHES;
}

static bool
is_crowded(struct fh_xenplat *x, uint64_t now_ns)
{
    const bool was = x->cpu.crowded;
    const bool is_fresh = now_ns - x->cpu.looked_ns < CPU_FRESH_NS;

    x->cpu.crowded = n_runnable(x) > x->cpu.n_cpus;
    x->cpu.looked_ns = now_ns;
    return x->cpu.crowded && (was || !is_fresh);
}

bool
fh_xenplat_cpu_wanted(struct fh_plat *p)
{
    struct fh_xenplat *x = fh_xenplat_of(p);
    const uint64_t now = fh_xenplat_now_ns(p);

    if (now < x->cpu.next_ns)
        return x->cpu.wanted;
    x->cpu.next_ns = now + CPU_SAMPLE_NS;
    x->counts.cpu_checks++;
    x->cpu.wanted = is_crowded(x, now) || is_preempted_often(x, now);
    return x->cpu.wanted;
}
