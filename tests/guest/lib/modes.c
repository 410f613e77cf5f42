/*
 * lib/modes.c -- protected mode and real mode from C; starting application processors.
 */
#include "guest.h"

extern uint8_t real_page[], real_page_end[], real_stubs[], ap_page[], ap_page_end[], trap_stubs32[];
extern uint32_t real_registers[6];
extern uint64_t ap_stack, idt32[129];
extern uint8_t tss32[104];
uint64_t legacy_gates[129];
void legacy_enter(struct legacy *l);
void real_enter(struct real *r);
void ap_main(void);

void legacy_run(struct legacy *l)
{
    gdt_set(0x58, descriptor((uint32_t)(uint64_t)tss32, 103, 0x89));
    for (unsigned v = 0; v < 129; v++) {
        uint64_t at = (uint64_t)trap_stubs32 + 16 * (v < 32 ? v : 32);
        bool present = v < 32 || v == VECTOR_RETURN;
        bool user = v == EXC_BP || v == EXC_OF || v == VECTOR_RETURN;
        idt32[v] = !present ? 0
                            : (at & 0xffff) | (uint64_t)SEL_CODE32 << 16 |
                                  (uint64_t)(user ? 0xee : 0x8e) << 40 | (at >> 16 & 0xffff) << 48;
        if (legacy_gates[v]) {
            idt32[v] = legacy_gates[v];
        }
    }
    legacy_enter(l);
}

void real_run(const void *code, size_t size, struct real *r)
{
    volatile uint16_t *ivt = (volatile uint16_t *)4; /* vector 0 apart: a store to address 0 is not C */
    uint8_t *low = (uint8_t *)0x8000;
    for (unsigned v = 0; v < 256; v++) {
        uint16_t at = (uint16_t)(0x8000 + (real_stubs - real_page) + 6 * (v < 128 ? v : 128));
        if (v) {
            ivt[2 * v - 2] = at;
            ivt[2 * v - 1] = 0;
        } else {
            asm volatile("movl %0, 0" ::"r"((uint32_t)at) : "memory");
        }
    }
    memcpy(low, real_page, (size_t)(real_page_end - real_page));
    memcpy((void *)0x9000, code, size);
    uint32_t *registers = (uint32_t *)(low + ((uint8_t *)real_registers - real_page));
    memcpy(registers, r, 24);
    real_enter(r);
    memcpy(r, registers, 24);
    uint16_t vector = ((uint16_t *)registers)[12];
    r->vector = vector == 0xffff ? 0xffff : vector & 0xffu;
    r->ip = ((uint16_t *)registers)[13];
}

/* -- Processors ---------------------------------------------------------------------------------------- */
static void (*volatile ap_function)(unsigned id);
static volatile uint32_t ap_alive;

void lapic_enable(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | 1 << 11);
    lapic_write(LAPIC_TPR, 0);
    lapic_write(LAPIC_SVR, 0x1ff);
    lapic_write(LAPIC_LVT_TIMER, 0x10000);
    lapic_write(LAPIC_LVT_LINT0, 0x10000);
}

void lapic_icr(unsigned destination, uint32_t low)
{
    lapic_write(LAPIC_ICR2, destination << 24);
    lapic_write(LAPIC_ICR, low);
    for (int spin = 0; spin < 100000 && (lapic_read(LAPIC_ICR) & 1 << 12); spin++) {
        cpu_relax();
    }
}

bool wait_for(volatile uint32_t *value, uint32_t want)
{
    uint64_t begin = rdtsc();
    for (int spin = 0; *value != want; spin++) {
        if (spin > 1000 && rdtsc() - begin > 2000000000ul) {
            return false;
        }
        cpu_relax();
    }
    return true;
}

void ap_main(void)
{
    unsigned id = lapic_read(LAPIC_ID) >> 24;
    lapic_enable();
    ap_alive = 1;
    ap_function(id);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

static void pause_for(uint64_t ticks)
{
    for (uint64_t begin = rdtsc(); rdtsc() - begin < ticks;) {
        cpu_relax();
    }
}

bool cpu_start(unsigned id, void (*function)(unsigned id))
{
    memcpy((void *)0x7000, ap_page, (size_t)(ap_page_end - ap_page));
    ap_function = function;
    ap_alive = 0;
    ap_stack = (uint64_t)page_alloc_aligned(16384) + 16384;
    lapic_icr(id, 0x4500);
    pause_for(1000000);
    lapic_icr(id, 0x4607);
    pause_for(1000000);
    if (!ap_alive) {
        lapic_icr(id, 0x4607);
    }
    return wait_for(&ap_alive, 1);
}
