/*
 * snapshots/state.h -- descriptions of state structs, from which saving, loading, hashing and dumping come.
 *
 * A struct that is part of the machine has a table of fields:
 *
 *     static const struct state_field uart_fields[] = {
 *         STATE(struct uart, lcr),
 *         STATE(struct uart, rx_fifo),                      arrays of integers work the same
 *         STATE_SUB(struct uart, tx_timer, timer_state),    a nested struct (or array of structs) with its
 * own table STATE_SINCE(struct uart, next_tx_ns, 2),          absent in files older than version 2, then left
 * as reset STATE_SKIP(struct uart, irq, "wiring"),
 *     };
 *     const struct state_desc uart_state = STATE_DESC("uart", struct uart, 1, uart_fields, uart_after_load);
 *
 * state_coverage() reports each byte that is neither described nor skipped (padding excepted), and a unit
 * test walks all descriptions with it. Promise of snapshots/: a leaf that knows nothing of what it saves.
 */
#ifndef SNAPSHOTS_STATE_H
#define SNAPSHOTS_STATE_H

#include "base/clock.h"
#include "base/error.h"
#include "base/types.h"

enum state_kind { STATE_INT, STATE_BOOL, STATE_NESTED, STATE_SKIPPED };

struct state_desc;

struct state_field {
    const char *name;
    uint32_t offset; /* bytes from the start of the struct */
    uint32_t size;   /* bytes in all */
    uint32_t elem;   /* bytes of one element (integers: 1, 2, 4, 8); skipped: alignment; nested: 0 */
    uint8_t kind;    /* enum state_kind */
    uint8_t since;   /* first version that has it */
    const struct state_desc *sub;
    const char *reason; /* why skipped */
};

struct state_desc {
    const char *name;
    uint32_t size; /* sizeof the struct */
    uint32_t version;
    const struct state_field *fields;
    uint32_t field_count;
    /* After all fields are loaded: rebuild what was skipped, refuse what is impossible. May be NULL. */
    bool (*after_load)(void *s, struct error *e);
};

/*
 * Element size of an integer, bool or array of them (one or two dimensions). A compile error on anything
 * else, so that a pointer or a float cannot be saved by mistake.
 */
/* clang-format off */
#define STATE_ELEM_LIST                                                                                      \
    bool: 1, char: 1, uint8_t: 1, int8_t: 1, uint16_t: 2, int16_t: 2, uint32_t: 4, int32_t: 4,               \
    uint64_t: 8, int64_t: 8, unsigned long long: 8, long long: 8,                                            \
    bool *: 1, char *: 1, uint8_t *: 1, int8_t *: 1, uint16_t *: 2, int16_t *: 2, uint32_t *: 4,             \
    int32_t *: 4, uint64_t *: 8, int64_t *: 8, unsigned long long *: 8, long long *: 8
/* One array dimension less; a scalar becomes an int *, which no one looks at. */
#define STATE_FIRST_ROW(x)                                                                                   \
    (*_Generic((x),                                                                                          \
         bool: (int **)0, char: (int **)0, uint8_t: (int **)0, int8_t: (int **)0, uint16_t: (int **)0,       \
         int16_t: (int **)0, uint32_t: (int **)0, int32_t: (int **)0, uint64_t: (int **)0,                   \
         int64_t: (int **)0, unsigned long long: (int **)0, long long: (int **)0, default: (x)))
#define STATE_ELEM(x) _Generic((x), STATE_ELEM_LIST, default: _Generic(STATE_FIRST_ROW(x), STATE_ELEM_LIST))
#define STATE_IS_BOOL(x)                                                                                     \
    _Generic((x), bool: STATE_BOOL, bool *: STATE_BOOL,                                                      \
             default: _Generic(STATE_FIRST_ROW(x), bool *: STATE_BOOL, default: STATE_INT))
#define STATE_MEMBER(t, m) (((t *)0)->m)

