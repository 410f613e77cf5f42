/*
 * cpu/lift/lift_system.c -- system instructions: calls to the helpers of cpu/, after the checks that the
 * block's key decides.
 *
 * SDM 2, the pages of the instructions; SDM 3C, "Relative Priority of Faults and VM Exits": faults that
 * privilege, mode and UMIP cause come before the intercept, so rows whose checks are here emit their GUARD
 * themselves. Everything that changes mode, RIP, interruptibility or the key ends its block (H_END in
 * helper.def).
 */
#include "cpu/lift/lift_system.h"

#include "cpu/lift/rows.h"

/* -- Small things -------------------------------------------------------------------------------------- */

static void guard(struct lift *l, enum vmx_guard_id id)
{
    ir_emit(l->ir, UOP_GUARD, 0)->imm = id;
}

/* True when it raised. */
static bool raise_if(struct lift *l, bool condition, unsigned vector)
{
    if (condition)
        lift_raise(l, vector);
    return condition;
}

static struct uop *call(struct lift *l, enum helper_id id)
{
    return lift_helper(l, id, 0);
}

/* Calls `id` with the effective address of a memory operand in a, its segment in am. */
static struct uop *call_memory(struct lift *l, enum helper_id id, unsigned size, const ZydisDecodedOperand *o)
{
    uint8_t am = lift_ea(l, REG_T0, o);
    struct uop *u = lift_helper(l, id, size);
    u->a = REG_T0;
    u->am = am;
    return u;
}

static unsigned cpl(const struct lift *l)
{
    return KEY_CPL(l->key);
}

static bool wide(const struct lift *l)
{
    return l->zi.attributes & ZYDIS_ATTRIB_HAS_REX && l->zi.raw.rex.W;
}

static unsigned segment_number(ZydisRegister r)
{
    return (unsigned)(r - ZYDIS_REGISTER_ES);
}

static bool is_segment(const ZydisDecodedOperand *o)
{
    return operand_is_reg(o) && o->reg.value >= ZYDIS_REGISTER_ES && o->reg.value <= ZYDIS_REGISTER_GS;
}

/* -- Segment registers --------------------------------------------------------------------------------- */

static void load_segment(struct lift *l, unsigned seg, unsigned reg)
{
    struct uop *u = call(l, HELPER_load_segment);
    u->a = (uint8_t)reg;
    u->aux2 = seg;
}

static void read_segment(struct lift *l, unsigned seg, unsigned reg)
{
    struct uop *u = call(l, HELPER_read_segment);
    u->d = (uint8_t)reg;
    u->aux2 = seg;
}

void lift_mov_segment(struct lift *l)
{
    if (is_segment(&l->op[0])) {
        unsigned seg = segment_number(l->op[0].reg.value);
        if (raise_if(l, seg == SEG_CS, EXC_UD))
            return;
        load_segment(l, seg, lift_read(l, &l->op[1], REG_T0));
    } else {
        read_segment(l, segment_number(l->op[1].reg.value), REG_T0);
        lift_write(l, &l->op[0], REG_T0);
    }
}

void lift_push_segment(struct lift *l)
{
    read_segment(l, segment_number(l->op[0].reg.value), REG_T0);
    struct uop *u = ir_emit(l->ir, UOP_PUSH, l->osize);
    u->d = REG_T0;
    u->am = lift_stack_am(l);
}

void lift_pop_segment(struct lift *l)
{
    struct uop *u = lift_helper(l, HELPER_pop_segment, l->osize);
    u->aux2 = segment_number(l->op[0].reg.value);
}

/* Loads offset and selector of a far pointer in memory. */
static void load_pointer(struct lift *l, const ZydisDecodedOperand *o, unsigned offset, unsigned selector)
{
    struct uop *u = ir_emit(l->ir, UOP_LOAD, l->osize);
    u->d = (uint8_t)offset;
    lift_mem(l, u, o);
    u = ir_emit(l->ir, UOP_LOADZX16, 2);
    u->d = (uint8_t)selector;
    lift_mem(l, u, o);
    u->disp += 1 << l->osize;
}

