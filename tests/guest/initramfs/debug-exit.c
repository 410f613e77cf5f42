/*
 * initramfs/debug-exit.c -- end the machine: write a value to isa-debug-exit.
 *
 * Usage: debug-exit VALUE [PORT]     (C notation; port 0xf4 by default)
 *        debug-exit drain            only wait until the console is written out
 *
 * A write to the port of QEMU's isa-debug-exit ends the virtual machine and
 * hands the value to whoever started it. Without such a port it does nothing
 * and debug-exit returns 1.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <termios.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    unsigned long value, port = 0xf4;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: debug-exit VALUE [PORT] | drain\n");
        return 2;
    }

    /* The serial port takes its time, and the machine ends at once. */
    tcdrain(STDOUT_FILENO);
    if (!strcmp(argv[1], "drain"))
        return 0;

    value = strtoul(argv[1], NULL, 0);
    if (argc == 3)
        port = strtoul(argv[2], NULL, 0);
    if (ioperm(port, 1, 1) != 0) {
        fprintf(stderr, "debug-exit: port %#lx: %s\n", port, strerror(errno));
        return 1;
    }
    outb((unsigned char)value, (unsigned short)port);
    usleep(100000);
    fprintf(stderr, "debug-exit: nothing at port %#lx\n", port);
    return 1;
}
