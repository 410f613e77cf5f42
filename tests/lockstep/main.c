/*
 * tests/lockstep/main.c -- lockstep: -accel interp and -accel jit on random programs, state for state.
 *
 *   lockstep                        every kind of program, a few seeds of each
 *   lockstep --list                 kinds
 *   lockstep --kind K --seed N      one program again; K: a name, or its beginning with '*'
 *   --count N       seeds from --seed on (default 1)     --percent N   of the usual number of seeds
 *   --slices N      slices a program runs                --slice-max N ticks of the longest
 *   --hot N         runs of a block before it is translated (default: by the seed, mostly 1)
 *   --cache N       bytes of translated code (default: as much as ever needed)
 *   --verbose       a line a program                     --trace N     the first N instructions, no
 * comparison A difference is printed with its seed, the last instructions, and all that differs; '*' marks
 * the last instruction that wrote one of the things that differ.
 */
#include "tests/lockstep/lockstep.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define REPORTS_MAX 12u
#define SECONDS_MAX 60

static struct {
    char running[96]; /* for the signal handler */
} now;

static void died(int signal)
{
    static const char text[] = "lockstep: died or never ended: ";
    if (write(2, text, sizeof(text) - 1) < 0 || write(2, now.running, strlen(now.running)) < 0 ||
        write(2, "\n", 1) < 0)
        _exit(3);
    raise(signal);
}

static void watch_signals(void)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGPROF, SIGTRAP};
    for (unsigned i = 0; i < ARRAY_LEN(signals); i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = died, .sa_flags = (int)SA_RESETHAND}, NULL);
}

static void start_clock(void)
{
    setitimer(ITIMER_PROF, &(struct itimerval){.it_value = {.tv_sec = SECONDS_MAX}}, NULL);
}

struct options {
    const char *kind;
    uint64_t count, percent, trace;
    struct settings s;
};

static bool parse(struct options *o, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        const char *v = i + 1 < argc ? argv[i + 1] : NULL;
        uint64_t n = v ? strtoull(v, NULL, 0) : 0;
        if (!strcmp(a, "--verbose")) {
            o->s.verbose = true;
            continue;
        }
        if (!v)
            return false;
        if (!strcmp(a, "--kind"))
            o->kind = v;
        else if (!strcmp(a, "--seed"))
            o->s.seed = n;
        else if (!strcmp(a, "--count"))
            o->count = n;
        else if (!strcmp(a, "--trace"))
            o->trace = n;
        else if (!strcmp(a, "--percent"))
            o->percent = n;
        else if (!strcmp(a, "--slices"))
            o->s.slices = n;
        else if (!strcmp(a, "--slice-max"))
            o->s.slice_max = n;
        else if (!strcmp(a, "--hot"))
            o->s.hot = (uint32_t)n;
        else if (!strcmp(a, "--cache"))
            o->s.cache = n;
        else
            return false;
        i++;
    }
    return o->s.slice_max > 0;
}

static bool selected(const char *kind, const char *pattern)
{
    size_t n = pattern ? strlen(pattern) : 0;
    if (!pattern)
        return true;
    return n && pattern[n - 1] == '*' ? !strncmp(kind, pattern, n - 1) : !strcmp(kind, pattern);
}

struct totals {
    uint64_t programs, failed, ended, ticks, translated, evictions;
};

static void run_kind(const struct options *o, const char *kind, struct totals *t)
{
    struct settings s = o->s;
    s.kind = kind;
    for (uint64_t i = 0; i < o->count; i++, s.seed++) {
        struct outcome out = {0};
        snprintf(now.running, sizeof(now.running), "lockstep --kind %s --seed %" PRIu64 " --hot %u", kind,
                 s.seed, s.hot);
        start_clock();
        if (s.verbose)
            printf("%s\n", now.running);
        if (o->trace) {
            lockstep_trace(&s, o->trace);
            t->programs++;
            continue;
        }
        if (!lockstep_run(&s, &out)) {
            printf("FAIL lockstep --kind %s --seed %" PRIu64 " --slices %" PRIu64 " --slice-max %" PRIu64
                   " --hot %u --cache %" PRIu64 "\n",
                   kind, s.seed, s.slices, s.slice_max, s.hot, s.cache);
            if (++t->failed >= REPORTS_MAX)
                return;
        }
        t->programs++;
        t->ended += out.ended;
        t->ticks += out.ticks;
        t->translated += out.translated;
        t->evictions += out.evictions;
    }
}

int main(int argc, char **argv)
{
    struct options o = {.count = 0, .percent = 100, .s = {.seed = 1, .slices = 100, .slice_max = 700}};
    struct totals t = {0};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 2 && !strcmp(argv[1], "--list")) {
        for (unsigned i = 0; kinds[i]; i++)
            printf("%s\n", kinds[i]);
        return 0;
    }
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: lockstep [--kind K] [--seed N] [--count N] [--percent N] [--slices N] "
                        "[--slice-max N] [--hot N] [--cache N] [--verbose] [--trace N] | --list\n");
        return 2;
    }
    if (!o.count)
        o.count = MAX(40 * o.percent / 100, 1u);
    watch_signals();
    for (unsigned i = 0; kinds[i]; i++)
        if (selected(kinds[i], o.kind))
            run_kind(&o, kinds[i], &t);
    printf("%" PRIu64 " programs, %.1f million instructions, %" PRIu64 " blocks translated, %" PRIu64
           " evictions, %" PRIu64 " ended early, %" PRIu64 " failed\n",
           t.programs, (double)t.ticks / 1e6, t.translated, t.evictions, t.ended, t.failed);
    if (!t.translated && !o.trace)
        printf("no block was translated: there is no back end for this host\n");
    return t.failed || !t.programs;
}
