/* mmio-jump.S -- jumps into the IOAPIC's registers, where no instructions can be. */
#include "multiboot.inc"
main:
    lidt empty
    movl $0xfec00000, %eax
    jmp *%eax
    .balign 4
empty:
    .word 0
    .long 0
