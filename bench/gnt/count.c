/* SPDX-License-Identifier: MIT */
/*
 * A single-stepping counter with as much of an instruction decoder as counting
 * needs: prefixes, the opcode, and the address of the memory operand.
 *
 * Invariant: an instruction is decoded when the handler sees it as the next
 * one, registers as it will find them; so the first of all is seen as well,
 * and the one that turns the stepping off is taken back.
 */
#include "bench/gnt/count.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

static struct counted counted;

#ifdef __x86_64__

enum {
    N_LINES = 1 << 16, /* of the set; more are lost, and counted as unknown */
    HANDLER_STACK = 1 << 16,
};

static uint64_t lines[N_LINES]; /* line + 1, 0 is empty */
static uint64_t stack_top;

/* One instruction, as far as it is understood. */
struct insn {
    const uint8_t *at; /* what comes next */
    uint8_t rex;
    bool lock, rep, segment;
    bool vex;
    uint16_t opcode; /* 0x0fxx with two bytes; with three only the map's */
    uint8_t modrm;
};

/* Registers in the processor's numbering. */
static const int regs[16] = {
    REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15,
};

static uint64_t
reg(const ucontext_t *u, unsigned n)
{
    return (uint64_t)u->uc_mcontext.gregs[regs[n & 15]];
}

static void
add_line(const ucontext_t *u, uint64_t addr)
{
    const uint64_t sp = (uint64_t)u->uc_mcontext.gregs[REG_RSP];
    const uint64_t line = (addr >> 6) + 1;
    uint64_t i = line * 0x9e3779b97f4a7c15ull >> 48;

    if (addr >= sp - 4096 && addr < stack_top)
        return;
    for (unsigned tries = 0; tries < 64; tries++, i++) {
        uint64_t *slot = &lines[i % N_LINES];

        if (*slot == line)
            return;
        if (*slot)
            continue;
        *slot = line;
        counted.lines++;
        return;
    }
    counted.unknown++;
}

static void
add_range(const ucontext_t *u, uint64_t addr, uint64_t n)
{
    for (uint64_t line = addr >> 6; n && line <= (addr + n - 1) >> 6; line++)
        add_line(u, line << 6);
}

/* ------------------------------------------------------------- decoding -- */

static void
take_prefixes(struct insn *d)
{
    for (;; d->at++) {
        switch (*d->at) {
        case 0xf0:
            d->lock = true;
            break;
        case 0xf2:
        case 0xf3:
            d->rep = true;
            break;
        case 0x64:
        case 0x65:
            d->segment = true;
            break;
        case 0x66:
        case 0x67:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x26:
            break;
        default:
            if ((*d->at & 0xf0) == 0x40)
                d->rex = *d->at++;
            return;
        }
    }
}

/* A vector instruction's prefix: the extension bits are inverted there. */
static void
take_vex(struct insn *d)
{
    const uint8_t *p = d->at;

    d->vex = true;
    if (p[0] == 0xc5) {
        d->rex = (uint8_t)(0x40 | (~p[1] >> 5 & 4));
        d->opcode = (uint16_t)(0x0f00 | p[2]);
        d->at += 3;
    } else {
        d->rex = (uint8_t)(0x40 | (~p[1] >> 5 & 7));
        d->opcode = (p[1] & 0x1f) == 1 ? (uint16_t)(0x0f00 | p[3]) : 0x0f38;
        d->at += 4;
    }
}

static void
take_opcode(struct insn *d)
{
    if (*d->at == 0xc4 || *d->at == 0xc5) {
        take_vex(d);
    } else if (*d->at != 0x0f) {
        d->opcode = *d->at++;
    } else {
        d->opcode = (uint16_t)(0x0f00 | d->at[1]);
        d->at += d->opcode == 0x0f38 || d->opcode == 0x0f3a ? 3 : 2;
    }
    d->modrm = *d->at;
}

/* Whether a byte that may name memory follows a one-byte opcode. */
static bool
has_operand_1(uint8_t op)
{
    if (op < 0x40)
        return (op & 7) < 4;
    return op == 0x63 || op == 0x69 || op == 0x6b ||
           (op >= 0x80 && op <= 0x8f && op != 0x8d) || op == 0xc0 ||
           op == 0xc1 || op == 0xc6 || op == 0xc7 ||
           (op >= 0xd0 && op <= 0xd3) || (op >= 0xd8 && op <= 0xdf) ||
           op == 0xf6 || op == 0xf7 || op == 0xfe || op == 0xff;
}

/* ... a two-byte one.  No-operations and prefetches touch nothing. */
static bool
has_operand_2(uint8_t op)
{
    const bool without = op == 0x05 || op == 0x0b || op == 0x0d ||
                         op == 0x18 || (op >= 0x1a && op <= 0x1f) ||
                         (op >= 0x30 && op <= 0x37) || op == 0x77 ||
                         (op >= 0x80 && op <= 0x8f) || op == 0xa2 ||
                         op == 0xae || (op >= 0xc8 && op <= 0xcf);

    return !without;
}

static bool
has_memory(const struct insn *d)
{
    const bool operand = d->opcode >> 8 ? has_operand_2((uint8_t)d->opcode)
                                        : has_operand_1((uint8_t)d->opcode);

    return operand && d->modrm >> 6 != 3;
}

