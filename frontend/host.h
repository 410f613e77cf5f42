/*
 * frontend/host.h -- the host side of devices: serial output and input, disk images.
 */
#ifndef FRONTEND_HOST_H
#define FRONTEND_HOST_H

#include "base/error.h"
#include "devices/backend.h"
#include "devices/uart16550.h"

/* COM1's other end: standard input and output, a file, or a connection to a Unix socket. */
struct host_serial {
    struct chardev chardev;
    int in, out;        /* file descriptors, -1 none */
    bool own;           /* they are ours to close */
    bool terminal;      /* standard input is a terminal in raw mode; Ctrl-A X ends */
    bool escape;        /* Ctrl-A was seen */
    bool quit;          /* the user asked to end */
    bool failed;        /* output failed once: said so */
    uint8_t saved[128]; /* terminal settings to restore */
};

/* `spec` as given to -serial. */
bool host_serial_open(struct host_serial *s, const char *spec, struct error *e);
void host_serial_close(struct host_serial *s);
/* Hands what has arrived to the UART; never blocks. */
void host_serial_poll(struct host_serial *s, struct uart *u);
/* Sleeps until input arrives or `ns` have passed (for idle guests on a terminal). */
void host_serial_wait(struct host_serial *s, uint64_t ns);

struct host_disk {
    struct blockdev blockdev;
    int fd;
    const char *path;
};
bool host_disk_open(struct host_disk *d, const char *path, bool read_only, struct error *e);
void host_disk_close(struct host_disk *d);

#endif
