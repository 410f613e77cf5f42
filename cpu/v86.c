/*
 * cpu/v86.c -- virtual-8086 mode, its extensions (CR4.VME), and protected-mode virtual interrupts (CR4.PVI).
 *
 * SDM 3B, "8086 Emulation": "Virtual-8086 Mode", table "Software Interrupt Handling Methods While in
 * Virtual-8086 Mode", "Protected-Mode Virtual Interrupts"; SDM 2, CLI, STI, PUSHF, POPF, INT n, IRET.
 * IOPL, CR4.VME and CR4.PVI are not in the block key, so everything that they decide is decided here, when
 * the instruction runs. With IOPL 3 the instructions act on IF; below it they raise #GP(0), or, with the
 * extensions, act on VIF, and #GP(0) tells the monitor of a pending interrupt (VIP).
 * Not here: leaving the mode by interrupts (interrupt.c) and task switches (task.c).
 */
#include "cpu/system.h"

#include "cpu/flags.h"
#include "cpu/ir/helper.h"

#define AR_V86 (AR_P | 3u << 5 | AR_S | 3)

bool v86_virtual_interrupts(const struct cpu *cpu)
{
    return cpu->cpl == 3 && (cpu->cr4 & (cpu_v86(cpu) ? CR4_VME : CR4_PVI));
}

void v86_check_pending(struct cpu *cpu)
{
    const uint64_t both = FLAG_VIF | FLAG_VIP;
    if ((cpu->rflags & both) == both && v86_virtual_interrupts(cpu) && cpu_iopl(cpu) < 3)
        cpu_raise_gp0(cpu);
}

void v86_load_segments(struct cpu *cpu, const uint16_t selectors[6])
{
    for (enum seg_reg i = SEG_ES; i <= SEG_GS; i++)
        cpu->seg[i] = (struct segment){
            .selector = selectors[i], .base = (uint32_t)selectors[i] << 4, .limit = 0xffff, .ar = AR_V86};
}

/* -- Flags --------------------------------------------------------------------------------------------- */

static bool iopl3(const struct cpu *cpu)
{
    return cpu_iopl(cpu) == 3;
}

/* Below IOPL 3 only the 16-bit forms are there, and only with the extensions. */
static void check_sensitive(struct cpu *cpu, unsigned size)
{
    if (!iopl3(cpu) && (size != 2 || !(cpu->cr4 & CR4_VME)))
        cpu_raise_gp0(cpu);
}

/* FLAGS as the 8086 program sees it: with the extensions IF is VIF, and IOPL reads as 3. */
static uint64_t flags_image(const struct cpu *cpu)
{
    uint64_t f = cpu_rflags(cpu) & ~(uint64_t)(FLAG_VM | FLAG_RF);
    if (iopl3(cpu))
        return f;
    f = (f & ~(uint64_t)FLAG_IF) | FLAG_IOPL;
    return cpu->rflags & FLAG_VIF ? f | FLAG_IF : f;
}

/* Raises when the image asks for what the monitor has to see first. */
static void check_image(struct cpu *cpu, uint64_t image)
{
    if (!iopl3(cpu) && ((image & FLAG_TF) || ((image & FLAG_IF) && (cpu->rflags & FLAG_VIP))))
        cpu_raise_gp0(cpu);
}

/* POPF and IRET: IOPL, VM, VIF and VIP do not come from the image; of IF, VIF takes the place below IOPL 3.
 */
static void load_flags(struct cpu *cpu, uint64_t image, unsigned size)
{
    uint64_t mask = FLAGS_ARITH | FLAG_TF | FLAG_DF | FLAG_NT, old = cpu_rflags(cpu);
    if (size == 4)
        mask |= FLAG_AC | FLAG_ID | FLAG_RF;
    if (iopl3(cpu)) {
        mask |= FLAG_IF;
    } else {
        mask |= FLAG_VIF;
        image = image & FLAG_IF ? image | FLAG_VIF : image & ~(uint64_t)FLAG_VIF;
    }
    cpu_set_rflags(cpu, (old & ~mask) | (image & mask));
    if (cpu->rflags & ~old & FLAG_IF)
        event_recheck(cpu);
}

/* d = image; size: operand */
void helper_v86_pushf(struct cpu *cpu, const struct uop *u)
{
    check_sensitive(cpu, 1u << u->size);
    cpu->r[u->d] = flags_image(cpu);
}

/* Pops by itself: rSP must stay when the image is refused. size: operand */
void helper_v86_popf(struct cpu *cpu, const struct uop *u)
{
    unsigned size = 1u << u->size;
    check_sensitive(cpu, size);
    struct far_stack s = far_stack_current(cpu);
    uint64_t image = far_peek(cpu, &s, 0, size);
    check_image(cpu, image);
    s.sp += size;
    far_commit_rsp(cpu, &s);
    load_flags(cpu, image & ~(uint64_t)FLAG_RF, size);
    cpu_mode_changed(cpu);
}

