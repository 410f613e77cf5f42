/*
 * devices/backend.h -- the host side of devices: where bytes and blocks come from and go to.
 *
 * Implemented by frontend/ (files, terminals, sockets) and by tests. A NULL function means "not there".
 */
#ifndef DEVICES_BACKEND_H
#define DEVICES_BACKEND_H

#include "base/types.h"

/* Output of a serial port. Input goes the other way: uart_receive(). */
struct chardev {
    void *owner;
    void (*write)(void *owner, const uint8_t *bytes, size_t n);
};

/* A disk. Offsets and lengths are checked against `size` by the device; false means an I/O error. */
struct blockdev {
    void *owner;
    uint64_t size;  /* bytes */
    bool read_only; /* writes are refused by the device */
    bool (*read)(void *owner, uint64_t offset, void *buf, size_t n);
    bool (*write)(void *owner, uint64_t offset, const void *buf, size_t n);
    bool (*flush)(void *owner);
};

#endif
