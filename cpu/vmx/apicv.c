/*
 * vmx/apicv.c -- APIC virtualization and virtual interrupts.
 *
 * SDM 3C, "APIC Virtualization and Virtual Interrupts". The virtual-APIC page holds the virtual registers
 * (VTPR at 080H, VEOI 0B0H, VISR 100H, VIRR 200H, VICR_LO 300H, VICR_HI 310H, VPPR 0A0H); guest interrupt
 * status holds RVI (7:0) and SVI (15:8). Reads:  current VMCS, virtual-APIC page, posted-interrupt
 * descriptor.   Writes: the same. Order:  TPR virtualization -> PPR virtualization -> evaluation of pending
 * virtual interrupts -> delivery. Watch:  --                                         Tests:
 * tests/unit/test_vmx_apicv.c
 */
#include "cpu/lapic.h"
#include "cpu/vmx/internal.h"

enum {
    VAPIC_ID = 0x20,
    VAPIC_VERSION = 0x30,
    VAPIC_TPR = 0x80,
    VAPIC_PPR = 0xa0,
    VAPIC_EOI = 0xb0,
    VAPIC_LDR = 0xd0,
    VAPIC_DFR = 0xe0,
    VAPIC_SVR = 0xf0,
    VAPIC_ISR = 0x100,
    VAPIC_TMR = 0x180,
    VAPIC_IRR = 0x200,
    VAPIC_ESR = 0x280,
    VAPIC_ICR_LO = 0x300,
    VAPIC_ICR_HI = 0x310,
    VAPIC_LVT = 0x320,
    VAPIC_LVT_LAST = 0x370,
    VAPIC_TIMER_ICR = 0x380,
    VAPIC_TIMER_DCR = 0x3e0,
    VAPIC_SELF_IPI = 0x3f0,
};

/* Types of an APIC access in the exit qualification. Write or read is what W/R of a page fault's error code
 * would be (SDM 3C, "Basic VM-Exit Information"), so a read-modify-write is a write. */
enum { ACCESS_READ = 0, ACCESS_WRITE = 1, ACCESS_FETCH = 2, ACCESS_DELIVERY = 3 };

static uint32_t page_read(struct cpu *cpu, uint32_t offset)
{
    return (uint32_t)phys_load(cpu->phys, vmx_current(cpu)->virtual_apic_address + offset, 4);
}

static void page_write(struct cpu *cpu, uint32_t offset, uint32_t value)
{
    phys_store(cpu->phys, vmx_current(cpu)->virtual_apic_address + offset, 4, value);
}

/* -- Vectors in VISR and VIRR -------------------------------------------------------------------------- */

static uint32_t vector_offset(uint32_t base, unsigned vector)
{
    return base + (vector >> 5 << 4);
}

static void vector_set(struct cpu *cpu, uint32_t base, unsigned vector)
{
    uint32_t at = vector_offset(base, vector);
    page_write(cpu, at, page_read(cpu, at) | 1u << (vector & 31));
}

static void vector_clear(struct cpu *cpu, uint32_t base, unsigned vector)
{
    uint32_t at = vector_offset(base, vector);
    page_write(cpu, at, page_read(cpu, at) & ~(1u << (vector & 31)));
}

static unsigned vector_highest(struct cpu *cpu, uint32_t base)
{
    for (unsigned i = 8; i-- > 0;) {
        uint32_t bits = page_read(cpu, base + 16 * i);
        if (bits)
            return 32 * i + 31 - (unsigned)__builtin_clz(bits);
    }
    return 0;
}

static unsigned rvi(const struct vmcs *v)
{
    return v->guest_interrupt_status & 0xff;
}
static unsigned svi(const struct vmcs *v)
{
    return v->guest_interrupt_status >> 8;
}
static void set_rvi(struct vmcs *v, unsigned vector)
{
    v->guest_interrupt_status = (uint16_t)((v->guest_interrupt_status & 0xff00) | vector);
}
static void set_svi(struct vmcs *v, unsigned vector)
{
    v->guest_interrupt_status = (uint16_t)((v->guest_interrupt_status & 0xff) | vector << 8);
}

static bool delivery(const struct vmcs *v)
{
    return vmx_proc2(v) & PROC2_VIRTUAL_INTERRUPT_DELIVERY;
}

/* -- Priorities ---------------------------------------------------------------------------------------- */

/* SDM 3C, "PPR Virtualization" */
static void virtualize_ppr(struct cpu *cpu)
{
    unsigned tpr = page_read(cpu, VAPIC_TPR) & 0xff, in_service = svi(vmx_current(cpu));
    page_write(cpu, VAPIC_PPR, tpr >> 4 >= in_service >> 4 ? tpr : in_service & 0xf0);
}

