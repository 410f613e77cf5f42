/*
 * tests/isa/emulated.c -- the droste side: one processor, made through cpu/'s public interface, in user mode.
 *
 * Page tables map the test's pages at the native side's linear addresses. Exceptions go through a real IDT to
 * handlers that are recognised by their address; vector, error code and the interrupted state are read from
 * there and from the stack, as an operating system would.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "base/clock.h"
#include "base/log.h"
#include "cpu/cache.h"
#include "cpu/jit/jit.h"
#include "cpu/jit/stub.h"
#include "cpu/system.h"
#include "isa.h"
#include "mmu/bus.h"
#include "mmu/phys.h"

/* Guest-physical layout. */
#define RAM_SIZE     (8u << 20)
#define TABLES_GPA   0x1000u
#define GDT_GPA      0x20000u
#define IDT_GPA      0x21000u
#define TSS_GPA      0x22000u
#define KSTACK_GPA   0x23000u /* two pages */
#define HANDLERS_GPA 0x26000u
#define CODE_GPA     0x100000u
#define DATA_GPA     0x110000u
#define RO_GPA       0x120000u
#define STACK_GPA    0x130000u
#define KERNEL_BASE  0x5a5a12340000ull /* where no test address leads */
#define KSTACK_TOP   (KERNEL_BASE + KSTACK_GPA + 0x1ff0)
#define HANDLERS     (KERNEL_BASE + HANDLERS_GPA)

#define SEL_KERNEL 0x10
#define SEL_USER32 0x23
#define SEL_DATA   0x2b
#define SEL_USER64 0x33
#define SEL_TSS    0x40

static struct {
    struct clock clock;
    struct log log;
    struct bus bus;
    struct phys phys;
    struct cpu_model model;
    struct cpu *cpu;
    uint32_t next_table;
    unsigned mode; /* of CS now: 64, 32, 0 unknown */
    uint32_t hot;  /* 0: interpreter; else runs of a block before it is translated to host code */
} emu;

struct region regions[REGION_COUNT] = {
    [REGION_DATA] = {.base = DATA_BASE, .size = DATA_SIZE},
    [REGION_RO] = {.base = RO_BASE, .size = RO_SIZE},
    [REGION_STACK] = {.base = STACK_BASE, .size = STACK_SIZE},
};

/* -- Memory -------------------------------------------------------------------------------------------- */

static const struct region *region_of(uint64_t linear, unsigned n)
{
    for (unsigned i = 0; i < REGION_COUNT; i++)
        if (linear >= regions[i].base && linear - regions[i].base + n <= regions[i].size)
            return &regions[i];
    return NULL;
}

bool memory_is_mapped(uint64_t linear, unsigned n)
{
    return region_of(linear, n) != NULL;
}

bool memory_write(uint64_t linear, const void *p, unsigned n)
{
    const struct region *g = region_of(linear, n);
    if (!g || g == &regions[REGION_RO])
        return false;
    memcpy(g->native + (linear - g->base), p, n);
    memcpy(g->guest + (linear - g->base), p, n);
    return true;
}

void memory_reset(void)
{
    static uint8_t *background;
    if (!background) {
        struct rng r = {12345};
        background = malloc(DATA_SIZE);
        for (unsigned i = 0; i < DATA_SIZE; i += 8)
            store_le(background + i, rng_chance(&r, 30) ? value_gpr(&r) : rng_next(&r), 8);
        memcpy(regions[REGION_RO].native, background, RO_SIZE);
        memcpy(regions[REGION_RO].guest, background, RO_SIZE);
    }
    for (unsigned i = 0; i < REGION_COUNT; i++) {
        if (i == REGION_RO)
            continue;
        memcpy(regions[i].native, background, regions[i].size);
        memcpy(regions[i].guest, background, regions[i].size);
    }
}

void code_write(uint64_t linear, const uint8_t *p, unsigned n)
{
    native_code_write(linear, p, n);
    emulated_code_write(linear, p, n);
}

void emulated_code_write(uint64_t linear, const uint8_t *p, unsigned n)
{
    phys_write(&emu.phys, CODE_GPA + (linear - CODE_BASE), p, n);
}

/* -- Making the machine -------------------------------------------------------------------------------- */

static uint64_t *table_entry(uint64_t linear)
{
    gpa_t at = TABLES_GPA;
    for (unsigned level = 3; level > 0; level--) {
        uint64_t *e = (uint64_t *)(void *)(emu.phys.ram + at + 8 * (linear >> (12 + 9 * level) & 511));
        if (!*e) {
            *e = emu.next_table | 7;
            emu.next_table += PAGE_SIZE;
        }
        at = *e & ~0xfffull;
    }
    return (uint64_t *)(void *)(emu.phys.ram + at + 8 * (linear >> 12 & 511));
}

