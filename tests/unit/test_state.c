/*
 * test_state.c -- state descriptions: round trip, versions, hostile sections, hash, coverage.
 */
#include "snapshots/state.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct inner {
    uint16_t a;
    bool on;
    uint32_t b[3];
};
static const struct state_field inner_fields[] = {
    STATE(struct inner, a),
    STATE(struct inner, on),
    STATE(struct inner, b),
};
static const struct state_desc inner_state = STATE_DESC("inner", struct inner, 1, inner_fields, NULL);

struct outer {
    uint8_t small;
    uint64_t big;
    int32_t table[2][3];
    bool flags[2][2];
    struct inner one, many[3];
    void *wire;
    uint32_t derived; /* = small + 1, made by after_load */
    uint32_t newer;
};

static bool outer_after_load(void *s, struct error *e)
{
    struct outer *o = s;
    o->derived = o->small + 1u;
    return o->small != 0xee || error_set(e, "small is impossible");
}

static const struct state_field outer_fields[] = {
    STATE(struct outer, small),
    STATE(struct outer, big),
    STATE(struct outer, table),
    STATE(struct outer, flags),
    STATE_SUB(struct outer, one, inner_state),
    STATE_SUB(struct outer, many, inner_state),
    STATE_SKIP(struct outer, wire, "wiring"),
    STATE_SKIP(struct outer, derived, "made by after_load"),
    STATE_SINCE(struct outer, newer, 2),
};
static const struct state_desc outer_state =
    STATE_DESC("outer", struct outer, 2, outer_fields, outer_after_load);

/* The same struct as an older program knew it: without `newer`, with a field that went away. */
static const struct state_field old_fields[] = {
    STATE(struct outer, small),
    STATE(struct outer, big),
    STATE(struct outer, table),
    STATE(struct outer, flags),
    STATE_SUB(struct outer, one, inner_state),
    STATE_SUB(struct outer, many, inner_state),
    {"gone", offsetof(struct outer, derived), 4, 4, STATE_INT, 1, NULL, NULL},
};
static const struct state_desc old_state = STATE_DESC("outer", struct outer, 1, old_fields, NULL);

struct bytes {
    uint8_t data[4096];
    size_t size;
};

static void bytes_write(void *owner, const void *p, size_t n)
{
    struct bytes *b = owner;
    cr_assert_leq(b->size + n, sizeof(b->data));
    memcpy(b->data + b->size, p, n);
    b->size += n;
}

static void save(const struct state_desc *d, const void *s, struct bytes *b)
{
    struct state_writer w = {b, bytes_write};
    b->size = 0;
    state_save(d, s, &w);
}

static struct outer sample(void)
{
    struct outer o;
    memset(&o, 0, sizeof(o));
    o.small = 0x12;
    o.big = 0x1122334455667788;
    for (int i = 0; i < 6; i++)
        o.table[i / 3][i % 3] = -i;
    o.flags[1][0] = true;
    o.one = (struct inner){.a = 7, .on = true, .b = {1, 2, 3}};
    o.many[2] = (struct inner){.a = 9, .b = {4, 5, 6}};
    o.wire = &o;
    o.newer = 77;
    return o;
}

Test(state, kinds_come_from_the_types)
{
    cr_assert_eq(outer_fields[0].elem, 1);
    cr_assert_eq(outer_fields[1].elem, 8);
    cr_assert_eq(outer_fields[2].elem, 4);
    cr_assert_eq(outer_fields[2].size, 24);
    cr_assert_eq(outer_fields[3].kind, STATE_BOOL);
    cr_assert_eq(outer_fields[0].kind, STATE_INT);
    cr_assert_eq(inner_fields[1].kind, STATE_BOOL);
}

Test(state, round_trip)
{
    struct outer from = sample(), to;
    struct bytes b;
    struct error e;
    save(&outer_state, &from, &b);
    memset(&to, 0xff, sizeof(to));
    cr_assert(state_load(&outer_state, &to, b.data, b.size, 2, &e), "%s", e.message);
    cr_assert_eq(to.big, from.big);
    cr_assert_arr_eq(to.table, from.table, sizeof(to.table));
    cr_assert_eq(to.many[2].b[2], 6);
    cr_assert_eq(to.derived, 0x13);
    cr_assert_eq((uintptr_t)to.wire, UINTPTR_MAX);
    cr_assert_eq(state_hash(&outer_state, &to, 1), state_hash(&outer_state, &from, 1));
    struct bytes again;
    save(&outer_state, &to, &again);
    cr_assert_eq(again.size, b.size);
    cr_assert_arr_eq(again.data, b.data, b.size);
}

