/*
 * mmu/bus.c -- finds who answers an I/O port or an MMIO address, and splits what nobody answers whole.
 *
 * Reads:  the region tables.   Writes: the regions' order, the last hit, the count of unclaimed accesses.
 * Order:  enabled regions stand in order[] sorted by base and never overlap, so one binary search decides.
 * Not here: RAM (phys.c looks there first).
 * Tests:  tests/unit/test_bus.c
 */
#include "mmu/bus.h"

#include <string.h>

#define PIO_SIZE 0x10000ull

void bus_init(struct bus *b, struct log *log)
{
    memset(b, 0, sizeof *b);
    b->log = log;
}

/* -- Lookup ------------------------------------------------------------------------------------------------
 */

/* Position in order[] of the first enabled region that ends above addr; order_count when there is none. */
static uint32_t bus_position(const struct bus_space *s, uint64_t addr)
{
    uint32_t low = 0, high = s->order_count;
    while (low < high) {
        uint32_t mid = (low + high) / 2;
        const struct bus_region *r = &s->regions[s->order[mid]];
        if (r->base + (r->size - 1) < addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool region_has(const struct bus_region *r, uint64_t addr)
{
    return addr - r->base < r->size;
}

/*
 * The region of addr, or NULL. *whole tells that [addr, addr + size) has one answer: all of it lies in the
 * region, or nobody has any of it.
 */
static struct bus_region *bus_find(struct bus_space *s, uint64_t addr, unsigned size, bool *whole)
{
    uint64_t end = addr + (size - 1);
    if (s->last < s->order_count) {
        struct bus_region *r = &s->regions[s->order[s->last]];
        if (region_has(r, addr)) {
            *whole = end >= addr && region_has(r, end);
            return r;
        }
    }
    uint32_t at = bus_position(s, addr);
    if (at == s->order_count) {
        *whole = true;
        return NULL;
    }
    struct bus_region *r = &s->regions[s->order[at]];
    if (!region_has(r, addr)) {
        *whole = end < r->base;
        return NULL;
    }
    s->last = (uint16_t)at;
    *whole = end >= addr && region_has(r, end);
    return r;
}

/* -- Access ------------------------------------------------------------------------------------------------
 */

static unsigned region_max_size(const struct bus_region *r)
{
    return r->ops->max_size ? r->ops->max_size : 8;
}

static uint64_t bus_read(struct bus_space *s, uint64_t addr, unsigned size, bool *claimed)
{
    bool whole;
    struct bus_region *r = bus_find(s, addr, size, &whole);
    uint64_t value = 0;
    if (whole && !r)
        return size_mask(size);
    if (whole) {
        unsigned part = MIN(size, region_max_size(r));
        const struct bus_region at = *r; /* the device may move its own region while it answers */
        *claimed = true;
        if (!at.ops->read)
            return size_mask(size);
        for (unsigned i = 0; i < size; i += part)
            value |= (at.ops->read(at.owner, addr - at.base + i, part) & size_mask(part)) << (i * 8);
        return value;
    }
    for (unsigned i = 0; i < size; i++)
        value |= (bus_read(s, addr + i, 1, claimed) & 0xff) << (i * 8);
    return value;
}

static void bus_write(struct bus_space *s, uint64_t addr, unsigned size, uint64_t value, bool *claimed)
{
    bool whole;
    struct bus_region *r = bus_find(s, addr, size, &whole);
    if (whole && !r)
        return;
    if (whole) {
        unsigned part = MIN(size, region_max_size(r));
        const struct bus_region at = *r;
        *claimed = true;
        if (!at.ops->write)
            return;
        for (unsigned i = 0; i < size; i += part)
            at.ops->write(at.owner, addr - at.base + i, part, (value >> (i * 8)) & size_mask(part));
        return;
    }
    for (unsigned i = 0; i < size; i++)
        bus_write(s, addr + i, 1, (value >> (i * 8)) & 0xff, claimed);
}

uint64_t bus_read_mmio(struct bus *b, gpa_t gpa, unsigned size)
{
    bool claimed = false;
    uint64_t value = bus_read(&b->mmio, gpa, size, &claimed);
    if (!claimed) {
        b->mmio.unclaimed++;
        log_debug(b->log, "mmio read of %u bytes at %#llx: nobody answers", size, (unsigned long long)gpa);
    }
    return value;
}

void bus_write_mmio(struct bus *b, gpa_t gpa, unsigned size, uint64_t value)
{
    bool claimed = false;
    bus_write(&b->mmio, gpa, size, value & size_mask(size), &claimed);
    if (!claimed) {
        b->mmio.unclaimed++;
        log_debug(b->log, "mmio write of %u bytes at %#llx: nobody answers", size, (unsigned long long)gpa);
    }
}

uint32_t bus_read_pio(struct bus *b, uint16_t port, unsigned size)
{
    bool claimed = false;
    uint32_t value = (uint32_t)bus_read(&b->pio, port, size, &claimed);
    if (!claimed) {
        b->pio.unclaimed++;
        log_debug(b->log, "port read of %u bytes at %#x: nobody answers", size, port);
    }
    return value;
}

void bus_write_pio(struct bus *b, uint16_t port, unsigned size, uint32_t value)
{
    bool claimed = false;
    bus_write(&b->pio, port, size, value & size_mask(size), &claimed);
    if (!claimed) {
        b->pio.unclaimed++;
        log_debug(b->log, "port write of %u bytes at %#x: nobody answers", size, port);
    }
}

/* -- Regions -----------------------------------------------------------------------------------------------
 */

/* The enabled region that overlaps [base, base + size), or NULL. */
static const struct bus_region *bus_overlap(const struct bus_space *s, uint64_t base, uint64_t size)
{
    uint32_t at = bus_position(s, base);
    if (at == s->order_count)
        return NULL;
    const struct bus_region *r = &s->regions[s->order[at]];
    return r->base <= base + (size - 1) ? r : NULL;
}

static void bus_order_insert(struct bus_space *s, uint16_t index)
{
    uint32_t at = bus_position(s, s->regions[index].base);
    memmove(&s->order[at + 1], &s->order[at], (s->order_count - at) * sizeof s->order[0]);
    s->order[at] = index;
    s->order_count++;
    s->last = 0;
}

static void bus_order_remove(struct bus_space *s, uint16_t index)
{
    for (uint32_t i = 0; i < s->order_count; i++) {
        if (s->order[i] != index)
            continue;
        s->order_count--;
        memmove(&s->order[i], &s->order[i + 1], (s->order_count - i) * sizeof s->order[0]);
        break;
    }
    s->last = 0;
}

static bool range_fits(uint64_t base, uint64_t size, uint64_t limit)
{
    return size != 0 && size - 1 <= limit && base <= limit - (size - 1);
}

static int bus_add(struct bus_space *s, uint64_t limit, struct bus_region region, const char *kind,
                   struct error *e)
{
    if (!range_fits(region.base, region.size, limit)) {
        error_set(e, "%s: %s range %#llx, size %#llx, does not exist", region.name, kind,
                  (unsigned long long)region.base, (unsigned long long)region.size);
        return -1;
    }
    const struct bus_region *other = bus_overlap(s, region.base, region.size);
    if (other) {
        error_set(e, "%s: %s range %#llx, size %#llx, overlaps %s at %#llx", region.name, kind,
                  (unsigned long long)region.base, (unsigned long long)region.size, other->name,
                  (unsigned long long)other->base);
        return -1;
    }
    if (s->count == BUS_REGIONS_MAX) {
        error_set(e, "%s: no room for another %s region (%d at most)", region.name, kind, BUS_REGIONS_MAX);
        return -1;
    }
    uint16_t index = (uint16_t)s->count++;
    s->regions[index] = region;
    bus_order_insert(s, index);
    return index;
}

static bool bus_move(struct bus_space *s, uint64_t limit, int handle, uint64_t base, bool enabled)
{
    if (handle < 0 || (uint32_t)handle >= s->count)
        return false;
    struct bus_region *r = &s->regions[handle];
    if (r->enabled)
        bus_order_remove(s, (uint16_t)handle);
    r->enabled = false;
    r->base = base;
    if (!enabled)
        return true;
    if (!range_fits(base, r->size, limit) || bus_overlap(s, base, r->size))
        return false;
    r->enabled = true;
    bus_order_insert(s, (uint16_t)handle);
    return true;
}

static void bus_tell(struct bus *b, uint64_t base, uint64_t size)
{
    if (b->changed)
        b->changed(b->changed_owner, base, size);
}

int bus_add_mmio(struct bus *b, uint64_t base, uint64_t size, const struct bus_ops *ops, void *owner,
                 const char *name, struct error *e)
{
    struct bus_region r = {
        .base = base, .size = size, .ops = ops, .owner = owner, .name = name, .enabled = true};
    int handle = bus_add(&b->mmio, UINT64_MAX, r, "MMIO", e);
    if (handle >= 0)
        bus_tell(b, base, size);
    return handle;
}

int bus_add_pio(struct bus *b, uint16_t base, uint32_t size, const struct bus_ops *ops, void *owner,
                const char *name, struct error *e)
{
    struct bus_region r = {
        .base = base, .size = size, .ops = ops, .owner = owner, .name = name, .enabled = true};
    return bus_add(&b->pio, PIO_SIZE - 1, r, "port", e);
}

bool bus_move_mmio(struct bus *b, int handle, uint64_t base, bool enabled)
{
    if (handle < 0 || (uint32_t)handle >= b->mmio.count)
        return false;
    const struct bus_region before = b->mmio.regions[handle];
    bool done = bus_move(&b->mmio, UINT64_MAX, handle, base, enabled);
    const struct bus_region *after = &b->mmio.regions[handle];
    if (before.enabled && (!after->enabled || after->base != before.base))
        bus_tell(b, before.base, before.size);
    if (after->enabled && (!before.enabled || after->base != before.base))
        bus_tell(b, after->base, after->size);
    return done;
}

bool bus_move_pio(struct bus *b, int handle, uint64_t base, bool enabled)
{
    return bus_move(&b->pio, PIO_SIZE - 1, handle, base, enabled);
}

static const struct state_field bus_fields[] = {
    STATE_SKIP(struct bus, mmio, "owners restore their regions"),
    STATE_SKIP(struct bus, pio, "owners restore their regions"),
    STATE_SKIP(struct bus, log, "wiring"),
    STATE_SKIP(struct bus, changed, "wiring"),
    STATE_SKIP(struct bus, changed_owner, "wiring"),
};
const struct state_desc bus_state = STATE_DESC("bus", struct bus, 1, bus_fields, NULL);
