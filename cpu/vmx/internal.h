/*
 * vmx/internal.h -- what the files of cpu/vmx share: struct vmx, exits, the virtual-APIC page.
 */
#ifndef CPU_VMX_INTERNAL_H
#define CPU_VMX_INTERNAL_H

#include <string.h>
#include "cpu/cpu.h"
#include "cpu/vmx/controls.h"
#include "cpu/vmx/vmcs.h"
#include "cpu/vmx/vmx.h"

enum exit_reason {
#define EXIT_REASON(number, name, title, qualification) EXIT_REASON_##name = number,
#include "cpu/vmx/exit_reasons.def"
#undef EXIT_REASON
    EXIT_REASON_COUNT = 65,
};
#define EXIT_REASON_ENTRY_FAILURE BIT(31)

/* Interruption information (entry, exit) and IDT-vectoring information: 7:0 vector, 10:8 type, 11 error code
 * valid, 12 NMI unblocking due to IRET (exit), 31 valid. SDM 3C, "VM-Entry Controls for Event Injection". */
#define INFO_VECTOR(i)      ((i)&0xff)
#define INFO_TYPE(i)        ((i) >> 8 & 7)
#define INFO_ERROR_VALID    BIT(11)
#define INFO_NMI_UNBLOCKING BIT(12)
#define INFO_VALID          BIT(31)

/* Guest interruptibility state. */
enum {
    INTERRUPTIBILITY_STI = 1,
    INTERRUPTIBILITY_MOV_SS = 2,
    INTERRUPTIBILITY_SMI = 4,
    INTERRUPTIBILITY_NMI = 8,
    INTERRUPTIBILITY_ENCLAVE = 16,
};

/* VM-instruction error numbers (SDM 3C, "VM Instruction Error Numbers"). */
enum {
    VMERR_VMCALL_ROOT = 1,
    VMERR_VMCLEAR_ADDRESS = 2,
    VMERR_VMCLEAR_VMXON = 3,
    VMERR_VMLAUNCH_NOT_CLEAR = 4,
    VMERR_VMRESUME_NOT_LAUNCHED = 5,
    VMERR_ENTRY_CONTROLS = 7,
    VMERR_ENTRY_HOST = 8,
    VMERR_VMPTRLD_ADDRESS = 9,
    VMERR_VMPTRLD_VMXON = 10,
    VMERR_VMPTRLD_REVISION = 11,
    VMERR_UNSUPPORTED_FIELD = 12,
    VMERR_VMXON_IN_ROOT = 15,
    VMERR_ENTRY_MOV_SS = 26,
    VMERR_INVALID_OPERAND = 28,
};

#define VMX_NO_VMCS     (~0ull)
#define VMX_CACHE_SIZE  72  /* 64 VMCSs of a hypervisor and some shadow VMCSs, without eviction */
#define VMX_CACHE_HINTS 256 /* a power of two */

struct vmx {
    struct vmcs *vmcs; /* current VMCS in cache[], NULL: none */
    struct vmcs
        *linked; /* in non-root operation with VMCS shadowing: the one of the VMCS link pointer, or NULL */
    struct cpu *cpu; /* owner */
    gpa_t vmxon_pointer;
    gpa_t current; /* address of the current VMCS, VMX_NO_VMCS: none; rebuilds `vmcs` after loading */
    gpa_t linked_address;
    uint64_t use_stamp;           /* counts VMPTRLD, for eviction */
    uint64_t timer_deadline;      /* tick at which the preemption timer expires, CLOCK_NEVER: not running */
    struct timer timer;           /* armed at timer_deadline */
    uint64_t tsc_multiplier;      /* non-root operation: of the TSC, TSC_MULTIPLIER_FRACTION; 0: it is 1 */
    uint64_t ple_first, ple_last; /* ticks of the first and the latest PAUSE of a loop (ple.c) */
    bool ple_running;             /* ple_first and ple_last are valid */
    bool virtual_nmi_blocked;     /* virtual-NMI blocking, with "virtual NMIs" */
    bool injecting;    /* the event being delivered was injected by VM entry: no intercept of its own */
    bool mtf_wait;     /* the monitor trap flag waits for one instruction or delivery to complete */
    bool mtf_now;      /* an MTF VM exit is pending at this boundary (injected, or after one instruction) */
    bool trap_pending; /* a trap-like VM exit waits for the end of the instruction: */
    uint16_t trap_reason;
    uint64_t trap_qualification;
    bool virtual_interrupt; /* a pending virtual interrupt is recognised (apicv.c) */
    uint64_t iret_tick; /* tick of an IRET that ended blocking by NMI: a fault in it reports NMI unblocking */
    struct vmcs cache[VMX_CACHE_SIZE];
    gpa_t cached[VMX_CACHE_SIZE];        /* cache[i].address, close together */
    uint8_t cache_hint[VMX_CACHE_HINTS]; /* by hash of the address: where in cache[] it may be */
    struct vmx_caps caps;
    struct vmcs_slot slots[VMCS_SLOT_COUNT]; /* fields of this processor, for VMREAD and VMWRITE */

