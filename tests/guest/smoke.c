/*
 * smoke.c -- the library itself: exceptions, ring 3, compatibility, protected and real mode, and back.
 */
#include "guest.h"

USER_CODE(user_add, 64, "lea 1(%rdi), %rax");
USER_CODE(compat_add, 32, "lea 2(%edi), %eax");
USER_CODE(user_ud, 64, "ud2");
USER_CODE(legacy_add, 32, "lea 3(%edi), %eax");
USER_CODE(legacy_cli, 32, "cli");
REAL_CODE(real_add, "lea 4(%edi), %eax");
REAL_CODE(real_divide, "xor %ecx, %ecx\n div %ecx");

void guest_main(void)
{
    check_trap("ud2", "SDM 3A 6.15 Interrupt 6", TRY_ASM("ud2"), EXC_UD, 0);
    check_fault("page-fault", "SDM 3A 6.15 Interrupt 14", TRY(load8(0x10000000000)), 0, 0x10000000000);
    check_equal("ring3", "SDM 3A 5.8", user_run(user_add, 41), 42);
    check_equal("compat-ring3", "SDM 3A 3.2.4", compat_run(compat_add, 40, 3), 42);
    check_equal("compat-ring0", "SDM 3A 3.2.4", compat_run(compat_add, 40, 0), 42);
    check_trap("ring3-ud2", "SDM 3A 6.15 Interrupt 6", TRY(user_run(user_ud, 0)), EXC_UD, 0);
    struct legacy l = {.eip = (uint32_t)(uint64_t)legacy_add,
                       .cs = SEL_CODE32,
                       .eflags = 2,
                       .ss = SEL_DATA,
                       .ds = SEL_DATA,
                       .esp = (uint32_t)(uint64_t)user_stack + 4096,
                       .edi = 39};
    legacy_run(&l);
    report("protected", "SDM 3A 9.8.5.4", l.vector == VECTOR_RETURN && l.eax == 42, "vector %x eax %x",
           l.vector, l.eax);
    struct legacy u = {.eip = (uint32_t)(uint64_t)legacy_cli,
                       .cs = SEL_USER_CODE32,
                       .eflags = 2,
                       .ss = SEL_USER_DATA,
                       .ds = SEL_USER_DATA,
                       .esp = (uint32_t)(uint64_t)user_stack + 4096};
    legacy_run(&u);
    report("protected-ring3", "SDM 2 CLI", u.vector == EXC_GP && u.error == 0 && u.out_cs == SEL_USER_CODE32,
           "vector %x error %x", u.vector, u.error);
    struct real r = {.edi = 38};
    real_run(real_add, (size_t)(real_add_end - real_add), &r);
    report("real", "SDM 3A 20.1", r.vector == 0xffff && r.eax == 42, "vector %x eax %x", r.vector, r.eax);
    real_run(real_divide, (size_t)(real_divide_end - real_divide), &r);
    report("real-divide", "SDM 3A 20.1.4", r.vector == 0 && r.ip == 3, "vector %x ip %x", r.vector, r.ip);
    check_equal("ring3-again", "SDM 3A 5.8", user_run(user_add, 41), 42);
}
