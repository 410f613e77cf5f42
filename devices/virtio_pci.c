/*
 * devices/virtio_pci.c -- the PCI transport of virtio 1.x devices.
 *
 * Reference: Virtual I/O Device (VIRTIO) 1.2, "Virtio Over PCI Bus". There is no legacy interface, so the
 * device identity is the non-transitional one (1040H + type). Tests: tests/unit/test_dev_virtio.c
 */
#include "devices/virtio_pci.h"

#include <string.h>

#define REGS_BAR    4u
#define MSIX_BAR    1u
#define ISR_AT      0x1000u
#define CONFIG_AT   0x2000u
#define NOTIFY_AT   0x3000u
#define REGS_SIZE   0x4000u
#define NOTIFY_STEP 4u

enum { /* common configuration */
       COMMON_DEVICE_FEATURE_SELECT = 0x00,
       COMMON_DEVICE_FEATURE = 0x04,
       COMMON_DRIVER_FEATURE_SELECT = 0x08,
       COMMON_DRIVER_FEATURE = 0x0c,
       COMMON_CONFIG_VECTOR = 0x10,
       COMMON_NUM_QUEUES = 0x12,
       COMMON_STATUS = 0x14,
       COMMON_GENERATION = 0x15,
       COMMON_QUEUE_SELECT = 0x16,
       COMMON_QUEUE_SIZE = 0x18,
       COMMON_QUEUE_VECTOR = 0x1a,
       COMMON_QUEUE_ENABLE = 0x1c,
       COMMON_QUEUE_NOTIFY_OFF = 0x1e,
       COMMON_QUEUE_DESC = 0x20,
       COMMON_QUEUE_DRIVER = 0x28,
       COMMON_QUEUE_DEVICE = 0x30,
       COMMON_LENGTH = 0x38,
};

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI_CFG };

/* -- Interrupts and state ------------------------------------------------------------------------------ */

static void virtio_interrupt(struct virtio_pci *v, uint8_t isr, uint16_t vector)
{
    if (pci_msix_enabled(&v->pci)) {
        if (vector != VIRTQ_NO_VECTOR)
            pci_msix_notify(&v->pci, vector);
        return;
    }
    v->isr |= isr;
    pci_set_intx(&v->pci, v->isr != 0);
}

bool virtio_has(const struct virtio_pci *v, uint64_t feature)
{
    return v->driver_features & feature;
}

bool virtio_running(const struct virtio_pci *v)
{
    return (v->status & VIRTIO_STATUS_DRIVER_OK) && !(v->status & VIRTIO_STATUS_NEEDS_RESET) &&
           pci_bus_master(&v->pci);
}

void virtio_broken(struct virtio_pci *v, unsigned queue, const char *what)
{
    if (!v->said_broken)
        log_warn(v->log, "%s: queue %u is broken: %s; the device waits for a reset", v->class->name, queue,
                 what);
    v->said_broken = true;
    v->status |= VIRTIO_STATUS_NEEDS_RESET;
    if (v->status & VIRTIO_STATUS_DRIVER_OK)
        virtio_interrupt(v, 2, v->config_vector);
}

void virtio_signal(struct virtio_pci *v, unsigned queue)
{
    struct virtq *q = &v->queues[queue];
    if (virtq_wants_interrupt(q, v->phys, virtio_has(v, VIRTIO_F_EVENT_IDX)))
        virtio_interrupt(v, 1, q->vector);
}

/* A reset by the driver, through the status register. */
static void virtio_driver_reset(struct virtio_pci *v)
{
    v->status = v->isr = 0;
    v->said_broken = false;
    v->config_vector = VIRTQ_NO_VECTOR;
    v->queue_select = 0;
    v->device_feature_select = v->driver_feature_select = 0;
    v->driver_features = 0;
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        virtq_reset(&v->queues[i], VIRTQ_SIZE_MAX);
    v->pci.msix_pending = 0;
    pci_set_intx(&v->pci, false);
    if (v->class->reset)
        v->class->reset(v->owner);
}

void virtio_pci_reset(struct virtio_pci *v)
{
    virtio_driver_reset(v);
    pci_device_reset(&v->pci);
}

/* -- Common configuration ------------------------------------------------------------------------------ */

