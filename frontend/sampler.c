/*
 * frontend/sampler.c -- the thread that samples a running machine for --stats.
 *
 * It reads three words of the machine while the machine's thread writes them: each is a word on its own, and
 * a sample taken during a VM entry counts for either side.
 */
#include "frontend/sampler.h"

#include <signal.h>
#include <string.h>
#include <time.h>

#define SAMPLE_NS 1000000

static void sample(struct sampler *s)
{
    const struct machine *m = s->machine;
    uint32_t turn = __atomic_load_n(&m->turn.cpu, __ATOMIC_RELAXED);
    const struct cpu *cpu = &m->cpus[turn < m->cpu_count ? turn : 0];
    if (__atomic_load_n(&cpu->activity, __ATOMIC_RELAXED) != ACTIVITY_ACTIVE)
        s->idle++;
    else if (__atomic_load_n(&cpu->vmx_non_root, __ATOMIC_RELAXED))
        s->l2++;
    else
        s->l1++;
}

static void *run(void *owner)
{
    struct sampler *s = owner;
    struct timespec next;
    clock_gettime(CLOCK_MONOTONIC, &next);
    while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
        next.tv_nsec += SAMPLE_NS;
        if (next.tv_nsec >= 1000000000) {
            next.tv_nsec -= 1000000000;
            next.tv_sec++;
        }
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
        sample(s);
    }
    return NULL;
}

bool sampler_start(struct sampler *s, const struct machine *m)
{
    sigset_t all, before;
    memset(s, 0, sizeof(*s));
    s->machine = m;
    /* Signals are the main thread's. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    s->running = pthread_create(&s->thread, NULL, run, s) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return s->running;
}

void sampler_stop(struct sampler *s)
{
    if (!s->running)
        return;
    __atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
    pthread_join(s->thread, NULL);
    s->running = false;
}
