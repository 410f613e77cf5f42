/*
 * lib/vmx.h -- VMX operation for guest images: a small hypervisor's vocabulary. SDM 3C chapters 23 to 30.
 *
 * The L2 guest made by vmx_guest_reset() is a copy of the host's own state: same page tables, same GDT and
 * IDT, 64-bit, CPL 0, with its own stack. Tests change fields from there. Numbers and names are the SDM's
 * (appendix B and C).
 */
#pragma once
#include "guest.h"

#define IA32_VMX_BASIC               0x480
#define IA32_VMX_PINBASED_CTLS       0x481
#define IA32_VMX_PROCBASED_CTLS      0x482
#define IA32_VMX_EXIT_CTLS           0x483
#define IA32_VMX_ENTRY_CTLS          0x484
#define IA32_VMX_MISC                0x485
#define IA32_VMX_CR0_FIXED0          0x486
#define IA32_VMX_CR0_FIXED1          0x487
#define IA32_VMX_CR4_FIXED0          0x488
#define IA32_VMX_CR4_FIXED1          0x489
#define IA32_VMX_VMCS_ENUM           0x48a
#define IA32_VMX_PROCBASED_CTLS2     0x48b
#define IA32_VMX_EPT_VPID_CAP        0x48c
#define IA32_VMX_TRUE_PINBASED_CTLS  0x48d
#define IA32_VMX_TRUE_PROCBASED_CTLS 0x48e
#define IA32_VMX_TRUE_EXIT_CTLS      0x48f
#define IA32_VMX_TRUE_ENTRY_CTLS     0x490
#define IA32_VMX_VMFUNC              0x491

