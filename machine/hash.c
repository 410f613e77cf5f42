/*
 * machine/hash.c -- the hash of everything that the guest can see.
 *
 * RAM's part is a sum over its pages, each hashed with its number, so that a new hash costs what was written
 * since the last one: pages whose hash is known are observed (OBSERVE_HASH) and a write puts them on a list.
 * Not here: the hash functions (snapshots/state.c), saving and loading (state.c).
 */
#include "machine/machine.h"

#include <stdlib.h>

#include "cpu/flags.h"

struct machine_ram_hash {
    uint64_t total;    /* sum of pages[] */
    uint64_t *pages;   /* by RAM page; 0: all zero */
    uint32_t *written; /* pages that have lost their observer */
    uint32_t written_count;
};

static bool page_is_zero(const uint8_t *p)
{
    const uint64_t *w = (const uint64_t *)(const void *)p;
    for (unsigned i = 0; i < PAGE_SIZE / 8; i += 8)
        if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] | w[i + 5] | w[i + 6] | w[i + 7])
            return false;
    return true;
}

static uint64_t page_hash(const struct machine *m, uint64_t page)
{
    const uint8_t *p = m->phys.ram + (page << PAGE_SHIFT);
    return page_is_zero(p) ? 0 : state_hash_bytes(p, PAGE_SIZE, page);
}

static gpa_t page_gpa(const struct phys *p, uint64_t page)
{
    uint64_t off = page << PAGE_SHIFT;
    return off < p->low_size ? off : off - p->low_size + BIT(32);
}

static void page_written(void *owner, gpa_t gpa, uint32_t length)
{
    struct machine *m = owner;
    struct machine_ram_hash *r = m->ram_hash;
    (void)length; /* within one page */
    phys_unobserve(&m->phys, gpa, OBSERVE_HASH);
    if (r)
        r->written[r->written_count++] = (uint32_t)(phys_ram_offset(&m->phys, gpa) >> PAGE_SHIFT);
}

static void know_page(struct machine *m, uint64_t page)
{
    struct machine_ram_hash *r = m->ram_hash;
    uint64_t h = page_hash(m, page);
    r->total += h - r->pages[page];
    r->pages[page] = h;
    phys_observe(&m->phys, page_gpa(&m->phys, page), OBSERVE_HASH);
}

static bool know_all_pages(struct machine *m)
{
    uint64_t count = m->phys.ram_size >> PAGE_SHIFT;
    struct machine_ram_hash *r = calloc(1, sizeof(*r));
    m->ram_hash = r;
    if (!r || count > UINT32_MAX || !(r->pages = calloc(count, sizeof(*r->pages))) ||
        !(r->written = calloc(count, sizeof(*r->written)))) {
        machine_hash_forget(m);
        return false;
    }
    phys_set_observer(&m->phys, 6, page_written, m);
    for (uint64_t i = 0; i < count; i++)
        know_page(m, i);
    return true;
}

void machine_hash_forget(struct machine *m)
{
    struct machine_ram_hash *r = m->ram_hash;
    m->ram_hash = NULL;
    if (!r)
        return;
    free(r->pages);
    free(r->written);
    free(r);
}

uint64_t machine_ram_hash_whole(const struct machine *m)
{
    uint64_t total = 0;
    for (uint64_t i = 0; i < m->phys.ram_size >> PAGE_SHIFT; i++)
        total += page_hash(m, i);
    return total;
}

uint64_t machine_ram_hash(struct machine *m)
{
    struct machine_ram_hash *r = m->ram_hash;
    if (!r) {
        if (!know_all_pages(m))
            return machine_ram_hash_whole(m);
        r = m->ram_hash;
    }
    while (r->written_count)
        know_page(m, r->written[--r->written_count]);
    return r->total;
}

/* Lazy flags have many forms of the same value; what is saved and hashed is one of them. */
void machine_settle_flags(struct machine *m)
{
    for (uint32_t i = 0; i < m->cpu_count; i++)
        flags_set_arith(&m->cpus[i], flags_arith(&m->cpus[i]));
}

uint64_t machine_hash(struct machine *m)
{
    machine_settle_flags(m);
    uint64_t total = machine_ram_hash(m);
    return state_hash_bytes(&total, sizeof(total), state_list_hash(&m->states, 0));
}
