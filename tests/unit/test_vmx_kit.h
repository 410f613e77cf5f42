/*
 * tests/unit/test_vmx_kit.h -- one processor with a little RAM, a 64-bit host and a known-good VMCS, for the
 * tests of cpu/vmx/. Helpers are called directly; what unwinds to cpu_run() comes back as the result of
 * vk_run().
 */
#ifndef TEST_VMX_KIT_H
#define TEST_VMX_KIT_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/exec.h"
#include "cpu/flags.h"
#include "cpu/ir/helper.h"
#include "cpu/lapic.h"
#include "cpu/vmx/internal.h"

/* No variable changes between setjmp and longjmp here; the compiler cannot know it. */
#pragma GCC diagnostic ignored "-Wclobbered"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

enum {
    VK_VMXON = 0x1000,
    VK_VMCS = 0x2000,
    VK_MSR_BITMAP = 0x3000,
    VK_IO_A = 0x4000,
    VK_IO_B = 0x5000,
    VK_VAPIC = 0x6000,
    VK_APIC_PAGE = 0x7000,
    VK_POSTED = 0x8000,
    VK_SHADOW = 0x9000,
    VK_VMREAD = 0xa000,
    VK_VMWRITE = 0xb000,
    VK_PML = 0xc000,
    VK_LIST = 0xd000,
    VK_PDPT32 = 0xe000,
    VK_VMCS2 = 0xf000,
    VK_EPT = 0x10000,
    VK_CR3 = 0x20000,
    VK_CODE = 0x30000,
    VK_DATA = 0x40000,
};
#define VK_HOST_RIP  0x31000ull
#define VK_HOST_RSP  0x48000ull
#define VK_GUEST_RIP 0x32000ull
#define VK_GUEST_RSP 0x4a000ull

struct vk {
    struct bus bus;
    struct phys phys;
    struct clock clock;
    struct cpu_model model;
    struct code_cache *code;
    struct cpu *cpu;
};

static inline struct vmcs *vk_vmcs(struct vk *k)
{
    return k->cpu->vmx->vmcs;
}

/* 0: returned; else JUMP_EVENT or JUMP_RESUME. */
static inline int vk_run(struct vk *k, helper_fn *fn, const struct uop *u)
{
    k->cpu->event.valid = false;
    int r = _setjmp(k->cpu->jump);
    if (r == 0)
        fn(k->cpu, u);
    return r;
}
#define VK_TRY(k, statement)                                                                                 \
    ({                                                                                                       \
        (k)->cpu->event.valid = false;                                                                       \
        volatile int vk_result = _setjmp((k)->cpu->jump);                                                    \
        if (vk_result == 0) {                                                                                \
            statement;                                                                                       \
        }                                                                                                    \
        vk_result;                                                                                           \
    })

/* A helper with a memory operand that holds `value`. */
static inline int vk_run_m64(struct vk *k, helper_fn *fn, uint64_t value, unsigned type)
{
    phys_store(&k->phys, VK_DATA, 8, value);
    k->cpu->r[REG_T0] = VK_DATA;
    k->cpu->r[REG_RBX] = type;
    struct uop u = {.a = REG_T0, .am = AM(0, ASIZE_64, SEG_DS, 0), .b = REG_RBX, .c = 1};
    return vk_run(k, fn, &u);
}

static inline bool vk_succeeded(const struct vk *k)
{
    return !(cpu_rflags(k->cpu) & (FLAG_CF | FLAG_ZF));
}
static inline bool vk_fail_invalid(const struct vk *k)
{
    return cpu_rflags(k->cpu) & FLAG_CF;
}
/* VM-instruction error of a VMfailValid, else 0. */
static inline unsigned vk_error(struct vk *k)
{
    return cpu_rflags(k->cpu) & FLAG_ZF ? vk_vmcs(k)->instruction_error : 0;
}

static inline void vk_root_state(struct vk *k)
{
    struct cpu *c = k->cpu;
    c->cr0 = CR0_PE | CR0_NE | CR0_ET | CR0_WP | CR0_PG;
    c->cr3 = VK_CR3;
    c->cr4 = CR4_PAE | CR4_VMXE | CR4_OSFXSR;
    c->efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
    c->seg[SEG_CS] = (struct segment){.selector = 8, .limit = ~0u, .ar = 11 | AR_S | AR_P | AR_L | AR_G};
    for (unsigned i = 0; i < SEG_LDTR; i++)
        if (i != SEG_CS)
            c->seg[i] = (struct segment){.selector = 16, .limit = ~0u, .ar = 3 | AR_S | AR_P | AR_DB | AR_G};
    c->seg[SEG_TR] = (struct segment){.selector = 24, .limit = 0x67, .ar = 11 | AR_P};
    c->cpl = 0;
    c->activity = ACTIVITY_ACTIVE;
    c->msr.feature_control = 5;
    c->msr.pat = 0x0007040600070406ull;
    c->rip = VK_CODE;
    c->next_rip = VK_CODE + 3;
    cpu_set_rflags(c, FLAG_1);
    cpu_mode_changed(c);
}

