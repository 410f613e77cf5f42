/*
 * test_snapshot.c -- snapshot files: round trip, wrong machines, every truncation, every changed byte.
 */
#include "snapshots/file.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RAM_PAGES 200
#define RAM_SIZE  ((uint64_t)RAM_PAGES * PAGE_SIZE)

struct part {
    uint32_t a, b[5];
    bool on;
};
static const struct state_field part_fields[] = {
    STATE(struct part, a),
    STATE(struct part, b),
    STATE(struct part, on),
};
static const struct state_desc part_state = STATE_DESC("part", struct part, 1, part_fields, NULL);

struct machine {
    struct part p[2];
    struct clock clock;
    uint8_t *ram;
    struct state_list list;
};

static struct machine *machine_new(void)
{
    struct machine *m = calloc(1, sizeof(*m));
    m->ram = calloc(1, RAM_SIZE);
    clock_init(&m->clock);
    state_register(&m->list, "clock", &clock_state, &m->clock);
    state_register(&m->list, "part0", &part_state, &m->p[0]);
    state_register(&m->list, "part1", &part_state, &m->p[1]);
    return m;
}

static struct machine *machine_sample(void)
{
    struct machine *m = machine_new();
    m->clock.now = 123456789;
    m->p[0] = (struct part){1, {2, 3, 4, 5, 6}, true};
    m->p[1] = (struct part){7, {8, 9, 10, 11, 12}, false};
    /* The first page, pages around a chunk's edge, the last page; a whole chunk of zeros between them. */
    static const unsigned pages[] = {0, 63, 64, 70, RAM_PAGES - 1};
    for (unsigned i = 0; i < ARRAY_LEN(pages); i++)
        memset(m->ram + pages[i] * PAGE_SIZE + 100 + i, 0x40 + (int)i, 50);
    return m;
}

static void machine_free(struct machine *m)
{
    free(m->ram);
    free(m);
}

static uint64_t machine_hash(const struct machine *m)
{
    return state_hash_bytes(m->ram, RAM_SIZE, state_list_hash(&m->list, 0));
}

static const char config[] = "-m 800K -smp 1";

static uint8_t *sample_bytes(size_t *size)
{
    struct machine *m = machine_sample();
    struct error e;
    char *bytes = NULL;
    FILE *f = open_memstream(&bytes, size);
    cr_assert(snapshot_write(f, "memory", &m->list, config, m->ram, RAM_SIZE, &e), "%s", e.message);
    fclose(f);
    machine_free(m);
    return (uint8_t *)bytes;
}

static bool load_bytes(struct machine *m, const uint8_t *bytes, size_t size, struct error *e)
{
    FILE *f = size ? fmemopen((void *)bytes, size, "rb") : fopen("/dev/null", "rb");
    cr_assert(f);
    bool ok = snapshot_read(f, "memory", &m->list, config, m->ram, RAM_SIZE, e);
    fclose(f);
    return ok;
}

Test(snapshot, round_trip)
{
    char path[] = "/tmp/droste-test-XXXXXX", partial[64];
    char text[SNAPSHOT_CONFIG_MAX];
    uint64_t ram_size = 0;
    struct error e;
    struct machine *from = machine_sample(), *to = machine_new();
    close(mkstemp(path));
    cr_assert(snapshot_save(path, &from->list, config, from->ram, RAM_SIZE, &e), "%s", e.message);
    snprintf(partial, sizeof(partial), "%s.partial", path);
    cr_assert_neq(access(partial, F_OK), 0);

    cr_assert(snapshot_read_config(path, text, &ram_size, &e), "%s", e.message);
    cr_assert_str_eq(text, config);
    cr_assert_eq(ram_size, RAM_SIZE);

    memset(to->ram, 0xcc, RAM_SIZE);
    cr_assert(snapshot_load(path, &to->list, config, to->ram, RAM_SIZE, &e), "%s", e.message);
    cr_assert_arr_eq(to->ram, from->ram, RAM_SIZE);
    cr_assert_eq(machine_hash(to), machine_hash(from));
    cr_assert_eq(to->p[1].b[4], 12);

    cr_assert(!snapshot_load(path, &to->list, "-m 1G", to->ram, RAM_SIZE, &e));
    cr_assert(strstr(e.message, "made by another machine"), "%s", e.message);
    cr_assert(!snapshot_load(path, &to->list, config, to->ram, RAM_SIZE - PAGE_SIZE, &e));
    cr_assert(strstr(e.message, "RAM of"), "%s", e.message);
    state_unregister(&to->list, &to->p[1]);
    cr_assert(!snapshot_load(path, &to->list, config, to->ram, RAM_SIZE, &e));
    cr_assert(strstr(e.message, "section part1") && strstr(e.message, "no part of this machine"));
    state_register(&to->list, "part1", &part_state, &to->p[1]);
    state_register(&to->list, "part2", &part_state, &to->p[1]);
    cr_assert(!snapshot_load(path, &to->list, config, to->ram, RAM_SIZE, &e));
    cr_assert(strstr(e.message, "no section part2"), "%s", e.message);
    unlink(path);
    machine_free(from);
    machine_free(to);
}

