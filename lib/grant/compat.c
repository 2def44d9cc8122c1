/* SPDX-License-Identifier: MIT */
/*
 * Callers of 32 bits: the only file that knows their layouts.
 *
 * Four structures differ, and are translated in private memory, a few elements
 * at a time.  The others are the same, but a 32-bit guest aligns them to four
 * bytes only; map_grant_ref, the one that gets a 64-bit result, is translated
 * as well then.
 *
 * Invariants: each element is read once, and its results are written field by
 * field; every turn of every loop finishes an element or ends (XSA-24); a
 * number that does not fit into 32 bits is an error, never cut off.
 */
#include "grant/internal.h"

/* Elements that are translated at once: at most 640 bytes of stack. */
#define CHUNK 16u

struct compat_copy_ptr {
    uint32_t id; /* ref or gmfn */
    uint16_t domid;
    uint16_t offset;
};

struct compat_copy {
    struct compat_copy_ptr source, dest;
    uint16_t len;
    uint16_t flags;
    int16_t status;
    uint16_t pad;
};

struct compat_transfer {
    uint32_t mfn;
    uint16_t domid;
    uint16_t pad0;
    uint32_t ref;
    int16_t status;
    uint16_t pad1;
};

struct compat_setup_table {
    uint16_t dom;
    uint16_t pad0;
    uint32_t nr_frames;
    int16_t status;
    uint16_t pad1;
    uint32_t frame_list; /* of 32-bit frame numbers */
};

struct compat_get_status_frames {
    uint32_t nr_frames;
    uint16_t dom;
    int16_t status;
    uint32_t frame_list; /* of 64-bit frame numbers */
};

_Static_assert(sizeof(struct compat_copy) == 24, "ABI");
_Static_assert(offsetof(struct compat_copy, dest) == 8, "ABI");
_Static_assert(offsetof(struct compat_copy, len) == 16, "ABI");
_Static_assert(offsetof(struct compat_copy, status) == 20, "ABI");
_Static_assert(sizeof(struct compat_transfer) == 16, "ABI");
_Static_assert(offsetof(struct compat_transfer, ref) == 8, "ABI");
_Static_assert(offsetof(struct compat_transfer, status) == 12, "ABI");
_Static_assert(sizeof(struct compat_setup_table) == 16, "ABI");
_Static_assert(offsetof(struct compat_setup_table, status) == 8, "ABI");
_Static_assert(offsetof(struct compat_setup_table, frame_list) == 12, "ABI");
_Static_assert(sizeof(struct compat_get_status_frames) == 12, "ABI");
_Static_assert(offsetof(struct compat_get_status_frames, status) == 6, "ABI");

/* The translated elements; each array begins where the union does. */
union chunk {
    struct gnttab_map_grant_ref map[CHUNK];
    struct gnttab_transfer transfer[CHUNK];
    struct gnttab_copy copy[CHUNK];
};

uint32_t
fh_gnt_compat_bytes(uint32_t cmd)
{
    switch (cmd) {
    case GNTTABOP_copy:
        return sizeof(struct compat_copy);
    case GNTTABOP_transfer:
        return sizeof(struct compat_transfer);
    case GNTTABOP_setup_table:
        return sizeof(struct compat_setup_table);
    case GNTTABOP_get_status_frames:
        return sizeof(struct compat_get_status_frames);
    }
    return fh_gnt_op_bytes(cmd);
}

static struct gnttab_copy_ptr
copy_ptr(const struct compat_copy_ptr *in)
{
    return (struct gnttab_copy_ptr){ .u.gmfn = in->id, /* ref is its low half */
                                     .domid = in->domid,
                                     .offset = in->offset };
}

static void
read_copy(const FH_SHARED uint8_t *at, struct gnttab_copy *out)
{
    struct compat_copy in;

    fh_copy_in(&in, at, sizeof(in));
    *out = (struct gnttab_copy){ .source = copy_ptr(&in.source),
                                 .dest = copy_ptr(&in.dest),
                                 .len = in.len,
                                 .flags = in.flags };
}

static void
read_transfer(const FH_SHARED uint8_t *at, struct gnttab_transfer *out)
{
    struct compat_transfer in;

    fh_copy_in(&in, at, sizeof(in));
    *out = (struct gnttab_transfer){ .mfn = in.mfn,
                                     .domid = in.domid,
                                     .ref = in.ref };
}

