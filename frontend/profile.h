/* frontend/profile.h -- the hottest blocks of a run as text or JSON, for --profile. */
#ifndef FRONTEND_PROFILE_H
#define FRONTEND_PROFILE_H

#include <stdio.h>
#include "machine/machine.h"

/* Counting begins; before the machine runs. */
bool profile_start(struct machine *m, struct error *e);
/* JSON when `path` ends in .json. The file is open already, so that a bad path is known before the run. */
bool profile_write(const struct machine *m, FILE *out, const char *path, struct error *e);

#endif
