/*
 * cpu/system.h -- what the files of the system side of a processor share: segments, far transfers, events,
 * MSRs.
 */
#ifndef CPU_SYSTEM_H
#define CPU_SYSTEM_H

#include "cpu/cpu.h"

/* -- Flags (system.c) ---------------------------------------------------------------------------------- */

void cpu_set_zf(struct cpu *cpu, bool zf);
/* IF, TPR or blocking may have changed: pending interrupts must be looked at again. */
void event_recheck(struct cpu *cpu);
/* RFLAGS.IF; a change to 1 makes pending interrupts be looked at. */
void event_set_if(struct cpu *cpu, bool on);

/* -- Descriptors (segment.c) --------------------------------------------------------------------------- */

/* System descriptor types; AR_TYPE() with AR_S clear. */
enum {
    SYS_TSS16_AVAILABLE = 1,
    SYS_LDT = 2,
    SYS_TSS16_BUSY = 3,
    SYS_CALL_GATE16 = 4,
    SYS_TASK_GATE = 5,
    SYS_INTERRUPT_GATE16 = 6,
    SYS_TRAP_GATE16 = 7,
    SYS_TSS_AVAILABLE = 9,
    SYS_TSS_BUSY = 11,
    SYS_CALL_GATE = 12,
    SYS_INTERRUPT_GATE = 14,
    SYS_TRAP_GATE = 15,
};

static inline uint32_t descriptor_ar(uint64_t d)
{
    return (uint32_t)(d >> 40) & 0xf0ff;
}
static inline uint32_t descriptor_limit(uint64_t d)
{
    uint32_t limit = (uint32_t)(d & 0xffff) | (uint32_t)(d >> 32 & 0xf0000);
    return d >> 55 & 1 ? limit << 12 | 0xfff : limit;
}
static inline uint64_t descriptor_base(uint64_t d)
{
    return (d >> 16 & 0xffffff) | (d >> 32 & 0xff000000);
}
static inline bool ar_is_code(uint32_t ar)
{
    return (ar & AR_S) && (AR_TYPE(ar) & 8);
}
static inline bool ar_is_conforming(uint32_t ar)
{
    return ar_is_code(ar) && (AR_TYPE(ar) & 4);
}
static inline bool ar_is_writable_data(uint32_t ar)
{
    return (ar & AR_S) && (AR_TYPE(ar) & 10) == 2;
}
static inline bool selector_null(uint16_t selector)
{
    return !(selector & ~3u);
}

/* Sets the accessed bit of a code or data descriptor in memory. */
void segment_mark_accessed(struct cpu *cpu, uint16_t selector, uint64_t descriptor);
/* Second half of a 16-byte system descriptor; false when outside the limit. */
bool segment_read_descriptor_high(struct cpu *cpu, uint16_t selector, uint64_t *high);
/* CS from a checked descriptor: RPL and CPL become `cpl`. */
void segment_load_cs(struct cpu *cpu, uint16_t selector, uint64_t descriptor, unsigned cpl);
/* SS without a segment, as 64-bit mode allows. */
void segment_null_ss(struct segment *ss, uint16_t selector, unsigned cpl);
/* After a return to an outer ring: drops data segments that CPL may not use any more. */
void segment_drop_privileged(struct cpu *cpu);

/* -- Stacks of far transfers and events (stack.c part of far.c) ---------------------------------------- */

struct far_stack {
    struct segment ss;
    uint64_t sp;    /* offset; kept in full, cut when used */
    bool ia32e;     /* 64-bit stack: no segment */
    unsigned flags; /* MMU_SYSTEM when the accesses are those of a more privileged ring */
    uint32_t error; /* of #SS */
};

