/*
 * lib/legacy.S -- leaving IA-32e mode and coming back: protected mode (legacy_run), real mode (real_run), and the
 * start of application processors.
 *
 * Low memory: 7000H application processors' start, 8000H way into and out of real mode, 9000H real-mode code,
 * real-mode stack below 7000H.
 */
#define REAL_PAGE 0x8000
#define AP_PAGE 0x7000
#define LOW(label) (label - real_page + REAL_PAGE)
    /* struct legacy */
#define L_CR0 0
#define L_CR3 4
#define L_CR4 8
#define L_EFER 12
#define L_EIP 16
#define L_CS 20
#define L_EFLAGS 24
#define L_ESP 28
#define L_SS 32
#define L_DS 36
#define L_EAX 40
#define L_VECTOR 68
#define L_ERROR 72
#define L_CR2 76
#define L_OUT_EIP 80
#define L_OUT_CS 84
#define L_OUT_EFLAGS 88
#define L_OUT_ESP 92

    .text
    .code64
    .globl legacy_enter, real_enter
real_enter:                     /* (struct real *) */
    mov $real_from_protected, %eax
    jmp 1f
legacy_enter:                   /* (struct legacy *) */
    mov $legacy_go, %eax
1:  push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    mov %edi, legacy_now
    mov %eax, legacy_target
    mov %rsp, legacy_rsp
    mov %cr0, %rax
    mov %rax, legacy_cr0
    mov %cr4, %rax
    mov %rax, legacy_cr4
    mov %cr3, %rax
    mov %rax, legacy_cr3
    mov $0xc0000080, %ecx
    rdmsr
    mov %eax, legacy_efer
    pushq $0x30
    pushq $2f
    lretq
    .code32
2:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $legacy_stack_top, %esp
    mov $0x80010033 & 0x7fffffff, %eax
    mov %eax, %cr0              /* PG = 0: IA-32e mode ends */
    mov $0xc0000080, %ecx
    xor %eax, %eax
    xor %edx, %edx
    wrmsr
    xor %eax, %eax
    mov %eax, %cr4
    jmp *legacy_target

/* -- Protected mode ---------------------------------------------------------------------------- */
legacy_go:
    lidt idt32_pointer
    movl $legacy_stack_top, tss32 + 4
    movl $0x10, tss32 + 8
    andb $~2, gdt + 0x58 + 5    /* not busy */
    mov $0x58, %eax
    ltr %ax
    mov legacy_now, %ebp
    mov L_EFER(%ebp), %eax
    xor %edx, %edx
    mov $0xc0000080, %ecx
    wrmsr
    mov L_CR4(%ebp), %eax
    mov %eax, %cr4
    mov L_CR3(%ebp), %eax
    mov %eax, %cr3
    mov L_CR0(%ebp), %eax
    or $0x31, %eax
    mov %eax, %cr0
    jmp 1f
1:  testb $3, L_CS(%ebp)
    jz 2f
    pushl L_SS(%ebp)
    pushl L_ESP(%ebp)
    jmp 3f
2:  mov L_SS(%ebp), %ss
    mov L_ESP(%ebp), %esp
3:  pushl L_EFLAGS(%ebp)
    pushl L_CS(%ebp)
    pushl L_EIP(%ebp)
    mov L_EAX+4(%ebp), %ebx
    mov L_EAX+8(%ebp), %ecx
    mov L_EAX+12(%ebp), %edx
    mov L_EAX+16(%ebp), %esi
    mov L_EAX+20(%ebp), %edi
    mov L_EAX(%ebp), %eax
    pushl L_DS(%ebp)
    pushl L_EAX+24(%ebp)
    pop %ebp
    pop %es
    push %es
    pop %ds
    iretl

    .balign 16
    .globl trap_stubs32
trap_stubs32:                   /* vectors 0..31, then 80H; 16 bytes each */
    .set vector, 0
    .rept 33
    .balign 16
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21)
    .else
    pushl $0
    .endif
    .if vector == 32
    pushl $0x80
    .else
    pushl $vector
    .endif
    jmp legacy_trap
    .set vector, vector + 1
    .endr
    .balign 16
legacy_trap:                    /* vector, error, eip, cs, eflags [, esp, ss] */
    cld
    push %ds
    push %ebp
    mov $0x10, %ebp
    mov %ebp, %ds
    mov %ebp, %es
    mov legacy_now, %ebp
    mov %eax, L_EAX(%ebp)
    mov %ebx, L_EAX+4(%ebp)
    mov %ecx, L_EAX+8(%ebp)
    mov %edx, L_EAX+12(%ebp)
    mov %esi, L_EAX+16(%ebp)
    mov %edi, L_EAX+20(%ebp)
    pop L_EAX+24(%ebp)
    pop L_DS(%ebp)
    pop L_VECTOR(%ebp)
    pop L_ERROR(%ebp)
    pop L_OUT_EIP(%ebp)
    pop L_OUT_CS(%ebp)
    pop L_OUT_EFLAGS(%ebp)
    mov %esp, L_OUT_ESP(%ebp)
    testb $3, L_OUT_CS(%ebp)
    jz 1f
    pop L_OUT_ESP(%ebp)
