/*
 * tests/unit/test_lift_avx.c -- VEX vector instructions: who may run them, in which encodings, and what they
 * become.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "cpu/jit/stub.h"
#include "cpu/lift/lift.h"

enum {
    STATE = KEY_PE | KEY_PG | KEY_FLAT | KEY_OSXSAVE | KEY_AVX,
    LONG = KEY_L | STATE,
    FLAT32 = KEY_D | KEY_SS_B | STATE,
};

static struct ir ir;
static struct cpu_model model;
static struct stub_cache *stubs;

static unsigned parse(const char *text, uint8_t *bytes)
{
    unsigned n = 0;
    char *end;
    for (const char *p = text;; p = end) {
        unsigned long v = strtoul(p, &end, 16);
        if (end == p)
            return n;
        bytes[n++] = (uint8_t)v;
    }
}

/* The micro-ops of one instruction as text; "ud", "nm", "gp" when that is all it does. */
static const char *lift_text(uint32_t key, const char *hex)
{
    static char text[1024];
    char reason[256];
    uint8_t bytes[16] = {0};
    struct error e = {""};
    if (!stubs)
        stubs = stub_cache_new(&e);
    struct log log;
    log_init(&log, NULL, LOG_ERROR);
    struct lift l = {.ir = &ir, .key = key, .model = &model, .offset = 0x100, .stubs = stubs, .log = &log};
    unsigned n = parse(hex, bytes);
    size_t at = 0;
    ir_reset(&ir);
    lift_insn(&l, bytes, n);
    cr_expect(ir_verify(&ir, reason, sizeof(reason)), "%s: %s", hex, reason);
    if (ir.uop_count == 1 && ir.uops[0].op == UOP_RAISE) {
        unsigned vector = ir.uops[0].imm & 0xff;
        return vector == EXC_UD ? "ud" : vector == EXC_NM ? "nm" : vector == EXC_GP ? "gp" : "?";
    }
    text[0] = 0;
    for (uint32_t i = 0; i < ir.uop_count && at < sizeof(text); i++) {
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s", i ? "; " : "");
        at += (size_t)ir_print(&ir.uops[i], text + at, sizeof(text) - at);
    }
    return text;
}

static void all_features(void)
{
    for (unsigned f = 0; f < FEAT_COUNT; f++)
        model.has[f] = stub_host_has((enum feature)f);
}

Test(lift_avx, state)
{
    static const char *const list[] = {"c5 e8 58 d9",       /* vaddps xmm3, xmm2, xmm1 */
                                       "c5 fc 10 03",       /* vmovups ymm0, [rbx] */
                                       "c5 f8 77",          /* vzeroupper */
                                       "c5 f8 ae 13",       /* vldmxcsr [rbx] */
                                       "c4 e2 69 90 04 1b", /* vpgatherdd xmm0, [rbx+xmm3], xmm2 */
                                       "c4 e2 69 2c 03"};   /* vmaskmovps xmm0, xmm2, [rbx] */
    all_features();
    for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
        cr_expect_str_eq(lift_text(LONG & ~KEY_OSXSAVE, list[i]), "ud", "%s", list[i]);
        cr_expect_str_eq(lift_text(LONG & ~KEY_AVX, list[i]), "ud", "%s", list[i]);
        cr_expect_str_eq(lift_text(LONG | KEY_TS, list[i]), "nm", "%s", list[i]);
        cr_expect_str_eq(lift_text(FLAT32 & ~KEY_PE, list[i]), "ud", "%s", list[i]);
        cr_expect_str_eq(lift_text(FLAT32 | KEY_VM, list[i]), "ud", "%s", list[i]);
    }
}

Test(lift_avx, encodings)
{
    static const char *const bad[] = {
        "66 c5 e8 58 d9",    "f2 c5 e8 58 d9", "f3 c5 e8 58 d9",
        "f0 c5 e8 58 d9",    "40 c5 e8 58 d9", "c5 e8 28 d9", /* vvvv of vmovaps */
        "c5 e8 77",                                           /* vvvv of vzeroupper */
        "c5 fd 6e c0",                                        /* L of vmovd */
        "c4 e2 f9 0e c1",                                     /* W of vtestps */
        "c4 e3 69 06 d9 00",                                  /* L of vperm2f128 */
        "c4 e2 69 90 14 18",                                  /* gather: mask is the destination */
        "c4 e2 69 90 1c 18",                                  /* gather: index is the destination */
        "c4 e2 69 90 04 13",                                  /* gather: index is the mask */
        "62 f1 6c 48 58 d9",                                  /* EVEX vaddps */
        "62 f1 7c 48 10 c1",                                  /* EVEX vmovups */
        "c4 e1 7a b8 c2",                                     /* VEX "popcnt" */
        "c4 e1 7a bd c2",                                     /* VEX "lzcnt" */
        "c4 e3 69 69 d9 00",                                  /* FMA4 */
    };
    all_features();
    for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
        cr_expect_str_eq(lift_text(LONG, bad[i]), "ud", "%s", bad[i]);
    cr_expect_str_eq(lift_text(FLAT32, "c4 e3 f9 16 c0 00"), "ud", "VPEXTRQ outside 64-bit mode");
    cr_expect_str_eq(lift_text(FLAT32, "c4 e3 f1 22 c0 00"), "ud", "VPINSRQ outside 64-bit mode");
}

