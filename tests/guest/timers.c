/*
 * timers.c -- time: TSC, local APIC timer in its three modes, 8254, IOAPIC routing, HPET. SDM 3A 10.5.4,
 * 3B 17.17.
 */
#include "guest.h"

static volatile uint32_t ticks;
static volatile uint64_t tick_tsc[4];
static bool tick(struct trap_frame *f)
{
    (void)f;
    if (ticks < 4) {
        tick_tsc[ticks] = rdtsc();
    }
    ticks++;
    lapic_write(LAPIC_EOI, 0);
    return true;
}

static bool wait_ticks(uint32_t want, uint64_t limit)
{
    uint64_t begin = rdtsc();
    while (ticks < want && rdtsc() - begin < limit) {
        asm volatile("sti; nop; cli" ::: "memory");
    }
    return ticks >= want;
}

#define VECTOR 0x70
#define LIMIT  2000000000ul

static void tsc(void)
{
    uint64_t a = rdtsc(), b = rdtsc();
    report("tsc-grows", "SDM 3B 17.17 Time-Stamp Counter", b > a, "%lx %lx", a, b);
    wrmsr(IA32_TSC, 1ul << 40);
    a = rdtsc();
    report("tsc-write", "SDM 3B 17.17: IA32_TIME_STAMP_COUNTER can be written",
           a >= 1ul << 40 && a < (1ul << 40) + (1ul << 36), "%lx", a);
    uint32_t low, aux, high;
    if (cpuid(0x80000001, 0).edx & 1u << 27) {
        wrmsr(IA32_TSC_AUX, 0x1234);
        asm volatile("rdtscp" : "=a"(low), "=d"(high), "=c"(aux));
        check_equal("rdtscp-aux", "SDM 2 RDTSCP: ECX = IA32_TSC_AUX", aux, 0x1234);
    }
    if (cpuid(7, 0).ebx & 2) {
        uint64_t adjust = rdmsr(IA32_TSC_ADJUST);
        a = rdtsc();
        wrmsr(IA32_TSC_ADJUST, adjust + (1ul << 41));
        b = rdtsc();
        report("tsc-adjust", "SDM 3B 17.17.3 Time-Stamp Counter Adjustment",
               b - a >= 1ul << 41 && b - a < (1ul << 41) + (1ul << 36), "%lx", b - a);
        adjust = rdmsr(IA32_TSC_ADJUST);
        wrmsr(IA32_TSC, rdtsc() + (1ul << 42));
        report("tsc-adjust-follows", "SDM 3B 17.17.3: a write to the TSC changes TSC_ADJUST alike",
               rdmsr(IA32_TSC_ADJUST) - adjust >= (1ul << 42) - 10000000, "%lx",
               rdmsr(IA32_TSC_ADJUST) - adjust);
        wrmsr(IA32_TSC_ADJUST, 0);
    } else {
        report_skip("tsc-adjust", "SDM 3B 17.17.3", "no TSC_ADJUST");
    }
}

