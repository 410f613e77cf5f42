/* hole-jump.S -- jumps to physical addresses that neither RAM nor a device answers. */
#include "multiboot.inc"
main:
    lidt empty
    movl $0xd0000000, %eax
    jmp *%eax
    .balign 4
empty:
    .word 0
    .long 0
