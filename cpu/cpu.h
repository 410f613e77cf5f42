/*
 * cpu/cpu.h -- one logical processor: its registers, and what every file of cpu/ may ask of it.
 *
 * Promise of cpu/: executes x86-64 exactly as the SDM says, one instruction count after the other, and knows
 * nothing of devices. Guest faults are raised by cpu_raise(), which never returns (longjmp to cpu_run(),
 * or back into translated code).
 * Anything that the guest can see is described in cpu/state.c.
 */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include <setjmp.h>
#include "base/clock.h"
#include "base/intr.h"
#include "base/log.h"
#include "cpu/ir/uop.h"
#include "mmu/mmu.h"
#include "snapshots/state.h"

/* -- Segments ------------------------------------------------------------------------------------------ */

enum seg_reg { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_LDTR, SEG_TR, SEG_COUNT };

/*
 * Access rights in the VMCS's layout (SDM 3C, "Guest Register State"):
 *   3:0 type   4 S   6:5 DPL   7 P   12 AVL   13 L   14 D/B   15 G   16 unusable
 */
#define AR_TYPE(ar) ((ar)&15)
#define AR_S        0x10u
#define AR_DPL(ar)  ((ar) >> 5 & 3)
#define AR_P        0x80u
#define AR_AVL      0x1000u
#define AR_L        0x2000u
#define AR_DB       0x4000u
#define AR_G        0x8000u
#define AR_UNUSABLE 0x10000u

struct segment {
    uint64_t base;
    uint32_t limit; /* in bytes, granularity applied */
    uint32_t ar;
    uint16_t selector;
};

struct table_register {
    uint64_t base;
    uint16_t limit;
};

/* -- Control registers, flags -------------------------------------------------------------------------- */

enum {
    CR0_PE = 1 << 0,
    CR0_MP = 1 << 1,
    CR0_EM = 1 << 2,
    CR0_TS = 1 << 3,
    CR0_ET = 1 << 4,
    CR0_NE = 1 << 5,
    CR0_WP = 1 << 16,
    CR0_AM = 1 << 18,
    CR0_NW = 1 << 29,
    CR0_CD = 1 << 30,
};
#define CR0_PG 0x80000000u
enum {
    CR4_VME = 1 << 0,
    CR4_PVI = 1 << 1,
    CR4_TSD = 1 << 2,
    CR4_DE = 1 << 3,
    CR4_PSE = 1 << 4,
    CR4_PAE = 1 << 5,
    CR4_MCE = 1 << 6,
    CR4_PGE = 1 << 7,
    CR4_PCE = 1 << 8,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_UMIP = 1 << 11,
    CR4_LA57 = 1 << 12,
    CR4_VMXE = 1 << 13,
    CR4_SMXE = 1 << 14,
    CR4_FSGSBASE = 1 << 16,
    CR4_PCIDE = 1 << 17,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
    CR4_SMAP = 1 << 21,
    CR4_PKE = 1 << 22,
};
enum { EFER_SCE = 1 << 0, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };
enum {
    FLAG_CF = 1 << 0,
    FLAG_1 = 1 << 1,
    FLAG_PF = 1 << 2,
    FLAG_AF = 1 << 4,
    FLAG_ZF = 1 << 6,
    FLAG_SF = 1 << 7,
    FLAG_TF = 1 << 8,
    FLAG_IF = 1 << 9,
    FLAG_DF = 1 << 10,
    FLAG_OF = 1 << 11,
    FLAG_IOPL = 3 << 12,
    FLAG_NT = 1 << 14,
    FLAG_RF = 1 << 16,
    FLAG_VM = 1 << 17,
    FLAG_AC = 1 << 18,
    FLAG_VIF = 1 << 19,
    FLAG_VIP = 1 << 20,
    FLAG_ID = 1 << 21,
};
#define FLAGS_ARITH (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