/* A 64-bit guest under EPT with every feature that can be on at the same time, in a 64-bit host. */
static inline void vk_good_vmcs(struct vk *k)
{
    struct vmcs *v = vk_vmcs(k);
    const struct vmx_caps *caps = &k->cpu->vmx->caps;
    v->pin = caps->required1[WORD_PIN] | PIN_EXTERNAL_INTERRUPT_EXITING | PIN_NMI_EXITING | PIN_VIRTUAL_NMIS;
    v->proc = caps->required1[WORD_PROC] | PROC_USE_TSC_OFFSETTING | PROC_USE_IO_BITMAPS |
              PROC_USE_MSR_BITMAPS | PROC_USE_TPR_SHADOW | PROC_ACTIVATE_SECONDARY_CONTROLS;
    v->proc2 = PROC2_ENABLE_EPT | PROC2_ENABLE_VPID | PROC2_UNRESTRICTED_GUEST | PROC2_ENABLE_RDTSCP |
               PROC2_ENABLE_INVPCID | PROC2_ENABLE_XSAVES_XRSTORS;
    v->exit_controls = caps->required1[WORD_EXITCTL] | EXITCTL_HOST_ADDRESS_SPACE_SIZE |
                       EXITCTL_SAVE_DEBUG_CONTROLS | EXITCTL_SAVE_EFER | EXITCTL_LOAD_EFER |
                       EXITCTL_SAVE_PAT | EXITCTL_LOAD_PAT | EXITCTL_ACKNOWLEDGE_INTERRUPT;
    v->entry_controls = caps->required1[WORD_ENTRYCTL] | ENTRYCTL_IA32E_MODE_GUEST |
                        ENTRYCTL_LOAD_DEBUG_CONTROLS | ENTRYCTL_LOAD_EFER | ENTRYCTL_LOAD_PAT;
    v->vpid = 1;
    v->eptp = VK_EPT | 6 | 3 << 3 | BIT(6);
    v->msr_bitmap = VK_MSR_BITMAP;
    v->io_bitmap_a = VK_IO_A;
    v->io_bitmap_b = VK_IO_B;
    v->virtual_apic_address = VK_VAPIC;
    v->apic_access_address = VK_APIC_PAGE;
    v->posted_descriptor = VK_POSTED;
    v->pml_address = VK_PML;
    v->vmread_bitmap = VK_VMREAD;
    v->vmwrite_bitmap = VK_VMWRITE;
    v->link_pointer = ~0ull;

    v->host_cr0 = v->guest_cr0 = CR0_PE | CR0_NE | CR0_ET | CR0_WP | CR0_PG;
    v->host_cr3 = v->guest_cr3 = VK_CR3;
    v->host_cr4 = v->guest_cr4 = CR4_PAE | CR4_VMXE;
    v->host_efer = v->guest_efer = EFER_LME | EFER_LMA | EFER_NXE;
    v->host_pat = v->guest_pat = 0x0007040600070406ull;
    v->host_cs_selector = 8;
    v->host_ss_selector = v->host_ds_selector = v->host_es_selector = 16;
    v->host_tr_selector = 24;
    v->host_rip = VK_HOST_RIP;
    v->host_rsp = VK_HOST_RSP;

    v->guest_cs_selector = 8;
    v->guest_cs_ar = 11 | AR_S | AR_P | AR_L | AR_G;
    v->guest_ss_selector = v->guest_ds_selector = v->guest_es_selector = 16;
    v->guest_fs_selector = v->guest_gs_selector = 16;
    v->guest_ss_ar = v->guest_ds_ar = v->guest_es_ar = v->guest_fs_ar = v->guest_gs_ar =
        3 | AR_S | AR_P | AR_DB | AR_G;
    v->guest_cs_limit = v->guest_ss_limit = v->guest_ds_limit = v->guest_es_limit = v->guest_fs_limit =
        v->guest_gs_limit = ~0u;
    v->guest_tr_selector = 24;
    v->guest_tr_ar = 11 | AR_P;
    v->guest_tr_limit = 0x67;
    v->guest_ldtr_ar = AR_UNUSABLE;
    v->guest_gdtr_limit = v->guest_idtr_limit = 0xffff;
    v->guest_dr7 = 0x400;
    v->guest_rflags = FLAG_1;
    v->guest_rip = VK_GUEST_RIP;
    v->guest_rsp = VK_GUEST_RSP;
    v->dirty = DIRTY_ALL;
}

