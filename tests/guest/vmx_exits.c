/*
 * vmx_exits.c -- each exit reason with its qualification, instruction length and instruction information.
 * SDM 3C 25.1 "Instructions That Cause VM Exits", 25.2 "Other Causes of VM Exits", 27.2 "Recording VM-Exit
 * Information".
 */
#include "covers.h"
#include "vmx.h"

#define NONE 0xffffffff
/* Instruction information of a memory operand, 64-bit addresses: [base + disp] in segment `seg`, no index. */
#define MEM(base, seg) (2u << 7 | (seg) << 15 | 1u << 22 | (uint32_t)(base) << 23)
#define MEM_MASK       (0x3u | 7u << 7 | 1u << 10 | 7u << 15 | 1u << 22 | 0xfu << 23 | 1u << 27)
#define MEM_SIB(base, index, scale, seg)                                                                     \
    ((scale) | 2u << 7 | (seg) << 15 | (uint32_t)(index) << 18 | (uint32_t)(base) << 23)
#define REG2(r) ((uint32_t)(r) << 28)
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { ES, CS, SS, DS, FS, GS };

struct exit_case {
    const char *name, *rule, *code;
    uint32_t proc, proc2;
    uint32_t reason;
    uint64_t qualification;
    uint32_t length; /* NONE: not checked */
    uint32_t info, info_mask;
    unsigned at; /* offset of the instruction in the code */
};
#define CODE(name, text) GUEST_CODE(name, 64, text)

CODE(g_cpuid, "cpuid");
CODE(g_getsec, ".byte 0x0f, 0x37");
CODE(g_hlt, "hlt");
CODE(g_invd, "invd");
CODE(g_wbinvd, "wbinvd");
CODE(g_invlpg, "mov $0x12345678, %eax\n invlpg 0x10(%rax)");
CODE(g_rdpmc, "rdpmc");
CODE(g_rdtsc, "rdtsc");
CODE(g_rdtscp, "rdtscp");
CODE(g_pause, "pause");
CODE(g_vmcall, "vmcall");
CODE(g_vmclear, "vmclear 0x40(%rbx)");
CODE(g_vmlaunch, "vmlaunch");
CODE(g_vmptrld, "vmptrld %gs:(%r12)");
CODE(g_vmptrst, "vmptrst -8(%rsp)");
CODE(g_vmread_reg, "vmread %r9, %rdx");
CODE(g_vmread_mem, "vmread %rax, 0x1000(%rsi, %rcx, 8)");
CODE(g_vmresume, "vmresume");
CODE(g_vmwrite_reg, "vmwrite %r10, %rdi");
CODE(g_vmwrite_mem, "vmwrite -0x80(%rbp), %r15");
CODE(g_vmxoff, "vmxoff");
CODE(g_vmxon, "vmxon (%rdi)");
CODE(g_invept, "invept 0x20(%rax), %r11");
CODE(g_invvpid, "invvpid (%rsp), %rcx");
CODE(g_invpcid, "invpcid 0x7f(%rdx), %rsi");
CODE(g_mov_to_cr3, "mov %cr3, %rdx\n mov %rdx, %cr3");
CODE(g_mov_from_cr3, "mov %cr3, %r8");
CODE(g_mov_to_cr8, "xor %ecx, %ecx\n mov %rcx, %cr8");
CODE(g_mov_from_cr8, "mov %cr8, %r13");
CODE(g_mov_to_dr, "mov %r14, %db3");
CODE(g_mov_from_dr, "mov %db7, %rax");
CODE(g_mov_to_dr6, "mov %rbx, %db6");
CODE(g_out_imm, "out %al, $0x80");
CODE(g_out_dx, "mov $0x1234, %edx\n outw %ax, (%dx)");
CODE(g_in_imm, "in $0x42, %eax");
CODE(g_in_dx, "mov $0x70, %edx\n inb (%dx), %al");
CODE(g_outsb, "mov $0x80, %edx\n mov $user_buffer, %esi\n outsb");
CODE(g_outsb_fs, "mov $0x80, %edx\n xor %esi, %esi\n fs outsb");
CODE(g_insw, "mov $0x80, %edx\n mov $user_buffer, %edi\n insw");
CODE(g_rep_outsl, "mov $0x80, %edx\n mov $user_buffer, %esi\n mov $2, %ecx\n rep outsl");
CODE(g_outsb_a32, "mov $0x80, %edx\n mov $user_buffer, %esi\n addr32 outsb");
CODE(g_monitor, "mov $user_buffer, %eax\n xor %ecx, %ecx\n xor %edx, %edx\n monitor");
CODE(g_mwait, "xor %eax, %eax\n xor %ecx, %ecx\n mwait");
CODE(g_sgdt, "sgdt 0x18(%rsp)");
CODE(g_sidt, "sidt (%r13)");
CODE(g_lgdt, "lgdt 0x123(%rbp)");
CODE(g_lidt, "lidt (%rax, %rbx, 4)");
CODE(g_sldt, "sldt %edx");
CODE(g_sldt_mem, "sldt 8(%rdi)");
CODE(g_str, "str %r11d");
CODE(g_lldt, "xor %ebx, %ebx\n lldt %bx");
CODE(g_ltr, "mov $0x48, %esi\n ltr %si");
CODE(g_xsetbv, "xor %ecx, %ecx\n xor %edx, %edx\n mov $1, %eax\n xsetbv");
CODE(g_rdrand16, "rdrand %cx");
CODE(g_rdrand64, "rdrand %r12");
CODE(g_rdseed32, "rdseed %edi");
CODE(g_rdmsr, "mov $0x10, %ecx\n rdmsr");
CODE(g_wrmsr, "mov $0x174, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr");
CODE(g_rdmsr_high, "mov $0xc0000080, %ecx\n rdmsr");
CODE(g_rdmsr_beyond, "mov $0x2000, %ecx\n rdmsr");
CODE(g_vmfunc, "xor %eax, %eax\n xor %ecx, %ecx\n vmfunc");
CODE(g_nop, "nop");
extern uint8_t user_buffer[64];
USER_DATA uint8_t user_buffer[64] = {1, 2, 3, 4};
extern uint8_t user_buffer[64];