#define STATE_SINCE(t, m, v)                                                                                 \
    {#m, offsetof(t, m), sizeof(STATE_MEMBER(t, m)), STATE_ELEM(STATE_MEMBER(t, m)),                         \
     STATE_IS_BOOL(STATE_MEMBER(t, m)), v, NULL, NULL}
#define STATE(t, m) STATE_SINCE(t, m, 1)
#define STATE_SUB(t, m, d)                                                                                   \
    {#m, offsetof(t, m), sizeof(STATE_MEMBER(t, m)), 0, STATE_NESTED, 1, &(d), NULL}
#define STATE_SKIP(t, m, why)                                                                                \
    {#m, offsetof(t, m), sizeof(STATE_MEMBER(t, m)), _Alignof(__typeof__(STATE_MEMBER(t, m))),               \
     STATE_SKIPPED, 1, NULL, why}
#define STATE_DESC(n, t, v, f, after) {n, sizeof(t), v, f, sizeof(f) / sizeof((f)[0]), after}
/* clang-format on */

/* A timer is saved as its deadline; after loading, clock_rebuild() puts all timers back into the heap. */
extern const struct state_desc timer_state;
/* `now`. Register it with the machine's items; call clock_rebuild() when the whole list is loaded. */
extern const struct state_desc clock_state;

/* A sink or source of bytes for sections (memory, file, hash). */
struct state_writer {
    void *owner;
    void (*write)(void *owner, const void *p, size_t n);
};

/*
 * A saved struct is a sequence of fields, all numbers little-endian:
 *
 *   OFFSET  SIZE  DESCRIPTION
 *   0       4     hash of the field's name (FNV-1a)
 *   4       4     n, bytes that follow
 *   8       n     integers and bools: the elements
 *                 nested: u32 version, u32 element count, then for each element u32 size and its fields
 *
 * Loading asks for every field with `since` <= the file's version, once each, in any order. A field that the
 * description no longer has is passed over in files of older versions and refused in files of this version.
 */

/* Writes s by its description: for each field name hash, size, little-endian elements. */
void state_save(const struct state_desc *d, const void *s, struct state_writer *w);
/*
 * Reads a section of `size` bytes; hostile input gives an error that names desc, field and offset. After an
 * error the struct is loaded in part: the machine must be thrown away.
 */
bool state_load(const struct state_desc *d, void *s, const uint8_t *p, size_t size, uint32_t version,
                struct error *e);
/* 64-bit hash of all described fields, chained on `seed`. */
uint64_t state_hash(const struct state_desc *d, const void *s, uint64_t seed);
uint64_t state_hash_bytes(const void *p, size_t n, uint64_t seed);
/*
 * Number of bytes neither described, skipped nor padding; the ranges go to gaps (may be NULL). C cannot tell
 * padding from a member, so a hole counts as padding when it is smaller than the alignment that the next
 * field (or the struct's end) asks for.
 */
struct state_gap {
    uint32_t offset, size;
};
uint32_t state_coverage(const struct state_desc *d, struct state_gap *gaps, uint32_t max_gaps);
/* Stops the program if a description contradicts itself (two fields of one name, odd sizes). */
void state_check(const struct state_desc *d);

/* The list of what a machine consists of: name, description, pointer. Filled at creation, fixed order. */
#define STATE_ITEMS_MAX 256
struct state_item {
    char name[32]; /* e.g. "cpu0", "ioapic" */
    const struct state_desc *desc;
    void *ptr;
};
struct state_list {
    struct state_item items[STATE_ITEMS_MAX];
    uint32_t count;
};
void state_register(struct state_list *l, const char *name, const struct state_desc *d, void *ptr);
/* Removes what was registered for ptr (a device that is unplugged); the others keep their order. */
void state_unregister(struct state_list *l, const void *ptr);
/* Hash of all items, names included, in order. */
uint64_t state_list_hash(const struct state_list *l, uint64_t seed);

#endif
