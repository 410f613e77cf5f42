/*
 * many-blocks.S -- twelve thousand blocks, each of which calls one that all share, eight times in turn. They are
 * counted; writes 10H to isa-debug-exit when the count is right, else 1.
 */
#include "multiboot.inc"
    .set BLOCKS, 12000
    .set TURNS, 8
main:
    movl $stack, %esp
    xorl %eax, %eax
    movl $TURNS, %ebx
turn:
    .rept BLOCKS
    addl $1, %eax
    call shared
    .endr
    decl %ebx
    jnz turn
    cmpl $(BLOCKS * TURNS), %eax
    movb $0x10, %al
    je 1f
    movb $1, %al
1:  outb %al, $0xf4
2:  hlt
    jmp 2b
shared:
    addl $3, %edx
    ret
    .balign 16
    .space 256
stack:
