/*
 * cpu/model.c -- processor models: "-cpu NAME[,+feature,-feature]".
 *
 * The model is an Ice Lake server without AVX-512 and TSX, less what features.def has as not there, and less
 * what needs an instruction that the host lacks. A feature that is not there cannot be asked for: what is
 * advertised really works.
 */
#include <ctype.h>
#include <string.h>
#include "base/error.h"
#include "cpu/jit/stub.h"
#include "cpu/system.h"

static const struct {
    const char *name;
    uint8_t def; /* 0 not there, 1 in the default model, 2 only when asked for */
} feature_rows[] = {
#define FEATURE(name, leaf, subleaf, reg, bit, def) {#name, def},
#include "cpu/features.def"
#undef FEATURE
};

/* Equal without regard to case and to '-', '.' and '_'. */
static bool same_name(const char *a, const char *b, size_t b_length)
{
    size_t i = 0;
    for (;; a++) {
        while (i < b_length && strchr("-._", b[i]))
            i++;
        while (*a == '_')
            a++;
        if (!*a || i >= b_length)
            return !*a && i >= b_length;
        if (tolower((unsigned char)*a) != tolower((unsigned char)b[i++]))
            return false;
    }
}

/* Names that QEMU and Linux use where ours are the SDM's. */
static const struct {
    const char *alias;
    enum feature feature;
} aliases[] = {
    {"cx16", FEAT_CMPXCHG16B},         {"lm", FEAT_LM},         {"pdpe1gb", FEAT_PAGE1GB},
    {"invtsc", FEAT_INVARIANT_TSC},    {"lahflm", FEAT_LAHF64}, {"abm", FEAT_LZCNT},
    {"specctrl", FEAT_IBRS},           {"clflush", FEAT_CLFSH}, {"cmov", FEAT_CMOV},
    {"3dnowprefetch", FEAT_PREFETCHW}, {"shani", FEAT_SHA},     {"pclmuldq", FEAT_PCLMULQDQ},
};

static int find_feature(const char *name, size_t length)
{
    for (unsigned i = 0; i < FEAT_COUNT; i++)
        if (same_name(feature_rows[i].name, name, length))
            return (int)i;
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
        if (same_name(aliases[i].alias, name, length))
            return (int)aliases[i].feature;
    return -1;
}

/* What a feature needs; dropping the one drops the other. */
static const struct {
    enum feature feature, needs;
} needs[] = {
    {FEAT_SSE2, FEAT_SSE},
    {FEAT_SSE, FEAT_FXSR},
    {FEAT_SSE3, FEAT_SSE2},
    {FEAT_SSSE3, FEAT_SSE3},
    {FEAT_SSE4_1, FEAT_SSSE3},
    {FEAT_SSE4_2, FEAT_SSE4_1},
    {FEAT_MMX, FEAT_FPU},
    {FEAT_FXSR, FEAT_FPU},
    {FEAT_XSAVEOPT, FEAT_XSAVE},
    {FEAT_XSAVEC, FEAT_XSAVE},
    {FEAT_XSAVES, FEAT_XSAVEC},
    {FEAT_XGETBV1, FEAT_XSAVE},
    {FEAT_AVX, FEAT_XSAVE},
    {FEAT_X2APIC, FEAT_APIC},
    {FEAT_TSC_DEADLINE, FEAT_APIC},
    {FEAT_INVPCID, FEAT_PCID},
    {FEAT_PCID, FEAT_LM},
    {FEAT_PAGE1GB, FEAT_LM},
    {FEAT_SYSCALL, FEAT_LM},
    {FEAT_LA57, FEAT_LM},
    {FEAT_AVX2, FEAT_AVX},
    {FEAT_FMA, FEAT_AVX},
    {FEAT_F16C, FEAT_AVX},
    {FEAT_AES, FEAT_SSE2},
    {FEAT_PCLMULQDQ, FEAT_SSE2},
    {FEAT_SHA, FEAT_SSE2},
    {FEAT_GFNI, FEAT_SSE2},
    {FEAT_VAES, FEAT_AVX},
    {FEAT_VAES, FEAT_AES},
    {FEAT_VPCLMULQDQ, FEAT_AVX},
    {FEAT_VPCLMULQDQ, FEAT_PCLMULQDQ},
    {FEAT_AVX, FEAT_SSE4_2},
};

static void drop_dependent(struct cpu_model *m)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (unsigned i = 0; i < ARRAY_LEN(needs); i++) {
            if (m->has[needs[i].feature] && !m->has[needs[i].needs]) {
                m->has[needs[i].feature] = false;
                changed = true;
            }
        }
    }
}

static bool set_feature(struct cpu_model *m, const char *item, size_t length, struct error *e)
{
    bool on = item[0] == '+';
    if (length < 2 || (item[0] != '+' && item[0] != '-'))
        return error_set(e, "-cpu: \"%.*s\" is neither +feature nor -feature", (int)length, item);
    int f = find_feature(item + 1, length - 1);
    if (f < 0)
        return error_set(e, "-cpu: unknown feature \"%.*s\"", (int)length - 1, item + 1);
    if (on && feature_rows[f].def == 0)
        return error_set(e, "-cpu: feature \"%.*s\" is not there", (int)length - 1, item + 1);
    if (on && !stub_host_has((enum feature)f))
        return error_set(e, "-cpu: feature \"%.*s\" is not there: this host's processor lacks it",
                         (int)length - 1, item + 1);
    m->has[f] = on;
    return true;
}

static bool set_base(struct cpu_model *m, const char *name, size_t length, struct error *e)
{
    if (length == 4 && !memcmp(name, "host", 4))
        return error_set(e, "-cpu host: the processor is emulated whole, the host's model is not used; "
                            "take \"max\" or \"Icelake-Server\"");
    static const char *const names[] = {"max", "Icelake-Server"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (strlen(names[i]) != length || memcmp(names[i], name, length))
            continue;
        memset(m, 0, sizeof(*m));
        strcpy(m->name, names[1]);
        strcpy(m->brand, "Intel(R) Xeon(R) Processor (Icelake) @ 1.00GHz");
        m->family = 6;
        m->model = 0x6a;
        m->stepping = 6;
        m->maxphyaddr = 46;
        for (unsigned f = 0; f < FEAT_COUNT; f++)
            m->has[f] = feature_rows[f].def == 1 && stub_host_has((enum feature)f);
        return true;
    }
    return error_set(e, "-cpu: unknown model \"%.*s\"; there are \"max\" and \"Icelake-Server\"", (int)length,
                     name);
}

bool cpu_model_parse(struct cpu_model *m, const char *text, struct error *e)
{
    if (!text || !*text)
        text = "max";
    size_t length = strcspn(text, ",");
    if (!set_base(m, text, length, e))
        return false;
    while (text[length] == ',') {
        text += length + 1;
        length = strcspn(text, ",");
        if (!set_feature(m, text, length, e))
            return false;
    }
    drop_dependent(m);
    return true;
}
