/*
 * cpu/jit/emit_mem.c -- loads, stores, pushes and pops with the TLB check inline.
 *
 * The check is one compare for tag, permission, page crossing, MMIO and observed pages (mmu/mmu.h); what
 * misses runs the micro-op in C. Native: flat segments, FS and GS in 64-bit mode, address sizes 32 and 64;
 * the rest (16-bit addresses, segments with limits, alignment checks) is for C.
 */
#include "cpu/jit/emit.h"

#if defined(__x86_64__)

bool emit_native_address(const struct emit *e, const struct uop *u)
{
    unsigned asize = AM_ASIZE(u->am);
    if ((e->b->key & KEY_AC) || asize == ASIZE_16)
        return false;
    if (AM_CHECKED(u->am))
        return e->long_mode && asize == ASIZE_64;
    return e->long_mode ? asize == ASIZE_64 : asize == ASIZE_32;
}

/* to = a + (b << scale) + disp, cut to the address size. */
void emit_effective(struct emit *e, const struct uop *u, unsigned to)
{
    struct asm_buf *a = &e->a;
    unsigned size = AM_ASIZE(u->am) == ASIZE_64 ? 3 : 2;
    bool base = u->a != REG_ZERO, index = u->b != REG_ZERO;
    if (!base && !index) {
        asm_imm64(a, to, size == 3 ? (uint64_t)(int64_t)u->disp : (uint32_t)u->disp);
    } else if (base && !index) {
        unsigned h = emit_value(e, u->a, R_A);
        if (u->disp == 0 && size == 3)
            asm_mov(a, to, h);
        else if (u->disp == 0)
            asm_load(a, 2, to, rm_reg(h));
        else
            asm_lea(a, size, to, rm_mem(h, u->disp));
    } else {
        unsigned hi = emit_value(e, u->b, R_B);
        if (base) {
            unsigned hb = emit_value(e, u->a, R_A);
            asm_lea(a, size, to, rm_sib(hb, hi, AM_SCALE(u->am), u->disp));
        } else {
            /* SIB without base has always a 32-bit displacement. */
            asm_op(a, size, 0x8d, to, rm_sib(H_RAX, hi, AM_SCALE(u->am), 1 << 30));
            uint8_t *modrm = a->at - 6;
            if (!a->full) {
                modrm[0] &= 0x3f;
                modrm[1] = (uint8_t)((modrm[1] & 0xf8) | 5);
                memcpy(modrm + 2, &u->disp, 4);
            }
        }
    }
}

void emit_address(struct emit *e, const struct uop *u)
{
    emit_effective(e, u, R_A);
    if (AM_CHECKED(u->am)) {
        struct rm m = CPU_MEM(seg);
        m.disp += (int32_t)(AM_SEG(u->am) * sizeof(struct segment) + offsetof(struct segment, base));
        asm_alu(&e->a, 3, 0, R_A, m);
    }
}

void emit_open_rest(struct emit *e)
{
    e->rest_open = true;
    e->rest_index = e->cold_count;
}

void emit_tlb(struct emit *e, unsigned bytes, bool write, enum cold_kind kind, unsigned align)
{
    struct asm_buf *a = &e->a;
    int32_t table = write ? (int32_t)offsetof(struct tlb, write) : (int32_t)offsetof(struct tlb, read);
    _Static_assert(sizeof(struct tlb_entry) == 16 && offsetof(struct tlb_entry, host) == 8,
                   "index by 16 bytes");
    e->place = rm_sib(R_A, R_B, 0, 0);
    if (kind == COLD_REST)
        emit_open_rest(e);
    if (align) {
        asm_op(a, 2, 0xf7, 0, rm_reg(R_A)); /* TEST */
        asm_u32(a, align - 1);
        emit_cold(e, kind, asm_jcc(a, CC_NE));
    }
    asm_vex(a, 3, 3, 1, 0, 0xf0, R_B, 0, rm_reg(R_A)); /* RORX by 8 */
    asm_byte(a, PAGE_SHIFT - 4);
    asm_alu_imm(a, 2, 4, rm_reg(R_B), (int32_t)(TLB_ENTRIES - 1) << 4);
    asm_alu(a, 3, 6, R_A, rm_sib(R_TLB, R_B, 0, table));
    asm_alu_imm(a, 3, 7, rm_reg(R_A), (int32_t)(PAGE_SIZE - bytes));
    e->s.host_mask = 0;
    emit_cold(e, kind, asm_jcc(a, CC_A));
    asm_load(a, 3, R_B, rm_sib(R_TLB, R_B, 0, table + 8));
}