static struct virtq *selected(struct virtio_pci *v)
{
    return v->queue_select < v->class->queue_count ? &v->queues[v->queue_select] : NULL;
}

static uint32_t feature_word(uint64_t features, uint32_t select)
{
    return select < 2 ? (uint32_t)(features >> 32 * select) : 0;
}

static uint64_t common_read(struct virtio_pci *v, uint64_t offset, unsigned size)
{
    uint8_t r[COMMON_LENGTH + 8] = {0};
    const struct virtq *q = selected(v);
    if (offset >= COMMON_LENGTH)
        return 0;
    store_le(r + COMMON_DEVICE_FEATURE_SELECT, v->device_feature_select, 4);
    store_le(r + COMMON_DEVICE_FEATURE, feature_word(v->device_features, v->device_feature_select), 4);
    store_le(r + COMMON_DRIVER_FEATURE_SELECT, v->driver_feature_select, 4);
    store_le(r + COMMON_DRIVER_FEATURE, feature_word(v->driver_features, v->driver_feature_select), 4);
    store_le(r + COMMON_CONFIG_VECTOR, v->config_vector, 2);
    store_le(r + COMMON_NUM_QUEUES, v->class->queue_count, 2);
    r[COMMON_STATUS] = v->status;
    r[COMMON_GENERATION] = v->config_generation;
    store_le(r + COMMON_QUEUE_SELECT, v->queue_select, 2);
    if (q) { /* a queue that does not exist has size 0 */
        store_le(r + COMMON_QUEUE_SIZE, q->size, 2);
        store_le(r + COMMON_QUEUE_VECTOR, q->vector, 2);
        store_le(r + COMMON_QUEUE_ENABLE, q->enabled, 2);
        store_le(r + COMMON_QUEUE_NOTIFY_OFF, v->queue_select, 2);
        store_le(r + COMMON_QUEUE_DESC, q->desc, 8);
        store_le(r + COMMON_QUEUE_DRIVER, q->avail, 8);
        store_le(r + COMMON_QUEUE_DEVICE, q->used, 8);
    }
    return load_le(r + offset, size);
}

static void write_status(struct virtio_pci *v, uint8_t value)
{
    if (value == 0) {
        virtio_driver_reset(v);
        return;
    }
    if ((value & VIRTIO_STATUS_FEATURES_OK) && !(v->status & VIRTIO_STATUS_FEATURES_OK) &&
        ((v->driver_features & ~v->device_features) || !(v->driver_features & VIRTIO_F_VERSION_1)))
        value &= ~VIRTIO_STATUS_FEATURES_OK;
    v->status = value | (v->status & VIRTIO_STATUS_NEEDS_RESET);
}

static uint16_t checked_vector(const struct virtio_pci *v, uint32_t value)
{
    return value < v->pci.msix_count ? (uint16_t)value : VIRTQ_NO_VECTOR;
}

static void set_half(uint64_t *field, unsigned half, uint32_t value)
{
    *field = half ? (*field & 0xffffffff) | (uint64_t)value << 32 : (*field & ~0xffffffffull) | value;
}

/* One register; the queue's address fields are written as two halves. */
static void common_write_register(struct virtio_pci *v, unsigned reg, uint32_t value)
{
    struct virtq *q = selected(v);
    bool set_up = q && !q->enabled; /* an enabled queue does not change */
    switch (reg) {
    case COMMON_DEVICE_FEATURE_SELECT:
        v->device_feature_select = value;
        break;
    case COMMON_DRIVER_FEATURE_SELECT:
        v->driver_feature_select = value;
        break;
    case COMMON_DRIVER_FEATURE:
        if (v->driver_feature_select < 2 && !(v->status & VIRTIO_STATUS_FEATURES_OK))
            set_half(&v->driver_features, v->driver_feature_select, value);
        break;
    case COMMON_CONFIG_VECTOR:
        v->config_vector = checked_vector(v, value);
        break;
    case COMMON_STATUS:
        write_status(v, (uint8_t)value);
        break;
    case COMMON_QUEUE_SELECT:
        v->queue_select = (uint16_t)value;
        break;
    case COMMON_QUEUE_SIZE:
        if (set_up && value && value <= VIRTQ_SIZE_MAX && !(value & (value - 1)))
            q->size = (uint16_t)value;
        break;
    case COMMON_QUEUE_VECTOR:
        if (q)
            q->vector = checked_vector(v, value);
        break;
    case COMMON_QUEUE_ENABLE:
        if (set_up && value == 1)
            q->enabled = true;
        break;
    default:
        if (!set_up || reg < COMMON_QUEUE_DESC || reg >= COMMON_LENGTH)
            break;
        set_half(reg < COMMON_QUEUE_DRIVER   ? &q->desc
                 : reg < COMMON_QUEUE_DEVICE ? &q->avail
                                             : &q->used,
                 reg >> 2 & 1, value);
    }
}

