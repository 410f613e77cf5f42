/* timed-halt.S -- halts for good with interrupts off while the 8254 and the RTC tick on. */
#include "multiboot.inc"
main:
    movb $0x34, %al
    outb %al, $0x43
    movb $0x10, %al
    outb %al, $0x40
    outb %al, $0x40
    movb $0x0b, %al
    outb %al, $0x70
    movb $0x42, %al
    outb %al, $0x71
    cli
1:  hlt
    jmp 1b
