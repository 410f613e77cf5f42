/*
 * devices/virtq.c -- a split virtqueue in guest memory.
 *
 * Reference: Virtual I/O Device (VIRTIO) 1.2, "Split Virtqueues".
 * Tests: tests/unit/test_dev_virtio.c
 */
#include "devices/virtq.h"

#include <string.h>

#define DESC_NEXT          1u
#define DESC_WRITE         2u
#define DESC_INDIRECT      4u
#define AVAIL_NO_INTERRUPT 1u

struct descriptor {
    uint64_t addr;
    uint32_t length;
    uint16_t flags, next;
};

void virtq_reset(struct virtq *q, uint16_t size)
{
    *q = (struct virtq){.size = size, .vector = VIRTQ_NO_VECTOR};
}

static bool rings_in_ram(const struct virtq *q, const struct phys *phys)
{
    return phys_ram(phys, q->desc, 16ull * q->size) && phys_ram(phys, q->avail, 6 + 2ull * q->size) &&
           phys_ram(phys, q->used, 6 + 8ull * q->size);
}

static void chain_add(struct virtq_chain *c, const struct descriptor *d)
{
    c->segments[c->count++] = (struct virtq_segment){d->addr, d->length};
    if (d->flags & DESC_WRITE) {
        c->writable_bytes += d->length;
    } else {
        c->readable = c->count;
        c->readable_bytes += d->length;
    }
}

static bool chain_walk(const struct virtq *q, struct phys *phys, bool indirect, struct virtq_chain *c,
                       struct error *e)
{
    gpa_t table = q->desc;
    uint32_t entries = q->size, steps = 0, i = c->head;
    bool nested = false;

    for (;;) {
        const uint8_t *p = phys_ram(phys, table + 16ull * i, 16);
        if (!p)
            return error_set(e, "descriptor %u at %#llx is not in RAM", i,
                             (unsigned long long)table + 16ull * i);
        struct descriptor d = {load_le(p, 8), (uint32_t)load_le(p + 8, 4), (uint16_t)load_le(p + 12, 2),
                               (uint16_t)load_le(p + 14, 2)};
        if (++steps > entries)
            return error_set(e, "the chain of descriptor %u is a loop", c->head);
        if (d.flags & DESC_INDIRECT) {
            if (!indirect || nested || (d.flags & DESC_NEXT))
                return error_set(e, "descriptor %u may not be indirect", i);
            if (d.length == 0 || d.length % 16 || d.length / 16 > VIRTQ_CHAIN_MAX)
                return error_set(e, "indirect table of %u bytes", d.length);
            nested = true;
            table = d.addr;
            entries = d.length / 16;
            i = steps = 0;
            continue;
        }
        if (!(d.flags & DESC_WRITE) && c->readable != c->count)
            return error_set(e, "descriptor %u is readable and follows a writable one", i);
        if (d.length && !phys_ram(phys, d.addr, d.length))
            return error_set(e, "buffer %#llx of %u bytes is not in RAM", (unsigned long long)d.addr,
                             d.length);
        if (c->count == VIRTQ_CHAIN_MAX)
            return error_set(e, "the chain of descriptor %u is longer than %u", c->head, VIRTQ_CHAIN_MAX);
        chain_add(c, &d);
        if (!(d.flags & DESC_NEXT))
            return true;
        i = d.next;
        if (i >= entries)
            return error_set(e, "next descriptor %u of %u", i, entries);
    }
}

