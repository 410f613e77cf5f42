/* quiet.S -- halts for good with interrupts off: nothing can wake it. */
#include "multiboot.inc"
main:
    cli
1:  hlt
    jmp 1b
