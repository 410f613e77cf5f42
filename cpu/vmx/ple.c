/*
 * vmx/ple.c -- PAUSE-loop exiting, in ticks of virtual time.
 *
 * SDM 3C, "Controls for PAUSE-Loop Exiting": at CPL 0 two executions of PAUSE that are at most PLE_Gap apart
 * belong to one loop; a loop that has lasted longer than PLE_Window exits. The gap is what is between them:
 * KVM's default, 128, is less than one PAUSE takes.
 * Tests:  tests/unit/test_vmx_intercept.c, tests/guest/vmx_more.c
 */
#include "cpu/exec.h"
#include "cpu/vmx/internal.h"

bool vmx_ple_pause(struct cpu *cpu)
{
    struct vmx *x = cpu->vmx;
    const struct vmcs *v = x->vmcs;
    uint64_t now = cpu->clock->now;
    if (!x->ple_running || now > x->ple_last + v->ple_gap)
        x->ple_first = now;
    else if (now - x->ple_first > v->ple_window)
        return true;
    x->ple_running = true;
    x->ple_last = now + PAUSE_TICKS;
    return false;
}