#define AT(code, n) code, .at = (n)
static const struct exit_case cases[] = {
    {"cpuid", "SDM 3C 25.1.2", g_cpuid, 0, 0, EXIT_REASON_CPUID, 0, 2, 0, 0, 0},
    {"hlt", "SDM 3C 25.1.3 HLT exiting", g_hlt, PROC_HLT_EXITING, 0, EXIT_REASON_HLT, 0, 1, 0, 0, 0},
    {"invd", "SDM 3C 25.1.2", g_invd, 0, 0, EXIT_REASON_INVD, 0, 2, 0, 0, 0},
    {"wbinvd", "SDM 3C 25.1.3 WBINVD exiting", g_wbinvd, 0, PROC2_WBINVD_EXITING, EXIT_REASON_WBINVD, 0, 2, 0,
     0, 0},
    {"invlpg", "SDM 3C 27.2.1 qualification: the linear address", g_invlpg, PROC_INVLPG_EXITING, 0,
     EXIT_REASON_INVLPG, 0x12345688, 4, 0, 0, 5},
    {"rdpmc", "SDM 3C 25.1.3 RDPMC exiting", g_rdpmc, PROC_RDPMC_EXITING, 0, EXIT_REASON_RDPMC, 0, 2, 0, 0,
     0},
    {"rdtsc", "SDM 3C 25.1.3 RDTSC exiting", g_rdtsc, PROC_RDTSC_EXITING, 0, EXIT_REASON_RDTSC, 0, 2, 0, 0,
     0},
    {"rdtscp", "SDM 3C 25.1.3 RDTSC exiting and enable RDTSCP", g_rdtscp, PROC_RDTSC_EXITING,
     PROC2_ENABLE_RDTSCP, EXIT_REASON_RDTSCP, 0, 3, 0, 0, 0},
    {"pause", "SDM 3C 25.1.3 PAUSE exiting", g_pause, PROC_PAUSE_EXITING, 0, EXIT_REASON_PAUSE, 0, 2, 0, 0,
     0},
    {"vmcall", "SDM 3C 25.1.2", g_vmcall, 0, 0, EXIT_REASON_VMCALL, 0, 3, 0, 0, 0},
    {"vmclear", "SDM 3C Table 27-13", g_vmclear, 0, 0, EXIT_REASON_VMCLEAR, 0x40, 5, MEM(RBX, DS), MEM_MASK,
     0},
    {"vmlaunch", "SDM 3C 25.1.2", g_vmlaunch, 0, 0, EXIT_REASON_VMLAUNCH, 0, 3, 0, 0, 0},
    {"vmptrld", "SDM 3C Table 27-13", g_vmptrld, 0, 0, EXIT_REASON_VMPTRLD, 0, 6, MEM(R12, GS), MEM_MASK, 0},
    {"vmptrst", "SDM 3C Table 27-13", g_vmptrst, 0, 0, EXIT_REASON_VMPTRST, -8ul, 5, MEM(RSP, SS), MEM_MASK,
     0},
    {"vmread-register", "SDM 3C Table 27-14", g_vmread_reg, 0, 0, EXIT_REASON_VMREAD, 0, 4,
     1u << 10 | RDX << 3 | REG2(R9), 1u << 10 | 0xf << 3 | REG2(15), 0},
    {"vmread-memory", "SDM 3C Table 27-14", g_vmread_mem, 0, 0, EXIT_REASON_VMREAD, 0x1000, 8,
     MEM_SIB(RSI, RCX, 3, DS) | REG2(RAX), MEM_MASK | 0xf << 18 | REG2(15), 0},
    {"vmresume", "SDM 3C 25.1.2", g_vmresume, 0, 0, EXIT_REASON_VMRESUME, 0, 3, 0, 0, 0},
    {"vmwrite-register", "SDM 3C Table 27-14", g_vmwrite_reg, 0, 0, EXIT_REASON_VMWRITE, 0, 4,
     1u << 10 | R10 << 3 | REG2(RDI), 1u << 10 | 0xf << 3 | REG2(15), 0},
    {"vmwrite-memory", "SDM 3C Table 27-14", g_vmwrite_mem, 0, 0, EXIT_REASON_VMWRITE, -0x80ul, 5,
     MEM(RBP, SS) | REG2(R15), MEM_MASK | REG2(15), 0},
    {"vmxoff", "SDM 3C 25.1.2", g_vmxoff, 0, 0, EXIT_REASON_VMXOFF, 0, 3, 0, 0, 0},
    {"vmxon", "SDM 3C Table 27-13", g_vmxon, 0, 0, EXIT_REASON_VMXON, 0, 4, MEM(RDI, DS), MEM_MASK, 0},
    {"invept", "SDM 3C Table 27-9", g_invept, 0, 0, EXIT_REASON_INVEPT, 0x20, 7, MEM(RAX, DS) | REG2(R11),
     MEM_MASK | REG2(15), 0},
    {"invvpid", "SDM 3C Table 27-9", g_invvpid, 0, 0, EXIT_REASON_INVVPID, 0, 6, MEM(RSP, SS) | REG2(RCX),
     MEM_MASK | REG2(15), 0},
    {"invpcid", "SDM 3C 25.1.3 INVLPG exiting and enable INVPCID", g_invpcid, PROC_INVLPG_EXITING,
     PROC2_ENABLE_INVPCID, EXIT_REASON_INVPCID, 0x7f, 6, MEM(RDX, DS) | REG2(RSI), MEM_MASK | REG2(15), 0},
    {"mov-to-cr3", "SDM 3C Table 27-3", g_mov_to_cr3, PROC_CR3_LOAD_EXITING, 0, EXIT_REASON_CR_ACCESS,
     3 | RDX << 8, 3, 0, 0, 3},
    {"mov-from-cr3", "SDM 3C Table 27-3", g_mov_from_cr3, PROC_CR3_STORE_EXITING, 0, EXIT_REASON_CR_ACCESS,
     3 | 1 << 4 | R8 << 8, 4, 0, 0, 0},
    {"mov-to-cr8", "SDM 3C Table 27-3", g_mov_to_cr8, PROC_CR8_LOAD_EXITING, 0, EXIT_REASON_CR_ACCESS,
     8 | RCX << 8, NONE, 0, 0, 2},
    {"mov-from-cr8", "SDM 3C Table 27-3", g_mov_from_cr8, PROC_CR8_STORE_EXITING, 0, EXIT_REASON_CR_ACCESS,
     8 | 1 << 4 | R13 << 8, 4, 0, 0, 0},
    {"mov-to-dr", "SDM 3C Table 27-4", g_mov_to_dr, PROC_MOV_DR_EXITING, 0, EXIT_REASON_MOV_DR, 3 | R14 << 8,
     4, 0, 0, 0},
    {"mov-from-dr", "SDM 3C Table 27-4", g_mov_from_dr, PROC_MOV_DR_EXITING, 0, EXIT_REASON_MOV_DR,
     7 | 1 << 4 | RAX << 8, 3, 0, 0, 0},
    {"mov-to-dr6", "SDM 3C Table 27-4", g_mov_to_dr6, PROC_MOV_DR_EXITING, 0, EXIT_REASON_MOV_DR,
     6 | RBX << 8, 3, 0, 0, 0},
    {"out-immediate", "SDM 3C Table 27-5", g_out_imm, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     0 | 1 << 6 | 0x80 << 16, 2, 0, 0, 0},
    {"out-dx", "SDM 3C Table 27-5", g_out_dx, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO, 1 | 0x1234 << 16, 2,
     0, 0, 5},
    {"in-immediate", "SDM 3C Table 27-5", g_in_imm, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     3 | 1 << 3 | 1 << 6 | 0x42 << 16, 2, 0, 0, 0},
    {"in-dx", "SDM 3C Table 27-5", g_in_dx, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO, 0 | 1 << 3 | 0x70 << 16,
     1, 0, 0, 5},
    {"outsb", "SDM 3C Tables 27-5, 27-8", g_outsb, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     0 | 1 << 4 | 0x80 << 16, 1, 2 << 7 | DS << 15, 7 << 7 | 7 << 15, 10},
    {"outsb-fs", "SDM 3C Table 27-8", g_outsb_fs, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     0 | 1 << 4 | 0x80 << 16, 2, 2 << 7 | FS << 15, 7 << 7 | 7 << 15, 7},
    {"insw", "SDM 3C Tables 27-5, 27-8", g_insw, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     1 | 1 << 3 | 1 << 4 | 0x80 << 16, 2, 2 << 7, 7 << 7, 10},
    {"rep-outsl", "SDM 3C Table 27-5", g_rep_outsl, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     3 | 1 << 4 | 1 << 5 | 0x80 << 16, 2, 2 << 7 | DS << 15, 7 << 7 | 7 << 15, 15},
    {"outsb-addr32", "SDM 3C Table 27-8", g_outsb_a32, PROC_UNCONDITIONAL_IO, 0, EXIT_REASON_IO,
     0 | 1 << 4 | 0x80 << 16, 2, 1 << 7 | DS << 15, 7 << 7 | 7 << 15, 10},
    {"monitor", "SDM 3C 25.1.3 MONITOR exiting", g_monitor, PROC_MONITOR_EXITING, 0, EXIT_REASON_MONITOR, 0,
     3, 0, 0, 9},
    {"mwait", "SDM 3C 25.1.3 MWAIT exiting", g_mwait, PROC_MWAIT_EXITING, 0, EXIT_REASON_MWAIT, 0, 3, 0, 0,
     4},
    {"sgdt", "SDM 3C Table 27-10", g_sgdt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0x18, 5,
     MEM(RSP, SS) | 0 << 28, MEM_MASK | 3 << 28, 0},
    {"sidt", "SDM 3C Table 27-10", g_sidt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, 5,
     MEM(R13, DS) | 1 << 28, MEM_MASK | 3 << 28, 0},
    {"lgdt", "SDM 3C Table 27-10", g_lgdt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0x123, 7,
     MEM(RBP, SS) | 2 << 28, MEM_MASK | 3 << 28, 0},
    {"lidt", "SDM 3C Table 27-10", g_lidt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_GDTR_IDTR, 0, 4,
     MEM_SIB(RAX, RBX, 2, DS) | 3u << 28, MEM_MASK | 0xf << 18 | 3u << 28, 0},
    {"sldt", "SDM 3C Table 27-11", g_sldt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, 3,
     1 << 10 | RDX << 3 | 0 << 28, 1 << 10 | 0xf << 3 | 3 << 28, 0},
    {"sldt-memory", "SDM 3C Table 27-11", g_sldt_mem, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR,
     8, 4, MEM(RDI, DS) | 0 << 28, MEM_MASK | 3 << 28, 0},
    {"str", "SDM 3C Table 27-11", g_str, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, 4,
     1 << 10 | R11 << 3 | 1 << 28, 1 << 10 | 0xf << 3 | 3 << 28, 0},
    {"lldt", "SDM 3C Table 27-11", g_lldt, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, 3,
     1 << 10 | RBX << 3 | 2 << 28, 1 << 10 | 0xf << 3 | 3 << 28, 2},
    {"ltr", "SDM 3C Table 27-11", g_ltr, 0, PROC2_DESCRIPTOR_TABLE_EXITING, EXIT_REASON_LDTR_TR, 0, 3,
     1 << 10 | RSI << 3 | 3u << 28, 1 << 10 | 0xf << 3 | 3u << 28, 5},
    {"xsetbv", "SDM 3C 25.1.2", g_xsetbv, 0, 0, EXIT_REASON_XSETBV, 0, 3, 0, 0, 9},
    {"rdrand-16", "SDM 3C Table 27-12", g_rdrand16, 0, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND, 0, 4,
     RCX << 3 | 0 << 11, 0xf << 3 | 3 << 11, 0},
    {"rdrand-64", "SDM 3C Table 27-12", g_rdrand64, 0, PROC2_RDRAND_EXITING, EXIT_REASON_RDRAND, 0, 4,
     R12 << 3 | 2 << 11, 0xf << 3 | 3 << 11, 0},
    {"rdseed-32", "SDM 3C Table 27-12", g_rdseed32, 0, PROC2_RDSEED_EXITING, EXIT_REASON_RDSEED, 0, 3,
     RDI << 3 | 1 << 11, 0xf << 3 | 3 << 11, 0},
    {"rdmsr-bitmap", "SDM 3C 24.6.9 MSR-Bitmap Address", g_rdmsr, 0, 0, EXIT_REASON_RDMSR, 0, 2, 0, 0, 5},
    {"wrmsr-bitmap", "SDM 3C 24.6.9", g_wrmsr, 0, 0, EXIT_REASON_WRMSR, 0, 2, 0, 0, 9},
    {"rdmsr-bitmap-high", "SDM 3C 24.6.9: C0000000H to C0001FFFH", g_rdmsr_high, 0, 0, EXIT_REASON_RDMSR, 0,
     2, 0, 0, 5},
    {"rdmsr-out-of-range", "SDM 3C 25.1.3: RDMSR out of both ranges exits", g_rdmsr_beyond, 0, 0,
     EXIT_REASON_RDMSR, 0, 2, 0, 0, 5},
};