static void common_write(struct virtio_pci *v, uint64_t offset, unsigned size, uint64_t value)
{
    static const struct {
        uint8_t at, size;
    } registers[] = {{0x00, 4}, {0x04, 4}, {0x08, 4}, {0x0c, 4}, {0x10, 2}, {0x12, 2}, {0x14, 1},
                     {0x15, 1}, {0x16, 2}, {0x18, 2}, {0x1a, 2}, {0x1c, 2}, {0x1e, 2}, {0x20, 4},
                     {0x24, 4}, {0x28, 4}, {0x2c, 4}, {0x30, 4}, {0x34, 4}};
    for (unsigned i = 0; i < ARRAY_LEN(registers); i++) {
        unsigned at = registers[i].at, n = registers[i].size;
        if (at >= offset && at + n <= offset + size)
            common_write_register(v, at, (uint32_t)(value >> 8 * (at - offset) & size_mask(n)));
    }
}

/* -- BAR 4 --------------------------------------------------------------------------------------------- */

static void virtio_kick(struct virtio_pci *v, unsigned queue)
{
    if (queue < v->class->queue_count && virtio_running(v) && v->queues[queue].enabled)
        v->class->notify(v->owner, queue);
}

static uint64_t virtio_read(void *owner, uint64_t offset, unsigned size)
{
    struct virtio_pci *v = owner;
    if (offset < ISR_AT)
        return common_read(v, offset, size);
    if (offset < CONFIG_AT) {
        uint8_t isr = offset == ISR_AT ? v->isr : 0;
        if (offset == ISR_AT) { /* reading acknowledges */
            v->isr = 0;
            pci_set_intx(&v->pci, false);
        }
        return isr;
    }
    if (offset < NOTIFY_AT && offset - CONFIG_AT + size <= v->class->config_length)
        return load_le(v->config + (offset - CONFIG_AT), size);
    return 0;
}

static void virtio_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct virtio_pci *v = owner;
    if (offset < ISR_AT)
        common_write(v, offset, size, value);
    else if (offset >= NOTIFY_AT)
        virtio_kick(v, (unsigned)(offset - NOTIFY_AT) / NOTIFY_STEP);
    /* Device configuration has no writable field without VIRTIO_BLK_F_CONFIG_WCE and the like. */
}

/* -- The window in configuration space ----------------------------------------------------------------- */

/* True when the window's fields make an access that exists. */
static bool window_access(const struct virtio_pci *v, uint32_t *offset, uint32_t *length)
{
    const uint8_t *cap = &v->pci.config[v->cfg_cap];
    *offset = (uint32_t)load_le(cap + 8, 4);
    *length = (uint32_t)load_le(cap + 12, 4);
    return cap[4] == REGS_BAR && (*length == 1 || *length == 2 || *length == 4) && *offset % *length == 0 &&
           *offset < REGS_SIZE;
}

static bool window_touched(const struct virtio_pci *v, unsigned offset, unsigned size)
{
    unsigned data = v->cfg_cap + 16u;
    return offset < data + 4 && offset + size > data;
}

static void window_read(void *owner, unsigned offset, unsigned size)
{
    struct virtio_pci *v = owner;
    uint32_t at, length;
    if (window_touched(v, offset, size) && window_access(v, &at, &length))
        store_le(&v->pci.config[v->cfg_cap + 16], virtio_read(v, at, length), 4);
}

