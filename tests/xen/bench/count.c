/* SPDX-License-Identifier: MIT */
/*
 * count - where an emulated Xen host's instructions go: a plugin for QEMU
 *
 * Every translated block counts its executions, inline.  Between the two marks
 * of window.c the difference is taken and written to a file, PREFIX.1 for the
 * first window and so on: a line "ADDRESS INSTRUCTIONS EXECUTIONS OWNER" for
 * each block that ran.
 *
 * The owner is "dom0" or "guest".  All domains have the same addresses, but a
 * block lies in one page of memory, which belongs to one of them.  dom0 boots
 * first: of the kernel's text the first page that was seen at an address is
 * dom0's, every other one a guest's.  For modules and programs it is whoever
 * was the last to enter its kernel by a system call when the block was
 * translated, just before its first execution.  Xen's blocks have an owner too;
 * it says nothing.
 *
 * arguments: out=PREFIX, entry=ADDRESS (where the kernel's system calls begin,
 * hexadecimal)
 *
 * The entry points of QEMU's plugin interface are declared here: Debian has no
 * package with its header.  Interface version 1; QEMU 7.2 speaks it.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- QEMU's interface ---- */

struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum { QEMU_NO_REGS = 0, QEMU_ADD_U64 = 0 };

typedef void tb_trans_cb(uint64_t id, struct qemu_plugin_tb *tb);
typedef void exec_cb(unsigned vcpu, void *arg);

void
qemu_plugin_register_vcpu_tb_trans_cb(uint64_t id, tb_trans_cb *cb);
size_t
qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
uint64_t
qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *
qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t i);
void
qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, int op,
                                         void *at, uint64_t value);
const void *
qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t
qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void *
qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
void
qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                       exec_cb *cb, int flags, void *arg);
EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = 1;

EXPORT int
qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

/* ---- blocks ---- */

enum { HASH_BITS = 18, TEXT_PAGES = 8192, PAGE_SHIFT = 12 };

#define TEXT_BEGIN 0xffffffff81000000ull

struct block {
    uint64_t count;
    uint64_t base; /* count at the first mark */
    uint64_t address;
    const void *host; /* where its memory is in QEMU */
    bool is_dom0;
    uint32_t n_insns;
    struct block *next;      /* of all */
    struct block *next_hash; /* of those with this hash */
};

static struct block *blocks;
static struct block *hash[1u << HASH_BITS];
static bool is_dom0 = true; /* that runs: nobody else does at first */
static uint64_t entry_address;
static uintptr_t first_host[TEXT_PAGES]; /* page of QEMU's memory + 1 */
static const char *prefix = "count";
static unsigned n_windows;

static bool
owner_of(uint64_t address, const void *host)
{
    const uint64_t page = (address - TEXT_BEGIN) >> PAGE_SHIFT;
    const uintptr_t here = ((uintptr_t)host >> PAGE_SHIFT) + 1;

    if (address < TEXT_BEGIN || page >= TEXT_PAGES)
        return is_dom0;
    if (!first_host[page])
        first_host[page] = here;
    return first_host[page] == here;
}

static struct block *
find_block(uint64_t address, const void *host, uint32_t n_insns)
{
    const uint64_t mix = (address ^ (uintptr_t)host * 31 ^ n_insns) *
                         0x9e3779b97f4a7c15ull;
    struct block **place = &hash[mix >> (64 - HASH_BITS)];
    struct block *b;

    for (b = *place; b; b = b->next_hash)
        if (b->address == address && b->host == host &&
            b->n_insns == n_insns)
            return b;
    b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    b->address = address;
    b->host = host;
    b->is_dom0 = owner_of(address, host);
    b->n_insns = n_insns;
    b->next_hash = *place;
    *place = b;
    b->next = blocks;
    blocks = b;
    return b;
}

/* ---- windows ---- */

static void
begin_window(unsigned vcpu, void *arg)
{
    (void)vcpu;
    (void)arg;
    for (struct block *b = blocks; b; b = b->next)
        b->base = b->count;
}

static void
end_window(unsigned vcpu, void *arg)
{
    char path[4096];
    FILE *f;

    (void)vcpu;
    (void)arg;
    snprintf(path, sizeof(path), "%s.%u", prefix, ++n_windows);
    f = fopen(path, "w");
    if (!f)
        return;
    for (const struct block *b = blocks; b; b = b->next)
        if (b->count != b->base)
            fprintf(f, "%" PRIx64 " %u %" PRIu64 " %s\n", b->address,
                    b->n_insns, b->count - b->base,
                    b->is_dom0 ? "dom0" : "guest");
    fclose(f);
}

/* nopl 0x4648000N(%rax): a mark of window.c. */
static void
look_for_mark(struct qemu_plugin_insn *insn)
{
    static const uint8_t mark[] = { 0x0f, 0x1f, 0x80 };
    const uint8_t *code = qemu_plugin_insn_data(insn);
    uint32_t where;

    if (qemu_plugin_insn_size(insn) != 7 || memcmp(code, mark, sizeof(mark)))
        return;
    memcpy(&where, code + sizeof(mark), sizeof(where));
    if (where == 0x46480001)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, begin_window,
                                               QEMU_NO_REGS, NULL);
    if (where == 0x46480002)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, end_window, QEMU_NO_REGS,
                                               NULL);
}

static void
entered_kernel(unsigned vcpu, void *arg)
{
    const struct block *b = arg;

    (void)vcpu;
    is_dom0 = b->is_dom0;
}

static void
translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    const size_t n = qemu_plugin_tb_n_insns(tb);
    const uint64_t address = qemu_plugin_tb_vaddr(tb);
    struct qemu_plugin_insn *first = qemu_plugin_tb_get_insn(tb, 0);
    struct block *b =
        find_block(address, qemu_plugin_insn_haddr(first), (uint32_t)n);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_ADD_U64, &b->count, 1);
    if (address == entry_address)
        qemu_plugin_register_vcpu_insn_exec_cb(first, entered_kernel,
                                               QEMU_NO_REGS, b);
    for (size_t i = 0; i < n; i++)
        look_for_mark(qemu_plugin_tb_get_insn(tb, i));
}

int
qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            prefix = strdup(argv[i] + 4);
        else if (!strncmp(argv[i], "entry=", 6))
            entry_address = strtoull(argv[i] + 6, NULL, 16);
        else
            return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
