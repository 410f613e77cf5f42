/*
 * cpu/model.c -- processor models: which features a machine's processors have, and "-cpu NAME[,+feature,-feature]".
 *
 * One real model: an Ice Lake server without AVX-512 and TSX, less what is not there yet (features.def). Names of
 * other processors that are subsets of it are refused rather than pretended.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cpu/cpu.h"

static const struct {
    const char *name;
    bool available; /* in the last column of features.def */
} features[FEAT_COUNT] = {
#define FEATURE(name, leaf, subleaf, reg, bit, def) [FEAT_##name] = {#name, def},
#include "cpu/features.def"
#undef FEATURE
};

/* Names of the one model. */
static const char *const model_names[] = {"Icelake-Server", "Icelake-Server-noTSX", "max", "base"};

/* Features that cannot be taken away: the rest of the processor is made on them. */
static const enum feature fixed[] = {FEAT_FPU, FEAT_TSC, FEAT_MSR, FEAT_PAE, FEAT_APIC, FEAT_CX8, FEAT_CMOV,
                                     FEAT_FXSR, FEAT_SSE, FEAT_SSE2, FEAT_LM, FEAT_SYSCALL, FEAT_NX};

/* "sse4.2", "SSE4_2" and "sse4-2" are the same name. */
static bool same_name(const char *a, size_t n, const char *b)
{
    if (strlen(b) != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '.' || a[i] == '-' ? '_' : a[i];
        if (strncasecmp(&x, &b[i], 1))
            return false;
    }
    return true;
}

static int find_feature(const char *text, size_t n)
{
    static const struct {
        const char *alias;
        enum feature feature;
    } aliases[] = {{"pdpe1gb", FEAT_PAGE1GB}, {"cx16", FEAT_CMPXCHG16B}, {"abm", FEAT_LZCNT}, {"pni", FEAT_SSE3},
                   {"invtsc", FEAT_INVARIANT_TSC}, {"lahf_lm", FEAT_LAHF64}, {"tsc_deadline", FEAT_TSC_DEADLINE},
                   {"spec_ctrl", FEAT_IBRS}};
    for (int i = 0; i < FEAT_COUNT; i++)
        if (same_name(text, n, features[i].name))
            return i;
    for (unsigned i = 0; i < ARRAY_LEN(aliases); i++)
        if (same_name(text, n, aliases[i].alias))
            return (int)aliases[i].feature;
    return -1;
}

static bool change(struct cpu_model *m, const char *text, size_t n, struct error *e)
{
    bool on = text[0] != '-';
    int f = find_feature(text + 1, n - 1);
    if (f < 0)
        return error_set(e, "unknown feature %.*s", (int)(n - 1), text + 1);
    if (on && !features[f].available)
        return error_set(e, "feature %.*s is not implemented", (int)(n - 1), text + 1);
    for (unsigned i = 0; i < ARRAY_LEN(fixed); i++)
        if (!on && fixed[i] == (enum feature)f)
            return error_set(e, "feature %.*s cannot be taken away", (int)(n - 1), text + 1);
    m->has[f] = on;
    return true;
}

bool cpu_model_parse(struct cpu_model *m, const char *text, struct error *e)
{
    size_t n = strcspn(text, ",");
    const char *name = NULL;
    for (unsigned i = 0; i < ARRAY_LEN(model_names); i++)
        if (strlen(model_names[i]) == n && !strncasecmp(text, model_names[i], n))
            name = model_names[0];
    if (n == 4 && !strncasecmp(text, "host", 4))
        return error_set(e, "the host's processor is not used; the model is Icelake-Server");
    if (!name)
        return error_set(e, "unknown processor model %.*s; the model is Icelake-Server", (int)n, text);
    memset(m, 0, sizeof(*m));
    snprintf(m->name, sizeof(m->name), "%s", name);
    snprintf(m->brand, sizeof(m->brand), "Intel Xeon Processor (Icelake) droste @ 1.00GHz");
    m->family = 6;
    m->model = 106;
    m->stepping = 6;
    m->maxphyaddr = 46;
    for (int i = 0; i < FEAT_COUNT; i++)
        m->has[i] = features[i].available;
    for (const char *at = text + n; *at == ',';) {
        at++;
        n = strcspn(at, ",");
        if (n < 2 || (at[0] != '+' && at[0] != '-'))
            return error_set(e, "\"%.*s\" must be +feature or -feature", (int)n, at);
        if (!change(m, at, n, e))
            return false;
        at += n;
    }
    return true;
}