/* The current stack. */
struct far_stack far_stack_current(const struct cpu *cpu);
/* Stack of ring `dpl` from the TSS; checks of SDM 2A, CALL "more privilege". ext: EXT bit of error codes. */
struct far_stack far_stack_inner(struct cpu *cpu, unsigned dpl, bool ia32e_target, unsigned ext);
/* RSP from a 64-bit TSS: index 0..2 privilege stacks, 3 + n: interrupt-stack-table entry n (1..7). */
uint64_t far_tss_rsp(struct cpu *cpu, unsigned index, unsigned ext);
void far_push(struct cpu *cpu, struct far_stack *s, unsigned size, uint64_t value);
/* Value at sp + offset; the stack pointer does not move. */
uint64_t far_peek(struct cpu *cpu, const struct far_stack *s, unsigned offset, unsigned size);
/* rSP after all accesses: writes the part that the stack's width says. */
void far_commit_rsp(struct cpu *cpu, const struct far_stack *s);
/* Raises #GP(0) when `rip` is no valid target in the code segment `d`. */
void far_check_target(struct cpu *cpu, uint64_t d, uint64_t rip);

/* -- Task switches (task.c) ---------------------------------------------------------------------------- */

/* Numbered as in the exit qualification (SDM 3C, table "Exit Qualification for Task Switches"). */
enum task_source { TASK_CALL, TASK_IRET, TASK_JMP, TASK_GATE /* in the IDT */ };

/* What the old task goes on with, and EXT of error codes. */
struct task_return {
    uint64_t rip, rflags;
    unsigned ext;
};

/* To the task whose TSS `selector` names, between instructions; a fault before the switch leaves everything
 * as it is, a later one is the new task's. */
void task_switch(struct cpu *cpu, uint16_t selector, enum task_source source, const struct task_return *from);
/* The same from the running instruction, which it ends. */
NORETURN void task_switch_by_instruction(struct cpu *cpu, uint16_t selector, enum task_source source);

/* -- Virtual-8086 mode and virtual interrupts (v86.c) -------------------------------------------------- */

/* CLI and STI act on VIF: CR4.VME in virtual-8086 mode, CR4.PVI in protected mode at CPL 3. Asked with IOPL
 * below 3. */
bool v86_virtual_interrupts(const struct cpu *cpu);
/* CLI and STI with CPL > IOPL: changes VIF or raises. */
void v86_set_vif(struct cpu *cpu, bool on);
/* VIF and VIP both 1 at the beginning of an instruction: raises #GP(0). */
void v86_check_pending(struct cpu *cpu);
/* All six, from the selectors of ES, CS, SS, DS, FS, GS. */
void v86_load_segments(struct cpu *cpu, const uint16_t selectors[6]);
/* IRET to the mode: EIP, CS and EFLAGS have been read from `s`. */
void v86_enter(struct cpu *cpu, const struct far_stack *s, uint64_t rip, uint16_t cs, uint64_t image);
/* IRET in the mode; size in bytes. */
void v86_iret(struct cpu *cpu, unsigned size);
/* INT n before anything else of it: raises when IOPL and the redirection bit map do not permit it. */
void v86_check_int(struct cpu *cpu, unsigned vector);
/* Delivers a software interrupt by the 8086 program's table when it is to be redirected; false: by the IDT.
 */
bool v86_redirect(struct cpu *cpu, const struct event *ev, uint64_t return_rip);

/* -- Debug --------------------------------------------------------------------------------------------- */

enum { DR6_B0 = 1, DR6_BD = 1 << 13, DR6_BS = 1 << 14, DR6_BT = 1 << 15 };
#define DR6_FIXED1 0xffff0ff0u
#define DR7_FIXED1 0x400u
#define DR7_GD     BIT(13)
enum { DEBUGCTL_LBR = 1 << 0, DEBUGCTL_BTF = 1 << 1 };
/* Any enabled breakpoint of this kind (RWn 0: instruction, 1: write, 3: access, 2: I/O). */
bool debug_instruction_armed(const struct cpu *cpu);
bool debug_data_armed(const struct cpu *cpu);

/* -- Other --------------------------------------------------------------------------------------------- */

#define IA32_MICROCODE_REVISION 0x0d0003f5u
uint32_t cpuid_signature(const struct cpu_model *m);
uint64_t cpu_xcr0_supported(const struct cpu *cpu);
/* Bytes of the XSAVE area for these components. */
uint32_t xsave_size(uint64_t components, bool compacted);
/* XINUSE: components that are not in their initial configuration. */
uint64_t xsave_in_use(const struct cpu *cpu);
/* CR4 bits that exist with the model's features. */
uint64_t cpu_cr4_supported(const struct cpu *cpu);

#endif
