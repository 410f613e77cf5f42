/*
 * cpu/lift/lift_string.c -- MOVS, CMPS, STOS, LODS, SCAS with and without repeat prefixes: calls to
 * cpu/string.c.
 *
 * SDM 2B, "REP/REPE/REPZ/REPNE/REPNZ". Each iteration counts as one instruction. The last of several repeat
 * prefixes counts; either of them is REP for MOVS, STOS and LODS.
 */
#include "cpu/lift/lift.h"

#include "cpu/lift/rows.h"

static unsigned repeat_kind(const struct lift *l)
{
    unsigned kind = 0;
    for (unsigned i = 0; i < l->zi.raw.prefix_count; i++) {
        if (l->zi.raw.prefixes[i].value == 0xf3)
            kind = 1;
        if (l->zi.raw.prefixes[i].value == 0xf2)
            kind = 2;
    }
    return kind;
}

static unsigned element_size(const struct lift *l)
{
    return l->zi.opcode & 1 ? l->osize : 0;
}

static void string(struct lift *l, enum helper_id id, bool compares, unsigned am)
{
    unsigned kind = repeat_kind(l);
    struct uop *u = lift_helper(l, id, element_size(l));
    u->am = (uint8_t)am;
    u->aux2 = kind && !compares ? 1 : kind;
}

/* Destinations are ES:rDI whatever the override. */
static unsigned am_es(const struct lift *l)
{
    return AM(0, l->asize, SEG_ES, !(l->key & (KEY_L | KEY_FLAT)));
}

void lift_movs(struct lift *l)
{
    string(l, HELPER_string_movs, false, lift_am_segment(l, SEG_DS));
}

void lift_lods(struct lift *l)
{
    string(l, HELPER_string_lods, false, lift_am_segment(l, SEG_DS));
}

void lift_cmps(struct lift *l)
{
    string(l, HELPER_string_cmps, true, lift_am_segment(l, SEG_DS));
}

void lift_stos(struct lift *l)
{
    string(l, HELPER_string_stos, false, am_es(l));
}

void lift_scas(struct lift *l)
{
    string(l, HELPER_string_scas, true, am_es(l));
}