enum {
    VMCS_VPID = 0x0000,
    VMCS_POSTED_INTERRUPT_VECTOR = 0x0002,
    VMCS_EPTP_INDEX = 0x0004,
    VMCS_GUEST_ES_SELECTOR = 0x0800,
    VMCS_GUEST_CS_SELECTOR = 0x0802,
    VMCS_GUEST_SS_SELECTOR = 0x0804,
    VMCS_GUEST_DS_SELECTOR = 0x0806,
    VMCS_GUEST_FS_SELECTOR = 0x0808,
    VMCS_GUEST_GS_SELECTOR = 0x080a,
    VMCS_GUEST_LDTR_SELECTOR = 0x080c,
    VMCS_GUEST_TR_SELECTOR = 0x080e,
    VMCS_GUEST_INTERRUPT_STATUS = 0x0810,
    VMCS_GUEST_PML_INDEX = 0x0812,
    VMCS_HOST_ES_SELECTOR = 0x0c00,
    VMCS_HOST_CS_SELECTOR = 0x0c02,
    VMCS_HOST_SS_SELECTOR = 0x0c04,
    VMCS_HOST_DS_SELECTOR = 0x0c06,
    VMCS_HOST_FS_SELECTOR = 0x0c08,
    VMCS_HOST_GS_SELECTOR = 0x0c0a,
    VMCS_HOST_TR_SELECTOR = 0x0c0c,
    VMCS_IO_BITMAP_A = 0x2000,
    VMCS_IO_BITMAP_B = 0x2002,
    VMCS_MSR_BITMAP = 0x2004,
    VMCS_EXIT_MSR_STORE = 0x2006,
    VMCS_EXIT_MSR_LOAD = 0x2008,
    VMCS_ENTRY_MSR_LOAD = 0x200a,
    VMCS_PML_ADDRESS = 0x200e,
    VMCS_TSC_OFFSET = 0x2010,
    VMCS_VIRTUAL_APIC_ADDRESS = 0x2012,
    VMCS_APIC_ACCESS_ADDRESS = 0x2014,
    VMCS_POSTED_INTERRUPT_DESCRIPTOR = 0x2016,
    VMCS_VMFUNC_CONTROLS = 0x2018,
    VMCS_EPT_POINTER = 0x201a,
    VMCS_EOI_EXIT_BITMAP0 = 0x201c,
    VMCS_EOI_EXIT_BITMAP1 = 0x201e,
    VMCS_EOI_EXIT_BITMAP2 = 0x2020,
    VMCS_EOI_EXIT_BITMAP3 = 0x2022,
    VMCS_EPTP_LIST = 0x2024,
    VMCS_VMREAD_BITMAP = 0x2026,
    VMCS_VMWRITE_BITMAP = 0x2028,
    VMCS_VE_INFORMATION = 0x202a,
    VMCS_XSS_EXITING_BITMAP = 0x202c,
    VMCS_TSC_MULTIPLIER = 0x2032,
    VMCS_GUEST_PHYSICAL_ADDRESS = 0x2400,
    VMCS_LINK_POINTER = 0x2800,
    VMCS_GUEST_DEBUGCTL = 0x2802,
    VMCS_GUEST_PAT = 0x2804,
    VMCS_GUEST_EFER = 0x2806,
    VMCS_GUEST_PERF_GLOBAL_CTRL = 0x2808,
    VMCS_GUEST_PDPTE0 = 0x280a,
    VMCS_HOST_PAT = 0x2c00,
    VMCS_HOST_EFER = 0x2c02,
    VMCS_HOST_PERF_GLOBAL_CTRL = 0x2c04,
    VMCS_PIN_CONTROLS = 0x4000,
    VMCS_PROC_CONTROLS = 0x4002,
    VMCS_EXCEPTION_BITMAP = 0x4004,
    VMCS_PF_ERROR_MASK = 0x4006,
    VMCS_PF_ERROR_MATCH = 0x4008,
    VMCS_CR3_TARGET_COUNT = 0x400a,
    VMCS_EXIT_CONTROLS = 0x400c,
    VMCS_EXIT_MSR_STORE_COUNT = 0x400e,
    VMCS_EXIT_MSR_LOAD_COUNT = 0x4010,
    VMCS_ENTRY_CONTROLS = 0x4012,
    VMCS_ENTRY_MSR_LOAD_COUNT = 0x4014,
    VMCS_ENTRY_INTERRUPTION_INFO = 0x4016,
    VMCS_ENTRY_ERROR_CODE = 0x4018,
    VMCS_ENTRY_INSTRUCTION_LENGTH = 0x401a,
    VMCS_TPR_THRESHOLD = 0x401c,
    VMCS_PROC2_CONTROLS = 0x401e,
    VMCS_PLE_GAP = 0x4020,
    VMCS_PLE_WINDOW = 0x4022,
    VMCS_INSTRUCTION_ERROR = 0x4400,
    VMCS_EXIT_REASON = 0x4402,
    VMCS_EXIT_INTERRUPTION_INFO = 0x4404,
    VMCS_EXIT_ERROR_CODE = 0x4406,
    VMCS_IDT_VECTORING_INFO = 0x4408,
    VMCS_IDT_VECTORING_ERROR = 0x440a,
    VMCS_EXIT_INSTRUCTION_LENGTH = 0x440c,
    VMCS_EXIT_INSTRUCTION_INFO = 0x440e,
    VMCS_GUEST_ES_LIMIT = 0x4800,
    VMCS_GUEST_CS_LIMIT = 0x4802,
    VMCS_GUEST_SS_LIMIT = 0x4804,
    VMCS_GUEST_DS_LIMIT = 0x4806,
    VMCS_GUEST_FS_LIMIT = 0x4808,
    VMCS_GUEST_GS_LIMIT = 0x480a,
    VMCS_GUEST_LDTR_LIMIT = 0x480c,
    VMCS_GUEST_TR_LIMIT = 0x480e,
    VMCS_GUEST_GDTR_LIMIT = 0x4810,
    VMCS_GUEST_IDTR_LIMIT = 0x4812,
    VMCS_GUEST_ES_ACCESS = 0x4814,
    VMCS_GUEST_CS_ACCESS = 0x4816,
    VMCS_GUEST_SS_ACCESS = 0x4818,
    VMCS_GUEST_DS_ACCESS = 0x481a,
    VMCS_GUEST_FS_ACCESS = 0x481c,
    VMCS_GUEST_GS_ACCESS = 0x481e,
    VMCS_GUEST_LDTR_ACCESS = 0x4820,
    VMCS_GUEST_TR_ACCESS = 0x4822,
    VMCS_GUEST_INTERRUPTIBILITY = 0x4824,
    VMCS_GUEST_ACTIVITY = 0x4826,
    VMCS_GUEST_SYSENTER_CS = 0x482a,
    VMCS_PREEMPTION_TIMER = 0x482e,
    VMCS_HOST_SYSENTER_CS = 0x4c00,
    VMCS_CR0_MASK = 0x6000,
    VMCS_CR4_MASK = 0x6002,
    VMCS_CR0_SHADOW = 0x6004,
    VMCS_CR4_SHADOW = 0x6006,
    VMCS_CR3_TARGET0 = 0x6008,
    VMCS_EXIT_QUALIFICATION = 0x6400,
    VMCS_GUEST_LINEAR_ADDRESS = 0x640a,
    VMCS_GUEST_CR0 = 0x6800,
    VMCS_GUEST_CR3 = 0x6802,
    VMCS_GUEST_CR4 = 0x6804,
    VMCS_GUEST_ES_BASE = 0x6806,
    VMCS_GUEST_CS_BASE = 0x6808,
    VMCS_GUEST_SS_BASE = 0x680a,
    VMCS_GUEST_DS_BASE = 0x680c,
    VMCS_GUEST_FS_BASE = 0x680e,
    VMCS_GUEST_GS_BASE = 0x6810,
    VMCS_GUEST_LDTR_BASE = 0x6812,
    VMCS_GUEST_TR_BASE = 0x6814,
    VMCS_GUEST_GDTR_BASE = 0x6816,
    VMCS_GUEST_IDTR_BASE = 0x6818,
    VMCS_GUEST_DR7 = 0x681a,
    VMCS_GUEST_RSP = 0x681c,
    VMCS_GUEST_RIP = 0x681e,
    VMCS_GUEST_RFLAGS = 0x6820,
    VMCS_GUEST_PENDING_DEBUG = 0x6822,
    VMCS_GUEST_SYSENTER_ESP = 0x6824,
    VMCS_GUEST_SYSENTER_EIP = 0x6826,
    VMCS_HOST_CR0 = 0x6c00,
    VMCS_HOST_CR3 = 0x6c02,
    VMCS_HOST_CR4 = 0x6c04,
    VMCS_HOST_FS_BASE = 0x6c06,
    VMCS_HOST_GS_BASE = 0x6c08,
    VMCS_HOST_TR_BASE = 0x6c0a,
    VMCS_HOST_GDTR_BASE = 0x6c0c,
    VMCS_HOST_IDTR_BASE = 0x6c0e,
    VMCS_HOST_SYSENTER_ESP = 0x6c10,
    VMCS_HOST_SYSENTER_EIP = 0x6c12,
    VMCS_HOST_RSP = 0x6c14,
    VMCS_HOST_RIP = 0x6c16,
};

