/* frontend/stats.h -- counts of a run as JSON, for --stats and the benchmarks. */
#ifndef FRONTEND_STATS_H
#define FRONTEND_STATS_H

#include "frontend/sampler.h"

/* Writes wall time, also by L1 and L2 as it was sampled, instructions in L1 and in L2, entries, exits by
 * reason, TLB and walk counts. */
bool stats_write(const struct machine *m, const struct sampler *s, const char *path, double seconds,
                 struct error *e);

#endif
