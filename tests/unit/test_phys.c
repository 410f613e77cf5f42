/*
 * tests/unit/test_phys.c -- RAM and MMIO by guest-physical address, observers, ROM.
 */
#include <sys/mman.h>

#include "test_mmu_kit.h"

static struct kit k;
static unsigned calls;
static gpa_t last_gpa;
static uint32_t last_length;
static uint8_t mmio[PAGE_SIZE];

static uint64_t mmio_read(void *owner, uint64_t offset, unsigned size)
{
    (void)owner;
    return load_le(mmio + offset, size);
}

static void mmio_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    (void)owner;
    store_le(mmio + offset, value, size);
}

static const struct bus_ops mmio_ops = {mmio_read, mmio_write, 0};

static void setup(void)
{
    struct error e;
    kit_init(&k);
    cr_assert_geq(bus_add_mmio(&k.bus, KIT_HOLE, PAGE_SIZE, &mmio_ops, NULL, "mmio", &e), 0);
}

static void teardown(void)
{
    kit_free(&k);
}

static void observer(void *owner, gpa_t gpa, uint32_t length)
{
    (void)owner;
    calls++;
    last_gpa = gpa;
    last_length = length;
}

Test(phys, init_refuses)
{
    struct phys p;
    struct error e;
    cr_assert_not(phys_init(&p, 0, 0xc0000000, &k.bus, &e));
    cr_assert_not(phys_init(&p, 4097, 0xc0000000, &k.bus, &e));
    cr_assert_not(phys_init(&p, 1ull << 62, 0xc0000000, &k.bus, &e));
    cr_assert_not(phys_init(&p, 4096, 0xc0000001, &k.bus, &e));
    phys_free(&p);
}

static uint64_t resident_pages(void *memory, uint64_t size)
{
    static unsigned char map[1 << 16];
    uint64_t count = 0;
    for (uint64_t at = 0; at < size; at += sizeof map * PAGE_SIZE) {
        const uint64_t part = MIN(size - at, sizeof map * PAGE_SIZE);
        cr_assert_eq(mincore((uint8_t *)memory + at, part, map), 0);
        for (uint64_t i = 0; i < part / PAGE_SIZE; i++)
            count += map[i] & 1;
    }
    return count;
}

/* A large memory costs nothing before it is used, and an access as much as in a small one. */
Test(phys, large_memory)
{
    struct phys p;
    struct error e;
    const uint64_t size = 8ull << 30;
    cr_assert(phys_init(&p, size, 0xc0000000, &k.bus, &e), "%s", e.message);
    cr_assert_eq((uintptr_t)p.ram & (BIT(21) - 1), 0, "huge pages of the guest can be such of the host");
    cr_assert_eq(resident_pages(p.ram, size), 0);
    cr_assert_eq(resident_pages(p.pages, (size >> PAGE_SHIFT) * sizeof p.pages[0]), 0);
    phys_store(&p, 0x1000, 8, 1);
    phys_store(&p, BIT(32) + 0x140000000 - 8, 8, 2); /* the last word */
    cr_assert_eq(phys_load(&p, BIT(32) + 0x140000000 - 8, 8), 2);
    cr_assert_eq(phys_page_host(&p, BIT(32) + 0x140000000 - 8), p.ram + size - PAGE_SIZE);
    cr_assert_eq(phys_page(&p, BIT(32) + 0x140000000), NULL);
    cr_assert_leq(resident_pages(p.ram, size), 2 * 512);
    cr_assert_leq(resident_pages(p.pages, (size >> PAGE_SHIFT) * sizeof p.pages[0]), 2 * 512);
    phys_free(&p);
}

Test(phys, map, .init = setup, .fini = teardown)
{
    cr_assert_eq(phys_ram_offset(&k.phys, 0), 0);
    cr_assert_eq(phys_ram_offset(&k.phys, KIT_HOLE - 1), KIT_HOLE - 1);
    cr_assert_eq(phys_ram_offset(&k.phys, KIT_HOLE), UINT64_MAX);
    cr_assert_eq(phys_ram_offset(&k.phys, BIT(32)), KIT_HOLE);
    cr_assert_eq(phys_ram_offset(&k.phys, BIT(32) + KIT_RAM - KIT_HOLE), UINT64_MAX);
    cr_assert_eq(phys_ram_offset(&k.phys, ~0ull), UINT64_MAX);
    cr_assert_not_null(phys_ram(&k.phys, KIT_HOLE - 8, 8));
    cr_assert_null(phys_ram(&k.phys, KIT_HOLE - 8, 9));
    cr_assert_null(phys_ram(&k.phys, 0, ~0ull));
    cr_assert_not_null(phys_ram(&k.phys, BIT(32), KIT_RAM - KIT_HOLE));
    cr_assert_null(phys_ram(&k.phys, BIT(32) + 1, KIT_RAM - KIT_HOLE));
}