    /* Counts for --stats; not part of the guest's state. */
    uint64_t entries;
    uint64_t exits[EXIT_REASON_COUNT];
};

/* -- Small things -------------------------------------------------------------------------------------- */

static inline struct vmcs *vmx_current(const struct cpu *cpu)
{
    return cpu->vmx->vmcs;
}
/* The secondary controls are all 0 when they are not activated. */
static inline uint32_t vmx_proc2(const struct vmcs *v)
{
    return v->proc & PROC_ACTIVATE_SECONDARY_CONTROLS ? v->proc2 : 0;
}
static inline bool vmx_address_ok(const struct cpu *cpu, gpa_t address, uint64_t low_mask)
{
    return !(address & low_mask) && !(address >> cpu->model->maxphyaddr);
}

/* The VM functions that this processor has. */
static inline uint64_t vmx_vm_functions(const struct cpu *cpu)
{
    return cpu->vmx->caps.msr[IA32_VMX_VMFUNC - IA32_VMX_BASIC];
}

/* The VMCS at `address` in the cache, read from memory when it is not there (evicting another). */
struct vmcs *vmx_cache_get(struct cpu *cpu, gpa_t address);
/* The same, NULL when it is not cached. */
struct vmcs *vmx_cache_find(struct vmx *x, gpa_t address);
void vmx_cache_drop(struct vmx *x, struct vmcs *v);
/* cached[] from cache[]. */
void vmx_cache_index(struct vmx *x);

/* -- Exits (exit.c) ------------------------------------------------------------------------------------ */

enum exit_rf { RF_KEEP, RF_CLEAR, RF_SET };

struct vmx_exit {
    uint16_t reason;
    uint8_t rf;        /* enum exit_rf: RF in the saved RFLAGS */
    bool no_vectoring; /* the exit does not occur during event delivery even if an event is being delivered */
    bool nmi;          /* caused directly by an NMI: blocking by NMI follows */
    uint64_t qualification;
    uint32_t interruption_info, interruption_error;
    uint32_t length; /* VM-exit instruction length */
};

/* After cpu_sync(): no block runs any more, RIP is what we make it. vmx_make_ stops short of cpu_resume():
 * who calls it has to go on at cpu->rip, one tick later. */
void vmx_make_exit(struct cpu *cpu, const struct vmx_exit *e);
NORETURN void vmx_exit(struct cpu *cpu, const struct vmx_exit *e);
/* Exit of the running instruction, fault-like: length and RIP are those of the instruction. */
void vmx_make_exit_insn(struct cpu *cpu, unsigned reason, uint64_t qualification);
NORETURN void vmx_exit_insn(struct cpu *cpu, unsigned reason, uint64_t qualification);
/* The same with the VM-exit instruction information and the displacement as qualification (insn_info.c). */
NORETURN void vmx_exit_insn_operand(struct cpu *cpu, unsigned reason);
/* Exit between instructions. */
NORETURN void vmx_exit_event(struct cpu *cpu, unsigned reason, uint64_t qualification);
/* Trap-like: the exit is made at the end of the running instruction, before any other event. */
void vmx_exit_after_insn(struct cpu *cpu, unsigned reason, uint64_t qualification);
/* Exit to the host with a VM-entry failure; no guest state is saved. */
NORETURN void vmx_entry_failed(struct cpu *cpu, unsigned reason, uint64_t qualification);