enum { PTE_P = 1, PTE_W = 2, PTE_U = 4, PTE_A = 32, PTE_D = 64 };
#define PTE_NX BIT(63)

static void map(uint64_t linear, gpa_t gpa, unsigned size, uint64_t bits)
{
    for (unsigned i = 0; i < size; i += PAGE_SIZE)
        *table_entry(linear + i) = (gpa + i) | bits | PTE_P | PTE_A | PTE_D;
}

static void fill_descriptors(void)
{
    uint64_t *gdt = (uint64_t *)(void *)(emu.phys.ram + GDT_GPA);
    gdt[SEL_KERNEL >> 3] = 0x00af9b000000ffffull;
    gdt[SEL_USER32 >> 3] = 0x00cffb000000ffffull;
    gdt[SEL_DATA >> 3] = 0x00cff3000000ffffull;
    gdt[SEL_USER64 >> 3] = 0x00affb000000ffffull;
    uint64_t tss = KERNEL_BASE + TSS_GPA;
    gdt[SEL_TSS >> 3] = 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;
    gdt[(SEL_TSS >> 3) + 1] = tss >> 32;
    store_le(emu.phys.ram + TSS_GPA + 4, KSTACK_TOP, 8);
    for (unsigned v = 0; v < 256; v++) {
        uint64_t at = HANDLERS + v * 16;
        uint8_t *gate = emu.phys.ram + IDT_GPA + v * 16;
        /* DPL 3 for INT3 and INTO only, as operating systems have it. */
        uint64_t dpl = v == 3 || v == 4 ? 3 : 0;
        store_le(gate,
                 (at & 0xffff) | SEL_KERNEL << 16 | (0x8eull | dpl << 5) << 40 | (at >> 16 & 0xffff) << 48,
                 8);
        store_le(gate + 8, at >> 32, 8);
    }
    memset(emu.phys.ram + HANDLERS_GPA, 0xf4, PAGE_SIZE);
    memset(emu.phys.ram + CODE_GPA, 0xcc, CODE_SIZE);
}

static struct segment flat(uint16_t selector, unsigned type, uint32_t bits)
{
    return (struct segment){
        .selector = selector, .limit = 0xffffffff, .ar = type | AR_S | 3u << 5 | AR_P | AR_G | bits};
}

static void user_mode(unsigned mode)
{
    struct cpu *cpu = emu.cpu;
    cpu->seg[SEG_CS] = mode == 64 ? flat(SEL_USER64, 11, AR_L) : flat(SEL_USER32, 11, AR_DB);
    cpu->seg[SEG_SS] = cpu->seg[SEG_DS] = cpu->seg[SEG_ES] = flat(SEL_DATA, 3, AR_DB);
    cpu->seg[SEG_FS] = flat(SEL_DATA, 3, AR_DB);
    cpu->seg[SEG_GS] = flat(SEL_DATA, 3, AR_DB);
    cpu->seg[SEG_FS].base = native_fs_base();
    cpu->seg[SEG_GS].base = GS_BASE;
    cpu->cpl = 3;
    cpu_mode_changed(cpu);
    emu.mode = mode;
}

static void die(const char *what, const struct error *e)
{
    fprintf(stderr, "test_isa: %s: %s\n", what, e->message);
    exit(2);
}

const struct cpu_model *emulated_model(void)
{
    struct error e = {""};
    if (!emu.model.name[0] && !cpu_model_parse(&emu.model, "default", &e) &&
        !cpu_model_parse(&emu.model, "", &e))
        die("processor model", &e);
    return &emu.model;
}

void emulated_use_jit(uint32_t hot)
{
    emu.hot = hot;
}

uint64_t emulated_translated(void)
{
    struct jit *jit = emu.cpu->code->jit;
    return jit ? jit_statistics(jit)->blocks : 0;
}