static void msr_bitmap_set(uint32_t msr, bool write)
{
    uint8_t *bitmap = (uint8_t *)vmcs(VMCS_MSR_BITMAP) + (write ? 2048 : 0) + (msr >= 0xc0000000 ? 1024 : 0);
    bitmap[(msr & 0x1fff) / 8] |= (uint8_t)(1 << (msr & 7));
}

static void instructions(void)
{
    COVERS(PROC_HLT_EXITING);
    COVERS(PROC_INVLPG_EXITING);
    COVERS(PROC_RDPMC_EXITING);
    COVERS(PROC_RDTSC_EXITING);
    COVERS(PROC_CR3_LOAD_EXITING);
    COVERS(PROC_CR3_STORE_EXITING);
    COVERS(PROC_CR8_LOAD_EXITING);
    COVERS(PROC_CR8_STORE_EXITING);
    COVERS(PROC_MOV_DR_EXITING);
    COVERS(PROC_UNCONDITIONAL_IO_EXITING);
    COVERS(PROC_PAUSE_EXITING);
    COVERS(PROC2_DESCRIPTOR_TABLE_EXITING);
    COVERS(PROC2_WBINVD_EXITING);
    COVERS(PROC2_RDRAND_EXITING);
    COVERS(PROC2_RDSEED_EXITING);
    COVERS(EXIT_CPUID);
    COVERS(EXIT_HLT);
    COVERS(EXIT_INVD);
    COVERS(EXIT_WBINVD);
    COVERS(EXIT_INVLPG);
    COVERS(EXIT_RDPMC);
    COVERS(EXIT_RDTSC);
    COVERS(EXIT_RDTSCP);
    COVERS(EXIT_PAUSE);
    COVERS(EXIT_VMCALL);
    COVERS(EXIT_VMCLEAR);
    COVERS(EXIT_VMLAUNCH);
    COVERS(EXIT_VMPTRLD);
    COVERS(EXIT_VMPTRST);
    COVERS(EXIT_VMREAD);
    COVERS(EXIT_VMRESUME);
    COVERS(EXIT_VMWRITE);
    COVERS(EXIT_VMXOFF);
    COVERS(EXIT_VMXON);
    COVERS(EXIT_INVEPT);
    COVERS(EXIT_INVVPID);
    COVERS(EXIT_INVPCID);
    COVERS(EXIT_CR_ACCESS);
    COVERS(EXIT_DR_ACCESS);
    COVERS(EXIT_IO_INSTRUCTION);
    COVERS(EXIT_GDTR_IDTR_ACCESS);
    COVERS(EXIT_LDTR_TR_ACCESS);
    COVERS(EXIT_XSETBV);
    COVERS(EXIT_RDRAND);
    COVERS(EXIT_RDSEED);
    COVERS(EXIT_RDMSR);
    COVERS(EXIT_WRMSR);
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct exit_case *c = &cases[i];
        if (!enabled(c->name, c->rule)) {
            continue;
        }
        if ((c->code == g_monitor || c->code == g_mwait) && !(cpuid(1, 0).ecx & 1 << 3)) {
            report_skip(c->name, c->rule, "no MONITOR and MWAIT: #UD comes before the exit (SDM 3C 25.1.1)");
            continue;
        }
        if (!vmx_can(IA32_VMX_PROCBASED_CTLS, c->proc) ||
            (c->proc2 && !vmx_can(IA32_VMX_PROCBASED_CTLS2, c->proc2))) {
            report_skip(c->name, c->rule, "no such control");
            continue;
        }
        vmx_guest_reset();
        vmx_control_set(VMCS_PROC_CONTROLS, c->proc);
        if (c->proc2) {
            vmx_secondary(c->proc2);
        }
        msr_bitmap_set(0x10, false);
        msr_bitmap_set(0x174, true);
        msr_bitmap_set(0xc0000080, false);
        vmcs_set(VMCS_CR4_MASK, 0);
        vmcs_set(VMCS_GUEST_CR4, read_cr4() | (cpuid(1, 0).ecx & 1 << 26 ? CR4_OSXSAVE : 0));
        vmx_guest.rax = vmx_guest.rbx = vmx_guest.rcx = vmx_guest.rdx = vmx_guest.rsi = vmx_guest.rdi =
            vmx_guest.rbp = (uint64_t)user_buffer;
        vmx_guest.r8 = vmx_guest.r9 = vmx_guest.r10 = vmx_guest.r11 = vmx_guest.r12 = vmx_guest.r13 =
            vmx_guest.r14 = vmx_guest.r15 = (uint64_t)user_buffer;
        struct vmx_exit e = vmx_run(c->code);
        bool ok = e.result == VMX_OK && e.reason == c->reason && e.qualification == c->qualification &&
                  e.rip == (uint64_t)c->code + c->at && (c->length == NONE || e.length == c->length) &&
                  (e.info & c->info_mask) == c->info;
        report(c->name, c->rule, ok,
               "result %d error %u; reason %u (%s) qualification %lx RIP +%lu length %u info %x; want reason "
               "%u qualification %lx RIP +%u length %u info %x/%x",
               e.result, e.error, e.reason, vmx_reason_name(e.reason), e.qualification,
               e.rip - (uint64_t)c->code, e.length, e.info & c->info_mask, c->reason, c->qualification, c->at,
               c->length, c->info, c->info_mask);
        if ((c->reason == EXIT_REASON_IO) && (c->qualification & 16)) {
            char name[40];
            format_text(name, sizeof name, "%s-linear", c->name);
            check_equal(name, "SDM 3C 27.2.1 guest-linear address of INS and OUTS", e.linear,
                        c->info_mask && (c->info >> 15 & 7) == FS ? 0 : (uint64_t)user_buffer);
        }
    }
}