/* MSR lists: 0 on success, else the number of the entry that failed, from 1. */
uint32_t vmx_msr_load(struct cpu *cpu, gpa_t list, uint32_t count, bool entry);
uint32_t vmx_msr_store(struct cpu *cpu, gpa_t list, uint32_t count);

/* Instruction information as in SDM 3C, "Information for VM Exits Due to Instruction Execution". */
struct insn_operands {
    uint32_t info;
    uint64_t displacement; /* of the memory operand, next RIP added when RIP-relative; 0 without one */
};
bool vmx_insn_operands(struct cpu *cpu, struct insn_operands *o);

/* -- Entry (entry.c, checks.c) ------------------------------------------------------------------------- */

enum check_group {
    CHECK_CONTROL,
    CHECK_HOST,
    CHECK_GUEST,
    CHECK_GUEST_PDPTE,
    CHECK_GUEST_NMI,
    CHECK_GUEST_LINK
};

struct check_info {
    const char *name, *section, *inputs, *sentence;
    uint8_t group; /* enum check_group */
};
extern const struct check_info check_rows[];
extern const unsigned check_row_count;
/* First failure in the architectural order: row number, or -1. */
int vmx_check_controls(struct cpu *cpu, const struct vmcs *v);
int vmx_check_host(struct cpu *cpu, const struct vmcs *v);
int vmx_check_guest(struct cpu *cpu, const struct vmcs *v);
/* Its parts: what DIRTY_GUEST_REGISTERS stands for, what DIRTY_GUEST_SEGMENTS stands for, and all that is
 * left. */
int vmx_check_guest_registers(struct cpu *cpu, const struct vmcs *v);
int vmx_check_guest_segments(struct cpu *cpu, const struct vmcs *v);
int vmx_check_guest_rest(struct cpu *cpu, const struct vmcs *v);
/* The rows of the VM-entry control fields: the event to inject is in no DIRTY_* group. */
int vmx_check_entry_controls(struct cpu *cpu, const struct vmcs *v);
/* The rows of the controls that read guest memory: they run even when nothing was written. */
int vmx_check_memory(struct cpu *cpu, const struct vmcs *v);
bool vmx_check_row(struct cpu *cpu, const struct vmcs *v, unsigned row); /* true: holds */
/* Reserved bits of IA32_EFER, IA32_PAT, EPTP as the checks see them. */
bool vmx_eptp_ok(const struct cpu *cpu, uint64_t eptp);
bool vmx_pat_ok(uint64_t pat);
bool vmx_efer_ok(uint64_t efer);

/* VMLAUNCH and VMRESUME after their own checks. Returns a VM-instruction error, or 0 when the entry is made:
 * the processor goes on at cpu->rip, one tick later. It does not return when the entry fails as a VM exit, or
 * injects an event. */
unsigned vmx_enter(struct cpu *cpu);
/* Makes what VMCS caches of its controls and host state for entry and exit. */
void vmx_prepare(struct vmcs *v);
/* What is derived from the current VMCS while in non-root operation: guards, PML, deadlines, attention. */
void vmx_derive(struct cpu *cpu);
/* ATTN_VMX as windows and virtual interrupts ask for. */
void vmx_update_attention(struct cpu *cpu);

/* -- Virtual APIC (apicv.c), timer (timer.c), PAUSE loops (ple.c) -------------------------------------- */

void vmx_apicv_entered(struct cpu *cpu);
bool vmx_posted_interrupt(struct cpu *cpu,
                          uint8_t vector); /* acknowledged vector: true when it was the notification */
/* RDMSR and WRMSR in x2APIC mode: true when done. */
bool vmx_apicv_msr(struct cpu *cpu, uint32_t index, bool write, uint64_t *value);
void vmx_timer_start(struct cpu *cpu);
void vmx_timer_stop(struct cpu *cpu);
/* Registers the clock's timer (once); arms it for timer_deadline (after loading). */
void vmx_timer_init(struct cpu *cpu);
void vmx_timer_arm(struct cpu *cpu);
uint32_t vmx_timer_value(const struct cpu *cpu);
bool vmx_ple_pause(struct cpu *cpu); /* true: the loop has lasted longer than PLE_Window */

#endif
