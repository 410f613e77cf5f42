/*
 * base/types.h -- the scalar types and bit helpers that every folder shares.
 *
 * Promise of base/: leaf helpers that know nothing of processors, memory or devices.
 */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gpa_t; /* guest-physical address */
typedef uint64_t gva_t; /* linear address */

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096u
#define PAGE_MASK  4095ull

#define BIT(n)             (1ull << (n))
#define BITS(hi, lo)       ((~0ull >> (63 - (hi))) & (~0ull << (lo)))
#define ARRAY_LEN(a)       (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)          ((a) < (b) ? (a) : (b))
#define MAX(a, b)          ((a) > (b) ? (a) : (b))
#define ALIGN_DOWN(x, a)   ((x) & -(uint64_t)(a))
#define ALIGN_UP(x, a)     ALIGN_DOWN((x) + (a)-1, a)
#define likely(x)          __builtin_expect(!!(x), 1)
#define unlikely(x)        __builtin_expect(!!(x), 0)
#define CONTAINER(p, t, m) ((t *)(void *)&((char *)(p))[-(ptrdiff_t)offsetof(t, m)])
#define NORETURN           _Noreturn
#define PRINTF_LIKE(f, a)  __attribute__((format(printf, f, a)))

/* Mask of the low `size` bytes (1, 2, 4 or 8). */
static inline uint64_t size_mask(unsigned size)
{
    return size >= 8 ? ~0ull : (1ull << (size * 8)) - 1;
}

/* Little-endian loads and stores of 1, 2, 4 or 8 bytes at an unaligned host address. */
static inline uint64_t load_le(const void *p, unsigned size)
{
    uint64_t v = 0;
    __builtin_memcpy(&v, p, size);
    return v;
}

static inline void store_le(void *p, uint64_t v, unsigned size)
{
    __builtin_memcpy(p, &v, size);
}

#endif
