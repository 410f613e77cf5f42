/*
 * tests/unit/test_vmx_apicv.c -- the virtual-APIC page, virtual-interrupt delivery, posted interrupts, x2APIC
 * MSRs.
 *
 * SDM 3C, "APIC Virtualization and Virtual Interrupts".
 */
#include "test_vmx_kit.h"

static uint32_t page(struct vk *k, uint32_t offset)
{
    return (uint32_t)phys_load(&k->phys, VK_VAPIC + offset, 4);
}

static void setup(struct vk *k, uint32_t proc2)
{
    vk_init(k);
    vk_vmcs(k)->proc2 |= proc2;
}

static bool access(struct vk *k, uint32_t offset, unsigned size, bool write, uint64_t *value)
{
    return vmx_apic_access(k->cpu, VK_APIC_PAGE + offset, 0xfee00000 + offset, size, write, false, value);
}

/* Every offset and direction with and without APIC-register virtualization, against the SDM's lists. */
Test(vmx_apicv, access_page_table)
{
    static const uint16_t reads[] = {0x20,  0x30,  0x80,  0xb0,  0xd0,  0xe0,  0xf0,  0x280, 0x300,
                                     0x310, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370, 0x380, 0x3e0};
    for (unsigned mode = 0; mode < 3; mode++) {
        struct vk k;
        static const uint32_t bits[] = {0, PROC2_VIRTUAL_INTERRUPT_DELIVERY,
                                        PROC2_VIRTUAL_INTERRUPT_DELIVERY |
                                            PROC2_APIC_REGISTER_VIRTUALIZATION};
        setup(&k, bits[mode] | PROC2_VIRTUALIZE_APIC_ACCESSES);
        for (uint32_t offset = 0; offset < 0x400; offset += 0x10)
            for (unsigned write = 0; write < 2; write++) {
                bool listed = offset >= 0x100 && offset < 0x280 && !write;
                for (unsigned i = 0; i < ARRAY_LEN(reads); i++)
                    listed |= reads[i] == offset && !(write && offset == 0x30);
                if (mode < 2)
                    listed = offset == 0x80 || (mode == 1 && write && (offset == 0xb0 || offset == 0x300));
                vk_must_enter(&k);
                uint64_t value = 0;
                int r = VK_TRY(&k, cr_assert(access(&k, offset, 4, write, &value)));
                cr_assert_eq(r == 0, listed, "mode %u offset %x write %u", mode, offset, write);
                if (r) {
                    vk_assert_exit(&k, EXIT_REASON_APIC_ACCESS, offset | write << 12);
                    cr_assert_eq(vk_vmcs(&k)->guest_linear_address, 0xfee00000u + offset);
                } else {
                    k.cpu->vmx->trap_pending = false;
                    VK_TRY(&k, vmx_guard(k.cpu, GUARD_CPUID));
                }
            }
        vk_must_enter(&k);
        uint64_t value;
        VK_TRY(&k, access(&k, 0x80, 8, false, &value)); /* wider than 32 bits */
        vk_assert_exit(&k, EXIT_REASON_APIC_ACCESS, 0x80);
        vk_must_enter(&k);
        VK_TRY(&k, access(&k, 0x84, 4, false, &value)); /* outside the low 4 bytes */
        vk_assert_exit(&k, EXIT_REASON_APIC_ACCESS, 0x84);
        vk_must_enter(&k);
        cr_assert_not(vmx_apic_access(k.cpu, VK_DATA, 0, 4, false, false, &value));
        VK_TRY(&k, vmx_apic_access(k.cpu, VK_APIC_PAGE, 0x99, 4, false, true, &value));
        vk_assert_exit(&k, EXIT_REASON_APIC_ACCESS, 0x2000);
        vk_free(&k);
    }
}

