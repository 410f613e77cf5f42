/*
 * frontend/sampler.h -- where the host's time goes: how often a processor is found in L1, in L2, or idle.
 *
 * A thread looks at the machine once a millisecond of the host's time and writes nothing in it, so that the
 * run is the same with and without it.
 */
#ifndef FRONTEND_SAMPLER_H
#define FRONTEND_SAMPLER_H

#include <pthread.h>
#include "machine/machine.h"

struct sampler {
    const struct machine *machine;
    pthread_t thread;
    bool running;
    bool stop;             /* atomic */
    uint64_t l1, l2, idle; /* samples; the thread's until sampler_stop() */
};

/* False: no thread can be made, and nothing is sampled. */
bool sampler_start(struct sampler *s, const struct machine *m);
/* Ends the thread; the counts are then the caller's. */
void sampler_stop(struct sampler *s);

#endif