enum {
    EXC_DE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_BP = 3,
    EXC_OF = 4,
    EXC_BR = 5,
    EXC_UD = 6,
    EXC_NM = 7,
    EXC_DF = 8,
    EXC_TS = 10,
    EXC_NP = 11,
    EXC_SS = 12,
    EXC_GP = 13,
    EXC_PF = 14,
    EXC_MF = 16,
    EXC_AC = 17,
    EXC_MC = 18,
    EXC_XM = 19,
    EXC_VE = 20,
    EXC_CP = 21,
};

/* -- Events -------------------------------------------------------------------------------------------- */

/* Interruption types, numbered as in the VMCS (SDM 3C, "VM-Entry Controls for Event Injection"). */
enum event_type {
    EVENT_EXTERNAL = 0,
    EVENT_NMI = 2,
    EVENT_HARDWARE_EXCEPTION = 3,
    EVENT_SOFTWARE_INTERRUPT = 4,
    EVENT_PRIVILEGED_SOFTWARE_EXCEPTION = 5,
    EVENT_SOFTWARE_EXCEPTION = 6,
    EVENT_OTHER = 7,
};

struct event {
    bool valid;
    uint8_t vector, type;
    bool has_error;
    uint32_t error_code;
    uint64_t qualification; /* #PF: linear address for CR2; #DB: bits for DR6 */
    uint8_t insn_length;    /* software events: RIP of the next instruction = RIP + this */
    bool injected;          /* by VM entry: CR2, DR6, DR7 and IA32_DEBUGCTL stay as they are */
    bool trap; /* #DB that is a trap or an instruction breakpoint: RF is not set in the pushed RFLAGS */
};

/* Why the loop between two blocks must look closer: one bit each in cpu->attention. */
enum attention {
    ATTN_INTR = 1 << 0, /* local APIC or 8259 has an interrupt; deliverable or not is event.c's question */
    ATTN_NMI = 1 << 1,
    ATTN_SMI = 1 << 2,
    ATTN_INIT = 1 << 3,
    ATTN_SIPI = 1 << 4,
    ATTN_SHADOW = 1 << 5, /* blocking by STI or MOV SS, for exactly one instruction */
    ATTN_DEBUG = 1 << 6,  /* pending debug exceptions (cpu->pending_db) */
    ATTN_SINGLE = 1 << 7, /* TF is set or breakpoints are armed: one instruction at a time */
    ATTN_MTF = 1 << 8,    /* VMX: pending MTF VM exit */
    ATTN_VMX = 1 << 9,    /* VMX: a window, the preemption timer or a virtual interrupt needs a look */
    ATTN_LEAVE = 1 << 10, /* end the block at the next instruction boundary and look again */
    ATTN_STOP = 1 << 11,  /* leave cpu_run() at the next instruction boundary */
};

enum activity { ACTIVITY_ACTIVE = 0, ACTIVITY_HLT = 1, ACTIVITY_SHUTDOWN = 2, ACTIVITY_WAIT_SIPI = 3 };

/* What brought the processor back to cpu_run() by longjmp. */
enum {
    JUMP_EVENT = 1,
    /* cpu->event is to be delivered */ JUMP_RESUME = 2 /* state is complete: go on at cpu->rip */
};

union vreg {
    uint8_t b[32];
    uint16_t w[16];
    uint32_t d[8];
    uint64_t q[4];
};

struct x87 {
    union {
        uint8_t b[16]; /* 80-bit value in the low 10 bytes, as in FXSAVE; MMX register in the low 8 */
        uint64_t q[2];
    } r[8];            /* physical registers R0..R7; ST(i) = r[(top + i) & 7] */
    uint16_t fcw, fsw; /* fsw without TOP: TOP is in `top` */
    uint8_t top;
    uint8_t ftw; /* abridged tags: bit i = physical register i is not empty */
    uint16_t fop;
    uint16_t fcs, fds;
    uint64_t fip, fdp;
};

