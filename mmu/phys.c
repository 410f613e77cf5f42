/*
 * mmu/phys.c -- guest RAM, accesses by guest-physical address, and who is told of a write.
 *
 * Reads:  RAM, and by way of the bus what is not RAM.   Writes: RAM, the pages' observer bits.
 * Order:  a write is done first, then its observers are told (ram_written); a write to a ROM page is dropped.
 * Not here: what depends on a page of tables (tables.c), devices (bus.c).
 * Tests:  tests/unit/test_phys.c
 */
#include "mmu/phys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "mmu/internal.h"

/* Kept free for every other use of memory: the widest physical address of today's processors. */
#define PHYS_RAM_MAX (BIT(52) - BIT(32))

#define HUGE_PAGE BIT(21) /* of hosts that have them; elsewhere the alignment does no harm */

void *memory_reserve(uint64_t size)
{
    /* More than asked for, to begin where a huge page of the host does; what sticks out goes back. */
    const uint64_t mapped = size + HUGE_PAGE;
    uint8_t *at =
        mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        return NULL;
    uint8_t *memory = (uint8_t *)ALIGN_UP((uintptr_t)at, HUGE_PAGE);
    uint8_t *end = (uint8_t *)ALIGN_UP((uintptr_t)(memory + size), PAGE_SIZE);
    if (memory > at)
        munmap(at, (size_t)(memory - at));
    if (at + mapped > end)
        munmap(end, (size_t)(at + mapped - end));
    (void)madvise(memory, size, MADV_HUGEPAGE); /* a wish only */
    return memory;
}

void memory_release(void *memory, uint64_t size)
{
    if (memory)
        munmap(memory, ALIGN_UP(size, PAGE_SIZE));
}

bool phys_init(struct phys *p, uint64_t ram_size, uint64_t hole, struct bus *bus, struct error *e)
{
    memset(p, 0, sizeof *p);
    p->bus = bus;
    if (ram_size == 0 || (ram_size & PAGE_MASK) || ram_size > PHYS_RAM_MAX)
        return error_set(e, "memory of %llu bytes: not a number of 4 KB pages that a machine can have",
                         (unsigned long long)ram_size);
    if ((hole & PAGE_MASK) || hole > BIT(32))
        return error_set(e, "low memory cannot end at %#llx", (unsigned long long)hole);
    p->ram_size = ram_size;
    p->low_size = MIN(ram_size, hole);
    /* Neither RAM nor its metadata is touched before the guest does. */
    p->ram = memory_reserve(ram_size);
    if (!p->ram)
        return error_set(e, "cannot reserve %llu bytes of memory: %s", (unsigned long long)ram_size,
                         strerror(errno));
    p->pages = memory_reserve((ram_size >> PAGE_SHIFT) * sizeof p->pages[0]);
    if (!p->pages) {
        memory_release(p->ram, ram_size);
        p->ram = NULL;
        return error_set(e, "cannot allocate the page table of %llu bytes of memory",
                         (unsigned long long)ram_size);
    }
    return true;
}

void phys_free(struct phys *p)
{
    tables_free(p);
    memory_release(p->ram, p->ram_size);
    memory_release(p->pages, (p->ram_size >> PAGE_SHIFT) * sizeof p->pages[0]);
    memset(p, 0, sizeof *p);
}

void phys_clear(struct phys *p)
{
    /* New pages of a private mapping are zero. */
    if (madvise(p->ram, p->ram_size, MADV_DONTNEED) != 0)
        memset(p->ram, 0, p->ram_size);
}

const uint8_t *phys_ram(const struct phys *p, gpa_t gpa, uint64_t length)
{
    uint64_t off = phys_ram_offset(p, gpa);
    if (off == UINT64_MAX)
        return NULL;
    /* The two parts are neighbours in the host's memory but not in the guest's. */
    uint64_t end = off < p->low_size ? p->low_size : p->ram_size;
    return length <= end - off ? p->ram + off : NULL;
}

/* -- Accesses ----------------------------------------------------------------------------------------------
 */

/* Largest naturally aligned access at gpa of at most `left` bytes. */
static unsigned mmio_size(gpa_t gpa, uint64_t left)
{
    unsigned size = 8;
    while (size > 1 && ((gpa & (size - 1)) || size > left))
        size /= 2;
    return size;
}

static void mmio_read(struct phys *p, gpa_t gpa, uint8_t *buf, uint64_t length)
{
    while (length) {
        unsigned size = mmio_size(gpa, length);
        store_le(buf, bus_read_mmio(p->bus, gpa, size), size);
        gpa += size;
        buf += size;
        length -= size;
    }
}

static void mmio_write(struct phys *p, gpa_t gpa, const uint8_t *buf, uint64_t length)
{
    while (length) {
        unsigned size = mmio_size(gpa, length);
        bus_write_mmio(p->bus, gpa, size, load_le(buf, size));
        gpa += size;
        buf += size;
        length -= size;
    }
}

