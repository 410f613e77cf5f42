/*
 * lib/vmxentry.S -- VM entry and the host's RIP for VM exits.
 */
    .text
    .globl vmx_enter_raw, vmx_exit_point
/* enum vmx_result vmx_enter_raw(struct vmx_registers *r, bool launch) */
vmx_enter_raw:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $0x6c14, %eax           /* HOST_RSP */
    vmwrite %rsp, %rax
    test %esi, %esi
    mov 0(%rdi), %rax
    mov 8(%rdi), %rbx
    mov 16(%rdi), %rcx
    mov 24(%rdi), %rdx
    mov 32(%rdi), %rbp
    mov 40(%rdi), %rsi
    mov 56(%rdi), %r8
    mov 64(%rdi), %r9
    mov 72(%rdi), %r10
    mov 80(%rdi), %r11
    mov 88(%rdi), %r12
    mov 96(%rdi), %r13
    mov 104(%rdi), %r14
    mov 112(%rdi), %r15
    mov 48(%rdi), %rdi
    jz 1f
    vmlaunch
    jmp 2f
1:  vmresume
2:  mov $1, %eax                /* CF: VMfailInvalid */
    jc 3f
    mov $2, %eax
3:  pop %rdi
    jmp 4f
vmx_exit_point:
    push %rdi                   /* the guest's RDI, below the saved pointer */
    mov 8(%rsp), %rdi
    mov %rax, 0(%rdi)
    mov %rbx, 8(%rdi)
    mov %rcx, 16(%rdi)
    mov %rdx, 24(%rdi)
    mov %rbp, 32(%rdi)
    mov %rsi, 40(%rdi)
    pop 48(%rdi)
    mov %r8, 56(%rdi)
    mov %r9, 64(%rdi)
    mov %r10, 72(%rdi)
    mov %r11, 80(%rdi)
    mov %r12, 88(%rdi)
    mov %r13, 96(%rdi)
    mov %r14, 104(%rdi)
    mov %r15, 112(%rdi)
    pop %rdi
    xor %eax, %eax
4:  pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