/* -- Branch records ------------------------------------------------------------------------------------ */

#define LBR_DEPTH                                                                                            \
    32 /* SDM 3B, "Last Branch, Interrupt, and Exception Recording for Processors based on Skylake           \
          Microarchitecture": the same in Ice Lake */

struct branch_records {
    uint64_t from[LBR_DEPTH], to[LBR_DEPTH], info[LBR_DEPTH];
    uint64_t select;           /* MSR_LBR_SELECT */
    uint64_t ler_from, ler_to; /* the last branch before the last interrupt or exception */
    uint64_t last_tick;        /* of the newest record */
    uint32_t top;              /* MSR_LASTBRANCH_TOS: index of the newest record, below LBR_DEPTH */
    uint32_t reserved;
};

/* A RIP that no instruction has: see rep_rip. */
#define REP_NONE (1ull << 63)

struct lapic;
struct vmx;
struct code_cache;
struct block;
struct cpu_model;
struct trace;
struct stub_cache;
struct jit_jump;
struct jit_edge;

struct msr_state {
    uint64_t apic_base, tsc_adjust, tsc_deadline, misc_enable, feature_control, spec_ctrl, pat;
    uint64_t star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_base[10], mtrr_mask[10];
    uint64_t debugctl, perf_global_ctrl, xss, ucode_rev, misc_features, bios_sign;
    uint64_t mcg_status, mcg_ctl, mc_ctl[4], mc_status[4], mc_addr[4], mc_misc[4];
    uint64_t smi_count;
    uint64_t spare[7]; /* so that a new MSR does not change the layout of a saved state */
};

struct cpu {
    /* While translated code runs, the host's stack pointer is at `r`: room for return addresses and for the
     * frames of the host's signal handlers. */
    _Alignas(64) uint8_t jit_stack[16384];
    /* Hot: used by every micro-op. */
    uint64_t r[REG_COUNT]; /* GPRs, temporaries, REG_PAGE, REG_ZERO */
    uint64_t cc_result;    /* lazy arithmetic flags: see cpu/flags.h */
    uint64_t cc_aux;
    uint64_t rflags;       /* all but the arithmetic flags; bit 1 set */
    struct tlb *tlb;       /* current context, == mmu.current */
    int64_t budget;        /* instructions left in this slice, the running block already subtracted */
    uint32_t attention;    /* enum attention; 0 lets blocks follow each other */
    uint32_t key;          /* block key of the current mode: cpu/exec.h */
    uint64_t vmx_guards;   /* bit n: vmx_guard(n) must be asked; 0 outside VMX non-root operation */
    const struct uop *uop; /* running micro-op, stored before anything that can raise or needs RIP or time */
    struct block *block;   /* running block; NULL between blocks */
    uint64_t rip;          /* exact between blocks, and in helpers after cpu_sync() */
    uint64_t next_rip; /* in helpers after cpu_sync(): RIP of the next instruction; H_END helpers that jump
                          write it */

    /* Translated code's own (cpu/jit/): cc_op is 0, vec_live and x87_live are false, whenever C code looks.
     */
    uint64_t cc_op;        /* not 0: the arithmetic flags are to be made from cc_a to cc_rot, cc_bit */
    uint64_t cc_rot;       /* result of a rotation, which gives CF and OF */
    uint8_t cc_cf;         /* CF from before INC and DEC; CF and OF of a multiplication */
    uint8_t vec_live;      /* v[] and MXCSR are in the host's registers */
    uint8_t x87_live;      /* x87 registers, status and tags are in the host's */
    uint8_t profile_level; /* with --profile: was the running block entered in VMX non-root operation? */
    bool jit_running;      /* C code was called by translated code */
    uint8_t cc_bit;        /* CF of a bit test */
    uint8_t jit_reserved[2];
    uint64_t cc_a, cc_b;
    uint64_t jit_tag;           /* of the present mode and context in the jump cache */
    struct jit_jump *jit_jumps; /* jump cache of this processor */
    struct jit_edge *jit_edge;  /* exit that was taken */
    void *jit_sp;               /* the host's stack of C code */
    uint64_t jit_c, jit_return; /* of a thunk that calls C */
    uint64_t jit_scratch;