/* -- The same instructions do not exit when their control is 0, or raise #UD when the feature is off --- */
static void through(const char *name, const char *rule, const char *code, uint32_t proc, uint32_t proc2,
                    unsigned exception)
{
    if (!vmx_can(IA32_VMX_PROCBASED_CTLS, proc) || (proc2 && !vmx_can(IA32_VMX_PROCBASED_CTLS2, proc2))) {
        report_skip(name, rule, "no such control");
        return;
    }
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, proc);
    if (proc2) {
        vmx_secondary(proc2);
    }
    vmcs_set(VMCS_EXCEPTION_BITMAP, 0xffffffff & ~(1u << EXC_PF));
    vmx_guest.rax = vmx_guest.rdx = vmx_guest.rbx = vmx_guest.rsi = vmx_guest.rcx = (uint64_t)user_buffer;
    vmx_guest.rsi = 2; /* INVPCID type */
    struct vmx_exit e = vmx_run(code);
    bool ok = exception == VECTOR_NONE
                  ? e.reason == EXIT_REASON_VMCALL
                  : e.reason == EXIT_REASON_EXCEPTION && (e.interruption & 0xff) == exception;
    report(name, rule, e.result == VMX_OK && ok, "result %d error %u reason %u interruption %x", e.result,
           e.error, e.reason, e.interruption);
}

