/*
 * tests/isa/main.c -- test_isa: every form of every row of insn.def, 1,000 cases each, natively and in
 * droste.
 *
 *   test_isa                              all forms
 *   test_isa --only TEXT                  forms whose name contains TEXT
 *   test_isa --seed N --form NAME --case K   one case, both states side by side
 *   test_isa --coverage                   every form with its number of cases
 *   test_isa --sequence                   random sequences of instructions as one block
 *   test_isa --speed                      instructions a second of the interpreter
 *   test_isa --accel jit [--hot N]        droste's side by the back end for this host (N: 1)
 * A row of insn.def without a form fails; a row that stands in skipped.def is counted as skipped.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "isa.h"

#define CASES_PER_ENCODING 40
#define REPORTS_PER_FORM   2

struct form_result {
    uint64_t cases, failed, skipped, faults;
    bool broken; /* no encoding was found */
};

static struct {
    uint64_t seed, cases, only_case;
    const char *only, *form;
    bool coverage, sequence, speed, have_case, verbose, list;
    unsigned workers;
    uint64_t first, hot;
    bool jit;
} opt = {.seed = 1, .cases = 1000, .workers = 2, .hot = 1};

/* -- One form ------------------------------------------------------------------------------------------ */

static bool encoding_for(const struct form *f, uint64_t group, struct insn *in)
{
    struct rng r = rng_for(opt.seed, f->name, group, 1);
    for (unsigned tries = 0; tries < 400; tries++)
        if (insn_encode(f, &r, in))
            return true;
    return false;
}

static void place(const struct insn *in)
{
    uint8_t bytes[32];
    memset(bytes, 0xcc, sizeof(bytes));
    memcpy(bytes, in->bytes, in->length);
    code_write(in->at, bytes, in->length + 1);
}

static void unplace(const struct insn *in)
{
    uint8_t bytes[32];
    memset(bytes, 0xcc, sizeof(bytes));
    code_write(in->at, bytes, in->length + 1);
}

static void report(const struct form *f, const struct insn *in, uint64_t k, const char *what)
{
    char text[192];
    insn_print(in, text, sizeof(text));
    printf("FAIL %s: %s\n     %s\n     test_isa --seed %llu --form '%s' --case %llu\n", f->name, what, text,
           (unsigned long long)opt.seed, f->name, (unsigned long long)k);
    fflush(stdout);
}

/* Runs case k of f on both sides; false and a message when they differ. */
static void run_case(const struct form *f, const struct insn *in, uint64_t k, struct form_result *res,
                     bool show)
{
    struct rng r = rng_for(opt.seed, f->name, k, 2);
    struct isa_state before, native, emulated;
    struct ignore ig;
    char what[256];
    memory_reset();
    state_random(f, in, &r, &before);
    ignore_for(f, in, &before, &ig);
    if (ig.why && !show) {
        res->skipped++;
        return;
    }
    native_run(f->mode, &before, &native);
    emulated_run(f->mode, &before, &emulated, 0);
    res->cases++;
    res->faults += native.vector >= 0;
    bool equal =
        states_equal(&native, &emulated, &ig, what, sizeof(what)) &&
        ((ig.host_may_fault && native.vector >= 0) || memory_equal(&ig, in, &before, what, sizeof(what)));
    if (!equal && res->failed++ < REPORTS_PER_FORM)
        report(f, in, k, what);
    if (show) {
        char text[192];
        insn_print(in, text, sizeof(text));
        printf("%s\n", text);
        states_print(&before, &native, &emulated);
        printf("%s\n", equal ? "equal" : what);
    }
}

static void run_form(const struct form *f, struct form_result *res)
{
    struct insn in;
    for (uint64_t k = 0; k < opt.cases; k++) {
        if (k % CASES_PER_ENCODING == 0) {
            if (k)
                unplace(&in);
            if (!encoding_for(f, k / CASES_PER_ENCODING, &in)) {
                res->broken = true;
                return;
            }
            place(&in);
        }
        run_case(f, &in, k, res, false);
    }
    unplace(&in);
}

