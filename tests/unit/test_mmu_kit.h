/*
 * tests/unit/test_mmu_kit.h -- a small machine of memory and MMUs for the tests of mmu/.
 */
#ifndef TEST_MMU_KIT_H
#define TEST_MMU_KIT_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "mmu/mmu.h"
#include "mmu/phys.h"

#define KIT_RAM  (32ull << 20)
#define KIT_HOLE (16ull << 20) /* so half of RAM is above 4 GB */

#define CR0_PE   BIT(0)
#define CR0_WP   BIT(16)
#define CR0_PG   BIT(31)
#define CR4_PSE  BIT(4)
#define CR4_PAE  BIT(5)
#define CR4_LA57 BIT(12)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)
#define CR4_PKE  BIT(22)
#define EFER_LME BIT(8)
#define EFER_LMA BIT(10)
#define EFER_NXE BIT(11)

#define P   1ull
#define RW  2ull
#define US  4ull
#define ACC 0x20ull
#define DIR 0x40ull
#define PS  0x80ull
#define XD  (1ull << 63)

#define ER 1ull
#define EW 2ull
#define EX 4ull
#define WB (6ull << 3)

struct kit {
    struct bus bus;
    struct phys phys;
    struct mmu mmu[2];
    gpa_t next; /* next free page for tables */
};

static inline void kit_init(struct kit *k)
{
    struct error e;
    memset(k, 0, sizeof *k);
    bus_init(&k->bus, NULL);
    cr_assert(phys_init(&k->phys, KIT_RAM, KIT_HOLE, &k->bus, &e), "%s", e.message);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(mmu_init(&k->mmu[i], &k->phys, &e), "%s", e.message);
        k->mmu[i].ept_ad_supported = k->mmu[i].ept_execute_only = true;
    }
    k->next = 0x100000;
}

static inline void kit_free(struct kit *k)
{
    for (unsigned i = 0; i < 2; i++)
        mmu_free(&k->mmu[i]);
    phys_free(&k->phys);
}

static inline gpa_t kit_page(struct kit *k)
{
    gpa_t page = k->next;
    k->next += PAGE_SIZE;
    return page;
}

static inline uint64_t kit_get(struct kit *k, gpa_t gpa)
{
    return phys_load(&k->phys, gpa, 8);
}

static inline void kit_set(struct kit *k, gpa_t gpa, uint64_t value)
{
    phys_store(&k->phys, gpa, 8, value);
}

/* Whether an inline lookup would hit. */
static inline bool kit_hits(const struct tlb *t, gva_t linear, enum mmu_access access)
{
    if (access == MMU_EXEC)
        return t->exec[linear >> 12 & ((1u << TLB_EXEC_BITS) - 1)].tag == (linear & ~PAGE_MASK);
    const struct tlb_entry *e = access == MMU_READ ? t->read : t->write;
    return (linear ^ e[tlb_index(linear)].tag) <= 4096 - 1;
}

static inline struct mmu_mode kit_mode_4level(gpa_t cr3)
{
    return (struct mmu_mode){.cr0 = CR0_PE | CR0_PG | CR0_WP,
                             .cr3 = cr3,
                             .cr4 = CR4_PAE,
                             .efer = EFER_LME | EFER_LMA | EFER_NXE,
                             .maxphyaddr = 46};
}

static inline uint64_t kit_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

#endif