    _Alignas(32) union vreg v[VREG_COUNT]; /* host stubs take them as memory operands */
    uint32_t mxcsr;
    struct x87 x87;

    struct segment seg[SEG_COUNT];
    struct table_register gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t pdpte[4];
    uint64_t dr[8];
    uint32_t pkru;
    uint8_t cpl;
    uint8_t activity;               /* enum activity */
    bool shadow_sti, shadow_mov_ss; /* blocking of events until after the next instruction */
    bool rf_loaded;       /* the running instruction loaded RFLAGS.RF (IRET): it holds for the next one */
    bool tf_masked;       /* the running instruction cleared TF (SYSCALL): no single-step trap follows */
    uint8_t branch_class; /* of the running instruction, enum branch_class: branch.c */
    uint64_t rep_rip;     /* RIP of a repeated instruction that is between two iterations, else REP_NONE */
    bool nmi_blocked;
    bool nmi_pending, smi_pending, init_pending, sipi_pending;
    uint8_t sipi_vector;
    uint64_t pending_db; /* DR6 bits of debug exceptions that wait for the instruction boundary */
    struct msr_state msr;
    struct branch_records branches;
    gva_t branch_from, branch_next; /* where it is; where the one after it is, for a near relative call */

    struct event event; /* raised, not yet delivered */
    struct event
        delivering; /* valid while an event goes through the IDT: nested faults, IDT-vectoring information */

    /* VMX. The rest hangs off `vmx`. */
    bool vmx_on, vmx_non_root;
    int64_t tsc_offset; /* added to the TSC in non-root operation when "use TSC offsetting" is 1 */
    struct vmx *vmx;

    struct lapic *lapic;
    uint32_t id;                      /* index and initial APIC ID */
    uint64_t insns;                   /* ticks this processor has run: instructions, and what PAUSE waited */
    uint64_t insns_non_root;          /* of these in VMX non-root operation; --stats */
    uint64_t paused, paused_non_root; /* of both, ticks that PAUSE waited beyond its own */
    uint64_t random_state;            /* RDRAND and RDSEED: deterministic generator */

    /* Wiring. */
    struct mmu mmu;
    struct phys *phys;
    struct bus *bus;
    struct clock *clock;
    struct log *log;
    struct trace *trace;
    struct code_cache *code;
    struct stub_cache *stubs;
    const struct cpu_model *model;
    struct intr_source intr;
    uint32_t cpu_count; /* processors in the machine, for CPUID 0BH */
    uint64_t slice_end; /* tick at which this slice ends: now = slice_end - budget between blocks */
    uint64_t stops;     /* reasons for machine/: bit 0 triple fault (shutdown) */
    jmp_buf jump;
    struct uop tail[40]; /* rest of an instruction whose block is to be left: exec.c */
};

/* -- Life ---------------------------------------------------------------------------------------------- */

struct cpu_wiring {
    struct phys *phys;
    struct bus *bus;
    struct clock *clock;
    struct log *log;
    struct trace *trace;
    struct code_cache *code;
    struct stub_cache *stubs;
    const struct cpu_model *model;
    struct intr_source intr;
    uint32_t id, cpu_count;
};

bool cpu_init(struct cpu *cpu, const struct cpu_wiring *w, struct error *e); /* in power-on state */
void cpu_free(struct cpu *cpu);
void cpu_reset(struct cpu *cpu, bool init); /* power-on/RESET, or INIT (SDM 3A, table "IA-32 and Intel 64
                                               Processor States Following Power-up, Reset, or INIT") */
