/*
 * frontend/main.c -- the program: options in, a machine run, an exit status out.
 *
 * Exit status: isa-debug-exit's (v << 1) | 1; 0 for power off, reset with -no-reboot, and --at; 1 for an
 * error of ours or a bad option; 2 when the guest shut down by a triple fault or can never run again.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cpu/cache.h"
#include "cpu/jit/jit.h"
#include "frontend/demo.h"
#include "frontend/host.h"
#include "frontend/options.h"
#include "frontend/profile.h"
#include "frontend/stats.h"
#include "machine/machine.h"

struct program {
    struct options options;
    struct log log;
    struct host_serial serial;
    struct host_disk disks[OPTION_DRIVES_MAX];
    struct machine *machine;
    struct sampler sampler; /* for --stats */
    FILE *log_file, *hash_file, *profile_file;
};

static int fail(const struct error *e)
{
    fprintf(stderr, "droste: %s\n", e->message);
    return 1;
}

/* -- Host side of the machine -------------------------------------------------------------------------- */

static void idle(void *owner, uint64_t ticks)
{
    struct program *p = owner;
    if (p->serial.terminal)
        host_serial_wait(&p->serial, ticks);
}

/* SIGINT and SIGTERM end the run between two slices, so that the terminal and --save are looked after. */
static void stop_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

static bool stop_signal_pending(void *owner)
{
    sigset_t set;
    (void)owner;
    stop_signals(&set);
    return sigtimedwait(&set, NULL, &(struct timespec){0, 0}) > 0;
}

static bool poll_input(void *owner)
{
    struct program *p = owner;
    host_serial_poll(&p->serial, &p->machine->uart);
    if (p->serial.quit || stop_signal_pending(p))
        machine_stop(p->machine);
    return p->serial.in >= 0;
}

/* What is written at the end of a long run had better be known to fail at its beginning. */
static bool can_write(const char *option, const char *path, struct error *e)
{
    struct stat s;
    if (!path)
        return true;
    bool there = stat(path, &s) == 0;
    if (there && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode))
        return true; /* to open and close a pipe would end it */
    FILE *f = fopen(path, "a");
    if (!f)
        return error_set(e, "%s %s: %s", option, path, strerror(errno));
    fclose(f);
    if (!there)
        remove(path);
    return true;
}

static bool open_all(struct program *p, struct machine_config *c, struct error *e)
{
    const struct options *o = &p->options;
    const char *serial = o->serial ? o->serial : "stdio";
    if (o->log_file) {
        p->log_file = fopen(o->log_file, "w");
        if (!p->log_file)
            return error_set(e, "-D %s: %s", o->log_file, strerror(errno));
    }
    log_init(&p->log, p->log_file ? p->log_file : stderr, LOG_INFO);
    if (o->state_hash_file) {
        p->hash_file = fopen(o->state_hash_file, "w");
        if (!p->hash_file)
            return error_set(e, "--state-hash %s: %s", o->state_hash_file, strerror(errno));
    }
    if (o->profile) {
        p->profile_file = fopen(o->profile, "w");
        if (!p->profile_file)
            return error_set(e, "--profile %s: %s", o->profile, strerror(errno));
    }
    if (!can_write("--stats", o->stats, e) || !can_write("--save", o->save, e))
        return false;
    for (uint32_t i = 0; i < o->drive_count; i++) {
        if (!host_disk_open(&p->disks[i], o->drives[i].file, o->drives[i].read_only, e))
            return false;
        c->drives[i] = &p->disks[i].blockdev;
        c->drive_count++;
    }
    return host_serial_open(&p->serial, serial, e);
}

static void close_all(struct program *p)
{
    host_serial_close(&p->serial);
    for (uint32_t i = 0; i < p->options.drive_count; i++)
        host_disk_close(&p->disks[i]);
    if (p->log_file)
        fclose(p->log_file);
    if (p->hash_file)
        fclose(p->hash_file);
    if (p->profile_file)
        fclose(p->profile_file);
}

/* -- Running ------------------------------------------------------------------------------------------- */

static void write_hash(struct program *p)
{
    fprintf(p->hash_file, "%llu %016llx\n", (unsigned long long)p->machine->clock.now,
            (unsigned long long)machine_hash(p->machine));
    fflush(p->hash_file);
}

static enum machine_end run(struct program *p)
{
    const struct options *o = &p->options;
    struct machine *m = p->machine;
    for (;;) {
        uint64_t until = o->at;
        if (p->hash_file) {
            uint64_t next = (m->clock.now / o->state_hash_every + 1) * o->state_hash_every;
            until = MIN(until, next);
        }
        enum machine_end end = machine_run(m, until);
        if (end != MACHINE_AT || m->clock.now >= o->at)
            return end; /* the last hash is finish()'s */
        write_hash(p);
    }
}

/* What the end means to whoever started the program. */
static int report_end(struct program *p, enum machine_end end)
{
    struct machine *m = p->machine;
    switch (end) {
    case MACHINE_EXIT:
        return m->status;
    case MACHINE_SHUTDOWN:
        fprintf(stderr,
                "droste: the guest shut down by a triple fault at rip %#llx after %llu instructions\n",
                (unsigned long long)m->cpus[m->turn.cpu].rip, (unsigned long long)m->clock.now);
        return 2;
    case MACHINE_DEAD:
        fprintf(stderr, "droste: the guest halted with nothing left that could wake it, after %llu ticks\n",
                (unsigned long long)m->clock.now);
        return 2;
    case MACHINE_FAILED:
        return fail(&m->error);
    case MACHINE_STOPPED:
        fprintf(stderr, "droste: stopped after %llu ticks\n", (unsigned long long)m->clock.now);
        return 130;
    default:
        return 0;
    }
}

static int finish(struct program *p, enum machine_end end, double seconds)
{
    const struct options *o = &p->options;
    struct error e;
    int status = report_end(p, end);
    if (p->hash_file)
        write_hash(p);
    log_unimplemented_summary(&p->log, p->log.out);
    if (o->stats && !stats_write(p->machine, &p->sampler, o->stats, seconds, &e))
        status = fail(&e);
    if (o->profile && !profile_write(p->machine, p->profile_file, o->profile, &e))
        status = fail(&e);
    if (o->save) {
        if (!machine_save(p->machine, o->save, &e))
            status = fail(&e);
        else
            fprintf(stderr, "droste: saved at tick %llu to %s\n", (unsigned long long)p->machine->clock.now,
                    o->save);
    }
    return status;
}

/* Nothing has run, but processors have contexts already. */
static void check_tlb(struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        m->cpus[i].mmu.verify = true;
        mmu_drop_all(&m->cpus[i].mmu);
    }
}

static double now_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_program(struct program *p)
{
    const struct options *o = &p->options;
    struct error e;
    struct machine_config c = {.memory = o->memory,
                               .jit = o->jit,
                               .jit_hot = o->jit_hot,
                               .jit_cache = o->jit_cache,
                               .cpus = o->cpus,
                               .model = o->model,
                               .boot = {.kernel = o->kernel, .initrd = o->initrd, .append = o->append},
                               .rtc_start = o->rtc_start,
                               .no_reboot = o->no_reboot,
                               .debug_exit = o->debug_exit,
                               .debug_exit_base = o->debug_exit_base,
                               .debug_exit_size = o->debug_exit_size,
                               .serial = &p->serial.chardev,
                               .idle = idle,
                               .owner = p,
                               .log = &p->log};
    if (!open_all(p, &c, &e)) {
        close_all(p);
        return fail(&e);
    }
    c.poll = p->serial.in >= 0 ? poll_input : NULL;
    c.stop = p->serial.in >= 0 ? stop_signal_pending : NULL;
    c.boot.cpus = o->cpus;
    if (o->loadvm)
        c.boot.kernel = NULL;
    struct machine *m = p->machine = malloc(sizeof(*m));
    if (!m || !machine_init(m, &c, &e)) {
        if (!m)
            error_set(&e, "not enough host memory for the machine");
        free(m);
        close_all(p);
        return fail(&e);
    }
    const char *bad = NULL;
    bool ok = true;
    if (ok && o->perf_map && !m->code->jit)
        log_warn(&p->log, "--perf-map: this run translates nothing");
    else if (ok && o->perf_map)
        ok = jit_perf_map(m->code->jit, &e);
    if (ok && o->profile)
        ok = profile_start(m, &e);
    if (ok && o->tlb_check)
        check_tlb(m);
    if (ok && o->trace) {
        m->trace.out = p->log.out;
        ok = trace_enable(&m->trace, o->trace, &bad) || error_set(&e, "-trace %s: no event matches", bad);
    }
    if (ok && o->loadvm)
        ok = machine_load(m, o->loadvm, &e);
    m->config.boot.kernel = o->kernel; /* for a guest that resets the machine */
    int status;
    if (ok) {
        if (c.poll) {
            sigset_t set;
            stop_signals(&set);
            sigprocmask(SIG_BLOCK, &set, NULL);
        }
        double start = now_seconds();
        if (o->stats)
            sampler_start(&p->sampler, m);
        enum machine_end end = run(p);
        sampler_stop(&p->sampler);
        status = finish(p, end, now_seconds() - start);
    } else {
        status = fail(&e);
    }
    machine_free(m);
    free(m);
    close_all(p);
    return status;
}

int main(int argc, char **argv)
{
    static struct program p;
    struct error e;
    if (argc >= 2 && !strcmp(argv[1], "demo"))
        return demo_main(argc - 1, argv + 1);
    if (!options_parse(&p.options, argc, argv, &e))
        return fail(&e);
    switch (p.options.action) {
    case ACTION_HELP:
        options_help(stdout);
        return 0;
    case ACTION_VERSION:
        printf("droste 0.1\n");
        return 0;
    default:
        return run_program(&p);
    }
}
