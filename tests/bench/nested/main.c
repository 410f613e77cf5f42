/*
 * tests/bench/nested/main.c -- run one piece of code in L2 (or, to compare, in L1) between two marker lines.
 *
 * nested --list         the rows' names
 * nested NAME COUNT     COUNT of what the row counts:
 *     BENCH NAME begin
 *     BENCH NAME end
 *
 * A clock in the guest may be virtual, so the host takes the time of the marker lines as they come out of the
 * serial port; the first has left the port before the work starts.
 */
#include "nested.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>

void fail(const char *what)
{
    fprintf(stderr, "nested: ");
    perror(what);
    exit(1);
}

static void mark(const char *name, const char *what)
{
    printf("BENCH %s %s\n", name, what);
    fflush(stdout);
    tcdrain(1); /* no terminal: nothing to wait for */
}

static void require(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "nested: wrong result: %s\n", what);
        exit(1);
    }
}

static uint64_t pages_size(uint64_t count)
{
    require(count <= DATA_MAX / PAGE_SIZE, "more pages than there are");
    return count * PAGE_SIZE;
}

/* -- Rows ---------------------------------------------------------------------------------------------- */

struct row {
    const char *name;
    void (*run)(const struct row *row, uint64_t count);
    const char *code;
    bool huge;      /* L1's memory for L2 is of huge pages, so EPT entries are */
    bool populated; /* the pages are there in L1 before L2 touches them */
    bool in_l1;
};

static void run_exits(const struct row *row, uint64_t count)
{
    struct vm vm;
    struct registers r = {.count = 1};

    arena_create(LOW_SIZE, false);
    vm_create(&vm, LOW_SIZE);
    r.other = vm_second_cr3();
    vm_run(&vm, row->code, &r); /* first touches are not what is measured */
    r.count = count;
    mark(row->name, "begin");
    uint64_t worked = vm_run(&vm, row->code, &r);
    mark(row->name, "end");
    require(r.count == 0, "loops are left");
    require(worked == (row->code == code_ports ? count : 0), "exits to user space");
}

static void run_touch(const struct row *row, uint64_t count)
{
    uint64_t size = pages_size(count);
    struct vm vm;
    struct registers r = {.base = DATA, .count = count, .state = 1};

    arena_create(size, row->huge);
    if (row->populated)
        arena_populate(size);
    vm_create(&vm, size);
    mark(row->name, "begin");
    vm_run(&vm, row->code, &r);
    mark(row->name, "end");
    for (uint64_t i = 0; i < count; i++)
        require(*(char *)(DATA + i * PAGE_SIZE) == 1, "a page is not touched");
}

static uint64_t walk_result(uint64_t count)
{
    uint64_t state = 1;
    while (count-- > 0)
        state = state * 6364136223846793005ull + 1442695040888963407ull;
    return state;
}

static void run_walk(const struct row *row, uint64_t count)
{
    struct vm vm;
    struct registers r = {.base = DATA, .count = count, .other = DATA_MAX - 1, .state = 1};

    arena_create(DATA_MAX, row->huge);
    arena_populate(DATA_MAX);
    require(row->huge ? arena_huge() >= DATA_MAX / 10 * 9 : arena_huge() == 0, "the size of L1's pages");
    if (!row->in_l1) {
        struct registers touch = {.base = DATA, .count = DATA_MAX / PAGE_SIZE};
        vm_create(&vm, DATA_MAX);
        vm_run(&vm, code_touch, &touch);
    }
    mark(row->name, "begin");
    if (row->in_l1)
        l1_run(row->code, &r);
    else
        vm_run(&vm, row->code, &r);
    mark(row->name, "end");
    require(r.count == 0 && r.state == walk_result(count), "the walk went elsewhere");
}

static const struct row rows[] = {
    {"l2-cpuid", run_exits, code_cpuid, false, false, false},
    {"l2-port", run_exits, code_ports, false, false, false},
    {"l2-cr3-kvm", run_exits, code_cr3, false, false, false},
    {"l2-touch", run_touch, code_touch, false, true, false},
    {"l2-touch-new", run_touch, code_touch, false, false, false},
    {"walk-l1", run_walk, code_walk, false, true, true},
    {"walk-l2-2m", run_walk, code_walk, true, true, false},
    {"walk-l2-4k", run_walk, code_walk, false, true, false},
};
enum { ROW_COUNT = sizeof rows / sizeof *rows };

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (int i = 0; i < ROW_COUNT; i++)
            puts(rows[i].name);
        return 0;
    }
    uint64_t count = argc == 3 ? strtoull(argv[2], NULL, 10) : 0;
    if (count == 0) {
        fprintf(stderr, "usage: nested --list | nested NAME COUNT\n");
        return 2;
    }
    for (int i = 0; i < ROW_COUNT; i++) {
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].run(&rows[i], count);
            return 0;
        }
    }
    fprintf(stderr, "nested: %s: no such row (nested --list)\n", argv[1]);
    return 2;
}
