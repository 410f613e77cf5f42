/*
 * bench_memory.c -- instructions per second with little or much memory.
 *
 * A loop of nine instructions adds to words, one on each of pages=N pages (default 16384), in pseudo-random
 * order. The pages are the whole of some 2 MB pages, and those are spread evenly over all of the machine's
 * RAM: so what the host has to provide is the same with little memory and with much. loops=N (default
 * 100000). The pages are touched once before the time begins. The host's time is measured from outside,
 * between the lines of lib/bench.h.
 */
#include "bench.h"

enum { RANGES_MAX = 32 };
struct range {
    uint64_t base, size; /* above the image and its tables; multiples of 2 MB */
};
extern uint64_t multiboot_info, multiboot_magic;
static struct range ranges[RANGES_MAX];
static unsigned range_count;

#define LARGE     (2ul << 20)
#define FLOOR     (32ul << 20) /* image, page_alloc(), firmware's tables and the list of pages are below */
#define PAGES_MAX 65536ul
static uint64_t *list; /* addresses of the words */

/* RAM by Multiboot's memory map, or its mem_upper where there is no map; 64 MB where there is neither. */
static uint64_t find_ram(void)
{
    const uint32_t *info =
        multiboot_magic == 0x2badb002 ? (const uint32_t *)(multiboot_info & 0xffffffff) : NULL;
    uint64_t total = 0;
    if (!info || !(info[0] & (1u << 6 | 1u << 0))) {
        ranges[range_count++] = (struct range){FLOOR, 32ul << 20};
    } else if (info[0] & 1u << 6) {
        uint64_t at = info[12], end = at + info[11];
        while (at < end && range_count < RANGES_MAX) {
            const uint32_t *entry = (const uint32_t *)at;
            uint64_t base = entry[1] | (uint64_t)entry[2] << 32, size = entry[3] | (uint64_t)entry[4] << 32;
            uint64_t from = (base + LARGE - 1) & ~(LARGE - 1), to = (base + size) & ~(LARGE - 1);
            from = from < FLOOR ? FLOOR : from;
            if (entry[5] == 1 && to > from) {
                ranges[range_count++] = (struct range){from, to - from};
            }
            at += entry[0] + 4;
        }
    } else {
        uint64_t to = (0x100000 + ((uint64_t)info[2] << 10)) & ~(LARGE - 1);
        ranges[range_count++] = (struct range){FLOOR, to > FLOOR ? to - FLOOR : 0};
    }
    for (unsigned i = 0; i < range_count; i++) {
        total += ranges[i].size;
    }
    return total;
}

/* What is above 4 GB is not mapped by the library. */
static void map_ram(void)
{
    for (unsigned i = 0; i < range_count; i++) {
        for (uint64_t at = ranges[i].base; at < ranges[i].base + ranges[i].size; at += LARGE) {
            if (at >= 4ul << 30) {
                page_map(boot_pml4, at, at | PTE_P | PTE_W | PTE_PS, 2);
            }
        }
    }
}

static uint64_t nth_address(uint64_t offset)
{
    for (unsigned i = 0; i < range_count; i++) {
        if (offset < ranges[i].size) {
            return ranges[i].base + offset;
        }
        offset -= ranges[i].size;
    }
    return FLOOR;
}

void guest_main(void)
{
    uint64_t loops = bench_number("loops", 100000), pages = bench_number("pages", 16384), total = find_ram();
    map_ram();
    while (pages & (pages - 1)) {
        pages &= pages - 1;
    }
    pages = pages > PAGES_MAX ? PAGES_MAX : pages;
    while (pages > 1 && pages * PAGE_SIZE > total) {
        pages /= 2;
    }
    uint64_t larges = (pages * PAGE_SIZE + LARGE - 1) / LARGE;
    list = page_alloc_aligned(PAGES_MAX * sizeof *list);
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t large = i * PAGE_SIZE / LARGE;
        list[i] = nth_address(total / larges * large & ~(LARGE - 1)) + i * PAGE_SIZE % LARGE + i % 61 * 64;
        store64(list[i], 0);
    }
    uint64_t state = 1, left = loops;
    bench_line("begin");
    asm volatile("1: imul %[multiplier], %[state]\n"
                 "  add $12345, %[state]\n"
                 "  mov %[state], %%rcx\n"
                 "  shr $32, %%rcx\n"
                 "  and %[mask], %%rcx\n"
                 "  mov (%[list],%%rcx,8), %%rcx\n"
                 "  addq $1, (%%rcx)\n"
                 "  dec %[left]\n"
                 "  jnz 1b"
                 : [state] "+r"(state), [left] "+r"(left)
                 : [multiplier] "r"(6364136223846793005ul), [mask] "r"(pages - 1), [list] "r"(list)
                 : "rcx", "memory", "cc");
    bench_line("end");
    uint64_t sum = 0;
    for (uint64_t i = 0; i < pages; i++) {
        sum += load64(list[i]);
    }
    print("%lu MB in %u ranges, %lu pages, %lu instructions\n", total >> 20, range_count, pages, loops * 9);
    report("bench-memory", "SDM 2A ADD, each time", sum == loops && total, "sum %lu, want %lu", sum, loops);
}