static void apic_timer(void)
{
    trap_handlers[VECTOR] = tick;
    lapic_write(LAPIC_DIVIDE, 0xb); /* by 1 */
    ticks = 0;
    lapic_write(LAPIC_LVT_TIMER, 0x10000 | VECTOR);
    lapic_write(LAPIC_INITIAL, 1000000000);
    uint32_t current = lapic_read(LAPIC_CURRENT);
    report("one-shot-counts", "SDM 3A 10.5.4 current count goes down", current > 0 && current <= 1000000000,
           "%u", current);
    lapic_write(LAPIC_LVT_TIMER, VECTOR);
    lapic_write(LAPIC_INITIAL, 10000);
    report("one-shot", "SDM 3A 10.5.4 one-shot mode", wait_ticks(1, LIMIT), "no interrupt");
    check_equal("one-shot-ends", "SDM 3A 10.5.4: current count stays 0", lapic_read(LAPIC_CURRENT), 0);
    wait_ticks(2, 10000000);
    check_equal("one-shot-once", "SDM 3A 10.5.4", ticks, 1);
    ticks = 0;
    lapic_write(LAPIC_LVT_TIMER, 0x20000 | VECTOR);
    lapic_write(LAPIC_INITIAL, 50000);
    bool three = wait_ticks(3, LIMIT);
    lapic_write(LAPIC_INITIAL, 0);
    report("periodic", "SDM 3A 10.5.4 periodic mode", three, "%u ticks", ticks);
    uint32_t then = ticks;
    wait_ticks(then + 2, 10000000);
    report("initial-0-stops", "SDM 3A 10.5.4: initial count 0 stops the timer", ticks <= then + 1, "%u more",
           ticks - then);
    ticks = 0;
    lapic_write(LAPIC_LVT_TIMER, 0x10000 | VECTOR);
    lapic_write(LAPIC_INITIAL, 1000);
    wait_ticks(1, 10000000);
    check_equal("masked", "SDM 3A 10.5.1 LVT mask bit", ticks, 0);
    /* Divide by 16 counts slower than by 1. */
    uint64_t spent[2];
    for (int i = 0; i < 2; i++) {
        lapic_write(LAPIC_DIVIDE, i ? 3 : 0xb);
        lapic_write(LAPIC_LVT_TIMER, 0x10000 | VECTOR);
        lapic_write(LAPIC_INITIAL, 20000);
        uint64_t begin = rdtsc();
        while (lapic_read(LAPIC_CURRENT) && rdtsc() - begin < LIMIT) {
            cpu_relax();
        }
        spent[i] = rdtsc() - begin;
    }
    report("divide", "SDM 3A 10.5.4 divide configuration",
           spent[1] > 4 * spent[0] && spent[1] < 64 * spent[0], "%lu by 1, %lu by 16", spent[0], spent[1]);
    struct cpuid c = cpuid(0x15, 0);
    if (cpuid(0, 0).eax >= 0x15 && c.ecx && c.eax && c.ebx) {
        uint64_t want = 20000ul * c.ebx / c.eax;
        report("crystal", "SDM 2 CPUID.15H: the timer ticks at the crystal, the TSC at crystal * EBX / EAX",
               spent[0] >= want && spent[0] < want + want / 4 + 100000, "%lu TSC ticks, want %lu", spent[0],
               want);
    }
    if (cpuid(1, 0).ecx & 1u << 24) {
        lapic_write(LAPIC_LVT_TIMER, 0x40000 | VECTOR);
        asm volatile("mfence" ::: "memory");
        ticks = 0;
        uint64_t deadline = rdtsc() + 1000000;
        wrmsr(IA32_TSC_DEADLINE, deadline);
        check_equal("deadline-reads", "SDM 3A 10.5.4.1: armed, the MSR reads the deadline",
                    rdmsr(IA32_TSC_DEADLINE), deadline);
        bool came = wait_ticks(1, LIMIT);
        report("deadline", "SDM 3A 10.5.4.1 TSC-Deadline Mode", came && tick_tsc[0] >= deadline,
               "came %d at %lx, deadline %lx", came, tick_tsc[0], deadline);
        check_equal("deadline-clears", "SDM 3A 10.5.4.1: the MSR is 0 after it fired",
                    rdmsr(IA32_TSC_DEADLINE), 0);
        ticks = 0;
        wrmsr(IA32_TSC_DEADLINE, rdtsc() - 1);
        report("deadline-past", "SDM 3A 10.5.4.1: a deadline in the past fires at once",
               wait_ticks(1, 10000000), "no interrupt");
        ticks = 0;
        wrmsr(IA32_TSC_DEADLINE, rdtsc() + 1000000);
        wrmsr(IA32_TSC_DEADLINE, 0);
        wait_ticks(1, 10000000);
        check_equal("deadline-disarmed", "SDM 3A 10.5.4.1: 0 disarms", ticks, 0);
        lapic_write(LAPIC_INITIAL, 1000);
        check_equal("deadline-initial-ignored", "SDM 3A 10.5.4.1: initial count is ignored in this mode",
                    lapic_read(LAPIC_CURRENT), 0);
        lapic_write(LAPIC_LVT_TIMER, 0x10000 | VECTOR);
    } else {
        report_skip("deadline", "SDM 3A 10.5.4.1", "no TSC-deadline timer");
    }
}

