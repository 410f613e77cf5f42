/*
 * cpu/jit/perf_map.c -- /tmp/perf-PID.map, by which `perf` names translated blocks.
 *
 * A line for each block: address and length in hexadecimal, name. All processors share the code, so one file
 * does for all. The format cannot take a line back: when code memory is used again the file is written anew,
 * so that no two lines name the same bytes. What perf finds at the end of the run is what was translated
 * then.
 */
#include "cpu/jit/emit.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#if defined(__x86_64__)

void jit_perf_add(const struct jit *j, const struct jit_block *jb)
{
    if (!j->perf_map || !jb->block)
        return;
    fprintf(j->perf_map, "%llx %zx guest_%llx_%x\n",
            (unsigned long long)(uintptr_t)(j->run + (jb->entry - j->write)), (size_t)(jb->end - jb->entry),
            (unsigned long long)jb->block->gpa, jb->block->key);
}

void jit_perf_rewrite(const struct jit *j)
{
    if (!j->perf_map)
        return;
    rewind(j->perf_map);
    if (ftruncate(fileno(j->perf_map), 0))
        return;
    fprintf(j->perf_map, "%llx %zx droste_thunks\n", (unsigned long long)(uintptr_t)j->run, j->thunks);
    for (unsigned i = 0; i < j->region_count; i++)
        for (const struct jit_block *jb = j->regions[i].blocks; jb; jb = jb->next)
            jit_perf_add(j, jb);
}

bool jit_perf_map(struct jit *j, struct error *e)
{
    char path[64];
    snprintf(path, sizeof(path), "/tmp/perf-%d.map", (int)getpid());
    j->perf_map = fopen(path, "w");
    if (!j->perf_map)
        return error_set(e, "--perf-map: %s: %s", path, strerror(errno));
    jit_perf_rewrite(j);
    return true;
}

#else

bool jit_perf_map(struct jit *j, struct error *e)
{
    (void)j;
    return error_set(e, "--perf-map: there is no translator for this host");
}

#endif
