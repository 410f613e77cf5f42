/*
 * frontend/profile.c -- the report of --profile: where the guest's instructions went, block by block.
 *
 * A line for each block and level, the hottest first; the code of the first ones is disassembled. Counts are
 * exact and the same in every run (cpu/profile.h).
 */
#define _GNU_SOURCE
#include "frontend/profile.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cache.h"
#include "cpu/profile.h"

#define LISTED_MAX       500u
#define DISASSEMBLED_MAX 32u

struct entry {
    const struct profile_row *row;
    unsigned level;
    uint64_t instructions;
};

struct report {
    struct entry *entries; /* the hottest first */
    size_t count, listed;
    uint64_t total[2]; /* instructions by level */
    uint64_t other;    /* of which without a row of their own */
};

/* -- The order ----------------------------------------------------------------------------------------- */

static int by_instructions(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->instructions != y->instructions)
        return x->instructions < y->instructions ? 1 : -1;
    if (x->row->gpa != y->row->gpa)
        return x->row->gpa < y->row->gpa ? -1 : 1;
    if (x->row->key != y->row->key)
        return x->row->key < y->row->key ? -1 : 1;
    return (int)x->level - (int)y->level;
}

static bool make_report(const struct profile *p, struct report *r)
{
    uint32_t count;
    const struct profile_row *rows = profile_rows(p, &count);
    *r = (struct report){.entries = malloc(2 * count * sizeof(*r->entries))};
    if (!r->entries)
        return false;
    for (uint32_t i = 0; i < count; i++)
        for (unsigned level = 0; level < 2; level++) {
            uint64_t n = rows[i].instructions[level];
            r->total[level] += n;
            if (i == 0)
                r->other += n;
            else if (rows[i].executions[level])
                r->entries[r->count++] = (struct entry){&rows[i], level, n};
        }
    qsort(r->entries, r->count, sizeof(*r->entries), by_instructions);
    r->listed = MIN(r->count, (size_t)LISTED_MAX);
    return true;
}

/* -- Columns ------------------------------------------------------------------------------------------- */

static double percent(const struct report *r, uint64_t n)
{
    uint64_t all = r->total[0] + r->total[1];
    return all ? 100.0 * (double)n / (double)all : 0;
}

static void mode_text(uint32_t key, char *text, size_t n)
{
    if (!(key & KEY_PE))
        snprintf(text, n, "real");
    else if (key & KEY_VM)
        snprintf(text, n, "v86");
    else
        snprintf(text, n, "%s-bit CPL %u", key & KEY_L ? "64" : key & KEY_D ? "32" : "16", KEY_CPL(key));
}

static const char *level_text(unsigned level)
{
    return level ? "L2" : "L1";
}

/* -- Text ---------------------------------------------------------------------------------------------- */

static void write_text(const struct report *r, FILE *out)
{
    fprintf(out,
            "instructions: %" PRIu64 ", of these in L1 (VMX root operation, or none) %" PRIu64
            ", in L2 (VMX non-root operation) %" PRIu64 "\n",
            r->total[0] + r->total[1], r->total[0], r->total[1]);
    fprintf(out, "blocks: %zu, shown: %zu\n", r->count, r->listed);
    if (r->other)
        fprintf(out, "in blocks that are not in the table: %" PRIu64 "\n", r->other);
    fprintf(out, "\n  share  instructions    executions  length  level  mode          linear            "
                 "physical\n");
    for (size_t i = 0; i < r->listed; i++) {
        const struct entry *e = &r->entries[i];
        char mode[32];
        mode_text(e->row->key, mode, sizeof(mode));
        fprintf(out,
                "%6.2f%%  %12" PRIu64 "  %12" PRIu64 "  %6u  %-5s  %-12s  %016" PRIx64 "  %010" PRIx64 "\n",
                percent(r, e->instructions), e->instructions, e->row->executions[e->level],
                e->row->insn_count, level_text(e->level), mode, e->row->linear, e->row->gpa);
    }
    for (size_t i = 0; i < MIN(r->listed, (size_t)DISASSEMBLED_MAX); i++) {
        const struct entry *e = &r->entries[i];
        fprintf(out, "\n%.2f%%  %s  physical %" PRIx64 "\n", percent(r, e->instructions),
                level_text(e->level), e->row->gpa);
        if (e->row->bytes)
            dump_guest_code(out, e->row->key, e->row->linear, e->row->bytes, e->row->length);
    }
}

