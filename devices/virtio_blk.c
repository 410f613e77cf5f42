/*
 * devices/virtio_blk.c -- virtio block device.
 *
 * Reference: Virtual I/O Device (VIRTIO) 1.2, "Block Device".
 * A kick arms a timer; when it expires all waiting requests are done, so the guest sees a fixed latency and
 * there is never a request in flight that a snapshot would have to hold. Tests: tests/unit/test_dev_virtio.c
 */
#include "devices/virtio_blk.h"

#include <string.h>

#define SECTOR 512u

#define F_SEG_MAX  BIT(2)
#define F_RO       BIT(5)
#define F_BLK_SIZE BIT(6)
#define F_FLUSH    BIT(9)

#define T_IN     0u
#define T_OUT    1u
#define T_FLUSH  4u
#define T_GET_ID 8u

#define S_OK     0u
#define S_IOERR  1u
#define S_UNSUPP 2u

#define CHUNK     (64u << 10)
#define BATCH_MAX (64ull << 20) /* bytes moved before the guest runs again */

static bool blk_range_ok(const struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
    return bytes % SECTOR == 0 && bytes <= VIRTIO_BLK_REQUEST_MAX && sector <= b->disk->size / SECTOR &&
           bytes <= b->disk->size - sector * SECTOR;
}

static uint8_t blk_in(struct virtio_blk *b, uint64_t sector, uint64_t bytes, uint32_t *written)
{
    uint8_t buf[CHUNK];
    if (!blk_range_ok(b, sector, bytes))
        return S_IOERR;
    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        size_t n = (size_t)MIN(bytes - at, CHUNK);
        if (!b->disk->read || !b->disk->read(b->disk->owner, sector * SECTOR + at, buf, n))
            return S_IOERR;
        virtq_write(&b->chain, b->virtio.phys, at, buf, n);
        *written = (uint32_t)(at + n);
    }
    b->reads++;
    return S_OK;
}

static uint8_t blk_out(struct virtio_blk *b, uint64_t sector, uint64_t bytes)
{
    uint8_t buf[CHUNK];
    if (b->disk->read_only || !blk_range_ok(b, sector, bytes))
        return S_IOERR;
    for (uint64_t at = 0; at < bytes; at += CHUNK) {
        size_t n = (size_t)MIN(bytes - at, CHUNK);
        virtq_read(&b->chain, b->virtio.phys, 16 + at, buf, n);
        if (!b->disk->write || !b->disk->write(b->disk->owner, sector * SECTOR + at, buf, n))
            return S_IOERR;
    }
    b->writes++;
    return S_OK;
}

static uint8_t blk_flush(struct virtio_blk *b)
{
    b->flushes++;
    return !b->disk->flush || b->disk->flush(b->disk->owner) ? S_OK : S_IOERR;
}

static uint8_t blk_get_id(struct virtio_blk *b, uint64_t bytes, uint32_t *written)
{
    uint32_t n = (uint32_t)MIN(bytes, sizeof(b->serial));
    virtq_write(&b->chain, b->virtio.phys, 0, b->serial, n);
    *written = n;
    return S_OK;
}

/* Does the request in b->chain; false when it has no room for a header or a status. */
static bool blk_request(struct virtio_blk *b, uint64_t *moved)
{
    struct virtq_chain *c = &b->chain;
    uint8_t header[16], status;
    uint32_t written = 0;

    if (c->readable_bytes < sizeof(header) || c->writable_bytes < 1)
        return false;
    virtq_read(c, b->virtio.phys, 0, header, sizeof(header));
    uint64_t sector = load_le(header + 8, 8);
    uint64_t out = c->readable_bytes - sizeof(header), in = c->writable_bytes - 1;
    switch (load_le(header, 4)) {
    case T_IN:
        status = blk_in(b, sector, in, &written);
        *moved += MIN(in, VIRTIO_BLK_REQUEST_MAX);
        break;
    case T_OUT:
        status = blk_out(b, sector, out);
        *moved += MIN(out, VIRTIO_BLK_REQUEST_MAX);
        break;
    case T_FLUSH:
        status = blk_flush(b);
        break;
    case T_GET_ID:
        status = blk_get_id(b, in, &written);
        break;
    default:
        status = S_UNSUPP;
    }
    if (status == S_IOERR)
        b->errors++;
    virtq_write(c, b->virtio.phys, in, &status, 1); /* the last writable byte */
    /* Bytes counts what is valid from the start; the status lies behind the data only if all of it is. */
    virtq_push(&b->virtio.queues[0], b->virtio.phys, c->head, written == in ? written + 1 : written);
    return true;
}