/* The file's bytes, so that a change of the format cannot pass unseen. */
Test(state, bytes_are_fixed)
{
    struct inner i = {.a = 0x0102, .on = true, .b = {3, 4, 5}};
    struct bytes b;
    static const uint8_t want[] = {
        0x2c, 0x29, 0x0c, 0xe4, 2,  0, 0, 0, 0x02, 0x01,                               /* a */
        0xd0, 0x2f, 0x34, 0x61, 1,  0, 0, 0, 1,                                        /* on */
        0xe5, 0x2d, 0x0c, 0xe7, 12, 0, 0, 0, 3,    0,    0, 0, 4, 0, 0, 0, 5, 0, 0, 0, /* b */
    };
    save(&inner_state, &i, &b);
    cr_assert_eq(b.size, sizeof(want));
    cr_assert_arr_eq(b.data, want, sizeof(want));
}

Test(state, older_file_leaves_new_fields_as_reset)
{
    struct outer from = sample(), to = {.newer = 5};
    struct bytes b;
    struct error e;
    save(&old_state, &from, &b);
    cr_assert(state_load(&outer_state, &to, b.data, b.size, 1, &e), "%s", e.message);
    cr_assert_eq(to.newer, 5);
    cr_assert_eq(to.big, from.big);
    cr_assert(!state_load(&outer_state, &to, b.data, b.size, 2, &e));
    cr_assert(strstr(e.message, "outer: unknown field"), "%s", e.message);
}

Test(state, refuses_what_it_does_not_know)
{
    struct outer o = sample();
    struct bytes b;
    struct error e;
    save(&outer_state, &o, &b);
    cr_assert(!state_load(&outer_state, &o, b.data, b.size, 3, &e));
    cr_assert(!state_load(&outer_state, &o, b.data, b.size, 0, &e));
    cr_assert(!state_load(&outer_state, &o, b.data, 0, 2, &e));
    cr_assert(strstr(e.message, "outer.small: missing"), "%s", e.message);
    cr_assert(!state_load(&inner_state, &o.one, b.data, b.size, 1, &e));
    o.small = 0xee;
    save(&outer_state, &o, &b);
    cr_assert(!state_load(&outer_state, &o, b.data, b.size, 2, &e));
    cr_assert_str_eq(e.message, "small is impossible");
    /* A field twice. */
    struct inner i = {0};
    save(&inner_state, &i, &b);
    memcpy(b.data + b.size, b.data, 10);
    cr_assert(!state_load(&inner_state, &i, b.data, b.size + 10, 1, &e));
    cr_assert(strstr(e.message, "inner.a: appears twice, at offset 39"), "%s", e.message);
    /* A bool of 2. */
    b.data[18] = 2;
    cr_assert(!state_load(&inner_state, &i, b.data, b.size, 1, &e));
    cr_assert(strstr(e.message, "inner.on: 2 is not a truth value at offset 18"), "%s", e.message);
}

/* Every truncation is an error; every changed byte is an error or a changed integer, never a crash. */
Test(state, hostile_sections)
{
    struct outer o = sample(), to;
    struct bytes b;
    struct error e;
    save(&outer_state, &o, &b);
    for (size_t n = 0; n < b.size; n++) {
        uint8_t *copy = malloc(n + 1);
        memcpy(copy, b.data, n);
        cr_assert(!state_load(&outer_state, &to, copy, n, 2, &e), "%zu bytes", n);
        free(copy);
    }
    for (size_t n = 0; n < b.size; n++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            uint8_t *copy = malloc(b.size);
            memcpy(copy, b.data, b.size);
            copy[n] ^= (uint8_t)BIT(bit);
            memset(&to, 0, sizeof(to));
            if (state_load(&outer_state, &to, copy, b.size, 2, &e))
                cr_assert_neq(state_hash(&outer_state, &to, 0), state_hash(&outer_state, &o, 0));
            free(copy);
        }
    }
}

Test(state, hash_sees_every_described_byte_and_no_other)
{
    struct outer o = sample();
    uint64_t h = state_hash(&outer_state, &o, 0);
    cr_assert_neq(h, state_hash(&outer_state, &o, 1));
    o.wire = NULL;
    o.derived = 99;
    cr_assert_eq(h, state_hash(&outer_state, &o, 0));
    for (size_t i = 0; i < sizeof(o.table); i++) {
        ((uint8_t *)o.table)[i] ^= 0x10;
        cr_assert_neq(h, state_hash(&outer_state, &o, 0));
        ((uint8_t *)o.table)[i] ^= 0x10;
    }
    o.many[1].b[1]++;
    cr_assert_neq(h, state_hash(&outer_state, &o, 0));
}

Test(state, hash_of_bytes)
{
    static uint8_t data[300];
    /* Every length and every bit counts, also among zeros. */
    uint64_t seen[301];
    for (size_t n = 0; n <= sizeof(data); n++) {
        seen[n] = state_hash_bytes(data, n, 0);
        for (size_t k = 0; k < n; k++)
            cr_assert_neq(seen[k], seen[n]);
        for (size_t bit = 0; bit < n * 8; bit += 7) {
            data[bit / 8] ^= (uint8_t)BIT(bit % 8);
            cr_assert_neq(state_hash_bytes(data, n, 0), seen[n]);
            data[bit / 8] ^= (uint8_t)BIT(bit % 8);
        }
    }
    /* Hashes stand in files, so they are part of the format. */
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7);
    cr_assert_eq(state_hash_bytes("droste", 6, 0), 0x2322e4e9c3a38f83, "%016lx",
                 (unsigned long)state_hash_bytes("droste", 6, 0));
    cr_assert_eq(state_hash_bytes(data, 300, 5), 0xfad9d880c5b037a2, "%016lx",
                 (unsigned long)state_hash_bytes(data, 300, 5));
}

/* About half of the output bits change with each input bit. */
Test(state, hash_spreads)
{
    uint8_t data[96] = {0};
    uint64_t h = state_hash_bytes(data, sizeof(data), 0);
    unsigned long changed = 0;
    for (unsigned bit = 0; bit < 768; bit++) {
        data[bit / 8] ^= (uint8_t)BIT(bit % 8);
        unsigned n = (unsigned)__builtin_popcountll(h ^ state_hash_bytes(data, sizeof(data), 0));
        cr_assert(n >= 10 && n <= 54, "bit %u changes %u bits", bit, n);
        changed += n;
        data[bit / 8] ^= (uint8_t)BIT(bit % 8);
    }
    cr_assert(changed > 768 * 30 && changed < 768 * 34, "%lu", changed);
}

struct holes {
    uint32_t a;
    uint32_t forgotten;
    uint64_t b;
    uint8_t c;
    struct inner d;
    uint8_t e[5];
};
static const struct state_field holes_fields[] = {
    STATE(struct holes, a),
    STATE(struct holes, b),
    STATE(struct holes, c),
    STATE_SKIP(struct holes, d, "test"),
};
static const struct state_desc holes_state = STATE_DESC("holes", struct holes, 1, holes_fields, NULL);

Test(state, coverage)
{
    struct state_gap gaps[8];
    cr_assert_eq(state_coverage(&outer_state, gaps, 8), 0);
    cr_assert_eq(state_coverage(&inner_state, gaps, 8), 0);
    cr_assert_eq(state_coverage(&timer_state, gaps, 8), 0);
    cr_assert_eq(state_coverage(&clock_state, gaps, 8), 0);
    /* `forgotten` looks like padding before the aligned `b`; the tail does not. */
    cr_assert_eq(state_coverage(&holes_state, gaps, 8), sizeof(struct holes) - offsetof(struct holes, e));
    cr_assert_eq(gaps[0].offset, offsetof(struct holes, e));
    cr_assert_eq(state_coverage(&holes_state, NULL, 0), gaps[0].size);
}

Test(state, timers_go_back_into_the_heap)
{
    struct clock c, c2;
    struct timer t[3] = {0}, t2[3] = {0};
    struct bytes b;
    struct error e;
    clock_init(&c);
    clock_init(&c2);
    for (int i = 0; i < 3; i++) {
        clock_add_timer(&c, &t[i], "t", NULL, NULL);
        clock_add_timer(&c2, &t2[i], "t", NULL, NULL);
        clock_arm(&c2, &t2[i], 5);
    }
    clock_arm(&c, &t[1], 100);
    clock_arm(&c, &t[2], 50);
    for (int i = 0; i < 3; i++) {
        save(&timer_state, &t[i], &b);
        cr_assert(state_load(&timer_state, &t2[i], b.data, b.size, 1, &e));
    }
    clock_rebuild(&c2);
    cr_assert_eq(c2.heap_count, 2);
    cr_assert_eq(c2.next, 50);
    cr_assert_eq(t2[0].heap_index, -1);
}

Test(state, list)
{
    struct inner a = {0}, b = {0};
    static struct state_list l;
    state_register(&l, "a", &inner_state, &a);
    uint64_t h = state_list_hash(&l, 0);
    state_register(&l, "b", &inner_state, &b);
    cr_assert_neq(h, state_list_hash(&l, 0));
    state_unregister(&l, &b);
    cr_assert_eq(h, state_list_hash(&l, 0));
    a.b[1] = 1;
    cr_assert_neq(h, state_list_hash(&l, 0));
}
