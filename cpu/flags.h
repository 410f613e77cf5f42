/*
 * cpu/flags.h -- lazy arithmetic flags: two words from which CF, PF, AF, ZF, SF and OF are made on demand.
 *
 *   cc_result   the result, sign-extended to 64 bits:  ZF = (cc_result == 0), SF = bit 63 ^ SFD,
 *               PF = even parity of (low byte ^ PDB)
 *   cc_aux      63 CF    62 CF ^ OF    15:8 PDB    3 AF    0 SFD
 * Ordinary results leave SFD and PDB zero; they exist so that any combination can be set by POPF.
 */
#ifndef CPU_FLAGS_H
#define CPU_FLAGS_H

#include "cpu/cpu.h"

#define AUX_CF  BIT(63)
#define AUX_PO  BIT(62)
#define AUX_AF  BIT(3)
#define AUX_SFD BIT(0)

static inline unsigned flag_cf(const struct cpu *c)
{
    return (unsigned)(c->cc_aux >> 63);
}
static inline unsigned flag_of(const struct cpu *c)
{
    return (unsigned)((c->cc_aux >> 63) ^ (c->cc_aux >> 62 & 1));
}
static inline unsigned flag_zf(const struct cpu *c)
{
    return c->cc_result == 0;
}
static inline unsigned flag_sf(const struct cpu *c)
{
    return (unsigned)((c->cc_result >> 63) ^ (c->cc_aux & 1));
}
static inline unsigned flag_af(const struct cpu *c)
{
    return (unsigned)(c->cc_aux >> 3 & 1);
}
static inline unsigned flag_pf(const struct cpu *c)
{
    unsigned x = (unsigned)(c->cc_result ^ c->cc_aux >> 8) & 0xff;
    x ^= x >> 4;
    return (0x9669u >> (x & 15)) & 1;
}

/* Sets all six from a RFLAGS image. */
static inline void flags_set_arith(struct cpu *c, uint64_t f)
{
    unsigned cf = f & FLAG_CF, of = (f & FLAG_OF) != 0, zf = (f & FLAG_ZF) != 0, sf = (f & FLAG_SF) != 0;
    uint64_t result = !zf; /* 0 or 1: sign clear; parity even for 0, odd for 1 */
    unsigned pf_natural = zf;
    uint64_t aux =
        (uint64_t)cf << 63 | (uint64_t)(cf ^ of) << 62 | ((f & FLAG_AF) ? AUX_AF : 0) | (sf ? AUX_SFD : 0);
    if (pf_natural != ((f & FLAG_PF) != 0))
        aux |= 1 << 8;
    c->cc_result = result;
    c->cc_aux = aux;
}

static inline uint64_t flags_arith(const struct cpu *c)
{
    return flag_cf(c) | flag_pf(c) << 2 | flag_af(c) << 4 | flag_zf(c) << 6 | flag_sf(c) << 7 |
           flag_of(c) << 11;
}

/* CF and OF alone, the rest kept (rotates, BT, ADCX, ADOX). */
static inline void flags_set_cf_of(struct cpu *c, unsigned cf, unsigned of)
{
    c->cc_aux = (c->cc_aux & ~(AUX_CF | AUX_PO)) | (uint64_t)(cf & 1) << 63 | (uint64_t)((cf ^ of) & 1) << 62;
}

/* The sixteen conditions, numbered as in Jcc's opcode. */
static inline bool flags_condition(const struct cpu *c, unsigned cc)
{
    bool v;
    switch (cc >> 1) {
    case 0:
        v = flag_of(c);
        break;
    case 1:
        v = flag_cf(c);
        break;
    case 2:
        v = flag_zf(c);
        break;
    case 3:
        v = flag_cf(c) | flag_zf(c);
        break;
    case 4:
        v = flag_sf(c);
        break;
    case 5:
        v = flag_pf(c);
        break;
    case 6:
        v = flag_sf(c) != flag_of(c);
        break;
    default:
        v = flag_zf(c) | (flag_sf(c) != flag_of(c));
        break;
    }
    return v ^ (cc & 1);
}

#endif
