/*
 * tests/bench/compute/control.c -- control flow: a bytecode interpreter, unpredictable branches, calls,
 * indirect calls.
 */
#include "compute.h"

/* -- Bytecode: a register machine that runs a sieve ---------------------------------------------------- */

enum opcode { OP_SET, OP_ADD, OP_ADDI, OP_LOAD, OP_STORE, OP_JLT, OP_JNZ, OP_JMP, OP_XOR, OP_END };
struct instruction {
    uint8_t op, a, b;
    int32_t value;
};
enum { SIEVE_SIZE = 20000, BYTECODE_ROUNDS = 12 };

/* r0: i   r1: step multiple   r2: flag   r3: count and sum of primes   r4: size   r5: 1 */
static const struct instruction sieve[] = {
    {OP_SET, 0, 0, 2},          /* 0 */
    {OP_SET, 3, 0, 0},          /* 1 */
    {OP_SET, 4, 0, SIEVE_SIZE}, /* 2 */
    {OP_SET, 5, 0, 1},          /* 3 */
    {OP_LOAD, 2, 0, 0},         /* 4: r2 = memory[r0] */
    {OP_JNZ, 2, 0, 12},         /* 5 */
    {OP_ADD, 3, 0, 0},          /* 6: a prime */
    {OP_SET, 1, 0, 0},          /* 7 */
    {OP_ADD, 1, 0, 0},          /* 8: r1 += r0 */
    {OP_JLT, 4, 1, 12},         /* 9: past the end */
    {OP_STORE, 5, 1, 0},        /* 10: memory[r1] = 1 */
    {OP_JMP, 0, 0, 8},          /* 11 */
    {OP_ADDI, 0, 0, 1},         /* 12 */
    {OP_XOR, 3, 0, 0},          /* 13 */
    {OP_JLT, 0, 4, 4},          /* 14 */
    {OP_END, 0, 0, 0},          /* 15 */
};

uint64_t bytecode_unit(void)
{
    static int64_t memory[SIEVE_SIZE + 1];
    uint64_t sum = 0;
    for (int round = 0; round < BYTECODE_ROUNDS; round++) {
        int64_t r[8] = {0};
        for (int i = 0; i <= SIEVE_SIZE; i++)
            memory[i] = 0;
        for (const struct instruction *pc = sieve; pc->op != OP_END;) {
            const struct instruction *in = pc++;
            switch ((enum opcode)in->op) {
            case OP_SET:
                r[in->a] = in->value;
                break;
            case OP_ADD:
                r[in->a] += r[in->b];
                break;
            case OP_ADDI:
                r[in->a] += in->value;
                break;
            case OP_LOAD:
                r[in->a] = memory[r[in->b]];
                break;
            case OP_STORE:
                memory[r[in->b]] = r[in->a];
                break;
            case OP_JLT:
                if (r[in->a] < r[in->b])
                    pc = sieve + in->value;
                break;
            case OP_JNZ:
                if (r[in->a] != 0)
                    pc = sieve + in->value;
                break;
            case OP_JMP:
                pc = sieve + in->value;
                break;
            case OP_XOR:
                r[in->a] ^= r[in->b];
                break;
            case OP_END:
                break;
            }
        }
        sum = mix(sum, (uint64_t)r[3]);
    }
    return sum;
}

/* -- Branches that no predictor knows ------------------------------------------------------------------ */

enum { BRANCH_SIZE = 1 << 18, BRANCH_ROUNDS = 10 };
static uint8_t *branch_data;

void branches_prepare(void)
{
    uint64_t seed = 6;
    branch_data = memory_new(BRANCH_SIZE);
    for (int i = 0; i < BRANCH_SIZE; i++)
        branch_data[i] = (uint8_t)(random_next(&seed) >> 30);
}

uint64_t branches_unit(void)
{
    uint64_t a = 0, b = 1, c = 2;
    for (int round = 0; round < BRANCH_ROUNDS; round++) {
        for (int i = 0; i < BRANCH_SIZE; i++) {
            uint8_t x = branch_data[i];
            /* the empty statements keep the compiler from conditional moves */
            if (x & 1) {
                __asm__ volatile("");
                a += x;
            } else {
                __asm__ volatile("");
                b ^= a + x;
            }
            if (x & 64) {
                __asm__ volatile("");
                c += b;
            }
        }
    }
    return mix(mix(a, b), c);
}

/* -- Call and return ----------------------------------------------------------------------------------- */

static __attribute__((noinline)) uint64_t fib(uint64_t n)
{
    return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

uint64_t calls_unit(void)
{
    volatile uint64_t n = 32;
    return fib(n);
}

/* -- Indirect calls: 16 targets in a sequence of 1,024 ------------------------------------------------- */

#define TARGET(n, expression)                                                                                \
    static uint64_t target_##n(uint64_t x)                                                                   \
    {                                                                                                        \
        return expression;                                                                                   \
    }
TARGET(0, x + 1)
TARGET(1, x * 3)
TARGET(2, x ^ x >> 7)
TARGET(3, x - 11)
TARGET(4, x << 1 | x >> 63)
TARGET(5, ~x)
TARGET(6, x + (x << 3))
TARGET(7, x ^ 0x5555)
TARGET(8, x + 0x123456789)
TARGET(9, x * 5 + 1)
TARGET(10, x ^ x << 9)
TARGET(11, x - (x >> 2))
TARGET(12, x >> 5 | x << 59)
TARGET(13, -x)
TARGET(14, x + (x >> 11))
TARGET(15, x ^ 0xaaaa0000)

static uint64_t (*const targets[16])(uint64_t) = {
    target_0, target_1, target_2,  target_3,  target_4,  target_5,  target_6,  target_7,
    target_8, target_9, target_10, target_11, target_12, target_13, target_14, target_15,
};
enum { INDIRECT_SEQUENCE = 1024, INDIRECT_ROUNDS = 2000 };
static uint8_t indirect_sequence[INDIRECT_SEQUENCE];

void indirect_prepare(void)
{
    uint64_t seed = 7;
    for (int i = 0; i < INDIRECT_SEQUENCE; i++)
        indirect_sequence[i] = random_next(&seed) >> 33 & 15;
}

uint64_t indirect_unit(void)
{
    uint64_t x = 1;
    for (int round = 0; round < INDIRECT_ROUNDS; round++)
        for (int i = 0; i < INDIRECT_SEQUENCE; i++)
            x = targets[indirect_sequence[i]](x);
    return x;
}