enum virtq_result virtq_pop(struct virtq *q, struct phys *phys, bool indirect, struct virtq_chain *c,
                            struct error *e)
{
    if (!q->enabled)
        return VIRTQ_EMPTY;
    if (!rings_in_ram(q, phys)) {
        error_set(e, "the rings are not in RAM");
        return VIRTQ_BROKEN;
    }
    uint16_t waiting = (uint16_t)(phys_load(phys, q->avail + 2, 2) - q->last_avail);
    if (!waiting)
        return VIRTQ_EMPTY;
    if (waiting > q->size) {
        error_set(e, "the available index is %u ahead in a ring of %u", waiting, q->size);
        return VIRTQ_BROKEN;
    }
    c->head = (uint16_t)phys_load(phys, q->avail + 4 + 2ull * (q->last_avail % q->size), 2);
    c->count = c->readable = 0;
    c->readable_bytes = c->writable_bytes = 0;
    if (c->head >= q->size) {
        error_set(e, "available descriptor %u of %u", c->head, q->size);
        return VIRTQ_BROKEN;
    }
    if (!chain_walk(q, phys, indirect, c, e))
        return VIRTQ_BROKEN;
    q->last_avail++;
    return VIRTQ_OK;
}

void virtq_push(struct virtq *q, struct phys *phys, uint16_t head, uint32_t written)
{
    gpa_t entry = q->used + 4 + 8ull * (q->used_index % q->size);
    phys_store(phys, entry, 4, head);
    phys_store(phys, entry + 4, 4, written);
    q->used_index++;
    phys_store(phys, q->used + 2, 2, q->used_index);
}

void virtq_ask_kick(struct virtq *q, struct phys *phys)
{
    phys_store(phys, q->used + 4 + 8ull * q->size, 2, q->last_avail);
}

bool virtq_wants_interrupt(struct virtq *q, struct phys *phys, bool event_idx)
{
    uint16_t old = q->signalled, now = q->used_index;
    bool valid = q->signalled_valid;
    if (valid && old == now)
        return false;
    q->signalled = now;
    q->signalled_valid = true;
    if (!event_idx)
        return !(phys_load(phys, q->avail, 2) & AVAIL_NO_INTERRUPT);
    uint16_t event = (uint16_t)phys_load(phys, q->avail + 4 + 2ull * q->size, 2);
    return !valid || (uint16_t)(now - event - 1) < (uint16_t)(now - old);
}

/* Walks segments [first, last) to `offset` and copies from there on. */
static bool chain_copy(const struct virtq_chain *c, struct phys *phys, unsigned first, unsigned last,
                       uint64_t offset, uint8_t *buf, const uint8_t *from, uint64_t n)
{
    for (unsigned i = first; i < last && n; i++) {
        const struct virtq_segment *s = &c->segments[i];
        if (offset >= s->length) {
            offset -= s->length;
            continue;
        }
        uint64_t part = MIN(n, s->length - offset);
        if (buf) {
            phys_read(phys, s->addr + offset, buf, part);
            buf += part;
        } else {
            phys_write(phys, s->addr + offset, from, part);
            from += part;
        }
        n -= part;
        offset = 0;
    }
    return n == 0;
}

bool virtq_read(const struct virtq_chain *c, struct phys *phys, uint64_t offset, void *buf, uint64_t n)
{
    return chain_copy(c, phys, 0, c->readable, offset, buf, NULL, n);
}

bool virtq_write(const struct virtq_chain *c, struct phys *phys, uint64_t offset, const void *buf, uint64_t n)
{
    return chain_copy(c, phys, c->readable, c->count, offset, NULL, buf, n);
}

static bool virtq_after_load(void *s, struct error *e)
{
    const struct virtq *q = s;
    if (q->size == 0 || q->size > VIRTQ_SIZE_MAX || (q->size & (q->size - 1)))
        return error_set(e, "virtq: impossible size %u", q->size);
    return true;
}

static const struct state_field virtq_fields[] = {
    STATE(struct virtq, size),
    STATE(struct virtq, vector),
    STATE(struct virtq, last_avail),
    STATE(struct virtq, used_index),
    STATE(struct virtq, signalled),
    STATE(struct virtq, enabled),
    STATE(struct virtq, signalled_valid),
    STATE(struct virtq, desc),
    STATE(struct virtq, avail),
    STATE(struct virtq, used),
};
const struct state_desc virtq_state = STATE_DESC("virtq", struct virtq, 1, virtq_fields, virtq_after_load);