static void blk_expire(void *owner)
{
    struct virtio_blk *b = owner;
    struct virtio_pci *v = &b->virtio;
    struct virtq *q = &v->queues[0];
    struct error e;
    uint64_t moved = 0;
    bool done = false;

    for (unsigned n = 0; virtio_running(v) && q->enabled; n++) {
        if (moved >= BATCH_MAX || n >= q->size) {
            clock_arm(b->clock, &b->timer, b->clock->now + VIRTIO_BLK_LATENCY);
            break;
        }
        enum virtq_result r = virtq_pop(q, v->phys, virtio_has(v, VIRTIO_F_INDIRECT_DESC), &b->chain, &e);
        if (r == VIRTQ_EMPTY) {
            if (virtio_has(v, VIRTIO_F_EVENT_IDX) && q->enabled)
                virtq_ask_kick(q, v->phys);
            break;
        }
        if (r == VIRTQ_BROKEN) {
            virtio_broken(v, 0, e.message);
            break;
        }
        if (!blk_request(b, &moved)) {
            virtio_broken(v, 0, "a request without a header or a status byte");
            break;
        }
        done = true;
    }
    if (done && virtio_running(v))
        virtio_signal(v, 0);
}

static void blk_notify(void *owner, unsigned queue)
{
    struct virtio_blk *b = owner;
    (void)queue;
    if (b->timer.deadline == CLOCK_NEVER)
        clock_arm(b->clock, &b->timer, b->clock->now + VIRTIO_BLK_LATENCY);
}

static void blk_class_reset(void *owner)
{
    struct virtio_blk *b = owner;
    clock_disarm(b->clock, &b->timer);
}

static const struct virtio_class blk_class = {
    .name = "virtio-blk",
    .id = 2,
    .pci_class = 0x010000,
    .queue_count = 1,
    .config_length = VIRTIO_BLK_CONFIG_LENGTH,
    .notify = blk_notify,
    .reset = blk_class_reset,
};

void virtio_blk_reset(struct virtio_blk *b)
{
    virtio_pci_reset(&b->virtio);
}

bool virtio_blk_init(struct virtio_blk *b, struct pci_bus *bus, uint8_t devfn, struct phys *phys,
                     struct clock *clock, const struct blockdev *disk, const char *serial, struct log *log,
                     struct error *e)
{
    memset(b, 0, sizeof(*b));
    b->clock = clock;
    b->disk = disk;
    if (disk->size % SECTOR)
        return error_set(e, "disk: size %llu is not a multiple of 512", (unsigned long long)disk->size);
    store_le(&b->config[0], disk->size / SECTOR, 8);
    store_le(&b->config[12], VIRTIO_BLK_SEG_MAX, 4);
    store_le(&b->config[20], SECTOR, 4);
    size_t length = serial ? strlen(serial) : 0;
    memcpy(b->serial, serial ? serial : "", MIN(length, sizeof(b->serial)));
    clock_add_timer(clock, &b->timer, "virtio-blk", blk_expire, b);
    return virtio_pci_init(&b->virtio, &blk_class, bus, devfn,
                           F_SEG_MAX | F_BLK_SIZE | F_FLUSH | (disk->read_only ? F_RO : 0), b->config, b,
                           phys, log, e);
}

static bool virtio_blk_after_load(void *s, struct error *e)
{
    struct virtio_blk *b = s;
    (void)e;
    device_timer_reload(b->clock, &b->timer);
    return true;
}

static const struct state_field virtio_blk_fields[] = {
    STATE_SUB(struct virtio_blk, virtio, virtio_pci_state),
    STATE(struct virtio_blk, reads),
    STATE(struct virtio_blk, writes),
    STATE(struct virtio_blk, flushes),
    STATE(struct virtio_blk, errors),
    STATE_SUB(struct virtio_blk, timer, timer_state),
    STATE_SKIP(struct virtio_blk, config, "made at creation"),
    STATE_SKIP(struct virtio_blk, serial, "made at creation"),
    STATE_SKIP(struct virtio_blk, clock, "wiring"),
    STATE_SKIP(struct virtio_blk, disk, "back end"),
    STATE_SKIP(struct virtio_blk, chain, "scratch, empty between timers"),
};
const struct state_desc virtio_blk_state =
    STATE_DESC("virtio_blk", struct virtio_blk, 1, virtio_blk_fields, virtio_blk_after_load);
