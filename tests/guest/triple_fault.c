/*
 * triple_fault.c -- a fault during the delivery of a double fault shuts the processor down (SDM 3A 6.15
 * Interrupt 8), and the board resets. It ends without totals: with -no-reboot the machine must end, without
 * it the line below comes again and again.
 */
#include "guest.h"

void guest_main(void)
{
    struct table_register none = {0, 0};
    print("triple fault now\n");
    asm volatile("lidt %0; ud2" ::"m"(none));
}
