/*
 * devices/virtio_pci.h -- the PCI transport of virtio 1.x devices (modern interface only).
 *
 *   BAR 1  MSI-X table and pending bits      BAR 4  0000H common configuration, 1000H ISR status,
 *                                                   2000H device configuration, 3000H + 4q notify queue q
 */
#ifndef DEVICES_VIRTIO_PCI_H
#define DEVICES_VIRTIO_PCI_H

#include "devices/pci.h"
#include "devices/virtq.h"

#define VIRTIO_QUEUES_MAX 4u

#define VIRTIO_F_INDIRECT_DESC BIT(28)
#define VIRTIO_F_EVENT_IDX     BIT(29)
#define VIRTIO_F_VERSION_1     BIT(32)

#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER      0x02
#define VIRTIO_STATUS_DRIVER_OK   0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED      0x80

/* What a kind of device is; constant. */
struct virtio_class {
    const char *name;
    uint16_t id; /* virtio device type: 2 block */
    uint32_t pci_class;
    uint8_t queue_count;
    uint16_t config_length; /* bytes of device configuration */
    void (*notify)(void *owner, unsigned queue);
    void (*reset)(void *owner);
};

struct virtio_pci {
    struct pci_device pci;
    uint8_t status;
    uint8_t isr; /* bit 0 queue, bit 1 configuration change */
    uint8_t config_generation;
    bool said_broken; /* one log line for each reset */
    uint16_t config_vector;
    uint16_t queue_select;
    uint32_t device_feature_select, driver_feature_select;
    uint64_t driver_features;
    struct virtq queues[VIRTIO_QUEUES_MAX];
    /* What follows is made at creation and does not change. */
    uint64_t device_features;
    uint8_t cfg_cap; /* offset of the configuration-access capability */
    const struct virtio_class *class;
    const uint8_t *config; /* device configuration */
    void *owner;
    struct phys *phys;
    struct log *log;
};

bool virtio_pci_init(struct virtio_pci *v, const struct virtio_class *class, struct pci_bus *bus,
                     uint8_t devfn, uint64_t features, const uint8_t *config, void *owner, struct phys *phys,
                     struct log *log, struct error *e);
void virtio_pci_reset(struct virtio_pci *v);
/* The driver is ready, the device may use memory and nothing is broken. */
bool virtio_running(const struct virtio_pci *v);
/* The driver broke the rules: the device stops until it is reset, and says so once. */
void virtio_broken(struct virtio_pci *v, unsigned queue, const char *what);
bool virtio_has(const struct virtio_pci *v, uint64_t feature);
/* After requests of queue q were pushed: an interrupt if the driver wants one. */
void virtio_signal(struct virtio_pci *v, unsigned queue);
extern const struct state_desc virtio_pci_state;

#endif
