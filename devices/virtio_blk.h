/*
 * devices/virtio_blk.h -- virtio block device.
 */
#ifndef DEVICES_VIRTIO_BLK_H
#define DEVICES_VIRTIO_BLK_H

#include "devices/backend.h"
#include "devices/virtio_pci.h"

#define VIRTIO_BLK_CONFIG_LENGTH 60u
#define VIRTIO_BLK_LATENCY       20000u      /* ticks from a kick to its completions */
#define VIRTIO_BLK_REQUEST_MAX   (32u << 20) /* bytes of data in one request */
#define VIRTIO_BLK_SEG_MAX       126u

struct virtio_blk {
    struct virtio_pci virtio;
    uint64_t reads, writes, flushes, errors; /* totals, for --stats */
    struct timer timer;                      /* the next completion */
    /* What follows is made at creation and does not change. */
    uint8_t config[VIRTIO_BLK_CONFIG_LENGTH];
    char serial[20]; /* VIRTIO_BLK_T_GET_ID */
    struct clock *clock;
    const struct blockdev *disk;
    struct virtq_chain chain; /* the request in hand, empty between timers */
};

/* `serial` may be NULL. The disk's size must be a multiple of 512. */
bool virtio_blk_init(struct virtio_blk *b, struct pci_bus *bus, uint8_t devfn, struct phys *phys,
                     struct clock *clock, const struct blockdev *disk, const char *serial, struct log *log,
                     struct error *e);
void virtio_blk_reset(struct virtio_blk *b);
extern const struct state_desc virtio_blk_state;

#endif
