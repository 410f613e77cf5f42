/*
 * test_base.c -- errors, log, trace.
 */
#include "base/error.h"
#include "base/log.h"
#include "base/trace.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

Test(error, is_one_line)
{
    struct error e;
    cr_assert(!error_set(&e, "a\nb %d", 7));
    cr_assert_str_eq(e.message, "a?b 7");
    cr_assert(!error_set(NULL, "no one listens"));
}

Test(error, is_cut_not_overrun)
{
    struct error e;
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    error_set(&e, "%s", text);
    cr_assert_eq(strlen(e.message), sizeof(e.message) - 1);
}

Test(log, drops_what_is_above_its_level)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    struct log l;
    log_init(&l, f, LOG_WARN);
    log_info(&l, "quiet");
    log_warn(&l, "loud %d", 1);
    log_write(NULL, LOG_ERROR, "nowhere");
    fclose(f);
    cr_assert_str_eq(text, "droste: warning: loud 1\n");
    free(text);
}

Test(log, counts_unimplemented)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    struct log l;
    log_init(&l, NULL, LOG_INFO);
    for (int i = 0; i < 3; i++)
        log_unimplemented(&l, "msr %#x", 0x1a4);
    log_unimplemented(&l, "insn foo");
    log_unimplemented_summary(&l, f);
    fclose(f);
    cr_assert_str_eq(text, "unimplemented: msr 0x1a4 (3), insn foo (1)\n");
    free(text);
    for (int i = 0; i < 10000; i++)
        log_unimplemented(&l, "item %d", i);
    cr_assert_eq(l.unimplemented_count, LOG_UNIMPLEMENTED_MAX);
    cr_assert_str_eq(l.unimplemented[LOG_UNIMPLEMENTED_MAX - 1].what, "others");
}

static struct trace *new_trace(const uint64_t *now)
{
    struct trace *t = malloc(sizeof(*t));
    trace_init(t, now);
    return t;
}

Test(trace, is_off_until_enabled)
{
    uint64_t now = 5;
    struct trace *t = new_trace(&now);
    trace_vmx_entry(t, 0x1000, 1);
    trace_vmx_entry(NULL, 0x1000, 1);
    cr_assert_eq(t->count, 0);
    cr_assert(trace_enable(t, "vmx_*", NULL));
    trace_vmx_entry(t, 0x1000, 1);
    trace_msr_read(t, 0x10, 0, 0);
    cr_assert_eq(t->count, 1);
    cr_assert(trace_enable(t, "-vmx_entry,msr_*", NULL));
    trace_vmx_entry(t, 0x1000, 1);
    trace_msr_read(t, 0x10, 0, 0);
    cr_assert_eq(t->count, 2);
    cr_assert_eq(t->ring[1].event, TRACE_msr_read);
    free(t);
}

Test(trace, names_the_pattern_without_event)
{
    struct trace *t = new_trace(NULL);
    const char *bad = NULL, *patterns = "pio,nothing_*";
    cr_assert(!trace_enable(t, patterns, &bad));
    cr_assert_str_eq(bad, "nothing_*");
    cr_assert(trace_on(t, TRACE_pio));
    free(t);
}

Test(trace, lines_are_a_function_of_the_run)
{
    char *text = NULL;
    size_t n = 0;
    uint64_t now = 123456;
    struct trace *t = new_trace(&now);
    FILE *f = open_memstream(&text, &n);
    trace_enable(t, "*", NULL);
    t->cpu = 1;
    trace_vmx_exit(t, 48, 0x181, 0xffffffff81000000);
    now++;
    trace_pio(t, 1, 0x3f8, 1, 'A');
    trace_dump(t, f, 100);
    fclose(f);
    cr_assert_str_eq(text, "123456 cpu1 vmx_exit reason=48 qualification=0x181 rip=0xffffffff81000000\n"
                           "123457 cpu1 pio write port=0x3f8 size=1 value=0x41\n");
    free(text);
    free(t);
}

Test(trace, ring_keeps_the_last)
{
    uint64_t now = 0;
    struct trace *t = new_trace(&now);
    char *text = NULL;
    size_t n = 0;
    trace_enable(t, "lapic", NULL);
    for (now = 0; now < 3 * TRACE_RING + 5; now++)
        trace_lapic(t, 0, now, 0);
    FILE *f = open_memstream(&text, &n);
    trace_dump(t, f, 1);
    fclose(f);
    cr_assert_str_eq(text, "12292 cpu0 lapic read offset=0x3004 value=0x0\n");
    free(text);
    free(t);
}

/* A row whose text shows more or fewer values than it has would print nonsense. */
Test(trace, every_row_formats_all_its_values)
{
    static const struct {
        const char *text;
        unsigned values;
    } rows[] = {
#define COUNT_PARAMS(...)                 COUNT_1(__VA_ARGS__, 6, 5, 4, 3, 2, 1)
#define COUNT_1(a, b, c, d, e, f, n, ...) n
#define TRACE(name, params, list, text)   {text, COUNT_PARAMS list},
#include "base/trace.def"
#undef TRACE
    };
    cr_assert_gt(ARRAY_LEN(rows), 0);
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned shown = 0;
        for (const char *p = rows[i].text; *p; p++) {
            if (*p != '%')
                continue;
            cr_assert(strchr("xudr", p[1]) && p[1], "%s", trace_name(i));
            shown++;
        }
        cr_assert_eq(shown, rows[i].values, "%s", trace_name(i));
    }
}
