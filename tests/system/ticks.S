/*
 * ticks.S -- halts for good, interrupts on, while every timer of the board ticks on. Assembled as it is, none of them
 * gets through to the processor; with a name defined, one does, and its interrupt ends the run by isa-debug-exit:
 *   PIT_8259 PIT_IOAPIC RTC HPET LAPIC
 * BLOCKED: the local APIC's timer is not masked, but its priority is too low.
 */
#include "multiboot.inc"
    .set LAPIC_PAGE, 0xfee00000
    .set IOAPIC_PAGE, 0xfec00000
    .set HPET_PAGE, 0xfed00000
    .set PM1_ENABLE, 0x602
#if defined(PIT_8259)
    .set MASKS, 0xfffe
#elif defined(RTC)
    .set MASKS, 0xfefb
#else
    .set MASKS, 0xffff
#endif
#if defined(LAPIC) || defined(BLOCKED)
    .set LVT_TIMER, 0x20040
#else
    .set LVT_TIMER, 0x30040
#endif
#if defined(BLOCKED)
    .set PRIORITY, 0x40
#else
    .set PRIORITY, 0
#endif
main:
    movl $stack, %esp
    lgdt gdt_pointer
    ljmp $8, $1f
1:  movl $16, %eax
    movl %eax, %ds
    movl %eax, %ss
    movl $idt, %edi
    movl $handler, %eax
    movl $256, %ecx
2:  movw %ax, (%edi)
    movw $8, 2(%edi)
    movw $0x8e00, 4(%edi)
    rorl $16, %eax
    movw %ax, 6(%edi)
    rorl $16, %eax
    addl $8, %edi
    loop 2b
    lidt idt_pointer

    movb $(MASKS & 0xff), %al
    outb %al, $0x21
    movb $(MASKS >> 8), %al
    outb %al, $0xa1
    movl $0x1ff, LAPIC_PAGE + 0xf0
    movl $PRIORITY, LAPIC_PAGE + 0x80
    movl $0x700, LAPIC_PAGE + 0x350
    movl $0xb, LAPIC_PAGE + 0x3e0
    movl $LVT_TIMER, LAPIC_PAGE + 0x320
    movl $100000, LAPIC_PAGE + 0x380
#if defined(PIT_IOAPIC) || defined(HPET)
#ifdef HPET
    movl $(0x10 + 20 * 2), IOAPIC_PAGE
#else
    movl $(0x10 + 2 * 2), IOAPIC_PAGE
#endif
    movl $0x50, IOAPIC_PAGE + 0x10
#endif
    movb $0x34, %al
    outb %al, $0x43
    movb $0x10, %al
    outb %al, $0x40
    outb %al, $0x40
    movb $0x0b, %al
    outb %al, $0x70
    movb $0x52, %al
    outb %al, $0x71
    movl $(20 << 9 | 0x14c), HPET_PAGE + 0x100
    movl $100000, HPET_PAGE + 0x108
    movl $1, HPET_PAGE + 0x10
    movw $PM1_ENABLE, %dx
    movw $1, %ax
    outw %ax, %dx
    sti
3:  hlt
    jmp 3b
handler:
    movb $0x10, %al
    outb %al, $0xf4
4:  hlt
    jmp 4b
    .balign 8
gdt:
    .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
    .word 23
    .long gdt
idt_pointer:
    .word 256 * 8 - 1
    .long idt
    .balign 8
idt:
    .space 256 * 8
    .space 256
stack:
