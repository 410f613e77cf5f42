/*
 * tests/isa/native.c -- runs an instruction on the host's processor with every register chosen.
 *
 * The state goes in by rt_sigreturn on a frame of our making and comes out in the frame of the signal that
 * ends the run: INT3 behind the instruction, or the exception that it raised. So every GPR (RSP too), RFLAGS,
 * YMM, MXCSR and x87 register is the test's own, and no instruction of ours runs in that state. FS keeps the
 * C library's base; DS, ES and SS are flat, so that CS = 23H runs 32-bit code.
 */
#define _GNU_SOURCE
#include "native.h"

#include <asm/prctl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define ALT_STACK 65536u

#define AVX_OFFSET 576u /* of the YMM registers' upper halves in the XSAVE area */
#define AVX_SIZE   256u

/* FXSAVE image at the head of the frame's XSAVE area. */
struct fx_image {
    uint16_t fcw, fsw;
    uint8_t ftw, zero;
    uint16_t fop;
    uint64_t fip, fdp;
    uint32_t mxcsr, mxcsr_mask;
    uint8_t st[8][16];
    uint8_t xmm[16][16];
    uint8_t rest[96];
};

static struct {
    jmp_buf back;
    ucontext_t frame; /* pattern for every run; a copy goes to `slot` */
    ucontext_t slot;
    uint8_t *xsave; /* its XSAVE area, aligned to 64 */
    size_t xsave_size;
    struct isa_state *out;
    uint64_t start;
    bool expects_int3;            /* INT3 itself is under test */
    uint64_t runs, runs_at_alarm; /* the same run at two alarms hangs */
    volatile bool running, have_frame;
    volatile uint64_t int1; /* address of the INT1 that is tried, 0 when none is */
    volatile bool int1_itself;
    uint8_t *code; /* writable view of the code pages */
} native;