Test(phys, accesses, .init = setup, .fini = teardown)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        for (gpa_t gpa = 0xff0; gpa < 0x1010; gpa++) {
            uint64_t value = 0x1122334455667788ull * (gpa | 1);
            phys_store(&k.phys, gpa, size, value);
            cr_assert_eq(phys_load(&k.phys, gpa, size), value & size_mask(size));
        }
    }
    /* from RAM into MMIO, and from MMIO into nothing */
    phys_store(&k.phys, KIT_HOLE - 3, 8, 0x8877665544332211ull);
    cr_assert_eq(phys_load(&k.phys, KIT_HOLE - 3, 8), 0x8877665544332211ull);
    cr_assert_eq(mmio[0], 0x44);
    phys_store(&k.phys, KIT_HOLE + PAGE_SIZE - 4, 8, 0x8877665544332211ull);
    cr_assert_eq(phys_load(&k.phys, KIT_HOLE + PAGE_SIZE - 4, 8), 0xffffffff44332211ull);
    cr_assert_eq(phys_load(&k.phys, ~0ull - 3, 8) & 0xffffffff, 0xffffffff);
    uint8_t buf[3 * PAGE_SIZE], back[3 * PAGE_SIZE];
    for (unsigned i = 0; i < sizeof buf; i++)
        buf[i] = (uint8_t)(i * 7);
    phys_write(&k.phys, KIT_HOLE - PAGE_SIZE - 100, buf, 2 * PAGE_SIZE);
    phys_read(&k.phys, KIT_HOLE - PAGE_SIZE - 100, back, 2 * PAGE_SIZE);
    cr_assert_arr_eq(buf, back, 2 * PAGE_SIZE);
    cr_assert_arr_eq(mmio, buf + PAGE_SIZE + 100, PAGE_SIZE - 100);
}

Test(phys, observers, .init = setup, .fini = teardown)
{
    phys_set_observer(&k.phys, 4, observer, NULL);
    phys_observe(&k.phys, 0x5008, OBSERVE_MONITOR);
    calls = 0;
    phys_store(&k.phys, 0x4ffc, 4, 1);
    cr_assert_eq(calls, 0);
    phys_store(&k.phys, 0x4ffc, 8, 1);
    cr_assert_eq(calls, 1);
    cr_assert_eq(last_gpa, 0x5000);
    cr_assert_eq(last_length, 4);
    uint8_t buf[0x3000] = {0};
    phys_write(&k.phys, 0x4000, buf, sizeof buf);
    cr_assert_eq(calls, 2);
    cr_assert_eq(last_length, PAGE_SIZE);
    phys_unobserve(&k.phys, 0x5fff, OBSERVE_MONITOR);
    phys_store(&k.phys, 0x5000, 4, 1);
    cr_assert_eq(calls, 2);
    phys_observe(&k.phys, KIT_HOLE, OBSERVE_MONITOR); /* not RAM: nothing happens */
    ram_written(&k.phys, KIT_HOLE, 8);
    ram_written(&k.phys, 0x5000, 0);
    cr_assert_eq(calls, 2);
}

Test(phys, rom, .init = setup, .fini = teardown)
{
    phys_store(&k.phys, 0x7ff8, 8, 0x1234);
    phys_observe(&k.phys, 0x7000, OBSERVE_ROM);
    phys_store(&k.phys, 0x7ff8, 8, 0x5678);
    phys_store(&k.phys, 0x7ffc, 8, ~0ull);
    uint8_t buf[16] = {0};
    phys_write(&k.phys, 0x7ff4, buf, 8);
    cr_assert_eq(phys_load(&k.phys, 0x7ff8, 8), 0x1234);
    cr_assert_eq(phys_load(&k.phys, 0x8000, 4), 0xffffffff);
}

/* An observer takes the page's write entries away, whichever contexts and slots hold them. */
Test(phys, observe_drops_write_entries, .init = setup, .fini = teardown)
{
    const struct mmu_mode flat = {.maxphyaddr = 46};
    struct mmu *m = &k.mmu[0];
    struct mmu_fault f;
    gpa_t gpa;
    struct tlb *t = mmu_select(m, &flat);
    cr_assert(mmu_translate(m, 0x9000, MMU_WRITE, 0, &gpa, &f));
    cr_assert(kit_hits(t, 0x9000, MMU_WRITE));
    phys_observe(&k.phys, 0x9000, OBSERVE_CLEAN);
    cr_assert_not(kit_hits(t, 0x9000, MMU_WRITE));
    cr_assert(kit_hits(t, 0x9000, MMU_READ));
    cr_assert(mmu_translate(m, 0x9000, MMU_WRITE, 0, &gpa, &f));
    cr_assert_not(kit_hits(t, 0x9000, MMU_WRITE));
    phys_unobserve(&k.phys, 0x9000, OBSERVE_CLEAN);
    cr_assert(mmu_translate(m, 0x9000, MMU_WRITE, 0, &gpa, &f));
    cr_assert(kit_hits(t, 0x9000, MMU_WRITE));

    /* the same page by two linear addresses and in two processors */
    gpa_t pml4 = kit_page(&k), pdpt = kit_page(&k), pd = kit_page(&k), pt = kit_page(&k);
    kit_set(&k, pml4, pdpt | P | RW);
    kit_set(&k, pdpt, pd | P | RW);
    kit_set(&k, pd, pt | P | RW);
    kit_set(&k, pt + 8 * 1, 0x9000 | P | RW);
    kit_set(&k, pt + 8 * 2, 0x9000 | P | RW);
    struct mmu_mode mode = kit_mode_4level(pml4);
    struct tlb *a = mmu_select(m, &mode), *b = mmu_select(&k.mmu[1], &mode);
    cr_assert(mmu_translate(m, 0x1000, MMU_WRITE, 0, &gpa, &f));
    cr_assert(mmu_translate(m, 0x2000, MMU_WRITE, 0, &gpa, &f));
    cr_assert(mmu_translate(&k.mmu[1], 0x2000, MMU_WRITE, 0, &gpa, &f));
    phys_observe(&k.phys, 0x9000, OBSERVE_CODE);
    cr_assert_not(kit_hits(a, 0x1000, MMU_WRITE));
    cr_assert_not(kit_hits(a, 0x2000, MMU_WRITE));
    cr_assert_not(kit_hits(b, 0x2000, MMU_WRITE));
    cr_assert_not(kit_hits(t, 0x9000, MMU_WRITE));
}
