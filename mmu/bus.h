/*
 * mmu/bus.h -- the I/O ports and the MMIO regions, and who answers them.
 *
 * Regions of one kind never overlap; adding one that does is an error. Accesses of 1, 2, 4 or 8 bytes (ports
 * 1, 2, 4); an access that straddles regions is split into bytes. Unclaimed reads give all ones, unclaimed
 * writes are dropped; both are counted and may be traced.
 */
#ifndef MMU_BUS_H
#define MMU_BUS_H

#include "base/error.h"
#include "base/log.h"
#include "base/types.h"
#include "snapshots/state.h"

struct bus_ops {
    /* offset is from the region's start; value is zero-extended; size in bytes. */
    uint64_t (*read)(void *owner, uint64_t offset, unsigned size);
    void (*write)(void *owner, uint64_t offset, unsigned size, uint64_t value);
    uint8_t max_size; /* larger accesses are split; 0 means 8 */
};

struct bus_region {
    uint64_t base, size; /* size 0: slot free */
    const struct bus_ops *ops;
    void *owner;
    const char *name;
    bool enabled; /* a disabled region answers nothing and occupies nothing */
};

#define BUS_REGIONS_MAX 128

struct bus_space {
    struct bus_region regions[BUS_REGIONS_MAX];
    uint16_t order[BUS_REGIONS_MAX]; /* enabled regions sorted by base */
    uint32_t count, order_count;
    uint16_t last;      /* index in order[] of the last hit */
    uint64_t unclaimed; /* accesses that nobody answered */
};

struct bus {
    struct bus_space mmio, pio;
    struct log *log;
    /* Called when an MMIO region appears, moves or goes: cached translations of the range must be dropped. */
    void (*changed)(void *owner, uint64_t base, uint64_t size);
    void *changed_owner;
};

void bus_init(struct bus *b, struct log *log);
/* Returns a handle >= 0, or -1 with e set when the range is taken or the table is full. */
int bus_add_mmio(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *owner,
                 const char *name, struct error *e);
int bus_add_pio(struct bus *b, uint16_t base, uint32_t size, const struct bus_ops *ops, void *owner,
                const char *name, struct error *e);
/* Moves/enables a region (PCI BARs). An enabled region that would overlap stays disabled, and false is
 * returned. */
bool bus_move_mmio(struct bus *b, int handle, uint64_t base, bool enabled);
bool bus_move_pio(struct bus *b, int handle, uint64_t base, bool enabled);

uint64_t bus_read_mmio(struct bus *b, gpa_t gpa, unsigned size);
void bus_write_mmio(struct bus *b, gpa_t gpa, unsigned size, uint64_t value);
uint32_t bus_read_pio(struct bus *b, uint16_t port, unsigned size);
void bus_write_pio(struct bus *b, uint16_t port, unsigned size, uint32_t value);

extern const struct state_desc bus_state; /* nothing: owners restore their regions by bus_move_*() */

#endif