Test(lift_avx, micro_ops)
{
    if (!stub_host_has(FEAT_AVX2))
        cr_skip_test("the host has no AVX2");
    all_features();
    static const char *const golden[][2] = {
        {"c5 fc 10 0b", "vload32 v1, ds:a64[rbx]"},
        {"c5 f8 10 0b", "vload16 v1, ds:a64[rbx]; vzhi v1"},
        {"c5 fa 10 0b", "vload.4 v1, ds:a64[rbx]; vzhi v1"},
        {"c5 fc 11 0b", "vstore32 v1, ds:a64[rbx]"},
        {"c5 fb 11 0b", "vstore.8 v1, ds:a64[rbx]"},
        {"c5 ec 58 0b", "vload32 v16, ds:a64[rbx]; vstub 1, 16, 2, 0"},
        {"c5 ec 58 d9", "vstub 3, 1, 2, 0"},
        {"c4 e3 69 4a d9 40", "vstub 3, 1, 2, 4"},
        {"c5 e1 72 f1 05", "vstub 0, 1, 3, 0"},
        {"c5 fa 2a c3", "vstub 0, 3, 0, 0"},
    };
    for (unsigned i = 0; i < ARRAY_LEN(golden); i++)
        cr_expect_str_eq(lift_text(LONG, golden[i][0]), golden[i][1], "%s: %s", golden[i][0],
                         lift_text(LONG, golden[i][0]));
    lift_text(LONG, "c5 fc 28 0b");
    cr_expect_eq(ir.uops[0].imm, 1, "vmovaps is aligned");
    lift_text(LONG, "c5 ec 58 d9");
    const struct vec_stub *s = (const struct vec_stub *)(uintptr_t)ir.uops[0].imm;
    cr_expect(s->q.vex && s->q.vex_l == 1 && s->q.vvvv == STUB_XMM && s->q.vvvv_read && s->q.mxcsr);
}

Test(lift_avx, features)
{
    static const struct {
        const char *bytes;
        enum feature needs;
    } list[] = {
        {"c5 ed fe d9", FEAT_AVX2},    /* vpaddd ymm */
        {"c4 e2 79 18 c1", FEAT_AVX2}, /* vbroadcastss xmm, xmm */
        {"c4 e2 69 98 d9", FEAT_FMA},  /* vfmadd132ps */
        {"c4 e2 79 13 c1", FEAT_F16C}, /* vcvtph2ps */
        {"c4 e2 69 dc d9", FEAT_AES},  /* vaesenc xmm */
        {"c4 e2 6d dc d9", FEAT_VAES}, /* vaesenc ymm */
        {"c4 e3 69 44 d9 00", FEAT_PCLMULQDQ},
        {"c4 e3 6d 44 d9 00", FEAT_VPCLMULQDQ},
        {"66 0f 38 dc c1", FEAT_AES},
        {"66 0f 3a 44 c1 00", FEAT_PCLMULQDQ},
        {"0f 38 c9 c1", FEAT_SHA},
        {"66 0f 38 cf c1", FEAT_GFNI},
        {"c4 e2 69 cf d9", FEAT_GFNI},
        {"c5 e8 58 d9", FEAT_AVX},
    };
    for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
        all_features();
        uint32_t key = LONG | KEY_OSFXSR;
        if (model.has[list[i].needs])
            cr_expect_str_neq(lift_text(key, list[i].bytes), "ud", "%s", list[i].bytes);
        model.has[list[i].needs] = false;
        cr_expect_str_eq(lift_text(key, list[i].bytes), "ud", "%s", list[i].bytes);
    }
}

Test(lift_avx, models)
{
    struct cpu_model m;
    struct error e = {""};
    cr_assert(cpu_model_parse(&m, "max,-avx", &e), "%s", e.message);
    static const enum feature dependent[] = {FEAT_AVX,  FEAT_AVX2, FEAT_FMA,
                                             FEAT_F16C, FEAT_VAES, FEAT_VPCLMULQDQ};
    for (unsigned i = 0; i < ARRAY_LEN(dependent); i++)
        cr_expect_not(m.has[dependent[i]], "feature %u without AVX", dependent[i]);
    cr_assert(cpu_model_parse(&m, "max", &e), "%s", e.message);
    static const struct {
        const char *name;
        enum feature feature;
    } names[] = {{"avx", FEAT_AVX},    {"avx2", FEAT_AVX2},
                 {"fma", FEAT_FMA},    {"f16c", FEAT_F16C},
                 {"aes", FEAT_AES},    {"pclmulqdq", FEAT_PCLMULQDQ},
                 {"sha-ni", FEAT_SHA}, {"vaes", FEAT_VAES},
                 {"gfni", FEAT_GFNI},  {"vpclmulqdq", FEAT_VPCLMULQDQ}};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        char text[64];
        bool host = stub_host_has(names[i].feature);
        cr_expect_eq(m.has[names[i].feature], host, "%s", names[i].name);
        snprintf(text, sizeof(text), "max,+%s", names[i].name);
        struct cpu_model asked;
        cr_expect_eq(cpu_model_parse(&asked, text, &e), host, "%s: %s", text, e.message);
        snprintf(text, sizeof(text), "max,-%s", names[i].name);
        cr_expect(cpu_model_parse(&asked, text, &e) && !asked.has[names[i].feature], "%s", text);
    }
}
