/*
 * frontend/options.c -- parses the command line; every refusal names the option.
 *
 * Rows: options.def.   Tests: tests/system/options.sh
 */
#define _GNU_SOURCE
#include "frontend/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef bool option_fn(struct options *o, const char *name, const char *value, struct error *e);

/* -- Values -------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, uint64_t *out, const char **end)
{
    char *stop;
    errno = 0;
    if (*text == '-' || *text == '\0')
        return false;
    *out = strtoull(text, &stop, 0);
    *end = stop;
    return stop != text && errno == 0;
}

/* "512", "512M", "2G"; plain numbers are in `unit` bytes. */
static bool parse_size(const char *text, uint64_t unit, uint64_t *out)
{
    const char *end;
    uint64_t n;
    if (!parse_number(text, &n, &end))
        return false;
    switch (*end) {
    case 'k':
    case 'K':
        unit = BIT(10);
        end++;
        break;
    case 'm':
    case 'M':
        unit = BIT(20);
        end++;
        break;
    case 'g':
    case 'G':
        unit = BIT(30);
        end++;
        break;
    case 't':
    case 'T':
        unit = BIT(40);
        end++;
        break;
    default:
        break;
    }
    if (*end || n > UINT64_MAX / unit)
        return false;
    *out = n * unit;
    return true;
}

/* A private copy of n bytes that lives as long as the options. */
static char *keep(struct options *o, const char *text, size_t n)
{
    if (o->text_count == ARRAY_LEN(o->text) || n >= sizeof(o->text[0]))
        return NULL;
    char *s = o->text[o->text_count++];
    memcpy(s, text, n);
    s[n] = '\0';
    return s;
}

/* Next "key=value" or "key" of a comma list; false at its end. Value is NULL without '='. */
static bool next_part(const char **at, char *key, size_t key_size, char *value, size_t value_size)
{
    if (!**at)
        return false;
    size_t n = strcspn(*at, ",");
    size_t k = strcspn(*at, "=,");
    snprintf(key, key_size, "%.*s", (int)k, *at);
    if (k < n)
        snprintf(value, value_size, "%.*s", (int)(n - k - 1), *at + k + 1);
    else
        value[0] = '\0';
    *at += n;
    if (**at == ',')
        (*at)++;
    return true;
}

/* -- Handlers ------------------------------------------------------------------------------------------ */

static bool option_memory(struct options *o, const char *name, const char *value, struct error *e)
{
    if (!parse_size(value, BIT(20), &o->memory))
        return error_set(e, "%s %s: not a size", name, value);
    if (o->memory < BIT(20) || o->memory > BIT(38))
        return error_set(e, "%s %s: guest memory must be from 1M to 256G", name, value);
    o->memory &= ~PAGE_MASK;
    return true;
}

static bool option_smp(struct options *o, const char *name, const char *value, struct error *e)
{
    const char *end;
    uint64_t n;
    if (!strncmp(value, "cpus=", 5))
        value += 5;
    if (!parse_number(value, &n, &end) || *end || n < 1 || n > 64)
        return error_set(e, "%s %s: the number of processors must be from 1 to 64", name, value);
    o->cpus = (uint32_t)n;
    return true;
}

static bool option_cpu(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name; /* the message names it */
    return cpu_model_parse(&o->model, value, e);
}

#define TEXT_OPTION(handler, member)                                                                         \
    static bool option_##handler(struct options *o, const char *name, const char *value, struct error *e)    \
    {                                                                                                        \
        (void)name, (void)e;                                                                                 \
        o->member = value;                                                                                   \
        return true;                                                                                         \
    }
TEXT_OPTION(kernel, kernel)
TEXT_OPTION(initrd, initrd)
TEXT_OPTION(append, append)
TEXT_OPTION(trace, trace)
TEXT_OPTION(log_file, log_file)
TEXT_OPTION(stats, stats)
TEXT_OPTION(profile, profile)
TEXT_OPTION(save, save)
TEXT_OPTION(loadvm, loadvm)

/* QEMU's -d: trace events, and "tlb-check", which is none. */
static bool option_debug(struct options *o, const char *name, const char *value, struct error *e)
{
    char item[128], events[256] = "", unused[8];
    size_t n = 0;
    for (const char *at = value; next_part(&at, item, sizeof(item), unused, sizeof(unused));) {
        if (!strcmp(item, "tlb-check"))
            o->tlb_check = true;
        else
            n += (size_t)snprintf(events + n, sizeof(events) - n, "%s%s", n ? "," : "", item);
        if (n >= sizeof(events))
            return error_set(e, "%s: too long", name);
    }
    if (n && !(o->trace = keep(o, events, n)))
        return error_set(e, "%s %s: too many options", name, value);
    return true;
}

