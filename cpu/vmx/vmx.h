/*
 * cpu/vmx/vmx.h -- what the rest of cpu/ may ask of VT-x.
 *
 * Guards are instruction intercepts that a single bit decides first: GUARD micro-ops test cpu->vmx_guards,
 * and only then is vmx_guard() asked. Hooks with operands are called by the instruction helpers when
 * cpu->vmx_non_root is set; they return when the instruction shall go on, or make the VM exit and never
 * return.
 */
#ifndef CPU_VMX_VMX_H
#define CPU_VMX_VMX_H

#include "cpu/cpu.h"

enum vmx_guard_id {
    GUARD_NEVER = 0,
    GUARD_CPUID,
    GUARD_HLT,
    GUARD_INVD,
    GUARD_WBINVD,
    GUARD_RDTSC,
    GUARD_RDTSCP,
    GUARD_RDPMC,
    GUARD_PAUSE,
    GUARD_MWAIT,
    GUARD_MONITOR,
    GUARD_RSM,
    GUARD_RDRAND,
    GUARD_RDSEED,
    GUARD_XSETBV,
    GUARD_XSAVES,
    GUARD_XRSTORS,
    GUARD_GETSEC,
    GUARD_INVPCID,
    GUARD_VMX_INSN /* VMCALL..VMXON: always */,
    GUARD_ENCLS,
    GUARD_ENCLV,
    GUARD_RDPID /* #UD unless "enable RDTSCP" */,
    GUARD_WBNOINVD,
    GUARD_DESCRIPTOR /* LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT, STR */,
    GUARD_UMWAIT,
    GUARD_COUNT,
};

bool vmx_init(struct cpu *cpu, struct error *e); /* allocates cpu->vmx */
void vmx_free(struct cpu *cpu);
void vmx_reset(struct cpu *cpu);
extern const struct state_desc vmx_state; /* of struct vmx */

/* After all state of the processor is loaded: rebuilds guards, PML and attention; call before
 * cpu_mode_changed(). False: e says what cannot be. */
bool vmx_loaded(struct cpu *cpu, struct error *e);
/* Fills ept, eptp and apic_page of a mode being built by cpu_mode_changed(). */
void vmx_mmu_mode(const struct cpu *cpu, struct mmu_mode *mode);

/* The running instruction leaves its block, not executed as far as the budget knows; cpu_sync() has been
 * done. */
void vmx_leave_block(struct cpu *cpu);

/* From GUARD micro-ops: returns to go on, or exits. cpu_sync() has not been done. */
void vmx_guard(struct cpu *cpu, unsigned guard);
/* The same without cpu_resume() where that is cheaper. True: an exit was made, the processor goes on at
 * cpu->rip, one tick later. */
bool vmx_guard_exit(struct cpu *cpu, unsigned guard);

/* -- Hooks; only called with cpu->vmx_non_root. cpu_sync() has been done. ------------------------------ */

/* MOV to CR: may exit; else returns the value to load, host-owned bits merged. */
uint64_t vmx_write_cr(struct cpu *cpu, unsigned cr, uint64_t value, unsigned gpr);
/* MOV from CR: may exit; else the value the guest sees (read shadow). Also CR0 for SMSW (gpr = 0, no exit).
 */
uint64_t vmx_read_cr(struct cpu *cpu, unsigned cr, uint64_t value, unsigned gpr);
uint64_t vmx_read_cr_shadow(struct cpu *cpu, unsigned cr, uint64_t value); /* SMSW: shadow, never an exit */
bool vmx_clts(struct cpu *cpu); /* may exit; true: TS is to be cleared; false: leave CR0 as it is */
/* LMSW: may exit; else the CR0 to load. memory: operand in memory at `linear`. */
uint64_t vmx_lmsw(struct cpu *cpu, uint16_t msw, bool memory, gva_t linear);
/* MOV CR8 goes by vmx_write_cr/vmx_read_cr with cr 8: true in *done when TPR shadow took it. */
bool vmx_cr8(struct cpu *cpu, bool write, uint64_t *value, unsigned gpr);
void vmx_dr_access(struct cpu *cpu, unsigned dr, bool write, unsigned gpr);
/* RDMSR/WRMSR: exits by bitmap. True when the access was virtualised (x2APIC mode) and *value is done. */
bool vmx_msr_access(struct cpu *cpu, uint32_t index, bool write, uint64_t *value);
/* IN/OUT/INS/OUTS before any access. */
struct vmx_io {
    uint16_t port;
    uint8_t size; /* bytes */
    bool in, string, rep, immediate;
    uint8_t asize; /* ASIZE_* of INS/OUTS */
    uint8_t seg;   /* of OUTS */
    gva_t linear;  /* of INS/OUTS memory operand */
};
void vmx_io(struct cpu *cpu, const struct vmx_io *io);
void vmx_invlpg(struct cpu *cpu, gva_t linear);
/* TSC as the guest sees it (offset applied), from the real one. */
uint64_t vmx_tsc(struct cpu *cpu, uint64_t tsc);
/* For translated code: where in *cpu->vmx the 64-bit multiplier is; while it is 0, the TSC that anybody sees
 * is the real one and cpu->tsc_offset. */
int32_t vmx_tsc_multiplier_offset(void);
void vmx_task_switch(struct cpu *cpu, uint16_t selector,
                     unsigned source); /* always exits in non-root; source 0 CALL 1 IRET 2 JMP 3 gate */
