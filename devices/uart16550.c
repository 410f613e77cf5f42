/*
 * devices/uart16550.c -- 16550A serial port.
 *
 * Reference: National Semiconductor PC16550D data sheet.
 * The transmitter takes no time: a byte written is out at once and the holding register is empty again, so a
 * polling guest spends no instructions in waiting. Interrupts come in the data sheet's order and are cleared
 * by the accesses it names. The receiver's time-out is four character times at the programmed divisor. Tests:
 * tests/unit/test_dev_uart16550.c
 */
#include "devices/uart16550.h"

#include <string.h>

#define UART_HZ 1843200ull /* 16 clocks a bit at divisor 1 */

#define IER_RX         0x01
#define IER_THRE       0x02
#define IER_LINE       0x04
#define IER_MODEM      0x08
#define IIR_NONE       0x01
#define IIR_MODEM      0x00
#define IIR_THRE       0x02
#define IIR_RX         0x04
#define IIR_LINE       0x06
#define IIR_TIMEOUT    0x0c
#define IIR_FIFO       0xc0
#define FCR_ENABLE     0x01
#define FCR_RX         0x02
#define LCR_DLAB       0x80
#define MCR_DTR        0x01
#define MCR_RTS        0x02
#define MCR_OUT1       0x04
#define MCR_OUT2       0x08
#define MCR_LOOP       0x10
#define LSR_DR         0x01
#define LSR_OE         0x02
#define LSR_BI         0x10
#define LSR_THRE       0x20
#define LSR_TEMT       0x40
#define LSR_FIFO_ERROR 0x80
#define MSR_CTS        0x10
#define MSR_DSR        0x20
#define MSR_RI         0x40
#define MSR_DCD        0x80

static size_t uart_capacity(const struct uart *u)
{
    return u->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1;
}

static unsigned uart_trigger(const struct uart *u)
{
    static const uint8_t levels[4] = {1, 4, 8, 14};
    return u->fcr & FCR_ENABLE ? levels[u->fcr >> 6] : 1;
}

/* -- Interrupts ---------------------------------------------------------------------------------------- */

static uint8_t uart_iir(const struct uart *u)
{
    if ((u->ier & IER_LINE) && u->lsr_errors)
        return IIR_LINE;
    if ((u->ier & IER_RX) && u->rx_count >= uart_trigger(u))
        return IIR_RX;
    if ((u->ier & IER_RX) && u->timeout_pending)
        return IIR_TIMEOUT;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    if ((u->ier & IER_MODEM) && u->msr_delta)
        return IIR_MODEM;
    return IIR_NONE;
}

static void uart_update(struct uart *u)
{
    /* On a PC, OUT2 gates the interrupt line; in loopback OUT2 is disconnected from the pin. */
    bool level = uart_iir(u) != IIR_NONE && (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP);
    if (level == u->line)
        return;
    u->line = level;
    irq_set(&u->irq, level);
}

/* Bits of one character: start, data, parity, stop. */
static unsigned uart_character_bits(const struct uart *u)
{
    return 1 + 5 + (u->lcr & 3) + (u->lcr >> 3 & 1) + 1 + (u->lcr >> 2 & 1);
}

static void uart_arm_timeout(struct uart *u)
{
    u->timeout_pending = false;
    if (!(u->fcr & FCR_ENABLE) || !u->rx_count) {
        clock_disarm(u->clock, &u->timeout);
        return;
    }
    uint64_t clocks = 16ull * (u->divisor ? u->divisor : 65536u) * 4 * uart_character_bits(u);
    clock_arm(u->clock, &u->timeout, u->clock->now + clock_scale(clocks, CLOCK_HZ, UART_HZ));
}

static void uart_expire(void *owner)
{
    struct uart *u = owner;
    u->timeout_pending = u->rx_count != 0;
    uart_update(u);
}

/* -- Receiver ------------------------------------------------------------------------------------------ */

static void rx_push(struct uart *u, uint8_t byte)
{
    if (u->rx_count >= uart_capacity(u)) {
        u->lsr_errors |= LSR_OE;
        if (!(u->fcr & FCR_ENABLE)) /* without FIFOs the new character takes the old one's place */
            u->rx[u->rx_head] = byte;
        return;
    }
    u->rx[(u->rx_head + u->rx_count++) % UART_FIFO_SIZE] = byte;
}