/* SDM 3C, "Evaluation of Pending Virtual Interrupts" */
static void evaluate(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    x->virtual_interrupt = rvi(x->vmcs) >> 4 > (page_read(cpu, VAPIC_PPR) >> 4 & 15);
    if (x->virtual_interrupt)
        cpu->attention |= ATTN_VMX | ATTN_LEAVE;
}

/* SDM 3C, "TPR Virtualization" */
static void virtualize_tpr(struct cpu *cpu)
{
    const struct vmcs *v = vmx_current(cpu);
    if (delivery(v)) {
        virtualize_ppr(cpu);
        evaluate(cpu);
    } else if ((page_read(cpu, VAPIC_TPR) >> 4 & 15) < (v->tpr_threshold & 15)) {
        vmx_exit_after_insn(cpu, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    }
}

/* SDM 3C, "EOI Virtualization" */
static void virtualize_eoi(struct cpu *cpu)
{
    struct vmcs *v = vmx_current(cpu);
    unsigned vector = svi(v);
    vector_clear(cpu, VAPIC_ISR, vector);
    set_svi(v, vector_highest(cpu, VAPIC_ISR));
    virtualize_ppr(cpu);
    const uint64_t bitmap[4] = {v->eoi_exit0, v->eoi_exit1, v->eoi_exit2, v->eoi_exit3};
    if (bitmap[vector >> 6] >> (vector & 63) & 1)
        vmx_exit_after_insn(cpu, EXIT_REASON_VIRTUALIZED_EOI, vector);
    else
        evaluate(cpu);
}

/* SDM 3C, "Self-IPI Virtualization" */
static void virtualize_self_ipi(struct cpu *cpu, unsigned vector)
{
    struct vmcs *v = vmx_current(cpu);
    vector_set(cpu, VAPIC_IRR, vector);
    if (vector > rvi(v))
        set_rvi(v, vector);
    evaluate(cpu);
}

/* SDM 3C, "VM Entries", "Other Features": PPR virtualization and evaluation; or TPR below threshold at once.
 */
void vmx_apicv_entered(struct cpu *cpu)
{
    const struct vmcs *v = vmx_current(cpu);
    if (!(v->proc & PROC_USE_TPR_SHADOW))
        return;
    if (delivery(v)) {
        virtualize_ppr(cpu);
        evaluate(cpu);
    } else if (vmx_proc2(v) & PROC2_VIRTUALIZE_APIC_ACCESSES &&
               (page_read(cpu, VAPIC_TPR) >> 4 & 15) < (v->tpr_threshold & 15)) {
        vmx_exit_after_insn(cpu, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    }
}

/* SDM 3C, "Virtual-Interrupt Delivery" */
bool vmx_poll_virtual_interrupt(struct cpu *cpu, uint8_t *vector)
{
    struct vmx *x = cpu->vmx;
    struct vmcs *v = x->vmcs;
    if (!x->virtual_interrupt || v->proc & PROC_INTERRUPT_WINDOW_EXITING || !(cpu->rflags & FLAG_IF) ||
        cpu->shadow_sti || cpu->shadow_mov_ss)
        return false;
    unsigned n = rvi(v);
    vector_set(cpu, VAPIC_ISR, n);
    set_svi(v, n);
    page_write(cpu, VAPIC_PPR, n & 0xf0);
    vector_clear(cpu, VAPIC_IRR, n);
    set_rvi(v, vector_highest(cpu, VAPIC_IRR));
    x->virtual_interrupt = false;
    *vector = (uint8_t)n;
    return true;
}

/* -- External interrupts, posted interrupts ------------------------------------------------------------ */

static void local_eoi(struct cpu *cpu)
{
    if (cpu->msr.apic_base & BIT(10))
        cpu_wrmsr(cpu, 0x80b, 0);
    else
        lapic_write(cpu, VAPIC_EOI, 4, 0);
}

/* SDM 3C, "Posted-Interrupt Processing". Descriptor: PIR 255:0, ON 256. */
bool vmx_posted_interrupt(struct cpu *cpu, uint8_t vector)
{
    struct vmcs *v = vmx_current(cpu);
    if (!(v->pin & PIN_PROCESS_POSTED_INTERRUPTS) || vector != (v->posted_vector & 0xff))
        return false;
    gpa_t d = v->posted_descriptor;
    phys_store(cpu->phys, d + 32, 1, phys_load(cpu->phys, d + 32, 1) & ~1ull);
    local_eoi(cpu);
    unsigned highest = 0;
    for (unsigned i = 0; i < 8; i++) {
        uint32_t bits = (uint32_t)phys_load(cpu->phys, d + 4 * i, 4);
        if (!bits)
            continue;
        phys_store(cpu->phys, d + 4 * i, 4, 0);
        page_write(cpu, VAPIC_IRR + 16 * i, page_read(cpu, VAPIC_IRR + 16 * i) | bits);
        highest = 32 * i + 31 - (unsigned)__builtin_clz(bits);
    }
    if (highest > rvi(v))
        set_rvi(v, highest);
    evaluate(cpu);
    return true;
}

bool vmx_poll_interrupt(struct cpu *cpu)
{
    const struct vmcs *v = vmx_current(cpu);
    if (!(v->pin & PIN_EXTERNAL_INTERRUPT_EXITING))
        return false;
    if (cpu->activity == ACTIVITY_SHUTDOWN || cpu->activity == ACTIVITY_WAIT_SIPI)
        return true;
    struct vmx_exit e = {.reason = EXIT_REASON_EXTERNAL_INTERRUPT,
                         .no_vectoring = true,
                         .rf = cpu->rep_rip == cpu->rip ? RF_SET : RF_KEEP};
    if (v->exit_controls & EXITCTL_ACKNOWLEDGE_INTERRUPT) {
        int vector = lapic_acknowledge(cpu);
        if (vector < 0)
            return true;
        if (vmx_posted_interrupt(cpu, (uint8_t)vector))
            return true;
        e.interruption_info = (uint32_t)((unsigned)vector | EVENT_EXTERNAL << 8 | INFO_VALID);
    }
    vmx_exit(cpu, &e);
}

/* -- MOV CR8 ------------------------------------------------------------------------------------------- */

bool vmx_cr8(struct cpu *cpu, bool write, uint64_t *value, unsigned gpr)
{
    if (write)
        vmx_write_cr(cpu, 8, *value, gpr);
    else
        vmx_read_cr(cpu, 8, 0, gpr);
    if (!(vmx_current(cpu)->proc & PROC_USE_TPR_SHADOW))
        return false;
    if (!write) {
        *value = page_read(cpu, VAPIC_TPR) >> 4 & 15;
        return true;
    }
    if (*value >> 4)
        cpu_raise_gp0(cpu);
    page_write(cpu, VAPIC_TPR, (uint32_t)*value << 4);
    virtualize_tpr(cpu);
    return true;
}

/* -- Memory-mapped: the APIC-access page --------------------------------------------------------------- */

enum { VIRTUAL_READ = 1, VIRTUAL_WRITE = 2 };

/* SDM 3C, "Virtualizing Reads from the APIC-Access Page", "Virtualizing Writes to the APIC-Access Page":
 * registers that "APIC-register virtualization" covers. */
static unsigned register_virtualized(uint32_t offset)
{
    switch (offset) {
    case VAPIC_ID:
    case VAPIC_TPR:
    case VAPIC_EOI:
    case VAPIC_LDR:
    case VAPIC_DFR:
    case VAPIC_SVR:
    case VAPIC_ESR:
    case VAPIC_ICR_LO:
    case VAPIC_ICR_HI:
    case VAPIC_TIMER_ICR:
    case VAPIC_TIMER_DCR:
        return VIRTUAL_READ | VIRTUAL_WRITE;
    case VAPIC_VERSION:
        return VIRTUAL_READ;
    default:
        if (offset >= VAPIC_ISR && offset < VAPIC_ESR)
            return VIRTUAL_READ;
        return offset >= VAPIC_LVT && offset <= VAPIC_LVT_LAST ? VIRTUAL_READ | VIRTUAL_WRITE : 0;
    }
}

static bool access_virtualized(const struct vmcs *v, uint32_t offset, unsigned size, bool write)
{
    uint32_t proc2 = vmx_proc2(v), reg = offset & 0xff0;
    if (!(v->proc & PROC_USE_TPR_SHADOW) || size > 4 || (offset & 15) + size > 4)
        return false;
    if (proc2 & PROC2_APIC_REGISTER_VIRTUALIZATION)
        return register_virtualized(reg) & (write ? VIRTUAL_WRITE : VIRTUAL_READ);
    if (reg == VAPIC_TPR)
        return true;
    return write && proc2 & PROC2_VIRTUAL_INTERRUPT_DELIVERY && (reg == VAPIC_EOI || reg == VAPIC_ICR_LO);
}

/* A fixed, edge-triggered interrupt to the processor itself, with a valid vector: all else is left to the
 * hypervisor. */
static bool is_self_ipi(uint32_t icr)
{
    const uint32_t checked = (uint32_t)(BITS(31, 15) | BITS(13, 12) | BITS(10, 8));
    return (icr & checked) == 1u << 18 && icr & 0xf0;
}

/* SDM 3C, "APIC-Write Emulation" */
static void emulate_write(struct cpu *cpu, uint32_t offset)
{
    const struct vmcs *v = vmx_current(cpu);
    switch (offset) {
    case VAPIC_TPR:
        page_write(cpu, VAPIC_TPR, page_read(cpu, VAPIC_TPR) & 0xff);
        virtualize_tpr(cpu);
        return;
    case VAPIC_EOI:
        if (!delivery(v))
            break;
        page_write(cpu, VAPIC_EOI, 0);
        virtualize_eoi(cpu);
        return;
    case VAPIC_ICR_LO: {
        uint32_t icr = page_read(cpu, VAPIC_ICR_LO);
        if (!delivery(v) || !is_self_ipi(icr))
            break;
        virtualize_self_ipi(cpu, icr & 0xff);
        return;
    }
    case VAPIC_ICR_HI:
        page_write(cpu, VAPIC_ICR_HI, page_read(cpu, VAPIC_ICR_HI) & 0xff000000);
        return;
    default:
        break;
    }
    vmx_exit_after_insn(cpu, EXIT_REASON_APIC_WRITE, offset);
}

static NORETURN void access_exit(struct cpu *cpu, uint32_t offset, gva_t linear, unsigned type)
{
    if (cpu->delivering.valid)
        type = ACCESS_DELIVERY;
    vmx_current(cpu)->guest_linear_address = linear;
    struct vmx_exit e = {.reason = EXIT_REASON_APIC_ACCESS,
                         .rf = RF_SET,
                         .qualification = offset | type << 12,
                         .length = cpu_insn_length(cpu)};
    vmx_exit(cpu, &e);
}

static bool in_access_page(const struct vmcs *v, gpa_t gpa)
{
    return unlikely(vmx_proc2(v) & PROC2_VIRTUALIZE_APIC_ACCESSES) &&
           !((gpa ^ v->apic_access_address) & ~PAGE_MASK);
}

bool vmx_apic_access_rmw(struct cpu *cpu, gpa_t gpa, gva_t linear, unsigned size, uint64_t *value)
{
    struct vmcs *v = vmx_current(cpu);
    if (!in_access_page(v, gpa))
        return false;
    uint32_t offset = (uint32_t)(gpa & PAGE_MASK);
    cpu_sync(cpu);
    if (!access_virtualized(v, offset, size, false) || !access_virtualized(v, offset, size, true))
        access_exit(cpu, offset, linear, ACCESS_WRITE);
    *value = phys_load(cpu->phys, v->virtual_apic_address + offset, size);
    return true;
}

bool vmx_apic_access(struct cpu *cpu, gpa_t gpa, gva_t linear, unsigned size, bool write, bool fetch,
                     uint64_t *value)
{
    struct vmcs *v = vmx_current(cpu);
    if (!in_access_page(v, gpa))
        return false;
    uint32_t offset = (uint32_t)(gpa & PAGE_MASK);
    cpu_sync(cpu);
    if (fetch || !access_virtualized(v, offset, size, write))
        access_exit(cpu, offset, linear, fetch ? ACCESS_FETCH : write ? ACCESS_WRITE : ACCESS_READ);
    if (!write) {
        *value = phys_load(cpu->phys, v->virtual_apic_address + offset, size);
        return true;
    }
    phys_store(cpu->phys, v->virtual_apic_address + offset, size, *value);
    emulate_write(cpu, offset & 0xff0);
    return true;
}

/* -- MSR-based: x2APIC mode ---------------------------------------------------------------------------- */

/* SDM 3C, "Virtualizing MSR-Based APIC Accesses". True when done. */
bool vmx_apicv_msr(struct cpu *cpu, uint32_t index, bool write, uint64_t *value)
{
    const struct vmcs *v = vmx_current(cpu);
    uint32_t proc2 = vmx_proc2(v);
    if (!(proc2 & PROC2_VIRTUALIZE_X2APIC_MODE) || index >> 8 != 8)
        return false;
    gpa_t at = v->virtual_apic_address + ((index & 0xff) << 4);
    if (!write) {
        if (index != 0x808 && !(proc2 & PROC2_APIC_REGISTER_VIRTUALIZATION))
            return false;
        *value = phys_load(cpu->phys, at, 8);
        return true;
    }
    bool eoi = index == 0x80b, self_ipi = index == 0x83f;
    if (index != 0x808 && !(delivery(v) && (eoi || self_ipi)))
        return false;
    if (eoi ? *value != 0 : *value >> 8)
        cpu_raise_gp0(cpu);
    phys_store(cpu->phys, at, 8, *value);
    if (index == 0x808)
        virtualize_tpr(cpu);
    else if (eoi)
        virtualize_eoi(cpu);
    else if (*value & 0xf0)
        virtualize_self_ipi(cpu, (unsigned)*value & 0xff);
    else
        vmx_exit_after_insn(cpu, EXIT_REASON_APIC_WRITE, VAPIC_SELF_IPI);
    return true;
}