void phys_read(struct phys *p, gpa_t gpa, void *buf, uint64_t length)
{
    uint8_t *to = buf;
    while (length) {
        uint64_t part = MIN(length, PAGE_SIZE - (gpa & PAGE_MASK));
        uint64_t off = phys_ram_offset(p, gpa);
        if (off != UINT64_MAX)
            memcpy(to, p->ram + off, part);
        else
            mmio_read(p, gpa, to, part);
        gpa += part;
        to += part;
        length -= part;
    }
}

void phys_write(struct phys *p, gpa_t gpa, const void *buf, uint64_t length)
{
    const uint8_t *from = buf;
    while (length) {
        uint64_t part = MIN(length, PAGE_SIZE - (gpa & PAGE_MASK));
        uint64_t off = phys_ram_offset(p, gpa);
        if (off == UINT64_MAX) {
            mmio_write(p, gpa, from, part);
        } else if (!(p->pages[off >> PAGE_SHIFT].observers & OBSERVE_ROM)) {
            memcpy(p->ram + off, from, part);
            if (p->pages[off >> PAGE_SHIFT].observers)
                ram_written(p, gpa, part);
        }
        gpa += part;
        from += part;
        length -= part;
    }
}

uint64_t phys_load(struct phys *p, gpa_t gpa, unsigned size)
{
    if (likely((gpa & PAGE_MASK) <= PAGE_SIZE - size)) {
        uint64_t off = phys_ram_offset(p, gpa);
        if (likely(off != UINT64_MAX))
            return load_le(p->ram + off, size);
        return bus_read_mmio(p->bus, gpa, size);
    }
    uint8_t buf[8];
    phys_read(p, gpa, buf, size);
    return load_le(buf, size);
}

void phys_store(struct phys *p, gpa_t gpa, unsigned size, uint64_t value)
{
    if (likely((gpa & PAGE_MASK) <= PAGE_SIZE - size)) {
        uint64_t off = phys_ram_offset(p, gpa);
        if (unlikely(off == UINT64_MAX)) {
            bus_write_mmio(p->bus, gpa, size, value);
            return;
        }
        uint8_t observers = p->pages[off >> PAGE_SHIFT].observers;
        if (unlikely(observers & OBSERVE_ROM))
            return;
        store_le(p->ram + off, value, size);
        if (unlikely(observers))
            ram_written(p, gpa, size);
        return;
    }
    uint8_t buf[8];
    store_le(buf, value, size);
    phys_write(p, gpa, buf, size);
}

/* -- Observers ---------------------------------------------------------------------------------------------
 */

static void page_written(struct phys *p, struct phys_page *page, gpa_t gpa, uint32_t length)
{
    /* Translations first: an observer that looks at memory through them must not meet old ones. */
    if (page->observers & OBSERVE_TABLES)
        mmu_tables_written(p, gpa, length);
    for (unsigned bit = 0; bit < ARRAY_LEN(p->observers); bit++) {
        /* An observer may leave the page while it is told, so the bits are read anew each time. */
        if ((page->observers >> bit & 1) && p->observers[bit].fn)
            p->observers[bit].fn(p->observers[bit].owner, gpa, length);
    }
}

void ram_written(struct phys *p, gpa_t gpa, uint64_t length)
{
    while (length) {
        uint64_t part = MIN(length, PAGE_SIZE - (gpa & PAGE_MASK));
        struct phys_page *page = phys_page(p, gpa);
        if (page && page->observers)
            page_written(p, page, gpa, (uint32_t)part);
        gpa += part;
        length -= part;
    }
}

void phys_observe(struct phys *p, gpa_t gpa, uint8_t bits)
{
    struct phys_page *page = phys_page(p, gpa);
    if (!page)
        return;
    page->observers |= bits;
    if (!page->write_home && !page->write_slots)
        return;
    for (uint32_t i = 0; i < p->mmu_count; i++) {
        if (p->mmus[i])
            mmu_drop_write_host(p->mmus[i], phys_page_host(p, gpa));
    }
    page->write_home = 0;
    page->write_slots = 0;
}

void phys_unobserve(struct phys *p, gpa_t gpa, uint8_t bits)
{
    struct phys_page *page = phys_page(p, gpa);
    if (page)
        page->observers &= (uint8_t)~bits;
}

void phys_set_observer(struct phys *p, unsigned bit_number, observer_fn *fn, void *owner)
{
    require(bit_number < ARRAY_LEN(p->observers), "observer %u", bit_number);
    p->observers[bit_number].fn = fn;
    p->observers[bit_number].owner = owner;
}

static const struct state_field phys_fields[] = {
    STATE_SKIP(struct phys, ram, "saved as pages by the machine"),
    STATE_SKIP(struct phys, ram_size, "configuration"),
    STATE_SKIP(struct phys, low_size, "configuration"),
    STATE_SKIP(struct phys, pages, "observers set themselves again"),
    STATE_SKIP(struct phys, bus, "wiring"),
    STATE_SKIP(struct phys, mmus, "wiring"),
    STATE_SKIP(struct phys, mmu_count, "wiring"),
    STATE_SKIP(struct phys, observers, "wiring"),
    STATE_SKIP(struct phys, tables, "translations are no state"),
};
const struct state_desc phys_state = STATE_DESC("phys", struct phys, 1, phys_fields, NULL);