extern const struct state_desc cpu_state;
/* After the whole machine is loaded: rebuilds what is derived (attention, guards, key, TLB context). False: e
 * says what of the state no processor can be in. */
bool cpu_loaded(struct cpu *cpu, struct error *e);

/* Runs until `ticks` of budget are used, or the processor halts or stops. Returns the ticks used (>= 0). */
uint64_t cpu_run(struct cpu *cpu, uint64_t ticks);
/* True when an instruction could run now (active, or an event would wake it). */
bool cpu_runnable(struct cpu *cpu);

/* -- Raising: none of these returns -------------------------------------------------------------------- */

NORETURN void cpu_raise(struct cpu *cpu, unsigned vector,
                        uint32_t error_code); /* error code pushed where the vector has one */
NORETURN void cpu_raise_ud(struct cpu *cpu);
NORETURN void cpu_raise_gp0(struct cpu *cpu);
NORETURN void cpu_raise_mmu(struct cpu *cpu, const struct mmu_fault *f,
                            enum seg_reg seg); /* #PF, #GP/#SS, EPT exits */
NORETURN void cpu_raise_event(struct cpu *cpu, const struct event *ev);
/* State is consistent and cpu->rip is where to go on: unwinds to cpu_run(). Used after a VM exit from a
 * helper. */
NORETURN void cpu_resume(struct cpu *cpu);

/* -- Where are we, what time is it --------------------------------------------------------------------- */

/* Sets cpu->rip, cpu->next_rip and clock->now exactly for the running instruction. Idempotent. */
void cpu_sync(struct cpu *cpu);
/* Instruction length of the running instruction, after cpu_sync(). */
unsigned cpu_insn_length(const struct cpu *cpu);
/* After anything that may have armed a nearer timer or raised an event: cuts the slice, sets ATTN_LEAVE. */
void cpu_events_changed(struct cpu *cpu);
static inline uint64_t cpu_tsc(const struct cpu *cpu) /* after cpu_sync(); without VMX offset */
{
    return cpu->clock->now + cpu->msr.tsc_adjust;
}

/* -- Mode ---------------------------------------------------------------------------------------------- */

/* Recomputes everything derived from CR0, CR4, EFER, CS, SS, CPL, RFLAGS.AC/TF/VM, DR7, EPT: block key, TLB
 * context, ATTN_SINGLE. Call after any of them changed; the block must end. */
void cpu_mode_changed(struct cpu *cpu);
/* The same, for a block key that cpu_mode_changed() has made of equal registers before. Its inputs, for who
 * keeps one: CR0, CR4, EFER.LMA, XCR0, segments, CPL, RFLAGS.AC and VM. */
void cpu_mode_restored(struct cpu *cpu, uint32_t key);
/* The same, for who also keeps which TLB context it was (*c, all zero at first; set here). What VMX adds to
 * the mode must be what it was when *c was set: vmx_mmu_mode(). */
void cpu_mode_again(struct cpu *cpu, uint32_t key, struct mmu_choice *c);
/* CPL and RFLAGS have changed, and nothing else: between two levels of 64-bit mode, less work than
 * cpu_mode_changed(). */
void cpu_level_changed(struct cpu *cpu);
static inline bool cpu_long_mode(const struct cpu *cpu)
{
    return cpu->efer & EFER_LMA;
}
static inline bool cpu_64bit(const struct cpu *cpu)
{
    return (cpu->efer & EFER_LMA) && (cpu->seg[SEG_CS].ar & AR_L);
}
static inline bool cpu_protected(const struct cpu *cpu)
{
    return cpu->cr0 & CR0_PE;
}
static inline bool cpu_v86(const struct cpu *cpu)
{
    return cpu->rflags & FLAG_VM;
}
static inline unsigned cpu_iopl(const struct cpu *cpu)
{
    return (cpu->rflags >> 12) & 3;
}
static inline bool cpu_canonical_bits(uint64_t a, unsigned bits)
{
    return (uint64_t)((int64_t)(a << (64 - bits)) >> (64 - bits)) == a;
}
/* An address that is accessed or jumped to: by the paging mode. What a register may hold goes by what the
 * processor has: cpu_canonical_register(). */