void emulated_init(void)
{
    struct error e = {""};
    clock_init(&emu.clock);
    log_init(&emu.log, NULL, LOG_ERROR);
    bus_init(&emu.bus, &emu.log);
    if (!phys_init(&emu.phys, RAM_SIZE, 0xc0000000u, &emu.bus, &e))
        die("memory", &e);
    struct code_cache *code = code_cache_new(&emu.phys, &e);
    struct stub_cache *stubs = stub_cache_new(&e);
    if (!code || !stubs)
        die("code cache", &e);
    if (emu.hot && !jit_attach(code, emu.hot, 0, &e))
        die("jit", &e);
    emu.cpu = calloc(1, sizeof(*emu.cpu));
    struct cpu_wiring w = {.phys = &emu.phys,
                           .bus = &emu.bus,
                           .clock = &emu.clock,
                           .log = &emu.log,
                           .code = code,
                           .stubs = stubs,
                           .model = emulated_model(),
                           .cpu_count = 1};
    if (!cpu_init(emu.cpu, &w, &e))
        die("processor", &e);

    emu.next_table = TABLES_GPA + PAGE_SIZE;
    map(CODE_BASE, CODE_GPA, CODE_SIZE, PTE_U);
    map(DATA_BASE, DATA_GPA, DATA_SIZE, PTE_U | PTE_W | PTE_NX);
    map(RO_BASE, RO_GPA, RO_SIZE, PTE_U | PTE_NX);
    map(STACK_BASE, STACK_GPA, STACK_SIZE, PTE_U | PTE_W | PTE_NX);
    map(KERNEL_BASE, 0, 0x30000, PTE_W);
    fill_descriptors();

    struct cpu *cpu = emu.cpu;
    cpu->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu->cr3 = TABLES_GPA;
    cpu->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    cpu->xcr0 = cpu_xcr0_supported(cpu);
    cpu->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    cpu->gdtr = (struct table_register){KERNEL_BASE + GDT_GPA, 0xfff};
    cpu->idtr = (struct table_register){KERNEL_BASE + IDT_GPA, 0xfff};
    cpu->seg[SEG_TR] =
        (struct segment){.base = KERNEL_BASE + TSS_GPA, .limit = 0x67, .selector = SEL_TSS, .ar = 11 | AR_P};
    cpu->activity = ACTIVITY_ACTIVE;
    user_mode(64);

    static const gpa_t gpas[REGION_COUNT] = {DATA_GPA, RO_GPA, STACK_GPA};
    for (unsigned i = 0; i < REGION_COUNT; i++) {
        regions[i].native = (uint8_t *)regions[i].base;
        regions[i].guest = emu.phys.ram + gpas[i];
    }
}

/* -- State in and out ---------------------------------------------------------------------------------- */

static void put_state(const struct isa_state *s)
{
    struct cpu *cpu = emu.cpu;
    memcpy(cpu->r, s->r, sizeof(s->r));
    cpu->rip = s->rip;
    cpu_set_rflags(cpu, s->rflags);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(&cpu->v[i], s->xmm[i], 16);
        memcpy(&cpu->v[i].b[16], s->ymm_high[i], 16);
    }
    cpu->mxcsr = s->mxcsr;
    cpu->x87.fcw = s->fcw;
    cpu->x87.fsw = s->fsw & (uint16_t)~0x3800;
    cpu->x87.top = s->fsw >> 11 & 7;
    cpu->x87.ftw = s->ftw;
    for (unsigned i = 0; i < 8; i++) {
        unsigned n = (cpu->x87.top + i) & 7;
        memset(&cpu->x87.r[n], 0, 16);
        memcpy(cpu->x87.r[n].b, s->st[i], 10);
    }
    cpu->event.valid = cpu->delivering.valid = false;
    cpu->shadow_sti = cpu->shadow_mov_ss = false;
    cpu->pending_db = 0;
    cpu->activity = ACTIVITY_ACTIVE;
}

static void get_state(struct isa_state *s)
{
    const struct cpu *cpu = emu.cpu;
    memcpy(s->r, cpu->r, sizeof(s->r));
    s->rip = cpu->rip;
    s->rflags = cpu_rflags(cpu);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(s->xmm[i], &cpu->v[i], 16);
        memcpy(s->ymm_high[i], &cpu->v[i].b[16], 16);
    }
    s->mxcsr = cpu->mxcsr;
    s->fcw = cpu->x87.fcw;
    s->fsw = (uint16_t)((cpu->x87.fsw & ~0x3800) | cpu->x87.top << 11);
    s->ftw = cpu->x87.ftw;
    for (unsigned i = 0; i < 8; i++)
        memcpy(s->st[i], cpu->x87.r[(cpu->x87.top + i) & 7].b, 16);
}

/* After a delivered exception: the frame on the kernel's stack is the interrupted state. */
static void take_exception(struct isa_state *s)
{
    static const uint32_t with_error = 0x27d00; /* #DF #TS #NP #SS #GP #PF #AC */
    const uint8_t *top = emu.phys.ram + (KSTACK_TOP - KERNEL_BASE);
    s->vector = (int)((emu.cpu->rip - HANDLERS) / 16);
    s->rip = load_le(top - 40, 8);
    s->rflags = load_le(top - 24, 8);
    s->r[REG_RSP] = load_le(top - 16, 8);
    s->error = with_error >> s->vector & 1 ? (uint32_t)load_le(top - 48, 8) : 0;
    s->cr2 = s->vector == EXC_PF ? emu.cpu->cr2 : 0;
}

static bool in_handler(void)
{
    return emu.cpu->rip >= HANDLERS && emu.cpu->rip < HANDLERS + PAGE_SIZE;
}

/*
 * Translated code runs only where the budget covers a whole block, so the instruction goes on into the INT3
 * behind it or at its target, as the native side's does. A place without code is arrived at when its fetch
 * faults.
 */
static void run_to_int3(const struct isa_state *in, struct isa_state *out)
{
    struct cpu *cpu = emu.cpu;
    unsigned turns = 0;
    do {
        cpu_run(cpu, 4000);
    } while (!in_handler() && ++turns < 1000);
    get_state(out);
    out->vector = in_handler() ? VECTOR_NONE : VECTOR_TIMEOUT;
    out->error = 0;
    out->cr2 = 0;
    if (!in_handler())
        return;
    take_exception(out);
    emu.mode = 0;
    bool fetch = out->vector == EXC_PF && (out->error & BIT(4)) && out->cr2 == out->rip;
    bool arrived = fetch && out->rip != in->rip;
    if (out->vector == EXC_BP && in->vector != EXC_BP) {
        out->rip--;
        arrived = true;
    }
    if (arrived) {
        out->vector = VECTOR_NONE;
        out->error = 0;
        out->cr2 = 0;
    }
}

void emulated_run(unsigned mode, const struct isa_state *in, struct isa_state *out, uint64_t end)
{
    struct cpu *cpu = emu.cpu;
    put_state(in);
    if (emu.mode != mode || (in->rflags & FLAG_AC))
        user_mode(mode);
    unsigned turns = 0;
    if (emu.hot && !end) {
        run_to_int3(in, out);
        return;
    }
    do {
        cpu_run(cpu, end ? 1000 : 1);
    } while (!end && cpu->rip == in->rip && !in_handler() && ++turns < 5000);
    get_state(out);
    out->vector = VECTOR_NONE;
    out->error = 0;
    out->cr2 = 0;
    if (in_handler()) {
        take_exception(out);
        emu.mode = 0;
    }
    if (cpu->rflags & (FLAG_TF | FLAG_AC | FLAG_VM))
        emu.mode = 0;
    if (end && out->vector == EXC_BP && out->rip == end + 1) {
        out->vector = VECTOR_NONE;
        out->rip = end;
    } else if (end && out->vector == EXC_UD && out->rip == end) {
        out->vector = VECTOR_NONE; /* INT3 is not there yet */
    }
    if (turns == 5000)
        out->vector = VECTOR_TIMEOUT;
}

double emulated_speed(void)
{
    static const uint8_t loop[] = {
        0x48, 0x8b, 0x06,             /* mov rax, [rsi] */
        0x48, 0x01, 0xc3,             /* add rbx, rax */
        0x48, 0x89, 0x1f,             /* mov [rdi], rbx */
        0x48, 0xc1, 0xc3, 0x07,       /* rol rbx, 7 */
        0x48, 0x8d, 0x54, 0x9a, 0x10, /* lea rdx, [rdx + rbx*4 + 16] */
        0x48, 0x31, 0xd0,             /* xor rax, rdx */
        0xff, 0xc9,                   /* dec ecx */
        0x75, 0xe7,                   /* jnz */
    };
    struct isa_state s = {.rip = CODE_BASE, .rflags = FLAG_1 | FLAG_IF, .mxcsr = 0x1f80, .fcw = 0x37f};
    s.r[REG_RSI] = DATA_BASE;
    s.r[REG_RDI] = DATA_BASE + 64;
    s.r[REG_RSP] = STACK_BASE + 0x800;
    code_write(CODE_BASE, loop, sizeof(loop));
    user_mode(64);
    put_state(&s);
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    uint64_t n = cpu_run(emu.cpu, 100000000);
    clock_gettime(CLOCK_MONOTONIC, &b);
    return (double)n / ((double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) * 1e-9);
}
