/*
 * lib/start.S -- from the Multiboot loader (32-bit protected mode) to guest_main() in 64-bit mode.
 *
 * The first 4 GB are mapped one to one with 2 MB pages, supervisor only; pages of section .user also for ring 3.
 * CR0 = PG | WP | NE | ET | MP | PE, CR4 = PAE, EFER = LME | NXE.
 */
    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0x3, -(0x1badb002 + 0x3)

    .text
    .code32
    .globl guest_start
guest_start:
    cli
    cld
    mov $boot_stack_top, %esp
    mov %eax, multiboot_magic
    mov %ebx, multiboot_info
    /* Page directory: 2048 entries of 2 MB. */
    mov $boot_pd, %edi
    mov $0x83, %eax
    xor %edx, %edx
1:  mov %eax, %ecx
    and $0xffe00000, %ecx
    cmp $user_begin, %ecx
    jb 2f
    cmp $user_end, %ecx
    jae 2f
    or $4, %eax
2:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    and $~4, %eax
    add $8, %edi
    add $0x200000, %eax
    jnc 1b
    mov $boot_pd + 7, %eax
    mov $boot_pdpt, %edi
    mov $4, %ecx
3:  mov %eax, (%edi)
    add $8, %edi
    add $4096, %eax
    loop 3b
    movl $boot_pdpt + 7, boot_pml4
    call enter_long
    .code64
    mov $boot_stack_top, %rsp
    call library_start
    call guest_main
    call guest_finish

/* 32-bit, paging off -> 64-bit, returning to the caller of this function in 64-bit mode (return address 32 bits). */
    .code32
    .globl enter_long
enter_long:
    pop %esi
    mov $0x20, %eax
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    mov $0x900, %eax
    xor %edx, %edx
    wrmsr
    lgdt gdt_pointer32
    mov $0x80010033, %eax
    mov %eax, %cr0
    ljmp $0x08, $1f
    .code64
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    jmp *%rsi

    .data
    .balign 16
    .globl gdt, gdt_pointer32, gdt_pointer
gdt:
    .quad 0
    .quad 0x00af9b000000ffff /* 08 code64 */
    .quad 0x00cf93000000ffff /* 10 data */
    .quad 0x00cffb000000ffff /* 18 user code32 */
    .quad 0x00cff3000000ffff /* 20 user data */
    .quad 0x00affb000000ffff /* 28 user code64 */
    .quad 0x00cf9b000000ffff /* 30 code32 */
    .quad 0x00009b000000ffff /* 38 code16 */
    .quad 0x000093000000ffff /* 40 data16 */
    .quad 0, 0               /* 48 TSS, filled by library_start */
    .fill 53, 8, 0
gdt_pointer32:
    .word 0x1ff
    .long gdt
    .balign 8
gdt_pointer:
    .word 0x1ff
    .quad gdt
    .globl multiboot_info, multiboot_magic
    .balign 8
multiboot_info: .quad 0
multiboot_magic: .quad 0

    .bss
    .balign 4096
    .globl boot_pml4, boot_pdpt, boot_pd
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4 * 4096
    .skip 32768
    .globl boot_stack_top
boot_stack_top:

/* -- Exceptions and interrupts ------------------------------------------------------------------ */
    .text
    .code64
    .balign 16
    .globl trap_stubs
trap_stubs: /* 256 stubs of 16 bytes */
    .set vector, 0
    .rept 256
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
    .else
    pushq $0
    .endif
    pushq $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
    .balign 16
trap_common:
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    call trap_handle
    mov %rbx, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq

    .globl mark_set
mark_set:
    mov %rbx, 0(%rdi)
    mov %rbp, 8(%rdi)
    mov %r12, 16(%rdi)
    mov %r13, 24(%rdi)
    mov %r14, 32(%rdi)
    mov %r15, 40(%rdi)
    lea 8(%rsp), %rax
    mov %rax, 48(%rdi)
    mov (%rsp), %rax
    mov %rax, 56(%rdi)
    xor %eax, %eax
    ret
    .globl mark_jump
mark_jump:
    mov 0(%rdi), %rbx
    mov 8(%rdi), %rbp
    mov 16(%rdi), %r12
    mov 24(%rdi), %r13
    mov 32(%rdi), %r14
    mov 40(%rdi), %r15
    mov 48(%rdi), %rsp
    mov $0x10, %eax
    mov %eax, %ss
    mov %eax, %ds
    mov %eax, %es
    pushq $2
    popfq
    mov $1, %eax
    jmp *56(%rdi)

/* excursion_enter(struct excursion *): IRETQ to it; the way back is INT 80H (trap.c). */
    .globl excursion_enter
excursion_enter:
    pushq 96(%rdi)  /* ss */
    pushq 88(%rdi)  /* rsp */
    pushq 80(%rdi)  /* rflags */
    pushq 72(%rdi)  /* cs */
    pushq 64(%rdi)  /* rip */
    mov 104(%rdi), %rax
    mov %eax, %ds
    mov %eax, %es
    mov 0(%rdi), %rax
    mov 8(%rdi), %rbx
    mov 16(%rdi), %rcx
    mov 24(%rdi), %rdx
    mov 32(%rdi), %rsi
    mov 48(%rdi), %rbp
    mov 56(%rdi), %r8
    mov 40(%rdi), %rdi
    iretq
