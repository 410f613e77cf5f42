/* frontend/stats.h -- counts of a run as JSON, for --stats and the benchmarks. */
#ifndef FRONTEND_STATS_H
#define FRONTEND_STATS_H

#include "machine/machine.h"

/* Writes wall time, instructions in L1 and in L2, entries, exits by reason, TLB and walk counts. */
bool stats_write(const struct machine *m, const char *path, double seconds, struct error *e);

#endif
