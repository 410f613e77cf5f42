/*
 * machine/machine.h -- the whole: owns RAM, clock, processors, devices, and runs them in turn.
 *
 * Promise of machine/: the only place where processors and devices meet. One process may hold several
 * machines. Processors take turns on one host thread, a fixed quantum of instructions each, ended early by
 * HLT and PAUSE at exact counts, so a run is a function of its inputs. All input from outside enters through
 * machine_poll_input(), which is called at fixed ticks.
 */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "base/clock.h"
#include "base/log.h"
#include "base/trace.h"
#include "bios/boot.h"
#include "cpu/cpu.h"
#include "cpu/jit/stub.h"
#include "devices/acpi_pm.h"
#include "devices/backend.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/pci.h"
#include "devices/ports.h"
#include "devices/rtc.h"
#include "devices/uart16550.h"
#include "devices/virtio_blk.h"
#include "snapshots/state.h"

#define MACHINE_DRIVES_MAX 8

struct machine_config {
    uint64_t memory; /* bytes, a multiple of 4096 */
    uint32_t cpus;
    bool jit; /* translate to host code where the host has a back end; else, and where not, interpret */
    uint32_t jit_hot;   /* runs of a block before it is translated; 0: the default */
    uint64_t jit_cache; /* bytes of translated code at most; 0: the default */
    struct cpu_model model;
    struct boot_files boot; /* kernel NULL: nothing is loaded */
    int64_t rtc_start;      /* seconds since 1970 */
    bool no_reboot;
    bool debug_exit;
    uint16_t debug_exit_base;
    uint32_t debug_exit_size;
    const struct chardev *serial; /* COM1's output; may be NULL */
    const struct blockdev *drives[MACHINE_DRIVES_MAX];
    uint32_t drive_count;
    /* Called each MACHINE_POLL_TICKS; delivers serial input by uart_receive(). False: the input has ended,
     * and it is not called again. NULL: there is no input. */
    bool (*poll)(void *owner);
    /* Asked every MACHINE_STOP_TICKS while processors run, and now and then while none does: true ends
     * machine_run(). Changes nothing in the machine. May be NULL. */
    bool (*stop)(void *owner);
    /* Every processor is idle until a later tick: the host may sleep. May be NULL. */
    void (*idle)(void *owner, uint64_t ticks);
    void *owner;
    struct log *log;
};

/* Input is looked at this often: 1 ms of virtual time. */
#define MACHINE_POLL_TICKS 1000000
/* Some guests make every tick slow (code in device memory): this many take less than a second on any host. */
#define MACHINE_STOP_TICKS 100000

enum machine_end {
    MACHINE_RUNNING,
    MACHINE_AT,       /* the tick that was asked for */
    MACHINE_OFF,      /* ACPI power off */
    MACHINE_EXIT,     /* isa-debug-exit: machine.status */
    MACHINE_RESET,    /* reset, with -no-reboot */
    MACHINE_SHUTDOWN, /* triple fault, with -no-reboot */
    MACHINE_DEAD,     /* every processor waits for an event that cannot come */
    MACHINE_FAILED,   /* restarting failed: machine.error */
    MACHINE_STOPPED,  /* machine_stop() */
};

struct machine {
    struct machine_config config;
    struct log *log;
    struct trace trace;
    struct clock clock;
    struct bus bus;
    struct phys phys;
    struct cpu_model model;
    struct cpu *cpus;
    uint32_t cpu_count;
    struct code_cache *code;
    struct stub_cache *stubs;

    struct intr_sink sink;
    struct power power;
    struct a20_line a20;
    struct pci_bus pci;
    struct ioapic ioapic;
    struct i8259 pic;
    struct i8254 pit;
    struct hpet hpet;
    struct rtc rtc;
    struct uart uart;
    struct i8042 kbd;
    struct port92 port92;
    struct portcf9 portcf9;
    struct port80 port80;
    struct acpi_pm pm;
    struct debugexit debugexit;
    struct virtio_blk drives[MACHINE_DRIVES_MAX];
    struct timer poll_timer;

    /* Turn-taking: part of the state. */
    struct machine_turn {
        uint32_t cpu; /* whose turn it is */
        uint32_t reserved;
        uint64_t left;     /* ticks left of its quantum */
        uint64_t resets;   /* how often the guest has reset itself */
        uint64_t last_run; /* tick at which a processor last ran */
    } turn;

    enum machine_end end; /* why the last machine_run() returned */
    bool reset_wanted;
    volatile bool stop_wanted; /* set by machine_stop(), also from a signal handler */
    int status;                /* of MACHINE_EXIT */
    struct error error;        /* of MACHINE_FAILED */
    struct state_list states;
    struct machine_ram_hash *ram_hash; /* machine/hash.c; NULL until the first hash */
};

/* Creates a machine in its power-on state with its kernel loaded. False: e says why, and nothing is left. */
bool machine_init(struct machine *m, const struct machine_config *c, struct error *e);
void machine_free(struct machine *m);
/* Runs until tick `until` (absolute) or an end; machine.end says which. */
enum machine_end machine_run(struct machine *m, uint64_t until);
/* Makes machine_run() return soon; safe in a signal handler. */
void machine_stop(struct machine *m);

/* machine/board.c: wiring; machine/interrupts.c: between local APICs and the rest. */
bool machine_wire(struct machine *m, struct error *e);
/* Puts every item into m->states, in a fixed order. */
bool machine_register(struct machine *m, struct error *e);
void machine_reset_devices(struct machine *m);
/* The next look at input: at a multiple of MACHINE_POLL_TICKS, so that it does not depend on when the run
 * began. */
void machine_arm_poll(struct machine *m);
/* machine/wake.c: an armed timer of the board could wake a processor, all of which sleep. */
bool machine_timer_wakes(const struct machine *m);
void machine_interrupts_init(struct machine *m);
struct intr_source machine_interrupt_source(struct machine *m);
/* Power-on state of everything, and the boot files loaded anew. */
bool machine_reset(struct machine *m, struct error *e);

/* -- State --------------------------------------------------------------------------------------------- */

/* Hash of everything the guest can see: all described state and RAM. */
uint64_t machine_hash(struct machine *m);
/* RAM's part of it; and the same without what is remembered of pages, for tests. */
uint64_t machine_ram_hash(struct machine *m);
uint64_t machine_ram_hash_whole(const struct machine *m);
/* RAM changes behind the observers' backs (cleared, loaded): every page is hashed anew next time. */
void machine_hash_forget(struct machine *m);
/* Lazy flags in their one form that is saved and hashed. */
void machine_settle_flags(struct machine *m);
bool machine_save(struct machine *m, const char *path, struct error *e);
/* Into a machine made with the same configuration. After an error the machine is of no use. */
bool machine_load(struct machine *m, const char *path, struct error *e);
/* After the items of m->states got new contents: refuses what cannot be, rebuilds what is derived. */
bool machine_loaded(struct machine *m, struct error *e);

#endif