void lift_load_far_pointer(struct lift *l)
{
    static const struct {
        uint16_t mnemonic;
        uint8_t seg;
    } rows[] = {
        {ZYDIS_MNEMONIC_LDS, SEG_DS}, {ZYDIS_MNEMONIC_LES, SEG_ES}, {ZYDIS_MNEMONIC_LFS, SEG_FS},
        {ZYDIS_MNEMONIC_LGS, SEG_GS}, {ZYDIS_MNEMONIC_LSS, SEG_SS},
    };
    load_pointer(l, &l->op[1], REG_T0, REG_T1);
    struct uop *u = lift_helper(l, HELPER_load_far_pointer, l->osize);
    u->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
    u->a = REG_T0;
    u->b = REG_T1;
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++)
        if (rows[i].mnemonic == l->zi.mnemonic)
            u->aux2 = rows[i].seg;
}

/* -- Descriptors --------------------------------------------------------------------------------------- */

static struct uop *look(struct lift *l, enum helper_id id, const ZydisDecodedOperand *selector)
{
    unsigned reg = lift_read(l, selector, REG_T0);
    struct uop *u = call(l, id);
    u->a = (uint8_t)reg;
    return u;
}

static void look_into(struct lift *l, enum helper_id id)
{
    struct uop *u = look(l, id, &l->op[1]);
    u->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
    u->size = l->osize;
}

void lift_lar(struct lift *l)
{
    look_into(l, HELPER_lar);
}

void lift_lsl(struct lift *l)
{
    look_into(l, HELPER_lsl);
}

void lift_verr(struct lift *l)
{
    look(l, HELPER_verify, &l->op[0])->imm = 0;
}

void lift_verw(struct lift *l)
{
    look(l, HELPER_verify, &l->op[0])->imm = 1;
}

void lift_lldt(struct lift *l)
{
    look(l, HELPER_lldt, &l->op[0]);
}

void lift_ltr(struct lift *l)
{
    look(l, HELPER_ltr, &l->op[0]);
}

void lift_arpl(struct lift *l)
{
    unsigned source = lift_gpr(l->op[1].reg.value, NULL);
    unsigned reg = lift_read_rmw(l, &l->op[0], REG_T0);
    lift_dab(l, UOP_MOV, 3, REG_T1, reg, 0);
    struct uop *u = call(l, HELPER_arpl);
    u->d = REG_T1;
    u->a = (uint8_t)source;
    lift_write(l, &l->op[0], REG_T1);
}

static void store_selector(struct lift *l, unsigned seg)
{
    if (raise_if(l, l->key & KEY_UMIP, EXC_GP))
        return;
    guard(l, GUARD_DESCRIPTOR);
    read_segment(l, seg, REG_T0);
    lift_write(l, &l->op[0], REG_T0);
}

void lift_sldt(struct lift *l)
{
    store_selector(l, SEG_LDTR);
}

void lift_str(struct lift *l)
{
    store_selector(l, SEG_TR);
}

void lift_lgdt(struct lift *l)
{
    call_memory(l, HELPER_load_table, l->osize, &l->op[0])->imm = 0;
}

void lift_lidt(struct lift *l)
{
    call_memory(l, HELPER_load_table, l->osize, &l->op[0])->imm = 1;
}

static void store_table(struct lift *l, unsigned idtr)
{
    if (raise_if(l, l->key & KEY_UMIP, EXC_GP))
        return;
    guard(l, GUARD_DESCRIPTOR);
    call_memory(l, HELPER_store_table, l->osize, &l->op[0])->imm = idtr;
}

void lift_sgdt(struct lift *l)
{
    store_table(l, 0);
}

void lift_sidt(struct lift *l)
{
    store_table(l, 1);
}

/* -- Control and debug registers ----------------------------------------------------------------------- */

void lift_smsw(struct lift *l)
{
    if (raise_if(l, l->key & KEY_UMIP, EXC_GP))
        return;
    call(l, HELPER_smsw)->d = REG_T0;
    lift_write(l, &l->op[0], REG_T0);
}

