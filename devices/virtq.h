/*
 * devices/virtq.h -- a split virtqueue in guest memory.
 *
 * All of it comes from the guest: every index, address, length and chain is checked when it is used.
 *
 *   descriptor  0 address | 8 length | 12 flags (1 next, 2 device writes, 4 indirect) | 14 next
 *   available   0 flags | 2 index | 4 ring of heads | used_event
 *   used        0 flags | 2 index | 4 ring of { head, bytes written } | avail_event
 */
#ifndef DEVICES_VIRTQ_H
#define DEVICES_VIRTQ_H

#include "devices/device.h"
#include "mmu/phys.h"

#define VIRTQ_SIZE_MAX  256u
#define VIRTQ_CHAIN_MAX 1024u /* descriptors in one chain, those of an indirect table included */
#define VIRTQ_NO_VECTOR 0xffffu

struct virtq {
    uint16_t size;       /* a power of two up to VIRTQ_SIZE_MAX */
    uint16_t vector;     /* MSI-X vector or VIRTQ_NO_VECTOR */
    uint16_t last_avail; /* next entry of the available ring to take */
    uint16_t used_index;
    uint16_t signalled; /* used_index at the last interrupt */
    bool enabled;
    bool signalled_valid;
    uint64_t desc, avail, used; /* guest-physical */
};

struct virtq_segment {
    gpa_t addr;
    uint32_t length;
};

/* A request: readable segments come first, then those that the device writes. */
struct virtq_chain {
    uint16_t head;
    uint16_t count;
    uint16_t readable; /* segments [0, readable) */
    uint64_t readable_bytes, writable_bytes;
    struct virtq_segment segments[VIRTQ_CHAIN_MAX];
};

enum virtq_result { VIRTQ_EMPTY, VIRTQ_OK, VIRTQ_BROKEN };

void virtq_reset(struct virtq *q, uint16_t size);
/* Takes the next request; on VIRTQ_BROKEN, e says what is wrong. `indirect`: the feature was accepted. */
enum virtq_result virtq_pop(struct virtq *q, struct phys *phys, bool indirect, struct virtq_chain *c,
                            struct error *e);
/* Gives a request back with the number of bytes written to it. */
void virtq_push(struct virtq *q, struct phys *phys, uint16_t head, uint32_t written);
/* Asks for a kick at the next request (event_idx), and tells whether the driver wants an interrupt now. */
void virtq_ask_kick(struct virtq *q, struct phys *phys);
bool virtq_wants_interrupt(struct virtq *q, struct phys *phys, bool event_idx);
/* Copies n bytes at an offset of the readable or to the writable part; false beyond its end. */
bool virtq_read(const struct virtq_chain *c, struct phys *phys, uint64_t offset, void *buf, uint64_t n);
bool virtq_write(const struct virtq_chain *c, struct phys *phys, uint64_t offset, const void *buf,
                 uint64_t n);
extern const struct state_desc virtq_state;

#endif