/* Pin-based controls */
#define PIN_EXTERNAL_INTERRUPT_EXITING (1u << 0)
#define PIN_NMI_EXITING                (1u << 3)
#define PIN_VIRTUAL_NMIS               (1u << 5)
#define PIN_PREEMPTION_TIMER           (1u << 6)
#define PIN_POSTED_INTERRUPTS          (1u << 7)
/* Primary processor-based controls */
#define PROC_INTERRUPT_WINDOW  (1u << 2)
#define PROC_TSC_OFFSETTING    (1u << 3)
#define PROC_HLT_EXITING       (1u << 7)
#define PROC_INVLPG_EXITING    (1u << 9)
#define PROC_MWAIT_EXITING     (1u << 10)
#define PROC_RDPMC_EXITING     (1u << 11)
#define PROC_RDTSC_EXITING     (1u << 12)
#define PROC_CR3_LOAD_EXITING  (1u << 15)
#define PROC_CR3_STORE_EXITING (1u << 16)
#define PROC_CR8_LOAD_EXITING  (1u << 19)
#define PROC_CR8_STORE_EXITING (1u << 20)
#define PROC_TPR_SHADOW        (1u << 21)
#define PROC_NMI_WINDOW        (1u << 22)
#define PROC_MOV_DR_EXITING    (1u << 23)
#define PROC_UNCONDITIONAL_IO  (1u << 24)
#define PROC_IO_BITMAPS        (1u << 25)
#define PROC_MTF               (1u << 27)
#define PROC_MSR_BITMAPS       (1u << 28)
#define PROC_MONITOR_EXITING   (1u << 29)
#define PROC_PAUSE_EXITING     (1u << 30)
#define PROC_SECONDARY         (1u << 31)
/* Secondary processor-based controls */
#define PROC2_APIC_ACCESSES              (1u << 0)
#define PROC2_ENABLE_EPT                 (1u << 1)
#define PROC2_DESCRIPTOR_TABLE_EXITING   (1u << 2)
#define PROC2_ENABLE_RDTSCP              (1u << 3)
#define PROC2_X2APIC                     (1u << 4)
#define PROC2_ENABLE_VPID                (1u << 5)
#define PROC2_WBINVD_EXITING             (1u << 6)
#define PROC2_UNRESTRICTED_GUEST         (1u << 7)
#define PROC2_APIC_REGISTER              (1u << 8)
#define PROC2_VIRTUAL_INTERRUPT_DELIVERY (1u << 9)
#define PROC2_PAUSE_LOOP_EXITING         (1u << 10)
#define PROC2_RDRAND_EXITING             (1u << 11)
#define PROC2_ENABLE_INVPCID             (1u << 12)
#define PROC2_ENABLE_VMFUNC              (1u << 13)
#define PROC2_VMCS_SHADOWING             (1u << 14)
#define PROC2_RDSEED_EXITING             (1u << 16)
#define PROC2_ENABLE_PML                 (1u << 17)
#define PROC2_EPT_VIOLATION_VE           (1u << 18)
#define PROC2_ENABLE_XSAVES              (1u << 20)
#define PROC2_MODE_BASED_EXECUTE         (1u << 22)
#define PROC2_TSC_SCALING                (1u << 25)
/* Exit and entry controls */
#define EXIT_SAVE_DEBUG            (1u << 2)
#define EXIT_HOST_64               (1u << 9)
#define EXIT_LOAD_PERF             (1u << 12)
#define EXIT_ACK_INTERRUPT         (1u << 15)
#define EXIT_SAVE_PAT              (1u << 18)
#define EXIT_LOAD_PAT              (1u << 19)
#define EXIT_SAVE_EFER             (1u << 20)
#define EXIT_LOAD_EFER             (1u << 21)
#define EXIT_SAVE_PREEMPTION_TIMER (1u << 22)
#define ENTRY_LOAD_DEBUG           (1u << 2)
#define ENTRY_IA32E_GUEST          (1u << 9)
#define ENTRY_TO_SMM               (1u << 10)
#define ENTRY_DEACTIVATE_DUAL      (1u << 11)
#define ENTRY_LOAD_PERF            (1u << 13)
#define ENTRY_LOAD_PAT             (1u << 14)
#define ENTRY_LOAD_EFER            (1u << 15)

