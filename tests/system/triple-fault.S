/*
 * triple-fault.S -- shuts the processor down by a triple fault: an interrupt with an empty IDT.
 *
 * Counts its starts in a byte of the RTC's memory, which a reset leaves alone; the fourth start ends by isa-debug-exit
 * with the count, so that a machine that reboots comes to an end.
 */
#include "multiboot.inc"
    .set CMOS_BYTE, 0x40
main:
    movb $CMOS_BYTE, %al
    outb %al, $0x70
    inb $0x71, %al
    incb %al
    movb %al, %ah
    movb $CMOS_BYTE, %al
    outb %al, $0x70
    movb %ah, %al
    outb %al, $0x71
    cmpb $4, %al
    jb 1f
    outb %al, $0xf4
1:  lidt empty
    int3
2:  hlt
    jmp 2b
    .balign 4
empty:
    .word 0
    .long 0
