/*
 * tests/bench/compute/memory.c -- loads and stores: in 64 KB, along pointers, at random, and by string
 * instructions.
 */
#include "compute.h"

/* -- Load and store in 64 KB --------------------------------------------------------------------------- */

enum { LOADSTORE_COUNT = 65536 / 4, LOADSTORE_STEPS = 10000000 };
static uint32_t *loadstore_array;

void loadstore_prepare(void)
{
    loadstore_array = memory_new(LOADSTORE_COUNT * sizeof *loadstore_array);
}

uint64_t loadstore_unit(void)
{
    uint32_t *a = loadstore_array;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < LOADSTORE_COUNT; i++)
        a[i] = i;
    for (uint32_t i = 0; i < LOADSTORE_STEPS; i++)
        a[i % LOADSTORE_COUNT] = a[(i * 5 + 77) % LOADSTORE_COUNT] + i;
    for (uint32_t i = 0; i < LOADSTORE_COUNT; i += 31)
        sum = mix(sum, a[i]);
    return sum;
}

/* -- Pointer chase: one cycle through all lines, in random order --------------------------------------- */

struct node {
    struct node *next;
    uint64_t value;
    char rest[48]; /* a line of 64 bytes */
};
static struct node *chase_nodes;

static void chase_prepare(uint32_t count)
{
    uint64_t seed = 8;
    struct node *nodes = memory_new(count * sizeof *nodes);
    uint32_t *order = memory_new(count * sizeof *order);
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)((random_next(&seed) >> 32) * i >> 32);
        uint32_t t = order[i];
        order[i] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < count; i++) {
        nodes[order[i]].next = &nodes[order[(i + 1) % count]];
        nodes[order[i]].value = i;
    }
    chase_nodes = &nodes[order[0]];
}

void chase4m_prepare(void)
{
    chase_prepare((4 << 20) / sizeof(struct node));
}

void chase64m_prepare(void)
{
    chase_prepare((64 << 20) / sizeof(struct node));
}

static uint64_t chase(int steps)
{
    const struct node *node = chase_nodes;
    while (steps-- > 0)
        node = node->next;
    return node->value;
}

uint64_t chase4m_unit(void)
{
    return chase(300000);
}

uint64_t chase64m_unit(void)
{
    return chase(100000);
}

/* -- Random access in 16 MB ---------------------------------------------------------------------------- */

enum { RANDOM_COUNT = (16 << 20) / 8, RANDOM_STEPS = 700000 };
static uint64_t *random_array;

void random16m_prepare(void)
{
    random_array = memory_new(RANDOM_COUNT * sizeof *random_array);
}

/* What is read depends on the addresses alone, so the array need not be cleared between units. */
uint64_t random16m_unit(void)
{
    uint64_t seed = 9, sum = 0;
    for (int i = 0; i < RANDOM_STEPS; i++) {
        uint64_t at = random_next(&seed) >> 40 & (RANDOM_COUNT - 1);
        random_array[at] |= at * 3;
        sum += random_array[at ^ 1] | (at ^ 1) * 3;
    }
    return sum;
}

/* -- String instructions of 4 KB ----------------------------------------------------------------------- */

enum { STRING_ROUNDS = 20000, STRING_SIZE = 4096 };
static uint8_t *string_from, *string_to;

void strings_prepare(void)
{
    uint64_t seed = 10;
    string_from = memory_new(STRING_SIZE);
    string_to = memory_new(STRING_SIZE);
    for (int i = 0; i < STRING_SIZE; i++)
        string_from[i] = (uint8_t)(random_next(&seed) >> 35);
}

static uint64_t string_sum(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < STRING_SIZE; i++)
        sum = mix(sum, string_to[i]);
    return sum;
}

uint64_t movs4k_unit(void)
{
    for (int round = 0; round < STRING_ROUNDS; round++) {
        void *to = string_to;
        const void *from = string_from;
        uint64_t count = STRING_SIZE;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    }
    return string_sum();
}

uint64_t stos4k_unit(void)
{
    for (int round = 0; round < STRING_ROUNDS; round++) {
        void *to = string_to;
        uint64_t count = STRING_SIZE;
        __asm__ volatile("rep stosb" : "+D"(to), "+c"(count) : "a"(round) : "memory");
    }
    return string_sum();
}
