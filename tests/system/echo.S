/* echo.S -- waits for a byte on COM1, sends the next one of the alphabet, and ends as exit.S does. */
#include "multiboot.inc"
main:
    movw $0x3fd, %dx
1:  inb %dx, %al
    testb $1, %al
    jz 1b
    movw $0x3f8, %dx
    inb %dx, %al
    incb %al
    outb %al, %dx
    movb $0x10, %al
    outb %al, $0xf4
2:  hlt
    jmp 2b