static inline bool cpu_canonical(const struct cpu *cpu, uint64_t a)
{
    return cpu_canonical_bits(a, unlikely(cpu->cr4 & CR4_LA57) ? 57 : 48);
}

/* RFLAGS with the arithmetic flags made from cc_*; and the reverse (no checks; FLAG_1 forced). Call
 * cpu_mode_changed() when TF, AC, VM changed. */
uint64_t cpu_rflags(const struct cpu *cpu);
void cpu_set_rflags(struct cpu *cpu, uint64_t value);

/* -- Memory (cpu/mem.c). Effective address ea, size in bytes 1..8; raise on faults. -------------------- */

enum mem_access { MEM_READ = 0, MEM_WRITE = 1, MEM_RMW = 2 /* a read that checks for writing */ };

/* Segment, limit, type and canonical checks of SDM 3A "Limit Checking"; returns the linear address. */
gva_t cpu_linear(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size, enum mem_access access);
uint64_t cpu_read(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size);
void cpu_write(struct cpu *cpu, enum seg_reg seg, uint64_t ea, unsigned size, uint64_t value);
/* By linear address. flags: MMU_SYSTEM for implicit supervisor accesses. May cross pages: both are checked
 * before a write. */
uint64_t cpu_read_linear(struct cpu *cpu, gva_t linear, unsigned size, unsigned flags);
void cpu_write_linear(struct cpu *cpu, gva_t linear, unsigned size, uint64_t value, unsigned flags);
/* Blocks of bytes (FXSAVE and the like): raises before the first byte when any page of it faults. */
void cpu_read_bytes(struct cpu *cpu, gva_t linear, void *buf, unsigned length, unsigned flags);
void cpu_write_bytes(struct cpu *cpu, gva_t linear, const void *buf, unsigned length, unsigned flags);
/* Raises if [linear, linear+length) cannot be accessed so; no data moves. */
void cpu_probe(struct cpu *cpu, gva_t linear, unsigned length, enum mem_access access, unsigned flags);
/* Physical, as this processor sees it: its local APIC page, RAM or bus. */
uint64_t cpu_phys_read(struct cpu *cpu, gpa_t gpa, unsigned size);
void cpu_phys_write(struct cpu *cpu, gpa_t gpa, unsigned size, uint64_t value);

/* For debuggers, tests and explanations: no fault, no side effect; false when not mapped. */
bool cpu_peek(struct cpu *cpu, gva_t linear, void *buf, unsigned length);

/* -- Segmentation, far transfers, events (cpu/segment.c, far.c, event.c) ------------------------------- */

/* MOV/POP/Lxx to a data segment register with all checks (SDM 2B, MOV "Loading"); raises. */
void cpu_load_segment(struct cpu *cpu, enum seg_reg seg, uint16_t selector);
/* Real-mode and virtual-8086 style load. */
void cpu_load_segment_real(struct cpu *cpu, enum seg_reg seg, uint16_t selector);
/* Reads an 8-byte descriptor of the GDT or LDT; false when outside the limit. */
bool cpu_read_descriptor(struct cpu *cpu, uint16_t selector, uint64_t *descriptor);
void cpu_segment_from_descriptor(struct segment *s, uint16_t selector, uint64_t descriptor);
/* RF in the image of RFLAGS that this event pushes. */
bool event_rf(const struct cpu *cpu, const struct event *ev);
/* Delivers cpu->event through the IDT (or a VM exit); nested faults raise again. */
void event_deliver(struct cpu *cpu);
/* Between instructions with cpu->attention != 0: takes the highest-priority event, SDM 3A "Prioritization of
 * Concurrent Events". Returns false when the processor cannot run (halted, waiting for SIPI, shutdown). */
