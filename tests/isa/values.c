/*
 * tests/isa/values.c -- random and edge values of every element type.
 */
#include <string.h>
#include "isa.h"

uint64_t value_gpr(struct rng *r)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x100000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0xffffffffffffffff,
                                     0xfffffffffffffffe,
                                     0xffffffff80000000,
                                     10,
                                     0x99};
    switch (rng_below(r, 8)) {
    case 0:
    case 1:
        return edges[rng_below(r, ARRAY_LEN(edges))];
    case 2:
        return rng_below(r, 256);
    case 3:
        return 1ull << rng_below(r, 64);
    case 4:
        return (uint64_t)(int64_t)(int32_t)rng_next(r);
    case 5:
        return (uint32_t)rng_next(r);
    default:
        return rng_next(r);
    }
}

static uint32_t value_f32(struct rng *r)
{
    static const uint32_t edges[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000,
                                     0x7fc00000, 0xffc00000, 0x7f800001, 0xffbfffff, 0x00000001, 0x807fffff,
                                     0x00800000, 0x7f7fffff, 0xff7fffff, 0x4f000000, 0xcf000000, 0x3f000000,
                                     0x40490fdb, 0x5f000000, 0xdf000000, 0x4effffff};
    switch (rng_below(r, 4)) {
    case 0:
        return edges[rng_below(r, ARRAY_LEN(edges))];
    case 1: /* near one */
        return (uint32_t)(0x3f800000 + (int32_t)((rng_next(r) & 0x1ffffff) - 0xffffff)) |
               (uint32_t)(rng_next(r) << 31);
    case 2: /* about the size of integers */
        return (uint32_t)((127 + rng_below(r, 66)) << 23 | (rng_next(r) & 0x807fffff));
    default:
        return (uint32_t)rng_next(r);
    }
}

static uint64_t value_f64(struct rng *r)
{
    static const uint64_t edges[] = {0,
                                     0x8000000000000000,
                                     0x3ff0000000000000,
                                     0xbff0000000000000,
                                     0x7ff0000000000000,
                                     0xfff0000000000000,
                                     0x7ff8000000000000,
                                     0xfff8000000000000,
                                     0x7ff0000000000001,
                                     0xfff7ffffffffffff,
                                     1,
                                     0x800fffffffffffff,
                                     0x0010000000000000,
                                     0x7fefffffffffffff,
                                     0x41e0000000000000,
                                     0xc1e0000000000000,
                                     0x43e0000000000000,
                                     0xc3e0000000000000,
                                     0x3fe0000000000000,
                                     0x41dfffffffc00000,
                                     0x36a0000000000000,
                                     0x47efffffe0000000,
                                     0x47f0000000000000,
                                     0x3810000000000000};
    switch (rng_below(r, 4)) {
    case 0:
        return edges[rng_below(r, ARRAY_LEN(edges))];
    case 1:
        return (uint64_t)(1023 - 4 + rng_below(r, 8)) << 52 | (rng_next(r) & 0x800fffffffffffff);
    case 2:
        return (uint64_t)(1023 - 150 + rng_below(r, 300)) << 52 | (rng_next(r) & 0x800fffffffffffff);
    default:
        return rng_next(r);
    }
}

void value_f80(struct rng *r, uint8_t *b)
{
    uint64_t m = rng_next(r) | 1ull << 63;
    uint16_t e = 0x3fff, sign = (uint16_t)(rng_next(r) << 15);
    switch (rng_below(r, 16)) {
    case 0:
        m = 0;
        e = 0;
        break; /* zero */
    case 1:
        m = 1ull << 63;
        break; /* one */
    case 2:
        m = 1ull << 63;
        e = 0x7fff;
        break; /* infinity */
    case 3:
        m = rng_next(r) | 3ull << 62;
        e = 0x7fff;
        break; /* quiet NaN */
    case 4:
        m = (rng_next(r) & ~(1ull << 62)) | 1ull << 63 | 1;
        e = 0x7fff;
        break; /* signalling NaN */
    case 5:
        m = rng_next(r) >> (1 + rng_below(r, 62));
        e = 0;
        break; /* denormal */
    case 6:
        m = rng_next(r) | 1ull << 63;
        e = 0;
        break; /* pseudo-denormal */
    case 7:
        m = rng_next(r) >> 1;
        e = (uint16_t)rng_next(r) & 0x7fff;
        break; /* unsupported */
    case 8:
        e = (uint16_t)rng_next(r) & 0x7fff;
        break;
    case 9:
        m = (uint64_t)rng_below(r, 2) << 63 | 1ull << 63;
        e = (uint16_t)(0x7ffe - rng_below(r, 2));
        break;
    case 10:
        e = (uint16_t)(1 + rng_below(r, 3));
        break;
    case 11:
    case 12:
        e = (uint16_t)(0x3fff + rng_below(r, 70));
        break; /* sizes of integers */
    case 13:
        e = (uint16_t)(0x3fff + rng_below(r, 20));
        m &= ~0ull << (40 + rng_below(r, 23));
        break; /* integers */
    default:
        e = (uint16_t)(0x3fff - 4 + rng_below(r, 8));
        break;
    }
    e |= sign;
    memcpy(b, &m, 8);
    memcpy(b + 8, &e, 2);
}

/* Fills with values of an operand's element type. */
void fill_values(struct rng *r, uint8_t *b, unsigned n, ZydisElementType type, unsigned bits)
{
    if (rng_chance(r, 15))
        type = ZYDIS_ELEMENT_TYPE_INVALID;
    unsigned step = 8;
    for (unsigned i = 0; i < n; i += step) {
        uint8_t v[16] = {0};
        switch (type) {
        case ZYDIS_ELEMENT_TYPE_FLOAT32:
            step = 4;
            store_le(v, value_f32(r), 4);
            break;
        case ZYDIS_ELEMENT_TYPE_FLOAT64:
            step = 8;
            store_le(v, value_f64(r), 8);
            break;
        case ZYDIS_ELEMENT_TYPE_FLOAT80:
            step = 10;
            value_f80(r, v);
            break;
        case ZYDIS_ELEMENT_TYPE_LONGBCD:
            step = 10;
            store_le(v, rng_next(r) & 0x7777777777777777ull, 8);
            store_le(v + 8, rng_next(r) & (rng_chance(r, 90) ? 0x8077 : 0xffff), 2);
            break;
        case ZYDIS_ELEMENT_TYPE_INT:
        case ZYDIS_ELEMENT_TYPE_UINT:
            step = bits == 8 ? 1 : bits == 16 ? 2 : bits == 32 ? 4 : 8;
            store_le(v, value_gpr(r), 8);
            if (rng_chance(r, 30))
                store_le(v, rng_next(r) >> (64 - step * 8), 8);
            break;
        default:
            step = 8;
            store_le(v, rng_next(r), 8);
            break;
        }
        memcpy(b + i, v, MIN(step, n - i));
    }
}