/* The value at the place into guest register d: opcode 8B (or 8A), or an extension. */
static void load_value(struct emit *e, unsigned d, unsigned size, uint32_t opcode, unsigned op_size)
{
    struct asm_buf *a = &e->a;
    unsigned hd = d == REG_T0 ? (unsigned)R_C : d < 16 ? jit_host_of[d] : R_NONE;
    unsigned w = hd == R_NONE ? R_A : hd;
    asm_op(a, op_size, opcode, w, e->place);
    if (d == REG_T0)
        e->s.t0_in_c = true;
    if (hd == R_NONE)
        asm_store(a, size == 2 ? 3 : size, R_A, guest_mem(d));
}

static bool load(struct emit *e)
{
    const struct uop *u = e->u;
    unsigned bytes, op_size = u->size;
    uint32_t opcode;
    switch (u->op) {
    case UOP_LOAD:
    case UOP_LOADW:
        bytes = 1u << u->size;
        opcode = u->size ? 0x8b : 0x8a;
        break;
    case UOP_LOADZX8:
        bytes = 1;
        opcode = 0x0fb6;
        break;
    case UOP_LOADZX16:
        bytes = 2;
        opcode = 0x0fb7;
        break;
    case UOP_LOADSX8:
        bytes = 1;
        opcode = 0x0fbe;
        break;
    case UOP_LOADSX16:
        bytes = 2;
        opcode = 0x0fbf;
        break;
    case UOP_LOADSX32:
        bytes = 4;
        opcode = u->size == 3 ? 0x63 : 0x8b;
        break;
    default:
        return false;
    }
    if (!emit_native_address(e, u))
        return false;
    emit_before_write(e, u->d);
    if (u->d == REG_T0 && !e->s.t0_in_c)
        emit_take_c(e);
    emit_access(e, bytes, u->op == UOP_LOADW, COLD_STEP, 0);
    load_value(e, u->d, u->size, opcode, op_size);
    return true;
}

/* What may stand between the load and the store of one merged read-modify-write: nothing that uses A or B. */
static bool mergeable(const struct uop *u)
{
    if (u->d != REG_T0 || u->a != REG_T0)
        return false;
    switch (u->op) {
    case UOP_ADDI:
    case UOP_SUBI:
    case UOP_ADDI_NF:
    case UOP_SUBI_NF:
    case UOP_ANDI_NF:
    case UOP_ORI_NF:
    case UOP_XORI_NF:
    case UOP_ANDI:
    case UOP_ORI:
    case UOP_XORI:
        return u->size < 3 || u->imm == (int32_t)u->imm;
    case UOP_ADD:
    case UOP_SUB:
    case UOP_AND:
    case UOP_OR:
    case UOP_XOR:
    case UOP_ADD_NF:
    case UOP_SUB_NF:
    case UOP_AND_NF:
    case UOP_OR_NF:
    case UOP_XOR_NF:
        return u->b < 16;
    case UOP_NOT:
    case UOP_NEG:
        return true;
    default:
        return false;
    }
}

static bool read_modify_write(struct emit *e)
{
    const struct uop *u = e->u;
    if (u->op != UOP_LOADW || u->d != REG_T0 || e->in_cold || e->index + 2u >= e->b->uop_count)
        return false;
    const struct uop *op = u + 1, *st = u + 2;
    bool same = st->op == UOP_STORE && st->d == REG_T0 && st->size == u->size && st->am == u->am &&
                st->a == u->a && st->b == u->b && st->disp == u->disp && st->insn == u->insn;
    if (!same || op->insn != u->insn || op->size != u->size || !mergeable(op) || !emit_native_address(e, u))
        return false;
    if (u->a == REG_T0 || u->b == REG_T0)
        return false;
    emit_before_write(e, REG_T0);
    if (!e->s.t0_in_c)
        emit_take_c(e);
    emit_access(e, 1u << u->size, true, COLD_REST, 0);
    load_value(e, REG_T0, u->size, u->size ? 0x8b : 0x8a, u->size);
    e->merged = true;
    return true;
}

static bool store(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    if (u->op == UOP_STORE && e->merged && !e->in_cold) {
        e->merged = false;
        e->s.host_mask = 0; /* as on the slow path */
        asm_store(a, u->size, R_C, e->place);
        return true;
    }
    if ((u->op != UOP_STORE && u->op != UOP_STOREI) || !emit_native_address(e, u))
        return false;
    struct rm value = rm_reg(R_C);
    bool imm = u->op == UOP_STOREI, small = u->size < 3 || u->imm == (int32_t)u->imm;
    bool needs_c = imm ? !small : emit_operand(e, u->d).mem;
    if (needs_c)
        emit_take_c(e);
    else if (!imm)
        value = emit_operand(e, u->d);
    emit_access(e, 1u << u->size, true, COLD_STEP, 0);
    if (imm && small) {
        asm_store_imm(a, u->size, e->place, (int32_t)u->imm);
        return true;
    }
    if (imm)
        asm_imm64(a, R_C, (uint64_t)u->imm);
    else if (needs_c)
        asm_load(a, 3, R_C, guest_mem(u->d));
    asm_store(a, u->size, value.base, e->place);
    return true;
}

/* 64-bit mode only. */
static bool push_pop(struct emit *e)
{
    const struct uop *u = e->u;
    struct asm_buf *a = &e->a;
    if ((u->op != UOP_PUSH && u->op != UOP_PUSHI && u->op != UOP_POP) || !e->long_mode ||
        (e->b->key & KEY_AC))
        return false;
    int32_t bytes = 1 << u->size;
    unsigned sp = jit_host_of[REG_RSP];
    if (u->op == UOP_POP) {
        emit_before_write(e, u->d);
        emit_before_write(e, REG_RSP);
        if (u->d == REG_T0 && !e->s.t0_in_c)
            emit_take_c(e);
        emit_stack_access(e, 0, (unsigned)bytes, false);
        asm_lea(a, 3, sp, rm_mem(sp, bytes));
        if (e->place.base == sp)
            e->place.disp -= bytes;
        load_value(e, u->d, u->size, 0x8b, u->size);
        return true;
    }
    bool imm = u->op == UOP_PUSHI, small = u->size < 3 || u->imm == (int32_t)u->imm;
    bool needs_c = imm ? !small : emit_operand(e, u->d).mem;
    emit_before_write(e, REG_RSP);
    if (needs_c)
        emit_take_c(e);
    struct rm value = needs_c || imm ? rm_reg(R_C) : emit_operand(e, u->d);
    emit_stack_access(e, -bytes, (unsigned)bytes, true);
    if (imm && small) {
        asm_store_imm(a, u->size, e->place, (int32_t)u->imm);
    } else {
        if (imm)
            asm_imm64(a, R_C, (uint64_t)u->imm);
        else if (needs_c)
            asm_load(a, 3, R_C, guest_mem(u->d));
        asm_store(a, u->size, value.base, e->place);
    }
    asm_lea(a, 3, sp, rm_mem(sp, -bytes));
    return true;
}

bool emit_memory(struct emit *e)
{
    return read_modify_write(e) || load(e) || store(e) || push_pop(e);
}

#endif