bool event_poll(struct cpu *cpu);
/* After each instruction that ran under ATTN_SINGLE or ATTN_SHADOW: TF, shadows. `tf` as before the
 * instruction. */
void event_after_instruction(struct cpu *cpu, bool tf, bool had_shadow);
/* Data breakpoints: called by mem.c for accesses while DR7 has data breakpoints armed. */
void debug_check_data(struct cpu *cpu, gva_t linear, unsigned size, bool write);
/* Instruction breakpoint at RIP (before it runs, RF clear): raises #DB. */
void debug_check_insn(struct cpu *cpu);
void debug_check_io(struct cpu *cpu, uint16_t port, unsigned size);
/* Branches (cpu/branch.c), while instructions run one by one. Before an instruction: what it is, and where.
 */
void branch_before(struct cpu *cpu);
/* After it: true when it has branched; recorded when IA32_DEBUGCTL.LBR is 1. */
bool branch_after(struct cpu *cpu);
/* An interrupt or exception has been delivered: `from` is the linear address that it returns to. */
void branch_event(struct cpu *cpu, gva_t from);
bool branch_get_msr(struct cpu *cpu, uint32_t index, uint64_t *value);
bool branch_set_msr(struct cpu *cpu, uint32_t index, uint64_t value);

/* -- CRs, MSRs, CPUID ---------------------------------------------------------------------------------- */

/* With all checks of MOV to CR (raise #GP) and side effects, without VMX intercepts. PDPTE loads included. */
void cpu_write_cr0(struct cpu *cpu, uint64_t value);
void cpu_write_cr3(struct cpu *cpu, uint64_t value);
void cpu_write_cr4(struct cpu *cpu, uint64_t value);
void cpu_write_cr8(struct cpu *cpu, uint64_t value);
/* True when the PDPTEs at cr3 are valid, and loads them. */
bool cpu_load_pdptes(struct cpu *cpu, uint64_t cr3);
/* False means #GP. Without VMX intercepts; used by RDMSR/WRMSR, VM-entry and VM-exit MSR lists. */
bool cpu_rdmsr(struct cpu *cpu, uint32_t index, uint64_t *value);
bool cpu_wrmsr(struct cpu *cpu, uint32_t index, uint64_t value);
void cpu_cpuid(struct cpu *cpu, uint32_t leaf, uint32_t subleaf, uint32_t out[4]); /* EAX EBX ECX EDX */

/* -- Features ------------------------------------------------------------------------------------------ */

enum feature {
#define FEATURE(name, leaf, subleaf, reg, bit, def) FEAT_##name,
#include "cpu/features.def"
#undef FEATURE
    FEAT_COUNT,
    FEAT_ALWAYS = FEAT_COUNT, /* table rows that need no feature */
    FEAT_NEVER,               /* known, never there: #UD */
};

struct cpu_model {
    char name[32];
    uint32_t family, model, stepping;
    char brand[48];
    bool has[FEAT_COUNT];
    uint8_t maxphyaddr; /* 46 */
};
/* "-cpu NAME[,+feature,-feature]"; refuses features that are not there. */
bool cpu_model_parse(struct cpu_model *m, const char *text, struct error *e);
static inline bool cpu_has(const struct cpu *cpu, enum feature f)
{
    return f == FEAT_ALWAYS || (f < FEAT_COUNT && cpu->model->has[f]);
}
/* Bases of segments and tables, MSRs, VMCS fields, operands of invalidations: the width of CR4.LA57 = 1 where
 * the processor has it, whatever the bit is. */
static inline bool cpu_canonical_register(const struct cpu *cpu, uint64_t a)
{
    return cpu_canonical_bits(a, cpu->model->has[FEAT_LA57] ? 57 : 48);
}

#endif