/* -- Workers ------------------------------------------------------------------------------------------- */

struct shared {
    struct sequence_result sequences[16];
    unsigned running[16];    /* form each worker is at */
    uint64_t translated[16]; /* blocks, by the back end */
    struct form_result forms[];
};

static void side_init(void)
{
    native_init();
    if (opt.jit)
        emulated_use_jit((uint32_t)opt.hot);
    emulated_init();
    memory_reset();
    native_protect();
}

static void run_forms(unsigned worker, struct shared *sh)
{
    for (unsigned i = worker; i < form_count; i += opt.workers) {
        if (opt.only && !strstr(forms[i].name, opt.only))
            continue;
        sh->running[worker] = i;
        run_form(&forms[i], &sh->forms[i]);
    }
}

static void work(unsigned worker, struct shared *sh)
{
    side_init();
    if (opt.sequence) {
        uint64_t n = opt.cases / opt.workers;
        sequences_run(opt.seed, opt.first + worker * n, n, opt.verbose, &sh->sequences[worker]);
    } else {
        run_forms(worker, sh);
    }
    sh->translated[worker] = emulated_translated();
}

static bool run_workers(struct shared *sh)
{
    bool ok = true;
    pid_t pids[16];
    for (unsigned w = 0; w < opt.workers; w++) {
        fflush(stdout);
        pids[w] = fork();
        if (pids[w] == 0) {
            work(w, sh);
            fflush(stdout);
            _exit(0);
        }
    }
    for (unsigned w = 0; w < opt.workers; w++) {
        int status = 0;
        waitpid(pids[w], &status, 0);
        if (WIFSIGNALED(status) || WEXITSTATUS(status)) {
            printf("FAIL worker %u ended with %s %d in form '%s'\n", w,
                   WIFSIGNALED(status) ? "signal" : "status",
                   WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                   opt.sequence ? "sequence" : forms[sh->running[w]].name);
            ok = false;
        }
    }
    return ok;
}

/* -- Summary ------------------------------------------------------------------------------------------- */

struct totals {
    uint64_t passed, failed, skipped, rows, rows_skipped;
};

static void summarise_row(const struct insn_row *row, const struct shared *sh, struct totals *t)
{
    const char *name = ZydisMnemonicGetString(row->mnemonic), *why = row_skipped(row, emulated_model());
    unsigned count = 0, selected = 0;
    struct form_result sum = {0};
    if (why) {
        if (!opt.only)
            printf("skip %-12s %s\n", name, why);
        t->rows_skipped++;
        t->skipped++;
        return;
    }
    for (unsigned i = 0; i < form_count; i++) {
        const struct form_result *r = &sh->forms[i];
        if (forms[i].row != row)
            continue;
        count++;
        if (opt.only && !strstr(forms[i].name, opt.only))
            continue;
        selected++;
        sum.cases += r->cases;
        sum.failed += r->failed;
        sum.skipped += r->skipped;
        sum.faults += r->faults;
        if (r->cases == 0 && r->skipped && !r->broken && !opt.only)
            printf("skip %s: known vendor difference\n", forms[i].name);
        else if (r->cases == 0 || r->broken) {
            printf("FAIL %s: a form without cases\n", forms[i].name);
            sum.failed++;
        }
        if (opt.coverage)
            printf("  %-60s %7llu cases %7llu faults %7llu failed\n", forms[i].name,
                   (unsigned long long)r->cases, (unsigned long long)r->faults,
                   (unsigned long long)r->failed);
    }
    if (count == 0 && !opt.only) {
        printf("FAIL %s: a row of insn.def without a form\n", name);
        t->failed++;
    }
    if (selected && (opt.coverage || sum.failed))
        printf("%s %-12s %4u forms %8llu cases %8llu failed\n", sum.failed ? "FAIL" : "ok  ", name, selected,
               (unsigned long long)sum.cases, (unsigned long long)sum.failed);
    t->rows++;
    t->passed += sum.cases - MIN(sum.cases, sum.failed);
    t->failed += sum.failed;
    t->skipped += sum.skipped;
}

