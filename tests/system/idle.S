/* idle.S -- halts for good with interrupts on while nothing but the serial port's other end could say something. */
#include "multiboot.inc"
main:
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    sti
1:  hlt
    jmp 1b
