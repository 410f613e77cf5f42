/*
 * frontend/options.h -- the command line as a struct. Rows: options.def.
 */
#ifndef FRONTEND_OPTIONS_H
#define FRONTEND_OPTIONS_H

#include "base/error.h"
#include "cpu/cpu.h"

#define OPTION_DRIVES_MAX 8

struct option_drive {
    const char *file;
    bool read_only;
};

enum option_action { ACTION_RUN, ACTION_HELP, ACTION_VERSION };

struct options {
    enum option_action action;
    uint64_t memory; /* bytes */
    uint32_t cpus;
    struct cpu_model model;
    const char *kernel, *initrd, *append;
    struct option_drive drives[OPTION_DRIVES_MAX];
    uint32_t drive_count;
    const char *serial; /* as given; NULL: stdio with -nographic */
    bool debug_exit;
    uint16_t debug_exit_base;
    uint32_t debug_exit_size;
    bool no_reboot, nographic;
    bool jit, perf_map, tlb_check;
    uint32_t jit_hot;   /* 0: not given */
    uint64_t jit_cache; /* bytes; 0: not given */
    int64_t rtc_start;  /* seconds since 1970 */
    const char *trace, *log_file, *stats, *profile, *save, *loadvm, *state_hash_file;
    uint64_t at;               /* tick, UINT64_MAX: not given */
    uint64_t state_hash_every; /* ticks; 0: not given */
    char text[16][256];        /* storage for parts of options */
    uint32_t text_count;
};

/* Fills o from argv[1..]. False: e names the option. Notes (such as for -enable-kvm) go to standard error. */
bool options_parse(struct options *o, int argc, char **argv, struct error *e);
void options_help(FILE *out);

#endif