void v86_set_vif(struct cpu *cpu, bool on)
{
    if (!v86_virtual_interrupts(cpu) || (on && (cpu->rflags & FLAG_VIP)))
        cpu_raise_gp0(cpu);
    cpu->rflags = on ? cpu->rflags | FLAG_VIF : cpu->rflags & ~(uint64_t)FLAG_VIF;
}

/* -- IRET ---------------------------------------------------------------------------------------------- */

/* To the mode, from protected mode at CPL 0; CS:EIP and EFLAGS have been read, the rest lies above them. */
void v86_enter(struct cpu *cpu, const struct far_stack *s, uint64_t rip, uint16_t cs, uint64_t image)
{
    uint16_t selectors[6] = {[SEG_CS] = cs};
    uint32_t sp = (uint32_t)far_peek(cpu, s, 12, 4);
    static const enum seg_reg order[] = {SEG_SS, SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++)
        selectors[order[i]] = (uint16_t)far_peek(cpu, s, 16 + i * 4, 4);
    if (rip > 0xffff)
        cpu_raise_gp0(cpu);
    bool was_on = cpu->rflags & FLAG_IF;
    cpu_set_rflags(cpu, image);
    cpu->rf_loaded = image & FLAG_RF;
    if (!was_on && (cpu->rflags & FLAG_IF))
        event_recheck(cpu);
    v86_load_segments(cpu, selectors);
    cpu->r[REG_RSP] = sp;
    cpu->cpl = 3;
    cpu->next_rip = rip;
    cpu_mode_changed(cpu);
}

/* Within the mode. size: bytes */
void v86_iret(struct cpu *cpu, unsigned size)
{
    check_sensitive(cpu, size);
    struct far_stack s = far_stack_current(cpu);
    uint64_t rip = far_peek(cpu, &s, 0, size);
    uint16_t selector = (uint16_t)far_peek(cpu, &s, size, size);
    uint64_t image = far_peek(cpu, &s, 2 * size, size);
    check_image(cpu, image);
    if (rip > cpu->seg[SEG_CS].limit)
        cpu_raise_gp0(cpu);
    s.sp += 3 * size;
    far_commit_rsp(cpu, &s);
    cpu_load_segment_real(cpu, SEG_CS, selector);
    load_flags(cpu, image, size);
    cpu->rf_loaded = cpu->rflags & FLAG_RF;
    cpu->next_rip = rip;
    cpu_mode_changed(cpu);
}

/* -- INT n --------------------------------------------------------------------------------------------- */

/* The software interrupt redirection bit map lies in the 32 bytes below the I/O permission bit map. */
static bool redirected(struct cpu *cpu, unsigned vector)
{
    const struct segment *tr = &cpu->seg[SEG_TR];
    if (!(cpu->cr4 & CR4_VME))
        return false;
    if ((tr->ar & AR_UNUSABLE) || !(AR_TYPE(tr->ar) & 8) || tr->limit < 103)
        cpu_raise_gp0(cpu);
    uint32_t base = (uint32_t)cpu_read_linear(cpu, tr->base + 102, 2, MMU_SYSTEM);
    uint32_t at = base - 32 + vector / 8;
    if (at > tr->limit)
        cpu_raise_gp0(cpu);
    return !(cpu_read_linear(cpu, tr->base + at, 1, MMU_SYSTEM) >> (vector & 7) & 1);
}

void v86_check_int(struct cpu *cpu, unsigned vector)
{
    if (!redirected(cpu, vector) && !iopl3(cpu))
        cpu_raise_gp0(cpu);
}

/* Methods 5 and 6: to the 8086 program's own handler, by the table at linear address 0. */
bool v86_redirect(struct cpu *cpu, const struct event *ev, uint64_t return_rip)
{
    if (ev->type != EVENT_SOFTWARE_INTERRUPT || !redirected(cpu, ev->vector))
        return false;
    uint32_t entry = (uint32_t)cpu_read_linear(cpu, ev->vector * 4u, 4, 0);
    struct far_stack s = far_stack_current(cpu);
    far_push(cpu, &s, 2, flags_image(cpu));
    far_push(cpu, &s, 2, cpu->seg[SEG_CS].selector);
    far_push(cpu, &s, 2, return_rip);
    far_commit_rsp(cpu, &s);
    cpu_load_segment_real(cpu, SEG_CS, (uint16_t)(entry >> 16));
    cpu->rip = entry & 0xffff;
    cpu->rflags &= ~(uint64_t)(FLAG_TF | FLAG_RF | (iopl3(cpu) ? FLAG_IF : FLAG_VIF));
    return true;
}