Test(vmx_apicv, tpr_shadow_and_threshold)
{
    struct vk k;
    setup(&k, 0);
    struct vmcs *v = vk_vmcs(&k);
    phys_store(&k.phys, VK_VAPIC + 0x80, 4, 0x50);
    v->tpr_threshold = 3;
    vk_must_enter(&k);
    uint64_t value = 7;
    cr_assert(vmx_cr8(k.cpu, true, &value, 0));
    cr_assert_eq(page(&k, 0x80), 0x70u);
    value = 0;
    cr_assert(vmx_cr8(k.cpu, false, &value, 0));
    cr_assert_eq(value, 7u);
    cr_assert_not(k.cpu->vmx->trap_pending);
    value = 2;
    cr_assert(vmx_cr8(k.cpu, true, &value, 0));
    cr_assert(k.cpu->attention & ATTN_MTF);
    cr_assert_eq(VK_TRY(&k, vmx_poll_mtf(k.cpu)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_TPR_BELOW_THRESHOLD, 0);
    phys_store(&k.phys, VK_VAPIC + 0x80, 4, 0xf0);
    vk_must_enter(&k);
    value = 16;
    cr_assert_eq(VK_TRY(&k, vmx_cr8(k.cpu, true, &value, 0)), JUMP_EVENT);
    cr_assert_eq(k.cpu->event.vector, EXC_GP);
    vk_free(&k);
}

/* RVI above PPR is delivered; EOI brings the one below; the EOI-exit bitmap exits. */
Test(vmx_apicv, virtual_interrupts)
{
    struct vk k;
    setup(&k, PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION |
                  PROC2_VIRTUALIZE_APIC_ACCESSES);
    struct vmcs *v = vk_vmcs(&k);
    struct cpu *c = k.cpu;
    uint8_t vector = 0;
    uint64_t value = 0;
    phys_store(&k.phys, VK_VAPIC + 0x200 + 0x10, 4, BIT(0x31 & 31));
    phys_store(&k.phys, VK_VAPIC + 0x200 + 0x50, 4, BIT(0xa5 & 31));
    v->guest_interrupt_status = 0xa5;
    v->eoi_exit0 = BIT(0x31);
    v->guest_rflags |= FLAG_IF;
    vk_must_enter(&k);
    cr_assert(c->vmx->virtual_interrupt && c->attention & ATTN_VMX);
    cr_assert(vmx_poll_virtual_interrupt(c, &vector));
    cr_assert_eq(vector, 0xa5);
    cr_assert_eq(v->guest_interrupt_status, 0xa531);
    cr_assert_eq(page(&k, 0xa0), 0xa0u);
    cr_assert_eq(page(&k, 0x150), (uint32_t)BIT(0xa5 & 31));
    cr_assert_eq(page(&k, 0x250), 0u);
    cr_assert_not(vmx_poll_virtual_interrupt(c, &vector)); /* 31H is below PPR */
    cr_assert(access(&k, 0xb0, 4, true, &value));          /* EOI */
    cr_assert_eq(page(&k, 0x150), 0u);
    cr_assert_eq(v->guest_interrupt_status, 0x0031);
    c->rflags &= ~(uint64_t)FLAG_IF;
    cr_assert_not(vmx_poll_virtual_interrupt(c, &vector));
    c->rflags |= FLAG_IF;
    value = 0x40;
    cr_assert(access(&k, 0x80, 4, true, &value)); /* TPR above it */
    cr_assert_not(vmx_poll_virtual_interrupt(c, &vector));
    value = 0;
    cr_assert(access(&k, 0x80, 4, true, &value));
    cr_assert(vmx_poll_virtual_interrupt(c, &vector));
    cr_assert_eq(vector, 0x31);
    cr_assert(access(&k, 0xb0, 4, true, &value));
    cr_assert_eq(VK_TRY(&k, vmx_poll_mtf(c)), JUMP_RESUME);
    vk_assert_exit(&k, EXIT_REASON_VIRTUALIZED_EOI, 0x31);
    cr_assert_eq(v->guest_interrupt_status, 0);
    vk_free(&k);
}

Test(vmx_apicv, icr_writes)
{
    struct vk k;
    setup(&k, PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION |
                  PROC2_VIRTUALIZE_APIC_ACCESSES);
    struct vmcs *v = vk_vmcs(&k);
    vk_must_enter(&k);
    uint64_t value = 0xff345678;
    cr_assert(access(&k, 0x310, 4, true, &value));
    cr_assert_eq(page(&k, 0x310), 0xff000000u);
    cr_assert_not(k.cpu->vmx->trap_pending);
    value = 1u << 18 | 0x45; /* self, fixed */
    cr_assert(access(&k, 0x300, 4, true, &value));
    cr_assert_eq(v->guest_interrupt_status, 0x45);
    cr_assert(k.cpu->vmx->virtual_interrupt);
    value = 3u << 18 | 0x45; /* all but self */
    cr_assert(access(&k, 0x300, 4, true, &value));
    VK_TRY(&k, vmx_poll_mtf(k.cpu));
    vk_assert_exit(&k, EXIT_REASON_APIC_WRITE, 0x300);
    vk_must_enter(&k);
    value = 0x10000;
    cr_assert(access(&k, 0x320, 4, true, &value));
    cr_assert_eq(page(&k, 0x320), 0x10000u);
    VK_TRY(&k, vmx_poll_mtf(k.cpu));
    vk_assert_exit(&k, EXIT_REASON_APIC_WRITE, 0x320);
    vk_free(&k);
}

Test(vmx_apicv, posted_interrupts)
{
    struct vk k;
    setup(&k, PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION);
    struct vmcs *v = vk_vmcs(&k);
    v->pin |= PIN_PROCESS_POSTED_INTERRUPTS;
    v->posted_vector = 0xf2;
    vk_must_enter(&k);
    phys_store(&k.phys, VK_POSTED + 4, 4, BIT(3));  /* vector 35 */
    phys_store(&k.phys, VK_POSTED + 28, 4, BIT(1)); /* vector 225 */
    phys_store(&k.phys, VK_POSTED + 32, 4, 3);      /* ON, SN */
    cr_assert_not(vmx_posted_interrupt(k.cpu, 0x30));
    cr_assert(vmx_posted_interrupt(k.cpu, 0xf2));
    cr_assert_eq(phys_load(&k.phys, VK_POSTED + 32, 4), 2u);
    cr_assert_eq(phys_load(&k.phys, VK_POSTED + 28, 4), 0u);
    cr_assert_eq(v->guest_interrupt_status, 225);
    cr_assert_eq(page(&k, 0x210), (uint32_t)BIT(3));
    cr_assert_eq(page(&k, 0x270), (uint32_t)BIT(1));
    cr_assert(k.cpu->vmx->virtual_interrupt);
    vk_free(&k);
}

Test(vmx_apicv, x2apic_msrs)
{
    struct vk k;
    setup(&k, PROC2_VIRTUAL_INTERRUPT_DELIVERY | PROC2_APIC_REGISTER_VIRTUALIZATION |
                  PROC2_VIRTUALIZE_X2APIC_MODE);
    struct vmcs *v = vk_vmcs(&k);
    vk_must_enter(&k);
    uint64_t value = 0x30;
    cr_assert(vmx_msr_access(k.cpu, 0x808, true, &value));
    cr_assert_eq(page(&k, 0x80), 0x30u);
    value = 0;
    cr_assert(vmx_msr_access(k.cpu, 0x808, false, &value));
    cr_assert_eq(value, 0x30u);
    value = 0x55;
    cr_assert(vmx_msr_access(k.cpu, 0x83f, true, &value));
    cr_assert_eq(v->guest_interrupt_status, 0x55);
    cr_assert_not(vmx_msr_access(k.cpu, 0x830, true, &value)); /* ICR is not virtualised */
    value = 0x100;
    cr_assert_eq(VK_TRY(&k, vmx_msr_access(k.cpu, 0x808, true, &value)), JUMP_EVENT);
    k.cpu->event.valid = false;
    value = 1;
    cr_assert_eq(VK_TRY(&k, vmx_msr_access(k.cpu, 0x80b, true, &value)), JUMP_EVENT);
    k.cpu->event.valid = false;
    value = 5;
    cr_assert(vmx_msr_access(k.cpu, 0x83f, true, &value));
    VK_TRY(&k, vmx_poll_mtf(k.cpu));
    vk_assert_exit(&k, EXIT_REASON_APIC_WRITE, 0x3f0);
    vk_free(&k);
}