static void not_exiting(void)
{
    COVERS(PROC2_ENABLE_RDTSCP);
    COVERS(PROC2_ENABLE_INVPCID);
    through("rdtsc-no-exit", "SDM 3C 25.1.3", g_rdtsc, 0, 0, VECTOR_NONE);
    through("pause-no-exit", "SDM 3C 25.1.3", g_pause, 0, 0, VECTOR_NONE);
    through("invlpg-no-exit", "SDM 3C 25.1.3", g_invlpg, 0, 0, VECTOR_NONE);
    through("wbinvd-no-exit", "SDM 3C 25.1.3", g_wbinvd, 0, 0, VECTOR_NONE);
    through("sgdt-no-exit", "SDM 3C 25.1.3", g_sldt, 0, 0, VECTOR_NONE);
    through("mov-cr3-no-exit", "SDM 3C 25.1.3", g_mov_to_cr3, 0, 0, VECTOR_NONE);
    through("mov-dr-no-exit", "SDM 3C 25.1.3", g_mov_from_dr, 0, 0, VECTOR_NONE);
    through("rdtscp-disabled", "SDM 3C 25.3 RDTSCP #UD if not enabled", g_rdtscp, 0, 0, EXC_UD);
    through("rdtscp-enabled", "SDM 3C 25.3 RDTSCP", g_rdtscp, 0, PROC2_ENABLE_RDTSCP, VECTOR_NONE);
    through("invpcid-disabled", "SDM 3C 25.3 INVPCID #UD if not enabled", g_invpcid, 0, 0, EXC_UD);
    through("vmfunc-disabled", "SDM 3C 25.5.5.1 VMFUNC #UD if not enabled", g_vmfunc, 0, 0, EXC_UD);
    through("nop", "SDM 3C 25", g_nop, 0, 0, VECTOR_NONE);
}

/* -- I/O bitmaps, MSR bitmaps off, CR0 and CR4 masks, CR3 targets -------------------------------------- */
CODE(g_cr0_ts, "mov %cr0, %rax\n or $8, %rax\n mov %rax, %cr0");
CODE(g_clts, "clts");
CODE(g_lmsw, "mov $9, %eax\n lmsw %ax");
CODE(g_lmsw_mem, "movw $9, -16(%rsp)\n lmsw -16(%rsp)");
CODE(g_read_cr0, "mov %cr0, %rax");
CODE(g_read_cr4, "mov %cr4, %rax");
CODE(g_smsw, "smsw %rax");
CODE(g_cr4_tsd, "mov %cr4, %rax\n xor $4, %rax\n mov %rax, %cr4");
CODE(g_cr0_ne, "mov %cr0, %rax\n and $~0x20, %rax\n mov %rax, %cr0");
CODE(g_io_fffe, "mov $0xfffe, %edx\n inw (%dx), %ax");
CODE(g_io_wrap, "mov $0xffff, %edx\n inw (%dx), %ax");
CODE(g_io_80, "out %al, $0x80");

