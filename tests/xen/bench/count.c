/* SPDX-License-Identifier: MIT */
/*
 * count - where an emulated Xen host's instructions go: a plugin for QEMU
 *
 * Every translated block counts its executions, inline.  Between the two marks
 * of window.c the difference is taken and written to a file, PREFIX.1 for the
 * first window and so on: a line "ADDRESS INSTRUCTIONS EXECUTIONS OWNER" for
 * each block that ran.  Its first line, "dom0 OWNER", names dom0's.
 *
 * The owner is the virtual CPU that ran when the block was translated; a block
 * lies in one page of memory, which belongs to one domain, so it says whose
 * code that is, though all domains have the same addresses.  It is known from
 * Xen's way back to a PV guest (restore_all_guest): the first thing that is
 * loaded there is a field of Xen's struct of the virtual CPU, whose address is
 * the owner's name here.  Xen's own blocks have an owner too; it says nothing.
 *
 * arguments: out=PREFIX, restore=ADDRESS (of restore_all_guest, hexadecimal)
 *
 * The entry points of QEMU's plugin interface are declared here: Debian has no
 * package with its header.  Interface version 1; QEMU 7.2 speaks it.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* ---- QEMU's interface ---- */

struct qemu_plugin_tb;
struct qemu_plugin_insn;

enum { QEMU_NO_REGS = 0, QEMU_MEM_R = 1, QEMU_ADD_U64 = 0 };

typedef void tb_trans_cb(uint64_t id, struct qemu_plugin_tb *tb);
typedef void exec_cb(unsigned vcpu, void *arg);
typedef void mem_cb(unsigned vcpu, uint32_t info, uint64_t address, void *arg);

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
uint64_t
qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
void *
qemu_plugin_insn_haddr(const struct qemu_plugin_insn *insn);
void
qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                       exec_cb *cb, int flags, void *arg);
void
qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, mem_cb *cb,
                                 int flags, int rw, void *arg);

EXPORT extern int qemu_plugin_version;
int qemu_plugin_version = 1;

EXPORT int
qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv);

/* ---- blocks ---- */

enum { HASH_BITS = 18 };

struct block {
    uint64_t count;
    uint64_t base; /* count at the first mark */
    uint64_t address;
    const void *host; /* where its memory is in QEMU */
    uint64_t owner;
    uint32_t n_insns;
    struct block *next;      /* of all */
    struct block *next_hash; /* of those with this hash */
};

static struct block *blocks;
static struct block *hash[1u << HASH_BITS];
static uint64_t owner;
static uint64_t first_owner; /* dom0's: nobody else runs at first */
static uint64_t restore_address;
static const char *prefix = "count";
static unsigned n_windows;

static struct block *
find_block(uint64_t address, const void *host, uint32_t n_insns)
{
    const uint64_t mix = (address ^ (uintptr_t)host * 31 ^ n_insns) *
                         0x9e3779b97f4a7c15ull;
    struct block **place = &hash[mix >> (64 - HASH_BITS)];
    struct block *b;

    for (b = *place; b; b = b->next_hash)
        if (b->address == address && b->host == host &&
            b->n_insns == n_insns && b->owner == owner)
            return b;
    b = calloc(1, sizeof(*b));
    if (!b)
        abort();
    b->address = address;
    b->host = host;
    b->owner = owner;
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
    fprintf(f, "dom0 %" PRIx64 "\n", first_owner);
    for (const struct block *b = blocks; b; b = b->next)
        if (b->count != b->base)
            fprintf(f, "%" PRIx64 " %u %" PRIu64 " %" PRIx64 "\n", b->address,
                    b->n_insns, b->count - b->base, b->owner);
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
back_to_guest(unsigned vcpu, uint32_t info, uint64_t address, void *arg)
{
    (void)vcpu;
    (void)info;
    (void)arg;
    owner = address;
    if (!first_owner)
        first_owner = owner;
}

static void
look_for_restore(struct qemu_plugin_insn *insn)
{
    const uint64_t at = qemu_plugin_insn_vaddr(insn);

    if (!restore_address || at != restore_address)
        return;
    qemu_plugin_register_vcpu_mem_cb(insn, back_to_guest, QEMU_NO_REGS,
                                     QEMU_MEM_R, NULL);
}

static void
translated(uint64_t id, struct qemu_plugin_tb *tb)
{
    const size_t n = qemu_plugin_tb_n_insns(tb);
    struct block *b =
        find_block(qemu_plugin_tb_vaddr(tb),
                   qemu_plugin_insn_haddr(qemu_plugin_tb_get_insn(tb, 0)),
                   (uint32_t)n);

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_ADD_U64, &b->count, 1);
    for (size_t i = 0; i < n; i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

        look_for_mark(insn);
        look_for_restore(insn);
    }
}

int
qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++) {
        if (!strncmp(argv[i], "out=", 4))
            prefix = strdup(argv[i] + 4);
        else if (!strncmp(argv[i], "restore=", 8))
            restore_address = strtoull(argv[i] + 8, NULL, 16);
        else
            return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