static bool option_drive(struct options *o, const char *name, const char *value, struct error *e)
{
    if (o->drive_count == OPTION_DRIVES_MAX)
        return error_set(e, "%s %s: at most %d drives", name, value, OPTION_DRIVES_MAX);
    struct option_drive *d = &o->drives[o->drive_count];
    char key[32], text[256];
    bool format = false;
    for (const char *at = value; next_part(&at, key, sizeof(key), text, sizeof(text));) {
        if (!strcmp(key, "file")) {
            d->file = keep(o, text, strlen(text));
        } else if (!strcmp(key, "format")) {
            if (strcmp(text, "raw"))
                return error_set(e, "%s %s: format %s is not supported, only raw", name, value, text);
            format = true;
        } else if (!strcmp(key, "if")) {
            if (strcmp(text, "virtio"))
                return error_set(e, "%s %s: if=%s is not supported, only virtio", name, value, text);
        } else if (!strcmp(key, "readonly")) {
            if (strcmp(text, "on") && strcmp(text, "off") && *text)
                return error_set(e, "%s %s: readonly is on or off", name, value);
            d->read_only = strcmp(text, "off") != 0;
        } else {
            return error_set(e, "%s %s: unknown parameter %s", name, value, key);
        }
    }
    if (!d->file || !*d->file)
        return error_set(e, "%s %s: file= is missing", name, value);
    if (!format)
        return error_set(e, "%s %s: format=raw is required (formats are not guessed)", name, value);
    o->drive_count++;
    return true;
}

static bool option_serial(struct options *o, const char *name, const char *value, struct error *e)
{
    if (strcmp(value, "stdio") && strcmp(value, "mon:stdio") && strcmp(value, "none") &&
        strncmp(value, "file:", 5) && strncmp(value, "unix:", 5))
        return error_set(e, "%s %s: must be stdio, file:PATH, unix:PATH or none", name, value);
    o->serial = value;
    return true;
}

static bool option_device(struct options *o, const char *name, const char *value, struct error *e)
{
    char key[32], text[256];
    const char *at = value;
    if (!next_part(&at, key, sizeof(key), text, sizeof(text)) || strcmp(key, "isa-debug-exit"))
        return error_set(e, "%s %s: no such device; there is isa-debug-exit", name, value);
    o->debug_exit = true;
    o->debug_exit_base = 0x501;
    o->debug_exit_size = 2;
    while (next_part(&at, key, sizeof(key), text, sizeof(text))) {
        const char *end;
        uint64_t n;
        bool base = !strcmp(key, "iobase");
        if (!base && strcmp(key, "iosize"))
            return error_set(e, "%s %s: unknown parameter %s", name, value, key);
        if (!parse_number(text, &n, &end) || *end || (base ? n > 0xffff : n < 1 || n > 4))
            return error_set(e, "%s %s: %s is out of range", name, value, key);
        if (base)
            o->debug_exit_base = (uint16_t)n;
        else
            o->debug_exit_size = (uint32_t)n;
    }
    return true;
}

/* What stands behind "jit,": hot=N, cache=SIZE. */
static bool parse_jit(struct options *o, const char *name, const char *value, struct error *e)
{
    char key[32], text[64];
    for (const char *at = value + 4; next_part(&at, key, sizeof(key), text, sizeof(text));) {
        uint64_t n;
        const char *end;
        if (!strcmp(key, "hot")) {
            if (!parse_number(text, &n, &end) || *end || n < 1 || n > 1000000)
                return error_set(e, "%s %s: hot must be a number from 1 to 1000000", name, value);
            o->jit_hot = (uint32_t)n;
        } else if (!strcmp(key, "cache")) {
            if (!parse_size(text, BIT(20), &n) || n < BIT(20) || n > BIT(30))
                return error_set(e, "%s %s: cache must be a size from 1M to 1G", name, value);
            o->jit_cache = n;
        } else {
            return error_set(e, "%s %s: after jit only hot=N and cache=SIZE are known", name, value);
        }
    }
    return true;
}

static bool option_accel(struct options *o, const char *name, const char *value, struct error *e)
{
    if (!strcmp(value, "interp")) {
        o->jit = false;
        return true;
    }
    if (!strcmp(value, "jit") || !strcmp(value, "tcg") || !strncmp(value, "tcg,", 4)) {
        o->jit = true;
        return true;
    }
    if (!strncmp(value, "jit,", 4)) {
        o->jit = true;
        return parse_jit(o, name, value, e);
    }
    if (!strcmp(value, "kvm")) {
        fprintf(stderr, "droste: %s kvm: not needed, running in software\n", name);
        return true;
    }
    return error_set(e, "%s %s: must be jit, interp or tcg", name, value);
}