/* -- 8254 through the IOAPIC --------------------------------------------------------------------------- */
#define IOAPIC 0xfec00000ul
static uint32_t ioapic_read(unsigned index)
{
    *(volatile uint32_t *)IOAPIC = index;
    return *(volatile uint32_t *)(IOAPIC + 0x10);
}
static void ioapic_write(unsigned index, uint32_t value)
{
    *(volatile uint32_t *)IOAPIC = index;
    *(volatile uint32_t *)(IOAPIC + 0x10) = value;
}

static void pit_and_ioapic(void)
{
    unsigned entries = (ioapic_read(1) >> 16 & 0xff) + 1;
    report("ioapic-version", "82093AA IOAPICVER: 24 entries",
           (ioapic_read(1) & 0xff) >= 0x11 && entries >= 24, "%x", ioapic_read(1));
    report("ioapic-masked", "82093AA: entries are masked at reset", ioapic_read(0x10 + 2 * 20) & 1 << 16,
           "%x", ioapic_read(0x10 + 2 * 20));
    ioapic_write(0x10 + 2 * 20, 0x1a5a5);
    check_equal("ioapic-readback", "82093AA IOREDTBL: read-only bits 12 and 14 stay 0",
                ioapic_read(0x10 + 2 * 20), 0x1a5a5 & ~(1u << 12 | 1u << 14));
    outb(0x43, 0x34); /* channel 0, rate generator */
    outb(0x40, 0xa9);
    outb(0x40, 0x04); /* 1193: 1 ms */
    outb(0x43, 0);
    unsigned first = inb(0x40);
    first |= inb(0x40) << 8;
    report("pit-counts", "8254 counter latch", first <= 1193, "%u", first);
    static const unsigned pins[] = {2, 0}; /* ISA IRQ 0 is on pin 2 in PCs */
    bool came = false;
    for (unsigned i = 0; i < 2 && !came; i++) {
        ticks = 0;
        ioapic_write(0x11 + 2 * pins[i], lapic_read(LAPIC_ID));
        ioapic_write(0x10 + 2 * pins[i], VECTOR);
        came = wait_ticks(3, LIMIT);
        ioapic_write(0x10 + 2 * pins[i], 0x10000 | VECTOR);
    }
    report("pit-interrupt", "8254 mode 2, IRQ 0 through the IOAPIC", came, "%u ticks", ticks);
    /* Channel 2 with the speaker's gate: terminal count on port 61H bit 5. */
    outb(0x61, (inb(0x61) & ~3u) | 1);
    outb(0x43, 0xb0);
    outb(0x42, 0xff);
    outb(0x42, 0x0f);
    bool low = !(inb(0x61) & 0x20), high = false;
    for (uint64_t begin = rdtsc(); !high && rdtsc() - begin < LIMIT;) {
        high = inb(0x61) & 0x20;
    }
    report("pit-channel-2", "8254 mode 0: OUT goes high at terminal count", low && high, "low %d high %d",
           low, high);
}

static void hpet(void)
{
    if (!enabled("hpet", "IA-PC HPET 2.3.4")) {
        return;
    }
    volatile uint64_t *h = (volatile uint64_t *)0xfed00000;
    uint64_t id = h[0];
    report("hpet", "IA-PC HPET 2.3.4 General Capabilities: period up to 100 ns, vendor not 0",
           id >> 32 && id >> 32 <= 0x05f5e100 && (id >> 16 & 0xffff), "%lx", id);
    h[2] |= 1;
    uint64_t a = h[0xf0 / 8], b = a;
    for (int i = 0; i < 100000 && a == b; i++) {
        b = h[0xf0 / 8];
    }
    report("hpet-counts", "IA-PC HPET 2.3.7 Main Counter", b > a, "%lx %lx", a, b);
}

void guest_main(void)
{
    lapic_enable();
    tsc();
    apic_timer();
    pit_and_ioapic();
    hpet();
}
