/*
 * lib/guest.h -- what a guest test image is made of.
 *
 * An image is one Multiboot program. lib/start.S brings it to 64-bit mode with the first 4 GB mapped
 * one to one, then calls guest_main(). Each check is one report() line that names the rule it proves.
 *
 * Serial port 3F8H carries the report; port F4H (isa-debug-exit) the exit status; port 8900H ends Bochs.
 */
#pragma once
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* -- Processor constants, in the SDM's spelling -------------------------------------------------------- */
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
    EXC_CP = 21,
    VECTOR_RETURN = 0x80, /* INT 80H ends an excursion (gate with DPL 3) */
    VECTOR_NONE = 0x1ff,  /* struct trap: nothing was raised */
};

#define CR0_PE (1ul << 0)
#define CR0_MP (1ul << 1)
#define CR0_EM (1ul << 2)
#define CR0_TS (1ul << 3)
#define CR0_ET (1ul << 4)
#define CR0_NE (1ul << 5)
#define CR0_WP (1ul << 16)
#define CR0_AM (1ul << 18)
#define CR0_NW (1ul << 29)
#define CR0_CD (1ul << 30)
#define CR0_PG (1ul << 31)

#define CR4_VME        (1ul << 0)
#define CR4_PVI        (1ul << 1)
#define CR4_TSD        (1ul << 2)
#define CR4_DE         (1ul << 3)
#define CR4_PSE        (1ul << 4)
#define CR4_PAE        (1ul << 5)
#define CR4_MCE        (1ul << 6)
#define CR4_PGE        (1ul << 7)
#define CR4_PCE        (1ul << 8)
#define CR4_OSFXSR     (1ul << 9)
#define CR4_OSXMMEXCPT (1ul << 10)
#define CR4_UMIP       (1ul << 11)
#define CR4_VMXE       (1ul << 13)
#define CR4_FSGSBASE   (1ul << 16)
#define CR4_PCIDE      (1ul << 17)
#define CR4_OSXSAVE    (1ul << 18)
#define CR4_SMEP       (1ul << 20)
#define CR4_SMAP       (1ul << 21)

#define RFLAGS_CF    (1ul << 0)
#define RFLAGS_FIXED (1ul << 1)
#define RFLAGS_ZF    (1ul << 6)
#define RFLAGS_TF    (1ul << 8)
#define RFLAGS_IF    (1ul << 9)
#define RFLAGS_DF    (1ul << 10)
#define RFLAGS_OF    (1ul << 11)
#define RFLAGS_IOPL3 (3ul << 12)
#define RFLAGS_NT    (1ul << 14)
#define RFLAGS_RF    (1ul << 16)
#define RFLAGS_AC    (1ul << 18)

#define EFER_SCE (1ul << 0)
#define EFER_LME (1ul << 8)
#define EFER_LMA (1ul << 10)
#define EFER_NXE (1ul << 11)

#define IA32_TSC             0x10
#define IA32_APIC_BASE       0x1b
#define IA32_FEATURE_CONTROL 0x3a
#define IA32_TSC_ADJUST      0x3b
#define IA32_MTRRCAP         0xfe
#define IA32_SYSENTER_CS     0x174
#define IA32_SYSENTER_ESP    0x175
#define IA32_SYSENTER_EIP    0x176
#define IA32_MISC_ENABLE     0x1a0
#define IA32_DEBUGCTL        0x1d9
#define IA32_PAT             0x277
#define IA32_MTRR_DEF_TYPE   0x2ff
#define IA32_TSC_DEADLINE    0x6e0
#define IA32_XSS             0xda0
#define IA32_EFER            0xc0000080
#define IA32_STAR            0xc0000081
#define IA32_LSTAR           0xc0000082
#define IA32_CSTAR           0xc0000083
#define IA32_FMASK           0xc0000084
#define IA32_FS_BASE         0xc0000100
#define IA32_GS_BASE         0xc0000101
#define IA32_KERNEL_GS_BASE  0xc0000102
#define IA32_TSC_AUX         0xc0000103

/* -- The GDT that start.S builds ----------------------------------------------------------------------- */
enum {
    SEL_CODE64 = 0x08,
    SEL_DATA = 0x10,
    SEL_USER_CODE32 = 0x1b,
    SEL_USER_DATA = 0x23,
    SEL_USER_CODE64 = 0x2b,
    SEL_CODE32 = 0x30,
    SEL_CODE16 = 0x38,
    SEL_DATA16 = 0x40,
    SEL_TSS = 0x48,
    SEL_TEST = 0x60, /* from here on the GDT is free for tests, to SEL_LIMIT */
    SEL_LIMIT = 0x200,
};
extern uint64_t gdt[SEL_LIMIT / 8];
struct tss64 {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7]; /* [0] exceptions, [1] #DF, [2] INT 80H, [3] NMI */
    uint64_t reserved2;
    uint16_t reserved3;
    uint16_t iomap;
    uint8_t bitmap[32]; /* ports 0..FFH when iomap points here */
    uint8_t end;
} __attribute__((packed));
extern struct tss64 tss;
struct gate {
    uint16_t offset0;
    uint16_t selector;
    uint8_t ist;
    uint8_t type; /* P, DPL, type */
    uint16_t offset1;
    uint32_t offset2;
    uint32_t reserved;
};
extern struct gate idt[256];
struct table_register {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

/* Access byte (P, DPL, S, type) in bits 7:0 and flags (G, D/B, L, AVL) in bits 15:12, as in a descriptor. */
uint64_t descriptor(uint32_t base, uint32_t limit, unsigned access_flags);
#define DESC_G  0x8000
#define DESC_DB 0x4000
#define DESC_L  0x2000
void gdt_set(unsigned selector, uint64_t value);
void idt_set(unsigned vector, uint64_t offset, unsigned selector, unsigned type, unsigned ist);
void idt_reset(unsigned vector); /* the library's own gate back */

/* -- Report -------------------------------------------------------------------------------------------- */
void print_char(char c);
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_list(const char *format, va_list list);
int format_text(char *buffer, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* One line: `PASS name -- rule`, or `FAIL name -- rule: details`. Returns ok. */
bool report(const char *name, const char *rule, bool ok, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void report_skip(const char *name, const char *rule, const char *why);
/* False when the command line has `skip=...,name,...`: the system under test cannot survive this check. */
bool enabled(const char *name, const char *rule);
void guest_exit(unsigned value) __attribute__((noreturn)); /* isa-debug-exit: status (value << 1) | 1 */
void guest_finish(void) __attribute__((noreturn));         /* totals, then exit with 0 when nothing failed */
extern const char *command_line;
extern unsigned report_failed, report_passed;
void guest_main(void);

/* -- Exceptions ---------------------------------------------------------------------------------------- */
struct trap_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error, rip, cs, rflags, rsp, ss;
};
struct trap {
    unsigned vector; /* VECTOR_NONE when nothing was raised */
    uint64_t error, rip, cs, rflags, rsp, ss, cr2, dr6;
};
/* A handler returns true to go on after IRETQ (it may have changed the frame). */
typedef bool (*trap_handler_t)(struct trap_frame *frame);
extern trap_handler_t trap_handlers[256];

struct mark {
    uint64_t rbx, rbp, r12, r13, r14, r15, rsp, rip;
};
int mark_set(struct mark *mark) __attribute__((returns_twice));
void mark_jump(struct mark *mark) __attribute__((noreturn));
extern struct mark trap_mark;
extern volatile bool trap_armed;
extern volatile struct trap trap_last;
void trap_begin(void);
struct trap trap_end(void);
/* Run statements; what they raise first ends them and is the value. */
#define TRY(...)                                                                                             \
    ({                                                                                                       \
        trap_begin();                                                                                        \
        if (!mark_set(&trap_mark)) {                                                                         \
            __VA_ARGS__;                                                                                     \
        }                                                                                                    \
        trap_end();                                                                                          \
    })
/* As TRY, for one piece of assembly without operands. */
#define TRY_ASM(text)                                                                                        \
    TRY(asm volatile(text ::: "memory", "rax", "rcx", "rdx", "rbx", "rsi", "rdi", "r8", "r9", "cc"))

bool check_trap(const char *name, const char *rule, struct trap got, unsigned vector, uint64_t error);
bool check_fault(const char *name, const char *rule, struct trap got, uint64_t error,
                 uint64_t address); /* #PF */
bool check_none(const char *name, const char *rule, struct trap got);
bool check_equal(const char *name, const char *rule, uint64_t got, uint64_t want);
const char *trap_name(unsigned vector);

/* -- Excursions: run code at any CS:RIP, SS:RSP, RFLAGS until INT 80H ---------------------------------- */
struct excursion {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp, r8;
    uint64_t rip, cs, rflags, rsp, ss; /* order of IRETQ's frame */
    uint64_t ds;                       /* also loaded into ES */
};
void excursion_run(struct excursion *e);           /* registers come back in *e */
uint64_t user_run(const void *code, uint64_t rdi); /* ring 3, 64-bit; returns RAX */
uint64_t compat_run(const void *code, uint64_t rdi, unsigned cpl);
extern uint8_t user_stack[8192]; /* in .user */
/* Assembly for an excursion, on pages that ring 3 may use. It ends with INT 80H. */
#define USER_CODE(name, bits, text)                                                                          \
    extern char name[], name##_end[];                                                                        \
    asm(".pushsection .user,\"awx\",@progbits\n.balign 16\n.code" #bits "\n" #name ":\n" text                \
        "\nint $0x80\n" #name "_end:\n.code64\n.popsection")
#define USER_DATA __attribute__((section(".user_data")))

/* Protected mode without IA-32e: 32-bit code, with or without paging, at CPL 0 or 3. */
struct legacy {
    uint32_t cr0, cr3, cr4, efer; /* control registers to run with (PE is set for you) */
    uint32_t eip, cs, eflags, esp, ss, ds;
    uint32_t eax, ebx, ecx, edx, esi, edi, ebp; /* in and out */
    uint32_t vector, error, cr2;                /* how it ended: VECTOR_RETURN for INT 80H */
    uint32_t out_eip, out_cs, out_eflags, out_esp;
};
void legacy_run(struct legacy *l);
extern uint64_t legacy_gates[129]; /* gates that take the place of legacy_run()'s own; 0: none */
#define SEL_TSS32 0x58             /* the task that legacy_run() runs */
/* Real mode: 16-bit code at `code`, copied to linear 9000H, entered at 0900:0000 and ended by RETF. */
struct real {
    uint32_t eax, ebx, ecx, edx, esi, edi;
    uint32_t vector; /* FFFFH: RETF; else the interrupt or exception that ended it */
    uint32_t ip;
};
void real_run(const void *code, size_t size, struct real *r);
#define REAL_CODE(name, text)                                                                                \
    extern char name[], name##_end[];                                                                        \
    asm(".pushsection .data\n.balign 16\n.code16\n" #name ":\n" text "\nlret\n" #name                        \
        "_end:\n.code64\n.popsection")

/* -- Paging -------------------------------------------------------------------------------------------- */
#define PTE_P       (1ul << 0)
#define PTE_W       (1ul << 1)
#define PTE_U       (1ul << 2)
#define PTE_PWT     (1ul << 3)
#define PTE_PCD     (1ul << 4)
#define PTE_A       (1ul << 5)
#define PTE_D       (1ul << 6)
#define PTE_PS      (1ul << 7)
#define PTE_G       (1ul << 8)
#define PTE_NX      (1ul << 63)
#define PTE_ADDRESS 0x000ffffffffff000ul
#define PAGE_SIZE   4096ul

#define PF_P    1
#define PF_W    2
#define PF_U    4
#define PF_RSVD 8
#define PF_I    16

extern uint64_t boot_pml4[512], boot_pdpt[512];
void *page_alloc(void);                /* a zeroed 4 KB page, supervisor, identity mapped */
void *page_alloc_aligned(size_t size); /* size is a power of two */
/* The entry that maps `address` at `level` (1 = PTE .. 4 = PML4E); tables are made on the way. */
uint64_t *page_entry(uint64_t *pml4, uint64_t address, int level);
void page_map(uint64_t *pml4, uint64_t address, uint64_t entry, int level);
unsigned physical_bits(void);

/* -- Processors ---------------------------------------------------------------------------------------- */
#define LAPIC_BASE 0xfee00000ul
static inline uint32_t lapic_read(unsigned offset)
{
    return *(volatile uint32_t *)(LAPIC_BASE + offset);
}
static inline void lapic_write(unsigned offset, uint32_t value)
{
    *(volatile uint32_t *)(LAPIC_BASE + offset) = value;
}
enum {
    LAPIC_ID = 0x20,
    LAPIC_VERSION = 0x30,
    LAPIC_TPR = 0x80,
    LAPIC_PPR = 0xa0,
    LAPIC_EOI = 0xb0,
    LAPIC_LDR = 0xd0,
    LAPIC_DFR = 0xe0,
    LAPIC_SVR = 0xf0,
    LAPIC_ISR = 0x100,
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_ICR = 0x300,
    LAPIC_ICR2 = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_INITIAL = 0x380,
    LAPIC_CURRENT = 0x390,
    LAPIC_DIVIDE = 0x3e0,
};
void lapic_enable(void); /* software enable, spurious vector FFH; 8259s masked */
void lapic_icr(unsigned destination, uint32_t low);
/* INIT, SIPI, SIPI to processor `id`; it runs function(id) in 64-bit mode and then halts. */
bool cpu_start(unsigned id, void (*function)(unsigned id));
bool wait_for(volatile uint32_t *value, uint32_t want); /* bounded by time stamps */

/* -- Instructions -------------------------------------------------------------------------------------- */
static inline void outb(uint16_t port, uint8_t v)
{
    asm volatile("outb %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outw(uint16_t port, uint16_t v)
{
    asm volatile("outw %0, %1" ::"a"(v), "Nd"(port));
}
static inline void outl(uint16_t port, uint32_t v)
{
    asm volatile("outl %0, %1" ::"a"(v), "Nd"(port));
}
static inline uint8_t inb(uint16_t port)
{
    uint8_t v;
    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint32_t inl(uint16_t port)
{
    uint32_t v;
    asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}
static inline uint64_t rdmsr(uint32_t index)
{
    uint32_t lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(index) : "memory");
    return (uint64_t)hi << 32 | lo;
}
static inline void wrmsr(uint32_t index, uint64_t v)
{
    asm volatile("wrmsr" ::"c"(index), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;
    asm volatile("rdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}
#define CONTROL_REGISTER(n)                                                                                  \
    static inline uint64_t read_cr##n(void)                                                                  \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        asm volatile("mov %%cr" #n ", %0" : "=r"(v)::"memory");                                              \
        return v;                                                                                            \
    }                                                                                                        \
    static inline void write_cr##n(uint64_t v)                                                               \
    {                                                                                                        \
        asm volatile("mov %0, %%cr" #n ::"r"(v) : "memory");                                                 \
    }
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)
CONTROL_REGISTER(8)
#define DEBUG_REGISTER(n)                                                                                    \
    static inline uint64_t read_dr##n(void)                                                                  \
    {                                                                                                        \
        uint64_t v;                                                                                          \
        asm volatile("mov %%db" #n ", %0" : "=r"(v)::"memory");                                              \
        return v;                                                                                            \
    }                                                                                                        \
    static inline void write_dr##n(uint64_t v)                                                               \
    {                                                                                                        \
        asm volatile("mov %0, %%db" #n ::"r"(v) : "memory");                                                 \
    }
DEBUG_REGISTER(0)
DEBUG_REGISTER(1)
DEBUG_REGISTER(2)
DEBUG_REGISTER(3)
DEBUG_REGISTER(6)
DEBUG_REGISTER(7)
static inline void invlpg(uint64_t a)
{
    asm volatile("invlpg (%0)" ::"r"(a) : "memory");
}
struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf, uint32_t subleaf)
{
    struct cpuid r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "0"(leaf), "2"(subleaf));
    return r;
}
static inline uint64_t read_rflags(void)
{
    uint64_t v;
    asm volatile("pushfq; pop %0" : "=r"(v)::"memory");
    return v;
}
static inline uint8_t load8(uint64_t a)
{
    uint8_t v;
    asm volatile("movb (%1), %0" : "=q"(v) : "r"(a) : "memory");
    return v;
}
static inline uint64_t load64(uint64_t a)
{
    uint64_t v;
    asm volatile("movq (%1), %0" : "=r"(v) : "r"(a) : "memory");
    return v;
}
static inline void store8(uint64_t a, uint8_t v)
{
    asm volatile("movb %1, (%0)" ::"r"(a), "q"(v) : "memory");
}
static inline void store64(uint64_t a, uint64_t v)
{
    asm volatile("movq %1, (%0)" ::"r"(a), "r"(v) : "memory");
}
static inline void call_at(uint64_t a)
{
    asm volatile("call *%0" ::"r"(a) : "memory", "rax", "rcx", "rdx");
}
static inline void cpu_relax(void)
{
    asm volatile("pause" ::: "memory");
}

void *memset(void *to, int value, size_t size);
void *memcpy(void *to, const void *from, size_t size);
int memcmp(const void *a, const void *b, size_t size);
size_t strlen(const char *s);