Test(snapshot, same_machine_same_bytes)
{
    size_t n1, n2;
    uint8_t *a = sample_bytes(&n1), *b = sample_bytes(&n2);
    cr_assert_eq(n1, n2);
    cr_assert_arr_eq(a, b, n1);
    free(a);
    free(b);
}

Test(snapshot, empty_ram)
{
    struct machine *m = machine_sample();
    struct error e;
    char *bytes = NULL;
    size_t n;
    FILE *f = open_memstream(&bytes, &n);
    cr_assert(snapshot_write(f, "memory", &m->list, "", NULL, 0, &e), "%s", e.message);
    fclose(f);
    f = fmemopen(bytes, n, "rb");
    cr_assert(snapshot_read(f, "memory", &m->list, NULL, NULL, 0, &e), "%s", e.message);
    fclose(f);
    free(bytes);
    machine_free(m);
}

Test(snapshot, errors_name_the_file)
{
    struct machine *m = machine_sample();
    struct error e;
    cr_assert(!snapshot_save("/nowhere/x", &m->list, config, m->ram, RAM_SIZE, &e));
    cr_assert_str_eq(e.message, "/nowhere/x.partial: cannot create: No such file or directory");
    cr_assert(!snapshot_save("/dev/null", &m->list, config, m->ram, RAM_SIZE, &e));
    cr_assert_str_eq(e.message, "/dev/null: not a regular file");
    cr_assert(!snapshot_load("/nowhere/x", &m->list, config, m->ram, RAM_SIZE, &e));
    cr_assert_str_eq(e.message, "/nowhere/x: cannot open: No such file or directory");
    cr_assert(!snapshot_load("/tmp", &m->list, config, m->ram, RAM_SIZE, &e));
    cr_assert_str_eq(e.message, "/tmp: is a directory");
    FILE *f = fopen("/dev/full", "wb");
    setvbuf(f, NULL, _IONBF, 0);
    cr_assert(!snapshot_write(f, "/dev/full", &m->list, config, m->ram, RAM_SIZE, &e));
    cr_assert_str_eq(e.message, "/dev/full: cannot write: No space left on device");
    fclose(f);
    machine_free(m);
}

Test(snapshot, every_truncation_is_an_error)
{
    size_t size;
    uint8_t *bytes = sample_bytes(&size);
    struct machine *m = machine_new();
    struct error e;
    for (size_t n = 0; n < size; n++) {
        cr_assert(!load_bytes(m, bytes, n, &e), "%zu of %zu bytes", n, size);
        cr_assert(strstr(e.message, "memory: "), "%s", e.message);
    }
    cr_assert(load_bytes(m, bytes, size, &e), "%s", e.message);
    bytes = realloc(bytes, size + 1);
    bytes[size] = 0;
    cr_assert(!load_bytes(m, bytes, size + 1, &e));
    cr_assert(strstr(e.message, "goes on after its trailer"), "%s", e.message);
    free(bytes);
    machine_free(m);
}

/* Flips bits of every byte: an error, or a machine in the very same state. */
Test(snapshot, every_changed_byte_is_seen)
{
    static const uint8_t flips[] = {0x01, 0x10, 0x80, 0xff};
    size_t size;
    uint8_t *bytes = sample_bytes(&size);
    struct machine *m = machine_new();
    struct error e;
    cr_assert(load_bytes(m, bytes, size, &e));
    uint64_t want = machine_hash(m);
    unsigned errors = 0;
    for (size_t n = 0; n < size; n++) {
        for (unsigned i = 0; i < ARRAY_LEN(flips); i++) {
            bytes[n] ^= flips[i];
            if (!load_bytes(m, bytes, size, &e))
                errors++;
            else
                cr_assert_eq(machine_hash(m), want, "byte %zu", n);
            bytes[n] ^= flips[i];
        }
    }
    cr_assert_gt(errors, size * 3);
    free(bytes);
    machine_free(m);
}

/* Records dropped, repeated or exchanged, each intact in itself. */
Test(snapshot, sequence_of_records_is_checked)
{
    size_t size;
    uint8_t *bytes = sample_bytes(&size);
    struct machine *m = machine_new();
    struct error e;
    size_t first = 48 + strlen(config), n1 = 104 + load_le(bytes + first + 80, 8);
    size_t second = first + n1, n2 = 104 + load_le(bytes + second + 80, 8);
    uint8_t *copy = malloc(size + n1 + n2);

    /* Without the first section: the RAM chunk is not a section. */
    memcpy(copy, bytes, first);
    memcpy(copy + first, bytes + second, size - second);
    cr_assert(!load_bytes(m, copy, size - n1, &e));
    cr_assert(strstr(e.message, "no section at offset"), "%s", e.message);
    /* The first one twice. */
    memcpy(copy + first, bytes + first, n1);
    memcpy(copy + first + n1, bytes + first, size - first);
    cr_assert(!load_bytes(m, copy, size + n1, &e));
    cr_assert(strstr(e.message, "section clock appears twice"), "%s", e.message);
    /* Exchanged. */
    memcpy(copy, bytes, size);
    memcpy(copy + first, bytes + second, n2);
    memcpy(copy + first + n2, bytes + first, n1);
    cr_assert(!load_bytes(m, copy, size, &e));
    cr_assert(strstr(e.message, "missing or exchanged"), "%s", e.message);
    free(copy);
    free(bytes);
    machine_free(m);
}