/* Basic exit reasons: SDM 3D appendix C */
enum {
    EXIT_REASON_EXCEPTION = 0,
    EXIT_REASON_EXTERNAL_INTERRUPT = 1,
    EXIT_REASON_TRIPLE_FAULT = 2,
    EXIT_REASON_INIT_SIGNAL = 3,
    EXIT_REASON_SIPI = 4,
    EXIT_REASON_INTERRUPT_WINDOW = 7,
    EXIT_REASON_NMI_WINDOW = 8,
    EXIT_REASON_TASK_SWITCH = 9,
    EXIT_REASON_CPUID = 10,
    EXIT_REASON_GETSEC = 11,
    EXIT_REASON_HLT = 12,
    EXIT_REASON_INVD = 13,
    EXIT_REASON_INVLPG = 14,
    EXIT_REASON_RDPMC = 15,
    EXIT_REASON_RDTSC = 16,
    EXIT_REASON_VMCALL = 18,
    EXIT_REASON_VMCLEAR = 19,
    EXIT_REASON_VMLAUNCH = 20,
    EXIT_REASON_VMPTRLD = 21,
    EXIT_REASON_VMPTRST = 22,
    EXIT_REASON_VMREAD = 23,
    EXIT_REASON_VMRESUME = 24,
    EXIT_REASON_VMWRITE = 25,
    EXIT_REASON_VMXOFF = 26,
    EXIT_REASON_VMXON = 27,
    EXIT_REASON_CR_ACCESS = 28,
    EXIT_REASON_MOV_DR = 29,
    EXIT_REASON_IO = 30,
    EXIT_REASON_RDMSR = 31,
    EXIT_REASON_WRMSR = 32,
    EXIT_REASON_INVALID_GUEST = 33,
    EXIT_REASON_MSR_LOADING = 34,
    EXIT_REASON_MWAIT = 36,
    EXIT_REASON_MTF = 37,
    EXIT_REASON_MONITOR = 39,
    EXIT_REASON_PAUSE = 40,
    EXIT_REASON_TPR_BELOW_THRESHOLD = 43,
    EXIT_REASON_APIC_ACCESS = 44,
    EXIT_REASON_VIRTUALIZED_EOI = 45,
    EXIT_REASON_GDTR_IDTR = 46,
    EXIT_REASON_LDTR_TR = 47,
    EXIT_REASON_EPT_VIOLATION = 48,
    EXIT_REASON_EPT_MISCONFIG = 49,
    EXIT_REASON_INVEPT = 50,
    EXIT_REASON_RDTSCP = 51,
    EXIT_REASON_PREEMPTION_TIMER = 52,
    EXIT_REASON_INVVPID = 53,
    EXIT_REASON_WBINVD = 54,
    EXIT_REASON_XSETBV = 55,
    EXIT_REASON_APIC_WRITE = 56,
    EXIT_REASON_RDRAND = 57,
    EXIT_REASON_INVPCID = 58,
    EXIT_REASON_VMFUNC = 59,
    EXIT_REASON_RDSEED = 61,
    EXIT_REASON_PML_FULL = 62,
    EXIT_REASON_XSAVES = 63,
    EXIT_REASON_XRSTORS = 64,
    EXIT_REASON_ENTRY_FAILURE = 0x80000000, /* bit 31 */
};
const char *vmx_reason_name(unsigned reason);