static uint8_t rx_pop(struct uart *u)
{
    if (!u->rx_count)
        return 0;
    uint8_t byte = u->rx[u->rx_head];
    u->rx_head = (u->rx_head + 1) % UART_FIFO_SIZE;
    u->rx_count--;
    return byte;
}

size_t uart_can_receive(const struct uart *u)
{
    return u->mcr & MCR_LOOP ? 0 : uart_capacity(u) - MIN(uart_capacity(u), u->rx_count);
}

void uart_receive(struct uart *u, const uint8_t *bytes, size_t n)
{
    if (u->mcr & MCR_LOOP)
        return; /* the pin is disconnected */
    for (size_t i = 0; i < n; i++)
        rx_push(u, bytes[i]);
    u->rx_bytes += n;
    uart_arm_timeout(u);
    uart_update(u);
}

void uart_break(struct uart *u)
{
    if (u->mcr & MCR_LOOP)
        return;
    rx_push(u, 0);
    u->lsr_errors |= LSR_BI;
    uart_arm_timeout(u);
    uart_update(u);
}

static void uart_drain(struct uart *u)
{
    if (u->drained)
        u->drained(u->drained_owner);
}

/* -- Modem lines --------------------------------------------------------------------------------------- */

static uint8_t uart_msr_lines(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return u->msr_lines;
    return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static void uart_write_mcr(struct uart *u, uint8_t value)
{
    uint8_t before = uart_msr_lines(u);
    u->mcr = value & 0x1f;
    uint8_t now = uart_msr_lines(u), changed = before ^ now;
    /* RI counts only as a trailing edge. */
    u->msr_delta |= (changed & (MSR_CTS | MSR_DSR | MSR_DCD)) >> 4;
    u->msr_delta |= (changed & before & MSR_RI) >> 4;
}

/* -- Registers ----------------------------------------------------------------------------------------- */

static void uart_transmit(struct uart *u, uint8_t byte)
{
    if (u->mcr & MCR_LOOP) {
        static const uint8_t data_mask[4] = {0x1f, 0x3f, 0x7f, 0xff};
        rx_push(u, byte & data_mask[u->lcr & 3]);
        uart_arm_timeout(u);
    } else {
        u->tx_bytes++;
        if (u->out && u->out->write)
            u->out->write(u->out->owner, &byte, 1);
    }
    u->thre_pending = true; /* the byte is out already */
}

static void uart_write_fcr(struct uart *u, uint8_t value)
{
    /* Changing the enable bit clears both FIFOs (the transmitter's is always empty here). */
    if ((value ^ u->fcr) & FCR_ENABLE)
        value |= FCR_RX;
    if (value & FCR_RX)
        u->rx_count = u->rx_head = 0;
    u->fcr = value & FCR_ENABLE ? value & (0xc0 | FCR_ENABLE) : 0;
    uart_arm_timeout(u);
    if (value & FCR_RX)
        uart_drain(u);
}

static uint8_t uart_lsr(const struct uart *u)
{
    uint8_t v = LSR_THRE | LSR_TEMT | u->lsr_errors | (u->rx_count ? LSR_DR : 0);
    if ((u->fcr & FCR_ENABLE) && (u->lsr_errors & ~LSR_OE))
        v |= LSR_FIFO_ERROR;
    return v;
}

static uint64_t uart_read(void *owner, uint64_t offset, unsigned size)
{
    struct uart *u = owner;
    uint8_t v = 0;
    (void)size;

    switch (offset) {
    case 0:
        if (u->lcr & LCR_DLAB)
            return u->divisor & 0xff;
        v = rx_pop(u);
        uart_arm_timeout(u);
        uart_drain(u);
        break;
    case 1:
        return u->lcr & LCR_DLAB ? u->divisor >> 8 : u->ier;
    case 2:
        v = uart_iir(u);
        if (v == IIR_THRE) /* reading IIR clears this one, if it is the source shown */
            u->thre_pending = false;
        v |= u->fcr & FCR_ENABLE ? IIR_FIFO : 0;
        break;
    case 3:
        return u->lcr;
    case 4:
        return u->mcr;
    case 5:
        v = uart_lsr(u);
        u->lsr_errors = 0;
        break;
    case 6:
        v = uart_msr_lines(u) | u->msr_delta;
        u->msr_delta = 0;
        break;
    case 7:
        return u->scr;
    }
    uart_update(u);
    return v;
}

static void uart_write(void *owner, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *u = owner;
    uint8_t v = (uint8_t)value;
    (void)size;

    switch (offset) {
    case 0:
        if (u->lcr & LCR_DLAB)
            u->divisor = (u->divisor & 0xff00) | v;
        else
            uart_transmit(u, v);
        break;
    case 1:
        if (u->lcr & LCR_DLAB) {
            u->divisor = (uint16_t)((u->divisor & 0xff) | v << 8);
            break;
        }
        /* Enabling the transmitter interrupt while the holding register is empty raises it at once. */
        if ((v & ~u->ier) & IER_THRE)
            u->thre_pending = true;
        u->ier = v & 0x0f;
        break;
    case 2:
        uart_write_fcr(u, v);
        break;
    case 3:
        u->lcr = v;
        break;
    case 4:
        uart_write_mcr(u, v);
        break;
    case 7:
        u->scr = v;
        break;
    }
    uart_update(u);
}

void uart_reset(struct uart *u)
{
    u->ier = u->fcr = u->lcr = u->mcr = u->lsr_errors = u->msr_delta = u->scr = 0;
    u->msr_lines = MSR_CTS | MSR_DSR | MSR_DCD; /* somebody listens */
    u->divisor = 12;                            /* 9600 baud, as firmware leaves it */
    u->thre_pending = u->timeout_pending = false;
    u->rx_head = u->rx_count = 0;
    memset(u->rx, 0, sizeof(u->rx));
    clock_disarm(u->clock, &u->timeout);
    uart_update(u);
}

bool uart_init(struct uart *u, struct bus *bus, uint16_t base, struct clock *clock, struct irq_line irq,
               const struct chardev *out, struct error *e)
{
    static const struct bus_ops ops = {uart_read, uart_write, 1};
    memset(u, 0, sizeof(*u));
    u->clock = clock;
    u->irq = irq;
    u->out = out;
    clock_add_timer(clock, &u->timeout, "uart time-out", uart_expire, u);
    uart_reset(u);
    return device_add_pio(bus, base, 8, &ops, u, "uart16550", e);
}

static bool uart_after_load(void *s, struct error *e)
{
    struct uart *u = s;
    if (u->rx_head >= UART_FIFO_SIZE || u->rx_count > UART_FIFO_SIZE)
        return error_set(e, "uart: impossible receiver FIFO (head %u, count %u)", u->rx_head, u->rx_count);
    device_timer_reload(u->clock, &u->timeout);
    return true;
}

static const struct state_field uart_fields[] = {
    STATE(struct uart, ier),
    STATE(struct uart, fcr),
    STATE(struct uart, lcr),
    STATE(struct uart, mcr),
    STATE(struct uart, lsr_errors),
    STATE(struct uart, msr_delta),
    STATE(struct uart, msr_lines),
    STATE(struct uart, scr),
    STATE(struct uart, divisor),
    STATE(struct uart, thre_pending),
    STATE(struct uart, timeout_pending),
    STATE(struct uart, line),
    STATE(struct uart, rx),
    STATE(struct uart, rx_head),
    STATE(struct uart, rx_count),
    STATE(struct uart, tx_bytes),
    STATE(struct uart, rx_bytes),
    STATE_SUB(struct uart, timeout, timer_state),
    STATE_SKIP(struct uart, clock, "wiring"),
    STATE_SKIP(struct uart, irq, "wiring"),
    STATE_SKIP(struct uart, out, "back end"),
    STATE_SKIP(struct uart, drained, "back end"),
    STATE_SKIP(struct uart, drained_owner, "back end"),
};
const struct state_desc uart_state = STATE_DESC("uart", struct uart, 1, uart_fields, uart_after_load);
