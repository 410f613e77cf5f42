/*
 * vmx/controls.h -- the VMX control bits by name, and the capability MSRs computed from them.
 *
 * SDM 3D, appendix "VMX Capability Reporting Facility". Rows: controls.def.
 */
#ifndef CPU_VMX_CONTROLS_H
#define CPU_VMX_CONTROLS_H

#include "cpu/cpu.h"

enum control_word { WORD_PIN, WORD_PROC, WORD_PROC2, WORD_EXITCTL, WORD_ENTRYCTL, CONTROL_WORDS };

/* PIN_NMI_EXITING, PROC2_ENABLE_EPT, EXITCTL_LOAD_EFER, ...: masks of 32 bits. */
enum {
#define CONTROL(word, bit, name, text, feature) word##_##name = 1u << (bit),
#include "cpu/vmx/controls.def"
#undef CONTROL
};

/* Bits that are reserved and fixed to 1, or that were so on the first processors (default1 class). */
#define PIN_DEFAULT1      0x00000016u
#define PROC_DEFAULT1     0x0401e172u
#define EXITCTL_DEFAULT1  0x00036dffu
#define ENTRYCTL_DEFAULT1 0x000011ffu

/* Capability MSRs. */
enum {
    IA32_VMX_BASIC = 0x480,
    IA32_VMX_PINBASED_CTLS,
    IA32_VMX_PROCBASED_CTLS,
    IA32_VMX_EXIT_CTLS,
    IA32_VMX_ENTRY_CTLS,
    IA32_VMX_MISC,
    IA32_VMX_CR0_FIXED0,
    IA32_VMX_CR0_FIXED1,
    IA32_VMX_CR4_FIXED0,
    IA32_VMX_CR4_FIXED1,
    IA32_VMX_VMCS_ENUM,
    IA32_VMX_PROCBASED_CTLS2,
    IA32_VMX_EPT_VPID_CAP,
    IA32_VMX_TRUE_PINBASED_CTLS,
    IA32_VMX_TRUE_PROCBASED_CTLS,
    IA32_VMX_TRUE_EXIT_CTLS,
    IA32_VMX_TRUE_ENTRY_CTLS,
    IA32_VMX_VMFUNC,
};
#define VMX_CAPABILITY_COUNT (IA32_VMX_VMFUNC - IA32_VMX_BASIC + 1)

#define VMCS_REVISION_ID 0x44520002u /* "DR" and the version of the region's layout (vmcs.c) */

/* IA32_VMX_MISC */
#define MISC_TIMER_RATE        5 /* the preemption timer counts down when bit 5 of the TSC changes */
#define MISC_STORE_LMA         BIT(5)
#define MISC_ACTIVITY_HLT      BIT(6)
#define MISC_ACTIVITY_SHUTDOWN BIT(7)
#define MISC_ACTIVITY_SIPI     BIT(8)
#define MISC_CR3_TARGETS       4
#define MISC_VMWRITE_ALL       BIT(29)
#define MISC_INJECT_LENGTH_0   BIT(30)
#define MISC_MSR_LIST_MAX      512u /* recommended maximum: 512 * (N + 1) entries with N = 0 */

/* VM-function controls, IA32_VMX_VMFUNC: bit n is VM function n */
#define VMFUNC_EPTP_SWITCHING BIT(0)
#define EPTP_LIST_LENGTH      512u

#define TSC_MULTIPLIER_FRACTION 48 /* bits of the TSC multiplier below the binary point */

/* IA32_VMX_EPT_VPID_CAP */
#define EPT_CAP_EXECUTE_ONLY      BIT(0)
#define EPT_CAP_WALK_4            BIT(6)
#define EPT_CAP_UC                BIT(8)
#define EPT_CAP_WB                BIT(14)
#define EPT_CAP_2M                BIT(16)
#define EPT_CAP_1G                BIT(17)
#define EPT_CAP_INVEPT            BIT(20)
#define EPT_CAP_AD                BIT(21)
#define EPT_CAP_INVEPT_SINGLE     BIT(25)
#define EPT_CAP_INVEPT_ALL        BIT(26)
#define VPID_CAP_INVVPID          BIT(32)
#define VPID_CAP_INDIVIDUAL       BIT(40)
#define VPID_CAP_SINGLE           BIT(41)
#define VPID_CAP_ALL              BIT(42)
#define VPID_CAP_SINGLE_NONGLOBAL BIT(43)

struct vmx_caps {
    uint32_t allowed1[CONTROL_WORDS];  /* bits that may be 1 */
    uint32_t required1[CONTROL_WORDS]; /* bits that must be 1 (true controls) */
    uint64_t msr[VMX_CAPABILITY_COUNT];
    uint64_t cr4_fixed1;
};

/* Control row for tests and explanations. */
struct control_info {
    uint8_t word, bit;
    const char *name, *text;
    uint16_t feature;
};
extern const struct control_info control_rows[];
extern const unsigned control_row_count;
const char *control_word_name(enum control_word w);
/* The SDM's name of a control bit, "reserved bit" when it has none. */
const char *control_bit_name(enum control_word w, unsigned bit);

void vmx_caps_init(struct vmx_caps *caps, const struct cpu_model *model);

#endif
