/*
 * mmu/phys.h -- the guest-physical map: RAM, its observed pages, and everything else by way of the bus.
 *
 * RAM is one host mapping with a low part [0, low_size) and, when larger than the hole, a high part from 4
 * GB. Every writer of RAM goes through phys_write()/ram_written(), or through a write-TLB entry, which exists
 * only for pages without observers.
 */
#ifndef MMU_PHYS_H
#define MMU_PHYS_H

#include "base/error.h"
#include "base/types.h"
#include "mmu/bus.h"
#include "snapshots/state.h"

/* Observers of a page: one bit each. A page with any bit has no write-TLB entry. */
enum {
    OBSERVE_CODE = 1 << 0,    /* holds translated blocks */
    OBSERVE_TABLES = 1 << 1,  /* bytes of it made a cached translation */
    OBSERVE_CLEAN = 1 << 2,   /* not written since the last checkpoint or display refresh */
    OBSERVE_WATCH = 1 << 3,   /* debugger */
    OBSERVE_MONITOR = 1 << 4, /* MONITOR/MWAIT */
    OBSERVE_ROM = 1 << 5,     /* writes are dropped */
    OBSERVE_HASH = 1 << 6,    /* not written since its hash was made (machine/hash.c) */
};

/* 8 bytes, so that the metadata of a page costs one load. All but the observers is owned by mmu/. */
struct phys_page {
    uint8_t observers;
    /* Slots of write tables that may hold the page, in any context of any processor: its home (the page's
     * number in RAM modulo the table's size), and of two others the first `write_slots`. */
    uint64_t write_home : 1;
    uint64_t write_slots : 2;
    uint64_t write_slot0 : 12;
    uint64_t write_slot1 : 12;
    uint64_t deps : 24; /* tables observer: its dependency record, 0 none */
};
_Static_assert(sizeof(struct phys_page) == 8, "a page's metadata is one word");

struct mmu;

#define PHYS_MMUS_MAX 64

/* Called on each write to a page that has the observer's bit. */
typedef void observer_fn(void *owner, gpa_t gpa, uint32_t length);

struct phys {
    uint8_t *ram;      /* host address of guest-physical 0 (low part), then the high part */
    uint64_t ram_size; /* bytes in all */
    uint64_t low_size; /* bytes below the hole: RAM is [0, low_size) and [4 GB, 4 GB + ram_size - low_size) */
    struct phys_page *pages; /* one for each RAM page, index = RAM offset >> 12 */
    struct bus *bus;
    struct mmu *mmus[PHYS_MMUS_MAX]; /* all processors' MMUs: dropped translations are dropped in all; may
                                        have NULLs */
    uint32_t mmu_count;              /* slots in use, NULLs among them */
    struct {
        observer_fn *fn;
        void *owner;
    } observers[8]; /* by bit number */
    void *tables;   /* mmu/'s dependency store */
};

/* Zeroed memory that the host provides page by page when it is touched, by huge pages where it can; NULL when
 * it cannot. */
void *memory_reserve(uint64_t size);
void memory_release(void *memory, uint64_t size);

/* ram_size is a multiple of 4 KB; low RAM ends at `hole` at the latest (0xC0000000 or lower), high RAM starts
 * at 4 GB. */
bool phys_init(struct phys *p, uint64_t ram_size, uint64_t hole, struct bus *bus, struct error *e);
/* After mmu_free() of every MMU on it. */
void phys_free(struct phys *p);
/* Zeroes all RAM and gives its memory back to the host. Nothing that was made from it may be left. */
void phys_clear(struct phys *p);

/* RAM offset of gpa, or UINT64_MAX when it is not RAM. */
static inline uint64_t phys_ram_offset(const struct phys *p, gpa_t gpa)
{
    if (likely(gpa < p->low_size))
        return gpa;
    if (gpa >= BIT(32) && gpa - BIT(32) < p->ram_size - p->low_size)
        return gpa - BIT(32) + p->low_size;
    return UINT64_MAX;
}

/* Host address of the page that holds gpa, or NULL when it is not RAM. */
static inline uint8_t *phys_page_host(const struct phys *p, gpa_t gpa)
{
    uint64_t off = phys_ram_offset(p, gpa);
    return off == UINT64_MAX ? NULL : p->ram + (off & ~PAGE_MASK);
}

static inline struct phys_page *phys_page(const struct phys *p, gpa_t gpa)
{
    uint64_t off = phys_ram_offset(p, gpa);
    return off == UINT64_MAX ? NULL : &p->pages[off >> PAGE_SHIFT];
}

/* Host pointer to [gpa, gpa+length) when all of it is contiguous RAM, else NULL. For reading only. */
const uint8_t *phys_ram(const struct phys *p, gpa_t gpa, uint64_t length);

/* Any length, RAM or MMIO, crossing pages; used by DMA, loaders and slow paths. Writes tell the observers. */
void phys_read(struct phys *p, gpa_t gpa, void *buf, uint64_t length);
void phys_write(struct phys *p, gpa_t gpa, const void *buf, uint64_t length);
/* 1, 2, 4 or 8 bytes. */
uint64_t phys_load(struct phys *p, gpa_t gpa, unsigned size);
void phys_store(struct phys *p, gpa_t gpa, unsigned size, uint64_t value);

/* Tells the observers of [gpa, gpa+length) (within RAM) that it has been written; call after the write. */
void ram_written(struct phys *p, gpa_t gpa, uint64_t length);

/* Sets or clears observer bits of the page with gpa. Setting drops its write-TLB entries in all MMUs. */
void phys_observe(struct phys *p, gpa_t gpa, uint8_t bits);
void phys_unobserve(struct phys *p, gpa_t gpa, uint8_t bits);
void phys_set_observer(struct phys *p, unsigned bit_number, observer_fn *fn, void *owner);

extern const struct state_desc phys_state; /* RAM is saved as pages; all else here is wiring or derived */

#endif