enum vmx_result { VMX_OK, VMX_FAIL_INVALID, VMX_FAIL_VALID };
struct vmx_registers {
    uint64_t rax, rbx, rcx, rdx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
};
/* What an entry led to: when result is VMX_OK, the exit information of the VMCS. */
struct vmx_exit {
    enum vmx_result result;
    uint32_t error; /* VM-instruction error when result is VMX_FAIL_VALID */
    uint32_t reason, length, info, interruption, interruption_error, vectoring, vectoring_error;
    uint64_t qualification, linear, physical, rip, rsp, rflags;
};

extern struct vmx_registers vmx_guest; /* the guest's registers, in and out of vmx_enter() */
extern void *vmx_vmcs;                 /* the VMCS that vmx_guest_reset() made current */
extern uint8_t vmx_guest_stack[16384];

/* VMX on, with fixed bits of CR0 and CR4 and IA32_FEATURE_CONTROL. False, with one report line, if there is
 * no VMX. */
bool vmx_start(void);
void *vmx_region(void); /* a VMCS or VMXON region with its revision identifier */
/* The wanted bits, plus those that must be 1, less those that cannot be (SDM 3D A.3.1). `msr`: the non-TRUE
 * number. */
uint32_t vmx_controls(uint32_t msr, uint32_t wanted);
bool vmx_can(uint32_t msr, uint32_t bits); /* can all of these control bits be 1? */
uint32_t vmx_must(uint32_t msr);           /* the bits that must be 1 */
void vmx_guest_reset(void);                /* clears the VMCS, makes it current, writes all fields */
void vmx_control_set(uint32_t field, uint32_t bits);
void vmx_control_clear(uint32_t field, uint32_t bits);
void vmx_secondary(uint32_t bits); /* sets these secondary controls (and the primary bit that enables them) */
struct vmx_exit vmx_enter(void);   /* VMLAUNCH the first time, then VMRESUME */
struct vmx_exit
vmx_run(const void *code);               /* guest RIP = code, fresh guest stack, flags 2; then vmx_enter() */
void vmx_skip(const struct vmx_exit *e); /* guest RIP past the instruction that exited */
enum vmx_result vmx_enter_raw(struct vmx_registers *r, bool launch);
extern bool vmx_launched;
/* The identity EPT (4 levels, 2 MB pages, write-back) below `gigabytes`; returns the EPT pointer's value. */
uint64_t ept_identity(unsigned gigabytes);
uint64_t *ept_entry(uint64_t eptp, uint64_t address, int level); /* splits what is larger */
void invept(uint64_t type, uint64_t eptp);

#define VMX_RESULT(text, ...)                                                                                \
    ({                                                                                                       \
        bool c_, z_;                                                                                         \
        asm volatile(text : "=@ccc"(c_), "=@ccz"(z_) : __VA_ARGS__ : "memory");                              \
        c_ ? VMX_FAIL_INVALID : z_ ? VMX_FAIL_VALID : VMX_OK;                                                \
    })
static inline enum vmx_result vmx_on(uint64_t address)
{
    return VMX_RESULT("vmxon %2", "m"(address));
}
static inline enum vmx_result vmx_clear(uint64_t address)
{
    return VMX_RESULT("vmclear %2", "m"(address));
}
static inline enum vmx_result vmx_load(uint64_t address)
{
    return VMX_RESULT("vmptrld %2", "m"(address));
}
static inline enum vmx_result vmx_write(uint64_t field, uint64_t value)
{
    return VMX_RESULT("vmwrite %2, %3", "rm"(value), "r"(field));
}
static inline enum vmx_result vmx_read(uint64_t field, uint64_t *value)
{
    bool c, z;
    uint64_t v = *value;
    asm volatile("vmread %3, %2" : "=@ccc"(c), "=@ccz"(z), "+r"(v) : "r"(field) : "memory");
    *value = v;
    return c ? VMX_FAIL_INVALID : z ? VMX_FAIL_VALID : VMX_OK;
}
static inline uint64_t vmx_store(void)
{
    uint64_t p;
    asm volatile("vmptrst %0" : "=m"(p)::"memory");
    return p;
}
static inline uint64_t vmcs(uint32_t field)
{
    uint64_t v = 0;
    vmx_read(field, &v);
    return v;
}
static inline void vmcs_set(uint32_t field, uint64_t value)
{
    vmx_write(field, value);
}
/* L2 code. It ends with VMCALL, which every test takes as "came through". */
#define GUEST_CODE(name, bits, text)                                                                         \
    extern char name[], name##_end[];                                                                        \
    asm(".pushsection .user,\"awx\",@progbits\n.balign 16\n.code" #bits "\n" #name ":\n" text "\n" #name     \
        "_end: vmcall\n hlt\n.code64\n.popsection")
