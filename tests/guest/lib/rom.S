/*
 * lib/rom.S -- a boot ROM of 64 KB for Bochs: copies the flat image that lies below it in the ROM to 1 MB and enters
 * it as a Multiboot loader would. The runner writes the image's size and entry and the command line into `rom_header`.
 */
    .section .rom, "ax"
    .code16
    .globl rom_base
rom_base:               /* linked at FFFF0000H */
rom_header:
    .long 0             /* 00: address of the flat image in the ROM */
    .long 0             /* 04: its size, a multiple of 4 */
    .long 0             /* 08: entry point */
    .long 0
rom_command_line:       /* 10: text, zero-terminated */
    .skip 0x400 - 0x10
rom_start:
    cli
    mov $2, %al
    out %al, $0x92      /* A20 on */
    lgdtl %cs:(gdt_descriptor - rom_base)
    mov %cr0, %eax
    and $0x9fffffff, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x08, $1f
    .code32
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    cld
    mov rom_header, %esi
    mov rom_header + 4, %ecx
    shr $2, %ecx
    mov $0x100000, %edi
    rep movsl
    /* Multiboot information at 500H: memory and command line. */
    movl $5, 0x500
    movl $639, 0x504
    movl $0x1fc00, 0x508
    movl $rom_command_line, 0x510
    mov $0x500, %ebx
    mov $0x2badb002, %eax
    mov rom_header + 8, %ecx
    jmp *%ecx
    .balign 8
gdt_rom:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_descriptor:
    .word 23
    .long gdt_rom
    .org 0xfff0
    .code16
    jmp rom_start
    .org 0x10000