static bool ran(const struct vmx_exit *e)
{
    return e->result == VMX_OK && e->reason == EXIT_REASON_VMCALL;
}
static void expect(const char *name, const char *rule, const struct vmx_exit *e, unsigned reason,
                   uint64_t qualification)
{
    report(name, rule, e->result == VMX_OK && e->reason == reason && e->qualification == qualification,
           "result %d error %u reason %u qualification %lx interruption %x", e->result, e->error, e->reason,
           e->qualification, e->interruption);
}

static void bitmaps_and_masks(void)
{
    COVERS(PROC_USE_IO_BITMAPS);
    COVERS(PROC_USE_MSR_BITMAPS);
    uint8_t *a = page_alloc(), *b = page_alloc();
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_IO_BITMAPS | PROC_UNCONDITIONAL_IO);
    vmcs_set(VMCS_IO_BITMAP_A, (uint64_t)a);
    vmcs_set(VMCS_IO_BITMAP_B, (uint64_t)b);
    struct vmx_exit e = vmx_run(g_io_80);
    report("io-bitmap-clear", "SDM 3C 24.6.4: bitmaps override unconditional I/O exiting", ran(&e),
           "reason %u", e.reason);
    a[0x80 / 8] = 1;
    e = vmx_run(g_io_80);
    expect("io-bitmap-a", "SDM 3C 24.6.4 I/O-Bitmap Addresses", &e, EXIT_REASON_IO, 1 << 6 | 0x80 << 16);
    b[4095] = 0x80; /* port FFFFH */
    e = vmx_run(g_io_fffe);
    expect("io-bitmap-b-second-byte", "SDM 3C 25.1.3: any byte's bit makes the exit", &e, EXIT_REASON_IO,
           1 | 1 << 3 | 0xfffeul << 16);
    b[4095] = 0;
    e = vmx_run(g_io_wrap);
    expect("io-wraps", "SDM 3C 25.1.3: an access that wraps around FFFFH exits", &e, EXIT_REASON_IO,
           1 | 1 << 3 | 0xfffful << 16);

    vmx_guest_reset();
    vmx_control_clear(VMCS_PROC_CONTROLS, PROC_MSR_BITMAPS);
    e = vmx_run(g_rdmsr);
    expect("rdmsr-no-bitmaps", "SDM 3C 25.1.3: without MSR bitmaps every RDMSR exits", &e, EXIT_REASON_RDMSR,
           0);
    e = vmx_run(g_wrmsr);
    expect("wrmsr-no-bitmaps", "SDM 3C 25.1.3: without MSR bitmaps every WRMSR exits", &e, EXIT_REASON_WRMSR,
           0);
    vmx_guest_reset();
    e = vmx_run(g_rdmsr);
    report("rdmsr-bitmap-clear", "SDM 3C 24.6.9", ran(&e), "reason %u", e.reason);

    vmx_guest_reset();
    vmcs_set(VMCS_CR0_MASK, CR0_TS);
    vmcs_set(VMCS_CR0_SHADOW, 0);
    e = vmx_run(g_cr0_ts);
    expect("cr0-mask-mov", "SDM 3C 25.1.3 MOV to CR0: a masked bit differs from its shadow", &e,
           EXIT_REASON_CR_ACCESS, 0);
    vmcs_set(VMCS_CR0_SHADOW, CR0_TS);
    e = vmx_run(g_cr0_ts);
    report("cr0-mask-same", "SDM 3C 25.1.3 MOV to CR0: equal to the shadow does not exit", ran(&e),
           "reason %u", e.reason);
    e = vmx_run(g_clts);
    expect("clts", "SDM 3C 25.1.3 CLTS: mask and shadow of TS are 1; Table 27-3", &e, EXIT_REASON_CR_ACCESS,
           2 << 4);
    vmcs_set(VMCS_CR0_SHADOW, 0);
    vmcs_set(VMCS_GUEST_CR0, read_cr0() | CR0_TS);
    e = vmx_run(g_clts);
    report("clts-shadow-0", "SDM 3C 25.3 CLTS: mask 1 and shadow 0: no exit, TS unchanged",
           ran(&e) && (vmcs(VMCS_GUEST_CR0) & CR0_TS), "reason %u CR0 %lx", e.reason, vmcs(VMCS_GUEST_CR0));
    vmcs_set(VMCS_GUEST_CR0, read_cr0());
    e = vmx_run(g_lmsw);
    expect("lmsw-register", "SDM 3C Table 27-3 LMSW source data", &e, EXIT_REASON_CR_ACCESS,
           3 << 4 | 9 << 16);
    e = vmx_run(g_lmsw_mem);
    expect("lmsw-memory", "SDM 3C Table 27-3 LMSW memory operand", &e, EXIT_REASON_CR_ACCESS,
           3 << 4 | 1 << 6 | 9 << 16);
    check_equal("lmsw-linear", "SDM 3C 27.2.1 guest-linear address of LMSW", e.linear,
                (uint64_t)vmx_guest_stack + sizeof vmx_guest_stack - 64 - 16);
    vmcs_set(VMCS_CR0_SHADOW, CR0_TS);
    vmx_run(g_read_cr0);
    check_equal("cr0-read-shadow", "SDM 3C 25.3 MOV from CR0: masked bits from the shadow", vmx_guest.rax,
                read_cr0() | CR0_TS);
    vmx_run(g_smsw);
    check_equal("smsw-read-shadow", "SDM 3C 25.3 SMSW", vmx_guest.rax & 0xffff,
                (read_cr0() | CR0_TS) & 0xffff);
    vmcs_set(VMCS_CR4_MASK, CR4_VMXE | CR4_TSD);
    vmcs_set(VMCS_CR4_SHADOW, CR4_TSD);
    vmx_run(g_read_cr4);
    check_equal("cr4-read-shadow", "SDM 3C 25.3 MOV from CR4", vmx_guest.rax,
                (read_cr4() & ~CR4_VMXE) | CR4_TSD);
    e = vmx_run(g_cr4_tsd);
    expect("cr4-mask", "SDM 3C 25.1.3 MOV to CR4", &e, EXIT_REASON_CR_ACCESS, 4);
    vmcs_set(VMCS_CR4_MASK, 0);
    e = vmx_run(g_cr4_tsd);
    report("cr4-no-mask", "SDM 3C 25.1.3 MOV to CR4", ran(&e) && (vmcs(VMCS_GUEST_CR4) & CR4_TSD),
           "reason %u", e.reason);
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1 << EXC_GP);
    vmcs_set(VMCS_CR0_MASK, 0);
    e = vmx_run(g_cr0_ne);
    report("cr0-fixed-in-guest", "SDM 3C 25.3 MOV to CR0: fixed bits raise #GP(0)",
           e.reason == EXIT_REASON_EXCEPTION && (e.interruption & 0xff) == EXC_GP, "reason %u", e.reason);

    unsigned targets = rdmsr(IA32_VMX_MISC) >> 16 & 0x1ff;
    if (targets && vmx_can(IA32_VMX_PROCBASED_CTLS, PROC_CR3_LOAD_EXITING)) {
        vmx_guest_reset();
        vmx_control_set(VMCS_PROC_CONTROLS, PROC_CR3_LOAD_EXITING);
        vmcs_set(VMCS_CR3_TARGET_COUNT, 1);
        vmcs_set(VMCS_CR3_TARGET0, read_cr3());
        e = vmx_run(g_mov_to_cr3);
        report("cr3-target", "SDM 3C 24.6.7 CR3-Target Controls", ran(&e), "reason %u", e.reason);
    } else {
        report_skip("cr3-target", "SDM 3C 24.6.7", "no CR3-target values");
    }
}

/* -- Exceptions, triple fault, TSC offset -------------------------------------------------------------- */
CODE(g_ud2, "ud2");
CODE(g_int3, "int3");
CODE(g_divide, "xor %ecx, %ecx\n div %ecx");
CODE(g_gp, "mov $1, %eax\n shl $63, %rax\n mov (%rax), %eax");
CODE(g_pf, "mov $1, %eax\n shl $44, %rax\n movb $1, (%rax)");
CODE(g_int1, ".byte 0xf1");
CODE(g_triple, "push $0\n push $0\n lidt (%rsp)\n ud2");
CODE(g_step, "pushfq\n orl $0x100, (%rsp)\n popfq\n nop\n nop");

static void exceptions(void)
{
    COVERS(EXIT_EXCEPTION_NMI);
    COVERS(EXIT_TRIPLE_FAULT);
    COVERS(PROC_USE_TSC_OFFSETTING);
    static const struct {
        const char *name, *code;
        unsigned vector, type;
        bool has_error;
        unsigned error, at;
    } list[] = {{"exception-ud", g_ud2, EXC_UD, 3, false, 0, 0},
                {"exception-bp", g_int3, EXC_BP, 6, false, 0, 0},
                {"exception-de", g_divide, EXC_DE, 3, false, 0, 2},
                {"exception-gp", g_gp, EXC_GP, 3, true, 0, 9}};
    for (unsigned i = 0; i < sizeof list / sizeof list[0]; i++) {
        vmx_guest_reset();
        vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << list[i].vector);
        struct vmx_exit e = vmx_run(list[i].code);
        uint32_t want = 1u << 31 | list[i].vector | list[i].type << 8 | (list[i].has_error ? 1u << 11 : 0);
        report(list[i].name, "SDM 3C Table 24-16 VM-Exit Interruption-Information",
               e.result == VMX_OK && e.reason == 0 && e.interruption == want &&
                   e.rip == (uint64_t)list[i].code + list[i].at &&
                   (!list[i].has_error || e.interruption_error == list[i].error) &&
                   (list[i].vector != EXC_BP || e.length == 1),
               "reason %u interruption %x (want %x) error %x RIP +%lu length %u", e.reason, e.interruption,
               want, e.interruption_error, e.rip - (uint64_t)list[i].code, e.length);
    }
    /* Page faults: PFEC mask and match; the qualification is the address, and CR2 is not written. */
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 1u << EXC_PF);
    asm volatile("mov %0, %%cr2" ::"r"(0x1234ul));
    struct vmx_exit e = vmx_run(g_pf);
    report("exception-pf", "SDM 3C 27.2.1 #PF: qualification is the linear address; 27.1: CR2 unchanged",
           e.reason == 0 && e.interruption == (1u << 31 | 1u << 11 | 3 << 8 | 14) &&
               e.interruption_error == PF_W && e.qualification == 1ul << 44 && read_cr2() == 0x1234,
           "reason %u interruption %x error %x qualification %lx CR2 %lx", e.reason, e.interruption,
           e.interruption_error, e.qualification, read_cr2());
    trap_handlers[EXC_PF] = NULL;
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 0);
    vmcs_set(VMCS_PF_ERROR_MASK, PF_W);
    vmcs_set(VMCS_PF_ERROR_MATCH, 0); /* error & mask != match, bit 14 is 0: exits */
    e = vmx_run(g_pf);
    report("exception-pf-mismatch-inverts",
           "SDM 3C 25.2 #PF: bit 14 is inverted if the error code does not match",
           e.reason == 0 && (e.interruption & 0xff) == 14, "reason %u", e.reason);
    vmx_guest_reset();
    vmcs_set(VMCS_EXCEPTION_BITMAP, 0xffffffff);
    e = vmx_run(g_int1);
    report("exception-int1", "SDM 3C Table 24-16: INT1 is type 5",
           e.reason == 0 && e.interruption == (1u << 31 | 5 << 8 | 1) && e.length == 1,
           "reason %u interruption %x length %u", e.reason, e.interruption, e.length);
    e = vmx_run(g_step);
    report("exception-db-step",
           "SDM 3C Table 27-1: #DB qualification BS; pending in the qualification, DR6 unchanged",
           e.reason == 0 && (e.interruption & 0xff) == 1 && e.qualification == 1 << 14,
           "reason %u interruption %x qualification %lx", e.reason, e.interruption, e.qualification);
    vmx_guest_reset();
    e = vmx_run(g_triple);
    report("triple-fault", "SDM 3C 25.2 Triple fault",
           e.result == VMX_OK && e.reason == EXIT_REASON_TRIPLE_FAULT && e.qualification == 0, "reason %u",
           e.reason);

    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TSC_OFFSETTING);
    vmcs_set(VMCS_TSC_OFFSET, 1ul << 50);
    uint64_t before = rdtsc();
    e = vmx_run(g_rdtsc);
    uint64_t after = rdtsc(), seen = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report("tsc-offset", "SDM 3C 24.6.5 TSC offset",
           ran(&e) && seen - (1ul << 50) >= before && seen - (1ul << 50) <= after, "%lx, between %lx and %lx",
           seen, before, after);
    vmx_guest_reset();
    vmx_control_set(VMCS_PROC_CONTROLS, PROC_TSC_OFFSETTING);
    vmcs_set(VMCS_TSC_OFFSET, 1ul << 50);
    e = vmx_run(g_rdmsr);
    seen = vmx_guest.rdx << 32 | (uint32_t)vmx_guest.rax;
    report("tsc-offset-rdmsr", "SDM 3C 25.3 RDMSR of IA32_TIME_STAMP_COUNTER", ran(&e) && seen >= 1ul << 50,
           "%lx", seen);
}

/* -- What an exit saves and loads ---------------------------------------------------------------------- */
CODE(g_state, "mov $0x174, %ecx\n mov $0x33, %eax\n xor %edx, %edx\n wrmsr\n mov $0x10, %eax\n mov %eax, "
              "%fs\n mov $0x555, %eax\n mov %rax, %db7\n"
              "mov $0xc0000101, %ecx\n mov $0x1000, %eax\n mov $0x7, %edx\n wrmsr");

static void state(void)
{
    COVERS(EXIT_ENTRY_MSR_LOADING);
    vmx_guest_reset();
    vmx_control_set(VMCS_EXIT_CONTROLS, EXIT_SAVE_DEBUG);
    wrmsr(IA32_SYSENTER_CS, 0x77);
    vmcs_set(VMCS_HOST_SYSENTER_CS, 0x99);
    vmcs_set(VMCS_HOST_GS_BASE, 0x123000);
    struct vmx_exit e = vmx_run(g_state);
    report("exit-saves-msrs", "SDM 3C 27.3.1", ran(&e) && vmcs(VMCS_GUEST_SYSENTER_CS) == 0x33, "%lx",
           vmcs(VMCS_GUEST_SYSENTER_CS));
    check_equal("exit-loads-sysenter", "SDM 3C 27.5.1", rdmsr(IA32_SYSENTER_CS), 0x99);
    report("exit-saves-segments", "SDM 3C 27.3.2",
           vmcs(VMCS_GUEST_FS_SELECTOR) == 0x10 && (vmcs(VMCS_GUEST_FS_ACCESS) & 0x1f0ff) == 0xc093 &&
               vmcs(VMCS_GUEST_GS_BASE) == 0x700001000,
           "%lx %lx %lx", vmcs(VMCS_GUEST_FS_SELECTOR), vmcs(VMCS_GUEST_FS_ACCESS), vmcs(VMCS_GUEST_GS_BASE));
    check_equal("exit-loads-gs-base", "SDM 3C 27.5.2", rdmsr(IA32_GS_BASE), 0x123000);
    report("exit-dr7", "SDM 3C 27.3.1, 27.5.1: DR7 saved, then 400H",
           vmcs(VMCS_GUEST_DR7) == 0x555 && read_dr7() == 0x400, "%lx %lx", vmcs(VMCS_GUEST_DR7), read_dr7());
    wrmsr(IA32_GS_BASE, 0);
    /* MSR lists. */
    struct entry {
        uint32_t index, reserved;
        uint64_t value;
    } *load = page_alloc(), *store = page_alloc(), *host = page_alloc();
    load[0] = (struct entry){IA32_KERNEL_GS_BASE, 0, 0x1111};
    store[0] = (struct entry){IA32_KERNEL_GS_BASE, 0, 0};
    host[0] = (struct entry){IA32_KERNEL_GS_BASE, 0, 0x2222};
    vmx_guest_reset();
    vmcs_set(VMCS_ENTRY_MSR_LOAD, (uint64_t)load);
    vmcs_set(VMCS_EXIT_MSR_STORE, (uint64_t)store);
    vmcs_set(VMCS_EXIT_MSR_LOAD, (uint64_t)host);
    vmcs_set(VMCS_ENTRY_MSR_LOAD_COUNT, 1);
    vmcs_set(VMCS_EXIT_MSR_STORE_COUNT, 1);
    vmcs_set(VMCS_EXIT_MSR_LOAD_COUNT, 1);
    e = vmx_run(g_nop);
    report("msr-lists", "SDM 3C 26.4 Loading MSRs, 27.4 Saving MSRs, 27.6 Loading MSRs",
           ran(&e) && store[0].value == 0x1111 && rdmsr(IA32_KERNEL_GS_BASE) == 0x2222,
           "stored %lx, host %lx", store[0].value, rdmsr(IA32_KERNEL_GS_BASE));
    wrmsr(IA32_KERNEL_GS_BASE, 0);
    load[0].index = IA32_FS_BASE;
    e = vmx_run(g_nop);
    report("msr-list-refused",
           "SDM 3C 26.4: IA32_FS_BASE in the entry list: exit 34, qualification is the entry's number",
           e.reason == (EXIT_REASON_ENTRY_FAILURE | 34) && e.qualification == 1,
           "reason %x qualification %lx", e.reason, e.qualification);
}

void guest_main(void)
{
    if (!vmx_start()) {
        check_trap("vmx-absent", "SDM 3C 30.3 VMCALL #UD without VMX", TRY_ASM("vmcall"), EXC_UD, 0);
        return;
    }
    instructions();
    not_exiting();
    bitmaps_and_masks();
    exceptions();
    state();
    asm volatile("vmxoff");
}