/* Event about to be delivered: exits when the exception bitmap (or NMI exiting) says so; else returns. */
void vmx_event(struct cpu *cpu, const struct event *ev);
NORETURN void vmx_triple_fault(struct cpu *cpu);
NORETURN void vmx_ept_fault(struct cpu *cpu, const struct mmu_fault *f);
/* Between instructions: VMX events by the one ordered list of event.c. Each returns when it has no exit to
 * make. */
void vmx_poll_init(struct cpu *cpu);
void vmx_poll_sipi(struct cpu *cpu, uint8_t vector);
/* Call when ATTN_MTF is set. Also makes the trap-like exits (TPR below threshold, APIC write, virtualized
 * EOI) that the last instruction left pending: they come before MTF and everything below it. */
void vmx_poll_mtf(struct cpu *cpu);
void vmx_poll_preemption_timer(struct cpu *cpu);
void vmx_poll_nmi_window(struct cpu *cpu);
/* A pending NMI (not blocked by cpu->nmi_blocked): exits when NMI exiting, clearing cpu->nmi_pending. */
void vmx_poll_nmi(struct cpu *cpu);
void vmx_poll_interrupt_window(struct cpu *cpu);
/* External interrupt pending: exits when external-interrupt exiting (acknowledging when asked; posted
 * interrupts are processed here and return true = swallowed). False: deliver it in the guest. */
bool vmx_poll_interrupt(struct cpu *cpu);
/* Virtual-interrupt delivery: true and *vector when one is recognised and deliverable now. */
bool vmx_poll_virtual_interrupt(struct cpu *cpu, uint8_t *vector);
/* External interrupts exit regardless of RFLAGS.IF. */
bool vmx_interrupts_exit(const struct cpu *cpu);
/* Blocking by NMI as the guest sees it: virtual-NMI blocking with "virtual NMIs", else cpu->nmi_blocked. */
bool vmx_nmi_blocked(const struct cpu *cpu);
/* IRET in non-root operation ends the blocking that the controls say (SDM 3C, "Changes to Instruction
 * Behavior in VMX Non-Root Operation"); instead of clearing cpu->nmi_blocked. Call before anything in IRET
 * that can fault. */
void vmx_iret(struct cpu *cpu);
/* NMI delivered through the IDT in non-root operation: sets the blocking that the controls say; instead of
 * setting cpu->nmi_blocked. */
void vmx_nmi_delivered(struct cpu *cpu);
/* Tick of the next VMX event (preemption timer) or CLOCK_NEVER: bounds the slice. */
uint64_t vmx_next_deadline(const struct cpu *cpu);
/* Guest-physical access (after EPT) to the APIC-access page: true when handled (virtualised); may exit. */
bool vmx_apic_access(struct cpu *cpu, gpa_t gpa, gva_t linear, unsigned size, bool write, bool fetch,
                     uint64_t *value);
/* The read of a read-modify-write: its exit reports a write. */
bool vmx_apic_access_rmw(struct cpu *cpu, gpa_t gpa, gva_t linear, unsigned size, uint64_t *value);
/* Fixed bits: value allowed in CR0/CR4 while in VMX operation. */
bool vmx_cr0_allowed(const struct cpu *cpu, uint64_t cr0);
bool vmx_cr4_allowed(const struct cpu *cpu, uint64_t cr4);
/* Capability MSRs 480H..491H, and IA32_FEATURE_CONTROL is in cpu->msr. False: no such MSR. */
bool vmx_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value);

/*
 * For translated code that reads or writes a field of the current VMCS itself. That is allowed with
 * cpu->vmx_on, !cpu->vmx_non_root, CPL 0, 64-bit mode and a current VMCS, *(struct vmcs **)cpu->vmx; then
 * VMsucceed follows.
 */
struct vmx_field_place {
    uint16_t offset;       /* in struct vmcs */
    uint16_t dirty_offset; /* after a write: OR `dirty` into the byte at this offset in struct vmcs */
    uint8_t size;          /* bytes, little endian, zero-extended by VMREAD, truncated by VMWRITE: 2, 4, 8 */
    uint8_t dirty;
    bool computed; /* neither is enough: the upper half of a 64-bit field; call the helper */
};
/* False: no such field in this processor, VMfailValid(12). It depends on the processor model only. */
bool vmx_field_place(const struct cpu *cpu, uint64_t encoding, struct vmx_field_place *place);

/* The same for an encoding that is known only when the code runs: a table of 4 bytes for each
 * PEXT(encoding, bits) at `slots` in *cpu->vmx. 15:0 offset, 23:16 size, 31:24 dirty; size 0: call the
 * helper, as for an encoding with other bits than these. */
struct vmx_field_slots {
    int32_t slots;
    uint32_t bits;
    uint16_t dirty_offset;
};
struct vmx_field_slots vmx_field_slots(void);

/* -- For people ---------------------------------------------------------------------------------------- */

#define VMX_EXIT_REASONS 65
/* Name, title and meaning of the qualification of a basic exit reason (low 16 bits of `reason`). */
const char *vmx_exit_reason_name(unsigned reason);
const char *vmx_exit_reason_title(unsigned reason);
const char *vmx_exit_qualification_meaning(unsigned reason);
uint64_t vmx_entry_count(const struct cpu *cpu);
uint64_t vmx_exit_count(const struct cpu *cpu, unsigned reason);
/* Every rule of VM entry that the current VMCS breaks, with the values of the fields it reads; number of
 * rules broken. */
unsigned vmx_explain(struct cpu *cpu, FILE *out);

#endif