static int64_t
displacement(const uint8_t *at, unsigned n_bytes)
{
    int32_t v = 0;

    if (n_bytes == 1)
        return (int8_t)*at;
    if (n_bytes == 4)
        memcpy(&v, at, 4);
    return v;
}

/* Where the operand of @d lies; @d->at is at its first byte. */
static uint64_t
operand_address(const struct insn *d, const ucontext_t *u)
{
    const unsigned mod = d->modrm >> 6, rm = d->modrm & 7;
    const uint8_t *at = d->at + 1;
    unsigned n_bytes = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    uint64_t sum = 0;

    if (rm == 4) {
        const uint8_t sib = *at++;
        const unsigned index = (sib >> 3 & 7) | (d->rex & 2) << 2;
        const unsigned base = sib & 7;

        if (index != 4)
            sum += reg(u, index) << (sib >> 6);
        if (base == 5 && !mod)
            n_bytes = 4;
        else
            sum += reg(u, base | (d->rex & 1) << 3);
    } else if (rm == 5 && !mod) {
        n_bytes = 4;
        sum = (uint64_t)(uintptr_t)at + 4; /* constants: a line more or less */
    } else {
        sum = reg(u, rm | (d->rex & 1) << 3);
    }
    return sum + (uint64_t)displacement(at, n_bytes);
}

/* ------------------------------------------------------------- counting -- */

/* A string instruction; a repeated move is done here, in one go. */
static bool
count_string(const struct insn *d, ucontext_t *u)
{
    greg_t *g = u->uc_mcontext.gregs;
    const unsigned size = d->opcode & 1 ? (d->rex & 8 ? 8 : 4) : 1;
    const uint64_t n = d->rep ? (uint64_t)g[REG_RCX] : 1;
    const bool is_move = (d->opcode & ~1) == 0xa4;

    if (!is_move && (d->opcode & ~1) != 0xaa)
        return false;
    if (is_move)
        add_range(u, (uint64_t)g[REG_RSI], n * size);
    add_range(u, (uint64_t)g[REG_RDI], n * size);
    if (!is_move || !d->rep || g[REG_EFL] & 0x400)
        return true;
    memmove((void *)g[REG_RDI], (const void *)g[REG_RSI], n * size);
    g[REG_RSI] += (greg_t)(n * size);
    g[REG_RDI] += (greg_t)(n * size);
    g[REG_RCX] = 0;
    return true;
}

static bool
is_exchange(const struct insn *d)
{
    return d->opcode == 0x86 || d->opcode == 0x87;
}

static void
count_memory(const struct insn *d, const ucontext_t *u)
{
    const bool wide = d->vex || (d->opcode >> 8 && (d->opcode & 0xff) < 0x80 &&
                                 (d->opcode & 0xf0) != 0x40);
    const uint64_t addr = operand_address(d, u);

    if (d->segment)
        return; /* the thread's own */
    add_line(u, addr);
    if (wide)
        add_line(u, addr + (d->vex ? 31 : 15));
}

static void
on_step(int sig, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    struct insn d = { .at = (const uint8_t *)u->uc_mcontext.gregs[REG_RIP] };

    take_prefixes(&d);
    if (d.at[0] == 0x62) {
        counted.unknown++; /* a wider vector set than we build for */
        counted.instructions++;
        return;
    }
    take_opcode(&d);
    counted.instructions++;
    if (d.opcode == 0x0fae && d.modrm >> 6 == 3 && (d.modrm & 0x38) >= 0x28)
        counted.fences++;
    if (count_string(&d, u))
        return;
    if (!has_memory(&d))
        return;
    if (d.lock || is_exchange(&d))
        counted.locked++;
    count_memory(&d, u);
}

/* Nothing but @step(@arg) between the two, compiled the same every time. */
static __attribute__((noinline)) void
stepped(void (*step)(void *), void *arg)
{
    __asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq" ::: "memory", "cc");
    step(arg);
    __asm__ volatile("pushfq; andq $~0x100, (%%rsp); popfq" ::: "memory", "cc");
}

static void
nothing(void *arg)
{
}

bool
count_available(void)
{
    return true;
}

void
count_reset(void)
{
    memset(lines, 0, sizeof(lines));
    counted = (struct counted){ 0 };
}

/* What stepped() itself adds: the same for every step. */
static uint64_t
overhead(void)
{
    const struct counted before = counted;
    uint64_t n;

    counted.instructions = 0;
    stepped(nothing, NULL);
    n = counted.instructions;
    counted = before;
    return n;
}

void
count_add(void (*step)(void *), void *arg)
{
    static uint8_t stack[HANDLER_STACK];
    const stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
    const struct sigaction action = { .sa_sigaction = on_step,
                                      .sa_flags = SA_SIGINFO | SA_ONSTACK };

    stack_top = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 4096;
    if (sigaltstack(&alternate, NULL) || sigaction(SIGTRAP, &action, NULL))
        abort();
    counted.instructions -= overhead();
    stepped(step, arg);
}

#else

bool
count_available(void)
{
    return false;
}

void
count_reset(void)
{
}

void
count_add(void (*step)(void *), void *arg)
{
    step(arg);
}

#endif

struct counted
count_result(void)
{
    return counted;
}