/* -- JSON ---------------------------------------------------------------------------------------------- */

static void add_hex(cJSON *o, const char *name, uint64_t v)
{
    char text[32];
    snprintf(text, sizeof(text), "0x%" PRIx64, v);
    cJSON_AddStringToObject(o, name, text);
}

static void add_code(cJSON *o, const struct profile_row *row)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = row->bytes ? open_memstream(&text, &n) : NULL;
    if (!f)
        return;
    dump_guest_code(f, row->key, row->linear, row->bytes, row->length);
    fclose(f);
    cJSON *lines = cJSON_AddArrayToObject(o, "code");
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;)
        if (*line)
            cJSON_AddItemToArray(lines, cJSON_CreateString(line + strspn(line, " ")));
    free(text);
}

static cJSON *block_object(const struct report *r, const struct entry *e, bool code)
{
    char mode[32];
    cJSON *o = cJSON_CreateObject();
    mode_text(e->row->key, mode, sizeof(mode));
    add_hex(o, "linear", e->row->linear);
    add_hex(o, "physical", e->row->gpa);
    cJSON_AddStringToObject(o, "level", level_text(e->level));
    cJSON_AddStringToObject(o, "mode", mode);
    cJSON_AddNumberToObject(o, "executions", (double)e->row->executions[e->level]);
    cJSON_AddNumberToObject(o, "instructions", (double)e->instructions);
    cJSON_AddNumberToObject(o, "length", e->row->insn_count);
    cJSON_AddNumberToObject(o, "percent", percent(r, e->instructions));
    if (code)
        add_code(o, e->row);
    return o;
}

static bool write_json(const struct report *r, FILE *out)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "instructions", (double)(r->total[0] + r->total[1]));
    cJSON_AddNumberToObject(o, "instructions_l1", (double)r->total[0]);
    cJSON_AddNumberToObject(o, "instructions_l2", (double)r->total[1]);
    cJSON_AddNumberToObject(o, "instructions_other", (double)r->other);
    cJSON_AddNumberToObject(o, "block_count", (double)r->count);
    cJSON *blocks = cJSON_AddArrayToObject(o, "blocks");
    for (size_t i = 0; i < r->listed; i++)
        cJSON_AddItemToArray(blocks, block_object(r, &r->entries[i], i < DISASSEMBLED_MAX));
    char *text = cJSON_Print(o);
    cJSON_Delete(o);
    bool ok = text && fputs(text, out) >= 0 && fputc('\n', out) >= 0;
    cJSON_free(text);
    return ok;
}

/* -- The whole ----------------------------------------------------------------------------------------- */

bool profile_start(struct machine *m, struct error *e)
{
    m->code->profile = profile_new(e);
    return m->code->profile != NULL;
}

bool profile_write(const struct machine *m, FILE *out, const char *path, struct error *e)
{
    struct report r;
    size_t n = strlen(path);
    if (!make_report(m->code->profile, &r))
        return error_set(e, "--profile %s: not enough host memory", path);
    errno = 0;
    bool ok = true;
    if (n >= 5 && !strcmp(path + n - 5, ".json"))
        ok = write_json(&r, out);
    else
        write_text(&r, out);
    free(r.entries);
    ok = ok && !fflush(out) && !ferror(out);
    return ok || error_set(e, "--profile %s: %s", path, strerror(errno));
}
