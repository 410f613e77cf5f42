/*
 * tests/bench/nested/code.S -- what the guest runs. RSI counts the loops; see struct registers for the rest.
 */
    .section .note.GNU-stack, "", @progbits
    .text
    .globl code_begin, code_end, code_cpuid, code_ports, code_touch, code_cr3, code_walk
code_begin:

code_cpuid:
1:  xor %eax, %eax
    xor %ecx, %ecx
    cpuid
    dec %rsi
    jnz 1b
    jmp done

code_ports:
1:  out %al, $0xf6
    dec %rsi
    jnz 1b
    jmp done

/* A byte, R9, on each of RSI pages from RDI. */
code_touch:
1:  movb %r9b, (%rdi)
    add $4096, %rdi
    dec %rsi
    jnz 1b
    jmp done

/* Two changes a loop: to RDX, and back. */
code_cr3:
    mov %cr3, %rax
1:  mov %rdx, %cr3
    mov %rax, %cr3
    dec %rsi
    jnz 1b
    jmp done

/*
 * Reads at random in RDX + 1 bytes (a power of two) from RDI. The memory holds zeros; each address depends on the
 * last read.
 */
code_walk:
    movabs $6364136223846793005, %r10
    movabs $1442695040888963407, %r11
1:  imul %r10, %r9
    add %r11, %r9
    mov %r9, %rcx
    shr $30, %rcx
    and %rdx, %rcx
    and $~7, %ecx
    xor (%rdi, %rcx), %r9
    dec %rsi
    jnz 1b

done:
    test %r8, %r8
    jnz 2f
    out %al, $0xf5
    hlt
2:  ret
code_end:
