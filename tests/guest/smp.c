/*
 * smp.c -- several processors: INIT and SIPI, IPIs, destinations, locked instructions. SDM 3A chapters 8
 * and 10.
 */
#include "guest.h"

static volatile uint32_t ap_id, ap_go, ap_taken[256], ap_bsp, ap_nmi, ap_mode_ok, ap_counts, ap_init_seen;
static volatile uint64_t counter;
enum { VECTOR_IPI = 0x50, VECTOR_LOW = 0x60, ADDS = 20000 };

static bool ipi_handler(struct trap_frame *f)
{
    unsigned id = lapic_read(LAPIC_ID) >> 24;
    __atomic_fetch_add(&ap_taken[id], 1, __ATOMIC_SEQ_CST);
    (void)f;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

static bool nmi_handler(struct trap_frame *f)
{
    (void)f;
    ap_nmi++;
    return true;
}

static void add_many(void)
{
    for (int i = 0; i < ADDS; i++) {
        asm volatile("lock incq %0" : "+m"(counter)::"memory");
    }
}

static void ap_run(unsigned id)
{
    ap_id = id;
    ap_bsp = rdmsr(IA32_APIC_BASE) >> 8 & 1;
    ap_mode_ok = (read_cr0() & CR0_PG) && (rdmsr(IA32_EFER) & EFER_LMA);
    lapic_write(LAPIC_DFR, 0xffffffff);
    lapic_write(LAPIC_LDR, 2u << 24);
    ap_counts = 1;
    while (!ap_go) {
        cpu_relax();
    }
    add_many();
    ap_counts = 2;
    for (;;) {
        asm volatile("sti; hlt; cli" ::: "memory");
    }
}

static void ap_run_again(unsigned id)
{
    ap_init_seen = id + 1;
    for (;;) {
        asm volatile("cli; hlt");
    }
}

/* -- The page of the registers over RAM ---------------------------------------------------------------- */

static uint8_t base_page[4096] __attribute__((aligned(4096)));
static volatile uint32_t base_go, base_seen;

static void ap_base(unsigned id)
{
    (void)id;
    while (base_go != 1) {
        cpu_relax();
    }
    base_seen = *(volatile uint32_t *)(base_page + LAPIC_VERSION);
    *(volatile uint32_t *)(base_page + LAPIC_TPR) = 0x70;
    base_go = 2;
    for (;;) {
        asm volatile("cli; hlt");
    }
}

static void moved_base(unsigned ap)
{
    static const char rule[] = "SDM 3A 10.4.5 Relocating the Local APIC Registers";
    volatile uint32_t *page = (volatile uint32_t *)base_page;
    uint64_t base = rdmsr(IA32_APIC_BASE);
    uint32_t version = lapic_read(LAPIC_VERSION);
    page[LAPIC_VERSION / 4] = 0x12345678;
    page[LAPIC_TPR / 4] = 0;
    if (!enabled("base-over-ram", rule) || !cpu_start(ap, ap_base)) {
        return;
    }
    wrmsr(IA32_APIC_BASE, (base & 0xfff) | (uint64_t)base_page);
    uint32_t seen = page[LAPIC_VERSION / 4];
    page[LAPIC_TPR / 4] = 0x20;
    base_go = 1;
    wait_for(&base_go, 2);
    uint32_t tpr = page[LAPIC_TPR / 4];
    wrmsr(IA32_APIC_BASE, base);
    check_equal("base-over-ram", rule, seen, version);
    check_equal("base-over-ram-write", rule, tpr, 0x20);
    check_equal("base-over-ram-other", "SDM 3A 10.4.5: another processor finds RAM there", base_seen,
                0x12345678);
    check_equal("base-over-ram-back", rule, page[LAPIC_VERSION / 4], 0x12345678);
    check_equal("base-over-ram-back-write", rule, page[LAPIC_TPR / 4], 0x70);
    check_equal("base-back", rule, lapic_read(LAPIC_TPR), 0x20);
}

static bool taken(unsigned id, uint32_t want)
{
    return wait_for(&ap_taken[id], want);
}

void guest_main(void)
{
    const char *rule = "SDM 3A 8.4 Multiple-Processor Initialization";
    lapic_enable();
    unsigned bsp = lapic_read(LAPIC_ID) >> 24;
    report("bsp-flag", "SDM 3A 8.4.1 BSP flag in IA32_APIC_BASE", rdmsr(IA32_APIC_BASE) >> 8 & 1, "%lx",
           rdmsr(IA32_APIC_BASE));
    check_equal("cpuid-apic-id", "SDM 2 CPUID.1:EBX[31:24] initial APIC ID", cpuid(1, 0).ebx >> 24, bsp);
    trap_handlers[VECTOR_IPI] = ipi_handler;
    trap_handlers[VECTOR_LOW] = ipi_handler;
    trap_handlers[EXC_NMI] = nmi_handler;
    idt[EXC_NMI].ist = 0; /* the other processor has no TSS */
    /* Self IPI: shorthand, physical destination, all-including-self is below. */
    lapic_write(LAPIC_ICR, 0x40000 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("self-ipi", "SDM 3A 10.6.1 destination shorthand: self", taken(bsp, 1), "%u", ap_taken[bsp]);
    lapic_icr(bsp, VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("self-physical", "SDM 3A 10.6.2.1 Physical Destination Mode", taken(bsp, 2), "%u", ap_taken[bsp]);
    lapic_write(LAPIC_DFR, 0xffffffff);
    lapic_write(LAPIC_LDR, 1u << 24);
    lapic_icr(1, 0x800 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("self-logical-flat", "SDM 3A 10.6.2.2 Logical Destination Mode, flat", taken(bsp, 3), "%u",
           ap_taken[bsp]);
    lapic_icr(2, 0x800 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    check_equal("self-logical-other", "SDM 3A 10.6.2.2: no bit in common, no interrupt", ap_taken[bsp], 3);
    lapic_write(LAPIC_DFR, 0x0fffffff);
    lapic_write(LAPIC_LDR, 0x21u << 24); /* cluster 2, member 0 */
    lapic_icr(0x21, 0x800 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("self-logical-cluster", "SDM 3A 10.6.2.2 Logical Destination Mode, cluster", taken(bsp, 4), "%u",
           ap_taken[bsp]);
    lapic_icr(0x31, 0x800 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    check_equal("self-logical-other-cluster", "SDM 3A 10.6.2.2", ap_taken[bsp], 4);
    lapic_write(LAPIC_DFR, 0xffffffff);
    lapic_write(LAPIC_LDR, 1u << 24);
    /* Priorities: of two pending ones the higher vector comes first. */
    lapic_write(LAPIC_TPR, 0xf0);
    lapic_write(LAPIC_ICR, 0x40000 | VECTOR_IPI);
    lapic_write(LAPIC_ICR, 0x40000 | VECTOR_LOW);
    for (int i = 0; i < 1000; i++) {
        cpu_relax();
    }
    report("irr", "SDM 3A 10.8.4 IRR: pending vectors",
           (lapic_read(LAPIC_IRR + 0x20) & 1 << 16) && (lapic_read(LAPIC_IRR + 0x30) & 1), "%x %x",
           lapic_read(LAPIC_IRR + 0x20), lapic_read(LAPIC_IRR + 0x30));
    check_equal("ppr", "SDM 3A 10.8.3.1 PPR follows TPR", lapic_read(LAPIC_PPR), 0xf0);
    lapic_write(LAPIC_TPR, 0x50);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("tpr-class", "SDM 3A 10.8.3.1: only classes above TPR[7:4]",
           ap_taken[bsp] == 5 && (lapic_read(LAPIC_IRR + 0x20) & 1 << 16), "%u", ap_taken[bsp]);
    lapic_write(LAPIC_TPR, 0);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    check_equal("tpr-lowered", "SDM 3A 10.8.3.1", ap_taken[bsp], 6);
    if (enabled("illegal-vector", "SDM 3A 10.5.3")) {
        lapic_write(LAPIC_ESR, 0);
        lapic_write(LAPIC_ICR, 0x40000 | 5);
        lapic_write(LAPIC_ESR, 0);
        report("illegal-vector", "SDM 3A 10.5.3 ESR: send illegal vector", lapic_read(LAPIC_ESR) & 1 << 5,
               "%x", lapic_read(LAPIC_ESR));
        lapic_write(LAPIC_ESR, 0);
        lapic_write(LAPIC_ESR, 0);
    }

    if (!enabled("ap", rule)) {
        return;
    }
    unsigned ap = bsp + 1;
    if (!report("init-sipi", "SDM 3A 8.4.4.1 INIT-SIPI-SIPI", cpu_start(ap, ap_run),
                "processor %u did not start (is there a second one?)", ap)) {
        return;
    }
    wait_for(&ap_counts, 1);
    check_equal("ap-id", "SDM 3A 10.4.6 Local APIC ID", ap_id, ap);
    check_equal("ap-not-bsp", "SDM 3A 8.4.1", ap_bsp, 0);
    report("ap-long-mode", "SDM 3A 9.8.5", ap_mode_ok, "mode");
    ap_go = 1;
    add_many();
    wait_for(&ap_counts, 2);
    check_equal("lock", "SDM 3A 8.1.2.2 Software Controlled Bus Locking", counter, 2ul * ADDS);
    lapic_icr(ap, VECTOR_IPI);
    report("ipi-physical", "SDM 3A 10.6.2.1: wakes the other from HLT", taken(ap, 1), "%u", ap_taken[ap]);
    lapic_icr(2, 0x800 | VECTOR_IPI);
    report("ipi-logical", "SDM 3A 10.6.2.2", taken(ap, 2), "%u", ap_taken[ap]);
    uint32_t mine = ap_taken[bsp];
    lapic_write(LAPIC_ICR, 0xc0000 | VECTOR_IPI);
    report("ipi-all-but-self", "SDM 3A 10.6.1 destination shorthand: all excluding self", taken(ap, 3), "%u",
           ap_taken[ap]);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    check_equal("ipi-all-but-self-not-self", "SDM 3A 10.6.1", ap_taken[bsp], mine);
    lapic_write(LAPIC_ICR, 0x80000 | VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("ipi-all", "SDM 3A 10.6.1 destination shorthand: all including self",
           taken(ap, 4) && taken(bsp, mine + 1), "%u %u", ap_taken[ap], ap_taken[bsp]);
    lapic_icr(0xff, VECTOR_IPI);
    asm volatile("sti; nop; nop; cli" ::: "memory");
    report("ipi-broadcast", "SDM 3A 10.6.2.1 physical destination FFH", taken(ap, 5) && taken(bsp, mine + 2),
           "%u %u", ap_taken[ap], ap_taken[bsp]);
    lapic_icr(ap, 0x4400);
    report("ipi-nmi", "SDM 3A 10.6.1 delivery mode NMI", wait_for(&ap_nmi, 1), "none came");
    /* INIT stops it, wherever it is; a SIPI starts it from the beginning. */
    report("init-again", "SDM 3A 8.4.4.1: INIT, SIPI restart a running processor",
           cpu_start(ap, ap_run_again) && wait_for(&ap_init_seen, ap + 1), "did not restart");
    moved_base(ap);
}