static bool option_enable_kvm(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)o, (void)value, (void)e;
    fprintf(stderr, "droste: %s: not needed, running in software\n", name);
    return true;
}

static bool option_machine(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)o;
    if (strcmp(value, "q35") && strncmp(value, "q35,accel=", 10))
        return error_set(e, "%s %s: the only board is q35", name, value);
    return true;
}

static bool option_display(struct options *o, const char *name, const char *value, struct error *e)
{
    if (strcmp(value, "none"))
        return error_set(e, "%s %s: only none is supported", name, value);
    o->nographic = o->nographic || false;
    return true;
}

static bool option_nographic(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name, (void)value, (void)e;
    o->nographic = true;
    return true;
}

static bool option_perf_map(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name, (void)value, (void)e;
    o->perf_map = true;
    return true;
}

static bool option_no_reboot(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name, (void)value, (void)e;
    o->no_reboot = true;
    return true;
}

static bool option_rtc(struct options *o, const char *name, const char *value, struct error *e)
{
    struct tm tm = {0};
    if (!strcmp(value, "base=utc")) {
        o->rtc_start = (int64_t)time(NULL);
        return true;
    }
    const char *end = strncmp(value, "base=", 5) ? NULL : strptime(value + 5, "%Y-%m-%dT%H:%M:%S", &tm);
    if (!end && !strncmp(value, "base=", 5)) {
        memset(&tm, 0, sizeof(tm));
        end = strptime(value + 5, "%Y-%m-%d", &tm);
    }
    if (!end || *end)
        return error_set(e, "%s %s: must be base=utc or base=YYYY-MM-DD[THH:MM:SS]", name, value);
    o->rtc_start = (int64_t)timegm(&tm);
    return true;
}

static bool option_at(struct options *o, const char *name, const char *value, struct error *e)
{
    const char *end;
    if (!parse_number(value, &o->at, &end) || *end)
        return error_set(e, "%s %s: not a number of ticks", name, value);
    return true;
}

static bool option_state_hash(struct options *o, const char *name, const char *value, struct error *e)
{
    const char *end;
    if (!parse_number(value, &o->state_hash_every, &end) || *end != ',' || !o->state_hash_every || !end[1])
        return error_set(e, "%s %s: must be EVERY,FILE", name, value);
    o->state_hash_file = end + 1;
    return true;
}

static bool option_version(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name, (void)value, (void)e;
    o->action = ACTION_VERSION;
    return true;
}

static bool option_help(struct options *o, const char *name, const char *value, struct error *e)
{
    (void)name, (void)value, (void)e;
    o->action = ACTION_HELP;
    return true;
}

static const struct option_row {
    const char *name, *argument;
    option_fn *fn;
    const char *help;
} rows[] = {
#define OPTION(name, argument, handler, help) {name, argument, option_##handler, help},
#include "frontend/options.def"
#undef OPTION
};

/* -- The whole ----------------------------------------------------------------------------------------- */

void options_help(FILE *out)
{
    fprintf(out, "usage: droste [option]...\n       droste demo\n\n");
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        char left[80];
        snprintf(left, sizeof(left), "%s%s%s", rows[i].name, rows[i].argument ? " " : "",
                 rows[i].argument ? rows[i].argument : "");
        fprintf(out, "  %-44s %s\n", left, rows[i].help);
    }
}

bool options_parse(struct options *o, int argc, char **argv, struct error *e)
{
    memset(o, 0, sizeof(*o));
    o->memory = 512ull << 20;
    o->cpus = 1;
    o->jit = true;
    o->append = "";
    o->at = UINT64_MAX;
    o->rtc_start = 1767225600; /* 2026-01-01T00:00:00Z */
    if (!cpu_model_parse(&o->model, "Icelake-Server", e))
        return false;
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = NULL;
        for (unsigned k = 0; k < ARRAY_LEN(rows) && !row; k++)
            if (!strcmp(argv[i], rows[k].name))
                row = &rows[k];
        if (!row)
            return error_set(e, "%s: unknown option (see droste -help)", argv[i]);
        const char *value = NULL;
        if (row->argument) {
            if (i + 1 == argc)
                return error_set(e, "%s: needs an argument %s", row->name, row->argument);
            value = argv[++i];
        }
        if (!row->fn(o, row->name, value, e))
            return false;
    }
    if (o->action == ACTION_RUN && !o->kernel && !o->loadvm)
        return error_set(e,
                         "nothing to run: give -kernel or -loadvm (see droste -help, or try: droste demo)");
    return true;
}