static const int gpr_slots[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

enum { TRAP_DB = 1, TRAP_BP = 3, TRAP_PF = 14, PF_FETCH = 16 };

/* -- Out ----------------------------------------------------------------------------------------------- */

static void keep_frame(const ucontext_t *uc)
{
    const struct _fpx_sw_bytes {
        uint32_t magic1, extended_size;
        uint64_t xfeatures;
        uint32_t xstate_size;
    } *sw = (const void *)((const uint8_t *)uc->uc_mcontext.fpregs + 464);
    native.frame = *uc;
    native.xsave_size = sw->magic1 == 0x46505853 ? sw->extended_size : 512;
    native.xsave = aligned_alloc(64, (native.xsave_size + 63) & ~63ul);
    memcpy(native.xsave, uc->uc_mcontext.fpregs, native.xsave_size);
    native.frame.uc_mcontext.fpregs = (void *)native.xsave;
    native.have_frame = true;
}

static bool has_avx(void)
{
    return native.xsave_size >= AVX_OFFSET + AVX_SIZE;
}

static void take_state(const ucontext_t *uc, int signal)
{
    struct isa_state *s = native.out;
    const greg_t *g = uc->uc_mcontext.gregs;
    const struct fx_image *fx = (const void *)uc->uc_mcontext.fpregs;
    for (unsigned i = 0; i < 16; i++)
        s->r[i] = (uint64_t)g[gpr_slots[i]];
    s->rip = (uint64_t)g[REG_RIP];
    s->rflags = (uint64_t)g[REG_EFL];
    memcpy(s->xmm, fx->xmm, sizeof(s->xmm));
    memcpy(s->st, fx->st, sizeof(s->st));
    memset(s->ymm_high, 0, sizeof(s->ymm_high));
    if (has_avx() && (((const uint8_t *)fx)[512] & 4)) /* XSTATE_BV */
        memcpy(s->ymm_high, (const uint8_t *)fx + AVX_OFFSET, AVX_SIZE);
    s->mxcsr = fx->mxcsr;
    s->fcw = fx->fcw;
    s->fsw = fx->fsw;
    s->ftw = fx->ftw;
    s->vector = (int)g[REG_TRAPNO];
    s->error = (uint32_t)g[REG_ERR];
    s->cr2 = (uint64_t)g[REG_CR2];
    if (signal == SIGALRM) {
        s->vector = -2;
    } else if (s->vector == TRAP_BP && !native.expects_int3) {
        s->vector = -1; /* the INT3 after the instruction, or at a jump's target */
        s->rip--;
    } else if (s->vector == TRAP_PF && (s->error & PF_FETCH) && s->rip != native.start && s->cr2 == s->rip) {
        s->vector = -1; /* arrived at a place that has no code */
    }
    if (s->vector != TRAP_PF)
        s->cr2 = 0;
    if (s->vector < 0)
        s->error = 0;
}

static void handler(int signal, siginfo_t *info, void *context)
{
    /* RFLAGS.AC is still the test's: our own code may be unaligned. (Below the red zone.) */
    __asm__ volatile(
        "lea -128(%%rsp), %%rsp\n\tpushfq\n\tandq $~0x40000, (%%rsp)\n\tpopfq\n\tlea 128(%%rsp), %%rsp" ::
            : "cc", "memory");
    (void)info;
    ucontext_t *uc = context;
    if (!native.have_frame) {
        keep_frame(uc);
        return;
    }
    if (native.int1) {
        native.int1_itself = (uint64_t)uc->uc_mcontext.gregs[REG_RIP] == native.int1;
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(native.int1 + 1);
        native.int1 = 0;
        return;
    }
    if (signal == SIGALRM && (!native.running || native.runs != native.runs_at_alarm)) {
        native.runs_at_alarm = native.runs;
        return;
    }
    if (!native.running) {
        static const char text[] = "test_isa: a signal outside the test's own code\n";
        if (write(2, text, sizeof(text) - 1)) {
        }
        sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
        return;
    }
    native.running = false;
    take_state(uc, signal);
    longjmp(native.back, 1);
}

/* -- In ------------------------------------------------------------------------------------------------ */

NORETURN static void enter(ucontext_t *uc)
{
    __asm__ volatile("mov %0, %%rsp\n\tmov $15, %%eax\n\tsyscall\n\tud2" ::"r"(uc) : "memory");
    __builtin_unreachable();
}

void native_run(unsigned mode, const struct isa_state *in, struct isa_state *out)
{
    greg_t *g = native.slot.uc_mcontext.gregs;
    struct fx_image *fx = (void *)native.xsave;
    native.slot = native.frame;
    for (unsigned i = 0; i < 16; i++)
        g[gpr_slots[i]] = (greg_t)in->r[i];
    g[REG_RIP] = (greg_t)in->rip;
    g[REG_EFL] = (greg_t)in->rflags;
    if (mode == 32)
        g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | 0x23;
    memcpy(fx->xmm, in->xmm, sizeof(fx->xmm));
    memcpy(fx->st, in->st, sizeof(fx->st));
    fx->mxcsr = in->mxcsr;
    fx->fcw = in->fcw;
    fx->fsw = in->fsw;
    fx->ftw = in->ftw;
    native.xsave[512] |= 3; /* XSTATE_BV: x87 and SSE are in the image */
    if (has_avx()) {
        native.xsave[512] |= 4;
        memcpy(native.xsave + AVX_OFFSET, in->ymm_high, AVX_SIZE);
    }
    native.out = out;
    native.start = in->rip;
    native.expects_int3 = in->vector == TRAP_BP;
    native.runs++;
    if (_setjmp(native.back) == 0) {
        native.running = true;
        enter(&native.slot);
    }
}

void native_protect(void)
{
    mprotect((void *)RO_BASE, RO_SIZE, PROT_READ);
}

uint64_t native_fs_base(void)
{
    uint64_t base = 0;
    syscall(SYS_arch_prctl, ARCH_GET_FS, &base);
    return base;
}

void native_code_write(uint64_t linear, const uint8_t *p, unsigned n)
{
    memcpy(native.code + (linear - CODE_BASE), p, n);
}

bool native_int1_itself(void)
{
    return native.int1_itself;
}

static void *map_at(uint64_t base, size_t size, int prot, int flags, int fd)
{
    void *p = mmap((void *)base, size, prot, flags | MAP_FIXED_NOREPLACE, fd, 0);
    if (p == MAP_FAILED) {
        perror("test_isa: mmap at a fixed address");
        exit(2);
    }
    return p;
}

void native_init(void)
{
    int fd = memfd_create("isa-code", 0);
    if (fd < 0 || ftruncate(fd, CODE_SIZE)) {
        perror("test_isa: memfd");
        exit(2);
    }
    native.code = mmap(NULL, CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    memset(native.code, 0xcc, CODE_SIZE);
    map_at(CODE_BASE, CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_POPULATE, fd);
    close(fd);
    map_at(DATA_BASE, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
    map_at(STACK_BASE, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
    map_at(RO_BASE, RO_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);

    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" ::"r"(0x2b));
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, GS_BASE))
        perror("test_isa: arch_prctl");

    stack_t alt = {.ss_sp = malloc(ALT_STACK), .ss_size = ALT_STACK};
    sigaltstack(&alt, NULL);
    struct sigaction sa = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    static const int signals[] = {SIGTRAP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM};
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &sa, NULL);
    __asm__ volatile("int3");
    __asm__ volatile("lea 1f(%%rip), %%rax\n\tmov %%rax, %0\n1:\t.byte 0xf1"
                     : "=m"(native.int1)::"rax", "memory");
    setitimer(ITIMER_REAL, &(struct itimerval){{1, 0}, {1, 0}}, NULL);
}
