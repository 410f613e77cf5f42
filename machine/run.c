/*
 * machine/run.c -- the turn-taking of processors, timers, and the end of a run.
 *
 * A slice of execution ends at the nearest timer, the end of the quantum, or the tick that was asked for,
 * whichever comes first; so timers run at exactly their tick. When no processor can run, time jumps to the
 * next timer.
 */
#include "machine/machine.h"

#include "cpu/exec.h"
#include "cpu/vmx/vmx.h"

/* Instructions a processor runs before the next one has its turn. */
#define QUANTUM 4000
/* Halted for so long with interrupts off, a processor waits for an NMI that no timer of the board has sent.
 */
#define DEAD_TICKS (60 * CLOCK_HZ)
/* While no processor runs, one jump to the next timer in so many asks whether to stop. */
#define IDLE_ASKS 64
/* Slices in which no time passes; a turn can legitimately begin with one. */
#define STUCK_SLICES 1000

enum { CPU_STOP_TRIPLE_FAULT = 1, CPU_STOP_PAUSE = 2 };

static void next_turn(struct machine *m)
{
    m->turn.cpu = (m->turn.cpu + 1) % m->cpu_count;
    m->turn.left = QUANTUM;
}

/* The processor to run now, from the one whose turn it is onwards; NULL when none can. */
static struct cpu *runnable(struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        struct cpu *cpu = &m->cpus[m->turn.cpu];
        if (m->turn.left && cpu_runnable(cpu))
            return cpu;
        next_turn(m);
    }
    /* A turn that had just ended may still be the only one. */
    return cpu_runnable(&m->cpus[m->turn.cpu]) ? &m->cpus[m->turn.cpu] : NULL;
}

/* A halted L2 is woken by its VMX-preemption timer as well. */
static uint64_t next_wakeup(const struct machine *m)
{
    uint64_t next = m->clock.next;
    for (uint32_t i = 0; i < m->cpu_count; i++)
        if (m->cpus[i].vmx_non_root)
            next = MIN(next, vmx_next_deadline(&m->cpus[i]));
    return next;
}

/* No processor runs: will none ever again? Input can come while it is polled and the UART has room; one that
 * is full has asked for its interrupt before. */
static bool dead(const struct machine *m)
{
    const struct clock *c = &m->clock;
    bool polled = m->config.poll && m->poll_timer.deadline != CLOCK_NEVER;
    if (!(polled && uart_can_receive(&m->uart)) && !machine_timer_wakes(m))
        return true;
    if (c->heap_count > polled && c->now - m->turn.last_run < DEAD_TICKS)
        return false;
    for (uint32_t i = 0; i < m->cpu_count; i++) {
        const struct cpu *cpu = &m->cpus[i];
        if (cpu->activity == ACTIVITY_HLT && ((cpu->rflags & FLAG_IF) || cpu->vmx_non_root))
            return false;
    }
    return true;
}

static bool idle(struct machine *m, uint64_t until)
{
    uint64_t next = next_wakeup(m);
    if (next > CLOCK_NOW_MAX || dead(m)) {
        m->end = MACHINE_DEAD;
        return false;
    }
    next = MIN(next, until);
    if (m->config.idle && next > m->clock.now)
        m->config.idle(m->config.owner, next - m->clock.now);
    m->clock.now = MAX(next, m->clock.now);
    return true;
}

static void restart(struct machine *m, bool triple_fault)
{
    if (m->config.no_reboot) {
        m->end = triple_fault ? MACHINE_SHUTDOWN : MACHINE_RESET;
        return;
    }
    if (!m->config.boot.kernel) {
        error_set(&m->error, "the guest %s, and there is no kernel to start again",
                  triple_fault ? "shut down by a triple fault" : "reset the machine");
        m->end = MACHINE_FAILED;
        return;
    }
    log_info(m->log, "the guest %s: restarting",
             triple_fault ? "shut down by a triple fault" : "reset the machine");
    m->turn.resets++;
    if (!machine_reset(m, &m->error))
        m->end = MACHINE_FAILED;
    /* Input is looked at once a start, however short its run is: a loop of restarts can be ended. */
    if (m->config.poll)
        clock_arm(&m->clock, &m->poll_timer, m->clock.now);
}

static void after_slice(struct machine *m, struct cpu *cpu)
{
    uint64_t stops = cpu->stops;
    cpu->stops = 0;
    if (stops & CPU_STOP_PAUSE)
        m->turn.left = 0;
    if (m->end != MACHINE_RUNNING)
        return;
    if (m->reset_wanted) {
        m->reset_wanted = false;
        restart(m, false);
    } else if (stops & CPU_STOP_TRIPLE_FAULT) {
        restart(m, true);
    }
}

enum machine_end machine_run(struct machine *m, uint64_t until)
{
    unsigned stuck = 0, idles = 0;
    uint64_t unasked = 0;
    m->end = MACHINE_RUNNING;
    while (m->end == MACHINE_RUNNING) {
        if (m->clock.next <= m->clock.now)
            clock_run(&m->clock);
        if (m->reset_wanted && m->end == MACHINE_RUNNING) {
            m->reset_wanted = false;
            restart(m, false);
        }
        if (unlikely(m->stop_wanted)) {
            m->stop_wanted = false;
            m->end = MACHINE_STOPPED;
            break;
        }
        if (m->end != MACHINE_RUNNING)
            break;
        if (m->clock.now >= until) {
            m->end = MACHINE_AT;
            break;
        }
        struct cpu *cpu = runnable(m);
        if (!cpu) {
            if (!idle(m, until))
                break;
            if (m->config.stop && ++idles % IDLE_ASKS == 0)
                m->stop_wanted |= m->config.stop(m->config.owner);
            continue;
        }
        uint64_t ticks = MIN(MIN(m->clock.next, until) - m->clock.now, MACHINE_STOP_TICKS);
        if (m->cpu_count > 1)
            ticks = MIN(ticks, m->turn.left);
        m->trace.cpu = (uint16_t)cpu->id;
        uint64_t used = cpu_run(cpu, ticks);
        m->turn.left -= MIN(used, m->turn.left);
        if (used)
            m->turn.last_run = m->clock.now;
        unasked += used;
        if (m->config.stop && unasked >= MACHINE_STOP_TICKS) {
            unasked = 0;
            m->stop_wanted |= m->config.stop(m->config.owner);
        }
        if (m->cpu_count == 1)
            m->turn.left = QUANTUM;
        after_slice(m, cpu);
        stuck = used ? 0 : stuck + 1;
        if (unlikely(stuck > STUCK_SLICES * m->cpu_count)) {
            /* Only a loaded state that no run can reach gets here; time goes on without the processor. */
            stuck = 0;
            m->clock.now++;
            next_turn(m);
        }
    }
    return m->end;
}

void machine_stop(struct machine *m)
{
    m->stop_wanted = true;
}
