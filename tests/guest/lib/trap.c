/*
 * lib/trap.c -- exceptions caught by TRY(), and excursions to other privilege levels and modes.
 */
#include "guest.h"

struct mark trap_mark;
volatile bool trap_armed;
volatile struct trap trap_last;
trap_handler_t trap_handlers[256];
uint8_t user_stack[8192] __attribute__((section(".user_data"), aligned(16)));
static struct mark excursion_mark;
static struct excursion *excursion_now;
void excursion_enter(struct excursion *e);
void trap_handle(struct trap_frame *f);
void trap_start(void);

const char *trap_name(unsigned vector)
{
    static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM",
                                        "#DF", "9",   "#TS", "#NP", "#SS", "#GP", "#PF", "15",
                                        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};
    return vector == VECTOR_NONE ? "none" : vector < 22 ? names[vector] : "interrupt";
}

void trap_handle(struct trap_frame *f)
{
    uint64_t cr2 = read_cr2(), dr6 = read_dr6();
    if (trap_handlers[f->vector] && trap_handlers[f->vector](f)) {
        return;
    }
    if (f->vector == VECTOR_RETURN && excursion_now) {
        struct excursion *e = excursion_now;
        *e = (struct excursion){.rax = f->rax,
                                .rbx = f->rbx,
                                .rcx = f->rcx,
                                .rdx = f->rdx,
                                .rsi = f->rsi,
                                .rdi = f->rdi,
                                .rbp = f->rbp,
                                .r8 = f->r8,
                                .rip = f->rip,
                                .cs = f->cs,
                                .rflags = f->rflags,
                                .rsp = f->rsp,
                                .ss = f->ss,
                                .ds = e->ds};
        excursion_now = NULL;
        mark_jump(&excursion_mark);
    }
    if (trap_armed) {
        trap_armed = false;
        trap_last = (struct trap){.vector = (unsigned)f->vector,
                                  .error = f->error,
                                  .rip = f->rip,
                                  .cs = f->cs,
                                  .rflags = f->rflags,
                                  .rsp = f->rsp,
                                  .ss = f->ss,
                                  .cr2 = cr2,
                                  .dr6 = dr6};
        excursion_now = NULL;
        mark_jump(&trap_mark);
    }
    report("unexpected-exception", "none was expected here", false,
           "vector %lu (%s) error %lx at %lx:%lx, stack %lx:%lx, flags %lx, CR2 %lx, DR6 %lx", f->vector,
           trap_name((unsigned)f->vector), f->error, f->cs, f->rip, f->ss, f->rsp, f->rflags, cr2, dr6);
    guest_finish();
}

void trap_start(void)
{
}

void trap_begin(void)
{
    trap_last = (struct trap){.vector = VECTOR_NONE};
    trap_armed = true;
}

struct trap trap_end(void)
{
    trap_armed = false;
    return trap_last;
}

bool check_trap(const char *name, const char *rule, struct trap got, unsigned vector, uint64_t error)
{
    return report(name, rule, got.vector == vector && (vector == VECTOR_NONE || got.error == error),
                  "got %s(%lx) at %lx:%lx, want %s(%lx)", trap_name(got.vector), got.error, got.cs, got.rip,
                  trap_name(vector), error);
}

bool check_fault(const char *name, const char *rule, struct trap got, uint64_t error, uint64_t address)
{
    return report(name, rule, got.vector == EXC_PF && got.error == error && got.cr2 == address,
                  "got %s(%lx) CR2 %lx at %lx, want #PF(%lx) CR2 %lx", trap_name(got.vector), got.error,
                  got.cr2, got.rip, error, address);
}

bool check_none(const char *name, const char *rule, struct trap got)
{
    return check_trap(name, rule, got, VECTOR_NONE, 0);
}

/* -- Excursions ---------------------------------------------------------------------------------------- */
void excursion_run(struct excursion *e)
{
    excursion_now = e;
    if (!mark_set(&excursion_mark)) {
        excursion_enter(e);
    }
}

uint64_t user_run(const void *code, uint64_t rdi)
{
    struct excursion e = {.rip = (uint64_t)code,
                          .cs = SEL_USER_CODE64,
                          .rflags = RFLAGS_FIXED,
                          .rdi = rdi,
                          .rsp = (uint64_t)user_stack + sizeof user_stack,
                          .ss = SEL_USER_DATA,
                          .ds = SEL_USER_DATA};
    excursion_run(&e);
    return e.rax;
}

uint64_t compat_run(const void *code, uint64_t rdi, unsigned cpl)
{
    struct excursion e = {.rip = (uint64_t)code,
                          .cs = cpl ? SEL_USER_CODE32 : SEL_CODE32,
                          .rflags = RFLAGS_FIXED,
                          .rdi = rdi,
                          .rsp = (uint64_t)user_stack + sizeof user_stack,
                          .ss = cpl ? SEL_USER_DATA : SEL_DATA,
                          .ds = cpl ? SEL_USER_DATA : SEL_DATA};
    excursion_run(&e);
    return e.rax;
}