void lift_lmsw(struct lift *l)
{
    bool memory = operand_is_mem(&l->op[0]);
    unsigned reg = lift_read(l, &l->op[0], REG_T0);
    uint8_t am = memory ? lift_ea(l, REG_T1, &l->op[0]) : 0;
    struct uop *u = call(l, HELPER_lmsw);
    u->a = (uint8_t)reg;
    u->b = REG_T1;
    u->am = am;
    u->aux2 = memory;
}

void lift_clts(struct lift *l)
{
    call(l, HELPER_clts);
}

static bool is_register_in(const ZydisDecodedOperand *o, ZydisRegister first, ZydisRegister last)
{
    return operand_is_reg(o) && o->reg.value >= first && o->reg.value <= last;
}

void lift_mov_control(struct lift *l)
{
    bool write = is_register_in(&l->op[0], ZYDIS_REGISTER_CR0, ZYDIS_REGISTER_CR15);
    unsigned cr = (unsigned)(l->op[write ? 0 : 1].reg.value - ZYDIS_REGISTER_CR0);
    unsigned gpr = lift_gpr(l->op[write ? 1 : 0].reg.value, NULL);
    bool exists = cr == 0 || cr == 2 || cr == 3 || cr == 4 || (cr == 8 && (l->key & KEY_L));
    if (raise_if(l, !exists, EXC_UD) || raise_if(l, cpl(l) != 0, EXC_GP))
        return;
    struct uop *u = call(l, write ? HELPER_write_cr : HELPER_read_cr);
    u->imm = cr;
    u->a = u->d = (uint8_t)gpr;
}

void lift_mov_debug(struct lift *l)
{
    bool write = is_register_in(&l->op[0], ZYDIS_REGISTER_DR0, ZYDIS_REGISTER_DR15);
    unsigned dr = (unsigned)(l->op[write ? 0 : 1].reg.value - ZYDIS_REGISTER_DR0);
    unsigned gpr = lift_gpr(l->op[write ? 1 : 0].reg.value, NULL);
    if (raise_if(l, dr > 7, EXC_UD))
        return;
    struct uop *u = call(l, write ? HELPER_write_dr : HELPER_read_dr);
    u->imm = dr;
    u->a = u->d = (uint8_t)gpr;
}

void lift_xgetbv(struct lift *l)
{
    if (!raise_if(l, !(l->key & KEY_OSXSAVE), EXC_UD))
        call(l, HELPER_xgetbv);
}

void lift_xsetbv(struct lift *l)
{
    if (raise_if(l, !(l->key & KEY_OSXSAVE), EXC_UD) || raise_if(l, cpl(l) != 0, EXC_GP))
        return;
    guard(l, GUARD_XSETBV);
    call(l, HELPER_xsetbv);
}

/* CR4.PKE is not in the key: the helpers look at it. */
void lift_rdpkru(struct lift *l)
{
    call(l, HELPER_rdpkru);
}

void lift_wrpkru(struct lift *l)
{
    call(l, HELPER_wrpkru);
}

/* -- Flags --------------------------------------------------------------------------------------------- */

void lift_pushf(struct lift *l)
{
    if (l->key & KEY_VM) {
        lift_helper(l, HELPER_v86_pushf, l->osize)->d = REG_T0;
    } else {
        ir_emit(l->ir, UOP_GETF, 0)->d = REG_T0;
        lift_dai(l, UOP_ANDI_NF, 3, REG_T0, REG_T0, ~(int64_t)(FLAG_RF | FLAG_VM));
    }
    struct uop *u = ir_emit(l->ir, UOP_PUSH, l->osize);
    u->d = REG_T0;
    u->am = lift_stack_am(l);
}

void lift_popf(struct lift *l)
{
    if (l->key & KEY_VM) {
        lift_helper(l, HELPER_v86_popf, l->osize);
        return;
    }
    struct uop *u = ir_emit(l->ir, UOP_POP, l->osize);
    u->d = REG_T0;
    u->am = lift_stack_am(l);
    lift_helper(l, HELPER_popf, l->osize)->a = REG_T0;
}