static int show_case(void)
{
    struct form_result res = {0};
    struct insn in;
    side_init();
    for (unsigned i = 0; i < form_count; i++) {
        if (strcmp(forms[i].name, opt.form))
            continue;
        if (!encoding_for(&forms[i], opt.only_case / CASES_PER_ENCODING, &in))
            return 1;
        place(&in);
        run_case(&forms[i], &in, opt.only_case, &res, true);
        return res.failed != 0;
    }
    fprintf(stderr, "test_isa: no form '%s'\n", opt.form);
    return 2;
}

static uint64_t number(const char *text)
{
    return text ? strtoull(text, NULL, 0) : 0;
}

static bool parse(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        bool takes = true;
        if (!strcmp(a, "--seed"))
            opt.seed = number(v);
        else if (!strcmp(a, "--cases"))
            opt.cases = number(v);
        else if (!strcmp(a, "--first"))
            opt.first = number(v);
        else if (!strcmp(a, "--workers"))
            opt.workers = (unsigned)number(v);
        else if (!strcmp(a, "--only"))
            opt.only = v;
        else if (!strcmp(a, "--form"))
            opt.form = v;
        else if (!strcmp(a, "--hot"))
            opt.hot = number(v);
        else if (!strcmp(a, "--accel"))
            opt.jit = v && !strcmp(v, "jit");
        else if (!strcmp(a, "--case"))
            opt.only_case = number(v);
        else {
            takes = false;
            opt.coverage |= !strcmp(a, "--coverage");
            opt.sequence |= !strcmp(a, "--sequence");
            opt.speed |= !strcmp(a, "--speed");
            opt.verbose |= !strcmp(a, "--verbose");
            opt.list |= !strcmp(a, "--list");
            if (a[0] != '-')
                return false;
        }
        if (takes && !v)
            return false;
        i += takes;
    }
    return opt.workers >= 1 && opt.workers <= 16;
}

static int finish(const struct totals *t)
{
    printf("seed %llu\n", (unsigned long long)opt.seed);
    printf("%llu passed, %llu failed, %llu skipped\n", (unsigned long long)t->passed,
           (unsigned long long)t->failed, (unsigned long long)t->skipped);
    return t->failed != 0;
}

int main(int argc, char **argv)
{
    struct totals t = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!parse(argc, argv)) {
        fprintf(stderr,
                "usage: test_isa [--seed N] [--only TEXT] [--form NAME --case K] [--cases N] [--coverage] "
                "[--sequence] [--speed] [--workers N] [--accel interp|jit] [--hot N]\n");
        return 2;
    }
    forms_build(emulated_model());
    if (opt.list) {
        for (unsigned i = 0; i < form_count; i++)
            printf("%s\n", forms[i].name);
        return 0;
    }
    if (opt.speed) {
        side_init();
        printf("%.1f million instructions a second\n", emulated_speed() / 1e6);
        return 0;
    }
    if (opt.form)
        return show_case();
    if (opt.sequence && opt.cases == 1000)
        opt.cases = 100000;

    size_t size = sizeof(struct shared) + form_count * sizeof(struct form_result);
    struct shared *sh = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (sh == MAP_FAILED)
        return 2;
    if (!run_workers(sh))
        t.failed++;
    if (opt.jit) {
        uint64_t blocks = 0;
        for (unsigned w = 0; w < opt.workers; w++)
            blocks += sh->translated[w];
        printf("%llu blocks translated%s\n", (unsigned long long)blocks,
               blocks ? "" : ": no back end for this host");
    }
    if (opt.sequence) {
        for (unsigned w = 0; w < opt.workers; w++) {
            t.passed += sh->sequences[w].passed;
            t.failed += sh->sequences[w].failed;
        }
        return finish(&t);
    }
    for (unsigned i = 0; i < insn_row_count; i++)
        summarise_row(&insn_rows[i], sh, &t);
    printf("%llu rows, %u forms, %llu rows skipped\n", (unsigned long long)t.rows, form_count,
           (unsigned long long)t.rows_skipped);
    return finish(&t);
}
