/*
 * endless.S -- guests that never end by themselves; what they do for ever is chosen when assembled:
 *   SPIN jumps to itself   REP one instruction that takes seconds   FAULTS exceptions and nothing else
 *   OUTPUT a flood of serial output   DEVICE_CODE runs code in the HPET's registers   RESETS resets through port CF9H
 *   IDLE halts, interrupts on, while the IOAPIC sends the 8254's ticks to a processor that is not there
 */
#include "multiboot.inc"
main:
#if defined(REP)
    orl $-1, %ecx
    movl $0x200000, %esi
    movl %esi, %edi
    rep movsb
    jmp main
#elif defined(FAULTS)
    lgdt gdt_pointer
    lidt idt_pointer
    ljmp $8, $1f
1:  movl $16, %eax
    movl %eax, %ss
    movl $stack, %esp
    movl $handler, %eax
    movw %ax, invalid_opcode
    shrl $16, %eax
    movw %ax, invalid_opcode + 6
    ud2
handler:
    iret
    .balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word 23
    .long gdt
    .balign 8
idt:
    .fill 6, 8, 0
invalid_opcode:
    .word 0, 8, 0x8e00, 0
idt_pointer:
    .word 55
    .long idt
    .space 256
stack:
#elif defined(OUTPUT)
    movw $0x3f8, %dx
    movb $'x', %al
1:  outb %al, %dx
    jmp 1b
#elif defined(DEVICE_CODE)
    movl $0xfed00108, %ebx # comparator of timer 0
    movl $0xfeebfeeb, (%ebx)
    jmp *%ebx
#elif defined(RESETS)
    movw $0xcf9, %dx
    movb $6, %al
    outb %al, %dx
    jmp .
#elif defined(IDLE)
    movb $0xff, %al
    outb %al, $0x21
    outb %al, $0xa1
    movl $0x15, 0xfec00000
    movl $0x0f000000, 0xfec00010
    movl $0x14, 0xfec00000
    movl $0x50, 0xfec00010
    movb $0x34, %al
    outb %al, $0x43
    movb $0x10, %al
    outb %al, $0x40
    outb %al, $0x40
    sti
1:  hlt
    jmp 1b
#else
    jmp main
#endif