void lift_cli(struct lift *l)
{
    call(l, HELPER_cli);
}

void lift_sti(struct lift *l)
{
    call(l, HELPER_sti);
}

static void set_ac(struct lift *l, unsigned value)
{
    if (!raise_if(l, cpl(l) != 0, EXC_UD))
        call(l, HELPER_set_ac)->imm = value;
}

void lift_clac(struct lift *l)
{
    set_ac(l, 0);
}

void lift_stac(struct lift *l)
{
    set_ac(l, 1);
}

/* -- Far transfers, interrupts, system calls ----------------------------------------------------------- */

static void far_transfer(struct lift *l, enum helper_id id)
{
    const ZydisDecodedOperand *o = &l->op[0];
    if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
        lift_dai(l, UOP_MOVI, 3, REG_T0, 0, o->ptr.offset);
        lift_dai(l, UOP_MOVI, 3, REG_T1, 0, o->ptr.segment);
    } else {
        load_pointer(l, o, REG_T0, REG_T1);
    }
    struct uop *u = lift_helper(l, id, l->osize);
    u->a = REG_T0;
    u->b = REG_T1;
}

void lift_far_jmp(struct lift *l)
{
    far_transfer(l, HELPER_far_jmp);
}

void lift_far_call(struct lift *l)
{
    far_transfer(l, HELPER_far_call);
}

void lift_far_ret(struct lift *l)
{
    struct uop *u = lift_helper(l, HELPER_far_ret, l->osize);
    if (l->zi.operand_count_visible > 0)
        u->imm = (int64_t)(l->op[0].imm.value.u & 0xffff);
}

void lift_iret(struct lift *l)
{
    unsigned size = l->zi.mnemonic == ZYDIS_MNEMONIC_IRETQ   ? 3
                    : l->zi.mnemonic == ZYDIS_MNEMONIC_IRETD ? 2
                                                             : 1;
    lift_helper(l, HELPER_iret, size);
}

static void software_interrupt(struct lift *l, unsigned vector, enum event_type type)
{
    struct uop *u = call(l, HELPER_software_interrupt);
    u->imm = vector;
    u->aux2 = type;
}

void lift_int(struct lift *l)
{
    software_interrupt(l, l->op[0].imm.value.u & 0xff, EVENT_SOFTWARE_INTERRUPT);
}

void lift_int1(struct lift *l)
{
    software_interrupt(l, EXC_DB, EVENT_PRIVILEGED_SOFTWARE_EXCEPTION);
}

void lift_int3(struct lift *l)
{
    software_interrupt(l, EXC_BP, EVENT_SOFTWARE_EXCEPTION);
}

void lift_into(struct lift *l)
{
    call(l, HELPER_into);
}

void lift_syscall(struct lift *l)
{
    call(l, HELPER_syscall);
}

void lift_sysret(struct lift *l)
{
    lift_helper(l, HELPER_sysret, wide(l) ? 3 : 2);
}

/* In real-address mode both raise #GP(0), not #UD. */
void lift_sysenter(struct lift *l)
{
    if (!raise_if(l, !(l->key & KEY_PE), EXC_GP))
        call(l, HELPER_sysenter);
}

void lift_sysexit(struct lift *l)
{
    if (!raise_if(l, !(l->key & KEY_PE), EXC_GP))
        lift_helper(l, HELPER_sysexit, wide(l) ? 3 : 2);
}

/* -- Ports --------------------------------------------------------------------------------------------- */

static void port(struct lift *l, enum helper_id id, const ZydisDecodedOperand *where,
                 const ZydisDecodedOperand *data)
{
    struct uop *u = lift_helper(l, id, lift_size(data));
    if (operand_is_imm(where)) {
        u->aux2 = 1;
        u->imm = (int64_t)(where->imm.value.u & 0xff);
    }
}

void lift_in(struct lift *l)
{
    port(l, HELPER_in, &l->op[1], &l->op[0]);
}

void lift_out(struct lift *l)
{
    port(l, HELPER_out, &l->op[0], &l->op[1]);
}