static void
read_element(uint32_t cmd, const FH_SHARED uint8_t *at, union chunk *c,
             uint32_t i)
{
    if (cmd == GNTTABOP_copy)
        read_copy(at, &c->copy[i]);
    else if (cmd == GNTTABOP_transfer)
        read_transfer(at, &c->transfer[i]);
    else
        fh_copy_in(&c->map[i], at, sizeof(c->map[i]));
}

static void
write_status(FH_SHARED uint8_t *at, size_t offset, int16_t status)
{
    fh_copy_out(at + offset, &status, sizeof(status));
}

static void
write_map(FH_SHARED uint8_t *at, const struct gnttab_map_grant_ref *op)
{
    if (!op->status) {
        fh_copy_out(at + offsetof(struct gnttab_map_grant_ref, handle),
                    &op->handle, sizeof(op->handle));
        fh_copy_out(at + offsetof(struct gnttab_map_grant_ref, dev_bus_addr),
                    &op->dev_bus_addr, sizeof(op->dev_bus_addr));
    }
    write_status(at, offsetof(struct gnttab_map_grant_ref, status),
                 op->status);
}

static void
write_element(uint32_t cmd, FH_SHARED uint8_t *at, const union chunk *c,
              uint32_t i)
{
    if (cmd == GNTTABOP_copy)
        write_status(at, offsetof(struct compat_copy, status),
                     c->copy[i].status);
    else if (cmd == GNTTABOP_transfer)
        write_status(at, offsetof(struct compat_transfer, status),
                     c->transfer[i].status);
    else
        write_map(at, &c->map[i]);
}

/* An array of elements that are translated. */
static long
run_translated(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
               uint32_t cmd, FH_SHARED uint8_t *arg, uint32_t count,
               uint32_t *done)
{
    const size_t bytes = fh_gnt_compat_bytes(cmd);
    uint32_t i = 0, got = 0, n;
    union chunk c;
    long r = 0;

    while (i < count && !(i && fh_gnt_must_stop(ctx))) {
        n = count - i < CHUNK ? count - i : CHUNK;
        for (uint32_t k = 0; k < n; k++)
            read_element(cmd, arg + (i + k) * bytes, &c, k);
        r = fh_gnt_op_run(ctx, caller, cmd, &c, n, &got);
        for (uint32_t k = 0; k < got; k++)
            write_element(cmd, arg + (i + k) * bytes, &c, k);
        i += got;
        if (r || got < n)
            break;
    }
    *done = i;
    if (r < 0)
        return r;
    return i < count ? FH_GNT_E_PREEMPTED : 0;
}

static long
run_setup_table(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                FH_SHARED uint8_t *arg, uint32_t *done)
{
    struct gnttab_setup_table op = { 0 };
    struct compat_setup_table in;

    fh_copy_in(&in, arg, sizeof(in));
    op.dom = in.dom;
    op.nr_frames = in.nr_frames;
    op.frame_list.p = (void *)(uintptr_t)in.frame_list;
    write_status(arg, offsetof(struct compat_setup_table, status),
                 fh_gnt_setup_table_one(ctx, caller, &op, sizeof(uint32_t)));
    *done = 1;
    return 0;
}

static long
run_get_status_frames(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                      FH_SHARED uint8_t *arg, uint32_t *done)
{
    struct gnttab_get_status_frames op = { 0 };
    struct compat_get_status_frames in;

    fh_copy_in(&in, arg, sizeof(in));
    op.dom = in.dom;
    op.nr_frames = in.nr_frames;
    op.frame_list.p = (void *)(uintptr_t)in.frame_list;
    write_status(arg, offsetof(struct compat_get_status_frames, status),
                 fh_gnt_status_frames_one(ctx, caller, &op));
    *done = 1;
    return 0;
}

long
fh_gnt_compat_run(struct fh_gnt_ctx *ctx, struct fh_gnt_domain *caller,
                  uint32_t cmd, FH_SHARED void *arg, uint32_t count,
                  uint32_t *done)
{
    const bool is_aligned = !((uintptr_t)arg & 7);

    switch (cmd) {
    case GNTTABOP_setup_table:
        return run_setup_table(ctx, caller, arg, done);
    case GNTTABOP_get_status_frames:
        return run_get_status_frames(ctx, caller, arg, done);
    case GNTTABOP_copy:
    case GNTTABOP_transfer:
        return run_translated(ctx, caller, cmd, arg, count, done);
    case GNTTABOP_map_grant_ref:
        if (!is_aligned)
            return run_translated(ctx, caller, cmd, arg, count, done);
        break;
    }
    return fh_gnt_op_run(ctx, caller, cmd, arg, count, done);
}
