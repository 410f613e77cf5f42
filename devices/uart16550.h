/*
 * devices/uart16550.h -- 16550A serial port.
 */
#ifndef DEVICES_UART16550_H
#define DEVICES_UART16550_H

#include "devices/backend.h"
#include "devices/device.h"

#define UART_FIFO_SIZE 16u

struct uart {
    uint8_t ier; /* bits 0..3 */
    uint8_t fcr; /* bit 0 FIFOs on, bits 7..6 trigger level */
    uint8_t lcr;
    uint8_t mcr;        /* bits 0..4 */
    uint8_t lsr_errors; /* overrun, parity, framing, break: bits 1..4, cleared by a read of LSR */
    uint8_t msr_delta;  /* bits 0..3, cleared by a read of MSR */
    uint8_t msr_lines;  /* bits 4..7 as the other side drives them */
    uint8_t scr;
    uint16_t divisor;
    bool thre_pending;    /* the "transmitter empty" interrupt waits */
    bool timeout_pending; /* bytes wait below the trigger level for four character times */
    bool line;
    uint8_t rx[UART_FIFO_SIZE];
    uint8_t rx_head; /* index of the oldest byte */
    uint8_t rx_count;
    uint64_t tx_bytes, rx_bytes; /* totals, for --stats */
    struct timer timeout;
    struct clock *clock;
    struct irq_line irq;
    const struct chardev *out;
    /* Told when room appears in the receiver, so that a backend can send more. May be NULL. */
    void (*drained)(void *owner);
    void *drained_owner;
};

/* `out` may be NULL or have no write function: output is dropped. */
bool uart_init(struct uart *u, struct bus *bus, uint16_t base, struct clock *clock, struct irq_line irq,
               const struct chardev *out, struct error *e);
void uart_reset(struct uart *u);
/* How many bytes uart_receive() takes now without an overrun. */
size_t uart_can_receive(const struct uart *u);
/* Bytes arrive from outside; what does not fit is lost and shows as an overrun, as on the wire. */
void uart_receive(struct uart *u, const uint8_t *bytes, size_t n);
/* The other side sends a break. */
void uart_break(struct uart *u);
extern const struct state_desc uart_state;

#endif