static void window_written(void *owner, unsigned offset, unsigned size)
{
    struct virtio_pci *v = owner;
    uint32_t at, length;
    if (window_touched(v, offset, size) && window_access(v, &at, &length))
        virtio_write(v, at, length, load_le(&v->pci.config[v->cfg_cap + 16], length));
}

/* -- Creation ------------------------------------------------------------------------------------------ */

static uint8_t add_capability(struct virtio_pci *v, uint8_t type, uint8_t length, uint32_t at, uint32_t bytes)
{
    uint8_t cap = pci_add_capability(&v->pci, PCI_CAP_VENDOR, length);
    uint8_t *c = &v->pci.config[cap];
    c[2] = length;
    c[3] = type;
    c[4] = type == CAP_PCI_CFG ? 0 : REGS_BAR;
    store_le(c + 8, at, 4);
    store_le(c + 12, bytes, 4);
    return cap;
}

bool virtio_pci_init(struct virtio_pci *v, const struct virtio_class *class, struct pci_bus *bus,
                     uint8_t devfn, uint64_t features, const uint8_t *config, void *owner, struct phys *phys,
                     struct log *log, struct error *e)
{
    static const struct bus_ops ops = {virtio_read, virtio_write, 4};
    struct pci_device *d = &v->pci;

    memset(v, 0, sizeof(*v));
    v->class = class;
    v->device_features = features | VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX;
    v->config = config;
    v->owner = owner;
    v->phys = phys;
    v->log = log;
    if (!pci_device_init(d, bus, devfn, class->name, 0x1af4, 0x1040 + class->id, class->pci_class, 1, 1, e))
        return false;
    pci_set_subsystem(d, 0x1af4, 0x1100);
    if (!pci_add_msix(d, MSIX_BAR, class->queue_count + 1u, e) ||
        !pci_add_bar(d, REGS_BAR, REGS_SIZE, PCI_BAR_MEM64, true, &ops, v, e))
        return false;
    add_capability(v, CAP_COMMON, 16, 0, COMMON_LENGTH);
    add_capability(v, CAP_ISR, 16, ISR_AT, 1);
    add_capability(v, CAP_DEVICE, 16, CONFIG_AT, class->config_length);
    uint8_t notify = add_capability(v, CAP_NOTIFY, 20, NOTIFY_AT, NOTIFY_STEP * class->queue_count);
    store_le(&d->config[notify + 16], NOTIFY_STEP, 4);
    v->cfg_cap = add_capability(v, CAP_PCI_CFG, 20, 0, 0);
    d->writable[v->cfg_cap + 4] = 0xff;
    memset(&d->writable[v->cfg_cap + 8], 0xff, 12);
    d->owner = v;
    d->config_read = window_read;
    d->config_written = window_written;
    pci_device_done(d);
    for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
        virtq_reset(&v->queues[i], VIRTQ_SIZE_MAX);
    v->config_vector = VIRTQ_NO_VECTOR;
    return true;
}

static const struct state_field virtio_pci_fields[] = {
    STATE_SUB(struct virtio_pci, pci, pci_device_state),
    STATE(struct virtio_pci, status),
    STATE(struct virtio_pci, isr),
    STATE(struct virtio_pci, config_generation),
    STATE(struct virtio_pci, said_broken),
    STATE(struct virtio_pci, config_vector),
    STATE(struct virtio_pci, queue_select),
    STATE(struct virtio_pci, device_feature_select),
    STATE(struct virtio_pci, driver_feature_select),
    STATE(struct virtio_pci, driver_features),
    STATE_SUB(struct virtio_pci, queues, virtq_state),
    STATE_SKIP(struct virtio_pci, device_features, "made at creation"),
    STATE_SKIP(struct virtio_pci, cfg_cap, "made at creation"),
    STATE_SKIP(struct virtio_pci, class, "made at creation"),
    STATE_SKIP(struct virtio_pci, config, "made at creation"),
    STATE_SKIP(struct virtio_pci, owner, "wiring"),
    STATE_SKIP(struct virtio_pci, phys, "wiring"),
    STATE_SKIP(struct virtio_pci, log, "wiring"),
};
const struct state_desc virtio_pci_state =
    STATE_DESC("virtio_pci", struct virtio_pci, 1, virtio_pci_fields, NULL);