1:  mov %cr2, %eax
    mov %eax, L_CR2(%ebp)
    .globl legacy_back
legacy_back:
    mov $0x10, %eax
    mov %eax, %ss
    mov $legacy_stack_top, %esp
    mov $0x33, %eax
    mov %eax, %cr0              /* paging off */
    call enter_long
    .code64
    mov legacy_rsp, %rsp
    mov legacy_efer, %eax
    and $~0x400, %eax
    xor %edx, %edx
    mov $0xc0000080, %ecx
    wrmsr
    mov legacy_cr4, %rax
    mov %rax, %cr4
    mov legacy_cr3, %rax
    mov %rax, %cr3
    mov legacy_cr0, %rax
    mov %rax, %cr0
    lgdt gdt_pointer
    lidt idt_pointer
    andb $~2, gdt + 0x48 + 5
    mov $0x48, %eax
    ltr %ax
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret

/* -- Real mode --------------------------------------------------------------------------------- */
    .code32
real_from_protected:
    mov $0x40, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    ljmp $0x38, $REAL_PAGE

    .data
    .balign 16
    .globl real_page, real_page_end
    .code16
real_page:
    mov %cr0, %eax
    and $~1, %eax
    mov %eax, %cr0
    ljmpw $0, $LOW(1f)
1:  xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov $0x6ff0, %esp
    lidtl LOW(real_idt)
    mov LOW(real_registers), %eax
    mov LOW(real_registers)+4, %ebx
    mov LOW(real_registers)+8, %ecx
    mov LOW(real_registers)+12, %edx
    mov LOW(real_registers)+16, %esi
    mov LOW(real_registers)+20, %edi
    lcallw $0x900, $0
    pushw $-1                   /* as if vector FFFFH, with a frame below */
    jmp real_leave
    .globl real_stubs
real_stubs:                     /* 129 stubs of 6 bytes */
    .set vector, 0
    .rept 129
    pushw $(vector + 0x100)     /* never the 8-bit form */
    .byte 0xe9
    .word real_leave - . - 2
    .set vector, vector + 1
    .endr
real_leave:
    cli
    push %ds
    pushw $0
    pop %ds
    mov %eax, LOW(real_registers)
    mov %ebx, LOW(real_registers)+4
    mov %ecx, LOW(real_registers)+8
    mov %edx, LOW(real_registers)+12
    mov %esi, LOW(real_registers)+16
    mov %edi, LOW(real_registers)+20
    pop %ax                     /* DS */
    pop %ax                     /* vector */
    mov %ax, LOW(real_vector)
    pop %ax
    mov %ax, LOW(real_ip)
    lgdtl LOW(real_gdt)
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x30, $legacy_from_real
    .balign 4
    .globl real_registers, real_vector, real_ip
real_registers: .skip 24
real_vector: .word 0
real_ip: .word 0
real_idt: .word 0x3ff
    .long 0
real_gdt: .word 0x1ff
    .long gdt
real_page_end:

    .text
    .code32
legacy_from_real:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    jmp legacy_back

/* -- Application processors -------------------------------------------------------------------- */
    .data
    .balign 16
    .globl ap_page, ap_page_end
    .code16
ap_page:
    cli
    lgdtl %cs:(ap_gdt - ap_page)
    mov $0x31, %eax
    mov %eax, %cr0
    ljmpl $0x30, $ap_start32
ap_gdt: .word 0x1ff
    .long gdt
ap_page_end:

    .text
    .code32
ap_start32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov ap_stack, %esp
    call enter_long
    .code64
    lgdt gdt_pointer
    lidt idt_pointer
    call ap_main

    .data
    .balign 8
    .globl ap_stack
ap_stack: .quad 0
legacy_rsp: .quad 0
legacy_cr0: .quad 0
legacy_cr3: .quad 0
legacy_cr4: .quad 0
legacy_efer: .quad 0
legacy_now: .long 0
legacy_target: .long 0
idt_pointer:
    .word 0xfff
    .quad idt
    .balign 4
    .globl tss32
idt32_pointer:
    .word 0x407
    .long idt32
    .balign 16
tss32: .skip 104
    .bss
    .balign 16
    .globl idt32
idt32: .skip 0x408
    .balign 16
    .skip 4096
legacy_stack_top:
