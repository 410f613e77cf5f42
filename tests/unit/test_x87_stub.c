/*
 * test_x87_stub.c -- host x87 stubs: what the host's unit was left with must not trap once a guest unmasks
 * exceptions.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "cpu/jit/x87.h"

#if defined(__x86_64__)
/* 1 / 0 with everything masked: ZE stays in the host's status word. */
static void leave_flags(void)
{
    __asm__ volatile("fninit; fldz; fld1; fdivp; fstp %st(0)");
}

Test(x87_stub, flags_left_in_the_host_do_not_trap)
{
    struct error e;
    struct stub_cache *c = stub_cache_new(&e);
    cr_assert_not_null(c, "%s", e.message);
    x87_code *add = stub_x87(c, 0, 0xc1, X87_BINARY); /* FADD ST, ST(1) */
    cr_assert_not_null(add);
    static const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f},
                         two[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0x40};
    uint8_t a[16] = {0}, b[16] = {0};
    memcpy(a, one, 10);
    memcpy(b, one, 10);
    struct x87_frame f = {.fcw = 0x340}; /* all exceptions unmasked */
    leave_flags();
    add(a, b, &f);
    cr_assert_arr_eq(a, two, 10);
    cr_assert_eq(f.fsw & 0xff, 0);
    stub_cache_free(c);
}
#endif