static bool repeated(const struct lift *l)
{
    return l->zi.attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE);
}

/* A 64-bit operand size acts as 32 bits. */
static void port_string(struct lift *l, enum helper_id id, uint8_t am)
{
    struct uop *u = lift_helper(l, id, l->zi.opcode & 1 ? MIN(l->osize, 2u) : 0);
    u->am = am;
    u->aux2 = repeated(l);
}

void lift_ins(struct lift *l)
{
    port_string(l, HELPER_ins, (uint8_t)AM(0, l->asize, SEG_ES, !(l->key & KEY_L)));
}

void lift_outs(struct lift *l)
{
    port_string(l, HELPER_outs, lift_am_segment(l, SEG_DS));
}

/* -- CPUID, MSRs, time, random numbers ----------------------------------------------------------------- */

void lift_cpuid(struct lift *l)
{
    call(l, HELPER_cpuid);
}

void lift_rdmsr(struct lift *l)
{
    call(l, HELPER_rdmsr);
}

void lift_wrmsr(struct lift *l)
{
    call(l, HELPER_wrmsr);
}

void lift_rdtsc(struct lift *l)
{
    if (raise_if(l, l->key & KEY_TSD, EXC_GP))
        return;
    guard(l, GUARD_RDTSC);
    call(l, HELPER_rdtsc)->imm = 0;
}

void lift_rdtscp(struct lift *l)
{
    if (raise_if(l, l->key & KEY_TSD, EXC_GP))
        return;
    guard(l, GUARD_RDTSCP);
    call(l, HELPER_rdtsc)->imm = 1;
}

void lift_rdpmc(struct lift *l)
{
    /* CR4.PCE is not in the key: outside of ring 0 the outcome is #GP(0) with and without it. */
    if (raise_if(l, cpl(l) != 0, EXC_GP))
        return;
    guard(l, GUARD_RDPMC);
    call(l, HELPER_rdpmc);
}

void lift_rdpid(struct lift *l)
{
    call(l, HELPER_rdpid)->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
}

void lift_random(struct lift *l)
{
    struct uop *u = lift_helper(l, HELPER_random, lift_size(&l->op[0]));
    u->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
}

/* -- Waiting, caches, translations --------------------------------------------------------------------- */

void lift_hlt(struct lift *l)
{
    call(l, HELPER_hlt);
}

void lift_pause(struct lift *l)
{
    call(l, HELPER_pause);
}

/* Caches are not there to be written back. */
void lift_invd(struct lift *l)
{
    (void)l;
}

/* With F3 it is WBNOINVD, where that is there. */
void lift_wbinvd(struct lift *l)
{
    bool f3 = false;
    for (unsigned i = 0; i < l->zi.raw.prefix_count; i++)
        f3 |= l->zi.raw.prefixes[i].value == 0xf3;
    guard(l, f3 && l->model->has[FEAT_WBNOINVD] ? GUARD_WBNOINVD : GUARD_WBINVD);
}

void lift_invlpg(struct lift *l)
{
    call_memory(l, HELPER_invlpg, 0, &l->op[0]);
}

void lift_invpcid(struct lift *l)
{
    call_memory(l, HELPER_invpcid, 0, &l->op[1])->b = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
}

void lift_swapgs(struct lift *l)
{
    call(l, HELPER_swapgs);
}

static void base(struct lift *l, enum helper_id id, unsigned seg)
{
    struct uop *u = lift_helper(l, id, lift_size(&l->op[0]));
    u->a = u->d = (uint8_t)lift_gpr(l->op[0].reg.value, NULL);
    u->aux2 = seg;
}

void lift_rdfsbase(struct lift *l)
{
    base(l, HELPER_read_base, SEG_FS);
}

void lift_rdgsbase(struct lift *l)
{
    base(l, HELPER_read_base, SEG_GS);
}

void lift_wrfsbase(struct lift *l)
{
    base(l, HELPER_write_base, SEG_FS);
}

void lift_wrgsbase(struct lift *l)
{
    base(l, HELPER_write_base, SEG_GS);
}