static inline void vk_init(struct vk *k)
{
    struct error e = {{0}};
    memset(k, 0, sizeof(*k));
    bus_init(&k->bus, NULL);
    clock_init(&k->clock);
    cr_assert(phys_init(&k->phys, 8 << 20, 0xc0000000, &k->bus, &e), "%s", e.message);
    cr_assert(cpu_model_parse(&k->model, "", &e) || cpu_model_parse(&k->model, "max", &e), "%s", e.message);
    k->code = code_cache_new(&k->phys, &e);
    cr_assert(k->code, "%s", e.message);
    k->cpu = aligned_alloc(64, (sizeof(struct cpu) + 63) & ~63ul);
    memset(k->cpu, 0, sizeof(*k->cpu));
    struct cpu_wiring w = {.phys = &k->phys,
                           .bus = &k->bus,
                           .clock = &k->clock,
                           .model = &k->model,
                           .code = k->code,
                           .cpu_count = 1};
    cr_assert(cpu_init(k->cpu, &w, &e), "%s", e.message);
    k->clock.now = 1000000;
    k->cpu->slice_end = k->clock.now + 1000000;
    k->cpu->budget = 1000000;

    phys_store(&k->phys, VK_CR3, 8, (VK_CR3 + 0x1000) | 7);
    phys_store(&k->phys, VK_CR3 + 0x1000, 8, 0x87);
    phys_store(&k->phys, VK_EPT, 8, (VK_EPT + 0x1000) | 7);
    phys_store(&k->phys, VK_EPT + 0x1000, 8, 7 | 6 << 3 | 1 << 7);
    phys_store(&k->phys, VK_VMXON, 4, VMCS_REVISION_ID);
    phys_store(&k->phys, VK_VMCS, 4, VMCS_REVISION_ID);
    phys_store(&k->phys, VK_VMCS2, 4, VMCS_REVISION_ID);
    phys_store(&k->phys, VK_SHADOW, 4, VMCS_REVISION_ID | BIT(31));
    vk_root_state(k);
    cr_assert_eq(vk_run_m64(k, helper_vmxon, VK_VMXON, 0), 0);
    cr_assert(vk_succeeded(k) && k->cpu->vmx_on);
    vk_run_m64(k, helper_vmclear, VK_VMCS, 0);
    cr_assert_eq(vk_run_m64(k, helper_vmptrld, VK_VMCS, 0), 0);
    cr_assert(vk_succeeded(k));
    vk_good_vmcs(k);
}

static inline void vk_free(struct vk *k)
{
    cpu_free(k->cpu);
    free(k->cpu);
    code_cache_free(k->code);
    phys_free(&k->phys);
}

/* VMLAUNCH (or VMRESUME when launched): JUMP_RESUME or JUMP_EVENT means in the guest, or an entry failure. */
static inline int vk_enter(struct vk *k)
{
    struct uop u = {0};
    return vk_run(k, vk_vmcs(k)->launched ? helper_vmresume : helper_vmlaunch, &u);
}
static inline void vk_must_enter(struct vk *k)
{
    int r = vk_enter(k);
    if (!r || !k->cpu->vmx_non_root)
        vmx_explain(k->cpu, stderr);
    cr_assert(r && k->cpu->vmx_non_root, "entry failed: error %u, exit %x", vk_error(k),
              vk_vmcs(k)->exit_reason);
}
#define vk_assert_exit(k, expected, expected_qualification)                                                  \
    do {                                                                                                     \
        cr_assert_not((k)->cpu->vmx_non_root);                                                               \
        cr_assert_eq(vk_vmcs(k)->exit_reason, (expected), "exit reason %x", vk_vmcs(k)->exit_reason);        \
        cr_assert_eq(vk_vmcs(k)->exit_qualification, (uint64_t)(expected_qualification),                     \
                     "qualification %llx", (unsigned long long)vk_vmcs(k)->exit_qualification);              \
    } while (0)

#endif
